"""The mark at which a call is judged, and what the flow of a task knows besides."""

import hashlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from agent_identity._flow.labels import Label
from agent_identity._flow.mark import Mark
from agent_identity._flow.provenance import Origin
from agent_identity._ledger.writer import Entry
from agent_identity._record.parts import MarkAfter, MarkSeen

if TYPE_CHECKING:
    from agent_identity._guard.tasks.task_flow import TaskFlow

Conclude: TypeAlias = Callable[[MarkAfter | None], Entry]
"""Writes the outcome of a call with the mark after it."""


class Carried(NamedTuple):
    """What came with a hop of another process: the call that it came for, and the mark of whoever handed it over."""

    call: str
    mark: Label | None


class Arrived(NamedTuple):
    """A result or an error that is about to be delivered.

    Attributes:
        label: Its label.
        learn: Keeps its values.
        is_source: The call brings in something of its own, and does not only repeat what the mark stands for.
    """

    label: Label
    learn: Callable[[], None]
    is_source: bool = True


class Judged(NamedTuple):
    """The mark at which a call is judged.

    Attributes:
        seen: Whose mark it is, and its number.
        mark: The mark.
        args: By argument, where its value comes from.
        destinations: The same of the arguments that decide where the call leads.
    """

    seen: MarkSeen
    mark: Mark
    args: Mapping[str, Origin]
    destinations: Mapping[str, Origin]

    def covers(self, later: "Judged | None") -> bool:
        """Return whether a later mark has no sources beyond those of this one."""
        if later is None:
            return False
        known = later.mark.sources.keys() <= self.mark.sources.keys() and later.mark.complete
        return known and self.mark.label.is_within(later.mark.label)

    def at(self, flow: "TaskFlow") -> "Judged":
        """Return the same judgement at the mark of now; for monitor mode."""
        return self._replace(seen=flow.seen, mark=flow.mark)


def text_digest(text: str) -> bytes:
    """Return the digest by which a text is known."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
