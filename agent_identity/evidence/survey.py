"""Reading the older part of a stream before it leaves: it must be what the log commits to, and what it leaves open."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, NamedTuple, TypeAlias, cast, final

import orjson

from agent_identity.errors import VerificationError
from agent_identity.evidence.checkpoint import Checkpoint
from agent_identity.evidence.lines import Line, stream_parts
from agent_identity.evidence.log import Head, unverified_checkpoint
from agent_identity.evidence.merkle import CompactRange, leaf_hash
from agent_identity.evidence.pruned import MAX_OPEN, Pruned, unverified_pruned
from agent_identity.evidence.segments import Segment
from agent_identity.evidence.streams import LedgerReader

__all__ = ["Cut", "Heads", "read_heads", "survey"]

Heads: TypeAlias = Mapping[str, Sequence[Head]]
"""The heads of each stream that a checkpoint covers, in their order."""

_EMPTY: Final = CompactRange()


@final
@dataclass(frozen=True, slots=True)
class Cut:
    """The first segments of a stream, proved by the log, and what must be kept of them.

    Attributes:
        segments: The segments, in their order.
        first: The place of the first record in them.
        size: The number of records of the stream up to the end of the last one.
        last: The leaf hash of the last record.
        peaks: The compact range over all records so far.
        open: The ids of intents without an outcome so far.
        grants: The grants of tasks that have not ended so far, and those above them in their chains.
    """

    segments: tuple[Segment, ...]
    first: int
    size: int
    last: bytes
    peaks: tuple[bytes, ...]
    open: tuple[str, ...]
    grants: tuple[str, ...]


def read_heads(reader: LedgerReader) -> tuple[Checkpoint, Heads]:
    """Return the checkpoint of a directory and the heads that it covers.

    Raises:
        VerificationError: There is no checkpoint, or the log is not what it commits to.
    """
    note = reader.checkpoint()
    if note is None:
        raise VerificationError("expected log/checkpoint, got none; nothing proves the records")
    checkpoint = unverified_checkpoint(note)
    tree, found = CompactRange(), dict[str, list[Head]]()
    for line in reader.log_entries():
        if line.record is None or tree.size == checkpoint.size:
            break
        tree.append(leaf_hash(line.record))
        with suppress(ValueError):
            head = Head.from_entry(line.record)[0]
            found.setdefault(head.stream, []).append(head)
    if (tree.size, tree.root()) != (checkpoint.size, checkpoint.root):
        raise VerificationError("expected the log that its checkpoint commits to, got another; run the verification")
    return checkpoint, found


def _hash_of(token: str) -> str:
    """Return the hash by which records name a grant."""
    return hashlib.sha256(token.rpartition(".")[0].encode()).hexdigest()


@final
class _Layer:
    """What was put into a mapping and taken from it since the state below.

    A stream may have as many borders as records, and whether it can be cut at one shows later: copies of all that is
    left at each would be quadratic, and a layer costs what changed.
    """

    def __init__(self, below: "_Layer | None" = None) -> None:
        self._below = below
        self._gone = dict[str, None]()
        self.put = dict[str, str]()

    def __contains__(self, key: str) -> bool:
        return key in self.put or (self._below is not None and key not in self._gone and key in self._below)

    def add(self, key: str, value: str) -> None:
        """Put in a value; where one has the key, it takes its place."""
        self.put[key] = value

    def drop(self, key: str) -> None:
        """Take out what has the key, if anything has."""
        self.put.pop(key, None)
        if self._below is not None and key in self._below:
            self._gone[key] = None

    def sink(self) -> None:
        """Change the state below, so that it is this one."""
        below = cast("_Layer", self._below)
        for key in self._gone:
            below.drop(key)
        for key, value in self.put.items():
            below.add(key, value)
        self._gone.clear()
        self.put.clear()


@final
class _Layered:
    """A mapping as it is, as it was at the last border, and as it was at the last one that is proved."""

    def __init__(self) -> None:
        self._proved = _Layer()
        self._border = _Layer(self._proved)
        self._now = _Layer(self._border)
        self.size = 0

    def add(self, key: str, value: str) -> None:
        """Put in a value; where one has the key, it takes its place."""
        self.size += key not in self._now
        self._now.add(key, value)

    def drop(self, key: str) -> None:
        """Take out what has the key, if anything has."""
        self.size -= key in self._now
        self._now.drop(key)

    def reach(self) -> None:
        """Note that here is a border."""
        self._now.sink()

    def prove(self) -> None:
        """Note that the last border is proved."""
        self._border.sink()

    def proved(self) -> tuple[str, ...]:
        """Return the values as they were at the last border that is proved."""
        return tuple(self._proved.put.values())


@final
@dataclass(slots=True)
class _Left:
    """What records leave behind: calls without an end, and the grants of tasks without one."""

    intents: _Layered = field(default_factory=_Layered)
    tokens: _Layered = field(default_factory=_Layered)
    newest_ns: int = 0
    _openings: Counter[str] = field(default_factory=Counter[str])
    _needed: Counter[str] = field(default_factory=Counter[str])

    def take(self, record: Mapping[str, object]) -> None:
        """Add a record."""
        times = cast("Mapping[str, str]", record["time"])
        self.newest_ns = max(self.newest_ns, int(times.get("end", times["start"])))
        kind = record["kind"]
        if kind == "intent":
            identifier = cast("str", record["id"])
            self.intents.add(identifier, identifier)
        elif kind == "outcome":
            self.intents.drop(cast("str", record.get("intent")))
        elif kind in {"grant", "task_start", "task_end"}:
            self._take_task(kind, record)

    def _take_task(self, kind: object, record: Mapping[str, object]) -> None:
        chain = [link["grant"] for link in cast("Sequence[Mapping[str, str]]", record["chain"])]
        leaf = chain[-1]
        if kind == "grant":
            self.tokens.add(leaf, cast("Mapping[str, str]", record["grant"])["token"])
        elif kind == "task_start":
            self._openings[leaf] += 1
            if self._openings[leaf] == 1:
                self._needed.update(chain)
        elif self._openings[leaf] <= 1:
            # Of a task that began before what is here, no opening is known.
            self._drop(chain if self._openings.pop(leaf, 0) else [leaf])
        else:
            self._openings[leaf] -= 1

    def _drop(self, chain: Sequence[str]) -> None:
        self._needed.subtract(chain)
        for grant in chain:
            if self._needed[grant] <= 0:
                del self._needed[grant]
                self.tokens.drop(grant)


class _Border(NamedTuple):
    """Where a stream can be cut: behind so many segments and records."""

    segments: int
    size: int
    last: bytes
    peaks: tuple[bytes, ...]


@final
class _Survey:
    """A stream while it is read."""

    def __init__(self, stream: str, heads: Sequence[Head], before: Pruned | None, tokens: Sequence[str]) -> None:
        self._stream = stream
        self._heads = iter(heads)
        self.tree = _EMPTY.copy() if before is None else before.tree()
        self.last = b"" if before is None else before.last
        self.left = _Left()
        if before is not None:
            for intent in before.open:
                self.left.intents.add(intent, intent)
            for token in tokens:
                self.left.tokens.add(_hash_of(token), token)
        self._head = next(self._heads, None)
        self._first = self.tree.size + 1
        self._segments: list[Segment] = []
        self._border: _Border | None = None
        self._proved_size = -1
        self._proved: _Border | None = None
        self._compare()

    def take(self, data: bytes | None) -> None:
        """Add the next record.

        Raises:
            VerificationError: It is none, or not the one that the log commits to.
        """
        if data is None:
            raise self._other()
        self.last = leaf_hash(data)
        self.tree.append(self.last)
        try:
            self.left.take(orjson.loads(data))
        except (LookupError, TypeError, ValueError, AttributeError):
            raise self._other() from None
        self._compare()

    def take_lines(self, lines: Iterable[Line], *, until_settled: bool) -> bool:
        """Add the lines of the next segment; return whether nothing that follows matters."""
        for line in lines:
            if until_settled and self._settled:
                return True
            parts = None if line.data is None or line.torn else stream_parts(line.data)
            if parts is None and self._head is None:
                return True  # Nobody sealed this: where a process died, it stays as it is.
            self.take(None if parts is None else parts[0])
        return False

    def cut(self, segment: Segment) -> None:
        """Note that the stream can be cut here, behind a further segment."""
        self._segments.append(segment)
        if self.left.intents.size > MAX_OPEN:
            return
        self._border = _Border(len(self._segments), self.tree.size, self.last, self.tree.peaks)
        self.left.intents.reach()
        self.left.tokens.reach()
        self._compare()

    def proved(self) -> Cut | None:
        """Return the cut at the last border that is proved."""
        if self._proved is None:
            return None
        count, size, last, peaks = self._proved
        intents, tokens = self.left.intents.proved(), self.left.tokens.proved()
        return Cut(tuple(self._segments[:count]), self._first, size, last, peaks, intents, tokens)

    @property
    def _settled(self) -> bool:
        """Whether all cuts so far are proved, or nothing can prove them."""
        return self._head is None or self._border is self._proved

    def _compare(self) -> None:
        while self._head is not None and self._head.size <= self.tree.size:
            if self._head.size == self.tree.size:
                if self._head.root != self.tree.root():
                    raise self._other()
                self._proved_size = self.tree.size
            self._head = next(self._heads, None)
        if self._proved_size == self.tree.size:
            self._proved = self._border
            self.left.intents.prove()
            self.left.tokens.prove()

    def _other(self) -> VerificationError:
        return VerificationError(
            f"expected the records of stream {self._stream} as the log commits to them, got others; "
            "nothing of it is archived or pruned, run the verification",
            code="contradicted",
        )


def survey(
    reader: LedgerReader, stream: str, heads: Sequence[Head], eligible: Callable[[Segment, int], bool]
) -> Cut | None:
    """Return the first segments of a stream that may leave, as far as the log proves them; ``None`` if none may.

    Args:
        reader: The directory.
        stream: The id of the stream.
        heads: Its heads, in their order.
        eligible: Is asked for each segment, with the time of the newest record so far in nanoseconds since the Unix
            epoch, whether it may leave. Behind the first that may not, none may.

    Raises:
        VerificationError: The records are not those that the log commits to, or the statement beside them is none.
        OSError: A segment cannot be read.
    """
    note, before = reader.pruned(stream), None
    if note is not None and reader.first_place(stream) != 1:
        before = unverified_pruned(note)
    read = _Survey(stream, heads, before, () if before is None else _kept(reader, before))
    open_to_cut = True
    for segment in reader.segments(stream):
        if segment.first < read.tree.size + 1:
            continue
        if read.take_lines(reader.lines_of(segment), until_settled=not open_to_cut):
            break
        open_to_cut = open_to_cut and eligible(segment, read.left.newest_ns)
        if open_to_cut:
            read.cut(segment)
    return read.proved()


def _kept(reader: LedgerReader, before: Pruned) -> tuple[str, ...]:
    tokens, state = reader.kept_grants(before)
    if state in {"missing", "changed"}:
        raise VerificationError(
            f"expected the grants that were kept of stream {before.stream}, got others; nothing more of it is archived "
            "or pruned, put them back",
            code="contradicted" if state == "changed" else "incomplete",
        )
    return tokens
