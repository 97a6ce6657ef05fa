"""What each refusal of the ledger says: what was to be done, what came instead, and the way out."""

import errno
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from plain_records import append, plain

from agent_identity._ledger import sealer as sealing_module
from agent_identity._ledger.settled import note_settled, settled_size
from agent_identity._ledger.transparency.log import DirectoryLog, Head
from agent_identity._ledger.writer import StreamWriter
from agent_identity._record import digests as digests_module
from agent_identity._storage.layout import Layout
from agent_identity._storage.mac import LedgerKey
from agent_identity._storage.os_files import Files, make_folder
from agent_identity.errors import ConfigurationError, EvidenceError
from agent_identity.identity import SigningKey
from agent_identity.options import DigestKeys, Ledger

BODY = {"agent": {"id": "clerk", "owner": "ops@example.com"}}
FULL = os.strerror(errno.ENOSPC)
NEXT = "check the folder and its disk, the next call tries again"
CONTINUE = "the log does not continue its last checkpoint: found {}"
Open = Callable[..., Ledger]


def check_refusal(make: Callable[[], object], kind: type[Exception], code: str | None, phrase: str) -> None:
    """Assert the class, the code and a phrase of the message of a refusal."""
    with pytest.raises(kind) as refused:
        make()
    got = refused.value
    assert (type(got), getattr(got, "code", None)) == (kind, code)
    assert phrase in str(got)


def unavailable(make: Callable[[], object], message: str) -> None:
    """Assert that something could not be recorded, and what is said about it."""
    check_refusal(make, EvidenceError, "evidence_unavailable", message)


@pytest.mark.parametrize(
    "bad", [{"text": "\ud800"}, {"text": object()}, {"text": 1j}], ids=["text", "object", "complex"]
)
def test_what_a_bad_record_says(opened: Open, bad: dict[str, object]) -> None:
    """What cannot stand in a record is the fault of its source."""
    message = "the record has a value that is not a string, boolean, array or object"
    check_refusal(lambda: append(opened(), "registration", bad), EvidenceError, "bad_record", message)


def test_the_largest_record_fits(opened: Open) -> None:
    """A record of 1 MiB is written; one more byte is refused with the length."""
    ledger = opened()
    rest = 1_048_576 - len(append(ledger, "registration", {"text": ""}).data)
    assert len(append(ledger, "registration", {"text": "x" * rest}).data) == 1_048_576
    message = "the record has 1048577 bytes, more than 1048576"
    check_refusal(
        lambda: append(ledger, "registration", {"text": "x" * (rest + 1)}), EvidenceError, "bad_record", message
    )


@pytest.mark.parametrize(
    ("failing", "used", "purpose"),
    [
        ("mkdir", False, "open the evidence directory"),
        ("lock", False, "open the evidence directory"),
        ("listdir", False, "open the evidence directory"),
        ("mkdir", True, "open the evidence directory"),
        ("lock", True, "begin a stream of the ledger"),
        ("listdir", True, "open the evidence directory"),
    ],
)
def test_what_a_directory_that_fails_says(opened: Open, faulty: type, failing: str, used: bool, purpose: str) -> None:
    """A ledger that cannot be opened says at what; the first start signs the empty log before anything else."""
    if used:
        opened().close()
    unavailable(lambda: opened(files=faulty.failing(failing)), f"could not {purpose}: {FULL}; {NEXT}")


def test_what_a_full_disk_says(opened: Open, faulty: type) -> None:
    """The caller learns that nothing was recorded, and what to free."""
    files = faulty()
    ledger = opened(files=files)
    files.fault = lambda number, name: OSError(errno.ENOSPC, "fault") if name == "write" else None
    message = f"could not append a record to the ledger: {FULL}"
    unavailable(lambda: append(ledger, "registration", BODY), message)
    with pytest.raises(EvidenceError) as refused:
        append(ledger, "registration", BODY)
    assert isinstance(refused.value.__cause__, OSError)
    assert message in (ledger.degraded or "")
    files.heal()
    assert append(ledger, "registration", BODY).seq == 2


def test_what_a_partial_write_says(opened: Open) -> None:
    """A system that wrote less than it was given is named as that."""

    class Short(Files):
        short = False

        def write(self, fd: int, data: bytes) -> int:
            return super().write(fd, data[:-1] if self.short else data)

    files = Short()
    ledger = opened(files=files)
    files.short = True
    unavailable(
        lambda: append(ledger, "registration", BODY),
        "could not append a record to the ledger: a write of a part of it",
    )
    files.short = False


