"""What a hostile review of the run-time promises found, each as the property that must hold instead."""

import asyncio
import collections.abc
import contextvars
import functools
import logging
import threading
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.trace import INVALID_SPAN_CONTEXT

from agent_identity import Decision, Effect, Finding, Request, Rule, RuleSet, Scope
from agent_identity.constraints import Contains
from agent_identity.errors import (
    ConfigurationError,
    ContentBlocked,
    Denied,
    GrantExpired,
    NoTask,
    OutOfScope,
    PolicyFormatError,
    Routed,
)
from agent_identity.options import Telemetry
from agent_identity.policy import Content

# --------------------------------------------------------------------- generators that do not want to end


def test_a_generator_that_resists_its_end_gives_out_nothing_after_its_task(world: Any) -> None:
    """Told to end after its task, a body that goes on instead gives out no item, and is over."""

    @world.enforcer.tool(name="tool")
    def body() -> Iterator[int]:
        while True:
            try:
                yield len(world.ran)
            except GeneratorExit:
                world.ran.append("went on")
                if len(world.ran) == 2:
                    raise

    with world.task(Scope("tool")):
        stream = body()
        next(stream)
    with pytest.raises(NoTask):
        stream.throw(GeneratorExit())
    ran = len(world.ran)
    with pytest.raises(GeneratorExit):
        stream.throw(GeneratorExit())
    assert len(world.ran) == ran
    assert [r["outcome"] for r in world.records("outcome")] == ["denied"]


def test_an_async_generator_that_resists_its_end_gives_out_nothing_after_its_task(world: Any) -> None:
    """The same holds for an async generator."""

    @world.enforcer.tool(name="tool")
    async def body() -> AsyncIterator[int]:
        refused = False
        while True:
            try:
                yield 1
            except GeneratorExit:
                if refused:
                    raise
                refused = True

    async def consume() -> None:
        with world.task(Scope("tool")):
            stream: Any = body()
            await anext(stream)
        with pytest.raises(NoTask):
            await stream.athrow(GeneratorExit())

    asyncio.run(consume())
    assert [r["outcome"] for r in world.records("outcome")] == ["denied"]


class _Marked:
    """Finds the word SECRET in what comes out."""

    def inspect(self, content: Content) -> tuple[Finding, ...]:
        found = content.direction == "output" and content.value == "SECRET"
        return (Finding(category="marked", inspector="test"),) if found else ()


def test_what_a_generator_returns_is_inspected(open_world: Any) -> None:
    """The value that a generator returns is judged like its items, and the refusal does not carry it along."""
    withhold = Rule(Effect.BLOCK, when={"findings.categories": Contains("marked")}, reason="withheld")
    world = open_world(inspectors=[_Marked()], policy=RuleSet(withhold))

    @world.enforcer.tool(name="tool")
    def body() -> collections.abc.Generator[int, None, str]:
        yield 1
        return "SECRET"

    with world.task(Scope("tool")):
        stream = body()
        next(stream)
        with pytest.raises(ContentBlocked) as caught:
            next(stream)
    assert caught.value.__context__ is None
    assert [(r["outcome"], r["error"]) for r in world.records("outcome")] == [("denied", "content_blocked")]


# ----------------------------------------------------------- what begins to run after the function returned


class _CompiledCoroutine(collections.abc.Coroutine[object, object, int]):
    """A coroutine as compilers of Python make them: of a class of its own."""

    def __init__(self, ran: list[object]) -> None:
        self.ran = ran
        self.inner = self._run()

    async def _run(self) -> int:
        self.ran.append("coroutine")
        return 7

    def __await__(self) -> Any:
        return self.inner.__await__()

    def send(self, value: object) -> object:
        return self.inner.send(value)

    def throw(self, *error: Any) -> object:
        return self.inner.throw(*error)

    def close(self) -> None:
        self.inner.close()


class _CompiledGenerator(collections.abc.Generator[int, object, None]):
    """A generator of a class of its own."""

    def __init__(self, ran: list[object]) -> None:
        self.ran = ran

    def send(self, value: object) -> int:
        self.ran.append("generator")
        return 7

    def throw(self, *error: Any) -> int:
        raise error[0]


class _CompiledAsyncGenerator(collections.abc.AsyncGenerator[int, object]):
    """An async generator of a class of its own."""

    def __init__(self, ran: list[object]) -> None:
        self.ran = ran

    async def asend(self, value: object) -> int:
        self.ran.append("async generator")
        return 7

    async def athrow(self, *error: Any) -> int:
        raise error[0]


