"""Handoffs between agents: the acting agent, and the chain of agents that handed the work to it.

The nodes of a graph run in copies of one context: a node does not see what another one opens. All of them see the
task of the run, so handoffs are kept with that task, and end with it. A suspended run continues under a newly opened
task, and must keep its chain of agents: this process remembers it for the same run of the same
node, which LangGraph names alike when it continues.
"""

import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple, cast
from weakref import WeakKeyDictionary

from langchain_core.runnables import RunnableConfig
from langgraph.types import Command, Send

from agent_identity import Agent, Scope, Task
from agent_identity.integrations.narrowing import is_array, is_list

__all__ = ["Hop", "Place", "handed_to", "note_handoff", "place_of", "run_of"]


class Hop(NamedTuple):
    """One delegation: to an agent, with a scope; ``None`` for the whole scope."""

    agent: Agent
    scope: Scope | None


class Place(NamedTuple):
    """An agent's node in the graph around it."""

    thread: str
    graph: str
    node: str


_HANDED: Final[WeakKeyDictionary[Task, dict[Place, tuple[Hop, ...]]]] = WeakKeyDictionary()
_RUNS: Final[OrderedDict[str, tuple[Hop, ...]]] = OrderedDict()
_MAX_RUNS: Final = 4_096
_LOCK: Final = threading.Lock()


def place_of(config: RunnableConfig) -> Place | None:
    """Return the place of the agent whose tool or model runs with this configuration; ``None`` outside any graph."""
    settings = cast("Mapping[str, object]", config.get("configurable") or {})
    nodes = str(settings.get("checkpoint_ns") or "").split("|")
    if len(nodes) < 2:
        return None
    return Place(str(settings.get("thread_id")), "|".join(nodes[:-2]), nodes[-2].partition(":")[0])


def run_of(config: RunnableConfig) -> str | None:
    """Return the id of one run of an agent's node, the same after an interrupt; ``None`` outside any graph."""
    settings = cast("Mapping[str, object]", config.get("configurable") or {})
    nodes = str(settings.get("checkpoint_ns") or "").split("|")
    return None if len(nodes) < 2 else f"{settings.get('thread_id')}|{'|'.join(nodes[:-1])}"


def note_handoff(task: Task, place: Place, result: object, hops: tuple[Hop, ...]) -> None:
    """Note a handoff in the result of a tool, if there is one.

    Args:
        task: The task of the graph.
        place: The agent that called the tool.
        result: The result of the tool.
        hops: The chain of agents of the work, the calling agent last.
    """
    for command in result if is_list(result) else [result]:
        if isinstance(command, Command) and command.graph == Command.PARENT:
            with _LOCK:
                handed = _HANDED.setdefault(task, {})
                for node in _nodes(cast("Any", command).goto):
                    there = place._replace(node=node)
                    # If several agents handed work over, their work cannot be told apart: the chain gets all of them,
                    # so that nobody's narrow scope is traded for another's.
                    before = handed.get(there, ())
                    handed[there] = (*before, *(hop for hop in hops if hop not in before))


def handed_to(task: Task, place: Place | None, run: str | None) -> tuple[Hop, ...]:
    """Return the chain of agents that handed the work to an agent.

    Args:
        task: The open task.
        place: The place of the agent.
        run: The id of this run of its node.
    """
    if place is None or run is None:
        return ()
    with _LOCK:
        hops = _HANDED.get(task, {}).get(place)
        if hops is None:
            return _RUNS.get(run, ())
        _RUNS[run] = hops
        _RUNS.move_to_end(run)
        if len(_RUNS) > _MAX_RUNS:
            _RUNS.popitem(last=False)
        return hops


def _nodes(goto: object) -> Iterable[str]:
    targets = goto if is_array(goto) else [goto]
    return [target.node if isinstance(target, Send) else str(target) for target in targets]
