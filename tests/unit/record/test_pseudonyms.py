"""Pseudonyms: one for each principal, the same everywhere, and nobody's once erased."""

import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from agent_identity._record import pseudonyms as pseudonyms_module
from agent_identity._record.pseudonyms import PSEUDONYM_PREFIX, Pseudonyms
from agent_identity.errors import ConfigurationError, EvidenceError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "pseudonyms.jsonl"


def refused(names: Pseudonyms, pseudonym: str) -> str:
    """Return why nobody can tell whose a pseudonym is."""
    with pytest.raises(ConfigurationError) as caught:
        names.who(pseudonym)
    return caught.value.code


def test_a_pseudonym_is_stable_and_says_nothing(path: Path) -> None:
    """The same principal has the same one in every process; another id or kind has another; the form shows nothing."""
    first = Pseudonyms(path).of("human", "alice")
    other = Pseudonyms(path)
    assert other.find("human", "bob") is None
    assert (other.of("human", "alice"), other.find("human", "alice"), other.of("human", first)) == (first,) * 3
    assert len({first, other.of("service", "alice"), other.of("human", "bob")}) == 3
    assert first.startswith(PSEUDONYM_PREFIX)
    assert "alice" not in first
    assert other.who(first) == ("human", "alice")
    assert (other.name_of(first), other.name_of("pseudonym:unknown")) == (("human", "alice"), None)
    assert path.stat().st_mode & 0o777 == 0o600
    assert refused(other, PSEUDONYM_PREFIX + "0" * 32) == "unknown_pseudonym"


def test_the_file_must_be_closed_to_others(path: Path) -> None:
    """An open mapping is refused, not used."""
    Pseudonyms(path).of("human", "alice")
    path.chmod(0o640)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        Pseudonyms(path).of("human", "alice")


def test_threads_agree(path: Path) -> None:
    """Racing for the first use makes one pseudonym."""
    barrier, seen = threading.Barrier(4), list[str]()

    def work() -> None:
        names = Pseudonyms(path)
        barrier.wait()
        seen.append(names.of("human", "alice"))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(seen), len(set(seen))) == (4, 1)


@pytest.mark.parametrize("by", ["id", "pseudonym"])
def test_an_erased_principal_is_nobody(path: Path, by: str) -> None:
    """No byte of its id is left, the others stay, a running process forgets it, and it gets another name later."""
    running = Pseudonyms(path)
    alice, service = running.of("human", 'alice "é" \\'), running.of("service", "alice 2")
    Pseudonyms(path).erase(alice if by == "pseudonym" else 'alice "é" \\')
    assert b"alice \\" not in path.read_bytes()
    assert (refused(running, alice), running.find("human", 'alice "é" \\')) == ("erased", None)
    assert running.who(service) == ("service", "alice 2")
    assert running.of("human", 'alice "é" \\') != alice
    before = path.read_bytes()
    running.erase("nobody")
    assert path.read_bytes().strip(b"\n") == before.strip(b"\n")


def test_both_kinds_of_an_id_are_erased(path: Path) -> None:
    """A human and a service of the same id go together."""
    names = Pseudonyms(path)
    both = [names.of("human", "x"), names.of("service", "x")]
    names.erase("x")
    assert [refused(names, one) for one in both] == ["erased", "erased"]


@pytest.mark.parametrize("torn", [b'\n{"pseudonym":"pseudonym:00","of":["human","mal', b"[1,2]", b'{"x":1}'])
def test_what_a_process_that_died_left_goes_as_well(path: Path, torn: bytes) -> None:
    """A torn line hides no principal, and an erasure overwrites it, because it may be of that one."""
    names = Pseudonyms(path)
    alice = names.of("human", "alice")
    with path.open("ab") as file:
        file.write(torn)
    assert Pseudonyms(path).of("human", "alice") == alice
    bob = names.of("human", "bob")
    names.erase("bob")
    assert torn.strip() not in path.read_bytes()
    assert (names.who(alice), refused(names, bob)) == (("human", "alice"), "erased")


@pytest.mark.parametrize("of", [b'["human",1]', b'["human"]', b"1", b'---man","alice"]'])
def test_a_half_erased_mapping_is_none(path: Path, of: bytes) -> None:
    """Power loss inside an erasure leaves nobody, and the next erasure takes the rest."""
    name = PSEUDONYM_PREFIX + "0" * 32
    path.touch(mode=0o600)
    path.write_bytes(b'{"pseudonym":"%b","of":%b}\n' % (name.encode(), of))
    names = Pseudonyms(path)
    assert refused(names, name) == "erased"
    names.erase("anyone")
    assert of not in path.read_bytes()


