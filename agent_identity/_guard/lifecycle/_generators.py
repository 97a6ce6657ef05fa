"""Running what goes on after a call has returned: steps of generators, awaitables, iterators and context managers.

Each step asks whether the task lives, runs in the context of the call, and leaves the consumer its own (decision
0007). The outcome is recorded when the last step has ended.
"""

import asyncio
import contextlib
import functools
import inspect
import typing
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Generic, TypeGuard, TypeVar, cast, final

from agent_identity._guard.calls.call import Call
from agent_identity._guard.lifecycle.deferred_results import Lazy, Nature, drop, nature_of
from agent_identity._guard.lifecycle.steps import CallSteps
from agent_identity.errors import Denied

_T = TypeVar("_T")
_T_co = TypeVar("_T_co", covariant=True)

Begin = Callable[[], tuple[Call, object]]
BeginAsync = Callable[[], Awaitable[tuple[Call, object]]]


_LEAVING: typing.Final = (GeneratorExit, asyncio.CancelledError, KeyboardInterrupt, SystemExit)
"""Exceptions that end a consumer: the body may clean up, whether its task lives or not."""


# By abstract classes, because compilers have generators of their own, and by the class of a result alone, because a
# result may lie about its class, or raise when asked.
def _is_generator(result: object) -> TypeGuard[Generator[object, object, object]]:
    return issubclass(type(result), Generator)


def _is_async_generator(result: object) -> TypeGuard[AsyncGenerator[object, object]]:
    return issubclass(type(result), AsyncGenerator)


def continued(steps: CallSteps, call: Call, result: object, lazy: Lazy | None) -> object:
    """Return what runs a result on under guard, after whose end the call has succeeded.

    ``None`` if nothing of it runs on by itself.
    """
    nature = nature_of(type(result))
    if nature == "generator":
        return drive(steps, lambda: (call, result), lazy)
    if nature == "async generator":
        return drive_async(steps, _begun(call, result), lazy)
    if _waits_for(result, nature) and (nature == "coroutine" or lazy is None):
        return _await(steps, call, result, lazy)
    return None if nature is None or nature == "other" or lazy is not None else _passed_on(steps, call, result, nature)


def _passed_on(steps: CallSteps, call: Call, result: object, nature: Nature) -> object:
    """Return what runs an iterator or a context manager on, by the rules of generators."""
    if _iterates(result, nature):
        return drive(steps, lambda: (call, _items(result)), None)
    if _iterates_async(result, nature):
        return drive_async(steps, _begun(call, _items_async(result)), None)
    return _managed(steps, call, result, nature)


# The nature of a class was told by the methods that it has.
def _waits_for(_: object, nature: Nature | None) -> TypeGuard[Awaitable[object]]:
    return nature in {"coroutine", "awaitable"}


def _iterates(_: object, nature: Nature) -> TypeGuard[Iterator[object]]:
    return nature == "iterator"


def _iterates_async(_: object, nature: Nature) -> TypeGuard[AsyncIterator[object]]:
    return nature == "async iterator"


def _items(iterator: Iterator[object]) -> Generator[object]:
    yield from iterator


async def _items_async(iterator: AsyncIterator[object]) -> AsyncGenerator[object]:
    async for item in iterator:
        yield item


async def _await(steps: CallSteps, call: Call, pending: Awaitable[object], lazy: Lazy | None) -> object:
    try:
        await steps.check_async(call)
    except BaseException as error:
        drop(pending)
        await steps.fail_async(call, error)
        raise
    call.attach()
    try:
        result = await _Awaited(_waits(steps, call, pending))
    except BaseException as error:
        call.detach()
        drop(pending)
        await steps.fail_async(call, error)
        raise
    call.detach()
    later = continued(steps, call, result, lazy)
    return await steps.end_async(call, result, lazy) if later is None else later


@final
class _Awaited:
    """An awaitable of given steps."""

    __slots__ = ("_steps",)

    def __init__(self, steps: Generator[object, object, object]) -> None:
        self._steps = steps

    def __await__(self) -> Generator[object, object, object]:
        return self._steps


