"""Lengths of time as reports show them."""

import pytest

from agent_identity._verify.report.plurals import elapsed

MINUTE = 60
HOUR = 60 * MINUTE
DAY = 24 * HOUR


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0 s"),
        (0.9, "0 s"),
        (59, "59 s"),
        (MINUTE, "1 min 0 s"),
        (HOUR - 1, "59 min 59 s"),
        (4 * HOUR + 27 * MINUTE + 59, "4 h 27 min"),
        (DAY - 1, "23 h 59 min"),
        (20 * DAY + 5 * HOUR + 59 * MINUTE, "20 d 5 h"),
        (2_000 * DAY, "2,000 d 0 h"),
    ],
)
def test_a_length_has_its_two_largest_units(seconds: float, shown: str) -> None:
    """Smaller units are cut off, never rounded up."""
    assert elapsed(int(seconds * 10**9)) == shown
