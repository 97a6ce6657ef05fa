"""Kept evidence of every kind verifies, with the verdict that is recorded for it."""

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

import net


def test_kept_evidence_has_the_recorded_verdicts(tmp_path: Path) -> None:
    """Segments, cuts, erased keys, approvals, pins, an archive and spans."""
    kept = {name: verdict for name, verdict in net.recorded().items() if name.startswith("kept ")}
    found = dict(net.kept(tmp_path))
    assert json.loads(json.dumps(found)) == kept
    assert {verdict[1] for verdict in found.values()} == {"verified", "incomplete"}


@pytest.mark.parametrize("name", ["whole", "cut"])
def test_what_is_changed_in_kept_evidence_is_found(tmp_path: Path, name: str) -> None:
    """The verdicts above are not those of a reader that looks at nothing."""
    dict(net.kept(tmp_path))
    path = max((tmp_path / name).glob("ledger/*/entries.jsonl"), key=lambda each: each.stat().st_size)
    data = path.read_bytes()
    assert b"alice@example.com" in data
    path.write_bytes(data.replace(b"alice@example.com", b"mallory@example.c"))
    verdict = net.adapter.verdict_of(tmp_path / name, tmp_path / name / "trust.json")
    assert verdict[:2] == [1, "contradicted"]
