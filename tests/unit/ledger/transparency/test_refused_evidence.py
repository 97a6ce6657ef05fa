"""What each refusal of proofs, notes, envelopes and keys says, and where exactly each bound lies.

A user acts on codes and messages, so the code and one phrase of each message are asserted.
"""

import hmac
import io
import json
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from agent_identity._identity.common.encoding import b64url_decode
from agent_identity._identity.keys.cosigners import check_note_name as check_name
from agent_identity._ledger.transparency.checkpoint import (
    MAX_NOTE,
    MAX_SIZE,
    Checkpoint,
    LogProof,
    format_proof,
    open_note,
    parse_proof,
    parse_vkey,
    sign_note,
    vkey,
)
from agent_identity._ledger.transparency.log import Head
from agent_identity._ledger.transparency.merkle import (
    CompactRange,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    root_of,
    verify_consistency,
    verify_inclusion,
)
from agent_identity._spans.envelope import MAX_PAYLOAD, PAYLOAD_TYPE, Attestation, pae, sign_record, signed_attributes
from agent_identity._spans.otlp_json import Malformed
from agent_identity._spans.otlp_reader import read_spans
from agent_identity._storage.lines import stream_line, stream_parts
from agent_identity._storage.mac import LedgerKey, load_ledger_key
from agent_identity._storage.os_files import Files
from agent_identity.errors import ConfigurationError, TokenError, VerificationError
from agent_identity.identity import PublicKey, SigningKey

KEY = SigningKey.from_seed(bytes([5]) * 32)
OTHER = SigningKey.from_seed(bytes([6]) * 32)
HEX = "0123456789abcdef" * 2
HASH = "ASNFZ4mrze8BI0VniavN7wEjRWeJq83vASNFZ4mrze8"
UUID = "AZV6P04jewGp0QAAAAAAoQ"

Refusal = tuple[Callable[[], object], type[Exception], str | None, str]


def check_refusal(make: Callable[[], object], kind: type[Exception], code: str | None, phrase: str) -> None:
    """Assert the class, the code and a phrase of the message of a refusal."""
    with pytest.raises(kind) as refused:
        make()
    got = refused.value
    assert (type(got), getattr(got, "code", None)) == (kind, code)
    assert phrase in str(got)


def rows(table: dict[str, Refusal]) -> list[object]:
    """Return the parameters of a table of refusals."""
    return [pytest.param(*row, id=name) for name, row in table.items()]


LEAVES = [leaf_hash(bytes([number])) for number in range(7)]
ROOT = root_of(LEAVES)


def included(proof: tuple[bytes, ...], *, index: int = 6, size: int = 7, root: bytes = ROOT) -> None:
    """Verify that the last of seven leaves is in the tree."""
    verify_inclusion(LEAVES[6], proof, index=index, size=size, root=root)


def consistent(proof: tuple[bytes, ...], *, old: int = 3, new: int = 7, root: bytes = ROOT) -> None:
    """Verify that the tree of seven leaves continues a smaller one."""
    verify_consistency(proof, old_size=old, old_root=root_of(LEAVES[:old]), new_size=new, new_root=root)


