"""One HTTP POST, bounded in time and size: TLS verified, no redirect followed, no proxy used."""

import http.client
import io
import ssl
import time
from collections.abc import Mapping
from contextlib import closing
from socket import SOCK_STREAM, socket
from typing import Any, NamedTuple, cast
from urllib.parse import urlsplit


class HttpAnswer(NamedTuple):
    """An answer, whatever its status.

    Attributes:
        status: Status of the answer.
        headers: Its headers, names in lower case; the first of several.
        body: Its body, up to the limit.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes


class NoAnswerError(Exception):
    """No answer; the text says why, and quotes neither the request nor an answer."""


def verifies(context: ssl.SSLContext) -> bool:
    """Return whether a TLS context verifies the server."""
    return context.verify_mode == ssl.CERT_REQUIRED and context.check_hostname


def post(
    url: str,
    *,
    headers: Mapping[str, str],
    body: bytes,
    timeout: float,
    limit: int,
    context: ssl.SSLContext | None,
    through: str | None = None,
) -> HttpAnswer:
    """Return the answer to a POST, over a connection of its own.

    The timeout bounds even a slow answer; name lookup, and each unresponsive address, come on top.

    Args:
        url: https, or http to this machine; checked by the caller.
        headers: Names and values; they may hold credentials.
        body: The body.
        timeout: Maximum seconds in total.
        limit: Bytes of the answer that are read; the caller tells from one byte more that it is longer.
        context: TLS that verifies the server; by default that of the system's trust.
        through: The path of a Unix socket to connect to, in place of the host.

    Raises:
        NoAnswerError: No answer in time, or a broken one.
    """
    parts = urlsplit(url)
    deadline = time.monotonic() + timeout
    target = f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}"
    host = parts.hostname or ""
    connection = http.client.HTTPConnection(host, parts.port, timeout=timeout)
    if parts.scheme == "https":
        tls = context or ssl.create_default_context()
        connection = http.client.HTTPSConnection(host, parts.port, timeout=timeout, context=tls)
    problem = "no answer"
    try:
        sock = _connected(connection, through, timeout, plain=parts.scheme != "https")
        sock.settimeout(left_until(deadline))
        connection.request("POST", target, body=body, headers={**headers, "Accept-Encoding": "identity"})
        with closing(answer_on(sock, deadline)) as answer:
            answer.begin()
            fields = {name.lower(): value for name, value in reversed(answer.getheaders())}
            return HttpAnswer(answer.status, fields, answer.read(limit))
    except TimeoutError:
        problem = f"no answer within {timeout:g} s"
    except ssl.SSLError:
        problem = "a failure of TLS"
    except (OSError, http.client.HTTPException, ValueError):
        pass  # Their texts may quote the request or answer.
    finally:
        connection.close()
    raise NoAnswerError(problem)


def answer_on(sock: socket, deadline: float) -> http.client.HTTPResponse:
    """Return the answer to a POST that was sent on a socket, readable until a monotonic deadline."""
    # The class only reads a file from the socket.
    return http.client.HTTPResponse(cast("socket", _Paced(sock, deadline)), method="POST")


def _connected(connection: http.client.HTTPConnection, through: str | None, timeout: float, *, plain: bool) -> socket:
    """Connect to the host, or through a Unix socket, and return the socket."""
    if through is None:
        connection.connect()
        # A name meant for this machine may resolve to another.
        if plain and not _is_loopback(str(connection.sock.getpeername()[0])):
            raise ConnectionError
        return cast("socket", connection.sock)
    from socket import AF_UNIX  # noqa: PLC0415  Absent on Windows.

    connection.sock = socket(AF_UNIX, SOCK_STREAM)  # Closed with the connection.
    connection.sock.settimeout(timeout)
    connection.sock.connect(through)
    return connection.sock


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
