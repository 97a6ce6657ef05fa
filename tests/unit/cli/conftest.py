"""What the tests of the command line share: the golden evidence, a way to run commands, and terminals."""

import io
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from agent_identity.cli import main

VECTORS = Path(__file__).resolve().parents[2] / "vectors"
PATH = os.pathsep.join(path for path in sys.path if path)


class Done(NamedTuple):
    """How a command ended, and what it printed."""

    code: int
    out: str
    err: str


class Terminal(io.StringIO):
    """A stream that claims to be a terminal."""

    def isatty(self) -> bool:
        """Say that it is one."""
        return True


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take away what the environment of the tests says about colour, width and telemetry."""
    for name in [*os.environ]:
        if name in {"NO_COLOR", "FORCE_COLOR", "COLUMNS", "PYTHON_COLORS"} or name.startswith("OTEL_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("TERM", "xterm")


@pytest.fixture
def evidence(tmp_path: Path) -> Path:
    """Return a copy of the golden evidence directory, which is verified and complete."""
    return Path(shutil.copytree(VECTORS / "evidence", tmp_path / "evidence"))


@pytest.fixture
def spans(tmp_path: Path) -> Path:
    """Return a copy of the golden spans."""
    return Path(shutil.copy(VECTORS / "spans.jsonl", tmp_path / "spans.jsonl"))


@pytest.fixture
def trust(tmp_path: Path) -> Path:
    """Return a copy of the golden trust file, kept away from the evidence."""
    return Path(shutil.copy(VECTORS / "evidence" / "trust.json", tmp_path / "kept.json"))


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """Runs a command in this process."""

    def run_one(*words: object) -> Done:
        try:
            code = main([str(word) for word in words])
        except SystemExit as end:
            code = int(end.code or 0)
        captured = capsys.readouterr()
        return Done(code, captured.out, captured.err)

    return run_one


@pytest.fixture
def on_terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Done]]:
    """Runs a command in this process, on a terminal of some width."""

    def run_one(*words: object, columns: int = 80) -> Done:
        out, err = Terminal(), Terminal()
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", out)
            patch.setattr(sys, "stderr", err)
            patch.setenv("COLUMNS", str(columns))
            code = main([str(word) for word in words])
        return Done(code, out.getvalue(), err.getvalue())

    return run_one


@pytest.fixture
def program(tmp_path: Path) -> Callable[..., Done]:
    """Runs ``python -m agent_identity`` in a process of its own."""

    def run_one(
        *words: object, stdin: bytes = b"", through: str | None = None, environment: dict[str, str] | None = None
    ) -> Done:
        command = [sys.executable, "-m", "agent_identity", *map(str, words)]
        if through is not None:
            command = ["sh", "-c", through, "sh", *command]
        given = {**os.environ, "PYTHONPATH": PATH, "PYTHONSAFEPATH": "1", **(environment or {})}
        done = subprocess.run(
            command, input=stdin, capture_output=True, check=False, timeout=120, cwd=tmp_path, env=given
        )
        return Done(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))

    return run_one
