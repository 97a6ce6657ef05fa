"""Records on spans, held against those before them, and against those of a ledger."""

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from agent_identity._identity.common import ids
from agent_identity._identity.common.encoding import b64url_encode
from agent_identity._identity.common.ids import bytes_of_id
from agent_identity._identity.common.record_bytes import encode_record
from agent_identity._record.codec import decode
from agent_identity._verify.ledger import index as ledger_index
from agent_identity._verify.ledger.index import HALF, Amiss, LedgerIndex, Proofs, SpanRecord
from agent_identity._verify.spans import spans_check
from agent_identity._verify.spans.spans_check import Deduplicator
from agent_identity.errors import ConfigurationError
from agent_identity.records import AnyRecord

A, B = (f"AZq1rUgAcACAAAAAAAAA{letter}A" for letter in "AB")
SDK = {"name": "x", "version": "1"}


def id_of(number: int) -> str:
    """Return the id of a record."""
    return ids.id_of(0, number.to_bytes(8))


def raw(identifier: str) -> bytes:
    """Return the 16 bytes of an id."""
    return bytes_of_id(identifier)


def leaf_of(number: int) -> bytes:
    """Return a leaf hash."""
    return bytes([number]) * 32


def on_span(number: int, leaf: int | None = None, *, stream: str = B, seq: int = 1) -> SpanRecord:
    """Return a record as spans have it."""
    return SpanRecord(raw(id_of(number)), leaf_of(leaf or number)[:HALF], raw(stream), seq)


def placed(number: int, stream: str, seq: int, *, after: int | None = None) -> AnyRecord:
    """Return a record with this id, at its place, and behind the one of this hash."""
    prev = {} if after is None else {"prev": b64url_encode(leaf_of(after))}
    place = {"id": stream, "seq": str(seq), **prev}
    said = {"kind": "stream_end", "end": {"size": "9"}} if prev else {"kind": "stream_start", "sdk": SDK}
    return decode(encode_record({"v": "1", "id": id_of(number), "stream": place, "time": {"start": "1"}, **said}))


