"""Event loops: nothing of ours blocks one, what waited is judged by what is true then, and our failures have a name."""

import asyncio
import os
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from watching import WATCHES, Watch, as_langgraph_dev, run, strictly, unwatched

from agent_identity import Agent, Decision, Denied, Effect, Enforcer, Human, Request, Rule, RuleSet, Scope, Verifier
from agent_identity.approvals import Answer, Approval, ApprovalRequest
from agent_identity.errors import EvidenceError, PolicyBlocked
from agent_identity.limits import Limit
from agent_identity.options import Durability, Segments
from agent_identity.policy import Content
from agent_identity.state import SqliteState

ALICE, BOB = Human("alice@example.com"), Human("bob@example.com")
HELPER = Agent("helper", owner="finance@example.com")
OPEN = Scope({"tool": None})
ROUTED = RuleSet(Rule(Effect.ROUTE, tools="tool", reason="two people decide", id="four-eyes", to="desk"))


class Looking:
    """An inspector and a policy of somebody else, which note on which threads they run."""

    name, version, digest = "looking", "1", "A" * 43

    def __init__(self, then: Callable[[], object] = bool) -> None:
        self.threads: set[int] = set()
        self.then = then

    def inspect(self, content: Content) -> list[Any]:
        """Look as this inspector does."""
        assert content.tool
        self.threads.add(threading.get_ident())
        self.then()
        return []

    def decide(self, request: Request) -> Decision:
        """Decide as this policy does."""
        assert request.tool
        self.threads.add(threading.get_ident())
        self.then()
        return Decision(effect=Effect.ALLOW, reason="fine")


def async_tool(world: Any) -> Callable[..., Awaitable[object]]:
    """Return a guarded coroutine function that notes that it ran."""

    @world.enforcer.tool(name="tool")
    async def tool(x: object = None) -> object:
        world.ran.append(x)
        return x

    return tool


async def refused(code: str, pending: Awaitable[object]) -> Denied:
    """Return the refusal, whose code is this one."""
    with pytest.raises(Denied) as caught:
        await pending
    assert caught.value.code == code
    return caught.value


async def until(reached: Callable[[], bool]) -> None:
    """Let other coroutines and threads run until something holds."""
    async with asyncio.timeout(30):
        while not reached():  # noqa: ASYNC110  Threads set no events of asyncio.
            await asyncio.sleep(0)


@WATCHES
def test_limits_are_counted_off_the_loop(open_world: Callable[..., Any], watch: Watch) -> None:
    """Under the watch a coroutine tool has its three uses and no fourth, in a fresh directory and state."""
    world = open_world()
    tool = async_tool(world)

    async def main() -> None:
        async with world.task(OPEN, limits=[Limit.uses("tool", 3)]):
            for number in range(3):
                assert await tool(number) == number
            await refused("limit_exceeded", tool(4))

    run(watch, main)
    assert world.ran == [0, 1, 2]


@WATCHES
def test_a_revocation_takes_hold_in_coroutines(open_world: Callable[..., Any], watch: Watch) -> None:
    """Under the watch the next call after a revocation is refused with its code, and so is a new task, on record."""
    world = open_world()
    tool = async_tool(world)

    async def main() -> None:
        async with world.task(OPEN):
            assert await tool(1) == 1
            await asyncio.to_thread(world.enforcer.revoke, "agent", "another")
            assert await tool(2) == 2
            await asyncio.to_thread(world.enforcer.revoke, world.enforcer.current_task.agent)
            await refused("revoked", tool(3))
        denied = await refused("revoked", world.task(OPEN).__aenter__())
        assert denied.reference == world_records(world)[-1]["id"]

    def world_records(found: Any) -> list[dict]:
        with unwatched():
            return found.records("outcome")

    run(watch, main)
    assert world.ran == [1, 2]


