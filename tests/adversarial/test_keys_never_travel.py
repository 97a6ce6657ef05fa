"""Keys never travel with evidence: no way of copying takes them along, and the doctor finds where they went anyway."""

import json
import shutil
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from agent_identity import Agent, Enforcer, Human, Scope, Verifier
from agent_identity._directory.key_folders import SECRET_FILES
from agent_identity.cli import main
from agent_identity.options import Privacy

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "keep-keys-elsewhere.md"
ALICE, CLERK = Human("alice@example.com"), Agent("clerk", owner="ops@example.com")


def work(directory: Path) -> str:
    """Have a process guard one call; return its task."""
    with (
        Enforcer.open(directory, privacy=Privacy(pseudonyms=True)) as enforcer,
        enforcer.task("pay", principal=ALICE, agent=CLERK, scope=Scope("pay")) as task,
        enforcer.action("pay"),
    ):
        return task.id


@pytest.fixture
def evidence(tmp_path: Path) -> Path:
    """A directory with every secret file."""
    work(tmp_path / "evidence")
    assert {path.name for path in (tmp_path / "evidence" / "keys").iterdir()} >= set(SECRET_FILES)
    return tmp_path / "evidence"


def secrets(evidence: Path) -> list[bytes]:
    """Return what must not be found in a copy: each key, without the words that every file of its kind has."""
    keys = evidence / "keys"
    pems = [b"".join((keys / f"{name}.pem").read_bytes().splitlines()[1:-1]) for name in ("issuer", "recorder")]
    lines = (keys / "digests.jsonl").read_text().splitlines()
    return [*pems, (keys / "ledger.key").read_bytes(), *(json.loads(line)["key"].encode() for line in lines)]


def found(evidence: Path, copy: Path) -> set[str]:
    """Return the files of a copy that hold a secret of the original."""
    files = [path for path in copy.rglob("*") if path.is_file()]
    kept = {path.name for path in files} & set(SECRET_FILES)
    return kept | {path.name for path in files for secret in secrets(evidence) if secret in path.read_bytes()}


def archived(evidence: Path, target: Path) -> None:
    """Copy by ``archive``."""
    assert main(["archive", str(evidence), "--to", str(target)]) == 0


def bundled(evidence: Path, target: Path) -> None:
    """Pack by ``bundle``, and unpack as a person would."""
    assert main(["bundle", str(evidence), "-o", f"{target}.zip"]) == 0
    zipfile.ZipFile(f"{target}.zip").extractall(target)


def excerpted(evidence: Path, target: Path) -> None:
    """Pack one task by ``bundle``."""
    assert main(["bundle", str(evidence), "-o", f"{target}.zip", "--task", work(evidence)]) == 3
    zipfile.ZipFile(f"{target}.zip").extractall(target)


def documented(evidence: Path, target: Path) -> None:
    """Copy by the command that the page gives."""
    (command,) = (line.strip() for line in PAGE.read_text().splitlines() if line.strip().startswith("tar "))
    target.mkdir()
    subprocess.run(command, shell=True, cwd=evidence.parent, check=True)  # noqa: S602  The line is our own.
    shutil.unpack_archive(evidence.parent / "evidence.tar", target)


Copying = Callable[[Path, Path], None]
WAYS = pytest.mark.parametrize("copying", [archived, bundled, excerpted, documented])


@WAYS
def test_no_way_of_copying_takes_a_key_along(evidence: Path, tmp_path: Path, copying: Copying) -> None:
    """Neither a file of keys nor the bytes of one are in an archive, a bundle, an excerpt or the documented copy."""
    assert found(evidence, evidence) >= {"issuer.pem", "ledger.key", "digests.jsonl"}
    copying(evidence, tmp_path / "copy")
    assert found(evidence, tmp_path / "copy") == set()


def test_the_documented_copy_verifies(evidence: Path, tmp_path: Path) -> None:
    """It leaves out nothing that a verifier needs."""
    documented(evidence, tmp_path / "copy")
    report = Verifier().ledger(tmp_path / "copy")
    assert (report.integrity, report.completeness) == ("verified", "complete")


def told(directory: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, str] | None:
    """Return what the doctor says of keys that travelled."""
    capsys.readouterr()
    code = main(["doctor", str(directory), "--json"])
    checks = json.loads(capsys.readouterr().out)["checks"]
    wrong = [check for check in checks if check["name"] == "keys" and check["status"] == "fail"]
    assert not wrong or code == 1
    return wrong[0] if wrong else None


@WAYS
def test_the_doctor_finds_keys_that_were_put_beside_a_copy(
    evidence: Path, tmp_path: Path, copying: Copying, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever holds the copy could sign as the original: it says what to do."""
    copying(evidence, tmp_path / "copy")
    place = tmp_path / "copy"
    place = place / "evidence" if (place / "evidence").exists() else place
    assert told(place, capsys) is None
    shutil.copytree(evidence / "keys", place / "keys", dirs_exist_ok=True)
    check = told(place, capsys)
    assert check is not None
    assert "issuer.pem" in check["detail"]
    assert check["cure"].startswith(f"rm -r {place / 'keys'}, and rotate")


def test_the_doctor_tells_a_whole_copy_from_the_directory_that_processes_write(
    evidence: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also of a directory in which a process is at work; a restored copy is no copy once a process has ended in it."""
    assert told(evidence, capsys) is None
    with Enforcer.open(evidence):
        assert told(evidence, capsys) is None
        shutil.copytree(evidence, tmp_path / "copy")
    check = told(tmp_path / "copy", capsys)
    assert check is not None
    assert "a copy, in which no process has written" in check["detail"]
    with Enforcer.open(tmp_path / "copy"):
        assert told(tmp_path / "copy", capsys) is None
    assert told(tmp_path / "copy", capsys) is None


def test_the_doctor_finds_keys_in_evidence_that_this_user_cannot_write(
    evidence: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a read-only mount for a verifier: its process is not the writer."""
    from agent_identity.cli.operate import doctor_directory

    monkeypatch.setattr(doctor_directory.os, "access", lambda *_: False)
    check = told(evidence, capsys)
    assert check is not None
    assert "this user cannot write" in check["detail"]
