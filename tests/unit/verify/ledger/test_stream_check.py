"""Steps 3 and 4 for one stream, line by line: what is said of each line that is not as it was written."""

import pickle
from collections.abc import Sequence
from typing import Any

import pytest

from agent_identity._identity.common.encoding import b64url_encode
from agent_identity._identity.common.record_bytes import decode_record, encode_record
from agent_identity._ledger.excerpt_starts import Start
from agent_identity._ledger.reader import Problem, RawLine
from agent_identity._ledger.transparency.log import Head
from agent_identity._ledger.transparency.merkle import CompactRange, leaf_hash
from agent_identity._storage.lines import Block, stream_line
from agent_identity._verify.grants.chain_check import Delegations
from agent_identity._verify.ledger import _stream_growth as stream_growth
from agent_identity._verify.ledger._calls_check import Calls
from agent_identity._verify.ledger._stream_growth import Growth
from agent_identity._verify.ledger.log_check import Heads
from agent_identity._verify.ledger.record_check import CheckedBlock, CheckedRecord, check_block
from agent_identity._verify.ledger.stream_check import StreamCheck
from agent_identity._verify.report.findings import Findings
from agent_identity.records import AnyRecord, Registration, encode

STREAM, OTHER = (f"AaIOQ0bYcV-ScJHDCbiHE{letter}" for letter in "AQ")
BODY = {"agent": {"id": "clerk", "owner": "ops@example.com"}}


def record_id(seq: int) -> str:
    """Return the id of a record."""
    return f"AaIOQ0bYcV-ScJHD{seq:05}A"


def record(seq: int, prev: bytes | None = None, kind: str = "registration", **body: Any) -> bytes:
    """Return a record at its place, behind the one with this leaf hash."""
    place = {"id": STREAM, "seq": str(seq), **({} if prev is None else {"prev": b64url_encode(prev)})}
    given = BODY if kind == "registration" else {}
    head = {"v": "1", "id": record_id(seq), "kind": kind, "stream": place, "time": {"start": str(100 + seq)}}
    return encode_record({**head, **given, **body})


def chained(number: int) -> list[bytes]:
    """Return a stream of so many records, of which the first starts it and the last ends it."""
    found = [record(1, None, "stream_start", sdk={"name": "x", "version": "1"})]
    for seq in range(2, number):
        found.append(record(seq, leaf_hash(found[-1])))
    found.append(record(number, leaf_hash(found[-1]), "stream_end", end={"size": str(number)}))
    return found


def heads_over(records: Sequence[bytes], *sizes: int) -> Heads:
    """Return what the log commits to."""
    heads = Heads()
    for size in sizes:
        heads.add(Head(STREAM, size, CompactRange(map(leaf_hash, records[:size])).root(), 1))
    return heads


class Reading:
    """A stream that is read, and what was found."""

    def __init__(self, heads: Heads | None = None, **options: Any) -> None:
        self.findings = Findings("ledger", [str(step) for step in range(1, 9)])
        self.calls = Calls(self.findings, Delegations(self.findings, 6, None))
        self.visited: list[tuple[str, bytes]] = []
        self.stream = StreamCheck(STREAM, heads, self.findings, self.calls, options.pop("visit", self.visit), **options)

    def visit(self, seen: AnyRecord, leaf: bytes, _: object) -> None:
        """Note it."""
        self.visited.append((seen.id, leaf))

    def take(self, *lines: bytes | Problem) -> "Reading":
        """Take records, or lines that are none."""
        for line in lines:
            if isinstance(line, bytes):
                (block,) = check_block(Block(0, 0, [stream_line(bytes(32), line)[:-1]]))
                assert isinstance(block, CheckedBlock)
                self.stream.take(block.lines[0])
            else:
                self.stream.take(RawLine(7, None, "A" * 43, line, 5))
        return self

    @property
    def found(self) -> list[tuple[object, ...]]:
        """What was found: its kind, words and place."""
        report = self.findings.report()
        assert {problem.stream for problem in report.findings} <= {STREAM}
        return [(p.code, p.message, p.record, p.seq, p.line) for p in report.findings]

    @property
    def failed(self) -> set[int]:
        """The steps that failed."""
        return {step.number for step in self.findings.report().steps if step.status == "failed"}


FIVE = chained(5)
LEAVES = [leaf_hash(data) for data in FIVE]


