"""Proofs over the log of a directory in 32 bytes of memory for each 256 entries.

Nothing read here was authenticated; a proof that was made over other bytes than the log signed leads to another root.
"""

from collections.abc import Iterator
from typing import Final, final

from agent_identity._ledger.transparency.merkle import CompactRange, consistency_of, leaf_hash, node_hash
from agent_identity._storage.layout import Layout
from agent_identity._storage.lines import log_parts, read_lines
from agent_identity._storage.os_files import READ, Files, open_regular

__all__ = ["LogTree"]

_BLOCK: Final = 256
"""Leaves of which only the root and the place are kept; a power of two, so that the blocks are subtrees."""


@final
class LogTree:
    """The Merkle tree over the lines of ``log/entries.jsonl``, read on as it grows. One thread at a time uses it."""

    def __init__(self, files: Files, layout: Layout) -> None:
        self._files = files
        self._path = layout.log_entries
        self._roots: list[bytes] = []  # Of the full blocks.
        self._places: list[int] = [0]  # The byte at which each block begins, and the one after the last.
        self._rest: list[bytes] = []  # The leaves after the last full block.
        self._end = 0

    @property
    def size(self) -> int:
        """The number of entries read so far."""
        return len(self._roots) * _BLOCK + len(self._rest)

    def read_on(self) -> None:
        """Read the entries appended since the last time.

        Raises:
            OSError: The log cannot be read.
        """
        for leaf, end in self._leaves(self._end):
            self._rest.append(leaf)
            self._end = end
            if len(self._rest) == _BLOCK:
                self._roots.append(CompactRange(self._rest).root())
                self._places.append(end)
                self._rest = []

    def root(self, size: int) -> bytes:
        """Return the root over the first ``size`` entries, at most those read so far.

        Raises:
            OSError: The log cannot be read.
        """
        return self._range_root(0, size)

    def consistency(self, old_size: int, size: int) -> tuple[bytes, ...]:
        """Return the proof that the tree over ``size`` entries continues the one over ``old_size`` (RFC 6962 §2.1.2).

        Raises:
            OSError: The log cannot be read.
            ValueError: ``old_size`` is not from 1 to ``size``.
        """
        return consistency_of(self._range_root, old_size, size)

    def _range_root(self, start: int, stop: int) -> bytes:
        full = len(self._roots)
        first, last = start // _BLOCK, stop // _BLOCK
        if not start % _BLOCK and not stop % _BLOCK and last <= full:
            return CompactRange(self._roots[first:last]).root()
        if stop - start <= _BLOCK:
            # No subtree of this size reaches over the end of a block.
            return CompactRange(self._block(first)[start - first * _BLOCK : stop - first * _BLOCK]).root()
        middle = start + (1 << ((stop - start - 1).bit_length() - 1))
        return node_hash(self._range_root(start, middle), self._range_root(middle, stop))

    def _block(self, number: int) -> list[bytes]:
        if number >= len(self._roots):
            return self._rest
        return [leaf for leaf, _ in zip(self._leaves_of(number), range(_BLOCK), strict=False)]

    def _leaves_of(self, number: int) -> Iterator[bytes]:
        return (leaf for leaf, _ in self._leaves(self._places[number]))

    def _leaves(self, start: int) -> Iterator[tuple[bytes, int]]:
        fd = open_regular(self._files, self._path, READ)
        try:
            for line in read_lines(self._files, fd, start):
                parts = None if line.torn or line.data is None else log_parts(line.data)
                if parts is None:
                    return  # What follows is no part of the log yet, or is broken; then no root fits.
                yield leaf_hash(parts[0]), line.end
        finally:
            self._files.close(fd)
