"""Which error the recipes room raises for people."""


class RecipeError(ValueError):
    """Say what a person must change: `<where>: <what must hold>, got <value>; <cure>`."""
