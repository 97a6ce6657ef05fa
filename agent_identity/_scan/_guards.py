"""Says which declared parts this library guards, from all that a scan saw."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import Final

from agent_identity._scan.results import Edge, Item

__all__ = ["with_guards"]

_AGENTS: Final = ("agent", "orchestrator")
_GUARDABLE: Final = (*_AGENTS, "tool", "mcp_server")

_Agent = tuple[str, str]


def with_guards(
    items: Iterable[Item],
    edges: Collection[Edge],
    guarded: Collection[tuple[str, int]],
    *,
    instrumented: Collection[str],
) -> list[Item]:
    """Return the items with what is known of their guards; names that stand for several parts count as the worst.

    Args:
        items: What was found. ``guarded`` is true where a decorator says so, false where nothing does.
        edges: Which agent uses which tool.
        guarded: Files and lines of what the code puts under guard.
        instrumented: Frameworks that the code guards as a whole.
    """
    marked = [
        replace(one, guarded=True) if (one.file, one.line) in guarded and one.kind in _GUARDABLE else one
        for one in items
    ]
    covered = {(one.file, one.name) for one in marked if one.kind in _AGENTS and one.guarded}
    users: defaultdict[str, set[_Agent]] = defaultdict(set)
    tools: defaultdict[_Agent, set[str]] = defaultdict(set)
    for edge in edges:
        if edge.kind == "uses":
            users[edge.end].add((edge.file, edge.start))
            tools[edge.file, edge.start].add(edge.end)
    judged = [_tool(one, users, covered, instrumented=instrumented) for one in marked]
    states: defaultdict[str, set[bool | None]] = defaultdict(set)
    for one in judged:
        if one.kind == "tool":
            states[one.name].add(one.guarded)
    return [_agent(one, tools, states) for one in judged]


def _tool(
    item: Item, users: Mapping[str, Collection[_Agent]], covered: Collection[_Agent], *, instrumented: Collection[str]
) -> Item:
    """Return a tool as guarded if every agent that uses it is; a tool or server as unknown under instrumentation."""
    if item.kind not in ("tool", "mcp_server") or item.guarded:
        return item
    using = users.get(item.name, ()) if item.kind == "tool" and item.name else ()
    if using and all(agent in covered for agent in using):
        return replace(item, guarded=True)
    return replace(item, guarded=None) if item.source in instrumented else item


def _agent(item: Item, tools: Mapping[_Agent, Collection[str]], states: Mapping[str, Collection[bool | None]]) -> Item:
    """Return an agent as guarded as its tools are; one whose tools are not known stays unknown."""
    if item.source == "agent_identity":  # It names who acts, and runs nothing.
        return replace(item, guarded=None) if item.kind in _AGENTS else item
    if item.kind not in _AGENTS or item.guarded:
        return item
    found = {state for name in tools.get((item.file, item.name), ()) for state in states.get(name, (None,))}
    return replace(item, guarded=None if not found else False if False in found else None if None in found else True)
