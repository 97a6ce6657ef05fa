"""Bound streams: each step has the context of the stream, with the spans that it opened."""

from collections.abc import AsyncGenerator, Generator

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from agent_identity._guard.lifecycle.bound_streams import bind_stream

TRACER = TracerProvider().get_tracer("test")


def name() -> str:
    """Return the name of the current span."""
    return getattr(trace.get_current_span(), "name", "none")


def test_a_span_that_a_stream_has_opened_is_current_in_its_later_steps() -> None:
    """Between the steps the consumer has its own span, and none after the stream has closed its own."""

    def steps() -> Generator[str]:
        with TRACER.start_as_current_span("inner"):
            yield name()
            yield name()
        yield name()

    with TRACER.start_as_current_span("maker"):
        stream = bind_stream(steps())
    with TRACER.start_as_current_span("consumer"):
        assert [(step, name()) for step in stream] == [
            ("inner", "consumer"),
            ("inner", "consumer"),
            ("maker", "consumer"),
        ]


async def test_asynchronous_streams_keep_their_spans_likewise() -> None:
    """The same holds for asynchronous streams."""

    async def steps() -> AsyncGenerator[str]:
        with TRACER.start_as_current_span("inner"):
            yield name()
            yield name()
        yield name()

    with TRACER.start_as_current_span("maker"):
        stream = bind_stream(steps())
    with TRACER.start_as_current_span("consumer"):
        assert [(step, name()) async for step in stream] == [
            ("inner", "consumer"),
            ("inner", "consumer"),
            ("maker", "consumer"),
        ]
