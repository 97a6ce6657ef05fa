"""The interface of sources of tokens: a task's order of a token for another service, and the issued token."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final, Literal, NoReturn, Protocol, SupportsIndex, final
from urllib.parse import urlsplit

from agent_identity._authority.grants.grants import Chain, Grant
from agent_identity._common.typed_calls import typed_calls
from agent_identity._identity.common.clock import Clock
from agent_identity._identity.common.names import check_id
from agent_identity._identity.keys.jwt_keys import JwtAlgorithm, JwtSigner

MAX_VALUE: Final = 32 * 1024
"""Characters that a token may have."""

B64TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/-]+=*")
"""The form that an ``Authorization`` header can hold (RFC 6750 §2.1)."""

_MAX_SCOPES: Final = 64
_SCOPE: Final = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]{1,256}")


@final
@dataclass(frozen=True, slots=True)
class TokenOrder:
    """A task's order to a :class:`TokenSource`.

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
    """A token issued by a :class:`TokenSource`. It never shows the value and cannot be pickled.

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
        if len(value) > MAX_VALUE or not B64TOKEN.fullmatch(value):
            raise ValueError(
                f"the token is not 1 to {MAX_VALUE} characters A-Z a-z 0-9 . _ ~ + / - with = at the end only"
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
    """A source of the tokens of tasks: ``TokenExchange``, ``LocalTokens``, or one of your own."""

    def issue(self, order: TokenOrder, /) -> IssuedToken:
        """Return a token for the order. Called from several threads, at most once at a time for each order.

        Raises:
            ExchangeError: No token can be issued.
        """
        ...


def check_order(audience: object, resource: object) -> None:
    """Check the terms of an order.

    Raises:
        TypeError: One of them is no ``str``.
        ValueError: The audience breaks the rules of ids, or the resource is no absolute URI without a fragment
            (RFC 8707 §2).
    """
    check_id(audience, "audience")
    if resource is None:
        return
    text = check_id(resource, "resource")
    try:
        parts = urlsplit(text)
    except ValueError:
        parts = urlsplit("")
    if not parts.scheme or "#" in text or not (parts.netloc or parts.path):
        raise ValueError("resource is not an absolute URI without a fragment (RFC 8707)")


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
            raise TypeError(f"a name of the scope is {type(name).__name__}; give a str")
        if not _SCOPE.fullmatch(name):
            raise ValueError("a name of the scope is not 1 to 256 visible ASCII characters without quotes")
    if len(names) > _MAX_SCOPES:
        raise ValueError(f"the scope has {len(names)} names; give at most {_MAX_SCOPES}")
    return tuple(sorted(set(names)))
