"""Time that the guard adds to a call, measured only while someone observes it."""

from typing import Final, final

from agent_identity._identity.common.clock import Clock


@final
class Stopwatch:
    """Sums up the time in which the guard works on one call; it stands while the body runs or a person decides.

    It starts when it is made. A clock that fails costs the measurement and nothing else.

    Args:
        clock: Its monotonic time counts; without one it never runs.

    Attributes:
        total_ns: The nanoseconds until the last stop; ``None`` if the clock failed, or without one.
    """

    __slots__ = ("_clock", "_since_ns", "total_ns")

    def __init__(self, clock: Clock | None) -> None:
        self._clock = clock
        self.total_ns: int | None = None if clock is None else 0
        self._since_ns: int | None = None
        self.start()

    def start(self) -> None:
        """Start, unless it runs."""
        if self._clock is not None and self._since_ns is None:
            self._since_ns = self._now(self._clock)

    def stop(self) -> None:
        """Stop, if it runs."""
        clock, since, total = self._clock, self._since_ns, self.total_ns
        if clock is None or since is None or total is None:
            return
        now = self._now(clock)
        self._since_ns, self.total_ns = None, None if now is None else total + max(0, now - since)

    def _now(self, clock: Clock) -> int | None:
        try:
            return clock.monotonic_ns()
        except Exception:  # noqa: BLE001 - A clock is code of others, and telemetry fails open.
            self.total_ns = None
            return None


NO_WATCH: Final = Stopwatch(None)
"""The watch of a call that no one observes."""
