"""Signed low-water marks: what one process has read of a task, by its word to the process that it works for.

A mark is signed with the key of the holder of a grant. It counts for one grant and one call, so that it cannot be
moved to another answer.
"""

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

from agent_identity._flow.labels import Label
from agent_identity._identity.common.ids import DIGEST_FORM
from agent_identity._identity.keys.jws import parse_compact, sign_compact, verify_compact
from agent_identity._identity.keys.keys import PublicKey, Signer
from agent_identity.errors import TokenError

_DIGEST: Final = re.compile(DIGEST_FORM)
MARK_TYPE: Final = "agent-identity-mark+jwt"
"""The ``typ`` of a signed mark."""


class SignedMark(NamedTuple):
    """The claims of a signed mark.

    Attributes:
        by: The hash of the grant whose holder signs.
        call: The id of the call; the hash of the grant where it was handed over for more than one call.
        grant: The hash of the grant that was handed over.
        label: The label, as records spell it.
        seq: The number of the mark, in decimal digits.
    """

    by: str
    call: str
    grant: str
    label: str
    seq: str


def sign_mark(signer: Signer, mark: SignedMark) -> str:
    """Return a mark as a compact token."""
    return sign_compact({"typ": MARK_TYPE}, mark._asdict(), signer)


def verify_mark(token: str, key: PublicKey) -> SignedMark:
    """Return the claims of a mark that a key has signed; whether they fit the call is for the caller to compare.

    Raises:
        TokenError: The token is malformed, of another type (``wrong_type``), signed by another key
            (``bad_signature``), or has other claims (``bad_mark``).
    """
    return _checked(verify_compact(token, key, MARK_TYPE))


def signer_of_mark(token: str) -> str:
    """Return the hash of the grant whose holder is said to have signed a mark, unverified.

    Raises:
        TokenError: The token is malformed, of another type (``wrong_type``), or has other claims (``bad_mark``).
    """
    return _checked(parse_compact(token).unverified(MARK_TYPE)).by


def _checked(claims: Mapping[str, object]) -> SignedMark:
    texts = {name: value for name, value in claims.items() if type(value) is str}
    if len(texts) != len(claims) or texts.keys() != frozenset(SignedMark._fields):
        raise TokenError("the claims are not exactly those of a mark", code="bad_mark")
    if not (_DIGEST.fullmatch(texts["by"]) and _DIGEST.fullmatch(texts["grant"])):
        raise TokenError("the mark names no grants", code="bad_mark")
    try:
        Label.parse(texts["label"])
    except ValueError as error:
        raise TokenError(f"the mark has no label: {error}", code="bad_mark") from None
    if not (texts["seq"].isascii() and texts["seq"].isdigit() and len(texts["seq"]) <= 18):
        raise TokenError("seq of the mark is no number", code="bad_mark")
    return SignedMark(**texts)
