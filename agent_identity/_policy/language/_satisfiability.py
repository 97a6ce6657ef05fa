"""Rejects conditions that can never be decided, or never be true.

A rule that never matches looks like protection and gives none, so loading refuses it.
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from agent_identity._common.narrowing import is_array
from agent_identity._constraints.literals import Wildcard
from agent_identity._policy.decision.decision import check_spelling
from agent_identity._policy.decision.patterns import has_wildcard
from agent_identity._policy.decision.places import Path, Problem, quoted, words
from agent_identity._policy.language._elements import inside
from agent_identity._policy.language.attributes import ATTRIBUTES, LIST, TEXT, Attribute
from agent_identity._policy.language.checks import Combination, Leaf, Presence, Spec, Verdict
from agent_identity.canonical import JSON
from agent_identity.errors import ConfigurationError

_NAMESPACES: Final = sorted({"args", *(name.partition(".")[0] for name in ATTRIBUTES)})
_NAMES: Final = ("findings.categories", "findings.inspectors")
_NAME: Final = re.compile(r"[A-Za-z0-9_.:/-]{1,128}")
_TEMPLATE: Final = re.compile(rf"\$\{{\s*(?:{'|'.join(_NAMESPACES)})\s*\.")
_LISTED: Final[Mapping[str, str]] = {"contains": "required", "subset": "allowed"}
"""The constraints on the elements of a list, with the member of their claims that names the elements."""


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
    member = _LISTED.get(leaf.constraint.kind)
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
