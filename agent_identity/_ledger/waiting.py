"""Records that wait, for a seal or for a receiver, seen from outside the process that writes them.

It is asked every few seconds: it reads the ends of files only, and loads nothing but the standard library. Nothing is
verified; what is malformed is passed over.
"""

import os
import re
from collections.abc import Collection, Iterator
from contextlib import suppress
from typing import Final, NamedTuple

from agent_identity._storage.layout import Layout, is_stream_id

# In canonical JSON, only the task may stand between both; quotes in its purpose are escaped.
_PLACE: Final = re.compile(
    rb'"stream":\{"id":"[\w-]{22}",(?:"prev":"[\w-]{43}",)?"seq":"(\d{1,19})"\},'
    rb'(?:"task":.{0,16384}?)?"time":\{"(?:end|start)":"(\d{1,19})"'
)
_CHUNK: Final = 64 * 1024
_MOST_NAME: Final = 128  # Bytes of a size and a stream id in the log, which may lie across two chunks.


class OpenStream(NamedTuple):
    """A stream that was not ended and sealed in order: its process runs, or died.

    Attributes:
        name: Its id.
        path: The file with its last records.
    """

    name: str
    path: str


def open_streams(layout: Layout) -> Iterator[OpenStream]:
    """Yield the streams of a directory that were not ended and sealed in order.

    Raises:
        OSError: The streams cannot be listed.
    """
    with suppress(FileNotFoundError), os.scandir(layout.streams) as folder:
        for entry in folder:
            if is_stream_id(entry.name):
                with suppress(OSError):  # It is just begun, or removed.
                    if os.stat(layout.lock(entry.name)).st_size == 0:  # Sealed whole, it has a note.
                        yield OpenStream(entry.name, layout.entries(entry.name))


def unsealed_since(layout: Layout) -> int | None:
    """Return the time of the oldest record that no entry of the log covers, in nanoseconds, or ``None``.

    Raises:
        OSError: The directory cannot be read.
    """
    streams = list(open_streams(layout))
    sealed = _sealed(layout.log_entries, {stream.name for stream in streams}) if streams else {}
    times = (written_after(stream.path, sealed.get(stream.name, 0)) for stream in streams)
    return min((time for time in times if time is not None), default=None)


def written_after(path: str, place: int, *, kinds: Collection[bytes] = ()) -> int | None:
    """Return the time of the first record after a place in a stream, in nanoseconds, or ``None``.

    Of records in earlier files of the stream it finds none: then it is the first one in this file.

    Args:
        path: The file with the last records of the stream.
        place: The place of a record, from 1; 0 for all.
        kinds: Only records of these kinds; by default all.

    Raises:
        OSError: The file cannot be read.
    """
    wanted = [b'"kind":"%s"' % kind for kind in kinds]
    descriptor = _opened(path)
    if descriptor is None:
        return None
    try:
        size, chunk = os.fstat(descriptor).st_size, _CHUNK
        while True:
            start = max(0, size - chunk)
            lines = _lines(descriptor, start, size)
            found = _PLACE.search(lines)
            if start == 0 or (found is not None and int(found[1]) <= place):
                return _first(lines, place, wanted)
            chunk *= 8
    finally:
        os.close(descriptor)


def _opened(path: str) -> int | None:
    """Return a descriptor of a file, or ``None`` without one; a pipe in its place is not waited for."""
    try:
        return os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    except FileNotFoundError:
        return None


def _lines(descriptor: int, start: int, size: int) -> bytes:
    """Return what a file has from an offset on, without the rest of a line before."""
    data = os.pread(descriptor, size - start, start)
    return data if start == 0 else data.partition(b"\n")[2]


def _first(data: bytes, place: int, wanted: Collection[bytes]) -> int | None:
    for line in data.split(b"\n"):
        found = _PLACE.search(line)
        if found is not None and int(found[1]) > place and (not wanted or any(kind in line for kind in wanted)):
            return int(found[2])
    return None


def _sealed(path: str, names: Collection[str]) -> dict[str, int]:
    """Return the sealed size of each stream by its last entry in the log, read from the end."""
    sizes: dict[str, int] = {}
    missing = {name: re.compile(rb'"size":"(\d{1,19})","stream":"%s"' % name.encode()) for name in names}
    descriptor = _opened(path)
    if descriptor is None:
        return sizes
    try:
        end = os.fstat(descriptor).st_size
        while end > 0 and missing:
            start = max(0, end - _CHUNK)
            data = os.pread(descriptor, end - start + _MOST_NAME, start)
            for name, form in [*missing.items()]:
                found = form.findall(data)
                if found:
                    sizes[name] = int(found[-1])
                    del missing[name]
            end = start
    finally:
        os.close(descriptor)
    return sizes
