"""Stamps: the spans of other libraries can be found by principal, agent and task, and are never taken for evidence."""

import contextvars
import io
import json
import logging
import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from agent_identity import Agent, Enforcer, Human, Scope, Service, Verifier
from agent_identity._guard.telemetry.providers import when_provided
from agent_identity.errors import ConfigurationError
from agent_identity.options import Privacy, Telemetry
from agent_identity.telemetry import AgentIdentitySpanProcessor, stamp_spans

ALICE = Human("alice@example.com")
CLERK = Agent("clerk", owner="finance@example.com")
STAMP = "agent_identity_stamp."
SCOPE = Scope("find")


def stamps(span: ReadableSpan) -> dict[str, Any]:
    """Return the stamp of a span, and what it says of the user."""
    found = span.attributes or {}
    return {name: value for name, value in found.items() if name.startswith(STAMP) or name == "user.id"}


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def provider(exporter: InMemorySpanExporter) -> TracerProvider:
    """Return a provider as an application has one, stamped."""
    made = TracerProvider(shutdown_on_exit=False)
    made.add_span_processor(SimpleSpanProcessor(exporter))
    stamp_spans(made)
    return made


@pytest.fixture
def enforcer(tmp_path: Path, provider: TracerProvider) -> Any:
    with Enforcer.open(tmp_path / "evidence", telemetry=Telemetry(tracer_provider=provider)) as opened:
        yield opened


def one(exporter: InMemorySpanExporter, name: str) -> ReadableSpan:
    """Return the one span of this name."""
    (found,) = [span for span in exporter.get_finished_spans() if span.name == name]
    return found


def test_spans_within_a_task_name_it(
    enforcer: Enforcer, provider: TracerProvider, exporter: InMemorySpanExporter
) -> None:
    """Principal, agent and task are on the spans that other libraries start inside a task, and on no others."""
    tracer = provider.get_tracer("another.library")
    tracer.start_span("before").end()
    with enforcer.task("look", principal=ALICE, agent=CLERK, scope=SCOPE) as task:
        tracer.start_span("chat model").end()
        tracer.start_span("a trace of its own", context=Context()).end()
    tracer.start_span("after").end()
    expected = {
        "agent_identity_stamp.principal.id": "alice@example.com",
        "agent_identity_stamp.principal.type": "human",
        "agent_identity_stamp.agent.id": "clerk",
        "agent_identity_stamp.task.id": task.id,
        "user.id": "alice@example.com",
    }
    assert stamps(one(exporter, "chat model")) == stamps(one(exporter, "a trace of its own")) == expected
    assert stamps(one(exporter, "before")) == stamps(one(exporter, "after")) == {}


def test_the_innermost_agent_is_named(
    enforcer: Enforcer, provider: TracerProvider, exporter: InMemorySpanExporter
) -> None:
    """Inside a delegation, the stamp names the agent that acts; behind it, the one before."""
    tracer = provider.get_tracer("another.library")
    with enforcer.task("look", principal=ALICE, agent=CLERK, scope=SCOPE):
        with enforcer.delegate(Agent("helper", owner="it@example.com"), scope=SCOPE):
            tracer.start_span("inner").end()
        tracer.start_span("outer").end()
        with enforcer.no_task():
            tracer.start_span("nobody").end()
    assert stamps(one(exporter, "inner"))[f"{STAMP}agent.id"] == "helper"
    assert stamps(one(exporter, "outer"))[f"{STAMP}agent.id"] == "clerk"
    assert stamps(one(exporter, "nobody")) == {}


def test_what_a_library_says_of_the_user_stays(
    enforcer: Enforcer, provider: TracerProvider, exporter: InMemorySpanExporter
) -> None:
    """A user id that is there already is not replaced, and services are no users."""
    tracer = provider.get_tracer("another.library")
    with enforcer.task("look", principal=ALICE, agent=CLERK, scope=SCOPE):
        tracer.start_span("theirs", attributes={"user.id": "u-17"}).end()
    with enforcer.task("look", principal=Service("spiffe://example.com/batch"), agent=CLERK, scope=SCOPE):
        tracer.start_span("batch").end()
    assert stamps(one(exporter, "theirs"))["user.id"] == "u-17"
    found = stamps(one(exporter, "batch"))
    assert (found[f"{STAMP}principal.type"], "user.id" in found) == ("service", False)


