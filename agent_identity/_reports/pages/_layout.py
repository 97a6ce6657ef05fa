"""Parts of pages: sections, tables with bounded rows, figures, badges, lists."""

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final, TypeVar, final

from agent_identity._reports.answers.incident_story import Notable, Weight
from agent_identity._reports.answers.report_frame import Frame
from agent_identity._reports.pages._markup import Content, Markup, element, joined, names, text
from agent_identity._reports.pages.words import clock, span_of

_FORMULA: Final = re.compile(r"((?:<[^>]*>)*)([=+@-].*)", re.DOTALL)
_ID: Final = 64
_PLAIN_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_NAMED: Final = 12
_FEW: Final = 4
_RECORDS: Final = 5
_FIRST: Final = 15
_SLACK: Final = 5
_MOST: Final = 1_000
_PROOFS: Final = {"proved": "good", "recorded": "warn", "hint": "note"}

_Item = TypeVar("_Item")


@final
@dataclass(frozen=True, slots=True)
class Section:
    """A part of a page with its own heading.

    Attributes:
        id: Its id in the page.
        title: Its heading.
        content: Its content.
    """

    id: str
    title: str
    content: Markup


@final
@dataclass(frozen=True, slots=True)
class Body:
    """The content of a page.

    Attributes:
        name: The name of its file, without the ending.
        title: The heading.
        headline: The answer in one sentence.
        frame: What it rests on.
        figures: Numbers, each with its label.
        sections: Its sections.
        notable: What stands out in it, for the index.
        counted: The records of the sources were counted.
    """

    name: str
    title: str
    headline: str
    frame: Frame
    figures: Sequence[tuple[str, Content]]
    sections: Sequence[Section]
    notable: Sequence[Notable] = ()
    counted: bool = True


def badge(words: str, tone: str) -> Markup:
    """Return words with the color of a tone: ``good``, ``warn``, ``bad`` or ``note``."""
    return element("span", words, class_=f"badge {tone}")


def proof_badge(proof: str) -> Markup:
    """Return the weight of a statement."""
    return badge(proof, _PROOFS.get(proof, "note"))


def code(value: str) -> Markup:
    """Return a command or a path."""
    return element("code", text(value, 4_096))


def row_id(record: str) -> str:
    """Return the id that the row of a record has in a page."""
    plain = _PLAIN_ID.fullmatch(record)
    return f"r-{record}" if plain else f"r-{hashlib.sha256(record.encode('utf-8', 'replace')).hexdigest()[:22]}"


def record_code(value: str) -> Markup:
    """Return the id of a record, on one line, as a link to its row; the document takes the link away without a row."""
    return element("a", element("code", text(value, _ID), class_="t"), class_="r", href=f"#{row_id(value)}")


def record_row(value: str) -> Markup:
    """Return the id of a record where it has no row of its own, as what links to it lead to."""
    return element("code", text(value, _ID), class_="t", id=row_id(value))


def seen_cell(first_ns: int, last_ns: int) -> Markup:
    """Return when something was seen first and last, each on one line."""
    first, _, last = span_of(first_ns, last_ns).partition(" to ")
    if not first:
        return text("never")
    return time_cell(first) + (Markup("<br>") + time_cell(f"to {last}") if last else Markup())


def stacked(value: Content, below: str) -> Markup:
    """Return a name, and another text below it."""
    return joined([value, element("span", below, class_="sub")])


def time_cell(words: str) -> Markup:
    """Return a time that stays on one line."""
    return element("span", words, class_="t")


def figures(items: Sequence[tuple[str, Content]]) -> Markup:
    """Return numbers, each with its label."""
    parts = [element("div", element("dt", label), element("dd", value)) for label, value in items]
    return element("dl", *parts, class_="figures") if parts else Markup()


def definitions(items: Iterable[tuple[str, Content]]) -> Markup:
    """Return terms, each with what it says."""
    return element("dl", *(element("dt", term) + element("dd", value) for term, value in items), class_="about")


def states_found(found: Iterable[tuple[str, Weight, list[str]]], nothing: str) -> Markup:
    """Return the noteworthy states, each with its number and the first names.

    Args:
        found: Words, tone and names, as :func:`by_state` yields them.
        nothing: What is said if there is nothing.
    """
    lines = [
        element("li", badge(f"{words} ({len(named):,})", tone), Markup(" "), names(named, _NAMED))
        for words, tone, named in found
    ]
    return element("ul", *lines, class_="findings") if lines else element("p", nothing)


