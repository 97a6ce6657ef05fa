"""The trees of the picture of authority: for each principal the agents, what they called, and what was refused."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias, final

from agent_identity._reports.answers.incident_report import Authority, IncidentReport
from agent_identity._reports.pages._tree_picture import MAX_NODES, TreeNode, refused_node, tools_node
from agent_identity._verify.report.plurals import counted

_PRINCIPALS: Final = 4
"""Principals with a tree of their own, where the picture has no room for all; the others share one."""

_AGENTS: Final = 3
"""Agents below one party, likewise."""

_TOLD: Final = 3

_Key: TypeAlias = tuple[str, ...]


@final
@dataclass(slots=True)
class _Path:
    """One chain of agents for one principal, in all tasks."""

    grants: int = 0
    lost: set[str] = field(default_factory=set[str])
    narrowed: set[str] = field(default_factory=set[str])
    permitted: set[str] = field(default_factory=set[str])
    calls: Counter[str] = field(default_factory=Counter[str])
    refused: Counter[str] = field(default_factory=Counter[str])

    @property
    def weight(self) -> tuple[int, int]:
        """Its place: refused calls first, then calls."""
        return -self.refused.total(), -self.calls.total()

    def add_grant(self, one: Authority) -> None:
        """Add a grant."""
        self.grants += 1
        self.lost.update(one.lost)
        self.narrowed.update(one.narrowed)
        self.permitted.update(one.tools)

    def add(self, other: "_Path") -> None:
        """Add the same chain for another principal."""
        self.grants += other.grants
        self.lost |= other.lost
        self.narrowed |= other.narrowed
        self.permitted |= other.permitted
        self.calls.update(other.calls)
        self.refused.update(other.refused)

    def node(self, name: str) -> TreeNode:
        """Return the agent, with what it was refused and what it called below it."""
        lines = [counted(self.grants, "grant")] if self.grants else []
        unused = sorted(self.permitted - self.calls.keys())
        if unused:
            named = unused[0] if len(unused) == 1 else counted(len(unused), "tool")
            lines.append(f"not called: {named}")
        lines += [f"not passed on: {', '.join(sorted(self.lost))}"] if self.lost else []
        lines += [f"narrowed: {', '.join(sorted(self.narrowed))}"] if self.narrowed else []
        return TreeNode("agent", name, lines, (), self.leaves())

    def folded(self, name: str) -> TreeNode:
        """Return the agent as one box that says what it was refused and what it called."""
        refused = [f"{tool}: {count:,} refused" for tool, count in _ordered(self.refused)[:_TOLD]]
        calls = [f"{tool}: {count:,}" for tool, count in _ordered(self.calls)[:_TOLD]]
        left = max(0, len(self.refused) - _TOLD) + max(0, len(self.calls) - _TOLD)
        more = [f"and {left:,} more, in the table"] if left else []
        return TreeNode("refused" if refused else "agent", name, [*refused, *calls, *more])

    def leaves(self) -> list[TreeNode]:
        """Return what was refused and what was called."""
        refused = {tool: f"{count:,} refused" for tool, count in _ordered(self.refused)}
        return [*refused_node(refused), *tools_node({tool: f"{count:,}" for tool, count in _ordered(self.calls)})]


def _ordered(counts: Counter[str]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def authority_trees(found: IncidentReport) -> Sequence[TreeNode]:
    """Return a tree for each principal: those with refused calls first, then the busiest.

    Where there is no room for all, the first parties of each level are there by name, and the rest together.
    """
    paths = _paths(found)
    prefixes = {key[:length] for key in paths for length in range(1, len(key) + 1)}
    leaves = sum(bool(path.calls) + bool(path.refused) for path in paths.values())
    if len(prefixes) + leaves > MAX_NODES:
        return _grown(_merged(paths), folded=True)
    return _grown(paths, folded=False)


def _grown(paths: Mapping[_Key, _Path], *, folded: bool) -> Sequence[TreeNode]:
    totals: dict[str, _Path] = {}
    for key, path in paths.items():
        totals.setdefault(key[0], _Path()).add(path)
    order = sorted(totals, key=lambda name: (*totals[name].weight, name))
    roots = {
        name: TreeNode("principal", name or "outside any task", ("on behalf of",) if name else ()) for name in order
    }
    nodes: dict[_Key, TreeNode] = {(name,): root for name, root in roots.items()}
    for key in sorted(paths, key=lambda key: (len(key), *paths[key].weight, key)):
        if len(key) == 1:
            roots[key[0]].children += paths[key].leaves()
            continue
        node = nodes[key] = paths[key].folded(key[-1]) if folded else paths[key].node(key[-1])
        _parent(nodes, key).children.append(node)
    return list(roots.values())


def _parent(nodes: dict[_Key, TreeNode], key: _Key) -> TreeNode:
    """Return the node above another; an agent of which nothing is known but that it delegated has one as well."""
    above = key[:-1]
    if above not in nodes:
        nodes[above] = TreeNode("agent", above[-1])
        _parent(nodes, above).children.append(nodes[above])
    return nodes[above]


def _paths(found: IncidentReport) -> dict[_Key, _Path]:
    grants = {one.grant: one for one in found.authority}
    keys: dict[str, _Key] = {}
    paths: dict[_Key, _Path] = {}
    for one in found.authority:  # Ancestors come first.
        above = keys.get(one.parent or "", (one.principal,))
        if one.parent is not None and one.parent not in grants:
            above = (one.principal, "…")
        keys[one.grant] = (*above, one.agent)
        paths.setdefault(keys[one.grant], _Path()).add_grant(one)
    for used in found.paths:
        path = paths.setdefault((used.principal, *used.agents), _Path())
        path.calls.update(used.calls)
        path.refused.update(used.refused)
    return paths


def _merged(paths: Mapping[_Key, _Path]) -> Mapping[_Key, _Path]:
    """Return the paths in which, level by level, the parties with least to say are one."""
    depth = 0
    while any(len(key) > depth for key in paths):
        most = _AGENTS if depth else _PRINCIPALS
        totals: dict[_Key, dict[str, _Path]] = {}
        for key, path in paths.items():
            if len(key) > depth:
                totals.setdefault(key[:depth], {}).setdefault(key[depth], _Path()).add(path)
        names = {above: _named(below, most) for above, below in totals.items()}
        merged: dict[_Key, _Path] = {}
        for key, path in paths.items():
            there = len(key) > depth
            new = (*key[:depth], names[key[:depth]][key[depth]], *key[depth + 1 :]) if there else key
            merged.setdefault(new, _Path()).add(path)
        paths, depth = merged, depth + 1
    return paths


def _named(below: Mapping[str, _Path], most: int) -> Mapping[str, str]:
    """Return the name under which each party of a level is drawn."""
    order = sorted(below, key=lambda name: (*below[name].weight, name))
    if len(order) <= most + 1:
        return {name: name for name in order}
    rest = f"{len(order) - most:,} others"
    return {name: name if number < most else rest for number, name in enumerate(order)}
