"""What the shared state remembers of threads and of suspended calls, until it expires.

The state keeps versions of names for ever, so that facts that expire share 4,096 names, each a small document. A
document is read, changed, and put back under the next version; whoever comes second reads again.
"""

import hashlib
import json
from collections.abc import Callable
from typing import Final, TypeAlias, cast, final

from agent_identity._authority.stores.protocol import StateStore
from agent_identity._common.narrowing import is_object
from agent_identity._identity.common.clock import Clock
from agent_identity.canonical import JSON
from agent_identity.errors import StateError

Fact: TypeAlias = dict[str, JSON]
"""One fact, as JSON."""

_NS: Final = 1_000_000_000
_TRIES: Final = 64
_DIGITS: Final = 3
_END: Final = "end"


def key_of(*parts: str | None) -> str:
    """Return the key of a fact; a part that is missing differs from an empty one."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


@final
class Remembered:
    """Facts of one kind, each until its end.

    Args:
        state: The shared state.
        clock: Source of time.
        kind: Begins the names in the state.
    """

    __slots__ = ("_clock", "_kind", "_state")

    def __init__(self, state: StateStore, clock: Clock, kind: str) -> None:
        self._state = state
        self._clock = clock
        self._kind = kind

    def find(self, key: str) -> Fact | None:
        """Return the fact with a key; ``None`` if there is none, or its end has come.

        Raises:
            StateError: The state cannot be asked, or holds something else.
        """
        _, facts = self._read(key)
        return facts.get(key)

    def change(self, key: str, change: Callable[[Fact | None], Fact | None], *, seconds: int) -> None:
        """Change the fact with a key.

        Args:
            key: The key.
            change: Returns the fact as it is to be, or ``None`` to leave it; called again if someone else was first.
            seconds: How long it counts from now, at least.

        Raises:
            StateError: The state cannot be asked, holds something else, or others always were first.
        """
        for _ in range(_TRIES):
            version, facts = self._read(key)
            before = facts.get(key)
            after = change(None if before is None else {k: v for k, v in before.items() if k != _END})
            if after is None:
                return
            end = max(self._now() + seconds, 0 if before is None else cast("int", before[_END]))
            data = json.dumps({**facts, key: {**after, _END: end}}, separators=(",", ":")).encode()
            if self._state.put(self._name(key), version + 1, data):
                return
        raise StateError("others change the shared state faster than it can be read; try again")

    def _read(self, key: str) -> tuple[int, dict[str, Fact]]:
        """Return the version of a document and its facts that count."""
        found = self._state.get(self._name(key))
        if found is None:
            return 0, {}
        version, data = found
        now, facts = self._now(), dict[str, Fact]()
        try:
            document: object = json.loads(data)
        except ValueError:
            document = None
        if not is_object(document):
            raise StateError("the shared state holds something else under a name of this library")
        for name, fact in document.items():
            if is_object(fact) and isinstance(end := fact.get(_END), int) and end > now:
                facts[name] = cast("Fact", fact)
        return version, facts

    def _name(self, key: str) -> str:
        return f"{self._kind}:{key[:_DIGITS]}"

    def _now(self) -> int:
        return self._clock.wall_ns() // _NS
