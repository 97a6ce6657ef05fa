"""Traces that several processes verify, with what is kept of them on the disk, give the report of one process."""

import copy
import gzip
import io
import json
import shutil
import sqlite3
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[2]))

import test_spans as spans
from spans_in_parts import in_parts

from agent_identity.audit import check, coverage, key_table, ledger_index, span_parts
from agent_identity.audit.findings import Findings
from agent_identity.audit.key_table import KeyTable, RowFile
from agent_identity.audit.ledger_index import HALF, Amiss, LedgerIndex, Proofs, SpanRecord
from agent_identity.audit.noting import NOTED, Noted
from agent_identity.audit.seen import Seen
from agent_identity.audit.spans_check import SpansCheck
from agent_identity.enforcement import Enforcer
from agent_identity.errors import ConfigurationError
from agent_identity.evidence.otlp import Document
from agent_identity.identity import SigningKey

run = spans.run


def alone(document: dict[str, Any]) -> list[bytes]:
    """Return each span of a document as a line."""
    return spans.lines(document).splitlines()


def test_clean_traces_are_merged_block_by_block(run: spans.Run) -> None:
    """Blocks with nothing to report are taken over, and the report is equal."""
    with in_parts() as merged:
        report = spans.report_on(run, spans.lines(run.document()))
    assert (report.verdict, report.counts["verified"]) == ("verified", 7)
    assert merged == [True] * 7


def test_notices_are_merged_as_well(run: spans.Run) -> None:
    """A pipeline that blanks an attribute of every span costs no second reading."""
    document = run.document()
    spans.on_each(lambda span: spans.set_value(span, "user.id", "[REDACTED]"))(document)
    with in_parts() as merged:
        report = spans.report_on(run, spans.lines(document))
    assert (report.verdict, spans.codes(report)) == ("verified", {"copy_redacted"})
    assert merged == [True] * 7


def test_what_a_collector_is_known_to_rewrite_is_merged(run: spans.Run) -> None:
    """Each block is read knowing of it, so that it costs no second reading either."""
    document = run.document()
    spans.on_each(lambda span: spans.set_value(span, "agent_identity.principal.id", "a-pseudonym"))(document)
    with in_parts() as merged:
        report = spans.report_on(run, spans.lines(document), redacted=["agent_identity.principal.id"])
    assert report.verdict == "verified"
    assert merged == [True] * 7


def test_what_contradicts_an_earlier_block_is_read_in_its_order(run: spans.Run) -> None:
    """A second version, a second record at a place, and a broken link between two blocks are refused, and found."""
    lines = alone(run.document())
    first = spans.tool_spans(run.document())[0]
    stream = spans.record_on(first)["stream"]
    later = {"id": stream["id"], "seq": str(int(stream["seq"]) + 1), "prev": "0" * 64}
    other = "019ab5ad-4800-7000-8000-00000000f00d"
    for forged, code in (
        (spans.resigned(run, first, outcome="error"), "two_versions"),
        (spans.resigned(run, first, id=other), "two_at_one_place"),
        (spans.resigned(run, first, id=other, stream=later), "broken_link"),
        (spans.resigned(run, first, id=other, agent={"id": "x", "owner": "y"}), "claims_differ"),
    ):
        document = {"resourceSpans": [{"scopeSpans": [{"spans": [forged]}]}]}
        with in_parts() as merged:
            report = spans.report_on(run, b"\n".join([*lines, json.dumps(document).encode()]))
        assert code in spans.codes(report)
        assert merged == [True] * 7 + [False]


@pytest.mark.parametrize("turned", [False, True])
def test_a_link_that_is_broken_is_found_in_any_order(run: spans.Run, turned: bool) -> None:
    """A record does not continue the one before it, whichever of the two comes first, in one block or in two."""
    first = spans.tool_spans(run.document())[0]
    stream = spans.record_on(first)["stream"]
    later = {"id": stream["id"], "seq": str(int(stream["seq"]) + 1), "prev": "0" * 64}
    forged = spans.resigned(run, first, id="019ab5ad-4800-7000-8000-00000000f00d", stream=later)
    pair = [forged, first] if turned else [first, forged]
    whole = {"resourceSpans": [{"scopeSpans": [{"spans": pair}]}]}
    for data, blocks in ((spans.lines(whole), [True, False]), (json.dumps(whole).encode(), [])):
        with in_parts() as merged:
            report = spans.report_on(run, data)
        assert "broken_link" in spans.codes(report)
        assert merged == blocks


