"""Running what goes on after a call has returned: steps of generators, awaitables, iterators and context managers.

Each step asks whether the task lives, runs in the context of the call, and leaves the consumer its own (ADR 0005,
ADR 0056). The outcome is recorded when the last step has ended.
"""

import asyncio
import concurrent.futures
import contextlib
import functools
import inspect
import typing
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Generator, Iterator, Mapping
from types import TracebackType
from typing import cast, final

from agent_identity.enforcement.call import Call
from agent_identity.enforcement.guard import Guard
from agent_identity.enforcement.lazy import ATOMS, CODE, Lazy, Nature, holds_lazy, lazy_result, nature_of
from agent_identity.enforcement.off_loop import off_loop
from agent_identity.enforcement.on_loop import OnLoop
from agent_identity.errors import ConfigurationError, Denied, EvidenceError

__all__ = ["Begin", "BeginAsync", "continued", "continued_async", "drive", "drive_async"]

Begin = Callable[[], tuple[Call, object]]
BeginAsync = Callable[[], Awaitable[tuple[Call, object]]]


_REFUSALS: typing.Final = (Denied, EvidenceError, ConfigurationError)
_LEAVING: typing.Final = (GeneratorExit, asyncio.CancelledError, KeyboardInterrupt, SystemExit)
"""What ends a consumer: the body may clean up, whether its task lives or not."""


def _is(result: object, kind: type) -> bool:
    """Tell whether a result is of an abstract kind: compilers have coroutines and generators of their own.

    By its class alone, because a result may lie about its class, or raise when asked.
    """
    return issubclass(type(result), kind)


def continued(guard: Guard, call: Call, result: object, lazy: Lazy | None) -> object:
    """Return what runs a result on under guard, after whose end the call has succeeded; ``None`` if it has ended.

    Raises:
        ConfigurationError: With code ``lazy_result``: it would run on out of reach, and is withheld.
    """
    later = _later(guard, call, result, lazy)
    if later is None:
        _check_ended(guard, call, result, lazy)
    return later


async def continued_async(guard: OnLoop, call: Call, result: object, lazy: Lazy | None) -> object:
    """Do what :func:`continued` does without blocking the event loop."""
    later = _later(guard.guard, call, result, lazy)
    if later is None:
        await _check_ended_async(guard, call, result, lazy)
    return later


def _later(guard: Guard, call: Call, result: object, lazy: Lazy | None) -> object:
    """Return what runs a result on under guard, or ``None`` if nothing of it runs on by itself."""
    nature = nature_of(type(result))
    if nature == "generator":
        return drive(guard, lambda: (call, result), lazy)
    if nature == "async generator":
        return drive_async(OnLoop(guard), _begun(call, result), lazy)
    if nature == "coroutine" or (nature == "awaitable" and lazy is None):
        return _await(OnLoop(guard), call, cast("Awaitable[object]", result), lazy)
    if nature is not None and nature != "other" and lazy is None:
        return _handed_on(guard, call, result, nature)
    return None


def _handed_on(guard: Guard, call: Call, result: object, nature: Nature) -> object:
    """Return what runs an iterator or a context manager on, by the rules of generators."""
    if nature == "iterator":
        return drive(guard, lambda: (call, _items(cast("Iterator[object]", result))), None)
    if nature == "async iterator":
        return drive_async(OnLoop(guard), _begun(call, _items_async(cast("AsyncIterator[object]", result))), None)
    return _managed(guard, call, result, nature)


def _check_ended(guard: Guard, call: Call, result: object, lazy: Lazy | None) -> None:
    """Check that nothing of a result would run on out of reach, as what is to be handed over must not.

    Raises:
        ConfigurationError: With code ``lazy_result``: it would, and is withheld.
    """
    if _runs_on(result, lazy):
        _withhold(guard, call, result)


async def _check_ended_async(guard: OnLoop, call: Call, result: object, lazy: Lazy | None) -> None:
    """Do what :func:`_check_ended` does without blocking the event loop."""
    if _runs_on(result, lazy):
        await off_loop(functools.partial(_withhold, guard.guard, call, result))


def _runs_on(result: object, lazy: Lazy | None) -> bool:
    return lazy is None and type(result) not in ATOMS and holds_lazy(result)


def _withhold(guard: Guard, call: Call, result: object) -> None:
    """Refuse to hand over what would run on out of reach; monitor mode records that it would have been refused."""
    error = lazy_result(guard.tool.name)
    guard.fail(call, error, CODE)
    if guard.point.mode == "enforce":
        _drop(result)
        raise error


def _items(iterator: Iterator[object]) -> Generator[object]:
    yield from iterator


async def _items_async(iterator: AsyncIterator[object]) -> AsyncGenerator[object]:
    async for item in iterator:
        yield item


