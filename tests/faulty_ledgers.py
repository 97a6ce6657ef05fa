"""Ledgers on a faulty operating system, and an auditor of its own, for the tests of storage, record, ledger, spans."""

import errno
import hmac
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from plain_records import check_record

from agent_identity._identity.common.encoding import b64url_encode
from agent_identity._identity.common.record_bytes import decode_record
from agent_identity._ledger.reader import open_ledger
from agent_identity._ledger.transparency.checkpoint import Checkpoint, open_note
from agent_identity._ledger.transparency.merkle import CompactRange, leaf_hash, root_of
from agent_identity._storage.os_files import Files
from agent_identity.identity import SigningKey
from agent_identity.options import Ledger
from agent_identity.testing import FixedClock, SequentialIds

ORIGIN = "ledger.example/log"
SIGNER = SigningKey.from_seed(b"r" * 32)
CALLS = tuple(name for name in vars(Files) if not name.startswith("_"))


class FaultyFiles(Files):
    """Fails where ``fault`` says so: it gets the number and the name of the call, and returns an error or ``None``."""

    def __init__(self, fault: Callable[[int, str], BaseException | None] = lambda number, name: None) -> None:
        self.calls: list[str] = []
        self.fault = fault

    @classmethod
    def failing(cls, *names: str, code: int = errno.ENOSPC) -> "FaultyFiles":
        """Return an operating system where the named calls fail."""
        return cls(lambda number, name: OSError(code, "fault") if name in names else None)

    def heal(self) -> None:
        """Fail no more."""
        self.fault = lambda number, name: None


def _faulty(name: str) -> Callable[..., object]:
    def call(self: FaultyFiles, *arguments: object) -> object:
        self.calls.append(name)
        fault = self.fault(len(self.calls), name)
        if fault is not None:
            raise fault
        return getattr(Files, name)(self, *arguments)

    return call


for _name in CALLS:
    setattr(FaultyFiles, _name, _faulty(_name))


@dataclass
class Audit:
    """What an independent reading of a directory found; everything that is asserted held."""

    records: dict[str, list[dict[str, object]]] = field(default_factory=dict)
    sealed: dict[str, int] = field(default_factory=dict)
    problems: dict[str, list[str]] = field(default_factory=dict)
    log_size: int = 0
    losses: list[int] = field(default_factory=list)

    def kinds(self, stream: str) -> list[object]:
        """Return the kinds of the records of a stream, in order."""
        return [record["kind"] for record in self.records[stream]]

    def ids(self) -> set[object]:
        """Return the ids of all records."""
        return {record["id"] for records in self.records.values() for record in records}

    def of_kind(self, kind: str) -> list[dict[str, object]]:
        """Return the records of a kind, of all streams."""
        return [record for records in self.records.values() for record in records if record["kind"] == kind]


def audit_directory(directory: Path) -> Audit:
    """Recompute every MAC, link, leaf, root and signature of a directory."""
    audit = Audit()
    reader = open_ledger(directory)
    key = (directory / "keys" / "ledger.key").read_bytes()
    leaves: dict[str, list[bytes]] = {}
    for stream in reader.streams():
        records, hashes, problems = [], [], []
        for line in reader.entries(stream):
            if line.record is None:
                problems.append(str(line.problem))
                continue
            tag = b"agent-identity/ledger/v1\n" + stream.encode() + b"\n"
            assert line.mac == b64url_encode(hmac.digest(key, tag + line.record, "sha256"))
            record = decode_record(line.record)
            check_record(record)
            place = {"id": stream, "seq": str(len(records) + 1)}
            assert record["stream"] == (place | {"prev": b64url_encode(hashes[-1])} if hashes else place)
            records.append(record)
            hashes.append(leaf_hash(line.record))
        audit.records[stream], leaves[stream], audit.problems[stream] = records, hashes, problems
    tree = CompactRange()
    last = ""
    for place, line in enumerate(reader.log_entries(), 1):
        assert line.record is not None
        tag = f"agent-identity/log/v1\n{place}\n{last}\n".encode()
        assert line.mac == b64url_encode(hmac.digest(key, tag + line.record, "sha256"))
        last = b64url_encode(leaf_hash(line.record))
        tree.append(leaf_hash(line.record))
        entry = decode_record(line.record)
        if "lost" in entry:
            assert entry == {"lost": "checkpoint", "origin": ORIGIN}
            audit.losses.append(place)
            continue
        stream, size = str(entry["stream"]), int(str(entry["size"]))
        assert entry["origin"] == ORIGIN
        assert size >= audit.sealed.get(stream, 0)
        assert entry["root"] == b64url_encode(root_of(leaves[stream][:size]))
        audit.sealed[stream] = size
    note = reader.checkpoint()
    if note is not None:
        checkpoint = Checkpoint.from_text(open_note(note, {ORIGIN: SIGNER.public_key}).text)
        assert (checkpoint.origin, checkpoint.size, checkpoint.root) == (ORIGIN, tree.size, tree.root())
    audit.log_size = tree.size
    return audit


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock()


@pytest.fixture
def opened(tmp_path: Path, clock: FixedClock) -> Iterator[Callable[..., Ledger]]:
    """Opens ledgers in one directory, and closes at the end those that are still open."""
    ledgers: list[Ledger] = []
    ids = SequentialIds()

    def open_one(at: Path = tmp_path / "evidence", **options: object) -> Ledger:
        given = {"signer": SIGNER, "origin": ORIGIN, "clock": clock, "ids": ids, **options}
        ledger = Ledger.open(at, **given)
        ledgers.append(ledger)
        return ledger

    yield open_one
    for ledger in ledgers:
        ledger.close()


@pytest.fixture
def crashed(opened: Callable[..., Ledger]) -> Callable[[Ledger], None]:
    """Makes a ledger of this process look like one whose process was killed."""

    def crash(ledger: Ledger) -> None:
        sealing = ledger.sealing
        with sealing._changed:
            sealing._stopping = True
            sealing._changed.notify_all()
        sealing._thread.join()
        sealing.abandon()
        ledger._closed = True

    return crash


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "evidence"


@pytest.fixture
def audit(directory: Path) -> Callable[..., Audit]:
    return lambda at=directory: audit_directory(at)


@pytest.fixture
def faulty() -> type[FaultyFiles]:
    return FaultyFiles
