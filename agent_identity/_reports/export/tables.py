"""Exports a ledger as Parquet tables for SQL queries (extra ``tables``): its records, and the facts of reports.

A table is a copy. A writer of the table can change it without a trace, so a query over it gives an answer and not a
proof: only verifying the ledger, or the records in the answer, proves it. The table states a verdict only if the same
call verified the ledger just before; then it has only records that the log covered at that time.
"""

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, cast, final

import orjson

from agent_identity._identity.common.encoding import digest_of
from agent_identity._ledger.reader import LedgerReader, open_ledger
from agent_identity._record.codec import decode
from agent_identity._record.details import detail_of
from agent_identity._record.parts import ApprovalState
from agent_identity._record.schema import AnyRecord, Approval, Detail, Intent, OfTask, Outcome
from agent_identity._reports.answers.decoding import Decoder, Period
from agent_identity._reports.export._fact_tables import FACTS, FactTables
from agent_identity._reports.export._parquet_files import ParquetTable, Row, connected, duckdb_module, literal
from agent_identity._verify.api import Verifier
from agent_identity._verify.inputs.sources import PathLike, Trust, directory_of, whole
from agent_identity._verify.report.report import Report
from agent_identity.errors import ConfigurationError
from agent_identity.version import VERSION

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

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
    "via": "VARCHAR[]",
    "agent": "VARCHAR",
    "agent_owner": "VARCHAR",
    "agent_version": "VARCHAR",
    "chain": "VARCHAR[]",
    "grants": "VARCHAR[]",
    "tool": "VARCHAR",
    "tool_kind": "VARCHAR",
    "call": "VARCHAR",
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
    "argument": "VARCHAR",
    "approval": "VARCHAR",
    "approver": "VARCHAR",
    "findings": "VARCHAR[]",
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
    "via": ("principal", "via"),
    "agent": ("agent", "id"),
    "agent_owner": ("agent", "owner"),
    "agent_version": ("agent", "version"),
    "tool": ("action", "tool"),
    "tool_kind": ("action", "kind"),
    "call": ("action", "call"),
    "args": ("action", "args"),
    "result": ("action", "result"),
    "effect": ("decision", "effect"),
    "enforced": ("decision", "enforced"),
    "mode": ("decision", "mode"),
    "reason": ("decision", "reason"),
    "rule": ("decision", "rule"),
    "argument": ("decision", "argument"),
    "approval": ("decision", "approval"),
    "policy": ("decision", "policy"),
    "policy_version": ("decision", "version"),
    "policy_digest": ("decision", "digest"),
    "trace": ("trace", "trace"),
    "span": ("trace", "span"),
}
_TOP: Final = ("id", "kind", "intent", "outcome", "error")

_NOTE: Final = "A copy of records. Queries over it are answers and no proof: verify the ledger that it was made from."


