"""The contenders. Each runs in a process of its own: ``python benchmarks/contenders.py NAME SECONDS [CORE]``.

What it prints is one line of JSON: numbers by name, in seconds or bytes.
"""

import asyncio
import contextlib
import contextvars
import hashlib
import json
import os
import resource
import sys
import time
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from itertools import count, cycle
from pathlib import Path
from threading import Event
from typing import Any

import orjson
import timing
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from world import (
    ALICE,
    ATTRIBUTES,
    CLERK,
    SCOPE,
    SOME,
    Nowhere,
    World,
    get_invoice,
    guarded,
    opened,
    policy,
    provided,
    some_texts,
)

from agent_identity import Enforcer, Verifier
from agent_identity._directory.open import open_directory
from agent_identity.identity import PublicKey, RandomIds, SigningKey, SystemClock
from agent_identity.options import Durability, Telemetry

Numbers = dict[str, float]
Contender = Callable[[float], Numbers]

CONTENDERS: dict[str, Contender] = {}
PACE = 50
"""Calls a second of those that are timed by the clock on the wall."""


def contender(name: str, **given: object) -> Callable[[Callable[..., Numbers]], Callable[..., Numbers]]:
    """Register a contender, which gets the seconds of a repetition, and what is given."""

    def register(function: Callable[..., Numbers]) -> Callable[..., Numbers]:
        CONTENDERS[name] = lambda seconds: function(seconds, **given)
        return function

    return register


# Functions and spans


@contender("function")
def bare_function(seconds: float) -> Numbers:
    """Measure the tool itself."""
    return timing.rates(lambda: get_invoice(SOME), seconds)


@contender("span")
def bare_span(seconds: float) -> Numbers:
    """Measure a stock span."""
    with provided() as provider:
        tracer = provider.get_tracer("bare")

        def call() -> None:
            with tracer.start_as_current_span("execute_tool get_invoice", attributes=ATTRIBUTES):
                pass

        return timing.rates(call, seconds, provider.force_flush)


@contender("guarded")
@contender("guarded-depth-16", depth=16)
@contender("guarded-rules-1000", others=999)
@contender("guarded-rules-1000-matching-100", others=899, matching=100)
def guarded_function(seconds: float, *, depth: int = 1, others: int = 0, matching: int = 0) -> Numbers:
    """Measure a guarded function."""
    with opened(depth=depth, rules=policy(others, matching)) as world:
        tool = guarded(world)
        return timing.rates(lambda: tool(SOME), seconds, world.settle)


# Information flow


@contender("turns-flow", size=1_000)
@contender("turns-flow-short", size=100)
@contender("turns-flow-long", size=10_000)
@contender("turns-flow-trusted", size=1_000, returns="trusted")
@contender("turns-flow-unknown", size=1_000, argument="customer-{}")
@contender("turns-flow-unknown-long", size=10_000, argument="customer-{}")
def flowing(seconds: float, *, size: int, returns: str = "unknown", argument: str = SOME) -> Numbers:
    """Measure a guarded function without and with information flow; each result is a new text."""
    texts, number = cycle(some_texts(size)), count()

    def read(customer_id: str, limit: int = 10) -> str:  # noqa: ARG001
        return next(texts)

    with opened(tool="read") as plain, opened(tool="read", flow=True) as marked:
        worlds = (plain, marked)
        tools = [world.enforcer.tool(read, labels=[], returns=returns) for world in worlds]
        calls = [lambda tool=tool: tool(argument.format(next(number))) for tool in tools]

        def settle() -> None:
            for world in worlds:
                world.settle()

        # A new task for each sample, because a mark keeps only its first 1,024 sources.
        found = timing.interleaved(*calls, 4 * seconds, off=plain.renew, on=marked.renew, settle=settle)
        return found | _paced(timing.paced(calls, 8 * seconds, PACE))


# LangChain


def langchain_tool(*, coroutine: bool = False) -> Any:  # noqa: ANN401  LangChain is imported by few contenders.
    """Return the tool as LangChain has it."""
    from langchain_core.tools import tool  # noqa: PLC0415

    if not coroutine:
        return tool(get_invoice)

    @tool("get_invoice")
    async def get_invoice_later(customer_id: str, limit: int = 10) -> str:
        """Return the invoices of a customer."""
        return f"{customer_id}: {limit}"

    return get_invoice_later


