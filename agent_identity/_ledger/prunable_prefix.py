"""Finds the longest prefix of a stream that can be removed, and checks it against the log.

A stream is cut after the last segment that may leave and that the log proves. What is open there is found by reading
up to that border once more, when it is known (decision 0025).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeAlias, final

import orjson

from agent_identity._identity.common.encoding import digest_of
from agent_identity._identity.keys.jws import parse_compact
from agent_identity._ledger.prune_statement import MAX_OPEN, PruneStatement, unverified_pruned
from agent_identity._ledger.reader import LedgerReader
from agent_identity._ledger.segments import Segment
from agent_identity._ledger.transparency.checkpoint import Checkpoint
from agent_identity._ledger.transparency.log import Head, unverified_checkpoint
from agent_identity._ledger.transparency.merkle import CompactRange, leaf_hash
from agent_identity._record.codec import decode
from agent_identity._record.parts import Counts
from agent_identity._record.schema import AnyRecord, Grant, Intent, OfTask, Outcome, TaskEnd, TaskStart
from agent_identity._storage.lines import Line, stream_parts
from agent_identity.errors import TokenError, VerificationError

Heads: TypeAlias = Mapping[str, Sequence[Head]]
"""The heads of each stream that a checkpoint covers, in their order."""

_EMPTY: Final = CompactRange()
_NS: Final = 1_000_000_000
_NEVER: Final = 1 << 63
_CARRIED_NS: Final = 7 * 86_400 * _NS  # So long after its expiry an earlier grant is kept on if nothing says it ended.
_LATE_NS: Final = 60 * _NS  # A thread may be stopped so long between the time of a record and its place in the stream.
_MAX_KEPT: Final = 64 * 1024 * 1024  # Bytes of memory for the grants that are kept of a stream.
_MAX_CALLS: Final = 64 * MAX_OPEN  # Calls that may be open on the way to a border.
_EACH: Final = 256  # Bytes of memory that a grant takes beside its token.
_FEW: Final = 1024 * 1024  # Bytes of grants that are not worth a look.


@final
@dataclass(frozen=True, slots=True)
class Cut:
    """The removable first segments of a stream, proved by the log, and the grants and calls to keep.

    Attributes:
        segments: The segments, in their order.
        first: The place of the first record in them.
        size: The number of records of the stream up to the end of the last one.
        last: The leaf hash of the last record.
        peaks: The compact range over all records so far.
        open: The ids of intents without an outcome so far.
        grants: The grants that records after the cut may need, and those above them in their chains.
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
        raise VerificationError("log/checkpoint is missing, so that nothing proves the records; run the verification")
    checkpoint = unverified_checkpoint(note)
    tree, heads = CompactRange(), dict[str, list[Head]]()
    for line in reader.log_entries():
        if line.record is None or tree.size == checkpoint.size:
            break
        tree.append(leaf_hash(line.record))
        with suppress(ValueError):
            head = Head.from_entry(line.record)[0]
            heads.setdefault(head.stream, []).append(head)
    if (tree.size, tree.root()) != (checkpoint.size, checkpoint.root):
        raise VerificationError("the log is not the one that its checkpoint commits to; run the verification")
    return checkpoint, heads


class _Border(NamedTuple):
    """A place where a stream can be cut: the last segment before it, and the tree over all records so far."""

    segment: Segment
    size: int
    last: bytes
    peaks: tuple[bytes, ...]


def _altered(stream: str) -> VerificationError:
    return VerificationError(
        f"the records of stream {stream} are not those that the log commits to; nothing of it is "
        "archived or pruned, run the verification",
        code="contradicted",
    )


@final
class _Proof:
    """Comparison of a stream with the log."""

    def __init__(self, stream: str, heads: Sequence[Head], before: PruneStatement | None) -> None:
        self._stream = stream
        self._heads = iter(heads)
        self.tree = _EMPTY.copy() if before is None else before.tree()
        self.newest_ns = 0
        self._last = b""
        self._head = next(self._heads, None)
        self._borders: list[_Border] = []
        self._proved_size = -1
        self._proved = 0
        self._compare()

    def take_lines(self, lines: Iterable[Line], *, until_settled: bool, active: bool) -> bool:
        """Add the lines of the next segment; return whether no further lines matter.

        Args:
            lines: The lines.
            until_settled: Stop where all borders so far are proved.
            active: A process may write the segment. Where it has closed it since the segments were listed, its name
                is that of a later one, which begins elsewhere and does not matter now.

        Raises:
            VerificationError: One is no record, or not the one that the log commits to.
        """
        for line in lines:
            if until_settled and self._settled:
                return True
            parts = None if line.data is None or line.torn else stream_parts(line.data)
            if parts is None and self._head is None:
                return True  # No one sealed this: where a process died, it stays as it is.
            if not self._take(None if parts is None else parts[0], active=active):
                return True
        return False

    def add_border(self, segment: Segment) -> None:
        """Add a further segment's end as a place where the stream can be cut."""
        self._borders.append(_Border(segment, self.tree.size, self._last, self.tree.peaks))
        self._compare()

    def proved(self) -> Sequence[_Border]:
        """Return the borders that are proved, in their order."""
        return self._borders[: self._proved]

    def _take(self, data: bytes | None, *, active: bool) -> bool:
        """Add a record; return whether it is the next one."""
        if data is None:
            raise _altered(self._stream)
        try:
            record = decode(data)
        except ValueError:
            raise _altered(self._stream) from None
        if active and record.stream.number != self.tree.size + 1:
            return False
        self._last = leaf_hash(data)
        self.tree.append(self._last)
        self.newest_ns = max(self.newest_ns, record.time.last_ns)
        self._compare()
        return True

    @property
    def _settled(self) -> bool:
        """Return whether all borders so far are proved, or nothing can prove them."""
        return self._head is None or len(self._borders) == self._proved

    def _compare(self) -> None:
        while self._head is not None and self._head.size <= self.tree.size:
            if self._head.size == self.tree.size:
                if self._head.root != self.tree.root():
                    raise _altered(self._stream)
                self._proved_size = self.tree.size
            self._head = next(self._heads, None)
        if self._proved_size == self.tree.size:
            self._proved = len(self._borders)


