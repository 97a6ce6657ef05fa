"""Reuse of authority outside its task, its time and its context (abuse cases AC-23 to AC-41)."""

import asyncio
import contextlib
import contextvars
import itertools
import json
import os
import random
import subprocess
import sys
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import baggage, propagate, trace
from opentelemetry import context as otel
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from plain_records import check_record

import agent_identity
from agent_identity import Agent, Decision, Effect, Human, Request, Rule, RuleSet, Scope, Service, Verifier
from agent_identity._authority.grants.chain import verify_chain
from agent_identity._authority.grants.grants import issue
from agent_identity._guard.lifecycle.bound_streams import bind_stream
from agent_identity._identity.common.ids import uuid_of
from agent_identity._identity.common.record_bytes import decode_record
from agent_identity._ledger.reader import open_ledger
from agent_identity.errors import Denied, GrantExpired, NoTask, OutOfScope, PolicyBlocked, TokenError
from agent_identity.identity import SigningKey

OPEN = Scope("tool")


def test_ac_23_authority_ends_with_its_block(world: Any) -> None:
    """The task object, kept and made current again after its end, gives nothing, at once and not at the ttl."""
    tool = world.tool()
    with world.task(OPEN) as task:
        assert tool(1) == 1
    with world.refused("no_task", NoTask, chain=None):
        tool(1)
    token = otel.attach(world.enforcer._enforcement.task_context.holding(task))
    with world.refused("task_ended", NoTask):
        tool(1)
    otel.detach(token)
    assert world.clock.wall_ns() < task.expires_at * 10**9


def test_ac_23_an_early_end_counts_at_once(world: Any) -> None:
    """Ended from another thread in the middle of the block, the next call is refused."""
    tool = world.tool()
    with world.task(OPEN) as task:
        thread = threading.Thread(target=task.end)
        thread.start()
        thread.join()
        with world.refused("task_ended", NoTask):
            tool(1)


def test_ac_24_a_copied_context_keeps_no_authority(world: Any) -> None:
    """``contextvars.copy_context()``, run after the end, is refused and attributed to the task that it held."""
    tool = world.tool()
    with world.task(OPEN):
        copied = contextvars.copy_context()
        assert copied.run(tool, 1) == 1
    with world.refused("task_ended", NoTask):
        copied.run(tool, 1)


def test_ac_25_a_detached_asyncio_task_does_not_outlive_its_task(world: Any) -> None:
    """Work that was started inside and runs on after the end is refused at its next call."""
    tool = world.tool()

    async def main() -> None:
        ended = asyncio.Event()

        async def detached() -> None:
            assert tool(1) == 1
            await ended.wait()
            with world.refused("task_ended", NoTask):
                tool(2)

        async with world.task(OPEN):
            running = asyncio.create_task(detached())
            await asyncio.sleep(0)
        ended.set()
        await running

    asyncio.run(main())


def test_ac_25_threads_and_callbacks_do_not_outlive_the_task(world: Any) -> None:
    """Bound functions and scheduled callbacks that come late are refused."""
    tool = world.tool()
    with world.task(OPEN):
        bound = world.enforcer.bind(tool)

    async def main() -> None:
        done = asyncio.get_running_loop().create_future()

        def callback() -> None:
            with world.refused("task_ended", NoTask):
                tool(1)
            done.set_result(None)

        async with world.task(OPEN):
            handle = contextvars.copy_context()
        asyncio.get_running_loop().call_soon(callback, context=handle)
        await done

    asyncio.run(main())
    with ThreadPoolExecutor(1) as pool, world.refused("task_ended", NoTask):
        pool.submit(bound, 1).result()


def test_ac_26_a_stream_obtained_inside_stops_at_the_end(world: Any) -> None:
    """Each resume asks the registry: of three items the consumer gets those from before the end, and no more."""

    @world.enforcer.tool(name="tool")
    def sync() -> Generator[int]:
        for item in range(3):
            world.ran.append(item)
            yield item

    @world.enforcer.tool(name="tool")
    async def asynchronous() -> AsyncGenerator[int]:
        for item in range(3):
            world.ran.append(item)
            yield item

    async def main() -> None:
        async with world.task(OPEN):
            first, second, unused = sync(), asynchronous(), sync()
            assert next(first) == 0
            assert await anext(second) == 0
        with world.refused("task_ended", NoTask, digest=False):
            next(first)
        with world.refused("task_ended", NoTask, digest=False):
            await anext(second)
        with world.refused("task_ended", NoTask, digest=False):
            next(unused)
        assert list(first) == list(unused) == []

    asyncio.run(main())
    assert world.ran == [0, 0]


