"""Auditor's reader of an evidence directory: trusts nothing, and returns problems as values."""

import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeAlias, final

from agent_identity._identity.common.ids import bytes_of_id
from agent_identity._ledger.segments import Segment, first_place, read_segment, read_stream, segments_of, stream_blocks
from agent_identity._ledger.transparency.bootstrap import log_was_removed, stream_names
from agent_identity._ledger.transparency.log import Head, read_checkpoint
from agent_identity._storage.layout import GRANTS_NAME, Layout, is_stream_id
from agent_identity._storage.lines import Block, Line, leaf_of, log_parts, read_lines, stream_parts
from agent_identity._storage.os_files import READ, Files, open_regular, why
from agent_identity.errors import VerificationError

if TYPE_CHECKING:
    from agent_identity._ledger.excerpt_starts import Start
    from agent_identity._ledger.prune_statement import KeptState, PruneStatement

Problem: TypeAlias = Literal["malformed", "too_long", "torn", "unreadable", "withheld"]
"""Why a line could not be taken apart.

``withheld``: it holds the leaf hash of a record and nothing else, as in an excerpt.

``malformed``: it has not the form of such a line; ``too_long``: more than 4 MiB; ``torn``: the file ends
inside it; ``unreadable``: the file, from here on, cannot be read. At offset 0 there may be no file at all, as
when a process died before its first record, or when someone took it away: the log tells which.
"""

_Part: TypeAlias = Literal["log", "ledger", "stream", "outside"]
_READABLE: Final = re.compile(rf"entries(?:-[0-9]{{20}})?\.jsonl(?:\.gz)?|pruned|closure|{GRANTS_NAME.pattern}")
_WITNESSED: Final = re.compile(r"[0-9a-f]{16}\.checkpoint")
_ANCHORED: Final = re.compile(r"[0-9]{19}-[0-9a-f]{16}\.tsr")
_MAX_WITNESSED: Final = 256
_MAX_ANCHORED: Final = 10_000
MAX_EXCERPT: Final = 16 * 1024 * 1024
"""Bytes that the file of an excerpt may have."""


_PartsOf: TypeAlias = Callable[[bytes], tuple[bytes, str] | tuple[bytes, str, bytes | None] | None]


class RawLine(NamedTuple):
    """One unverified line of a file.

    Attributes:
        offset: Bytes before it in the log, or in the stream as far as that is there, decompressed.
        record: The bytes of its record (in the log: of its entry), or ``None`` with a problem.
        mac: Its MAC, or ``None`` with a problem; of a record that is withheld, its leaf hash.
        problem: Why there is no record, or ``None``.
        size: Of a torn line, its bytes.
        detail: The bytes of the detail of its record, if it has one.
    """

    offset: int
    record: bytes | None
    mac: str | None
    problem: Problem | None
    size: int = 0
    detail: bytes | None = None


class Denied(NamedTuple):
    """A file or folder that this user may not read, so that its content is unknown.

    Attributes:
        path: Its path.
        why: The system's error text.
        part: What it belongs to: the ``log``, the list of streams (``ledger``), a ``stream``, or what parties outside
            said (``outside``).
        stream: The id of the stream, if it is of one.
    """

    path: str
    why: str
    part: _Part
    stream: str | None = None


