"""Writes rows as Parquet files of bounded size, in a folder for each day, with DuckDB."""

from collections.abc import Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Final, TypeAlias, cast, final

import orjson

from agent_identity.errors import ConfigurationError

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

Row: TypeAlias = dict[str, object]
"""The values of a row by column."""

_INSERTED: Final = (2_000, 4 * 1024 * 1024)  # Rows, and bytes of records, of one statement.
_WRITTEN: Final = (50_000, 64 * 1024 * 1024)  # The same for one file of each day.
_DAYS: Final = 32  # Days that are written at once; each needs memory.
_DAY: Final = 86_400 * 1_000_000_000
_MEMORY: Final = "1GB"


def duckdb_module() -> ModuleType:
    """Return the module ``duckdb``, which writes and reads Parquet.

    Raises:
        ConfigurationError: The extra is not installed.
    """
    try:
        import duckdb
    except ImportError:
        raise ConfigurationError(
            "the extra tables for Parquet is not installed; run pip install '.[tables]' in the checkout"
        ) from None
    return duckdb


def connected(duckdb: ModuleType) -> "DuckDBPyConnection":
    """Return an engine that loads no extension, and neither spills nor needs more than its memory."""
    settings = {
        "autoinstall_known_extensions": "false",
        "autoload_known_extensions": "false",
        "memory_limit": _MEMORY,
        "temp_directory": "",
    }
    return cast("DuckDBPyConnection", duckdb.connect(":memory:", config=settings))


@final
class ParquetTable:
    """Writes rows into files of bounded size; the engine gets only values and one path of ours.

    Args:
        engine: The engine, of :func:`connected`; several tables may share one.
        folder: The folder to write; it must be there.
        about: The metadata of each file.
        name: The name of the table.
        columns: The columns and their types, ``time_ns`` among them.
    """

    def __init__(
        self,
        engine: "DuckDBPyConnection",
        folder: str,
        about: Mapping[str, str],
        *,
        name: str,
        columns: Mapping[str, str],
    ) -> None:
        self._engine = engine
        self._folder = folder
        self._about = ", ".join(f"{literal(name)}: {literal(value)}" for name, value in about.items())
        self._table = name
        spelled = ", ".join(f"{_quoted(name)} {kind}" for name, kind in columns.items())
        self._engine.execute(f"CREATE TABLE {name} ({spelled})")
        self._names = ", ".join(f"r.{_quoted(name)}" for name in columns)
        shape = {name: ["VARCHAR"] if kind.endswith("[]") else kind for name, kind in columns.items()}
        self._shape = orjson.dumps([shape]).decode()
        self._rows: list[Row] = []
        self._size = 0
        self._days: set[int] = set()
        self._inserted = self._bytes = self._files = 0

    def add(self, row: Row, size: int) -> None:
        """Add a row.

        Args:
            row: Its values by column.
            size: About how many bytes it has.
        """
        day = cast("int", row["time_ns"]) // _DAY
        if day not in self._days and len(self._days) >= _DAYS:
            self._insert()
            self._write()
        self._days.add(day)
        self._rows.append(row)
        self._size += size
        if len(self._rows) >= _INSERTED[0] or self._size >= _INSERTED[1]:
            self._insert()
            if self._inserted >= _WRITTEN[0] or self._bytes >= _WRITTEN[1]:
                self._write()

    def finish(self) -> None:
        """Write the remaining rows; a table without rows becomes one file with its columns."""
        self._insert()
        self._write()
        if not self._files:
            self._copy(f"{self._folder}/{self._table}-000000.parquet", "")
        self._engine.execute(f"DROP TABLE {self._table}")

    def _insert(self) -> None:
        if self._rows:
            rows = orjson.dumps(self._rows).decode()
            self._engine.execute(
                f"INSERT INTO {self._table} SELECT {self._names} FROM (SELECT unnest(from_json_strict(?, ?)) AS r)",  # noqa: S608  Names of ours.
                [rows, self._shape],
            )
        self._inserted += len(self._rows)
        self._bytes += self._size
        self._rows, self._size = [], 0

    def _write(self) -> None:
        if not self._inserted:
            return
        self._files += 1
        pattern = f", PARTITION_BY (day), OVERWRITE_OR_IGNORE, FILENAME_PATTERN '{self._table}-{self._files:06}-{{i}}'"
        self._copy(self._folder, pattern)
        self._engine.execute(f"TRUNCATE {self._table}")
        self._days.clear()
        self._inserted = self._bytes = 0

    def _copy(self, path: str, more: str) -> None:
        day = ", strftime(time, '%Y-%m-%d') AS day" if more else ""
        self._engine.execute(
            f"COPY (SELECT *{day} "  # noqa: S608  Our own folder, as a text, and names of ours.
            f"FROM (SELECT *, make_timestamp((time_ns // 1000)::BIGINT) AS time FROM {self._table})) "
            f"TO {literal(path)} (FORMAT parquet, COMPRESSION zstd{more}, KV_METADATA {{{self._about}}})"
        )


def _quoted(text: str) -> str:
    return f'"{text}"'


def literal(text: str) -> str:
    """Return a text as an SQL literal."""
    return "'" + text.replace("'", "''") + "'"