PROOF = inclusion_proof(LEAVES, 6)
CONTINUED = consistency_proof(LEAVES, 3)
MERKLE: dict[str, Refusal] = {
    "no leaf": (
        lambda: CompactRange().append(b"entry"),
        ValueError,
        None,
        "the leaf hash has 5 bytes instead of 32",
    ),
    "index to prove": (
        lambda: inclusion_proof(LEAVES, 7),
        ValueError,
        None,
        "the index 7 is outside the tree of size 7",
    ),
    "negative index to prove": (
        lambda: inclusion_proof(LEAVES, -1),
        ValueError,
        None,
        "the index -1 is outside the tree of size 7",
    ),
    "old size to prove": (
        lambda: consistency_proof(LEAVES, 8),
        ValueError,
        None,
        "the old size 8 is not from 1 to the tree size 7",
    ),
    "no old size to prove": (
        lambda: consistency_proof(LEAVES, 0),
        ValueError,
        None,
        "the old size 0 is not from 1 to the tree size 7",
    ),
    "index": (
        lambda: included(PROOF, index=7),
        VerificationError,
        "bad_inclusion_proof",
        "the index 7 is outside the tree of size 7",
    ),
    "negative index": (
        lambda: included(PROOF, index=-1),
        VerificationError,
        "bad_inclusion_proof",
        "the index -1 is outside the tree of size 7",
    ),
    "length": (
        lambda: included(PROOF[:1]),
        VerificationError,
        "bad_inclusion_proof",
        "the proof has 1 hashes instead of 2",
    ),
    "no hash": (
        lambda: included((PROOF[0], b"x")),
        VerificationError,
        "bad_inclusion_proof",
        "a hash in the proof is not 32 bytes long",
    ),
    "another root": (
        lambda: included(PROOF, root=LEAVES[0]),
        VerificationError,
        "bad_inclusion_proof",
        "the proof leads to another root; the entry, its place or the tree was changed",
    ),
    "old size": (
        lambda: consistent(CONTINUED, old=0),
        VerificationError,
        "bad_consistency_proof",
        "the old size 0 is not from 1 to the new size 7",
    ),
    "shrunk": (
        lambda: consistent(CONTINUED, new=2),
        VerificationError,
        "bad_consistency_proof",
        "the old size 3 is not from 1 to the new size 2",
    ),
    "proof between equals": (
        lambda: consistent(CONTINUED, old=7),
        VerificationError,
        "bad_consistency_proof",
        f"the proof between equal sizes has {len(CONTINUED)} hashes",
    ),
    "two trees": (
        lambda: consistent((), old=7, root=LEAVES[0]),
        VerificationError,
        "bad_consistency_proof",
        "two different trees of the same size; one of them is forged",
    ),
    "length of continuation": (
        lambda: consistent(CONTINUED[:-1]),
        VerificationError,
        "bad_consistency_proof",
        f"the proof has {len(CONTINUED) - 1} hashes instead of {len(CONTINUED)}",
    ),
    "no hash in continuation": (
        lambda: consistent((*CONTINUED[:-1], b"x")),
        VerificationError,
        "bad_consistency_proof",
        "a hash in the proof is not 32 bytes long",
    ),
    "other roots": (
        lambda: consistent(CONTINUED, root=LEAVES[0]),
        VerificationError,
        "bad_consistency_proof",
        "the proof leads to other roots; the new tree does not continue the old one",
    ),
}


@pytest.mark.parametrize(("make", "kind", "code", "message"), rows(MERKLE))
def test_what_a_refused_tree_says(
    make: Callable[[], object], kind: type[Exception], code: str | None, message: str
) -> None:
    """Each proof that does not hold is refused with its code and message."""
    check_refusal(make, kind, code, message)


NAMES = "the log name does not have 1 to 256 visible characters without spaces and '+'"
LINES = "the text has a control character, or no newline at its end"
BASE64 = "the text is not canonical base64"
FORM = "a signature line is not of the form '— <name> <base64>'"
DECIMAL = "a number is not decimal without sign, spaces or leading zeros"
CHECKPOINT = Checkpoint("log", 1, ROOT)
NOTE = sign_note(CHECKPOINT.to_text(), "log", KEY)
VKEY = vkey("log", KEY.public_key)
KNOWN = {"log": KEY.public_key}


def text64(data: bytes) -> str:
    """Return standard base64."""
    return b64encode(data).decode()


def noted(line: str) -> Callable[[], object]:
    """Return an opening of a note with one more signature line."""
    return lambda: open_note(NOTE + f"{line}\n".encode(), KNOWN)


def bad_note(message: str) -> tuple[type[Exception], str, str]:
    """Return what the refusal of a malformed note is."""
    return (VerificationError, "bad_note", f"malformed note: {message}")


def bad_checkpoint(message: str) -> tuple[type[Exception], str, str]:
    """Return what the refusal of a malformed checkpoint is."""
    return (VerificationError, "bad_checkpoint", f"malformed checkpoint: {message}")


def bad_proof(message: str) -> tuple[type[Exception], str, str]:
    """Return what the refusal of a malformed proof file is."""
    return (VerificationError, "bad_proof", f"malformed proof file: {message}")


