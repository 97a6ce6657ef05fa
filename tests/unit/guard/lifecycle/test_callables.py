"""The four kinds of callables: guarded, they behave exactly as unguarded ones, and every exit is recorded."""

import asyncio
import contextlib
import functools
import gc
import inspect
import pickle
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import context as otel
from opentelemetry import trace

from agent_identity import Agent, Effect, Enforcer, Human, Rule, RuleSet, Scope, records
from agent_identity._guard.lifecycle.callables import guarded
from agent_identity.adapters import Call
from agent_identity.errors import ConfigurationError, Denied, EvidenceError, PolicyBlocked, Routed
from agent_identity.options import Telemetry

ALICE = Human("alice@example.com")
CLERK = Agent("clerk", owner="finance")
KINDS = ("function", "coroutine", "generator", "async_generator")
OPEN = Scope("tool")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Enforcer]:
    """One enforcer for the properties, which need many calls and no state of their own."""
    with Enforcer.open(tmp_path_factory.mktemp("shared") / "evidence") as enforcer:
        yield enforcer


def make(kind: str, ran: list[Any], error: BaseException | None = None) -> Callable[..., Any]:
    """Return a body of the kind that notes that it ran, and returns, yields or raises."""

    def function(x: int = 1) -> int:
        ran.append(x)
        if error is not None:
            raise error
        return x

    async def coroutine(x: int = 1) -> int:
        await asyncio.sleep(0)
        return function(x)

    def generator(x: int = 1) -> Generator[int]:
        yield function(x)

    async def async_generator(x: int = 1) -> AsyncGenerator[int]:
        yield function(x)

    return {f.__name__: f for f in (function, coroutine, generator, async_generator)}[kind]


def intent_of(world: Any) -> records.Intent:
    """Return the one intent of a world."""
    (intent,) = (one for one in records.read(world.directory) if isinstance(one, records.Intent))
    return intent


