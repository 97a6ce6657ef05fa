"""Values that a task keeps from its model: handles stand in their place until a tool that may have them is called."""

import os
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Final, cast, final

from agent_identity._common.narrowing import is_plain_array, is_plain_dict
from agent_identity._flow.labels import Label
from agent_identity._identity.common.encoding import b64url_encode
from agent_identity._policy.decision.patterns import matches

QUARANTINE: Final = "quarantine"
"""The category of results that are kept as a whole."""

MAX_SIZE: Final = 10 * 1024 * 1024
"""Bytes that one task keeps; what would be beyond is withheld."""

MAX_VALUES: Final = 10_000
"""Values that one task keeps."""

_RANDOM: Final = 16
_MAX_DEPTH: Final = 64
_HANDLE: Final = re.compile(r"\[kept:[A-Za-z0-9_.-]{1,64}:([A-Za-z0-9_-]{22})\]")
_WORD: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")


@final
class Kept:
    """A value that is kept.

    Attributes:
        handle: The text in its place.
        category: The category of the finding that it was kept for, or :data:`QUARANTINE`.
        content: The value: a text, or plain JSON.
        label: Its flow label; ``None`` where no one computed it.
        size: Its bytes.
        source: The intent of the call that returned it; as for the label.
    """

    __slots__ = ("category", "content", "handle", "label", "size", "source")

    def __init__(self, handle: str, category: str, content: object, size: int) -> None:
        self.handle: Final = handle
        self.category: Final = category
        self.content: Final = content
        self.size: Final = size
        self.label: Label | None = None
        self.source: str | None = None


@final
class Vault:
    """The kept values of one task, in memory. Safe to use from any thread.

    Args:
        random: Returns as many random bytes as asked for.
    """

    __slots__ = ("_by_text", "_kept", "_left", "_lock", "_random")

    def __init__(self, random: Callable[[int], bytes] = os.urandom) -> None:
        self._random = random
        self._lock = threading.RLock()  # A signal handler or finalizer may make a call while this thread is inside.
        self._left = MAX_SIZE
        self._kept: dict[str, Kept] = {}
        self._by_text: dict[tuple[str, str], Kept] = {}

    def keep(self, category: str, content: object, size: int) -> Kept | None:
        """Keep a value; the same text of a category has one handle.

        Args:
            category: The category of the finding.
            content: The value, which no one else changes.
            size: Its bytes.

        Returns:
            ``None`` if there is no room, or the task has ended.
        """
        text = (category, content) if type(content) is str else None
        with self._lock:
            known = None if text is None else self._by_text.get(text)
            if known is not None:
                return known
            if size > self._left or len(self._kept) >= MAX_VALUES:
                return None
            name = b64url_encode(self._random(_RANDOM))
            word = category if _WORD.fullmatch(category) else "value"
            kept = self._kept[name] = Kept(f"[kept:{word}:{name}]", category, content, size)
            if text is not None:
                self._by_text[text] = kept
            self._left -= size
            return kept

    def erase(self) -> None:
        """Forget everything; called at the end of the task."""
        with self._lock:
            self._kept.clear()
            self._by_text.clear()
            self._left = 0

    def restored(self, value: object, patterns: Sequence[str]) -> tuple[object, tuple[Kept, ...]]:
        """Return a value with what its handles stand for, and what that is.

        Handles of other categories, tasks and processes are texts like any other, and so is one whose value has no room
        in the 10 MB that an argument gets in all, however often it repeats a handle.

        Args:
            value: An argument.
            patterns: The categories that may be put in.
        """
        work = _Restoring(self._kept, patterns)
        result = work.put(value, _MAX_DEPTH)
        return (result, tuple(work.used.values())) if work.used else (value, ())


@final
class _Restoring:
    """Puts kept values into one argument."""

    __slots__ = ("_kept", "_left", "_patterns", "used")

    def __init__(self, kept: Mapping[str, Kept], patterns: Sequence[str]) -> None:
        self._kept = kept
        self._patterns = patterns
        self._left = MAX_SIZE
        self.used: dict[str, Kept] = {}

    def put(self, value: object, depth: int) -> object:
        if type(value) is str:
            return self._in_text(value) if "[kept:" in value else value
        if depth == 0:
            return value
        if is_plain_dict(value):
            members = cast("Mapping[object, object]", value)
            return {name: self.put(item, depth - 1) for name, item in members.items()}
        if is_plain_array(value):
            items = [self.put(item, depth - 1) for item in value]
            return items if type(value) is list else tuple(items)
        return value

    def _in_text(self, text: str) -> object:
        whole = _HANDLE.fullmatch(text)
        kept = None if whole is None else self._take(whole)
        if kept is not None:
            return kept.content

        def put(match: re.Match[str]) -> str:
            part = self._take(match, only=str)
            return match[0] if part is None else str(part.content)

        return _HANDLE.sub(put, text)

    def _take(self, match: re.Match[str], only: type = object) -> Kept | None:
        kept = self._kept.get(match[1])
        if kept is None or kept.handle != match[0] or not isinstance(kept.content, only) or kept.size > self._left:
            return None
        if not any(matches(pattern, kept.category) for pattern in self._patterns):
            return None
        self._left -= kept.size
        self.used[kept.handle] = kept
        return kept


def has_handle(value: object, depth: int = _MAX_DEPTH) -> bool:
    """Return whether a plain value holds the handle of a kept value."""
    if type(value) is str:
        return _HANDLE.search(value) is not None
    if depth and is_plain_dict(value):
        return any(has_handle(item, depth - 1) for item in cast("Mapping[object, object]", value).values())
    return bool(depth) and is_plain_array(value) and any(has_handle(item, depth - 1) for item in value)
