"""Pages: structure, hostile names, the frame on every page, equal bytes, and bounded size."""

import base64
import dataclasses
import hashlib
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_company import span, traces, work

from agent_identity._reports.pages._layout import code, table
from agent_identity._reports.pages._markup import names
from agent_identity._reports.pages._tree_picture import TreeNode, tree_picture
from agent_identity._reports.pages.rendering import Page, render, render_index, render_tasks
from agent_identity._reports.pages.tasks_page import Told
from agent_identity.answers import Evidence, Seed, controls, coverage, data, incident, inventory, scope
from agent_identity.audit import story

MADE: Final = 1_764_000_000 * 10**9
VOID: Final = frozenset({"meta", "br"})
LITERAL: Final = frozenset(
    {"kind", "code", "verdict", "proof", "basis", "change", "confidence", "dimension", "why", "at_ns", "status"}
)
HOSTILE: Final = (
    "<script>document.title='owned'</script>",
    '"><img src=x onerror=alert(1)>',
    "</title></svg></style><h1>",
    "]]><svg onload=alert(1)>",
    "=cmd|'/c calc'!A1",
    "+1",
    "\u202egnp.exe",
    "\x1b[31m\x00\r\n\t\x7f",
    "\u05d0\u05d1\u0627\u0628",
    "\ud800",
    "a\u0301\u0301\u0301\u0301\u0301\u0301",
    "\u3164\u2800",
    "&lt;b&gt;&#60;",
    "n" * 5_000,
    "javascript:alert(1)",
    "x' onclick='y",
)

ASKS: Final[Mapping[str, Callable[[Evidence], Any]]] = {
    "inventory": inventory,
    "scope": scope,
    "data": data,
    "incident": lambda evidence: incident(evidence, Seed("everything", "")),
    "coverage": coverage,
    "controls": controls,
}


