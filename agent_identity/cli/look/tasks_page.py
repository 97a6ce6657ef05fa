"""``agent-identity show --html``: the tasks as a page that needs no other file."""

import argparse
import shlex
from collections.abc import Iterator, Sequence
from typing import Final

from agent_identity._reports.pages.rendering import render_tasks
from agent_identity._reports.pages.tasks_page import Told
from agent_identity._reports.timelines.builder import TaskTimeline
from agent_identity._verify.fleet.places import PlaceKind
from agent_identity._verify.inputs.sources import is_bundle
from agent_identity.cli.terminal.parsing import moment_ns
from agent_identity.cli.terminal.saving import made_ns, refuse_existing, save_page
from agent_identity.cli.terminal.sources import is_directory

_OPTIONS: Final = {"task": "task", "start": "from", "stop": "until"}
_LISTS: Final = ("agent", "principal", "tool", "effect")
_NAMED: Final = 3


def write_tasks(chosen: argparse.Namespace, tasks: Iterator[tuple[str | Sequence[str], TaskTimeline]]) -> None:
    """Write the page, and print its digest.

    Args:
        chosen: The words of the command.
        tasks: The tasks to show, each with its source.
    """
    refuse_existing(chosen.html)
    start = None if chosen.start is None else moment_ns(chosen.start)
    stop = None if chosen.stop is None else moment_ns(chosen.stop)
    page = render_tasks(
        (_told(source, task) for source, task in tasks),
        command=_command(chosen),
        period=(start, stop),
        made_ns=made_ns(),
    )
    save_page(page, chosen.html)


def _told(source: str | Sequence[str], task: TaskTimeline) -> Told:
    if not isinstance(source, str):
        more = f" and {len(source) - _NAMED:,} more" if len(source) > _NAMED else ""
        return Told(", ".join(source[:_NAMED]) + more, "traces", task)
    kind: PlaceKind = "ledger" if is_directory(source) else "traces"
    return Told(str(source), "bundle" if is_bundle(source) else kind, task)


def _command(chosen: argparse.Namespace) -> str:
    words = ["agent-identity", "show", *chosen.source]
    for name, option in _OPTIONS.items():
        value = getattr(chosen, name)
        words += [] if value is None else [f"--{option}", value]
    for name in _LISTS:
        words += [word for value in getattr(chosen, name) for word in (f"--{name}", value)]
    return shlex.join([*words, "--refused"] if chosen.refused else words)
