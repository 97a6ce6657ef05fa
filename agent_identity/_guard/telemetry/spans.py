"""Spans: a copy of the evidence for existing tracing back ends.

Telemetry fails open. A failing provider, sampler or processor costs a span and never a call; the ledger has
everything. Evidence attributes are set last, because the SDK drops the oldest attributes when there are too many, and
before ``end()``, because an ended span takes none.
"""

import logging
import os
import random
from collections.abc import Mapping
from functools import lru_cache
from typing import Final, Literal, NamedTuple, TypeAlias, final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer, TracerProvider
from opentelemetry.util.types import AttributeValue

from agent_identity._guard.common.failures import safe_message
from agent_identity._guard.telemetry.foreign_spans import SCOPE, AdoptedSpan, alone, below, span_of_call, take
from agent_identity._guard.telemetry.providers import WAITING, look_for_provider
from agent_identity._identity.keys.keys import Signer, SigningKey
from agent_identity._ledger.writer import Entry
from agent_identity._record.parts import Trace
from agent_identity._spans.envelope import signed_attributes
from agent_identity._spans.span_attributes import mirrored_attributes
from agent_identity._spans.span_from_record import SCHEMA_URL, appearance_of

SpanMode: TypeAlias = Literal["auto", "own", "enrich"]
"""The spans that carry call records: another library's if available, always ours, or only theirs."""

CallSpan: TypeAlias = "Span | AdoptedSpan"
_MAX_ID: Final = (1 << 64) - 1
_LOG: Final = logging.getLogger("agent_identity")


