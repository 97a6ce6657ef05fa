"""Token exchange (RFC 8693) without the network: what is asked, what may be answered, and how strictly it is read.

The answer of a token endpoint is data from outside. It is bounded, has to be exactly what was asked for, and
nothing in it is quoted anywhere: an endpoint may echo credentials in its errors.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, NoReturn, Protocol, SupportsIndex, cast, final
from urllib.parse import urlsplit

from agent_identity.authority.grants import Chain, Grant
from agent_identity.errors import ExchangeError
from agent_identity.identity import Clock, JwtAlgorithm, JwtSigner, check_id
from agent_identity.typed import typed_calls

__all__ = [
    "ACCESS_TOKEN",
    "GRANT_TYPE_EXCHANGE",
    "JWT",
    "MAX_ANSWER",
    "IssuedToken",
    "TokenOrder",
    "TokenSource",
    "check_order",
    "check_scope",
    "read_answer",
    "read_refusal",
]

GRANT_TYPE_EXCHANGE: Final = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS_TOKEN: Final = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105  The name of a kind.
JWT: Final = "urn:ietf:params:oauth:token-type:jwt"

MAX_ANSWER: Final = 64 * 1024
"""Bytes that the answer of a token endpoint may have."""

_MAX_VALUE: Final = 32 * 1024
_MAX_SCOPES: Final = 64
_B64TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/-]+=*")
_SCOPE: Final = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]{1,256}")
_REASONS: Final = frozenset(
    {
        "access_denied",
        "invalid_client",
        "invalid_dpop_proof",
        "invalid_grant",
        "invalid_request",
        "invalid_scope",
        "invalid_target",
        "server_error",
        "temporarily_unavailable",
        "unauthorized_client",
        "unsupported_grant_type",
        "unsupported_token_type",
        "use_dpop_nonce",
    }
)


@final
@dataclass(frozen=True, slots=True)
class TokenOrder:
    """What a task asks a :class:`TokenSource` for.

    Attributes:
        chain: The verified grants from the root to the task's own.
        audience: The service that the token is for.
        resource: The service as a URI (RFC 8707), if given.
        scope: Names of the requested scope, sorted; empty for the server's default.
        now: Unix seconds when it was made; lifetimes count from here.
        clock: Source of time for what is done later.
        new_id: Returns an id that was used for nothing else.
        proof_key: Returns the key of this task for an algorithm; always the same one.
    """

    chain: Chain
    audience: str
    resource: str | None
    scope: tuple[str, ...]
    now: int
    clock: Clock = field(repr=False)
    new_id: Callable[[], str] = field(repr=False)
    proof_key: Callable[[JwtAlgorithm], JwtSigner] = field(repr=False)

    @property
    def grant(self) -> Grant:
        """The task's own grant; the token must not outlive it."""
        return self.chain.leaf


@typed_calls("__init__")
@final
class IssuedToken:
    """What a :class:`TokenSource` returns. It shows nothing of the value and cannot be pickled.

    Args:
        value: The token, in the form that an ``Authorization`` header can hold (RFC 6750 §2.1).
        expires_at: Unix seconds.
        key: The key that it is bound to by DPoP; ``None`` for a bearer token.
        revoke: Revokes it; called with the seconds that this may take, once, when the task has ended.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: The value has another form.
    """

    __slots__ = ("expires_at", "key", "revoke", "value")

    def __init__(
        self,
        value: str,
        *,
        expires_at: int,
        key: JwtSigner | None = None,
        revoke: Callable[[float], None] | None = None,
    ) -> None:
        if len(value) > _MAX_VALUE or not _B64TOKEN.fullmatch(value):
            raise ValueError(
                f"expected a token of 1 to {_MAX_VALUE} characters A-Z a-z 0-9 . _ ~ + / - and = at the end"
            )
        self.value = value
        self.expires_at = expires_at
        self.key = key
        self.revoke = revoke

    def __repr__(self) -> str:
        return f"IssuedToken({self.token_type}, expires_at={self.expires_at})"

    def __reduce_ex__(self, protocol: SupportsIndex, /) -> NoReturn:
        raise TypeError("a token is neither copied nor pickled; ask for one where it is needed")

    @property
    def token_type(self) -> Literal["Bearer", "DPoP"]:
        """The scheme of the ``Authorization`` header."""
        return "Bearer" if self.key is None else "DPoP"


class TokenSource(Protocol):
    """Where the tokens of tasks come from: ``TokenExchange``, ``LocalTokens``, or one of your own."""

    def issue(self, order: TokenOrder, /) -> IssuedToken:
        """Return a token for the order. Called from several threads, at most once at a time for each order.

        Raises:
            ExchangeError: There is none.
        """
        ...


