"""Which error does a person see when documents, mixture or packs are wrong?"""


class DataError(ValueError):
    """A bad corpus, mixture or store, said as `<where>: <what must hold>, got <value>; <cure>`."""

    def __init__(self, message: str) -> None:
        super().__init__(message.encode("utf-8", "backslashreplace").decode())  # names need not be UTF-8
