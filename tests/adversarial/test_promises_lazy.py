"""What a tool returns that is still going to run: it runs while its task lives, or is withheld."""

import asyncio
import concurrent.futures
import contextlib
import inspect
import io
import itertools
import logging
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import IO, Annotated, Any

import pytest

from agent_identity import ConfigurationError, Denied, Effect, Finding, Rule, RuleSet, Scope
from agent_identity.constraints import Contains
from agent_identity.policy import Content

OPEN = Scope("tool")


OPEN_DATABASES: list[sqlite3.Connection] = []


def database() -> sqlite3.Connection:
    """Return a connection that is closed after the test."""
    OPEN_DATABASES.append(sqlite3.connect(":memory:", check_same_thread=False))
    return OPEN_DATABASES[-1]


@pytest.fixture(autouse=True)
def _closed_databases() -> Iterator[None]:
    yield
    while OPEN_DATABASES:
        OPEN_DATABASES.pop().close()


def outcomes(world: Any) -> list[tuple[str, str | None]]:
    return [(record["outcome"], record.get("error")) for record in world.records("outcome")]


class Stepwise:
    """An iterator that is nothing else."""

    def __init__(self, ran: list[object]) -> None:
        self._ran = ran

    def __iter__(self) -> Iterator[int]:
        return self

    def __next__(self) -> int:
        self._ran.append("step")
        return len(self._ran)


class StepwiseLater:
    """An async iterator that is nothing else."""

    def __init__(self, ran: list[object]) -> None:
        self._ran = ran

    def __aiter__(self) -> AsyncIterator[int]:
        return self

    async def __anext__(self) -> int:
        self._ran.append("step")
        return len(self._ran)


class Block:
    """A context manager that is nothing else."""

    def __init__(self, ran: list[object]) -> None:
        self._ran = ran

    def __enter__(self) -> str:
        self._ran.append("enter")
        return "entered"

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        self._ran.append("leave" if error is None else type(error).__name__)


class BlockLater:
    """An asynchronous context manager that is nothing else."""

    def __init__(self, ran: list[object]) -> None:
        self._ran = ran

    async def __aenter__(self) -> str:
        self._ran.append("enter")
        return "entered"

    async def __aexit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        self._ran.append("leave" if error is None else type(error).__name__)


class Later:
    """An awaitable that is no coroutine."""

    def __init__(self, ran: list[object]) -> None:
        self._ran = ran

    def __await__(self) -> Iterator[None]:
        self._ran.append("first")
        yield
        self._ran.append("second")
        return "done"


class Cursor(Stepwise):
    """An iterator with a method of its own."""

    def fetch(self) -> int:
        return next(self)


# ------------------------------------------------------------------------------------------ iterators


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda ran: map(ran.append, range(9)), id="map"),
        pytest.param(lambda ran: filter(lambda item: not ran.append(item), range(9)), id="filter"),
        pytest.param(lambda ran: zip(Stepwise(ran), range(9), strict=False), id="zip"),
        pytest.param(lambda ran: enumerate(Stepwise(ran)), id="enumerate"),
        pytest.param(lambda ran: iter(lambda: ran.append("step"), 0), id="callable_iterator"),
        pytest.param(lambda ran: itertools.islice(Stepwise(ran), 9), id="islice"),
        pytest.param(lambda ran: itertools.chain.from_iterable([Stepwise(ran)]), id="chain"),
        pytest.param(Stepwise, id="user"),
    ],
)
def test_ac_26_no_step_of_an_iterator_runs_after_the_task(world: Any, make: Callable[..., Any]) -> None:
    """A tool that returns an iterator has only begun: later steps ask for the task, and the refusal is its outcome."""
    ran: list[object] = []
    tool = world.enforcer.tool(name="tool")(lambda: make(ran))
    with world.task(OPEN):
        steps = tool()
        assert ran == []
        next(steps)
        before = list(ran)
        assert outcomes(world) == []
    with pytest.raises(Denied) as caught:
        next(steps)
    assert caught.value.code == "task_ended"
    assert ran == before
    assert outcomes(world) == [("denied", "task_ended")]


