"""Workloads from SPIFFE documents (SPIFFE ID, JWT-SVID, Trust Domain and Bundle)."""

import re
from dataclasses import dataclass
from typing import Final, Self, final

from agent_identity._identity.common.names import check_id
from agent_identity._identity.common.private_files import PathLike, read_public_file
from agent_identity._identity.foreign.claims import (
    MAX_SKEW,
    Subject,
    check_audience,
    check_expectation,
    check_times,
    current_time,
    require_text,
    signed_claims,
)
from agent_identity._identity.foreign.jwks import KeySet, KeysOfIssuer, key_source
from agent_identity._identity.foreign.jwt import read_token
from agent_identity.errors import TokenError

_MAX_BUNDLE: Final = 1 << 20
_TRUST_DOMAIN: Final = re.compile(r"[a-z0-9._-]{1,255}")
_HEADER: Final = frozenset({"alg", "kid", "typ"})
_EDWARDS: Final = frozenset({"EdDSA", "Ed25519"})


@final
@dataclass(frozen=True, slots=True)
class SpiffeBundle:
    """The authorities of one trust domain, which sign the SVIDs of its names.

    Args:
        trust_domain: Its name, such as ``"example.org"``; ``spiffe://`` in front is accepted.
        keys: The bundle, a JWK Set as SPIFFE defines it: its path, its content, or a source such as
            ``JwksSource("https://…")``. Keys count for what their ``use`` says (``jwt-svid``, ``x509-svid``).

    Raises:
        TypeError: The name is no ``str``.
        ValueError: The name is none of a trust domain.
    """

    trust_domain: str
    keys: KeysOfIssuer

    def __post_init__(self) -> None:
        if type(self.trust_domain) is not str:
            raise TypeError(f"trust_domain is {type(self.trust_domain).__name__}; give a str")
        name = self.trust_domain.removeprefix("spiffe://")
        if not _TRUST_DOMAIN.fullmatch(name):
            raise ValueError(
                "trust_domain is malformed; write one like example.org: lower-case letters, digits, dots, - and _"
            )
        object.__setattr__(self, "trust_domain", name)

    @property
    def id(self) -> str:
        """The SPIFFE ID of the trust domain; the issuer of its workloads."""
        return f"spiffe://{self.trust_domain}"

    @classmethod
    def from_pem(cls, trust_domain: str, path: PathLike) -> Self:
        """Return a bundle of X.509 authorities from a PEM file; JWT-SVIDs cannot be verified with it.

        Raises:
            ConfigurationError: The file cannot be read.
            TokenError: With code ``bad_certificate`` if it holds no certificates.
        """
        from agent_identity._identity.foreign._x509_files import read_pem

        return cls(trust_domain, KeySet((), read_pem(read_public_file(path, limit=_MAX_BUNDLE))))

    def certificates(self) -> tuple[bytes, ...]:
        """Return the X.509 authorities, as DER.

        Raises:
            TokenError: With code ``bad_key_set``, ``keys_unavailable`` or, without a key, ``unknown_key``.
        """
        certificates = key_source(self.keys).keys_for(None).certificates
        if not certificates:
            raise TokenError("the bundle has no X.509 authority", code="unknown_key")
        return certificates


def service_of_jwt_svid(token: str, bundle: SpiffeBundle, *, audience: str, now: int | None, skew: int) -> Subject:
    """Return the workload of a JWT-SVID; see :meth:`Service.from_jwt_svid`."""
    check_id(audience, "audience")
    seconds = current_time(now)
    check_expectation(skew, "skew", MAX_SKEW)
    parts = read_token(token)
    if not parts.members <= _HEADER:
        raise TokenError("the header has other members than alg, kid and typ", code="unknown_header")
    if parts.algorithm in _EDWARDS:
        raise TokenError("the algorithm of the token is not one of RS, ES or PS", code="algorithm_not_allowed")
    if parts.typ not in (None, "jwt", "jose"):
        raise TokenError("the token is not a JWT-SVID (typ JWT or JOSE)", code="wrong_type")
    claims = signed_claims(parts, bundle.keys, uses=frozenset({"jwt-svid"}))
    service = service_of_spiffe_id(require_text(claims, "sub"), bundle)
    check_audience(claims, audience)
    check_times(claims, now=seconds, skew=skew, issued=False)
    return service


def service_of_spiffe_id(name: str, bundle: SpiffeBundle) -> Subject:
    """Return the workload of a SPIFFE ID that an authority of the bundle signed.

    Raises:
        TokenError: With code ``bad_principal`` if it is no SPIFFE ID of a workload, ``wrong_trust_domain`` if it is one
            of another trust domain: an authority speaks for its own only.
    """
    if not name.startswith("spiffe://") or "/" not in name.removeprefix("spiffe://"):
        raise TokenError("bad principal: the name is not the SPIFFE ID of a workload", code="bad_principal")
    service = Subject(name, bundle.id)
    if not name.startswith(f"{bundle.id}/"):
        raise TokenError("the workload is not of the bundle's trust domain", code="wrong_trust_domain")
    return service
