"""The settings file of a coding agent: adds our hooks, removes them, and finds what weakens them."""

import difflib
import json
import math
import os
import shlex
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple, NoReturn, cast

from agent_identity._common.narrowing import is_array, is_object
from agent_identity.cli.terminal.scopes import unique
from agent_identity.errors import ConfigurationError
from agent_identity.integrations.frameworks.coding_agents import command as hook_command

EVENTS: Final = ("SessionStart", "UserPromptSubmit", "PreToolUse", *hook_command.AFTER, "SessionEnd")
"""The events that the hooks need."""

PLACES: Final = ("local", "project", "user")
"""Settings of a person in a project, of a project, and of a person."""

_NEEDED: Final = ("UserPromptSubmit", "PreToolUse", "PostToolUse", "PostToolUseFailure")
_FRAMEWORKS: Final = Path("agent_identity", "integrations", "frameworks")
_SCRIPTS: Final = tuple(str(_FRAMEWORKS / name) for name in (Path("coding_agents", "command.py"), "hook_command.py"))
"""Where our command is, and where it was: hooks that were installed then refuse every call until they are replaced."""

_MEMBERS: Final = frozenset({"type", "command", "timeout", "onFailure", "statusMessage"})
"""Of our hooks, all that changes nothing about when and how the command runs."""

_MARGIN: Final = 10.0  # The agent kills a hook later than it gives up by itself.
_MOST: Final = 16 << 20
Settings = dict[str, object]
"""The content of a settings file."""


class Installed(NamedTuple):
    """One of our hooks in a settings file.

    Attributes:
        event: Its event.
        command: Its command line.
        group: The entry that holds it, with its matcher.
        hook: All its members.
    """

    event: str
    command: str
    group: Mapping[str, object]
    hook: Mapping[str, object]


def path_of(place: str) -> Path:
    """Return the settings file of a place, for the current directory and user.

    Args:
        place: One of :data:`PLACES`.
    """
    if place == "user":
        base = os.environ.get("CLAUDE_CONFIG_DIR")
        return (Path(base) if base else Path.home() / ".claude") / "settings.json"
    return Path.cwd() / ".claude" / ("settings.json" if place == "project" else "settings.local.json")


def command_of(socket: str, event: str, *, patience: float, opens: bool = False) -> str:
    """Return the command line of a hook; a shell turns every failure of it into a refusal.

    Args:
        socket: The absolute path of the socket.
        event: The event.
        patience: Seconds to wait for an answer.
        opens: Whether tools run where nothing answers.
    """
    script = os.path.abspath(hook_command.__file__)
    words = [sys.executable, "-I", "-S", script, socket, f"{patience:g}"]
    if opens:
        return f"{shlex.join([*words, hook_command.UGLY])} || exit 0"
    if event in hook_command.AFTER:
        stop = json.dumps({"continue": False, "stopReason": "refused: the command of the hook failed"})
        return f"{shlex.join(words)} || echo {shlex.quote(stop)}"
    return f"{shlex.join(words)} || exit 2"


class Target(NamedTuple):
    """What a command line of ours says.

    Attributes:
        socket: The path of the socket.
        patience: Seconds that it waits for an answer.
        opens: Whether tools run where nothing answers.
    """

    socket: str
    patience: float
    opens: bool


def target_of(one: Installed) -> Target | None:
    """Return what the command line of a hook says; ``None`` unless this installation would write the very same.

    Args:
        one: The hook.
    """
    try:
        words = shlex.split(one.command.partition(" || ")[0])
        target = Target(words[4], float(words[5]), words[6:] == [hook_command.UGLY])
    except (ValueError, IndexError):
        return None
    again = command_of(target.socket, one.event, patience=target.patience, opens=target.opens)
    return target if again == one.command else None


def read(path: Path) -> tuple[Settings, str | None]:
    """Return the settings and their text; ``None`` without a file.

    Raises:
        ConfigurationError: The file cannot be read, or is malformed.
    """
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(_MOST)
    except FileNotFoundError:
        return {}, None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"cannot read {str(path)!r}: {type(error).__name__}; correct the file") from None
    try:
        found: object = json.loads(text or "{}", object_pairs_hook=unique, parse_constant=_no_json, parse_float=_finite)
    except (ValueError, RecursionError):
        found = None
    if not is_object(found) or not is_object(found.get("hooks", {})):
        raise ConfigurationError(f"{str(path)!r} is no JSON object of settings; correct it, nothing was changed")
    return dict(found), text


def _no_json(name: str) -> NoReturn:
    raise ValueError(name)


def _finite(digits: str) -> float:
    """Return a number of JSON; a greater one than any float would be written as what is no JSON."""
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError("too large")
    return number


def with_hooks(settings: Mapping[str, object], socket: str, *, patience: float, opens: bool = False) -> Settings:
    """Return settings with our hooks after those of others, and without earlier ones of ours.

    Args:
        settings: The settings.
        socket: The absolute path of the socket.
        patience: Seconds that a hook waits for an answer.
        opens: Whether tools run where nothing answers.
    """
    changed = without_hooks(settings)
    hooks = dict(cast("Mapping[str, object]", changed.get("hooks", {})))
    for event in EVENTS:
        hook: dict[str, object] = {
            "type": "command",
            "command": command_of(socket, event, patience=patience, opens=opens),
            "timeout": int(patience + _MARGIN),
        }
        if event in _NEEDED and not opens:
            hook["onFailure"] = "block"  # Versions that do not know it have the command line.
        before = hooks.get(event, [])
        hooks[event] = [*(cast("list[object]", before) if is_array(before) else [before]), {"hooks": [hook]}]
    return {**changed, "hooks": hooks}


