"""The page of controls."""

from collections.abc import Iterator, Sequence

from agent_identity._reports.answers.incident_story import Notable
from agent_identity._reports.controls.control_rows import ControlTable
from agent_identity._reports.controls.controls_report import STATUSES, ControlsReport, RowResult
from agent_identity._reports.pages._layout import Body, Section, badge, code, listed, record_code, spaced, table
from agent_identity._reports.pages._markup import Content, Markup, element, joined, text
from agent_identity._verify.report.plurals import counted

_TONES = {"shown": "good", "partly": "warn", "not shown": "note", "contradicted": "bad", "out of scope": "note"}
_HEAD = ("Clause", "Status", "Asks", "Why", "Records", "Records cannot show")
_ASKED = ("None of", "Clauses", "Which")
_ANSWERED = frozenset({"contradicted", "partly", "shown"})
_LEFT_OUT = (
    ("not shown", "that the evidence does not answer, below"),
    ("out of scope", "that no record can answer, below"),
)
_NOTE = 1_024
_RECORDS = 6


def controls_body(found: ControlsReport) -> Body:
    """Return the content of the page."""
    numbers = {status: sum(one.status == status for one in found.rows) for status in STATUSES}
    named = ", ".join(f"{numbers[status]:,} {status}" for status in STATUSES if numbers[status])
    against = [one for one in found.rows if one.status == "contradicted"]
    return Body(
        name="controls",
        title="Controls",
        headline=f"{len(found.rows):,} clauses: {named or 'none'}. No legal advice, and no score.",
        frame=found.frame,
        figures=[
            *((status, numbers[status]) for status in STATUSES),
            ("tool calls with a record", found.recorded),
            ("tool calls in all", max(found.share.calls, found.recorded)),
        ],
        sections=[
            *(_section(number, one, found) for number, one in enumerate(found.tables, 1)),
            Section("applies", "Does this apply to you?", _questions(found)),
            Section("beyond", "Records cannot answer", _beyond(found)),
        ],
        notable=[Notable("bad", "contradicted", f"{one.row.clause} {one.row.title}: {one.why[0]}") for one in against],
    )


def _section(number: int, asked: ControlTable, found: ControlsReport) -> Section:
    order = {status: place for place, status in enumerate(STATUSES)}
    rows = [one for one in found.rows if one.row in asked.rows]
    answered = sorted((one for one in rows if one.status in _ANSWERED), key=lambda one: order[one.status])
    words = f"{asked.version}. In force: {asked.applies_from}. Rows of {asked.dated}. Read: {asked.read} "
    about = element("p", text(words, _NOTE), code(asked.source))
    grid = table(asked.title, _HEAD, answered, lambda one: _row(one, asked), first=len(answered))
    left = [counted(sum(one.status == status for one in rows), "clause") + f" {words}" for status, words in _LEFT_OUT
            if any(one.status == status for one in rows)]  # fmt: skip
    more = [element("p", f"Besides: {'; '.join(left)}.", class_="more")] if left else []
    return Section(f"framework-{number}", asked.title, joined([about, grid, *more]))


def _questions(found: ControlsReport) -> Markup:
    """Return the clauses that records do not answer, together by what they lack."""
    asked: dict[str, list[RowResult]] = {}
    for one in found.rows:
        if one.status == "not shown":
            asked.setdefault(one.why[0], []).append(one)
    if not asked:
        return element("p", "Records answer each clause that they can answer.")
    words = (
        "The evidence has none of the following. Where you have no such thing, the clauses beside it do not apply to "
        "you; where you do, it left no record. --json and --csv have these clauses one by one."
    )
    order = sorted(asked.items(), key=lambda item: (-len(item[1]), item[0]))
    return joined([element("p", words), table("What the evidence has none of", _ASKED, order, _question)])


def _question(item: tuple[str, Sequence[RowResult]]) -> Sequence[Content]:
    why, rows = item
    lines = [f"{one.row.framework.replace('_', ' ')} {one.row.clause}: {one.row.title}" for one in rows]
    return (text(why, _NOTE), len(rows), joined((text(line, _NOTE) for line in lines), "<br>"))


def _beyond(found: ControlsReport) -> Markup:
    """Return the clauses that no record can answer."""
    parts: list[Content] = [
        element("p", "Processes, documents and decisions of people, of which there are no records.")
    ]
    for asked in found.tables:
        rows = [one.row for one in found.rows if one.row in asked.rows and one.status == "out of scope"]
        if rows:
            parts.append(element("h3", asked.title))
            parts.append(listed(text(f"{row.clause}: {row.title}", _NOTE) for row in rows))
    return joined(parts)


def _row(one: RowResult, asked: ControlTable) -> Sequence[Content]:
    row = one.row
    named = [row.title]
    named += [] if row.version == asked.version else [row.version]
    named += [] if row.applies_from == asked.applies_from else [f"in force: {row.applies_from}"]
    status = [badge(one.status, _TONES[one.status])]
    status += [text(one.coverage, _NOTE)] if one.coverage else []
    return (
        joined([text(row.clause), *(element("span", text(name, _NOTE), class_="sub") for name in named)]),
        spaced(status),
        text(row.asks, _NOTE),
        joined((text(reason, _NOTE) for reason in one.why), "; "),
        joined(_records(one), "<br>"),
        joined((text(note, _NOTE) for note in row.not_shown), "; "),
    )


def _records(one: RowResult) -> Iterator[Markup]:
    ids = list(dict.fromkeys(record for part in one.evidence for record in part.records))
    yield from (record_code(record) for record in ids[:_RECORDS])
    if len(ids) > _RECORDS:
        yield text(f"+{len(ids) - _RECORDS:,}")
