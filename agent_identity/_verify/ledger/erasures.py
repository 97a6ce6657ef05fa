"""Erasures of digest keys in the evidence."""

from collections.abc import Iterable
from typing import Final, final

from agent_identity._record.parts import Erased
from agent_identity._record.schema import Erasure

_RESOURCES: Final = "resources"
"""Id of the digest key for resource names at the enforcement point."""


def erasure_words(erased: Erased) -> str | None:
    """Return the effect of an erasure of keys, in words for people; ``None`` for other erasures.

    Args:
        erased: The erasure.
    """
    if erased.key is None and erased.principal is None:
        return None
    if erased.key == _RESOURCES:
        of = "the resources so far"
    elif erased.key is None:
        of = f"the tasks of {erased.principal!a} so far"
    else:
        of = f"the task {erased.key!a}"
    by = "" if erased.by is None else f", by {erased.by!a}"
    return f"the digests of {of} cannot be proved any more: their keys were erased{by}"


@final
class Erasures:
    """Tasks whose digests can no longer be proved.

    Args:
        records: The records of the kind ``erasure``.
    """

    def __init__(self, records: Iterable[Erasure]) -> None:
        self._tasks = set[str]()
        self._principals: dict[str, int] = {}
        for record in records:
            key, principal = record.erasure.key, record.erasure.principal
            if key is not None:
                self._tasks.add(key)
            elif principal is not None:
                self._principals[principal] = max(record.time.start_ns, self._principals.get(principal, 0))

    def cover(self, task: str | None, principal: str | None, started_ns: int) -> bool:
        """Return whether the keys of a task are erased.

        Args:
            task: Its id.
            principal: Its principal.
            started_ns: Its start, in nanoseconds since the Unix epoch.
        """
        return task in self._tasks or (principal is not None and started_ns <= self._principals.get(principal, -1))
