"""Whose signatures count, for what, and when."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal, Self, TypeAlias, final, get_args

from agent_identity.errors import ConfigurationError, TokenError
from agent_identity.identity.cosigners import Cosigner
from agent_identity.identity.keys import PublicKey
from agent_identity.identity.principals import check_id
from agent_identity.identity.private_files import PathLike, create_public_file, read_trusted_file, replace_public_file
from agent_identity.typed import typed_calls

if TYPE_CHECKING:
    from agent_identity.identity.ml_dsa import MlDsaPublicKey
    from agent_identity.identity.trust_file import SecondKeyEntry, TakeoverEntry, TrustFile

__all__ = ["Purpose", "SecondKey", "Takeover", "TrustStore", "TrustedKey", "Witnesses"]

Purpose: TypeAlias = Literal["issuer", "recorder"]
"""What a key may sign: root grants, or records and checkpoints."""

_PURPOSES: Final = frozenset(get_args(Purpose))
_MAX_TRUST_FILE: Final = 1 << 20
_MAX_TIME: Final = (1 << 53) - 1  # Every reader of JSON keeps integers up to here.
_MAX_SIZE: Final = (1 << 63) - 1
_ROOT_SIZE: Final = 32
_MAX_WITNESSES: Final = 64


@final
@dataclass(frozen=True, slots=True)
class Takeover:
    """How far the log of the origin was when a recorder key took over from another.

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
            raise TypeError("expected the size of a log as an int and its root as bytes")
        if not 0 <= self.size <= _MAX_SIZE or len(self.root) != _ROOT_SIZE:
            raise ValueError(f"expected a log size from 0 to 2^63 - 1 and a root of {_ROOT_SIZE} bytes")


@final
@dataclass(frozen=True, slots=True)
class TrustedKey:
    """A public key, what it may sign, and in which time.

    Args:
        key: The key.
        purpose: ``"issuer"`` for root grants, ``"recorder"`` for records and checkpoints.
        not_before: First second, since the Unix epoch, in which its signatures count; ``None`` for ever.
        not_after: Last second in which they count; ``None`` for ever.
        issuer: The URI that root grants signed by the key must name; ``None`` for that of the store. Give it to
            the keys of other issuers, so that none of them can speak in the name of another.
        revoked_since: Second from which on others may have had the private key; ``None`` if nobody else
            has it. Whoever has a key dates what it signs at will, so that from then on no signature of
            the key proves anything by itself.
        reason: Why it was revoked, by the rules of :func:`~agent_identity.identity.check_id`; only with
            ``revoked_since``.
        takes_over: For the recorder key that follows another: how far the log was.
        origin: The log whose checkpoints a recorder key may sign; ``None`` for that of the store. Give it to the keys
            of other logs, so that none of them can speak for another.

    Raises:
        TypeError: A field has the wrong type.
        ValueError: The purpose is unknown, the times are out of range or out of order, a key that signs
            no grants has an issuer, or one that signs no checkpoints an origin.
    """

    key: PublicKey
    purpose: Purpose
    not_before: int | None = field(default=None, kw_only=True)
    not_after: int | None = field(default=None, kw_only=True)
    issuer: str | None = field(default=None, kw_only=True)
    revoked_since: int | None = field(default=None, kw_only=True)
    reason: str | None = field(default=None, kw_only=True)
    takes_over: Takeover | None = field(default=None, kw_only=True)
    origin: str | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        if type(self.key) is not PublicKey:
            raise TypeError(f"expected a PublicKey, got {type(self.key).__name__}")
        if self.purpose not in _PURPOSES:
            raise ValueError("expected the purpose issuer or recorder")
        _check_time(self.not_before, "not_before")
        _check_time(self.not_after, "not_after")
        if self.not_before is not None and self.not_after is not None and self.not_before > self.not_after:
            raise ValueError("expected not_before to be at most not_after; exchange them")
        if self.issuer is not None and self.purpose != "issuer":
            raise ValueError("expected an issuer only beside a key of the purpose issuer; leave it out")
        if self.issuer is not None:
            check_id(self.issuer, "issuer")
        _check_time(self.revoked_since, "revoked_since")
        if self.reason is not None and check_id(self.reason, "reason") and self.revoked_since is None:
            raise ValueError("expected a reason with a revoked key only; give revoked_since as well")
        if self.takes_over is not None and self.purpose != "recorder":
            raise ValueError("expected only a recorder key to take over a log")
        if self.origin is not None:
            if self.purpose != "recorder":
                raise ValueError("expected an origin only beside a key of the purpose recorder; leave it out")
            _check_origin(self.origin)

    def in_time(self, at: int) -> bool:
        """Return whether a second, since the Unix epoch, is within ``not_before`` and ``not_after``."""
        return (self.not_before is None or at >= self.not_before) and (self.not_after is None or at <= self.not_after)


