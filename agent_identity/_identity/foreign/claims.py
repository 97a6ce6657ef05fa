"""Checks that every foreign token must pass before its claims count: signature, issuer, audience, time."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, final

from agent_identity._common.narrowing import is_list
from agent_identity._identity.common.clock import SystemClock
from agent_identity._identity.common.names import check_id
from agent_identity._identity.foreign.jwks import KeysOfIssuer, key_source
from agent_identity._identity.foreign.jwt import ForeignToken, read_object
from agent_identity.canonical import JSON
from agent_identity.errors import TokenError

MAX_SKEW: Final = 30
"""Seconds by which the clocks of an issuer and of this machine may differ, at most."""

_MAX_TIME: Final = (1 << 53) - 1
_MAX_AUDIENCES: Final = 64
_SIGNING: Final = frozenset({"sig", None})


def signed_claims(
    token: ForeignToken, jwks: KeysOfIssuer, *, uses: frozenset[str | None] = _SIGNING
) -> dict[str, JSON]:
    """Return the claims of the token; they are parsed only after its signature has been verified.

    Raises:
        TokenError: With code ``unknown_key``, ``algorithm_not_allowed``, ``weak_key``, ``bad_key``,
            ``bad_signature``, ``bad_key_set``, ``keys_unavailable`` or ``malformed_token``.
        ConfigurationError: A file with keys cannot be read, or the package ``joserfc`` is missing.
    """
    key_source(jwks).keys_for(token.kid).find(token, uses=uses).verify(token)
    return read_object(token.payload, "the claims of the token")


def current_time(now: int | None) -> int:
    """Return the given Unix seconds, or those of the system clock.

    Raises:
        TypeError: It is no ``int``.
        ValueError: It is out of range.
    """
    if now is None:
        return SystemClock().wall_ns() // 1_000_000_000
    return check_expectation(now, "now", _MAX_TIME)


def check_expectation(value: int, what: str, most: int) -> int:
    """Return a number of seconds set by the caller, after checking it.

    Raises:
        TypeError: It is no ``int``.
        ValueError: It is negative or greater than ``most``.
    """
    if type(value) is not int:
        raise TypeError(f"{what} is {type(value).__name__}; give whole seconds (int)")
    if not 0 <= value <= most:
        raise ValueError(f"{what} is not from 0 to {most} seconds")
    return value


def require_text(claims: Mapping[str, object], name: str) -> str:
    """Return a required claim that must be text.

    Raises:
        TokenError: With code ``missing_claim`` or ``bad_claim``.
    """
    if name not in claims:
        raise TokenError(f"the claim {name} is missing", code="missing_claim")
    value = claims[name]
    if not isinstance(value, str) or not value:
        raise TokenError(f"the claim {name} is not text", code="bad_claim")
    return value


def seconds_of(claims: Mapping[str, object], name: str) -> float:
    """Return a required claim that must be a time (NumericDate, RFC 7519 §2).

    Raises:
        TokenError: With code ``missing_claim`` or ``bad_claim``.
    """
    if name not in claims:
        raise TokenError(f"the claim {name} is missing", code="missing_claim")
    value = claims[name]
    if (type(value) is not int and type(value) is not float) or not 0 <= value <= _MAX_TIME:
        raise TokenError(f"the claim {name} is not seconds since 1970", code="bad_claim")
    return value


def check_times(claims: Mapping[str, object], *, now: int, skew: int, issued: bool = True) -> int:
    """Return the expiry of the token (Unix seconds), if it counts now.

    Args:
        claims: The claims.
        now: Unix seconds.
        skew: Seconds by which the issuer's clock may be wrong.
        issued: The claim ``iat`` has to be there.

    Raises:
        TokenError: With code ``expired``, ``not_yet_valid``, ``missing_claim`` or ``bad_claim``.
    """
    expires = seconds_of(claims, "exp")
    if now >= expires + skew:
        raise TokenError("the token has expired; get a new one from the issuer", code="expired")
    for name in ("iat", "nbf"):
        if (name in claims or (name == "iat" and issued)) and seconds_of(claims, name) > now + skew:
            raise TokenError(f"{name} of the token is in the future; compare the clocks", code="not_yet_valid")
    if "iat" in claims and seconds_of(claims, "iat") > expires:
        raise TokenError("the token expires before it was issued", code="bad_claim")
    return int(expires)


def check_issuer(claims: Mapping[str, object], issuer: str) -> None:
    """Check that the claim ``iss`` is exactly the issuer (OpenID Connect Core §3.1.3.7).

    Raises:
        TokenError: With code ``wrong_issuer``, ``missing_claim`` or ``bad_claim``.
    """
    if require_text(claims, "iss") != issuer:
        raise TokenError("the token is another issuer's than the configured one", code="wrong_issuer")


def audiences_of(claims: Mapping[str, object]) -> tuple[str, ...]:
    """Return the audiences of the token (RFC 7519 §4.1.3).

    Raises:
        TokenError: With code ``missing_claim`` or ``bad_claim``.
    """
    if "aud" not in claims:
        raise TokenError("the claim aud is missing", code="missing_claim")
    audiences = texts_of(claims["aud"])
    if not audiences or len(audiences) > _MAX_AUDIENCES:
        raise TokenError("the claim aud is neither text nor an array of texts", code="bad_claim")
    return audiences


def texts_of(value: object) -> tuple[str, ...] | None:
    """Return the texts of a text or an array of texts, ``None`` for any other value."""
    items = value if is_list(value) else [value]
    texts = tuple(text for text in items if isinstance(text, str))
    return texts if len(texts) == len(items) else None


def check_audience(claims: Mapping[str, object], audience: str) -> tuple[str, ...]:
    """Return the audiences of the token, which must include the configured one.

    Raises:
        TokenError: With code ``wrong_audience``, ``missing_claim`` or ``bad_claim``.
    """
    audiences = audiences_of(claims)
    if audience not in audiences:
        raise TokenError("the token is for another audience; get one for this audience", code="wrong_audience")
    return audiences


@final
@dataclass(frozen=True, slots=True)
class Subject:
    """The subject of a foreign token.

    Args:
        id: The claim ``sub``.
        issuer: The issuer that vouches for it.
        roles: The roles that the token states.
        via: The actors of the token, the current one first (RFC 8693 §4.1).
        verified: The signature of the token was checked.

    Raises:
        TokenError: With code ``bad_principal`` if a name breaks the rules of identifiers.
    """

    id: str
    issuer: str
    roles: tuple[str, ...] = ()
    via: tuple[str, ...] = field(default=(), kw_only=True)
    verified: bool = field(default=True, kw_only=True)

    def __post_init__(self) -> None:
        try:
            check_id(self.id, "id")
            check_id(self.issuer, "issuer")
            for role in self.roles:
                check_id(role, "each role")
        except (TypeError, ValueError) as error:
            raise TokenError(f"bad principal: {error}", code="bad_principal") from None
