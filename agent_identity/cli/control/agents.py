"""``agent-identity agents``: who owns an agent, what it is for, and the most that it may ever be granted."""

import argparse
import json
import re
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, cast

from agent_identity.authority import AgentRegistry, Mark, Registration, Scope, Status
from agent_identity.cli.terminal.style import Style, clean, columns, moment, table
from agent_identity.enforcement.agents_file import register as write
from agent_identity.enforcement.agents_file import registry_path
from agent_identity.enforcement.directory import prepare
from agent_identity.errors import ConfigurationError, TokenError
from agent_identity.identity import Agent, RandomIds, SigningKey, SystemClock, TrustStore, read_public_file

__all__ = ["run_add", "run_change", "run_check", "run_list", "run_orphan"]

_STATUS: Final[Mapping[str, Status]] = {"suspend": "suspended", "resume": "registered", "retire": "retired"}
_DAY: Final = 86_400
_YEAR_9999: Final = 253_402_300_799
_MAX_SCOPE_FILE: Final = 1 << 20
_COLOURS: Final = {"registered": "green", "suspended": "yellow", "expired": "yellow"}
_MARK: Final = re.compile(r"([0-9]{1,9}):([0-9a-f]{64})")
_LIFE: Final = re.compile(r"([1-9][0-9]{0,4})d")


def run_list(chosen: argparse.Namespace) -> int:
    """List agents or registrations."""
    registry = _registry(chosen.directory, _trust(chosen.directory))
    rows: Iterable[Registration] = registry.history if chosen.history else registry.current()
    found = [row for row in rows if chosen.agent in (None, row.agent.id)]
    if chosen.agent is not None and not found:
        raise _unknown(chosen.agent)
    _print(found, chosen, history=chosen.history)
    return 0


def run_add(chosen: argparse.Namespace) -> int:
    """Register an agent."""
    now = int(time.time())
    try:
        registration = Registration(
            Agent(chosen.agent, owner=chosen.owner, version=chosen.version),
            purpose=chosen.purpose,
            maximum=_maximum(chosen.tool, chosen.maximum),
            expires_at=_expiry(chosen.expires, now),
            model=chosen.model,
            reason=chosen.reason,
        )
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"bad registration: {error}") from None

    def change(registry: AgentRegistry) -> Sequence[Registration]:
        found = registry.get(chosen.agent)
        if found is not None and found.status == "retired":
            raise _retired(chosen.agent)
        if found is not None and not chosen.replace:
            raise ConfigurationError(
                f"expected an agent that is not registered yet, got {chosen.agent!r}; add --replace to change what is "
                "registered of it"
            )
        return (registration,)

    return _write(chosen, change)


def run_change(chosen: argparse.Namespace) -> int:
    """Suspend, resume or retire an agent."""

    def change(registry: AgentRegistry) -> Sequence[Registration]:
        found = registry.get(chosen.agent)
        if found is None:
            raise _unknown(chosen.agent)
        if found.status == "retired":
            raise _retired(chosen.agent)
        needed = {"suspend": "registered", "resume": "suspended"}.get(chosen.action, found.status)
        if found.status != needed:
            raise ConfigurationError(
                f"expected an agent that is {needed} to {chosen.action}, got one that is {found.status}; "
                "'agent-identity agents list DIR' shows how each agent stands"
            )
        return _changed((found,), _STATUS[chosen.action], chosen.reason)

    return _write(chosen, change)


def run_orphan(chosen: argparse.Namespace) -> int:
    """Take the owner from its agents."""

    def change(registry: AgentRegistry) -> Sequence[Registration]:
        owned = [r for r in registry.current() if r.agent.owner == chosen.owner and r.status != "retired"]
        if not owned:
            raise ConfigurationError(
                f"expected agents of the owner {chosen.owner!r}, found none; 'agents list' names the owners"
            )
        return _changed(owned, "orphaned", chosen.reason)

    return _write(chosen, change)


def run_check(chosen: argparse.Namespace) -> int:
    """Verify the registry; exit code 1 if it does not hold."""
    mark = _mark(chosen.at_least)
    trust = _trust(chosen.directory) if chosen.trust is None else TrustStore.load(chosen.trust)
    try:
        registry = _registry(chosen.directory, trust, mark)
    except TokenError as error:
        facts = {"verified": False, "code": error.code, "line": error.line, "message": str(error)}
        style = Style(sys.stdout)
        words = f"{style.paint('NOT VERIFIED', 'red', 'bold')}  {clean(error.code)}: {clean(str(error))}"
        print(json.dumps(facts) if chosen.json else words)
        return 1
    size, last = registry.mark
    if chosen.json:
        facts = {"verified": True, "registrations": size, "agents": len(registry.current()), "mark": f"{size}:{last}"}
        print(json.dumps(facts))
        return 0
    counted = f"{_count(size, 'registration')} of {_count(len(registry.current()), 'agent')}"
    print(f"{Style(sys.stdout).paint('VERIFIED', 'green', 'bold')}  {counted}")
    print(f"  mark  {size}:{last}\n\nKeep the mark elsewhere: '--at-least MARK' finds an older registry put back.")
    return 0


