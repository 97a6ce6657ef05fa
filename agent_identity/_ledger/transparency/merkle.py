"""The Merkle tree of RFC 6962 §2.1 (RFC 9162 §2.1): roots, inclusion proofs and consistency proofs.

A tree commits to an ordered list of entries. An *inclusion proof* shows that one entry stands at one
place; a *consistency proof* shows that a larger tree continues a smaller one without changing it. Both
have as many hashes as the tree has levels.

Functions take leaf hashes (:func:`leaf_hash` of an entry), never entries, so that a proof of one record
shows no other.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import Final, final

from agent_identity.errors import VerificationError

HASH_SIZE: Final = 32
"""Bytes of a hash (SHA-256)."""

EMPTY_ROOT: Final = hashlib.sha256(b"").digest()
"""The root of the tree without leaves."""

_sha256 = hashlib.sha256
_LEAF = _sha256(b"\x00")  # To copy a state costs less than to make one.


def leaf_hash(entry: bytes) -> bytes:
    """Return the hash of an entry: SHA-256(0x00 ‖ entry)."""
    state = _LEAF.copy()
    state.update(entry)
    return state.digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of an inner node: SHA-256(0x01 ‖ left ‖ right)."""
    return _sha256(b"\x01" + left + right).digest()


@final
class CompactRange:
    """A growing tree that stores only the roots of its perfect subtrees: O(log size) memory.

    Not thread-safe; the appending thread holds the lock.

    Attributes:
        size: The number of leaves so far.
    """

    __slots__ = ("_peaks", "size")

    def __init__(self, leaves: Iterable[bytes] = ()) -> None:
        self._peaks: list[bytes] = []
        self.size = 0
        for leaf in leaves:
            self.append(leaf)

    def append(self, leaf: bytes) -> None:
        """Add one leaf hash at the end.

        Raises:
            ValueError: The hash is not 32 bytes long.
        """
        if len(leaf) != HASH_SIZE:
            raise ValueError(f"the leaf hash has {len(leaf)} bytes instead of {HASH_SIZE}; call leaf_hash(entry) first")
        peaks, size = self._peaks, self.size
        while size & 1:
            leaf = node_hash(peaks.pop(), leaf)
            size >>= 1
        peaks.append(leaf)
        self.size += 1

    def extend(self, leaves: Sequence[bytes]) -> None:
        """Add leaf hashes at the end, level by level, which is quicker than one by one.

        Raises:
            ValueError: One of them is not 32 bytes long.
        """
        if not _all_hashes(leaves):
            raise ValueError(f"a leaf hash is not {HASH_SIZE} bytes long; call leaf_hash(entry) first")
        nodes, size, last = list(leaves), self.size, list[bytes]()
        self.size += len(nodes)
        while nodes:
            if size & 1:
                nodes.insert(0, self._peaks.pop())
            if len(nodes) & 1:
                last.append(nodes.pop())
            nodes = [_sha256(b"\x01" + left + right).digest() for left, right in zip(*[iter(nodes)] * 2, strict=True)]
            size >>= 1
        self._peaks += reversed(last)

    def root(self) -> bytes:
        """Return the root of the tree so far (:data:`EMPTY_ROOT` without leaves)."""
        if not self._peaks:
            return EMPTY_ROOT
        root = self._peaks[-1]
        for peak in reversed(self._peaks[:-1]):
            root = node_hash(peak, root)
        return root

    @property
    def peaks(self) -> tuple[bytes, ...]:
        """The roots of the perfect subtrees, the largest first: with the size, the input of :meth:`of_peaks`."""
        return tuple(self._peaks)

    @classmethod
    def of_peaks(cls, size: int, peaks: Sequence[bytes]) -> "CompactRange":
        """Return a tree from its size and peaks, without its leaves.

        Args:
            size: The number of its leaves.
            peaks: Its :attr:`peaks`.

        Raises:
            ValueError: A tree of this size has another number of peaks, or one is no hash.
        """
        if size < 0 or len(peaks) != size.bit_count() or not _all_hashes(peaks):
            raise ValueError("the peaks are not those of a tree of this size, each a hash of 32 bytes")
        tree = cls()
        tree._peaks = list(peaks)
        tree.size = size
        return tree

    def copy(self) -> "CompactRange":
        """Return an independent tree with the same leaves."""
        twin = CompactRange()
        twin._peaks = self._peaks.copy()
        twin.size = self.size
        return twin


