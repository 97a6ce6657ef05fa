"""A signer in another process, reached over a Unix socket: no code of this process can read its keys.

A message is a length (4 bytes, big-endian) and that many bytes. A request begins with what is wanted, an answer with
whether it was done; ``agent-identity signer`` is the other side.
"""

import contextlib
import os
import socket
import struct
import threading
import time
from typing import Final, NoReturn, SupportsIndex, final

from agent_identity._identity.common.private_files import PathLike
from agent_identity._identity.keys.keys import PublicKey
from agent_identity._identity.trust.entries import Purpose
from agent_identity.errors import ConfigurationError, EvidenceError, TokenError

MAX_FRAME: Final = 4_194_304 + 65_536
"""Bytes of a message; a record of the largest size fits with what is said about it."""

WANT_KEY, WANT_TRUST, WANT_SIGNATURE, WANT_SUCCESSORS = b"K", b"T", b"S", b"N"
DONE, REFUSED = b"\x00", b"\x01"
NAMES: Final[dict[Purpose, bytes]] = {"issuer": b"i", "recorder": b"r"}
"""Names of purposes in requests."""

_LENGTH: Final = struct.Struct(">I")
_CHUNK: Final = 65_536


def send_frame(connection: socket.socket, body: bytes) -> None:
    """Send one message.

    Raises:
        OSError: The connection is broken.
    """
    connection.sendall(_LENGTH.pack(len(body)) + body)


def receive_frame(connection: socket.socket, limit: int, seconds: float, *, idle: float | None = None) -> bytes:
    """Return the next message.

    Args:
        connection: The connection.
        limit: Bytes that it may have.
        seconds: The time limit of a message, once it began.
        idle: The time to wait for its beginning; by default it has begun.

    Raises:
        OSError: The connection is broken or closed, the message too large, or the time is over.
    """
    connection.settimeout(seconds if idle is None else idle)
    first = connection.recv(1)
    deadline = time.monotonic() + seconds
    length = _LENGTH.unpack(first + _receive(connection, _LENGTH.size - len(first), deadline))[0]
    if length > limit:
        raise OSError("a message that is too large")
    return _receive(connection, length, deadline)


def _receive(connection: socket.socket, size: int, deadline: float) -> bytes:
    data = bytearray()
    while len(data) < size:
        connection.settimeout(max(0.001, deadline - time.monotonic()))
        part = connection.recv(min(size - len(data), _CHUNK))
        if not part:
            raise ConnectionError("a closed connection")
        data += part
    return bytes(data)


@final
class SocketSigner:
    """A key held by ``agent-identity signer``. Safe to share between threads; a forked child connects anew.

    Code of this process can ask for signatures while it runs, and cannot take the key away.

    Args:
        path: The socket.
        purpose: The purpose that selects one of the signer's keys.
        timeout: Seconds for connecting, and for each answer.

    Attributes:
        public_key: The signer's key at the time of construction; it goes on to be used until it ends.

    Raises:
        ConfigurationError: The signer cannot be reached (``signer_unavailable``) or does not serve this
            process (``signer_refused``).
    """

    __slots__ = ("_connection", "_lock", "_path", "_process", "_timeout", "public_key")

    def __init__(self, path: PathLike, purpose: Purpose, *, timeout: float = 5.0) -> None:
        self._connection: socket.socket | None = None
        if not hasattr(socket, "AF_UNIX"):
            raise ConfigurationError("this platform has no Unix sockets, which a signer needs; use Linux or macOS")
        self._path = os.fspath(path)
        self._timeout = timeout
        self._lock = threading.Lock()
        self._process = os.getpid()
        try:
            self.public_key = self._own_key(purpose)
        except BaseException:
            self._drop()  # A holder of the error would keep the connection with it.
            raise

    def __repr__(self) -> str:
        return f"SocketSigner({self._path!r}, {self.public_key.thumbprint!r})"

    def __reduce_ex__(self, protocol: SupportsIndex, /) -> NoReturn:
        raise TypeError("a signer is neither copied nor pickled; make one where it is needed")

    def __del__(self) -> None:
        self._drop()

    def _own_key(self, purpose: Purpose) -> PublicKey:
        try:
            return PublicKey(self._ask(WANT_KEY + NAMES[purpose]))
        except EvidenceError as error:
            raise ConfigurationError(str(error), code=error.code) from None
        except ValueError:
            raise ConfigurationError(
                f"the process at {self._path!r} is not a signer; name the socket of 'agent-identity signer'",
                code="signer_unavailable",
            ) from None

    def trust_file(self) -> bytes:
        """Return the trust file of the signer.

        Raises:
            EvidenceError: The signer cannot be reached.
        """
        return self._ask(WANT_TRUST)

    def successors(self) -> tuple[str, ...]:
        """Return the signed successors of the signer's trust file, oldest first.

        Raises:
            EvidenceError: The signer cannot be reached.
        """
        return tuple(self._ask(WANT_SUCCESSORS).decode("ascii", "ignore").split())

    def sign(self, message: bytes) -> bytes:
        """Return the signature over the message, 64 bytes.

        Raises:
            EvidenceError: The signer cannot be reached in time (``signer_unavailable``), does not sign this
                (``signer_refused``), or what it returned is no signature of the key.
        """
        signature = self._ask(WANT_SIGNATURE + self.public_key.raw + message)
        try:
            self.public_key.verify(signature, message)
        except TokenError:
            raise EvidenceError(
                "the signer did not return a signature of its key; repair it", code="signer_unavailable"
            ) from None
        return signature

    def close(self) -> None:
        """Close the connection; the next use opens another."""
        with self._lock:
            self._drop()

    def _ask(self, request: bytes) -> bytes:
        if self._process != os.getpid():
            # The connection is the parent's, and a thread of the parent may have held the lock.
            self._process, self._lock = os.getpid(), threading.Lock()
            self._drop()
        with self._lock:
            answer = self._exchange(request)
        if answer[:1] == DONE:
            return answer[1:]
        code = answer[1:33].decode("ascii", "replace")
        raise EvidenceError(
            f"the signer refused the request ({code!a}); see what it says on standard error",
            code="signer_refused",
        )

    def _exchange(self, request: bytes) -> bytes:
        while True:
            reused = self._connection is not None
            try:
                return self._once(request)
            except OSError as error:
                # A connection that was closed while nothing was asked is no failure.
                if not reused or isinstance(error, TimeoutError):
                    raise EvidenceError(
                        f"the signer at {self._path!r} does not answer: {error.strerror or error}; see whether it runs",
                        code="signer_unavailable",
                    ) from error

    def _once(self, request: bytes) -> bytes:
        try:
            connection = self._connected()
            connection.settimeout(self._timeout)
            with contextlib.suppress(BrokenPipeError):  # A refusing signer may have answered and closed already.
                send_frame(connection, request)
            return receive_frame(connection, MAX_FRAME, self._timeout)
        except BaseException:  # Also of a signal handler: what comes later would be taken for the next answer.
            self._drop()
            raise

    def _connected(self) -> socket.socket:
        if self._connection is None:
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                connection.settimeout(self._timeout)
                connection.connect(self._path)
            except BaseException:
                connection.close()
                raise
            self._connection = connection
        return self._connection

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(OSError):
                connection.close()
