"""The fault that keeps tasks from opening, for ``Enforcer.degraded``."""

from typing import Final, final

from agent_identity._identity.common import Clock

__all__ = ["Openings"]

_TOLD_NS: Final = 60_000_000_000


@final
class Openings:
    """The openings of tasks in this process."""

    __slots__ = ("_failed",)

    def __init__(self) -> None:
        self._failed: tuple[str, int] | None = None

    def fail(self, problem: str, at_ns: int) -> None:
        """Note that a task could not be opened, unless it was refused to its caller.

        Args:
            problem: The reason.
            at_ns: The wall time.
        """
        self._failed = problem, at_ns

    def succeed(self) -> None:
        """Note that a task was opened."""
        self._failed = None

    def fault(self, clock: Clock) -> str | None:
        """Return the problem of the last opening for a minute: a process out of service would not open another one."""
        failed = self._failed  # Another thread may open a task meanwhile.
        if failed is None:
            return None
        problem, at_ns = failed
        try:
            is_over = clock.wall_ns() - at_ns >= _TOLD_NS
        except Exception:  # noqa: BLE001 - The clock is code of the user; the ledger tells of it.
            return problem
        return None if is_over else problem
