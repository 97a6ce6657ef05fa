"""tenuo: a warrant with a constraint on the argument, proof of possession for each call."""

from comparing import AUTHORITY, GIVEN, REFUSED, Peer, bare_tool, compare
from tenuo import Capability, Pattern, Range, SigningKey, configure, mint_sync
from tenuo.langchain import guard_tools

configure(issuer_key=SigningKey.generate(), dev_mode=True, audit_log=False)
(tool,) = guard_tools([bare_tool()])
with mint_sync(Capability("get_invoice", customer_id=Pattern("C-*"), limit=Range(1, 100)), ttl=3600):
    compare(
        Peer(
            package="tenuo",
            does=AUTHORITY,
            call=lambda: tool.invoke(GIVEN),
            refused=lambda: tool.invoke(REFUSED),
        )
    )
