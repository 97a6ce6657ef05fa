"""The page and the example do what they say."""

import io
import re
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path

import pytest

from agent_identity import Verifier
from agent_identity.testing import Records

ROOT = Path(__file__).resolve().parents[3]
FENCE = re.compile(r"^```(py|output)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_the_blocks_of_the_page_print_what_it_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One program, in order; its evidence verifies."""
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "how-to" / "pydantic-ai.md").read_text(encoding="utf-8")
    namespace: dict[str, object] = {"__name__": "page"}
    printed, shown = "", 0
    for language, text in FENCE.findall(page):
        if language == "output":
            assert printed == text
            shown += 1
            continue
        with redirect_stdout(io.StringIO()) as out:
            exec(compile(text, "pydantic-ai.md", "exec"), namespace)  # noqa: S102 - The blocks of our page.
        printed = out.getvalue()
    assert shown == 2
    assert [call.outcome for call in Records("evidence").calls()] == ["success", "denied"]
    assert [Verifier().ledger(name).verdict for name in ("evidence", "asking")] == ["verified", "verified"]


def test_the_example_tells_the_story_and_proves_it(tmp_path: Path) -> None:
    """The payment, the refusal and the look-up are on record, and the commands say so."""
    command = [sys.executable, str(ROOT / "examples" / "pydantic_ai_invoice.py")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [(call.tool, call.outcome, call.agents[-1]) for call in Records(tmp_path / "evidence").calls()] == [
        ("read_invoice", "success", "researcher"),
        ("look_up", "success", "invoice-clerk"),
        ("pay_invoice", "success", "invoice-clerk"),
        ("pay_invoice", "denied", "invoice-clerk"),
    ]
    assert "\nVERIFIED" in done.stdout
    assert "1 of 4 calls refused" in done.stdout