async def _await(pending: Awaitable[object]) -> object:
    return await pending


FIRST_STEP: dict[type, Callable[[Any], object]] = {
    _CompiledCoroutine: lambda pending: asyncio.run(_await(pending)),
    _CompiledGenerator: next,
    _CompiledAsyncGenerator: lambda stream: asyncio.run(_await(anext(stream))),
}


@pytest.mark.parametrize("kind", FIRST_STEP, ids=lambda kind: kind.__name__)
def test_compiled_coroutines_and_generators_stay_under_guard(world: Any, kind: Any) -> None:
    """What runs later runs under guard, also if it is of no class of the interpreter: refused after the end."""

    @world.enforcer.tool(name="tool")
    def body() -> object:
        return kind(world.ran)

    with world.task(Scope("tool")):
        assert FIRST_STEP[kind](body()) == 7
        late = body()
    with pytest.raises(NoTask):
        FIRST_STEP[kind](late)
    assert len(world.ran) == 1


def test_a_result_that_is_a_context_manager_as_well_is_withheld(world: Any) -> None:
    """What can be awaited and entered, such as the request of an HTTP client, is no success before it has run."""

    class Request(_CompiledCoroutine):
        async def __aenter__(self) -> int:
            return 7

        async def __aexit__(self, *_: object) -> None:
            return None

    @world.enforcer.tool(name="tool")
    def body() -> object:
        return Request(world.ran)

    with world.task(Scope("tool")), pytest.raises(ConfigurationError) as caught:
        body()
    assert caught.value.code == "lazy_result"
    assert [(r["outcome"], r["error"]) for r in world.records("outcome")] == [("error", "lazy_result")]
    assert world.ran == []


# ------------------------------------------------------------------------- plug-ins between check and use


class _Asked:
    """A policy and an inspector that does something whenever it is asked."""

    name, version, digest = "asked", "1", "A" * 43

    def __init__(self, act: Callable[[], object]) -> None:
        self.act = act

    def decide(self, _request: Request) -> Decision:
        self.act()
        return Decision(effect=Effect.ALLOW, reason="allowed")

    def inspect(self, content: Content) -> tuple[Finding, ...]:
        if content.direction == "input":
            self.act()
        return ()


@pytest.mark.parametrize("mode", ["enforce", "monitor"])
@pytest.mark.parametrize("part", ["policy", "inspectors"])
@pytest.mark.parametrize("end", ["ended", "expired"])
def test_a_task_that_ends_during_the_decision_gives_no_authority(
    open_world: Any, part: str, end: str, mode: str
) -> None:
    """Inspectors and policies take time; if the task ends or expires meanwhile, the body does not run."""

    def act() -> None:
        if end == "ended":
            world.enforcer.current_task.end()
        else:
            world.clock.advance(301)

    asked = _Asked(act)
    world = open_world(mode=mode, **{part: asked if part == "policy" else [asked]})
    tool = world.tool()
    with world.task(Scope("tool")):
        if mode == "monitor":
            tool(1)
        else:
            refusal = ("task_ended", NoTask) if end == "ended" else ("grant_expired", GrantExpired)
            with world.refused(*refusal):
                tool(1)
    assert len(world.ran) == (mode == "monitor")
    assert world.records("outcome")[-1]["decision"]["enforced"] == ("audit" if mode == "monitor" else "block")


@pytest.mark.parametrize("mode", ["enforce", "monitor"])
@pytest.mark.parametrize(
    "error",
    [
        Routed("elsewhere"),
        NoTask("of another call"),
        Denied("no slug", code="Not A Slug"),
        OutOfScope("a lone surrogate", argument="\ud800"),
        Denied("a decision of another call", decision=Decision(effect=Effect.ALLOW, reason="fine")),
    ],
    ids=["routed", "no_task", "code", "argument", "decision"],
)
def test_the_refusal_of_another_call_is_a_defect_of_the_inspector(open_world: Any, error: Denied, mode: str) -> None:
    """An inspector that lets a refusal escape, of a tool it used itself, fails; the record does not repeat it."""

    def act() -> None:
        raise error

    world = open_world(inspectors=[_Asked(act)], mode=mode)
    tool = world.tool()
    with world.task(Scope("tool")):
        if mode == "monitor":
            tool(1)
        else:
            with world.refused("guard_failed"):
                tool(1)
    (outcome,) = world.records("outcome")
    assert (outcome["decision"]["reason"], outcome["decision"]["effect"]) == ("guard_failed", "block")
    assert len(world.ran) == (mode == "monitor")


