"""Spans that went through collectors and exporters of others still verify, with the record ids of the ledger."""

import asyncio
import base64
import contextlib
import importlib.util
import json
import socket
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from google.protobuf.json_format import ParseDict
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from agent_identity import Agent, Denied, Enforcer, Human, Report, Scope, Verifier
from agent_identity._ledger.reader import open_ledger
from agent_identity.options import Telemetry

ALICE = Human("alice@example.com")
SUPERVISOR = Agent("invoice-supervisor", owner="finance-ops@example.com")
CLERK = Agent("invoice-clerk", owner="finance-ops@example.com")
SCOPE = Scope("read_invoice", invoice_id="INV-42")
CALLS = 40


def act(evidence: Path, exporter: SpanExporter) -> None:
    """Do work under a task and a delegation, refused and failed calls included, and export its spans in batches."""
    provider = TracerProvider(resource=Resource.create({"service.name": "test"}), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=50, max_export_batch_size=16))
    try:
        with Enforcer.open(evidence, telemetry=Telemetry(tracer_provider=provider)) as enforcer:

            @enforcer.tool
            def read_invoice(invoice_id: str) -> str:
                return f"{invoice_id}: EUR 120"

            with enforcer.task("Rechnungen für Müller prüfen", principal=ALICE, agent=SUPERVISOR, scope=SCOPE):
                for _ in range(CALLS // 2):
                    read_invoice("INV-42")
                with enforcer.delegate(CLERK, scope=SCOPE):
                    for _ in range(CALLS // 2):
                        read_invoice("INV-42")
                    with pytest.raises(Denied):
                        read_invoice("INV-43")
            with pytest.raises(Denied):
                read_invoice("INV-42")
    finally:
        provider.shutdown()


def ledger_ids(evidence: Path) -> set[str]:
    """Return the ids of the records of which each has a span."""
    reader = open_ledger(evidence)
    lines = [line.record for stream in reader.streams() for line in reader.entries(stream)]
    records = [json.loads(line) for line in lines if line is not None]
    return {record["id"] for record in records if record["kind"] in ("outcome", "task_end")}


def spans_of(document: dict[str, Any]) -> Iterator[list[dict[str, Any]]]:
    """Yield the lists of spans in an OTLP/JSON document."""
    for resource in document["resourceSpans"]:
        for scope in resource["scopeSpans"]:
            yield scope["spans"]


def documents_of(traces: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in traces.read_text("utf-8").splitlines()]


def exported_ids(traces: Path) -> list[str]:
    """Return the record ids on the spans, sorted."""
    return sorted(
        item["value"]["stringValue"]
        for document in documents_of(traces)
        for spans in spans_of(document)
        for span in spans
        for item in span["attributes"]
        if item["key"] == "agent_identity.record.id"
    )


def assert_verified(evidence: Path, traces: Path) -> Report:
    """Check that the export verifies, is complete beside its ledger, and has the same records."""
    assert exported_ids(traces) == sorted(ledger_ids(evidence))
    report = Verifier(evidence / "trust.json").traces(traces, ledger=evidence)
    assert (report.verdict, report.completeness, report.findings) == ("verified", "complete", ())
    assert report.counts["verified"] == CALLS + 4
    assert (report.coverage[0].calls, report.coverage[0].human) == (CALLS + 2, CALLS + 1)
    alone = Verifier(evidence / "trust.json").traces(traces)
    assert (alone.verdict, alone.completeness) == ("verified", "not_checked")
    return report


# rotel: a collector written in another language by others.


@pytest.fixture(scope="module")
def rotel() -> ModuleType:
    """Return the module of the examples that runs a real collector, or skip where there is none."""
    pytest.importorskip("rotel", reason="the collector rotel is not installed here")
    path = Path(__file__).resolve().parents[2] / "examples" / "collector.py"
    spec = importlib.util.spec_from_file_location("collector", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class JsonExporter(SpanExporter):
    """Sends what the official encoder of OTLP/JSON makes of spans."""

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        encoder = pytest.importorskip(
            "opentelemetry.exporter.otlp.json.common.trace_encoder", reason="no encoder of OTLP/JSON is installed here"
        )
        body = json.dumps(encoder.encode_spans(spans).to_dict()).encode()
        request = urllib.request.Request(self._endpoint, body, {"Content-Type": "application/json"})  # noqa: S310
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 - A loopback address.
            return SpanExportResult.SUCCESS if answer.status == 200 else SpanExportResult.FAILURE


def exporter_over(protocol: str, collector: Any) -> SpanExporter:
    """Return the official exporter for a protocol, or skip where it is not installed."""
    if protocol == "json":
        return JsonExporter(collector.endpoint)
    module = pytest.importorskip(
        f"opentelemetry.exporter.otlp.proto.{protocol}.trace_exporter",
        reason=f"the OTLP exporter over {protocol} is not installed here",
    )
    if protocol == "grpc":
        return module.OTLPSpanExporter(endpoint=collector.grpc_endpoint, insecure=True)
    return module.OTLPSpanExporter(endpoint=collector.endpoint)


@pytest.mark.parametrize("protocol", ["http", "grpc", "json"])
def test_spans_through_a_real_collector_verify(rotel: ModuleType, protocol: str, tmp_path: Path) -> None:
    """Nothing is lost or changed between exporter, collector and file."""
    evidence = tmp_path / "evidence"
    with rotel.collector(tmp_path / "collector") as collector:
        act(evidence, exporter_over(protocol, collector))
    assert_verified(evidence, collector.traces)
    assert b"handled.by" in collector.traces.read_bytes()


def test_ac_101_a_partial_export_is_reported(rotel: ModuleType, tmp_path: Path) -> None:
    """Whatever is dropped behind the collector, the comparison with the ledger names each missing record."""
    evidence, partial = tmp_path / "evidence", tmp_path / "partial.jsonl"
    with rotel.collector(tmp_path / "collector") as collector:
        act(evidence, exporter_over("http", collector))
    everything = exported_ids(collector.traces)
    for keep in (lambda place: place != 0, lambda place: place % 3 == 0, lambda place: place < len(everything) - 1):
        _keep(collector.traces, partial, keep)
        missing = set(everything) - set(exported_ids(partial))
        assert missing
        assert Verifier(evidence / "trust.json").traces(partial).completeness == "not_checked"
        report = Verifier(evidence / "trust.json").traces(partial, ledger=evidence)
        assert (report.verdict, report.exit_code, report.counts["spans_missing"]) == ("incomplete", 3, len(missing))
        assert {problem.record for problem in report.findings if problem.code == "span_missing"} == missing


def _keep(traces: Path, partial: Path, keep: Callable[[int], bool]) -> None:
    """Write the spans for whose places ``keep`` says so."""
    documents, place = documents_of(traces), 0
    for document in documents:
        for spans in spans_of(document):
            kept = [span for number, span in enumerate(spans, place) if keep(number)]
            place += len(spans)
            spans[:] = kept
    partial.write_text("\n".join(map(json.dumps, documents)), encoding="utf-8")


def test_what_a_collector_writes_in_protobuf_verifies(rotel: ModuleType, tmp_path: Path) -> None:
    """The same requests as a file of Protocol Buffers, in the framing of file exporters, give the same report."""
    evidence, binary = tmp_path / "evidence", tmp_path / "traces.binpb"
    with rotel.collector(tmp_path / "collector") as collector:
        act(evidence, exporter_over("http", collector))
    report = assert_verified(evidence, collector.traces)
    with binary.open("wb") as file:
        for document in documents_of(collector.traces):
            for spans in spans_of(document):
                for span in spans:
                    for name in {"traceId", "spanId", "parentSpanId"} & span.keys():
                        span[name] = base64.b64encode(bytes.fromhex(span[name])).decode()
            message = ParseDict(document, rotel.ExportTraceServiceRequest()).SerializeToString()
            file.write(len(message).to_bytes(4, "big") + message)
    assert Verifier(evidence / "trust.json").traces(binary, ledger=evidence).to_json() == report.to_json()


# Without a collector.


def test_spans_of_the_official_file_exporter_verify(tmp_path: Path) -> None:
    """What ``opentelemetry-exporter-otlp-json-file`` writes is read as it is."""
    module = pytest.importorskip(
        "opentelemetry.exporter.otlp.json.file.trace_exporter",
        reason="opentelemetry-exporter-otlp-json-file is not installed here",
    )
    evidence, traces = tmp_path / "evidence", tmp_path / "traces.jsonl"
    act(evidence, module.FileSpanExporter(traces))
    assert_verified(evidence, traces)


async def test_spans_through_another_receiver_verify(rotel: ModuleType, tmp_path: Path) -> None:
    """The receiver oteltap hands over each span as it came."""
    oteltap = pytest.importorskip("oteltap", reason="oteltap is not installed here")
    http = pytest.importorskip("opentelemetry.exporter.otlp.proto.http.trace_exporter")
    evidence, traces = tmp_path / "evidence", tmp_path / "traces.jsonl"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = oteltap.OtelTapHttpProtobufReceiverSettings(http_port=port)
    received: list[Any] = []
    async with oteltap.OtelTapHttpProtobufReceiver(settings) as receiver:

        async def collect() -> None:
            async for span in receiver.stream_traces():
                received.append(span)
                if len(received) == CALLS + 4:
                    return

        collecting = asyncio.create_task(collect())
        try:
            exporter = http.OTLPSpanExporter(endpoint=f"http://127.0.0.1:{port}/v1/traces")
            await asyncio.to_thread(act, evidence, exporter)
            await asyncio.wait_for(collecting, timeout=30)
        finally:
            collecting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await collecting
    request = rotel.ExportTraceServiceRequest()
    scope = request.resource_spans.add().scope_spans.add()
    scope.scope.name = "agent_identity"
    scope.spans.extend(received)
    traces.write_text(json.dumps(rotel._to_otlp_json(request)), encoding="utf-8")
    assert_verified(evidence, traces)
