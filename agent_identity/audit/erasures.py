"""What the evidence says about keys of digests that were erased."""

from collections.abc import Iterable, Mapping
from typing import cast, final

__all__ = ["Erasures", "erasure_words"]


def erasure_words(erasure: Mapping[str, str]) -> str | None:
    """Return what an erasure of keys did, in words for people; ``None`` if it was of something else.

    Args:
        erasure: The member ``erasure`` of a record of the right shape.
    """
    if not {"key", "principal"} & erasure.keys():
        return None
    of = f"the task {erasure['key']!a}" if "key" in erasure else f"the tasks of {erasure['principal']!a} so far"
    by = f", by {erasure['by']!a}" if "by" in erasure else ""
    return f"the digests of {of} cannot be proved any more: their keys were erased{by}"


@final
class Erasures:
    """Which tasks have digests that nobody can prove any more.

    Args:
        records: The records of the kind ``erasure``.
    """

    def __init__(self, records: Iterable[Mapping[str, object]]) -> None:
        self._tasks = set[str]()
        self._principals: dict[str, int] = {}
        for record in records:
            erasure = cast("Mapping[str, str]", record["erasure"])
            if "key" in erasure:
                self._tasks.add(erasure["key"])
            elif "principal" in erasure:
                at_ns = int(cast("Mapping[str, str]", record["time"])["start"])
                self._principals[erasure["principal"]] = max(at_ns, self._principals.get(erasure["principal"], 0))

    def cover(self, task: str | None, principal: str | None, started_ns: int) -> bool:
        """Return whether the keys of a task are erased.

        Args:
            task: Its id.
            principal: On whose behalf it was.
            started_ns: When it began, in nanoseconds since the Unix epoch.
        """
        return task in self._tasks or (principal is not None and started_ns <= self._principals.get(principal, -1))
