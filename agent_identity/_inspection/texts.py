"""Text as a reader sees it: without what is invisible, compatibility forms folded, with offsets into the original."""

import re
import unicodedata
from typing import Final, final

__all__ = ["ANSI", "CONTROLS", "Text"]

CONTROLS: Final = "\\x00-\\x08\\x0b\\x0e-\\x1f\\x7f-\\x9f"
"""Control characters for a character class, without tabs, line breaks and form feeds, which ordinary text has."""

ANSI: Final = (
    r"(?:\x1b\[|\x9b)[0-?]{0,64}[ -/]{0,8}[@-~]?"  # CSI
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c]{0,2048}(?:\x07|\x1b\\|\x9c)?"  # OSC, DCS, SOS, PM, APC
    r"|\x1b[ -/]{0,8}[0-~]?"
)
"""Escape sequences of terminals (ECMA-48), bounded in length."""

_INVISIBLE: Final = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
_ASCII_ODD: Final = re.compile(f"[{CONTROLS}]")
_HIDDEN: Final = re.compile(f"{ANSI}|[{CONTROLS}{_INVISIBLE}]")
_HIDDEN_SIGNS: Final = re.compile(f"[{CONTROLS}{_INVISIBLE}]")


@final
class Text:
    """A text in two forms.

    Attributes:
        raw: The text as it is delivered.
        plain: The text to match in: no invisible characters, controls or escape sequences, letters in NFKC. A terminal
            takes ordinary characters for parts of escape sequences, and a model reads them: a text that has such
            sequences stands here twice, without them and without their control characters alone.
    """

    __slots__ = ("_origin", "plain", "raw")

    def __init__(self, raw: str) -> None:
        """Take a text.

        Args:
            raw: The text.
        """
        self.raw: Final = raw
        self.plain = raw
        self._origin: list[int] | None = None
        ascii_only = raw.isascii()
        if ascii_only and raw.isprintable():
            return
        odd = _ASCII_ODD if ascii_only else _HIDDEN
        if odd.search(raw) is not None or not (ascii_only or unicodedata.is_normalized("NFKC", raw)):
            self._fold()

    @property
    def is_folded(self) -> bool:
        """True if the plain form differs from the raw one."""
        return self._origin is not None

    def _fold(self) -> None:
        parts: list[str] = []
        origin: list[int] = []
        if self._read(_HIDDEN, parts, origin):
            parts.append("\n")
            origin.append(len(self.raw) - 1)
            self._read(_HIDDEN_SIGNS, parts, origin)
        self.plain = "".join(parts)
        self._origin = origin

    def _read(self, hidden: re.Pattern[str], parts: list[str], origin: list[int]) -> bool:
        """Take in the text without what is hidden; return whether that has ordinary characters as well."""
        start, longer = 0, False
        for found in hidden.finditer(self.raw):
            self._take(start, found.start(), parts, origin)
            start = found.end()
            longer = longer or start - found.start() > 1
        self._take(start, len(self.raw), parts, origin)
        return longer

    def _take(self, start: int, end: int, parts: list[str], origin: list[int]) -> None:
        piece = self.raw[start:end]
        if piece.isascii() or unicodedata.is_normalized("NFKC", piece):
            parts.append(piece)
            origin.extend(range(start, end))
            return
        for index, letter in enumerate(piece, start):
            # Letter by letter, so that each keeps its place. What is made of several by NFKC is no ASCII.
            folded = unicodedata.normalize("NFKC", letter)
            parts.append(folded)
            origin.extend([index] * len(folded))

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Return the offsets in the raw text of a part of the plain text.

        Args:
            start: Where it begins.
            end: Where it ends.
        """
        if self._origin is None or start >= end:
            return start, end
        first, last = self._origin[start], self._origin[end - 1]
        # What reaches from the first reading into the second has its end before its start.
        return min(first, last), max(first, last) + 1
