"""``agent-identity show``: who did what on whose behalf, through which chain, and what was refused."""

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias, final

from agent_identity._reports.timelines.builder import Action, TaskTimeline, remarks, story
from agent_identity._verify.inputs.sources import is_bundle
from agent_identity._verify.report.plurals import counted, some
from agent_identity.cli.terminal.parsing import moment_ns
from agent_identity.cli.terminal.sources import STANDARD_INPUT, gathered, is_directory, named
from agent_identity.cli.terminal.style import Style, clean, columns, moment, table
from agent_identity.errors import ConfigurationError

_COLORS: Final = {"allow": "green", "warn": "yellow", "block": "red", "route": "blue"}
_REFUSED: Final = "denied"
_MIN_END: Final = 6
_NAMED: Final = 5  # Tasks that an ambiguous id lists.

_Source: TypeAlias = str | Sequence[str]
"""A directory or bundle, or files of traces, which may share tasks."""


class _Told(NamedTuple):
    """A task with its source."""

    source: _Source
    story: TaskTimeline


@final
class _Filter:
    """Selects calls and tasks, and counts the others.

    Args:
        chosen: The options of the command.
    """

    def __init__(self, chosen: argparse.Namespace) -> None:
        self._refused: bool = chosen.refused
        self._agents: frozenset[str] = frozenset(chosen.agent)
        self._principals: frozenset[str] = frozenset(chosen.principal)
        self._tools: frozenset[str] = frozenset(chosen.tool)
        self._effects: frozenset[str] = frozenset(chosen.effect)
        self._start = None if chosen.start is None else moment_ns(chosen.start)
        self._stop = None if chosen.stop is None else moment_ns(chosen.stop)
        self.calls = 0
        self.tasks = 0

    @property
    def is_for_calls(self) -> bool:
        """True if the filter selects single calls of a task."""
        times = self._start is not None or self._stop is not None
        return times or bool(self._agents or self._principals or self._tools or self._effects)

    def wants(self, action: Action) -> bool:
        """Return whether a call is selected, its principal aside."""
        return (
            (not self._agents or not self._agents.isdisjoint(action.agents[-1:]))
            and (not self._tools or action.tool in self._tools)
            and (not self._effects or action.effect in self._effects)
            and (self._start is None or action.at_ns >= self._start)
            and (self._stop is None or action.at_ns < self._stop)
        )

    def takes(self, task: TaskTimeline) -> bool:
        """Return whether a task is shown, and count its calls that are not."""
        self.calls += task.left_out
        calls = len(task.actions) + task.omitted
        if (
            (self._refused and not (task.refused or task.withheld))
            or (self._principals and task.principal not in self._principals)
            or (self.is_for_calls and not calls)
        ):
            self.calls += calls
            self.tasks += 1
            return False
        return True

    def left_out(self) -> dict[str, int]:
        """Return the counts of calls and tasks that are not shown."""
        return {"calls": self.calls, "tasks": self.tasks}

    def __str__(self) -> str:
        return f"left out: {counted(self.calls, 'call')}, {counted(self.tasks, 'task')} as a whole"


def run(chosen: argparse.Namespace) -> int:
    """Run the command."""
    wanted, sources = _Filter(chosen), _sources(chosen.source)
    tasks = _tasks(chosen, sources, wanted)
    if chosen.html is not None:
        from agent_identity.cli.look.tasks_page import write_tasks

        write_tasks(chosen, tasks)
    elif chosen.json:
        print_list("tasks", map(to_json, tasks), lambda: {"left_out": wanted.left_out()})
    elif chosen.jsonl:
        for task in tasks:
            print(json.dumps(to_json(task)))
        if wanted.calls or wanted.tasks:
            print(wanted, file=sys.stderr)
    else:
        _print(tasks, wanted, several=len(sources) > 1)
    return 0


