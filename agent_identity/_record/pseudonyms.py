"""Pseudonyms of principals: a random name for each, mapped in a private file from which it can be erased.

The names are random and not derived from anything, so that without the line of the file no one can tell who one is,
not even by trying every name there is.
"""

import os
import re
from collections.abc import Iterator
from typing import Final, NamedTuple, final

import orjson

from agent_identity._storage.os_files import (
    EDIT,
    EXTEND,
    READ,
    Files,
    check_private,
    locked,
    open_regular,
    recording,
    write_whole,
)
from agent_identity.errors import ConfigurationError

PSEUDONYM_PREFIX: Final = "pseudonym:"
"""The prefix of each pseudonym."""

_RANDOM_BYTES: Final = 16
_CHUNK: Final = 1024 * 1024
_IN_PLACE: Final = EDIT & ~os.O_CREAT
_LINE: Final = re.compile(rb'\{"pseudonym":"(pseudonym:[0-9a-f]{32})","of":(.*)\}')


class _Mapped(NamedTuple):
    """A line of the file: its offset, bytes, pseudonym, and the principal unless erased."""

    offset: int
    line: bytes
    pseudonym: str | None
    of: tuple[str, str] | None


@final
class Pseudonyms:
    """The pseudonyms of an evidence directory, created at first use.

    Safe to use from any thread and after a fork; processes that ask for the same principal get the same pseudonym.

    Args:
        path: The file; it is made with mode 0600.
        files: The operating system; tests inject faults here.
    """

    def __init__(self, path: "str | os.PathLike[str]", *, files: Files | None = None) -> None:
        self._files = files or Files()
        self._path = os.fspath(path)
        self._known: dict[tuple[str, str], str] = {}
        self._names: dict[str, tuple[str, str]] = {}
        self._seen = (-1, -1)

    def of(self, kind: str, name: str) -> str:
        """Return the pseudonym of a principal, created now if it is missing.

        Args:
            kind: ``human`` or ``service``.
            name: Its id. What has a pseudonym's form is one already, and is returned as it is.

        Raises:
            EvidenceError: The file cannot be read, or a new line cannot be kept.
            ConfigurationError: The file is open to others.
        """
        if name.startswith(PSEUDONYM_PREFIX):
            return name
        pseudonym = self.find(kind, name)
        if pseudonym is not None:
            return pseudonym
        with recording("keep a pseudonym"):
            fd = open_regular(self._files, self._path, EXTEND, 0o600)
            try:
                check_private(self._files, fd, self._path)
                with locked(self._files, fd):
                    return self._find(fd, kind, name) or self._add(fd, kind, name)
            finally:
                self._files.close(fd)

    def find(self, kind: str, name: str) -> str | None:
        """Return the pseudonym of a principal, or ``None``; never create one.

        Raises:
            EvidenceError: The file cannot be read.
        """
        self._refresh()
        return self._known.get((kind, name))

    def name_of(self, pseudonym: str) -> tuple[str, str] | None:
        """Return kind and id of the principal of a pseudonym, or ``None`` if unknown or erased.

        Raises:
            EvidenceError: The file cannot be read.
        """
        self._refresh()
        return self._names.get(pseudonym)

    def who(self, pseudonym: str) -> tuple[str, str]:
        """Return kind and id of the principal of a pseudonym.

        Raises:
            EvidenceError: The file cannot be read.
            ConfigurationError: The mapping was erased (``erased``), or is missing (``unknown_pseudonym``).
        """
        principal = self.name_of(pseudonym)
        if principal is not None:
            return principal
        if any(mapped.pseudonym == pseudonym for mapped in self._read_all()):
            raise ConfigurationError(
                "the mapping of the pseudonym was erased; its principal cannot be named any more",
                code="erased",
            )
        raise ConfigurationError(
            "this directory does not have the pseudonym; ask where the task was opened",
            code="unknown_pseudonym",
        )

    def erase(self, name: str) -> None:
        """Overwrite the mappings of a principal of any kind, and sync them to disk.

        Half a line, which a process that died left, is overwritten as well, for any principal.

        Args:
            name: Its id, or its pseudonym.

        Raises:
            EvidenceError: The file cannot be written.
        """
        with recording("erase a pseudonym"):
            try:
                fd = open_regular(self._files, self._path, _IN_PLACE)
            except FileNotFoundError:
                return
            try:
                with locked(self._files, fd):
                    overwritten = False
                    for mapped in list(self._lines(fd)):
                        if mapped.of is not None and name not in (mapped.of[1], mapped.pseudonym):
                            continue
                        whole = _LINE.fullmatch(mapped.line)
                        offset, text = (0, mapped.line) if whole is None else (whole.start(2), whole[2])
                        if text.strip(b"-"):
                            self._files.seek(fd, mapped.offset + offset)
                            write_whole(self._files, fd, b"-" * len(text))
                            overwritten = True
                    if overwritten:
                        # Every reader reads a longer file again, also within one tick of its clock.
                        self._files.seek(fd, self._files.status(fd).st_size)
                        write_whole(self._files, fd, b"\n")
                    self._files.fsync(fd)
            finally:
                self._files.close(fd)

    def _refresh(self) -> None:
        """Read the file again if it changed, because the cache must not outlive an erasure."""
        with recording("read the pseudonyms"):
            try:
                fd = open_regular(self._files, self._path, READ)
            except FileNotFoundError:
                return
            try:
                check_private(self._files, fd, self._path)
                status = self._files.status(fd)
                stamp = (status.st_size, status.st_mtime_ns)
                if stamp != self._seen:
                    known = {m.pseudonym: m.of for m in self._lines(fd) if m.of is not None and m.pseudonym}
                    self._names, self._known = known, {of: name for name, of in known.items()}
                    self._seen = stamp
            finally:
                self._files.close(fd)

    def _read_all(self) -> list[_Mapped]:
        with recording("read the pseudonyms"):
            try:
                fd = open_regular(self._files, self._path, READ)
            except FileNotFoundError:
                return []
            try:
                return list(self._lines(fd))
            finally:
                self._files.close(fd)

    def _find(self, fd: int, kind: str, name: str) -> str | None:
        return next((mapped.pseudonym for mapped in self._lines(fd) if mapped.of == (kind, name)), None)

    def _add(self, fd: int, kind: str, name: str) -> str:
        pseudonym = PSEUDONYM_PREFIX + self._files.random(_RANDOM_BYTES).hex()
        # In front of the line, in case a process died inside the one before.
        line = b'\n{"pseudonym":"%b","of":%b}\n' % (pseudonym.encode(), orjson.dumps([kind, name]))
        write_whole(self._files, fd, line)
        self._files.fdatasync(fd)
        return pseudonym

    def _lines(self, fd: int) -> Iterator[_Mapped]:
        self._files.seek(fd, 0)
        data = b""
        while chunk := self._files.read(fd, _CHUNK):
            data += chunk
        offset = 0
        for line in data.split(b"\n"):
            if line:
                match = _LINE.fullmatch(line)
                yield _Mapped(offset, line, match and match[1].decode(), _principal(match[2]) if match else None)
            offset += len(line) + 1


def _principal(text: bytes) -> tuple[str, str] | None:
    """Return kind and id, or ``None`` if they are erased."""
    try:
        pair: list[object] = orjson.loads(text)
        kind, name = pair
    except (ValueError, TypeError):
        return None
    return (kind, name) if isinstance(kind, str) and isinstance(name, str) else None
