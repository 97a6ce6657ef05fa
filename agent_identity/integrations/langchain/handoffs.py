"""Who acts in an agent, and through whose hands the work came to it.

The nodes of a graph run in copies of one context: what one of them opens, the next does not see. All of them see the
task that the run began in, so handoffs are kept with that task, and end with it. What is suspended goes on under a task
that is opened anew, and must not thereby be free of those through whose hands it came: for the same run of the same
node, which LangGraph names alike when it goes on, this process remembers them.
"""

import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple, cast
from weakref import WeakKeyDictionary

from langchain_core.runnables import RunnableConfig
from langgraph.types import Command, Send

from agent_identity.authority import Scope
from agent_identity.enforcement import Task
from agent_identity.identity import Agent

__all__ = ["Hop", "Place", "handed_to", "note_handoff", "place_of", "run_of"]


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
_RUNS: Final[OrderedDict[str, tuple[Hop, ...]]] = OrderedDict()
_MAX_RUNS: Final = 4_096
_LOCK: Final = threading.Lock()


def place_of(config: RunnableConfig) -> Place | None:
    """Return where an agent stands whose tool or model runs with this configuration; ``None`` outside any graph."""
    settings = cast("Mapping[str, object]", config.get("configurable") or {})
    nodes = str(settings.get("checkpoint_ns") or "").split("|")
    if len(nodes) < 2:
        return None
    return Place(str(settings.get("thread_id")), "|".join(nodes[:-2]), nodes[-2].partition(":")[0])


def run_of(config: RunnableConfig) -> str | None:
    """Return what names one run of an agent's node, the same after an interrupt; ``None`` outside any graph."""
    settings = cast("Mapping[str, object]", config.get("configurable") or {})
    nodes = str(settings.get("checkpoint_ns") or "").split("|")
    return None if len(nodes) < 2 else f"{settings.get('thread_id')}|{'|'.join(nodes[:-1])}"


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
                for node in _nodes(cast("Any", command).goto):
                    there = place._replace(node=node)
                    # Whose work it is that an agent does, cannot be told where several have handed it over: it passed
                    # through the hands of all of them, so that nobody's narrow scope is traded for another's.
                    before = handed.get(there, ())
                    handed[there] = (*before, *(hop for hop in hops if hop not in before))


def handed_to(task: Task, place: Place | None, run: str | None) -> tuple[Hop, ...]:
    """Return through whose hands the work came to an agent.

    Args:
        task: The task that is open.
        place: Where the agent stands.
        run: What names this run of its node.
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
    targets = cast("Sequence[object]", goto) if isinstance(goto, list | tuple) else [goto]
    return [target.node if isinstance(target, Send) else str(target) for target in targets]
