"""Metrics of operations by OpenTelemetry's conventions for generative AI: calls of tools, and invocations of agents.

They are computed from records, where these are sealed, so that no call takes longer.
"""

from collections.abc import Callable
from typing import Final, NamedTuple, final

from opentelemetry.context import Context
from opentelemetry.metrics import Meter

from agent_identity._record.parts import Time
from agent_identity._record.schema import AnyRecord, Intent, Outcome, TaskEnd, TaskStart
from agent_identity._spans.span_attributes import error_of

_NS: Final = 1_000_000_000
_NO_TOOLS: Final = frozenset({"model", "streamed_model", "prompt", "agent", "handoff"})
"""Kinds of guarded calls that are no tools."""

_MAX_OPEN: Final = 16_384
_TOOL_SECONDS: Final = tuple(0.01 * 2**step for step in range(14))
_AGENT_SECONDS: Final = tuple(0.1 * 2**step for step in range(13))
_CALLS: Final = tuple(2**step for step in range(8))


class Operations(NamedTuple):
    """The histograms of one meter, with the boundaries that the conventions name."""

    tools: "_Record"
    agents: "_Record"
    calls: "_Record"

    @classmethod
    def of(cls, meter: Meter) -> "Operations":
        """Return the histograms of a meter."""
        tools = meter.create_histogram(
            "gen_ai.execute_tool.duration",
            "s",
            "Duration of one execution of a tool.",
            explicit_bucket_boundaries_advisory=_TOOL_SECONDS,
        )
        agents = meter.create_histogram(
            "gen_ai.invoke_agent.duration",
            "s",
            "Duration of one invocation of an agent.",
            explicit_bucket_boundaries_advisory=_AGENT_SECONDS,
        )
        calls = meter.create_histogram(
            "gen_ai.invoke_agent.tool_calls",
            "{tool_call}",
            "Calls of tools in one invocation of an agent.",
            explicit_bucket_boundaries_advisory=_CALLS,
        )
        return cls(tools.record, agents.record, calls.record)


_Record = Callable[[float, dict[str, str], Context], None]


@final
class Invocations:
    """Counts the operations of one enforcer; called where records are sealed, by one thread.

    Args:
        operations: Where they are reported.
        tool: Returns the name of a tool as metrics show it.
        agent: Returns the name of an agent as metrics show it, or nothing.
        known: Returns the class of an error as metrics show it.
    """

    def __init__(
        self,
        operations: Operations,
        *,
        tool: Callable[[str], str],
        agent: Callable[[str], str],
        known: Callable[[str], str],
    ) -> None:
        self._operations = operations
        self._tool, self._agent, self._known = tool, agent, known
        self._open: dict[str, int] = {}

    def count(self, record: AnyRecord) -> None:
        """Count a record."""
        if isinstance(record, Outcome):
            self._executed(record)
        elif isinstance(record, Intent | TaskStart | TaskEnd) and record.chain is not None:
            self._invoked(record, record.chain[-1].grant)

    def _executed(self, record: Outcome) -> None:
        if record.intent is None or record.action.kind in _NO_TOOLS:  # A refused call executes nothing.
            return
        attributes = {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": self._tool(record.action.tool),
            **({"gen_ai.tool.type": "function"} if record.action.kind == "function" else {}),
        }
        self._operations.tools(_seconds(record.time), self._with_error(record, attributes), Context())

    def _invoked(self, record: Intent | TaskStart | TaskEnd, hop: str) -> None:
        if isinstance(record, Intent):
            if hop in self._open and record.action.kind not in _NO_TOOLS:
                self._open[hop] += 1
        elif isinstance(record, TaskStart):
            if len(self._open) < _MAX_OPEN:  # Of the others, the calls are not known.
                self._open[hop] = 0
        else:
            name = self._agent(record.agent.id)
            attributes = {"gen_ai.agent.name": name} if name else {}
            calls = self._open.pop(hop, None)
            if calls is not None:
                self._operations.calls(calls, attributes, Context())
            attributes = {"gen_ai.operation.name": "invoke_agent", **attributes}
            self._operations.agents(_seconds(record.time), self._with_error(record, attributes), Context())

    def _with_error(self, record: AnyRecord, attributes: dict[str, str]) -> dict[str, str]:
        error = error_of(record)
        return attributes if error is None else {**attributes, "error.type": self._known(error)}


def _seconds(time: Time) -> float:
    return max(0, (time.end_ns or time.start_ns) - time.start_ns) / _NS
