"""``agent-identity scan``: what it prints, and its exit codes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small_company import work

Run = Callable[..., Any]

CODE = """\
import os
from agents import Agent, function_tool, handoff

@function_tool
def pay(x: int): ...

clerk = Agent(name="clerk", tools=[pay])
boss = Agent(name=os.environ["WHO"], handoffs=[handoff(clerk)])
"""


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with a program, and go there."""
    (tmp_path / "app.py").write_text(CODE)
    (tmp_path / "page.ts").write_text("x")
    (tmp_path / "bad.py").write_text("def (")
    server = {"command": "npx", "args": ["srv"], "env": {"API_KEY": "v4lue"}, "disabled": True}
    (tmp_path / ".mcp.json").write_text(json.dumps({"mcpServers": {"files": server}}))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_people_get_parts_places_guards_and_limits(run: Run, app: Path) -> None:
    """The table has each part with its line, what is dynamic or off, and what was not read."""
    code, out, err = run("scan", app)
    assert (code, err) == (0, "")
    lines = [" ".join(line.split()) for line in out.splitlines()]
    where = f"{app}/app.py"
    assert f"clerk OpenAI Agents not guarded {where}:7" in lines
    assert f"boss (dynamic) OpenAI Agents {where}:8" in lines
    assert f"pay OpenAI Agents not guarded {where}:5" in lines
    assert f"boss → clerk {where}:8" in lines
    assert f"files Claude Code {app}/.mcp.json:1 npx srv · sets API_KEY · off" in lines
    assert any("2 files read" in line for line in lines)
    assert any(line.startswith("1 left out: not Python") for line in lines)
    assert any(line.startswith("1 JavaScript") for line in lines)
    assert "v4lue" not in out


@pytest.mark.parametrize(
    ("option", "member"), [("--json", "items"), ("--sarif", "runs"), ("--cyclonedx", "components")]
)
def test_each_form_is_one_object(run: Run, app: Path, option: str, member: str) -> None:
    """Standard output is one JSON object."""
    code, out, _ = run("scan", ".", option)
    assert (code, bool(json.loads(out)[member])) == (0, True)


def test_forms_exclude_each_other(run: Run, app: Path) -> None:
    """Two forms at once are wrong usage."""
    assert run("scan", app, "--json", "--sarif")[0] == 2


def test_a_scan_that_reads_nothing_says_so(run: Run, tmp_path: Path) -> None:
    """Exit code 2 and a complaint, and still the form that was asked for."""
    code, out, err = run("scan", tmp_path, "--json")
    assert (code, json.loads(out)["items"]) == (2, [])
    assert "nothing" in err


def test_a_scan_is_joined_into_the_inventory(run: Run, tmp_path: Path) -> None:
    """A folder that is scanned at once and the file of an earlier scan give the same inventory, page included."""
    work(tmp_path / "evidence")
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "app.py").write_text('from agents import Agent\nAgent(name="stranger")\nAgent(name=NAME)\n')
    written = tmp_path / "scan.json"
    written.write_text(run("scan", tmp_path / "code", "--json").out)
    words = ("report", "inventory", tmp_path / "evidence")
    once, later = (json.loads(run(*words, "--scan", path, "--json").out) for path in (tmp_path / "code", written))
    assert once["items"] == later["items"]
    assert {(one["code"], one["name"]) for one in once["differences"]} >= {("declared_not_observed", "stranger")}
    assert any("1 declaration whose" in note for note in once["frame"]["not_shown"])
    assert f"--scan {written}" in later["frame"]["command"]
    text = run(*words, "--scan", written).out
    assert "declared, and never observed (1): agent stranger" in text
    assert run(*words, "--scan", written, "--html", tmp_path / "page.html").code == 0
    assert "declared, and never observed" in (tmp_path / "page.html").read_text()


@pytest.mark.parametrize("items", ['"x"', "[3]", '[{"kind": "agent", "name": "a", "status": "seen"}]'])
def test_a_malformed_scan_is_refused(run: Run, tmp_path: Path, items: str) -> None:
    """A file that looks like a scan and is none is refused; a path that does not exist as well."""
    work(tmp_path / "evidence")
    (tmp_path / "scan.json").write_text(f'{{"files_read": 1, "items": {items}}}')
    done = run("report", "inventory", tmp_path / "evidence", "--scan", tmp_path / "scan.json")
    assert (done.code, "scan --json" in done.err) == (2, True)
    assert run("report", "inventory", tmp_path / "evidence", "--scan", tmp_path / "absent").code == 2