def test_an_iterator_that_is_used_up_in_time_is_a_success(world: Any) -> None:
    """One intent and one outcome for each iterator, recorded when its end is known, however often it is asked."""
    tool = world.enforcer.tool(name="tool")(lambda: map(str, range(3)))
    with world.task(OPEN):
        steps = tool()
        assert outcomes(world) == []
        assert list(steps) == ["0", "1", "2"]
        assert list(steps) == []
    assert outcomes(world) == [("success", None)]
    assert len(world.records("intent")) == 1


def test_an_iterator_that_fails_is_an_error(world: Any) -> None:
    """What an iterator raises comes out, and stands in its outcome."""
    tool = world.enforcer.tool(name="tool")(lambda: map(int, ["1", "x"]))
    with world.task(OPEN), pytest.raises(ValueError, match="invalid literal"):
        list(tool())
    assert outcomes(world) == [("error", "ValueError")]


@pytest.mark.parametrize("by", ["function", "coroutine"])
def test_ac_26_no_step_of_an_async_iterator_runs_after_the_task(world: Any, by: str) -> None:
    """The same for async iterators, returned by a function or by a coroutine."""
    ran: list[object] = []

    async def coroutine() -> Any:
        return StepwiseLater(ran)

    tool = world.enforcer.tool(name="tool")((lambda: StepwiseLater(ran)) if by == "function" else coroutine)

    async def main() -> None:
        async with world.task(OPEN):
            steps = tool() if by == "function" else await tool()
            assert await anext(steps) == 1
        with pytest.raises(Denied):
            await anext(steps)

    asyncio.run(main())
    assert ran == ["step"]
    assert outcomes(world) == [("denied", "task_ended")]


def test_ac_26_an_async_generator_returned_by_a_coroutine_ends_with_the_task(world: Any) -> None:
    """``async def`` that returns an async generator is no success before that generator has ended."""
    ran: list[int] = []

    async def rows() -> AsyncIterator[int]:
        for number in range(3):
            ran.append(number)
            yield number

    @world.enforcer.tool(name="tool")
    async def tool() -> Any:
        return rows()

    async def main() -> None:
        async with world.task(OPEN):
            assert [row async for row in await tool()] == [0, 1, 2]
            late = await tool()
            await anext(late)
        with pytest.raises(Denied):
            await anext(late)

    asyncio.run(main())
    assert ran == [0, 1, 2, 0]
    assert outcomes(world) == [("success", None), ("denied", "task_ended")]


@pytest.mark.parametrize("kind", ["generator", "coroutine", "iterator"])
def test_ac_26_what_a_coroutine_returns_to_run_later_stays_under_guard(world: Any, kind: str) -> None:
    """Whatever shape a coroutine hands back, nothing of it runs after the task."""
    ran: list[object] = []

    def generator() -> Iterator[int]:
        ran.append("ran")
        yield 1

    async def coroutine() -> int:
        ran.append("ran")
        return 1

    @world.enforcer.tool(name="tool")
    async def tool() -> Any:
        return {"generator": generator, "coroutine": coroutine, "iterator": lambda: Stepwise(ran)}[kind]()

    async def main() -> None:
        async with world.task(OPEN):
            late = await tool()
        with pytest.raises(Denied):
            await late if kind == "coroutine" else next(late)

    asyncio.run(main())
    assert ran == []
    assert outcomes(world) == [("denied", "task_ended")]


# ----------------------------------------------------------------------------------------- awaitables


def test_ac_26_an_awaitable_asks_for_the_task_at_each_step(world: Any) -> None:
    """An awaitable that is no coroutine does not go on once its task has ended, wherever it waits."""
    ran: list[object] = []
    tool = world.enforcer.tool(name="tool")(lambda: Later(ran))

    async def main() -> None:
        async with world.task(OPEN):
            assert await tool() == "done"
            assert outcomes(world) == [("success", None)]
            ran.clear()
            late, waiting = tool(), asyncio.create_task(tool())
            await asyncio.sleep(0)
            assert ran == ["first"]
        with pytest.raises(Denied):
            await waiting
        with pytest.raises(Denied):
            await late

    asyncio.run(main())
    assert ran == ["first"]
    assert outcomes(world)[1:] == [("denied", "task_ended")] * 2


