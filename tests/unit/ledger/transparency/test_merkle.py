"""The Merkle tree: published vectors, and proofs that hold for the true tree and for no other."""

import json
from base64 import b64decode
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_identity._ledger.transparency.merkle import (
    EMPTY_ROOT,
    CompactRange,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    node_hash,
    root_of,
    verify_consistency,
    verify_inclusion,
)
from agent_identity.errors import VerificationError

LEAVES = [leaf_hash(b"%d" % number) for number in range(200)]
SIZES = st.integers(1, len(LEAVES))


def _split_root(leaves: list[bytes]) -> bytes:
    """The definition of RFC 6962 §2.1, word for word."""
    if not leaves:
        return EMPTY_ROOT
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return node_hash(_split_root(leaves[:split]), _split_root(leaves[split:]))


def _bytes(text: str | None) -> bytes:
    return b64decode(text or "")


def _verify(case: dict[str, Any]) -> None:
    proof = [_bytes(part) for part in case["proof"] or []]
    if "leafIdx" in case:
        verify_inclusion(
            _bytes(case["leafHash"]), proof, index=case["leafIdx"], size=case["treeSize"], root=_bytes(case["root"])
        )
    else:
        verify_consistency(
            proof,
            old_size=case["size1"],
            old_root=_bytes(case["root1"]),
            new_size=case["size2"],
            new_root=_bytes(case["root2"]),
        )


def test_published_vectors(shared_vectors: Path) -> None:
    """All 196 vectors of transparency-dev/merkle get the verdict that they demand."""
    disagreeing: list[str] = []
    files = sorted((shared_vectors / "merkle").rglob("*.json"))
    for file in files:
        case = json.loads(file.read_text("utf-8"))
        try:
            _verify(case)
            failed = False
        except VerificationError:
            failed = True
        if failed != case["wantErr"]:
            disagreeing.append(str(file))
    assert len(files) == 196
    assert disagreeing == []


def test_known_hashes() -> None:
    """Leaf and empty root are those of the RFC 6962 reference implementation."""
    assert EMPTY_ROOT.hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert leaf_hash(b"").hex() == "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
    assert node_hash(leaf_hash(b""), leaf_hash(b"\x00")).hex() == (
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"
    )


def test_leaf_and_node_are_told_apart() -> None:
    """An entry that looks like two hashes does not hash like the node above them."""
    left, right = LEAVES[:2]
    assert leaf_hash(left + right) != node_hash(left, right)


@given(st.integers(0, len(LEAVES)))
def test_root_is_that_of_the_definition(size: int) -> None:
    """The compact tree has the root that the recursive definition gives."""
    assert root_of(LEAVES[:size]) == _split_root(LEAVES[:size])


@given(st.integers(0, len(LEAVES)))
def test_compact_range_keeps_logarithmically_many_hashes(size: int) -> None:
    """Memory grows with the number of levels, not of leaves."""
    tree = CompactRange(LEAVES[:size])
    assert tree.size == size
    assert len(tree._peaks) == size.bit_count() <= size.bit_length()


@given(st.integers(0, 100), st.integers(0, 99))
def test_a_copy_grows_alone(size: int, more: int) -> None:
    """Appending to a copy leaves the original as it was, and the other way round."""
    tree = CompactRange(LEAVES[:size])
    twin = tree.copy()
    for leaf in LEAVES[size : size + more]:
        twin.append(leaf)
    assert (tree.size, tree.root()) == (size, root_of(LEAVES[:size]))
    assert (twin.size, twin.root()) == (size + more, root_of(LEAVES[: size + more]))
    tree.append(LEAVES[-1])
    assert twin.root() == root_of(LEAVES[: size + more])


def test_append_takes_hashes_only() -> None:
    """An entry instead of its hash is refused and does not change the tree."""
    tree = CompactRange(LEAVES[:3])
    with pytest.raises(ValueError, match="5 bytes instead of 32"):
        tree.append(b"entry")
    with pytest.raises(ValueError, match="not 32 bytes long"):
        tree.extend([LEAVES[3], b"entry"])
    assert (tree.size, tree.root()) == (3, root_of(LEAVES[:3]))


@given(SIZES, st.data())
def test_inclusion_proofs_verify_and_only_where_they_belong(size: int, data: st.DataObject) -> None:
    """A proof fits its leaf, index, size and root; any other leaf or index fails."""
    index = data.draw(st.integers(0, size - 1))
    leaves = LEAVES[:size]
    root = root_of(leaves)
    proof = inclusion_proof(leaves, index)
    verify_inclusion(leaves[index], proof, index=index, size=size, root=root)
    other = data.draw(st.integers(0, size - 1))
    if other != index:
        with pytest.raises(VerificationError):
            verify_inclusion(leaves[other], proof, index=index, size=size, root=root)
        with pytest.raises(VerificationError):
            verify_inclusion(leaves[index], proof, index=other, size=size, root=root)


