"""What a verification keeps on the disk: found by its key, in its order, and gone with the process."""

import sqlite3
import threading
from pathlib import Path
from typing import Self

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_identity.audit import overflow as overflow_module
from agent_identity.audit.overflow import Overflow
from agent_identity.audit.scratch import private_file
from agent_identity.errors import ConfigurationError

KEYS = st.binary(max_size=2)
ITEMS = st.lists(st.tuples(KEYS, st.integers(0, 9), st.binary(max_size=3)), max_size=6)


@given(batches=st.lists(ITEMS, max_size=4), popped=st.lists(KEYS, max_size=6))
def test_it_keeps_what_a_dictionary_keeps(batches: list[list[tuple[bytes, int, bytes]]], popped: list[bytes]) -> None:
    """The last value of a key counts, whatever is put and taken out in between."""
    kept, expected = Overflow(), dict[bytes, tuple[int, bytes]]()
    for batch in batches:
        kept.put(batch)
        expected |= {key: (number, value) for key, number, value in batch}
        assert len(kept) == len(expected)
    for key in popped:
        assert kept.get(key) == expected.get(key)
        assert kept.pop(key) == expected.pop(key, None)
        assert len(kept) == len(expected)
    assert sorted(kept.rows()) == sorted((key, value) for key, (_, value) in expected.items())


def test_values_come_in_the_order_of_their_numbers() -> None:
    """Not in that of their keys, nor in that in which they came."""
    kept = Overflow()
    kept.put([(b"a", 3, b"x"), (b"b", 1, b"y"), (b"c", 2, b"z")])
    assert list(kept.rows()) == [(b"b", b"y"), (b"c", b"z"), (b"a", b"x")]
    kept.put(iter([(b"b", 9, b"w")]))
    assert (list(kept.rows())[-1], kept.get(b"b"), len(kept)) == ((b"b", b"w"), (9, b"w"), 3)


def test_nothing_is_made_before_there_is_something(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asking needs no file."""
    monkeypatch.setattr(overflow_module, "private_file", None)
    kept = Overflow()
    assert (len(kept), kept.get(b"a"), kept.pop(b"a"), list(kept.rows())) == (0, None, None, [])


def test_it_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is larger than the cache goes into a file without a name."""
    monkeypatch.setenv("SQLITE_TMPDIR", str(tmp_path))
    monkeypatch.setattr(overflow_module, "_CACHE_KIB", 16)
    kept = Overflow()
    kept.put((b"%d" % number, number, bytes(1_000)) for number in range(500))
    assert len(list(kept.rows())) == 500
    assert list(tmp_path.iterdir()) == []
    settings = {name: kept._file().execute(f"PRAGMA {name}").fetchone()[0] for name in ("cache_size", "journal_mode")}
    assert settings == {"cache_size": -16, "journal_mode": "off"}
    assert kept._file() is kept._file()


@pytest.mark.parametrize("call", ["put", "get", "pop", "rows"])
def test_a_full_disk_says_how_to_go_on(call: str) -> None:
    """Whatever fails, the error names the setting, and nothing of what is kept."""

    class Full:
        """A database without room."""

        total_changes = 0

        def execute(self, *_: object) -> None:
            """Fail."""
            raise sqlite3.OperationalError("secret")

        executemany = execute

        def __enter__(self) -> Self:
            """Begin."""
            return self

        def __exit__(self, *_: object) -> None:
            """End."""

    kept = Overflow()
    kept.put([(b"a", 1, b"x")])
    kept._open = Full()  # type: ignore[assignment]
    calls = {
        "put": lambda: kept.put([(b"b", 1, b"x")]),
        "get": lambda: kept.get(b"a"),
        "pop": lambda: kept.pop(b"a"),
        "rows": lambda: list(kept.rows()),
    }
    with pytest.raises(ConfigurationError) as caught:
        calls[call]()
    assert str(caught.value) == (
        "expected room for temporary files, about 4 KiB for each task that is verified, got 'OperationalError'; "
        "set TMPDIR to a folder with more"
    )
    assert len(kept) == 1


def test_a_private_file_is_its_owners() -> None:
    """It opens no transaction by itself, may be used from any thread, and is closed with its owner."""

    class Owner:
        """Holds it."""

    owner, found = Owner(), list[int]()
    file = private_file(owner, "CREATE TABLE t (x)", "INSERT INTO t VALUES (7)", cache_kib=64)
    assert (file.isolation_level, file.in_transaction) == (None, False)

    def look() -> None:
        found.append(file.execute("SELECT x FROM t").fetchone()[0])

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert found == [7]
    del owner
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        file.execute("SELECT x FROM t")
