"""Finds declarations in one Python file, and who uses them, with the table of constructs."""

import ast
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple, TypeAlias, cast

from agent_identity._scan._arguments import Arguments, argument, called_name, literal, texts, variable_of
from agent_identity._scan._constructs import Construct, matching, method_of, packages_of, variables_of
from agent_identity._scan._names import FUNCTIONS, Function, Module, Reference, Tree
from agent_identity._scan._redaction import address, command_line, label
from agent_identity._scan.results import Edge, Item, ItemKind, NameSource

At: TypeAlias = tuple[Module, ast.expr]
"""An expression and the file that it is in."""

_STEPS: Final = 20_000
_DEPTH: Final = 5

_MOST: Final = 2_000
_BASES: Final = 8
_ADDRESSES: Final = ("url", "server_url", "serverUrl")
_PLACES: Final = frozenset({*_ADDRESSES, "command", "args", "transport", "server_label"})
_GUARDABLE: Final = frozenset({"tool", "mcp_server"})
_ENVIRONMENT: Final = ("os.getenv", "os.environ.get", "os.environ")
_GUARD_LISTS: Final = ("middleware", "capabilities", "hooks")
_MEMBERS: Final = ("agents", "handoffs")


_NOWHERE: Final = ("", "")


_Place: TypeAlias = tuple[str, int]
"""A file and a line of it."""


class Used(NamedTuple):
    """A tool in a list.

    Attributes:
        name: Its name; empty if only running code knows it.
        place: File and line to report; ``None`` if another rule reports it.
        named_by: Source of the name.
    """

    name: str
    place: tuple[str, int] | None
    named_by: NameSource = "literal"


def row_of(tree: Tree, module: Module, call: ast.Call) -> Construct | None:
    """Return the row of the table for a call.

    A class of the scanned code is reported where it is defined, so its instances count only if they have a name.
    """
    called = tree.resolve(module, call.func)
    if isinstance(called.node, ast.Call | ast.arg):
        return None  # It calls an instance, which declares nothing.
    row = matching(called.path, "call") if called.path else None
    if row is None and isinstance(call.func, ast.Attribute):
        row = _method(module, call.func, called.path, "call")
    if row is not None and isinstance(called.node, ast.ClassDef):
        return row if literal(tree, module, argument(call, "name")) else None
    return row


def decorator_of(tree: Tree, module: Module, node: ast.expr) -> Construct | None:
    """Return the row of the table for a decorator."""
    of = node.func if isinstance(node, ast.Call) else node
    path = tree.resolve(module, of).path
    row = matching(path, "decorator")
    return _method(module, of, path, "decorator") if row is None and isinstance(of, ast.Attribute) else row


def _method(module: Module, node: ast.Attribute, path: str, use: str) -> Construct | None:
    """Return the row for a method of any receiver; a receiver of a package outside the table makes no tools."""
    row = method_of(node.attr, module.packages, use)
    foreign = bool(path) and not packages_of(path)
    return None if row is not None and row.kind == "tool" and foreign else row


