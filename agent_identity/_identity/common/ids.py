"""Identifiers of tasks, records, grants and streams: UUIDs of version 7 (RFC 9562 §5.7)."""

import os
import threading
from typing import ClassVar, Final, Protocol, final

__all__ = ["Ids", "RandomIds", "uuid7"]

_NS_PER_MS: Final = 1_000_000
_LIMIT_NS: Final = (1 << 48) * _NS_PER_MS
_STEP_NS: Final = 245  # One step of the 12-bit fraction of a millisecond is 244.14 ns.
_VARIANT: Final = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}
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
    if len(random) != 8:
        raise ValueError(f"the source of random bytes returned {len(random)} bytes instead of 8")
    return _text(wall_ns, _tail(random.hex()))


def _text(wall_ns: int, tail: str) -> str:
    """Return the UUID of a time and its second half."""
    if not 0 <= wall_ns < _LIMIT_NS:
        raise ValueError("wall_ns is not from 0 to below 2^48 milliseconds; pass nanoseconds since 1970")
    high = "%015x" % ((wall_ns << 12) // _NS_PER_MS)  # Sooner than format(); milliseconds, and 12 bits more.
    return f"{high[:8]}-{high[8:12]}-7{high[12:]}-{tail}"


def _tail(low: str) -> str:
    """Return the second half of a UUID from 16 random digits, some of which the variant replaces."""
    return f"{_VARIANT[low[0]]}{low[1:4]}-{low[4:]}"


class Ids(Protocol):
    """A source of identifiers. Implementations must be safe to call from any thread."""

    def new(self, now_ns: int) -> str:
        """Return an identifier that was never returned before.

        Args:
            now_ns: Nanoseconds since the Unix epoch, as the caller's clock says.
        """
        ...


# Reentrant, because a signal handler may interrupt the holder and want an id as well. Held over a fork,
# because a child that inherits a lock of a thread it does not have would wait for ever.
_LOCK: Final = threading.RLock()


class _Process:
    """The identity of this process after forks; asking the system at each id would cost a call of it."""

    here: ClassVar[object] = object()


def _after_fork_in_child() -> None:
    _Process.here = object()
    _LOCK.release()


if hasattr(os, "register_at_fork"):  # pragma: no branch  Absent on Windows, where nothing forks.
    os.register_at_fork(before=_LOCK.acquire, after_in_parent=_LOCK.release, after_in_child=_after_fork_in_child)


@final
class RandomIds:
    """UUIDs of version 7 that increase strictly within the process, even when the clock goes back."""

    __slots__ = ("_last_ns", "_owner", "_tails")

    def __init__(self) -> None:
        self._last_ns = -_STEP_NS
        self._owner: object = None
        self._tails: list[str] = []

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
            if self._owner is not _Process.here:  # A forked child must not repeat its parent.
                self._tails.clear()
            try:
                tail = self._tails.pop()
            except IndexError:
                tail = self._more().pop()
            new = _text(stamp, tail)
            self._last_ns = stamp
        return new

    def _more(self) -> list[str]:
        # Many at once: each time the kernel is asked, other threads get their turn.
        pool, self._owner = os.urandom(_POOL_BYTES).hex(), _Process.here
        self._tails = [_tail(pool[start : start + 16]) for start in range(0, len(pool), 16)]
        return self._tails