def _print(tasks: Iterable[_Told], wanted: _Filter, *, several: bool) -> None:
    """Print the tasks for people, with the name of each source where there are several."""
    style, room = Style(sys.stdout), columns(sys.stdout)
    source: _Source = ""
    separator = ""
    for task in tasks:
        if several and task.source != source:
            source = task.source
            print(f"{separator}{style.paint(f'from {_name(source)}', 'blue')}")
            separator = "\n"
        print(separator + "\n".join(lines(task.story, style, room)))
        separator = "\n"
    if not separator:
        print("nothing to show")
    if wanted.calls or wanted.tasks:
        print(f"{separator}{style.paint(str(wanted), 'dim')}")
    if separator:
        print(style.paint("\nThis is what the evidence says; run 'agent-identity verify' to check it.", "dim"))


def _name(source: _Source) -> str:
    return clean(source if isinstance(source, str) else f"{source[0]} and {counted(len(source) - 1, 'other file')}")


def _sources(words: Sequence[str]) -> list[_Source]:
    """Return the sources to read: each directory and bundle by itself, and all files of traces together.

    Raises:
        ConfigurationError: A source is missing.
    """
    names = gathered(words)
    alone = [str(name) for name in names if is_directory(name) or is_bundle(name)]
    files = [name for name in names if name not in alone]
    for name in alone:
        named([name])
    return [*alone, *([named(files)] if files else [])]


def _tasks(chosen: argparse.Namespace, sources: Sequence[_Source], wanted: _Filter) -> Iterator[_Told]:
    """Yield the tasks to show.

    Raises:
        ConfigurationError: The task is unknown, or the files hold no records.
    """
    every = (_Told(source, one) for source in sources for one in story(source, wanted=wanted.wants))
    read = shown = 0
    for task in _of_task(every, chosen.task) if chosen.task else every:
        read += 1
        if wanted.takes(task.story):
            shown += 1
            yield task
    if chosen.task and not shown:
        kind = "calls that match" if wanted.is_for_calls else "refused calls" if chosen.refused else "records"
        raise ConfigurationError(
            f"there are no {kind} of the task {chosen.task!r}; 'agent-identity show SOURCE' names all tasks"
        )
    if not read:
        _refuse_files(sources)


def _refuse_files(sources: Sequence[_Source]) -> None:
    """Report files without records.

    Raises:
        ConfigurationError: A file without records is not empty.
    """
    for source in (file for one in sources for file in ((one,) if isinstance(one, str) else one)):
        if not is_directory(source) and (source == STANDARD_INPUT or Path(source).stat().st_size):
            raise ConfigurationError(
                f"no records in {source!r}; name an evidence directory or OTLP traces; for JSON of a back end "
                "run 'agent-identity verify --span'"
            )


def _of_task(tasks: Iterable[_Told], wanted: str) -> Iterable[_Told]:
    """Return the parts of the one task whose id is this text, or ends with it.

    The ids of one moment begin alike, so an end tells them apart.

    Raises:
        ConfigurationError: Several ids end with it.
    """
    tasks_by_id: dict[str, list[_Told]] = {}
    for task in tasks:
        name = task.story.task
        if name is not None and (name == wanted or (len(wanted) >= _MIN_END and name.endswith(wanted))):
            kept = tasks_by_id.setdefault(name, [])
            if len(tasks_by_id) <= _NAMED or name == wanted:
                kept.append(task)
    if wanted not in tasks_by_id and len(tasks_by_id) > 1:
        names = some([*tasks_by_id], _NAMED)
        raise ConfigurationError(
            f"{len(tasks_by_id):,} tasks have an id that ends with {wanted!r}: {names}; give more of it"
        )
    return tasks_by_id.get(wanted) or [task for kept in tasks_by_id.values() for task in kept]


def to_json(task: _Told) -> dict[str, object]:
    """Return a task in plain values; times are decimal strings, which no JSON reader rounds."""
    one = task.story
    facts: dict[str, object] = {"source": task.source, **asdict(one)}
    facts["started_ns"] = str(one.started_ns)
    facts["expires_ns"] = None if one.expires_ns is None else str(one.expires_ns)
    facts["ended_ns"] = None if one.ended_ns is None else str(one.ended_ns)
    facts["actions"] = [{**asdict(action), "at_ns": str(action.at_ns)} for action in one.actions]
    return facts


