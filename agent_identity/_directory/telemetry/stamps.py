"""Stamps on spans of other libraries: principal, agent and task of a model call, a retrieval, a request.

A stamp is a label for searching, and no evidence: it is copied from the task that was open when the span started,
nobody signs it, and no verifier reads it. Its names begin with ``agent_identity_stamp.``, to tell it from
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

from agent_identity._guard.common.failures import error_type
from agent_identity._guard.tasks.task import Task
from agent_identity._guard.tasks.task_context import task_in
from agent_identity._guard.telemetry.foreign_spans import is_ours
from agent_identity._guard.telemetry.providers import when_provided
from agent_identity.errors import ConfigurationError

_LOG: Final = logging.getLogger("agent_identity")
_PREFIX: Final = "agent_identity_stamp."
_TASK: Final = _PREFIX + "task.id"
_USER: Final = "user.id"
_REPLACES: Final = "replace_default_processor"
_NOTHING: Final[Mapping[str, object]] = MappingProxyType({})


@final
class AgentIdentitySpanProcessor(SpanProcessor):
    """Stamps each span that starts inside a task with principal, agent and task; not signed, for searching only.

    It skips our own spans, which carry the signed record. Outside any task, and after the end of the task,
    nothing is stamped. It sends and stores nothing, and no failure of it reaches the application.

    :func:`stamp_spans` adds one to a tracer provider.
    """

    def __init__(self) -> None:
        self._told = False

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Stamp a span that has just started."""
        try:
            # Some libraries start a trace of their own with an empty context; the work still belongs to the task.
            task = task_in(parent_context) or task_in()
            if task is None or not task.lease.live:
                return
            attributes = span.attributes or _NOTHING
            if _TASK in attributes or is_ours(span):
                return
            span.set_attributes(_stamp(task, named=_USER in attributes))
        except Exception as error:  # noqa: BLE001 - Telemetry fails open; the exception of a processor would reach the application.
            if not self._told:
                self._told = True
                _LOG.warning("spans could not be stamped: %s; they are unchanged", error_type(error))

    def on_end(self, span: ReadableSpan) -> None:
        """Do nothing: an ended span is immutable."""

    def shutdown(self) -> None:
        """Do nothing: there is nothing to send."""

    def force_flush(self, timeout_millis: int = 30_000) -> bool:  # noqa: ARG002 - The SDK names it.
        """Return True: nothing waits."""
        return True


def _stamp(task: Task, *, named: bool) -> dict[str, str]:
    """Return the labels of a task, with the names in records: pseudonyms, if enabled."""
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
_STAMPED: Final[list["weakref.ref[TracerProvider]"]] = []  # By identity: not every provider is hashable.


def stamp_spans(provider: TracerProvider | None = None) -> None:
    """Stamp the spans of a tracer provider, besides its other processors; idempotent.

    Args:
        provider: The provider; by default the global one, even if it is set later.

    Raises:
        ConfigurationError: The provider takes no span processors. For the global one this is logged.
    """
    if provider is None:
        when_provided(_add)
    else:
        _add(provider)


def _add(provider: TracerProvider) -> None:
    add: Callable[..., object] | None = getattr(provider, "add_span_processor", None)
    if add is None:
        kind = f"{type(provider).__module__}.{type(provider).__qualname__}"
        raise ConfigurationError(f"the tracer provider {kind} takes no span processors; stamp another one")
    with _LOCK:
        _STAMPED[:] = [known for known in _STAMPED if known() is not None]
        if any(known() is provider for known in _STAMPED):
            return
        # Phoenix replaces the exporting processor, unless told otherwise.
        keep = {_REPLACES: False} if _REPLACES in inspect.signature(add).parameters else {}
        add(AgentIdentitySpanProcessor(), **keep)
        _STAMPED.append(weakref.ref(provider))
