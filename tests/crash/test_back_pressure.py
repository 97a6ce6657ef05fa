"""The thread that seals falls behind: callers wait before their bodies run, and nothing is dropped."""

import threading
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider

from agent_identity import Agent, Enforcer, Human, Scope, Verifier
from agent_identity._ledger import sealer as sealing
from agent_identity.options import Telemetry


class Slow(SpanProcessor):
    """Takes no span until it is let."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.ended: list[str] = []

    def on_end(self, span: ReadableSpan) -> None:
        """Wait, then keep the id of the record on the span."""
        assert self.gate.wait(60)
        self.ended.append(str(span.attributes["agent_identity.record.id"]))


def test_a_caller_waits_before_its_body_while_too_many_records_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bound on waiting records bounds the bodies that run ahead; once there is room, every call has its span."""
    monkeypatch.setattr(sealing, "MAX_QUEUED", 8)
    slow, provider, waiting = Slow(), TracerProvider(), threading.Event()
    provider.add_span_processor(slow)
    ran: list[int] = []
    with Enforcer.open(tmp_path, telemetry=Telemetry(tracer_provider=provider)) as enforcer:
        tool = enforcer.tool(name="tool")(ran.append)
        hurry = enforcer._enforcement.ledger.sealing._hurry

        def hurried(*given: object) -> bool:
            waiting.set()
            return hurry(*given)

        monkeypatch.setattr(enforcer._enforcement.ledger.sealing, "_hurry", hurried)
        agent = Agent("invoice-clerk", owner="finance@example.com")

        def act() -> None:
            with enforcer.task("act", principal=Human("alice@example.com"), agent=agent, scope=Scope("tool")):
                for number in range(40):
                    tool(number)

        thread = threading.Thread(target=act)
        thread.start()
        assert waiting.wait(60)
        assert len(ran) <= 8
        slow.gate.set()
        thread.join(60)
        assert not thread.is_alive()
    assert ran == list(range(40))
    report = Verifier().ledger(tmp_path)
    assert (report.verdict, report.kinds["intent"], report.kinds["outcome"]) == ("verified", 40, 40)
    assert len(slow.ended) == len(set(slow.ended)) == 41
