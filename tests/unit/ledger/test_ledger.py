"""The ledger as its users see it: what is appended stays, and what cannot be appended is said."""

import errno
import gc
import logging
import os
import sys
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from plain_records import append

from agent_identity._ledger import ledger as ledger_module
from agent_identity._ledger import writer as stream_writer
from agent_identity._ledger.writer import Entry, StreamWriter
from agent_identity._storage.mac import LedgerKey
from agent_identity._storage.os_files import Files
from agent_identity.errors import ConfigurationError, EvidenceError
from agent_identity.options import Ledger
from agent_identity.testing import FixedClock, SequentialIds

BODY = {"agent": {"id": "clerk", "owner": "ops@example.com"}}
Open = Callable[..., Ledger]


def descriptors() -> int:
    return len(list(Path("/proc/self/fd" if Path("/proc/self/fd").exists() else "/dev/fd").iterdir()))


def entries_path(directory: Path, stream: str) -> Path:
    return directory / "ledger" / stream / "entries.jsonl"


def test_first_use_makes_everything_with_safe_modes(opened: Open, directory: Path) -> None:
    """Keys are for the owner alone; nobody else may write, whatever the umask allows."""
    mask = os.umask(0)
    try:
        ledger = opened()
        ledger.close()
    finally:
        os.umask(mask)
    modes = {path.relative_to(directory).as_posix(): path.stat().st_mode & 0o777 for path in directory.rglob("*")}
    stream = f"ledger/{ledger.stream}"
    assert modes == {
        "keys": 0o700,
        "keys/ledger.key": 0o600,
        "ledger": 0o755,
        stream: 0o755,
        f"{stream}/entries.jsonl": 0o644,
        f"{stream}/lock": 0o644,
        "log": 0o755,
        "log/checkpoint": 0o644,
        "log/entries.jsonl": 0o644,
        "log/lock": 0o644,
    }
    assert ledger.directory == str(directory)
    assert directory.stat().st_mode & 0o777 == 0o755


def test_a_stream_has_a_start_its_records_and_an_end(opened: Open, audit: Callable, clock: FixedClock) -> None:
    """A closed stream says how long it is, and all of it is sealed."""
    with opened() as ledger:
        entry = append(ledger, "registration", BODY)
        stream = ledger.stream
    found = audit()
    assert found.kinds(stream) == ["stream_start", "registration", "stream_end"]
    start, record, end = found.records[stream]
    assert start["sdk"]["name"] == "agent-identity-otel"
    assert end["end"] == {"size": "3"}
    assert (entry.id, entry.seq) == (record["id"], 2)
    assert record["time"] == {"start": str(clock.wall_ns())}
    assert found.sealed == {stream: 3}


def test_a_record_is_in_the_file_when_append_returns(opened: Open, directory: Path) -> None:
    """No buffer of the process lies between a record and the system."""
    ledger = opened()
    entry = append(ledger, "registration", BODY)
    assert entry.data in entries_path(directory, ledger.stream).read_bytes()


def test_the_time_of_the_caller_is_kept(opened: Open, audit: Callable) -> None:
    """A record says when the thing happened that it speaks of, and the ledger gives it a new id."""
    with opened() as ledger:
        first = append(ledger, "registration", {**BODY, "time": {"start": "5", "end": "7"}})
        second = append(ledger, "registration", {**BODY, "time": {"start": "9"}})
        stream = ledger.stream
    record, last = audit().records[stream][1:3]
    assert record["time"] == {"start": "5", "end": "7"}
    assert (last["id"], last["time"]) == (second.id, {"start": "9"})
    assert first.id != second.id


def test_callbacks_get_their_entries_in_order(opened: Open) -> None:
    """After drain, every callback so far has run, once, in the order of appends, on one other thread."""
    ledger = opened()
    seen: list[tuple[Entry, int]] = []
    entries = [
        append(ledger, "registration", BODY, after=lambda entry: seen.append((entry, threading.get_ident())))
        for _ in range(100)
    ]
    ledger.drain()
    assert [entry for entry, _ in seen] == entries
    assert len({thread for _, thread in seen}) == 1
    assert seen[0][1] != threading.get_ident()
    ledger.drain()
    assert len(seen) == 100


