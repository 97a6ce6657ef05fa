"""``agent-identity tasks``: the open tasks, with principal and status."""

import argparse
import contextlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from agent_identity._authority.registries.revocations import RevocationList
from agent_identity._authority.stores.protocol import StateStore
from agent_identity._authority.stores.snapshot import copied_state
from agent_identity._guard.judging.revocations import LIST_NAME, read_list
from agent_identity._identity.common.clock import SystemClock
from agent_identity._reports.timelines.builder import TaskTimeline, story
from agent_identity.cli.terminal.sources import named
from agent_identity.cli.terminal.stores import store_of
from agent_identity.cli.terminal.style import Style, clean, columns, moment, table
from agent_identity.errors import ConfigurationError

_COLORS: Final = {"open": "green", "suspended": "yellow", "revoked": "red"}


def run(chosen: argparse.Namespace) -> int:
    """Run the command."""
    source = named([chosen.directory])
    if not Path(chosen.directory).is_dir():
        raise ConfigurationError(f"{chosen.directory!r} is a file; name the directory of an enforcer")
    revoked, now = _revocations(chosen), SystemClock().wall_ns()
    tasks = [(_status(task, revoked, now), task) for task in story(source) if task.task is not None]
    wanted = [(status, task) for status, task in tasks if chosen.all or status in _COLORS]
    if chosen.json:
        print(json.dumps({"tasks": [_to_json(status, task) for status, task in wanted]}))
    elif chosen.jsonl:
        for status, task in wanted:
            print(json.dumps(_to_json(status, task)))
    elif not wanted:
        print("no task is open" if not chosen.all else "no task is recorded")
    else:
        _print(wanted)
    return 0


def _print(tasks: Sequence[tuple[str, TaskTimeline]]) -> None:
    style = Style(sys.stdout)
    lines = table([_row(status, task) for status, task in tasks], room=columns(sys.stdout))
    for (status, _), line in zip(tasks, lines, strict=True):
        print(style.paint(line, _COLORS.get(status, "dim")))


def _status(task: TaskTimeline, revoked: Sequence[RevocationList], now: int) -> str:
    if task.ended_ns is not None:
        return "ended"
    if task.expires_ns is not None and task.expires_ns <= now:
        return "expired"
    entries = [
        listed.about(
            task=task.task or "",
            principal=(task.principal_kind or "", task.principal or ""),
            agent=(task.agent or "", task.owner or ""),
        )
        for listed in revoked
    ]
    return min((entry.status for entry in entries if entry is not None), default="open")  # "revoked" < "suspended"


def _row(status: str, task: TaskTimeline) -> tuple[str, ...]:
    calls = len(task.actions) + task.omitted
    expires = "" if task.expires_ns is None else f"until {moment(task.expires_ns)}"
    return (
        status,
        clean(task.task or ""),
        f"{clean(task.principal or '?')} → {clean(task.agent or '?')}",
        expires,
        f"{calls:,} {'call' if calls == 1 else 'calls'}",
        clean(task.purpose or ""),
    )


def _to_json(status: str, task: TaskTimeline) -> dict[str, object]:
    return {
        "task": task.task,
        "status": status,
        "purpose": task.purpose,
        "principal": task.principal,
        "principal_kind": task.principal_kind,
        "provenance": task.provenance,
        "agent": task.agent,
        "owner": task.owner,
        "started_ns": str(task.started_ns),
        "expires_ns": None if task.expires_ns is None else str(task.expires_ns),
        "ended_ns": None if task.ended_ns is None else str(task.ended_ns),
        "calls": len(task.actions) + task.omitted,
        "refused": task.refused,
    }


def _revocations(chosen: argparse.Namespace) -> Sequence[RevocationList]:
    """Return the list of the directory, and that of the store of ``--state``: processes obey both."""
    directory = Path(chosen.directory)
    with contextlib.ExitStack() as stack:
        states: list[StateStore] = [stack.enter_context(copied_state(directory / "state"))]
        shared = store_of(chosen)
        if shared is not None:
            states.append(stack.enter_context(contextlib.closing(shared)))
        found = [state.get(LIST_NAME) for state in states]
    return [read_list(directory, kept[1], SystemClock()) for kept in found if kept is not None]
