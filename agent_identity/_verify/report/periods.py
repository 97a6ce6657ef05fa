"""Judges a period of a ledger: the number of records in it, or the proof that nothing was recorded.

Missing records prove nothing by themselves. A stream proves its silence from its first record to its last sign of
life, because its records are linked and counted; a live process repeats its head in the log each hour, with the time.
Times without a live process are reported as such. All times are those of the clocks of the processes.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal, NamedTuple, TypeAlias, final

PeriodState: TypeAlias = Literal["recorded", "silent", "not_running", "cannot_tell"]
"""The evidence for a period: records; a live process at all times and no records; no records and times without a
live process; or nothing."""

SILENCE_NS: Final = 3_660 * 1_000_000_000
"""A live process repeats its head each hour; a minute later it is overdue."""

_NS: Final = 1_000_000_000


@final
@dataclass(frozen=True, slots=True)
class Period:
    """The evidence of a ledger for a period.

    Attributes:
        start_ns: Its first nanosecond since the Unix epoch.
        stop_ns: The first one after it.
        state: The kind of evidence.
        records: Number of sealed records that begin in it.
        signs: Number of heads without news that processes repeated in it.
        why: The reason in words.
    """

    start_ns: int
    stop_ns: int
    state: PeriodState
    records: int
    signs: int
    why: str

    def to_json(self) -> dict[str, object]:
        """Return the period in plain values; times are decimal strings, which no JSON reader rounds."""
        return {
            "start_ns": str(self.start_ns),
            "stop_ns": str(self.stop_ns),
            "state": self.state,
            "records": self.records,
            "signs": self.signs,
            "why": self.why,
        }


class Life(NamedTuple):
    """The proved signs of life of the process of one stream.

    Attributes:
        first_ns: The time of its earliest record.
        last_ns: The time of its latest record.
        signs_ns: The times at which it repeated its head.
        ended: Whether it states its end.
        within: Number of its records that begin in the period.
    """

    first_ns: int
    last_ns: int
    signs_ns: Sequence[int]
    ended: bool
    within: int

    @property
    def seen_ns(self) -> int:
        """Time of its last sign of life."""
        return max(self.last_ns, *self.signs_ns) if self.signs_ns else self.last_ns


def unknown_period(start_ns: int, stop_ns: int, why: str) -> Period:
    """Return a period without evidence.

    Args:
        start_ns: The first nanosecond of the period.
        stop_ns: The first one after it.
        why: The reason in words.
    """
    return Period(start_ns, stop_ns, "cannot_tell", 0, 0, why)


def judge_period(start_ns: int, stop_ns: int, lives: Iterable[Life], doubt: str | None) -> Period:
    """Judge a period by the streams of a verified ledger.

    Args:
        start_ns: The first nanosecond of the period.
        stop_ns: The first one after it.
        lives: The signs of life of the streams.
        doubt: The reason why records may be missing, or ``None`` if the ledger is complete as of its checkpoint.
    """
    known = list(lives)
    records = sum(life.within for life in known)
    signs = sum(start_ns <= sign < stop_ns for life in known for sign in life.signs_ns)
    if records:
        return Period(start_ns, stop_ns, "recorded", records, signs, doubt or "each is proved by the checkpoint")
    doubt = doubt or _doubt(start_ns, stop_ns, known)
    if doubt is not None:
        return Period(start_ns, stop_ns, "cannot_tell", 0, signs, doubt)
    gap = _gap(start_ns, stop_ns, known)
    if gap is not None:
        why = f"nothing was recorded; from {_moment(gap)} on, no process of the ledger was alive for a time"
        return Period(start_ns, stop_ns, "not_running", 0, signs, why)
    why = "nothing was recorded, and all the time a process of the ledger was alive, as what it signed later shows"
    return Period(start_ns, stop_ns, "silent", 0, signs, why)


def _doubt(start_ns: int, stop_ns: int, lives: Sequence[Life]) -> str | None:
    """Return the reason why records of the period may be missing from the streams."""
    if not lives or start_ns < min(life.first_ns for life in lives):
        return "the ledger begins later"
    if stop_ns > (last := max(life.seen_ns for life in lives)):
        return f"the last sign of life that a checkpoint covers is of {_moment(last)}"
    for life in lives:
        if not life.ended and life.seen_ns < stop_ns and start_ns <= life.seen_ns + SILENCE_NS:
            return f"a process gave its last sign of life at {_moment(life.seen_ns)} and did not state its end"
    return None


def _gap(start_ns: int, stop_ns: int, lives: Sequence[Life]) -> int | None:
    """Return the beginning of a time without a live process; ``None`` if one was always alive."""
    reached = start_ns
    for first, last in sorted((life.first_ns, life.seen_ns) for life in lives):
        if first <= reached:
            reached = max(reached, last)
    return reached if reached < stop_ns else None


def _moment(ns: int) -> str:
    return datetime.fromtimestamp(ns // _NS, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
