"""Proof of possession: the holder of a leaf grant makes exactly this call, here and now.

The proof is a token of its own, signed with the holder's key over tool, arguments and audience. It holds
the arguments in clear and must never be logged. Whether a proof has been seen before is for the caller to
ask: :func:`verify_proof` returns the id to ask with.
"""

import re
from collections.abc import Mapping
from typing import Final

from agent_identity._authority.grants.grants import Chain
from agent_identity._constraints.values import is_interoperable
from agent_identity._identity.common.names import check_id
from agent_identity._identity.keys.jws import par_hash, parse_compact, sign_compact, verify_compact
from agent_identity._identity.keys.keys import Signer
from agent_identity.canonical import JSON, decode, encode
from agent_identity.errors import AttenuationError, TokenError

PROOF_TYPE: Final = "aat-pop+jwt"
"""The ``typ`` of a proof."""

PROOF_WINDOW: Final = 30
"""Seconds before and after its time in which a proof is accepted."""

_CLAIMS: Final = frozenset({"aat_aud", "aat_hash", "aat_id", "aat_tool", "hta", "iat", "jti"})
_NEXT: Final = "aat_next"
_UUID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


def prove(
    chain: Chain,
    signer: Signer,
    *,
    tool: str,
    arguments: Mapping[str, object],
    audience: str,
    now: int,
    id: str,  # What it is called in the proof.
    next_hash: str | None = None,
) -> str:
    """Return a proof for one call.

    Args:
        chain: The chain whose leaf permits the call.
        signer: The key of the leaf's holder.
        tool: Name of the tool.
        arguments: The arguments of the call, values of JSON only.
        audience: The enforcement point that will run the tool.
        now: Unix seconds.
        id: UUID in lower case, used for no other call.
        next_hash: The hash of a further grant that travels beside the chain and is handed over with the call.

    Raises:
        AttenuationError: With code ``not_the_holder`` if the key is not the leaf's holder's.
        TypeError: An argument has the wrong type.
        ValueError: The id is no UUID, or the arguments are no values of JSON or too large, or one is a whole number
            that no double holds.
    """
    if signer.public_key != chain.leaf.holder:
        raise AttenuationError("the key that signs the proof is not that of the leaf's holder", code="not_the_holder")
    if not _UUID.fullmatch(id):
        raise ValueError("the id of the proof is not a UUID in lower case")
    if not is_interoperable(arguments):
        raise ValueError("an argument is a whole number that no double holds, so others read another one; use a text")
    claims: dict[str, object] = {
        "aat_aud": check_id(audience, "audience"),
        "aat_hash": par_hash(chain.leaf.token),
        "aat_id": chain.leaf.id,
        "aat_tool": tool,
        "hta": arguments,
        "iat": now,
        "jti": id,
    }
    if next_hash is not None:
        claims[_NEXT] = next_hash
    return sign_compact({"typ": PROOF_TYPE}, claims, signer)


def id_of_proof(token: str) -> str | None:
    """Return the id of a proof, unverified; ``None`` if it has none."""
    try:
        claims = decode(parse_compact(token).payload)
    except (TokenError, ValueError):
        return None
    proof_id = claims.get("jti") if isinstance(claims, dict) else None
    return proof_id if isinstance(proof_id, str) else None


def verify_proof(
    token: str,
    chain: Chain,
    *,
    tool: str,
    arguments: Mapping[str, object],
    audience: str,
    now: int,
    next_hash: str | None = None,
) -> str:
    """Return the id of the proof if it fits the call; verify the chain first.

    1. Token: canonical, type ``aat-pop+jwt``, signed by the leaf's holder (``bad_signature``).
    2. Exactly the claims of a proof (``bad_proof``).
    3. It is for this leaf (``wrong_grant``), the grant handed over with it if there is one
       (``wrong_next_grant``), tool (``wrong_tool``) and audience (``wrong_audience``), and
       the chain is for this audience, if for any.
    4. Its time is within 30 seconds of ours (``proof_too_old``, ``not_yet_valid``).
    5. Its arguments are the call's, compared as canonical bytes, and its whole numbers are ones that a double holds
       (``wrong_arguments``).

    A proof that verifies can still be a replay: let the id through once.

    Args:
        token: The proof.
        chain: The verified chain that came with it.
        tool: Name of the tool that is about to run.
        arguments: The arguments that it is about to run with.
        audience: Name of this enforcement point.
        now: Unix seconds.
        next_hash: The hash of the grant that came beside the chain, if one did.

    Raises:
        TokenError: A step failed.
    """
    leaf = chain.leaf
    claims = verify_compact(token, leaf.holder, PROOF_TYPE)
    issued_at, proof_id = claims.get("iat"), claims.get("jti")
    if not _CLAIMS <= claims.keys() <= _CLAIMS | {_NEXT} or type(issued_at) is not int or type(proof_id) is not str:
        raise TokenError("the claims are not exactly those of a proof", code="bad_proof")
    if _NEXT in claims and type(claims[_NEXT]) is not str:
        raise TokenError("aat_next of the proof is not the hash of a grant", code="bad_proof")
    if not _UUID.fullmatch(proof_id) or not isinstance(claims["hta"], Mapping):
        raise TokenError("jti of the proof is not a UUID, or hta is not an object", code="bad_proof")
    _check_same(claims["aat_id"], leaf.id, "wrong_grant")
    _check_same(claims["aat_hash"], par_hash(leaf.token), "wrong_grant")
    _check_same(claims.get(_NEXT), next_hash, "wrong_next_grant")
    _check_same(claims["aat_tool"], tool, "wrong_tool")
    _check_same(claims["aat_aud"], audience, "wrong_audience")
    if chain.audience is not None:
        _check_same(chain.audience, audience, "wrong_audience")
    if issued_at < now - PROOF_WINDOW:
        raise TokenError(f"the proof is older than {PROOF_WINDOW} s; make a new one", code="proof_too_old")
    if issued_at > now + PROOF_WINDOW:
        raise TokenError("the proof was made in the future; compare the clocks", code="not_yet_valid")
    if encode(claims["hta"]) != _canonical(arguments) or not is_interoperable(arguments):
        raise TokenError("the proof is for other arguments", code="wrong_arguments")
    return proof_id


def _check_same(got: JSON, expected: str | None, code: str) -> None:
    if got != expected:
        raise TokenError(f"the proof is for another call: {code}", code=code)


def _canonical(arguments: Mapping[str, object]) -> bytes:
    try:
        return encode(arguments)
    except ValueError:
        raise TokenError("the arguments are not values of JSON", code="wrong_arguments") from None