def test_what_a_disk_that_cannot_sync_says(tmp_path: Path, faulty: type) -> None:
    """The first failure is named; afterwards nobody is told that a record is safe, but what was safe stays so."""
    files = faulty()
    layout = Layout.of(tmp_path)
    make_folder(files, layout.streams, 0o755)
    stream = StreamWriter.create(files, layout, "one", LedgerKey(b"k" * 32), durable=True)
    stream.append(plain("registration", {}), "a")
    safe = stream.offset
    stream.sync(safe)
    synced = files.calls.count("fdatasync")
    stream.sync(safe)
    assert files.calls.count("fdatasync") == synced
    stream.append(plain("registration", {}), "b")
    files.fault = lambda number, name: OSError(errno.EIO, "fault") if name == "fdatasync" else None
    unavailable(lambda: stream.sync(stream.offset), f"could not sync the ledger: {os.strerror(errno.EIO)}; {NEXT}")
    assert not stream.usable
    files.heal()
    unavailable(
        lambda: stream.sync(stream.offset),
        "an earlier sync to disk failed, so that the record may be lost",
    )
    stream.sync(safe)
    stream.close(settled=False)


def test_a_stream_is_not_begun_twice(tmp_path: Path) -> None:
    """A file that holds something already is another's, and stays as it is."""
    layout, key = Layout.of(tmp_path), LedgerKey(b"k" * 32)
    make_folder(Files(), layout.streams, 0o755)
    stream = StreamWriter.create(Files(), layout, "one", key, durable=False)
    stream.append(plain("registration", {}), "a")
    stream.close(settled=False)
    with pytest.raises(OSError, match=os.strerror(errno.EEXIST)) as refused:
        StreamWriter.create(Files(), layout, "one", key, durable=False)
    assert refused.value.errno == errno.EEXIST


@pytest.mark.parametrize(
    ("note", "size"),
    [
        (b"settled 12 in 5\n", 12),
        (b"settled 0 in 5\n", 0),
        (b"settled 12 in 5", None),
        (b"settled  in 5\n", None),
        (b"settled -1 in 5\n", None),
        (b"unsettled 12 in 5\n", None),
        (b"", None),
    ],
)
def test_a_note_of_settlement_has_one_form(tmp_path: Path, note: bytes, size: int | None) -> None:
    """Only a whole note saves the next start from reading the stream; a longer one is replaced entirely."""
    path = tmp_path / "lock"
    path.write_bytes(note)
    files = Files()
    fd = os.open(path, os.O_RDWR)
    try:
        assert settled_size(files, fd) == size
        path.write_bytes(b"settled 123456\n and more")
        note_settled(files, fd, 7)
        assert path.read_bytes() == b"settled 7 in %d\n" % path.stat().st_ino
    finally:
        os.close(fd)


def test_what_a_closed_ledger_says(opened: Open) -> None:
    """Closed is closed, with a code of its own."""
    ledger = opened()
    ledger.close()
    message = "the ledger is closed"
    check_refusal(lambda: append(ledger, "registration", BODY), EvidenceError, "ledger_closed", message)


def test_what_an_interrupted_record_says(opened: Open) -> None:
    """A signal handler that records in the middle of a record learns what to do instead."""
    refused: list[EvidenceError] = []

    class Signalled(Files):
        armed = False

        def write(self, fd: int, data: bytes) -> int:
            if self.armed:
                self.armed = False
                with pytest.raises(EvidenceError) as caught:
                    append(ledger, "registration", BODY)
                refused.append(caught.value)
            return super().write(fd, data)

    files = Signalled()
    ledger = opened(files=files)
    files.armed = True
    append(ledger, "registration", BODY)
    assert [(error.code, str(error)) for error in refused] == [
        (
            "evidence_unavailable",
            "re-entrant append from a signal handler or finalizer; set a flag there and append later",
        )
    ]


def test_what_another_origin_says(opened: Open, directory: Path) -> None:
    """A directory belongs to one log; without records it is still the log's, and the same origin opens it."""
    opened().close()
    check_refusal(
        lambda: opened(origin="other.example/log"),
        ConfigurationError,
        "bad_configuration",
        f"the log in {str(directory)!r} has another origin",
    )
    opened().close()


def test_what_a_timeout_says(opened: Open) -> None:
    """Whoever waits learns that nothing is lost, and close says what is left to the next start."""
    ledger = opened()
    gate = threading.Event()
    append(ledger, "registration", BODY, after=lambda entry: gate.wait(60))
    message = "the callbacks did not end within 0.01 s"
    check_refusal(lambda: ledger.drain(0.01), EvidenceError, "evidence_pending", message)
    gate.set()
    ledger.drain(60)


