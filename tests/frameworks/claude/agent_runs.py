"""Runs the real command line of Claude Code, which comes with its SDK, against a stand-in for the API."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from stand_in import Script, StandIn

SECONDS = 120


class Ran(NamedTuple):
    """What a run left."""

    project: Path
    stand_in: StandIn
    printed: dict[str, Any]

    def result(self, number: str) -> dict[str, Any]:
        """Return what the model got for a tool call."""
        return self.stand_in.results()[f"toolu_{number}"]


def command_line() -> str:
    """Return the path of the command line."""
    spec = find_spec("claude_agent_sdk")
    assert spec is not None
    assert spec.origin is not None
    return str(Path(spec.origin).parent / "_bundled" / "claude")


def environment(home: Path, stand_in: StandIn) -> dict[str, str]:
    """Return an environment in which nothing of this machine's settings counts, and nothing leaves it."""
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join(sys.path),
        "HOME": str(home),
        "ANTHROPIC_BASE_URL": stand_in.url,
        "ANTHROPIC_API_KEY": "sk-ant-of-nobody",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "IS_SANDBOX": "1",  # Root may skip the prompts only there.
    }


def run(project: Path, script: Script, helper: Script = (), *more: str) -> Ran:
    """Let the agent work in a folder, without prompts."""
    home = project.parent / "home"
    home.mkdir(exist_ok=True)
    stand_in = StandIn(script, helper)
    words = (command_line(), "-p", "do it", "--dangerously-skip-permissions", "--output-format", "json", *more)
    with stand_in.running():
        done = subprocess.run(
            words,
            cwd=project,
            env=environment(home, stand_in),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    return Ran(project, stand_in, json.loads(done.stdout))


def agent_identity(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a command of ours."""
    return subprocess.run(
        (sys.executable, "-m", "agent_identity", *words),
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


@contextmanager
def serving(project: Path, *words: str) -> Iterator[subprocess.Popen[str]]:
    """Run ``hooks serve`` for a block, with hooks of the project installed."""
    installed = agent_identity("hooks", "install", "evidence", "--settings", "project", cwd=project)
    assert installed.returncode == 0, installed.stderr
    with _server(project, words) as server:
        yield server


@contextmanager
def _server(project: Path, words: Sequence[str]) -> Iterator[subprocess.Popen[str]]:
    server = subprocess.Popen(
        (sys.executable, "-m", "agent_identity", "hooks", "serve", "evidence", *words),
        cwd=project,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stdout is not None
        line = server.stdout.readline()
        assert "answering" in line, server.communicate()[1]
        yield server
    finally:
        server.send_signal(signal.SIGTERM)
        server.communicate(timeout=30)
