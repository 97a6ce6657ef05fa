"""Labels of tools of servers (point 13 of the examination): unknown unless stated; hints only make them stricter."""

from typing import Any

import pytest
from mcp import types
from mcp_parties import ALICE, CLERK, NAME, Pair, in_memory, low_level

from agent_identity import Effect, Rule, RuleSet, Scope
from agent_identity.errors import Denied
from agent_identity.integrations.mcp.client import protect_session
from agent_identity.integrations.mcp.servers import McpServer

RULES = (
    Rule(Effect.BLOCK, id="restricted", when={"data.labels": {"contains": ["restricted"]}}),
    Rule(Effect.BLOCK, id="destructive", when={"tool.labels": {"contains": ["destructive"]}}),
)
HINTS: dict[str, dict[str, Any] | None] = {
    "plain": None,
    "praised": {"readOnlyHint": True, "destructiveHint": False, "agent_identity": {"labels": [], "data": []}},
    "warned": {"readOnlyHint": True, "destructiveHint": True},
    "open": {"openWorldHint": True},
}
NAMES = tuple(HINTS)


def server(hints: dict[str, dict[str, Any] | None]) -> Any:
    """Return a server whose tools have these annotations."""
    tools = [
        types.Tool.model_validate({"name": name, "description": "Act.", "inputSchema": {"type": "object"}} | given)
        for name, of in hints.items()
        for given in [{} if of is None else {"annotations": of}]
    ]
    return low_level(lambda: tools, lambda *_: "done")


async def codes(pair: Pair, folder: str, policy: RuleSet) -> dict[str, str]:
    """Return how each tool of the server ends under a policy of the client."""
    enforcer, found = pair.open(folder, policy=policy), dict[str, str]()
    scope = Scope(f"{NAME}/{NAMES[0]}")
    for name in NAMES[1:]:
        scope = scope | Scope(f"{NAME}/{name}")
    async with in_memory(server(HINTS), lambda of: protect_session(of, enforcer, McpServer(NAME))) as session:
        with enforcer.task("books", principal=ALICE, agent=CLERK, scope=scope):
            for name in NAMES:
                try:
                    await session.call_tool(name, {})
                    found[name] = "ran"
                except Denied as denied:
                    found[name] = denied.code
    return found


async def test_tools_of_a_server_are_blocked_until_the_policy_states_their_labels(pair: Pair) -> None:
    """Without an entry every tool is blocked, whatever the server says of it."""
    assert await codes(pair, "unknown", RuleSet(*RULES)) == dict.fromkeys(NAMES, "rule_error")


async def test_annotations_of_a_server_make_decisions_stricter_and_nothing_else(pair: Pair) -> None:
    """With an entry the hints that warn count, those that praise do not, and members of its own make nothing known."""
    stated = RuleSet(*RULES, tools={f"{NAME}/*": {"labels": [], "data": []}})
    assert await codes(pair, "stated", stated) == {
        "plain": "ran",
        "praised": "ran",
        "warned": "policy_blocks",
        "open": "ran",
    }
    allowing = Rule(Effect.ALLOW, when={"tool.labels": {"contains": ["destructive"]}})
    closed = RuleSet(allowing, default=Effect.BLOCK, tools={f"{NAME}/*": {"labels": []}})
    assert await codes(pair, "closed", closed) == dict.fromkeys(NAMES, "no_rule_allows")


async def test_a_rule_for_a_tool_that_a_listed_server_does_not_have_is_told(
    pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    """Once a server has listed its tools, a rule that misspells one of them is found."""
    rules = (Rule(Effect.BLOCK, id="typo", tools=[f"{NAME}/plainz", "elsewhere/x"]), *RULES)
    await codes(pair, "typo", RuleSet(*rules, tools={"*": {"labels": [], "data": []}}))
    told = [record.getMessage() for record in caplog.records if "nobody has guarded" in record.getMessage()]
    assert len(told) == 1
    assert told[0].endswith(f"yet: {NAME}/plainz")
