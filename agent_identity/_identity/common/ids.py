"""Identifiers of tasks, records, grants and streams: 128 bits, laid out as UUIDs of version 7 (RFC 9562 §5.7)."""

import os
import re
import threading
from binascii import a2b_base64
from typing import ClassVar, Final, Protocol, final

from agent_identity._identity.common.encoding import b64url_encode

# The last character of base64url has bits to spare, and only one of the spellings has them at zero.
ID_FORM: Final = "[A-Za-z0-9_-]{21}[AQgw]"
"""The form of an id of 128 bits, as a regular expression."""

DIGEST_FORM: Final = "[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]"
"""The form of a digest, hash or MAC of 256 bits, as a regular expression."""

_NS_PER_MS: Final = 1_000_000
_LIMIT_NS: Final = (1 << 48) * _NS_PER_MS
_STEP_NS: Final = 245  # One step of the 12-bit fraction of a millisecond is 244.14 ns.
_VERSION: Final = 7 << 12
_VARIANT: Final = 1 << 63
_TAIL_BITS: Final = (1 << 62) - 1
_POOL_BYTES: Final = 4_096
_STANDARD: Final = str.maketrans("-_", "+/")
_ALPHABET: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
_ORDER: Final = str.maketrans(_ALPHABET, "".join(sorted(_ALPHABET)))
_ID: Final = re.compile(ID_FORM)
_DIGEST: Final = re.compile(DIGEST_FORM)


def id_of(wall_ns: int, random: bytes) -> str:
    """Return an id of 128 bits, in 22 base64url characters: the bytes of a UUID of version 7.

    The 12 bits after the milliseconds hold the fraction of the millisecond (RFC 9562 §6.2, method 3), so the order of
    the bytes is that of the times down to 245 ns; the other 62 bits are random.

    Args:
        wall_ns: Nanoseconds since the Unix epoch, from 0 to the year 10889.
        random: Exactly 8 random bytes, of which 62 bits are used.

    Raises:
        ValueError: The time or the number of bytes is out of range.
    """
    if len(random) != 8:
        raise ValueError(f"the source of random bytes returned {len(random)} bytes instead of 8")
    return _text(wall_ns, _tail(random))


def is_id128(value: object) -> bool:
    """Return whether a value is an id in 22 base64url characters."""
    return type(value) is str and _ID.fullmatch(value) is not None


def is_digest(value: object) -> bool:
    """Return whether a value is a digest, hash or MAC in 43 base64url characters."""
    return type(value) is str and _DIGEST.fullmatch(value) is not None


def bytes_of_id(text: str) -> bytes:
    """Return the 16 bytes of an id.

    Raises:
        ValueError: The text is no id.
    """
    if not _ID.fullmatch(text):
        raise ValueError("the id is not 22 base64url characters")
    return a2b_base64(text.translate(_STANDARD) + "==")


def id_order(text: str) -> str:
    """Return a text that sorts as the bytes of an id do; any text has one."""
    return text.translate(_ORDER)


def uuid_of(text: str) -> str:
    """Return an id as a UUID in lower case, for formats of others that demand one.

    Raises:
        ValueError: The text is no id.
    """
    digits = bytes_of_id(text).hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def _text(wall_ns: int, tail: bytes) -> str:
    """Return the id of a time and its second half."""
    if not 0 <= wall_ns < _LIMIT_NS:
        raise ValueError("wall_ns is not from 0 to below 2^48 milliseconds; pass nanoseconds since 1970")
    stamp = (wall_ns << 12) // _NS_PER_MS
    high = (stamp >> 12) << 16 | _VERSION | stamp & 0xFFF
    return b64url_encode(high.to_bytes(8) + tail)


def _tail(random: bytes) -> bytes:
    """Return the second half of an id from 8 random bytes, two bits of which the variant replaces."""
    return (int.from_bytes(random) & _TAIL_BITS | _VARIANT).to_bytes(8)


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
    """Ids whose bytes increase strictly within the process, even when the clock goes back."""

    __slots__ = ("_last_ns", "_owner", "_tails")

    def __init__(self) -> None:
        self._last_ns = -_STEP_NS
        self._owner: object = None
        self._tails: list[bytes] = []

    def new(self, now_ns: int) -> str:
        """Return a new identifier, greater than every earlier one of this object.

        Args:
            now_ns: Nanoseconds since the Unix epoch.

        Raises:
            ValueError: The time is beyond the range of :func:`id_of`.
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

    def _more(self) -> list[bytes]:
        # Many at once: each time the kernel is asked, other threads get their turn.
        pool, self._owner = os.urandom(_POOL_BYTES), _Process.here
        self._tails = [_tail(pool[start : start + 8]) for start in range(0, len(pool), 8)]
        return self._tails
