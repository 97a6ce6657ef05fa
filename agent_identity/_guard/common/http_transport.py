"""HTTP requests to endpoints of an authorization server: bounded in time and size, without redirects."""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, final
from urllib.parse import urlsplit

from agent_identity._authority.tokens.exchange import MAX_ANSWER
from agent_identity._authority.tokens.jwt import check_url
from agent_identity._common.http_post import NoAnswerError, post, verifies
from agent_identity._common.typed_calls import typed_calls
from agent_identity.errors import ConfigurationError, ExchangeError


@final
@dataclass(frozen=True, slots=True)
class Reply:
    """An answer.

    Attributes:
        status: Status of the answer.
        headers: Its headers, names in lower case; the first of several.
        body: Its body, up to one byte more than the size limit.
    """

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)


class Transport(Protocol):
    """The HTTP transport to an authorization server: :class:`HttpTransport`, or a custom one, as behind a proxy."""

    def post(self, url: str, *, headers: Mapping[str, str], body: bytes, timeout: float) -> Reply:
        """Return the answer, whatever its status; follow no redirect, and read no more than the limit.

        Args:
            url: https, or http to this machine.
            headers: Names and values; they hold credentials.
            body: The form; it holds credentials.
            timeout: Maximum seconds in total.

        Raises:
            ExchangeError: With code ``exchange_unreachable``: no answer in time.
        """
        ...


@typed_calls("__init__")
@final
class HttpTransport:
    """The transport of the standard library: a connection for each request, TLS by the system's trust.

    It follows no redirect and uses no proxy. The timeout bounds even a slow answer; name lookup, and each unresponsive
    address, come on top.

    Args:
        context: TLS for private authorities or client certificates (RFC 8705); it must verify the server.

    Raises:
        ConfigurationError: The context does not verify the server.
    """

    __slots__ = ("_context",)

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        if context is not None and not verifies(context):
            raise ConfigurationError("the TLS context does not verify the server; use ssl.create_default_context()")
        self._context = context

    def post(self, url: str, *, headers: Mapping[str, str], body: bytes, timeout: float) -> Reply:
        """Return the answer; see :meth:`Transport.post`.

        Raises:
            ExchangeError: With code ``exchange_unreachable``.
            ValueError: The URL is neither https nor of this machine.
        """
        parts = urlsplit(check_url(url, "the endpoint"))
        context, limit = self._context, MAX_ANSWER + 1
        try:
            return Reply(*post(url, headers=headers, body=body, timeout=timeout, limit=limit, context=context))
        except NoAnswerError as error:
            problem = str(error)
        raise ExchangeError(
            f"no answer from {parts.scheme}://{parts.netloc}: {problem}; try again later",
            code="exchange_unreachable",
        )
