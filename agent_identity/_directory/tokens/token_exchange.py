"""Token exchange with an authorization server, for the token of the principal (RFC 8693)."""

import base64
import threading
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Final, Literal, NoReturn, SupportsIndex, final
from urllib.parse import quote_plus, urlencode

from agent_identity._authority.grants.grants import Grant
from agent_identity._authority.tokens.exchange import ACCESS_TOKEN, GRANT_TYPE_EXCHANGE, JWT, read_answer, read_refusal
from agent_identity._authority.tokens.jwt import check_nonce, check_url, client_claims, dpop_proof, sign_jwt
from agent_identity._authority.tokens.source import IssuedToken, TokenOrder
from agent_identity._common.typed_calls import typed_calls
from agent_identity._directory.tokens.local_tokens import LocalTokens, dpop_algorithm
from agent_identity._guard.common.http_transport import HttpTransport, Reply, Transport
from agent_identity._identity.common.names import check_id
from agent_identity._identity.keys.jwt_keys import JwtAlgorithm, JwtSigner, as_jwt_signer, jwk_thumbprint
from agent_identity._identity.keys.keys import Signer
from agent_identity.errors import ConfigurationError, ExchangeError

_ASSERTION: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_ASSERTION_TTL: Final = 60
_MAX_SUBJECT: Final = 64 * 1024
_OK: Final = 200

_Form = list[tuple[str, str]]


@final
class _Client:
    """Our client id at the authorization server, with its proof."""

    __slots__ = ("_audience", "_key", "_key_id", "_secret", "id")

    def __init__(
        self, client_id: str, secret: str | None, key: Signer | JwtSigner | None, key_id: str | None, audience: str
    ) -> None:
        if secret is not None and key is not None:
            raise ConfigurationError("client_secret and private_key are both set; leave one out")
        self.id = check_id(client_id, "client_id")
        self._secret = secret
        self._key = None if key is None else as_jwt_signer(key)
        self._key_id = key_id
        self._audience = audience

    def prove(self, headers: dict[str, str], order: TokenOrder) -> _Form:
        """Return the form fields that identify and authenticate the client, or set the header that does."""
        if self._secret is not None:
            # Both are form-encoded first (RFC 6749 §2.3.1), so a colon in them means nothing.
            pair = f"{quote_plus(self.id)}:{quote_plus(self._secret)}"
            headers["Authorization"] = f"Basic {base64.b64encode(pair.encode('ascii')).decode('ascii')}"
            return []
        if self._key is None:
            return [("client_id", self.id)]
        claims = client_claims(self.id, audience=self._audience, now=_now(order), ttl=_ASSERTION_TTL, id=order.new_id())
        assertion = sign_jwt("JWT", claims, self._key, header={"kid": self._key_id or jwk_thumbprint(self._key)})
        return [("client_id", self.id), ("client_assertion_type", _ASSERTION), ("client_assertion", assertion)]