@final
class LedgerReader:
    """Reads one evidence directory, live or at rest, with bounded memory; never raises on bad content.

    Args:
        directory: The evidence directory.
        archive: An archive of it, which has the segments that it has not any more.
        files: The operating system; tests inject faults here.
    """

    __slots__ = ("_archive", "_files", "_given", "_layout")

    def __init__(
        self,
        directory: "str | os.PathLike[str]",
        *,
        archive: "str | os.PathLike[str] | None" = None,
        files: Files | None = None,
    ) -> None:
        self._archive = None if archive is None else Layout.of(archive)
        self._files = files or Files()
        self._layout = Layout.of(directory)
        self._given: Mapping[str, Start] | None = None

    def streams(self) -> tuple[str, ...]:
        """Return the ids of the streams that have a folder, sorted, which is the order of their start."""
        try:
            return stream_names(self._files, self._layout)
        except OSError:
            return ()

    def denied(self) -> tuple[Denied, ...]:
        """Return the unreadable files of the directory and its archive, keys apart; checked anew each time."""
        own = self._layout
        problems = [denied for path in (own.checkpoint, own.log_entries) for denied in self._opens(path, "log")]
        problems += self._opens(own.excerpt, "ledger")
        for folder in (own.witnesses, own.anchors):
            for name in self._listed(folder, "outside", None, problems):
                problems += self._opens(f"{folder}/{name}", "outside")
        for stream in sorted(
            filter(is_stream_id, self._listed(own.streams, "ledger", None, problems)), key=bytes_of_id
        ):
            for folder in self._folders(stream):
                for name in self._listed(folder, "stream", stream, problems):
                    if _READABLE.fullmatch(name):
                        problems += self._opens(f"{folder}/{name}", "stream", stream)
        return tuple(problems)

    def _listed(self, folder: str, part: _Part, stream: str | None, problems: list[Denied]) -> list[str]:
        try:
            return self._files.listdir(folder)
        except PermissionError as error:
            problems.append(Denied(folder, why(error), part, stream))
        except OSError:  # What is not there, or no folder, is judged where it is needed.
            pass
        return []

    def _opens(self, path: str, part: _Part, stream: str | None = None) -> Iterator[Denied]:
        try:
            self._files.close(open_regular(self._files, path, READ))
        except PermissionError as error:
            yield Denied(path, why(error), part, stream)
        except OSError:
            pass

    def entries(self, stream: str, *, start: int | None = None) -> Iterator[RawLine]:
        """Return the lines of a stream over its segments, in order, each once.

        Args:
            stream: The id of a stream; of one without a file, or no id at all, a single ``unreadable``
                line is returned.
            start: Segments are left out whose first record stands before this place, by default before the one where
                the stream begins (:meth:`begins_behind`): nothing proves what is told there.
        """
        if not is_stream_id(stream):  # It may come from a log entry, and must not lead out of the directory.
            return iter((RawLine(0, None, None, "unreadable"),))
        if start is None:
            before = self.begins_behind(stream)
            start = 1 if before is None else before.size + 1
        lines = read_stream(self._files, self._folders(stream), self._layout.entries(stream), start=start)
        return _split(lines, stream_parts)

    def blocks(self, stream: str, *, start: int = 1) -> Iterator[Block | RawLine]:
        """Return the lines of a stream as :meth:`entries` does, but in blocks, each as it stands in the file.

        Args:
            stream: The id of a stream.
            start: Segments are left out whose first record stands before this place.
        """
        if not is_stream_id(stream):
            yield RawLine(0, None, None, "unreadable")
            return
        end = 0
        try:
            for block in stream_blocks(self._files, self._folders(stream), self._layout.entries(stream), start=start):
                end = block.end
                yield block
        except OSError:
            yield RawLine(end, None, None, "unreadable")

    def segments(self, stream: str) -> tuple[Segment, ...]:
        """Return the files of a stream, in their order; none if they cannot be listed."""
        if is_stream_id(stream):
            with suppress(OSError):
                return segments_of(self._files, self._folders(stream), self._layout.entries(stream))
        return ()

    def lines_of(self, segment: Segment) -> Iterator[Line]:
        """Return the lines of one segment.

        Raises:
            OSError: It cannot be read, or is damaged.
        """
        fd = open_regular(self._files, segment.path, READ)
        try:
            for block in read_segment(self._files, fd, segment.compression):
                yield from block.each()
        finally:
            self._files.close(fd)

    def first_place(self, stream: str) -> int | None:
        """Return the place of the first existing record of a stream, or ``None`` if none can be read."""
        if is_stream_id(stream):
            with suppress(OSError):
                return first_place(self._files, self._folders(stream), self._layout.entries(stream))
        return None

    def begins_behind(self, stream: str) -> "PruneStatement | Start | None":
        """Return the state before the first given record of a stream that does not begin with its first.

        As an excerpt says it, or the statement of what was pruned, unverified. A statement counts only where
        the first record is gone.
        """
        if self._given is None:
            self._given = _given(self.excerpt())
        if stream in self._given:
            return self._given[stream]
        note = self.pruned(stream)
        if note is not None and self.first_place(stream) != 1:
            from agent_identity._ledger.prune_statement import unverified_pruned  # Few streams are pruned.

            with suppress(VerificationError):
                return unverified_pruned(note)
        return None

    def pruned(self, stream: str) -> bytes | None:
        """Return the signed pruning statement of a stream, or ``None`` if none can be read."""
        if is_stream_id(stream):
            with suppress(OSError):
                return read_checkpoint(self._files, self._layout.pruned(stream))
        return None

    def closure(self, stream: str) -> bytes | None:
        """Return the signed closure of a stream, or ``None`` if none can be read."""
        if is_stream_id(stream):
            with suppress(OSError):
                return read_checkpoint(self._files, self._layout.closure(stream))
        return None

    def kept_grants(self, pruned: "PruneStatement") -> "tuple[tuple[str, ...], KeptState]":
        """Return the kept grants of pruned records, and whether they match the statement.

        Args:
            pruned: The statement.
        """
        from agent_identity._ledger.prune_statement import read_kept

        try:
            return read_kept(self._files, self._layout.grants(pruned.stream, pruned.kept.digest), pruned.kept)
        except OSError:
            return (), "missing"

    def excerpt(self) -> bytes | None:
        """Return the excerpt description of the directory, or ``None`` if it is not an excerpt."""
        with suppress(OSError):
            fd = open_regular(self._files, self._layout.excerpt, READ)
            try:
                if self._files.status(fd).st_size > MAX_EXCERPT:
                    return b""
                return b"".join(iter(lambda: self._files.read(fd, MAX_EXCERPT), b""))
            finally:
                self._files.close(fd)
        return None

    def _folders(self, stream: str) -> tuple[str, ...]:
        own = self._layout.stream(stream)
        return (own,) if self._archive is None else (own, self._archive.stream(stream))

    def sealed_sizes(self) -> Mapping[str, int]:
        """Return the record count of each stream in the log entries, unverified."""
        sizes: dict[str, int] = {}
        for line in self.log_entries():
            if line.record is not None:
                with suppress(ValueError):
                    head = Head.from_entry(line.record)[0]
                    sizes[head.stream] = max(head.size, sizes.get(head.stream, 0))
        return sizes

    def log_entries(self) -> Iterator[RawLine]:
        """Return the lines of the log, in their order."""
        return _split(self._log_lines(), log_parts)

    def checkpoint(self) -> bytes | None:
        """Return the signed checkpoint (at most 64 KiB and one byte), or ``None`` if it cannot be read."""
        with suppress(OSError):
            return read_checkpoint(self._files, self._layout.checkpoint)
        return None

    def rejected_bytes(self) -> int:
        """Return the size of the files of lines rejected from the log; 0 without any."""
        size = 0
        for path in self._layout.log_rejected:
            with suppress(OSError):
                fd = open_regular(self._files, path, READ)
                try:
                    size += self._files.status(fd).st_size
                finally:
                    self._files.close(fd)
        return size

    def witnessed(self) -> Iterator[bytes]:
        """Return the readable checkpoints that witnesses cosigned, at most 256."""
        for name in self._names(self._layout.witnesses, _WITNESSED)[:_MAX_WITNESSED]:
            with suppress(OSError):
                yield read_checkpoint(self._files, f"{self._layout.witnesses}/{name}") or b""

    def anchored(self) -> Iterator[tuple[bytes, bytes]]:
        """Return the anchored checkpoints, each with its time-stamp, the latest first; at most 10,000."""
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
        """Return whether a used directory has no checkpoint, which no crash causes."""
        try:
            return log_was_removed(self._files, self._layout)
        except OSError:
            return False

    def _log_lines(self) -> Iterator[Line]:
        fd = open_regular(self._files, self._layout.log_entries, READ)
        try:
            yield from read_lines(self._files, fd)
        finally:
            self._files.close(fd)