def test_a_sound_stream_is_sealed_and_says_nothing() -> None:
    """Up to each head of the log, with the latest time, and in the period that was asked for."""
    reading = Reading(heads_over(FIVE, 2, 4), period=(102, 104))
    stream = reading.stream
    assert (stream.committed, reading.calls.committed, stream.size, stream.sealed, stream.proved) == (4, 4, 0, 0, 0)
    reading.take(*FIVE)
    stream.finish()
    assert (reading.found, stream.lines, stream.size, stream.sealed, stream.proved) == ([], 5, 5, 4, 4)
    assert (stream.latest_ns, stream.earliest_ns, stream.within) == (104, 101, 2)
    assert (stream.ended, stream.torn, stream.withheld, stream.pruned, stream.end) == (True, False, 0, 0, None)
    assert reading.findings.kinds == {"stream_start": 1, "registration": 3, "stream_end": 1}
    assert reading.visited == [(record_id(seq), LEAVES[seq - 1]) for seq in range(1, 6)]
    assert Reading().stream.committed == 0


def test_records_that_were_cut_are_counted() -> None:
    """Behind the last one that is there; what the log does not know is no matter here."""
    reading = Reading(heads_over(FIVE, 4)).take(*FIVE[:2])
    reading.stream.finish()
    words = "the stream has 2 of 4 records that the log commits to; some were removed"
    assert (reading.found, reading.failed) == ([("records_cut", words, None, 3, None)], {3})
    assert reading.findings.kinds == {"stream_start": 1, "registration": 1}
    reading = Reading(heads_over(FIVE, 1))
    reading.stream.finish()
    words = "the stream has 0 of 1 record that the log commits to; some were removed"
    assert reading.found == [("records_cut", words, None, 1, None)]


def test_other_records_than_the_log_commits_to_are_found() -> None:
    """Between which heads, once; later heads contain them, and say nothing more."""
    reading = Reading(heads_over(FIVE, 1, 3, 5))
    changed = record(2, LEAVES[0], time={"start": "7"})
    reading.take(FIVE[0], changed, record(3, leaf_hash(changed)))
    words = "the records 2 to 3 differ from those that the log commits to"
    assert (reading.found, reading.failed) == ([("head_mismatch", words, None, 2, None)], {3})
    reading.take(record(4, leaf_hash(record(3, leaf_hash(changed)))), FIVE[4])
    assert [problem[0] for problem in reading.found] == ["head_mismatch", "changed_record"]
    assert (reading.stream.sealed, reading.stream.latest_ns) == (1, 101)


def foreign(data: bytes, **place: str) -> bytes:
    """Return a record that names another place."""
    found: Any = decode_record(data)
    found["stream"] |= place
    return encode_record(found)


def test_a_record_of_another_stream_takes_no_place() -> None:
    """The record behind it stands where it would without it."""
    reading = Reading()
    reading.take(FIVE[0], foreign(FIVE[1], id=OTHER), *FIVE[1:])
    words = "the record is of another stream"
    assert (reading.found, reading.failed) == ([("wrong_stream", words, record_id(2), 2, 2)], {4})
    assert (reading.stream.lines, len(reading.visited)) == (6, 5)


def test_a_record_that_is_there_again_or_moved_takes_no_place() -> None:
    """The very same right behind itself is named a duplicate, any other an insertion."""
    reading = Reading()
    reading.take(*FIVE[:2], FIVE[1], FIVE[0], record(2, LEAVES[0], time={"start": "9"}), *FIVE[2:])
    moved = "record {} is in the place of record 3; it was inserted or moved"
    assert reading.found == [
        ("duplicate_record", "the record repeats the one before it", record_id(2), 2, 3),
        ("out_of_order", moved.format(1), record_id(1), 1, 4),
        ("out_of_order", moved.format(2), record_id(2), 2, 5),
    ]
    assert (reading.failed, reading.stream.ended) == ({4}, True)


def test_records_that_are_missing_are_named_by_the_one_behind_them() -> None:
    """It takes its place, and those behind it follow it."""
    reading = Reading()
    reading.take(FIVE[0], *FIVE[3:])
    words = "record 4 is in the place of record 2; some were removed"
    assert (reading.found, reading.failed) == ([("missing_records", words, record_id(4), 4, 2)], {4})


def test_a_record_that_was_changed_is_named_by_the_one_behind_it() -> None:
    """By its id, where that is known: it or the record that continues it is not what it was."""
    reading = Reading()
    changed = record(2, LEAVES[0], time={"start": "7"})
    reading.take(FIVE[0], changed, *FIVE[2:])
    words = "record 3 continues another record 2 than the one here; one of the two was changed"
    assert (reading.found, reading.failed) == ([("changed_record", words, record_id(2), 2, None)], {4})