def _check_origin(origin: str) -> None:
    if "+" in check_id(origin, "origin") or len(origin.split()) != 1:
        raise ValueError("expected an origin without spaces and plus signs; copy it from the trust.json of that log")


def _check_time(value: int | None, what: str) -> None:
    if value is None:
        return
    if type(value) is not int:
        raise TypeError(f"expected {what} in whole seconds (int), got {type(value).__name__}")
    if not 0 <= value <= _MAX_TIME:
        raise ValueError(f"expected {what} in seconds since 1970, from 0 to 2^53 - 1")


@final
@dataclass(frozen=True, slots=True)
class SecondKey:
    """A key that signs every checkpoint of the origin in addition to the recorder key, from some entry on.

    Args:
        key: The key.
        takes_over: How far the log was when it began. Checkpoints over more entries need its signature, up to the
            place where the next one takes over.

    Raises:
        TypeError: A field has the wrong type.
    """

    key: "MlDsaPublicKey"
    takes_over: Takeover

    def __post_init__(self) -> None:
        from agent_identity.identity.ml_dsa import MlDsaPublicKey  # noqa: PLC0415  Few logs have such a key.

        pair: tuple[object, object] = (self.key, self.takes_over)
        if (type(pair[0]), type(pair[1])) != (MlDsaPublicKey, Takeover):
            raise TypeError("expected an MlDsaPublicKey and a Takeover")


@final
@dataclass(frozen=True, slots=True)
class Witnesses:
    """Other parties that cosign the checkpoints of the origin, and how many of them must.

    Args:
        keys: The witnesses, each key once; at most 64.
        required: So many of them, from 1 on, must vouch for the log; ``None`` for all.

    Raises:
        TypeError: A field has the wrong type.
        ValueError: A witness is there twice, or more are required than there are.
    """

    keys: tuple[Cosigner, ...]
    required: int | None = None

    def __post_init__(self) -> None:
        if type(self.keys) is not tuple or any(type(key) is not Cosigner for key in self.keys):
            raise TypeError("expected the witnesses as a tuple of Cosigner")
        # One key under two names would be counted as two parties.
        if len({key.key for key in self.keys}) != len(self.keys):
            raise ValueError("expected each witness once, got a key twice; drop one")
        if len(self.keys) > _MAX_WITNESSES:
            raise ValueError(f"expected at most {_MAX_WITNESSES} witnesses, got {len(self.keys)}")
        if self.required is not None and (type(self.required) is not int or not 1 <= self.required <= len(self.keys)):
            raise ValueError("expected to require from 1 to all of the witnesses")

    @property
    def quorum(self) -> int:
        """How many of them must vouch."""
        return len(self.keys) if self.required is None else self.required


