"""The Merkle tree over the records of one stream, as it grows from head to head of the log."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final, final

from agent_identity._ledger.transparency.merkle import CompactRange

if TYPE_CHECKING:
    from agent_identity._ledger.excerpt_starts import Start
    from agent_identity._ledger.prune_statement import PruneStatement

_MANY: Final = 4_096  # Leaf hashes that are added to the tree at once.


@final
class Growth:
    """Re-derives the heads of one stream.

    Args:
        heads: The sizes and roots that the log commits to, in log order, or ``None``.
        start: The start of the stream, if not its first record.
        period: The first nanosecond of a period to judge and the first one after it, or ``None``.

    Attributes:
        leaves: Leaf hashes that the tree does not have yet; call :meth:`look` once there are ``due`` of them.
        due: The number of these at which the tree grows, or is compared with the next head.
        times: Starts of records, in nanoseconds since the Unix epoch.
        sealed: The size of the last head that was re-derived.
        expected: The size of the next head; 0 without one.
        latest_ns: The latest time of a record up to the last head that was re-derived.
        earliest_ns: The earliest time of these records.
        within: The number of these records that begin in the judged period.
    """

    def __init__(
        self,
        heads: Iterable[tuple[int, bytes]] | None,
        start: "PruneStatement | Start | None",
        period: tuple[int, int] | None = None,
    ) -> None:
        self.leaves: list[bytes] = []
        self.due = _MANY
        self.times: list[int] = []
        self.sealed: int = 0
        self.latest_ns = self.earliest_ns = self.within = 0
        self._period = period
        self._newest_ns = self._within = 0
        self._oldest_ns: int | None = None
        self._tree = CompactRange() if start is None else start.tree()
        self._heads: Iterator[tuple[int, bytes]] = iter(heads or ())
        self.expected: int
        self._root: bytes
        self._next()
        while 0 < self.expected < self._tree.size:
            self._next()

    def _next(self) -> None:
        self.expected, self._root = next(self._heads, (0, b""))
        self._plan()

    def _plan(self) -> None:
        missing = self.expected - self._tree.size
        self.due = missing if 0 < missing < _MANY else _MANY

    @property
    def size(self) -> int:
        """The number of records so far."""
        return self._tree.size + len(self.leaves)

    def look(self, *, derivable: bool = True) -> bool:
        """Compare with the next head if the tree has its size; return whether they agree.

        Args:
            derivable: Whether no record was missing so far.
        """
        if self.size != self.expected or not self.expected:
            if len(self.leaves) >= _MANY:
                self.grow()
            return True
        self.grow()
        if not derivable or self._tree.root() != self._root:
            return False
        self.sealed = self.expected
        self.latest_ns, self.earliest_ns, self.within = self._newest_ns, self._oldest_ns or 0, self._within
        self._next()
        return True

    def give_up(self) -> None:
        """Stop comparing: every later head contains the records of the one that does not agree."""
        self.expected = 0

    def grow(self) -> None:
        """Add the pending leaf hashes to the tree."""
        self._tree.extend(self.leaves)
        self.leaves.clear()
        self._plan()
        times = self.times
        if times:
            self._newest_ns = max(self._newest_ns, *times)
            self._oldest_ns = min(times[0] if self._oldest_ns is None else self._oldest_ns, *times)
            if self._period is not None:
                start_ns, stop_ns = self._period
                self._within += sum(start_ns <= time < stop_ns for time in times)
            times.clear()
