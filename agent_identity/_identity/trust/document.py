"""Writing trust files: the document of a store, and the signature of a root over it."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Final

from agent_identity._identity.common.encoding import b64url_encode
from agent_identity._identity.keys.jws import parse_compact, sign_compact
from agent_identity._identity.keys.keys import PublicKey, Signer
from agent_identity._identity.trust.approvers import Approver
from agent_identity._identity.trust.entries import FileVersion, Store, Takeover, TrustedKey, TrustEntries
from agent_identity.canonical import JSON, encode
from agent_identity.errors import ConfigurationError, TokenError

TRUST_FILE_TYPE: Final = "agent-trust+jwt"
"""The ``typ`` of the signature of a trust file."""

TRUST_FILE_VERSION: Final = "1"
"""The ``version`` of the trust file."""

_NS: Final = 1_000_000_000
_MAX_SIGNATURE: Final = 2 << 20  # Characters with the content of the file, which the signature itself leaves out.


def signed_trust(trust: Store, root: Signer) -> Store:
    """Return the store with the signature of one of its roots, in the form of the file.

    Args:
        trust: The store.
        root: The private key of a root that is listed in it and not revoked.

    Raises:
        ConfigurationError: The key is no such root (code ``bad_trust_signature``).
    """
    listed = trust.get(root.public_key.thumbprint, "root")
    if listed is None or not listed.signs_trust:
        raise bad_signature("the key is not that of a root that the file lists, not revoked and not for recorders only")
    version = FileVersion(trust.file.id, trust.file.revision)
    unsigned = replace(trust, file=version)
    header = {"kid": root.public_key.thumbprint, "typ": TRUST_FILE_TYPE}
    header_part, _, signature = sign_compact(header, document_of(unsigned), root, most=_MAX_SIGNATURE).split(".")
    return replace(unsigned, file=replace(version, signature=f"{header_part}..{signature}"))


def check_signature(signature: str, document: dict[str, JSON], trust: TrustEntries) -> str:
    """Return the name of the root that signed a document, after verifying the signature.

    Args:
        signature: A compact JWS whose payload is left out (RFC 7515, appendix F).
        document: The content of the file without its signature.
        trust: Lists the roots.

    Raises:
        ConfigurationError: With code ``bad_trust_signature``.
    """
    header, _, rest = signature.partition("..")
    try:
        parts = parse_compact(f"{header}.{b64url_encode(encode(document))}.{rest}", most=_MAX_SIGNATURE)
        listed = None if parts.kid is None else trust.get(parts.kid, "root")
        if listed is None or not listed.signs_trust:
            raise bad_signature("the signature is not that of a root that is listed, not revoked and signs trust files")
        parts.verify(listed.key, TRUST_FILE_TYPE)
    except TokenError as error:
        raise bad_signature(f"the root did not sign this content ({error.code})") from None
    return listed.key.thumbprint


def check_root(given: TrustEntries, by: TrustEntries | PublicKey, *, at: int) -> None:
    """Check that a root signed a trust file: the pinned one, or one of the file so far if a root signed that.

    Args:
        given: The file.
        by: The pinned root, or the file so far.
        at: The time now, in seconds since the Unix epoch.

    Raises:
        ConfigurationError: No such root did (``bad_trust_signature``).
    """
    kept = None if isinstance(by, PublicKey) else by
    if kept is not None and kept.file.signature is None:
        return
    if given.file.signature is None:
        raise bad_signature("no root signed the trust file")
    name = check_signature(given.file.signature, document_of(given), given if kept is None else kept)
    trusted = (given if kept is None else kept).get(name, "root")
    if trusted is None or not trusted.in_time(at) or (isinstance(by, PublicKey) and trusted.key != by):
        raise bad_signature("the root that signed the trust file is not the pinned one, or does not count now")


def check_pin(given: TrustEntries, root: PublicKey | str | None, revision: int) -> None:
    """Check that a trust file is what its reader pinned.

    Args:
        given: The file.
        root: The root that must have signed it, or the thumbprint of that root; ``None`` for any file.
        revision: Its lowest revision.

    Raises:
        ConfigurationError: The root did not sign it, or does not count now (``bad_trust_signature``), or its revision
            is lower (``trust_rolled_back``).
    """
    if isinstance(root, str):
        listed = given.get(root, "root")
        if listed is None:
            raise bad_signature("it does not list the pinned root; take the file that this root signed")
        root = listed.key
    if root is not None:
        from agent_identity._identity.common.clock import SystemClock  # Few readers pin.

        check_root(given, root, at=SystemClock().wall_ns() // _NS)
    if given.file.revision < revision:
        raise ConfigurationError(
            f"the trust file has revision {given.file.revision}, older than {revision}; take the one in force",
            code="trust_rolled_back",
        )


def bad_signature(message: str) -> ConfigurationError:
    """Return the error of a trust file whose signature does not hold."""
    return ConfigurationError(f"bad signature of the trust file: {message}", code="bad_trust_signature")


def written(trust: TrustEntries) -> bytes:
    """Return the content of the trust file of a store. A signature stays only on the content it was made for."""
    document = document_of(trust)
    signature = trust.file.signature
    if signature is not None:
        try:
            check_signature(signature, document, trust)
            document["signature"] = signature
        except ConfigurationError:  # The store was changed since.
            pass
    return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()


def document_of(trust: TrustEntries) -> dict[str, JSON]:
    """Return the content of the trust file of a store, without its signature.

    Raises:
        ValueError: Certificates extended it.
    """
    if any(key.certificates for key in trust.keys):
        raise ValueError("certificates extended the store; save the one before")
    file = trust.file
    entries: list[JSON] = [_entry(trusted) for trusted in trust.keys]
    entries += map(_approver, trust.approvers)
    entries += _witness_entries(trust)
    required = trust.witnesses.required
    return {
        "version": TRUST_FILE_VERSION,
        "id": file.id,
        "revision": file.revision,
        **_known({"issuer": trust.issuer, "origin": trust.origin}),
        "keys": entries,
        **({} if required is None else {"quorum": required}),
        **({"merged_from": list(file.merged_from)} if file.merged_from else {}),
    }


def _entry(trusted: TrustedKey) -> dict[str, JSON]:
    log = trusted.takes_over
    return {
        **trusted.key.to_jwk(),
        "kid": trusted.key.thumbprint,
        "alg": "EdDSA",
        "purpose": trusted.purpose,
        **_known(
            {
                "not_before": trusted.not_before,
                "not_after": trusted.not_after,
                "issuer": trusted.issuer,
                "revoked_since": trusted.revoked_since,
                "reason": trusted.reason,
                "takes_over": None if log is None else _log(log),
                "origin": trusted.origin,
                "recorders_only": trusted.recorders_only or None,
            }
        ),
    }


def _approver(approver: Approver) -> dict[str, JSON]:
    half = len(approver.key) // 2
    jwk: dict[str, JSON]
    if approver.algorithm == "ES256":
        x, y = map(b64url_encode, (approver.key[:half], approver.key[half:]))
        jwk = {"crv": "P-256", "kty": "EC", "x": x, "y": y}
    else:
        jwk = {**PublicKey(approver.key).to_jwk()}
    return {
        **jwk,
        "alg": approver.algorithm,
        "purpose": "approver",
        "person": approver.person,
        "credential": b64url_encode(approver.credential),
        "rp_id": approver.rp_id,
        "site": approver.origin,
        **_known(
            {
                "not_before": approver.not_before,
                "not_after": approver.not_after,
                "revoked_since": approver.revoked_since,
                "reason": approver.reason,
            }
        ),
    }


def _witness_entries(trust: TrustEntries) -> Iterator[dict[str, JSON]]:
    witnesses = trust.witnesses
    for witness, (not_before, not_after) in zip(
        witnesses.keys, witnesses.periods or ((None, None),) * len(witnesses.keys), strict=True
    ):
        times = _known({"not_before": not_before, "not_after": not_after})
        yield {"vkey": witness.vkey, "purpose": "witness", **times}


def _known(members: Mapping[str, JSON]) -> dict[str, JSON]:
    return {name: value for name, value in members.items() if value is not None}


def _log(takeover: Takeover) -> dict[str, JSON]:
    return {"size": str(takeover.size), "root": b64url_encode(takeover.root)}
