"""Commitments to the arguments of a call, which can disclose one argument without the others.

Each argument is hashed with a salt of its own, and the record holds one hash over all of these, with their number
and order. The salts come from the key of the task and all arguments of the call together: who has a salt can check
one argument of one call, and can guess at nothing else. Without the key of the task, all of it is noise.
"""

import hashlib
import hmac
from collections.abc import Iterator, Sequence
from typing import Final

from agent_identity import canonical
from agent_identity._identity.common.encoding import digest_of
from agent_identity._identity.common.ids import is_digest
from agent_identity._storage.mac import Mac
from agent_identity.canonical import JSON

PREFIX: Final = "s"
"""The first character of digests of arguments that can be shown one at a time."""

_TAG: Final = b"agent-identity/arguments/v1\n"  # No JSON text begins so, which other digests under the key are of.
_LEAF: Final = b"\x00"
_ROOT: Final = b"\x01"


def part(name: str, value: JSON) -> bytes:
    """Return the committed bytes of an argument: canonical JSON of name and value.

    Raises:
        ValueError: The value has no canonical form.
    """
    return canonical.encode([name, value])


def salts(mac: Mac, parts: Sequence[bytes]) -> Iterator[bytes]:
    """Yield the 32-byte salt of each part.

    Args:
        mac: The MAC under the key of the task.
        parts: All arguments of the call, sorted by name.
    """
    key = mac.of(_TAG + b"\n".join(parts))  # Canonical JSON holds no line feed.
    for index in range(len(parts)):
        yield hmac.digest(key, b"%d" % index, "sha256")


def is_salted(digest: str) -> bool:
    """Return whether a digest of arguments can show them one at a time; a MAC may begin with the prefix by chance."""
    return digest.startswith(PREFIX) and not is_digest(digest)


def leaf(salt: bytes, data: bytes) -> bytes:
    """Return the 32-byte commitment to one part."""
    return hashlib.sha256(_LEAF + salt + data).digest()


def root(leaves: Sequence[bytes]) -> str:
    """Return the commitment to all parts, their number and their order."""
    return PREFIX + digest_of(_ROOT + b"%d\n" % len(leaves) + b"".join(leaves))


def commit(mac: Mac, parts: Sequence[bytes]) -> str:
    """Return the commitment to the arguments for the record of a call.

    Args:
        mac: The MAC under the key of the task.
        parts: All arguments of the call, sorted by name.
    """
    return root([leaf(salt, data) for salt, data in zip(salts(mac, parts), parts, strict=True)])
