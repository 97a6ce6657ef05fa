"""``agent-identity agents``: the registry of agents with owner, purpose and maximum scope."""

import argparse
import json
import re
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from agent_identity._authority.registries.agents import AgentRegistry, Mark, Registration, Status
from agent_identity._directory.agents_file import register as write
from agent_identity._directory.agents_file import registry_path
from agent_identity._identity.common.clock import SystemClock
from agent_identity._identity.common.ids import DIGEST_FORM
from agent_identity._identity.keys.keys import SigningKey
from agent_identity._identity.principals.principals import Agent
from agent_identity._identity.trust.store import TrustStore
from agent_identity._verify.report.plurals import counted
from agent_identity.cli.terminal.scopes import scope_of
from agent_identity.cli.terminal.signing import refuse_inside, signing
from agent_identity.cli.terminal.style import Style, clean, columns, moment, table
from agent_identity.errors import ConfigurationError, TokenError

_STATUS: Final[Mapping[str, Status]] = {"suspend": "suspended", "resume": "registered", "retire": "retired"}
_DAY: Final = 86_400
_YEAR_9999: Final = 253_402_300_799
_COLOURS: Final = {"registered": "green", "suspended": "yellow", "expired": "yellow"}
_MARK: Final = re.compile(rf"([0-9]{{1,9}}):({DIGEST_FORM})")
_LIFE: Final = re.compile(r"([1-9][0-9]{0,4})d")


def run_list(chosen: argparse.Namespace) -> int:
    """List agents or registrations."""
    registry = _registry(chosen.directory, _trust(chosen.directory))
    rows: Iterable[Registration] = registry.history if chosen.history else registry.current()
    matches = [row for row in rows if chosen.agent in (None, row.agent.id)]
    if chosen.agent is not None and not matches:
        raise _unknown(chosen.agent)
    _print(matches, chosen, history=chosen.history)
    return 0


def run_add(chosen: argparse.Namespace) -> int:
    """Register an agent."""
    now = int(time.time())
    try:
        registration = Registration(
            Agent(chosen.agent, owner=chosen.owner, version=chosen.version),
            purpose=chosen.purpose,
            maximum=scope_of(chosen.tool, chosen.maximum, "--maximum"),
            expires_at=_expiry(chosen.expires, now),
            model=chosen.model,
            reason=chosen.reason,
        )
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"bad registration: {error}") from None

    def change(registry: AgentRegistry) -> Sequence[Registration]:
        known = registry.get(chosen.agent)
        if known is not None and known.status == "retired":
            raise _retired(chosen.agent)
        if known is not None and not chosen.replace:
            raise ConfigurationError(
                f"the agent {chosen.agent!r} is registered already; add --replace to change its registration"
            )
        return (registration,)

    return _write(chosen, change)


def run_change(chosen: argparse.Namespace) -> int:
    """Suspend, resume or retire an agent."""

    def change(registry: AgentRegistry) -> Sequence[Registration]:
        known = registry.get(chosen.agent)
        if known is None:
            raise _unknown(chosen.agent)
        if known.status == "retired":
            raise _retired(chosen.agent)
        needed = {"suspend": "registered", "resume": "suspended"}.get(chosen.action, known.status)
        if known.status != needed:
            raise ConfigurationError(
                f"cannot {chosen.action} the agent {chosen.agent!r}, which is {known.status}, not {needed}; "
                "'agent-identity agents list DIR' shows the status of each"
            )
        return _changed((known,), _STATUS[chosen.action], chosen.reason)

    return _write(chosen, change)


def run_orphan(chosen: argparse.Namespace) -> int:
    """Mark all agents of an owner as orphaned."""

    def change(registry: AgentRegistry) -> Sequence[Registration]:
        owned = [r for r in registry.current() if r.agent.owner == chosen.owner and r.status != "retired"]
        if not owned:
            raise ConfigurationError(f"no agent has the owner {chosen.owner!r}; 'agents list' names the owners")
        return _changed(owned, "orphaned", chosen.reason)

    return _write(chosen, change)


