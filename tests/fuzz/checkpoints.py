"""Targets for what stands around the log: notes, checkpoints, cosignatures, and requests to a witness."""

from typing import Final

from agent_identity._identity.keys.cosigners import Cosigner
from agent_identity._ledger.transparency._cosignatures import cosign
from agent_identity._ledger.transparency.checkpoint import Checkpoint, open_note, sign_note
from agent_identity._ledger.transparency.merkle import leaf_hash
from agent_identity._ledger.transparency.witness import parse_request, request_for
from agent_identity.errors import AgentIdentityError
from agent_identity.identity import SigningKey

__all__ = ["SEEDS", "checkpoint_text", "note", "verifier_key", "witness_request"]

ORIGIN: Final = "example.com/log"
LOG: Final = SigningKey.from_seed(b"\x05" * 32)
KEY: Final = SigningKey.from_seed(b"\x06" * 32)
WITNESS: Final = Cosigner("w.example/1", KEY.public_key)
CHECKPOINT: Final = Checkpoint(ORIGIN, 1, leaf_hash(b"entry"))
TEXT: Final = CHECKPOINT.to_text()
NOTE: Final = sign_note(TEXT, ORIGIN, LOG)
COSIGNED: Final = NOTE + cosign(TEXT, WITNESS.name, KEY, at=1_790_000_000).encode()

SEEDS: Final = {
    "note": (NOTE, COSIGNED),
    "checkpoint_text": (TEXT.encode(), b"x\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n"),
    "verifier_key": (WITNESS.vkey.encode(),),
    "witness_request": (request_for(3, [leaf_hash(b"a"), leaf_hash(b"b")], COSIGNED), request_for(0, (), NOTE)),
}


def note(data: bytes) -> None:
    """A note as a stranger writes it: only what log and witness signed comes out."""
    try:
        opened = open_note(data, {ORIGIN: LOG.public_key}, [WITNESS])
    except AgentIdentityError:
        return
    assert opened.text == TEXT
    assert all(said.time == 1_790_000_000 for said in opened.cosignatures)


def checkpoint_text(data: bytes) -> None:
    """The text of a checkpoint behind a good signature has one spelling."""
    text = data.decode("utf-8", "surrogateescape")
    try:
        read = Checkpoint.from_text(text)
    except AgentIdentityError:
        return
    assert read.to_text() == text


def verifier_key(data: bytes) -> None:
    """A verifier key as somebody pastes it has one spelling."""
    text = data.decode("utf-8", "surrogateescape")
    try:
        cosigner = Cosigner.from_vkey(text)
    except ValueError:
        return
    assert cosigner.vkey == text


def witness_request(data: bytes) -> None:
    """A request to a witness is refused, or is exactly what an honest client would have written."""
    try:
        asked = parse_request(data)
    except ValueError:
        return
    assert request_for(*asked) == data
