"""Old segments leave a directory: into an archive, and behind a statement that keeps the proof of the rest."""

import contextlib
import errno
import gzip
import itertools
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plain_records import append

from agent_identity._identity.common.encoding import b64url_decode, b64url_encode, digest_of
from agent_identity._identity.common.record_bytes import decode_record, encode_record
from agent_identity._identity.keys.jws import sign_compact
from agent_identity._ledger import prunable_prefix as survey_module
from agent_identity._ledger import prune_statement as pruned_module
from agent_identity._ledger import segments as segments_module
from agent_identity._ledger.archiving import Removed, archive, prune
from agent_identity._ledger.excerpt import excerpt_lines, excerpt_of
from agent_identity._ledger.excerpt_starts import Excerpt, Start
from agent_identity._ledger.prunable_prefix import read_heads, survey
from agent_identity._ledger.prune_statement import (
    MAX_OPEN,
    MAX_PEAKS,
    Kept,
    PruneStatement,
    open_pruned,
    read_kept,
    sign_pruned,
    unverified_pruned,
)
from agent_identity._ledger.reader import MAX_EXCERPT, open_ledger
from agent_identity._ledger.transparency.checkpoint import sign_note
from agent_identity._ledger.transparency.merkle import CompactRange, leaf_hash
from agent_identity._storage.layout import Layout, segment_name
from agent_identity._storage.lines import Line, leaf_of
from agent_identity._storage.os_files import EDIT, Files
from agent_identity.errors import EvidenceError, VerificationError
from agent_identity.identity import SigningKey
from agent_identity.options import Ledger, Segments
from agent_identity.testing import FixedClock

ORIGIN = "ledger.example/log"
SIGNER = SigningKey.from_seed(b"r" * 32)
BODY = {"agent": {"id": "clerk", "owner": "ops@example.com"}}
STREAM = "AaIOQ0bYcV-ScJHDCbiHEA"
FUTURE = 1 << 62
Open = Callable[..., Ledger]
Crash = Callable[[Ledger], None]


def facts(grant: str = "0", above: tuple[str, ...] = ()) -> dict[str, object]:
    """Return the members of a record of a task, under a grant and those above it."""
    return {
        "task": {"id": STREAM},
        "principal": {"id": "alice@example.com", "kind": "human", "provenance": "asserted"},
        **BODY,
        "chain": [{"id": "clerk", "grant": digest_of(name.encode())} for name in (*above, grant)],
    }


CALL = {
    "action": {"tool": "pay", "kind": "function"},
    "decision": {"effect": "allow", "enforced": "allow", "mode": "enforce", "reason": "within_scope"},
}


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let segments be as small as one record."""
    monkeypatch.setattr(segments_module, "_MIN_BYTES", 1)


@pytest.fixture
def written(opened: Open) -> Callable[..., str]:
    """Writes a closed stream of small segments and returns its id."""

    def write(count: int = 10, **options: object) -> str:
        ledger = opened(segments=Segments(max_bytes=600, compression="none"), **options)
        for _ in range(count):
            append(ledger, "registration", BODY)
        stream = ledger.stream
        ledger.close()
        return stream

    return write


def pruning(opened: Open, directory: Path, **options: object) -> list[tuple[str, int, int]]:
    """Prune and return what went."""
    ledger = opened()
    given = {"before_ns": FUTURE, "signer": SIGNER, "clock": FixedClock(), **options}
    found = [(r.stream, r.first, r.last) for r in prune(str(directory), ledger, **given)]
    ledger.close()
    return found


def files_of(directory: Path, stream: str) -> list[str]:
    """Return the names of a stream's segments."""
    return sorted(path.name for path in (directory / "ledger" / stream).glob("entries*"))


def statement(directory: Path, stream: str) -> PruneStatement:
    """Return the statement of what was pruned, under its signature."""
    note = open_ledger(directory).pruned(stream)
    assert note is not None
    return open_pruned(note, [SIGNER.public_key])[0]


def kept(directory: Path, stream: str) -> tuple[tuple[str, ...], str]:
    """Return the grants that were kept of a stream, and whether they are those that the statement names."""
    return open_ledger(directory).kept_grants(statement(directory, stream))


def test_an_archive_has_every_closed_segment_once(
    opened: Open, written: Callable, directory: Path, tmp_path: Path
) -> None:
    """A stream that has ended is copied whole and compressed; a second run copies nothing."""
    stream = written()
    before = files_of(directory, stream)
    (copied,) = archive(str(directory), str(tmp_path / "out"))
    assert (copied.stream, copied.first, copied.last, copied.files) == (stream, 1, 12, len(before))
    assert list(archive(str(directory), str(tmp_path / "out"))) == []
    assert files_of(directory, stream) == before
    plain = b"".join((directory / "ledger" / stream / name).read_bytes() for name in before)
    packed = sorted((tmp_path / "out" / "ledger" / stream).iterdir())
    assert b"".join(gzip.decompress(path.read_bytes()) for path in packed) == plain
    assert (tmp_path / "out" / "log" / "checkpoint").read_bytes() == (directory / "log" / "checkpoint").read_bytes()


def test_a_disk_that_fails_says_what_was_to_be_done(
    opened: Open, written: Callable, directory: Path, tmp_path: Path, faulty: Callable
) -> None:
    """Archiving, pruning: an error of the library with the words of the system."""
    written()
    files = faulty.failing("lock", code=errno.EIO)
    with pytest.raises(EvidenceError, match=r"^could not archive segments: "):
        list(archive(str(directory), str(tmp_path / "out"), files=files))
    ledger = opened()
    given = {"before_ns": FUTURE, "signer": SIGNER, "clock": FixedClock(), "files": files}
    with pytest.raises(EvidenceError, match=r"^could not prune segments: "):
        list(prune(str(directory), ledger, **given))


def test_what_is_compressed_is_copied_as_it_is(opened: Open, directory: Path, tmp_path: Path) -> None:
    """A segment that is compressed already goes to the archive unchanged; the open one of a live process stays."""
    ledger = opened(segments=Segments(max_bytes=700))
    for _ in range(10):
        append(ledger, "registration", BODY)
    ledger.seal()
    thread = ledger.sealing._compressor._thread
    if thread is not None:  # It has not ended yet.
        thread.join(10)
    (copied,) = archive(str(directory), str(tmp_path / "out"))
    names = files_of(directory, ledger.stream)
    assert sorted(p.name for p in (tmp_path / "out" / "ledger" / ledger.stream).iterdir()) == names[:-1]
    assert copied.last < 11


def test_only_what_is_old_is_archived(written: Callable, directory: Path, tmp_path: Path) -> None:
    """A segment with one record that is younger stays."""
    written()
    assert list(archive(str(directory), str(tmp_path / "out"), before_ns=1)) == []


def test_the_border_of_what_is_old_is_exact(opened: Open, directory: Path, tmp_path: Path, clock: FixedClock) -> None:
    """A segment leaves if its newest moment is before the border, the end of a call included, to the nanosecond."""
    ledger = opened(segments=Segments(max_bytes=100_000, compression="none"))
    begin = clock.wall_ns()
    ended = {"time": {"start": str(begin), "end": str(begin + 77)}}
    append(ledger, "outcome", {**facts("b"), **CALL, "outcome": "success", **ended})
    ledger._stream.rotate_at = 0
    clock.advance(1)
    append(ledger, "registration", BODY)
    ledger.seal()
    newest = begin + 77
    assert pruning(opened, directory, before_ns=newest) == []
    assert list(archive(str(directory), str(tmp_path / "out"), before_ns=newest)) == []
    (copied,) = archive(str(directory), str(tmp_path / "out"), before_ns=newest + 1)
    assert (copied.first, copied.last, copied.files) == (1, 2, 1)
    assert pruning(opened, directory, before_ns=newest + 1) == [(ledger.stream, 1, 2)]