def _waits(steps: CallSteps, call: Call, pending: Awaitable[object]) -> Generator[object, object, object]:
    """Pass on what an awaitable waits for, and check before it goes on that the task still lives."""
    inner: Generator[object, object, object] = pending.__await__()
    resume: Callable[[], object] = functools.partial(next, inner)
    while True:
        try:
            item = resume()
        except StopIteration as stop:
            returned: object = stop.value
            return returned
        try:
            sent = yield item
        except BaseException as error:  # A cancellation, or the end: the body cleans up.
            resume = functools.partial(_throw, inner, error)
            continue
        steps.check_here(call)
        resume = functools.partial(next, inner) if sent is None else functools.partial(inner.send, sent)


def _throw(steps: Generator[object, object, object], error: BaseException) -> object:
    """Throw an error into an awaitable's steps; an iterator that takes none ends by it."""
    throw = getattr(steps, "throw", None)
    if throw is None:
        raise error
    answer: object = throw(error)
    return answer


def _managed(steps: CallSteps, call: Call, manager: object, nature: Nature) -> object:
    """Return a context manager that enters and leaves another one by the rules of generators, and is entered once."""
    held = [manager]

    def take() -> object:
        try:
            return held.pop()  # One thread gets it.
        except IndexError:
            message = f"{steps.tool.name}: its context manager was entered before; call the tool again for each block"
            raise steps.refuse(call.arguments, Denied(message, code="already_entered"), call.task) from None

    def block() -> Generator[object, object, object]:
        manager = cast("contextlib.AbstractContextManager[object]", take())
        return drive(steps, lambda: (call, _entered(manager)), "resource")

    def block_async() -> AsyncGenerator[object]:
        manager = cast("contextlib.AbstractAsyncContextManager[object]", take())
        return drive_async(steps, _begun(call, _entered_async(manager)), "resource")

    return _MANAGERS[nature](contextlib.contextmanager(block), contextlib.asynccontextmanager(block_async))


def _entered(manager: contextlib.AbstractContextManager[object]) -> Generator[object]:
    with manager as value:
        yield value


async def _entered_async(manager: contextlib.AbstractAsyncContextManager[object]) -> AsyncGenerator[object]:
    async with manager as value:
        yield value


class _Blocks:
    """Opens the blocks of a context manager under guard."""

    def __init__(
        self,
        block: Callable[[], contextlib.AbstractContextManager[object]],
        block_async: Callable[[], contextlib.AbstractAsyncContextManager[object]],
    ) -> None:
        self._block = block
        self._block_async = block_async
        self._leave = contextlib.ExitStack()
        self._leave_async = contextlib.AsyncExitStack()


class _Manager(_Blocks):
    """A context manager under guard."""

    def __enter__(self) -> object:
        return self._leave.enter_context(self._block())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        return self._leave.__exit__(kind, error, traceback)


class _AsyncManager(_Blocks):
    """An asynchronous context manager under guard."""

    async def __aenter__(self) -> object:
        return await self._leave_async.enter_async_context(self._block_async())

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        return await self._leave_async.__aexit__(kind, error, traceback)


class _ManagerOfBothKinds(_Manager, _AsyncManager):
    """A context manager under guard for both kinds of blocks."""


_MANAGERS: typing.Final[Mapping[Nature, type[_Blocks]]] = {
    "manager": _Manager,
    "async manager": _AsyncManager,
    "manager of both kinds": _ManagerOfBothKinds,
}


def _begun(call: Call, started: object) -> BeginAsync:
    async def begin() -> tuple[Call, object]:
        return call, started

    return begin


def _step(steps: CallSteps, call: Call, resume: Callable[[], object]) -> object:
    """Run one step of a body in the call's context; a failure ends the call."""
    try:
        call.attach()
        return resume()
    except StopIteration:
        raise
    except BaseException as error:
        steps.fail(call, error)
        raise
    finally:
        call.detach()


