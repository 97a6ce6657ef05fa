"""``agent-identity verify --span``: one span from anywhere, judged like every other evidence."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

VECTORS = Path(__file__).resolve().parents[3] / "vectors"
TRUST = VECTORS / "evidence/trust.json"
DOCUMENT = json.loads((VECTORS / "spans.jsonl").read_text("utf-8").splitlines()[0])
SPAN = DOCUMENT["resourceSpans"][0]["scopeSpans"][0]["spans"][0]
Run = Callable[..., tuple[int, str, str]]


def paste(monkeypatch: pytest.MonkeyPatch, value: object) -> None:
    """Put JSON on standard input."""
    from agent_identity._verify.inputs import sources

    text = io.BytesIO(json.dumps(value).encode())
    monkeypatch.setattr(sources, "_standard_input", lambda: text)
    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: False))


def test_a_span_on_standard_input(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pasted span verifies, and the report says what was compared."""
    paste(monkeypatch, SPAN)
    code, out, err = run("verify", "--span", "-", "--trust", TRUST)
    assert (code, err) == (0, "")
    assert out.startswith("VERIFIED  1 record")
    assert "attributes compared, 0 missing or blanked" in out
    assert "8. everything is there  (not checked)" in out


def test_a_span_in_a_file_as_json(run: Run, tmp_path: Path) -> None:
    """A file does as well, and ``--json`` has the report for machines."""
    path = tmp_path / "span.json"
    path.write_text(json.dumps({"found": [SPAN]}, indent=2), encoding="utf-8")
    code, out, _ = run("verify", "--span", path, "--trust", TRUST, "--json")
    assert (code, json.loads(out)["verdict"], json.loads(out)["counts"]["verified"]) == (0, "verified", 1)


def test_what_was_not_checked_is_no_pass(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without ids the command says that it cannot tell, why, and exits with 2."""
    paste(monkeypatch, SPAN["attributes"])
    code, out, _ = run("verify", "--span", "-", "--trust", TRUST)
    assert code == 2
    assert out.startswith("CANNOT TELL")
    assert "· 4. each record belongs to the span that carries it  (not checked)" in out
    assert "span_not_named: the span id of the span is missing beside its attributes; copy the whole span" in out


def test_a_forged_span_exits_with_1(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A record on another span contradicts it."""
    paste(monkeypatch, {**SPAN, "spanId": "1" * 16})
    code, out, _ = run("verify", "--span", "-", "--trust", TRUST)
    assert (code, "wrong_span" in out) == (1, True)


def test_text_that_is_no_json_exits_with_2(run: Run, tmp_path: Path) -> None:
    """Other text has nothing to verify, and the message says what was expected."""
    path = tmp_path / "span.txt"
    path.write_text("execute_tool pay", encoding="utf-8")
    code, out, _ = run("verify", "--span", path, "--trust", TRUST)
    assert (code, "neither JSON" in out) == (2, True)


def test_a_span_is_compared_with_its_ledger(run: Run, tmp_path: Path) -> None:
    """One span of many is incomplete, and the report names what is missing."""
    path = tmp_path / "span.json"
    path.write_text(json.dumps(SPAN), encoding="utf-8")
    code, out, _ = run("verify", "--span", path, "--trust", TRUST, "--ledger", TRUST.parent)
    assert (code, "span_missing" in out) == (3, True)


def test_a_ledger_is_no_span(run: Run, evidence: Path) -> None:
    """A check that would not happen is refused."""
    code, _, err = run("verify", "--span", evidence)
    assert (code, "--span" in err) == (2, True)
