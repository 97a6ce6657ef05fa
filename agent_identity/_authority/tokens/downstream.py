"""A token for another service, held by the program and bound to the life of its task."""

from collections.abc import Callable
from typing import Literal, NoReturn, SupportsIndex, final

from agent_identity._authority.tokens.jwt import check_method, check_nonce, check_url, dpop_proof
from agent_identity._authority.tokens.source import IssuedToken


@final
class DownstreamToken:
    """A short-lived token for the requests of one task to one service.

    Received from :meth:`Task.token`; never built by users. It dies with its task, and when what the task acts under is
    revoked: from then on its value and its headers are refused. It shows nothing of the value, and is neither copied,
    pickled nor serialised.

    Attributes:
        token_type: ``"Bearer"``, or ``"DPoP"`` if each request needs a proof.
        expires_at: When it expires at the latest, in Unix seconds; never later than the task's grant.
        audience: The service that it is for.
    """

    __slots__ = ("_check", "_issued", "_new_id", "_now", "audience", "expires_at", "token_type")

    audience: str
    expires_at: int
    token_type: Literal["Bearer", "DPoP"]
    _check: Callable[[], None]
    _issued: IssuedToken
    _new_id: Callable[[], str]
    _now: Callable[[], int]

    def __init__(
        self,
        issued: IssuedToken,
        audience: str,
        *,
        latest: int,
        check: Callable[[], None],
        now: Callable[[], int],
        new_id: Callable[[], str],
    ) -> None:
        put = object.__setattr__
        put(self, "_issued", issued)
        put(self, "_check", check)
        put(self, "_now", now)
        put(self, "_new_id", new_id)
        put(self, "audience", audience)
        put(self, "token_type", issued.token_type)
        put(self, "expires_at", min(issued.expires_at, latest))

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError("a token cannot be changed")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError("a token cannot be changed")

    def __repr__(self) -> str:
        return f"DownstreamToken({self.token_type}, audience={self.audience!r}, expires_at={self.expires_at})"

    def __reduce_ex__(self, protocol: SupportsIndex, /) -> NoReturn:
        raise TypeError("a token is neither copied nor pickled; call task.token(...) where it is needed")

    @property
    def value(self) -> str:
        """The token itself. It belongs into an ``Authorization`` header and nowhere else.

        Raises:
            Denied: The task has ended, or its grant has expired or is revoked.
        """
        self._check()
        return self._issued.value

    def headers(self, method: str, url: str, *, nonce: str | None = None) -> dict[str, str]:
        """Return the headers of one request that carry the token.

        A DPoP proof is for one request only: ask again for each, and once more with the nonce if the service
        answers 401 with ``use_dpop_nonce`` and a header ``DPoP-Nonce`` (RFC 9449 §9).

        Args:
            method: Method of the request, in upper case.
            url: URL of the request; https, or http to this machine.
            nonce: The service's latest nonce, if any.

        Raises:
            Denied: The task has ended, or its grant has expired or is revoked.
            TypeError: The URL is no ``str``.
            ValueError: Method, URL or nonce is malformed.
        """
        check_url(url.partition("#")[0] if type(url) is str else url, "the URL of a request")
        check_method(method)
        if nonce is not None:
            check_nonce(nonce)
        # All checks have passed by now: no frame of a traceback holds the value.
        value, key = self.value, self._issued.key
        if key is None:
            return {"Authorization": f"Bearer {value}"}
        proof = dpop_proof(key, method=method, url=url, now=self._now(), id=self._new_id(), token=value, nonce=nonce)
        return {"Authorization": f"DPoP {value}", "DPoP": proof}
