"""Identifiers are unique, their bytes sort by time, and they leak nothing but the time."""

import subprocess
import sys
import threading
import uuid
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_identity._identity.common.encoding import b64url_decode, b64url_encode
from agent_identity._identity.common.ids import Ids, bytes_of_id, id_of, id_order, is_digest, is_id128, uuid_of
from agent_identity.identity import RandomIds

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
LIMIT = (1 << 48) * 1_000_000
NOW = 1_764_000_000_123_456_789
WALLS = st.integers(min_value=0, max_value=LIMIT - 1)

FORK = """
import os, threading
from agent_identity.identity import RandomIds
from agent_identity._identity.common import ids
entered, leave, source = threading.Event(), threading.Event(), RandomIds()
def hold():
    with ids._LOCK:
        entered.set()
        leave.wait()
holder = threading.Thread(target=hold)
holder.start()
entered.wait()
threading.Timer(0.05, leave.set).start()
read, write = os.pipe()
child = os.fork()
os.write(write, (source.new(10**18) + "\\n").encode())
if child == 0:
    os._exit(0)
os.waitpid(child, 0)
print(os.read(read, 1000).decode())
"""

REFILL = """
import os
from agent_identity.identity import RandomIds
source = RandomIds()
source.new(10**18)
read, write = os.pipe()
child = os.fork()
os.write(write, "".join(source.new(10**18)[11:] + "\\n" for _ in range(600)).encode())
if child == 0:
    os._exit(0)
os.waitpid(child, 0)
print(os.read(read, 100_000).decode())
"""


def test_the_example_of_the_standard() -> None:
    """RFC 9562, appendix A.6: same time and random bits, same 128 bits."""
    fraction = -(-0xCC3 * 1_000_000 // 4096)
    made = id_of(0x017F22E279B0 * 1_000_000 + fraction, bytes.fromhex("18C4DC0C0C07398F"))
    assert made == "AX8i4nmwfMOYxNwMDAc5jw"
    assert uuid_of(made) == "017f22e2-79b0-7cc3-98c4-dc0c0c07398f"


@given(WALLS, st.binary(min_size=8, max_size=8))
def test_every_id_is_a_uuid_of_version_7(wall: int, random: bytes) -> None:
    """The standard library reads its bytes: version, variant, milliseconds and 62 random bits."""
    made = id_of(wall, random)
    read = uuid.UUID(bytes=bytes_of_id(made))
    assert (uuid_of(made), b64url_encode(read.bytes), len(made)) == (str(read), made, 22)
    assert is_id128(made)
    assert (read.version, read.variant) == (7, uuid.RFC_4122)
    assert read.int >> 80 == wall // 1_000_000
    assert read.int & (1 << 62) - 1 == int.from_bytes(random, "big") & (1 << 62) - 1


@given(WALLS, st.integers(min_value=245, max_value=10**12), st.binary(min_size=8, max_size=8))
def test_the_bytes_of_ids_sort_by_time(wall: int, later: int, random: bytes) -> None:
    """245 nanoseconds later the bytes are greater, whatever the random bits."""
    if wall + later < LIMIT:
        assert bytes_of_id(id_of(wall, b"\xff" * 8)) < bytes_of_id(id_of(wall + later, random))


@given(st.binary(min_size=16, max_size=16))
def test_any_128_bits_have_one_id(data: bytes) -> None:
    """The bytes come back, as a UUID too; 22 characters with bits to spare at the end are no id."""
    text = b64url_encode(data)
    assert is_id128(text)
    assert bytes_of_id(text) == data
    assert uuid_of(text) == str(uuid.UUID(bytes=data))
    others = [text[:-1] + last for last in ALPHABET if last != text[-1]]
    assert {bytes_of_id(other) for other in others if is_id128(other)}.isdisjoint({data})
    assert sum(map(is_id128, others)) == 3


@given(st.lists(st.binary(min_size=16, max_size=16), min_size=2))
def test_the_order_of_ids_is_that_of_their_bytes(parts: list[bytes]) -> None:
    """The text of an id sorts otherwise, since base64url has another order than its characters."""
    made = [b64url_encode(part) for part in parts]
    assert sorted(made, key=id_order) == sorted(made, key=bytes_of_id)
    assert sorted(["-A", "0A", "aA", "AA", "_A"], key=id_order) == ["AA", "aA", "0A", "-A", "_A"]


NO_ID = [
    "",
    "A" * 21,
    "A" * 23,
    "A" * 21 + "B",  # Bits after the last byte.
    "A" * 22 + "==",
    "A" * 22 + "\n",
    "A" * 20 + "+A",
    "A" * 20 + "/A",
    "Ａ" * 22,  # noqa: RUF001  Full-width letters.
    "017f22e2-79b0-7cc3-98c4-dc0c0c07398f",
]


@pytest.mark.parametrize("text", NO_ID)
def test_other_spellings_are_no_id(text: str) -> None:
    """They are told from ids, and have neither bytes nor a UUID."""
    assert not is_id128(text)
    for read in (bytes_of_id, uuid_of):
        with pytest.raises(ValueError, match="22 base64url characters"):
            read(text)


@pytest.mark.parametrize("value", [None, 5, b"A" * 22, ["A" * 22], b"A" * 43])
def test_other_types_are_neither_an_id_nor_a_digest(value: object) -> None:
    """Values of any type may be asked about."""
    assert not is_id128(value)
    assert not is_digest(value)


@given(st.binary(min_size=32, max_size=32))
def test_any_256_bits_have_one_digest(data: bytes) -> None:
    """Of the texts with another last character, 15 are digests, each of other bytes."""
    text = b64url_encode(data)
    others = [text[:-1] + last for last in ALPHABET if last != text[-1] and is_digest(text[:-1] + last)]
    assert is_digest(text)
    assert (len(text), len(others)) == (43, 15)
    assert data not in map(b64url_decode, others)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "A" * 42,
        "A" * 44,
        "s" + "A" * 43,
        "A" * 42 + "B",
        "A" * 43 + "=",
        "A" * 43 + "\n",
        "A" * 41 + "+A",
        "0" * 64,
    ],
)
def test_other_spellings_are_no_digest(text: str) -> None:
    """Neither hexadecimal digits nor padding, nor bits after the last byte."""
    assert not is_digest(text)


