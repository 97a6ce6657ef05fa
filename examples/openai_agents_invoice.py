"""Alice has an invoice paid by agents of the OpenAI Agents SDK; a scripted model stands in for a real one.

pip install '.[openai-agents]'
python examples/openai_agents_invoice.py
"""

import subprocess
import sys

from agents import Agent, Runner, function_tool, set_tracing_disabled
from agents.testing import ScriptedModel, assistant_message, function_call

import agent_identity as ai
from agent_identity.constraints import Range
from agent_identity.integrations.frameworks.openai_agents import protect

set_tracing_disabled(True)  # The SDK sends its own traces to its vendor otherwise.


@function_tool
def read_invoice(invoice_id: str) -> str:
    """Read an invoice."""
    return f"{invoice_id}: EUR 120, to ACME"


@function_tool
def pay_invoice(invoice_id: str, amount: int) -> str:
    """Pay an invoice."""
    return f"paid EUR {amount} for {invoice_id}"


def script(*turns: list[object], end: str) -> ScriptedModel:
    """Return a model that makes these calls, turn by turn, and then says something."""
    return ScriptedModel([*turns, [assistant_message(end)]])


def call(name: str, number: int, **arguments: object) -> object:
    """Return a call as a model makes it."""
    return function_call(name, arguments, call_id=f"call_{number}")


researcher = Agent(
    name="researcher",
    tools=[read_invoice],
    model=script([call("read_invoice", 1, invoice_id="INV-42")], end="INV-42 is EUR 120, to ACME."),
)
clerk = Agent(
    name="invoice-clerk",
    tools=[read_invoice, pay_invoice, researcher.as_tool("ask_researcher", "Look something up.")],
    model=script(
        [call("ask_researcher", 2, input="What is INV-42?")],
        [call("pay_invoice", 3, invoice_id="INV-42", amount=120)],
        [call("pay_invoice", 4, invoice_id="INV-42", amount=9000)],
        end="I paid EUR 120. I may not pay EUR 9,000.",
    ),
)

alice = ai.Human("alice@example.com")
owner = "finance-ops@example.com"
scope = ai.Scope(
    {
        "read_invoice": {"invoice_id": "INV-42"},
        "pay_invoice": {"invoice_id": "INV-42", "amount": Range(min=0, max=500)},
        "ask_researcher": None,
    }
)
narrow = ai.Scope("read_invoice", invoice_id="INV-42")

with ai.Enforcer.open("evidence") as enforcer:
    protect(clerk, enforcer, agents={"researcher": (ai.Agent("researcher", owner=owner), narrow)})
    with enforcer.task("pay INV-42", principal=alice, agent=ai.Agent("invoice-clerk", owner=owner), scope=scope):
        result = Runner.run_sync(clerk, "Please pay INV-42.")

for item in result.new_items:
    if item.type == "tool_call_output_item":
        print("-", str(item.output).partition(" (reference")[0])
print(result.final_output)
for command in ("verify", "show"):
    subprocess.run([sys.executable, "-m", "agent_identity", command, "evidence"], check=True)  # noqa: S603
