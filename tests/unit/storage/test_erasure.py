"""Erasing keys of digests: in place, for good, and nothing else with them, whenever the process dies."""

import errno
from pathlib import Path

import pytest

from agent_identity._identity.common.encoding import b64url_encode
from agent_identity._record import digests as digests_module
from agent_identity._storage.os_files import Files
from agent_identity.errors import ConfigurationError, EvidenceError
from agent_identity.options import DigestKeys


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys" / "digests.jsonl"


@pytest.mark.parametrize("chunk", [1, 7, 1024])
def test_the_key_is_gone_and_the_others_stay(path: Path, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """No byte of the erased keys is left, every other key is found as before, whatever the chunks."""
    keys = DigestKeys(path)
    made = {name: keys.key_for(name) for name in ("one", "two", 'a "quoted" \\ id', "four")}
    size = path.stat().st_size
    monkeypatch.setattr(digests_module, "_CHUNK", chunk)
    assert keys.count([*made, "unknown"]) == 4
    keys.erase(["two", 'a "quoted" \\ id', "unknown"])
    text = path.read_text()
    assert path.stat().st_size == size
    assert b64url_encode(made["two"]) not in text
    assert keys.count(made) == 2
    fresh = DigestKeys(path)
    assert (fresh.key_for("one"), fresh.kept("four")) == (made["one"], made["four"])


def test_an_id_stays_erased(path: Path) -> None:
    """A later use of the id makes no key that is kept: each process digests under noise, and the file does not grow."""
    before = DigestKeys(path).digest("task", b"data")
    DigestKeys(path).erase(["task"])
    text = path.read_bytes()
    found = {DigestKeys(path).digest("task", b"data") for _ in range(3)}
    assert len(found | {before}) == 4
    assert path.read_bytes() == text
    with pytest.raises(ConfigurationError, match="cannot be proved any more") as caught:
        DigestKeys(path).kept("task")
    assert caught.value.code == "erased"


def test_a_running_process_writes_nothing_back(path: Path) -> None:
    """Who has the key in memory goes on with it, and puts none of it into the file."""
    running = DigestKeys(path)
    before = running.digest("task", b"data")
    DigestKeys(path).erase(["task"])
    text = path.read_bytes()
    assert running.digest("task", b"data") == before
    running.key_for("other")
    assert path.read_bytes().startswith(text)
    running.erase(["task"])
    assert running.digest("task", b"data") != before


def test_erasing_again_changes_nothing(path: Path) -> None:
    """The second time there is no key to count, and not a byte is different."""
    keys = DigestKeys(path)
    keys.key_for("task")
    keys.erase(["task"])
    text = path.read_bytes()
    assert keys.count(["task"]) == 0
    keys.erase(["task"])
    assert path.read_bytes() == text


def test_without_a_file_there_is_nothing_to_erase(path: Path) -> None:
    """No file is made, and no key is found."""
    keys = DigestKeys(path)
    keys.erase(["task"])
    assert keys.count(["task"]) == 0
    assert not path.exists()
    with pytest.raises(ConfigurationError) as caught:
        keys.kept("task")
    assert caught.value.code == "no_digest_key"


def test_why_there_is_no_key_is_said(path: Path, faulty: type) -> None:
    """Erased, never there, or not to be read: in words, with where to go."""
    keys = DigestKeys(path)
    keys.key_for("task")
    keys.erase(["task"])
    told = []
    for name in ("task", "other"):
        with pytest.raises(ConfigurationError) as caught:
            keys.kept(name)
        told.append(str(caught.value))
    assert told == [
        "the key of these digests was erased; the digested values cannot be proved any more",
        "the key of these digests is not in keys/digests.jsonl; run this where the calls were recorded",
    ]
    with pytest.raises(EvidenceError, match=r"^could not read the keys of digests: "):
        DigestKeys(path, files=faulty.failing("read", code=errno.EIO)).kept("task")
    with pytest.raises(EvidenceError, match=r"^could not keep the key of a digest: "):
        DigestKeys(path, files=faulty.failing("write", code=errno.EIO)).key_for("new")
    with pytest.raises(EvidenceError, match=r"^could not erase the keys of digests: "):
        DigestKeys(path, files=faulty.failing("fsync", code=errno.EIO)).erase(["task"])


def test_only_what_an_erased_key_left_is_overwritten(path: Path, faulty: type) -> None:
    """One write for each key that is there, none for those that are erased or never were."""
    keys = DigestKeys(path)
    made = {name: keys.key_for(name) for name in ("one", "two", "three")}
    files = faulty()
    DigestKeys(path, files=files).erase(["one", "three", "none"])
    DigestKeys(path, files=files).erase(["one", "three"])
    assert files.calls.count("write") == 2
    assert path.read_text().splitlines() == [
        f'{{"id":"one","key":"{"=" * 43}"}}',
        f'{{"id":"two","key":"{b64url_encode(made["two"])}"}}',
        f'{{"id":"three","key":"{"=" * 43}"}}',
    ]


def test_a_torn_key_is_erased_as_well(path: Path) -> None:
    """What a process that died left of a key is part of one; the whole one behind it goes, too."""
    DigestKeys(path).key_for("one")
    with path.open("ab") as file:
        file.write(b'{"id":"two","key":"' + b"ab" * 20)
    torn = DigestKeys(path)
    key = torn.key_for("two")
    assert torn.kept("two") == key
    torn.erase(["two"])
    assert b"ab" * 5 not in path.read_bytes()
    assert b64url_encode(key).encode() not in path.read_bytes()
    assert torn.count(["one", "two"]) == 1


def test_a_torn_erasure_counts_as_one_and_is_finished(path: Path) -> None:
    """Power loss inside the write leaves half a key: nobody uses it, and the next attempt takes the rest."""
    keys = DigestKeys(path)
    key = b64url_encode(keys.key_for("task")).encode()
    path.write_bytes(path.read_bytes().replace(key, b"=" * 30 + key[30:]))
    with pytest.raises(ConfigurationError) as caught:
        keys.kept("task")
    assert caught.value.code == "erased"
    assert b64url_encode(DigestKeys(path).key_for("task")).encode()[30:] != key[30:]
    assert keys.count(["task"]) == 1
    keys.erase(["task"])
    assert keys.count(["task"]) == 0
    assert key[30:] not in path.read_bytes()


@pytest.mark.parametrize("raw", [b"\xfb\xef\xbe" * 10 + b"\xfb\xef", bytes(32)])
def test_no_key_is_taken_for_an_erased_one(path: Path, faulty: type, raw: bytes) -> None:
    """A key whose text is dashes but for its end, and what a process that died left of it, are not erased."""
    files = faulty()
    files.random = lambda size: raw
    assert DigestKeys(path, files=files).key_for("task") == raw
    assert DigestKeys(path).key_for("task") == DigestKeys(path).kept("task") == raw
    path.write_bytes(b'{"id":"task","key":"-\n' + path.read_bytes())
    assert DigestKeys(path).kept("task") == raw
    assert DigestKeys(path).count(["task"]) == 1


def test_a_key_in_another_spelling_is_none(path: Path) -> None:
    """Bits after its last byte make it no key: it is not used, and no other takes its place."""
    DigestKeys(path).key_for("one")
    path.write_bytes(path.read_bytes() + b'{"id":"task","key":"%s"}\n' % (b"A" * 42 + b"B"))
    with pytest.raises(ConfigurationError) as caught:
        DigestKeys(path).kept("task")
    assert caught.value.code == "no_digest_key"
    assert DigestKeys(path).link("task", b"data") is None


def test_a_kill_at_any_step_loses_no_other_key(path: Path, faulty: type) -> None:
    """Whatever the last call was: the keys that were not named are there, and the next attempt erases the rest."""
    base = DigestKeys(path)
    made = {name: base.key_for(name) for name in ("a", "b", "c")}
    whole = path.read_bytes()
    step = 0
    while True:
        step += 1
        path.write_bytes(whole)
        files = faulty(lambda number, _, step=step: KeyboardInterrupt() if number == step else None)
        try:
            DigestKeys(path, files=files).erase(["a", "b"])
        except KeyboardInterrupt:
            pass
        else:
            break
        assert DigestKeys(path).kept("c") == made["c"]
        DigestKeys(path).erase(["a", "b"])
        assert DigestKeys(path).count(made) == 1
    assert step > 8


@pytest.mark.parametrize("name", ["open", "read", "write", "fsync", "seek"])
def test_what_could_not_be_erased_is_an_error(path: Path, faulty: type, name: str) -> None:
    """A failure is never taken for an erasure."""
    DigestKeys(path).key_for("task")
    with pytest.raises(EvidenceError, match="erase the keys"):
        DigestKeys(path, files=faulty.failing(name, code=errno.EIO)).erase(["task"])


def test_the_erasure_reaches_the_disk(path: Path, faulty: type) -> None:
    """The file is synced after the last write, whatever the mode."""
    DigestKeys(path).key_for("task")
    files = faulty()
    DigestKeys(path, files=files).erase(["task"])
    assert files.calls[-3:] == ["fsync", "unlock", "close"]
    assert files.calls.count("write") == 1
    assert isinstance(files, Files)
