"""Grants that a task exported to other processes, and grants of other processes that a stream already holds."""

import os
import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Final, final

from agent_identity._authority.grants.grants import Chain, Grant
from agent_identity._identity.keys.keys import Signer

_MANY: Final = 256
_MAX_RECORDED: Final = 16_384


@final
class AudienceGrant:
    """A chain made for one audience, with the key that proves its possession; it stays in this process.

    Attributes:
        chain: The chain whose leaf only the receiver accepts.
        holder: The key of the leaf.
        onward: A grant to the receiver itself, with which it can go on.
    """

    __slots__ = ("chain", "holder", "onward")

    def __init__(self, chain: Chain, holder: Signer, onward: Grant | None) -> None:
        self.chain = chain
        self.holder = holder
        self.onward = onward


@final
class ExportedGrants:
    """Grants that a task, and everything delegated under it, exported to other processes. Safe from any thread.

    Args:
        task_id: The task, if it was opened here: one note of its end then covers all grants.
        parent: The exported grants of the task from which this one was delegated.
    """

    __slots__ = ("_addressed", "_grants", "_lock", "_parent", "_process", "_task_id")

    def __init__(self, task_id: str | None, parent: "ExportedGrants | None" = None) -> None:
        self._task_id = task_id
        self._parent = parent
        self._process = os.getpid()
        self._lock = threading.RLock()
        self._grants: dict[str, int] = {}
        self._addressed: dict[Hashable, AudienceGrant] = {}

    @property
    def opened_here(self) -> bool:
        """Report whether the task was opened in this process: no delegated and no accepted one."""
        return self._task_id is not None and self._process == os.getpid()

    def add(self, grant: Grant, now: int) -> None:
        """Note a grant that leaves the process.

        Args:
            grant: The grant.
            now: Unix seconds; grants that have expired are forgotten.
        """
        name = self._task_id or grant.id
        with self._lock:
            if len(self._grants) >= _MANY and name not in self._grants:
                self._grants = {key: until for key, until in self._grants.items() if until > now}
            self._grants[name] = max(grant.expires_at, self._grants.get(name, 0))
        if self._parent is not None:
            self._parent.add(grant, now)

    def take(self) -> dict[str, int]:
        """Return, once, the names whose end others must learn, each with its expiry; none in a forked child."""
        if self._process != os.getpid() or not self._grants:
            return {}
        with self._lock:
            taken, self._grants = self._grants, {}
            self._addressed = {}
        return taken

    def addressed(self, receiver: Hashable) -> AudienceGrant | None:
        """Return the grant that was made for a receiver before."""
        return self._addressed.get(receiver)

    def keep(self, receiver: Hashable, addressed: AudienceGrant) -> None:
        """Keep the grant for a receiver; of too many, the oldest is dropped and made anew when needed."""
        with self._lock:
            if len(self._addressed) >= _MANY:
                del self._addressed[next(iter(self._addressed))]
            self._addressed[receiver] = addressed


@final
class RecordedGrants:
    """Grants of other processes that stand in a stream; a bounded number, so that old ones are recorded again."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        # An OrderedDict, because each of its operations that are used here is atomic, without a lock.
        self._known: OrderedDict[tuple[str, str], None] = OrderedDict()

    def lacks(self, stream: str, grant: str) -> bool:
        """Report whether the stream may lack a grant, by its hash."""
        return (stream, grant) not in self._known

    def add(self, stream: str, grant: str) -> None:
        """Note that the stream has the grant."""
        self._known[stream, grant] = None
        if len(self._known) > _MAX_RECORDED:
            self._known.popitem(last=False)
