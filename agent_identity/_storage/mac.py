"""Keyed MACs of lines: after a crash they identify the lines that the library wrote.

A MAC is not a signature: every reader of the key can make one. It only keeps recovery from signing bytes
that another program put into a file, or put somewhere else than it stood. The two kinds of lines have
different tags, so that neither passes for the other. Records name their place themselves; entries of the
log do not, so their MAC covers it as well.
"""

import hashlib
import hmac
import os
import stat
from typing import Final, final

from agent_identity._identity.common.encoding import b64url_encode
from agent_identity._storage.os_files import CREATE, READ, Files, open_regular, sync_folder, write_whole
from agent_identity.errors import ConfigurationError

_STREAM_TAG: Final = b"agent-identity/ledger/v1\n"
_LOG_TAG: Final = b"agent-identity/log/v1\n"
_KEY_BYTES: Final = 32


@final
class Mac:
    """HMAC-SHA256 (RFC 2104) under one key and tag, with their hash state cached for all messages.

    Written out over two hash objects, because copying those costs a third less than copying an HMAC.
    """

    __slots__ = ("_inner", "_outer")

    def __init__(self, key: bytes, tag: bytes = b"") -> None:
        padded = key.ljust(64, b"\0")
        self._inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in padded) + tag)
        self._outer = hashlib.sha256(bytes(byte ^ 0x5C for byte in padded))

    def of(self, data: bytes) -> bytes:
        """Return the 32 bytes of the MAC of the tag and the data."""
        inner = self._inner.copy()
        inner.update(data)
        outer = self._outer.copy()
        outer.update(inner.digest())
        return outer.digest()

    def fits(self, data: bytes, mac: str) -> bool:
        """Return whether a MAC is that of the data, in constant time."""
        return hmac.compare_digest(b64url_encode(self.of(data)), mac)


@final
class LedgerKey:
    """The MAC key of one evidence directory; its text form shows nothing."""

    __slots__ = ("_raw",)

    def __init__(self, raw: bytes) -> None:
        if len(raw) != _KEY_BYTES:
            raise ValueError(f"the key has {len(raw)} bytes instead of {_KEY_BYTES}")
        self._raw = raw

    def __repr__(self) -> str:
        return "LedgerKey()"

    def stream_mac(self, stream: str) -> Mac:
        """Return the MAC of records of the stream."""
        return Mac(self._raw, _STREAM_TAG + stream.encode() + b"\n")

    def log_mac(self) -> Mac:
        """Return the MAC of lines of the log, computed over :func:`log_message`."""
        return Mac(self._raw, _LOG_TAG)


def log_message(place: int, last: bytes | None, entry: bytes) -> bytes:
    """Return the message that the MAC of a line of the log covers.

    Args:
        place: The place of the line, from 1.
        last: The leaf hash of the entry before it; ``None`` for the first.
        entry: The entry.
    """
    return b"%d\n%s\n%s" % (place, b"" if last is None else b64url_encode(last).encode(), entry)


def load_ledger_key(files: Files, path: str) -> LedgerKey:
    """Return the key of the directory, created at the first call; processes that race get the same one.

    Raises:
        ConfigurationError: The file holds no key, or others than its owner may read it.
        OSError: The file cannot be read or made.
    """
    try:
        return _read(files, path)
    except FileNotFoundError:
        _create(files, path)
        return _read(files, path)


def _read(files: Files, path: str) -> LedgerKey:
    fd = open_regular(files, path, READ)
    try:
        mode = files.status(fd).st_mode
        raw = files.read(fd, _KEY_BYTES + 1)
    finally:
        files.close(fd)
    if mode & 0o077:
        raise ConfigurationError(
            f"{path!r} has mode {stat.S_IMODE(mode):04o}, which is open to group or others; run chmod 600 on it"
        )
    if len(raw) != _KEY_BYTES:
        raise ConfigurationError(
            f"the key in {path!r} is not {_KEY_BYTES} bytes long; restore it from a backup, or move "
            "it away and start a new evidence directory"
        )
    return LedgerKey(raw)


def _create(files: Files, path: str) -> None:
    temporary = f"{path}.{files.random(8).hex()}"
    fd = files.open(temporary, CREATE, 0o600)
    try:
        try:
            write_whole(files, fd, files.random(_KEY_BYTES))
            files.fsync(fd)
        finally:
            files.close(fd)
        files.link(temporary, path)  # The first to link wins; the others read its key.
    except FileExistsError:
        pass
    finally:
        files.unlink(temporary)
    sync_folder(files, os.path.dirname(path))  # Without it, nothing that comes after it proves itself.
