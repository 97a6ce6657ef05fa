"""Where checkpoints go besides the directory: witnesses, and functions of the user."""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from agent_identity.authority import check_url
from agent_identity.enforcement.transport import HttpTransport, Transport
from agent_identity.errors import ConfigurationError, EvidenceError, ExchangeError
from agent_identity.evidence import Files, Layout
from agent_identity.evidence.publishing import Publish, Publisher
from agent_identity.evidence.witnessing import WitnessClient
from agent_identity.identity import Cosigner

__all__ = ["publishers_for"]

_SECONDS: Final = 10.0  # For one answer of a witness.


def publishers_for(
    directory: str | os.PathLike[str],
    witnesses: Mapping[str, str],
    checkpoints: Publish | Sequence[Publish],
    transport: Transport | None = None,
) -> tuple[Publisher, ...]:
    """Return what takes the checkpoints of a directory elsewhere.

    Args:
        directory: The directory.
        witnesses: Verifier keys by the addresses (C2SP: submission prefixes) of the witnesses.
        checkpoints: Functions that get each checkpoint.
        transport: How requests get to the witnesses.

    Raises:
        ConfigurationError: An address or a key is none, or what is to be called is no function.
    """
    functions = (checkpoints,) if callable(checkpoints) else tuple(checkpoints)
    if not all(map(callable, functions)):
        raise ConfigurationError("expected functions as checkpoints=, to be called with the bytes of each one")
    sender = transport or HttpTransport()
    found = [Publisher("the function of checkpoints=", function) for function in functions]
    for url, vkey in witnesses.items():
        try:
            witness = Cosigner.from_vkey(vkey)
            post = _post(sender, check_url(f"{url.rstrip('/')}/add-checkpoint", "the witness"))
        except ValueError as error:
            raise ConfigurationError(f"bad witness: {error}") from None
        client = WitnessClient(Files(), Layout.of(directory), witness, post)
        found.append(Publisher(f"the witness {witness.name}", client, latest_only=True))
    return tuple(found)


def _post(transport: Transport, url: str) -> Callable[[bytes], tuple[int, bytes]]:
    def post(body: bytes) -> tuple[int, bytes]:
        try:
            reply = transport.post(url, headers={"Content-Type": "text/plain"}, body=body, timeout=_SECONDS)
        except ExchangeError as error:
            raise EvidenceError(str(error), code="witness_unavailable") from None
        return reply.status, reply.body

    return post
