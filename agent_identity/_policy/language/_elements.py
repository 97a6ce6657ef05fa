"""Comparability of the elements of a list or mapping with the elements that a constraint names.

``["42"]`` does not contain 42, but readers may take one for the other. As with single values, an element of
another type than those that a constraint names is undecidable.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from agent_identity._common.narrowing import is_array, is_mapping
from agent_identity._constraints.value_forms import DecimalText
from agent_identity._constraints.values import Walked, kinds_inside

_STANDING_FOR: Final[Mapping[type, type]] = {int: float, DecimalText: float, tuple: list}


def comparable(named: Iterable[object]) -> Callable[[object], bool]:
    """Return a predicate: all elements of a list or mapping have types that the constraint names.

    Args:
        named: The elements that the constraint names; null has no other spelling, so that it compares with everything.
    """
    kinds = {_alike(kind) for element in named for kind in (type(element), *kinds_inside(element))}
    if kinds <= {type(None)}:
        return _always

    def same(value: object) -> bool:
        return kinds.issuperset(map(_alike, value.kinds() if type(value) is Walked else kinds_inside(value)))

    return same


def _alike(kind: type) -> type:
    """Return the type that stands for all types whose values compare with each other."""
    return _STANDING_FOR.get(kind, kind)


def _always(_: object) -> bool:
    return True


def inside(value: object) -> Iterable[object]:
    """Return the items of a list or mapping; nothing for other values."""
    if is_mapping(value):
        return value.values()
    return value if is_array(value) else ()
