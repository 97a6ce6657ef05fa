"""Humans and services from the tokens of an OpenID provider (OpenID Connect Core §3.1.3.7, RFC 9068 §4)."""

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias, final

from agent_identity._common.narrowing import is_dict
from agent_identity._identity.common.names import check_id
from agent_identity._identity.foreign.claims import (
    MAX_SKEW,
    Subject,
    check_audience,
    check_expectation,
    check_issuer,
    check_times,
    current_time,
    require_text,
    seconds_of,
    signed_claims,
    texts_of,
)
from agent_identity._identity.foreign.jwks import KeysOfIssuer
from agent_identity._identity.foreign.jwt import read_token
from agent_identity.canonical import JSON
from agent_identity.errors import TokenError

RolesClaim: TypeAlias = str | tuple[str, ...]
"""Location of roles: the name of a claim, or the names from the outside in, such as ``("realm_access", "roles")``."""

_ACCESS_TOKEN: Final = "at+jwt"  # noqa: S105  A media type.
_TYPES: Final = frozenset({None, "jwt", _ACCESS_TOKEN})
_LONGEST_AGE: Final = 366 * 86_400
_CLIENT_MARKS: Final = {"gty": "client-credentials", "idtyp": "app"}
"""Claims by which large providers mark a token that a client got for itself."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """The expectations of a relying party, fixed before it sees a token.

    Raises:
        TypeError: A value has the wrong type.
        ValueError: A value is out of range.
    """

    issuer: str
    audience: str
    now: int
    skew: int
    authorized_party: str | None = None
    roles_claim: RolesClaim | None = None

    def __post_init__(self) -> None:
        check_id(self.issuer, "issuer")
        check_id(self.audience, "audience")
        check_expectation(self.skew, "skew", MAX_SKEW)
        if self.authorized_party is not None:
            check_id(self.authorized_party, "authorized_party")
        path: object = (self.roles_claim,) if isinstance(self.roles_claim, str) else self.roles_claim
        if path is not None and (type(path) is not tuple or not all(type(name) is str for name in path)):
            raise TypeError("roles_claim is neither a name nor a tuple of names")

    @classmethod
    def at(
        cls,
        now: int | None,
        *,
        issuer: str,
        audience: str,
        skew: int,
        authorized_party: str | None,
        roles_claim: RolesClaim | None,
    ) -> "Expected":
        """Return the expectations at a time; ``None`` is the present."""
        return cls(
            issuer=issuer,
            audience=audience,
            now=current_time(now),
            skew=skew,
            authorized_party=authorized_party,
            roles_claim=roles_claim,
        )


def human_of(token: str, jwks: KeysOfIssuer, expected: Expected, *, nonce: str | None, max_age: int | None) -> Subject:
    """Return the human of an ID token or access token; see :meth:`Human.from_id_token`."""
    if max_age is not None:
        check_expectation(max_age, "max_age", _LONGEST_AGE)
    if nonce is not None and (type(nonce) is not str or not nonce):
        raise TypeError("nonce is not a text; give the one that was sent to the provider, or None")
    claims = _checked(token, jwks, expected)
    if nonce is not None:
        _check_nonce(claims, nonce)
    if max_age is not None:
        _check_login(claims, max_age, expected)
    subject = require_text(claims, "sub")
    check_subject_is_human(claims)
    return Subject(subject, expected.issuer, roles_of(claims, expected))


def service_of(token: str, jwks: KeysOfIssuer, expected: Expected) -> Subject:
    """Return the service of an access token; see :meth:`Service.from_access_token`."""
    claims = _checked(token, jwks, expected)
    subject = require_text(claims, "sub")
    if not names_a_client(claims):
        raise TokenError(
            "the token is not that of a client; use Human.from_id_token for humans",
            code="not_a_service",
        )
    return Subject(subject, expected.issuer, roles_of(claims, expected))


def names_a_client(claims: Mapping[str, object]) -> bool:
    """Return whether the subject of the token is a client or workload and not a person (RFC 9068 §5).

    Providers that do not follow it mark such tokens in other ways: Auth0 (``@clients``, ``gty``), Entra (``idtyp``),
    Keycloak (``service-account-``), Kubernetes (``system:serviceaccount:``).
    """
    subject, shown = str(claims.get("sub")), str(claims.get("preferred_username")).lower()
    clients = [str(claims[name]) for name in ("client_id", "azp", "appid", "cid") if name in claims]
    return (
        subject.startswith("system:serviceaccount:")
        or any(subject in (client, f"{client}@clients") for client in clients)
        or any(shown == f"service-account-{client}".lower() for client in clients)
        or any(claims.get(name) == mark for name, mark in _CLIENT_MARKS.items())
    )


def check_subject_is_human(claims: Mapping[str, object]) -> None:
    """Refuse a token whose subject is a client or a workload.

    Raises:
        TokenError: With code ``not_a_human``.
    """
    subject, audiences = claims.get("sub"), claims.get("aud")
    itself = subject == audiences or (isinstance(audiences, list | tuple) and subject in audiences)
    workload = isinstance(subject, str) and subject[:7].lower() == "spiffe:"
    if itself or workload or names_a_client(claims):
        raise TokenError(
            "the token is that of a client; use Service.from_access_token for services",
            code="not_a_human",
        )


def roles_of(claims: Mapping[str, object], expected: Expected) -> tuple[str, ...]:
    """Return the roles in the configured claim; empty without the claim.

    Raises:
        TokenError: With code ``bad_claim`` if it is neither text nor an array of texts.
    """
    if expected.roles_claim is None:
        return ()
    path = (expected.roles_claim,) if isinstance(expected.roles_claim, str) else expected.roles_claim
    value: object = claims
    for name in path:
        value = _member(value, name)
    if value is None:
        return ()
    roles = texts_of(value)
    if roles is None:
        raise TokenError("the claim of roles is not an array of texts", code="bad_claim")
    return roles


def check_party(party: object, expected: str | None) -> None:
    """Check that the token was issued to the configured client.

    Raises:
        TokenError: With code ``wrong_party``.
    """
    if expected is not None and party != expected:
        raise TokenError("the token was issued to another party than the authorized one", code="wrong_party")


def _checked(token: str, jwks: KeysOfIssuer, expected: Expected) -> dict[str, JSON]:
    parts = read_token(token)
    if parts.typ not in _TYPES:
        raise TokenError("the token is neither an ID token nor an access token", code="wrong_type")
    claims = signed_claims(parts, jwks)
    if "events" in claims:  # A logout token has no nonce and no typ that would tell (Back-Channel Logout §2.4).
        raise TokenError("the token is a security event; give an ID token or an access token", code="wrong_type")
    check_issuer(claims, expected.issuer)
    audiences = check_audience(claims, expected.audience)
    check_times(claims, now=expected.now, skew=expected.skew)
    if parts.typ == _ACCESS_TOKEN:
        require_text(claims, "jti")
        check_party(require_text(claims, "client_id"), expected.authorized_party)
    else:
        _check_azp(claims, audiences, expected)
    return claims


def _check_azp(claims: Mapping[str, object], audiences: tuple[str, ...], expected: Expected) -> None:
    party = require_text(claims, "azp") if "azp" in claims or len(audiences) > 1 else None
    if party is not None or expected.authorized_party is not None:
        check_party(party, expected.authorized_party or expected.audience)


def _member(value: object, name: str) -> object:
    if value is None:
        return None
    if not is_dict(value):
        raise TokenError("a step to the claim of roles is not an object", code="bad_claim")
    return value.get(name)


def _check_nonce(claims: Mapping[str, object], nonce: str) -> None:
    claimed = claims.get("nonce")
    if not isinstance(claimed, str) or not hmac.compare_digest(_bytes(claimed), _bytes(nonce)):
        raise TokenError("the nonce of the token is not the one that was sent to the provider", code="wrong_nonce")


def _check_login(claims: Mapping[str, object], max_age: int, expected: Expected) -> None:
    login = seconds_of(claims, "auth_time")
    if login > expected.now + expected.skew:
        raise TokenError("auth_time is in the future; compare the clocks", code="not_yet_valid")
    if expected.now - login > max_age + expected.skew:
        raise TokenError("the login is older than max_age; log in again", code="login_too_old")


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
