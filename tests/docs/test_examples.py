"""The examples of the documentation run."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FIRST = (ROOT / "README.md", *(ROOT / "docs" / "tutorial").glob("*.md"))
"""What everyone reads first; the other pages run in the night."""

PAGES = sorted([ROOT / "README.md", ROOT / "tests" / "vectors" / "README.md", *(ROOT / "docs").rglob("*.md")])
WITH_EXAMPLES = [page for page in PAGES if page.exists() and "```python" in page.read_text(encoding="utf-8")]


@pytest.mark.parametrize(
    "page",
    [pytest.param(page, marks=() if page in FIRST else pytest.mark.nightly) for page in WITH_EXAMPLES],
    ids=lambda page: page.relative_to(ROOT).as_posix(),
)
def test_every_python_block_of_a_page_runs(page: Path) -> None:
    """The blocks of a page, one after the other, raise nothing and print what the page says they print."""
    command = [sys.executable, str(ROOT / "tools" / "run_examples.py"), str(page)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "examples ran" in done.stdout  # A block that exits would hide those after it.
