"""Entries of a trust store: keys with purposes, periods and revocations, witnesses, and lookups over them."""

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal, Self, TypeAlias, TypeVar, final, get_args

from agent_identity._identity.common.encoding import b64url_encode
from agent_identity._identity.common.names import check_id
from agent_identity._identity.common.periods import MAX_TIME, check_period, check_time, within
from agent_identity._identity.keys.cosigners import Cosigner
from agent_identity._identity.keys.keys import PublicKey
from agent_identity._identity.trust._origins import check_origin, check_origin_pattern, covers, is_prefix
from agent_identity._identity.trust.approvers import Approver
from agent_identity.errors import ConfigurationError, TokenError

if TYPE_CHECKING:
    from agent_identity._identity.trust.certificates import Certificate

Purpose: TypeAlias = Literal["issuer", "recorder"]
"""Purposes of a directory's keys: root grants, or records and checkpoints."""

EntryPurpose: TypeAlias = Literal["issuer", "recorder", "closer", "policy", "root"]
"""Purposes of listed keys: also closures of streams, bundles of policies, or certificates and trust files."""

_PURPOSES: Final = frozenset(get_args(EntryPurpose))
_MAX_SIZE: Final = (1 << 63) - 1
_ROOT_SIZE: Final = 32
_MAX_WITNESSES: Final = 64
_MAX_MERGED: Final = 1_024
_ID_BYTES: Final = 16


def _new_id() -> str:
    return b64url_encode(os.urandom(_ID_BYTES))


@final
@dataclass(frozen=True, slots=True)
class Takeover:
    """The size of the origin's log when a recorder key took over from another.

    Args:
        size: Entries of the log at that moment, from 0 to 2^63 - 1.
        root: The 32 bytes of the root of the Merkle tree over them.

    Raises:
        TypeError: A field has the wrong type.
        ValueError: A field is out of range.
    """

    size: int
    root: bytes

    def __post_init__(self) -> None:
        if type(self.size) is not int or type(self.root) is not bytes:
            raise TypeError("the size of the log is not an int, or its root is not bytes")
        if not 0 <= self.size <= _MAX_SIZE or len(self.root) != _ROOT_SIZE:
            raise ValueError(f"the log size is not from 0 to 2^63 - 1, or the root is not {_ROOT_SIZE} bytes long")


@final
@dataclass(frozen=True, slots=True)
class Vouched:
    """A certificate signed by a root of the store, and the evidence of its date.

    Args:
        certificate: The content of the certificate.
        token: The signed certificate.
        root: The entry of the root.
        places: Its places in a log: streams, each with the place of the record; empty if it was handed over.
        older: Whether it is shown to be older than the theft of the root.
    """

    certificate: "Certificate"
    token: str = field(repr=False)
    root: "TrustedKey" = field(repr=False)
    places: tuple[tuple[str, int], ...] = field(default=(), repr=False)
    older: bool = False

    @property
    def doubted(self) -> bool:
        """True if another party than the root may have made it, at any time, with any date."""
        return self.root.revoked_since is not None and not self.older

    def in_time(self, at: int) -> bool:
        """Return whether it is valid in a second since the Unix epoch."""
        return self.certificate.not_before <= at < self.certificate.expires_at


