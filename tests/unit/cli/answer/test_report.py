"""What all reports share on the command line: the frame, the forms, exit codes, and names that steer nothing."""

import csv
import io
import json
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small_company import ALICE, span, traces, work

from agent_identity import Agent, Enforcer, Scope
from agent_identity.errors import Denied

Run = Callable[..., Any]

REPORTS = (("inventory",), ("scope",), ("incident", "agent:clerk"), ("coverage",), ("data",))
reports = pytest.mark.parametrize("report", REPORTS, ids=lambda words: words[0])
HOSTILE = '=cmd|"/c calc"!A1\x1b[31m\u202e<script>'


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the evidence of a company that worked for a while."""
    directory = tmp_path_factory.mktemp("company") / "evidence"
    work(directory, tasks=2, days=10)
    return directory


def damaged(directory: Path, target: Path) -> Path:
    """Return a copy of a directory in which one record was changed."""
    shutil.copytree(directory, target)
    warned = b'"effect":"warn"'
    entries = next(path for path in sorted(target.glob("ledger/*/entries*.jsonl")) if warned in path.read_bytes())
    entries.write_bytes(entries.read_bytes().replace(warned, b'"effect":"allow"', 1))
    return target


def forms(run: Run, *words: object) -> dict[str, str]:
    """Return what a report prints in each form."""
    return {form: run(*words, *([f"--{form}"] if form != "text" else [])).out for form in ("text", "json", "csv")}


@reports
def test_each_form_states_the_frame(run: Run, company: Path, report: tuple[str, ...]) -> None:
    """Source, verdict, keys and their origin, command, version, and what is not shown are in every form."""
    for form, printed in forms(run, "report", *report, company).items():
        for fact in (str(company), "verified", "self-asserted", "0.1.0", f"agent-identity report {report[0]}"):
            assert fact in printed.lower() if fact == "verified" else fact in printed, (form, fact)
        assert "not shown" in printed or "not_shown" in printed


@reports
def test_the_exit_code_is_that_of_verify(run: Run, company: Path, tmp_path: Path, report: tuple[str, ...]) -> None:
    """0 for evidence that verifies, 1 for one that does not, 2 without verification or evidence."""
    bad = damaged(company, tmp_path / "bad")
    assert run("report", *report, company).code == 0
    assert run("report", *report, bad).code == run("verify", bad).code == 1
    assert run("report", *report, bad, "--json").code == 1
    assert run("report", *report, company, "--unverified").code == 2
    assert run("report", *report, tmp_path / "nothing").code == 2


@reports
def test_unverified_is_printed_on_every_form(run: Run, company: Path, report: tuple[str, ...]) -> None:
    """Nobody can take a report without verification for one with."""
    for printed in forms(run, "report", *report, company, "--unverified").values():
        assert "unverified" in printed
        assert not re.search(r'"proved": true|"proof": "proved"|[ ,]proved[ ,]', printed)


@reports
def test_a_contradicted_source_proves_nothing_in_any_form(
    run: Run, company: Path, tmp_path: Path, report: tuple[str, ...]
) -> None:
    """The verdict leads, and no row says that it is proved."""
    bad = damaged(company, tmp_path / "bad")
    printed = forms(run, "report", *report, bad)
    assert printed["text"].startswith("NOT VERIFIED")
    assert json.loads(printed["json"])["frame"]["verdict"] == "contradicted"
    rows = list(csv.DictReader(io.StringIO(printed["csv"])))
    assert {row["verdict"] for row in rows} == {"contradicted"}
    assert not [row for row in rows if row.get("proof") == "proved"]


def test_a_report_is_one_json_object(run: Run, company: Path) -> None:
    """Standard output has one object and nothing else."""
    found = json.loads(run("report", "inventory", company, "--json").out)
    assert found["frame"]["report"] == "inventory"
    assert isinstance(found["items"][0]["first_ns"], str)


def test_names_from_evidence_steer_nothing(run: Run, company: Path, tmp_path: Path) -> None:
    """A tool that is called like a formula with terminal codes is data in every form."""
    path = traces(tmp_path / "t.json", [span({"openinference.span.kind": "TOOL", "tool.name": HOSTILE})])
    printed = forms(run, "report", "inventory", company, path)
    for form in ("text", "csv"):
        assert "\x1b" not in printed[form]
        assert "\u202e" not in printed[form]
    cells = [cell for row in csv.reader(io.StringIO(printed["csv"])) for cell in row]
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@"))]
    assert [one["name"] for one in json.loads(printed["json"])["items"] if one["kind"] == "tool"].count(HOSTILE) == 1


def test_a_terminal_is_shown_colors_and_short_lines(on_terminal: Run, company: Path) -> None:
    """On a terminal the report has colors, and progress leaves nothing behind."""
    done = on_terminal("report", "inventory", company, columns=100)
    assert done.code == 0
    assert "\x1b[" in done.out
    assert done.err.endswith("\r\x1b[K") or not done.err


def test_times_and_tables_that_are_none_are_refused(run: Run, company: Path, tmp_path: Path) -> None:
    """A period that ends before it begins, or a time that is none, is wrong usage."""
    for words in (("--from", "yesterday"), ("--from", "2026-01-02", "--until", "2026-01-01"), ("--hosts", tmp_path)):
        done = run("report", "inventory", company, *words)
        assert (done.code, done.out) == (2, "")


def test_cyclonedx_is_a_form_of_the_inventory(run: Run, company: Path) -> None:
    """It is one JSON document; two forms at once are refused."""
    assert json.loads(run("report", "inventory", company, "--cyclonedx").out)["specVersion"] == "1.7"
    assert run("report", "inventory", company, "--cyclonedx", "--csv").code == 2
    assert '"unverified"' in run("report", "inventory", company, "--cyclonedx", "--unverified").out


def test_markdown_of_an_incident_has_no_markup_of_others(run: Run, tmp_path: Path) -> None:
    """A tool with a hostile name makes neither a table cell, nor a link, nor HTML, and the frame is there."""
    work(tmp_path / "evidence")
    name = "|<img src=x>[a](http://b)`"
    with Enforcer.open(tmp_path / "evidence") as enforcer, pytest.raises(Denied):
        enforcer.tool(name=name)(lambda: None)()
    printed = run("report", "incident", f"tool:{name}", tmp_path / "evidence", "--markdown").out
    assert "<img" not in printed
    assert "](http" not in printed
    separators = {line.count(" | ") for line in printed.splitlines() if "img" in line and line.startswith("|")}
    assert separators == {6, 7}  # Of the tables of tools and of the timeline.
    for fact in ("VERIFIED", "self-asserted", "not shown", "0.1.0"):
        assert fact in printed


def test_commands_of_an_incident_are_quoted(run: Run, tmp_path: Path) -> None:
    """An id of an agent that would be a command of a shell is one word of ours."""
    name = "x; rm -rf $HOME"
    with Enforcer.open(tmp_path / "evidence") as enforcer:
        tool = enforcer.tool(name="read")(lambda: None)
        with enforcer.task("t", principal=ALICE, agent=Agent(name, owner="o"), scope=Scope("read")):
            tool()
    found = json.loads(run("report", "incident", f"agent:{name}", tmp_path / "evidence", "--json").out)
    (command,) = found["commands"]
    assert shlex.split(command)[-2:] == ["agent", name]


def test_a_command_of_an_incident_works_as_it_stands(run: Run, tmp_path: Path) -> None:
    """What the report says stops the agent does: the words are pasted, and the next report says that it is revoked."""
    work(tmp_path / "evidence")
    words = ("report", "incident", "agent:clerk", tmp_path / "evidence", "--json")
    (command, *_) = json.loads(run(*words).out)["commands"]
    assert run(*shlex.split(command)[1:]).code == 0
    found = json.loads(run(*words).out)
    (effect,) = found["revocations"]
    assert (effect["kind"], effect["name"], effect["status"], effect["after"]) == ("agent", "clerk", "revoked", 0)
    assert effect["before"] == 4


def test_standard_input_is_not_read_twice(program: Run) -> None:
    """A seed that needs two passes is refused for traces on standard input, and one that needs one is not."""
    assert program("report", "incident", "record:x", "-", stdin=b"{}").code == 2
    refused = program("report", "incident", "owner:x", "-", stdin=b'{"resourceSpans":[]}')
    assert (refused.out, "standard input" in refused.err) == ("", True)
    assert "report incident" in program("report", "incident", "agent:x", "-", stdin=b'{"resourceSpans":[]}').out


@pytest.mark.parametrize("seed", ["clerk", "agent:", "nobody:x", "everything:x", ""])
def test_a_seed_that_is_none_is_refused(run: Run, company: Path, seed: str) -> None:
    """A misspelled seed is wrong usage, and no empty answer."""
    assert run("report", "incident", seed, company).code == 2
