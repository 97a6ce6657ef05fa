"""The rules about conditions that may soon stop calls."""

import os
from pathlib import Path

import pytest

from agent_identity._directory.conditions import ending_key, low_disk, low_room

DAY = 86_400


def test_room_is_told_before_it_is_gone() -> None:
    """Bytes as well as files, each with what to do."""
    assert low_room(100 << 20) is None
    assert (low_room((100 << 20) - 1) or "").startswith("99 MiB free; free some")
    assert (low_room(1 << 40, 7) or "").startswith("only 7 more files fit; ")
    assert low_room(1 << 40, 1_000) is None


def test_a_disk_that_cannot_be_asked_has_no_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is wrong there shows elsewhere, and some file systems count no files."""
    assert low_disk(tmp_path / "absent") is None
    facts = os.statvfs_result((4096, 4096, 10**9, 10**9, 10**9, 0, 0, 0, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda path: facts)
    assert low_disk(tmp_path) is None
    monkeypatch.setattr(os, "statvfs", lambda path: os.statvfs_result((4096, 4096, 9, 9, 9, 9, 9, 9, 0, 255)))
    assert "MiB free" in (low_disk(tmp_path) or "")


@pytest.mark.parametrize(
    ("name", "periods", "said"),
    [
        ("issuer key", [], None),
        ("issuer key", [(0, 90 * DAY), (0, None)], None),
        ("issuer key", [(0, 90 * DAY)], None),
        ("issuer key", [(None, 3 * DAY), (0, 2 * DAY)], "the issuer key expires in 2 days; rotate it"),
        ("recorder key", [(None, 2 * DAY)], "the recorder key expires in 1 day; rotate it"),
        ("recorder key", [(None, DAY)], "the recorder key has expired; rotate it"),
        ("recorder certificate", [(0, DAY + 7_200)], "the recorder certificate expires in 2 hours; have the root"),
    ],
)
def test_the_last_period_tells_when_a_key_ends(
    name: str, periods: list[tuple[int | None, int | None]], said: str | None
) -> None:
    """After a rotation the next key counts, and nothing is said of the one before."""
    found = ending_key(name, periods, DAY)
    assert found is said if said is None else (found or "").startswith(said)