# ------------------------------------------------------------------------------------- hostile exceptions


class _Nameless(type):
    """A class of classes whose name cannot be asked for."""

    @property
    def __name__(cls) -> str:  # type: ignore[override]
        raise RuntimeError("no name")


def test_an_exception_class_cannot_hide_itself_or_its_outcome(world: Any) -> None:
    """Whatever its metaclass does, the body's own exception comes out, and the outcome names its class."""
    evil = _Nameless("Evil", (Exception,), {})("text")

    @world.enforcer.tool(name="tool")
    def body() -> None:
        raise evil

    with world.task(Scope("tool")):
        with pytest.raises(Exception) as caught:  # noqa: PT011  It has no other class.
            body()
        assert caught.value is evil
    (outcome,) = world.records("outcome")
    assert (outcome["outcome"], outcome["error"]) == ("error", "Evil")


@pytest.mark.parametrize("name", ["line\nbreak", "\x1b[31m", ""])
def test_the_end_of_a_task_is_recorded_whatever_class_ended_it(world: Any, name: str) -> None:
    """An exception class with a name of control characters ends a task like any other."""
    error = type(name, (Exception,), {})()
    with pytest.raises(type(error)), world.task(Scope("tool")):
        raise error
    (end,) = world.records("task_end")
    assert end["error"] == "unnamed"


# --------------------------------------------------------------------------------------- hostile telemetry


class _BrokenSpan:
    """A span some of whose methods raise."""

    def __init__(self, broken: str) -> None:
        self.broken = broken

    def __getattr__(self, name: str) -> Callable[..., object]:
        def method(*_: object, **__: object) -> object:
            if name == self.broken:
                raise RuntimeError("broken")
            return INVALID_SPAN_CONTEXT if name == "get_span_context" else name == "is_recording"

        return method


class _BrokenProvider:
    def __init__(self, span: object) -> None:
        self.span = span

    def get_tracer(self, *_: object, **__: object) -> "_BrokenProvider":
        return self

    def start_span(self, *_: object, **__: object) -> object:
        return self.span


@pytest.mark.parametrize("mode", ["enforce", "monitor"])
@pytest.mark.parametrize("broken", ["get_span_context", "is_recording", "all of it"])
def test_a_broken_span_costs_neither_call_nor_record(open_world: Any, broken: str, mode: str) -> None:
    """A provider whose spans raise, or are none, costs the span; the call runs and the ledger has all of it."""
    provider = _BrokenProvider(None if broken == "all of it" else _BrokenSpan(broken))
    world = open_world(telemetry=Telemetry(tracer_provider=provider), mode=mode)
    tool = world.tool()
    with world.task(Scope("tool")):
        assert tool(1) == 1
    assert [r["kind"] for r in world.records()][-3:] == ["intent", "outcome", "task_end"]


class _RaisingProcessor(SpanProcessor):
    def on_end(self, span: ReadableSpan) -> None:
        raise RuntimeError("processor")


