"""Signals: what records say, counted under a name, with the records that say it; and the queries that they answer."""

from collections.abc import Iterable
from dataclasses import dataclass
from pkgutil import get_data
from types import MappingProxyType
from typing import Final, final

import msgspec

IDS: Final = 3
"""Records that a signal names, at most: the first ones by time."""

SIGNALS: Final = MappingProxyType(
    msgspec.toml.decode(get_data(__name__, "signals.toml") or b"", type=dict[str, tuple[str, str]])
)
"""By name: the words for one, and for several."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """A named query.

    Attributes:
        asks: The question that it answers.
        needs: Signals without which nothing is shown; each has to be there.
        wants: Signals without which it is shown in part.
        lacks: Signals with which it is shown in part.
        against: Signals that contradict it.
    """

    asks: str
    needs: tuple[str, ...]
    wants: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()
    against: tuple[str, ...] = ()


QUERIES: Final = MappingProxyType(msgspec.toml.decode(get_data(__name__, "queries.toml") or b"", type=dict[str, Query]))
"""The queries, by name."""


@final
@dataclass(frozen=True, slots=True)
class Signal:
    """A signal.

    Attributes:
        name: Its name.
        count: How often.
        records: The ids of up to three records that say so, the earliest first.
    """

    name: str
    count: int
    records: tuple[str, ...]

    @property
    def words(self) -> str:
        """The count in words."""
        one, several = SIGNALS[self.name]
        if not self.count:
            return f"no {several}"
        return f"{self.count:,} {one if self.count == 1 else several}"


@final
class Signals:
    """Counts signals."""

    def __init__(self) -> None:
        self._counts = dict.fromkeys(SIGNALS, 0)
        self._records: dict[str, list[tuple[int, str]]] = {}

    def add(self, name: str, at_ns: int = 0, record: str = "", *, count: int = 1) -> None:
        """Count a signal.

        Args:
            name: Its name.
            at_ns: When.
            record: The record, if it is one.
            count: How often.
        """
        self.add_all(name, count, [(at_ns, record)] if record else ())

    def add_all(self, name: str, count: int, records: Iterable[tuple[int, str]]) -> None:
        """Count a signal many times.

        Args:
            name: Its name.
            count: How often.
            records: When, and the record; at least the first ones of them.
        """
        self._counts[name] += count
        kept = self._records.setdefault(name, [])
        for record in records:
            if len(kept) < IDS or record < kept[-1]:
                kept.append(record)
                kept.sort()
                del kept[IDS:]

    def get(self, name: str) -> Signal:
        """Return a signal."""
        return Signal(name, self._counts[name], tuple(record for _, record in self._records.get(name, ())))
