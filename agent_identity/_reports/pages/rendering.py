"""Renders results as pages: each in a document with verdict, sources and what is not shown; and an index."""

import base64
import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pkgutil import get_data
from typing import Final, TypeAlias, final

from agent_identity._reports.answers.coverage_report import CoverageReport
from agent_identity._reports.answers.data_report import DataReport
from agent_identity._reports.answers.incident_report import IncidentReport
from agent_identity._reports.answers.incident_story import Notable
from agent_identity._reports.answers.inventory_report import Inventory
from agent_identity._reports.answers.report_frame import Frame, SourceFrame
from agent_identity._reports.answers.scope_report import ScopeReport
from agent_identity._reports.controls.controls_report import ControlsReport
from agent_identity._reports.pages._controls_page import controls_body
from agent_identity._reports.pages._coverage_page import coverage_body
from agent_identity._reports.pages._data_page import data_body
from agent_identity._reports.pages._incident_page import incident_body
from agent_identity._reports.pages._layout import (
    Body,
    Section,
    badge,
    code,
    definitions,
    figures,
    listed,
    notables,
    spaced,
    table,
)
from agent_identity._reports.pages._markup import Content, Markup, element, joined, names, text
from agent_identity._reports.pages._scope_page import inventory_body, scope_body
from agent_identity._reports.pages.tasks_page import Told, tasks_body
from agent_identity._reports.pages.words import VERDICTS, moment, span_of
from agent_identity._verify.report.plurals import counted
from agent_identity._verify.report.report import Report

_STYLE: Final = "\n" + (get_data(__name__, "page.css") or b"").decode()
_SCRIPT: Final = "\n" + (get_data(__name__, "page.js") or b"").decode()
"""Filters tables, and opens the folded part that a link leads into; a page has all its content without it."""


