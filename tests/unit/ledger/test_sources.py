"""The clock of a ledger, and the size of a file that it writes."""

from pathlib import Path

import pytest

from agent_identity._ledger.ledger import wall_of
from agent_identity._storage.os_files import Files, check_in_place, file_of
from agent_identity.errors import EvidenceError
from agent_identity.testing import FixedClock


@pytest.mark.parametrize("wall", [-1, 10**19])
def test_a_time_that_no_record_can_hold_is_refused(wall: int) -> None:
    """What a record could not hold is an error of the clock, at both ends."""
    clock = FixedClock()
    assert wall_of(clock) == clock.wall_ns()
    clock.set_wall(wall)
    with pytest.raises(EvidenceError, match="the clock"):
        wall_of(clock)


def test_a_file_that_was_cut_is_not_in_place(tmp_path: Path) -> None:
    """More bytes than were written are no fault of it, fewer are."""
    path = tmp_path / "entries.jsonl"
    path.write_bytes(b"12")
    file = file_of(path.stat())
    check_in_place(Files(), str(path), file, 1)
    with pytest.raises(EvidenceError) as caught:
        check_in_place(Files(), str(path), file, 3)
    assert caught.value.code == "evidence_removed"
