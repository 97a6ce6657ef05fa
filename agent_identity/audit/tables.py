"""The records of a ledger as a table in Parquet, for questions in SQL (extra ``tables``).

A table is a copy. Whoever can write it can change it without a trace, so that a query over it gives an answer and no
proof: what the answer rests on is shown by verifying the ledger, or the records that the answer names. The table says
under which verdict it was made only if the ledger was verified just before, by this same call; and then it has only
records that the log covered at that time.
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

from agent_identity.audit.report import Report
from agent_identity.audit.sources import PathLike, Trust, directory_of, whole
from agent_identity.audit.verification import check
from agent_identity.errors import ConfigurationError
from agent_identity.evidence.record_codec import decode
from agent_identity.evidence.records import Detail, Intent, OfTask, Outcome
from agent_identity.evidence.streams import LedgerReader, open_ledger
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
"""The columns and their types, as DuckDB names them; ``time`` (UTC, whole microseconds) and ``day`` come from
``time_ns``. ``record`` has the canonical bytes of the record, so that nothing is lost."""

# What stands where in a record; all else is taken from its own place.
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
_INSERTED: Final = (2_000, 4 * 1024 * 1024)  # Rows, and bytes of records, that one statement takes.
_WRITTEN: Final = (50_000, 64 * 1024 * 1024)  # The same for one file of each day.
_DAYS: Final = 32  # As many days are written at once: each needs memory of its own.
_DAY: Final = 86_400 * 1_000_000_000
_MEMORY: Final = "1GB"

_Row: TypeAlias = dict[str, object]


@final
@dataclass(frozen=True, slots=True)
class Written:
    """What was written.

    Attributes:
        records: The number of records in the table.
        left_out: The number of lines of the ledger that are no records, and are therefore not in it.
        report: What was found when the ledger was verified just before; ``None`` if it was not.
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
    """Write the records of an evidence directory as Parquet, one row for each, in a folder for each day (UTC).

    The folder is there with all of it, or not at all. Its files carry a note that they are a copy, and, if the ledger
    was verified, the verdict. Memory does not grow with the ledger.

    Args:
        directory: The evidence directory.
        folder: Where to write; not there yet, or empty. Others cannot read it.
        since_ns: Only records whose start is not before this, in nanoseconds since the Unix epoch.
        verify: Verify the ledger first, and leave out what its log does not cover. Whatever the verdict is, the table
            is written and says it. Nobody else may be able to write the ledger meanwhile.
        trust: The trusted public keys, or the path of a trust file, for ``verify``.
        drafts: Accept records of version 2, which is a draft, in ``verify``.

    Raises:
        ConfigurationError: There is no evidence directory, the extra ``tables`` is not installed, the folder is there
            already, or it cannot be written.
    """
    root = directory_of(directory)
    if root is None:
        raise ConfigurationError("expected an evidence directory, got something else; check the path")
    if trust is not None and not verify:
        raise ConfigurationError("expected trusted keys with a verification, got them without; ask for one")
    duckdb = _duckdb_module()
    target = Path(folder).absolute()
    if os.path.lexists(target) and not (target.is_dir() and not target.is_symlink() and not any(target.iterdir())):
        raise ConfigurationError(f"expected a folder for the table that is not there yet, got {str(target)!r}")
    reader = whole(open_ledger(root))
    # What is sealed later was not verified.
    sizes = reader.sealed_sizes() if verify else None
    report = check(root, trust, drafts=drafts) if verify else None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        unfinished = tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent)
    except OSError as error:
        raise ConfigurationError(f"expected a folder that can be written, got '{error.strerror}'") from None
    try:
        table = _Table(duckdb, unfinished, _about(report))
        records, left_out = _fill(table, reader, since_ns, sizes)
        Path(unfinished).rename(target)
    except (duckdb.Error, OSError) as error:
        raise ConfigurationError(
            f"expected a table to be written, got {type(error).__name__}; see whether disk and memory have room"
        ) from None
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return Written(records, left_out, report)


def _duckdb_module() -> ModuleType:
    """Return the library that writes Parquet, which is an extra.

    Raises:
        ConfigurationError: It is not installed.
    """
    try:
        import duckdb  # noqa: PLC0415  An extra.
    except ImportError:
        raise ConfigurationError(
            "expected the extra tables for Parquet, found none; run pip install 'agent-identity-otel[tables]'"
        ) from None
    return duckdb


def _about(report: Report | None) -> Mapping[str, str]:
    """Return what each file says about itself; of a verification only if there was one."""
    about = {"agent_identity.note": _NOTE, "agent_identity.version": VERSION}
    if report is not None:
        found = {name: getattr(report, name) for name in ("verdict", "integrity", "completeness", "trust")}
        log = max((one.size for one in report.signatures if one.role == "recorder"), default=None)
        about["agent_identity.verification"] = orjson.dumps(
            {**found, "counts": dict(report.counts), "log": log}
        ).decode()
    return about


def _fill(table: "_Table", reader: LedgerReader, since_ns: int, sizes: Mapping[str, int] | None) -> tuple[int, int]:
    """Add each record; return how many there were, and how many lines were none."""
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
    """Return a row for each record, and ``None`` for each line that is none."""
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
        ValueError: The bytes are no record.
    """
    record = decode(data)
    row: _Row = {name: getattr(record, name, None) for name in _TOP}
    for name, (member, inner) in _PLACES.items():
        row[name] = getattr(getattr(record, member, None), inner, None)
    row |= {"seq": record.stream.number, "time_ns": record.time.start_ns, "end_ns": record.time.end_ns}
    chain = (record.chain if isinstance(record, OfTask | Intent | Outcome) else None) or ()
    row["chain"] = [hop.id for hop in chain]
    row["grants"] = [hop.grant for hop in chain]
    if isinstance(record, Detail):  # What its outcome leaves out, and what it belongs to.
        row |= {"intent": record.call, "policy": record.policy, "policy_version": record.version}
    row["sha256"] = sha256(data).hexdigest()
    row["record"] = data.decode()
    return row


@final
class _Table:
    """Writes rows into files, each of a bounded size; the engine is given nothing but values and one path of ours.

    Args:
        duckdb: The library.
        folder: Where to write.
        about: What each file says about itself.
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
        """Write what is left."""
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
    """Return a text as SQL writes it."""
    return "'" + text.replace("'", "''") + "'"
