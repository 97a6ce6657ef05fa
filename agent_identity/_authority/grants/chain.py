"""Verifying a chain of grants from its tokens alone."""

from collections.abc import Callable, Sequence
from typing import Final

from agent_identity._authority.grants.grants import (
    GRANT_TYPE,
    MAX_CHAIN,
    MAX_DEPTH,
    Chain,
    Grant,
    check_child,
    check_history,
    grant_of,
)
from agent_identity._identity.keys.jws import TokenParts, parse_compact
from agent_identity._identity.keys.keys import PublicKey
from agent_identity.canonical import JSON
from agent_identity.errors import TokenError

SKEW: Final = 30
"""Seconds that the clock of an issuer may be ahead of ours."""

MAX_LIFETIME: Final = 3600
"""Seconds that a grant may live in all, unless the verifier says otherwise."""


def verify_chain(
    tokens: Sequence[str],
    *,
    anchors: Callable[[str], PublicKey],
    issuer: str | None,
    now: int | None,
    task_id: str | None = None,
    audience: str | None = None,
    skew: int = SKEW,
    max_lifetime: int = MAX_LIFETIME,
    verified: Chain | None = None,
) -> Chain:
    """Return the verified chain; stop at the first failed check.

    1. Size: at least one token (``empty_chain``), at most 33 (``too_deep``), together at most 256 KiB
       (``too_large``), none twice (``duplicate_id``).
    2. Root, before its claims are parsed: three canonical parts of at most 64 KiB, algorithm Ed25519, type
       ``aat+jwt``, a ``kid`` that ``anchors`` knows (``unknown_key``), a signature by that key
       (``bad_signature``).
    3. Root claims, each by itself: all required ones, no unknown ones, canonical; times, depth limit of at
       most 32, public holder key, principal and agent, exactly one entry of the known type, every
       constraint known and bounded.
    4. Root in its place: depth 0 and no parent (``not_a_root``), the expected issuer (``wrong_issuer``),
       the expected task (``wrong_task``), a consistent ``act`` (``bad_history``).
    5. Time of each grant: a lifetime within ``max_lifetime`` (``lives_too_long``), not issued in the
       future (``not_yet_valid``), not expired (``expired``).
    6. Each further token, before its claims are parsed: as 2, but signed by the parent's holder; a ``kid``,
       if there is one, names that key (``wrong_key``).
    7. Its claims, as 3.
    8. Its issuer is the thumbprint URI of the parent's holder (``wrong_issuer``), its ``id`` is new
       (``duplicate_id``), its ``act`` repeats the chain (``bad_history``), its time is as in 5.
    9. Depth, time, task, principal, audience, limits, scope and hash against the parent:
       :func:`check_child`.
    10. Every grant is made for this audience, if for any (``wrong_audience``).

    What a call does (tool, arguments, proof of possession) is checked by :meth:`Scope.check` and
    :func:`verify_proof` afterwards.

    Args:
        tokens: The grants, root first.
        anchors: Returns the issuer key of a ``kid``, or raises :class:`TokenError`. It must not fetch.
        issuer: The issuer URI that the root must have; None to take any that the key signs for.
        now: Unix seconds; None for evidence that is checked later, which leaves out everything in step 5
            that compares with the present, and step 10 unless ``audience`` is given.
        task_id: The task that the chain must belong to; None for any.
        audience: Name of this enforcement point; None if it has none.
        skew: Seconds of step 5 that an issuing clock may be ahead.
        max_lifetime: Seconds from ``iat`` to ``exp``, at most.
        verified: A chain that this function returned before. Where the tokens begin with its tokens, steps 2, 3
            and 6 to 9 are not repeated for those, except that ``anchors`` must still know the root's ``kid``.

    Raises:
        TokenError: A step failed; its code is given above or names the malformed part.
        AttenuationError: A grant permits more than its parent.
    """
    _check_sizes(tokens)
    if verified is not None and tuple(tokens[: len(verified.grants)]) == verified.tokens:
        anchors(_kid(parse_compact(tokens[0])))
        grants = list(verified.grants)
        _check_root(grants[0], issuer, task_id)
    else:
        claims, grant = _open_root(tokens[0], anchors)
        _check_root(grant, issuer, task_id)
        check_history(claims, (grant.agent,))
        grants = [grant]
    for grant in grants:
        _check_time(grant, now, skew, max_lifetime)
    for token in tokens[len(grants) :]:
        parent = grants[-1]
        claims, grant = _open_child(token, parent)
        if grant.issuer != parent.holder.thumbprint_uri:
            raise TokenError("the issuer of the child is not the parent's holder", code="wrong_issuer")
        grants.append(grant)
        if len({link.id for link in grants}) != len(grants):
            raise TokenError("a grant is twice in the chain", code="duplicate_id")
        check_history(claims, (link.agent for link in grants))
        _check_time(grant, now, skew, max_lifetime)
        check_child(parent, grant)
    for grant in grants:
        _check_audience(grant, audience, now)
    return Chain(tuple(grants))


