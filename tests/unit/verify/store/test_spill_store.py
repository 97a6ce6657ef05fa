"""What a verification keeps on the disk: found by its key, in its order, and gone with the process."""

import gc
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_identity._verify.store import spill_store
from agent_identity._verify.store.spill_store import BloomFilter, SpillStore
from agent_identity.errors import ConfigurationError

KEYS = st.binary(max_size=2)
STEPS = st.lists(st.tuples(st.sampled_from(["put", "hold", "get", "pop"]), KEYS, st.binary(max_size=3)), max_size=30)


def store(near: int) -> SpillStore[bytes]:
    """Return a store of bytes."""
    return SpillStore(bytes, bytes, near=near)


@given(steps=STEPS, near=st.sampled_from([1, 2, 3, 100]))
def test_it_keeps_what_a_dictionary_keeps(steps: list[tuple[str, bytes, bytes]], near: int) -> None:
    """However little fits into memory: each value by its key, and all in the order in which their keys came."""
    kept, expected = store(near), dict[bytes, bytes]()
    for step, key, value in steps:
        if step == "put":
            kept.put(key, value)
            expected[key] = value
        elif step == "pop":
            assert kept.pop(key) == expected.pop(key, None)
        else:
            assert getattr(kept, step)(key) == expected.get(key)
        assert (key in kept) is (key in expected)
        assert len(kept._near) <= near
        assert kept or not expected
    assert list(kept.items()) == list(expected.items())
    assert list(kept.values()) == list(expected.values())


@pytest.mark.parametrize("near", [1, 2, 3, 100])
def test_what_is_held_may_be_changed(near: int) -> None:
    """Until another value is held or put."""
    kept: SpillStore[list[int]] = SpillStore(bytes, list, near=near)
    for number in range(3):
        kept.put(bytes([number]), [number])
    for number in (1, 0, 2, 1):
        held = kept.hold(bytes([number]))
        assert held is not None
        held.append(9)
    assert list(kept.values()) == [[0, 9], [1, 9, 9], [2, 9]]
    assert kept.hold(b"x") is None


def test_nothing_is_made_before_there_is_much(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asking needs no file."""
    monkeypatch.setattr(spill_store, "_private_file", None)
    kept = store(2)
    assert not kept
    assert (kept.get(b"a"), kept.hold(b"a"), kept.pop(b"a"), list(kept.items())) == (None, None, None, [])
    kept.put(b"a", b"1")
    kept.put(b"b", b"2")
    assert list(kept.items()) == [(b"a", b"1"), (b"b", b"2")]


def test_keys_that_were_never_put_need_no_look_at_the_disk() -> None:
    """A filter tells of nearly all of them, and of none that is there."""
    known = BloomFilter()
    for number in range(1_000):
        known.add(b"%064d" % number)
    assert all(b"%064d" % number in known for number in range(1_000))
    assert sum(b"%064d" % number in known for number in range(1_000, 11_000)) < 100
    kept, asked = store(1), list[str]()
    for number in range(3):
        kept.put(bytes([number]), b"")
    assert kept._far is not None
    kept._far.set_trace_callback(asked.append)
    assert kept.get(b"x") is None
    assert asked == []
    assert kept.get(b"\0") == b""
    assert len(asked) == 1


def test_it_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is larger than the cache goes into a file without a name, which any thread may read."""
    monkeypatch.setenv("SQLITE_TMPDIR", str(tmp_path))
    monkeypatch.setattr(spill_store, "_CACHE_KIB", 16)
    kept = store(1)
    for number in range(500):
        kept.put(b"%d" % number, bytes(1_000))
    assert list(tmp_path.iterdir()) == []
    file, found = kept._far, list[bytes | None]()
    assert file is not None
    settings = {name: file.execute(f"PRAGMA {name}").fetchone()[0] for name in ("cache_size", "journal_mode")}
    assert settings == {"cache_size": -16, "journal_mode": "off"}

    def look(into: SpillStore[bytes]) -> None:
        found.append(into.get(b"7"))

    thread = threading.Thread(target=look, args=(kept,))
    thread.start()
    thread.join()
    del thread
    assert found == [bytes(1_000)]
    del kept
    gc.collect()
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        file.execute("SELECT 1")


@pytest.mark.parametrize(
    "call",
    [
        lambda kept: kept.put(b"c", b""),
        lambda kept: kept.get(b"a"),
        lambda kept: kept.hold(b"a"),
        lambda kept: kept.pop(b"a"),
        lambda kept: b"a" in kept,
        lambda kept: list(kept.items()),
    ],
)
def test_a_full_disk_says_how_to_go_on(call: Callable[[SpillStore[bytes]], object]) -> None:
    """Whatever fails, the error names the setting, and nothing of what is kept."""
    kept = store(1)
    kept.put(b"a", b"secret")
    kept.put(b"b", b"secret")
    assert kept._far is not None
    kept._far.close()
    with pytest.raises(ConfigurationError, match="TMPDIR") as caught:
        call(kept)
    assert "secret" not in str(caught.value)
