"""Verifying a ledger part by part, in other processes or on other machines, with the same result.

Whoever reads a part knows nothing of the parts before it. Either all records of the part are in form and follow each
other, and nothing about them is to be reported: then what matters of them to the rest is returned in compact form.
Or there is anything else, and nothing is returned: then the lines are read again in their order, as without parts.
So parts decide about speed and never about what is found.
"""

import re
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import groupby
from typing import Final, NamedTuple, cast, final

from agent_identity.audit.calls_check import Calls
from agent_identity.audit.chain_check import Delegations
from agent_identity.audit.findings import Findings
from agent_identity.audit.noting import Noted
from agent_identity.audit.patterns import Patterns
from agent_identity.audit.shapes import RecordReader
from agent_identity.audit.spreading import Spread
from agent_identity.audit.stream_check import StreamCheck, StreamPart
from agent_identity.canonical import decode_record
from agent_identity.evidence.files import Files
from agent_identity.evidence.lines import Block, record_of
from agent_identity.evidence.merkle import HASH_SIZE
from agent_identity.evidence.segments import Piece, piece_blocks
from agent_identity.evidence.streams import LedgerReader

__all__ = ["Found", "PartReader", "Parts", "Work", "read_work"]

_PIECE: Final = 8 * 1024 * 1024  # Bytes of a file in one part.
_MANY: Final = 200  # Calls that are recognised together; more would be added to a tree that a part does not have.
_MUCH: Final = 1024 * 1024  # Bytes of them; a line may be large, and a compressed file is one part.
_SEQ: Final = re.compile(r"[1-9][0-9]{0,18}")
_PREV: Final = re.compile(r"(?:[0-9a-f]{64})?")
_PATTERNS: Final = Patterns()  # What was learned from one part holds for the next.
_READER: Final = RecordReader()


class Work(NamedTuple):
    """A part that is to be read.

    Attributes:
        stream: The stream that it belongs to.
        piece: Its lines.
        committed: How many records of the stream the log commits to.
        pruned: Whether records of the ledger were pruned.
    """

    stream: str
    piece: Piece
    committed: int
    pruned: bool


class Found(NamedTuple):
    """What was read.

    Attributes:
        start: The byte of the file at which the first line begins.
        end: The byte behind the last one.
        part: What was found; ``None`` if no line begins in it.
    """

    start: int
    end: int
    part: StreamPart | None


def read_work(work: Work, *, noted: bool = False) -> tuple[Work, Found | None]:
    """Read a part; return it without anything found if its lines have to be read in their order, for whatever reason.

    Args:
        work: The part.
        noted: Whether the ids of its records are wanted.
    """
    reached: list[int] = []

    def measured(blocks: Iterable[Block]) -> Iterator[Block]:
        for block in blocks:
            reached[:] = [reached[0] if reached else block.offset, block.end]
            yield block

    reader = PartReader(work.stream, work.committed, pruned=work.pruned, noted=noted)
    try:
        part = reader.take(measured(piece_blocks(Files(), work.piece)))
    except Exception:  # noqa: BLE001  Reading the lines in their order tells what is wrong with them.
        return work, None
    if not reached:
        return work, Found(0, 0, None)
    return work, None if part is None else Found(reached[0], reached[1], part)


@final
class Parts:
    """The parts of the streams of a ledger, in their order.

    Args:
        reader: The ledger.
        spread: Has other processes read them.
        committed: How many records of each stream the log commits to; in the order in which they are merged.
        starts: How many records of a stream were pruned.
        pruned: Whether records of the ledger were pruned.
        read: Reads a part.

    Attributes:
        whole: Whether all of the stream that was merged last was taken over.
    """

    def __init__(
        self,
        reader: LedgerReader,
        spread: Spread,
        committed: Mapping[str, int],
        starts: Mapping[str, int],
        *,
        pruned: bool,
        read: Callable[[Work], tuple[Work, Found | None]],
    ) -> None:
        works = (
            Work(stream, piece, size, pruned)
            for stream, size in committed.items()
            for piece in reader.pieces(stream, start=starts.get(stream, 0) + 1, most=_PIECE)
        )
        self._results = groupby(spread(read, works), lambda result: result[0].stream)
        self._next = next(self._results, None)
        self.whole = False

    def merge_into(self, stream: StreamCheck, tell: Callable[[int], object]) -> int:
        """Merge the parts of a stream, as long as nothing about them is to be reported; return how many bytes.

        Args:
            stream: The check of the stream; none of its lines was read.
            tell: Is told how many bytes are merged.
        """
        self.whole = False
        if self._next is None or self._next[0] != stream.stream:
            return 0
        done = at = size = 0
        path, merged = "", True
        for (_, piece, _, _), found in self._next[1]:
            # No byte may be left out, between two parts of a file or at its end.
            if piece.path != path:
                merged = merged and at >= size
                path, at, size = piece.path, 0, 0 if piece.stop is None else piece.size
            part = None if found is None else found.part
            if found is not None and part is None:
                continue
            merged = merged and found is not None and part is not None and found.start == at and stream.merge(part)
            if merged and found is not None:
                at = found.end
                done += piece.bytes
                tell(done)
        self._next = next(self._results, None)
        self.whole = merged and at >= size
        return done


@final
class PartReader:
    """Reads a part of a stream, knowing nothing of what comes before.

    Args:
        stream: The id of the stream.
        committed: How many records of it the log commits to.
        pruned: Whether records of the ledger were pruned.
        noted: Whether the ids of the records are wanted.
    """

    def __init__(self, stream: str, committed: int, *, pruned: bool, noted: bool = False) -> None:
        self._findings = Findings("ledger", ())
        delegations = Delegations(self._findings, 0, None, part=True)
        self._calls = Calls(self._findings, delegations, part=True, patterns=_PATTERNS, reader=_READER)
        self._calls.gone = set() if pruned else None
        self._check = StreamCheck(stream, None, self._findings, self._calls, None)
        self._check.note = Noted() if noted else None
        self._calls.committed = committed
        self._leaves, self._times = bytearray(), array("Q")
        self._first = 0
        self._prev = b""

    def take(self, blocks: Iterable[Block]) -> StreamPart | None:
        """Return what is in the lines of a part, or ``None`` if there is anything to report or nothing at all."""
        size = 0
        for block in blocks:
            if not self._first and not self._begin(block):
                return None
            self._check.take_apart(block)
            size += block.end - block.offset
            if self._check.waiting >= _MANY or size >= _MUCH:
                self._check.hand_over(self._leaves, self._times)
                size = 0
            if self._findings.total or self._check.torn:
                return None
        self._check.hand_over(self._leaves, self._times)
        calls = None if self._findings.total else self._calls.shipped()
        if calls is None or not self._check.lines == len(self._times) == len(self._leaves) // HASH_SIZE > 0:
            return None
        return self._check.shipped(self._first, self._prev, bytes(self._leaves), self._times.tobytes(), calls)

    def _begin(self, block: Block) -> bool:
        """Begin where the first record says that it is; who merges the parts compares."""
        data = record_of(block.lines[0])
        try:
            stream = {} if data is None else cast("dict[str, str]", decode_record(data).get("stream"))
            seq, prev = stream["seq"], stream.get("prev", "")
            if not _SEQ.fullmatch(seq) or not _PREV.fullmatch(prev):
                return False
        except (ValueError, TypeError, KeyError, AttributeError):
            return False
        self._first, self._prev = int(seq), prev.encode()
        self._check.begin(self._first, self._prev)
        return True
