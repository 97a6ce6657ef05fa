"""Every kind of constraint under one roof, and how they come out of a grant.

A constraint says which values of one argument a grant permits. Plain values in a
:class:`~agent_identity.authority.Scope` mean :class:`Exact`.
"""

from collections.abc import Callable, Mapping
from typing import Final, TypeAlias, cast

from agent_identity.authority.combinators import AllOf, AnyOf, check_size
from agent_identity.authority.literals import (
    LITERAL_KINDS,
    Constraint,
    Contains,
    Exact,
    NotOneOf,
    OneOf,
    Range,
    Subset,
    Wildcard,
)
from agent_identity.authority.locations import LOCATION_KINDS, EmailDomain, PathWithin, Prefix, UrlWithin
from agent_identity.errors import TokenError

__all__ = [
    "AllOf",
    "AnyOf",
    "Constraint",
    "Contains",
    "EmailDomain",
    "Exact",
    "NotOneOf",
    "OneOf",
    "PathWithin",
    "Prefix",
    "Range",
    "Subset",
    "UrlWithin",
    "Wildcard",
    "constraint_from_claim",
    "is_constraint",
]

_Members: TypeAlias = Mapping[str, object]

_KINDS: Final = (*LITERAL_KINDS, *LOCATION_KINDS, AllOf, AnyOf)


def is_constraint(value: object) -> bool:
    """Tell whether the value is one of the kinds above; there are no others."""
    return isinstance(value, _KINDS)


def constraint_from_claim(claim: Mapping[str, object]) -> Constraint:
    """Return the constraint that stands in a grant.

    Raises:
        TokenError: With code ``unknown_constraint`` for a kind that this version does not know, which
            is denied, not ignored; ``bad_constraint`` for anything malformed.
    """
    try:
        check_size(claim)
    except ValueError as error:
        raise TokenError(f"bad constraint: {error}", code="bad_constraint") from None
    return _read(claim)


def _read(claim: object) -> Constraint:
    if not isinstance(claim, Mapping):
        raise TokenError("expected a constraint (a JSON object), got another value", code="bad_constraint")
    members = dict(cast("_Members", claim))
    name = members.pop("constraint_type", None)
    if type(name) is not str or name not in _READERS:
        raise TokenError(
            f"expected a known constraint_type, got {_shown(name)}; this version cannot enforce it, so it denies",
            code="unknown_constraint",
        )
    required, optional, reader = _READERS[name]
    if not required <= members.keys() <= required | optional:
        raise TokenError(
            f"expected {', '.join(sorted(required | optional)) or 'no members'} in a constraint of type {name}",
            code="bad_constraint",
        )
    try:
        return reader(members)
    except TokenError:
        raise
    except (TypeError, ValueError) as error:
        raise TokenError(f"bad constraint of type {name}: {error}", code="bad_constraint") from None


def _shown(name: object) -> str:
    if type(name) is str and len(name) <= 64 and name.isascii() and name.isprintable():
        return repr(name)
    return "none or an unreadable one"


def _items(members: _Members, name: str) -> list[object]:
    items = members[name]
    if not isinstance(items, list | tuple):
        raise TypeError(f"expected an array as {name}")
    return list(cast("list[object]", items))


def _range(members: _Members) -> Range:
    if None in members.values():
        raise TypeError("expected a number as a bound, got null; leave it out")
    return Range(
        cast("float | None", members.get("min")),
        cast("float | None", members.get("max")),
        min_inclusive=cast("bool", members.get("min_inclusive", True)),
        max_inclusive=cast("bool", members.get("max_inclusive", True)),
    )


def _path_within(members: _Members) -> PathWithin:
    return PathWithin(cast("str", members["root"]), follow_links=cast("bool", members.get("follow_links", False)))


def _clauses(members: _Members) -> list[Constraint]:
    return [_read(clause) for clause in _items(members, "constraints")]


def _names(*names: str) -> frozenset[str]:
    return frozenset(names)


_READERS: Final[dict[str, tuple[frozenset[str], frozenset[str], Callable[[_Members], Constraint]]]] = {
    Exact.kind: (_names("value"), _names(), lambda claim: Exact(claim["value"])),
    OneOf.kind: (_names("values"), _names(), lambda claim: OneOf(*_items(claim, "values"))),
    NotOneOf.kind: (_names("excluded"), _names(), lambda claim: NotOneOf(*_items(claim, "excluded"))),
    Range.kind: (_names(), _names("min", "max", "min_inclusive", "max_inclusive"), _range),
    Contains.kind: (_names("required"), _names(), lambda claim: Contains(*_items(claim, "required"))),
    Subset.kind: (_names("allowed"), _names(), lambda claim: Subset(*_items(claim, "allowed"))),
    Wildcard.kind: (_names(), _names(), lambda _: Wildcard()),
    AllOf.kind: (_names("constraints"), _names(), lambda claim: AllOf(*_clauses(claim))),
    AnyOf.kind: (_names("constraints"), _names(), lambda claim: AnyOf(*_clauses(claim))),
    PathWithin.kind: (_names("root"), _names("follow_links"), _path_within),
    UrlWithin.kind: (_names("prefix"), _names(), lambda claim: UrlWithin(cast("str", claim["prefix"]))),
    EmailDomain.kind: (
        _names("domains"),
        _names(),
        lambda claim: EmailDomain(*cast("list[str]", _items(claim, "domains"))),
    ),
    Prefix.kind: (_names("prefix"), _names(), lambda claim: Prefix(cast("str", claim["prefix"]))),
}
