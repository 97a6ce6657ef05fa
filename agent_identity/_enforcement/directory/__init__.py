"""An evidence directory: opening it, keys and their rotation, signers, publication, erasure."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent_identity._enforcement.directory.agents_file import register, register_agents, registry_path
    from agent_identity._enforcement.directory.erasure import Erased, ErasedKind, erase
    from agent_identity._enforcement.directory.open import (
        Directory,
        check_keys,
        connect,
        hides_from_git,
        keys_for,
        open_directory,
        prepare,
        pseudonyms_of,
        refuse_clash,
        take_trust,
    )
    from agent_identity._enforcement.directory.options import MOVED, Durability, Privacy, Telemetry, Transparency
    from agent_identity._enforcement.directory.publication import publishers_for
    from agent_identity._enforcement.directory.rotation import Rotated, record_rotation, revoke, rotate
    from agent_identity._enforcement.directory.signer_service import SignerKeys, SignerService
else:
    from agent_identity._common.lazy import lazily

    __getattr__, __dir__ = lazily(
        __name__,
        {
            "agent_identity._enforcement.directory.agents_file": ("register", "register_agents", "registry_path"),
            "agent_identity._enforcement.directory.erasure": ("Erased", "ErasedKind", "erase"),
            "agent_identity._enforcement.directory.open": (
                "Directory",
                "check_keys",
                "connect",
                "hides_from_git",
                "keys_for",
                "open_directory",
                "prepare",
                "pseudonyms_of",
                "refuse_clash",
                "take_trust",
            ),
            "agent_identity._enforcement.directory.options": (
                "MOVED",
                "Durability",
                "Privacy",
                "Telemetry",
                "Transparency",
            ),
            "agent_identity._enforcement.directory.publication": ("publishers_for",),
            "agent_identity._enforcement.directory.rotation": ("Rotated", "record_rotation", "revoke", "rotate"),
            "agent_identity._enforcement.directory.signer_service": ("SignerKeys", "SignerService"),
        },
    )

__all__ = [
    "MOVED",
    "Directory",
    "Durability",
    "Erased",
    "ErasedKind",
    "Privacy",
    "Rotated",
    "SignerKeys",
    "SignerService",
    "Telemetry",
    "Transparency",
    "check_keys",
    "connect",
    "erase",
    "hides_from_git",
    "keys_for",
    "open_directory",
    "prepare",
    "pseudonyms_of",
    "publishers_for",
    "record_rotation",
    "refuse_clash",
    "register",
    "register_agents",
    "registry_path",
    "revoke",
    "rotate",
    "take_trust",
]
