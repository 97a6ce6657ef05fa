"""Counts events by hour, and finds the hours with many more than the same hour of earlier weeks."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final, TypeAlias, final

WEEKS: Final = 8
"""Earlier weeks that a baseline looks at."""

MIN_WEEKS: Final = 4
"""Earlier weeks that the evidence has to cover for an hour to be judged."""

BUSY: Final = f"more than three times the median of the same hour of the {WEEKS} weeks before, and than 10 above it"
"""The threshold, in words."""

_HOUR: Final = 3_600 * 1_000_000_000
_WEEK: Final = 7 * 24
_MAX_HOURS: Final = 500_000
_FACTOR: Final = 3
_ABOVE: Final = 10

RateKey: TypeAlias = tuple[str, ...]
"""What is counted, such as an agent, a tool and a measure."""


@final
@dataclass(frozen=True, slots=True)
class Burst:
    """An hour with many more events than the same hour of earlier weeks.

    Attributes:
        key: What was counted.
        at_ns: The beginning of the hour.
        count: The events in it.
        median: The lower median of the same hour in earlier weeks.
        weeks: The number of these weeks.
    """

    key: RateKey
    at_ns: int
    count: int
    median: int
    weeks: int


@final
class HourlyRates:
    """Counts events by hour, with bounded memory.

    Attributes:
        omitted: Events that had no room.
    """

    def __init__(self) -> None:
        self._hours: dict[RateKey, dict[int, int]] = {}
        self._size = self.omitted = 0
        self._first: int | None = None

    def add(self, key: RateKey, at_ns: int) -> None:
        """Count an event."""
        hour = at_ns // _HOUR
        if self._first is None or hour < self._first:
            self._first = hour
        hours = self._hours.get(key)
        if hours is None or hour not in hours:
            if self._size >= _MAX_HOURS:
                self.omitted += 1
                return
            self._size += 1
            hours = self._hours.setdefault(key, {})
        hours[hour] = hours.get(hour, 0) + 1

    def bursts(self) -> Iterator[Burst]:
        """Yield the hours above the threshold, by key and time; an hour without events counts 0 in a baseline."""
        for key in sorted(self._hours):
            hours = self._hours[key]
            for hour in sorted(hours):
                weeks = min(WEEKS, (hour - (self._first or 0)) // _WEEK)
                if weeks < MIN_WEEKS:
                    continue
                before = sorted(hours.get(hour - week * _WEEK, 0) for week in range(1, weeks + 1))
                median = before[(weeks - 1) // 2]
                if hours[hour] > max(_FACTOR * median, median + _ABOVE):
                    yield Burst(key, hour * _HOUR, hours[hour], median, weeks)


def hour_of_week(at_ns: int) -> str:
    """Return the hour of the week in UTC, such as ``Monday 14:00 UTC``."""
    return _hour_of_week(at_ns // _HOUR % _WEEK)


@lru_cache(_WEEK)
def _hour_of_week(hour: int) -> str:
    return datetime.fromtimestamp(hour * 3_600, UTC).strftime("%A %H:00 UTC")
