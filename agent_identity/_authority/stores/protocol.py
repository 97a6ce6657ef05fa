"""State that outlives a call and may be shared: used ids, counters of limits, the newest list of a name.

One small protocol stands before all of it. Each method is one atomic step, so that of any number of threads,
processes and machines that ask for the same thing exactly as many get it as may.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol, final

GRACE: Final = 60
"""Seconds for which a store remembers what has expired, so that clocks of those who share may differ so much."""

MAX_NUMBER: Final = 2**53
"""The largest time, amount, limit and version: what every store and every language counts exactly."""

MAX_DATA: Final = 16 * 1024 * 1024
"""Bytes that :meth:`StateStore.put` keeps under one name, at most."""

_MAX_KEY: Final = 512
_MAX_DEBITS: Final = 64


class Debit(NamedTuple):
    """The amount that a call takes from a limit.

    Attributes:
        key: Names the counter, together with the window.
        amount: The amount, in the limit's smallest unit; not negative.
        limit: The maximum of the sum.
        window: Seconds over which the sum is taken; None for the whole life of the counter.
        expires_at: Unix seconds from which the counter may be forgotten. A debit that comes later does not fit.
    """

    key: str
    amount: int
    limit: int
    window: int | None
    expires_at: int

    def beyond(self, kept: int) -> "Debit":
        """Return the debit of the amount beyond one that is already kept."""
        return self._replace(amount=max(0, self.amount - kept))


class StateStore(Protocol):
    """The interface of shared state. Every method is one atomic step and may be called from any thread.

    Keys and names are 1 to 512 visible characters and begin with what they are, such as ``proof:``. Times are
    Unix seconds of the caller's clock; the clocks of those who share a store must agree within a minute.
    Numbers go up to 2^53.

    Every method raises :class:`~agent_identity.errors.StateError` if the store cannot be asked, and never
    guesses. Wrong use is a ``TypeError`` or ``ValueError``.
    """

    def insert(self, key: str, *, now: int, expires_at: int) -> bool:
        """Store a key and return whether it is new: ``True`` exactly once for each key until it expires.

        A key whose time is over is never new: by ``now``, or by what this store heard the time was before, less a
        minute. So a clock that goes back lets nothing through twice.

        Args:
            key: For example ``proof:`` and the id of a proof.
            now: Unix seconds.
            expires_at: Until when it is kept.

        Raises:
            StateError: With code ``state_full`` if the store has no room for another key.
        """
        ...

    def contains(self, key: str, *, now: int) -> bool:
        """Return whether the key was inserted and has not expired."""
        ...

    def debit(self, debits: Sequence[Debit], *, now: int) -> int | None:
        """Take every amount or none.

        In no window of a debit's length will the amounts that were taken exceed its limit. To that end a store
        may count an amount for a little longer than the window: a sixtieth of it and a second.

        Args:
            debits: At most 64, each of another counter.
            now: Unix seconds. A clock that went back counts as the latest time that the counter has seen.

        Returns:
            None if all was taken; otherwise the index of the first debit that does not fit.

        Raises:
            StateError: With code ``state_full`` if the store has no room for another counter.
        """
        ...

    def credit(self, debits: Sequence[Debit], *, now: int) -> None:
        """Undo a :meth:`debit`; a sum never falls below zero.

        Args:
            debits: The same as were taken.
            now: The time at which they were taken. What has left its window since is not given back.
        """
        ...

    def keep(self, share: str, debits: Sequence[Debit], *, now: int) -> None:
        """Keep the debits of a call under a name, so that :meth:`resume` need not take them again.

        The amounts stay debited. Where an amount of the same counter is kept under the name already, the larger
        one counts. A debit with a window is not kept, nor is one that comes after its counter's end.

        Args:
            share: For example ``share:`` and a digest of what names the call.
            debits: The debits of the call, at most 64.
            now: Unix seconds.

        Raises:
            StateError: With code ``state_full`` if the store has no room for another share.
        """
        ...

    def resume(self, share: str, debits: Sequence[Debit], *, now: int) -> tuple[int, ...] | int:
        """Take a kept share and debit the amounts beyond it: all of this, or nothing.

        Of all who ask for one share at the same time exactly one gets it; for the others nothing is kept any more,
        and they debit in full. A debit with a window is always in full: it is about this moment.

        Args:
            share: The name under which it was kept.
            debits: The debits that the call needs, at most 64, each of another counter.
            now: Unix seconds, as for :meth:`debit`.

        Returns:
            What was kept of each debit, 0 where nothing was; or the index of the first debit that does not fit,
            and then the share stays where it is.

        Raises:
            StateError: With code ``state_full`` if the store has no room for another counter.
        """
        ...

    def put(self, name: str, version: int, data: bytes) -> bool:
        """Store the data under a name if its version is greater than the stored one; return whether it was.

        Args:
            name: For example ``revocations``.
            version: Grows with each change.
            data: At most 16 MiB.
        """
        ...

    def get(self, name: str) -> tuple[int, bytes] | None:
        """Return the newest version of a name and its data, or ``None``."""
        ...

    def generation(self) -> int:
        """Return a number that changes with every key and every version that anyone stores.

        It is made to be asked on every call: a caller that finds it unchanged need not look any further.
        """
        ...

    def close(self) -> None:
        """Close files and connections; idempotent."""
        ...


@final
class Horizon:
    """The latest time known to a store; it may forget entries that expired :data:`GRACE` before."""

    __slots__ = ("_latest",)

    def __init__(self) -> None:
        self._latest = 0

    def of(self, now: int) -> int:
        """Return the time before which an entry may be forgotten: now, or later if the clock went back by far."""
        self._latest = max(self._latest, now)
        return max(now, self._latest - GRACE)


def check_key(key: object) -> str:
    """Return the key or name after checking that a store can hold it.

    Raises:
        TypeError: It is no ``str``.
        ValueError: It has not 1 to 512 visible characters.
    """
    if type(key) is not str:
        raise TypeError(f"the key of state is {type(key).__name__}; give a str")
    if not 0 < len(key) <= _MAX_KEY or not key.isprintable():
        raise ValueError(f"the key of state is not 1 to {_MAX_KEY} visible characters")
    return key


def check_number(name: str, value: object) -> int:
    """Return the value after checking that it is a whole number that every store counts exactly.

    Raises:
        TypeError: It is no ``int``.
        ValueError: It is negative or beyond 2^53.
    """
    if type(value) is not int:
        raise TypeError(f"{name} is {type(value).__name__}; give an int")
    if not 0 <= value <= MAX_NUMBER:
        raise ValueError(f"{name} is not from 0 to 2^53")
    return value


def check_debits(debits: Sequence[Debit], now: int, horizon: Horizon) -> int | None:
    """Check the form of debits, and return the index of the first one after its counter's end.

    Args:
        debits: The debits.
        now: Unix seconds.
        horizon: The latest time of the store.

    Raises:
        TypeError: A member is of another type.
        ValueError: A member is out of range, two debits are of one counter, or there are more than 64.
    """
    over = horizon.of(check_number("now", now))
    if len(debits) > _MAX_DEBITS:
        raise ValueError(f"there are {len(debits)} debits at once; give at most {_MAX_DEBITS}")
    late: int | None = None
    for index, debit in enumerate(debits):
        check_key(debit.key)
        check_number("amount", debit.amount)
        check_number("limit", debit.limit)
        if debit.window is not None and check_number("window", debit.window) == 0:
            raise ValueError("the window is shorter than one second")
        if check_number("expires_at", debit.expires_at) <= over and late is None:
            late = index
    if len({(debit.key, debit.window) for debit in debits}) != len(debits):
        raise ValueError("a counter is twice among the debits; add their amounts")
    return late


def share_of(share: str, debit: Debit) -> Debit:
    """Return the debit whose counter holds the kept amount of another under a name.

    A line break stands between the two names, which no key of a caller can have.
    """
    return Debit(f"{check_key(share)}\n{debit.key}", debit.amount, MAX_NUMBER, None, debit.expires_at)


def kept_of(share: str, debits: Sequence[Debit]) -> list[Debit]:
    """Return the debits that :meth:`StateStore.keep` keeps: no rates, because they are about a moment, and no zeros."""
    return [share_of(share, debit) for debit in debits if debit.window is None and debit.amount]


def check_version(name: str, version: int, data: bytes) -> None:
    """Check a version and its data before they are stored.

    Raises:
        TypeError: An argument is of another type.
        ValueError: An argument is out of range.
    """
    check_key(name)
    check_number("version", version)
    if type(data) is not bytes:
        raise TypeError(f"the data is {type(data).__name__}; give bytes")
    if len(data) > MAX_DATA:
        raise ValueError(f"the data has {len(data)} bytes, more than {MAX_DATA}")