@pytest.mark.parametrize("wall", [-1, LIMIT, 1 << 200])
def test_times_out_of_range_are_refused(wall: int) -> None:
    """The 48 bits of milliseconds never wrap."""
    with pytest.raises(ValueError, match="wall_ns"):
        id_of(wall, bytes(8))


@pytest.mark.parametrize("size", [0, 7, 9, 10, 16])
def test_other_amounts_of_randomness_are_refused(size: int) -> None:
    """Too few random bytes make no id by accident."""
    with pytest.raises(ValueError, match=f"{size} bytes instead of 8"):
        id_of(NOW, bytes(size))


@given(st.lists(st.integers(min_value=-LIMIT, max_value=LIMIT // 2), min_size=2, max_size=20))
def test_ids_rise_whatever_the_clock_does(walls: list[int]) -> None:
    """A clock that stands, jumps or goes back never yields an id that is equal or smaller."""
    ids: Ids = RandomIds()
    made = [bytes_of_id(ids.new(wall)) for wall in walls]
    assert all(before < after for before, after in pairwise(made))


def test_ids_carry_the_given_time() -> None:
    """The milliseconds in the id are those of the caller's clock."""
    assert uuid.UUID(uuid_of(RandomIds().new(NOW))).int >> 80 == NOW // 1_000_000


def test_a_time_beyond_the_range_spoils_nothing() -> None:
    """After a refused time the source goes on as before."""
    ids = RandomIds()
    with pytest.raises(ValueError, match="wall_ns"):
        ids.new(LIMIT)
    assert uuid.UUID(uuid_of(ids.new(NOW))).int >> 80 == NOW // 1_000_000


def test_sources_share_no_randomness() -> None:
    """Two processes that start in the same nanosecond make different ids."""
    assert len({RandomIds().new(NOW)[11:] for _ in range(1000)}) == 1000


def test_threads_get_different_ids() -> None:
    """Ids stay unique when threads ask at once."""
    ids, made, start = RandomIds(), list[list[str]](), threading.Barrier(4)

    def run() -> None:
        start.wait()
        made.append([ids.new(NOW) for _ in range(2000)])

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({one for part in made for one in part}) == 8000
    assert all(part == sorted(part, key=bytes_of_id) for part in made)


def test_a_forked_child_neither_hangs_nor_repeats() -> None:
    """A fork while another thread holds the lock leaves the child able to make ids of its own."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORK], capture_output=True, text=True, timeout=60, check=True
    )
    made = done.stdout.split()
    assert len(made) == len(set(made)) == 2


def test_a_forked_child_has_randomness_of_its_own() -> None:
    """What the parent fetched from the kernel in advance serves the parent alone."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", REFILL], capture_output=True, text=True, timeout=60, check=True
    )
    made = done.stdout.split()
    assert len(made) == len(set(made)) == 1200


def test_what_a_fork_leaves_takes_fresh_randomness(monkeypatch: pytest.MonkeyPatch) -> None:
    """What runs in the child lets go of the lock, and has the next id ask the kernel again."""
    module = sys.modules[RandomIds.__module__]
    asked: list[int] = []

    def urandom(size: int) -> bytes:
        asked.append(size)
        return bytes([len(asked)]) * size

    monkeypatch.setattr(module.os, "urandom", urandom)
    ids = RandomIds()
    before = [ids.new(NOW)[11:] for _ in range(2)]
    module._LOCK.acquire()
    module._after_fork_in_child()
    assert ids.new(NOW)[11:] not in before
    assert asked == [4_096, 4_096]
