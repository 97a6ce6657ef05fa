"""The registry of open tasks, which alone decides whether authority lives.

The ambient context only *finds* a lease; contexts are copied, captured by generators and left over in
threads. Each call asks the lease, and ending it is one write that every thread sees at its next call.
"""

import threading
import weakref
from collections.abc import Callable
from typing import Final, final

from agent_identity._identity.common.clock import Clock
from agent_identity._identity.common.names import check_id
from agent_identity.errors import GrantExpired, NoTask

_ENDED: Final = "ended"
_EXPIRED: Final = "expired"


class _Task:
    """The state shared by the leases of one task.

    Attributes:
        seen_wall_ns: The latest wall time that any of them has seen.
        lock: Guards the tree of all leases of the registry.
        watch: For a task that was opened elsewhere: tells whether it has ended there.
    """

    __slots__ = ("lock", "seen_wall_ns", "task_id", "watch")

    def __init__(
        self, task_id: str, seen_wall_ns: int, lock: threading.RLock, watch: Callable[[], bool] | None
    ) -> None:
        self.task_id = task_id
        self.seen_wall_ns = seen_wall_ns
        self.lock = lock
        self.watch = watch


@final
class Lease:
    """The life of one grant: open until its deadline, or until it or an ancestor is ended.

    Received from :meth:`TaskRegistry.open`; never built by users.

    Attributes:
        id: Its own name; the task's, unless it was given another.
        parent: The lease that it descends from, if any.
        deadline_wall_ns: When it expires at the latest, in nanoseconds since the epoch.
        live: True if it neither ended nor was seen to expire; :meth:`check` reads the clock as well.
    """

    __slots__ = (
        "__weakref__",
        "_children",
        "_deadline_monotonic_ns",
        "_over",
        "_task",
        "deadline_wall_ns",
        "id",
        "live",
        "parent",
    )

    def __init__(self, lease_id: str, task: _Task, parent: "Lease | None", wall_ns: int, monotonic_ns: int, /) -> None:
        self.id = lease_id
        self.parent = parent
        self.deadline_wall_ns = wall_ns
        self._deadline_monotonic_ns = monotonic_ns
        self._task = task
        self._over: str | None = None
        self.live = True
        self._children: weakref.WeakSet[Lease] = weakref.WeakSet()

    def __repr__(self) -> str:
        return f"Lease(id={self.id!r}, {self._over or 'open'})"

    @property
    def task_id(self) -> str:
        """The id of its task."""
        return self._task.task_id

    @property
    def watched(self) -> bool:
        """True if another process opened the task, so that :meth:`check` asks whether it has ended there."""
        return self._task.watch is not None

    def check(self, clock: Clock) -> None:
        """Check that the lease lives; takes no lock and the same time at any depth.

        For a task that was opened elsewhere, it asks each time whether the task has ended there.

        It expires as soon as either clock says so. A wall clock that goes back never revives it: time is
        the latest that the task has seen, and a lease that expired once stays expired.

        Raises:
            NoTask: With code ``task_ended`` once it or an ancestor has been ended.
            GrantExpired: It is past its deadline.
            AgentIdentityError: It cannot be told whether the task has ended elsewhere.
        """
        self.look(clock)
        watch = self._task.watch
        if watch is not None:
            if watch():
                self._spread(_ENDED)
            self.look(clock)  # Asking may have taken long.

    def look(self, clock: Clock) -> None:
        """Check that the lease lives, as :meth:`check` does, from the state of this process: it never waits.

        Raises:
            NoTask: As for :meth:`check`.
            GrantExpired: As for :meth:`check`.
        """
        if self._over is None:
            task = self._task
            wall = clock.wall_ns()
            # Two threads may race here and keep the earlier time; expiry itself is remembered below.
            if wall > task.seen_wall_ns:
                task.seen_wall_ns = wall
            else:
                wall = task.seen_wall_ns
            if wall < self.deadline_wall_ns and clock.monotonic_ns() < self._deadline_monotonic_ns:
                return
            self._spread(_EXPIRED)
        raise self._refusal()

    def check_live(self) -> None:
        """Check that the lease neither ended nor was seen to expire; reads no clock and takes no lock.

        Raises:
            NoTask: As for :meth:`check`.
            GrantExpired: As for :meth:`check`.
        """
        if not self.live:
            raise self._refusal()

    def _refusal(self) -> NoTask | GrantExpired:
        if self._over == _ENDED:
            return NoTask("the task has ended; open a new one", code="task_ended")
        return GrantExpired("the grant has expired; open a new task")

    def end(self) -> None:
        """End the lease and everything under it, at once and in every thread; idempotent."""
        self._spread(_ENDED)

    def _spread(self, over: str) -> None:
        """Mark the lease and all its descendants as ended; ended ones stay ended."""
        with self._task.lock:
            if self._over != _ENDED:
                self._over = over
                self.live = False
            # As deep as the chain at most, which is 32.
            for child in self._children:
                child._spread(over)  # noqa: SLF001  A lease like this one.

    def relock(self, lock: threading.RLock) -> None:
        """Have the task's leases use another lock. For :class:`TaskRegistry`."""
        self._task.lock = lock

    def child(self, lease_id: str, deadline_wall_ns: int, deadline_monotonic_ns: int) -> "Lease":
        """Return a lease under this one that expires no later. For :class:`TaskRegistry`, which locks."""
        wall = min(deadline_wall_ns, self.deadline_wall_ns)
        lease = Lease(lease_id, self._task, self, wall, min(deadline_monotonic_ns, self._deadline_monotonic_ns))
        self._children.add(lease)
        return lease


