"""Foreign lines in the log are set aside: nothing of it is lost, wherever that ends."""

import errno
from pathlib import Path

import pytest

from agent_identity._ledger.transparency.bootstrap import sign_empty_log
from agent_identity._ledger.transparency.log import DirectoryLog, Head
from agent_identity._storage.layout import Layout
from agent_identity._storage.mac import LedgerKey
from agent_identity._storage.os_files import Files
from agent_identity.errors import EvidenceError
from agent_identity.identity import SigningKey

STREAM = "AZV6P04jewGp0QAAAAAAoQ"
ORIGIN = "ledger.example/log"
SIGNER = SigningKey.from_seed(b"r" * 32)
LONG = b"y" * 600_000 + b"\n"
CHANGES = ("open", "write", "truncate", "fdatasync", "seek")


class KilledError(BaseException):
    """The process is no more."""


class Ending(Files):
    """Ends with an error before the n-th call that reaches a file."""

    def __init__(self, left: int, error: type[BaseException]) -> None:
        self.left = left
        self.error = error

    def tick(self) -> None:
        """Count, and end."""
        self.left -= 1
        if self.left < 0:
            raise OSError(errno.EIO, "fault") if self.error is OSError else self.error


def _ending(name: str) -> object:
    def call(self: Ending, *arguments: object) -> object:
        self.tick()
        return getattr(Files, name)(self, *arguments)

    return call


for _name in CHANGES:
    setattr(Ending, _name, _ending(_name))


def directory_log(folder: Path, files: Files) -> DirectoryLog:
    """Return the log of a directory, as a process that just started has it."""
    return DirectoryLog(files, Layout.of(folder), LedgerKey(b"k" * 32), signer=SIGNER, origin=ORIGIN, durable=False)


@pytest.fixture
def good(tmp_path: Path) -> list[bytes]:
    """Make the log of a directory, of five entries, of which the checkpoint covers three; return its lines."""
    layout = Layout.of(tmp_path)
    Path(layout.log).mkdir()
    Path(layout.streams).mkdir()
    Path(layout.keys).mkdir()
    sign_empty_log(Files(), layout, signer=SIGNER, origin=ORIGIN)
    log = directory_log(tmp_path, Files())
    for size in (1, 2, 3):
        log.commit([Head(STREAM, size, bytes(32), 1)])
    before = Path(layout.checkpoint).read_bytes()
    log.commit([Head(STREAM, size, bytes(32), 1) for size in (4, 5)])
    log.close()
    Path(layout.checkpoint).write_bytes(before)
    return Path(layout.log_entries).read_bytes().splitlines(keepends=True)


@pytest.fixture
def entries(tmp_path: Path, good: list[bytes]) -> Path:
    """Put foreign lines between and behind the entries that no checkpoint covers; return the file."""
    path = Path(Layout.of(tmp_path).log_entries)
    path.write_bytes(b"".join([*good[:3], b"a\n", good[3], LONG, b"b\n", good[4], b"c\n", b"d"]))
    return path


@pytest.mark.parametrize("error", [KilledError, OSError])
def test_wherever_it_ends_the_next_attempt_does_the_rest(
    entries: Path, tmp_path: Path, good: list[bytes], error: type
) -> None:
    """No line of the library is lost, each foreign one is kept, and the log is whole then."""
    broken, rejected = entries.read_bytes(), entries.with_name("rejected.jsonl")
    number, ended = 0, True
    while ended:
        entries.write_bytes(broken)
        rejected.unlink(missing_ok=True)
        ended = False
        try:
            directory_log(tmp_path, Ending(number, error)).read_heads(())
        except (KilledError, OSError):
            ended = True
        log = directory_log(tmp_path, Files())
        assert log.read_heads((STREAM,))[STREAM].size == 5
        log.close()
        assert (entries.read_bytes() == b"".join(good)) is True
        kept = rejected.read_bytes().splitlines(keepends=True)
        assert {b"a\n", b"b\n", b"c\n", b"d\n", LONG} <= set(kept)
        number += 1
    assert number > 15
    assert len(kept) == 5


def test_somebody_who_never_stops_writing_costs_one_attempt(entries: Path, tmp_path: Path, good: list[bytes]) -> None:
    """The seal gives up for now, with the lock given back."""

    class Busy(Files):
        def truncate(self, fd: int, size: int) -> None:
            super().truncate(fd, size)
            with entries.open("ab") as file:
                file.write(b"again\n")

    log = directory_log(tmp_path, Busy())
    with pytest.raises(OSError, match="keeps writing"):
        log.read_heads(())
    log.close()
    log = directory_log(tmp_path, Files())
    log.commit([Head(STREAM, 6, bytes(32), 1)])
    log.close()
    assert entries.read_bytes().startswith(b"".join(good)) is True


def longer(folder: Path) -> list[bytes]:
    """Return the lines of the log once it has seven entries, under the checkpoint over three."""
    layout = Layout.of(folder)
    before = Path(layout.checkpoint).read_bytes()
    log = directory_log(folder, Files())
    log.commit([Head(STREAM, size, bytes(32), 1) for size in (6, 7)])
    log.close()
    Path(layout.checkpoint).write_bytes(before)
    return Path(layout.log_entries).read_bytes().splitlines(keepends=True)


@pytest.mark.parametrize(("looks", "refused"), [(9 * 1_024 + 2, True), (9 * 1_024 + 1, False)])
def test_the_search_for_later_entries_has_an_end(
    tmp_path: Path, good: list[bytes], monkeypatch: pytest.MonkeyPatch, looks: int, refused: bool
) -> None:
    """Many lines of the right form cost bounded work; what is found within it is refused, what is not is set aside."""
    monkeypatch.setattr("agent_identity._ledger.transparency._rejects._LOOKS", looks)
    lines = longer(tmp_path)
    assert lines[:5] == good
    forged = [b'{"entry":{"n":"%d"},"mac":"%s"}\n' % (number, b"0" * 43) for number in range(9)]
    path = Path(Layout.of(tmp_path).log_entries)
    path.write_bytes(b"".join([*lines[:3], *forged, *lines[4:]]))
    log = directory_log(tmp_path, Files())
    if refused:
        with pytest.raises(EvidenceError, match="entries of a longer log"):
            log.read_heads((STREAM,))
        assert path.read_bytes() == b"".join([*lines[:3], *forged, *lines[4:]])
    else:
        assert log.read_heads((STREAM,))[STREAM].size == 3
        assert path.with_name("rejected.jsonl").read_bytes() == b"".join([*forged, *lines[4:]])
    log.close()


def test_a_contradiction_by_later_entries_stays(tmp_path: Path, good: list[bytes]) -> None:
    """As any other does: the process signs nothing more, whatever is put back."""
    lines = longer(tmp_path)
    path = Path(Layout.of(tmp_path).log_entries)
    path.write_bytes(b"".join([*lines[:3], *lines[4:]]))
    log = directory_log(tmp_path, Files())
    for _ in range(2):
        with pytest.raises(EvidenceError, match="entries of a longer log") as caught:
            log.read_heads(())
        assert caught.value.code == "log_contradicted"
        path.write_bytes(b"".join(lines))
    log.close()
    assert path.read_bytes() == b"".join(lines)
    assert lines[:5] == good