NOTES: dict[str, Refusal] = {
    "no name": (lambda: check_name(""), ValueError, None, NAMES),
    "long name": (lambda: check_name("x" * 257), ValueError, None, NAMES),
    "name with a space": (lambda: check_name("a b"), ValueError, None, NAMES),
    "name with a plus": (lambda: check_name("a+b"), ValueError, None, NAMES),
    "name with a control": (lambda: check_name("a\n"), ValueError, None, NAMES),
    "name of a verifier key": (lambda: vkey("", KEY.public_key), ValueError, None, NAMES),
    "verifier key": (
        lambda: parse_vkey("log+00000000"),
        ValueError,
        None,
        "the verifier key is not of the form <name>+<key id>+<base64>",
    ),
    "verifier key of no name": (lambda: parse_vkey(VKEY.removeprefix("log")), ValueError, None, NAMES),
    "verifier key in other base64": (lambda: parse_vkey(f"{VKEY}="), ValueError, None, BASE64),
    "verifier key of another type": (
        lambda: parse_vkey(f"log+00000000+{text64(bytes([2]) + KEY.public_key.raw)}"),
        ValueError,
        None,
        "the verifier key is not of type 1 (Ed25519)",
    ),
    "verifier key with another id": (
        lambda: parse_vkey(VKEY.replace("log", "log2")),
        ValueError,
        None,
        "the key id is not that of this name and key",
    ),
    "signed name": (lambda: sign_note("text\n", "a b", KEY), ValueError, None, NAMES),
    "no end of line": (lambda: sign_note("text", "log", KEY), ValueError, None, LINES),
    "control": (lambda: sign_note("a\tb\n", "log", KEY), ValueError, None, LINES),
    "too large to sign": (
        lambda: sign_note("x" * 65_434 + "\n", "log", KEY),
        ValueError,
        None,
        "the note has 65537 bytes, more than 65536",
    ),
    "too large": (
        lambda: open_note(b"x" * 65_537, KNOWN),
        *bad_note("it has 65537 bytes, more than 65536"),
    ),
    "no text": (lambda: open_note(b"\xff", KNOWN), *bad_note("it is not UTF-8")),
    "control in a note": (
        lambda: open_note(b"a\r" + NOTE, KNOWN),
        *bad_note("it has a control character other than newline"),
    ),
    "no signatures": (
        lambda: open_note(b"text\n", KNOWN),
        *bad_note("it is not text, a blank line and signature lines, each ended by a newline"),
    ),
    "nothing before the signatures": (
        lambda: open_note(b"\n\n" + NOTE.rpartition(b"\n\n")[2], KNOWN),
        *bad_note("it is not text, a blank line and signature lines, each ended by a newline"),
    ),
    "signature line without an end": (
        lambda: open_note(NOTE[:-1], KNOWN),
        *bad_note("it is not text, a blank line and signature lines, each ended by a newline"),
    ),
    "signature of no name": (noted("—  AAAAAAA="), *bad_note(NAMES)),
    "signature in three parts": (noted("— a b AAAAAAA="), *bad_note(BASE64)),
    "signature in other base64": (noted("— a AAAAAAA"), *bad_note(BASE64)),
    "signature without a dash": (noted("a AAAAAAA="), *bad_note(FORM)),
    "signature of a key id alone": (noted("— a AAAAAA=="), *bad_note(FORM)),
    "changed": (
        lambda: open_note(NOTE.replace(b"log\n1\n", b"log\n2\n"), KNOWN),
        VerificationError,
        "bad_signature",
        "the signature of a known key does not fit the note; the note was changed",
    ),
    "unknown key": (
        lambda: open_note(NOTE, {"log": OTHER.public_key}),
        VerificationError,
        "unknown_key",
        "no known key signed the note",
    ),
    "origin": (lambda: Checkpoint("a b", 1, ROOT), ValueError, None, NAMES),
    "negative size": (
        lambda: Checkpoint("log", -1, ROOT),
        ValueError,
        None,
        "the log size -1 is not from 0 to 2^63 - 1",
    ),
    "size": (
        lambda: Checkpoint("log", 2**63, ROOT),
        ValueError,
        None,
        "the log size 9223372036854775808 is not from 0 to 2^63 - 1",
    ),
    "root": (lambda: Checkpoint("log", 1, b"x"), ValueError, None, "the root has 1 bytes instead of 32"),
    "root of nothing": (
        lambda: Checkpoint("log", 0, ROOT),
        ValueError,
        None,
        "the root of a log of size 0 is not that of the empty tree",
    ),
    "extension": (
        lambda: Checkpoint("log", 1, ROOT, extensions=("a\nb",)),
        ValueError,
        None,
        "an extension line is empty, or has a control character",
    ),
    "empty extension": (
        lambda: Checkpoint("log", 1, ROOT, extensions=("",)),
        ValueError,
        None,
        "an extension line is empty, or has a control character",
    ),
    "checkpoint in two lines": (
        lambda: Checkpoint.from_text("log\n1\n"),
        *bad_checkpoint("it does not begin with the lines origin, size and root, each ended by a newline"),
    ),
    "checkpoint without an end": (
        lambda: Checkpoint.from_text(CHECKPOINT.to_text() + "x"),
        *bad_checkpoint("it does not begin with the lines origin, size and root, each ended by a newline"),
    ),
    "checkpoint with another size": (
        lambda: Checkpoint.from_text(CHECKPOINT.to_text().replace("1\n", "01\n", 1)),
        *bad_checkpoint(DECIMAL),
    ),
    "checkpoint in other base64": (lambda: Checkpoint.from_text("log\n1\nxx\n"), *bad_checkpoint(BASE64)),
    "index": (
        lambda: LogProof(MAX_SIZE, (), NOTE),
        ValueError,
        None,
        "the index 9223372036854775807 is not from 0 to 2^63 - 2",
    ),
    "negative index": (
        lambda: LogProof(-1, (), NOTE),
        ValueError,
        None,
        "the index -1 is not from 0 to 2^63 - 2",
    ),
    "hashes": (
        lambda: LogProof(0, (ROOT,) * 64, NOTE),
        ValueError,
        None,
        "there are more than 63 hashes, or one is not 32 bytes long",
    ),
    "hash": (
        lambda: LogProof(0, (b"x",), NOTE),
        ValueError,
        None,
        "there are more than 63 hashes, or one is not 32 bytes long",
    ),
    "large checkpoint": (
        lambda: LogProof(0, (), b"x" * 65_537),
        ValueError,
        None,
        "the checkpoint has 65537 bytes, more than 65536",
    ),
    "large proof file": (
        lambda: parse_proof(b"x" * 131_073),
        *bad_proof("it has 131073 bytes, more than 131072"),
    ),
    "no proof file": (
        lambda: parse_proof(b"text\n\n"),
        *bad_proof("it is not 'c2sp.org/tlog-proof@v1', lines, a blank line and a checkpoint"),
    ),
    "proof file without a checkpoint": (
        lambda: parse_proof(b"c2sp.org/tlog-proof@v1\nindex 0\n"),
        *bad_proof("it is not 'c2sp.org/tlog-proof@v1', lines, a blank line and a checkpoint"),
    ),
    "proof file without an index": (
        lambda: parse_proof(b"c2sp.org/tlog-proof@v1\nextra AA==\n\n"),
        *bad_proof("the line 'index <number>' is missing"),
    ),
    "proof file with another index": (
        lambda: parse_proof(b"c2sp.org/tlog-proof@v1\nindex +1\n\n"),
        *bad_proof(DECIMAL),
    ),
    "proof file in other base64": (
        lambda: parse_proof(b"c2sp.org/tlog-proof@v1\nindex 0\nAA\n\n"),
        *bad_proof(BASE64),
    ),
    "proof file with a short hash": (
        lambda: parse_proof(b"c2sp.org/tlog-proof@v1\nindex 0\nAA==\n\n"),
        *bad_proof("there are more than 63 hashes, or one is not 32 bytes long"),
    ),
}