@final
class TaskRegistry:
    """The tasks that are open in this process; safe to use from any thread.

    Leases form a tree: a task, what it delegates, what that delegates. It holds them weakly, so a task
    that no one can use any more costs nothing.
    """

    __slots__ = ("_lock", "_resumed", "_roots")

    def __init__(self) -> None:
        # Reentrant, because a signal handler may end tasks while this thread is ending one.
        self._lock = threading.RLock()
        self._roots: weakref.WeakValueDictionary[str, Lease] = weakref.WeakValueDictionary()
        self._resumed: weakref.WeakSet[Lease] = weakref.WeakSet()

    def open(
        self,
        task_id: str,
        deadline_wall_ns: int,
        parent: Lease | None = None,
        *,
        clock: Clock,
        id: str | None = None,  # What it is called in the grant.
    ) -> Lease:
        """Return a new lease.

        Args:
            task_id: The task; a child's is its parent's.
            deadline_wall_ns: When it expires, in nanoseconds since the epoch; never later than its parent.
            parent: The lease under which authority is delegated; None opens a new task.
            clock: Both clocks are read once: the time left is measured by the monotonic one from here.
            id: Its own name, for example the id of the grant; the task's if None.

        Raises:
            NoTask: The parent has ended.
            GrantExpired: The parent has expired, or the deadline has passed.
            ValueError: The task is open already, or the parent belongs to another task.
        """
        check_id(task_id, "task_id")
        wall, monotonic = clock.wall_ns(), clock.monotonic_ns()
        if deadline_wall_ns <= wall:
            raise GrantExpired("the deadline has passed; open a new task")
        limit = monotonic + deadline_wall_ns - wall
        if parent is not None:
            if parent.task_id != task_id:
                raise ValueError("the task id is not that of the parent lease")
            parent.check(clock)  # It may ask elsewhere: a lock held meanwhile would keep other tasks from ending.
        with self._lock:
            if parent is None:
                if task_id in self._roots:
                    raise ValueError("the task id is in use; give each task its own")
                task = _Task(task_id, wall, self._lock, None)
                lease = Lease(id or task_id, task, None, deadline_wall_ns, limit)
                self._roots[task_id] = lease
                return lease
            parent.look(clock)
            return parent.child(id or task_id, deadline_wall_ns, limit)

    def resume(
        self,
        task_id: str,
        deadline_wall_ns: int,
        *,
        clock: Clock,
        id: str,  # What it is called in the grant.
        watch: Callable[[], bool],
    ) -> Lease:
        """Return a new lease for a task that was opened elsewhere; it may be resumed any number of times.

        Args:
            task_id: The task.
            deadline_wall_ns: When it expires, in nanoseconds since the epoch.
            clock: As for :meth:`open`.
            id: Its own name: the id of the grant.
            watch: Tells, at each check, whether the task has ended where it was opened; raises if that
                cannot be told.

        Raises:
            GrantExpired: The deadline has passed.
        """
        check_id(task_id, "task_id")
        wall, monotonic = clock.wall_ns(), clock.monotonic_ns()
        if deadline_wall_ns <= wall:
            raise GrantExpired("the grant has expired; open a new task")
        limit = monotonic + deadline_wall_ns - wall
        with self._lock:
            lease = Lease(id, _Task(task_id, wall, self._lock, watch), None, deadline_wall_ns, limit)
            self._resumed.add(lease)
        return lease

    def count(self, clock: Clock) -> int:
        """Return the number of tasks that live in this process: opened here, or continued from another process.

        Args:
            clock: The wall clock tells which have expired.
        """
        now = clock.wall_ns()
        with self._lock:
            leases = [*self._roots.values(), *self._resumed]
        return sum(lease.live and now < lease.deadline_wall_ns for lease in leases)

    def after_fork_in_child(self) -> None:
        """Replace the lock, which another thread of the parent may have held. Call it only in a new child."""
        self._lock = threading.RLock()
        for lease in [*self._roots.values(), *self._resumed]:
            lease.relock(self._lock)

    def end_all(self) -> None:
        """End every task."""
        with self._lock:
            for lease in [*self._roots.values(), *self._resumed]:
                lease.end()
