"""Rows of a timeline: equal entries after one another are one row, and a task that repeats an earlier one is a row."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias, final

from agent_identity._reports.answers.incident_collecting import Entry

_ODD: Final = frozenset({"denied", "error", "unknown", "cancelled", "rejected"})
_SHOWN: Final = 3
"""Times that tasks with a refusal or an error are shown in full, before they count as repeated."""

_Shape: TypeAlias = tuple[tuple[str, ...], ...]


@final
@dataclass(slots=True)
class TimelineRow:
    """A row.

    Attributes:
        first: The first entry.
        last_ns: The time of the last one.
        records: The records of all, in order.
        times: How many equal entries, or how many repeated tasks, it stands for.
        again: The first entry of the task that is repeated; ``None`` for entries.
        steps: Entries of each repeated task.
    """

    first: Entry
    last_ns: int
    records: list[str]
    times: int = 1
    again: Entry | None = None
    steps: int = 0


def timeline_rows(timeline: Sequence[Entry]) -> list[TimelineRow]:
    """Return the rows of a timeline, by time."""
    rows: list[TimelineRow] = []
    firsts: dict[_Shape, Entry] = {}
    seen: Counter[_Shape] = Counter()
    waiting: dict[_Shape, TimelineRow] = {}
    for unit in _units(timeline):
        shape = tuple(_facts(entry) for entry in unit)
        seen[shape] += 1
        odd = unit[0].kind == "revocation" or any(entry.outcome in _ODD for entry in unit)
        if seen[shape] <= (_SHOWN if odd else 1):
            firsts.setdefault(shape, unit[0])
            rows += [*waiting.values(), *_merged(unit)]
            waiting.clear()
            continue
        records, last_ns = [entry.record for entry in unit], unit[-1].at_ns
        row = waiting.get(shape)
        if row is None:
            waiting[shape] = TimelineRow(unit[0], last_ns, records, 1, firsts[shape], len(unit))
        else:
            row.times, row.last_ns = row.times + 1, last_ns
            row.records += records
    rows += waiting.values()
    return sorted(rows, key=lambda row: row.first.at_ns)


def _units(timeline: Sequence[Entry]) -> Iterator[list[Entry]]:
    """Yield the entries of each task together, and the others one by one, in the order of their first entries."""
    units: dict[tuple[str, int], list[Entry]] = {}
    for number, entry in enumerate(timeline):
        units.setdefault((entry.task, 0 if entry.task else number), []).append(entry)
    yield from units.values()


def _merged(unit: Sequence[Entry]) -> Iterator[TimelineRow]:
    """Yield the rows of a task; equal entries after one another are one."""
    row: TimelineRow | None = None
    for entry in unit:
        if row is not None and _facts(entry) == _facts(row.first):
            row.times, row.last_ns = row.times + 1, entry.at_ns
            row.records.append(entry.record)
            continue
        if row is not None:
            yield row
        row = TimelineRow(entry, entry.at_ns, [entry.record])
    if row is not None:
        yield row


def _facts(entry: Entry) -> tuple[str, ...]:
    return (entry.kind, entry.principal, entry.what, entry.outcome, entry.why, *entry.agents)
