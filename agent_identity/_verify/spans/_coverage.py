"""Share of the tool calls in a trace that are attributed, by library."""

import hashlib
from collections.abc import Iterator
from functools import lru_cache
from struct import Struct
from typing import Final, NamedTuple, final

from agent_identity._identity.common.tool_names import names_at_servers
from agent_identity._spans.otlp_json import SpanData
from agent_identity._spans.tool_spans import calls_tool, named_tool
from agent_identity._verify.report.report import Coverage
from agent_identity._verify.store.spill_store import SpillStore

_OTHER: Final = Struct(">I16s8s8s16s")  # Its scope, trace, span, parent and tool.
_NOTHING: Final = bytes(8)  # No span has this id.
_NO_TOOL: Final = bytes(16)
_OWN, _ABOVE = b"=", b"^"
_NEAR: Final = 20_000  # Calls in memory, of some 250 bytes each.
_MAX_SCOPES: Final = 1_000
_LONGEST: Final = 256  # Characters of the name of a scope, and of that of a tool in a record.
_REST: Final = "(other libraries)"


class ToolCall(NamedTuple):
    """A tool call, traced by any library.

    Attributes:
        scope: The beginning of the name of that library.
        trace: The trace.
        span: The span.
        parent: The span above.
        tool: Digest of the beginning of the name of the tool.
        own: The same of the names that it may have at its server.
    """

    scope: str
    trace: bytes
    span: bytes
    parent: bytes
    tool: bytes
    own: bytes

    @classmethod
    def of(cls, span: SpanData) -> "ToolCall | None":
        """Return the tool call of a span, or ``None`` for another span."""
        if not calls_tool(span.attributes):
            return None
        parent = _NOTHING if span.parent_id is None else bytes.fromhex(span.parent_id)
        trace, own = bytes.fromhex(span.trace_id), bytes.fromhex(span.span_id)
        name = named_tool(span.attributes)
        shown = None if name is None else name[: _LONGEST + 1]
        tool = _NO_TOOL if shown is None else _digest(shown)
        ends = b"" if shown is None else _ends(shown)
        return cls(span.scope[:_LONGEST], trace, own, parent, tool, ends)


@final
class CoverageTable:
    """Counts tool calls by instrumentation scope.

    Several libraries may trace one call: one span of another library counts as attributed if the span right
    above or below it is a call with a valid record, and no call of another tool. Spans come in any order, so
    this is decided last. Until then some 50 bytes of each are kept, spilled to disk if there are many. Scopes beyond
    the first thousand are counted as one. Of the names of scopes only the first 256 characters count, of those of
    tools one more than a record can hold.
    """

    def __init__(self) -> None:
        self._calls: dict[str, list[int]] = {}  # The last of the four is the number of the scope.
        self._attributed = SpillStore(bytes, bytes, near=_NEAR)
        self._others = SpillStore(bytes, bytes, near=_NEAR)
        self._number = 0

    def add(self, call: ToolCall, principal: str | None) -> None:
        """Count a tool call.

        Args:
            call: The call.
            principal: The kind of the principal of a valid record on it, or ``None`` without one.
        """
        scope, trace, span, parent, tool, own = call
        row = self._row(scope)
        row[0] += 1
        if principal is None:
            self._number += 1
            self._others.put(self._number.to_bytes(8), _OTHER.pack(row[3], trace, span, parent, tool))
            return
        human = principal == "human"
        row[1] += 1
        row[2] += human
        said = bytes([human]) + tool + own  # Spans by the conventions of MCP have the name at the server.
        # Of a span that occurs again the last version counts; of the spans below one, the first.
        self._attributed.put(_OWN + trace + span, said)
        if parent != _NOTHING and (above := _ABOVE + trace + parent) not in self._attributed:
            self._attributed.put(above, said)

    def rows(self) -> tuple[Coverage, ...]:
        """Return the table, by scope."""
        self._attribute()
        return tuple(Coverage(scope, *row[:3]) for scope, row in sorted(self._calls.items()))

    def _row(self, scope: str) -> list[int]:
        name = scope if scope in self._calls or len(self._calls) < _MAX_SCOPES else _REST
        return self._calls.setdefault(name, [0, 0, 0, len(self._calls)])

    def _attribute(self) -> None:
        """Attribute calls of other libraries through the span above or below."""
        taken, scopes = SpillStore(bytes, bytes, near=_NEAR), list(self._calls.values())
        for packed in self._others.values():
            number, trace, span, parent, tool = _OTHER.unpack(packed)
            for beside in (_ABOVE + trace + span, _OWN + trace + parent):
                attributed = self._attributed.get(beside)
                key = number.to_bytes(4) + beside
                # One call has one span of each library, and these do not name different tools.
                if attributed is None or key in taken or tool not in (_NO_TOOL, *_digests(attributed)):
                    continue
                taken.put(key, b"")
                scopes[number][1] += 1
                scopes[number][2] += attributed[0]
                break


def _digests(attributed: bytes) -> Iterator[bytes]:
    return (attributed[at : at + 16] for at in range(1, len(attributed), 16))


@lru_cache(maxsize=256)  # A trace names few tools.
def _ends(tool: str) -> bytes:
    return b"".join(map(_digest, names_at_servers(tool)))


@lru_cache(maxsize=256)
def _digest(tool: str) -> bytes:
    return hashlib.sha256(tool.encode("utf-8", "surrogatepass")).digest()[:16]
