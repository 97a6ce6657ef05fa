"""Credentials of persons who approve (WebAuthn), as a trust file lists them.

An entry says which person a credential belongs to, and for which site it was made. Reading it checks its form and that
its key is one; the receiver of approvals checks what a credential signs.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias, final
from urllib.parse import urlsplit

from agent_identity._identity.common.encoding import b64url_decode
from agent_identity._identity.common.names import check_id
from agent_identity._identity.common.periods import check_period, check_time, within
from agent_identity._identity.keys.keys import PublicKey

CredentialAlgorithm: TypeAlias = Literal["ES256", "EdDSA"]
"""Algorithms of a credential: P-256 with SHA-256, or Ed25519."""

_LEAST_ID: Final = 16  # Bytes of a credential id (WebAuthn §4).
_MOST_ID: Final = 1023
_RP_ID: Final = re.compile(r"(?=.{1,253}\Z)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*")
_MAX_ORIGIN: Final = 512
_COORDINATE: Final = 32


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Approver:
    """A credential of a person who approves.

    Args:
        person: The person's name in approvals; see :func:`~agent_identity.identity.check_id`.
        credential: The id of the credential, 16 to 1,023 bytes.
        algorithm: ``"ES256"`` or ``"EdDSA"``.
        key: The public key: x and y of the point, 64 bytes, for ES256; 32 bytes for EdDSA.
        rp_id: The domain that the credential was made for.
        origin: The site that may use it: ``https://`` and that domain or one below it, perhaps with a port; ``http``
            for ``localhost`` alone.
        not_before: First second, since the Unix epoch, in which it counts; ``None`` for ever.
        not_after: Last second in which it counts; ``None`` for ever.
        revoked_since: Second from which on others may have had it; ``None`` if no one else has.
        reason: Why it was revoked; only with ``revoked_since``.

    Raises:
        TypeError: A field has the wrong type.
        ValueError: A field breaks a rule, or the key is none.
    """

    person: str
    credential: bytes = field(repr=False)
    algorithm: CredentialAlgorithm
    key: bytes = field(repr=False)
    rp_id: str
    origin: str
    not_before: int | None = None
    not_after: int | None = None
    revoked_since: int | None = None
    reason: str | None = None

    def __post_init__(self) -> None:
        check_id(self.person, "person")
        if type(self.credential) is not bytes or type(self.key) is not bytes:
            raise TypeError("the credential or its key is not bytes")
        if not _LEAST_ID <= len(self.credential) <= _MOST_ID:
            raise ValueError(f"the credential id has {len(self.credential)} bytes; give {_LEAST_ID} to {_MOST_ID}")
        _check_key(self.algorithm, self.key)
        _check_site(self.rp_id, self.origin)
        check_period(self.not_before, self.not_after)
        check_time(self.revoked_since, "revoked_since")
        if self.reason is not None and check_id(self.reason, "reason") and self.revoked_since is None:
            raise ValueError("the credential has a reason but is not revoked; give revoked_since as well")

    def in_time(self, at: int) -> bool:
        """Return whether a second, since the Unix epoch, is within ``not_before`` and ``not_after``."""
        return within(at, self.not_before, self.not_after)


def key_of_jwk(jwk: Mapping[str, str | None], algorithm: CredentialAlgorithm) -> bytes:
    """Return the bytes of a public JWK: its ``x``, and for ES256 its ``y`` after it.

    Raises:
        ValueError: It is of another type or curve, or a coordinate is no canonical base64url of 32 bytes.
    """
    expected = ("EC", "P-256", True) if algorithm == "ES256" else ("OKP", "Ed25519", False)
    if (jwk.get("kty"), jwk.get("crv"), jwk.get("y") is not None) != expected:
        raise ValueError("the key is neither ES256 with kty EC and crv P-256, nor EdDSA with OKP and Ed25519")
    parts = [b64url_decode(text) for name in ("x", "y") if (text := jwk.get(name)) is not None]
    if any(len(part) != _COORDINATE for part in parts):
        raise ValueError(f"a coordinate in the key of the credential is not {_COORDINATE} bytes long")
    return b"".join(parts)


def _check_key(algorithm: str, key: bytes) -> None:
    if algorithm == "EdDSA":
        PublicKey(key)
        return
    if algorithm != "ES256":
        raise ValueError("the algorithm of the credential is not ES256 or EdDSA")
    from cryptography.hazmat.primitives.asymmetric import ec

    if len(key) != 2 * _COORDINATE:
        raise ValueError("the P-256 key is not 64 bytes, x and y")
    try:
        ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), b"\x04" + key)
    except ValueError:
        raise ValueError("the key of the credential is not a point of the curve P-256") from None


def _check_site(rp_id: str, origin: str) -> None:
    if type(rp_id) is not str or type(origin) is not str:
        raise TypeError("rp_id or origin is not a str")
    if not _RP_ID.fullmatch(rp_id):
        raise ValueError("rp_id is not a domain in lower case, such as 'approvals.example.com'")
    try:
        parts = urlsplit(origin)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        host, port, parts = "", None, urlsplit("")
    local = parts.scheme == "http" and host == "localhost"
    spelled = f"{parts.scheme}://{host}" + ("" if port is None else f":{port}")
    if len(origin) > _MAX_ORIGIN or origin != spelled or not (parts.scheme == "https" or local):
        raise ValueError(
            "origin is not that of a site, such as 'https://approvals.example.com', without anything after it"
        )
    if host != rp_id and not host.endswith(f".{rp_id}"):
        raise ValueError("origin is not a site of the domain rp_id")
