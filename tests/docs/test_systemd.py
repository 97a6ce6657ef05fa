"""The units for systemd: it accepts them, closes them off, and they name commands and options that exist."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

UNITS = sorted((Path(__file__).resolve().parents[2] / "docs" / "systemd").iterdir())
ANALYZE = shutil.which("systemd-analyze")
EXPOSED = {"agent-app": 1.5, "agent-identity-nightly": 1.9, "agent-identity-signer": 0.8}
"""What the page says; more is worse, of 10."""

needs_systemd = pytest.mark.skipif(ANALYZE is None, reason="systemd is not installed")


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """Copy the units to where nothing else is, with programs that exist here."""
    for unit in UNITS:
        text = re.sub(r"/opt/agents/bin/\S+", sys.executable, unit.read_text(encoding="utf-8"))
        (tmp_path / unit.name).write_text(text, encoding="utf-8")
    return tmp_path


@needs_systemd
def test_systemd_accepts_the_units(units: Path) -> None:
    """Without a warning."""
    names = [str(units / unit.name) for unit in UNITS]
    done = subprocess.run([str(ANALYZE), "verify", "--man=no", *names], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@needs_systemd
@pytest.mark.parametrize("name", sorted(EXPOSED))
def test_the_services_are_closed_off(units: Path, name: str) -> None:
    """As far as the page says; other versions of systemd may rate a little otherwise."""
    command = [str(ANALYZE), "security", "--offline=true", "--no-pager", str(units / f"{name}.service")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    (rated,) = re.findall(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
    assert float(rated) <= EXPOSED[name] + 0.5


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_the_commands_of_the_units_exist(unit: Path) -> None:
    """Each command has its options; the application is the user's."""
    for words in re.findall(r"^ExecStart=/opt/agents/bin/agent-identity (.+)$", unit.read_text("utf-8"), re.MULTILINE):
        command, *rest = words.split()
        shown = subprocess.run(
            [sys.executable, "-m", "agent_identity", command, "--help"], capture_output=True, text=True, check=True
        )
        assert [word for word in rest if word.startswith("--") and word not in shown.stdout] == []
