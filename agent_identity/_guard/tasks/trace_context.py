"""The trace context of a task across processes (W3C Trace Context): for correlation, never for authority."""

from collections.abc import Mapping
from typing import Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

TRACEPARENT: Final = "traceparent"
"""The name of the header and of the environment variable."""

_W3C: Final = TraceContextTextMapPropagator()
_LONGEST: Final = 512


def traceparent() -> str | None:
    """Return the current span as a ``traceparent``, or ``None`` outside any trace. Baggage is not propagated."""
    carrier: dict[str, str] = {}
    _W3C.inject(carrier)
    return carrier.get(TRACEPARENT)


def remote_parent(header: str | None) -> Context | None:
    """Return a context under the span that a ``traceparent`` names.

    ``None``, which means the current context, if the header is missing or malformed, or an instrumentation has already
    made a span for the request.
    """
    if header is None or len(header) > _LONGEST or trace.get_current_span().get_span_context().is_valid:
        return None
    carrier: Mapping[str, str] = {TRACEPARENT: header}
    context = _W3C.extract(carrier)
    return context if trace.get_current_span(context).get_span_context().is_valid else None
