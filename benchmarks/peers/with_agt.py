"""Microsoft's toolkit: ``govern`` on the function, with two rules, as the body of a LangChain tool."""

from agentmesh.governance import govern
from comparing import AUTHORITY, GIVEN, REFUSED, Peer, compare, get_invoice
from langchain_core.tools import tool

POLICY = """
apiVersion: governance.toolkit/v1
name: invoices
default_action: deny
rules:
  - name: customer
    condition: "customer_id.value in ['C-42']"
    action: allow
  - name: limit
    condition: "limit.value > 49"
    action: deny
"""

governed = govern(get_invoice, policy=POLICY)


@tool("get_invoice")
def governed_tool(customer_id: str, limit: int = 10) -> str:
    """Return the invoices of a customer."""
    found: str = governed(customer_id=customer_id, limit=limit)
    return found


compare(
    Peer(
        package="agent-governance-toolkit-core",
        does=AUTHORITY,
        call=lambda: governed_tool.invoke(GIVEN),
        refused=lambda: governed_tool.invoke(REFUSED),
    )
)
