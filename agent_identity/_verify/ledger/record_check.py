"""Checks a record by itself: form, canonical bytes, hash, and the details beside it."""

from collections.abc import Iterator
from typing import NamedTuple, TypeAlias

from agent_identity._ledger.reader import RawLine, raw_line
from agent_identity._ledger.transparency.merkle import leaf_hash
from agent_identity._record.codec import decode, share_parts
from agent_identity._record.details import detail_of
from agent_identity._record.schema import AnyRecord, Detail, Outcome
from agent_identity._storage.lines import Block, stream_parts
from agent_identity._verify.report.findings import Findings
from agent_identity._verify.report.plurals import counted


class CheckedRecord(NamedTuple):
    """A record of a ledger or a span, checked by itself.

    Attributes:
        data: Its bytes.
        leaf: Their leaf hash.
        record: The decoded record; ``None`` for malformed bytes.
        problem: The reason why the bytes are malformed.
        detail: The detail of the record; ``None`` if its line has none, or not the one that the record commits to.
        mismatch: The code of the finding if line and record do not say the same about a detail.
    """

    data: bytes
    leaf: bytes
    record: AnyRecord | None
    problem: str = ""
    detail: Detail | None = None
    mismatch: str = ""

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle the bytes only where they were not decoded: nothing else reads them in another process."""
        return CheckedRecord, (self.data if self.record is None else b"", *self[1:])


CheckedLine: TypeAlias = CheckedRecord | RawLine
"""A line of a stream: a record, or the raw line where it is none."""


class CheckedBlock(NamedTuple):
    """Consecutive lines of a stream.

    Attributes:
        lines: The lines.
        end: Number of bytes of the stream up to their end.
    """

    lines: "list[CheckedLine]"
    end: int


def check_block(part: Block | RawLine | None) -> Iterator[CheckedBlock | None]:
    """Yield the checked lines of a part of a stream; ``None``, the end of a stream, unchanged."""
    if part is None:
        yield None
    elif isinstance(part, RawLine):
        yield CheckedBlock([part], part.offset)
    else:
        lines: list[CheckedLine] = []
        known: dict[object, object] = {}
        for line in part.each():
            parts = None if line.torn or line.data is None else stream_parts(line.data)
            lines.append(raw_line(line) if parts is None else _checked(parts[0], parts[2], known))
        yield CheckedBlock(lines, part.end)


def _checked(data: bytes, detail: bytes | None, known: dict[object, object]) -> CheckedRecord:
    leaf = leaf_hash(data)
    try:
        record = decode(data)
    except ValueError as error:
        return CheckedRecord(data, leaf, None, str(error))
    share_parts(record, known)
    told, mismatch = detail_of(record, detail)
    return CheckedRecord(data, leaf, record, "", told, mismatch)


def count_unseen_detail(findings: Findings, record: AnyRecord) -> None:
    """Count a record that commits to a detail, if only the ledger has it."""
    findings.counts["details_not_checked"] += isinstance(record, Outcome) and record.detail is not None


def conclude_unseen_details(findings: Findings, step: int) -> None:
    """Report the number of details that were not checked, because only the ledger has them."""
    number = findings.counts["details_not_checked"]
    if number:
        message = f"the details of {counted(number, 'outcome')} were not checked (detail in the ledger)"
        findings.add(step, "detail_not_checked", message)
