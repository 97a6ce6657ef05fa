"""Check what folders show, and write the public modules that gather names.

A module or folder whose name begins with an underscore is imported only from its own folder. So the listing of a
folder is its face: what has no underscore is what others import, and what nobody else imports has one. The public
modules (``identity``, ``policy``, …) list their names in ``__all__`` by hand; their imports are written from that.

Run as ``python tools/faces.py`` to write them, with ``--check`` to learn whether all is as it should be (exit 1 if
not).
"""

import ast
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

PACKAGE = "agent_identity"
WIDTH = 120
PUBLIC = {
    "adapters": (
        *(
            "_common.typed_calls",
            "_authority.stores.forks",
            "_directory.adapting",
            "_directory.inventory.pinned_servers",
        ),
        *("_guard.calls", "_guard.common", "_guard.judging", "_guard.lifecycle", "_guard.sessions"),
        *("_guard.tasks", "_identity.common"),
    ),
    "approvals": ("_guard.approvals", "_guard.calls"),
    "answers": ("_reports.answers", "_reports.controls", "_reports.overview"),
    "audit": ("_ledger.transparency.timestamp_folder", "_reports.export", "_reports.timelines", "_verify"),
    "delegation": ("_guard.sessions", "_guard.tasks"),
    "identity": ("_identity", "_authority.registries.agents", "_directory.agents_file"),
    "inspection": ("_flow", "_inspection"),
    "options": (
        *("_directory.options", "_flow.declaration", "_guard.judging.tool_flow", "_guard.lifecycle"),
        *("_ledger", "_policy.decision.resources", "_record"),
    ),
    "policy": ("_policy",),
    "records": ("_ledger.recorded", "_record"),
    "state": ("_authority.stores",),
    "telemetry": ("_directory.telemetry",),
    "tokens": ("_authority.tokens", "_directory.tokens", "_guard.common.http_transport", "_identity.keys"),
}
"""Public modules that gather names, and the folders in which these are defined."""


def _module_of(path: Path, root: Path) -> str:
    name = ".".join(path.relative_to(root).with_suffix("").parts)
    return name.removesuffix(".__init__")


def _defined(tree: ast.Module) -> set[str]:
    """Return the names that a module defines itself."""
    names: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            targets = (inner for target in node.targets for inner in ast.walk(target))
            names.update(target.id for target in targets if isinstance(target, ast.Name))
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
    return names