def test_ac_26_an_expired_stream_stops(world: Any) -> None:
    """The lifetime of the grant counts at each resume as well."""

    @world.enforcer.tool(name="tool")
    def sync() -> Generator[int]:
        yield from range(3)

    with world.task(OPEN, ttl=timedelta(seconds=10)):
        stream = sync()
        assert next(stream) == 0
        world.clock.advance(10)
        with world.refused("grant_expired", GrantExpired, digest=False):
            next(stream)


def test_ac_27_a_grant_counts_in_its_own_task_only(open_world: Any) -> None:
    """For every ordered pair of tasks: a call inside one is judged by its own grant, never by the other's."""
    world = open_world()
    tools = {name: world.tool(name) for name in "abcd"}
    for mine, other in itertools.permutations("abcd", 2):
        with world.task(Scope(other)), world.task(Scope(mine)):
            assert tools[mine](1) == 1
            with world.refused("tool_not_granted", OutOfScope, tool=other):
                tools[other](1)


def test_ac_27_a_chain_names_its_task(world: Any) -> None:
    """Presented for another task, a chain does not verify."""
    with world.task(OPEN) as one, world.task(OPEN) as two:
        anchor, name = world.enforcer._tasks.anchor, world.enforcer._tasks.issuer_name
        now = world.clock.wall_ns() // 10**9
        verify_chain(one.chain.tokens, anchors=anchor, issuer=name, now=now, task_id=one.id)
        with pytest.raises(TokenError):
            verify_chain(one.chain.tokens, anchors=anchor, issuer=name, now=now, task_id=two.id)


def test_ac_27_a_task_of_one_enforcer_is_none_for_another(open_world: Any) -> None:
    """Two enforcers in one process share no authority, in either direction."""
    one, two = open_world(), open_world()
    for world, other in ((one, two), (two, one)):
        tool = other.tool()
        with world.task(OPEN), other.refused("no_task", NoTask, chain=None):
            tool(1)


def test_ac_32_a_clock_set_back_revives_nothing(world: Any) -> None:
    """Expired is expired: an earlier wall clock, before or after the expiry was seen, brings nothing back."""
    tool = world.tool()
    start = world.clock.wall_ns()
    with world.task(OPEN, ttl=timedelta(seconds=2)):
        assert tool(1) == 1
        world.clock.set_wall(start + 3 * 10**9)
        with world.refused("grant_expired", GrantExpired):
            tool(1)
        world.clock.set_wall(start - 20 * 10**9)
        with world.refused("grant_expired", GrantExpired):
            tool(1)
    world.clock.set_wall(start)
    with world.task(OPEN, ttl=timedelta(seconds=2)):
        world.clock.set_wall(start - 20 * 10**9)
        assert tool(1) == 1
        world.clock.advance(2)
        with world.refused("grant_expired", GrantExpired):
            tool(1)


def test_ac_32_a_clock_set_back_lengthens_no_delegation(world: Any) -> None:
    """A part that is delegated while the clock is wrong ends with its task, or does not open."""
    start = world.clock.wall_ns()
    with world.task(OPEN, ttl=timedelta(seconds=20)) as task:
        world.clock.set_wall(start - 10 * 10**9)
        with world.enforcer.delegate(Agent("helper", owner="it"), scope=OPEN, ttl=timedelta(hours=1)) as part:
            assert part.expires_at == task.expires_at
            world.clock.advance(20)
            with world.refused("grant_expired", GrantExpired, chain=("invoice-clerk", "helper")):
                world.tool()(1)
    with world.task(OPEN):
        world.clock.set_wall(start - 3600 * 10**9)
        with pytest.raises(TokenError), world.enforcer.delegate(Agent("helper", owner="it"), scope=OPEN):
            world.ran.append("entered")
    assert world.ran == []


def test_ac_33_a_future_dated_grant_does_not_open(world: Any) -> None:
    """A root grant that was issued beyond the allowed skew of 30 seconds opens no task."""
    tasks = world.enforcer._tasks
    now, holder = world.clock.wall_ns() // 10**9, SigningKey.generate()

    def chain(issued: int) -> tuple[str, ...]:
        grant = issue(
            tasks.issuer,
            issuer=tasks.issuer_name,
            task_id="a-task",
            principal=Human("alice"),
            agent=Agent("a", owner="o"),
            holder=holder.public_key,
            scope=OPEN,
            now=issued,
            ttl=300,
            id=uuid_of(world.enforcer._tasks.ids.new(issued * 10**9)),
        )
        return (grant.token,)

    verify_chain(chain(now + 30), anchors=tasks.anchor, issuer=tasks.issuer_name, now=now)
    for ahead in (31, 3600):
        with pytest.raises(TokenError):
            verify_chain(chain(now + ahead), anchors=tasks.anchor, issuer=tasks.issuer_name, now=now)


