"""The command of a hook and the server behind its socket: real processes, real sockets."""

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from agent_identity import Agent, Enforcer, Human, Scope
from agent_identity.cli.operate.hook_settings import command_of
from agent_identity.errors import ConfigurationError
from agent_identity.integrations.frameworks.coding_agents import command as hook_command
from agent_identity.integrations.frameworks.coding_agents import server as hook_server
from agent_identity.integrations.frameworks.coding_agents.server import HookServer
from agent_identity.integrations.frameworks.coding_agents.sessions import HookSessions

UGLY = hook_command.UGLY
SCRIPT = hook_command.__file__
EVENT = {
    "session_id": "s-1",
    "hook_event_name": "PreToolUse",
    "tool_name": "Bash",
    "tool_input": {"command": "ls"},
    "tool_use_id": "toolu_1",
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "s"


@contextmanager
def serving(path: Path, **options: Any) -> Iterator[HookServer]:
    """Serve hooks in this process."""
    with Enforcer.open(path.parent / "evidence", **options) as enforcer:
        sessions = HookSessions(
            enforcer,
            principal=Human("alice@example.com"),
            agent=Agent("coder", owner="alice@example.com"),
            scope=Scope({"Bash": None}),
        )
        server = HookServer(sessions, path)
        server.listen()
        thread = threading.Thread(target=server.serve)
        thread.start()
        try:
            yield server
        finally:
            server.close()
            thread.join()


def hook(path: Path, event: Any, *words: str, seconds: str = "20", **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the command as it is, without the shell that turns failures into refusals."""
    text = event if isinstance(event, str) else json.dumps(event)
    arguments = (sys.executable, "-I", "-S", SCRIPT, str(path), seconds, *words)
    return subprocess.run(arguments, input=text, capture_output=True, text=True, check=False, **options)


def shell(command: str) -> subprocess.CompletedProcess[str]:
    """Run a command line as the agent does."""
    return subprocess.run(("sh", "-c", command), capture_output=True, text=True, check=False)


@contextmanager
def answering(path: Path, answer: bytes | None) -> Iterator[None]:
    """Answer one connection with bytes, or never."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(str(path))
        server.listen()
        done = threading.Event()

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                if answer is None:
                    done.wait(60)
                else:
                    while connection.recv(65_536):
                        pass
                    connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()


def test_the_command_says_what_the_enforcer_answers(path: Path) -> None:
    """An allowed call has exit code 0 and an answer in JSON, a refused one 2 and the reason for the model."""
    with serving(path):
        allowed = hook(path, EVENT)
        refused = hook(path, {**EVENT, "tool_name": "Write"})
        after = hook(path, {**EVENT, "hook_event_name": "PostToolUse", "tool_response": {"stdout": "x"}})
        ended = hook(path, {**EVENT, "hook_event_name": "SessionEnd"})
    assert (allowed.returncode, json.loads(allowed.stdout)["hookSpecificOutput"]["updatedInput"]) == (
        0,
        {"command": "ls"},
    )
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith("refused: tool_not_granted")
    assert (after.returncode, after.stdout, ended.returncode) == (0, "{}", 0)


def test_no_socket_denies(path: Path) -> None:
    """Where nothing answers, a tool does not run, and after a tool the agent stops."""
    assert hook(path, EVENT).returncode == 2
    after = hook(path, {**EVENT, "hook_event_name": "PostToolUse"})
    assert (after.returncode, json.loads(after.stdout)["continue"]) == (0, False)
    path.write_text("no socket")
    assert hook(path, EVENT).returncode == 2


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"{}",
        b"[0]",
        b'[0, "{}"',
        b'[1, "{}"]',
        b'[true, "{}"]',
        b"[0, {}]",
        b'["0", "{}"]',
        b"[" * 100_000,
        b"\xff",
    ],
)
def test_an_answer_that_is_no_answer_denies(path: Path, answer: bytes) -> None:
    """A truncated or malformed answer lets no tool run."""
    with answering(path, answer):
        ran = hook(path, EVENT)
    assert (ran.returncode, ran.stdout) == (2, "")


def test_no_answer_in_time_denies(path: Path) -> None:
    """The command gives up before the agent would kill it and let the tool run."""
    with answering(path, None):
        ran = hook(path, EVENT, seconds="0.3")
    assert (ran.returncode, "TimeoutError" in ran.stderr) == (2, True)


def test_an_input_that_never_ends_denies(path: Path) -> None:
    """The time counts from the start of the command, also while it waits for the event."""
    arguments = (sys.executable, "-I", "-S", SCRIPT, str(path), "0.3")
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.wait(30) == 2


@pytest.mark.parametrize("event", ["", "{", "[]", "null", "[" * 100_000, '{"hook_event_name": 7}'])
def test_a_broken_event_denies(path: Path, event: str) -> None:
    """What is no event of a hook is refused, with an enforcer and without one."""
    with serving(path):
        assert hook(path, event).returncode == 2
    assert hook(path, event).returncode == 2


