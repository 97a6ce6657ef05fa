"""Ours: a task with a grant, two argument constraints, a policy, the intent in the ledger, a signed span."""

from comparing import GIVEN, REFUSED, SIGNED, Counted, Peer, bare_tool, compare
from world import opened

from agent_identity.integrations.langchain.protection import protect

exporter = Counted()
with opened(exporter=exporter) as world:  # type: ignore[arg-type]
    tool = protect(bare_tool(), world.enforcer)
    compare(
        Peer(
            package="agent-identity-otel",
            does=SIGNED,
            call=lambda: tool.invoke(GIVEN),
            count=lambda: exporter.count,
            refused=lambda: tool.invoke(REFUSED),
            settle=world.settle,
        )
    )
