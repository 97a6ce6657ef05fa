"""The transparency log: Merkle tree, checkpoints, cosignatures, witnesses, proof files."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent_identity._evidence.transparency.bootstrap import check_origin, found, log_was_removed, stream_names
    from agent_identity._evidence.transparency.checkpoint import (
        MAX_NOTE,
        Checkpoint,
        KnownKeys,
        LogProof,
        Note,
        open_note,
        parse_vkey,
        sign_note,
    )
    from agent_identity._evidence.transparency.log import (
        DirectoryLog,
        Head,
        loss_entry,
        read_checkpoint,
        unverified_checkpoint,
    )
    from agent_identity._evidence.transparency.merkle import (
        CompactRange,
        consistency_ranges,
        inclusion_ranges,
        leaf_hash,
        range_roots,
        verify_consistency,
        verify_inclusion,
    )
    from agent_identity._evidence.transparency.proof_files import (
        MAX_PROOF_BYTES,
        GrowthProof,
        RecordProof,
        parse_proof_file,
    )
    from agent_identity._evidence.transparency.publisher import Publish, Publisher
    from agent_identity._evidence.transparency.witness import MAX_REQUEST, Answer, Witness, WitnessState
    from agent_identity._evidence.transparency.witness_client import WitnessClient, cosigned_file
else:
    from agent_identity._common.lazy import lazily

    __getattr__, __dir__ = lazily(
        __name__,
        {
            "agent_identity._evidence.transparency.bootstrap": (
                "check_origin",
                "found",
                "log_was_removed",
                "stream_names",
            ),
            "agent_identity._evidence.transparency.checkpoint": (
                "MAX_NOTE",
                "Checkpoint",
                "KnownKeys",
                "LogProof",
                "Note",
                "open_note",
                "parse_vkey",
                "sign_note",
            ),
            "agent_identity._evidence.transparency.log": (
                "DirectoryLog",
                "Head",
                "loss_entry",
                "read_checkpoint",
                "unverified_checkpoint",
            ),
            "agent_identity._evidence.transparency.merkle": (
                "CompactRange",
                "consistency_ranges",
                "inclusion_ranges",
                "leaf_hash",
                "range_roots",
                "verify_consistency",
                "verify_inclusion",
            ),
            "agent_identity._evidence.transparency.proof_files": (
                "MAX_PROOF_BYTES",
                "GrowthProof",
                "RecordProof",
                "parse_proof_file",
            ),
            "agent_identity._evidence.transparency.publisher": ("Publish", "Publisher"),
            "agent_identity._evidence.transparency.witness": ("MAX_REQUEST", "Answer", "Witness", "WitnessState"),
            "agent_identity._evidence.transparency.witness_client": ("WitnessClient", "cosigned_file"),
        },
    )

__all__ = [
    "MAX_NOTE",
    "MAX_PROOF_BYTES",
    "MAX_REQUEST",
    "Answer",
    "Checkpoint",
    "CompactRange",
    "DirectoryLog",
    "GrowthProof",
    "Head",
    "KnownKeys",
    "LogProof",
    "Note",
    "Publish",
    "Publisher",
    "RecordProof",
    "Witness",
    "WitnessClient",
    "WitnessState",
    "check_origin",
    "consistency_ranges",
    "cosigned_file",
    "found",
    "inclusion_ranges",
    "leaf_hash",
    "log_was_removed",
    "loss_entry",
    "open_note",
    "parse_proof_file",
    "parse_vkey",
    "range_roots",
    "read_checkpoint",
    "sign_note",
    "stream_names",
    "unverified_checkpoint",
    "verify_consistency",
    "verify_inclusion",
]