def unguarded() -> None:
    """Take the work out of the guard, so that what is left is the shell round it."""
    from agent_identity._guard.calls.arguments import capture  # noqa: PLC0415
    from agent_identity._guard.judging.guard import Guard  # noqa: PLC0415
    from agent_identity.adapters import Call, CallRequest  # noqa: PLC0415

    def judge(guard: Guard, request: CallRequest) -> Call:
        call = Call(guard.tool.name, request, None, 0)
        call.snapshot = capture(request.arguments, request.supplied or ())
        return call

    for name, substitute in (("judge", judge), ("succeed", lambda *_, **_options: None)):
        setattr(Guard, name, substitute)


@contender("invoke")
def bare_invoke(seconds: float) -> Numbers:
    """Measure LangChain alone."""
    tool, given = langchain_tool(), {"customer_id": SOME}
    return timing.rates(lambda: tool.invoke(given), seconds)


@contender("invoke-unannotated")
def unannotated_invoke(seconds: float) -> Numbers:
    """Measure LangChain alone, with a ``_run`` that has no annotations; nothing of ours."""
    from langchain_core.tools import StructuredTool  # noqa: PLC0415

    class Unannotated(StructuredTool):
        def _run(self, *args, **kwargs):  # type: ignore[no-untyped-def]  # noqa: ANN002, ANN003, ANN202
            return self.func(*args, **kwargs)  # type: ignore[misc]

    tool, given = Unannotated.from_function(get_invoice), {"customer_id": SOME}
    return timing.rates(lambda: tool.invoke(given), seconds)


@contender("invoke-span")
def spanned_invoke(seconds: float) -> Numbers:
    """Measure LangChain inside one stock span."""
    tool, given = langchain_tool(), {"customer_id": SOME}
    with provided() as provider:
        tracer = provider.get_tracer("bare")

        def call() -> None:
            with tracer.start_as_current_span("execute_tool get_invoice", attributes=ATTRIBUTES):
                tool.invoke(given)

        return timing.rates(call, seconds, provider.force_flush)


@contender("invoke-guarded", guard=True)
@contender("invoke-shell", guard=False)
def guarded_invoke(seconds: float, *, guard: bool) -> Numbers:
    """Measure a guarded LangChain tool, or only the shell in which the guard sits."""
    from agent_identity.integrations.langchain.protection import protect  # noqa: PLC0415

    if not guard:
        unguarded()
    with opened() as world:
        tool, given = protect(langchain_tool(), world.enforcer), {"customer_id": SOME}
        return timing.rates(lambda: tool.invoke(given), seconds, world.settle)


@contender("gather", guard=False)
@contender("gather-guarded", guard=True)
def gathered(seconds: float, *, guard: bool) -> Numbers:
    """Measure 100 calls at a time in one event loop."""
    from agent_identity.integrations.langchain.protection import protect  # noqa: PLC0415

    tool, given = langchain_tool(coroutine=True), {"customer_id": SOME}

    async def hundred() -> None:
        await asyncio.gather(*(tool.ainvoke(given) for _ in range(100)))

    with opened() as world, asyncio.Runner() as runner:
        if guard:
            protect(tool, world.enforcer)
        context = contextvars.copy_context()  # A loop's own context knows of no task.
        return timing.rates(lambda: runner.run(hundred(), context=context), seconds, world.settle)


def measured_later(call: Callable[[], Coroutine[Any, Any, object]], seconds: float, world: World) -> Numbers:
    """Measure a coroutine function in one event loop; everything that it does is in the thread of the loop."""

    async def some() -> None:
        for _ in range(10):
            await call()

    with asyncio.Runner() as runner:
        context = contextvars.copy_context()  # A loop's own context knows of no task.
        found = timing.rates(lambda: runner.run(some(), context=context), seconds, world.settle)
    return {kind: taken / 10 for kind, taken in found.items()}


Later = Callable[[], Coroutine[Any, Any, object]]


def shielded(tool: Any, world: World | None) -> Any:  # noqa: ANN401  As langchain_tool.
    """Return the tool, protected if there is a world for it."""
    from agent_identity.integrations.langchain.protection import protect  # noqa: PLC0415

    return tool if world is None else protect(tool, world.enforcer)


def tool_of(tool: Any, world: World | None) -> Later:  # noqa: ANN401  As above.
    """Return what calls a tool."""
    given = {"customer_id": SOME}
    return partial(shielded(tool, world).ainvoke, given)


