"""The first act in a new directory, and how one that was used without a checkpoint is told from a fresh one."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from agent_identity._ledger.transparency.bootstrap import log_was_removed, sign_empty_log, stream_names
from agent_identity._ledger.transparency.checkpoint import open_note
from agent_identity._storage.layout import Layout
from agent_identity._storage.os_files import Files, locked, make_folder
from agent_identity.identity import SigningKey

ORIGIN = "ledger.example/log"
SIGNER = SigningKey.from_seed(b"r" * 32)
STREAM = "AaIOQ0bYcV-ScJHDCbiHEA"


@pytest.fixture
def layout(directory: Path) -> Layout:
    """A directory with its folders and nothing else."""
    layout = Layout.of(directory)
    for folder in (layout.log, layout.keys, layout.streams):
        make_folder(Files(), folder, 0o700)
    return layout


def found_in(layout: Layout, files: Files | None = None) -> bytes | None:
    """Do the first act, and return the checkpoint that is there then."""
    sign_empty_log(files or Files(), layout, signer=SIGNER, origin=ORIGIN)
    path = Path(layout.checkpoint)
    return path.read_bytes() if path.exists() else None


USED: dict[str, Callable[[Layout], object]] = {
    "a stream": lambda layout: Path(layout.stream(STREAM)).mkdir(),
    "the key of the MACs": lambda layout: Path(layout.ledger_key).write_bytes(b""),
    "an entry": lambda layout: Path(layout.log_entries).write_bytes(b"x"),
    "a folder for entries": lambda layout: Path(layout.log_entries).mkdir(),
    "a link for entries": lambda layout: Path(layout.log_entries).symlink_to(layout.log),
}


@pytest.mark.parametrize("name", USED)
def test_a_directory_that_was_used_is_not_founded_again(layout: Layout, name: str) -> None:
    """Whatever only comes after the first checkpoint shows that it was there, and was removed."""
    USED[name](layout)
    assert log_was_removed(Files(), layout)
    assert found_in(layout) is None
    assert not Path(layout.log_lock).exists()
    Path(layout.checkpoint).write_bytes(b"any")
    assert not log_was_removed(Files(), layout)
    assert found_in(layout) == b"any"


FRESH: dict[str, Callable[[Layout], object]] = {
    "nothing": lambda layout: None,
    "no folders": lambda layout: (Path(layout.streams).rmdir(), Path(layout.keys).rmdir()),
    "an empty file of entries": lambda layout: Path(layout.log_entries).touch(),
    "other names": lambda layout: (Path(layout.streams, "x").mkdir(), Path(layout.keys, "recorder.pem").touch()),
    "a lock": lambda layout: Path(layout.log_lock).touch(),
}


@pytest.mark.parametrize("name", FRESH)
def test_a_fresh_directory_gets_the_signed_empty_log(layout: Layout, name: str) -> None:
    """Once: the second time there is a checkpoint already, which stays."""
    FRESH[name](layout)
    assert not log_was_removed(Files(), layout)
    note = found_in(layout)
    assert note is not None
    opened = open_note(note, {ORIGIN: SIGNER.public_key})
    assert opened.text.splitlines()[:2] == [ORIGIN, "0"]
    assert Path(layout.log_entries).read_bytes() == b""
    assert Path(layout.log_lock).exists()
    assert not log_was_removed(Files(), layout)
    sign_empty_log(Files(), layout, signer=SigningKey.from_seed(b"o" * 32), origin="other")
    assert Path(layout.checkpoint).read_bytes() == note


def test_the_disk_is_waited_for_and_nothing_stays_open(layout: Layout, faulty: Callable) -> None:
    """The checkpoint, the names of the log and those of the directory are on the disk before a stream is made."""
    files = faulty()
    opened: list[int] = []
    files.open = lambda *given: opened.append(Files.open(files, *given)) or opened[-1]
    synced: list[int] = []
    files.fsync = lambda fd: synced.append(os.fstat(fd).st_ino) or Files.fsync(files, fd)
    sign_empty_log(files, layout, signer=SIGNER, origin=ORIGIN)
    assert {Path(path).stat().st_ino for path in (layout.checkpoint, layout.log, layout.root)} <= set(synced)
    for fd in opened:
        with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
            os.fstat(fd)


def test_two_processes_found_one_log(layout: Layout) -> None:
    """Whoever comes second waits for the lock, and finds the checkpoint of the first."""
    waiting = Files()
    held = os.open(layout.log_lock, os.O_RDWR | os.O_CREAT, 0o600)

    class Meanwhile(Files):
        """Founds the log while another one waits."""

        done = False

        def lock(self, fd: int) -> None:
            """Let the other one be first."""
            if not self.done:
                self.done = True
                sign_empty_log(waiting, layout, signer=SIGNER, origin=ORIGIN)
            super().lock(fd)

    sign_empty_log(Meanwhile(), layout, signer=SigningKey.from_seed(b"o" * 32), origin="other")
    assert Path(layout.checkpoint).read_text().startswith(ORIGIN)
    with locked(waiting, held):  # It was given back.
        pass
    os.close(held)


@pytest.mark.parametrize("code", [errno.EACCES, errno.EIO, errno.EMFILE])
def test_what_cannot_be_told_is_an_error(layout: Layout, faulty: Callable, code: int) -> None:
    """To take a directory for used, or for fresh, because of an error would be held against it for good."""
    Path(layout.log_entries).touch()
    files = faulty()
    files.open = lambda path, *given: (_ for _ in ()).throw(OSError(code, "fault"))
    for act in (
        lambda: log_was_removed(files, layout),
        lambda: sign_empty_log(files, layout, signer=SIGNER, origin=ORIGIN),
    ):
        with pytest.raises(OSError, match="fault"):
            act()


@pytest.mark.parametrize("code", [errno.ELOOP, errno.ENXIO])
def test_a_link_or_socket_is_none_of_our_doing(layout: Layout, faulty: Callable, code: int) -> None:
    """It stands where the entries were, so they were there."""
    files = faulty()

    def refuse(path: str, *given: object) -> int:
        if path == layout.log_entries:
            raise OSError(code, "fault")
        return Files.open(files, path, *given)

    files.open = refuse
    assert log_was_removed(files, layout)


def test_streams_are_named_in_their_order(layout: Layout) -> None:
    """Other names are none."""
    later = f"{STREAM[:-1]}Q"
    for name in (later, STREAM, "x", f"{STREAM}x", f"{STREAM[:-1]}B", "segments.lock"):
        Path(layout.streams, name).mkdir()
    assert stream_names(Files(), layout) == (STREAM, later)