def root_of(leaves: Iterable[bytes]) -> bytes:
    """Return the root of the tree over leaf hashes, read once and not kept."""
    return CompactRange(leaves).root()


def inclusion_proof(leaves: Sequence[bytes], index: int) -> tuple[bytes, ...]:
    """Return the proof that the leaf at ``index`` is in the tree over ``leaves`` (RFC 6962 §2.1.1).

    Raises:
        ValueError: The index lies outside the tree.
    """
    return range_roots(leaves, inclusion_ranges(index, len(leaves)))


def consistency_proof(leaves: Sequence[bytes], old_size: int) -> tuple[bytes, ...]:
    """Return the proof that the tree over ``leaves`` continues its first ``old_size`` ones (RFC 6962 §2.1.2).

    Raises:
        ValueError: ``old_size`` is zero, which proves nothing, or larger than the tree.
    """
    return range_roots(leaves, consistency_ranges(old_size, len(leaves)))


def inclusion_ranges(index: int, size: int) -> tuple[tuple[int, int], ...]:
    """Return the range of leaves below each hash of an inclusion proof, in the order of the proof.

    Raises:
        ValueError: The index lies outside the tree.
    """
    if not 0 <= index < size:
        raise ValueError(f"the index {index} is outside the tree of size {size}")
    ranges: list[tuple[int, int]] = []
    start, stop = 0, size
    while stop - start > 1:
        middle = start + _split(stop - start)
        if index < middle:
            ranges.append((middle, stop))
            stop = middle
        else:
            ranges.append((start, middle))
            start = middle
    return tuple(reversed(ranges))


def consistency_ranges(old_size: int, size: int) -> tuple[tuple[int, int], ...]:
    """Return the range of leaves below each hash of a consistency proof, in the order of the proof.

    Raises:
        ValueError: ``old_size`` is zero, which proves nothing, or larger than the tree.
    """
    if not 0 < old_size <= size:
        raise ValueError(f"the old size {old_size} is not from 1 to the tree size {size}")
    ranges: list[tuple[int, int]] = []
    start, stop = 0, size
    while old_size < stop:
        middle = start + _split(stop - start)
        if old_size <= middle:
            ranges.append((middle, stop))
            stop = middle
        else:
            ranges.append((start, middle))
            start = middle
    # The verifier knows the old root; it needs this subtree only where it is not that whole root.
    if start:
        ranges.append((start, stop))
    return tuple(reversed(ranges))


def range_roots(leaves: Iterable[bytes], ranges: Sequence[tuple[int, int]]) -> tuple[bytes, ...]:
    """Return the root over each range of the leaves, which are read once and not kept.

    Args:
        leaves: The leaf hashes, at least as many as the last range ends with.
        ranges: The first and last index of each; they do not overlap.
    """
    trees = [CompactRange() for _ in ranges]
    waiting = sorted(range(len(ranges)), key=lambda number: ranges[number], reverse=True)
    for position, leaf in enumerate(leaves):
        while waiting and ranges[waiting[-1]][1] <= position:
            waiting.pop()
        if not waiting:
            break
        if ranges[waiting[-1]][0] <= position:
            trees[waiting[-1]].append(leaf)
    return tuple(tree.root() for tree in trees)


def consistency_of(range_root: Callable[[int, int], bytes], old_size: int, size: int) -> tuple[bytes, ...]:
    """Return the proof of :func:`consistency_proof` for leaves that are not in memory.

    Args:
        range_root: Returns the root over the leaves from one place up to another; the whole of a subtree each time.
        old_size: The number of leaves of the older tree.
        size: The number of leaves of the tree.

    Raises:
        ValueError: ``old_size`` is zero, which proves nothing, or larger than the tree.
    """
    return tuple(range_root(start, stop) for start, stop in consistency_ranges(old_size, size))


def _split(size: int) -> int:
    """Return the largest power of two below ``size`` (> 1)."""
    return 1 << ((size - 1).bit_length() - 1)


