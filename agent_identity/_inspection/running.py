"""Runs the inspectors of a tool: linear ones where the call is made, all others in threads, within a deadline."""

import contextvars
import os
import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Generic, Literal, TypeVar, final

from agent_identity._inspection.document import MAX_CHARACTERS
from agent_identity._inspection.inspector import TextInspector, inspect_texts
from agent_identity._inspection.stream_windows import InspectorStream, Progress, StreamInspector, StreamWindow
from agent_identity._policy.decision.patterns import check_patterns, matches
from agent_identity._policy.decision.places import Problem
from agent_identity._policy.decision.request import Content, Direction, Finding, Inspector

_T = TypeVar("_T")

MAX_THREADS: Final = 128
"""Inspections that run in threads at the same time in one process; one more is refused."""

DEADLINE: Final = 10.0
"""Seconds that one inspection in a thread may take, unless its inspector is selected with another deadline."""


@final
@dataclass(frozen=True, slots=True, init=False)
class Selected:
    """An inspector with the tools, the direction and the bounds that it is for.

    Args:
        inspector: The inspector.
        tools: The name of a tool or several; ``*`` stands for any characters and ``?`` for one.
        direction: ``"input"`` or ``"output"``; by default both.
        deadline: Seconds, for an inspector that runs in a thread.
        inline: Run it where the call is made, on an event loop as well. Only for inspectors in linear time.
        limit: Characters that an inspector of text looks at; the rest is ``uninspected``. So many characters of a
            stream are held back at most.
        hold: Characters of a stream that are held back, because a match may still go on: those of the longest match to
            find in it. By default ``inspector.longest``; without that, the whole stream.

    Raises:
        TypeError: The inspector has no ``inspect``, or is a selected one.
        ValueError: A pattern, the direction, the deadline, the limit or ``hold`` is malformed.
    """

    inspector: Inspector
    tools: tuple[str, ...]
    direction: Direction | None
    deadline: float
    inline: bool
    limit: int
    hold: int | None

    def __init__(
        self,
        inspector: Inspector,
        *,
        tools: str | Sequence[str] = "*",
        direction: Literal["input", "output"] | None = None,
        deadline: float = DEADLINE,
        inline: bool | None = None,
        limit: int = MAX_CHARACTERS,
        hold: int | None = None,
    ) -> None:
        if isinstance(inspector, Selected) or not callable(getattr(inspector, "inspect", None)):
            raise TypeError(f"the inspector is {type(inspector).__name__}; give one that has inspect(content)")
        if direction not in {None, "input", "output"}:
            raise ValueError("the direction is an unknown word; use input or output, or leave it out for both")
        if not 0 < deadline <= 3_600 or limit < 1:
            raise ValueError("the deadline or the limit is out of range; give up to 3600 seconds, and 1 or more")
        longest: object = getattr(inspector, "longest", None) if hold is None else hold
        if longest is not None and (type(longest) is not int or longest < 1):
            raise ValueError("hold, or longest of the inspector, is malformed; give 1 character or more")
        try:
            patterns = check_patterns(tools, ("tools",))
        except Problem as problem:
            raise ValueError(f"the tools are malformed: {problem}") from None
        fields: dict[str, object] = {
            "inspector": inspector,
            "tools": patterns,
            "direction": direction,
            "deadline": deadline,
            "inline": getattr(inspector, "inline", False) is True if inline is None else inline,
            "limit": limit,
            "hold": longest,
        }
        for name, value in fields.items():
            object.__setattr__(self, name, value)

    def inspect(self, content: Content) -> Sequence[Finding]:
        """Return what the inspector finds, whatever the tool.

        Args:
            content: What to look at.
        """
        return self.inspector.inspect(content)


def prepare(inspectors: Sequence[Inspector]) -> None:
    """Have inspectors load what they need; those that have nothing to load have no ``prepare``.

    Args:
        inspectors: The inspectors.

    Raises:
        ConfigurationError: Something is missing.
    """
    for inspector in inspectors:
        bare = inspector.inspector if isinstance(inspector, Selected) else inspector
        load: object = getattr(bare, "prepare", None)
        if callable(load):
            load()