@pytest.mark.parametrize(("make", "kind", "code", "message"), rows(NOTES))
def test_what_a_refused_note_says(
    make: Callable[[], object], kind: type[Exception], code: str | None, message: str
) -> None:
    """Each malformed note, checkpoint and proof file is refused with its code and message."""
    check_refusal(make, kind, code, message)


def test_notes_at_their_bounds() -> None:
    """The longest name, the largest note, checkpoint and proof file, and the shortest signature are read."""
    check_name("x" * 256)
    largest = sign_note("x" * 65_433 + "\n", "log", KEY)
    assert len(largest) == MAX_NOTE
    assert open_note(largest, KNOWN).signers == (KEY.public_key,)
    assert open_note(NOTE + "— a AAAAAAA=\n".encode(), KNOWN).signers == (KEY.public_key,)
    assert Checkpoint("log", MAX_SIZE, ROOT).size == MAX_SIZE
    for proof in (
        LogProof(MAX_SIZE - 1, (ROOT,) * 63, b"x" * MAX_NOTE),
        LogProof(0, (), b"x" * 65_497, bytes(49_152)),
        LogProof(0, (), NOTE, b""),
    ):
        assert parse_proof(format_proof(proof)) == proof
    assert len(format_proof(LogProof(0, (), b"x" * 65_497, bytes(49_152)))) == 2 * MAX_NOTE


RECORD = b'{"kind":"outcome"}'
ATTESTATION = sign_record(RECORD, KEY)
ENVELOPE = json.loads(ATTESTATION.to_envelope())
ATTRIBUTES = ATTESTATION.to_attributes()


def trusted(keyid: str) -> PublicKey:
    """Return the key under its thumbprint."""
    if keyid != KEY.public_key.thumbprint:
        raise TokenError("unknown key", code="unknown_key")
    return KEY.public_key


