"""Who acts in an agent, and through whose hands the work came to it.

The nodes of a graph run in copies of one context: what one of them opens, the next does not see. All of them see the
task that the run began in, so handoffs are kept with that task, and end with it.
"""

import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple, cast
from weakref import WeakKeyDictionary

from langchain_core.runnables import RunnableConfig
from langgraph.types import Command, Send

from agent_identity.authority import Scope
from agent_identity.enforcement import Task
from agent_identity.identity import Agent

__all__ = ["Hop", "Place", "handed_to", "note_handoff", "place_of"]


class Hop(NamedTuple):
    """One delegation: to whom, and how much; ``None`` for all that there is."""

    agent: Agent
    scope: Scope | None


class Place(NamedTuple):
    """An agent's node in the graph round it."""

    thread: str
    graph: str
    node: str


_HANDED: Final[WeakKeyDictionary[Task, dict[Place, tuple[Hop, ...]]]] = WeakKeyDictionary()
_LOCK: Final = threading.Lock()


def place_of(config: RunnableConfig) -> Place | None:
    """Return where an agent stands whose tool or model runs with this configuration; ``None`` outside any graph."""
    settings = cast("Mapping[str, object]", config.get("configurable") or {})
    nodes = str(settings.get("checkpoint_ns") or "").split("|")
    if len(nodes) < 2:
        return None
    return Place(str(settings.get("thread_id")), "|".join(nodes[:-2]), nodes[-2].partition(":")[0])


def note_handoff(task: Task, place: Place, result: object, hops: tuple[Hop, ...]) -> None:
    """Note where the result of a tool hands the work over to, if it does.

    Args:
        task: The task in which the graph runs.
        place: The agent that called the tool.
        result: What the tool returned.
        hops: Through whose hands the work came, that agent's last.
    """
    for command in cast("list[object]", result) if isinstance(result, list) else [result]:
        if isinstance(command, Command) and command.graph == Command.PARENT:
            with _LOCK:
                handed = _HANDED.setdefault(task, {})
                handed.update({place._replace(node=node): hops for node in _nodes(cast("Any", command).goto)})


def handed_to(task: Task, place: Place | None) -> tuple[Hop, ...]:
    """Return through whose hands the work came to an agent."""
    with _LOCK:
        return () if place is None else _HANDED.get(task, {}).get(place, ())


def _nodes(goto: object) -> Iterable[str]:
    targets = cast("Sequence[object]", goto) if isinstance(goto, list | tuple) else [goto]
    return [target.node if isinstance(target, Send) else str(target) for target in targets]
