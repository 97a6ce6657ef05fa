"""The one lifecycle of a guarded call, as authors of adapters use it."""

import asyncio
import io
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any

import pytest
from opentelemetry import context as otel
from opentelemetry import trace

from agent_identity import Effect, Finding, Human, Rule, RuleSet, Scope
from agent_identity._identity.common.ids import is_digest
from agent_identity.adapters import Call, CallRequest, GuardedCall, Shown
from agent_identity.constraints import Contains
from agent_identity.errors import (
    ConfigurationError,
    ContentBlocked,
    Denied,
    LimitExceeded,
    NoTask,
    OutOfScope,
    Routed,
)
from agent_identity.limits import Limit
from agent_identity.options import Durability
from agent_identity.policy import Content
from agent_identity.testing import FixedClock

OPEN = Scope("tool")
ASKED = CallRequest({"x": 1}, call_id="call-1")


class Interrupted(BaseException):
    """What a framework raises to leave a body that it will call again."""


class HandedOver(Exception):
    """What a framework raises to hand the work to another agent."""


class Finds:
    """An inspector that finds a word, and remembers what it was shown."""

    def __init__(self) -> None:
        self.shown: list[object] = []

    def inspect(self, content: Content) -> list[Finding]:
        """Look at what came out."""
        if content.direction == "output":
            self.shown.append(content.value)
        found = "secret" in repr(content.value)
        return [Finding(category="secret", inspector="finds")] if found else []


WITHHOLD = RuleSet(Rule(Effect.BLOCK, when={"findings.categories": Contains("secret")}, id="withhold"))

Run = Callable[[GuardedCall, CallRequest, Callable[[Call], object]], object]


def _run(guard: GuardedCall, request: CallRequest, body: Callable[[Call], object]) -> object:
    return guard.run(request, body)


def _run_async(guard: GuardedCall, request: CallRequest, body: Callable[[Call], object]) -> object:
    return asyncio.run(guard.run_async(request, body))


def _run_coroutine(guard: GuardedCall, request: CallRequest, body: Callable[[Call], object]) -> object:
    async def later(call: Call) -> object:
        await asyncio.sleep(0)
        return body(call)

    return asyncio.run(guard.run_async(request, later))


def _in_steps(guard: GuardedCall, request: CallRequest, body: Callable[[Call], object]) -> object:
    call = guard.begin(request)
    try:
        result = (call.route or body)(call)
    except BaseException as error:
        guard.fail(call, error)
        raise
    return guard.succeed(call, result)


def _in_steps_async(guard: GuardedCall, request: CallRequest, body: Callable[[Call], object]) -> object:
    async def steps() -> object:
        call = await guard.begin_async(request)
        try:
            result = (call.route or body)(call)
        except BaseException as error:
            await guard.fail_async(call, error)
            raise
        return await guard.succeed_async(call, result)

    return asyncio.run(steps())


@pytest.fixture(params=[_run, _run_async, _run_coroutine, _in_steps, _in_steps_async])
def run(request: Any) -> Run:
    """Each way through the lifecycle."""
    return request.param  # type: ignore[no-any-return]


def test_a_body_gets_what_was_judged_and_leaves_both_records(world: Any, run: Run) -> None:
    """The body runs once, under the span of the call; what the framework knows is on record."""
    guard = world.enforcer.guard("s.example/tool", kind="other", server="s.example", labels=["payment"])
    seen: list[Any] = []

    def body(call: Call) -> str:
        seen.append((dict(call.arguments), call.call_id, trace.get_current_span().get_span_context().is_valid))
        return "done"

    with world.task(Scope("s.example/tool")):
        before = otel.get_current()
        assert run(guard, ASKED, body) == "done"
        assert otel.get_current() == before
    assert seen == [({"x": 1}, "call-1", True)]
    (intent, outcome) = world.records("intent", "outcome")
    assert (intent["action"]["kind"], intent["action"]["tool"], intent["action"]["call"]) == (
        "other",
        "s.example/tool",
        "call-1",
    )
    assert (outcome["outcome"], outcome["intent"], "result" in outcome["action"]) == ("success", intent["id"], True)


