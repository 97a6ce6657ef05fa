"""Reading bytes ahead: whatever the cut of the reads, lines, numbers of bytes and white space come as they stand."""

import io
from collections.abc import Iterator
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from agent_identity._storage.byte_reader import ByteReader

PIECES = st.lists(st.text("a \n\r\t", max_size=9).map(str.encode), max_size=8)


def reader_of(pieces: list[bytes]) -> ByteReader:
    """Return a reader of a source that gives these pieces, and nothing between them where one is empty."""
    rest: Iterator[bytes] = iter([piece for piece in pieces if piece])
    return ByteReader(lambda size: next(rest, b""))


@given(PIECES, st.integers(1, 12))
def test_lines_are_those_of_a_file(pieces: list[bytes], limit: int) -> None:
    """A line ends where a file would end it, whichever reads it comes from."""
    reader, file = reader_of(pieces), io.BytesIO(b"".join(pieces))
    assert list(iter(lambda: reader.readline(limit), b"")) == list(iter(lambda: file.readline(limit), b""))
    assert (reader.readline(0), reader.read(0)) == (b"", b"")


@given(PIECES, st.lists(st.integers(0, 9), max_size=6))
def test_numbers_of_bytes_are_exact(pieces: list[bytes], sizes: list[int]) -> None:
    """A read is short only at the end, and a look takes nothing."""
    reader, file = reader_of(pieces), io.BytesIO(b"".join(pieces))
    for size in sizes:
        expected = file.read(size)
        assert reader.peek(size) == expected
        assert reader.read(size) == expected
    assert reader.read(1_000) == file.read()


@given(PIECES)
def test_white_space_is_passed_over_and_its_lines_are_counted(pieces: list[bytes]) -> None:
    """What follows it is what is read next."""
    whole = b"".join(pieces)
    text = whole.lstrip()
    reader = reader_of(pieces)
    assert reader.skip_space() == whole[: len(whole) - len(text)].count(b"\n")
    assert reader.read(1_000) == text


@given(PIECES, st.binary(max_size=5), st.integers(0, 9))
def test_what_was_taken_can_be_put_back(pieces: list[bytes], data: bytes, size: int) -> None:
    """It comes before the rest."""
    whole = b"".join(pieces)
    reader = reader_of(pieces)
    reader.read(size)
    reader.unread(data)
    assert reader.read(1_000) == data + whole[size:]


def test_a_source_is_read_by_whatever_it_has() -> None:
    """Anything with lines will do, a raw file that would wait has ended, and every byte is told."""
    told: list[int] = []

    class Lines:
        def __init__(self, data: bytes) -> None:
            self._file = io.BytesIO(data)

        def readline(self, limit: int, /) -> bytes:
            return self._file.readline(limit)

    class Raw(io.RawIOBase):
        def read(self, size: int = -1, /) -> Any:
            return None

    assert ByteReader.of(Lines(b"a\nb\nc"), told.append).read(9) == b"a\nb\nc"
    assert sum(told) == 5
    assert ByteReader.of(io.BytesIO(b"a\nb"), told.append).readline(9) == b"a\n"
    assert sum(told) == 8
    assert ByteReader.of(Raw()).peek(1) == b""  # type: ignore[arg-type]
