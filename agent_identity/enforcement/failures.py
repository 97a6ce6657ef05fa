"""What may be said about an exception that is not ours: its text may quote arguments, results and keys."""

import traceback
from collections.abc import Callable
from typing import Final, cast

from agent_identity.errors import AgentIdentityError

__all__ = ["kind_of", "trouble"]

_NAME_OF: Final = cast("Callable[[type], str]", type.__dict__["__name__"].__get__)


def kind_of(error: BaseException) -> str:
    """Return the class of an exception, fit for a record: a class may have any name at all."""
    # Not by the attribute, which a metaclass may compute, and fail to.
    name = _NAME_OF(type(error))[:128]
    return name if name and name.isprintable() else "unnamed"


def trouble(error: BaseException) -> str:
    """Return what may stand in a log: our own messages, of other exceptions only class and place.

    What plug-ins raise may quote arguments and results.
    """
    if isinstance(error, AgentIdentityError):
        return str(error)
    frames = traceback.extract_tb(error.__traceback__, limit=-1)
    return f"{kind_of(error)}{''.join(f' at {frame.filename}:{frame.lineno}' for frame in frames)}"