def verify_inclusion(leaf: bytes, proof: Sequence[bytes], *, index: int, size: int, root: bytes) -> None:
    """Check that ``leaf`` (a leaf hash) stands at ``index`` of the tree with ``size`` and ``root``.

    The steps are RFC 9162 §2.1.3.2, arranged so that the length of the proof is known before any hash.

    Raises:
        VerificationError: It does not (``bad_inclusion_proof``).
    """
    if not 0 <= index < size:
        raise _no_inclusion(f"the index {index} is outside the tree of size {size}")
    inner = (index ^ (size - 1)).bit_length()
    border = (index >> inner).bit_count()
    if len(proof) != inner + border:
        raise _no_inclusion(f"the proof has {len(proof)} hashes instead of {inner + border}")
    if not _all_hashes((leaf, *proof)):
        raise _no_inclusion(f"a hash in the proof is not {HASH_SIZE} bytes long")
    if _chain_right(_chain_inner(leaf, proof[:inner], index), proof[inner:]) != root:
        raise _no_inclusion("the proof leads to another root; the entry, its place or the tree was changed")


def verify_consistency(
    proof: Sequence[bytes], *, old_size: int, old_root: bytes, new_size: int, new_root: bytes
) -> None:
    """Check that the tree of ``new_size`` leaves begins with that of ``old_size`` (RFC 9162 §2.1.4.2).

    An empty old tree proves nothing about the new one and is refused. The lengths of the roots are
    checked where roots enter (:class:`Checkpoint`).

    Raises:
        VerificationError: It does not (``bad_consistency_proof``).
    """
    if not 0 < old_size <= new_size:
        raise _no_consistency(f"the old size {old_size} is not from 1 to the new size {new_size}")
    if old_size == new_size:
        if proof:
            raise _no_consistency(f"the proof between equal sizes has {len(proof)} hashes instead of none")
        if old_root != new_root:
            raise _no_consistency("two different trees of the same size; one of them is forged")
        return
    seed, rest, inner, place = _consistency_parts(proof, old_size, old_root, new_size)
    old = _chain_right(_chain_inner_right(seed, rest[:inner], place), rest[inner:])
    new = _chain_right(_chain_inner(seed, rest[:inner], place), rest[inner:])
    if old != old_root or new != new_root:
        raise _no_consistency("the proof leads to other roots; the new tree does not continue the old one")


def _consistency_parts(
    proof: Sequence[bytes], old_size: int, old_root: bytes, new_size: int
) -> tuple[bytes, Sequence[bytes], int, int]:
    """Split a proof into the shared seed, the shared path, its inner length and the place of the last old leaf."""
    inner = ((old_size - 1) ^ (new_size - 1)).bit_length()
    border = ((old_size - 1) >> inner).bit_count()
    shift = (old_size & -old_size).bit_length() - 1
    inner -= shift
    whole = old_size == 1 << shift
    expected = inner + border + (0 if whole else 1)
    if len(proof) != expected:
        raise _no_consistency(f"the proof has {len(proof)} hashes instead of {expected}")
    if not _all_hashes(proof):
        raise _no_consistency(f"a hash in the proof is not {HASH_SIZE} bytes long")
    seed = old_root if whole else proof[0]
    return seed, proof if whole else proof[1:], inner, (old_size - 1) >> shift


def _all_hashes(values: Sequence[bytes]) -> bool:
    return set(map(len, values)) <= {HASH_SIZE}


def _chain_inner(seed: bytes, proof: Sequence[bytes], index: int) -> bytes:
    for level, sibling in enumerate(proof):
        seed = node_hash(sibling, seed) if (index >> level) & 1 else node_hash(seed, sibling)
    return seed


def _chain_inner_right(seed: bytes, proof: Sequence[bytes], index: int) -> bytes:
    for level, sibling in enumerate(proof):
        if (index >> level) & 1:
            seed = node_hash(sibling, seed)
    return seed


def _chain_right(seed: bytes, proof: Sequence[bytes]) -> bytes:
    for sibling in proof:
        seed = node_hash(sibling, seed)
    return seed


def _no_inclusion(message: str) -> VerificationError:
    return VerificationError(message, code="bad_inclusion_proof")


def _no_consistency(message: str) -> VerificationError:
    return VerificationError(message, code="bad_consistency_proof")
