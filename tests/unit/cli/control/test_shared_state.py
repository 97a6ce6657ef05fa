"""Every command that reads or changes shared state takes ``--state``."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent_identity import Agent, Denied, Effect, Enforcer, Human, Rule, RuleSet, Scope
from agent_identity.approvals import Approval
from agent_identity.state import SqliteState

Run = Callable[..., tuple[int, str, str]]
ALICE, CLERK = Human("alice@example.com"), Agent("clerk", owner="finance@example.com")
POLICY = RuleSet(Rule(Effect.ROUTE, tools="pay", reason="two people decide", id="four-eyes", to="desk"))


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    return tmp_path / "shared.sqlite"


@pytest.fixture
def enforcer(tmp_path: Path, shared: Path) -> Iterator[Enforcer]:
    state = SqliteState(shared)
    with Enforcer.open(tmp_path / "d", policy=POLICY, routes={"desk": Approval()}, state=state) as opened:
        yield opened
    state.close()


def test_a_person_who_is_suspended_for_all_machines_decides_nothing_by_the_command(
    run: Run, enforcer: Enforcer, shared: Path, tmp_path: Path
) -> None:
    """The list of the store counts for whoever approves with ``--state``; a decision of others lets the call run."""
    enforcer.revoke("human", "mallory", suspend=True)

    @enforcer.tool
    def pay(invoice: str) -> str:
        return invoice

    with enforcer.task("pay it", principal=ALICE, agent=CLERK, scope=Scope("pay")):
        with pytest.raises(Denied, match="is pending"):
            pay("INV-1")
        (asked,) = json.loads(run("approvals", "list", tmp_path / "d", "--json")[1])["requests"]
        words = ("approvals", "approve", tmp_path / "d", asked["id"], "--state", shared, "--by")
        code, _, err = run(*words, "mallory")
        assert (code, "suspended" in err) == (2, True)
        assert run(*words, "bob")[0] == 0
        assert pay("INV-1") == "INV-1"


def test_tasks_and_health_and_doctor_obey_the_lists_of_store_and_directory(
    run: Run, enforcer: Enforcer, shared: Path, tmp_path: Path
) -> None:
    """As the processes do: what either stops is stopped."""
    directory, state = tmp_path / "d", ("--state", shared)
    with enforcer.task("pay it", principal=ALICE, agent=CLERK, scope=Scope("pay")):
        enforcer.revoke("agent", "clerk", suspend=True)
        assert [
            json.loads(run("tasks", directory, "--json", *words)[1])["tasks"][0]["status"] for words in ((), state)
        ] == [
            "open",
            "suspended",
        ]
        assert run("revoke", directory, "owner", "finance@example.com")[0] == 0
        assert [
            json.loads(run("tasks", directory, "--json", *words)[1])["tasks"][0]["status"] for words in ((), state)
        ] == [
            "revoked",
            "revoked",
        ]
    assert run("health", directory, *state)[0] == 0
    assert run("revoke", directory, "everything")[0] == 0
    assert "everything is suspended" in run("health", directory, *state)[1]
    checks = json.loads(run("doctor", directory, "--json", *state)[1])["checks"]
    found = {check["name"]: check for check in checks if check["section"] == "shared state"}
    assert (found["store"]["status"], found["revocations"]["status"]) == ("ok", "ok")
    assert found["revocations"]["detail"] == "version 1 of the list counts here"


def test_the_doctor_finds_a_directory_that_does_not_take_the_list_of_the_others(
    run: Run, enforcer: Enforcer, shared: Path, tmp_path: Path
) -> None:
    """Its machine would refuse every call; without a directory only the store is asked."""
    enforcer.revoke("agent", "clerk")
    assert run("init", tmp_path / "other")[0] == 0
    for words, status in (((tmp_path / "other",), "fail"), ((), None)):
        checks = json.loads(run("doctor", *words, "--json", "--state", shared)[1])["checks"]
        found = {check["name"]: check["status"] for check in checks if check["section"] == "shared state"}
        assert found == {"store": "ok"} if status is None else found == {"store": "ok", "revocations": "fail"}


def test_a_store_that_does_not_answer_shows_no_password(run: Run, tmp_path: Path) -> None:
    """Neither the doctor, nor health, nor a refusal of a command."""
    assert run("init", tmp_path / "d")[0] == 0
    for url in ("redis://user:hush@127.0.0.1:1/0", "postgresql://user:hush@127.0.0.1:1/none"):
        for words in (("doctor",), ("health",), ("tasks",), ("revocations",)):
            code, out, err = run(*words, tmp_path / "d", "--state", url)
            assert code
            assert "hush" not in out + err
            assert "127.0.0.1" not in out + err
