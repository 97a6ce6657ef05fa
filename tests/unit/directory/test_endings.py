"""The last spans of a process that ends without atexit, and the workers of Celery."""

import logging
import sys
import threading
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from agent_identity import Agent, Enforcer, Human, Scope
from agent_identity._directory import _endings
from agent_identity.errors import EvidenceError
from agent_identity.options import Telemetry


def test_closing_exports_the_last_spans_where_that_is_asked_for(tmp_path: Path) -> None:
    """By default a provider does it when the interpreter exits; a provider that cannot flush has nothing to."""
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=600_000))
    enforcer = Enforcer.open(tmp_path / "evidence", telemetry=Telemetry(tracer_provider=provider))
    clerk = Agent("clerk", owner="finance@example.com")
    with enforcer.task("pay", principal=Human("alice"), agent=clerk, scope=Scope("pay")):
        pass
    enforcer.close()
    assert exporter.get_finished_spans() == ()
    enforcer.close(flush=30)
    assert len(exporter.get_finished_spans()) == 1
    _endings.flush_spans(object(), 1)
    provider.shutdown()


def test_a_provider_that_hangs_or_fails_holds_up_no_end(caplog: pytest.LogCaptureFixture) -> None:
    """The wait is bounded, and the log says so without the words of the error."""
    go = threading.Event()
    begun = time.monotonic()
    with caplog.at_level(logging.WARNING):
        _endings.flush_spans(SimpleNamespace(force_flush=go.wait), 0.05)
        _endings.flush_spans(SimpleNamespace(force_flush=lambda: 1 / 0), 30)
    go.set()
    assert time.monotonic() - begun < 20
    assert [record.getMessage() for record in caplog.records] == [
        "the last spans were not exported within 0.05 s; the ledger has all",
        "the last spans were not exported: ZeroDivisionError; the ledger has all",
    ]


def test_the_end_of_a_celery_worker_closes_what_is_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One receiver for all enforcers, however many are opened; elsewhere nothing is connected."""
    connected: dict[str, Any] = {}

    def connect(receiver: Any, *, weak: bool, dispatch_uid: str) -> None:
        assert not weak
        connected[dispatch_uid] = receiver

    signals = ModuleType("celery.signals")
    signals.worker_process_shutdown = SimpleNamespace(connect=connect)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "celery.signals", signals)
    enforcers = [Enforcer.open(tmp_path / name) for name in ("a", "b")]
    assert len(connected) == 1
    connected["agent_identity"](pid=1, exitcode=0)
    assert ["ledger" in enforcer.degraded for enforcer in enforcers] == [True, True]


def test_one_that_cannot_be_closed_does_not_keep_the_others_open(caplog: pytest.LogCaptureFixture) -> None:
    """Each is closed, and the log names the failure."""
    closed: list[int] = []

    def fails() -> None:
        raise EvidenceError("the disk is full")

    _endings.each_in_order([fails, lambda: closed.append(1)])
    assert closed == [1]
    assert "not closed in order" in caplog.text