@WATCHES
def test_tasks_open_delegate_and_end_off_the_loop(open_world: Callable[..., Any], watch: Watch) -> None:
    """Under the watch tasks, delegations, resumed tasks and actions open, act and end; the evidence verifies."""
    world = open_world()
    tool = async_tool(world)

    async def main() -> None:
        async with world.task(OPEN) as task:
            async with world.enforcer.delegate(HELPER, scope=OPEN) as part:
                assert await tool(1) == 1
                assert (await asyncio.gather(*(tool(number) for number in range(5)))) == [0, 1, 2, 3, 4]
            assert not part.lease.live
            async with world.enforcer.action("tool", x=2) as call:
                call.result = call.arguments["x"]
            carried = await asyncio.to_thread(world.enforcer.current_task.export)
            async with world.enforcer.accept(carried):
                assert await tool(3) == 3
        assert not task.lease.live
        await refused("no_task", tool(4))

    run(watch, main)
    world.enforcer.close()
    assert Verifier().ledger(world.directory).verdict == "verified"


@WATCHES
def test_generators_are_stepped_off_the_loop(open_world: Callable[..., Any], watch: Watch) -> None:
    """Under the watch an async generator of a limited task is judged, stepped, inspected and concluded."""
    looking = Looking()
    world = open_world(inspectors=[looking])

    @world.enforcer.tool(name="tool")
    async def tool() -> AsyncIterator[int]:
        for number in range(3):
            yield number

    async def main() -> None:
        async with world.task(OPEN, limits=[Limit.uses("tool", 2)]):
            assert [number async for number in tool()] == [0, 1, 2]
            stream = tool()
            assert await anext(stream) == 0
            await stream.aclose()
            with pytest.raises(Denied):
                await anext(tool())

    run(watch, main)
    assert [record["outcome"] for record in world.records("outcome")] == ["success", "cancelled", "denied"]
    assert looking.threads
    assert threading.get_ident() not in looking.threads


@WATCHES
def test_approvals_wait_off_the_loop(open_world: Callable[..., Any], watch: Watch) -> None:
    """Under the watch a request is filed, found pending, approved by a person and used once."""
    world = open_world(policy=ROUTED, routes={"desk": Approval()})
    tool = async_tool(world)

    def approve() -> None:
        with world.enforcer.no_task():
            (request,) = world.enforcer.approvals.pending()
            world.enforcer.approvals.approve(request.id, by=BOB)

    async def main() -> None:
        async with world.task(OPEN, limits=[Limit.uses("tool", 1)]):
            await refused("approval_pending", tool(1))
            await asyncio.to_thread(approve)
            assert await tool(1) == 1
            await refused("approval_pending", tool(1))

    run(watch, main)
    assert world.ran == [1]


@WATCHES
def test_a_coroutine_asks_a_person_on_the_loop(open_world: Callable[..., Any], watch: Watch) -> None:
    """Under the watch a desk that is a coroutine function runs on the loop and outside the task."""
    seen: list[object] = []

    async def ask(request: ApprovalRequest) -> Answer:
        seen.append(world.enforcer.current_task)
        await asyncio.sleep(0)
        return request.approve(by=BOB)

    world = open_world(policy=ROUTED, routes={"desk": Approval(ask=ask)})
    tool = async_tool(world)

    async def main() -> None:
        async with world.task(OPEN):
            assert await tool(1) == 1

    run(watch, main)
    assert seen == [None]


@WATCHES
def test_inspectors_and_policies_of_others_never_run_on_the_loop(open_world: Callable[..., Any], watch: Watch) -> None:
    """Inspectors and policies that block do so in worker threads, in the context of the call."""
    seen: list[object] = []

    def look() -> None:
        time.sleep(0)  # Which the watch refuses on a loop.
        seen.append(world.enforcer.current_task)

    looking = Looking(look)
    world = open_world(policy=looking, inspectors=[looking])
    tool = async_tool(world)

    async def main() -> None:
        async with world.task(OPEN) as task:
            assert await tool(1) == 1
            assert seen == [task] * 3

    run(watch, main)
    assert looking.threads
    assert threading.get_ident() not in looking.threads


