"""Spans in blocks, read in this process or in others: what is found does not depend on it."""

import copy
import gzip
import io
import json
import pickle
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

sys.path.insert(0, str(Path(__file__).parent))

import test_spans as spans

from agent_identity import Enforcer, Report, Verifier
from agent_identity._spans.otlp_json import Document
from agent_identity._verify.grants import chain_check
from agent_identity._verify.ledger import index as ledger_index
from agent_identity._verify.spans import _coverage as coverage
from agent_identity._verify.spans import spans_check
from agent_identity.errors import ConfigurationError
from agent_identity.identity import SigningKey
from agent_identity.options import Telemetry

run = spans.run

LIMITS = [
    (spans_check, "_BLOCK"),
    (spans_check, "_NEAR"),
    (coverage, "_NEAR"),
    (chain_check, "_MAX_NEAR"),
    (ledger_index, "_WAITING"),
    (ledger_index, "_AT_ONCE"),
]
"""What is 1 here: each document is a block, and nothing but one entry is in memory."""


def alone(document: dict[str, Any]) -> list[bytes]:
    """Return each span of a document as a line."""
    return spans.lines(document).splitlines()


def elsewhere(function: Callable[[Any], Iterable[Any]], items: Iterable[Any], /) -> Iterator[Any]:
    """Do the work as another process would, through bytes."""
    for item in items:
        there, given = pickle.loads(pickle.dumps((function, item)))  # noqa: S301
        yield from pickle.loads(pickle.dumps(list(there(given))))  # noqa: S301


def verified(run: spans.Run, data: Any, **options: Any) -> Report:
    """Verify spans in this process, in small blocks with everything on the disk, and elsewhere; all say the same."""
    report = spans.report_on(run, data, **options)
    with pytest.MonkeyPatch.context() as patch:
        for module, name in LIMITS:
            patch.setattr(module, name, 1)
        assert spans.report_on(run, data, **options) == report
        assert spans.report_on(run, data, **options, processes=elsewhere) == report
    return report


def test_what_contradicts_an_earlier_block_is_found(run: spans.Run) -> None:
    """A second version, a second record at a place, and a broken link between two blocks."""
    lines = alone(run.document())
    first = spans.tool_spans(run.document())[0]
    stream = spans.record_on(first)["stream"]
    later = {"id": stream["id"], "seq": str(int(stream["seq"]) + 1), "prev": "A" * 43}
    other = "AZq1rUgAcACAAAAAAADwDQ"
    for forged, code in (
        (spans.resigned(run, first, outcome="error"), "two_versions"),
        (spans.resigned(run, first, id=other), "two_at_one_place"),
        (spans.resigned(run, first, id=other, stream=later), "broken_link"),
        (spans.resigned(run, first, id=other, agent={"id": "x", "owner": "y"}), "claims_differ"),
    ):
        document = {"resourceSpans": [{"scopeSpans": [{"spans": [forged]}]}]}
        report = verified(run, b"\n".join([*lines, json.dumps(document).encode()]))
        assert code in spans.codes(report)


@pytest.mark.parametrize("turned", [False, True])
def test_a_link_that_is_broken_is_found_in_any_order(run: spans.Run, turned: bool) -> None:
    """A record does not continue the one before it, whichever of the two comes first, in one block or in two."""
    first = spans.tool_spans(run.document())[0]
    stream = spans.record_on(first)["stream"]
    later = {"id": stream["id"], "seq": str(int(stream["seq"]) + 1), "prev": "A" * 43}
    forged = spans.resigned(run, first, id="AZq1rUgAcACAAAAAAADwDQ", stream=later)
    pair = [forged, first] if turned else [first, forged]
    whole = {"resourceSpans": [{"scopeSpans": [{"spans": pair}]}]}
    for data in (spans.lines(whole), json.dumps(whole).encode()):
        report = verified(run, data)
        assert "broken_link" in spans.codes(report)


def test_what_cannot_be_read_stands_between_blocks(run: spans.Run, tmp_path: Path) -> None:
    """Damaged lines and a file that ends early are reported in their order, and the rest is verified."""
    lines = alone(run.document())
    (tmp_path / "a.jsonl").write_bytes(b"\n".join([*lines[:3], b'{"resourceSpans', *lines[3:5]]))
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(b"\n".join(lines[5:6]))[:-4])
    (tmp_path / "c.jsonl").write_bytes(lines[6])
    report = Verifier(run.trust).traces(*[tmp_path / name for name in ("a.jsonl", "b.jsonl.gz", "c.jsonl")])
    assert spans.codes(report) >= {"malformed_document", "unreadable"}
    assert report.counts["verified"] == 6


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
    report = verified(run, b"\n".join([around[0], *alone(document), *around[1:]]))
    rows = {row.scope: (row.calls, row.attributed, row.human) for row in report.coverage}
    assert rows == {"agent_identity": (5, 4, 4), "langchain": (1, 1, 1), "mcp": (2, 1, 1), "wild": (1, 0, 0)}


