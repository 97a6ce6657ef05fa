"""A ledger that is verified in parts, in other processes, gives the report that it gives in one piece."""

import json
import os
import random
import sys
from array import array
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from agent_identity.audit import check
from agent_identity.audit.calls_check import Calls
from agent_identity.audit.chain_check import Delegations
from agent_identity.audit.findings import Findings, Place
from agent_identity.audit.overflow import Overflow
from agent_identity.audit.parts import Found, PartReader, Parts, Work, read_work
from agent_identity.audit.spreading import here, processes
from agent_identity.audit.stream_check import StreamCheck, StreamPart
from agent_identity.audit.stream_growth import Growth
from agent_identity.audit.uses import Use
from agent_identity.authority import Scope, token_hash
from agent_identity.enforcement import Enforcer
from agent_identity.errors import ConfigurationError, Denied
from agent_identity.identity import Agent, Human

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parents[2] / "adversarial"))

import surgeries
from audit_in_parts import merged

from agent_identity.evidence.merkle import leaf_hash, root_of
from agent_identity.evidence.sealing import Sealing
from agent_identity.evidence.segments import Piece
from agent_identity.evidence.streams import LedgerReader

__all__ = ["merged"]

ROWS = [(table, name) for table, rows in surgeries.TABLES.items() for name in rows]
ALICE, CLERK = Human("alice@example.com"), Agent("clerk", owner="finance@example.com")


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[surgeries.Patient]:
    """The ledger under the knife."""
    ensure = Sealing._ensure_thread
    yield surgeries.patient_in(tmp_path_factory.mktemp("surgery"))
    Sealing._ensure_thread = ensure  # type: ignore[method-assign]


@pytest.mark.parametrize(("table", "name"), ROWS)
def test_after_any_surgery_the_parts_find_what_the_whole_finds(
    patient: surgeries.Patient, merged: list[bool], table: str, name: str
) -> None:
    """The two reports are equal to the last word, or the fixture raises; and the verdict is that of the table."""
    places = surgeries.places(patient, table)
    where = random.Random(f"{name} in parts").choice(places)  # noqa: S311
    assert surgeries.judge(patient, table, name, where) in (None, "not here")


def test_clean_ledgers_are_merged_from_parts(patient: surgeries.Patient, merged: list[bool]) -> None:
    """Most streams are taken over whole, so that the comparisons compare something."""
    assert check(patient.directory, surgeries.clean.TRUST).exit_code == 0
    assert merged.count(True) >= 2


def run(directory: Path) -> None:
    """Make a ledger with a few tasks and every way in which calls end."""
    with Enforcer.open(directory) as enforcer:
        for number in range(4):
            with enforcer.task("t", principal=ALICE, agent=CLERK, scope=Scope("pay", amount=1)):
                for amount in (1, 2, 1):
                    with suppress(Denied, KeyError), enforcer.action("pay", amount=amount):
                        if number == 2:
                            raise KeyError


def test_real_processes_find_the_same(tmp_path: Path) -> None:
    """With two processes the report is that of one, for a sound ledger and for one that was changed."""
    run(tmp_path / "e")
    (path,) = (tmp_path / "e" / "ledger").glob("*/entries.jsonl")
    for _ in range(2):
        assert check(tmp_path / "e", processes=2) == check(tmp_path / "e")
        path.write_bytes(path.read_bytes().replace(b'"pay"', b'"bay"', 1))
    assert check(tmp_path / "e", processes=2).exit_code == 1


@pytest.mark.parametrize(
    "stream",
    [
        b'"seq":"%s"' % (b"9" * 4300),
        b'"seq":"%s"' % (b"9" * 20),
        b'"seq":"0"',
        b'"seq":"01"',
        b'"seq":"1 "',
        b'"seq":"\xd9\xa1"',
        b'"seq":1',
        b'"prev":"\\ud800","seq":"1"',
        b'"prev":"%s","seq":"1"' % (b"0" * 63),
        b'"prev":["x"],"seq":"1"',
    ],
)
def test_a_place_that_is_none_is_reported_by_parts_as_well(tmp_path: Path, merged: list[bool], stream: bytes) -> None:
    """The first record of a part may say anything about its place: the report is that of a plain run."""
    run(tmp_path / "e")
    (path,) = (tmp_path / "e" / "ledger").glob("*/entries.jsonl")
    path.write_bytes(path.read_bytes().replace(b'"seq":"1"', stream, 1))
    assert check(tmp_path / "e").exit_code == 1  # The fixture compares.


