"""What a start does with what dead processes left: seals what they wrote, refuses what they did not."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from plain_records import append

from agent_identity._ledger import _recovery as recovery_module
from agent_identity._ledger import segments as segments_module
from agent_identity._ledger.archiving import prune
from agent_identity._ledger.settled import note_settled, settled_size
from agent_identity._ledger.transparency.log import DirectoryLog
from agent_identity._storage.layout import Layout
from agent_identity._storage.lines import stream_line, stream_parts
from agent_identity._storage.mac import load_ledger_key
from agent_identity._storage.os_files import EDIT, Files
from agent_identity.errors import EvidenceError
from agent_identity.identity import SigningKey
from agent_identity.options import Ledger, Segments
from agent_identity.testing import FixedClock

BODY = {"agent": {"id": "clerk", "owner": "ops@example.com"}}
INTENT = {
    "task": {"id": "AaIOQ0bYcV-ScJHDCbiHEA"},
    "principal": {"id": "alice@example.com", "kind": "human", "provenance": "asserted"},
    **BODY,
    "chain": [{"id": "clerk", "grant": "0" * 43}],
    "action": {"tool": "pay", "kind": "function"},
    "decision": {"effect": "allow", "enforced": "allow", "mode": "enforce", "reason": "within_scope"},
}
Open = Callable[..., Ledger]
Crash = Callable[[Ledger], None]


def path_of(directory: Path, ledger: Ledger) -> Path:
    return directory / "ledger" / ledger.stream / "entries.jsonl"


def dead(opened: Open, crashed: Crash, records: int = 3, sealed: int | None = None) -> Ledger:
    """Return a ledger of which ``records`` lines, the start included, were written and ``sealed`` were sealed."""
    ledger = opened()
    for number in range(1, records):
        if number == sealed:
            ledger.seal()
        append(ledger, "registration", BODY)
    if sealed == records:
        ledger.seal()
    crashed(ledger)
    return ledger


def recovered(opened: Open, audit: Callable) -> list[dict[str, object]]:
    """Open and close once, and return what the new stream says it recovered."""
    ledger = opened()
    ledger.close()
    return [r["recovered"] for r in audit().records[ledger.stream] if r["kind"] == "recovered"]


def test_a_dead_stream_is_sealed_to_its_last_line(opened: Open, crashed: Crash, audit: Callable) -> None:
    """What a killed process wrote is sealed by the next start, which says from where to where, once."""
    ledger = dead(opened, crashed, records=5, sealed=2)
    assert audit().sealed == {ledger.stream: 2}
    assert recovered(opened, audit) == [
        {
            "stream": ledger.stream,
            "size": "5",
            "sealed_before": "2",
            "torn_bytes": "0",
            "rejected_bytes": "0",
            "open_count": "0",
        }
    ]
    assert audit().sealed[ledger.stream] == 5
    assert recovered(opened, audit) == []


def test_a_dead_stream_that_was_sealed_is_reported_and_not_committed_again(
    opened: Open, crashed: Crash, audit: Callable
) -> None:
    """A process that died right after a seal lost nothing; the log gets no second head for that."""
    ledger = dead(opened, crashed, records=3, sealed=3)
    size = audit().log_size
    (found,) = recovered(opened, audit)
    assert (found["stream"], found["size"], found["sealed_before"]) == (ledger.stream, "3", "3")
    assert audit().log_size == size + 1


def test_intents_without_outcome_are_named(opened: Open, crashed: Crash, audit: Callable) -> None:
    """Whoever looks for actions of unknown fate finds the first 64 by id, and the number of all."""
    ledger = opened()
    done = append(ledger, "intent", INTENT).id
    intents = [append(ledger, "intent", INTENT).id for _ in range(70)]
    append(ledger, "outcome", {**INTENT, "outcome": "success", "intent": done})
    append(ledger, "outcome", {**INTENT, "outcome": "denied"})
    crashed(ledger)
    (found,) = recovered(opened, audit)
    assert found["open"] == intents[:64]
    assert found["open_count"] == "70"


def test_a_live_stream_is_left_alone(opened: Open, audit: Callable) -> None:
    """Who holds the lock of a stream seals it itself."""
    alive = opened()
    append(alive, "registration", BODY)
    assert recovered(opened, audit) == []
    alive.close()
    assert recovered(opened, audit) == []
    assert audit().sealed[alive.stream] == 3


@pytest.mark.parametrize("sealed", [None, 1])
def test_a_torn_tail_is_counted_and_left(
    opened: Open, crashed: Crash, audit: Callable, directory: Path, sealed: int | None
) -> None:
    """Bytes behind the last whole line are evidence of the crash: they stay, and nobody signs them."""
    ledger = dead(opened, crashed, records=3, sealed=sealed)
    with path_of(directory, ledger).open("ab") as file:
        file.write(b'{"mac":"12')
    (found,) = recovered(opened, audit)
    assert (found["size"], found["torn_bytes"], found["rejected_bytes"]) == ("3", "10", "0")
    assert path_of(directory, ledger).read_bytes().endswith(b'\n{"mac":"12')
    assert audit().sealed[ledger.stream] == 3
    assert recovered(opened, audit) == []


def test_a_stream_with_nothing_but_a_torn_line(opened: Open, crashed: Crash, audit: Callable, directory: Path) -> None:
    """A process that died in its first record has no records; no head of an empty tree is committed."""
    ledger = dead(opened, crashed, records=1)
    path = path_of(directory, ledger)
    path.write_bytes(path.read_bytes()[:20])
    (found,) = recovered(opened, audit)
    assert (found["size"], found["torn_bytes"]) == ("0", "20")
    assert ledger.stream not in audit().sealed


@pytest.mark.parametrize("what", ["folder", "empty", "no entries"])
def test_a_stream_without_bytes_is_nothing_to_recover(
    opened: Open, audit: Callable, directory: Path, what: str
) -> None:
    """A process that just starts, or died before its first record, is not reported."""
    opened().close()
    folder = directory / "ledger" / "AaIOQ0bYcV-ScJHDCbiHEA"
    folder.mkdir()
    if what != "folder":
        (folder / "lock").touch()
    if what == "empty":
        (folder / "entries.jsonl").touch()
    assert recovered(opened, audit) == []


def test_things_that_are_no_streams_are_ignored(opened: Open, audit: Callable, directory: Path) -> None:
    """Files and folders with other names do not disturb the start."""
    opened().close()
    (directory / "ledger" / "README").touch()
    (directory / "ledger" / "..x").mkdir()
    assert recovered(opened, audit) == []


def _flip(data: bytes, offset: int) -> bytes:
    return data[:offset] + bytes([data[offset] ^ 1]) + data[offset + 1 :]


def _raw_audit(directory: Path, stream: str) -> int:
    """Return the size that the log has of a stream."""
    layout, files = Layout.of(directory), Files()
    key = load_ledger_key(files, layout.ledger_key)
    log = DirectoryLog(files, layout, key, signer=None, origin="ledger.example/log", durable=False)
    heads = log.read_heads({stream})
    log.close()
    return heads[stream].size if stream in heads else 0


@pytest.mark.parametrize("line", [0, 1, 2])
@pytest.mark.parametrize("sealed", [None, 1, 2])
def test_changed_lines_are_never_signed(
    opened: Open, crashed: Crash, directory: Path, line: int, sealed: int | None
) -> None:
    """From the first line on that its process did not write so, nothing is sealed and all is counted."""
    ledger = dead(opened, crashed, records=3, sealed=sealed)
    path = path_of(directory, ledger)
    data = path.read_bytes()
    starts = [0, *(i + 1 for i, byte in enumerate(data) if byte == 10)]
    path.write_bytes(_flip(data, starts[line] + 100))
    again = opened()
    again.close()
    text = path_of(directory, again).read_text()
    assert f'"rejected_bytes":"{len(data) - starts[line]}"' in text
    assert f'"size":"{line}","stream":"{ledger.stream}","torn_bytes":"0"' in text
    assert _raw_audit(directory, ledger.stream) == max(line, sealed or 0)


def _appended(directory: Path, ledger: Ledger, data: bytes) -> str:
    with path_of(directory, ledger).open("ab") as file:
        file.write(data)
    return f'"rejected_bytes":"{len(data)}"'


@pytest.mark.parametrize(
    "kind", ["garbage", "forged", "copied", "of another stream", "too long", "torn behind a forged one"]
)
def test_lines_of_others_are_never_signed(
    opened: Open, crashed: Crash, directory: Path, audit: Callable, kind: str
) -> None:
    """Neither forged lines nor authentic ones at another place are taken for what the process wrote."""
    other = dead(opened, crashed, records=2)
    ledger = dead(opened, crashed, records=3)
    lines = path_of(directory, ledger).read_bytes().splitlines(keepends=True)
    data = {
        "garbage": b"garbage\n",
        "forged": stream_line(b"\0" * 32, b'{"kind":"outcome"}'),
        "copied": lines[-1],
        "of another stream": path_of(directory, other).read_bytes().splitlines(keepends=True)[-1],
        "too long": b"x" * (4 * 1024 * 1024 + 1) + b"\n",
        "torn behind a forged one": b"garbage\n{",
    }[kind]
    expected = _appended(directory, ledger, data)
    again = opened()
    again.close()
    text = path_of(directory, again).read_text()
    assert expected in text
    assert _raw_audit(directory, ledger.stream) == len(lines)


def test_sealed_lines_that_are_gone_show(opened: Open, crashed: Crash, directory: Path) -> None:
    """A stream shorter than what was sealed of it is reported so, and gets no new head."""
    ledger = dead(opened, crashed, records=4, sealed=4)
    path = path_of(directory, ledger)
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:2]))
    again = opened()
    again.close()
    assert f'"sealed_before":"4","size":"2","stream":"{ledger.stream}"' in path_of(directory, again).read_text()
    assert _raw_audit(directory, ledger.stream) == 4


def test_another_history_under_the_same_stream_is_refused(opened: Open, crashed: Crash, directory: Path) -> None:
    """Lines with good MACs that are not those that were sealed do not continue the seal."""
    ledger = dead(opened, crashed, records=2, sealed=1)
    path = path_of(directory, ledger)
    data = path.read_bytes()
    layout = Layout.of(directory)
    mac = load_ledger_key(Files(), layout.ledger_key).stream_mac(ledger.stream)
    parts = stream_parts(data.splitlines()[0])
    assert parts is not None
    record = parts[0].replace(b"agent-identity-otel", b"another")
    assert record != parts[0]
    path.write_bytes(stream_line(mac.of(record), record))
    again = opened()
    again.close()
    text = path_of(directory, again).read_text()
    assert f'"rejected_bytes":"{path.stat().st_size}","sealed_before":"1","size":"0"' in text
    assert _raw_audit(directory, ledger.stream) == 1


def test_lines_of_another_key_are_rejected(opened: Open, crashed: Crash, directory: Path, audit: Callable) -> None:
    """Without the key that made the MACs nothing can be told, so nothing is signed, and the start works."""
    ledger = dead(opened, crashed, records=2)
    (directory / "keys" / "ledger.key").unlink()
    size = path_of(directory, ledger).stat().st_size
    again = opened()
    again.close()
    assert f'"rejected_bytes":"{size}"' in path_of(directory, again).read_text()


def test_many_dead_streams_cost_few_signatures(
    opened: Open, crashed: Crash, audit: Callable, monkeypatch: pytest.MonkeyPatch, faulty: type
) -> None:
    """Streams are recovered in batches under one signature each, and every one of them is reported."""
    monkeypatch.setattr(recovery_module, "_BATCH", 2)
    alive = opened()
    ledgers = [alive, *(opened() for _ in range(4))]
    for ledger in ledgers:
        crashed(ledger)
    files = faulty()
    again = opened(files=files)
    assert files.calls.count("replace") == 3
    again.close()
    found = audit()
    assert len(found.of_kind("recovered")) == 5
    assert all(found.sealed[ledger.stream] == 1 for ledger in ledgers)


def test_two_starts_never_recover_the_same_stream(
    opened: Open, crashed: Crash, audit: Callable, directory: Path
) -> None:
    """While one start holds the lock of a dead stream, another passes it by; afterwards there is nothing to do."""
    ledger = dead(opened, crashed)

    class Second(Files):
        busy = False

        def replace(self, source: str, target: str) -> None:
            super().replace(source, target)
            if not self.busy:
                self.busy = True
                lock = os.open(directory / "ledger" / ledger.stream / "lock", os.O_RDWR)
                with pytest.raises(BlockingIOError):
                    Files().lock(lock)
                os.close(lock)

    files = Second()
    opened(files=files).close()
    assert files.busy
    assert recovered(opened, audit) == []
    assert len(audit().of_kind("recovered")) == 1


def test_a_stream_recovered_meanwhile_is_passed_by(
    opened: Open, crashed: Crash, audit: Callable, directory: Path
) -> None:
    """A start that saw a dead stream, and gets its lock after another recovered it, reports nothing."""
    ledger = dead(opened, crashed)
    others: list[Ledger] = []

    class Slow(Files):
        def lock(self, fd: int) -> None:
            if not others and os.fstat(fd).st_ino == (directory / "log" / "lock").stat().st_ino:
                others.append(ledger)
                opened().close()
            super().lock(fd)

    (directory / "log" / "lock").touch()
    slow = opened(files=Slow())
    slow.close()
    assert audit().kinds(slow.stream) == ["stream_start", "stream_end"]
    assert len(audit().of_kind("recovered")) == 1


def test_a_stream_locked_meanwhile_is_passed_by(opened: Open, crashed: Crash, audit: Callable, directory: Path) -> None:
    """A lock that another start holds is not waited for."""
    ledger = dead(opened, crashed)
    fd = os.open(directory / "ledger" / ledger.stream / "lock", os.O_RDWR)
    Files().lock(fd)
    assert recovered(opened, audit) == []
    os.close(fd)
    assert len(recovered(opened, audit)) == 1


@pytest.mark.parametrize("call", ["open", "read", "seek"])
def test_an_unreadable_stream_does_not_stop_the_start(
    opened: Open, crashed: Crash, audit: Callable, directory: Path, *, caplog: object, call: str
) -> None:
    """One stream on a broken sector is passed by with a warning; the others are recovered."""
    broken, whole = opened(), opened()
    crashed(broken)
    crashed(whole)
    bad = path_of(directory, broken)

    class Broken(Files):
        def open(self, path: str, flags: int, mode: int = 0o644) -> int:
            if call == "open" and path == str(bad):
                raise OSError(errno.EIO, "fault")
            return super().open(path, flags, mode)

        def read(self, fd: int, size: int) -> bytes:
            if call == "read" and os.fstat(fd).st_ino == bad.stat().st_ino:
                raise OSError(errno.EIO, "fault")
            return super().read(fd, size)

        def seek(self, fd: int, offset: int) -> None:
            if call == "seek" and os.fstat(fd).st_ino == bad.stat().st_ino:
                raise OSError(errno.EIO, "fault")
            super().seek(fd, offset)

    again = opened(files=Broken())
    again.close()
    assert [r["recovered"]["stream"] for r in audit().of_kind("recovered")] == [whole.stream]
    assert f"stream {broken.stream}: {os.strerror(errno.EIO)}" in caplog.text
    assert [found["stream"] for found in recovered(opened, audit)] == [broken.stream]


def test_a_stream_whose_first_records_were_pruned_is_recovered_behind_them(
    opened: Open, crashed: Crash, audit: Callable, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The statement beside it says where it goes on, with the calls that were open there; and nothing is rejected."""
    monkeypatch.setattr(segments_module, "_MIN_BYTES", 1)
    ledger = opened(segments=Segments(max_bytes=1, compression="none"))
    left = append(ledger, "intent", INTENT).id
    append(ledger, "registration", BODY)
    append(ledger, "registration", BODY)
    ledger.seal()
    other = opened()
    given = {"before_ns": 1 << 62, "signer": SigningKey.from_seed(b"r" * 32), "clock": FixedClock()}
    assert [removed.stream for removed in prune(str(directory), other, **given)] == [ledger.stream]
    other.close()
    append(ledger, "registration", BODY)
    crashed(ledger)
    again = opened()
    again.close()
    lines = path_of(directory, again).read_bytes().splitlines()
    (found,) = [r["recovered"] for line in lines if (r := orjson.loads(line)["record"])["kind"] == "recovered"]
    assert found == {
        "stream": ledger.stream,
        "size": "5",
        "sealed_before": "4",
        "torn_bytes": "0",
        "rejected_bytes": "0",
        "open_count": "1",
        "open": [left],
    }


