"""Records, the ledger that stores them, and the proofs that the ledger was not changed."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent_identity.evidence.checkpoint import Checkpoint, open_note
    from agent_identity.evidence.digests import DigestKeys
    from agent_identity.evidence.envelope import Attestation, sign_record, signed_attributes
    from agent_identity.evidence.files import Files
    from agent_identity.evidence.layout import Layout, is_stream_id
    from agent_identity.evidence.ledger import Ledger
    from agent_identity.evidence.log import Head
    from agent_identity.evidence.merkle import CompactRange, leaf_hash
    from agent_identity.evidence.mirror import FieldCheck, compare, mirrored_attributes
    from agent_identity.evidence.otlp import Malformed, SpanData
    from agent_identity.evidence.pseudonyms import Pseudonyms
    from agent_identity.evidence.records import KINDS, OUTCOMES
    from agent_identity.evidence.sealing import OnRecord
    from agent_identity.evidence.segments import Segment, Segments
    from agent_identity.evidence.span_copy import SpanCopy, appearance_of, copy_of, error_of, span_ids
    from agent_identity.evidence.stream_writer import Entry
    from agent_identity.evidence.streams import LedgerReader, RawLine, open_ledger
    from agent_identity.evidence.traces import read_spans
else:
    from agent_identity.lazy import lazily

    __getattr__, __dir__ = lazily(
        __name__,
        {
            ".checkpoint": ("Checkpoint", "open_note"),
            ".digests": ("DigestKeys",),
            ".envelope": ("Attestation", "sign_record", "signed_attributes"),
            ".files": ("Files",),
            ".layout": ("Layout", "is_stream_id"),
            ".ledger": ("Ledger",),
            ".log": ("Head",),
            ".merkle": ("CompactRange", "leaf_hash"),
            ".mirror": ("FieldCheck", "compare", "mirrored_attributes"),
            ".otlp": ("Malformed", "SpanData"),
            ".pseudonyms": ("Pseudonyms",),
            ".records": ("KINDS", "OUTCOMES"),
            ".sealing": ("OnRecord",),
            ".segments": ("Segment", "Segments"),
            ".span_copy": ("SpanCopy", "appearance_of", "copy_of", "error_of", "span_ids"),
            ".stream_writer": ("Entry",),
            ".streams": ("LedgerReader", "RawLine", "open_ledger"),
            ".traces": ("read_spans",),
        },
    )

__all__ = [
    "KINDS",
    "OUTCOMES",
    "Attestation",
    "Checkpoint",
    "CompactRange",
    "DigestKeys",
    "Entry",
    "FieldCheck",
    "Files",
    "Head",
    "Layout",
    "Ledger",
    "LedgerReader",
    "Malformed",
    "OnRecord",
    "Pseudonyms",
    "RawLine",
    "Segment",
    "Segments",
    "SpanCopy",
    "SpanData",
    "appearance_of",
    "compare",
    "copy_of",
    "error_of",
    "is_stream_id",
    "leaf_hash",
    "mirrored_attributes",
    "open_ledger",
    "open_note",
    "read_spans",
    "sign_record",
    "signed_attributes",
    "span_ids",
]
