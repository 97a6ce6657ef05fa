"""Escapes what cannot be printed, what cannot be seen, and letters that no one tells from Latin ones."""

import re
import unicodedata
from typing import Final

BLANK: Final = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2065\u2800\u3164\ufe00-\ufe0f\uffa0\ufff0-\ufff8"
    "\U00016fe4\U0001d159\U000e0000-\U000e0fff]"
)
"""What looks like nothing beside controls and spaces: default-ignorable code points (DerivedCoreProperties of Unicode),
and letters and symbols without a glyph."""

_FORMULA: Final = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20", "\t", "\r", "\n")  # Wide ones as well.
_LATIN: Final = 0x24F
_WORD: Final = re.compile(r"\w+")
_LETTER: Final = re.compile("[0-9A-Za-z\u00c0-\u024f]")
_ALIKE: Final = frozenset(
    "\u0430\u0435\u043a\u043e\u0440\u0441\u0443\u0445\u0410\u0412\u0415\u041a\u041c\u041d\u041e\u0420\u0421\u0422\u0423"
    "\u0425\u0405\u0406\u0408\u0455\u0456\u0458\u0475\u04ae\u04af\u04bb\u04c0\u04cf\u0501\u051b\u051c\u051d"  # Cyrillic
    "\u0391\u0392\u0395\u0396\u0397\u0399\u039a\u039c\u039d\u039f\u03a1\u03a4\u03a5\u03a7\u03bd\u03bf\u03c1\u03f2\u03f3"
    "\u0131\u01c0\u0251\u0261\u0269\u0578\u057d\u0581\u0585"  # Latin beyond the alphabet, Armenian
    "\u2010\u2011\u2044\u2215\u2216\u29f5\u29f8\u29f9\u3002\ua789\u02d0\u0589"  # - / \ . :
)
"""Letters and signs that pass for ASCII ones; more do by their decomposition."""

_WHOLE: Final = frozenset({"", "<wide>", "<font>", "<compat>"})
"""How a character may be made of an ASCII one and look like it; smaller, raised or circled ones do not."""


def odd(text: str) -> frozenset[int]:
    """Return the places of characters that a reader does not see, or takes for ASCII ones.

    A letter is taken for another in a word that has Latin letters, or in a text whose every letter passes for one:
    words of other alphabets stay as they are.

    Args:
        text: The text, of one name where it is one.
    """
    if text.isascii() and text.isprintable():
        return frozenset()
    unseen = {place for place, sign in enumerate(text) if not sign.isprintable() or BLANK.match(sign)}
    return frozenset(unseen | _posing(text) | _composing(text))


def _composing(text: str) -> set[int]:
    """Return the places of what makes another spelling of a letter that looks the same (Unicode, NFC)."""
    if unicodedata.is_normalized("NFC", text):
        return set()
    return {place for place, sign in enumerate(text) if _composes(sign)}


def _composes(sign: str) -> bool:
    jamo = "\u1161" <= sign <= "\u11c2"
    return jamo or unicodedata.combining(sign) > 0 or not unicodedata.is_normalized("NFC", sign)


def _posing(text: str) -> set[int]:
    poses = {place for place, sign in enumerate(text) if _passes(sign)}
    if not poses or not any(sign.isalpha() and ord(sign) > _LATIN and not _passes(sign) for sign in text):
        return poses
    inside = {place for word in _WORD.finditer(text) if _LETTER.search(word.group()) for place in range(*word.span())}
    between = {place for place in poses if _LETTER.match(text, place - 1) and _LETTER.match(text, place + 1)}
    return poses & (inside | between)


def _passes(sign: str) -> bool:
    """Return whether a character beyond Latin passes for an ASCII one."""
    if sign in _ALIKE:
        return True
    *tag, code = unicodedata.decomposition(sign).rsplit(" ", 1) if ord(sign) > _LATIN else ("",)
    return len(code) == 4 and "!" <= chr(int(code, 16)) <= "~" and "".join(tag) in _WHOLE


def escaped(text: str) -> str:
    """Return text in which every character that is not seen as what it is is written as its escape sequence."""
    places = odd(text)
    if not places:
        return text
    return "".join(_escape(sign) if place in places else sign for place, sign in enumerate(text))


def _escape(sign: str) -> str:
    return sign.encode("unicode_escape", "backslashreplace").decode()


def inert(text: str) -> str:
    """Return text that neither steers a terminal nor begins a formula.

    Text that a spreadsheet would take for a formula gets an apostrophe before it; all other visible text stays as it
    is, so that names can be searched for.
    """
    text = f"'{text}" if text.startswith(_FORMULA) else text
    return "".join(_escape(sign) if not sign.isprintable() or BLANK.match(sign) else sign for sign in text)
