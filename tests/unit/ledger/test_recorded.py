"""What users read records by: typed, stream by stream, and with a clear refusal of what is none."""

from pathlib import Path

import pytest

from agent_identity import Agent, Denied, Enforcer, Human, Scope, records
from agent_identity._record.parts import Principal
from agent_identity.errors import ConfigurationError, EvidenceError


@pytest.fixture
def evidence(tmp_path: Path) -> Path:
    """Return a directory with one task, an allowed and a refused call, and a call outside any task."""
    with Enforcer.open(tmp_path / "evidence") as enforcer:

        @enforcer.tool
        def pay(amount: int) -> int:
            return amount

        scope = Scope("pay", amount=7)
        with enforcer.task("pay", principal=Human("alice"), agent=Agent("clerk", owner="boss"), scope=scope):
            pay(7)
            with pytest.raises(Denied):
                pay(8)
        with pytest.raises(Denied):
            pay(7)
    return tmp_path / "evidence"


def entries(evidence: Path) -> Path:
    """Return the file of the one stream."""
    return next(evidence.glob("ledger/*/entries.jsonl"))


def test_records_are_read_in_their_order_as_types(evidence: Path) -> None:
    """Each record is of the type of its kind; what it states are attributes, and what it does not state is None."""
    found = list(records.read(evidence))
    assert [type(record) for record in found] == [
        records.StreamStart,
        records.Grant,
        records.TaskStart,
        records.Intent,
        records.Outcome,
        records.Outcome,
        records.TaskEnd,
        records.Outcome,
        records.StreamEnd,
    ]
    assert [record.stream.number for record in found] == list(range(1, 10))
    intent, outcome, refused, outside = found[3], found[4], found[5], found[7]
    assert isinstance(intent, records.Intent)
    assert isinstance(outcome, records.Outcome)
    assert isinstance(refused, records.Outcome)
    assert isinstance(outside, records.Outcome)
    assert outcome.principal == Principal(id="alice", kind="human", provenance="asserted")
    assert (outcome.outcome, outcome.intent, outcome.error) == ("success", intent.id, None)
    assert (refused.outcome, refused.decision.argument, refused.intent) == ("denied", "amount", None)
    assert (outside.attribution, outside.task, outside.chain) == ("none", None, None)
    assert intent.time.start_ns <= (outcome.time.end_ns or 0)


def test_a_record_cannot_be_changed(evidence: Path) -> None:
    """Whoever holds a record holds what the ledger says."""
    record = next(records.read(evidence))
    with pytest.raises(AttributeError):
        record.v = "2"  # type: ignore[misc, assignment]


def test_what_is_no_record_is_refused_with_its_place(evidence: Path) -> None:
    """A line that was changed raises after the records before it, with a code, the stream and the place."""
    path = entries(evidence)
    lines = path.read_bytes().splitlines(keepends=True)
    lines[4] = lines[4].replace(b'"outcome":"success"', b'"outcome":"perfect"')
    path.write_bytes(b"".join(lines))
    reading = records.read(evidence)
    assert [next(reading).kind for _ in range(4)] == ["stream_start", "grant", "task_start", "intent"]
    with pytest.raises(EvidenceError, match=r"record 5: .*record\.outcome: not one of") as caught:
        next(reading)
    assert caught.value.code == "malformed_record"
    assert path.parent.name in str(caught.value)


def test_a_record_comes_with_the_detail_that_it_commits_to(evidence: Path) -> None:
    """The refused call of a task has one, and no record has one that it does not commit to."""
    lines = list(records.read_lines(evidence))
    assert [record for record, _ in lines] == list(records.read(evidence))
    refused = lines[5][1]
    assert refused is not None
    assert refused.names == ("amount:number",)
    assert [number for number, (_, detail) in enumerate(lines) if detail is not None] == [5, 7]
    path = entries(evidence)
    path.write_bytes(path.read_bytes().replace(b'{"detail":{"_salt":"', b'{"detail":{"_sale":"'))
    assert [detail for _, detail in records.read_lines(evidence)] == [None] * 9


@pytest.mark.parametrize("junk", [b"junk\n", b"\n", b"\xff" * 100 + b"\n"])
def test_junk_between_records_is_refused(evidence: Path, junk: bytes) -> None:
    """Whatever stands in place of a record, the answer is the same error."""
    path = entries(evidence)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:3], junk, *lines[3:]]))
    with pytest.raises(EvidenceError) as caught:
        list(records.read(evidence))
    assert caught.value.code == "malformed_record"


def test_a_line_that_is_being_written_is_left_out(evidence: Path) -> None:
    """A directory may be in use: the last line is not read before it is whole."""
    path = entries(evidence)
    path.write_bytes(path.read_bytes()[:-20])
    assert len(list(records.read(evidence))) == 8


def test_a_wrong_path_is_not_told_as_an_empty_ledger(tmp_path: Path) -> None:
    """A folder without a ledger and a missing one are errors, and nothing is made."""
    with pytest.raises(ConfigurationError, match="no ledger"):
        next(records.read(tmp_path))
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(FileNotFoundError):
        next(records.read(tmp_path / "missing"))


def test_a_stream_that_never_began_has_no_records(evidence: Path) -> None:
    """A process that dies between its folder and its first file keeps nobody from reading the other streams."""
    before = list(records.read(evidence))
    (entries(evidence).parent.parent / "AaI2BnZUezCfdl_mt4ppng").mkdir()
    assert list(records.read(evidence)) == before


def test_a_sealed_stream_whose_file_is_gone_is_told(evidence: Path) -> None:
    """The log knows of its records, so that reading does not go on as if there had been none."""
    entries(evidence).unlink()
    with pytest.raises(EvidenceError) as caught:
        list(records.read(evidence))
    assert caught.value.code == "unreadable"


def test_a_file_that_cannot_be_read_is_not_told_as_malformed(evidence: Path) -> None:
    """What the system refuses to read has a code of its own."""
    path = entries(evidence)
    path.unlink()
    path.mkdir()
    with pytest.raises(EvidenceError) as caught:
        list(records.read(evidence))
    assert caught.value.code == "unreadable"
