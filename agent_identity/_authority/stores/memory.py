"""State of one process, in memory."""

import heapq
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, TypeAlias, final

from agent_identity._authority.stores._counters import Parts, Spending, given_back, kept_in, kept_with, taken
from agent_identity._authority.stores.forks import renewed_in_children
from agent_identity._authority.stores.protocol import (
    GRACE,
    Debit,
    Horizon,
    check_debits,
    check_key,
    check_number,
    check_version,
    kept_of,
    share_of,
)
from agent_identity._common.typed_calls import typed_calls
from agent_identity.errors import StateError

_CAPACITY: Final = 2**20
_SPAN: Final = 64
_FORGET: Final = 16

_Counter: TypeAlias = tuple[str, int | None]


@final
class _Calendar:
    """Expiry queue: entries in lists for about a minute each, so that a step has the same cost at any size."""

    __slots__ = ("_heap", "_lists")

    def __init__(self) -> None:
        self._heap: list[int] = []
        self._lists: dict[int, list[str | _Counter]] = {}

    def note(self, item: "str | _Counter", expires_at: int) -> None:
        span = expires_at // _SPAN
        items = self._lists.get(span)
        if items is None:
            items = self._lists[span] = []
            heapq.heappush(self._heap, span)
        items.append(item)

    def due(self, now: int) -> "Iterator[str | _Counter]":
        """Remove and return the entries that expired a while ago."""
        while self._heap and (self._heap[0] + 1) * _SPAN <= now - GRACE:
            items = self._lists[self._heap[0]]
            if items:
                yield items.pop()
            else:
                del self._lists[heapq.heappop(self._heap)]


