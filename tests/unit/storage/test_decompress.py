"""Compressed files of traces: any cut into members and reads gives the content, and damage is an error."""

import gzip
import io
import sys
import zlib

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from agent_identity._storage import codecs
from agent_identity._storage import decompress as inflating
from agent_identity._storage.byte_reader import ByteReader
from agent_identity._storage.decompress import InflatedError, Inflating, is_compressed
from agent_identity.errors import ConfigurationError


def content(data: bytes) -> bytes:
    """Return what a compressed file holds, line by line."""
    source = Inflating(data[:8], ByteReader.of(io.BytesIO(data))).reader
    return b"".join(iter(lambda: source.readline(1_000), b""))


@given(st.lists(st.binary(max_size=3_000), max_size=4), st.sampled_from(["gzip", "zstd"]))
def test_members_follow_each_other(parts: list[bytes], how: str) -> None:
    """Several members or frames are one file, empty ones included."""
    pack = gzip.compress if how == "gzip" else zstandard.compress
    data = b"".join(map(pack, parts)) or pack(b"")
    assert is_compressed(data)
    assert content(data) == b"".join(parts)


@given(
    st.lists(st.binary(min_size=1, max_size=3_000), min_size=1, max_size=3),
    st.sampled_from(["gzip", "zstd"]),
    st.integers(1, 3_000),
    st.booleans(),
)
def test_a_file_that_ends_early_is_an_error(parts: list[bytes], how: str, cut: int, checked: bool) -> None:
    """A member or frame without its end was cut, wherever that was and whatever stands before it."""
    pack = gzip.compress if how == "gzip" else zstandard.ZstdCompressor(write_checksum=checked).compress
    *whole, last = map(pack, parts)
    with pytest.raises(OSError, match="ends early"):
        content(b"".join(whole) + last[: max(4, len(last) - cut)])


@pytest.mark.parametrize(
    "pack", [gzip.compress, zstandard.ZstdCompressor(write_checksum=True).compress], ids=["gzip", "zstd"]
)
def test_damaged_bytes_are_an_error(pack: object) -> None:
    """What is no such file behind its first bytes is named."""
    data = pack(bytes(range(256)) * 40)  # type: ignore[operator]
    with pytest.raises(OSError, match="are damaged"):
        content(data[:12] + b"\xff" * 60 + data[72:])


def test_a_bomb_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is too large once it is decompressed is read no further."""
    monkeypatch.setattr(inflating, "MAX_TRACES", 1_000_000)
    with pytest.raises(OSError, match="more than 1000000 bytes"):
        content(gzip.compress(bytes(3_000_000)))


def test_the_size_of_traces_is_bounded_to_the_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    """As much as is allowed is read, and a byte more is not."""
    for most, fits in ((5_000, True), (4_999, False)):
        monkeypatch.setattr(inflating, "MAX_TRACES", most)
        if fits:
            assert content(gzip.compress(bytes(5_000))) == bytes(5_000)
        else:
            with pytest.raises(OSError, match="more than 4999 bytes"):
                content(gzip.compress(bytes(5_000)))


@pytest.mark.parametrize("how", ["gzip", "zstd"])
@given(sizes=st.lists(st.sampled_from([0, 1, 700, 100_000, 300_000, 2_000_000]), max_size=5))
def test_members_that_become_much_larger_follow_each_other(how: str, sizes: list[int]) -> None:
    """What stands behind a member that was read in several steps is read once, whatever it is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inflating, "FREE_BYTES", 10_000_000)
        check_members(how, sizes)


def check_members(how: str, sizes: list[int]) -> None:
    pack = gzip.compress if how == "gzip" else zstandard.compress
    parts = [bytes([65 + number]) * size for number, size in enumerate(sizes)]
    data = b"".join(map(pack, parts)) or pack(b"")
    assert content(data) == b"".join(parts)


@pytest.mark.parametrize(("how", "ratio"), [("gzip", 200), ("zstd", 1_000)])
def test_a_file_becomes_as_many_times_as_large_as_evidence_does_and_no_larger(
    monkeypatch: pytest.MonkeyPatch, how: str, ratio: int
) -> None:
    """The bound holds to the byte, grows with what was read of the file, and names the cure."""
    pack = gzip.compress if how == "gzip" else zstandard.ZstdCompressor(level=3).compress
    data = pack(bytes(1_000_000))
    assert len(data) * ratio < 1_000_000
    for free, fits in ((1_000_000 - ratio * len(data), True), (999_999 - ratio * len(data), False)):
        monkeypatch.setattr(inflating, "FREE_BYTES", free)
        if fits:
            assert content(data) == bytes(1_000_000)
        else:
            with pytest.raises(InflatedError, match=f"more than {ratio} times its bytes.*decompress it and verify"):
                content(data)


def test_many_small_members_cost_no_more_than_they_are_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """What stands behind a member is not copied for each of them; a quarter of a MB would cost 3 GB."""
    fed, make = 0, zlib.decompressobj

    class Counting:
        def __init__(self, window: int) -> None:
            self._engine = make(window)

        def __getattr__(self, name: str) -> object:
            return getattr(self._engine, name)

        def decompress(self, data: bytes, size: int) -> bytes:
            nonlocal fed
            fed += len(data)
            return self._engine.decompress(data, size)

    data = gzip.compress(b"") * 12_000 + gzip.compress(b"last")
    monkeypatch.setattr(codecs.zlib, "decompressobj", Counting)
    assert content(data) == b"last"
    assert fed < 64 * len(data)


def test_nothing_is_a_whole_file_only_where_any_number_of_members_is() -> None:
    """A segment that was cut to nothing is not one without records."""
    assert codecs.unzstd(lambda size: b"")(10) == codecs.gunzip(lambda size: b"", several=True)(10) == b""
    with pytest.raises(OSError, match="ends early"):
        codecs.gunzip(lambda size: b"", several=False)(10)


def test_without_the_extra_a_zstd_file_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is taken for a damaged file because a library is absent."""
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(ConfigurationError, match="zstd"):
        codecs.unzstd(lambda size: b"")


def test_plain_traces_are_not_compressed() -> None:
    """No form of traces begins like a compressed file."""
    assert not any(map(is_compressed, (b"", b"{}", b"\x0a\x10", b"\0\0\0\x05\x28\xb5\x2f\xfd")))


def test_a_file_has_no_more_documents_than_its_size_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some are free, and each byte that was read is worth one more."""
    data = gzip.compress(b"[]")
    monkeypatch.setattr(inflating, "FREE_DOCUMENTS", 3)
    source = Inflating(data[:8], ByteReader.of(io.BytesIO(data)))
    source.reader.readline(1_000)
    for _ in range(3 + len(data)):
        source.take_document()
    with pytest.raises(InflatedError, match="documents than it has bytes"):
        source.take_document()
