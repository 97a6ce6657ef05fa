"""Self-proving excerpt of a ledger: chosen records in full, and only the leaf hashes of those between them.

The log commits to the root over all records of a stream. To lead there from some of them, a reader needs the compact
range over those before the first one, and the leaf hash of each that is withheld, up to a head. Nothing else of
those records is shown.
"""

from collections.abc import Callable, Iterator

from agent_identity._identity.common.encoding import b64url_decode, b64url_encode
from agent_identity._ledger.excerpt_starts import Start
from agent_identity._ledger.prunable_prefix import Heads
from agent_identity._ledger.prune_statement import unverified_pruned
from agent_identity._ledger.reader import LedgerReader
from agent_identity._ledger.transparency.merkle import CompactRange, leaf_hash
from agent_identity._storage.lines import stream_line
from agent_identity.errors import VerificationError


def excerpt_of(reader: LedgerReader, heads: Heads, wanted: Callable[[bytes], bool]) -> dict[str, Start]:
    """Return the stream parts that hold the wanted records, each up to the head that covers the last of them.

    Args:
        reader: The directory.
        heads: The heads of its streams.
        wanted: Tells of the bytes of a record whether it is wanted.

    Raises:
        VerificationError: A record that is wanted is not sealed yet.
    """
    parts: dict[str, Start] = {}
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
                    "no checkpoint covers some of these records yet; close the enforcer or wait a second, and try again"
                )
            parts[stream] = Start(*first, end)
    return parts


def _before(reader: LedgerReader, stream: str) -> tuple[CompactRange, bytes]:
    note = reader.pruned(stream)
    if note is None or reader.first_place(stream) == 1:
        return CompactRange(), b""
    pruned = unverified_pruned(note)
    return pruned.tree(), pruned.last


def excerpt_lines(reader: LedgerReader, stream: str, start: Start, wanted: Callable[[bytes], bool]) -> Iterator[bytes]:
    """Yield the lines of a part of a stream: wanted records in full, all others as leaf hashes."""
    place = _before(reader, stream)[0].size
    for line in reader.entries(stream, start=place + 1):
        place += 1
        if line.record is None or place > start.end:
            return
        if place <= start.size:
            continue
        if wanted(line.record):
            yield stream_line(b64url_decode(line.mac or ""), line.record, line.detail)
        else:
            yield b'{"leaf":"%s"}\n' % b64url_encode(leaf_hash(line.record)).encode()