def _check_sizes(tokens: Sequence[str]) -> None:
    if not tokens:
        raise TokenError("the chain has no grant", code="empty_chain")
    if len(tokens) > MAX_DEPTH + 1:
        raise TokenError(f"the chain has {len(tokens)} grants, more than {MAX_DEPTH + 1}", code="too_deep")
    if isinstance(tokens, str) or not all(type(token) is str for token in tokens):
        raise TokenError("the grants are not a sequence of strings", code="malformed_token")
    if sum(map(len, tokens)) > MAX_CHAIN:
        raise TokenError(f"the chain has more than {MAX_CHAIN} characters", code="too_large")
    if len(set(tokens)) != len(tokens):
        raise TokenError("a grant is twice in the chain", code="duplicate_id")


def _open_root(token: str, anchors: Callable[[str], PublicKey]) -> tuple[dict[str, JSON], Grant]:
    parts = parse_compact(token)
    claims = parts.verify(anchors(_kid(parts)), GRANT_TYPE)
    return claims, grant_of(token, claims)


def _kid(root: TokenParts) -> str:
    if root.kid is None:
        raise TokenError("the root grant does not name its key (kid)", code="unknown_key")
    return root.kid


def _open_child(token: str, parent: Grant) -> tuple[dict[str, JSON], Grant]:
    parts = parse_compact(token)
    if parts.kid is not None and parts.kid != parent.holder.thumbprint:
        raise TokenError("the kid does not name the parent's holder", code="wrong_key")
    claims = parts.verify(parent.holder, GRANT_TYPE)
    return claims, grant_of(token, claims)


def _check_root(root: Grant, issuer: str | None, task_id: str | None) -> None:
    if root.depth != 0 or root.parent_hash is not None:
        raise TokenError("the chain begins with a child instead of a root grant", code="not_a_root")
    if issuer is not None and root.issuer != issuer:
        raise TokenError("the root grant is another issuer's", code="wrong_issuer")
    if task_id is not None and root.task_id != task_id:
        raise TokenError("the grant is for another task", code="wrong_task")


def _check_time(grant: Grant, now: int | None, skew: int, max_lifetime: int) -> None:
    if grant.expires_at - grant.issued_at > max_lifetime:
        raise TokenError(f"the grant lives longer than {max_lifetime} s", code="lives_too_long")
    if now is None:
        return
    if grant.issued_at > now + skew:
        raise TokenError("the grant was issued in the future; compare the clocks", code="not_yet_valid")
    if grant.expires_at <= now:
        raise TokenError("the grant has expired; get a new one", code="expired")


def _check_audience(grant: Grant, audience: str | None, now: int | None) -> None:
    if grant.audience is None or grant.audience == audience:
        return
    if audience is not None or now is not None:
        raise TokenError("the grant was made for another enforcement point", code="wrong_audience")
