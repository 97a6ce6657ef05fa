"""The facts of reports as tables: grants, calls, approvals, servers and revocations.

A column has what the fact has, so that a query over the tables and a report over the ledger agree.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final, final

import orjson

from agent_identity._record.parts import Principal, Resource
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
from agent_identity._reports.export._parquet_files import ParquetTable, Row
from agent_identity.canonical import encode

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_WHERE: Final = {"record": "VARCHAR", "stream": "VARCHAR", "seq": "UBIGINT", "time_ns": "UBIGINT"}
_PARTIES: Final = {
    "task": "VARCHAR",
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
}

FACTS: Final[Mapping[str, Mapping[str, str]]] = {
    "grants": {
        **_WHERE,
        "hash": "VARCHAR",
        "parent": "VARCHAR",
        "root": "VARCHAR",
        "outer_task": "VARCHAR",
        "depth": "UBIGINT",
        "issuer": "VARCHAR",
        "issuer_kid": "VARCHAR",
        "expires_ns": "UBIGINT",
        "noted_ns": "UBIGINT",
        **_PARTIES,
        "argument": "VARCHAR",
        "constraint_type": "VARCHAR",
        "constraint": "VARCHAR",
    },
    "calls": {
        **_WHERE,
        "intent": "VARCHAR",
        "begun": "BOOLEAN",
        "end_ns": "UBIGINT",
        "duration_ns": "UBIGINT",
        "service": "VARCHAR",
        "workflow": "VARCHAR",
        **_PARTIES,
        "tool_kind": "VARCHAR",
        "stage": "VARCHAR",
        "call": "VARCHAR",
        "arguments": "VARCHAR[]",
        "opened": "VARCHAR",
        "model": "VARCHAR",
        "model_provider": "VARCHAR",
        "labels": "VARCHAR[]",
        "effect": "VARCHAR",
        "enforced": "VARCHAR",
        "mode": "VARCHAR",
        "reason": "VARCHAR",
        "rule": "VARCHAR",
        "argument": "VARCHAR",
        "approval": "VARCHAR",
        "approver": "VARCHAR",
        "outcome": "VARCHAR",
        "error": "VARCHAR",
        "findings": "VARCHAR[]",
        "opening": "BOOLEAN",
        "of_model": "BOOLEAN",
        "ran": "BOOLEAN",
        "refused": "BOOLEAN",
        "would_be_refused": "BOOLEAN",
        "resources": "VARCHAR",
        "observed": "VARCHAR",
        "trace": "VARCHAR",
        "span": "VARCHAR",
    },
    "approvals": {
        **_WHERE,
        "approval": "VARCHAR",
        "status": "VARCHAR",
        "approver": "VARCHAR",
        "approver_provenance": "VARCHAR",
        "expires_ns": "UBIGINT",
        "reason": "VARCHAR",
        "channel": "VARCHAR",
        **_PARTIES,
    },
    "servers": {
        **_WHERE,
        "server": "VARCHAR",
        "transport": "VARCHAR",
        "status": "VARCHAR",
        "place": "VARCHAR",
        "version": "VARCHAR",
        "reason": "VARCHAR",
        "tool": "VARCHAR",
        "tool_status": "VARCHAR",
        "pinned": "VARCHAR",
        "offered": "VARCHAR",
    },
    "revocations": {
        **_WHERE,
        "kind": "VARCHAR",
        "name": "VARCHAR",
        "status": "VARCHAR",
        "reason": "VARCHAR",
    },
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


_SAME: Final = (
    *("intent", "begun", "end_ns", "duration_ns", "workflow", "tool", "stage", "call", "arguments", "labels"),
    *("outcome", "error", "findings", "opening", "of_model", "ran", "refused", "would_be_refused"),
)
_DECIDED: Final = ("effect", "enforced", "mode", "reason", "rule", "argument", "approval")


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