def run_check(chosen: argparse.Namespace) -> int:
    """Verify the registry; exit code 1 if it does not verify."""
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
    numbers = f"{counted(size, 'registration')} of {counted(len(registry.current()), 'agent')}"
    print(f"{Style(sys.stdout).paint('VERIFIED', 'green', 'bold')}  {numbers}")
    print(f"  mark  {size}:{last}\n\nKeep the mark elsewhere: '--at-least MARK' finds an older registry put back.")
    return 0


def _write(chosen: argparse.Namespace, change: Callable[[AgentRegistry], Sequence[Registration]]) -> int:
    """Change the registry and print the new registrations."""
    refuse_inside(chosen)
    before: list[int] = []

    def noted(registry: AgentRegistry) -> Sequence[Registration]:
        before.append(len(registry.history))
        return change(registry)

    with signing(chosen) as (issuer, _, trust):
        signer = issuer if chosen.key is None else SigningKey.load(chosen.key)
        now = SystemClock().wall_ns() // 1_000_000_000
        registry = write(registry_path(chosen.directory), noted, signer=signer, trust=trust, now=now)
    _print(registry.history[before[0] :], chosen, history=False)
    return 0


def _changed(registrations: Iterable[Registration], status: Status, reason: str | None) -> tuple[Registration, ...]:
    try:
        return tuple(replace(registration, status=status, reason=reason) for registration in registrations)
    except ValueError as error:
        raise ConfigurationError(f"bad registration: {error}") from None


def _trust(directory: str) -> TrustStore:
    path = Path(directory) / "trust.json"
    if not path.exists():
        raise ConfigurationError(
            f"there is no trust file at {str(path)!r}; 'agent-identity init DIR' creates one in DIR"
        )
    return TrustStore.load(path)


def _registry(directory: str, trust: TrustStore, mark: Mark | None = None) -> AgentRegistry:
    return AgentRegistry.load(registry_path(directory), trust, at_least=mark)


def _expiry(text: str, now: int) -> int:
    life = _LIFE.fullmatch(text)
    if life:
        return now + int(life[1]) * _DAY
    try:
        expiry = int(datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).timestamp())
    except ValueError:
        raise ValueError("--expires is neither a number of days nor a date; write 90d or 2027-01-31") from None
    if expiry <= now:
        raise ValueError("--expires is in the past; take a later date")
    return expiry


def _mark(text: str | None) -> Mark | None:
    if text is None:
        return None
    match = _MARK.fullmatch(text)
    if not match:
        raise ConfigurationError(
            "--at-least is not a mark; copy it from 'agents check': a number, ':' and 43 characters"
        )
    return (int(match[1]), match[2])


def _unknown(agent: str) -> ConfigurationError:
    return ConfigurationError(f"the agent {agent!r} is not registered; 'agent-identity agents list DIR' names all")


def _retired(agent: str) -> ConfigurationError:
    return ConfigurationError(f"the agent {agent!r} is retired; register another id")


def _print(registrations: Sequence[Registration], chosen: argparse.Namespace, *, history: bool) -> None:
    now = int(time.time())
    if chosen.json:
        print(json.dumps({"agents": [_facts(registration, now) for registration in registrations]}))
        return
    heads, row = _HISTORY if history else _CURRENT
    style = Style(sys.stdout)
    lines = table(
        [heads, *(row(registration, now) for registration in registrations)], indent="", room=columns(sys.stdout)
    )
    print(lines[0])
    for registration, line in zip(registrations, lines[1:], strict=True):
        print(style.paint(line, _COLOURS.get(_standing(registration, now), "red")))


def _history_row(registration: Registration, _: int) -> tuple[str, ...]:
    at, why = _moment(registration.issued_at), clean(registration.reason or "")
    who, owner = clean(registration.agent.id), clean(registration.agent.owner)
    return (str(registration.seq), at, who, registration.status, owner, _moment(registration.expires_at)[:10], why)


def _current_row(registration: Registration, now: int) -> tuple[str, ...]:
    who, owner, version = (
        clean(registration.agent.id),
        clean(registration.agent.owner),
        clean(registration.agent.version or "any"),
    )
    return (
        who,
        _standing(registration, now),
        owner,
        version,
        _moment(registration.expires_at)[:10],
        clean(registration.purpose),
    )


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
