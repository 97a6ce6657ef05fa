"""``agent-identity erase``: the keys go, a record says so, and the ledger verifies as before."""

import contextlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from plain_records import append, check_record

from agent_identity import Agent, Effect, Enforcer, Human, Rule, RuleSet, Scope, Verifier
from agent_identity._identity.common.ids import bytes_of_id
from agent_identity.approvals import Approval
from agent_identity.audit import story
from agent_identity.errors import Denied, EvidenceError
from agent_identity.options import DigestKeys, Ledger
from agent_identity.policy import Touch

Run = Callable[..., Any]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Two tasks of alice, one of bob, and a call outside any task."""
    with Enforcer.open(tmp_path / "evidence") as enforcer:

        @enforcer.tool
        def pay(amount: int) -> int:
            return amount

        for name in ("alice", "alice", "bob"):
            with enforcer.task("p", principal=Human(name), agent=Agent("clerk", owner="o"), scope=Scope("pay")):
                pay(100)
        with pytest.raises(Denied):
            pay(100)
    return tmp_path / "evidence"


def keys(directory: Path) -> dict[str, str]:
    """Return the keys in the file, by id."""
    lines = (directory / "keys" / "digests.jsonl").read_text().splitlines()
    return {line["id"]: line["key"] for line in map(json.loads, lines)}


def erasures(directory: Path) -> list[dict[str, Any]]:
    """Return what the records of erasures say."""
    lines = [line for file in directory.glob("ledger/*/entries.jsonl") for line in file.read_text().splitlines()]
    found = [record for line in lines if (record := json.loads(line)["record"])["kind"] == "erasure"]
    return [record["erasure"] for record in sorted(found, key=lambda record: bytes_of_id(record["id"]))]


def tasks(directory: Path) -> dict[str | None, str | None]:
    """Return the principal of each task."""
    return {told.task: told.principal for told in story(directory)}


def test_the_digests_of_a_principal_are_erased(run: Run, directory: Path) -> None:
    """All tasks of one principal, and of nobody else; recorded with who and why; verified as ever; shown as erased."""
    of = tasks(directory)
    done = run("erase", directory, "--principal", "alice", "--reason", "she asked", "--by", "dpo@example.com")
    assert done.code == 0
    assert "principal alice: 2 keys erased, record " in done.out
    assert "backups keep theirs" in done.out
    left = {name for name, key in keys(directory).items() if key.strip("=")}
    assert left == {task for task, name in of.items() if name == "bob"} | (keys(directory).keys() - of.keys())
    what = {"principal": "alice", "keys": "2", "by": "dpo@example.com", "reason": "she asked"}
    assert erasures(directory) == [what]
    report = Verifier(directory / "trust.json").ledger(directory)
    assert (report.verdict, report.completeness) == ("verified", "complete")
    assert [(problem.code, problem.severity) for problem in report.findings] == [("erased", "notice")]
    assert "'alice'" in report.findings[0].message
    assert [(told.principal, told.erased) for told in story(directory)] == [
        ("alice", True),
        ("alice", True),
        ("bob", False),
        (None, False),
    ]
    assert run("show", directory).out.count("its digests cannot be proved any more") == 2


def test_the_digests_of_a_task_are_erased(run: Run, directory: Path) -> None:
    """One task, or the calls outside any task by their stream; again is nothing, and records nothing."""
    task, stream = next(iter(tasks(directory))), (keys(directory).keys() - tasks(directory).keys()).pop()
    for name in (task, stream):
        told = json.loads(run("erase", directory, "--task", name, "--json").out)
        assert (told["kind"], told["name"], told["tasks"], told["keys"]) == ("task", name, 1, 1)
        assert not keys(directory)[name].strip("=")
        again = run("erase", directory, "--task", name)
        assert (again.code, again.out) == (0, f"task {name}: nothing left to erase\n")
    said = erasures(directory)
    assert [erasure["key"] for erasure in said] == [task, stream]
    assert said[0]["by"]
    assert [told.erased for told in story(directory)] == [True, False, False, False]
    assert Verifier(directory / "trust.json").ledger(directory).verdict == "verified"


@pytest.mark.parametrize("target", ["principal", "task"])
def test_requests_for_approval_are_removed(run: Run, tmp_path: Path, target: str) -> None:
    """They hold arguments in clear; they go although the keys went before, and one that cannot be read is named."""
    policy = RuleSet(Rule(Effect.ROUTE, tools="pay", reason="r", id="r", to="desk"))
    directory, waiting = tmp_path / "evidence", tmp_path / "evidence" / "approvals"
    kept: dict[str, bytes] = {}
    with Enforcer.open(directory, policy=policy, routes={"desk": Approval()}) as enforcer:
        pay = enforcer.tool(name="pay")(lambda amount: amount)
        for name in ("alice", "alice", "bob"):
            with enforcer.task("p", principal=Human(name), agent=Agent("clerk", owner="o"), scope=Scope("pay")):
                with pytest.raises(Denied):
                    pay(100)
                kept |= {path.name: path.read_bytes() for path in waiting.glob("*.request")}
    assert len(kept) == 3
    alices = [name for name, data in kept.items() if b"alice" in data]
    chosen = "alice" if target == "principal" else json.loads(kept[alices[0]])["task"]
    gone = alices if target == "principal" else alices[:1]

    def leave(**contents: bytes) -> None:  # As processes do that were killed.
        for name, data in {**kept, **contents}.items():
            (waiting / name).touch(0o600)
            (waiting / name).write_bytes(data)

    leave()
    done = run("erase", directory, f"--{target}", chosen)
    count = f"{len(gone)} request{'s' if len(gone) > 1 else ''} for approval removed"
    assert (done.code, f"{target} {chosen}: {count}" in done.out, "erased, record" in done.out) == (0, True, True)
    assert {path.name for path in waiting.glob("*.request")} == kept.keys() - set(gone)
    leave()
    again = run("erase", directory, f"--{target}", chosen)
    assert (again.code, again.out) == (0, f"{target} {chosen}: {count}\n")
    leave(**{"0.request": b"{}"})
    done = run("erase", directory, f"--{target}", chosen, "--json")
    assert (done.code, "approvals/0.request" in done.err) == (2, True)
    assert {path.name for path in waiting.glob("*.request")} == {"0.request", *(kept.keys() - set(gone))}
    (waiting / "0.request").unlink()
    assert json.loads(run("erase", directory, f"--{target}", chosen, "--json").out)["requests"] == 0


def test_later_tasks_are_not_erased(run: Run, directory: Path) -> None:
    """An erasure is of what there was; who acts again has new keys, and is shown so."""
    run("erase", directory, "--principal", "alice")
    with (
        Enforcer.open(directory) as enforcer,
        enforcer.task("later", principal=Human("alice"), agent=Agent("clerk", owner="o"), scope=Scope("pay")),
        enforcer.action("pay", amount=1),
    ):
        pass
    told = [(item.purpose, item.erased) for item in story(directory) if item.principal == "alice"]
    assert told == [("p", True), ("p", True), ("later", False)]
    run("erase", directory, "--principal", "alice")
    assert [erasure["keys"] for erasure in erasures(directory)] == ["2", "1"]


def test_what_cannot_be_erased_is_said(run: Run, directory: Path) -> None:
    """Unknown names, wrong reasons, other directories and files: exit code 2, and nothing is recorded."""
    before = keys(directory)
    for words, text in (
        (("--task", "unknown"), "no such task"),
        (("--principal", "clerk"), "no such principal"),
        (("--principal", "alice", "--reason", "two\nlines"), "one printable line"),
        (("--principal", "alice", "--reason", ""), "one printable line"),
        (("--principal", "alice", "--by", " x"), "spaces"),
        (("--principal", "\x1b[2J"), ";"),
        ((), "required"),
    ):
        done = run("erase", directory, *words)
        assert (done.code, text in done.err) == (2, True)
        assert "\x1b" not in done.err
    for place in (directory / "trust.json", directory / "ledger"):
        done = run("erase", place, "--principal", "alice")
        assert (done.code, "not the directory of an enforcer" in done.err) == (2, True)
    assert not (directory / "ledger" / "keys").exists()
    assert keys(directory) == before
    assert erasures(directory) == []


def test_malformed_lines_do_not_stop_an_erasure(run: Run, directory: Path) -> None:
    """Whoever damaged the ledger cannot keep a principal from being erased."""
    (path,) = directory.glob("ledger/*/entries.jsonl")
    lines = path.read_bytes().splitlines(keepends=True)
    lines[-1:] = [b"\xff\n", lines[-1].replace(b'"kind"', b'"chain":"\\u0041","kind"')]
    lines.insert(2, lines[2].replace(b'"principal":{', b'"principal":[],"princibal":{'))
    path.write_bytes(b"".join(lines))
    assert "2 keys erased" in run("erase", directory, "--principal", "alice").out


def test_the_record_comes_before_the_erasure(directory: Path, monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    """Killed in between, the keys are there, the ledger verifies, and the next attempt goes on."""

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    before = keys(directory)
    with monkeypatch.context() as patch:
        patch.setattr(DigestKeys, "erase", die)
        assert run("erase", directory, "--principal", "alice").code == 130
    assert keys(directory) == before
    assert len(erasures(directory)) == 1
    assert Verifier(directory / "trust.json").ledger(directory).verdict == "verified"
    assert "2 keys erased" in run("erase", directory, "--principal", "alice").out
    assert len(erasures(directory)) == 2


def test_without_a_record_nothing_is_erased(directory: Path, monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    """If the erasure cannot be recorded and sealed, the keys stay."""

    def fail(*_: object, **__: object) -> None:
        raise EvidenceError("disk full")

    before = keys(directory)
    for part in ("append", "seal"):
        with monkeypatch.context() as patch:
            patch.setattr(Ledger, part, fail)
            done = run("erase", directory, "--principal", "alice")
        assert (done.code, "disk full" in done.err) == (2, True)
        assert keys(directory) == before


def test_a_user_without_a_name_is_named_by_number(directory: Path, monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    """Containers often have one."""

    def nobody() -> str:
        raise KeyError(0)

    monkeypatch.setattr("getpass.getuser", nobody)
    run("erase", directory, "--principal", "bob")
    assert erasures(directory)[0]["by"] == f"uid:{os.getuid()}"


@pytest.mark.parametrize(
    ("erasure", "fits"),
    [
        ({"key": "x"}, True),
        ({"key": "x", "by": "y", "reason": "z"}, True),
        ({"principal": "x", "keys": "3"}, True),
        ({"key": "x", "principal": "y", "keys": "1"}, False),
        ({"principal": "x"}, False),
        ({"key": "x", "keys": "1"}, False),
        ({"key": "x", "reason": "two\nlines"}, False),
        ({}, False),
        ("x", False),
    ],
)
def test_the_shape_of_an_erasure_is_closed(directory: Path, erasure: object, fits: bool) -> None:
    """A key alone fits; a principal has the number of its keys."""
    (path,) = directory.glob("ledger/*/entries.jsonl")
    record = json.loads(path.read_text().splitlines()[-1])["record"]
    del record["end"]
    record |= {"kind": "erasure", "erasure": erasure}
    with contextlib.nullcontext() if fits else pytest.raises(ValueError, match=r"record\.erasure"):
        check_record(record)


def test_an_erasure_without_an_author_is_told(directory: Path) -> None:
    """The words leave out what the record does not say."""
    with Enforcer.open(directory) as enforcer:
        time = {"start": "1764000000000000000"}
        append(enforcer._enforcement.ledger, "erasure", {"erasure": {"key": "x"}, "time": time})
    report = Verifier(directory / "trust.json").ledger(directory)
    assert [problem.message for problem in report.findings] == [
        "the digests of the task 'x' cannot be proved any more: their keys were erased"
    ]


def test_the_key_of_resources_is_erased(run: Run, tmp_path: Path) -> None:
    """One key of all tasks goes, with a record; those of the tasks stay, and a second time there is nothing left."""
    with Enforcer.open(tmp_path / "evidence") as enforcer:

        @enforcer.tool(touches=Touch("file", "/{name}", "read"))
        def read(name: str) -> str:
            return name

        with enforcer.task("p", principal=Human("alice"), agent=Agent("clerk", owner="o"), scope=Scope("read")) as task:
            read("x")
    code, out, err = run("erase", tmp_path / "evidence", "--resources", "--by", "tester")
    assert (code, err) == (0, "")
    assert out.startswith("resources: 1 key erased, record ")
    assert set(keys(tmp_path / "evidence")["resources"]) == {"="}
    assert set(keys(tmp_path / "evidence")[task.id]) != {"="}
    assert [erased["key"] for erased in erasures(tmp_path / "evidence")] == ["resources"]
    assert run("erase", tmp_path / "evidence", "--resources")[1] == "resources: nothing left to erase\n"
    told = json.loads(run("erase", tmp_path / "evidence", "--resources", "--json")[1])
    assert (told["kind"], told["keys"], told["record"]) == ("resources", 0, None)
