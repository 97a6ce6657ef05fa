"""Recognising the calls of a part of a stream together, which costs less than one by one.

Whoever reads a part may look at its records in any order, because a part counts only if nothing in it is to be
reported. So what the task says in every call, and the place that a call must have, are compared at once; what is left
of it waits for others of the same measures, which differ in ids, times and digests only.
"""

from binascii import hexlify
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import repeat
from typing import NamedTuple, TypeAlias, final

from agent_identity.audit.columns import Column
from agent_identity.audit.patterns import Pattern, Patterns, Said
from agent_identity.audit.uses import Use
from agent_identity.evidence.merkle import leaf_hash

__all__ = ["Batch", "Cut", "Told"]

Cut: TypeAlias = tuple[bytes, int, bytes, bytes]
"""A call in its place: the hash of the grant whose use has its context, place, hash of the record before, bytes."""


class _Context(NamedTuple):
    """What every call under a grant says, with what is around its place."""

    grant: bytes
    agent: bytes
    before: bytes
    behind: bytes

    def place(self, prev: bytes, seq: int) -> bytes:
        """Return what a call says from the member ``principal`` to the member ``task``."""
        return b'%s%s","seq":"%d%s' % (self.before, prev, seq, self.behind)


class _Group(NamedTuple):
    """Calls of the same measures.

    Attributes:
        first: How long they are before the context.
        second: The same, and between the parts of the context.
        numbers: Which of the calls they are.
        rests: What is left of them.
    """

    first: int
    second: int
    numbers: list[int]
    rests: list[bytes]


class Told(NamedTuple):
    """What calls of one pattern say.

    Attributes:
        pattern: The pattern.
        numbers: Which of the calls they are.
        slots: What they say in its slots; for each slot, one text a call.
    """

    pattern: Pattern
    numbers: Sequence[int]
    slots: Sequence[Column]

    @property
    def ids(self) -> Column:
        """The ids of the records."""
        return self.slots[self.pattern.id]

    @property
    def intents(self) -> Iterable[bytes | None]:
        """The ids of their intents."""
        return self.slots[self.pattern.intent] if self.pattern.intent >= 0 else repeat(None, len(self.numbers))

    @property
    def arguments(self) -> Iterable[bytes | None]:
        """The digests of the arguments."""
        return self.slots[self.pattern.arguments] if self.pattern.arguments >= 0 else repeat(None, len(self.numbers))

    @property
    def starts(self) -> Iterable[int]:
        """When they began, in nanoseconds since the Unix epoch."""
        return map(int, self.slots[self.pattern.start])

    def each(self) -> Iterator[tuple[int, Said]]:
        """Return what each call says, with its number."""
        starts = self.slots[self.pattern.start]
        said = zip(repeat(self.pattern), self.ids, self.intents, self.arguments, starts, strict=False)
        return zip(self.numbers, said, strict=True)


@final
class Batch:
    """Calls of a stream that wait to be recognised.

    Args:
        stream: The id of the stream.
        use_of: Returns the use whose context a call seems to have.

    Attributes:
        cuts: The calls, in their order.
    """

    def __init__(self, stream: bytes, use_of: Callable[[bytes], Use | None]) -> None:
        self.cuts: list[Cut] = []
        self._groups: dict[tuple[int, int, int], _Group] = {}
        self._latest: dict[int, _Group] = {}  # By the length of what is left.
        self._context = _Context(b"", b"", b"", b"")
        self._stream = stream
        self._use_of = use_of

    def take(self, lines: Sequence[bytes], seq: int, prev: bytes, leaves: list[bytes]) -> tuple[int, bytes]:
        """Take calls in their places, up to the first line that may be something else.

        Args:
            lines: Lines that hold records.
            seq: The place of the record before them.
            prev: The leaf hash of that, in hex.
            leaves: Takes the leaf hashes of the calls.

        Returns:
            How many calls, and the leaf hash of the last one in hex.
        """
        cuts, latest, begun = self.cuts, self._latest, seq
        self._turn_to(lines[0])  # The record before may have changed how the calls of its task are written.
        grant, agent, before, behind = self._context
        size = len(agent)
        for line in lines:
            data = line[83:-1]
            seq += 1
            place = b'%s%s","seq":"%d%s' % (before, prev, seq, behind)
            group = latest.get(len(data) - size - len(place))
            if group is None or not (data.startswith(agent, group[0]) and data.startswith(place, size + group[1])):
                group = self._group_of(data, prev, seq)
                if group is None:
                    seq -= 1
                    break
                grant, agent, before, behind = self._context
                size, place = len(agent), self._context.place(prev, seq)
            first, second, numbers, rests = group
            numbers.append(len(cuts))
            rests.append(data[:first] + data[first + size : second + size] + data[second + size + len(place) :])
            cuts.append((grant, seq, prev, line))
            leaf = leaf_hash(data)
            leaves.append(leaf)
            prev = hexlify(leaf)
        return seq - begun, prev

    def _turn_to(self, data: bytes) -> bool:
        """Expect the context that a call seems to have; return whether it is another one."""
        use = self._use_of(data)
        if use is None:
            return False
        agent, principal, task = use.context
        before = b'%s"stream":{"id":"%s","prev":"' % (principal, self._stream)
        known, self._context = self._context, _Context(use.grant, agent, before, b'"},' + task)
        return known != self._context

    def _group_of(self, data: bytes, prev: bytes, seq: int) -> _Group | None:
        """Return the group of a call, whatever its context; ``None`` if that is not known, or the place another."""
        group = self._find_group(data, prev, seq)
        return self._find_group(data, prev, seq) if group is None and self._turn_to(data) else group

    def _find_group(self, data: bytes, prev: bytes, seq: int) -> _Group | None:
        agent, place = self._context.agent, self._context.place(prev, seq)
        first = data.find(b',"agent":{') + 1
        at = data.find(b',"principal":{', first + len(agent)) + 1
        if not self._context.grant or not (data.startswith(agent, first) and data.startswith(place, at)):
            return None
        second, left = at - len(agent), len(data) - len(agent) - len(place)
        group = self._groups.setdefault((first, second, left), _Group(first, second, [], []))
        self._latest[left] = group
        return group

    def told(self, patterns: Patterns) -> list[Told]:
        """Return what the calls say that can be recognised; no call waits any longer."""
        told: list[Told] = []
        for first, second, numbers, rests in self._groups.values():
            for pattern, which, slots in patterns.find_all(rests):
                if (pattern.first, pattern.first + pattern.second) == (first, second):
                    rows = numbers if len(which) == len(numbers) else [numbers[row] for row in which]
                    told.append(Told(pattern, rows, slots))
        self.cuts = []
        self._groups.clear()
        self._latest.clear()
        return told
