"""What a record says of itself: its form, its canonical bytes and its hash, whatever stands around it."""

from collections.abc import Iterator
from typing import NamedTuple, TypeAlias

from agent_identity.evidence.lines import Block, record_of
from agent_identity.evidence.merkle import leaf_hash
from agent_identity.evidence.record_codec import decode
from agent_identity.evidence.records import AnyRecord
from agent_identity.evidence.streams import RawLine, raw_line

__all__ = ["CheckedBlock", "CheckedLine", "CheckedRecord", "check_block"]


class CheckedRecord(NamedTuple):
    """A record of a ledger or a span, looked at by itself.

    Attributes:
        data: Its bytes.
        leaf: Their leaf hash.
        record: What they say; ``None`` if they are no record.
        problem: Why they are none.
    """

    data: bytes
    leaf: bytes
    record: AnyRecord | None
    problem: str = ""

    def __reduce__(self) -> tuple[object, ...]:
        """Let only the bytes travel between processes: to decode them again costs less."""
        return _restored, (self.data, self.leaf, self.problem)


def _restored(data: bytes, leaf: bytes, problem: str) -> CheckedRecord:
    return CheckedRecord(data, leaf, None if problem else decode(data), problem)


CheckedLine: TypeAlias = CheckedRecord | RawLine
"""A line of a stream: a record, or another one as it stands there."""


class CheckedBlock(NamedTuple):
    """Lines of a stream that follow each other.

    Attributes:
        lines: The lines.
        end: How many bytes of the stream are read with them.
    """

    lines: "list[CheckedLine]"
    end: int


def check_block(part: Block | RawLine | None) -> Iterator[CheckedBlock | None]:
    """Yield the lines of a part of a stream, each looked at by itself; ``None``, the end of a stream, as it is."""
    if part is None:
        yield None
    elif isinstance(part, RawLine):
        yield CheckedBlock([part], part.offset)
    else:
        lines: list[CheckedLine] = []
        for line in part.each():
            data = None if line.torn else record_of(line.data)
            lines.append(raw_line(line) if data is None else _checked(data))
        yield CheckedBlock(lines, part.end)


def _checked(data: bytes) -> CheckedRecord:
    leaf = leaf_hash(data)
    try:
        return CheckedRecord(data, leaf, decode(data))
    except ValueError as error:
        return CheckedRecord(data, leaf, None, str(error))