def test_libraries_beyond_a_thousand_are_counted_as_one(run: spans.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever writes ever new and ever longer names of libraries fills neither memory nor report."""
    monkeypatch.setattr(coverage, "_MAX_SCOPES", 3)
    document = run.document()
    ours = spans.tool_spans(document)[0]
    ids = {"traceId": ours["traceId"], "parentSpanId": ours["spanId"]}
    calls = [spans.call_span(f"lib {n % 7}" + "x" * 300, "x", spanId=f"{n:016x}", **ids) for n in range(1, 15)]
    around = [json.dumps({"resourceSpans": [call]}).encode() for call in calls]
    many = json.dumps({"resourceSpans": calls[10:5:-1]}).encode()
    report = verified(run, b"\n".join([*alone(document), *around, many]))
    rows = {row.scope: (row.calls, row.attributed, row.human) for row in report.coverage}
    cut = "x" * (256 - len("lib 1"))
    assert rows == {
        "(other libraries)": (13, 1, 1),
        "agent_identity": (5, 4, 4),
        f"lib 1{cut}": (3, 1, 1),
        f"lib 2{cut}": (3, 1, 1),
    }


def test_processes_give_the_same_report(run: spans.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two real processes, several files, and progress that ends at the size of all."""
    lines = alone(run.document())
    forged = copy.deepcopy(run.document())
    spans.forged_decision(forged)
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(lines))
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(spans.lines(forged)))
    files = [tmp_path / "a.jsonl", tmp_path / "b.jsonl.gz"]
    size = sum(file.stat().st_size for file in files)
    monkeypatch.setattr(spans_check, "_BLOCK", 1)
    seen: list[tuple[int, int]] = []
    report = Verifier(run.trust, processes=2, progress=lambda done, total: seen.append((done, total))).traces(*files)
    assert report == Verifier(run.trust).traces(*files)
    assert (report.exit_code, report.counts["duplicates"]) == (1, 7)
    assert seen == sorted(seen)
    assert seen[-1] == (size, size)


@pytest.mark.sample(3)
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
    expected = Verifier(run.trust).traces(*files)
    assert (expected.exit_code, expected.counts["verified"], expected.counts["malformed"]) == (3, 7, 2)
    alike = Verifier(run.trust).traces(*files[:1])
    seen: list[tuple[int, int]] = []

    def tell(done: int, total: int) -> None:
        seen.append((done, total))

    assert (
        Verifier(run.trust, processes=2, progress=tell).traces(*files[:1]) == alike
    )  # One block, for which no process is started.
    assert seen[-1] == (files[0].stat().st_size,) * 2
    monkeypatch.setattr(spans_check, "_BLOCK", size)
    del seen[:]
    assert Verifier(run.trust, processes=2, progress=tell).traces(*files) == expected
    assert seen == sorted(seen)
    assert seen[-1] == (sum(file.stat().st_size for file in files),) * 2
    assert Verifier(run.trust, processes=2).traces(*files, tmp_path / "a.jsonl").counts["duplicates"] == 4


def test_a_long_name_of_ours_is_found(run: spans.Run) -> None:
    """However long the names are that somebody added to spans of ours."""
    document = run.document()
    spans.on_each(lambda span: spans.set_value(span, "agent_identity." + "x" * 20_000, "v"))(document)
    assert "field_added" in spans.codes(spans.report_on(run, document))


@pytest.mark.parametrize(("more", "sizes"), [(0, [2, 2, 2, 2]), (1, [3, 3, 2]), (1_000, [8])])
def test_a_block_has_as_many_documents_as_reach_its_size(
    more: int, sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last one has what is left, and the files are read with it."""
    lines = [b'{"resourceSpans":[%d]}\n' % number for number in range(8)]
    data = b"".join(lines)
    monkeypatch.setattr(spans_check, "_BLOCK", 2 * (spans_check._BESIDE + len(lines[0])) + more)
    blocks = list(spans_check._blocks([io.BytesIO(data)]))
    assert [len(block.items) for block in blocks] == sizes
    assert (
        b"".join(document.data for block in blocks for document in block.items if isinstance(document, Document))
        == data
    )
    assert blocks[-1].end == len(data)


def test_a_file_that_is_not_there_is_named_whoever_reads(run: spans.Run, tmp_path: Path) -> None:
    """An error is the same with several processes."""
    with pytest.raises(ConfigurationError, match="No such file"):
        Verifier(run.trust, processes=2).traces(tmp_path / "absent")


def test_what_the_ledger_proves_needs_no_signature(run: spans.Run) -> None:
    """It is counted and said; the signature on the span is not looked at, and without the ledger it is."""
    document = run.document()
    broken = "agent_identity.attestation.signature"
    spans.on_each(lambda span: spans.set_value(span, broken, "A" * 86))(document)
    report = verified(run, spans.lines(document), ledger=run.directory)
    assert (report.verdict, report.completeness, report.counts["proved_by_ledger"]) == ("verified", "complete", 7)
    assert "7 of them, whose signatures on spans were not checked" in report.steps[1].detail
    report = spans.report_on(run, document)
    assert (report.exit_code, spans.codes(report)) == (1, {"bad_signature"})
    assert "proved_by_ledger" not in report.counts


@pytest.mark.parametrize(
    ("part", "value", "code"),
    [
        ("keyid", "A" * 43, "unknown_key"),
        ("digest", "A" * 43, "bad_attestation"),
        ("signature", "A" * 85, "truncated"),
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
    spans.set_value(spans.tool_spans(document)[0], "agent_identity.attestation.signature", "A" * 86)
    report = spans.report_on(run, document, ledger=copied)
    assert spans.codes(report) >= {"bad_signature", "ledger_contradicted"}
    assert not report.counts["proved_by_ledger"]


def test_a_ledger_that_grows_meanwhile_is_read_again(tmp_path: Path) -> None:
    """A record that was made after the ledger was read is no record that was removed from it."""
    text = io.StringIO()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans.FileSpanExporter(stream=text)))
    with Enforcer.open(tmp_path, telemetry=Telemetry(tracer_provider=provider)) as enforcer:
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

        report = Verifier(tmp_path / "trust.json").traces(Live(), ledger=tmp_path)
    assert report.counts["verified"] == 2
    assert spans.codes(report) <= {"ledger_not_verified"}
    assert "2 of 2 records are in the ledger" in report.steps[7].detail