def test_ac_26_a_coroutine_that_waits_does_not_go_on_after_the_task(world: Any) -> None:
    """What a function returned and somebody awaits is stopped at the step after the end of its task."""
    ran: list[object] = []

    async def work(release: asyncio.Event) -> None:
        try:
            await release.wait()
            ran.append("went on")
        finally:
            ran.append("cleaned up")

    async def main() -> None:
        release = asyncio.Event()
        tool = world.enforcer.tool(name="tool")(lambda: work(release))
        async with world.task(OPEN):
            waiting = asyncio.create_task(tool())
            await asyncio.sleep(0)
        release.set()
        with pytest.raises(Denied):
            await waiting

    asyncio.run(main())
    assert ran == ["cleaned up"]
    assert outcomes(world) == [("denied", "task_ended")]


def test_ac_26_a_started_task_of_asyncio_is_cancelled_when_it_is_awaited_too_late(world: Any) -> None:
    """An ``asyncio.Task`` is awaited under guard: no success before its end, and a cancellation after the task's."""
    made: list[asyncio.Task[int]] = []

    async def work(wait: float) -> int:
        await asyncio.sleep(wait)
        return 1

    @world.enforcer.tool(name="tool")
    def tool(wait: float = 0) -> Any:
        made.append(asyncio.create_task(work(wait)))
        return made[-1]

    async def main() -> None:
        async with world.task(OPEN):
            early = tool()
            assert outcomes(world) == []
            assert await early == 1
            late = tool(3_600)
        with pytest.raises(Denied):
            await late
        with pytest.raises(asyncio.CancelledError):
            await made[1]

    asyncio.run(main())
    assert outcomes(world) == [("success", None), ("denied", "task_ended")]


def test_a_cancelled_awaitable_is_cancelled(world: Any) -> None:
    """A cancellation reaches the body, which may clean up, and is the outcome."""
    ran: list[object] = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ran.append("cleaned")

    tool = world.enforcer.tool(name="tool")(work)

    async def main() -> None:
        with world.task(OPEN):
            waiting = asyncio.create_task(tool())
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting

    asyncio.run(main())
    assert ran == ["cleaned"]
    assert outcomes(world) == [("cancelled", "CancelledError")]


@pytest.mark.parametrize("kind", ["generator", "iterator"])
def test_ac_26_what_an_awaited_result_returns_stays_under_guard(world: Any, kind: str) -> None:
    """A function that returns a coroutine that returns a generator has one outcome, when that generator has ended."""
    ran: list[object] = []

    async def work() -> Any:
        return (ran.append(number) for number in range(3)) if kind == "generator" else Stepwise(ran)

    def body() -> Any:
        return work()

    tool = world.enforcer.tool(name="tool")(body)

    async def main() -> None:
        async with world.task(OPEN):
            steps = await tool()
            next(steps)
            assert outcomes(world) == []
        with pytest.raises(Denied):
            next(steps)

    asyncio.run(main())
    assert len(ran) == 1
    assert outcomes(world) == [("denied", "task_ended")]


class Throwing:
    """An awaitable whose steps are a bare iterator, which takes no exceptions."""

    def __await__(self) -> Iterator[None]:
        return iter([None, None])


def test_an_awaitable_of_bare_steps_is_cancelled(world: Any) -> None:
    """The steps of an awaitable need not be a generator."""
    tool = world.enforcer.tool(name="tool")(Throwing)

    async def main() -> None:
        with world.task(OPEN):
            assert await tool() is None
            waiting = asyncio.create_task(tool())
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting

    asyncio.run(main())
    assert outcomes(world) == [("success", None), ("cancelled", "CancelledError")]


