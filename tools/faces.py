"""Write the faces of the rooms: the `__init__` of each folder inside them names what other folders import from it.

Run as ``python tools/faces.py`` to write them, with ``--check`` to learn whether they are as they should be (exit 1 if
not). The docstring of a face is written by hand and kept. A public module that gathers names of several folders
(``identity``, ``policy``, …) lists them in ``__all__`` by hand; its imports are written from that.
"""

import ast
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

PACKAGE = "agent_identity"
WIDTH = 120
ROOMS = (
    *("_identity", "_constraints", "_flow", "_authority", "_policy", "_ledger"),
    *("_inspection", "_reports", "_guard"),
)
PUBLIC = {
    "answers": ("_reports.answers", "_reports.controls", "_reports.overview"),
    "audit": (
        *("_reports.export", "_verify.inputs", "_verify.ledger", "_verify.proofs"),
        *("_verify.report", "_reports.timelines", "_verify"),
    ),
    "delegation": ("_guard.sessions", "_guard.tasks"),
    "identity": ("_identity", "_authority.registries.agents", "_directory.agents_file"),
    "options": ("_directory", "_guard.lifecycle", "_ledger", "_record"),
    "policy": ("_policy",),
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
    """Every module of the package, what it defines, and what it imports from folders."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.trees = {
            _module_of(path, root): ast.parse(path.read_text(encoding="utf-8"))
            for path in sorted((root / PACKAGE).rglob("*.py"))
        }
        self.paths = {_module_of(path, root): path for path in sorted((root / PACKAGE).rglob("*.py"))}

    def faces(self) -> list[str]:
        """Return the folders inside rooms, and the rooms."""
        return [name for name, path in self.paths.items() if path.name == "__init__.py" and _room(name) in ROOMS]

    def modules(self, face: str) -> list[str]:
        """Return the modules that lie directly in the folder of a face."""
        return [
            name for name, path in self.paths.items() if name.rpartition(".")[0] == face and path.stem != "__init__"
        ]

    def users(self) -> dict[str, set[str]]:
        """Return for each face the names that modules outside its folder import from it."""
        names: dict[str, set[str]] = defaultdict(set)
        faces = set(self.faces())
        for module, tree in self.trees.items():
            if module in faces:
                continue
            folder = module.rpartition(".")[0]
            for node in ast.walk(tree):
                if isinstance(node, ast.ImportFrom) and node.module in faces and node.module != folder:
                    inner = (alias.name for alias in node.names)
                    names[node.module].update(name for name in inner if not self._is_module(f"{node.module}.{name}"))
        return names

    def _is_module(self, name: str) -> bool:
        """Return whether a name is that of a module, which a folder has without being told.

        Raises:
            LookupError: The module defines its own name, so that either might be meant.
        """
        if name in self.trees and name.rpartition(".")[2] in _defined(self.trees[name]):
            raise LookupError(f"{name} is a module and a name in it; rename the module")
        return name in self.trees

    def home(self, name: str, among: list[str]) -> str:
        """Return the one module that defines a name.

        Raises:
            LookupError: None does, or several do.
        """
        homes = [module for module in among if name in _defined(self.trees[module])]
        if len(homes) != 1:
            raise LookupError(f"{name} is defined by {homes or 'none'} where one should; rename it")
        return homes[0]


def _room(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


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
    """Return the source of a face from the modules that define its names."""
    if not homes:
        return f'"""{docstring}"""\n'
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


def _docstring(tree: ast.Module) -> str:
    return ast.get_docstring(tree, clean=False) or "To be written: one line that says what this folder is."


def _grouped(package: Package, names: set[str], among: list[str]) -> dict[str, list[str]]:
    homes: dict[str, list[str]] = defaultdict(list)
    for name in sorted(names):
        homes[package.home(name, among)].append(name)
    return homes


def _public_names(tree: ast.Module) -> set[str]:
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.List):
            return {str(ast.literal_eval(each)) for each in node.value.elts}
    return set()


def texts(root: Path) -> Iterator[tuple[Path, str]]:
    """Yield the path and the source of each face.

    Raises:
        LookupError: A name is defined by no module or by several.
    """
    package = Package(root)
    users = package.users()
    for face in package.faces():
        homes = _grouped(package, users.get(face, set()), package.modules(face))
        yield package.paths[face], _text(_docstring(package.trees[face]), homes)
    for name, folders in PUBLIC.items():
        places = tuple(f"{PACKAGE}.{folder}" for folder in folders)
        inner = [
            module for module, path in package.paths.items() if module.startswith(places) and path.stem != "__init__"
        ]
        tree = package.trees[f"{PACKAGE}.{name}"]
        yield package.paths[f"{PACKAGE}.{name}"], _text(_docstring(tree), _grouped(package, _public_names(tree), inner))


def trespasses(root: Path) -> Iterator[str]:
    """Yield every import of a module inside a folder by a module outside it, which should use the face."""
    package = Package(root)
    public = {f"{PACKAGE}.{name}" for name in PUBLIC}
    faces = set(package.faces())
    inside = {module for face in faces for module in package.modules(face)}
    for module, tree in package.trees.items():
        folder = module if module in faces else module.rpartition(".")[0]
        for node in ast.walk(tree):
            place = f"{package.paths[module].relative_to(root)}:{getattr(node, 'lineno', 0)}"
            if _is_hidden(node):
                yield f"{place}: an import that this check cannot follow; write from {PACKAGE}.FOLDER import NAME"
            if not isinstance(node, ast.ImportFrom) or node.module not in inside or module in public:
                continue
            if node.module.rpartition(".")[0] != folder:
                yield f"{place}: imports {node.module}, which is inside another folder; import from the folder"


def _is_hidden(node: ast.AST) -> bool:
    """Return whether a module of ours is imported as a whole, by a relative path, or with all its names."""
    if isinstance(node, ast.Import):
        return any(alias.name.startswith(f"{PACKAGE}.") for alias in node.names)
    ours = isinstance(node, ast.ImportFrom) and (node.level or (node.module or "").partition(".")[0] == PACKAGE)
    return bool(ours) and isinstance(node, ast.ImportFrom) and (bool(node.level) or node.names[0].name == "*")


def main(root: Path, *, check: bool) -> int:
    """Write the faces, or tell which are not as they should be; return the exit status."""
    wrong = [(path, text) for path, text in texts(root) if path.read_text(encoding="utf-8") != text]
    for path, text in wrong:
        if check:
            print(f"{path.relative_to(root)}: not the names that other folders import; run python tools/faces.py")
        else:
            path.write_text(text, encoding="utf-8")
    outside = list(trespasses(root)) if check else []
    print("\n".join(outside), end="\n" if outside else "")
    if check and not wrong and not outside:
        print(f"faces: every folder of {len(ROOMS)} rooms names exactly what others import from it")
    return 1 if check and (wrong or outside) else 0


if __name__ == "__main__":
    sys.exit(main(Path(__file__).resolve().parents[1], check="--check" in sys.argv[1:]))
