"""Where anchors of any kind store their time-stamps."""

from pathlib import Path

import pytest

from agent_identity._ledger.transparency.checkpoint import Checkpoint, sign_note
from agent_identity.audit import TimestampFolder
from agent_identity.errors import ConfigurationError, EvidenceError, VerificationError
from agent_identity.identity import SigningKey

ORIGIN = "ledger.example/log"
NOTE = sign_note(Checkpoint(ORIGIN, 7, bytes(32)).to_text(), ORIGIN, SigningKey.from_seed(b"r" * 32))


@pytest.fixture
def folder(tmp_path: Path) -> TimestampFolder:
    (tmp_path / "log").mkdir()
    return TimestampFolder(tmp_path)


def test_a_time_stamp_stands_beside_its_checkpoint(folder: TimestampFolder, tmp_path: Path) -> None:
    """Both are files of one name, which begins with the size; several of one checkpoint do not meet."""
    assert folder.size(NOTE) == 7
    for token in (b"one", b"two"):
        folder.keep(NOTE, token)
    files = sorted((tmp_path / "log" / "anchors").iterdir())
    assert len({path.stem for path in files}) == 2
    assert {path.name[:20] for path in files} == {f"{7:019d}-"}
    assert {path.read_bytes() for path in files if path.suffix == ".tsr"} == {b"one", b"two"}
    assert [path.read_bytes() for path in files if path.suffix == ".checkpoint"] == [NOTE, NOTE]


def test_what_cannot_be_stored_is_an_error_of_evidence(folder: TimestampFolder, tmp_path: Path) -> None:
    """No checkpoint, a file in the place of the folder, and a folder in the place of the file."""
    with pytest.raises(VerificationError):
        folder.keep(b"no checkpoint", b"token")
    folder.keep(NOTE, b"token")
    (stamp,) = (tmp_path / "log" / "anchors").glob("*.tsr")
    stamp.unlink()
    stamp.mkdir()
    (stamp / "full").touch()
    with pytest.raises(EvidenceError):
        folder.keep(NOTE, b"token")
    with pytest.raises(EvidenceError, match="cannot store the time-stamp"):
        TimestampFolder(tmp_path / "nowhere").keep(NOTE, b"token")
    with pytest.raises(ConfigurationError):
        TimestampFolder("a\0b")