@typed_calls("__init__")
@final
class TokenExchange:
    """Exchanges the token of the principal for one for another service, at a token endpoint (RFC 8693).

    The subject is the principal, the actor is the agent with those before it. Requests use TLS only (http to this
    machine excepted), follow no redirect, and are bounded in time and size. Error texts of the endpoint are never
    quoted.

    Args:
        endpoint: URL of the token endpoint.
        client_id: Our client id.
        subject_token: Returns the application's token for the principal of a grant, on demand.
        client_secret: Authenticates by HTTP Basic (RFC 6749 §2.3.1).
        private_key: Authenticates by a signed assertion (``private_key_jwt``, RFC 7523) instead.
        key_id: The key id at the server; by default its thumbprint.
        assertion_audience: Audience of the assertion; by default the endpoint.
        subject_token_type: The type of the subject token.
        requested_token_type: The type of the requested token.
        actor: ``"grant"`` sends the task's own grant as the actor token; :class:`LocalTokens` signs one that any
            JWT library reads; ``None`` leaves it to ``client_id``.
        dpop: Binds tokens to a key of the task (RFC 9449): ``True`` or ``"EdDSA"`` for Ed25519, ``"ES256"`` for
            P-256.
        revocation_endpoint: The endpoint that revokes tokens at the end of their task (RFC 7009).
        timeout: Maximum seconds of one request.
        longest: The longest acceptable lifetime of a token.
        transport: The HTTP transport.

    Raises:
        ConfigurationError: The parts do not fit together.
        TypeError: A name or URL is no ``str``.
        ValueError: A URL is neither https nor of this machine, or a number is out of range.
    """

    def __init__(
        self,
        endpoint: str,
        client_id: str,
        *,
        subject_token: Callable[[Grant], str],
        client_secret: str | None = None,
        private_key: Signer | JwtSigner | None = None,
        key_id: str | None = None,
        assertion_audience: str | None = None,
        subject_token_type: str = ACCESS_TOKEN,
        requested_token_type: str = ACCESS_TOKEN,
        actor: LocalTokens | Literal["grant"] | None = "grant",
        dpop: bool | JwtAlgorithm = False,
        revocation_endpoint: str | None = None,
        timeout: float = 10.0,
        longest: timedelta = timedelta(hours=2),
        transport: Transport | None = None,
    ) -> None:
        _check_parts(subject_token, actor, timeout, longest)
        self.endpoint = check_url(endpoint, "the token endpoint")
        self._client = _Client(client_id, client_secret, private_key, key_id, assertion_audience or endpoint)
        self._subject = subject_token
        self._subject_type = check_id(subject_token_type, "subject_token_type")
        self._requested_type = check_id(requested_token_type, "requested_token_type")
        self._actor: LocalTokens | Literal["grant"] | None = actor
        self._dpop: JwtAlgorithm | None = dpop_algorithm(dpop=dpop)
        self._revocation = revocation_endpoint and check_url(revocation_endpoint, "the revocation endpoint")
        self._timeout = timeout
        self._longest = int(longest.total_seconds())
        self._transport: Transport = transport or HttpTransport()
        self._lock = threading.Lock()
        self._nonce: str | None = None

    def __repr__(self) -> str:
        return f"TokenExchange({self.endpoint!r}, client_id={self._client.id!r})"

    def __reduce_ex__(self, protocol: SupportsIndex, /) -> NoReturn:
        raise TypeError("a token exchange is neither copied nor pickled, because it holds credentials; make another")

    def issue(self, order: TokenOrder, /) -> IssuedToken:
        """Return a token from the endpoint.

        Args:
            order: The requested token.

        Raises:
            ExchangeError: With code ``exchange_unreachable``, ``exchange_refused``, ``exchange_malformed`` or
                ``exchange_failed`` (the application has no token of the principal).
        """
        form = self._form(order)
        key = None if self._dpop is None else order.proof_key(self._dpop)
        reply = self._ask(form, order, key)
        value, lifetime = read_answer(
            reply.body,
            content_type=reply.headers.get("content-type"),
            requested_type=self._requested_type,
            scope=order.scope,
            bound=key is not None,
            longest=self._longest,
        )
        revoke = None
        if self._revocation:
            revoke = _Revocation(self, self._revocation, value, order)
        return IssuedToken(value, expires_at=order.now + lifetime, key=key, revoke=revoke)

    def _form(self, order: TokenOrder) -> _Form:
        """Return the request without client authentication (RFC 8693 §2.1)."""
        subject = self._subject(order.grant)
        if type(subject) is not str or not 1 <= len(subject) <= _MAX_SUBJECT:
            raise ExchangeError(
                "the function subject_token returned no token of the principal as a str; "
                "keep it where the function finds it",
                code="exchange_failed",
            )
        form = [
            ("grant_type", GRANT_TYPE_EXCHANGE),
            ("subject_token", subject),
            ("subject_token_type", self._subject_type),
            ("requested_token_type", self._requested_type),
            ("audience", order.audience),
        ]
        if order.resource is not None:
            form.append(("resource", order.resource))
        if order.scope:
            form.append(("scope", " ".join(order.scope)))
        if isinstance(self._actor, LocalTokens):
            form += [("actor_token", self._actor.actor_token(order, self.endpoint)), ("actor_token_type", JWT)]
        elif self._actor is not None:
            form += [("actor_token", order.grant.token), ("actor_token_type", JWT)]
        return form

    def _ask(self, form: _Form, order: TokenOrder, key: JwtSigner | None) -> Reply:
        """Return the successful answer; retry once if the server wants its nonce in the proof (RFC 9449 §8)."""
        reply = self._post(self.endpoint, form, order, key)
        if reply.status == _OK:
            return reply
        error = _refusal(reply)
        if key is not None and error.reason == "use_dpop_nonce" and "dpop-nonce" in reply.headers:
            reply = self._post(self.endpoint, form, order, key)
            if reply.status == _OK:
                return reply
            error = _refusal(reply)
        raise error

    def _post(self, url: str, form: _Form, order: TokenOrder, key: JwtSigner | None, timeout: float = 0) -> Reply:
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
        fields = [*form, *self._client.prove(headers, order)]
        if key is not None:
            with self._lock:
                nonce = self._nonce
            proof_id, now = order.new_id(), _now(order)
            headers["DPoP"] = dpop_proof(key, method="POST", url=url, now=now, id=proof_id, nonce=nonce)
        body = urlencode(fields).encode("ascii")
        reply = self._transport.post(url, headers=headers, body=body, timeout=timeout or self._timeout)
        if key is not None:
            self._remember(reply.headers)
        return reply

    def _remember(self, headers: Mapping[str, str]) -> None:
        """Keep the server's latest nonce for the next proof (RFC 9449 §8.2)."""
        nonce = headers.get("dpop-nonce")
        if nonce is None:
            return
        try:
            check_nonce(nonce)
        except ValueError:
            return
        with self._lock:
            self._nonce = nonce

    def revoke(self, url: str, value: str, order: TokenOrder, timeout: float) -> None:
        """Revoke a token (RFC 7009 §2.1); best effort.

        Args:
            url: The revocation endpoint.
            value: The token.
            order: Source of time and ids for the client authentication.
            timeout: Maximum seconds.

        Raises:
            ExchangeError: The endpoint was unreachable or did not succeed.
        """
        form = [("token", value), ("token_type_hint", "access_token")]
        reply = self._post(url, form, order, None, min(timeout, self._timeout))
        if reply.status != _OK:
            raise _refusal(reply)


