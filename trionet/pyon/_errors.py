"""The one error of decoding."""


class PyonDecodeError(ValueError):
    """The text is not PYON, or describes a value that cannot be built.

    Attributes:
        reason: What is wrong, without the place.
        where: The place: ``line 1 column 5``, a path into the document such as ``$["rows"][3]``, or both
            unknown ("").
    """

    def __init__(self, reason: str, where: str = "") -> None:
        super().__init__(reason, where)
        self.reason = reason
        self.where = where

    def __str__(self) -> str:
        return f"{self.reason} (at {self.where})" if self.where else self.reason
