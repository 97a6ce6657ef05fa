"""A guarded body has the authority of its task and no other: it opens no task for others, and decides nothing."""

import asyncio
import contextlib
import contextvars
import logging
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry import context as otel

import agent_identity
from agent_identity import Agent, Denied, Effect, Enforcer, Finding, Human, Rule, RuleSet, Scope, Service, Verifier
from agent_identity._guard.lifecycle.bound_streams import bind_stream
from agent_identity.approvals import Approval, ApprovalRequest
from agent_identity.delegation import Peer
from agent_identity.errors import AttenuationError, ConfigurationError, LimitExceeded
from agent_identity.integrations.http import asgi, wsgi
from agent_identity.integrations.http.httpx import AsyncDelegationTransport, DelegationTransport
from agent_identity.integrations.http.server import Gate
from agent_identity.limits import Limit
from agent_identity.options import Sources
from agent_identity.policy import Content

ALICE, BOB = Human("alice@example.com"), Human("bob@example.com")
CLERK = Agent("invoice-clerk", owner="finance@example.com")
HELPER = Agent("helper", owner="finance@example.com")
SCOPE = Scope({"act": None, "read": None})

Act = Callable[[], object]


def open_for(enforcer: Enforcer, principal: Any, scope: Scope = SCOPE, **options: Any) -> str:
    """Open a task, and return its id."""
    with enforcer.task("on the side", principal=principal, agent=HELPER, scope=scope, **options) as task:
        return task.id


def in_function(world: Any, act: Act) -> None:
    """Act in the body of a function."""
    world.enforcer.tool(name="act")(act)()


def in_coroutine(world: Any, act: Act) -> None:
    """Act in the body of a coroutine function."""

    @world.enforcer.tool(name="act")
    async def body() -> None:
        await asyncio.sleep(0)
        act()

    asyncio.run(body())


def in_generator(world: Any, act: Act) -> None:
    """Act at the second step of a generator, which the host advances."""

    @world.enforcer.tool(name="act")
    def body() -> Iterator[int]:
        yield 1
        act()
        yield 2

    assert list(body()) == [1, 2]


def in_async_generator(world: Any, act: Act) -> None:
    """Act at the second step of an async generator."""

    @world.enforcer.tool(name="act")
    async def body() -> AsyncIterator[int]:
        yield 1
        act()
        yield 2

    async def consume() -> None:
        assert [item async for item in body()] == [1, 2]

    asyncio.run(consume())


def in_block(world: Any, act: Act) -> None:
    """Act in a guarded block."""
    with world.enforcer.action("act"):
        act()


def in_async_block(world: Any, act: Act) -> None:
    """Act in a guarded block of a coroutine."""

    async def run() -> None:
        async with world.enforcer.action("act"):
            act()

    asyncio.run(run())


def in_thread(world: Any, act: Act) -> None:
    """Act in a thread into which the body carries its task."""

    @world.enforcer.tool(name="act")
    def body() -> None:
        with ThreadPoolExecutor(1) as pool:
            pool.submit(world.enforcer.bind(act)).result()

    body()


def in_another_thread(world: Any, act: Act) -> None:
    """Act in a thread of the event loop."""

    @world.enforcer.tool(name="act")
    async def body() -> None:
        await asyncio.to_thread(act)

    asyncio.run(body())


def in_background(world: Any, act: Act) -> None:
    """Act in an asyncio task that the body leaves behind."""
    left: list[asyncio.Task[object]] = []

    @world.enforcer.tool(name="act")
    async def body() -> None:
        async def later() -> None:
            act()

        left.append(asyncio.create_task(later()))

    async def run() -> None:
        await body()
        await left[0]

    asyncio.run(run())


def bound_outside(world: Any, act: Act) -> None:
    """Act in a function that was bound before any body ran."""
    with world.enforcer.no_task():
        bound = world.enforcer.bind(act)
    world.enforcer.tool(name="act")(bound)()


def without_task(world: Any, act: Act) -> None:
    """Act in a body that hides its task."""

    @world.enforcer.tool(name="act")
    def body() -> None:
        with world.enforcer.no_task():
            act()

    body()


PLACES = [
    in_function,
    in_coroutine,
    in_generator,
    in_async_generator,
    in_block,
    in_async_block,
    in_thread,
    in_another_thread,
    in_background,
    bound_outside,
    without_task,
]


@contextlib.contextmanager
def refused(world: Any, code: str, caplog: pytest.LogCaptureFixture, kind: type[Exception] = Denied) -> Iterator[None]:
    """Prove that what is done within is refused: a code, one record of the open task, and the task in the log."""
    before = len(world.records())
    with caplog.at_level(logging.WARNING, "agent_identity"), pytest.raises(kind) as caught:
        yield
    assert caught.value.code == code
    found = [record for record in world.records()[before:] if record.get("error") == code]
    assert [record["outcome"] for record in found] == ["denied"]
    assert found[0]["principal"]["id"] == "alice@example.com"
    assert found[0]["id"] == caught.value.reference
    assert any(found[0]["task"]["id"] in line and code in line for line in caplog.messages)


