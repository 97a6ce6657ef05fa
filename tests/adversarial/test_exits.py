"""Telemetry that is cut or off, bodies that leave in every way, and our own defects (abuse cases AC-85 to AC-92)."""

import asyncio
import contextlib
import logging
import os
import threading
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from typing import Any

import pytest
from opentelemetry import context as otel
from opentelemetry import trace
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased, Sampler, TraceIdRatioBased
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from agent_identity import Decision, Effect, Request, Scope
from agent_identity._authority.registries.tasks import TaskRegistry
from agent_identity._guard.calls.arguments import Arguments
from agent_identity._guard.judging import _evaluator as questions
from agent_identity._guard.judging import _record_builder as description
from agent_identity._guard.judging import guard as guard_module
from agent_identity._guard.lifecycle import callables as wrap_module
from agent_identity._guard.tasks.task_context import TaskContext
from agent_identity._guard.telemetry import spans as telemetry
from agent_identity._guard.telemetry.spans import Spans
from agent_identity._identity.common.record_bytes import decode_record, encode_record
from agent_identity._record.codec import decode
from agent_identity._spans.envelope import Attestation
from agent_identity._spans.span_attributes import compare
from agent_identity.errors import ConfigurationError, Denied, EvidenceError
from agent_identity.options import DigestKeys, Ledger, Telemetry
from agent_identity.policy import Content
from agent_identity.testing import FixedClock

OPEN = Scope("tool")
CALLS = 200


def complete(world: Any, calls: int) -> None:
    """Assert that the ledger has an intent and an outcome of every call, linked."""
    intents = [record["id"] for record in world.records("intent")]
    assert len(intents) == calls
    assert [record["intent"] for record in world.records("outcome")] == intents
    for record in world.records("task_end"):
        assert record["counts"]["open"] == "0"


def provider_with(exporter: InMemorySpanExporter, **options: Any) -> TracerProvider:
    provider = TracerProvider(**options)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return provider


# --------------------------------------------------------------------- telemetry that is off or cut


def test_ac_85_a_caller_cannot_switch_the_audit_off(world: Any) -> None:
    """Under ``traceparent …-00`` no span is made, and the ledger has every call with the caller's trace id."""
    tool = world.tool()
    header = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"}
    token = otel.attach(TraceContextTextMapPropagator().extract(header))
    try:
        with world.task(OPEN):
            for number in range(10):
                assert tool(number) == number
    finally:
        otel.detach(token)
    assert world.exporter.get_finished_spans() == ()
    complete(world, 10)
    assert {r["trace"]["trace"] for r in world.records("outcome")} == {"0af7651916cd43dd8448eb211c80319c"}