def test_a_log_that_cannot_be_trusted_leaves_streams_for_later(
    opened: Open, crashed: Crash, audit: Callable, directory: Path, caplog: object
) -> None:
    """With foreign bytes below its checkpoint nothing is sealed, but the start works; repaired, all is recovered."""
    dead(opened, crashed, sealed=1)
    log = directory / "log" / "entries.jsonl"
    good = log.read_bytes()
    log.write_bytes(b"garbage\n" + good)
    with pytest.raises(EvidenceError):
        opened().close()
    assert (
        "earlier streams stay unsealed: the bytes at offset 0 of the log were not written with this "
        "directory's key; repair log/entries.jsonl, until then nothing is sealed"
    ) in caplog.text
    log.write_bytes(good)
    assert len(recovered(opened, audit)) == 2


def test_a_seal_that_fails_leaves_streams_for_later(
    opened: Open, crashed: Crash, audit: Callable, faulty: type, caplog: object
) -> None:
    """No checkpoint, no report: the next start recovers the stream as if nobody had tried."""
    dead(opened, crashed)
    files = faulty()
    files.fault = lambda number, name: OSError(errno.ENOSPC, "fault") if name == "replace" else None
    ledger = opened(files=files)
    words = "earlier streams stay unsealed: could not seal what was recovered: "
    assert [record.getMessage().startswith(words) for record in caplog.records][:1] == [True]
    files.heal()
    ledger.close()
    assert not audit().of_kind("recovered")
    assert len(recovered(opened, audit)) == 1


