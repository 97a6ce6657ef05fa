"""Timings: what an observer is told of a call, and that neither it nor a clock that fails touches the call."""

import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest

from agent_identity import Scope
from agent_identity._guard.calls.stopwatch import Stopwatch
from agent_identity.adapters import Call
from agent_identity.testing import FixedClock


class Clock:
    """A clock that may fail, and counts how often it is read."""

    def __init__(self) -> None:
        self.now = 0
        self.reads = 0
        self.fails = False

    def wall_ns(self) -> int:
        """Return the wall time."""
        return self.now

    def monotonic_ns(self) -> int:
        """Return the monotonic time, or fail."""
        self.reads += 1
        if self.fails:
            raise ZeroDivisionError
        return self.now


def test_a_stopwatch_sums_up_while_it_runs() -> None:
    """It runs from the beginning; to start it twice or to stop it twice changes nothing."""
    clock = Clock()
    watch = Stopwatch(clock)
    for act, passed in ((watch.start, 1), (watch.stop, 10), (watch.stop, 100), (watch.start, 1_000)):
        act()
        clock.now += passed
    watch.stop()
    assert watch.total_ns == 1_001


@pytest.mark.parametrize("failing", [0, 1, 2])
def test_a_clock_that_fails_costs_the_measurement_alone(failing: int) -> None:
    """Whichever reading fails, nothing is raised, and there is no total any more."""
    clock = Clock()
    clock.fails = failing == 0
    watch = Stopwatch(clock)
    for number, act in enumerate((watch.stop, watch.start), 1):
        clock.fails = failing == number
        act()
    clock.fails = False
    watch.stop()
    assert watch.total_ns is None


class OwnReads:
    """A clock that counts how often the thread of the test reads its monotonic time."""

    def __init__(self) -> None:
        self.inner = FixedClock()
        self.thread = threading.get_ident()
        self.reads = 0
        self.fails = False

    def wall_ns(self) -> int:
        """Return the wall time."""
        return self.inner.wall_ns()

    def monotonic_ns(self) -> int:
        """Return the monotonic time, or fail for that thread."""
        own = threading.get_ident() == self.thread
        self.reads += own
        if own and self.fails:
            raise ZeroDivisionError
        return self.inner.monotonic_ns()


def test_nothing_is_measured_while_nobody_observes(opened: Callable[..., Any]) -> None:
    """With an observer a call reads the clock four times more than without: before and after each of two steps."""
    clock, calls, reads = OwnReads(), list[Call](), list[int]()
    world = opened(clock=clock)
    body = world.enforcer.tool(name="tool")(lambda: None)
    with world.task(Scope("tool")):
        for observes in (False, False, True):
            if observes:
                world.enforcer._enforcement.timings.observe(lambda call, outcome, added: calls.append(call))
            before = clock.reads
            body()
            reads.append(clock.reads - before)
    assert reads[2] == reads[1] + 4
    assert [call.tool for call in calls] == ["tool"]


def test_a_clock_that_fails_after_the_body_costs_the_measurement_alone(opened: Callable[..., Any]) -> None:
    """The call returns its result and is on record; its observer is not told of a time that nobody knows."""
    clock, seen = OwnReads(), list[Call]()
    world = opened(clock=clock)
    world.enforcer._enforcement.timings.observe(lambda call, outcome, added: seen.append(call))

    @world.enforcer.tool(name="tool")
    def body() -> str:
        clock.fails = True
        return "done"

    with world.task(Scope("tool")):
        assert body() == "done"
        clock.fails = False
    assert seen == []
    assert world.outcomes() == ["success"]


def test_an_observer_that_fails_touches_no_call(opened: Callable[..., Any], caplog: pytest.LogCaptureFixture) -> None:
    """The call returns, later observers are told, and one line says so without the text of the error."""
    world, seen = opened(), list[tuple[str, str, int]]()

    def fail(call: Call, outcome: str, added: int) -> None:
        raise ValueError("a secret")

    timings = world.enforcer._enforcement.timings
    timings.observe(fail)
    timings.observe(lambda call, outcome, added: seen.append((call.tool, outcome, added)))
    body = world.enforcer.tool(name="tool")(lambda: "done")
    with caplog.at_level(logging.WARNING), world.task(Scope("tool")):
        assert body() == body() == "done"
    assert seen == [("tool", "success", 0)] * 2
    assert [record.getMessage() for record in caplog.records].count(caplog.records[0].getMessage()) == 1
    assert "ValueError" in caplog.text
    assert "a secret" not in caplog.text