def test_a_stamp_is_no_evidence(
    enforcer: Enforcer, provider: TracerProvider, exporter: InMemorySpanExporter, tmp_path: Path
) -> None:
    """The verifier neither believes nor blames a stamp, forged or not; our own spans have none."""
    tracer = provider.get_tracer("another.library")

    @enforcer.tool
    def find(q: str) -> str:
        tracer.start_span("inside", attributes={f"{STAMP}principal.id": "mallory"}).end()
        return q

    with enforcer.task("look", principal=ALICE, agent=CLERK, scope=SCOPE):
        tracer.start_span("chat model").end()
        find("a")
    enforcer.close()
    data = encode_spans(exporter.get_finished_spans()).SerializeToString()
    report = Verifier(tmp_path / "evidence" / "trust.json").traces(io.BytesIO(data), ledger=tmp_path / "evidence")
    assert (report.verdict, report.findings) == ("verified", ())
    assert (report.counts["spans"], report.counts["records"], report.counts["verified"]) == (4, 2, 2)
    for ours in ("execute_tool find", "invoke_agent clerk"):
        assert not any(name.startswith(STAMP) for name in one(exporter, ours).attributes or {})


def test_stamps_hold_pseudonyms_and_no_arguments(
    provider: TracerProvider, exporter: InMemorySpanExporter, tmp_path: Path
) -> None:
    """With pseudonyms the real name is on no span of anybody; arguments and results never are."""
    tracer = provider.get_tracer("another.library")
    with Enforcer.open(
        tmp_path / "evidence", telemetry=Telemetry(tracer_provider=provider), privacy=Privacy(pseudonyms=True)
    ) as enforcer:

        @enforcer.tool
        def find(q: str) -> str:
            tracer.start_span("inside").end()
            return f"canary-result {q}"

        with enforcer.task("look", principal=ALICE, agent=CLERK, scope=SCOPE):
            find("canary-argument")
    everything = json.dumps([span.to_json() for span in exporter.get_finished_spans()])
    assert stamps(one(exporter, "inside"))["user.id"].startswith("pseudonym:")
    assert not [word for word in ("alice@example.com", "canary") if word in everything]


def test_authority_that_ended_stamps_nothing(
    enforcer: Enforcer, provider: TracerProvider, exporter: InMemorySpanExporter
) -> None:
    """Work that outlives the task in a copied context is nobody's; while the task lived it was the task's."""
    tracer = provider.get_tracer("another.library")
    with enforcer.task("look", principal=ALICE, agent=CLERK, scope=SCOPE):
        copied = contextvars.copy_context()
        thread = threading.Thread(target=copied.run, args=(lambda: tracer.start_span("alive").end(),))
        thread.start()
        thread.join()
    copied.run(lambda: tracer.start_span("late").end())
    assert stamps(one(exporter, "alive"))
    assert stamps(one(exporter, "late")) == {}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_stamps_nothing_of_its_parent(enforcer: Enforcer, provider: TracerProvider) -> None:
    """A fork loses sight of its parent's tasks, and so do its stamps."""
    with enforcer.task("look", principal=ALICE, agent=CLERK, scope=SCOPE):
        child = os.fork()
        if child == 0:
            span: Any = provider.get_tracer("another.library").start_span("forked")
            os._exit(len(stamps(span)))
        _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0


class Broken:
    """A span that fails at every touch."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError("canary")


def test_no_failure_of_ours_reaches_the_application(enforcer: Enforcer, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever goes wrong while stamping costs the stamp; it is said once, without texts of others."""
    processor, span = AgentIdentitySpanProcessor(), Broken()
    with enforcer.task("look", principal=ALICE, agent=CLERK, scope=SCOPE), caplog.at_level(logging.WARNING):
        for _ in range(3):
            processor.on_start(span)  # type: ignore[arg-type]
    assert [record.getMessage() for record in caplog.records] == [
        "spans could not be stamped: RuntimeError; they are unchanged"
    ]
    processor.on_end(span)  # type: ignore[arg-type]
    processor.shutdown()
    assert processor.force_flush()


