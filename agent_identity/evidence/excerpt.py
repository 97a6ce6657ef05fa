"""A part of a ledger that proves itself: chosen records, and of all others between them only their hashes.

The log commits to the root over all records of a stream. To lead there from some of them, a reader needs the compact
range over those before the first one, and the leaf hash of each that is withheld, up to a head. Nothing else of
those records is shown.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Self, final

from agent_identity.canonical import RecordValue, decode_record, encode_record
from agent_identity.errors import VerificationError
from agent_identity.evidence.layout import is_stream_id
from agent_identity.evidence.lines import stream_line
from agent_identity.evidence.merkle import CompactRange, leaf_hash
from agent_identity.evidence.pruned import MAX_PEAKS, count_of, hash_of, texts_of, unverified_pruned
from agent_identity.evidence.streams import LedgerReader
from agent_identity.evidence.survey import Heads
from agent_identity.narrowing import is_object

__all__ = ["Excerpt", "Start", "excerpt_lines", "excerpt_of"]

_FACTS: Final = (frozenset({"end", "size"}), frozenset({"end", "last", "peaks", "size"}))
"""What a part of a stream has to say, and what it may say."""


@final
@dataclass(frozen=True, slots=True)
class Start:
    """What comes before the part of a stream that is given.

    Attributes:
        size: The number of records before it.
        last: The leaf hash of the last of them; nothing if there are none.
        peaks: The compact range over them.
        end: The place of the last record that is given or withheld: the size of a head.
    """

    size: int
    last: bytes
    peaks: tuple[bytes, ...]
    end: int

    def tree(self) -> CompactRange:
        """Return the tree over the records before."""
        return CompactRange.of_peaks(self.size, self.peaks)


@final
@dataclass(frozen=True, slots=True)
class Excerpt:
    """Which parts of which streams are given.

    Attributes:
        streams: By the ids of the streams.
    """

    streams: Mapping[str, Start]

    def to_bytes(self) -> bytes:
        """Return the file ``excerpt.json``."""
        streams: dict[str, RecordValue] = {}
        for name, start in self.streams.items():
            before: dict[str, RecordValue] = {"size": str(start.size), "end": str(start.end)}
            if start.size:
                before |= {"last": start.last.hex(), "peaks": tuple(peak.hex() for peak in start.peaks)}
            streams[name] = before
        return encode_record({"v": "1", "streams": streams})

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Return the excerpt that a file describes.

        Raises:
            ValueError: It describes none.
        """
        found = decode_record(data)
        streams = found.get("streams")
        if found.get("v") != "1" or not isinstance(streams, dict):
            raise ValueError("expected the file of an excerpt, got something else")
        return cls({_stream(name): _start(start) for name, start in streams.items()})


def _stream(name: str) -> str:
    if not is_stream_id(name):
        raise ValueError("expected the id of a stream")
    return name


def _start(value: object) -> Start:
    facts: Mapping[str, object] = value if is_object(value) else {}
    if not _FACTS[0] <= facts.keys() <= _FACTS[1]:
        raise ValueError("expected what comes before a part of a stream")
    size, end = count_of(facts["size"]), count_of(facts["end"])
    if bool(size) != ("last" in facts) or size > end:
        raise ValueError("expected the hash of the record before a part of a stream")
    last = hash_of(facts["last"]) if size else b""
    start = Start(size, last, tuple(map(hash_of, texts_of(facts.get("peaks", ()), MAX_PEAKS))), end)
    start.tree()
    return start


def excerpt_of(reader: LedgerReader, heads: Heads, wanted: Callable[[bytes], bool]) -> dict[str, Start]:
    """Return which parts of the streams hold what is wanted, each up to the head that covers the last of it.

    Args:
        reader: The directory.
        heads: The heads of its streams.
        wanted: Tells of the bytes of a record whether it is wanted.

    Raises:
        VerificationError: A record that is wanted is not sealed yet.
    """
    found: dict[str, Start] = {}
    for stream in reader.streams():
        tree, last = _before(reader, stream)
        first: tuple[int, bytes, tuple[bytes, ...]] | None = None
        newest = 0
        for line in reader.entries(stream, start=tree.size + 1):
            if line.record is None:
                break
            if wanted(line.record):
                first = first or (tree.size, last, tree.peaks)
                newest = tree.size + 1
            last = leaf_hash(line.record)
            tree.append(last)
        if first is not None:
            end = next((head.size for head in heads.get(stream, ()) if head.size >= newest), None)
            if end is None:
                raise VerificationError(
                    "expected sealed records in the excerpt, got some that no checkpoint covers yet; close the "
                    "enforcer or wait a second, and try again"
                )
            found[stream] = Start(*first, end)
    return found


def _before(reader: LedgerReader, stream: str) -> tuple[CompactRange, bytes]:
    note = reader.pruned(stream)
    if note is None or reader.first_place(stream) == 1:
        return CompactRange(), b""
    pruned = unverified_pruned(note)
    return pruned.tree(), pruned.last


def excerpt_lines(reader: LedgerReader, stream: str, start: Start, wanted: Callable[[bytes], bool]) -> Iterator[bytes]:
    """Yield the lines of a part of a stream: what is wanted as it is, of all else the leaf hashes."""
    place = _before(reader, stream)[0].size
    for line in reader.entries(stream, start=place + 1):
        place += 1
        if line.record is None or place > start.end:
            return
        if place <= start.size:
            continue
        if wanted(line.record):
            yield stream_line(bytes.fromhex(line.mac or ""), line.record)
        else:
            yield b'{"leaf":"%s"}\n' % leaf_hash(line.record).hex().encode()