def test_an_awaitable_is_resumed_with_what_its_loop_sends(world: Any) -> None:
    """Event loops of other kinds send values; they reach the body."""
    got: list[object] = []

    class Asking:
        def __await__(self) -> Any:
            got.append((yield "question"))
            return "done"

    tool = world.enforcer.tool(name="tool")(Asking)
    with world.task(OPEN):
        steps = tool()
        assert steps.send(None) == "question"
        with pytest.raises(StopIteration) as stop:
            steps.send("answer")
    assert (stop.value.value, got) == ("done", ["answer"])


# ----------------------------------------------------------------------------------- context managers


@pytest.mark.parametrize("kind", ["contextmanager", "class"])
def test_ac_26_a_context_manager_is_entered_and_left_while_the_task_lives(world: Any, kind: str) -> None:
    """Entering and leaving are steps: too late, the first does not run, and the second only cleans up."""
    ran: list[object] = []

    @contextlib.contextmanager
    def generated() -> Iterator[str]:
        ran.append("enter")
        try:
            yield "entered"
        except BaseException as error:
            ran.append(type(error).__name__)
            raise
        else:
            ran.append("leave")

    tool = world.enforcer.tool(name="tool")(generated if kind == "contextmanager" else lambda: Block(ran))
    with world.task(OPEN):
        with tool() as value:
            assert (value, ran) == ("entered", ["enter"])
            assert outcomes(world) == []
        assert (ran, outcomes(world)) == (["enter", "leave"], [("success", None)])
        late = tool()
    ran.clear()
    with pytest.raises(Denied), late:
        raise AssertionError("the block ran")
    assert ran == []
    with world.task(OPEN) as task, pytest.raises(Denied), tool():
        task.end()
    assert ran == ["enter", "GeneratorExit"]
    assert outcomes(world)[1:] == [("denied", "task_ended")] * 2


@pytest.mark.parametrize("kind", ["asynccontextmanager", "class", "coroutine"])
def test_ac_26_an_async_context_manager_is_entered_and_left_while_the_task_lives(world: Any, kind: str) -> None:
    """The same for ``async with``, also where a coroutine returns the context manager."""
    ran: list[object] = []

    @contextlib.asynccontextmanager
    async def generated() -> AsyncIterator[str]:
        ran.append("enter")
        try:
            yield "entered"
        except BaseException as error:
            ran.append(type(error).__name__)
            raise
        else:
            ran.append("leave")

    async def coroutine() -> Any:
        return BlockLater(ran)

    bodies = {"asynccontextmanager": generated, "class": lambda: BlockLater(ran), "coroutine": coroutine}
    guarded = world.enforcer.tool(name="tool")(bodies[kind])

    async def tool() -> Any:
        return await guarded() if kind == "coroutine" else guarded()

    async def main() -> None:
        async with world.task(OPEN):
            async with await tool() as value:
                assert (value, ran) == ("entered", ["enter"])
            assert (ran, outcomes(world)) == (["enter", "leave"], [("success", None)])
            late = await tool()
        ran.clear()
        with pytest.raises(Denied):
            async with late:
                raise AssertionError("the block ran")
        assert ran == []
        async with world.task(OPEN) as task:
            with pytest.raises(Denied):
                async with await tool():
                    task.end()
        assert ran == ["enter", "GeneratorExit"]

    asyncio.run(main())
    assert outcomes(world)[1:] == [("denied", "task_ended")] * 2


def test_the_error_of_a_block_reaches_its_context_manager(world: Any) -> None:
    """An error of the block is the outcome where the context manager lets it pass, and none where it takes it."""
    tool = world.enforcer.tool(name="tool")(lambda x=None: contextlib.suppress(LookupError))
    with world.task(OPEN):
        with tool():
            raise LookupError
        with pytest.raises(ZeroDivisionError), tool():
            _ = 1 // 0
    assert outcomes(world) == [("success", None), ("error", "ZeroDivisionError")]


def test_ac_36_a_block_under_a_returned_context_manager_keeps_its_own_task(world: Any) -> None:
    """Who enters a context manager that another task's tool returned gets none of that task's authority."""
    inside: list[object] = []

    @contextlib.contextmanager
    def body() -> Iterator[None]:
        inside.append(world.enforcer.current_task)
        yield

    tool = world.enforcer.tool(name="tool")(body)
    with world.task(OPEN) as task:
        manager = tool()
        with world.enforcer.no_task(), manager:
            assert world.enforcer.current_task is None
    assert inside == [task]
    assert outcomes(world) == [("success", None)]


