"""What the training room refuses."""


class TrainError(ValueError):
    """Refuse a setting, a checkpoint or a run: `<where>: <what must hold>, got <value>; <cure>`."""
