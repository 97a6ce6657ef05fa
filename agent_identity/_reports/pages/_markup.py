"""Builds HTML and SVG from elements; every text is escaped, and what is not seen as what it is is a code point."""

import html
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Final, TypeAlias, final

from agent_identity._common.printing import odd

LONGEST: Final = 256
"""Characters of a text from evidence that are shown."""

WIDE: Final = 960
"""The width of a picture, in pixels, down to which a wider one may shrink with the window."""

_MARKS: Final = 2
"""Combining marks after one another that are shown; more of them paint over other lines."""

_COMBINING: Final = frozenset({"Mn", "Me"})
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
    run, places = 0, odd(value)
    for place, character in enumerate(value):
        run = run + 1 if unicodedata.category(character) in _COMBINING else 0
        shown.append(f"[U+{ord(character):04X}]" if run > _MARKS or place in places else character)
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


def picture(
    parts: Iterable[Markup], *, id_: str, title: str, left: int = 0, width: int, height: int, shrinks: bool = True
) -> Markup:
    """Return a picture in SVG.

    Args:
        parts: Its parts.
        id_: Its id in the page.
        title: Its name for those who do not see it.
        left: Where it begins to the left.
        width: Its width in pixels.
        height: Its height.
        shrinks: A wide one shrinks with the window only so far.
    """
    return element(
        "svg",
        element("title", title, id=f"{id_}-title"),
        *parts,
        role="img",
        class_="wide" if shrinks and width > WIDE else None,
        aria_labelledby=f"{id_}-title",
        width=width,
        height=height,
        viewBox=f"{left} 0 {width} {height}",
    )


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