def test_a_context_manager_of_both_kinds_serves_both(world: Any) -> None:
    """What can be entered by ``with`` and ``async with`` still can, each time under guard."""
    tool = world.enforcer.tool(name="tool")(lambda: contextlib.nullcontext("entered"))

    async def main() -> None:
        with world.task(OPEN):
            with tool() as value:
                assert value == "entered"
            async with tool() as value:
                assert value == "entered"

    asyncio.run(main())
    assert outcomes(world) == [("success", None)] * 2


def test_a_returned_context_manager_is_entered_once(world: Any) -> None:
    """A second block would run without an intent of its own: it is refused, with a code and a record."""
    ran: list[object] = []
    tool = world.enforcer.tool(name="tool")(lambda: Block(ran))
    with world.task(OPEN):
        manager = tool()
        with manager:
            pass
        with world.refused("already_entered", digest=False), manager:
            raise AssertionError("the block ran")
    assert ran == ["enter", "leave"]


def test_a_value_that_is_blocked_is_not_entered(open_world: Callable[..., Any]) -> None:
    """What a context manager hands to its block is inspected, and the context manager is left again."""

    class Looks:
        def inspect(self, content: Content) -> list[Finding]:
            found = content.direction == "output" and content.value == "entered"
            return [Finding(category="forbidden", inspector="looks")] if found else []

    policy = RuleSet(Rule(Effect.BLOCK, when={"findings.categories": Contains("forbidden")}))
    world, ran = open_world(inspectors=[Looks()], policy=policy), []
    tool = world.enforcer.tool(name="tool")(lambda: Block(ran))
    with world.task(OPEN), pytest.raises(Denied) as caught, tool():
        raise AssertionError("the block ran")
    assert caught.value.code == "content_blocked"
    assert ran == ["enter", "GeneratorExit"]


# ------------------------------------------------------------------------------------ all other kinds


def others(folder: Path) -> dict[str, Callable[[], Any]]:
    """Return what makes results whose steps nobody can guard."""
    executor = concurrent.futures.ThreadPoolExecutor(1)
    (folder / "file").write_text("line\n")
    process = [sys.executable, "-c", ""]
    return {
        "future": lambda: executor.submit(int),
        "executor": lambda: executor,
        "thread": lambda: threading.Thread(target=int),
        "process": lambda: subprocess.Popen(process),
        "file": (folder / "file").open,
        "connection": database,
        "cursor": lambda: database().execute("select 1"),
        "iterator with methods": lambda: Cursor([]),
        "lock": threading.Lock,
        "in a list": lambda: [iter([1])],
        "in a dict": lambda: {"rows": [({"row": map(int, "1")},)]},
        "in a set": lambda: {concurrent.futures.Future()},
    }


def end(thing: object) -> None:
    """End what a test has made."""
    getattr(thing, "wait", int)()
    getattr(thing, "close", int)()


OTHERS = ("connection", "cursor", "executor", "file", "future", "iterator with methods", "lock", "process", "thread")
HELD = ("in a dict", "in a list", "in a set")


def ways_to_hand_out(make: Callable[[], Any]) -> dict[str, Callable[[], Any]]:
    """Return a body of each kind that hands out what is made."""

    async def coroutine() -> Any:
        return make()

    def generator() -> Any:
        yield make()

    async def async_generator() -> Any:
        yield make()

    def returning() -> Any:
        yield 1
        return make()

    return {
        "function": make,
        "coroutine": coroutine,
        "generator": generator,
        "async generator": async_generator,
        "return of a generator": returning,
    }


async def used(result: Any) -> None:
    """Use the result of a tool of any kind to its end."""
    if inspect.iscoroutine(result):
        await result
    elif isinstance(result, AsyncIterator):
        await anext(result)
    else:
        list(result)


