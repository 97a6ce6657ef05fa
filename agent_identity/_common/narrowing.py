"""Type narrowing for values from outside: containers, and members of JSON objects.

``isinstance(value, dict)`` alone leaves keys and elements untyped, so type checkers do not check their use. A value
declared as :data:`~agent_identity.canonical.JSON` does not need these functions: there ``isinstance`` narrows fully.
"""

from collections.abc import Collection, Mapping
from typing import TypeGuard, TypeVar

_Word = TypeVar("_Word", bound=str)


def is_mapping(value: object) -> TypeGuard[Mapping[object, object]]:
    """Return whether a value is a mapping, with keys and values of any type."""
    return isinstance(value, Mapping)


def is_object(value: object) -> TypeGuard[Mapping[str, object]]:
    """Return whether a value is a mapping with exact ``str`` keys, like a JSON object."""
    return is_mapping(value) and all(type(name) is str for name in value)


def is_dict(value: object) -> TypeGuard[dict[object, object]]:
    """Return whether a value is a dict, including subclasses."""
    return isinstance(value, dict)


def is_plain_dict(value: object) -> TypeGuard[dict[object, object]]:
    """Return whether a value is exactly a dict: a subclass may return different items each time."""
    return type(value) is dict


def is_list(value: object) -> TypeGuard[list[object]]:
    """Return whether a value is a list, including subclasses."""
    return isinstance(value, list)


def is_array(value: object) -> TypeGuard[list[object] | tuple[object, ...]]:
    """Return whether a value is a list or a tuple, including subclasses."""
    return isinstance(value, list | tuple)


def is_collection(value: object) -> TypeGuard[Collection[object]]:
    """Return whether a value is a collection: it has a size, and supports repeated iteration."""
    return isinstance(value, Collection)


def is_plain_array(value: object) -> TypeGuard[list[object] | tuple[object, ...]]:
    """Return whether a value is exactly a list or a tuple."""
    return type(value) is list or type(value) is tuple


def text_of(members: Mapping[str, object], name: str) -> str:
    """Return a required text member.

    Raises:
        TypeError: The member is missing or not a ``str``.
    """
    value = members.get(name)
    if type(value) is not str:
        raise TypeError(f"{name} is {type(value).__name__}; give text")
    return value


def optional_text_of(members: Mapping[str, object], name: str) -> str | None:
    """Return an optional text member.

    Raises:
        TypeError: The member exists and is not a ``str``.
    """
    return text_of(members, name) if name in members else None


def int_of(members: Mapping[str, object], name: str) -> int:
    """Return a required integer; a ``bool`` is refused.

    Raises:
        TypeError: The member is missing or not an ``int``.
    """
    value = members.get(name)
    if type(value) is not int:
        raise TypeError(f"{name} is {type(value).__name__}; give a whole number")
    return value


def word_of(members: Mapping[str, object], name: str, words: Collection[_Word]) -> _Word:
    """Return a required member that is one of a set of words.

    Raises:
        TypeError: The member is missing or not a ``str``.
        ValueError: The member is another word.
    """
    return word(members.get(name), name, words)


def word(value: object, name: str, words: Collection[_Word]) -> _Word:
    """Return a value that is one of a set of words.

    Raises:
        TypeError: The value is not a ``str``.
        ValueError: The value is another word.
    """
    if type(value) is not str:
        raise TypeError(f"{name} is {type(value).__name__}; give text")
    for each in words:
        if each == value:
            return each
    raise ValueError(f"{name} is an unknown word; use one of {', '.join(sorted(words))}")