def test_a_slow_inspector_leaves_the_loop_to_others(open_world: Callable[..., Any]) -> None:
    """While an inspector waits, other coroutines run: one of them is what it waits for."""
    turn = threading.Event()
    looking = Looking(lambda: turn.wait(30))
    world = open_world(inspectors=[looking])
    tool = async_tool(world)

    async def main() -> None:
        async with world.task(OPEN):
            call = asyncio.create_task(tool(1))
            await until(lambda: bool(looking.threads))
            turn.set()  # This coroutine runs though the inspector has not returned.
            assert await call == 1

    asyncio.run(main())


def test_calls_within_inspectors_do_not_wait_for_themselves(open_world: Callable[..., Any]) -> None:
    """More inspectors at a time than there are threads each run a coroutine tool of their own, and all come back."""
    looking = Looking()
    world = open_world(inspectors=[looking])
    outer, inner = async_tool(world), list[int]()
    nested = threading.local()
    meeting = threading.Barrier(32)

    @world.enforcer.tool(name="other")
    async def other() -> int:
        return 1

    def within() -> None:
        if not getattr(nested, "here", False) and len(inner) < 64:
            nested.here = True
            inner.append(1)
            try:
                meeting.wait(30)  # All threads of the pool are taken now.
            except threading.BrokenBarrierError:  # pragma: no cover
                raise AssertionError from None
            try:
                asyncio.run(asyncio.wait_for(other(), 60))
            finally:
                nested.here = False

    looking.then = within

    async def main() -> None:
        async with world.task(Scope({"tool": None, "other": None})):
            assert len(await asyncio.gather(*(outer(number) for number in range(32)))) == 32

    asyncio.run(main())


@asynccontextmanager
async def locked_state(world: Any) -> AsyncIterator[None]:
    """Hold the write lock of the state for the block, as another process does."""

    def lock() -> sqlite3.Connection:
        path = world.directory / "state" / "state.sqlite"
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        connection.execute("BEGIN IMMEDIATE")
        return connection

    connection = await asyncio.to_thread(lock)
    try:
        yield
    finally:
        await asyncio.to_thread(connection.close)


@pytest.fixture
def debiting(monkeypatch: pytest.MonkeyPatch) -> threading.Semaphore:
    """Counts the debits that the state was asked for; whoever acquires it knows of one more."""
    asked, original = threading.Semaphore(0), SqliteState.debit

    def debit(self: SqliteState, *args: Any, **kwargs: Any) -> int | None:
        asked.release()
        return original(self, *args, **kwargs)

    monkeypatch.setattr(SqliteState, "debit", debit)
    return asked


def test_a_lock_of_another_process_stops_no_other_coroutine(
    open_world: Callable[..., Any], debiting: threading.Semaphore
) -> None:
    """While a limited call waits for the state that another process has locked, other calls are judged and run."""
    world = open_world()
    limited = async_tool(world)

    @world.enforcer.tool(name="free")
    async def free(x: int) -> int:
        return x

    async def main() -> None:
        async with world.task(OPEN, limits=[Limit.uses("tool", 9)]):
            assert await limited(0) == 0  # The file is there.
            await asyncio.to_thread(debiting.acquire)
            async with locked_state(world):
                waiting = asyncio.create_task(limited(1))
                await asyncio.to_thread(debiting.acquire)
                async with world.task(Scope("free")):
                    for number in range(50):
                        assert await free(number) == number
                assert not waiting.done()
                assert world.ran == [0]
            assert await waiting == 1

    run(as_langgraph_dev, main)
    assert world.ran == [0, 1]