@final
class Inspection:
    """The inspectors of one tool in one direction.

    Args:
        inspectors: All inspectors of the enforcer.
        tool: The name of the tool.
        direction: The direction.

    Attributes:
        waits: An inspector runs in a thread.
        foreign: Inspectors that are not ours, which may change what they are shown.
        hold: Characters of a stream that are held back; ``None`` for all of it.
        limit: Characters that are looked at, or held back, at most.
        advisory: The names of inspectors whose findings alone block nothing.
        sure: The names of all other inspectors of text.
    """

    __slots__ = ("_direction", "_texts", "advisory", "foreign", "hold", "limit", "sure", "waits")

    def __init__(self, inspectors: Sequence[Inspector], tool: str, direction: Direction) -> None:
        texts: dict[int, list[TextInspector]] = {}
        chosen_ones: list[Selected] = []
        foreign: list[Selected] = []
        for each in inspectors:
            chosen = each if isinstance(each, Selected) else Selected(each)
            if chosen.direction not in {None, direction} or not any(matches(one, tool) for one in chosen.tools):
                continue
            chosen_ones.append(chosen)
            bare = chosen.inspector
            if isinstance(bare, TextInspector) and chosen.inline:
                texts.setdefault(chosen.limit, []).append(bare)
            else:
                foreign.append(chosen)
        self._direction: Final = direction
        self.advisory: Final = _names(chosen_ones, advisory=True)
        self.sure: Final = _names(chosen_ones, advisory=False)
        self._texts: Final = tuple((limit, tuple(group)) for limit, group in texts.items())
        self.foreign: Final = tuple(foreign)
        self.waits: Final = any(not one.inline for one in foreign)
        self.hold: Final = _hold_of(chosen_ones)
        self.limit: Final = min((one.limit for one in chosen_ones), default=MAX_CHARACTERS)

    def __bool__(self) -> bool:
        """Tell whether there is an inspector."""
        return bool(self._texts or self.foreign)

    def texts(self, value: object, injected: Collection[str] = ()) -> tuple[Finding, ...]:
        """Return what the inspectors of text find, which run no code of others.

        Args:
            value: The arguments by name, or the result.
            injected: Names of arguments that the framework filled in.
        """
        if not self._texts:
            return ()
        limit, group = self._texts[0]
        findings = inspect_texts(value, group, self._direction, injected, limit=limit)
        for limit, group in self._texts[1:]:
            findings = (*findings, *inspect_texts(value, group, self._direction, injected, limit=limit))
        return findings

    def open(self, tool: str) -> tuple[InspectorStream, ...]:
        """Return the state of the inspectors for one text that arrives in pieces.

        Args:
            tool: The name of the tool.
        """
        streams = [self._opened(each, tool) for each in self.foreign]
        if self._texts:
            group = [inspector for _, some in self._texts for inspector in some]
            look = partial(_looked_at, inspectors=group, direction=self._direction)
            streams.append(StreamWindow(look, self.hold))
        return tuple(streams)

    def _opened(self, each: Selected, tool: str) -> InspectorStream:
        inspector = each.inspector
        if isinstance(inspector, StreamInspector):
            return _Timed(inspector.open(tool), each)

        def look(text: str) -> tuple[Finding, ...]:
            content = Content(direction=self._direction, tool=tool, value=text)
            return _checked(_timed(partial(_inspected, each.inspector, content, each.limit), each))

        return StreamWindow(look, each.hold)

    def others(self, content: Content) -> list[Finding]:
        """Return what all other inspectors find.

        Args:
            content: What to look at.

        Raises:
            TimeoutError: One did not answer in time; its thread ends when it does.
            RuntimeError: Too many inspections are running.
            TypeError: One returned something else than findings.
        """
        findings: list[Finding] = []
        for each in self.foreign:
            findings.extend(_timed(partial(_inspected, each.inspector, content, each.limit), each))
        return [*_checked(findings)]


def _names(chosen: Sequence[Selected], *, advisory: bool) -> frozenset[str]:
    """Return the names of the inspectors of text that are advisory, or of those that are not."""
    texts = (one.inspector for one in chosen if isinstance(one.inspector, TextInspector))
    return frozenset(one.name for one in texts if bool(one.advisory) is advisory)


