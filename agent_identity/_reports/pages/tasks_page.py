"""The page of tasks and their calls, as ``show`` tells them: what the evidence says, and no proof."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, final

from agent_identity._reports.answers.report_frame import NO_KEYS, Frame, SourceFrame
from agent_identity._reports.pages._layout import (
    Body,
    Section,
    badge,
    code,
    figure,
    record_code,
    row_id,
    table,
    time_cell,
)
from agent_identity._reports.pages._markup import Content, Markup, element, joined, names, text
from agent_identity._reports.pages._time_picture import Mark, MarkKind, time_picture
from agent_identity._reports.pages._tree_picture import TreeNode, refused_node, tools_node, tree_picture
from agent_identity._reports.pages.words import clock, moment
from agent_identity._reports.timelines.builder import Action, TaskTimeline, remarks
from agent_identity._verify.fleet.places import PlaceKind
from agent_identity._verify.report.plurals import counted

_TASKS: Final = 200
_ROWS: Final = 5_000
_MARKS: Final = 100_000
_MAX_PATHS: Final = 10_000
_OPEN: Final = 3
_COLUMNS: Final = ("Time", "Decision", "Tool", "By", "Outcome", "Why", "Record")
_TONES: Final = {"allow": "good", "warn": "warn", "block": "bad", "route": "note"}
_UNVERIFIED: Final = (
    "whether any of this is true: show repeats what the evidence says; agent-identity verify checks it, and "
    "agent-identity report incident everything shows a verified timeline"
)


@final
@dataclass(frozen=True, slots=True)
class Told:
    """A task, and the source that tells of it.

    Attributes:
        place: The path of the source.
        kind: The form of the source.
        task: The task.
    """

    place: str
    kind: PlaceKind
    task: TaskTimeline


def tasks_body(tasks: Iterable[Told], *, command: str | None, period: tuple[int | None, int | None]) -> Body:
    """Return the content of the page.

    Args:
        tasks: The tasks; more than fit on the page are only counted.
        command: The command that asked.
        period: The first moment that was asked for and the first one after it.
    """
    summary = _Summary()
    for told in tasks:
        summary.take(told)
    frame = Frame("show", tuple(summary.sources()), *period, tuple(summary.not_shown()), command)
    calls, refused = summary.calls, summary.refused
    return Body(
        name="tasks",
        title="Tasks and calls",
        headline=f"{counted(summary.tasks, 'task')} with {counted(calls, 'call')}, {refused:,} refused.",
        frame=frame,
        figures=[
            ("tasks", summary.tasks),
            ("calls", calls),
            ("refused", refused),
            ("results withheld", summary.withheld),
        ],
        sections=list(_sections(summary)),
        counted=False,
    )


@final
class _Summary:
    """The bounded summary of the tasks."""

    def __init__(self) -> None:
        self.tasks = self.calls = self.refused = self.withheld = self.left_out = self.rows = 0
        self.kept: list[TaskTimeline] = []
        self.marks: list[Mark] = []
        self.paths: dict[tuple[str, ...], Counter[tuple[str, str]]] = {}
        self.undrawn = 0
        self._sources: dict[tuple[str, PlaceKind], tuple[int, int]] = {}

    def take(self, told: Told) -> None:
        """Take a task."""
        task = told.task
        calls = len(task.actions) + task.omitted
        self.tasks += task.task is not None
        self.calls += calls
        self.refused += task.refused
        self.withheld += task.withheld
        self.left_out += task.left_out
        last = task.ended_ns or max((action.at_ns for action in task.actions), default=task.started_ns)
        first, until = self._sources.get((told.place, told.kind), (task.started_ns, last))
        self._sources[told.place, told.kind] = (min(first, task.started_ns), max(until, last))
        if len(self.kept) < _TASKS and self.rows < _ROWS:
            self.kept.append(task)
            self.rows += len(task.actions)
        for action in task.actions:
            self._draw(task, action)
        self.undrawn += task.omitted

    def _draw(self, task: TaskTimeline, action: Action) -> None:
        path = (task.principal or "no one", *(action.agents or ("no agent",)))
        if len(self.marks) >= _MARKS or (path not in self.paths and len(self.paths) >= _MAX_PATHS):
            self.undrawn += 1
            return
        self.marks.append(Mark(action.at_ns, path[-1], _mark(action)))
        self.paths.setdefault(path, Counter())[action.tool, _mark(action)] += 1

    def sources(self) -> Iterator[SourceFrame]:
        """Yield the sources; nothing of them is verified."""
        for (place, kind), (first, last) in self._sources.items():
            yield SourceFrame(place, kind, None, NO_KEYS, None, 0, 0, first, last)

    def not_shown(self) -> Iterator[str]:
        """Yield what the page does not show."""
        yield _UNVERIFIED
        yield "content of arguments and results, of which records have keyed digests"
        if self.left_out:
            yield f"{counted(self.left_out, 'call')} that the filters leave out"
        if self.tasks > len(self.kept):
            yield f"the calls of {counted(self.tasks - len(self.kept), 'further task')}: the page has room for {_TASKS}"
        if self.undrawn:
            yield f"{counted(self.undrawn, 'call')} in the pictures"


def _mark(action: Action) -> MarkKind:
    if action.outcome == "denied" and not action.withheld:
        return "refused"
    return "ok" if action.outcome == "success" or action.withheld else "open"


def _sections(summary: _Summary) -> Iterator[Section]:
    chain = tree_picture(_trees(summary), id_="chain", title="Calls from principals through agents to tools")
    time = time_picture(summary.marks, id_="time", title="The calls in time, as in the tables")
    pictures = [
        figure(chain, "from the human through the agents to the tools"),
        figure(time, "calls in time, by the agent that acted, in UTC"),
    ]
    yield Section("pictures", "At a glance", joined(pictures) or element("p", "Nothing to show."))
    room = _ROWS
    parts: list[Markup] = []
    for number, task in enumerate(summary.kept):
        parts.append(_task(task, room, opened=number < _OPEN))
        room = max(0, room - len(task.actions))
    if summary.tasks > len(summary.kept):
        left = f"{counted(summary.tasks - len(summary.kept), 'more task')}: --json and --jsonl have all"
        parts.append(element("p", left, class_="more"))
    yield Section("tasks", "Tasks", joined(parts) or element("p", "None."))


def _trees(summary: _Summary) -> Sequence[TreeNode]:
    roots: dict[str, TreeNode] = {}
    nodes: dict[tuple[str, ...], TreeNode] = {}
    for path in sorted(summary.paths):
        above = roots.setdefault(path[0], TreeNode("principal", path[0], ("on behalf of",)))
        for length in range(2, len(path) + 1):
            key = path[:length]
            if key not in nodes:
                nodes[key] = TreeNode("agent", key[-1])
                above.children.append(nodes[key])
            above = nodes[key]
        above.children[:0] = [*_refused(summary.paths[path]), *_tools(summary.paths[path])]
    return list(roots.values())


def _tools(calls: Counter[tuple[str, str]]) -> list[TreeNode]:
    return tools_node(_by_tool(calls, refused=False))


def _refused(calls: Counter[tuple[str, str]]) -> list[TreeNode]:
    return refused_node({tool: f"{count} refused" for tool, count in _by_tool(calls, refused=True).items()})


def _by_tool(calls: Counter[tuple[str, str]], *, refused: bool) -> dict[str, str]:
    tools: Counter[str] = Counter()
    for (tool, kind), count in calls.items():
        if (kind == "refused") is refused:
            tools[tool] += count
    return {tool: f"{count:,}" for tool, count in sorted(tools.items(), key=lambda item: (-item[1], item[0]))}


def _task(task: TaskTimeline, room: int, *, opened: bool) -> Markup:
    if task.task is None:
        title, who = "Outside any task", "no one"
    else:
        title, who = task.purpose or "Task", f"{task.principal or 'unknown'} → {task.agent or 'unknown'}"
    calls = len(task.actions) + task.omitted
    refused = Markup(" ") + badge(f"{task.refused:,} refused", "bad") if task.refused else Markup()
    summary = element("summary", element("strong", title), f" {who}, {counted(calls, 'call')}", refused)
    rows = table(
        f"Calls of {title if task.task is None else task.task}",
        _COLUMNS,
        task.actions,
        _action,
        most=min(1_000, room),
        mark=lambda action: (row_id(action.record), "denied" if _mark(action) == "refused" else None),
    )
    more = element("p", f"{task.omitted:,} more calls were only counted", class_="more") if task.omitted else Markup()
    return element(
        "details", summary, *_facts(task), rows, more, class_="task", open="" if opened else None
    )  # fmt: skip


def _facts(task: TaskTimeline) -> Iterator[Markup]:
    if task.task is None:
        return
    facts = ", ".join(fact for fact in (task.principal_kind, task.provenance) if fact) or "unknown"
    via = f" via {' → '.join(reversed(task.via))}" if task.via else ""
    owner = f", owner {task.owner}" if task.owner else ""
    yield element("p", f"On behalf of {task.principal or 'unknown'} ({facts}){via}; agent {task.agent}{owner}. Task ",
                  code(task.task))  # fmt: skip
    ended = "no end recorded" if task.ended_ns is None else moment(task.ended_ns)
    yield element("p", f"{moment(task.started_ns)} to {ended}")
    if task.registered_for:
        yield element("p", f"{task.agent} is registered for: {task.registered_for}")
    if task.erased:
        yield element("p", "Its digests cannot be proved any more: their keys were erased.")
    if task.delegations:
        lines = [f"{' → '.join(part.agents)}: {part.purpose}" for part in task.delegations]
        yield element("p", "Delegated: ", names(lines, 8))


def _action(action: Action) -> Sequence[Content]:
    outcome = "ran, result withheld" if action.withheld else action.outcome
    error = f" {action.error}" if action.outcome == "error" and action.error else ""
    return (
        time_cell(clock(action.at_ns)),
        badge(action.effect, _TONES.get(action.effect, "note")),
        action.tool,
        " → ".join(action.agents) or "no agent",
        outcome + error,
        joined((text(line) for line in _why(action)), "<br>"),
        record_code(action.record),
    )


def _why(action: Action) -> Iterator[str]:
    if action.outcome == "denied" or action.effect != "allow":
        yield action.reason
    if action.argument:
        yield f"argument {action.argument}"
    if action.route:
        yield f"to {action.route}" + (f", approved by {action.approver}" if action.approver else "")
    if action.rule:
        yield f"rule {action.rule}"
    if action.why:
        yield action.why
    yield from remarks(action)