def test_a_call_that_is_cancelled_while_the_state_is_locked_gives_back_what_it_took(
    open_world: Callable[..., Any], debiting: threading.Semaphore
) -> None:
    """The debit that succeeds after the cancellation is credited, the record says so, and the use is there again."""
    world = open_world()
    tool = async_tool(world)

    async def main() -> None:
        async with world.task(OPEN, limits=[Limit.uses("tool", 2)]):
            assert await tool(0) == 0
            await asyncio.to_thread(debiting.acquire)
            async with locked_state(world):
                waiting = asyncio.create_task(tool(1))
                await asyncio.to_thread(debiting.acquire)
                waiting.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await waiting
                assert cancelled(world) == 0
            await until(lambda: cancelled(world) == 1)
            assert await tool(2) == 2
            await refused("limit_exceeded", tool(3))

    asyncio.run(main())
    assert world.ran == [0, 2]
    world.enforcer.close()
    assert Verifier().ledger(world.directory).verdict == "verified"


def cancelled(world: Any) -> int:
    """Return how many calls are on record as cancelled before they ran."""
    return sum(record.get("error") == "call_cancelled" for record in world.records("outcome"))


def test_a_task_that_ends_while_its_call_waits_runs_no_body(open_world: Callable[..., Any]) -> None:
    """An inspector is still looking when the task ends: the call is refused, and its body never starts."""
    turn = threading.Event()
    looking = Looking(lambda: turn.wait(30))
    world = open_world(inspectors=[looking])
    tool = async_tool(world)

    async def main() -> None:
        async with world.task(OPEN):
            call = asyncio.create_task(tool(1))
            await until(lambda: bool(looking.threads))
        turn.set()
        await refused("task_ended", call)

    asyncio.run(main())
    assert world.ran == []


def test_a_task_that_ends_before_the_loop_comes_back_runs_no_body(open_world: Callable[..., Any]) -> None:
    """A thread has written the intent; the loop ends the task before it begins the body, which then never does."""
    world = open_world(inspectors=[Looking()])
    tool = async_tool(world)

    async def main() -> None:
        async with world.task(OPEN) as task:
            call = asyncio.create_task(tool(1))
            await asyncio.sleep(0)  # It is in the thread now.
            with unwatched():
                while not world.records("intent"):  # Nothing else runs on this loop until the intent is there.
                    time.sleep(0)  # noqa: ASYNC251
            task.end()
            await refused("task_ended", call)

    asyncio.run(main())
    assert world.ran == []
    assert [record["outcome"] for record in world.records("outcome")] == ["denied"]


def test_an_opening_that_is_cancelled_leaves_no_task(open_world: Callable[..., Any]) -> None:
    """A task whose opening is cancelled while the state is locked ends in the thread that opens it, on record."""
    world = open_world()
    tool = async_tool(world)

    async def main() -> None:
        async with world.task(OPEN, limits=[Limit.uses("tool", 9)]):
            assert await tool(1) == 1
        opening = asyncio.create_task(world.task(OPEN).__aenter__())
        await asyncio.sleep(0)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        await refused("no_task", tool(2))

    asyncio.run(main())
    world.enforcer.close()
    starts, ends = world.records("task_start"), world.records("task_end")
    assert [record["task"]["id"] for record in starts] == [record["task"]["id"] for record in ends]