def _hold_of(chosen: Sequence[Selected]) -> int | None:
    """Return how many characters are held back for all inspectors that do not judge streams by themselves."""
    holds = [one.hold for one in chosen if not isinstance(one.inspector, StreamInspector)]
    known = [hold for hold in holds if hold is not None]
    return max(known, default=1) if len(known) == len(holds) else None


def _timed(run: Callable[[], _T], each: Selected) -> _T:
    return run() if each.inline else _THREADS.run(run, each.deadline)


def _checked(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    if not all(type(finding) is Finding for finding in findings):
        raise TypeError("an inspector returned an item that is no Finding; return findings only")
    return tuple(findings)


def _looked_at(text: str, *, inspectors: Sequence[TextInspector], direction: Direction) -> tuple[Finding, ...]:
    """Return what inspectors of text find in a window, whose length is bounded by whoever feeds it."""
    return inspect_texts(text, inspectors, direction, limit=max(len(text), 1))


@final
class _Timed:
    """The stream of an inspector of others: each step within the deadline, each answer checked."""

    __slots__ = ("_each", "_stream")

    def __init__(self, stream: InspectorStream, each: Selected) -> None:
        self._stream = stream
        self._each = each

    def feed(self, text: str) -> Progress:
        findings, settled = _timed(partial(self._stream.feed, text), self._each)
        if type(settled) is not int:
            raise TypeError("an inspector returned no Progress for a piece of a stream; return Progress(findings, n)")
        return Progress(_checked(tuple(findings)), settled)

    def close(self) -> tuple[Finding, ...]:
        return _checked(tuple(_timed(self._stream.close, self._each)))


def _inspected(inspector: Inspector, content: Content, limit: int = MAX_CHARACTERS) -> tuple[Finding, ...]:
    if isinstance(inspector, TextInspector):
        return inspect_texts(content.value, (inspector,), content.direction, content.injected, limit=limit)
    return tuple(inspector.inspect(content))  # A generator runs here, and nowhere else.


@final
class _Threads:
    """Runs functions in threads, so many at once and no more, each for so long and no longer."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._pid = os.getpid()
        # A list, because taking from one and putting back need no lock, which a fork could leave held.
        self._free: list[None] = [None] * size

    def run(self, function: Callable[[], _T], seconds: float) -> _T:
        """Return what a function returns in another thread, in the context of this one.

        Args:
            function: The function.
            seconds: How long to wait.

        Raises:
            TimeoutError: It takes longer. Its thread goes on, and holds its place until it ends.
            RuntimeError: No place is free.
        """
        if self._pid != os.getpid():  # The threads of the parent are not in a fork of it.
            self._pid, self._free = os.getpid(), [None] * self._size
        free = self._free
        try:
            free.pop()
        except IndexError:
            raise RuntimeError("too many inspections are running; try again, or make inspectors faster") from None
        task = _Task(contextvars.copy_context(), function, free)
        try:
            threading.Thread(target=task.run, name="agent-identity-inspection", daemon=True).start()
        except BaseException:
            free.append(None)
            raise
        if not task.done.wait(seconds):
            raise TimeoutError(f"an inspector took more than {seconds:g} seconds")
        return task.outcome()


@final
class _Task(Generic[_T]):
    """One function in a thread."""

    def __init__(self, context: contextvars.Context, function: Callable[[], _T], free: list[None]) -> None:
        self.done: Final = threading.Event()
        self._context = context
        self._function = function
        self._free = free
        self._error: BaseException | None = None
        self._values: list[_T] = []

    def run(self) -> None:
        """Run it, and give its place back."""
        try:
            self._values.append(self._context.run(self._function))
        except BaseException as error:  # noqa: BLE001 - It is raised where the result is waited for.
            self._error = error
        finally:
            self._free.append(None)
            self.done.set()

    def outcome(self) -> _T:
        """Return what it returned, or raise what it raised."""
        if self._error is not None:
            raise self._error
        return self._values[0]


_THREADS: Final = _Threads(MAX_THREADS)
