"""Alice has an invoice paid by agents of LlamaIndex: one payment runs, one is refused, and a sub-agent looks it up.

Needs the extra ``llama-index``, no model and no network: the models follow scripts. Leaves ``evidence`` in this folder.
"""

import asyncio
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from llama_index.core.agent.workflow import FunctionAgent, ToolCallResult
from llama_index.core.base.llms.types import ChatMessage, MessageRole, ToolCallBlock
from llama_index.core.llms.mock import MockFunctionCallingLLM

import agent_identity as ai
from agent_identity.constraints import Range
from agent_identity.integrations.frameworks.llama_index import protect


def scripted(*script: ToolCallBlock | str) -> MockFunctionCallingLLM:
    """Return a model that makes one call after the other, and then says something."""
    steps = list(script)

    def answer(_: Sequence[ChatMessage], **__: Any) -> ChatMessage:
        step = steps.pop(0)
        if isinstance(step, str):
            return ChatMessage(role=MessageRole.ASSISTANT, content=step)
        return ChatMessage(role=MessageRole.ASSISTANT, blocks=[step])

    return MockFunctionCallingLLM(response_generator=answer)


def calling(tool: str, **arguments: object) -> ToolCallBlock:
    """Return a call that a model makes."""
    return ToolCallBlock(tool_call_id=tool, tool_name=tool, tool_kwargs=arguments)


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
        agents = {"researcher": (researcher, reading)}
        lookup = FunctionAgent(
            tools=protect([read_invoice], enforcer, agents=agents, acting="researcher"),
            llm=scripted(calling("read_invoice", invoice_id="INV-42"), "INV-42 is over EUR 120."),
        )

        async def look_up(question: str) -> str:
            """Ask the researcher."""
            return str(await lookup.run(question))

        agent = FunctionAgent(
            tools=protect([look_up, pay_invoice], enforcer),
            llm=scripted(
                calling("look_up", question="What is INV-42 over?"),
                calling("pay_invoice", invoice_id="INV-42", amount=120),
                calling("pay_invoice", invoice_id="INV-42", amount=9_000),
                "Paid EUR 120; EUR 9,000 was refused.",
            ),
        )
        async with enforcer.task("pay INV-42", principal=alice, agent=clerk, scope=scope):
            run = agent.run("Pay INV-42.")
            async for event in run.stream_events():
                if isinstance(event, ToolCallResult):
                    print(f"{event.tool_name}: {event.tool_output.content}")
            print(await run)


if __name__ == "__main__":
    asyncio.run(main())
    for command in ("verify", "show"):
        subprocess.run([sys.executable, "-m", "agent_identity", command, "evidence"], check=True)  # noqa: S603 - Our own command.