@pytest.mark.parametrize("name", ["drain", "seal", "close"])
def test_what_a_callback_that_would_wait_for_itself_gets(opened: Open, name: str) -> None:
    """The call is named that would never return."""
    ledger = opened()
    said: list[str] = []

    def act(entry: object) -> None:
        with pytest.raises(RuntimeError) as refused:
            getattr(ledger, name)()
        said.append(str(refused.value))

    append(ledger, "registration", BODY, after=act)
    ledger.drain(60)
    assert said == [f"{name}() was called from the callback of a record; call it from another thread"]


def test_what_a_callback_that_does_not_end_leaves(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """Close gives up on it, and says who seals."""
    monkeypatch.setattr(sealing_module, "_JOIN_SECONDS", 0.01)
    ledger = opened()
    started, gate = threading.Event(), threading.Event()
    append(ledger, "registration", BODY, after=lambda entry: (started.set(), gate.wait(60)))
    with pytest.raises(EvidenceError):
        ledger.drain(0)
    assert started.wait(60)
    unavailable(ledger.close, "a callback does not end")
    gate.set()
    ledger.sealing._thread.join()
    ledger.sealing.abandon()


def sealed(opened: Open) -> Ledger:
    """Return a ledger with one seal and one record since."""
    ledger = opened()
    ledger.seal()
    append(ledger, "registration", BODY)
    return ledger


def cut(log: Path, checkpoint: Path) -> None:
    """Take the entries away."""
    log.write_bytes(b"")


def forge_root(log: Path, checkpoint: Path) -> None:
    """Write another root of the same size."""
    lines = checkpoint.read_bytes().split(b"\n")
    lines[2] = b"A" * 43 + b"="
    checkpoint.write_bytes(b"\n".join(lines))


def forge_size(log: Path, checkpoint: Path) -> None:
    """Write a size that no entry reaches."""
    lines = checkpoint.read_bytes().split(b"\n")
    lines[1] = b"9"
    checkpoint.write_bytes(b"\n".join(lines))


def forge_origin(log: Path, checkpoint: Path) -> None:
    """Write another origin."""
    checkpoint.write_bytes(checkpoint.read_bytes().replace(b"ledger.example", b"robber.example"))


def scribble(log: Path, checkpoint: Path) -> None:
    """Write what is no checkpoint."""
    checkpoint.write_bytes(b"text\n")


@pytest.mark.parametrize(
    ("change", "got"),
    [
        (cut, "a log that was cut"),
        (forge_root, "other entries than its checkpoint covers"),
        (forge_size, "fewer entries than its checkpoint covers"),
        (forge_origin, "a checkpoint of another origin"),
        (scribble, "a file at log/checkpoint that is no checkpoint"),
    ],
    ids=["cut", "root", "size", "origin", "scribbled"],
)
def test_what_a_contradicted_log_says(
    opened: Open, directory: Path, change: Callable[[Path, Path], None], got: str
) -> None:
    """Nothing is signed over a contradiction, now and later, whatever is put back."""
    ledger = sealed(opened)
    log, checkpoint = directory / "log" / "entries.jsonl", directory / "log" / "checkpoint"
    before = log.read_bytes(), checkpoint.read_bytes()
    change(log, checkpoint)
    unavailable(ledger.seal, CONTINUE.format(got))
    log.write_bytes(before[0])
    checkpoint.write_bytes(before[1])
    unavailable(ledger.seal, CONTINUE.format(got))
    unavailable(ledger.close, CONTINUE.format(got))


def test_what_foreign_bytes_in_the_log_say(opened: Open, directory: Path) -> None:
    """The place of the first one is named."""
    sealed(opened).close()
    log = directory / "log" / "entries.jsonl"
    before = log.read_bytes()
    first, rest = before.split(b"\n", 1)
    log.write_bytes(first + b"\ntext\n" + rest)
    ledger = opened()
    message = f"the bytes at offset {len(first) + 1} of the log"
    unavailable(ledger.seal, message)
    log.write_bytes(before)
    ledger.seal()


def test_what_a_failing_signer_says(opened: Open) -> None:
    """The class of the error is named, and not its text, which may hold anything."""
    ledger = opened()

    class Broken:
        public_key = ledger._signer.public_key

        def sign(self, message: bytes) -> bytes:
            raise ZeroDivisionError("key text")

    good = ledger._log._signer
    ledger._log._signer = Broken()
    unavailable(ledger.seal, "the recorder key raised ZeroDivisionError instead of signing a checkpoint")
    ledger._log._signer = good
    ledger.seal()


def test_what_a_seal_on_a_full_disk_says(opened: Open, faulty: type) -> None:
    """It names the seal, not the record, which is in the ledger."""
    files = faulty()
    ledger = opened(files=files)
    files.fault = lambda number, name: OSError(errno.ENOSPC, "fault") if name == "replace" else None
    unavailable(ledger.seal, f"could not seal the ledger: {FULL}; {NEXT}")
    assert ledger.degraded == f"could not seal the ledger: {FULL}; {NEXT}"
    files.heal()


def test_what_a_digest_key_that_cannot_be_kept_says(tmp_path: Path, faulty: type) -> None:
    """Its purpose is named, and neither the id nor the key."""
    keys = DigestKeys(tmp_path / "digests.jsonl", files=faulty.failing("write"))
    unavailable(lambda: keys.digest("task", b""), f"could not keep the key of a digest: {FULL}; {NEXT}")


def test_what_digest_keys_open_to_others_say(tmp_path: Path) -> None:
    """The path, the mode and the cure are named."""
    path = tmp_path / "digests.jsonl"
    DigestKeys(path).key_for("task")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o604)
    check_refusal(
        lambda: DigestKeys(path).key_for("task"),
        ConfigurationError,
        "bad_configuration",
        f"{str(path)!r} has mode 0604",
    )


