"""Declarations of tools, and prompts that lower the mark, under ``protect`` of the OpenAI Agents SDK."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from agents import Agent, FunctionTool, Runner, WebSearchTool, function_tool
from agents.testing import ScriptedModel, assistant_message, function_call
from declared_tools import EVIL, PAYS, READ, READS, REQUEST, Bank, Call, DeclaredPrompts, pay

from agent_identity.errors import ConfigurationError
from agent_identity.integrations.frameworks.openai_agents import protect, protect_model
from agent_identity.options import ToolOptions


def model_of(script: Sequence[Call]) -> ScriptedModel:
    """Return a model that follows a script."""
    calls = [[function_call(name, dict(given), call_id=f"{name}-{n}")] for n, (name, given) in enumerate(script)]
    return ScriptedModel([*calls, [assistant_message("done")]])


def as_tools(functions: Sequence[Callable[..., Any]]) -> list[FunctionTool]:
    """Return functions as tools of the SDK."""
    return [function_tool(function) for function in functions]


class TestDeclaredTools(DeclaredPrompts):
    """``protect`` with declarations, and ``protect_model``."""

    async def run(
        self, bank: Bank, tools: Sequence[Callable[..., Any]], script: Sequence[Call], **options: Any
    ) -> None:
        agent = Agent(name="clerk", tools=[*as_tools(tools)], model=model_of(script))
        await Runner.run(protect(agent, bank.enforcer, **options), "go")

    async def ask(
        self, bank: Bank, tools: Sequence[Callable[..., Any]], script: Sequence[Call], *said: str, **options: Any
    ) -> None:
        principal = {name: options.pop(name) for name in ("principal_messages",) if name in options}
        model = protect_model(model_of(script), bank.enforcer, **principal)
        agent = Agent(name="clerk", instructions="Pay invoices.", tools=[*as_tools(tools)], model=model)
        messages: Any = [{"role": "user", "content": text} for text in said]
        await Runner.run(protect(agent, bank.enforcer, **options), messages)

    async def test_words_of_people_without_a_guarded_model_are_an_error(self, bank: Bank) -> None:
        """Only ``protect_model`` takes the option."""
        pytest.skip("the option belongs to the model")

    async def test_tools_of_the_provider_make_the_mark_untrusted(self, bank: Bank) -> None:
        """No guard sees the results of a provider's search, which are in the answer."""
        model = protect_model(model_of([pay(EVIL)]), bank.enforcer)
        agent = Agent(name="clerk", tools=[*as_tools(bank.tools()), WebSearchTool()], model=model)
        with bank.task():
            await Runner.run(protect(agent, bank.enforcer, tool_options={"pay_invoice": PAYS}), REQUEST)
        assert bank.paid == []
        assert bank.marks()[1:2] == [("prompt", "untrusted")]

    async def test_streams_and_hand_offs_keep_the_mark(self, bank: Bank) -> None:
        """The answer of a streamed model and that of a handoff are accounted for."""
        options = {"read_invoice": READS, "pay_invoice": PAYS}
        payer = Agent(
            name="payer",
            tools=[*as_tools(bank.tools())],
            model=protect_model(model_of([pay(EVIL)]), bank.enforcer),
        )
        script = [READ, ("transfer_to_payer", {})]
        model = protect_model(model_of(script), bank.enforcer)
        clerk = Agent(name="clerk", tools=[*as_tools(bank.tools())], handoffs=[payer], model=model)
        with bank.task():
            result = Runner.run_streamed(protect(clerk, bank.enforcer, tool_options=options), REQUEST)
            async for _ in result.stream_events():
                pass
        assert bank.paid == [EVIL]
        assert bank.marks() == [("request", "trusted")]

    def test_a_misspelled_argument_is_an_error_at_once(self, bank: Bank) -> None:
        """A destination that is no parameter would judge nothing; the agent can be protected by the right name."""
        agent = Agent(name="clerk", tools=[*as_tools(bank.tools())])
        kind = type(agent)
        wrong = ToolOptions(labels=["payment"], destination=["iban", "cc"])
        with pytest.raises(ConfigurationError, match="'cc'"):
            protect(agent, bank.enforcer, tool_options={"pay_invoice": wrong})
        assert type(agent) is kind
        protect(agent, bank.enforcer, tool_options={"pay_invoice": PAYS})