FORKS = """
import json, os, sys
from agent_identity import Agent, Denied, Enforcer, Human, Scope

enforcer = Enforcer.open(sys.argv[1])
alice, clerk = Human("alice"), Agent("clerk", owner="finance")
scope = Scope("tool") | Scope("stream")

@enforcer.tool
def tool(x):
    return x

@enforcer.tool
def stream():
    yield 1
    yield 2

with enforcer.task("p", principal=alice, agent=clerk, scope=scope) as task:
    running, bound = stream(), enforcer.bind(tool)
    next(running)
    if not os.fork():
        answers = []
        for attempt in (
            lambda: tool(1),
            lambda: bound(1),
            lambda: next(running),
            lambda: enforcer.delegate(clerk, scope=scope).__enter__(),
        ):
            try:
                attempt()
            except Denied as denied:
                answers.append(denied.code)
            else:
                answers.append("ran")
        with enforcer.task("own", principal=alice, agent=clerk, scope=scope):
            answers.append(tool(2))
        enforcer.close()
        print(json.dumps(answers), flush=True)
        os._exit(0)
    os.wait()
    print(json.dumps([next(running), tool(3)]), flush=True)
    running.close()
enforcer.close()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks on this platform")
def test_ac_34_a_forked_child_has_no_task_of_its_parent(tmp_path: Path) -> None:
    """Neither calls, bound functions, running streams nor delegation go on in the child; what it opens itself does."""
    path = str(Path(agent_identity.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", FORKS, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert [json.loads(line) for line in done.stdout.splitlines()] == [["no_task"] * 4 + [2], [2, 3]]
    reader = open_ledger(tmp_path)
    parent, child = (
        [decode_record(line.record) for line in reader.entries(stream) if line.record] for stream in reader.streams()
    )
    for record in parent + child:
        check_record(record)
    intents = {record["id"] for record in parent if record["kind"] == "intent"}
    assert not any(record.get("intent") in intents for record in child)
    assert [r["outcome"] for r in child if r["kind"] == "outcome"] == ["denied"] * 3 + ["success"]
    assert [r["outcome"] for r in parent if r["kind"] == "outcome"] == ["success", "cancelled"]


def test_ac_35_threads_without_the_task_are_refused(world: Any) -> None:
    """Thread, executor and ``run_in_executor`` lose the context: refused, and never run unattributed."""
    tool = world.tool()
    caught: list[str] = []

    def call() -> None:
        try:
            tool(1)
        except NoTask as error:
            caught.append(error.code)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, call)
        assert await asyncio.to_thread(tool, 2) == 2

    with world.task(OPEN):
        thread = threading.Thread(target=call)
        thread.start()
        thread.join()
        with ThreadPoolExecutor(1) as pool:
            pool.submit(call).result()
            assert pool.submit(world.enforcer.bind(tool), 3).result() == 3
        asyncio.run(main())
    assert caught == ["no_task"] * 3
    assert [x for _, x, _ in world.ran] == [2, 3] or [x for _, x, _ in world.ran] == [3, 2]
    refusals = [r for r in world.records("outcome") if r["outcome"] == "denied"]
    assert [r["attribution"] for r in refusals] == ["none"] * 3
    for record in world.records("outcome"):
        if record["outcome"] == "success":
            assert record["principal"]["id"] == "alice@example.com"


def test_ac_36_a_suspended_generator_lends_nothing_to_its_consumer(world: Any) -> None:
    """While a stream of mallory's is suspended, its consumer acts under its own task or none."""
    tool = world.tool()

    @world.enforcer.tool(name="stream")
    def stream() -> Generator[int]:
        yield from range(3)

    @world.enforcer.tool(name="stream")
    async def astream() -> AsyncGenerator[int]:
        for item in range(3):
            yield item

    async def main() -> None:
        with world.task(Scope("stream") | OPEN, principal=Human("mallory@example.com")) as mallory:
            live, alive = stream(), astream()
            # The consumer steps out of mallory's task while the streams live on.
            outside = otel.attach(otel.Context())
            assert next(live) == 0
            assert await anext(alive) == 0
            assert world.enforcer.current_task is None
            with world.refused("no_task", NoTask, chain=None):
                tool(1)
            with world.task(OPEN):
                assert next(live) == 1
                assert await anext(alive) == 1
                assert tool(2) == 2
            otel.detach(outside)
            assert world.enforcer.current_task is mallory
            live.close()
            await alive.aclose()

    asyncio.run(main())
    own = [r for r in world.records("outcome") if r["action"]["tool"] == "tool" and r["outcome"] == "success"]
    assert [r["principal"]["id"] for r in own] == ["alice@example.com"]
    streams = [r for r in world.records("intent") if r["action"]["tool"] == "stream"]
    assert {r["principal"]["id"] for r in streams} == {"mallory@example.com"}


