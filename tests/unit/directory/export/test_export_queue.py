"""Following a stream: each record that travels makes its span once, whatever its file goes through meanwhile."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from plain_records import append

from agent_identity._directory.export import export_queue as copies_module
from agent_identity._directory.export.export_queue import Copied, StreamCopies
from agent_identity._identity.common.encoding import digest_of
from agent_identity._identity.common.record_bytes import encode_record
from agent_identity._ledger.follow import Proved, StreamTail
from agent_identity._ledger.transparency.merkle import leaf_hash
from agent_identity._spans.span_from_record import GRANT_ATTRIBUTE
from agent_identity._storage.layout import Layout
from agent_identity._storage.lines import stream_line
from agent_identity._storage.mac import load_ledger_key
from agent_identity._storage.os_files import Files
from agent_identity.identity import SigningKey, TrustedKey, TrustStore
from agent_identity.options import Ledger
from agent_identity.testing import FixedClock, SequentialIds

KEY = SigningKey.from_seed(bytes([7]) * 32)
ACTION: dict[str, Any] = {"tool": "pay", "kind": "function"}
DECISION: dict[str, Any] = {"effect": "allow", "enforced": "allow", "mode": "enforce", "reason": "within_scope"}
CALL: dict[str, Any] = {"attribution": "none", "action": ACTION, "decision": DECISION}
SPAN = "b7ad6b7169203331"
TRACE = {"trace": "0af7651916cd43dd8448eb211c80319c", "span": SPAN}


class World:
    """A ledger, and what follows its stream."""

    def __init__(self, folder: Path) -> None:
        self.files = Files()
        self.layout = Layout.of(folder)
        self.clock = FixedClock()
        self.ledger = Ledger.open(
            folder, signer=KEY, origin="test", clock=self.clock, ids=SequentialIds(), files=self.files
        )
        self.stream = self.ledger.stream
        self.path = Path(self.layout.entries(self.stream))
        self.key = load_ledger_key(self.files, self.layout.ledger_key)

    def tail(self) -> StreamTail:
        """Return a tail of the stream."""
        return StreamTail(self.files, self.layout, self.stream, self.key)

    def copies(self, **options: Any) -> StreamCopies:
        """Return what makes the spans of the stream."""
        given = {"signer": KEY, "trust": None, **options}
        return StreamCopies(self.files, self.layout, self.stream, self.key, **given)

    def call(self, **more: Any) -> str:
        """Record a call that ran; return the id of its outcome."""
        intent = append(self.ledger, "intent", CALL).id
        return append(self.ledger, "outcome", {**CALL, "outcome": "success", "intent": intent, **more}).id

    def task(self, *grants: str, kind: str = "task_start", **more: Any) -> str:
        """Record something about a task under a chain of grants."""
        body = {
            "task": {"id": "t", "expires": "1764000900000000000"},
            "principal": {"id": "alice", "kind": "human", "provenance": "asserted"},
            "agent": {"id": "clerk", "owner": "finance"},
            "chain": [{"id": "clerk", "grant": digest_of(grant.encode())} for grant in grants],
        }
        if kind == "grant":
            more["grant"] = {"token": f"eyJ{grants[-1]}.eyJi.c2ln"}
        if kind == "task_end":
            more["counts"] = {"intents": "0", "outcomes": "0", "open": "0"}
        return append(self.ledger, kind, {**body, **more}).id

    def forge(self, mac: bytes = bytes(32), **more: Any) -> None:
        """Append a line that the library did not write."""
        record = {"v": "1", "id": self.stream, "kind": "outcome", "stream": {"id": self.stream, "seq": "99"}, **more}
        with self.path.open("ab") as file:
            file.write(stream_line(mac, encode_record(record)))


@pytest.fixture
def world(tmp_path: Path) -> Any:
    """Return a ledger that is closed at the end."""
    world = World(tmp_path / "evidence")
    yield world
    world.ledger.close()


def ids(found: Any) -> list[str]:
    return [item.id if isinstance(item, Copied) else item.record.id for item in found]


def kinds(found: Any) -> list[str]:
    return [item.record.kind for item in found]


def test_a_tail_yields_each_record_once_while_the_stream_grows(world: World) -> None:
    """Each read begins where the last one ended."""
    tail = world.tail()
    assert kinds(tail.read()) == ["stream_start"]
    assert list(tail.read()) == []
    world.call()
    assert kinds(tail.read()) == ["intent", "outcome"]
    world.call()
    assert [(found.seq, found.record.stream.seq) for found in tail.read()] == [(4, "4"), (5, "5")]
    assert (tail.seq, tail.rejected) == (5, 0)


def test_a_line_that_is_still_written_waits(world: World) -> None:
    """A part of a line is no record yet, and the whole of it is one later."""
    tail = world.tail()
    world.call()
    whole = world.path.read_bytes()
    for cut in (len(whole) - 1, len(whole) - 40):
        world.path.write_bytes(whole[:cut])
        fresh = world.tail()
        assert kinds(fresh.read()) == ["stream_start", "intent"]
        assert kinds(fresh.read()) == []
        world.path.write_bytes(whole)
        assert kinds(fresh.read()) == ["outcome"]
        assert fresh.rejected == 0
    assert kinds(tail.read()) == ["stream_start", "intent", "outcome"]


def test_another_file_is_read_from_its_start_and_nothing_twice(world: World, tmp_path: Path) -> None:
    """A stream whose file was exchanged or cut goes on behind the last place."""
    tail = world.tail()
    world.call()
    assert len(list(tail.read())) == 3
    shutil.copy(world.path, tmp_path / "copy")
    with (tmp_path / "copy").open("ab") as file:
        file.write(b"")
    os.replace(tmp_path / "copy", world.path)  # noqa: PTH105
    assert list(tail.read()) == []
    world.path.write_bytes(world.path.read_bytes().split(b"\n", 1)[0] + b"\n")
    assert list(tail.read()) == []
    assert tail.seq == 3


def test_what_others_wrote_is_left_out_and_counted(world: World) -> None:
    """Without the right MAC a line is no record of ours, in the first pass and in later ones."""
    tail = world.tail()
    world.forge()
    with world.path.open("ab") as file:
        file.write(b"no line\n")
    world.call()
    assert kinds(tail.read()) == ["stream_start", "intent", "outcome"]
    assert tail.rejected == 2
    world.forge()
    with world.path.open("ab") as file:
        file.write(b"no line\n" + b"x" * (5 * 1024 * 1024) + b"\n")
    world.call()
    assert kinds(tail.read()) == ["intent", "outcome"]
    assert tail.rejected == 5


def test_a_record_of_another_version_makes_no_span(world: World) -> None:
    """What the library wrote, by its MAC, and this version cannot read, is left out and counted."""
    record = {"v": "3", "id": world.stream, "kind": "outcome", "stream": {"id": world.stream, "seq": "2"}}
    data = encode_record(record)
    mac = world.key.stream_mac(world.stream).of(data)
    with world.path.open("ab") as file:
        file.write(stream_line(mac, data))
    tail = world.tail()
    assert kinds(tail.read()) == ["stream_start"]
    assert tail.rejected == 1


def test_a_record_that_was_copied_within_its_stream_counts_once(world: World) -> None:
    """A line that is there twice has the same place, which was read already."""
    world.call()
    lines = world.path.read_bytes().splitlines(keepends=True)
    with world.path.open("ab") as file:
        file.write(lines[-1] + lines[0])
    tail = world.tail()
    assert kinds(tail.read()) == ["stream_start", "intent", "outcome"]
    assert tail.rejected == 0


def test_a_stream_without_a_file_holds_nothing(world: World) -> None:
    """A process that is just starting, or a folder without a readable file, yields nothing and fails nothing."""
    tail = StreamTail(world.files, world.layout, "AZV6P04jewGp0QAAAAAA_w", world.key)
    assert list(tail.read()) == []
    assert tail.is_over()
    empty = world.path.parent.with_name("AZV6P04jewGp0QAAAAAA_g") / world.path.name
    empty.parent.mkdir()
    empty.touch()
    assert list(StreamTail(world.files, world.layout, empty.parent.name, world.key).read()) == []


class Failing(Files):
    """A disk of which some calls fail."""

    def __init__(self, *broken: str) -> None:
        self.broken = broken

    def seek(self, fd: int, offset: int) -> None:
        """Fail if told to."""
        if "seek" in self.broken:
            raise OSError(5, "io")
        super().seek(fd, offset)

    def read(self, fd: int, size: int) -> bytes:
        """Fail if told to."""
        if "read" in self.broken:
            raise OSError(5, "io")
        return super().read(fd, size)

    def open(self, path: str, flags: int, mode: int = 0o644) -> int:
        """Fail if told to."""
        if "open" in self.broken:
            raise PermissionError(13, "no")
        return super().open(path, flags, mode)


def test_a_disk_that_fails_yields_nothing_and_raises_nothing(world: World) -> None:
    """Copies fail open; the next read tries again."""
    world.files = Failing()
    tail = world.tail()
    assert len(list(tail.read())) == 1
    world.call()
    world.files.broken = ("seek",)
    assert list(tail.read()) == []
    world.files.broken = ("open",)
    assert not tail.is_over()
    world.files.broken = ("read",)
    assert list(world.tail().read()) == []
    world.files.broken = ()
    assert len(list(tail.read())) == 2


def test_a_stream_is_over_once_its_process_lets_go(world: World) -> None:
    """As long as the lock is held, more may come."""
    tail = world.tail()
    assert not tail.is_over()
    world.ledger.close()
    assert tail.is_over()


def test_calls_and_tasks_make_spans_in_their_order(world: World) -> None:
    """Nothing else does, and each carries the record as it is in the ledger."""
    copies = world.copies()
    world.task("a", kind="grant")
    world.task("a")
    wanted = [world.call(), world.task("a", kind="task_end")]
    found = list(copies.read())
    assert ids(found) == wanted
    assert all(item.span is not None and item.problem is None and item.size for item in found)
    assert copies.seq == 6
    records = {line.record.id: len(line.body) for line in world.tail().read()}
    # What batches are bounded by counts the grants as well, which a span of a task carries beside its record.
    assert [item.size - records[item.id] for item in found] == [0, len("eyJa.eyJi.c2ln")]
    assert list(copies.read()) == list(copies.left_open()) == []
    assert not copies.ended
    world.ledger.close()
    assert list(copies.read()) == []
    assert copies.ended
    assert copies.is_over()
    assert copies.rejected == 0


def test_the_parent_comes_from_the_record_that_came_first(world: World) -> None:
    """The signed record on the span does not state it, the one before it does."""
    rooted = {**TRACE, "parent": "00f067aa0ba902b7"}
    intent = append(world.ledger, "intent", {**CALL, "trace": rooted}).id
    append(world.ledger, "outcome", {**CALL, "trace": TRACE, "intent": intent, "outcome": "success"})
    world.task("a", trace=rooted)
    world.task("a", kind="task_end", trace=TRACE)
    append(world.ledger, "outcome", {**CALL, "trace": rooted, "outcome": "denied", "error": "no_task"})
    found = list(world.copies().read())
    assert [item.span.parent_id for item in found] == ["00f067aa0ba902b7"] * 3
    assert {(item.span.trace_id, item.span.span_id) for item in found} == {(TRACE["trace"], SPAN)}


def test_what_was_sent_before_only_serves_to_understand_the_rest(world: World) -> None:
    """Behind a place, grants and parents from before it are known, and no span is made again."""
    world.task("a", kind="grant")
    world.task("a", trace={**TRACE, "parent": "00f067aa0ba902b7"})
    world.call()
    after = append(world.ledger, "intent", CALL).seq
    wanted = [world.task("a", kind="task_end", trace=TRACE)]
    found = list(world.copies(after=after).read())
    assert ids(found) == wanted
    assert found[0].span.parent_id == "00f067aa0ba902b7"
    assert found[0].span.attributes[GRANT_ATTRIBUTE] == "eyJa.eyJi.c2ln"


def test_what_never_ended_is_left_open(world: World) -> None:
    """Calls and tasks without an end make spans once the stream is over, from their first records."""
    copies = world.copies()
    world.task("a", kind="grant")
    wanted = [world.task("a", trace=TRACE), append(world.ledger, "intent", CALL).id]
    world.call()
    assert len(list(copies.read())) == 1
    left = list(copies.left_open())
    assert ids(left) == wanted
    assert left[0].span.attributes[GRANT_ATTRIBUTE] == "eyJa.eyJi.c2ln"
    assert left[1].span.error == "unknown"
    assert ids(world.copies(wanted=lambda _: False).read()) == []


def test_openings_without_a_trace_are_told_apart(world: World) -> None:
    """Two openings under one grant, one of which ended, leave one open."""
    copies = world.copies()
    world.task("a", time={"start": "5"})
    still = world.task("a", time={"start": "6"})
    world.task("a", kind="task_end", time={"start": "5", "end": "7"})
    assert len(list(copies.read())) == 1
    assert ids(copies.left_open()) == [still]


def test_only_what_is_wanted_makes_spans(world: World) -> None:
    """A selection leaves the others out, ended or open."""
    world.call()
    wanted = world.call(error="x")
    append(world.ledger, "intent", CALL)
    copies = world.copies(wanted=lambda record: getattr(record, "error", None) is not None)
    assert ids(copies.read()) == [wanted]
    assert ids(copies.left_open()) == []


def test_a_task_brings_the_grants_that_no_other_span_brings(world: World) -> None:
    """A part of a task that is open here brings its own; one that came from elsewhere the whole chain."""
    for grant in ("a", "ab", "cd", "c"):
        world.task(*grant, kind="grant")
    world.task("a")
    world.task("a", "b")
    world.task("a", "b", kind="task_end")
    world.task("a", kind="task_end")
    world.task("c", "d")
    world.task("c", "d", kind="task_end")
    world.task("e", "f")
    world.task("e", "f", kind="task_end")
    found = [item.span.attributes.get(GRANT_ATTRIBUTE) for item in world.copies().read()]
    own = {name: f"eyJ{name}.eyJi.c2ln" for name in "abcd"}
    assert found == [own["b"], own["a"], f"{own['c']}~{own['d']}", None]


def test_grants_that_are_not_held_any_more_are_found_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many tasks are open, memory holds a bounded number of grants, and none is missing on a span."""
    monkeypatch.setattr(copies_module, "_GRANTS", 2)
    names = "abcdef"
    for name in names:
        world.task(name, kind="grant")
        world.task(name)
    for name in names:
        world.task(name, kind="task_end")
    copies = world.copies()
    found = [item.span.attributes.get(GRANT_ATTRIBUTE) for item in copies.read()]
    assert found == [f"eyJ{name}.eyJi.c2ln" for name in names]
    assert len(copies._grants) == len(copies._opened) == 2


