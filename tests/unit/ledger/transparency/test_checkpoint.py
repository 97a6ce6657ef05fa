"""Signed notes, checkpoints and proof files: one spelling each, and known keys decide."""

import contextlib
import json
from base64 import b64decode, b64encode
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_identity._ledger.transparency import checkpoint as checkpoint_module
from agent_identity._ledger.transparency.checkpoint import (
    MAX_NOTE,
    MAX_SIZE,
    Checkpoint,
    KnownKeys,
    LogProof,
    format_proof,
    open_note,
    parse_proof,
    parse_vkey,
    sign_note,
    vkey,
)
from agent_identity._ledger.transparency.merkle import EMPTY_ROOT, inclusion_proof, leaf_hash, root_of, verify_inclusion
from agent_identity.errors import VerificationError
from agent_identity.identity import SigningKey

KEY = SigningKey.from_seed(bytes([5]) * 32)
OTHER = SigningKey.from_seed(bytes([6]) * 32)
ORIGIN = "example.com/agent-identity/log1"
KNOWN = {ORIGIN: KEY.public_key}
ROOT = leaf_hash(b"entry")
CHECKPOINT = Checkpoint(ORIGIN, 1, ROOT)
NOTE = sign_note(CHECKPOINT.to_text(), ORIGIN, KEY)

names = st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S"), exclude_characters="+"), min_size=1).map(
    lambda text: text[:256]
)
lines = st.text(st.characters(codec="utf-8", min_codepoint=0x20, exclude_characters="\x7f"))


def _code(data: bytes) -> str:
    with pytest.raises(VerificationError) as caught:
        open_note(data, KNOWN)
    return caught.value.code


def test_worked_example(shared_vectors: Path) -> None:
    """Verifier key, checkpoint and proof file of the published example come out byte for byte."""
    vectors: dict[str, Any] = json.loads((shared_vectors / "agent_identity_v1.json").read_text("utf-8"))
    log = vectors["log"]
    assert log["origin"] == ORIGIN
    assert vkey(ORIGIN, KEY.public_key) == log["vkey"]
    assert parse_vkey(log["vkey"]) == (ORIGIN, KEY.public_key)
    note = open_note(log["checkpoint"].encode("utf-8"), KNOWN)
    checkpoint = Checkpoint.from_text(note.text)
    assert note.signers == (KEY.public_key,)
    assert checkpoint == Checkpoint(ORIGIN, 3, b64decode(log["root_b64"]))
    assert sign_note(checkpoint.to_text(), ORIGIN, KEY).decode("utf-8") == log["checkpoint"]
    proof = parse_proof(log["tlog_proof_index1"].encode("utf-8"))
    assert proof.note.decode("utf-8") == log["checkpoint"]
    assert format_proof(proof).decode("utf-8") == log["tlog_proof_index1"]
    leaf = b64decode(vectors["records"][1]["leaf_hash_b64"])
    verify_inclusion(leaf, proof.hashes, index=proof.index, size=checkpoint.size, root=checkpoint.root)


@given(names, st.integers(1, MAX_SIZE), st.binary(min_size=32, max_size=32), st.lists(lines.filter(bool), max_size=3))
def test_a_checkpoint_survives_signing_and_reading(origin: str, size: int, root: bytes, more: list[str]) -> None:
    """What was signed is what is read."""
    checkpoint = Checkpoint(origin, size, root, extensions=tuple(more))
    note = open_note(sign_note(checkpoint.to_text(), origin, KEY), {origin: KEY.public_key})
    assert Checkpoint.from_text(note.text) == checkpoint


@given(names, st.binary(min_size=32, max_size=32))
def test_a_verifier_key_is_read_back(name: str, seed: bytes) -> None:
    """A verifier key holds the name and the key, and its text is its only spelling."""
    key = SigningKey.from_seed(seed).public_key
    assert parse_vkey(vkey(name, key)) == (name, key)


@given(st.data())
def test_no_bit_of_a_note_can_change(data: st.DataObject) -> None:
    """Flip any bit: the note is refused."""
    place = data.draw(st.integers(0, len(NOTE) - 1))
    changed = bytearray(NOTE)
    changed[place] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(VerificationError):
        open_note(bytes(changed), KNOWN)