def test_a_refused_call_runs_nothing(world: Any, run: Run) -> None:
    """Outside any task, and outside the scope; each refusal is on record."""
    guard = world.enforcer.guard("tool")
    with pytest.raises(NoTask):
        run(guard, ASKED, lambda _: pytest.fail("the body ran"))
    with world.task(Scope("tool", x=2)), pytest.raises(OutOfScope) as caught:
        run(guard, ASKED, lambda _: pytest.fail("the body ran"))
    assert caught.value.reference == world.records("outcome")[-1]["id"]
    assert world.outcomes() == ["denied", "denied"]


def test_a_refusal_that_an_adapter_has_reached_is_that_of_the_call(world: Any, run: Run) -> None:
    """It stands on record with the call and its task, and is the one that is raised."""
    guard = world.enforcer.guard("tool")
    reached = Denied("unknown here", code="tool_not_listed")
    with world.task(OPEN) as task, pytest.raises(Denied) as caught:
        run(guard, ASKED._replace(refusal=reached), lambda _: pytest.fail("the body ran"))
    assert caught.value is reached
    (outcome,) = world.records("outcome")
    assert (outcome["error"], outcome["task"]["id"]) == ("tool_not_listed", task.id)


def test_a_route_runs_in_place_of_the_body(opened: Any, run: Run) -> None:
    """Where the adapter can run it; else the call is refused."""
    policy = RuleSet(Rule(Effect.ROUTE, to="desk", id="desk"))
    world = opened(policy=policy, routes={"desk": lambda call: dict(call.arguments)})
    guard = world.enforcer.guard("tool")
    with world.task(OPEN):
        assert run(guard, ASKED, lambda _: pytest.fail("the body ran")) == {"x": 1}
        with pytest.raises(Routed):
            run(guard, ASKED._replace(can_route=False), lambda _: pytest.fail("the body ran"))
    assert world.outcomes() == ["routed", "routed"]


@pytest.mark.parametrize("suspends", [(Interrupted,), lambda error: type(error) is Interrupted])
def test_a_suspended_call_takes_up_what_it_had(world: Any, run: Run, suspends: Any) -> None:
    """An interrupt is no error, and the same call made again pays nothing twice."""
    guard = world.enforcer.guard("tool", suspends=suspends)

    def interrupted(_: Call) -> None:
        raise Interrupted

    with world.task(OPEN, limits=(Limit.uses("tool", 1),)):
        with pytest.raises(Interrupted):
            run(guard, ASKED, interrupted)
        assert run(guard, ASKED, lambda _: 5) == 5
        with pytest.raises(LimitExceeded):
            run(guard, ASKED._replace(call_id="call-2"), lambda _: pytest.fail("the body ran"))
    assert world.outcomes() == ["suspended", "success", "denied"]


def test_a_call_may_be_suspended_without_an_exception(world: Any) -> None:
    """For frameworks that tell by a value that a body will be called again."""
    guard = world.enforcer.guard("tool", suspends=(Interrupted,))
    with world.task(OPEN, limits=(Limit.uses("tool", 1),)):
        before = otel.get_current()
        guard.suspend(guard.begin(ASKED))
        assert otel.get_current() == before
        guard.succeed(guard.begin(ASKED))
    assert world.outcomes() == ["suspended", "success"]


def test_exceptions_are_recorded_as_what_they_are(world: Any, run: Run) -> None:
    """One that carries a result is a success, any other an error by its class; both are raised."""
    guard = world.enforcer.guard("tool", returns=(HandedOver,))

    def raising(error: Exception) -> Callable[[Call], object]:
        def body(_: Call) -> object:
            raise error

        return body

    with world.task(OPEN):
        for kind in (HandedOver, LookupError):
            with pytest.raises(kind):
                run(guard, ASKED, raising(kind()))
    first, second = world.records("outcome")
    assert (first["outcome"], second["outcome"], second["error"]) == ("success", "error", "LookupError")


