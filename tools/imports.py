"""Check that every third-party library is imported only by the rooms that may, lazily or not.

The layers among our own modules are contracts of import-linter in ``pyproject.toml``. They cannot tell
``opentelemetry.proto`` from ``opentelemetry.trace``, and they know no list of every library; this table does. A
library that is not in it may not be imported at all.
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
    "opentelemetry": ("enforcement", "evidence.otlp_writing", "integrations", "testing.rehearsal"),
    "opentelemetry.proto": ("enforcement.grpc_receiver", "evidence"),
    "orjson": ("canonical", "evidence", "enforcement", "audit"),
    "packaging": ("cli.doctor_packages",),
    "pkcs11": ("integrations.pkcs11",),
    # Where data from outside enters. Tools declare their arguments as models, which are read by pydantic's own words.
    "pydantic": ("identity.trust_file", "enforcement.objects", "integrations"),
    "pydantic_core": ("authority.forms",),  # The type of its time zones, which arguments have.
    "pytest": ("pytest_plugin",),
    "requests": ("integrations.requests",),
    "rfc3161_client": ("integrations.rfc3161",),
    # Each store by the one module that speaks to it.
    "psycopg": ("authority.postgres_state", "authority.postgres_connection"),
    "redis": ("authority.redis_state",),
    "wrapt": ("integrations",),
    "yaml": ("policy.yaml_source",),
    "zstandard": ("evidence",),
}


def _imported(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            # `from opentelemetry import trace` imports a module; for the table both spellings are one.
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def _within(module: str, prefix: str) -> bool:
    return module == prefix or module.startswith(f"{prefix}.")


def _library(imported: str) -> str | None:
    """Return the entry of the table for an import, or ``None`` for our own and the standard library."""
    top = imported.partition(".")[0]
    if top == PACKAGE or top in sys.stdlib_module_names:
        return None
    return max((library for library in IMPORTERS if _within(imported, library)), key=len, default=top)


def main(package: Path) -> int:
    """Print every import that the table does not allow; return the exit status."""
    wrong: list[str] = []
    for path in sorted(package.rglob("*.py")):
        module = ".".join(path.relative_to(package).with_suffix("").parts).removesuffix(".__init__")
        for line, imported in _imported(ast.parse(path.read_text(encoding="utf-8"))):
            library = _library(imported)
            if library and not any(_within(module, room) for room in IMPORTERS.get(library, ())):
                allowed = ", ".join(IMPORTERS.get(library, ())) or "nobody; tools/imports.py has the table"
                wrong.append(f"{path.relative_to(package.parent)}:{line}: {library} may be imported by {allowed}")
    print("\n".join(wrong) or f"third-party imports: {len(IMPORTERS)} libraries, each only where it may be")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(Path(__file__).resolve().parents[1] / PACKAGE))
