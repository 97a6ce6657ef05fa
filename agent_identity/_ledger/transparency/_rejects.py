"""Moves lines that the library did not write from the end of the log to a separate file.

Only what follows the last checkpoint is moved, and no line that the library wrote. Killed at any moment, this leaves
a log in which the next attempt does the rest; then a part may stand in the file twice.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

from agent_identity._ledger.transparency.merkle import leaf_hash
from agent_identity._storage.layout import Layout
from agent_identity._storage.lines import log_parts, read_lines
from agent_identity._storage.os_files import EDIT, EXTEND, Files, open_regular, sync_folder, write_whole

Fits = Callable[[int, bytes | None, bytes, str], bool]
"""Returns whether a MAC is that of an entry at a place of the log, from 1, after the entry with a leaf hash."""

_CHUNK: Final = 256 * 1024
_FAR: Final = 1_024  # Places after the next one at which an entry is looked for,
_LOOKS: Final = 65_536  # and how often that is done at most: about a tenth of a second.


class LaterEntryError(Exception):
    """The library wrote one of the lines, at a later place of a longer log."""


class _Range(NamedTuple):
    """A byte range of the log."""

    start: int
    end: int


class _Sorted(NamedTuple):
    """The lines after the last good one: those that continue the log, and the others."""

    own: list[_Range]
    foreign: list[_Range]


def set_aside(
    files: Files, layout: Layout, fd: int, start: int, *, fits: Fits, last: tuple[int, bytes | None]
) -> tuple[int, str]:
    """Move foreign lines from the end of the log to ``log/rejected.jsonl``; return their size, and its name.

    Where a folder, pipe or link has that name, it is ``rejected-1.jsonl``, and so on up to 9.

    Called with the lock of the log held. The rest after ``start`` continues the log.

    Args:
        files: The operating system.
        layout: The evidence directory.
        fd: The log, open to be read and cut.
        start: The offset of the first foreign line; all before it is good, and nothing from it on was committed.
        fits: Checks MACs.
        last: The number of good entries, and the leaf hash of the last one.

    Raises:
        LaterEntryError: The log was longer once. Nothing was changed.
        OSError: A file cannot be read or written.
    """
    lines = _sort(files, fd, start, fits, last)
    name = _keep(files, layout.log_rejected, fd, lines.foreign)
    end = start
    if lines.own:
        edited = open_regular(files, layout.log_entries, EDIT)  # What is open to append writes nowhere else.
        try:
            for data in _chunks(files, fd, lines.own):
                # Never beyond what was read: killed in between, all lines that are still to come are whole.
                files.seek(edited, end)
                write_whole(files, edited, data)
                end += len(data)
            files.fdatasync(edited)
        finally:
            files.close(edited)
    files.truncate(fd, end)
    return sum(foreign.end - foreign.start for foreign in lines.foreign), name


def _sort(files: Files, fd: int, start: int, fits: Fits, last: tuple[int, bytes | None]) -> _Sorted:
    own: list[_Range] = []
    foreign: list[_Range] = []
    (size, leaf), before = last, None
    looks = iter(range(_LOOKS))
    for line in read_lines(files, fd, start):
        parts = None if line.torn or line.data is None else log_parts(line.data)
        current = None if parts is None else leaf_hash(parts[0])
        if parts is not None and fits(size + 1, leaf, *parts):
            size, leaf = size + 1, current
            _extend(own, line.offset, line.end)
        else:
            if parts is not None and before is not None:
                # It follows the line before it at no place that the log has reached, and so only in a longer one.
                places = range(size + 2, size + 2 + _FAR)
                if any(fits(place, before, *parts) for place, _ in zip(places, looks, strict=False)):
                    raise LaterEntryError
            _extend(foreign, line.offset, line.end)
        before = current
    return _Sorted(own, foreign)


def _extend(ranges: list[_Range], start: int, end: int) -> None:
    if ranges and ranges[-1].end == start:
        start = ranges.pop().start
    ranges.append(_Range(start, end))


def _keep(files: Files, paths: Sequence[str], fd: int, foreign: list[_Range]) -> str:
    """Append the lines to the first file that opens, with a final newline, and sync it to disk."""
    path, out = _opened(files, paths)
    try:
        last = b""
        for data in _chunks(files, fd, foreign):
            write_whole(files, out, data)
            last = data[-1:]
        if last != b"\n":
            write_whole(files, out, b"\n")
        files.fdatasync(out)
    finally:
        files.close(out)
    folder, _, name = path.rpartition("/")
    sync_folder(files, folder)
    return name


def _opened(files: Files, paths: Sequence[str]) -> tuple[str, int]:
    for path in paths[:-1]:
        with contextlib.suppress(OSError):
            return path, open_regular(files, path, EXTEND)
    return paths[-1], open_regular(files, paths[-1], EXTEND)


def _chunks(files: Files, fd: int, ranges: list[_Range]) -> Iterator[bytes]:
    for at, end in ranges:
        for offset in range(at, end, _CHUNK):
            files.seek(fd, offset)
            yield files.read(fd, min(_CHUNK, end - offset))