def opened(**changes: str) -> Callable[[], object]:
    """Return an opening of the attestation with other fields."""
    return lambda: replace(ATTESTATION, **changes).open(trusted)


def unpacked(**changes: object) -> Callable[[], object]:
    """Return a reading of the envelope with other members."""
    return lambda: Attestation.from_envelope(json.dumps(ENVELOPE | changes).encode())


def bad_attestation(message: str) -> tuple[type[Exception], str, str]:
    """Return what the refusal of a malformed attestation is."""
    return (VerificationError, "bad_attestation", f"malformed attestation: {message}")


NO_NAME = "the payload type or the keyid has more than 256 characters, or is not ASCII"
SIGNATURE = ENVELOPE["signatures"][0]
ENVELOPES: dict[str, Refusal] = {
    "field no text": (opened(keyid=None), ValueError, None, "the keyid of the attestation is not text"),
    "payload too large": (
        opened(payload="A" * 5_592_410),
        ValueError,
        None,
        "the payload is larger than 4194304 bytes",
    ),
    "payload just not too large, but no base64url": (
        opened(payload="A" * 5_592_409),
        ValueError,
        None,
        ("bad payload of an attestation: the text has a character or a length that base64url without padding has not"),
    ),
    "type too long": (opened(payload_type="x" * 257), ValueError, None, NO_NAME),
    "keyid too long": (opened(keyid="x" * 257), ValueError, None, NO_NAME),
    "keyid beyond ASCII": (opened(keyid="ä"), ValueError, None, NO_NAME),
    "signature": (
        opened(signature="00" * 64),
        ValueError,
        None,
        "the signature is not 86 base64url characters",
    ),
    "digest": (
        opened(digest=HEX),
        ValueError,
        None,
        "the digest is not 43 base64url characters",
    ),
    "another type": (
        opened(payload_type="text/plain"),
        VerificationError,
        "unknown_payload_type",
        "the payload type is not that of a record",
    ),
    "another digest": (
        opened(digest=HASH),
        VerificationError,
        "bad_digest",
        "the digest is not that of the payload; one was changed",
    ),
    "another signature": (
        opened(signature="A" * 86),
        VerificationError,
        "bad_signature",
        "the signature is not one of the named key over this record; one was changed",
    ),
    "another key": (opened(keyid="x"), TokenError, "unknown_key", "unknown key"),
    "no attestation": (
        lambda: Attestation.from_attributes({"user.id": "alice"}),
        VerificationError,
        "no_attestation",
        "the span has no attestation",
    ),
    "a part": (
        lambda: Attestation.from_attributes(dict(list(ATTRIBUTES.items())[:3])),
        VerificationError,
        "partial_attestation",
        "the attestation on the span lacks keyid, digest",
    ),
    "a scrubbed part": (
        lambda: Attestation.from_attributes(ATTRIBUTES | {"agent_identity.attestation.signature": "****"}),
        *bad_attestation("the signature is not 86 base64url characters"),
    ),
    "envelope too large": (
        lambda: Attestation.from_envelope(b" " * 11_184_819),
        *bad_attestation("the envelope has 11184819 bytes, more than 11184818"),
    ),
    "envelope no object": (
        lambda: Attestation.from_envelope(b"[]"),
        *bad_attestation("a part of the envelope is not a JSON object"),
    ),
    "signature no object": (
        unpacked(signatures=["x"]),
        *bad_attestation("a part of the envelope is not a JSON object"),
    ),
    "two signatures": (
        unpacked(signatures=[SIGNATURE, SIGNATURE]),
        *bad_attestation("the envelope does not have exactly one signature"),
    ),
    "no list of signatures": (
        unpacked(signatures=SIGNATURE),
        *bad_attestation("the envelope does not have exactly one signature"),
    ),
    "payload no text": (unpacked(payload=1), *bad_attestation("a value in the envelope is not base64 text")),
    "payload beyond ASCII": (unpacked(payload="ä"), *bad_attestation("a value in the envelope is not base64 text")),
    "payload no base64": (
        unpacked(payload="A"),
        *bad_attestation("a value in the envelope has a character or a length that base64 has not"),
    ),
    "signature no base64": (
        unpacked(signatures=[SIGNATURE | {"sig": "!"}]),
        *bad_attestation("a value in the envelope has a character or a length that base64 has not"),
    ),
    "type no text": (
        unpacked(payloadType=1),
        *bad_attestation("the payload_type of the attestation is not text"),
    ),
    "record too large": (
        lambda: sign_record(bytes(MAX_PAYLOAD + 1), KEY),
        ValueError,
        None,
        "the payload is larger than 4194304 bytes",
    ),
    "record too large for attributes": (
        lambda: signed_attributes(bytes(MAX_PAYLOAD + 1), KEY),
        ValueError,
        None,
        "the payload is larger than 4194304 bytes",
    ),
}


