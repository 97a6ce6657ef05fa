"""``agent-identity health``: what a probe is told of a directory, from outside the processes that use it."""

import base64
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from agent_identity import Agent, Enforcer, Human, Scope
from agent_identity.cli import main
from agent_identity.cli.operate import health

CLERK = Agent("clerk", owner="finance@example.com")
Ask = Callable[..., tuple[int, dict[str, str]]]

WORKER = """
import os, sys, time
from agent_identity import Agent, Enforcer, Human, Scope
enforcer = Enforcer.open(sys.argv[1])
clerk = Agent("clerk", owner="finance@example.com")
with enforcer.task("pay", principal=Human("alice"), agent=clerk, scope=Scope("pay")):
    if sys.argv[2:]:
        os._exit(0)
    print("ready", flush=True)
    sys.stdin.read()
enforcer.close()
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A directory with one task of a process that ended."""
    with Enforcer.open(tmp_path / "evidence") as enforcer, task(enforcer):
        pass
    return tmp_path / "evidence"


def task(enforcer: Enforcer) -> Any:
    """Return a task of an enforcer."""
    return enforcer.task("pay", principal=Human("alice"), agent=CLERK, scope=Scope("pay"))


@pytest.fixture
def ask(capsys: pytest.CaptureFixture[str]) -> Ask:
    """Return what runs the command and returns its exit code and what is degraded."""

    def run(*words: object) -> tuple[int, dict[str, str]]:
        code = main(["health", *map(str, words), "--json"])
        answer = json.loads(capsys.readouterr().out)
        assert answer["healthy"] is (code == 0)
        return code, answer["degraded"]

    return run


