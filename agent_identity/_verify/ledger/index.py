"""Index of a verified ledger by record id, to compare spans with.

It holds the first half of the leaf hash of each record, in a SQLite file in a temporary directory, which worker
processes can read.
"""

import contextlib
import sqlite3
import weakref
from collections.abc import Collection, Generator, Iterable, Iterator
from functools import partial
from pathlib import Path
from struct import Struct
from tempfile import TemporaryDirectory
from typing import Final, NamedTuple, final
from urllib.parse import quote

from agent_identity._identity.common.ids import bytes_of_id
from agent_identity._spans.span_from_record import EXPORTED_KINDS
from agent_identity._verify.store.spill_store import room_for

HALF: Final = 16
"""Bytes of a leaf hash that are compared: finding a second preimage is as hard as forging a signature."""

_SEQ: Final = Struct(">Q")
"""A place that a span claims: up to 19 digits, which may exceed a SQLite integer."""

_WAITING: Final = 10_000  # Rows.
_AT_ONCE: Final = 500
_CACHE_KIB: Final = 8_192
_room: Final = partial(room_for, "about 120 bytes for each record of the ledger")
_BEGUN: Final = (
    "PRAGMA journal_mode = OFF",
    "PRAGMA synchronous = OFF",
    "CREATE TABLE ledger (number INTEGER PRIMARY KEY, id BLOB, leaf BLOB, stream, seq INT, travels INT, proved INT)",
    "CREATE TABLE spans (id BLOB PRIMARY KEY, leaf BLOB, stream BLOB, seq BLOB) WITHOUT ROWID",
)
_AMISS: Final = """
    SELECT ledger.id, ledger.stream, ledger.seq, spans.id IS NULL FROM ledger LEFT JOIN spans ON spans.id = ledger.id
    WHERE CASE WHEN spans.id IS NULL THEN travels ELSE spans.leaf != ledger.leaf END
    ORDER BY ledger.number
"""
_UNMATCHED: Final = """
    SELECT spans.id, spans.leaf, spans.stream, spans.seq FROM spans
    WHERE NOT EXISTS (SELECT 1 FROM ledger WHERE ledger.id = spans.id) ORDER BY spans.id
"""


class SpanRecord(NamedTuple):
    """A verified record on spans.

    Attributes:
        record: The 16 bytes of its id.
        half: The first half of its leaf hash.
        stream: The 16 bytes of the id of its stream.
        seq: Its place in it.
    """

    record: bytes
    half: bytes
    stream: bytes
    seq: int


class Amiss(NamedTuple):
    """A record of the ledger that is missing on the spans, or differs there.

    Attributes:
        record: The 16 bytes of its id.
        stream: Its stream.
        seq: Its place.
        missing: Whether no span has it.
    """

    record: bytes
    stream: str
    seq: int
    missing: bool