@pytest.mark.parametrize("place", PLACES)
def test_a_body_opens_no_task_for_another_principal(
    world: Any, caplog: pytest.LogCaptureFixture, place: Callable[[Any, Act], None]
) -> None:
    """Wherever its code runs, and whatever it hides of its context, Alice's tool does not become Bob."""
    with world.task(SCOPE), refused(world, "task_in_body", caplog):
        place(world, lambda: open_for(world.enforcer, BOB))
    (record,) = [record for record in world.records("outcome") if record.get("error") == "task_in_body"]
    assert record["action"]["principal"]["id"] == "bob@example.com"
    assert record["action"]["agent"]["id"] == "helper"
    assert {record["principal"]["id"] for record in world.records("grant", "task_start")} == {"alice@example.com"}
    world.enforcer.close()
    assert Verifier().ledger(world.directory).verdict == "verified"


def test_a_task_that_was_prepared_outside_opens_in_no_body(world: Any, caplog: pytest.LogCaptureFixture) -> None:
    """What counts is where a task is entered, in a coroutine as well, not where it was asked for."""
    for_bob = [world.enforcer.task("p", principal=BOB, agent=HELPER, scope=SCOPE) for _ in range(2)]

    async def enter() -> None:
        async with for_bob[1]:
            pass

    with world.task(SCOPE):
        with refused(world, "task_in_body", caplog):
            in_function(world, for_bob[0].__enter__)
        with refused(world, "task_in_body", caplog):
            asyncio.run(world.enforcer.tool(name="act")(enter)())


