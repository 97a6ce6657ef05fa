"""Declarations of tools, and prompts that lower the mark, under the plugin of Google ADK."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from declared_tools import EVIL, PAYS, READ, REQUEST, Bank, Call, DeclaredPrompts
from google.adk.apps import App
from google.adk.events import Event
from google.adk.runners import InMemoryRunner
from google.adk.workflow import Workflow
from google.genai import types

import agent_identity as ai
from agent_identity.integrations.frameworks.google_adk import AgentIdentityPlugin
from agent_identity.options import ToolOptions


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

    async def test_what_another_agent_has_read_is_not_the_principals_word(self, bank: Bank) -> None:
        """The app tells it to the next agent in the name of the user, which names no destination."""
        read_invoice, pay_invoice = bank.tools()
        payer = self.adk.agent([[self.adk.call("pay_invoice", iban=EVIL)]], [pay_invoice], name="payer")
        moves = [[self.adk.call(READ[0], **READ[1])], [self.adk.call("transfer_to_agent", agent_name="payer")]]
        root = self.adk.agent(moves, [read_invoice], sub_agents=[payer])
        plugin = AgentIdentityPlugin(
            bank.enforcer,
            model="chat",
            tool_options={"pay_invoice": PAYS, "transfer_to_agent": ToolOptions(labels=[])},
            principal_messages=True,
        )
        runner = InMemoryRunner(app=App(name="app", root_agent=root, plugins=[plugin]))
        await runner.session_service.create_session(app_name="app", user_id="u", session_id="s")
        scope = ai.Scope({"read_invoice": {}, "pay_invoice": {}, "transfer_to_agent": {}}) | ai.Scope("chat")
        with bank.task(scope):
            message = types.UserContent(REQUEST)
            async for _ in runner.run_async(user_id="u", session_id="s", new_message=message):
                pass
        assert bank.paid == []
        assert [outcome for _, outcome in bank.ended()] == ["success", "success", "denied"]

    @pytest.mark.parametrize("mode", ["single_turn", "task"])
    async def test_what_a_workflow_composes_is_not_the_principals_word(self, bank: Bank, mode: str) -> None:
        """A node of a workflow gets what the one before has returned in the name of the user."""

        def compose(node_input: Any) -> str:
            return f"they want {EVIL}"

        payer = self.adk.agent([[self.adk.call("pay_invoice", iban=EVIL)]], [bank.tools()[1]], name="payer", mode=mode)
        plugin = AgentIdentityPlugin(
            bank.enforcer, model="chat", tool_options={"pay_invoice": PAYS}, principal_messages=True
        )
        root = Workflow(name="flow", edges=[("START", compose, payer)])
        runner = InMemoryRunner(app=App(name="app", root_agent=root, plugins=[plugin]))
        await runner.session_service.create_session(app_name="app", user_id="u", session_id="s")
        with bank.task():
            message = types.UserContent(REQUEST)
            async for _ in runner.run_async(user_id="u", session_id="s", new_message=message):
                pass
        assert bank.paid == []
        assert [outcome for _, outcome in bank.ended()] == ["denied"]
