"""Incremental reader of a stream that its process still writes."""

from collections.abc import Iterator
from typing import Final, NamedTuple, final

from agent_identity._ledger.reader import LedgerReader
from agent_identity._record.codec import decode
from agent_identity._record.schema import AnyRecord
from agent_identity._storage.layout import Layout
from agent_identity._storage.lines import read_lines, stream_parts
from agent_identity._storage.mac import LedgerKey
from agent_identity._storage.os_files import READ, Files, open_regular

_NEWLINE: Final = b"\n"


class Proved(NamedTuple):
    """A record that the library wrote itself, proved by its MAC.

    Attributes:
        seq: Its place in the stream, from 1.
        body: Its canonical bytes.
        record: The record.
    """

    seq: int
    body: bytes
    record: AnyRecord


@final
class StreamTail:
    """The records of one stream in order, each once, over any number of reads.

    Lines whose MAC does not fit are left out: a signer of these records must not sign what others wrote.

    Args:
        files: The operating system.
        layout: The evidence directory.
        stream: The id of the stream.
        key: The key of the MACs.

    Attributes:
        seq: The place of the last record that was read; 0 before the first.
        rejected: Whole lines that the library did not write so.
    """

    def __init__(self, files: Files, layout: Layout, stream: str, key: LedgerKey) -> None:
        self.seq = 0
        self.rejected = 0
        self._files = files
        self._layout = layout
        self._stream = stream
        self._mac = key.stream_mac(stream)
        self._file: tuple[int, int] | None = None
        self._end = 0

    def read(self) -> Iterator[Proved]:
        """Yield the records since the last one that was yielded; an unfinished line waits."""
        try:
            fd = open_regular(self._files, self._layout.entries(self._stream), READ)
        except OSError:
            return  # A process that just starts has no file; one that vanished shows when the ledger is verified.
        try:
            status = self._files.status(fd)
            file = (status.st_dev, status.st_ino)
            if file == self._file and status.st_size >= self._end:
                yield from self._read_on(fd)
                return
            # Another file than last time: the stream is read from its start, wherever its parts lie by now.
            yield from self._read_all()
            self._file, self._end = file, self._whole_lines(fd, status.st_size)
        except OSError:
            return
        finally:
            self._files.close(fd)

    def is_over(self) -> bool:
        """Return whether the stream is over; see :func:`is_over`."""
        return is_over(self._files, self._layout, self._stream)

    def _read_on(self, fd: int) -> Iterator[Proved]:
        for _, end, data, torn in read_lines(self._files, fd, self._end):
            if torn:
                return
            self._end = end
            if (proved := self._proved(None if data is None else stream_parts(data))) is not None:
                yield proved

    def _read_all(self) -> Iterator[Proved]:
        self.rejected = 0
        for line in LedgerReader(self._layout.root, files=self._files).entries(self._stream):
            if line.problem in ("torn", "unreadable"):
                return
            parts = None if line.record is None or line.mac is None else (line.record, line.mac, line.detail)
            if (proved := self._proved(parts)) is not None:
                yield proved

    def _proved(self, parts: tuple[bytes, str, bytes | None] | None) -> Proved | None:
        """Return the record of a new line that the library wrote, or ``None``."""
        if not parts or not self._mac.fits(parts[0], parts[1]):
            self.rejected += 1
            return None
        body = parts[0]
        try:
            record = decode(body)
        except ValueError:  # The MAC says that we wrote it, and yet it is of another version, or of a defect of ours.
            self.rejected += 1
            return None
        seq = record.stream.number
        if seq <= self.seq:
            return None
        self.seq = seq
        return Proved(seq, body, record)

    def _whole_lines(self, fd: int, size: int) -> int:
        """Return the size if it ends a line; otherwise a size that the file will never have again."""
        if size:
            self._files.seek(fd, size - 1)
            if self._files.read(fd, 1) != _NEWLINE:
                return 0
        return size


def is_over(files: Files, layout: Layout, stream: str) -> bool:
    """Return whether no process writes to a stream any more.

    The last records of a process that died just now may not have been read: ask first, then read.
    """
    try:
        fd = open_regular(files, layout.lock(stream), READ)
    except FileNotFoundError:
        return True  # A copy of a stream, of which no one kept what belongs to running processes.
    except OSError:
        return False
    try:
        files.lock(fd)
        files.unlock(fd)
    except OSError:
        return False
    finally:
        files.close(fd)
    return True
