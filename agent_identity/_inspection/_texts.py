"""Text as a reader sees it: without what is invisible, compatibility forms folded, with offsets into the original."""

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Final, NamedTuple, final

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
_ESCAPED: Final = re.compile(r"\\(?:u[0-9a-fA-F]{4}|[/bfnrt])")
"""Escapes that hide something: a letter, or where a word or a line begins."""

_ESCAPE: Final = re.compile(
    r"\\(?:u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|([\"\\/bfnrt]))"
)
_LETTER: Final = re.compile(r"\\(?:u[0-9a-fA-F]{4}|/)")
"""Escapes in place of a letter, without which another text is read."""

_BREAK: Final = "\n"
_SHORT_ESCAPES: Final = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_MAX_LAYERS: Final = 3
"""JSON in a string of JSON in a string of JSON."""


class _Layer(NamedTuple):
    """A text without one layer of escapes: each escape is one of its letters.

    Attributes:
        text: The text.
        places: The offsets of these letters in it.
        starts: Where their escapes begin in the text with escapes.
        ends: Where they end there.
    """

    text: str
    places: list[int]
    starts: list[int]
    ends: list[int]

    def span_of(self, place: int) -> tuple[int, int]:
        """Return where a letter of the text begins and ends in the text with escapes."""
        index = bisect_right(self.places, place) - 1
        if index < 0:
            return place, place + 1
        if self.places[index] == place:
            return self.starts[index], self.ends[index]
        start = self.ends[index] + place - self.places[index] - 1
        return start, start + 1

    def place_of(self, offset: int) -> int:
        """Return the letter of the text that an offset in the text with escapes belongs to."""
        index = bisect_right(self.starts, offset) - 1
        if index < 0:
            return offset
        return self.places[index] + max(offset - self.ends[index] + 1, 0)


