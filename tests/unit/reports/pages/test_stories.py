"""Pages that tell a story, by facts of the parsed HTML: order, links, groups, pictures at scale, and paper."""

import dataclasses
import re
import shutil
import subprocess
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from agent_identity._reports.answers._incident_calls import PathCalls, Refusal
from agent_identity._reports.answers.incident_report import Bin, IncidentReport
from agent_identity._reports.pages.rendering import render, render_index
from agent_identity.answers import Evidence, Seed, controls, incident, overview
from agent_identity.cli.company.month import write_month

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
SECOND = 10**9


class Parsed(HTMLParser):
    """Reads a page into its text by section, its links and its ids."""

    def __init__(self, html: bytes) -> None:
        super().__init__()
        self.order: list[str] = []
        self.text: dict[str, str] = {"": ""}
        self.links: list[str] = []
        self.ids: Counter[str] = Counter()
        self.classes: dict[str, Counter[str]] = {}
        self._open: list[str] = []
        self._section = ""
        self.feed(html.decode())
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element."""
        given = {name: value or "" for name, value in attrs}
        if tag == "section":
            self._section = given["aria-labelledby"]
            self.order.append(self._section)
        self.ids.update([given["id"]] if "id" in given else [])
        self.links += [given["href"]] if "href" in given else []
        self.classes.setdefault(self._section, Counter()).update(given.get("class", "").split())
        if tag not in {"meta", "br"}:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Note the end of an element."""
        self._open.pop()
        if tag == "section":
            self._section = ""

    def handle_data(self, data: str) -> None:
        """Note a text."""
        if self._open and self._open[-1] not in {"style", "script"}:
            self.text[self._section] = self.text.get(self._section, "") + data + " "


