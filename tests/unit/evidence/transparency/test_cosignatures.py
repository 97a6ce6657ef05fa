"""Cosignatures in notes: known cosigners decide, strangers are ignored, and nothing unchecked counts."""

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_identity._evidence.transparency.checkpoint import Checkpoint, open_note, sign_note
from agent_identity._evidence.transparency.cosignatures import Cosignature, CosigningKey, cosign, read_cosignature
from agent_identity._evidence.transparency.merkle import leaf_hash
from agent_identity._identity.common.encoding import b64_decode, b64_encode
from agent_identity.errors import TokenError, VerificationError
from agent_identity.identity import Cosigner, MlDsaSigningKey, SigningKey

ORIGIN = "example.com/log"
LOG = SigningKey.from_seed(bytes([5]) * 32)
KNOWN = {ORIGIN: LOG.public_key}
CHECKPOINT = Checkpoint(ORIGIN, 1, leaf_hash(b"entry"))
TEXT = CHECKPOINT.to_text()
NOTE = sign_note(TEXT, ORIGIN, LOG)
NAME = "witness.example/w1"
WITNESS = SigningKey.from_seed(bytes([6]) * 32)
MODULE = "cryptography.hazmat.primitives.asymmetric.mldsa"
AT = 1_790_000_000


@pytest.fixture(params=["Ed25519", "ML-DSA-44"])
def witness(request: pytest.FixtureRequest) -> CosigningKey:
    """Return the key of a witness, of each algorithm."""
    if request.param == "Ed25519":
        return WITNESS
    pytest.importorskip(MODULE, reason="the installed cryptography has no ML-DSA")
    return MlDsaSigningKey.from_seed(bytes([7]) * 32)


def cosigned(key: CosigningKey, *, at: int = AT, name: str = NAME, of: Checkpoint = CHECKPOINT) -> bytes:
    """Return the note of the checkpoint with a cosignature below it."""
    return NOTE + cosign(of.to_text(), of.head, name, key, at=at).encode()


def test_the_message_of_ed25519_is_the_text_of_the_specification() -> None:
    """An Ed25519 cosignature signs the header, the time and the whole note text."""
    line = cosign(TEXT, CHECKPOINT.head, NAME, WITNESS, at=1679315147)
    signature = b64_decode(line.split(" ")[2].strip())
    assert line.startswith(f"— {NAME} ")
    assert int.from_bytes(signature[4:12]) == 1679315147
    WITNESS.public_key.verify(signature[12:], f"cosignature/v1\ntime 1679315147\n{TEXT}".encode())


def test_the_message_of_ml_dsa_is_the_structure_of_the_specification() -> None:
    """An ML-DSA-44 cosignature signs label, names, time, start, end and root, in that order."""
    pytest.importorskip(MODULE, reason="the installed cryptography has no ML-DSA")
    key = MlDsaSigningKey.from_seed(bytes([7]) * 32)
    signature = b64_decode(cosign(TEXT, CHECKPOINT.head, NAME, key, at=AT).split(" ")[2].strip())
    parts = (b"subtree/v1\n\0", bytes([len(NAME)]), NAME.encode(), AT.to_bytes(8), bytes([len(ORIGIN)]))
    message = b"".join((*parts, ORIGIN.encode(), bytes(8), (1).to_bytes(8), CHECKPOINT.root))
    assert len(signature) == 4 + 8 + 2420
    key.public_key.verify(signature[12:], message)


def test_a_cosignature_is_read_back(witness: CosigningKey) -> None:
    """A known cosigner is named with its time; the signature of the log is still demanded."""
    cosigner = Cosigner(NAME, witness.public_key)
    data = cosigned(witness)
    note = open_note(data, KNOWN, [cosigner])
    assert [(said.cosigner, said.time) for said in note.cosignatures] == [(cosigner, AT)]
    assert note.signers == (LOG.public_key,)
    assert note.unchecked == ()
    assert (note.text + "\n" + "".join(note.lines)).encode() == data
    with pytest.raises(VerificationError) as caught:
        open_note(cosigned(witness), {ORIGIN: WITNESS.public_key}, [cosigner])
    assert caught.value.code == "unknown_key"


def test_without_known_logs_a_cosigner_is_enough(witness: CosigningKey) -> None:
    """Who knows only the witness learns what it said, and nothing from a note that it did not sign."""
    cosigner = Cosigner(NAME, witness.public_key)
    assert open_note(cosigned(witness), {}, [cosigner]).cosignatures[0].time == AT
    with pytest.raises(VerificationError) as caught:
        open_note(NOTE, {}, [cosigner])
    assert caught.value.code == "unknown_key"


def test_a_stranger_is_ignored(witness: CosigningKey) -> None:
    """A cosignature under another name or of another key says nothing, and spoils nothing."""
    other = SigningKey.from_seed(bytes([9]) * 32).public_key
    for cosigner in (Cosigner("other.example", witness.public_key), Cosigner(NAME, other)):
        note = open_note(cosigned(witness), KNOWN, [cosigner])
        assert (note.signers, note.cosignatures) == ((LOG.public_key,), ())


