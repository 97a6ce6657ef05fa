"""The clock of the system."""

import time

from agent_identity.identity import Clock, SystemClock


def test_the_system_clock_tells_the_time_of_the_system() -> None:
    """Both readings lie between two readings of the standard library."""
    clock: Clock = SystemClock()
    wall, monotonic = time.time_ns(), time.monotonic_ns()
    readings = clock.wall_ns(), clock.monotonic_ns()
    assert wall <= readings[0] <= time.time_ns()
    assert monotonic <= readings[1] <= time.monotonic_ns()
