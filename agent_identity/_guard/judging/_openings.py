"""The fault that keeps tasks from opening, for ``Enforcer.degraded``."""

from typing import Final, final

from agent_identity._identity.common.clock import Clock

__all__ = ["Openings"]

_TOLD_NS: Final = 60_000_000_000


@final
class Openings:
    """The openings of tasks in this process."""

    __slots__ = ("_failed",)

    def __init__(self) -> None:
        self._failed: tuple[str, int | None] | None = None

    def fail(self, problem: str, clock: Clock) -> None:
        """Note that a task could not be opened, unless it was refused to its caller.

        Args:
            problem: The reason.
            clock: Source of time.
        """
        self._failed = problem, _now(clock)

    def succeed(self) -> None:
        """Note that a task was opened."""
        self._failed = None

    def fault(self, clock: Clock) -> str | None:
        """Return the problem of the last opening for a minute: a process out of service would not open another one."""
        failed = self._failed  # Another thread may open a task meanwhile.
        if failed is None:
            return None
        (problem, at_ns), now = failed, _now(clock)
        return None if at_ns is not None and now is not None and now - at_ns >= _TOLD_NS else problem


def _now(clock: Clock) -> int | None:
    """Return the wall time; ``None`` if the clock, which is code of the user, fails."""
    try:
        return clock.wall_ns()
    except Exception:  # noqa: BLE001 - The fault is told nevertheless.
        return None
