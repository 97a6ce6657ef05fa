"""Compares the grants on the span of a task with those that the record names."""

import re
from collections.abc import Mapping, Sequence
from typing import Final, Literal, TypeAlias

from agent_identity._identity.keys.jws import token_hash
from agent_identity._record.parts import Hop
from agent_identity._spans.span_attributes import verdict_on
from agent_identity._spans.span_from_record import GRANT_ATTRIBUTE
from agent_identity._verify.spans.attestations import ATTESTATION

GrantState: TypeAlias = Literal["given", "absent", "cut", "bad"]
"""State of the grants on a span.

``absent``: the span never had them, or a scrubber removed them visibly; ``cut``: an attribute length limit may have
cut them; ``bad``: they differ from those that the record names.
"""

_JWS: Final = re.compile(r"[\w-]+\.[\w-]+\.[\w-]{86}", re.ASCII)
_CUT: Final = re.compile(r"[\w-]*(?:\.[\w-]*(?:\.[\w-]{0,85})?)?(?:(?:\.\.\.|\u2026)[^~]{0,64})?", re.ASCII)
"""The beginning of a grant, with the marks of some stores for a cut value."""


def grants_on(attributes: Mapping[str, object], chain: Sequence[Hop]) -> tuple[GrantState, Sequence[tuple[str, str]]]:
    """Return the state of the grants on a span, and the grants that the record names, each with its hash.

    Args:
        attributes: The attributes of the span.
        chain: The chain that the record names, or an empty one.
    """
    value = attributes.get(GRANT_ATTRIBUTE)
    # The grants are not signed, so a blanked value has nothing to be compared with.
    if verdict_on("", value) in ("missing", "redacted"):
        return "absent", ()
    if not isinstance(value, str):
        return "bad", ()
    whole = value.split("~")
    rest = None if _JWS.fullmatch(whole[-1]) else whole.pop()
    if not all(map(_JWS.fullmatch, whole)):
        return "bad", ()
    hashes, named = [token_hash(token) for token in whole], [hop.grant for hop in chain]
    if rest is None and hashes == named[-len(whole) :]:
        return "given", list(zip(whole, hashes, strict=True))
    # A task that was opened elsewhere has its whole chain, from the root on; others have one grant.
    begins = _CUT.fullmatch(rest or "") is not None and len(whole) < len(named) and hashes == named[: len(whole)]
    # A length limit cuts every longer value, except the signed record, which must be exempt from it.
    return ("cut" if begins and len(value) == _longest(attributes) and _is_limit(value) else "bad"), ()


def _longest(attributes: Mapping[str, object]) -> int:
    limited = (value for name, value in attributes.items() if not name.startswith(ATTESTATION))
    return max(len(value) for value in limited if isinstance(value, str))


def _is_limit(text: str) -> bool:
    """Return whether a text has a typical length limit, or a mark that it was cut."""
    size = len(text)
    return not text.isascii() or "..." in text or not size % 50 or not size & (size - 1) or not size & (size + 1)
