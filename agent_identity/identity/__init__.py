"""Principals and agents, their keys, trust stores, and the sources of time and identifiers."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent_identity.identity.approvers import Approver
    from agent_identity.identity.certificates import (
        Certificate,
        Presented,
        PrincipalKind,
        certified,
        trusted_certificate,
        unverified_certificate,
    )
    from agent_identity.identity.clock import Clock, SystemClock
    from agent_identity.identity.cosigners import Cosigner, check_note_name, note_key_id, split_vkey
    from agent_identity.identity.encoding import b64_decode, b64_encode, b64url_decode, b64url_encode
    from agent_identity.identity.ids import Ids, RandomIds, uuid7
    from agent_identity.identity.jwt_keys import JwtAlgorithm, JwtKey, JwtSigner, as_jwt_signer, jwk_thumbprint
    from agent_identity.identity.keys import PublicKey, Signer, SigningKey
    from agent_identity.identity.names import check_id
    from agent_identity.identity.principals import (
        Agent,
        Human,
        Principal,
        Provenance,
        Service,
        agent_from_claim,
        principal_from_claim,
    )
    from agent_identity.identity.private_files import (
        check_path,
        create_private_file,
        create_public_file,
        hide_from_git,
        is_there,
        put_in_place,
        read_private_file,
        read_public_file,
        replace_private_file,
        replace_public_file,
    )
    from agent_identity.identity.socket_signer import SocketSigner
    from agent_identity.identity.trust import (
        EntryPurpose,
        FileVersion,
        Purpose,
        SecondKey,
        Takeover,
        TrustedKey,
        Vouched,
        Witnesses,
        refuse_doubted,
    )
    from agent_identity.identity.trust_document import signed_trust
    from agent_identity.identity.trust_merge import TrustConflict, check_successor, merged, trust_conflicts
    from agent_identity.identity.trust_store import TrustStore
else:
    from agent_identity.lazy import lazily

    __getattr__, __dir__ = lazily(
        __name__,
        {
            ".approvers": ("Approver",),
            ".certificates": (
                "Certificate",
                "Presented",
                "PrincipalKind",
                "certified",
                "trusted_certificate",
                "unverified_certificate",
            ),
            ".clock": ("Clock", "SystemClock"),
            ".cosigners": ("Cosigner", "check_note_name", "note_key_id", "split_vkey"),
            ".encoding": ("b64_decode", "b64_encode", "b64url_decode", "b64url_encode"),
            ".ids": ("Ids", "RandomIds", "uuid7"),
            ".jwt_keys": (
                "JwtAlgorithm",
                "JwtKey",
                "JwtSigner",
                "as_jwt_signer",
                "jwk_thumbprint",
            ),
            ".keys": ("PublicKey", "Signer", "SigningKey"),
            ".names": ("check_id",),
            ".principals": (
                "Agent",
                "Human",
                "Principal",
                "Provenance",
                "Service",
                "agent_from_claim",
                "principal_from_claim",
            ),
            ".private_files": (
                "check_path",
                "create_private_file",
                "create_public_file",
                "hide_from_git",
                "is_there",
                "put_in_place",
                "read_private_file",
                "read_public_file",
                "replace_private_file",
                "replace_public_file",
            ),
            ".socket_signer": ("SocketSigner",),
            ".trust": (
                "EntryPurpose",
                "FileVersion",
                "Purpose",
                "SecondKey",
                "Takeover",
                "TrustedKey",
                "Vouched",
                "Witnesses",
                "refuse_doubted",
            ),
            ".trust_document": ("signed_trust",),
            ".trust_store": ("TrustStore",),
            ".trust_merge": ("TrustConflict", "check_successor", "merged", "trust_conflicts"),
        },
    )

__all__ = [
    "Agent",
    "Approver",
    "Certificate",
    "Clock",
    "Cosigner",
    "EntryPurpose",
    "FileVersion",
    "Human",
    "Ids",
    "JwtAlgorithm",
    "JwtKey",
    "JwtSigner",
    "Presented",
    "Principal",
    "PrincipalKind",
    "Provenance",
    "PublicKey",
    "Purpose",
    "RandomIds",
    "SecondKey",
    "Service",
    "Signer",
    "SigningKey",
    "SocketSigner",
    "SystemClock",
    "Takeover",
    "TrustConflict",
    "TrustStore",
    "TrustedKey",
    "Vouched",
    "Witnesses",
    "agent_from_claim",
    "as_jwt_signer",
    "b64_decode",
    "b64_encode",
    "b64url_decode",
    "b64url_encode",
    "certified",
    "check_id",
    "check_note_name",
    "check_path",
    "check_successor",
    "create_private_file",
    "create_public_file",
    "hide_from_git",
    "is_there",
    "jwk_thumbprint",
    "merged",
    "note_key_id",
    "principal_from_claim",
    "put_in_place",
    "read_private_file",
    "read_public_file",
    "refuse_doubted",
    "replace_private_file",
    "replace_public_file",
    "signed_trust",
    "split_vkey",
    "trust_conflicts",
    "trusted_certificate",
    "unverified_certificate",
    "uuid7",
]
