"""Type narrowing for values of frameworks: they say in their types too little of what they hand to a guard.

What a framework hands over is the JSON of messages and calls, so the keys of a mapping are texts.
"""

from collections.abc import Mapping
from typing import TypeGuard

__all__ = ["is_array", "is_dict", "is_list", "is_mapping"]


def is_mapping(value: object) -> TypeGuard[Mapping[str, object]]:
    """Return whether a value is a mapping."""
    return isinstance(value, Mapping)


def is_dict(value: object) -> TypeGuard[dict[str, object]]:
    """Return whether a value is a dict."""
    return isinstance(value, dict)


def is_list(value: object) -> TypeGuard[list[object]]:
    """Return whether a value is a list."""
    return isinstance(value, list)


def is_array(value: object) -> TypeGuard[list[object] | tuple[object, ...]]:
    """Return whether a value is a list or a tuple."""
    return isinstance(value, list | tuple)