def _hash(content: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"


_POLICY: Final = (
    f"default-src 'none'; style-src {_hash(_STYLE)}; script-src {_hash(_SCRIPT)}; base-uri 'none'; form-action 'none'"
)
"""The policy: nothing is loaded, and no other style or script counts."""


Rows: TypeAlias = tuple[str, frozenset[str]]
"""The file of a page, and the ids of the rows of records in it."""

_ROW: Final = re.compile(r' id="(r-[\w-]+)"')
_LINK: Final = re.compile(r'<a class="r" href="#(r-[\w-]+)">(.*?)</a>', re.DOTALL)
_LOUD: Final = frozenset({"unverified", "contradicted", "cannot_tell"})
_FEW: Final = 3
_KEYS: Final = 8
_TRUST: Final = {
    "given": "given by the person who made this page",
    "self-asserted": "self-asserted: the keys came from beside the evidence, so they prove nothing by themselves",
    "none": "none",
}
_HOLDING: Final = frozenset({"verified", "incomplete"})
_OWN_KEYS: Final = "The keys came from beside the evidence: it proves nothing to those who do not trust that place."
_SOURCES: Final = (
    "Source",
    "Form",
    "Verdict",
    "Integrity",
    "Completeness",
    "Records",
    "Spans of others",
    "From and to",
    "Keys",
    "Problems",
)


INDEX: Final = "index.html"
"""The file of the index."""

Answer: TypeAlias = Inventory | ScopeReport | DataReport | IncidentReport | CoverageReport | ControlsReport
"""A result that has a page."""


@final
@dataclass(frozen=True, slots=True)
class Page:
    """A page.

    Attributes:
        file: The name of its file.
        title: Its heading.
        headline: The answer in one sentence.
        frame: What it rests on.
        html: Its content.
        notable: What stands out in it.
    """

    file: str
    title: str
    headline: str
    frame: Frame
    html: bytes
    notable: tuple[Notable, ...] = ()

    @property
    def sha256(self) -> str:
        """The SHA-256 of its content, in hexadecimal."""
        return hashlib.sha256(self.html).hexdigest()


def render(
    answer: Answer, *, made_ns: int | None = None, home: str | None = None, timeline: Page | None = None
) -> Page:
    """Return the page of a result.

    Args:
        answer: The result.
        made_ns: The time at which the page is made, in nanoseconds since the Unix epoch; stated if it is given.
        home: The file of the index that it belongs to.
        timeline: A page beside it that has rows of records, to which ids of records without a row link.
    """
    rows = None if timeline is None else (timeline.file, rows_of(timeline.html))
    return _page(_body(answer), made_ns, home, rows)


def render_tasks(
    tasks: Iterable[Told],
    *,
    command: str | None = None,
    period: tuple[int | None, int | None] = (None, None),
    made_ns: int | None = None,
) -> Page:
    """Return the page of tasks, which verifies nothing and says so.

    Args:
        tasks: The tasks, each with its source.
        command: The command that asked.
        period: The first moment that was asked for, and the first one after it.
        made_ns: As for :func:`render`.
    """
    return _page(tasks_body(tasks, command=command, period=period), made_ns, None)


def render_index(pages: Sequence[Page], *, command: str | None = None, made_ns: int | None = None) -> Page:
    """Return the index over pages, with the digest of each.

    Args:
        pages: The pages, at least one; all of the same evidence.
        command: The command that made them.
        made_ns: As for :func:`render`.
    """
    worst = min((page.frame for page in pages), key=lambda frame: _RANK.index(frame.verdict))
    notes = dict.fromkeys(note for page in pages for note in page.frame.not_shown)
    frame = Frame("all", worst.sources, worst.from_ns, worst.until_ns, tuple(notes), command, worst.version)
    rows = next((page for page in pages if page.file == "incident.html"), None)
    listed = table("Reports", ("Report", "Answer", "Verdict"), pages, _link)
    digests = table("SHA-256 of each file", ("File", "SHA-256"), pages, _digest)
    note = "SHA256SUMS in this folder lists these and this index; check them with: sha256sum -c SHA256SUMS"
    body = Body(
        name=INDEX.removesuffix(".html"),
        title="Reports about the work of agents",
        headline=_headline(pages),
        frame=frame,
        figures=(),
        sections=[
            Section("exceptions", "What stands out", joined(_standing_out(pages))),
            Section("reports", "Reports", listed),
            Section("digests", "Digests", joined([digests, element("p", note)])),
        ],
    )
    return _page(body, made_ns, None, None if rows is None else (rows.file, rows_of(rows.html)))


def _headline(pages: Sequence[Page]) -> str:
    bad = sum(one.weight == "bad" for page in pages for one in page.notable)
    told = next((page.headline for page in pages if page.file == "incident.html"), f"{len(pages)} reports.")
    return f"{told} {counted(bad, 'exception')} in {len(pages)} reports over the same sources."


def _standing_out(pages: Sequence[Page]) -> Iterator[Markup]:
    """Yield what stands out, by report, each with the link to it."""
    for page in sorted(pages, key=lambda page: page.file != "incident.html"):
        found = sorted(page.notable, key=lambda one: _WEIGHTS.index(one.weight))
        if not found:
            continue
        yield element("h3", element("a", page.title, href=page.file))
        yield notables(found[:_NOTABLE])
        if len(found) > _NOTABLE:
            left = f"{len(found) - _NOTABLE:,} more in the report"
            yield element("p", element("a", left, href=page.file), class_="more")
    if not any(page.notable for page in pages):
        yield element("p", "Nothing: no call was refused, each has an outcome, and nothing was revoked or changed.")


_WEIGHTS: Final = ("bad", "warn", "note")
_NOTABLE: Final = 12
_NOTE: Final = 2_048
_RANK: Final = ("contradicted", "cannot_tell", "unverified", "incomplete", "verified")


def _link(page: Page) -> Sequence[Content]:
    words, tone, _ = verdict_of(page.frame)
    return (element("a", page.title, href=page.file), text(page.headline, _NOTE), badge(words, tone))


def _digest(page: Page) -> Sequence[Content]:
    return (page.file, element("span", code(page.sha256), class_="t"))


def _body(answer: Answer) -> Body:
    if isinstance(answer, Inventory):
        return inventory_body(answer)
    if isinstance(answer, ScopeReport):
        return scope_body(answer)
    if isinstance(answer, DataReport):
        return data_body(answer)
    if isinstance(answer, ControlsReport):
        return controls_body(answer)
    if isinstance(answer, IncidentReport):
        return incident_body(answer)
    return coverage_body(answer)


def _page(body: Body, made_ns: int | None, home: str | None, rows: Rows | None = None) -> Page:
    content = document(body, made_ns=made_ns, home=home, rows=rows)
    return Page(f"{body.name}.html", body.title, body.headline, body.frame, content, tuple(body.notable))


def document(body: Body, *, made_ns: int | None = None, home: str | None = None, rows: Rows | None = None) -> bytes:
    """Return a page as one file of HTML.

    The same content and time make the same bytes.

    Args:
        body: Its content.
        made_ns: The time at which it was made, in nanoseconds since the Unix epoch; it is stated if it is given.
        home: The file of the index that it belongs to.
        rows: The file of another page, and the ids of the rows of records in it.
    """
    words, tone, sentence = verdict_of(body.frame)
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="referrer", content="no-referrer"),
        element("title", f"{words}: {body.title}"),
        element("style", Markup(_STYLE)),
    )
    loud = " loud" if body.frame.verdict in _LOUD else ""
    banner = element(
        "div",
        element("p", element("strong", words), Markup(" "), sentence),
        class_=f"verdict {tone}{loud}",
        role="region",
        aria_label="verdict",
    )
    parts = [
        element("a", "To the content", href="#content", class_="skip"),
        banner,
        _header(body),
        _navigation(body, home),
        element("main", *_content(body, made_ns), id="content"),
        _footer(body.frame, words),
        element("script", Markup(_SCRIPT)),
    ]
    body_element = element("body", *parts, class_=body.frame.verdict if loud else None)
    page = f"<!DOCTYPE html>\n{element('html', head, body_element, lang='en', dir='ltr')}\n"
    return _linked(page, rows).encode("utf-8", "backslashreplace")


