"""Rows of words: which words follow each other in the inputs of a task, as keyed digests."""

import unicodedata
from array import array
from collections.abc import Callable, Iterable
from typing import Final, Generic, TypeVar, final

__all__ = ["BREAK", "MARKS", "QUOTES", "WordRows", "words_in_row"]

T = TypeVar("T")

QUOTES: Final = "\"'`<>()[]{}\u201c\u201d\u2018\u2019\u201e\u00ab\u00bb"
MARKS: Final = f"{QUOTES}.,;:!?"
BREAK: Final = ""
"""Stands between two words that no space alone separates."""

_MAX_WORDS: Final = 100_000
_BYTES: Final = 8
_BREAKS: Final = str.maketrans(dict.fromkeys(",;|\t\n\r\v\f\x00\x1c\x1d\x1e\x1f\x85\u2028\u2029", " \0 "))


def words_in_row(text: str) -> list[tuple[str, str]]:
    """Return the words of a text in their order, each bare and with the punctuation around it but quotes.

    Two words are in a row if nothing but spaces is between them; otherwise a :data:`BREAK` is.
    """
    found: list[tuple[str, str]] = []
    plain = text if text.isascii() else unicodedata.normalize("NFC", text)
    for word in plain.translate(_BREAKS).split():
        right = word.lstrip(QUOTES)
        bare = "" if word == "\0" else right.rstrip(MARKS)
        if right != word or not bare:
            _break(found)
        if bare:
            found.append((bare, word.strip(QUOTES)))
            if bare != right:
                _break(found)
    return found


def _break(found: list[tuple[str, str]]) -> None:
    if found and found[-1][0] != BREAK:
        found.append((BREAK, BREAK))


@final
class WordRows(Generic[T]):
    """The rows of words of several inputs, in the order of these.

    Args:
        digests: Returns the keyed digests of words.

    Attributes:
        rows: The digests of each row, with the origin of its input.
        room: Words for which there is room.
    """

    __slots__ = ("_digests", "room", "rows")

    def __init__(self, digests: Callable[[Iterable[str]], list[int]]) -> None:
        self._digests = digests
        self.rows: list[tuple[T, bytes]] = []
        self.room = _MAX_WORDS

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.rows)

    def erase(self) -> None:
        """Forget all of them."""
        self.rows.clear()

    def take(self, text: str, origin: T) -> None:
        """Take in the words of a text that has more than one; none of a text for which no room is left."""
        if " " not in text and text.isascii() and text.isalnum():
            return
        words = [bare for bare, _ in words_in_row(text)]
        if len(words) > 1 and self.room >= len(words):
            self.room -= len(words)
            self.rows.append((origin, self._row(words)))
        elif len(words) > 1:
            self.room = 0  # A later text must not come before one that is missing.

    def absorb(self, other: "WordRows[T]", since: int = 0) -> None:
        """Take in the rows of others, from the one of a position on."""
        self.rows += other.rows[since:]
        self.room = min(self.room, other.room)

    def origins(self, words: list[str]) -> list[T]:
        """Return the origins of the inputs that have these words in a row, in their order."""
        row = self._row(words)
        return [origin for origin, text in self.rows if _has(text, row)]

    def _row(self, words: list[str]) -> bytes:
        return array("q", self._digests(words)).tobytes()


def _has(text: bytes, row: bytes) -> bool:
    """Return whether one row of digests holds another one, from a whole digest on."""
    at = text.find(row)
    while at > 0 and at % _BYTES:
        at = text.find(row, at + 1)
    return at >= 0