class Reader(HTMLParser):
    """Reads a page, and fails where its elements do not nest."""

    def __init__(self, page: bytes) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.shape: Counter[tuple[str, tuple[str, ...]]] = Counter()
        self.texts: list[str] = []
        self.inside: dict[str, list[str]] = {}
        self.feed(page.decode("utf-8"))
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element."""
        assert len({name for name, _ in attrs}) == len(attrs)
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        self.shape[tag, tuple(name for name, _ in attrs)] += 1
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Check that it ends the last element that is open."""
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Note a text."""
        self.texts.append(data)
        self.inside.setdefault(self.open[-1] if self.open else "", []).append(data)

    def all(self, tag: str) -> list[dict[str, str]]:
        """Return the attributes of all elements of a name."""
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def text(self) -> str:
        """All text of the page but style and script."""
        return "\n".join(text for tag, texts in self.inside.items() if tag not in {"style", "script"} for text in texts)


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with evidence that says what it touches, and spans of another library."""
    folder = tmp_path_factory.mktemp("company")
    work(folder / "evidence", tasks=3, days=10)
    spans = [span({"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "browse"}, number=7)]
    traces(folder / "traces.jsonl", spans)
    return folder


@pytest.fixture(scope="module")
def answers(company: Path) -> dict[str, Any]:
    """Return an answer of each kind."""
    evidence = Evidence(sources=company, trust=company / "evidence" / "trust.json", command="agent-identity report")
    return {name: ask(evidence) for name, ask in ASKS.items()}


def told(company: Path) -> Iterator[Told]:
    """Yield the tasks of the company."""
    yield from (Told("evidence", "ledger", task) for task in story(company / "evidence"))


def pages(company: Path, answers: Mapping[str, Any]) -> dict[str, Page]:
    """Return a page of each kind."""
    found = {name: render(answer, made_ns=MADE, home="index.html") for name, answer in answers.items()}
    index = render_index([*found.values()], command="agent-identity report all", made_ns=MADE)
    return {**found, "tasks": render_tasks(told(company), command="agent-identity show", made_ns=MADE), "index": index}


def poisoned(value: Any, poison: Callable[[str], str], name: str = "") -> Any:
    """Return a result in which every name is another text."""
    if name == "frame" or name in LITERAL:
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = [field.name for field in dataclasses.fields(value)]
        return dataclasses.replace(value, **{one: poisoned(getattr(value, one), poison, one) for one in fields})
    if isinstance(value, str):
        return poison(value) if value else value
    if isinstance(value, tuple):
        return tuple(poisoned(one, poison, name) for one in cast("tuple[Any, ...]", value))
    if isinstance(value, Mapping):
        members = cast("Mapping[Any, Any]", value)
        return {poisoned(key, poison): poisoned(one, poison) for key, one in members.items()}
    return value


def hostile_answer(answer: Any, text: str) -> Any:
    """Return an answer whose names end with a hostile text."""
    return poisoned(answer, lambda name: name if name in WORDS else f"{text}{name}")


WORDS: Final = frozenset(
    {"registered", "observed", "traced", "allow", "warn", "block", "route", "success", "denied", "error", "unknown"}
)


@pytest.mark.parametrize("name", [*ASKS, "tasks", "index"])
def test_a_page_is_well_formed_and_accessible(company: Path, answers: dict[str, Any], name: str) -> None:
    """Elements nest, ids are unique, landmarks, headings, captions and titles of pictures are there."""
    page = Reader(pages(company, answers)[name].html)
    for landmark in ("header", "nav", "main", "footer", "h1", "title"):
        assert len(page.all(landmark)) == 1 + (landmark == "title") * len(page.all("svg")) or landmark == "title"
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in page.elements:
        assert set(attributes.get("aria-labelledby", "").split()) <= set(ids)
    assert len(page.all("caption")) == len(page.all("table")) > 0
    assert all("scope" in attributes for attributes in page.all("th"))
    for picture in page.all("svg"):
        assert picture["role"] == "img"
        assert picture["aria-labelledby"] in ids
    assert page.all("html")[0]["lang"] == "en"
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


@pytest.mark.parametrize("name", [*ASKS, "tasks", "index"])
def test_a_page_loads_nothing_and_admits_only_its_own_style_and_script(
    company: Path, answers: dict[str, Any], name: str
) -> None:
    """The policy names the hashes of the one style and the one script; links lead to the page or its neighbors."""
    raw = pages(company, answers)[name].html
    page = Reader(raw)
    policy = next(one["content"] for one in page.all("meta") if one.get("http-equiv") == "Content-Security-Policy")
    for tag in ("style", "script"):
        (content,) = page.inside[tag]
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    ids = {attributes["id"] for _, attributes in page.elements if "id" in attributes}
    for tag, attributes in page.elements:
        assert not any(key.startswith("on") or key in {"style", "src", "srcset", "action"} for key in attributes)
        assert tag not in {"link", "img", "iframe", "object", "embed", "form", "base"}
        link = attributes.get("href", "#content")
        assert link[1:] in ids if link.startswith("#") else re.fullmatch(r"[a-z]+\.html(#r-[\w-]+)?", link)
    assert b"@import" not in raw


@pytest.mark.parametrize("name", [*ASKS, "tasks", "index"])
def test_a_page_states_its_frame(company: Path, answers: dict[str, Any], name: str) -> None:
    """Source, verdict, origin of keys, period, command, version, time and what is not shown are there."""
    page = pages(company, answers)[name]
    text = Reader(page.html).text
    for fact in (
        "evidence",
        "the beginning until the end",
        "agent-identity 0.1.0",
        "2025-11-24 16:00:00 UTC",
        "Not shown",
    ):
        assert fact in text
    assert str(page.frame.command) in text
    assert all(note in text for note in page.frame.notes)
    if name == "tasks":
        assert "UNVERIFIED" in text
        assert not re.search(r"\bproved\b", text.replace("cannot be proved", ""))
    else:
        assert "trust.json" in text


@pytest.mark.parametrize("name", ASKS)
def test_unverified_is_loud(company: Path, name: str) -> None:
    """Title, banner, each printed page and foot say that nothing was verified."""
    answer = ASKS[name](Evidence(sources=company / "evidence", unverified=True))
    page = Reader(render(answer).html)
    assert page.inside["title"][0].startswith("UNVERIFIED")
    assert page.text.count("UNVERIFIED") >= 4
    assert page.all("body") == [{"class": "unverified"}]
    assert '@page unverified{@top-center{content:"UNVERIFIED"' in page.inside["style"][0]
    assert "VERIFIED" not in page.text.replace("UNVERIFIED", "")


def test_keys_from_beside_the_evidence_are_no_green_verdict(company: Path) -> None:
    """Evidence that verifies under its own keys alone says so where the verdict stands."""
    answer = inventory(Evidence(sources=company / "evidence"))
    page = render(answer)
    assert b'class="verdict good' not in page.html
    assert "under its own keys" in Reader(page.html).inside["title"][0]
    assert (
        b'class="verdict good'
        in render(inventory(Evidence(sources=company / "evidence", trust=company / "evidence" / "trust.json"))).html
    )


def test_the_page_of_tasks_says_what_was_changed_or_not_inspected(company: Path) -> None:
    """A result that was changed, and a part that nobody inspected, show beside the call."""
    (first, *_) = (one for one in told(company) if one.task.actions)
    words = (b"changed before delivery", b"a part was not inspected")
    assert [word in render_tasks([first]).html for word in words] == [False, False]
    action = dataclasses.replace(first.task.actions[0], changed=True, uninspected=True)
    marked = dataclasses.replace(first, task=dataclasses.replace(first.task, actions=(action,)))
    assert [word in render_tasks([marked]).html for word in words] == [True, True]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
@pytest.mark.parametrize("name", [*ASKS, "tasks"])
def test_hostile_names_stay_inert(company: Path, answers: dict[str, Any], name: str, text: str) -> None:
    """A page has the same elements and attributes whatever the names are, and no text that steers a reader."""
    if name == "tasks":
        plain = render_tasks(told(company)).html
        html = render_tasks(hostile_answer(one, text) for one in told(company)).html
    else:
        plain = render(hostile_answer(answers[name], "name")).html
        html = render(hostile_answer(answers[name], text)).html
    page = Reader(html)
    assert page.shape == Reader(plain).shape
    assert not re.search("[\u202a-\u202e\u2066-\u2069\u200b-\u200f\x00-\x08\x0b-\x1f\x7f\u3164\u2800]", page.text)
    assert all(
        len(text) < 10_000 for tag, texts in page.inside.items() if tag not in {"style", "script"} for text in texts
    )


@settings(max_examples=60, deadline=None)
@given(text=st.text(min_size=1, max_size=40))
def test_any_name_stays_inert(text: str) -> None:
    """Any text in a picture and a table is text alone."""

    def drawn(name: str) -> Counter[tuple[str, tuple[str, ...]]]:
        picture = tree_picture([TreeNode("agent", name, (name,), (name,))], id_="p", title="tools")
        listed = table("names", ("a", "b"), [name], lambda one: (one, one))
        return Reader((picture + listed).encode("utf-8", "backslashreplace")).shape

    assert drawn(text) == drawn("name")


def test_a_formula_begins_with_an_apostrophe() -> None:
    """A cell that is pasted into a spreadsheet is no formula, also where it is an id or a list of names."""
    cells = ("=1", "+1", "-1", "@a", code("=1"), names(["=1", "b"]))
    page = Reader(table("cells", tuple("abcdef"), [cells], lambda row: row).encode())
    shown = [text for text in page.texts if text.endswith(("1", "@a", "b"))]
    assert [text for text in shown if text[0] in "=+-@"] == []
    assert len([text for text in shown if text.startswith("'")]) == len(cells)


def test_the_same_answer_makes_the_same_bytes(company: Path) -> None:
    """Two readings of the same evidence at the same time make the same pages."""

    def made() -> list[str]:
        evidence = Evidence(sources=company)
        found = {name: ask(evidence) for name, ask in ASKS.items()}
        return [page.sha256 for page in pages(company, found).values()]

    assert made() == made()


def many(items: tuple[Any, ...], number: int, **changed: Callable[[int], Any]) -> tuple[Any, ...]:
    """Return so many copies of the first item, each a little different."""
    return tuple(
        dataclasses.replace(items[0], **{name: change(one) for name, change in changed.items()})
        for one in range(number)
    )


LARGEST: Final = 2_000_000
"""Bytes that a page may have."""


@pytest.mark.sample(3)
@pytest.mark.parametrize("name", [name for name in ASKS if name != "controls"])  # Its rows are those of the tables.
def test_a_hundred_thousand_calls_stay_usable(answers: dict[str, Any], name: str) -> None:
    """The rows of a page are bounded, its size as well, and it says how many are left out."""
    answer = answers[name]
    large = {
        "inventory": lambda: {"items": many(answer.items, 100_000, name=lambda one: f"agent-{one}")},
        "scope": lambda: {"rows": many(answer.rows, 100_000, agent=lambda one: f"agent-{one}")},
        "data": lambda: {"rows": many(answer.rows, 100_000, name=lambda one: f"row-{one}")},
        "incident": lambda: {
            "timeline": many(
                answer.timeline, 100_000, at_ns=lambda one: MADE + one * 10**9, what=lambda one: f"grant-{one}"
            ),
            "authority": many(answer.authority, 1_000, grant=lambda one: f"{one}", agent=lambda one: f"a{one}"),
        },
        "coverage": lambda: {"others": many(answer.others, 100_000, tool=lambda one: f"tool-{one}")},
    }[name]()
    page = render(dataclasses.replace(answer, **large))
    assert len(page.html) < LARGEST
    assert "99,000 more rows are not on this page" in Reader(page.html).text


def test_a_page_of_many_tasks_is_bounded(company: Path) -> None:
    """Of 100,000 calls the page shows some, and counts the others."""
    task = next(one.task for one in told(company) if one.task.task is not None)
    actions = tuple(dataclasses.replace(task.actions[0], record=f"{number}") for number in range(1_000))
    tasks = (dataclasses.replace(task, task=f"task-{number}", actions=actions) for number in range(100))
    page = render_tasks(Told("evidence", "ledger", one) for one in tasks)
    text = Reader(page.html).text
    assert len(page.html) < LARGEST
    assert "100 tasks with 100,000 calls" in text
    assert "95 more tasks" in text


def test_a_contradicted_source_is_loud(company: Path, tmp_path: Path) -> None:
    """The page of evidence that was changed says so first, and proves nothing."""
    target = shutil.copytree(company / "evidence", tmp_path / "evidence")
    entries = next(path for path in sorted(target.glob("ledger/*/entries*.jsonl")) if b'"warn"' in path.read_bytes())
    entries.write_bytes(entries.read_bytes().replace(b'"effect":"warn"', b'"effect":"allow"', 1))
    page = Reader(render(inventory(Evidence(sources=target))).html)
    assert page.inside["title"][0].startswith("NOT VERIFIED")
    assert not re.search(r"\bproved\b", page.text.replace("Nothing in it is proved", ""))
