"""Stamps on the spans of other libraries: for whom a model was called, a document fetched, a request sent.

A stamp is a label for searching, and no evidence: it is copied from the task that was open when the span started,
nobody signs it, and no verifier reads it. Its names begin with ``agent_identity_stamp.``, so that nobody takes it for
the attributes that are compared with a signed record. Arguments, prompts and results are never stamped.
"""

import inspect
import logging
import threading
import weakref
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final, final

from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.trace import TracerProvider

from agent_identity.enforcement.ambience import task_in
from agent_identity.enforcement.failures import kind_of
from agent_identity.enforcement.neighbours import is_ours
from agent_identity.enforcement.providers import when_provided
from agent_identity.enforcement.task import Task
from agent_identity.errors import ConfigurationError

__all__ = ["AgentIdentitySpanProcessor", "stamp_spans"]

_LOG: Final = logging.getLogger("agent_identity")
_PREFIX: Final = "agent_identity_stamp."
_TASK: Final = _PREFIX + "task.id"
_USER: Final = "user.id"
_REPLACES: Final = "replace_default_processor"
_NOTHING: Final[Mapping[str, object]] = MappingProxyType({})


@final
class AgentIdentitySpanProcessor(SpanProcessor):
    """Stamps each span that starts inside a task with principal, agent and task; not signed, for searching only.

    Spans of ours are left alone, since they carry the signed record itself. Outside any task, and once the task has
    ended, nothing is stamped. It sends nothing and keeps nothing, and no failure of it reaches the application.

    :func:`stamp_spans` adds one to a tracer provider.
    """

    def __init__(self) -> None:
        self._told = False

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Stamp a span that has just started."""
        try:
            # Some libraries start a trace of their own with an empty context; the work is still that of the task.
            task = task_in(parent_context) or task_in()
            if task is None or not task.lease.live:
                return
            attributes = span.attributes or _NOTHING
            if _TASK in attributes or is_ours(span):
                return
            span.set_attributes(_stamp(task, named=_USER in attributes))
        except Exception as error:  # noqa: BLE001 - Telemetry fails open; what a processor raises reaches the application.
            if not self._told:
                self._told = True
                _LOG.warning("spans could not be stamped: %s; they are as their libraries made them", kind_of(error))

    def on_end(self, span: ReadableSpan) -> None:
        """Do nothing: an ended span cannot be changed."""

    def shutdown(self) -> None:
        """Do nothing: there is nothing to send."""

    def force_flush(self, timeout_millis: int = 30_000) -> bool:  # noqa: ARG002 - The SDK names it.
        """Return that nothing waits."""
        return True


def _stamp(task: Task, *, named: bool) -> dict[str, str]:
    """Return the labels of a task, with the names that records use: pseudonyms, where these are on."""
    principal = task.facts.principal
    stamp = {
        f"{_PREFIX}principal.id": principal.id,
        f"{_PREFIX}principal.type": principal.kind,
        f"{_PREFIX}agent.id": task.facts.agent.id,
        _TASK: task.id,
    }
    if principal.kind == "human" and not named:
        stamp[_USER] = principal.id
    return stamp


_LOCK: Final = threading.Lock()
_STAMPED: Final[list["weakref.ref[TracerProvider]"]] = []  # By identity: not every provider can be hashed.


def stamp_spans(provider: TracerProvider | None = None) -> None:
    """Have the spans of a tracer provider stamped, beside whatever it does already; idempotent.

    Args:
        provider: The provider; by default the global one, also if it is set only later.

    Raises:
        ConfigurationError: The provider takes no span processors. Of the global one this is logged.
    """
    if provider is None:
        when_provided(_add)
    else:
        _add(provider)


def _add(provider: TracerProvider) -> None:
    add: Callable[..., object] | None = getattr(provider, "add_span_processor", None)
    if add is None:
        kind = f"{type(provider).__module__}.{type(provider).__qualname__}"
        raise ConfigurationError(
            f"expected a tracer provider that takes span processors, got {kind}; stamp another one"
        )
    with _LOCK:
        _STAMPED[:] = [known for known in _STAMPED if known() is not None]
        if any(known() is provider for known in _STAMPED):
            return
        # Phoenix replaces the processor that exports, unless it is told not to.
        keep = {_REPLACES: False} if _REPLACES in inspect.signature(add).parameters else {}
        add(AgentIdentitySpanProcessor(), **keep)
        _STAMPED.append(weakref.ref(provider))
