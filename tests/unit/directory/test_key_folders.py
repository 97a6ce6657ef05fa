"""A folder of keys outside the evidence directory: one line to name it, and nothing secret is left inside."""

import os
import shutil
import stat
import time
from pathlib import Path

import pytest

from agent_identity import Agent, Enforcer, Human, Scope, Verifier
from agent_identity._directory.key_folders import SECRET_FILES
from agent_identity._directory.rotation import revoke, rotate
from agent_identity._ledger.reader import open_ledger
from agent_identity.errors import ConfigurationError
from agent_identity.identity import Registration, TrustStore, register_agents
from agent_identity.options import Privacy

ALICE, CLERK = Human("alice@example.com"), Agent("clerk", owner="ops@example.com")
NOW = int(time.time())


def work(directory: Path, keys: object, **options: object) -> str:
    """Have a process guard one call; return its stream."""
    with (
        Enforcer.open(directory, keys=keys, **options) as enforcer,  # type: ignore[arg-type]
        enforcer.task("pay", principal=ALICE, agent=CLERK, scope=Scope("pay")),
        enforcer.action("pay"),
    ):
        pass
    return list(open_ledger(directory).streams())[-1]


def secrets_in(folder: Path) -> list[str]:
    """Return the secret files below a folder."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.name in SECRET_FILES)


@pytest.mark.parametrize("kind", [str, Path])
def test_all_secret_files_are_in_the_named_folder_and_none_beside_the_evidence(tmp_path: Path, kind: type) -> None:
    """Made on first use, closed to others, found again; the evidence verifies from its public files alone."""
    directory, folder = tmp_path / "evidence", tmp_path / "mount" / "keys"
    for _ in range(2):
        work(directory, kind(folder), privacy=Privacy(pseudonyms=True))
    assert secrets_in(folder) == sorted(SECRET_FILES)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert secrets_in(directory) == []
    assert not (directory / "keys").exists()
    report = Verifier().ledger(directory)
    assert (report.integrity, report.completeness) == ("verified", "complete")


def test_the_folder_in_the_directory_may_be_named_as_well(tmp_path: Path) -> None:
    """It is what stands there by default, also where a link leads to it."""
    directory = tmp_path / "evidence"
    work(directory, directory / "keys")
    (tmp_path / "link").symlink_to(directory / "keys")
    work(directory, tmp_path / "link")
    work(directory, None)
    assert Verifier().ledger(directory).counts["streams"] == 3


def test_keys_move_out_of_a_directory_by_moving_the_folder(tmp_path: Path) -> None:
    """The ledger goes on under the same key of its MACs; what is left inside is refused, with the cure."""
    directory, folder = tmp_path / "evidence", tmp_path / "keys"
    work(directory, None)
    shutil.copytree(directory / "keys", folder)
    with pytest.raises(ConfigurationError, match=r"keys/issuer\.pem is in the evidence directory.* move all files"):
        Enforcer.open(directory, keys=folder)
    shutil.rmtree(directory / "keys")
    work(directory, folder)
    assert Verifier().ledger(directory).completeness == "complete"
    with pytest.raises(ConfigurationError, match=r"is missing at .*keys='PATH'"):
        Enforcer.open(directory)
    assert not (directory / "keys").exists()


@pytest.mark.parametrize("left", SECRET_FILES)
def test_no_secret_file_stays_behind_unseen(tmp_path: Path, left: str) -> None:
    """One that stays would be copied with the evidence, or be the wrong one of two."""
    (tmp_path / "evidence" / "keys").mkdir(parents=True)
    (tmp_path / "evidence" / "keys" / left).touch()
    with pytest.raises(ConfigurationError, match=f"{left} is in the evidence directory"):
        Enforcer.open(tmp_path / "evidence", keys=tmp_path / "keys")
    assert not (tmp_path / "keys").exists()


@pytest.mark.parametrize("inside", ["", "secrets", "keys/mine"])
def test_a_folder_in_the_evidence_is_refused(tmp_path: Path, inside: str) -> None:
    """It would be copied with the evidence."""
    with pytest.raises(ConfigurationError, match="is in the evidence directory"):
        Enforcer.open(tmp_path / "evidence", keys=tmp_path / "evidence" / inside)
    (tmp_path / "evidence").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "evidence")
    with pytest.raises(ConfigurationError, match="is in the evidence directory"):
        Enforcer.open(tmp_path / "evidence", keys=tmp_path / "link" / "secrets")


@pytest.mark.parametrize("keys", ["", "tcp:host:1", "unix:", "https://kms.example/key"])
def test_what_is_an_address_makes_no_folder(tmp_path: Path, keys: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mistyped one must not become the name of a folder with fresh keys."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError, match="unix:PATH"):
        Enforcer.open(tmp_path / "evidence", keys=keys)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_everyone_may_write_is_refused(tmp_path: Path) -> None:
    """As Kubernetes makes an emptyDir: name a folder in it, which is made closed."""
    (tmp_path / "mount").mkdir()
    (tmp_path / "mount").chmod(0o777)
    with pytest.raises(ConfigurationError, match="name a folder in it"):
        Enforcer.open(tmp_path / "evidence", keys=tmp_path / "mount")
    work(tmp_path / "evidence", tmp_path / "mount" / "agent")
    assert stat.S_IMODE((tmp_path / "mount" / "agent").stat().st_mode) == 0o700


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a folder that root may not write either")
def test_a_place_that_is_no_folder_is_told(tmp_path: Path) -> None:
    """The message names the path."""
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match=r"file/keys' cannot be written"):
        Enforcer.open(tmp_path / "evidence", keys=tmp_path / "file" / "keys")
    with pytest.raises(ConfigurationError, match=r"no file name"):
        Enforcer.open(tmp_path / "evidence", keys="a\0b")


def test_keys_that_outlive_the_evidence_begin_another_log(tmp_path: Path) -> None:
    """A container that starts on an empty volume with its mounted keys has lost nothing that was here."""
    directory, folder = tmp_path / "evidence", tmp_path / "keys"
    work(directory, folder)
    shutil.copy(directory / "trust.json", tmp_path / "trust.json")
    shutil.rmtree(directory)
    directory.mkdir()
    shutil.copy(tmp_path / "trust.json", directory / "trust.json")
    work(directory, folder)
    report = Verifier(tmp_path / "trust.json").ledger(directory)
    assert (report.integrity, report.completeness) == ("verified", "complete")


def test_keys_are_rotated_and_revoked_where_they_are(tmp_path: Path) -> None:
    """The new one waits and takes over in the same folder; an interrupted rotation is completed there."""
    directory, folder = tmp_path / "evidence", tmp_path / "keys"
    work(directory, folder)
    before = (folder / "recorder.pem").read_bytes()
    done = rotate(directory, ("issuer", "recorder"), now=NOW, overlap=60, keys=folder)
    assert (folder / "recorder.pem").read_bytes() != before
    assert not (directory / "keys").exists()
    work(directory, folder)
    assert Verifier().ledger(directory).integrity == "verified"
    (gone,) = revoke(directory, done[0].old.key.thumbprint, since=NOW, keys=folder)
    assert TrustStore.load(directory / "trust.json").get(gone.key.thumbprint, "issuer") == gone
    assert (directory / "trust.successors").read_bytes().count(b"\n") == 2  # Running processes follow both.


def test_agents_are_registered_with_keys_outside(tmp_path: Path) -> None:
    """The registry stands beside the evidence, signed by the issuer key of the folder."""
    directory, folder = tmp_path / "evidence", tmp_path / "keys"
    registration = Registration(CLERK, purpose="pay", maximum=Scope("pay"), expires_at=NOW * 2)
    register_agents(directory, registration, keys=folder)
    assert (directory / "agents.jsonl").exists()
    work(directory, folder, agents="registered")
