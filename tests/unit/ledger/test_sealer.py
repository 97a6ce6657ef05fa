"""What happens behind the caller's back: callbacks, seals, and the one log of a directory."""

import errno
import logging
import os
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from plain_records import append

from agent_identity._identity.common.record_bytes import decode_record, encode_record
from agent_identity._ledger import sealer as sealing_module
from agent_identity._ledger.sealer import Sealing
from agent_identity._ledger.transparency.bootstrap import sign_empty_log
from agent_identity._ledger.transparency.log import DirectoryLog, Head
from agent_identity._ledger.transparency.merkle import EMPTY_ROOT, CompactRange
from agent_identity._ledger.writer import Closed, Entry
from agent_identity._record.parts import End, Time
from agent_identity._record.parts import Stream as Place
from agent_identity._storage.layout import Layout
from agent_identity._storage.lines import log_line
from agent_identity._storage.mac import load_ledger_key, log_message
from agent_identity._storage.os_files import Files, make_folder
from agent_identity.errors import EvidenceError
from agent_identity.identity import PublicKey, SigningKey, SystemClock
from agent_identity.options import Ledger
from agent_identity.records import StreamEnd
from agent_identity.testing import FixedClock

BODY = {"agent": {"id": "clerk", "owner": "ops@example.com"}}
SIGNER = SigningKey.from_seed(b"r" * 32)
ORIGIN = "ledger.example/log"
STREAM = "AaIOQ0bYcV-ScJHDCbiHEA"
Open = Callable[..., Ledger]

RECORDED = Entry(
    StreamEnd(
        id="AaIOQ0bYcV-ScJHDCbiHEA",
        stream=Place(id="AaIOQ0bYcV-ScJHDCbiHEQ", seq="2", prev="0" * 43),
        time=Time.at(1),
        v="1",
        end=End(size="2"),
    ),
    b"{}",
    bytes(32),
)


class Watched(Files):
    """Tells when a checkpoint was published."""

    def __init__(self) -> None:
        self.published = threading.Semaphore(0)

    def replace(self, source: str, target: str) -> None:
        """Publish, and tell."""
        super().replace(source, target)
        self.published.release()


class CountingSigner:
    """Counts signatures, and fails while told to."""

    def __init__(self) -> None:
        self.count = 0
        self.error: Exception | None = None

    @property
    def public_key(self) -> PublicKey:
        """Return the key that verifies."""
        return SIGNER.public_key

    def sign(self, message: bytes) -> bytes:
        """Sign, and count."""
        self.count += 1
        if self.error:
            raise self.error
        return SIGNER.sign(message)


def test_a_seal_costs_one_signature(opened: Open, audit: Callable) -> None:
    """However many records a seal covers, the key signs once."""
    signer = CountingSigner()
    ledger = opened(signer=signer)
    assert signer.count == 1  # Of the empty log.
    for _ in range(50):
        append(ledger, "registration", BODY)
    ledger.seal()
    assert signer.count == 2
    assert audit().sealed == {ledger.stream: 51}


def test_nothing_new_is_not_sealed_again(opened: Open) -> None:
    """A seal without news writes nothing."""
    signer = CountingSigner()
    ledger = opened(signer=signer)
    ledger.seal()
    ledger.seal()
    assert signer.count == 2  # Of the empty log, and of the seal.


def test_records_are_sealed_without_being_asked(opened: Open, audit: Callable) -> None:
    """When the interval has passed since a record, it gets sealed."""
    files = Watched()
    ledger = opened(files=files, clock=SystemClock(), seal_interval=0.001)
    assert files.published.acquire(timeout=30)  # The empty log.
    append(ledger, "registration", BODY)
    assert files.published.acquire(timeout=30)
    append(ledger, "registration", BODY)
    assert files.published.acquire(timeout=30)
    ledger.close()
    assert audit().sealed[ledger.stream] == 4


def test_a_quiet_ledger_gives_a_sign_of_life_each_hour(opened: Open, clock: FixedClock, audit: Callable) -> None:
    """An hour after the last seal, the same head is committed again: the log grows, the stream does not."""
    ledger = opened()
    append(ledger, "registration", BODY)
    ledger.seal()
    assert audit().log_size == 1
    clock.advance(3599)
    append(ledger, "registration", BODY)
    ledger.seal()
    clock.advance(3600)
    append(ledger, "registration", BODY, after=lambda entry: None)
    ledger.drain()
    ledger.seal()
    assert audit().log_size == 3
    clock.advance(3600)
    ledger.seal()
    found = audit()
    assert found.log_size == 4
    assert found.sealed == {ledger.stream: 4}


def test_a_failing_callback_stops_nothing(opened: Open, caplog: object) -> None:
    """What a callback raises is counted and logged once, and the ones behind it run."""
    ledger = opened()
    seen: list[int] = []

    def fail(entry: object) -> None:
        raise ZeroDivisionError

    def leave(entry: object) -> None:
        raise SystemExit

    for after in (fail, leave, lambda entry: seen.append(entry.seq)):
        append(ledger, "registration", BODY, after=after)
    ledger.drain()
    assert seen == [4]
    assert ledger.callback_failures == 2
    assert [record.getMessage() for record in caplog.records if "callback" in record.getMessage()] == [
        "the callback of a record raised ZeroDivisionError; further ones are only counted"
    ]
    assert ledger.degraded is None


def test_observers_see_every_record_in_order_and_stop_nothing(
    opened: Open, audit: Callable, caplog: pytest.LogCaptureFixture
) -> None:
    """Each record as the ledger has it, after its own callback; one that fails is counted and told of once."""
    ledger, seen = opened(), list[object]()

    def failing(entry: Entry) -> None:
        if entry.seq < 4:
            raise SystemExit("a secret")

    ledger.observe(seen.append, failing)
    with caplog.at_level(logging.WARNING):
        first = append(ledger, "registration", BODY, after=lambda entry: seen.append(entry.seq))
        second = append(ledger, "registration", BODY)
        ledger.drain(10)
        assert ledger.observers.fault is not None
        third = append(ledger, "registration", BODY)
        ledger.drain(10)
    assert seen == [first.seq, first, second, third]
    assert (ledger.observers.failures, ledger.observers.fault) == (2, None)
    assert len([r for r in caplog.records if "observer" in r.getMessage()]) == 1
    assert "a secret" not in caplog.text
    ledger.seal()
    assert audit().sealed == {ledger.stream: 4}


