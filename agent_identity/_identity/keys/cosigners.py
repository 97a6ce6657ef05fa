"""Named note keys of parties that cosign checkpoints (C2SP signed-note, tlog-cosignature)."""

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Self, TypeAlias, final

from agent_identity._identity.common import b64_decode, b64_encode
from agent_identity._identity.keys.keys import PublicKey

if TYPE_CHECKING:
    from agent_identity._identity.keys.ml_dsa import MlDsaPublicKey

__all__ = ["Cosigner", "check_note_name", "note_key_id", "split_vkey"]

CosignerKey: TypeAlias = "PublicKey | MlDsaPublicKey"

_MAX_NAME: Final = 256
_MAX_COSIGNER: Final = 255  # Bytes of UTF-8; what the signed message of ML-DSA has room for.
_ED25519: Final = b"\x04"
_ML_DSA_44: Final = b"\x06"


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
    """A party whose cosignature on a checkpoint counts: a witness, or the second key of a recorder.

    Args:
        name: The name under which it signs, at most 255 bytes in UTF-8.
        key: Its key; Ed25519, or ML-DSA-44.

    Attributes:
        key_id: The 4 bytes by which a note names the key.

    Raises:
        ValueError: The name breaks a rule.
    """

    name: str
    key: CosignerKey
    key_id: bytes = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        check_note_name(self.name)
        if len(self.name.encode("utf-8")) > _MAX_COSIGNER:
            raise ValueError(f"the name of the cosigner has more than {_MAX_COSIGNER} bytes")
        object.__setattr__(self, "key_id", note_key_id(self.name, self._kind, self.key.raw))

    @property
    def _kind(self) -> bytes:
        return _ED25519 if isinstance(self.key, PublicKey) else _ML_DSA_44

    @property
    def algorithm(self) -> str:
        """The name of the algorithm."""
        return "Ed25519" if isinstance(self.key, PublicKey) else "ML-DSA-44"

    @property
    def vkey(self) -> str:
        """The verifier key, the line for the cosigner in note tools: ``<name>+<key id>+<base64>``."""
        return f"{self.name}+{self.key_id.hex()}+{b64_encode(self._kind + self.key.raw)}"

    @classmethod
    def from_vkey(cls, text: str) -> Self:
        """Return the cosigner of a verifier key.

        Raises:
            ValueError: The text is no verifier key of the types 4 or 6, or its key id is another key's.
        """
        name, key_id, kind, raw = split_vkey(text)
        if kind not in (_ED25519, _ML_DSA_44):
            raise ValueError("the verifier key is not that of a cosigner (type 4 or 6); copy the cosigner's key")
        cosigner = cls(name, PublicKey(raw) if kind == _ED25519 else _second_kind(raw))
        if cosigner.key_id.hex() != key_id:
            raise ValueError("the key id is not that of this name and key; copy the verifier key again")
        return cosigner


def _second_kind(raw: bytes) -> "MlDsaPublicKey":
    from agent_identity._identity.keys.ml_dsa import MlDsaPublicKey

    return MlDsaPublicKey(raw)
