"""Pieces of the files of a stream: whatever their size, together they are the stream."""

import gzip
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent_identity.evidence import lines as lines_module
from agent_identity.evidence.files import Files
from agent_identity.evidence.lines import Block, split_blocks
from agent_identity.evidence.merkle import CompactRange, leaf_hash
from agent_identity.evidence.segments import Piece, piece_blocks, stream_blocks, stream_pieces
from agent_identity.evidence.streams import LedgerReader, RawLine

STREAM = "019ab697-e800-7000-8000-000000000001"
LINES = st.lists(st.binary(max_size=40).map(lambda data: data.replace(b"\n", b"-")), max_size=30)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(LINES, st.integers(1, 60), st.integers(1, 50), st.booleans())
def test_pieces_of_any_size_are_the_stream(
    tmp_path: Path, lines: list[bytes], most: int, chunk: int, torn: bool
) -> None:
    """Each line is in exactly one piece, with its place in the file, whatever is read at once."""
    path = tmp_path / "entries.jsonl"
    path.write_bytes(b"".join(line + b"\n" for line in lines) + (b"rest" if torn else b""))
    folders, active = (str(tmp_path),), str(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines_module, "_CHUNK", chunk)
        whole = [line for block in stream_blocks(Files(), folders, active) for line in block.each()]
        pieces = stream_pieces(Files(), folders, active, most=most)
        parts = [line for piece in pieces for block in piece_blocks(Files(), piece) for line in block.each()]
    assert parts == whole
    assert sum(piece.bytes for piece in pieces) == path.stat().st_size


@pytest.mark.parametrize("running", [True, False])
def test_closed_segments_come_first_whatever_their_form(tmp_path: Path, *, running: bool) -> None:
    """A compressed segment is one piece, a plain one several, and the file that is written comes last."""
    (tmp_path / "entries-00000000000000000001.jsonl.gz").write_bytes(gzip.compress(b"a\nb\n"))
    (tmp_path / "entries-00000000000000000003.jsonl").write_bytes(b"c\nd\n")
    active = tmp_path / "entries.jsonl"
    if running:
        active.write_bytes(b"e\n")
    pieces = stream_pieces(Files(), (str(tmp_path),), str(active), most=2)
    found = [line.data for piece in pieces for block in piece_blocks(Files(), piece) for line in block.each()]
    assert found == [b"a", b"b", b"c", b"d", *([b"e"] if running else [])]
    assert [piece.stop for piece in pieces] == [None, 2, 4, *([2] if running else [])]


def test_a_piece_of_a_file_that_shrank_is_an_error(tmp_path: Path) -> None:
    """A file that is shorter than when it was looked at is another one."""
    path = tmp_path / "entries.jsonl"
    path.write_bytes(b"a\n")
    with pytest.raises(OSError, match="shorter"):
        list(piece_blocks(Files(), Piece(str(path), 3, 0, 3)))


def test_a_line_through_many_pieces_is_read_about_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the piece in which it begins reads on to its end, or a file without line ends would cost its square."""

    class Counting(Files):
        count = 0

        def read(self, fd: int, size: int) -> bytes:
            """Read, and count the bytes."""
            data = super().read(fd, size)
            self.count += len(data)
            return data

    monkeypatch.setattr(lines_module, "_CHUNK", 50)
    monkeypatch.setattr(lines_module, "MAX_LINE_BYTES", 100)
    path = tmp_path / "entries.jsonl"
    path.write_bytes(b"a\n" + b"x" * 20_000 + b"\nb\n")
    files = Counting()
    pieces = stream_pieces(files, (str(tmp_path),), str(path), most=200)
    found = [line for piece in pieces for block in piece_blocks(files, piece) for line in block.each()]
    assert [(line.offset, line.data) for line in found] == [(0, b"a"), (2, None), (20_003, b"b")]
    assert len(pieces) == 101
    assert 20_005 <= files.count <= 2 * 20_005 + 2 * 50


def test_a_block_can_go_on_behind_its_first_lines() -> None:
    """What is left begins where the lines before it end."""
    block = Block(10, 16, [b"a", b"bc", b""])
    assert block.without(0) is block
    assert block.without(2) == Block(15, 16, [b""])


def test_a_line_that_is_too_long_stands_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The lines around it in the same chunk keep their places."""
    monkeypatch.setattr(lines_module, "MAX_LINE_BYTES", 3)
    chunks = iter([b"a\nlonger\nb\n", b""])
    blocks = list(split_blocks(lambda _: next(chunks), 0))
    assert blocks == [Block(0, 2, [b"a"]), Block(2, 9, [None]), Block(9, 11, [b"b"])]


def test_what_is_no_stream_has_neither_blocks_nor_pieces(tmp_path: Path) -> None:
    """A name that could lead out of the directory, and a stream without a file, are one unreadable line."""
    reader = LedgerReader(tmp_path)
    for name in ("../x", STREAM):
        assert list(reader.blocks(name)) == [RawLine(0, None, None, "unreadable")]
        assert reader.pieces(name, most=1) == ()


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
