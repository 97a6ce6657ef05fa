"""What a ledger shows about a period: records, silence, or nothing."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from plain_records import append

from agent_identity import Verifier
from agent_identity._verify.report.periods import SILENCE_NS, Life, Period, judge_period, unknown_period
from agent_identity.errors import ConfigurationError
from agent_identity.identity import SigningKey, TrustedKey, TrustStore
from agent_identity.options import Ledger
from agent_identity.testing import FixedClock, SequentialIds

SIGNER = SigningKey.from_seed(b"p" * 32)
TRUST = TrustStore((TrustedKey(SIGNER.public_key, "recorder"),), origin="periods")
NS = 10**9
HOUR = 3_600 * NS
BEGIN = 1_764_000_000 * NS


class Room:
    """A ledger whose clock is the test's, and what it says about the hours since it began."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.clock, self.ids = FixedClock(BEGIN), SequentialIds()
        self.ledger = self.open()

    def open(self) -> Ledger:
        """Begin a process."""
        options = {"signer": SIGNER, "origin": "periods", "clock": self.clock, "ids": self.ids}
        return Ledger.open(self.path, seal_interval=3_600.0, **options)

    @property
    def entries(self) -> Path:
        """The file of its stream."""
        return next((self.path / "ledger").iterdir()) / "entries.jsonl"

    def live(self, hours: int) -> None:
        """Let hours pass in which nothing happens but the signs of life."""
        for _ in range(hours):
            self.clock.advance(3_600)
            self.ledger.seal()

    def record(self) -> None:
        """Record something."""
        append(self.ledger, "erasure", {"erasure": {"key": "k"}})

    def ask(self, start: float, stop: float, **options: object) -> Period:
        """Ask about the hours from the start of the ledger on."""
        period = (BEGIN + int(start * HOUR), BEGIN + int(stop * HOUR))
        told = Verifier(TRUST).ledger(self.path, period=period, **options).period
        assert told is not None
        assert (told.start_ns, told.stop_ns) == period
        return told


@pytest.fixture
def room(tmp_path: Path) -> Room:
    """A ledger that began, and recorded something at once."""
    room = Room(tmp_path / "evidence")
    room.record()
    room.ledger.seal()
    return room


def test_hours_without_records_are_shown_to_be_empty(room: Room) -> None:
    """The signs of life behind a period prove that its process lived and recorded nothing in it."""
    room.live(24)
    told = room.ask(1, 23)
    assert (told.state, told.records, told.signs) == ("silent", 0, 22)
    assert told.why.startswith("nothing was recorded, and all the time a process of the ledger was alive")


def test_what_lies_in_a_period_is_counted(room: Room) -> None:
    """A record belongs to the period in which it begins, the first moment included and the last not."""
    room.live(2)
    room.record()
    room.live(2)
    assert (room.ask(1, 3).state, room.ask(1, 3).records) == ("recorded", 1)
    assert room.ask(2, 3).records == 1
    assert room.ask(1, 2).state == "silent"
    assert room.ask(0, 1).records == 2
    assert room.ask(2.5, 3.5).state == "silent"


def test_nothing_is_said_behind_the_last_sign_of_life(room: Room) -> None:
    """What the checkpoint does not reach is open, however short it is."""
    room.live(3)
    assert room.ask(1, 3).state == "silent"
    told = room.ask(1, 3.01)
    assert (told.state, told.why) == (
        "cannot_tell",
        "the last sign of life that a checkpoint covers is of 2025-11-24T19:00:00Z",
    )


def test_nothing_is_said_before_the_ledger_began(room: Room) -> None:
    """Another ledger may have been there."""
    room.live(2)
    assert room.ask(-1, 1).why == "each is proved by the checkpoint"
    assert (room.ask(-2, -1).state, room.ask(-2, -1).why) == ("cannot_tell", "the ledger begins later")


def test_time_without_a_process_is_told_apart(room: Room) -> None:
    """Between a stated end and the next start nothing was recorded, and nothing lived."""
    room.ledger.close()
    room.clock.advance(5 * 3_600)
    room.ledger = room.open()
    room.live(1)
    told = room.ask(1, 4)
    assert (told.state, told.records) == ("not_running", 0)
    assert "from 2025-11-24T17:00:00Z on, no process" in told.why


