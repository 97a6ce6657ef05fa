"""Signed successors of a trust file, for processes that run while it changes.

A successor is a compact JWS of a type of its own. Its payload is the whole next trust file. Where no root is pinned and
no root signed the file so far, an issuer key that counts already signs it. This is self-asserted: who can use that key
can announce others. It reaches running processes only; a verifier reads the trust file that it is given.
"""

import json
from dataclasses import replace
from typing import Final, cast

from agent_identity._identity.keys.jws import parse_compact, sign_compact
from agent_identity._identity.keys.keys import PublicKey, Signer
from agent_identity._identity.trust.document import check_root
from agent_identity._identity.trust.entries import TrustedKey
from agent_identity._identity.trust.merge import check_successor
from agent_identity._identity.trust.store import TrustStore
from agent_identity.canonical import JSON
from agent_identity.errors import ConfigurationError, TokenError

SUCCESSOR_TYPE: Final = "agent-trust-successor+jwt"
"""The ``typ`` of a signed successor."""

MAX_SUCCESSOR: Final = 2 << 20
"""Characters of a signed successor, at most."""


def signed_successor(trust: TrustStore, signer: Signer) -> str:
    """Return a trust file as a signed successor.

    Args:
        trust: The next file.
        signer: An issuer key that counts in the file before.
    """
    header: dict[str, JSON] = {"kid": signer.public_key.thumbprint, "typ": SUCCESSOR_TYPE}
    return sign_compact(header, cast("dict[str, JSON]", json.loads(trust.to_json())), signer, most=MAX_SUCCESSOR)


def followed(kept: TrustStore, token: str, *, at: int, root: PublicKey | None = None) -> TrustStore:
    """Return the store that counts after a signed successor.

    A successor of the same file replaces it. Of another file of the same issuer, the issuer's own keys are taken, and
    that one of them is revoked.

    Args:
        kept: The store so far.
        token: The result of :func:`signed_successor`.
        at: The time now, in seconds since the Unix epoch.
        root: The pinned root, which must have signed the successor.

    Raises:
        TokenError: It is no successor, or not signed by an issuer key that counts.
        ConfigurationError: It is no trust file, takes something back, does not rise, or lacks the signature of a root.
    """
    parts = parse_compact(token, most=MAX_SUCCESSOR)
    if root is None and kept.file.signature is None:
        parts.verify(_own_issuer(kept, parts.kid or "", at), SUCCESSOR_TYPE)
    given = TrustStore.load(parts.payload)
    check_root(given, kept if root is None else root, at=at)
    if given.issuer is None or given.issuer != kept.issuer:
        raise ConfigurationError("the successor is not of this issuer; give each issuer processes of its own")
    if given.file.id != kept.file.id:
        return _with_issuers(kept, given)
    check_successor(kept, given, at=at)
    if given.origin != kept.origin or given.file.revision == kept.file.revision:
        raise ConfigurationError("the successor is for another log, or does not rise", code="trust_rolled_back")
    return given


def _own_issuer(kept: TrustStore, name: str, at: int) -> PublicKey:
    entry = kept.get(name, "issuer")
    if entry is None or not _is_own(entry, kept):
        raise TokenError("no issuer key of this trust file signed the successor", code="unknown_key")
    return kept.find(name, "issuer", at=at)


def _is_own(entry: TrustedKey, store: TrustStore) -> bool:
    """Return whether a key signs for the issuer of the file; that of a partner signs for the partner only."""
    return entry.purpose == "issuer" and store.issuer is not None and entry.issuer in (None, store.issuer)


def _with_issuers(kept: TrustStore, given: TrustStore) -> TrustStore:
    keys = {(entry.key, entry.purpose): entry for entry in kept.keys}
    for entry in given.keys:
        name = (entry.key, entry.purpose)
        if not _is_own(entry, given):
            continue
        known = keys.setdefault(name, entry)
        if entry.revoked_since is not None and known.revoked_since is None:
            keys[name] = replace(known, revoked_since=entry.revoked_since, reason=entry.reason)
    return replace(kept, keys=tuple(keys.values()))
