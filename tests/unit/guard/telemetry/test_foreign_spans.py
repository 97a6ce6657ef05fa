"""Spans that another instrumentation has made for the same call: found, given the record once, and left to it."""

import asyncio
import contextlib
import io
import json
import os
import sys
import threading
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from agent_identity import Report, Scope, Verifier
from agent_identity._guard.telemetry import foreign_spans as neighbours
from agent_identity._identity.common.record_bytes import encode_record
from agent_identity._spans.span_from_record import span_ids
from agent_identity.errors import ConfigurationError, Denied, EvidenceError
from agent_identity.options import Telemetry
from agent_identity.records import decode

World = Any  # That of conftest.py, which cannot be imported.
SCOPE = Scope({"find": {}, "other": {}})
PAYLOAD = "agent_identity.attestation.payload"
TOOL = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "find"}
Theirs = Callable[..., contextlib.AbstractContextManager[trace.Span]]


@pytest.fixture
def theirs(world: World) -> Theirs:
    """Return what makes a span of another library for a call, current for the block."""
    return their_spans(world)


def their_spans(world: World) -> Theirs:
    tracer = world.provider.get_tracer("another.library")

    def make(name: str = "execute_tool find", **options: Any) -> contextlib.AbstractContextManager[trace.Span]:
        return tracer.start_as_current_span(name, **{"attributes": TOOL, **options})

    return make


def finder(world: World, body: Callable[[str], object] = lambda q: q) -> Callable[[str], Any]:
    """Return a guarded tool."""

    def find(q: str) -> object:
        return body(q)

    return world.enforcer.tool(find)


def carriers(world: World) -> list[ReadableSpan]:
    """Return the finished spans that carry the record of a call."""
    world.enforcer._enforcement.ledger.drain(10)
    return [s for s in world.exporter.get_finished_spans() if "agent_identity.outcome" in (s.attributes or {})]


def scopes(world: World) -> list[str]:
    """Return who made the spans with records of calls."""
    return [span.instrumentation_scope.name for span in carriers(world) if span.instrumentation_scope]


def report_on(world: World) -> Report:
    """Close the enforcer and verify all spans."""
    world.enforcer.close()
    data = encode_spans(world.exporter.get_finished_spans()).SerializeToString()
    return Verifier(world.directory / "trust.json").traces(io.BytesIO(data), ledger=world.directory)


def test_the_record_goes_on_their_span(world: World, theirs: Theirs) -> None:
    """Their span of the call carries the whole signed record, verifies, and stays theirs; there is none of ours."""
    find = finder(world)
    with world.task(SCOPE), theirs() as span:
        assert find("a") == "a"
    (found,) = carriers(world)
    assert found.context == span.get_span_context()
    assert (found.name, found.status.status_code) == ("execute_tool find", trace.StatusCode.UNSET)
    assert world.spans() == [found]
    intent, outcome = world.records("intent", "outcome")
    parent = found.parent.span_id if found.parent else 0
    ids = {"trace": f"{found.context.trace_id:032x}", "span": f"{found.context.span_id:016x}"}
    assert intent["trace"] == {**ids, "parent": f"{parent:016x}"}
    assert span_ids(decode(encode_record(outcome))) == (ids["trace"], ids["span"])
    report = report_on(world)
    assert (report.verdict, report.findings, report.counts["verified"]) == ("verified", (), 2)


def test_one_span_pasted_from_an_interface_verifies(world: World, theirs: Theirs) -> None:
    """A span of theirs that carries a record is verified by itself, if it shows whose it is."""
    find = finder(world)
    with world.task(SCOPE), theirs():
        find("a")
    (found,) = carriers(world)
    shown = json.loads(found.to_json())
    pasted = Verifier(world.directory / "trust.json").pasted(io.BytesIO(json.dumps(shown).encode()))
    assert (pasted.exit_code, {finding.code for finding in pasted.findings}) == (
        2,
        {"chain_not_checked", "span_unlike_record"},
    )
    shown["instrumentation_scope"] = {"name": found.instrumentation_scope.name}
    pasted = Verifier(world.directory / "trust.json").pasted(io.BytesIO(json.dumps(shown).encode()))
    assert (pasted.exit_code, pasted.counts["verified"]) == (0, 1)


