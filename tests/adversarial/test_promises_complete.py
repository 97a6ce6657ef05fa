"""What *complete* says: up to when, and what an older copy would look like."""

import shutil
from pathlib import Path

import pytest

from agent_identity import Enforcer
from agent_identity.cli import main


@pytest.fixture
def evidence(tmp_path: Path) -> Path:
    """A ledger of two runs, with the copy and the checkpoint of after the first."""
    path = tmp_path / "evidence"
    with Enforcer.open(path) as enforcer:
        enforcer.revoke("agent", "mallory")
    shutil.copytree(path, tmp_path / "older")
    shutil.copy(path / "log" / "checkpoint", tmp_path / "kept")
    with Enforcer.open(path) as enforcer:
        enforcer.revoke("agent", "eve")
    shutil.copy(path / "log" / "checkpoint", tmp_path / "newest")
    return path


def lines_of(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, list[str]]:
    """Verify, and return the exit code and the lines that say *complete*."""
    code = main(["verify", *map(str, words)])
    out = capsys.readouterr().out
    return code, [line for line in out.splitlines() if " complete" in line.replace("completeness", "")]


def test_complete_has_a_date_and_a_limit(evidence: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a checkpoint from elsewhere, an older copy says the same of itself, and both say so."""
    for path in (evidence, evidence.parent / "older"):
        code, (line,) = lines_of(capsys, path)
        assert code == 0
        assert " up to 20" in line
        assert "no outside checkpoint given: an older copy would look the same" in line


def test_a_kept_checkpoint_is_named(evidence: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The line says which state the copy is not older than."""
    code, (line,) = lines_of(capsys, evidence, "--checkpoint", evidence.parent / "kept")
    assert code == 0
    assert "not older than the checkpoint kept elsewhere, of " in line


def test_after_a_contradicted_checkpoint_no_line_says_complete(
    evidence: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An older copy beside a newer checkpoint is contradicted, and nothing of it is complete."""
    words = (evidence.parent / "older", "--checkpoint", evidence.parent / "newest")
    assert lines_of(capsys, *words) == (1, [])
    assert main(["verify", *map(str, words), "--json"]) == 1
    assert '"completeness": "not_checked"' in capsys.readouterr().out
