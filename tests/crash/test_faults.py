"""An error, and a stall, at every single call that leaves the library: files, signer, clock, ids, shared state.

One life of an enforcer is run again and again; each time one of these calls fails, fails from then on, or does not
return until the test lets it. The short version takes a sample of the calls; ``nox -s crash`` takes all of them.
"""

import errno
import os
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import context as otel

from agent_identity import Agent, Enforcer, Human, Scope, Verifier
from agent_identity._guard.sessions import opening
from agent_identity._ledger import sealer as sealing_module
from agent_identity._ledger.reader import open_ledger
from agent_identity._storage.os_files import Files
from agent_identity.errors import AgentIdentityError
from agent_identity.identity import RandomIds, SigningKey, TrustedKey, TrustStore
from agent_identity.options import DigestKeys, Ledger, Sources
from agent_identity.state import MemoryState
from agent_identity.testing import FixedClock

ALICE = Human("alice@example.com")
CLERK = Agent("invoice-clerk", owner="finance@example.com")
HELPER = Agent("helper", owner="finance@example.com")
ISSUER, RECORDER = SigningKey.from_seed(b"i" * 32), SigningKey.from_seed(b"r" * 32)
KEYS = (TrustedKey(ISSUER.public_key, "issuer"), TrustedKey(RECORDER.public_key, "recorder"))
TRUST = TrustStore(KEYS, issuer="urn:test:issuer", origin="ledger.example/log")
LONG = "AGENT_IDENTITY_CRASH" in os.environ
PARTS = ("files", "issuer", "recorder", "clock", "ids", "state")
STRIDE = {"files": 17, "issuer": 2, "recorder": 2, "clock": 37, "ids": 11, "state": 5}
"""In the short version, one call in so many is looked at."""


class InjectedError(Exception):
    """What a part of the outside raises where it has no errors of its own."""


@dataclass
class Plan:
    """What is to happen at which call.

    Attributes:
        part: Whose calls are counted.
        number: The number of the call at which it happens, from 1.
        how: ``once``: it fails; ``on``: it and all after it fail; ``stall``: it returns once ``released`` is set.
    """

    part: str = ""
    number: int = 0
    how: str = "once"
    calls: list[str] = field(default_factory=list)
    reached: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)
    lock: Any = field(default_factory=threading.Lock)

    def before(self, part: str, name: str) -> None:
        """Count a call, and do what is planned for it."""
        if part != self.part:
            return
        with self.lock:
            self.calls.append(name)
            mine = len(self.calls)
        if mine == self.number and self.how == "stall":
            self.reached.set()
            assert self.released.wait(60)
        elif not self.released.is_set() and (mine == self.number or (mine > self.number > 0 and self.how == "on")):
            self.reached.set()
            raise OSError(errno.EIO, "fault") if part == "files" else InjectedError("canary")


class Port:
    """One part of the outside, under a plan."""

    def __init__(self, target: object, part: str, plan: Plan) -> None:
        self._target, self._part, self._plan = target, part, plan

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._target, name)
        if not callable(found):
            return found

        def call(*given: Any, **named: Any) -> Any:
            if name in {"close", "unlock"} and self._part == "files":  # The system does these also where it complains.
                found(*given, **named)
                return self._plan.before(self._part, name)
            self._plan.before(self._part, name)
            return found(*given, **named)

        return call


class Impatient(Files):
    """Waits for no lock: whoever holds one may be the call that does not return."""

    def pause(self, seconds: float) -> None:
        """Do not wait."""


