"""Where checkpoints go besides the directory: functions of the user, and witnesses."""

import os
from collections.abc import Mapping, Sequence

from agent_identity.errors import ConfigurationError
from agent_identity.evidence.publishing import Publish, Publisher

__all__ = ["publishers_for"]


def publishers_for(
    directory: str | os.PathLike[str], witnesses: Mapping[str, str], checkpoints: Publish | Sequence[Publish]
) -> tuple[Publisher, ...]:
    """Return what takes the checkpoints of a directory elsewhere.

    Args:
        directory: The directory.
        witnesses: Verifier keys by the addresses (C2SP: submission prefixes) of the witnesses.
        checkpoints: Functions that get each checkpoint.

    Raises:
        ConfigurationError: An address or a key is none, or what is to be called is no function.
    """
    functions = (checkpoints,) if callable(checkpoints) else tuple(checkpoints)
    if not all(map(callable, functions)):
        raise ConfigurationError("expected functions as checkpoints=, to be called with the bytes of each one")
    found = tuple(Publisher("the function of checkpoints=", function) for function in functions)
    if not witnesses:
        return found
    from agent_identity.enforcement.witnesses import witnesses_for  # noqa: PLC0415  Few directories have witnesses.

    return (*found, *witnesses_for(directory, witnesses))
