"""Conditions as data, compiled to one function with three answers.

``{"args.amount": Range(min=0, max=100), "any": [{"principal.kind": "human"}, {"not": {…}}]}``: the members of a
mapping must all be true. A missing attribute or a value of the wrong type is undecidable, and only
``exists`` can tell that an attribute is missing.

A rule that never matches looks like protection and gives none, so loading refuses conditions that can never be
decided, or never be true.
"""

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Literal, TypeAlias, final

from agent_identity._common.narrowing import is_array, is_mapping, is_object, is_plain_array
from agent_identity._constraints.combinators import AllOf, AnyOf
from agent_identity._constraints.literals import (
    LITERAL_KINDS,
    Constraint,
    Contains,
    Exact,
    NotOneOf,
    OneOf,
    Subset,
    Wildcard,
)
from agent_identity._constraints.locations import LOCATION_KINDS, EmailDomain, PathWithin, Prefix, UrlWithin
from agent_identity._constraints.registry import range_of
from agent_identity._policy.decision.decision import check_spelling
from agent_identity._policy.decision.patterns import has_wildcard
from agent_identity._policy.decision.places import MAX_DEPTH, Path, Problem, each, quoted, words
from agent_identity._policy.decision.request import Request
from agent_identity._policy.language._elements import inside
from agent_identity._policy.language.attributes import ATTRIBUTES, LIST, TEXT, Attribute, attribute
from agent_identity._policy.language.checks import ELEMENTS, Combination, Leaf, Presence, Spec, Verdict, combined
from agent_identity.canonical import JSON
from agent_identity.errors import ConfigurationError

_NAMESPACES: Final = sorted({"args", *(name.partition(".")[0] for name in ATTRIBUTES)})
_NAMES: Final = ("findings.categories", "findings.inspectors")
_NAME: Final = re.compile(r"[A-Za-z0-9_.:/-]{1,128}")
_TEMPLATE: Final = re.compile(rf"\$\{{\s*(?:{'|'.join(_NAMESPACES)})\s*\.")

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
_ATOMS: Final = (*LITERAL_KINDS, *LOCATION_KINDS)
_BOUNDS: Final = ("max", "max_inclusive", "min", "min_inclusive")
_SCALARS: Final = frozenset({str, int, float, bool, type(None)})


def check_fit(name: str, found: Attribute, spec: Spec, path: Path) -> None:
    """Refuse a comparison that can never be decided, or that can never be true.

    Args:
        name: The attribute.
        found: The definition of the attribute.
        spec: The rule's comparison.
        path: The path of the comparison, for errors.

    Raises:
        Problem: The comparison can never be decided or true.
    """
    _check_types(name, found, spec, path)
    described = spec.describe()
    if any(_TEMPLATE.search(text) for text in _texts(described)):
        raise Problem("'${…}' is not substituted, since a rule compares literally; write the value itself", path)
    if True not in _answers(found, spec, described):
        raise Problem(f"{name} is {_range_of(found)}, so this is never true; {_way_out(found)}", path)


def _check_types(name: str, found: Attribute, spec: Spec, path: Path) -> None:
    """Refuse a comparison with what the attribute never is."""
    if spec.types.isdisjoint(found.types):
        way_out = "use contains or subset" if found.types == LIST else "use a constraint on such values"
        kinds = words({kind.__name__ for kind in found.types})
        raise Problem(f"{name} is always of type {kinds}, which this constraint cannot decide; {way_out}", path)
    for constant in spec.constants():
        _check_constant(name, found, constant, path)
    for leaf in _leaves(spec):
        for element in _elements(leaf) if found.types == LIST else ():
            if type(element) is not str or not element:
                raise Problem(f"{name} holds texts that are not empty, never this element; name such texts", path)
            _check_element(name, element, path)