def test_no_cosignature_is_moved_to_another_statement(witness: CosigningKey) -> None:
    """A cosignature of another size, root, origin or time, or a changed one, rejects the note."""
    cosigner = Cosigner(NAME, witness.public_key)
    others = [
        Checkpoint(ORIGIN, 2, CHECKPOINT.root),
        Checkpoint(ORIGIN, 1, leaf_hash(b"other")),
        Checkpoint("example.com/other", 1, CHECKPOINT.root),
    ]
    line = cosigned(witness).removeprefix(NOTE).decode()
    raw = b64_decode(line.split(" ")[2].strip())
    later = raw[:4] + (AT + 1).to_bytes(8) + raw[12:]
    changes = (later, raw[:-1], raw[:12], raw[:11], raw[:5], raw + b"\0", raw[:4] + bytes([255] * 8) + raw[12:])
    notes = [cosigned(witness, of=other) for other in others]
    notes += [NOTE + f"— {NAME} {b64_encode(changed)}\n".encode() for changed in changes]
    for note in notes:
        with pytest.raises(VerificationError) as caught:
            open_note(note, KNOWN, [cosigner])
        assert caught.value.code == "bad_signature"


def test_a_cosignature_has_a_time_and_a_signature() -> None:
    """Fewer bytes than a time and one more, or a time without room, say nothing, with the code of a bad signature."""
    cosigner = Cosigner(NAME, WITNESS.public_key)
    for data in (b"", bytes(7), bytes(8), bytes([128]) + bytes(71)):
        with pytest.raises(TokenError) as caught:
            read_cosignature(cosigner, data, TEXT.encode(), CHECKPOINT.head)
        assert (caught.value.code, str(caught.value)) == (
            "bad_signature",
            "a cosignature is not a time and a signature",
        )
    for data in (bytes(9), bytes(72), bytes([127]) + bytes([255]) * 71):
        with pytest.raises(TokenError) as caught:
            read_cosignature(cosigner, data, TEXT.encode(), CHECKPOINT.head)
        assert caught.value.code == "bad_signature"
        assert "a time and" not in str(caught.value)
    for at in (0, 1, 2**63 - 1):
        raw = b64_decode(cosign(TEXT, CHECKPOINT.head, NAME, WITNESS, at=at).split(" ")[2].strip())
        assert read_cosignature(cosigner, raw[4:], TEXT.encode(), CHECKPOINT.head) == Cosignature(cosigner, at)
    with pytest.raises(ValueError, match="the time is not from 0") as caught_value:
        cosign(TEXT, CHECKPOINT.head, NAME, WITNESS, at=-1)
    assert str(caught_value.value) == "the time is not from 0 to 2^63 - 1, or the origin is longer than 255 bytes"


def test_only_a_checkpoint_is_cosigned() -> None:
    """Whoever looks for cosigners on other text is told that it is no checkpoint."""
    note = sign_note("hello\n", ORIGIN, LOG)
    with pytest.raises(VerificationError) as caught:
        open_note(note, KNOWN, [Cosigner(NAME, WITNESS.public_key)])
    assert caught.value.code == "bad_checkpoint"
    assert open_note(note, KNOWN).text == "hello\n"


def test_what_cannot_be_checked_here_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a library without ML-DSA, its cosignature is neither verified nor false."""
    pytest.importorskip(MODULE, reason="the installed cryptography has no ML-DSA")
    key = MlDsaSigningKey.from_seed(bytes([7]) * 32)
    cosigner, note = Cosigner(NAME, key.public_key), cosigned(key)
    monkeypatch.setitem(sys.modules, MODULE, None)
    monkeypatch.delattr("cryptography.hazmat.primitives.asymmetric.mldsa", raising=False)
    opened = open_note(note, KNOWN, [cosigner])
    assert (opened.cosignatures, opened.unchecked) == ((), (cosigner,))
    assert all(NAME not in line for line in opened.lines)


@pytest.mark.parametrize("at", [-1, 2**63])
def test_a_time_has_63_bits(at: int) -> None:
    """No cosignature is made with a time that readers have no room for."""
    with pytest.raises(ValueError, match="2\\^63"):
        cosign(TEXT, CHECKPOINT.head, NAME, WITNESS, at=at)


def test_an_origin_that_has_no_room_is_refused() -> None:
    """The signed message of ML-DSA has 255 bytes for the origin; a longer one is neither signed nor accepted."""
    pytest.importorskip(MODULE, reason="the installed cryptography has no ML-DSA")
    key = MlDsaSigningKey.from_seed(bytes([7]) * 32)
    long = Checkpoint("x" * 256, 1, CHECKPOINT.root)
    with pytest.raises(ValueError, match="255 bytes"):
        cosign(long.to_text(), long.head, NAME, key, at=AT)
    assert cosign(long.to_text(), long.head, NAME, WITNESS, at=AT)


@given(st.data())
def test_no_bit_of_a_cosignature_can_change(data: st.DataObject) -> None:
    """Flip any bit of the line: it is refused, or it is a stranger's; never is something else read from it."""
    note = cosigned(WITNESS)
    place = data.draw(st.integers(len(NOTE), len(note) - 1))
    changed = bytearray(note)
    changed[place] ^= 1 << data.draw(st.integers(0, 7))
    try:
        opened = open_note(bytes(changed), KNOWN, [Cosigner(NAME, WITNESS.public_key)])
    except VerificationError:
        return
    assert opened.cosignatures == ()
