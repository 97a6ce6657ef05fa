"""Export cursors: the position of each receiver in each stream, stored in the evidence directory.

The place of a stream moves on only after the receiver has acknowledged what lies before it, and in one step, so
that a crash at any moment costs copies that are sent twice, and never one that is not sent.
"""

import contextlib
import hashlib
import re
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Final, Self, final

import orjson

from agent_identity._common.narrowing import text_of
from agent_identity._directory.export.export_queue import count_spans
from agent_identity._ledger.follow import is_over
from agent_identity._ledger.transparency.bootstrap import stream_names
from agent_identity._storage.layout import Layout, is_stream_id
from agent_identity._storage.os_files import (
    EDIT,
    EXTEND,
    READ,
    Files,
    make_folder,
    open_regular,
    recording,
    write_beside,
    write_whole,
)
from agent_identity.canonical import JSON

_VERSION: Final = "1"
_ASIDE: Final = ("stream", "seq", "record", "reason")
_MOST: Final = 1024 * 1024  # Bytes that are read of a small file.
_SHOWN: Final = 256
_PLACE: Final = re.compile(r"[0-9]{1,19}")


@final
@dataclass(frozen=True, slots=True)
class Cursor:
    """The position of a receiver in one stream.

    Attributes:
        seq: Everything up to this place in the stream is acknowledged or set aside.
        done: So is everything that the stream will ever hold.
    """

    seq: int = 0
    done: bool = False


@final
@dataclass(frozen=True, slots=True)
class Aside:
    """A record that a receiver rejects.

    Attributes:
        stream: The id of its stream.
        seq: Its place there.
        record: Its id.
        reason: Why, in one line.
    """

    stream: str
    seq: int
    record: str
    reason: str


