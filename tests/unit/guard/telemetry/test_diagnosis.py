"""What happens to spans once they are made: processors, exporters, scrubbers and propagators, each with a cure."""

import re
from types import SimpleNamespace
from typing import Any

import pytest
from opentelemetry import propagate, trace
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from agent_identity._guard.telemetry.diagnosis import Check, examine_pipeline, examine_telemetry
from agent_identity.telemetry import stamp_spans


def provider(*processors: SpanProcessor) -> TracerProvider:
    """Return a provider with these processors."""
    made = TracerProvider(shutdown_on_exit=False)
    for processor in processors:
        made.add_span_processor(processor)
    return made


def found(made: Any) -> dict[str, list[Check]]:
    """Return the findings about a provider, by name; each that is not ok has a cure."""
    by_name: dict[str, list[Check]] = {}
    for check in examine_pipeline(made):
        assert (check.cure == "") is (check.status == "ok")
        by_name.setdefault(check.name, []).append(check)
    return by_name


class Endless:
    """What hands on to itself."""

    def __init__(self) -> None:
        self.exporter = self


def test_processors_are_named_with_where_they_send() -> None:
    """A platform engineer sees in one line what gets the spans; names and passwords in addresses are left out."""
    batch = BatchSpanProcessor(OTLPSpanExporter("https://alice:canary@collector.example:4318/v1/traces?key=canary"))
    made = provider(batch, SimpleSpanProcessor(InMemorySpanExporter()))
    stamp_spans(made)
    (check,) = found(made)["processors"]
    assert check.status == "ok"
    assert check.detail.split(", ") == [
        "BatchSpanProcessor → OTLPSpanExporter to collector.example:4318/v1/traces",
        "SimpleSpanProcessor → InMemorySpanExporter",
        "AgentIdentitySpanProcessor",
    ]
    batch.shutdown()


def test_no_processor_is_found() -> None:
    """A provider without processors makes spans that go nowhere."""
    (check,) = found(provider())["processors"]
    assert (check.status, check.detail) == ("warn", "none: spans are made, and go nowhere")


def test_an_exporter_in_the_way_of_the_caller_is_found() -> None:
    """A simple processor over a network holds up each call while the collector is down."""
    processor = SimpleSpanProcessor(OTLPSpanExporter("http://localhost:4318/v1/traces"))
    ok, slow = found(provider(processor))["processors"]
    assert (ok.status, slow.status) == ("ok", "warn")
    assert slow.detail.endswith("localhost:4318/v1/traces sends in the way of the caller")
    processor.shutdown()


def test_a_processor_that_hands_on_to_itself_ends() -> None:
    """However processors are nested, the search for their exporter ends."""
    processor: Any = SimpleSpanProcessor(InMemorySpanExporter())
    processor.span_exporter = Endless()
    (check,) = found(provider(processor))["processors"]
    assert check.detail == "SimpleSpanProcessor"


def test_an_exporter_of_phoenix_that_the_next_processor_drops_is_found() -> None:
    """Phoenix's provider drops its default processor when another one is added; the cure keeps it."""
    made: Any = provider(SimpleSpanProcessor(InMemorySpanExporter()))
    made._default_processor = object()
    _, check = found(made)["processors"]
    assert (check.status, "stamp_spans" in check.cure) == ("warn", True)


@pytest.mark.parametrize(
    ("patterns", "status", "detail"),
    [
        (None, "ok", "leave the names of our attributes alone"),
        (["nothing.of.ours"], "ok", "leave the names of our attributes alone"),
        (["DELEGATION.GRANT"], "warn", "blank agent_identity.delegation.grant"),
        (["principal", "agent"], "warn", r"blank agent_identity\.[a-z._]+, agent_identity\.[a-z._]+, [a-z._]+, …"),
    ],
)
def test_logfires_patterns_are_held_against_our_names(patterns: Any, status: str, detail: str) -> None:
    """Patterns that the application adds may hit the names of our attributes; the defaults do not."""
    inner = provider(SimpleSpanProcessor(InMemorySpanExporter()))
    outer: Any = SimpleNamespace(
        provider=inner, config=SimpleNamespace(scrubbing=SimpleNamespace(extra_patterns=patterns))
    )
    (check,) = found(outer)["scrubber"]
    assert check.status == status
    assert re.search(detail, check.detail)
    outer.config.scrubbing = False
    assert "scrubber" not in found(outer)


def refuse(span: ReadableSpan) -> bool:
    """Raise."""
    raise ValueError("canary")


@pytest.mark.parametrize(
    ("filtered", "status"),
    [(lambda span: "gen_ai.tool.name" in span.attributes, "ok"), (lambda span: False, "warn"), (refuse, "warn")],
    ids=["keeps", "drops", "raises"],
)
def test_langfuses_filter_is_asked(filtered: Any, status: str) -> None:
    """The filter of the application is asked about a span as ours are; one that raises drops it."""
    processor: Any = SimpleSpanProcessor(InMemorySpanExporter())
    processor._should_export_span = filtered
    (check,) = found(provider(processor))["scrubber"]
    assert (check.status, "canary" in check.detail) == (status, False)


def test_langfuses_mask_is_found() -> None:
    """A function that masks attributes before they are sent may mask ours."""
    exporter: Any = InMemorySpanExporter()
    exporter._mask_otel_spans = print
    (check,) = found(provider(SimpleSpanProcessor(exporter)))["scrubber"]
    assert (check.status, check.detail) == ("warn", "Langfuse's mask_otel_spans may change evidence")


def test_propagators_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without trace context, traces are split at the border of a process."""
    both = CompositePropagator([TraceContextTextMapPropagator(), W3CBaggagePropagator()])
    monkeypatch.setattr(propagate, "get_global_textmap", lambda: both)
    (check,) = found(provider())["propagators"]
    assert (check.status, check.detail) == ("ok", "TraceContextTextMapPropagator, W3CBaggagePropagator")
    monkeypatch.setattr(propagate, "get_global_textmap", W3CBaggagePropagator)
    (check,) = found(provider())["propagators"]
    assert (check.status, check.detail) == (
        *("warn", "W3CBaggagePropagator: traces are split at the border of a process"),
    )


def test_without_an_sdk_only_the_propagators_are_looked_at() -> None:
    """Of a provider that is not the SDK's nothing is guessed."""
    assert set(found(trace.NoOpTracerProvider())) == {"propagators"}


def test_a_provider_before_that_of_the_sdk_is_looked_through() -> None:
    """Products put a provider of their own before that of the SDK; it makes spans, and is no finding."""
    outer: Any = SimpleNamespace(provider=provider())
    first, *_ = examine_telemetry(outer, {})
    assert (first.status, first.detail) == ("ok", "SDK tracer provider, types.SimpleNamespace")
    outer.provider = None
    assert examine_telemetry(outer, {})[0].status == "warn"
