"""Exceptions by which a body leaves that did not fail."""

import asyncio
import logging
from collections.abc import Callable
from typing import Final, TypeAlias, cast

from agent_identity._guard.common.failures import safe_message

_ENDINGS: Final = (asyncio.CancelledError, KeyboardInterrupt, SystemExit, GeneratorExit)
_LOG: Final = logging.getLogger("agent_identity")

Leaving: TypeAlias = tuple[type[BaseException], ...] | Callable[[BaseException], bool]
"""Exceptions by which a body leaves that did not fail: their classes, or what tells for each."""


def leaves(tool: str, error: BaseException, leaving: Leaving, what: str) -> bool:
    """Tell whether a body left by an error without having failed; whoever cannot tell does not say so.

    Args:
        tool: The name of the tool.
        error: What the body raised.
        leaving: The exceptions.
        what: The name of the option that names them.
    """
    try:
        return isinstance(error, leaving) if isinstance(leaving, tuple) else bool(leaving(error))
    except Exception as trap:  # noqa: BLE001 - Code of others; the error of the body is what has to come out.
        _LOG.error("%s= of %s failed, and the call counts as failed: %s", what, tool, safe_message(trap))
        return False


def says_something(error: BaseException) -> bool:
    """Return whether an error by which a body leaves can tell its caller anything."""
    return not isinstance(error, _ENDINGS) or bool(error.args)


def check_leaving(leaving: Leaving, what: str) -> Leaving:
    """Return which exceptions are no errors, if they are classes of exceptions in a tuple, or what tells for each.

    Raises:
        TypeError: They are neither.
    """
    given = cast("object", leaving)
    kind_given = type(given).__name__
    if callable(given) and not isinstance(given, type):
        return leaving
    kinds = cast("tuple[object, ...]", given) if isinstance(given, tuple) else (None,)
    if not all(isinstance(kind, type) and issubclass(kind, BaseException) for kind in kinds):
        raise TypeError(f"{what} is {kind_given}; pass a tuple of exception classes, or a function of an exception")
    return leaving