class Package:
    """Every module of the package, and the imports of its own modules."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.paths = {_module_of(path, root): path for path in sorted((root / PACKAGE).rglob("*.py"))}
        self.trees = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in self.paths.items()}

    def home(self, name: str, among: list[str]) -> str:
        """Return the one module that defines a name.

        Raises:
            LookupError: None does, or several do.
        """
        homes = [module for module in among if name in _defined(self.trees[module])]
        if len(homes) != 1:
            raise LookupError(f"{name} is defined by {homes or 'none'} where one should; rename it")
        return homes[0]

    def imports(self) -> Iterator[tuple[str, int, str]]:
        """Yield the importer, the line and the imported module of each import inside the package."""
        for module, tree in self.trees.items():
            for node in ast.walk(tree):
                if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == PACKAGE:
                    for alias in node.names:
                        full = f"{node.module}.{alias.name}"
                        yield module, node.lineno, full if full in self.trees else (node.module or "")

    def folder(self, module: str) -> str:
        """Return the folder that a module lies in; a package lies in itself."""
        return module if self.paths[module].name == "__init__.py" else module.rpartition(".")[0]


def trespasses(package: Package) -> Iterator[str]:
    """Yield every import from another folder of a module, or of a folder, that has an underscore."""
    for module, line, imported in package.imports():
        folder = package.folder(module)
        parts = imported.split(".")
        for depth in range(1, len(parts)):
            owner = ".".join(parts[:depth])
            if parts[depth].startswith("_") and not f"{folder}.".startswith(f"{owner}."):
                where = f"{package.paths[module].relative_to(package.root)}:{line}"
                yield f"{where}: imports {imported}, which only {owner} may; take the underscore away"
    for module, tree in package.trees.items():
        for node in ast.walk(tree):
            if _is_hidden(node):
                place = f"{package.paths[module].relative_to(package.root)}:{getattr(node, 'lineno', 0)}"
                yield f"{place}: an import that this check cannot follow; write from {PACKAGE}.MODULE import NAME"


def unused(package: Package) -> Iterator[str]:
    """Yield every module in a room that only its own folder imports, and that has no underscore."""
    outside = {imported for module, _, imported in package.imports() if _parent(imported) != package.folder(module)}
    for module, path in package.paths.items():
        room, name = module.split(".")[1:2], module.rpartition(".")[2]
        inner = bool(room) and room[0].startswith("_") and module.count(".") > 1 and path.name != "__init__.py"
        if inner and not name.startswith("_") and module not in outside:
            yield f"{path.relative_to(package.root)}: only its own folder imports it; begin its name with an underscore"


def _parent(module: str) -> str:
    return module.rpartition(".")[0]


def _is_hidden(node: ast.AST) -> bool:
    """Return whether a module of ours is imported as a whole, by a relative path, or with all its names."""
    if isinstance(node, ast.Import):
        return any(alias.name.startswith(f"{PACKAGE}.") for alias in node.names)
    ours = isinstance(node, ast.ImportFrom) and (node.level or (node.module or "").partition(".")[0] == PACKAGE)
    return bool(ours) and isinstance(node, ast.ImportFrom) and (bool(node.level) or node.names[0].name == "*")


def _literal(names: list[str], indent: str) -> str:
    """Return a tuple of texts as the formatter writes it."""
    one = f"({', '.join(repr(name).replace(chr(39), chr(34)) for name in names)}{',' if len(names) == 1 else ''})"
    if len(indent) + len(one) <= WIDTH:
        return one
    return "(\n" + "".join(f'{indent}    "{name}",\n' for name in names) + f"{indent})"


def _order(names: list[str]) -> list[str]:
    """Return names in the order of the linter: constants, classes, then the rest."""
    return sorted(names, key=lambda name: (_rank(name), name))


def _rank(name: str) -> int:
    return 0 if name.isupper() else 1 if name[0].isupper() else 2


def _text(docstring: str, homes: Mapping[str, list[str]]) -> str:
    """Return the source of a public module from the modules that define its names."""
    lines = [f'"""{docstring}"""', "", "from typing import TYPE_CHECKING", "", "if TYPE_CHECKING:"]
    for module in sorted(homes):
        names = sorted(_order(homes[module]), key=lambda name: (_rank(name), name.lower()))
        one = f"    from {module} import {', '.join(names)}"
        if len(one) <= WIDTH:
            lines.append(one)
        else:
            lines += [f"    from {module} import (", *(f"        {name}," for name in names), "    )"]
    lines += ["else:", f"    from {PACKAGE}._common.lazy import lazily", "", "    __getattr__, __dir__ = lazily("]
    lines += ["        __name__,", "        {"]
    for module in sorted(homes):
        start = f'            "{module}": '
        literal = _literal(_order(homes[module]), " " * 12)
        if "\n" not in literal and len(start) + len(literal) + 1 > WIDTH:
            literal = (
                "(\n" + "".join(f'                "{name}",\n' for name in _order(homes[module])) + "            )"
            )
        lines.append(f"{start}{literal},")
    lines += ["        },", "    )", "", "__all__ = ["]
    lines += [f'    "{name}",' for name in _order([name for names in homes.values() for name in names])]
    lines.append("]")
    return "\n".join(lines) + "\n"


def _public_names(tree: ast.Module) -> set[str]:
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.List):
            return {str(ast.literal_eval(each)) for each in node.value.elts}
    return set()


def texts(package: Package) -> Iterator[tuple[Path, str]]:
    """Yield the path and the source of each public module that gathers names.

    Raises:
        LookupError: A name is defined by no module or by several.
    """
    for name, folders in PUBLIC.items():
        places = tuple(f"{PACKAGE}.{folder}" for folder in folders)
        inner = [
            module
            for module, path in package.paths.items()
            if any(module == place or module.startswith(f"{place}.") for place in places) and path.stem != "__init__"
        ]
        module = f"{PACKAGE}.{name}"
        homes: dict[str, list[str]] = defaultdict(list)
        for public in sorted(_public_names(package.trees[module])):
            homes[package.home(public, inner)].append(public)
        yield package.paths[module], _text(ast.get_docstring(package.trees[module], clean=False) or "", homes)


def main(root: Path, *, check: bool) -> int:
    """Write the public modules, or tell what is not as it should be; return the exit status."""
    package = Package(root)
    wrong = [(path, text) for path, text in texts(package) if path.read_text(encoding="utf-8") != text]
    for path, text in wrong:
        if check:
            print(f"{path.relative_to(root)}: not the names of its __all__; run python tools/faces.py")
        else:
            path.write_text(text, encoding="utf-8")
    problems = [*trespasses(package), *unused(package)] if check else []
    print("\n".join(problems), end="\n" if problems else "")
    if check and not wrong and not problems:
        print(f"faces: {len(package.trees)} modules; those with an underscore are used in their own folder only")
    return 1 if check and (wrong or problems) else 0


if __name__ == "__main__":
    sys.exit(main(Path(__file__).resolve().parents[1], check="--check" in sys.argv[1:]))