SAYS_SO: dict[str, tuple[str, dict[str, str]]] = {
    "OpenTelemetry": ("execute_tool find", TOOL),
    "OpenTelemetry, by the name of the span": ("execute_tool find", {"gen_ai.operation.name": "execute_tool"}),
    "MCP": ("tools/call find", {"mcp.method.name": "tools/call"}),
    "OpenLLMetry": ("find.tool", {"traceloop.span.kind": "tool", "traceloop.entity.name": "find"}),
    "OpenInference": ("anything", {"openinference.span.kind": "TOOL", "tool.name": "find"}),
    "Langfuse": ("find", {"langfuse.observation.type": "tool"}),
}


@pytest.mark.parametrize("library", SAYS_SO)
def test_each_convention_is_understood(world: World, theirs: Theirs, library: str) -> None:
    """However a library says that its span is a call of this tool, it is found; a call of another tool is not."""
    name, attributes = SAYS_SO[library]
    find, other = finder(world), world.enforcer.tool(lambda_named("other"))
    with world.task(SCOPE):
        with theirs(name, attributes=attributes):
            find("a")
        with theirs(name, attributes=attributes):
            other()
    assert scopes(world) == ["another.library", "agent_identity"]


def lambda_named(name: str) -> Callable[[], None]:
    """Return a function of this name."""

    def function() -> None:
        pass

    function.__name__ = name
    return function


@pytest.mark.parametrize("attributes", [{}, {"gen_ai.operation.name": "chat", "gen_ai.tool.name": "find"}])
def test_other_spans_are_left_alone(world: World, theirs: Theirs, attributes: dict[str, str]) -> None:
    """A span that is no call of a tool gets nothing, whatever its name; ours is below it."""
    find = finder(world)
    with world.task(SCOPE), theirs("find", attributes=attributes) as span:
        find("a")
    assert scopes(world) == ["agent_identity"]
    assert carriers(world)[0].parent == span.get_span_context()


def test_a_span_carries_one_record(world: World, theirs: Theirs) -> None:
    """A second call within the same span has a span of ours, and so has one inside the first."""
    inner = finder(world)
    outer = finder(world, inner)
    with world.task(SCOPE), theirs():
        outer("a")
        inner("b")
    assert sorted(scopes(world)) == ["agent_identity", "agent_identity", "another.library"]
    assert report_on(world).verdict == "verified"