def test_the_disk_is_never_waited_for_on_the_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With sync="disk" every record of a coroutine tool and of its task is synced in a thread."""
    seen: list[int] = []
    for name in ("fsync", "fdatasync"):
        original = getattr(os, name)

        def sync(fd: int, original: Callable[[int], None] = original) -> None:
            seen.append(threading.get_ident())
            original(fd)

        monkeypatch.setattr(f"os.{name}", sync)
    enforcer = Enforcer.open(tmp_path / "evidence", durability=Durability(sync="disk"))

    @enforcer.tool(name="tool")
    async def tool(x: int) -> int:
        return x

    async def main() -> None:
        seen.clear()
        async with enforcer.task("a purpose", principal=ALICE, agent=HELPER, scope=OPEN):
            assert await tool(1) == 1
        await refused("no_task", tool(2))

    run(strictly, main)
    on_loop = seen.count(threading.get_ident())
    assert seen
    assert on_loop == 0
    enforcer.close()


def test_the_file_of_records_is_turned_over_off_the_loop(tmp_path: Path) -> None:
    """A stream whose segments are full goes on in the next one under the strict watch, and nothing is lost."""
    enforcer = Enforcer.open(tmp_path / "evidence", durability=Durability(segments=Segments(max_bytes=65_536)))

    @enforcer.tool(name="tool")
    async def tool(x: int) -> int:
        return x

    async def main() -> None:
        async with enforcer.task("a purpose", principal=ALICE, agent=HELPER, scope=OPEN):
            for number in range(120):
                assert await tool(number) == number

    run(strictly, main)
    enforcer.close()
    assert Verifier().ledger(tmp_path / "evidence").verdict == "verified"


def test_a_directory_that_is_gone_refuses_within_a_bounded_time(
    open_world: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The look at the directory runs in the background; what it finds refuses the next call, and none runs unseen."""
    world = open_world()
    tool = async_tool(world)
    state = "agent_identity._authority.stores.directory"

    async def main() -> None:
        async with world.task(OPEN):
            assert await tool(1) == 1
            (world.directory / "state" / "news").rename(world.directory / "state" / "gone")
            late = time.monotonic_ns() + 2_000_000_000
            monkeypatch.setattr(f"{state}.time.monotonic_ns", lambda: late)
            await refused("state_unavailable", tool(2))

    asyncio.run(main())
    assert world.ran == [1]


@WATCHES
def test_a_sync_tool_on_a_watched_loop_leaves_the_look_at_the_directory_to_a_thread(
    open_world: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, watch: Watch
) -> None:
    """A function that needs nothing but its records runs there also when the directory is to be looked at again."""
    world = open_world()
    tool = world.tool()
    later = time.monotonic_ns() + 500_000_000

    async def main() -> None:
        async with world.task(OPEN):
            monkeypatch.setattr("agent_identity._authority.stores.directory.time.monotonic_ns", lambda: later)
            assert tool(1) == 1

    run(watch, main)
    assert len(world.ran) == 1