def test_an_observer_may_append_but_not_wait_for_itself(opened: Open) -> None:
    """It runs in the thread that does the work, as callbacks do."""
    ledger, raised = opened(), list[BaseException]()

    def waiting(entry: Entry) -> None:
        if entry.seq == 2:
            append(ledger, "registration", BODY)
            try:
                ledger.drain(10)
            except RuntimeError as error:
                raised.append(error)

    ledger.observe(waiting)
    append(ledger, "registration", BODY)
    ledger.drain(10)
    assert len(raised) == 1


def test_a_callback_may_append_but_not_wait_for_itself(opened: Open, audit: Callable) -> None:
    """Waiting inside of a callback would never end, and is an error; recording is fine."""
    ledger = opened()
    errors: list[str] = []

    def act(entry: object) -> None:
        append(ledger, "registration", BODY)
        for call in (ledger.drain, ledger.seal, ledger.close):
            with pytest.raises(RuntimeError, match="callback") as caught:
                call()
            errors.append(str(caught.value))

    append(ledger, "registration", BODY, after=act)
    ledger.drain()
    assert errors == [
        f"{name}() was called from the callback of a record; call it from another thread"
        for name in ("drain", "seal", "close")
    ]
    ledger.close()
    assert audit().sealed[ledger.stream] == 4


def test_drain_gives_up_in_time(opened: Open) -> None:
    """A callback that hangs does not hang who waits with a timeout, and waiting again works."""
    ledger = opened()
    gate = threading.Event()
    append(ledger, "registration", BODY, after=lambda entry: gate.wait(30))
    with pytest.raises(EvidenceError, match="did not end within") as caught:
        ledger.drain(timeout=0.001)
    assert (caught.value.code, str(caught.value)) == (
        "evidence_pending",
        "the callbacks did not end within 0.001 s; they stay queued, so wait again",
    )
    gate.set()
    ledger.drain(timeout=30)