@typed_calls("load")
@final
@dataclass(frozen=True, slots=True)
class TrustStore:
    """The keys that a verifier accepts, and the names that it expects.

    Args:
        keys: The trusted keys; one key has each purpose at most once.
        issuer: The issuer that root grants must name, unless their key has an issuer of its own; ``None``
            accepts any that a trusted key signed.
        origin: The log that checkpoints must come from, unless their key has an origin of its own; ``None`` accepts
            any that a trusted key signed.
        second_keys: The keys whose signature checkpoints need in addition, in the order in which they took over.
        witnesses: Who else must vouch for the log.

    Raises:
        TypeError: A field has the wrong type.
        ValueError: A key has the same purpose twice, second keys are not in their order or stand without an origin,
            or a name breaks the rules of
            :func:`~agent_identity.identity.check_id`. An origin also has neither spaces nor ``+``, since
            it names the key of a signed note (C2SP signed-note).
    """

    keys: tuple[TrustedKey, ...] = ()
    issuer: str | None = field(default=None, kw_only=True)
    origin: str | None = field(default=None, kw_only=True)
    second_keys: tuple[SecondKey, ...] = field(default=(), kw_only=True)
    witnesses: Witnesses = field(default=Witnesses(()), kw_only=True)
    _index: Mapping[tuple[str, str], TrustedKey] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if type(self.keys) is not tuple:
            raise TypeError(f"expected keys to be a tuple, got {type(self.keys).__name__}")
        index: dict[tuple[str, str], TrustedKey] = {}
        for trusted in self.keys:
            if type(trusted) is not TrustedKey:
                raise TypeError(f"expected each key to be a TrustedKey, got {type(trusted).__name__}")
            name = (trusted.key.thumbprint, trusted.purpose)
            if name in index:
                raise ValueError(f"expected each key once per purpose, got one twice as {trusted.purpose}; drop one")
            index[name] = trusted
        if self.issuer is not None:
            check_id(self.issuer, "issuer")
        if self.origin is not None:
            _check_origin(self.origin)
        self._check_second_keys()
        object.__setattr__(self, "_index", MappingProxyType(index))

    def _check_second_keys(self) -> None:
        if type(self.second_keys) is not tuple or any(type(second) is not SecondKey for second in self.second_keys):
            raise TypeError("expected second_keys to be a tuple of SecondKey")
        sizes = [second.takes_over.size for second in self.second_keys]
        if sizes != sorted(sizes) or len({second.key for second in self.second_keys}) != len(sizes):
            raise ValueError("expected second keys in the order in which they took over, each once")
        if self.second_keys and self.origin is None:
            raise ValueError("expected an origin beside second keys; name the log that they sign for")
        if type(self.witnesses) is not Witnesses:
            raise TypeError(f"expected witnesses to be Witnesses, got {type(self.witnesses).__name__}")

    def __reduce__(self) -> tuple[object, ...]:
        return (_restore, (self.keys, self.issuer, self.origin, self.second_keys, self.witnesses))

    def second_keys_for(self, size: int) -> tuple[Cosigner, ...]:
        """Return the second keys of which one must have signed a checkpoint over so many entries, or none."""
        if not self.second_keys or size <= self.second_keys[0].takes_over.size:
            return ()
        ends = [second.takes_over.size for second in self.second_keys[1:]]
        return tuple(
            Cosigner(self.origin or "", second.key)
            for second, end in zip(self.second_keys, (*ends, size), strict=True)
            # Where one takes over from another, either may have signed.
            if second.takes_over.size <= size <= end
        )

    def recorders(self, origin: str) -> tuple[TrustedKey, ...]:
        """Return the recorder keys that may sign checkpoints of a log."""
        own = (key for key in self.keys if key.purpose == "recorder")
        return tuple(key for key in own if (key.origin or self.origin or origin) == origin)

    def of_log(self, origin: str) -> Self:
        """Return this store with no other recorder keys than those of a log, and with its origin.

        The store itself if no key has an origin of its own, or none may sign for the log.
        """
        recorders = self.recorders(origin)
        if not recorders or all(key.origin is None for key in self.keys):
            return self
        keys = tuple(key for key in self.keys if key.purpose != "recorder" or key in recorders)
        return replace(self, keys=keys, origin=origin, second_keys=self.second_keys if self.origin == origin else ())

    def get(self, thumbprint: str, purpose: Purpose) -> TrustedKey | None:
        """Return the entry of a key for a purpose, whatever the time, or ``None``."""
        return self._index.get((thumbprint, purpose))

    def find(self, thumbprint: str, purpose: Purpose, *, at: int) -> PublicKey:
        """Return the key whose signature counts for the purpose at the time.

        Args:
            thumbprint: The name of the key (RFC 7638), as the signed object gives it.
            purpose: What the key is to have signed.
            at: When it signed, in seconds since the Unix epoch.

        Raises:
            TokenError: With code ``unknown_key`` if the store does not hold the key for this purpose,
                ``key_revoked`` if somebody else may have it, whatever the time, since who has the key
                dates at will, and ``key_not_valid_then`` if it is good, but not for this time.
        """
        trusted = self._index.get((thumbprint, purpose))
        if trusted is None:
            raise TokenError(
                f"expected a key that is trusted as {purpose}, got another; add it to the trust file if it should be",
                code="unknown_key",
            )
        if trusted.revoked_since is not None:
            raise TokenError(
                f"expected a key of the {purpose} that is not revoked, got one that others may have",
                code="key_revoked",
            )
        if not trusted.in_time(at):
            raise TokenError(
                f"expected a signature from the time in which the {purpose} key is valid, got one from outside it",
                code="key_not_valid_then",
            )
        return trusted.key

    def check_issuer(self, thumbprint: str, issuer: str) -> None:
        """Return if the issuer key of this name may sign root grants of the issuer.

        Args:
            thumbprint: The name of the key (RFC 7638).
            issuer: The issuer that the root grant names.

        Raises:
            TokenError: With code ``unknown_key`` if the store does not hold the key, ``wrong_issuer`` if it may
                sign for another issuer only.
        """
        trusted = self._index.get((thumbprint, "issuer"))
        if trusted is None:
            raise TokenError("expected a key that is trusted as issuer, got another", code="unknown_key")
        if issuer != (trusted.issuer or self.issuer or issuer):
            raise TokenError(
                "expected a root grant of the issuer that its key may sign for, got one of another issuer",
                code="wrong_issuer",
            )

    def with_key(
        self,
        key: PublicKey,
        purpose: Purpose,
        *,
        not_before: int | None = None,
        not_after: int | None = None,
        issuer: str | None = None,
        origin: str | None = None,
    ) -> Self:
        """Return a store that trusts one more key; this one stays as it is.

        Raises:
            ValueError: The key has this purpose already, or another argument of :class:`TrustedKey` is wrong.
        """
        added = TrustedKey(key, purpose, not_before=not_before, not_after=not_after, issuer=issuer, origin=origin)
        return self.with_keys((*self.keys, added))

    def with_keys(self, keys: tuple[TrustedKey, ...]) -> Self:
        """Return a store of the same names that trusts exactly these keys; this one stays as it is.

        Raises:
            ValueError: A key has one purpose twice.
        """
        return replace(self, keys=keys)

    @classmethod
    def load(cls, source: PathLike | Mapping[str, object] | bytes) -> Self:
        """Return the store that a trust file describes.

        Args:
            source: The path of the file, its bytes, or its content already parsed.

        Raises:
            ConfigurationError: The file cannot be read, everybody can write it or its folder, it is larger than
                1 MiB, is no JSON, or holds anything but the members of the format: unknown or duplicate members, a
                private key, a ``kid`` that is not the key's thumbprint, a key twice for one purpose.
        """
        from agent_identity.identity.trust_file import parse_trust  # noqa: PLC0415  Loads pydantic.

        content = parse_trust(_document(source))
        try:
            keys = tuple(
                TrustedKey(
                    PublicKey.from_jwk({"kty": entry.kty, "crv": entry.crv, "x": entry.x}),
                    entry.purpose,
                    not_before=entry.not_before,
                    not_after=entry.not_after,
                    issuer=entry.issuer,
                    revoked_since=entry.revoked_since,
                    reason=entry.reason,
                    takes_over=None if entry.takes_over is None else _takeover(entry.takes_over),
                    origin=entry.origin,
                )
                for entry in content.keys
            )
            for number, (trusted, entry) in enumerate(zip(keys, content.keys, strict=True)):
                _check_kid(trusted, entry.kid, number)
            second, witnesses = _others(content)
            return cls(keys, issuer=content.issuer, origin=content.origin, second_keys=second, witnesses=witnesses)
        except ValueError as error:
            raise ConfigurationError(f"bad trust file: {error}") from None

    def to_json(self) -> bytes:
        """Return the content of the trust file: the same bytes for equal stores."""
        names = {"issuer": self.issuer, "origin": self.origin}
        others = _others_document(self)
        document = {
            "version": "2" if others or any(key.origin for key in self.keys) else "1",
            **{name: value for name, value in names.items() if value is not None},
            "keys": [_entry(trusted) for trusted in self.keys],
            **others,
        }
        return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()

    def create(self, path: PathLike) -> None:
        """Write a new trust file in one step, mode 0644.

        Raises:
            ConfigurationError: With code ``already_exists`` if something is at the path, which is left as it
                is; otherwise the file cannot be created.
        """
        create_public_file(path, self.to_json())

    def save(self, path: PathLike) -> None:
        """Write the trust file in one step, mode 0644, replacing an older one.

        Raises:
            ConfigurationError: The file cannot be written.
        """
        replace_public_file(path, self.to_json())