class Lists:
    """Reads lists in one file, with a bound on all work.

    Args:
        tree: Resolves names.
    """

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._steps = _STEPS

    def elements(self, module: Module, node: ast.expr | None, depth: int = _DEPTH) -> Iterator[At]:
        """Yield the elements of a list that is written out, also through names and sums of lists."""
        self._steps -= 1
        if node is None or depth <= 0 or self._steps <= 0:
            return
        match node:
            case ast.List() | ast.Tuple() | ast.Set():
                for one in node.elts:
                    if isinstance(one, ast.Starred):
                        yield from self.elements(module, one.value, depth - 1)
                    else:
                        yield module, one
            case ast.BinOp() | ast.IfExp():
                for part in _parts(node):
                    yield from self.elements(module, part, depth - 1)
            case ast.Name() | ast.Attribute():
                yield from self._followed(module, node, depth)
            case _:
                yield module, node

    def _followed(self, module: Module, node: ast.Name | ast.Attribute, depth: int) -> Iterator[At]:
        found = self._tree.resolve(module, node)
        if isinstance(found.node, ast.List | ast.Tuple | ast.Set | ast.BinOp | ast.IfExp | ast.Dict):
            yield from self.elements(found.module, found.node, depth - 1)
        else:
            yield module, node

    def tools(self, at: At, depth: int = _DEPTH) -> Sequence[Used]:
        """Return the tools that an element of a list stands for."""
        module, node = at
        here = (module.file, node.lineno)
        match node:
            case ast.Constant():
                return [Used(node.value, here)] if isinstance(node.value, str) else []
            case ast.Dict():
                return [self._described(module, node)]
            case ast.Call():
                return self._made(module, node, depth)
            case ast.Name() | ast.Attribute():
                return self._named(at, self._tree.resolve(module, node), depth)
            case ast.Lambda() | ast.ListComp() | ast.Subscript() | ast.Await():
                return [Used("", here, "dynamic")]
            case _:
                return []

    def _described(self, module: Module, node: ast.Dict) -> Used:
        """Return a tool that is written as a dict, in the form of a provider."""
        found: dict[str, str] = {}
        for inner in ast.walk(node):
            if isinstance(inner, ast.Dict):
                for key, value in zip(inner.keys, inner.values, strict=True):
                    text = literal(self._tree, module, value)
                    if isinstance(key, ast.Constant) and isinstance(key.value, str) and text:
                        found.setdefault(key.value, text)
        name = found.get("name") or found.get("type", "")
        return Used(name, (module.file, node.lineno), "literal" if name else "dynamic")

    def _made(self, module: Module, call: ast.Call, depth: int) -> Sequence[Used]:
        """Return the tools that a call makes."""
        here = (module.file, call.lineno)
        row = row_of(self._tree, module, call)
        if row is not None and row.kind == "guard":
            return self._first(module, call, depth)
        if row is not None:
            name = Arguments(self._tree, module, call, row).name()[0]
            return [] if row.kind in ("mcp_client", "tools") else [Used(name, None)]
        called = self._tree.resolve(module, call.func)
        if isinstance(called.node, ast.ClassDef):
            return [_of_class(called)]
        text = literal(self._tree, module, argument(call, "name"))
        if text or called_name(call)[:1].isupper():
            return [Used(text or called_name(call), here)]
        if called.path.startswith("functools.partial"):
            return self._first(module, call, depth)
        return [Used("", here, "dynamic")]

    def _first(self, module: Module, call: ast.Call, depth: int) -> Sequence[Used]:
        """Return the tools that the first argument of a call stands for, one or a list."""
        listed = [at for node in call.args[:1] for at in self.elements(module, node, depth)]
        return [one for at in listed if depth > 0 for one in self.tools(at, depth - 1)]

    def _named(self, at: At, found: Reference, depth: int) -> Sequence[Used]:
        """Return the tool that a name stands for."""
        module, node = at
        own = node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""
        here = (module.file, node.lineno)
        match found.node:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                return [self._function(found.module, found.node)]
            case ast.ClassDef():
                return [_of_class(found)]
            case ast.Call() if depth > 0:
                made = self._made(found.module, found.node, depth - 1)
                return [Used(one.name or own, one.place, one.named_by) for one in made]
            case None if found.path:
                return [Used(found.path.rpartition(".")[2], here)]
            case _:
                return [Used(own, here, "dynamic")]

    def _function(self, module: Module, node: Function) -> Used:
        """Return a function as a tool; one that a decorator declares is reported there."""
        for one in node.decorator_list:
            row = decorator_of(self._tree, module, one)
            if row is not None and row.kind == "tool":
                stated = Arguments(self._tree, module, one, row).stated()[0] if isinstance(one, ast.Call) else ""
                return Used(stated or node.name, None)
        return Used(node.name, (module.file, node.lineno))

    def name_of_agent(self, at: At) -> tuple[str, int]:
        """Return name and line of an agent in a list, through ``handoff(…)`` and variables."""
        module, node = at
        found = self._tree.resolve(module, node)
        if isinstance(found.node, ast.Call) and called_name(found.node) == "handoff":
            target = argument(found.node, "agent") or argument(found.node, 0)
            if target is not None:
                node, found = target, self._tree.resolve(found.module, target)
        own = node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""
        if not isinstance(found.node, ast.Call):
            return (found.node.name if isinstance(found.node, FUNCTIONS) else own), node.lineno
        row = row_of(self._tree, found.module, found.node)
        stated = "" if row is None else Arguments(self._tree, found.module, found.node, row).stated()[0]
        return stated or own, node.lineno


