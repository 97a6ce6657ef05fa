"""What the evidence says about keys of digests that were erased."""

from collections.abc import Iterable
from typing import Final, final

from agent_identity.evidence.records import Erased, Erasure

__all__ = ["Erasures", "erasure_words"]

_RESOURCES: Final = "resources"
"""The id of the key under which the names of resources are digested, as the enforcement point calls it."""


def erasure_words(erased: Erased) -> str | None:
    """Return what an erasure of keys did, in words for people; ``None`` if it was of something else.

    Args:
        erased: What was erased.
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
    """Which tasks have digests that nobody can prove any more.

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
            principal: On whose behalf it was.
            started_ns: When it began, in nanoseconds since the Unix epoch.
        """
        return task in self._tasks or (principal is not None and started_ns <= self._principals.get(principal, -1))