@pytest.mark.parametrize("near", [1, 3, 100])
def test_a_record_is_held_against_its_id_its_place_and_the_one_before(
    near: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each contradiction has its name, the first version stays, and what is not linked is no broken link."""
    monkeypatch.setattr(spans_check, "_NEAR", near)
    seen = Deduplicator()
    expected: list[tuple[AnyRecord, int, tuple[str, ...] | None]] = [
        (placed(1, A, 1), 1, ()),
        (placed(1, A, 1), 1, None),
        (placed(1, A, 1), 9, ("two_versions", "two_at_one_place")),
        (placed(1, A, 1), 1, None),
        (placed(2, A, 1), 2, ("two_at_one_place",)),
        (placed(1, A, 2, after=1), 9, ("two_versions",)),
        (placed(3, A, 2, after=1), 3, ("two_at_one_place",)),
        (placed(4, A, 3, after=3), 4, ("broken_link",)),
        (placed(5, A, 4, after=4), 5, ()),
        (placed(1, A, 4, after=3), 7, ("two_versions", "two_at_one_place", "broken_link")),
        (placed(6, A, 5, after=5), 6, ()),
        (placed(7, B, 2, after=99), 7, ()),
        (placed(8, B, 4, after=99), 8, ()),
    ]
    for record, number, found in expected:
        assert seen.take(record, leaf_of(number)) == found
    assert list(seen.records()) == [
        on_span(number, stream=stream, seq=seq)
        for stream, places in ((A, (1, 1, 2, 3, 4, 5)), (B, (2, 4)))
        for number, seq in zip(range(1, 7) if stream == A else (7, 8), places, strict=True)
    ]


def test_a_record_is_told_from_another_by_128_bits_of_its_hash() -> None:
    """Whoever has the recorder key finds two records that agree in 64 bits within minutes."""
    record = placed(2, id_of(1), 2, after=1)
    for bits, found in ((8, ("two_versions", "two_at_one_place")), (16, None)):
        seen = Deduplicator()
        assert seen.take(record, bytes(32)) == ()
        assert seen.take(record, bytes(bits) + b"x" * (32 - bits)) == found
    (row,) = seen.records()
    with ledger_index.ledger_index() as index:
        index.begin(record.stream.id)
        index.add(record.id, "outcome", bytes(8) + b"x" * 24, 2)
        index.prove(2)
        index.finish(proved=True)
        assert index.compare([row]) == 1
        assert [(amiss.record, amiss.missing) for amiss in index.amiss()] == [(row[0], False)]


def test_only_records_under_a_proved_head_are_proved(tmp_path: Path) -> None:
    """What stands behind the last head of its stream needs its signature."""
    ids = [id_of(number) for number in range(6)]
    packed = [raw(name) for name in ids]
    index = LedgerIndex(str(tmp_path / "index"))
    for stream, size in (("a", 2), ("b", 3)):
        index.begin(stream)
        for seq in (1, 2, 3):
            number = seq - 1 + 3 * (stream == "b")
            index.add(ids[number], "outcome", bytes([number]) * 32, seq)
        index.prove(size)
    index.finish(proved=True)
    proofs = Proofs(index.path)
    assert proofs.of(packed) == {packed[n]: bytes([n]) * HALF for n in (0, 1, 3, 4, 5)}
    proofs.close()
    with pytest.raises(ConfigurationError, match="TMPDIR"):
        proofs.of(packed)
    index.close()
    with pytest.raises(ConfigurationError, match="TMPDIR"):
        index.finish(proved=False)


def test_the_records_of_a_ledger_are_held_against_those_of_spans(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Missing ones of the kinds that travel, other versions and unknown ones are told in their order, however read."""
    monkeypatch.setattr(ledger_index, "_WAITING", 3)
    kinds = {9: "outcome", 2: "intent", 3: "task_end", 4: "outcome", 1: "task_end", 6: "intent", 7: "outcome"}
    with ledger_index.ledger_index() as index:
        index.begin("a")
        for seq, number in enumerate((9, 2, 3), 1):
            index.add(id_of(number), kinds[number], leaf_of(number), seq)
        index.prove(3)
        index.begin("b")
        for seq, number in enumerate((4, 1, 6, 7), 5):
            index.add(id_of(number), kinds[number], leaf_of(number), seq)
        index.prove(7)
        index.finish(proved=True)
        for name in (id_of(9), id_of(7)):
            with closing(Proofs(index.path)) as proofs:
                assert proofs.of([raw(name)]) == ({} if name == id_of(7) else {raw(name): leaf_of(9)[:HALF]})
        on_spans = {2: 2, 4: 5, 6: 8, 7: 7, 11: 11, 10: 10}
        rows = [on_span(number, leaf) for number, leaf in on_spans.items()]
        assert index.compare(rows) == len(rows)
        assert list(index.amiss()) == [
            Amiss(raw(id_of(9)), "a", 1, missing=True),
            Amiss(raw(id_of(3)), "a", 3, missing=True),
            Amiss(raw(id_of(4)), "b", 5, missing=False),
            Amiss(raw(id_of(1)), "b", 6, missing=True),
            Amiss(raw(id_of(6)), "b", 7, missing=False),
        ]
        assert list(index.unmatched()) == [on_span(10), on_span(11)]
        assert index.compare([]) == len(rows)
        folder = Path(index.path).parent
        assert folder.name.startswith("agent-identity-")
    assert not folder.exists()
    for failing in (index.amiss, index.unmatched):
        with pytest.raises(ConfigurationError, match="120 bytes for each record"):
            list(failing())
    with pytest.raises(ConfigurationError, match="TMPDIR"):
        index.compare([])


@pytest.mark.parametrize(("first", "second"), [(3, 1), (0, 3), (1, 0), (3, 3), (2, 2)])
def test_a_head_proves_the_records_of_its_own_stream(tmp_path: Path, first: int, second: int) -> None:
    """What stands before and behind in the index is another stream's, wherever the rows are."""
    for waiting in (1, 2, 4, 100):
        with pytest.MonkeyPatch.context() as patch, ledger_index.ledger_index() as index:
            patch.setattr(ledger_index, "_WAITING", waiting)
            patch.setattr(ledger_index, "_AT_ONCE", 2)
            for stream, size in ((A, first), (B, second)):
                index.begin(stream)
                for seq in (1, 2, 3):
                    number = seq + 3 * (stream == B)
                    index.add(id_of(number), "intent", leaf_of(number), seq)
                index.prove(size)
            index.finish(proved=True)
            proved = [number for number in range(1, 7) if (number - 1) % 3 < (second if number > 3 else first)]
            with closing(Proofs(index.path)) as proofs:
                asked = [raw(id_of(number)) for number in range(8)]
                questions: list[str] = []
                proofs._file.set_trace_callback(questions.append)
                assert proofs.of(asked) == {raw(id_of(number)): leaf_of(number)[:HALF] for number in proved}
                assert len(questions) == 4


def test_a_ledger_without_a_verdict_proves_no_record(tmp_path: Path) -> None:
    """Nothing of it spares a signature; what it holds is compared all the same, and its path may be any."""
    index = LedgerIndex(str(tmp_path / "100% a?mode=rw#b"))
    index.begin("a")
    index.add(id_of(1), "outcome", leaf_of(1), 1)
    index.prove(1)
    index.finish(proved=False)
    with closing(Proofs(index.path)) as proofs:
        assert proofs.of([raw(id_of(1))]) == {}
        with ThreadPoolExecutor(1) as other:
            assert other.submit(proofs.of, [raw(id_of(1))]).result() == {}
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            proofs._file.execute("UPDATE ledger SET proved = 1")
    assert [one.record for one in index.amiss()] == [raw(id_of(1))]
    index.close()
