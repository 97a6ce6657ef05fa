"""Checkpoints that go elsewhere: each once or the latest again, never in the way, and failures are seen."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from plain_records import append

from agent_identity._ledger.transparency import publisher as publishing
from agent_identity._ledger.transparency.publisher import Publisher
from agent_identity.errors import EvidenceError
from agent_identity.identity import SigningKey
from agent_identity.options import Ledger
from agent_identity.testing import FixedClock, SequentialIds

WAIT = 20.0


class Place:
    """Somewhere else, which can be slow or fail."""

    def __init__(self) -> None:
        self.got: list[bytes] = []
        self.open = threading.Event()
        self.open.set()
        self.entered = threading.Event()
        self.error: BaseException | None = None

    def __call__(self, note: bytes) -> None:
        """Take a checkpoint."""
        self.entered.set()
        self.open.wait(WAIT)
        if self.error is not None:
            raise self.error
        self.got.append(note)


@pytest.fixture
def place() -> Place:
    """Return a place that works."""
    return Place()


@pytest.fixture
def make(place: Place) -> Iterator[Callable[..., Publisher]]:
    """Make publishers, and close them."""
    made: list[Publisher] = []

    def make_one(**options: bool) -> Publisher:
        made.append(Publisher("the place", place, **options))
        return made[-1]

    yield make_one
    place.open.set()
    for publisher in made:
        publisher.close()


def test_each_checkpoint_arrives_once_and_in_order(make: Callable[..., Publisher], place: Place) -> None:
    """What is offered arrives, each once, in its order."""
    publisher = make()
    offered = [b"%d" % number for number in range(100)]
    for note in offered:
        publisher.offer(note)
    assert publisher.settle(WAIT)
    assert place.got == offered
    assert (publisher.failures, publisher.skipped, publisher.fault) == (0, 0, None)


def test_nothing_waits_for_a_slow_place(make: Callable[..., Publisher], place: Place) -> None:
    """Offers return while the place hangs; of too many the oldest give way, and their number is known."""
    publisher = make()
    place.open.clear()
    publisher.offer(b"first")
    assert place.entered.wait(WAIT)
    for number in range(publishing._KEPT + 5):
        publisher.offer(b"%d" % number)
    assert publisher.skipped == 5
    assert not publisher.settle(0)
    place.open.set()
    assert publisher.settle(WAIT)
    assert place.got == [b"first", *(b"%d" % number for number in range(5, publishing._KEPT + 5))]


def test_a_failure_is_counted_and_the_next_one_goes_on(make: Callable[..., Publisher], place: Place) -> None:
    """Whatever a function raises is counted and named without its text; the next checkpoint is offered all the same."""
    publisher = make()
    for error in (ValueError("secret"), SystemExit("secret"), KeyboardInterrupt()):
        place.error = error
        publisher.offer(b"lost")
        publisher.settle(WAIT)
        assert publisher.fault == type(error).__name__
    place.error = EvidenceError("expected x, got y")
    publisher.offer(b"lost")
    assert not publisher.settle(WAIT)
    assert (publisher.failures, publisher.fault) == (4, "expected x, got y")
    place.error = None
    publisher.offer(b"kept")
    assert publisher.settle(WAIT)
    assert (place.got, publisher.fault) == ([b"kept"], None)


def test_the_latest_is_offered_again_after_a_failure(
    make: Callable[..., Publisher], place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who needs the latest only gets it again after a pause, and no older one in its place."""
    monkeypatch.setattr(publishing, "_PAUSES", (0.0, 0.0))
    publisher = make(latest_only=True)
    place.error = OSError()
    place.open.clear()
    publisher.offer(b"1")
    assert place.entered.wait(WAIT)
    publisher.offer(b"2")
    publisher.offer(b"3")
    place.open.set()
    assert not publisher.settle(WAIT)
    place.error = None
    with publisher._changed:
        # An attempt that began before the error was gone may still fail, and the next one follows.
        publisher._changed.wait_for(lambda: bool(place.got) and publisher.fault is None, WAIT)
    assert publisher.settle(WAIT)
    assert place.got[-1] == b"3"
    assert b"2" not in place.got
    assert publisher.failures >= 1


def test_a_dead_place_is_not_asked_at_every_seal(make: Callable[..., Publisher], place: Place) -> None:
    """After a failure nothing is tried during the pause, also if more is offered; closing does not wait for it."""
    publisher = make(latest_only=True)
    place.error = OSError()
    publisher.offer(b"1")
    publisher.settle(WAIT)
    for number in range(20):
        publisher.offer(b"%d" % number)
    publisher.close()
    assert publisher.failures == 1
    publisher.offer(b"late")
    assert not publisher._waiting


