"""Purposes of tasks: one line of text, folded once, so that everybody sees the same."""

import unicodedata
from typing import Final

__all__ = ["MAX_PURPOSE", "folded_purpose"]

MAX_PURPOSE: Final = 1_024
"""Characters of a purpose, as records hold it."""

_INVISIBLE: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_JOINER, _SELECTOR = "\u200d", "\ufe0f"
_ISOLATES, _END_OF_ISOLATE = frozenset("\u2066\u2067\u2068"), "\u2069"


def folded_purpose(purpose: object) -> str:
    """Return a purpose in one line: line breaks and runs of white space become one space.

    A joiner between two emoji and pairs of bidi isolates are text; whoever shows a purpose to people escapes them.

    Raises:
        TypeError: It is no ``str``.
        ValueError: It is empty or too long, or has another control, invisible or surrogate character.
    """
    if type(purpose) is not str:
        raise TypeError(f"expected purpose to be a str, got {type(purpose).__name__}")
    text = " ".join(purpose.split())
    if not 1 <= len(text) <= MAX_PURPOSE:
        raise ValueError(f"expected purpose to have 1 to {MAX_PURPOSE} characters, got {len(text)}")
    if not text.isprintable():
        _check_visible(text)
    return text


def _check_visible(text: str) -> None:
    open_isolates = 0
    for index, character in enumerate(text):
        if unicodedata.category(character) not in _INVISIBLE:
            continue
        if character in _ISOLATES:
            open_isolates += 1
        elif character == _END_OF_ISOLATE and open_isolates:
            open_isolates -= 1
        elif character != _JOINER or not _joins(text, index):
            raise ValueError("expected purpose in visible characters, got a control, invisible or surrogate one")
    if open_isolates:
        raise ValueError("expected each bidi isolate of purpose to be closed; end it with U+2069")


def _joins(text: str, index: int) -> bool:
    """Tell whether a joiner stands between two emoji; a variation selector may follow the first one."""
    before, after = text[:index].rstrip(_SELECTOR)[-1:], text[index + 1 : index + 2]
    return all(side and unicodedata.category(side)[0] == "S" for side in (before, after))
