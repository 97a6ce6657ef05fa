"""Alice has an invoice paid by agents of Pydantic AI: one payment runs, one is refused, and a sub-agent looks it up.

Needs the extra ``pydantic-ai``, no model and no network: the models follow scripts. Leaves ``evidence`` in this folder.
"""

import asyncio
import subprocess
import sys

from pydantic_ai import Agent, RunContext
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

import agent_identity as ai
from agent_identity.constraints import Range
from agent_identity.integrations.frameworks.pydantic_ai import AgentIdentity


def scripted(*steps: ToolCallPart | str) -> FunctionModel:
    """Return a model that makes one call after the other, and then says something."""

    def answer(messages: list[ModelMessage], _: AgentInfo) -> ModelResponse:
        step = steps[sum(isinstance(message, ModelResponse) for message in messages)]
        return ModelResponse(parts=[TextPart(step) if isinstance(step, str) else step])

    return FunctionModel(answer)


def read_invoice(invoice_id: str) -> str:
    """Read an invoice."""
    return f"{invoice_id}: EUR 120, from Acme"


def pay_invoice(invoice_id: str, amount: float) -> str:
    """Pay an invoice."""
    return f"paid {amount:.2f} for {invoice_id}"


async def main() -> None:
    """Run the story, and show what each call got."""
    alice = ai.Human("alice@example.com")
    clerk = ai.Agent("invoice-clerk", owner="finance-ops@example.com")
    researcher = ai.Agent("researcher", owner="finance-ops@example.com")
    reading = ai.Scope("read_invoice", invoice_id="INV-42")
    scope = reading | ai.Scope("look_up") | ai.Scope("pay_invoice", invoice_id="INV-42", amount=Range(min=0, max=500))

    with ai.Enforcer.open("evidence") as enforcer:
        guard = AgentIdentity(enforcer, agents={"researcher": (researcher, reading)})
        lookup = Agent(
            scripted(ToolCallPart("read_invoice", {"invoice_id": "INV-42"}), "INV-42 is over EUR 120."),
            name="researcher",
            tools=[read_invoice],
            capabilities=[guard],
        )

        async def look_up(ctx: RunContext[None], question: str) -> str:
            """Ask the researcher."""
            return (await lookup.run(question, usage=ctx.usage)).output

        agent = Agent(
            scripted(
                ToolCallPart("look_up", {"question": "What is INV-42 over?"}),
                ToolCallPart("pay_invoice", {"invoice_id": "INV-42", "amount": 120}),
                ToolCallPart("pay_invoice", {"invoice_id": "INV-42", "amount": 9_000}),
                "Paid EUR 120; EUR 9,000 was refused.",
            ),
            name="invoice-clerk",
            tools=[look_up, pay_invoice],
            capabilities=[guard],
        )
        async with enforcer.task("pay INV-42", principal=alice, agent=clerk, scope=scope):
            result = await agent.run("Pay INV-42.")
    for message in result.all_messages():
        for part in message.parts:
            if part.part_kind == "tool-return":
                print(f"{part.tool_name}: {part.content}")
    print(result.output)


if __name__ == "__main__":
    asyncio.run(main())
    for command in ("verify", "show"):
        subprocess.run([sys.executable, "-m", "agent_identity", command, "evidence"], check=True)  # noqa: S603 - Our own command.
