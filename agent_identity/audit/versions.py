"""Record versions in a verification: drafts are accepted on request, unknown versions never."""

from typing import Final, cast

import orjson

from agent_identity.audit.findings import Findings, Place
from agent_identity.audit.sources import PathLike
from agent_identity.evidence.record_codec import decode
from agent_identity.evidence.records import DRAFT, VERSION, AnyRecord
from agent_identity.evidence.streams import open_ledger

__all__ = ["has_drafts", "malformed", "refuse_draft"]

_DRAFT_RECORD: Final = (
    f"expected records of version {VERSION}, got a draft of version 2, whose shapes may still change; verify with "
    "--drafts (drafts=True) to read it as this release does"
)
_UNKNOWN_RECORD: Final = (
    "expected a record of a version and form that this release knows, got one of another; verify with the release that "
    "wrote it, or a later one"
)


def refuse_draft(findings: Findings, step: int, record: AnyRecord, place: Place) -> bool:
    """Return whether a record is of a draft that the caller did not ask for; the first of them is reported.

    The report says as well if drafts were accepted.

    Args:
        findings: Takes it, and counts all.
        step: The step about the form of records.
        record: The record.
        place: Where it is.
    """
    if record.v == VERSION:
        return False
    if findings.drafts:
        findings.take_draft()
        return False
    findings.counts["drafts"] += 1
    if findings.counts["drafts"] == 1:
        findings.add(step, "draft_record", _DRAFT_RECORD, place)
    return True


def has_drafts(directory: PathLike) -> bool:
    """Return whether streams of an evidence directory are of version 2, which is a draft.

    Args:
        directory: The directory; of each stream, its first record tells.
    """
    reader = open_ledger(directory)
    first = (next(reader.entries(stream), None) for stream in reader.streams())
    return any(line is not None and line.record is not None and _is_draft(line.record) for line in first)


def _is_draft(data: bytes) -> bool:
    try:
        return decode(data).v == DRAFT
    except ValueError:
        return False


def malformed(data: bytes, problem: str) -> tuple[str, str]:
    """Return the finding for bytes that cannot be decoded: code and message, for no record or an unknown version.

    Version 1 is closed, so bytes that lack its form are no record. Other versions are not closed, drafts included.

    Args:
        data: The bytes.
        problem: Why they cannot be decoded.
    """
    try:
        members: object = orjson.loads(data)  # In whatever form another version has.
    except ValueError:
        members = None
    version = cast("dict[str, object]", members).get("v") if isinstance(members, dict) else None
    if isinstance(version, str) and version != VERSION:
        return "unknown_record", _UNKNOWN_RECORD
    return "malformed_record", problem
