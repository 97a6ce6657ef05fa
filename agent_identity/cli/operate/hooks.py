"""``agent-identity hooks``: guard the tools of a coding agent by its hooks."""

import argparse
import json
import logging
import os
import signal
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from agent_identity.cli.operate.hook_settings import (
    PLACES,
    change_of,
    installed,
    path_of,
    read,
    weaknesses,
    with_hooks,
    without_hooks,
    write,
)
from agent_identity.cli.terminal.style import clean
from agent_identity.errors import ConfigurationError

if TYPE_CHECKING:
    from agent_identity._authority.grants.scope import Scope
    from agent_identity._identity.principals.principals import Agent, Human
    from agent_identity.integrations.frameworks.coding_agents.server import HookServer

_WAIT: Final = timedelta(seconds=40)  # For a person; the hooks of 'install' wait a little longer.
_LONGEST: Final = 100  # Of paths of sockets; some systems take 104 bytes.


def socket_of(directory: str, named: str | None) -> str:
    """Return the absolute path of the socket of an evidence directory.

    Args:
        directory: The directory.
        named: The path, if it is another one.

    Raises:
        ConfigurationError: The system takes no path as long.
    """
    path = os.path.abspath(named or Path(directory) / "hooks.sock")
    if len(os.fsencode(path)) > _LONGEST:
        raise ConfigurationError(f"the path of the socket is too long: {clean(path)!r}; shorten it with --socket")
    return path


def run_install(chosen: argparse.Namespace) -> int:
    """Run ``hooks install``."""
    if not 1 <= chosen.patience <= 3_600:
        raise ConfigurationError("--patience is out of range; give 1 to 3600 seconds")
    path = _file(chosen)
    settings, before = read(path)
    where = socket_of(chosen.directory, chosen.socket)
    changed = with_hooks(settings, where, patience=chosen.patience, opens=chosen.opens)
    return _change(chosen, path, before, changed, settings)


def run_remove(chosen: argparse.Namespace) -> int:
    """Run ``hooks remove``."""
    path = _file(chosen)
    settings, before = read(path)
    return _change(chosen, path, before, without_hooks(settings), settings)


def _file(chosen: argparse.Namespace) -> Path:
    return Path(chosen.file) if chosen.file else path_of(chosen.settings)


def _change(
    chosen: argparse.Namespace,
    path: Path,
    before: str | None,
    changed: dict[str, object],
    settings: dict[str, object],
) -> int:
    after = _text(changed)
    lines = [] if changed == settings else change_of(path, before, after)
    written = bool(lines) and not chosen.dry_run
    if written:
        write(path, before, after)
    if chosen.json:
        print(json.dumps({"file": str(path), "changed": bool(lines), "written": written, "diff": lines}))
        return 0
    for line in lines:
        print(clean(line))
    end = "nothing to change" if not lines else "written" if written else "not written (--dry-run)"
    print(f"{clean(str(path))}: {end}")
    for text in weaknesses(changed):
        print(f"  ! {clean(text)}")
    if written:
        print("Running sessions keep the hooks that they started with: start the coding agent again.")
    return 0


def _text(settings: dict[str, object]) -> str:
    """Return settings as text; with escapes where a text in them is no Unicode."""
    text = json.dumps(settings, indent=2, ensure_ascii=False) + "\n"
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(settings, indent=2) + "\n"
    return text


def run_status(chosen: argparse.Namespace) -> int:
    """Run ``hooks status``; exit code 1 if no hook is installed, or something weakens one."""
    files = [_state(path) for path in ([Path(chosen.file)] if chosen.file else map(path_of, PLACES))]
    sound = any(one.events for one in files) and not any(one.weak for one in files)
    if chosen.json:
        rows = [{"file": one.file, "hooks": one.events, "weaknesses": one.weak} for one in files]
        print(json.dumps({"sound": sound, "files": rows}))
    else:
        print("\n".join(line for one in files for line in _lines(one)))
    return 0 if sound else 1


class _State(NamedTuple):
    """Our hooks in one settings file, and what weakens them."""

    file: str
    events: list[str]
    weak: list[str]


def _lines(state: _State) -> Iterator[str]:
    yield clean(f"{state.file}: {', '.join(state.events) or 'no hook of ours'}")
    yield from (f"  ! {clean(text)}" for text in state.weak)


def _state(path: Path) -> _State:
    settings, _ = read(path)
    return _State(str(path), [one.event for one in installed(settings)], list(weaknesses(settings)))


class _Who(NamedTuple):
    """The human and the agents of all sessions, and their scope."""

    principal: "Human"
    agent: "Agent"
    scope: "Scope"
    sub_agents: dict[str, "Agent"]


def _who(chosen: argparse.Namespace) -> _Who:
    from agent_identity._identity.principals.principals import Agent, Human
    from agent_identity.cli.terminal.scopes import scope_of

    owner = chosen.owner or chosen.principal
    try:
        return _Who(
            Human(chosen.principal),
            Agent(chosen.agent, owner=owner),
            scope_of(chosen.tool, chosen.scope, "--scope"),
            {kind: Agent(kind, owner=owner) for kind in chosen.sub_agent},
        )
    except ValueError as error:
        raise ConfigurationError(f"hooks serve: {error}") from None


def run_serve(chosen: argparse.Namespace) -> int:
    """Run ``hooks serve``."""
    from agent_identity._directory.enforcer import Enforcer
    from agent_identity._guard.calls.approval_request import Approval
    from agent_identity.cli.terminal.signing import keys_of
    from agent_identity.cli.terminal.stores import open_store
    from agent_identity.integrations.frameworks.coding_agents.server import HookServer
    from agent_identity.integrations.frameworks.coding_agents.sessions import HookSessions

    where = socket_of(chosen.directory, chosen.socket)
    if not 0.001 <= chosen.hours <= 24:
        raise ConfigurationError("--hours is out of range; give 0.001 to 24")
    who = _who(chosen)
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    mode: Literal["enforce", "monitor"] = "monitor" if chosen.monitor else "enforce"
    routes, policy = {name: Approval(wait=_WAIT) for name in chosen.approval}, chosen.policy
    with (
        open_store(chosen) as state,
        keys_of(chosen) as keys,
        Enforcer.open(chosen.directory, policy=policy, mode=mode, routes=routes, keys=keys, state=state) as enforcer,
    ):
        sessions = HookSessions(
            enforcer,
            principal=who.principal,
            agent=who.agent,
            scope=who.scope,
            ttl=timedelta(hours=chosen.hours),
            agents=who.sub_agents,
        )
        _serve(HookServer(sessions, where), f"{mode}: answering hooks at {clean(where)}")
    return 0


def _serve(server: "HookServer", words: str) -> None:
    """Say so, and answer until a signal stops it."""
    server.listen()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: server.stop())
    try:
        print(words, flush=True)
        server.serve()
    finally:
        server.close()