def processors(provider: Any) -> list[Any]:
    """Return the processors of a provider of the SDK."""
    return list(provider._active_span_processor._span_processors)


def test_a_provider_is_stamped_once(provider: TracerProvider) -> None:
    """Asking again adds nothing, and what the provider had before stays."""
    stamp_spans(provider)
    stamp_spans(provider)
    assert [type(processor) for processor in processors(provider)] == [SimpleSpanProcessor, AgentIdentitySpanProcessor]


def test_a_second_processor_changes_nothing(
    enforcer: Enforcer, provider: TracerProvider, exporter: InMemorySpanExporter
) -> None:
    """Who adds the processor by hand as well gets the same stamp, also if the task is another one meanwhile."""

    class Other(AgentIdentitySpanProcessor.__mro__[1]):  # type: ignore[misc,name-defined]
        def on_start(self, span: Any, parent_context: Any = None) -> None:
            AgentIdentitySpanProcessor().on_start(span, parent_context)

    provider.add_span_processor(Other())
    with enforcer.task("look", principal=ALICE, agent=CLERK, scope=SCOPE):
        provider.get_tracer("another.library").start_span("twice").end()
    assert len(stamps(one(exporter, "twice"))) == 5


class Replacing(TracerProvider):
    """A provider that replaces its first processor by the next one, unless it is told otherwise, as Phoenix's does."""

    def add_span_processor(self, span_processor: Any, replace_default_processor: bool = True) -> None:  # noqa: FBT002
        """Add a processor."""
        if replace_default_processor:
            raise AssertionError("the exporter is gone")
        super().add_span_processor(span_processor)


class Closed(trace.NoOpTracerProvider):
    """A provider that takes no processors, as Datadog's."""


def test_no_exporter_is_lost(caplog: pytest.LogCaptureFixture) -> None:
    """A provider that would drop its exporter keeps it; one that takes no processors is an error with its name."""
    made = Replacing(shutdown_on_exit=False)
    stamp_spans(made)
    assert [type(processor) for processor in processors(made)] == [AgentIdentitySpanProcessor]
    with pytest.raises(ConfigurationError, match=r"Closed takes no span processors"):
        stamp_spans(Closed())


@pytest.mark.parametrize("order", ["stamped first", "provider first"])
def test_the_global_provider_may_be_set_before_or_after(order: str, tmp_path: Path) -> None:
    """Whichever is set up first, spans inside a task are stamped, those of tracers made early as well."""
    first, second = "stamp_spans()", "trace.set_tracer_provider(provider)"
    if order == "provider first":
        first, second = second, first
    code = f"""
        from opentelemetry import trace
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor
        from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
        from agent_identity import Agent, Enforcer, Human, Scope
        from agent_identity.telemetry import stamp_spans
        exporter, provider = InMemorySpanExporter(), TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        early = trace.get_tracer("early.library")
        {first}
        with Enforcer.open("evidence") as enforcer:
            {second}
            for _ in range(2):
                with enforcer.task("t", principal=Human("alice"), agent=Agent("a", owner="o"), scope=Scope("find")):
                    early.start_span("early").end()
        found = [span for span in exporter.get_finished_spans() if span.name == "early"]
        print(len(found), [span.attributes["agent_identity_stamp.principal.id"] for span in found])
        print(len(provider._active_span_processor._span_processors))
    """
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(code)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "2 ['alice', 'alice']\n2\n", "")


def test_what_cannot_be_done_with_the_global_provider_is_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A global provider that takes no processors, or fails, costs the stamps and a line in the log."""
    closed = Closed()
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: closed)
    stamp_spans()
    assert "takes no span processors" in caplog.text
    used: list[Callable[..., Any]] = []
    when_provided(used.append)  # type: ignore[arg-type]
    assert used == [closed]
