"""The page and the example of the ADK do what they say."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agent_identity import Verifier
from agent_identity.testing import Records

ROOT = Path(__file__).resolve().parents[3]


def blocks(page: str) -> str:
    """Return the programs of a page, one after the other."""
    parts = (ROOT / "docs" / "how-to" / page).read_text(encoding="utf-8").split("```py\n")[1:]
    return "\n".join(part.partition("```")[0] for part in parts)


def test_the_page_runs_with_a_scripted_model(adk: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two payments, one refused, and the researcher acts under a delegation."""
    adk.open()
    steps = [
        [adk.call("read_invoice", invoice_id="INV-42")],
        [adk.call("pay_invoice", invoice_id="INV-42", amount=120)],
        [adk.call("pay_invoice", invoice_id="INV-42", amount=9_000)],
        [adk.call("researcher", request="Who is Acme?")],
    ]
    models = [adk.agent(script).model for script in ([[adk.call("look_up", vendor="Acme")]], steps)]
    program = blocks("google-adk.md").replace('"gemini-flash-latest"', "MODELS.pop(0)")
    monkeypatch.chdir(tmp_path)
    exec(compile(program, "google-adk.md", "exec"), {"MODELS": models})  # noqa: S102
    calls = [(call.tool, call.outcome, call.agents) for call in Records(tmp_path / "evidence").calls()]
    clerk = ("invoice-clerk",)
    assert calls == [
        ("read_invoice", "success", clerk),
        ("pay_invoice", "success", clerk),
        ("pay_invoice", "denied", clerk),
        ("look_up", "success", (*clerk, "researcher")),
        ("researcher", "success", clerk),
    ]


def test_the_example_ends_with_verified_evidence(tmp_path: Path) -> None:
    """It pays, is refused, asks the researcher, and prints what the evidence says."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-W", "ignore", str(ROOT / "examples" / "google_adk_invoice.py")]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240, check=True
    )
    assert "refused: argument_out_of_scope" in done.stdout
    assert "VERIFIED" in done.stdout
    assert "invoice-clerk → researcher" in done.stdout
    assert Verifier().ledger(tmp_path / "evidence").verdict == "verified"
