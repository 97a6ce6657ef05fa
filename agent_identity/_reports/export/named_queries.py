"""Named queries over exported tables, in SQL, each of which gives what a report gives."""

import os
import re
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import Final

from agent_identity._reports.export._fact_tables import FACTS
from agent_identity._reports.export._parquet_files import connected, duckdb_module, literal
from agent_identity._verify.inputs.sources import PathLike
from agent_identity.errors import ConfigurationError

_PACKAGE: Final = "agent_identity._reports.export"
_PATTERN: Final = re.compile(r"[*?\[{]")
_TABLES: Final = ("records", *FACTS)


def named_queries() -> Mapping[str, str]:
    """Return the named queries: the SQL of each by its name, in the dialect of DuckDB.

    They ask the views ``records``, ``grants``, ``calls``, ``approvals``, ``servers`` and ``revocations``.
    """
    found = {
        entry.name.removesuffix(".sql"): entry.read_text(encoding="utf-8")
        for entry in files(_PACKAGE).joinpath("sql").iterdir()
        if entry.name.endswith(".sql")
    }
    return MappingProxyType({name: found[name] for name in sorted(found)})


def query_tables(folder: PathLike, query: str) -> list[dict[str, object]]:
    """Run a query over exported tables, and return its rows by column.

    An answer is no proof: anyone who can write the tables can change them.

    Args:
        folder: The folder that :func:`export_tables` wrote.
        query: The name of a query of :func:`named_queries`, or SQL.

    Raises:
        ConfigurationError: The folder has no such tables, the query fails, or the extra ``tables`` is not installed.
    """
    duckdb = duckdb_module()
    root = Path(os.fspath(folder)).absolute()
    if _PATTERN.search(str(root)):
        raise ConfigurationError("the path of the tables has one of *?[{, a pattern for the engine; move the folder")
    missing = [name for name in _TABLES if not (root / name).is_dir()]
    if missing:
        raise ConfigurationError(f"the folder has no table {missing[0]}; write it with agent-identity export --parquet")
    engine = connected(duckdb)
    try:
        for name in _TABLES:
            engine.execute(f"CREATE VIEW {name} AS FROM read_parquet({literal(f'{root}/{name}/**/*.parquet')})")
        found = engine.execute(named_queries().get(query, query))
        names = [column[0] for column in found.description or ()]
        return [dict(zip(names, row, strict=True)) for row in found.fetchall()]
    except duckdb.Error as error:
        raise ConfigurationError(f"the query fails ({type(error).__name__}); check its SQL and the tables") from None
    finally:
        engine.close()