def rows_of(html: bytes) -> frozenset[str]:
    """Return the ids of the rows of records in a page."""
    return frozenset(name.decode() for name in re.findall(rb' id="(r-[\w-]+)"', html))


def _linked(page: str, rows: Rows | None) -> str:
    """Return a page in which each id of a record that has a row is a link to it, and each row has its id once.

    Text from evidence cannot look like these elements: it is escaped.
    """
    seen: set[str] = set()

    def once(match: re.Match[str]) -> str:
        again = match[1] in seen
        seen.add(match[1])
        return "" if again else match[0]

    def link(match: re.Match[str]) -> str:
        if match[1] in seen:
            return match[0]
        if rows is not None and match[1] in rows[1]:
            return match[0].replace('href="#', f'href="{rows[0]}#', 1)
        return match[2]

    return _LINK.sub(link, _ROW.sub(once, page))


def verdict_of(frame: Frame) -> tuple[str, str, str]:
    """Return the words, the tone and a sentence; keys that nobody vouches for take the green away."""
    reports = [source.report for source in frame.sources if source.report is not None and not source.only_hints]
    words, tone, sentence = _judged(frame.verdict, reports)
    if frame.verdict == "verified":
        states = sorted({report.completeness_words for report in reports})
        sentence = f"{sentence} Completeness: {', '.join(states)}."
    own = frame.verdict in _HOLDING and any(report.trust != "given" for report in reports)
    return words, tone, f"{sentence} {_OWN_KEYS}" if own else sentence


def _judged(verdict: str, reports: Sequence[Report]) -> tuple[str, str, str]:
    words, tone, sentence = VERDICTS[verdict]
    if verdict in _HOLDING and any(report.trust != "given" for report in reports):
        return f"{words} under its own keys", "warn", sentence
    return words, tone, sentence


def _header(body: Body) -> Markup:
    heading = element("h1", body.title)
    return element(
        "header", heading, element("p", text(body.headline, _NOTE), class_="headline"), _origin_line(body.frame)
    )


def _origin_line(frame: Frame) -> Markup:
    """Return the provenance of the evidence in one line."""
    times = [time for source in frame.sources for time in (source.first_ns, source.last_ns) if time]
    parts: list[Content] = [_places(frame)]
    parts += [f"; {span_of(min(times), max(times))} UTC"] if times else []
    parts += ["; keys ", joined((text(line, _NOTE) for line in _origins(frame.sources)), ", ")]
    return element("p", *parts, ". ", element("a", "Evidence and keys in full", href="#basis"), class_="origin")


def _navigation(body: Body, home: str | None) -> Markup:
    links = [(part.id, part.title) for part in body.sections]
    links += [("not-shown", "Not shown"), ("basis", "Evidence and keys")]
    items = [element("li", element("a", title, href=f"#{name}")) for name, title in links]
    if home is not None:
        items.insert(0, element("li", element("a", "Index", href=home)))
    return element("nav", element("ul", *items), aria_label="parts of this page")


