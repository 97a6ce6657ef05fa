"""Self-signed access tokens, for services that trust our issuer."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Final, final

from agent_identity._authority.tokens.jwt import ACCESS_TOKEN_TYPE, access_claims, actor_claims, sign_jwt
from agent_identity._authority.tokens.source import IssuedToken, TokenOrder
from agent_identity._common.typed_calls import typed_calls
from agent_identity._identity.common.names import check_id
from agent_identity._identity.keys.jwt_keys import JwtAlgorithm, JwtSigner, as_jwt_signer, jwk_thumbprint
from agent_identity._identity.keys.keys import Signer

_ACTOR_TTL: Final = 60


def dpop_algorithm(*, dpop: bool | JwtAlgorithm) -> JwtAlgorithm | None:
    """Return the algorithm of proofs, or ``None`` without them.

    Raises:
        ValueError: The algorithm is unknown.
    """
    if dpop not in (True, False, "EdDSA", "ES256"):
        raise ValueError("dpop is unknown; use True, False, 'EdDSA' or 'ES256'")
    if isinstance(dpop, str):
        return dpop
    return "EdDSA" if dpop else None


@typed_calls("__init__")
@final
class LocalTokens:
    """Issues access tokens as in RFC 9068, signed by our issuer.

    ``sub`` is the principal, ``client_id`` and the outermost ``act`` are the agent, ``authorization_details`` is the
    scope of its grant. A token never outlives the grant, and nothing can revoke it: use a short lifetime.

    Args:
        signer: The issuer's key.
        issuer: The issuer's URI.
        ttl: The lifetime of a token, from 1 second to 1 day.
        dpop: Binds tokens to a key of the task (RFC 9449), as in :class:`TokenExchange`.

    Raises:
        TypeError: The issuer is no ``str``.
        ValueError: The issuer has not 1 to 256 visible characters, or the ttl is out of range.
    """

    __slots__ = ("_dpop", "_kid", "_signer", "_ttl", "issuer")

    def __init__(
        self,
        signer: Signer | JwtSigner,
        issuer: str,
        *,
        ttl: timedelta = timedelta(minutes=5),
        dpop: bool | JwtAlgorithm = False,
    ) -> None:
        if not timedelta(seconds=1) <= ttl <= timedelta(days=1):
            raise ValueError("ttl is out of range; use 1 second to 1 day")
        self._signer = as_jwt_signer(signer)
        self._kid = jwk_thumbprint(self._signer)
        self._ttl = int(ttl.total_seconds())
        self._dpop: JwtAlgorithm | None = dpop_algorithm(dpop=dpop)
        self.issuer = check_id(issuer, "issuer")

    def __repr__(self) -> str:
        return f"LocalTokens(issuer={self.issuer!r}, kid={self._kid!r})"

    def jwks(self) -> dict[str, list[Mapping[str, str]]]:
        """Return the public key as a JWK set (RFC 7517 §5), for the services that should trust it."""
        jwk = {**self._signer.to_jwk(), "alg": self._signer.algorithm, "kid": self._kid, "use": "sig"}
        return {"keys": [jwk]}

    def issue(self, order: TokenOrder, /) -> IssuedToken:
        """Return a signed token.

        Args:
            order: The requested token.

        Raises:
            ValueError: The scope is too large for a token.
        """
        key = None if self._dpop is None else order.proof_key(self._dpop)
        claims = access_claims(
            order.chain,
            issuer=self.issuer,
            audience=order.audience,
            resource=order.resource,
            scope=order.scope,
            now=order.now,
            ttl=self._ttl,
            id=order.new_id(),
            key=key,
        )
        token = sign_jwt(ACCESS_TOKEN_TYPE, claims, self._signer, header={"kid": self._kid})
        return IssuedToken(token, expires_at=min(order.now + self._ttl, order.grant.expires_at), key=key)

    def actor_token(self, order: TokenOrder, audience: str) -> str:
        """Return a signed token that names the current agent and those before it, for one exchange.

        Args:
            order: The exchange.
            audience: The token endpoint.
        """
        claims = actor_claims(
            order.chain, issuer=self.issuer, audience=audience, now=order.now, ttl=_ACTOR_TTL, id=order.new_id()
        )
        return sign_jwt("JWT", claims, self._signer, header={"kid": self._kid})
