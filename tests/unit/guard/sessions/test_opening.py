"""Tasks: authority begins and ends with the block, delegation only narrows, the context only finds."""

import asyncio
import contextvars
import dataclasses
import functools
import inspect
import logging
import threading
from collections.abc import AsyncGenerator, Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import timedelta
from typing import Any

import pytest
from opentelemetry import context as otel
from plain_records import error_type

from agent_identity import Agent, Enforcer, Human, Scope, Service
from agent_identity._guard.tasks.task_context import Attachment
from agent_identity._identity.common.record_bytes import encode_record
from agent_identity.adapters import Call, CallRequest
from agent_identity.constraints import Range
from agent_identity.errors import (
    AttenuationError,
    ConfigurationError,
    Denied,
    EvidenceError,
    GrantExpired,
    NoTask,
    TokenError,
)

OPEN = Scope("tool")
HELPER = Agent("helper", owner="it@example.com", version="2")


def guarded(world: Any) -> Callable[..., Any]:
    @world.enforcer.tool(name="tool")
    def tool(x: int = 1) -> int:
        return x

    return tool


# -------------------------------------------------------------------------------------- begin and end


def test_a_task_says_what_it_is(world: Any) -> None:
    """Inside the block the task is current and knows its parties, scope and end; its grant is the chain's leaf."""
    with world.task(OPEN, principal=Service("billing"), ttl=timedelta(minutes=2), max_depth=1) as task:
        assert world.enforcer.current_task is task
        assert (task.purpose, task.principal, task.agent.id) == ("a purpose", Service("billing"), "invoice-clerk")
        assert task.scope == OPEN
        assert task.grant is task.chain.leaf is task.chain.root
        assert (task.grant.depth, task.grant.max_depth) == (0, 1)
        assert task.expires_at == world.clock.wall_ns() // 10**9 + 120
        assert task.grant.token not in repr(task)
    assert world.enforcer.current_task is None


def test_a_task_leaves_its_records_and_its_span(world: Any) -> None:
    """Grant, start and end are in the ledger with the same parties; the span carries the grant itself."""
    tool = guarded(world)
    with world.task(OPEN) as task:
        world.clock.advance(2)
        tool()
    grant, start, end = world.records("grant", "task_start", "task_end")
    assert grant["grant"]["token"] == task.grant.token
    assert start["task"]["purpose"] == "a purpose"
    assert end["counts"] == {"intents": "1", "outcomes": "1", "open": "0"}
    assert int(end["time"]["end"]) - int(end["time"]["start"]) == 2 * 10**9
    for record in (grant, start, end):
        assert record["task"]["id"] == task.id
        assert record["principal"] == {"id": "alice@example.com", "kind": "human", "provenance": "asserted"}
        assert record["chain"] == [{"id": "invoice-clerk", "grant": task.grant.hash}]
        assert "error" not in record
    (span,) = world.spans("invoke_agent")
    assert span.name == "invoke_agent invoice-clerk"
    assert span.attributes["agent_identity.delegation.grant"] == task.grant.token
    assert span.attributes["agent_identity.record.id"] == end["id"]


def test_the_end_of_a_task_waits_for_its_spans(world: Any) -> None:
    """When the block is left, the spans of the task are with their processor, signed."""
    tool = guarded(world)
    with world.task(OPEN):
        tool()
    finished = world.exporter.get_finished_spans()
    assert [span.name for span in finished] == ["execute_tool tool", "invoke_agent invoice-clerk"]
    assert all("agent_identity.attestation.signature" in span.attributes for span in finished)


def test_a_block_that_raises_ends_its_task(world: Any) -> None:
    """The exception comes out unchanged, the authority is over, the record names the class."""
    with pytest.raises(LookupError), world.task(OPEN) as task:
        raise LookupError("canary")
    assert not task.lease.live
    (end,) = world.records("task_end")
    assert end["error"] == "LookupError"
    assert "canary" not in encode_record(end).decode()


def test_ending_early_is_immediate_and_idempotent(world: Any) -> None:
    """``task.end()`` ends the authority inside the block; leaving the block records the end once."""
    tool = guarded(world)
    with world.task(OPEN) as task:
        tool()
        task.end()
        task.end()
        with pytest.raises(NoTask) as caught:
            tool()
        assert caught.value.code == "task_ended"
        with pytest.raises(NoTask):
            world.enforcer.delegate(HELPER, scope=OPEN).__enter__()
    assert len(world.records("task_end")) == 1