def test_a_record_is_told_from_another_by_128_bits_of_its_hash() -> None:
    """Whoever has the recorder key finds two records that agree in 64 bits within minutes."""
    stream = {"id": "019ab5ad-4800-7000-8000-000000000001", "seq": "2"}
    record = {"id": "019ab5ad-4800-7000-8000-000000000002", "stream": stream}
    for bits, found in ((8, ("two_versions", "two_at_one_place")), (16, None)):
        seen = Seen()
        assert seen.take(record, bytes(32)) == ()
        assert seen.take(record, bytes(bits) + b"x" * (32 - bits)) == found
    (row,) = seen.records()
    with ledger_index.ledger_index() as index:
        index.begin(stream["id"])
        index.one(record["id"].encode(), "outcome", bytes(8) + b"x" * 24, 2)
        index.prove(2)
        index.finish(proved=True)
        assert index.compare([row]) == 1
        assert [(amiss.record, amiss.missing) for amiss in index.amiss()] == [(row[0], False)]


def test_a_record_that_came_again_in_another_block_is_counted_once(run: spans.Run) -> None:
    """Such a block is read in its order."""
    with in_parts() as merged:
        report = spans.report_on(run, b"\n".join(alone(run.document()) * 2))
    assert (report.verdict, report.counts["duplicates"]) == ("verified", 7)
    assert merged == [True] * 7 + [False] * 7


def test_what_cannot_be_read_stands_between_blocks(run: spans.Run, tmp_path: Path) -> None:
    """Damaged lines and a file that ends early are reported in their order, and the rest is verified."""
    lines = alone(run.document())
    (tmp_path / "a.jsonl").write_bytes(b"\n".join([*lines[:3], b'{"resourceSpans', *lines[3:5]]))
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(b"\n".join(lines[5:6]))[:-4])
    (tmp_path / "c.jsonl").write_bytes(lines[6])
    with in_parts() as merged:
        report = check([tmp_path / name for name in ("a.jsonl", "b.jsonl.gz", "c.jsonl")], run.trust)
    assert spans.codes(report) >= {"malformed_document", "unreadable"}
    assert report.counts["verified"] == 6
    assert merged == [True] * 6


def test_libraries_in_different_blocks_are_counted_together(run: spans.Run) -> None:
    """A call of one library is attributed through the span of another one that an earlier or later block holds."""
    document = run.document()
    ours = spans.tool_spans(document)[0]
    ids = {"traceId": ours["traceId"]}
    others = [
        spans.call_span("langchain", "x", spanId=ours["parentSpanId"], **ids),
        spans.call_span("mcp", "mcp", spanId="b" * 16, parentSpanId=ours["spanId"], **ids),
        spans.call_span("mcp", "mcp", spanId="c" * 16, parentSpanId=ours["spanId"], **ids),
        spans.call_span("wild", "x", spanId="d" * 16),
    ]
    around = [json.dumps({"resourceSpans": [other]}).encode() for other in others]
    with in_parts() as merged:
        report = spans.report_on(run, b"\n".join([around[0], *alone(document), *around[1:]]))
    rows = {row.scope: (row.calls, row.attributed, row.human) for row in report.coverage}
    assert rows == {"agent_identity": (5, 4, 4), "langchain": (1, 1, 1), "mcp": (2, 1, 1), "wild": (1, 0, 0)}
    assert merged == [True] * 11


