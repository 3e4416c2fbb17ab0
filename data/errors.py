"""Which error does a person see when documents, mixture or packs are wrong?"""


class DataError(ValueError):
    """A bad corpus, mixture or store, said as `<where>: <what must hold>, got <value>; <cure>`."""