@dataclass(frozen=True, slots=True)
class _Step(Generic[_T_co]):
    """The next step of a body: how it goes on, if it does before earlier items are delivered.

    Attributes:
        resume: Runs the step; ``None`` if earlier items come first.
        closing: The exception by which the consumer ends the body.
        sent: The value that the consumer sends into it.
    """

    resume: Callable[[], _T_co] | None
    closing: BaseException | None = None
    sent: object = None


def _thrown(throw: Callable[[BaseException], _T], error: BaseException) -> _Step[_T]:
    return _Step(functools.partial(throw, error), error if isinstance(error, _LEAVING) else None)


def drive(steps: CallSteps, begin: Begin, lazy: Lazy | None) -> Generator[object, object, object]:
    """Run a generator step by step: each resume is checked, and the consumer keeps its own context."""
    call, started = begin()
    if not _is_generator(started):
        _refuse_later(steps, call, started)
        yield steps.end(call, started, lazy)
        return None
    inner, ready = started, deque[object]()
    step = _Step(functools.partial(next, inner))
    while True:
        try:
            ready += _advanced(steps, call, inner, step, lazy)
        except StopIteration as stop:
            returned: object = stop.value
            break
        step = _Step(functools.partial(next, inner))
        if not ready:
            continue  # It is held back, and the body goes on without its consumer.
        try:
            sent = yield ready.popleft()
        except BaseException as error:  # Whatever the consumer throws belongs to the body.
            step = _thrown(inner.throw, error)
        else:
            step = _Step(None if ready and sent is None else functools.partial(inner.send, sent), sent=sent)
    if step.closing is not None:
        return _ended(steps, call, returned, step.closing, lazy)
    yield from _rest(steps, call, ready)
    return steps.end(call, returned, lazy)


def _advanced(
    steps: CallSteps,
    call: Call,
    inner: Generator[object, object, object],
    step: "_Step[object]",
    lazy: Lazy | None,
) -> Iterable[object]:
    """Run one step of a body, unless earlier items come first, and return what the consumer gets by now."""
    try:
        if step.closing is None:
            steps.check(call)
            steps.check_sent(call, step.sent)
        if step.resume is None:
            return ()
        return _hand_out(steps, call, _step(steps, call, step.resume), step.closing, lazy)
    except StopIteration:
        raise
    except BaseException as error:
        _give_up(steps, call, inner, error)
        raise


def _rest(steps: CallSteps, call: Call, ready: deque[object]) -> Generator[object, object]:
    """Yield what was held back of a body that has ended."""
    if not steps.holds:
        return
    try:
        ready += steps.offer(call, last=True)
        while ready:
            steps.check(call)
            yield ready.popleft()
    except BaseException as error:
        steps.fail(call, error)
        raise


def _ended(steps: CallSteps, call: Call, returned: object, closing: BaseException, lazy: Lazy | None) -> object:
    """Record that the consumer ended a body, and return what the body returned: the consumer gets it all the same."""
    try:
        if returned is None:
            return None
        steps.check_ended(call, returned, lazy)
        return steps.emit(call, returned)
    finally:
        steps.fail(call, closing)


def _give_up(steps: CallSteps, call: Call, inner: Generator[object, object, object], error: BaseException) -> None:
    """Close a body that does not go on, in its own context, and record how the call ended unless that is on record."""
    try:
        call.attach()
        with contextlib.suppress(Exception):  # What stopped it matters more than what the body says to it.
            inner.close()
    finally:
        steps.fail(call, error)


async def _give_up_async(
    steps: CallSteps, call: Call, inner: AsyncGenerator[object, object], error: BaseException
) -> None:
    """Do what :func:`_give_up` does without blocking the event loop."""
    try:
        call.attach()
        if not isinstance(error, GeneratorExit):  # Nothing can be awaited then, and the loop closes it by itself.
            with contextlib.suppress(Exception):
                await inner.aclose()
    except BaseException as another:
        error = another
        raise
    finally:
        await steps.fail_async(call, error)


