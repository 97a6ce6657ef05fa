"""Identifiers of principals, agents, issuers and logs, and the characters that they may have."""

import re
import unicodedata
from typing import Final

from agent_identity._common.printing import BLANK

_MAX_ID: Final = 256
_MAX_SPIFFE: Final = 2048
_REFUSED: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Unicode categories: controls, invisible format and bidi controls, surrogates, line and paragraph ends."""

_SEGMENT: Final = r"(?!\.{1,2}(?:/|\Z))[a-zA-Z0-9._-]+"
_SPIFFE: Final = re.compile(rf"spiffe://[a-z0-9._-]{{1,255}}(?:/{_SEGMENT})*")


def check_id(value: object, what: str) -> str:
    """Return the identifier if it cannot be mistaken for another.

    An identifier has 1 to 256 characters, no control, bidi or other invisible character (letters, selectors and
    symbols that look like nothing included), no lone surrogate and no space at its ends. What starts with
    ``spiffe:`` must be a SPIFFE ID of at most 2,048 bytes: lower-case trust domain, then path segments, without
    port, query, fragment or percent-encoding.

    Args:
        value: The identifier.
        what: Its name for the error message, for example ``"owner"``.

    Raises:
        TypeError: The value is no ``str``.
        ValueError: It breaks a rule.
    """
    if type(value) is not str:
        raise TypeError(f"{what} is {type(value).__name__}; give a str")
    if value[:7].lower() == "spiffe:":
        if len(value) > _MAX_SPIFFE or not _SPIFFE.fullmatch(value):
            raise ValueError(f"{what} is a malformed SPIFFE ID; write one like spiffe://example.org/agent")
        return value
    if not 1 <= len(value) <= _MAX_ID:
        raise ValueError(f"{what} has {len(value)} characters; give 1 to {_MAX_ID}")
    if value != value.strip():
        raise ValueError(f"{what} has spaces at its ends; strip it")
    if not (value.isascii() and value.isprintable()) and (
        BLANK.search(value) or not _REFUSED.isdisjoint(map(unicodedata.category, value))
    ):
        raise ValueError(f"{what} has a control, invisible or surrogate character; remove it")
    return value
