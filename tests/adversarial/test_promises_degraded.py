"""What a probe is told: whatever refuses calls or stops sealing is in ``degraded``, and nothing else is."""

import asyncio
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from agent_identity import Agent, Enforcer, Human, Scope
from agent_identity._directory.export import sender
from agent_identity._directory.rotation import rotate
from agent_identity._ledger import sealer
from agent_identity.errors import EvidenceError, LimitExceeded, StateError
from agent_identity.limits import Limit
from agent_identity.options import Sources, Telemetry
from agent_identity.state import MemoryState
from agent_identity.testing import FixedClock

CLERK = Agent("clerk", owner="finance@example.com")


def named(name: str) -> Any:
    """Return a tool of a name."""

    def tool() -> int:
        return 1

    tool.__name__ = name
    return tool


class Down(MemoryState):
    """A store that stops answering."""

    down = False

    def generation(self) -> int:
        """Return the generation, or fail."""
        if self.down:
            raise StateError("the store is down; start it")
        return super().generation()

    def get(self, name: str) -> Any:
        """Return what is stored, or fail."""
        if self.down:
            raise StateError("the store is down; start it")
        return super().get(name)


class Remote:
    """Another store than that of the process, which is asked each time."""

    def __init__(self) -> None:
        self.inner = Down()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


@pytest.fixture
def state() -> Remote:
    return Remote()


@pytest.fixture
def enforcer(tmp_path: Path, state: Remote) -> Iterator[Enforcer]:
    with Enforcer.open(tmp_path / "evidence", state=state) as enforcer:
        yield enforcer


def test_a_store_that_is_down_is_told(enforcer: Enforcer, state: Remote) -> None:
    """The store refuses every call, and says so until it is back."""
    assert enforcer.degraded == {}
    state.inner.down = True
    assert set(enforcer.degraded) == {"state"}
    state.inner.down = False
    assert enforcer.degraded == {}


def test_a_list_that_cannot_be_read_is_told(enforcer: Enforcer, state: Remote) -> None:
    """An unreadable list of revocations refuses every call."""
    state.inner.put("revocations", 7, b"garbage")
    assert set(enforcer.degraded) == {"revocations"}


def test_a_suspension_of_everything_is_told(enforcer: Enforcer) -> None:
    """Nothing runs until it is lifted."""
    enforcer.revoke("everything")
    assert set(enforcer.degraded) == {"revocations"}
    enforcer.reinstate("everything")
    assert enforcer.degraded == {}


def test_a_closed_enforcer_is_told(tmp_path: Path) -> None:
    """After its end no call can be recorded."""
    with Enforcer.open(tmp_path / "evidence") as enforcer:
        assert enforcer.degraded == {}
    assert "ledger" in enforcer.degraded


def test_files_that_are_missing_are_told_before_a_call_asks(tmp_path: Path) -> None:
    """A probe between two calls finds what the next call would meet."""
    with Enforcer.open(tmp_path / "evidence") as enforcer:
        (tmp_path / "evidence" / "ledger").rename(tmp_path / "away")
        assert set(enforcer.degraded) == {"ledger"}
        (tmp_path / "away").rename(tmp_path / "evidence" / "ledger")
        assert enforcer.degraded == {}


def test_a_worker_that_hangs_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Records that wait longer than any seal takes are a fault, and none once they are sealed."""
    with Enforcer.open(tmp_path / "evidence") as enforcer:
        go = threading.Event()
        enforcer._enforcement.ledger.observe(lambda _: go.wait())
        enforcer.revoke("agent", "nobody")
        monkeypatch.setattr(sealer, "_LATE_NS", -(10**12))
        assert set(enforcer.degraded) == {"ledger"}
        go.set()
        enforcer._enforcement.ledger.seal()
        assert enforcer.degraded == {}


def test_what_keeps_tasks_from_opening_is_told(tmp_path: Path) -> None:
    """Keys that cannot be kept refuse every new task, until they can; what a caller does wrong is no fault."""
    clerk = Agent("clerk", owner="finance@example.com")
    keys = tmp_path / "evidence" / "keys" / "digests.jsonl"
    clock = FixedClock()
    with Enforcer.open(tmp_path / "evidence", sources=Sources(clock=clock)) as enforcer:

        def opened(**options: object) -> None:
            with enforcer.task("pay", principal=Human("alice"), agent=clerk, scope=Scope("pay"), **options):
                pass

        opened()
        with pytest.raises(ValueError, match="ttl"):
            opened(ttl=timedelta(0))
        assert enforcer.degraded == {}
        keys.rename(tmp_path / "kept")
        keys.mkdir()
        with pytest.raises(EvidenceError):
            opened()
        assert set(enforcer.degraded) == {"tasks"}
        clock.advance(60)  # A process that a probe took out of service has to get work again.
        assert enforcer.degraded == {}
        with pytest.raises(EvidenceError):
            opened()
        assert set(enforcer.degraded) == {"tasks"}
        keys.rmdir()
        (tmp_path / "kept").rename(keys)
        opened()
        assert enforcer.degraded == {}


def test_a_key_that_ends_soon_is_told(tmp_path: Path) -> None:
    """After a rotation the old key counts for a while: this process has to open the directory again before its end."""
    evidence = tmp_path / "evidence"
    with Enforcer.open(evidence) as enforcer:
        assert enforcer.degraded == {}
        rotate(evidence, ("issuer", "recorder"), overlap=3 * 86_400, now=int(time.time()))
        enforcer._trust.follow()
        said = enforcer.degraded
        assert set(said) == {"keys"}
        assert said["keys"].count("expires in 2 days") + said["keys"].count("expires in 3 days") == 2
    with Enforcer.open(evidence) as enforcer:
        assert enforcer.degraded == {}


def test_a_disk_that_fills_up_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before an append fails."""
    with Enforcer.open(tmp_path / "evidence") as enforcer:
        monkeypatch.setattr(os, "statvfs", lambda path: os.statvfs_result((1, 1, 9, 9, 9, 9, 9, 9, 0, 255)))
        assert set(enforcer.degraded) == {"disk"}