@final
class Spans:
    """Makes spans with the current tracer provider.

    Args:
        signer: Signs the records on spans (the recorder key).
        provider: A fixed provider; ``None`` follows the global one.
        version: Our version, for the instrumentation scope.
        ids_only: Make no spans, because the ledger export sends them: only their ids, and the sampler's
            decision for the application's spans below them.
        mode: The spans that carry the records of calls. Tasks always have spans of ours: no one else makes one.
        captures: Show arguments and results on the spans of tools that do not say otherwise.

    Attributes:
        shows_content: See ``captures``; spans sent from the ledger show none.
    """

    __slots__ = ("_ids_only", "_mode", "_provider", "_seen", "_signer", "_tracer", "_version", "shows_content")

    def __init__(
        self,
        signer: Signer,
        provider: TracerProvider | None,
        version: str,
        *,
        ids_only: bool = False,
        mode: SpanMode = "auto",
        captures: bool = False,
    ) -> None:
        self._ids_only = ids_only
        self.shows_content: Final = captures and not ids_only
        self._mode = mode
        self._signer = signer
        self._provider = provider
        self._version = version
        self._seen: TracerProvider | None = None
        self._tracer: Tracer | None = None

    @property
    def signs_at_once(self) -> bool:
        """True if the key is in this process, so that signing calls no other process."""
        return type(self._signer) is SigningKey

    def start(self, name: str, attributes: Mapping[str, str], start_ns: int, context: Context | None = None) -> Span:
        """Start a span; a non-recording one if telemetry fails."""
        try:
            if WAITING:
                look_for_provider()
            if self._ids_only:
                return self._named(name, attributes, context)
            provider = self.provider
            tracer = self._tracer
            if tracer is None or provider is not self._seen:
                tracer = self._renew(provider)
            return tracer.start_span(name, context, kind=SpanKind.INTERNAL, attributes=attributes, start_time=start_ns)
        except Exception as error:  # Telemetry fails open: any failure of a provider costs only the span.
            _complain("a tracer provider failed to start a span", error)
            return trace.INVALID_SPAN

    def start_call(
        self, tool: str, name: str, attributes: Mapping[str, str], start_ns: int, around: Context | None = None
    ) -> tuple[CallSpan, "Traced"]:
        """Start the span of a call, or borrow another library's; return it with its ids."""
        context = around
        try:
            current = trace.get_current_span(around)
            # The usual case, in the hot path of every guarded tool.
            if self._mode == "enrich" or not alone(current):
                other = None if self._mode == "own" else span_of_call(tool, current)
                if other is not None and self._lends(other) and take(other):
                    span = AdoptedSpan(other, attributes)
                    return span, traced(span)
                if self._mode == "enrich":
                    span = AdoptedSpan(current, attributes, carries=False)
                    return span, traced(span)
                context = below(current, around)
        except Exception as error:  # Telemetry fails open, as above.
            _complain("a span of another library could not be used", error)
        own = self.start(name, attributes, start_ns, context)
        return own, traced(own, context)

    def _lends(self, span: Span) -> bool:
        """Return whether the record goes to the same exporter as ours: two providers have two exporters."""
        if self._mode == "enrich":
            return True
        provider = self.provider
        ours = getattr(provider, "resource", None)
        return not self._ids_only and (ours is None or getattr(span, "resource", None) is ours)

    def lacks(self, span: AdoptedSpan) -> bool:
        """Return whether a record needs a span of ours, because the borrowed one has ended, as a generator's may."""
        return self._mode == "auto" and not self.records(span)

    def regain(
        self, span: AdoptedSpan, name: str, attributes: Mapping[str, str], start_ns: int
    ) -> tuple[Span, "Traced"]:
        """Return a span of ours below a borrowed one."""
        context = trace.set_span_in_context(span.span)
        own = self.start(name, attributes, start_ns, context)
        return own, traced(own, context)

    def _named(self, name: str, attributes: Mapping[str, str], context: Context | None) -> Span:
        """Return a non-recording span with the ids and the sampling decision of the provider."""
        provider = self.provider
        parent = trace.get_current_span(context).get_span_context()
        sampler, ids = getattr(provider, "sampler", None), getattr(provider, "id_generator", None)
        if sampler is None or ids is None or os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
            if not parent.is_valid:
                return trace.INVALID_SPAN  # No one traces here; the ids follow from the record.
            span_id = random.getrandbits(64) or 1
            return _unrecorded(parent.trace_id, span_id, parent.trace_flags, parent.trace_state)
        trace_id = parent.trace_id if parent.is_valid else ids.generate_trace_id()
        result = sampler.should_sample(context, trace_id, name, SpanKind.INTERNAL, attributes, ())
        flags = trace.TraceFlags(int(result.decision.is_sampled()))
        return _unrecorded(trace_id, ids.generate_span_id(), flags, result.trace_state)

    def examine(self) -> None:
        """Log settings of the current tracer provider that lose spans or truncate evidence on them."""
        try:
            provider = self.provider
            if not self._ids_only and provider is not self._seen:
                self._renew(provider)
        except Exception as error:  # Telemetry fails open, as above.
            _complain("a tracer provider could not be examined", error)

    @property
    def provider(self) -> TracerProvider:
        """The current tracer provider."""
        return self._provider or trace.get_tracer_provider()

    def _renew(self, provider: TracerProvider) -> Tracer:
        """Take the tracer of another provider."""
        tracer = self._tracer = provider.get_tracer(SCOPE, self._version, SCHEMA_URL)
        self._seen = provider
        _warn_about(provider)
        return tracer

    def finish(self, span: CallSpan, entry: Entry, end_ns: int, extra: Mapping[str, str] | None = None) -> None:
        """Put the signed record on the span and end it; the owner of a borrowed one ends it.

        Args:
            span: The span.
            entry: The record as the ledger keeps it.
            end_ns: End time in nanoseconds since the epoch.
            extra: Further attributes, set before the evidence.
        """
        try:
            if self.records(span):
                record = entry.record
                appearance = appearance_of(record)
                attributes: dict[str, AttributeValue] = {**(extra or {}), **appearance.conventions}
                attributes.update(mirrored_attributes(record))
                attributes.update(signed_attributes(entry.data, self._signer))
                if type(span) is AdoptedSpan:
                    span.carry(attributes, appearance.error)
                    return
                if getattr(span, "name", None) != appearance.name:
                    span.update_name(appearance.name)  # The body may have renamed it, and a verifier compares names.
                span.set_attributes(attributes)
                if appearance.error is not None:
                    span.set_status(Status(StatusCode.ERROR, appearance.error))
            if type(span) is not AdoptedSpan:
                span.end(end_time=end_ns)
        except Exception as error:  # Telemetry fails open, as above.
            _complain("a span could not be finished", error)

    @staticmethod
    def records(span: CallSpan) -> bool:
        """Return whether a record put on the span would be kept."""
        try:
            return span.takes() if type(span) is AdoptedSpan else span.is_recording()
        except Exception as error:  # Telemetry fails open, as above.
            _complain("a span does not say whether it records", error)
            return False

    @staticmethod
    def end_unsigned(span: CallSpan) -> None:
        """End a span whose record could not be written."""
        try:
            if type(span) is not AdoptedSpan:
                span.end()
        except Exception as error:  # Telemetry fails open, as above.
            _complain("a span could not be ended", error)