def test_a_fault_in_reading_a_part_has_it_read_in_its_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever happens while a part is read, the lines are read once more, and no process falls over them."""
    piece = Piece(str(tmp_path / "missing"), 0, 0, None)
    work = Work("01a", piece, 0, False)
    assert read_work(work) == (work, None)
    monkeypatch.setattr(PartReader, "take", lambda *_: 1 // 0)
    assert read_work(work) == (work, None)


def lose_a_process() -> None:
    """Have a process end by itself."""
    with processes(2) as spread:
        assert spread is not None
        list(spread(os._exit, [1]))


def test_a_process_that_is_killed_is_no_verdict() -> None:
    """If a process dies, nothing is verified, and the message says how to go on."""
    with pytest.raises(ConfigurationError, match="one process"):
        lose_a_process()


def test_the_number_of_processes_is_none_below_zero() -> None:
    """A negative number is refused."""
    with pytest.raises(ConfigurationError, match="from 0 on"), processes(-1):
        pass


@pytest.mark.parametrize("number", [1.5, "2", None])
def test_the_number_of_processes_is_whole(tmp_path: Path, number: object) -> None:
    """Anything else is refused with words."""
    with pytest.raises(TypeError, match=r"processes=.*expected int"):
        check(tmp_path, processes=number)  # type: ignore[arg-type]


def test_the_earliest_time_does_not_depend_on_the_chunks() -> None:
    """A record that began with the epoch is the earliest, however many are added at once."""
    for chunks in ([[0, 5, 6]], [[0], [5], [6]], [[5], [0], [6]]):
        times = [time for chunk in chunks for time in chunk]
        leaves = [leaf_hash(b"%d" % time) for time in times]
        head = (len(leaves), root_of(leaves))
        growth = Growth(None, None, (0, 10))
        growth._heads, growth.expected, growth._root = iter(()), *head
        for chunk in chunks:
            growth.leaves += [leaf_hash(b"%d" % time) for time in chunk]
            growth.times += chunk
            if chunk is chunks[-1]:
                assert growth.look()
            growth.grow()
        assert (growth.earliest_ns, growth.latest_ns, growth.within) == (0, 6, 3)


def test_a_use_that_was_moved_to_the_disk_is_not_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    """To look for another use may move the last one away; it is looked up again, whether the other one fits or not."""
    findings = Findings("ledger", ())
    delegations = Delegations(findings, 0, None, part=True)
    calls = Calls(findings, delegations, part=True)
    other = SimpleNamespace(context=SimpleNamespace(agent=b'"agent":{"id":"other"},'))
    record = b'{"action":{},"agent":{"id":"x"},"chain":[{"grant":"%s"}],"decision":{}}' % (b"a" * 64)
    for found in (None, other):
        calls._use = SimpleNamespace(context=SimpleNamespace(agent=b'"agent":{"id":"last"},'))  # type: ignore[assignment]
        monkeypatch.setattr(Delegations, "find", lambda *_, found=found: found)
        assert calls.recognise(record, b"") is None
        assert calls._use is None


def test_what_overflows_keeps_its_order_and_its_latest_value() -> None:
    """A value takes the place of an earlier one with its key, and rows come in the order of their numbers."""
    kept = Overflow()
    assert (len(kept), kept.get(b"a"), kept.pop(b"a"), list(kept.rows())) == (0, None, None, [])
    kept.put([(b"b", 2, b"two"), (b"a", 1, b"one")])
    kept.put([(b"a", 3, b"three"), (b"c", 0, b"zero")])
    assert list(kept.rows()) == [(b"c", b"zero"), (b"b", b"two"), (b"a", b"three")]
    assert (kept.pop(b"b"), kept.pop(b"b"), len(kept)) == ((2, b"two"), None, 2)


def test_a_disk_without_room_is_no_verdict() -> None:
    """Where temporary files cannot grow, the message says which folder has to."""
    kept = Overflow()
    kept.put([(b"a", 1, b"one")])
    kept._file().execute("PRAGMA max_page_count = 1")
    with pytest.raises(ConfigurationError, match="TMPDIR"):
        kept.put((b"%d" % n, n, b"x" * 1000) for n in range(1000))


def test_of_two_spellings_of_a_grant_the_later_one_counts_in_a_part_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    """Grants with another signature have the same hash, and only one of them verifies; wherever they are kept."""
    monkeypatch.setattr("agent_identity.audit.chain_check._MAX_TOKENS", 1)
    findings = Findings("ledger", ())
    tokens = ["e.first.AAAA", "e.other.AAAA", "e.first.BBBB"]
    leaf = token_hash(tokens[0])
    part, whole, merged = (Delegations(findings, 6, None, part=part) for part in (True, False, False))
    for token in tokens:
        for delegations in (part, whole):
            delegations.add_grant(token, token_hash(token), Place())
    assert merged.merge(*part.shipped())
    assert merged._token(leaf) == whole._token(leaf) == tokens[-1]


class Merging:
    """A reader of ledgers and a check of a stream that merge what they are given, and note it."""

    def __init__(self, found: Sequence[tuple[Piece, Found | None]], *, refused: tuple[object, ...] = ()) -> None:
        self.stream = "b"
        self.refused = refused
        self.given = found
        self.asked: list[tuple[str, int, int]] = []
        self.merged: list[object] = []
        self.told: list[int] = []

    def pieces(self, stream: str, *, start: int, most: int) -> tuple[Piece, ...]:
        """Return the pieces of a stream."""
        self.asked.append((stream, start, most))
        return tuple(piece for piece, _ in self.given) if stream == "b" else ()

    def merge(self, part: object) -> bool:
        """Merge a part, unless it is to be refused."""
        self.merged.append(part)
        return part not in self.refused

    def parts(self, *, pruned: bool = False) -> Parts:
        """Return the parts of a ledger with three streams, in the second of which all pieces are."""
        results = dict(self.given)

        def read(work: Work) -> tuple[Work, Found | None]:
            assert work == Work("b", work.piece, 20, pruned)
            return work, results[work.piece]

        sizes, starts = {"a": 10, "b": 20, "c": 30}, {"b": 4}
        return Parts(cast("LedgerReader", self), here, sizes, starts, pruned=pruned, read=read)

    def merge_into(self, parts: Parts) -> int:
        """Merge the parts of the stream whose turn it is."""
        return parts.merge_into(cast("StreamCheck", self), self.told.append)

    def run(self) -> tuple[int, bool, str]:
        """Merge the stream; return how many bytes, whether that is all of it, and which parts were tried."""
        parts = self.parts()
        done = self.merge_into(parts)
        return done, parts.whole, "".join(map(str, self.merged))


def plain(start: int, stop: int, size: int, path: str = "p") -> Piece:
    """Return a piece of a plain file."""
    return Piece(path, size, start, stop)


def part(start: int, end: int, name: str | None) -> Found:
    """Return what was found in lines."""
    return Found(start, end, cast("StreamPart | None", name))  # Nobody looks into it.


HALVES = [(plain(0, 5, 10), part(0, 6, "x")), (plain(5, 10, 10), part(6, 10, "y"))]
PACKED = (Piece("z", 7, 0, None), part(0, 99, "z"))
NEXT = (plain(0, 3, 3, "q"), part(0, 3, "q"))


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (HALVES, (10, True, "xy")),
        ([*HALVES, NEXT], (13, True, "xyq")),
        ([PACKED, *HALVES], (17, True, "zxy")),
        ([*HALVES, PACKED], (17, True, "xyz")),
        ([(plain(0, 5, 12), part(0, 12, "x")), (plain(5, 12, 12), part(0, 0, None)), NEXT], (8, True, "xq")),
        ([], (0, False, "")),
        ([(HALVES[0][0], None), HALVES[1], NEXT], (0, False, "")),
        ([HALVES[0], (HALVES[1][0], None), NEXT], (5, False, "x")),
        ([(HALVES[0][0], part(1, 6, "x")), HALVES[1]], (0, False, "")),
        ([HALVES[0], (HALVES[1][0], part(7, 10, "y")), NEXT], (5, False, "x")),
        ([HALVES[0], (HALVES[1][0], part(5, 10, "y")), NEXT], (5, False, "x")),
        ([HALVES[0], (HALVES[1][0], part(6, 9, "y"))], (10, False, "xy")),
        ([HALVES[0], (HALVES[1][0], part(6, 9, "y")), NEXT], (10, False, "xy")),
        ([HALVES[0], (HALVES[1][0], part(6, 11, "y")), NEXT], (13, True, "xyq")),
        ([HALVES[0], (HALVES[1][0], part(0, 0, None))], (5, False, "x")),
        ([HALVES[0], (HALVES[1][0], part(0, 0, None)), NEXT], (5, False, "x")),
        ([*HALVES, (NEXT[0], part(1, 3, "q"))], (10, False, "xy")),
    ],
)
def test_no_byte_is_left_out_between_parts(
    found: Sequence[tuple[Piece, Found | None]], expected: tuple[int, bool, str]
) -> None:
    """Parts are merged up to the first gap, and a stream is whole only if they reach the end of each file."""
    merging = Merging(found)
    assert merging.run() == expected
    assert merging.told == sorted(set(merging.told))
    assert merging.told[-1:] == ([expected[0]] if expected[0] else [])


def test_behind_a_part_that_is_refused_none_is_merged() -> None:
    """What it would have said is read in its order, and so is all behind it."""
    for refused, expected in (("x", (0, False, "x")), ("y", (5, False, "xy")), ("q", (10, False, "xyq"))):
        assert Merging([*HALVES, NEXT, PACKED], refused=(refused,)).run() == expected


def test_parts_belong_to_one_stream() -> None:
    """Streams without parts are read in their order; those with parts are merged when it is their turn."""
    merging = Merging(HALVES)
    parts = merging.parts(pruned=True)
    for name, done, whole in (("a", 0, False), ("b", 10, True), ("c", 0, False), ("b", 0, False)):
        merging.stream = name
        assert merging.merge_into(parts) == done
        assert parts.whole == whole
    assert merging.asked == [("a", 1, 8 * 1024 * 1024), ("b", 5, 8 * 1024 * 1024), ("c", 1, 8 * 1024 * 1024)]
    assert merging.told == [5, 10]


def test_a_part_says_where_its_lines_are(tmp_path: Path) -> None:
    """From the first byte of the first line to the end of the last one; of a piece without any, nothing."""
    run(tmp_path / "e")
    (path,) = (tmp_path / "e" / "ledger").glob("*/entries.jsonl")
    lines = path.read_bytes().splitlines(keepends=True)
    size, ends = path.stat().st_size, [len(b"".join(lines[:number])) for number in range(len(lines) + 1)]
    for noted in (False, True):
        work = Work(path.parent.name, Piece(str(path), size, ends[3] - 1, ends[6] - 1), 0, False)
        _, found = read_work(work, noted=noted)
        assert found is not None
        assert found.part is not None
        assert (found.start, found.end) == (ends[3], ends[6])
        assert (found.part.first, found.part.last, len(found.part.noted)) == (4, 6, 17 * 3 * noted)
        leaves = [leaf_hash(line[83:-2]) for line in lines[2:6]]
        assert (found.part.prev, found.part.leaves) == (leaves[0].hex().encode(), b"".join(leaves[1:]))
        times = [int(json.loads(line[83:-2])["time"]["start"]) for line in lines[3:6]]
        assert found.part.times == array("Q", times).tobytes()
    empty = work._replace(piece=Piece(str(path), size, ends[3] + 1, ends[3] + 2))
    assert read_work(empty) == (empty, Found(0, 0, None))


@pytest.mark.parametrize(("committed", "outcomes"), [(0, {}), (99, {"success": 1})])
def test_a_part_counts_the_outcomes_that_the_log_commits_to(
    tmp_path: Path, committed: int, outcomes: dict[str, int]
) -> None:
    """How much the log knows, and whether records were pruned, is for the whole ledger to say."""
    with (
        Enforcer.open(tmp_path / "e") as enforcer,
        enforcer.task("t", principal=ALICE, agent=CLERK, scope=Scope("pay", amount=1)),
        enforcer.action("pay", amount=1),
    ):
        pass
    (path,) = (tmp_path / "e" / "ledger").glob("*/entries.jsonl")
    piece = Piece(str(path), path.stat().st_size, 0, path.stat().st_size)
    for pruned in (False, True):
        _, found = read_work(Work(path.parent.name, piece, committed, pruned))
        assert found is not None
        assert found.part is not None
        assert found.part.calls.outcomes == outcomes
        assert found.part.ended
        (use,) = (Use.unpacked(packed.data) for packed in found.part.calls.uses)
        assert use.events is not None
        assert [event and event[2] for event in use.events] == [None, pruned]


def test_of_a_part_in_which_something_is_wrong_nothing_is_returned(tmp_path: Path) -> None:
    """It is not taken for a part without lines, of which there is nothing to say, and its lines are read again."""
    run(tmp_path / "e")
    (path,) = (tmp_path / "e" / "ledger").glob("*/entries.jsonl")
    data = path.read_bytes()
    work = Work(path.parent.name, Piece(str(path), len(data), 0, len(data)), 0, False)
    assert read_work(work)[1] is not None
    for changed in (data.replace(b'"pay"', b'"bay"', 1), data[:-1], data.replace(b'"mac"', b'"mad"', 1)):
        path.write_bytes(changed)
        whole = work._replace(piece=Piece(str(path), len(changed), 0, len(changed)))
        assert read_work(whole) == (whole, None)
