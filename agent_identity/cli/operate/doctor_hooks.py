"""Checks of ``agent-identity doctor`` on the hooks of a coding agent: replays probes through the installed commands."""

import json
import subprocess
import uuid
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from agent_identity._common.narrowing import is_object
from agent_identity._guard.telemetry.diagnosis import Check
from agent_identity.cli.operate.hook_settings import (
    PLACES,
    Installed,
    Target,
    command_of,
    installed,
    others_before_tools,
    path_of,
    read,
    target_of,
    weaknesses,
)
from agent_identity.errors import ConfigurationError
from agent_identity.integrations.frameworks.coding_agents.sessions import PROBE, PROBE_ALLOWED, PROBE_DENIED

_SECONDS: Final = 30.0
_AGAIN: Final = "run 'agent-identity hooks install' again"


class _Ran(NamedTuple):
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def stops(self) -> bool:
        """Whether the agent would stop."""
        try:
            answer: object = json.loads(self.out)
        except ValueError:
            return False
        return is_object(answer) and answer.get("continue") is False


def examine_hooks(paths: Iterable[Path] | None = None) -> list[Check]:
    """Check the hooks in settings files of a coding agent, and try those that this installation wrote.

    The enforcer behind them records the probes, in a task of their own.

    Args:
        paths: The files; by default those of Claude Code for this directory and user.
    """
    checks = [check for path in paths or map(path_of, PLACES) for check in _file(path)]
    if checks:
        return checks
    return [Check("hooks", "fail", "no hook of ours is installed", "agent-identity hooks install DIR")]


def _file(path: Path) -> Iterator[Check]:
    try:
        settings, _ = read(path)
    except ConfigurationError as error:
        yield Check("hooks", "fail", str(error).partition("; ")[0], "correct it by hand")
        return
    ours = {one.event: one for one in installed(settings)}
    found = list(weaknesses(settings))
    for text in found:
        detail, _, cure = text.partition("; ")
        yield Check("hooks", "fail", f"{path.name}: {detail}", cure)
    if not ours:
        return
    if not found:
        yield Check("hooks", "ok", f"{path}: every event has its hook")
    if others := others_before_tools(settings):
        detail = f"{path.name}: {others} more before each tool, which may change what was judged"
        yield Check("hooks", "warn", detail, "see that they change no input; such calls are recorded as failures")
    before, after = ours.get("PreToolUse"), ours.get("PostToolUse")
    if before is not None and (target := target_of(before)) is not None:
        yield from _probed(target, before, after)


def _probed(target: Target, before: Installed, after: Installed | None) -> Iterator[Check]:
    """Try a denied and an allowed call, and all that may keep an answer away."""
    session = f"{PROBE}{uuid.uuid4()}"
    denied = _run(before.command, _event(session, "PreToolUse", PROBE_DENIED))
    if denied.code == 2 and "no answer" in denied.err:
        cure = "agent-identity hooks serve DIR …"
        yield Check("probe", "fail", f"nothing answers at {target.socket}: every call is refused", cure)
    else:
        yield _of_denied(denied)
        yield _of_allowed(_run(before.command, _event(session, "PreToolUse", PROBE_ALLOWED)))
        if after is not None and target_of(after) is not None:
            _run(after.command, _event(session, "PostToolUse", PROBE_ALLOWED))
        _run(_like(target, "SessionEnd"), _event(session, "SessionEnd", PROBE_ALLOWED))
    yield _of_failures(target, session)


def _of_denied(ran: _Ran) -> Check:
    if ran.code == 2 and "refused: " in ran.err:
        return Check("probe", "ok", "a call beyond the scope is refused")
    if ran.code == 0:
        return Check("probe", "warn", "a call beyond the scope runs: monitor mode", "hooks serve without --monitor")
    return Check("probe", "fail", f"the hook fails with exit code {ran.code}", _AGAIN)


def _of_allowed(ran: _Ran) -> Check:
    if ran.code == 0:
        return Check("probe", "ok", "a call within the scope runs, and is on record")
    reason = ran.err.partition("(reference")[0].strip() or f"exit code {ran.code}"
    return Check("probe", "warn", f"a call within the scope does not run: {reason[:120]}", "see the policy")


def _of_failures(target: Target, session: str) -> Check:
    """Check that a hook without an answer refuses, before a tool and after it."""
    nowhere = target._replace(socket=f"{target.socket}.absent", patience=5.0)
    event = _event(session, "PreToolUse", PROBE_ALLOWED)
    open_at: list[str] = []
    if _run(_like(nowhere, "PreToolUse"), event).code != 2:
        open_at.append("without an enforcer")
    if _run(_like(target, "PreToolUse"), "{").code != 2:
        open_at.append("on a malformed event")
    if not _run(_like(nowhere, "PostToolUse"), _event(session, "PostToolUse", PROBE_ALLOWED)).stops:
        open_at.append("after a tool")
    if open_at:
        return Check("probe", "fail", f"the hook fails open: {', '.join(open_at)}", _AGAIN)
    return Check("probe", "ok", "the hook refuses where nothing answers")


def _like(target: Target, event: str) -> str:
    return command_of(target.socket, event, patience=target.patience, opens=target.opens)


def _event(session: str, name: str, tool: str) -> str:
    members: Mapping[str, object] = {
        "session_id": session,
        "hook_event_name": name,
        "tool_name": tool,
        "tool_input": {},
        "tool_use_id": f"{tool}-1",
        "tool_response": {},
    }
    return json.dumps(members)


def _run(command: str, event: str) -> _Ran:
    """Run the command of a hook as the agent does; it is one that this installation writes."""
    try:
        done = subprocess.run(  # noqa: S602
            command, shell=True, input=event, capture_output=True, text=True, timeout=_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return _Ran(-1, "", "timed out")
    return _Ran(done.returncode, done.stdout, done.stderr)