def _write(chosen: argparse.Namespace, change: Callable[[AgentRegistry], Sequence[Registration]]) -> int:
    """Change the registry and print what was added."""
    clock = SystemClock()
    issuer, _, trust = prepare(chosen.directory, clock, RandomIds())
    signer = issuer if chosen.key is None else SigningKey.load(chosen.key)
    before: list[int] = []

    def noted(registry: AgentRegistry) -> Sequence[Registration]:
        before.append(len(registry.history))
        return change(registry)

    now = clock.wall_ns() // 1_000_000_000
    registry = write(registry_path(chosen.directory), noted, signer=signer, trust=trust, now=now)
    _print(registry.history[before[0] :], chosen, history=False)
    return 0


def _changed(found: Iterable[Registration], status: Status, reason: str | None) -> tuple[Registration, ...]:
    try:
        return tuple(replace(registration, status=status, reason=reason) for registration in found)
    except ValueError as error:
        raise ConfigurationError(f"bad registration: {error}") from None


def _trust(directory: str) -> TrustStore:
    path = Path(directory) / "trust.json"
    if not path.exists():
        raise ConfigurationError(
            f"expected a trust file at {str(path)!r}, found none; 'agent-identity init DIR' creates one in DIR"
        )
    return TrustStore.load(path)


def _registry(directory: str, trust: TrustStore, mark: Mark | None = None) -> AgentRegistry:
    return AgentRegistry.load(registry_path(directory), trust, at_least=mark)


def _maximum(tools: Sequence[str], path: str | None) -> Scope:
    scopes = [Scope(dict.fromkeys(tools))] if tools else []
    if path is not None:
        try:
            data = read_public_file(path, limit=_MAX_SCOPE_FILE)
            claim: object = json.loads(data, object_pairs_hook=_unique)
        except (ValueError, RecursionError):
            claim = None
        if not isinstance(claim, dict):
            raise ValueError("expected a JSON object of tools, each once, in the file of --maximum, got something else")
        scopes.append(Scope.from_claim(cast("Mapping[str, object]", claim)))
    if not scopes:
        raise ValueError("expected at least one tool in the maximum; give --tool NAME or --maximum FILE")
    return scopes[0] if len(scopes) == 1 else scopes[0] | scopes[1]


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError
    return members


def _expiry(text: str, now: int) -> int:
    life = _LIFE.fullmatch(text)
    if life:
        return now + int(life[1]) * _DAY
    try:
        expiry = int(datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).timestamp())
    except ValueError:
        raise ValueError("expected --expires as days (90d) or a date (2027-01-31)") from None
    if expiry <= now:
        raise ValueError("expected --expires in the future")
    return expiry


def _mark(text: str | None) -> Mark | None:
    if text is None:
        return None
    found = _MARK.fullmatch(text)
    if not found:
        raise ConfigurationError(
            "expected --at-least as 'agents check' prints its mark: a number, ':' and 64 hex digits"
        )
    return (int(found[1]), found[2])


def _unknown(agent: str) -> ConfigurationError:
    return ConfigurationError(f"expected a registered agent, got {agent!r}; 'agent-identity agents list DIR' names all")


def _retired(agent: str) -> ConfigurationError:
    return ConfigurationError(f"expected an agent that is not retired, got {agent!r}; register another id")


def _print(registrations: Sequence[Registration], chosen: argparse.Namespace, *, history: bool) -> None:
    now = int(time.time())
    if chosen.json:
        print(json.dumps({"agents": [_facts(registration, now) for registration in registrations]}))
        return
    heads, row = _HISTORY if history else _CURRENT
    style = Style(sys.stdout)
    lines = table([heads, *(row(found, now) for found in registrations)], indent="", room=columns(sys.stdout))
    print(lines[0])
    for found, line in zip(registrations, lines[1:], strict=True):
        print(style.paint(line, _COLOURS.get(_standing(found, now), "red")))


def _history_row(found: Registration, _: int) -> tuple[str, ...]:
    at, why = _moment(found.issued_at), clean(found.reason or "")
    who, owner = clean(found.agent.id), clean(found.agent.owner)
    return (str(found.seq), at, who, found.status, owner, _moment(found.expires_at)[:10], why)


def _current_row(found: Registration, now: int) -> tuple[str, ...]:
    who, owner, version = clean(found.agent.id), clean(found.agent.owner), clean(found.agent.version or "any")
    return (who, _standing(found, now), owner, version, _moment(found.expires_at)[:10], clean(found.purpose))


_HISTORY: Final = (("SEQ", "AT", "AGENT", "STATUS", "OWNER", "EXPIRES", "WHY"), _history_row)
_CURRENT: Final = (("AGENT", "STATUS", "OWNER", "VERSION", "EXPIRES", "PURPOSE"), _current_row)


def _standing(registration: Registration, now: int) -> str:
    expired = registration.status == "registered" and now >= registration.expires_at
    return "expired" if expired else registration.status


def _moment(seconds: int) -> str:
    return moment(min(seconds, _YEAR_9999) * 1_000_000_000)


def _facts(registration: Registration, now: int) -> dict[str, object]:
    return {
        **registration.agent.to_claim(),
        "purpose": registration.purpose,
        "maximum": registration.maximum.to_claim(),
        "status": registration.status,
        "expired": now >= registration.expires_at,
        "expires_at": registration.expires_at,
        "model": registration.model,
        "reason": registration.reason,
        "seq": registration.seq,
        "issued_at": registration.issued_at,
        "hash": registration.hash,
    }


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