def test_a_directory_that_works_is_healthy(
    directory: Path, ask: Ask, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """With and without a running process; nothing is written."""
    before = sorted((path, path.lstat().st_mtime_ns) for path in directory.rglob("*"))
    assert ask(directory) == (0, {})
    assert main(["health", str(directory)]) == 0
    assert capsys.readouterr().out == "healthy\n"
    assert sorted((path, path.lstat().st_mtime_ns) for path in directory.rglob("*")) == before
    with Enforcer.open(directory) as enforcer, task(enforcer):
        enforcer.revoke("agent", "other")
        assert ask(directory) == (0, {})
    assert main(["init", str(tmp_path / "new")]) == 0
    capsys.readouterr()
    assert ask(tmp_path / "new") == (0, {})


def test_what_is_no_directory_cannot_be_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2 is neither healthy nor sick."""
    assert main(["health", str(tmp_path)]) == 2
    assert "is not the directory of an enforcer" in capsys.readouterr().err


@pytest.mark.parametrize("dies", [True, False])
def test_a_process_that_died_or_hangs_leaves_records_that_wait(
    directory: Path, ask: Ask, monkeypatch: pytest.MonkeyPatch, dies: bool
) -> None:
    """Until the next start, or until it goes on."""
    words = [sys.executable, "-c", WORKER, str(directory), *(["dies"] if dies else [])]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as worker:
        monkeypatch.setattr(health, "_LATE", -1)
        if dies:
            worker.wait(60)
        else:
            worker.stdout.readline()
            end = time.monotonic() + 30
            while ask(directory) != (0, {}):
                assert time.monotonic() < end
            os.kill(worker.pid, signal.SIGSTOP)
            (stream,) = (path for path in directory.glob("ledger/*/entries.jsonl") if not _settled(path))
            with stream.open("ab") as file:  # As if it had written its next record, and no more.
                last = stream.read_bytes().splitlines()[-1]
                seq = last.split(b'"seq":"')[1].partition(b'"')[0]
                file.write(last.replace(b'"seq":"' + seq, b'"seq":"%d' % (int(seq) + 1)) + b"\n")
        code, found = ask(directory)
        assert (code, set(found)) == (1, {"ledger"})
        assert "has waited" in found["ledger"]
        monkeypatch.setattr(health, "_LATE", 3_600)
        assert ask(directory) == (0, {})
        if not dies:
            os.kill(worker.pid, signal.SIGKILL)
    monkeypatch.setattr(health, "_LATE", -1)
    Enforcer.open(directory).close()
    assert ask(directory) == (0, {}) if dies else ask(directory)[0] in (0, 1)


def _settled(path: Path) -> bool:
    return (path.parent / "lock").stat().st_size > 0


def test_a_disk_that_fills_up_warns_and_a_full_one_fails(
    directory: Path, ask: Ask, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without room nothing is recorded, and so nothing runs."""

    def room(free: int) -> None:
        facts = SimpleNamespace(f_bavail=free, f_frsize=1, f_files=0, f_favail=0)
        monkeypatch.setattr(os, "statvfs", lambda path: facts)

    room(50 << 20)
    assert ask(directory) == (0, {"disk": "50 MiB free; free some space: without evidence nothing runs"})
    assert main(["health", str(directory)]) == 0
    assert capsys.readouterr().out.startswith("healthy, with warnings\n  disk: 50 MiB free")
    room(1 << 19)
    assert ask(directory)[0] == 1
    assert main(["health", str(directory)]) == 1
    assert capsys.readouterr().out.startswith("not healthy\n  ledger: 0 MiB free")


def test_everything_suspended_is_told(directory: Path, ask: Ask) -> None:
    """While the enforcer runs, and after its end."""
    with Enforcer.open(directory) as enforcer:
        enforcer.revoke("everything")
        code, found = ask(directory)
        assert (code, set(found)) == (1, {"revocations"})
    assert ask(directory)[0] == 1
    with Enforcer.open(directory) as enforcer:
        enforcer.reinstate("everything")
    assert ask(directory) == (0, {})


@pytest.mark.parametrize("signed", [b"", b"a.b", b"a.@.c", b"a.%s.c" % base64.urlsafe_b64encode(b"[]")])
def test_a_list_of_another_form_suspends_nothing_here(signed: bytes) -> None:
    """Processes refuse everything because of it, and their own probes say so."""
    assert not health._suspends_everything(signed)


def test_a_state_that_cannot_be_read_is_told(directory: Path, ask: Ask, tmp_path: Path) -> None:
    """Without the words of a URL."""
    (directory / "state" / "state.sqlite").write_bytes(b"garbage" * 1_000)
    code, found = ask(directory)
    assert (code, set(found)) == (1, {"state"})
    (directory / "state" / "state.sqlite").unlink()
    assert ask(directory, "--state", "redis://user:hush@127.0.0.1:1/0") == (
        1,
        {"state": "the Redis server failed with ConnectionError; check the server and the way to it"},
    )


def test_a_shared_state_is_asked_in_place_of_the_own_one(directory: Path, ask: Ask, tmp_path: Path) -> None:
    """Its list counts."""
    from agent_identity.state import SqliteState

    state = SqliteState(tmp_path / "shared.sqlite")
    with Enforcer.open(directory, state=state) as enforcer, task(enforcer):
        enforcer.revoke("everything")
    state.close()
    assert ask(directory) == (0, {})
    assert set(ask(directory, "--state", tmp_path / "shared.sqlite")[1]) == {"revocations"}


def test_keys_and_certificates_that_end_soon_warn(directory: Path, ask: Ask) -> None:
    """A warning stops no traffic."""
    path, now = directory / "trust.json", int(time.time())
    trust = json.loads(path.read_bytes())
    for key in trust["keys"]:
        key["not_after"] = now + 3 * 86_400
    path.write_text(json.dumps(trust), encoding="utf-8")
    code, found = ask(directory)
    assert (code, set(found)) == (0, {"keys"})
    assert found["keys"].count("expires in 2 days") + found["keys"].count("expires in 3 days") == 2
    trust["keys"] = []
    path.write_text(json.dumps(trust), encoding="utf-8")
    claims = base64.urlsafe_b64encode(json.dumps({"nbf": now - 900, "exp": now + 60}).encode()).rstrip(b"=")
    (directory / "keys" / "recorder.certificate").write_bytes(b"a." + claims + b".c")
    assert "the recorder certificate expires in 0 hours; have the root" in ask(directory)[1]["keys"]
    path.write_bytes(b"garbage")
    assert set(ask(directory)[1]) == {"keys"}


def test_a_receiver_that_lags_warns(directory: Path, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the place up to which it has the stream of a running process."""
    with Enforcer.open(directory) as enforcer:
        with task(enforcer):
            pass
        enforcer._enforcement.ledger.seal()
        cursors = directory / "exports" / "0123456789abcdef"
        cursors.mkdir(parents=True)
        assert ask(directory) == (0, {})
        monkeypatch.setattr(health, "_LAGS", -1)
        code, found = ask(directory)
        assert (code, set(found)) == (0, {"export"})
        (cursors / enforcer._enforcement.ledger.stream).write_text('{"seq":"99"}', encoding="utf-8")
        assert ask(directory) == (0, {})


def test_a_ledger_that_cannot_be_listed_fails(directory: Path, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    """The user of the probe has to be that of the enforcer."""

    def refused(path: str) -> None:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "scandir", refused)
    code, found = ask(directory)
    assert (code, set(found)) == (1, {"ledger"})
    assert "Permission denied" in found["ledger"]


def test_a_probe_loads_little(directory: Path) -> None:
    """It runs every few seconds: neither cryptography, nor OpenTelemetry, nor the guard is loaded."""
    program = f"import sys\nfrom agent_identity.cli import main\nmain(['health', {str(directory)!r}])\n"
    heavy = "('cryptography', 'opentelemetry', 'pydantic', 'msgspec', 'orjson', 'agent_identity._guard')"
    program += f"print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "healthy\n[]\n"
