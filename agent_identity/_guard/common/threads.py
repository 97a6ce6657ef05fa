"""Runs blocking steps off the event loop: file, lock, store or third-party code.

A step runs in a worker thread, in a copy of the caller's context, and the caller awaits it. Without a running asyncio
loop, it runs at once. The guard's code is the same on every thread; only the place differs.
"""

import asyncio
import contextlib
import logging
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import Context, ContextVar, copy_context
from functools import partial
from typing import Final, Generic, TypeVar, final

from agent_identity._guard.common.failures import safe_message

_T = TypeVar("_T")

_LOG: Final = logging.getLogger("agent_identity")
_THREADS: Final = 32
_DEEPEST: Final = 8
_DEPTH: Final[ContextVar[int]] = ContextVar("agent_identity_depth", default=0)
_POOLS: Final[dict[int, ThreadPoolExecutor]] = {}
"""Executors by depth: third-party code in a step may need a step of its own, which must not queue after it."""

if hasattr(os, "register_at_fork"):  # pragma: no branch  Absent on Windows, where nothing forks.
    os.register_at_fork(after_in_child=_POOLS.clear)


class _Here(threading.local):
    """The state of this thread.

    Attributes:
        may_wait: True if the thread may block on more than one write; not while :func:`at_once` runs a step on an
            event loop.
    """

    may_wait = True


HERE: Final = _Here()


def at_once(step: Callable[..., _T], *args: object) -> _T:
    """Run a step on the event loop that is known not to block.

    Args:
        step: The step.
        args: Its arguments.
    """
    before, HERE.may_wait = HERE.may_wait, False
    try:
        return step(*args)
    finally:
        HERE.may_wait = before


def has_loop() -> bool:
    """Return whether an asyncio event loop runs in this thread."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


@final
class _Outcome(Generic[_T]):
    """The result or exception of a step; the step has run once one of them is set."""

    __slots__ = ("error", "value")

    def __init__(self) -> None:
        self.value: _T | None = None
        self.error: BaseException | None = None

    def run(self, step: Callable[[], _T], depth: int) -> None:
        _DEPTH.set(depth)
        try:
            self.value = step()
        except BaseException as error:  # noqa: BLE001  Raised again where it is awaited.
            self.error = error

    def get(self) -> _T:
        error, self.error = self.error, None  # Its traceback holds this frame.
        if error is not None:
            try:
                raise error
            finally:
                del error
        return self.value  # type: ignore[return-value]  # pyright: ignore[reportReturnType]  Set, since nothing was raised.


@final
class Steps:
    """A sequence of steps, one at a time. A cancelled caller leaves the last one running, and may undo it."""

    __slots__ = ("_work",)

    def __init__(self) -> None:
        self._work: Future[None] | None = None

    async def take(self, step: Callable[[], _T]) -> _T:
        """Run a step off the event loop and return what it returns.

        A running step runs to its end, even if the caller is cancelled.

        Args:
            step: The step; it sees the caller's context, and changes a copy of it.
        """
        depth = _DEPTH.get()
        if depth > _DEEPEST or not has_loop():
            return step()
        loop, outcome = asyncio.get_running_loop(), _Outcome[_T]()
        done = loop.create_future()
        work = self._work = _submit(copy_context(), partial(outcome.run, step, depth + 1), depth)
        work.add_done_callback(lambda _: _tell(loop, done))
        try:
            await done
        except BaseException:
            work.add_done_callback(lambda _: _lose(outcome))
            raise
        return outcome.get()

    @property
    def over(self) -> bool:
        """True if no step runs or waits."""
        return self._work is None or self._work.done()

    def undo(self, step: Callable[[], object]) -> None:
        """Run a step in the background after the last one; a step that has not begun is dropped.

        Args:
            step: The step.
        """
        work = self._work
        if work is None:
            in_background(step)
        else:
            work.cancel()
            work.add_done_callback(lambda _: in_background(step))


async def off_loop(step: Callable[[], _T], *, undo: Callable[[_T], object] | None = None) -> _T:
    """Run a blocking step off the event loop, if one runs here, and return its result.

    Args:
        step: The step; see :meth:`Steps.take`.
        undo: Called in the background with the result of the step, if the caller was cancelled meanwhile. Without
            it the step still runs to its end.
    """
    if undo is None:
        return await Steps().take(step)
    steps, returned = Steps(), list[_T]()

    def keeping() -> _T:
        value = step()
        returned.append(value)
        return value

    try:
        return await steps.take(keeping)
    except (asyncio.CancelledError, GeneratorExit):
        steps.undo(lambda: [undo(value) for value in returned])
        raise


def in_background(step: Callable[[], object]) -> None:
    """Run a step in a worker thread without waiting; its exception is logged."""
    outcome = _Outcome[object]()
    work = _submit(copy_context(), partial(outcome.run, step, _DEPTH.get() + 1), min(_DEPTH.get(), _DEEPEST))
    work.add_done_callback(lambda _: _lose(outcome))


def _submit(context: Context, run: Callable[[], None], depth: int) -> "Future[None]":
    pool = _POOLS.get(depth)
    if pool is None:
        pool = _POOLS.setdefault(depth, ThreadPoolExecutor(_THREADS, thread_name_prefix="agent-identity"))
    try:
        return pool.submit(context.run, run)
    except RuntimeError:  # The interpreter shuts down, and starts no threads.
        context.run(run)
    over: Future[None] = Future()
    over.set_result(None)
    return over


def _tell(loop: asyncio.AbstractEventLoop, done: "asyncio.Future[None]") -> None:
    def tell() -> None:
        if not done.done():
            done.set_result(None)

    with contextlib.suppress(RuntimeError):  # The loop was closed, and no one waits.
        loop.call_soon_threadsafe(tell)


def _lose(outcome: "_Outcome[_T]") -> None:
    """Log the exception of a step that no one awaits."""
    if outcome.error is not None:
        _LOG.warning("a step that nobody waits for failed: %s", safe_message(outcome.error))
        outcome.error = None
