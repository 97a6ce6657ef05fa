"""Check that every third-party library is imported only by the rooms that may, and leaves by nothing in the core.

The layers among our own modules are contracts of import-linter in ``pyproject.toml``. They cannot tell
``opentelemetry.proto`` from ``opentelemetry.trace``, and they know no list of every library; this table does. A
library that is not in it may not be imported at all. A second table names what few users need: whoever does
without it does not load it.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

PACKAGE = "agent_identity"

# Library → the modules, and with them everything below them, that may import it. The longest prefix decides.
IMPORTERS: dict[str, tuple[str, ...]] = {
    # Time-stamps come with certificates, and their library takes them as objects of this one.
    "cryptography": ("identity", "integrations.rfc3161"),
    "duckdb": ("audit.tables",),
    "grpc": ("enforcement.grpc_receiver",),
    "google.protobuf": ("evidence",),
    "httpx": ("integrations.httpx",),
    "joserfc": ("identity.jwks",),
    "langchain": ("integrations.langchain",),
    "langchain_core": ("integrations.langchain", "integrations.langchain_instrumentor", "integrations.mcp.langchain"),
    "langgraph": ("integrations.langchain",),
    "langchain_mcp_adapters": ("integrations.mcp.langchain",),
    "mcp": ("integrations.mcp",),
    "msgspec": ("evidence", "identity.trust_file"),
    "opentelemetry": ("enforcement", "evidence.otlp_writing", "integrations", "testing.rehearsal"),
    "opentelemetry.proto": ("enforcement.grpc_receiver", "evidence"),
    "orjson": ("canonical", "evidence", "enforcement", "audit"),
    "packaging": ("cli.operate.doctor_packages",),
    "pkcs11": ("integrations.pkcs11",),
    # Where data from outside enters. Tools declare their arguments as models, which are read by pydantic's own words.
    "pydantic": ("enforcement.objects", "integrations"),
    "pydantic_core": ("authority.forms",),  # The type of its time zones, which arguments have.
    "pytest": ("pytest_plugin",),
    "requests": ("integrations.requests",),
    "rfc3161_client": ("integrations.rfc3161",),
    # Each store by the one module that speaks to it.
    "psycopg": ("authority.postgres_state", "authority.postgres_connection"),
    "redis": ("authority.redis_state",),
    # Only for type checkers, which know it without its being installed.
    "typing_extensions": ("enforcement", "identity", "integrations", "policy"),
    "wrapt": ("integrations",),
    "yaml": ("policy.yaml_source",),
    "zstandard": ("evidence",),
}

# Leaf → who may import it. Leaves and doors, which are what users name when they want a leaf, import it as they like;
# every other module only in a function, when it is asked for, or for type checkers.
LEAVES: dict[str, tuple[str, ...]] = {
    "audit.interop": ("cli.verify.export",),
    "audit.tables": ("cli.verify.export",),
    "authority.downstream": ("enforcement.task", "enforcement.task_tokens", "tokens"),
    "authority.exchange": ("enforcement.token_exchange", "enforcement.transport"),
    "authority.jwts": (
        "authority.downstream",
        "enforcement.local_tokens",
        "enforcement.token_exchange",
        "enforcement.transport",
        "enforcement.witnesses",
    ),
    "authority.postgres_connection": ("authority.postgres_state",),
    "authority.postgres_state": ("cli.control.opened", "state"),
    "authority.redis_state": ("cli.control.opened", "state"),
    "enforcement.exporting": ("cli.operate.replay", "enforcement.enforcer", "enforcement.parts"),
    "enforcement.grpc_receiver": ("enforcement.exporting",),
    "enforcement.http_receiver": ("enforcement.exporting", "enforcement.grpc_receiver"),
    "enforcement.local_tokens": ("enforcement.token_exchange", "tokens"),
    "enforcement.receivers": ("cli.operate.replay", "enforcement"),
    "enforcement.shipping": ("cli.operate.replay", "enforcement.exporting"),
    "enforcement.task_tokens": ("enforcement.tasks",),
    "enforcement.token_exchange": ("tokens",),
    "enforcement.transport": ("enforcement", "integrations.rfc3161", "tokens"),
    "enforcement.witnesses": ("enforcement.publication",),
    "evidence.otlp_writing": ("enforcement.grpc_receiver", "enforcement.http_receiver"),
    "evidence.retention": ("cli.operate.archive",),
    "evidence.witness": ("cli.trust.witness", "evidence.witnessing"),
    "evidence.witnessing": ("cli.operate.doctor_directory", "enforcement.witnesses"),
    "identity.ml_dsa": (
        "cli.trust.keys",
        "cli.trust.witness",
        "enforcement.second_key",
        "evidence.cosignatures",
        "identity.cosigners",
        "identity.trust",
        "identity.trust_file",
    ),
    "integrations.pkcs11": (),
    "integrations.rfc3161": ("cli.trust.anchor", "cli.verify.verify"),
    "integrations.securesystemslib": (),
    "integrations.spark": (),
}
DOORS = ("cli", "state", "tokens")


def _imported(tree: ast.Module) -> Iterator[tuple[int, str, bool]]:
    """Yield line and name of what a module imports, and whether it does so at once."""
    later = {id(node) for part in ast.walk(tree) if _is_later(part) for node in ast.walk(part)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name, id(node) not in later) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            # `from opentelemetry import trace` imports a module; for the table both spellings are one.
            yield from ((node.lineno, f"{node.module}.{alias.name}", id(node) not in later) for alias in node.names)


def _is_later(part: ast.AST) -> bool:
    if isinstance(part, ast.If):
        return isinstance(part.test, ast.Name) and part.test.id == "TYPE_CHECKING"
    return isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef)


def _within(module: str, prefix: str) -> bool:
    return module == prefix or module.startswith(f"{prefix}.")


def _library(imported: str) -> str | None:
    """Return the entry of the table for an import, or ``None`` for our own and the standard library."""
    top = imported.partition(".")[0]
    if top == PACKAGE or top in sys.stdlib_module_names:
        return None
    return max((library for library in IMPORTERS if _within(imported, library)), key=len, default=top)


def _leaf(name: str) -> str | None:
    return next((leaf for leaf in LEAVES if _within(name, leaf)), None)


def _misses(module: str, imported: str, *, at_once: bool) -> str | None:
    """Return what is wrong with an import of ours: of a leaf by others than may, or before somebody asked for it."""
    leaf = _leaf(imported.removeprefix(f"{PACKAGE}."))
    if leaf is None or not imported.startswith(f"{PACKAGE}."):
        return None
    if not any(_within(module, user) for user in (leaf, *LEAVES[leaf])):
        return f"{leaf} is a leaf; {', '.join(LEAVES[leaf]) or 'only its users'} may import it"
    if at_once and _leaf(module) is None and not any(_within(module, door) for door in DOORS):
        return f"{leaf} is a leaf; import it in the function that needs it"
    return None


def main(package: Path) -> int:
    """Print every import that the table does not allow; return the exit status."""
    wrong: list[str] = []
    for path in sorted(package.rglob("*.py")):
        module = ".".join(path.relative_to(package).with_suffix("").parts).removesuffix(".__init__")
        for line, imported, at_once in _imported(ast.parse(path.read_text(encoding="utf-8"))):
            if (problem := _misses(module, imported, at_once=at_once)) is not None:
                wrong.append(f"{path.relative_to(package.parent)}:{line}: {problem}")
            library = _library(imported)
            if library and not any(_within(module, room) for room in IMPORTERS.get(library, ())):
                allowed = ", ".join(IMPORTERS.get(library, ())) or "nobody; tools/imports.py has the table"
                wrong.append(f"{path.relative_to(package.parent)}:{line}: {library} may be imported by {allowed}")
    print(
        "\n".join(wrong)
        or f"third-party imports: {len(IMPORTERS)} libraries, each only where it may be; "
        f"{len(LEAVES)} leaves, none loaded by the core"
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(Path(__file__).resolve().parents[1] / PACKAGE))
