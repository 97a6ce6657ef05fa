"""The fault that keeps tasks from opening, for ``Enforcer.degraded``."""

from typing import final

__all__ = ["Openings"]


@final
class Openings:
    """The openings of tasks in this process.

    Attributes:
        fault: The problem of the enforcer that made the last opening fail; ``None`` once one succeeds.
    """

    __slots__ = ("fault",)

    def __init__(self) -> None:
        self.fault: str | None = None
