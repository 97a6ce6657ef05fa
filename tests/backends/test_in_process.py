"""Processors of observability products that run in the process: what they remove by pattern is not our evidence."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from agent_identity import Report, Verifier

Act = Callable[[Path, Any], int]


def verified(evidence: Path, exporter: InMemorySpanExporter) -> Report:
    """Return the report on what an exporter got, through OTLP in Protocol Buffers."""
    from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans

    data = encode_spans(exporter.get_finished_spans()).SerializeToString()
    return Verifier(evidence / "trust.json").traces(io.BytesIO(data), ledger=evidence)


def test_logfires_scrubber_leaves_what_a_callback_keeps(act: Act, tmp_path: Path) -> None:
    """Behind Logfire's scrubber every span verifies, if its callback keeps our attributes, whatever they spell."""
    logfire = pytest.importorskip("logfire", reason="Logfire is not installed here")
    seen: list[str] = []

    def keep_evidence(match: Any) -> object:
        ours = any(str(part).startswith("agent_identity.") for part in match.path)
        seen.extend(str(match.path[-1]) for _ in range(ours))
        return match.value if ours else None

    exporter = InMemorySpanExporter()
    # Attributes that would be blanked by chance are so by this pattern each time.
    options = logfire.ScrubbingOptions(callback=keep_evidence, extra_patterns=["eyJ"])
    instance = logfire.configure(
        local=True,
        scrubbing=options,
        send_to_logfire=False,
        console=False,
        metrics=False,
        additional_span_processors=[SimpleSpanProcessor(exporter)],
    )
    provider = instance.config.get_tracer_provider()
    try:
        sent = act(tmp_path, provider)
    finally:
        instance.shutdown()
    report = verified(tmp_path, exporter)
    assert (report.verdict, report.findings) == ("verified", ())
    assert report.counts["verified"] == sent
    assert "agent_identity.attestation.payload" in seen


def test_langfuses_filter_keeps_our_spans(act: Act, tmp_path: Path) -> None:
    """Langfuse exports what looks like GenAI; our spans do, and verify behind its processor."""
    pytest.importorskip("langfuse", reason="Langfuse is not installed here; python3 dev.py test backends")
    from langfuse.span_filter import is_default_export_span

    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    sent = act(tmp_path, provider)
    spans = exporter.get_finished_spans()
    assert len(spans) == sent
    assert all(map(is_default_export_span, spans))


def test_phoenixs_provider_takes_and_gives_our_spans(act: Act, tmp_path: Path) -> None:
    """A processor added beside Phoenix's own gets every span, and they verify."""
    otel = pytest.importorskip("phoenix.otel", reason="Phoenix is not installed here; python3 dev.py test backends")

    class Nowhere(SpanExporter):
        def export(self, spans: Any) -> Any:
            from opentelemetry.sdk.trace.export import SpanExportResult

            return SpanExportResult.SUCCESS

    first, second = InMemorySpanExporter(), InMemorySpanExporter()
    provider = otel.TracerProvider(verbose=False)
    provider.add_span_processor(otel.SimpleSpanProcessor(span_exporter=first))
    provider.add_span_processor(SimpleSpanProcessor(second), replace_default_processor=False)
    sent = act(tmp_path, provider)
    for exporter in (first, second):
        report = verified(tmp_path, exporter)
        assert (report.verdict, report.findings, report.counts["verified"]) == ("verified", (), sent)