class _Decoded(NamedTuple):
    """A text without the escapes of JSON, and how it came about, layer by layer."""

    text: str
    layers: Sequence[_Layer]

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Return the offsets in the raw text of a part of the text that has at least one letter."""
        last = end - 1
        for layer in reversed(self.layers):
            start, last = layer.span_of(start)[0], layer.span_of(last)[1] - 1
        return start, last + 1

    def around(self, offset: int) -> tuple[int, int]:
        """Return where the letter or the escape at an offset of the raw text begins and ends there."""
        for layer in self.layers:
            offset = layer.place_of(offset)
        return self.span(offset, offset + 1)


def _decoded(raw: str) -> _Decoded | None:
    """Return a text without the escapes of JSON; ``None`` for one that has none that hide anything."""
    text, layers = raw, list[_Layer]()
    while len(layers) < _MAX_LAYERS and _ESCAPED.search(text) is not None:
        layers.append(_one_layer(text))
        text = layers[-1].text
    return _Decoded(text, layers) if layers else None


def _one_layer(text: str) -> _Layer:
    parts, places, starts, ends, after, size = list[str](), list[int](), list[int](), list[int](), 0, 0
    for found in _ESCAPE.finditer(text):
        start, end = found.span()
        parts += (text[after:start], _letter(found))
        size += start - after
        places.append(size)
        starts.append(start)
        ends.append(end)
        after, size = end, size + 1
    parts.append(text[after:])
    return _Layer("".join(parts), places, starts, ends)


def _letter(found: re.Match[str]) -> str:
    high, low, code, short = found.groups()
    if high is not None:
        return chr(0x10000 + ((int(high, 16) - 0xD800) << 10) + int(low, 16) - 0xDC00)
    if code is None:
        return _SHORT_ESCAPES.get(short, short)
    letter = chr(int(code, 16))
    return "\ufffd" if "\ud800" <= letter <= "\udfff" else letter  # Half of a letter, which nothing else can take.


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
    return start if decoded is None or not start else decoded.span(start, start + 1)[0]


class _Reading(NamedTuple):
    """A text that inspectors match in.

    Attributes:
        text: The text.
        origin: Where each of its letters stood; ``None`` for the same place.
        is_decoded: The places count in the text without escapes.
    """

    text: str
    origin: Sequence[int] | None
    is_decoded: bool


@final
class Text:
    """A text in several forms.

    Attributes:
        raw: The text as it is delivered.
        plain: The text to match in: no invisible characters, controls or escape sequences, letters in NFKC. A terminal
            takes ordinary characters for parts of escape sequences, and a model reads them: a text that has such
            sequences stands here without them and without their control characters alone. A text with escapes of JSON
            that hide something stands here without them as well. All that stands here once more with line breaks in
            place of what is hidden, which may divide a word, or stand between two.
        shown: The part of ``plain`` for a model, from its beginning: without what differs by line breaks alone.
        is_folded: True if the plain form lacks signs of the raw one, or has others; escapes do not count.
        decoded: The text without escapes of JSON; ``None`` where that is the text itself.
    """

    __slots__ = ("_decoded", "_offsets", "_readings", "decoded", "is_folded", "plain", "raw", "shown")

    def __init__(self, raw: str) -> None:
        """Take a text.

        Args:
            raw: The text.
        """
        self.raw: Final = raw
        self.plain = self.shown = raw
        self._readings: list[_Reading] = []
        self._offsets: list[int] = []
        self._decoded: Final = _decoded(raw) if "\\" in raw else None
        self.decoded: Final = None if self._decoded is None else self._decoded.text
        self.is_folded: Final = _is_odd(raw)
        if self.is_folded or self.decoded is not None:
            self._read()

    def _read(self) -> None:
        shown, more = _readings(self.raw, is_decoded=False)
        if self.decoded is not None:
            whole, divided = _readings(self.decoded, is_decoded=True)
            for_model = _LETTER.search(self.raw) is not None
            shown, more = [*shown, *(whole * for_model)], [*(whole * (not for_model)), *more, *divided]
        self.shown = _BREAK.join(one.text for one in shown)
        self._readings = [*shown, *more]
        self.plain = _BREAK.join(one.text for one in self._readings)
        self._offsets = [*accumulate((len(one.text) + 1 for one in self._readings), initial=0)]

    @property
    def readings(self) -> int:
        """How many times the text stands in its plain form."""
        return len(self._readings) or 1

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Return the offsets in the raw text of a part of the plain text.

        Args:
            start: Where it begins.
            end: Where it ends.
        """
        if start >= end or not self._readings:
            return start, end
        # What reaches from one reading into the next has its end before its start.
        one, other = self._place(start), self._place(end - 1)
        first, last = min(one[0], other[0]), max(one[1], other[1])
        # No match begins within an escape, whose rest would spoil the JSON.
        return (first if self._decoded is None else self._decoded.around(first)[0]), last

    def _place(self, index: int) -> tuple[int, int]:
        """Return where a letter of the plain text begins and ends in the raw one."""
        number = bisect_right(self._offsets, index) - 1
        reading, place = self._readings[number], index - self._offsets[number]
        if place == len(reading.text):
            return len(self.raw) - 1, len(self.raw)
        start = place if reading.origin is None else reading.origin[place]
        return self.decoded_span(start, start + 1) if reading.is_decoded else (start, start + 1)

    def decoded_span(self, start: int, end: int) -> tuple[int, int]:
        """Return the offsets in the raw text of a part of the decoded text.

        Args:
            start: Where it begins.
            end: Where it ends.
        """
        return (start, end) if self._decoded is None or start >= end else self._decoded.span(start, end)

    def after_escape(self, start: int) -> int:
        """Return the offset in the raw text after the escape that begins at one; that offset itself for none.

        Args:
            start: The offset.
        """
        end = start if self._decoded is None else self._decoded.around(start)[1]
        return end if end > start + 1 else start


def _is_odd(text: str) -> bool:
    """Tell whether a text has anything that its plain form has not."""
    if text.isascii():
        return len(text.encode().translate(None, _ASCII_ODD)) < len(text)  # Faster than any pattern.
    return _HIDDEN.search(text) is not None or not unicodedata.is_normalized("NFKC", text)


def _readings(text: str, *, is_decoded: bool) -> tuple[list[_Reading], list[_Reading]]:
    """Return a text without what is hidden, and with line breaks in its place."""
    if not _is_odd(text):
        return [_Reading(text, None, is_decoded)], []
    hidden = [_HIDDEN] if _HIDDEN.search(text) is not None else []
    if any(found.end() - found.start() > 1 for found in _HIDDEN.finditer(text)):
        hidden.append(_HIDDEN_SIGNS)
    whole = [_folded(text, each, "", is_decoded=is_decoded) for each in hidden or (_HIDDEN,)]
    return whole, [_folded(text, each, _BREAK, is_decoded=is_decoded) for each in hidden]


def _folded(text: str, hidden: re.Pattern[str], instead: str, *, is_decoded: bool) -> _Reading:
    parts: list[str] = []
    origin: list[int] = []
    start = 0
    for found in hidden.finditer(text):
        _take(text[start : found.start()], start, parts, origin)
        start = found.end()
        if instead:
            parts.append(instead)
            origin.append(found.start())
    _take(text[start:], start, parts, origin)
    return _Reading("".join(parts), origin, is_decoded)


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
