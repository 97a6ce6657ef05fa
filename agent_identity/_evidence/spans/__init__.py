"""Records on spans: envelopes, attributes, OTLP in and out, the export queue, pasted spans."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent_identity._evidence.spans.displayed_values import (
        is_hashed,
        is_internal,
        likeness,
        same_duration,
        same_time,
        status_of,
    )
    from agent_identity._evidence.spans.envelope import (
        ATTESTATION_ATTRIBUTES,
        PAYLOAD_TYPE,
        Attestation,
        pae,
        signed_attributes,
    )
    from agent_identity._evidence.spans.export_cursors import Aside, Cursor, Cursors, destinations
    from agent_identity._evidence.spans.export_queue import Copied, StreamCopies, Wanted
    from agent_identity._evidence.spans.otlp_encoding import (
        Encoding,
        ExportAnswer,
        as_bytes,
        encode_request,
        read_answer,
        said,
    )
    from agent_identity._evidence.spans.otlp_json import Document, Malformed, SpanData
    from agent_identity._evidence.spans.otlp_reader import documents, read_spans, spans_of
    from agent_identity._evidence.spans.pasted_spans import MAX_PASTED, PastedSpan, read_pasted
    from agent_identity._evidence.spans.span_attributes import (
        APPROVER_ATTRIBUTE,
        MIRRORED,
        deviations,
        error_of,
        mirrored_attributes,
        verdict_on,
    )
    from agent_identity._evidence.spans.span_from_record import (
        EXPORTED_KINDS,
        GRANT_ATTRIBUTE,
        SCHEMA_URL,
        SCOPE,
        Appearance,
        RecordSpan,
        appearance_of,
        span_ids,
    )
else:
    from agent_identity._common.lazy import lazily

    __getattr__, __dir__ = lazily(
        __name__,
        {
            "agent_identity._evidence.spans.displayed_values": (
                "is_hashed",
                "is_internal",
                "likeness",
                "same_duration",
                "same_time",
                "status_of",
            ),
            "agent_identity._evidence.spans.envelope": (
                "ATTESTATION_ATTRIBUTES",
                "PAYLOAD_TYPE",
                "Attestation",
                "pae",
                "signed_attributes",
            ),
            "agent_identity._evidence.spans.export_cursors": ("Aside", "Cursor", "Cursors", "destinations"),
            "agent_identity._evidence.spans.export_queue": ("Copied", "StreamCopies", "Wanted"),
            "agent_identity._evidence.spans.otlp_encoding": (
                "Encoding",
                "ExportAnswer",
                "as_bytes",
                "encode_request",
                "read_answer",
                "said",
            ),
            "agent_identity._evidence.spans.otlp_json": ("Document", "Malformed", "SpanData"),
            "agent_identity._evidence.spans.otlp_reader": ("documents", "read_spans", "spans_of"),
            "agent_identity._evidence.spans.pasted_spans": ("MAX_PASTED", "PastedSpan", "read_pasted"),
            "agent_identity._evidence.spans.span_attributes": (
                "APPROVER_ATTRIBUTE",
                "MIRRORED",
                "deviations",
                "error_of",
                "mirrored_attributes",
                "verdict_on",
            ),
            "agent_identity._evidence.spans.span_from_record": (
                "EXPORTED_KINDS",
                "GRANT_ATTRIBUTE",
                "SCHEMA_URL",
                "SCOPE",
                "Appearance",
                "RecordSpan",
                "appearance_of",
                "span_ids",
            ),
        },
    )

__all__ = [
    "APPROVER_ATTRIBUTE",
    "ATTESTATION_ATTRIBUTES",
    "EXPORTED_KINDS",
    "GRANT_ATTRIBUTE",
    "MAX_PASTED",
    "MIRRORED",
    "PAYLOAD_TYPE",
    "SCHEMA_URL",
    "SCOPE",
    "Appearance",
    "Aside",
    "Attestation",
    "Copied",
    "Cursor",
    "Cursors",
    "Document",
    "Encoding",
    "ExportAnswer",
    "Malformed",
    "PastedSpan",
    "RecordSpan",
    "SpanData",
    "StreamCopies",
    "Wanted",
    "appearance_of",
    "as_bytes",
    "destinations",
    "deviations",
    "documents",
    "encode_request",
    "error_of",
    "is_hashed",
    "is_internal",
    "likeness",
    "mirrored_attributes",
    "pae",
    "read_answer",
    "read_pasted",
    "read_spans",
    "said",
    "same_duration",
    "same_time",
    "signed_attributes",
    "span_ids",
    "spans_of",
    "status_of",
    "verdict_on",
]
