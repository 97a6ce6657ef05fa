"""The grants on the span of a task: whether what stands there is what the record names."""

import re
from collections.abc import Mapping, Sequence
from typing import Final, Literal, TypeAlias

from agent_identity.audit.attestations import ATTESTATION
from agent_identity.authority import token_hash
from agent_identity.evidence.mirror import verdict_on
from agent_identity.evidence.records import Hop
from agent_identity.evidence.span_copy import GRANT_ATTRIBUTE

__all__ = ["GrantState", "grants_on"]

GrantState: TypeAlias = Literal["given", "absent", "cut", "bad"]
"""What became of the grants on the way.

``absent``: they were never there, or a scrubber removed them visibly; ``cut``: a limit on the length of attributes may
have cut them; ``bad``: they are not those that the record names.
"""

_JWS: Final = re.compile(r"[\w-]+\.[\w-]+\.[\w-]{86}", re.ASCII)
_CUT: Final = re.compile(r"[\w-]*(?:\.[\w-]*(?:\.[\w-]{0,85})?)?(?:(?:\.\.\.|\u2026)[^~]{0,64})?", re.ASCII)
"""The begin of a grant, and how some stores say that they cut a value."""


def grants_on(attributes: Mapping[str, object], chain: Sequence[Hop]) -> tuple[GrantState, Sequence[tuple[str, str]]]:
    """Return what became of the grants on a span, and those that the record names, each with its hash.

    Args:
        attributes: The attributes of the span.
        chain: The chain that the record names; empty if it names none.
    """
    found = attributes.get(GRANT_ATTRIBUTE)
    # Nothing is signed of it that a blanked one could be compared with.
    if verdict_on("", found) in ("missing", "redacted"):
        return "absent", ()
    if not isinstance(found, str):
        return "bad", ()
    whole = found.split("~")
    rest = None if _JWS.fullmatch(whole[-1]) else whole.pop()
    if not all(map(_JWS.fullmatch, whole)):
        return "bad", ()
    hashes, named = [token_hash(token) for token in whole], [hop.grant for hop in chain]
    if rest is None and hashes == named[-len(whole) :]:
        return "given", list(zip(whole, hashes, strict=True))
    # Those of a task that was opened elsewhere come whole, from the root on; else there is only one.
    begins = _CUT.fullmatch(rest or "") is not None and len(whole) < len(named) and hashes == named[: len(whole)]
    # A limit would have cut what is longer as well, but for the signed record, which has to be exempt from it.
    return ("cut" if begins and len(found) == _longest(attributes) and _is_limit(found) else "bad"), ()


def _longest(attributes: Mapping[str, object]) -> int:
    limited = (value for name, value in attributes.items() if not name.startswith(ATTESTATION))
    return max(len(value) for value in limited if isinstance(value, str))


def _is_limit(found: str) -> bool:
    """Return whether a text has a length to which people and stores cut, or says that it was cut."""
    size = len(found)
    return not found.isascii() or "..." in found or not size % 50 or not size & (size - 1) or not size & (size + 1)
