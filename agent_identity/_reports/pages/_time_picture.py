"""The picture of time: a lane for each party, and on it what happened when, by shape."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, final

from agent_identity._reports.pages._markup import WIDE, Markup, element, fitted
from agent_identity._reports.pages.words import clock, moment

MarkKind: TypeAlias = Literal["ok", "refused", "open", "change"]
"""``ok``: a call that ran. ``refused``: one that was refused. ``open``: one without an outcome, or with an error.
``change``: a revocation."""

_KINDS: Final[Mapping[MarkKind, tuple[str, str]]] = {
    "ok": ("call that ran", "calls that ran"),
    "refused": ("refused call", "refused calls"),
    "open": ("call with an error or without an outcome", "calls with an error or without an outcome"),
    "change": ("revocation", "revocations"),
}
"""What each kind of mark is: one of them, and several."""
_MAX_LANES: Final = 14
_LEFT, _WIDTH, _RIGHT, _LANE, _TOP = 190, 800, 40, 28, 8
_LATER: Final = 22
_RAISED: Final = 7
_DOTS: Final = 8
_TALLEST: Final = 20
_BINS: Final = 100
_TICKS: Final = 4
_DAY: Final = 86_400 * 10**9
_SHORT: Final = 20 * 10**9


@final
@dataclass(frozen=True, slots=True)
class Mark:
    """Something that happened.

    Attributes:
        at_ns: When.
        lane: The party that it happened to.
        kind: What it is.
        count: How many of them.
    """

    at_ns: int
    lane: str
    kind: MarkKind
    count: int = 1


def time_picture(marks: Sequence[Mark], *, id_: str, title: str, axis: tuple[int, int] | None = None) -> Markup:
    """Return the picture, or nothing if nothing happened.

    Args:
        marks: What happened; marks of one kind that lie close together are one, with their number.
        id_: The id of the picture in its page.
        title: Its name for those who do not see it.
        axis: The first and the last time of the axis; what is later stands to the right of it. By default all marks
            lie on the axis.
    """
    if not marks:
        return Markup()
    first, last = axis or (min(mark.at_ns for mark in marks), max(mark.at_ns for mark in marks))
    lanes = _lanes(marks)
    span = max(1, last - first)
    bins = _binned(marks, lanes, first, last)
    rows = min(len({mark.lane for mark in marks}), _MAX_LANES)
    height = _TOP + rows * _LANE + 62
    width = _LEFT + _WIDTH + _RIGHT
    most = max((count for (_, _, kind), count in bins.items() if kind == "ok"), default=0)
    return element(
        "svg",
        element("title", title, id=f"{id_}-title"),
        *_rows(lanes, marks, rows),
        *_axis(first, last, _TOP + rows * _LANE),
        *(_shape(key, count, first, span, most) for key, count in sorted(bins.items())),
        *_legend({mark.kind for mark in marks}, _TOP + rows * _LANE + 46),
        role="img",
        class_="wide" if width > WIDE else None,
        aria_labelledby=f"{id_}-title",
        width=width,
        height=height,
        viewBox=f"0 0 {width} {height}",
    )


def _binned(
    marks: Iterable[Mark], lanes: Mapping[str, int], first: int, last: int
) -> Counter[tuple[int, int, MarkKind]]:
    """Return the marks by lane, place on the axis and kind."""
    bins: Counter[tuple[int, int, MarkKind]] = Counter()
    for mark in marks:
        lane = lanes.get(mark.lane, _MAX_LANES - 1)
        number = _BINS + 1 if mark.at_ns > last else max(0, mark.at_ns - first) * _BINS // max(1, last - first)
        bins[lane, number, mark.kind] += mark.count
    return bins


def _lanes(marks: Iterable[Mark]) -> Mapping[str, int]:
    """Return the lanes by name, busiest first; what has no lane of its own shares the last."""
    counts = Counter[str]()
    for mark in marks:
        counts[mark.lane] += mark.count
    names = sorted(counts, key=lambda name: (-counts[name], name))
    own = names if len(names) <= _MAX_LANES else names[: _MAX_LANES - 1]
    return {name: number for number, name in enumerate(own)}


def _rows(lanes: Mapping[str, int], marks: Sequence[Mark], number: int) -> Iterator[Markup]:
    names = list(lanes)
    others = len({mark.lane for mark in marks}) - len(names)
    if others:
        names.append(f"{others:,} others")
    for lane, name in enumerate(names[:number]):
        y = _TOP + lane * _LANE + _LANE // 2
        label = element("text", fitted(name, 26), x=_LEFT - 14, y=y + 4, text_anchor="end")
        yield element("g", element("title", name), label)
        yield element("line", x1=_LEFT, x2=_LEFT + _WIDTH, y1=y, y2=y, class_="axis")


def _axis(first: int, last: int, y: int) -> Iterator[Markup]:
    yield element("line", x1=_LEFT, x2=_LEFT + _WIDTH, y1=y, y2=y, class_="edge")
    ticks = _TICKS if last > first else 0
    for number in range(ticks + 1):
        at = first + (last - first) * number // max(1, ticks)
        x = _LEFT + _WIDTH * number // max(1, ticks)
        anchor = "middle" if 0 < number < ticks else "start" if not number else "end"
        yield element("line", x1=x, x2=x, y1=y, y2=y + 5, class_="edge")
        yield element("text", _tick(at, last - first), x=x, y=y + 18, text_anchor=anchor, class_="m")


def _tick(at: int, span: int) -> str:
    if span > 3 * _DAY:
        return moment(at)[:10]
    if span > _SHORT:
        return moment(at)[:19]
    return clock(at)


def _shape(key: tuple[int, int, MarkKind], count: int, first: int, span: int, most: int) -> Markup:
    lane, at, kind = key
    x = _LEFT + _WIDTH + _LATER if at > _BINS else _LEFT + at * _WIDTH // _BINS
    y = _TOP + lane * _LANE + _LANE // 2 - (_RAISED if kind == "refused" else 0)
    when = "later than the axis" if at > _BINS else f"about {moment(first + at * span // _BINS)}"
    words = element("title", f"{count:,} {_KINDS[kind][count > 1]}, {when}")
    if kind == "ok" and most > _DOTS:
        tall = max(2, count * _TALLEST // most)
        return element("g", words, element("rect", x=x - 3, y=y + 6 - tall, width=6, height=tall, class_="ok"))
    return element("g", words, _drawn(kind, x, y, min(8, 3 + int(math.log2(count)))))


def _drawn(kind: MarkKind, x: int, y: int, size: int) -> Markup:
    if kind == "ok":
        return element("circle", cx=x, cy=y, r=size - 1, class_="ok")
    paths = {
        "refused": f"M{x - size} {y - size} l{2 * size} {2 * size} m0 {-2 * size} l{-2 * size} {2 * size}",
        "open": f"M{x} {y - size} l{size} {2 * size} h{-2 * size} z",
        "change": f"M{x} {y - size - 1} l{size + 1} {size + 1} l{-size - 1} {size + 1} l{-size - 1} {-size - 1} z",
    }
    return element("path", d=paths[kind], class_=kind)


def _legend(kinds: set[MarkKind], y: int) -> Iterator[Markup]:
    x = _LEFT + 6
    for kind, (_, words) in _KINDS.items():
        if kind in kinds:
            yield _drawn(kind, x, y, 5)
            yield element("text", words, x=x + 13, y=y + 4, class_="m")
            x += 40 + 6 * len(words)