def test_a_task_works_in_async_code(world: Any) -> None:
    """``async with`` opens and ends a task without blocking the loop."""
    tool = guarded(world)

    async def main() -> None:
        async with world.task(OPEN) as task:
            assert tool() == 1
            async with world.enforcer.delegate(HELPER, scope=OPEN):
                assert tool() == 1
        assert not task.lease.live
        with pytest.raises(LookupError):
            async with world.task(OPEN):
                raise LookupError

    asyncio.run(main())
    assert len(world.records("task_end")) == 3


def test_a_task_works_in_another_event_loop_than_asyncio(world: Any) -> None:
    """Where no asyncio loop runs, as under trio, leaving the block waits in place."""
    tool = guarded(world)

    async def main() -> None:
        async with world.task(OPEN):
            assert tool() == 1

    coroutine = main()
    with pytest.raises(StopIteration):
        coroutine.send(None)
    assert len(world.exporter.get_finished_spans()) == 2


def test_a_task_is_opened_once(world: Any) -> None:
    """A second block needs a second task; leaving what was never entered does nothing."""
    opening = world.task(OPEN)
    opening.__exit__(None, None, None)
    with opening:
        pass
    with pytest.raises(Denied) as caught, opening:
        pytest.fail("the block ran")
    assert caught.value.code == "already_entered"

    async def main() -> None:
        await world.task(OPEN).__aexit__(None, None, None)

    asyncio.run(main())
    assert len(world.records("task_start")) == 1


def test_a_task_whose_spans_are_late_ends_all_the_same(
    world: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Spans fail open: if they are not signed in time, the block is left, with a warning."""

    def late(*_: object) -> None:
        raise EvidenceError("expected the callbacks of all records, got a timeout", code="evidence_pending")

    with monkeypatch.context() as patch:
        patch.setattr(type(world.enforcer._enforcement.ledger), "drain", late)
        with world.task(OPEN):
            pass
    assert "will follow" in caplog.text
    assert len(world.spans("invoke_agent")) == 1


@pytest.mark.parametrize("kind", ["grant", "task_start"])
def test_a_task_that_cannot_be_recorded_does_not_open(world: Any, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """No evidence, no authority: the error is typed, nothing stays current, the span is ended."""
    ledger = type(world.enforcer._enforcement.ledger)
    append = ledger.append

    def flaky(this: Any, make: Any, **options: Any) -> Any:
        if error_type(make) == kind:
            raise EvidenceError("disk full")
        return append(this, make, **options)

    with monkeypatch.context() as patch:
        patch.setattr(ledger, "append", flaky)
        opening = world.task(OPEN)
        with pytest.raises(EvidenceError), opening:
            pytest.fail("the block ran")
    assert world.enforcer.current_task is None
    assert not opening._task.lease.live
    assert len(world.spans("invoke_agent")) == 1


def test_an_end_that_cannot_be_recorded_is_said(
    world: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The authority ends all the same. The caller is told, unless the block raised: that error comes first."""
    ledger = type(world.enforcer._enforcement.ledger)
    append = ledger.append

    def flaky(this: Any, make: Any, **options: Any) -> Any:
        if error_type(make) == "task_end":
            raise EvidenceError("disk full")
        return append(this, make, **options)

    monkeypatch.setattr(ledger, "append", flaky)
    with pytest.raises(EvidenceError), world.task(OPEN) as first:
        pass
    assert not first.lease.live
    with pytest.raises(LookupError), world.task(OPEN) as second:
        raise LookupError("canary")
    assert not second.lease.live

    async def main() -> None:
        async with world.task(OPEN):
            raise LookupError("canary")

    with pytest.raises(LookupError):
        asyncio.run(main())
    assert world.enforcer.current_task is None
    assert "could not be recorded: EvidenceError" in caplog.text
    assert "canary" not in caplog.text
    assert len(world.spans("invoke_agent")) == 3


# ------------------------------------------------------------------------------------ what is checked


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"principal": "alice"}, TypeError),
        ({"principal": HELPER}, TypeError),
        ({"agent": "clerk"}, TypeError),
        ({"agent": Human("x")}, TypeError),
        ({"scope": "tool"}, TypeError),
        ({"scope": None}, TypeError),
        ({"ttl": timedelta(0)}, ValueError),
        ({"ttl": timedelta(seconds=-1)}, ValueError),
        ({"ttl": timedelta(days=1, seconds=1)}, ValueError),
        ({"max_depth": -1}, ValueError),
        ({"max_depth": 33}, ValueError),
    ],
)
def test_a_task_is_opened_with_the_right_things(world: Any, options: dict[str, Any], error: type[Exception]) -> None:
    """Wrong parties, scopes, lives and depths raise before anything is recorded."""
    given = {"scope": OPEN, **options}
    with pytest.raises(error), world.task(given.pop("scope"), **given):
        pytest.fail("the block ran")
    assert world.records("grant", "task_start") == []


