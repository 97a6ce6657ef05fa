"""What the contenders are made of: one tool, one task, one policy, spans that go nowhere."""

import contextlib
import random
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import ascii_lowercase

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from agent_identity import Agent, Effect, Enforcer, Human, Rule, RuleSet, Scope
from agent_identity.constraints import Prefix, Range
from agent_identity.options import Telemetry
from agent_identity.policy import All, Flow

ALICE = Human("alice@example.com", issuer="https://id.example.com")
CLERK = Agent("invoice-clerk", owner="finance-ops@example.com")
SCOPE = Scope("get_invoice", customer_id=Prefix("C-"), limit=Range(min=1, max=100))
LIMIT = Rule(Effect.BLOCK, tools="get_invoice", when={"args.limit": Range(min=50)}, id="limit", reason="too many")
SOME = "C-42"

ATTRIBUTES = {
    "gen_ai.operation.name": "execute_tool",
    "gen_ai.tool.name": "get_invoice",
    "gen_ai.tool.type": "function",
    "gen_ai.tool.call.id": "call_0123456789",
    "gen_ai.agent.name": "invoice-clerk",
    "user.id": "alice@example.com",
    "example.customer": SOME,
    "example.limit": 10,
}
"""Eight attributes, as many as a tracing library sets on the span of a tool."""


def get_invoice(customer_id: str, limit: int = 10) -> str:
    """Return the invoices of a customer."""
    return f"{customer_id}: {limit}"


class Nowhere(SpanExporter):
    """Takes spans and drops them."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:  # noqa: ARG002
        """Drop the spans."""
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        """End nothing."""


@contextlib.contextmanager
def provided(exporter: SpanExporter | None = None) -> Iterator[TracerProvider]:
    """Return a provider with a stock batch processor."""
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(exporter or Nowhere()))
    try:
        yield provider
    finally:
        provider.shutdown()


def policy(others: int = 0, matching: int = 0) -> RuleSet:
    """Return a policy with one rule for the tool, and more.

    Args:
        others: Further rules, for other tools.
        matching: Further rules for the tool, none of which applies to the call.
    """
    more = [Rule(Effect.BLOCK, tools=f"other_{n}", id=f"o{n}", reason="not this one") for n in range(others)]
    more += [
        Rule(Effect.BLOCK, tools="get_*", when={"args.limit": Range(min=50 + n)}, id=f"m{n}", reason="too many")
        for n in range(matching)
    ]
    return RuleSet(LIMIT, *more, name="invoices")


@dataclass(frozen=True)
class World:
    """An enforcer on an empty directory with an open task.

    Attributes:
        directory: The evidence directory.
        enforcer: The enforcer.
        provider: Where the spans go.
        renew: Ends the task and opens another.
        close: Ends the task, closes the enforcer and flushes the spans.
    """

    directory: Path
    enforcer: Enforcer
    provider: TracerProvider
    renew: Callable[[], None]
    close: Callable[[], None]

    def settle(self) -> None:
        """Wait until every record is signed and every span exported."""
        self.enforcer._enforcement.ledger.drain()  # noqa: SLF001  Users drain by ending a task, which costs more.
        self.provider.force_flush()


@contextlib.contextmanager
def opened(
    *,
    rules: RuleSet | None = None,
    depth: int = 1,
    exporter: SpanExporter | None = None,
    tool: str = "get_invoice",
    flow: bool = False,
) -> Iterator[World]:
    """Return a world inside a task.

    Args:
        rules: The policy.
        depth: Grants in the chain.
        exporter: Takes the spans.
        tool: The tool that the scope is for; another than ``get_invoice`` may have any arguments.
        flow: Enable information flow.
    """
    scope = SCOPE if tool == "get_invoice" else Scope(tool)
    with tempfile.TemporaryDirectory() as temporary, contextlib.ExitStack() as stack:
        folder = Path(temporary) / "evidence"
        provider = stack.enter_context(provided(exporter))
        judges = rules or policy()
        telemetry = Telemetry(tracer_provider=provider)
        enforcer = Enforcer.open(folder, policy=All(Flow(), judges) if flow else judges, telemetry=telemetry)
        stack.enter_context(enforcer)
        tasks = stack.enter_context(contextlib.ExitStack())

        def renew() -> None:
            tasks.close()
            request = "Tell me what customer C-42 owes"
            task = enforcer.task("pay", principal=ALICE, agent=CLERK, scope=scope, max_depth=32, request=request)
            tasks.enter_context(task)

        renew()
        for hop in range(1, depth):
            agent = Agent(f"helper-{hop}", owner="finance-ops@example.com")
            stack.enter_context(enforcer.delegate(agent, scope=scope))
        yield World(folder, enforcer, provider, renew, stack.close)


def some_texts(size: int) -> list[str]:
    """Return 400 texts of a length, whose words repeat as in natural language."""
    chosen = random.Random(0)  # noqa: S311  The same texts each time.
    words = ["".join(chosen.choices(ascii_lowercase, k=chosen.randint(2, 11))) for _ in range(6_000)]
    return [" ".join(chosen.choices(words, k=size // 6))[:size] for _ in range(400)]


def guarded(world: World) -> Callable[..., str]:
    """Return the tool under guard."""
    return world.enforcer.tool(get_invoice)
