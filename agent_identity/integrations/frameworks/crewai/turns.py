"""Runs of CrewAI that began in a task; one that resumes from a checkpoint has read texts of earlier tasks."""

import itertools
import weakref
from collections.abc import Hashable, Iterable, Iterator, Mapping
from typing import Any, Final, cast

from crewai.agents.agent_builder.base_agent import BaseAgent
from crewai.hooks import (
    LLMCallHookContext,
    get_before_llm_call_hooks,
    register_before_llm_call_hook,
    unregister_before_llm_call_hook,
)

from agent_identity.adapters import Part, resume_run, saw_calls
from agent_identity.integrations.frameworks.crewai.models import contents_of

__all__ = ["forget_turns", "turn_of", "watch_turns"]

_ANSWERS: Final = ("assistant", "tool", "function")
"""The roles of messages that a run has brought about."""

_RUNS: Final = weakref.WeakKeyDictionary[Any, str]()
"""Ids of runs that began without a history, by their executors."""

_NUMBERS: Final = itertools.count()


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
    """Note a run in the open tasks if the model has not answered in it yet; called by CrewAI.

    A run that is resumed, or that begins with a history, has messages of a model or of tools. Unless it began in the
    task, their origin is unknown: the mark falls before the model reads them.
    """
    executor = context.executor if isinstance(context.executor, Hashable) else None
    answers = [message for message in context.messages if _role(message) in _ANSWERS]
    if not answers and not context.iterations:
        run = f"crewai/run/{next(_NUMBERS)}"
        if executor is not None:
            _RUNS[executor] = run
        saw_calls((turn_of(context.agent), run))
    elif executor is not None:
        resume_run(_RUNS.get(executor, ""), lambda: _parts(answers or context.messages))


def _parts(messages: Iterable[object]) -> Iterator[Part]:
    """Yield the parts of messages of unknown origin."""
    for message in messages:
        contents = contents_of(cast("Mapping[str, object]", message)) if isinstance(message, Mapping) else (message,)
        yield from (Part("other", content) for content in contents)


def _role(message: object) -> object:
    return cast("Mapping[str, object]", message).get("role") if isinstance(message, Mapping) else _ANSWERS[0]
