"""Runs a scan: sorts files by what they may hold, reads each once, and gathers typed results with their guards.

Beside code these are the configurations of MCP clients (``clients.json``), CrewAI YAML, A2A cards, MCP
``server.json``, dependency manifests and lock files, and ``.env`` files, of which only the names of variables are read.
"""

import os
import re
from collections import OrderedDict, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Final, Literal, TypedDict, cast

from agent_identity._scan._code import CodeScan
from agent_identity._scan._documents import Unreadable, line_of, member, parse_document, text_of
from agent_identity._scan._folders import read_bytes, walked
from agent_identity._scan._names import Module, Tree, parse
from agent_identity._scan._redaction import address, command_line, label
from agent_identity._scan._tables import read_table
from agent_identity._scan.results import KINDS, Edge, Item, Scan, Unread
from agent_identity.canonical import JSON
from agent_identity.errors import ConfigurationError

MOST: Final = 500
"""MCP servers of one configuration that are reported."""

_ADDRESSES: Final = ("url", "httpUrl", "serverUrl", "uri", "endpoint")
_SETTINGS: Final = ("env", "envs", "environment", "env_keys", "env_vars")
_HEADERS: Final = ("headers", "http_headers", "env_http_headers")
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,127}")
_IMAGES: Final = re.compile(r"(?:^|/)(?:mcp/|mcp-|[\w.-]*-mcp\b|[\w.-]*mcp-server)|docker/mcp-gateway", re.IGNORECASE)

_MOST: Final = 2_000
_CARDS: Final = ("agent-card.json", "agent_card.json", "agent.json", "agentcard.json")

