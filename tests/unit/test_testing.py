"""The doubles for tests do what they say."""

import threading

import pytest

from agent_identity._storage.layout import is_stream_id
from agent_identity.testing import FixedClock, SequentialIds


def test_a_fixed_clock_moves_only_when_told() -> None:
    """Both clocks advance together, only forwards; the wall clock alone may be set, also back."""
    clock = FixedClock(1_000)
    assert (clock.wall_ns(), clock.wall_ns(), clock.monotonic_ns()) == (1_000, 1_000, 0)
    clock.advance(1.5)
    assert (clock.wall_ns(), clock.monotonic_ns()) == (1_500_001_000, 1_500_000_000)
    clock.set_wall(5)
    assert (clock.wall_ns(), clock.monotonic_ns()) == (5, 1_500_000_000)
    with pytest.raises(ValueError, match="set_wall"):
        clock.advance(-1)


def test_sequential_ids_count() -> None:
    """Ids are distinct UUIDs in order, the same in every run, from any thread."""
    ids, again = SequentialIds(), SequentialIds()
    first = [ids.new(10**9) for _ in range(3)]
    assert first == [again.new(10**9) for _ in range(3)]
    assert first == sorted(set(first))
    assert all(map(is_stream_id, first))
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.extend(ids.new(1) for _ in range(100))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 400
