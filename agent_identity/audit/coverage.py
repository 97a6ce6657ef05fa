"""What share of the tool calls in a trace somebody answers for, library by library."""

import hashlib
from collections.abc import Mapping
from struct import Struct
from typing import Final, NamedTuple, final

from agent_identity.audit.key_table import KeyTable, RowFile
from agent_identity.audit.report import Coverage
from agent_identity.evidence.otlp import SpanData

__all__ = ["CoveragePart", "CoverageTable", "is_tool_call"]

_OTHER: Final = Struct(">I16s8s8s16s")  # Its scope, trace, span, parent and tool.
_NOTHING: Final = bytes(8)  # No span has this id.
_NO_TOOL: Final = bytes(16)
_OWN, _ABOVE = b"=", b"^"
_MAX_SCOPES: Final = 1_000
_LONGEST: Final = 256  # Characters of the name of a scope.
_REST: Final = "(other libraries)"


def is_tool_call(attributes: Mapping[str, object]) -> bool:
    """Return whether a span is a tool call by the GenAI or MCP conventions, whichever library made it."""
    return (
        attributes.get("gen_ai.operation.name") == "execute_tool" or attributes.get("mcp.method.name") == "tools/call"
    )


class CoveragePart(NamedTuple):
    """The tool calls of a part of the traces.

    Attributes:
        calls: By scope, how many there are, how many of them are attributed, and to a human.
        attributed: Where calls with a valid record are.
        others: The other calls; the number of the scope is that of ``calls``.
    """

    calls: Mapping[str, tuple[int, int, int]]
    attributed: list[tuple[bytes, bytes]]
    others: list[bytes]


@final
class CoverageTable:
    """Counts tool calls by instrumentation scope.

    Several libraries may trace one call: one span of another library counts as attributed if the span right
    above or below it is a call with a valid record, and no call of another tool. Spans come in any order, so
    this is decided last. Until then some 50 bytes of each are kept, on the disk if there are many. Scopes beyond the
    first thousand are counted as one, and of their names the beginning counts.
    """

    def __init__(self) -> None:
        self._calls: dict[str, list[int]] = {}  # The last of the four is the number of the scope.
        self._attributed = RowFile()
        self._others = RowFile()
        self._any_others = False

    def add(self, span: SpanData, principal: str | None) -> None:
        """Count a tool call.

        Args:
            span: Its span.
            principal: The kind of the principal of a valid record on it, or ``None`` without one.
        """
        row = self._row(span.scope[:_LONGEST])
        row[0] += 1
        trace, tool = bytes.fromhex(span.trace_id), _digest(span.attributes.get("gen_ai.tool.name"))
        parent = _NOTHING if span.parent_id is None else bytes.fromhex(span.parent_id)
        if principal is None:
            self._add_other(_OTHER.pack(row[3], trace, bytes.fromhex(span.span_id), parent, tool))
            return
        human = principal == "human"
        row[1] += 1
        row[2] += human
        said = bytes([human]) + tool
        self._attributed.add((_OWN + trace + bytes.fromhex(span.span_id), said))
        if span.parent_id is not None:
            self._attributed.add((_ABOVE + trace + parent, said))

    def shipped(self) -> CoveragePart | None:
        """Return what was counted of a part, or ``None`` if it has so many scopes that others come first."""
        if len(self._calls) > _MAX_SCOPES:
            return None
        calls = {scope: (row[0], row[1], row[2]) for scope, row in self._calls.items()}
        return CoveragePart(calls, list(self._attributed.rows()), [row for row, _ in self._others.rows()])

    def merge(self, part: CoveragePart) -> None:
        """Take over what was counted of a later part."""
        for scope, row in part.calls.items():
            known = self._row(scope)
            for place, number in enumerate(row):
                known[place] += number
        for attributed in part.attributed:
            self._attributed.add(attributed)
        numbers = [self._row(scope)[3] for scope in part.calls]
        for packed in part.others:
            number, *rest = _OTHER.unpack(packed)
            self._add_other(_OTHER.pack(numbers[number], *rest))

    def rows(self) -> tuple[Coverage, ...]:
        """Return the table, by scope."""
        if self._any_others:
            self._attribute()
        return tuple(Coverage(scope, *row[:3]) for scope, row in sorted(self._calls.items()))

    def _row(self, scope: str) -> list[int]:
        name = scope if scope in self._calls or len(self._calls) < _MAX_SCOPES else _REST
        return self._calls.setdefault(name, [0, 0, 0, len(self._calls)])

    def _add_other(self, packed: bytes) -> None:
        self._any_others = True
        self._others.add((packed, b""))

    def _attribute(self) -> None:
        """Attribute calls of other libraries through the span above or below."""
        taken, scopes = KeyTable(), list(self._calls.values())
        for packed, _ in self._others.rows():
            number, trace, span, parent, tool = _OTHER.unpack(packed)
            for beside in (_ABOVE + trace + span, _OWN + trace + parent):
                # A span is there again with what was said last; of those below one, the first one counts.
                found = self._attributed.one(beside, last=beside[:1] == _OWN)
                key = number.to_bytes(4) + beside
                # One call has one span of each library, and these do not name different tools.
                if found is None or tool not in (_NO_TOOL, found[1:]) or taken.get(key) is not None:
                    continue
                taken.put(key, b"")
                scopes[number][1] += 1
                scopes[number][2] += found[0]
                break


def _digest(tool: object) -> bytes:
    """Return what tells the names of tools apart."""
    return _NO_TOOL if tool is None else hashlib.sha256(repr(tool).encode("utf-8", "surrogatepass")).digest()[:16]
