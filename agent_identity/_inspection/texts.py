"""Text as a reader sees it: without what is invisible, compatibility forms folded, with offsets into the original."""

import re
import unicodedata
from typing import Final, NamedTuple, final

__all__ = ["ANSI", "CONTROLS", "Text", "tail_of"]

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
_ASCII_ODD: Final = bytes(code for code in range(128) if re.match(f"[{CONTROLS}]", chr(code)))
_HIDDEN: Final = re.compile(f"{ANSI}|[{CONTROLS}{_INVISIBLE}]")
_HIDDEN_SIGNS: Final = re.compile(f"[{CONTROLS}{_INVISIBLE}]")
_ESCAPED: Final = re.compile(r"\\(?:u[0-9a-fA-F]{4}|/)")
_ESCAPE: Final = re.compile(
    r"\\(?:u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})|u(?![dD][89a-fA-F])([0-9a-fA-F]{4})|([\"\\/bfnrt]))"
)
_SHORT_ESCAPES: Final = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_MAX_LAYERS: Final = 3
"""JSON in a string of JSON in a string of JSON."""


class _Decoded(NamedTuple):
    """A text without the escapes of JSON, and where each of its characters begins and ends in the raw text."""

    text: str
    starts: list[int]
    ends: list[int]


def _decoded(raw: str) -> _Decoded | None:
    """Return a text without the escapes of JSON; ``None`` for one that has none that hide anything."""
    if _ESCAPED.search(raw) is None:
        return None
    result = _Decoded(raw, list(range(len(raw))), list(range(1, len(raw) + 1)))
    for _ in range(_MAX_LAYERS):
        if _ESCAPED.search(result.text) is None:
            break
        result = _one_layer(result)
    return result


def _one_layer(coded: _Decoded) -> _Decoded:
    text, parts, starts, ends, after = coded.text, list[str](), list[int](), list[int](), 0
    for found in _ESCAPE.finditer(text):
        start, end = found.span()
        parts += (text[after:start], _letter(found))
        starts += (*coded.starts[after:start], coded.starts[start])
        ends += (*coded.ends[after:start], coded.ends[end - 1])
        after = end
    parts.append(text[after:])
    return _Decoded("".join(parts), starts + coded.starts[after:], ends + coded.ends[after:])


def _letter(found: re.Match[str]) -> str:
    high, low, code, short = found.groups()
    if high is not None:
        return chr(0x10000 + ((int(high, 16) - 0xD800) << 10) + int(low, 16) - 0xDC00)
    return chr(int(code, 16)) if code is not None else _SHORT_ESCAPES.get(short, short)


def tail_of(raw: str, count: int) -> int:
    """Return the offset from which so many characters follow, not counting hidden ones, and an escape as one.

    Args:
        raw: The text.
        count: The number of characters.
    """
    if len(raw) <= count:
        return 0
    decoded = _decoded(raw) if "\\" in raw else None
    text = raw if decoded is None else decoded.text
    end, left = len(text), count
    for hidden in reversed([found.span() for found in _HIDDEN.finditer(text)]):
        if end - hidden[1] >= left:
            break
        left -= end - hidden[1]
        end = hidden[0]
    start = max(end - left, 0)
    return start if decoded is None or not start else decoded.starts[start]


@final
class Text:
    """A text in several forms.

    Attributes:
        raw: The text as it is delivered.
        plain: The text to match in: no invisible characters, controls or escape sequences, letters in NFKC. A terminal
            takes ordinary characters for parts of escape sequences, and a model reads them: a text that has such
            sequences stands here twice, without them and without their control characters alone. A text with escapes
            of JSON that hide something stands here without them as well.
        is_folded: True if the plain form differs from the raw one.
        decoded: The text without escapes of JSON; ``None`` where that is the text itself.
    """

    __slots__ = ("_ends", "_reading", "_starts", "decoded", "is_folded", "plain", "raw")

    def __init__(self, raw: str) -> None:
        """Take a text.

        Args:
            raw: The text.
        """
        self.raw: Final = raw
        self.plain = raw
        self._starts: list[int] | None = None
        self._ends: list[int] | None = None
        self._reading = decoded = _decoded(raw) if "\\" in raw else None
        self.decoded: Final = None if decoded is None else decoded.text
        odd = _is_odd(raw)
        self.is_folded: Final = odd or decoded is not None
        if self.is_folded:
            self._fold(decoded, is_odd=odd)

    def _fold(self, decoded: _Decoded | None, *, is_odd: bool) -> None:
        raw, size = self.raw, len(self.raw)
        self.plain, starts = _folded(raw) if is_odd else (raw, list(range(size)))
        self._starts = starts
        if decoded is None:
            return
        plain, places = _folded(decoded.text)
        self.plain = f"{self.plain}\n{plain}"
        self._ends = [*(start + 1 for start in starts), size, *(decoded.ends[place] for place in places)]
        self._starts = [*starts, size - 1, *(decoded.starts[place] for place in places)]

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Return the offsets in the raw text of a part of the plain text.

        Args:
            start: Where it begins.
            end: Where it ends.
        """
        starts, ends = self._starts, self._ends
        if starts is None or start >= end:
            return start, end
        # What reaches from one reading into the next has its end before its start.
        if ends is None:
            first, last = starts[start], starts[end - 1]
            return min(first, last), max(first, last) + 1
        return min(starts[start], starts[end - 1]), max(ends[start], ends[end - 1])

    def decoded_span(self, start: int, end: int) -> tuple[int, int]:
        """Return the offsets in the raw text of a part of the decoded text.

        Args:
            start: Where it begins.
            end: Where it ends.
        """
        reading = self._reading
        return (start, end) if reading is None or start >= end else (reading.starts[start], reading.ends[end - 1])


def _is_odd(text: str) -> bool:
    """Tell whether a text has anything that its plain form has not."""
    if text.isascii():
        return len(text.encode().translate(None, _ASCII_ODD)) < len(text)  # Faster than any pattern.
    return _HIDDEN.search(text) is not None or not unicodedata.is_normalized("NFKC", text)


def _folded(text: str) -> tuple[str, list[int]]:
    """Return a text without what is hidden, and where each character stood."""
    parts: list[str] = []
    origin: list[int] = []
    if _read(text, _HIDDEN, parts, origin):
        parts.append("\n")
        origin.append(len(text) - 1)
        _read(text, _HIDDEN_SIGNS, parts, origin)
    return "".join(parts), origin


def _read(text: str, hidden: re.Pattern[str], parts: list[str], origin: list[int]) -> bool:
    """Take in a text without what is hidden; return whether that has ordinary characters as well."""
    start, longer = 0, False
    for found in hidden.finditer(text):
        _take(text[start : found.start()], start, parts, origin)
        start = found.end()
        longer = longer or start - found.start() > 1
    _take(text[start:], start, parts, origin)
    return longer


def _take(piece: str, start: int, parts: list[str], origin: list[int]) -> None:
    if piece.isascii() or unicodedata.is_normalized("NFKC", piece):
        parts.append(piece)
        origin.extend(range(start, start + len(piece)))
        return
    for index, letter in enumerate(piece, start):
        # Letter by letter, so that each keeps its place. What is made of several by NFKC is no ASCII.
        folded = unicodedata.normalize("NFKC", letter)
        parts.append(folded)
        origin.extend([index] * len(folded))
