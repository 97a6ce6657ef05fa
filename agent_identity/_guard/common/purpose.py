"""Purposes of tasks: one normalized line of text, the same for everyone."""

import unicodedata
from typing import Final

MAX_PURPOSE: Final = 1_024
"""Maximum length of a purpose, as in records."""

_INVISIBLE: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_JOINER, _SELECTOR = "\u200d", "\ufe0f"
_ISOLATES, _END_OF_ISOLATE = frozenset("\u2066\u2067\u2068"), "\u2069"


def folded_purpose(purpose: object) -> str:
    """Return a purpose in one line: line breaks and runs of white space become one space.

    A joiner between two emoji and pairs of bidi isolates are text; displays for people must escape them.

    Raises:
        TypeError: The purpose is no ``str``.
        ValueError: The purpose is empty or too long, or has another control, invisible or surrogate character.
    """
    if type(purpose) is not str:
        raise TypeError(f"purpose is {type(purpose).__name__}; give a str")
    text = " ".join(purpose.split())
    if not 1 <= len(text) <= MAX_PURPOSE:
        raise ValueError(f"purpose has {len(text)} characters; use 1 to {MAX_PURPOSE}")
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
            raise ValueError("purpose has a control, invisible or surrogate character; use visible characters")
    if open_isolates:
        raise ValueError("purpose has an unclosed bidi isolate; end it with U+2069")


def _joins(text: str, index: int) -> bool:
    """Return whether a joiner is between two emoji; a variation selector may follow the first."""
    before, after = text[:index].rstrip(_SELECTOR)[-1:], text[index + 1 : index + 2]
    return all(side and unicodedata.category(side)[0] == "S" for side in (before, after))
