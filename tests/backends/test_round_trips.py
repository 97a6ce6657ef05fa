"""Spans that a real back end took, stored and gave back verify, and the documentation says what it changed."""

import io
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter

from agent_identity import Verifier
from agent_identity._spans.pasted_spans import PastedSpan, read_pasted

TABLE = Path(__file__).resolve().parents[2] / "docs/reference/backends.md"
MARKER = "made-for-this-test"
NAMES = {"phoenix": "Arize Phoenix", "mlflow": "MLflow", "clickhouse": "ClickHouse"}
READ = {"phoenix": ("REST", "REST, as OTLP", "SQLite"), "mlflow": ("client", "SQLite"), "clickhouse": ("SQL",)}
WAYS = [pytest.param(name, way, id=f"{name}-{way}") for name, ways in READ.items() for way in ways]
PACKAGES = {"phoenix": "phoenix", "mlflow": "mlflow", "clickhouse": "chdb"}


@dataclass(frozen=True)
class Stored:
    """What a back end gave back of the spans that were sent to it over each protocol."""

    evidence: Path
    spans: int
    texts: dict[str, str]


@pytest.fixture(scope="module")
def stored(
    servers: ModuleType, act: Callable[[Path, Any], int], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Stored]:
    """Return a function that runs a back end once and returns what it stored."""
    known: dict[str, Stored] = {}

    def of(name: str) -> Stored:
        pytest.importorskip(PACKAGES[name], reason=f"{NAMES[name]} is not installed here; python3 dev.py test backends")
        if name not in known:
            known[name] = run(servers, name, act, tmp_path_factory.mktemp(name))
        return known[name]

    return of


def run(servers: ModuleType, name: str, act: Callable[[Path, Any], int], folder: Path) -> Stored:
    evidence, sent = folder / "evidence", 0
    (folder / "server").mkdir()
    with getattr(servers, name)(folder / "server") as back_end:
        for exporter in exporters(back_end):
            provider = TracerProvider(resource=Resource.create({"deployed.as": MARKER}), shutdown_on_exit=False)
            provider.add_span_processor(BatchSpanProcessor(exporter))
            sent += act(evidence, provider)
            provider.shutdown()
        texts = {way: servers.until(sent, read) for way, read in back_end.read.items()}
    return Stored(evidence, sent, texts)


def exporters(back_end: Any) -> Iterator[SpanExporter]:
    """Yield the official exporters over each protocol that a back end takes."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    yield OTLPSpanExporter(endpoint=back_end.http, headers=dict(back_end.headers))
    if back_end.grpc:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter

        yield GrpcExporter(endpoint=back_end.grpc, insecure=True)


@pytest.mark.parametrize(("name", "way"), WAYS)
def test_what_a_back_end_gives_back_verifies(stored: Callable[[str], Stored], name: str, way: str) -> None:
    """Every span comes back with its record, ids and copies, over every protocol and by every way of reading."""
    found = stored(name)
    report = Verifier(found.evidence / "trust.json").pasted(io.BytesIO(found.texts[way].encode()))
    assert (report.verdict, report.findings) == ("verified", ())
    assert report.counts["verified"] == found.spans
    assert report.counts["denied"] == found.spans // 5
    assert "0 missing" in report.steps[4].detail


@pytest.mark.parametrize(("name", "way"), WAYS)
def test_what_is_changed_in_a_back_end_is_found(stored: Callable[[str], Stored], name: str, way: str) -> None:
    """Whoever edits what is stored, a name or a decision, contradicts the records."""
    found = stored(name)
    for old, new in (("alice@example.com", "mallory@example.com"), ("within_scope", "ordered_from_above")):
        assert old in found.texts[way]
        report = Verifier(found.evidence / "trust.json").pasted(io.BytesIO(found.texts[way].replace(old, new).encode()))
        codes = {problem.code for problem in report.findings}
        assert report.verdict == "contradicted"
        assert {"field_changed"} <= codes <= {"field_changed", "copy_changed"}


@pytest.mark.parametrize(("name", "way"), WAYS)
def test_the_table_says_what_each_back_end_changed(stored: Callable[[str], Stored], name: str, way: str) -> None:
    """The row of the reference page is what is seen here."""
    found = stored(name)
    spans = [item for item in read_pasted(found.texts[way].encode()) if isinstance(item, PastedSpan)]
    row = f"| {NAMES[name]} | {way} | {' | '.join(facts(found.texts[way], spans))} |"
    assert row in TABLE.read_text("utf-8").splitlines(), row


def facts(text: str, spans: list[PastedSpan]) -> Iterator[str]:
    """Yield how attributes, arrays, ids, times and the resource came back."""
    payload = str(spans[0].attributes["agent_identity.attestation.payload"])
    before = re.sub(r'[\\\s"]', "", text[: text.index(payload)])[-40:]
    kinds = {"string_value:": "pairs", ".payload:": "flat", "{payload:": "nested", ",payload:": "nested"}
    how = next(kind for end, kind in kinds.items() if before.endswith(end))
    yield f"{how}, each value as JSON" if re.search(r':\s*\\*"\\+"' + re.escape(payload[:40]), text) else how
    chains = [span.attributes["agent_identity.delegation.chain"] for span in spans]
    kinds = {type(chain) for chain in chains}
    yield "arrays" if kinds == {list} else "OTLP/JSON text" if "stringValue" in str(chains[0]) else "JSON text"
    yield "hex" if {len(str(shown)) for span in spans for shown in span.span_ids} == {16} else "base64"
    records = [json.loads(_opened(span)) for span in spans]
    starts = [record["time"]["start"] for record in records if record["kind"] == "outcome"]
    nanoseconds = all(start in text or start[-9:] in text for start in starts)
    yield "nanoseconds" if nanoseconds else "rounded"
    yield "kept" if MARKER in text else "not shown"


def _opened(span: PastedSpan) -> bytes:
    from agent_identity._identity.common.encoding import b64url_decode

    return b64url_decode(str(span.attributes["agent_identity.attestation.payload"]))