def test_a_directory_that_is_gone_refuses_plain_calls_soon(
    open_world: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a loop the caller looks for itself, five times a second, and what it finds refuses this very call."""
    world = open_world()
    tool = world.tool()
    with world.task(OPEN):
        assert tool(1) == 1
        (world.directory / "state" / "news").rename(world.directory / "state" / "gone")
        later = time.monotonic_ns() + 201_000_000
        monkeypatch.setattr("agent_identity._authority.stores.directory.time.monotonic_ns", lambda: later)
        with pytest.raises(Denied) as caught:
            tool(2)
        assert caught.value.code == "state_unavailable"
    assert len(world.ran) == 1


@WATCHES
def test_a_sync_tool_on_a_watched_loop_is_refused_with_our_place_and_a_cure(
    open_world: Callable[..., Any], watch: Watch
) -> None:
    """A function that is called on the loop cannot be helped; its refusal says where we failed, and the way out."""
    world = open_world()
    tool = world.tool()

    async def main() -> None:
        async with world.task(OPEN, limits=[Limit.uses("tool", 3)]):
            with pytest.raises(Denied) as caught:
                tool(1)
            assert caught.value.code == "guard_failed"
            assert "agent_identity._authority" in str(caught.value)
            assert "coroutine function" in str(caught.value)
            assert "blockbuster" not in str(caught.value)
            assert caught.value.reference

    run(watch, main)
    assert world.ran == []


@WATCHES
def test_a_plain_with_on_a_watched_loop_has_a_code_and_a_record(open_world: Callable[..., Any], watch: Watch) -> None:
    """Once anything is revoked, a task opened by a plain 'with' in a coroutine is refused with code, place and cure."""
    world = open_world()
    world.enforcer.revoke("agent", "another")
    other = Enforcer.open(world.directory)  # As another process does, which has not read the list yet.

    async def main() -> None:
        with pytest.raises(Denied) as caught, other.task("p", principal=ALICE, agent=HELPER, scope=OPEN):
            raise AssertionError
        assert caught.value.code == "guard_failed"
        assert "agent_identity._authority" in str(caught.value)
        assert "async with" in str(caught.value)
        with unwatched():
            records = world.records("outcome")
        assert caught.value.reference in [record["id"] for record in records]
        async with other.task("p", principal=ALICE, agent=HELPER, scope=OPEN):
            pass

    run(watch, main)
    other.close()


def test_our_own_failure_names_our_place_and_a_cure(open_world: Callable[..., Any]) -> None:
    """An inspector, a desk and a signer that raise: each refusal names the function of ours that met it."""

    def breaks() -> None:
        raise OSError("a secret path")

    world = open_world(inspectors=[Looking(breaks)])
    with world.task(OPEN), pytest.raises(Denied) as caught:
        world.tool()(1)
    assert caught.value.code == "guard_failed"
    assert "agent_identity._inspection.running:" in str(caught.value)
    assert "the log has the line" in str(caught.value)
    assert "secret" not in str(caught.value)

    def ask(_: ApprovalRequest) -> Answer:
        raise OSError("a secret path")

    world = open_world(policy=ROUTED, routes={"desk": Approval(ask=ask)})
    with world.task(OPEN), pytest.raises(Denied) as caught:
        world.tool()(1)
    assert caught.value.code == "approval_failed"
    assert "agent_identity._guard.approvals.service:Approvals.decide" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_many_calls_at_once_in_one_limit_never_overspend(open_world: Callable[..., Any]) -> None:
    """Forty coroutines share ten uses: ten run, thirty are refused, in whatever order threads count them."""
    world = open_world()
    tool = async_tool(world)

    async def main() -> None:
        async with world.task(OPEN, limits=[Limit.uses("tool", 10)]):
            answers = await asyncio.gather(*(tool(number) for number in range(40)), return_exceptions=True)
        codes = [answer.code for answer in answers if isinstance(answer, Denied)]
        assert codes == ["limit_exceeded"] * 30

    asyncio.run(main())
    assert len(world.ran) == 10


def test_a_store_of_others_is_asked_off_the_loop(tmp_path: Path) -> None:
    """A store that the application gives is never asked on the loop, for it may be on the network."""
    seen: set[int] = set()

    class Store:
        """A store that notes its threads."""

        def __init__(self) -> None:
            self._inner = SqliteState(tmp_path / "shared.sqlite")

        def __getattr__(self, name: str) -> object:
            seen.add(threading.get_ident())
            return getattr(self._inner, name)

    store = Store()
    enforcer = Enforcer.open(tmp_path / "evidence", state=store)  # type: ignore[arg-type]

    @enforcer.tool(name="tool")
    async def tool(x: int) -> int:
        return x

    async def main() -> None:
        seen.clear()
        limits = [Limit.uses("tool", 2)]
        async with enforcer.task("a purpose", principal=ALICE, agent=HELPER, scope=OPEN, limits=limits):
            assert await tool(1) == 1
        async with enforcer.task("a purpose", principal=ALICE, agent=HELPER, scope=OPEN):
            assert await tool(1) == 1

    run(strictly, main)
    assert seen
    assert threading.get_ident() not in seen
    enforcer.close()
    store._inner.close()


def test_what_cannot_be_recorded_still_runs_nothing(open_world: Callable[..., Any]) -> None:
    """A closed ledger refuses coroutine tools with a code, on the loop and off it."""
    world = open_world()
    tool = async_tool(world)

    async def main() -> None:
        async with world.task(OPEN):
            pass
        await asyncio.to_thread(world.enforcer.close)
        with pytest.raises((EvidenceError, PolicyBlocked)) as caught:
            await tool(1)
        assert caught.value.code == "ledger_closed"

    asyncio.run(main())
    assert world.ran == []