@pytest.mark.parametrize("purpose", ["", " ", "x" * 1_025, "a\x1bb", 5])
def test_a_purpose_is_text_that_records_can_hold(world: Any, purpose: Any) -> None:
    """The purpose stands in every report, so it is one visible line."""
    options = {"principal": Human("a"), "agent": HELPER, "scope": OPEN}
    with pytest.raises((ValueError, TypeError), match="purpose"):
        world.enforcer.task(purpose, **options)
    with pytest.raises((ValueError, TypeError), match="purpose"):
        world.enforcer.delegate(HELPER, scope=OPEN, purpose=purpose)


# ------------------------------------------------------------------------------------------- delegation


def test_a_delegated_part_carries_the_whole_chain(world: Any) -> None:
    """Its records name both agents root first, its own grant last, the same task and the same human."""
    tool = guarded(world)
    with world.task(OPEN) as task, world.enforcer.delegate(HELPER, scope=OPEN, purpose="a part") as part:
        assert world.enforcer.current_task is part
        assert (part.id, part.principal, part.purpose, part.expires_at) == (
            task.id,
            task.principal,
            "a part",
            task.expires_at,
        )
        tool()
    (outcome,) = world.records("outcome")
    assert outcome["chain"] == [
        {"id": "invoice-clerk", "grant": task.grant.hash},
        {"id": "helper", "grant": part.grant.hash},
    ]
    assert outcome["agent"] == {"id": "helper", "owner": "it@example.com", "version": "2"}
    part_end, task_end = world.records("task_end")
    assert [end["counts"]["outcomes"] for end in (part_end, task_end)] == ["1", "0"]


def test_delegation_only_narrows(world: Any) -> None:
    """More tools, wider arguments, a longer life or one level too many do not open."""
    with world.task(Scope("pay", amount=Range(max=100)), max_depth=1) as task:
        for wider in (Scope("wipe"), Scope("pay"), Scope("pay", amount=Range(max=101))):
            with pytest.raises(AttenuationError), world.enforcer.delegate(HELPER, scope=wider):
                pytest.fail("the block ran")
        narrow = Scope("pay", amount=Range(max=5))
        with world.enforcer.delegate(HELPER, scope=narrow, ttl=timedelta(hours=2)) as part:
            assert part.expires_at == task.expires_at
            with pytest.raises(AttenuationError), world.enforcer.delegate(HELPER, scope=narrow):
                pytest.fail("the block ran")
        with world.enforcer.delegate(HELPER, scope=narrow, ttl=timedelta(seconds=30)) as part:
            assert part.expires_at < task.expires_at
    assert len(world.records("task_start")) == 3


def test_delegation_needs_a_live_task_and_the_right_things(world: Any) -> None:
    """Outside any task, after its end or with other types there is nothing to delegate."""
    with pytest.raises(NoTask, match="cannot delegate"), world.enforcer.delegate(HELPER, scope=OPEN):
        pytest.fail("the block ran")
    for agent, scope in (("helper", OPEN), (HELPER, "tool")):
        with pytest.raises(TypeError):
            world.enforcer.delegate(agent, scope=scope)
    with world.task(OPEN):
        world.clock.advance(300)
        with pytest.raises(GrantExpired), world.enforcer.delegate(HELPER, scope=OPEN):
            pytest.fail("the block ran")


def test_the_end_of_a_task_ends_its_parts(world: Any) -> None:
    """A delegated part does not outlive the task, and its own end leaves the task alone."""
    tool = guarded(world)
    with world.task(OPEN) as task:
        with world.enforcer.delegate(HELPER, scope=OPEN) as part:
            part.end()
            with pytest.raises(NoTask):
                tool()
        assert tool() == 1
        with world.enforcer.delegate(HELPER, scope=OPEN):
            task.end()
            with pytest.raises(NoTask):
                tool()


# ----------------------------------------------------------------------------------------------- time


