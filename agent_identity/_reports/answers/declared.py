"""Signed declarations beside a ledger: registered agents and pinned servers."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, final

from agent_identity._authority.registries.agents import AgentRegistry, Registration
from agent_identity._authority.registries.server_inventories import INVENTORY_NAME, open_inventory
from agent_identity._identity.common.private_files import read_public_file
from agent_identity._identity.trust.store import TrustStore
from agent_identity._verify.fleet.places import Place
from agent_identity._verify.inputs.sources import directory_of
from agent_identity.canonical import JSON
from agent_identity.errors import ConfigurationError, TokenError
from agent_identity.version import VERSION

_REGISTRY: Final = "agents.jsonl"
_MAX_INVENTORY: Final = 128 * 1024 * 1024 + 4096


@final
@dataclass(frozen=True, slots=True)
class PinnedServer:
    """A server as an inventory has it.

    Attributes:
        name: Its name.
        transport: How it is reached.
        version: Its version, if it named one.
        moved: It is offered at another place than the pinned one.
        tools: Its tools, each with its state: ``pinned``, ``changed`` or ``new``.
    """

    name: str
    transport: str
    version: str | None
    moved: bool
    tools: tuple[tuple[str, Literal["pinned", "changed", "new"]], ...]


@final
@dataclass(frozen=True, slots=True)
class Declared:
    """Declarations beside one ledger.

    Attributes:
        registry: Whether there is a registry of agents that verifies.
        registrations: Every registration, oldest first.
        inventory: Whether there is an inventory of servers that verifies.
        servers: The pinned servers.
        problems: What could not be used, in words.
    """

    registry: bool = False
    registrations: tuple[Registration, ...] = ()
    inventory: bool = False
    servers: tuple[PinnedServer, ...] = ()
    problems: tuple[str, ...] = ()


def declared_in(place: Place, trust: TrustStore | None) -> Declared:
    """Return what stands beside the ledger of a source; bundles and files of spans have nothing of it.

    Args:
        place: The source.
        trust: The keys that it was verified with.
    """
    directory = directory_of(place.paths[0]) if place.kind == "ledger" and place.problem is None else None
    if directory is None:
        return Declared()
    root = Path(directory)
    problems: list[str] = []
    registrations = _registrations(root / _REGISTRY, trust, problems)
    servers = _servers(root / INVENTORY_NAME, trust, problems)
    return Declared(
        registry=registrations is not None,
        registrations=registrations or (),
        inventory=servers is not None,
        servers=servers or (),
        problems=tuple(problems),
    )


def _registrations(path: Path, trust: TrustStore | None, problems: list[str]) -> tuple[Registration, ...] | None:
    if not path.exists():
        return None
    if trust is None:
        problems.append(f"the registry {path.name}: there are no keys to verify it with")
        return None
    try:
        return AgentRegistry.load(path, trust).history
    except (TokenError, ConfigurationError) as error:
        problems.append(f"the registry {path.name} cannot be used: {error}")
        return None


def _servers(path: Path, trust: TrustStore | None, problems: list[str]) -> tuple[PinnedServer, ...] | None:
    if not path.exists():
        return None
    if trust is None:
        problems.append(f"the pins in {path.name}: there are no keys to verify them with")
        return None
    try:
        _, servers = open_inventory(read_public_file(path, limit=_MAX_INVENTORY), trust)
        return tuple(_server(name, servers[name]) for name in sorted(servers))
    except (TokenError, ConfigurationError) as error:
        problems.append(f"the pins in {path.name} cannot be used: {error}")
    except (LookupError, TypeError):
        problems.append(f"the pins in {path.name} are of another version than {VERSION}")
    return None


def _server(name: str, claim: JSON) -> PinnedServer:
    facts = _object(claim)
    version = facts.get("version")
    return PinnedServer(
        name=name,
        transport=str(facts["transport"]),
        version=version if isinstance(version, str) and version else None,
        moved=facts.get("moved") is not None,
        tools=tuple(_tools(_object(facts["tools"]))),
    )


def _tools(tools: dict[str, JSON]) -> Iterator[tuple[str, Literal["pinned", "changed", "new"]]]:
    for name in sorted(tools):
        if name.startswith(":"):  # Instructions, prompts and templates are pinned as well, and are no tools.
            continue
        facts = _object(tools[name])
        pinned, offered = _digest(facts["pinned"]), _digest(facts["offered"])
        if pinned is None:
            yield name, "new"
        else:
            yield name, "pinned" if offered in (None, pinned) else "changed"


def _digest(claim: JSON) -> JSON:
    return None if claim is None else _object(claim)["digest"]


def _object(claim: JSON) -> dict[str, JSON]:
    if not isinstance(claim, dict):
        raise TypeError("the claim is no object; pin the server again")
    return claim
