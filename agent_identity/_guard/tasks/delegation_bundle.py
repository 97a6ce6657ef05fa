"""Delegations that leave the process: a bundle with its key for a child process, or grants to another party's key."""

import os
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from typing import Final, Self, final

from agent_identity._common.narrowing import optional_text_of, text_of
from agent_identity._guard.common.purpose import folded_purpose
from agent_identity._identity.common.encoding import b64url_decode, b64url_encode
from agent_identity.canonical import JSON, decode, encode
from agent_identity.errors import TokenError

ENVIRONMENT: Final = "AGENT_IDENTITY_BUNDLE"
"""Name of the environment entry that holds a bundle."""

_VERSION: Final = "1"
_OPEN: Final = frozenset({"purpose", "tokens", "v"})
_LONGEST: Final = 512 * 1024
_LONGEST_ENTRY: Final = 100_000  # Linux takes 128 KiB for one entry.
_LONGEST_TRACE: Final = 512


@final
@dataclass(frozen=True, slots=True, repr=False)
class DelegationBundle:
    """A part of a task's authority for a child process, which takes it up with :meth:`Enforcer.accept`.

    Received from :meth:`Task.export`. It holds a private key: anyone who has it can act under the grant until the grant
    expires or the task ends. Give it to the child alone: as an argument of ``multiprocessing`` and process pools, which
    pickle it, in the environment, or through standard input. Never on a command line, which every user can read, and
    never to another machine.

    Attributes:
        tokens: The signed grants, root first.
        seed: The private key of the leaf's holder, 32 bytes (RFC 8032 §5.1.5).
        purpose: Purpose of the task.
        traceparent: The trace that it is a part of, for correlation only.
        mark: The signed low-water mark of the task, where information flow is on.
    """

    tokens: tuple[str, ...]
    seed: bytes
    purpose: str
    traceparent: str | None = None
    mark: str | None = None

    def __repr__(self) -> str:
        return "DelegationBundle(…)"

    def to_text(self) -> str:
        """Return one line of ASCII, for standard input of a child."""
        return _text_of(self, {"seed": b64url_encode(self.seed)})

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Return the bundle that :meth:`to_text` wrote; white space around it does not matter.

        Raises:
            TokenError: With code ``malformed_carried``: the text is no bundle.
        """
        try:
            members = _members(text, {"seed"})
            seed, (tokens, purpose, trace, mark) = _seed(members), _checked(members)
        except (TypeError, ValueError):
            raise TokenError(
                "not the text of a bundle; give what DelegationBundle.to_text() returned", code="malformed_carried"
            ) from None
        return cls(tokens, seed, purpose, trace, mark)

    def to_environment(self) -> dict[str, str]:
        """Return the entry for the environment of a child: ``subprocess.run(…, env=os.environ | entry)``.

        Raises:
            ValueError: The chain is too long for an environment; pass :meth:`to_text` through standard input.
        """
        text = self.to_text()
        if len(text) > _LONGEST_ENTRY:
            raise ValueError(
                f"{len(text):,} characters are too many for an environment, which takes {_LONGEST_ENTRY:,}; pass "
                "to_text() through standard input, or export a smaller scope"
            )
        return {ENVIRONMENT: text}

    @classmethod
    def from_environment(cls, environment: MutableMapping[str, str] = os.environ) -> Self:
        """Take the entry out of the environment, so that no grandchild inherits it, and return its bundle.

        Raises:
            TokenError: With code ``nothing_carried`` if there is no entry, ``malformed_carried`` if it is damaged.
        """
        text = environment.pop(ENVIRONMENT, None)
        if text is None:
            raise TokenError(
                f"no {ENVIRONMENT} in the environment; start the process with env=os.environ | bundle.to_environment()",
                code="nothing_carried",
            )
        return cls.from_text(text)


@final
@dataclass(frozen=True, slots=True, repr=False)
class Grants:
    """A chain of grants to the key of another party, which takes it up with :meth:`Enforcer.accept`.

    Received from :meth:`Task.export`. It holds no secret, and is of no use without the key that it is made for. It does
    say who may do what, so keep it out of logs.

    Attributes:
        tokens: The signed grants, root first.
        purpose: Purpose of the task.
        traceparent: The trace that it is a part of, for correlation only.
        mark: The signed low-water mark of the task, where information flow is on.
    """

    tokens: tuple[str, ...]
    purpose: str = "accepted"
    traceparent: str | None = None
    mark: str | None = None

    def __repr__(self) -> str:
        return "Grants(…)"

    def to_text(self) -> str:
        """Return one line of ASCII, for the way to the other party."""
        return _text_of(self, {})

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Return the grants that :meth:`to_text` wrote; white space around it does not matter.

        Raises:
            TokenError: With code ``malformed_carried``: the text is no chain of grants.
        """
        try:
            return cls(*_checked(_members(text, set())))
        except (TypeError, ValueError):
            raise TokenError(
                "not the text of grants; give what Grants.to_text() returned", code="malformed_carried"
            ) from None


def _text_of(of: DelegationBundle | Grants, more: Mapping[str, str]) -> str:
    claims: dict[str, JSON] = {"purpose": of.purpose, "tokens": list(of.tokens), "v": _VERSION, **more}
    carried = {"mark": of.mark, "traceparent": of.traceparent}
    claims |= {name: value for name, value in carried.items() if value is not None}
    return b64url_encode(encode(claims))


def _members(text: str, more: set[str]) -> Mapping[str, JSON]:
    """Return the members of a text, of which none is unknown or missing.

    Raises:
        ValueError: The text is something else.
    """
    text = text.strip()
    if len(text) > _LONGEST:
        raise ValueError
    members, required = decode(b64url_decode(text)), _OPEN | more
    if not isinstance(members, dict) or not required <= members.keys() <= required | {"mark", "traceparent"}:
        raise ValueError
    return members


def _seed(members: Mapping[str, JSON]) -> bytes:
    seed = b64url_decode(text_of(members, "seed"))
    if len(seed) != 32:
        raise ValueError
    return seed


def _checked(members: Mapping[str, JSON]) -> tuple[tuple[str, ...], str, str | None, str | None]:
    """Return tokens, purpose, trace and mark; what the tokens say is for the enforcer to verify.

    Raises:
        TypeError: A member has another type.
        ValueError: A member has another form, or the version is unknown.
    """
    listed, trace = members["tokens"], optional_text_of(members, "traceparent")
    mark = optional_text_of(members, "mark")
    if members["v"] != _VERSION or not isinstance(listed, list):
        raise ValueError
    tokens = tuple(token for token in listed if isinstance(token, str))
    if len(tokens) != len(listed) or (trace is not None and not (trace.isascii() and len(trace) <= _LONGEST_TRACE)):
        raise ValueError
    return tokens, folded_purpose(members["purpose"]), trace, mark
