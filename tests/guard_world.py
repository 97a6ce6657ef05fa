"""Worlds with a fixed clock, spans in memory, and an auditor, for the tests of guard and directory."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from opentelemetry import context as otel
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from plain_records import check_record

from agent_identity import Agent, Enforcer, Human
from agent_identity._guard.sessions.opening import Opening
from agent_identity._identity.common.record_bytes import decode_record
from agent_identity._ledger.reader import open_ledger
from agent_identity._record.schema import Detail
from agent_identity.identity import Clock
from agent_identity.options import Sources, Telemetry
from agent_identity.records import read_lines
from agent_identity.testing import FixedClock, SequentialIds

ALICE = Human("alice@example.com")
CLERK = Agent("invoice-clerk", owner="finance@example.com")


@dataclass
class World:
    """One enforcer on one directory, and what it left behind."""

    directory: Path
    clock: FixedClock
    exporter: InMemorySpanExporter
    provider: TracerProvider
    enforcer: Enforcer = field(init=False)

    def task(self, scope: object, **options: object) -> Opening:
        """Return a task of alice and the clerk."""
        given = {"principal": ALICE, "agent": CLERK, "scope": scope, **options}
        return self.enforcer.task("a purpose", **given)

    def records(self, *kinds: str) -> list[dict]:
        """Return the records of these kinds (by default all), each of which has the shape of a record."""
        reader = open_ledger(self.directory)
        found = []
        for stream in reader.streams():
            for line in reader.entries(stream):
                assert line.problem is None
                record = decode_record(line.record)
                check_record(record)
                if not kinds or record["kind"] in kinds:
                    found.append(record)
        return found

    def details(self) -> list[Detail]:
        """Return the details of the records that have one."""
        return [detail for _, detail in read_lines(self.directory) if detail is not None]

    def outcomes(self) -> list[str]:
        """Return how the calls ended, in their order."""
        return [record["outcome"] for record in self.records("outcome")]

    def spans(self, name: str = "execute_tool") -> list:
        """Return the finished spans whose names begin so; waits until all are signed."""
        self.enforcer._enforcement.ledger.drain(10)
        return [span for span in self.exporter.get_finished_spans() if span.name.startswith(name)]


@pytest.fixture(autouse=True)
def no_context_leaks() -> Iterator[None]:
    """No test, and so nothing that is tested, leaves a task or a span current."""
    yield
    assert dict(otel.get_current()) == {}


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Callable[..., World]]:
    """Opens worlds, each in a directory of its own, and closes them at the end."""
    worlds: list[World] = []

    def open_one(telemetry: Telemetry | None = None, clock: Clock | None = None, **options: object) -> World:
        exporter, provider = InMemorySpanExporter(), TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        world = World(tmp_path / f"evidence-{len(worlds)}", FixedClock(), exporter, provider)
        telemetry = telemetry or Telemetry()
        if telemetry.tracer_provider is None and telemetry.otlp is None:
            telemetry = replace(telemetry, tracer_provider=provider)
        sources = Sources(clock=clock or world.clock, ids=SequentialIds())
        world.enforcer = Enforcer.open(world.directory, telemetry=telemetry, sources=sources, **options)
        worlds.append(world)
        return world

    yield open_one
    for world in worlds:
        world.enforcer.close()
        world.provider.shutdown()
        world.records()


@pytest.fixture
def world(opened: Callable[..., World]) -> World:
    return opened()
