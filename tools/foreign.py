"""Check that nothing in the package looks at the private names or the source text of another library.

What begins with one underscore belongs to whoever defines it. A private name that a module uses must be defined in
that module, or in one of ours whose class it extends, or be one of those below; so must a private name in a text,
because ``getattr`` takes names as texts.
Whose object it is, this does not see: a name that the module gives to its own attributes as well passes.
"""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

PACKAGE = "agent_identity"

DOCUMENTED = frozenset({"_asdict", "_exit", "_field_defaults", "_fields", "_make", "_replace", "_value_"})
"""Names of the standard library that are public in spite of the underscore."""

DATA = frozenset({"_meta", "_ns", "_salt", "_type", "_typeshed", "_value"})
"""Members of JSON: of our records, of MCP, of in-toto statements, and how names of values end in OTLP."""

DOCTOR = ("cli/operate/doctor.py", "_guard/telemetry/diagnosis.py")
"""What advises people about their own process looks where it can, and decides nothing."""

ALLOWED: dict[str, dict[str, str]] = {
    "integrations/frameworks/crewai/protection.py": {
        "_arun": "what every tool of CrewAI may override",
        "_run": "what every tool of CrewAI has to override",
    },
    "integrations/langchain/wrapping.py": {
        "_arun": "what every tool of LangChain may override",
        "_run": "what every tool of LangChain has to override",
    },
    "integrations/mcp/server.py": {
        "_mcp_server": "middleware of fastmcp sees no message as it was sent, of which a proof speaks, and no other "
        "public name leads to the middleware of the SDK",
    },
}
"""By file, the private names of others that it uses, and why; what is not used any more must go."""

_PRIVATE = re.compile(r"_[A-Za-z0-9]\w*")
_SOURCE = frozenset({"getsource", "getsourcelines", "getsourcefile", "findsource", "getblock", "co_code", "__code__"})


def _is_private(name: str) -> bool:
    return _PRIVATE.fullmatch(name) is not None and name not in DOCUMENTED | DATA


def _defined(tree: ast.Module) -> set[str]:
    """Return the names that a module defines: functions, classes, variables, attributes of ``self``, slots."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and _is_self(node.value):
            found.add(node.attr)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == PACKAGE:
            found.update(alias.asname or alias.name for alias in node.names)
    return found


def _inherited(tree: ast.Module, package: Path) -> set[str]:
    """Return the names that modules of ours define whose classes this one extends."""
    classes = (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef))
    bases = {base.id for each in classes for base in each.bases if isinstance(base, ast.Name)}
    found: set[str] = set()
    for node in ast.walk(tree):
        if not isinstance(node, ast.ImportFrom):
            continue
        module = node.module or ""
        if module.startswith(f"{PACKAGE}.") and any((each.asname or each.name) in bases for each in node.names):
            path = package.joinpath(*module.split(".")[1:]).with_suffix(".py")
            if path.is_file():
                found |= _defined(ast.parse(path.read_text(encoding="utf-8")))
    return found


def _is_self(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id in {"self", "cls"}


def _used(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield the private names that a module uses, and the ways to source text."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            if _is_private(node.attr) or node.attr in _SOURCE:
                yield node.lineno, node.attr
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and _is_private(node.value):
            yield node.lineno, node.value
        elif isinstance(node, ast.JoinedStr):
            yield from ((node.lineno, name) for name in _composed(node))
        elif isinstance(node, ast.Import):
            yield from ((node.lineno, part) for alias in node.names for part in _private_parts(alias.name))
        elif isinstance(node, ast.ImportFrom) and not node.level and (node.module or "").partition(".")[0] != PACKAGE:
            names = (f"{node.module}.{alias.name}" for alias in node.names)
            yield from ((node.lineno, part) for name in names for part in _private_parts(name))


def _composed(node: ast.JoinedStr) -> Iterator[str]:
    """Yield what may begin or end a private name that is put together."""
    first = node.values[0] if node.values else None
    if isinstance(first, ast.Constant) and isinstance(first.value, str) and _PRIVATE.fullmatch(first.value):
        yield first.value


def _private_parts(name: str) -> Iterator[str]:
    return (part for part in name.split(".") if _is_private(part) or part in _SOURCE)


def main(package: Path) -> int:
    """Print every use that is not allowed, and every permission that nobody uses; return the exit status."""
    wrong: list[str] = []
    rooms = {path.name for path in package.iterdir() if path.is_dir()}
    for path in sorted(package.rglob("*.py")):
        name = path.relative_to(package).as_posix()
        if name in DOCTOR:
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        used, allowed = list(_used(tree)), ALLOWED.get(name, {})
        own = _defined(tree) | _inherited(tree, package) | rooms
        wrong += [
            f"{PACKAGE}/{name}:{line}: {each} belongs to another library, or is source text; use what it documents"
            for line, each in used
            if each not in own and each not in allowed
        ]
        wrong += [
            f"{PACKAGE}/{name}: {each} is allowed in tools/foreign.py, and not used"
            for each in allowed
            if each not in {found for _, found in used}
        ]
    missing = (name for name in ALLOWED if not (package / name).is_file())
    wrong += [f"{PACKAGE}/{name} is named in tools/foreign.py, and is not there" for name in missing]
    count = sum(map(len, ALLOWED.values()))
    print("\n".join(wrong) or f"private names of others: {count}, each with its reason in tools/foreign.py")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(Path(__file__).resolve().parents[1] / PACKAGE))
