"""An office with scripted agents of Pydantic AI, and what its records say."""

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any

import pytest
from pydantic_ai import Agent
from pydantic_ai.messages import (
    ModelMessage,
    ModelResponse,
    RetryPromptPart,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
)
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel

import agent_identity as ai
from agent_identity import Verifier
from agent_identity.integrations.frameworks.pydantic_ai import AgentIdentity
from agent_identity.testing import Rehearse

Step = str | Sequence[ToolCallPart]


def answer_of(script: Sequence[Step], messages: list[ModelMessage]) -> Step:
    """Return the next step of a script, by how often the model has answered."""
    said = sum(isinstance(message, ModelResponse) for message in messages)
    return script[said] if said < len(script) else "done"


def scripted(script: Sequence[Step], seen: list[list[ModelMessage]]) -> FunctionModel:
    """Return a model that follows a script, streamed or not, and keeps what it was sent."""

    def said(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        seen.append(list(messages))
        step = answer_of(script, messages)
        return ModelResponse(parts=[TextPart(step)] if isinstance(step, str) else list(step))

    async def streamed(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[Any]:
        seen.append(list(messages))
        step = answer_of(script, messages)
        if isinstance(step, str):
            for letter in step:
                yield letter
            return
        for number, part in enumerate(step):
            yield {number: DeltaToolCall(part.tool_name, part.args_as_json_str(), tool_call_id=part.tool_call_id)}

    return FunctionModel(said, stream_function=streamed)


class Office:
    """One enforcer, the people and agents of the story, and what is on record."""

    alice, bob = ai.Human("alice@example.com"), ai.Human("bob@example.com")
    clerk = ai.Agent("invoice-clerk", owner="finance-ops@example.com")
    researcher = ai.Agent("researcher", owner="finance-ops@example.com")

    def __init__(self, rehearse: Rehearse, **options: Any) -> None:
        self.world = rehearse(**options)
        self.enforcer = self.world.enforcer
        self.seen: list[list[ModelMessage]] = []
        self.ran: list[Any] = []

    def agent(self, *script: Step, guarded: bool = True, model: str | None = None, **options: Any) -> Agent[Any, Any]:
        """Return an agent that follows a script, under the capability, with two tools."""
        agents = options.pop("agents", None)
        capabilities = list(options.pop("capabilities", ()))
        if guarded:
            capabilities.append(AgentIdentity(self.enforcer, agents=agents, model=model))
        options.setdefault("tools", [self.pay, self.read])
        return Agent(scripted(script, self.seen), name="clerk", capabilities=capabilities, **options)

    def pay(self, invoice: str, amount: int, currency: str = "EUR") -> str:
        """Pay an invoice."""
        self.ran.append(("pay", invoice, amount, currency))
        return f"paid {amount} {currency}"

    def read(self, invoice: str) -> str:
        """Read an invoice."""
        self.ran.append(("read", invoice))
        return f"{invoice} is over 120 EUR"

    def task(self, scope: ai.Scope | None = None, **options: Any) -> Any:
        """Open a task of alice for the clerk."""
        given: dict[str, Any] = {"principal": self.alice, "agent": self.clerk, **options}
        return self.enforcer.task("pay invoices", scope=scope or ai.Scope("pay") | ai.Scope("read"), **given)

    def calls(self, tool: str | None = None) -> list[tuple[str, str, str]]:
        """Return tool, outcome and reason of each call."""
        return [(call.tool, call.outcome, call.code) for call in self.world.records.calls(tool)]

    def verify(self) -> None:
        """Close the enforcer, and prove that the evidence is genuine and complete."""
        self.world.close()
        report = Verifier().ledger(self.world.directory)
        assert (report.verdict, list(report.findings)) == ("verified", [])


def call(name: str, call_id: str | None = None, **arguments: Any) -> ToolCallPart:
    """Return a call that a model makes."""
    return ToolCallPart(name, arguments, **({} if call_id is None else {"tool_call_id": call_id}))


def answers(messages: Sequence[ModelMessage]) -> list[Any]:
    """Return what tools answered: their parts."""
    kinds = (ToolReturnPart, RetryPromptPart)
    return [part for message in messages for part in message.parts if isinstance(part, kinds)]


@pytest.fixture
def make_call() -> Callable[..., ToolCallPart]:
    """Makes calls of a model."""
    return call


@pytest.fixture
def answers_in() -> Callable[..., list[Any]]:
    """Finds the answers of tools."""
    return answers


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
