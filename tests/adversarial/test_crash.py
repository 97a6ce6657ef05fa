"""Processes that die, fork, fill the disk or are cut in a line: what was appended is in the ledger, and verifies."""

import errno
import hmac
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from plain_records import append
from record_writing import append_record

import agent_identity
from agent_identity._identity.common.encoding import b64url_encode, digest_of
from agent_identity._identity.common.ids import is_id128
from agent_identity._identity.common.record_bytes import decode_record
from agent_identity._ledger.reader import open_ledger
from agent_identity._ledger.transparency.checkpoint import Checkpoint, open_note
from agent_identity._ledger.transparency.merkle import leaf_hash, node_hash, root_of
from agent_identity._spans.envelope import pae
from agent_identity._storage.os_files import Files
from agent_identity.errors import EvidenceError
from agent_identity.identity import RandomIds, SigningKey, SystemClock
from agent_identity.options import Ledger

ORIGIN = "ledger.example/log"
SIGNER = SigningKey.from_seed(b"r" * 32)
BODY = {"agent": {"id": "clerk", "owner": "ops@example.com"}}

# Each program gets the directory as its first argument, opens `ledger` and has `body`.
PREAMBLE = f"""
import multiprocessing, os, signal, sys, threading
from functools import partial
from agent_identity.options import Ledger
from agent_identity._record.parts import Action, Agent, Decision, Time
from agent_identity._record.schema import Detail, Outcome, Registration
from agent_identity.identity import RandomIds, SigningKey, SystemClock

def opened(**options):
    return Ledger.open(
        sys.argv[1], signer=SigningKey.from_seed(b"r" * 32), origin="{ORIGIN}",
        clock=SystemClock(), ids=RandomIds(), **options
    )

body = partial(Registration, time=Time.at(1), agent=Agent(id="clerk", owner="ops@example.com"))
refused = partial(
    Outcome, time=Time.at(1), action=Action(tool="pay", kind="function"), attribution="none", outcome="denied",
    decision=Decision(effect="block", enforced="block", mode="enforce", reason="no_task"), error="no_task",
)
told = partial(Detail, policy="invoices", labels=("payment",))
"""
REFUSED = {
    "action": {"tool": "pay"},
    "decision": {"effect": "block", "enforced": "block", "mode": "enforce", "reason": "no_task"},
    "attribution": "none",
    "outcome": "denied",
    "error": "no_task",
}
TOLD = {"policy": "invoices", "labels": ("payment",)}


def start(directory: Path, program: str, *arguments: str) -> "subprocess.Popen[str]":
    """Run a program in a process of its own."""
    path = str(Path(agent_identity.__file__).parents[1])
    return subprocess.Popen(
        [sys.executable, "-c", PREAMBLE + textwrap.dedent(program), str(directory), *arguments],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        text=True,
    )


def run(directory: Path, program: str) -> str:
    """Run a program to its end and return what it printed."""
    process = start(directory, program)
    output, _ = process.communicate(timeout=120)
    return output


def reopen(directory: Path, **options: object) -> Ledger:
    return Ledger.open(directory, signer=SIGNER, origin=ORIGIN, clock=SystemClock(), ids=RandomIds(), **options)


def verified(directory: Path) -> dict[str, list[dict[str, object]]]:
    """Check MACs, order, roots and the signature of a directory, and that all of it is sealed."""
    reader = open_ledger(directory)
    key = (directory / "keys" / "ledger.key").read_bytes()
    records: dict[str, list[dict[str, object]]] = {}
    leaves: dict[str, list[bytes]] = {}
    for stream in reader.streams():
        lines = [line for line in reader.entries(stream) if line.record is not None]
        leaves[stream] = [leaf_hash(line.record) for line in lines]
        records[stream] = [decode_record(line.record) for line in lines]
        told = [None if line.detail is None else digest_of(line.detail) for line in lines]
        assert told == [record.get("detail") for record in records[stream]]
        for place, line in enumerate(lines):
            message = b"agent-identity/ledger/v1\n" + stream.encode() + b"\n" + line.record
            assert line.mac == b64url_encode(hmac.digest(key, message, "sha256"))
            assert records[stream][place]["stream"]["seq"] == str(place + 1)
            assert records[stream][place]["stream"].get("prev") == (
                b64url_encode(leaves[stream][place - 1]) if place else None
            )
    sealed = dict.fromkeys(records, 0)
    entries = [line.record for line in reader.log_entries()]
    for entry in entries:
        head = json.loads(entry)
        sealed[head["stream"]] = int(head["size"])
        assert head["root"] == b64url_encode(root_of(leaves[head["stream"]][: int(head["size"])]))
    assert sealed == {stream: len(found) for stream, found in records.items()}
    checkpoint = Checkpoint.from_text(open_note(reader.checkpoint(), {ORIGIN: SIGNER.public_key}).text)
    assert checkpoint.root == root_of(map(leaf_hash, entries))
    return records