def test_racing_calls_share_out_one_span(world: World, theirs: Theirs) -> None:
    """Of calls that race for one span, exactly one gets it."""
    find, barrier = finder(world), threading.Barrier(8)

    def go() -> None:
        barrier.wait()
        find("a")

    with world.task(SCOPE), theirs():
        threads = [threading.Thread(target=world.enforcer.bind(go)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(scopes(world)) == ["agent_identity"] * 7 + ["another.library"]
    assert report_on(world).verdict == "verified"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_child_forked_while_a_span_is_taken_does_not_hang(world: World) -> None:
    """What another thread of the parent held is free in the child, which takes spans of its own."""
    span = world.provider.get_tracer("another.library").start_span("execute_tool find", attributes=TOOL)
    with neighbours._TAKEN._lock:
        child = os.fork()
        if child == 0:
            os._exit(0 if neighbours.take(span) and not neighbours.take(span) else 1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    span.end()


def test_memory_is_bounded(world: World, theirs: Theirs, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of spans long past nothing is remembered; that one has a record already, its attributes tell."""
    monkeypatch.setattr(neighbours, "_MOST", 2)
    find = finder(world)
    with world.task(SCOPE), theirs():
        find("first")
        for _ in range(4):
            with theirs():
                find("a")
        find("again")
    assert len(neighbours._TAKEN._known) == neighbours._MOST
    assert sorted(scopes(world)) == ["agent_identity"] + ["another.library"] * 5


def test_what_they_say_stays(world: World, theirs: Theirs) -> None:
    """Conventional attributes that are there already are theirs; ours fill what they leave open."""
    find = finder(world)
    attributes = {**TOOL, "gen_ai.agent.name": "their agent", "user.id": "u-17"}
    with world.task(SCOPE), theirs(attributes=attributes):
        find("a")
    found = carriers(world)[0].attributes or {}
    assert (found["gen_ai.agent.name"], found["user.id"]) == ("their agent", "u-17")
    assert (found["gen_ai.tool.type"], found["agent_identity.agent.id"]) == ("function", "invoice-clerk")
    report = report_on(world)
    assert report.verdict == "verified"
    assert [finding.code for finding in report.findings] == ["copy_changed"]  # That another user is named.


def test_refusals_and_errors_are_on_their_span(world: World, theirs: Theirs) -> None:
    """A refused call and one that fails are marked as errors on the span, with the signed reason."""

    def fail(q: str) -> None:
        raise ValueError(f"canary {q}")

    find = finder(world, fail)
    quiet = {"record_exception": False, "set_status_on_exception": False}
    with world.task(SCOPE), theirs(**quiet), pytest.raises(ValueError, match="canary"):
        find("a")
    with theirs(**quiet), pytest.raises(Denied):
        find("outside any task")
    assert scopes(world) == ["another.library"] * 2
    failed, refused = carriers(world)
    assert (failed.status.status_code, failed.status.description) == (trace.StatusCode.ERROR, "ValueError")
    assert (refused.status.description, refused.attributes["error.type"]) == ("no_task", "no_task")  # type: ignore[index]
    assert "canary" not in failed.to_json() + refused.to_json()


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, asyncio.CancelledError, GeneratorExit])
def test_ac_91_a_cancelled_call_is_on_their_span(world: World, theirs: Theirs, error: type[BaseException]) -> None:
    """What cancels a call is re-raised, and the record on their span says so."""

    def cancel(q: str) -> None:
        raise error

    find = finder(world, cancel)
    with world.task(SCOPE), pytest.raises(error), theirs():
        find("a")
    assert [span.attributes["agent_identity.outcome"] for span in carriers(world)] == ["cancelled"]  # type: ignore[index]


def test_ac_87_a_tool_cannot_push_the_record_out(world: World, theirs: Theirs) -> None:
    """A body that sets 200 attributes on the span evicts its own, because the record is put there after it."""
    find = finder(world, lambda q: [trace.get_current_span().set_attribute(f"junk.{i}", q) for i in range(200)])
    with world.task(SCOPE), theirs():
        find("a")
    assert report_on(world).counts["verified"] == 2


def test_ac_85_a_caller_that_switches_traces_off_changes_no_record(world: World) -> None:
    """Below a span that is not sampled nothing is made or borrowed; the ledger has the call."""
    find = finder(world)
    off = trace.NonRecordingSpan(trace.SpanContext(1, 2, is_remote=True, trace_flags=trace.TraceFlags(0)))
    with trace.use_span(off), world.task(SCOPE):
        find("a")
    assert (carriers(world), world.outcomes()) == ([], ["success"])


def test_it_is_signed_before_they_end_it(world: World) -> None:
    """Their span may end the moment that the tool returns; nothing waits for the thread that signs others."""
    find, tracer = finder(world), world.provider.get_tracer("another.library")
    with world.task(SCOPE):
        span = tracer.start_span("execute_tool find", attributes=TOOL)
        with trace.use_span(span, end_on_exit=False):
            find("a")
        assert PAYLOAD in (span.attributes or {})  # type: ignore[attr-defined]
        span.end()
    assert report_on(world).verdict == "verified"


def test_a_stream_that_outlives_their_span_gets_one_of_ours(world: World, theirs: Theirs) -> None:
    """The record of a call whose borrowed span has ended goes on a span of ours below it, and all verifies."""

    def find() -> Iterator[int]:
        yield from range(3)

    guarded = world.enforcer.tool(find)
    with world.task(SCOPE):
        with theirs() as span:
            stream = guarded()
            assert next(stream) == 0
        assert list(stream) == [1, 2]
    assert scopes(world) == ["agent_identity"]
    assert carriers(world)[0].parent == span.get_span_context()
    intent, outcome = world.records("intent", "outcome")
    assert intent["trace"]["span"] == outcome["trace"]["parent"] == f"{span.get_span_context().span_id:016x}"
    assert (report_on(world).verdict, report_on(world).findings) == ("verified", ())


# --------------------------------------------------------------------------------------------------- the three modes


def other_pipeline() -> tuple[Theirs, InMemorySpanExporter]:
    """Return spans of another library that go through a provider of its own."""
    exporter, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("another.library")
    return lambda: tracer.start_as_current_span("execute_tool find", attributes=TOOL), exporter


@pytest.mark.parametrize(
    ("mode", "ours", "here"),
    [("auto", "another.library", 1), ("own", "agent_identity", 1), ("enrich", "another.library", 1)],
)
def test_modes_where_there_is_a_span(opened: Callable[..., World], mode: str, ours: str, here: int) -> None:
    """``auto`` and ``enrich`` use their span, ``own`` makes one below it; either way there is one record."""
    world = opened(telemetry=Telemetry(spans=mode))
    find = finder(world)
    with world.task(SCOPE), their_spans(world)() as span:
        find("a")
    assert scopes(world) == [ours] * here
    assert (carriers(world)[0].context == span.get_span_context()) is (mode != "own")
    assert report_on(world).verdict == "verified"


@pytest.mark.parametrize("mode", ["auto", "enrich"])
def test_another_pipeline_gets_no_record_unasked(opened: Callable[..., World], mode: str) -> None:
    """With a provider of its own their span goes elsewhere: ``auto`` makes one of ours, ``enrich`` was told so."""
    world = opened(telemetry=Telemetry(spans=mode))
    find, (theirs, elsewhere) = finder(world), other_pipeline()
    with world.task(SCOPE), theirs():
        find("a")
    there = [PAYLOAD in (span.attributes or {}) for span in elsewhere.get_finished_spans()]
    assert (len(carriers(world)), there) == ((1, [False]) if mode == "auto" else (0, [True]))


def test_without_a_provider_of_ours_theirs_is_better_than_none(opened: Callable[..., World]) -> None:
    """Where our spans would go nowhere, a span of theirs carries the record, wherever it goes."""
    world = opened(telemetry=Telemetry(tracer_provider=trace.NoOpTracerProvider()))
    find, (theirs, elsewhere) = finder(world), other_pipeline()
    with world.task(SCOPE), theirs():
        find("a")
    assert [PAYLOAD in (span.attributes or {}) for span in elsewhere.get_finished_spans()] == [True]


def test_enrich_without_a_span_leaves_the_record_in_the_ledger(opened: Callable[..., World]) -> None:
    """``enrich`` makes no span of a call; the record names the trace and the span around it, and the body sees that."""
    world, seen = opened(telemetry=Telemetry(spans="enrich")), list[trace.Span]()
    find = finder(world, lambda q: seen.append(trace.get_current_span()))
    with world.task(SCOPE), their_spans(world)("a request", attributes={}) as span:
        find("a")
    assert (carriers(world), seen) == ([], [span])
    intent, outcome = world.records("intent", "outcome")
    around = span.get_span_context()
    assert intent["trace"] == {"trace": f"{around.trace_id:032x}", "parent": f"{around.span_id:016x}"}
    assert (outcome["outcome"], "span" in outcome["trace"]) == ("success", False)
    with pytest.raises(Denied):
        find("outside any task")
    assert "trace" not in world.records("outcome")[1]


def test_enrich_does_not_regain(opened: Callable[..., World]) -> None:
    """With ``enrich`` a record whose span has ended too early is in the ledger only."""
    world = opened(telemetry=Telemetry(spans="enrich"))

    def find() -> Iterator[int]:
        yield from range(3)

    guarded = world.enforcer.tool(find)
    with world.task(SCOPE):
        with their_spans(world)():
            stream = guarded()
            next(stream)
        list(stream)
    assert (carriers(world), world.outcomes()) == ([], ["success"])


def test_a_misspelt_mode_is_refused(opened: Callable[..., World]) -> None:
    """A mode that is none of the three opens nothing, and touches no directory."""
    with pytest.raises(ConfigurationError, match="spans='auto' or spans='own' or spans='enrich'"):
        opened(telemetry=Telemetry(spans="both"))


def test_copies_from_the_ledger_go_beside_untouched_spans(opened: Callable[..., World]) -> None:
    """Where a thread sends the ledger itself, their spans are left alone."""
    world = opened(telemetry=Telemetry(otlp="http://127.0.0.1:9"))
    find = finder(world)
    with world.task(SCOPE), their_spans(world)():
        find("a")
    assert carriers(world) == []


# ------------------------------------------------------------------------------------------------------ OpenInference


@pytest.fixture
def openinference(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return where a test puts the span of the LangChain run of now, as OpenInference keeps it: attached nowhere."""
    module, now = ModuleType("openinference.instrumentation.langchain"), dict[str, Any]()
    module.get_current_span = lambda: now.get("span")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return now


def test_a_run_that_is_current_nowhere_is_found(world: World, openinference: dict[str, Any]) -> None:
    """The span of the run has the tool's name and gets the record; spans of the body are below it."""
    find = finder(world, lambda q: world.provider.get_tracer("of.the.tool").start_span("inside").end())
    with world.task(SCOPE):
        run = openinference["span"] = world.provider.get_tracer("theirs").start_span("find")
        find("a")
        run.end()
    inside = next(span for span in world.exporter.get_finished_spans() if span.name == "inside")
    assert (scopes(world), inside.parent) == (["theirs"], run.get_span_context())


def test_a_span_of_ours_joins_the_trace_of_the_run(opened: Callable[..., World], openinference: dict[str, Any]) -> None:
    """Outside any trace our span is below the run's, so that no trace is split; inside one it stays where it is."""
    world = opened(mode="monitor", telemetry=Telemetry(spans="own"))
    find = finder(world)
    run = openinference["span"] = world.provider.get_tracer("theirs").start_span("tools")
    find("a")
    with their_spans(world)("a request", attributes={}) as request:
        find("b")
    openinference["span"] = None
    find("c")
    parents = [span.parent for span in carriers(world)]
    assert parents == [run.get_span_context(), request.get_span_context(), None]
    run.end()


# ------------------------------------------------------------------------------------------------------ it fails open


class Broken(trace.NonRecordingSpan):
    """A span that raises when it is asked what it says."""

    @property
    def attributes(self) -> Any:
        """Raise."""
        raise RuntimeError("canary")


def test_a_span_that_raises_costs_nothing(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """A foreign span that fails when it is looked at costs a line in the log, and neither the call nor its span."""
    find = finder(world)
    with (
        world.task(SCOPE),
        trace.use_span(Broken(trace.SpanContext(1, 2, is_remote=False, trace_flags=trace.TraceFlags(1)))),
    ):
        assert find("a") == "a"
    assert scopes(world) == ["agent_identity"]
    assert "a span of another library could not be used: RuntimeError" in caplog.text
    assert "canary" not in caplog.text


def test_a_span_that_takes_nothing_costs_nothing(
    world: World, theirs: Theirs, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A foreign span that fails when the record is put on it costs the copy: result and ledger are as they are."""
    find = finder(world)

    def fail(*_: object) -> None:
        raise RuntimeError("canary")

    with world.task(SCOPE), theirs() as span:
        monkeypatch.setattr(span, "set_attributes", fail)
        assert find("a") == "a"
    assert (carriers(world), world.outcomes()) == ([], ["success"])
    assert "a span could not be finished: RuntimeError" in caplog.text
    assert "canary" not in caplog.text


def test_what_cannot_be_recorded_leaves_their_span_open(
    world: World, theirs: Theirs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the intent cannot be written, the call does not run, and their span is neither ended nor marked by us."""
    find = finder(world)
    with world.task(SCOPE), theirs() as span:
        with monkeypatch.context() as broken:
            broken.setattr(world.enforcer._enforcement.ledger, "append", lambda *_, **__: 1 / 0)
            with pytest.raises(EvidenceError):
                find("a")
        assert span.is_recording()
    assert carriers(world) == []


def test_spans_that_are_not_sampled_are_not_borrowed(opened: Callable[..., World]) -> None:
    """A sampler that is off makes spans that keep nothing; the ledger has the call."""
    world = opened(telemetry=Telemetry(tracer_provider=TracerProvider(sampler=ALWAYS_OFF)))
    find = finder(world)
    with world.task(SCOPE), world.enforcer._enforcement.spans._current().start_as_current_span("execute_tool find"):
        find("a")
    assert world.outcomes() == ["success"]


@pytest.mark.parametrize(("name", "scope"), [("execute_tool find", "gcp.vertex.agent"), ("other", "agent_identity")])
def test_a_span_that_gets_its_attributes_only_afterwards_is_known_by_its_name(
    world: World, name: str, scope: str
) -> None:
    """Google ADK names its span of a call, and writes its attributes when the tool has returned."""
    find = finder(world)
    tracer = world.provider.get_tracer("gcp.vertex.agent")
    with world.task(SCOPE), tracer.start_as_current_span(name):
        find("a")
    assert scopes(world) == [scope]
    assert report_on(world).verdict == "verified"
