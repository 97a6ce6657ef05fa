"""Policy files in YAML, JSON and TOML, with the place of every value."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent_identity._policy.files.loader import PolicySource, read_policy
else:
    from agent_identity._common.lazy import lazily

    __getattr__, __dir__ = lazily(
        __name__,
        {
            "agent_identity._policy.files.loader": ("PolicySource", "read_policy"),
        },
    )

__all__ = [
    "PolicySource",
    "read_policy",
]
