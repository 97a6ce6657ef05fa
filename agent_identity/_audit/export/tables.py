"""Exports the records of a ledger as a Parquet table for SQL queries (extra ``tables``).

A table is a copy. A writer of the table can change it without a trace, so a query over it gives an answer and not a
proof: only verifying the ledger, or the records in the answer, proves it. The table states a verdict only if the same
call verified the ledger just before; then it has only records that the log covered at that time.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Final, TypeAlias, cast, final

import orjson

from agent_identity._audit.inputs import PathLike, Trust, directory_of, whole
from agent_identity._audit.report import Report
from agent_identity._audit.verify import Verifier
from agent_identity._evidence.ledger import LedgerReader, open_ledger
from agent_identity._evidence.record import Detail, Intent, OfTask, Outcome, decode
from agent_identity.errors import ConfigurationError
from agent_identity.version import VERSION

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

__all__ = ["COLUMNS", "Written", "export_tables"]

COLUMNS: Final[Mapping[str, str]] = {
    "id": "VARCHAR",
    "kind": "VARCHAR",
    "stream": "VARCHAR",
    "seq": "UBIGINT",
    "prev": "VARCHAR",
    "time_ns": "UBIGINT",
    "end_ns": "UBIGINT",
    "task": "VARCHAR",
    "purpose": "VARCHAR",
    "principal": "VARCHAR",
    "principal_kind": "VARCHAR",
    "principal_provenance": "VARCHAR",
    "principal_issuer": "VARCHAR",
    "agent": "VARCHAR",
    "agent_owner": "VARCHAR",
    "agent_version": "VARCHAR",
    "chain": "VARCHAR[]",
    "grants": "VARCHAR[]",
    "tool": "VARCHAR",
    "server": "VARCHAR",
    "args": "VARCHAR",
    "result": "VARCHAR",
    "intent": "VARCHAR",
    "outcome": "VARCHAR",
    "error": "VARCHAR",
    "effect": "VARCHAR",
    "enforced": "VARCHAR",
    "mode": "VARCHAR",
    "reason": "VARCHAR",
    "rule": "VARCHAR",
    "policy": "VARCHAR",
    "policy_version": "VARCHAR",
    "policy_digest": "VARCHAR",
    "trace": "VARCHAR",
    "span": "VARCHAR",
    "sha256": "VARCHAR",
    "record": "VARCHAR",
}
"""The columns and their DuckDB types; ``time`` (UTC, whole microseconds) and ``day`` come from
``time_ns``. ``record`` has the canonical bytes, so nothing is lost."""

# Columns that come from a nested member of a record.
_PLACES: Final[Mapping[str, tuple[str, str]]] = {
    "stream": ("stream", "id"),
    "prev": ("stream", "prev"),
    "task": ("task", "id"),
    "purpose": ("task", "purpose"),
    "principal": ("principal", "id"),
    "principal_kind": ("principal", "kind"),
    "principal_provenance": ("principal", "provenance"),
    "principal_issuer": ("principal", "issuer"),
    "agent": ("agent", "id"),
    "agent_owner": ("agent", "owner"),
    "agent_version": ("agent", "version"),
    "tool": ("action", "tool"),
    "server": ("action", "server"),
    "args": ("action", "args"),
    "result": ("action", "result"),
    "effect": ("decision", "effect"),
    "enforced": ("decision", "enforced"),
    "mode": ("decision", "mode"),
    "reason": ("decision", "reason"),
    "rule": ("decision", "rule"),
    "policy": ("decision", "policy"),
    "policy_version": ("decision", "version"),
    "policy_digest": ("decision", "digest"),
    "trace": ("trace", "trace"),
    "span": ("trace", "span"),
}
_TOP: Final = ("id", "kind", "intent", "outcome", "error")

_NOTE: Final = "A copy of records. Queries over it are answers and no proof: verify the ledger that it was made from."
_INSERTED: Final = (2_000, 4 * 1024 * 1024)  # Rows, and bytes of records, of one statement.
_WRITTEN: Final = (50_000, 64 * 1024 * 1024)  # The same for one file of each day.
_DAYS: Final = 32  # Days that are written at once; each needs memory.
_DAY: Final = 86_400 * 1_000_000_000
_MEMORY: Final = "1GB"

_Row: TypeAlias = dict[str, object]


@final
@dataclass(frozen=True, slots=True)
class Written:
    """Result of an export.

    Attributes:
        records: The number of records in the table.
        left_out: The number of malformed lines of the ledger, which the table leaves out.
        report: The report of the verification just before; ``None`` without one.
    """

    records: int
    left_out: int
    report: Report | None


def export_tables(
    directory: PathLike,
    folder: PathLike,
    *,
    since_ns: int = 0,
    verify: bool = False,
    trust: Trust = None,
    drafts: bool = False,
) -> Written:
    """Write the records of an evidence directory as Parquet, one row each, in a folder for each day (UTC).

    The folder appears complete or not at all. Its files carry a note that they are a copy and, if the ledger was
    verified, the verdict. Memory does not grow with the ledger.

    Args:
        directory: The evidence directory.
        folder: The folder to write; it must not exist yet, or be empty. Other users cannot read it.
        since_ns: Only records whose start is not before this, in nanoseconds since the Unix epoch.
        verify: Verify the ledger first, and leave out records that its log does not cover. The table is written with
            any verdict, and states it. No other process may write the ledger meanwhile.
        trust: The trusted public keys, or the path of a trust file, for ``verify``.
        drafts: Accept records of version 2, which is a draft, in ``verify``.

    Raises:
        ConfigurationError: The path is not an evidence directory, the extra ``tables`` is not installed, or the folder
            exists already or cannot be written.
    """
    root = directory_of(directory)
    if root is None:
        raise ConfigurationError("the path is not an evidence directory; check it")
    if trust is not None and not verify:
        raise ConfigurationError("trusted keys were given without a verification; ask for one with verify=True")
    duckdb = _duckdb_module()
    target = Path(folder).absolute()
    if os.path.lexists(target) and not (target.is_dir() and not target.is_symlink() and not any(target.iterdir())):
        raise ConfigurationError(f"the folder {str(target)!r} exists already; name a new one")
    reader = whole(open_ledger(root))
    # Records that are sealed later are not verified.
    sizes = reader.sealed_sizes() if verify else None
    report = Verifier(trust, drafts=drafts).ledger(root) if verify else None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        unfinished = tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent)
    except OSError as error:
        raise ConfigurationError(f"the folder for the table cannot be written ({error.strerror})") from None
    try:
        table = _Table(duckdb, unfinished, _about(report))
        records, left_out = _fill(table, reader, since_ns, sizes)
        Path(unfinished).rename(target)
    except (duckdb.Error, OSError) as error:
        raise ConfigurationError(
            f"the table cannot be written ({type(error).__name__}); see whether disk and memory have room"
        ) from None
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return Written(records, left_out, report)


def _duckdb_module() -> ModuleType:
    """Return the module ``duckdb``, which writes Parquet.

    Raises:
        ConfigurationError: The extra is not installed.
    """
    try:
        import duckdb  # An extra.
    except ImportError:
        raise ConfigurationError(
            "the extra tables for Parquet is not installed; run pip install 'agent-identity-otel[tables]'"
        ) from None
    return duckdb


def _about(report: Report | None) -> Mapping[str, str]:
    """Return the metadata of each file, with the verdict if there was a verification."""
    about = {"agent_identity.note": _NOTE, "agent_identity.version": VERSION}
    if report is not None:
        verdicts = {name: getattr(report, name) for name in ("verdict", "integrity", "completeness", "trust")}
        log = max((one.size for one in report.signatures if one.role == "recorder"), default=None)
        about["agent_identity.verification"] = orjson.dumps(
            {**verdicts, "counts": dict(report.counts), "log": log}
        ).decode()
    return about


def _fill(table: "_Table", reader: LedgerReader, since_ns: int, sizes: Mapping[str, int] | None) -> tuple[int, int]:
    """Add each record; return the number of records, and of malformed lines."""
    records = left_out = 0
    for row in _rows(reader, sizes):
        if row is None:
            left_out += 1
        elif cast("int", row["time_ns"]) >= since_ns:
            table.add(row)
            records += 1
    table.finish()
    return records, left_out


def _rows(reader: LedgerReader, sizes: Mapping[str, int] | None) -> Iterator[_Row | None]:
    """Yield a row for each record, and ``None`` for each malformed line."""
    for stream in reader.streams():
        for line in reader.entries(stream):
            try:
                row = None if line.record is None else _row(line.record)
            except ValueError:
                row = None
            if row is not None and sizes is not None and cast("int", row["seq"]) > sizes.get(stream, 0):
                break
            yield row


def _row(data: bytes) -> _Row:
    """Return the columns of a record.

    Raises:
        ValueError: The bytes are malformed.
    """
    record = decode(data)
    row: _Row = {name: getattr(record, name, None) for name in _TOP}
    for name, (member, inner) in _PLACES.items():
        row[name] = getattr(getattr(record, member, None), inner, None)
    row |= {"seq": record.stream.number, "time_ns": record.time.start_ns, "end_ns": record.time.end_ns}
    chain = (record.chain if isinstance(record, OfTask | Intent | Outcome) else None) or ()
    row["chain"] = [hop.id for hop in chain]
    row["grants"] = [hop.grant for hop in chain]
    if isinstance(record, Detail):  # Its call, and members that its outcome leaves out.
        row |= {"intent": record.call, "policy": record.policy, "policy_version": record.version}
    row["sha256"] = sha256(data).hexdigest()
    row["record"] = data.decode()
    return row


@final
class _Table:
    """Writes rows into files of bounded size; the engine gets only values and one path of ours.

    Args:
        duckdb: The library.
        folder: The folder to write.
        about: The metadata of each file.
    """

    def __init__(self, duckdb: ModuleType, folder: str, about: Mapping[str, str]) -> None:
        settings = {
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
            "memory_limit": _MEMORY,
            "temp_directory": "",
        }
        self._engine = cast("DuckDBPyConnection", duckdb.connect(":memory:", config=settings))
        self._folder = folder
        self._about = ", ".join(f"{_text(name)}: {_text(value)}" for name, value in about.items())
        columns = ", ".join(f"{_name(name)} {kind}" for name, kind in COLUMNS.items())
        self._engine.execute(f"CREATE TABLE records ({columns})")
        self._names = ", ".join(f"r.{_name(name)}" for name in COLUMNS)
        shape = {name: ["VARCHAR"] if kind.endswith("[]") else kind for name, kind in COLUMNS.items()}
        self._shape = orjson.dumps([shape]).decode()
        self._rows: list[_Row] = []
        self._size = 0
        self._days: set[int] = set()
        self._inserted = self._bytes = self._files = 0

    def add(self, row: _Row) -> None:
        """Add a row."""
        day = cast("int", row["time_ns"]) // _DAY
        if day not in self._days and len(self._days) >= _DAYS:
            self._insert()
            self._write()
        self._days.add(day)
        self._rows.append(row)
        self._size += len(cast("str", row["record"]))
        if len(self._rows) >= _INSERTED[0] or self._size >= _INSERTED[1]:
            self._insert()
            if self._inserted >= _WRITTEN[0] or self._bytes >= _WRITTEN[1]:
                self._write()

    def finish(self) -> None:
        """Write the remaining rows."""
        self._insert()
        self._write()
        self._engine.close()

    def _insert(self) -> None:
        if self._rows:
            rows = orjson.dumps(self._rows).decode()
            self._engine.execute(
                f"INSERT INTO records SELECT {self._names} FROM (SELECT unnest(from_json_strict(?, ?)) AS r)",  # noqa: S608  Names of ours.
                [rows, self._shape],
            )
        self._inserted += len(self._rows)
        self._bytes += self._size
        self._rows, self._size = [], 0

    def _write(self) -> None:
        if not self._inserted:
            return
        self._files += 1
        self._engine.execute(
            "COPY (SELECT *, strftime(time, '%Y-%m-%d') AS day "  # noqa: S608  Our own folder, as a text.
            "FROM (SELECT *, make_timestamp((time_ns // 1000)::BIGINT) AS time FROM records)) "
            f"TO {_text(self._folder)} (FORMAT parquet, COMPRESSION zstd, PARTITION_BY (day), OVERWRITE_OR_IGNORE, "
            f"FILENAME_PATTERN 'records-{self._files:06}-{{i}}', KV_METADATA {{{self._about}}})"
        )
        self._engine.execute("TRUNCATE records")
        self._days.clear()
        self._inserted = self._bytes = 0


def _name(text: str) -> str:
    return f'"{text}"'


def _text(text: str) -> str:
    """Return a text as an SQL literal."""
    return "'" + text.replace("'", "''") + "'"
