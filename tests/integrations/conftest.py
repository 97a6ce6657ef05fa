"""An enforcer on an empty directory, and what its ledger and its spans say."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from agent_identity import Agent, Enforcer, Human, Scope
from agent_identity._guard.sessions.opening import Opening
from agent_identity._ledger.reader import open_ledger
from agent_identity.options import Sources, Telemetry
from agent_identity.testing import FixedClock, SequentialIds

ALICE = Human("alice@example.com")
CLERK = Agent("clerk", owner="finance@example.com")


class Desk:
    """One enforcer and its evidence."""

    def __init__(self, directory: Path, **options: Any) -> None:
        self.directory = directory
        self.exporter = InMemorySpanExporter()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.clock = FixedClock()
        self.enforcer = Enforcer.open(
            directory,
            telemetry=Telemetry(tracer_provider=provider),
            sources=Sources(clock=self.clock, ids=SequentialIds()),
            **options,
        )

    def task(self, *tools: str, **arguments: Any) -> Opening:
        """Open a task for some tools; with arguments, for one tool."""
        return self.task_for(Scope(tools[0], **arguments) if arguments else Scope(dict.fromkeys(tools)))

    def task_for(self, scope: Scope) -> Opening:
        """Open a task for a scope."""
        return self.enforcer.task("test", principal=ALICE, agent=CLERK, scope=scope)

    def records(self) -> list[dict[str, Any]]:
        """Return the intents and outcomes written so far."""
        reader = open_ledger(self.directory)
        lines = [line.record for stream in reader.streams() for line in reader.entries(stream)]
        records = [orjson.loads(line) for line in lines if line is not None]
        return [record for record in records if record["kind"] in ("intent", "outcome")]

    def calls(self) -> list[tuple[str, str | None, str | None]]:
        """Return kind, reason and outcome of each record of a call."""
        return [(r["kind"], r["decision"]["reason"], r.get("outcome")) for r in self.records()]

    def outcomes(self) -> list[str]:
        """Return the outcomes, after checking that exactly the calls that ran have an intent, linked."""
        records = self.records()
        intents = [r["id"] for r in records if r["kind"] == "intent"]
        outcomes = [r for r in records if r["kind"] == "outcome"]
        assert sorted(intents) == sorted(r["intent"] for r in outcomes if "intent" in r)
        assert all("intent" in r for r in outcomes if r["outcome"] != "denied")
        return [r["outcome"] for r in outcomes]

    def spans(self) -> list[ReadableSpan]:
        """Close the enforcer and return the spans of calls."""
        self.enforcer.close()
        return [span for span in self.exporter.get_finished_spans() if span.name.startswith("execute_tool ")]


@pytest.fixture
def open_desk(tmp_path: Path) -> Iterator[Callable[..., Desk]]:
    """Return what opens desks, each on a directory of its own."""
    with contextlib.ExitStack() as stack:
        count = iter(range(100))

        def make(**options: Any) -> Desk:
            desk = Desk(tmp_path / str(next(count)), **options)
            stack.callback(desk.enforcer.close)
            return desk

        yield make


@pytest.fixture
def desk(open_desk: Callable[..., Desk]) -> Desk:
    """Return an enforcer without a policy."""
    return open_desk()
