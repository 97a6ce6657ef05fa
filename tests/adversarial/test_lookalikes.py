"""Names that look like others, hide something, or are markup, on terminals and on pages of reports."""

import re
from pathlib import Path

import pytest
from evidence_cases import write_files
from vectors.insider import BLOCKED, Ledger

from agent_identity import Agent, Human
from agent_identity._guard.approvals.terminal import shown
from agent_identity.approvals import ApprovalRequest
from agent_identity.cli import main

ALICE, TWIN = "alice@example.com", "\u0430lice@example.com"  # The second begins with a Cyrillic letter.
CLERK, OTHER = "clerk", "\u0441lerk"
PAY, PAYS = "pay", "p\u0430y"
MARKUP = "<script>alert(1)</script>"
CRM, FAKE = "crm", "\u0441rm"
HIDDEN = "\ufe0f\u202e\x1b[31m"
TWINS = {TWIN: r"\u0430lice@example.com", OTHER: r"\u0441lerk", PAYS: r"p\u0430y", FAKE: r"\u0441rm"}
RAW = {*TWINS, "\ufe0f", "\u202e", "\x1b"}
COMMANDS = (
    ("show",),
    ("tasks",),
    ("report", "inventory"),
    ("report", "scope"),
    ("report", "coverage"),
    ("report", "data"),
    ("report", "incident", f"principal:{TWIN}"),
    ("report", "incident", f"tool:{PAYS}"),
    ("verify",),
)
BY_TOOL = ("incident", f"tool:{PAYS}")
PAGES = (*((name,) for name in ("inventory", "scope", "coverage", "data")), ("incident", f"principal:{TWIN}"), BY_TOOL)


@pytest.fixture(scope="module")
def evidence(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory in which a twin of each name acts, beside the one that it looks like; an insider wrote it."""
    ledger = Ledger()
    stream = ledger.stream()
    for person, agent, tool, system in ((ALICE, CLERK, PAY, CRM), (TWIN, OTHER, PAYS, FAKE)):
        who = Agent(agent, owner=f"{MARKUP}@example.com")
        task = ledger.task(stream, PAY, principal=Human(person), agent=who)
        task.facts["task"]["purpose"] = MARKUP
        task.open()
        touched = [{"system": system, "name": name, "access": "read"} for name in (system, f"{system}{HIDDEN}", MARKUP)]
        task.call(PAY, resources=touched, workflow=MARKUP)
        task.denied(tool, decision={**BLOCKED, "rule": MARKUP, "why": f"{MARKUP} {FAKE}"}, error=MARKUP)
        task.end()
    ledger.close(stream)
    folder = tmp_path_factory.mktemp("twins") / "evidence"
    write_files(ledger.content(), folder)
    return folder


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: ascii(" ".join(words)))
def test_a_terminal_shows_which_of_two_it_is(
    words: tuple[str, ...], evidence: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A name that poses as another, or hides something, is spelled out wherever a person reads it."""
    main([*words, str(evidence)])
    out = "".join(capsys.readouterr())
    assert not [name for name in RAW if name in out]
    if words[0] in ("show", "report") and words[1:2] != ("coverage",):
        assert any(spelled in out for spelled in TWINS.values())


@pytest.mark.parametrize("words", PAGES, ids=lambda words: ascii(" ".join(words)))
def test_a_page_shows_which_of_two_it_is(
    words: tuple[str, ...], evidence: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither text nor attributes of a page have a name that poses as another, nor markup of anyone else."""
    page = tmp_path / "page.html"
    main(["report", *words, str(evidence), "--html", str(page)])
    capsys.readouterr()
    html = page.read_text(encoding="utf-8")
    assert not [name for name in RAW if name in html]
    assert MARKUP not in html
    assert "&lt;script&gt;" in html or words in (("coverage",), BY_TOOL)
    assert re.search(r"\[U\+0430\]|\[U\+0441\]", html) or words[0] == "coverage"


def test_all_pages_of_an_auditor_show_it(evidence: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The folder with every report and its index as well."""
    main(["report", "all", str(evidence), "--html", str(tmp_path / "pages")])
    capsys.readouterr()
    pages = list((tmp_path / "pages").rglob("*.html"))
    assert len(pages) > 3
    for page in pages:
        html = page.read_text(encoding="utf-8")
        assert not [name for name in RAW if name in html], page.name
        assert MARKUP not in html, page.name


@pytest.mark.parametrize("purpose", ["pay", "\u043e\u043f\u043b\u0430\u0442\u0430 \u0441\u0447\u0451\u0442\u0430"])
def test_who_approves_sees_which_of_two_it_is(purpose: str) -> None:
    """Each name by itself: the alphabet of the purpose does not excuse the letters of a tool."""
    request = ApprovalRequest(
        args="A" * 43,
        task="A" * 22,
        route="desk",
        requested_at=1,
        expires_at=2,
        id="A" * 22,
        tool="\u0440\u0430\u0443",
        arguments={"to": TWIN, "\u0430mount": 1},
        principal=Human(TWIN),
        agent=Agent(OTHER, owner="ops@example.com"),
        purpose=purpose,
    )
    text = shown(request)
    assert r"\u0440\u0430\u0443 on behalf of \u0430lice@example.com, by \u0441lerk" in text
    assert purpose in text
    assert TWIN not in text
