"""An HTTP server for strangers: a bounded number of connections, each with one request and bounded in time."""

import contextlib
import ssl
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import SHUT_RDWR, socket
from typing import Final, TypeAlias, cast

SECONDS: Final = 10.0
"""Seconds for one connection, from its acceptance to the end of the answer."""

MOST_CONNECTIONS: Final = 64
"""Connections at the same time; a new one ends the oldest."""

_Request: TypeAlias = socket | tuple[bytes, socket]


class BoundedServer(ThreadingHTTPServer):
    """Serves on a listening socket, each connection in a thread, with one request each.

    A connection has ten seconds in all. A new connection ends the oldest one of 64, so slow clients cannot keep out a
    client that sends its request at once.

    Args:
        listener: The listening socket, of TCP or Unix; the server closes it.
        handler: Answers a request.
        tls: Speaks TLS on each connection.
        seconds: Returns monotonic seconds, for deadlines.
    """

    daemon_threads = True
    request_queue_size = MOST_CONNECTIONS

    def __init__(
        self,
        listener: socket,
        handler: type[BaseHTTPRequestHandler],
        *,
        tls: ssl.SSLContext | None = None,
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        self._seconds = seconds
        self._tls = tls
        self._lock = threading.Lock()
        self._deadlines: dict[_Request, float] = {}  # The oldest connection first.
        self._room = threading.BoundedSemaphore(2 * MOST_CONNECTIONS)  # Including connections that are closing.
        super().__init__(("", 0), handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self.server_address = listener.getsockname()

    def get_request(self) -> tuple[socket, object]:
        """Return the next connection; its handshake takes place in its own thread."""
        connection, address = self.socket.accept()
        if self._tls is not None:
            connection = self._tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return connection, address or ("local", 0)

    def process_request(self, request: _Request, client_address: object) -> None:
        """Serve a connection, in place of the oldest one if there are too many."""
        with self._lock:
            self._deadlines[request] = self._seconds() + SECONDS
            oldest = next(iter(self._deadlines)) if len(self._deadlines) > MOST_CONNECTIONS else None
        if oldest is not None:
            self._end(oldest)
        if not self._room.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:  # The system has no more threads; the server closes the connection.
            self._room.release()
            raise

    def process_request_thread(self, request: _Request, client_address: object) -> None:
        """Serve a connection in its thread."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def service_actions(self) -> None:
        """End the expired connections; called about twice a second."""
        now = self._seconds()
        with self._lock:
            late = [request for request, deadline in self._deadlines.items() if deadline <= now]
        for request in late:
            self._end(request)

    def shutdown_request(self, request: _Request) -> None:
        """Close a connection."""
        with self._lock:
            self._deadlines.pop(request, None)
        super().shutdown_request(request)

    def _end(self, request: _Request) -> None:
        """Shut a connection down, so that its thread ends."""
        with self._lock:
            self._deadlines.pop(request, None)
        with contextlib.suppress(OSError):  # Its thread was faster.
            cast("socket", request).shutdown(SHUT_RDWR)

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore clients that go away."""