@final
@dataclass(frozen=True, slots=True)
class TrustedKey:
    """A public key, its purpose, and its validity period.

    Args:
        key: The key.
        purpose: ``"issuer"`` for root grants, ``"recorder"`` for records and checkpoints, ``"closer"`` for closures
            of streams whose processes died, ``"policy"`` for bundles of policies, ``"root"`` for certificates of
            recorders and for trust files.
        not_before: First second, since the Unix epoch, in which its signatures count; ``None`` for ever.
        not_after: Last second in which they count; ``None`` for ever.
        issuer: The URI that root grants signed by the key must name; ``None`` for that of the store. Give it to
            the keys of other issuers, so that none of them can speak in the name of another. For a root: the URI that
            its certificates must name; ``None`` lets it name any.
        revoked_since: Second from which on others may have had the private key; ``None`` if no one else
            has it. The holder of a key dates its signatures at will, so that from then on no signature of
            the key proves anything by itself.
        reason: Why it was revoked, by the rules of :func:`~agent_identity.identity.check_id`; only with
            ``revoked_since``.
        takes_over: For the recorder key that follows another: how far the log was.
        origin: The log whose checkpoints a recorder key may sign, or whose streams a closer may close; ``None`` for
            that of the store. Give it to the keys of other logs, so that none of them can speak for another. What ends
            in ``/`` is a prefix and covers whole segments below it. A root needs one: the logs for which it may
            certify keys.
        recorders_only: For a root: it certifies recorders and signs no trust file. Give it to the root of a service.
        certificates: Instead of all that: why a key counts that no file lists. Made by
            :func:`~agent_identity.identity.certified`.

    Raises:
        TypeError: A field has the wrong type.
        ValueError: The purpose is unknown, the times are out of range or out of order, an issuer or origin stands
            beside a key of another purpose, or a root has no origin.
    """

    key: PublicKey
    purpose: EntryPurpose
    not_before: int | None = field(default=None, kw_only=True)
    not_after: int | None = field(default=None, kw_only=True)
    issuer: str | None = field(default=None, kw_only=True)
    revoked_since: int | None = field(default=None, kw_only=True)
    reason: str | None = field(default=None, kw_only=True)
    takes_over: Takeover | None = field(default=None, kw_only=True)
    origin: str | None = field(default=None, kw_only=True)
    recorders_only: bool = field(default=False, kw_only=True)
    certificates: tuple[Vouched, ...] = field(default=(), kw_only=True)

    def __post_init__(self) -> None:
        if type(self.key) is not PublicKey:
            raise TypeError(f"the key is {type(self.key).__name__}; give a PublicKey")
        if self.purpose not in _PURPOSES:
            raise ValueError("the purpose is not issuer, recorder, closer, policy or root")
        check_period(self.not_before, self.not_after)
        if self.issuer is not None and self.purpose not in ("issuer", "root"):
            raise ValueError("the key has an issuer, but its purpose is not issuer or root; leave it out")
        if self.issuer is not None:
            check_id(self.issuer, "issuer")
        check_time(self.revoked_since, "revoked_since")
        if self.reason is not None and check_id(self.reason, "reason") and self.revoked_since is None:
            raise ValueError("the key has a reason but is not revoked; give revoked_since as well")
        if self.takes_over is not None and self.purpose != "recorder":
            raise ValueError("the key takes over a log, but its purpose is not recorder")
        if self.takes_over is not None and self.origin is not None and is_prefix(self.origin):
            raise ValueError("the key took over a prefix of logs; name the log")
        if type(self.recorders_only) is not bool:
            raise TypeError("recorders_only is not a bool")
        if self.recorders_only and self.purpose != "root":
            raise ValueError("the key is for recorders only, but its purpose is not root; leave it out")
        self._check_origin()

    def _check_origin(self) -> None:
        if self.origin is not None:
            if self.purpose not in ("recorder", "closer", "root"):
                raise ValueError("the key has an origin, but its purpose is not recorder, closer or root; leave it out")
            check_origin_pattern(self.origin)
        elif self.purpose == "root":
            raise ValueError("the root has no origin; name the log, or the prefix of logs, that it may certify")

    @property
    def signs_trust(self) -> bool:
        """True for a root that may sign trust files, and that no one else may have."""
        return self.purpose == "root" and self.sound and not self.recorders_only

    @property
    def sound(self) -> bool:
        """True if no one else may have the key, or that of the root that certified it."""
        if self.certificates:
            return not all(voucher.doubted for voucher in self.certificates)
        return self.revoked_since is None

    def in_time(self, at: int) -> bool:
        """Return whether a second, since the Unix epoch, is within the validity period of its signatures."""
        if self.certificates:
            return any(voucher.in_time(at) for voucher in self.certificates)
        return within(at, self.not_before, self.not_after)

    def counts(self, at: int) -> bool:
        """Return whether its signatures count in a second, and no one else may have made them."""
        if self.certificates:
            return any(voucher.in_time(at) and not voucher.doubted for voucher in self.certificates)
        return self.sound and self.in_time(at)

    def logs(self, default: str | None) -> set[str | None]:
        """Return the patterns of the logs that a recorder key may sign for; ``None`` means any.

        Args:
            default: The log of the store.
        """
        if self.certificates:
            return {voucher.certificate.origin for voucher in self.certificates}
        return {self.origin or default}

    def of_log(self, origin: str, default: str | None) -> "TrustedKey | None":
        """Return the part of the entry for one log, or ``None`` if the key may not sign for it.

        An issuer that is certified may issue for each log of its root, since tasks go from host to host.

        Args:
            origin: The name of the log.
            default: The log of the store.
        """
        if self.certificates:
            recorder = self.purpose == "recorder"
            some = tuple(
                voucher
                for voucher in self.certificates
                if covers(voucher.certificate.origin if recorder else voucher.root.origin or "", origin)
            )
            return (self if some == self.certificates else replace(self, certificates=some)) if some else None
        if self.purpose not in ("recorder", "closer"):
            return self
        allowed = default in (None, origin) if self.origin is None else covers(self.origin, origin)
        return self if allowed else None


