"""What operators meet: reading that writes nothing, keys that git leaves alone, a kill switch for several machines."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from importlib.abc import MetaPathFinder
from pathlib import Path

import pytest

from agent_identity import Agent, Denied, Effect, Enforcer, Human, Rule, RuleSet, Scope, Verifier
from agent_identity.approvals import Approval
from agent_identity.cli import main
from agent_identity.errors import ConfigurationError
from agent_identity.identity import TrustStore
from agent_identity.limits import Limit
from agent_identity.state import RedisState, SqliteState

ALICE, CLERK = Human("alice@example.com"), Agent("clerk", owner="finance@example.com")
VECTORS = Path(__file__).parents[1] / "vectors"
POLICY = RuleSet(Rule(Effect.ROUTE, tools="pay", to="desk", id="four-eyes"))


STORES: list[SqliteState] = []


@pytest.fixture(autouse=True)
def _closed_stores() -> Iterator[None]:
    yield
    while STORES:
        STORES.pop().close()


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
        for path in (directory / "approvals").glob("*.request"):
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
    store = SqliteState(state)
    enforcer = Enforcer.open(directory, state=store)
    STORES.append(store)
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
        assert [_code(*machine) for machine in machines] == ["read"] * 2  # The first call makes the file.
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


def _tracked(repository: Path) -> list[str]:
    """Return what ``git add -A`` takes of a new repository."""
    git = ["git", "-c", "core.excludesFile=/dev/null"]
    subprocess.run([*git, "init", "-q"], cwd=repository, check=True)
    subprocess.run([*git, "add", "-A"], cwd=repository, check=True)
    return subprocess.run([*git, "ls-files"], cwd=repository, check=True, capture_output=True, text=True).stdout.split()


@pytest.mark.parametrize("kind", ["file", "link", "folder"])
def test_a_gitignore_of_somebody_else_gives_no_key_away(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    """What is there stays as it is, keys, state and requests hide themselves, and ``init`` says what is left to do."""
    directory, ignore = tmp_path / "evidence", tmp_path / "evidence" / ".gitignore"
    directory.mkdir()
    if kind == "file":
        ignore.write_text("*.log\n")
    elif kind == "link":
        ignore.symlink_to(tmp_path / "nowhere")
    else:
        ignore.mkdir()
    assert main(["init", str(directory)]) == 0
    out = capsys.readouterr().out
    assert ("out of git" in out, "keys/" in out) == (False, True)
    _used(directory)
    assert list((directory / "approvals").glob("*.request"))
    hidden = {"keys", "state", "approvals"}
    assert not [path for path in _tracked(tmp_path) if hidden & set(Path(path).parts)]
    assert (ignore.is_symlink(), ignore.is_dir()) == (kind == "link", kind == "folder")
    assert not (tmp_path / "nowhere").exists()
    assert Verifier().ledger(directory).exit_code == 0


@pytest.mark.parametrize("words", [["revocations"], ["revoke", "everything"], ["reinstate", "everything"]])
@pytest.mark.parametrize("name", ["typo.sqlite", "trust.json/typo.sqlite"])
def test_a_slip_in_the_path_of_a_store_makes_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], name: str
) -> None:
    """A store in which nothing is revoked is not made by the command that looks for one."""
    directory = tmp_path / "d"
    assert main(["init", str(directory)]) == 0
    capsys.readouterr()
    path = directory / name
    assert main([words[0], str(directory), *words[1:], "--state", str(path)]) == 2
    out, err = capsys.readouterr()
    assert (out, str(path) in err, path.exists()) == ("", True, False)


@pytest.mark.parametrize("url", ["redis://u:hunter2@[bad", "redis://u:hunter2", "redis://h?socket_timeout=hunter2"])
def test_a_url_that_cannot_be_read_is_an_error_without_its_password(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], url: str
) -> None:
    """It is no defect of ours, and what is printed can be shown to anybody."""
    assert main(["init", str(tmp_path / "d")]) == 0
    capsys.readouterr()
    assert main(["revocations", str(tmp_path / "d"), "--state", url]) == 2
    out, err = capsys.readouterr()
    assert (out, "hunter2" in err, "defect" in err, "URL" in err) == ("", False, False, True)
    with pytest.raises(ConfigurationError):
        RedisState(url)


@pytest.mark.parametrize("name", ["state.sqlite", "state.sqlite-wal", "state.sqlite-shm"])
def test_a_pipe_in_place_of_the_state_hangs_nobody(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """What is no regular file is refused before it is opened."""
    with Enforcer.open(tmp_path / "d") as enforcer:
        enforcer.revoke("agent", "other")
    path = tmp_path / "d" / "state" / name
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    capsys.readouterr()
    assert main(["revocations", str(tmp_path / "d")]) == 2
    out, err = capsys.readouterr()
    assert (out, str(path) in err) == ("", True)


@pytest.mark.parametrize("command", ["verify", "show"])
@pytest.mark.parametrize("device", ["/dev/zero", "/dev/null"])
def test_a_device_is_no_evidence(capsys: pytest.CaptureFixture[str], command: str, device: str) -> None:
    """One that never ends is not read for ever."""
    assert main([command, device]) == 2
    out, err = capsys.readouterr()
    assert (out, device in err) == ("", True)


def test_what_is_ended_while_it_reads_leaves_no_copy_of_the_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGTERM ends a command as an error does: the private copy of the state is removed."""
    with Enforcer.open(tmp_path / "d") as enforcer:
        enforcer.revoke("agent", "other")
    aside = tmp_path / "aside"
    aside.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(aside))
    seen: list[Path] = []

    def ended(*_arguments: object) -> None:
        seen.extend(aside.iterdir())
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(SqliteState, "get", ended)
    with pytest.raises(SystemExit) as end:
        main(["revocations", str(tmp_path / "d")])
    assert (end.value.code, len(seen), list(aside.iterdir())) == (143, 1, [])
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_whoever_handles_sigterm_keeps_doing_so(tmp_path: Path) -> None:
    """A program that calls ours decides itself what SIGTERM does."""
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        assert main(["init", str(tmp_path / "d")]) == 0
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize("kind", ["link", "folder", "pipe"])
def test_lines_of_others_are_set_aside_whatever_has_the_name_for_them(
    tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Sealing goes on, nothing of them is lost, nothing is written through a link, and ``verify`` reports them."""
    directory = tmp_path / "d"
    with Enforcer.open(directory) as enforcer:
        assert _code(enforcer, enforcer.tool(name="read")(lambda: "read")) == "read"
    rejected = directory / "log" / "rejected.jsonl"
    if kind == "link":
        rejected.symlink_to(tmp_path / "victim")
    elif kind == "folder":
        rejected.mkdir()
    else:
        os.mkfifo(rejected)
    with (directory / "log" / "entries.jsonl").open("ab") as file:
        file.write(b"junk\n")
    with Enforcer.open(directory) as enforcer:
        assert _code(enforcer, enforcer.tool(name="read")(lambda: "read")) == "read"
    assert (directory / "log" / "rejected-1.jsonl").read_bytes() == b"junk\n"
    assert not (tmp_path / "victim").exists()
    report = Verifier().ledger(directory)
    assert (report.exit_code, {finding.code for finding in report.findings}) == (3, {"log_rejected"})
    main(["doctor", str(directory)])
    assert "5 bytes" in capsys.readouterr().out


def test_state_that_a_killed_process_left_is_read_with_its_journal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A copy of a directory that was in use has a journal and no shared memory: what is in the journal counts."""
    with Enforcer.open(tmp_path / "live") as enforcer:
        enforcer.revoke("agent", "other")
        shutil.copytree(tmp_path / "live", tmp_path / "copy")
    (tmp_path / "copy" / "state" / "state.sqlite-shm").unlink()
    assert (tmp_path / "copy" / "state" / "state.sqlite-wal").stat().st_size > 0
    before = _tree(tmp_path / "copy")
    assert main(["revocations", str(tmp_path / "copy"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["entries"][0]["name"] == "other"
    assert _tree(tmp_path / "copy") == before
