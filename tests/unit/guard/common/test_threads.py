"""Steps off the event loop: where they run, what they see, and what becomes of those that nobody waits for."""

import asyncio
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from typing import Any

import pytest

from agent_identity import Rule
from agent_identity._guard.common import threads as module
from agent_identity._guard.common.failures import failure, model_message, our_place, safe_message
from agent_identity._guard.common.threads import Steps, at_once, has_loop, in_background, may_wait, off_loop
from agent_identity.errors import Denied, LimitExceeded, NoTask, OutOfScope, PolicyBlocked

HERE: ContextVar[str] = ContextVar("here", default="nowhere")


def step_of(coroutine: Any) -> object:
    """Return what a coroutine returns that never waits, driven by hand as another event loop does."""
    with pytest.raises(StopIteration) as caught:
        coroutine.send(None)
    return caught.value.value


def test_without_a_loop_a_step_runs_where_it_is() -> None:
    """A coroutine that something else than asyncio drives has its steps in its own thread."""
    assert not has_loop()
    assert step_of(off_loop(threading.get_ident)) == threading.get_ident()
    assert step_of(off_loop(threading.get_ident, undo=pytest.fail)) == threading.get_ident()


async def test_a_step_sees_the_context_and_changes_a_copy() -> None:
    """A worker thread has the caller's context variables; what it sets there stays there."""
    HERE.set("here")

    def step() -> tuple[str, int]:
        seen = HERE.get()
        HERE.set("there")
        return seen, threading.get_ident()

    seen, thread = await off_loop(step)
    assert seen == HERE.get() == "here"
    assert thread != threading.get_ident()


async def test_what_a_step_raises_is_raised_here() -> None:
    """Also what no future can hold."""
    for error in (StopIteration(1), asyncio.CancelledError(), KeyError("a")):

        def step(error: BaseException = error) -> None:
            raise error

        with pytest.raises((type(error), RuntimeError)) as caught:
            await off_loop(step)
        assert error in (caught.value, caught.value.__cause__)


async def test_a_step_that_was_given_up_is_undone_once_it_is_over() -> None:
    """The caller is cancelled at once; the step ends by itself, and what it returned is handed to what undoes it."""
    begun, go, undone = threading.Event(), threading.Event(), asyncio.Event()
    loop, given = asyncio.get_running_loop(), list[int]()

    def step() -> int:
        begun.set()
        go.wait(30)
        return 7

    def undo(value: int) -> None:
        given.append(value)
        loop.call_soon_threadsafe(undone.set)

    waiting = asyncio.create_task(off_loop(step, undo=undo))
    await asyncio.to_thread(begun.wait, 30)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert given == []
    go.set()
    async with asyncio.timeout(30):
        await undone.wait()
    assert given == [7]


async def test_a_step_that_has_not_begun_never_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where all threads are taken, a step that is undone before its turn is left out."""
    go, ran, undone = threading.Event(), list[int](), asyncio.Event()
    loop = asyncio.get_running_loop()
    monkeypatch.setattr(module, "_POOLS", {0: ThreadPoolExecutor(1)})
    begun = threading.Event()

    def first() -> None:
        begun.set()
        go.wait(30)

    blocking = asyncio.create_task(off_loop(first))
    await asyncio.to_thread(begun.wait, 30)
    steps = Steps()
    assert steps.over
    waiting = asyncio.create_task(steps.take(lambda: ran.append(1)))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert not steps.over
    steps.undo(lambda: loop.call_soon_threadsafe(undone.set))
    go.set()
    await blocking
    async with asyncio.timeout(30):
        await undone.wait()
    assert ran == []


async def test_nothing_to_undo_is_done_in_the_background() -> None:
    """What undoes steps of which none was taken runs all the same."""
    done, loop = asyncio.Event(), asyncio.get_running_loop()
    Steps().undo(lambda: loop.call_soon_threadsafe(done.set))
    async with asyncio.timeout(30):
        await done.wait()


async def test_a_failure_that_nobody_waits_for_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Its class and place, and nothing that it says."""
    told = threading.Event()
    caplog.handler.addFilter(lambda _: told.set() or True)

    def step() -> None:
        raise OSError("a secret path")

    with caplog.at_level(logging.WARNING):
        in_background(step)
        assert await asyncio.to_thread(told.wait, 30)
    assert "OSError at" in caplog.text
    assert "secret" not in caplog.text