@pytest.mark.parametrize("name", ["suspends", "returns"])
def test_what_cannot_tell_whether_a_body_failed_hides_nothing(world: Any, run: Run, name: str, caplog: Any) -> None:
    """The error of the body comes out and is on record; that of what was asked about it is in the log."""

    def asked(_: BaseException) -> bool:
        raise ZeroDivisionError

    def failing(_: Call) -> object:
        raise LookupError

    with world.task(OPEN), pytest.raises(LookupError):
        run(world.enforcer.guard("tool", **{name: asked}), ASKED, failing)
    (outcome,) = world.records("outcome")
    assert (outcome["outcome"], outcome["error"]) == ("error", "LookupError")
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize("name", ["suspends", "returns"])
@pytest.mark.parametrize("given", [ValueError, [ValueError], ("ValueError",), (int,), 5])
def test_what_is_no_exception_is_refused_at_once(world: Any, name: str, given: Any) -> None:
    """A class alone is callable, and would be taken for what tells: an exception that is true."""
    with pytest.raises(TypeError, match=name):
        world.enforcer.guard("tool", **{name: given})


def test_what_is_shown_is_looked_at_and_digested_in_place_of_the_value(opened: Any, run: Run) -> None:
    """The caller gets the value as it is; a result that says that it failed is recorded so."""
    finds = Finds()
    world = opened(inspectors=[finds])
    guard, value = world.enforcer.guard("tool"), object()
    with world.task(OPEN):
        assert run(guard, ASKED, lambda _: Shown(value, {"text": "fine"})) is value
        assert run(guard, ASKED, lambda _: Shown(value, {"text": "sorry"}, LookupError())) is value
        assert run(guard, ASKED, lambda _: Shown(value, None)) is value
    assert finds.shown == [{"text": "fine"}, {"text": "sorry"}, None]
    assert [(r["outcome"], r.get("error"), "result" in r["action"]) for r in world.records("outcome")] == [
        ("success", None, True),
        ("error", "LookupError", False),
        ("success", None, False),
    ]


@pytest.mark.parametrize("failure", [None, LookupError()])
def test_what_is_shown_hands_out_nothing_that_still_runs(world: Any, run: Run, failure: Exception | None) -> None:
    """The value is what the caller gets, whatever else is looked at; a tool of resources may hand it out."""

    def body(_: Call) -> Shown:
        return Shown([io.TextIOWrapper(io.BytesIO())], "content", failure)

    with world.task(OPEN):
        with pytest.raises(ConfigurationError) as caught:
            run(world.enforcer.guard("tool"), ASKED, body)
        assert caught.value.code == "lazy_result"
        run(world.enforcer.guard("tool", lazy="resource"), ASKED, body)
    first, second = world.records("outcome")
    assert (first["outcome"], first["error"]) == ("error", "lazy_result")
    assert second["outcome"] == ("error" if failure else "success")


@pytest.mark.parametrize("failure", [None, LookupError()])
def test_what_is_shown_can_be_withheld(opened: Any, run: Run, failure: Exception | None) -> None:
    """A failure whose text the policy withholds does not reach the caller either."""
    world = opened(inspectors=[Finds()], policy=WITHHOLD)
    with world.task(OPEN), pytest.raises(ContentBlocked):
        run(world.enforcer.guard("tool"), ASKED, lambda _: Shown("a secret", "a secret", failure))
    assert world.outcomes() == ["denied"]


def test_a_stream_passes_the_guard_at_each_step(world: Any, run: Run) -> None:
    """A generator that a body returns ends with its task, and the consumer keeps its own context."""
    ran: list[int] = []

    def numbers(_: Call) -> Iterator[int]:
        for number in range(3):
            ran.append(number)
            yield number

    with world.task(OPEN):
        stream: Any = run(world.enforcer.guard("tool"), ASKED, numbers)
        before = otel.get_current()
        assert next(stream) == 0
        assert otel.get_current() == before
    with pytest.raises(NoTask):
        next(stream)
    assert ran == [0]
    assert world.outcomes() == ["denied"]


