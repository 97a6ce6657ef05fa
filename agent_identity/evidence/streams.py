"""Reading an evidence directory as an auditor does: nothing is trusted, and problems are values."""

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Final, Literal, NamedTuple, TypeAlias, final

from agent_identity.evidence.files import READ, Files, open_regular
from agent_identity.evidence.foundation import log_was_removed, stream_names
from agent_identity.evidence.layout import Layout, is_stream_id
from agent_identity.evidence.lines import log_parts, read_lines, stream_parts
from agent_identity.evidence.log import read_checkpoint

__all__ = ["LedgerReader", "Problem", "RawLine", "open_ledger"]

Problem: TypeAlias = Literal["malformed", "too_long", "torn", "unreadable"]
"""Why a line could not be taken apart.

``malformed``: it has not the form of such a line; ``too_long``: more than 4 MiB; ``torn``: the file ends
inside it; ``unreadable``: the file, from here on, cannot be read. At offset 0 there may be no file at all, as
when a process died before its first record, or when someone took it away: the log tells which.
"""

_WITNESSED: Final = re.compile(r"[0-9a-f]{16}\.checkpoint")
_ANCHORED: Final = re.compile(r"[0-9]{19}-[0-9a-f]{16}\.tsr")
_MAX_WITNESSED: Final = 256
_MAX_ANCHORED: Final = 10_000
_PARTS: Final = {"stream": stream_parts, "log": log_parts}


class RawLine(NamedTuple):
    """One line as it stands in a file. Nothing of it was verified.

    Attributes:
        offset: Bytes before it in the file.
        record: The bytes of its record (in the log: of its entry), or ``None`` with a problem.
        mac: Its MAC in hex, or ``None`` with a problem.
        problem: Why there is no record, or ``None``.
    """

    offset: int
    record: bytes | None
    mac: str | None
    problem: Problem | None


@final
class LedgerReader:
    """Reads one evidence directory, live or at rest, with bounded memory; never raises on what it finds."""

    __slots__ = ("_files", "_layout")

    def __init__(self, directory: "str | os.PathLike[str]", *, files: Files | None = None) -> None:
        self._files = files or Files()
        self._layout = Layout.of(directory)

    def streams(self) -> tuple[str, ...]:
        """Return the ids of the streams that have a folder, sorted, which is the order of their start."""
        try:
            return stream_names(self._files, self._layout)
        except OSError:
            return ()

    def entries(self, stream: str) -> Iterator[RawLine]:
        """Return the lines of a stream, in their order.

        Args:
            stream: The id of a stream; of one without a file, or no id at all, a single ``unreadable``
                line is returned.
        """
        if not is_stream_id(stream):  # It may come from a log entry, and must not lead out of the directory.
            return iter((RawLine(0, None, None, "unreadable"),))
        return self._read(self._layout.entries(stream), "stream")

    def log_entries(self) -> Iterator[RawLine]:
        """Return the lines of the log, in their order."""
        return self._read(self._layout.log_entries, "log")

    def checkpoint(self) -> bytes | None:
        """Return the signed checkpoint (at most 64 KiB and one byte), or ``None`` if it cannot be read."""
        with suppress(OSError):
            return read_checkpoint(self._files, self._layout.checkpoint)
        return None

    def witnessed(self) -> Iterator[bytes]:
        """Return the checkpoints that witnesses cosigned, as far as they can be read, at most 256."""
        for name in self._names(self._layout.witnesses, _WITNESSED)[:_MAX_WITNESSED]:
            with suppress(OSError):
                yield read_checkpoint(self._files, f"{self._layout.witnesses}/{name}") or b""

    def anchored(self) -> Iterator[tuple[bytes, bytes]]:
        """Return the checkpoints that were anchored, each with its time-stamp, the latest first; at most 10,000."""
        names = self._names(self._layout.anchors, _ANCHORED)
        for name in names[: -_MAX_ANCHORED - 1 : -1]:
            path = f"{self._layout.anchors}/{name}"
            with suppress(OSError):
                note = read_checkpoint(self._files, f"{path.removesuffix('.tsr')}.checkpoint")
                yield note or b"", read_checkpoint(self._files, path) or b""

    def _names(self, folder: str, form: re.Pattern[str]) -> list[str]:
        with suppress(OSError):
            return sorted(filter(form.fullmatch, self._files.listdir(folder)))
        return []

    def log_was_removed(self) -> bool:
        """Return whether the directory was used and yet has no checkpoint, which no crash leaves behind."""
        try:
            return log_was_removed(self._files, self._layout)
        except OSError:
            return False

    def _read(self, path: str, form: Literal["stream", "log"]) -> Iterator[RawLine]:
        split = _PARTS[form]
        end = 0
        try:
            fd = open_regular(self._files, path, READ)
            try:
                for offset, end, data, torn in read_lines(self._files, fd):  # noqa: B007  How far it could be read.
                    if torn:
                        yield RawLine(offset, None, None, "torn")
                    elif data is None:
                        yield RawLine(offset, None, None, "too_long")
                    elif (parts := split(data)) is None:
                        yield RawLine(offset, None, None, "malformed")
                    else:
                        yield RawLine(offset, *parts, None)
            finally:
                self._files.close(fd)
        except OSError:
            yield RawLine(end, None, None, "unreadable")


def open_ledger(directory: "str | os.PathLike[str]", *, files: Files | None = None) -> LedgerReader:
    """Return a reader of an evidence directory, whatever is there."""
    return LedgerReader(directory, files=files)
