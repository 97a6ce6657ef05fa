"""Inspection of a text that arrives in pieces: what is found in it so far, and up to where that is final."""

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, Protocol, final, runtime_checkable

from agent_identity._inspection._texts import tail_of
from agent_identity._policy.decision.request import Finding


class Progress(NamedTuple):
    """The answer of an inspector to a piece of a stream.

    Attributes:
        findings: What is final; spans count from the beginning of the stream, and the path is ``""``.
        settled: The offset in the stream before which nothing will be found any more, so that it may be delivered.
    """

    findings: Sequence[Finding] = ()
    settled: int = 0


class InspectorStream(Protocol):
    """The state of an inspector for one text that arrives in pieces."""

    def feed(self, text: str) -> Progress:
        """Take in the next piece.

        Args:
            text: The piece.
        """
        ...

    def close(self) -> Sequence[Finding]:
        """Return what is found besides, as the text has ended."""
        ...


@runtime_checkable
class StreamInspector(Protocol):
    """An inspector that judges streams by itself. All others get a window of the stream, or the whole."""

    def inspect(self, content: object) -> Sequence[Finding]:
        """Return what was found in a whole text; see :class:`agent_identity.policy.Inspector`."""
        ...

    def open(self, tool: str) -> InspectorStream:
        """Return the state for one text.

        Args:
            tool: The name of the tool whose result it is.
        """
        ...


_STEPS: Final = 4
"""Parts of what is held back of which one has to be new before a window is looked at again."""

_SHARE: Final = 8
"""Parts of a whole window, which matches and hidden characters may make long, of which one has to be new likewise: so
that the work stays linear."""


@final
class StreamWindow:
    """Looks at a stream through a window: what may be part of a match stays in it, and as much of what was before.

    Args:
        inspect: Returns what is found in a text; spans count from its beginning.
        hold: Characters of the longest match; ``None`` looks at the whole stream when it has ended.
    """

    __slots__ = ("_base", "_hold", "_inspect", "_next", "_pieces", "_settled", "_size", "_step")

    def __init__(self, inspect: Callable[[str], Sequence[Finding]], hold: int | None) -> None:
        self._inspect: Final = inspect
        self._hold: Final = hold
        self._step: Final = 0 if hold is None else max(hold // _STEPS, 1)
        self._pieces: list[str] = []
        self._size = 0
        self._base = 0
        self._settled: int = 0
        self._next: int = 0 if hold is None else hold + self._step

    def feed(self, text: str) -> Progress:
        """Take in the next piece.

        Args:
            text: The piece.
        """
        self._pieces.append(text)
        self._size += len(text)
        hold = self._hold
        if hold is None or self._base + self._size < self._next:
            return Progress((), self._settled)
        whole = self._whole()
        end = self._base + tail_of(whole, hold)
        progress = Progress((), self._settled)
        if end - self._settled >= self._step:
            progress = self._look(whole, end)
        self._next = self._base + self._size + max(self._step, self._size // _SHARE)
        return progress

    def close(self) -> Sequence[Finding]:
        """Return what is found besides, as the text has ended."""
        return self._look(self._whole(), self._base + self._size).findings

    def _whole(self) -> str:
        whole = "".join(self._pieces)
        self._pieces = [whole]
        return whole

    def _look(self, whole: str, end: int) -> Progress:
        found = [self._moved(finding) for finding in self._inspect(whole)]
        spans = sorted((finding.span for finding in found if finding.span is not None), reverse=True)
        for first, last in spans:
            if first < end < last:
                end = first  # It may go on, and what it stands in with it.
        end = max(end, self._settled)
        before, self._settled = self._settled, end
        final = [one for one in found if one.span is None or (before < one.span[1] and one.span[0] < end)]
        if self._hold is not None:
            kept = max(end - self._hold - self._base, 0)
            self._pieces, self._base, self._size = [whole[kept:]], self._base + kept, self._size - kept
        return Progress(final, end)

    def _moved(self, finding: Finding) -> Finding:
        if finding.span is None or self._base == 0:
            return finding
        first, last = finding.span
        return Finding(
            category=finding.category,
            inspector=finding.inspector,
            field=finding.field,
            severity=finding.severity,
            path=finding.path,
            span=(first + self._base, last + self._base),
            confidence=finding.confidence,
        )