def use(tool: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call a tool of any kind to its end and return the one thing that it returns or yields."""
    result = tool(*args, **kwargs)
    if inspect.isgenerator(result):
        (item,) = result
        return item
    if inspect.isasyncgen(result):

        async def collect() -> Any:
            (item,) = [item async for item in result]
            return item

        return asyncio.run(collect())
    if inspect.isawaitable(result):

        async def wait() -> Any:
            return await result

        return asyncio.run(wait())
    return result


# ------------------------------------------------------------------ kinds, policies, routes, errors


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", ["enforce", "monitor"])
@pytest.mark.parametrize("sealing", ["background", "inline"])
def test_a_call_runs_once_and_leaves_intent_outcome_and_span(opened: Any, kind: str, mode: str, sealing: str) -> None:
    """Every kind of tool: the result comes through, one linked pair of records, one span under the task's."""
    world, ran = opened(mode=mode, telemetry=Telemetry(sealing=sealing)), []
    tool = world.enforcer.tool(name="tool")(make(kind, ran))
    with world.task(OPEN):
        assert use(tool, 7) == 7
    assert ran == [7]
    intent, outcome = world.records("intent", "outcome")
    assert outcome["intent"] == intent["id"]
    assert (outcome["outcome"], outcome["decision"]["enforced"], outcome["decision"]["mode"]) == (
        "success",
        "allow",
        mode,
    )
    assert {**outcome["action"], **intent["action"]} == {**outcome["action"], "names": ["x:number"]}
    assert "names" not in outcome["action"]
    assert outcome["principal"]["id"] == "alice@example.com"
    (span,), (parent,) = world.spans(), world.spans("invoke_agent")
    assert span.parent.span_id == parent.context.span_id
    assert span.attributes["agent_identity.record.id"] == outcome["id"]
    assert outcome["trace"] == {"trace": f"{span.context.trace_id:032x}", "span": f"{span.context.span_id:016x}"}
    assert world.records("task_end")[0]["counts"] == {"intents": "1", "outcomes": "1", "open": "0"}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", ["enforce", "monitor"])
def test_an_error_of_the_body_is_recorded_and_raised(opened: Any, kind: str, mode: str) -> None:
    """The very exception of the body comes out; the record and the span name its class."""
    world, ran, error = opened(mode=mode), [], LookupError("no such invoice")
    tool = world.enforcer.tool(name="tool")(make(kind, ran, error))
    with world.task(OPEN), pytest.raises(LookupError) as caught:
        use(tool)
    assert caught.value is error
    assert ran == [1]
    (outcome,) = world.records("outcome")
    assert (outcome["outcome"], outcome["error"]) == ("error", "LookupError")
    (span,) = world.spans()
    assert span.status.status_code is trace.StatusCode.ERROR
    assert span.status.description == "LookupError"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("effect", [Effect.ALLOW, Effect.WARN, Effect.BLOCK])
@pytest.mark.parametrize("mode", ["enforce", "monitor"])
def test_the_policy_decides_for_every_kind(opened: Any, kind: str, effect: Effect, mode: str) -> None:
    """Allow and warn run, block does not in enforce mode; the records say which rule said what."""
    policy = RuleSet(Rule(effect, tools="tool", id="the-rule", reason="because"), name="house", version="7")
    world, ran = opened(policy=policy, mode=mode), []
    tool = world.enforcer.tool(name="tool")(make(kind, ran))
    refused = effect is Effect.BLOCK and mode == "enforce"
    with world.task(OPEN):
        if refused:
            with pytest.raises(PolicyBlocked) as caught:
                use(tool)
            assert caught.value.code == "policy_blocks"
            assert "the-rule" in str(caught.value)
            assert "because" in str(caught.value)
        else:
            assert use(tool) == 1
    assert len(ran) == (not refused)
    outcome = world.records("outcome")[-1]
    decision = outcome["decision"]
    assert (decision["effect"], decision["rule"], decision["digest"]) == (effect.value, "the-rule", policy.digest)
    stated = world.details()[0] if refused else intent_of(world).decision
    assert (stated.policy, stated.version) == ("house", "7")
    blocked = {"enforce": "block", "monitor": "audit"}[mode]
    assert decision["enforced"] == (blocked if effect is Effect.BLOCK else "allow")
    assert outcome["outcome"] == ("denied" if refused else "success")
    assert len(world.records("intent")) == (not refused)
    if refused:
        assert caught.value.reference == outcome["id"]


def sync_handler(call: Call) -> str:
    return f"desk:{call.arguments['x']}"


async def async_handler(call: Call) -> str:
    await asyncio.sleep(0)
    return f"desk:{call.arguments['x']}"


ROUTE = RuleSet(Rule(Effect.ROUTE, tools="tool", to="desk"))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("handler", [sync_handler, async_handler])
def test_a_route_takes_over(opened: Any, kind: str, handler: Callable[..., Any]) -> None:
    """The handler gets the checked call and returns in place of the body, which does not run."""
    world, ran = opened(policy=ROUTE, routes={"desk": handler}), []
    tool = world.enforcer.tool(name="tool")(make(kind, ran))
    with world.task(OPEN):
        if kind == "generator" and handler is async_handler:
            # A generator that is no async one cannot wait for a coroutine, and must not record it as done.
            with pytest.raises(TypeError, match="coroutine"):
                use(tool, 5)
            assert world.outcomes() == ["error"]
        else:
            assert use(tool, 5) == "desk:5"
            assert world.outcomes() == ["routed"]
    assert ran == []
    intent, outcome = world.records("intent", "outcome")
    assert outcome["intent"] == intent["id"]
    assert outcome["action"]["route"] == intent["action"]["route"] == "desk"
    assert outcome["decision"]["enforced"] == "escalate"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("failing", [False, True])
def test_an_error_of_a_handler_is_recorded(opened: Any, kind: str, *, failing: bool) -> None:
    """Whatever a handler raises, StopIteration included, ends the call with an outcome; the body never runs."""
    stop = StopAsyncIteration if kind == "async_generator" else StopIteration

    def handler(call: Call) -> None:
        raise stop if failing else OSError("desk closed")

    world, ran = opened(policy=ROUTE, routes={"desk": handler}), []
    tool = world.enforcer.tool(name="tool")(make(kind, ran))
    with world.task(OPEN), pytest.raises((OSError, RuntimeError, StopIteration)):
        use(tool, 5)
    assert ran == []
    (outcome,) = world.records("outcome")
    assert (outcome["outcome"], outcome["error"]) == ("error", stop.__name__ if failing else "OSError")


def test_an_awaited_handler_that_stops_iterating_is_recorded(opened: Any) -> None:
    """A coroutine handler of an async generator may raise StopAsyncIteration: an error, not an end without record."""

    async def handler(call: Call) -> None:
        raise StopAsyncIteration

    world = opened(policy=ROUTE, routes={"desk": handler})
    tool = world.enforcer.tool(name="tool")(make("async_generator", []))
    with world.task(OPEN), pytest.raises(RuntimeError):
        use(tool)
    (outcome,) = world.records("outcome")
    assert (outcome["outcome"], outcome["error"]) == ("error", "StopAsyncIteration")


@pytest.mark.parametrize("kind", KINDS)
def test_a_route_may_hand_over_to_a_tool_of_the_same_kind(opened: Any, kind: str) -> None:
    """A handler may return what the body would have: a coroutine, a generator; it is guarded to its end."""
    other: list[Any] = []
    replacement = make(kind, other)
    world, ran = opened(policy=ROUTE, routes={"desk": lambda call: replacement(call.arguments["x"])}), []
    tool = world.enforcer.tool(name="tool")(make(kind, ran))
    with world.task(OPEN):
        assert use(tool, 3) == 3
    assert (ran, other) == ([], [3])
    assert world.outcomes() == ["routed"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_route_without_handler_is_a_refusal(opened: Any, kind: str) -> None:
    """Where no handler has the name, nothing runs, and the refusal says what to pass."""
    world, ran = opened(policy=ROUTE), []
    tool = world.enforcer.tool(name="tool")(make(kind, ran))
    with world.task(OPEN), pytest.raises(Routed, match="routes=") as caught:
        use(tool)
    assert caught.value.code == "route_unavailable"
    assert ran == []
    (outcome,) = world.records("outcome")
    assert (outcome["outcome"], outcome["error"], outcome["action"]["route"]) == ("denied", "route_unavailable", "desk")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("routes", [{}, {"desk": sync_handler}])
def test_monitor_mode_takes_no_route(opened: Any, kind: str, routes: dict[str, Any]) -> None:
    """In monitor mode the body runs; the record says that the call would have been routed."""
    world, ran = opened(policy=ROUTE, routes=routes, mode="monitor"), []
    tool = world.enforcer.tool(name="tool")(make(kind, ran))
    with world.task(OPEN):
        assert use(tool, 4) == 4
    assert ran == [4]
    (outcome,) = world.records("outcome")
    assert (outcome["outcome"], outcome["action"]["route"]) == ("success", "desk")
    assert (outcome["decision"]["effect"], outcome["decision"]["enforced"]) == ("route", "audit")


# ------------------------------------------------------------------------------- signatures, types


@pytest.mark.parametrize("kind", KINDS)
def test_a_guarded_tool_looks_like_its_body(world: Any, kind: str) -> None:
    """Name, docstring, signature, annotations and attributes stay; the body is not one attribute away."""
    body = make(kind, [])
    body.__doc__ = "Read one invoice."
    body.label = "x"  # type: ignore[attr-defined]
    tool = world.enforcer.tool(body)
    assert tool.__name__ == body.__name__
    assert tool.__qualname__ == body.__qualname__
    assert tool.__module__ == body.__module__
    assert tool.__doc__ == "Read one invoice."
    assert tool.label == "x"
    assert inspect.signature(tool) == inspect.signature(body)
    assert tool.__annotations__ == body.__annotations__
    assert not hasattr(tool, "__wrapped__")
    assert inspect.iscoroutinefunction(tool) is inspect.iscoroutinefunction(body)


def test_what_a_decorator_left_on_the_body_does_not_lead_to_it(world: Any) -> None:
    """A ``__wrapped__`` of the body, set by another decorator, does not come along."""

    def body() -> int:
        return 1

    @functools.wraps(body)
    def decorated() -> int:
        return body()

    assert not hasattr(world.enforcer.tool(decorated), "__wrapped__")


def test_annotations_that_cannot_be_resolved_stay_as_they_are(world: Any) -> None:
    """A forward reference to a name that is not there is no reason to refuse the tool."""

    def body(x: "Missing") -> int:  # type: ignore[name-defined]  # noqa: F821
        return 1

    assert world.enforcer.tool(body).__annotations__ == {"x": "Missing", "return": int}


def test_partials_and_callable_objects_are_guarded(world: Any) -> None:
    """A partial needs a name; an object with ``__call__`` keeps its signature, also a coroutine one."""

    def add(x: int, y: int) -> int:
        return x + y

    class Adder:
        async def __call__(self, x: int) -> int:
            return x + 1

    with pytest.raises(ConfigurationError, match="name="):
        world.enforcer.tool(functools.partial(add, 1))
    partial = world.enforcer.tool(name="tool")(functools.partial(add, 1))
    twice = world.enforcer.tool(name="tool")(functools.partial(functools.partial(add, 1), y=2))
    adder = world.enforcer.tool(name="tool")(Adder())
    assert inspect.signature(adder) == inspect.signature(Adder())
    assert partial.__annotations__["x"] is int
    with world.task(OPEN):
        assert partial(y=4) == 5
        assert twice() == 3
        assert use(adder, 1) == 2
    assert world.outcomes() == ["success"] * 3


def test_methods_are_guarded_without_their_receiver(world: Any) -> None:
    """A decorated method works on instance and class; ``self`` is neither argument nor record."""

    class Till:
        def __init__(self) -> None:
            self.paid = 0

        @world.enforcer.tool
        def pay(self, amount: int) -> int:
            self.paid += amount
            return self.paid

        @classmethod
        @world.enforcer.tool
        def make(cls, amount: int) -> "Till":
            till = cls()
            till.paid = amount
            return till

        @staticmethod
        @world.enforcer.tool
        def add(a: int, b: int = 1) -> int:
            return a + b

    with world.task(Scope("pay", amount=5) | Scope("make", amount=2) | Scope("add", a=1)):
        till = Till()
        assert till.pay(5) == 5
        assert Till.pay(till, amount=5) == 10
        with pytest.raises(Denied):
            till.pay(6)
        assert Till.make(2).paid == 2
        assert Till.add(1) == 2
    assert till.paid == 10
    assert {tuple(r["action"]["names"]) for r in world.records("intent")} == {
        ("amount:number",),
        ("a:number", "b:number"),
    }


@pytest.mark.parametrize("kind", KINDS)
def test_a_call_that_cannot_bind_is_a_type_error_at_once(world: Any, kind: str) -> None:
    """As unguarded: wrong arguments raise TypeError where the call stands, and nothing is recorded."""
    ran: list[Any] = []
    body = make(kind, ran)
    tool = world.enforcer.tool(name="tool")(body)
    with world.task(OPEN):
        for args, kwargs in (((1, 2), {}), ((), {"y": 1}), ((1,), {"x": 1})):
            with pytest.raises(TypeError):
                use(body, *args, **kwargs) if kind == "coroutine" else body(*args, **kwargs)
            with pytest.raises(TypeError):
                use(tool, *args, **kwargs) if kind == "coroutine" else tool(*args, **kwargs)
    assert ran == []
    assert world.records("intent", "outcome") == []


def test_a_tool_is_guarded_once(world: Any, opened: Any) -> None:
    """A second guard, by the same or another enforcer, is a mistake that is named."""
    tool = world.enforcer.tool(make("function", []))
    for enforcer in (world.enforcer, opened().enforcer):
        with pytest.raises(ConfigurationError, match="guard it once"):
            enforcer.tool(tool)
        with pytest.raises(ConfigurationError, match="guard it once"):
            enforcer.tool(name="other")(tool)


def test_a_guarded_function_of_a_module_is_no_way_round_by_pickle(world: Any) -> None:
    """Pickling a local guarded tool fails as for every local function; it never yields the bare body."""
    with pytest.raises((pickle.PicklingError, AttributeError)):
        pickle.dumps(world.enforcer.tool(make("function", [])))


# ---------------------------------------------------------------- generators, differentially


class _Planned(Exception):
    pass


STEPS = st.lists(
    st.sampled_from(["next", "send", "throw", "throw_exit", "close", "send_first"]),
    min_size=1,
    max_size=6,
)
SHAPES = st.tuples(
    st.integers(0, 4),  # how many items
    st.sampled_from(["return", "raise", "swallow", "convert", "stubborn", "catch_exit"]),
)


def _body(items: int, nature: str) -> Generator[Any, Any, Any]:
    """A generator that shows everything that is sent and thrown into it."""
    seen: list[Any] = []
    for index in range(items):
        try:
            seen.append((yield (index, tuple(seen))))
        except _Planned:
            seen.append("planned")
            if nature == "raise":
                raise
            if nature == "convert":
                raise LookupError("converted") from None
            if nature == "return":
                return seen
        except GeneratorExit:
            if nature == "stubborn":
                seen.append((yield "no"))
            elif nature == "catch_exit":
                return seen
            elif nature == "convert":
                raise LookupError("converted") from None
            else:
                raise
    return seen


def _drive(generator: Generator[Any, Any, Any], steps: list[str]) -> list[Any]:
    log: list[Any] = []
    for step in steps:
        try:
            match step:
                case "next":
                    log.append(next(generator))
                case "send":
                    log.append(generator.send("sent"))
                case "send_first":
                    log.append(generator.send(None))
                case "throw":
                    log.append(generator.throw(_Planned("x")))
                case "throw_exit":
                    log.append(generator.throw(GeneratorExit()))
                case _:
                    log.append(generator.close())  # type: ignore[func-returns-value]
        except StopIteration as stop:
            log.append(("stop", stop.value))
        except BaseException as error:  # noqa: BLE001 - Every way out is compared.
            log.append((type(error), str(error)))
    for _ in range(6):  # A stubborn one has to be told once for each item.
        with contextlib.suppress(RuntimeError, LookupError):
            generator.close()
    return log


@given(shape=SHAPES, steps=STEPS)
def test_a_guarded_generator_behaves_like_its_body(shared: Enforcer, shape: tuple[int, str], steps: list[str]) -> None:
    """send, throw, close, return values and errors in any order: the same answers as from the unguarded one."""
    tool = shared.tool(name="tool")(_body)
    with shared.task("p", principal=ALICE, agent=CLERK, scope=OPEN):
        assert _drive(tool(*shape), steps) == _drive(_body(*shape), steps)


async def _async_body(items: int, nature: str) -> AsyncGenerator[Any, Any]:
    seen: list[Any] = []
    for index in range(items):
        try:
            await asyncio.sleep(0)
            seen.append((yield (index, tuple(seen))))
        except _Planned:
            seen.append("planned")
            if nature == "raise":
                raise
            if nature == "convert":
                raise LookupError("converted") from None
            if nature == "return":
                return
        except GeneratorExit:
            if nature == "stubborn":
                seen.append((yield "no"))
            elif nature == "catch_exit":
                return
            elif nature == "convert":
                raise LookupError("converted") from None
            else:
                raise


async def _drive_async(generator: AsyncGenerator[Any, Any], steps: list[str]) -> list[Any]:
    log: list[Any] = []
    for step in steps:
        try:
            match step:
                case "next":
                    log.append(await anext(generator))
                case "send":
                    log.append(await generator.asend("sent"))
                case "send_first":
                    log.append(await generator.asend(None))
                case "throw":
                    log.append(await generator.athrow(_Planned("x")))
                case "throw_exit":
                    log.append(await generator.athrow(GeneratorExit()))
                case _:
                    log.append(await generator.aclose())  # type: ignore[func-returns-value]
        except BaseException as error:  # noqa: BLE001 - Every way out is compared.
            log.append((type(error), str(error)))
    for _ in range(6):  # A stubborn one has to be told once for each item.
        with contextlib.suppress(RuntimeError, LookupError, StopAsyncIteration):
            await generator.aclose()
    for _ in range(12):  # After one aclose that was ignored, another does nothing; what is left would end unseen.
        with contextlib.suppress(RuntimeError, LookupError, StopAsyncIteration):
            await anext(generator)
    return log


@given(shape=SHAPES, steps=STEPS)
def test_a_guarded_async_generator_behaves_like_its_body(
    shared: Enforcer, shape: tuple[int, str], steps: list[str]
) -> None:
    """asend, athrow, aclose and errors in any order: the same answers as from the unguarded one."""
    tool = shared.tool(name="tool")(_async_body)

    async def main() -> None:
        async with shared.task("p", principal=ALICE, agent=CLERK, scope=OPEN):
            assert await _drive_async(tool(*shape), steps) == await _drive_async(_async_body(*shape), steps)

    asyncio.run(main())


def test_a_generator_that_delegates_gets_the_return_value(world: Any) -> None:
    """``yield from`` a guarded generator gives its return value; the outcome is a success."""

    @world.enforcer.tool(name="tool")
    def inner() -> Generator[int, str, str]:
        got = yield 1
        return f"returned {got}"

    def outer() -> Generator[int, str, str]:
        return (yield from inner())

    with world.task(OPEN):
        generator = outer()
        assert next(generator) == 1
        with pytest.raises(StopIteration) as stop:
            generator.send("x")
        assert stop.value.value == "returned x"
    assert world.outcomes() == ["success"]


@pytest.mark.parametrize("nature", ["return", "catch_exit"])
def test_a_generator_closed_early_is_cancelled(world: Any, nature: str) -> None:
    """The consumer left before the end: that is no success, however politely the body takes it."""
    tool = world.enforcer.tool(name="tool")(_body)
    with world.task(OPEN):
        generator = tool(3, nature)
        next(generator)
        generator.close()
    (outcome,) = world.records("outcome")
    assert (outcome["outcome"], outcome["error"]) == ("cancelled", "GeneratorExit")


@pytest.mark.parametrize("nature", ["return", "catch_exit"])
def test_an_async_generator_closed_early_is_cancelled(world: Any, nature: str) -> None:
    """As for generators; closing waits for the body."""
    tool = world.enforcer.tool(name="tool")(_async_body)

    async def main() -> None:
        generator = tool(3, nature)
        await anext(generator)
        await generator.aclose()

    with world.task(OPEN):
        asyncio.run(main())
    (outcome,) = world.records("outcome")
    assert (outcome["outcome"], outcome["error"]) == ("cancelled", "GeneratorExit")


def test_a_generator_nobody_started_is_no_call(world: Any) -> None:
    """Making and closing it runs nothing, so nothing is recorded."""
    tools = [world.enforcer.tool(name="tool")(make(kind, [])) for kind in ("generator", "async_generator")]
    with world.task(OPEN):
        tools[0]().close()
        tools[1]()
    assert world.records("intent", "outcome") == []


def test_a_forgotten_generator_is_cancelled(world: Any) -> None:
    """A half-consumed generator that is collected runs its cleanup and leaves an outcome."""
    cleaned = []

    @world.enforcer.tool(name="tool")
    def tool() -> Generator[int]:
        try:
            yield 1
            yield 2
        finally:
            cleaned.append(True)

    with world.task(OPEN):
        next(tool())
        gc.collect()
    assert cleaned == [True]
    assert world.outcomes() == ["cancelled"]


def test_a_forgotten_async_generator_is_cancelled(world: Any) -> None:
    """The event loop closes it at its end, as every async generator, and the outcome is recorded."""
    tool = world.enforcer.tool(name="tool")(_async_body)

    async def main() -> None:
        await anext(tool(3, "return"))

    with world.task(OPEN):
        asyncio.run(main())
    assert world.outcomes() == ["cancelled"]


# --------------------------------------------------------------------------------- the consumer's context


def test_a_half_consumed_generator_leaves_no_context_in_the_consumer(world: Any) -> None:
    """Between two steps the consumer has its own task and span; inside a step the body has the call's."""
    inside: list[Any] = []

    @world.enforcer.tool(name="tool")
    def tool() -> Generator[int]:
        for index in range(3):
            inside.append((world.enforcer.current_task, trace.get_current_span()))
            yield index

    before = otel.get_current()
    with world.task(OPEN) as task:
        generator = tool()
        mine = otel.get_current()
        assert next(generator) == 0
        assert otel.get_current() is mine
    assert otel.get_current() is before
    assert world.enforcer.current_task is None
    with pytest.raises(Denied):
        next(generator)
    assert otel.get_current() is before
    assert [found for found, _ in inside] == [task]
    assert inside[0][1].get_span_context().is_valid
    assert trace.get_current_span() is trace.INVALID_SPAN


def test_a_half_consumed_async_generator_leaves_no_context_in_the_consumer(world: Any) -> None:
    """The same for async generators, also where another asyncio task consumes it."""
    inside: list[Any] = []

    @world.enforcer.tool(name="tool")
    async def tool() -> AsyncGenerator[int]:
        for index in range(3):
            await asyncio.sleep(0)
            inside.append(world.enforcer.current_task)
            yield index

    async def main() -> None:
        async with world.task(OPEN) as task:
            generator = tool()
            mine = otel.get_current()
            assert await anext(generator) == 0
            assert otel.get_current() is mine

            async def elsewhere() -> int:
                fresh = otel.attach(otel.Context())
                assert world.enforcer.current_task is None
                item = await anext(generator)
                assert world.enforcer.current_task is None
                otel.detach(fresh)
                return item

            assert await asyncio.create_task(elsewhere()) == 1
            assert otel.get_current() is mine
        assert world.enforcer.current_task is None
        with pytest.raises(Denied):
            await anext(generator)
        assert inside == [task, task]

    asyncio.run(main())
    assert world.outcomes() == ["denied"]


def test_a_generator_belongs_to_the_task_that_made_it(world: Any) -> None:
    """Consumed inside another task, it is judged and recorded under its own."""
    tool = world.enforcer.tool(name="tool")(make("generator", []))
    with world.task(OPEN) as first:
        generator = tool()
        with world.task(Scope("other"), principal=Human("bob@example.com")):
            assert list(generator) == [1]
    assert {r["task"]["id"] for r in world.records("intent", "outcome")} == {first.id}


def test_a_generator_made_outside_any_task_gains_nothing_inside_one(world: Any) -> None:
    """Authority is that of the maker, not of whoever happens to consume."""
    ran: list[Any] = []
    tool = world.enforcer.tool(name="tool")(make("generator", ran))
    generator = tool()
    with world.task(OPEN), pytest.raises(Denied) as caught:
        next(generator)
    assert caught.value.code == "no_task"
    assert ran == []


# --------------------------------------------------------------------- bodies that resist a refusal


def test_a_body_that_resists_its_end_does_not_hide_the_refusal(world: Any) -> None:
    """Where the task is over, the consumer gets the refusal, whatever the body does when it is closed."""

    @world.enforcer.tool(name="tool")
    def stubborn() -> Generator[int]:
        while True:
            try:
                yield 1
            except GeneratorExit:
                yield 2

    @world.enforcer.tool(name="tool")
    async def failing() -> AsyncGenerator[int]:
        try:
            yield 1
        finally:
            raise LookupError("cleanup")

    async def main() -> None:
        async with world.task(OPEN):
            first, second = stubborn(), failing()
            next(first)
            await anext(second)
        with pytest.raises(Denied) as caught:
            next(first)
        assert caught.value.code == "task_ended"
        with pytest.raises(Denied) as caught:
            await anext(second)
        assert caught.value.code == "task_ended"

    asyncio.run(main())
    assert world.outcomes() == ["denied", "denied"]


def test_a_coroutine_returned_by_a_function_is_checked_when_it_starts(world: Any) -> None:
    """A plain function that returns a coroutine is under guard to its end; started too late, it never runs."""
    ran = []

    async def later() -> int:
        ran.append(1)
        return 5

    @world.enforcer.tool(name="tool")
    def tool() -> Any:
        return later()

    async def main() -> None:
        async with world.task(OPEN):
            assert await tool() == 5
            late = tool()
        with pytest.raises(Denied) as caught:
            await late
        assert caught.value.code == "task_ended"

    asyncio.run(main())
    assert ran == [1]
    assert world.outcomes() == ["success", "denied"]


@pytest.mark.parametrize("kind", ["coroutine", "generator", "async_generator"])
@pytest.mark.parametrize("fails", [False, True])
def test_what_a_function_returns_to_run_later_stays_under_guard(world: Any, kind: str, *, fails: bool) -> None:
    """A function that returns a coroutine or a generator succeeds when that one has ended, not before."""
    ran: list[Any] = []
    body = make(kind, ran, LookupError() if fails else None)
    tool = world.enforcer.tool(name="tool")(lambda x=1: body(x))
    with world.task(OPEN):
        result = tool()
        assert world.outcomes() == []
        with pytest.raises(LookupError) if fails else contextlib.nullcontext():
            assert use(lambda: result) == 1
    assert world.outcomes() == ["error" if fails else "success"]


def test_a_resume_whose_refusal_cannot_be_recorded_runs_nothing(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Denied or not, without a record there is no step: generators, async generators and coroutines are closed."""
    steps = []

    @world.enforcer.tool(name="tool")
    def generator() -> Generator[int]:
        yield 1
        steps.append("generator")

    @world.enforcer.tool(name="tool")
    async def async_generator() -> AsyncGenerator[int]:
        yield 1
        steps.append("async generator")

    async def later() -> None:
        steps.append("coroutine")

    @world.enforcer.tool(name="tool")
    def function() -> Any:
        return later()

    async def main() -> None:
        async with world.task(OPEN):
            first, second, third = generator(), async_generator(), function()
            next(first)
            await anext(second)
        with monkeypatch.context() as patch:
            patch.setattr(type(world.enforcer._enforcement.ledger), "append", _refuse)
            with pytest.raises(EvidenceError):
                next(first)
            with pytest.raises(EvidenceError):
                await anext(second)
            with pytest.raises(EvidenceError):
                await third

    asyncio.run(main())
    assert steps == []


def _refuse(*_: object, **__: object) -> None:
    raise EvidenceError("disk full")


def test_a_broken_task_pool_pickles_the_refusal(world: Any, tmp_path: Path) -> None:
    """A refusal raised in a worker crosses processes with its code, its decision and its reference."""
    tool = world.enforcer.tool(name="tool")(make("function", []))
    with pytest.raises(Denied) as caught:
        tool()
    again = pickle.loads(pickle.dumps(caught.value))  # noqa: S301 - Our own bytes.
    assert (again.code, again.decision, again.reference) == ("no_task", caught.value.decision, caught.value.reference)


class _Known:
    """A type that annotations can name."""


class _WithNew:
    def __new__(cls, known: "_Known") -> Any:
        """Take something."""
        return known


class _WithInit:
    def __init__(self, known: "_Known") -> None:
        """Take something."""


class _Meta(type):
    def __call__(cls, known: "_Known") -> Any:
        """Take something."""
        return known


class _WithMeta(metaclass=_Meta):
    pass


class _Bare:
    pass


class _Explicit:
    __signature__ = inspect.Signature(
        [inspect.Parameter("known", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation="_Known")]
    )

    def __call__(self, known: str) -> Any:
        """Take something."""
        return known


def _half_known(unknown: "_Nowhere", known: "_Known") -> Any:  # type: ignore[name-defined]  # noqa: F821
    """Take something."""
    return known


class _Wrapping:
    def __init__(self) -> None:
        functools.update_wrapper(self, _half_known)

    def __call__(self, unknown: str, known: str) -> Any:
        """Take something."""
        return known


@pytest.mark.parametrize(
    "body",
    [
        *(_WithNew, _WithInit, _WithMeta, _Explicit(), _half_known, _Wrapping()),
        functools.partial(_half_known, "bound"),
    ],
)
def test_annotations_are_resolved_where_each_kind_of_callable_has_them(world: Any, body: Any) -> None:
    """Whoever reads the annotations of a wrapper finds those of the body; one without meaning hides no other."""
    wrapper = guarded(world.enforcer.guard("f"), body)
    assert wrapper.__annotations__["known"] is _Known
    assert wrapper.__annotations__.get("unknown", "_Nowhere") == "_Nowhere"


def test_a_class_without_a_constructor_has_no_annotations(world: Any) -> None:
    """Nothing is found where nothing stands."""
    assert guarded(world.enforcer.guard("f"), _Bare).__annotations__ == {}
