"""What the abuse cases share: a world with a fixed clock, and the proof that a call was refused as it must be."""

import functools
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
from agent_identity.errors import Denied
from agent_identity.identity import Clock
from agent_identity.options import Sources, Telemetry
from agent_identity.testing import FixedClock, SequentialIds

ALICE = Human("alice@example.com")
CLERK = Agent("invoice-clerk", owner="finance@example.com")


def _sound(line: bytes) -> dict:
    """Return the record on a line, which has the shape of one; tests look at the same lines again and again."""
    _check(line)
    return json.loads(line)


@functools.lru_cache(maxsize=10_000)
def _check(line: bytes) -> None:
    record = decode_record(line)
    check_record(record)
    assert record == json.loads(line)


@dataclass
class World:
    """One enforcer on one directory, the tools that ran, and what the ledger says."""

    directory: Path
    clock: FixedClock
    exporter: InMemorySpanExporter
    provider: TracerProvider
    enforcer: Enforcer = field(init=False)
    ran: list[object] = field(default_factory=list)

    def task(self, scope: object, **options: object) -> Opening:
        """Return a task of alice and the clerk."""
        given = {"principal": ALICE, "agent": CLERK, "scope": scope, **options}
        return self.enforcer.task("a purpose", **given)

    def tool(self, name: str = "tool", **options: object) -> Callable[..., object]:
        """Return a guarded function of any arguments whose body notes that it ran."""

        @self.enforcer.tool(name=name, **options)
        def body(x: object = None, **more: object) -> object:
            self.ran.append((name, x, more))
            return x

        return body

    def records(self, *kinds: str) -> list[dict]:
        """Return the records of these kinds (by default all), each of which has the shape of a record."""
        reader = open_ledger(self.directory)
        found = []
        for stream in reader.streams():
            for line in reader.entries(stream):
                assert line.problem is None
                record = _sound(line.record)
                if not kinds or record["kind"] in kinds:
                    found.append(record)
        return found

    @contextmanager
    def refused(
        self,
        code: str,
        kind: type[Denied] = Denied,
        *,
        tool: str = "tool",
        chain: tuple[str, ...] | None = ("invoice-clerk",),
        digest: bool = True,
        principal: str = "alice@example.com",
    ) -> Iterator[None]:
        """Prove that the block is refused: typed, coded, nothing ran, and one record that says all of it.

        Args:
            code: The stable code of error and record.
            kind: The class of the error.
            tool: The name of the tool in the record.
            chain: The agents of the chain, root first; ``None`` for a call outside any task.
            digest: The record holds a digest of the arguments.
            principal: On whose behalf.
        """
        ran, before = len(self.ran), len(self.records())
        with pytest.raises(kind) as caught:
            yield
        assert len(self.ran) == ran
        assert caught.value.code == code
        new = self.records()[before:]
        assert [record["kind"] for record in new] == ["outcome"]
        (record,) = new
        assert record["id"] == caught.value.reference
        assert (record["outcome"], record["error"]) == ("denied", code)
        assert (record["decision"]["effect"], record["decision"]["enforced"]) == ("block", "block")
        assert record["decision"]["reason"] == caught.value.decision.reason
        assert record["action"]["tool"] == tool
        assert ("args" in record["action"]) is digest
        if chain is None:
            assert record["attribution"] == "none"
            assert not {"principal", "agent", "task", "chain"} & record.keys()
        else:
            assert record["principal"]["id"] == principal
            assert tuple(link["id"] for link in record["chain"]) == chain
            assert record["agent"]["id"] == chain[-1]


@pytest.fixture
def _own_context() -> Iterator[None]:
    """Put back what was current before a test that leaves a block without its end."""
    token = otel.attach(otel.get_current())
    yield
    otel.detach(token)


@pytest.fixture
def open_world(tmp_path: Path) -> Iterator[Callable[..., World]]:
    """Opens worlds, each in a directory of its own; at the end closes them and reads every record once more."""
    worlds: list[World] = []
    before = otel.get_current()

    def open_one(telemetry: Telemetry | None = None, clock: Clock | None = None, **options: object) -> World:
        exporter, provider = InMemorySpanExporter(), TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        world = World(tmp_path / f"evidence-{len(worlds)}", FixedClock(), exporter, provider)
        telemetry = telemetry or Telemetry()
        if telemetry.tracer_provider is None:
            telemetry = replace(telemetry, tracer_provider=provider)
        sources = Sources(clock=clock or world.clock, ids=SequentialIds())
        world.enforcer = Enforcer.open(world.directory, telemetry=telemetry, sources=sources, **options)
        worlds.append(world)
        return world

    yield open_one
    for world in worlds:
        world.enforcer.close()
        world.records()
    assert otel.get_current() == before


@pytest.fixture
def world(open_world: Callable[..., World]) -> World:
    return open_world()