@pytest.mark.parametrize("limit", [Limit.uses("pay", 20), Limit.rate("pay", 20, per=timedelta(hours=1))])
def test_a_limit_that_is_nearly_spent_is_told_while_its_task_is_open(tmp_path: Path, limit: Limit) -> None:
    """From more than nine tenths on; to ask spends nothing."""
    with Enforcer.open(tmp_path / "evidence") as enforcer:
        pay = enforcer.tool(named("pay"))
        with enforcer.task("pay", principal=Human("alice"), agent=CLERK, scope=Scope("pay"), limits=(limit,)):
            for _ in range(18):
                pay()
            assert enforcer.degraded == {}
            pay()
            assert set(enforcer.degraded) == {"limits"}
            assert enforcer.degraded["limits"].startswith("1 limit of an open task is spent")
            pay()
            with pytest.raises(LimitExceeded):
                pay()
        assert enforcer.degraded == {}


def test_small_limits_warn_of_nothing(tmp_path: Path) -> None:
    """A task for one call that was made is as it should be."""
    with Enforcer.open(tmp_path / "evidence") as enforcer:
        limits = (Limit.uses("pay", 1), Limit.uses("*", 9))
        with enforcer.task("pay", principal=Human("alice"), agent=CLERK, scope=Scope("pay"), limits=limits):
            enforcer.tool(named("pay"))()
            assert enforcer.degraded == {}


def test_a_state_that_answers_nonsense_about_limits_stops_no_probe(tmp_path: Path) -> None:
    """Warnings fail open; what the store does to calls is told by the calls."""

    class Odd(MemoryState):
        odd = False

        def debit(self, debits: Any, *, now: int) -> int | None:
            """Return what no store returns."""
            return 10**6 if self.odd else super().debit(debits, now=now)

    inner = Odd()
    with Enforcer.open(tmp_path / "evidence", state=inner) as enforcer:
        limits = (Limit.uses("pay", 10),)
        with enforcer.task("pay", principal=Human("alice"), agent=CLERK, scope=Scope("pay"), limits=limits):
            enforcer.tool(named("pay"))()
            inner.odd = True
            assert enforcer.degraded == {}


async def test_a_state_that_may_block_is_not_asked_about_limits_on_an_event_loop(tmp_path: Path) -> None:
    """A probe never holds up what it is to watch."""
    with Enforcer.open(tmp_path / "evidence") as enforcer:
        limits = (Limit.uses("pay", 10),)
        with enforcer.task("pay", principal=Human("alice"), agent=CLERK, scope=Scope("pay"), limits=limits):
            pay = enforcer.tool(named("pay"))
            for _ in range(10):
                await asyncio.to_thread(enforcer.bind(pay))
            assert enforcer.degraded == {}
            assert set(await asyncio.to_thread(lambda: enforcer.degraded)) == {"limits"}


def test_a_receiver_that_takes_nothing_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies wait, calls go on; the reason is that of the last attempt."""
    monkeypatch.setattr(sender, "_LATE", 0.0)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # No one listens.
        with Enforcer.open(
            tmp_path / "evidence", telemetry=Telemetry(otlp=f"http://127.0.0.1:{free.getsockname()[1]}")
        ) as enforcer:
            with enforcer.task("pay", principal=Human("alice"), agent=CLERK, scope=Scope("pay")):
                enforcer.tool(named("pay"))()
            end = time.monotonic() + 30
            while "export" not in (said := enforcer.degraded):
                assert time.monotonic() < end
                time.sleep(0.02)
            assert set(said) == {"export"}


class Signal(Exception):
    """What a signal handler raises."""


def _interrupted(number: int, enforcer: Enforcer) -> bool:
    """Seal, and raise at a step within the module of the worker; return whether there was such a step."""
    steps = 0

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal steps
        # Python looks for signals where functions begin and after they have returned, and not between all lines.
        entered = frame.f_code is threading.Condition.__enter__.__code__ and event == "return"
        if not entered and (frame.f_code.co_filename != sealer.__file__ or event == "line"):
            return trace
        steps += 1
        if steps == number:
            sys.settrace(None)
            raise Signal
        return trace

    before = sys.gettrace()
    try:
        sys.settrace(trace)
        enforcer._enforcement.ledger.seal()
    except Signal:
        return True
    finally:
        sys.settrace(before)
    return False


def test_no_exception_of_a_signal_handler_stops_sealing(tmp_path: Path) -> None:
    """Wherever it is raised in a caller of the worker, later records are sealed."""
    with Enforcer.open(tmp_path / "evidence") as enforcer:
        number = 1
        while _interrupted(number, enforcer):
            number += 1
            sealed: list[int] = []

            def other(sealed: list[int] = sealed) -> None:
                enforcer.revoke("agent", f"agent-{len(sealed)}")
                enforcer._enforcement.ledger.seal()
                sealed.append(1)

            thread = threading.Thread(target=other, daemon=True)
            thread.start()
            thread.join(20)
            assert sealed, number
        assert number > 10
        assert enforcer.degraded == {}
