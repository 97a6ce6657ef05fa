"""The picture of authority: from the principal through the agents to the tools, with what was lost at each hop."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final, Literal, final

from agent_identity._reports.pages._markup import WIDE, Markup, element, fitted

MAX_NODES: Final = 30
"""Nodes of a picture; the others are folded, with their number."""

_WIDTH, _GAP, _LINE, _ROW = 222, 44, 15, 10
_COLUMNS: Final = 28
_TOOLS: Final = 5
_MAX_DEPTH: Final = 16


@final
@dataclass(slots=True)
class TreeNode:
    """A principal, an agent or a tool, and what is below it.

    Attributes:
        kind: What it is; ``refused`` stands for refused calls of tools, and ``more`` for folded nodes.
        name: Its name.
        lines: Lines about it.
        losses: Lines about what was lost on the way to it.
        children: The nodes below it.
    """

    kind: Literal["principal", "agent", "tool", "refused", "more"]
    name: str
    lines: Sequence[str] = ()
    losses: Sequence[str] = ()
    children: "list[TreeNode]" = field(default_factory=list["TreeNode"])

    @property
    def height(self) -> int:
        """The height of its box."""
        return 12 + _LINE * (1 + len(self.lines) + len(self.losses))


def tools_node(calls: Mapping[str, str]) -> list[TreeNode]:
    """Return one node for the tools that an agent called, or none.

    Args:
        calls: The tools, most important first, each with what is said of its calls.
    """
    if not calls:
        return []
    if len(calls) == 1:
        return [TreeNode("tool", tool, f"calls: {words}".split(", ")) for tool, words in calls.items()]
    lines = [f"{fitted(tool, _COLUMNS - len(words) - 2)}: {words}" for tool, words in islice(calls.items(), _TOOLS)]
    if len(calls) > _TOOLS:
        lines.append(f"and {len(calls) - _TOOLS:,} more, in the table")
    return [TreeNode("tool", f"{len(calls):,} tools, and calls of each", lines)]


def refused_node(calls: Mapping[str, str]) -> list[TreeNode]:
    """Return one node for the tools whose calls were refused, or none.

    Args:
        calls: The tools, most important first, each with what is said of its refused calls.
    """
    if not calls:
        return []
    if len(calls) == 1:
        return [TreeNode("refused", tool, [words]) for tool, words in calls.items()]
    lines = [f"{fitted(tool, _COLUMNS - len(words) - 2)}: {words}" for tool, words in islice(calls.items(), _TOOLS)]
    if len(calls) > _TOOLS:
        lines.append(f"and {len(calls) - _TOOLS:,} more, in the table")
    return [TreeNode("refused", f"tried: {len(calls):,} tools", lines)]


def tree_picture(roots: Sequence[TreeNode], *, id_: str, title: str) -> Markup:
    """Return the picture of trees, or nothing if there are none.

    Args:
        roots: The roots.
        id_: The id of the picture in its page.
        title: Its name for those who do not see it.
    """
    if not roots:
        return Markup()
    kept = _bounded(roots)
    parts: list[Markup] = []
    bottom, deepest = 4, 0
    for root in kept:
        boxes, height, depth = _placed(root, 0, bottom)
        parts += boxes
        bottom += height + _ROW
        deepest = max(deepest, depth)
    width = (deepest + 1) * (_WIDTH + _GAP) - _GAP + 8
    return element(
        "svg",
        element("title", title, id=f"{id_}-title"),
        *parts,
        role="img",
        class_="wide" if width > WIDE else None,
        aria_labelledby=f"{id_}-title",
        width=width,
        height=bottom,
        viewBox=f"-4 0 {width} {bottom}",
    )


def _bounded(roots: Sequence[TreeNode]) -> list[TreeNode]:
    """Return copies of trees with at most so many nodes, level by level, and the others folded where they were."""
    room = MAX_NODES
    copies = [TreeNode(root.kind, root.name, root.lines, root.losses) for root in roots[:room]]
    room -= len(copies)
    level = [*zip(roots, copies, strict=False)]
    for depth in range(_MAX_DEPTH + 1):
        shares = _shares([len(origin.children) for origin, _ in level], room if depth < _MAX_DEPTH else 0)
        below: list[tuple[TreeNode, TreeNode]] = []
        for (origin, copy), share in zip(level, shares, strict=True):
            kept = origin.children[:share]
            copy.children = [TreeNode(one.kind, one.name, one.lines, one.losses) for one in kept]
            below += zip(kept, copy.children, strict=True)
            _fold(copy, origin.children[share:])
        room -= len(below)
        level = below
    if len(roots) > len(copies):
        copies.append(TreeNode("more", f"{len(roots) - len(copies):,} more, in the table"))
    return copies


def _shares(wanted: Sequence[int], room: int) -> Sequence[int]:
    """Return how many children each node keeps; the room is shared evenly."""
    shares = [0] * len(wanted)
    while room > 0:
        short = [number for number, share in enumerate(shares) if share < wanted[number]]
        if not short:
            break
        for number in short[:room]:
            shares[number] += 1
        room -= len(short)
    return shares


def _fold(copy: TreeNode, folded: Sequence[TreeNode]) -> None:
    if folded:
        copy.children.append(TreeNode("more", f"{len(folded):,} more, in the table"))


def _placed(node: TreeNode, depth: int, top: int) -> tuple[list[Markup], int, int]:
    """Return the elements of a tree, the height that it takes, and the depth of its deepest node."""
    x = depth * (_WIDTH + _GAP)
    parts = [*_box(node, x, top)]
    y, deepest = top, depth
    for child in node.children:
        inner, height, depth_of_child = _placed(child, depth + 1, y)
        parts.append(_edge(x + _WIDTH, top + node.height // 2, x + _WIDTH + _GAP, y + child.height // 2, child.kind))
        parts += inner
        y += height + _ROW
        deepest = max(deepest, depth_of_child)
    return parts, max(node.height, y - top - _ROW), deepest


def _edge(x1: int, y1: int, x2: int, y2: int, kind: str) -> Markup:
    middle = (x1 + x2) // 2
    path = f"M{x1} {y1} C{middle} {y1} {middle} {y2} {x2 - 6} {y2} m-5 -4 l6 4 l-6 4"
    return element("path", d=path, class_="edge no" if kind == "refused" else "edge")


_CLASSES: Final = {"principal": "principal", "agent": "box", "tool": "tool", "refused": "denied", "more": "edge"}


def _box(node: TreeNode, x: int, y: int) -> Iterator[Markup]:
    shape = element(
        "rect",
        x=x,
        y=y,
        width=_WIDTH,
        height=node.height,
        rx=12 if node.kind in ("tool", "refused") else 4,
        class_=_CLASSES[node.kind],
    )
    lines = [(node.name, "b" if node.kind != "more" else "m")]
    lines += [*((line, "m") for line in node.lines), *((line, "m") for line in node.losses)]
    texts = [
        element("text", fitted(line, _COLUMNS), x=x + 10, y=y + 17 + _LINE * number, class_=css)
        for number, (line, css) in enumerate(lines)
    ]
    words = ": ".join([f"{node.kind} {node.name}", "; ".join([*node.lines, *node.losses])]).rstrip(": ")
    yield element("g", element("title", words), shape, *texts)
