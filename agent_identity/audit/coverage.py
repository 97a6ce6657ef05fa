"""What share of the tool calls in a trace somebody answers for, library by library."""

from collections.abc import Mapping
from typing import final

from agent_identity.audit.report import Coverage
from agent_identity.evidence.otlp import SpanData

__all__ = ["CoverageTable", "is_tool_call"]


def is_tool_call(attributes: Mapping[str, object]) -> bool:
    """Return whether a span is a tool call by the GenAI or MCP conventions, whichever library made it."""
    return (
        attributes.get("gen_ai.operation.name") == "execute_tool" or attributes.get("mcp.method.name") == "tools/call"
    )


@final
class CoverageTable:
    """Counts tool calls by instrumentation scope.

    Several libraries may trace one call: one span of another library counts as attributed if the span right
    above or below it is a call with a valid record, and no call of another tool. Spans come in any order, so
    this is decided last.
    """

    def __init__(self) -> None:
        self._calls: dict[str, list[int]] = {}
        self._attributed: dict[tuple[str, str], tuple[bool, object]] = {}
        self._others: list[tuple[str, str, str, str | None, object]] = []

    def add(self, span: SpanData, principal: str | None) -> None:
        """Count a tool call.

        Args:
            span: Its span.
            principal: The kind of the principal of a valid record on it, or ``None`` without one.
        """
        row = self._calls.setdefault(span.scope, [0, 0, 0])
        row[0] += 1
        tool = span.attributes.get("gen_ai.tool.name")
        if principal is None:
            self._others.append((span.scope, span.trace_id, span.span_id, span.parent_id, tool))
            return
        human = principal == "human"
        row[1] += 1
        row[2] += human
        self._attributed[(span.trace_id, span.span_id)] = (human, tool)
        if span.parent_id is not None:
            self._attributed.setdefault((span.trace_id, f"above {span.parent_id}"), (human, tool))

    def rows(self) -> tuple[Coverage, ...]:
        """Return the table, by scope."""
        taken: set[tuple[str, str, str]] = set()
        for scope, trace, span, parent, tool in self._others:
            for beside in (f"above {span}", parent or ""):
                found = self._attributed.get((trace, beside))
                # One call has one span of each library, and these do not name different tools.
                if found is None or tool not in (None, found[1]) or (scope, trace, beside) in taken:
                    continue
                taken.add((scope, trace, beside))
                self._calls[scope][1] += 1
                self._calls[scope][2] += found[0]
                break
        self._others.clear()
        return tuple(Coverage(scope, *row) for scope, row in sorted(self._calls.items()))
