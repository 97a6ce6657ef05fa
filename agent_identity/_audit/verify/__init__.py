"""The entry points of verification, and the reconciliation of spans with their ledger."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent_identity._audit.verify.api import Verifier, check_shown, check_visited, check_visited_spans, verify
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
        },
    )

__all__ = [
    "Verifier",
    "check_shown",
    "check_visited",
    "check_visited_spans",
    "verify",
]
