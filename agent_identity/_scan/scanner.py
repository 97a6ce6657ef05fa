"""Runs a scan: sorts files by what they may hold, reads each once, and gathers typed results with their guards."""

import os
from collections import OrderedDict, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from agent_identity._scan._code import CodeScan
from agent_identity._scan._configurations import (
    MOST,
    client_of,
    configured,
    dependencies,
    described,
    environment_names,
    is_description,
    is_environment_file,
    is_manifest,
    known_variable,
)
from agent_identity._scan._documents import Unreadable, member, parse_document, text_of
from agent_identity._scan._folders import read_bytes, walked
from agent_identity._scan._names import Module, Tree, parse
from agent_identity._scan.results import KINDS, Edge, Item, Scan, Unread
from agent_identity.canonical import JSON
from agent_identity.errors import ConfigurationError

MAX_FILES: Final = 100_000
"""Files of a scan that are listed, by default."""

_MAX_CODE: Final = 1024 * 1024
_MAX_ITEMS: Final = 100_000
_MAX_UNREAD: Final = 10_000
_CACHED: Final = 128
_SCRIPTS: Final = (".ts", ".tsx", ".js", ".jsx", ".mts", ".cts", ".mjs", ".cjs")

_AGENTS: Final = ("agent", "orchestrator")
_GUARDABLE: Final = (*_AGENTS, "tool", "mcp_server")

_Agent = tuple[str, str]


def scan(paths: Sequence[str], *, max_files: int = MAX_FILES) -> Scan:
    """Return what the code and configurations below the paths declare. Reads only; runs and contacts nothing.

    Args:
        paths: Files and folders.
        max_files: Files that are listed at most; a scan with more is truncated.

    Raises:
        ConfigurationError: A path does not exist.
    """
    for path in paths:
        if not os.path.lexists(path):
            raise ConfigurationError(f"no file or folder at {path!r}; check the path")
    return _Run([os.path.normpath(path) for path in paths], max_files).result()


class _Run:
    def __init__(self, paths: Sequence[str], max_files: int) -> None:
        self._named = frozenset(paths)
        self._files: dict[str, object] = {}
        self._items: list[Item] = []
        self._edges: list[Edge] = []
        self._unread: list[Unread] = []
        self._guarded: set[tuple[str, int]] = set()
        self._failures: set[str] = set()
        self._modules: OrderedDict[str, Module | None] = OrderedDict()
        self._read = self._other = self._scripts = 0
        self._instrumented: set[str] = set()
        self._truncated = False
        self._list(paths, max_files)
        self._tree = Tree({name: None for name in self._files if name.endswith(".py")}, self._module)

    def _list(self, paths: Sequence[str], max_files: int) -> None:
        for path in paths:
            for found in walked(path):
                if isinstance(found, Unread):
                    self._leave(found)
                elif len(self._files) >= max_files:
                    self._truncated = True
                    return
                else:
                    self._files[found] = None

    def _leave(self, unread: Unread) -> None:
        if len(self._unread) < _MAX_UNREAD:
            self._unread.append(unread)
        else:
            self._truncated = True

    def result(self) -> Scan:
        for file in self._files:
            if len(self._items) >= _MAX_ITEMS:
                self._truncated = True
                break
            try:
                self._file(file)
            except Unreadable as reason:
                self._leave(Unread(file, str(reason)))
        unique = {(one.kind, one.name, one.file, one.line, one.place): one for one in reversed(self._items)}
        items = with_guards(unique.values(), self._edges, self._guarded, instrumented=self._instrumented)
        return Scan(
            items=tuple(sorted(items, key=lambda one: (KINDS.index(one.kind), one.file, one.line, one.name))),
            edges=tuple(sorted(set(self._edges), key=lambda one: (one.file, one.line, one.start, one.end, one.kind))),
            files_read=self._read,
            files_other=self._other,
            typescript_files=self._scripts,
            unread=tuple(sorted(self._unread, key=lambda one: (one.file, one.reason))),
            truncated=self._truncated,
            instrumented=bool(self._instrumented),
        )

    def _file(self, file: str) -> None:
        name = file.rpartition("/")[2]
        if name.endswith((".py", ".ipynb")):
            self._code(file)
        elif is_manifest(name):
            self._items += dependencies(file, self._text(file))
            self._read += 1
        elif is_environment_file(name):
            self._items += environment_names(file, self._text(file))
            self._read += 1
        else:
            self._document(file, name)

    def _document(self, file: str, name: str) -> None:
        client = client_of(os.path.abspath(file).replace(os.sep, "/"))
        if client is None and not is_description(file):
            self._other += 1
            self._scripts += name.endswith(_SCRIPTS)
            return
        text = self._text(file)
        document = parse_document(name, text)
        self._read += 1
        servers = configured(client, file, text, document) if client is not None else []
        self._truncated |= len(servers) >= MOST
        self._items += servers
        self._items += described(file, text, document) if is_description(file) else []

    def _code(self, file: str) -> None:
        module = self._module(file)
        if module is None:
            return
        found = CodeScan(self._tree, module)
        try:
            found.run()
        except RecursionError:
            raise Unreadable("too_deep") from None
        self._read += 1
        self._items += found.items
        self._edges += found.edges
        self._guarded |= found.guarded
        self._instrumented |= found.instrumented
        self._truncated |= found.full
        self._items += (
            Item("environment", name, "declared", "environment", file, line, technique="source-code-analysis")
            for name, line in found.variables.items()
            if known_variable(name)
        )

    def _text(self, file: str) -> str:
        return text_of(read_bytes(file, named=file in self._named))

    def _module(self, file: str) -> Module | None:
        """Return a parsed file from a bounded cache; one that cannot be read is counted once."""
        if file in self._modules:
            self._modules.move_to_end(file)
            return self._modules[file]
        module: Module | None = None
        try:
            module = parse(file, self._source(file))
        except Unreadable as reason:
            self._failed(file, str(reason))
        except (SyntaxError, ValueError):
            self._failed(file, "not_python")
        except (RecursionError, MemoryError):
            self._failed(file, "too_deep")
        self._modules[file] = module
        while len(self._modules) > _CACHED:
            self._modules.popitem(last=False)
        return module

    def _failed(self, file: str, reason: str) -> None:
        if file not in self._failures:
            self._failures.add(file)
            self._leave(Unread(file, reason))

    def _source(self, file: str) -> str:
        text = self._text(file)
        if file.endswith(".ipynb"):
            text = _cells(parse_document(file, text))
        if len(text) > _MAX_CODE:
            raise Unreadable("too_large")
        return text


def _cells(notebook: JSON) -> str:
    """Return the code cells of a notebook as one text; commands of the notebook become empty lines."""
    cells = member(notebook, "cells")
    lines: list[str] = []
    for cell in cells if isinstance(cells, list) else []:
        if member(cell, "cell_type") != "code":
            continue
        source = member(cell, "source")
        text = source if isinstance(source, str) else "".join(map(str, source)) if isinstance(source, list) else ""
        plain = [] if text.lstrip().startswith("%%") else text.splitlines()
        lines += ("" if line.lstrip().startswith(("%", "!", "?")) else line for line in plain)
    return "\n".join(lines)


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
