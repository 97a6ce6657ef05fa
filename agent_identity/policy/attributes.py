"""What a rule can look at: closed namespaces, so that no argument can pose as a principal."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias, final

from agent_identity.authority.values import CONTAINERS, DecimalText, Walked, walked
from agent_identity.identity import Human
from agent_identity.policy.request import Request
from agent_identity.policy.source import Path, Problem, quoted, words

__all__ = [
    "ANY_JSON",
    "ATTRIBUTES",
    "LIST",
    "MISSING",
    "TEXT",
    "UNREADABLE",
    "Attribute",
    "Types",
    "attribute",
    "prepared",
]


@final
class _Absence:
    """No value of JSON, so that no constraint can be true or false of it."""


MISSING: Final = _Absence()
"""The request has no such attribute."""

UNREADABLE: Final = _Absence()
"""The attribute lies inside something that is not JSON, where nobody can look."""

Types: TypeAlias = frozenset[type]

TEXT: Final[Types] = frozenset({str})
LIST: Final[Types] = frozenset({list, tuple})
ANY_JSON: Final[Types] = frozenset({str, int, float, bool, type(None), list, tuple, dict, DecimalText})
"""The types of JSON values and of decimals; subclasses and everything else are opaque to rules."""

_SEVERITIES: Final = ("none", "low", "medium", "high")
_PROVENANCES: Final = ("asserted", "verified")
_MAX_PATH: Final = 256


@final
@dataclass(frozen=True, slots=True)
class Attribute:
    """One thing that a rule can look at.

    Attributes:
        read: Returns the value in a request, or :data:`MISSING` or :data:`UNREADABLE`.
        types: The types that its values can have.
        values: All values that it can have, if they are few; a rule with another one is a mistake.
    """

    read: Callable[[Request], object]
    types: Types
    values: tuple[str, ...] = ()


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
    siblings = [key for key in ATTRIBUTES if key.startswith(f"{namespace}.")]
    if siblings:
        raise Problem(f"unknown attribute {quoted(name)}; expected one of {words(siblings)}", path, at_key=True)
    raise Problem(
        f"unknown namespace {quoted(namespace)}; expected all, any, not, or an attribute of "
        "agent, args, chain, data, findings, principal, task or tool (an argument is written args.<name>)",
        path,
        at_key=True,
    )


def _argument(rest: str, path: Path) -> Attribute:
    steps = rest.split(".")
    if not all(steps) or len(rest) > _MAX_PATH or not rest.isprintable():
        raise Problem(
            f"expected args.<name> or args.<name>.<member> of at most {_MAX_PATH} printable characters",
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


ATTRIBUTES: Final[Mapping[str, Attribute]] = {
    "tool.name": Attribute(lambda request: request.tool.name, TEXT),
    "tool.kind": Attribute(lambda request: request.tool.kind, TEXT),
    "tool.server": Attribute(lambda request: _known(request.tool.server), TEXT),
    "tool.labels": Attribute(lambda request: request.tool.labels, LIST),
    "principal.id": Attribute(_of_principal("id"), TEXT),
    "principal.kind": Attribute(_of_principal("kind"), TEXT, ("human", "service")),
    "principal.issuer": Attribute(_of_principal("issuer"), TEXT),
    "principal.roles": Attribute(_of_principal("roles"), LIST),
    "principal.provenance": Attribute(_of_principal("provenance"), TEXT, _PROVENANCES),
    "agent.id": Attribute(_of_agent("id"), TEXT),
    "agent.owner": Attribute(_of_agent("owner"), TEXT),
    "agent.version": Attribute(_of_agent("version"), TEXT),
    "agent.provenance": Attribute(_of_agent("provenance"), TEXT, _PROVENANCES),
    "chain.depth": Attribute(lambda request: request.chain_depth, frozenset({int, float})),
    "chain.has_human": Attribute(lambda request: type(request.principal) is Human, frozenset({bool})),
    "task.id": Attribute(lambda request: _known(request.task_id), TEXT),
    "task.purpose": Attribute(lambda request: _known(request.purpose), TEXT),
    "findings.categories": Attribute(lambda request: tuple(f.category for f in request.findings), LIST),
    "findings.inspectors": Attribute(lambda request: tuple(f.inspector for f in request.findings), LIST),
    "findings.fields": Attribute(lambda request: tuple(f.field for f in request.findings if f.field), LIST),
    "findings.count": Attribute(lambda request: len(request.findings), frozenset({int, float})),
    "findings.max_severity": Attribute(_max_severity, TEXT, _SEVERITIES),
    "findings.stage": Attribute(lambda request: request.stage, TEXT, ("call", "result")),
    "data.labels": Attribute(lambda request: request.data, LIST),
}
"""Every attribute but the arguments. ``findings.max_severity`` is ``none`` without findings."""
