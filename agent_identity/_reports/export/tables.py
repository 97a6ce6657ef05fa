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
from pkgutil import get_data
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, cast, final

import msgspec
import orjson

from agent_identity._identity.common.encoding import digest_of
from agent_identity._ledger.reader import LedgerReader, open_ledger
from agent_identity._record.codec import decode
from agent_identity._record.details import detail_of
from agent_identity._record.parts import ApprovalState, Principal, Resource
from agent_identity._record.schema import AnyRecord, Approval, Detail, Intent, OfTask, Outcome
from agent_identity._reports.answers.decoding import Decoder, Period
from agent_identity._reports.answers.facts import (
    ApprovalFact,
    CallFact,
    Fact,
    GrantFact,
    RevocationFact,
    ServerFact,
    StreamFact,
    Where,
)
from agent_identity._reports.answers.report_frame import plain
from agent_identity._reports.export._parquet_files import ParquetTable, Row, connected, duckdb_module, literal
from agent_identity._verify.api import Verifier
from agent_identity._verify.inputs.sources import PathLike, Trust, directory_of, whole
from agent_identity._verify.report.report import Report
from agent_identity.canonical import encode
from agent_identity.errors import ConfigurationError
from agent_identity.version import VERSION

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_SCHEMAS: Final = msgspec.toml.decode(get_data(__name__, "tables.toml") or b"", type=dict[str, dict[str, str]])
_GROUPS: Final = ("where", "parties")

COLUMNS: Final[Mapping[str, str]] = _SCHEMAS.pop("records")
"""The columns and their DuckDB types; ``time`` (UTC, whole microseconds) and ``day`` come from
``time_ns``. ``record`` has the canonical bytes, so nothing is lost."""

_PLACES: Final = {
    name: (part, member) for name, place in _SCHEMAS.pop("members").items() for part, member in (place.split("."),)
}
"""The columns of records that come from nested members."""