def _consume(stream: Iterator[int] | AsyncIterator[int], keeps: Callable[[], bool]) -> None:
    """Consume a stream, and prove that the consumer keeps its own context."""

    async def consume(steps: AsyncIterator[int]) -> list[bool]:
        return [keeps() async for _ in steps]

    kept = asyncio.run(consume(stream)) if isinstance(stream, AsyncIterator) else [keeps() for _ in stream]
    assert kept == [True] * 4


@pytest.mark.parametrize("way", ["generator", "async generator", "bound stream", "bound async stream"])
def test_ac_36_a_delegation_spans_the_steps_of_a_stream(world: Any, way: str) -> None:
    """After a pause a body goes on in the delegation that it had opened, and in no wider task."""
    tool, agents = world.tool(), list[str]()
    narrow, helper = Scope("other"), Agent("helper", owner="it@example.com")

    def note() -> None:
        current = world.enforcer.current_task
        agents.append("none" if current is None else current.agent.id)

    def check() -> None:
        note()
        with world.refused("tool_not_granted", OutOfScope, chain=("invoice-clerk", "helper")):
            tool(1)

    def steps() -> Generator[int]:
        with world.enforcer.delegate(helper, scope=narrow):
            yield 1
            check()
            yield 2
            check()
            with world.enforcer.no_task():
                yield 3
                note()
        note()
        yield 4

    async def asynchronous() -> AsyncGenerator[int]:
        async with world.enforcer.delegate(helper, scope=narrow):
            yield 1
            check()
            yield 2
            check()
            with world.enforcer.no_task():
                yield 3
                note()
        note()
        yield 4

    scope = OPEN | narrow | Scope("stream")
    with world.task(scope) as outer:
        if way == "generator":
            stream: Any = world.enforcer.tool(name="stream")(steps)()
        elif way == "async generator":
            stream = world.enforcer.tool(name="stream")(asynchronous)()
        else:
            stream = bind_stream(steps() if way == "bound stream" else asynchronous())
        _consume(stream, lambda: world.enforcer.current_task is outer)
        assert world.enforcer.current_task is outer
    assert agents == ["helper", "helper", "none", "invoice-clerk"]


def test_ac_36_a_stream_goes_on_in_a_context_that_its_own_step_had_copied(world: Any) -> None:
    """What is attached there once more is attached twice, and what lies below ends all the same."""
    copied: list[contextvars.Context] = []

    @world.enforcer.tool(name="stream")
    def steps() -> Generator[int]:
        with world.enforcer.delegate(Agent("helper", owner="it@example.com"), scope=Scope("stream")):
            copied.append(contextvars.copy_context())
            yield 1
            yield 2

    def run() -> None:
        around = ExitStack()
        around.enter_context(world.task(Scope("stream")))
        stream = steps()
        assert next(stream) == 1

        def go_on() -> None:
            assert next(stream) == 2
            around.close()
            stream.close()

        copied[0].run(go_on)

    contextvars.copy_context().run(run)
    assert len(world.records("task_end")) == 2


def test_ac_36_leaving_in_another_context_raises_nothing(world: Any) -> None:
    """A task opened inside a generator and left by another thread ends; nothing depends on resetting a variable."""

    def session() -> Generator[None]:
        with world.task(OPEN):
            yield

    tool = world.tool()

    def start() -> Generator[None]:
        generator = session()
        next(generator)
        return generator

    generator = contextvars.copy_context().run(start)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(generator.close).result()
    with world.refused("no_task", NoTask, chain=None):
        tool(1)
    assert world.records("task_end")[0]["error"] == "GeneratorExit"


