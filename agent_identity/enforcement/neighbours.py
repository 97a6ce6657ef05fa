"""Spans that another instrumentation has made for the same call: found, and lent to carry our record.

Two libraries that trace one call make two spans of it. Where the other one's span is at hand while the call is
judged, the signed record is put on that one. It is theirs: it keeps its name, its times and what it says, and they
end it. Nothing can be added to a span that has ended, so that its record is signed before the call returns.
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

__all__ = ["SCOPE", "Borrowed", "alone", "below", "is_ours", "span_of_call", "take"]

SCOPE: Final = "agent_identity"
"""The instrumentation scope of our spans."""

_OURS: Final = "agent_identity."
_PAYLOAD: Final = "agent_identity.attestation.payload"
_NOTHING: Final[Mapping[str, object]] = MappingProxyType({})
_TOOL_CALLS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "gen_ai.operation.name": "execute_tool",  # OpenTelemetry's own, and OpenLLMetry.
        "mcp.method.name": "tools/call",
        "traceloop.span.kind": "tool",
        "openinference.span.kind": "TOOL",
        "langfuse.observation.type": "tool",
    }
)
"""How libraries say that a span is the call of a tool."""

_TOOL_NAMES: Final = ("gen_ai.tool.name", "traceloop.entity.name", "tool.name")
_OPENINFERENCE: Final = "openinference.instrumentation.langchain"
_MOST: Final = 8_192  # Spans of which it is remembered that they carry a record; of older ones, their attributes tell.


@final
class Borrowed:
    """A span of another library for the length of a call of ours.

    Args:
        span: The span; never ended here.
        start: What a span of ours would say from its start.
        carries: Whether it gets the record. If not, the call has no span at all, and this one is only around it.

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
        """Return the span of the call and the parent of that; the same twice if the call has none of its own."""
        own = self.span.get_span_context()
        if not self.carries:
            return own, own
        parent: SpanContext | None = getattr(self.span, "parent", None)
        return own, parent or trace.INVALID_SPAN_CONTEXT

    def takes(self) -> bool:
        """Return whether a record that is put on the span now is kept."""
        return self.carries and self.span.is_recording()

    def carry(self, attributes: Mapping[str, AttributeValue], problem: str | None) -> None:
        """Put a record on the span; what its library says by a conventional name stays as it is.

        Args:
            attributes: The attributes of a span of ours.
            problem: Why the call failed, if it did.
        """
        theirs = _attributes(self.span)
        whole = {**self._start, **attributes}
        self.span.set_attributes({k: v for k, v in whole.items() if k.startswith(_OURS) or k not in theirs})
        if problem is not None:
            self.span.set_status(Status(StatusCode.ERROR, problem))


@final
class _Taken:
    """Which spans carry a record, or are about to: a span has room for one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: OrderedDict[tuple[int, int], None] = OrderedDict()

    def renew(self) -> None:
        """Have a lock of its own, as a forked child must: another thread of the parent may have held it."""
        self._lock = threading.Lock()

    def take(self, span: Span) -> bool:
        """Take a span; return whether nobody has it yet."""
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
    """Take a span for a record; return whether no other record has it yet."""
    return _TAKEN.take(span)


def span_of_call(tool: str, current: Span) -> Span | None:
    """Return the span that another library has made for this very call, if it can be told; it may be taken.

    Args:
        tool: The name of the tool that is called.
        current: The current span.
    """
    # Ours may be that of the task, with nothing below it but what OpenInference makes current nowhere.
    ours = is_ours(current)
    if ours and _OPENINFERENCE not in sys.modules:
        return None  # The usual case, on the path of every guarded tool.
    found = current if not ours and _is_call_of(current, tool) else _span_of_run(tool)
    return found if found is not None and found.is_recording() else None


def alone(current: Span) -> bool:
    """Return whether no other library can have made a span for a call.

    Args:
        current: The current span.
    """
    return _OPENINFERENCE not in sys.modules and (is_ours(current) or current is trace.INVALID_SPAN)


def is_ours(span: Span) -> bool:
    """Return whether a span is one of ours."""
    scope = getattr(span, "instrumentation_scope", None)
    return getattr(scope, "name", None) == SCOPE


def _attributes(span: Span) -> Mapping[str, object]:
    attributes: Mapping[str, object] | None = getattr(span, "attributes", None)
    return attributes or _NOTHING


def _is_call_of(span: Span, tool: str) -> bool:
    attributes = _attributes(span)
    if not any(attributes.get(name) == value for name, value in _TOOL_CALLS.items()):
        return False
    stated = next((attributes[name] for name in _TOOL_NAMES if name in attributes), None)
    return stated == tool if stated is not None else _name(span) in (tool, f"execute_tool {tool}", f"tools/call {tool}")


def _name(span: Span) -> str:
    return str(getattr(span, "name", ""))


def _span_of_run(tool: str) -> Span | None:
    """Return the span of a LangChain run that OpenInference made, which is current nowhere."""
    span = _run()
    # It says what kind of run it is only when that has ended; until then, its name is that of the tool.
    return span if span is not None and _name(span) == tool else None


def _run() -> Span | None:
    """Return the span of OpenInference for the LangChain run of now, if the application uses it."""
    module = sys.modules.get(_OPENINFERENCE)
    if module is None:
        return None
    span: Span | None = module.get_current_span()
    return span


def below(current: Span, context: Context | None = None) -> Context | None:
    """Return where a span of ours begins: below that of OpenInference's run, if nothing else is around it.

    Args:
        current: The current span.
        context: The context; by default the current one.
    """
    if _OPENINFERENCE not in sys.modules or current.get_span_context().is_valid:
        return context
    run = _run()
    return context if run is None else trace.set_span_in_context(run, context)
