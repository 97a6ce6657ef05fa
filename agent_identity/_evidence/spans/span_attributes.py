"""Plain span attributes that copy facts of the signed record, for people and queries.

Nobody trusts the copy. The verifier compares it with the record, because a store, a redaction rule or
an attacker may have changed it. Values are strings and arrays of strings, and never empty: other types
and empty arrays lose spans in real back ends.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final, Literal, TypeAlias, final

import orjson

from agent_identity._common.narrowing import is_array, is_dict, is_list
from agent_identity._evidence.record import OF_TASKS, AnyRecord, Intent, OfTask, Outcome, Policy

__all__ = [
    "MIRRORED",
    "SCHEMA_VERSION",
    "FieldCheck",
    "Verdict",
    "compare",
    "deviations",
    "mirrored_attributes",
    "verdict_on",
]

SCHEMA_VERSION: Final = "1"
"""The version of the names and meanings of our attributes."""

Verdict: TypeAlias = Literal["match", "changed", "missing", "redacted", "retyped"]
"""Relation of an attribute to the record.

``redacted``: a scrubber says that it was here; ``retyped``: a store read it as JSON, and shows a value of another type.
"""

_Value: TypeAlias = "str | tuple[str, ...]"
_CALLS: Final = (Outcome, Intent)
_OURS: Final = "agent_identity."
_WORST_FIRST: Final[tuple[Verdict, ...]] = ("changed", "retyped", "redacted", "match")
_MAX_FOUND: Final = 1_048_576


def _at(section: str, member: str) -> Callable[[AnyRecord], str | None]:
    def read(record: AnyRecord) -> str | None:
        return getattr(getattr(record, section, None), member, None)

    return read


def _top(member: str) -> Callable[[AnyRecord], str | None]:
    def read(record: AnyRecord) -> str | None:
        return getattr(record, member, None)

    return read


def _policy(of_decision: str, of_policy: str) -> Callable[[AnyRecord], str | None]:
    """Return a reader of a fact of the policy: the deciding one, or the one that a record is about."""

    def read(record: AnyRecord) -> str | None:
        known: str | None = None
        if isinstance(record, _CALLS):
            known = getattr(record.decision, of_decision)
        elif isinstance(record, Policy):
            known = getattr(record.policy, of_policy)
        return known

    return read


def _schema_version(_: AnyRecord) -> str:
    return SCHEMA_VERSION


def _of_task(record: AnyRecord) -> OfTask | Intent | Outcome | None:
    return record if isinstance(record, OF_TASKS) else None


def _chain(record: AnyRecord) -> tuple[str, ...] | None:
    """Return the ids from the principal to the agent that acts."""
    parties = _of_task(record)
    if parties is None or parties.principal is None or parties.chain is None:
        return None
    return (parties.principal.id, *(hop.id for hop in parties.chain))


def _leaf_grant(record: AnyRecord) -> str | None:
    parties = _of_task(record)
    return f"sha256:{parties.chain[-1].grant}" if parties is not None and parties.chain is not None else None


def _expires_at(record: AnyRecord) -> str | None:
    parties = _of_task(record)
    expires = parties.task.expires if parties is not None and parties.task is not None else None
    return None if expires is None else _moment(expires)


@lru_cache(maxsize=256)  # All records of a task have the same.
def _moment(expires: str) -> str:
    """Return nanoseconds in RFC 3339, in UTC, with as many fraction digits as needed."""
    seconds, fraction = divmod(int(expires), 1_000_000_000)
    digits = f".{fraction:09d}".rstrip("0") if fraction else ""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}{digits}Z"


def _human(record: AnyRecord) -> str | None:
    parties = _of_task(record)
    principal = None if parties is None else parties.principal
    return principal.id if principal is not None and principal.kind == "human" else None


def _outcome(record: AnyRecord) -> str | None:
    """Return the result of the call; a span carries an intent only if no outcome is known."""
    return "unknown" if isinstance(record, Intent) else getattr(record, "outcome", None)


MIRRORED: Final[Mapping[str, "Callable[[AnyRecord], _Value | None]"]] = {
    "agent_identity.schema_version": _schema_version,
    "agent_identity.record.id": _top("id"),
    "agent_identity.record.kind": _top("kind"),
    "agent_identity.stream.id": _at("stream", "id"),
    "agent_identity.stream.seq": _at("stream", "seq"),
    "agent_identity.principal.id": _at("principal", "id"),
    "agent_identity.principal.type": _at("principal", "kind"),
    "agent_identity.principal.issuer": _at("principal", "issuer"),
    "agent_identity.agent.id": _at("agent", "id"),
    "agent_identity.agent.owner": _at("agent", "owner"),
    "agent_identity.agent.version": _at("agent", "version"),
    "agent_identity.delegation.chain": _chain,
    "agent_identity.delegation.task_id": _at("task", "id"),
    "agent_identity.delegation.expires_at": _expires_at,
    "agent_identity.delegation.token_hash": _leaf_grant,
    "agent_identity.decision.effect": _at("decision", "effect"),
    "agent_identity.decision.enforced": _at("decision", "enforced"),
    "agent_identity.decision.mode": _at("decision", "mode"),
    "agent_identity.decision.reason": _at("decision", "reason"),
    "agent_identity.decision.route_target": _at("action", "route"),
    "agent_identity.policy.name": _policy("policy", "name"),
    "agent_identity.policy.version": _policy("version", "version"),
    "agent_identity.policy.digest": _policy("digest", "digest"),
    "agent_identity.policy.rule_id": _at("decision", "rule"),
    "agent_identity.inspection.categories": _top("findings"),
    "agent_identity.tool.kind": _at("action", "kind"),
    "agent_identity.tool.server": _at("action", "server"),
    "agent_identity.content.args_hash": _at("action", "args"),
    "agent_identity.content.result_hash": _at("action", "result"),
    "agent_identity.outcome": _outcome,
    "gen_ai.tool.name": _at("action", "tool"),
    "gen_ai.tool.call.id": _at("action", "call"),
    "gen_ai.agent.name": _at("agent", "id"),
    "user.id": _human,
    "error.type": _top("error"),
}
"""For each mirrored attribute, how its value is read from a record (``None``: the record does not say)."""

_MIRRORED_OURS: Final = tuple(name for name in MIRRORED if name.startswith(_OURS))


def mirrored_attributes(record: AnyRecord) -> dict[str, str | tuple[str, ...]]:
    """Return the attributes that a span carries for a record; unknown facts are left out."""
    return {name: value for name, read in MIRRORED.items() if (value := read(record)) is not None}


@final
@dataclass(frozen=True, slots=True)
class FieldCheck:
    """Comparison of one attribute with the record.

    Attributes:
        attribute: Its name.
        verdict: ``match``, ``changed``, ``missing``, ``redacted`` or ``retyped``.
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
    (``user.id``, ``error.type``) others may set.

    Args:
        record: The record, whose signature has been verified.
        attributes: The attributes of the span as a store returned them.
    """
    signed = mirrored_attributes(record)
    checks = [FieldCheck(name, verdict_on(value, attributes.get(name)), value) for name, value in signed.items()]
    return (*checks, *_claimed(signed, attributes))


def deviations(signed: Mapping[str, _Value], attributes: Mapping[str, object]) -> tuple[FieldCheck, ...]:
    """Return the result of :func:`compare` without the attributes that match.

    Args:
        signed: The :func:`mirrored_attributes` of the record, whose signature has been verified.
        attributes: The attributes of the span as a store returned them.
    """
    checks: list[FieldCheck] = []
    for name, value in signed.items():
        shown = attributes.get(name)
        if shown != value and (verdict := verdict_on(value, shown)) != "match":
            checks.append(FieldCheck(name, verdict, value))
    return (*checks, *_claimed(signed, attributes))


def _claimed(signed: Mapping[str, _Value], attributes: Mapping[str, object]) -> list[FieldCheck]:
    """Return the attributes of ours that the record does not support."""
    return [
        FieldCheck(name, "changed", None)
        for name in _MIRRORED_OURS
        if name not in signed and name in attributes and verdict_on("", attributes[name]) == "changed"
    ]


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