def test_a_record_that_continues_none_is_found() -> None:
    """Only the first one of a stream has none before it."""
    reading = Reading()
    reading.take(*FIVE[:2], record(3))
    assert [problem[0] for problem in reading.found] == ["malformed_record"]
    assert reading.failed == {4}


def test_what_follows_the_end_or_states_another_is_found() -> None:
    """A record behind the end is named, whatever it is, and the end says how many there are."""
    reading = Reading()
    reading.take(*FIVE, record(6, LEAVES[4]))
    words = "a record follows the end of the stream"
    assert (reading.found, reading.failed) == ([("after_end", words, record_id(6), 6, 6)], {4})
    for size, stated in (("1", "1 record"), ("1200", "1,200 records")):
        reading = Reading()
        reading.take(*FIVE[:4], record(5, LEAVES[3], "stream_end", end={"size": size}))
        words = f"the end of the stream states {stated}, and it has 5"
        assert (reading.found, reading.stream.ended) == ([("missing_records", words, record_id(5), 5, 5)], True)


def test_a_line_that_is_no_record_is_named_and_the_next_is_not_blamed() -> None:
    """Where the log commits to it, it is a contradiction; behind the last seal something is missing."""
    for problem in ("malformed", "too_long", "withheld"):
        reading = Reading(heads_over(FIVE, 2)).take(FIVE[0], problem, FIVE[2], problem, FIVE[4])
        assert reading.found == [
            ("malformed_line", "this line is not a record", None, 2, 2),
            ("head_mismatch", "the records 1 to 2 differ from those that the log commits to", None, 1, None),
            ("malformed_tail", "a line after the last seal is not a record", None, 4, 4),
        ]
        assert (reading.stream.lines, reading.stream.sealed) == (5, 0)
    reading = Reading(heads_over(FIVE, 1)).take(FIVE[0], "malformed", FIVE[2])
    assert [problem[0] for problem in reading.found] == ["malformed_tail"]
    assert (reading.failed, reading.stream.sealed) == ({7}, 1)
    reading.take(record(4, b"x" * 32))
    words = "record 4 continues another record 3 than the one here; one of the two was changed"
    assert reading.found[0][:4] == ("changed_record", words, record_id(3), 3)


def test_a_record_of_no_form_is_named_and_the_next_is_not_blamed() -> None:
    """With its id, where it has one; it takes its place in the tree."""
    bad = encode_record({"id": record_id(2), "kind": "registration"})
    reading = Reading(heads_over([FIVE[0], bad], 2))
    reading.take(FIVE[0], bad, *FIVE[2:])
    ((code, words, *place),) = reading.found
    assert (code, place, reading.failed) == ("malformed_record", [record_id(2), 2, 2], {4})
    assert words.endswith(": missing member")
    assert (reading.stream.sealed, reading.stream.lines) == (2, 5)
    for data in (b"{}", b'{"id":["x"]}', b"{junk}"):
        reading = Reading()
        reading.take(FIVE[0], data)
        assert reading.found[0][2:] == (None, 2, 2)


def test_a_block_from_another_process_holds_the_same_records_with_equal_parts_shared() -> None:
    """Records and leaf hashes are those that were checked; malformed bytes come back whole, for the message."""
    bad = encode_record({"id": record_id(4), "kind": "registration"})
    lines = [stream_line(bytes(32), data)[:-1] for data in (*FIVE[:3], bad)]
    (block,) = check_block(Block(0, 9, lines))
    back = pickle.loads(pickle.dumps(block))  # noqa: S301
    assert isinstance(back, CheckedBlock)
    records = [line.record for line in back.lines if isinstance(line, CheckedRecord)]
    assert [None if one is None else encode(one) for one in records] == [*FIVE[:3], None]
    assert [line.leaf for line in back.lines if isinstance(line, CheckedRecord)] == [*LEAVES[:3], leaf_hash(bad)]
    _, second, third, _ = records
    assert isinstance(second, Registration)
    assert isinstance(third, Registration)
    assert second.agent is not None
    assert second.agent is third.agent
    malformed = back.lines[3]
    assert isinstance(malformed, CheckedRecord)
    assert (malformed.data, bool(malformed.problem)) == (bad, True)


