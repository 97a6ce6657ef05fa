"""The transparency log: Merkle tree, checkpoints, cosignatures, witnesses, proof files."""
