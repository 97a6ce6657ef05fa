"""The low-water mark: the meet of the labels of everything that reached an agent."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final, final

from agent_identity._flow.labels import TRUSTED, Integrity, Label

MAX_SOURCES: Final = 1_024
"""Sources that a mark remembers; one with more is complete no longer, and no ruling exempts all of them."""


@final
@dataclass(frozen=True, slots=True)
class Mark:
    """A low-water mark at one moment.

    Attributes:
        label: The meet of all labels so far.
        seq: The number of changes, its beginning included.
        sources: The records that lowered it, each with the name of a tool or another cause.
        complete: Whether :attr:`sources` names all of them.
        names: The distinct names of the sources, in their order.
    """

    label: Label = TRUSTED
    seq: int = 0
    sources: Mapping[str, str] = field(default_factory=dict[str, str])
    complete: bool = True
    names: tuple[str, ...] = ()

    @classmethod
    def of(cls, sources: Mapping[str, str]) -> "Mark":
        """Return a mark with sources that are known from elsewhere, each with its name."""
        return cls(sources=dict(sources), names=tuple(dict.fromkeys(sources.values())))

    def changes(self, label: Label, source: str | None) -> bool:
        """Return whether content with a label, from a source, would change the mark."""
        if label == TRUSTED:
            return False
        new = source is not None and source not in self.sources and self.complete
        return new or not self.label.is_within(label)

    def with_sources(self, other: "Mark") -> "Mark":
        """Return the mark with the sources of another one, which has joined it."""
        sources = {**self.sources, **other.sources}
        if self.complete and other.complete and len(sources) <= MAX_SOURCES:
            return replace(self, sources=sources, names=tuple(dict.fromkeys((*self.names, *other.names))))
        return replace(self, complete=False)

    def lowered(self, label: Label, source: str | None, name: str) -> "Mark":
        """Return the next mark.

        Args:
            label: The label of what reaches the agent.
            source: The id of the record that it comes from; ``None`` for content that restricts nothing.
            name: The name of the tool, or another cause.
        """
        sources, complete, names = self.sources, self.complete, self.names
        if source is not None and source not in sources:
            complete = complete and len(sources) < MAX_SOURCES
            if complete:
                sources = {**sources, source: name}  # The interpreter copies a plain dict in one step.
                names = names if name in names else (*names, name)
        return Mark(self.label.meet(label), self.seq + 1, sources, complete, names)


@final
@dataclass(frozen=True, slots=True)
class TaskMark:
    """The mark of a task, as its application reads it.

    Attributes:
        integrity: ``"trusted"``, ``"unknown"`` or ``"untrusted"``: the lowest of all inputs so far.
        readers: The ids of those who may read all of it; ``None`` for everyone.
        seq: The number of changes, the beginning included.
    """

    integrity: Integrity
    readers: frozenset[str] | None
    seq: int