def ids_of(records: dict[str, list[dict[str, object]]]) -> set[object]:
    return {record["id"] for stream in records.values() for record in stream}


def reports(records: dict[str, list[dict[str, object]]]) -> list[dict[str, object]]:
    return [r["recovered"] for stream in records.values() for r in stream if r["kind"] == "recovered"]


@pytest.mark.sample(2)
@pytest.mark.parametrize("sync", ["process", "disk"])
def test_ac_73_sigkill_loses_no_appended_record(tmp_path: Path, sync: str) -> None:
    """Killed at whatever moment, a process leaves every record whose append returned; the next start seals it."""
    program = f"""
    ledger = opened(sync="{sync}", seal_interval=0.001)
    threading.Thread(target=lambda: [ledger.append(body) for _ in iter(int, 1)], daemon=True).start()
    while True:
        print(ledger.append(body, after=lambda entry: None).id, flush=True)
    """
    acknowledged: set[str] = set()
    for kill in range(8):
        process = start(tmp_path, program)
        assert process.stdout is not None
        for _ in range(1 + 7 * kill):
            acknowledged.add(process.stdout.readline().strip())
        process.kill()
        rest, _ = process.communicate(timeout=120)
        acknowledged.update(line for line in rest.splitlines(keepends=False) if is_id128(line))
    reopen(tmp_path).close()
    records = verified(tmp_path)
    assert len(acknowledged) > 8
    assert acknowledged <= ids_of(records)
    assert sum(report["rejected_bytes"] != "0" for report in reports(records)) == 0


@pytest.mark.parametrize("death", ["os._exit(3)", "os.kill(os.getpid(), signal.SIGTERM); signal.pause()"])
def test_ac_75_abrupt_exits_keep_what_was_appended(tmp_path: Path, death: str) -> None:
    """Neither os._exit nor SIGTERM, which run no exit handlers, lose a record."""
    output = run(
        tmp_path,
        f"""
        ledger = opened()
        print("\\n".join([ledger.append(body).id for _ in range(100)]), flush=True)
        {death}
        """,
    )
    reopen(tmp_path).close()
    records = verified(tmp_path)
    assert len(output.split()) == 100
    assert set(output.split()) <= ids_of(records)
    assert len(reports(records)) == 1


@pytest.mark.parametrize("death", ["", "sys.exit(1)", "raise KeyboardInterrupt", "del ledger"])
def test_ac_75_ordinary_exits_seal(tmp_path: Path, death: str) -> None:
    """A program that ends, exits or fails without closing its ledger has sealed it; the next start finds nothing."""
    run(
        tmp_path,
        f"""
        sys.excepthook = lambda *error: None
        ledger = opened()
        keep = [ledger]
        ledger.append(body)
        {death}
        """,
    )
    records = verified(tmp_path)
    assert [[record["kind"] for record in stream] for stream in records.values()] == [
        ["stream_start", "registration", "stream_end"]
    ]