def test_a_stream_that_was_bound_outside_is_consumed_by_a_body(world: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Each step of a bound stream has the task of where it was bound, and the marker of where it is consumed."""
    streams = pytest.importorskip("agent_identity.integrations.langchain", reason="LangChain is not installed")

    def steps() -> Iterator[str]:
        yield open_for(world.enforcer, BOB)

    with world.enforcer.no_task():
        stream = streams.bind_stream(steps())
    with world.task(SCOPE), refused(world, "task_in_body", caplog):
        in_function(world, lambda: next(stream))


def test_a_bound_stream_that_goes_on_in_a_block_has_the_marker_of_its_consumer(
    world: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """What a stream had opened before a pause does not take it out of the body that consumes it then."""

    def steps() -> Iterator[str]:
        with world.enforcer.no_task():
            yield "outside"
            yield open_for(world.enforcer, BOB)

    stream = bind_stream(steps())
    assert next(stream) == "outside"
    with world.task(SCOPE), refused(world, "task_in_body", caplog):
        in_function(world, lambda: next(stream))


def test_a_handler_of_a_route_is_a_body(open_world: Any, caplog: pytest.LogCaptureFixture) -> None:
    """What runs in place of the body has its authority, and no more."""
    world = open_world(
        policy=RuleSet(Rule(Effect.ROUTE, tools="act", to="elsewhere")),
        routes={"elsewhere": lambda call: open_for(world.enforcer, BOB)},
    )
    with world.task(SCOPE), refused(world, "task_in_body", caplog):
        in_function(world, lambda: None)


@pytest.mark.parametrize("place", [in_function, without_task, in_background])
def test_a_body_opens_nothing_wider_for_its_own_principal(
    world: Any, caplog: pytest.LogCaptureFixture, place: Callable[[Any, Act], None]
) -> None:
    """A tool that may read does not get to wipe by opening a task for the same Alice."""
    wiped = world.tool("wipe")

    def act() -> None:
        with world.enforcer.task("wipe", principal=ALICE, agent=CLERK, scope=Scope("wipe")):
            wiped()

    with world.task(SCOPE), refused(world, "tool_not_attenuated", caplog, AttenuationError):
        place(world, act)
    assert world.ran == []


@pytest.mark.parametrize("place", [in_function, in_coroutine, without_task, in_thread])
def test_a_body_opens_a_part_of_its_task_for_its_own_principal(world: Any, place: Callable[[Any, Act], None]) -> None:
    """It has the id of the tool's task, its root grant, its end and its expiry, and works as one opened outside."""
    read, seen = world.tool("read"), []

    def act() -> None:
        part = world.enforcer.task("read", principal=ALICE, agent=HELPER, scope=Scope("read"), ttl=timedelta(hours=9))
        with part as task:
            read("a")
            seen.append(task)

    with world.task(SCOPE, ttl=timedelta(minutes=1)) as outer:
        place(world, act)
        (part,) = seen
        assert part.id == outer.id
        assert part.chain.grants[0] == outer.grant
        assert [grant.agent.id for grant in part.chain.grants] == ["invoice-clerk", "helper"]
        assert part.expires_at <= outer.expires_at
        assert part.purpose == "read"
    world.enforcer.close()
    assert Verifier().ledger(world.directory).verdict == "verified"


def test_a_part_ends_with_the_task_of_its_body(world: Any) -> None:
    """Ending the outer task ends what a body opened in it, in the middle of that block."""
    read = world.tool("read")

    def act() -> None:
        with world.enforcer.task("read", principal=ALICE, agent=HELPER, scope=Scope("read")):
            outer.end()
            read("a")

    with world.task(SCOPE) as outer, pytest.raises(Denied) as caught:
        in_function(world, act)
    assert caught.value.code == "task_ended"
    assert world.ran == []


def test_a_part_shares_the_limits_and_the_depth_of_its_task(world: Any) -> None:
    """A new task is no new account, and no deeper chain: options of a part may only narrow."""
    read = world.tool("read")

    def part(**options: Any) -> Any:
        return world.enforcer.task("read", principal=ALICE, agent=HELPER, scope=Scope("read"), **options)

    def overspend() -> None:
        read(1)
        with part():
            read(2)

    def own_limits() -> None:
        with part(limits=[Limit.uses("read", 100)]):
            pass

    def deeper() -> None:
        with part(max_depth=0) as first:
            assert first.grant.max_depth == first.grant.depth == 1
            with part():
                pass

    with world.task(SCOPE, limits=[Limit.uses("read", 1)]):
        with pytest.raises(LimitExceeded):
            in_function(world, overspend)
        for act, code in ((own_limits, "limits_changed"), (deeper, "too_deep")):
            with pytest.raises(AttenuationError) as caught:
                in_function(world, act)
            assert caught.value.code == code
    assert [record["error"] for record in world.records("outcome") if record["outcome"] == "denied"] == [
        "limit_exceeded",
        "limits_changed",
        "too_deep",
    ]


def test_the_principal_at_another_issuer_is_another_principal(world: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Neither the same id at some issuer nor a service of that name is Alice."""
    for other in (Human(ALICE.id, issuer="https://login.example.com"), Service(ALICE.id)):
        with world.task(SCOPE), refused(world, "task_in_body", caplog):
            in_function(world, lambda other=other: open_for(world.enforcer, other))


def test_a_second_enforcer_is_no_way_round(open_world: Any, caplog: pytest.LogCaptureFixture) -> None:
    """The marker is one for the process: neither Bob nor Alice again, for her root grant is of another issuer."""
    first, second = open_world(), open_world()
    for principal in (BOB, ALICE):
        with first.task(SCOPE), caplog.at_level(logging.WARNING, "agent_identity"), pytest.raises(Denied) as caught:
            in_function(first, lambda principal=principal: open_for(second.enforcer, principal))
        assert caught.value.code == "task_in_body"
        (outcome,) = second.records("outcome")[-1:]
        assert (outcome["outcome"], outcome["attribution"]) == ("denied", "none")
        assert outcome["action"]["principal"]["id"] == principal.id
        assert outcome["id"] == caught.value.reference
    assert {name for name in ("grant", "task_start") if second.records(name)} == set()


def test_an_enforcer_that_the_body_opens_is_no_way_round(world: Any, tmp_path: Path) -> None:
    """Not with a list of its own, not in monitor mode, and not by an inspector of its own."""

    class Side:
        def inspect(self, content: Content) -> tuple[Finding, ...]:
            open_for(world.enforcer, BOB)
            return ()

    def listed() -> None:
        with pytest.raises(ConfigurationError, match="nested"):
            Enforcer.open(tmp_path / "own", nested=[BOB])
        assert not (tmp_path / "own").exists()

    def monitored() -> None:
        with Enforcer.open(tmp_path / "monitor", mode="monitor") as own, pytest.raises(Denied) as caught:
            open_for(own, BOB)
        assert caught.value.code == "task_in_body"

    def inspected() -> None:
        carried = world.enforcer.current_task.export()
        side = Enforcer.open(world.directory, inspectors=[Side()], sources=Sources(clock=world.clock))
        with side as own, own.accept(carried), pytest.raises(Denied):
            own.tool(name="read")(lambda: None)()

    with world.task(SCOPE):
        for act in (listed, monitored, inspected):
            in_function(world, act)
    assert {record["principal"]["id"] for record in world.records("grant")} == {"alice@example.com"}


@pytest.mark.parametrize("nested", [[BOB], {BOB}, lambda principal: principal.id == BOB.id])
def test_who_is_listed_gets_a_task_of_their_own(open_world: Any, caplog: pytest.LogCaptureFixture, nested: Any) -> None:
    """The application says for whom tools may act, when it opens the enforcer; the log names the outer task."""
    world = open_world(nested=nested)
    wipe, ids = world.tool("wipe"), []

    def act() -> None:
        with world.enforcer.task("wipe", principal=BOB, agent=HELPER, scope=Scope("wipe")) as task:
            wipe()
            ids.append(task.id)

    with world.task(SCOPE) as outer, caplog.at_level(logging.INFO, "agent_identity"):
        in_function(world, act)
        assert ids != [outer.id]
        assert any(ids[0] in line and outer.id in line for line in caplog.messages)
        with refused(world, "task_in_body", caplog):
            in_function(world, lambda: open_for(world.enforcer, Human("carol@example.com")))
    assert world.ran == [("wipe", None, {})]


def test_who_is_listed_does_not_list_others(open_world: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Inside the task of a listed principal the body is still marked; roles are part of who is listed."""
    world = open_world(nested=[BOB])

    def act() -> None:
        with world.enforcer.task("p", principal=BOB, agent=HELPER, scope=SCOPE), world.enforcer.no_task():
            open_for(world.enforcer, Human("carol@example.com"))

    with world.task(SCOPE):
        with refused(world, "task_in_body", caplog):
            in_function(world, act)
        with refused(world, "task_in_body", caplog):
            in_function(world, lambda: open_for(world.enforcer, Human(BOB.id, roles=("admin",))))


def _broken(_principal: object) -> bool:
    raise LookupError("the directory of people is down")


@pytest.mark.parametrize("nested", [_broken, lambda principal: "yes", lambda principal: None])
def test_a_list_that_gives_no_answer_lists_nobody(
    open_world: Any, caplog: pytest.LogCaptureFixture, nested: Any
) -> None:
    """A function that raises, or returns anything but True, lets nobody in."""
    world = open_world(nested=nested)
    with world.task(SCOPE), refused(world, "task_in_body", caplog):
        in_function(world, lambda: open_for(world.enforcer, BOB))


@pytest.mark.parametrize("nested", ["bob@example.com", BOB, [BOB, "carol"], 1])
def test_a_list_of_something_else_is_a_type_error(tmp_path: Path, nested: Any) -> None:
    """A name is no principal, and nothing is made on disk."""
    with pytest.raises(TypeError, match="nested"):
        Enforcer.open(tmp_path / "evidence", nested=nested)
    assert not (tmp_path / "evidence").exists()


# --- what people decide


def _with_request(open_world: Any) -> tuple[Any, str]:
    """Return a world in which a call of a running task waits for a person, and the id of the request."""
    world = open_world(
        policy=RuleSet(Rule(Effect.ROUTE, tools="pay", to="desk"), Rule(Effect.ALLOW)), routes={"desk": Approval()}
    )
    return world, "pay"


@pytest.mark.parametrize("decision", ["approve", "reject"])
@pytest.mark.parametrize("place", [in_function, without_task, in_thread])
def test_ac_64_a_body_does_not_decide_about_calls(
    open_world: Any, caplog: pytest.LogCaptureFixture, place: Callable[[Any, Act], None], decision: str
) -> None:
    """Not as Bob, and not outside its task: the request waits on, for a person."""
    world, name = _with_request(open_world)
    pay = world.tool(name)
    with world.task(Scope({"act": None, name: None})):
        with pytest.raises(Denied):
            pay(1)
        (request,) = world.enforcer.approvals.pending()
        with refused(world, "approval_in_body", caplog):
            place(world, lambda: getattr(world.enforcer.approvals, decision)(request.id, by=BOB))
        assert world.enforcer.approvals.pending() == (request,)
        with world.enforcer.no_task():  # A person, outside any body.
            world.enforcer.approvals.approve(request.id, by=BOB)
        pay(1)
    assert world.ran == [("pay", 1, {})]


def test_a_desk_that_is_asked_for_a_body_may_decide(open_world: Any) -> None:
    """A person answers by the enforcer's own approvals, also where a body makes the call that waits for them."""

    def ask(request: ApprovalRequest) -> str:
        return world.enforcer.approvals.approve(request, by=BOB)

    world = open_world(
        policy=RuleSet(Rule(Effect.ROUTE, tools="pay", to="desk"), Rule(Effect.ALLOW)),
        routes={"desk": Approval(ask=ask)},
    )
    pay = world.tool("pay")
    with world.task(Scope({"act": None, "pay": None})):
        in_function(world, lambda: pay(1))
    assert world.ran == [("pay", 1, {})]


@pytest.mark.parametrize("place", [in_function, without_task])
def test_a_body_lifts_no_suspension(
    world: Any, caplog: pytest.LogCaptureFixture, place: Callable[[Any, Act], None]
) -> None:
    """Neither by the enforcer nor by its list; outside a body, and after it, people do."""
    world.enforcer.revoke(HELPER, suspend=True)
    with world.task(SCOPE):
        for lift in (
            lambda: world.enforcer.reinstate(HELPER),
            lambda: world.enforcer.revocations.reinstate("agent", "helper"),
        ):
            with refused(world, "reinstate_in_body", caplog):
                place(world, lift)
        assert world.enforcer.revocations.current.get("agent", "helper") is not None
        world.enforcer.reinstate(HELPER)
    assert world.enforcer.revocations.current.get("agent", "helper") is None


def test_a_body_may_still_revoke_and_delegate(world: Any) -> None:
    """What narrows is free: a delegation opens, and a revocation takes hold."""
    read = world.tool("read")

    def act() -> None:
        with world.enforcer.delegate(HELPER, scope=Scope("read")):
            read("a")
        world.enforcer.revoke(HELPER)

    with world.task(SCOPE):
        in_function(world, act)
    assert world.ran == [("read", "a", {})]


# --- how long


class Worker:
    """A thread that a tool starts when it is first needed, with the context of the tool, as instrumented threads."""

    def __init__(self, enforcer: Enforcer) -> None:
        self.enforcer = enforcer
        self.pool: ThreadPoolExecutor | None = None
        self.context: contextvars.Context | None = None

    def run(self, act: Act) -> object:
        """Act in the thread, and return or raise what came of it."""
        if self.pool is None or self.context is None:
            self.pool, self.context = ThreadPoolExecutor(1), contextvars.copy_context()
        return self.pool.submit(self.context.copy().run, act).result()


def test_a_worker_that_a_tool_started_serves_others_after_the_task(world: Any) -> None:
    """While Alice's task lives the worker is part of her tool; when it has ended, it opens tasks for anybody."""
    worker = Worker(world.enforcer)
    with world.task(SCOPE):
        in_function(world, lambda: worker.run(lambda: None))
        with pytest.raises(Denied) as caught:
            worker.run(lambda: open_for(world.enforcer, BOB))
        assert caught.value.code == "task_in_body"
    assert worker.run(lambda: open_for(world.enforcer, BOB))
    assert worker.pool is not None
    worker.pool.shutdown()


def test_a_worker_that_a_tool_started_serves_others_after_the_expiry(world: Any) -> None:
    """A task that nobody ended is over when its time is."""
    worker = Worker(world.enforcer)
    with world.task(SCOPE, ttl=timedelta(seconds=60)):
        in_function(world, lambda: worker.run(lambda: None))
        world.clock.advance(61)
        assert worker.run(lambda: open_for(world.enforcer, BOB))
    assert worker.pool is not None
    worker.pool.shutdown()


def test_threads_of_a_pool_made_in_a_tool_are_nobodys(world: Any) -> None:
    """Plain threads carry no context: a pool that a tool makes works for other principals at once."""
    pools: list[ThreadPoolExecutor] = []
    with world.task(SCOPE):
        in_function(world, lambda: pools.append(ThreadPoolExecutor(1)))
        in_function(world, lambda: pools[0].submit(lambda: None).result())
        assert pools[0].submit(open_for, world.enforcer, BOB).result()
    pools[0].shutdown()


def test_a_body_that_ends_its_task_is_still_that_body(world: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Neither its own word nor the passing of time makes a running body of Alice's anybody else's."""

    def ends() -> None:
        world.enforcer.current_task.end()
        open_for(world.enforcer, BOB)

    def waits() -> None:
        world.clock.advance(3600)
        open_for(world.enforcer, BOB)

    for act in (ends, waits):
        with world.task(SCOPE, ttl=timedelta(seconds=60)), refused(world, "task_in_body", caplog):
            in_function(world, act)


def test_the_end_of_a_delegated_part_frees_nobody(world: Any) -> None:
    """What a sub-agent's tool left behind is bound as long as the whole task lives, not only its part."""
    worker = Worker(world.enforcer)
    with world.task(SCOPE):
        with world.enforcer.delegate(HELPER, scope=SCOPE):
            in_function(world, lambda: worker.run(lambda: None))
        with pytest.raises(Denied) as caught:
            worker.run(lambda: open_for(world.enforcer, BOB))
        assert caught.value.code == "task_in_body"
    assert worker.run(lambda: open_for(world.enforcer, BOB))
    assert worker.pool is not None
    worker.pool.shutdown()


def test_a_body_inside_a_body_does_not_free_the_outer_one(open_world: Any) -> None:
    """A body of Bob's, in a task that the application listed, ends; Alice's around it goes on as hers."""
    world = open_world(nested=[BOB])

    def act() -> None:
        with world.enforcer.task("p", principal=BOB, agent=HELPER, scope=SCOPE):
            in_function(world, lambda: None)
            with world.enforcer.no_task(), pytest.raises(Denied):
                in_function(world, lambda: open_for(world.enforcer, Human("carol@example.com")))
        with pytest.raises(Denied) as caught:
            open_for(world.enforcer, Human("carol@example.com"))
        assert caught.value.code == "task_in_body"

    with world.task(SCOPE):
        in_function(world, act)


def test_outside_a_body_a_task_inside_a_task_is_a_task_of_its_own(world: Any) -> None:
    """The host opens what it wants, with and without no_task, before and after a tool ran."""
    with world.task(SCOPE) as outer:
        in_function(world, lambda: None)
        assert open_for(world.enforcer, BOB) != outer.id
        assert open_for(world.enforcer, ALICE, Scope("wipe")) != outer.id
        with world.enforcer.no_task():
            assert open_for(world.enforcer, BOB) != outer.id
    world.enforcer.close()
    assert Verifier().ledger(world.directory).verdict == "verified"


class Scanner:
    """An inspector that looks things up on its own behalf, with a guarded tool."""

    def __init__(self) -> None:
        self.enforcer: Enforcer | None = None
        self.looked = 0

    def inspect(self, content: Content) -> tuple[Finding, ...]:
        """Look it up, except what is looked up itself."""
        if content.tool != "look_up":
            assert self.enforcer is not None
            with self.enforcer.task("scan", principal=Service("scanner"), agent=HELPER, scope=Scope("look_up")):
                self.enforcer.tool(name="look_up")(lambda: None)()
            self.looked += 1
        return ()


def test_inspectors_are_code_of_nobody(open_world: Any) -> None:
    """One that opens a task of its own does so for a call that a body makes, as for any other call."""
    scanner = Scanner()
    world = open_world(inspectors=[scanner])
    scanner.enforcer = world.enforcer
    read = world.tool("read")
    with world.task(SCOPE):
        in_function(world, lambda: read("a"))
    assert scanner.looked == 4
    assert {record["outcome"] for record in world.records("outcome")} == {"success"}


FORKED = """
import os, sys
from agent_identity import Agent, Denied, Enforcer, Human, Scope

enforcer = Enforcer.open(sys.argv[1])
clerk = Agent("clerk", owner="it@example.com")

@enforcer.tool
def forks():
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    code = "none"
    for who in ("bob@example.com", "alice@example.com"):
        try:
            with enforcer.task("side", principal=Human(who), agent=clerk, scope=Scope("forks")):
                os._exit(1)
        except Denied as denied:
            code = denied.code
    os._exit(0 if code == "task_in_body" else 2)

with enforcer.task("forks", principal=Human("alice@example.com"), agent=clerk, scope=Scope("forks")):
    print(forks())
enforcer.close()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks on this platform")
def test_a_fork_of_a_body_is_still_that_body(tmp_path: Path) -> None:
    """The child has no task of its own in sight, and opens none for anybody, with the keys that it inherited."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORKED, str(tmp_path / "evidence")],
        env={**os.environ, "PYTHONPATH": str(Path(agent_identity.__file__).parents[1])},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stdout.split() == ["0"], done.stderr


# --- monitor mode


def test_monitor_mode_records_what_would_have_been_refused(open_world: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Everything goes on as before, and the record says which openings and decisions a body was not to make."""
    world = open_world(mode="monitor")
    world.enforcer.revoke(HELPER, suspend=True)
    ids: list[str] = []

    def act() -> None:
        world.enforcer.reinstate(HELPER)
        ids.append(open_for(world.enforcer, BOB))
        ids.append(open_for(world.enforcer, ALICE, Scope("wipe")))
        ids.append(open_for(world.enforcer, ALICE, Scope("read")))

    with world.task(SCOPE) as outer, caplog.at_level(logging.WARNING, "agent_identity"):
        in_function(world, act)
        assert ids[0] != outer.id != ids[1]
        assert ids[2] == outer.id
    assert world.enforcer.revocations.current.get("agent", "helper") is None
    found = [record for record in world.records("outcome") if record["decision"]["effect"] == "block"]
    assert [(record["decision"]["reason"], record["decision"]["enforced"]) for record in found] == [
        ("reinstate_in_body", "audit"),
        ("task_in_body", "audit"),
        ("tool_not_attenuated", "audit"),
    ]
    assert all(record["task"]["id"] == outer.id and record["outcome"] == "success" for record in found)
    assert any("would be refused" in line and outer.id in line for line in caplog.messages)
    world.enforcer.close()
    assert Verifier().ledger(world.directory).verdict == "verified"


# --- what arrives with a credential of its own


@pytest.mark.parametrize("hidden", [False, True])
def test_a_proof_from_elsewhere_opens_inside_a_body(world: Any, hidden: bool) -> None:
    """Received, resumed and carried tasks stand on what is presented, wherever they are opened."""
    read = world.tool("read")

    def act() -> None:
        shown = world.enforcer.present(Peer("self"), tool="http", arguments={})
        carried = world.enforcer.current_task.export(scope=Scope("read"))
        with world.enforcer.no_task() if hidden else contextlib.nullcontext():
            with world.enforcer.receive(shown, tool="http", arguments={}, audience="self") as task:
                read(task.principal.id)
            with world.enforcer.accept(carried):
                read("again")

    with world.task(SCOPE):
        in_function(world, act)
    assert world.ran == [("read", "alice@example.com", {}), ("read", "again", {})]
    world.enforcer.close()
    assert Verifier().ledger(world.directory).verdict == "verified"


BASE = "https://b.example.com"


async def _asgi(world: Any, handle: Callable[[], str], *, delegated: bool, required: bool) -> str:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": handle().encode()})

    return await _asgi_app(world, app, delegated=delegated, required=required)


async def _asgi_app(world: Any, app: Any, *, delegated: bool, required: bool) -> str:
    served = asgi.DelegationMiddleware(app, world.enforcer, Gate(audience="b", base_url=BASE, required=required))
    transport: Any = httpx.ASGITransport(served)
    if delegated:
        transport = AsyncDelegationTransport(world.enforcer, {"b.example.com": Peer("b")}, transport)
    async with httpx.AsyncClient(transport=transport) as client:
        return (await client.get(f"{BASE}/x")).text


async def _wsgi(world: Any, handle: Callable[[], str], *, delegated: bool, required: bool) -> str:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return [handle().encode()]

    served = wsgi.DelegationMiddleware(app, world.enforcer, Gate(audience="b", base_url=BASE, required=required))
    transport: Any = httpx.WSGITransport(served)
    if delegated:
        transport = DelegationTransport(world.enforcer, {"b.example.com": Peer("b")}, transport)
    with httpx.Client(transport=transport) as client:
        return client.get(f"{BASE}/x").text  # noqa: ASYNC212  There is no network, and nothing else on the loop.


async def _starlette(world: Any, handle: Callable[[], str], *, delegated: bool, required: bool) -> str:
    starlette = pytest.importorskip("starlette.applications", reason="Starlette is not installed")
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route

    async def endpoint(request: object) -> PlainTextResponse:
        return PlainTextResponse(handle())

    app = starlette.Starlette(routes=[Route("/x", endpoint)])
    return await _asgi_app(world, app, delegated=delegated, required=required)


@pytest.mark.parametrize("serve", [_asgi, _wsgi, _starlette])
def test_a_tool_calls_a_service_in_its_own_process(world: Any, serve: Callable[..., Any]) -> None:
    """The handler runs in the caller's task with what was delegated, and without authority in no task."""
    read = world.tool("read")

    def handle() -> str:
        task = world.enforcer.current_task
        return "nobody" if task is None else str(read(task.principal.id))

    async def tool() -> tuple[str, str]:
        return (
            await serve(world, handle, delegated=True, required=True),
            await serve(world, handle, delegated=False, required=False),
        )

    with world.task(Scope({"act": None, "read": None, "http_request": None})):
        assert asyncio.run(world.enforcer.tool(name="act")(tool)()) == ("alice@example.com", "nobody")
    world.enforcer.close()
    assert Verifier().ledger(world.directory).verdict == "verified"


@pytest.mark.parametrize("serve", [_asgi, _wsgi, _starlette])
@pytest.mark.parametrize("listed", [True, False])
def test_a_handler_in_the_same_process_is_no_way_round(
    open_world: Any, caplog: pytest.LogCaptureFixture, serve: Callable[..., Any], listed: bool
) -> None:
    """A handler that opens a task for another principal is called by the tool: the application has to list them."""
    world = open_world(nested=[BOB] if listed else ())

    def handle() -> str:
        try:
            return open_for(world.enforcer, BOB)
        except Denied as denied:
            return denied.code

    async def tool() -> str:
        return await serve(world, handle, delegated=False, required=False)

    with world.task(SCOPE):
        answer = asyncio.run(world.enforcer.tool(name="act")(tool)())
    assert (answer != "task_in_body") is listed


@pytest.mark.parametrize("serve", [_asgi, _wsgi, _starlette])
def test_a_handler_that_nobody_calls_from_a_body_opens_what_it_wants(world: Any, serve: Callable[..., Any]) -> None:
    """A request from a network, or from code outside any tool, has no marker; tasks of the host around it neither."""
    with world.task(SCOPE) as outer:
        in_function(world, lambda: None)
        serving = serve(world, lambda: open_for(world.enforcer, BOB), delegated=False, required=False)
        assert asyncio.run(serving) != outer.id


def test_a_node_of_a_sub_graph_opens_its_part_of_the_task(world: Any) -> None:
    """LangGraph runs a tool that runs a graph whose node opens a task for the same principal: it works as hers."""
    graphs = pytest.importorskip("langgraph.graph", reason="LangGraph is not installed")
    tools = pytest.importorskip("langchain_core.tools", reason="LangChain is not installed")
    from agent_identity.integrations.langchain.protection import protect

    read = world.tool("read")

    def node(state: dict[str, str]) -> dict[str, str]:
        with world.enforcer.task("node", principal=ALICE, agent=HELPER, scope=Scope("read")) as part:
            assert part.id == outer.id
            return {"x": str(read(state["x"]))}

    def other(state: dict[str, str]) -> dict[str, str]:
        open_for(world.enforcer, BOB)
        return state

    def compiled(step: Callable[[dict[str, str]], dict[str, str]]) -> Any:
        builder = graphs.StateGraph(dict)
        builder.add_node("step", step)
        builder.add_edge(graphs.START, "step")
        return builder.compile()

    @tools.tool
    def act(which: str) -> str:
        """Run a sub-graph."""
        return str(compiled(node if which == "own" else other).invoke({"x": "a"}))

    protect(act, world.enforcer)
    with world.task(SCOPE) as outer:
        assert act.invoke({"which": "own"}) == "{'x': 'a'}"
        with pytest.raises(Denied) as caught:
            act.invoke({"which": "other"})
        assert caught.value.code == "task_in_body"
    world.enforcer.close()
    assert Verifier().ledger(world.directory).verdict == "verified"


def test_a_context_that_others_put_in_its_place_is_no_way_out_of_a_body(world: Any) -> None:
    """What extracts a context from a message attaches one without our marker: the body is in it all the same."""
    codes: list[str] = []

    @world.enforcer.tool(name="tool")
    def body() -> None:
        token = otel.attach(otel.Context())
        try:
            with world.enforcer.task("as bob", principal=BOB, agent=CLERK, scope=Scope("tool")):
                raise AssertionError
        except Denied as denied:
            codes.append(denied.code)
        finally:
            otel.detach(token)

    with world.task(Scope("tool")):
        body()
    assert codes == ["task_in_body"]


def test_a_task_opened_in_a_context_that_others_put_in_its_place_is_no_way_out_either(world: Any) -> None:
    """The body may open a part of its task there, and in that part it opens nothing for Bob."""
    codes: list[str] = []

    @world.enforcer.tool(name="tool")
    def body() -> None:
        token = otel.attach(otel.Context())
        try:
            as_bob = world.enforcer.task("as bob", principal=BOB, agent=CLERK, scope=Scope("tool"))
            with world.task(Scope("tool")), world.enforcer.no_task(), as_bob:
                raise AssertionError
        except Denied as denied:
            codes.append(denied.code)
        finally:
            otel.detach(token)

    with world.task(Scope("tool"), max_depth=2):
        body()
    assert codes == ["task_in_body"]


def test_a_result_that_is_inspected_is_still_code_of_its_body(open_world: Any) -> None:
    """An object that a body returns runs code when an inspector looks at it: that code opens no task for Bob."""
    codes: list[str] = []

    class Result:
        def __str__(self) -> str:
            try:
                with world.enforcer.task("as bob", principal=BOB, agent=CLERK, scope=Scope("tool")):
                    return "opened"
            except Denied as denied:
                codes.append(denied.code)
            return "refused"

    class Looking:
        def inspect(self, content: Content) -> list[Finding]:
            if content.direction == "output":
                str(content.value)
            return []

    world = open_world(inspectors=[Looking()])
    inner = world.enforcer.tool(name="inner")(Result)
    outer = world.enforcer.tool(name="outer")(lambda: str(inner()))
    with world.task(Scope("inner") | Scope("outer")):
        outer()
    assert codes[0] == "task_in_body"


@pytest.mark.parametrize("kind", [Human, Agent, Scope], ids=lambda kind: kind.__name__)
def test_a_subclass_does_not_answer_for_its_class(world: Any, kind: type) -> None:
    """Parties and scopes are of exactly their classes, so that no class of a caller compares itself to be another."""
    given = {"principal": ALICE, "agent": CLERK, "scope": Scope("tool")}
    name = {Human: "principal", Agent: "agent", Scope: "scope"}[kind]
    liar = type("Liar", (kind,), {"__eq__": lambda self, other: True, "__hash__": lambda self: 0})
    fake = liar.__new__(liar)
    with pytest.raises(TypeError, match=name):
        world.enforcer.task("a purpose", **{**given, name: fake})
