"""Spans of other instrumentations for the same call: found, and borrowed for our record.

Two libraries that trace one call make two spans. If the other span is available while the call is judged, it carries
the signed record. It remains theirs: it keeps its name, times and attributes, and they end it. An ended span takes no
attributes, so its record is signed before the call returns.
"""

import os
import sys
import threading
from collections import OrderedDict
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanContext, Status, StatusCode
from opentelemetry.util.types import AttributeValue

from agent_identity._spans.tool_spans import calls_tool, named_tool

SCOPE: Final = "agent_identity"
"""The instrumentation scope of our spans."""

_OURS: Final = "agent_identity."
_PAYLOAD: Final = "agent_identity.attestation.payload"
_NOTHING: Final[Mapping[str, object]] = MappingProxyType({})
_NAMED_ONLY: Final = frozenset({"gcp.vertex.agent"})
"""Scopes of libraries that mark the span of a tool call only when the tool has returned; until then its name tells."""

_OPENINFERENCE: Final = "openinference.instrumentation.langchain"
_MOST: Final = 8_192  # Recent spans known to carry a record; the attributes of older ones tell.


@final
class AdoptedSpan:
    """A span of another library, borrowed for one of our calls.

    Args:
        span: The span; never ended here.
        start: The start attributes of a span of ours.
        carries: True if the span carries the record. Otherwise the call has no span, and this one only surrounds it.

    Attributes:
        span: The span.
        carries: See above.
    """

    __slots__ = ("_start", "carries", "span")

    def __init__(self, span: Span, start: Mapping[str, str], *, carries: bool = True) -> None:
        self.span = span
        self.carries = carries
        self._start = start

    def ids(self) -> tuple[SpanContext, SpanContext]:
        """Return the span of the call and its parent; the same twice if the call has no span of its own."""
        own = self.span.get_span_context()
        if not self.carries:
            return own, own
        parent: SpanContext | None = getattr(self.span, "parent", None)
        return own, parent or trace.INVALID_SPAN_CONTEXT

    def takes(self) -> bool:
        """Return whether a record put on the span now is kept."""
        return self.carries and self.span.is_recording()

    def carry(self, attributes: Mapping[str, AttributeValue], problem: str | None) -> None:
        """Put a record on the span; conventional attributes of its library stay.

        Args:
            attributes: The attributes of a span of ours.
            problem: The error of a failed call.
        """
        theirs = _attributes(self.span)
        whole = {**self._start, **attributes}
        self.span.set_attributes({k: v for k, v in whole.items() if k.startswith(_OURS) or k not in theirs})
        if problem is not None:
            self.span.set_status(Status(StatusCode.ERROR, problem))


@final
class _Taken:
    """The spans that carry a record, or soon will: a span has room for one."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._known: OrderedDict[tuple[int, int], None] = OrderedDict()

    def renew(self) -> None:
        """Replace the lock, as a forked child must: another thread of the parent may have held it."""
        self._lock = threading.RLock()

    def take(self, span: Span) -> bool:
        """Take a span; return whether it was free."""
        context = span.get_span_context()
        key = context.trace_id, context.span_id
        with self._lock:
            if key in self._known or _PAYLOAD in _attributes(span):
                return False
            self._known[key] = None
            while len(self._known) > _MOST:
                self._known.popitem(last=False)
            return True


_TAKEN: Final = _Taken()
if hasattr(os, "register_at_fork"):  # pragma: no branch  Absent on Windows, where nothing forks.
    os.register_at_fork(after_in_child=_TAKEN.renew)


def take(span: Span) -> bool:
    """Take a span for a record; return whether no other record has it."""
    return _TAKEN.take(span)


def span_of_call(tool: str, current: Span) -> Span | None:
    """Return another library's span for this call, if identifiable; it may be taken.

    Args:
        tool: The name of the called tool.
        current: The current span.
    """
    # The current span may be our task span, while OpenInference's span is current nowhere.
    ours = is_ours(current)
    if ours and _OPENINFERENCE not in sys.modules:
        return None  # The usual case, in the hot path of every guarded call.
    other = current if not ours and _is_call_of(current, tool) else _span_of_run(tool)
    return other if other is not None and other.is_recording() else None


def alone(current: Span) -> bool:
    """Return whether no other library can have made a span for the call.

    Args:
        current: The current span.
    """
    return _OPENINFERENCE not in sys.modules and (is_ours(current) or current is trace.INVALID_SPAN)


def is_ours(span: Span) -> bool:
    """Return whether a span is one of ours."""
    return getattr(getattr(span, "instrumentation_scope", None), "name", None) == SCOPE


def _scope(span: Span) -> object:
    return getattr(getattr(span, "instrumentation_scope", None), "name", None)


def _attributes(span: Span) -> Mapping[str, object]:
    attributes: Mapping[str, object] | None = getattr(span, "attributes", None)
    return attributes or _NOTHING


def _is_call_of(span: Span, tool: str) -> bool:
    attributes = _attributes(span)
    if _scope(span) in _NAMED_ONLY:
        return _name(span) == f"execute_tool {tool}"
    if not calls_tool(attributes):
        return False
    stated = named_tool(attributes)
    return stated == tool if stated is not None else _name(span) in (tool, f"execute_tool {tool}", f"tools/call {tool}")


def _name(span: Span) -> str:
    return str(getattr(span, "name", ""))


def _span_of_run(tool: str) -> Span | None:
    """Return OpenInference's span of a LangChain run, which is current nowhere."""
    span = _run()
    # The run kind is set only at the end; until then the span has the name of the tool.
    return span if span is not None and _name(span) == tool else None


def _run() -> Span | None:
    """Return OpenInference's span of the current LangChain run, if the application uses it."""
    module = sys.modules.get(_OPENINFERENCE)
    if module is None:
        return None
    span: Span | None = module.get_current_span()
    return span


def below(current: Span, context: Context | None = None) -> Context | None:
    """Return the parent context for our span: below the span of OpenInference's run, if no other span surrounds it.

    Args:
        current: The current span.
        context: The context; by default the current one.
    """
    if _OPENINFERENCE not in sys.modules or current.get_span_context().is_valid:
        return context
    run = _run()
    return context if run is None else trace.set_span_in_context(run, context)
