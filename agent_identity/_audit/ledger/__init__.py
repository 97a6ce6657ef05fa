"""Verification of a ledger: log, streams, calls, pruning, certificates, external evidence."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent_identity._audit.ledger.certificates_check import (
        certificate_in,
        certificates_of,
        conclude_clock,
        conclude_clock_of_spans,
        is_certified,
        sound_signers,
        with_certificates,
    )
    from agent_identity._audit.ledger.details_check import conclude_unseen_details, count_unseen_detail
    from agent_identity._audit.ledger.erasures import Erasures
    from agent_identity._audit.ledger.external_evidence import ExternalEvidence, Timestamps, check_witnessed
    from agent_identity._audit.ledger.index import HALF, LedgerIndex, Proofs, SpanRecord, ledger_index
    from agent_identity._audit.ledger.ledger_check import LEDGER_STEPS, LedgerCheck, Progress
    from agent_identity._audit.ledger.log_check import open_checkpoint
    from agent_identity._audit.ledger.record_check import CheckedRecord
    from agent_identity._audit.ledger.stream_check import Visit
else:
    from agent_identity._common.lazy import lazily

    __getattr__, __dir__ = lazily(
        __name__,
        {
            "agent_identity._audit.ledger.certificates_check": (
                "certificate_in",
                "certificates_of",
                "conclude_clock",
                "conclude_clock_of_spans",
                "is_certified",
                "sound_signers",
                "with_certificates",
            ),
            "agent_identity._audit.ledger.details_check": ("conclude_unseen_details", "count_unseen_detail"),
            "agent_identity._audit.ledger.erasures": ("Erasures",),
            "agent_identity._audit.ledger.external_evidence": ("ExternalEvidence", "Timestamps", "check_witnessed"),
            "agent_identity._audit.ledger.index": ("HALF", "LedgerIndex", "Proofs", "SpanRecord", "ledger_index"),
            "agent_identity._audit.ledger.ledger_check": ("LEDGER_STEPS", "LedgerCheck", "Progress"),
            "agent_identity._audit.ledger.log_check": ("open_checkpoint",),
            "agent_identity._audit.ledger.record_check": ("CheckedRecord",),
            "agent_identity._audit.ledger.stream_check": ("Visit",),
        },
    )

__all__ = [
    "HALF",
    "LEDGER_STEPS",
    "CheckedRecord",
    "Erasures",
    "ExternalEvidence",
    "LedgerCheck",
    "LedgerIndex",
    "Progress",
    "Proofs",
    "SpanRecord",
    "Timestamps",
    "Visit",
    "certificate_in",
    "certificates_of",
    "check_witnessed",
    "conclude_clock",
    "conclude_clock_of_spans",
    "conclude_unseen_details",
    "count_unseen_detail",
    "is_certified",
    "ledger_index",
    "open_checkpoint",
    "sound_signers",
    "with_certificates",
]
