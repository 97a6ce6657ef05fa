"""The quick start of the README, as printed there."""

from langchain_core.tools import tool

from agent_identity import Agent, Denied, Enforcer, Human, Scope
from agent_identity.integrations.langchain import protect


@tool
def read_invoice(invoice_id: str) -> str:
    """Read one invoice."""
    return f"{invoice_id}: EUR 120"


alice = Human("alice@example.com")
clerk = Agent("invoice-clerk", owner="finance-ops@example.com")

with Enforcer.open("evidence") as enforcer:       # creates keys, trust file and ledger on first use
    protect(read_invoice, enforcer)               # same object, guarded in place

    with enforcer.task("pay INV-42", principal=alice, agent=clerk, scope=Scope("read_invoice", invoice_id="INV-42")):
        print(read_invoice.invoke({"invoice_id": "INV-42"}))

    try:
        read_invoice.invoke({"invoice_id": "INV-42"})
    except Denied as denied:
        print(denied.code)                        # no_task: the task is over, and so is its grant
