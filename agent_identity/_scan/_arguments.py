"""Reads literals and names out of expressions; everything else is dynamic."""

import ast
from collections.abc import Iterator, Sequence
from typing import Final

from agent_identity._scan._constructs import Construct
from agent_identity._scan._names import FUNCTIONS, Module, Tree
from agent_identity._scan._redaction import label
from agent_identity._scan.results import NameSource

_DEPTH: Final = 6
_PARTS: Final = 64
_LONGEST: Final = 8_192
_CARRIERS: Final = (ast.Await, ast.Starred, ast.IfExp, ast.Tuple, ast.withitem, ast.BoolOp)


def argument(call: ast.Call, spec: str | int) -> ast.expr | None:
    """Return an argument of a call by keyword or position."""
    if isinstance(spec, int):
        plain = spec < len(call.args) and not any(isinstance(one, ast.Starred) for one in call.args[: spec + 1])
        return call.args[spec] if plain else None
    return next((keyword.value for keyword in call.keywords if keyword.arg == spec), None)


def literal(tree: Tree, module: Module, node: ast.AST | None, depth: int = _DEPTH) -> str | None:
    """Return the text of an expression that is a literal, or a name of one; ``None`` if it is dynamic."""
    text: str | None = None
    if node is None or depth <= 0:
        return text
    match node:
        case ast.Constant(value=str() as constant):
            text = constant
        case ast.JoinedStr():
            text = _together(tree, module, node.values, depth)
        case ast.FormattedValue():
            text = literal(tree, module, node.value, depth - 1)
        case ast.BinOp(op=ast.Add()):
            text = _together(tree, module, [node.left, node.right], depth)
        case ast.Name() | ast.Attribute():
            found = tree.resolve(module, node)
            if found.node is not None and not isinstance(found.node, ast.Name | ast.Attribute | ast.arg):
                text = literal(tree, found.module, found.node, depth - 1)
        case _:
            pass
    return text


def _together(tree: Tree, module: Module, nodes: Sequence[ast.expr], depth: int) -> str | None:
    """Return the parts of a text as one; a long one is dynamic, so that texts of texts stay small."""
    parts: list[str] = []
    for node in nodes[:_PARTS]:
        part = literal(tree, module, node, depth - 1)
        if part is None:
            return None
        parts.append(part)
        if sum(map(len, parts)) > _LONGEST:
            return None
    return "".join(parts)


def variable_of(module: Module, node: ast.AST) -> str:
    """Return the variable, key, or function that an expression gives its value to."""
    at: ast.AST | None = module.parents.get(node)
    inner = node
    while isinstance(at, _CARRIERS) and not (isinstance(at, ast.withitem) and at.optional_vars is not None):
        inner, at = at, module.parents.get(at)
    match at:
        case ast.Assign(targets=[target, *_]):
            return _target(target)
        case ast.AnnAssign() | ast.NamedExpr():
            return _target(at.target)
        case ast.withitem(optional_vars=ast.expr() as target):
            return _target(target)
        case ast.Dict():
            keys = [key for key, value in zip(at.keys, at.values, strict=True) if value is inner]
            return (
                keys[0].value if keys and isinstance(keys[0], ast.Constant) and isinstance(keys[0].value, str) else ""
            )
        case ast.Return():
            return _function(module, at)
        case _:
            return ""


def _target(node: ast.expr) -> str:
    if isinstance(node, ast.Name):
        return node.id
    return node.attr if isinstance(node, ast.Attribute) else ""


def _function(module: Module, node: ast.AST) -> str:
    at: ast.AST | None = node
    while at is not None and not isinstance(at, FUNCTIONS):
        at = module.parents.get(at)
    return at.name if isinstance(at, FUNCTIONS) else ""


def called_name(call: ast.Call) -> str:
    """Return the last name of what a call calls."""
    of = call.func.value if isinstance(call.func, ast.Subscript) else call.func
    return _target(of)


class Arguments:
    """The arguments of one call, as a row of the table names them.

    Args:
        tree: Resolves names.
        module: The file of the call.
        call: The call.
        row: The row for it.
    """

    def __init__(self, tree: Tree, module: Module, call: ast.Call, row: Construct) -> None:
        self._tree = tree
        self._module = module
        self._call = call
        self._row = row

    def first(self, specs: Sequence[str | int]) -> ast.expr | None:
        """Return the first of the arguments that is there."""
        found = (argument(self._call, spec) for spec in specs)
        return next((node for node in found if node is not None), None)

    def name(self) -> tuple[str, NameSource]:
        """Return the name of the declared part, and where it comes from."""
        stated, dynamic = self.stated()
        if stated:
            return stated, "literal"
        variable = label(variable_of(self._module, self._call))
        return variable, "dynamic" if dynamic or not variable else "variable"

    def stated(self) -> tuple[str, bool]:
        """Return the name that the arguments give, and whether they give one that only running code knows."""
        dynamic = False
        for spec in self._row.name:
            if dynamic and isinstance(spec, str) and ":" in spec:
                break  # The argument that names it decides, not the function.
            text, unknown = self._by(spec)
            if text:
                return label(text), False
            dynamic = dynamic or unknown
        return "", dynamic

    def _by(self, spec: str | int) -> tuple[str, bool]:
        """Return the name that one rule gives, and whether there is one that only running code knows."""
        if spec == "class":
            return called_name(self._call), False
        if spec == "key":
            return variable_of(self._module, self._call), False
        if isinstance(spec, str) and ":" in spec:
            return self._referenced(spec), False
        node = argument(self._call, spec)
        text = literal(self._tree, self._module, node)
        if text is None and spec == "config" and isinstance(node, ast.Subscript):
            text = literal(self._tree, self._module, node.slice)
        return text or "", isinstance(spec, str) and node is not None and text is None

    def _referenced(self, spec: str) -> str:
        """Return the name of the function or agent that an argument refers to."""
        _, _, place = spec.partition(":")
        outer = self._module.parents.get(self._call) if place == "result" else self._call
        if not isinstance(outer, ast.Call) or (place == "result" and outer.func is not self._call):
            return ""
        node = argument(outer, 0 if place == "result" else int(place) if place.isdigit() else place)
        if node is None or isinstance(node, ast.Constant | ast.Lambda):
            return ""
        found = self._tree.resolve(self._module, node)
        if isinstance(found.node, FUNCTIONS):
            return found.node.name
        if isinstance(found.node, ast.Call):
            named = literal(self._tree, found.module, argument(found.node, "name"))
            return named or _target(node)
        return _target(node) or found.path.rpartition(".")[2]


def texts(call: ast.AST, names: frozenset[str]) -> Iterator[tuple[str, ast.expr]]:
    """Yield keywords and dict members of these names, anywhere inside an expression."""
    for node in ast.walk(call):
        if isinstance(node, ast.Call):
            yield from ((one.arg, one.value) for one in node.keywords if one.arg in names and one.arg)
        elif isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                if isinstance(key, ast.Constant) and isinstance(key.value, str) and key.value in names:
                    yield key.value, value