@pytest.mark.parametrize(("make", "kind", "code", "message"), rows(ENVELOPES))
def test_what_a_refused_attestation_says(
    make: Callable[[], object], kind: type[Exception], code: str | None, message: str
) -> None:
    """Each malformed, cut or changed attestation is refused with its code and message."""
    check_refusal(make, kind, code, message)


def test_an_envelope_that_is_no_json_says_where() -> None:
    """The parser's own words are passed on."""
    with pytest.raises(VerificationError, match=r"^malformed attestation: .+ line 1 ") as refused:
        Attestation.from_envelope(b"{")
    assert refused.value.code == "bad_attestation"


def test_attestations_at_their_bounds() -> None:
    """The largest record is signed, the longest keyid is carried, and the largest envelope is read."""
    assert len(sign_record(bytes(MAX_PAYLOAD), KEY).open(trusted)) == MAX_PAYLOAD
    assert replace(ATTESTATION, keyid="x" * 256).keyid == "x" * 256
    padded = ATTESTATION.to_envelope().ljust(11_184_818)
    assert Attestation.from_envelope(padded) == ATTESTATION


@pytest.mark.parametrize("body", [b"\xfb\xff\xbf", b"\xfb\xff\xbf\xfe", b"\xfb\xff\xbf\xfe\xfb", b"\0\0\x17"])
def test_both_alphabets_of_an_envelope_are_read(body: bytes) -> None:
    """DSSE accepts standard and url-safe base64, with padding or without."""
    attestation = sign_record(body, KEY)
    raw = b64url_decode(attestation.signature)
    for encode in (b64encode, urlsafe_b64encode):
        for strip in (b"", b"="):
            payload, signature = (encode(data).rstrip(strip).decode() for data in (body, raw))
            envelope = {
                "payload": payload,
                "payloadType": PAYLOAD_TYPE,
                "signatures": [{"keyid": attestation.keyid, "sig": signature}],
            }
            assert Attestation.from_envelope(json.dumps(envelope).encode()) == attestation


@pytest.mark.parametrize("length", range(20))
def test_records_of_any_length_open(length: int) -> None:
    """The padding that base64url leaves out is put back, whatever the length."""
    body = b"x" * length
    attestation = sign_record(body, KEY)
    assert attestation.open(trusted) == body
    KEY.public_key.verify(b64url_decode(attestation.signature), pae(PAYLOAD_TYPE, body))


def test_the_mac_of_a_line_is_that_of_its_format() -> None:
    """Another program can compute the MACs: tag, stream and newline stand before the data."""
    key = LedgerKey(b"k" * 32)
    for mac, tag in [
        (key.stream_mac("one"), b"agent-identity/ledger/v1\none\n"),
        (key.log_mac(), b"agent-identity/log/v1\n"),
    ]:
        assert mac.of(b"data") == hmac.new(b"k" * 32, tag + b"data", "sha256").digest()


@pytest.mark.parametrize(
    ("size", "mode", "message"),
    [
        (32, 0o640, "{!r} has mode 0640, which is open to group or others"),
        (32, 0o601, "{!r} has mode 0601, which is open to group or others"),
        (
            31,
            0o600,
            ("the key in {!r} is not 32 bytes long"),
        ),
        (
            40,
            0o600,
            ("the key in {!r} is not 32 bytes long"),
        ),
    ],
)
def test_what_a_refused_ledger_key_says(tmp_path: Path, size: int, mode: int, message: str) -> None:
    """A key of another length or open to others is refused with its path and what to do."""
    path = tmp_path / "ledger.key"
    path.write_bytes(b"k" * size)
    path.chmod(mode)
    check_refusal(
        lambda: load_ledger_key(Files(), str(path)), ConfigurationError, "bad_configuration", message.format(str(path))
    )


def test_what_a_key_of_another_length_says() -> None:
    """The length is named, never the key."""
    check_refusal(lambda: LedgerKey(b"abc"), ValueError, None, "the key has 3 bytes instead of 32")