def _check_element(name: str, element: str, path: Path) -> None:
    """Refuse an element that a list never has, although it has the right type."""
    if name == "tool.labels":
        try:
            check_spelling(element)
        except ConfigurationError as error:
            raise Problem(str(error), path) from None
    if name in _NAMES and not _NAME.fullmatch(element):
        cure = "name each one whole, such as secret.github-pat"
        if has_wildcard(element):
            cure = f"no wildcard works here: {cure}, or compare findings.inspectors"
        raise Problem(f"{name} holds names of letters, digits and _ . : / -, never {quoted(element)}; {cure}", path)


def is_certain(name: str, spec: Spec) -> bool:
    """Return whether a comparison is true of every call, so that its negation never is."""
    known = ATTRIBUTES.get(name)
    return known is not None and _answers(known, spec, spec.describe()) == {True}


def _check_constant(name: str, found: Attribute, constant: object, path: Path) -> None:
    """Refuse a value that the attribute never has."""
    if found.values and (constant not in found.values or type(constant) is not type(found.values[0])):
        way_out = found.instead or "compare with one of them"
        allowed = words(map(str, found.values))
        raise Problem(f"{name} is never this value, always one of {allowed}; {way_out}", path)
    if type(constant) not in found.types:
        kind = "null" if constant is None else f"of type {type(constant).__name__}"
        raise Problem(f"{name} is never {kind}; {_way_out(found)}", path)
    if found.types == TEXT and not constant:
        raise Problem(f"{name} is never an empty text; {_way_out(found)}", path)


def _way_out(found: Attribute) -> str:
    if found.instead:
        return found.instead
    absent = "" if found.always else ", or ask exists: false for a missing one"
    return f"compare with a value that it can have{absent}"


def _range_of(found: Attribute) -> str:
    if found.values:
        return f"always one of {words(map(str, found.values))}"
    if found.span is not None:
        least, greatest = found.span
        return f"always a whole number from {least}" + ("" if greatest is None else f" to {greatest}")
    return "there in every call"


def _answers(found: Attribute, spec: Spec, described: JSON) -> set[Verdict]:
    """Return the possible answers; true and false if the values cannot be listed."""
    values = list(found.values) if found.span is None else _numbers_near(described, *found.span)
    if not values:
        return _possible(spec, always=found.always)
    return set(map(spec.compile(), values))


def _possible(spec: Spec, *, always: bool) -> set[Verdict]:
    if isinstance(spec, Presence):
        return {spec.expected} if always else {True, False}
    if isinstance(spec, Combination):
        settling = spec.word == "any"
        parts = [_possible(part, always=always) for part in spec.parts]
        return {settling} if {settling} in parts else set[Verdict]().union(*parts)
    return {True} if always and isinstance(spec.constraint, Wildcard) else {True, False}


def _numbers_near(described: JSON, least: int, greatest: int | None) -> list[object]:
    """Return whole numbers around each point where the answer can change."""
    near = {least, *(math.floor(number) + step for number in _numbers(described) for step in (-1, 0, 1))}
    return [number for number in near if least <= number and (greatest is None or number <= greatest)]


def _leaves(spec: Spec) -> Iterator[Leaf]:
    if isinstance(spec, Leaf):
        yield spec
    elif isinstance(spec, Combination):
        for part in spec.parts:
            yield from _leaves(part)


def _elements(leaf: Leaf) -> Iterable[object]:
    """Return the elements of lists that a constraint names."""
    claim = leaf.constraint.to_claim()
    member = ELEMENTS.get(leaf.constraint.kind)
    if member is not None:
        return inside(claim[member])
    return [item for constant in leaf.constants() if is_array(constant) for item in constant]


def _texts(value: JSON) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield name
            yield from _texts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)


def _numbers(value: JSON) -> Iterator[float]:
    if isinstance(value, Mapping):
        for item in value.values():
            yield from _numbers(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _numbers(item)
    elif isinstance(value, int | float) and type(value) is not bool:
        yield value


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