def test_a_kill_at_any_step_loses_nobody_else(path: Path, faulty: type) -> None:
    """Whatever the last call was, the others are known, and the next attempt erases."""
    base = Pseudonyms(path)
    alice, bob = base.of("human", "alice"), base.of("human", "bob")
    whole, step = path.read_bytes(), 0
    while True:
        step += 1
        path.write_bytes(whole)
        files = faulty(lambda number, _, step=step: KeyboardInterrupt() if number == step else None)
        try:
            Pseudonyms(path, files=files).erase("alice")
        except KeyboardInterrupt:
            pass
        else:
            break
        assert Pseudonyms(path).who(bob) == ("human", "bob")
        Pseudonyms(path).erase("alice")
        assert refused(Pseudonyms(path), alice) == "erased"
    assert step > 8


def test_why_nobody_can_tell_is_said(path: Path, faulty: type) -> None:
    """Erased, of another directory, or not to be read: in words, and with what was to be done."""
    names = Pseudonyms(path)
    alice = names.of("human", "alice")
    names.erase("alice")

    def told(call: Callable[[Pseudonyms], object], name: str = "") -> str:
        files = faulty.failing(name, code=errno.EIO) if name else None
        with pytest.raises((ConfigurationError, EvidenceError)) as caught:
            call(Pseudonyms(path, files=files))
        return str(caught.value)

    assert told(lambda names: names.who(alice)) == (
        "the mapping of the pseudonym was erased; its principal cannot be named any more"
    )
    assert told(lambda names: names.who("x")) == (
        "this directory does not have the pseudonym; ask where the task was opened"
    )
    assert told(lambda names: names.find("human", "bob"), "open").startswith("could not read the pseudonyms: ")
    assert told(lambda names: names.of("human", "bob"), "write").startswith("could not keep a pseudonym: ")
    assert told(lambda names: names.erase("bob"), "open").startswith("could not erase a pseudonym: ")


def test_an_erasure_is_kept_by_the_disk_and_seen_at_once(path: Path, faulty: type) -> None:
    """Also where the clock of the file stands still: the file is longer by a byte, if anything was overwritten."""
    running = Pseudonyms(path)
    alice = running.of("human", "alice")
    status = path.stat()
    files = faulty()
    Pseudonyms(path, files=files).erase("alice")
    assert files.calls[-3:] == ["fsync", "unlock", "close"]
    assert (path.stat().st_size, files.calls.count("write")) == (status.st_size + 1, 2)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert running.name_of(alice) is None
    files.calls.clear()
    Pseudonyms(path, files=files).erase("alice")
    assert files.calls.count("write") == 0
    assert path.read_bytes() == (
        b'\n{"pseudonym":"%b","of":%b}\n\n' % (alice.encode(), b"-" * len(b'["human","alice"]'))
    )


def test_a_new_pseudonym_is_on_the_disk_and_long_files_are_read_whole(
    path: Path, faulty: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the chunks in which the file is read."""
    monkeypatch.setattr(pseudonyms_module, "_CHUNK", 7)
    files = faulty()
    names = Pseudonyms(path, files=files)
    made = [names.of("service", f"agent-{number}") for number in range(5)]
    assert files.calls.count("fdatasync") == 5
    assert [Pseudonyms(path).who(name) for name in made] == [("service", f"agent-{number}") for number in range(5)]
    assert all(len(name) == len(PSEUDONYM_PREFIX) + 32 for name in made)


def test_without_a_file_nobody_is_known(path: Path) -> None:
    """Nothing is made by asking."""
    names = Pseudonyms(path)
    names.erase("alice")
    assert (names.find("human", "alice"), refused(names, "x")) == (None, "unknown_pseudonym")
    assert not path.exists()


@pytest.mark.parametrize("name", ["open", "read", "write", "fdatasync"])
def test_a_pseudonym_that_cannot_be_kept_is_not_used(path: Path, faulty: type, name: str) -> None:
    """No name goes into evidence under one that is lost."""
    Pseudonyms(path).of("human", "bob")
    with pytest.raises(EvidenceError):
        Pseudonyms(path, files=faulty.failing(name, code=errno.EIO)).of("human", "alice")
