"""The table of constructs that declare agents, tools, models and MCP ends (``constructs.json``)."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import cache
from typing import Final, TypedDict

from agent_identity._scan._tables import read_table

GENERIC_PACKAGES: Final = frozenset({"agents", "mcp", "autogen", "workflows"})
"""Names of packages that applications use for folders of their own as well."""


@dataclass(frozen=True, slots=True)
class Construct:
    """One row of the table: names of a framework that declare one kind of part.

    Attributes:
        kind: Kind of item, or ``tools`` for a call that only takes tools, ``guard``, ``instrument``.
        names: Last names, with their class where needed; patterns; a leading dot matches any receiver.
        framework: Name of the framework for people.
        use: How it declares: ``call``, ``decorator``, ``base`` class, or ``variable`` of a module.
        name: Arguments that hold the name, by keyword or position; ``func:`` and ``agent:`` name by a reference,
            ``func:result`` by the function that the result of the call is applied to, ``class`` by the constructor,
            ``key`` by the key of the surrounding dict.
        model: Arguments that hold the model.
        tools: Arguments that hold tools.
        edges: Arguments that hold other agents.
        servers: Arguments that hold a dict of MCP servers.
        mcp: Arguments that hold MCP servers.
        guards: Frameworks whose tools an ``instrument`` call guards, whoever uses them.
    """

    kind: str
    names: Sequence[str]
    framework: str = ""
    use: Sequence[str] = ("call",)
    name: Sequence[str | int] = ()
    model: Sequence[str | int] = ()
    tools: Sequence[str | int] = ()
    edges: Sequence[str | int] = ()
    servers: Sequence[str | int] = ()
    mcp: Sequence[str | int] = ()
    guards: Sequence[str] = ()


class _Framework(TypedDict):
    framework: str
    packages: list[str]
    constructs: list[Construct]


class _Constructs(TypedDict):
    frameworks: list[_Framework]


@cache
def _table() -> Mapping[str, Sequence[Construct]]:
    """Return the rows by package."""
    frameworks = read_table("constructs.json", _Constructs)["frameworks"]
    table: dict[str, list[Construct]] = {}
    for of in frameworks:
        rows = [replace(row, framework=of["framework"]) for row in of["constructs"]]
        for package in of["packages"]:
            table.setdefault(package, []).extend(rows)
    return table


def packages_of(path: str) -> tuple[str, ...]:
    """Return the packages of the table that a dotted path is in, the longest first, then families such as ``a_*``."""
    parts = path.split(".")
    names = (".".join(parts[:length]) for length in (2, 1) if len(parts) >= length)
    known = [name for name in names if name in _table()]
    return (*known, *(name for name in _families() if parts[0].startswith(name[:-1])))


@cache
def _families() -> Sequence[str]:
    return [name for name in _table() if name.endswith("*")]


def matching(path: str, use: str) -> Construct | None:
    """Return the row for a dotted path, exact names before patterns.

    Args:
        path: Resolved path, such as ``agents.Agent`` or ``mcp.server.fastmcp.FastMCP.tool``.
        use: One of the uses of a construct.
    """
    for package in packages_of(path):
        rest = path.partition(".")[2] if package.endswith("*") else path[len(package) + 1 :]
        row = _row(rest, [row for row in _table()[package] if use in row.use])
        if row is not None:
            return row
    return None


def _row(rest: str, rows: Sequence[Construct]) -> Construct | None:
    tails = _tails(rest)
    exact = (row for tail in tails for row in rows if tail in row.names)
    patterns = (row for row in rows if any(_fits(tails[-1], name) for name in row.names))
    return next(exact, None) or next(patterns, None)


def _fits(tail: str, name: str) -> bool:
    return "*" in name and ("." in name or "." not in tail) and fnmatchcase(tail, name)


def method_of(name: str, packages: Sequence[str], use: str) -> Construct | None:
    """Return the row for a method of any receiver, if the file imports its framework."""
    dotted = f".{name}"
    for package in packages:
        for row in _table().get(package, ()):
            if dotted in row.names and use in row.use:
                return row
    return None


def variables_of(packages: Sequence[str]) -> Iterator[tuple[str, Construct]]:
    """Yield the names of variables that describe a part where a file imports one of these packages."""
    rows = (row for package in packages for row in _table().get(package, ()) if "variable" in row.use)
    return ((name, row) for row in rows for name in row.names)


def _tails(path: str) -> list[str]:
    """Return the ends of a path that rows may name, the longest first.

    A class and what is called on it belong together: ``Agent.tool`` is not a ``tool`` of the package.
    """
    parts = path.split(".")
    start = next((number for number, part in enumerate(parts) if part[:1].isupper()), len(parts) - 1)
    tails = [".".join(parts[start:])]
    if start > 0:
        tails.insert(0, ".".join(parts[start - 1 :]))
    return tails
