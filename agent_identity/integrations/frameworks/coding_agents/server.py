"""Serves the hooks of coding agents on a Unix socket, for the command that they run."""

import contextlib
import json
import os
import socket
import stat
import struct
import threading
import time
from pathlib import Path
from typing import Final, cast, final

from agent_identity.errors import ConfigurationError
from agent_identity.integrations.frameworks.coding_agents.calls import Answer, is_denial
from agent_identity.integrations.frameworks.coding_agents.command import MAX_BYTES
from agent_identity.integrations.frameworks.coding_agents.sessions import HookSessions
from agent_identity.integrations.narrowing import is_mapping

__all__ = ["HookServer"]

_MAX_CONNECTIONS: Final = 64
_SECONDS: Final = 10.0  # For a whole request, and for a whole answer.
_CREDENTIALS: Final = struct.Struct("3i")


@final
class HookServer:
    """Answers hooks on a Unix socket that only its own user may open.

    Where the kernel identifies peers, processes of other users are refused as well.

    Args:
        sessions: Answers the events.
        path: The path of the socket; a dead socket is replaced.
    """

    def __init__(self, sessions: HookSessions, path: str | os.PathLike[str]) -> None:
        self._sessions = sessions
        self._path = Path(path)
        self._socket: socket.socket | None = None
        self._number = 0
        self._room = threading.Semaphore(_MAX_CONNECTIONS)

    def listen(self) -> None:
        """Open the socket.

        Raises:
            ConfigurationError: Another server serves it, or it cannot be created.
        """
        try:
            self._remove_dead()
            self._socket = _bound(self._path)
            self._number = self._path.stat().st_ino
        except OSError as error:
            raise ConfigurationError(
                f"cannot create a socket at {str(self._path)!r}: '{error.strerror or error}'; choose a shorter path "
                "in a directory of yours"
            ) from error

    def serve(self) -> None:
        """Answer connections, each in a thread, until :meth:`stop` or :meth:`close`."""
        server = self._socket
        while server is not None:
            try:
                connection, _ = server.accept()
            except OSError:
                if self._socket is None:
                    return
                raise
            if self._room.acquire(blocking=False):
                threading.Thread(target=self._attend, args=(connection,), daemon=True).start()
            else:
                connection.close()  # No answer, which the command takes for a refusal.

    def stop(self) -> None:
        """Stop listening, and remove the socket; idempotent, also in a signal handler."""
        server, self._socket = self._socket, None
        if server is not None:
            with contextlib.suppress(OSError):
                if self._path.lstat().st_ino == self._number:  # Another server may have put its own there.
                    self._path.unlink()
            with contextlib.suppress(OSError):
                server.shutdown(socket.SHUT_RDWR)  # Wakes the thread that waits.
            server.close()

    def close(self) -> None:
        """Stop listening, and end all sessions; idempotent."""
        self.stop()
        self._sessions.close()

    def _remove_dead(self) -> None:
        path = self._path
        if not os.path.lexists(path):
            return
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise ConfigurationError(f"{str(path)!r} exists and is no socket; choose another path")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(_SECONDS)
            try:
                probe.connect(str(path))
            except ConnectionRefusedError:
                path.unlink()
                return
        raise ConfigurationError(f"another server serves {str(path)!r}; stop it first")

    def _attend(self, connection: socket.socket) -> None:
        try:
            with connection, contextlib.suppress(OSError, ValueError):
                if _is_own(connection):
                    answer = self._sessions.answer(_event(connection))
                    connection.settimeout(_SECONDS)
                    connection.sendall(_message(answer))
        finally:
            self._room.release()


def _is_own(connection: socket.socket) -> bool:
    """Return whether the peer is a process of this user; where the kernel does not say, the socket's mode has to do."""
    if not hasattr(socket, "SO_PEERCRED"):
        return True
    peer = _CREDENTIALS.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return cast("int", peer[1]) == os.geteuid()


def _event(connection: socket.socket) -> dict[str, object]:
    """Return the event that a command sends, up to its end.

    Raises:
        ValueError: It is too large, or no object of JSON.
        OSError: It does not arrive in time.
    """
    deadline, size = time.monotonic() + _SECONDS, 0
    parts: list[bytes] = []
    while True:
        connection.settimeout(max(0.001, deadline - time.monotonic()))
        part = connection.recv(65_536)
        if not part:
            break
        size += len(part)
        if size > MAX_BYTES:
            raise ValueError("too large")
        parts.append(part)
    try:
        event: object = json.loads(b"".join(parts))
    except RecursionError:
        raise ValueError("too deep") from None
    if not is_mapping(event):
        raise ValueError("no object")
    return dict(event)


def _message(answer: Answer) -> bytes:
    """Return what the command needs to know: its exit code, and what it prints."""
    reason = is_denial(answer)
    code, text = (2, reason) if reason is not None and not _replaces(answer) else (0, json.dumps(answer))
    return json.dumps([code, text]).encode()


def _replaces(answer: Answer) -> bool:
    """Return whether an answer withholds a result: with exit code 2, the agent would not read it."""
    inner = answer.get("hookSpecificOutput")
    return is_mapping(inner) and "updatedToolOutput" in inner


def _bound(path: Path) -> socket.socket:
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        before = os.umask(0o177)
        try:
            server.bind(str(path))
        finally:
            os.umask(before)
        path.chmod(0o600)
        server.listen(_MAX_CONNECTIONS)
    except BaseException:
        server.close()
        raise
    return server
