"""Whether what is inside a list or mapping can be told apart from what a constraint names.

``["42"]`` does not contain 42, but readers may take the one for the other. As with single values, an element of
another type than those that a constraint names is undecidable.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import cast

__all__ = ["comparable", "inside"]


def comparable(named: Iterable[object]) -> Callable[[object], bool]:
    """Return a function that tells whether all elements of a list or mapping are of types that a constraint names.

    Args:
        named: The elements that the constraint names; null has no other spelling, so that it compares with everything.
    """
    kinds = {_alike(type(item)) for element in named for item in (element, *inside(element))}
    if kinds <= {type(None)}:
        return _always

    def same(value: object) -> bool:
        return all(_alike(type(item)) in kinds for item in inside(value))

    return same


def _alike(kind: type) -> type:
    """Return the type that stands for all types of values that compare with each other."""
    return {int: float, tuple: list}.get(kind, kind)


def _always(_: object) -> bool:
    return True


def inside(value: object) -> Iterator[object]:
    """Yield everything inside a list or mapping."""
    if isinstance(value, Mapping):
        inner: Iterable[object] = cast("Mapping[str, object]", value).values()
    elif isinstance(value, list | tuple):
        inner = cast("Sequence[object]", value)
    else:
        return
    for item in inner:
        yield item
        yield from inside(item)
