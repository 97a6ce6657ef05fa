"""What commands say of records of version 2, which is a draft."""

import json
from pathlib import Path
from typing import Any

import pytest

from agent_identity import Agent, Enforcer, Human, Scope, records
from agent_identity.options import Privacy

Run = Any


@pytest.fixture
def drafts(tmp_path: Path) -> Path:
    """Return a directory with a call in version 2."""
    with Enforcer.open(tmp_path / "drafts", privacy=Privacy(disclosable=True)) as enforcer:
        pay = enforcer.tool(name="pay")(lambda amount: amount)
        who = {"principal": Human("alice"), "agent": Agent("clerk", owner="boss")}
        with enforcer.task("pay", **who, scope=Scope("pay")):
            pay(amount=5)
    return tmp_path / "drafts"


def outcome_of(drafts: Path) -> str:
    """Return the id of the outcome."""
    return next(one.id for one in records.read(drafts) if isinstance(one, records.Outcome))


def told(text: str) -> list[str]:
    """Return the codes of a report in JSON."""
    found = json.loads(text)
    return [one["code"] for one in found.get("report", found)["findings"]]


@pytest.mark.parametrize("command", ["verify", "proof", "disclose"])
def test_reports_name_the_drafts_that_they_accepted(run: Run, drafts: Path, tmp_path: Path, command: str) -> None:
    """One notice, which changes neither verdict nor exit code, for people and for programs."""
    outcome, trust = outcome_of(drafts), drafts / "trust.json"
    assert run("proof", "make", drafts, outcome, "-o", tmp_path / "r").code == 0
    shown = ("--argument", "amount", "--value", "5", "-o", tmp_path / "d")
    assert run("disclose", "make", drafts, outcome, *shown).code == 0
    words = {
        "verify": ("verify", drafts),
        "proof": ("proof", "check", tmp_path / "r"),
        "disclose": ("disclose", "check", tmp_path / "d", "--ledger", drafts),
    }[command]
    done = run(*words, "--trust", trust)
    assert (done.code, done.out.startswith("VERIFIED")) == (0, True)
    assert done.out.count() == 1
    assert told(run(*words, "--trust", trust, "--json").out).count() == 1
    assert run(*words, "--trust", trust).code == 2


def test_a_bundle_says_that_drafts_are_in_it(run: Run, drafts: Path, evidence: Path, tmp_path: Path) -> None:
    """In one line for people, and as a member for programs."""
    done = run("bundle", drafts, "-o", tmp_path / "a.zip")
    assert (done.code, "version 2 (draft)" in done.out) == (0, True)
    assert json.loads(run("bundle", drafts, "-o", tmp_path / "b.zip", "--json").out)["drafts"] is True
    assert json.loads(run("bundle", evidence, "-o", tmp_path / "c.zip", "--json").out)["drafts"] is False


def test_what_shows_drafts_unasked_says_so(run: Run, drafts: Path, evidence: Path) -> None:
    """At the foot for people, beside the output for programs; of version 1, nothing is said."""
    assert "version 2 (draft)" in run("show", drafts).out
    for words in (("show", "--json"), ("show", "--jsonl"), ("export", "--as", "ocsf")):
        done = run(words[0], drafts, *words[1:])
        assert (done.code, "version 2 (draft)" in done.err, "version 2 (draft)" in done.out) == (0, True, False)
        done = run(words[0], evidence, *words[1:])
        assert (done.code, done.err) == (0, "")
