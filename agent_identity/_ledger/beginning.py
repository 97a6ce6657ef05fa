"""The first record of a stream."""

from dataclasses import dataclass
from functools import partial
from typing import Final, final

from agent_identity._ledger.writer import Make
from agent_identity._record import parts
from agent_identity._record import schema as records
from agent_identity._record.parts import StreamResource, Time
from agent_identity.version import VERSION

_DISTRIBUTION: Final = "agent-identity-otel"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Beginning:
    """Opening facts of a stream: its writer.

    Attributes:
        library: Our version.
        resource: The process.
        certificate: The certificate of the recorder key, if a root vouches for it.
    """

    library: str = VERSION
    resource: StreamResource | None = None
    certificate: str | None = None

    def make(self, time: Time) -> Make:
        """Return a factory for the first record of a stream."""
        sdk = parts.Sdk(name=_DISTRIBUTION, version=self.library)
        return partial(records.StreamStart, time=time, sdk=sdk, resource=self.resource, certificate=self.certificate)