def test_what_left_is_told_with_its_files_and_bytes(
    opened: Open, written: Callable, directory: Path, tmp_path: Path
) -> None:
    """For the archive what was copied, for pruning what was removed; folders are open to readers, copies are synced."""
    stream = written()
    paths = sorted((directory / "ledger" / stream).glob("entries*"))
    size, out = sum(path.stat().st_size for path in paths), tmp_path / "out"
    (out / "ledger" / stream).mkdir(parents=True)
    (out / "ledger" / stream / f"{segment_name(1)}.gz.tmp").write_bytes(b"of a copy that was killed")
    (copied,) = archive(str(directory), str(out))
    assert copied == Removed(stream, 1, 12, len(paths), size)
    assert len(list((out / "ledger" / stream).glob("*.gz"))) == len(paths)
    (out / "ledger" / stream / f"{segment_name(1)}.gz").unlink()
    (again,) = archive(str(directory), str(out))
    assert (again.first, again.files, again.bytes) == (1, 1, paths[0].stat().st_size)
    ledger = opened()
    given = {"before_ns": FUTURE, "signer": SIGNER, "clock": FixedClock(7_000_000_000)}
    assert list(prune(str(directory), ledger, **given)) == [Removed(stream, 1, 12, len(paths), size)]
    ledger.close()
    assert statement(directory, stream).time_ns == 7_000_000_000


def test_a_pruned_stream_leaves_a_statement(opened: Open, written: Callable, directory: Path, audit: Callable) -> None:
    """What goes is recorded and sealed first, and the statement leads to the root that the log has."""
    stream = written()
    leaves = [leaf_hash(line.record) for line in open_ledger(directory).entries(stream)]
    root = CompactRange(leaves).root()
    assert pruning(opened, directory) == [(stream, 1, 12)]
    assert files_of(directory, stream) == []
    found = statement(directory, stream)
    assert (found.size, found.last, found.tree().root(), found.origin) == (12, leaves[-1], root, ORIGIN)
    reader = open_ledger(directory)
    (own,) = [name for name in reader.streams() if name != stream]
    records = [line.record for line in reader.entries(own)]
    (recorded,) = [r for r in records if b'"erasure"' in r]
    assert f'"last":"12","root":"{b64url_encode(root)}","stream":"{stream}"'.encode() in recorded
    assert read_heads(reader)[0].size >= found.log_size > 0
    assert list(reader.entries(stream, start=13)) == []
    assert pruning(opened, directory) == [(own, 1, 3)]
    assert statement(directory, stream) == found


def test_a_live_stream_is_pruned_up_to_its_open_segment(opened: Open, directory: Path, crashed: Crash) -> None:
    """The process goes on, its next start recovers the rest, and what was pruned twice is stated once."""
    ledger = opened(segments=Segments(max_bytes=600, compression="none"))
    for _ in range(7):
        append(ledger, "registration", BODY)
    ledger.seal()
    ((stream, _, first_cut),) = pruning(opened, directory)
    for _ in range(6):
        append(ledger, "registration", BODY)
    ledger.seal()
    cuts = [cut for cut in pruning(opened, directory) if cut[0] == stream]
    assert cuts[0][1] == first_cut + 1
    assert statement(directory, stream).size == cuts[0][2]
    append(ledger, "registration", BODY)
    crashed(ledger)
    again = opened()
    again.close()
    heads = read_heads(open_ledger(directory))[1]
    assert heads[stream][-1].size == 15
    kinds = [line.record for line in open_ledger(directory).entries(again.stream) if b'"recovered"' in line.record]
    assert b'"rejected_bytes":"0"' in kinds[0]


@pytest.mark.parametrize("break_it", ["stream", "size", "title", "gone"])
def test_a_statement_that_is_none_recovers_nothing(
    opened: Open, directory: Path, crashed: Crash, break_it: str
) -> None:
    """Recovery takes a statement only if the heads of the log fit it, whoever signed."""
    ledger = opened(segments=Segments(max_bytes=600, compression="none"))
    for _ in range(7):
        append(ledger, "registration", BODY)
    ledger.seal()
    ((stream, _, _),) = pruning(opened, directory)
    append(ledger, "registration", BODY)
    crashed(ledger)
    path = directory / "ledger" / stream / "pruned"
    found = unverified_pruned(path.read_bytes())
    claim = found.to_claim()
    if break_it == "stream":
        path.write_bytes(sign_pruned(PruneStatement.from_claim(claim | {"stream": STREAM}), SIGNER))
    elif break_it == "size":
        tree = CompactRange([b"x" * 32] * 99)
        forged = claim | {"size": "99", "peaks": tuple(map(b64url_encode, tree.peaks))}
        path.write_bytes(sign_pruned(PruneStatement.from_claim(forged), SIGNER))
    elif break_it == "title":
        path.write_bytes(b"something else\n\nsigned\n")
    else:
        path.unlink()
    size = read_heads(open_ledger(directory))[1][stream][-1].size
    opened().close()
    assert read_heads(open_ledger(directory))[1][stream][-1].size == size


