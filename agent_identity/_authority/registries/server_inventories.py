"""The signed inventory of servers of a directory: two lines, a token over the digest of the second, canonical JSON."""

from typing import Final

from agent_identity._identity.common.encoding import digest_of
from agent_identity._identity.keys.jws import parse_compact
from agent_identity._identity.trust.store import TrustStore
from agent_identity.canonical import JSON, decode
from agent_identity.errors import TokenError

INVENTORY_NAME: Final = "inventory.json"
"""The name of the inventory of servers in an evidence directory."""

INVENTORY_TYPE: Final = "agent-inventory+jwt"
"""The ``typ`` of the token of an inventory of servers."""

INVENTORY_VERSION: Final = "1"
"""The ``v`` of an inventory of servers."""

_MEMBERS: Final = frozenset({"servers", "v"})


def open_inventory(data: bytes, trust: TrustStore) -> tuple[int, dict[str, JSON]]:
    """Return the number of an inventory of servers, which only grows, and its servers as they stand there.

    Args:
        data: The file.
        trust: The trusted keys; those trusted as issuer may sign it.

    Raises:
        TokenError: It does not verify, or is not of version 1.
    """
    try:
        line, body, end = data.split(b"\n")
        token = line.decode("ascii")
    except ValueError:
        raise TokenError("the file is no inventory of two lines; restore it", code="inventory_malformed") from None
    parts = parse_compact(token)
    trusted = trust.get(parts.kid or "", "issuer")
    if trusted is None:
        raise TokenError("no trusted issuer signed the inventory; restore it", code="unknown_key")
    claims = parts.verify(trusted.key, INVENTORY_TYPE)
    number = claims.get("number")
    if end or type(number) is not int or claims.get("digest") != digest_of(body):
        raise TokenError("the inventory differs from the signed one; restore it", code="inventory_malformed")
    try:
        content = decode(body)
    except ValueError:
        content = None
    members = content if isinstance(content, dict) else {}
    servers = members.get("servers")
    if members.keys() != _MEMBERS or members["v"] != INVENTORY_VERSION or not isinstance(servers, dict):
        raise TokenError(
            f"the members of the inventory are not servers and v {INVENTORY_VERSION}; pin the servers anew",
            code="inventory_malformed",
        )
    return number, servers