@dataclass
class Life:
    """One life: what it did, and what came out."""

    directory: Path
    plan: Plan
    sync: str = "process"
    ran: list[int] = field(default_factory=list)
    returned: list[int] = field(default_factory=list)
    errors: list[BaseException] = field(default_factory=list)
    context: object = None
    enforcer: Enforcer | None = None
    lock: Any = field(default_factory=threading.Lock)

    def opened(self) -> Enforcer:
        """Open an enforcer whose whole outside is under the plan."""
        part = {
            "files": Impatient(),
            "issuer": ISSUER,
            "recorder": RECORDER,
            "clock": FixedClock(),
            "ids": RandomIds(),
            "state": MemoryState(),
        }
        port: dict[str, Any] = {name: Port(target, name, self.plan) for name, target in part.items()}
        shared = {"clock": port["clock"], "ids": port["ids"]}
        given = {"signer": port["recorder"], "origin": TRUST.origin, "sync": self.sync}
        ledger = Ledger.open(self.directory, files=port["files"], **shared, **given)
        try:
            digests = DigestKeys(self.directory / "keys" / "digests.jsonl", files=port["files"], sync=self.sync)
            return Enforcer(
                keys=(port["issuer"], port["recorder"]),
                trust=TRUST,
                ledger=ledger,
                digests=digests,
                state=port["state"],
                sources=Sources(**shared),
            )
        except BaseException:
            ledger.close()
            raise

    def body(self, n: int) -> int:
        """Act, having made sure that the intent is in the file: a body that runs without one fails the test."""
        with self.lock:
            self.ran.append(n)
            assert len(intents(self.directory)) >= len(self.ran), "a body ran without a record"
        return n

    def attempt(self, step: Callable[[], object]) -> None:
        """Do one step; what it raises is kept, and the next step is done all the same."""
        try:
            step()
        except (AgentIdentityError, InjectedError) as error:
            self.errors.append(error)

    def call(self, enforcer: Enforcer, n: int) -> None:
        """Make one guarded call."""
        tool = enforcer.tool(name="tool")(self.body)
        self.attempt(lambda: self.returned.append(tool(n)))

    def stream(self, enforcer: Enforcer, n: int) -> None:
        """Make one guarded call of a generator."""

        @enforcer.tool(name="tool")
        def items(n: int) -> Generator[int]:
            yield self.body(n)

        self.attempt(lambda: self.returned.extend(items(n)))

    def task(self, enforcer: Enforcer, first: int) -> None:
        """Act in a task, and in a part of it that is delegated."""
        with enforcer.task("act", principal=ALICE, agent=CLERK, scope=Scope("tool")):
            self.call(enforcer, first)
            self.stream(enforcer, first + 1)
            self.attempt(lambda: self.part_of(enforcer, first + 2))
            self.attempt(enforcer._enforcement.ledger.seal)

    def part_of(self, enforcer: Enforcer, n: int) -> None:
        """Act as a delegate."""
        with enforcer.delegate(HELPER, scope=Scope("tool")):
            self.call(enforcer, n)

    def join_in(self) -> None:
        """Act in another thread of the same process, if there is an enforcer by now."""
        if self.enforcer is not None:
            self.attempt(lambda: self.task(self.enforcer, 30))

    def live(self) -> None:
        """Open, act, close; whatever fails, the rest is tried."""
        self.attempt(lambda: setattr(self, "enforcer", self.opened()))
        if self.enforcer is not None:
            self.attempt(lambda: self.task(self.enforcer, 10))
            self.attempt(lambda: self.task(self.enforcer, 20))
            self.attempt(self.enforcer.close)
        self.context = otel.get_current()


def intents(directory: Path) -> list[bytes]:
    """Return the intents that are in the files now."""
    reader = open_ledger(directory)
    lines = [line.record for stream in reader.streams() for line in reader.entries(stream)]
    return [record for record in lines if record is not None and b'"kind":"intent"' in record]


@contextmanager
def following(step: Callable[[], None]) -> Iterator[threading.Thread]:
    """Run a step in a thread of its own; at the end it must have ended."""
    thread = threading.Thread(target=step, daemon=True)
    thread.start()
    yield thread
    thread.join(60)
    assert not thread.is_alive(), "a thread hangs"