def test_peaks_that_lead_elsewhere_are_rejected_at_once(opened: Open, directory: Path, crashed: Crash) -> None:
    """A statement whose tree is not the one of the last head is contradicted before a line is read."""
    ledger = opened(segments=Segments(compression="none"))
    for _ in range(2):
        append(ledger, "registration", BODY)
    ledger.seal()
    stream = ledger.stream
    append(ledger, "registration", BODY)
    crashed(ledger)
    folder = directory / "ledger" / stream
    lines = (folder / "entries.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "entries.jsonl").write_bytes(lines[3])
    forged = pruned_of(3, stream=stream)
    (folder / "pruned").write_bytes(sign_pruned(forged, SIGNER))
    opened().close()
    assert read_heads(open_ledger(directory))[1][stream][-1].size == 3


def pruned_of(size: int, **changes: object) -> PruneStatement:
    """Return a statement about so many records that nobody wrote."""
    tree = CompactRange(bytes([number % 256]) * 32 for number in range(size))
    facts = {
        "origin": ORIGIN,
        "stream": STREAM,
        "size": size,
        "last": b"l" * 32,
        "peaks": tree.peaks,
        "open": (),
        "log_size": 3,
        "log_root": b"r" * 32,
        "time_ns": 5,
        "kept": Kept.of([]),
    }
    return PruneStatement(**{**facts, **changes})


COUNTS = {"counts": {"intents": "0", "outcomes": "0", "open": "0"}}


def rotated(ledger: Ledger) -> int:
    """Let the next segment of a stream begin, seal it, and return the place of the last record of the one before."""
    ledger._stream.rotate_at = 0
    begun = append(ledger, "registration", BODY).seq
    ledger.seal()
    return begun - 1


def test_a_segment_that_is_closed_while_it_is_read_is_no_change(opened: Open, directory: Path) -> None:
    """Its name is that of the next one then; what nothing has proved yet leaves with the next pruning."""
    ledger = opened(segments=Segments(max_bytes=100_000, compression="none"))
    first = rotated(ledger)
    reader = open_ledger(directory)
    listed = list(reader.segments(ledger.stream))
    rotated(ledger)

    class Late:
        def segments(self, stream: str) -> Iterator[Any]:
            return iter(listed)

        def __getattr__(self, name: str) -> Any:
            return getattr(reader, name)

    heads = read_heads(reader)[1][ledger.stream]
    late = survey(Late(), ledger.stream, heads, lambda *_: True, removing=False)  # type: ignore[arg-type]
    assert late is None
    again = survey(reader, ledger.stream, heads, lambda segment, _: not segment.active, removing=False)
    assert again is not None
    assert [segment.active for segment in listed] == [False, True]
    assert again.size > first


def test_what_is_open_at_the_border_is_kept(opened: Open, directory: Path, tmp_path: Path) -> None:
    """Intents without outcome are named, and grants of tasks that go on stay, with those above them."""
    ledger = opened(segments=Segments(max_bytes=100_000, compression="none"))
    for name, above in (("a", ()), ("b", ("a",)), ("c", ())):
        append(ledger, "grant", {**facts(name, above), "grant": {"token": f"{name}.{name}.{name}"}})
        append(ledger, "task_start", facts(name, above))
    append(ledger, "task_start", facts("c"))
    for name in ("c", "c", "d"):
        append(ledger, "task_end", {**facts(name), **COUNTS})
    done = append(ledger, "intent", {**facts("b", ("a",)), **CALL}).id
    left = append(ledger, "intent", {**facts("b", ("a",)), **CALL}).id
    append(ledger, "outcome", {**facts("b", ("a",)), **CALL, "outcome": "success", "intent": done})
    last = rotated(ledger)
    assert [found.last for found in archive(str(directory), str(tmp_path / "out"))] == [last]
    stream = ledger.stream
    assert pruning(opened, directory) == [(stream, 1, last)]
    assert statement(directory, stream).open == (left,)
    assert kept(directory, stream) == (("a.a.a", "b.b.b"), "named")


def test_grants_stay_as_long_as_a_record_may_name_them(opened: Open, directory: Path, clock: FixedClock) -> None:
    """Before their task begins, after it expired, while a call outlives it, and while it may begin once more."""
    ledger, now = opened(segments=Segments(compression="none")), clock.wall_ns()

    def of(name: str, *above: str, expires: int = 3_600) -> dict[str, object]:
        return {**facts(name, above), "task": {"id": STREAM, "expires": str(now + expires * 10**9)}}

    def write(*names: str, expires: int = 3_600) -> None:
        for place in range(1, len(names) + 1):
            above, name = names[: place - 1], names[place - 1]
            append(ledger, "grant", {**of(name, *above, expires=expires), "grant": {"token": f"{name}.{name}.{name}"}})

    write("a", expires=1)
    append(ledger, "task_start", of("a", expires=1))  # It expires, and has not ended.
    write("b", "c", expires=1)  # Handed over, and expired more than a minute ago.
    write("d")
    append(ledger, "task_start", of("d"))
    append(ledger, "intent", {**of("d"), **CALL})
    append(ledger, "task_end", {**of("d"), "counts": {**COUNTS["counts"], "open": "1"}})  # A call outlives it.
    write("e", "f")
    append(ledger, "task_start", of("f", "e"))
    append(ledger, "task_end", {**of("f", "e"), **COUNTS})  # Received: it may begin once more without being written.
    ledger._stream.rotate_at = 0
    clock.advance(62)
    append(ledger, "outcome", {**facts("0"), **CALL, "outcome": "error", "time": {"start": str(now + (1 << 60))}})
    write("1", "2")
    for name, above in (("1", ()), ("2", ("1",))):
        append(ledger, "task_start", of(name, *above))
    for name, above in (("2", ("1",)), ("1", ())):
        append(ledger, "task_end", {**of(name, *above), **COUNTS})  # Over, and over with it.
    write("9")  # Its task begins behind the border.
    rotated(ledger)
    assert [stream for stream, _, _ in pruning(opened, directory)] == [ledger.stream]
    assert kept(directory, ledger.stream) == (tuple(f"{name}.{name}.{name}" for name in "9adef"), "named")


def test_a_server_that_is_never_without_a_task_prunes(opened: Open, directory: Path) -> None:
    """Tasks that overlap for ever hold up no segment, and what is kept of them does not grow."""
    ledger, stream, borders = opened(segments=Segments(compression="none")), "", list[int]()
    for number in range(6):
        own, before = of_token(f"t{number}"), of_token(f"t{number - 1}")
        append(ledger, "grant", {**own, "grant": {"token": f"t{number}.t{number}.x"}})
        append(ledger, "task_start", own)
        if number:
            append(ledger, "task_end", {**before, **COUNTS})
        borders.append(rotated(ledger))
        stream = ledger.stream
        assert (stream, [0, *borders][-2] + 1, borders[-1]) in pruning(opened, directory)
        assert kept(directory, stream) == ((f"t{number}.t{number}.x",), "named")


def of_token(name: str) -> dict[str, object]:
    """Return the members of a record of a task under the grant with the token ``name.name.…``."""
    return {**facts(), "chain": [{"id": "clerk", "grant": digest_of(f"{name}.{name}".encode())}]}


def test_what_was_kept_is_not_kept_for_ever(opened: Open, directory: Path, clock: FixedClock) -> None:
    """A grant whose end nobody tells leaves a week after it has expired."""
    ledger = opened(segments=Segments(compression="none"))
    token = sign_compact({"typ": "x"}, {"exp": clock.wall_ns() // 10**9}, SIGNER)
    chain = [{"id": "clerk", "grant": digest_of(token.rpartition(".")[0].encode())}]
    append(ledger, "grant", {**facts(), "chain": chain, "grant": {"token": token}})
    append(ledger, "task_start", {**facts(), "chain": chain})
    counts = list[int]()
    for seconds in (1, 7 * 86_400 - 2, 2, 1, 1):  # Each segment begins where the one before it was cut.
        rotated(ledger)
        pruning(opened, directory)
        counts.append(len(kept(directory, ledger.stream)[0]))
        clock.advance(seconds)
    assert counts == [1, 1, 1, 1, 0]


@pytest.mark.parametrize("bound", ["kept", "memory"])
def test_a_stream_is_cut_earlier_where_too_many_grants_are_open(
    opened: Open, directory: Path, monkeypatch: pytest.MonkeyPatch, bound: str
) -> None:
    """At the last segment end at which they fit, and further on once tasks have ended."""
    monkeypatch.setattr(survey_module, "_MAX_KEPT", 1_500)
    monkeypatch.setattr(survey_module, "_FEW", 1)
    ledger, borders = opened(segments=Segments(compression="none")), list[int]()
    for count in (2, 3, 20 if bound == "memory" else 1, 0):
        for number in range(count):
            own = {**facts(), "chain": [{"id": "clerk", "grant": digest_of(b"%d %d" % (len(borders), number))}]}
            append(ledger, "grant", {**own, "grant": {"token": f"a.{len(borders)}.{number}"}})
            append(ledger, "task_start", own)
        borders.append(rotated(ledger))
    assert pruning(opened, directory) == [(ledger.stream, 1, borders[1])]
    assert len(kept(directory, ledger.stream)[0]) == 5


def test_a_stream_of_a_process_that_died_can_go(opened: Open, directory: Path, crashed: Crash) -> None:
    """Nothing follows in it, so what was open when it died holds up nothing."""
    ledger = opened(segments=Segments(compression="none"))
    append(ledger, "task_start", facts("a"))
    size, stream = append(ledger, "intent", {**facts("a"), **CALL}).seq, ledger.stream
    ledger.seal()
    crashed(ledger)
    opened().close()
    assert (stream, 1, size) in pruning(opened, directory)


def test_what_was_kept_is_kept_until_it_ends(opened: Open, directory: Path) -> None:
    """The next statement names what the one before named, but for what has ended since."""
    ledger = opened(segments=Segments(compression="none"))
    for name in ("a", "b"):
        append(ledger, "grant", {**of_token(name), "grant": {"token": f"{name}.{name}.{name}"}})
        append(ledger, "task_start", of_token(name))
    left = append(ledger, "intent", {**of_token("b"), **CALL}).id
    rotated(ledger)
    ((stream, _, _),) = pruning(opened, directory)
    assert statement(directory, stream).open == (left,)
    assert kept(directory, stream) == (("a.a.a", "b.b.b"), "named")
    append(ledger, "task_end", {**of_token("a"), **COUNTS})
    rotated(ledger)
    pruning(opened, directory)
    assert statement(directory, stream).open == (left,)
    assert kept(directory, stream) == (("b.b.b",), "named")
    append(ledger, "outcome", {**of_token("b"), **CALL, "outcome": "success", "intent": left})
    append(ledger, "task_end", {**of_token("b"), **COUNTS})
    rotated(ledger)
    pruning(opened, directory)
    assert statement(directory, stream).open == ()
    assert kept(directory, stream) == ((), "named")
    assert list((directory / "ledger" / stream).glob("grants*")) == []


def test_records_that_change_while_they_are_read_do_not_leave(directory: Path, written: Callable) -> None:
    """What is open at the border is read from the records that the log proved, or not at all."""
    stream = written()
    reader = open_ledger(directory)

    class Changing:
        """A reader that has other lines the second time."""

        pruned, first_place = reader.pruned, reader.first_place
        segments = staticmethod(reader.segments)

        def __init__(self) -> None:
            self.seen = set[str]()

        def lines_of(self, segment: Any) -> object:
            """Return the lines, and the second time those of the first segment."""
            again = segment.path in self.seen
            self.seen.add(segment.path)
            return reader.lines_of(reader.segments(stream)[0] if again else segment)

    heads = read_heads(reader)[1][stream]
    with pytest.raises(VerificationError) as caught:
        survey(Changing(), stream, heads, lambda segment, ns: True, removing=True)  # type: ignore[arg-type]
    assert caught.value.code == "contradicted"


@pytest.mark.parametrize("record", [b'{"kind":"grant"}', None])
def test_what_is_no_record_the_second_time_does_not_leave(
    directory: Path, written: Callable, record: bytes | None
) -> None:
    """Lines that are none any more, or lack what a record has, are those of somebody else."""
    stream = written()
    reader = open_ledger(directory)
    line = b"x" if record is None else b'{"mac":"' + b"0" * 43 + b'","record":' + record + b"}"

    class Changing:
        """A reader that has another line the second time."""

        pruned, first_place = reader.pruned, reader.first_place
        segments = staticmethod(reader.segments)

        def __init__(self) -> None:
            self.seen = set[str]()

        def lines_of(self, segment: Any) -> object:
            """Return the lines, and the second time the other one."""
            again = segment.path in self.seen
            self.seen.add(segment.path)
            return iter([Line(0, len(line), line, torn=False)]) if again else reader.lines_of(segment)

    heads = read_heads(reader)[1][stream]
    with pytest.raises(VerificationError) as caught:
        survey(Changing(), stream, heads, lambda segment, ns: True, removing=True)  # type: ignore[arg-type]
    assert caught.value.code == "contradicted"


def test_a_border_with_too_much_open_is_none(opened: Open, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where more calls are open than a statement names, the stream is not cut."""
    monkeypatch.setattr("agent_identity._ledger.prunable_prefix.MAX_OPEN", 1)
    ledger = opened(segments=Segments(max_bytes=100_000, compression="none"))
    for _ in range(2):
        append(ledger, "intent", {**facts("b"), **CALL})
    ledger._stream.rotate_at = 0
    append(ledger, "registration", BODY)
    ledger.seal()
    assert pruning(opened, directory) == []
    monkeypatch.setattr("agent_identity._ledger.prunable_prefix.MAX_OPEN", 2)
    assert pruning(opened, directory)[0][:2] == (ledger.stream, 1)
    assert len(statement(directory, ledger.stream).open) == 2


def test_only_what_the_archive_has_is_pruned(opened: Open, written: Callable, directory: Path, tmp_path: Path) -> None:
    """With an archive, a segment that is missing there, or another one, stays."""
    stream = written()
    out = tmp_path / "out"
    assert pruning(opened, directory, archived=str(out)) == []
    list(archive(str(directory), str(out)))
    third = sorted((out / "ledger" / stream).iterdir())[2]
    third.write_bytes(gzip.compress(b"other\n"))
    cuts = [cut for cut in pruning(opened, directory, archived=str(out)) if cut[0] == stream]
    assert cuts == [(stream, 1, int(third.name[8:28]) - 1)]
    together = open_ledger(directory, archive=out)
    assert together.first_place(stream) == 1
    third.unlink()
    firsts = [segment.first for segment in together.segments(stream)]
    assert firsts == sorted(set(firsts))
    assert firsts[0] == 1


class Listing(Files):
    """Counts how often a folder is listed, and does something the first time."""

    def __init__(self, folder: str, then: Callable[[], object]) -> None:
        self.folder = folder
        self.then = then
        self.listed = 0

    def listdir(self, path: str) -> list[str]:
        """List a folder."""
        names = super().listdir(path)
        if path == self.folder:
            self.listed += 1
            if self.listed == 1:
                self.then()
        return names


@pytest.mark.parametrize("how", ["gone", "changed", "added"])
def test_an_archive_is_listed_once_for_a_stream_and_what_it_has_not_stays(
    opened: Open, written: Callable, directory: Path, tmp_path: Path, how: str
) -> None:
    """However many segments there are, and where one leaves the archive, or is another one, behind the listing."""
    stream = written()
    out = tmp_path / "out"
    list(archive(str(directory), str(out)))
    archived = sorted((out / "ledger" / stream).iterdir())
    third, whole = archived[2], archived[2].read_bytes()
    changes: dict[str, Callable[[], object]] = {
        "gone": third.unlink,
        "changed": lambda: third.write_bytes(gzip.compress(b"other\n")),
        "added": lambda: third.write_bytes(whole),
    }
    if how == "added":
        third.unlink()
    files = Listing(str(third.parent), changes[how])
    cuts = [cut for cut in pruning(opened, directory, archived=str(out), files=files) if cut[0] == stream]
    assert cuts == [(stream, 1, int(third.name[8:28]) - 1)]
    assert len(archived) > 4
    assert files.listed == 1


def test_a_stream_and_its_archive_are_read_once(
    opened: Open, written: Callable, directory: Path, tmp_path: Path
) -> None:
    """What is in the directory and in the archive as well counts once, open segment included."""
    stream = written()
    list(archive(str(directory), str(tmp_path / "out")))
    together = open_ledger(directory, archive=tmp_path / "out")
    assert sum(line.record is not None for line in together.entries(stream)) == 12
    shutil.rmtree(directory / "ledger" / stream)
    assert sum(line.record is not None for line in together.entries(stream)) == 12


def test_another_program_at_work_is_waited_for_and_refused(
    opened: Open, written: Callable, directory: Path, tmp_path: Path
) -> None:
    """Two programs never archive or prune at once."""
    written()

    class Impatient(Files):
        """Does not wait."""

        def pause(self, seconds: float) -> None:
            """Go on at once."""

    files = Files()
    fd = files.open(Layout.of(directory).segments_lock, EDIT)
    files.lock(fd)
    with pytest.raises(EvidenceError) as caught:
        list(archive(str(directory), str(tmp_path / "out"), files=Impatient()))
    assert str(caught.value) == (
        "another program is at work on the segments; wait until it is done, and run this again"
    )
    files.close(fd)
    assert [found.last for found in archive(str(directory), str(tmp_path / "out"), files=Impatient())] == [12]


@pytest.mark.parametrize("how", ["record", "line", "log", "checkpoint"])
def test_what_the_log_does_not_prove_does_not_leave(
    opened: Open, written: Callable, directory: Path, tmp_path: Path, how: str
) -> None:
    """Nothing is archived or pruned of a directory that is not what its checkpoint commits to."""
    stream = written()
    first = min((directory / "ledger" / stream).glob("entries-*"))
    log = directory / "log" / "entries.jsonl"
    if how == "record":
        first.write_bytes(first.read_bytes().replace(b"ops@example.com", b"0ps@example.com"))
    elif how == "line":
        first.write_bytes(b"x\n" + first.read_bytes())
    elif how == "log":
        log.write_bytes(log.read_bytes().replace(b'"size":"12"', b'"size":"11"'))
    else:
        (directory / "log" / "checkpoint").unlink()
    others = (
        (
            f"the records of stream {stream} are not those that the log commits to; "
            "nothing of it is archived or pruned, run the verification"
        ),
        "contradicted",
    )
    log_of_others = "the log is not the one that its checkpoint commits to; run the verification"
    told = {
        "record": others,
        "line": others,
        "log": (log_of_others, VerificationError.default_code),
        "checkpoint": (
            "log/checkpoint is missing, so that nothing proves the records; run the verification",
            VerificationError.default_code,
        ),
    }
    with pytest.raises(VerificationError) as caught:
        list(archive(str(directory), str(tmp_path / "out")))
    assert (str(caught.value), caught.value.code) == told[how]
    assert files_of(tmp_path / "out", stream) == []


def test_a_record_without_its_members_does_not_leave(directory: Path, opened: Open, written: Callable) -> None:
    """Bytes that hash as the log says and are no record of ours stop the survey."""
    stream = written()
    reader = open_ledger(directory)

    class Odd:
        """A reader whose lines hold no record."""

        pruned = first_place = staticmethod(lambda stream: None)
        segments = staticmethod(reader.segments)

        @staticmethod
        def lines_of(_: object) -> object:
            """Return one line."""
            line = b'{"mac":"' + b"0" * 43 + b'","record":{"a":1}}'
            return iter([Line(0, len(line), line, torn=False)])

    with pytest.raises(VerificationError, match="not those that the log commits to"):
        survey(Odd(), stream, read_heads(reader)[1][stream], lambda segment, ns: True, removing=True)


@pytest.mark.parametrize(
    "end",
    [
        b'{"mac":"12',
        b"x" * (4 * 1024 * 1024 + 1) + b"\n",
        b'{"mac":"' + b"0" * 43 + b'","record":{"a":"b"}}',
    ],
    ids=["cut", "too long", "without its newline"],
)
def test_a_crashed_process_keeps_its_torn_end(opened: Open, crashed: Crash, directory: Path, end: bytes) -> None:
    """A file with a line that nobody sealed stays, before and after its recovery."""
    ledger = opened()
    append(ledger, "registration", BODY)
    stream = ledger.stream
    crashed(ledger)
    with (directory / "ledger" / stream / "entries.jsonl").open("ab") as file:
        file.write(end)
    assert stream not in {cut[0] for cut in pruning(opened, directory)}
    assert files_of(directory, stream) == ["entries.jsonl"]


def test_a_stream_that_needs_recovery_stays(opened: Open, crashed: Crash, directory: Path, tmp_path: Path) -> None:
    """Of a process that was killed nothing leaves before a start looked at it."""
    ledger = opened()
    append(ledger, "registration", BODY)
    ledger.seal()
    crashed(ledger)
    assert list(archive(str(directory), str(tmp_path / "out"))) == []


class Killed(BaseException):
    """The process dies here."""


@pytest.mark.parametrize("name", ["unlink", "replace", "fsync", "write"])
def test_a_kill_while_pruning_leaves_what_the_next_run_finishes(
    opened: Open, written: Callable, directory: Path, faulty: Callable, name: str, tmp_path: Path
) -> None:
    """Killed at any call, no record is unaccounted for; the next run removes the rest, and no more than that."""
    stream = written()
    killed = 0
    for at in range(1, 9):
        copy = tmp_path / f"copy{at}"
        shutil.copytree(directory, copy)
        calls = itertools.count(1)

        def die(number: int, call: str, calls: itertools.count = calls, at: int = at) -> BaseException | None:
            return Killed() if call == name and next(calls) == at else None

        ledger = opened(copy)
        given = {"before_ns": FUTURE, "signer": SIGNER, "clock": FixedClock()}
        try:
            list(prune(str(copy), ledger, **given, files=faulty(die)))
        except Killed:
            killed += 1
        first = open_ledger(copy).first_place(stream)
        if first != 1:
            assert statement(copy, stream).size == 12
        list(prune(str(copy), ledger, **given))
        ledger.close()
        assert files_of(copy, stream) == []
        assert statement(copy, stream).size == 12
    assert killed


TEXT = st.text("abc019-{}ü", max_size=4)
claims = st.fixed_dictionaries(
    {},
    optional={
        name: st.one_of(TEXT, st.lists(TEXT, max_size=3), st.booleans())
        for name in ("last", "log", "origin", "peaks", "size", "stream", "time", "open", "grants", "more")
    },
)


@given(changes=claims)
def test_a_malformed_statement_is_an_error_of_one_line(changes: dict[str, object]) -> None:
    """Whatever a file says, it is a statement or an error with a code."""
    claim = {**pruned_of(5).to_claim(), **changes}
    note = sign_note(f"agent-identity pruned v1\n{encode_record(claim).decode()}\n", ORIGIN, SIGNER)
    found: PruneStatement | VerificationError
    try:
        found = unverified_pruned(note)
    except VerificationError as error:
        found = error
    if isinstance(found, VerificationError):
        assert found.code == "bad_pruning"
        assert "\n" not in str(found)
    else:
        assert found.tree().size == found.size


@pytest.mark.parametrize(
    "changes",
    [
        {"log": {"root": "0" * 43}},
        {"log": "x"},
        {"size": "0", "peaks": ()},
        {"size": "7"},
        {"last": "zz"},
        {"time": "-1"},
        {"open": ["x"]},
        {"open": [STREAM] * (MAX_OPEN + 1)},
        {"origin": ["x"]},
        {"peaks": "x"},
    ],
)
def test_a_statement_has_one_form(changes: dict[str, object]) -> None:
    """Members of other forms, counts that do not fit and lists that are too long are refused."""
    with pytest.raises(ValueError, match=r" (is|are|has|have|does|covers) "):
        PruneStatement.from_claim({**pruned_of(5).to_claim(), **changes})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"more": "x"}, "the members are not those of a pruning statement"),
        ({"log": {"root": "0" * 43}}, "the log does not have exactly root and size"),
        ({"log": {"root": "0" * 43, "size": "1", "more": "x"}}, "the log does not have exactly root and size"),
        ({"log": "x"}, "the log does not have exactly root and size"),
        ({"log": {"root": "0", "size": "1"}}, "a value is not 43 base64url characters"),
        ({"log": {"root": "0" * 43, "size": "x"}}, "a value is not a decimal number"),
        ({"stream": "x"}, "the stream or an open intent is not an id"),
        ({"open": ("x",)}, "the stream or an open intent is not an id"),
        ({"open": (STREAM, "x", STREAM)}, "the stream or an open intent is not an id"),
        ({"open": (STREAM,) * (MAX_OPEN + 1)}, "a value is not an array of at most 1024 items"),
        ({"open": "x"}, "a value is not an array of at most 1024 items"),
        ({"peaks": ("0" * 43,) * (MAX_PEAKS + 1)}, "a value is not an array of at most 64 items"),
        ({"peaks": (1,)}, "not text"),
        ({"origin": ("x",)}, "not text"),
        ({"size": "0", "peaks": ()}, "the statement covers no record"),
        ({"size": "05"}, "a value is not a decimal number"),
        ({"size": "5x"}, "a value is not a decimal number"),
        ({"size": "1" + "0" * 19}, "a value is not a decimal number"),
        ({"last": "A" * 42 + "B"}, "a value is not 43 base64url characters"),
        ({"last": "A" * 44}, "a value is not 43 base64url characters"),
        ({"time": ""}, "a value is not a decimal number"),
        ({"grants": "x"}, "the kept grants do not have exactly count and digest"),
        ({"grants": {"count": "1"}}, "the kept grants do not have exactly count and digest"),
        ({"grants": {"count": "x", "digest": "0" * 43}}, "a value is not a decimal number"),
        ({"grants": {"count": "1", "digest": "0"}}, "a value is not 43 base64url characters"),
    ],
)
def test_what_is_wrong_with_a_statement_is_told(changes: dict[str, object], words: str) -> None:
    """In a line, of the plain values as of the file."""
    with pytest.raises(ValueError, match=words):
        PruneStatement.from_claim({**pruned_of(5).to_claim(), **changes})


def test_statements_at_their_bounds_are_read() -> None:
    """1,024 open intents, 19 digits, and a start at the epoch are within them; each member comes back at its place."""
    most = pruned_of(5, open=(STREAM,) * MAX_OPEN, time_ns=0, log_size=10**19 - 1)
    assert PruneStatement.from_claim(most.to_claim()) == most
    large = replace(pruned_of(1), size=10**18 * 9, peaks=(b"p" * 32,) * (9 * 10**18).bit_count())
    assert PruneStatement.from_claim(large.to_claim()) == large
    assert pruned_of(5, open=(STREAM,)).to_claim() == {
        "grants": {"count": "0", "digest": digest_of(b"")},
        "last": b64url_encode(b"l" * 32),
        "log": {"root": b64url_encode(b"r" * 32), "size": "3"},
        "open": (STREAM,),
        "origin": ORIGIN,
        "peaks": tuple(map(b64url_encode, pruned_of(5).peaks)),
        "size": "5",
        "stream": STREAM,
        "time": "5",
    }
    assert "open" not in pruned_of(5).to_claim()
    for name in pruned_of(5).to_claim():
        with pytest.raises(ValueError, match="the members are not those"):
            PruneStatement.from_claim({other: value for other, value in most.to_claim().items() if other != name})
    assert (MAX_OPEN, MAX_PEAKS) == (1_024, 64)


def test_a_statement_has_a_title_of_its_own() -> None:
    """So it is no checkpoint, and no checkpoint is one; what is malformed says so."""
    note = sign_pruned(pruned_of(5), SIGNER)
    assert note.startswith(b'agent-identity pruned v1\n{"grants":{"count":"0",')
    assert unverified_pruned(note + b"\xff") == pruned_of(5)
    for data, words in (
        (note.replace(b"pruned v1", b"pruned v2"), "the bytes are not a pruning statement"),
        (note.partition(b"\n\n")[0] + b"\n", "the bytes are not a pruning statement"),
        (b"", "the bytes are not a pruning statement"),
        (
            note.replace(b'"time":"5"', b'"time":"x"'),
            "malformed pruning statement: a value is not a decimal number",
        ),
    ):
        with pytest.raises(VerificationError) as caught:
            unverified_pruned(data)
        assert (caught.value.code, str(caught.value)) == ("bad_pruning", words)


def test_a_statement_comes_back_and_knows_its_signer() -> None:
    """What is signed is what is read; another key is unknown, and a changed text is found out."""
    pruned = pruned_of(5, open=(STREAM,))
    note = sign_pruned(pruned, SIGNER)
    assert open_pruned(note, [SIGNER.public_key]) == (pruned, (SIGNER.public_key,))
    with pytest.raises(VerificationError) as caught:
        open_pruned(note, [SigningKey.from_seed(b"o" * 32).public_key])
    assert caught.value.code == "unknown_key"
    with pytest.raises(VerificationError) as caught:
        open_pruned(note.replace(b'"size":"3"', b'"size":"4"'), [SIGNER.public_key])
    assert caught.value.code == "bad_signature"


def test_grants_that_change_while_they_are_read_are_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is read twice, and what is taken is what was named."""
    path = tmp_path / "grants.jsonl"
    path.write_bytes(b"a.b.c\n")
    plain = pruned_module._tokens

    def changing(files: Files, name: str) -> Iterator[bytes | None]:
        yield from plain(files, name)
        path.write_bytes(b"d.e.f\nd.e.f\n")

    monkeypatch.setattr(pruned_module, "_tokens", changing)
    assert read_kept(Files(), str(path), Kept.of(["a.b.c"])) == ((), "changed")


@pytest.mark.parametrize(
    ("file", "tokens", "state"),
    [
        (b"a.b.c\nd.e.f\n", ("a.b.c", "d.e.f"), "named"),
        (b"a.b.c\nd.e.f", ("a.b.c", "d.e.f"), "named"),
        (b"d.e.f\n", (), "missing"),
        (None, (), "missing"),
        (b"a.b.c\nd.e.f\ng.h.i\n", (), "changed"),
        (b"a.b.c\ng.h.i\n", (), "changed"),
        (b"a.b.c\nno token\n", (), "changed"),
        (b"a.b.c\n" + b"x" * 70_000 + b"\n", (), "changed"),
        (b"a.b.c\nd.e.f\n" + b"x" * 5_000_000, (), "changed"),
    ],
)
def test_grants_that_a_statement_names_are_all_there_or_none(
    directory: Path, file: bytes | None, tokens: tuple[str, ...], state: str
) -> None:
    """Fewer than are named, more, others, or other lines among them: then none of them is taken."""
    named = Kept.of(["d.e.f", "a.b.c"])
    pruned = replace(pruned_of(5), kept=named)
    assert PruneStatement.from_claim(decode_record(encode_record(pruned.to_claim()))) == pruned
    path = Path(Layout.of(directory).grants(pruned.stream, named.digest))
    path.parent.mkdir(parents=True)
    if file is not None:
        path.write_bytes(file)
    assert open_ledger(directory).kept_grants(pruned) == (tokens, state)
    assert open_ledger(directory).kept_grants(replace(pruned, kept=Kept.of([]))) == ((), "named")
    path.unlink(missing_ok=True)
    path.mkdir()
    assert open_ledger(directory).kept_grants(pruned) == ((), "missing")


def test_a_kill_between_grants_and_statement_loses_no_grant(
    opened: Open, directory: Path, faulty: Callable, tmp_path: Path
) -> None:
    """What was kept before counts until the new statement stands; then the file before it is removed."""
    ledger = opened(segments=Segments(compression="none"))
    stream = ledger.stream

    def of(name: str) -> dict[str, object]:
        named = digest_of(f"{name}.{name}".encode())
        return {**facts(name), "chain": [{"id": "clerk", "grant": named}]}

    for name in ("a", "b"):
        append(ledger, "grant", {**of(name), "grant": {"token": f"{name}.{name}.{name}"}})
        append(ledger, "task_start", of(name))
    rotated(ledger)
    pruning(opened, directory)
    assert kept(directory, stream) == (("a.a.a", "b.b.b"), "named")
    append(ledger, "task_end", {**of("a"), **COUNTS})
    rotated(ledger)
    before, after = ("a.a.a", "b.b.b"), ("b.b.b",)
    seen: set[tuple[tuple[str, ...], int]] = set()
    for at in range(1, 7):
        copy = tmp_path / f"copy{at}"
        shutil.copytree(directory, copy)
        calls = itertools.count(1)

        def die(number: int, call: str, calls: itertools.count = calls, at: int = at) -> BaseException | None:
            return Killed() if call in {"replace", "unlink"} and next(calls) == at else None

        other = opened(copy)
        given = {"before_ns": FUTURE, "signer": SIGNER, "clock": FixedClock()}
        with contextlib.suppress(Killed):
            list(prune(str(copy), other, **given, files=faulty(die)))
        tokens, state = kept(copy, stream)
        assert state == "named"
        seen.add((tokens, len(list((copy / "ledger" / stream).glob("grants*.jsonl")))))
        list(prune(str(copy), other, **given))
        other.close()
        assert kept(copy, stream)[0] in {before, after}
    assert seen == {(before, 1), (before, 2), (after, 2), (after, 1)}


@pytest.mark.parametrize("change", ["missing", "changed"])
def test_grants_that_are_not_those_that_were_kept_stop_the_next_pruning(
    opened: Open, directory: Path, change: str
) -> None:
    """Nobody signs anew what was lost or put in since the last statement."""
    ledger = opened(segments=Segments(compression="none"))
    append(ledger, "grant", {**facts("a"), "grant": {"token": "a.a.a"}})
    append(ledger, "task_start", facts("a"))
    for _ in range(2):
        ledger._stream.rotate_at = 0
        append(ledger, "registration", BODY)
        ledger.seal()
        if not (found := list((directory / "ledger" / ledger.stream).glob("grants*"))):
            pruning(opened, directory)
    found[0].write_bytes(b"" if change == "missing" else b"x.x.x\n")
    with pytest.raises(VerificationError, match="not those of its statement"):
        pruning(opened, directory)


def test_an_excerpt_withholds_all_else(opened: Open, written: Callable, directory: Path) -> None:
    """Of what was not chosen only leaf hashes are there, from the first that was chosen to the next head."""
    stream = written()
    reader = open_ledger(directory)
    records = [line.record for line in reader.entries(stream)]

    def wanted(data: bytes) -> bool:
        return data in (records[4], records[6])

    starts = excerpt_of(reader, read_heads(reader)[1], wanted)
    assert (starts[stream].size, starts[stream].end) == (4, 12)
    lines = list(excerpt_lines(reader, stream, starts[stream], wanted))
    assert len(lines) == 8
    leaves = [leaf_of(line[:-1]) or b64url_encode(leaf_hash(line[62:-2])) for line in lines]
    assert leaves == [b64url_encode(leaf_hash(record)) for record in records[4:]]
    tree = starts[stream].tree()
    for leaf in leaves:
        tree.append(b64url_decode(leaf))
    assert tree.root() == read_heads(reader)[1][stream][-1].root
    assert Excerpt.from_bytes(Excerpt(starts).to_bytes()) == Excerpt(starts)
    whole = excerpt_of(reader, read_heads(reader)[1], lambda data: True)
    assert Excerpt.from_bytes(Excerpt(whole).to_bytes()) == Excerpt(whole)
    pruning(opened, directory, before_ns=FUTURE)
    assert excerpt_of(reader, read_heads(reader)[1], wanted) == {}


def test_an_excerpt_of_what_is_not_sealed_is_refused(opened: Open, directory: Path, crashed: Crash) -> None:
    """Nothing proves what no head covers, so it is not handed out; lines behind damage are not looked at."""
    ledger = opened(seal_interval=3_600.0)
    append(ledger, "registration", BODY)
    crashed(ledger)
    reader = open_ledger(directory)
    with pytest.raises(VerificationError) as caught:
        excerpt_of(reader, read_heads(reader)[1], lambda data: True)
    assert str(caught.value) == (
        "no checkpoint covers some of these records yet; close the enforcer or wait a second, and try again"
    )
    path = directory / "ledger" / ledger.stream / "entries.jsonl"
    path.write_bytes(b"x\n" + path.read_bytes())
    assert excerpt_of(reader, read_heads(reader)[1], lambda data: True) == {}


def test_an_excerpt_of_a_pruned_stream_begins_behind_the_border(opened: Open, directory: Path) -> None:
    """What was pruned is not there to be shown, and its compact range is where the excerpt begins to count."""
    ledger = opened(segments=Segments(max_bytes=600, compression="none"))
    for _ in range(7):
        append(ledger, "registration", BODY)
    ledger.seal()
    ((stream, _, cut),) = pruning(opened, directory)
    reader = open_ledger(directory)
    own = f'"stream":{{"id":"{stream}"'.encode()
    starts = excerpt_of(reader, {stream: read_heads(reader)[1][stream]}, lambda data: own in data)
    assert starts[stream] == Start(cut, statement(directory, stream).last, statement(directory, stream).peaks, 8)
    assert len(list(excerpt_lines(reader, stream, starts[stream], lambda data: True))) == 8 - cut


@pytest.mark.parametrize("left", ["the last", "all"])
def test_files_that_a_killed_run_left_change_no_excerpt(
    opened: Open, directory: Path, tmp_path: Path, left: str
) -> None:
    """With some of them, it begins behind the border as without; with all, where the stream begins."""
    ledger = opened(segments=Segments(max_bytes=600, compression="none"))
    for _ in range(7):
        append(ledger, "registration", BODY)
    ledger.seal()
    whole = tmp_path / "whole"
    shutil.copytree(directory / "ledger" / ledger.stream, whole)
    ((stream, _, cut),) = pruning(opened, directory)
    reader = open_ledger(directory)
    heads = {stream: read_heads(reader)[1][stream]}

    def shown() -> tuple[Start, list[bytes]]:
        start = excerpt_of(reader, heads, lambda data: f'"id":"{stream}"'.encode() in data)[stream]
        return start, list(excerpt_lines(reader, stream, start, lambda data: True))

    before = shown()
    removed = sorted(path for path in whole.glob("entries-*") if int(path.name[8:28]) <= cut)
    assert len(removed) > 1
    for path in removed if left == "all" else removed[-1:]:
        shutil.copy(path, directory / "ledger" / stream)
    lines = [line for path in sorted(whole.glob("entries-*")) for line in path.read_bytes().splitlines(keepends=True)]
    lines += (whole / "entries.jsonl").read_bytes().splitlines(keepends=True)
    assert before[1] == lines[cut:]
    assert shown() == (before if left != "all" else (Start(0, b"", (), 8), lines))


@pytest.mark.parametrize(
    "data",
    [
        {"v": "2", "streams": {}},
        {"v": "1", "streams": "x"},
        {"v": "1", "streams": {"../x": {}}},
        {"v": "1", "streams": {STREAM: "x"}},
        {"v": "1", "streams": {STREAM: {"size": "x", "end": "1"}}},
        {"v": "1", "streams": {STREAM: {"size": "2", "end": "3"}}},
        {"v": "1", "streams": {STREAM: {"size": "2", "end": "1", "last": "0" * 43, "peaks": ["0" * 43]}}},
        {"v": "1", "streams": {STREAM: {"size": "2", "end": "3", "last": "0" * 43, "peaks": []}}},
    ],
)
def test_a_malformed_excerpt_is_refused(data: dict[str, object]) -> None:
    """The file of an excerpt has one form."""
    with pytest.raises(ValueError, match=r" (is|are|has|have|does|covers) "):
        Excerpt.from_bytes(encode_record(data))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"v": "2", "streams": {}}, "its members are not streams and v 1; make the excerpt again"),
        ({"v": "1", "streams": {}, "x": "y"}, "its members are not streams and v 1; make the excerpt again"),
        ({"v": "1", "streams": "x"}, "its members are not streams and v 1; make the excerpt again"),
        ({"v": "1"}, "its members are not streams and v 1; make the excerpt again"),
        ({"v": "1", "streams": {"../x": {}}}, "a name is not the id of a stream"),
        ({"v": "1", "streams": {STREAM: "x"}}, "a part does not state exactly the stream's state before it"),
        ({"v": "1", "streams": {STREAM: {"size": "0"}}}, "a part does not state exactly the stream's state before it"),
        ({"v": "1", "streams": {STREAM: {"size": "0", "end": "1", "x": "y"}}}, "state before it"),
        ({"v": "1", "streams": {STREAM: {"size": "2", "end": "3"}}}, "the hash of the record before it"),
        (
            {"v": "1", "streams": {STREAM: {"size": "0", "end": "3", "last": "0" * 43}}},
            "the size of a part is beyond its end, or does not fit the hash of the record before it",
        ),
        (
            {"v": "1", "streams": {STREAM: {"size": "2", "end": "1", "last": "0" * 43, "peaks": ("0" * 43,)}}},
            "the size of a part is beyond its end, or does not fit the hash of the record before it",
        ),
    ],
)
def test_what_is_wrong_with_an_excerpt_is_told(data: dict[str, object], words: str) -> None:
    """In a line."""
    with pytest.raises(ValueError, match=words):
        Excerpt.from_bytes(encode_record(data))


