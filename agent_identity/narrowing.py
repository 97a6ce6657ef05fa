"""Type narrowing for values from outside: containers, and members of JSON objects.

``isinstance(value, dict)`` alone leaves keys and elements without a type, so that nothing checks what becomes of them.
What is declared as :data:`~agent_identity.canonical.JSON` needs none of this: there ``isinstance`` says it all.
"""

from collections.abc import Collection, Mapping
from typing import TypeGuard, TypeVar

__all__ = [
    "int_of",
    "is_array",
    "is_collection",
    "is_dict",
    "is_list",
    "is_mapping",
    "is_object",
    "is_plain_array",
    "is_plain_dict",
    "optional_text_of",
    "text_of",
    "word",
    "word_of",
]

_Word = TypeVar("_Word", bound=str)


def is_mapping(value: object) -> TypeGuard[Mapping[object, object]]:
    """Tell whether a value is a mapping, with keys and values of any type."""
    return isinstance(value, Mapping)


def is_object(value: object) -> TypeGuard[Mapping[str, object]]:
    """Tell whether a value is a mapping that has exact strings as keys, as an object of JSON has."""
    return is_mapping(value) and all(type(name) is str for name in value)


def is_dict(value: object) -> TypeGuard[dict[object, object]]:
    """Tell whether a value is a dict, also of a subclass."""
    return isinstance(value, dict)


def is_plain_dict(value: object) -> TypeGuard[dict[object, object]]:
    """Tell whether a value is exactly a dict: a subclass may answer otherwise each time."""
    return type(value) is dict


def is_list(value: object) -> TypeGuard[list[object]]:
    """Tell whether a value is a list, also of a subclass."""
    return isinstance(value, list)


def is_array(value: object) -> TypeGuard[list[object] | tuple[object, ...]]:
    """Tell whether a value is a list or a tuple, also of a subclass."""
    return isinstance(value, list | tuple)


def is_collection(value: object) -> TypeGuard[Collection[object]]:
    """Tell whether a value is a collection: it has a size, and can be walked more than once."""
    return isinstance(value, Collection)


def is_plain_array(value: object) -> TypeGuard[list[object] | tuple[object, ...]]:
    """Tell whether a value is exactly a list or a tuple."""
    return type(value) is list or type(value) is tuple


def text_of(members: Mapping[str, object], name: str) -> str:
    """Return a required text member.

    Raises:
        TypeError: It is no ``str``, or missing.
    """
    value = members.get(name)
    if type(value) is not str:
        raise TypeError(f"expected {name} as text, got {type(value).__name__}")
    return value


def optional_text_of(members: Mapping[str, object], name: str) -> str | None:
    """Return an optional text member.

    Raises:
        TypeError: It is there and no ``str``.
    """
    return text_of(members, name) if name in members else None


def int_of(members: Mapping[str, object], name: str) -> int:
    """Return a required whole number; a ``bool`` is refused.

    Raises:
        TypeError: It is no ``int``, or missing.
    """
    value = members.get(name)
    if type(value) is not int:
        raise TypeError(f"expected {name} as a whole number, got {type(value).__name__}")
    return value


def word_of(members: Mapping[str, object], name: str, words: Collection[_Word]) -> _Word:
    """Return a required member that is one of a set of words.

    Raises:
        TypeError: It is no ``str``, or missing.
        ValueError: It is another word.
    """
    return word(members.get(name), name, words)


def word(value: object, name: str, words: Collection[_Word]) -> _Word:
    """Return a value that is one of a set of words.

    Raises:
        TypeError: It is no ``str``.
        ValueError: It is another word.
    """
    if type(value) is not str:
        raise TypeError(f"expected {name} as text, got {type(value).__name__}")
    for each in words:
        if each == value:
            return each
    raise ValueError(f"expected {name} to be one of {', '.join(sorted(words))}")