def states_notable(found: Iterable[tuple[str, Weight, list[str]]]) -> Iterator[Notable]:
    """Yield the noteworthy states that stand out, for the index."""
    for words, tone, named in found:
        if tone != "note":
            more = f" and {len(named) - _FEW:,} more" if len(named) > _FEW else ""
            yield Notable(tone, words, f"{', '.join(named[:_FEW])}{more}")


def notables(items: Iterable[Notable]) -> Markup:
    """Return what stands out, each with its time and records."""
    return element("ul", *(element("li", *_notable(one)) for one in items), class_="findings")


def _notable(one: Notable) -> Iterator[Content]:
    yield badge(one.label, one.weight)
    yield Markup(" ")
    if one.at_ns:
        yield element("span", clock(one.at_ns), class_="t m")
        yield Markup(" ")
    yield one.words
    for record in one.records[:_RECORDS]:
        yield Markup(" ") + record_code(record)
    if len(one.records) > _RECORDS:
        yield f" and {len(one.records) - _RECORDS:,} more records"


def scrolled(content: Markup, label: str, *, css: str = "scroll") -> Markup:
    """Return content that may be wider than the window, in a part that scrolls by itself and can get the focus."""
    return element("div", content, class_=css, tabindex=0, role="region", aria_label=label)


def figure(picture: Markup, caption: str) -> Markup:
    """Return a picture with its caption."""
    if not picture:
        return Markup()
    return element(
        "figure", scrolled(picture, f"picture: {caption}", css="scroll picture"), element("figcaption", caption)
    )


def table(
    caption: str,
    columns: Sequence[str],
    items: Sequence[_Item],
    row: Callable[[_Item], Sequence[Content]],
    *,
    first: int = _FIRST,
    most: int = _MOST,
    nothing: str = "none",
    mark: Callable[[_Item], tuple[str | None, str | None]] = lambda _: (None, None),
) -> Markup:
    """Return a table with bounded rows: the first ones open, more of them folded, and the rest counted.

    Args:
        caption: What it lists.
        columns: The names of the columns.
        items: What is listed.
        row: Returns the cells of an item.
        first: Rows that are not folded; a few more are not either where folding would hide next to nothing.
        most: Rows on the page.
        nothing: What is said if there are no items.
        mark: Returns the id and the class of the row of an item.
    """
    if not items:
        return element("p", f"{caption}: {nothing}")
    shown = min(len(items), most)
    head = _head(columns, row(items[0]))

    def made(item: _Item) -> Markup:
        return _row(columns, row(item), *mark(item))

    if shown <= first + _SLACK:
        first = shown
    parts = [_grid(f"{caption} ({len(items):,})", head, map(made, islice(items, first)))]
    if shown > first:
        rest = _grid(f"{caption}, from {first + 1:,} to {shown:,}", head, map(made, islice(items, first, shown)))
        unprinted = element("span", ", which are not printed: open them first, or use --json", class_="paper")
        summary = element("summary", f"{shown - first:,} more rows", unprinted)
        parts.append(element("details", summary, rest))
    if len(items) > shown:
        left = f"{len(items) - shown:,} more rows are not on this page; --json and --csv have all"
        parts.append(element("p", left, class_="more"))
    return element("div", *parts, data_filter="")


def _head(columns: Sequence[str], cells: Sequence[Content]) -> Markup:
    """Return the names of the columns; those over numbers stand to the right, as the numbers do."""
    named = zip(columns, cells, strict=True)
    return element(
        "thead", element("tr", *(element("th", name, scope="col", class_=_css(cell)) for name, cell in named))
    )


def _grid(caption: str, head: Markup, rows: Iterable[Markup]) -> Markup:
    return scrolled(element("table", element("caption", caption), head, element("tbody", *rows)), caption)


def _row(columns: Sequence[str], cells: Sequence[Content], id_: str | None, css: str | None) -> Markup:
    first = element("th", _cell(cells[0]), scope="row")
    others = zip(columns[1:], cells[1:], strict=True)
    return element("tr", first, *(_data(name, cell) for name, cell in others), id=id_, class_=css)


def _data(column: str, cell: Content) -> Markup:
    return element("td", _cell(cell), class_=_css(cell), data_of=column)


def _css(cell: Content) -> str | None:
    return "n" if isinstance(cell, int) else None


def _cell(cell: Content) -> Markup:
    """Return a cell; what a spreadsheet that it is pasted into would take for a formula begins with an apostrophe."""
    content = joined([cell])
    formula = _FORMULA.match(content)
    return content if formula is None else Markup(f"{formula[1]}'{formula[2]}")


def listed(items: Iterable[Content]) -> Markup:
    """Return a list."""
    return element("ul", *(element("li", item) for item in items))


def spaced(parts: Iterable[Content]) -> Markup:
    """Return parts with spaces between them."""
    return joined(parts, " ")