def test_a_file_that_ends_or_fails_early_is_told_apart() -> None:
    """A torn line is noted; what cannot be read leaves the question open, unless there is nothing to miss."""
    reading = Reading(heads_over(FIVE, 2)).take(*FIVE[:2], "torn")
    assert (reading.found, reading.stream.torn, reading.stream.lines) == ([], 5, 2)
    words = "the file of the stream cannot be read; verify as a user who may read it"
    reading.take("unreadable")
    assert reading.found == [("unreadable", words, None, None, 3)]
    assert reading.stream.lines == 2
    for heads, expected in ((None, []), (heads_over(FIVE, 1), [("unreadable", words, None, None, 1)])):
        reading = Reading(heads)
        reading.stream.take(RawLine(0, None, None, "unreadable"))
        assert reading.found == expected
    reading = Reading()
    reading.findings.done(4, "")
    reading.take("unreadable")
    assert reading.found == [("unreadable", words, None, None, 1)]


def start_behind(size: int, end: int) -> Start:
    """Return where an excerpt begins."""
    before = CompactRange(LEAVES[:size])
    return Start(size, LEAVES[size - 1] if size else b"", before.peaks, end)


def test_an_excerpt_has_the_records_of_its_part() -> None:
    """Those that are withheld keep their place, and it ends at a head of the log."""
    reading = Reading(heads_over(FIVE, 2, 4, 5), start=start_behind(1, 4))
    stream = reading.stream
    assert (stream.pruned, stream.end, stream.committed, stream.size, stream.sealed) == (1, 4, 4, 1, 1)
    reading.take(FIVE[1])
    stream.take(RawLine(9, None, b64url_encode(LEAVES[2]), "withheld"))
    reading.take(FIVE[3])
    stream.finish()
    assert (reading.found, stream.lines, stream.withheld, stream.size, stream.sealed) == ([], 3, 1, 4, 4)
    assert len(reading.visited) == 2
    reading = Reading(heads_over(FIVE, 2, 5), start=start_behind(0, 3)).take(*FIVE[:3])
    reading.stream.finish()
    words = "the excerpt ends at record 3, where the log has no head; nothing proves its last records"
    assert (reading.found, reading.failed) == ([("bad_excerpt", words, None, 3, None)], {3})
    reading = Reading(heads_over(FIVE, 5), start=start_behind(2, 5)).take(record(3, b"x" * 32))
    assert [problem[:1] + problem[2:] for problem in reading.found] == [("changed_record", None, 2, None)]


def test_behind_a_record_that_is_withheld_none_is_named() -> None:
    """The one that is not shown has no id, and the next one continues it by its hash."""
    reading = Reading(heads_over(FIVE, 5), start=start_behind(0, 5)).take(FIVE[0])
    reading.stream.take(RawLine(9, None, "A" * 43, "withheld"))
    reading.take(FIVE[2])
    words = "record 3 continues another record 2 than the one here; one of the two was changed"
    assert reading.found == [("changed_record", words, None, 2, None)]


def test_many_records_grow_the_tree_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no head is near, so many wait."""
    monkeypatch.setattr(stream_growth, "_MANY", 2)
    times = [5, 3, 9, 1, 7]
    for sizes in ((), (5,), (1, 5), (9,)):
        heads = Heads()
        for size in sizes:
            heads.add(Head(STREAM, size, CompactRange(LEAVES[:size]).root() if size < 6 else b"x" * 32, 1))
        growth = Growth(heads, None, (3, 8))
        for leaf, time in zip(LEAVES, times, strict=True):
            growth.leaves.append(leaf)
            growth.times.append(time)
            assert growth.look()
            assert len(growth.leaves) < 2
        sealed = max((size for size in sizes if size < 6), default=0)
        known = times[:sealed]
        assert (growth.size, growth.sealed, growth.expected) == (5, sealed, 9 if 9 in sizes else 0)
        assert (growth.latest_ns, growth.earliest_ns) == (max(known, default=0), min(known, default=0))
        assert growth.within == sum(3 <= time < 8 for time in known)


def test_growth_begins_at_the_first_head_behind_what_is_gone() -> None:
    """A head over what is gone alone is compared at once, and smaller ones never."""
    heads = heads_over(FIVE, 1, 2, 4)
    growth = Growth(heads, start_behind(2, 4), None)
    assert (growth.size, growth.expected, growth.sealed) == (2, 2, 0)
    assert growth.look()
    assert (growth.sealed, growth.expected) == (2, 4)
    other = Growth(heads, Start(2, LEAVES[1], CompactRange(LEAVES[1:3]).peaks, 4), None)
    assert not other.look()
    assert not Growth(heads, start_behind(2, 4), None).look(derivable=False)
    other.give_up()
    assert other.look()
    assert (other.expected, other.sealed) == (0, 0)
    assert Growth(None, start_behind(2, 4), None).expected == 0