def test_ac_76_forked_children_have_streams_of_their_own(tmp_path: Path) -> None:
    """Parent and child record side by side, from any state of the parent, and everything verifies."""
    output = run(
        tmp_path,
        """
        ledger = opened(seal_interval=0.001)
        stop = threading.Event()
        busy = threading.Thread(target=lambda: [ledger.append(body) for _ in iter(stop.is_set, True)])
        busy.start()
        children = []
        for number in range(5):
            pid = os.getpid()
            ledger.append(body, after=lambda entry: pid == os.getpid() or os._exit(9))
            child = os.fork()
            if not child:
                for _ in range(20):
                    ledger.append(body)
                ledger.drain()
                ledger.seal()
                if number % 2:
                    ledger.close()
                os._exit(0)
            children.append(child)
        codes = [os.waitpid(child, 0)[1] for child in children]
        stop.set()
        busy.join()
        ledger.append(body)
        ledger.close()
        print(codes)
        """,
    )
    assert output == "[0, 0, 0, 0, 0]\n"
    reopen(tmp_path).close()
    records = verified(tmp_path)
    kinds = [[record["kind"] for record in stream] for stream in records.values()]
    assert sum(stream.count("registration") == 20 for stream in kinds) == 5
    assert sum(stream[-1] == "stream_end" for stream in kinds) == 4


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_ac_76_children_of_multiprocessing_seal(tmp_path: Path, method: str) -> None:
    """Children of multiprocessing end without exit handlers, and yet their streams end and are sealed."""
    program = tmp_path / "program.py"
    program.write_text(
        PREAMBLE
        + textwrap.dedent(
            f"""
            def work():
                mine = ledger if {method == "fork"} else opened()
                globals()["keep"] = mine
                for _ in range(10):
                    mine.append(body)

            if __name__ == "__main__":
                ledger = opened()
                ledger.append(body)
                context = multiprocessing.get_context("{method}")
                workers = [context.Process(target=work) for _ in range(2)]
                for worker in workers:
                    worker.start()
                for worker in workers:
                    worker.join()
                print([worker.exitcode for worker in workers])
            """
        )
    )
    directory = tmp_path / "evidence"
    output = subprocess.run(
        [sys.executable, str(program), str(directory)],
        env={**os.environ, "PYTHONPATH": str(Path(agent_identity.__file__).parents[1])},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert output.stdout == "[0, 0]\n"
    kinds = [[record["kind"] for record in stream] for stream in verified(directory).values()]
    assert sorted(len(stream) for stream in kinds) == [3, 12, 12]
    assert all(stream[-1] == "stream_end" for stream in kinds)


def test_ac_77_four_processes_share_one_directory(tmp_path: Path) -> None:
    """Started at once on a new directory, four processes agree on its key and write one log; nothing is missing."""
    program = """
    ledger = opened(seal_interval=0.001)
    for _ in range(200):
        ledger.append(body)
    ledger.close()
    """
    processes = [start(tmp_path, program) for _ in range(4)]
    for process in processes:
        process.communicate(timeout=120)
    assert [process.returncode for process in processes] == [0] * 4
    records = verified(tmp_path)
    assert [len(stream) for stream in records.values()] == [202] * 4
    assert not reports(records)


def _dead_stream(directory: Path, last: str) -> tuple[Path, bytes]:
    """Return the path and the bytes of a stream of three lines whose process was killed before any seal."""
    run(
        directory,
        f"""
        ledger = opened(seal_interval=1000)
        ledger.append(body)
        ledger.append({last})
        os._exit(0)
        """,
    )
    (path,) = directory.glob("ledger/*/entries.jsonl")
    return path, path.read_bytes()


@pytest.mark.parametrize("last", ["body", "refused, detail=told"], ids=["record", "record with its detail"])
def test_ac_78_a_start_works_after_a_cut_at_every_byte(
    tmp_path: Path, drawn: Callable[[range], Sequence[int]], last: str
) -> None:
    """Cut anywhere in its last line, a stream is sealed to the line before, and what is torn is counted."""
    path, data = _dead_stream(tmp_path / "0", last)
    lines = data.splitlines(keepends=True)
    assert len(lines) == 3
    assert lines[-1].startswith(b'{"detail":') is (last != "body")
    whole = len(data) - len(lines[-1])
    for cut in (*drawn(range(whole, len(data))), len(data)):
        directory = tmp_path / f"cut-{cut}"
        stream = directory / "ledger" / path.parent.name
        stream.mkdir(parents=True)
        (directory / "keys").mkdir(0o700)
        key = directory / "keys" / "ledger.key"
        key.touch(0o600)
        key.write_bytes((tmp_path / "0" / "keys" / "ledger.key").read_bytes())
        shutil.copytree(tmp_path / "0" / "log", directory / "log")
        (stream / "lock").touch()
        (stream / "entries.jsonl").write_bytes(data[:cut])
        reopen(directory).close()
        records = verified(directory)
        expected = 3 if cut == len(data) else 2
        assert len(records[path.parent.name]) == expected
        (report,) = reports(records)
        assert report["torn_bytes"] == str(cut - whole if expected == 2 else 0)
        assert report["rejected_bytes"] == "0"


class FullDisk(Files):
    """A disk with so many bytes left; a write that does not fit is cut short, as a real one is."""

    def __init__(self, left: int) -> None:
        self.left = left

    def write(self, fd: int, data: bytes) -> int:
        """Write what fits."""
        if not self.left:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = super().write(fd, data[: self.left])
        self.left -= written
        return written


def _plain(ledger: Ledger) -> str:
    return append(ledger, "registration", BODY).id


def _detailed(ledger: Ledger) -> str:
    return append_record(ledger, "outcome", REFUSED, TOLD).id


@pytest.mark.parametrize("write", [_plain, _detailed], ids=["record", "record with its detail"])
@pytest.mark.parametrize("left", range(1000, 2500, 97))
def test_ac_79_a_full_disk_refuses_loudly_and_recovers(
    tmp_path: Path, left: int, write: Callable[[Ledger], str]
) -> None:
    """No space at whatever byte: each append either is kept or refused, and the first with space again is kept."""
    disk = FullDisk(left)
    ledger = reopen(tmp_path, files=disk, seal_interval=1000)
    kept: list[str] = []
    refused = 0
    for _ in range(10):
        try:
            kept.append(write(ledger))
        except EvidenceError:
            refused += 1
            assert ledger.degraded
    with pytest.raises(EvidenceError):
        ledger.seal()
    assert refused > 0
    disk.left = 1_000_000
    kept.append(write(ledger))
    ledger.seal()
    assert ledger.degraded is None
    ledger.close()
    records = verified(tmp_path)
    (stream,) = records.values()
    assert [record["id"] for record in stream[1:-1]] == kept


def test_ac_79_a_full_file_system_refuses_loudly_and_recovers(tmp_path: Path) -> None:
    """The system's own limit on the size of files does what fault injection does."""
    resource = pytest.importorskip("resource")
    ledger = reopen(tmp_path, seal_interval=1000)
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    kept: list[str] = []
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, old[1]))
        with pytest.raises(EvidenceError):
            kept.extend(append(ledger, "registration", BODY).id for _ in range(20))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, handler)
    kept.append(append(ledger, "registration", BODY).id)
    ledger.close()
    (stream,) = verified(tmp_path).values()
    assert [record["id"] for record in stream[1:-1]] == kept