def _content(body: Body, made_ns: int | None) -> Iterator[Markup]:
    yield figures(body.figures)
    for part in body.sections:
        yield element("section", element("h2", part.title, id=part.id), part.content, aria_labelledby=part.id)
    heading = element("h2", "Not shown", id="not-shown")
    yield element(
        "section", heading, listed(text(note, _NOTE) for note in body.frame.notes), aria_labelledby="not-shown"
    )
    yield element("section", *_basis(body, made_ns), aria_labelledby="basis")


def _basis(body: Body, made_ns: int | None) -> Iterator[Markup]:
    frame = body.frame
    yield element("h2", "Evidence and keys", id="basis")
    yield definitions(_statements(frame, made_ns))
    yield table(
        "Sources",
        _SOURCES,
        frame.sources,
        lambda source: _source(source, counts=body.counted),
        nothing="there are none",
    )


def _statements(frame: Frame, made_ns: int | None) -> Iterator[tuple[str, Content]]:
    words, tone, sentence = verdict_of(frame)
    yield "Verdict", spaced([badge(words, tone), sentence])
    yield "Sources", _places(frame)
    yield "Keys", joined((text(line, _NOTE) for line in _origins(frame.sources)), "<br>")
    start = "the beginning" if frame.from_ns is None else moment(frame.from_ns)
    stop = "the end" if frame.until_ns is None else moment(frame.until_ns)
    yield "Period", f"{start} until {stop}"
    times = [time for source in frame.sources for time in (source.first_ns, source.last_ns) if time]
    yield "Evidence from", span_of(min(times, default=0), max(times, default=0)) or "no time is known"
    yield "Command", "not stated" if frame.command is None else code(frame.command)
    yield "Version", f"agent-identity {frame.version}"
    if made_ns is not None:
        yield "Made", moment(made_ns)


def _places(frame: Frame) -> Markup:
    sources = frame.worst_first if len(frame.sources) > _FEW else frame.sources
    lines = [spaced([code(source.place), _verdict(source)]) for source in sources[:_FEW]]
    if len(sources) > _FEW:
        lines.append(text(f"and {len(sources) - _FEW:,} more, below"))
    return joined(lines, "<br>") if lines else text("none")


def _origins(sources: Sequence[SourceFrame]) -> Sequence[str]:
    """Return where keys came from, each origin once."""
    origins: dict[str, None] = {}
    for source in sources:
        if source.report is not None and not source.only_hints:
            origins[_origin(source)] = None
    if len(origins) > _FEW:
        return [*[*origins][:_FEW], f"and {len(origins) - _FEW:,} more origins, below"]
    return [*origins] or ["none: nothing was verified with keys"]


def _origin(source: SourceFrame) -> str:
    origin = f", from {source.keys_from}" if source.keys_from and source.trust == "given" else ""
    return _TRUST[source.trust] + origin


def _verdict(source: SourceFrame) -> Markup:
    if source.only_hints:
        return badge("nothing to verify: hints", "note")
    words, tone, _ = _judged(source.verdict, [] if source.report is None else [source.report])
    return badge(words, tone)


def _source(source: SourceFrame, *, counts: bool) -> Sequence[Content]:
    report = source.report
    codes = [] if report is None else [found.code for found in report.findings if found.severity != "notice"]
    return (
        code(source.place),
        source.kind,
        _verdict(source),
        "not verified" if report is None else report.integrity.replace("_", " "),
        "not verified" if report is None else report.completeness_words,
        source.records if counts else "not counted",
        source.hints if counts else "not counted",
        span_of(source.first_ns, source.last_ns) or "not known",
        _keys(source),
        names([*dict.fromkeys(codes)], 20) or "none found" if report is not None else "not looked for",
    )


def _keys(source: SourceFrame) -> Content:
    named = [(purpose, key) for purpose, keys in source.keys.items() for key in keys]
    lines: list[Content] = [_origin(source)]
    lines += [spaced([purpose, code(key)]) for purpose, key in named[:_KEYS]]
    if len(named) > _KEYS:
        lines.append(f"and {len(named) - _KEYS:,} more; --json has them")
    return joined((line if isinstance(line, Markup) else text(str(line)) for line in lines), "<br>")


def _footer(frame: Frame, words: str) -> Markup:
    command = [] if frame.command is None else [Markup(" Ask again with "), code(frame.command)]
    return element("footer", f"{words}. Made by agent-identity {frame.version}.", *command)
