"""Lengths of time for people."""

from typing import Final

_UNITS: Final = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))
_NS: Final = 1_000_000_000


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