@pytest.mark.parametrize(
    "change",
    [
        lambda line: b"X" + line[1:],
        lambda line: line[:51] + b"X" + line[52:],
        lambda line: line[:-1] + b"X",
        lambda line: line[:-2] + b"X}",
        lambda line: line[:8] + b"+" + line[9:],
        lambda line: line[:50] + b"B" + line[51:],
    ],
    ids=["start", "middle", "end", "end of the record", "start of the MAC", "end of the MAC"],
)
def test_each_place_of_a_line_counts(change: Callable[[bytes], bytes]) -> None:
    """One wrong byte at any of the fixed places, and the line has not the form."""
    line = stream_line(bytes(32), b'{"a":"b"}')[:-1]
    assert stream_parts(line) == (b'{"a":"b"}', "A" * 43, None)
    assert stream_parts(change(line)) is None


STRINGS = "a log entry does not have exactly the strings origin, root, size, stream and time"
FORMS = "a log entry has a size that is not decimal, a root that is no digest, or a stream that is no id"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"more": "x"}, STRINGS),
        ({"size": True}, STRINGS),
        ({"size": "01"}, FORMS),
        ({"root": HASH[1:]}, FORMS),
        ({"stream": "../x"}, FORMS),
        ({"time": True}, STRINGS),
        ({"time": "01"}, "the time of a log entry is not nanoseconds as a decimal number"),
    ],
    ids=repr,
)
def test_what_a_refused_log_entry_says(changes: dict[str, object], message: str) -> None:
    """An entry of another form is refused with the form that it should have."""
    entry: dict[str, object] = {"origin": "log", "root": HASH, "size": "1", "stream": UUID, "time": "1"}
    assert Head.from_entry(json.dumps(entry, separators=(",", ":")).encode())[1] == "log"
    changed = json.dumps(dict(sorted((entry | changes).items())), separators=(",", ":")).encode()
    check_refusal(lambda: Head.from_entry(changed), ValueError, None, message)


def span(**changes: object) -> dict[str, object]:
    """Return an export of one span with other members."""
    whole = {"traceId": HEX, "spanId": HEX[:16]} | changes
    return {"resourceSpans": [{"scopeSpans": [{"spans": [whole]}]}]}


def valued(value: object) -> dict[str, object]:
    """Return an export of one span with one attribute."""
    return span(attributes=[{"key": "k", "value": value}])


SPANS: dict[str, tuple[object, str]] = {
    "no request": (3, "an export request is not an object"),
    "null": (None, "the JSON is not an export request: it has no 'resourceSpans'"),
    "other JSON": ({"a": 1}, "the JSON is not an export request: it has no 'resourceSpans'"),
    "resources": ({"resourceSpans": {}}, "'resourceSpans' is not an array"),
    "resource group": ({"resourceSpans": [1]}, "'resourceSpans' is not an object"),
    "resource": ({"resourceSpans": [{"resource": 1}]}, "'resource' is not an object"),
    "resource attributes": ({"resourceSpans": [{"resource": {"attributes": 1}}]}, "'attributes' is not an array"),
    "scopes": ({"resourceSpans": [{"scopeSpans": 1}]}, "'scopeSpans' is not an array"),
    "scope group": ({"resourceSpans": [{"scopeSpans": [1]}]}, "'scopeSpans' is not an object"),
    "scope": ({"resourceSpans": [{"scopeSpans": [{"scope": 1}]}]}, "'scope' is not an object"),
    "scope name": ({"resourceSpans": [{"scopeSpans": [{"scope": {"name": 1}}]}]}, "'name' is not a string"),
    "spans": ({"resourceSpans": [{"scopeSpans": [{"spans": 1}]}]}, "'spans' is not an array"),
    "span": ({"resourceSpans": [{"scopeSpans": [{"spans": [1]}]}]}, "a span is not an object"),
    "status": (span(status=1), "'status' is not an object"),
    "status message": (span(status={"message": 1}), "'message' is not a string"),
    "trace id": (span(traceId="0" * 32), "'traceId' is not 32 hex digits, or is all zero"),
    "span id": (span(spanId="x"), "'spanId' is not 16 hex digits, or is all zero"),
    "parent": (span(parentSpanId=1), "'parentSpanId' is not 16 hex digits, or is all zero"),
    "name": (span(name=1), "'name' is not a string"),
    "start": (span(startTimeUnixNano="soon"), "a 64-bit integer is not a decimal string"),
    "early start": (span(startTimeUnixNano=-1), "a time is not nanoseconds in 64 bits"),
    "late end": (span(endTimeUnixNano=str(2**64)), "a time is not nanoseconds in 64 bits"),
    "attributes": (span(attributes={}), "'attributes' is not an array"),
    "attribute": (span(attributes=["k"]), "an attribute is not an object"),
    "key": (span(attributes=[{"key": 1}]), "'key' is not a string"),
    "value": (valued("v"), "the value of an attribute is not an object"),
    "two kinds": (
        valued({"intValue": 1, "boolValue": True}),
        "an attribute has several kinds of value",
    ),
    "two values": (
        span(attributes=[{"key": "k", "value": {"stringValue": text}} for text in "ab"]),
        "an attribute has two values that differ",
    ),
    "text": (valued({"stringValue": 1}), "'stringValue' is not a string"),
    "boolean": (valued({"boolValue": 1}), "'boolValue' is not a boolean"),
    "integer": (valued({"intValue": 1.5}), "a 64-bit integer is not a decimal string"),
    "large integer": (valued({"intValue": str(2**63)}), "'intValue' is not in 64 bits"),
    "small integer": (valued({"intValue": str(-(2**63) - 1)}), "'intValue' is not in 64 bits"),
    "double": (valued({"doubleValue": "x"}), "'doubleValue' is not a number"),
    "double of another type": (valued({"doubleValue": True}), "'doubleValue' is not a number"),
    "bytes": (valued({"bytesValue": 1}), "'bytesValue' is not base64"),
    "no base64": (valued({"bytesValue": "A"}), "'bytesValue' is not base64"),
    "list": (valued({"arrayValue": []}), "'arrayValue' is not an object"),
    "list of values": (valued({"arrayValue": {"values": 1}}), "'values' is not an array"),
    "map": (valued({"kvlistValue": []}), "'kvlistValue' is not an object"),
    "map of values": (valued({"kvlistValue": {"values": 1}}), "'values' is not an array"),
}