class _Grant(NamedTuple):
    """A written grant, the chain that it ends, and the latest time of a first record of a task under it."""

    token: str
    chain: tuple[str, ...]
    until: int


@final
class _Left:
    """The state that records leave open: calls without an end, and grants that later records may name."""

    def __init__(self, opened: Iterable[str], tokens: Iterable[str]) -> None:
        self._calls: dict[str, tuple[str, ...]] = dict.fromkeys(opened, ())
        self._grants = {grant.chain[-1]: grant for grant in map(_carried, tokens)}
        self._tasks: dict[str, tuple[int, tuple[str, ...]]] = {}
        self._begun: set[str] = set()
        self._over: set[str] = set()
        self._oldest_ns = 0
        self._bytes = self._due = 0
        self._sweep()

    @property
    def overflows(self) -> bool:
        """True if the state exceeds the memory limit."""
        return self._bytes > 2 * _MAX_KEPT or len(self._calls) > _MAX_CALLS

    @property
    def fits(self) -> bool:
        """True if a statement can name all of it."""
        self._sweep()
        return self._bytes <= _MAX_KEPT and len(self._calls) <= MAX_OPEN

    @property
    def calls(self) -> tuple[str, ...]:
        """The ids of the intents without an outcome."""
        return tuple(self._calls)

    @property
    def grants(self) -> tuple[str, ...]:
        """The grants to keep; read :attr:`fits` first."""
        return tuple(grant.token for grant in self._grants.values())

    def begin_segment(self) -> None:
        """Note that a further segment begins."""
        self._oldest_ns = 0

    def take(self, record: AnyRecord) -> None:
        """Add a record."""
        # The oldest moment of a segment and not the newest: one clock that runs ahead ends no task of another.
        self._oldest_ns = min(self._oldest_ns or _NEVER, record.time.last_ns)
        if isinstance(record, Intent):
            self._calls[record.id] = _chain(record)
        elif isinstance(record, Outcome):
            if record.intent is not None:
                self._calls.pop(record.intent, None)
        elif isinstance(record, Grant):
            self._write(record)
        elif isinstance(record, TaskStart):
            chain = _chain(record)
            self._tasks[chain[-1]] = self._tasks.get(chain[-1], (0, ()))[0] + 1, chain
            self._begun.add(chain[-1])
        elif isinstance(record, TaskEnd):
            self._end(_chain(record), record.counts)

    def _write(self, record: Grant) -> None:
        chain = _chain(record)
        before, expires = self._grants.get(chain[-1]), record.task.expires
        until = max(_NEVER if expires is None else int(expires) + _LATE_NS, 0 if before is None else before.until)
        grant = _Grant(record.grant.token, chain, until)
        self._grants[chain[-1]] = grant
        self._over.discard(chain[-1])
        self._bytes += len(grant.token) + _EACH
        if self._bytes > self._due:
            self._sweep()

    def _end(self, chain: tuple[str, ...], counts: Counts) -> None:
        number = self._tasks.pop(chain[-1], (0, ()))[0] - 1
        if number > 0:
            self._tasks[chain[-1]] = number, chain
        # A grant that came from elsewhere is written once, however often tasks begin under it until it expires.
        elif not int(counts.open) and (len(chain) == 1 or chain[0] in self._begun):
            self._over.add(chain[-1])

    def _sweep(self) -> None:
        """Drop the grants that no later record can name."""
        needed = {name for _, chain in self._tasks.values() for name in chain}
        needed.update(name for chain in self._calls.values() for name in chain)
        for name, grant in self._grants.items():
            if name not in self._over and grant.until > self._oldest_ns:
                needed.update(grant.chain)
        self._grants = {name: grant for name, grant in self._grants.items() if name in needed}
        self._begun &= self._grants.keys()
        self._over &= self._grants.keys()
        self._bytes = sum(len(grant.token) + _EACH for grant in self._grants.values())
        self._due = max(_FEW, 2 * self._bytes)


def _chain(record: OfTask | Intent) -> tuple[str, ...]:
    """Return the hashes of the grants of a chain; empty for a call outside any task."""
    return tuple(hop.grant for hop in record.chain or ())