class Crowd:
    """Many users of one world at once; each call checks inside and outside that it is its own user's."""

    def __init__(self, world: Any) -> None:
        self.world = world
        self.random = random.Random(37)  # noqa: S311 - The same crowd each time.
        self.users: dict[str, str] = {}
        self._lock = threading.Lock()
        guarded = world.enforcer.tool(name="tool")
        self.plain = guarded(self._plain)
        self.waiting = guarded(self._waiting)
        self.stream = guarded(self._stream)
        self.astream = guarded(self._astream)

    def _plain(self, user: str) -> str:
        assert self.world.enforcer.current_task.principal.id == user
        return user

    async def _waiting(self, user: str) -> str:
        await asyncio.sleep(0)
        self._plain(user)
        await asyncio.sleep(0)
        return self._plain(user)

    def _stream(self, user: str) -> Generator[str]:
        for _ in range(3):
            yield self._plain(user)

    async def _astream(self, user: str) -> AsyncGenerator[str]:
        for _ in range(3):
            await asyncio.sleep(0)
            yield self._plain(user)

    def opening(self, user: str) -> Any:
        """Return a task of a user that covers calls for this user only."""
        return self.world.task(Scope("tool", user=user), principal=Human(user))

    def claim(self, task: Any, user: str) -> None:
        """Note whose task it is."""
        with self._lock:
            assert self.users.setdefault(task.id, user) == user

    async def _wait(self, user: str, pool: ThreadPoolExecutor) -> None:
        assert await self.waiting(user) == user

    async def _gather(self, user: str, pool: ThreadPoolExecutor) -> None:
        assert await asyncio.gather(self.waiting(user), self.waiting(user)) == [user, user]

    async def _iterate(self, user: str, pool: ThreadPoolExecutor) -> None:
        async for got in self.astream(user):
            assert got == user
            await asyncio.sleep(0)

    async def _iterate_slowly(self, user: str, pool: ThreadPoolExecutor) -> None:
        for got in self.stream(user):
            assert got == user
            await asyncio.sleep(0)

    async def _submit(self, user: str, pool: ThreadPoolExecutor) -> None:
        bound = self.world.enforcer.bind(self.plain)
        assert await asyncio.get_running_loop().run_in_executor(pool, bound, user) == user

    async def _trespass(self, user: str, pool: ThreadPoolExecutor) -> None:
        with pytest.raises(OutOfScope):
            self.plain(f"not-{user}")

    async def visit(self, number: int, pool: ThreadPoolExecutor) -> None:
        """Do ten things in random order, between which others get their turn."""
        user = f"user-{number}@example.com"
        ways = (self._wait, self._gather, self._iterate, self._iterate_slowly, self._submit, self._trespass)
        async with self.opening(user) as task:
            self.claim(task, user)
            for _ in range(10):
                await self.random.choice(ways)(user, pool)

    async def visits(self) -> None:
        """Let 150 users in at once."""
        with ThreadPoolExecutor(8) as pool:
            await asyncio.gather(*(self.visit(number, pool) for number in range(150)))

    def thread(self, number: int) -> None:
        """Make 40 calls in this thread."""
        user = f"thread-{number}@example.com"
        with self.opening(user) as task:
            self.claim(task, user)
            for _ in range(20):
                assert self.plain(user) == user
                assert list(self.stream(user)) == [user] * 3

    def interleave(self) -> None:
        """Advance the streams of 50 nested tasks in random order, under the innermost task."""
        with ExitStack() as stack:
            streams = []
            for number in range(50):
                user = f"stream-{number}@example.com"
                task = stack.enter_context(self.opening(user))
                self.claim(task, user)
                streams.append((user, self.stream(user)))
            for _ in range(3):
                self.random.shuffle(streams)
                for user, generator in streams:
                    assert next(generator) == user
                    assert self.world.enforcer.current_task is task
            assert [next(generator, None) for _, generator in streams] == [None] * 50


def test_ac_37_no_call_runs_under_the_authority_of_another(open_world: Any) -> None:
    """Some 2,000 calls from asyncio tasks, threads and interleaved generators: each record names its caller."""
    world = open_world()
    crowd = Crowd(world)
    with ThreadPoolExecutor(13) as pool:
        others = [pool.submit(crowd.interleave), *(pool.submit(crowd.thread, number) for number in range(12))]
        asyncio.run(crowd.visits())
        for other in others:
            other.result()
    outcomes = world.records("outcome")
    assert len(outcomes) >= 2_000
    assert {record["outcome"] for record in outcomes} == {"success", "denied"}
    for record in outcomes:
        assert record["principal"]["id"] == crowd.users[record["task"]["id"]]
    succeeded = [record for record in outcomes if record["outcome"] == "success"]
    intents = {record["id"]: record for record in world.records("intent")}
    assert len(intents) == len(succeeded)
    for record in succeeded:
        assert intents[record["intent"]]["principal"] == record["principal"]
        assert intents[record["intent"]]["chain"] == record["chain"]
    assert {end["counts"]["open"] for end in world.records("task_end")} == {"0"}