def test_appends_wait_when_too_many_records_do(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """The queue is bounded: memory does not grow, nothing is dropped, and callbacks themselves never wait."""
    monkeypatch.setattr(sealing_module, "MAX_QUEUED", 4)
    monkeypatch.setattr(sealing_module, "_BATCH", 2)
    ledger = opened()
    seen: list[int] = []
    longest = 0

    def act(entry: object) -> None:
        seen.append(entry.seq)
        if len(seen) <= 20:
            append(ledger, "registration", BODY)

    for _ in range(50):
        append(ledger, "registration", BODY, after=act)
        longest = max(longest, len(ledger.sealing._queue))
    ledger.drain()
    assert len(seen) == 50
    assert longest <= 4 + 20


def test_a_hanging_callback_does_not_hang_the_end(
    opened: Open, monkeypatch: pytest.MonkeyPatch, audit: Callable
) -> None:
    """Close gives up on a callback that does not return; the records are sealed by the next start."""
    ledger = opened()
    started, gate = threading.Event(), threading.Event()

    def hang(entry: object) -> None:
        started.set()
        gate.wait(30)

    append(ledger, "registration", BODY, after=hang)
    with pytest.raises(EvidenceError, match="did not end within"):
        ledger.drain(0)
    assert started.wait(30)
    with monkeypatch.context() as patch:
        patch.setattr(sealing_module, "_JOIN_SECONDS", 0.01)
        with pytest.raises(EvidenceError) as caught:
            ledger.close()
    assert str(caught.value) == "a callback does not end; the next start seals"
    gate.set()
    ledger.sealing._thread.join()
    ledger.sealing.abandon()
    opened().close()
    assert audit().sealed[ledger.stream] == 3


def test_work_is_done_where_no_thread_can_start(opened: Open, monkeypatch: pytest.MonkeyPatch, audit: Callable) -> None:
    """While the interpreter shuts down no thread starts; callers then do the work themselves."""

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    monkeypatch.setattr(sealing_module, "MAX_QUEUED", 4)
    ledger = opened()
    seen: list[int] = []
    for _ in range(10):
        append(ledger, "registration", BODY, after=lambda entry: seen.append(threading.get_ident()))
    ledger.drain()
    assert seen == [threading.get_ident()] * 10
    ledger.seal()
    assert audit().sealed == {ledger.stream: 11}


class Watch(FixedClock):
    """A clock that can be broken."""

    broken = False

    def monotonic_ns(self) -> int:
        """Tell the time, or fail."""
        if self.broken:
            raise ZeroDivisionError("canary")
        return super().monotonic_ns()

    def wall_ns(self) -> int:
        """Tell the time, or fail."""
        if self.broken:
            raise ZeroDivisionError("canary")
        return super().wall_ns()


class Noted:
    """A log and a compressor that note what they are asked for."""

    def __init__(self) -> None:
        self.said: list[tuple[object, ...]] = []
        self.error: Exception | None = None

    def __getattr__(self, name: str) -> Callable[..., None]:
        """Return what notes a call."""

        def call(*given: object, **named: object) -> None:
            self.said.append((name, *given, *named.items()))
            if self.error is not None and name == "commit":
                raise self.error

        return call

    def taken(self) -> list[tuple[object, ...]]:
        """Return what was said since the last time."""
        said, self.said = self.said, []
        return said


class Stream(SimpleNamespace):
    """As much of a stream as sealing looks at."""

    def __init__(self, name: str, size: int = 0, *, usable: bool = True) -> None:
        super().__init__(id=name, tree=CompactRange([bytes([place]) * 32 for place in range(size)]), sealed=0, seq=size)
        self.usable, self.closed, self.began_ns, self.rotate_at, self.offset = usable, deque(), None, 700, 90 * size
        self.said: list[object] = []
        self.syncs_here = False

    def head(self, time_ns: int) -> tuple[Head, int]:
        """Return the head over all of it, and its time."""
        return Head(self.id, self.tree.size, self.tree.root(), time_ns), time_ns

    def close(self, *, settled: bool) -> None:
        """Note it."""
        self.said.append(settled)

    def drop(self) -> None:
        """Note it."""
        self.said.append("dropped")


SECOND = 10**9


def sealing_of(*streams: Stream) -> tuple[Sealing, Noted, FixedClock]:
    """Return the sealing of streams, without a thread; what it asks for; and its clock."""
    said, clock = Noted(), FixedClock(1_000 * SECOND)
    sealing = Sealing(said, clock=clock, interval=2.0, durable=False, compressor=said, segment_seconds=10.0)
    for stream in streams:
        sealing.track(stream)
    return sealing, said, clock


def committed(said: Noted) -> list[tuple[list[tuple[Head, int]], bool]]:
    """Return the heads that were committed, each with the time in it, and whether as signs of life."""
    calls = [call for call in said.taken() if call[0] == "commit"]
    return [([(head, head.time_ns) for head in call[1]], call[2][1]) for call in calls]


def test_a_seal_is_due_at_its_moment_and_an_hour_after_the_last() -> None:
    """Not before, unless it is wanted; a sign of life has its time, and is of every stream that goes on."""
    live, empty = Stream("live", 3), Stream("empty")
    gone, sealed = Stream("gone", 2, usable=False), Stream("sealed", 1)
    gone.seq, sealed.sealed = 5, 1
    sealing, said, clock = sealing_of(live, empty, gone, sealed)
    sealing._seal(wanted=False)
    sealing._due_ns = clock.monotonic_ns() + 1
    sealing._seal(wanted=False)
    assert said.taken() == []
    sealing._due_ns = clock.monotonic_ns()
    sealing._seal(wanted=False)
    now = clock.wall_ns()
    assert committed(said) == [([live.head(now), gone.head(now)], False)]
    assert (sealing._due_ns, live.sealed, gone.sealed) == (None, 3, 2)
    clock.advance(3599)
    sealing._seal(wanted=False)
    sealing._seal(wanted=True)
    assert said.taken() == []  # Nothing is new.
    clock.advance(1)
    sealing._seal(wanted=False)
    now = clock.wall_ns()
    assert committed(said) == [([live.head(now), sealed.head(now)], True)]
    clock.advance(3599)
    live.tree.append(bytes(32))
    sealing._seal(wanted=True)
    assert committed(said) == [([live.head(clock.wall_ns())], False)]
    clock.advance(3599)
    sealing._seal(wanted=False)
    assert said.taken() == []


def test_a_seal_that_failed_is_tried_again_with_no_news(caplog: pytest.LogCaptureFixture) -> None:
    """Its fault stays until it is made good, and so does the hour; it is logged once."""
    live = Stream("live", 3)
    sealing, said, clock = sealing_of(live)
    said.error = EvidenceError("expected room, got none")
    for _ in range(2):
        sealing._seal(wanted=True)
    assert (sealing.fault, live.sealed, len(said.taken())) == ("expected room, got none", 0, 2)
    assert [r.getMessage() for r in caplog.records] == ["records stay unsealed for now: expected room, got none"]
    said.error = None
    live.sealed = 3
    sealing._seal(wanted=True)
    assert (committed(said), sealing.fault) == ([([], False)], None)
    sealing._seal(wanted=True)
    assert said.taken() == []
    clock.advance(3600)
    said.error = OSError(errno.ENOSPC, "x")
    sealing._seal(wanted=False)
    assert sealing.fault is not None
    assert sealing.fault.startswith("could not seal the ledger: ")
    said.taken()
    said.error = None
    sealing._seal(wanted=True)
    assert committed(said) == [([live.head(clock.wall_ns())], True)]


def test_what_is_sealed_is_compressed_rotated_and_given_back() -> None:
    """Closed segments to their last record, open ones after their time, streams that were abandoned."""
    live, gone = Stream("live", 8), Stream("gone", 2, usable=False)
    live.closed.extend([Closed("first", 3), Closed("second", 8), Closed("third", 9)])
    sealing, said, clock = sealing_of(live, gone)
    sealing._seal(wanted=True)
    assert said.taken()[1:] == [("add", "first"), ("add", "second"), ("forget", "gone")]
    assert ([item.path for item in live.closed], gone.said, sealing._streams) == (["third"], [False], [live])
    assert (live.began_ns, live.rotate_at) == (clock.monotonic_ns(), 700)
    for seconds, rotate_at in ((9, 700), (1, 0)):
        clock.advance(seconds)
        live.tree.append(bytes(32))
        sealing._seal(wanted=True)
        assert live.rotate_at == rotate_at
    assert ("add", "third") in said.taken()


def test_the_end_gives_everything_back() -> None:
    """A stream that is whole and sealed is settled, others are left to the next start."""
    whole, torn, behind = Stream("whole", 2), Stream("torn", 2, usable=False), Stream("behind", 2)
    torn.seq = 5
    behind.seq = 3
    sealing, said, _ = sealing_of(whole, torn, behind)
    sealing.stop()
    assert (whole.said, torn.said, behind.said) == ([True], [False], [False])
    assert [call[0] for call in said.taken()] == ["commit", "stop", "close"]
    assert (sealing._streams, sealing._ensure_thread()) == ([], False)
    failing, said, _ = sealing_of(whole := Stream("whole", 2))
    said.error = EvidenceError("expected room, got none")
    with pytest.raises(EvidenceError, match=r"^expected room, got none$"):
        failing.stop()
    assert (whole.said, [call[0] for call in said.taken()]) == ([False], ["commit", "stop", "close"])


def test_what_comes_in_meanwhile_waits_for_the_next_turn() -> None:
    """However busy callers are, a turn of callbacks ends, and the seal behind it is not late."""
    live = Stream("live")
    sealing, _, _ = sealing_of(live)
    seen: list[int] = []

    def act(entry: int) -> None:
        seen.append(entry)
        sealing._queue.append((live, bytes(32), act, entry + 10, 0))

    sealing._queue.extend((live, bytes(32), act, number, 0) for number in (1, 2, 3))
    sealing._run_callbacks()
    assert (seen, len(sealing._queue), sealing._done, live.tree.size) == ([1, 2, 3], 3, 3, 3)
    sealing._run_callbacks()
    assert seen == [1, 2, 3, 11, 12, 13]


class Waits:
    """A condition on which nobody waits: it notes for how long, and does something meanwhile."""

    def __init__(self, during: Callable[[], object] = lambda: None) -> None:
        self.during = during
        self.said: list[object] = []

    def __enter__(self) -> None:
        """Take it."""

    def __exit__(self, *given: object) -> None:
        """Give it back."""

    def notify_all(self) -> None:
        """Note it."""
        self.said.append("told")

    def wait_for(self, reached: Callable[[], object], timeout: float | None) -> object:
        """Note for how long, and whether what is waited for holds before and after."""
        before = bool(reached())
        self.during()
        self.said.append((timeout, before, bool(reached())))
        return reached()

    def taken(self) -> list[object]:
        """Return what was said since the last time."""
        said, self.said = self.said, []
        return said


def waiting_of(*streams: Stream) -> tuple[Sealing, Waits, FixedClock]:
    """Return the sealing of streams, whose thread is never begun; what it waits for; and its clock."""
    sealing, _, clock = sealing_of(*streams)
    sealing._changed = Waits()
    sealing._ensure_thread = lambda: True
    sealing._running = True
    return sealing, sealing._changed, clock


def test_the_thread_sleeps_until_there_is_news_and_then_until_it_is_due() -> None:
    """An hour at most since the last seal, and the interval since the first record that it saw."""
    sealing, waits, clock = waiting_of(live := Stream("live", 1))
    live.sealed = 1
    clock.advance(600)
    idle: list[bool] = []
    waits.during = lambda: idle.append(sealing._idle)
    assert sealing._wait()
    assert (waits.taken(), idle, sealing._idle) == (
        [(3_000.0, False, False), (2.0, False, False)],
        [True, False],
        False,
    )
    clock.advance(0.5)
    sealing._urgent = True
    assert sealing._wait()
    assert (waits.taken(), sealing._urgent) == ([(1.5, True, True)], False)
    clock.advance(9)
    sealing._queue.append((live, b"", None, None, 0))
    assert sealing._wait()
    assert waits.taken() == [(0.0, False, False)]
    sealing._queue.clear()
    sealing._stopping = True
    assert not sealing._wait()
    assert waits.taken() == [(0.0, True, True)]


def test_a_record_wakes_a_thread_that_sleeps() -> None:
    """Neither a record in the moment before it slept nor one behind it waits for the hour."""
    sealing, waits, _ = waiting_of(live := Stream("live"))

    def submit() -> None:
        waits.during = lambda: None
        sealing.submit(live, RECORDED, None)

    waits.during = submit
    assert sealing._wait()
    assert waits.taken() == ["told", (3_600.0, False, True), (2.0, False, False)]
    sealing.submit(live, RECORDED, None)
    assert (waits.taken(), sealing._submitted) == ([], 2)
    assert list(sealing._queue) == [(live, bytes(32), None, None, 0)] * 2


@pytest.mark.parametrize(
    ("change", "news"),
    [
        (lambda s, live: None, False),
        (lambda s, live: s._queue.append((live, b"", None, None, 0)), True),
        (lambda s, live: setattr(s, "_urgent", True), True),
        (lambda s, live: setattr(s, "_stopping", True), True),
        (lambda s, live: setattr(live, "sealed", 1), True),
        (lambda s, live: setattr(live, "sealed", 3), False),
    ],
)
def test_what_is_news(change: Callable[[Sealing, Stream], object], news: bool) -> None:
    """A record that waits, a caller that does, the end, and what is in a tree and not in the log."""
    sealing, _, _ = waiting_of(live := Stream("live", 2))
    live.sealed = 2
    change(sealing, live)
    assert sealing._news() is news


def test_whoever_hurries_waits_for_the_thread_or_does_its_work() -> None:
    """Where there is no thread, or it ended meanwhile, the caller works; where it goes on, only the time ends."""
    sealing, waits, _ = waiting_of()
    worked: list[str] = []
    sealing._work = lambda: worked.append("worked")
    sealing._idle = True
    assert sealing._hurry(lambda: True, 7.0)
    assert (waits.taken(), sealing._idle, sealing._urgent) == (["told", (7.0, True, True)], False, True)
    assert not sealing._hurry(lambda: False, 7.0)
    assert (waits.taken(), worked) == (["told", (7.0, False, False)], [])
    waits.during = lambda: setattr(sealing, "_running", False)
    assert not sealing._hurry(lambda: False, None)
    assert (waits.taken(), worked) == (["told", (None, False, True)], ["worked"])
    assert sealing._hurry(lambda: worked.append("asked") is None, None)
    assert "worked" not in worked[1:]
    sealing._ensure_thread = lambda: False
    assert sealing._hurry(lambda: worked[-1] == "worked", None)
    assert (waits.taken()[2:], sealing._hurried) == ([], 0)


def test_those_who_hurry_are_counted() -> None:
    """While any of them waits, the thread takes no breath."""
    sealing, _, _ = waiting_of()
    seen: list[int] = []

    def inner() -> bool:
        seen.append(sealing._hurried)
        return True

    def outer() -> bool:
        sealing._hurry(inner, None)
        return inner()

    assert sealing._hurry(outer, None)
    assert (max(seen), sealing._hurried) == (2, 0)


def test_callers_wait_for_exactly_what_they_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Room for one record, the callbacks of those that were there, and one more seal."""
    sealing, _, _ = waiting_of(live := Stream("live"))
    asked: list[tuple[Callable[[], bool], float | None]] = []
    sealing._hurry = lambda reached, timeout: asked.append((reached, timeout)) or True
    monkeypatch.setattr(sealing_module, "MAX_QUEUED", 2)
    waiting = (live, b"", None, None, 0)
    sealing._queue.append(waiting)
    sealing.wait_for_room()
    assert asked == []
    sealing._queue.append(waiting)
    sealing._worker = threading.get_ident()
    sealing.wait_for_room()
    assert asked == []
    sealing._worker = None
    sealing.wait_for_room()
    ((reached, timeout),) = asked
    assert (reached(), timeout) == (False, None)
    sealing._queue.pop()
    assert reached()
    sealing._submitted = sealing._done = 3
    sealing.drain(5.0)
    assert len(asked) == 1
    sealing._submitted = 5
    sealing.drain(5.0)
    reached, timeout = asked[1]
    sealing._submitted, sealing._done = 9, 4
    assert (reached(), timeout) == (False, 5.0)
    sealing._done = 5
    assert reached()
    sealing.seal()
    sealing.seal()
    reached, timeout = asked[3]
    sealing._seals_done = 1
    assert (reached(), timeout, sealing._seals_wanted) == (False, None, 2)
    sealing._seals_done = 2
    assert reached()


def test_a_thread_that_works_breathes_and_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every few records it lets callers go first, unless somebody waits for it; every batch it tells how far it is."""
    breaths: list[float] = []
    monkeypatch.setattr(sealing_module, "time", SimpleNamespace(sleep=breaths.append))
    monkeypatch.setattr(sealing_module, "_BATCH", 20)
    for field, number in ((None, 3), ("_hurried", 0), ("_stopping", 0)):
        sealing, waits, _ = waiting_of(live := Stream("live"))
        if field:
            setattr(sealing, field, 1)
        sealing._queue.extend([(live, bytes(32), None, None, 0)] * 33)
        sealing._run_callbacks()
        assert (breaths, waits.taken()) == ([sealing_module._BREATH] * number, ["told"] * 2)
        breaths.clear()


def test_the_thread_is_a_daemon_with_a_name(opened: Open) -> None:
    """It keeps no process alive, and whoever looks at a process sees whose it is; there is one at a time."""
    sealing = opened().sealing
    thread = sealing._thread
    assert (thread.name, thread.daemon, thread.is_alive()) == ("agent-identity-sealing", True, True)
    sealing.start()
    assert sealing._thread is thread


def test_a_thread_that_ended_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether it is alive and whether it works are two things; at the end there is no other."""
    begun: list[object] = []

    class Begun(SimpleNamespace):
        def start(self) -> None:
            begun.append(self.target)

        def is_alive(self) -> bool:
            return True

    sealing, _, _ = sealing_of()
    monkeypatch.setattr(sealing_module, "threading", SimpleNamespace(Thread=Begun))
    assert (sealing._ensure_thread(), sealing._running, begun) == (True, True, [sealing._run])
    assert (sealing._ensure_thread(), len(begun)) == (True, 1)
    sealing._running = False
    assert (sealing._ensure_thread(), len(begun)) == (True, 2)
    sealing._thread.is_alive = lambda: False
    assert (sealing._ensure_thread(), len(begun)) == (True, 3)
    sealing._running, sealing._stopping = False, True
    assert (sealing._ensure_thread(), len(begun)) == (False, 3)


def test_a_thread_works_as_long_as_it_is_asked_to(caplog: pytest.LogCaptureFixture) -> None:
    """It ends at the end, or with the clock; in both cases it says so to those who wait."""
    sealing, waits, _ = waiting_of()
    turns, worked = [True, True, False], []
    sealing._wait = lambda: turns.pop(0)
    sealing._work = lambda: worked.append(1)
    sealing._run()
    assert (worked, turns, sealing._running, sealing._idle, waits.taken()) == ([1, 1], [], False, True, ["told"])

    def fail() -> bool:
        raise EvidenceError("expected a clock, got none")

    sealing._wait, sealing._running, sealing._idle = fail, True, False
    sealing._run()
    assert (sealing._running, sealing._idle, waits.taken()) == (False, True, ["told"])
    assert [record.getMessage() for record in caplog.records] == [
        "the thread that seals ends, the next record starts another: expected a clock, got none"
    ]


def test_a_child_drops_what_belongs_to_its_parent() -> None:
    """Nothing is sealed, nothing settled, and nothing begun."""
    live = Stream("live", 2)
    sealing, said, _ = sealing_of(live)
    sealing._queue.append((live, b"", None, None, 0))
    sealing.abandon()
    assert (live.said, [call[0] for call in said.taken()]) == (["dropped"], ["abandon", "close"])
    assert (sealing._streams, list(sealing._queue), sealing._ensure_thread()) == ([], [], False)


def test_the_time_until_a_moment_is_never_negative() -> None:
    """In seconds, of the clock that is injected."""
    sealing, _, clock = sealing_of()
    now = clock.monotonic_ns()
    assert [sealing._until(now + ns) for ns in (-5, 0, 1, SECOND, 3 * SECOND // 2)] == [0, 0, 1e-9, 1, 1.5]


def test_a_clock_that_fails_hangs_nobody(opened: Open, audit: Callable, caplog: object) -> None:
    """The thread ends with one line in the log, whoever waits gets the error, and the next record starts another."""
    clock = Watch()
    ledger = opened(clock=clock)
    append(ledger, "registration", BODY)
    ledger.seal()
    thread = ledger.sealing._thread
    clock.broken = True
    with pytest.raises(EvidenceError, match="the clock raised ZeroDivisionError") as caught:
        ledger.seal()
    assert "canary" not in str(caught.value) + caplog.text
    thread.join(30)
    assert not thread.is_alive()
    clock.broken = False
    append(ledger, "registration", BODY)
    assert ledger.sealing._thread is not thread
    ledger.seal()
    assert audit().sealed == {ledger.stream: 3}


def test_a_ledger_is_closed_also_where_the_clock_fails(opened: Open, audit: Callable) -> None:
    """What is left open would keep the next start from sealing it."""
    clock = Watch()
    ledger = opened(clock=clock)
    append(ledger, "registration", BODY)
    clock.broken = True
    with pytest.raises(EvidenceError):
        ledger.close()
    opened().close()
    assert audit().sealed[audit().of_kind("recovered")[0]["recovered"]["stream"]] == 2


def test_ctrl_c_in_a_callback_reaches_its_thread(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the caller does the work, its interrupt is not swallowed, and the callback counts as done."""

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError

    def interrupt(entry: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(threading.Thread, "start", refuse)
    ledger = opened()
    append(ledger, "registration", BODY, after=interrupt)
    with pytest.raises(KeyboardInterrupt):
        ledger.drain()
    ledger.drain()
    assert ledger.callback_failures == 0


def test_a_seal_that_fails_degrades_and_is_repeated(
    opened: Open, faulty: type, audit: Callable, caplog: object
) -> None:
    """No space for a seal: the ledger says so once and records on; with space, all of it is sealed."""
    files = faulty()
    ledger = opened(files=files)
    files.fault = lambda number, name: OSError(errno.ENOSPC, "fault") if name == "replace" else None
    for _ in range(2):
        append(ledger, "registration", BODY)
        with pytest.raises(EvidenceError, match=os.strerror(errno.ENOSPC)):
            ledger.seal()
    assert ledger.degraded
    assert len([record for record in caplog.records if record.levelno == logging.ERROR]) == 1
    files.heal()
    ledger.seal()
    assert ledger.degraded is None
    found = audit()
    assert found.sealed == {ledger.stream: 3}
    assert found.log_size == 2


def test_the_backlog_counts_what_no_seal_covers_and_dates_its_oldest_record(
    opened: Open, clock: FixedClock, faulty: type
) -> None:
    """The number and the oldest time stay while seals fail, and go with the first that works."""
    files = faulty()
    ledger = opened(files=files)
    ledger.observe(lambda entry: None)
    ledger.seal()
    assert (ledger.sealing.unsealed, ledger.sealing.oldest_unsealed_ns) == (0, None)
    first = append(ledger, "registration", BODY).record.time.last_ns
    assert (ledger.sealing.unsealed, ledger.sealing.oldest_unsealed_ns) == (1, first)
    clock.advance(0.1)
    append(ledger, "registration", BODY)
    files.fault = lambda number, name: OSError(errno.ENOSPC, "fault") if name == "replace" else None
    for _ in range(2):
        with pytest.raises(EvidenceError):
            ledger.seal()
    assert (ledger.sealing.unsealed, ledger.sealing.oldest_unsealed_ns) == (2, first)
    assert (ledger.append_failures, ledger.sealing.seal_failures) == (0, 2)
    files.heal()
    ledger.seal()
    assert (ledger.sealing.unsealed, ledger.sealing.oldest_unsealed_ns) == (0, None)


def test_a_record_that_nobody_observed_has_no_age(opened: Open) -> None:
    """Records that nobody observes are counted, and only their hashes are kept, which have no date."""
    ledger = opened()
    append(ledger, "registration", BODY)
    assert (ledger.sealing.unsealed, ledger.sealing.oldest_unsealed_ns) == (2, None)
    ledger.drain()
    assert (ledger.sealing.unsealed, ledger.sealing.oldest_unsealed_ns) == (2, None)


def test_errors_of_appends_callbacks_and_observers_are_counted_apart(opened: Open, faulty: type) -> None:
    """Each error counts once, under the operation that failed; a record of a wrong form is no error of the ledger."""
    files = faulty()
    ledger = opened(files=files)

    def fail(entry: Entry) -> None:
        raise ZeroDivisionError

    ledger.observe(fail)
    append(ledger, "registration", BODY, after=fail)
    ledger.drain()
    files.fault = lambda number, name: OSError(errno.ENOSPC, "fault") if name == "write" else None
    with pytest.raises(EvidenceError):
        append(ledger, "registration", BODY)
    files.heal()
    with pytest.raises(EvidenceError) as refused:
        append(ledger, "registration", {"x": object()})
    assert refused.value.code == "bad_record"
    assert (ledger.append_failures, ledger.callback_failures, ledger.observers.failures) == (1, 1, 1)


def test_a_failed_seal_is_repeated_without_being_asked(opened: Open, audit: Callable) -> None:
    """Once the disk has space, the thread seals by itself."""

    class Failing(Watched):
        def __init__(self) -> None:
            super().__init__()
            self.tried = threading.Semaphore(0)
            self.full = True
            self.tries = 0

        def replace(self, source: str, target: str) -> None:
            self.tried.release()
            self.tries += 1
            if self.full and self.tries > 1:  # The first one is of the empty log.
                raise OSError(errno.ENOSPC, "fault")
            super().replace(source, target)

    files = Failing()
    ledger = opened(files=files, clock=SystemClock(), seal_interval=0.001)
    for _ in range(2):
        assert files.tried.acquire(timeout=30)
    assert files.published.acquire(timeout=30)
    files.full = False
    assert files.published.acquire(timeout=30)
    assert audit().sealed == {ledger.stream: 1}


def test_a_failing_signer_degrades(opened: Open, audit: Callable) -> None:
    """Whatever a signer raises, nothing unsigned is published, and the next seal repeats it."""
    signer = CountingSigner()
    ledger = opened(signer=signer)
    signer.error = ZeroDivisionError("key text")
    with pytest.raises(EvidenceError, match="raised ZeroDivisionError") as caught:
        ledger.seal()
    assert "key text" not in str(caught.value)
    signer.error = None
    ledger.seal()
    assert ledger.degraded is None
    assert audit().sealed == {ledger.stream: 1}


def _foreign(directory: Path, data: bytes) -> None:
    with (directory / "log" / "entries.jsonl").open("ab") as file:
        file.write(data)


@pytest.mark.parametrize(
    "line",
    [
        b'{"entry":{"origin":"ledger.example/log"},"mac":"' + b"0" * 43 + b'"}\n',
        b"garbage\n",
        b"\n",
        b"x" * (4 * 1024 * 1024 + 1) + b"\n",
    ],
)
def test_log_entries_of_others_are_never_signed(
    opened: Open, directory: Path, audit: Callable, caplog: object, line: bytes
) -> None:
    """Bytes without this directory's MAC are set aside loudly, and the log goes on as if they had never been there."""
    ledger = opened()
    ledger.seal()
    good = (directory / "log" / "entries.jsonl").read_bytes()
    _foreign(directory, line)
    append(ledger, "registration", BODY)
    ledger.seal()
    assert ledger.degraded is None
    assert f"{len(line)} bytes in the log are not of the library" in caplog.text
    assert (directory / "log" / "rejected.jsonl").read_bytes() == line
    assert (directory / "log" / "entries.jsonl").read_bytes().startswith(good + b'{"entry":{"origin":"ledger.example')
    assert audit().sealed == {ledger.stream: 2}


def test_a_torn_log_line_is_removed(opened: Open, directory: Path, audit: Callable, caplog: object) -> None:
    """What a process that died left of its last entry is no entry; the next to seal says so and goes on."""
    ledger = opened()
    ledger.seal()
    _foreign(directory, b'{"entry":{"orig')
    append(ledger, "registration", BODY)
    ledger.seal()
    assert "torn line of 15 bytes" in caplog.text
    assert audit().sealed == {ledger.stream: 2}


def test_a_log_that_was_cut_is_not_continued(opened: Open, directory: Path) -> None:
    """A log that lost entries while the ledger was open gets no new checkpoint, whatever is put back later."""
    ledger = opened()
    ledger.seal()
    log = directory / "log" / "entries.jsonl"
    whole = log.read_bytes()
    log.write_bytes(b"")
    append(ledger, "registration", BODY)
    with pytest.raises(EvidenceError, match="was cut") as caught:
        ledger.seal()
    assert caught.value.code == "evidence_unavailable"
    log.write_bytes(whole)
    with pytest.raises(EvidenceError, match="was cut"):
        ledger.seal()
    with pytest.raises(EvidenceError):
        ledger.close()


def test_a_log_shorter_than_its_checkpoint_is_not_continued(opened: Open, directory: Path) -> None:
    """Also at a new start, the checkpoint on disk is never contradicted."""
    opened().close()
    log = directory / "log" / "entries.jsonl"
    log.write_bytes(log.read_bytes()[:0])
    ledger = opened()
    with pytest.raises(EvidenceError, match="fewer entries"):
        ledger.seal()
    with pytest.raises(EvidenceError):
        ledger.close()


def test_another_log_under_the_checkpoint_is_not_continued(opened: Open, directory: Path) -> None:
    """Authentic entries that are not those of the checkpoint are a second history, and get no signature."""
    first = opened()
    append(first, "registration", BODY)
    first.close()
    checkpoint = directory / "log" / "checkpoint"
    log = directory / "log" / "entries.jsonl"
    old = checkpoint.read_bytes()
    checkpoint.unlink()
    log.unlink()
    second = opened()
    second.close()
    checkpoint.write_bytes(old)
    third = opened()
    with pytest.raises(EvidenceError, match="other entries"):
        third.seal()
    with pytest.raises(EvidenceError):
        third.close()


def test_a_log_that_changed_beside_its_checkpoint_is_noticed_while_open(opened: Open, directory: Path) -> None:
    """A forged checkpoint of the same size is not overwritten but refused."""
    ledger = opened()
    ledger.seal()
    checkpoint = directory / "log" / "checkpoint"
    lines = checkpoint.read_bytes().split(b"\n")
    lines[2] = b"A" * 43 + b"="
    checkpoint.write_bytes(b"\n".join(lines))
    append(ledger, "registration", BODY)
    with pytest.raises(EvidenceError, match="other entries"):
        ledger.seal()
    with pytest.raises(EvidenceError):
        ledger.close()


def test_a_checkpoint_of_another_origin_is_not_overwritten(opened: Open, directory: Path) -> None:
    """A file that someone put there meanwhile stays as evidence."""
    ledger = opened()
    ledger.seal()
    checkpoint = directory / "log" / "checkpoint"
    checkpoint.write_bytes(checkpoint.read_bytes().replace(b"ledger.example", b"robber.example"))
    append(ledger, "registration", BODY)
    with pytest.raises(EvidenceError, match="another origin"):
        ledger.seal()
    with pytest.raises(EvidenceError):
        ledger.close()


def test_a_checkpoint_that_is_taken_away_is_named_as_lost(opened: Open, directory: Path, audit: Callable) -> None:
    """For good, and all is sealed behind the entry that says so."""
    ledger = opened()
    ledger.seal()
    append(ledger, "registration", BODY)
    ledger.seal()
    (directory / "log" / "checkpoint").unlink()
    append(ledger, "registration", BODY)
    ledger.seal()
    found = audit()
    assert found.sealed == {ledger.stream: 3}
    assert (found.log_size, found.losses) == (4, [3])


def test_a_checkpoint_that_goes_back_is_not_written_over(opened: Open, directory: Path) -> None:
    """A process that knows a later one signs nothing more, until a start looks at what is there."""
    ledger = opened()
    ledger.seal()
    checkpoint = directory / "log" / "checkpoint"
    older = checkpoint.read_bytes()
    append(ledger, "registration", BODY)
    ledger.seal()
    checkpoint.write_bytes(older)
    append(ledger, "registration", BODY)
    for call in (ledger.seal, ledger.seal, ledger.close):
        with pytest.raises(EvidenceError, match="an older checkpoint than there was before"):
            call()
    assert checkpoint.read_bytes() == older


def test_a_start_completes_a_checkpoint_that_fell_behind(
    opened: Open, crashed: Callable, directory: Path, audit: Callable
) -> None:
    """Where a process died between an entry and its checkpoint, all lines behind that are of the library."""
    ledger = opened()
    ledger.seal()
    older = (directory / "log" / "checkpoint").read_bytes()
    append(ledger, "registration", BODY)
    ledger.seal()
    crashed(ledger)
    (directory / "log" / "checkpoint").write_bytes(older)
    again = opened()
    again.seal()
    assert audit().sealed == {ledger.stream: 2, again.stream: 2}


def test_a_log_lock_that_is_never_given_back_degrades(opened: Open, directory: Path, monkeypatch: object) -> None:
    """A process that was stopped while it held the lock hangs nobody."""

    class Impatient(Files):
        def pause(self, seconds: float) -> None:
            pass

    ledger = opened(files=Impatient())
    ledger.seal()
    holder = os.open(directory / "log" / "lock", os.O_RDWR)
    Files().lock(holder)
    append(ledger, "registration", BODY)
    with pytest.raises(EvidenceError, match=os.strerror(errno.EAGAIN)):
        ledger.seal()
    os.close(holder)
    ledger.seal()
    assert ledger.degraded is None


def test_heads_have_one_form() -> None:
    """A head comes back from its entry, and nothing else passes for one."""
    head = Head(STREAM, 3, bytes(range(32)), 1)
    entry = head.to_entry(ORIGIN)
    assert Head.from_entry(entry) == (head, ORIGIN)
    fields = decode_record(entry)
    sign = Head(STREAM, 3, bytes(range(32)), 5)
    assert sign == head  # When it was said changes nothing about what is committed to.
    assert Head.from_entry(sign.to_entry(ORIGIN))[0].time_ns == 5
    assert decode_record(sign.to_entry(ORIGIN)) == {**fields, "time": "5"}
    timeless = {name: value for name, value in fields.items() if name != "time"}
    with pytest.raises(ValueError, match="does not have exactly the strings"):
        Head.from_entry(encode_record(timeless))
    for change in (
        {"size": "0"},
        {"size": "03"},
        {"root": "x"},
        {"root": "0" * 64},
        {"stream": "01a20e43-46d8-715f-9270-91c309b88710"},
        {"stream": "../x"},
        {"size": ["3"]},
        {"more": "x"},
        {"time": "-1"},
        {"time": "05"},
    ):
        with pytest.raises(ValueError, match="log entry") as caught:
            Head.from_entry(encode_record({**fields, **change}))
        if change in ({"size": ["3"]}, {"more": "x"}):
            words = "a log entry does not have exactly the strings origin, root, size, stream and time"
        elif "time" in change:
            words = "the time of a log entry is not nanoseconds as a decimal number"
        else:
            words = "a log entry has a size that is not decimal, a root that is no digest, or a stream that is no id"
        assert str(caught.value) == words


def test_the_numbers_of_a_head_have_a_length() -> None:
    """Nineteen digits, which 64 bits hold; one more is no number."""
    most = 10**19 - 1
    head = Head(STREAM, most, bytes(32), most)
    again = Head.from_entry(head.to_entry(ORIGIN))[0]
    assert (again.size, again.time_ns) == (most, most)
    assert Head.from_entry(Head(STREAM, 1, bytes(32), 0).to_entry(ORIGIN))[0].time_ns == 0
    for wrong in (Head(STREAM, most + 1, bytes(32), 1), Head(STREAM, 1, bytes(32), most + 1)):
        with pytest.raises(ValueError, match="decimal"):
            Head.from_entry(wrong.to_entry(ORIGIN))


@pytest.fixture
def log(directory: Path) -> DirectoryLog:
    layout, files = Layout.of(directory), Files()
    for folder in (layout.log, layout.keys):
        make_folder(files, folder, 0o700)
    sign_empty_log(files, layout, signer=SIGNER, origin=ORIGIN)
    key = load_ledger_key(files, layout.ledger_key)
    return DirectoryLog(files, layout, key, signer=SIGNER, origin=ORIGIN, durable=False)


def test_the_latest_head_of_each_wanted_stream_is_found(log: DirectoryLog, directory: Path) -> None:
    """Reading the log gives the last head of the streams asked for; entries of a later form are passed over."""
    other = STREAM[:-1] + "1"
    log.commit([Head(STREAM, 1, EMPTY_ROOT, 1), Head(other, 1, EMPTY_ROOT, 1)])
    log.commit([Head(STREAM, 2, EMPTY_ROOT, 1)])
    entry = encode_record({"from": "the future"})
    _foreign(directory, log_line(log._mac.of(log_message(log._tree.size + 1, log._last, entry)), entry))
    log.close()
    layout = Layout.of(directory)
    again = DirectoryLog(
        Files(), layout, load_ledger_key(Files(), layout.ledger_key), signer=SIGNER, origin=ORIGIN, durable=False
    )
    assert again.read_heads({STREAM}) == {STREAM: Head(STREAM, 2, EMPTY_ROOT, 1)}
    again.commit([Head(STREAM, 2, EMPTY_ROOT, 1)])
    again.close()
    again.close()


def test_a_head_is_appended_once(log: DirectoryLog, directory: Path) -> None:
    """Committing the same head again publishes a checkpoint and no entry, unless a sign of life is wanted."""
    head = Head(STREAM, 1, EMPTY_ROOT, 1)
    path = directory / "log" / "entries.jsonl"
    log.commit([head])
    once = path.stat().st_size
    log.commit([head])
    assert path.stat().st_size == once
    log.commit([head], repeat=True)
    assert path.stat().st_size == 2 * once
    log.forget(STREAM)
    log.commit([head])
    assert path.stat().st_size == 3 * once
    log.close()


def test_an_entry_written_in_part_is_taken_back(log: DirectoryLog, directory: Path) -> None:
    """A full disk in the middle of an entry leaves the log as it was."""
    log.commit([Head(STREAM, 1, EMPTY_ROOT, 1)])
    path = directory / "log" / "entries.jsonl"
    before = path.read_bytes()

    class Short(Files):
        def write(self, fd: int, data: bytes) -> int:
            return super().write(fd, data[:-5])

    log._files = Short()
    with pytest.raises(OSError, match="a part"):
        log.commit([Head(STREAM, 2, EMPTY_ROOT, 1)])
    assert path.read_bytes() == before
    log.close()


def test_a_loss_whose_checkpoint_fails_is_noted_once(log: DirectoryLog, directory: Path, faulty: type) -> None:
    """The entry that tells of it is in the log already when the next seal tries again; a later loss is another one."""
    path = directory / "log" / "entries.jsonl"
    files = log._files
    log.commit([Head(STREAM, 1, EMPTY_ROOT, 1)])
    for losses in (1, 2):
        (directory / "log" / "checkpoint").unlink()
        log._files = faulty.failing("replace")
        for _ in range(2):
            with pytest.raises(OSError, match="fault"):
                log.commit([Head(STREAM, 1 + losses, EMPTY_ROOT, 1)])
        log._files = files
        log.commit([])
        assert path.read_bytes().count(b'{"lost":"checkpoint"') == losses
    log.close()


def test_a_log_that_is_lost_before_the_first_seal_says_so(log: DirectoryLog, directory: Path) -> None:
    """Before what this process has to say, and once."""
    (directory / "log" / "checkpoint").unlink()
    for size in (1, 2):
        log.commit([Head(STREAM, size, EMPTY_ROOT, 1)])
    entries = (directory / "log" / "entries.jsonl").read_bytes().splitlines()
    assert [b'{"lost":"checkpoint"' in entry for entry in entries] == [True, False, False]
    log.close()


def test_any_descriptor_is_given_back(log: DirectoryLog) -> None:
    """Also the one with the number that standard input has, where that is closed."""
    closed: list[int] = []
    log._files = SimpleNamespace(close=closed.append)
    log._lock_fd = 0
    log.close()
    log.close()
    assert closed == [0]


def test_each_checkpoint_is_shown_once_it_is_in_place(log: DirectoryLog, directory: Path) -> None:
    """Whoever takes checkpoints elsewhere gets what is on the disk."""
    path = directory / "log" / "checkpoint"
    shown: list[tuple[bytes, bytes]] = []
    log._published = lambda note: shown.append((note, path.read_bytes()))
    log.commit([Head(STREAM, 1, EMPTY_ROOT, 1)])
    log.commit([Head(STREAM, 2, EMPTY_ROOT, 1)])
    assert [note == there for note, there in shown] == [True, True]
    assert shown[0] != shown[1]
    log.close()


def test_an_observer_cannot_swallow_an_interrupt() -> None:
    """Ctrl-C ends the program, wherever it comes."""
    observers = sealing_module.Observers()

    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    observers.add(interrupted)
    with pytest.raises(KeyboardInterrupt):
        observers.show(SimpleNamespace())
    assert observers.failures == 0
