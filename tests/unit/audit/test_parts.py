"""A ledger that is verified in parts, in other processes, gives the report that it gives in one piece."""

import os
import random
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest

from agent_identity.audit import check
from agent_identity.audit.calls_check import Calls
from agent_identity.audit.chain_check import Delegations
from agent_identity.audit.findings import Findings, Place
from agent_identity.audit.overflow import Overflow
from agent_identity.audit.parts import PartReader, Work, read_work
from agent_identity.audit.spreading import processes
from agent_identity.audit.stream_growth import Growth
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
def test_a_place_that_is_none_is_reported_by_parts_and_state_as_well(
    tmp_path: Path, merged: list[bool], stream: bytes
) -> None:
    """The first record of a part may say anything about its place: the report is that of a plain run."""
    run(tmp_path / "e")
    (path,) = (tmp_path / "e" / "ledger").glob("*/entries.jsonl")
    path.write_bytes(path.read_bytes().replace(b'"seq":"1"', stream, 1))
    assert check(tmp_path / "e").exit_code == 1  # The fixture compares.
    assert check(tmp_path / "e", state=tmp_path / "state") == check(tmp_path / "e")


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
    with pytest.raises(TypeError, match="expected a whole number of processes"):
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