@pytest.mark.parametrize("words", [(), ("path",), ("path", "soon"), ("path", "nan", "x")])
def test_wrong_usage_denies(words: tuple[str, ...]) -> None:
    """A command line that is not the installed one refuses."""
    ran = subprocess.run((sys.executable, "-I", "-S", SCRIPT, *words), input="{}", text=True, check=False)
    assert ran.returncode == 2


def test_an_event_that_is_too_large_denies(path: Path) -> None:
    """The command sends no more than 16 MiB, and the server takes no more."""
    with serving(path):
        assert hook(path, {**EVENT, "tool_input": {"x": "y" * hook_command.MAX_BYTES}}).returncode == 2
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.connect(str(path))
            with pytest.raises((BrokenPipeError, ConnectionResetError)):
                client.sendall(b" " * (2 * hook_command.MAX_BYTES))
        assert hook(path, EVENT).returncode == 0


def test_the_ugly_option_lets_tools_run(path: Path) -> None:
    """Only where it was asked for, in these words, does no answer mean yes; a refusal is still one."""
    assert hook(path, EVENT, UGLY).returncode == 0
    assert hook(path, EVENT, UGLY, "x").returncode == 2
    with serving(path):
        assert hook(path, {**EVENT, "tool_name": "Write"}, UGLY).returncode == 2


def test_the_shell_refuses_where_the_command_cannot_start(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing interpreter or script, and a killed process, end in a refusal by the rest of the command line."""
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    before = command_of(str(path), "PreToolUse", patience=5)
    after = command_of(str(path), "PostToolUse", patience=5)
    assert shell(before).returncode == 2
    stopped = shell(after)
    assert (stopped.returncode, json.loads(stopped.stdout)["continue"]) == (0, False)
    killed = f"{shlex.join(['sh', '-c', f'kill -{signal.SIGKILL.value} $$'])} {before[before.index('||') :]}"
    assert shell(killed).returncode == 2


def test_the_command_needs_no_package(path: Path, tmp_path: Path) -> None:
    """It runs with the standard library alone, and takes no module from the folder in which the agent works."""
    for name in ("json.py", "socket.py", "agent_identity.py"):
        (tmp_path / name).write_text("raise SystemExit(0)")
    assert hook(path, EVENT, cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)}).returncode == 2


def test_the_socket_is_for_its_owner(path: Path) -> None:
    """Nobody else may open the socket."""
    with serving(path):
        assert path.stat().st_mode & 0o777 == 0o600
    assert not path.exists()


@pytest.mark.skipif(not hasattr(socket, "SO_PEERCRED"), reason="the kernel does not identify peers")
def test_processes_of_other_users_get_no_answer(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel says who asks, and the server answers no other user; here it takes itself for another one."""
    with serving(path):
        assert hook(path, EVENT).returncode == 0
        other = os.geteuid() + 1
        monkeypatch.setattr(os, "geteuid", lambda: other)
        assert hook(path, EVENT).returncode == 2


def test_a_server_that_stops_leaves_the_socket_of_the_next_one(path: Path) -> None:
    """Whoever took the place of a socket keeps it, and its hooks their answers."""
    with serving(path) as first:
        path.unlink()
        with Enforcer.open(path.parent / "next") as enforcer:
            who = {"principal": Human("alice@example.com"), "agent": Agent("coder", owner="alice@example.com")}
            second = HookServer(HookSessions(enforcer, scope=Scope({"Bash": None}), **who), path)
            second.listen()
            first.stop()
            assert path.is_socket()
            second.close()
            assert not path.exists()


def test_a_dead_socket_is_replaced_and_nothing_else(path: Path, tmp_path: Path) -> None:
    """The socket of a server that was killed is no obstacle; a file, and that of a living one, are."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dead:
        dead.bind(str(path))
    with serving(path) as server, pytest.raises(ConfigurationError):
        HookServer(server._sessions, path).listen()
    path.write_text("mine")
    with pytest.raises(ConfigurationError), serving(path):
        pass
    assert path.read_text() == "mine"
    with pytest.raises(ConfigurationError), serving(tmp_path / ("x" * 200)):
        pass


def test_connections_are_bounded(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where too many clients wait, further ones get no answer, which refuses; afterwards there is room again."""
    monkeypatch.setattr(hook_server, "_MAX_CONNECTIONS", 2)
    with serving(path):
        clients = [socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) for _ in range(2)]
        for client in clients:
            client.connect(str(path))
        assert hook(path, EVENT).returncode == 2
        for client in clients:
            client.shutdown(socket.SHUT_WR)
            assert client.recv(1) == b""
            client.close()
        assert hook(path, EVENT).returncode == 0


def test_a_slow_client_is_left(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request has to arrive within its time as a whole."""
    monkeypatch.setattr(hook_server, "_SECONDS", 0.2)
    with serving(path), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.connect(str(path))
        client.sendall(b"{")
        client.settimeout(30)
        assert client.recv(1) == b""


def test_monitor_mode_lets_run_what_it_would_refuse(path: Path) -> None:
    """In monitor mode the enforcer answers, and refuses nothing."""
    with serving(path, mode="monitor"):
        ran = hook(path, {**EVENT, "tool_name": "Write"})
    assert (ran.returncode, ran.stdout) == (0, "{}")
