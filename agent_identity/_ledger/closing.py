"""Closes the streams of dead processes without a key of the directory: a closer says what it saw, and no more."""

import contextlib
from collections.abc import Mapping
from typing import Final, NamedTuple

from agent_identity._common.narrowing import is_mapping
from agent_identity._identity.keys.keys import Signer
from agent_identity._ledger._recovery import DeadStream
from agent_identity._ledger.closure import Closure, unverified_closure
from agent_identity._ledger.prunable_prefix import read_heads
from agent_identity._ledger.reader import LedgerReader
from agent_identity._ledger.settled import unsettled
from agent_identity._ledger.transparency.log import read_checkpoint
from agent_identity._record.codec import plain_members
from agent_identity._storage.layout import Layout
from agent_identity._storage.os_files import Files, recording, sync_folder, write_beside
from agent_identity.errors import VerificationError

_ALTERED: Final = "its records are not those that the log commits to; run the verification"
_RECOVERED: Final = b'"kind":"recovered"'


class Closed(NamedTuple):
    """What became of the stream of a dead process.

    Attributes:
        stream: The id of the stream.
        size: The place of the last record that was seen.
        sealed: The number of records that its own process had sealed.
        problem: Why it was not closed, or ``None``.
    """

    stream: str
    size: int
    sealed: int
    problem: str | None = None


def close_dead(files: Files, directory: str, closer: Signer, *, time_ns: int) -> tuple[Closed, ...]:
    """Write a closure beside each stream whose lock is free and whose end is not sealed.

    Streams that a process holds, that a start recovered, or that have the same closure already are left alone.

    Args:
        files: The operating system.
        directory: The evidence directory.
        closer: A key of the purpose ``closer``.
        time_ns: The time now, in nanoseconds since the Unix epoch.

    Raises:
        VerificationError: The log is not what its checkpoint commits to.
        EvidenceError: A closure cannot be written.
    """
    layout = Layout.of(directory)
    reader = LedgerReader(directory, files=files)
    checkpoint, heads = read_heads(reader)
    done: list[Closed] = []
    with recording("close streams of dead processes"):
        for name in unsettled(files, layout):
            head = heads[name][-1] if name in heads else None
            with contextlib.ExitStack() as held:
                dead = DeadStream.seize(files, layout, None, name, sealed=head, stack=held)
                # Looked at while the lock is held: a start may have recovered the stream until then.
                if dead is None or dead.clean() or not dead.tree.size + dead.rejected_bytes or name in _named(reader):
                    continue
                seen = Closed(name, dead.tree.size, 0 if head is None else head.size)
                if seen.size < max(1, seen.sealed):
                    done.append(seen._replace(problem=_ALTERED))
                    continue
                closure = _closure(dead, checkpoint.origin, time_ns)
                if not _same(read_checkpoint(files, layout.closure(name)), closure):
                    write_beside(files, layout.closure(name), closure.signed(closer))
                    sync_folder(files, layout.stream(name))
                    done.append(seen)
    return tuple(done)


def _closure(dead: DeadStream, origin: str, time_ns: int) -> Closure:
    return Closure(
        origin=origin,
        stream=dead.name,
        size=dead.tree.size,
        root=dead.tree.root(),
        torn=dead.torn_bytes,
        time_ns=time_ns,
    )


def _same(note: bytes | None, closure: Closure) -> bool:
    """Return whether a note says the same about a stream, at an earlier time perhaps."""
    with contextlib.suppress(VerificationError):
        there = None if note is None else unverified_closure(note)
        return there is not None and (there.size, there.root, there.torn) == (closure.size, closure.root, closure.torn)
    return False


def _named(reader: LedgerReader) -> Mapping[object, None]:
    """Return the streams that starts have recovered, as records say."""
    lines = (line.record for stream in reader.streams() for line in reader.entries(stream))
    found: dict[object, None] = {}
    for record in lines:
        if record is not None and _RECOVERED in record:
            with contextlib.suppress(ValueError):
                stated = plain_members(record).get("recovered")
                found[stated.get("stream") if is_mapping(stated) else None] = None
    return found