def test_threads_share_one_stream(opened: Open, audit: Callable) -> None:
    """Records of many threads get one order, without gaps."""
    ledger = opened()
    barrier = threading.Barrier(8)

    def work() -> None:
        barrier.wait()
        for _ in range(50):
            append(ledger, "registration", BODY)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ledger.close()
    assert len(audit().records[ledger.stream]) == 402


@pytest.mark.parametrize(
    "bad", [{"text": "\ud800"}, {"text": object()}, {1: "x"}, {"text": "x" * stream_writer.MAX_RECORD_BYTES}]
)
def test_what_is_no_record_is_refused_and_changes_nothing(opened: Open, audit: Callable, bad: dict) -> None:
    """A bad record is the fault of its maker: the ledger neither degrades nor skips a number."""
    ledger = opened()
    with pytest.raises(EvidenceError, match=r" (is|are|has|have|does|covers) ") as caught:
        append(ledger, "registration", bad)
    assert caught.value.code == "bad_record"
    assert ledger.degraded is None
    assert append(ledger, "registration", BODY).seq == 2
    ledger.close()
    assert len(audit().records[ledger.stream]) == 3


def test_a_full_disk_refuses_and_recovers(opened: Open, faulty: type, audit: Callable, caplog: object) -> None:
    """Nothing of a failed record stays, the ledger says so once, and the next append works when space is back."""
    files = faulty()
    ledger = opened(files=files)
    before = append(ledger, "registration", BODY)
    files.fault = lambda number, name: OSError(errno.ENOSPC, "fault") if name == "write" else None
    for _ in range(2):
        with pytest.raises(EvidenceError, match=os.strerror(errno.ENOSPC)):
            append(ledger, "registration", BODY)
    assert os.strerror(errno.ENOSPC) in (ledger.degraded or "")
    assert len([r for r in caplog.records if r.levelno == logging.ERROR]) == 1
    files.heal()
    assert append(ledger, "registration", BODY).seq == before.seq + 1
    assert ledger.degraded is None
    ledger.close()
    found = audit()
    assert found.problems == {ledger.stream: []}
    assert len(found.records[ledger.stream]) == 4