def test_libraries_beyond_a_thousand_are_counted_as_one(run: spans.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever writes ever new and ever longer names of libraries fills neither memory nor report."""
    monkeypatch.setattr(coverage, "_MAX_SCOPES", 3)
    document = run.document()
    ours = spans.tool_spans(document)[0]
    ids = {"traceId": ours["traceId"], "parentSpanId": ours["spanId"]}
    calls = [spans.call_span(f"lib {n % 7}" + "x" * 300, "x", spanId=f"{n:016x}", **ids) for n in range(1, 15)]
    around = [json.dumps({"resourceSpans": [call]}).encode() for call in calls]
    many = json.dumps({"resourceSpans": calls[10:5:-1]}).encode()
    with in_parts() as merged:
        report = spans.report_on(run, b"\n".join([*alone(document), *around, many]))
    rows = {row.scope: (row.calls, row.attributed, row.human) for row in report.coverage}
    cut = "x" * (256 - len("lib 1"))
    assert rows == {
        "(other libraries)": (13, 1, 1),
        "agent_identity": (5, 4, 4),
        f"lib 1{cut}": (3, 1, 1),
        f"lib 2{cut}": (3, 1, 1),
    }
    assert merged == [True] * 21


def test_processes_give_the_same_report(run: spans.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two real processes, several files, and progress that ends at the size of all."""
    lines = alone(run.document())
    forged = copy.deepcopy(run.document())
    spans.forged_decision(forged)
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(lines))
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(spans.lines(forged)))
    files = [tmp_path / "a.jsonl", tmp_path / "b.jsonl.gz"]
    size = sum(file.stat().st_size for file in files)
    monkeypatch.setattr(span_parts, "_BLOCK", 1)
    seen: list[tuple[int, int]] = []
    report = check(files, run.trust, processes=2, progress=lambda done, total: seen.append((done, total)))
    assert report == check(files, run.trust)
    assert (report.exit_code, report.counts["duplicates"]) == (1, 7)
    assert seen == sorted(seen)
    assert seen[-1] == (size, size)


