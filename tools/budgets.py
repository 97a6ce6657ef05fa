"""Check the size budgets of the package, so that every file and function stays readable at one sitting.

Run as ``python tools/budgets.py [PACKAGE]``; the exit status is 1 when a budget is exceeded. A function that
must exceed one says why on its ``def`` line, a file on its first line: ``# budget: <reason>``.
"""

import ast
import re
import sys
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FILE_LINES = 600
FUNCTION_LINES = 40
COMPLEXITY = 10
PARAMETERS = 6
CONSTRUCTOR_PARAMETERS = 16
ANY_PER_THOUSAND = 5
ROOT_NAMES = 24
PUBLIC_NAMES = 250
"""Names of the root, of all public modules, and of ``testing``, together."""

ERROR_CLASSES = 18

Function = ast.FunctionDef | ast.AsyncFunctionDef
_FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)
_DOCUMENTED = (ast.Module, ast.ClassDef, *_FUNCTION)
_BRANCHES = (ast.If, ast.IfExp, ast.For, ast.AsyncFor, ast.While, ast.ExceptHandler, ast.comprehension, ast.match_case)
_NO_CODE = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
_WAIVER = re.compile(r"#\s*budget:\s*\S")
_ANY = re.compile(r"(?<![\w.])(?:typing\.|t\.)?Any\b")
_TESTING = "testing/__init__.py"
_HOOKS = frozenset({"pytest_plugin.py"})  # Its names are for pytest alone.
_PUBLIC_MAGIC = {"__init__", "__new__", "__call__", "__enter__", "__aenter__"}


@dataclass(frozen=True, slots=True)
class Measure:
    """One measured number, the budget it has, and the place it was measured at."""

    budget: str
    value: float
    limit: float
    place: str
    waived: bool = False

    @property
    def exceeded(self) -> bool:
        """Whether the number is over its budget without a waiver."""
        return self.value > self.limit and not self.waived


class Source:
    """One parsed file and the numbers of its lines that hold code."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.text = path.read_text(encoding="utf-8")
        self.tree = ast.parse(self.text)
        self.lines = self.text.splitlines()
        self.code = self._code()

    def _code(self) -> set[int]:
        with self.path.open("rb") as stream:
            tokens = list(tokenize.tokenize(stream.readline))[1:]
        code = {n for t in tokens if t.type not in _NO_CODE for n in range(t.start[0], t.end[0] + 1)}
        for node in ast.walk(self.tree):
            if isinstance(node, _DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
                code -= set(_span(node.body[0]))
        return code

    def waived(self, first: int, last: int) -> bool:
        """Return whether one of these lines carries a waiver with a reason."""
        return any(_WAIVER.search(line) for line in self.lines[first - 1 : last])


def _span(node: ast.stmt) -> range:
    return range(node.lineno, (node.end_lineno or node.lineno) + 1)


def _measures(source: Source, package: Path) -> Iterator[Measure]:
    place = source.path.relative_to(package.parent).as_posix()
    yield Measure("code lines of a file", len(source.code), FILE_LINES, place, source.waived(1, 1))
    for function, public, method in _functions(source.tree, public=not source.path.stem.startswith("_")):
        where = f"{place}:{function.lineno} {function.name}"
        waived = source.waived(function.lineno, max(function.lineno, function.body[0].lineno - 1))
        lines = len(source.code & set(_span(function)))
        yield Measure("code lines of a function", lines, FUNCTION_LINES, where, waived)
        yield Measure("cyclomatic complexity", _complexity(function), COMPLEXITY, where, waived)
        yield Measure("positional parameters", _positional(function, method=method), PARAMETERS, where, waived)
        if public:
            yield Measure("Any in a public signature", _any_in_signature(function), 0, where, waived)
    for name, line, parameters in _constructors(source.tree):
        where = f"{place}:{line} {name}"  # Without a waiver: a longer one is grouped into option objects.
        yield Measure("parameters of a public constructor", parameters, CONSTRUCTOR_PARAMETERS, where)


def _functions(node: ast.AST, *, public: bool, method: bool = False) -> Iterator[tuple[Function, bool, bool]]:
    """Yield every function with whether it is public and whether it is a method; nested ones are private."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, _FUNCTION):
            named = not child.name.startswith("_") or child.name in _PUBLIC_MAGIC
            yield child, public and named, method
            yield from _functions(child, public=False)
        elif isinstance(child, ast.ClassDef):
            yield from _functions(child, public=public and not child.name.startswith("_"), method=True)
        else:
            yield from _functions(child, public=public, method=method)