def _restore(
    keys: tuple[TrustedKey, ...],
    issuer: str | None,
    origin: str | None,
    second_keys: tuple[SecondKey, ...] = (),
    witnesses: Witnesses = Witnesses(()),
) -> TrustStore:
    return TrustStore(keys, issuer=issuer, origin=origin, second_keys=second_keys, witnesses=witnesses)


def _others(content: "TrustFile") -> tuple[tuple[SecondKey, ...], Witnesses]:
    """Return the second keys and the witnesses of a trust file."""
    second = tuple(map(_second, content.second_keys))
    for number, (key, entry) in enumerate(zip(second, content.second_keys, strict=True)):
        if key.key.thumbprint != entry.kid:
            raise ValueError(f"expected second_keys.{number}.kid to be the thumbprint of the key, got another")
    if content.witnesses is None:
        return second, Witnesses(())
    return second, Witnesses(tuple(map(Cosigner.from_vkey, content.witnesses.keys)), content.witnesses.required)


def _second(entry: "SecondKeyEntry") -> SecondKey:
    from agent_identity.identity.ml_dsa import MlDsaPublicKey  # noqa: PLC0415  As above.

    return SecondKey(MlDsaPublicKey.from_text(entry.pub), _takeover(entry.takes_over))


def _others_document(trust: TrustStore) -> dict[str, object]:
    """Return the members that only files of version 2 have."""
    others: dict[str, object] = {}
    if trust.second_keys:
        others["second_keys"] = [
            {**second.key.to_jwk(), "kid": second.key.thumbprint, "takes_over": _log(second.takes_over)}
            for second in trust.second_keys
        ]
    if trust.witnesses.keys:
        required = {} if trust.witnesses.required is None else {"required": trust.witnesses.required}
        others["witnesses"] = {"keys": [key.vkey for key in trust.witnesses.keys], **required}
    return others


