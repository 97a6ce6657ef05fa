"""HTTP requests to endpoints of an authorization server: bounded in time and size, without redirects."""

import http.client
import io
import ssl
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from socket import socket
from typing import Any, Protocol, cast, final
from urllib.parse import urlsplit

from agent_identity._authority.tokens import MAX_ANSWER, check_url
from agent_identity._common.typed_calls import typed_calls
from agent_identity.errors import ConfigurationError, ExchangeError

__all__ = ["HttpTransport", "Reply", "Transport", "answer_on", "left_until"]


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
        if context is not None and (context.verify_mode != ssl.CERT_REQUIRED or not context.check_hostname):
            raise ConfigurationError("the TLS context does not verify the server; use ssl.create_default_context()")
        self._context = context

    def post(self, url: str, *, headers: Mapping[str, str], body: bytes, timeout: float) -> Reply:
        """Return the answer; see :meth:`Transport.post`.

        Raises:
            ExchangeError: With code ``exchange_unreachable``.
            ValueError: The URL is neither https nor of this machine.
        """
        parts = urlsplit(check_url(url, "the endpoint"))
        deadline = time.monotonic() + timeout
        target = f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}"
        connection = self._connection(parts.scheme, parts.hostname or "", parts.port, timeout)
        problem = "no answer"
        try:
            connection.connect()
            sock: socket = connection.sock
            # A name meant for this machine may resolve to another.
            if parts.scheme != "https" and not _is_loopback(str(sock.getpeername()[0])):
                raise ConnectionError
            sock.settimeout(left_until(deadline))
            connection.request("POST", target, body=body, headers={**headers, "Accept-Encoding": "identity"})
            with closing(answer_on(sock, deadline)) as answer:
                answer.begin()
                return _reply(answer)
        except TimeoutError:
            problem = f"no answer within {timeout:g} s"
        except ssl.SSLError:
            problem = "a failure of TLS"
        except (OSError, http.client.HTTPException, ValueError):
            pass  # Their texts may quote the request or answer.
        finally:
            connection.close()
        raise ExchangeError(
            f"no answer from {parts.scheme}://{parts.netloc}: {problem}; try again later",
            code="exchange_unreachable",
        )

    def _connection(self, scheme: str, host: str, port: int | None, timeout: float) -> http.client.HTTPConnection:
        if scheme == "https":
            context = self._context or ssl.create_default_context()
            return http.client.HTTPSConnection(host, port, timeout=timeout, context=context)
        return http.client.HTTPConnection(host, port, timeout=timeout)


def _reply(answer: http.client.HTTPResponse) -> Reply:
    headers = {name.lower(): value for name, value in reversed(answer.getheaders())}
    return Reply(answer.status, headers, answer.read(MAX_ANSWER + 1))


def answer_on(sock: socket, deadline: float) -> http.client.HTTPResponse:
    """Return the answer to a POST that was sent on a socket, readable until a monotonic deadline."""
    # The class only reads a file from the socket.
    return http.client.HTTPResponse(cast("socket", _Paced(sock, deadline)), method="POST")


def _is_loopback(address: str) -> bool:
    return address == "::1" or address.startswith("127.")


def left_until(deadline: float) -> float:
    """Return the seconds until a monotonic deadline.

    Raises:
        TimeoutError: The deadline has passed.
    """
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


class _Paced(io.RawIOBase):
    """A socket reader with a deadline, however slowly the other side sends."""

    def __init__(self, sock: socket, deadline: float) -> None:
        super().__init__()
        self._sock = sock
        self._deadline = deadline

    def makefile(self, _mode: str) -> io.BufferedReader:
        """Return the file for an HTTP response."""
        return io.BufferedReader(self)

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any, /) -> int:  # noqa: ANN401  No type for buffers before Python 3.12.
        """Read the available data, waiting until the deadline at most."""
        self._sock.settimeout(left_until(self._deadline))
        return self._sock.recv_into(buffer)