@pytest.mark.parametrize(("document", "message"), SPANS.values(), ids=SPANS)
def test_what_a_malformed_span_says(document: object, message: str) -> None:
    """Each malformed part is reported with its line and what was expected."""
    line = json.dumps(document).encode()
    assert list(read_spans(io.BytesIO(b"\n" + line))) == [Malformed(2, message)]


def test_what_a_damaged_line_says() -> None:
    """A line that is no JSON is reported with its number."""
    good = json.dumps(span()).encode()
    items = list(read_spans(io.BytesIO(good + b"\n{\n" + good)))
    assert items[1] == Malformed(2, "the line is damaged: neither it nor the whole file is one JSON document")


def deep(depth: int, *, maps: bool) -> dict[str, object]:
    """Return an export with a value inside so many containers."""
    value: dict[str, object] = {"intValue": "1"}
    for _ in range(depth):
        if maps:
            value = {"kvlistValue": {"values": [{"key": "k", "value": value}]}}
        else:
            value = {"arrayValue": {"values": [value]}}
    return valued(value)


@pytest.mark.parametrize("maps", [False, True])
def test_values_of_spans_at_their_bounds(maps: bool) -> None:
    """A value inside 64 arrays or maps is read, one more is not; so are the first and the last of each number."""
    (fits,) = read_spans(io.BytesIO(json.dumps(deep(64, maps=maps)).encode()))
    assert not isinstance(fits, Malformed)
    assert list(read_spans(io.BytesIO(json.dumps(deep(65, maps=maps)).encode()))) == [
        Malformed(1, "an attribute has more than 64 nested arrays and maps")
    ]
    for number in (2**63 - 1, -(2**63)):
        (read,) = read_spans(io.BytesIO(json.dumps(valued({"intValue": str(number)})).encode()))
        assert not isinstance(read, Malformed)
        assert read.attributes["k"] == number
    (timed,) = read_spans(io.BytesIO(json.dumps(span(startTimeUnixNano="0", endTimeUnixNano=2**64 - 1)).encode()))
    assert not isinstance(timed, Malformed)
    assert (timed.start, timed.end) == (0, 2**64 - 1)


def test_attributes_of_a_resource_are_read_like_those_of_a_span() -> None:
    """Arrays and numbers of a resource come back as values, too."""
    export = span()
    values = {"values": [{"intValue": "1"}, {"arrayValue": {"values": [{"stringValue": "x"}]}}]}
    export["resourceSpans"][0]["resource"] = {"attributes": [{"key": "k", "value": {"arrayValue": values}}]}
    (read,) = read_spans(io.BytesIO(json.dumps(export).encode()))
    assert not isinstance(read, Malformed)
    assert dict(read.resource) == {"k": [1, ["x"]]}
