"""The shape of a record: which facts each kind states, and in which form.

The shape is closed at every level: what is not known here is refused, because an auditor must not have
to guess what a field means. :func:`check_record` looks at one record alone; what records say about each
other (order, counts, chains) is the verifier's business.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Final, TypeAlias, cast, final

from agent_identity.identity import check_id

__all__ = ["EFFECTS", "KINDS", "OUTCOMES", "VERSION", "check_record"]

VERSION: Final = "1"
"""The value of ``v`` in each record."""

KINDS: Final = frozenset(
    {
        "stream_start",
        "grant",
        "task_start",
        "intent",
        "outcome",
        "task_end",
        "registration",
        "policy",
        "approval",
        "revocation",
        "erasure",
        "recovered",
        "stream_end",
    }
)
"""What a record can be about."""

OUTCOMES: Final = frozenset({"success", "error", "denied", "routed", "cancelled", "suspended", "unknown"})
"""How a call can end."""

EFFECTS: Final = frozenset({"allow", "warn", "block", "route"})
"""What a policy can decide."""

_MAX_TOKEN: Final = 65_536
_MAX_ID: Final = 2_048


class _MisfitError(Exception):
    """A value without the expected form; collects the path to it on its way out."""

    def __init__(self, what: str) -> None:
        self.what = what
        self.steps: list[str] = []

    def under(self, step: str) -> "_MisfitError":
        self.steps.append(step)
        return self


_Rule: TypeAlias = Callable[[object], None]


@final
class _Text:
    """A string that a predicate accepts."""

    __slots__ = ("accept", "what")

    def __init__(self, what: str, accept: Callable[[str], object]) -> None:
        self.what = what
        self.accept = accept

    def __call__(self, value: object) -> None:
        if type(value) is not str or not self.accept(value):
            raise _MisfitError(f"expected {self.what}")


def _object(required: Mapping[str, _Rule], optional: Mapping[str, _Rule] | None = None) -> _Rule:
    """Return the rule for an object with exactly the named members."""
    rules = {**required, **(optional or {})}
    needed = tuple(required)
    # Most members are text; their predicates are called without a detour.
    accept_text = {key: rule.accept for key, rule in rules.items() if isinstance(rule, _Text)}.get

    def check(value: object) -> None:
        if type(value) is not dict:
            raise _MisfitError("expected an object")
        members = cast("dict[str, object]", value)
        for key, item in members.items():
            if type(item) is str and (accept := accept_text(key)) is not None and accept(item):
                continue
            _check_member(rules, key, item)
        for key in needed:
            if key not in members:
                raise _MisfitError("expected this member, got none").under(f".{key}")

    return check


def _check_member(rules: Mapping[str, _Rule], key: str, item: object) -> None:
    rule = rules.get(key)
    if rule is None:
        # The name comes from outside and may be of any length, so the path names only where it stands.
        raise _MisfitError("expected only known members, got another")
    try:
        rule(item)
    except _MisfitError as misfit:
        raise misfit.under(f".{key}") from None


def _array(item: _Rule, most: int) -> _Rule:
    """Return the rule for an array of at least one item; an empty one would be a second way to say "unknown"."""

    def check(value: object) -> None:
        if type(value) is not list and type(value) is not tuple:
            raise _MisfitError("expected an array")
        members = cast("Sequence[object]", value)
        if not 1 <= len(members) <= most:
            raise _MisfitError(f"expected 1 to {most} items, got {len(members)}")
        index = 0
        try:
            for index, member in enumerate(members):  # noqa: B007 - The handler names the index.
                item(member)
        except _MisfitError as misfit:
            raise misfit.under(f"[{index}]") from None

    return check


def _pattern(what: str, pattern: str) -> _Text:
    return _Text(what, re.compile(pattern).fullmatch)


def _one_of(values: Iterable[str]) -> _Text:
    names = frozenset(values)
    return _Text(f"one of {', '.join(sorted(names))}", names.__contains__)


def _up_to(most: int) -> _Text:
    def accept(text: str) -> bool:
        return 0 < len(text) <= most

    return _Text(f"text of 1 to {most} characters", accept)


@lru_cache(maxsize=4096)  # A ledger names few parties, each in every record.
def _is_id(text: str) -> bool:
    try:
        check_id(text, "id")
    except ValueError:
        return False
    return True


_ID: Final = _Text("an identifier as check_id accepts it", lambda t: len(t) <= _MAX_ID and _is_id(t))
_NAME: Final = _up_to(256)
_SLUG: Final = _pattern("a code of lower-case letters, digits and underscores", r"[a-z][a-z0-9_]{0,63}")
_UUID7: Final = _pattern(
    "a lower-case UUID of version 7", r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
)
_HASH: Final = _pattern("64 lower-case hex digits", r"[0-9a-f]{64}")
_SHA256: Final = _pattern("sha256:<64 lower-case hex digits>", r"sha256:[0-9a-f]{64}")
_HMAC: Final = _pattern("hmac-sha256:<64 lower-case hex digits>", r"hmac-sha256:[0-9a-f]{64}")
_ARGS: Final = _pattern(
    "hmac-sha256: or salted-sha256: and 64 lower-case hex digits", r"(?:hmac|salted)-sha256:[0-9a-f]{64}"
)
_COUNT: Final = _pattern("a decimal number without leading zeros", r"0|[1-9][0-9]{0,18}")
_POSITION: Final = _pattern("a decimal number from 1", r"[1-9][0-9]{0,18}")
_NANOSECONDS: Final = _pattern("nanoseconds since 1970 as a decimal number", r"0|[1-9][0-9]{0,18}")
_TRACE_ID: Final = _pattern("32 lower-case hex digits, not all zero", r"(?!0{32})[0-9a-f]{32}")
_SPAN_ID: Final = _pattern("16 lower-case hex digits, not all zero", r"(?!0{16})[0-9a-f]{16}")
_WHY: Final = _Text("one printable line of at most 256 characters", lambda t: 0 < len(t) <= 256 and t.isprintable())
_JWS: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_TOKEN: Final = _Text(
    f"a compact JWS of at most {_MAX_TOKEN} characters", lambda t: len(t) <= _MAX_TOKEN and _JWS.fullmatch(t)
)
_ARGUMENT: Final = _pattern(
    "<argument name>:<kind> with a name of 1 to 256 characters",
    r"(?s:.){1,256}:(?:string|boolean|number|null|array|object|opaque)",
)

_PRINCIPAL: Final = _object(
    {"id": _ID, "kind": _one_of(("human", "service")), "provenance": _one_of(("asserted", "verified"))},
    {"issuer": _ID, "roles": _array(_ID, 64), "via": _array(_ID, 32)},
)
_AGENT: Final = _object({"id": _ID, "owner": _ID}, {"version": _ID})
_ACTION: Final = _object(
    {"tool": _NAME},
    {
        "kind": _NAME,
        "server": _NAME,
        "call": _NAME,
        "args": _ARGS,
        "names": _array(_ARGUMENT, 100_000),
        "result": _HMAC,
        "route": _NAME,
        "agent": _AGENT,
        "principal": _PRINCIPAL,
    },
)
_DECISION: Final = _object(
    {
        "effect": _one_of(EFFECTS),
        "enforced": _one_of(("allow", "block", "modify", "escalate", "audit")),
        "mode": _one_of(("enforce", "monitor")),
        "reason": _SLUG,
    },
    {
        "rule": _NAME,
        "why": _WHY,
        "argument": _NAME,
        "policy": _NAME,
        "version": _NAME,
        "digest": _SHA256,
        "warnings": _array(_NAME, 1024),
        "approval": _UUID7,
    },
)

_COMMON: Final[Mapping[str, _Rule]] = {
    "v": _one_of((VERSION,)),
    "id": _UUID7,
    "kind": _one_of(KINDS),
    "stream": _object({"id": _UUID7, "seq": _POSITION}, {"prev": _HASH}),
    "time": _object({"start": _NANOSECONDS}, {"end": _NANOSECONDS}),
}
_TRACE: Final[Mapping[str, _Rule]] = {"trace": _object({"trace": _TRACE_ID}, {"span": _SPAN_ID, "parent": _SPAN_ID})}
_TASK: Final[Mapping[str, _Rule]] = {
    "task": _object({"id": _ID}, {"expires": _NANOSECONDS, "purpose": _up_to(1024)}),
    "principal": _PRINCIPAL,
    "agent": _AGENT,
    "chain": _array(_object({"id": _ID, "grant": _HASH}), 33),
}
_NOBODY: Final[Mapping[str, _Rule]] = {"attribution": _one_of(("none",))}
_INTENT: Final[Mapping[str, _Rule]] = {"action": _ACTION, "decision": _DECISION}
_FINDINGS: Final[Mapping[str, _Rule]] = {
    "findings": _array(_pattern("the name of a category", r"[A-Za-z0-9_.:/-]{1,128}"), 1024)
}
_OUTCOME: Final[Mapping[str, _Rule]] = {**_INTENT, "outcome": _one_of(OUTCOMES)}
_AFTERWARDS: Final[Mapping[str, _Rule]] = {**_TRACE, **_FINDINGS, "intent": _UUID7, "error": _NAME}
_COUNTS: Final = _object({"intents": _COUNT, "outcomes": _COUNT, "open": _COUNT})
_RECOVERED: Final = _object(
    {
        "stream": _UUID7,
        "size": _COUNT,
        "sealed_before": _COUNT,
        "torn_bytes": _COUNT,
        "rejected_bytes": _COUNT,
        "open_count": _COUNT,
    },
    {"open": _array(_UUID7, 64)},
)
_ERASER: Final[Mapping[str, _Rule]] = {"by": _ID, "reason": _WHY}
_ERASED_KEY: Final = _object({"key": _ID}, _ERASER)
_ERASED_PRINCIPAL: Final = _object({"principal": _ID, "keys": _COUNT}, _ERASER)
_PRUNED: Final = _object(
    {
        "pruned": _object(
            {"stream": _UUID7, "first": _POSITION, "last": _POSITION, "root": _HASH, "checkpoint": _COUNT},
        )
    }
)


def _erasure(value: object) -> None:
    """The rule for what was erased: the key of a task or stream, those of all tasks of a principal, or records."""
    if _has(value, "pruned"):
        _PRUNED(value)
    else:
        (_ERASED_PRINCIPAL if _has(value, "principal") else _ERASED_KEY)(value)


def _has(value: object, member: str) -> bool:
    return type(value) is dict and member in cast("dict[str, object]", value)


_REVOCATION: Final = _object(
    {
        "kind": _one_of(("task", "grant", "agent", "owner", "human", "service", "key", "everything")),
        "name": _ID,
        "status": _one_of(("revoked", "suspended", "reinstated")),
        "version": _POSITION,
    },
    {"reason": _NAME},
)
_REGISTRATION: Final = _object(
    {
        "hash": _HASH,
        "purpose": _NAME,
        "status": _one_of(("registered", "suspended", "retired", "orphaned")),
    }
)
_SERVER: Final = _object(
    {"name": _NAME, "transport": _one_of(("stdio", "http", "other")), "status": _one_of(("pinned", "moved"))},
    {"place": _NAME, "title": _NAME, "version": _NAME, "reason": _NAME},
)
_OFFERED: Final = _object(
    {"name": _NAME, "status": _one_of(("pinned", "changed", "new"))}, {"pinned": _SHA256, "offered": _SHA256}
)
_APPROVAL: Final = _object(
    {"id": _UUID7, "status": _one_of(("pending", "approved", "rejected", "expired"))},
    {"approver": _PRINCIPAL, "expires": _NANOSECONDS, "token": _TOKEN, "reason": _NAME},
)


def _shape(required: Mapping[str, _Rule], optional: Mapping[str, _Rule] | None = None) -> _Rule:
    return _object({**_COMMON, **required}, optional)


_SHAPES: Final[Mapping[str, _Rule]] = {
    "stream_start": _shape({"sdk": _object({"name": _NAME, "version": _NAME})}),
    "grant": _shape({**_TASK, "grant": _object({"token": _TOKEN})}, _TRACE),
    "task_start": _shape(_TASK, _TRACE),
    "intent": _shape({**_TASK, **_INTENT}, {**_TRACE, **_FINDINGS}),
    "outcome": _shape({**_TASK, **_OUTCOME}, _AFTERWARDS),
    "task_end": _shape({**_TASK, "counts": _COUNTS}, {**_TRACE, "outcome": _one_of(OUTCOMES), "error": _NAME}),
    "registration": _shape({"agent": _AGENT}, {"registration": _REGISTRATION}),
    "policy": _shape({"policy": _object({"name": _NAME, "version": _NAME, "digest": _SHA256})}),
    "approval": _shape({**_TASK, "action": _ACTION, "approval": _APPROVAL}, _TRACE),
    "revocation": _shape({"revocation": _REVOCATION}),
    "erasure": _shape({"erasure": _erasure}),
    "recovered": _shape({"recovered": _RECOVERED}),
    "stream_end": _shape({"end": _object({"size": _POSITION})}),
}
_UNATTRIBUTED: Final[Mapping[str, _Rule]] = {
    "intent": _shape({**_NOBODY, **_INTENT}, {**_TRACE, **_FINDINGS}),
    "outcome": _shape({**_NOBODY, **_OUTCOME}, _AFTERWARDS),
}
"""Calls outside any task say nothing about a task, a principal, an agent or a chain."""

_OF_SERVERS: Final[Mapping[str, _Rule]] = {
    "registration": _shape({"server": _SERVER}, {"tools": _array(_OFFERED, 1024)}),
}
"""What is registered is an agent, or a server and its tools."""

_VARIANTS: Final = (("attribution", _UNATTRIBUTED), ("server", _OF_SERVERS))
"""Other shapes of a kind, by the member that tells them."""


def check_record(record: Mapping[str, object]) -> None:
    """Check the shape of a record as :func:`~agent_identity.canonical.decode_record` returns it.

    Args:
        record: The record, in plain dicts and lists or tuples.

    Raises:
        ValueError: A fact is missing, unknown, malformed or contradicts another; the message starts with
            the path to the first one, for example ``record.decision.effect``. It shows no value.
    """
    kind = record.get("kind")
    if type(kind) is not str or kind not in _SHAPES:
        raise ValueError("record.kind: expected a known kind of record")
    shape = _SHAPES[kind]
    for member, shapes in _VARIANTS:
        if member in record:
            shape = shapes.get(kind, shape)
    try:
        shape(record)
    except _MisfitError as misfit:
        raise ValueError(f"record{''.join(reversed(misfit.steps))}: {misfit.what}") from None
    stream = cast("dict[str, str]", record["stream"])
    first = stream["seq"] == "1"
    if first is ("prev" in stream):
        raise ValueError("record.stream.prev: expected the hash of the previous record, except in the first one")
    if first is not (kind == "stream_start"):
        raise ValueError("record.kind: expected stream_start in the first record of a stream and only there")
