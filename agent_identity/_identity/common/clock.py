"""Clocks of the library: a parameter, so that tests and replays control the time."""

import time
from typing import Protocol, final


class Clock(Protocol):
    """A source of time. Implementations must be safe to call from any thread."""

    def wall_ns(self) -> int:
        """Return nanoseconds since the Unix epoch; may jump forwards and back."""
        ...

    def monotonic_ns(self) -> int:
        """Return nanoseconds since an arbitrary start; never goes back inside the process."""
        ...


@final
class SystemClock:
    """The clock of the operating system."""

    __slots__ = ()

    def wall_ns(self) -> int:
        """Return nanoseconds since the Unix epoch."""
        return time.time_ns()

    def monotonic_ns(self) -> int:
        """Return nanoseconds of the monotonic clock."""
        return time.monotonic_ns()