def node_of(tool: Any, world: World | None) -> Later:  # noqa: ANN401  As above.
    """Return what runs a graph of one ToolNode that gets one tool call."""
    from langchain_core.messages import AIMessage  # noqa: PLC0415
    from langgraph.graph import MessagesState, StateGraph  # noqa: PLC0415
    from langgraph.prebuilt import ToolNode  # noqa: PLC0415

    call = {"name": "get_invoice", "args": {"customer_id": SOME}, "id": "call_1", "type": "tool_call"}
    building = StateGraph(MessagesState)
    building.add_node("tools", ToolNode([shielded(tool, world)]))
    building.add_edge("__start__", "tools")
    graph: Any = building.compile()
    return partial(graph.ainvoke, {"messages": [AIMessage("", tool_calls=[call])]})


def agent_of(tool: Any, world: World | None) -> Later:  # noqa: ANN401  As above.
    """Return what runs an agent whose scripted model calls the tool five times."""
    from langchain.agents import create_agent  # noqa: PLC0415
    from scripted import Scripted  # noqa: PLC0415

    agent: Any = create_agent(Scripted(calls=5), [shielded(tool, world)])
    return partial(agent.ainvoke, {"messages": [("user", "go")]})


@contender("turns-invoke")
def invoked(seconds: float) -> Numbers:
    """Measure a bare tool and a protected one in turns, never pausing, and then with a pause before each call."""
    with opened() as world:
        given = {"customer_id": SOME}
        bare, tool = (partial(shielded(langchain_tool(), shield).invoke, given) for shield in (None, world))
        found = timing.interleaved(bare, tool, 2 * seconds, settle=world.settle)
        return found | _paced(timing.paced((bare, tool), 8 * seconds, PACE))


@contender("turns-function")
def functions(seconds: float) -> Numbers:
    """Measure a bare function, one in a stock span, and a guarded one, in turns with a pause before each call."""
    with opened() as world, provided() as provider:
        tool, tracer = guarded(world), provider.get_tracer("bare")

        def traced() -> None:
            with tracer.start_as_current_span("execute_tool get_invoice", attributes=ATTRIBUTES):
                get_invoice(SOME)

        calls = (partial(get_invoice, SOME), traced, partial(tool, SOME))
        return dict(zip(("bare", "span", "guarded"), timing.paced(calls, 12 * seconds, PACE), strict=True))


