"""A small company in one evidence directory, for the tests of answers: what happened there is known exactly."""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, cast

from agent_identity import Agent, Effect, Enforcer, Human, Rule, RuleSet, Scope, Service
from agent_identity._ledger.reader import open_ledger
from agent_identity._record.codec import decode
from agent_identity._record.parts import replaced
from agent_identity.approvals import Approval
from agent_identity.constraints import Range
from agent_identity.errors import Denied
from agent_identity.options import Sources, Telemetry
from agent_identity.policy import Touch
from agent_identity.records import Intent, Outcome
from agent_identity.testing import FixedClock, SequentialIds

ALICE = Human("alice@example.com", issuer="https://login.example.com")
JOB = Service("nightly")
CLERK = Agent("clerk", owner="finance@example.com", version="2")
HELPER = Agent("helper", owner="it@example.com")
INVOICES = "postgres://db.example.com:5432"
BOB = Human("bob@example.com")
POLICY = RuleSet(Rule(Effect.WARN, tools="read", id="seen"), name="house", version="3")
ROUTED = RuleSet(Rule(Effect.ROUTE, tools="pay", to="desk", id="four-eyes"))
DESK = {"desk": Approval(ask=lambda request: request.approve(by=BOB))}
SCOPE = Scope({"read": None, "pay": {"amount": Range(max=100)}, "delete": None})
DAY = 86_400
START = 1_764_000_000


def tools_of(enforcer: Enforcer) -> Mapping[str, Any]:
    """Return the guarded tools."""

    def read(number: str) -> str:
        return number

    def pay(amount: int) -> int:
        return amount

    def delete(number: str) -> str:
        return number

    touches: Mapping[str, Touch | None] = {
        "read": Touch(INVOICES, "shop.invoices/{number}", "read", data=["personal"]),
        "pay": Touch("https://bank.example.com", "payments", "send"),
        "delete": None,
    }
    bodies: Sequence[Callable[..., object]] = (read, pay, delete)
    return {body.__name__: enforcer.tool(touches=touches[body.__name__])(body) for body in bodies}


def work(directory: Path, *, tasks: int = 1, days: float = 0, start: int = START, **options: Any) -> FixedClock:
    """Let the company work, and return the clock.

    In each task, on behalf of Alice, the clerk reads two invoices (and is warned), and hands paying over to the helper,
    who pays once and is refused once for too much. The clerk never pays and never deletes. Afterwards the nightly job
    has the clerk read once, and one call outside any task is refused.

    Args:
        directory: The evidence directory.
        tasks: How many tasks of Alice there are.
        days: Days between two tasks.
        start: When it begins, in seconds; two directories need two times, since ids follow from them.
        options: Further options of the enforcer.
    """
    clock = FixedClock(start * 10**9)
    given = {"policy": POLICY, "telemetry": Telemetry(sealing="inline"), **options}
    with Enforcer.open(directory, sources=Sources(clock=clock, ids=SequentialIds()), **given) as enforcer:
        tools = tools_of(enforcer)
        for number in range(tasks):
            with enforcer.task("invoices", principal=ALICE, agent=CLERK, scope=SCOPE):
                tools["read"](f"INV-{number}")
                clock.advance(0.5)
                tools["read"](f"INV-{number}-b")
                with enforcer.delegate(HELPER, scope=Scope("pay", amount=Range(max=50))):
                    tools["pay"](amount=20)
                    with suppress(Denied):
                        tools["pay"](amount=70)
            clock.advance(days * DAY)
        with enforcer.task("night", principal=JOB, agent=CLERK, scope=Scope("read")):
            tools["read"]("INV-9")
        with suppress(Denied):
            tools["delete"]("INV-9")
    return clock


def forged(directory: Path, target: Path, *, agent: Agent | None = None, tool: str | None = None) -> Path:
    """Write evidence of somebody else, whose calls claim the grants of a directory, and return it.

    Args:
        directory: The evidence whose calls are copied.
        target: The directory of the other.
        agent: Who acted in the copies; by default who acted.
        tool: Their tool; by default that of the call.
    """
    ledger = open_ledger(directory)
    lines = (line.record for stream in ledger.streams() for line in ledger.entries(stream))
    records = [decode(line) for line in lines if line is not None]
    with Enforcer.open(target, telemetry=Telemetry(sealing="inline")) as enforcer:
        intent = ""
        for record in records:
            if not isinstance(record, Intent | Outcome) or record.task is None:
                continue
            more: dict[str, Any] = {}
            if agent is not None:
                more["agent"] = replaced(cast("Any", record.agent), id=agent.id, owner=agent.owner)
            if tool is not None:
                more["action"] = replaced(record.action, tool=tool)
            if isinstance(record, Outcome) and record.intent is not None:
                more["intent"] = intent
            stated = {name: getattr(record, name) for name in record.__struct_fields__}
            kept = {name: stated[name] for name in stated.keys() - {"id", "stream", "v"}}
            written = enforcer._enforcement.ledger.append(partial(type(record), **{**kept, **more}))
            intent = decode(written.data).id
    return target


def span(
    attributes: Mapping[str, object], *, name: str = "span", number: int = 1, kind: int = 1, start: int = 1_764_000_000
) -> dict[str, object]:
    """Return a span of another library as OTLP/JSON has it."""
    return {
        "traceId": f"{number:032x}",
        "spanId": f"{number:016x}",
        "name": name,
        "kind": kind,
        "startTimeUnixNano": str(start * 10**9),
        "endTimeUnixNano": str((start + 1) * 10**9),
        "attributes": [{"key": key, "value": _value(value)} for key, value in attributes.items()],
    }


def _value(value: object) -> dict[str, object]:
    return {"intValue": str(value)} if type(value) is int else {"stringValue": value}


def traces(path: Path, spans: Sequence[Mapping[str, object]], *, service: str = "shop", scope: str = "other") -> Path:
    """Write spans of one service into a file, and return it."""
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": service}}]}
    document = {"resourceSpans": [{"resource": resource, "scopeSpans": [{"scope": {"name": scope}, "spans": spans}]}]}
    path.write_text(json.dumps(document) + "\n", encoding="utf-8")
    return path