@given(SIZES, SIZES, st.data())
def test_a_changed_inclusion_proof_fails(size: int, start: int, data: st.DataObject) -> None:
    """Every single bit of leaf, proof and root matters, and so does the number of hashes."""
    index = start % size
    parts = [LEAVES[index], *inclusion_proof(LEAVES[:size], index), root_of(LEAVES[:size])]
    place = data.draw(st.integers(0, len(parts) - 1))
    bit = data.draw(st.integers(0, 255))
    changed = parts.copy()
    changed[place] = (int.from_bytes(parts[place], "big") ^ (1 << bit)).to_bytes(32, "big")
    with pytest.raises(VerificationError) as caught:
        verify_inclusion(changed[0], changed[1:-1], index=index, size=size, root=changed[-1])
    assert caught.value.code == "bad_inclusion_proof"
    with pytest.raises(VerificationError, match="hashes instead of"):
        verify_inclusion(parts[0], [*parts[1:-1], LEAVES[0]], index=index, size=size, root=parts[-1])


@given(SIZES, SIZES)
def test_consistency_proofs_verify(one: int, two: int) -> None:
    """The proof between any two sizes of one log holds."""
    old, new = sorted((one, two))
    proof = consistency_proof(LEAVES[:new], old)
    verify_consistency(
        proof, old_size=old, old_root=root_of(LEAVES[:old]), new_size=new, new_root=root_of(LEAVES[:new])
    )


@given(SIZES, SIZES, st.data())
def test_a_rewritten_log_is_not_consistent(one: int, two: int, data: st.DataObject) -> None:
    """Whatever old entry is changed, no honest proof of the new log fits the old root."""
    old, new = sorted((one, two))
    leaves = LEAVES[:new]
    leaves[data.draw(st.integers(0, old - 1))] = leaf_hash(b"forged")
    proof = consistency_proof(leaves, old)
    with pytest.raises(VerificationError) as caught:
        verify_consistency(proof, old_size=old, old_root=root_of(LEAVES[:old]), new_size=new, new_root=root_of(leaves))
    assert caught.value.code == "bad_consistency_proof"


@given(SIZES, SIZES, st.data())
def test_a_changed_consistency_proof_fails(one: int, two: int, data: st.DataObject) -> None:
    """Every bit and every hash of the proof matters."""
    old, new = sorted((one, two))
    proof = list(consistency_proof(LEAVES[:new], old))
    roots = {"old_root": root_of(LEAVES[:old]), "new_root": root_of(LEAVES[:new])}
    with pytest.raises(VerificationError):
        verify_consistency([*proof, LEAVES[0]], old_size=old, new_size=new, **roots)
    if proof:
        place = data.draw(st.integers(0, len(proof) - 1))
        with pytest.raises(VerificationError):
            verify_consistency(proof[:place] + proof[place + 1 :], old_size=old, new_size=new, **roots)
        proof[place] = bytes([proof[place][0] ^ 1]) + proof[place][1:]
        with pytest.raises(VerificationError):
            verify_consistency(proof, old_size=old, new_size=new, **roots)


def test_every_prefix_is_consistent_step_by_step() -> None:
    """Growing one by one, each tree continues the one before it."""
    for old, new in pairwise(range(1, 40)):
        verify_consistency(
            consistency_proof(LEAVES[:new], old),
            old_size=old,
            old_root=root_of(LEAVES[:old]),
            new_size=new,
            new_root=root_of(LEAVES[:new]),
        )


@pytest.mark.parametrize("size", [0, -1, 6])
def test_impossible_places_are_refused(size: int) -> None:
    """Proofs about nothing, and beyond the tree, are neither made nor accepted."""
    leaves = LEAVES[:5]
    with pytest.raises(ValueError, match="not from 1 to the tree size"):
        consistency_proof(leaves, size)
    with pytest.raises(VerificationError):
        verify_consistency([], old_size=size, old_root=EMPTY_ROOT, new_size=5, new_root=root_of(leaves))
    index = size or 5
    with pytest.raises(ValueError, match="outside the tree of size 5"):
        inclusion_proof(leaves, index)
    with pytest.raises(VerificationError):
        verify_inclusion(LEAVES[0], [], index=index, size=5, root=root_of(leaves))


def test_hashes_of_another_length_are_refused() -> None:
    """A proof cannot smuggle entry bytes in as hashes."""
    with pytest.raises(VerificationError, match="32 bytes"):
        verify_inclusion(b"leaf", [], index=0, size=1, root=b"leaf")
    with pytest.raises(VerificationError, match="32 bytes"):
        verify_consistency([b"x"], old_size=1, old_root=LEAVES[0], new_size=2, new_root=root_of(LEAVES[:2]))


def test_huge_sizes_cost_nothing() -> None:
    """The length of a proof is checked before any work, whatever size it claims."""
    with pytest.raises(VerificationError, match="hashes instead of"):
        verify_inclusion(LEAVES[0], [], index=10**4000, size=10**4001, root=EMPTY_ROOT)
    with pytest.raises(VerificationError, match="hashes instead of"):
        verify_consistency([], old_size=10**4000, old_root=EMPTY_ROOT, new_size=10**4001, new_root=EMPTY_ROOT)
