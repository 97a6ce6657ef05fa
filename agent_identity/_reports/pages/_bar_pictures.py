"""Pictures with bars: parts of a whole by row, and could against did."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, final

from agent_identity._reports.pages._markup import Markup, element, fitted

MAX_BARS: Final = 26
"""Bars of a picture."""

_LEFT, _WIDTH, _RIGHT, _ROW, _BAR = 190, 620, 190, 28, 16
_SIDE: Final = 300
_MIDDLE: Final = 200
_FILLS: Final = ("f0", "f1", "f2", "f3")


@final
@dataclass(frozen=True, slots=True)
class Bar:
    """One row of a picture of parts.

    Attributes:
        name: What it is about.
        parts: The numbers, in the order of the legend.
        words: What stands beside it.
    """

    name: str
    parts: Sequence[int]
    words: str


@final
@dataclass(frozen=True, slots=True)
class Reach:
    """One tool: what was allowed and what was done.

    Attributes:
        name: The tool.
        could: Grants.
        did: Calls whose bodies began.
        refused: Refused calls.
    """

    name: str
    could: int
    did: int
    refused: int


def stacked_bars(bars: Sequence[Bar], legend: Sequence[str], *, id_: str, title: str) -> Markup:
    """Return the picture, or nothing without bars.

    Args:
        bars: The rows, at most :data:`MAX_BARS` of which are drawn.
        legend: What the parts are, at most four.
        id_: The id of the picture in its page.
        title: Its name for those who do not see it.
    """
    drawn = bars[:MAX_BARS]
    most = max((sum(bar.parts) for bar in drawn), default=0)
    if not most:
        return Markup()
    parts: list[Markup] = [_hatch(id_)]
    for number, bar in enumerate(drawn):
        parts += _stack(bar, 6 + number * _ROW, most, id_, legend)
    y = 6 + len(drawn) * _ROW + 16
    x = _LEFT
    for number, words in enumerate(legend):
        parts.append(_rect(number, id_, x=x, y=y - 10, width=12, height=12))
        parts.append(element("text", words, x=x + 18, y=y, class_="m"))
        x += 44 + 6 * len(words)
    return _svg(parts, max(x, _LEFT + _WIDTH + _RIGHT), y + 12, id_, title)


def _stack(bar: Bar, y: int, most: int, id_: str, legend: Sequence[str]) -> Iterator[Markup]:
    label = element("text", fitted(bar.name, 26), x=_LEFT - 10, y=y + 13, text_anchor="end")
    yield element("g", element("title", bar.name), label)
    x = _LEFT
    for number, (value, words) in enumerate(zip(bar.parts, legend, strict=True)):
        if value:
            wide = max(2, value * _WIDTH // most)
            shape = _rect(number, id_, x=x, y=y, width=wide)
            yield element("g", element("title", f"{words}: {value:,}"), shape)
            x += wide
    yield element("text", fitted(bar.words, 34), x=x + 8, y=y + 13, class_="m")


def _rect(number: int, id_: str, *, x: int, y: int, width: int, height: int = _BAR) -> Markup:
    fill = f"url(#{id_}-hatch)" if number == 1 else None
    return element("rect", x=x, y=y, width=width, height=height, class_=_FILLS[number], fill=fill)


def _hatch(id_: str) -> Markup:
    line = element("path", d="M0 0 v6", class_="hatch")
    pattern = element(
        "pattern", line, id=f"{id_}-hatch", width=5, height=6, patternUnits="userSpaceOnUse",
        patternTransform="rotate(45)",
    )  # fmt: skip
    return element("defs", pattern)


def could_and_did(tools: Sequence[Reach], *, id_: str, title: str) -> Markup:
    """Return the picture of grants to the left of each tool, and of calls to its right, or nothing without tools.

    Args:
        tools: The tools, at most :data:`MAX_BARS` of which are drawn.
        id_: The id of the picture in its page.
        title: Its name for those who do not see it.
    """
    drawn = tools[:MAX_BARS]
    if not drawn:
        return Markup()
    granted = max(1, *(tool.could for tool in drawn))
    done = max(1, *(tool.did + tool.refused for tool in drawn))
    right = _SIDE + _MIDDLE
    parts = [
        _hatch(id_),
        element("text", "could: grants that allow it", x=_SIDE, y=16, text_anchor="end", class_="b"),
        element("text", "did: calls that ran, and refused ones", x=right, y=16, class_="b"),
    ]
    for number, tool in enumerate(drawn):
        parts += _reach(tool, 28 + number * _ROW, granted, done, id_)
    return _svg(parts, right + _SIDE + 160, 34 + len(drawn) * _ROW, id_, title)


def _reach(tool: Reach, y: int, granted: int, done: int, id_: str) -> Iterator[Markup]:
    right = _SIDE + _MIDDLE
    room = _SIDE - 60
    wide = max(2, tool.could * room // granted) if tool.could else 0
    if wide:
        yield _rect(2, id_, x=_SIDE - wide, y=y, width=wide)
    could = f"{tool.could:,}" if tool.could else "never granted"
    yield element("text", could, x=_SIDE - wide - 6, y=y + 13, text_anchor="end", class_="m")
    name = element("text", fitted(tool.name, 26), x=_SIDE + _MIDDLE // 2, y=y + 13, text_anchor="middle", class_="b")
    yield element("g", element("title", tool.name), name)
    x = right
    for number, value in ((0, tool.did), (3, tool.refused)):
        if value:
            wide = max(2, value * room // done)
            yield _rect(number, id_, x=x, y=y, width=wide)
            x += wide
    did = f"{tool.did:,} ran" if tool.did else "never ran"
    refused = f", {tool.refused:,} refused" if tool.refused else ""
    yield element("text", did + refused, x=x + 6, y=y + 13, class_="m")


def _svg(parts: Sequence[Markup], width: int, height: int, id_: str, title: str) -> Markup:
    return element(
        "svg",
        element("title", title, id=f"{id_}-title"),
        *parts,
        role="img",
        aria_labelledby=f"{id_}-title",
        width=width,
        height=height,
        viewBox=f"0 0 {width} {height}",
    )