def test_ac_38_a_verdict_for_one_tool_is_none_for_another(open_world: Any) -> None:
    """Allowed a hundred times for one tool, another with the same arguments is refused, by grant and by policy."""
    world = open_world(policy=RuleSet(Rule(Effect.BLOCK, tools="wipe")))
    read, wipe, other = world.tool("read"), world.tool("wipe"), world.tool("other")
    with world.task(Scope({"read": None, "wipe": None})):
        for _ in range(100):
            assert read("/data") == "/data"
        with world.refused("policy_blocks", PolicyBlocked, tool="wipe"):
            wipe("/data")
        with world.refused("tool_not_granted", OutOfScope, tool="other"):
            other("/data")


class Stateful:
    """A policy whose answer changes between two equal requests."""

    name, version, digest = "stateful", "1", "A" * 43

    def __init__(self) -> None:
        self.asked = 0

    def decide(self, request: Request) -> Decision:
        """Return the answer of this policy."""
        self.asked += 1
        effect = Effect.ALLOW if self.asked == 1 else Effect.BLOCK
        return Decision(effect=effect, reason="asked")


def test_ac_38_every_call_is_asked_about_anew(open_world: Any) -> None:
    """No answer is cached over calls: the second equal request gets its own answer."""
    world = open_world(policy=Stateful())
    tool = world.tool()
    with world.task(OPEN):
        assert tool(1) == 1
        with world.refused("asked", PolicyBlocked):
            tool(1)


@pytest.mark.parametrize("principal", [Human("alice@example.com"), Service("billing")])
def test_ac_39_every_record_of_a_sub_agent_names_its_principal(world: Any, principal: Any) -> None:
    """Three delegations deep, in threads, tasks and streams, each record ends in the same human or service."""
    tool = world.tool()

    @world.enforcer.tool(name="tool")
    def stream() -> Generator[int]:
        yield 1

    agents = [Agent(f"agent-{level}", owner=f"owner-{level}") for level in range(3)]
    with ExitStack() as stack:
        stack.enter_context(world.task(OPEN, principal=principal))
        for agent in agents:
            stack.enter_context(world.enforcer.delegate(agent, scope=OPEN))
        tool(1)
        with ThreadPoolExecutor(1) as pool:
            pool.submit(world.enforcer.bind(tool), 2).result()
        asyncio.run(asyncio.to_thread(tool, 3))
        assert list(stream()) == [1]
    calls = world.records("intent", "outcome")
    assert len(calls) == 8
    for record in calls:
        assert record["principal"] == principal.to_claim()
        assert [link["id"] for link in record["chain"]] == ["invoice-clerk", "agent-0", "agent-1", "agent-2"]
        assert record["agent"] == agents[-1].to_claim()
    assert {record["principal"]["id"] for record in world.records("grant", "task_start", "task_end")} == {principal.id}


def test_ac_39_no_task_opens_without_an_accountable_party(world: Any) -> None:
    """An agent cannot stand in as the principal, and has an owner itself."""
    for principal in (None, Agent("a", owner="o"), "alice", object()):
        with pytest.raises(TypeError):
            world.task(OPEN, principal=principal)
    with pytest.raises((TypeError, ValueError)):
        Agent("a", owner="")
    with pytest.raises(TypeError):
        Agent("a")  # type: ignore[call-arg]


def test_ac_40_headers_and_baggage_name_no_principal(world: Any) -> None:
    """What a caller claims about itself in headers gives no authority and stands in no record."""
    tool = world.tool()
    headers = {
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "baggage": "principal=ceo,agent_identity.principal.id=ceo,agent_identity.task=ceo,user.id=ceo",
        "agent_identity.task": "ceo",
        "authorization": "Bearer ceo",
    }
    propagator = CompositePropagator([TraceContextTextMapPropagator(), W3CBaggagePropagator()])
    context = propagator.extract(headers)
    assert baggage.get_baggage("principal", context) == "ceo"
    token = otel.attach(otel.set_value("agent_identity.task", "ceo", context))
    try:
        with world.refused("no_task", NoTask, chain=None):
            tool(1)
        with world.task(OPEN):
            tool(2)
    finally:
        otel.detach(token)
    for record in world.records():
        assert "ceo" not in str(record)
    (outcome,) = [r for r in world.records("outcome") if r["outcome"] == "success"]
    assert outcome["principal"]["id"] == "alice@example.com"
    assert outcome["trace"]["trace"] == "0af7651916cd43dd8448eb211c80319c"
    assert propagate.get_global_textmap() is not None