def held(life: Life) -> None:
    """Hold the promises against a life after its fault, and start anew in its directory."""
    assert set(life.returned) == set(life.ran), "a result was hidden, or came without an act"
    assert not life.context, "a context was left behind"
    if life.plan.part == "files":
        assert all(isinstance(error, AgentIdentityError) for error in life.errors), life.errors
    assert "canary" not in "".join(map(str, life.errors)) or life.plan.part != "files"
    again = Life(life.directory, Plan(), life.sync)
    again.live()
    assert again.errors == []
    assert again.ran == again.returned == [10, 11, 12, 20, 21, 22]
    report = Verifier(TRUST).ledger(life.directory)
    assert report.integrity == "verified", report.findings[:3]
    assert report.counts["unsealed"] == 0
    assert report.counts["verified"] == report.counts["records"]
    ran = len(life.ran)  # Before the ledger is read, because other threads go on.
    assert len(intents(life.directory)) >= ran + 6


@pytest.fixture
def swift(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits for a thread that stalls gives up soon, and the disk is not waited for at all."""
    monkeypatch.setattr(os, "fsync", lambda fd: None)
    monkeypatch.setattr(os, "fdatasync", lambda fd: None)
    monkeypatch.setattr(opening, "DRAIN_SECONDS", 0.01)
    monkeypatch.setattr(sealing_module, "_JOIN_SECONDS", 0.2)


def sites(tmp_path: Path, part: str, sync: str) -> list[tuple[int, str]]:
    """Return the calls of a life that are to be looked at."""
    plan = Plan(part)
    life = Life(tmp_path / "clean", plan, sync)
    life.live()
    assert life.errors == []
    numbered = list(enumerate(plan.calls, 1))
    return numbered if LONG else numbered[:: STRIDE[part]]


@pytest.mark.sample(3)
@pytest.mark.timeout(0 if LONG else 300)
@pytest.mark.parametrize("how", ["once", "on"])
@pytest.mark.parametrize("sync", ["process", "disk"])
@pytest.mark.parametrize("part", PARTS)
def test_ac_92_an_error_at_every_call_of_the_outside(
    tmp_path: Path, swift: None, part: str, sync: str, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Whichever call fails: no body without its record, no result hidden, no context left, and the next start works."""
    for number, name in sites(tmp_path, part, sync):
        plan = Plan(part, number, how)
        life = Life(tmp_path / f"{number}-{name}", plan, sync)
        with following(life.live):
            pass
        try:
            held(life)
        except BaseException as error:
            error.add_note(f"call {number} of {part}: {name}")
            raise
    assert "canary" not in caplog.text


@pytest.mark.sample(3)
@pytest.mark.timeout(0 if LONG else 300)
@pytest.mark.parametrize("sync", ["process", "disk"])
@pytest.mark.parametrize("part", PARTS)
def test_ac_92_a_stall_at_every_call_of_the_outside(tmp_path: Path, swift: None, part: str, sync: str) -> None:
    """A call that does not return holds its caller; others act with a record, are refused, or wait, and all go on."""
    for number, name in sites(tmp_path, part, sync):
        plan = Plan(part, number, "stall")
        life = Life(tmp_path / f"{number}-{name}", plan, sync)
        with following(life.live) as first:
            while not plan.reached.wait(0.005) and first.is_alive():
                pass
            other = Life(life.directory, plan, sync, ran=life.ran, enforcer=life.enforcer, lock=life.lock)
            with following(other.join_in) as second:
                second.join(0.05 if LONG else 0.01)  # Whatever it can do meanwhile, it has done then.
                ran = len(life.ran)  # Before the ledger is read, because other threads go on.
                assert len(intents(life.directory)) >= ran
                plan.released.set()
        life.returned += other.returned
        try:
            held(life)
        except BaseException as error:
            error.add_note(f"call {number} of {part}: {name}")
            raise
