"""Writes the registry of agents of a directory: one writer at a time, and readers never see a partial change."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from agent_identity._authority.registries.agents import MAX_REGISTRY, AgentRegistry, Registration, appended
from agent_identity._directory.open import prepare
from agent_identity._identity.common.clock import Clock, SystemClock
from agent_identity._identity.common.ids import Ids, RandomIds
from agent_identity._identity.common.private_files import read_public_file, replace_public_file
from agent_identity._identity.keys.keys import Signer
from agent_identity._identity.trust.store import TrustStore
from agent_identity._storage.os_files import EDIT, Files, locked, open_regular, why
from agent_identity.errors import ConfigurationError, TokenError

_NAME: Final = "agents.jsonl"


def registry_path(directory: str | os.PathLike[str]) -> Path:
    """Return the path of the registry of a directory."""
    return Path(directory) / _NAME


def register_agents(
    directory: str | os.PathLike[str],
    *registrations: Registration,
    keys: str | os.PathLike[str] | None = None,
    clock: Clock | None = None,
    ids: Ids | None = None,
) -> AgentRegistry:
    """Register agents in a directory, all or none, signed by its issuer key, and return the registry.

    A registered agent is replaced by its new registration. Missing keys, trust file and registry are created.

    Args:
        directory: The directory of the enforcer.
        registrations: The registrations, in this order.
        keys: The folder of the keys, if it is outside the directory.
        clock: Source of time.
        ids: Source of ids, for the names in a new trust file.

    Raises:
        TokenError: An existing file does not verify, or an agent is retired.
        ConfigurationError: An existing file is unusable, or a registration is too large.
    """
    time = clock or SystemClock()
    issuer, _, trust = prepare(directory, time, ids or RandomIds(), keys)
    now = time.wall_ns() // 1_000_000_000
    return register(registry_path(directory), lambda _: registrations, signer=issuer, trust=trust, now=now)


def register(
    path: str | os.PathLike[str],
    change: Callable[[AgentRegistry], Sequence[Registration]],
    *,
    signer: Signer,
    trust: TrustStore,
    now: int,
    files: Files | None = None,
) -> AgentRegistry:
    """Add registrations to a registry, all or none, and return it; create it if it is missing.

    Args:
        path: The file. A lock file beside it keeps other writers out.
        change: Returns the registrations to add, for the current registry.
        signer: A key that is trusted as issuer.
        trust: The trusted keys.
        now: Unix seconds.
        files: The operating system; tests inject faults here.

    Raises:
        TokenError: The existing registry does not verify, or an agent is retired.
        ConfigurationError: The file cannot be read or written, another writer does not finish, or a registration
            is too large.
    """
    system = files or Files()
    name = os.path.abspath(path)  # No links are resolved.
    try:
        fd = open_regular(system, f"{name}.lock", EDIT)
        try:
            with locked(system, fd):
                return _add(name, change, signer, trust, now)
        finally:
            system.close(fd)
    except OSError as error:
        raise ConfigurationError(
            f"cannot change the registry of agents {name!r}: '{why(error)}'; check its folder, and whether "
            "another writer hangs"
        ) from None
    except TokenError:
        raise
    except ValueError as error:
        raise ConfigurationError(f"bad registration: {error}") from None


def _add(
    name: str,
    change: Callable[[AgentRegistry], Sequence[Registration]],
    signer: Signer,
    trust: TrustStore,
    now: int,
) -> AgentRegistry:
    registry = AgentRegistry.load(name, trust, absent="empty")
    added = change(registry)
    if not added:
        return registry
    data = read_public_file(name, limit=MAX_REGISTRY) if registry.history else b""
    replace_public_file(name, appended(data, added, signer=signer, trust=trust, now=now))
    return registry.renewed()
