"""Attributes of a request for rules: closed namespaces, so that no argument can pose as a principal."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias, final

from agent_identity._constraints.value_forms import DecimalText
from agent_identity._constraints.values import CONTAINERS, Walked, walked
from agent_identity._identity.principals.principals import Human
from agent_identity._policy.decision.places import Path, Problem, quoted, words
from agent_identity._policy.decision.request import Request


@final
class _Absence:
    """No value of JSON, so that no constraint can be true or false of it."""


MISSING: Final = _Absence()
"""The request has no such attribute."""

UNREADABLE: Final = _Absence()
"""The attribute lies inside something that is not JSON, where no one can look."""

Types: TypeAlias = frozenset[type]

TEXT: Final[Types] = frozenset({str})
LIST: Final[Types] = frozenset({list, tuple})
ANY_JSON: Final[Types] = frozenset({str, int, float, bool, type(None), list, tuple, dict, DecimalText})
"""The types of JSON values and of decimals; subclasses and everything else are opaque to rules."""

_SEVERITIES: Final = ("none", "low", "medium", "high")
_PROVENANCES: Final = ("asserted", "verified")
_INTEGRITIES: Final = ("trusted", "unknown", "untrusted")
VALUE_PROVENANCES: Final = ("principal", "trusted", "unknown", "untrusted")
"""Possible origins of the value of an argument."""

_FLOW_ARGUMENTS: Final = "flow.args."
_MAX_PATH: Final = 256


@final
@dataclass(frozen=True, slots=True)
class Attribute:
    """One thing that a rule can look at.

    Attributes:
        read: Returns the value in a request, or :data:`MISSING` or :data:`UNREADABLE`.
        types: The types that its values can have.
        values: All values that it can have, if they are few; a rule with another one is a mistake.
        always: Every call that a policy judges has the attribute. Texts are then never empty.
        span: The least and the greatest value of a whole number; ``None`` for no greatest one.
        instead: The right form of a condition that can never be true of it.
    """

    read: Callable[[Request], object]
    types: Types
    values: tuple[object, ...] = ()
    always: bool = False
    span: tuple[int, int | None] | None = None
    instead: str = ""


def prepared(request: Request) -> Request:
    """Return the request with arguments that are walked once, however many rules look at them."""
    arguments = request.arguments
    if CONTAINERS.isdisjoint(map(type, arguments.values())):
        return request
    return request._replace(arguments={name: walked(value) for name, value in arguments.items()})


def attribute(name: str, path: Path) -> Attribute:
    """Return the attribute of that name.

    Raises:
        Problem: There is no such attribute.
    """
    known = ATTRIBUTES.get(name)
    if known is not None:
        return known
    namespace, _, rest = name.partition(".")
    if namespace == "args":
        return _argument(rest, path)
    if name.startswith(_FLOW_ARGUMENTS):
        return _flow_of_argument(name.removeprefix(_FLOW_ARGUMENTS), path)
    siblings = [key for key in ATTRIBUTES if key.startswith(f"{namespace}.")]
    if siblings:
        raise Problem(f"unknown attribute {quoted(name)}; use one of {words(siblings)}", path, at_key=True)
    raise Problem(
        f"unknown namespace {quoted(namespace)}; use all, any, not, or an attribute of "
        "agent, args, chain, data, findings, flow, principal, stage, task or tool (an argument is written args.<name>)",
        path,
        at_key=True,
    )


def _argument(rest: str, path: Path) -> Attribute:
    steps = rest.split(".")
    if not all(steps) or len(rest) > _MAX_PATH or not rest.isprintable():
        raise Problem(
            "the argument path is malformed; write args.<name> or args.<name>.<member>, "
            f"at most {_MAX_PATH} printable characters",
            path,
            at_key=True,
        )
    first, *members = steps

    def whole(request: Request) -> object:
        return request.arguments.get(first, MISSING)

    def member(request: Request) -> object:
        value = walked(request.arguments.get(first, MISSING))
        for name in members:
            if type(value) is Walked:
                value = value.member(name, MISSING)
            else:
                return MISSING if value is MISSING or type(value) in ANY_JSON else UNREADABLE
        return value

    return Attribute(member, ANY_JSON) if members else Attribute(whole, ANY_JSON)


def _flow_of_argument(name: str, path: Path) -> Attribute:
    if not name or "." in name or len(name) > _MAX_PATH or not name.isprintable():
        raise Problem("the argument name is malformed; write flow.args.<name>", path, at_key=True)

    def read(request: Request) -> object:
        return MISSING if request.flow is None else request.flow.args.get(name, MISSING)

    return Attribute(read, TEXT, VALUE_PROVENANCES)


def _of_flow(name: str) -> Callable[[Request], object]:
    def read(request: Request) -> object:
        return MISSING if request.flow is None else getattr(request.flow, name)

    return read


def _known(value: object) -> object:
    return MISSING if value is None else value


def _of_principal(name: str) -> Callable[[Request], object]:
    def read(request: Request) -> object:
        principal = request.principal
        return MISSING if principal is None else _known(getattr(principal, name))

    return read


def _of_agent(name: str) -> Callable[[Request], object]:
    def read(request: Request) -> object:
        agent = request.agent
        return MISSING if agent is None else _known(getattr(agent, name))

    return read


def _max_severity(request: Request) -> str:
    return max((finding.severity for finding in request.findings), key=_SEVERITIES.index, default="none")


def _text(read: Callable[[Request], object], *values: object, always: bool = True, instead: str = "") -> Attribute:
    return Attribute(read, TEXT, values, always=always, instead=instead)


def _list(read: Callable[[Request], object], *, always: bool = True) -> Attribute:
    return Attribute(read, LIST, always=always)


def _count(read: Callable[[Request], object], greatest: int | None) -> Attribute:
    return Attribute(read, frozenset({int, float}), always=True, span=(0, greatest))


_OWNED: Final = "an agent always has an owner; compare with the owner's id, such as agent.owner: team@example.com"
_ASSERTED: Final = "the application names its agents; ask principal.provenance for verified identities"
_MAX_DEPTH: Final = 32

ATTRIBUTES: Final[Mapping[str, Attribute]] = {
    "tool.name": _text(lambda request: request.tool.name),
    "tool.kind": _text(lambda request: request.tool.kind),
    "tool.server": _text(lambda request: _known(request.tool.server), always=False),
    "tool.labels": _list(lambda request: _known(request.tool.labels), always=False),
    "principal.id": _text(_of_principal("id")),
    "principal.kind": _text(_of_principal("kind"), "human", "service"),
    "principal.issuer": _text(_of_principal("issuer"), always=False),
    "principal.roles": _list(_of_principal("roles")),
    "principal.provenance": _text(_of_principal("provenance"), *_PROVENANCES),
    "agent.id": _text(_of_agent("id")),
    "agent.owner": _text(_of_agent("owner"), instead=_OWNED),
    "agent.version": _text(_of_agent("version"), always=False),
    "agent.provenance": _text(_of_agent("provenance"), "asserted", instead=_ASSERTED),
    "chain.depth": _count(lambda request: request.chain_depth, _MAX_DEPTH),
    "chain.has_human": Attribute(
        lambda request: type(request.principal) is Human, frozenset({bool}), (False, True), always=True
    ),
    "task.id": _text(lambda request: _known(request.task_id)),
    "task.purpose": _text(lambda request: _known(request.purpose)),
    "findings.categories": _list(lambda request: tuple(f.category for f in request.findings)),
    "findings.inspectors": _list(lambda request: tuple(f.inspector for f in request.findings)),
    "findings.fields": _list(lambda request: tuple(f.field for f in request.findings if f.field)),
    "findings.count": _count(lambda request: len(request.findings), None),
    "findings.max_severity": _text(_max_severity, *_SEVERITIES),
    "findings.stage": _text(lambda request: request.stage, "call", "result"),
    "flow.integrity": _text(_of_flow("integrity"), *_INTEGRITIES, always=False),
    "flow.readers": _list(_of_flow("readers"), always=False),
    "flow.sources": _list(_of_flow("sources"), always=False),
    "stage": _text(lambda request: request.stage, "call", "result"),
    "data.labels": _list(lambda request: _known(request.data), always=False),
}
"""Every attribute but the arguments. ``findings.max_severity`` is ``none`` without findings.

Policies judge calls inside a task, so that principal, agent and task are always there.
"""