def test_whoever_hands_out_items_has_each_of_them_looked_at(opened: Any) -> None:
    """The steps between the items of a stream that a framework drives itself."""
    world = opened(inspectors=[Finds()], policy=WITHHOLD)
    guard = world.enforcer.guard("tool")
    with world.task(OPEN):
        call = guard.begin(ASKED)
        guard.check(call)
        guard.emit(call, "fine")
        with pytest.raises(ContentBlocked):
            guard.emit(call, "a secret")
        guard.fail(call, GeneratorExit())

        async def steps() -> None:
            call = await guard.begin_async(ASKED)
            await guard.emit_async(call, "fine")
            world.enforcer.current_task.end()
            with pytest.raises(NoTask):
                await guard.check_async(call)
            await guard.fail_async(call, GeneratorExit())

        asyncio.run(steps())
    assert world.outcomes() == ["denied", "denied"]


async def _check(guard: GuardedCall, call: Call) -> None:
    guard.check(call)


async def _emit(guard: GuardedCall, call: Call) -> None:
    guard.emit(call, "fine")


async def _succeed(guard: GuardedCall, call: Call) -> None:
    guard.succeed(call, "fine")


AGAIN = {
    "check": _check,
    "check_async": lambda guard, call: guard.check_async(call),
    "emit": _emit,
    "emit_async": lambda guard, call: guard.emit_async(call, "fine"),
    "succeed": _succeed,
    "succeed_async": lambda guard, call: guard.succeed_async(call, "fine"),
}


@pytest.mark.parametrize("inspectors", [(), (Finds(),)])
@pytest.mark.parametrize("again", AGAIN)
def test_a_call_that_was_refused_stays_refused(opened: Any, inspectors: Any, again: str) -> None:
    """No later step swallows the refusal, and none adds an outcome to the intent, which has one."""
    world = opened(inspectors=inspectors)
    guard = world.enforcer.guard("tool")
    with world.task(OPEN) as task:
        call = guard.begin(ASKED)
        task.end()
        with pytest.raises(NoTask) as first:
            guard.check(call)
        with pytest.raises(NoTask) as second:
            asyncio.run(AGAIN[again](guard, call))
    assert second.value is first.value
    (intent, outcome) = world.records("intent", "outcome")
    assert (outcome["outcome"], outcome["intent"]) == ("denied", intent["id"])


@pytest.mark.parametrize("again", AGAIN)
def test_a_result_that_was_withheld_stays_withheld(opened: Any, again: str) -> None:
    """Also what is fine by itself does not reach the consumer any more."""
    world = opened(inspectors=[Finds()], policy=WITHHOLD)
    guard = world.enforcer.guard("tool")
    with world.task(OPEN):
        call = guard.begin(ASKED)
        with pytest.raises(ContentBlocked):
            guard.emit(call, "a secret")
        with pytest.raises(ContentBlocked):
            asyncio.run(AGAIN[again](guard, call))
        guard.fail(call, GeneratorExit())
    assert world.outcomes() == ["denied"]


@pytest.mark.parametrize("end", ["succeed", "fail", "suspend"])
def test_a_call_that_has_ended_keeps_its_outcome(opened: Any, end: str) -> None:
    """Its body does not go on after the task, and nothing withheld is handed out; the record stays as it is."""
    world = opened(inspectors=[Finds()], policy=WITHHOLD)
    guard = world.enforcer.guard("tool")
    with world.task(OPEN) as task:
        call = guard.begin(ASKED)
        {
            "succeed": lambda: guard.succeed(call, "fine"),
            "fail": lambda: guard.fail(call, LookupError()),
            "suspend": lambda: guard.suspend(call),
        }[end]()
        guard.check(call)
        guard.emit(call, "fine")
        with pytest.raises(ContentBlocked):
            guard.emit(call, "a secret")
        task.end()
        with pytest.raises(NoTask):
            guard.check(call)
        assert guard.succeed(call, "result") == "result"
    assert len(world.outcomes()) == 1