def test_who_needs_the_latest_only_gets_no_older_one(
    make: Callable[..., Publisher], place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was offered while it was busy gives way to the last of it, and counts as nothing that was lost."""
    monkeypatch.setattr(publishing, "_PAUSES", (0.0,))
    publisher = make(latest_only=True)
    place.open.clear()
    publisher.offer(b"1")
    assert place.entered.wait(WAIT)
    for note in (b"2", b"3", b"4"):
        publisher.offer(note)
    place.open.set()
    assert publisher.settle(WAIT)
    assert (place.got, publisher.skipped) == ([b"1", b"4"], 0)


def test_what_was_never_offered_anything_is_settled(place: Place) -> None:
    """It has a name and no thread, and says nothing when it is closed."""
    publisher = Publisher("the place", place)
    assert publisher.settle(0)
    assert (publisher.name, publisher._thread) == ("the place", None)
    publisher.offer(b"1")
    thread = publisher._thread
    assert thread is not None
    assert (thread.name, thread.daemon) == ("agent-identity-publishing", True)
    assert publisher.settle(WAIT)
    publisher.close()
    thread.join(WAIT)
    assert not thread.is_alive()


def test_the_log_names_the_place_and_why(
    make: Callable[..., Publisher], place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    """Once for each row of failures, and at the end if the last checkpoint did not arrive."""
    publisher = make(latest_only=True)
    place.error = OSError()
    publisher.offer(b"1")
    publisher.settle(WAIT)
    publisher.close()
    slow = make()
    place.error = None
    place.open.clear()
    slow.offer(b"2")
    slow.close(0)
    place.open.set()
    assert [record.getMessage() for record in caplog.records] == [
        "a checkpoint could not be taken to the place: OSError; it goes on trying",
        "the place does not have the last checkpoint: OSError",
        "the place does not have the last checkpoint: no answer in time",
    ]


def test_closing_does_not_wait_for_the_pause_between_two(
    make: Callable[..., Publisher], place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last checkpoint is delivered at once when everything closes, however long the pause is."""
    monkeypatch.setattr(publishing, "_PAUSES", (1_000.0,))
    publisher = make(latest_only=True)
    publisher.offer(b"1")
    assert publisher.settle(WAIT)
    publisher.offer(b"2")
    publisher.close(WAIT)
    assert place.got == [b"1", b"2"]


def test_without_a_thread_it_is_a_fault(
    make: Callable[..., Publisher], place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no thread can be started the offer returns, and the fault is seen; the next offer tries again."""
    publisher = make()

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        publisher.offer(b"1")
    assert publisher.fault == "no thread could be started"
    publisher.offer(b"2")
    assert publisher.settle(WAIT)
    assert place.got == [b"1", b"2"]


def test_a_ledger_offers_each_of_its_checkpoints(tmp_path: Path, place: Place) -> None:
    """Every seal of a ledger is offered after it is in place; the last one before close returns."""
    publisher = Publisher("the place", place)
    signer = SigningKey.from_seed(bytes(32))
    given = {"clock": FixedClock(), "ids": SequentialIds(), "seal_interval": 1_000_000.0}
    seen: list[bytes] = []
    with Ledger.open(tmp_path, signer=signer, origin="x.example/log", publishers=[publisher], **given) as ledger:
        assert ledger.publishers == (publisher,)
        for _ in range(3):
            append(ledger, "policy", {"policy": {"name": "p", "digest": "0" * 43}})
            ledger.seal()
            seen.append((tmp_path / "log" / "checkpoint").read_bytes())
    seen.append((tmp_path / "log" / "checkpoint").read_bytes())
    assert place.got == seen


def test_a_forked_child_begins_anew(make: Callable[..., Publisher], place: Place) -> None:
    """What waits in the parent is not sent by the child, whose publisher works."""
    publisher = make()
    place.open.clear()
    publisher.offer(b"parent")
    assert place.entered.wait(WAIT)
    publisher.offer(b"waits")
    old = publisher._changed
    publisher.after_fork_in_child()
    place.open.set()
    publisher.offer(b"child")
    assert publisher.settle(WAIT)
    assert publisher._changed is not old
    assert b"child" in place.got


def test_a_forked_ledger_publishes_by_itself(tmp_path: Path, place: Place) -> None:
    """The ledger of a child offers its own checkpoints, by a thread of the child."""
    publisher = Publisher("the place", place)
    given = {"clock": FixedClock(), "ids": SequentialIds(), "seal_interval": 1_000_000.0}
    signer = SigningKey.from_seed(bytes(32))
    with Ledger.open(tmp_path, signer=signer, origin="x.example/log", publishers=[publisher], **given) as ledger:
        before = publisher._changed
        ledger.after_fork_in_child()
        assert publisher._changed is not before
        append(ledger, "policy", {"policy": {"name": "p", "digest": "0" * 43}})
    assert place.got[-1] == (tmp_path / "log" / "checkpoint").read_bytes()
