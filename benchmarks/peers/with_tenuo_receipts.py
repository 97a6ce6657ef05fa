"""tenuo with signed receipts, which its runtime collects."""

import tempfile
from pathlib import Path

from comparing import GIVEN, REFUSED, SIGNED, Peer, bare_tool, compare
from tenuo import HolderIdentity, Pattern, Range, Runtime, SigningKey, Warrant, configure
from tenuo.langchain import guard_tools

issuer = SigningKey.generate()
configure(issuer_key=issuer, dev_mode=True, audit_log=False)
with tempfile.TemporaryDirectory() as folder:
    identity = HolderIdentity.load_or_create(str(Path(folder) / "holder.key"))
runtime = Runtime(identity=identity, trusted_roots=[issuer.public_key], receipts="collect")
bounds = {"customer_id": Pattern("C-*"), "limit": Range(1, 100)}
warrant = Warrant.mint_builder().capability("get_invoice", bounds).holder(identity.public_key).ttl(3600).mint(issuer)
(tool,) = guard_tools([bare_tool()])
taken = 0


def take() -> None:
    """Take the receipts out of the runtime, as what uploads them does."""
    global taken  # noqa: PLW0603  A counter of this script.
    batch = runtime.peek_receipts()
    runtime.acknowledge_receipts(len(batch))
    taken += len(batch)


with runtime.session_scope(runtime.session_from_wire(warrant)):
    compare(
        Peer(
            package="tenuo",
            does=SIGNED,
            call=lambda: tool.invoke(GIVEN),
            count=lambda: taken,
            refused=lambda: tool.invoke(REFUSED),
            settle=take,
        )
    )