def _hand_out(
    steps: CallSteps, call: Call, item: object, closing: BaseException | None, lazy: Lazy | None
) -> Iterable[object]:
    """Return what the consumer gets of what a body yielded; one that was told to end may have gone on instead."""
    if closing is not None:
        steps.check(call)
    steps.check_ended(call, item, lazy)
    if lazy is not None or not steps.holds:  # A resource is the consumer's before its body goes on.
        return (steps.emit(call, item),)
    ready = steps.offer(call, item, last=closing is not None)
    if closing is None:
        steps.check(call)  # Inspectors may have taken their time.
    return ready


async def _hand_out_async(
    steps: CallSteps, call: Call, item: object, closing: BaseException | None, lazy: Lazy | None
) -> Iterable[object]:
    """Do what :func:`_hand_out` does without blocking the event loop."""
    if closing is not None:
        await steps.check_async(call)
    await steps.check_ended_async(call, item, lazy)
    if lazy is not None or not steps.holds:
        return (await steps.emit_async(call, item),)
    ready = await steps.offer_async(call, item, last=closing is not None)
    if closing is None:
        await steps.check_async(call)
    return ready


def _refuse_later(steps: CallSteps, call: Call, started: object) -> None:
    """Refuse a route's handler that would only begin to run after its success was recorded."""
    if inspect.isawaitable(started):
        drop(started)
        error = TypeError("the handler of a route for a generator is a coroutine function; use a plain function")
        steps.fail(call, error)
        raise error


async def _step_async(steps: CallSteps, call: Call, pending: Awaitable[object], *, closing: bool) -> object:
    """Await one step of a body in the call's context; a failure ends the call."""
    try:
        call.attach()
        return await pending
    except StopAsyncIteration:
        raise
    except BaseException as error:
        call.detach()
        await steps.fail_async(call, error, closed=closing)
        raise
    finally:
        call.detach()


async def drive_async(steps: CallSteps, begin: BeginAsync, lazy: Lazy | None) -> AsyncGenerator[object, object]:
    """Run an async generator step by step, as :func:`drive` does."""
    call, started = await begin()
    if not _is_async_generator(started):
        yield await _whole(steps, call, started, lazy)
        return
    inner, ready = started, deque[object]()
    step = _Step(functools.partial(anext, inner))
    while True:
        try:
            ready += await _advanced_async(steps, call, inner, step, lazy)
        except StopAsyncIteration:
            break
        step = _Step(functools.partial(anext, inner))
        if not ready:
            continue
        try:
            sent = yield ready.popleft()
        except BaseException as error:  # Whatever the consumer throws belongs to the body.
            step = _thrown(inner.athrow, error)
        else:
            step = _Step(None if ready and sent is None else functools.partial(inner.asend, sent), sent=sent)
    if step.closing is not None:
        await steps.fail_async(call, step.closing, closed=True)
        return
    try:
        ready += await _remaining(steps, call)
        while ready:
            await steps.check_async(call)
            yield ready.popleft()
    except BaseException as error:
        await steps.fail_async(call, error)
        raise
    await steps.end_async(call, None, lazy)


async def _whole(steps: CallSteps, call: Call, started: object, lazy: Lazy | None) -> object:
    item = await _await(steps, call, started, lazy) if inspect.isawaitable(started) else started
    return await steps.end_async(call, item, lazy)


async def _remaining(steps: CallSteps, call: Call) -> Iterable[object]:
    return await steps.offer_async(call, last=True) if steps.holds else ()


async def _advanced_async(
    steps: CallSteps,
    call: Call,
    inner: AsyncGenerator[object, object],
    step: "_Step[Awaitable[object]]",
    lazy: Lazy | None,
) -> Iterable[object]:
    """Do what :func:`_advanced` does without blocking the event loop."""
    try:
        if step.closing is None:
            await steps.check_async(call)
            await steps.check_sent_async(call, step.sent)
        if step.resume is None:
            return ()
        item = await _step_async(steps, call, step.resume(), closing=step.closing is not None)
        return await _hand_out_async(steps, call, item, step.closing, lazy)
    except StopAsyncIteration:
        raise
    except BaseException as error:
        await _give_up_async(steps, call, inner, error)
        raise