@final
class Cursors:
    """The positions of one receiver in all streams.

    Args:
        files: The operating system.
        layout: The evidence directory.
        name: The folder of the receiver.
    """

    __slots__ = ("_files", "_folder", "_layout", "_lock_fd", "name")

    def __init__(self, files: Files, layout: Layout, name: str) -> None:
        self.name = name
        self._files = files
        self._layout = layout
        self._folder = f"{layout.exports}/{name}"
        self._lock_fd = -1

    @classmethod
    def of(cls, files: Files, layout: Layout, receiver: str) -> Self:
        """Return the cursors of a receiver, and store its name for listings.

        Args:
            files: The operating system.
            layout: The evidence directory.
            receiver: Its address and what it gets; the same text is the same receiver. It holds no secret.

        Raises:
            EvidenceError: The directory cannot be written.
        """
        cursors = cls(files, layout, hashlib.sha256(receiver.encode()).hexdigest()[:16])
        with recording("keep the place of an export"):
            make_folder(files, cursors._folder, 0o755)
            if cursors.receiver != receiver:  # Processes that begin together write it together, each its own file.
                unshared = f"{cursors._folder}/receiver.{files.random(8).hex()}.new"
                members = orjson.dumps({"receiver": receiver, "v": _VERSION})
                try:
                    write_beside(files, f"{cursors._folder}/receiver", members, unshared)
                except OSError:
                    with contextlib.suppress(OSError):  # No one else would write this one again.
                        files.unlink(unshared)
                    raise
        return cursors

    @contextlib.contextmanager
    def alone(self) -> Generator[bool]:
        """Yield whether this process is the only sender to the receiver, for the duration of the block.

        Raises:
            EvidenceError: The directory cannot be written.
        """
        with recording("keep the place of an export"):
            fd = open_regular(self._files, f"{self._folder}/lock", EDIT)
        try:
            try:
                self._files.lock(fd)
            except BlockingIOError:
                yield False
                return
            self._lock_fd = fd
            yield True
        finally:
            self._lock_fd = -1
            self._files.close(fd)

    def drop(self) -> None:
        """Close the lock without releasing it, in a forked child: the parent holds it."""
        if self._lock_fd >= 0:
            self._files.close(self._lock_fd)
            self._lock_fd = -1

    @property
    def receiver(self) -> str:
        """The name of the receiver, empty if it cannot be read."""
        return str(self._read("receiver").get("receiver", ""))

    def get(self, stream: str) -> Cursor:
        """Return the position in a stream; the beginning for an unknown stream."""
        members = self._read(stream)
        seq = members.get("seq")
        if not isinstance(seq, str) or not _PLACE.fullmatch(seq):
            return Cursor()
        return Cursor(int(seq), members.get("done") is True)

    def set(self, stream: str, cursor: Cursor) -> None:
        """Store the position in a stream.

        Raises:
            EvidenceError: It could not be noted.
        """
        members = {"done": cursor.done, "seq": str(cursor.seq), "v": _VERSION}
        with recording("keep the place of an export"):
            write_beside(self._files, f"{self._folder}/{stream}", orjson.dumps(members))

    def set_aside(self, aside: Aside) -> None:
        """Store a record that is not sent again; call this before the position moves past it.

        Raises:
            EvidenceError: It could not be noted.
        """
        members = {
            "record": aside.record,
            "reason": aside.reason[:_SHOWN],
            "seq": str(aside.seq),
            "stream": aside.stream,
        }
        with recording("note what a receiver does not take"):
            fd = open_regular(self._files, f"{self._folder}/aside.jsonl", EXTEND)
            try:
                write_whole(self._files, fd, b"\n" + orjson.dumps(members))  # After what a crash may have cut.
                self._files.fdatasync(fd)
            finally:
                self._files.close(fd)

    def aside(self) -> Iterator[Aside]:
        """Yield the records that were set aside; a line torn by a crash is left out."""
        for line in self._bytes("aside.jsonl", 16 * _MOST).split(b"\n"):
            with contextlib.suppress(ValueError, TypeError):
                members: JSON = orjson.loads(line)
                if isinstance(members, dict):
                    stream, seq, record, reason = (text_of(members, name) for name in _ASIDE)
                    yield Aside(stream, int(seq), record, reason)

    def behind(self) -> int:
        """Return the number of spans still to send; reads every stream that the receiver does not have in full.

        Raises:
            OSError: The streams cannot be listed.
        """
        places = ((name, self.get(name)) for name in stream_names(self._files, self._layout))
        return sum(
            count_spans(
                self._files, self._layout, name, after=cursor.seq, over=is_over(self._files, self._layout, name)
            )
            for name, cursor in places
            if not cursor.done
        )

    def forget(self) -> None:
        """Reset all positions, so that everything is sent again.

        Raises:
            EvidenceError: The directory cannot be written.
        """
        with recording("begin an export anew"):
            for name in self._files.listdir(self._folder):
                if is_stream_id(name) or name == "aside.jsonl":
                    self._files.unlink(f"{self._folder}/{name}")

    def _read(self, name: str) -> dict[str, JSON]:
        with contextlib.suppress(ValueError):
            members: JSON = orjson.loads(self._bytes(name, _MOST))
            if isinstance(members, dict):
                return members
        return {}

    def _bytes(self, name: str, most: int) -> bytes:
        try:
            fd = open_regular(self._files, f"{self._folder}/{name}", READ)
        except OSError:
            return b""
        try:
            parts: list[bytes] = []
            while most > 0 and (part := self._files.read(fd, min(most, _MOST))):
                parts.append(part)
                most -= len(part)
            return b"".join(parts)
        except OSError:
            return b""
        finally:
            self._files.close(fd)


def destinations(files: Files, layout: Layout) -> tuple[Cursors, ...]:
    """Return the cursors of every known receiver, in no particular order."""
    try:
        names = sorted(files.listdir(layout.exports))
    except OSError:
        return ()
    return tuple(Cursors(files, layout, name) for name in names)
