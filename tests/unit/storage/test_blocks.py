"""Blocks of lines, and the tree over them."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_identity._ledger.reader import LedgerReader, RawLine
from agent_identity._ledger.transparency.merkle import CompactRange, leaf_hash
from agent_identity._storage import lines as lines_module
from agent_identity._storage.lines import Block, split_blocks

STREAM = "AZq2l-gAcACAAAAAAAAAAQ"
LINES = st.lists(st.binary(max_size=40).map(lambda data: data.replace(b"\n", b"-")), max_size=30)


def test_a_line_that_is_too_long_stands_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The lines around it in the same chunk keep their places."""
    monkeypatch.setattr(lines_module, "MAX_LINE_BYTES", 3)
    chunks = iter([b"a\nlonger\nb\n", b""])
    blocks = list(split_blocks(lambda _: next(chunks), 0))
    assert blocks == [Block(0, 2, [b"a"]), Block(2, 9, [None]), Block(9, 11, [b"b"])]


def test_what_is_no_stream_has_no_blocks(tmp_path: Path) -> None:
    """A name that could lead out of the directory, and a stream without a file, are one unreadable line."""
    reader = LedgerReader(tmp_path)
    for name in ("../x", STREAM):
        assert list(reader.blocks(name)) == [RawLine(0, None, None, "unreadable")]


@given(st.lists(st.integers(0, 40), max_size=6))
def test_leaves_may_be_added_many_at_once(sizes: list[int]) -> None:
    """The tree is the same as one by one."""
    one, many, number = CompactRange(), CompactRange(), 0
    for size in sizes:
        leaves = [leaf_hash(b"%d" % (number + n)) for n in range(size)]
        many.extend(leaves)
        for leaf in leaves:
            one.append(leaf)
        number += size
        assert (many.size, many.peaks) == (one.size, one.peaks)


def test_only_hashes_are_added() -> None:
    """A value of another length is no leaf hash."""
    with pytest.raises(ValueError, match="32 bytes"):
        CompactRange().extend([b"x"])
