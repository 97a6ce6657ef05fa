"""Declarations of tools, and prompts that lower the mark, under the plugin of Google ADK."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from declared_tools import Bank, Call, DeclaredPrompts
from google.adk.apps import App
from google.adk.events import Event
from google.adk.runners import InMemoryRunner
from google.genai import types

from agent_identity.integrations.frameworks.google_adk import AgentIdentityPlugin


class TestDeclaredTools(DeclaredPrompts):
    """The plugin with declarations."""

    @pytest.fixture(autouse=True)
    def _helpers(self, adk: Any) -> None:
        self.adk = adk
        adk.open()

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
        calls = [[self.adk.call(name, **given)] for name, given in script]
        root = self.adk.agent(calls, tools, instruction="Pay invoices.")
        plugin = AgentIdentityPlugin(bank.enforcer, model=model, **options)
        runner = InMemoryRunner(app=App(name="app", root_agent=root, plugins=[plugin]))
        session = await runner.session_service.create_session(app_name="app", user_id="u", session_id="s")
        for text in said[:-1]:
            event = Event(author="user", content=types.UserContent(text))
            await runner.session_service.append_event(session, event)
        run = runner.run_async(user_id="u", session_id="s", new_message=types.UserContent(said[-1]))
        async for _ in run:
            pass
