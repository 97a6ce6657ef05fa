"""``agent-identity revoke``, ``reinstate``, ``revocations`` and ``tasks``: the kill switch for people at a shell."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent_identity import Agent, Denied, Enforcer, Human, Scope
from agent_identity.options import Sources

Run = Callable[..., tuple[int, str, str]]
ALICE = Human("alice@example.com")
CLERK = Agent("clerk", owner="finance@example.com")
REACH = "it reaches the processes of this directory; use --state URL to reach machines that share a store\n"


@pytest.fixture
def enforcer(tmp_path: Path) -> Iterator[Enforcer]:
    with Enforcer.open(tmp_path / "d") as opened:
        yield opened


def test_a_task_is_listed_stopped_and_goes_on(run: Run, enforcer: Enforcer, tmp_path: Path) -> None:
    """What the shell does takes hold in the process that runs, and the list says so."""
    directory, tool = tmp_path / "d", enforcer.tool(name="tool")(abs)
    assert run("tasks", directory) == (0, "no task is open\n", "")
    with enforcer.task("pay", principal=ALICE, agent=CLERK, scope=Scope("tool")) as task:
        tool(-1)
        assert run("revoke", directory, "agent", "clerk", "--suspend", "--reason", "odd") == (
            0,
            "agent clerk: suspended, in version 1 of the list\n" + REACH,
            "",
        )
        with pytest.raises(Denied, match="odd"):
            tool(-2)
        code, out, _ = run("tasks", directory, "--json")
        (told,) = json.loads(out)["tasks"]
        assert json.loads(run("tasks", directory, "--jsonl")[1]) == told
        assert (code, told["task"], told["status"], told["calls"], told["refused"]) == (0, task.id, "suspended", 2, 1)
        assert (told["principal"], told["agent"], told["owner"]) == (ALICE.id, "clerk", "finance@example.com")
        assert int(told["expires_ns"]) == task.expires_at * 10**9
        assert run("reinstate", directory, "agent", "clerk", "--json")[1] == (
            '{"kind": "agent", "name": "clerk", "status": "reinstated", "version": 2}\n'
        )
        assert tool(-3) == 3
        code, out, _ = run("tasks", directory)
        assert code == 0
        assert out.startswith(f"  open  {task.id}  alice@example.com → clerk  until ")
        assert out.endswith("3 calls  pay\n")
    assert run("tasks", directory) == (0, "no task is open\n", "")
    code, out, _ = run("tasks", directory, "--all")
    assert (code, out.split()[0]) == (0, "ended")


def test_the_list_is_shown_and_handed_on(run: Run, enforcer: Enforcer, tmp_path: Path) -> None:
    """A signed list leaves as a file and comes in as one."""
    directory, file = tmp_path / "d", tmp_path / "list"
    assert run("revocations", directory) == (0, "nothing is revoked\n", "")
    assert run("revoke", directory, "everything")[1] == "everything: suspended, in version 1 of the list\n" + REACH
    assert run("revoke", directory, "human", "bob", "--json")[0] == 0
    code, out, err = run("revocations", directory, "--export", file)
    assert (code, err) == (0, "")
    rows = [line.split() for line in out.splitlines()]
    assert rows[0][:2] == ["suspended", "everything"]
    assert rows[1][:3] == ["revoked", "human", "bob"]
    assert rows[-1][:2] == ["version", "2"]
    code, out, _ = run("revocations", directory, "--adopt", file, "--json")
    told = json.loads(out)
    assert (code, told["version"], len(told["entries"])) == (0, 2, 2)


def test_an_expired_task_is_not_open(run: Run, tmp_path: Path) -> None:
    """A task that nobody ended is over when its authority is."""
    from agent_identity.testing import FixedClock

    with Enforcer.open(tmp_path / "d", sources=Sources(clock=FixedClock())) as enforcer:
        opening = enforcer.task("pay", principal=ALICE, agent=CLERK, scope=Scope("tool"))
        opening.__enter__()
        assert run("tasks", tmp_path / "d") == (0, "no task is open\n", "")
        assert run("tasks", tmp_path / "d", "--all")[1].split()[0] == "expired"
        opening.__exit__(None, None, None)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("revoke", "agent"), "the name of the agent is missing"),
        (("reinstate", "agent", "clerk"), "not suspended"),
        (("revoke", "agent", " x"), "the name of the agent"),
        (("revocations", "--export", "x"), "nothing has been revoked yet"),
        (("revocations", "--adopt", "/no/such/file"), "check the path"),
    ],
)
def test_what_cannot_be_done_is_said(
    run: Run, enforcer: Enforcer, tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    """A complaint on standard error, and exit code 2."""
    code, out, err = run(words[0], tmp_path / "d", *words[1:])
    assert (code, out) == (2, "")
    assert message in err


def test_a_name_that_no_record_has_is_revoked_and_told(run: Run, tmp_path: Path) -> None:
    """A slip in the name must not look like the end of an agent; one of an agent that acted is not remarked on."""
    with Enforcer.open(tmp_path / "d") as enforcer:
        who = {"principal": Human("alice"), "agent": Agent("clerk", owner="boss")}
        with enforcer.task("pay", **who, scope=Scope("pay")):
            pass
    for _ in range(2):  # The record of the first revocation has the name as well.
        code, out, err = run("revoke", tmp_path / "d", "agent", "clrk")
        assert (code, "revoked" in out, "no record of this directory names the agent clrk" in err) == (0, True, True)
    assert "clrk" in run("revocations", tmp_path / "d")[1]
    for kind, name in (("agent", "clerk"), ("human", "alice")):
        assert run("revoke", tmp_path / "d", kind, name)[2] == ""


def test_a_directory_of_nobody_is_not_made_one(run: Run, tmp_path: Path) -> None:
    """The kill switch of a directory that does not exist is a mistake in its name."""
    for words in (("revoke", tmp_path / "x", "everything"), ("revocations", tmp_path / "x"), ("tasks", tmp_path / "x")):
        code, _, err = run(*words)
        assert code == 2
        assert str(tmp_path / "x") in err
    assert not (tmp_path / "x").exists()
    (tmp_path / "file").write_text("")
    assert run("tasks", tmp_path / "file")[0] == 2


def test_whoever_has_the_keys_revokes_where_the_agents_have_none(run: Run, tmp_path: Path) -> None:
    """A directory without private keys is stopped with the keys of the signer's directory."""
    directory, keys = tmp_path / "d", tmp_path / "signer"
    with Enforcer.open(directory):
        pass
    (keys / "keys").mkdir(parents=True)
    for name in ("issuer.pem", "recorder.pem"):
        (directory / "keys" / name).rename(keys / "keys" / name)
    assert run("revoke", directory, "agent", "clerk")[0] == 2
    code, out, err = run("revoke", directory, "agent", "clerk", "--suspend", "--keys", keys)
    assert (code, out) == (0, "agent clerk: suspended, in version 1 of the list\n" + REACH)
    assert "no record" in err
    assert "clerk" in run("revocations", directory, "--keys", keys)[1]
    assert run("reinstate", directory, "agent", "clerk", "--keys", keys)[0] == 0
    assert not (directory / "keys" / "issuer.pem").exists()


def test_a_name_that_begins_with_a_dash_is_one_after_two(run: Run, enforcer: Enforcer, tmp_path: Path) -> None:
    """One of 64 hashes does."""
    directory, dashed = tmp_path / "d", "-" + 42 * "a"
    assert run("revoke", directory, "grant", dashed)[0] == 2
    code, out, _ = run("revoke", directory, "grant", "--", dashed)
    assert (code, out.splitlines()[0]) == (0, f"grant {dashed}: revoked, in version 1 of the list")
    code, out, _ = run("revoke", "--json", directory, "grant", "--", dashed)
    assert (code, json.loads(out)["name"]) == (0, dashed)
