"""Escapes what cannot be printed: control characters, and characters that reorder or hide others."""

from typing import Final

_FORMULA: Final = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20", "\t", "\r", "\n")  # Wide ones as well.


def escaped(text: str) -> str:
    """Return text in which every character that is not printable is written as its escape sequence."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in text)


def inert(text: str) -> str:
    """Return text that neither steers a terminal nor begins a formula.

    Text that a spreadsheet would take for a formula gets an apostrophe before it; all other printable text stays as it
    is, so that names can be searched for.
    """
    return escaped(f"'{text}" if text.startswith(_FORMULA) else text)