def _parts(node: ast.BinOp | ast.IfExp) -> tuple[ast.expr, ast.expr]:
    return (node.left, node.right) if isinstance(node, ast.BinOp) else (node.body, node.orelse)


def _of_class(found: Reference) -> Used:
    node = found.node
    name = node.name if isinstance(node, ast.ClassDef) else ""
    known = bool(found.path and matching(found.path, "base"))
    return Used(name, None if known or not isinstance(node, ast.ClassDef) else (found.module.file, node.lineno))


class _Found(NamedTuple):
    """A declaration before it becomes an item."""

    kind: str
    name: str
    framework: str
    file: str
    line: int
    named_by: NameSource = "literal"
    where: tuple[str, str] = _NOWHERE


class CodeScan:
    """Collects the declarations of one file.

    Args:
        tree: Resolves names across files.
        module: The parsed file.

    Attributes:
        items: What is declared.
        edges: Hand-offs and uses.
        guarded: Files and lines of what this code puts under guard.
        instrumented: Frameworks that the code guards as a whole.
        variables: Names of the environment variables that it reads.
        full: Whether the limit on findings was reached.
    """

    def __init__(self, tree: Tree, module: Module) -> None:
        self.items: list[Item] = []
        self.edges: list[Edge] = []
        self.guarded: set[tuple[str, int]] = set()
        self.instrumented: set[str] = set()
        self.variables: dict[str, int] = {}
        self.full = False
        self._tree = tree
        self._module = module
        self._lists = Lists(tree)
        self._inside: set[int] = set()
        self._guards: set[_Place] = set()
        self._served: list[tuple[_Place, _Place]] = []

    def run(self) -> None:
        """Read the whole file."""
        self._tree.renew()
        self._read()
        self.full |= self._tree.exhausted

    def _read(self) -> None:
        self._constants()
        nodes = self._module.nodes
        calls = [(node, row) for node in nodes if isinstance(node, ast.Call) and (row := self._row(node)) is not None]
        for call, row in calls:
            if row.kind == "mcp_client":
                self._absorb(call)
        for node in nodes:
            if isinstance(node, ast.ClassDef):
                self._class(node)
            elif isinstance(node, FUNCTIONS):
                self._function(node)
            else:
                self._variable(node)
        for call, row in calls:
            if id(call) not in self._inside:
                self._call(call, row)
        self.guarded |= {tool for tool, server in self._served if server in self.guarded | self._guards}

    def _row(self, call: ast.Call) -> Construct | None:
        parent = self._module.parents.get(call)
        if isinstance(parent, (*FUNCTIONS, ast.ClassDef)) and call in parent.decorator_list:
            return None
        return row_of(self._tree, self._module, call)

    def _absorb(self, call: ast.Call) -> None:
        """Mark the parts of an MCP end that are declared inside another, or passed to it by name."""
        for node in ast.walk(call):
            if isinstance(node, ast.Call) and node is not call and self._is_end(node):
                self._inside.add(id(node))
        for node in [*call.args, *(keyword.value for keyword in call.keywords)]:
            found = self._tree.resolve(self._module, node) if isinstance(node, ast.Name) else None
            if found is None or found.module is not self._module:
                continue
            if isinstance(found.node, ast.Call) and self._is_end(found.node):
                self._inside.add(id(found.node))

    def _is_end(self, call: ast.Call) -> bool:
        row = matching(self._tree.resolve(self._module, call.func).path, "call")
        return row is not None and row.kind == "mcp_client"

    def _line(self, node: ast.AST) -> int:
        return cast("int", getattr(node, "lineno", 1))

    def _add(
        self,
        row: Construct,
        kind: str,
        name: str,
        node: ast.AST,
        *,
        named_by: NameSource = "literal",
        where: tuple[str, str] = _NOWHERE,
    ) -> None:
        self._append(_Found(kind, name, row.framework, self._module.file, self._line(node), named_by, where))

    def _append(self, found: _Found) -> None:
        if len(self.items) >= _MOST:
            self.full = True
            return
        ours = found.framework == "agent_identity" and found.kind == "tool"
        self.items.append(
            Item(
                cast("ItemKind", found.kind),
                label(found.name),
                "declared",
                found.framework,
                found.file,
                found.line,
                found.named_by,
                guarded=ours if found.kind in _GUARDABLE else None,
                place=found.where[0],
                transport=found.where[1],
                technique="source-code-analysis",
            )
        )

    def _class(self, node: ast.ClassDef) -> None:
        for base in node.bases[:_BASES]:
            row = matching(self._tree.resolve(self._module, base).path, "base")
            if row is not None:
                bound = [value for _, value in self._module.scopes[node].names.get("name", ())]
                own = (literal(self._tree, self._module, value) for value in bound if isinstance(value, ast.AST))
                self._add(row, row.kind, next((text for text in own if text), node.name), node)
                return

    def _function(self, node: Function) -> None:
        rows = [(one, decorator_of(self._tree, self._module, one)) for one in node.decorator_list]
        found = [(one, row) for one, row in rows if row is not None]
        others = [(one, row) for one, row in found if row.framework != "agent_identity"]
        place = (self._module.file, node.lineno)
        if len(others) < len(found):
            self.guarded.add(place)
        for one, _ in others:
            self._serve(place, one)
        for one, row in (others or found)[:1]:
            call = one if isinstance(one, ast.Call) else None
            stated, dynamic = ("", False) if call is None else Arguments(self._tree, self._module, call, row).stated()
            self._add(row, row.kind, stated or node.name, node, named_by="dynamic" if dynamic else "literal")

    def _serve(self, place: _Place, decorator: ast.expr) -> None:
        """Remember the server or agent whose method makes a function a tool: the tool is guarded as that is."""
        of = decorator.func if isinstance(decorator, ast.Call) else decorator
        if isinstance(of, ast.Attribute):
            server = self._tree.resolve(self._module, of.value)
            if server.node is not None:
                self._served.append((place, (server.module.file, self._line(server.node))))

    def _constants(self) -> None:
        """Add tools that a variable of the module describes."""
        for name, row in variables_of(self._module.packages):
            bindings = self._module.top.names.get(name)
            described = bindings[0][1] if bindings else None
            if isinstance(described, ast.Dict):
                pairs = zip(described.keys, described.values, strict=True)
                stated = [value for key, value in pairs if isinstance(key, ast.Constant) and key.value == "name"]
                text = next((literal(self._tree, self._module, value) for value in stated), None)
                self._add(row, row.kind, text or "", described, named_by="literal" if text else "dynamic")

    def _call(self, call: ast.Call, row: Construct) -> None:
        arguments = Arguments(self._tree, self._module, call, row)
        if row.kind == "guard":
            self._guard(call)
        elif row.kind == "instrument":
            self.instrumented |= set(row.guards)
        elif row.servers:
            self._servers(arguments, row, call)
        elif row.kind == "mcp_client":
            self._end(arguments, row, call)
        elif row.kind != "tools":
            name, named_by = arguments.name()
            self._add(row, row.kind, name, call, named_by=named_by)
        owner = arguments.name()[0] if row.kind in ("agent", "orchestrator") else ""
        self._used(arguments, row, call, owner)

    def _used(self, arguments: Arguments, row: Construct, call: ast.Call, owner: str) -> None:
        """Read the arguments that hold models, tools, other agents and MCP servers."""
        if row.model:
            self._model(arguments.first(row.model), row)
        if row.tools:
            self._tools(arguments.first(row.tools), row, owner)
        for module, node in self._lists.elements(self._module, arguments.first(row.edges)):
            found = self._tree.resolve(module, node)
            if isinstance(found.node, ast.Dict):
                self._sub_agent((found.module, found.node), row, owner)
            else:
                name, line = self._lists.name_of_agent((module, node))
                self.edges.append(Edge("hand-off", owner, label(name), module.file, line))
        for module, node in self._lists.elements(self._module, arguments.first(row.mcp)):
            text = literal(self._tree, module, node)
            if text is not None:
                self._named_end(row, text, node)
        if row.kind in ("agent", "orchestrator", "tools"):
            for _, node in texts(call, frozenset({"mcp_servers"})):
                self._entries(node, row)
        if row.kind == "agent" and self._has_guard(call):
            self.guarded.add((self._module.file, call.lineno))

    def _has_guard(self, call: ast.Call) -> bool:
        """Return whether a list that the agent gets holds one of our guards."""
        for name in _GUARD_LISTS:
            for module, node in self._lists.elements(self._module, argument(call, name)):
                row = self._made_by(self._tree.resolve(module, node))
                if row is not None and row.kind == "guard":
                    return True
        return False

    def _made_by(self, found: Reference) -> Construct | None:
        """Return the row for the call that makes an object, or for the annotation of a parameter."""
        if isinstance(found.node, ast.Call):
            return row_of(self._tree, found.module, found.node)
        if isinstance(found.node, ast.arg) and found.node.annotation is not None:
            return matching(self._tree.resolve(found.module, found.node.annotation).path, "call")
        return None

    def _model(self, node: ast.expr | None, row: Construct) -> None:
        if node is None or (isinstance(node, ast.Constant) and node.value is None):
            return
        text = literal(self._tree, self._module, node)
        if text is not None:
            self._add(row, "model", text, node)
            return
        found = self._tree.resolve(self._module, node)
        known = matching(found.path, "call") if found.path else None
        if known is None or known.kind != "model":
            self._add(row, "model", node.id if isinstance(node, ast.Name) else "", node, named_by="dynamic")

    def _tools(self, node: ast.expr | None, row: Construct, owner: str) -> None:
        for module, element in self._lists.elements(self._module, node):
            for used in self._lists.tools((module, element)):
                if used.name.startswith("mcp__"):
                    continue  # A tool of an MCP end, which is reported itself.
                if used.place is not None:
                    self._append(_Found("tool", used.name, row.framework, *used.place, used.named_by))
                if owner:
                    self.edges.append(Edge("uses", owner, label(used.name), module.file, element.lineno))

    def _sub_agent(self, at: tuple[Module, ast.Dict], row: Construct, owner: str) -> None:
        """Add an agent that is written as a dict, as Deep Agents has them."""
        module, node = at
        pairs = zip(node.keys, node.values, strict=True)
        members = {key.value: value for key, value in pairs if isinstance(key, ast.Constant)}
        text = literal(self._tree, module, members.get("name"))
        name = label(text or variable_of(module, node))
        named: NameSource = "literal" if text else "dynamic"
        self._append(_Found("agent", name, row.framework, module.file, node.lineno, named))
        self.edges.append(Edge("hand-off", owner, name, module.file, node.lineno))
        if module is self._module:
            self._tools(members.get("tools"), row, name)
            self._model(members.get("model"), row)

    def _servers(self, arguments: Arguments, row: Construct, call: ast.Call) -> None:
        """Add the MCP servers of a dict from names to connections."""
        node = arguments.first(row.servers)
        if node is not None and not self._entries(node, row):
            self._add(row, "mcp_client", variable_of(self._module, call), node, named_by="dynamic")

    def _entries(self, node: ast.expr, row: Construct) -> bool:
        """Add each MCP server of a dict; return whether it is one that is written out."""
        found = self._tree.resolve(self._module, node)
        if not isinstance(found.node, ast.Dict):
            return False
        for key, value in zip(found.node.keys, found.node.values, strict=True):
            connection = self._tree.resolve(found.module, value)
            if not connection.path or matching(connection.path, "call") is None:
                text = literal(self._tree, found.module, key)
                line = self._line(key or value)
                named: NameSource = "literal" if text else "dynamic"
                where = self._place(value, found.module)
                self._append(_Found("mcp_client", text or "", row.framework, found.module.file, line, named, where))
        return True

    def _named_end(self, row: Construct, text: str, node: ast.expr) -> None:
        """Add an MCP end that is written as one text: an address, a command, or the name of a configured server."""
        if "://" in text:
            where = (address(text), "http")
        else:
            command, *words = text.split()[:32] or [""]
            where = (command_line(command, words), "stdio") if words else _NOWHERE
        self._add(row, "mcp_client", where[0] or text, node, where=where)

    def _end(self, arguments: Arguments, row: Construct, call: ast.Call) -> None:
        listed = [one for spec in (0, "commands", "urls") for one in self._texts(argument(call, spec))]
        if listed:
            for one, node in listed:
                self._named_end(row, one, node)
            return
        name, named_by = arguments.name()
        marks = [literal(self._tree, self._module, node) for _, node in texts(call, frozenset({"server_label"}))]
        text = _first(marks)
        where = self._place(call, self._module)
        self._add(row, "mcp_client", text or name, call, named_by="literal" if text else named_by, where=where)

    def _texts(self, node: ast.expr | None) -> list[tuple[str, ast.expr]]:
        """Return the elements of a list of literals, also through a name."""
        found = None if node is None else self._tree.resolve(self._module, node)
        if found is None or not isinstance(found.node, ast.List):
            return []
        read = [(literal(self._tree, of, one), one) for of, one in self._lists.elements(found.module, found.node)]
        return [(text, one) for text, one in read if text]

    def _place(self, node: ast.expr, module: Module) -> tuple[str, str]:
        """Return address or command of an MCP end, as far as it is literal, and the transport."""
        found = dict(texts(node, _PLACES))
        first = literal(self._tree, module, argument(node, 0)) if isinstance(node, ast.Call) else None
        addresses = [literal(self._tree, module, found.get(key)) for key in _ADDRESSES]
        url = _first([*addresses, first if "://" in (first or "") else None])
        if url is not None:
            sse = "sse" in (literal(self._tree, module, found.get("transport")) or url.rpartition("/")[2])
            return address(url), "sse" if sse else "http"
        command = literal(self._tree, module, found.get("command"))
        if command is None:
            return _NOWHERE
        words = [literal(self._tree, of, word) for of, word in self._lists.elements(module, found.get("args"))]
        return command_line(command, ["…" if word is None else word for word in words]), "stdio"

    def _guard(self, call: ast.Call) -> None:
        """Remember what is put under guard, by its place: also the agents of a crew, of hand-offs, and as tools."""
        self._guards.add((self._module.file, call.lineno))
        pending: list[At] = [(self._module, argued) for argued in call.args]
        seen: set[ast.AST] = set()
        while pending:
            for module, node in self._lists.elements(*pending.pop()):
                found = self._tree.resolve(module, node)
                if found.node is None or found.node in seen:
                    continue
                seen.add(found.node)
                self.guarded.add((found.module.file, self._line(found.node)))
                if isinstance(found.node, ast.Call):
                    members = (argument(found.node, name) for name in _MEMBERS)
                    pending += [(found.module, one) for one in members if one is not None]
                    pending += self._agents_as_tools(found.module, found.node)

    def _agents_as_tools(self, module: Module, agent: ast.Call) -> list[At]:
        """Return the agents whose ``as_tool`` is among the tools of an agent."""
        tools = self._lists.elements(module, argument(agent, "tools"))
        calls = [(of, one.func) for of, one in tools if isinstance(one, ast.Call)]
        return [(of, one.value) for of, one in calls if isinstance(one, ast.Attribute) and one.attr == "as_tool"]

    def _variable(self, node: ast.Call | ast.Subscript) -> None:
        of, name = (node.func, argument(node, 0)) if isinstance(node, ast.Call) else (node.value, node.slice)
        if not isinstance(name, ast.Constant) or not isinstance(name.value, str):
            return
        if isinstance(of, ast.Attribute | ast.Name) and self._tree.resolve(self._module, of).path in _ENVIRONMENT:
            self.variables.setdefault(name.value, node.lineno)


def _first(candidates: list[str | None]) -> str | None:
    return next((text for text in candidates if text), None)
