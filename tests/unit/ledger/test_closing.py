"""Closures and notes of ended streams: their forms, and what is left alone."""

import os
import shutil
from pathlib import Path

import pytest

from agent_identity._ledger.closing import close_dead
from agent_identity._ledger.closure import Closure, unverified_closure
from agent_identity._ledger.ledger import Ledger
from agent_identity._ledger.reader import open_ledger
from agent_identity._ledger.settled import is_held, note_settled, written_here
from agent_identity._storage.layout import Layout
from agent_identity._storage.os_files import EDIT, Files
from agent_identity.errors import VerificationError
from agent_identity.identity import RandomIds, SigningKey, SystemClock

KEY, CLOSER = (SigningKey.from_seed(bytes([seed]) * 32) for seed in (1, 2))
STREAM = "AZq2l-gAcACAAAAAAAAAZw"
CLOSURE = Closure(origin="example/log", stream=STREAM, size=3, root=bytes(32), torn=4, time_ns=5)


def opened(directory: Path, **options: object) -> Ledger:
    """Open a ledger that seals nothing by itself."""
    made = {"signer": KEY, "origin": "example/log", "clock": SystemClock(), "ids": RandomIds(), "seal_interval": 3_600}
    return Ledger.open(directory, **{**made, **options})  # type: ignore[arg-type]


def test_a_closure_reads_as_it_was_written() -> None:
    """As a signed note."""
    assert unverified_closure(CLOSURE.signed(CLOSER)) == CLOSURE


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"closure v1", b"closure v2"),
        (b'"size":"3"', b'"size":"0"'),
        (b'"size":"3"', b'"size":"03"'),
        (b'"size":"3"', b'"size":3'),
        (b'"torn":"4"', b'"torn":"-4"'),
        (b'"torn":"4"', b'"torn":"4","why":"x"'),
        (b',"torn":"4"', b""),
        (STREAM.encode(), b"stream"),
        (b"example/log", b"example log"),
        (b'"origin":"example/log"', b'"origin":["example/log"]'),
        (b"\n{", b"\n["),
    ],
)
def test_a_closure_has_one_form(old: bytes, new: bytes) -> None:
    """Anything else is malformed."""
    note = CLOSURE.signed(CLOSER)
    assert old in note
    with pytest.raises(VerificationError) as caught:
        unverified_closure(note.replace(old, new))
    assert caught.value.code == "bad_closure"


@pytest.fixture
def dead(tmp_path: Path) -> tuple[Path, str]:
    """A copy of a directory whose process has sealed its one record, as a kill leaves it; and its stream."""
    with opened(tmp_path / "evidence") as ledger:
        ledger.seal()
        return Path(shutil.copytree(tmp_path / "evidence", tmp_path / "dead")), ledger.stream


def closed(directory: Path, time_ns: int) -> list[tuple[str, int, int]]:
    """Close what is dead; return the streams, each with its records and how many of them were sealed."""
    done = close_dead(Files(), str(directory), CLOSER, time_ns=time_ns)
    return [(one.stream, one.size, one.sealed) for one in done]


@pytest.mark.parametrize("there", [None, b"garbage", CLOSURE.signed(CLOSER)])
def test_a_note_that_says_something_else_is_replaced(dead: tuple[Path, str], there: bytes | None) -> None:
    """And what is no closure as well; the same one stays as it is, with its time."""
    directory, stream = dead
    path = Path(Layout.of(directory).closure(stream))
    if there is not None:
        path.write_bytes(there)
    assert closed(directory, 1) == [(stream, 1, 1)]
    before = path.read_bytes()
    assert closed(directory, 2) == []
    assert path.read_bytes() == before


def test_no_closure_is_read_for_what_is_no_stream_or_has_none(dead: tuple[Path, str]) -> None:
    """A name that leads elsewhere is never a part of a path."""
    directory, stream = dead
    reader = open_ledger(directory)
    assert reader.closure(stream) is reader.closure("../ledger") is None
    closed(directory, 1)
    assert reader.closure(stream) == Path(Layout.of(directory).closure(stream)).read_bytes()


def test_a_stream_that_a_start_recovered_is_left_alone(dead: tuple[Path, str]) -> None:
    """The record of the start says more than a closer can; a line that only looks like one says nothing."""
    directory, stream = dead
    with opened(directory) as later:
        Path(Layout.of(directory).lock(stream)).write_bytes(b"")
        mac = "A" * 43
        with Path(Layout.of(directory).entries(stream)).open("ab") as file:
            file.write(f'{{"mac":"{mac}","record":{{"kind":"recovered"}}}}\n'.encode())
            file.write(f'{{"mac":"{mac}","record":{{"kind":"recovered",}}}}\n'.encode())
        later.seal()
        assert closed(directory, 1) == []


def test_a_note_tells_where_it_was_written(tmp_path: Path) -> None:
    """In the file itself, not in a copy; without a note, or a file, nothing tells."""
    files, lock = Files(), str(tmp_path / "lock")
    assert written_here(files, lock) is None
    fd = files.open(lock, EDIT)
    assert written_here(files, lock) is None
    note_settled(files, fd, 7)
    assert written_here(files, lock) is True
    copy = tmp_path / "copy"
    copy.write_bytes(Path(lock).read_bytes())
    assert written_here(files, str(copy)) is False
    assert not is_held(files, lock)
    files.lock(fd)
    assert is_held(files, lock)
    assert is_held(files, str(tmp_path / "missing"))
    files.close(fd)


def test_a_process_that_finds_a_closure_begins_another_stream(tmp_path: Path) -> None:
    """Not at once: it looks a few times a second."""
    with opened(tmp_path) as ledger:
        before = ledger.stream
        Path(Layout.of(tmp_path).closure(before)).write_bytes(CLOSURE.signed(CLOSER))
        ledger._look()
        assert ledger.stream != before


def test_keys_that_are_kept_apart_do_not_say_that_a_directory_was_used(tmp_path: Path) -> None:
    """They outlive it; those in it do say so."""
    (tmp_path / "keys").mkdir(0o700)
    for name in ("one", "two"):
        with opened(tmp_path / name, keys=tmp_path / "keys") as ledger:
            assert ledger.keys == str(tmp_path / "keys")
        assert not (tmp_path / name / "keys").exists()
        assert b"lost" not in (tmp_path / name / "log" / "entries.jsonl").read_bytes()
    assert os.listdir(tmp_path / "keys") == ["ledger.key"]  # noqa: PTH208  Names alone.
