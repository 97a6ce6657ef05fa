"""Declarations of tools, and prompts that lower the mark, under the capability of Pydantic AI."""

from collections.abc import Callable, Sequence
from typing import Any

from declared_tools import Bank, Call, DeclaredPrompts
from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage, ModelRequest, ModelResponse, TextPart, ToolCallPart, UserPromptPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

from agent_identity.integrations.frameworks.pydantic_ai import AgentIdentity


class TestDeclaredTools(DeclaredPrompts):
    """The capability with declarations."""

    async def run(
        self, bank: Bank, tools: Sequence[Callable[..., Any]], script: Sequence[Call], **options: Any
    ) -> None:
        await self.ask(bank, tools, script, "go", model=None, **options)

    async def ask(
        self,
        bank: Bank,
        tools: Sequence[Callable[..., Any]],
        script: Sequence[Call],
        *said: str,
        model: str | None = "chat",
        **options: Any,
    ) -> None:
        def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
            made = sum(isinstance(message, ModelResponse) for message in messages)
            if made == len(script):
                return ModelResponse(parts=[TextPart("done")])
            name, arguments = script[made]
            return ModelResponse(parts=[ToolCallPart(name, dict(arguments))])

        guard = AgentIdentity(bank.enforcer, model=model, **options)
        agent = Agent(FunctionModel(answer), tools=list(tools), capabilities=[guard], instructions="Pay invoices.")
        history = [ModelRequest(parts=[UserPromptPart(text)]) for text in said[:-1]]
        await agent.run(said[-1], message_history=history)