def test_in_monitor_mode_nothing_ends_a_call_early(opened: Any) -> None:
    """What would have been withheld is on record, and no step raises, before the end or after it."""
    world = opened(inspectors=[Finds()], policy=WITHHOLD, mode="monitor")
    guard = world.enforcer.guard("tool")
    with world.task(OPEN) as task:
        call = guard.begin(ASKED)
        guard.emit(call, "a secret")
        task.end()
        guard.check(call)
        assert guard.succeed(call, "a secret") == "a secret"
        guard.check(call)
        guard.emit(call, "a secret")
        assert guard.succeed(call, "a secret") == "a secret"
    (outcome,) = world.records("outcome")
    assert (outcome["outcome"], outcome["decision"]["enforced"]) == ("success", "audit")


def test_a_step_that_nobody_waits_for_any_more_adds_no_outcome(opened: Any) -> None:
    """An inspector still looks when its call is cancelled; what it finds then changes no record."""

    class Cancels:
        def inspect(self, content: Content) -> list[Finding]:
            if content.direction == "output":
                guard.fail(call, asyncio.CancelledError())
            return [Finding(category="secret", inspector="cancels")] if content.direction == "output" else []

    world = opened(inspectors=[Cancels()], policy=WITHHOLD)
    guard = world.enforcer.guard("tool")
    with world.task(OPEN):
        call = guard.begin(ASKED)
        with pytest.raises(ContentBlocked):
            guard.emit(call, "a secret")
    (outcome,) = world.records("outcome")
    assert (outcome["outcome"], outcome["decision"]["enforced"]) == ("cancelled", "allow")