@pytest.mark.parametrize("kind", [*OTHERS, *HELD])
@pytest.mark.parametrize("by", sorted(ways_to_hand_out(object)))
def test_ac_26_what_runs_on_out_of_reach_is_withheld(world: Any, tmp_path: Path, kind: str, by: str) -> None:
    """A result whose steps nobody can guard is no success: the caller does not get it, and the record says why."""
    made: list[Any] = []

    def make() -> Any:
        made.append(others(tmp_path)[kind]())
        return made[0]

    tool = world.enforcer.tool(name="tool")(ways_to_hand_out(make)[by])

    async def main() -> None:
        with world.task(OPEN), pytest.raises(ConfigurationError) as caught:
            await used(tool())
        assert caught.value.code == "lazy_result"

    asyncio.run(main())
    assert outcomes(world) == [("error", "lazy_result")]
    end(made[0])


@pytest.mark.parametrize("kind", [*OTHERS, *HELD])
def test_a_tool_may_say_that_its_results_live_on(world: Any, tmp_path: Path, kind: str) -> None:
    """With ``lazy="resource"`` the caller gets the very object, and the call has succeeded."""
    made: list[Any] = []

    @world.enforcer.tool(name="tool", lazy="resource")
    def tool() -> Any:
        made.append(others(tmp_path)[kind]())
        return made[0]

    with world.task(OPEN):
        assert tool() is made[0]
    assert outcomes(world) == [("success", None)]
    end(made[0])


def test_a_resource_is_handed_over_whatever_its_way_to_go_on(world: Any) -> None:
    """With ``lazy="resource"`` iterators, context managers and awaitables are not wrapped; generators still are."""
    ran: list[object] = []
    things = (iter([1]), contextlib.nullcontext(), Later(ran))
    tools = [world.enforcer.tool(name="tool", lazy="resource")(lambda thing=thing: thing) for thing in things]
    generator = world.enforcer.tool(name="tool", lazy="resource")(lambda: (ran.append(1) for _ in range(3)))
    with world.task(OPEN):
        assert [tool() for tool in tools] == list(things)
        steps = generator()
    with pytest.raises(Denied):
        next(steps)
    assert ran == []
    assert outcomes(world) == [("success", None)] * 3 + [("denied", "task_ended")]


def test_monitor_mode_hands_over_what_it_would_withhold(open_world: Callable[..., Any]) -> None:
    """In monitor mode the caller gets everything, and the record says what would have been withheld."""
    world = open_world(mode="monitor")
    tool = world.enforcer.tool(name="tool")(lambda: io.FileIO(__file__))
    with world.task(OPEN), tool() as file:
        assert file.readable()
    assert outcomes(world) == [("error", "lazy_result")]


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(io.BytesIO(b"x"), id="BytesIO"),
        pytest.param(io.StringIO("x"), id="StringIO"),
        pytest.param(Path("x"), id="Path"),
        pytest.param(memoryview(b"x"), id="memoryview"),
        pytest.param(range(3), id="range"),
        pytest.param({1: 2}.items(), id="view"),
        pytest.param(int, id="class"),
        pytest.param(len, id="callable"),
        pytest.param(ValueError("x"), id="exception"),
        pytest.param([{"row": (1, {2, "x"}, None)}, object()], id="containers"),
    ],
)
def test_what_only_looks_lazy_is_handed_over(world: Any, value: object) -> None:
    """Data in memory, containers and callables have run: the caller gets the very object."""
    tool = world.enforcer.tool(name="tool")(lambda: value)
    with world.task(OPEN):
        assert tool() is value
    assert outcomes(world) == [("success", None)]


def test_a_container_that_holds_itself_is_looked_through_once(world: Any) -> None:
    """A cycle ends the look, not the process."""
    rows: list[object] = [object()]
    rows.append(rows)
    tool = world.enforcer.tool(name="tool")(lambda: rows)
    with world.task(OPEN):
        assert tool() is rows


# ------------------------------------------------------------------------------------------ decoration


