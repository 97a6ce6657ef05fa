"""Builds HTML and SVG from elements; every text is escaped, and what cannot be seen is shown as a code point."""

import html
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Final, TypeAlias, final

LONGEST: Final = 256
"""Characters of a text from evidence that are shown."""

WIDE: Final = 960
"""The width of a picture, in pixels, down to which a wider one may shrink with the window."""

_MARKS: Final = 2
"""Combining marks after one another that are shown; more of them paint over other lines."""

_COMBINING: Final = frozenset({"Mn", "Me"})
_BLANK: Final = frozenset("\u115f\u1160\u2800\u3164\uffa0")
"""Letters and symbols that look like nothing at all."""

_VOID: Final = frozenset({"meta", "br"})


@final
class Markup(str):
    """Text that is HTML already; what is added to it is escaped unless it is markup."""

    __slots__ = ()

    def __add__(self, other: str) -> "Markup":
        return Markup(f"{self}{_part(other)}")


Content: TypeAlias = "str | int | Markup"
"""A part of an element: markup as it is, anything else as text."""


def text(value: str, most: int = LONGEST) -> Markup:
    """Return text from evidence as HTML in which it can neither be markup nor hide or reorder anything.

    Args:
        value: The text.
        most: Characters that are shown; the number of the others is stated.
    """
    return Markup(html.escape(_visible(value, most)))


def _visible(value: str, most: int) -> str:
    if len(value) > most:
        value = f"{value[:most]}… (+{len(value) - most:,} characters)"
    if value.isascii() and value.isprintable():
        return value
    shown: list[str] = []
    run = 0
    for character in value:
        run = run + 1 if unicodedata.category(character) in _COMBINING else 0
        odd = run > _MARKS or character in _BLANK or not character.isprintable()
        shown.append(f"[U+{ord(character):04X}]" if odd else character)
    return "".join(shown)


def fitted(value: str, columns: int) -> str:
    """Return text that takes at most so many columns, for places that cannot grow; cut text ends with an ellipsis."""
    value = _visible(value, LONGEST)
    taken = 0
    for number, character in enumerate(value):
        taken += 1 + (unicodedata.east_asian_width(character) in {"W", "F"})
        if taken > columns:
            return f"{value[: max(0, number - 1)]}…"
    return value


def element(name: str, /, *content: Content, **attributes: str | int | None) -> Markup:
    """Return an element.

    Args:
        name: Its name.
        content: Its parts, in order.
        attributes: Its attributes; an underscore stands for a hyphen, one at the end for nothing, and ``None`` leaves
            the attribute out.
    """
    head = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{text(str(value), 4 * LONGEST)}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in _VOID:
        return Markup(f"<{name}{head}>")
    return Markup(f"<{name}{head}>{joined(content)}</{name}>")


def joined(parts: Iterable[Content], between: str = "") -> Markup:
    """Return parts as one, each escaped unless it is markup."""
    return Markup(between.join(_part(part) for part in parts))


def names(values: Sequence[str], most: int = 4) -> Markup:
    """Return some names from evidence, and how many more there are."""
    more = f" +{len(values) - most:,}" if len(values) > most else ""
    return Markup(joined(values[:most], ", ") + more)


def _part(part: Content) -> str:
    if isinstance(part, Markup):
        return part
    return f"{part:,}" if isinstance(part, int) else text(part)
