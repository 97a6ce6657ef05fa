"""The page about CrewAI and its example run."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from crewai_doubles import scripted

ROOT = Path(__file__).resolve().parents[3]
PAID = {"invoice_id": "INV-42", "amount": 120}


def test_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The blocks of the page run one after the other; one payment goes out, one is refused."""
    monkeypatch.chdir(tmp_path)
    llm = scripted([("pay_invoice", PAID)], [("pay_invoice", {**PAID, "amount": 9000})], "done")
    page = (ROOT / "docs/how-to/crewai.md").read_text(encoding="utf-8")
    names: dict[str, object] = {"llm": llm, "__name__": "page"}
    blocks = re.findall(r"^```py\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    for block in blocks:
        exec(block, names)  # noqa: S102  What the page says.
    assert len(blocks) == 2
    assert "paid EUR 120" in repr(llm.prompts[-1])
    assert "refused: argument_out_of_scope" in repr(llm.prompts[-1])
    names["enforcer"].close()  # type: ignore[attr-defined]


def test_the_example_runs(tmp_path: Path) -> None:
    """The story ends with verified evidence, and one refused call."""
    program = [sys.executable, str(ROOT / "examples/crewai_invoice.py"), str(tmp_path / "evidence")]
    env = {"PYTHONPATH": str(ROOT), "PATH": "", "HOME": str(tmp_path), "CREWAI_DISABLE_TELEMETRY": "true"}
    done = subprocess.run(program, capture_output=True, text=True, check=False, cwd=tmp_path, env=env)
    assert done.returncode == 0, done.stderr
    assert "VERIFIED" in done.stdout
    assert "invoice-clerk → researcher" in done.stdout
    assert "1 of 5 calls refused" in done.stdout
