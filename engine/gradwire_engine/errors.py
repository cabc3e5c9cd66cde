"""The one exception of the engine: a reason code, a text for people, and the values at fault."""

from __future__ import annotations


class EngineError(Exception):
    """An operation that the engine refuses.

    Attributes:
        reason: code in UPPER_SNAKE, the same as in the wire contract (`SHAPE_MISMATCH`).
        message: what was wrong with which values, and what to do.
        argument: name of the schema argument at fault, if it was one.
        metadata: every dynamic part of the message, as text.
    """

    def __init__(
        self, reason: str, message: str, *, argument: str | None = None, **metadata: object
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.argument = argument
        self.metadata = {key: str(value) for key, value in metadata.items()}