def _carried(token: str) -> _Grant:
    """Return a grant kept by an earlier pruning; the state of its task is unknown."""
    until = _NEVER
    with suppress(TokenError, LookupError, TypeError, ValueError):
        until = int(orjson.loads(parse_compact(token).payload)["exp"]) * _NS + _CARRIED_NS
    return _Grant(token, (digest_of(token.rpartition(".")[0].encode()),), until)


def _add_borders(proof: _Proof, reader: LedgerReader, stream: str, eligible: Callable[[Segment, int], bool]) -> None:
    """Read the segments that may be removed, and on until the log proves them."""
    leaves = True
    for segment in reader.segments(stream):
        if segment.first < proof.tree.size + 1:
            continue
        if proof.take_lines(_lines(reader, stream, segment), until_settled=not leaves, active=segment.active):
            break
        leaves = leaves and eligible(segment, proof.newest_ns)
        if leaves:
            proof.add_border(segment)


def _lines(reader: LedgerReader, stream: str, segment: Segment) -> Iterator[Line]:
    """Yield the lines of a segment, also of one that was closed since it was listed, and has another name now."""
    try:
        yield from reader.lines_of(segment)
    except FileNotFoundError:
        again = [one for one in reader.segments(stream) if one.first == segment.first]
        if not segment.active or not again:
            raise
        yield from reader.lines_of(again[0])


def survey(
    reader: LedgerReader,
    stream: str,
    heads: Sequence[Head],
    eligible: Callable[[Segment, int], bool],
    *,
    removing: bool,
) -> Cut | None:
    """Return the removable first segments of a stream, as far as the log proves them, or ``None``.

    Args:
        reader: The directory.
        stream: The id of the stream.
        heads: Its heads, in their order.
        eligible: Is asked for each segment, with the time of the newest record so far in nanoseconds since the Unix
            epoch, whether it may leave. After the first that may not, none may.
        removing: They leave for good, so the cut tells what they leave open. It comes earlier if that is too much.

    Raises:
        VerificationError: The records are not those that the log commits to, or the statement beside them is none.
        OSError: A segment cannot be read.
    """
    note, before = reader.pruned(stream), None
    if note is not None and reader.first_place(stream) != 1:
        before = unverified_pruned(note)
    kept = () if before is None else _kept(reader, before)
    proof = _Proof(stream, heads, before)
    first = proof.tree.size + 1
    _add_borders(proof, reader, stream, eligible)
    borders = proof.proved()
    if not removing:
        return _cut(first, borders, (), ())
    borders, left = _fitting(reader, stream, borders, before, kept)
    return None if left is None else _cut(first, borders, left.calls, left.grants)


def _cut(first: int, borders: Sequence[_Border], opened: tuple[str, ...], grants: tuple[str, ...]) -> Cut | None:
    if not borders:
        return None
    at = borders[-1]
    return Cut(tuple(border.segment for border in borders), first, at.size, at.last, at.peaks, opened, grants)


def _fitting(
    reader: LedgerReader, stream: str, borders: Sequence[_Border], before: PruneStatement | None, kept: Sequence[str]
) -> tuple[Sequence[_Border], _Left | None]:
    """Return the borders up to the last whose open state is small enough, and that state; ``None`` without any."""
    while borders:
        left, number = _read_left(reader, stream, borders, before, kept)
        if left is not None:
            return borders, left
        borders = borders[:number]
    return (), None


def _read_left(
    reader: LedgerReader, stream: str, borders: Sequence[_Border], before: PruneStatement | None, kept: Sequence[str]
) -> tuple[_Left | None, int]:
    """Return the open state at the last border, ``None`` if too large, and the number of borders that fit."""
    left = _Left(() if before is None else before.open, kept)
    tree = _EMPTY.copy() if before is None else before.tree()
    number = 0
    for place, border in enumerate(borders, 1):
        left.begin_segment()
        for data in _records(reader, border.segment, border.size - tree.size):
            tree.append(leaf_hash(data))
            try:
                left.take(decode(data))
            except ValueError:
                raise _altered(stream) from None
            if left.overflows:
                return None, number
        if (tree.size, tree.peaks) != (border.size, border.peaks):
            raise _altered(stream)  # It changed since it was compared with the log.
        if left.fits:
            number = place
    return (left if number == len(borders) else None), number


def _records(reader: LedgerReader, segment: Segment, count: int) -> Iterator[bytes]:
    """Yield the first records of a segment, up to the first line that is not one."""
    for line, _ in zip(reader.lines_of(segment), range(count), strict=False):
        parts = None if line.data is None or line.torn else stream_parts(line.data)
        if parts is None:
            return
        yield parts[0]


def _kept(reader: LedgerReader, before: PruneStatement) -> tuple[str, ...]:
    tokens, state = reader.kept_grants(before)
    if state != "named":
        raise VerificationError(
            f"the grants kept of stream {before.stream} are not those of its statement; nothing more "
            "of it is archived or pruned, put them back",
            code="contradicted" if state == "changed" else "incomplete",
        )
    return tokens
