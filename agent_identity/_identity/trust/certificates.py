"""Certificates of recorders: a root vouches for the keys of a host that no trust file lists.

A certificate is a compact JWS of a type of its own, signed by a key that the trust file lists as ``root``. It binds the
recorder key of a host to the one log that it may sign for, and its issuer key to an issuer and to the kinds of
principals that this issuer may speak for, for at most 30 days. It is checked offline, with the trust file alone.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Literal, TypeAlias, final, get_args

from agent_identity._common.narrowing import int_of, text_of, word
from agent_identity._identity.common.names import check_id
from agent_identity._identity.keys.jws import parse_compact, sign_compact
from agent_identity._identity.keys.keys import PublicKey, Signer
from agent_identity._identity.trust._origins import check_origin, covers, is_prefix
from agent_identity._identity.trust.entries import EntryPurpose, Store, TrustedKey, TrustEntries, Vouched
from agent_identity.canonical import JSON
from agent_identity.errors import TokenError

CERTIFICATE_TYPE: Final = "agent-recorder-certificate+jwt"
"""The ``typ`` of a certificate."""

MAX_CERTIFICATE_LIFETIME: Final = 30 * 24 * 3600
"""Seconds that a certificate is valid at most."""

MAX_CERTIFICATE: Final = 8 * 1024
"""Characters of a certificate, at most."""

AUDIENCE: Final = "agent-identity:recorder:"
"""The audience of a token that is shown to a certifier, before the thumbprint of the recorder key."""

PrincipalKind: TypeAlias = Literal["human", "service"]
"""A kind of principal, for which an issuer may or may not speak."""

_KINDS: Final[frozenset[PrincipalKind]] = frozenset(get_args(PrincipalKind))
_CLAIMS: Final = ["exp", "issuer", "nbf", "origin", "principals", "recorder"]
_ISSUER_CLAIMS: Final = ["key", "uri"]
_MAX_TIME: Final = (1 << 53) - 1


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """A statement of a root about the keys of a host.

    Args:
        recorder: The key that signs the records and checkpoints of the host.
        origin: The one log that it may sign for; a name, never a prefix.
        issuer_key: The key that signs the grants of the host.
        issuer: The URI that these grants must name.
        principals: The kinds of principals on whose behalf they may be.
        not_before: First second, since the Unix epoch, in which it is valid; the certificate is dated by it.
        expires_at: First second in which it is valid no more; at most 30 days later.

    Raises:
        TypeError: A field has the wrong type.
        ValueError: A field breaks a rule.
    """

    recorder: PublicKey
    origin: str
    issuer_key: PublicKey
    issuer: str
    principals: tuple[PrincipalKind, ...]
    not_before: int
    expires_at: int

    def __post_init__(self) -> None:
        if any(type(key) is not PublicKey for key in (self.recorder, self.issuer_key)):
            raise TypeError("a key of the certificate is not a PublicKey")
        if self.recorder == self.issuer_key:
            raise ValueError("recorder and issuer have the same key; make one for each")
        if is_prefix(check_origin(self.origin)):
            raise ValueError("the origin is a prefix of names; name one log")
        check_id(self.issuer, "issuer")
        if type(self.principals) is not tuple:
            raise TypeError("the kinds of principals are not a tuple")
        if not self.principals or not _KINDS.issuperset(self.principals):
            raise ValueError("the kinds of principals are empty or unknown; use human, service")
        if list(self.principals) != sorted(set(self.principals)):
            raise ValueError("the kinds of principals are not in order, each once; sort them")
        self._check_times()

    def _check_times(self) -> None:
        if type(self.not_before) is not int or type(self.expires_at) is not int:
            raise TypeError("a time of the certificate is not an int; give whole seconds")
        if not 0 <= self.not_before < self.expires_at <= _MAX_TIME:
            raise ValueError("the certificate does not end after it begins, in seconds since 1970")
        if self.expires_at - self.not_before > MAX_CERTIFICATE_LIFETIME:
            raise ValueError("the certificate is for more than 30 days; renew it instead")

    def sign(self, root: Signer) -> str:
        """Return the certificate as a signed token.

        Args:
            root: A key that trust files list as ``root``, with an origin that covers that of the certificate.
        """
        claims: dict[str, JSON] = {
            "exp": self.expires_at,
            "issuer": {"key": self.issuer_key.to_jwk(), "uri": self.issuer},
            "nbf": self.not_before,
            "origin": self.origin,
            "principals": list(self.principals),
            "recorder": self.recorder.to_jwk(),
        }
        header = {"kid": root.public_key.thumbprint, "typ": CERTIFICATE_TYPE}
        return sign_compact(header, claims, root, most=MAX_CERTIFICATE)


def request_for(recorder: PublicKey, issuer_key: PublicKey, *, origin: str, issuer: str) -> dict[str, JSON]:
    """Return the request for a certificate, as JSON.

    Args:
        recorder: The recorder key of the host.
        issuer_key: Its issuer key.
        origin: Its log.
        issuer: The issuer that its grants name.
    """
    return {
        "issuer": {"key": {**issuer_key.to_jwk()}, "uri": issuer},
        "origin": origin,
        "recorder": {**recorder.to_jwk()},
    }


@final
@dataclass(frozen=True, slots=True)
class Presented:
    """A certificate as presented, unverified.

    Args:
        token: The signed token.
        stream: The stream in whose records it stands; ``None`` if it was handed over outside a log.
        seq: The place of that record in the stream, from 1 on; 0 without a stream.

    Raises:
        ValueError: One of the two is given without the other.
    """

    token: str = field(repr=False)
    stream: str | None = None
    seq: int = 0

    def __post_init__(self) -> None:
        if type(self.seq) is not int or (self.seq < 1 if self.stream is not None else self.seq != 0):
            raise ValueError(
                "only the stream or the place of the record is given, or the place is below 1; give both or neither"
            )


def unverified_certificate(token: str) -> Certificate:
    """Return the content of a certificate after checking its form alone; anyone can have written it.

    Args:
        token: The result of :meth:`Certificate.sign`.

    Raises:
        TokenError: It is malformed (``bad_recorder_certificate``, or a code of
            :func:`parse_compact`), or another kind of token (``wrong_type``).
    """
    return _certificate(parse_compact(token, most=MAX_CERTIFICATE).unverified(CERTIFICATE_TYPE))


def trusted_certificate(token: str, trust: TrustEntries) -> tuple[Certificate, TrustedKey]:
    """Return a certificate and the root that signed it, after all checks except its validity period.

    Someone else than the root may have signed it, if that is revoked;
    :attr:`~agent_identity.identity.Vouched.doubted` is about that.

    Args:
        token: The result of :meth:`Certificate.sign`.
        trust: The trust store.

    Raises:
        TokenError: It is malformed (``bad_recorder_certificate``, or a code of
            :func:`parse_compact`), another kind of token (``wrong_type``), signed by no root
            of the trust file (``unknown_key``), not signed by that key (``bad_signature``), dated outside the time in
            which the root counts (``key_not_valid_then``), for a log outside the origin of the root
            (``wrong_origin``), for another issuer than the root may name (``wrong_issuer``), or dated from when others
            may have had the key of the root (``signed_after_revocation``).
    """
    parts = parse_compact(token, most=MAX_CERTIFICATE)
    root = None if parts.kid is None else trust.get(parts.kid, "root")
    if root is None:
        raise TokenError(
            "no root of the trust file signed the certificate; add the root if it should be trusted", code="unknown_key"
        )
    certificate = _certificate(parts.verify(root.key, CERTIFICATE_TYPE))
    if not root.in_time(certificate.not_before):
        raise TokenError("the certificate was made when its root did not count", code="key_not_valid_then")
    if root.origin is None or not covers(root.origin, certificate.origin):
        raise TokenError("the certificate is for a log outside the origin of its root", code="wrong_origin")
    if root.issuer not in (None, certificate.issuer):
        raise TokenError("the certificate names another issuer than its root", code="wrong_issuer")
    if root.revoked_since is not None and certificate.not_before >= root.revoked_since:
        message = "the certificate was made after its root was revoked"
        raise TokenError(message, code="signed_after_revocation")
    return certificate, root


def certified(
    trust: Store,
    certificates: Iterable[str | Presented],
    *,
    refused: Callable[[Presented, TokenError], object] | None = None,
) -> Store:
    """Return a view of the store that trusts what its roots certify, within the bounds of each certificate.

    A key that the trust file lists for a purpose is judged by its entry alone, so that an entry with
    ``revoked_since`` ends what a certificate began. One that it calls revoked, a root or a witness gets no other
    purpose by a certificate. The view is for verification; it cannot be written to a file.

    Args:
        trust: The trusted keys, roots among them.
        certificates: Signed certificates, in any order.
        refused: Is told which certificates do not count, and why; by default the first of them is an error.

    Raises:
        TokenError: A certificate does not count, and no one is to be told.
    """
    known: dict[str, Vouched | None] = {voucher.token: voucher for key in trust.keys for voucher in key.certificates}
    # A certificate in many places is verified once.
    places = {token: dict.fromkeys(voucher.places) for token, voucher in known.items() if voucher is not None}
    for one in certificates:
        presented = Presented(one) if isinstance(one, str) else one
        if presented.token not in known:
            known[presented.token] = _vouched(presented, trust, refused)
        if presented.stream is not None:
            places.setdefault(presented.token, {})[presented.stream, presented.seq] = None
    vouched = [
        replace(voucher, places=tuple(places.get(token, ()))) for token, voucher in known.items() if voucher is not None
    ]
    return _extended(trust, vouched) if vouched else trust


def _vouched(
    presented: Presented, trust: TrustEntries, refused: Callable[[Presented, TokenError], object] | None
) -> Vouched | None:
    """Return a certificate that counts, or ``None`` after reporting the reason."""
    try:
        certificate, root = trusted_certificate(presented.token, trust)
    except TokenError as error:
        if refused is None:
            raise
        refused(presented, error)
        return None
    return Vouched(certificate, presented.token, root)


def _extended(trust: Store, vouched: Iterable[Vouched]) -> Store:
    listed = tuple(key for key in trust.keys if not key.certificates)
    taken = {(key.key, key.purpose) for key in listed}
    barred: set[object] = {key.key for key in listed if key.purpose == "root" or key.revoked_since is not None}
    barred |= {witness.key for witness in trust.witnesses.keys}
    added: dict[tuple[PublicKey, EntryPurpose], list[Vouched]] = {}
    for voucher in vouched:
        certificate = voucher.certificate
        pairs: tuple[tuple[PublicKey, EntryPurpose], ...] = (
            (certificate.recorder, "recorder"),
            (certificate.issuer_key, "issuer"),
        )
        for pair in pairs:
            if pair not in taken and pair[0] not in barred:
                added.setdefault(pair, []).append(voucher)
    keys = (TrustedKey(key, purpose, certificates=tuple(some)) for (key, purpose), some in added.items())
    return replace(trust, keys=(*listed, *keys))


def _certificate(claims: Mapping[str, JSON]) -> Certificate:
    issuer = claims.get("issuer")
    if sorted(claims) != _CLAIMS or not isinstance(issuer, dict) or sorted(issuer) != _ISSUER_CLAIMS:
        raise _bad("the claims are not exactly those of a certificate")
    principals = claims["principals"]
    if not isinstance(principals, list):
        raise _bad("the kinds of principals are not a list of texts")
    try:
        return Certificate(
            recorder=_key(claims["recorder"]),
            origin=text_of(claims, "origin"),
            issuer_key=_key(issuer["key"]),
            issuer=text_of(issuer, "uri"),
            principals=tuple(word(kind, "each kind of principals", _KINDS) for kind in principals),
            not_before=int_of(claims, "nbf"),
            expires_at=int_of(claims, "exp"),
        )
    except (TypeError, ValueError) as error:
        raise _bad(str(error)) from None


def _key(jwk: JSON) -> PublicKey:
    key = PublicKey.from_jwk(jwk)
    if key.to_jwk() != jwk:
        raise ValueError("a key does not have exactly the members crv, kty and x")
    return key


def _bad(message: str) -> TokenError:
    return TokenError(f"malformed certificate: {message}", code="bad_recorder_certificate")
