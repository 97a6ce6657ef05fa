"""Principals, agents and their registry, keys and trust."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent_identity._authority.registries.agents import AgentRegistry, Registration, Status, appended
    from agent_identity._directory.agents_file import register_agents
    from agent_identity._identity.common.clock import Clock, SystemClock
    from agent_identity._identity.common.ids import Ids, RandomIds
    from agent_identity._identity.common.names import check_id
    from agent_identity._identity.foreign.id_tokens import RolesClaim
    from agent_identity._identity.foreign.jwks import KeySet, KeysOfIssuer
    from agent_identity._identity.foreign.jwks_source import JwksSource
    from agent_identity._identity.foreign.spiffe import SpiffeBundle
    from agent_identity._identity.keys.cosigners import Cosigner
    from agent_identity._identity.keys.jwt_keys import JwtAlgorithm, JwtKey, JwtSigner
    from agent_identity._identity.keys.keys import PublicKey, Signer, SigningKey
    from agent_identity._identity.principals.delegated_tokens import Inbound, InboundKind, read_inbound
    from agent_identity._identity.principals.principals import Agent, Human, Principal, Provenance, Service
    from agent_identity._identity.trust.approvers import Approver
    from agent_identity._identity.trust.certificates import (
        Certificate,
        Presented,
        certified,
        trusted_certificate,
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
    )
    from agent_identity._identity.trust.merge import TrustConflict, check_successor, merged, trust_conflicts
    from agent_identity._identity.trust.socket_signer import SocketSigner
    from agent_identity._identity.trust.store import TrustStore
else:
    from agent_identity._common.lazy import lazily

    __getattr__, __dir__ = lazily(
        __name__,
        {
            "agent_identity._authority.registries.agents": ("AgentRegistry", "Registration", "Status", "appended"),
            "agent_identity._directory.agents_file": ("register_agents",),
            "agent_identity._identity.common.clock": ("Clock", "SystemClock"),
            "agent_identity._identity.common.ids": ("Ids", "RandomIds"),
            "agent_identity._identity.common.names": ("check_id",),
            "agent_identity._identity.foreign.id_tokens": ("RolesClaim",),
            "agent_identity._identity.foreign.jwks": ("KeySet", "KeysOfIssuer"),
            "agent_identity._identity.foreign.jwks_source": ("JwksSource",),
            "agent_identity._identity.foreign.spiffe": ("SpiffeBundle",),
            "agent_identity._identity.keys.cosigners": ("Cosigner",),
            "agent_identity._identity.keys.jwt_keys": ("JwtAlgorithm", "JwtKey", "JwtSigner"),
            "agent_identity._identity.keys.keys": ("PublicKey", "Signer", "SigningKey"),
            "agent_identity._identity.principals.delegated_tokens": ("Inbound", "InboundKind", "read_inbound"),
            "agent_identity._identity.principals.principals": ("Agent", "Human", "Principal", "Provenance", "Service"),
            "agent_identity._identity.trust.approvers": ("Approver",),
            "agent_identity._identity.trust.certificates": (
                "Certificate",
                "Presented",
                "certified",
                "trusted_certificate",
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
            ),
            "agent_identity._identity.trust.merge": ("TrustConflict", "check_successor", "merged", "trust_conflicts"),
            "agent_identity._identity.trust.socket_signer": ("SocketSigner",),
            "agent_identity._identity.trust.store": ("TrustStore",),
        },
    )

__all__ = [
    "Agent",
    "AgentRegistry",
    "Approver",
    "Certificate",
    "Clock",
    "Cosigner",
    "EntryPurpose",
    "FileVersion",
    "Human",
    "Ids",
    "Inbound",
    "InboundKind",
    "JwksSource",
    "JwtAlgorithm",
    "JwtKey",
    "JwtSigner",
    "KeySet",
    "KeysOfIssuer",
    "Presented",
    "Principal",
    "Provenance",
    "PublicKey",
    "Purpose",
    "RandomIds",
    "Registration",
    "RolesClaim",
    "Service",
    "Signer",
    "SigningKey",
    "SocketSigner",
    "SpiffeBundle",
    "Status",
    "SystemClock",
    "Takeover",
    "TrustConflict",
    "TrustStore",
    "TrustedKey",
    "Vouched",
    "Witnesses",
    "appended",
    "certified",
    "check_id",
    "check_successor",
    "merged",
    "read_inbound",
    "register_agents",
    "signed_trust",
    "trust_conflicts",
    "trusted_certificate",
    "unverified_certificate",
]
