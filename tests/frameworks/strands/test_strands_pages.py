"""The page about Strands and its example run."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from strands_doubles import ScriptedModel, use

ROOT = Path(__file__).resolve().parents[3]
PAID = {"invoice_id": "INV-42", "amount": 120}


def test_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The blocks of the page run one after the other, and the approved payment goes out."""
    monkeypatch.chdir(tmp_path)
    model = ScriptedModel(
        *(use("pay_invoice", "c1", **PAID), use("pay_invoice", "c2", **{**PAID, "amount": 9000}), "done"),
        *(use("pay_invoice", "c3", **PAID), "done"),
    )
    page = (ROOT / "docs/how-to/strands.md").read_text(encoding="utf-8")
    names: dict[str, object] = {"model": model, "__name__": "page"}
    blocks = re.findall(r"^```py\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    for block in blocks:
        exec(block, names)  # noqa: S102  What the page says.
    assert len(blocks) == 3
    assert "refused: argument_out_of_scope" in repr(model.prompts[2])
    assert "paid EUR 120" in repr(model.prompts[-1])


def test_the_example_runs(tmp_path: Path) -> None:
    """The story ends with verified evidence, and one refused call."""
    program = [sys.executable, str(ROOT / "examples/strands_invoice.py"), str(tmp_path / "evidence")]
    done = subprocess.run(
        program, capture_output=True, text=True, check=False, cwd=tmp_path, env={"PYTHONPATH": str(ROOT), "PATH": ""}
    )
    assert done.returncode == 0, done.stderr
    assert "VERIFIED" in done.stdout
    assert "invoice-clerk → researcher" in done.stdout
    assert "1 of 5 calls refused" in done.stdout