_REQUIREMENTS: Final = re.compile(r"(?:.*[-_.])?requirements(?:[-_.].*)?\.(?:txt|in)|constraints\.txt")
_NAMED: Final = frozenset(
    {
        *("pyproject.toml", "Pipfile", "Pipfile.lock", "poetry.lock", "uv.lock", "pdm.lock"),
        *("package.json", "package-lock.json", "yarn.lock", "pnpm-lock.yaml"),
    }
)
_NPM: Final = frozenset({"package.json", "package-lock.json", "yarn.lock", "pnpm-lock.yaml"})
_REQUIREMENT: Final = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[[^\]\n]{0,200}\])?\s*([^#;\n]{0,80})")
_ASSIGNMENT: Final = re.compile(r"^[ \t]*(?:export[ \t]+)?([A-Z][A-Z0-9_]{2,63})[ \t]*=", re.MULTILINE)
_LOCKED_NPM: Final = re.compile(
    r"^\s{0,4}[\"'/]*((?:@[a-z0-9._-]+/)?[a-z0-9._-]+)[@/](?:npm:)?([^\s\"',:(]{1,40})", re.MULTILINE
)
_VERSION: Final = re.compile(r"[A-Za-z0-9.,<>=!~^*+ |-]{1,60}")

_Ecosystem = Literal["pypi", "npm"]


@dataclass(frozen=True, slots=True)
class Client:
    """One row of the table of clients.

    Attributes:
        client: Name of the product.
        files: Patterns of its configuration files.
        keys: Dotted paths to the servers; ``*`` is any member.
    """

    client: str
    files: Sequence[str]
    keys: Sequence[str]


class _Table(TypedDict):
    clients: list[Client]


class _Packages(TypedDict):
    pypi: Mapping[str, str]
    npm: Mapping[str, str]
    environment: list[str]


_TABLES: Final[Mapping[str, Sequence[str]]] = {
    "package.json": ("dependencies", "devDependencies", "peerDependencies", "optionalDependencies"),
    "package-lock.json": ("packages", "dependencies"),
    "Pipfile": ("packages", "dev-packages"),
    "Pipfile.lock": ("default", "develop"),
}


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


@cache
def _clients() -> Sequence[tuple[Client, re.Pattern[str]]]:
    rows = read_table("clients.json", _Table)["clients"]
    return [(row, re.compile("|".join(map(_pattern, row.files)))) for row in rows]


def _pattern(glob: str) -> str:
    parts = [re.escape(part) for part in glob.split("/")]
    joined = "/".join(part.replace(r"\*", "[^/]*") for part in parts)
    return rf"(?:{joined.replace('[^/]*[^/]*/', '(?:.*/)?')})\Z"


def client_of(path: str) -> Client | None:
    """Return the client that a file belongs to.

    Args:
        path: Absolute path with forward slashes.
    """
    return next((row for row, pattern in _clients() if pattern.match(path)), None)


def configured(client: Client, file: str, text: str, document: JSON) -> list[Item]:
    """Return the MCP servers of one configuration.

    Args:
        client: Whose configuration it is.
        file: Path for the results.
        text: Text of the file, for lines.
        document: Its value.
    """
    items: list[Item] = []
    for key in client.keys:
        for servers in _at(document, re.split(r"(?<!\\)\.", key)):
            for name, entry in _entries(servers, listed=client.client == "Continue"):
                item = _item(client, name, entry, (file, line_of(text, name)))
                if item is not None and len(items) < MOST:
                    items.append(item)
    return items


def _at(value: JSON, path: Sequence[str]) -> Iterator[JSON]:
    if not path:
        yield value
    elif isinstance(value, dict):
        members = value
        name = path[0].replace("\\", "")
        for one in list(members.values())[:MOST] if name == "*" else [members[name]] if name in members else []:
            yield from _at(one, path[1:])


def _entries(servers: JSON, *, listed: bool) -> Iterator[tuple[str, Mapping[str, JSON]]]:
    """Yield names and settings; clients write servers as a map, Continue also as a list of objects."""
    if isinstance(servers, dict):
        for key, value in servers.items():
            if isinstance(value, dict):
                yield str(key), value
            elif value in ("", None):
                yield str(key), {}
    elif listed and isinstance(servers, list):
        for entry in servers:
            if isinstance(entry, dict):
                inner = entry
                name = inner.get("name")
                transport = inner.get("transport")
                flat = {**inner, **transport} if isinstance(transport, dict) else inner
                yield (name if isinstance(name, str) else ""), flat


def _item(client: Client, name: str, entry: Mapping[str, JSON], at: tuple[str, int]) -> Item | None:
    if client.client == "Goose" and entry.get("type") in ("builtin", "platform", "frontend", "inline_python"):
        return None
    if client.client == "Docker Compose" and not _IMAGES.search(_text(entry.get("image"))):
        return None
    place, transport = _place(client, entry)
    environment = [*_names(entry, _SETTINGS), *_texts(entry.get("bearer_token_env_var"))]
    return Item(
        "mcp_client",
        label(name),
        "configured",
        client.client,
        *at,
        guarded=None,
        place=place,
        transport=transport,
        environment=tuple(sorted({text for text in environment if _NAME.fullmatch(text)})),
        headers=tuple(sorted({text for text in _names(entry, _HEADERS) if _NAME.fullmatch(text)})),
        enabled=not (_true(entry.get("disabled")) or _false(entry.get("enabled"))),
    )


def _place(client: Client, entry: Mapping[str, JSON]) -> tuple[str, str]:
    """Return address or command, without secrets, and the transport."""
    kind = _text(entry.get("type")) or _text(entry.get("transport"))
    for key in _ADDRESSES:
        if _text(entry.get(key)):
            sse = "sse" in kind or (client.client == "Gemini CLI" and key == "url" and not kind)
            return address(_text(entry[key])), "sse" if sse else "http"
    command, arguments = entry.get("command", entry.get("cmd")), entry.get("args")
    if isinstance(command, dict):
        inner = command
        command, arguments = inner.get("path", inner.get("command")), inner.get("args", arguments)
    words = [*_texts(command), *_texts(arguments)]
    if words:
        return command_line(words[0], words[1:]), "stdio"
    image = _text(entry.get("image")) or _text(entry.get("ref"))
    return (command_line(image, ()), "stdio") if image else ("", "")


def _names(entry: Mapping[str, JSON], keys: Sequence[str]) -> Iterator[str]:
    """Yield names of settings; never their values."""
    for key in keys:
        value = entry.get(key)
        if isinstance(value, dict):
            yield from (str(name) for name in value)
        elif isinstance(value, list):
            yield from (text.partition("=")[0] for text in _texts(cast("JSON", value)))
    inner = member(cast("JSON", entry), "requestOptions", "headers") if keys is _HEADERS else None
    if isinstance(inner, dict):
        yield from (str(name) for name in inner)


def _texts(value: JSON) -> list[str]:
    if isinstance(value, str):
        return [value]
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []


def _text(value: JSON) -> str:
    return value if isinstance(value, str) else ""


def _true(value: JSON) -> bool:
    return value is True or value == "true"


def _false(value: JSON) -> bool:
    return value is False or value == "false"


def is_description(path: str) -> bool:
    """Tell whether a file may be a description, by its name."""
    name = path.rpartition("/")[2].lower()
    crew = name.endswith((".yaml", ".yml")) and "agent" in name
    return crew or name == "server.json" or name.endswith(_CARDS)


def described(file: str, text: str, document: JSON) -> list[Item]:
    """Return what a document describes; nothing if it is of another kind.

    Args:
        file: Path for the results.
        text: Text of the file, for lines.
        document: Its value.
    """
    if not isinstance(document, dict):
        return []
    if file.lower().endswith((".yaml", ".yml")):
        return list(_crew(file, text, document))
    if file.rpartition("/")[2] == "server.json":
        return list(_server(file, document))
    return list(_card(file, text, document))


def _crew(file: str, text: str, document: dict[str, JSON]) -> Iterator[Item]:
    for name, value in list(document.items())[:_MOST]:
        if (
            isinstance(value, dict)
            and isinstance(member(value, "role"), str)
            and isinstance(member(value, "goal"), str)
        ):
            line = line_of(f"\n{text}", f"\n{name}:")
            yield Item("agent", label(str(name)), "declared", "CrewAI", file, line, guarded=None)
            model = member(value, "llm")
            if isinstance(model, str) and model:
                yield Item("model", label(model), "declared", "CrewAI", file, line)


def _server(file: str, document: JSON) -> Iterator[Item]:
    name = member(document, "name")
    remote, package = (_first(member(document, key)) for key in ("remotes", "packages"))
    if not isinstance(name, str) or (remote is None and package is None):
        return
    url, identifier = member(remote, "url"), member(package, "identifier")
    place = address(url) if isinstance(url, str) else label(identifier) if isinstance(identifier, str) else ""
    kind = member(remote, "type") if remote is not None else member(package, "transport", "type")
    transport = kind if kind in ("sse", "stdio") else "http"
    yield Item("mcp_server", label(name), "declared", "MCP registry", file, place=place, transport=str(transport))


def _first(value: JSON) -> JSON:
    return value[0] if isinstance(value, list) and value else None


def _card(file: str, text: str, document: JSON) -> Iterator[Item]:
    name, skills = member(document, "name"), member(document, "skills")
    interfaces, url = member(document, "supportedInterfaces"), member(document, "url")
    if (
        not isinstance(name, str)
        or not isinstance(skills, list)
        or not (isinstance(interfaces, list) or isinstance(url, str))
    ):
        return
    first = member(_first(interfaces), "url") or url
    place = address(first) if isinstance(first, str) else ""
    yield Item("agent_card", label(name), "declared", "A2A", file, line_of(text, "name"), place=place, transport="http")


@cache
def _packages() -> _Packages:
    return read_table("packages.json", _Packages)


def is_manifest(name: str) -> bool:
    """Tell whether a file lists dependencies, by its name."""
    return name in _NAMED or _REQUIREMENTS.fullmatch(name) is not None


def is_environment_file(name: str) -> bool:
    """Tell whether a file sets environment variables, by its name."""
    return name == ".env" or name.startswith(".env.") or name.endswith(".env")


def known_variable(name: str) -> bool:
    """Tell whether a variable belongs to a provider of models or tools."""
    return name in _packages()["environment"]


def environment_names(file: str, text: str) -> list[Item]:
    """Return the names of known variables that a file sets; their values are never read."""
    found = dict(reversed(list(_assigned(text))))
    lines = {name: text.count("\n", 0, at) + 1 for name, at in found.items()}
    return [Item("environment", name, "configured", "environment", file, line) for name, line in lines.items()]


def _assigned(text: str) -> Iterator[tuple[str, int]]:
    for match in _ASSIGNMENT.finditer(text):
        if known_variable(match.group(1)):
            yield match.group(1), match.start(1)


def dependencies(file: str, text: str) -> list[Item]:
    """Return the known packages of a manifest or lock file.

    Raises:
        Unreadable: The file is malformed.
    """
    name = file.rpartition("/")[2]
    ecosystem: _Ecosystem = "npm" if name in _NPM else "pypi"
    known = _packages()[ecosystem]
    found: dict[str, str] = {}
    for written, version in _listed(name, text):
        package = re.sub(r"[-_.]+", "-", written).lower() if ecosystem == "pypi" else written
        if package in known:
            found[package] = found.get(package) or version
    return [
        Item("dependency", package, "installed", known[package], file, line_of(text, package), place=_version(version))
        for package, version in sorted(found.items())
    ]


def _version(text: str) -> str:
    text = text.strip()
    return label(text) if _VERSION.fullmatch(text) else ""


def _listed(name: str, text: str) -> Iterator[tuple[str, str]]:
    """Yield packages and versions, in whatever form the file has them."""
    if name in {"yarn.lock", "pnpm-lock.yaml"}:
        yield from ((match.group(1), match.group(2)) for match in _LOCKED_NPM.finditer(text))
    elif _REQUIREMENTS.fullmatch(name):
        for line in text.splitlines():
            yield from _requirement(line)
    else:
        yield from _members(name, parse_document(name, text))


def _members(name: str, document: JSON) -> Iterator[tuple[str, str]]:
    if name in _TABLES:
        for key in _TABLES[name]:
            for path, version in _mapped(member(document, key)):
                yield path.rpartition("node_modules/")[2], version
    elif name.endswith(".lock"):
        for package in _list(member(document, "package")):
            of, locked = member(package, "name"), member(package, "version")
            if isinstance(of, str):
                yield of, locked if isinstance(locked, str) else ""
    else:
        yield from _project(document)


def _project(document: JSON) -> Iterator[tuple[str, str]]:
    groups = [member(document, "project", "dependencies")]
    for table in (("project", "optional-dependencies"), ("dependency-groups",)):
        groups += _values(member(document, *table))
    for group in groups:
        for one in _list(group):
            if isinstance(one, str):
                yield from _requirement(one)
    poetry = member(document, "tool", "poetry")
    tables = [poetry, *_values(member(poetry, "group"))]
    for of in tables:
        yield from _mapped(member(of, "dependencies"))


def _requirement(line: str) -> Iterator[tuple[str, str]]:
    match = _REQUIREMENT.match(line)
    if match is not None:
        yield match.group(1), match.group(2)


def _mapped(value: JSON) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for name, entry in value.items():
            version = entry if isinstance(entry, str) else member(entry, "version")
            yield name, version if isinstance(version, str) else ""


def _values(value: JSON) -> list[JSON]:
    return list(value.values()) if isinstance(value, dict) else []


def _list(value: JSON) -> list[JSON]:
    return value if isinstance(value, list) else []
