"""Steps 3 to 5 for one stream of a ledger: its heads, its records, its intents and outcomes."""

from array import array
from binascii import hexlify
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Final, NamedTuple, TypeAlias, cast, final

import orjson

from agent_identity.audit.batches import Batch
from agent_identity.audit.calls_check import Calls, CallsPart
from agent_identity.audit.findings import Findings, Place, counted
from agent_identity.audit.log_check import Heads
from agent_identity.audit.noting import Note, Noted
from agent_identity.audit.patterns import place_of
from agent_identity.audit.stream_growth import Growth
from agent_identity.canonical import decode_record
from agent_identity.evidence.excerpt import Start
from agent_identity.evidence.lines import Block, Line, are_records, record_of
from agent_identity.evidence.merkle import HASH_SIZE, leaf_hash
from agent_identity.evidence.pruned import Pruned
from agent_identity.evidence.streams import RawLine, raw_line

__all__ = ["StreamCheck", "StreamPart", "Visit"]

Visit: TypeAlias = Callable[[Mapping[str, object], bytes], None]
"""Is shown each record that stands where it belongs, with its leaf hash."""

_HEADS: Final = 3
_RECORDS: Final = 4
_CALL: Final = b',"decision":{'  # All calls have this member.
_KIND: Final = b'"kind":"'
_OF_TASK: Final = b'{"agent":{'  # Then no other kind comes before that of the record.
_APART: Final = (b'grant"', b'task_start"', b'task_end"')  # What these say does not depend on the calls before them.


class StreamPart(NamedTuple):
    """What was found in a part of a stream in which nothing is to be reported, for the one who merges the parts.

    Attributes:
        first: The place of its first record, as that says.
        prev: The leaf hash of the record before, in hex, as the first record says.
        last: The place of its last record.
        last_hash: The leaf hash of that, in hex.
        last_id: Its id.
        ended: Whether it states the end of the stream.
        leaves: The leaf hashes of the records.
        times: When they began, in nanoseconds since the Unix epoch, 8 bytes each.
        kinds: How many there are of each kind.
        calls: What they say about calls.
        noted: What is noted of each record, if that was asked for.
    """

    first: int
    prev: bytes
    last: int
    last_hash: bytes
    last_id: bytes | None
    ended: bool
    leaves: bytes
    times: bytes
    kinds: Mapping[str, int]
    calls: CallsPart
    noted: bytes = b""


