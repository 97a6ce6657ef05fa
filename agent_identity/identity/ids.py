"""Identifiers of tasks, records, grants and streams: UUIDs of version 7 (RFC 9562 §5.7)."""

import os
import threading
from typing import Final, Protocol, final

__all__ = ["Ids", "RandomIds", "uuid7"]

_NS_PER_MS: Final = 1_000_000
_LIMIT_NS: Final = (1 << 48) * _NS_PER_MS
_STEP_NS: Final = 245  # One step of the 12-bit fraction of a millisecond is 244.14 ns.
_VARIANT: Final = "89ab"
_POOL_BYTES: Final = 4_096


def uuid7(wall_ns: int, random: bytes) -> str:
    """Return a UUID of version 7, lower-case, that sorts by time.

    The 12 bits after the milliseconds hold the fraction of the millisecond (RFC 9562 §6.2, method 3),
    so text order is time order down to 245 ns; the other 62 bits are random.

    Args:
        wall_ns: Nanoseconds since the Unix epoch, from 0 to the year 10889.
        random: Exactly 8 random bytes, of which 62 bits are used.

    Raises:
        ValueError: The time or the number of bytes is out of range.
    """
    if not 0 <= wall_ns < _LIMIT_NS:
        raise ValueError("expected wall_ns from 0 to below 2^48 milliseconds; pass nanoseconds since 1970")
    if len(random) != 8:
        raise ValueError(f"expected 8 random bytes, got {len(random)}")
    milliseconds, rest = divmod(wall_ns, _NS_PER_MS)
    # Two halves of 64 bits, because arithmetic on 128 bits costs twice as much. Version and variant take
    # the place of random bits (RFC 9562 §4).
    high = (milliseconds << 16 | 0x7000 | (rest << 12) // _NS_PER_MS).to_bytes(8, "big").hex()
    low = random.hex()
    return f"{high[:8]}-{high[8:12]}-{high[12:]}-{_VARIANT[random[0] >> 4 & 3]}{low[1:4]}-{low[4:]}"


class Ids(Protocol):
    """A source of identifiers. Implementations must be safe to call from any thread."""

    def new(self, now_ns: int) -> str:
        """Return an identifier never returned before.

        Args:
            now_ns: Nanoseconds since the Unix epoch, as the caller's clock says.
        """
        ...


# Reentrant, because a signal handler may interrupt the holder and want an id as well. Held over a fork,
# because a child that inherits a lock of a thread it does not have would wait for ever.
_LOCK: Final = threading.RLock()
if hasattr(os, "register_at_fork"):  # pragma: no branch  Absent on Windows, where nothing forks.
    os.register_at_fork(before=_LOCK.acquire, after_in_parent=_LOCK.release, after_in_child=_LOCK.release)


@final
class RandomIds:
    """UUIDs of version 7 that rise strictly within the process, even when the clock goes back."""

    __slots__ = ("_last_ns", "_owner", "_pool", "_used")

    def __init__(self) -> None:
        self._last_ns = -_STEP_NS
        self._owner = 0
        self._pool = b""
        self._used = 0

    def new(self, now_ns: int) -> str:
        """Return a new identifier, greater than every earlier one of this object.

        Args:
            now_ns: Nanoseconds since the Unix epoch.

        Raises:
            ValueError: The time is beyond the range of :func:`uuid7`.
        """
        with _LOCK:
            stamp = self._last_ns + _STEP_NS
            if now_ns > stamp:  # noqa: PLR1730  max() costs three times as much.
                stamp = now_ns
            new = uuid7(stamp, self._random())
            self._last_ns = stamp
        return new

    def _random(self) -> bytes:
        """Return 8 random bytes, asking the kernel for many at once: each time, other threads get their turn."""
        process = os.getpid()
        if self._used == len(self._pool) or self._owner != process:  # A forked child must not repeat its parent.
            self._pool, self._used, self._owner = os.urandom(_POOL_BYTES), 0, process
        start = self._used
        self._used = start + 8
        return self._pool[start : self._used]
