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
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Final, TypeVar, cast, final

import orjson

from agent_identity.audit.calls_check import CallsPart
from agent_identity.audit.parts import Found, Work, read_work
from agent_identity.audit.spreading import Spread
from agent_identity.audit.stream_check import StreamPart
from agent_identity.audit.use_store import Packed
from agent_identity.errors import ConfigurationError
from agent_identity.evidence.merkle import HASH_SIZE
from agent_identity.identity import check_path
from agent_identity.version import VERSION

__all__ = ["Used", "check_state", "read_or_remember"]

_T = TypeVar("_T")
_R = TypeVar("_R")

_TABLE: Final = "CREATE TABLE IF NOT EXISTS parts (key BLOB PRIMARY KEY, found BLOB NOT NULL)"
_CHUNK: Final = 1024 * 1024
_SIZE: Final = 32  # Bytes of the digest before what was found.
_TIME: Final = 8  # Bytes of a time.
_WAIT: Final = 30.0  # Seconds for another process that writes.
_BESIDE: Final = ("-journal", "-wal", "-shm")  # What SQLite takes for its own, whoever made it.
_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH


def check_state(path: str | os.PathLike[str], *, apart_from: str = "") -> str:
    """Return the path of a state file that is fit for use, having made it if there is none.

    Args:
        path: The path.
        apart_from: The evidence directory, which is no place for it.

    Raises:
        TypeError: It is no path.
        ConfigurationError: It is no regular file, belongs to another user, can be written by others, or is no state;
            or others can put files beside it, which SQLite would read as parts of it.
    """
    given = cast("object", path)
    if not isinstance(given, str | os.PathLike) or not isinstance(cast("object", os.fspath(path)), str):
        raise TypeError(f"expected the path of a state file, got {type(path).__name__}; pass a str or a Path")
    check_path(path)
    # A folder that is a link is judged, and opened from here on, as what it leads to.
    folder, base = os.path.split(os.path.abspath(path))  # noqa: PTH100  The last link is not resolved.
    name = os.path.join(os.path.realpath(folder), base)  # noqa: PTH118
    if apart_from and Path(os.path.realpath(apart_from)) in Path(name).parents:
        raise ConfigurationError("expected a state file outside of the evidence directory, got one in it; move it")
    try:
        _check_folder(Path(name).parent)
        for suffix in _BESIDE:
            _check_own(name + suffix)
        os.close(os.open(name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
        _check_own(name)
    except OSError as error:
        raise ConfigurationError(f"expected a state file at {name!r}, got '{error.strerror}'; check the path") from None
    try:
        with closing(sqlite3.connect(name, timeout=_WAIT)) as file:
            file.execute(_TABLE)
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
        with closing(sqlite3.connect(state, timeout=_WAIT)) as file:
            known = _known(file, key, work)
            if known is not None:
                return work, known
            result = read_work(work)
            # Bytes that were changed between the two reads are not those of the key.
            if result[1] is not None and result[1].part is not None and _key(work) == key:
                data = _packed(result[1], work.committed)
                with file:
                    row = (key, _digest(key, data) + data)
                    file.execute("INSERT OR REPLACE INTO parts VALUES (?, ?)", row)
                return work, result[1]._replace(key=key)
            return result
    except Exception:  # noqa: BLE001  Whatever is wrong with the state, it is no help, and no harm.
        return read_work(work)


@final
class Used:
    """Which entries of a state a run used, to remove all others at its end.

    Args:
        state: The path of the state file.
        spread: Has the work done.
    """

    def __init__(self, state: str, spread: Spread) -> None:
        self._state, self._spread = state, spread
        self._keys: set[bytes] = set()

    def __call__(self, function: Callable[[_T], _R], items: Iterable[_T], /) -> Iterator[_R]:
        """Return the results, as :class:`~agent_identity.audit.spreading.Spread` does."""
        for result in self._spread(function, items):
            self._note(result)
            yield result

    def _note(self, result: object) -> None:
        match result:
            case (Work(), Found() as found) if found.key:
                self._keys.add(found.key)
            case _:
                pass

    def keep(self) -> None:
        """Remove what was not used, so that the state does not grow with every run; none used say nothing."""
        if not self._keys:
            return
        with suppress(sqlite3.Error), closing(sqlite3.connect(self._state, timeout=_WAIT)) as file, file:
            unused = [row for row in file.execute("SELECT key FROM parts") if row[0] not in self._keys]
            file.executemany("DELETE FROM parts WHERE key = ?", unused)


def _known(file: sqlite3.Connection, key: bytes, work: Work) -> Found | None:
    """Return what is kept of a part, or ``None`` if nothing is that can be used."""
    try:
        row = file.execute("SELECT found FROM parts WHERE key = ?", (key,)).fetchone()
        if row is None or row[0][:_SIZE] != _digest(key, row[0][_SIZE:]):
            return None
        found = _unpacked(row[0][_SIZE:], work.committed)
    except Exception:  # noqa: BLE001  An entry that cannot be read is none.
        return None
    return None if found is None else found._replace(key=key)


def _digest(key: bytes, data: bytes) -> bytes:
    return hashlib.sha256(key + data).digest()


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
        begins = piece.start == 0
        while left is None or left > 0:
            data = file.read(_CHUNK if left is None else min(_CHUNK, left))
            if not data:
                break
            digest.update(data)
            left = None if left is None else left - len(data)
            begins = begins or data.find(b"\n", 0, -1 if left == 0 else None) >= 0
        # A line that goes through all of the piece is read on in that in which it begins, and only there.
        rest = file.read(_CHUNK) if left is not None and begins else b""
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
    kept = cast("dict[str, list[Any]]", orjson.loads(data))
    start, end, then = map(_number, kept["found"])
    first, prev, last, last_hash, last_id, ended, leaves, times, kinds = kept["part"]
    if then != committed and _number(last) > min(then, committed):
        return None
    uses, tokens, waiting, deferred, outcomes, counts, later, lowest, highest = kept["calls"]
    calls = CallsPart(
        [Packed(_bytes(grants), _bytes(use)) for grants, use in uses],
        [(_string(leaf), _string(token)) for leaf, token in tokens],
        [_bytes(call) for call in waiting],
        [(_bytes(one), _bytes(two)) for one, two in deferred],
        _counts(outcomes),
        _counts(counts),
        [(_mapping(record), tuple(place)) for record, place in later],
        _bytes(lowest),
        _bytes(highest),
    )
    part = StreamPart(
        _number(first),
        _bytes(prev),
        _number(last),
        _bytes(last_hash),
        None if last_id is None else _bytes(last_id),
        ended is True,
        base64.b64decode(_string(leaves), validate=True),
        base64.b64decode(_string(times), validate=True),
        _counts(kinds),
        calls,
    )
    number = part.last - part.first + 1
    # Else the tree would grow by other records than the place says, or by times that are none.
    if (
        not 0 <= start < end
        or not 0 < number == len(part.leaves) / HASH_SIZE == len(part.times) / _TIME
        or len(part.prev) not in (0, 64)
        or len(part.last_hash) != 64
    ):
        return None
    return Found(start, end, part)


def _number(value: object) -> int:
    if type(value) is not int or value < 0:
        raise TypeError("expected a number")
    return value


def _string(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("expected a text")
    return value


def _bytes(value: object) -> bytes:
    return _string(value).encode()


def _mapping(value: object) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise TypeError("expected an object")
    return cast("Mapping[str, object]", value)


def _counts(value: object) -> Mapping[str, int]:
    return {name: _number(count) for name, count in _mapping(value).items()}


def _text(data: bytes | None) -> str | None:
    return None if data is None else data.decode()


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
