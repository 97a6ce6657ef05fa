"""What must be known about the past, so that a proof counts once and a task that has ended stays ended."""

import heapq
import threading
from typing import Final, Protocol, final

from agent_identity.errors import AgentIdentityError
from agent_identity.identity import Clock

__all__ = ["Seen", "SeenHere"]

_NS: Final = 1_000_000_000
_CAPACITY: Final = 1 << 18


class Seen(Protocol):
    """Keys that were seen, each until it expires; each method is one atomic step, safe from any thread.

    Whatever goes wrong raises, best with a ``code``; nothing is guessed.
    """

    def insert(self, key: str, *, now: int, expires_at: int) -> bool:
        """Keep a key and return ``True``, exactly once until it expires; times in Unix seconds."""
        ...

    def contains(self, key: str, *, now: int) -> bool:
        """Return whether a key is kept."""
        ...


@final
class SeenHere:
    """Keys in the memory of this process; enough where no other process receives the same proofs.

    Args:
        clock: Its monotonic time measures how long a key is kept, so that no jump of the wall clock lets a
            proof count again.
        capacity: Keys that are kept at most; a full memory refuses new ones.
    """

    __slots__ = ("_capacity", "_clock", "_deadlines", "_lock", "_order")

    def __init__(self, clock: Clock, capacity: int = _CAPACITY) -> None:
        self._clock = clock
        self._capacity = capacity
        self._deadlines: dict[str, int] = {}
        self._order: list[tuple[int, str]] = []
        self._lock = threading.RLock()

    def insert(self, key: str, *, now: int, expires_at: int) -> bool:
        """Keep a key and return ``True``, exactly once until it expires.

        Raises:
            AgentIdentityError: With code ``state_full``: no key can be kept until others expire.
        """
        at = self._clock.monotonic_ns()
        with self._lock:
            self._forget(at)
            if key in self._deadlines:
                return False
            if len(self._deadlines) >= self._capacity:
                raise AgentIdentityError(
                    "expected room for another key, got a full memory; share a state store, or slow the callers down",
                    code="state_full",
                )
            deadline = at + max(0, expires_at - now) * _NS
            self._deadlines[key] = deadline
            heapq.heappush(self._order, (deadline, key))
            return True

    def contains(self, key: str, *, now: int) -> bool:  # noqa: ARG002  The monotonic clock decides.
        """Return whether a key is kept."""
        deadline = self._deadlines.get(key)
        return deadline is not None and self._clock.monotonic_ns() < deadline

    def after_fork_in_child(self) -> None:
        """Replace the lock, which another thread of the parent may have held."""
        self._lock = threading.RLock()

    def _forget(self, at: int) -> None:
        while self._order and self._order[0][0] <= at:
            del self._deadlines[heapq.heappop(self._order)[1]]
