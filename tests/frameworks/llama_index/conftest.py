"""An office with scripted agents of LlamaIndex, and what its records say."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.base.llms.types import ChatMessage, MessageRole, ToolCallBlock
from llama_index.core.llms.mock import MockFunctionCallingLLM

import agent_identity as ai
from agent_identity import Verifier
from agent_identity.integrations.frameworks.llama_index import protect
from agent_identity.testing import Rehearse

Step = str | Sequence[tuple[str, dict[str, Any]]]


class Office:
    """One enforcer, the people and agents of the story, and what is on record."""

    alice, bob = ai.Human("alice@example.com"), ai.Human("bob@example.com")
    clerk = ai.Agent("invoice-clerk", owner="finance-ops@example.com")
    researcher = ai.Agent("researcher", owner="finance-ops@example.com")

    def __init__(self, rehearse: Rehearse, **options: Any) -> None:
        self.world = rehearse(**options)
        self.enforcer = self.world.enforcer
        self.ran: list[Any] = []
        self.said: list[list[ChatMessage]] = []

    def model(self, *script: Step) -> MockFunctionCallingLLM:
        """Return a model that follows a script."""
        steps = list(script)

        def answer(messages: Sequence[ChatMessage], **_: Any) -> ChatMessage:
            self.said.append(list(messages))
            step = steps.pop(0) if steps else "done"
            if isinstance(step, str):
                return ChatMessage(role=MessageRole.ASSISTANT, content=step)
            blocks: list[Any] = [
                ToolCallBlock(tool_call_id=f"c{number}", tool_name=name, tool_kwargs=arguments)
                for number, (name, arguments) in enumerate(step)
            ]
            return ChatMessage(role=MessageRole.ASSISTANT, blocks=blocks)

        return MockFunctionCallingLLM(response_generator=answer)

    def agent(self, *script: Step, tools: Any = None, guarded: bool = True, **options: Any) -> FunctionAgent:
        """Return an agent that follows a script, with two tools under guard."""
        given = [self.pay, self.read] if tools is None else tools
        extra = {name: options.pop(name) for name in ("agents", "acting", "server") if name in options}
        if guarded:
            given = protect(given, self.enforcer, **extra)
        return FunctionAgent(tools=given, llm=self.model(*script), **options)

    def pay(self, invoice: str, amount: int, currency: str = "EUR") -> str:
        """Pay an invoice."""
        self.ran.append(("pay", invoice, amount, currency))
        return f"paid {amount} {currency}"

    async def read(self, invoice: str) -> str:
        """Read an invoice."""
        self.ran.append(("read", invoice))
        return f"{invoice} is over 120 EUR"

    def task(self, scope: ai.Scope | None = None, **options: Any) -> Any:
        """Open a task of alice for the clerk."""
        given: dict[str, Any] = {"principal": self.alice, "agent": self.clerk, **options}
        return self.enforcer.task("pay invoices", scope=scope or ai.Scope({"pay": {}, "read": {}}), **given)

    def calls(self, tool: str | None = None) -> list[tuple[str, str, str]]:
        """Return tool, outcome and reason of each call."""
        return [(call.tool, call.outcome, call.code) for call in self.world.records.calls(tool)]

    def verify(self) -> None:
        """Close the enforcer, and prove that the evidence is genuine and complete."""
        self.world.close()
        report = Verifier().ledger(self.world.directory)
        assert (report.verdict, list(report.findings)) == ("verified", [])


@pytest.fixture
def open_office(rehearse: Rehearse) -> Iterator[Callable[..., Office]]:
    """Opens offices; at the end, the evidence of each one must verify."""
    opened: list[Office] = []

    def open_one(**options: Any) -> Office:
        opened.append(Office(rehearse, **options))
        return opened[-1]

    yield open_one
    for office in opened:
        office.verify()