def lines(told: TaskTimeline, style: Style, room: int | None = None) -> Iterator[str]:
    """Yield one story for people.

    Args:
        told: The story.
        style: Paints it.
        room: The columns of the terminal; ``None`` for no limit.
    """
    yield from _heading(told, style)
    rows = [_row(action) for action in told.actions]
    for action, line in zip(told.actions, table(rows, room=room), strict=True):
        yield style.paint(line, _color(action))
        yield from _led(action, told)
    calls = len(told.actions) + told.omitted
    if told.omitted:
        yield f"  … and {told.omitted:,} more calls"
    if told.refused:
        yield f"  {told.refused:,} of {counted(calls, 'call')} refused"
    if told.withheld:
        yield f"  the results of {told.withheld:,} of {counted(calls, 'call')} withheld"


def _heading(task: TaskTimeline, style: Style) -> Iterator[str]:
    if task.task is None:
        yield style.paint("outside any task", "bold")
        return
    yield style.paint(clean(task.purpose or "task"), "bold") + style.paint(f"  {clean(task.task)}", "dim")
    owner = f" (owner {clean(task.owner)})" if task.owner else ""
    who = clean(task.principal or "?")
    kind = ", ".join(fact for fact in (task.principal_kind, task.provenance) if fact) or "?"
    via = f" via {clean(' → '.join(reversed(task.via)))}" if task.via else ""
    yield f"  on behalf of {who} ({kind}){via} → {clean(task.agent or '?')}{owner}"
    yield from _registered(task)
    ended = "no end recorded" if task.ended_ns is None else moment(task.ended_ns)
    yield f"  {moment(task.started_ns)} to {ended}"
    if task.erased:
        yield "  its digests cannot be proved any more: their keys were erased"
    for part in task.delegations:
        yield f"  delegated {clean(' → '.join(part.agents))}: {clean(part.purpose)}"


def _registered(task: TaskTimeline) -> Iterator[str]:
    if task.registered_for:
        yield f"  {clean(task.agent or '?')} is registered for: {clean(task.registered_for)}"


def _row(action: Action) -> tuple[str, ...]:
    clock = f"{moment(action.at_ns)[11:19]}.{action.at_ns // 1_000_000 % 1_000:03d}"
    return (clock, action.effect, clean(action.tool), clean(" → ".join(action.agents) or "no agent"), _ending(action))


def _led(action: Action, told: TaskTimeline) -> Iterator[str]:
    """Yield where the destinations of a call came from, if that was recorded."""
    principal = clean(told.principal or "the principal")
    for of in action.destinations:
        if of.provenance == "principal":
            yield f"    {clean(of.argument)}: from {principal}"
            continue
        at = "" if of.source_ns is None else f" at {moment(int(of.source_ns))[11:19]}"
        nobody = "the tool's own default" if of.provenance == "trusted" else "from no one on record"
        source = f"from {clean(of.source)}{at}" if of.source else nobody
        yield f"    {clean(of.argument)}: {source} ({of.provenance}), not from {principal}"


def _ending(action: Action) -> str:
    words = "ran, result withheld" if action.withheld else action.outcome
    if action.outcome == "error" and action.error:
        words = f"error {action.error}"
    details = [
        action.reason if action.outcome == _REFUSED or action.effect != "allow" else "",
        f"argument {action.argument}" if action.argument else "",
        _route(action),
        f"rule {action.rule}" if action.rule else "",
        action.why or "",
        *remarks(action),
    ]
    detail = ", ".join(part for part in details if part)
    return clean(f"{words}: {detail}" if detail else words)


def _route(action: Action) -> str:
    if action.approver:
        return f"to {action.route}, approved by {action.approver}"
    return f"to {action.route}" if action.route else ""


def _color(action: Action) -> str:
    return "red" if action.outcome in (_REFUSED, "error") else _COLORS[action.effect]


def print_list(name: str, items: Iterable[object], rest: Callable[[], Mapping[str, object]] = dict) -> None:
    """Print one JSON object with a list, item by item, so that memory does not grow with it.

    Args:
        name: The member that is the list.
        items: The items.
        rest: Returns the other members, called after the last item.
    """
    before = f"{{{json.dumps(name)}: ["
    for item in items:
        sys.stdout.write(before + json.dumps(item))
        before = ", "
    if before != ", ":
        sys.stdout.write(before)
    print("]" + "".join(f", {json.dumps(key)}: {json.dumps(value)}" for key, value in rest().items()) + "}")
