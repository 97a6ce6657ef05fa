"""Conditions as data, compiled to one function with three answers.

``{"args.amount": Range(min=0, max=100), "any": [{"principal.kind": "human"}, {"not": {…}}]}``: the members of a
mapping must all be true. A missing attribute or a value of the wrong type is undecidable, and only
``exists`` can tell that an attribute is missing.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Literal, TypeAlias, final

from agent_identity._common.narrowing import is_mapping, is_object, is_plain_array
from agent_identity._constraints.combinators import AllOf, AnyOf
from agent_identity._constraints.literals import Constraint, Contains, Exact, NotOneOf, OneOf, Range, Subset, Wildcard
from agent_identity._constraints.locations import EmailDomain, PathWithin, Prefix, UrlWithin
from agent_identity._constraints.registry import range_of
from agent_identity._policy.decision.places import MAX_DEPTH, Path, Problem, each, quoted, words
from agent_identity._policy.decision.request import Request
from agent_identity._policy.language._satisfiability import check_fit, is_certain
from agent_identity._policy.language.attributes import LIST, attribute
from agent_identity._policy.language.checks import Combination, Leaf, Presence, Spec, Verdict, combined
from agent_identity.canonical import JSON

Predicate: TypeAlias = Callable[[Request], Verdict]
"""A compiled condition."""

_Word: TypeAlias = Literal["all", "any"]
_GROUPS: Final[Mapping[str, _Word]] = {"all": "all", "any": "any"}
_LISTS: Final[Mapping[str, Callable[..., Constraint]]] = {
    "contains": Contains,
    "email_domain": EmailDomain,
    "not_one_of": NotOneOf,
    "one_of": OneOf,
    "subset": Subset,
}
_TEXTS: Final[Mapping[str, Callable[[str], Constraint]]] = {
    "path_within": PathWithin,
    "prefix": Prefix,
    "url_within": UrlWithin,
}
_WORDS: Final = frozenset({*_LISTS, *_TEXTS, "all", "any", "exact", "exists", "range", "wildcard"})
_ATOMS: Final = (
    Contains,
    EmailDomain,
    Exact,
    NotOneOf,
    OneOf,
    PathWithin,
    Prefix,
    Range,
    Subset,
    UrlWithin,
    Wildcard,
)
_BOUNDS: Final = ("max", "max_inclusive", "min", "min_inclusive")
_SCALARS: Final = frozenset({str, int, float, bool, type(None)})


@final
@dataclass(frozen=True, slots=True)
class Question:
    """A rule's comparison of one attribute.

    Attributes:
        name: The attribute.
        spec: The comparison.
    """

    name: str
    spec: Spec

    def describe(self) -> JSON:
        """Return the canonical description for the digest."""
        return {self.name: self.spec.describe()}

    def compile(self) -> Predicate:
        """Return the condition as one function."""
        known = attribute(self.name, ())
        check = self.spec.compile()
        read = known.read

        def answer(request: Request) -> Verdict:
            return check(read(request))

        return answer


@final
@dataclass(frozen=True, slots=True)
class Negation:
    """A condition that must be false.

    Attributes:
        part: The condition.
    """

    part: "Condition"

    def describe(self) -> JSON:
        """Return the canonical description for the digest."""
        return {"not": self.part.describe()}

    def compile(self) -> Predicate:
        """Return the condition as one function."""
        test = self.part.compile()

        def answer(request: Request) -> Verdict:
            verdict = test(request)
            return None if verdict is None else not verdict

        return answer


@final
@dataclass(frozen=True, slots=True)
class Group:
    """Conditions of which all or any must be true.

    Attributes:
        word: ``all`` or ``any``.
        parts: The conditions; at least one.
    """

    word: _Word
    parts: "tuple[Condition, ...]"

    def describe(self) -> JSON:
        """Return the canonical description for the digest."""
        return {self.word: [part.describe() for part in self.parts]}

    def compile(self) -> Predicate:
        """Return the condition as one function."""
        return combined(self.word, [part.compile() for part in self.parts])


Condition: TypeAlias = Question | Negation | Group
"""Condition under which a rule matches."""


def parse_condition(value: object, path: Path) -> Condition:
    """Parse a condition from plain data.

    Args:
        value: A mapping of ``all``, ``any``, ``not`` or attributes; or a condition.
        path: The path of the value, for errors.

    Raises:
        Problem: The value is no condition.
    """
    if isinstance(value, Question | Negation | Group):
        return value
    members = _members(value, path, "a condition")
    parts = each(partial(_part, word, item, (*path, word)) for word, item in members.items())
    if not parts:
        raise Problem("the condition is empty; add a member, or leave `when` out for a rule that always matches", path)
    return parts[0] if len(parts) == 1 else Group("all", tuple(parts))


def _part(word: str, value: object, path: Path) -> Condition:
    group = _GROUPS.get(word)
    if group is not None:
        return Group(group, tuple(each(partial(parse_condition, item, way) for item, way in _items(value, path))))
    if word == "not":
        return Negation(_uncertain(parse_condition(value, path), path))
    known = attribute(word, path)
    spec = parse_spec(value, path)
    check_fit(word, known, spec, path)
    return Question(word, spec)


def _uncertain(condition: Condition, path: Path) -> Condition:
    """Return a condition, or refuse one that is true of every call: its negation would never match."""
    if _is_certain(condition):
        raise Problem("the condition is true of every call, so its negation never is; leave it out", path)
    return condition


def _is_certain(condition: Condition) -> bool:
    if isinstance(condition, Question):
        return is_certain(condition.name, condition.spec)
    if isinstance(condition, Negation):
        return False  # fitting refuses conditions that are never true.
    return (all if condition.word == "all" else any)(map(_is_certain, condition.parts))


def parse_spec(value: object, path: Path) -> Spec:
    """Parse the comparison of one attribute from plain data.

    Args:
        value: A scalar, which must be equal; a constraint; or a mapping of one constraint's name to it.
        path: The path of the value, for errors.

    Raises:
        Problem: The value is none of these.
    """
    if isinstance(value, AllOf | AnyOf):
        return Combination(_GROUPS[value.kind], tuple(parse_spec(clause, path) for clause in value.clauses))
    if isinstance(value, _ATOMS):
        return Leaf(value)
    if type(value) in _SCALARS:
        return Leaf(_made(Exact, (value,), path))
    if type(value) in LIST:
        raise Problem("the value is a list; write one_of: […] or exact: […]", path)
    members = _members(value, path, "a constraint")
    if len(members) != 1:
        raise Problem(
            f"the constraint has {len(members)} keys; use one of {words(_WORDS)}, and combine several with all: […]",
            path,
        )
    ((word, item),) = members.items()
    return _named(word, item, (*path, word))


def _named(word: str, value: object, path: Path) -> Spec:
    group = _GROUPS.get(word)
    if group is not None:
        return Combination(group, tuple(parse_spec(item, way) for item, way in _items(value, path)))
    if word == "exists":
        if type(value) is not bool:
            raise Problem(f"exists is {_kind(value)}; write exists: true or exists: false", path)
        return Presence(value)
    if word in _LISTS:
        single = word == "email_domain" and type(value) is str
        values = [value] if single else [item for item, _ in _items(value, path)]
        return Leaf(_made(_LISTS[word], values, path))
    return Leaf(_simple(word, value, path))


def _simple(word: str, value: object, path: Path) -> Constraint:
    if word == "exact":
        return _made(Exact, (value,), path)
    if word == "range":
        return _range(value, path)
    if word == "wildcard":
        if _members(value, path, "wildcard"):
            raise Problem("wildcard has members; write wildcard: {}", path)
        return Wildcard()
    if word not in _TEXTS:
        raise Problem(f"unknown constraint {quoted(word)}; use one of {words(_WORDS)}", path, at_key=True)
    if type(value) is not str:
        raise Problem(f"{word} is {_kind(value)}; write a string", path)
    return _made(_TEXTS[word], (value,), path)


def _range(value: object, path: Path) -> Constraint:
    members = _members(value, path, "a range")
    for key in members:
        if key not in _BOUNDS:
            raise Problem(
                f"unknown key {quoted(key)} in a range; use one of {words(_BOUNDS)}", (*path, key), at_key=True
            )
        if members[key] is None:
            raise Problem("the bound is null; write a number or a boolean, or leave the key out", (*path, key))
    return _made(range_of, (members,), path)


def _made(make: Callable[..., Constraint], values: Sequence[object], path: Path) -> Constraint:
    try:
        return make(*values)
    except (TypeError, ValueError) as error:
        raise Problem(str(error), path) from None


def _members(value: object, path: Path, what: str) -> Mapping[str, object]:
    if not is_mapping(value):
        raise Problem(f"{what} is {_kind(value)}; write a mapping", path)
    if len(path) > MAX_DEPTH:
        raise Problem(f"conditions are nested more than {MAX_DEPTH} levels deep; flatten them", path)
    if not is_object(value):
        raise Problem(f"a key of {what} is no string; write strings as keys", path)
    return value


def _items(value: object, path: Path) -> list[tuple[object, Path]]:
    items = value if is_plain_array(value) else ()
    if not items:
        got = "an empty list" if is_plain_array(value) else _kind(value)
        raise Problem(f"the value is {got}; write a list with at least one item", path)
    return [(item, (*path, index)) for index, item in enumerate(items)]


def _kind(value: object) -> str:
    names: Mapping[type, str] = {dict: "a mapping", list: "a list", str: "a string", type(None): "null"}
    return names.get(type(value), f"a value of type {type(value).__name__}")
