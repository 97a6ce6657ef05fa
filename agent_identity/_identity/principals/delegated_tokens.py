"""Tokens that already carry a delegation: RFC 8693 actor chains, Transaction Tokens, ID-JAG.

Such a token becomes the first hop of a chain: its subject is the principal. Its actors are history: they say who
passed the request on, and give no one any authority (RFC 8693 §4.1).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, final

from agent_identity._common.narrowing import is_object
from agent_identity._identity.common.names import check_id
from agent_identity._identity.foreign.claims import (
    Subject,
    check_audience,
    check_issuer,
    check_times,
    require_text,
    signed_claims,
)
from agent_identity._identity.foreign.id_tokens import (
    Expected,
    RolesClaim,
    check_party,
    check_subject_is_human,
    names_a_client,
    roles_of,
)
from agent_identity._identity.foreign.jwks import KeysOfIssuer
from agent_identity._identity.foreign.jwt import ForeignToken, read_object, read_token
from agent_identity._identity.principals.principals import Human, Principal, Service, principal_of_subject
from agent_identity.canonical import JSON
from agent_identity.errors import TokenError

InboundKind: TypeAlias = Literal["access_token", "transaction_token", "id_jag"]
"""Kinds of tokens; the signed ``typ`` names the kind."""

_KINDS: Final[Mapping[str | None, InboundKind]] = {
    None: "access_token",
    "jwt": "access_token",
    "at+jwt": "access_token",
    "txntoken+jwt": "transaction_token",
    "oauth-id-jag+jwt": "id_jag",
}
_REQUIRED: Final[Mapping[str | None, tuple[str, ...]]] = {
    "at+jwt": ("client_id", "jti"),
    "txntoken+jwt": ("txn", "scope", "req_wl"),
    "oauth-id-jag+jwt": ("client_id", "jti"),
}
_OF_OTHERS: Final = frozenset({"events", "nonce", "at_hash", "c_hash"})
"""Claims by which ID tokens and logout tokens give themselves away; their ``typ`` may be missing."""

_MAX_ACTORS: Final = 32


@final
@dataclass(frozen=True, slots=True)
class Inbound:
    """Delegation facts in the token of an inbound request.

    Attributes:
        principal: On whose behalf; ``verified`` exactly if the signature of the token was checked. Its ``via`` holds
            the actors, so that every grant and record names them.
        actors: The actors so far: the current actor first, the first one last. History, never authority.
        kind: The kind of the token.
        token_hash: SHA-256 of its signing input in hexadecimal, for logs; the token itself belongs in none.
        txn: The id of the transaction, if the token has one.
        expires_at: When the token expires (Unix seconds).
    """

    principal: Principal
    actors: tuple[str, ...]
    kind: InboundKind
    token_hash: str
    txn: str | None
    expires_at: int


def read_inbound(
    token: str,
    *,
    jwks: KeysOfIssuer | None,
    issuer: str,
    audience: str,
    subject: type[Human] | type[Service],
    now: int | None = None,
    authorized_party: str | None = None,
    roles_claim: RolesClaim | None = None,
    skew: int = 30,
) -> Inbound:
    """Return the principal and the delegation history of the token of an inbound request.

    Accepted are access tokens (RFC 9068, RFC 8693), Transaction Tokens and ID-JAGs.

    Args:
        token: The token, at most 64 KiB.
        jwks: The keys of the issuer, as for :meth:`Human.from_id_token`. ``None`` if someone before you checked the
            signature and you cannot: everything else is checked, and the principal stays ``asserted``.
        issuer: The required issuer. A Transaction Token may leave it out; the keys then tell.
        audience: The required audience: you, or for Transaction Tokens your trust domain.
        subject: ``Human`` or ``Service``: whom this entrance is for. Most tokens do not say what their subject is.
        now: Unix seconds; by default the present.
        authorized_party: The client that it must have been issued to.
        roles_claim: The claim with the roles, as for :meth:`Human.from_id_token`.
        skew: Seconds by which clocks may differ, at most 30.

    Raises:
        TokenError: The token is malformed, not signed by the issuer, for someone else, or not valid now; code
            ``not_a_human`` or ``not_a_service`` if its subject is the other kind, ``bad_history`` if its actors are no
            chain of at most 32 names.
        ConfigurationError: A file with keys cannot be read, or the package ``joserfc`` is missing.
        TypeError: A value has the wrong type.
        ValueError: A value is out of range.
    """
    if subject is not Human and subject is not Service:
        raise TypeError("subject is neither Human nor Service; give one of these classes")
    expected = Expected.at(
        now,
        issuer=issuer,
        audience=audience,
        skew=skew,
        authorized_party=authorized_party,
        roles_claim=roles_claim,
    )
    parts = read_token(token)
    if parts.typ not in _KINDS:
        raise TokenError("the token is not an access token, Transaction Token or ID-JAG", code="wrong_type")
    kind = _KINDS[parts.typ]
    claims = _claims(parts, jwks)
    expires = _check(parts, claims, expected, kind)
    name = require_text(claims, "sub")
    _check_subject(claims, kind, subject)
    roles, actors = roles_of(claims, expected), _actors(claims)
    return Inbound(
        principal_of_subject(subject, Subject(name, issuer, roles, via=actors, verified=jwks is not None)),
        actors,
        kind,
        parts.hash,
        require_text(claims, "txn") if "txn" in claims else None,
        expires,
    )


def _claims(parts: ForeignToken, jwks: KeysOfIssuer | None) -> dict[str, JSON]:
    if jwks is None:
        return read_object(parts.payload, "the claims of the token")
    return signed_claims(parts, jwks)


def _check(parts: ForeignToken, claims: Mapping[str, object], expected: Expected, kind: InboundKind) -> int:
    for name in _REQUIRED.get(parts.typ, ()):
        require_text(claims, name)
    if not _OF_OTHERS.isdisjoint(claims):
        raise TokenError("the token is an ID token or a security event; give the token of a request", code="wrong_type")
    if "iss" in claims or kind != "transaction_token":
        check_issuer(claims, expected.issuer)
    audiences = check_audience(claims, expected.audience)
    party = claims.get("req_wl" if kind == "transaction_token" else "client_id", claims.get("azp"))
    if party is None and len(audiences) > 1:
        raise TokenError("the token has several audiences but no claim azp", code="missing_claim")
    check_party(party, expected.authorized_party)
    return check_times(claims, now=expected.now, skew=expected.skew)


def _check_subject(claims: Mapping[str, object], kind: InboundKind, subject: type[Human] | type[Service]) -> None:
    if subject is Human:
        check_subject_is_human(claims)
    elif kind == "id_jag" or (kind == "access_token" and not names_a_client(claims)):
        # An ID-JAG speaks for a user by definition; a Transaction Token may speak for a workload.
        raise TokenError("the subject of the token is not a service", code="not_a_service")


def _actors(claims: Mapping[str, object]) -> tuple[str, ...]:
    actors: list[str] = []
    holder: Mapping[str, object] = claims
    while "act" in holder:
        actor = holder["act"]
        if not is_object(actor) or len(actors) == _MAX_ACTORS:
            raise _bad_history()
        holder = actor
        try:
            actors.append(check_id(holder.get("sub"), "each actor"))
        except (TypeError, ValueError):
            raise _bad_history() from None
    return tuple(actors)


def _bad_history() -> TokenError:
    return TokenError(f"the claim act is not a chain of at most {_MAX_ACTORS} actors", code="bad_history")