def test_a_process_that_died_leaves_an_hour_open(room: Room) -> None:
    """For so long it could have lived without a further sign; later it could not."""
    room.live(2)
    room.ledger.sealing.abandon()
    room.ledger._closed = True
    room.clock.advance(5 * 3_600)
    room.ledger = room.open()
    room.live(1)
    told = room.ask(1, 2.5)
    assert told.state == "cannot_tell"
    assert told.why == "a process gave its last sign of life at 2025-11-24T18:00:00Z and did not state its end"
    assert room.ask(1, 2).state == "silent"
    assert room.ask(3.1, 6).state == "not_running"
    assert room.ask(3, 6).state == "cannot_tell"


@pytest.mark.parametrize(
    ("harm", "why"),
    [
        (lambda room: (room.path / "log/checkpoint").write_bytes(b"x"), "the ledger does not verify"),
        (lambda room: (room.path / "log/entries.jsonl").write_bytes(b""), "the ledger does not verify"),
        (lambda room: room.entries.write_bytes(b""), "the ledger does not verify"),
        (lambda room: room.entries.write_bytes(room.entries.read_bytes() + b"x\n"), "records may be missing"),
    ],
)
def test_a_ledger_that_does_not_verify_says_nothing(room: Room, harm: Callable[[Room], object], why: str) -> None:
    """Silence of a damaged ledger is no silence."""
    room.live(3)
    harm(room)
    assert (room.ask(1, 2).state, room.ask(1, 2).why) == ("cannot_tell", why)


def test_an_empty_directory_says_nothing(tmp_path: Path) -> None:
    """Without records there is nobody who lived."""
    (tmp_path / "log").mkdir()
    told = Verifier(TRUST).ledger(tmp_path, period=(1, 2)).period
    assert told == unknown_period(1, 2, "there are no records")
    assert judge_period(1, 2, [], None).why == "the ledger begins later"