def test_an_excerpt_has_one_file() -> None:
    """What comes before each part, by stream; a part that begins the stream has nothing before it."""
    other = f"{STREAM[:-1]}Q"
    excerpt = Excerpt({STREAM: Start(0, b"", (), 3), other: Start(2, b"l" * 32, (b"p" * 32,), 2)})
    before = b'{"end":"2","last":"%s","peaks":["%s"],"size":"2"}' % (
        b64url_encode(b"l" * 32).encode(),
        b64url_encode(b"p" * 32).encode(),
    )
    assert excerpt.to_bytes() == b'{"streams":{"%s":{"end":"3","size":"0"},"%s":%s},"v":"1"}' % (
        STREAM.encode(),
        other.encode(),
        before,
    )
    assert Excerpt.from_bytes(excerpt.to_bytes()) == excerpt


def test_a_huge_excerpt_file_is_not_read(directory: Path, opened: Open) -> None:
    """A file that is larger than any excerpt counts as malformed, and none is none."""
    opened().close()
    reader = open_ledger(directory)
    assert reader.excerpt() is None
    with (directory / "excerpt.json").open("wb") as file:
        file.truncate(MAX_EXCERPT + 1)
    assert reader.excerpt() == b""


def test_peaks_make_the_same_tree() -> None:
    """A tree that is made of peaks goes on like the one that they were taken from; others are refused."""
    for size in range(20):
        tree = CompactRange(bytes([number]) * 32 for number in range(size))
        twin = CompactRange.of_peaks(size, tree.peaks)
        for one in (tree, twin):
            one.append(b"n" * 32)
        assert twin.root() == tree.root()
    for size, peaks in ((1, ()), (-1, ()), (1, (b"short",))):
        with pytest.raises(ValueError, match="peaks"):
            CompactRange.of_peaks(size, peaks)


