"""Spells numbers with their nouns, lists of names, and lengths of time."""

from collections.abc import Sequence
from typing import Final

_UNITS: Final = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))
_NS: Final = 1_000_000_000


def counted(number: int, noun: str) -> str:
    """Return a number with its noun in the right form.

    Args:
        number: The number.
        noun: The noun, in the singular.
    """
    if number != 1:
        plural = f"{noun[:-1]}ies" if noun.endswith("y") and noun[-2] not in "aeiou" else f"{noun}s"
        noun = f"{noun}es" if noun.endswith("s") else plural
    return f"{number:,} {noun}"


def some(names: Sequence[str], most: int = 10) -> str:
    """Return the first names, and whether there are more.

    Args:
        names: The names.
        most: How many are named.
    """
    return ", ".join(names[:most]) + (", …" if len(names) > most else "")


def elapsed(length_ns: int) -> str:
    """Return a length of time in its two largest units, such as ``20 d 5 h``; smaller ones are cut off.

    Args:
        length_ns: Nanoseconds, at least 0.
    """
    rest, parts = length_ns // _NS, list[str]()
    for unit, seconds in _UNITS:
        count, rest = divmod(rest, seconds)
        if parts or count:
            parts.append(f"{count:,} {unit}")
    return " ".join(parts[:2]) or "0 s"
