"""The records of an evidence directory, one by one, as anyone may read them; nothing is verified."""

import os
from collections.abc import Iterator

from agent_identity._ledger.reader import LedgerReader, RawLine, open_ledger
from agent_identity._record.codec import decode
from agent_identity._record.details import detail_of
from agent_identity._record.schema import AnyRecord, Detail
from agent_identity.errors import ConfigurationError, EvidenceError


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