class Torn(Files):
    """Writes a part of each line and claims no more, while it is told to."""

    def __init__(self) -> None:
        self.torn = False
        self.cut = True

    def write(self, fd: int, data: bytes) -> int:
        """Write the first half."""
        return super().write(fd, data[: len(data) // 2] if self.torn else data)

    def truncate(self, fd: int, size: int) -> None:
        """Fail, where nothing is to be taken back."""
        if self.torn and not self.cut:
            raise OSError(errno.EIO, "fault")
        super().truncate(fd, size)


def test_a_torn_write_is_taken_back(opened: Open, audit: Callable) -> None:
    """A write in part leaves no torn line in the middle of a stream."""
    files = Torn()
    ledger = opened(files=files)
    files.torn = True
    with pytest.raises(EvidenceError, match="a part"):
        append(ledger, "registration", BODY)
    files.torn = False
    append(ledger, "registration", BODY)
    ledger.close()
    assert audit().problems == {ledger.stream: []}


def test_a_torn_line_that_stays_ends_its_stream(opened: Open, audit: Callable) -> None:
    """If even taking back fails, the next record begins a new stream; what the old one held is sealed."""
    files = Torn()
    ledger = opened(files=files)
    old = ledger.stream
    append(ledger, "registration", BODY)
    files.torn, files.cut = True, False
    with pytest.raises(EvidenceError):
        append(ledger, "registration", BODY)
    files.torn = False
    append(ledger, "registration", BODY)
    assert ledger.stream != old
    ledger.seal()
    ledger.close()
    found = audit()
    assert found.problems == {old: ["torn"], ledger.stream: []}
    assert found.kinds(old) == ["stream_start", "registration"]
    assert found.kinds(ledger.stream) == ["stream_start", "registration", "stream_end"]
    assert found.sealed == {old: 2, ledger.stream: 3}


@pytest.mark.parametrize("moment", ["before", "after"])
def test_an_interrupted_append_ends_its_stream(opened: Open, audit: Callable, moment: str) -> None:
    """After Ctrl-C nobody knows what is in the file, so no record follows in that stream and none is lost."""

    class Interrupted(Files):
        armed = False

        def write(self, fd: int, data: bytes) -> int:
            if self.armed and moment == "before":
                raise KeyboardInterrupt
            written = super().write(fd, data)
            if self.armed:
                raise KeyboardInterrupt
            return written

    files = Interrupted()
    ledger = opened(files=files)
    old = ledger.stream
    files.armed = True
    with pytest.raises(KeyboardInterrupt):
        append(ledger, "registration", BODY)
    files.armed = False
    append(ledger, "registration", BODY)
    ledger.close()
    again = opened()
    again.close()
    found = audit()
    assert found.kinds(old) == ["stream_start"] + (["registration"] if moment == "after" else [])
    assert found.sealed[old] == len(found.records[old])
    assert found.kinds(ledger.stream) == ["stream_start", "registration", "stream_end"]


def test_an_append_inside_an_append_is_refused(opened: Open, audit: Callable) -> None:
    """A signal handler that acts in the middle of a record is denied, and neither hangs nor mixes records."""

    class Signalled(Files):
        inside: Callable[[], object] | None = None

        def write(self, fd: int, data: bytes) -> int:
            inside, self.inside = self.inside, None
            if inside is not None:
                with pytest.raises(EvidenceError, match="signal handler"):
                    inside()
            return super().write(fd, data)

    files = Signalled()
    ledger = opened(files=files)
    files.inside = lambda: append(ledger, "registration", BODY)
    append(ledger, "registration", BODY)
    files.inside = None
    ledger.close()
    assert len(audit().records[ledger.stream]) == 3


def test_a_failed_start_of_a_stream_is_tried_again_under_its_id(
    opened: Open, faulty: type, directory: Path, audit: Callable
) -> None:
    """A full disk does not leave a folder per attempt, and the stream begins with its start record."""
    files = faulty()
    ledger = opened(files=files)
    ledger.after_fork_in_child()
    before = descriptors()
    for name in ("mkdir", "open", "lock", "status", "write"):
        files.fault = lambda number, called, name=name: OSError(errno.ENOSPC, "fault") if called == name else None
        with pytest.raises(EvidenceError):
            append(ledger, "registration", BODY)
        with pytest.raises(EvidenceError):
            _ = ledger.stream
    files.heal()
    append(ledger, "registration", BODY)
    assert len(list((directory / "ledger").iterdir())) == 2
    assert descriptors() == before + 2
    ledger.close()
    assert audit().kinds(ledger.stream) == ["stream_start", "registration", "stream_end"]


def test_the_stream_is_begun_when_its_id_is_asked_for(opened: Open, audit: Callable) -> None:
    """In a forked child, the id exists before the first record."""
    ledger = opened()
    parent = ledger.stream
    ledger.after_fork_in_child()
    child = ledger.stream
    assert child != parent
    append(ledger, "registration", BODY)
    assert ledger.stream == child
    ledger.close()
    assert ledger.stream == child
    assert audit().kinds(child)[0] == "stream_start"


def test_an_interrupted_start_is_not_continued(opened: Open) -> None:
    """Ctrl-C while the id is asked for leaves the ledger usable."""

    class Interrupted(Files):
        armed = False

        def write(self, fd: int, data: bytes) -> int:
            if self.armed:
                raise KeyboardInterrupt
            return super().write(fd, data)

    files = Interrupted()
    ledger = opened(files=files)
    ledger.after_fork_in_child()
    files.armed = True
    with pytest.raises(KeyboardInterrupt):
        _ = ledger.stream
    files.armed = False
    assert append(ledger, "registration", BODY).seq == 2


def test_an_interrupt_before_there_is_a_stream_is_harmless(opened: Open) -> None:
    """Ctrl-C while the folder is made leaves nothing to abandon."""

    class Interrupted(Files):
        armed = False

        def mkdir(self, path: str, mode: int) -> bool:
            if self.armed:
                raise KeyboardInterrupt
            return super().mkdir(path, mode)

    files = Interrupted()
    ledger = opened(files=files)
    ledger.after_fork_in_child()
    files.armed = True
    with pytest.raises(KeyboardInterrupt):
        append(ledger, "registration", BODY)
    files.armed = False
    assert append(ledger, "registration", BODY).seq == 2


@pytest.mark.parametrize("error", [KeyboardInterrupt, RecursionError])
@pytest.mark.parametrize("moment", ["inside", "after"])
def test_an_interrupt_after_a_stream_was_locked_is_harmless(
    opened: Open, monkeypatch: pytest.MonkeyPatch, error: type[BaseException], moment: str
) -> None:
    """Neither Ctrl-C nor too deep a recursion leaves a lock for which all later records wait in vain."""

    class Impatient(Files):
        def pause(self, seconds: float) -> None:
            raise AssertionError("waits for a lock that nobody gives back")

    def interrupted(*args: Any, **options: Any) -> None:
        if moment == "after":
            create(*args, **options)
        raise error

    ledger = opened(files=Impatient())
    ledger.after_fork_in_child()
    create, before = StreamWriter.create, descriptors()
    target = (LedgerKey, "stream_mac") if moment == "inside" else (StreamWriter, "create")
    with monkeypatch.context() as patched:
        patched.setattr(*target, interrupted)
        with pytest.raises(error):
            append(ledger, "registration", BODY)
    if moment == "inside":
        assert descriptors() == before
    assert append(ledger, "registration", BODY).seq == 2


def test_a_stream_is_never_shared_with_one_that_exists(opened: Open, directory: Path) -> None:
    """Ids that repeat themselves end in an error, not in two histories in one file."""
    first = opened(ids=SequentialIds())
    first.close()
    with pytest.raises(EvidenceError, match=os.strerror(errno.EEXIST)):
        opened(ids=SequentialIds())


def test_a_closed_ledger_refuses(opened: Open, directory: Path) -> None:
    """Nothing is recorded after the end; closing again does nothing, waiting for nothing works."""
    ledger = opened()
    ledger.close()
    size = entries_path(directory, ledger.stream).stat().st_size
    with pytest.raises(EvidenceError, match="closed") as caught:
        append(ledger, "registration", BODY)
    assert caught.value.code == "ledger_closed"
    ledger.close()
    ledger.drain()
    ledger.seal()
    assert entries_path(directory, ledger.stream).stat().st_size == size


def test_a_ledger_closed_in_a_child_that_recorded_nothing(opened: Open, audit: Callable) -> None:
    """A child without records leaves no trace, and has no stream to name afterwards."""
    ledger = opened()
    stream = ledger.stream
    ledger.after_fork_in_child()
    ledger.close()
    assert list(audit().records) == [stream]
    with pytest.raises(EvidenceError, match="closed"):
        _ = ledger.stream


def test_a_failed_close_is_reported_once_and_repaired_by_the_next_start(
    opened: Open, faulty: type, audit: Callable
) -> None:
    """Close frees everything even on a full disk; what it could not seal, the next start seals."""
    before = descriptors()
    files = faulty()
    ledger = opened(files=files)
    append(ledger, "registration", BODY)
    files.fault = lambda number, name: OSError(errno.ENOSPC, "fault") if name == "write" else None
    with pytest.raises(EvidenceError):
        ledger.close()
    ledger.close()
    assert descriptors() == before
    again = opened()
    again.close()
    found = audit()
    assert found.kinds(ledger.stream) == ["stream_start", "registration"]
    assert found.sealed[ledger.stream] == 2


def test_a_close_that_only_misses_the_end_record_says_so(opened: Open, audit: Callable) -> None:
    """The stream is sealed without its end, and the caller knows."""

    class Once(Files):
        armed = False

        def write(self, fd: int, data: bytes) -> int:
            if self.armed:
                self.armed = False
                raise OSError(errno.ENOSPC, "fault")
            return super().write(fd, data)

    files = Once()
    ledger = opened(files=files)
    files.armed = True
    with pytest.raises(EvidenceError):
        ledger.close()
    found = audit()
    assert found.kinds(ledger.stream) == ["stream_start"]
    assert found.sealed == {ledger.stream: 1}


def test_processes_and_ledgers_share_a_directory(opened: Open, audit: Callable) -> None:
    """Each ledger has its stream; all are in one log."""
    first, second = opened(), opened()
    for ledger in (first, second, first):
        append(ledger, "registration", BODY)
        ledger.seal()
    first.close()
    second.close()
    found = audit()
    assert found.sealed == {first.stream: 4, second.stream: 3}
    assert not found.of_kind("recovered")


def test_a_directory_keeps_its_origin(opened: Open) -> None:
    """A log under two names would be two logs; the second name is refused at the start."""
    opened().close()
    with pytest.raises(ConfigurationError, match="origin"):
        opened(origin="other.example/log")
    with pytest.raises(ValueError, match="log name"):
        opened(origin="has space")


def test_a_damaged_checkpoint_does_not_stop_the_start(opened: Open, directory: Path) -> None:
    """The ledger records on, degraded, and the damage stays for the auditor to see."""
    opened().close()
    (directory / "log" / "checkpoint").write_bytes(b"garbage")
    ledger = opened()
    append(ledger, "registration", BODY)
    with pytest.raises(EvidenceError, match="no checkpoint") as caught:
        ledger.seal()
    assert ledger.degraded == str(caught.value)
    assert (directory / "log" / "checkpoint").read_bytes() == b"garbage"
    with pytest.raises(EvidenceError):
        ledger.close()


def test_disk_mode_syncs_before_append_returns(opened: Open, faulty: type, audit: Callable) -> None:
    """With ``disk``, each record is synced, a new stream with its folders, and the log before its checkpoint."""
    files = faulty()
    ledger = opened(files=files, sync="disk")
    assert files.calls.count("fsync") >= 2
    files.calls.clear()
    append(ledger, "registration", BODY)
    assert [call for call in files.calls if call in ("write", "fdatasync")] == ["write", "fdatasync"]
    files.calls.clear()
    ledger.seal()
    order = [call for call in files.calls if call in ("write", "fdatasync", "fsync", "replace")]
    assert order == ["write", "fdatasync", "write", "fsync", "replace", "fsync"]
    ledger.close()
    assert audit().sealed == {ledger.stream: 3}


def test_a_signal_handler_or_finalizer_may_append_while_its_thread_syncs(opened: Open, audit: Callable) -> None:
    """In disk mode most of them interrupt a sync: the thread does not wait for itself, and both records are synced."""
    recorded: list[str] = []

    class Interrupted(Files):
        def fdatasync(self, fd: int) -> None:
            super().fdatasync(fd)
            if waiting and threading.current_thread() is thread:
                waiting.pop()()

    def work() -> None:
        recorded.append(append(ledger, "registration", BODY).id)

    ledger = opened(files=Interrupted(), sync="disk", seal_interval=3600)
    waiting = [work]
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(30)
    assert not thread.is_alive()
    stream = ledger.stream
    ledger.close()
    assert len(set(recorded)) == 2
    assert audit().kinds(stream) == ["stream_start", "registration", "registration", "stream_end"]


@pytest.mark.parametrize("step", ["drain", "seal", "close"])
def test_what_interrupts_a_sync_does_not_wait_for_it(opened: Open, audit: Callable, step: str) -> None:
    """The worker may wait for the interrupted thread, so that a handler is told at once, and loses nothing."""
    raised: list[EvidenceError] = []

    class Interrupted(Files):
        def fdatasync(self, fd: int) -> None:
            super().fdatasync(fd)
            if waiting and threading.current_thread() is thread:
                waiting.pop()()

    def interrupting() -> None:
        append(ledger, "registration", BODY)
        try:
            getattr(ledger, step)()
        except EvidenceError as error:
            raised.append(error)

    ledger = opened(files=Interrupted(), sync="disk")
    stream, waiting = ledger.stream, [interrupting]
    thread = threading.Thread(target=append, args=(ledger, "registration", BODY), daemon=True)
    thread.start()
    thread.join(20)
    assert not thread.is_alive()
    assert len(raised) == 1
    ledger.close()
    kinds = ["stream_start", "registration", "registration", "stream_end"]
    assert audit().kinds(stream) == kinds


@pytest.mark.parametrize("step", ["drain", "seal"])
def test_what_interrupts_a_rotation_does_not_wait_for_it(opened: Open, step: str) -> None:
    """A rotation holds up the worker like a sync, and what it interrupts goes on in the new segment."""
    raised: list[EvidenceError] = []
    waiting: list[Callable[[], None]] = []

    class Interrupted(Files):
        def replace(self, source: str, target: str) -> None:
            super().replace(source, target)
            if waiting and threading.current_thread() is thread:
                waiting.pop()()

    def interrupting() -> None:
        try:
            getattr(ledger, step)()
        except EvidenceError as error:
            raised.append(error)

    ledger = opened(files=Interrupted(), sync="disk", seal_interval=3600)
    thread = threading.Thread(target=append, args=(ledger, "registration", BODY), daemon=True)
    append(ledger, "registration", BODY)
    ledger._stream.rotate_at = 0
    waiting.append(interrupting)
    thread.start()
    thread.join(20)
    assert not thread.is_alive()
    assert [error.code for error in raised] == ["evidence_pending"]
    ledger.seal()
    assert ledger.sealing.unsealed == 0
    ledger.close()


def test_a_seal_that_a_broken_clock_prevents_is_no_seal(opened: Open) -> None:
    """Whoever asks for a seal while the worker fails gets the error, and the next seal covers all."""
    failing: list[bool] = []

    class Broken(FixedClock):
        def monotonic_ns(self) -> int:
            if failing:
                raise ZeroDivisionError
            return super().monotonic_ns()

    ledger = opened(clock=Broken(), seal_interval=3600)
    append(ledger, "registration", BODY)
    failing.append(True)
    with pytest.raises(EvidenceError, match="ZeroDivisionError"):
        ledger.seal()
    failing.clear()
    ledger.seal()
    assert ledger.sealing.unsealed == 0
    ledger.close()


@pytest.mark.parametrize("part", ["clock", "_ids"])
def test_a_clock_or_source_of_ids_that_fails_refuses_and_recovers(opened: Open, audit: Callable, part: str) -> None:
    """Nothing is recorded, nothing of what was raised is quoted, and the stream goes on with the next record."""

    class Broken:
        def __getattr__(self, name: str) -> object:
            raise ZeroDivisionError("canary")

    ledger = opened()
    stream, whole = ledger.stream, getattr(ledger, part)
    setattr(ledger, part, Broken())
    with pytest.raises(EvidenceError, match="raised ZeroDivisionError") as caught:
        append(ledger, "registration", {**BODY, "time": {"start": "1"}})
    assert "canary" not in str(caught.value)
    assert ledger.degraded
    setattr(ledger, part, whole)
    append(ledger, "registration", BODY)
    assert (ledger.stream, ledger.degraded) == (stream, None)
    ledger.close()
    assert audit().kinds(stream) == ["stream_start", "registration", "stream_end"]


def test_a_file_that_cannot_be_opened_just_now_is_no_lost_log(opened: Open, audit: Callable) -> None:
    """Too many open files at the first start refuse it; the next one founds the log as if nothing had been."""

    class Crowded(Files):
        def open(self, path: str, flags: int, mode: int = 0o644) -> int:
            if path.endswith("log/entries.jsonl"):
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            return super().open(path, flags, mode)

    with pytest.raises(EvidenceError, match=os.strerror(errno.EMFILE)):
        opened(files=Crowded())
    opened().close()
    assert audit().losses == []


def test_process_mode_waits_for_the_disk_at_seals_alone(opened: Open, faulty: type) -> None:
    """Without being asked to survive power loss, no append waits for the disk; a seal does, twice."""
    files = faulty()
    ledger = opened(files=files)
    files.calls.clear()
    append(ledger, "registration", BODY)
    ledger.drain()
    assert not {"fsync", "fdatasync"} & set(files.calls)
    ledger.close()
    assert [name for name in files.calls if name in {"fsync", "fdatasync"}] == ["fdatasync", "fsync"]


def test_disk_mode_waits_for_what_others_may_have_made(opened: Open, faulty: type, directory: Path) -> None:
    """A process that comes second does not rely on the first having waited for the names of the folders."""
    opened().close()
    synced: list[str] = []

    class Watched(Files):
        def open(self, path: str, flags: int, mode: int = 0o644) -> int:
            self.last = path
            return super().open(path, flags, mode)

        def fsync(self, fd: int) -> None:
            synced.append(self.last)
            super().fsync(fd)

    opened(files=Watched(), sync="disk")
    assert {str(directory), f"{directory}/keys", f"{directory}/log"} <= set(synced)


def test_a_failed_sync_refuses_and_ends_the_stream(opened: Open, faulty: type, audit: Callable) -> None:
    """What may not be on the disk is not acted on, not signed, and its callback does not run."""
    files = faulty()
    ledger = opened(files=files, sync="disk")
    old = ledger.stream
    seen: list[Entry] = []
    append(ledger, "registration", BODY)
    files.fault = lambda number, name: OSError(errno.EIO, "fault") if name == "fdatasync" else None
    with pytest.raises(EvidenceError, match=os.strerror(errno.EIO)):
        append(ledger, "registration", BODY, after=seen.append)
    assert ledger.degraded
    files.heal()
    append(ledger, "registration", BODY, after=seen.append)
    assert ledger.stream != old
    ledger.drain()
    assert [entry.seq for entry in seen] == [2]
    ledger.seal()
    found = audit()
    assert found.sealed == {old: 2, ledger.stream: 2}
    ledger.close()


def test_one_sync_serves_all_that_wait(opened: Open, faulty: type) -> None:
    """A record that another's sync covered costs none; after a failure, no sync pretends to work."""
    files = faulty()
    ledger = opened(files=files, sync="disk")
    stream = ledger._stream
    assert stream is not None
    end = stream.offset
    files.calls.clear()
    stream.sync(end)
    assert files.calls == ["fdatasync"]
    stream.sync(end)
    assert files.calls == ["fdatasync"]
    files.fault = lambda number, name: OSError(errno.EIO, "fault")
    with pytest.raises(EvidenceError):
        stream.sync(end + 1)
    files.heal()
    with pytest.raises(EvidenceError, match="an earlier sync to disk failed"):
        stream.sync(end + 1)


def test_descriptors_are_closed_once(opened: Open) -> None:
    """A number that the system gave to another file meanwhile is not closed again."""
    ledger = opened()
    stream = ledger._stream
    ledger.close()
    assert stream is not None
    before = descriptors()
    fd = os.open(os.devnull, os.O_RDONLY)
    stream.drop()
    assert descriptors() == before + 1
    os.close(fd)


def test_exit_closes_what_is_still_open(opened: Open, audit: Callable, caplog: object) -> None:
    """A program that forgets to close still seals; a failure then is logged, because nobody could catch it."""
    ledger = opened()
    ledger._at_exit()
    assert audit().kinds(ledger.stream) == ["stream_start", "stream_end"]
    failing = opened()
    failing.sealing.fault = "no space"
    failing.sealing._log._contradiction = "contradicted"
    failing._at_exit()
    assert "the next start does: contradicted" in caplog.text


def test_exit_keeps_no_ledger_alive() -> None:
    """What is registered for exit holds the ledger weakly."""

    class Gone:
        pass

    gone = Gone()
    reference = weakref.ref(gone)
    del gone
    gc.collect()
    ledger_module._close_at_exit(reference)


def test_children_of_multiprocessing_seal_at_their_end(opened: Open, audit: Callable) -> None:
    """They run no exit handlers, but the finalizers of multiprocessing, so the ledger is one of them."""
    import multiprocessing.util

    ledger = opened()
    registry = multiprocessing.util._finalizer_registry
    mine = [finalizer for finalizer in list(registry.values()) if finalizer._callback is ledger._at_exit]
    assert len(mine) == 1
    mine[0]()
    assert audit().kinds(ledger.stream)[-1] == "stream_end"


def test_multiprocessing_is_not_imported_for_it(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that does not use it does not pay for it."""
    monkeypatch.delitem(sys.modules, "multiprocessing.util", raising=False)
    opened()
    assert "multiprocessing.util" not in sys.modules


def test_fork_hook_reaches_every_open_ledger(opened: Open) -> None:
    """Open ledgers start over in a child, closed ones stay closed."""
    alive, closed = opened(), opened()
    stream = alive.stream
    closed.close()
    ledger_module._after_fork_in_child()
    closed.after_fork_in_child()
    assert alive.stream != stream
    with pytest.raises(EvidenceError, match="closed"):
        append(closed, "registration", BODY)


def _scenario(ledger: Ledger, acknowledged: list[str]) -> None:
    for number in range(3):
        try:
            acknowledged.append(append(ledger, "registration", BODY, after=lambda entry: None).id)
        except EvidenceError:
            continue
        finally:
            if number == 1:
                try:
                    ledger.seal()
                except EvidenceError:
                    assert ledger.degraded
    ledger.drain()
    ledger.close()


@pytest.mark.sample(2)
@pytest.mark.parametrize("sync", ["process", "disk"])
def test_ac_92_a_fault_at_every_call_loses_and_hides_nothing(
    opened: Open, faulty: type, audit: Callable, tmp_path: Path, sync: str
) -> None:
    """Whichever call fails: only our errors come out, acknowledged records are kept, and the next start seals them."""
    clean = faulty()
    _scenario(opened(tmp_path / "clean", files=clean, sync=sync), [])
    for number, name in enumerate(clean.calls, start=1):
        at = tmp_path / f"{number}-{name}"
        acknowledged: list[str] = []
        files = faulty(lambda count, _, number=number: OSError(errno.EIO, "fault") if count == number else None)
        try:
            _scenario(opened(at, files=files, sync=sync), acknowledged)
        except (EvidenceError, ConfigurationError):
            assert len(files.calls) >= number
        files.heal()
        opened(at, files=files, sync=sync).close()
        found = audit(at)
        assert set(acknowledged) <= found.ids(), f"call {number}, {name}"
        assert found.sealed == {stream: len(records) for stream, records in found.records.items() if records}
        assert all(problem == "unreadable" for problems in found.problems.values() for problem in problems)


@pytest.mark.parametrize("call", ["write", "lock", "status", "truncate"])
def test_a_start_that_fails_leaves_no_empty_stream(
    opened: Callable, faulty: type, directory: Path, audit: Callable, call: str
) -> None:
    """A folder into which nothing was written is taken away again, as far as the system lets us."""
    opened().close()
    before = sorted((directory / "ledger").iterdir())

    def fault(number: int, name: str) -> BaseException | None:
        return OSError(errno.ENOSPC, "fault") if name == call and "mkdir" in files.calls[4:] else None

    files = faulty(fault)
    if call in {"write", "lock", "status"}:
        with pytest.raises(EvidenceError):
            opened(files=files)
    else:
        opened(files=files)
        return
    files.heal()
    left = [path for path in sorted((directory / "ledger").iterdir()) if path not in before]
    assert left == [] or call == "status"
    opened().close()
    assert not audit().of_kind("recovered")


def test_a_start_that_fails_in_a_line_leaves_it(opened: Callable, directory: Path) -> None:
    """What was written in part and cannot be taken back is evidence, and stays."""

    class Torn(Files):
        def write(self, fd: int, data: bytes) -> int:
            return super().write(fd, data[:5]) if b"stream_start" in data else super().write(fd, data)

        def truncate(self, fd: int, size: int) -> None:
            raise OSError(errno.ENOSPC, "fault")

    with pytest.raises(EvidenceError):
        opened(files=Torn())
    (stream,) = (directory / "ledger").iterdir()
    assert (stream / "entries.jsonl").stat().st_size == 5


def test_a_start_that_fails_tells_why_whatever_stays_behind(opened: Callable, faulty: type, directory: Path) -> None:
    """What cannot be taken away again is left, and hides no error."""
    opened().close()
    for kept in ("unlink", "rmdir"):
        files = faulty()
        files.fault = lambda number, name, kept=kept: OSError(errno.ENOSPC, name) if name in ("write", kept) else None
        with pytest.raises(EvidenceError, match="could not append a record"):
            opened(files=files)
    files = faulty()
    first = len(list((directory / "ledger").iterdir()))
    files.fault = lambda number, name: OSError(errno.ENOSPC, name) if name == "write" else None
    with pytest.raises(EvidenceError):
        opened(files=files)
    assert len(list((directory / "ledger").iterdir())) == first


class Receiver:
    """Takes checkpoints elsewhere, and notes what it is told."""

    def __init__(self) -> None:
        self.said: list[object] = []

    def offer(self, note: bytes) -> None:
        """Note it."""
        self.said.append(note)

    def close(self) -> None:
        """Note it."""
        self.said.append("closed")

    def after_fork_in_child(self) -> None:
        """Note it."""
        self.said.append("forked")


def test_publishers_get_each_checkpoint_and_are_closed(opened: Open, directory: Path) -> None:
    """In their order, each of them, and also where the last seal fails."""
    receivers = [Receiver(), Receiver()]
    ledger = opened(publishers=receivers)
    assert ledger.publishers == tuple(receivers)
    ledger.seal()
    note = (directory / "log" / "checkpoint").read_bytes()
    ledger.after_fork_in_child()
    append(ledger, "registration", BODY)
    ledger.seal()
    ledger.close()
    last = (directory / "log" / "checkpoint").read_bytes()
    for receiver in receivers:
        assert receiver.said[:2] == [note, "forked"]
        assert receiver.said[-2:] == [last, "closed"]