def test_ac_41_the_end_of_an_inner_task_leaves_the_outer_one_alone(world: Any) -> None:
    """Nested, raising, cancelled or early ended: inside the outer task only its own grant counts, before and after."""
    outer_tool, inner_tool = world.tool("outer"), world.tool("inner")

    def check_outer() -> None:
        assert outer_tool(1) == 1
        with world.refused("tool_not_granted", OutOfScope, tool="inner"):
            inner_tool(1)

    def inside(how: str) -> None:
        with world.task(Scope("inner")) as inner:
            assert inner_tool(1) == 1
            with world.refused("tool_not_granted", OutOfScope, tool="outer"):
                outer_tool(1)
            if how == "raise":
                raise LookupError
            if how == "end":
                inner.end()
                with world.refused("task_ended", NoTask, tool="inner"):
                    inner_tool(1)

    async def cancelled() -> None:
        started = asyncio.Event()

        async def waits() -> None:
            async with world.task(Scope("inner")):
                started.set()
                await asyncio.sleep(3600)

        running = asyncio.create_task(waits())
        await started.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        check_outer()

    with world.task(Scope("outer")) as outer:
        check_outer()
        inside("return")
        check_outer()
        with pytest.raises(LookupError):
            inside("raise")
        check_outer()
        inside("end")
        check_outer()
        asyncio.run(cancelled())
        check_outer()
        assert outer.lease.live
    assert world.records("task_end")[-1]["task"]["id"] == outer.id


def test_ac_41_an_inner_task_cannot_reopen_an_ended_outer_one(world: Any) -> None:
    """Opened after the outer one ended, or left after it, the inner block brings nothing of it back."""
    tool = world.tool()
    with world.task(OPEN) as outer:
        outer.end()
        with world.task(Scope("other")):
            pass
        with world.refused("task_ended", NoTask):
            tool(1)

    def crossed(left: Callable[..., object]) -> None:
        first, second = world.task(OPEN), world.task(OPEN)
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        with pytest.raises(Denied):
            tool(1)
        left(second)
        with pytest.raises(Denied):
            tool(1)

    contextvars.copy_context().run(crossed, lambda opening: opening.__exit__(None, None, None))
    assert world.ran == []
    assert not trace.get_current_span().get_span_context().is_valid


@pytest.mark.parametrize("depth", [2, 3, 4])
def test_ac_41_blocks_left_in_the_wrong_order_leave_nothing_behind(world: Any, depth: int) -> None:
    """However blocks are left, each live task keeps its own authority, and the one around all of them its own."""
    names = [f"tool-{number}" for number in range(depth)] + ["around"]
    tools = {name: world.tool(name) for name in names}
    before = otel.get_current()
    for order in itertools.permutations(names[:-1]):
        with world.task(Scope("around")) as outermost:
            openings = {name: world.task(Scope(name)) for name in names[:-1]}
            stack = {"around": outermost} | {name: opening.__enter__() for name, opening in openings.items()}
            for left in order:
                openings[left].__exit__(None, None, None)
                if left in stack:  # What is inside of a block goes out of sight with it.
                    for name in [*stack][[*stack].index(left) :]:
                        del stack[name]
                current = [*stack][-1]
                assert world.enforcer.current_task is stack[current]
                for name, tool in tools.items():
                    with contextlib.nullcontext() if name == current else pytest.raises(Denied):
                        tool(1)
            with world.task(Scope("around")) as later:
                openings[order[0]].__exit__(None, None, None)
                assert world.enforcer.current_task is later
            assert world.enforcer.current_task is outermost
    assert otel.get_current() == before
    ends = [record["chain"][-1]["grant"] for record in world.records("task_end")]
    assert len(ends) == len(set(ends))


def test_ac_41_a_task_left_inside_a_body_goes_with_the_body(world: Any) -> None:
    """A block that a guarded body closes is closed at once, and the end of the body brings nothing of it back."""
    opening = world.task(Scope("closer"))

    @world.enforcer.tool(name="closer")
    def closer() -> None:
        opening.__exit__(None, None, None)

    with world.task(Scope("around")) as outermost:
        opening.__enter__()
        closer()
        assert world.enforcer.current_task is outermost
        with pytest.raises(Denied):
            closer()


