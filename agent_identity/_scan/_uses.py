"""Reads lists of tools and agents that code passes to a framework."""

import ast
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple, TypeAlias

from agent_identity._scan._arguments import Arguments, argument, called_name, literal
from agent_identity._scan._constructs import Construct, matching, method_of, packages_of
from agent_identity._scan._names import FUNCTIONS, Function, Module, Reference, Tree
from agent_identity._scan.results import NameSource

__all__ = ["At", "Lists", "Used", "decorator_of", "row_of"]

At: TypeAlias = tuple[Module, ast.expr]
"""An expression and the file that it is in."""

_STEPS: Final = 20_000
_DEPTH: Final = 5


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
