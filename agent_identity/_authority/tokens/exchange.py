"""Token exchange (RFC 8693) without the network: requests, permitted answers, and strict parsing.

The answer of a token endpoint is data from outside. It is bounded, has to be exactly what was asked for, and
nothing in it is quoted anywhere: an endpoint may echo credentials in its errors.
"""

from collections.abc import Mapping
from typing import Final, NoReturn

from agent_identity._authority.tokens.source import B64TOKEN, MAX_VALUE
from agent_identity.canonical import JSON, parse
from agent_identity.errors import ExchangeError

GRANT_TYPE_EXCHANGE: Final = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS_TOKEN: Final = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105  The name of a kind.
JWT: Final = "urn:ietf:params:oauth:token-type:jwt"

MAX_ANSWER: Final = 64 * 1024
"""Bytes that the answer of a token endpoint may have."""

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
    if type(value) is not str or len(value) > MAX_VALUE or not B64TOKEN.fullmatch(value):
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
    return ExchangeError(f"the endpoint returned no token, but status {status} and {said}; see its log", reason=reason)


def _object(body: bytes, content_type: str | None) -> Mapping[str, JSON]:
    if len(body) > MAX_ANSWER:
        raise ExchangeError(f"the answer has more than {MAX_ANSWER} bytes", code="exchange_malformed")
    if (content_type or "").partition(";")[0].strip().lower() != "application/json":
        raise ExchangeError("the answer is not of type application/json", code="exchange_malformed")
    try:
        value: JSON = parse(body)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise ExchangeError("the answer is not a JSON object", code="exchange_malformed")
    return value


def _malformed(member: str) -> NoReturn:
    raise ExchangeError(
        f"the token does not have the {member} that was asked for; look at the configuration of the endpoint",
        code="exchange_malformed",
    )