@typed_calls("__init__")
@final
class MemoryState(Spending):
    """State of this process alone; it ends with the process, and a forked child has a copy of its own.

    Expired entries are forgotten a few at each step, so a step costs the same however many there are.

    Args:
        capacity: Keys, counters and names that it holds at most; then it refuses new ones with ``state_full``.
    """

    def __init__(self, *, capacity: int = _CAPACITY) -> None:
        if check_number("capacity", capacity) == 0:
            raise ValueError("the capacity is below 1; give at least 1")
        self._capacity = capacity
        # Reentrant, because a signal handler may revoke while this thread is inside.
        self._lock = threading.RLock()
        self._calendar = _Calendar()
        self._keys: dict[str, int] = {}
        self._counters: dict[_Counter, tuple[int, Parts]] = {}
        self._versions: dict[str, tuple[int, bytes]] = {}
        self._generation = 0
        self._horizon = Horizon()
        renewed_in_children(self)

    def insert(self, key: str, *, now: int, expires_at: int) -> bool:
        """See :meth:`StateStore.insert`."""
        check_key(key)
        if check_number("expires_at", expires_at) <= self._horizon.of(check_number("now", now)):
            return False
        with self._lock:
            self._forget(now, _FORGET)
            known = self._keys.get(key)
            if known is None:
                self._make_room(now, 1)
                self._calendar.note(key, expires_at)
            elif known > now:
                return False
            self._keys[key] = expires_at
            self._generation += 1
            return True

    def contains(self, key: str, *, now: int) -> bool:
        """See :meth:`StateStore.contains`."""
        return self._keys.get(check_key(key), 0) > check_number("now", now)

    def _spent(self, share: str | None, debits: Sequence[Debit], now: int) -> tuple[int, ...] | int:
        with self._lock:
            self._forget(now, _FORGET)
            kept = tuple(self._kept(share, debit, now) for debit in debits)
            after: dict[_Counter, tuple[int, Parts]] = {}
            for index, (debit, amount) in enumerate(zip(debits, kept, strict=True)):
                counter = (debit.key, debit.window)
                expires_at, parts = self._counter(counter, now)
                sums = taken(parts, debit.beyond(amount), now)
                if sums is None:
                    return index
                after[counter] = (max(expires_at, debit.expires_at), sums)
                if share is not None and amount:
                    after[share_of(share, debit).key, None] = (0, {})
            self._store(after, now)
        return kept

    def keep(self, share: str, debits: Sequence[Debit], *, now: int) -> None:
        """See :meth:`StateStore.keep`."""
        check_key(share)
        if check_debits(debits, now, self._horizon) is not None:
            return
        with self._lock:
            self._forget(now, _FORGET)
            after: dict[_Counter, tuple[int, Parts]] = {}
            for mine in kept_of(share, debits):
                expires_at, parts = self._counter((mine.key, None), now)
                after[mine.key, None] = (max(expires_at, mine.expires_at), kept_with(parts, mine.amount))
            self._store(after, now)

    def credit(self, debits: Sequence[Debit], *, now: int) -> None:
        """See :meth:`StateStore.credit`."""
        check_debits(debits, now, self._horizon)
        with self._lock:
            for debit in debits:
                counter = (debit.key, debit.window)
                if counter in self._counters:
                    expires_at, parts = self._counters[counter]
                    self._counters[counter] = (expires_at, given_back(parts, debit, now))

    def put(self, name: str, version: int, data: bytes) -> bool:
        """See :meth:`StateStore.put`."""
        check_version(name, version, data)
        with self._lock:
            known = self._versions.get(name)
            if known is None:
                self._check_room(1)
            elif known[0] >= version:
                return False
            self._versions[name] = (version, data)
            self._generation += 1
            return True

    def get(self, name: str) -> tuple[int, bytes] | None:
        """See :meth:`StateStore.get`."""
        return self._versions.get(check_key(name))

    def generation(self) -> int:
        """See :meth:`StateStore.generation`."""
        return self._generation

    def generation_at_once(self, start: object) -> int:  # noqa: ARG002  See DirectoryState: this one never waits.
        """Return the result of :meth:`generation`."""
        return self._generation

    def close(self) -> None:
        """Do nothing: the store holds no resources, and used ids must stay used."""

    def after_fork_in_child(self) -> None:
        """Replace the lock, which another thread of the parent may have held."""
        self._lock = threading.RLock()

    def _counter(self, counter: _Counter, now: int) -> tuple[int, Parts]:
        """Return the expiry of a counter, and its sums; an expired one begins anew."""
        expires_at, parts = self._counters.get(counter, (0, {}))
        return (expires_at, parts) if expires_at > now else (0, {})

    def _kept(self, share: str | None, debit: Debit, now: int) -> int:
        """Return the amount of a debit that a share holds."""
        if share is None or debit.window is not None:
            return 0
        return kept_in(self._counter((share_of(share, debit).key, None), now)[1])

    def _store(self, after: Mapping[_Counter, tuple[int, Parts]], now: int) -> None:
        """Store counters, all of them or none."""
        self._make_room(now, sum(counter not in self._counters for counter in after))
        for counter, (expires_at, parts) in after.items():
            if counter not in self._counters:
                self._calendar.note(counter, expires_at)
            self._counters[counter] = (expires_at, parts)

    def _make_room(self, now: int, wanted: int) -> None:
        try:
            self._check_room(wanted)
        except StateError:
            self._forget(now, self._capacity)
            self._check_room(wanted)

    def _check_room(self, wanted: int) -> None:
        if len(self._keys) + len(self._counters) + len(self._versions) + wanted > self._capacity:
            raise StateError(
                f"the state of this process is full of {self._capacity} entries that have not expired; "
                "use a store that holds more, or shorter lives",
                code="state_full",
            )

    def _forget(self, now: int, most: int) -> None:
        """Forget at most ``most`` of the entries that expired a while ago."""
        for _, item in zip(range(most), self._calendar.due(now), strict=False):
            expires_at = self._keys[item] if isinstance(item, str) else self._counters[item][0]
            if expires_at > now - GRACE:
                self._calendar.note(item, expires_at)  # It was stored anew since, or given a longer life.
            elif isinstance(item, str):
                del self._keys[item]
            else:
                del self._counters[item]
