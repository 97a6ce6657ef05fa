"""Publication of checkpoints outside the directory: user functions, and witnesses."""

import os
from collections.abc import Mapping, Sequence

from agent_identity._evidence.transparency import Publish, Publisher
from agent_identity.errors import ConfigurationError

__all__ = ["publishers_for"]


def publishers_for(
    directory: str | os.PathLike[str], witnesses: Mapping[str, str], checkpoints: Publish | Sequence[Publish]
) -> tuple[Publisher, ...]:
    """Return the publishers for the checkpoints of a directory.

    Args:
        directory: The directory.
        witnesses: Verifier keys by the addresses (C2SP: submission prefixes) of the witnesses.
        checkpoints: Functions that get each checkpoint.

    Raises:
        ConfigurationError: An address or a key is malformed, or a given function is not callable.
    """
    functions = (checkpoints,) if callable(checkpoints) else tuple(checkpoints)
    if not all(map(callable, functions)):
        raise ConfigurationError("checkpoints= is no function; give functions of the bytes of a checkpoint")
    publishers = tuple(Publisher("the function of checkpoints=", function) for function in functions)
    if not witnesses:
        return publishers
    from agent_identity._enforcement.directory.witnesses import witnesses_for  # noqa: PLC0415  Few directories have witnesses.

    return (*publishers, *witnesses_for(directory, witnesses))