@pytest.mark.parametrize(
    "sampler", [ALWAYS_OFF, TraceIdRatioBased(0.1), ParentBased(TraceIdRatioBased(0.1))], ids=["off", "tenth", "parent"]
)
@pytest.mark.parametrize("sealing", ["background", "inline"])
def test_ac_86_sampling_takes_nothing_from_the_ledger(
    open_world: Any, sampler: Sampler, sealing: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever the sampler drops, the ledger is complete, and the start warned of it."""
    exporter = InMemorySpanExporter()
    world = open_world(telemetry=Telemetry(tracer_provider=provider_with(exporter, sampler=sampler), sealing=sealing))
    assert "some spans will not be made" in caplog.text
    tool = world.tool()
    for number in range(20):
        with world.task(OPEN):
            for _ in range(5):
                assert tool(number) == number
    complete(world, 100)
    recorded = {span.attributes["agent_identity.record.id"] for span in exporter.get_finished_spans()}
    assert len(recorded) == len(exporter.get_finished_spans()) < 120
    assert recorded <= {record["id"] for record in world.records("outcome", "task_end")}


def test_ac_86_a_disabled_sdk_takes_nothing_from_the_ledger(
    open_world: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """``OTEL_SDK_DISABLED=true`` makes no span; the ledger is complete, and the start warned of it."""
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    exporter = InMemorySpanExporter()
    world = open_world(telemetry=Telemetry(tracer_provider=provider_with(exporter)))
    assert "OTEL_SDK_DISABLED" in caplog.text
    tool = world.tool()
    with world.task(OPEN):
        assert tool(1) == 1
    assert exporter.get_finished_spans() == ()
    complete(world, 1)
    assert all("trace" not in record for record in world.records())


@pytest.mark.parametrize("sealing", ["background", "inline"])
def test_ac_87_a_body_cannot_evict_the_evidence(open_world: Any, sealing: str) -> None:
    """After 200 attributes, some of them with our names, the span still carries the signed record and its copy."""
    world = open_world(telemetry=Telemetry(sealing=sealing))

    @world.enforcer.tool(name="tool")
    def tool() -> int:
        span = trace.get_current_span()
        for number in range(CALLS):
            span.set_attribute(f"noise.{number}", number)
        span.set_attribute("agent_identity.principal.id", "ceo@example.com")
        span.set_attribute("agent_identity.record.id", "forged")
        span.set_attribute("agent_identity.attestation.payload", "forged")
        return 1

    with world.task(OPEN):
        tool()
    (outcome,) = world.records("outcome")
    (span,) = [s for s in world.exporter.get_finished_spans() if s.name == "execute_tool tool"]
    assert span.attributes["agent_identity.record.id"] == outcome["id"]
    assert {check.verdict for check in compare(decode(encode_record(outcome)), span.attributes)} == {"match"}
    key = world.enforcer._enforcement.spans._signer.public_key
    signed = Attestation.from_attributes(span.attributes).open({key.thumbprint: key}.__getitem__)
    assert decode_record(signed) == outcome


def test_ac_87_a_body_that_ends_its_span_keeps_its_record(world: Any) -> None:
    """A body that ends the current span spoils that copy; the ledger is complete and the call unharmed."""

    @world.enforcer.tool(name="tool")
    def tool() -> int:
        trace.get_current_span().end()
        return 1

    with world.task(OPEN):
        assert tool() == 1
    complete(world, 1)


def test_ac_88_cut_attributes_are_found_at_the_start(open_world: Any, caplog: pytest.LogCaptureFixture) -> None:
    """A limit on the length of values is named before the first call; the ledger keeps every record whole."""
    exporter = InMemorySpanExporter()
    limits = SpanLimits(max_span_attribute_length=32)
    world = open_world(telemetry=Telemetry(tracer_provider=provider_with(exporter, span_limits=limits)))
    assert "values are cut at 32: signatures will not verify" in caplog.text
    tool = world.tool()
    with world.task(OPEN):
        tool(1)
    complete(world, 1)
    texts = [value for value in exporter.get_finished_spans()[0].attributes.values() if isinstance(value, str)]
    assert max(map(len, texts)) == 32


@pytest.mark.parametrize("value", ["\ud800", "a\udfffb", {"\ud800": 1}, ["\udc00"], 2**63, -(2**63) - 1, 10**400])
def test_ac_89_a_value_that_no_wire_carries_is_refused_and_recorded(world: Any, value: Any) -> None:
    """Lone surrogates and oversized integers lose no record and no span: the refusal is on both."""
    tool = world.tool()
    with world.task(OPEN), world.refused("bad_arguments", digest=False):
        tool(value)
    spans = [span for span in world.exporter.get_finished_spans() if span.name == "execute_tool tool"]
    assert [span.attributes["agent_identity.outcome"] for span in spans] == ["denied"]


def test_ac_89_a_result_that_no_wire_carries_loses_no_record(world: Any) -> None:
    """What a tool returns is passed on as it is, and only its digest is missing."""
    results = iter(["\ud800", 2**63, float("nan")])

    @world.enforcer.tool(name="tool")
    def tool() -> Any:
        return next(results)

    with world.task(OPEN):
        assert tool() == "\ud800"
        assert tool() == 2**63
        assert tool() != tool  # A NaN equals nothing.
    complete(world, 3)
    assert all("result" not in record["action"] for record in world.records("outcome"))


# ------------------------------------------------------------------------------- every way out of a body

KINDS = ("function", "coroutine", "generator", "async_generator", "action", "async_action")


class Planned(Exception):
    """Raised by a tool."""


def prepared(world: Any, kind: str, body: Callable[[], Any]) -> Callable[[], Any]:
    """Return what runs a body as the kind of tool, to its end."""
    guarded = world.enforcer.tool(name="tool")

    @guarded
    def function() -> Any:
        return body()

    @guarded
    async def coroutine() -> Any:
        await asyncio.sleep(0)
        return body()

    @guarded
    def generator() -> Generator[Any]:
        yield 1
        yield body()

    @guarded
    async def async_generator() -> AsyncGenerator[Any]:
        yield 1
        yield body()

    def action() -> None:
        with world.enforcer.action("tool"):
            body()

    async def async_action() -> None:
        async with world.enforcer.action("tool"):
            await asyncio.sleep(0)
            body()

    async def collect() -> None:
        async for _ in async_generator():
            pass

    return {
        "function": function,
        "coroutine": lambda: _run(coroutine()),
        "generator": lambda: list(generator()),
        "async_generator": lambda: _run(collect()),
        "action": action,
        "async_action": lambda: _run(async_action()),
    }[kind]


def call(world: Any, kind: str, body: Callable[[], Any]) -> None:
    """Run a body as the kind of tool, to its end."""
    prepared(world, kind, body)()


def _run(coroutine: Any) -> Any:
    """Drive a coroutine by hand: a runner would turn some of the exceptions into others."""
    try:
        while True:
            coroutine.send(None)
    except StopIteration as stop:
        return stop.value


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sealing", ["background", "inline"])
def test_ac_90_a_raising_body_is_an_error(open_world: Any, kind: str, sealing: str) -> None:
    """The outcome is an error with the name of the class, on ledger and span, without the message."""
    world, error = open_world(telemetry=Telemetry(sealing=sealing)), Planned("canary-90")

    def body() -> None:
        raise error

    with world.task(OPEN):
        with pytest.raises(Planned) as caught:
            call(world, kind, body)
        assert caught.value is error
    (outcome,) = world.records("outcome")
    assert (outcome["outcome"], outcome["error"], outcome["decision"]["enforced"]) == ("error", "Planned", "allow")
    complete(world, 1)
    (span,) = [span for span in world.exporter.get_finished_spans() if span.name == "execute_tool tool"]
    assert (span.status.status_code, span.status.description) == (trace.StatusCode.ERROR, "Planned")
    assert (span.attributes["error.type"], span.events) == ("Planned", ())
    assert "canary-90" not in span.to_json() + str(world.records())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("error", [KeyboardInterrupt, asyncio.CancelledError, SystemExit, GeneratorExit])
def test_ac_91_an_interrupted_body_is_cancelled(world: Any, kind: str, error: type[BaseException]) -> None:
    """Ctrl-C, cancellation, exit and close end the call as cancelled, and come out as they are."""

    def body() -> None:
        raise error

    with world.task(OPEN), pytest.raises(error):
        call(world, kind, body)
    (outcome,) = world.records("outcome")
    assert (outcome["outcome"], outcome["error"]) == ("cancelled", error.__name__)
    complete(world, 1)
    assert otel.get_current() == {}


def test_ac_91_timeouts_and_cancelled_tasks_are_cancelled(world: Any) -> None:
    """``asyncio.timeout``, ``Task.cancel`` and a failing sibling in a group end every call under way."""

    @world.enforcer.tool(name="tool")
    async def tool() -> None:
        await asyncio.sleep(3600)

    @world.enforcer.tool(name="tool")
    async def stream() -> AsyncGenerator[int]:
        yield 1
        await asyncio.sleep(3600)

    async def consume() -> None:
        async for _ in stream():
            pass

    async def fail() -> None:
        await asyncio.sleep(0)
        raise Planned

    async def group_of(*coroutines: Any) -> None:
        async with asyncio.TaskGroup() as group:
            for coroutine in coroutines:
                group.create_task(coroutine)

    async def main() -> None:
        async with world.task(OPEN):
            for coroutine in (tool, consume):
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.01):
                        await coroutine()
                running = asyncio.create_task(coroutine())
                await asyncio.sleep(0.01)
                running.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await running
            with pytest.raises(ExceptionGroup):
                await group_of(tool(), fail())

    asyncio.run(main())
    assert {(r["outcome"], r["error"]) for r in world.records("outcome")} == {("cancelled", "CancelledError")}
    complete(world, 5)


def test_ac_91_an_exit_of_the_task_itself_is_recorded(world: Any) -> None:
    """A task that is left by an interrupt ends, with the class in its record."""
    for error in (KeyboardInterrupt, SystemExit, asyncio.CancelledError, GeneratorExit):
        with pytest.raises(error), world.task(OPEN):
            raise error
    assert [record["error"] for record in world.records("task_end")] == [
        "KeyboardInterrupt",
        "SystemExit",
        "CancelledError",
        "GeneratorExit",
    ]


# ------------------------------------------------------------------------------------- our own defects


class Defect(Exception):
    """Something of ours, or of a plug-in, is broken."""


def defect(*_: object, **__: object) -> Any:
    raise Defect("canary-92")


class Plugged:
    """A policy and an inspector that work, until a test breaks them."""

    name, version, digest = "plugged", "1", "A" * 43
    inline = True  # What breaks, breaks in the thread of the caller.

    def decide(self, request: Request) -> Decision:
        """Return the answer of this policy."""
        return Decision(effect=Effect.ALLOW, reason="fine")

    def inspect(self, content: Content) -> list[Any]:
        """Look at content as this inspector does."""
        return []


# What a call passes on its way to the body; each is broken in turn.
BEFORE = {
    "current task": (TaskContext, "current"),
    "wall clock": (FixedClock, "wall_ns"),
    "monotonic clock": (FixedClock, "monotonic_ns"),
    "span start": (Spans, "start"),
    "snapshot": (guard_module, "capture"),
    "lease": ("agent_identity._authority.registries.tasks.Lease", "check"),
    "inspector": (Plugged, "inspect"),
    "scope": (Scope, "check"),
    "policy": (Plugged, "decide"),
    "canonical form": (Arguments, "canonical"),
    "kinds": (Arguments, "kinds"),
    "digest": (DigestKeys, "digest"),
    "claim": (description.RecordBuilder, "_decision"),
    "trace claim": (telemetry, "traced"),
    "append": (Ledger, "append"),
    "request": (questions, "Request"),
    "content": (questions, "Content"),
    "context": (guard_module, "in_context"),
}


def _target(where: object) -> object:
    if isinstance(where, str):
        module, _, name = where.rpartition(".")
        return getattr(__import__(module, fromlist=[name]), name)
    return where


@contextlib.contextmanager
def broken(where: tuple[object, str], error: Callable[..., Any] = defect) -> Iterator[list[str]]:
    """Break one part for this thread, and yield a list that shows whether it was needed."""
    target, name = _target(where[0]), where[1]
    whole, mine, hits = getattr(target, name), threading.get_ident(), []

    def fail(*args: Any, **kwargs: Any) -> Any:
        if threading.get_ident() != mine:
            return whole(*args, **kwargs)
        hits.append(name)
        return error(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(target, name, fail)
        yield hits


@pytest.mark.parametrize("part", BEFORE)
@pytest.mark.parametrize("kind", KINDS)
def test_ac_92_a_defect_on_the_way_to_the_body_runs_nothing(
    open_world: Any, part: str, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever of ours breaks, the body does not run without a record; nothing is quoted, and the next call runs."""
    plugged = Plugged()
    world = open_world(policy=plugged, inspectors=[plugged])

    def body() -> None:
        world.ran.append(1)

    with world.task(OPEN):
        before, run = len(world.records()), prepared(world, kind, body)
        with broken(BEFORE[part]) as hits:
            try:
                run()
            except (Denied, EvidenceError) as error:
                raised: Denied | EvidenceError | None = error
            else:
                raised = None
        new = world.records()[before:]
        if not hits:  # The part was not needed: a call without arguments needs no digest.
            assert raised is None
            assert world.ran == [1]
            assert [record["kind"] for record in new] == ["intent", "outcome"]
        elif isinstance(raised, Denied):
            assert world.ran == []
            assert raised.code in ("guard_failed", "policy_failed")
            assert [(record["kind"], record["outcome"]) for record in new] == [("outcome", "denied")]
            assert raised.reference == new[0]["id"]
        else:
            assert raised is not None
            assert world.ran == []
            assert raised.code == "guard_failed"
            assert "canary-92" not in str(raised)
            assert [record["kind"] for record in new] == (["intent"] if part == "context" else [])
        world.ran.clear()
        call(world, kind, body)
        assert world.ran == [1]
    assert "canary-92" not in caplog.text
    assert otel.get_current() == {}


@pytest.mark.parametrize(
    "part", ["snapshot", "lease", "inspector", "scope", "policy", "canonical form", "kinds", "digest"]
)
def test_ac_92_a_defect_of_the_judgement_is_a_recorded_refusal(open_world: Any, part: str) -> None:
    """Where the ledger still works, the refusal is typed, coded and recorded like every other."""
    plugged = Plugged()
    world = open_world(policy=plugged, inspectors=[plugged])
    tool = world.tool()
    code = "policy_failed" if part == "policy" else "guard_failed"
    digest = part not in ("snapshot", "canonical form", "digest", "kinds")
    with world.task(OPEN), broken(BEFORE[part]), world.refused(code, digest=digest):
        tool(1)


@pytest.mark.parametrize("code", ["guard_failed", "policy_failed"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_ac_92_an_interrupt_on_the_way_to_the_body_runs_nothing(open_world: Any, error: Any, code: str) -> None:
    """Ctrl-C while a plug-in judges comes out as it is; the body did not run and the span is ended."""
    plugged = Plugged()
    world = open_world(policy=plugged, inspectors=[plugged])
    tool = world.tool()

    def interrupt(*_: object) -> None:
        raise error

    part = BEFORE["policy" if code == "policy_failed" else "inspector"]
    with world.task(OPEN), broken(part, interrupt), pytest.raises(error):
        tool(1)
    assert world.ran == []
    assert world.records("intent", "outcome") == []
    assert len([span for span in world.exporter.get_finished_spans() if span.name == "execute_tool tool"]) == 1


# What a call passes after its body; each is broken in turn.
AFTER = {
    "wall clock": (FixedClock, "wall_ns"),
    "result": (description, "canonical_bytes"),
    "claim": (description.RecordBuilder, "_decision"),
    "digest": (DigestKeys, "digest"),
    "append": (Ledger, "append"),
    "span finish": (Spans, "finish"),
}


@pytest.mark.parametrize("part", AFTER)
@pytest.mark.parametrize("raises", [False, True])
@pytest.mark.parametrize("sealing", ["background", "inline"])
def test_ac_92_a_defect_after_the_body_hides_nothing(
    open_world: Any, part: str, sealing: str, caplog: pytest.LogCaptureFixture, *, raises: bool
) -> None:
    """The act happened: its result or its exception comes out, the intent stands, and nothing is quoted."""
    world = open_world(telemetry=Telemetry(sealing=sealing))
    hits: list[list[str]] = []

    with contextlib.ExitStack() as stack:

        @world.enforcer.tool(name="tool")
        def tool() -> str:
            hits.append(stack.enter_context(broken(AFTER[part])))
            if raises:
                raise Planned("canary-92")
            return "result"

        with world.task(OPEN):
            with pytest.raises(Planned) if raises else contextlib.nullcontext():
                assert tool() == "result"
            stack.close()
            world.enforcer._enforcement.ledger.drain(10)
            assert len(world.records("intent")) == 1
            optional = part in ("result", "digest", "span finish")
            assert len(world.records("outcome")) == (optional or not hits[0])
    assert "canary-92" not in caplog.text


def test_ac_92_a_ledger_that_fails_refuses_until_it_works(world: Any) -> None:
    """Disk full: no call runs without its record, in any kind; with space again, all do."""
    ran: list[str] = []

    def body_of(kind: str) -> Callable[[], None]:
        return lambda: ran.append(kind)

    def full(*_: object) -> int:
        raise OSError(28, os.strerror(28))

    with world.task(OPEN):
        with broken(("agent_identity._storage.os_files.Files", "write"), full):
            for kind in KINDS:
                with pytest.raises(EvidenceError, match="No space"):
                    call(world, kind, body_of(kind))
        assert ran == []
        for kind in KINDS:
            call(world, kind, body_of(kind))
    assert ran == list(KINDS)
    complete(world, len(KINDS))


def test_ac_92_a_defect_of_the_wrapper_runs_nothing(world: Any) -> None:
    """Where even binding breaks, the body does not run."""
    for kind in KINDS[:4]:
        with world.task(OPEN), broken((wrap_module.Binder, "bind")), pytest.raises(Defect):
            call(world, kind, lambda: world.ran.append(1))
    assert world.ran == []


def test_ac_92_a_defect_while_opening_gives_no_authority(world: Any) -> None:
    """A task that cannot be opened completely is not open."""
    tool = world.tool()
    parts = [
        (TaskRegistry, "open"),
        (Ledger, "append"),
        (Spans, "start"),
        (TaskContext, "holding"),
        (FixedClock, "wall_ns"),
    ]
    for part in parts:
        with broken(part), pytest.raises((Defect, Denied, EvidenceError, ConfigurationError)), world.task(OPEN):
            world.ran.append("entered")
        with world.refused("no_task", chain=None):
            tool(1)
    assert world.ran == []


def test_ac_92_a_refusal_is_logged_where_it_is_our_fault(world: Any, caplog: pytest.LogCaptureFixture) -> None:
    """The operator finds the class of the defect and its place, so that it can be repaired."""
    tool = world.tool()
    with caplog.at_level(logging.ERROR), world.task(OPEN), broken(BEFORE["scope"]), pytest.raises(Denied):
        tool(1)
    (line,) = [record.getMessage() for record in caplog.records]
    assert "Defect at" in line
    assert "test_exits.py" in line
    assert "canary-92" not in caplog.text