def _given(excerpt: bytes | None) -> "Mapping[str, Start]":
    """Return the excerpted parts; empty without an excerpt, or with a malformed one, which a verification reports."""
    if excerpt is not None:
        from agent_identity._ledger.excerpt_starts import Excerpt  # Few directories are excerpts.

        with suppress(ValueError):
            return Excerpt.from_bytes(excerpt).streams
    return {}


def _split(lines: Iterator[Line], parts_of: _PartsOf) -> Iterator[RawLine]:
    end = 0
    try:
        for line in lines:
            end = line.end
            yield raw_line(line, parts_of)
    except OSError:
        yield RawLine(end, None, None, "unreadable")


def raw_line(line: Line, parts_of: _PartsOf = stream_parts) -> RawLine:
    """Return the parts of a line.

    Args:
        line: The line.
        parts_of: Returns its record, its MAC and perhaps its detail; by default those of a line of a stream.
    """
    if line.torn:
        return RawLine(line.offset, None, None, "torn", line.end - line.offset)
    if line.data is None:
        return RawLine(line.offset, None, None, "too_long")
    parts = parts_of(line.data)
    if parts is not None:
        return RawLine(line.offset, parts[0], parts[1], None, detail=parts[2] if len(parts) == 3 else None)
    leaf = leaf_of(line.data)
    return RawLine(line.offset, None, leaf, "malformed" if leaf is None else "withheld")


def open_ledger(
    directory: "str | os.PathLike[str]",
    *,
    archive: "str | os.PathLike[str] | None" = None,
    files: Files | None = None,
) -> LedgerReader:
    """Return a reader of an evidence directory, existing or not; see :class:`LedgerReader`."""
    return LedgerReader(directory, archive=archive, files=files)