def _columns(table: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for name, kind in table.items():
        yield from _SCHEMAS[name].items() if kind == "*" else ((name, kind),)


FACTS: Final[Mapping[str, Mapping[str, str]]] = {
    name: dict(_columns(table)) for name, table in _SCHEMAS.items() if name not in _GROUPS
}
"""The columns of each table, with their DuckDB types; ``time`` and ``day`` come from ``time_ns``.

``grants`` has a row for each argument that a grant bounds, one for each tool without any, and one for a grant without
tools. ``servers`` has a row for each tool of a server, and one for a server without tools.
"""


_EMPTY: Final = {name: dict.fromkeys(columns) for name, columns in FACTS.items()}


@final
class FactTables:
    """Takes the facts of a pass, and writes each as rows of its table.

    Args:
        engine: The engine.
        folder: The folder; each table gets a folder of its own there.
        about: The metadata of each file.
    """

    def __init__(self, engine: "DuckDBPyConnection", folder: str, about: Mapping[str, str]) -> None:
        self._tables: dict[str, ParquetTable] = {}
        self._services: dict[str, str] = {}
        for name, columns in FACTS.items():
            (Path(folder) / name).mkdir()
            self._tables[name] = ParquetTable(engine, f"{folder}/{name}", about, name=name, columns=columns)

    def take(self, fact: Fact) -> None:
        """Take a fact."""
        if isinstance(fact, CallFact):
            self._add("calls", {**_call(fact), "service": self._services.get(fact.where.stream)})
        elif isinstance(fact, GrantFact):
            self._add("grants", *_grant(fact))
        elif isinstance(fact, StreamFact):
            if fact.resource is not None and fact.resource.service is not None:
                self._services[fact.where.stream] = fact.resource.service
        elif isinstance(fact, ApprovalFact):
            self._add("approvals", _approval(fact))
        elif isinstance(fact, ServerFact):
            self._add("servers", *_server(fact))
        elif isinstance(fact, RevocationFact):
            change = fact.change
            stated = {"kind": change.kind, "name": change.name, "status": change.status, "reason": change.reason}
            self._add("revocations", {**_where(fact.where, fact.at_ns), **stated})

    def _add(self, name: str, *rows: Row) -> None:
        for row in rows:
            self._tables[name].add({**_EMPTY[name], **row}, len(orjson.dumps(row)))

    def finish(self) -> None:
        """Write the remaining rows."""
        for table in self._tables.values():
            table.finish()


_SAME: Final = (
    *("intent", "begun", "end_ns", "duration_ns", "workflow", "tool", "stage", "call", "arguments", "labels"),
    *("outcome", "error", "findings", "opening", "of_model", "ran", "refused", "would_be_refused"),
)
_DECIDED: Final = ("effect", "enforced", "mode", "reason", "rule", "argument", "approval")


if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

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


def _where(where: Where, at_ns: int) -> Row:
    return {"record": where.record, "stream": where.stream, "seq": where.seq, "time_ns": at_ns}


def _parties(fact: GrantFact | CallFact | ApprovalFact) -> Row:
    agent = fact.agent
    return {
        **_principal(fact.principal),
        "task": fact.task,
        "agent": None if agent is None else agent.id,
        "agent_owner": None if agent is None else agent.owner,
        "agent_version": None if agent is None else agent.version,
        "chain": [hop.id for hop in fact.chain],
        "grants": [hop.grant for hop in fact.chain],
    }


def _principal(principal: Principal | None) -> Row:
    if principal is None:
        return {"via": []}
    return {
        "principal": principal.id,
        "principal_kind": principal.kind,
        "principal_provenance": principal.provenance,
        "principal_issuer": principal.issuer,
        "via": list(principal.via or ()),
    }


def _grant(fact: GrantFact) -> Iterator[Row]:
    stated = {
        **_where(fact.where, fact.issued_ns),
        **_parties(fact),
        "hash": fact.hash,
        "parent": fact.parent,
        "root": fact.root,
        "outer_task": fact.outer,
        "depth": fact.depth,
        "issuer": fact.issuer,
        "issuer_kid": fact.kid,
        "expires_ns": fact.expires_ns,
        "noted_ns": fact.noted_ns,
    }
    for tool, arguments in fact.tools.items():
        for argument, constraint in arguments.items():
            kind = constraint.get("constraint_type") if isinstance(constraint, dict) else None
            text = encode(constraint).decode()
            named = {"tool": tool, "argument": argument, "constraint": text}
            yield {**stated, **named, "constraint_type": kind if isinstance(kind, str) else None}
        if not arguments:
            yield {**stated, "tool": tool}
    if not fact.tools:
        yield stated


def _call(fact: CallFact) -> Row:
    decision, model = fact.decision, fact.model
    return {
        **_where(fact.where, fact.at_ns),
        **_parties(fact),
        **{name: getattr(fact, name) for name in _SAME},
        **{name: getattr(decision, name) for name in _DECIDED},
        "tool_kind": fact.kind,
        "opened": None if fact.opened is None else fact.opened.id,
        "model": None if model is None else model.name,
        "model_provider": None if model is None else model.provider,
        "approver": None if fact.approver is None else fact.approver.id,
        "resources": _resources(fact.resources),
        "observed": _resources(fact.observed),
        "trace": None if fact.span is None else fact.span[0],
        "span": None if fact.span is None else fact.span[1],
    }


def _resources(resources: tuple[Resource, ...]) -> str | None:
    return orjson.dumps([plain(one) for one in resources]).decode() if resources else None


def _approval(fact: ApprovalFact) -> Row:
    asked = fact.approval
    return {
        **_where(fact.where, fact.at_ns),
        **_parties(fact),
        "tool": fact.tool,
        "approval": asked.id,
        "status": asked.status,
        "approver": None if asked.approver is None else asked.approver.id,
        "approver_provenance": None if asked.approver is None else asked.approver.provenance,
        "expires_ns": None if asked.expires is None else int(asked.expires),
        "reason": asked.reason,
        "channel": asked.channel,
    }


def _server(fact: ServerFact) -> Iterator[Row]:
    server = fact.server
    stated = {
        **_where(fact.where, fact.at_ns),
        "server": server.name,
        **{name: getattr(server, name) for name in ("transport", "status", "place", "version", "reason")},
    }
    for tool in fact.tools:
        named = {"tool": tool.name, "tool_status": tool.status}
        yield {**stated, **named, "pinned": tool.pinned, "offered": tool.offered}
    if not fact.tools:
        yield stated
