"""Renders results as pages: one file each, and an index over several."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias, final

from agent_identity._reports.answers.coverage_report import CoverageReport
from agent_identity._reports.answers.data_report import DataReport
from agent_identity._reports.answers.incident_report import IncidentReport
from agent_identity._reports.answers.incident_story import Notable
from agent_identity._reports.answers.inventory_report import Inventory
from agent_identity._reports.answers.report_frame import Frame
from agent_identity._reports.answers.scope_report import ScopeReport
from agent_identity._reports.controls.controls_report import ControlsReport
from agent_identity._reports.pages._controls_page import controls_body
from agent_identity._reports.pages._coverage_page import coverage_body
from agent_identity._reports.pages._data_page import data_body
from agent_identity._reports.pages._document import Rows, document, rows_of, verdict_of
from agent_identity._reports.pages._incident_page import incident_body
from agent_identity._reports.pages._inventory_page import inventory_body
from agent_identity._reports.pages._layout import Body, Section, badge, code, notables, table
from agent_identity._reports.pages._markup import Content, Markup, element, joined, text
from agent_identity._reports.pages._scope_page import scope_body
from agent_identity._reports.pages.tasks_page import Told, tasks_body
from agent_identity._verify.report.plurals import counted

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
    return incident_body(answer) if isinstance(answer, IncidentReport) else coverage_body(answer)


def _page(body: Body, made_ns: int | None, home: str | None, rows: Rows | None = None) -> Page:
    content = document(body, made_ns=made_ns, home=home, rows=rows)
    return Page(f"{body.name}.html", body.title, body.headline, body.frame, content, tuple(body.notable))
