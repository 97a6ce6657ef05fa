"""Declarations of tools, and prompts that lower the mark, under the middleware of Microsoft Agent Framework."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from agent_framework import Message, tool
from declared_tools import Bank, Call, DeclaredPrompts

from agent_identity.integrations.frameworks.agent_framework import AgentIdentityMiddleware


class TestDeclaredTools(DeclaredPrompts):
    """The middleware with declarations."""

    @pytest.fixture(autouse=True)
    def _helpers(self, maf: Any) -> None:
        self.maf = maf
        maf.open()

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
        guard = AgentIdentityMiddleware(bank.enforcer, model=model, **options)
        made = [tool(approval_mode="never_require")(function) for function in tools]
        calls = [[self.maf.call(name, **given)] for name, given in script]
        agent = self.maf.agent(calls, made, guard, bare=True, instructions="Pay invoices.")
        await self.maf.respond(agent, [Message("user", [text]) for text in said])
