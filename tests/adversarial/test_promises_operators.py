"""What operators meet: reading that writes nothing, keys that git leaves alone, a kill switch for several machines."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from pathlib import Path

import pytest

from agent_identity import Agent, Denied, Effect, Enforcer, Human, Rule, RuleSet, Scope, TrustStore
from agent_identity.approvals import Approval
from agent_identity.cli import main
from agent_identity.limits import Limit
from agent_identity.state import SqliteState

ALICE, CLERK = Human("alice@example.com"), Agent("clerk", owner="finance@example.com")
VECTORS = Path(__file__).parents[1] / "vectors"
POLICY = RuleSet(Rule(Effect.ROUTE, tools="pay", route="desk", id="four-eyes"))


def _used(directory: Path) -> None:
    """Leave a directory in which a limit was counted, an approval waits, and somebody is suspended."""
    with Enforcer.open(directory, policy=POLICY, routes={"desk": Approval()}) as enforcer:
        read = enforcer.tool(name="read")(lambda: "read")
        pay = enforcer.tool(name="pay")(lambda: "paid")
        opening = enforcer.task(
            "pay", principal=ALICE, agent=CLERK, scope=Scope("read") | Scope("pay"), limits=(Limit.uses("read", 3),)
        )
        opening.__enter__()  # It stays open, as where the process is killed.
        read()
        with pytest.raises(Denied):
            pay()
        enforcer.revoke("agent", "other", suspend=True)
        for path in (directory / "approvals").iterdir():
            shutil.copy2(path, directory / path.name)
        opening.__exit__(None, None, None)
    words = ["--owner", "finance@example.com", "--purpose", "pay", "--tool", "pay"]
    assert main(["agents", "add", str(directory), "clerk", *words]) == 0
    for path in directory.glob("*.request"):
        path.rename(directory / "approvals" / path.name)


def _tree(directory: Path) -> dict[str, tuple[int, int, bytes]]:
    """Return every file and folder with its mode, its time and its content."""
    return {
        str(path.relative_to(directory)): (
            path.stat().st_mode,
            path.stat().st_mtime_ns,
            path.read_bytes() if path.is_file() else b"",
        )
        for path in [directory, *directory.rglob("*")]
    }


READING = [
    (("revocations",), "other"),
    (("approvals", "list"), "pay"),
    (("inventory", "list"), "no servers"),
    (("agents", "list"), "clerk"),
    (("tasks", "--all"), "ended"),
    (("show",), "alice@example.com"),
    (("verify",), "VERIFIED"),
    (("doctor",), "shared state"),
]


@pytest.mark.parametrize(("words", "shown"), READING, ids=[words[0] for words, _ in READING])
@pytest.mark.parametrize("keys", [True, False], ids=["with keys", "without private keys"])
def test_reading_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], shown: str, keys: bool
) -> None:
    """Neither a stream nor a folder nor a time changes when somebody looks, and no private key is needed for it."""
    directory = tmp_path / "evidence"
    _used(directory)
    if not keys:
        shutil.rmtree(directory / "keys")
    before = _tree(directory)
    code = main([words[0], *words[1:2], str(directory), *words[2:]] if len(words) > 1 else [*words, str(directory)])
    assert _tree(directory) == before
    printed = capsys.readouterr()
    if words[0] != "doctor":
        assert (code, printed.err) == (0, "")
    assert shown in printed.out


@pytest.mark.parametrize("words", [words for words, _ in READING if words[0] in {"revocations", "inventory", "tasks"}])
def test_reading_an_empty_directory_makes_nothing_in_it(tmp_path: Path, words: tuple[str, ...]) -> None:
    """A copy of the trust file alone stays alone."""
    shutil.copy(VECTORS / "evidence" / "trust.json", tmp_path / "trust.json")
    assert main([words[0], *words[1:2], str(tmp_path)] if len(words) > 1 else [*words, str(tmp_path)]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["trust.json"]


def test_reading_beside_a_running_process_sees_what_it_did(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The copy that is read holds what another process wrote a moment ago, and the evidence stays as it is."""
    with Enforcer.open(tmp_path / "d") as enforcer:
        enforcer.revoke("agent", "other", reason="odd calls")
        streams = sorted(path.name for path in (tmp_path / "d" / "ledger").iterdir())
        assert main(["revocations", str(tmp_path / "d"), "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["entries"][0]["name"] == "other"
        assert sorted(path.name for path in (tmp_path / "d" / "ledger").iterdir()) == streams


@pytest.mark.parametrize("made", ["open", "init"])
def test_git_leaves_private_keys_alone(tmp_path: Path, made: str) -> None:
    """``git add -A`` in a project with an evidence directory takes public keys at most."""
    if made == "open":
        _used(tmp_path / "evidence")
    else:
        assert main(["init", str(tmp_path / "evidence")]) == 0
    git = ["git", "-c", "core.excludesFile=/dev/null"]
    subprocess.run([*git, "init", "-q"], cwd=tmp_path, check=True)
    subprocess.run([*git, "add", "-A"], cwd=tmp_path, check=True)
    listed = subprocess.run([*git, "ls-files"], cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    assert listed.split() == ["evidence/.gitignore", "evidence/trust.json"]


def _machine(directory: Path, state: Path) -> tuple[Enforcer, Callable[[], str]]:
    """Return the enforcer of a machine that shares a store with others, and a tool of it."""
    enforcer = Enforcer.open(directory, state=SqliteState(state))
    return enforcer, enforcer.tool(name="read")(lambda: "read")


def _code(enforcer: Enforcer, tool: Callable[[], str]) -> str:
    """Return what a call under a task of alice gives: its result, or the code of the refusal."""
    try:
        with enforcer.task("read", principal=ALICE, agent=CLERK, scope=Scope("read")):
            return tool()
    except Denied as denied:
        return denied.code


def _of_one_issuer(*directories: Path) -> None:
    """Give machines one issuer and each other's keys, as the how-to says."""
    for directory in directories:
        assert main(["init", str(directory)]) == 0
    stores = [TrustStore.load(directory / "trust.json") for directory in directories]
    issuers = [next(key for key in store.keys if key.purpose == "issuer") for store in stores]
    for directory, store in zip(directories, stores, strict=True):
        own = [key for key in store.keys if key.purpose != "issuer"]
        TrustStore(keys=(*issuers, *own), issuer="https://fleet.example", origin=store.origin).save(
            directory / "trust.json"
        )


def test_a_suspension_from_another_machine_is_lifted_from_either(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Machines of one issuer that know each other's keys obey, and change, one list in the store that they share."""
    state, first, second = tmp_path / "shared.sqlite", tmp_path / "first", tmp_path / "second"
    _of_one_issuer(first, second)
    machines = [_machine(first, state), _machine(second, state)]
    try:
        for suspending, lifting in ((first, second), (second, second), (second, first)):
            words = ["agent", "clerk", "--state", str(state)]
            assert main(["revoke", str(suspending), *words, "--suspend"]) == 0
            assert [_code(*machine) for machine in machines] == ["suspended"] * 2
            assert main(["reinstate", str(lifting), *words]) == 0
            assert [_code(*machine) for machine in machines] == ["read"] * 2
        capsys.readouterr()
        assert main(["revocations", str(first), "--state", str(state)]) == 0
        assert capsys.readouterr().out == "nothing is revoked\n"
    finally:
        for enforcer, _ in machines:
            enforcer.close()


def test_a_list_of_a_machine_that_is_not_trusted_stops_and_says_how_to_go_on(tmp_path: Path) -> None:
    """Machines that know nothing of each other refuse everything rather than pass over what was revoked."""
    state = tmp_path / "shared.sqlite"
    machines = [_machine(tmp_path / "first", state), _machine(tmp_path / "second", state)]
    try:
        machines[0][0].revoke(CLERK, suspend=True)
        assert [_code(*machine) for machine in machines] == ["suspended", "revocations_unreadable"]
    finally:
        for enforcer, _ in machines:
            enforcer.close()


def test_without_a_store_the_kill_switch_says_whom_it_does_not_reach(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever revokes in a directory learns that machines that share a store are reached another way."""
    assert main(["init", str(tmp_path / "d")]) == 0
    capsys.readouterr()
    assert main(["revoke", str(tmp_path / "d"), "everything"]) == 0
    assert "--state" in capsys.readouterr().out


@pytest.mark.parametrize("url", ["mysql://db/agents", "http://localhost"])
def test_a_store_that_nobody_knows_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], url: str) -> None:
    """A URL that names no store stops nothing and says so."""
    assert main(["init", str(tmp_path / "d")]) == 0
    assert main(["revoke", str(tmp_path / "d"), "everything", "--state", url]) == 2
    assert "redis" in capsys.readouterr().err


def test_ctrl_c_while_the_program_is_still_loading_is_quiet(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the first second, before any command has begun, it ends as later: with 130 and without a traceback."""

    class Interrupted(MetaPathFinder):
        def find_spec(self, fullname: str, path: Sequence[str] | None, target: object = None) -> None:
            if fullname == "agent_identity.cli.program":
                raise KeyboardInterrupt

    import agent_identity.cli

    monkeypatch.delitem(sys.modules, "agent_identity.cli.program", raising=False)
    monkeypatch.delattr(agent_identity.cli, "program", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Interrupted(), *sys.meta_path])
    assert main(["--help"]) == 130
    assert capsys.readouterr() == ("", "")


def test_a_file_that_is_no_evidence_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """``show`` of anything else says so, and never that there is nothing to show."""
    (tmp_path / "README.md").write_text("# A project\n")
    assert main(["show", str(tmp_path / "README.md")]) == 2
    out, err = capsys.readouterr()
    assert (out, "README.md" in err) == ("", True)


def test_a_trust_file_is_called_what_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Who verifies the keys instead of the evidence is told how to name them."""
    assert main(["init", str(tmp_path / "d")]) == 0
    capsys.readouterr()
    assert main(["verify", str(tmp_path / "d" / "trust.json")]) == 2
    out, err = capsys.readouterr()
    assert (out, "--trust" in err) == ("", True)


def test_json_of_a_back_end_is_sent_to_the_option_for_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """JSON that is no OTLP may be what an interface shows, which another option reads."""
    (tmp_path / "trace.json").write_text('{"data": [{"trace_id": "a", "spans": []}]}')
    assert main(["verify", str(tmp_path / "trace.json"), "--trust", str(VECTORS / "evidence" / "trust.json")]) == 2
    assert "--span" in capsys.readouterr().out
