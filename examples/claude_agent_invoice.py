"""Alice has an invoice paid by an agent of the Claude Agent SDK and its researcher; a real model decides what they do.

pip install '.[claude-agent]'
ANTHROPIC_API_KEY=… python examples/claude_agent_invoice.py
"""

import asyncio
import subprocess
import sys
from typing import Any

from claude_agent_sdk import AgentDefinition, ClaudeAgentOptions, ResultMessage, create_sdk_mcp_server, query, tool

import agent_identity as ai
from agent_identity.constraints import Range
from agent_identity.integrations.frameworks import claude_agent

PROMPT = "Have the researcher look at INV-42, then pay it. Then pay EUR 9,000 more for it."


@tool("read_invoice", "Read an invoice", {"invoice_id": str})
async def read_invoice(arguments: dict[str, Any]) -> dict[str, Any]:
    """Read an invoice."""
    return {"content": [{"type": "text", "text": f"{arguments['invoice_id']}: EUR 120, to ACME"}]}


@tool("pay_invoice", "Pay an invoice", {"invoice_id": str, "amount": int})
async def pay_invoice(arguments: dict[str, Any]) -> dict[str, Any]:
    """Pay an invoice."""
    return {"content": [{"type": "text", "text": f"paid EUR {arguments['amount']} for {arguments['invoice_id']}"}]}


async def work(hooks: claude_agent.ClaudeHooks) -> None:
    """Let the agent do what Alice asks."""
    tools = hooks.guard_tools("billing", [read_invoice, pay_invoice])
    options = ClaudeAgentOptions(
        hooks=hooks,
        mcp_servers={"billing": create_sdk_mcp_server("billing", tools=tools)},
        agents={
            "researcher": AgentDefinition(
                description="Looks invoices up.", prompt="Read the invoice.", tools=["mcp__billing__read_invoice"]
            )
        },
        permission_mode="bypassPermissions",
    )
    async for message in query(prompt=PROMPT, options=options):
        if isinstance(message, ResultMessage):
            print(message.result, flush=True)


alice = ai.Human("alice@example.com")
clerk = ai.Agent("invoice-clerk", owner="finance-ops@example.com")
researcher = ai.Agent("researcher", owner="finance-ops@example.com")
scope = ai.Scope(
    {
        "billing/read_invoice": {"invoice_id": "INV-42"},
        "billing/pay_invoice": {"invoice_id": "INV-42", "amount": Range(min=0, max=500)},
        "Agent": None,
    }
)
narrow = ai.Scope("billing/read_invoice", invoice_id="INV-42")

with (
    ai.Enforcer.open("evidence") as enforcer,
    enforcer.task("pay INV-42", principal=alice, agent=clerk, scope=scope),
    claude_agent.hooks(enforcer, agents={"researcher": (researcher, narrow)}) as hooks,
):
    asyncio.run(work(hooks))

for command in ("verify", "show"):
    subprocess.run([sys.executable, "-m", "agent_identity", command, "evidence"], check=True)  # noqa: S603
