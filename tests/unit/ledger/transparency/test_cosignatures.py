"""Cosignatures in notes: known cosigners decide, and strangers are ignored."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_identity._identity.common.encoding import b64_decode, b64_encode
from agent_identity._identity.keys.cosigners import Cosigner
from agent_identity._ledger.transparency._cosignatures import Cosignature, cosign, read_cosignature
from agent_identity._ledger.transparency.checkpoint import Checkpoint, open_note, sign_note
from agent_identity._ledger.transparency.merkle import leaf_hash
from agent_identity.errors import TokenError, VerificationError
from agent_identity.identity import SigningKey

ORIGIN = "example.com/log"
LOG = SigningKey.from_seed(bytes([5]) * 32)
KNOWN = {ORIGIN: LOG.public_key}
CHECKPOINT = Checkpoint(ORIGIN, 1, leaf_hash(b"entry"))
TEXT = CHECKPOINT.to_text()
NOTE = sign_note(TEXT, ORIGIN, LOG)
NAME = "witness.example/w1"
WITNESS = SigningKey.from_seed(bytes([6]) * 32)
AT = 1_790_000_000


def cosigned(*, at: int = AT, name: str = NAME, of: Checkpoint = CHECKPOINT) -> bytes:
    """Return the note of the checkpoint with a cosignature below it."""
    return NOTE + cosign(of.to_text(), name, WITNESS, at=at).encode()


def test_the_message_of_ed25519_is_the_text_of_the_specification() -> None:
    """An Ed25519 cosignature signs the header, the time and the whole note text."""
    line = cosign(TEXT, NAME, WITNESS, at=1679315147)
    signature = b64_decode(line.split(" ")[2].strip())
    assert line.startswith(f"— {NAME} ")
    assert int.from_bytes(signature[4:12]) == 1679315147
    WITNESS.public_key.verify(signature[12:], f"cosignature/v1\ntime 1679315147\n{TEXT}".encode())


def test_a_cosignature_is_read_back() -> None:
    """A known cosigner is named with its time; the signature of the log is still demanded."""
    cosigner = Cosigner(NAME, WITNESS.public_key)
    data = cosigned()
    note = open_note(data, KNOWN, [cosigner])
    assert [(said.cosigner, said.time) for said in note.cosignatures] == [(cosigner, AT)]
    assert note.signers == (LOG.public_key,)
    assert (note.text + "\n" + "".join(note.lines)).encode() == data
    with pytest.raises(VerificationError) as caught:
        open_note(cosigned(), {ORIGIN: WITNESS.public_key}, [cosigner])
    assert caught.value.code == "unknown_key"


def test_without_known_logs_a_cosigner_is_enough() -> None:
    """Who knows only the witness learns what it said, and nothing from a note that it did not sign."""
    cosigner = Cosigner(NAME, WITNESS.public_key)
    assert open_note(cosigned(), {}, [cosigner]).cosignatures[0].time == AT
    with pytest.raises(VerificationError) as caught:
        open_note(NOTE, {}, [cosigner])
    assert caught.value.code == "unknown_key"


def test_a_stranger_is_ignored() -> None:
    """A cosignature under another name or of another key says nothing, and spoils nothing."""
    other = SigningKey.from_seed(bytes([9]) * 32).public_key
    for cosigner in (Cosigner("other.example", WITNESS.public_key), Cosigner(NAME, other)):
        note = open_note(cosigned(), KNOWN, [cosigner])
        assert (note.signers, note.cosignatures) == ((LOG.public_key,), ())


def test_no_cosignature_is_moved_to_another_statement() -> None:
    """A cosignature of another size, root, origin or time, or a changed one, rejects the note."""
    cosigner = Cosigner(NAME, WITNESS.public_key)
    others = [
        Checkpoint(ORIGIN, 2, CHECKPOINT.root),
        Checkpoint(ORIGIN, 1, leaf_hash(b"other")),
        Checkpoint("example.com/other", 1, CHECKPOINT.root),
    ]
    line = cosigned().removeprefix(NOTE).decode()
    raw = b64_decode(line.split(" ")[2].strip())
    later = raw[:4] + (AT + 1).to_bytes(8) + raw[12:]
    changes = (later, raw[:-1], raw[:12], raw[:11], raw[:5], raw + b"\0", raw[:4] + bytes([255] * 8) + raw[12:])
    notes = [cosigned(of=other) for other in others]
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
            read_cosignature(cosigner, data, TEXT.encode())
        assert (caught.value.code, str(caught.value)) == (
            "bad_signature",
            "a cosignature is not a time and a signature",
        )
    for data in (bytes(9), bytes(72), bytes([127]) + bytes([255]) * 71):
        with pytest.raises(TokenError) as caught:
            read_cosignature(cosigner, data, TEXT.encode())
        assert caught.value.code == "bad_signature"
        assert "a time and" not in str(caught.value)
    for at in (0, 1, 2**63 - 1):
        raw = b64_decode(cosign(TEXT, NAME, WITNESS, at=at).split(" ")[2].strip())
        assert read_cosignature(cosigner, raw[4:], TEXT.encode()) == Cosignature(cosigner, at)
    with pytest.raises(ValueError, match="the time is not from 0") as caught_value:
        cosign(TEXT, NAME, WITNESS, at=-1)
    assert str(caught_value.value) == "the time is not from 0 to 2^63 - 1"


def test_only_a_checkpoint_is_cosigned() -> None:
    """Whoever looks for cosigners on other text is told that it is no checkpoint."""
    note = sign_note("hello\n", ORIGIN, LOG)
    with pytest.raises(VerificationError) as caught:
        open_note(note, KNOWN, [Cosigner(NAME, WITNESS.public_key)])
    assert caught.value.code == "bad_checkpoint"
    assert open_note(note, KNOWN).text == "hello\n"


@pytest.mark.parametrize("at", [-1, 2**63])
def test_a_time_has_63_bits(at: int) -> None:
    """No cosignature is made with a time that readers have no room for."""
    with pytest.raises(ValueError, match="2\\^63"):
        cosign(TEXT, NAME, WITNESS, at=at)


@given(st.data())
def test_no_bit_of_a_cosignature_can_change(data: st.DataObject) -> None:
    """Flip any bit of the line: it is refused, or it is a stranger's; never is something else read from it."""
    note = cosigned()
    place = data.draw(st.integers(len(NOTE), len(note) - 1))
    changed = bytearray(note)
    changed[place] ^= 1 << data.draw(st.integers(0, 7))
    try:
        opened = open_note(bytes(changed), KNOWN, [Cosigner(NAME, WITNESS.public_key)])
    except VerificationError:
        return
    assert opened.cosignatures == ()