async def _await(guard: OnLoop, call: Call, pending: Awaitable[object], lazy: Lazy | None) -> object:
    try:
        await guard.check(call)
    except (Denied, EvidenceError):
        _drop(pending)
        raise
    call.attach()
    try:
        result = await _Awaited(_waits(guard, call, pending))
    except BaseException as error:
        call.detach()
        _drop(pending)
        await guard.fail(call, error)
        raise
    call.detach()
    later = await continued_async(guard, call, result, lazy)
    if later is not None:
        return later
    await guard.succeed(call, result)
    return result


@final
class _Awaited:
    """An awaitable of given steps."""

    __slots__ = ("_steps",)

    def __init__(self, steps: Generator[object, object, object]) -> None:
        self._steps = steps

    def __await__(self) -> Generator[object, object, object]:
        return self._steps


def _waits(guard: OnLoop, call: Call, pending: Awaitable[object]) -> Generator[object, object, object]:
    """Pass on what an awaitable waits for, and check before it goes on that the task still lives."""
    steps = cast("Generator[object, object, object]", pending.__await__())
    resume: Callable[[], object] = functools.partial(next, steps)
    while True:
        try:
            item = resume()
        except StopIteration as stop:
            return cast("object", stop.value)
        try:
            sent = yield item
        except BaseException as error:  # noqa: BLE001 - A cancellation, or the end: the body cleans up.
            resume = functools.partial(_throw, steps, error)
            continue
        guard.check_here(call)
        resume = functools.partial(next, steps) if sent is None else functools.partial(steps.send, sent)


def _throw(steps: Generator[object, object, object], error: BaseException) -> object:
    """Throw an error into an awaitable's steps; an iterator that takes none ends by it."""
    throw = getattr(steps, "throw", None)
    if throw is None:
        raise error
    return cast("object", throw(error))


def _drop(pending: object) -> None:
    """End a coroutine or future that is not to run on; the refusal matters more than what it says to that."""
    with contextlib.suppress(Exception):
        if asyncio.isfuture(pending) or _is(pending, concurrent.futures.Future):
            cast("asyncio.Future[object]", pending).cancel()
        elif _is(pending, Coroutine):
            cast("Coroutine[object, object, object]", pending).close()


def _managed(guard: Guard, call: Call, manager: object, nature: Nature) -> object:
    """Return a context manager that enters and leaves another one by the rules of generators, and is entered once."""
    held = [manager]

    def take() -> object:
        if not held:
            message = f"{guard.tool.name}: its context manager was entered before; call the tool again for each block"
            raise guard.refuse(call.arguments, Denied(message, code="already_entered"), call.task)
        return held.pop()

    def steps() -> Generator[object, object, object]:
        manager = cast("contextlib.AbstractContextManager[object]", take())
        return drive(guard, lambda: (call, _entered(manager)), "resource")

    def steps_async() -> AsyncGenerator[object]:
        manager = cast("contextlib.AbstractAsyncContextManager[object]", take())
        return drive_async(OnLoop(guard), _begun(call, _entered_async(manager)), "resource")

    return _MANAGERS[nature](contextlib.contextmanager(steps), contextlib.asynccontextmanager(steps_async))


def _entered(manager: contextlib.AbstractContextManager[object]) -> Generator[object]:
    with manager as value:
        yield value


async def _entered_async(manager: contextlib.AbstractAsyncContextManager[object]) -> AsyncGenerator[object]:
    async with manager as value:
        yield value


class _Steps:
    """What opens the blocks of a context manager under guard."""

    def __init__(
        self,
        block: Callable[[], contextlib.AbstractContextManager[object]],
        block_async: Callable[[], contextlib.AbstractAsyncContextManager[object]],
    ) -> None:
        self._block = block
        self._block_async = block_async
        self._leave = contextlib.ExitStack()
        self._leave_async = contextlib.AsyncExitStack()


class _Manager(_Steps):
    """A context manager under guard."""

    def __enter__(self) -> object:
        return self._leave.enter_context(self._block())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        return self._leave.__exit__(kind, error, traceback)


class _AsyncManager(_Steps):
    """An asynchronous context manager under guard."""

    async def __aenter__(self) -> object:
        return await self._leave_async.enter_async_context(self._block_async())

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        return await self._leave_async.__aexit__(kind, error, traceback)


class _ManagerOfBothKinds(_Manager, _AsyncManager):
    """A context manager under guard for both kinds of blocks."""


_MANAGERS: typing.Final[Mapping[Nature, type[_Steps]]] = {
    "manager": _Manager,
    "async manager": _AsyncManager,
    "manager of both kinds": _ManagerOfBothKinds,
}


