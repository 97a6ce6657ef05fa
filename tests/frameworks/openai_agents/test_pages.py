"""The page about the OpenAI Agents SDK and its example do what they say."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
BLOCK = re.compile(r"^```(py|output)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def ran(folder: Path, *args: str) -> str:
    """Run Python in a folder, and return what it printed."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-W", "ignore", *args]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_page_runs_and_prints_what_it_says(tmp_path: Path) -> None:
    """All blocks one after the other print the outputs of the page, and both directories verify."""
    page = (ROOT / "docs/how-to/openai-agents.md").read_text(encoding="utf-8")
    blocks = BLOCK.findall(page)
    (tmp_path / "page.py").write_text("\n".join(text for kind, text in blocks if kind == "py"), encoding="utf-8")
    assert ran(tmp_path, "page.py") == "".join(text for kind, text in blocks if kind == "output")
    for folder in ("evidence", "asking"):
        assert ran(tmp_path, "-m", "agent_identity", "verify", folder).startswith("VERIFIED")
    assert "invoice-clerk → researcher" in ran(tmp_path, "-m", "agent_identity", "show", "evidence")


def test_the_example_pays_refuses_and_verifies(tmp_path: Path) -> None:
    """The story of the invoice: one payment, one refusal, a sub-agent, and evidence that verifies."""
    said = ran(tmp_path, str(ROOT / "examples/openai_agents_invoice.py"))
    assert "- paid EUR 120 for INV-42\n- refused: argument_out_of_scope\n" in said
    assert "VERIFIED  15 records, 1 denied" in said
    assert "invoice-clerk → researcher" in said
