"""The page of the share of calls that a human answers for."""

from collections.abc import Iterator, Sequence

from agent_identity._reports.answers.coverage_report import CoverageReport, Dimension, Group, OtherCalls, Share
from agent_identity._reports.answers.incident_story import Notable
from agent_identity._reports.pages._bar_pictures import MAX_BARS, Bar, stacked_bars
from agent_identity._reports.pages._layout import Body, Section, badge, code, figure, proof_badge, seen_cell, table
from agent_identity._reports.pages._markup import Content, Markup, joined
from agent_identity._reports.pages.words import percent
from agent_identity._verify.report.plurals import counted

_PARTS = ("verified human", "asserted human", "service", "no one")
_HEAD = ("Calls", "Attributed", "To a human", "To a verified human", "Refused")
_OTHERS = ("Tool", "Why", "By", "Service", "For, or traced by", "Calls", "Refused", "Seen", "Example")
_TONES = {"traced without a record": "bad", "outside any task": "bad"}


def coverage_body(found: CoverageReport) -> Body:
    """Return the content of the page."""
    total = found.total
    human, verified = percent(total.human, total.calls), percent(total.verified_human, total.calls)
    headline = (
        f"{human} of {total.calls:,} tool calls are attributable to a human, {verified} to a verified human"
        f" ({found.proof})."
        if total.calls
        else "No tool calls."
    )
    sections = [_by(found, "week"), _by(found, "agent"), _by(found, "service")]
    others = table("Calls for which no verified human answers", _OTHERS, found.others, _other)
    return Body(
        name="coverage",
        title="Who answers",
        headline=headline,
        frame=found.frame,
        figures=[
            ("tool calls", total.calls),
            ("to a human", human),
            ("to a verified human", verified),
            ("to no one", total.calls - total.attributed),
            ("weight", proof_badge(found.proof)),
        ],
        sections=[*sections, Section("others", "No verified human answers for", others)],
        notable=list(_notable(found)),
    )


def _notable(found: CoverageReport) -> Iterator[Notable]:
    for one in found.others:
        if _TONES.get(one.why) == "bad":
            words = f"{one.tool}: {counted(one.calls, 'call')}, {one.refused:,} refused"
            yield Notable("bad", one.why, words, one.first_ns)


def _by(found: CoverageReport, dimension: Dimension) -> Section:
    groups = [group for group in found.groups if group.dimension == dimension]
    drawn = groups[-MAX_BARS:] if dimension == "week" else sorted(groups, key=lambda one: (-one.share.calls, one.name))
    bars = [Bar(group.name or "unknown", _parts(group.share), _words(group.share)) for group in drawn]
    picture = stacked_bars(bars, _PARTS, id_=f"by-{dimension}", title=f"Calls by {dimension}, as in the table")
    left = "" if len(groups) <= MAX_BARS else f"; {MAX_BARS} of {len(groups):,} are drawn"
    content: list[Markup] = [
        figure(picture, f"tool calls by {dimension}, by who answers for them{left}"),
        table(f"By {dimension}", (dimension.capitalize(), *_HEAD), groups, _group),
    ]
    return Section(f"section-{dimension}", f"By {dimension}", joined(content))


def _parts(share: Share) -> Sequence[int]:
    asserted = share.human - share.verified_human
    return (share.verified_human, asserted, share.attributed - share.human, share.calls - share.attributed)


def _words(share: Share) -> str:
    return f"{percent(share.human, share.calls)} of {share.calls:,} to a human"


def _group(group: Group) -> Sequence[Content]:
    share = group.share
    numbers = (share.attributed, share.human, share.verified_human)
    shares = (f"{one:,} ({percent(one, share.calls)})" for one in numbers)
    return (group.name or "unknown", share.calls, *shares, share.refused)


def _other(one: OtherCalls) -> Sequence[Content]:
    why = badge(one.why, _TONES.get(one.why, "warn"))
    parties = (one.agent or "unknown", one.service or "unknown", one.party or "no one")
    seen = seen_cell(one.first_ns, one.last_ns)
    return (one.tool, why, *parties, one.calls, one.refused, seen, code(one.example))