def _begun(call: Call, started: object) -> BeginAsync:
    async def begin() -> tuple[Call, object]:
        return call, started

    return begin


def _step(guard: Guard, call: Call, resume: Callable[[], object]) -> object:
    """Run one step of a body in the call's context; a failure ends the call."""
    call.attach()
    try:
        return resume()
    except StopIteration:
        raise
    except BaseException as error:
        call.detach()
        guard.fail(call, error)
        raise
    finally:
        call.detach()


def drive(guard: Guard, begin: Begin, lazy: Lazy | None) -> Generator[object, object, object]:
    """Run a generator step by step: each resume is checked, and the consumer keeps its own context."""
    call, started = begin()
    if not _is(started, Generator):
        _refuse_later(guard, call, started)
        _check_ended(guard, call, started, lazy)
        guard.succeed(call, started)
        yield started
        return None
    inner = cast("Generator[object, object, object]", started)
    resume: Callable[[], object] = functools.partial(next, inner)
    closing: BaseException | None = None
    while True:
        try:
            if closing is None:
                guard.check(call)
            item = _step(guard, call, resume)
            _hand_out(guard, call, item, closing, lazy)
        except StopIteration as stop:
            returned = cast("object", stop.value)
            break
        except _REFUSALS:
            with contextlib.suppress(Exception):  # The refusal matters more than what the body says to it.
                inner.close()
            raise
        closing = None
        try:
            sent = yield item
        except _LEAVING as error:
            closing = error
            resume = functools.partial(inner.throw, error)
        except BaseException as error:  # noqa: BLE001 - Whatever the consumer throws belongs to the body.
            resume = functools.partial(inner.throw, error)
        else:
            resume = functools.partial(inner.send, sent)
    if closing is None:
        _check_ended(guard, call, returned, lazy)
        guard.succeed(call, returned)
    else:
        guard.fail(call, closing)
    return returned


def _hand_out(guard: Guard, call: Call, item: object, closing: BaseException | None, lazy: Lazy | None) -> None:
    """Check what a body yielded before the consumer gets it; one that was told to end may have gone on instead."""
    if closing is not None:
        guard.check(call)
    _check_ended(guard, call, item, lazy)
    guard.emit(call, item)


async def _hand_out_async(
    guard: OnLoop, call: Call, item: object, closing: BaseException | None, lazy: Lazy | None
) -> None:
    """Do what :func:`_hand_out` does without blocking the event loop."""
    if closing is not None:
        await guard.check(call)
    await _check_ended_async(guard, call, item, lazy)
    await guard.emit(call, item)


def _refuse_later(guard: Guard, call: Call, started: object) -> None:
    """Refuse a route's handler that would only begin to run after its success was recorded."""
    if inspect.isawaitable(started):
        _drop(started)
        error = TypeError("expected a handler that is no coroutine function to stand in for a generator, got one")
        guard.fail(call, error)
        raise error


async def _step_async(guard: OnLoop, call: Call, pending: Awaitable[object], *, closing: bool) -> object:
    """Await one step of a body in the call's context; a failure ends the call."""
    call.attach()
    try:
        return await pending
    except StopAsyncIteration:
        raise
    except BaseException as error:
        call.detach()
        await guard.fail(call, error, closed=closing)
        raise
    finally:
        call.detach()


async def drive_async(guard: OnLoop, begin: BeginAsync, lazy: Lazy | None) -> AsyncGenerator[object, object]:
    """Run an async generator step by step, as :func:`drive` does."""
    call, started = await begin()
    if not _is(started, AsyncGenerator):
        item = await _await(guard, call, started, lazy) if inspect.isawaitable(started) else started
        await _check_ended_async(guard, call, item, lazy)
        await guard.succeed(call, item)
        yield item
        return
    inner = cast("AsyncGenerator[object, object]", started)
    resume: Callable[[], Awaitable[object]] = functools.partial(anext, inner)
    closing: BaseException | None = None
    while True:
        try:
            if closing is None:
                await guard.check(call)
            item = await _step_async(guard, call, resume(), closing=closing is not None)
            await _hand_out_async(guard, call, item, closing, lazy)
        except StopAsyncIteration:
            if closing is None:
                await guard.succeed(call)
            else:
                await guard.fail(call, closing, closed=True)
            return
        except _REFUSALS:
            with contextlib.suppress(Exception):  # The refusal matters more than what the body says to it.
                await inner.aclose()
            raise
        closing = None
        try:
            sent = yield item
        except _LEAVING as error:
            closing = error
            resume = functools.partial(inner.athrow, error)
        except BaseException as error:  # noqa: BLE001 - Whatever the consumer throws belongs to the body.
            resume = functools.partial(inner.athrow, error)
        else:
            resume = functools.partial(inner.asend, sent)
