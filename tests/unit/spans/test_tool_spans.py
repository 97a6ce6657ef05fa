"""Spans of tool calls, in the conventions of several libraries."""

import pytest

from agent_identity._spans.tool_spans import calls_tool, named_tool

MARKED = {
    "gen_ai.operation.name": "execute_tool",
    "mcp.method.name": "tools/call",
    "openinference.span.kind": "TOOL",
    "traceloop.span.kind": "tool",
    "langfuse.observation.type": "tool",
}


@pytest.mark.parametrize("name", sorted(MARKED))
def test_a_mark_of_any_library_makes_a_tool_call(name: str) -> None:
    """And another value of it does not."""
    assert calls_tool({"other": 1, name: MARKED[name]})
    assert not calls_tool({name: "chat"})


def test_without_an_operation_name_and_id_make_a_tool_call() -> None:
    """As older versions of Pydantic AI have it; what has another operation is none."""
    older = {"gen_ai.tool.name": "pay", "gen_ai.tool.call.id": "1"}
    assert calls_tool(older)
    assert not calls_tool({"gen_ai.tool.name": "pay"})
    assert not calls_tool({**older, "gen_ai.operation.name": "chat"})


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({"gen_ai.tool.name": "pay", "tool.name": "other"}, "pay"),
        ({"gen_ai.tool.name": "", "tool.name": "pay"}, "pay"),
        ({"gen_ai.tool.name": 5}, None),
        ({"traceloop.span.kind": "tool", "traceloop.entity.name": "pay"}, "pay"),
        ({"traceloop.span.kind": "task", "traceloop.entity.name": "pay"}, None),
        ({"traceloop.span.kind": "tool", "traceloop.entity.name": ""}, None),
        ({"traceloop.span.kind": "tool", "traceloop.entity.name": 5}, None),
        ({}, None),
    ],
)
def test_the_name_of_the_tool(attributes: dict[str, object], expected: str | None) -> None:
    """The first attribute with a text names it."""
    assert named_tool(attributes) == expected