@final
class Proofs:
    """Looks up the records that a ledger proves, from any process of this machine.

    Args:
        path: The file of a :class:`LedgerIndex`, which must not change meanwhile.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        # The file does not change, so readers need no lock.
        self._file = sqlite3.connect(f"file:{quote(path)}?mode=ro&immutable=1", uri=True, check_same_thread=False)
        weakref.finalize(self, self._file.close)
        self._file.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")

    def of(self, records: Collection[bytes]) -> dict[bytes, bytes]:
        """Return the first half of the leaf hash of each of these records that is proved, by the 16 bytes of its id.

        Raises:
            ConfigurationError: The file cannot be read.
        """
        halves: dict[bytes, bytes] = {}
        ids = list(records)
        with _room():
            for first in range(0, len(ids), _AT_ONCE):
                some = ids[first : first + _AT_ONCE]
                marks = ",".join("?" * len(some))
                query = f"SELECT id, leaf FROM ledger WHERE proved = 1 AND id IN ({marks})"  # noqa: S608
                halves.update(self._file.execute(query, some))
        return halves

    def close(self) -> None:
        """Close the file."""
        self._file.close()


@final
class LedgerIndex:
    """Stores the records of one or several ledgers while they are verified.

    Args:
        path: The path of the file to create.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._streams: list[str] = []
        self._behind: dict[str, int] = {}
        self._first = self._number = self._last = self._before = 0
        self._rows: list[tuple[int, bytes, bytes, int, int, int]] = []
        self._file = sqlite3.connect(path, isolation_level=None)
        with _room():
            for statement in (f"PRAGMA cache_size = -{_CACHE_KIB}", *_BEGUN):
                self._file.execute(statement)

    def begin(self, stream: str, behind: int = 0) -> None:
        """Start a stream, with the number of its pruned records."""
        self._streams.append(stream)
        if behind:
            self._behind[stream] = behind
        self._first, self._last = self._number, 0

    def add(self, identifier: str, kind: str, leaf: bytes, seq: int) -> None:
        """Add a record of the stream, in its place.

        Args:
            identifier: Its id.
            kind: Its kind.
            leaf: Its leaf hash.
            seq: Its place.
        """
        self._number += 1
        self._last = seq
        record, travels = bytes_of_id(identifier), int(kind in EXPORTED_KINDS)
        self._rows.append((self._number, record, leaf[:HALF], len(self._streams) - 1, seq, travels))
        if len(self._rows) >= _WAITING:
            self._write()

    def prove(self, size: int) -> None:
        """Set the number of proved records of the stream."""
        if self._last <= size:
            return
        self._write()
        with _room():
            update = "UPDATE ledger SET proved = 0 WHERE number > ? AND seq > ?"
            self._file.execute(update, (self._first, size))

    def end(self, *, proved: bool) -> None:
        """End a ledger; without ``proved``, none of its records counts."""
        self._write()
        if not proved:
            with _room():
                self._file.execute("UPDATE ledger SET proved = 0 WHERE number > ?", (self._before,))
        self._before = self._number

    def finish(self, *, proved: bool = True) -> None:
        """Complete the index, once all records are added; without ``proved``, none of the last ledger counts."""
        self.end(proved=proved)
        with _room():
            self._file.execute("CREATE INDEX by_id ON ledger (id, proved, leaf)")

    def compare(self, spans: Iterable[SpanRecord]) -> int:
        """Add the records of spans, and return their number."""
        with _room():
            self._file.execute("BEGIN")
            rows = ((one.record, one.half, one.stream, _SEQ.pack(one.seq)) for one in spans)
            self._file.executemany("INSERT INTO spans VALUES (?, ?, ?, ?)", rows)
            self._file.execute("COMMIT")
            return int(self._file.execute("SELECT count(*) FROM spans").fetchone()[0])

    def amiss(self) -> Iterator[Amiss]:
        """Yield the records of the ledger that are missing on the spans or differ there, in order."""
        with _room():
            for record, stream, seq, missing in self._file.execute(_AMISS):
                yield Amiss(record, self._streams[stream], seq, bool(missing))

    def unmatched(self) -> Iterator[SpanRecord]:
        """Yield the records of spans that the ledger does not have."""
        with _room():
            for record, half, stream, seq in self._file.execute(_UNMATCHED):
                yield SpanRecord(record, half, stream, *_SEQ.unpack(seq))

    def starts_behind(self, stream: str) -> int:
        """Return the number of pruned records of a stream."""
        return self._behind.get(stream, 0)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _write(self) -> None:
        with _room():
            self._file.execute("BEGIN")
            self._file.executemany("INSERT INTO ledger VALUES (?, ?, ?, ?, ?, ?, 1)", self._rows)
            self._file.execute("COMMIT")
        self._rows.clear()


@contextlib.contextmanager
def ledger_index() -> Generator[LedgerIndex]:
    """Yield an index in a temporary directory.

    Raises:
        ConfigurationError: The disk is full.
    """
    with TemporaryDirectory(prefix="agent-identity-", ignore_cleanup_errors=True) as folder:
        index = LedgerIndex(str(Path(folder, "ledger")))
        try:
            yield index
        finally:
            index.close()