def _unrecorded(trace_id: int, span_id: int, flags: trace.TraceFlags, state: trace.TraceState | None) -> Span:
    context = trace.SpanContext(trace_id, span_id, is_remote=False, trace_flags=flags, trace_state=state)
    return trace.NonRecordingSpan(context)


def _warn_about(provider: TracerProvider) -> None:
    if isinstance(provider, trace.ProxyTracerProvider):
        return  # None is set yet; only the application knows whether it wants one.
    from agent_identity._guard.telemetry.diagnosis import examine_telemetry  # noqa: PLC0415  Loads the SDK.

    for check in examine_telemetry(provider):
        if check.status != "ok":
            _LOG.warning("%s: %s; %s", check.name, check.detail, check.cure)


class Traced(NamedTuple):
    """The ids of a span for the records about it; ``None`` where there is no trace.

    Attributes:
        ids: Trace and span, for every record.
        rooted: The same with the span's parent, for the first record; the signed one on the span stays short.
    """

    ids: Trace | None
    rooted: Trace | None


UNTRACED: Final = Traced(None, None)
"""The ids of something without a span in any trace."""


def traced(span: CallSpan, context: Context | None = None) -> Traced:
    """Return the ids of a newly started span, for its records.

    Args:
        span: The span.
        context: The context of the start; by default the current one, which the span is not in yet.
    """
    try:
        if type(span) is AdoptedSpan:
            own, parent = span.ids()
        else:
            own, known = span.get_span_context(), getattr(span, "parent", None)  # The SDK's spans know their parent.
            current = trace.get_current_span
            parent = known if isinstance(known, trace.SpanContext) else current(context).get_span_context()
        if not own.is_valid:
            return UNTRACED
        # A span context is a tuple, and each of its properties costs a call in the hot path of every guarded tool.
        trace_id, span_id, parent_id = own[0], own[1], parent[1]
        in_hex, parent_in_hex = _in_hex(trace_id, parent_id)
        # A tracer that makes no spans passes on the parent: this call has no span.
        own_in_hex = None if span_id == parent_id else f"{span_id:016x}"
        ids = Trace(trace=in_hex, span=own_in_hex)
        if parent[0] != trace_id or not 0 < parent_id <= _MAX_ID:
            return Traced(ids, ids)
        return Traced(ids, Trace(trace=in_hex, span=own_in_hex, parent=parent_in_hex))
    except Exception as error:  # Telemetry fails open, as above.
        _complain("a span has no usable context", error)
        return UNTRACED


@lru_cache(maxsize=256)  # All calls of a task have the same.
def _in_hex(trace_id: int, parent_id: int) -> tuple[str, str]:
    return f"{trace_id:032x}", f"{parent_id:016x}"


def current_trace() -> Trace | None:
    """Return the ids of the current span for a record made inside it; ``None`` outside any trace."""
    return traced(trace.get_current_span(), Context()).ids


def _complain(problem: str, error: Exception) -> None:
    # Without a traceback, which would show the texts of chained exceptions: those of bodies and callers.
    _LOG.warning("%s: %s; the ledger is not affected", problem, safe_message(error))
