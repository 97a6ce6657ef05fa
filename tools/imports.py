"""Check that every third-party library is imported only by the rooms that may, and leaves by nothing in the core.

The layers among our own modules are contracts of import-linter in ``pyproject.toml``. They cannot tell
``opentelemetry.proto`` from ``opentelemetry.trace``, and they know no list of every library; this table does. A
library that is not in it may not be imported at all. A second table names what few users need: whoever does
without it does not load it. Adapters import public modules only.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

PACKAGE = "agent_identity"

# Library → the modules, and with them everything below them, that may import it. The longest prefix decides.
IMPORTERS: dict[str, tuple[str, ...]] = {
    "a2a": ("integrations.frameworks.a2a",),
    "ada_url": ("_inspection.urls",),
    "agents": ("integrations.frameworks.openai_agents",),
    "claude_agent_sdk": ("integrations.frameworks.claude_agent",),
    "agent_framework": ("integrations.frameworks",),
    # Time-stamps come with certificates, and their library takes them as objects of this one.
    "cryptography": ("_identity", "integrations.rfc3161"),
    "asgiref": ("integrations.http.django",),
    "django": ("integrations.http.django",),
    "duckdb": ("_reports.export.tables", "_reports.export._parquet_files"),
    "grpc": ("_directory.export._grpc_receiver",),
    "flask": ("integrations.http.flask",),
    "google.adk": ("integrations.frameworks",),
    "google.genai": ("integrations.frameworks",),
    "google.protobuf": (
        "_spans._otlp_protobuf",
        "_directory.export",
        "integrations.frameworks.a2a",
    ),  # The messages of A2A are Protobuf's.
    "httpx": ("integrations.http.httpx", "integrations.frameworks.a2a"),
    "joserfc": ("_identity.foreign.jwks",),
    "kingfisher_sdk": ("_inspection.secret_tokens",),
    "langchain": ("integrations.langchain",),
    "langchain_core": ("integrations.langchain", "integrations.langchain_patches", "integrations.mcp.langchain"),
    "langgraph": ("integrations.langchain",),
    "llama_index": ("integrations.frameworks",),
    "langchain_mcp_adapters": ("integrations.mcp.langchain",),
    "mcp": ("integrations.mcp",),
    "openai": ("integrations.frameworks.openai_agents",),  # Its types are those of the answers of models.
    "msgspec": (
        # Tables are read by their types.
        *("_scan._tables", "_reports.controls._signals", "_reports.export.tables", "cli.answer.ask"),
        *("_reports.answers", "_verify.ledger._calls_check", "_record", "_ledger", "_spans", "_identity.trust._file"),
        *("_verify.grants.approvals_check", "_verify.store.spill_store"),  # Records wait in a file.
        # Made for each call.
        *(
            "_guard.calls.arguments",
            "_guard.calls.call",
            "_guard.tasks.task_context",
            "integrations.langchain.invocation",
        ),
    ),
    "opentelemetry": (
        *("_guard", "_directory.export", "_directory.options", "_directory.telemetry", "integrations"),
        "testing.rehearsal",
    ),
    "opentelemetry.proto": ("_directory.export", "_spans._otlp_protobuf"),
    "orjson": (
        "canonical",
        "_identity.common.record_bytes",
        "_record",
        "_ledger",
        "_spans",
        "_guard",
        "_directory",
        "_verify",
        "_reports",
        "cli.answer",
    ),
    "packaging": ("cli.operate.doctor_frameworks",),
    "pkcs11": ("integrations.keys.pkcs11",),
    # Where data from outside enters. Tools declare their arguments as models, which are read by pydantic's own words.
    "pydantic": (
        *("_common.models", "_inspection.transform", "_guard.calls.arguments"),
        *("_directory.adapting.prompts", "integrations"),
    ),
    "pydantic_core": ("_constraints.value_forms",),  # The type of its time zones, which arguments have.
    "pydantic_ai": ("integrations.frameworks",),
    "pytest": ("pytest_plugin",),
    "requests": ("integrations.http.requests",),
    "rfc3161_client": ("integrations.rfc3161",),
    # Each store by the one module that speaks to it.
    "strands": ("integrations.frameworks.strands",),
    "crewai": ("integrations.frameworks.crewai",),
    "psycopg": ("_authority.stores.postgres", "_authority.stores._postgres_connection"),
    "redis": ("_authority.stores.redis",),
    "sqlglot": ("_policy.declarations._sql_statements",),
    "starlette": ("integrations.http.starlette", "integrations.frameworks.a2a"),
    # Only for type checkers, which know it without its being installed.
    "_typeshed": ("cli.answer",),
    "typing_extensions": ("_guard", "_identity", "integrations", "_policy"),
    "workflows": ("integrations.frameworks.llama_index",),
    "wrapt": ("integrations",),
    "yaml": ("_scan", "_policy.files._yaml_reader"),
    "zstandard": ("_storage.codecs", "_spans._otlp_protobuf"),
}

# Leaf → who may import it. Leaves and doors, which are what users name when they want a leaf, import it as they like;
# every other module only in a function, when it is asked for, or for type checkers.
LEAVES: dict[str, tuple[str, ...]] = {
    "_reports.export.interop": ("cli.verify.export",),
    "_reports.export.tables": ("cli.verify.export",),
    "_verify.ledger._pruning_check": ("_verify.ledger.ledger_check",),
    "_authority.tokens.downstream": ("_guard.tasks.task", "_directory.tokens.task_tokens", "tokens"),
    "_authority.tokens.exchange": ("_directory.tokens.token_exchange", "_guard.common.http_transport"),
    "_authority.tokens.jwt": (
        "_authority.tokens.downstream",
        "_directory.tokens.local_tokens",
        "_directory.tokens.token_exchange",
        "_guard.common.http_transport",
        "_directory._witnesses",
        "_inspection.http_model",
    ),
    "_authority.stores._postgres_connection": ("_authority.stores.postgres",),
    "_authority.stores.postgres": ("cli.control.opened", "state"),
    "_authority.stores.redis": ("cli.control.opened", "state"),
    "_directory.export.ledger_exporter": ("cli.operate.replay", "_directory.enforcer", "_directory._assembly"),
    "_directory.export._grpc_receiver": ("_directory.export.ledger_exporter",),
    "_directory.export._http_receiver": ("_directory.export.ledger_exporter", "_directory.export._grpc_receiver"),
    "_directory.tokens.local_tokens": ("_directory.tokens.token_exchange", "tokens"),
    "_directory.export.receivers": ("cli.operate.replay", "_directory"),
    "_directory.export.sender": ("cli.operate.replay", "_directory.export.ledger_exporter"),
    "_directory.tokens.task_tokens": ("_directory._assembly",),
    "_directory.tokens.token_exchange": ("tokens",),
    "_guard.common.http_transport": ("_guard", "_directory", "tokens"),
    "_common.http_post": (
        "_guard.common.http_transport",
        "_directory.export._http_receiver",
        "_directory._certification",
        "_inspection.http_model",
    ),
    "_directory._witnesses": ("_directory._assembly",),
    "_directory.export._otlp_encoding": ("_directory.export._grpc_receiver", "_directory.export._http_receiver"),
    "_ledger.archiving": ("cli.operate.archive",),
    "_ledger.transparency.witness": ("cli.trust.witness", "_ledger.transparency.witness_client"),
    "_ledger.transparency.witness_client": ("cli.operate.doctor_directory", "_directory._witnesses"),
    "_policy.declarations._sql_statements": ("_policy.declarations.touches",),
    "integrations.keys.pkcs11": (),
    "integrations.rfc3161": ("cli.trust.anchor", "cli.verify.verify"),
    "integrations.keys.securesystemslib": (),
    "integrations.spark": (),
}
# Adapters of ours use only what adapters of others can use.
PUBLIC_ONLY = ("integrations", "pytest_plugin")

DOORS = ("audit", "cli", "identity", "options", "state", "tokens")


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
    if not any(_within(module, user) for user in (leaf, *LEAVES[leaf], *DOORS)):
        return f"{leaf} is a leaf; {', '.join(LEAVES[leaf]) or 'only its users'} may import it"
    if at_once and _leaf(module) is None and not any(_within(module, door) for door in DOORS):
        return f"{leaf} is a leaf; import it in the function that needs it"
    return None


def _trespass(module: str, imported: str) -> str | None:
    """Return what is wrong with an import of a private module by a module that has to do without."""
    if not any(_within(module, place) for place in PUBLIC_ONLY):
        return None
    parts = imported.split(".")
    private = parts[0] == PACKAGE and any(part.startswith("_") for part in parts[1:])
    return f"{imported} is private; import a public module, as adapters of others have to" if private else None


def main(package: Path) -> int:
    """Print every import that the tables do not allow; return the exit status."""
    wrong: list[str] = []
    for path in sorted(package.rglob("*.py")):
        module = ".".join(path.relative_to(package).with_suffix("").parts).removesuffix(".__init__")
        for line, imported, at_once in _imported(ast.parse(path.read_text(encoding="utf-8"))):
            if (problem := _misses(module, imported, at_once=at_once)) is not None:
                wrong.append(f"{path.relative_to(package.parent)}:{line}: {problem}")
            if (problem := _trespass(module, imported)) is not None:
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