def check_order(audience: object, resource: object) -> None:
    """Check what a token is asked for.

    Raises:
        TypeError: One of them is no ``str``.
        ValueError: The audience breaks the rules of ids, or the resource is no absolute URI without a fragment
            (RFC 8707 §2).
    """
    check_id(cast("str", audience), "audience")
    if resource is None:
        return
    text = check_id(cast("str", resource), "resource")
    try:
        parts = urlsplit(text)
    except ValueError:
        parts = urlsplit("")
    if not parts.scheme or "#" in text or not (parts.netloc or parts.path):
        raise ValueError("expected resource as an absolute URI without a fragment (RFC 8707), got another form")


def check_scope(scope: str | Iterable[str] | None) -> tuple[str, ...]:
    """Return the names of a scope (RFC 6749 §3.3), sorted and each once.

    Args:
        scope: Names, or a text with spaces between them.

    Raises:
        TypeError: A name is no ``str``.
        ValueError: A name has characters that no scope may have, or there are more than 64.
    """
    names = scope.split(" ") if isinstance(scope, str) else list(scope or ())
    for name in names:
        if type(name) is not str:
            raise TypeError(f"expected the names of a scope as str, got {type(name).__name__}")
        if not _SCOPE.fullmatch(name):
            raise ValueError("expected each name of a scope with 1 to 256 visible ASCII characters, no quotes in it")
    if len(names) > _MAX_SCOPES:
        raise ValueError(f"expected at most {_MAX_SCOPES} names in a scope, got {len(names)}")
    return tuple(sorted(set(names)))


def read_answer(
    body: bytes, *, content_type: str | None, requested_type: str, scope: tuple[str, ...], bound: bool, longest: int
) -> tuple[str, int]:
    """Return the token and its lifetime in seconds from a successful answer (RFC 8693 §2.2.1).

    1. JSON of media type ``application/json``, at most 64 KiB, an object without members named twice.
    2. ``access_token`` fits an ``Authorization`` header.
    3. ``issued_token_type`` is the requested one.
    4. ``token_type`` is ``DPoP`` if a proof went along, otherwise ``Bearer`` (in any case of letters).
    5. ``expires_in`` is a whole number from 1 to the longest lifetime that is acceptable.
    6. ``scope``, if there, holds no more than what was asked for, if anything was.

    Args:
        body: The body of the answer.
        content_type: Its header ``Content-Type``.
        requested_type: The ``requested_token_type``.
        scope: The requested scope.
        bound: Whether the token has to be bound to a key.
        longest: Seconds that a token may live.

    Raises:
        ExchangeError: With code ``exchange_malformed``.
    """
    answer = _object(body, content_type)
    value = answer.get("access_token")
    if type(value) is not str or len(value) > _MAX_VALUE or not _B64TOKEN.fullmatch(value):
        _malformed("access_token")
    if answer.get("issued_token_type") != requested_type:
        _malformed("issued_token_type")
    kind = answer.get("token_type")
    if type(kind) is not str or kind.lower() != ("dpop" if bound else "bearer"):
        _malformed("token_type")
    lifetime = answer.get("expires_in")
    if type(lifetime) is not int or not 1 <= lifetime <= longest:
        _malformed("expires_in")
    if scope and "scope" in answer:
        granted = answer["scope"]
        if type(granted) is not str or not set(granted.split()) <= set(scope):
            _malformed("scope")
    return value, lifetime


def read_refusal(status: int, body: bytes, *, content_type: str | None) -> ExchangeError:
    """Return the error for an answer that is no success (RFC 6749 §5.2).

    Only codes that the standards know are told on; descriptions are not, they may quote the request.

    Args:
        status: Status of the answer.
        body: The body of the answer.
        content_type: Its header ``Content-Type``.
    """
    reason: str | None = None
    try:
        code = _object(body, content_type).get("error")
    except ExchangeError:
        code = None
    if type(code) is str and code in _REASONS:
        reason = code
    said = reason or "no error code of OAuth"
    return ExchangeError(
        f"expected a token, got status {status} and {said} from the endpoint; see its log", reason=reason
    )


def _object(body: bytes, content_type: str | None) -> Mapping[str, object]:
    if len(body) > MAX_ANSWER:
        raise ExchangeError(f"expected an answer of at most {MAX_ANSWER} bytes, got more", code="exchange_malformed")
    if (content_type or "").partition(";")[0].strip().lower() != "application/json":
        raise ExchangeError("expected an answer of type application/json, got another", code="exchange_malformed")
    try:
        value: object = json.loads(body.decode("utf-8"), object_pairs_hook=_members, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise ExchangeError("expected a JSON object as answer, got something else", code="exchange_malformed")
    return cast("dict[str, object]", value)


def _members(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member stands there twice")
    return members


def _no_constant(_: str) -> NoReturn:
    raise ValueError("NaN and infinities are no JSON")


def _malformed(member: str) -> NoReturn:
    raise ExchangeError(
        f"expected a token of the kind, scope and lifetime that was asked for, got another {member}; "
        "look at the configuration of the endpoint",
        code="exchange_malformed",
    )
