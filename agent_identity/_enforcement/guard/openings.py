"""The fault that keeps tasks from opening, for a probe."""

from typing import final

__all__ = ["Openings"]


@final
class Openings:
    """The openings of tasks in this process.

    Attributes:
        fault: The problem of the last one, unless it was refused to its caller, until one succeeds.
    """

    __slots__ = ("fault",)

    def __init__(self) -> None:
        self.fault: str | None = None