def test_what_a_live_directory_has_beyond_its_checkpoint_is_left(
    opened: Open, crashed: Crash, directory: Path, tmp_path: Path
) -> None:
    """Lines of the log behind the checkpoint and records behind the last head neither leave nor disturb."""
    ledger = opened(segments=Segments(max_bytes=600, compression="none"), seal_interval=3_600.0)
    for _ in range(4):
        append(ledger, "registration", BODY)
    ledger.seal()
    note = (directory / "log" / "checkpoint").read_bytes()
    for _ in range(4):
        append(ledger, "registration", BODY)
    ledger.seal()
    (directory / "log" / "checkpoint").write_bytes(note)
    reader = open_ledger(directory)
    assert [head.size for head in read_heads(reader)[1][ledger.stream]] == [5]
    (copied,) = archive(str(directory), str(tmp_path / "out"))
    assert copied.last <= 5
    starts = excerpt_of(reader, read_heads(reader)[1], lambda data: b'"seq":"2"' in data)
    assert len(list(excerpt_lines(reader, ledger.stream, starts[ledger.stream], lambda data: False))) == 4
    crashed(ledger)


def test_a_directory_that_is_pruned_in_part_is_archived_behind_the_border(
    opened: Open, directory: Path, tmp_path: Path
) -> None:
    """Files that a killed run left before the border are not copied, and heads before it are passed over."""
    ledger = opened(segments=Segments(max_bytes=600, compression="none"))
    stream = ledger.stream
    for _ in range(14):
        append(ledger, "registration", BODY)
        ledger.seal()
    whole = tmp_path / "whole"
    shutil.copytree(directory / "ledger" / stream, whole)
    assert pruning(opened, directory)[0][0] == stream
    border = statement(directory, stream).size
    left = max(path for path in whole.glob("entries-*") if int(path.name[8:28]) <= border)
    shutil.copy(left, directory / "ledger" / stream)
    for _ in range(6):
        append(ledger, "registration", BODY)
    ledger.seal()
    copied = [found for found in archive(str(directory), str(tmp_path / "out")) if found.stream == stream]
    assert [found.first for found in copied] == [border + 1]


def test_a_first_line_that_is_no_record_has_no_place(opened: Open, directory: Path) -> None:
    """Where the first line cannot be read, nobody says where the stream begins."""
    opened().close()
    folder = directory / "ledger" / STREAM
    folder.mkdir()
    for data in (b"", b"x\n", b'{"mac":"'):
        (folder / "entries.jsonl").write_bytes(data)
        assert open_ledger(directory).first_place(STREAM) is None
