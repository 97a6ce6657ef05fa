"""Reading the older part of a stream before it leaves: it must be what the log commits to, and what it leaves open."""

import hashlib
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
_NEVER: Final = 1 << 63


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
        grants: The grants that an earlier pruning kept, of tasks that have not ended so far.
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
@dataclass(slots=True)
class _Left:
    """What records leave behind: tasks that go on, calls without an end, and grants that an earlier pruning kept."""

    kept: dict[str, str]
    intents: dict[str, None]
    newest_ns: int = 0
    _tasks: dict[str, tuple[int, int]] = field(default_factory=dict[str, tuple[int, int]])

    def is_quiet(self) -> bool:
        """Return whether no task is open that has not expired.

        A call without an end holds up nothing then: it hangs, or is suspended for ever.
        """
        self._tasks = {leaf: task for leaf, task in self._tasks.items() if task[1] > self.newest_ns}
        return not self._tasks

    def take(self, record: Mapping[str, object]) -> None:
        """Add a record."""
        times = cast("Mapping[str, str]", record["time"])
        self.newest_ns = max(self.newest_ns, int(times.get("end", times["start"])))
        kind = record["kind"]
        if kind == "intent":
            self.intents[cast("str", record["id"])] = None
        elif kind == "outcome":
            self.intents.pop(cast("str", record.get("intent")), None)
        elif kind in {"task_start", "task_end"}:
            leaf = cast("Sequence[Mapping[str, str]]", record["chain"])[-1]["grant"]
            number, until = self._tasks.pop(leaf, (0, 0))
            number += 1 if kind == "task_start" else -1
            if number > 0:
                expires = cast("Mapping[str, str]", record["task"]).get("expires")
                self._tasks[leaf] = (number, max(until, _NEVER if expires is None else int(expires)))
            else:
                self.kept.pop(leaf, None)


class _Border(NamedTuple):
    """Where a stream can be cut: behind so many segments and records, and what is left there."""

    segments: int
    size: int
    last: bytes
    peaks: tuple[bytes, ...]
    open: tuple[str, ...]
    grants: tuple[str, ...]


@final
class _Survey:
    """A stream while it is read."""

    def __init__(self, stream: str, heads: Sequence[Head], before: Pruned | None, tokens: Sequence[str]) -> None:
        self._stream = stream
        self._heads = iter(heads)
        self.tree = _EMPTY.copy() if before is None else before.tree()
        self.last = b"" if before is None else before.last
        opened = () if before is None else before.open
        self.left = _Left({_hash_of(token): token for token in tokens}, dict.fromkeys(opened))
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

    def cut(self, segment: Segment, *, anywhere: bool) -> None:
        """Note that a further segment ends here: the stream can be cut, if nothing goes on or nothing follows."""
        self._segments.append(segment)
        left = self.left
        if not anywhere and not ((segment.active or left.is_quiet()) and len(left.intents) <= MAX_OPEN):
            return
        tree, opened = self.tree, () if anywhere else tuple(left.intents)  # A copy leaves nothing behind.
        self._border = _Border(len(self._segments), tree.size, self.last, tree.peaks, opened, tuple(left.kept.values()))
        self._compare()

    def proved(self) -> Cut | None:
        """Return the cut at the last border that is proved."""
        if self._proved is None:
            return None
        at = self._proved
        return Cut(tuple(self._segments[: at.segments]), self._first, at.size, at.last, at.peaks, at.open, at.grants)

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

    def _other(self) -> VerificationError:
        return VerificationError(
            f"expected the records of stream {self._stream} as the log commits to them, got others; "
            "nothing of it is archived or pruned, run the verification",
            code="contradicted",
        )


def survey(
    reader: LedgerReader,
    stream: str,
    heads: Sequence[Head],
    eligible: Callable[[Segment, int], bool],
    *,
    anywhere: bool,
) -> Cut | None:
    """Return the first segments of a stream that may leave, as far as the log proves them; ``None`` if none may.

    Args:
        reader: The directory.
        stream: The id of the stream.
        heads: Its heads, in their order.
        eligible: Is asked for each segment, with the time of the newest record so far in nanoseconds since the Unix
            epoch, whether it may leave. Behind the first that may not, none may.
        anywhere: Cut behind any segment, as a copy may. Otherwise only where no task is open, or at the end of a
            stream.

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
            read.cut(segment, anywhere=anywhere)
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
