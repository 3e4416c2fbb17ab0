"""What the training room refuses."""


class TrainError(ValueError):
    """Refuse a setting, a checkpoint or a run: `<where>: <what must hold>, got <value>; <cure>`."""


def shown(value: object) -> str:
    """Show a value in a message without flooding it."""
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