def _constructors(tree: ast.Module) -> Iterator[tuple[str, int, int]]:
    """Yield the name, line and number of parameters of whatever makes an object of a public class.

    Of dataclasses those count that are made by keywords; the fields of others are there to be read.
    """
    for made in (node for node in tree.body if isinstance(node, ast.ClassDef) and not node.name.startswith("_")):
        if any("dataclass" in text and "kw_only=True" in text for text in map(ast.unparse, made.decorator_list)):
            fields = [node for node in made.body if isinstance(node, ast.AnnAssign) and _is_field(node)]
            yield made.name, made.lineno, len(fields)
        for function in (node for node in made.body if isinstance(node, _FUNCTION)):
            if function.name in ("__init__", "__new__") or _makes(function, made.name):
                given = function.args
                parameters = [*given.posonlyargs, *given.args, *given.kwonlyargs]
                yield f"{made.name}.{function.name}", function.lineno, len(parameters) - 1


def _makes(function: Function, name: str) -> bool:
    """Return whether a class method returns an object of its class."""
    is_of_class = any(isinstance(one, ast.Name) and one.id == "classmethod" for one in function.decorator_list)
    returned = "" if function.returns is None else ast.unparse(function.returns).strip("'\"")
    return is_of_class and not function.name.startswith("_") and returned in ("Self", name)


def _is_field(node: ast.AnnAssign) -> bool:
    left_out = node.value is not None and "init=False" in ast.unparse(node.value)
    return not left_out and "ClassVar" not in ast.unparse(node.annotation)


def _complexity(node: ast.AST) -> int:
    return 1 + sum(isinstance(child, _BRANCHES) for child in _within(node))


def _within(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, (*_FUNCTION, ast.ClassDef)):
            yield child
            yield from _within(child)


def _positional(function: Function, *, method: bool) -> int:
    static = any(isinstance(d, ast.Name) and d.id == "staticmethod" for d in function.decorator_list)
    count = len(function.args.posonlyargs) + len(function.args.args)
    return count - (1 if method and not static else 0)


def _any_in_signature(function: Function) -> int:
    arguments = function.args
    slots = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
    annotations = [slot.annotation for slot in slots if slot is not None] + [function.returns]
    return sum(len(_ANY.findall(ast.unparse(annotation))) for annotation in annotations if annotation is not None)


def _surface(package: Path, sources: list[Source]) -> Iterator[Measure]:
    code = sum(len(source.code) for source in sources)
    names = sum(_any_names(source) for source in sources)
    yield Measure("Any per 1,000 code lines", round(1000 * names / max(code, 1), 1), ANY_PER_THOUSAND, package.name)
    root = next(source for source in sources if source.path == package / "__init__.py")
    yield Measure("names at the root", len(_exported(root.tree)), ROOT_NAMES, f"{package.name}/__init__.py")
    faces = [s for s in sources if s.path.parent == package and s.path.name not in _HOOKS]
    faces += [s for s in sources if s.path == package / _TESTING]
    yield Measure("names of public modules", sum(len(_exported(s.tree)) for s in faces), PUBLIC_NAMES, package.name)
    errors = next(source for source in sources if source.path == package / "errors.py")
    classes = sum(isinstance(node, ast.ClassDef) for node in errors.tree.body)
    yield Measure("classes of errors", classes, ERROR_CLASSES, f"{package.name}/errors.py")


def _any_names(source: Source) -> int:
    code = [line for number, line in enumerate(source.lines, 1) if number in source.code]
    return sum(len(_ANY.findall(line)) for line in code if "import " not in line)


def _exported(tree: ast.Module) -> list[str]:
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        value = getattr(node, "value", None)
        if any(isinstance(t, ast.Name) and t.id == "__all__" for t in targets) and isinstance(
            value, ast.List | ast.Tuple
        ):
            return [e.value for e in value.elts if isinstance(e, ast.Constant) and isinstance(e.value, str)]
    return []


def main(package: Path) -> int:
    """Print the highest number of each budget and every excess; return the exit status."""
    sources = [Source(path) for path in sorted(package.rglob("*.py"))]
    measures = [m for source in sources for m in _measures(source, package)] + list(_surface(package, sources))
    print(f"{'budget':<36}{'highest':>8}{'limit':>7}  where")
    for budget in dict.fromkeys(m.budget for m in measures):
        worst = max((m for m in measures if m.budget == budget), key=lambda m: (m.exceeded, not m.waived, m.value))
        print(f"{budget:<36}{worst.value:>8g}{worst.limit:>7g}  {worst.place if worst.value else ''}")
    waived = [m for m in measures if m.waived and m.value > m.limit]
    exceeded = [m for m in measures if m.exceeded]
    for label, found in (("waived", waived), ("over budget", exceeded)):
        for m in found:
            print(f"{label}: {m.place}: {m.value:g} {m.budget}, the limit is {m.limit:g}")
    return 1 if exceeded else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else "agent_identity").resolve()))
