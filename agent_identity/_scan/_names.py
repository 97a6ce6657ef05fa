"""Resolves names in Python code to dotted paths, without importing or running any of it."""

import ast
import warnings
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from agent_identity._scan._constructs import GENERIC_PACKAGES, packages_of

Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef
FUNCTIONS: Final = (ast.FunctionDef, ast.AsyncFunctionDef)

Node: TypeAlias = ast.Call | ast.Subscript | ast.ClassDef | Function
_DECLARING: Final = (ast.Call, ast.Subscript, ast.ClassDef, *FUNCTIONS)
_DEPTH: Final = 12
_BASES: Final = 4
_LOOKUPS: Final = 300_000


@dataclass(slots=True)
class Scope:
    """The names that a module, class or function binds, each with the lines where."""

    parent: "Scope | None"
    names: dict[str, list[tuple[int, ast.AST | str]]] = field(
        default_factory=dict[str, list[tuple[int, ast.AST | str]]]
    )

    def bind(self, name: str, line: int, value: "ast.AST | str") -> None:
        """Bind a name: to an import path, or to the node that gives its value."""
        self.names.setdefault(name, []).append((line, value))

    def lookup(self, name: str, line: int) -> "tuple[ast.AST | str, Scope] | None":
        """Return the last binding up to a line, or the first one, in the nearest scope that has one."""
        scope: Scope | None = self
        while scope is not None:
            found = scope.names.get(name)
            if found:
                before = bisect_right(found, line, key=lambda binding: binding[0])
                return found[max(before - 1, 0)][1], scope
            scope = scope.parent
        return None


@dataclass(frozen=True, slots=True)
class Reference:
    """The target of a name: a node of some module, or a path outside the scanned code."""

    module: "Module"
    node: ast.AST | None
    scope: Scope
    path: str = ""


@dataclass(slots=True)
class Module:
    """One parsed file: its scopes, the packages of the table that it imports, and the nodes that may declare."""

    file: str
    tree: ast.Module
    top: Scope
    scopes: dict[ast.AST, Scope]
    parents: dict[ast.AST, ast.AST]
    packages: tuple[str, ...]
    nodes: list[Node]

    def scope_of(self, node: ast.AST) -> Scope:
        """Return the scope that a node is in."""
        at: ast.AST | None = node
        while at is not None and at not in self.scopes:
            at = self.parents.get(at)
        return self.top if at is None else self.scopes[at]