@final
class StreamCheck:
    """Reads one stream, line by line.

    Attributes:
        stream: The id of the stream.
        pruned: The number of records before the first one that is there.
        end: In an excerpt, the place of the last one that is given or withheld.
        withheld: The number of records of which only the leaf hash is given.
        lines: The number of lines so far, torn ones not counted.
        committed: The number of records that the log commits to.
        torn: Whether the file ends inside a line.
        ended: Whether the stream states its end.
        note: Takes each record that stands where it belongs, if that is asked for.
    """

    def __init__(
        self,
        stream: str,
        heads: Heads | None,
        findings: Findings,
        calls: Calls,
        visit: Visit | None,
        *,
        period: tuple[int, int] | None = None,
        start: Pruned | Start | None = None,
    ) -> None:
        self.stream = stream
        self.pruned = 0 if start is None else start.size
        self.end = start.end if isinstance(start, Start) else None
        self.lines = self.withheld = 0
        committed = heads.last_size if heads else 0
        # Of a stream that is given in part, what stands behind that part is nobody's business here.
        self.committed = calls.committed = committed if self.end is None else min(self.end, committed)
        self.torn = False
        self.ended = False
        self.note: Noted | Note | None = None
        self._name = stream.encode()
        self._findings = findings
        self._calls = calls
        self._visit = visit
        self._kinds: Counter[str] = Counter()
        self._growth = Growth(heads, start, period)
        self._batch = Batch(self._name, calls.use_of)
        self._derivable = True
        self._seq = self.pruned
        # Of the record before, in hex; nothing if that is not known, or there is none.
        self._prev = b"" if start is None else hexlify(start.last)
        self._last_id: bytes | None = None
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
        """The earliest one."""
        return self._growth.earliest_ns

    @property
    def within(self) -> int:
        """The number of these records that begin in the period that was asked for."""
        return self._growth.within

    def take(self, line: RawLine) -> None:
        """Check the next line."""
        data = line.record
        if data is None:
            self._take_broken(line)
            return
        known = None
        if self._prev and not self.ended:  # No call has an empty hash in its place.
            known = self._calls.recognise(data, place_of(self._name, self._prev, self._seq + 1))
        if known is None:
            self._take_unknown(data)
        else:
            self.lines += 1
            leaf = leaf_hash(data)
            self._growth.leaves.append(leaf)
            self._seq += 1
            self._prev = hexlify(leaf)
            said, use = known
            self._last_id = said[1]
            self._kinds[said[0].kind] += 1
            self._growth.times.append(self._calls.take_known(said, use, self.stream, self._seq))
            if self.note is not None:
                self.note.one(said[1], said[0].kind, leaf, self._seq)
            if self._visit is not None:
                self._visit(orjson.loads(data), leaf)
        self._look()

    def take_block(self, block: Block) -> None:
        """Check the next lines; as :meth:`take` does for each, but with less ado about calls like earlier ones."""
        if self._visit is not None or block.torn:
            for line in block.each():
                self.take(raw_line(line))
            return
        rest = 0
        while rest < len(block.lines):
            rest = self._take_calls(block.lines, rest)
            if rest < len(block.lines):
                self.take(raw_line(Line(block.offset, block.end, block.lines[rest], torn=False)))
                rest += 1

    def take_apart(self, block: Block) -> None:
        """Check the next lines of a part; what was done in calls is checked when they are settled.

        Raises:
            ValueError: A call has not the form of a record.
        """
        lines = block.lines
        if block.torn or not are_records(lines):
            self.settle_calls()
            self.take_block(block)
            return
        rest = 0
        while rest < len(lines):
            line = lines[rest]
            if _CALL in line and not self.ended:
                rest += self._cut_calls(lines[rest:] if rest else lines)
                if rest == len(lines):
                    break
                line = lines[rest]
            apart = line.startswith(_OF_TASK, 83) and line.startswith(_APART, line.find(_KIND) + len(_KIND))
            if not apart or _CALL in line:
                self.settle_calls()  # It may have to do with the calls before it.
            self._take_unknown(line[83:-1])
            rest += 1

    def _cut_calls(self, lines: Sequence[bytes]) -> int:
        """Take calls in their places, up to the first line that may be something else; return how many."""
        growth = self._growth
        number, self._prev = self._batch.take(lines, self._seq, self._prev, growth.leaves)
        self._seq += number
        self.lines += number
        growth.times += [0] * number  # Until they are settled.
        if isinstance(self.note, Noted):
            self.note.wait(number)
        return number

    def settle_calls(self) -> None:
        """Check what was done in the calls that were cut.

        Raises:
            ValueError: A call has not the form of a record.
        """
        cuts, times = self._batch.cuts, self._growth.times
        if cuts:
            taken = self._calls.take_batch(self._batch, self.stream)
            first = self._seq + 1 - len(times)
            for cut, time in zip(cuts, taken.times, strict=True):
                times[cut[1] - first] = time
            self._kinds.update(taken.kinds)
            if isinstance(self.note, Noted):
                self.note.settle([self._seq - cut[1] for cut in cuts], taken.ids, taken.kinds)
            if cuts[-1][1] == self._seq:
                self._last_id = taken.ids[-1]

    def _take_calls(self, lines: Sequence[bytes | None], rest: int) -> int:  # budget: the loop that takes all the time
        """Check calls like earlier ones; return the number of the first line that may be something else."""
        recognise, take_known, growth, kinds = self._calls.recognise, self._calls.take_known, self._growth, self._kinds
        stream, name, seq, prev, leaves, times = (
            self.stream,
            self._name,
            self._seq,
            self._prev,
            growth.leaves,
            growth.times,
        )
        note = None if self.note is None else self.note.one
        begun, room = rest, min(len(lines), rest + growth.room)
        if self.ended or not prev:
            room = rest
        while rest < room:
            data = record_of(lines[rest])
            known = None if data is None else recognise(data, place_of(name, prev, seq + 1))
            if data is None or known is None:
                break
            rest += 1
            seq += 1
            leaf = leaf_hash(data)
            leaves.append(leaf)
            prev = hexlify(leaf)
            said, use = known
            kinds[said[0].kind] += 1
            times.append(take_known(said, use, stream, seq))
            self._last_id = said[1]
            if note is not None:
                note(said[1], said[0].kind, leaf, seq)
        self._seq, self._prev = seq, prev
        self.lines += rest - begun
        self._look()
        return rest

    @property
    def size(self) -> int:
        """The number of records so far, what was pruned included."""
        return self.pruned + self.lines

    def begin(self, first: int, prev: bytes) -> None:
        """Begin with a later record than the first.

        Args:
            first: Its place.
            prev: The leaf hash of the record before it, in hex.
        """
        self._seq, self._prev = first - 1, prev

    @property
    def waiting(self) -> int:
        """How many leaf hashes were not handed over."""
        return len(self._growth.leaves)

    def hand_over(self, leaves: bytearray, times: "array[int]") -> None:
        """Settle the calls, and give away leaf hashes and times instead of growing a tree.

        Raises:
            ValueError: A call has not the form of a record.
        """
        self.settle_calls()
        leaves += b"".join(self._growth.leaves)
        times.extend(self._growth.times)
        self._growth.leaves.clear()
        self._growth.times.clear()

    def shipped(self, first: int, prev: bytes, leaves: bytes, times: bytes, calls: CallsPart) -> StreamPart:
        """Return what was found, with what was given away."""
        noted = bytes(self.note.packed) if isinstance(self.note, Noted) else b""
        kinds = dict(self._kinds)
        return StreamPart(
            first, prev, self._seq, self._prev, self._last_id, self.ended, leaves, times, kinds, calls, noted
        )

    def merge(self, part: StreamPart) -> bool:
        """Take over what was found in the next part of the stream; return whether that is possible.

        It is not if the part does not follow, or if anything would have to be reported; then nothing is changed.

        Args:
            part: A part in which nothing was found to report.
        """
        if not self._derivable or self.ended or (part.first, part.prev) != (self._seq + 1, self._prev):
            return False
        leaves = [part.leaves[at : at + HASH_SIZE] for at in range(0, len(part.leaves), HASH_SIZE)]
        growth = self._growth.grown(leaves, array("Q", part.times).tolist())
        if growth is None or not self._calls.merge(part.calls):
            return False
        if self.note is not None and not isinstance(self.note, Noted):
            self.note.part(part.first, part.noted, part.leaves)
        self._growth = growth
        self.lines += len(leaves)
        self._seq, self._prev, self._last_id = part.last, part.last_hash, part.last_id
        self.ended = part.ended
        self._kinds.update(part.kinds)
        return True

    def finish(self) -> None:
        """Say what can only be said once all lines are read."""
        if self.size < self.committed:
            self._findings.add(
                _HEADS,
                "records_cut",
                f"expected {counted(self.committed, 'record')}, which the log commits to, got {self.size:,}; "
                "some were removed",
                Place(stream=self.stream, seq=self.size + 1),
            )
        elif self.end is not None and self.proved != self.end:
            # Whoever made the excerpt chose where it ends, and only a head proves what comes before its own size.
            self._findings.add(
                _HEADS,
                "bad_excerpt",
                f"expected an excerpt that ends at a head of the log, got one that ends at record {self.end:,}; "
                "nothing proves its last records",
                Place(stream=self.stream, seq=self.proved + 1),
            )
        self._findings.kinds.update(self._kinds)
        self._calls.end_of_stream()

    def _take_unknown(self, data: bytes) -> None:
        """Take a record through all checks."""
        self.lines += 1
        leaf = leaf_hash(data)
        self._growth.leaves.append(leaf)
        try:
            record = self._calls.reader.read(data)
        except ValueError as error:
            self._reject(str(error), data)
            return
        if self._follows(cast("dict[str, str]", record["stream"])) or self._explain(record, leaf):
            self._accept(record, data, leaf)

    def _accept(self, record: dict[str, object], data: bytes, leaf: bytes) -> None:
        if self.ended:
            self._report("after_end", "expected nothing after the end of the stream, got a record", record)
        self._advance(leaf)
        kind = cast("str", record["kind"])
        self._last_id = cast("str", record["id"]).encode()
        self._kinds[kind] += 1
        self._growth.times.append(int(cast("dict[str, str]", record["time"])["start"]))
        self._calls.take(record, data, self.stream, self._seq)
        if self.note is not None:
            self.note.one(self._last_id, kind, leaf, self._seq)
        if kind == "stream_end":
            self._end(record)
        if self._visit is not None:
            self._visit(record, leaf)

    def _advance(self, leaf: bytes) -> None:
        self._seq += 1
        self._prev = hexlify(leaf)

    def _follows(self, place: Mapping[str, str]) -> bool:
        """Return whether a record stands right behind the one before it, as far as that is known."""
        return (
            place["id"] == self.stream
            and place["seq"] == str(self._seq + 1)
            and (not self._prev or place.get("prev", "").encode() == self._prev)
        )

    def _end(self, record: Mapping[str, object]) -> None:
        self.ended = True
        stated = cast("dict[str, str]", record["end"])["size"]
        if stated != str(self._seq):
            message = f"expected the stream to end with {counted(int(stated), 'record')}, got {self._seq}"
            self._report("missing_records", message, record)

    def _look(self) -> None:
        growth = self._growth
        if growth.look(derivable=self._derivable):
            return
        self._findings.add(
            _HEADS,
            "head_mismatch",
            f"expected the records {self.sealed + 1} to {growth.expected} as the log commits to them, got others",
            Place(stream=self.stream, seq=self.sealed + 1),
        )
        growth.give_up()

    def _explain(self, record: Mapping[str, object], leaf: bytes) -> bool:
        """Say why a record does not follow the one before; return whether it takes the next place."""
        place = cast("dict[str, str]", record["stream"])
        if place["id"] != self.stream:
            self._report("wrong_stream", "expected records of this stream, got one of another", record)
            return False
        seq, expected = int(place["seq"]), self._seq + 1
        if seq < expected:
            if hexlify(leaf) == self._prev:
                self._report("duplicate_record", "expected each record once, got one again", record)
            else:
                self._report("out_of_order", f"expected record {expected}, got record {seq} inserted or moved", record)
            return False
        if seq > expected:
            self._report("missing_records", f"expected record {expected}, got record {seq}; some were removed", record)
            self._seq = seq - 1
        else:
            message = f"record {expected} continues another record {self._seq} than is here; one of the two was changed"
            self._findings.add(_RECORDS, "changed_record", message, self._place_before())
        return True

    def _place_before(self) -> Place:
        identifier = self._last_id.decode() if self._last_id else None
        return Place(identifier, self.stream, self._seq)

    def _take_broken(self, line: RawLine) -> None:
        if line.problem == "torn":
            self.torn = True
            return
        if line.problem == "withheld" and self.end is not None:
            self._take_withheld(bytes.fromhex(line.mac or ""))
            return
        if line.problem == "unreadable":
            if line.offset or self.committed:
                self._findings.add(
                    _RECORDS,
                    "unreadable",
                    "expected the lines of the stream, got a file that cannot be read",
                    Place(stream=self.stream, line=self.lines + 1),
                )
            return
        self.lines += 1
        self._derivable = False
        place = Place(stream=self.stream, seq=self._seq + 1, line=self.lines)
        if self.size <= self.committed:
            self._findings.add(_RECORDS, "malformed_line", "expected a record in this line, got other bytes", place)
        else:
            self._findings.add(7, "malformed_tail", "after the last seal, expected a record, got other bytes", place)
        self._forget()

    def _take_withheld(self, leaf: bytes) -> None:
        """Take the place of a record that is not shown; its hash is proved all the same."""
        self.lines += 1
        self.withheld += 1
        self._growth.leaves.append(leaf)
        self._advance(leaf)
        self._last_id = None
        self._look()

    def _reject(self, message: str, data: bytes) -> None:
        """Report a record that is none, and go on as if it were the one that belongs here."""
        identifier: object = None
        with suppress(ValueError):
            identifier = decode_record(data).get("id")
        self._findings.add(
            _RECORDS,
            "malformed_record",
            message,
            Place(identifier if isinstance(identifier, str) else None, self.stream, self._seq + 1, self.lines),
        )
        self._forget()

    def _forget(self) -> None:
        """Go on after a line that cannot be used, so that the next record is not blamed for it."""
        self._seq += 1
        self._prev = b""
        self._last_id = None

    def _report(self, code: str, message: str, record: Mapping[str, object]) -> None:
        place = cast("dict[str, str]", record["stream"])
        where = Place(cast("str", record["id"]), self.stream, int(place["seq"]), self.lines)
        self._findings.add(_RECORDS, code, message, where)