def refused_at_decoration() -> dict[str, Callable[..., object]]:
    """Return functions whose annotation shows what would be withheld."""

    def file() -> IO[str]: ...
    def connection() -> sqlite3.Connection | None: ...
    def annotated() -> Annotated[threading.Thread, "note"]: ...
    def nested() -> list[Iterator[int]]: ...
    def mapped() -> dict[str, concurrent.futures.Future[int]]: ...
    async def coroutine() -> io.TextIOWrapper: ...

    return {f.__name__: f for f in (file, connection, annotated, nested, mapped, coroutine)}


@pytest.mark.parametrize("name", sorted(refused_at_decoration()))
def test_an_annotation_that_shows_what_would_be_withheld_is_refused(world: Any, name: str) -> None:
    """The developer hears of it before any call, and may say that the result is a resource."""
    body = refused_at_decoration()[name]
    with pytest.raises(ConfigurationError) as caught:
        world.enforcer.tool(body)
    assert caught.value.code == "lazy_result"
    assert callable(world.enforcer.tool(lazy="resource")(body))


def test_annotations_of_what_can_be_driven_are_fine(world: Any) -> None:
    """Generators, iterators, awaitables and context managers are no reason to refuse a function."""

    def iterator() -> Iterator[int]: ...
    def manager() -> contextlib.AbstractContextManager[sqlite3.Connection]: ...
    def awaitable() -> Awaitable[int]: ...
    def data() -> list[dict[str, tuple[int, ...]]] | Any | str: ...

    @contextlib.contextmanager
    def generated() -> Iterator[sqlite3.Connection]:
        yield database()

    def generator() -> IO[str]:  # A wrong annotation of a generator shows nothing.
        yield

    for body in (iterator, manager, awaitable, data, generated, generator):
        assert callable(world.enforcer.tool(body))


def test_monitor_mode_warns_of_an_annotation(open_world: Callable[..., Any], caplog: Any) -> None:
    """Monitor mode refuses nothing, decoration included."""
    world = open_world(mode="monitor")
    with caplog.at_level(logging.WARNING, "agent_identity"):
        world.enforcer.tool(refused_at_decoration()["file"])
    assert "monitor mode: file: results of class IO" in caplog.text


@pytest.mark.parametrize(("lazy", "kind"), [("other", ConfigurationError), (True, TypeError), (object(), TypeError)])
def test_what_a_tool_says_of_its_results_is_one_word(world: Any, lazy: Any, kind: type[Exception]) -> None:
    """Anything but the one word is refused at decoration."""
    with pytest.raises(kind, match="lazy"):
        world.enforcer.tool(lazy=lazy)(int)


# ----------------------------------------------------------------------------------------- LangChain


def test_a_protected_tool_withholds_and_hands_over_alike(world: Any, tmp_path: Path) -> None:
    """``protect`` follows the same rule, by the annotation and by the result, and takes the same word."""
    tools = pytest.importorskip("langchain_core.tools")
    from agent_identity.integrations.langchain.protection import protect, unprotect

    def tool(x: str = "") -> Any:
        """Open a file."""
        opened.append((tmp_path / "file").open())
        return opened[-1]

    def shown() -> IO[str]:
        """Open a file."""
        raise AssertionError

    opened: list[Any] = []
    (tmp_path / "file").write_text("line\n")
    made = tools.StructuredTool.from_function(tool)
    protect(made, world.enforcer)
    with world.task(OPEN), pytest.raises(ConfigurationError) as caught:
        made.func()
    opened[0].close()
    assert caught.value.code == "lazy_result"
    with pytest.raises(ConfigurationError, match="lazy="):
        protect(made, world.enforcer, lazy="resource")
    protect(unprotect(made), world.enforcer, lazy="resource")
    protect([made], world.enforcer)
    with world.task(OPEN), made.func() as file:
        assert file.read() == "line\n"
    assert outcomes(world) == [("error", "lazy_result"), ("success", None)]
    bare = tools.StructuredTool.from_function(shown)
    with pytest.raises(ConfigurationError) as caught:
        protect([bare], world.enforcer)
    assert caught.value.code == "lazy_result"
    assert bare.func is shown
