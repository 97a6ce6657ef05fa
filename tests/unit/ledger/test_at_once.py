"""When a record is one write, and when an event loop must not make it."""

from collections.abc import Callable
from pathlib import Path

from plain_records import append

from agent_identity._ledger import sealer as sealing_module
from agent_identity.options import DigestKeys, Ledger, Segments

BODY = {"agent": {"id": "clerk", "owner": "ops@example.com"}}
Open = Callable[..., Ledger]


def test_a_record_is_one_write_while_nothing_else_is_due(opened: Open) -> None:
    """A stream that has begun takes records at once."""
    ledger = opened()
    assert ledger.at_once
    append(ledger, "intent", BODY)
    assert ledger.at_once


def test_what_waits_for_the_disk_is_no_single_write(opened: Open) -> None:
    """With sync='disk' each record is followed by a sync."""
    assert not opened(sync="disk").at_once


def test_a_segment_that_is_nearly_full_is_turned_over_elsewhere(opened: Open) -> None:
    """Near the end of a segment the next record may begin a file."""
    ledger = opened(segments=Segments(max_bytes=65_536 + 4_096))
    assert ledger.at_once
    while ledger.at_once:
        append(ledger, "intent", BODY)
    assert ledger.degraded is None


def test_a_stream_that_is_to_begin_is_begun_elsewhere(opened: Open) -> None:
    """After a failure the next record begins a stream: a folder, a lock and a file."""
    ledger = opened()
    assert ledger._stream is not None
    ledger._stream.usable = False
    assert not ledger.at_once
    append(ledger, "intent", BODY)
    assert ledger.at_once


def test_a_long_queue_is_waited_for_elsewhere(opened: Open) -> None:
    """Where records wait to be sealed, whoever appends more waits as well."""
    ledger = opened()
    ledger.sealing.most_queued = sealing_module._BATCH
    assert not ledger.at_once


def test_a_key_that_is_at_hand_needs_no_file(tmp_path: Path) -> None:
    """A digest key is read or made once, and then known."""
    keys = DigestKeys(tmp_path / "digests.jsonl")
    assert not keys.knows("task")
    keys.create("task")
    assert keys.knows("task")
