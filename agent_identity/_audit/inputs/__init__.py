"""Inputs of a verification: sources, trust, and accepted record versions."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent_identity._audit.inputs.sources import (
        STANDARD_INPUT,
        PathLike,
        Source,
        directory_of,
        is_bundle,
        opened,
        size_of_files,
        size_of_ledger,
        whole,
    )
    from agent_identity._audit.inputs.trust_argument import Trust, to_trust
    from agent_identity._audit.inputs.versions import malformed
else:
    from agent_identity._common.lazy import lazily

    __getattr__, __dir__ = lazily(
        __name__,
        {
            "agent_identity._audit.inputs.sources": (
                "STANDARD_INPUT",
                "PathLike",
                "Source",
                "directory_of",
                "is_bundle",
                "opened",
                "size_of_files",
                "size_of_ledger",
                "whole",
            ),
            "agent_identity._audit.inputs.trust_argument": ("Trust", "to_trust"),
            "agent_identity._audit.inputs.versions": ("malformed",),
        },
    )

__all__ = [
    "STANDARD_INPUT",
    "PathLike",
    "Source",
    "Trust",
    "directory_of",
    "is_bundle",
    "malformed",
    "opened",
    "size_of_files",
    "size_of_ledger",
    "to_trust",
    "whole",
]
