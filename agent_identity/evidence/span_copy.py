"""The span of a record, made from nothing but the ledger: what tracing lost, or never saw, is sent again.

A record that a span carries determines that span: its ids, its times, its status and every attribute. So a
copy that was made later equals the one that was sent at once, and a receiver that gets both gets one record.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, TypeAlias, cast, final

from agent_identity.evidence.envelope import signed_attributes
from agent_identity.evidence.mirror import mirrored_attributes
from agent_identity.identity import Signer

__all__ = [
    "GRANT_ATTRIBUTE",
    "SCOPE",
    "TRAVELLING",
    "Appearance",
    "SpanCopy",
    "appearance_of",
    "copy_of",
    "error_of",
    "span_ids",
]

SCOPE: Final = "agent_identity"
"""The name of our instrumentation scope."""

TRAVELLING: Final = frozenset({"outcome", "task_end"})
"""The kinds of records of which each has a span."""

GRANT_ATTRIBUTE: Final = "agent_identity.delegation.grant"
"""The attribute of a task's span that carries its grants."""

_Members: TypeAlias = "Mapping[str, object]"
_GOOD: Final = frozenset({"success", "routed", "suspended", "cancelled"})
_BEGINNINGS: Final = frozenset({"intent", "task_start"})
_CALLS: Final = frozenset({"outcome", "intent"})
_OPENING: Final = "invoke_agent"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class SpanCopy:
    """A span as it is sent to a collector; all values of its attributes are strings or tuples of strings.

    Attributes:
        trace_id: 32 lower-case hex digits.
        span_id: 16 lower-case hex digits.
        parent_id: The span id of the parent, or ``None``.
        name: The name of the span.
        start: Nanoseconds since the Unix epoch.
        end: Nanoseconds since the Unix epoch.
        error: What the status says of an error; ``None`` leaves the status unset.
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


def span_ids(record: Mapping[str, object]) -> tuple[str, str]:
    """Return trace and span of a record: what it states, and what follows from it where it states none.

    Where no tracer made a span, as in a process without telemetry, the ids are hashes of the task (outside
    any, of the record) and of the record. So they are the same for whoever makes or verifies the span.

    Args:
        record: A record that :func:`~agent_identity.evidence.records.check_record` accepts.
    """
    stated = cast("Mapping[str, str]", record.get("trace") or {})
    task = cast("Mapping[str, str]", record.get("task") or {})
    identifier = cast("str", record["id"])
    return (
        stated.get("trace") or _hash("trace", task.get("id", identifier))[:32],
        stated.get("span") or _hash("span", identifier)[:16],
    )


def _hash(what: str, name: str) -> str:
    return hashlib.sha256(f"agent-identity/{what}/v1\n{name}".encode()).hexdigest()


def error_of(record: Mapping[str, object]) -> str | None:
    """Return what the status of a record's span says: ``None`` unless the call failed, was refused or is unknown.

    Args:
        record: The record; an intent travels only where its call has no outcome, so its outcome is unknown.
    """
    outcome = record.get("outcome", "unknown" if record["kind"] == "intent" else None)
    return None if outcome is None or outcome in _GOOD else str(record.get("error", outcome))


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Appearance:
    """What a span of ours says beside its ids and the copy of its record.

    Attributes:
        name: Its name.
        start: Nanoseconds since the Unix epoch.
        end: Nanoseconds since the Unix epoch.
        error: What the status says of an error; ``None`` leaves the status to the application.
        parent: The span id of the parent, if the record states one.
        begins: Whether no record of the span came before, so that the parent is the stated one, or there is none.
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
        """Whether it is the span of a task, or of one that was refused; no other library makes those."""
        return self.conventions["gen_ai.operation.name"] == _OPENING


def appearance_of(record: Mapping[str, object]) -> Appearance:
    """Return what the span of a record says; the span that is made at once, and any copy, say the same.

    Args:
        record: A record of which there is a span: that of a call or of a task.
    """
    times = cast("Mapping[str, str]", record["time"])
    stated = cast("Mapping[str, str]", record.get("trace") or {})
    name, conventions = _described(record)
    return Appearance(
        name=name,
        start=int(times["start"]),
        end=int(times.get("end", times["start"])),
        error=error_of(record),
        parent=stated.get("parent"),
        begins=record["kind"] in _BEGINNINGS or (record["kind"] == "outcome" and "intent" not in record),
        ran=record["kind"] != "outcome" or "intent" in record,
        conventions=conventions,
    )


def copy_of(
    record: Mapping[str, object], body: bytes, signer: Signer, *, parent: str | None = None, grants: str | None = None
) -> SpanCopy:
    """Return the span that carries a record.

    Args:
        record: An ``outcome`` or ``task_end``; or an ``intent`` or ``task_start`` after which none came.
        body: Its canonical bytes.
        signer: The recorder key. With the key that signed at first, the signature is the same (RFC 8032).
        parent: The parent's span id, where the record does not state it itself.
        grants: For the span of a task: what :data:`GRANT_ATTRIBUTE` is to say.
    """
    trace_id, span_id = span_ids(record)
    seen = appearance_of(record)
    attributes: dict[str, str | tuple[str, ...]] = dict(seen.conventions)
    if grants is not None:
        attributes[GRANT_ATTRIBUTE] = grants
    attributes.update(mirrored_attributes(record))
    attributes.update(signed_attributes(body, signer))
    return SpanCopy(
        trace_id=trace_id,
        span_id=span_id,
        parent_id=seen.parent or parent,
        name=seen.name,
        start=seen.start,
        end=seen.end,
        error=seen.error,
        attributes=MappingProxyType(attributes),
    )


def _described(record: _Members) -> tuple[str, dict[str, str]]:
    """Return the name of the span, and what conventions want to be said that the copy of the record does not say."""
    if record["kind"] not in _CALLS:
        agent = cast("Mapping[str, str]", record["agent"])["id"]
        return f"{_OPENING} {agent}", {"gen_ai.operation.name": _OPENING}
    action = cast("Mapping[str, object]", record["action"])
    wanted = action.get("agent")
    if wanted is not None:  # A task that was asked for, and refused before it began.
        agent = cast("Mapping[str, str]", wanted)["id"]
        return f"{_OPENING} {agent}", {"gen_ai.operation.name": _OPENING}
    attributes = {"gen_ai.operation.name": "execute_tool"}
    if action.get("kind") == "function":
        attributes["gen_ai.tool.type"] = "function"
    return f"execute_tool {action['tool']}", attributes
