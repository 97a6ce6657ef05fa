"""Keyed digests of arguments and results: comparable within a task, useless for guessing, erasable.

A plain hash of ``{"amount":100}`` is found by trying amounts. A keyed one is not, and it turns into noise
for good once its key is gone from the file (threats AC-105).
"""

import contextlib
import os
import re
import stat
from collections import OrderedDict
from typing import Final, Literal, final

import orjson

from agent_identity.errors import ConfigurationError
from agent_identity.evidence.files import (
    EXTEND,
    Files,
    locked,
    make_folder,
    open_regular,
    recording,
    sync_folder,
    write_whole,
)
from agent_identity.evidence.mac import Mac

__all__ = ["DigestKeys"]

_KEY_BYTES: Final = 32
_CHUNK: Final = 1024 * 1024
_MAX_CACHED: Final = 4_096


@final
class DigestKeys:
    """The digest keys of an evidence directory, one for each id (a task or a stream), made at first use.

    Safe to use from any thread and after a fork; processes that ask for the same id get the same key.

    Args:
        path: The key file; it is made with mode 0600, its folder with 0700.
        files: The operating system; tests inject faults here.
        sync: What a new key survives: the death of the ``process``, or that of the machine (``disk``).
    """

    __slots__ = ("_durable", "_files", "_macs", "_path")

    def __init__(
        self,
        path: "str | os.PathLike[str]",
        *,
        files: Files | None = None,
        sync: Literal["process", "disk"] = "process",
    ) -> None:
        self._durable = sync == "disk"
        self._files = files or Files()
        # An OrderedDict, because each of its operations that are used here is atomic, without a lock.
        self._macs: OrderedDict[str, Mac] = OrderedDict()
        self._path = os.fspath(path)

    def digest(self, key_id: str, data: bytes) -> str:
        """Return ``hmac-sha256:<64 hex digits>`` of the data, under the key of the id.

        Args:
            key_id: The id of the task, or of the stream outside a task.
            data: Canonical bytes.

        Raises:
            EvidenceError: A new key is needed and cannot be kept.
            ConfigurationError: The key file is open to others.
        """
        mac = self._macs.get(key_id) or self._remember(key_id, self.key_for(key_id))
        return "hmac-sha256:" + mac.of(data).hex()

    def create(self, key_id: str) -> None:
        """Make the key of an id that was never used before, without searching the file for it.

        Worth it where tasks are many, because the search grows with the file. Ids must be unique, as
        those of root tasks are.

        Raises:
            EvidenceError: It cannot be kept.
            ConfigurationError: The key file is open to others.
        """
        self._remember(key_id, self._obtain(key_id, search=False))

    def key_for(self, key_id: str) -> bytes:
        """Return the 32 bytes of the key of an id, made now if it has none.

        Raises:
            EvidenceError: The file cannot be read, or a new key cannot be kept.
            ConfigurationError: The key file is open to others.
        """
        return self._obtain(key_id, search=True)

    def _remember(self, key_id: str, key: bytes) -> Mac:
        mac = self._macs[key_id] = Mac(key)
        if len(self._macs) > _MAX_CACHED:
            self._macs.popitem(last=False)
        return mac

    def _obtain(self, key_id: str, *, search: bool) -> bytes:
        head = b'{"id":%b,"key":"' % orjson.dumps(key_id)
        with recording("keep the key of a digest"):
            fd = self._open()
            try:
                self._check_closed(fd)
                with locked(self._files, fd):
                    found = self._find(fd, head) if search else None
                    return found or self._add(fd, head)
            finally:
                self._files.close(fd)

    def _open(self) -> int:
        try:
            return open_regular(self._files, self._path, EXTEND, 0o600)
        except FileNotFoundError:
            make_folder(self._files, self._folder(), 0o700)
            return open_regular(self._files, self._path, EXTEND, 0o600)

    def _folder(self) -> str:
        return os.path.dirname(os.path.abspath(self._path))  # noqa: PTH100, PTH120

    def _check_closed(self, fd: int) -> None:
        mode = self._files.status(fd).st_mode
        if mode & 0o077:
            raise ConfigurationError(
                f"expected {self._path!r} to be closed to group and others, got mode {stat.S_IMODE(mode):04o}; "
                "run chmod 600 on it"
            )

    def _find(self, fd: int, head: bytes) -> bytes | None:
        line = re.compile(b"\n" + re.escape(head) + rb'([0-9a-f]{64})"\}\n')
        overlap = len(head) + 2 * _KEY_BYTES + 4
        self._files.seek(fd, 0)
        window = b"\n"
        while chunk := self._files.read(fd, _CHUNK):
            window += chunk
            match = line.search(window)
            if match:
                return bytes.fromhex(match[1].decode())
            window = window[-overlap:]
        return None

    def _add(self, fd: int, head: bytes) -> bytes:
        key = self._files.random(_KEY_BYTES)
        size = self._files.status(fd).st_size
        line = head + key.hex().encode() + b'"}\n'
        if size and not self._ends_whole(fd, size):
            line = b"\n" + line  # Someone died inside the line before.
        try:
            write_whole(self._files, fd, line)
            if self._durable:
                self._files.fdatasync(fd)
                if not size:
                    sync_folder(self._files, self._folder())
        except BaseException:
            with contextlib.suppress(OSError):
                self._files.truncate(fd, size)
            raise
        return key

    def _ends_whole(self, fd: int, size: int) -> bool:
        self._files.seek(fd, size - 1)
        return self._files.read(fd, 1) == b"\n"
