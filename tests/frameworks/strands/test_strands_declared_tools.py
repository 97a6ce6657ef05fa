"""Declarations of tools, and prompts that lower the mark, under the hooks of Strands."""

from collections.abc import Callable, Sequence
from typing import Any

from declared_tools import Bank, Call, DeclaredPrompts
from strands import tool
from strands_doubles import made, use

from agent_identity.integrations.frameworks.strands import AgentIdentityHooks


class TestDeclaredTools(DeclaredPrompts):
    """The hooks with declarations."""

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
        hooks = AgentIdentityHooks(bank.enforcer, model=model, **options)
        calls = [use(name, f"c{number}", **given) for number, (name, given) in enumerate(script)]
        history: list[Any] = [{"role": "user", "content": [{"text": text}]} for text in said[:-1]]
        agent = made(hooks, [tool(function) for function in tools], *calls, messages=history, system_prompt="Pay.")
        await agent.invoke_async(said[-1])