@given(st.binary() | st.text().map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_no_garbage_is_a_note(data: bytes) -> None:
    """Arbitrary bytes end in the one error, never in another."""
    for text in (data, NOTE + data, data + NOTE):
        if text != NOTE:
            with pytest.raises(VerificationError):
                open_note(text, KNOWN)


@given(st.text() | st.from_regex(r"\A[a-z]{1,3}\n[0-9]{1,3}\n[A-Za-z0-9+/]{43}=\n\Z"))
def test_a_checkpoint_has_one_spelling(text: str) -> None:
    """Text either is refused or is exactly what its checkpoint writes."""
    with contextlib.suppress(VerificationError):
        assert Checkpoint.from_text(text).to_text() == text


@given(st.binary() | st.text().map(lambda text: f"c2sp.org/tlog-proof@v1\n{text}".encode("utf-8", "surrogatepass")))
def test_a_proof_file_has_one_spelling(data: bytes) -> None:
    """Bytes either are refused or are exactly what their proof writes."""
    with contextlib.suppress(VerificationError):
        assert format_proof(parse_proof(data)) == data


@given(st.integers(1, 40), st.data(), st.none() | st.binary(max_size=40))
def test_a_proof_file_is_read_back(size: int, data: st.DataObject, extra: bytes | None) -> None:
    """A proof file holds all that is needed to verify an entry offline."""
    leaves = [leaf_hash(bytes([number])) for number in range(size)]
    index = data.draw(st.integers(0, size - 1))
    note = sign_note(Checkpoint(ORIGIN, size, root_of(leaves)).to_text(), ORIGIN, KEY)
    written = LogProof(index, inclusion_proof(leaves, index), note, extra)
    proof = parse_proof(format_proof(written))
    assert proof == written
    checkpoint = Checkpoint.from_text(open_note(proof.note, KNOWN).text)
    verify_inclusion(leaves[index], proof.hashes, index=proof.index, size=checkpoint.size, root=checkpoint.root)


def test_unknown_signatures_are_ignored_beside_a_known_one() -> None:
    """A witness may add its signature, before or after; a note with none that is known is refused."""
    added = sign_note(CHECKPOINT.to_text(), "witness.example", OTHER).rpartition(b"\n\n")[2]
    assert open_note(NOTE + added, KNOWN).signers == (KEY.public_key,)
    text, _, own = NOTE.rpartition(b"\n\n")
    assert open_note(text + b"\n\n" + added + own, KNOWN).signers == (KEY.public_key,)
    assert _code(text + b"\n\n" + added) == "unknown_key"


def test_a_known_key_under_another_name_is_unknown() -> None:
    """A key counts only for the log that it was trusted for."""
    assert _code(sign_note(CHECKPOINT.to_text(), "other.example", KEY)) == "unknown_key"


def test_a_failing_signature_of_a_known_key_is_not_ignored() -> None:
    """One good signature does not hide a bad one by a known key."""
    known = {ORIGIN: KEY.public_key, "witness.example": OTHER.public_key}
    bad = sign_note("another text\n", "witness.example", OTHER).rpartition(b"\n\n")[2]
    with pytest.raises(VerificationError) as caught:
        open_note(NOTE + bad, known)
    assert caught.value.code == "bad_signature"


def test_a_log_may_have_had_several_keys() -> None:
    """After a key was replaced, both are known under the one name."""
    both = {ORIGIN: (KEY.public_key, OTHER.public_key)}
    assert open_note(NOTE, both).signers == (KEY.public_key,)
    assert open_note(sign_note(CHECKPOINT.to_text(), ORIGIN, OTHER), both).signers == (OTHER.public_key,)


def test_keys_for_many_notes_are_hashed_once_and_known_under_each_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each name has its own table, also after another one, and notes of one name in a row share it."""
    hashed: list[str] = []
    key_id = checkpoint_module.note_key_id

    def counted(name: str, kind: bytes, raw: bytes) -> bytes:
        hashed.append(name)
        return key_id(name, kind, raw)

    notes = {name: sign_note("text\n", name, OTHER) for name in ("a", "b")}
    monkeypatch.setattr(checkpoint_module, "note_key_id", counted)
    known = KnownKeys(key.public_key for key in (KEY, OTHER))
    for name in "aaabba":
        assert open_note(notes[name], {name: known}).signers == (OTHER.public_key,)
    assert "".join(hashed) == "aabbaa"
    with pytest.raises(VerificationError) as caught:
        open_note(notes["a"], {"b": known})
    assert caught.value.code == "unknown_key"


def test_text_with_blank_lines_is_signed_whole() -> None:
    """The last blank line ends the text, so nothing before it can pass as a signature."""
    note = open_note(sign_note("one\n\ntwo\n", ORIGIN, KEY), KNOWN)
    assert note.text == "one\n\ntwo\n"


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(NOTE[:-1], id="no newline at the end"),
        pytest.param(NOTE + b"\n", id="blank line at the end"),
        pytest.param(b"\n\n" + NOTE.rpartition(b"\n\n")[2], id="no text"),
        pytest.param(NOTE.partition(b"\n\n")[0] + b"\n", id="no signature"),
        pytest.param(NOTE.replace(b"\n1\n", b"\n1\r\n"), id="carriage return"),
        pytest.param(NOTE.replace(b"\n1\n", b"\n\x001\n"), id="NUL"),
        pytest.param(NOTE.replace(b"\n1\n", b"\n1\t\n"), id="tab"),
        pytest.param(NOTE.replace(b"\n1\n", b"\n1\x7f\n"), id="delete"),
        pytest.param(NOTE.replace(b"\n1\n", b"\n\xff\n"), id="not UTF-8"),
        pytest.param(NOTE.replace(b"\n1\n", b"\n\xed\xa0\x80\n"), id="surrogate"),
        pytest.param(NOTE.replace("— ".encode(), b"- "), id="hyphen for a dash"),
        pytest.param(NOTE[:-2] + b" \n", id="no base64"),
        pytest.param(NOTE.replace("— ".encode(), "—  ".encode()), id="no name"),
        pytest.param(NOTE.rpartition(b" ")[0] + b" AAAAAA==\n", id="no bytes after the key id"),
        pytest.param(NOTE.rpartition(b" ")[0] + b" AAAAAAAB\n" + b"x" * MAX_NOTE, id="too large"),
    ],
)
def test_malformed_notes(data: bytes) -> None:
    """Every other spelling of a note is refused as malformed."""
    assert _code(data) == "bad_note"


@pytest.mark.parametrize(
    "text",
    [
        "",
        f"{ORIGIN}\n1\n",
        f"{ORIGIN}\n1\n{b64encode(ROOT).decode()}",
        f"{ORIGIN}\n01\n{b64encode(ROOT).decode()}\n",
        f"{ORIGIN}\n+1\n{b64encode(ROOT).decode()}\n",
        f"{ORIGIN}\n-1\n{b64encode(ROOT).decode()}\n",
        f"{ORIGIN}\n 1\n{b64encode(ROOT).decode()}\n",
        f"{ORIGIN}\n1_0\n{b64encode(ROOT).decode()}\n",
        f"{ORIGIN}\n\u0661\n{b64encode(ROOT).decode()}\n",
        f"{ORIGIN}\n{2**63}\n{b64encode(ROOT).decode()}\n",
        f"{ORIGIN}\n{'9' * 5000}\n{b64encode(ROOT).decode()}\n",
        f"{ORIGIN}\n0\n{b64encode(ROOT).decode()}\n",
        f"{ORIGIN}\n1\n{b64encode(ROOT).decode().rstrip('=')}\n",
        f"{ORIGIN}\n1\n{b64encode(ROOT).decode()[:-2]}B=\n",
        f"{ORIGIN}\n1\n{b64encode(ROOT[:31]).decode()}\n",
        f"{ORIGIN}\n1\n{b64encode(ROOT + ROOT).decode()}\n",
        f"{ORIGIN}\n1\n{b64encode(ROOT).decode()}\n\n",
        f"two words\n1\n{b64encode(ROOT).decode()}\n",
        f"\n1\n{b64encode(ROOT).decode()}\n",
    ],
)
def test_malformed_checkpoints(text: str) -> None:
    """Sizes and roots have one spelling and a range; origins have no spaces."""
    with pytest.raises(VerificationError) as caught:
        Checkpoint.from_text(text)
    assert caught.value.code == "bad_checkpoint"


def test_the_largest_and_the_empty_log() -> None:
    """The ends of the range are inside it."""
    for checkpoint in (Checkpoint(ORIGIN, MAX_SIZE, ROOT), Checkpoint(ORIGIN, 0, EMPTY_ROOT)):
        assert Checkpoint.from_text(checkpoint.to_text()) == checkpoint


@pytest.mark.parametrize("lines", [("",), ("a\nb",), ("a\x00",)])
def test_extension_lines_stay_lines(lines: tuple[str, ...]) -> None:
    """An extension cannot add a second line or end the text."""
    with pytest.raises(ValueError, match="an extension line"):
        Checkpoint(ORIGIN, 1, ROOT, extensions=lines)


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\nb", "a\u00a0b", "a\u2028b", "\ud800", "a" * 257])
def test_names_that_a_note_cannot_hold(name: str) -> None:
    """No signature is made under a name that would not be read back."""
    with pytest.raises(ValueError, match="log name"):
        sign_note("text\n", name, KEY)


@pytest.mark.parametrize("text", ["", "no newline", "a\rb\n", "a\x00\n"])
def test_text_that_a_note_cannot_hold(text: str) -> None:
    """No signature is made over text that would not be read back."""
    with pytest.raises(ValueError, match="has a control character"):
        sign_note(text, ORIGIN, KEY)


def test_a_note_that_nobody_would_read_is_not_written() -> None:
    """The bound on reading binds writing too."""
    with pytest.raises(ValueError, match="more than 65536"):
        sign_note("x" * MAX_NOTE + "\n", ORIGIN, KEY)


@pytest.mark.parametrize(
    "text",
    [
        "name",
        "name+00000000",
        "a b+00000000+AQ==",
        "name+00000000+AQ",
        "name+00000000+" + b64encode(b"\x04" + bytes(32)).decode(),
        "name+00000000+AQ==",
        "name+00000000+" + b64encode(b"\x01" + KEY.public_key.raw).decode(),
        vkey("name", KEY.public_key).replace("name+", "other+"),
        vkey("name", KEY.public_key).upper(),
    ],
)
def test_malformed_verifier_keys(text: str) -> None:
    """Other key types, other key ids and other spellings are refused."""
    with pytest.raises(ValueError, match=r" (is|are|has|have|does|covers) "):
        parse_vkey(text)


HEAD = "c2sp.org/tlog-proof@v1\n"
HASH = b64encode(ROOT).decode("ascii")


@pytest.mark.parametrize(
    "data",
    [
        pytest.param("", id="nothing"),
        pytest.param(HEAD + "index 0\n" + HASH, id="no blank line"),
        pytest.param("c2sp.org/tlog-proof@v2\nindex 0\n\nnote", id="version"),
        pytest.param(HEAD + "\nnote", id="no index"),
        pytest.param(HEAD + HASH + "\n\nnote", id="hash for an index"),
        pytest.param(HEAD + "index 01\n\nnote", id="leading zero"),
        pytest.param(HEAD + "index -1\n\nnote", id="sign"),
        pytest.param(HEAD + f"index {2**63 - 1}\n\nnote", id="too large an index"),
        pytest.param(HEAD + "extra !\nindex 0\n\nnote", id="extra not base64"),
        pytest.param(HEAD + "extra AA==\n\nnote", id="extra alone"),
        pytest.param(HEAD + "index 0\nextra AA==\n\nnote", id="extra late"),
        pytest.param(HEAD + "index 0\nAAAA\n\nnote", id="short hash"),
        pytest.param(HEAD + "index 0\n" + f"{HASH}\n" * 64 + "\nnote", id="too many hashes"),
        pytest.param(HEAD + "index 0\r\n\nnote", id="carriage return"),
        pytest.param(HEAD + "index \u0661\n\nnote", id="not ASCII"),
        pytest.param(HEAD + "index 0\n\n" + "x" * (MAX_NOTE + 1), id="too large a note"),
        pytest.param(HEAD + "index 0\n\n" + "x" * (2 * MAX_NOTE), id="too large"),
    ],
)
def test_malformed_proof_files(data: str) -> None:
    """Every other spelling of a proof file is refused."""
    with pytest.raises(VerificationError) as caught:
        parse_proof(data.encode("utf-8"))
    assert caught.value.code == "bad_proof"
