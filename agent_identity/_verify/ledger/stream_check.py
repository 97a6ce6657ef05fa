"""Checks one stream of a ledger: its heads, records, intents and outcomes (steps 3 to 5)."""

from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Final, TypeAlias, cast, final

from agent_identity._identity.common.encoding import b64url_decode, b64url_encode
from agent_identity._identity.common.record_bytes import decode_record
from agent_identity._ledger.reader import RawLine
from agent_identity._record.codec import plain_members
from agent_identity._record.parts import Stream
from agent_identity._record.schema import AnyRecord, Detail, StreamEnd
from agent_identity._verify.inputs.versions import malformed
from agent_identity._verify.ledger._calls_check import Calls
from agent_identity._verify.ledger._stream_growth import Growth
from agent_identity._verify.ledger.log_check import Heads
from agent_identity._verify.ledger.record_check import CheckedLine, CheckedRecord
from agent_identity._verify.report.findings import MAX_KEPT, Findings, Place
from agent_identity._verify.report.plurals import counted

if TYPE_CHECKING:
    from agent_identity._ledger.excerpt_starts import Start
    from agent_identity._ledger.prune_statement import PruneStatement
    from agent_identity._verify.ledger._closure_check import ClosureCheck
    from agent_identity._verify.ledger.index import LedgerIndex

Visit: TypeAlias = Callable[[AnyRecord, bytes, Detail | None], None]
"""Receives each record in its place, with its leaf hash and its detail."""

_HEADS: Final = 3
_RECORDS: Final = 4
_DETAILS: Final[Mapping[str, str]] = {
    "detail_missing": "the outcome commits to a detail, and its line has none; it was removed",
    "detail_uncommitted": "the line has a detail to which its record does not commit; it was added",
    "detail_mismatch": "the line has another detail than the one to which its record commits; it was changed",
    "detail_malformed": "the detail of the line is not in the form of a detail",
}


