"""What was read of a ledger is kept in a file, so that a verification that was stopped goes on where it was.

The file has what :mod:`~agent_identity.audit.parts` found, by the SHA-256 of the very bytes that were read. They are
read and hashed again each time, so that a ledger that was changed meanwhile finds nothing in it, and is verified like
any other. Checkpoint, log, heads, chains of grants and all that concerns more than one part are verified each time.
Whoever can write the file can make it say that a part is without fault: it belongs to the verifier alone, like the
program itself, and a file that others can write or own is refused. So is a folder in which they can make files: SQLite
takes what lies beside a file under certain names for a part of it.
"""

import base64
import hashlib
import os
import sqlite3
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final, cast

import orjson

from agent_identity.audit.calls_check import CallsPart
from agent_identity.audit.parts import Found, Work, read_work
from agent_identity.audit.stream_check import StreamPart
from agent_identity.audit.use_store import Packed
from agent_identity.errors import ConfigurationError
from agent_identity.identity import check_path
from agent_identity.version import VERSION

__all__ = ["check_state", "read_or_remember"]

_TABLE: Final = "CREATE TABLE IF NOT EXISTS parts (key BLOB PRIMARY KEY, found BLOB NOT NULL)"
_CHUNK: Final = 1024 * 1024
_WAIT: Final = 30.0  # Seconds for another process that writes.
_BESIDE: Final = ("-journal", "-wal", "-shm")  # What SQLite takes for its own, whoever made it.
_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH


