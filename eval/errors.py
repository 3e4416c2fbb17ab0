"""What the evaluation room refuses."""


class EvalError(ValueError):
    """Refuse a setting, a document or a comparison: `<where>: <what must hold>, got <value>; <cure>`."""