async def test_the_end_of_the_interpreter_is_no_obstacle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no thread can be started any more, a step runs where it is."""
    over = ThreadPoolExecutor(1)
    over.shutdown()
    monkeypatch.setattr(module, "_POOLS", {0: over})
    assert await off_loop(threading.get_ident) == threading.get_ident()


def test_a_loop_that_was_closed_meanwhile_is_left_alone() -> None:
    """A step that ends after its loop tells nobody, and harms nothing."""
    go, over = threading.Event(), threading.Event()

    def step() -> None:
        go.wait(30)
        over.set()

    loop = asyncio.new_event_loop()
    waiting = loop.create_task(off_loop(step))
    loop.run_until_complete(asyncio.sleep(0))
    waiting.cancel()
    loop.run_until_complete(asyncio.gather(waiting, return_exceptions=True))
    loop.close()
    go.set()
    assert over.wait(30)


def test_steps_within_steps_have_threads_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """One thread for each depth is enough for steps that wait for steps; deeper than some, they run where they are."""
    monkeypatch.setattr(module, "_POOLS", {depth: ThreadPoolExecutor(1) for depth in range(20)})
    threads: list[int] = []

    def step(left: int) -> None:
        threads.append(threading.get_ident())
        if left:
            asyncio.run(off_loop(lambda: step(left - 1)))

    asyncio.run(off_loop(lambda: step(9)))
    assert len(threads) == 10
    assert len(set(threads)) == 9


def test_what_is_done_at_once_may_not_wait() -> None:
    """Whoever asks within is told so, and no longer than that."""
    assert may_wait()
    assert at_once(lambda x: (x, may_wait(), at_once(may_wait), may_wait()), 1) == (1, False, False, False)
    assert may_wait()
    with pytest.raises(KeyError):
        at_once({}.__getitem__, 1)
    assert may_wait()


def test_a_failure_has_our_place_and_a_cure() -> None:
    """What was raised within a function of ours names that; of anything else only the class is said."""

    def fails() -> None:
        raise KeyError("secret")

    with pytest.raises(KeyError) as caught:
        at_once(fails)
    assert our_place(caught.value) == "agent_identity._guard.common.threads:at_once"
    assert failure("the guard", caught.value).startswith(
        "the guard failed in agent_identity._guard.common.threads:at_once with KeyError; the log"
    )
    assert "test_threads.py" in safe_message(caught.value)
    assert "called by agent_identity._guard.common.threads:at_once" in safe_message(caught.value)
    assert failure("it", KeyError("secret")) == (
        "it failed with KeyError; the log has the line; mend what raises there, or report it"
    )
    assert safe_message(KeyError("secret")) == "KeyError"


def test_a_wrong_argument_is_traced_to_the_code_that_gave_it() -> None:
    """Where a function of ours raises, the log has the line of the caller, which is the one to mend."""

    def gives_a_text() -> None:
        Rule("block", tools="pay")  # type: ignore[arg-type]

    with pytest.raises(TypeError) as caught:
        at_once(gives_a_text)
    line = gives_a_text.__code__.co_firstlineno + 1
    assert safe_message(caught.value).endswith(f", called by {__file__}:{line}")


def test_a_model_is_told_neither_place_nor_cure() -> None:
    """Of our own failures it learns that the call did not run; of refusals why."""
    assert model_message(Denied("in our_module", code="guard_failed")) == "it could not be checked and did not run"
    assert model_message(LimitExceeded("the limit")) == "the limit"
    assert model_message(PolicyBlocked("pay: blocked: no words", code="own_reason")) == "pay: blocked: no words"
    assert model_message(Denied("rejected by bob: too much", code="approval_rejected")) == "rejected by bob: too much"
    for code, argument in (("tool_not_granted", None), ("argument_not_granted", "to"), ("argument_missing", "to")):
        told = model_message(OutOfScope("widen the scope: Scope('x')", code=code, argument=argument))
        assert "Scope" not in told
        assert argument is None or repr(argument) in told
    assert "developers" not in model_message(Denied("developers may add it", code="theirs"))
    assert model_message(NoTask("t: open one by 'with enforcer.task(...)'")) == "no task is open"
