"""Named note keys of parties that cosign checkpoints (C2SP signed-note, tlog-cosignature)."""

import hashlib
from dataclasses import dataclass, field
from typing import Final, Self, final

from agent_identity._identity.common.encoding import b64_decode, b64_encode
from agent_identity._identity.keys.keys import PublicKey

_MAX_NAME: Final = 256
_ED25519: Final = b"\x04"


def check_note_name(name: str) -> None:
    """Check the name of a key or log: 1 to 256 visible characters without spaces and without ``+``.

    Raises:
        ValueError: The name breaks a rule.
    """
    if not 1 <= len(name) <= _MAX_NAME or not name.isprintable() or " " in name or "+" in name:
        raise ValueError(
            "the log name does not have 1 to 256 visible characters without spaces and '+'; rename the log"
        )


def note_key_id(name: str, kind: bytes, raw: bytes) -> bytes:
    """Return the 4-byte key id of a key in a note.

    Args:
        name: The name of the key.
        kind: The byte of the signature type.
        raw: The public key.
    """
    return hashlib.sha256(name.encode("utf-8") + b"\n" + kind + raw).digest()[:4]


def split_vkey(text: str) -> tuple[str, str, bytes, bytes]:
    """Return name, key id in hex, signature type and public key of a verifier key; the id is not checked yet.

    Raises:
        ValueError: The text has not the form ``<name>+<key id>+<base64>``.
    """
    # The base64 part may hold further plus signs.
    parts = text.split("+", 2)
    if len(parts) != 3:
        raise ValueError("the verifier key is not of the form <name>+<key id>+<base64>")
    name, key_id, encoded = parts
    check_note_name(name)
    data = b64_decode(encoded)
    return name, key_id, data[:1], data[1:]


@final
@dataclass(frozen=True, slots=True)
class Cosigner:
    """A party whose cosignature on a checkpoint counts: a witness.

    Args:
        name: The name under which it signs.
        key: Its key.

    Attributes:
        key_id: The 4 bytes by which a note names the key.

    Raises:
        ValueError: The name breaks a rule.
    """

    name: str
    key: PublicKey
    key_id: bytes = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        check_note_name(self.name)
        object.__setattr__(self, "key_id", note_key_id(self.name, _ED25519, self.key.raw))

    @property
    def vkey(self) -> str:
        """The verifier key, the line for the cosigner in note tools: ``<name>+<key id>+<base64>``."""
        return f"{self.name}+{self.key_id.hex()}+{b64_encode(_ED25519 + self.key.raw)}"

    @classmethod
    def from_vkey(cls, text: str) -> Self:
        """Return the cosigner of a verifier key.

        Raises:
            ValueError: The text is no verifier key of type 4, or its key id is another key's.
        """
        name, key_id, kind, raw = split_vkey(text)
        if kind != _ED25519:
            raise ValueError("the verifier key is not that of a cosigner (type 4, Ed25519); copy the cosigner's key")
        cosigner = cls(name, PublicKey(raw))
        if cosigner.key_id.hex() != key_id:
            raise ValueError("the key id is not that of this name and key; copy the verifier key again")
        return cosigner
