"""``agent-identity doctor``: checks of an installation, its process and its directory."""

import argparse
import contextlib
import importlib
import json
import operator
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, TypeAlias

from agent_identity._guard.telemetry.diagnosis import Check, examine_pipeline, examine_telemetry
from agent_identity._policy.rule_set import RuleSet
from agent_identity.cli.operate.doctor_directory import examine_directory
from agent_identity.cli.operate.doctor_flow import examine_flow, examine_policies, flow_json, flow_lines, flow_rows
from agent_identity.cli.operate.doctor_frameworks import examine_frameworks, examine_package, examine_versions
from agent_identity.cli.operate.doctor_process import examine_enforcers, examine_tools
from agent_identity.cli.terminal.style import Style, clean, columns, hanging
from agent_identity.errors import ConfigurationError

_MARKS: Final = {"ok": ("✓", "green"), "warn": ("!", "yellow"), "fail": ("✗", "red")}
_EPOCH_2024: Final = 1_704_067_200
Section: TypeAlias = tuple[str, Sequence[Check]]


def run(chosen: argparse.Namespace) -> int:
    """Run the command."""
    if chosen.module:
        _import_application(chosen.module)
    sections = diagnose(chosen.directory, imported=bool(chosen.module), policy=chosen.policy, keys=chosen.keys)
    if chosen.hooks is not None:
        from agent_identity.cli.operate.doctor_hooks import examine_hooks

        sections.append(("hooks", examine_hooks([Path(chosen.hooks)] if chosen.hooks else None)))
    rows = flow_rows(None if chosen.policy is None else RuleSet.load(chosen.policy))
    if chosen.json:
        print(json.dumps({**as_json(sections), "flow": flow_json(rows)}))
    else:
        style = Style(sys.stdout)
        print("\n".join([*flow_lines(rows, style), *lines(sections, style, columns(sys.stdout))]))
    return 1 if _count(sections)["fail"] else 0


def diagnose(
    directory: str | os.PathLike[str] | None = None,
    *,
    imported: bool = True,
    policy: str | os.PathLike[str] | None = None,
    keys: str | os.PathLike[str] | None = None,
) -> list[Section]:
    """Check this process and an evidence directory, as the command does with ``--import``, from within.

    Args:
        directory: The directory of the enforcer.
        imported: Whether this is the process of the application.
        policy: A policy file to check against the guarded tools, in place of the policy in force.
        keys: The folder of the keys, if it is outside the directory.

    Returns:
        The checks by section, without empty sections.

    Raises:
        PolicyFormatError: The policy file has mistakes.
        ConfigurationError: The policy file cannot be read.
    """
    candidate = None if policy is None else RuleSet.load(policy)
    sections: list[Section] = [
        ("installation", [examine_package(), *examine_versions(), examine_clock()]),
        ("application", [*_examine_application(imported=imported), *examine_enforcers()]),
        ("telemetry", [*examine_telemetry(), *examine_pipeline()]),
        ("frameworks", examine_frameworks()),
        ("tools", examine_tools()),
        ("policy", [*examine_policies(candidate), *examine_flow(flow_rows(candidate))]),
        ("directory", [] if directory is None else examine_directory(Path(directory), keys)),
    ]
    return [section for section in sections if section[1]]


def _count(sections: Sequence[Section]) -> Counter[str]:
    return Counter(check.status for _, checks in sections for check in checks)


def as_json(found: Sequence[Section]) -> dict[str, object]:
    """Return the checks as the command prints them for machines."""
    rows = [
        {"section": section, "name": c.name, "status": c.status, "detail": c.detail, "cure": c.cure}
        for section, checks in found
        for c in checks
    ]
    return {"checks": rows, "counts": {status: _count(found)[status] for status in _MARKS}}


def _import_application(named: str) -> None:
    """Import a module of the application from the current directory; its output goes to standard error.

    Args:
        named: The module, with an optional object after a colon, as ASGI servers name applications.

    Raises:
        ConfigurationError: The module cannot be imported, raises during import, or lacks the object.
    """
    module, _, name = named.partition(":")
    sys.path.insert(0, str(Path.cwd()))
    try:
        with contextlib.redirect_stdout(sys.stderr):
            loaded = importlib.import_module(module)
            if name:
                operator.attrgetter(name)(loaded)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - User code may raise anything.
        absent = isinstance(error, ModuleNotFoundError) and f"{module}.".startswith(f"{error.name}.")
        way_out = "check its name, and the directory that you are in" if absent else "see what it does when imported"
        raise ConfigurationError(f"cannot import {named!r}: {type(error).__name__}: {error}; {way_out}") from None


def lines(found: Sequence[Section], style: Style, room: int | None = None) -> Iterator[str]:
    """Yield the checks with their cures, and a summary.

    Args:
        found: What was looked at.
        style: Paints it.
        room: The columns of the terminal; ``None`` for no limit.
    """
    most = max(len(check.name) for _, checks in found for check in checks)
    for section, checks in found:
        yield style.paint(section.capitalize(), "bold")
        for check in checks:
            mark, colour = _MARKS[check.status]
            detail = hanging(clean(check.detail), most + 4, room)
            yield f"{style.paint(mark, colour, 'bold')} {check.name:<{most}}  {detail}"
            if check.cure:
                cure = hanging(f"→ {clean(check.cure)}", most + 4, room)
                yield f"{'':{most + 4}}{style.paint(cure, 'dim')}"
        yield ""
    counts = _count(found)
    words = (("fail", "to repair"), ("warn", "to look at"), ("ok", "fine"))
    yield ", ".join(f"{counts[status]} {word}" for status, word in words if counts[status])


def examine_clock(wall: Callable[[], float] = time.time) -> Check:
    """Check the wall clock."""
    if wall() < _EPOCH_2024:
        return Check("clock", "fail", "the wall clock is before 2024", "set the clock; grants live in real time")
    return Check("clock", "ok", f"UTC {time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime(wall()))}")


def _examine_application(*, imported: bool) -> list[Check]:
    """Report that the telemetry and tools of this process, not of the application, are checked."""
    if imported:
        return []
    detail = "not imported: provider and tools are those of this process, not of your application"
    return [Check("process", "warn", detail, "agent-identity doctor --import MODULE")]
