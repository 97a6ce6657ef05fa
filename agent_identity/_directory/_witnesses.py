"""Submits checkpoints to witnesses over HTTP."""

import os
from collections.abc import Callable, Mapping
from typing import Final

from agent_identity._authority.tokens.jwt import check_url
from agent_identity._guard.common.http_transport import HttpTransport, Transport
from agent_identity._identity.keys.cosigners import Cosigner
from agent_identity._ledger.transparency.publisher import Publisher
from agent_identity._ledger.transparency.witness_client import WitnessClient
from agent_identity._storage.layout import Layout
from agent_identity._storage.os_files import Files
from agent_identity.errors import ConfigurationError, EvidenceError, ExchangeError

_SECONDS: Final = 10.0  # For one answer of a witness.


def witnesses_for(
    directory: str | os.PathLike[str], witnesses: Mapping[str, str], transport: Transport | None = None
) -> tuple[Publisher, ...]:
    """Return the publishers that have the checkpoints of a directory cosigned.

    Args:
        directory: The directory.
        witnesses: Verifier keys by the addresses (C2SP: submission prefixes) of the witnesses.
        transport: The HTTP transport.

    Raises:
        ConfigurationError: An address or a key is malformed.
    """
    sender, publishers = transport or HttpTransport(), list[Publisher]()
    for url, vkey in witnesses.items():
        try:
            witness = Cosigner.from_vkey(vkey)
            post = _post(sender, check_url(f"{url.rstrip('/')}/add-checkpoint", "the witness"))
        except ValueError as error:
            raise ConfigurationError(f"bad witness: {error}") from None
        client = WitnessClient(Files(), Layout.of(directory), witness, post)
        publishers.append(Publisher(f"the witness {witness.name}", client, latest_only=True))
    return tuple(publishers)


def _post(transport: Transport, url: str) -> Callable[[bytes], tuple[int, bytes]]:
    def post(body: bytes) -> tuple[int, bytes]:
        try:
            reply = transport.post(url, headers={"Content-Type": "text/plain"}, body=body, timeout=_SECONDS)
        except ExchangeError as error:
            raise EvidenceError(str(error), code="witness_unavailable") from None
        return reply.status, reply.body

    return post
