"""Deterministic clock and ids for tests."""

import threading
from typing import Final, final

from agent_identity._common.typed_calls import typed_calls
from agent_identity._identity.common.ids import id_of

__all__ = ["FixedClock", "SequentialIds"]

_START_NS: Final = 1_764_000_000_000_000_000


@typed_calls("__init__", "advance", "set_wall")
@final
class FixedClock:
    """A clock that moves only when the test moves it.

    Args:
        wall_ns: Nanoseconds since the Unix epoch at the start.
    """

    def __init__(self, wall_ns: int = _START_NS) -> None:
        self._wall = wall_ns
        self._monotonic = 0

    def wall_ns(self) -> int:
        """Return nanoseconds since the Unix epoch."""
        return self._wall

    def monotonic_ns(self) -> int:
        """Return nanoseconds since the clock was made."""
        return self._monotonic

    def advance(self, seconds: float) -> None:
        """Let time pass, on both clocks.

        Args:
            seconds: The time that passes; not negative.
        """
        if seconds < 0:
            raise ValueError("seconds is negative; only set_wall() goes back")
        self._wall += int(seconds * 1e9)
        self._monotonic += int(seconds * 1e9)

    def set_wall(self, wall_ns: int) -> None:
        """Set the wall clock alone, as an administrator or an attacker does; it may go back."""
        self._wall = wall_ns


@typed_calls("new")
@final
class SequentialIds:
    """Ids with a counter instead of random bits."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = 0

    def new(self, now_ns: int) -> str:
        """Return the next id."""
        with self._lock:
            self._count += 1
            return id_of(now_ns, self._count.to_bytes(8, "big"))
