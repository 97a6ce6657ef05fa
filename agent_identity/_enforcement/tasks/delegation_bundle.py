"""Authority on its way to a child process: a chain of grants and the key of its holder, for its eyes only."""

import os
from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Final, Self, final

from agent_identity._common.narrowing import optional_text_of, text_of
from agent_identity._enforcement.common import folded_purpose
from agent_identity._identity.common import b64url_decode, b64url_encode
from agent_identity.canonical import JSON, decode, encode
from agent_identity.errors import TokenError

__all__ = ["ENVIRONMENT", "DelegationBundle"]

ENVIRONMENT: Final = "AGENT_IDENTITY_CARRIED"
"""The name of the environment entry."""

_VERSION: Final = "1"
_REQUIRED: Final = frozenset({"purpose", "seed", "tokens", "v"})
_KNOWN: Final = _REQUIRED | {"traceparent"}
_LONGEST: Final = 512 * 1024
_LONGEST_ENTRY: Final = 100_000  # Linux takes 128 KiB for one entry.
_LONGEST_TRACE: Final = 512


@final
@dataclass(frozen=True, slots=True, repr=False)
class DelegationBundle:
    """A part of a task's authority that a child process takes up with :meth:`Enforcer.resume`.

    Received from :meth:`Enforcer.carry`. Whoever has it can act under the grant until it expires or the task
    ends, so it goes to the child alone: as an argument of ``multiprocessing`` and process pools, which pickle
    it, in the environment, or through standard input. Never on a command line, which every user can read.

    Attributes:
        tokens: The signed grants, root first.
        seed: The private key of the leaf's holder, 32 bytes (RFC 8032 §5.1.5).
        purpose: What the task is for.
        traceparent: The trace that it is a part of, for correlation only.
    """

    tokens: tuple[str, ...]
    seed: bytes
    purpose: str
    traceparent: str | None = None

    def __repr__(self) -> str:
        return "DelegationBundle(…)"

    def to_text(self) -> str:
        """Return one line of ASCII, for standard input of a child."""
        claims: dict[str, JSON] = {
            "purpose": self.purpose,
            "seed": b64url_encode(self.seed),
            "tokens": list(self.tokens),
            "v": _VERSION,
        }
        if self.traceparent is not None:
            claims["traceparent"] = self.traceparent
        return b64url_encode(encode(claims))

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Return what :meth:`to_text` wrote; white space around it does not matter.

        Raises:
            TokenError: With code ``malformed_carried``: it is something else.
        """
        try:
            return cls(*_members(text.strip()))
        except (TypeError, ValueError):
            raise TokenError(
                "expected the text of DelegationBundle.to_text(), got another", code="malformed_carried"
            ) from None

    def to_environment(self) -> dict[str, str]:
        """Return the entry for the environment of a child: ``subprocess.run(…, env=os.environ | entry)``.

        Raises:
            ValueError: The chain is too long for an environment; pass :meth:`to_text` through standard input.
        """
        text = self.to_text()
        if len(text) > _LONGEST_ENTRY:
            raise ValueError(
                f"expected at most {_LONGEST_ENTRY} characters for an environment, got {len(text)}; pass to_text() "
                "through standard input, or carry a smaller scope"
            )
        return {ENVIRONMENT: text}

    @classmethod
    def from_environment(cls, environment: MutableMapping[str, str] = os.environ) -> Self:
        """Take the entry out of the environment, so that no grandchild inherits it, and return what it holds.

        Raises:
            TokenError: With code ``nothing_carried`` if there is no entry, ``malformed_carried`` if it is damaged.
        """
        text = environment.pop(ENVIRONMENT, None)
        if text is None:
            raise TokenError(
                f"expected {ENVIRONMENT} in the environment, got none; start the process with "
                "env=os.environ | carried.to_environment()",
                code="nothing_carried",
            )
        return cls.from_text(text)


def _members(text: str) -> tuple[tuple[str, ...], bytes, str, str | None]:
    """Return the checked members; what the tokens say is for the enforcer to verify."""
    if len(text) > _LONGEST:
        raise ValueError
    members = decode(b64url_decode(text))
    if not isinstance(members, dict) or not _REQUIRED <= members.keys() <= _KNOWN or members["v"] != _VERSION:
        raise ValueError
    listed, seed = members["tokens"], b64url_decode(text_of(members, "seed"))
    if not isinstance(listed, list) or len(seed) != 32:
        raise ValueError
    tokens = tuple(token for token in listed if isinstance(token, str))
    if len(tokens) != len(listed):
        raise ValueError
    trace = optional_text_of(members, "traceparent")
    if trace is not None and not (trace.isascii() and len(trace) <= _LONGEST_TRACE):
        raise ValueError
    return tokens, seed, folded_purpose(members["purpose"]), trace
