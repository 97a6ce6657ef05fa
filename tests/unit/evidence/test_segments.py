"""Streams over several files: what is read is the same, however often they rotate and whoever compresses them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from agent_identity.evidence import segments as segments_module
from agent_identity.evidence.ledger import Ledger
from agent_identity.evidence.segments import Segments

BODY = {"agent": {"id": "clerk", "owner": "ops@example.com"}}
Open = Callable[..., Ledger]
PLAIN = Segments(max_bytes=65_536, compression="none")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let segments be as small as 700 bytes, which is three records."""
    monkeypatch.setattr(segments_module, "_MIN_BYTES", 1)


def tiny(compression: str = "none", **options: object) -> Segments:
    """Return segments of three records."""
    return Segments(max_bytes=700, compression=compression, **options)


def names(directory: Path, stream: str) -> list[str]:
    """Return the files of a stream."""
    return sorted(path.name for path in (directory / "ledger" / stream).iterdir() if path.name != "lock")


def wait_for_compression(ledger: Ledger) -> None:
    """Wait until nothing is left to compress."""
    thread = ledger._sealing._compressor._thread
    if thread is not None:
        thread.join(10)


def test_a_large_segment_is_closed_and_the_chain_goes_on(
    small: None, opened: Open, audit: Callable, directory: Path
) -> None:
    """Every record is read once and in order over all files, with MACs, links and roots that fit."""
    ledger = opened(segments=tiny())
    for _ in range(10):
        ledger.append("registration", BODY)
    ledger.close()
    files = names(directory, ledger.stream_id if hasattr(ledger, "stream_id") else next(iter(audit().records)))
    found = audit()
    (stream,) = found.records
    assert len(found.records[stream]) == 12
    assert found.sealed[stream] == 12
    assert len(files) > 3
    assert files[-1] == "entries.jsonl"
    print(files)