def test_ac_41_a_block_left_late_does_not_hide_a_later_one(world: Any) -> None:
    """What went out of sight with the block around it brings nothing back, whatever was opened since."""
    tool, around = world.tool("later"), world.task(OPEN)
    around.__enter__()
    inside = world.task(OPEN)
    inside.__enter__()
    around.__exit__(None, None, None)
    with world.task(Scope("later")) as later:
        inside.__exit__(None, None, None)
        assert world.enforcer.current_task is later
        assert tool(1) == 1
    assert world.enforcer.current_task is None


@pytest.mark.parametrize("awaited", [False, True])
def test_a_task_that_is_left_twice_ends_once(world: Any, *, awaited: bool) -> None:
    """A framework and a finally block may both close it; the ledger and the trace have one end."""
    opening = world.task(OPEN)

    async def leave() -> None:
        async with opening:
            pass
        await opening.__aexit__(None, None, None)

    if awaited:
        asyncio.run(leave())
    else:
        with opening:
            pass
        opening.__exit__(None, None, None)
    assert len(world.records("task_end")) == 1
    world.enforcer.close()
    assert len(world.exporter.get_finished_spans()) == 1


FORKED_BODIES = """
import asyncio, os, sys
from agent_identity import Agent, Enforcer, Human, Scope
from agent_identity.errors import Denied
from agent_identity.policy import Decision, Effect, Finding

alice, clerk = Human("alice@example.com"), Agent("clerk", owner="it@example.com")

class Finder:
    def inspect(self, content):
        return (Finding(category="pii", inspector="finder"),) if content.direction == "output" else ()

class NoFindings:
    name, version, digest = "no-findings", "1", "A" * 43

    def decide(self, request):
        return Decision(effect=Effect.BLOCK if request.findings else Effect.ALLOW, reason="policy_allows")

def act(enforcer, how):
    children = []

    def body():
        children.append(os.fork())
        if how == "raises":
            raise LookupError
        return 1

    @enforcer.tool
    def forks():
        return body()

    @enforcer.tool
    async def forks_async():
        return body()

    @enforcer.tool
    def streams():
        yield body()

    try:
        if how == "async":
            asyncio.run(forks_async())
        elif how == "block":
            with enforcer.action("forks") as call:
                call.result = body()
        elif how == "generator":
            list(streams())
        else:
            forks()
    except (LookupError, Denied):
        pass
    return children[0]

for how in sys.argv[3:]:
    inspectors = (Finder(),) if how == "withheld" else ()
    enforcer = Enforcer.open(f"{sys.argv[1]}/{how}", mode=sys.argv[2], inspectors=inspectors, policy=NoFindings())
    if how == "outside":
        child = act(enforcer, how)
    else:
        scope = Scope({"forks": None, "forks_async": None, "streams": None})
        with enforcer.task("forks", principal=alice, agent=clerk, scope=scope):
            child = act(enforcer, how)
    enforcer.close()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks on this platform")
@pytest.mark.parametrize("mode", ["enforce", "monitor"])
def test_ac_34_a_fork_inside_a_body_has_one_outcome(tmp_path: Path, mode: str) -> None:
    """Where both sides of a fork come back from a body, the parent concludes call and task, and all verifies."""
    ways = ["returns", "raises", "withheld", "async", "block", "generator"] + ["outside"] * (mode == "monitor")
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORKED_BODIES, str(tmp_path), mode, *ways],
        env={**os.environ, "PYTHONPATH": str(Path(agent_identity.__file__).parents[1])},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    for way in ways:
        reader = open_ledger(tmp_path / way)
        lines = [line for stream in reader.streams() for line in reader.entries(stream)]
        records = [decode_record(line.record) for line in lines]
        (intent,) = [record["id"] for record in records if record["kind"] == "intent"]
        assert [record["intent"] for record in records if "intent" in record] == [intent]
        assert len([record for record in records if record["kind"] == "task_end"]) == (way != "outside")
        report = Verifier().ledger(tmp_path / way)
        assert {p.code for p in report.findings} <= ({"allowed_without_task"} if way == "outside" else set())


def test_ac_41_a_block_left_in_a_copied_context_leaves_the_original_alone(world: Any) -> None:
    """A copy of the context knows the block as well, and cannot take it off where it was entered."""
    opening = world.task(OPEN)
    task = opening.__enter__()
    contextvars.copy_context().run(opening.__exit__, None, None, None)
    assert not task.lease.live
    assert world.enforcer.current_task is task  # Ended, and so refused; the context is the caller's to leave.
    with world.refused("task_ended", NoTask):
        world.tool()(1)
    otel.attach(Context())