def without_hooks(settings: Mapping[str, object]) -> Settings:
    """Return settings without our hooks; what others wrote stays as it is."""
    hooks = settings.get("hooks")
    if not is_object(hooks):
        return dict(settings)
    left = {event: _groups_of_others(groups) for event, groups in hooks.items()}
    kept = {event: groups for event, groups in left.items() if groups or not hooks[event]}
    changed = {**settings, "hooks": kept}
    if not kept and hooks:
        del changed["hooks"]
    return changed


def _groups_of_others(groups: object) -> object:
    if not is_array(groups):
        return groups
    kept: list[object] = []
    for group in groups:
        inner = group.get("hooks") if is_object(group) else None
        if not is_object(group) or not is_array(inner) or not any(map(_is_ours, inner)):
            kept.append(group)
        elif others := [hook for hook in inner if not _is_ours(hook)]:
            kept.append({**group, "hooks": others})
    return kept


def _is_ours(hook: object) -> bool:
    command = hook.get("command") if is_object(hook) else None
    return isinstance(command, str) and any(script in command for script in _SCRIPTS)


def installed(settings: Mapping[str, object]) -> Iterator[Installed]:
    """Yield our hooks in settings."""
    hooks = settings.get("hooks")
    for event, groups in hooks.items() if is_object(hooks) else ():
        pairs = [
            (group, hook)
            for group in (groups if is_array(groups) else ())
            if is_object(group)
            for hook in _hooks_of(group)
        ]
        for group, hook in pairs:
            if _is_ours(hook) and is_object(hook):
                yield Installed(event, str(hook["command"]), group, hook)


def _hooks_of(group: Mapping[str, object]) -> list[object]:
    inner = group.get("hooks")
    return list(inner) if is_array(inner) else []


def others_before_tools(settings: Mapping[str, object]) -> int:
    """Return how many hooks of others run before tools, which may change what ours judge."""
    hooks = settings.get("hooks")
    groups = hooks.get("PreToolUse") if is_object(hooks) else None
    every = [hook for group in (groups if is_array(groups) else ()) if is_object(group) for hook in _hooks_of(group)]
    return sum(not _is_ours(hook) for hook in every)


def weaknesses(settings: Mapping[str, object]) -> Iterator[str]:
    """Yield what lets calls past our hooks, in this file or in another one, as far as this one tells."""
    if settings.get("disableAllHooks", False) is not False:
        yield "disableAllHooks is on; remove it"
    ours = list(installed(settings))
    if not ours:
        return
    hooks = cast("Mapping[str, object]", settings["hooks"])
    for event in (event for event, groups in hooks.items() if not _is_well_formed(groups)):
        yield f"{event} has what is no hook, and the agent ignores a malformed file; correct it by hand"
    for event in EVENTS:
        found = [one for one in ours if one.event == event]
        if not found:
            yield f"{event} has no hook; run 'agent-identity hooks install' again"
        for one in found:
            yield from (f"{event}: {text}" for text in _weak(one))


def _weak(one: Installed) -> Iterator[str]:
    if one.group.get("matcher") not in (None, "", "*"):
        yield "a matcher leaves tools out; remove it"
    if others := sorted(name for name, value in one.hook.items() if value and name not in _MEMBERS):
        yield f"the hook may not run as it was written; remove {', '.join(others)}"
    if hook_command.UGLY in one.command:
        yield f"tools run where nothing answers; install it without {hook_command.UGLY}"
    elif (target := target_of(one)) is None or one.hook.get("type") != "command":
        yield "the command is not the one of this installation; run 'agent-identity hooks install' again"
    elif not _outlasts(one.hook.get("timeout"), target.patience):
        yield "the agent kills the hook before it gives up; run 'agent-identity hooks install' again"
    if one.event in _NEEDED and one.hook.get("onFailure") != "block":
        yield "a hook that is killed lets the tool run; run 'agent-identity hooks install' again"


def _is_well_formed(groups: object) -> bool:
    """Return whether the groups of an event have the form of hooks, whatever their types."""
    inner = [group.get("hooks") if is_object(group) else None for group in groups] if is_array(groups) else [None]
    hooks = [hook for each in inner for hook in (each if is_array(each) else [None])]
    return all(is_object(hook) and isinstance(hook.get("type"), str) for hook in hooks)


def _outlasts(timeout: object, patience: float) -> bool:
    return isinstance(timeout, int | float) and timeout > patience


def change_of(path: Path, before: str | None, after: str) -> list[str]:
    """Return the change of a file as the lines of a unified diff; empty if nothing changes."""
    name = str(path)
    lines = difflib.unified_diff((before or "").splitlines(), after.splitlines(), name, name, lineterm="")
    return list(lines)


def write(path: Path, before: str | None, after: str) -> None:
    """Replace a settings file at once; the target of a link is replaced, not the link.

    Args:
        path: The file.
        before: Its text when it was read.
        after: Its new text.

    Raises:
        ConfigurationError: Somebody else changed it meanwhile, or it cannot be written.
    """
    target = Path(os.path.realpath(path))
    if read(target)[1] != before:
        raise ConfigurationError(f"{str(path)!r} was changed meanwhile; run the command again")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        mode = target.stat().st_mode & 0o777 if before is not None else 0o600
        descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(after)
                file.flush()
                os.fsync(descriptor)
            Path(name).chmod(mode)
            Path(name).replace(target)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise ConfigurationError(f"cannot write {str(path)!r}: '{error.strerror or error}'") from None