@final
@dataclass(frozen=True, slots=True)
class Witnesses:
    """Other parties that cosign the checkpoints of the origin, and the number required.

    Args:
        keys: The witnesses, each key once; at most 64.
        required: So many of them, from 1 on, must vouch for the log; ``None`` for all.
        periods: First and last second in which each of them counts, either of which may be ``None``, in the order of
            the keys; empty if all count for ever.

    Raises:
        TypeError: A field has the wrong type.
        ValueError: A witness is there twice, more are required than there are, or the periods are not theirs.
    """

    keys: tuple[Cosigner, ...]
    required: int | None = None
    periods: tuple[tuple[int | None, int | None], ...] = ()

    def __post_init__(self) -> None:
        if type(self.keys) is not tuple or any(type(key) is not Cosigner for key in self.keys):
            raise TypeError("the witnesses are not a tuple of Cosigner")
        # One key under two names would be counted as two parties.
        if len({key.key for key in self.keys}) != len(self.keys):
            raise ValueError("a key is twice among the witnesses; drop one")
        if len(self.keys) > _MAX_WITNESSES:
            raise ValueError(f"there are {len(self.keys)} witnesses, more than {_MAX_WITNESSES}")
        if self.required is not None and (type(self.required) is not int or not 1 <= self.required <= len(self.keys)):
            raise ValueError(
                f"{self.required} of {len(self.keys)} witnesses are required; require from 1 to all, or "
                "name more witnesses"
            )
        if self.periods and len(self.periods) != len(self.keys):
            raise ValueError("some witnesses have a period and some have none; give one for each, or for none")
        for not_before, not_after in self.periods:
            check_period(not_before, not_after)

    @property
    def quorum(self) -> int:
        """The number of witnesses that must cosign."""
        return len(self.keys) if self.required is None else self.required

    def in_time(self, witness: Cosigner, at: int) -> bool:
        """Return whether a cosignature made in a second, since the Unix epoch, counts."""
        return not self.periods or within(at, *self.periods[self.keys.index(witness)])


@final
@dataclass(frozen=True, slots=True)
class FileVersion:
    """The id and revision of a trust file, and what signed it; without arguments, those of a new file.

    Args:
        id: Names the file through all its changes; see :func:`~agent_identity.identity.check_id`. By default 128
            random bits in 22 base64url characters.
        revision: Rises with each change, from 1 to 2^53 - 1.
        merged_from: The files that were put together in it since it was signed; see
            :func:`~agent_identity.identity.merged`.
        signature: The signature of a root over the file, as it stands there; ``None`` for a file without.

    Raises:
        TypeError: A field has the wrong type.
        ValueError: A field breaks a rule.
    """

    id: str = field(default_factory=_new_id)
    revision: int = 1
    merged_from: tuple[str, ...] = field(default=(), kw_only=True)
    signature: str | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        check_id(self.id, "id")
        if type(self.revision) is not int or type(self.merged_from) is not tuple:
            raise TypeError("the revision is not an int, or the merged files are not a tuple")
        if not 1 <= self.revision <= MAX_TIME:
            raise ValueError("the revision is not from 1 to 2^53 - 1")
        if len(self.merged_from) > _MAX_MERGED:
            raise ValueError(f"the file is merged from more than {_MAX_MERGED} others")
        if self.merged_from and self.signature is not None:
            raise ValueError("the merged file has a signature; sign it again")

    def following(self) -> int:
        """Return the next revision.

        Raises:
            ConfigurationError: The revision is the last one.
        """
        if self.revision == MAX_TIME:
            raise ConfigurationError("the revision is the last one, 2^53 - 1; begin a file with a new id")
        return self.revision + 1


