"""Logfire, by the way its manual names for LangChain: the spans that LangSmith makes, into Logfire's provider."""

import os
from contextlib import ExitStack

os.environ.update(LANGSMITH_OTEL_ENABLED="true", LANGSMITH_OTEL_ONLY="true", LANGSMITH_TRACING="true")

import logfire  # LangSmith reads the variables when it is imported.
from comparing import GIVEN, TRACE, Counted, Peer, bare_tool, compare
from langsmith import tracing_context
from opentelemetry.sdk.trace.export import BatchSpanProcessor

exporter, tool, switched_off = Counted(), bare_tool(), ExitStack()
processors = [BatchSpanProcessor(exporter)]
logfire.configure(send_to_logfire=False, console=False, metrics=False, additional_span_processors=processors)
compare(
    Peer(
        package="logfire",
        does=TRACE,
        call=lambda: tool.invoke(GIVEN),
        count=lambda: exporter.count,
        off=lambda: switched_off.enter_context(tracing_context(enabled=False)),
        on=switched_off.close,
        settle=logfire.force_flush,
    )
)