class Gate:
    """Holds up a thread of the guard, once it is armed, until a coroutine lets it go on."""

    def __init__(self) -> None:
        self.armed = False
        self._open = threading.Event()

    def arm(self) -> None:
        """Hold up the next one that comes through, which the running loop is told."""
        self.armed, self._loop, self._there = True, asyncio.get_running_loop(), asyncio.Event()

    def come(self) -> None:
        """Come through."""
        if self.armed:
            self.armed = False
            self._loop.call_soon_threadsafe(self._there.set)
            assert self._open.wait(60)

    async def cancel_there(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        """Run a coroutine, and cancel it when its step stands at the gate."""
        self.arm()
        running = asyncio.ensure_future(coroutine)
        await self._there.wait()
        running.cancel()
        try:
            with pytest.raises(asyncio.CancelledError):
                await running
        finally:
            self._open.set()


class GatedClock(FixedClock):
    """A clock that is asked at a gate."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = Gate()

    def monotonic_ns(self) -> int:
        """Return the time."""
        self.gate.come()
        return super().monotonic_ns()


class GatedInspector:
    """An inspector that looks at results at a gate."""

    def __init__(self) -> None:
        self.gate = Gate()

    def inspect(self, content: Content) -> list[Finding]:
        """Find nothing."""
        if content.direction == "output":
            self.gate.come()
        return []


@pytest.mark.parametrize("where", ["check", "inspector"])
def test_a_stream_that_is_cancelled_while_a_thread_looks_at_it_has_an_outcome(opened: Any, where: str) -> None:
    """The body cleans up, under its own call, and the call is recorded as cancelled."""
    clock, inspector = GatedClock(), GatedInspector()
    world = opened(clock=clock, durability=Durability(sync="disk"), inspectors=[inspector])
    gate = clock.gate if where == "check" else inspector.gate
    spans: list[Any] = []

    @world.enforcer.tool(name="tool")
    async def numbers() -> AsyncIterator[int]:
        spans.append(trace.get_current_span())
        try:
            yield 1
            yield 2
        finally:
            spans.append(trace.get_current_span())

    async def main() -> None:
        async with world.task(OPEN):
            stream: Any = numbers()
            assert await anext(stream) == 1
            await gate.cancel_there(anext(stream))

    asyncio.run(main())
    began, cleaned = spans
    assert cleaned is began
    (outcome,) = world.records("outcome")
    assert (outcome["outcome"], outcome["error"]) == ("cancelled", "CancelledError")


def test_an_awaitable_that_is_cancelled_before_it_runs_has_an_outcome(opened: Any) -> None:
    """What a tool returned is dropped, and its call is recorded as cancelled."""
    clock = GatedClock()
    world = opened(clock=clock, durability=Durability(sync="disk"))

    async def later() -> None:
        pytest.fail("it ran")

    @world.enforcer.tool(name="tool")
    def starts() -> Any:
        return later()

    async def main() -> None:
        async with world.task(OPEN):
            await clock.gate.cancel_there(starts())

    asyncio.run(main())
    (outcome,) = world.records("outcome")
    assert (outcome["outcome"], outcome["error"]) == ("cancelled", "CancelledError")


def test_a_stream_that_is_interrupted_while_it_is_looked_at_has_an_outcome(opened: Any) -> None:
    """Ctrl-C in an inspector ends the body as well."""

    class Interrupts:
        def inspect(self, content: Content) -> list[Finding]:
            if content.direction == "output":
                raise KeyboardInterrupt
            return []

    world, cleaned = opened(inspectors=[Interrupts()]), list[bool]()

    @world.enforcer.tool(name="tool")
    def numbers() -> Iterator[int]:
        try:
            yield 1
        finally:
            cleaned.append(True)

    with world.task(OPEN), pytest.raises(KeyboardInterrupt):
        next(numbers())
    assert cleaned == [True]
    assert world.outcomes() == ["cancelled"]


@pytest.mark.parametrize("first", ["with", "async with"])
@pytest.mark.parametrize("second", ["with", "async with"])
def test_a_block_is_claimed_before_it_is_judged(opened: Any, first: str, second: str) -> None:
    """Whoever comes while the first one is still judged is refused, and no second body runs."""
    refused: list[str] = []

    class Enters:
        """An inspector in whose time somebody else enters the block."""

        def inspect(self, content: Content) -> list[Finding]:
            if content.direction == "input" and content.value == {"x": 1} and not refused:
                with pytest.raises(Denied) as caught:
                    enter(second)
                refused.append(caught.value.code)
            return []

    world, ran = opened(inspectors=[Enters()]), list[bool]()

    def enter(how: str) -> None:
        async def entered() -> None:
            async with action:
                ran.append(True)

        if how == "with":
            with action:
                ran.append(True)
        else:
            asyncio.run(entered())

    with world.task(OPEN):
        action = world.enforcer.guard("tool").block(ASKED)
        enter(first)
    assert (refused, ran) == (["already_entered"], [True])
    assert world.outcomes() == ["denied", "success"]
    assert len(world.records("intent")) == 1


def test_a_block_that_was_refused_may_be_tried_again(world: Any) -> None:
    """A refusal of the entry is no entry."""
    action, again = world.enforcer.action("tool"), world.enforcer.action("tool")
    with pytest.raises(NoTask), action:
        pytest.fail("the block ran")

    async def enter() -> None:
        async with again:
            pass

    with pytest.raises(NoTask):
        asyncio.run(enter())
    with world.task(OPEN):
        with action:
            pass
        asyncio.run(enter())
    assert world.outcomes() == ["denied", "denied", "success", "success"]


@pytest.mark.parametrize("mode", ["with", "async with"])
def test_a_block_is_a_call_whose_body_is_the_block(world: Any, mode: str) -> None:
    """What it sets as the result is digested, and is its own."""
    guard = world.enforcer.guard("tool")

    async def entered() -> None:
        async with guard.block(ASKED) as call:
            call.result = Shown(None, dict(call.arguments), None)

    with world.task(OPEN):
        if mode == "with":
            with guard.block(ASKED) as call:
                call.result = Shown(None, dict(call.arguments), None)
        else:
            asyncio.run(entered())
    (outcome,) = world.records("outcome")
    assert (outcome["outcome"], outcome["action"]["call"]) == ("success", "call-1")
    assert is_digest(outcome["action"]["result"])


def test_a_block_asks_nobody_to_run_a_route(opened: Any) -> None:
    """There is no body to put a handler in the place of."""
    world = opened(policy=RuleSet(Rule(Effect.ROUTE, to="desk", id="desk")), routes={"desk": lambda call: call})
    with world.task(OPEN), pytest.raises(Routed), world.enforcer.guard("tool").block(ASKED):
        pytest.fail("the block ran")


def test_between_begin_and_end_the_body_is_marked(world: Any) -> None:
    """A body that a framework runs is a guarded body: it opens no task for somebody else."""
    guard = world.enforcer.guard("tool")
    with world.task(OPEN):
        call = guard.begin(ASKED)
        with pytest.raises(Denied) as caught, world.task(OPEN, principal=Human("mallory@example.com")):
            pytest.fail("the task was opened")
        assert caught.value.code == "task_in_body"
        guard.succeed(call)


def test_a_judge_before_the_guard_may_add_what_it_knows(world: Any) -> None:
    """What a framework learns late, such as the id of the call, is put into the request before it is judged."""
    guard = world.enforcer.guard("tool")
    late = guard.judged_by(lambda request: guard.judge(request._replace(call_id="late")))
    with world.task(OPEN):
        late.run(CallRequest({"x": 1}), lambda call: call.call_id)
    assert [record["action"]["call"] for record in world.records("intent", "outcome")] == ["late", "late"]


@pytest.mark.parametrize("call_id", [None, "call-1"])
def test_injected_arguments_are_no_word_of_the_model(world: Any, call_id: str | None) -> None:
    """By default whatever was not injected was supplied by the caller."""
    request = CallRequest({"x": 1, "state": object()}, injected=("state",), call_id=call_id)
    with world.task(Scope("tool", x=1)):
        world.enforcer.guard("tool").run(request, lambda call: call.arguments["x"])
    assert world.records("intent")[0]["action"]["names"] == ["state:opaque", "x:number"]


def test_a_request_is_frozen(world: Any) -> None:
    """What is judged cannot be exchanged afterwards."""
    request: Any = CallRequest({"x": 1})
    with pytest.raises(AttributeError):
        request.arguments = {}
    given = {"x": [1]}

    def body(call: Call) -> object:
        given["x"].append(2)
        return call.arguments["x"]

    with world.task(OPEN):
        assert world.enforcer.guard("tool").run(CallRequest(given), body) == [1]


def test_a_guard_says_whose_it_is(opened: Any) -> None:
    """What integrations need of the enforcer are attributes."""
    world, other = opened(), opened(mode="monitor")
    guard = world.enforcer.guard("tool")
    assert (guard.mode, guard.tool.name, guard.clock) == ("enforce", "tool", world.clock)
    assert guard.shares_enforcer(world.enforcer.guard("another"))
    assert not guard.shares_enforcer(other.enforcer.guard("tool"))
    assert guard.current_task is None
    with world.task(OPEN) as task:
        assert guard.current_task is task


def test_a_refusal_without_a_call_is_recorded(world: Any) -> None:
    """What an adapter refuses before there is a call: on an event loop and elsewhere."""
    guard = world.enforcer.guard("tool")
    with world.task(OPEN) as task:
        guard.refuse({"x": 1}, Denied("no", code="malformed_header"), task)
    denied = asyncio.run(guard.refuse_async({"x": 1}, Denied("no", code="malformed_header")))
    first, second = world.records("outcome")
    assert denied.reference == second["id"]
    assert (first["task"]["id"], second.get("attribution")) == (task.id, "none")
