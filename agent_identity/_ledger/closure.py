"""The closure of a stream: a closer's signed word that nothing was seen after some record at some time.

It lies beside the stream, as a signed note under the name of the log. A closer has no key of the directory, so it
cannot tell what the dead process wrote from what others appended: it names what it saw, and vouches for no record.
"""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final, Self, final

from agent_identity._identity.common.encoding import b64url_encode
from agent_identity._identity.common.record_bytes import decode_record, encode_record
from agent_identity._identity.keys.cosigners import check_note_name as check_name
from agent_identity._identity.keys.keys import Signer
from agent_identity._ledger.prune_statement import count_of, hash_of
from agent_identity._ledger.transparency.checkpoint import sign_note
from agent_identity._storage.layout import is_stream_id
from agent_identity.errors import VerificationError

_TITLE: Final = (
    "agent-identity closure v1\n"  # No origin has spaces: no checkpoint is taken for this, and none of these for one.
)
_MEMBERS: Final[AbstractSet[str]] = frozenset({"origin", "root", "size", "stream", "time", "torn"})


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Closure:
    """What a closer saw of a stream.

    Attributes:
        origin: The name of the log.
        stream: The id of the stream.
        size: The place of the last record.
        root: The root of the Merkle tree over all records up to it.
        torn: The bytes of a torn line after it.
        time_ns: When, in nanoseconds since the Unix epoch.
    """

    origin: str
    stream: str
    size: int
    root: bytes
    torn: int
    time_ns: int

    def signed(self, closer: Signer) -> bytes:
        """Return the closure as a note signed by the closer key."""
        claim = {
            "origin": self.origin,
            "root": b64url_encode(self.root),
            "size": str(self.size),
            "stream": self.stream,
            "time": str(self.time_ns),
            "torn": str(self.torn),
        }
        return sign_note(f"{_TITLE}{encode_record(claim).decode()}\n", self.origin, closer)

    @classmethod
    def from_claim(cls, claim: Mapping[str, object]) -> Self:
        """Return the closure of plain values.

        Raises:
            ValueError: They make none.
        """
        origin, stream = claim.get("origin"), claim.get("stream")
        if claim.keys() != _MEMBERS or not isinstance(origin, str) or not isinstance(stream, str):
            raise ValueError("the members are not those of a closure")
        check_name(origin)
        size = count_of(claim["size"])
        if not is_stream_id(stream) or not size:
            raise ValueError("the stream is not an id, or the size is not a position")
        return cls(
            origin=origin,
            stream=stream,
            size=size,
            root=hash_of(claim["root"]),
            torn=count_of(claim["torn"]),
            time_ns=count_of(claim["time"]),
        )


def unverified_closure(note: bytes) -> Closure:
    """Return the content of a closure without verifying its signature.

    Raises:
        VerificationError: The bytes are no closure (``bad_closure``).
    """
    text = note.decode(errors="replace").rpartition("\n\n")[0]
    if not text.startswith(_TITLE):
        raise VerificationError("the bytes are not a closure", code="bad_closure")
    try:
        return Closure.from_claim(decode_record(text.removeprefix(_TITLE).encode()))
    except ValueError as error:
        raise VerificationError(f"malformed closure: {error}", code="bad_closure") from None
