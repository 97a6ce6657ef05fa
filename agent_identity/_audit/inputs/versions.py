"""Record versions in a verification: drafts are accepted on request, unknown versions never."""

from typing import Final, cast

import orjson

from agent_identity._audit.inputs.sources import PathLike
from agent_identity._audit.report import Findings, Place
from agent_identity._evidence.ledger import open_ledger
from agent_identity._evidence.record import DRAFT, VERSION, AnyRecord, decode

__all__ = ["has_drafts", "malformed", "refuse_draft"]

_DRAFT_RECORD: Final = (
    f"the record is a draft of version 2, not of version {VERSION}, and its shape may still change; verify with "
    "--drafts (drafts=True) to read it as this release does"
)
_UNKNOWN_RECORD: Final = (
    "the version or form of the record is unknown to this release; verify with the release that wrote it, or a later "
    "one"
)


def refuse_draft(findings: Findings, step: int, record: AnyRecord, place: Place) -> bool:
    """Return whether a record is a draft that the caller did not accept; the first one is reported.

    The report also notes accepted drafts.

    Args:
        findings: Takes the finding, and counts all drafts.
        step: The step about the form of records.
        record: The record.
        place: Its place.
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
        directory: The directory; the first record of each stream decides.
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
    """Return code and message of the finding for malformed bytes, or for a record of an unknown version.

    Version 1 is closed, so bytes that lack its form are malformed. Other versions are not closed, drafts included.

    Args:
        data: The bytes.
        problem: The reason why they cannot be decoded.
    """
    try:
        members: object = orjson.loads(data)  # Another version may have another form.
    except ValueError:
        members = None
    version = cast("dict[str, object]", members).get("v") if isinstance(members, dict) else None
    if isinstance(version, str) and version != VERSION:
        return "unknown_record", _UNKNOWN_RECORD
    return "malformed_record", problem