@pytest.mark.parametrize("size", [1, 12_000, 10**9])
def test_blocks_of_any_size_give_the_same_report(
    run: spans.Run, tmp_path: Path, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blocks hold one document, several, or those of all files; what is no document stands between them and behind."""
    lines = alone(run.document())
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(lines[:4]))
    whole = b"".join(map(spans.prefixed, [json.loads(line) for line in lines[4:]]))
    (tmp_path / "b.pb").write_bytes(whole + (500).to_bytes(4, "big") + whole[4:50])
    files = [tmp_path / "a.jsonl", tmp_path / "b.pb"]
    expected = check(files, run.trust)
    assert (expected.exit_code, expected.counts["verified"], expected.counts["malformed"]) == (3, 7, 2)
    alike = check(files[:1], run.trust)
    seen: list[tuple[int, int]] = []

    def tell(done: int, total: int) -> None:
        seen.append((done, total))

    assert (
        check(files[:1], run.trust, processes=2, progress=tell) == alike
    )  # One block, for which no process is started.
    assert seen[-1] == (files[0].stat().st_size,) * 2
    monkeypatch.setattr(span_parts, "_BLOCK", size)
    del seen[:]
    assert check(files, run.trust, processes=2, progress=tell) == expected
    assert seen == sorted(seen)
    assert seen[-1] == (sum(file.stat().st_size for file in files),) * 2
    assert check([*files, tmp_path / "a.jsonl"], run.trust, processes=2).counts["duplicates"] == 4


def test_empty_messages_fill_blocks_as_well(run: spans.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of nothing but empty messages is read block by block, and never held as a whole."""
    held: list[int] = []
    take = span_parts._take

    def noted(to: SpansCheck, block: span_parts._Block) -> None:
        held.append(len(block.documents))
        take(to, block)

    monkeypatch.setattr(span_parts, "_take", noted)
    report = check(io.BytesIO(b"\n\x00" * 50), run.trust)
    assert (spans.codes(report), held) == ({"nothing_to_verify"}, [1] * 50)
    assert all(len(block.documents) <= 10 for block in span_parts._blocks([io.BytesIO(b"\n\x00" * 50)], 1_000))


def test_names_of_attributes_are_not_kept_at_any_length(run: spans.Run) -> None:
    """Names of attributes that somebody added to spans of ours are looked at, and forgotten if they are long."""
    document = run.document()
    spans.on_each(lambda span: spans.set_value(span, span["spanId"] + "x" * 20_000, "v"))(document)
    check_ = SpansCheck(run.trust, Findings("traces", ()))
    for line in alone(document):
        check_.take(Document(1, line))
    assert not check_._comparison._names
    for line in alone(run.document()):
        check_.take(Document(1, line))
    assert 1 <= len(check_._comparison._names) <= 7
    spans.on_each(lambda span: spans.set_value(span, "agent_identity." + "x" * 20_000, "v"))(document)
    assert "field_added" in spans.codes(spans.report_on(run, document))


@pytest.mark.parametrize(("more", "sizes"), [(0, [2, 2, 2, 2]), (1, [3, 3, 2]), (1_000, [8])])
def test_a_block_has_as_many_documents_as_reach_its_size(more: int, sizes: list[int]) -> None:
    """The last one has what is left, and the files are read with it."""
    lines = [b'{"resourceSpans":[%d]}\n' % number for number in range(8)]
    data = b"".join(lines)
    blocks = list(span_parts._blocks([io.BytesIO(data)], 2 * (span_parts._BESIDE + len(lines[0])) + more))
    assert [len(block.documents) for block in blocks] == sizes
    assert b"".join(document.data for block in blocks for document in block.documents) == data
    assert blocks[-1].end == len(data)


def test_what_another_process_cannot_read_is_read_here(run: spans.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever goes wrong there says nothing about the spans."""
    data = spans.lines(run.document())
    expected = spans.report_on(run, data)

    def fail(_: SpansCheck) -> None:
        raise MemoryError

    monkeypatch.setattr(SpansCheck, "shipped", fail)
    monkeypatch.setattr(span_parts, "_BLOCK", 1)
    assert spans.report_on(run, data, processes=2) == expected


def test_a_file_that_is_not_there_is_named_whoever_reads(run: spans.Run, tmp_path: Path) -> None:
    """An error is the same with several processes."""
    with pytest.raises(ConfigurationError, match="No such file"):
        check([tmp_path / "absent"], run.trust, processes=2)


def test_what_the_ledger_proves_needs_no_signature(run: spans.Run) -> None:
    """It is counted and said; the signature on the span is not looked at, and without the ledger it is."""
    document = run.document()
    broken = "agent_identity.attestation.signature"
    spans.on_each(lambda span: spans.set_value(span, broken, "0" * 128))(document)
    with in_parts() as merged:
        report = spans.report_on(run, spans.lines(document), ledger=run.directory)
    assert (report.verdict, report.completeness, report.counts["proved_by_ledger"]) == ("verified", "complete", 7)
    assert "7 of them, whose signatures on spans were not looked at" in report.steps[1].detail
    assert merged == [True] * 7
    report = spans.report_on(run, document)
    assert (report.exit_code, spans.codes(report)) == (1, {"bad_signature"})
    assert "proved_by_ledger" not in report.counts


@pytest.mark.parametrize(
    ("part", "value", "code"),
    [
        ("keyid", "A" * 43, "unknown_key"),
        ("digest", "sha256:" + "0" * 64, "bad_attestation"),
        ("signature", "0" * 127, "truncated"),
        ("payload_type", "text/plain", "unknown_payload_type"),
    ],
)
def test_all_but_the_signature_is_looked_at(run: spans.Run, part: str, value: str, code: str) -> None:
    """The key that a span names, the digest, the form and the type are checked for what the ledger proves, too."""
    document = run.document()
    spans.on_each(lambda span: spans.set_value(span, f"agent_identity.attestation.{part}", value))(document)
    assert code in spans.codes(spans.report_on(run, document, ledger=run.directory))


@pytest.mark.parametrize("keyid", [None, "agent_identity.attestation.keyid"])
def test_another_record_under_the_id_of_a_proved_one_is_not_proved(run: spans.Run, keyid: str | None) -> None:
    """The attributes of a span only say where to look: the bytes of its record decide."""
    stranger = SigningKey.from_seed(b"m" * 32)
    for original in spans.tool_spans(run.document()):
        forged = spans.resigned(
            run, original, stranger, time={"start": "1700000000000000000", "end": "1700000000000000000"}
        )
        if keyid is not None:
            spans.set_value(forged, keyid, run.recorder.public_key.thumbprint)
        spans.set_value(forged, "agent_identity.record.id", spans.record_on(original)["id"])
        document = {"resourceSpans": [{"scopeSpans": [{"spans": [forged]}]}]}
        report = spans.report_on(run, document, ledger=run.directory)
        assert spans.codes(report) & {"unknown_key", "bad_signature"}
        assert not report.counts["proved_by_ledger"]


def test_a_ledger_that_does_not_verify_proves_nothing(run: spans.Run, tmp_path: Path) -> None:
    """Each signature is looked at then."""
    copied = tmp_path / "copy"
    shutil.copytree(run.directory, copied)
    (entries,) = copied.glob("ledger/*/entries.jsonl")
    entries.write_bytes(b"".join(entries.read_bytes().splitlines(keepends=True)[:-1]))
    document = run.document()
    spans.set_value(spans.tool_spans(document)[0], "agent_identity.attestation.signature", "0" * 128)
    report = spans.report_on(run, document, ledger=copied)
    assert spans.codes(report) >= {"bad_signature", "ledger_contradicted"}
    assert not report.counts["proved_by_ledger"]


def test_only_records_under_a_proved_head_are_proved(tmp_path: Path) -> None:
    """What stands behind the last head of its stream needs its signature."""
    ids = [f"019ab5ad-4800-7000-8000-{number:012x}" for number in range(6)]
    packed = [bytes.fromhex(name.replace("-", "")) for name in ids]
    index = LedgerIndex(str(tmp_path / "index"))
    for stream, size in (("a", 2), ("b", 3)):
        index.begin(stream)
        for seq in (1, 2, 3):
            number = seq - 1 + 3 * (stream == "b")
            index.one(ids[number].encode(), "outcome", bytes([number]) * 32, seq)
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


def test_a_ledger_that_grows_meanwhile_is_read_again(tmp_path: Path) -> None:
    """A record that was made after the ledger was read is no record that was removed from it."""
    text = io.StringIO()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans.FileSpanExporter(stream=text)))
    with Enforcer.open(tmp_path, tracer_provider=provider) as enforcer:
        with enforcer.task("pay", principal=spans.ALICE, agent=spans.CLERK, scope=spans.SCOPE):
            pass

        class Live:
            """Traces that are written while they are read."""

            data: io.BytesIO | None = None

            def readline(self, limit: int, /) -> bytes:
                if self.data is None:
                    with enforcer.task("pay", principal=spans.ALICE, agent=spans.CLERK, scope=spans.SCOPE):
                        pass
                    self.data = io.BytesIO(text.getvalue().encode())
                return self.data.readline(limit)

        report = check(Live(), tmp_path / "trust.json", ledger=tmp_path)
    assert report.counts["verified"] == 2
    assert spans.codes(report) <= {"ledger_not_verified"}
    assert "2 of 2 records are in the ledger" in report.steps[7].detail


def test_a_table_finds_what_was_put_wherever_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys in memory and on the disk, within groups and in any order."""
    monkeypatch.setattr(key_table, "_MAX_NEAR", 3)
    monkeypatch.setattr(key_table, "_AT_ONCE", 2)
    table, expected = KeyTable(1), dict[bytes, bytes]()
    for number in (5, 3, 9, 200, 1, 7, 250, 100, 8, 2):
        key = bytes([number % 2, number])
        assert table.get(key) is None
        table.put(key, bytes([number]))
        expected[key] = bytes([number])
        assert all(table.get(known) == value for known, value in expected.items())
    assert table.found([*expected, b"\x00\x63", b"\x02\x01"]) == expected
    assert list(table.rows()) == sorted(expected.items())


def test_a_table_looks_at_the_disk_only_for_what_may_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys beyond the highest of their group cost no question, and one question is for several keys."""
    monkeypatch.setattr(key_table, "_MAX_NEAR", 3)
    monkeypatch.setattr(key_table, "_AT_ONCE", 2)
    table = KeyTable(1)
    for number in range(4):
        table.put(bytes([7, number]), bytes([number]))
    asked: list[str] = []
    assert table._far is not None
    table._far.set_trace_callback(asked.append)
    assert table.get(b"\x07\x04") is None
    assert table.get(b"\x01\x00") is None
    assert table.found([b"\x07\x04", b"\x01\x00"]) == {}
    assert asked == []
    assert table.get(b"\x07\x03") == b"\x03"
    assert len(asked) == 1
    assert len(table.found([bytes([7, number]) for number in range(4)])) == 4
    assert len(asked) == 3
    table.put(b"\x01\x01", b"")
    assert list(table.rows()) == [(b"\x01\x01", b""), *((bytes([7, number]), bytes([number])) for number in range(4))]
    assert table.get(b"\x01\x01") == b""


def test_rows_stay_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of pairs with the same key the first one and the last one are found, wherever they are."""
    for most in (1, 2, 100):
        monkeypatch.setattr(key_table, "_MAX_NEAR", most)
        file = RowFile()
        rows = [(b"a", b"1"), (b"b", b"2"), (b"a", b"3"), (b"c", b"4"), (b"a", b"5")]
        for number, row in enumerate(rows):
            assert (file._far is None) is (number <= most)
            file.add(row)
        assert list(file.rows()) == rows
        assert (file.one(b"a"), file.one(b"a", last=True), file.one(b"d")) == (b"1", b"5", None)
        assert file._far is not None
        assert file._far.execute("SELECT count(*) FROM sqlite_master WHERE type = 'index'").fetchone() == (1,)
        assert list(file.rows()) == rows


def test_a_full_disk_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says how much room is needed, and how to name another folder."""
    monkeypatch.setattr(key_table, "_MAX_NEAR", 1)
    table = KeyTable()
    table.put(b"a", b"")
    table.put(b"b", b"")
    assert table._far is not None
    table._far.close()
    with pytest.raises(ConfigurationError, match="TMPDIR"):
        table.get(b"a")
    with pytest.raises(ConfigurationError, match="TMPDIR"):
        table.found([b"a"])


A, B = (f"019ab5ad-4800-7000-8000-00000000000{letter}" for letter in "ab")


def id_of(number: int) -> str:
    """Return the id of a record."""
    return f"019ab5ad-4800-7000-8000-{number:012x}"


def raw(identifier: str) -> bytes:
    """Return the 16 bytes of an id."""
    return bytes.fromhex(identifier.replace("-", ""))


def leaf_of(number: int) -> bytes:
    """Return a leaf hash."""
    return bytes([number]) * 32


def on_span(number: int, leaf: int | None = None, *, stream: str = B, seq: int = 1) -> SpanRecord:
    """Return a record as spans have it."""
    return SpanRecord(raw(id_of(number)), leaf_of(leaf or number)[:HALF], raw(stream), seq)


def placed(number: int, stream: str, seq: int, *, after: int | None = None) -> dict[str, object]:
    """Return what matters of a record: its id, its place, and the hash of the one before."""
    prev = {} if after is None else {"prev": leaf_of(after).hex()}
    return {"id": id_of(number), "stream": {"id": stream, "seq": str(seq), **prev}}


def test_a_record_is_held_against_its_id_its_place_and_the_one_before() -> None:
    """Each contradiction has its name, the first version stays, and what is not linked is no broken link."""
    seen = Seen()
    expected: list[tuple[dict[str, object], int, tuple[str, ...] | None]] = [
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
        (placed(6, A, 5), 6, ()),
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
    assert seen.shipped() == b""


@pytest.mark.parametrize(
    ("later", "fits"),
    [
        ([(placed(9, A, 4, after=3), 9)], True),
        ([(placed(9, A, 4), 9)], True),
        ([(placed(9, A, 5, after=77), 9)], True),
        ([(placed(9, B, 1), 9), (placed(10, B, 2, after=9), 10)], True),
        ([(placed(8, B, 1), 8), (placed(9, A, 4, after=3), 9), (placed(10, A, 5, after=9), 10)], True),
        ([(placed(3, A, 4, after=3), 9)], False),
        ([(placed(9, B, 1), 9), (placed(3, A, 3, after=2), 3)], False),
        ([(placed(9, A, 3, after=2), 9)], False),
        ([(placed(9, A, 4, after=2), 9)], False),
        ([(placed(9, B, 1), 9), (placed(10, A, 4, after=9), 10)], False),
        ([(placed(9, A, 4, after=9), 9), (placed(10, B, 1), 10)], False),
    ],
)
def test_a_block_fits_if_it_contradicts_nothing_before(later: list[tuple[dict[str, object], int]], fits: bool) -> None:
    """A known id, a taken place and a broken link between two blocks do not; what is merged counts like what is read.

    Both ways of reading lead to the same records.
    """
    before = [(placed(1, A, 1), 1), (placed(2, A, 2, after=1), 2), (placed(3, A, 3, after=2), 3)]
    whole, ahead, behind = Seen(), Seen(part=True), Seen(part=True)
    for part, records in ((ahead, before), (behind, later)):
        for record, number in records:
            assert part.take(record, leaf_of(number)) == ()
    assert whole.fits(b"")
    assert whole.fits(ahead.shipped())
    whole.merge(ahead.shipped())
    assert not whole.fits(ahead.shipped())
    assert whole.fits(behind.shipped()) is fits
    plain = Seen()
    taken = [plain.take(record, leaf_of(number)) for record, number in [*before, *later]]
    assert all(found == () for found in taken) is fits
    if fits:
        whole.merge(behind.shipped())
        assert list(whole.records()) == list(plain.records())
        found = whole.take(placed(50, A, 3, after=2), leaf_of(50))
        assert found == plain.take(placed(50, A, 3, after=2), leaf_of(50))
        follows = any(record["stream"] == placed(9, A, 4, after=3)["stream"] for record, _ in later)
        assert found == ("two_at_one_place", *(["broken_link"] if follows else []))


def test_the_records_of_a_ledger_are_held_against_those_of_spans(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Missing ones of the kinds that travel, other versions and unknown ones are told in their order, however read."""
    monkeypatch.setattr(ledger_index, "_WAITING", 3)
    kinds = {9: "outcome", 2: "intent", 3: "task_end", 4: "outcome", 1: "task_end", 6: "intent", 7: "outcome"}
    with ledger_index.ledger_index() as index:
        index.begin("a")
        for seq, number in enumerate((9, 2, 3), 1):
            index.one(id_of(number).encode(), kinds[number], leaf_of(number), seq)
        index.prove(3)
        index.begin("b")
        noted = Noted()
        noted.one(id_of(4).encode(), kinds[4], leaf_of(4), 5)
        noted.wait(3)
        noted.settle([2, 0, 1], [id_of(number).encode() for number in (1, 7, 6)], [kinds[1], kinds[7], kinds[6]])
        index.part(5, bytes(noted.packed), b"".join(map(leaf_of, (4, 1, 6, 7))))
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


@pytest.mark.parametrize(("kind", "travels"), [("outcome", True), ("task_end", True), ("intent", False), ("", False)])
def test_what_is_noted_of_a_record_does_not_depend_on_when_it_is_settled(kind: str, travels: bool) -> None:
    """Its id, and whether it should be on a span: one that is missing there would not be told otherwise."""
    at_once, later = Noted(), Noted()
    for noted in (at_once, later):
        noted.one(id_of(1).encode(), "intent", leaf_of(1), 1)
    at_once.one(id_of(2).encode(), kind, leaf_of(2), 2)
    later.wait(1)
    later.settle([0], [id_of(2).encode()], [kind])
    expected = NOTED.pack(raw(id_of(1)), False) + NOTED.pack(raw(id_of(2)), travels)
    assert bytes(at_once.packed) == bytes(later.packed) == expected


def test_a_part_with_as_many_notes_as_leaves_is_taken_and_no_other(tmp_path: Path) -> None:
    """Else a leaf would be that of another record."""
    index = LedgerIndex(str(tmp_path / "index"))
    index.begin("a")
    with pytest.raises(ValueError, match="zip"):
        index.part(1, NOTED.pack(raw(id_of(1)), True) * 2, leaf_of(1))
    index.close()
    noted = Noted()
    noted.wait(1)
    with pytest.raises(ValueError, match="zip"):
        noted.settle([0], [id_of(1).encode()], ["outcome", "intent"])


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
                    index.one(id_of(number).encode(), "intent", leaf_of(number), seq)
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
    index.one(id_of(1).encode(), "outcome", leaf_of(1), 1)
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