def test_a_grant_expires_by_either_clock(world: Any) -> None:
    """Time passing, or the wall clock set forward, ends the authority; the refusal is recorded."""
    tool = guarded(world)
    with world.task(OPEN, ttl=timedelta(seconds=10)):
        world.clock.advance(9.9)
        assert tool() == 1
        world.clock.advance(0.1)
        with pytest.raises(GrantExpired) as caught:
            tool()
        assert caught.value.code == "grant_expired"
    with world.task(OPEN, ttl=timedelta(seconds=10)):
        world.clock.set_wall(world.clock.wall_ns() + 10 * 10**9)
        with pytest.raises(GrantExpired):
            tool()
    assert world.outcomes() == ["success", "denied", "denied"]


# --------------------------------------------------------------------------------------------- binding


def test_bound_functions_carry_the_task_into_threads(world: Any) -> None:
    """Threads and executors know no task; what was bound inside one does, and loses it with the task."""
    tool = guarded(world)
    with ThreadPoolExecutor(1) as pool:
        with world.task(OPEN):
            bound = world.enforcer.bind(tool)
            assert pool.submit(bound, x=3).result() == 3
            assert pool.submit(lambda: world.enforcer.current_task).result() is None
            with pytest.raises(NoTask):
                pool.submit(tool).result()
        with pytest.raises(NoTask) as caught:
            pool.submit(bound).result()
        assert caught.value.code == "task_ended"


def test_bound_coroutines_carry_the_task(world: Any) -> None:
    """A bound coroutine function stays one, and has the task wherever it is awaited."""

    @world.enforcer.tool(name="tool")
    async def tool(x: int = 1) -> int:
        await asyncio.sleep(0)
        return x

    with world.task(OPEN):
        bound = world.enforcer.bind(tool)
        partial = world.enforcer.bind(functools.partial(tool, 5))
    assert inspect.iscoroutinefunction(bound)

    with world.task(OPEN):
        alive = world.enforcer.bind(tool)

        async def main() -> int:
            otel.attach(otel.Context())
            return await alive(x=4)

        assert asyncio.run(main()) == 4
    for late in (bound, partial):
        with pytest.raises(NoTask):
            asyncio.run(late())


def test_bound_generators_carry_the_task(world: Any) -> None:
    """A guarded generator that is made by a bound function is judged under the bound task."""

    @world.enforcer.tool(name="tool")
    def tool() -> Generator[int]:
        yield 1

    @world.enforcer.tool(name="tool")
    async def async_tool() -> AsyncGenerator[int]:
        yield 1

    async def collect(bound: Callable[..., Any]) -> list[int]:
        return [item async for item in bound()]

    with world.task(OPEN), ThreadPoolExecutor(1) as pool:
        bound, async_bound = world.enforcer.bind(tool), world.enforcer.bind(async_tool)
        assert pool.submit(lambda: list(bound())).result() == [1]
        assert pool.submit(lambda: asyncio.run(collect(async_bound))).result() == [1]


def test_binding_outside_any_task_carries_none(world: Any) -> None:
    """A function bound where no task is open does not pick up the one in which it is called."""
    tool = guarded(world)
    bound = world.enforcer.bind(tool)
    with world.task(OPEN), pytest.raises(NoTask):
        bound()


def test_a_block_left_in_another_context_disturbs_nothing(world: Any, caplog: pytest.LogCaptureFixture) -> None:
    """A framework may leave the block elsewhere: the authority ends, and the other context keeps what it has."""
    tool = guarded(world)

    def left_elsewhere() -> None:
        opening = world.task(OPEN)
        task = opening.__enter__()
        with world.enforcer.action("tool") as call, ThreadPoolExecutor(1) as pool:
            pool.submit(call.detach).result()
            pool.submit(opening.__exit__, None, None, None).result()
        assert not task.lease.live
        with pytest.raises(NoTask) as caught:
            tool()
        assert caught.value.code == "task_ended"

    with caplog.at_level(logging.DEBUG):
        contextvars.copy_context().run(left_elsewhere)
    refusal = "tool refused: task_ended"
    assert [line for line in caplog.messages if not line.startswith(refusal)] == []


def test_an_attachment_is_released_once() -> None:
    """Releasing twice, or where nothing was attached, changes nothing."""
    before = otel.get_current()
    attachment = Attachment(otel.set_value("a-key", "a-value"))
    assert otel.get_value("a-key") == "a-value"
    attachment.release()
    attachment.release()
    assert otel.get_current() == before
    call = Call("tool", CallRequest({}), None, 0)
    call.attach()
    call.detach()
    assert otel.get_current() == before


