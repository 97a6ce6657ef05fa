"""Spans rebuilt from ledger records alone, to send again those that tracing lost or never saw.

A record that a span carries determines that span: its ids, its times, its status and every attribute. So a
copy that was made later equals the one that was sent at once, and a receiver that gets both gets one record.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, final

import msgspec

from agent_identity._identity.keys.keys import Signer
from agent_identity._record.parts import Trace
from agent_identity._record.schema import OF_TASKS, AnyRecord, Intent, OfTask, Outcome, TaskStart
from agent_identity._spans.envelope import signed_attributes
from agent_identity._spans.span_attributes import error_of, mirrored_attributes

SCOPE: Final = "agent_identity"
"""The name of our instrumentation scope."""

SCHEMA_URL: Final = "https://opentelemetry.io/schemas/gen-ai/0.1.0"
"""The version of OpenTelemetry's conventions for generative AI that spans and metrics follow."""

EXPORTED_KINDS: Final = frozenset({"outcome", "task_end"})
"""The kinds of records of which each has a span."""

GRANT_ATTRIBUTE: Final = "agent_identity.delegation.grant"
"""The attribute of a task's span that carries its grants."""

_CALLS: Final = (Outcome, Intent)
_BEGINNINGS: Final = (Intent, TaskStart)
_OPENING: Final = "invoke_agent"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class RecordSpan:
    """A span as sent to a collector; all values of its attributes are strings or tuples of strings.

    Attributes:
        trace_id: 32 lower-case hex digits.
        span_id: 16 lower-case hex digits.
        parent_id: The span id of the parent, or ``None``.
        name: The name of the span.
        start: Nanoseconds since the Unix epoch.
        end: Nanoseconds since the Unix epoch.
        error: The error text of the status; ``None`` leaves the status unset.
        attributes: The attributes of the span.
    """

    trace_id: str
    span_id: str
    parent_id: str | None
    name: str
    start: int
    end: int
    error: str | None
    attributes: Mapping[str, str | tuple[str, ...]]


def span_ids(record: AnyRecord) -> tuple[str, str]:
    """Return trace and span of a record: the stated ones, or else the derived ones.

    Where no tracer made a span, as in a process without telemetry, the ids are hashes of the task (outside
    any, of the record) and of the record. So the maker and the verifier of the span compute the same.
    """
    stated = _stated(record)
    if stated is not None and stated.span is not None:
        return stated.trace, stated.span
    task = record.task if isinstance(record, OF_TASKS) else None
    trace = _hash("trace", record.id if task is None else task.id)[:32] if stated is None else stated.trace
    return trace, _hash("span", record.id)[:16]


def stated_span(record: AnyRecord) -> str | None:
    """Return the stated span of a record."""
    stated = _stated(record)
    return None if stated is None else stated.span


def stated_parent(record: AnyRecord) -> str | None:
    """Return the stated parent span of a record."""
    stated = _stated(record)
    return None if stated is None else stated.parent


def _stated(record: AnyRecord) -> Trace | None:
    return record.trace if isinstance(record, OF_TASKS) else None


def _hash(what: str, name: str) -> str:
    return hashlib.sha256(f"agent-identity/{what}/v1\n{name}".encode()).hexdigest()


@final
class Appearance(msgspec.Struct, frozen=True, kw_only=True):
    """Name, times, status and conventional attributes of a span.

    Attributes:
        name: Its name.
        start: Nanoseconds since the Unix epoch.
        end: Nanoseconds since the Unix epoch.
        error: The error text of the status; ``None`` leaves the status to the application.
        parent: The span id of the parent, if the record states one.
        begins: Whether no record of the span came before, so that the parent is the stated one, if any.
        ran: Whether code of the application had the span as its current one, and may have set the status.
        conventions: The conventional attributes that the copy of the record does not have.
    """

    name: str
    start: int
    end: int
    error: str | None
    parent: str | None
    begins: bool
    ran: bool
    conventions: Mapping[str, str]

    @property
    def opens(self) -> bool:
        """True for the span of a task, or of a refused one; no other library makes those."""
        return self.conventions["gen_ai.operation.name"] == _OPENING


def appearance_of(record: AnyRecord) -> Appearance:
    """Return the appearance of the span of a record; live spans and copies have the same.

    Args:
        record: A record of which there is a span: that of a call or of a task.
    """
    name, conventions = _described(record)
    refused = isinstance(record, Outcome) and record.intent is None
    end = record.time.end_ns
    return Appearance(
        name=name,
        start=record.time.start_ns,
        end=record.time.start_ns if end is None else end,
        error=error_of(record),
        parent=stated_parent(record),
        begins=refused or isinstance(record, _BEGINNINGS),
        ran=not refused,
        conventions=conventions,
    )


def make_span(
    record: AnyRecord, body: bytes, signer: Signer, *, parent: str | None = None, grants: str | None = None
) -> RecordSpan:
    """Return the span that carries a record.

    Args:
        record: An ``outcome`` or ``task_end``; or an ``intent`` or ``task_start`` after which none came.
        body: Its canonical bytes.
        signer: The recorder key. With the key that signed at first, the signature is the same (RFC 8032).
        parent: The parent's span id, where the record does not state it itself.
        grants: For the span of a task: what :data:`GRANT_ATTRIBUTE` is to say.
    """
    trace_id, span_id = span_ids(record)
    appearance = appearance_of(record)
    attributes: dict[str, str | tuple[str, ...]] = dict(appearance.conventions)
    if grants is not None:
        attributes[GRANT_ATTRIBUTE] = grants
    attributes.update(mirrored_attributes(record))
    attributes.update(signed_attributes(body, signer))
    return RecordSpan(
        trace_id=trace_id,
        span_id=span_id,
        parent_id=appearance.parent or parent,
        name=appearance.name,
        start=appearance.start,
        end=appearance.end,
        error=appearance.error,
        attributes=MappingProxyType(attributes),
    )


def _described(record: AnyRecord) -> tuple[str, dict[str, str]]:
    """Return the name of the span, and the attributes of conventions that the record copy lacks."""
    if isinstance(record, OfTask):
        return f"{_OPENING} {record.agent.id}", {"gen_ai.operation.name": _OPENING}
    if not isinstance(record, _CALLS):
        raise TypeError(f"a {record.kind} record has no span; give the record of a call or a task")
    action = record.action
    if action.agent is not None:  # A task that was asked for, and refused before it began.
        return f"{_OPENING} {action.agent.id}", {"gen_ai.operation.name": _OPENING}
    attributes = {"gen_ai.operation.name": "execute_tool"}
    if action.kind == "function":
        attributes["gen_ai.tool.type"] = "function"
    return f"execute_tool {action.tool}", attributes