@final
class _Revocation:
    """Revokes one token; a class of its own, so that the value is in no repr and no closure."""

    __slots__ = ("_exchange", "_order", "_url", "_value")

    def __init__(self, exchange: TokenExchange, url: str, value: str, order: TokenOrder) -> None:
        self._exchange = exchange
        self._url = url
        self._value = value
        self._order = order

    def __call__(self, timeout: float) -> None:
        self._exchange.revoke(self._url, self._value, self._order, timeout)


def _check_parts(subject_token: object, actor: object, timeout: float, longest: timedelta) -> None:
    if not callable(subject_token):
        raise TypeError("subject_token is no function; give one of the grant that returns the principal's token")
    if actor not in (None, "grant") and not isinstance(actor, LocalTokens):
        raise TypeError("actor is unknown; use 'grant', LocalTokens(...) or None")
    if not 0 < timeout <= 60:
        raise ValueError("timeout is out of range; use more than 0 and up to 60 seconds")
    if not timedelta(seconds=1) <= longest <= timedelta(days=1):
        raise ValueError("longest is out of range; use 1 second to 1 day")


def _now(order: TokenOrder) -> int:
    return order.clock.wall_ns() // 1_000_000_000


def _refusal(reply: Reply) -> ExchangeError:
    if 300 <= reply.status < 400:
        return ExchangeError(
            f"the endpoint redirects (status {reply.status}), which is not followed; name the endpoint "
            "that it leads to, if you trust that one",
            code="exchange_malformed",
        )
    return read_refusal(reply.status, reply.body, content_type=reply.headers.get("content-type"))
