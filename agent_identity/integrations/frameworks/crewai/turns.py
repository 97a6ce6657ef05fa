"""Runs of CrewAI that began in a task: one that goes on from a checkpoint brings along what it has read before."""

from collections.abc import Iterable, Mapping
from typing import Final, cast

from crewai.agents.agent_builder.base_agent import BaseAgent
from crewai.hooks import (
    LLMCallHookContext,
    get_before_llm_call_hooks,
    register_before_llm_call_hook,
    unregister_before_llm_call_hook,
)

from agent_identity._enforcement.tasks import tasks_in

__all__ = ["forget_turns", "turn_of", "watch_turns"]

_ANSWERS: Final = ("assistant", "tool", "function")
"""The roles of messages that a run has brought about."""


def turn_of(agent: object) -> str:
    """Return what tells that a run of an agent began in a task; CrewAI tells no ids of calls.

    Args:
        agent: The agent.
    """
    return f"crewai/{getattr(agent, 'id', '')}"


def watch_turns(members: Iterable[BaseAgent] = ()) -> None:
    """Have CrewAI tell when agents of this process ask their models.

    Args:
        members: Agents that may have run before, and then do not notice new hooks by themselves.
    """
    if _note not in get_before_llm_call_hooks():
        register_before_llm_call_hook(_note)
    for member in members:
        hooks = getattr(getattr(member, "agent_executor", None), "before_llm_call_hooks", None)
        if isinstance(hooks, list) and _note not in hooks:
            hooks.append(_note)


def forget_turns() -> None:
    """Undo :func:`watch_turns`, for agents that have not run yet."""
    unregister_before_llm_call_hook(_note)


def _note(context: LLMCallHookContext) -> None:
    """Know that a run has begun in the open tasks, if the model has answered nothing in it yet; called by CrewAI.

    A run that goes on, or that begins with a history, has messages of a model or of tools, of which nobody here knows
    where they come from.
    """
    if any(_role(message) in _ANSWERS for message in context.messages):
        return
    for task in tasks_in():
        if task.flow is not None:
            task.flow.saw((turn_of(context.agent),))


def _role(message: object) -> object:
    return cast("Mapping[str, object]", message).get("role") if isinstance(message, Mapping) else _ANSWERS[0]
