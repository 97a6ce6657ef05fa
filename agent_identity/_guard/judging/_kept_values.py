"""Puts kept values into the arguments of tools that may have them, and keeps them out of what these return."""

from collections.abc import Iterable, Mapping
from typing import Final, final

from agent_identity import canonical
from agent_identity._guard.calls.arguments import canonical_bytes, capture
from agent_identity._guard.calls.call import Call, CallRequest, Handles
from agent_identity._guard.tasks.vault import QUARANTINE, Kept
from agent_identity._inspection.document import Document
from agent_identity._inspection.inspector import Match, TextInspector, inspect_texts
from agent_identity._inspection.transform import Edits, UnmetError, edits_of
from agent_identity._policy.decision.obligations import Obligation

_HIDE: Final = (Obligation("placeholder"),)


def restore(call: Call, restores: Mapping[str, tuple[str, ...]]) -> CallRequest:
    """Restore kept values in the arguments of a call, before its judgement, and return the new request.

    Args:
        call: The call.
        restores: The categories of values that each argument may get.

    Raises:
        BadArgumentsError: The arguments cannot be copied.
    """
    task, request = call.task, call.request
    if task is None:
        return request
    if call.handles is not None and call.handles.request is not None:
        return call.handles.request
    given = capture(request.arguments, request.given, request.injected)  # First, because it bounds depth and size.
    # Of the same copy that is shown, because the caller may still change its own.
    changed, found = dict(given.values), dict[str, Kept]()
    for name in restores.keys() & request.given & changed.keys():
        changed[name], kept = task.vault.restored(changed[name], restores[name])
        found |= {one.handle: one for one in kept}
    if not found:
        return request
    request = request._replace(arguments=changed, supplied=tuple(request.given))
    call.handles = Handles(request, given, tuple(found.values()))
    return request


def open_quarantined(call: Call) -> tuple[Kept, ...]:
    """Return the quarantined results that a call opens, once."""
    handles = call.handles
    if handles is None or handles.opened:
        return ()
    handles.opened = True
    return tuple(kept for kept in handles.restored if kept.category == QUARANTINE)


def keep_text(call: Call, category: str, text: str) -> str:
    """Keep a text that was found in a result, and return what stands in its place.

    Raises:
        UnmetError: There is no task, no room, or the category is that of whole results.
    """
    if category == QUARANTINE:
        raise UnmetError("a part of a result cannot have the category 'quarantine'")
    size = len(text.encode("utf-8", "surrogatepass"))
    kept = None if call.task is None else call.task.vault.keep(category, text, size)
    if kept is None:
        raise UnmetError("the task cannot keep another value")
    _note(call, kept)
    return kept.handle


def keep_whole(call: Call, result: object) -> str | None:
    """Keep a whole result, and return its handle; ``None`` if it is no plain value, or there is no room."""
    data = None if call.task is None or result is None else canonical_bytes(result)
    if data is None or call.task is None:
        return None
    content = result if type(result) is str else canonical.decode(data)
    kept = call.task.vault.keep(QUARANTINE, content, len(data))
    if kept is None:
        return None
    _note(call, kept)
    return kept.handle


def _note(call: Call, kept: Kept) -> None:
    if call.handles is None:
        call.handles = Handles()
    call.handles.kept = (*call.handles.kept, kept)


def veil(call: Call, result: object) -> Edits | None:
    """Return the edits that take the values which a call was given for its model's handles out of its result.

    Raises:
        UnmetError: A part of the result cannot be looked at.
    """
    values = [one for one in call.restored if one.category != QUARANTINE and type(one.content) is str]
    if not values or result is None:
        return None
    return edits_of(inspect_texts(result, (_Restored(values),), "output"), _HIDE)


@final
class _Restored(TextInspector):
    """Finds values that a call was given."""

    name = "kept-values"

    def __init__(self, values: Iterable[Kept]) -> None:
        self._values = tuple(values)

    def find(self, document: Document) -> Iterable[Match]:
        """Yield where one of the values stands, as it was kept."""
        text = document.text.raw
        for kept in self._values:
            value = str(kept.content)
            at = text.find(value)
            while at >= 0:
                yield Match(kept.category, at, at + len(value))
                at = text.find(value, at + len(value))