def test_a_failing_span_puts_no_text_of_another_exception_into_the_log(
    open_world: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """When telemetry fails while an exception is handled, that one's text, which may quote arguments, stays out."""
    provider = TracerProvider()
    provider.add_span_processor(_RaisingProcessor())
    caplog.set_level(logging.DEBUG)
    broken = Telemetry(tracer_provider=_BrokenProvider(None))
    for telemetry in (Telemetry(sealing="inline", tracer_provider=provider), broken):
        world = open_world(telemetry=telemetry)

        @world.enforcer.tool(name="tool")
        def body(x: str) -> None:
            raise ValueError(f"cannot use {x}")

        with world.task(Scope("tool")):
            with pytest.raises(ValueError, match="cannot use"):
                body("CANARY")
            try:
                {}["CANARY of the application"]
            except LookupError:
                with pytest.raises(Denied):
                    world.tool("other")()
    assert "the ledger is not affected" in caplog.text
    assert "CANARY" not in caplog.text


# -------------------------------------------------------------------------------------------- monitor mode


def _positional_only(x: object, /, **more: object) -> object:
    return x, more


def _rest(*args: object, **more: object) -> object:
    return args, more


def _needs_connection(connection: object, x: object) -> object:
    return connection, x


@functools.wraps(_needs_connection)
def _connected(*args: object, **more: object) -> object:
    return _needs_connection("connection", *args, **more)


@pytest.mark.parametrize(
    ("body", "more", "result"),
    [
        (_positional_only, {"x": 2}, (1, {"x": 2})),
        (_rest, {"args": 2}, ((1,), {"args": 2})),
        (_connected, {}, ("connection", 1)),
    ],
    ids=["positional-only", "rest", "decorated"],
)
@pytest.mark.parametrize("kind", ["function", "generator"])
def test_monitor_mode_runs_what_cannot_be_bound(
    open_world: Any, body: Any, more: dict[str, Any], result: object, kind: str
) -> None:
    """A call that Python can make and the guard cannot name is refused in enforce mode; monitor mode runs it."""

    def generator(*given: Any, **named: Any) -> Iterator[object]:
        yield body(*given, **named)

    function = body if kind == "function" else functools.wraps(body)(generator)
    world = open_world(mode="monitor")
    tool = world.enforcer.tool(name="tool")(function)
    found = tool(1, **more)
    assert (found if kind == "function" else next(found)) == result
    (intent,) = world.records("intent")
    assert intent["action"]["names"] == ["args:array", "kwargs:object"]
    strict = open_world().enforcer.tool(name="tool")(function)
    with pytest.raises(TypeError):
        strict(1, **more)


def test_monitor_mode_keeps_the_type_error_of_a_wrong_call(open_world: Any) -> None:
    """What the body itself could not be called with is its TypeError at once, and no call."""
    world = open_world(mode="monitor")
    tool = world.enforcer.tool(name="tool")(_needs_connection)
    with pytest.raises(TypeError):
        tool(1, 2, 3)
    assert world.records("intent", "outcome") == []


@pytest.mark.parametrize("scope", [None, Scope("tool"), Scope("other")], ids=["no task", "open", "other"])
def test_monitor_mode_hands_over_the_very_arguments(open_world: Any, scope: Scope | None) -> None:
    """A body that fills a list of its caller does so in monitor mode as without a guard, whatever was decided."""
    world = open_world(mode="monitor")

    @world.enforcer.tool(name="tool")
    def body(into: list[int]) -> None:
        into.append(1)

    found: list[int] = []
    if scope is None:
        body(found)
    else:
        with world.task(scope):
            body(found)
            with world.enforcer.action("tool", into=found) as call:
                call.arguments["into"].append(2)
    assert found == ([1] if scope is None else [1, 2])


@pytest.mark.parametrize("kind", [staticmethod, classmethod, property])
def test_a_descriptor_is_no_function(world: Any, kind: Any) -> None:
    """Guarding a static method from outside would make an ordinary one of it, so it is refused with a way out."""
    with pytest.raises(ConfigurationError, match="below @staticmethod"):
        world.enforcer.tool(kind(lambda x: x))


# --------------------------------------------------------------------------------------- forks and files


def test_a_forked_child_does_not_wait_for_a_lock_of_its_parent(world: Any) -> None:
    """A child forked while another thread held the registry can end what it inherited."""
    opening = world.task(Scope("tool"))
    task = opening.__enter__()
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        with task.lease._task.lock:
            held.set()
            release.wait(30)

    holder = threading.Thread(target=hold)
    holder.start()
    assert held.wait(30)
    world.enforcer.after_fork_in_child()
    ender = threading.Thread(target=contextvars.copy_context().run, args=(task.end,))
    ender.start()
    ender.join(10)
    stuck = ender.is_alive()
    release.set()
    holder.join()
    ender.join()
    opening.__exit__(None, None, None)
    assert not stuck
    assert not task.lease.live


@pytest.mark.parametrize("form", ["{} = 1", "[{}]", "x = {{ {} = 1 }}", '[x]\n"y".{} = 1'])
def test_a_long_dotted_key_costs_no_memory(tmp_path: Any, form: str) -> None:
    """A policy file with a key of many parts is refused where it stands, in memory of the order of the file."""
    path = tmp_path / "policy.toml"
    path.write_text("name = 'p'\n" + form.format(".".join(["a"] * 3_000)))
    tracemalloc.start()
    try:
        with pytest.raises(PolicyFormatError, match="values are nested") as caught:
            RuleSet.load(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert f"{path}:{2 if 'y' not in form else 3}:" in str(caught.value)
    assert peak < 2_000_000
