"""The questions of ``ask``: each is a command line of a report, and gives what that gives."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small_company import span, traces, work

from agent_identity.cli.answer.ask import QUESTIONS
from agent_identity.cli.company.month import write_month
from agent_identity.testing import Records

Run = Callable[..., Any]

OF = {
    "5": "agent:clerk",
    "6": "alice@example.com",
    "13": "payments",
    "14": "everything",
    "16": "unknown",
    "18": "server:web",
}


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the evidence of the demo."""
    directory = tmp_path_factory.mktemp("company") / "evidence"
    write_month(directory)
    return directory


def values(company: Path) -> dict[str, str]:
    """Return what the questions about one thing are about."""
    call = next(record for record in Records(company) if record.kind == "outcome" and record.chain)
    return {**OF, "7": call.id, "15": call.chain[-1].grant}


def test_there_are_twenty_questions_each_with_a_command(run: Run) -> None:
    """Alone, the command lists them, for people and for programs."""
    done = run("ask")
    assert done.code == 0
    assert all(question.text in done.out for question in QUESTIONS)
    listed = json.loads(run("ask", "--json").out)["questions"]
    assert [one["id"] for one in listed] == [str(number) for number in range(1, 21)]
    assert all(one["command"] for one in listed)


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: f"question-{question.id}")
def test_the_answer_is_that_of_the_named_command(run: Run, company: Path, question: Any) -> None:
    """Exit code and JSON, the command in the frame included, are those of the report."""
    of, since = values(company).get(question.id, ""), "2026-01-01"
    needs = {option for option in ("of", "since") if any(f"{{{option}}}" in word for word in question.words)}
    more = [
        word for option, value in (("--of", of), ("--since", since)) if option[2:] in needs for word in (option, value)
    ]
    answered = run("ask", question.id, company, "--json", *more)
    words = [word.replace("{of}", of).replace("{since}", since) for word in question.words]
    direct = run(*words, company, "--json")
    assert (answered.code, answered.err) == (direct.code, "")
    assert json.loads(answered.out) == json.loads(direct.out)


@pytest.mark.parametrize(
    "words",
    [
        ("ask", "21", "evidence"),
        ("ask", "8"),
        ("ask", "7", "evidence"),
        ("ask", "3", "evidence"),
        ("ask", "8", "evidence", "--of", "agent:clerk"),
        ("ask", "19", "evidence", "--since", "2026-11-24"),
    ],
    ids=" ".join,
)
def test_what_is_not_answered_exits_with_2_and_says_why(run: Run, evidence: Path, words: tuple[str, ...]) -> None:
    """Nothing is printed that could be taken for an answer."""
    done = run(*(evidence if word == "evidence" else word for word in words))
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert done.err.startswith("agent-identity: ")


def test_values_and_names_of_files_never_become_options(
    run: Run, company: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What begins with hyphens is the thing that is asked about, or the file that is read."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "--unverified").symlink_to(company)
    done = run("ask", "--json", "--of=--unverified", "--", "13", "--unverified")
    assert json.loads(done.out)["frame"]["verified"] is True
    done = run("ask", "--json", "--", "8", "--unverified")
    assert json.loads(done.out)["frame"]["verified"] is True


def test_the_options_of_reports_are_passed_on(run: Run, company: Path) -> None:
    """Trust, period, form and the refusal to verify are the report's."""
    assert run("ask", "8", company, "--unverified").code == 2
    frame = json.loads(
        run(
            "ask",
            "8",
            company,
            "--trust",
            company / "trust.json",
            "--from",
            "2020-01-01",
            "--until=2020-01-02",
            "--json",
        ).out
    )["frame"]
    assert frame["command"].endswith("--from 2020-01-01 --until 2020-01-02 --json")
    assert "--trust" in frame["command"]
    assert run("ask", "19", company, "--csv").out.startswith("verdict,row,")


def test_question_2_answers_each_of_its_parts(run: Run, company: Path, tmp_path: Path) -> None:
    """What is nothing is said to be none, and what the evidence cannot tell is said not to be known."""
    done = run("ask", "2", company).out
    assert "traced, and not guarded: not known" in done
    assert "observed, and not registered: none\n" in done
    assert "without an owner: none\n" in done
    work(tmp_path / "bare")
    done = run("ask", "2", tmp_path / "bare", traces(tmp_path / "t.jsonl", [span({"tool.name": "x"})])).out
    assert "traced, and not guarded: none\n" in done
    assert "observed, and not registered: not known" in done


def test_an_incident_prints_each_block_of_authority_once(run: Run, company: Path) -> None:
    """Later rows refer to it by its number."""
    done = run("report", "incident", "agent:payer", company, "--markdown").out
    bounds = [
        line
        for line in done.splitlines()
        if line.startswith("| ") and "amount from 0 to 2,000" in line.replace("\\", "")
    ]
    assert len(bounds) == 1
    assert done.replace("\\", "").count("| as (") > 10


def test_the_inventory_of_the_demo_names_each_tool_once(run: Run, company: Path) -> None:
    """Pins, registrations and calls of a tool are one item, also where nobody called it."""
    items = json.loads(run("report", "inventory", company, "--json").out)["items"]
    names = [item["name"].rpartition("/")[2] for item in items if item["kind"] == "tool"]
    assert len(names) == len(set(names))