def test_two_processes_vouch_for_one_period_together() -> None:
    """One may end where another lives, if they overlap; a moment between them is a gap."""
    first, second = Life(0, 50, (), ended=True, within=0), Life(40, 90, (100,), ended=True, within=0)
    assert judge_period(10, 100, [second, first], None).state == "silent"
    late = Life(60, 90, (100,), ended=True, within=0)
    assert judge_period(10, 100, [first, late], None).state == "not_running"
    assert judge_period(10, 100, [first, late], "why").why == "why"
    assert judge_period(60, 100, [first, late], None).signs == 0
    assert judge_period(60, 101, [first, late, Life(70, 200, (), ended=True, within=0)], None).signs == 1


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="this system has no time zone of a process")
def test_times_are_told_in_utc_and_never_rounded_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever the verifier sits, and also in the last nanosecond of a second."""
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    try:
        told = judge_period(1, BEGIN + 2 * HOUR, [Life(0, BEGIN + NS - 1, (), ended=True, within=0)], None)
    finally:
        monkeypatch.undo()
        time.tzset()
    assert told.why.endswith(" covers is of 2025-11-24T16:00:00Z")


@pytest.mark.parametrize(
    ("start", "stop", "lives", "state"),
    [
        (10, 20, [Life(10, 20, (), ended=True, within=0)], "silent"),
        (9, 20, [Life(10, 20, (), ended=True, within=0)], "cannot_tell"),
        (10, 21, [Life(10, 20, (), ended=True, within=0)], "cannot_tell"),
        (10, 20, [Life(10, 20, (), ended=False, within=0)], "silent"),
        (10, 20, [Life(0, 15, (), ended=True, within=0), Life(15, 20, (), ended=True, within=0)], "silent"),
        (10, 20, [Life(0, 15, (), ended=True, within=0), Life(16, 20, (), ended=True, within=0)], "not_running"),
        (10, 20, [Life(0, 19, (), ended=True, within=0), Life(20, 30, (), ended=True, within=0)], "not_running"),
        (10, 20, [Life(0, 18, (), ended=True, within=0), Life(2, 5, (), ended=True, within=0)], "cannot_tell"),
        (10, 20, [Life(0, 30, (), ended=True, within=0), Life(2, 5, (), ended=True, within=0)], "silent"),
        (10, 20, [Life(0, 19, (), ended=False, within=0), Life(1, 30, (), ended=True, within=0)], "cannot_tell"),
        (10, 20, [Life(0, 20, (), ended=False, within=0), Life(1, 30, (), ended=True, within=0)], "silent"),
        (
            SILENCE_NS + 5,
            SILENCE_NS + 9,
            [Life(0, 5, (), ended=False, within=0), Life(0, SILENCE_NS + 9, (), ended=True, within=0)],
            "cannot_tell",
        ),
        (
            SILENCE_NS + 6,
            SILENCE_NS + 9,
            [Life(0, 5, (), ended=False, within=0), Life(0, SILENCE_NS + 9, (), ended=True, within=0)],
            "silent",
        ),
    ],
)
def test_every_border_of_a_period_belongs_to_one_side(start: int, stop: int, lives: list[Life], state: str) -> None:
    """To the nanosecond: first records, last signs of life, gaps, and how long a process may be silent."""
    assert judge_period(start, stop, lives, None).state == state


def test_a_sign_of_life_counts_in_one_period() -> None:
    """The first nanosecond of a period belongs to it, the first after it does not."""
    life = Life(0, 5, (10, 20), ended=True, within=0)
    assert [judge_period(*ends, [life], None).signs for ends in ((10, 20), (9, 21), (11, 20))] == [1, 2, 0]
    assert (SILENCE_NS, life.seen_ns, life._replace(last_ns=30).seen_ns) == (3_660_000_000_000, 20, 30)


def test_records_in_a_period_are_counted_over_all_streams() -> None:
    """With what keeps the ledger from being whole, if anything does."""
    lives = [Life(0, 5, (), ended=True, within=2), Life(0, 5, (), ended=True, within=3)]
    lives[1] = lives[1]._replace(signs_ns=(10, 11))
    told = judge_period(10, 20, lives, "records may be missing")
    assert told == Period(10, 20, "recorded", 5, 2, "records may be missing")
    assert judge_period(10, 20, lives, None).why == "each is proved by the checkpoint"
    nothing = [life._replace(within=0) for life in lives]
    assert judge_period(10, 20, nothing, "why") == Period(10, 20, "cannot_tell", 0, 2, "why")
    assert unknown_period(1, 2, "why") == Period(1, 2, "cannot_tell", 0, 0, "why")
    gap = judge_period(4, 10, [nothing[0], Life(8, 9, (9, 11), ended=True, within=0)], None)
    assert (gap.state, gap.records, gap.signs) == ("not_running", 0, 1)
    assert (
        gap.why == "nothing was recorded; from 1970-01-01T00:00:00Z on, no process of the ledger was alive for a time"
    )


def test_a_period_needs_a_length_and_a_ledger(room: Room, tmp_path: Path) -> None:
    """Times in the wrong order, and periods of traces, are refused."""
    with pytest.raises(ConfigurationError, match="ends before it begins"):
        Verifier(TRUST).ledger(room.path, period=(2, 2))
    (tmp_path / "spans").write_bytes(b"")
    with pytest.raises(TypeError, match="period"):
        Verifier(TRUST).traces(tmp_path / "spans", period=(1, 2))


def test_a_period_is_part_of_the_report_for_machines(room: Room) -> None:
    """Times are decimal strings; a report that was not asked says nothing about one."""
    room.live(2)
    told = Verifier(TRUST).ledger(room.path, period=(BEGIN + HOUR, BEGIN + 2 * HOUR)).to_json()["period"]
    why = "nothing was recorded, and all the time a process of the ledger was alive, as what it signed later shows"
    assert told == {
        "start_ns": str(BEGIN + HOUR),
        "stop_ns": str(BEGIN + 2 * HOUR),
        "state": "silent",
        "records": 0,
        "signs": 1,
        "why": why,
    }
    assert "period" not in Verifier(TRUST).ledger(room.path).to_json()
