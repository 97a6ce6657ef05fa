"""Digest keys: one for each id, everywhere the same, gone for good when erased."""

import errno
import hmac
import os
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent_identity._identity.common.encoding import b64url_encode, digest_of
from agent_identity._record import digests as digests_module
from agent_identity._storage.os_files import Files
from agent_identity.errors import ConfigurationError, EvidenceError
from agent_identity.options import DigestKeys


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys" / "digests.jsonl"


def test_a_digest_is_an_hmac_under_the_key_of_its_id(path: Path) -> None:
    """The digest can be recomputed from the key that the file holds, and from nothing else."""
    keys = DigestKeys(path)
    key = keys.key_for("task")
    expected = b64url_encode(hmac.digest(key, b"data", "sha256"))
    assert keys.digest("task", b"data") == expected
    assert keys.digest("task", b"data") == expected
    assert keys.digest("other", b"data") != expected
    assert keys.link("task", b"data") == expected
    assert path.read_text().splitlines()[0] == f'{{"id":"task","key":"{b64url_encode(key)}"}}'


def test_the_file_is_closed_to_others(path: Path) -> None:
    """Folder and file are for the owner; an open file is refused, not used."""
    keys = DigestKeys(str(path))
    keys.digest("task", b"")
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    path.chmod(0o604)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        keys.digest("other", b"")
    assert "other" not in path.read_text()


def test_processes_agree_on_a_key(path: Path) -> None:
    """Whoever asks second finds the key of the first, also after many others."""
    first, second = DigestKeys(path), DigestKeys(path)
    for number in range(50):
        first.key_for(f"task-{number}")
    assert all(first.key_for(f"task-{number}") == second.key_for(f"task-{number}") for number in range(50))
    assert len(path.read_text().splitlines()) == 50


def test_threads_agree_on_a_key(path: Path) -> None:
    """Racing for the first use of an id makes one key."""
    barrier = threading.Barrier(6)
    seen: list[str] = []

    def work() -> None:
        keys = DigestKeys(path)
        barrier.wait()
        seen.append(keys.digest("task", b"data"))

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 6
    assert len(set(seen)) == 1
    assert len(path.read_text().splitlines()) == 1


def test_a_key_made_for_a_new_id_is_found_like_any_other(path: Path) -> None:
    """Making a key without a search saves time and changes nothing else."""

    class Blind(Files):
        def read(self, fd: int, size: int) -> bytes:
            assert size == 1
            return super().read(fd, size)

    keys = DigestKeys(path, files=Blind())
    keys.create("one")
    keys.create("two")
    assert keys.digest("one", b"data") == DigestKeys(path).digest("one", b"data")


def test_an_erased_key_is_gone(path: Path) -> None:
    """Without its line, a key is made anew, and old digests match nothing any more."""
    before = DigestKeys(path).digest("task", b"data")
    path.write_bytes(b"")
    assert DigestKeys(path).digest("task", b"data") != before


def test_ac_105_likely_values_cannot_be_tried(path: Path) -> None:
    """Whoever has a digest and not the key learns nothing by hashing every amount."""
    data = [b'{"amount":%d}' % amount for amount in range(1000)]
    digest = DigestKeys(path).digest("task", data[100])
    plain = {digest_of(value) for value in data}
    unkeyed = {b64url_encode(hmac.digest(b"task", value, "sha256")) for value in data}
    assert digest not in plain | unkeyed


def test_memory_is_bounded(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A forgotten key is found in the file again."""
    monkeypatch.setattr(digests_module, "_MAX_CACHED", 2)
    keys = DigestKeys(path)
    before = [keys.digest(f"task-{number}", b"data") for number in range(5)]
    assert len(keys._macs) == 2
    assert [keys.digest(f"task-{number}", b"data") for number in range(5)] == before


def test_a_torn_line_costs_only_its_own_key(path: Path) -> None:
    """Behind a line that a process died in, the next key stands on its own line."""
    DigestKeys(path).key_for("one")
    with path.open("ab") as file:
        file.write(b'{"id":"two","ke')
    two = DigestKeys(path).key_for("two")
    assert DigestKeys(path).key_for("two") == two
    assert DigestKeys(path).key_for("one")
    assert path.read_bytes().count(b"\n") == 3


def test_a_key_that_cannot_be_kept_is_not_used(path: Path, faulty: type) -> None:
    """No space: the digest is refused, nothing stays of the line, and the next call works."""
    files = faulty()
    keys = DigestKeys(path, files=files)
    keys.digest("one", b"")
    before = path.read_bytes()
    files.fault = lambda number, name: OSError(errno.ENOSPC, "fault") if name == "write" else None
    with pytest.raises(EvidenceError, match=os.strerror(errno.ENOSPC)):
        keys.digest("two", b"")
    files.fault = lambda number, name: OSError(errno.ENOSPC, "fault") if name in ("write", "truncate") else None
    with pytest.raises(EvidenceError):
        keys.create("two")
    assert path.read_bytes() == before
    files.heal()
    keys.digest("two", b"")


def test_disk_mode_syncs_a_new_key(path: Path, faulty: type) -> None:
    """A key that power loss could take would make its digests unreadable; the default does not wait."""
    files = faulty()
    DigestKeys(path, files=files, sync="disk").key_for("one")
    assert files.calls.count("fdatasync") == 1
    files.calls.clear()
    DigestKeys(path, files=files).key_for("two")
    assert "fdatasync" not in files.calls


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    ids=st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=8), chunk=st.integers(1, 40)
)
def test_every_id_finds_its_own_key(tmp_path_factory: pytest.TempPathFactory, ids: list[str], chunk: int) -> None:
    """Ids of any text, also ones that look like lines of the file, are never mixed up, whatever the chunks."""
    path = tmp_path_factory.mktemp("keys") / "digests.jsonl"
    made = {key_id: DigestKeys(path).key_for(key_id) for key_id in ids}
    assert len(set(made.values())) == len(made)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(digests_module, "_CHUNK", chunk)
        assert {key_id: DigestKeys(path).key_for(key_id) for key_id in ids} == made


def test_the_name_of_the_file_is_on_the_disk_with_its_first_key(tmp_path: Path, faulty: type) -> None:
    """In disk mode the folder is synced once: a key whose file has no name after a power loss is no key."""
    files = faulty()
    keys = DigestKeys(tmp_path / "digests.jsonl", files=files, sync="disk")
    keys.create("one")
    assert files.calls.count("fsync") == 1
    keys.create("two")
    assert files.calls.count("fsync") == 1
    assert files.calls.count("fdatasync") == 2


def test_a_link_is_a_digest_until_its_key_is_erased(path: Path) -> None:
    """Everybody links alike under one key; once it is erased there is no link, and no fresh key in its place."""
    first, second = DigestKeys(path), DigestKeys(path)
    assert first.link("shared", b"data") == second.link("shared", b"data") == first.digest("shared", b"data")
    first.erase(["shared"])
    assert first.link("shared", b"data") is None
    assert DigestKeys(path).link("shared", b"data") is None
    assert not first.knows("shared")
    assert first.digest("shared", b"data") != first.digest("other", b"data")
    assert first.count(["shared"]) == 0
