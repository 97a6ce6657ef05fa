"""Spelling of the labels with consequences: a label that is nearly one of them is a mistake."""

from collections.abc import Iterable
from typing import Final

from agent_identity._flow.rules import CONSEQUENTIAL

_OTHER_WORDS: Final = {
    "delete": "destructive",
    "deletion": "destructive",
    "destroy": "destructive",
    "destruction": "destructive",
    "external": "egress",
    "outbound": "egress",
    "outgoing": "egress",
    "pay": "payment",
    "paying": "payment",
    "persisted": "persists",
    "persistence": "persists",
    "persistent": "persists",
    "persisting": "persists",
}
"""Words that people write in place of the labels."""

_LONG: Final = 7
"""Least length of a word of these that near spellings are looked for; shorter ones resemble too many words."""


def meant_label(label: str) -> str | None:
    """Return the label with consequences that someone probably meant by another one.

    Returns:
        The label; ``None`` for a label with consequences itself, and for one that is near to none of them.
    """
    if label in CONSEQUENTIAL:
        return None
    word = "".join(filter(str.isalnum, label.casefold()))
    forms = (word, word.removesuffix("s"))
    for form in forms:
        if form in _OTHER_WORDS:
            return _OTHER_WORDS[form]
    long = {word: meant for word, meant in _OTHER_WORDS.items() if len(word) >= _LONG}
    known = {**{label: label for label in sorted(CONSEQUENTIAL)}, **long}
    return next((meant for word, meant in known.items() if any(_is_near(form, word) for form in forms)), None)


def unknown_consequences(labels: Iterable[str] | None) -> tuple[str, ...]:
    """Return the labels of a tool, if they say nothing of its consequences, so that it may have all of them."""
    known = tuple(labels or ())
    return known if CONSEQUENTIAL.isdisjoint(known) else ()


def _is_near(word: str, known: str) -> bool:
    """Return whether at most one letter is missing, extra, wrong, or changed with its neighbor."""
    if abs(len(word) - len(known)) > 1:
        return False
    at = next((at for at, (one, other) in enumerate(zip(word, known, strict=False)) if one != other), None)
    if at is None:
        return True
    left, right = word[at:], known[at:]
    swapped = left[:2] == right[1::-1] and left[2:] == right[2:]
    return swapped or left[1:] == right[1:] or left[1:] == right or left == right[1:]
