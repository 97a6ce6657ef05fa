"""``agent-identity show``: who did what on whose behalf, through which chain, and what was refused."""

import argparse
import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Final

from agent_identity.audit import Action, Story, story
from agent_identity.audit.findings import counted
from agent_identity.cli.command import Commands
from agent_identity.cli.terminal.sources import STANDARD_INPUT, is_directory, named
from agent_identity.cli.terminal.style import Style, clean, columns, moment, table
from agent_identity.errors import ConfigurationError

__all__ = ["register"]

_COLOURS: Final = {"allow": "green", "warn": "yellow", "block": "red", "route": "blue"}
_REFUSED: Final = "denied"
_NAMED: Final = 5  # Tasks that are named where one was expected.


def register(commands: Commands) -> None:
    """Add the command."""
    command = commands.add_parser(
        "show",
        help="tell who did what on whose behalf, and what was refused and why",
        description="Tell what the evidence says, task by task. It shows, it does not prove: 'agent-identity verify' "
        "does.",
    )
    command.add_argument(
        "source", metavar="SOURCE", nargs="+", help="an evidence directory, or trace files; - for stdin"
    )
    command.add_argument("--task", metavar="ID", help="only this task; the beginning of its id is enough")
    command.add_argument("--refused", action="store_true", help="only tasks with refused calls or withheld results")
    command.add_argument("--json", action="store_true", help="print a line of JSON for each task")
    command.set_defaults(run=run)


def run(chosen: argparse.Namespace) -> int:
    """Run the command."""
    style, room = Style(sys.stdout), columns(sys.stdout)
    stories = story(named(chosen.source))
    shown = 0
    for told in _of_task(stories, chosen.task) if chosen.task else stories:
        if chosen.refused and not (told.refused or told.withheld):
            continue
        if chosen.json:
            print(json.dumps(to_json(told)))
        else:
            print(("\n" if shown else "") + "\n".join(lines(told, style, room)))
        shown += 1
    if not shown:
        _refuse_nothing(chosen)
    if not chosen.json:
        hint = "\nThis is what the evidence says; 'agent-identity verify' tells whether it holds."
        print(style.paint(hint, "dim") if shown else "nothing to show")
    return 0


def _refuse_nothing(chosen: argparse.Namespace) -> None:
    """Say what is wrong where nothing was found.

    Raises:
        ConfigurationError: The task is not there, or the file holds no records.
    """
    if chosen.task:
        kind = "refused calls" if chosen.refused else "records"
        raise ConfigurationError(
            f"expected {kind} of the task {chosen.task!r}, found none; 'agent-identity show SOURCE' names all tasks"
        )
    source = chosen.source[0]
    if not chosen.refused and not is_directory(source) and (source == STANDARD_INPUT or Path(source).stat().st_size):
        raise ConfigurationError(
            f"no records in {source!r}; name an evidence directory or OTLP traces; for JSON of a back end "
            "run 'agent-identity verify --span'"
        )


def _of_task(stories: Iterable[Story], wanted: str) -> Iterable[Story]:
    """Return the stories of the one task whose id is this, or begins so.

    Raises:
        ConfigurationError: Several begin so.
    """
    found: dict[str, list[Story]] = {}
    for told in stories:
        if told.task is not None and told.task.startswith(wanted):
            kept = found.setdefault(told.task, [])
            if len(found) <= _NAMED or told.task == wanted:
                kept.append(told)
    if wanted not in found and len(found) > 1:
        names = ", ".join([*found][:_NAMED]) + (", …" if len(found) > _NAMED else "")
        raise ConfigurationError(
            f"expected one task whose id begins with {wanted!r}, got {len(found):,}: {names}; give more of it"
        )
    return found.get(wanted) or [told for kept in found.values() for told in kept]


def to_json(told: Story) -> dict[str, object]:
    """Return a story in plain values; times are decimal strings, which no reader of JSON rounds."""
    facts: dict[str, object] = asdict(told)
    facts["started_ns"] = str(told.started_ns)
    facts["expires_ns"] = None if told.expires_ns is None else str(told.expires_ns)
    facts["ended_ns"] = None if told.ended_ns is None else str(told.ended_ns)
    facts["actions"] = [{**asdict(action), "at_ns": str(action.at_ns)} for action in told.actions]
    return facts


def lines(told: Story, style: Style, room: int | None = None) -> Iterator[str]:
    """Yield one story for people.

    Args:
        told: The story.
        style: Paints it.
        room: The columns of the terminal; ``None`` for no limit.
    """
    yield from _heading(told, style)
    rows = [_row(action) for action in told.actions]
    for action, line in zip(told.actions, table(rows, room=room), strict=True):
        yield style.paint(line, _colour(action))
    calls = len(told.actions) + told.omitted
    if told.omitted:
        yield f"  … and {told.omitted:,} more calls"
    if told.refused:
        yield f"  {told.refused:,} of {counted(calls, 'call')} refused"
    if told.withheld:
        yield f"  the results of {told.withheld:,} of {counted(calls, 'call')} withheld"


def _heading(told: Story, style: Style) -> Iterator[str]:
    if told.task is None:
        yield style.paint("outside any task", "bold")
        return
    yield style.paint(clean(told.purpose or "task"), "bold") + style.paint(f"  {clean(told.task)}", "dim")
    owner = f" (owner {clean(told.owner)})" if told.owner else ""
    who = clean(told.principal or "?")
    kind = ", ".join(fact for fact in (told.principal_kind, told.provenance) if fact) or "?"
    via = f" via {clean(' → '.join(reversed(told.via)))}" if told.via else ""
    yield f"  on behalf of {who} ({kind}){via} → {clean(told.agent or '?')}{owner}"
    yield from _registered(told)
    ended = "no end recorded" if told.ended_ns is None else moment(told.ended_ns)
    yield f"  {moment(told.started_ns)} to {ended}"
    if told.erased:
        yield "  its digests cannot be proved any more: their keys were erased"
    for part in told.delegations:
        yield f"  delegated {clean(' → '.join(part.agents))}: {clean(part.purpose)}"


def _registered(told: Story) -> Iterator[str]:
    if told.registered_for:
        yield f"  {clean(told.agent or '?')} is registered for: {clean(told.registered_for)}"


def _row(action: Action) -> tuple[str, ...]:
    clock = f"{moment(action.at_ns)[11:19]}.{action.at_ns // 1_000_000 % 1_000:03d}"
    return (clock, action.effect, clean(action.tool), clean(" → ".join(action.agents) or "nobody"), _ending(action))


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
        "monitor mode, nothing enforced" if action.monitored else "",
    ]
    found = ", ".join(part for part in details if part)
    return clean(f"{words}: {found}" if found else words)


def _route(action: Action) -> str:
    if action.approver:
        return f"to {action.route}, approved by {action.approver}"
    return f"to {action.route}" if action.route else ""


def _colour(action: Action) -> str:
    return "red" if action.outcome in (_REFUSED, "error") else _COLOURS[action.effect]
