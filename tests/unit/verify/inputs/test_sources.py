"""What there is to verify: directories, files, standard input, and how much of it."""

import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from agent_identity._ledger.segments import Segment
from agent_identity._verify.inputs import sources
from agent_identity._verify.inputs.sources import directory_of, opened, size_of_files, size_of_ledger, to_trust
from agent_identity.errors import ConfigurationError
from agent_identity.identity import SigningKey, TrustedKey, TrustStore

TRUST = TrustStore((TrustedKey(SigningKey.from_seed(bytes(32)).public_key, "recorder"),))


def test_trust_is_given_or_loaded(tmp_path: Path) -> None:
    """Keys stay as they are, and a path is that of their file."""
    TRUST.save(tmp_path / "trust.json")
    assert to_trust(None) is None
    assert to_trust(TRUST) is TRUST
    assert to_trust(tmp_path / "trust.json") == to_trust(str(tmp_path / "trust.json")) == TRUST
    with pytest.raises(ConfigurationError):
        to_trust(tmp_path / "absent")


def test_a_folder_of_streams_stands_for_its_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it has this name and a log beside it; the path is absolute, and no link is followed."""
    (tmp_path / "e" / "ledger").mkdir(parents=True)
    assert directory_of(tmp_path / "e" / "ledger") == str(tmp_path / "e" / "ledger")
    (tmp_path / "e" / "log").write_bytes(b"no folder")
    assert directory_of(tmp_path / "e" / "ledger") == str(tmp_path / "e" / "ledger")
    (tmp_path / "e" / "log").unlink()
    (tmp_path / "e" / "log").mkdir()
    assert directory_of(tmp_path / "e" / "ledger") == directory_of(str(tmp_path / "e")) == str(tmp_path / "e")
    assert directory_of(tmp_path / "e" / "log") == str(tmp_path / "e" / "log")
    monkeypatch.chdir(tmp_path)
    assert directory_of("e") == str(tmp_path / "e")
    (tmp_path / "link").symlink_to("e")
    assert directory_of("link") == str(tmp_path / "link")
    assert [directory_of(other) for other in ("absent", b"e", ["e"], io.BytesIO(), 7)] == [None] * 5
    with pytest.raises(ConfigurationError):
        directory_of("e\0")


class Reader:
    """As much of a reader as its size takes."""

    def __init__(self, streams: Mapping[str, Sequence[Segment]]) -> None:
        self._streams = streams

    def streams(self) -> tuple[str, ...]:
        """Return their names."""
        return tuple(self._streams)

    def segments(self, stream: str) -> Sequence[Segment]:
        """Return those of a stream."""
        return self._streams[stream]


def test_the_size_of_a_ledger_is_that_of_its_streams() -> None:
    """Of all of them or of some; what is compressed is taken for six times as large."""
    reader: Any = Reader(
        {
            "a": (Segment("p", 1, "none", 10), Segment("p", 4, "gzip", 100)),
            "b": (Segment("p", 1, "gzip", 1_000),),
            "c": (),
        }
    )
    assert size_of_ledger(reader) == 10 + 6 * 100 + 6 * 1_000
    assert [size_of_ledger(reader, names) for names in ([], ["a"], ["b", "c"])] == [0, 610, 6_000]


def test_the_size_of_files_is_known_of_all_or_of_none(tmp_path: Path) -> None:
    """Of a stream, of standard input and of what cannot be seen it is not."""
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_bytes(b"123")
    two.write_bytes(b"4567")
    assert size_of_files([one, str(two), one]) == 10
    for other in (io.BytesIO(b"12"), "-", tmp_path / "absent", "e\0"):
        assert size_of_files([one, other, two]) == 0
    assert size_of_files([]) == 0


def test_a_file_is_opened_and_closed(tmp_path: Path) -> None:
    """Its bytes come as they are, many at once; a file that is open already stays open."""
    (tmp_path / "one").write_bytes(b"a\r\nb")
    with opened(tmp_path / "one") as file:
        assert file.readline(10) == b"a\r\n"
        raw: Any = file
        assert (raw.closed, raw.mode) == (False, "rb")
    assert raw.closed
    given = io.BytesIO(b"x")
    with opened(given) as file:
        assert file is given
    assert not given.closed
    absent = str(tmp_path / "absent")
    words = f"cannot read {absent!r}: {os.strerror(2)}; name an evidence directory or a file of spans"
    with pytest.raises(ConfigurationError) as caught, opened(absent):
        pytest.fail("there is none")
    assert str(caught.value) == words
    assert caught.value.__suppress_context__
    with pytest.raises(ConfigurationError), opened("e\0"):
        pytest.fail("there is no such path")


def test_a_line_is_read_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line of one span is longer than the usual buffer."""
    asked: list[object] = []

    def noting(*given: object, **named: object) -> Any:
        asked.append((given, named))
        return io.BytesIO()

    monkeypatch.setattr(sources, "open", noting, raising=False)
    with opened(tmp_path / "one"):
        pass
    assert asked == [((tmp_path / "one", "rb"), {"buffering": 262_144})]


def test_standard_input_is_that_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """In binary, and left open."""
    asked: list[object] = []

    def file_of(*given: object, **named: object) -> object:
        asked.append((given, named))
        return "raw"

    monkeypatch.setattr(sources, "io", SimpleNamespace(FileIO=file_of, BufferedReader=lambda raw: [raw]))
    with opened("-") as file:
        assert file == ["raw"]
    assert asked == [((0,), {"closefd": False})]
