"""Spans: a copy of the evidence for the tracing back ends that people already run.

Telemetry fails open. A provider, sampler or processor that raises costs a span and never a call; the
ledger has everything. Evidence attributes are set last, because the SDK drops the oldest attributes
when there are too many, and before ``end()``, because nothing can be added to a span afterwards.
"""

import logging
from collections.abc import Mapping
from typing import Final, cast, final

import orjson
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer, TracerProvider
from opentelemetry.util.types import AttributeValue

from agent_identity.canonical import RecordValue
from agent_identity.enforcement.failures import trouble
from agent_identity.evidence import Entry, mirrored_attributes, signed_attributes
from agent_identity.identity import Signer

__all__ = ["Spans"]

_LOG: Final = logging.getLogger("agent_identity")
_SCOPE: Final = "agent_identity"
_GOOD: Final = frozenset({"success", "routed", "suspended", "cancelled"})


@final
class Spans:
    """Makes spans with the tracer provider as it is at call time.

    Args:
        signer: Signs the records that travel on spans (the recorder key).
        provider: A fixed provider; ``None`` follows the global one, whenever it is set.
        version: Our version, for the instrumentation scope.
    """

    __slots__ = ("_provider", "_seen", "_signer", "_tracer", "_version")

    def __init__(self, signer: Signer, provider: TracerProvider | None, version: str) -> None:
        self._signer = signer
        self._provider = provider
        self._version = version
        self._seen: TracerProvider | None = None
        self._tracer: Tracer | None = None

    def start(self, name: str, attributes: Mapping[str, str], start_ns: int, context: Context | None = None) -> Span:
        """Start a span; one that does not record if telemetry fails."""
        try:
            return self._current().start_span(
                name, context, kind=SpanKind.INTERNAL, attributes=attributes, start_time=start_ns
            )
        except Exception as error:  # noqa: BLE001 - Telemetry fails open: any failure of a provider costs only the span.
            _complain("a tracer provider failed to start a span", error)
            return trace.INVALID_SPAN

    def examine(self) -> None:
        """Log what about the provider of now would cost spans or cut the evidence on them."""
        try:
            self._current()
        except Exception as error:  # noqa: BLE001 - Telemetry fails open, as above.
            _complain("a tracer provider could not be examined", error)

    def _current(self) -> Tracer:
        provider = self._provider or trace.get_tracer_provider()
        tracer = self._tracer
        if tracer is None or provider is not self._seen:
            tracer = self._tracer = provider.get_tracer(_SCOPE, self._version)
            self._seen = provider
            _warn_about(provider)
        return tracer

    def finish(self, span: Span, entry: Entry, end_ns: int, extra: Mapping[str, str] | None = None) -> None:
        """Put the signed record on the span and end it.

        Args:
            span: The span.
            entry: The record as the ledger keeps it.
            end_ns: End time in nanoseconds since the epoch.
            extra: Further attributes, set before the evidence.
        """
        try:
            if span.is_recording():
                record = cast("dict[str, RecordValue]", orjson.loads(entry.record))
                attributes: dict[str, AttributeValue] = dict(extra or ())
                attributes.update(mirrored_attributes(record))
                attributes.update(signed_attributes(entry.record, self._signer))
                span.set_attributes(attributes)
                outcome = record.get("outcome")
                if outcome is not None and outcome not in _GOOD:
                    span.set_status(Status(StatusCode.ERROR, str(record.get("error", outcome))))
            span.end(end_time=end_ns)
        except Exception as error:  # noqa: BLE001 - Telemetry fails open, as above.
            _complain("a span could not be finished", error)

    @staticmethod
    def records(span: Span) -> bool:
        """Tell whether a record put on the span would be kept."""
        try:
            return span.is_recording()
        except Exception as error:  # noqa: BLE001 - Telemetry fails open, as above.
            _complain("a span does not say whether it records", error)
            return False

    @staticmethod
    def abandon(span: Span) -> None:
        """End a span whose record could not be written."""
        try:
            span.end()
        except Exception as error:  # noqa: BLE001 - Telemetry fails open, as above.
            _complain("a span could not be ended", error)


def _warn_about(provider: TracerProvider) -> None:
    if isinstance(provider, trace.ProxyTracerProvider):
        return  # None is set yet; whether one is wanted, only the application knows.
    from agent_identity.enforcement.diagnosis import examine_telemetry  # noqa: PLC0415  Loads the SDK.

    for check in examine_telemetry(provider):
        if check.status != "ok":
            _LOG.warning("%s: %s; %s", check.name, check.detail, check.cure)


def trace_claim(span: Span) -> Mapping[str, str] | None:
    """Return the ids of the span for the record, or ``None`` where there is no trace."""
    try:
        context = span.get_span_context()
        ids = {"trace": f"{context.trace_id:032x}", "span": f"{context.span_id:016x}"} if context.is_valid else None
    except Exception as error:  # noqa: BLE001 - Telemetry fails open, as above.
        _complain("a span has no usable context", error)
        return None
    return ids


def _complain(problem: str, error: Exception) -> None:
    # Without a trace, which would show the texts of the exceptions before this one: those of bodies and callers.
    _LOG.warning("%s: %s; the ledger is not affected", problem, trouble(error))