@final
@dataclass(frozen=True, slots=True)
class Written:
    """Result of an export.

    Attributes:
        records: The number of records in the table ``records``.
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
) -> Written:
    """Write the records of an evidence directory as Parquet, one row each, and the facts of reports in five tables.

    The folders ``records``, ``grants``, ``calls``, ``approvals``, ``servers`` and ``revocations`` have a folder for
    each day (UTC). The target appears complete or not at all. Its files carry a note that they are a copy and, if the
    ledger was verified, the verdict. Memory does not grow with the ledger.

    Args:
        directory: The evidence directory.
        folder: The folder to write; it must not exist yet, or be empty. Other users cannot read it.
        since_ns: Only records whose start is not before this, in nanoseconds since the Unix epoch.
        verify: Verify the ledger first, and leave out records that its log does not cover. The table is written with
            any verdict, and states it. No other process may write the ledger meanwhile.
        trust: The trusted public keys, or the path of a trust file, for ``verify``.

    Raises:
        ConfigurationError: The path is not an evidence directory, the extra ``tables`` is not installed, or the folder
            exists already or cannot be written.
    """
    root = directory_of(directory)
    if root is None:
        raise ConfigurationError("the path is not an evidence directory; check it")
    if trust is not None and not verify:
        raise ConfigurationError("trusted keys were given without a verification; ask for one with verify=True")
    duckdb = duckdb_module()
    target = Path(folder).absolute()
    if os.path.lexists(target) and not (target.is_dir() and not target.is_symlink() and not any(target.iterdir())):
        raise ConfigurationError(f"the folder {str(target)!r} exists already; name a new one")
    reader = whole(open_ledger(root))
    # Records that are sealed later are not verified.
    sizes = reader.sealed_sizes() if verify else None
    report = Verifier(trust).ledger(root) if verify else None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        unfinished = tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent)
    except OSError as error:
        raise ConfigurationError(f"the folder for the table cannot be written ({error.strerror})") from None
    try:
        engine = connected(duckdb)
        try:
            written = _fill(engine, unfinished, reader, since_ns=since_ns, sizes=sizes, report=report)
        finally:
            engine.close()
        Path(unfinished).rename(target)
    except (duckdb.Error, OSError) as error:
        raise ConfigurationError(
            f"the table cannot be written ({type(error).__name__}); see whether disk and memory have room"
        ) from None
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return written


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


def _fill(
    engine: "DuckDBPyConnection",
    folder: str,
    reader: LedgerReader,
    *,
    since_ns: int,
    sizes: Mapping[str, int] | None,
    report: Report | None,
) -> Written:
    """Write the records and their facts."""
    about = _about(report)
    (Path(folder) / "records").mkdir()
    table = ParquetTable(engine, f"{folder}/records", about, name="records", columns=COLUMNS)
    facts = FactTables(engine, folder, about)
    decoder = Decoder(0, facts.take, Period(since_ns or None))
    records = left_out = 0
    for row in _rows(reader, sizes, decoder.visit):
        if row is None:
            left_out += 1
        elif cast("int", row["time_ns"]) >= since_ns:
            table.add(row, len(cast("str", row["record"])))
            records += 1
    decoder.finish()
    table.finish()
    facts.finish()
    return Written(records, left_out, report)


def _rows(
    reader: LedgerReader,
    sizes: Mapping[str, int] | None,
    visit: Callable[[AnyRecord, Detail | None], None] | None = None,
) -> Iterator[Row | None]:
    """Yield a row for each record, and ``None`` for each malformed line.

    Args:
        reader: The ledger.
        sizes: The number of records of each stream that its log covers; ``None`` for all.
        visit: Receives each of the records.
    """
    for stream in reader.streams():
        for line in reader.entries(stream):
            try:
                record = None if line.record is None else decode(line.record)
            except ValueError:
                record = None
            if record is None or line.record is None:
                yield None
                continue
            if sizes is not None and record.stream.number > sizes.get(stream, 0):
                break
            detail = detail_of(record, line.detail)[0]
            if visit is not None:
                visit(record, detail)
            yield _row(line.record, record, detail)


def _answered(asked: ApprovalState) -> Row:
    return {"approval": asked.id, "approver": None if asked.approver is None else asked.approver.id}


def _row(data: bytes, record: AnyRecord, detail: Detail | None) -> Row:
    """Return the columns of a record.

    Args:
        data: Its bytes.
        record: What they say.
        detail: The detail of the record.
    """
    row: Row = {name: getattr(record, name, None) for name in _TOP}
    for name, (member, inner) in _PLACES.items():
        row[name] = getattr(getattr(record, member, None), inner, None)
    row |= {"seq": record.stream.number, "time_ns": record.time.start_ns, "end_ns": record.time.end_ns}
    chain = (record.chain if isinstance(record, OfTask | Intent | Outcome) else None) or ()
    row["chain"] = [hop.id for hop in chain]
    row["grants"] = [hop.grant for hop in chain]
    row["findings"] = record.findings if isinstance(record, Intent | Outcome) else None
    row["approver"] = None
    if isinstance(record, Approval):
        row |= _answered(record.approval)
    if detail is not None:  # Members that a refused call leaves out.
        row |= {"policy": detail.policy, "policy_version": detail.version}
    row["sha256"] = digest_of(data)
    row["record"] = data.decode()
    return row


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
