"""Plain span attributes that copy facts of the signed record, for people and queries.

No one trusts the copy. The verifier compares it with the record, because a store, a redaction rule or
an attacker may have changed it. Values are strings and arrays of strings, and never empty: other types
and empty arrays lose spans in real back ends.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final, Literal, TypeAlias, final

import msgspec
import orjson

from agent_identity._common.narrowing import is_array, is_dict, is_list
from agent_identity._record.schema import OF_TASKS, AnyRecord, Intent, OfTask, Outcome, Policy, Record, TaskEnd

SCHEMA_VERSION: Final = "1"
"""The version of the names and meanings of our attributes."""

APPROVER_ATTRIBUTE: Final = "agent_identity.approval.approver"
"""The attribute with the id of the person who approved a call, whom only the record of the approval states."""

Verdict: TypeAlias = Literal["match", "changed", "missing", "redacted", "retyped", "unsigned"]
"""Relation of an attribute to the record.

``redacted``: a scrubber says that it was here; ``retyped``: a store read it as JSON, and shows a value of another type;
``unsigned``: the record says nothing about a conventional attribute, which others may set.
"""

_Value: TypeAlias = "str | tuple[str, ...]"
_CALLS: Final = (Outcome, Intent)
_GOOD: Final = frozenset({"success", "routed", "suspended", "cancelled"})
_OURS: Final = "agent_identity."
_WORST_FIRST: Final[tuple[Verdict, ...]] = ("changed", "retyped", "redacted", "match")
_MAX_FOUND: Final = 1_048_576


@lru_cache(maxsize=256)  # All records of a task have the same.
def _moment(expires: str) -> str:
    """Return nanoseconds in RFC 3339, in UTC, with as many fraction digits as needed."""
    seconds, fraction = divmod(int(expires), 1_000_000_000)
    digits = f".{fraction:09d}".rstrip("0") if fraction else ""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}{digits}Z"


class _Derived(msgspec.Struct):
    """Facts that a record states in another form, or in a member that depends on its kind."""

    schema_version: str = SCHEMA_VERSION
    chain: tuple[str, ...] | None = None
    leaf_grant: str | None = None
    expires_at: str | None = None
    human: str | None = None
    version: str | None = None
    policy_name: str | None = None
    policy_version: str | None = None
    policy_digest: str | None = None
    outcome: str | None = None
    error: str | None = None


def error_of(record: Record) -> str | None:
    """Return the error text of the span status, which is ``error.type`` as well; ``None`` unless something failed.

    Args:
        record: The record; an intent travels only where its call has no outcome, so its outcome is unknown.
    """
    if isinstance(record, Intent):
        return "unknown"
    if isinstance(record, TaskEnd):
        return record.error
    if not isinstance(record, Outcome) or record.outcome in _GOOD:
        return None
    return record.error or record.outcome


def _derived(record: AnyRecord) -> _Derived:
    facts = _Derived()
    if isinstance(record, _CALLS):
        of = record.decision
        facts.policy_name, facts.policy_version, facts.policy_digest = of.policy, of.version, of.digest
    elif isinstance(record, Policy):
        state = record.policy
        facts.policy_name, facts.policy_version, facts.policy_digest = state.name, state.version, state.digest
    # A span carries an intent only if no outcome is known.
    facts.error = error_of(record)
    facts.outcome = "unknown" if isinstance(record, Intent) else getattr(record, "outcome", None)
    if isinstance(record, OF_TASKS) and record.principal is not None and record.chain is not None:
        principal, chain, task = record.principal, record.chain, record.task
        facts.chain = (principal.id, *[hop.id for hop in chain])  # From the principal to the agent that acts.
        facts.leaf_grant = chain[-1].grant
        facts.human = principal.id if principal.kind == "human" else None
        facts.version = record.agent.version if isinstance(record, OfTask) else None
        facts.expires_at = None if task is None or task.expires is None else _moment(task.expires)
    return facts


MIRRORED: Final[Mapping[str, tuple[str, str]]] = {
    "agent_identity.schema_version": ("derived", "schema_version"),
    "agent_identity.record.id": ("record", "id"),
    "agent_identity.record.kind": ("record", "kind"),
    "agent_identity.stream.id": ("stream", "id"),
    "agent_identity.stream.seq": ("stream", "seq"),
    "agent_identity.principal.id": ("principal", "id"),
    "agent_identity.principal.type": ("principal", "kind"),
    "agent_identity.principal.issuer": ("principal", "issuer"),
    "agent_identity.agent.id": ("agent", "id"),
    "agent_identity.agent.owner": ("agent", "owner"),
    "agent_identity.agent.version": ("agent", "version"),
    "agent_identity.delegation.chain": ("derived", "chain"),
    "agent_identity.delegation.task_id": ("task", "id"),
    "agent_identity.delegation.expires_at": ("derived", "expires_at"),
    "agent_identity.delegation.token_hash": ("derived", "leaf_grant"),
    "agent_identity.decision.effect": ("decision", "effect"),
    "agent_identity.decision.enforced": ("decision", "enforced"),
    "agent_identity.decision.mode": ("decision", "mode"),
    "agent_identity.decision.reason": ("decision", "reason"),
    "agent_identity.decision.route_target": ("action", "route"),
    "agent_identity.approval.id": ("decision", "approval"),
    "agent_identity.policy.name": ("derived", "policy_name"),
    "agent_identity.policy.version": ("derived", "policy_version"),
    "agent_identity.policy.digest": ("derived", "policy_digest"),
    "agent_identity.policy.rule_id": ("decision", "rule"),
    "agent_identity.inspection.categories": ("record", "findings"),
    "agent_identity.tool.kind": ("action", "kind"),
    "agent_identity.content.args_hash": ("action", "args"),
    "agent_identity.content.result_hash": ("action", "result"),
    "agent_identity.outcome": ("derived", "outcome"),
    "gen_ai.tool.name": ("action", "tool"),
    "gen_ai.tool.call.id": ("action", "call"),
    "gen_ai.agent.name": ("agent", "id"),
    "gen_ai.agent.version": ("derived", "version"),
    "user.id": ("derived", "human"),
    "error.type": ("derived", "error"),
}
"""For each mirrored attribute, the part of a record that states its value, and the member there."""

_SOURCES: Final = tuple((name, part, member) for name, (part, member) in MIRRORED.items())
_PARTS: Final = frozenset(part for part, _ in MIRRORED.values()) - {"record", "derived"}


def mirrored_attributes(record: AnyRecord) -> dict[str, _Value]:
    """Return the attributes that a span carries for a record; unknown facts are left out."""
    parts = _parts(record)
    return {name: value for name, part, member in _SOURCES if (value := getattr(parts[part], member, None)) is not None}


def _parts(record: AnyRecord) -> Mapping[str, object]:
    parts: dict[str, object] = {part: getattr(record, part, None) for part in _PARTS}
    parts["record"], parts["derived"] = record, _derived(record)
    return parts


@final
@dataclass(frozen=True, slots=True)
class FieldCheck:
    """Comparison of one attribute with the record.

    Attributes:
        attribute: Its name.
        verdict: ``match``, ``changed``, ``missing``, ``redacted``, ``retyped`` or ``unsigned``.
        signed: The value in the record; ``None`` where the attribute claims a fact that the record does not state.
    """

    attribute: str
    verdict: Verdict
    signed: str | tuple[str, ...] | None


def compare(record: AnyRecord, attributes: Mapping[str, object]) -> tuple[FieldCheck, ...]:
    """Compare the attributes of a span with the record on it.

    Stores change types: an array may come back as JSON text, digits as an integer. Equal meaning is a
    match. What a scrubber has visibly blanked, wholly or in parts, is redacted as long as the rest fits.
    A mirrored attribute of ours about which the record says nothing counts as changed; conventional ones
    (``user.id``, ``error.type``), which others may set, as unsigned.

    Args:
        record: The record, whose signature has been verified.
        attributes: The attributes of the span as a store returned them.
    """
    signed = mirrored_attributes(record)
    checks = [FieldCheck(name, verdict_on(value, attributes.get(name)), value) for name, value in signed.items()]
    return (*checks, *_claimed(signed, attributes))


def deviations(record: AnyRecord, attributes: Mapping[str, object]) -> tuple[int, tuple[FieldCheck, ...]]:
    """Return the number of attributes that copy a record, and the result of :func:`compare` without those that match.

    Args:
        record: The record, whose signature has been verified.
        attributes: The attributes of the span as a store returned them.
    """
    parts, absent = _parts(record), 0
    checks: list[FieldCheck] = []
    claimed: list[FieldCheck] = []
    for name, part, member in _SOURCES:
        value: _Value | None = getattr(parts[part], member, None)
        shown = attributes.get(name)
        if value is None:
            absent += 1
            if shown is not None and (verdict := _on_claim(name, shown)) is not None:
                claimed.append(FieldCheck(name, verdict, None))
        elif shown != value and (verdict := verdict_on(value, shown)) != "match":
            checks.append(FieldCheck(name, verdict, value))
    return len(_SOURCES) - absent, (*checks, *claimed)


def _claimed(signed: Mapping[str, _Value], attributes: Mapping[str, object]) -> list[FieldCheck]:
    """Return our attributes on a span whose values the record does not state."""
    return [
        FieldCheck(name, verdict, None)
        for name in MIRRORED
        if name not in signed and (verdict := _on_claim(name, attributes.get(name))) is not None
    ]


def _on_claim(name: str, shown: object) -> Verdict | None:
    """Return the verdict on a mirrored attribute whose fact the record does not state; ``None`` if it has no value."""
    if verdict_on("", shown) != "changed":
        return None
    return "changed" if name.startswith(_OURS) else "unsigned"


_MARK: Final = re.compile(
    r"\[(?:Scrubbed due to [^\]]{0,256}|Filtered|Redacted|Masked)\]|<(?:Redacted|Masked)>|\*{3,}|\bREDACTED\b",
    re.IGNORECASE,
)


def verdict_on(signed: str | tuple[str, ...], found: object) -> Verdict:
    """Compare the shown value with the signed one.

    Args:
        signed: The value in the record.
        found: The value that a store returned.
    """
    if found is None or found == "":
        return "missing"
    return _verdict_of_text(signed, found) if isinstance(signed, str) else _verdict_of_array(signed, found)


def _verdict_of_text(signed: str, shown: object) -> Verdict:
    plain = shown
    if type(shown) is bool:
        plain = str(shown).lower()  # Some stores read the words of JSON as a boolean,
    elif type(shown) is int and shown.bit_length() <= 64:
        plain = str(shown)  # and digits as a number.
    if plain == signed:
        return "match"
    if _reads_as(signed, shown):
        return "retyped"
    return "redacted" if isinstance(shown, str) and _is_scrubbed(signed, shown) else "changed"


def _reads_as(signed: str, shown: object) -> bool:
    """Return whether a text is the JSON of this very value, as stores of text show it."""
    try:
        value = orjson.loads(signed)
        sort = orjson.OPT_SORT_KEYS
        return value is not None and orjson.dumps(value, option=sort) == orjson.dumps(shown, option=sort)
    except (orjson.JSONEncodeError, orjson.JSONDecodeError):
        return False


def _is_scrubbed(signed: str, shown: str) -> bool:
    """Return whether the text is the signed one with parts replaced by the marks of a scrubber."""
    first, *middle = _MARK.split(shown) if len(shown) <= _MAX_FOUND else [shown]
    if not middle or not signed.startswith(first):
        return False
    last = middle.pop()
    position = len(first)
    for part in middle:
        position = signed.find(part, position)
        if position < 0:
            return False
        position += len(part)
    return signed.endswith(last) and len(signed) - len(last) >= position


def _verdict_of_array(signed: tuple[str, ...], shown: object) -> Verdict:
    if is_list(shown) and tuple(shown) == signed:
        return "match"
    if isinstance(shown, str) and _MARK.fullmatch(shown):
        return "redacted"
    items = _items(shown)
    if items is None or len(items) != len(signed):
        return "changed"
    verdicts = {_verdict_of_text(ours, theirs) for ours, theirs in zip(signed, items, strict=True)}
    return next(verdict for verdict in _WORST_FIRST if verdict in verdicts)


def _items(shown: object) -> list[object] | None:
    """Return the items of an array, of its JSON text, or of the OTLP/JSON text of one."""
    if isinstance(shown, str):
        if len(shown) > _MAX_FOUND:
            return None
        try:
            shown = orjson.loads(shown)
        except orjson.JSONDecodeError:
            return None
    for wrapper in ("arrayValue", "values"):
        if is_dict(shown) and shown.keys() == {wrapper}:
            shown = shown[wrapper]
    return [_unwrapped(item) for item in shown] if is_array(shown) else None


def _unwrapped(item: object) -> object:
    return item["stringValue"] if is_dict(item) and item.keys() == {"stringValue"} else item
