"""What back ends show of a span: times, durations, statuses and hashed ids, in whichever spelling."""

import math
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_identity._spans.displayed_values import is_hashed, is_internal, same_duration, same_time, status_of

SIGNED = 1_764_000_123_456_789_012  # 2025-11-24T16:02:03.456789012Z
ZONED = {
    "2025-11-24T16:02:03.456789012Z": True,
    "2025-11-24 16:02:03.456789012 UTC": True,
    "2025-11-24T16:02:03.456789Z": True,
    "2025-11-24T16:02:03,456Z": True,
    "2025-11-24T16:02:03Z": True,
    "2025-11-24T16:02:03.4567890123456Z": True,
    "2025-11-24T17:02:03.456789+01:00": True,
    "2025-11-24T12:32:03.456789-0330": True,
    "2025-11-24 16:02:03.456789+00": True,
    "2025-11-24 16:02:03.456789 +0000 UTC": True,
    "2025-11-24 17:02:03.456789+00": False,
    "2025-11-24T17:02:03.456789Z": False,
    "2025-11-24T16:02:03.456799Z": False,
    "2025-11-24T16:02:05Z": False,
    "2001-11-24T16:02:03Z": False,
    "2025-11-24 17:02:03.456789": True,  # A local time.
    "2025-11-24 02:17:03.456789": True,
    "2025-11-24 17:03:03.456789": False,
    "2025-11-23 16:02:03.456789": False,
    "2001-11-24 16:02:03": False,
}
NUMBERS = {
    SIGNED: True,
    SIGNED + 900: True,
    SIGNED + 1_300: False,
    SIGNED // 1_000: True,
    SIGNED // 1_000 + 2: False,
    SIGNED // 1_000_000: True,
    SIGNED // 10**9: True,
    SIGNED // 10**9 + 2: False,
    SIGNED // 10**6 * 10**6: True,
    0: False,
}


@pytest.mark.parametrize("shown", ZONED)
def test_dates_are_read_in_their_zone_and_precision(shown: str) -> None:
    """Fewer digits are less precise, and a time without a zone may be a local one, no other day."""
    assert same_time(shown, SIGNED) is ZONED[shown]


@pytest.mark.parametrize("shown", NUMBERS)
def test_numbers_are_read_in_the_unit_of_their_size(shown: int) -> None:
    """Seconds, milliseconds, microseconds and nanoseconds are told apart, as numbers and as text."""
    assert same_time(shown, SIGNED) is NUMBERS[shown]
    assert same_time(str(shown), SIGNED) is NUMBERS[shown]


@given(st.integers(10**18, 2 * 10**18), st.sampled_from([1, 10**3, 10**6]))
def test_floating_point_numbers_are_no_other_times(signed: int, unit: int) -> None:
    """Nanoseconds, or seconds with a fraction, in the precision of a float are the time that they were made of."""
    kept = signed // unit * unit
    assert same_time(float(kept), signed)
    assert same_time(kept / 10**9, signed)


@pytest.mark.parametrize(
    "shown", ["yesterday", "2025-13-41T16:02:03Z", "9" * 50, "-5", -5, math.inf, math.nan, -1.5, True, None, [1], {}]
)
def test_what_is_no_time_is_not_compared(shown: object) -> None:
    """Nothing is said about what cannot be read."""
    assert same_time(shown, SIGNED) is None
    assert same_duration(shown, 5) is None


def test_durations_are_compared_in_any_unit() -> None:
    """None says in which it is."""
    for shown, same in ((1_500_000, True), (1_500, True), (1.5, True), ("1.5", True), (7_000, False), (86_400, False)):
        assert same_duration(shown, 1_500_000) is same
    assert same_duration(2, 2 * 10**9)
    for shown, same in (
        ("1.5ms", True),
        ("1500 \u00b5s", True),
        ("0.0015s", True),
        ("1.5s", False),
        ("ms", None),
        ("xs", None),
        ({"seconds": 0, "nanos": 1_500_000}, True),
        ({"us": 1_500}, True),
        ({"us": 1}, False),
        ({"us": "x"}, None),
        ({"nanos": 1_500_000}, None),
        ({"seconds": 1, "x": 1}, None),
    ):
        assert same_duration(shown, 1_500_000) is same, shown


def test_kinds_are_told_apart() -> None:
    """Internal ones and those of stores from the others; what is no kind cannot be read."""
    assert [is_internal(shown) for shown in (0, "1", "SpanKind.INTERNAL", "Tool", " internal ")] == [True] * 5
    assert [is_internal(shown) for shown in (2, "5", "SPAN_KIND_CLIENT", "Server")] == [False] * 4
    assert [is_internal(shown) for shown in (True, None, 1.0, {}, "", "approval", 9)] == [None] * 7


def test_statuses_are_told_apart() -> None:
    """By name or number; statuses of HTTP and truth values are none."""
    assert [status_of(shown) for shown in ("OK", "STATUS_CODE_UNSET", 2, "Error", "success")] == [
        "ok",
        "unset",
        "error",
        "error",
        "ok",
    ]
    assert [status_of(shown) for shown in (200, True, None, "", ["OK"], "weird")] == [None] * 6


def test_hashed_ids_are_uuids_of_version_5() -> None:
    """No other version, and nothing shorter, is a hash of an id."""
    hashed = uuid.uuid5(uuid.NAMESPACE_URL, "x")
    assert all(map(is_hashed, (str(hashed), hashed.hex, str(hashed).upper(), f" {hashed} ")))
    assert not any(map(is_hashed, (str(uuid.uuid4()), "00f067aa0ba902b7", hashed.hex + "0", 5, None)))