def check_state(path: str | os.PathLike[str]) -> str:
    """Return the path of a state file that is fit for use, having made it if there is none.

    Raises:
        ConfigurationError: It is no regular file, belongs to another user, can be written by others, or is no state;
            or others can put files beside it, which SQLite would read as parts of it.
    """
    check_path(path)
    # A folder that is a link is judged, and opened from here on, as what it leads to.
    folder, base = os.path.split(os.path.abspath(path))  # noqa: PTH100  The last link is not resolved.
    name = os.path.join(os.path.realpath(folder), base)  # noqa: PTH118
    try:
        _check_folder(Path(name).parent)
        for suffix in _BESIDE:
            _check_own(name + suffix)
        os.close(os.open(name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
        _check_own(name)
    except OSError as error:
        raise ConfigurationError(f"expected a state file at {name!r}, got '{error.strerror}'; check the path") from None
    try:
        file = sqlite3.connect(name, timeout=_WAIT)
        file.execute(_TABLE)
        file.close()
    except sqlite3.Error:
        raise ConfigurationError(f"expected a state file at {name!r}, got another file; remove it") from None
    return name


def _check_folder(folder: Path) -> None:
    """Refuse a folder in which others can make files, or that they can exchange for another one."""
    for place in (folder, *folder.parents):
        status = place.stat()
        # In a folder with the sticky bit nobody renames what is not theirs; but anybody puts something beside it.
        held = place != folder and status.st_mode & stat.S_ISVTX
        if status.st_uid not in (0, os.geteuid()) or (status.st_mode & _OTHERS_WRITE and not held):
            raise ConfigurationError(
                f"expected a folder for the state file that only you can write, got {str(place)!r}; take one of your "
                "own, or say chmod go-w"
            )


def _check_own(name: str) -> None:
    """Refuse a file that others made, can open or reach by another name; one that is not there is fine."""
    try:
        status = Path(name).lstat()
    except FileNotFoundError:
        return
    if (
        not stat.S_ISREG(status.st_mode)
        or status.st_uid != os.geteuid()
        or status.st_mode & 0o077
        or status.st_nlink != 1
    ):
        raise ConfigurationError(
            f"expected a state file of your own that nobody else can open at {name!r}, got another; remove it, or "
            "say chmod 600 if you know where it comes from"
        )


def read_or_remember(work: Work, *, state: str) -> tuple[Work, Found | None]:
    """Read a part as :func:`~agent_identity.audit.parts.read_work` does, unless its very bytes were read before.

    Args:
        work: The part.
        state: The path of the state file.
    """
    try:
        key = _key(work)
        file = sqlite3.connect(state, timeout=_WAIT)
    except (OSError, sqlite3.Error):
        return read_work(work)
    try:
        row = file.execute("SELECT found FROM parts WHERE key = ?", (key,)).fetchone()
        known = None if row is None else _unpacked(row[0], work.committed)
        if known is not None:
            return work, known
        result = read_work(work)
        # Bytes that were changed between the two reads are not those of the key.
        if result[1] is not None and result[1].part is not None and _key(work) == key:
            with file:
                file.execute("INSERT OR REPLACE INTO parts VALUES (?, ?)", (key, _packed(result[1], work.committed)))
    except (OSError, sqlite3.Error, ValueError, TypeError, KeyError):
        return read_work(work)
    finally:
        file.close()
    return result


def _key(work: Work) -> bytes:
    """Return a hash of all on which what is found in a part depends."""
    piece = work.piece
    digest = hashlib.sha256()
    about = (VERSION, work.stream, piece.start, piece.stop, work.pruned)
    digest.update(orjson.dumps(about) + b"\n")
    with open(os.open(piece.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb", buffering=0) as file:  # noqa: PTH123  No link.
        # The byte before tells where the first line begins, and the last one may go on behind the piece.
        file.seek(max(0, piece.start - 1))
        left = None if piece.stop is None else piece.stop - max(0, piece.start - 1)
        while left is None or left > 0:
            data = file.read(_CHUNK if left is None else min(_CHUNK, left))
            if not data:
                break
            digest.update(data)
            left = None if left is None else left - len(data)
        rest = file.read(_CHUNK) if left is not None else b""
        while rest:
            head, newline, _ = rest.partition(b"\n")
            digest.update(head + newline)
            rest = b"" if newline else file.read(_CHUNK)
    return digest.digest()


def _packed(found: Found, committed: int) -> bytes:
    part = cast("StreamPart", found.part)
    calls = part.calls
    return orjson.dumps(
        {
            "found": [found.start, found.end, committed],
            "part": [
                *(part.first, _text(part.prev), part.last, _text(part.last_hash), _text(part.last_id), part.ended),
                *(_base64(part.leaves), _base64(part.times), part.kinds),
            ],
            "calls": [
                *([[_text(use.grants), _text(use.data)] for use in calls.uses], calls.tokens),
                *(list(map(_text, calls.open)), [[_text(one), _text(two)] for one, two in calls.deferred]),
                *(calls.outcomes, calls.counts, calls.later, _text(calls.lowest), _text(calls.highest)),
            ],
        }
    )


def _unpacked(data: bytes, committed: int) -> Found | None:
    """Return what was found, or ``None`` if it was counted while the log committed to fewer of these records."""
    kept = cast("dict[str, list[object]]", orjson.loads(data))
    start, end, then = cast("list[int]", kept["found"])
    if then != committed and cast("int", kept["part"][2]) > min(then, committed):
        return None
    first, prev, last, last_hash, last_id, ended, leaves, times, kinds = kept["part"]
    uses, tokens, waiting, deferred, outcomes, counts, later, lowest, highest = kept["calls"]
    calls = CallsPart(
        [Packed(grants.encode(), use.encode()) for grants, use in cast("list[tuple[str, str]]", uses)],
        [(leaf, token) for leaf, token in cast("list[tuple[str, str]]", tokens)],
        [call.encode() for call in cast("list[str]", waiting)],
        [(one.encode(), two.encode()) for one, two in cast("list[tuple[str, str]]", deferred)],
        cast("Mapping[str, int]", outcomes),
        cast("Mapping[str, int]", counts),
        [(record, tuple(place)) for record, place in cast("list[tuple[Mapping[str, object], list[object]]]", later)],
        cast("str", lowest).encode(),
        cast("str", highest).encode(),
    )
    part = StreamPart(
        cast("int", first),
        cast("str", prev).encode(),
        cast("int", last),
        cast("str", last_hash).encode(),
        None if last_id is None else cast("str", last_id).encode(),
        bool(ended),
        base64.b64decode(cast("str", leaves)),
        base64.b64decode(cast("str", times)),
        cast("Mapping[str, int]", kinds),
        calls,
    )
    return Found(start, end, part)


def _text(data: bytes | None) -> str | None:
    return None if data is None else data.decode()


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