def parse(file: str, text: str) -> Module:
    """Parse a file and collect its bindings.

    Raises:
        SyntaxError, ValueError, RecursionError, MemoryError: It is not Python that this interpreter reads.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tree = ast.parse(text)
    top = Scope(None)
    module = Module(file, tree, top, {tree: top}, {}, (), [])
    imported = _collect(module)
    module.nodes.sort(key=lambda one: (one.lineno, one.col_offset))
    module.packages = tuple(sorted({package for path in imported for package in packages_of(path)}))
    for scope in {id(one): one for one in module.scopes.values()}.values():
        for bindings in scope.names.values():
            bindings.sort(key=lambda binding: binding[0])
    return module


def _collect(module: Module) -> set[str]:
    """Collect scopes, bindings and nodes without recursion; return what is imported."""
    imported: set[str] = set()
    waiting: list[tuple[ast.AST, Scope]] = [(module.tree, module.top)]
    while waiting:
        node, scope = waiting.pop()
        inner = _inner(node, scope, module)
        _bind(node, scope, imported)
        if inner is not scope:
            _bind_parameters(node, inner)
        if isinstance(node, _DECLARING):
            module.nodes.append(node)
        for child in ast.iter_child_nodes(node):
            if not isinstance(child, ast.expr_context):
                module.parents[child] = node
                waiting.append((child, inner))
    return imported


def _inner(node: ast.AST, scope: Scope, module: Module) -> Scope:
    if not isinstance(node, (*FUNCTIONS, ast.ClassDef, ast.Lambda)):
        return scope
    module.scopes[node] = Scope(scope)
    return module.scopes[node]


def _bind_parameters(node: ast.AST, scope: Scope) -> None:
    if isinstance(node, FUNCTIONS):
        of = node.args
        for parameter in [*of.posonlyargs, *of.args, *of.kwonlyargs]:
            scope.bind(parameter.arg, node.lineno, parameter)


def _bind(node: ast.AST, scope: Scope, imported: set[str]) -> None:
    """Bind what a statement binds."""
    match node:
        case ast.Import() | ast.ImportFrom():
            _bind_imports(node, scope, imported)
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            scope.bind(node.name, node.lineno, node)
        case ast.Assign():
            for target in node.targets:
                _bind_target(target, node.value, scope)
        case ast.AnnAssign() | ast.NamedExpr():
            _bind_target(node.target, node.value or node, scope)
        case ast.withitem(optional_vars=ast.expr() as target):
            _bind_target(target, node.context_expr, scope)
        case _:
            pass


def _bind_imports(node: ast.Import | ast.ImportFrom, scope: Scope, imported: set[str]) -> None:
    for name in node.names:
        if isinstance(node, ast.Import):
            path, bound = _path_of(name), name.asname or name.name.partition(".")[0]
            imported.add(name.name)
        else:
            source = "." * node.level + (node.module or "")
            path, bound = source + ("" if source.endswith(".") else ".") + name.name, name.asname or name.name
            imported.add(path)
        scope.bind(bound, node.lineno, path)


def _path_of(name: ast.alias) -> str:
    return name.name if name.asname else name.name.partition(".")[0]


def _bind_target(target: ast.expr, value: ast.AST, scope: Scope) -> None:
    if isinstance(target, ast.Name):
        scope.bind(target.id, target.lineno, value)
    elif isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name):
        owner = scope.parent if target.value.id == "self" and scope.parent is not None else scope
        owner.bind(f"{target.value.id}.{target.attr}", target.lineno, value)
    elif isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple) and len(target.elts) == len(value.elts):
        for one, part in zip(target.elts, value.elts, strict=True):
            _bind_target(one, part, scope)


class Tree:
    """The Python files of a scan, which resolve names across each other.

    Args:
        paths: Paths of all Python files below the scanned path, with forward slashes.
        load: Returns a parsed file, or ``None`` if it cannot be read.
    """

    def __init__(self, paths: Mapping[str, object], load: Callable[[str], Module | None]) -> None:
        self._paths = paths
        self._load = load
        self._left = _LOOKUPS

    @property
    def exhausted(self) -> bool:
        """True if the look-ups for the present file were used up, so that some of it was not resolved."""
        return self._left <= 0

    def renew(self) -> None:
        """Begin another file, which has look-ups of its own."""
        self._left = _LOOKUPS

    def resolve(self, module: Module, node: ast.AST, scope: Scope | None = None, depth: int = _DEPTH) -> Reference:
        """Return what an expression stands for: through names, attributes, imports and re-exports.

        The path of a call is that of what it calls, so that ``x.tool`` of ``x = FastMCP("a")`` is ``….FastMCP.tool``.
        """
        scope = module.scope_of(node) if scope is None else scope
        self._left -= 1
        if depth <= 0 or self._left <= 0:
            return Reference(module, None, scope)
        match node:
            case ast.Name():
                return self._bound(module, node.id, node.lineno, scope, depth)
            case ast.Attribute():
                return self._attribute(module, node, scope, depth)
            case ast.Call():
                called = self.resolve(module, node.func, scope, depth - 1)
                return Reference(module, node, scope, called.path)
            case ast.Subscript() | ast.Await() | ast.Starred() | ast.NamedExpr():
                return self.resolve(module, node.value, scope, depth - 1)
            case _:
                return Reference(module, node, scope)

    def _bound(self, module: Module, name: str, line: int, scope: Scope, depth: int) -> Reference:
        found = scope.lookup(name, line) if depth > 0 else None
        if found is None:
            return Reference(module, None, scope)
        value, where = found
        if isinstance(value, str):
            return self._imported(module, value, depth)
        if isinstance(value, ast.arg | ast.AnnAssign):
            path = "" if value.annotation is None else self._annotated(module, value.annotation, where, depth)
            return Reference(module, value, where, path)
        if isinstance(value, ast.ClassDef):
            return Reference(module, value, where, self._base(module, value, where, depth))
        if isinstance(value, FUNCTIONS):
            return Reference(module, value, where)
        return self.resolve(module, value, where, depth - 1)

    def _base(self, module: Module, node: ast.ClassDef, scope: Scope, depth: int) -> str:
        """Return the path of the first base class that the table may know."""
        paths = (self.resolve(module, base, scope, depth - 3).path for base in node.bases[:_BASES])
        return next((path for path in paths if path and packages_of(path)), "")

    def _annotated(self, module: Module, node: ast.expr, scope: Scope, depth: int) -> str:
        parts = [node.left, node.right] if isinstance(node, ast.BinOp) else [node]
        paths = (self.resolve(module, part, scope, depth - 1).path for part in parts)
        return next((path for path in paths if path), "")

    def _attribute(self, module: Module, node: ast.Attribute, scope: Scope, depth: int) -> Reference:
        if isinstance(node.value, ast.Name):
            found = scope.lookup(f"{node.value.id}.{node.attr}", node.lineno)
            if found is not None and not isinstance(found[0], str):
                return self.resolve(module, found[0], found[1], depth - 1)
            if node.value.id == "self":
                return self._member(module, node, scope, depth)
        base = self.resolve(module, node.value, scope, depth - 1)
        if isinstance(base.node, ast.Module):
            return self._in_module(base.module, node.attr, depth)
        return Reference(module, None, scope, f"{base.path}.{node.attr}" if base.path else "")

    def _in_module(self, module: Module, name: str, depth: int) -> Reference:
        """Return a name of a module, or a module of a package."""
        if name not in module.top.names and module.file.endswith("__init__.py"):
            inner = self._below(module.file.rpartition("/")[0], [name], depth)
            if inner is not None:
                return inner
        return self._bound(module, name, 1 << 30, module.top, depth - 1)

    def _member(self, module: Module, node: ast.Attribute, scope: Scope, depth: int) -> Reference:
        """Return the method or attribute of the surrounding class."""
        at: ast.AST | None = node
        while at is not None and not isinstance(at, ast.ClassDef):
            at = module.parents.get(at)
        if at is None or node.attr not in module.scopes[at].names:
            return Reference(module, None, scope)
        return self._bound(module, node.attr, 1 << 30, module.scopes[at], depth - 1)

    def _imported(self, module: Module, path: str, depth: int) -> Reference:
        """Return what an import names: a node of the scanned code if it is there, else the path."""
        generic = path.partition(".")[0] in GENERIC_PACKAGES
        if packages_of(path) and not generic and not path.startswith("."):
            return Reference(module, None, module.top, path)
        for folder in _folders(module.file, path):
            found = self._below(folder, path.lstrip(".").split("."), depth)
            if found is not None:
                return found
        return Reference(module, None, module.top, "" if path.startswith(".") else path)

    def _below(self, folder: str, parts: list[str], depth: int) -> Reference | None:
        """Return the module, or the name in a module, that a dotted path below a folder means."""
        for cut in (len(parts), len(parts) - 1):
            file = self._file(folder, parts[:cut])
            other = None if file is None else self._load(file)
            if other is None:
                continue
            if cut == len(parts):
                return Reference(other, other.tree, other.top)
            if parts[cut] in other.top.names:
                return self._bound(other, parts[cut], 1 << 30, other.top, depth - 1)
        return None

    def _file(self, folder: str, parts: list[str]) -> str | None:
        base = "/".join([*([folder] if folder else []), *parts])
        names = (f"{base}.py", f"{base}/__init__.py") if parts else (f"{base}/__init__.py",)
        return next((name for name in names if name in self._paths), None)


def _folders(file: str, path: str) -> Iterator[str]:
    """Yield the folders that an import may start from, the nearest first."""
    parts = file.split("/")[:-1]
    level = len(path) - len(path.lstrip("."))
    if level:
        yield "/".join(parts[: len(parts) - level + 1])
        return
    for length in range(len(parts), -1, -1):
        yield "/".join(parts[:length])
