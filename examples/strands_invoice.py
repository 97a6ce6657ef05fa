"""An invoice clerk in Strands Agents, with a scripted model: one payment goes out, one is refused, evidence remains.

Run: python examples/strands_invoice.py [DIRECTORY]
"""

import json
import subprocess
import sys
from collections.abc import AsyncGenerator
from typing import Any

from strands import Agent, tool
from strands.models import Model

import agent_identity as ai
from agent_identity.constraints import Range
from agent_identity.integrations.frameworks.strands import AgentIdentityHooks


class Scripted(Model):
    """Stands in for a model, so that the example runs without one."""

    def __init__(self, *script: str | tuple[str, dict[str, object]]) -> None:
        self._script = list(script)

    def update_config(self, **model_config: object) -> None:
        """Change nothing."""

    def get_config(self) -> dict[str, object]:
        """Return no configuration."""
        return {}

    def structured_output(self, *args: object, **kwargs: object) -> Any:
        """Refuse: nobody asks for it here."""
        raise NotImplementedError

    async def stream(self, *args: object, **kwargs: object) -> AsyncGenerator[Any, None]:
        """Yield the next step of the script."""
        step = self._script.pop(0)
        start: dict[str, object] = {}
        if isinstance(step, str):
            delta: dict[str, object] = {"text": step}
        else:
            start = {"toolUse": {"name": step[0], "toolUseId": f"call-{len(self._script)}"}}
            delta = {"toolUse": {"input": json.dumps(step[1])}}
        yield {"messageStart": {"role": "assistant"}}
        yield {"contentBlockStart": {"start": start}}
        yield {"contentBlockDelta": {"delta": delta}}
        yield {"contentBlockStop": {}}
        yield {"messageStop": {"stopReason": "tool_use" if start else "end_turn"}}


@tool
def read_invoice(invoice_id: str) -> str:
    """Read an invoice."""
    return f"{invoice_id}: EUR 120 to Acme"


@tool
def pay_invoice(invoice_id: str, amount: int) -> str:
    """Pay an invoice."""
    return f"paid EUR {amount} for {invoice_id}"


@tool
def look_up(company: str) -> str:
    """Look up a company."""
    return f"{company} has existed since 1969"


def main(directory: str) -> None:
    """Run the story, then verify the evidence and show it."""
    alice = ai.Human("alice@example.com")
    clerk = ai.Agent("invoice-clerk", owner="finance-ops@example.com")
    researcher = ai.Agent("researcher", owner="finance-ops@example.com")
    scope = ai.Scope(
        {
            "read_invoice": {"invoice_id": "INV-42"},
            "pay_invoice": {"invoice_id": "INV-42", "amount": Range(min=0, max=500)},
            "ask_researcher": None,
            "look_up": None,
        }
    )
    with ai.Enforcer.open(directory) as enforcer:
        hooks = AgentIdentityHooks(enforcer, agents={"researcher": researcher})
        helper = Agent(
            name="researcher",
            model=Scripted(("look_up", {"company": "Acme"}), "Acme is well known."),
            tools=[look_up],
            hooks=[hooks],
            callback_handler=None,
        )
        agent = Agent(
            name="invoice-clerk",
            model=Scripted(
                ("read_invoice", {"invoice_id": "INV-42"}),
                ("ask_researcher", {"input": "Is Acme well known?"}),
                ("pay_invoice", {"invoice_id": "INV-42", "amount": 120}),
                ("pay_invoice", {"invoice_id": "INV-42", "amount": 9000}),
                "I paid EUR 120; EUR 9000 was refused.",
            ),
            tools=[read_invoice, pay_invoice, helper.as_tool(name="ask_researcher")],
            hooks=[hooks],
            callback_handler=None,
        )
        with enforcer.task("pay INV-42", principal=alice, agent=clerk, scope=scope):
            print(agent("Pay INV-42"))
    for command in ("verify", "show"):
        subprocess.run([sys.executable, "-m", "agent_identity", command, directory], check=True)  # noqa: S603  Our own command.


if __name__ == "__main__":
    main(*sys.argv[1:] or ["evidence"])
