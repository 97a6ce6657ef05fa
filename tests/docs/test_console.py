"""The commands that the documentation shows print what it shows."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FIRST = (ROOT / "README.md", *(ROOT / "docs" / "tutorial").glob("*.md"))
"""What everyone reads first; the other pages run in the night."""

PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
WITH_COMMANDS = [page for page in PAGES if page.exists() and "\n$ agent-identity " in page.read_text(encoding="utf-8")]


@pytest.mark.parametrize(
    "page",
    [pytest.param(page, marks=() if page in FIRST else pytest.mark.nightly) for page in WITH_COMMANDS],
    ids=lambda page: page.relative_to(ROOT).as_posix(),
)
def test_every_command_of_a_page_prints_what_it_shows(page: Path) -> None:
    """Each ``$ agent-identity`` line, run after the examples before it, prints the lines below it."""
    command = [sys.executable, str(ROOT / "tools" / "run_console.py"), str(page)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "commands ran" in done.stdout
