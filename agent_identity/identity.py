"""Principals, agents and their registry, keys and trust."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent_identity._authority.registries.agents import AgentRegistry, Registration, appended
    from agent_identity._directory.agents_file import register_agents
    from agent_identity._identity.common.clock import Clock, SystemClock
    from agent_identity._identity.common.ids import RandomIds
    from agent_identity._identity.foreign.jwks import KeySet
    from agent_identity._identity.foreign.jwks_source import JwksSource
    from agent_identity._identity.foreign.spiffe import SpiffeBundle
    from agent_identity._identity.keys.keys import PublicKey, Signer, SigningKey
    from agent_identity._identity.principals.delegated_tokens import read_inbound
    from agent_identity._identity.principals.principals import Principal
    from agent_identity._identity.trust.approvers import Approver
    from agent_identity._identity.trust.certificates import Certificate, certified, trusted_certificate
    from agent_identity._identity.trust.document import signed_trust
    from agent_identity._identity.trust.entries import FileVersion, TrustedKey, Witnesses
    from agent_identity._identity.trust.merge import merged, trust_conflicts
    from agent_identity._identity.trust.socket_signer import SocketSigner
    from agent_identity._identity.trust.store import TrustStore
else:
    from agent_identity._common.lazy import lazily

    __getattr__, __dir__ = lazily(
        __name__,
        {
            "agent_identity._authority.registries.agents": ("AgentRegistry", "Registration", "appended"),
            "agent_identity._directory.agents_file": ("register_agents",),
            "agent_identity._identity.common.clock": ("Clock", "SystemClock"),
            "agent_identity._identity.common.ids": ("RandomIds",),
            "agent_identity._identity.foreign.jwks": ("KeySet",),
            "agent_identity._identity.foreign.jwks_source": ("JwksSource",),
            "agent_identity._identity.foreign.spiffe": ("SpiffeBundle",),
            "agent_identity._identity.keys.keys": ("PublicKey", "Signer", "SigningKey"),
            "agent_identity._identity.principals.delegated_tokens": ("read_inbound",),
            "agent_identity._identity.principals.principals": ("Principal",),
            "agent_identity._identity.trust.approvers": ("Approver",),
            "agent_identity._identity.trust.certificates": ("Certificate", "certified", "trusted_certificate"),
            "agent_identity._identity.trust.document": ("signed_trust",),
            "agent_identity._identity.trust.entries": ("FileVersion", "TrustedKey", "Witnesses"),
            "agent_identity._identity.trust.merge": ("merged", "trust_conflicts"),
            "agent_identity._identity.trust.socket_signer": ("SocketSigner",),
            "agent_identity._identity.trust.store": ("TrustStore",),
        },
    )

__all__ = [
    "AgentRegistry",
    "Approver",
    "Certificate",
    "Clock",
    "FileVersion",
    "JwksSource",
    "KeySet",
    "Principal",
    "PublicKey",
    "RandomIds",
    "Registration",
    "Signer",
    "SigningKey",
    "SocketSigner",
    "SpiffeBundle",
    "SystemClock",
    "TrustStore",
    "TrustedKey",
    "Witnesses",
    "appended",
    "certified",
    "merged",
    "read_inbound",
    "register_agents",
    "signed_trust",
    "trust_conflicts",
    "trusted_certificate",
]
