"""Model turns of LlamaIndex that a task has seen: a workflow that goes on from a saved context calls tools without one.

LlamaIndex tells each step of a workflow to the span handlers of its instrumentation.
"""

import itertools
from contextvars import ContextVar
from functools import cache
from inspect import BoundArguments
from typing import Any, Final
from weakref import WeakKeyDictionary

from llama_index.core.agent.workflow import AgentOutput, AgentSetup, ToolCall
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.span import BaseSpan
from llama_index.core.instrumentation.span_handlers import BaseSpanHandler
from llama_index.core.llms.llm import ToolSelection
from llama_index.core.workflow import Context

from agent_identity.adapters import saw_calls

__all__ = ["CALLED", "watch_turns"]

CALLED: Final = ContextVar[str | None]("agent_identity_llama_index_called", default=None)
"""The run and the id of the call that the current step of an agent makes; models may reuse an id in another run."""

_RUNS: Final = WeakKeyDictionary[object, str]()
"""Ids of runs, by the store of their context, which all steps of a run share."""

_NUMBERS: Final = itertools.count()


class TurnsSeen(BaseSpanHandler[BaseSpan]):
    """Tells the open tasks which calls the model of an agent has asked for, and the guards which one is made."""

    def new_span(self, *_: object, bound_args: BoundArguments, **__: object) -> None:  # type: ignore[override]
        """Take in which call a step makes; called by LlamaIndex."""
        made = [one for one in bound_args.arguments.values() if isinstance(one, ToolCall)]
        if made:
            CALLED.set(_call_of(_run_of(bound_args), made[0]))

    def prepare_to_exit_span(  # type: ignore[override]
        self, *_: object, bound_args: BoundArguments, result: object = None, **__: object
    ) -> None:
        """Take in what the step of a model answers; called by LlamaIndex."""
        asks = any(isinstance(one, AgentSetup) for one in bound_args.arguments.values())
        if asks and isinstance(result, AgentOutput):
            run = _run_of(bound_args)
            if run is not None:
                saw_calls(_call_of(run, call) for call in result.tool_calls)

    def prepare_to_drop_span(self, *_: object, **__: object) -> None:
        """Take in nothing of a step that failed; called by LlamaIndex."""


def _run_of(bound_args: BoundArguments) -> str | None:
    """Return the id of the run of a step; ``None`` for a step that gets no context."""
    for one in bound_args.arguments.values():
        if isinstance(one, Context):
            store: Any = one.store
            return _RUNS.get(store) or _RUNS.setdefault(store, f"llama_index/{next(_NUMBERS)}")
    return None


def _call_of(run: str | None, call: ToolCall | ToolSelection) -> str:
    """Return the id of a call with its run; if the run is unknown, the empty text, which no task has seen."""
    return "" if run is None else f"{run}/{call.tool_id}"


@cache
def watch_turns() -> None:
    """Have LlamaIndex tell the steps of all workflows of this process, once."""
    get_dispatcher().add_span_handler(TurnsSeen())
