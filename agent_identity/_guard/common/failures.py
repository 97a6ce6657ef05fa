"""Safe descriptions of foreign exceptions: their texts may quote arguments, results and keys."""

import logging
import traceback
from collections.abc import Callable
from types import FrameType
from typing import Final

from agent_identity.errors import (
    AgentIdentityError,
    ContentBlocked,
    Denied,
    LimitExceeded,
    OutOfScope,
    PolicyBlocked,
    Routed,
)

_LOG: Final = logging.getLogger("agent_identity")
_PACKAGE: Final = __name__.partition(".")[0]
_FOR_MODELS: Final = {
    "approval_by_owner": "the approver may not approve this call",
    "approval_failed": "it could not be checked and did not run",
    "approval_forged": "the approval is not valid",
    "approval_self": "the approver may not approve this call",
    "approval_unbindable": "its arguments cannot be shown to an approver",
    "approver_not_permitted": "the approver may not approve this call",
    "approver_not_verified": "the approver may not approve this call",
    "closed": "the tool is not guarded",
    "guard_failed": "it could not be checked and did not run",
    "inventory_unusable": "the tools of the server could not be checked",
    "grant_expired": "the time of the task is over",
    "no_task": "no task is open",
    "not_guarded": "the tool is not guarded",
    "registry_unusable": "the agent could not be checked",
    "route_unavailable": "it needs a decision, and nobody can be asked for it",
    "revocations_stale": "it could not be checked and did not run",
    "revocations_unreadable": "it could not be checked and did not run",
    "server_moved": "the server has moved",
    "state_unavailable": "it could not be checked and did not run",
    "task_ended": "the task has ended",
    "task_in_body": "the task may not be opened",
    "tool_changed": "the definition of the tool has changed",
    "tool_not_accepted": "the tool has not been accepted",
    "tool_not_granted": "the task does not grant the tool",
}
"""By code: reasons for a model."""

_FOR_EVERYBODY: Final = frozenset(
    {
        *("approval_altered", "approval_expired", "approval_mismatch", "approval_pending", "approval_quota"),
        *("approval_rejected", "approval_stale", "approval_used", "bad_arguments", "input_changed", "tool_not_listed"),
        "tool_unknown",
    }
)
"""Codes whose messages advise whoever made the call."""

_CURES: Final = {
    "BlockingError": (
        "it would have held up an event loop: make the tool a coroutine function, open tasks by 'async with', or "
        "make the call in a thread"
    ),
}
"""Cures by exception class, for failures that explain themselves."""


_NAME_OF: Final[Callable[[type], str]] = type.__dict__["__name__"].__get__


def error_type(error: BaseException) -> str:
    """Return the class of an exception, fit for a record: a class may have any name."""
    # Not by the attribute: a metaclass may compute it, and fail.
    name = _NAME_OF(type(error))[:128]
    return name if name and name.isprintable() else "unnamed"


def safe_message(error: BaseException) -> str:
    """Describe an exception for a log: our own messages; of other exceptions only class and places.

    Exceptions of plug-ins may quote arguments and results.
    """
    if isinstance(error, AgentIdentityError):
        return str(error)
    frames = [(frame, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    if not frames:
        return error_type(error)
    frame, line = frames[-1]
    ours = our_place(error)
    others = [(frame, line) for frame, line in frames if not _is_ours(frame)]
    if _is_ours(frame) and others:  # A wrong argument is raised by us, and mended where it was given.
        caller, at = others[-1]
        ours = f"{caller.f_code.co_filename}:{at}"
    return f"{error_type(error)} at {frame.f_code.co_filename}:{line}{f', called by {ours}' if ours else ''}"


def _is_ours(frame: FrameType) -> bool:
    module = frame.f_globals.get("__name__")
    return type(module) is str and module.partition(".")[0] == _PACKAGE


def frames_of(error: BaseException) -> str:
    """Return the traceback of an exception for a log, without its text, which may quote arguments and results."""
    lines = [
        f"  File {frame.f_code.co_filename!r}, line {line}, in {frame.f_code.co_qualname}"
        for frame, line in traceback.walk_tb(error.__traceback__)
    ]
    return "\n".join(["Traceback (most recent call last):", *lines, error_type(error)])


def our_place(error: BaseException) -> str | None:
    """Return our innermost function in the traceback, as ``module:function``."""
    place: str | None = None
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if _is_ours(frame):
            place = f"{frame.f_globals['__name__']}:{frame.f_code.co_qualname}"
    return place


def model_message(denied: Denied) -> str:
    """Return the reason of a refusal for a model, without advice for developers and operators.

    A message reaches a model only if it is known to be fit for that: the words of a policy, of limits, of approvers.
    """
    reason = _FOR_MODELS.get(denied.code)
    if reason is not None:
        return reason
    if isinstance(denied, OutOfScope) and denied.argument is not None:
        missing = denied.code == "argument_missing"
        return f"argument {denied.argument!r} {'is missing' if missing else 'is not as the task grants it'}"
    if denied.code in _FOR_EVERYBODY or isinstance(denied, PolicyBlocked | ContentBlocked | LimitExceeded | Routed):
        return str(denied)
    return "it is not permitted"


def refusal(denied: Denied) -> str:
    """Return the text of a refusal for the model: the code, a reference, and a reason without advice for developers."""
    reference = f" (reference {denied.reference})" if denied.reference else ""
    return f"refused: {denied.code}{reference}: {model_message(denied)}"


def guard_failed(name: str, error: BaseException) -> str:
    """Log that the guard of a call failed, without what the error may quote, and return the refusal for the model.

    Args:
        name: The tool or model that did not run.
        error: The failure.
    """
    _LOG.error("%s was refused, because the guard failed: %s", name, safe_message(error))
    return refusal(Denied("the guard failed, and the call did not run", code="guard_failed"))


def failure(what: str, error: BaseException) -> str:
    """Return the message of a refusal after an internal failure: its place, and the cure.

    Args:
        what: The failed part, for example ``the guard``.
        error: The failure.
    """
    kind, place = error_type(error), our_place(error)
    cure = _CURES.get(kind, "the log has the line; mend what raises there, or report it")
    return f"{what} failed{f' in {place}' if place else ''} with {kind}; {cure}"
