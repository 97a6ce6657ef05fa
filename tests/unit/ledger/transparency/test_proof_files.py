"""Proof files: one spelling, bounded, and nothing in them that is not understood."""

import contextlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_identity._identity.common.record_bytes import encode_record
from agent_identity._ledger.transparency.checkpoint import LogProof
from agent_identity._ledger.transparency.merkle import (
    consistency_ranges,
    inclusion_ranges,
    leaf_hash,
    range_roots,
    root_of,
    verify_consistency,
    verify_inclusion,
)
from agent_identity._ledger.transparency.proof_files import MAX_PROOF_BYTES, GrowthProof, RecordProof, parse_proof_file
from agent_identity.errors import VerificationError

NOTE = b"log\n1\nroot\n\nsignature\n"
RECORD = encode_record({"id": "r", "kind": "k"})
ENTRY = encode_record({"size": "1"})
HASH = b"h" * 32
PROOF = RecordProof.of(RECORD, (HASH,), ENTRY, LogProof(3, (HASH, HASH), NOTE))
GROWTH = GrowthProof(7, (HASH, HASH), NOTE)

sizes = st.integers(min_value=1, max_value=300)


@given(sizes, st.data())
def test_a_proof_taken_in_one_pass_verifies(size: int, data: st.DataObject) -> None:
    """From leaves that are read once, as a file is, for every place of every tree."""
    index = data.draw(st.integers(0, size - 1))
    leaves = [leaf_hash(b"%d" % number) for number in range(size)]
    hashes = range_roots(iter(leaves), inclusion_ranges(index, size))
    verify_inclusion(leaves[index], hashes, index=index, size=size, root=root_of(leaves))
    old = data.draw(st.integers(1, size))
    grown = range_roots(iter([*leaves, HASH]), consistency_ranges(old, size))  # What follows does not matter.
    verify_consistency(grown, old_size=old, old_root=root_of(leaves[:old]), new_size=size, new_root=root_of(leaves))


def test_a_proof_reads_no_leaf_behind_its_last_range() -> None:
    """The first of two leaves needs the second, and of a longer file nothing else but the line that ends it."""
    leaves = iter([HASH] * 10)
    assert range_roots(leaves, inclusion_ranges(0, 2)) == (HASH,)
    assert len(list(leaves)) == 7


def test_what_was_written_is_read_again() -> None:
    """Both kinds of proof, whichever it is."""
    assert parse_proof_file(PROOF.to_bytes()) == PROOF
    assert parse_proof_file(GROWTH.to_bytes()) == GROWTH
    assert parse_proof_file(GrowthProof(0, (), NOTE).to_bytes()) == GrowthProof(0, (), NOTE)
    assert GROWTH.to_bytes().startswith(b"old 7\naGhoaGhoaGhoaGhoaGhoaGhoaGhoaGhoaGhoaGhoaGg=\n")
    assert PROOF.log.extra is not None


def extra(change: Callable[[dict], object]) -> bytes:
    """Return the file with other extra data."""
    fields = {"entry": {"a": "b"}, "hashes": ["0" * 43], "record": {"a": "b"}, "v": "1"}
    change(fields)
    return RecordProof(b"", (), b"", LogProof(0, (), NOTE, encode_record(fields))).to_bytes()


LONG = "AAAA" * 64
MALFORMED: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "a blank line and a checkpoint"),
    "garbage": (b"\xff\0" * 99, "malformed"),
    "no extra": (RecordProof(b"", (), b"", LogProof(0, (), NOTE)).to_bytes(), "extra data is missing"),
    "no record": (RecordProof(b"", (), b"", LogProof(0, (), NOTE, b"x")).to_bytes(), "not JSON"),
    "a member more": (extra(lambda e: e.update(more="x")), "the members of the extra data"),
    "a member less": (extra(lambda e: e.pop("hashes")), "the members of the extra data"),
    "another version": (extra(lambda e: e.update(v="2")), "the members of the extra data"),
    "a record that is text": (extra(lambda e: e.update(record="x")), "are not objects"),
    "an entry that is text": (extra(lambda e: e.update(entry="x")), "are not objects"),
    "hashes that are text": (extra(lambda e: e.update(hashes="x")), "are not objects"),
    "a hash that is none": (extra(lambda e: e.update(hashes=["x"])), "63 hashes, or one in another form"),
    "a hash that is an object": (extra(lambda e: e.update(hashes=[{}])), "63 hashes, or one in another form"),
    "64 hashes": (extra(lambda e: e.update(hashes=["0" * 43] * 64)), "63 hashes, or one in another form"),
    "another spelling": (
        RecordProof(b"", (), b"", LogProof(0, (), NOTE, b'{"v": "1"}')).to_bytes(),
        "not in canonical form",
    ),
    "too large": (b"c2sp.org/tlog-proof@v1\n" + b"x" * MAX_PROOF_BYTES, "more than 2097152"),
    "growth without a note": (b"old 1\n", "a blank line and a checkpoint"),
    "growth from no number": (b"old x\n\n" + NOTE, "a blank line and a checkpoint"),
    "growth from 01": (b"old 01\n\n" + NOTE, "a blank line and a checkpoint"),
    "growth from too far": (b"old 9223372036854775808\n\n" + NOTE, "a blank line and a checkpoint"),
    "growth with a huge note": (b"old 1\n\n" + b"x" * 65_537, "a blank line and a checkpoint"),
    "growth by 64 hashes": (b"old 1\n" + b"x\n" * 64 + b"\n" + NOTE, "more than 63 hashes"),
    "growth by a short hash": (b"old 1\nAAAA\n\n" + NOTE, "in canonical base64"),
    "growth by no base64": (b"old 1\n!\n\n" + NOTE, "in canonical base64"),
    "growth by base64 in another spelling": (
        b"old 1\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAB=\n\n" + NOTE,
        "in canonical base64",
    ),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_what_is_no_proof_is_refused(name: str) -> None:
    """Nothing is guessed, and the message says what was expected."""
    data, message = MALFORMED[name]
    with pytest.raises(VerificationError, match=message) as caught:
        parse_proof_file(data)
    assert caught.value.code == "bad_proof"
    assert len(str(caught.value)) < 200


def test_the_largest_bounds_are_inside() -> None:
    """63 hashes and a size of 2^63 - 1 are read."""
    proof = GrowthProof(2**63 - 1, (HASH,) * 63, NOTE)
    assert GrowthProof.from_bytes(proof.to_bytes()) == proof


@given(st.integers(0, len(PROOF.to_bytes()) - 1), st.integers(1, 255))
def test_no_byte_of_a_proof_can_be_changed_into_the_same_proof(place: int, bits: int) -> None:
    """Every accepted file has one meaning: other bytes are refused or say something else."""
    data = bytearray(PROOF.to_bytes())
    data[place] ^= bits
    with contextlib.suppress(VerificationError):
        parsed = parse_proof_file(bytes(data))
        assert parsed != PROOF
        assert parsed.to_bytes() == bytes(data)


def test_a_record_that_is_not_canonical_makes_no_proof() -> None:
    """Whoever reads it would get other bytes."""
    with pytest.raises(ValueError, match="not in canonical form"):
        RecordProof.of(b'{"a": "b"}', (), ENTRY, LogProof(0, (), NOTE))
