"""Text that a reader does not see and a model reads, or that looks like another text."""

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Final, final

from agent_identity._inspection._markup import comments, images
from agent_identity._inspection._texts import ANSI, CONTROLS
from agent_identity._inspection.document import Document
from agent_identity._inspection.inspector import Match, TextInspector

_LATIN: Final = "A-Za-z0-9\u00c0-\u024f"
_CYRILLIC: Final = "\u0400-\u052f"
_ALIKE: Final = (
    f"{_CYRILLIC}\u0530-\u058f\u13a0-\u13ff\uab70-\uabbf"
    "\u0391\u0392\u0395-\u0397\u0399\u039a\u039c\u039d\u039f\u03a1\u03a4\u03a5\u03a7"
    "\u03bd\u03bf\u03c1"  # Greek, as far as it looks alike.
)
_SPACES: Final = "\u200b\u2060-\u2064\ufeff\u115f\u1160\u3164\uffa0\u180e"

_CONTROL: Final = re.compile(f"(?P<ansi>{ANSI})|[{CONTROLS}]+")
_OVERWRITE: Final = re.compile(r"\r(?![\n\r])(?=[^\s])")
_TAGS: Final = re.compile(r"[\U000e0000-\U000e007f]+")
_SELECTORS: Final = re.compile(r"[\ufe00-\ufe0f\U000e0100-\U000e01ef]{2,}")
_JOINERS: Final = re.compile(f"(?<=[{_LATIN}])[\u200c\u200d]+(?=[{_LATIN}])")
_ZERO_WIDTH: Final = re.compile(f"(?<=[{_LATIN}])[{_SPACES}]+(?=[{_LATIN}])|[{_SPACES}\u200c\u200d\u00ad]{{4,}}")
_BIDI: Final = re.compile(r"[\u202a-\u202e\u2066-\u2069\n\r\u2029]")
_MIXED: Final = re.compile(f"[A-Za-z\u00c0-\u024f][{_ALIKE}]|[{_ALIKE}][A-Za-z\u00c0-\u024f]")
_WORD: Final = re.compile(r"\w{1,64}")
_LETTERS: Final = re.compile(r"[A-Za-z]")
_AS_LATIN: Final = re.compile(
    "[A-Za-z\u0430\u0435\u043a\u043e\u0440\u0441\u0443\u0445\u0410\u0412\u0415\u041a\u041c\u041d\u041e\u0420\u0421"
    "\u0422\u0423\u0425\u0405\u0406\u0408\u0455\u0456\u0458\u0475\u04ae\u04af\u04bb\u04c0\u04cf\u0501\u051b\u051d\u051c]{3,}"
)
"""Words of Latin letters and of Cyrillic ones that no one tells from them."""

_MAX_DEPTH: Final = 125
"""So deep may embeddings and isolates be nested (Unicode Standard Annex 9)."""

_FLAG: Final = "\U0001f3f4"
_REGIONS: Final = frozenset(
    "".join(chr(0xE0000 + ord(letter)) for letter in region) + "\U000e007f" for region in ("gbeng", "gbsct", "gbwls")
)
"""The flags that are spelled with tag characters: those of England, Scotland and Wales."""

_Found = Iterator[Match]


def _controls(text: str) -> _Found:
    for found in _CONTROL.finditer(text):
        category = "hidden.control" if found.lastgroup is None else "hidden.ansi"
        yield Match(category, *found.span(), "high", "high")
    for found in _OVERWRITE.finditer(text) if "\r" in text else ():
        yield Match("hidden.overwrite", *found.span(), "medium", "medium")


def _tags(text: str) -> _Found:
    for found in _TAGS.finditer(text):
        if not (text[max(found.start() - 1, 0) : found.start()] == _FLAG and found.group() in _REGIONS):
            yield Match("hidden.tag", *found.span(), "high", "high")


def _invisible(text: str) -> _Found:
    for category, pattern in (
        ("hidden.selector", _SELECTORS),
        ("hidden.joiner", _JOINERS),
        ("hidden.zero_width", _ZERO_WIDTH),
    ):
        for found in pattern.finditer(text):
            yield Match(category, *found.span(), "medium", "high")


def _bidi(text: str) -> _Found:
    """Yield overrides, and embeddings and isolates that are still open where their paragraph ends."""
    opened: list[tuple[int, str]] = []
    for found in _BIDI.finditer(text):
        sign, start = found.group(), found.start()
        if sign in "\n\r\u2029":
            yield from (Match("hidden.bidi", place, place + 1, "high", "medium") for place, _ in opened)
            opened.clear()
        elif sign in "\u202c\u2069":
            if opened and opened[-1][1] == sign:
                opened.pop()
        elif sign in "\u202d\u202e" or len(opened) >= _MAX_DEPTH:
            yield Match("hidden.bidi", start, start + 1, "high", "high")
        else:
            opened.append((start, "\u2069" if sign in "\u2066\u2067\u2068" else "\u202c"))
    yield from (Match("hidden.bidi", place, place + 1, "high", "medium") for place, _ in opened)


def _homoglyphs(text: str) -> _Found:
    """Yield words that mix Latin with letters that look like it."""
    after = 0
    for found in _MIXED.finditer(text):
        start = found.start()
        if start < after:
            continue
        while start > after and found.start() - start < 32 and text[start - 1].isalpha():
            start -= 1
        word = _WORD.match(text, start)
        after = found.end() if word is None else word.end()
        if word is not None and _is_disguised(word.group()):
            yield Match("hidden.homoglyph", *word.span(), "low", "medium")


def _is_disguised(word: str) -> bool:
    """Return whether a mixed word passes for a Latin one; units and formulas are shorter, or look like none."""
    return len(_LETTERS.findall(word)) >= 3 or _AS_LATIN.fullmatch(word) is not None


_UNICODE: Final[tuple[Callable[[str], _Found], ...]] = (_tags, _invisible, _bidi, _homoglyphs)


@final
class HiddenText(TextInspector):
    """Finds text that a reader does not see; categories ``hidden.<kind>``.

    The kinds: ``tag``, ``selector``, ``joiner``, ``zero_width``, ``bidi``, ``control``, ``ansi``, ``overwrite``,
    ``homoglyph``, ``comment``, ``image``. Emoji and the joiners of living scripts are ordinary text.

    Args:
        data: Characters from which on the address of an image counts as carrying data.

    Raises:
        ValueError: The number is less than 1.
    """

    name = "hidden_text"

    def __init__(self, *, data: int = 32) -> None:
        if data < 1:
            raise ValueError(f"data={data}; give at least 1 character")
        self._data: Final = data

    def find(self, document: Document) -> Iterable[Match]:
        """Return what is hidden in a text.

        Args:
            document: The text.
        """
        text = document.text
        if text.is_folded or "\r" in text.raw:
            yield from _controls(text.raw)
        if not text.raw.isascii():
            for look in _UNICODE:
                yield from look(text.raw)
        plain = text.plain
        if "<" not in plain and "]" not in plain:  # One character is found much faster than two.
            return
        for start, end in comments(plain) if "<!--" in plain or "]:" in plain else ():
            yield Match("hidden.comment", *text.span(start, end), "low", "high")
        for start, end, is_data in images(plain, self._data) if "![" in plain or "<" in plain else ():
            yield Match("hidden.image", *text.span(start, end), "high" if is_data else "low", "medium")
