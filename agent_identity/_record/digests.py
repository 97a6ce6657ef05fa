"""Keyed digests of arguments and results: comparable within a task, useless for guessing, erasable.

A plain hash of ``{"amount":100}`` is found by trying amounts. A keyed one is not, and it turns into noise
for good once its key is gone from the file (threats AC-105).
"""

import contextlib
import os
import re
from collections import OrderedDict
from collections.abc import Collection, Generator, Iterator, Sequence
from typing import Final, Literal, NamedTuple, final

import orjson

from agent_identity._identity.common.encoding import b64url_decode, b64url_encode
from agent_identity._identity.common.ids import is_digest
from agent_identity._record.commitments import commit
from agent_identity._storage.mac import Mac
from agent_identity._storage.os_files import (
    EDIT,
    EXTEND,
    READ,
    Files,
    check_private,
    locked,
    make_folder,
    open_regular,
    recording,
    sync_folder,
    write_whole,
)
from agent_identity.errors import ConfigurationError

_KEY_BYTES: Final = 32
_KEY_CHARACTERS: Final = 43
_CHUNK: Final = 1024 * 1024
_MAX_CACHED: Final = 4_096
_IN_PLACE: Final = EDIT & ~os.O_CREAT
_LINE: Final = re.compile(rb'\{"id":("(?:[^"\\]|\\.)*"),"key":"([A-Za-z0-9_=-]{1,43})')
_ERASED: Final = b"="  # No key has this character, so that half an erasure is known for one.


class _Kept(NamedTuple):
    """A key entry of the file, which may be torn or erased."""

    id: bytes
    offset: int
    text: bytes


