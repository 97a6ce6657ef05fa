"""The log of a certifier: an evidence directory of its own with a record for each certificate."""

import os
from functools import partial
from pathlib import Path
from typing import Final, Literal, Self, final

from agent_identity._directory.open import prepare
from agent_identity._guard.calls.process_facts import CertificateFile
from agent_identity._identity.common.clock import Clock
from agent_identity._identity.common.ids import Ids
from agent_identity._identity.trust.certificates import Certificate
from agent_identity._ledger.beginning import Beginning
from agent_identity._ledger.ledger import Ledger
from agent_identity._ledger.reader import open_ledger
from agent_identity._record.codec import decode
from agent_identity._record.parts import KeyTrust, Time
from agent_identity._record.schema import Trust

_CERTIFICATE: Final = b'"certificate":'


@final
class IssuanceLog:
    """Appends certificates to the log of a certifier. Safe to share between threads.

    Every certificate is in a file before it is handed out, and under a checkpoint that the directory's key signs soon
    afterwards.

    Args:
        directory: The directory; created if missing.
        clock: Source of time.
        ids: Source of ids.

    Raises:
        ConfigurationError: Its keys or its trust file are unusable.
        EvidenceError: It cannot be written.
    """

    def __init__(self, directory: str | os.PathLike[str], *, clock: Clock, ids: Ids) -> None:
        _, recorder, trust = prepare(directory, clock, ids)
        self._known = set(_recorders(directory))
        origin = trust.origin or ""
        own = CertificateFile(Path(directory, "keys"), recorder.public_key, origin)
        self._ledger = Ledger.open(
            directory,
            signer=recorder,
            origin=origin,
            clock=clock,
            ids=ids,
            sync="disk",
            beginning=Beginning(certificate=own.first),
        )

    def record(self, certificate: Certificate, token: str) -> None:
        """Record a certificate.

        Args:
            certificate: Its content.
            token: The signed certificate.

        Raises:
            EvidenceError: It cannot be recorded; it must not be handed out.
        """
        name = certificate.recorder.thumbprint
        status: Literal["renewed", "trusted"] = "renewed" if name in self._known else "trusted"
        self._known.add(name)
        fact = KeyTrust(key=name, purpose="recorder", status=status, certificate=token)
        self._ledger.append(partial(Trust, time=Time.at(self._ledger.clock.wall_ns()), trust=fact))

    def close(self) -> None:
        """Seal the log, and close it."""
        self._ledger.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _recorders(directory: str | os.PathLike[str]) -> set[str]:
    """Return the recorder keys in the log so far."""
    if not Path(directory, "ledger").is_dir():
        return set()
    reader, found = open_ledger(directory), set[str]()
    for stream in reader.streams():
        for line in reader.entries(stream):
            if line.record is not None and _CERTIFICATE in line.record:
                record = decode(line.record)
                if isinstance(record, Trust):
                    found.add(record.trust.key)
    return found
