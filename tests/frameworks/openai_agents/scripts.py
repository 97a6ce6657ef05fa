"""Agents with scripted models, and the facts of their runs, for the tests of the OpenAI Agents SDK."""

from collections.abc import Iterable
from typing import Any

from agents import Agent, FunctionTool, Runner, RunResult, function_tool
from agents.testing import ScriptedModel, assistant_message, function_call

import agent_identity as ai
from agent_identity import Verifier
from agent_identity.constraints import Range
from agent_identity.testing import Rehearsal

ALICE, BOB = ai.Human("alice@example.com"), ai.Human("bob@example.com")
CLERK = ai.Agent("invoice-clerk", owner="finance-ops@example.com")
RESEARCHER = ai.Agent("researcher", owner="finance-ops@example.com")
WHO = {"principal": ALICE, "agent": CLERK}
SCOPE = ai.Scope(
    {
        "read_invoice": {"invoice_id": "INV-42"},
        "pay_invoice": {"invoice_id": "INV-42", "amount": Range(max=500)},
        **dict.fromkeys(("fails", "look_up", "ask_researcher", "chat")),
    }
)


class Ran(list[str]):
    """What the bodies of tools did."""

    def tools(self) -> list[Any]:
        """Return tools that tell here what they do."""

        @function_tool
        def read_invoice(invoice_id: str) -> str:
            self.append(f"read {invoice_id}")
            return f"{invoice_id}: EUR 120"

        @function_tool
        def pay_invoice(invoice_id: str, amount: int, currency: str = "EUR") -> str:
            self.append(f"paid {amount} {currency}")
            return f"paid {amount} {currency}"

        @function_tool
        async def fails(why: str) -> str:
            self.append("failed")
            raise ValueError(why)

        @function_tool
        def look_up(question: str) -> str:
            self.append(f"looked up {question}")
            return f"about {question}: nothing"

        return [read_invoice, pay_invoice, fails, look_up]


def call(name: str, call_id: str = "call-1", /, **arguments: object) -> Any:
    """Return a call of a tool, as a model makes it."""
    return function_call(name, arguments, call_id=call_id)


def raw(name: str, text: str, call_id: str = "call-1") -> Any:
    """Return a call of a tool with arguments that are any text."""
    made = function_call(name, {}, call_id=call_id)
    return made.model_copy(update={"arguments": text})


def script(*turns: Iterable[Any]) -> ScriptedModel:
    """Return a model that makes calls, turn by turn, and says that it is done."""
    return ScriptedModel([*map(list, turns), [assistant_message("done")]])


def agent_of(tools: list[Any], *turns: Iterable[Any], name: str = "invoice-clerk", **options: Any) -> Agent[Any]:
    """Return an agent whose model follows a script."""
    return Agent(name=name, tools=tools, model=script(*turns), **options)


def outputs(result: Any) -> list[Any]:
    """Return what the model got from tools, in order."""
    return [item.output for item in result.new_items if item.type == "tool_call_output_item"]


async def run(world: Rehearsal, agent: Any, *, scope: ai.Scope = SCOPE, **options: Any) -> RunResult:
    """Run an agent in a task of alice."""
    with world.enforcer.task("invoices", scope=scope, **WHO):
        return await Runner.run(agent, "INV-42", **options)


def facts(world: Rehearsal) -> list[tuple[str, str, str]]:
    """Return name, outcome and code of each call that ended."""
    return [(one.tool, one.outcome, one.code) for one in world.records.calls()]


def bare(tool: FunctionTool) -> object:
    """Return what the SDK calls of a tool."""
    return tool.on_invoke_tool


def verifies(rehearsal: Rehearsal) -> None:
    """Close an enforcer, and assert that all of its evidence verifies."""
    rehearsal.close()
    report = Verifier().ledger(rehearsal.directory)
    assert (report.verdict, report.findings) == ("verified", ()), report