def test_what_no_signature_would_prove_makes_no_span(world: World) -> None:
    """A record from before the recorder key is named, and not signed by a key that did not exist then."""
    now = world.clock.wall_ns() // 1_000_000_000
    old = world.call(time={"start": "5", "end": "6"})
    new = world.call()
    trust = TrustStore((TrustedKey(KEY.public_key, "recorder", not_before=now),))
    found = list(world.copies(trust=trust).read())
    assert [(item.id, item.span is None, item.problem) for item in found] == [
        (old, True, "key_not_valid_then"),
        (new, False, None),
    ]


def test_the_end_of_a_call_counts_for_the_key_to_the_second(world: World) -> None:
    """As a verifier has it: a key may sign up to its last second, and not what ended later."""
    second = 1_764_000_000
    last = {"start": str(second * 10**9), "end": str(second * 10**9 + 999_999_999)}
    late = {**last, "end": str((second + 1) * 10**9)}
    world.call(time=last)
    world.call(time=late)
    trust = TrustStore((TrustedKey(KEY.public_key, "recorder", not_after=second),))
    found = list(world.copies(trust=trust).read())
    assert [(copied.problem, copied.span is None) for copied in found] == [(None, False), ("key_not_valid_then", True)]


def test_a_tail_is_made_of_proved_records(world: World) -> None:
    """What it yields are the bytes whose hash the log commits to."""
    entry = append(world.ledger, "intent", CALL)
    *_, last = world.tail().read()
    assert isinstance(last, Proved)
    assert leaf_hash(last.body) == entry.leaf
