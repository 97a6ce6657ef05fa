"""``agent-identity tasks``: which tasks are open, on whose behalf, and what is stopped."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from agent_identity.audit import Story, story
from agent_identity.authority import RevocationList, copied_state, trusted_revocations
from agent_identity.cli.terminal.sources import named
from agent_identity.cli.terminal.style import Style, clean, columns, moment, table
from agent_identity.enforcement.revoking import LIST_NAME
from agent_identity.errors import ConfigurationError
from agent_identity.identity import SystemClock, TrustStore

__all__ = ["run"]

_COLORS: Final = {"open": "green", "suspended": "yellow", "revoked": "red"}


def run(chosen: argparse.Namespace) -> int:
    """Run the command."""
    source = named([chosen.directory])
    if not Path(chosen.directory).is_dir():
        raise ConfigurationError(
            f"expected the directory of an enforcer, got the file {chosen.directory!r}; name its directory"
        )
    revoked, now = _revocations(Path(chosen.directory)), SystemClock().wall_ns()
    found = [(_status(told, revoked, now), told) for told in story(source) if told.task is not None]
    wanted = [(status, told) for status, told in found if chosen.all or status in _COLORS]
    if chosen.json:
        print(json.dumps({"tasks": [_to_json(status, told) for status, told in wanted]}))
    elif chosen.jsonl:
        for status, told in wanted:
            print(json.dumps(_to_json(status, told)))
    elif not wanted:
        print("no task is open" if not chosen.all else "no task is recorded")
    else:
        _print(wanted)
    return 0


def _print(tasks: Sequence[tuple[str, Story]]) -> None:
    style = Style(sys.stdout)
    lines = table([_row(status, told) for status, told in tasks], room=columns(sys.stdout))
    for (status, _), line in zip(tasks, lines, strict=True):
        print(style.paint(line, _COLORS.get(status, "dim")))


def _status(told: Story, revoked: RevocationList, now: int) -> str:
    if told.ended_ns is not None:
        return "ended"
    if told.expires_ns is not None and told.expires_ns <= now:
        return "expired"
    entry = revoked.about(
        task=told.task or "",
        principal=(told.principal_kind or "", told.principal or ""),
        agent=(told.agent or "", told.owner or ""),
    )
    return "open" if entry is None else entry.status


def _row(status: str, told: Story) -> tuple[str, ...]:
    calls = len(told.actions) + told.omitted
    expires = "" if told.expires_ns is None else f"until {moment(told.expires_ns)}"
    return (
        status,
        clean(told.task or ""),
        f"{clean(told.principal or '?')} → {clean(told.agent or '?')}",
        expires,
        f"{calls:,} {'call' if calls == 1 else 'calls'}",
        clean(told.purpose or ""),
    )


def _to_json(status: str, told: Story) -> dict[str, object]:
    return {
        "task": told.task,
        "status": status,
        "purpose": told.purpose,
        "principal": told.principal,
        "principal_kind": told.principal_kind,
        "provenance": told.provenance,
        "agent": told.agent,
        "owner": told.owner,
        "started_ns": str(told.started_ns),
        "expires_ns": None if told.expires_ns is None else str(told.expires_ns),
        "ended_ns": None if told.ended_ns is None else str(told.ended_ns),
        "calls": len(told.actions) + told.omitted,
        "refused": told.refused,
    }


def _revocations(directory: Path) -> RevocationList:
    """Return the list of the directory; without a state there is nothing in it."""
    with copied_state(directory / "state") as state:
        kept = state.get(LIST_NAME)
    return RevocationList() if kept is None else trusted_revocations(kept[1], TrustStore.load(directory / "trust.json"))
