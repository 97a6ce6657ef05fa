"""The picture of flows: columns of parties, and lines between those that belong together."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from agent_identity._reports.pages._markup import Markup, element, fitted

_ROWS: Final = 15
_WIDTH, _GAP, _ROW, _HEIGHT, _TOP = 232, 64, 36, 26, 28
_CLASSES: Final = ("principal", "box", "tool", "resource")


def flow_picture(paths: Iterable[Sequence[str]], heads: Sequence[str], *, id_: str, title: str) -> Markup:
    """Return the picture, or nothing without paths.

    Args:
        paths: What belongs together, a name for each column.
        heads: The names of the columns, at most four.
        id_: The id of the picture in its page.
        title: Its name for those who do not see it.
    """
    every = list(paths)
    if not every:
        return Markup()
    columns = [_places([path[number] for path in every]) for number in range(len(heads))]
    edges = sorted(
        {
            (number, columns[number][path[number]], columns[number + 1][path[number + 1]])
            for path in every
            for number in range(len(heads) - 1)
        }
    )
    height = _TOP + max(max(column.values()) + 1 for column in columns) * _ROW + 4
    width = len(heads) * (_WIDTH + _GAP) - _GAP + 4
    return element(
        "svg",
        element("title", title, id=f"{id_}-title"),
        *(_edge(*edge) for edge in edges),
        *(box for number, column in enumerate(columns) for box in _column(number, heads[number], column)),
        role="img",
        aria_labelledby=f"{id_}-title",
        width=width,
        height=height,
        viewBox=f"-2 0 {width} {height}",
    )


def _places(names: Iterable[str]) -> Mapping[str, int]:
    """Return the row of each name; those without one of their own share the last."""
    return {name: min(row, _ROWS) for row, name in enumerate(dict.fromkeys(names))}


def _column(number: int, head: str, column: Mapping[str, int]) -> Iterator[Markup]:
    x = number * (_WIDTH + _GAP)
    yield element("text", head, x=x, y=16, class_="b")
    for name, row in column.items():
        if row < _ROWS:
            yield _box(name, x, row, _CLASSES[number])
    folded = len(column) - _ROWS
    if folded > 0:
        yield _box(f"{folded:,} more, in the table", x, _ROWS, "edge")


def _box(name: str, x: int, row: int, css: str) -> Markup:
    y = _TOP + row * _ROW
    shape = element("rect", x=x, y=y, width=_WIDTH, height=_HEIGHT, rx=4, class_=css)
    words = element("text", fitted(name, 29), x=x + 9, y=y + 17)
    return element("g", element("title", name), shape, words)


def _edge(number: int, above: int, below: int) -> Markup:
    x1 = number * (_WIDTH + _GAP) + _WIDTH
    x2 = x1 + _GAP
    y1, y2 = (_TOP + row * _ROW + _HEIGHT // 2 for row in (above, below))
    middle = (x1 + x2) // 2
    return element("path", d=f"M{x1} {y1} C{middle} {y1} {middle} {y2} {x2} {y2}", class_="edge")
