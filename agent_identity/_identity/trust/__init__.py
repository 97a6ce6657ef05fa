"""The trust store: entries, file format, signatures, merging, certificates of recorders, remote signers."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent_identity._identity.trust.approvers import Approver
    from agent_identity._identity.trust.certificates import (
        MAX_CERTIFICATE,
        Presented,
        certified,
        unverified_certificate,
    )
    from agent_identity._identity.trust.document import signed_trust
    from agent_identity._identity.trust.entries import (
        EntryPurpose,
        FileVersion,
        Purpose,
        Takeover,
        TrustedKey,
        Vouched,
        Witnesses,
        refuse_doubted,
    )
    from agent_identity._identity.trust.socket_signer import (
        DONE,
        MAX_FRAME,
        NAMES,
        REFUSED,
        WANT_KEY,
        WANT_SIGNATURE,
        WANT_SUCCESSORS,
        WANT_TRUST,
        SocketSigner,
        receive_frame,
        send_frame,
    )
    from agent_identity._identity.trust.store import TrustStore
    from agent_identity._identity.trust.successors import MAX_SUCCESSOR, check_root, followed, signed_successor
else:
    from agent_identity._common.lazy import lazily

    __getattr__, __dir__ = lazily(
        __name__,
        {
            "agent_identity._identity.trust.approvers": ("Approver",),
            "agent_identity._identity.trust.certificates": (
                "MAX_CERTIFICATE",
                "Presented",
                "certified",
                "unverified_certificate",
            ),
            "agent_identity._identity.trust.document": ("signed_trust",),
            "agent_identity._identity.trust.entries": (
                "EntryPurpose",
                "FileVersion",
                "Purpose",
                "Takeover",
                "TrustedKey",
                "Vouched",
                "Witnesses",
                "refuse_doubted",
            ),
            "agent_identity._identity.trust.socket_signer": (
                "DONE",
                "MAX_FRAME",
                "NAMES",
                "REFUSED",
                "WANT_KEY",
                "WANT_SIGNATURE",
                "WANT_SUCCESSORS",
                "WANT_TRUST",
                "SocketSigner",
                "receive_frame",
                "send_frame",
            ),
            "agent_identity._identity.trust.store": ("TrustStore",),
            "agent_identity._identity.trust.successors": (
                "MAX_SUCCESSOR",
                "check_root",
                "followed",
                "signed_successor",
            ),
        },
    )

__all__ = [
    "DONE",
    "MAX_CERTIFICATE",
    "MAX_FRAME",
    "MAX_SUCCESSOR",
    "NAMES",
    "REFUSED",
    "WANT_KEY",
    "WANT_SIGNATURE",
    "WANT_SUCCESSORS",
    "WANT_TRUST",
    "Approver",
    "EntryPurpose",
    "FileVersion",
    "Presented",
    "Purpose",
    "SocketSigner",
    "Takeover",
    "TrustStore",
    "TrustedKey",
    "Vouched",
    "Witnesses",
    "certified",
    "check_root",
    "followed",
    "receive_frame",
    "refuse_doubted",
    "send_frame",
    "signed_successor",
    "signed_trust",
    "unverified_certificate",
]