@final
class StreamCheck:
    """Checks one stream, line by line.

    Args:
        stream: Its id.
        heads: The heads of the stream in the log, or ``None``.
        findings: Takes what is found.
        calls: Takes the calls.
        visit: Receives the records.
        index: Stores the records in their places.
        period: The first nanosecond of a period to judge and the first one after it, or ``None``.
        start: The start of the stream, if not its first record.
        closing: Compares the records with what a closer saw of the stream.

    Attributes:
        closing: The comparison; ``None`` without.
        stream: The id of the stream.
        pruned: The number of missing records before the first one.
        end: In an excerpt, the place of its last record, included or withheld.
        withheld: The number of records that an excerpt replaces by their leaf hash.
        lines: The number of lines so far, torn ones not counted.
        committed: The number of records that the log commits to.
        torn: The bytes of the line inside which the file ends; 0 if it ends with one.
        ended: Whether the stream states its end.
    """

    def __init__(
        self,
        stream: str,
        heads: Heads | None,
        findings: Findings,
        calls: Calls,
        visit: Visit | None,
        *,
        index: "LedgerIndex | None" = None,
        period: tuple[int, int] | None = None,
        start: "PruneStatement | Start | None" = None,
        closing: "ClosureCheck | None" = None,
    ) -> None:
        self.stream = stream
        self.closing = closing
        self.pruned = 0 if start is None else start.size
        self.end = None if start is None else start.end
        self.lines = self.withheld = 0
        # In an excerpt, heads beyond its end do not count.
        self.committed = calls.committed = 0 if heads is None else heads.size_up_to(self.end)
        self.torn = 0
        self.ended = False
        self._findings = findings
        self._calls = calls
        self._visit, self._index = visit, index
        self._kinds: Counter[type[AnyRecord]] = Counter()
        counting = heads if self.end is None else [head for head in heads or () if head[0] <= self.end]
        self._growth = Growth(counting, start, period)
        self._derivable = True
        self._unknown: list[tuple[str, str, Place]] = []
        if index is not None:
            index.begin(stream, self.pruned)
        self._seq = self.pruned
        # Leaf hash of the previous record; empty if unknown or at the start.
        self._prev = "" if start is None else b64url_encode(start.last)
        self._last_id: str | None = None
        self._look()

    @property
    def proved(self) -> int:
        """The size of the last head that was re-derived."""
        return self._growth.sealed

    @property
    def sealed(self) -> int:
        """The number of records up to the last head that was re-derived."""
        return max(self.pruned, self._growth.sealed)

    @property
    def latest_ns(self) -> int:
        """The latest time of a record up to the last head, in nanoseconds since the Unix epoch."""
        return self._growth.latest_ns

    @property
    def earliest_ns(self) -> int:
        """The earliest time of these records."""
        return self._growth.earliest_ns

    @property
    def within(self) -> int:
        """The number of these records that begin in the judged period."""
        return self._growth.within

    def take(self, line: CheckedLine) -> None:
        """Check the next line.

        Args:
            line: The line, already checked by itself.
        """
        if isinstance(line, RawLine):
            self._take_broken(line)
            return
        self.lines += 1
        growth, record, leaf = self._growth, line.record, line.leaf
        growth.leaves.append(leaf)
        if self.closing is not None:
            self.closing.take(leaf)
        if record is None:
            self._reject(line)
        elif self._follows(record.stream) or self._explain(record, leaf):
            self._accept(line, record, leaf)
        if len(growth.leaves) >= growth.due:
            self._look()

    @property
    def size(self) -> int:
        """The number of records so far, pruned ones included."""
        return self.pruned + self.lines

    def finish(self) -> None:
        """Report the findings that need all lines."""
        if self.size < self.committed:
            self._findings.add(
                _HEADS,
                "records_cut",
                f"the stream has {self.size:,} of {counted(self.committed, 'record')} that the log commits to; "
                "some were removed",
                Place(stream=self.stream, seq=self.size + 1),
            )
        elif self.end is not None and self.proved != self.end:
            # The maker of an excerpt chooses its end, and only a head proves the records before it.
            self._findings.add(
                _HEADS,
                "bad_excerpt",
                f"the excerpt ends at record {self.end:,}, where the log has no head; nothing proves its last records",
                Place(stream=self.stream, seq=self.proved + 1),
            )
        for message, problem, place in self._unknown:
            # Bytes of another version count as a record only if the log commits to them, or may still do so.
            changed = self.proved < (place.seq or 0) <= self.committed
            code = ("malformed_record", problem) if changed else ("unknown_record", message)
            self._findings.add(_RECORDS, *code, place)
        for kind, number in self._kinds.items():
            self._findings.kinds[cast("str", kind.__struct_config__.tag)] += number
        self._calls.end_of_stream()

    def _accept(self, line: CheckedRecord, record: AnyRecord, leaf: bytes) -> None:
        if self.ended:
            self._report("after_end", "a record follows the end of the stream", record)
        self._advance(leaf)
        self._last_id = record.id
        self._kinds[type(record)] += 1
        self._growth.times.append(int(record.time.start))
        if line.mismatch:
            self._report(line.mismatch, _DETAILS[line.mismatch], record)
        self._calls.take(record, self.stream, self._seq, line.detail)
        if self._index is not None:
            self._index.add(self._last_id, record.kind, leaf, self._seq)
        if isinstance(record, StreamEnd):
            self._end(record)
        if self._visit is not None:
            self._visit(record, leaf, line.detail)

    def _advance(self, leaf: bytes) -> None:
        self._seq += 1
        self._prev = b64url_encode(leaf)

    def _follows(self, place: Stream) -> bool:
        """Return whether a record directly follows the previous one, as far as that is known."""
        return (
            place.id == self.stream and place.seq == str(self._seq + 1) and (not self._prev or place.prev == self._prev)
        )

    def _end(self, record: StreamEnd) -> None:
        self.ended = True
        stated = record.end.size
        if stated != str(self._seq):
            message = f"the end of the stream states {counted(int(stated), 'record')}, and it has {self._seq}"
            self._report("missing_records", message, record)

    def _look(self) -> None:
        growth = self._growth
        if growth.look(derivable=self._derivable):
            return
        self._findings.add(
            _HEADS,
            "head_mismatch",
            f"the records {self.sealed + 1} to {growth.expected} differ from those that the log commits to",
            Place(stream=self.stream, seq=self.sealed + 1),
        )
        growth.give_up()

    def _explain(self, record: AnyRecord, leaf: bytes) -> bool:
        """Report the reason why a record does not follow the previous one; return whether it takes the next place."""
        if record.stream.id != self.stream:
            self._report("wrong_stream", "the record is of another stream", record)
            return False
        seq, expected = record.stream.number, self._seq + 1
        if seq < expected:
            if b64url_encode(leaf) == self._prev:
                self._report("duplicate_record", "the record repeats the one before it", record)
            else:
                self._report(
                    "out_of_order",
                    f"record {seq} is in the place of record {expected}; it was inserted or moved",
                    record,
                )
            return False
        if seq > expected:
            self._report(
                "missing_records", f"record {seq} is in the place of record {expected}; some were removed", record
            )
            self._seq = seq - 1
        else:
            message = (
                f"record {expected} continues another record {self._seq} than the one here; one of the two was changed"
            )
            self._findings.add(_RECORDS, "changed_record", message, self._place_before())
        return True

    def _place_before(self) -> Place:
        return Place(self._last_id, self.stream, self._seq)

    def _take_broken(self, line: RawLine) -> None:
        if line.problem == "torn":
            self.torn = line.size
            return
        if line.problem == "withheld" and self.end is not None:
            self._take_withheld(b64url_decode(line.mac or ""))
            return
        if line.problem == "unreadable":
            self.torn = 0  # What a file before it ends with is no end of the stream.
            if line.offset or self.committed:
                self._findings.add(
                    _RECORDS,
                    "unreadable",
                    "the file of the stream cannot be read; verify as a user who may read it",
                    Place(stream=self.stream, line=self.lines + 1),
                )
            return
        self.lines += 1
        self._derivable = False
        place = Place(stream=self.stream, seq=self._seq + 1, line=self.lines)
        if self.size <= self.committed:
            self._findings.add(_RECORDS, "malformed_line", "this line is not a record", place)
        else:
            self._findings.add(7, "malformed_tail", "a line after the last seal is not a record", place)
        self._forget()

    def _take_withheld(self, leaf: bytes) -> None:
        """Take the place of a withheld record, whose hash is proved all the same."""
        self.lines += 1
        self.withheld += 1
        self._growth.leaves.append(leaf)
        self._advance(leaf)
        self._last_id = None
        self._look()

    def _reject(self, line: CheckedRecord) -> None:
        """Report a malformed record, and continue as if it took its place."""
        identifier: object = None
        with suppress(ValueError):
            decode_record(line.data)  # Members of malformed bytes mean nothing.
            identifier = plain_members(line.data).get("id")
        place = Place(identifier if isinstance(identifier, str) else None, self.stream, self._seq + 1, self.lines)
        code, message = malformed(line.data, line.problem)
        if code == "malformed_record" or len(self._unknown) >= MAX_KEPT:
            self._findings.add(_RECORDS, code, message, place)
        else:
            self._unknown.append((message, line.problem, place))
        self._forget()

    def _forget(self) -> None:
        """Continue after a line that cannot be used, without blaming the next record for it."""
        self._seq += 1
        self._prev = ""
        self._last_id = None

    def _report(self, code: str, message: str, record: AnyRecord) -> None:
        where = Place(record.id, self.stream, record.stream.number, self.lines)
        self._findings.add(_RECORDS, code, message, where)