@pytest.fixture(scope="module")
def month(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the evidence of the month of the demo."""
    directory = tmp_path_factory.mktemp("month") / "evidence"
    write_month(directory)
    return directory


def evidence(month: Path) -> Evidence:
    """Return the evidence, with keys."""
    return Evidence(sources=month, trust=month / "trust.json")


@pytest.fixture(scope="module")
def everything(month: Path) -> IncidentReport:
    """Return the incident of everything."""
    return incident(evidence(month), Seed("everything", ""))


def test_an_incident_begins_with_its_sentence(month: Path) -> None:
    """Sentence and provenance in short, exceptions, steps, picture, tables; provenance whole at the end."""
    page = Parsed(render(incident(evidence(month), Seed.parse("agent:researcher"))).html)
    assert page.order[:3] == ["exceptions", "steps", "picture"]
    assert page.order[-2:] == ["not-shown", "basis"]
    assert page.order.index("timeline") > page.order.index("picture")
    head = page.text[""]
    sentence = "researcher tried pay_invoice and send_mail for carol@example.com: refused, suspended 2 s later."
    assert head.index(sentence) < head.index("keys given by the person who made this page")
    assert page.text["steps"].index("pay_invoice") < page.text["steps"].index("suspended")
    assert "3 tools not called" not in head
    assert "tried: 3 tools" in page.text["picture"]


def test_each_record_leads_to_its_row(everything: IncidentReport) -> None:
    """Links to rows have their row, each row has its id once, and every refused record is linked."""
    page = Parsed(render(everything).html)
    assert max(page.ids.values()) == 1
    inner = [link[1:] for link in page.links if link.startswith("#r-")]
    assert inner
    assert set(inner) <= page.ids.keys()
    for one in everything.refusals:
        assert f"r-{one.record}" in inner


def test_equal_rows_are_one(everything: IncidentReport) -> None:
    """111 grants are few rows, and the tasks that repeat an earlier one are not listed again."""
    page = Parsed(render(everything).html)
    assert len(everything.authority) == 111
    (shown,) = re.findall(r"equal grants together \((\d+)\)", page.text["authority"])
    assert int(shown) < 15
    (rows,) = re.findall(r"equal entries together \((\d+)\)", page.text["timeline"])
    assert int(rows) < len(everything.timeline) / 2
    assert "the same" in page.text["timeline"]


def test_constraints_are_words(everything: IncidentReport) -> None:
    """No JSON of a constraint is on the page."""
    page = render(everything).html
    assert b"constraint_type" not in page
    assert b"amount from 0 to 5,000" in page


def test_refusals_are_red_and_narrowing_is_not(everything: IncidentReport) -> None:
    """What was tried and refused has its own color in the graph; a narrower grant has none."""
    classes = Parsed(render(everything).html).classes["picture"]
    assert classes["denied"] >= 3
    assert classes["no"] == classes["denied"]
    assert classes["lost"] == 0


def test_the_axis_is_that_of_the_incident(month: Path) -> None:
    """A revocation long after the last call stands beside the axis, and does not stretch it."""
    found = incident(evidence(month), Seed.parse("agent:researcher"))
    (stop,) = found.revocations
    late = dataclasses.replace(stop, at_ns=found.ends_ns + 8 * 86_400 * SECOND)
    text = Parsed(render(dataclasses.replace(found, revocations=(late,))).html).text["picture"]
    assert "2026-11-0" not in text
    assert "to the right of the axis: agent researcher suspended 8 d 0 h later" in text


def test_forty_people_and_a_hundred_thousand_calls_have_a_picture(everything: IncidentReport) -> None:
    """The top is drawn by name, the rest together, and the numbers count all."""
    people = [f"person-{number}@example.com" for number in range(40)]
    paths = tuple(
        PathCalls(one, ("office", f"agent-{number % 30}"), Counter(read=2_500), Counter(pay=number))
        for number, one in enumerate(people)
    )
    refusals = tuple(
        Refusal(one, ("office", "agent-1"), "pay", "tool not granted", 1, number, number, f"id-{number}")
        for number, one in enumerate(people)
    )
    bins = tuple(Bin(f"agent-{agent}", part, "ok", 77) for agent in range(13) for part in range(100))
    large = dataclasses.replace(
        everything, calls=100_000, authority=(), paths=paths, refusals=refusals, bins=bins, ends_ns=everything.last_ns
    )
    html = render(large).html
    page = Parsed(html)
    assert "36 others" in page.text["picture"]
    assert "person-39@example.com" in page.text["picture"]
    assert "agent-12" in page.text["picture"]
    assert "agent-1 tried pay for 40 principals, 40 times: tool not granted" in page.text["exceptions"]
    assert "39 refused" in page.text["picture"]
    assert "100,000 calls in all" in page.text[""]
    assert html.count(b"<rect") > 1_300
    assert len(html) < 2_000_000


@pytest.mark.parametrize(("count", "words"), [(1, "1 refused call, about"), (4, "4 refused calls, about")])
def test_marks_are_counted_in_english(everything: IncidentReport, count: int, words: str) -> None:
    """One call, and several calls."""
    page = render(dataclasses.replace(everything, bins=(Bin("clerk", 0, "refused", count),))).html.decode()
    assert words in page
    assert "that rans" not in page


def test_the_index_begins_with_what_stands_out(month: Path) -> None:
    """Refusals, the unknown outcome, the key and the changed tool come before the links; ids lead to the timeline."""
    found = overview(evidence(month))
    answers = (found.inventory, found.scope, found.data, found.incident, found.coverage, found.controls)
    pages = [render(answer) for answer in answers]
    page = Parsed(render_index(pages).html)
    assert page.order[:2] == ["exceptions", "reports"]
    for label in ("refused", "unknown outcome", "revoked key", "changed tool", "registered, and idle"):
        assert label in page.text["exceptions"]
    rows = Parsed(pages[3].html).ids
    outer = [link.partition("#")[2] for link in page.links if link.startswith("incident.html#")]
    assert outer
    assert set(outer) <= rows.keys()


def test_controls_ask_once_what_does_not_apply(month: Path) -> None:
    """No table has a clause that the evidence does not answer; these stand together by what they lack, without ids."""
    found = controls(evidence(month))
    page = Parsed(render(found).html)
    silent = [one for one in found.rows if one.status == "not shown"]
    assert len(silent) == 25
    tables = " ".join(text for name, text in page.text.items() if name.startswith("framework-"))
    assert "not shown" not in tables
    assert "out of scope" not in tables
    reasons = {one.why[0] for one in silent}
    assert len(reasons) == 9
    asked = page.text["applies"]
    assert all(asked.count(reason) == 1 for reason in reasons)
    assert all(one.row.title in asked for one in silent)
    assert not re.search(r"\bA[\w-]{20}[AQgw]\b", asked)


@pytest.mark.skipif(CHROMIUM is None or shutil.which("pdfinfo") is None, reason="no Chromium, or no pdfinfo")
def test_paper_has_at_most_twenty_pages(everything: IncidentReport, tmp_path: Path) -> None:
    """Of 10,000 entries the first rows are printed, and the page says that others are not."""
    entries = tuple(
        dataclasses.replace(everything.timeline[number % 40], what=f"what-{number}", task=f"task-{number}")
        for number in range(10_000)
    )
    html = render(dataclasses.replace(everything, timeline=entries)).html
    assert b"which are not printed" in html
    (tmp_path / "page.html").write_bytes(html)
    target = tmp_path / "page.pdf"
    options = ("--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}")
    command = [str(CHROMIUM), *options, f"--print-to-pdf={target}", (tmp_path / "page.html").as_uri()]
    subprocess.run(command, capture_output=True, timeout=120, check=True)
    told = subprocess.run(["pdfinfo", target], capture_output=True, text=True, check=True).stdout
    (number,) = re.findall(r"Pages:\s+(\d+)", told)
    assert int(number) <= 20


def test_hostile_record_ids_link_to_nothing_else(everything: IncidentReport) -> None:
    """An id from evidence that is no id becomes an anchor of its digest."""
    hostile: Any = tuple(
        dataclasses.replace(one, record='"><script>x</script>#top') if number == 3 else one
        for number, one in enumerate(everything.timeline)
    )
    page = Parsed(render(dataclasses.replace(everything, timeline=hostile)).html)
    assert all(re.fullmatch(r"[\w-]+", name) for name in page.ids)
