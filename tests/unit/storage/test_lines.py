"""Blank lines that follow each other are one line, whatever the cuts of the reads."""

import re

from hypothesis import given
from hypothesis import strategies as st

from agent_identity._storage.lines import Block, Line, split_blocks

TEXTS = st.lists(st.sampled_from([b"a", b"bb", b"\n", b"\n\n", b"\n\n\n"]), max_size=12).map(b"".join)


def expected(data: bytes) -> list[Line]:
    """Return the lines of a text, read in the simplest way."""
    found = re.finditer(rb"(?<![^\n])\n+|[^\n]+(\n|\Z)", data)
    return [Line(match.start(), match.end(), match[0].rstrip(b"\n"), torn=match[0][-1:] != b"\n") for match in found]


def each(blocks: list[Block]) -> list[Line]:
    return [line for block in blocks for line in block.each()]


@given(TEXTS, st.integers(1, 5))
def test_every_cut_of_the_reads_gives_the_same_lines(data: bytes, size: int) -> None:
    """Offsets account for every byte, and a run is one line however it was read."""
    chunks = iter([data[at : at + size] for at in range(0, len(data), size)])
    assert each(list(split_blocks(lambda _: next(chunks, b""), 0))) == expected(data)


def test_a_run_is_never_held() -> None:
    """However long it is, a run takes no more memory than what is read at once."""
    reads = iter([b"a\n", *[b"\n" * 1_000] * 50, b"b\n"])
    assert each(list(split_blocks(lambda _: next(reads, b""), 0))) == [
        Line(0, 2, b"a", torn=False),
        Line(2, 50_002, b"", torn=False),
        Line(50_002, 50_004, b"b", torn=False),
    ]
