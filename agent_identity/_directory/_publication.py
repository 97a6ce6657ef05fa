"""Publication of checkpoints outside the directory: user functions, and witnesses."""

import os

from agent_identity._directory.options import Transparency
from agent_identity._ledger.transparency.publisher import Publisher

__all__ = ["publishers_for"]


def publishers_for(directory: str | os.PathLike[str], transparency: Transparency) -> tuple[Publisher, ...]:
    """Return the publishers for the checkpoints of a directory.

    Args:
        directory: The directory.
        transparency: The witnesses, and the functions that get each checkpoint.

    Raises:
        ConfigurationError: An address or a verifier key of a witness is malformed.
    """
    publishers = tuple(Publisher("the function of checkpoints=", function) for function in transparency.publish)
    witnesses = transparency.witnesses
    if not witnesses:
        return publishers
    from agent_identity._directory._witnesses import witnesses_for  # noqa: PLC0415  Few directories have witnesses.

    return (*publishers, *witnesses_for(directory, witnesses))
