"""Time that the guard adds to a call, measured only while someone observes it."""

from typing import final

from agent_identity._identity.common.clock import Clock


@final
class Stopwatch:
    """Sums up the time in which the guard works on one call; it stands while the body runs or a person decides.

    It starts when it is made. A clock that fails costs the measurement and nothing else.

    Args:
        clock: Its monotonic time counts.

    Attributes:
        total_ns: The nanoseconds until the last stop; ``None`` if the clock failed.
    """

    __slots__ = ("_clock", "_since_ns", "total_ns")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.total_ns: int | None = 0
        self._since_ns: int | None = None
        self.start()

    def start(self) -> None:
        """Start, unless it runs."""
        if self._since_ns is None:
            self._since_ns = self._now()

    def stop(self) -> None:
        """Stop, if it runs."""
        since, total = self._since_ns, self.total_ns
        if since is None or total is None:
            return
        now = self._now()
        self._since_ns, self.total_ns = None, None if now is None else total + max(0, now - since)

    def _now(self) -> int | None:
        try:
            return self._clock.monotonic_ns()
        except Exception:  # noqa: BLE001 - A clock is code of others, and telemetry fails open.
            self.total_ns = None
            return None
