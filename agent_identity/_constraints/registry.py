"""All kinds of constraints, and their parsing from a grant.

A constraint says which values of one argument a grant permits. Plain values in a
:class:`Scope` mean :class:`Exact`.
"""

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Final, TypeAlias, TypeGuard

from agent_identity._common.narrowing import is_array, is_object, text_of
from agent_identity._constraints.combinators import AllOf, AnyOf, check_size
from agent_identity._constraints.literals import (
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
from agent_identity._constraints.locations import LOCATION_KINDS, EmailDomain, PathWithin, Prefix, UrlWithin
from agent_identity._constraints.values import CONTAINERS, is_interoperable, is_text
from agent_identity.errors import TokenError

_Members: TypeAlias = Mapping[str, object]

_FLAGS: Final = (("min_inclusive", "min"), ("max_inclusive", "max"))

_ROUNDED: Final = "no double holds a whole number of the constraint exactly, so others read another one; use a text"

_KINDS: Final = (*LITERAL_KINDS, *LOCATION_KINDS, AllOf, AnyOf)


def is_constraint(value: object) -> TypeGuard[Constraint]:
    """Return whether the value is one of the kinds above; no other kinds exist."""
    return isinstance(value, _KINDS)


def constraint_of(value: object) -> Constraint:
    """Return the constraint of an argument in a scope, where a plain value means exactly equal, as a grant spells it.

    Raises:
        TypeError: The value is a class.
        ValueError: It is neither a constraint nor a value that a grant can hold.
    """
    if isinstance(value, type):
        raise TypeError(f"the constraint is a class; write {value.__name__}(…)")
    constraint = _in_grant(value if is_constraint(value) else Exact(value))
    if not is_interoperable(constraint.to_claim()):
        raise ValueError(_ROUNDED)
    return constraint


def _in_grant(constraint: Constraint) -> Constraint:
    """Return a constraint without arrays and objects that are exact."""
    if isinstance(constraint, AllOf | AnyOf):
        return type(constraint)(*map(_in_grant, constraint.clauses))
    if isinstance(constraint, Exact) and type(constraint.values[0]) in CONTAINERS:
        return OneOf(*constraint.values)
    return constraint


def constraint_from_claim(claim: object) -> Constraint:
    """Return the constraint of a claim of a grant.

    Raises:
        TokenError: With code ``unknown_constraint`` for a kind that this version does not know, which
            is denied, not ignored; ``bad_constraint`` for anything malformed.
    """
    try:
        check_size(claim)
    except ValueError as error:
        raise TokenError(f"bad constraint: {error}", code="bad_constraint") from None
    if not is_interoperable(claim):
        raise TokenError(_ROUNDED, code="bad_constraint")
    return _read(claim)


def _read(claim: object) -> Constraint:
    if not is_object(claim):
        raise TokenError("the constraint is not a JSON object", code="bad_constraint")
    members = dict(claim)
    name = members.pop("constraint_type", None)
    if type(name) is not str or name not in _READERS:
        raise TokenError(
            f"the constraint_type {_shown(name)} is unknown; this version cannot enforce it, so it denies",
            code="unknown_constraint",
        )
    required, optional, reader = _READERS[name]
    if not required <= members.keys() <= required | optional:
        raise TokenError(
            f"wrong members in a constraint of type {name}; give {', '.join(sorted(required | optional)) or 'none'}",
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
    return "(missing or unreadable)"


def _scalar(value: object) -> object:
    if type(value) in CONTAINERS:
        raise TypeError("value is an array or an object")
    return value


def _items(members: _Members, name: str) -> list[object]:
    items = members[name]
    if not is_array(items):
        raise TypeError(f"{name} is not an array")
    return list(items)


def _texts(members: _Members, name: str) -> list[str]:
    items = _items(members, name)
    texts = [item for item in items if is_text(item)]
    if len(texts) != len(items):
        raise TypeError(f"{name} is not an array of Unicode text")
    return texts


def _flag(members: _Members, name: str, owner: str, *, default: bool) -> bool:
    value = members.get(name, default)
    if type(value) is not bool:
        raise TypeError(f"{name} of {owner} is not True or False")
    return value


def range_of(members: _Members) -> Range:
    """Return the range that the members ``min``, ``max``, ``min_inclusive`` and ``max_inclusive`` describe.

    Raises:
        TypeError: A bound is no number, or a flag is no truth value.
        ValueError: They make no :class:`Range`, or a flag has no bound.
    """
    if any(flag in members and bound not in members for flag, bound in _FLAGS):
        raise ValueError("min_inclusive or max_inclusive is without its bound")
    return Range(
        _bound(members, "min"),
        _bound(members, "max"),
        min_inclusive=_flag(members, "min_inclusive", "Range", default=True),
        max_inclusive=_flag(members, "max_inclusive", "Range", default=True),
    )


def _bound(members: _Members, name: str) -> float | Decimal | None:
    if name not in members:
        return None
    value = members[name]
    if value is None:
        raise TypeError("the bound is null; leave it out")
    if type(value) is not int and type(value) is not float and type(value) is not Decimal:
        raise TypeError(f"the bound of the Range is {type(value).__name__}; give an int, a float or a Decimal")
    return value


def _path_within(members: _Members) -> PathWithin:
    follow_links = _flag(members, "follow_links", "PathWithin", default=False)
    return PathWithin(text_of(members, "root"), follow_links=follow_links)


def _clauses(members: _Members) -> list[Constraint]:
    return [_read(clause) for clause in _items(members, "constraints")]


def _names(*names: str) -> frozenset[str]:
    return frozenset(names)


_READERS: Final[dict[str, tuple[frozenset[str], frozenset[str], Callable[[_Members], Constraint]]]] = {
    Exact.kind: (_names("value"), _names(), lambda claim: Exact(_scalar(claim["value"]))),
    OneOf.kind: (_names("values"), _names(), lambda claim: OneOf(*_items(claim, "values"))),
    NotOneOf.kind: (_names("excluded"), _names(), lambda claim: NotOneOf(*_items(claim, "excluded"))),
    Range.kind: (_names(), _names("min", "max", "min_inclusive", "max_inclusive"), range_of),
    Contains.kind: (_names("required"), _names(), lambda claim: Contains(*_items(claim, "required"))),
    Subset.kind: (_names("allowed"), _names(), lambda claim: Subset(*_items(claim, "allowed"))),
    Wildcard.kind: (_names(), _names(), lambda _: Wildcard()),
    AllOf.kind: (_names("constraints"), _names(), lambda claim: AllOf(*_clauses(claim))),
    AnyOf.kind: (_names("constraints"), _names(), lambda claim: AnyOf(*_clauses(claim))),
    PathWithin.kind: (_names("root"), _names("follow_links"), _path_within),
    UrlWithin.kind: (_names("prefix"), _names(), lambda claim: UrlWithin(text_of(claim, "prefix"))),
    EmailDomain.kind: (_names("domains"), _names(), lambda claim: EmailDomain(*_texts(claim, "domains"))),
    Prefix.kind: (_names("prefix"), _names(), lambda claim: Prefix(text_of(claim, "prefix"))),
}