def test_ac_22_nothing_signed_or_hashed_passes_for_another_kind(tmp_path: Path) -> None:
    """A leaf, an inner node, a MAC, an envelope and a checkpoint never have the same bytes under hash or signature."""
    left, right = leaf_hash(b"left"), leaf_hash(b"right")
    assert leaf_hash(left + right) != node_hash(left, right)
    assert root_of([left, right]) != root_of([leaf_hash(left + right)])
    with reopen(tmp_path) as ledger:
        record = append(ledger, "registration", BODY).data
    note = (tmp_path / "log" / "checkpoint").read_bytes().rpartition(b"\n\n")[0] + b"\n"
    signed = (pae("application/vnd.agent-identity.record.v1+json", record), note)
    assert not any(one.startswith(other) for one in signed for other in signed if one is not other)
    reader = open_ledger(tmp_path)
    macs = {line.mac for lines in (reader.entries(ledger.stream), reader.log_entries()) for line in lines}
    key = (tmp_path / "keys" / "ledger.key").read_bytes()
    entry = next(iter(reader.log_entries())).record
    assert entry is not None
    as_stream: Callable[[bytes], str] = lambda data: b64url_encode(  # noqa: E731
        hmac.digest(key, b"agent-identity/ledger/v1\n" + ledger.stream.encode() + b"\n" + data, "sha256")
    )
    as_log: Callable[[bytes], str] = lambda data: b64url_encode(  # noqa: E731
        hmac.digest(key, b"agent-identity/log/v1\n1\n\n" + data, "sha256")
    )
    assert as_stream(record) in macs
    assert as_log(entry) in macs
    assert not {as_stream(entry), as_log(record)} & macs
