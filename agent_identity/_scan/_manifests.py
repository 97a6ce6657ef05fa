"""Finds frameworks in dependency manifests and lock files, and names of variables in ``.env`` files."""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Final, Literal, TypedDict, cast

from agent_identity._scan._documents import line_of, member, parse_document
from agent_identity._scan._redaction import label
from agent_identity._scan._tables import read_table
from agent_identity._scan.results import Item
from agent_identity.canonical import JSON

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


class _Packages(TypedDict):
    pypi: Mapping[str, str]
    npm: Mapping[str, str]
    environment: list[str]


@cache
def _packages() -> _Packages:
    return cast("_Packages", read_table("packages.json"))


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


_TABLES: Final[Mapping[str, Sequence[str]]] = {
    "package.json": ("dependencies", "devDependencies", "peerDependencies", "optionalDependencies"),
    "package-lock.json": ("packages", "dependencies"),
    "Pipfile": ("packages", "dev-packages"),
    "Pipfile.lock": ("default", "develop"),
}


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