@contender("turns-ainvoke", made=tool_of)
@contender("turns-node", made=node_of)
@contender("turns-agent", made=agent_of, calls=5)
def invoked_later(seconds: float, *, made: Callable[[Any, World | None], Later], calls: int = 1) -> Numbers:
    """Measure the same of what an event loop runs."""
    with opened() as world, asyncio.Runner() as runner:
        context = contextvars.copy_context()  # A loop's own context knows of no task.
        bare, tool = (made(langchain_tool(coroutine=True), shield) for shield in (None, world))

        def several(call: Later) -> Callable[[], object]:
            async def some() -> None:
                for _ in range(10 // calls):
                    await call()

            return lambda: runner.run(some(), context=context)

        found = timing.interleaved(several(bare), several(tool), 4 * seconds, settle=world.settle)
        return found | _paced(runner.run(timing.paced_later((bare, tool), 8 * seconds, PACE / calls), context=context))


def _paced(found: Sequence[float]) -> Numbers:
    return dict(zip(("paced_bare", "paced"), found, strict=True))


@contender("turns-opentelemetry")
def instrumented(seconds: float) -> Numbers:
    """Measure a bare tool without and with the instrumentation of OpenTelemetry in turns."""
    from opentelemetry.instrumentation.genai.langchain import LangChainInstrumentor  # noqa: PLC0415

    call, theirs = partial(langchain_tool().invoke, {"customer_id": SOME}), LangChainInstrumentor()
    with provided() as provider:
        theirs.instrument(tracer_provider=provider)
        on = partial(theirs.instrument, tracer_provider=provider)
        return timing.interleaved(call, call, 2 * seconds, off=theirs.uninstrument, on=on, settle=provider.force_flush)


# Large arguments


def nested_argument() -> object:
    """Return 100 kB of orders, as an agent hands them to a tool."""
    orders = [
        {
            "id": f"ORD-{n:06d}",
            "customer": {"id": f"C-{n % 97}", "name": "Müller & Söhne" if n % 10 == 0 else "Miller and Sons"},
            "lines": [{"sku": f"SKU-{n}-{k}", "count": k, "price": 19.99 + k, "gift": k == 1} for k in range(3)],
            "note": None,
            "tags": ["priority", "export"],
            "total": 129.5 * n,
        }
        for n in range(400)
    ]
    return orders[: 400 * 100_000 // len(json.dumps(orders))]


TEXT = "The quick brown fox jumps over the lazy dog. " * 2223
LARGE: dict[str, Callable[[], object]] = {"nested": nested_argument, "text": lambda: TEXT[:100_000]}


@contender("dumps-nested", shape="nested")
@contender("dumps-text", shape="text")
def dumped(seconds: float, *, shape: str) -> Numbers:
    """Measure json.dumps of the argument."""
    value = LARGE[shape]()
    return timing.rates(lambda: json.dumps(value), seconds)


@contender("argument-small", shape=None)
@contender("argument-nested", shape="nested")
@contender("argument-text", shape="text")
def guarded_argument(seconds: float, *, shape: str | None) -> Numbers:
    """Measure a guarded function of one argument."""
    value = 1 if shape is None else LARGE[shape]()

    with opened(tool="store") as world:

        @world.enforcer.tool
        def store(value: object) -> None:
            """Take the value."""

        return timing.rates(lambda: store(value), seconds, world.settle)


# Tasks and keys


@contender("sign")
def sign(seconds: float) -> Numbers:
    """Measure an Ed25519 signature over 600 bytes."""
    key, message = SigningKey.generate(), os.urandom(600)
    return timing.rates(lambda: key.sign(message), seconds)


@contender("verify")
def verify(seconds: float) -> Numbers:
    """Measure the verification of one."""
    key, message = SigningKey.generate(), os.urandom(600)
    public, signature = key.public_key, key.sign(message)
    return timing.rates(lambda: public.verify(signature, message), seconds)


@contender("task")
def task(seconds: float) -> Numbers:
    """Measure opening and ending a task."""
    with opened() as world:

        def call() -> None:
            with world.enforcer.task("pay", principal=ALICE, agent=CLERK, scope=SCOPE):
                pass

        return timing.rates(call, seconds, world.settle)


# Verification


@contender("verify-ledger")
def verify_ledger(seconds: float) -> Numbers:
    """Measure verifying a ledger, and reading its lines in the simplest way; per record."""
    with opened() as world:
        tool = guarded(world)
        for _ in range(4_000):
            tool(SOME)
        world.close()
        lines = [line for path in world.directory.glob("ledger/*/entries.jsonl") for line in path.open("rb")]

        def simplest() -> None:
            for line in lines:
                orjson.loads(line)
                hashlib.sha256(line).digest()

        def whole() -> None:
            if Verifier(world.directory / "trust.json").ledger(world.directory).exit_code:
                raise SystemExit("the ledger does not verify")

        return {"each": _each(whole, len(lines), seconds / 2), "simplest": _each(simplest, len(lines), seconds / 2)}


@contender("verify-spans")
def verify_spans(seconds: float) -> Numbers:
    """Measure verifying spans by their signatures, from a file of OTLP/JSON lines; per span."""
    kept = Kept()
    with opened(exporter=kept) as world:
        tool = guarded(world)
        for _ in range(1_000):
            tool(SOME)
            world.provider.force_flush()
        world.close()
        file = world.directory / "spans.jsonl"
        file.write_bytes(b"".join(map(_otlp_line, kept.spans)))

        def whole() -> None:
            if Verifier(world.directory / "trust.json").traces(file).exit_code:
                raise SystemExit("the spans do not verify")

        return {"each": _each(whole, len(kept.spans), seconds)}


class Kept(Nowhere):
    """Keeps spans."""

    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Keep the spans."""
        self.spans += spans
        return SpanExportResult.SUCCESS


def _otlp_line(span: ReadableSpan) -> bytes:
    """Return one span as a line of OTLP/JSON, as the file exporter of a collector writes it."""
    context, scope = span.get_span_context(), span.instrumentation_scope
    found = {
        "traceId": f"{context.trace_id:032x}" if context else "",
        "spanId": f"{context.span_id:016x}" if context else "",
        "name": span.name,
        "startTimeUnixNano": str(span.start_time),
        "endTimeUnixNano": str(span.end_time),
        "attributes": [{"key": key, "value": _otlp_value(value)} for key, value in (span.attributes or {}).items()],
    }
    scoped = {"scope": {"name": scope.name if scope else ""}, "spans": [found]}
    return orjson.dumps({"resourceSpans": [{"resource": {}, "scopeSpans": [scoped]}]}) + b"\n"


def _otlp_value(value: object) -> object:
    if isinstance(value, str):
        return {"stringValue": value}
    return {"arrayValue": {"values": [{"stringValue": item} for item in value]}}  # type: ignore[attr-defined]


def _each(call: Callable[[], object], count: int, seconds: float) -> float:
    """Return the CPU time that the fastest of some runs took for each of its things."""
    best, ends = float("inf"), time.perf_counter() + seconds
    while best == float("inf") or time.perf_counter() < ends:
        began = _cpu()
        call()
        best = min(best, _cpu() - began)
    return best / count


def _cpu() -> float:
    """Return the CPU time of this process and its children."""
    used = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


# Memory


@contender("memory-task")
def memory_of_tasks(_: float) -> Numbers:
    """Measure what an open task holds."""
    count = 3_000
    with opened() as world, contextlib.ExitStack() as stack:
        open_one = partial(world.enforcer.task, "pay", principal=ALICE, agent=CLERK, scope=SCOPE)
        for _ in range(200):
            stack.enter_context(open_one())
        before = timing.resident()
        for _ in range(count):
            stack.enter_context(open_one())
        world.settle()
        return {"each": (timing.resident() - before) / count}


@contender("memory-record")
def memory_of_records(_: float) -> Numbers:
    """Measure what a record holds while it waits for its signature."""
    count = 3_000
    with opened() as world:
        gate = Gate(SigningKey.load(world.directory / "keys" / "recorder.pem"))
        found = open_directory(world.directory, clock=SystemClock(), ids=RandomIds(), durability=Durability())
        enforcer = Enforcer(
            keys=(found.issuer, gate),
            trust=found.trust,
            ledger=found.ledger,
            digests=found.digests,
            policy=policy(),
            telemetry=Telemetry(tracer_provider=world.provider),
        )
        tool = enforcer.tool(get_invoice)
        with enforcer.task("pay", principal=ALICE, agent=CLERK, scope=SCOPE):
            tool(SOME)
            time.sleep(1)  # Longer than records wait, so that the thread is at the gate.
            before = timing.resident()
            for _ in range(count):
                tool(SOME)
            each = (timing.resident() - before) / (2 * count)
            gate.open.set()
        enforcer.close()
        return {"each": each}


class Gate:
    """A signer that does not sign until told."""

    def __init__(self, key: SigningKey) -> None:
        self._key = key
        self.open = Event()

    @property
    def public_key(self) -> PublicKey:
        """The key of the signer behind."""
        return self._key.public_key

    def sign(self, message: bytes) -> bytes:
        """Sign once the gate is open."""
        self.open.wait()
        return self._key.sign(message)


# What a caller waits

BURST = 4_000
"""Calls of a burst: some seconds of the busiest agents, and half of what may wait for signatures."""


@contender("latency-paced", pace=200.0)
@contender("latency-burst", pace=None)
def latency(seconds: float, *, pace: float | None) -> Numbers:
    """Measure single guarded calls by the clock on the wall."""
    with opened() as world:
        tool = guarded(world)
        burst = 0 if pace else BURST
        return timing.latencies(lambda: tool(SOME), 4 * seconds, pace=pace, burst=burst, settle=world.settle)


@contender("latency-paced-span", pace=200.0)
@contender("latency-burst-span", pace=None)
def latency_of_span(seconds: float, *, pace: float | None) -> Numbers:
    """Measure single stock spans by the clock on the wall."""
    with provided() as provider:
        tracer = provider.get_tracer("bare")

        def call() -> None:
            with tracer.start_as_current_span("execute_tool get_invoice", attributes=ATTRIBUTES):
                get_invoice(SOME)

        burst = 0 if pace else BURST
        return timing.latencies(call, 4 * seconds, pace=pace, burst=burst, settle=provider.force_flush)


@contender("saturation")
def saturation(seconds: float) -> Numbers:
    """Count the records that are lost when calls come faster than they can be signed."""
    with opened() as world:
        tool, calls = guarded(world), 0
        ends = time.perf_counter() + 2 * seconds
        while time.perf_counter() < ends:
            tool(SOME)
            calls += 1
        world.close()
        kinds = [
            orjson.loads(line)["record"]["kind"]
            for path in Path(world.directory).glob("ledger/*/entries.jsonl")
            for line in path.open("rb")
        ]
        return {"lost": 2 * calls - kinds.count("intent") - kinds.count("outcome")}


def main(name: str, seconds: str, core: str = "") -> None:
    """Run one repetition and print what it measured."""
    if core and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {int(core)})
    print(json.dumps(CONTENDERS[name](float(seconds))))


if __name__ == "__main__":
    main(*sys.argv[1:])
