"""The entry points of verification, and the reconciliation of spans with their ledger."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent_identity._audit.verify.api import Verifier, check_shown, check_visited, check_visited_spans, verify
    from agent_identity._audit.verify.doubted import Doubted, find_doubted
else:
    from agent_identity._common.lazy import lazily

    __getattr__, __dir__ = lazily(
        __name__,
        {
            "agent_identity._audit.verify.api": (
                "Verifier",
                "check_shown",
                "check_visited",
                "check_visited_spans",
                "verify",
            ),
            "agent_identity._audit.verify.doubted": ("Doubted", "find_doubted"),
        },
    )

__all__ = [
    "Doubted",
    "Verifier",
    "check_shown",
    "check_visited",
    "check_visited_spans",
    "find_doubted",
    "verify",
]
