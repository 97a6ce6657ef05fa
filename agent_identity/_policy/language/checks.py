"""Constraints with three answers: true, false, or undecidable because the value is of another type.

A constraint alone answers ``False`` to a value of the wrong type. That is right for a grant, but in a
rule that blocks everything over 100 it would let ``"150"`` pass.

The constraints on places permit only spellings that all readers read alike. For a grant every other spelling is
outside. A rule that blocks a place must not treat it as outside: ``/data/../etc/passwd`` leads into ``/etc``. Such a
text is undecidable, and so is a path that some file systems take for one inside the place: ``/ETC/passwd`` where case
does not count, another normal form of Unicode where that does not.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Literal, TypeAlias, TypeVar, final

from agent_identity._constraints.literals import Constraint, Wildcard
from agent_identity._constraints.locations import EmailDomain, PathWithin, UrlWithin
from agent_identity._constraints.value_forms import DecimalText
from agent_identity._constraints.values import Walked, key_of
from agent_identity._policy.language._elements import comparable, inside
from agent_identity._policy.language.attributes import ANY_JSON, LIST, MISSING, TEXT, UNREADABLE, Types
from agent_identity.canonical import JSON

Verdict: TypeAlias = "bool | None"
"""True, false, or ``None``: undecidable."""

Check: TypeAlias = Callable[[object], Verdict]

_T = TypeVar("_T")

_NUMBER: Final[Types] = frozenset({int, float, DecimalText})
_NULL: Final[Types] = frozenset({type(None)})
_HASHED: Final[Types] = frozenset({str, int, float})
"""Constants of these types can be looked up in a set; ``True`` would be found as 1."""

_PLAIN: Final = 2**63
_seen: Final = Wildcard().permits

_EQUALITY: Final[Mapping[str, str]] = {"exact": "value", "one_of": "values", "not_one_of": "excluded"}
"""The constraints that compare for equality, with the member of their claims that holds the compared value."""

ELEMENTS: Final[Mapping[str, str]] = {"contains": "required", "subset": "allowed"}
"""The constraints that compare elements for equality, with the member of their claims that holds these values."""

_TYPES: Final[Mapping[str, Types]] = {
    **dict.fromkeys(ELEMENTS, LIST),
    "email_domain": TEXT,
    "path_within": TEXT,
    "prefix": TEXT,
    "range": _NUMBER,
    "url_within": TEXT,
    "wildcard": ANY_JSON,
}
"""The types that the other constraints can decide about."""

_URL_REST: Final = re.compile(r"[?#].*", re.DOTALL)


@final
@dataclass(frozen=True, slots=True)
class Presence:
    """The existence of an attribute; ``null`` is a value like others.

    Attributes:
        expected: True if the attribute must exist.
    """

    expected: bool

    @property
    def types(self) -> Types:
        """The types of values that this check can decide."""
        return ANY_JSON

    def constants(self) -> Iterable[object]:
        """Return the values that the check compares for equality."""
        return ()

    def describe(self) -> JSON:
        """Return the canonical description for the digest."""
        return {"exists": self.expected}

    def compile(self) -> Check:
        """Return the check as one function."""
        expected = self.expected

        def present(value: object) -> Verdict:
            return None if value is UNREADABLE else (value is not MISSING) is expected

        return present


@final
@dataclass(frozen=True, slots=True)
class Leaf:
    """One constraint.

    Attributes:
        constraint: The constraint; not made of others.
    """

    constraint: Constraint

    @property
    def types(self) -> Types:
        """The types of values that this check can decide."""
        kind = self.constraint.kind
        if kind not in _EQUALITY:
            return _TYPES[kind]
        # A value of another type may spell the same thing: "100" for 100.
        # Null has no other spelling, so everything is decidable for a rule that asks for null.
        constants = self.constants()
        types = [_alike(type(item)) for item in constants if item is not None]
        if not types:
            return ANY_JSON
        return frozenset[type]().union(*types, _NULL if None in constants else ())

    def constants(self) -> tuple[object, ...]:
        """Return the values that the check compares for equality."""
        kind = self.constraint.kind
        if kind not in _EQUALITY:
            return ()
        claimed = self.constraint.to_claim()[_EQUALITY[kind]]
        return tuple(claimed) if kind != "exact" and isinstance(claimed, list | tuple) else (claimed,)

    def describe(self) -> JSON:
        """Return the canonical description for the digest."""
        return self.constraint.to_claim()

    def compile(self) -> Check:
        """Return the check as one function."""
        types = self.types
        constants = self.constants()
        if constants and all(type(item) in _HASHED for item in constants):
            return _membership(types, frozenset(constants), inside=self.constraint.kind != "not_one_of")
        permits = self.constraint.permits
        settled = self.constraint.kind != "not_one_of"  # The answer that holds whatever else the value contains.
        readable = self._readable()

        def check(value: object) -> Verdict:
            kind = type(value.value) if type(value) is Walked else type(value)
            if kind not in types or not is_json(value):
                return None
            answer = permits(value)
            return answer if answer is settled or readable is None or readable(value) else None

        return check

    def _readable(self) -> Callable[[object], bool] | None:
        """Return the predicate that a value has one meaning, besides the named constants; ``None`` if all have."""
        kind = self.constraint.kind
        if kind in ELEMENTS:
            return comparable(inside(self.constraint.to_claim()[ELEMENTS[kind]]))
        if kind in _EQUALITY:
            # Each item of a constant, without the constant itself: its type was compared before.
            return comparable(item for constant in self.constants() for item in inside(constant))
        return readable_of(self.constraint)


@final
@dataclass(frozen=True, slots=True)
class Combination:
    """Several checks of one value.

    Attributes:
        word: ``all`` or ``any``: how many parts must be true.
        parts: The checks; at least one.
    """

    word: Literal["all", "any"]
    parts: "tuple[Spec, ...]"

    @property
    def types(self) -> Types:
        """The types of values that this can decide about."""
        return frozenset[type]().union(*(part.types for part in self.parts))

    def constants(self) -> Iterable[object]:
        """Return the values that are compared for equality."""
        return (item for part in self.parts for item in part.constants())

    def describe(self) -> JSON:
        """Return the canonical description for the digest."""
        return {self.word: [part.describe() for part in self.parts]}

    def compile(self) -> Check:
        """Return the check as one function."""
        return combined(self.word, [part.compile() for part in self.parts])


Spec: TypeAlias = Presence | Leaf | Combination
"""Check of one attribute in a rule."""


def combined(word: Literal["all", "any"], parts: Sequence[Callable[[_T], Verdict]]) -> Callable[[_T], Verdict]:
    """Combine several functions with ``all`` or ``any``, by Kleene's strong logic.

    One false part makes ``all`` false whatever the undecidable ones are, and one true part makes ``any``
    true. The answer therefore does not depend on the order of the parts.
    """
    settling = word == "any"
    if len(parts) == 1:
        return parts[0]
    tests = tuple(parts)

    def combination(subject: _T) -> Verdict:
        verdict: Verdict = not settling
        for test in tests:
            answer = test(subject)
            if answer is settling:
                return settling
            if answer is None:
                verdict = None
        return verdict

    return combination


def _membership(types: Types, constants: frozenset[object], *, inside: bool) -> Check:
    # Gives the same answers as the constraint, in a fraction of the time.
    def check(value: object) -> Verdict:
        if type(value) not in types or not is_json(value):
            return None
        # The form of a decimal is text, and is compared as a number.
        return ((key_of(value) if type(value) is DecimalText else value) in constants) is inside

    return check


def is_json(value: object) -> bool:
    """Return whether constraints can read the value: JSON at every depth, within the bounds."""
    if type(value) is str and value.isascii():
        return True
    if type(value) is int and -_PLAIN <= value <= _PLAIN:
        return True
    return _seen(value)


def _alike(kind: type) -> Types:
    return next((types for types in (_NUMBER, LIST) if kind in types), frozenset({kind}))


def readable_of(constraint: Constraint) -> Callable[[object], bool] | None:
    """Return the predicate that a text, which the constraint does not permit, is certainly outside.

    ``None`` if the constraint is on no place.
    """
    if isinstance(constraint, EmailDomain):
        return _is_email
    if isinstance(constraint, UrlWithin):
        return _is_url
    return partial(_is_path, constraint) if isinstance(constraint, PathWithin) else None


def _is_url(value: object) -> bool:
    try:
        return isinstance(value, str) and UrlWithin(_URL_REST.sub("", value)).permits(value)
    except ValueError:
        return False


def _is_email(value: object) -> bool:
    try:
        return isinstance(value, str) and EmailDomain(value.rpartition("@")[2]).permits(value)
    except ValueError:
        return False


def _is_path(place: PathWithin, value: object) -> bool:
    return isinstance(value, str) and _ROOT.permits(value) and not place.resembles(value)


_ROOT: Final = PathWithin("/")
"""It holds all paths that have one meaning."""