@dataclass(frozen=True, slots=True)
class TrustEntries:
    """The content of a trust store: the keys that a verifier accepts, and the names that it requires.

    Args:
        keys: The trusted keys; one key has each purpose at most once.
        issuer: The issuer that root grants must name, unless their key has an issuer of its own; ``None``
            accepts any that a trusted key signed.
        origin: The log that checkpoints must come from, unless their key has an origin of its own; ``None`` accepts
            any that a trusted key signed.
        witnesses: Parties whose cosignatures the log needs.
        approvers: Credentials of persons who approve, each once.
        file: The id and revision of the trust file; by default those of a new file.

    Raises:
        TypeError: A field has the wrong type.
        ValueError: A key has the same purpose twice, a credential is there twice, or a name breaks the rules of
            :func:`~agent_identity.identity.check_id`. An origin also has neither spaces nor ``+``, since
            it names the key of a signed note (C2SP signed-note).
    """

    keys: tuple[TrustedKey, ...] = ()
    issuer: str | None = field(default=None, kw_only=True)
    origin: str | None = field(default=None, kw_only=True)
    witnesses: Witnesses = field(default=Witnesses(()), kw_only=True)
    approvers: tuple[Approver, ...] = field(default=(), kw_only=True)
    file: FileVersion = field(default_factory=FileVersion, kw_only=True)
    _index: Mapping[tuple[str, str], TrustedKey] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if type(self.keys) is not tuple:
            raise TypeError(f"keys is {type(self.keys).__name__}; give a tuple")
        index: dict[tuple[str, str], TrustedKey] = {}
        for trusted in self.keys:
            if type(trusted) is not TrustedKey:
                raise TypeError(f"a key is {type(trusted).__name__}; give a TrustedKey")
            name = (trusted.key.thumbprint, trusted.purpose)
            if name in index:
                raise ValueError(f"a key is there twice as {trusted.purpose}; drop one")
            index[name] = trusted
        if self.issuer is not None:
            check_id(self.issuer, "issuer")
        if self.origin is not None:
            check_origin(self.origin)
        if type(self.witnesses) is not Witnesses:
            raise TypeError(f"witnesses is {type(self.witnesses).__name__}; give Witnesses")
        self._check_approvers()
        if type(self.file) is not FileVersion:
            raise TypeError(f"file is {type(self.file).__name__}; give a FileVersion")
        object.__setattr__(self, "_index", MappingProxyType(index))

    def _check_approvers(self) -> None:
        if type(self.approvers) is not tuple or any(type(one) is not Approver for one in self.approvers):
            raise TypeError("the approvers are not a tuple of Approver")
        if len({one.credential for one in self.approvers}) != len(self.approvers):
            raise ValueError("a credential is twice among the approvers; drop one")

    def __reduce__(self) -> tuple[object, ...]:
        return (_restore, (type(self), {one.name: getattr(self, one.name) for one in fields(self) if one.init}))

    def recorders(self, origin: str) -> tuple[TrustedKey, ...]:
        """Return the recorder keys that may sign checkpoints of a log."""
        own = (key.of_log(origin, self.origin) for key in self.keys if key.purpose == "recorder")
        return tuple(key for key in own if key is not None)

    def of_log(self, origin: str) -> Self:
        """Return this store with no other recorder keys than those of a log, and with its origin.

        Certified issuers stay as far as a root certified them that may certify for the log. If no key has an origin
        of its own, or none may sign for the log, all keys stay, and the origin of the store.

        What a key took over counts if it is said to be this log: by the key, or else by the store.
        """
        keys, named = self.keys, self.origin
        recorders = self.recorders(origin)
        if recorders and any(key.origin is not None or key.certificates for key in keys):
            others = (key.of_log(origin, self.origin) for key in keys if key.purpose != "recorder")
            keys, named = (*(key for key in others if key is not None), *recorders), origin
        if self.origin != origin:
            keys = tuple(replace(key, takes_over=None) if key.takes_over and not key.origin else key for key in keys)
        return self if keys == self.keys and named == self.origin else replace(self, keys=keys, origin=named)

    def get(self, thumbprint: str, purpose: EntryPurpose) -> TrustedKey | None:
        """Return the entry of a listed key for a purpose, at any time, or ``None``."""
        entry = self._index.get((thumbprint, purpose))
        return None if entry is None or entry.certificates else entry

    def lookup(self, thumbprint: str, purpose: EntryPurpose) -> TrustedKey | None:
        """Return the entry of a key for a purpose, listed or certified, at any time, or ``None``.

        Certified keys sign grants, rulings, records and checkpoints. For all else, :meth:`get` finds listed keys alone.
        """
        return self._index.get((thumbprint, purpose))

    def find(self, thumbprint: str, purpose: EntryPurpose, *, at: int) -> PublicKey:
        """Return the key whose signature counts for the purpose at the time.

        Args:
            thumbprint: The name of the key (RFC 7638), as the signed object gives it.
            purpose: The purpose of the signature.
            at: When it signed, in seconds since the Unix epoch.

        Raises:
            TokenError: With code ``unknown_key`` if the store does not hold the key for this purpose,
                ``key_revoked`` if someone else may have it, whatever the time, since who has the key
                dates at will, ``key_not_valid_then`` if it is good, but not for this time.
        """
        trusted = self._index.get((thumbprint, purpose))
        if trusted is None:
            raise TokenError(
                f"the key is not trusted as {purpose}; use the trust file of who has it",
                code="unknown_key",
            )
        if trusted.revoked_since is not None:
            raise TokenError(
                f"the {purpose} key is revoked, and others may have it",
                code="key_revoked",
            )
        if trusted.certificates and trusted.in_time(at):
            refuse_doubted(tuple(voucher for voucher in trusted.certificates if voucher.in_time(at)))
        if not trusted.in_time(at):
            raise TokenError(
                f"the signature was made when the {purpose} key was not valid",
                code="key_not_valid_then",
            )
        return trusted.key

    def check_issuer(self, thumbprint: str, issuer: str) -> None:
        """Check that the issuer key of this name may sign root grants of the issuer.

        Args:
            thumbprint: The name of the key (RFC 7638).
            issuer: The issuer that the root grant names.

        Raises:
            TokenError: With code ``unknown_key`` if the store does not hold the key, ``wrong_issuer`` if it may
                sign for another issuer only.
        """
        trusted = self.get(thumbprint, "issuer")
        if trusted is None:
            raise TokenError("the key is not trusted as issuer", code="unknown_key")
        if issuer != (trusted.issuer or self.issuer or issuer):
            raise _wrong_issuer()

    def check_speaker(self, thumbprint: str, issuer: str, kinds: Collection[str], *, at: int) -> None:
        """Check that the issuer key of this name may speak for principals of these kinds, for the issuer.

        A listed key may speak for all kinds, and when is not asked. One certificate has to cover all of it.

        Args:
            thumbprint: The name of the key (RFC 7638).
            issuer: The issuer that is named.
            kinds: The kinds of those for whom it speaks.
            at: When, in seconds since the Unix epoch.

        Raises:
            TokenError: With a code of :meth:`check_issuer`; for a certified key ``key_not_valid_then``,
                ``wrong_principal``, and those of :meth:`find` about a revoked root.
        """
        trusted = self.lookup(thumbprint, "issuer")
        if trusted is None or not trusted.certificates:
            self.check_issuer(thumbprint, issuer)
            return
        vouchers = [voucher for voucher in trusted.certificates if voucher.certificate.issuer == issuer]
        if not vouchers:
            raise _wrong_issuer()
        vouchers = [voucher for voucher in vouchers if voucher.in_time(at)]
        if not vouchers:
            raise TokenError("no certificate of the key is valid at this time", code="key_not_valid_then")
        vouchers = [voucher for voucher in vouchers if set(kinds) <= set(voucher.certificate.principals)]
        if not vouchers:
            raise TokenError(
                "the issuer may not speak for this kind of principal; its certificate names which kinds",
                code="wrong_principal",
            )
        refuse_doubted(vouchers)

    def with_key(
        self,
        key: PublicKey,
        purpose: EntryPurpose,
        *,
        not_before: int | None = None,
        not_after: int | None = None,
        issuer: str | None = None,
        origin: str | None = None,
        recorders_only: bool = False,
    ) -> Self:
        """Return a store that trusts one more key, of the next revision; this one stays as it is.

        Raises:
            ValueError: The key has this purpose already, or another argument of :class:`TrustedKey` is wrong.
        """
        added = TrustedKey(
            key,
            purpose,
            not_before=not_before,
            not_after=not_after,
            issuer=issuer,
            origin=origin,
            recorders_only=recorders_only,
        )
        return self.with_keys((*self.keys, added))

    def with_keys(self, keys: tuple[TrustedKey, ...]) -> Self:
        """Return a store of the same names with exactly these keys, of the next revision and unsigned.

        Raises:
            ValueError: A key has one purpose twice.
            ConfigurationError: The revision is the last one.
        """
        file = replace(self.file, revision=self.file.following(), signature=None)
        return replace(self, keys=keys, file=file)


Store = TypeVar("Store", bound=TrustEntries)
"""A trust store, or its content."""


def refuse_doubted(vouchers: Collection[Vouched]) -> None:
    """Refuse a key all of whose certificates a revoked root signed.

    Raises:
        TokenError: With code ``key_revoked``.
    """
    if not all(voucher.doubted for voucher in vouchers):
        return
    message = "nothing proves that the certificate is older than the revocation of its root"
    raise TokenError(message, code="key_revoked")


def _wrong_issuer() -> TokenError:
    return TokenError("the root grant is of another issuer than its key may sign for", code="wrong_issuer")


def _restore(kind: type[Store], named: dict[str, Any]) -> Store:
    return kind(**named)