def test_the_oldest_digest_key_is_forgotten_first(
    tmp_path: Path, faulty: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key that was only just used needs no file."""
    monkeypatch.setattr(digests_module, "_MAX_CACHED", 1)
    files = faulty()
    keys = DigestKeys(tmp_path / "digests.jsonl", files=files)
    keys.digest("old", b"")
    keys.digest("new", b"")
    files.calls.clear()
    keys.digest("new", b"")
    assert files.calls == []
    keys.digest("old", b"")
    assert "read" in files.calls


def directory_log(folder: Path, files: Files, *, durable: bool = False) -> DirectoryLog:
    """Return a log in a folder of its own."""
    (folder / "log").mkdir()
    signer, key = SigningKey.from_seed(b"r" * 32), LedgerKey(b"k" * 32)
    return DirectoryLog(files, Layout.of(folder), key, signer=signer, origin="ledger.example/log", durable=durable)


def test_a_contradicted_log_has_a_code_of_its_own(tmp_path: Path) -> None:
    """Whoever commits to it can tell a contradiction from a full disk, the first time and later."""
    log = directory_log(tmp_path, Files())
    head = Head("AZV6P04jewGp0QAAAAAAoQ", 1, bytes(32), 1)
    log.commit([head])
    (tmp_path / "log" / "entries.jsonl").write_bytes(b"")
    message = CONTINUE.format("a log that was cut")
    for _ in range(2):
        check_refusal(lambda: log.commit([head]), EvidenceError, "log_contradicted", message)
    log.close()


def test_foreign_bytes_have_the_code_of_a_contradiction(tmp_path: Path) -> None:
    """They are as bad, but the log goes on once it is repaired."""
    log = directory_log(tmp_path, Files())
    entries = tmp_path / "log" / "entries.jsonl"
    entries.write_bytes(b"text\n")
    message = "the bytes at offset 0 of the log were not written with this directory's key"
    check_refusal(lambda: log.read_heads(()), EvidenceError, "log_contradicted", message)
    entries.write_bytes(b"")
    assert log.read_heads(()) == {}
    log.forget("a stream that it never had")
    log.close()


@pytest.mark.parametrize(("durable", "syncs"), [(True, (1, 2)), (False, (1, 1))])
def test_a_log_is_on_the_disk_before_its_checkpoint(
    tmp_path: Path, faulty: type, durable: bool, syncs: tuple[int, int]
) -> None:
    """Entries and checkpoint are synced in both modes; the folder, which may go back to the last one, in one."""
    files = faulty()
    log = directory_log(tmp_path, files, durable=durable)
    log.commit([Head("AZV6P04jewGp0QAAAAAAoQ", 1, bytes(32), 1)])
    assert (files.calls.count("fdatasync"), files.calls.count("fsync")) == syncs
    assert files.calls.index("fdatasync") < files.calls.index("fsync") < files.calls.index("replace")
    log.close()


def test_nothing_is_sealed_before_earlier_streams_are_recovered(opened: Open) -> None:
    """Recovery has the log to itself: the thread that seals starts behind it."""
    before = set(threading.enumerate())
    started: list[list[str]] = []

    class Watched(Files):
        def listdir(self, path: str) -> list[str]:
            started.append([thread.name for thread in set(threading.enumerate()) - before])
            return super().listdir(path)

    ledger = opened(files=Watched())
    assert started
    assert not any(started)
    assert ledger.sealing._thread is not None