@final
class DigestKeys:
    """The digest keys of an evidence directory, one for each id (a task or a stream), made at first use.

    Safe to use from any thread and after a fork; processes that ask for the same id get the same key.

    Args:
        path: The key file; it is made with mode 0600, its folder with 0700.
        files: The operating system; tests inject faults here.
        sync: The failure that a new key survives: the death of the ``process``, or that of the machine (``disk``).
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
        """Return the MAC of the data, under the key of the id.

        Args:
            key_id: The id of the task, or of the stream outside a task.
            data: Canonical bytes.

        Raises:
            EvidenceError: A new key is needed and cannot be kept.
            ConfigurationError: The key file is open to others.
        """
        mac = self._macs.get(key_id) or self._remember(key_id, self.key_for(key_id))
        return b64url_encode(mac.of(data))

    def link(self, key_id: str, data: bytes) -> str | None:
        """Return the digest of data under a key that many tasks share; ``None`` once that key is erased.

        Under a fresh key, as :meth:`digest` takes one then, the same data would count as something else each time.

        Args:
            key_id: The id of the key.
            data: Canonical bytes.

        Raises:
            EvidenceError: A new key is needed and cannot be kept.
            ConfigurationError: The key file is open to others.
        """
        mac = self._macs.get(key_id)
        if mac is None:
            key = self._obtain(key_id)
            if key is None:
                return None
            mac = self._remember(key_id, key)
        return b64url_encode(mac.of(data))

    def knows(self, key_id: str) -> bool:
        """Return whether the key of an id is cached, so that no file access is needed."""
        return key_id in self._macs

    def commit(self, key_id: str, parts: Sequence[bytes]) -> str:
        """Return a commitment that can disclose each part alone.

        Args:
            key_id: The id of the task, or of the stream outside a task.
            parts: The result of :func:`part` for each argument, sorted by name.

        Raises:
            EvidenceError: A new key is needed and cannot be kept.
            ConfigurationError: The key file is open to others.
        """
        return commit(self._macs.get(key_id) or self._remember(key_id, self.key_for(key_id)), parts)

    def create(self, key_id: str) -> None:
        """Make the key of a new id, without searching the file for it.

        Worth it where tasks are many, because the search grows with the file. Ids must be unique, as
        those of root tasks are.

        Raises:
            EvidenceError: It cannot be kept.
            ConfigurationError: The key file is open to others.
        """
        with self._held() as fd:
            key = self._add(fd, _head(key_id))
        self._remember(key_id, key)

    def key_for(self, key_id: str) -> bytes:
        """Return the 32-byte key of an id, created now if it is missing.

        The key of an id that was erased is a fresh one that is kept nowhere: what is digested under it can be
        proved by no one.

        Raises:
            EvidenceError: The file cannot be read, or a new key cannot be kept.
            ConfigurationError: The key file is open to others.
        """
        return self._obtain(key_id) or self._files.random(_KEY_BYTES)

    def kept(self, key_id: str) -> bytes:
        """Return the 32-byte key of an id that has one; never create one.

        Raises:
            EvidenceError: The file cannot be read.
            ConfigurationError: It was erased (``erased``), or is missing (``no_digest_key``).
        """
        wanted = orjson.dumps(key_id)
        entries = [kept for kept in self._read_all() if kept.id == wanted]
        if any(_ERASED in kept.text for kept in entries):
            raise ConfigurationError(
                "the key of these digests was erased; the digested values cannot be proved any more",
                code="erased",
            )
        for kept in entries:
            key = _key_in(kept.text)
            if key is not None:
                return key
        raise ConfigurationError(
            "the key of these digests is not in keys/digests.jsonl; run this where the calls were recorded",
            code="no_digest_key",
        )

    def count(self, key_ids: Collection[str]) -> int:
        """Return the number of ids whose key, or a part of it, is not erased.

        Raises:
            EvidenceError: The file cannot be read.
        """
        wanted = frozenset(map(orjson.dumps, key_ids))
        return len({kept.id for kept in self._read_all() if kept.id in wanted and kept.text.strip(_ERASED)})

    def erase(self, key_ids: Collection[str]) -> None:
        """Overwrite the keys of ids on disk. Their digests cannot be proved afterwards.

        Each key is overwritten where it stands, so that at no moment there is another copy of the file, and a kill
        between two keys leaves the rest for the next attempt. An id stays erased: no process makes it a new key.
        A process that has used a key keeps it in its memory; it writes none of it back.

        Args:
            key_ids: The ids; those without a key are passed over.

        Raises:
            EvidenceError: The file cannot be written; some keys may be erased already.
        """
        wanted = frozenset(map(orjson.dumps, key_ids))
        for key_id in key_ids:
            self._macs.pop(key_id, None)
        with recording("erase the keys of digests"):
            try:
                fd = open_regular(self._files, self._path, _IN_PLACE)
            except FileNotFoundError:
                return
            try:
                with locked(self._files, fd):
                    entries = [kept for kept in self._lines(fd) if kept.id in wanted and kept.text.strip(_ERASED)]
                    for kept in entries:
                        self._files.seek(fd, kept.offset)
                        write_whole(self._files, fd, _ERASED * len(kept.text))
                    self._files.fsync(fd)
            finally:
                self._files.close(fd)

    def _read_all(self) -> list[_Kept]:
        with recording("read the keys of digests"):
            try:
                fd = open_regular(self._files, self._path, READ)
            except FileNotFoundError:
                return []
            try:
                return list(self._lines(fd))
            finally:
                self._files.close(fd)

    def _lines(self, fd: int) -> Iterator[_Kept]:
        """Yield the keys in the file, torn ones included."""
        self._files.seek(fd, 0)
        offset, rest, chunk = 0, b"", b"\n"
        while chunk:
            chunk = self._files.read(fd, _CHUNK)
            *lines, rest = (rest + chunk).split(b"\n") if chunk else (rest, b"")
            for line in lines:
                match = _LINE.match(line)
                if match is not None:
                    yield _Kept(match[1], offset + match.start(2), match[2])
                offset += len(line) + 1

    def _remember(self, key_id: str, key: bytes) -> Mac:
        mac = self._macs[key_id] = Mac(key)
        if len(self._macs) > _MAX_CACHED:
            self._macs.popitem(last=False)
        return mac

    def _obtain(self, key_id: str) -> bytes | None:
        """Return the key of an id, created if it is missing; ``None`` if it is erased."""
        with self._held() as fd:
            text = self._find(fd, _head(key_id))
            if text is None:
                return self._add(fd, _head(key_id))
        return _key_in(text)

    @contextlib.contextmanager
    def _held(self) -> Generator[int]:
        """Hold the key file open and locked."""
        with recording("keep the key of a digest"):
            fd = self._open()
            try:
                check_private(self._files, fd, self._path)
                with locked(self._files, fd):
                    yield fd
            finally:
                self._files.close(fd)

    def _open(self) -> int:
        try:
            return open_regular(self._files, self._path, EXTEND, 0o600)
        except FileNotFoundError:
            make_folder(self._files, self._folder(), 0o700)
            return open_regular(self._files, self._path, EXTEND, 0o600)

    def _folder(self) -> str:
        return os.path.dirname(os.path.abspath(self._path))

    def _find(self, fd: int, head: bytes) -> bytes | None:
        """Return the text of a key; an erased one has equals signs."""
        line = re.compile(b"\n" + re.escape(head) + rb'([A-Za-z0-9_=-]{43})"\}\n')
        overlap = len(head) + _KEY_CHARACTERS + 4
        self._files.seek(fd, 0)
        window = b"\n"
        while chunk := self._files.read(fd, _CHUNK):
            window += chunk
            match = line.search(window)
            if match:
                return match[1]
            window = window[-overlap:]
        return None

    def _add(self, fd: int, head: bytes) -> bytes:
        key = self._files.random(_KEY_BYTES)
        size = self._files.status(fd).st_size
        line = head + b64url_encode(key).encode() + b'"}\n'
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


def _head(key_id: str) -> bytes:
    return b'{"id":%b,"key":"' % orjson.dumps(key_id)


def _key_in(text: bytes) -> bytes | None:
    """Return the key in its one spelling; ``None`` if it is erased or torn."""
    spelled = text.decode()
    return b64url_decode(spelled) if is_digest(spelled) else None
