"""Statements of a policy file about the results and the destinations of a tool."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, final

from agent_identity._common.narrowing import is_array, is_object
from agent_identity._policy.decision.places import Path, Problem
from agent_identity.canonical import JSON

FLOW_KEYS: Final = frozenset({"destination", "raise", "returns", "server"})
"""The keys of a tool in a policy file that are about information flow."""

_INTEGRITIES: Final = ("trusted", "unknown", "untrusted")


@final
@dataclass(frozen=True, slots=True)
class StatedFlow:
    """Statements of a policy about the results and destinations of tools.

    Attributes:
        returns: The integrity of results, by JSON pointer; the empty pointer stands for the rest.
        destination: The arguments that decide where a call leads; ``None`` if it does not say.
        raises: Whether it may raise what the code declares; otherwise it only restricts.
        server: The server of the tools, if it is about those of one server.
    """

    returns: tuple[tuple[str, str], ...] = ()
    destination: tuple[str, ...] | None = None
    raises: bool = False
    server: str | None = None

    def describe(self) -> JSON:
        """Return the canonical description for the digest."""
        return {
            "destination": self.destination,
            "raise": self.raises,
            "returns": dict(self.returns),
            "server": self.server,
        }


def parse_flow(members: Mapping[str, object], path: Path) -> StatedFlow | None:
    """Return what plain data states; ``None`` of nothing.

    Raises:
        Problem: It is malformed.
    """
    if not members:
        return None
    raises, server = members.get("raise", False), members.get("server")
    if type(raises) is not bool:
        raise Problem("raise is no boolean; write raise: true or raise: false", (*path, "raise"))
    if raises and "returns" not in members:
        raise Problem("raise is true without returns; add returns, or leave raise out", (*path, "raise"))
    if server is not None and (type(server) is not str or not server):
        raise Problem("server is no name; write the name of a server", (*path, "server"))
    return StatedFlow(
        _returns(members.get("returns", {}), (*path, "returns")),
        _destination(members["destination"], (*path, "destination")) if "destination" in members else None,
        raises,
        server,
    )


def _returns(value: object, path: Path) -> tuple[tuple[str, str], ...]:
    entries = {"": value} if type(value) is str else value
    if not is_object(entries) or len(entries) > 64:
        raise Problem(
            "returns is malformed; write trusted, unknown or untrusted, or a mapping of at most 64 paths to these", path
        )
    found: list[tuple[str, str]] = []
    for pointer, integrity in entries.items():
        if type(integrity) is not str or integrity not in _INTEGRITIES:
            raise Problem("unknown integrity; use trusted, unknown or untrusted", path)
        if (pointer and not pointer.startswith("/")) or len(pointer) > 256:
            raise Problem("a path is no JSON pointer of at most 256 characters; write for instance /items/*/note", path)
        found.append((pointer, integrity))
    return tuple(found)


def _destination(value: object, path: Path) -> tuple[str, ...]:
    items = (value,) if type(value) is str else value
    if not is_array(items) or not items:
        raise Problem("destination is no list of argument names; write for instance [to, cc]", path)
    names = tuple(
        item for item in items if type(item) is str and all(item.removesuffix("?").split(".")) and len(item) <= 128
    )
    if len(names) != len(items):
        raise Problem("destination is no list of argument names; write for instance [to, cc]", path)
    return names
