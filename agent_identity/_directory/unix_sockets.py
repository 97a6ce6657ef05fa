"""Unix sockets on which services of this package listen."""

import os
import socket
import stat
from pathlib import Path
from typing import Final

from agent_identity.errors import ConfigurationError

_BACKLOG: Final = 128
_SECONDS: Final = 5.0


def listening(path: str, mode: int, service: str) -> socket.socket:
    """Return a listening socket at the path; the socket of a dead service is replaced.

    Args:
        path: The path.
        mode: The mode of the socket; until it is set, only the owner can connect.
        service: What serves there, for the message.

    Raises:
        ConfigurationError: A service is alive there, or the path is no socket.
        OSError: It cannot be created.
    """
    _remove_dead(Path(path), service)
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        before = os.umask(0o177)
        try:
            server.bind(path)
        finally:
            os.umask(before)
        Path(path).chmod(mode)
        server.listen(_BACKLOG)
    except BaseException:
        server.close()
        raise
    return server


def _remove_dead(path: Path, service: str) -> None:
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
    raise ConfigurationError(f"another {service} serves {str(path)!r}; stop it first")
