"""Typed results of a scan, free of presentation."""

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

ItemKind: TypeAlias = Literal[
    "agent", "orchestrator", "tool", "model", "mcp_client", "mcp_server", "agent_card", "dependency", "environment"
]
Status: TypeAlias = Literal["declared", "configured", "installed"]
NameSource: TypeAlias = Literal["literal", "variable", "dynamic"]

KINDS: Final[tuple[ItemKind, ...]] = (
    "agent",
    "orchestrator",
    "tool",
    "model",
    "mcp_client",
    "mcp_server",
    "agent_card",
    "dependency",
    "environment",
)
"""All kinds, in the order of a report."""


@dataclass(frozen=True, slots=True)
class Item:
    """One declared, configured or installed part of an agent system.

    Attributes:
        kind: What it is.
        name: Its name; empty where it is dynamic and no variable names it.
        status: ``declared`` in code or a document, ``configured`` for a client, ``installed`` as a dependency.
        source: Framework, MCP client or package ecosystem.
        file: Path below the scanned path.
        line: First line of the declaration, 1 where the format has no lines.
        named_by: ``literal``; ``variable`` for the name of a variable; ``dynamic`` if only running code knows it.
        guarded: Guarded by this library in the scanned code; an agent is as its tools are; ``None`` where a scan cannot
            tell.
        place: Address or command of an MCP end, without secrets; version of a dependency.
        transport: ``stdio``, ``http``, ``sse`` or empty.
        environment: Names of environment variables that an MCP configuration sets.
        headers: Names of HTTP headers that an MCP configuration sets.
        enabled: False for a configured server that is switched off.
        technique: Evidence technique of CycloneDX.
    """

    kind: ItemKind
    name: str
    status: Status
    source: str
    file: str
    line: int = 1
    named_by: NameSource = "literal"
    guarded: bool | None = None
    place: str = ""
    transport: str = ""
    environment: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()
    enabled: bool = True
    technique: str = "manifest-analysis"


@dataclass(frozen=True, slots=True)
class Edge:
    """A declared relation between two agents, or an agent and what it uses.

    Attributes:
        kind: ``hand-off`` to another agent, ``uses`` of a tool.
        start: Name of the agent; empty if dynamic.
        end: Name of the other agent or the tool; empty if dynamic.
        file: Path below the scanned path.
        line: Line of the declaration.
    """

    kind: Literal["hand-off", "uses"]
    start: str
    end: str
    file: str
    line: int


@dataclass(frozen=True, slots=True)
class Unread:
    """A file or folder that was not read.

    Attributes:
        file: Path below the scanned path.
        reason: Short slug, such as ``too_large`` or ``not_python``.
    """

    file: str
    reason: str


@dataclass(frozen=True, slots=True)
class Scan:
    """The findings of a scan and its limits.

    Attributes:
        items: All parts, sorted.
        edges: Hand-offs and uses, sorted.
        files_read: Number of files that were read and understood.
        files_other: Number of files of other types, which a scan does not open.
        typescript_files: Number of JavaScript and TypeScript sources among them, which are not analyzed.
        unread: What could not be read, with reasons.
        truncated: Whether a limit on files or findings ended the scan early.
        instrumented: Whether the code guards a whole framework, so that only a run shows which tools are guarded.
    """

    items: tuple[Item, ...]
    edges: tuple[Edge, ...]
    files_read: int
    files_other: int
    typescript_files: int
    unread: tuple[Unread, ...]
    truncated: bool = False
    instrumented: bool = False