# ------------------------------------------------------------------------------------ several enforcers


def test_a_task_counts_for_its_own_enforcer_only(opened: Any) -> None:
    """Two enforcers in one program do not share authority: the other one sees no task."""
    one, two = opened(), opened()
    tool = guarded(two)
    with one.task(OPEN):
        assert two.enforcer.current_task is None
        with pytest.raises(NoTask) as caught:
            tool()
    assert caught.value.code == "no_task"
    with two.task(OPEN), one.task(OPEN):
        assert tool() == 1


def test_a_closed_enforcer_opens_and_runs_nothing(opened: Any) -> None:
    """Closing ends all tasks, in every thread; what is called then does not run, and says why."""
    world = opened()
    tool = guarded(world)
    ended = threading.Event()
    entered = threading.Event()
    caught: list[BaseException] = []

    def elsewhere() -> None:
        try:
            with world.task(OPEN):
                entered.set()
                ended.wait(10)
                with pytest.raises((Denied, EvidenceError)):
                    tool()
        except EvidenceError as error:
            caught.append(error)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    assert entered.wait(10)
    world.enforcer.close()
    world.enforcer.close()
    ended.set()
    thread.join(10)
    assert caught[0].code == "ledger_closed"
    for use in (
        lambda: world.task(OPEN),
        lambda: world.enforcer.delegate(HELPER, scope=OPEN),
        lambda: world.enforcer.tool(test_an_open_task_outlives_nothing_of_a_stack),
        lambda: world.enforcer.action("tool"),
    ):
        with pytest.raises(ConfigurationError, match="closed"):
            use()
    assert world.records()[-1]["kind"] == "stream_end"


def test_an_open_task_outlives_nothing_of_a_stack(world: Any) -> None:
    """Blocks left in the wrong order leave no live authority behind."""
    tool = guarded(world)

    def crossed() -> None:
        outer, inner = world.task(OPEN), world.task(OPEN)
        outer.__enter__()
        inner.__enter__()
        outer.__exit__(None, None, None)
        inner.__exit__(None, None, None)
        with pytest.raises(Denied):
            tool()

    contextvars.copy_context().run(crossed)
    with ExitStack() as stack:
        stack.enter_context(world.task(OPEN))
        assert tool() == 1


def test_a_task_of_another_enforcer_is_named_as_that(world: Any) -> None:
    """Two enforcers over one directory do not share tasks, and the refusal tells the way out; else there is none."""
    tool = guarded(world)
    with Enforcer.open(world.directory) as other, other.task("p", principal=Human("alice"), agent=HELPER, scope=OPEN):
        for use in (tool, world.enforcer.delegate(HELPER, scope=OPEN).__enter__):
            with pytest.raises(NoTask, match=r"of another enforcer.* open the directory once"):
                use()
    for use in (tool, world.enforcer.delegate(HELPER, scope=OPEN).__enter__):
        with pytest.raises(NoTask, match=r"no task is open; open one by 'with enforcer.task\(\.\.\.\)'"):
            use()


def test_a_child_process_forgets_the_tasks_of_its_parent(world: Any) -> None:
    """What the interpreter calls in a forked child hides every task so far and leaves room for new ones."""
    tool = guarded(world)

    @world.enforcer.tool(name="tool")
    def stream() -> Generator[int]:
        yield from range(2)

    with world.task(OPEN):
        running = stream()
        next(running)
        world.enforcer.after_fork_in_child()
        assert world.enforcer.current_task is None
        for use in (tool, lambda: next(running)):
            with pytest.raises(NoTask) as caught:
                use()
            assert caught.value.code == "no_task"
        with world.task(OPEN):
            assert tool() == 1
    assert world.outcomes() == ["denied", "denied", "success"]
    assert "intent" not in world.records("outcome")[1]


def test_a_grant_that_its_anchor_does_not_trust_does_not_open(opened: Any) -> None:
    """The chain is verified when the task opens: an issuer key that is not valid now opens nothing."""
    world = opened()
    world.clock.set_wall(5 * 10**9)
    with world.task(OPEN):
        pass
    world.enforcer._tasks = dataclasses.replace(world.enforcer._tasks, anchor=_untrusted)
    with pytest.raises(TokenError), world.task(OPEN):
        pytest.fail("the block ran")


def _untrusted(_: str) -> Any:
    raise TokenError("expected a trusted key", code="unknown_key")