def _log(takeover: Takeover) -> dict[str, str]:
    return {"size": str(takeover.size), "root": takeover.root.hex()}


def _document(source: PathLike | Mapping[str, object] | bytes) -> bytes:
    """Bring every kind of source to bytes, so that one parser with one set of rules reads them."""
    if isinstance(source, bytes):
        document = source
    elif isinstance(source, str | os.PathLike):
        return read_trusted_file(source, limit=_MAX_TRUST_FILE)
    else:
        try:
            document = json.dumps(dict(source)).encode()
        except (TypeError, ValueError, RecursionError):
            raise ConfigurationError("expected a trust file of JSON values, got something else") from None
    if len(document) > _MAX_TRUST_FILE:
        raise ConfigurationError(f"expected a trust file of at most {_MAX_TRUST_FILE} bytes, got {len(document)}")
    return document


def _takeover(found: "TakeoverEntry") -> Takeover:
    return Takeover(int(found.size), bytes.fromhex(found.root))


def _check_kid(trusted: TrustedKey, kid: str, number: int) -> None:
    if trusted.key.thumbprint != kid:
        raise ValueError(f"expected keys.{number}.kid to be the thumbprint of the key (RFC 7638), got another")


def _entry(trusted: TrustedKey) -> dict[str, object]:
    log = trusted.takes_over
    known: dict[str, object] = {
        "not_before": trusted.not_before,
        "not_after": trusted.not_after,
        "issuer": trusted.issuer,
        "revoked_since": trusted.revoked_since,
        "reason": trusted.reason,
        "takes_over": None if log is None else _log(log),
        "origin": trusted.origin,
    }
    return {
        **trusted.key.to_jwk(),
        "kid": trusted.key.thumbprint,
        "alg": "EdDSA",
        "purpose": trusted.purpose,
        **{name: value for name, value in known.items() if value is not None},
    }
