"""The signed inventory of servers of a directory: two lines, a token over the digest of the second, canonical JSON."""

from agent_identity._identity.common import digest_of
from agent_identity._identity.keys import parse_compact
from agent_identity._identity.trust import TrustStore
from agent_identity.canonical import JSON, decode
from agent_identity.errors import TokenError

__all__ = ["INVENTORY_NAME", "INVENTORY_TYPE", "INVENTORY_VERSION", "open_inventory"]

INVENTORY_NAME = "inventory.json"
"""The name of the inventory of servers in an evidence directory."""

INVENTORY_TYPE = "agent-inventory+jwt"
"""The ``typ`` of the token of an inventory of servers."""

INVENTORY_VERSION = "servers.v1"
"""The member of an inventory that holds its servers."""


def open_inventory(data: bytes, trust: TrustStore) -> tuple[int, dict[str, JSON]]:
    """Return the number of an inventory of servers, which only grows, and its servers as they stand there.

    Args:
        data: The file.
        trust: The trusted keys; those trusted as issuer may sign it.

    Raises:
        TokenError: It does not verify, or is of another version.
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
    servers = content.get(INVENTORY_VERSION) if isinstance(content, dict) else None
    if not isinstance(servers, dict):
        # It is signed, so it is not from a stranger, but from another version.
        raise TokenError(
            "another version wrote the inventory; use that version, or pin anew", code="inventory_malformed"
        )
    return number, servers
