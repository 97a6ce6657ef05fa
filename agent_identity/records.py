"""Public API for records: the content of the ledger as typed objects.

>>> from agent_identity import records
>>> for record in records.read("evidence"):  # doctest: +SKIP
...     if isinstance(record, records.Outcome) and record.principal is not None:
...         print(record.principal.id, record.action.tool, record.outcome)

Reading verifies nothing: run :func:`agent_identity.verify` first. ``docs/reference/record.md`` describes each member.
"""

import os
from collections.abc import Iterator

from agent_identity._ledger.reader import LedgerReader, RawLine, open_ledger
from agent_identity._record import codec as record_codec
from agent_identity._record.codec import as_dict, encode
from agent_identity._record.details import detail_of
from agent_identity._record.parts import (
    EFFECTS,
    OUTCOMES,
    VERSION,
    Action,
    Agent,
    AgentRegistration,
    ApprovalState,
    ArgumentOrigin,
    Counts,
    Decision,
    End,
    Erased,
    Examined,
    Found,
    GrantToken,
    Hop,
    KeyTrust,
    MarkAfter,
    MarkChange,
    MarkSeen,
    Model,
    Offered,
    PolicyState,
    Principal,
    PrunedRange,
    RecoveredStream,
    Resource,
    RevocationChange,
    Sdk,
    Server,
    Stream,
    StreamResource,
    Task,
    Time,
    Trace,
    Transform,
)
from agent_identity._record.schema import (
    KINDS,
    AnyRecord,
    Approval,
    Detail,
    Erasure,
    Examination,
    Grant,
    Intent,
    Mark,
    OfTask,
    Outcome,
    Policy,
    Record,
    Recovered,
    Registration,
    Revocation,
    StreamEnd,
    StreamStart,
    TaskEnd,
    TaskStart,
    Trust,
)
from agent_identity._record.schema_document import json_schema
from agent_identity.errors import ConfigurationError, EvidenceError

__all__ = [
    "EFFECTS",
    "KINDS",
    "OUTCOMES",
    "VERSION",
    "Action",
    "Agent",
    "AgentRegistration",
    "AnyRecord",
    "Approval",
    "ApprovalState",
    "ArgumentOrigin",
    "Counts",
    "Decision",
    "Detail",
    "End",
    "Erased",
    "Erasure",
    "Examination",
    "Examined",
    "Found",
    "Grant",
    "GrantToken",
    "Hop",
    "Intent",
    "KeyTrust",
    "Mark",
    "MarkAfter",
    "MarkChange",
    "MarkSeen",
    "Model",
    "OfTask",
    "Offered",
    "Outcome",
    "Policy",
    "PolicyState",
    "Principal",
    "PrunedRange",
    "Record",
    "Recovered",
    "RecoveredStream",
    "Registration",
    "Resource",
    "Revocation",
    "RevocationChange",
    "Sdk",
    "Server",
    "Stream",
    "StreamEnd",
    "StreamResource",
    "StreamStart",
    "Task",
    "TaskEnd",
    "TaskStart",
    "Time",
    "Trace",
    "Transform",
    "Trust",
    "as_dict",
    "decode",
    "encode",
    "json_schema",
    "read",
    "read_lines",
]


def decode(data: bytes) -> AnyRecord:
    """Decode a record from its canonical bytes.

    Args:
        data: The bytes.

    Raises:
        ValueError: The bytes are not the canonical form of a record, or a fact is missing, unknown, malformed or
            contradicts another; the message starts with the path to it, for example ``record.decision.effect``. It
            shows no value.
    """
    return record_codec.decode(data)


def read(path: "str | os.PathLike[str]") -> Iterator[AnyRecord]:
    """Yield the records of an evidence directory, stream by stream, each stream in order.

    Nothing is verified, and memory does not grow with the ledger. The directory may be in use.

    Args:
        path: The directory of an enforcer.

    Raises:
        OSError: There is no such directory, or this user may not look into it.
        ConfigurationError: The directory holds no ledger.
        EvidenceError: With code ``malformed_record``: a line is not a record; with code ``unreadable``: a file
            cannot be read to its end. The message names stream and place. The earlier records were yielded.
    """
    return (record for record, _ in read_lines(path))


def read_lines(path: "str | os.PathLike[str]") -> Iterator[tuple[AnyRecord, Detail | None]]:
    """Yield each record of an evidence directory with its detail, in the order of :func:`read`.

    The detail is ``None`` where the line has none, or not the one that the record commits to.

    Args:
        path: The directory of an enforcer.

    Raises:
        OSError: See :func:`read`.
        ConfigurationError: See :func:`read`.
        EvidenceError: See :func:`read`.
    """
    with os.scandir(path) as entries:  # The reader below treats a wrong path as an empty ledger.
        if "ledger" not in {entry.name for entry in entries}:
            raise ConfigurationError(f"{os.fspath(path)!r} has no ledger; name the evidence directory of the enforcer")
    ledger = open_ledger(path)
    for stream in ledger.streams():
        before = ledger.begins_behind(stream)
        first = (ledger.first_place(stream) or 1) if before is None else before.size + 1
        if _never_began(ledger, stream):
            continue
        for number, line in enumerate(ledger.entries(stream, start=first), first):
            record = _record_of(line, f"{os.fspath(path)}: stream {stream}, record {number}")
            if record is not None:
                yield record, detail_of(record, line.detail)[0]


def _never_began(ledger: LedgerReader, stream: str) -> bool:
    """Return whether a stream has no file and no record in the log: its process died before it began."""
    if ledger.segments(stream) or stream in ledger.sealed_sizes():
        return False
    return not any(denied.stream == stream for denied in ledger.denied())


def _record_of(line: RawLine, place: str) -> AnyRecord | None:
    """Return the record of a line; ``None`` for a line that is withheld in an excerpt, or incomplete.

    Raises:
        EvidenceError: See :func:`read`.
    """
    if line.record is not None:
        try:
            return decode(line.record)
        except ValueError as error:
            raise EvidenceError(
                f"{place}: {error}; run 'agent-identity verify' to see what is wrong", code="malformed_record"
            ) from None
    if line.problem == "unreadable":
        raise EvidenceError(
            f"{place}: this user cannot read the file to its end; check its permissions",
            code="unreadable",
        )
    if line.problem not in ("withheld", "torn"):
        raise EvidenceError(
            f"{place}: the line is not a record; run 'agent-identity verify' to see what is wrong",
            code="malformed_record",
        )
    return None
