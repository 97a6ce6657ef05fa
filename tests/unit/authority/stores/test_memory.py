"""State in memory: bounded, and as fast with a million entries as with none."""

import os
import sys
import threading
import time

import pytest

from agent_identity._authority.stores.protocol import GRACE
from agent_identity.errors import StateError
from agent_identity.state import Debit, MemoryState

NOW = 1_000_000


def test_what_is_full_takes_nothing_more_and_keeps_what_it_has() -> None:
    """Keys, counters and names share the room; what is known can still be asked and changed."""
    store = MemoryState(capacity=3)
    counter = [Debit("limit:a", 1, 2, None, NOW + 10)]
    assert store.insert("proof:a", now=NOW, expires_at=NOW + 10)
    assert store.debit(counter, now=NOW) is None
    assert store.put("list", 1, b"")
    for call in (
        lambda: store.insert("proof:b", now=NOW, expires_at=NOW + 10),
        lambda: store.debit([*counter, Debit("limit:b", 1, 2, None, NOW + 10)], now=NOW),
        lambda: store.put("other", 1, b""),
    ):
        with pytest.raises(StateError, match="3 entries") as caught:
            call()
        assert caught.value.code == "state_full"
    assert not store.insert("proof:a", now=NOW, expires_at=NOW + 10)
    assert store.put("list", 2, b"")
    assert [store.debit(counter, now=NOW) for _ in range(2)] == [None, 0]
    assert not store.contains("proof:b", now=NOW)


def test_room_comes_back_when_entries_have_expired() -> None:
    """Keys and counters are forgotten some time after their end, all of them if the room is needed."""
    store = MemoryState(capacity=200)
    for at in range(100):
        assert store.insert(f"proof:{at}", now=NOW, expires_at=NOW + 10)
        assert store.debit([Debit(f"limit:{at}", 1, 1, None, NOW + 10)], now=NOW) is None
    with pytest.raises(StateError):
        store.insert("proof:new", now=NOW + GRACE, expires_at=NOW + 500)
    later = NOW + 10 + GRACE + 64
    many = [Debit(f"limit:new-{at}", 1, 1, None, later + 9) for at in range(64)]
    assert store.debit(many, now=later) is None
    assert all(store.insert(f"proof:new-{at}", now=later, expires_at=later + 9) for at in range(136))
    with pytest.raises(StateError):
        store.insert("proof:one-more", now=later, expires_at=later + 9)


def test_what_was_given_a_longer_life_is_not_forgotten_with_its_first_one() -> None:
    """A key that was kept anew and a counter whose life was extended stay until their last expiry."""
    store = MemoryState()
    assert store.insert("proof:a", now=NOW, expires_at=NOW + 10)
    assert store.insert("proof:a", now=NOW + 10, expires_at=NOW + 1_000)
    assert store.debit([Debit("limit:a", 1, 1, None, NOW + 10)], now=NOW) is None
    assert store.debit([Debit("limit:a", 0, 1, None, NOW + 1_000)], now=NOW) is None
    for at in range(20):
        store.insert(f"proof:{at}", now=NOW + 300, expires_at=NOW + 301)
    assert store.contains("proof:a", now=NOW + 300)
    assert not store.insert("proof:a", now=NOW + 300, expires_at=NOW + 400)
    assert store.debit([Debit("limit:a", 1, 1, None, NOW + 1_000)], now=NOW + 300) == 0


def test_memory_does_not_grow_with_what_has_passed() -> None:
    """A hundred thousand short lives, one after the other, leave a few minutes of them behind."""
    store = MemoryState(capacity=2_000)
    for at in range(100_000):
        now = NOW + at // 10
        assert store.insert(f"proof:{at}", now=now, expires_at=now + 30)
    assert len(store._keys) < 2_000
    assert len(store._calendar._lists) == len(store._calendar._heap) < 10


@pytest.mark.parametrize("capacity", [0, -1])
def test_a_capacity_of_nothing_is_refused(capacity: int) -> None:
    """There must be room for one entry."""
    with pytest.raises(ValueError, match="capacity"):
        MemoryState(capacity=capacity)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_does_not_wait_for_a_thread_of_its_parent() -> None:
    """A lock that another thread held at the fork is a new one in the child."""
    store, held, release = MemoryState(), threading.Event(), threading.Event()

    def hold() -> None:
        with store._lock:
            held.set()
            release.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(60)
    child = os.fork()
    if child == 0:
        os._exit(0 if store.insert("proof:a", now=NOW, expires_at=NOW + 1) else 1)
    release.set()
    thread.join()
    assert os.waitpid(child, 0)[1] == 0
    assert store.insert("proof:a", now=NOW, expires_at=NOW + 1)


@pytest.mark.nightly
def test_ac_31_a_million_ids_cost_no_more_each_than_the_first_ones() -> None:
    """Filling the store takes the same time for each id, with ids expiring all the while; full is an error."""
    store = MemoryState(capacity=1_000_000)
    tracing = sys.gettrace() is not None or getattr(sys, "monitoring", None) is not None
    spent = []
    for block in range(10):
        start = time.process_time()
        for at in range(block * 100_000, (block + 1) * 100_000):
            store.insert(f"proof:{at}", now=NOW + at // 1_000, expires_at=NOW + 2_000 + at // 1_000)
        spent.append(time.process_time() - start)
    with pytest.raises(StateError) as caught:
        store.insert("proof:one-more", now=NOW + 1_000, expires_at=NOW + 9_999)
    assert caught.value.code == "state_full"
    assert not store.insert("proof:0", now=NOW + 1_000, expires_at=NOW + 9_999)
    # Linear growth of a step would make the last block ten times as slow; a busy machine makes it twice as slow.
    assert tracing or min(spent[-3:]) < 4 * min(spent[:3])
    for at in range(2_000):
        now = NOW + 2_000 + GRACE + 64 + at
        assert store.insert(f"proof:later-{at}", now=now, expires_at=now + 30)
