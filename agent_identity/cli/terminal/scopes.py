"""Scopes from the command line: names of tools, and a file with constraints."""

import json
from collections.abc import Mapping, Sequence
from typing import Final, cast

from agent_identity._authority.grants.scope import Scope
from agent_identity._identity.common.private_files import read_public_file

_MAX_SCOPE_FILE: Final = 1 << 20


def scope_of(tools: Sequence[str], path: str | None, option: str) -> Scope:
    """Return the scope of some tools with any arguments, and of those in a file.

    Args:
        tools: Names of tools, from ``--tool``.
        path: A file of JSON with tools and constraints, as in grants.
        option: The option that names the file.

    Raises:
        ValueError: The file or a name is malformed, or there is no tool.
    """
    scopes = [Scope(dict.fromkeys(tools))] if tools else []
    if path is not None:
        try:
            data = read_public_file(path, limit=_MAX_SCOPE_FILE)
            claim: object = json.loads(data, object_pairs_hook=unique)
        except (ValueError, RecursionError):
            claim = None
        if not isinstance(claim, dict):
            raise ValueError(f"the file of {option} is not a JSON object of tools, each once; write one, as in grants")
        try:
            scopes.append(Scope.from_claim(cast("Mapping[str, object]", claim)))
        except ValueError as error:
            raise ValueError(f"the file of {option}: {error}; write tools with constraints, as in grants") from None
    if not scopes:
        raise ValueError(f"the {option.removeprefix('--')} has no tool; give --tool NAME or {option} FILE")
    return scopes[0] if len(scopes) == 1 else scopes[0] | scopes[1]


def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Return the members of a JSON object.

    Raises:
        ValueError: Two have one name.
    """
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("two members have one name")
    return members
