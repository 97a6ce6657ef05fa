"""Checks nested tasks: the outer task exists, is the only one named, and nesting has no cycle."""

from typing import Final, NamedTuple, final

import orjson

from agent_identity._record.schema import Grant, TaskStart
from agent_identity._verify.report.findings import Findings, Place
from agent_identity._verify.store.spill_store import SpillStore

__all__ = ["OuterTasks"]

_GRANTS: Final = 6
_NEAR: Final = 4_096  # Tasks in memory, of some 500 bytes each.
_DEEPEST: Final = 10_000  # Tasks within tasks; nobody opens as many, and each is held in memory.


class _Opened(NamedTuple):
    """The facts in the openings of a task.

    Attributes:
        outer: The task in which it was opened; nothing if no opening names one.
        principal: The kind and the id of its principal.
        place: The first opening, or the first that names the outer task.
    """

    outer: str
    principal: tuple[str, str]
    place: Place

    def packed(self) -> bytes:
        """Serialize for the spill; :meth:`unpacked` reverses it."""
        return orjson.dumps((self.outer, self.principal, tuple(self.place)))

    @classmethod
    def unpacked(cls, data: bytes) -> "_Opened":
        """Deserialize the bytes of :meth:`packed`."""
        outer, (kind, name), place = orjson.loads(data)
        return cls(outer, (kind, name), Place(*place))


@final
class OuterTasks:
    """Checks the openings of a ledger.

    Args:
        findings: Takes what is found.
    """

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._tasks = SpillStore(_Opened.packed, _Opened.unpacked, near=_NEAR)

    def take(self, record: Grant | TaskStart, place: Place) -> None:
        """Store the outer task that an opening names.

        Openings of the task by other processes name no outer task and do not contradict it.

        Args:
            record: The opening.
            place: Where it is.
        """
        task, outer = record.task.id.encode(), record.task.outer or ""
        known = self._tasks.get(task)
        if known is None or (outer and not known.outer):
            self._tasks.put(task, _Opened(outer, (record.principal.kind, record.principal.id), place))
        elif outer not in ("", known.outer):
            message = "the opening names another outer task than the other openings of the task"
            self._findings.add(_GRANTS, "outer_task_differs", message, place)

    def finish(self, *, partial: bool) -> None:
        """Check the outer tasks after the whole source was read.

        Args:
            partial: Openings may be missing, because records were pruned or withheld, or cannot be read.
        """
        over = SpillStore(bytes, bytes, near=_NEAR)  # Tasks that are known to be outside any cycle.
        for task, opened in self._tasks.items():
            if opened.outer:
                self._judge(opened, partial=partial)
                self._follow(task, over, opened.place)

    def _judge(self, opened: _Opened, *, partial: bool) -> None:
        findings, outer = self._findings, self._tasks.get(opened.outer.encode())
        if outer is None and partial:
            findings.counts["outer_tasks_not_shown"] += 1
        elif outer is None:
            message = "the outer task is not in the ledger; it is recorded elsewhere, or lost"
            findings.add(_GRANTS, "outer_task_missing", message, opened.place)
        elif outer.principal != opened.principal:
            message = "the task was opened within a task of another principal, and no record says who permitted that"
            findings.add(_GRANTS, "outer_principal_differs", message, opened.place)

    def _follow(self, task: bytes, over: SpillStore[bytes], place: Place) -> None:
        """Follow the outer tasks to the outermost one; each task is visited once."""
        way: dict[bytes, None] = {}
        while task and task not in over and task not in way and len(way) < _DEEPEST:
            way[task] = None
            opened = self._tasks.get(task)
            task = b"" if opened is None else opened.outer.encode()
        if task and task not in over:
            message = f"the outer tasks form a cycle, or are nested deeper than {_DEEPEST:,}"
            self._findings.add(_GRANTS, "outer_task_cycle", message, place)
        for passed in way:
            over.put(passed, b"1")