def test_a_start_that_cannot_list_the_streams_says_so(opened: Open, faulty: type) -> None:
    """A folder that cannot be read at all is no damaged stream, and no ground to go on."""
    opened()
    with pytest.raises(EvidenceError, match=r"open the evidence directory|list the streams"):
        opened(files=faulty.failing("listdir"))


@pytest.mark.parametrize(
    "text", [b"", b"settled", b"settled 5", b"settled x\n", b"other 5 in 6\n", b"settled -5 in 6\n"]
)
def test_only_a_whole_note_settles(tmp_path: Path, text: bytes) -> None:
    """A note that was torn, or never written, makes the next start look again."""
    files = Files()
    (tmp_path / "lock").write_bytes(text)
    fd = files.open(str(tmp_path / "lock"), EDIT)
    assert settled_size(files, fd) is None
    note_settled(files, fd, 123)
    note_settled(files, fd, 5)
    assert settled_size(files, fd) == 5
    assert (tmp_path / "lock").read_bytes() == b"settled 5 in %d\n" % (tmp_path / "lock").stat().st_ino
    files.close(fd)


def test_a_settled_stream_that_changed_is_looked_at_again(opened: Open, audit: Callable, directory: Path) -> None:
    """The note is no proof: bytes behind it are found."""
    ledger = opened()
    ledger.close()
    _appended(directory, ledger, b"garbage\n")
    again = opened()
    again.close()
    assert '"rejected_bytes":"8"' in path_of(directory, again).read_text()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data())
def test_no_damage_stops_a_start_or_gets_a_signature(
    opened: Open, crashed: Crash, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Whatever one edit does to a dead stream: the start works, and only a prefix of what was written is sealed."""
    at = tmp_path_factory.mktemp("evidence")
    ledger = opened(at)
    for _ in range(2):
        append(ledger, "registration", BODY)
    crashed(ledger)
    path = path_of(at, ledger)
    original = path.read_bytes()
    start = data.draw(st.integers(0, len(original)))
    end = data.draw(st.integers(start, min(len(original), start + 40)))
    path.write_bytes(original[:start] + data.draw(st.binary(max_size=40)) + original[end:])
    opened(at).close()
    sealed = _raw_audit(at, ledger.stream)
    lines = original.splitlines(keepends=True)
    assert path.read_bytes().startswith(b"".join(lines[:sealed]))
