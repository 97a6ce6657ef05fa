"""The schema of the trust file, read strictly. Imports pydantic, therefore loaded only when a file is read."""

import json
import os
from collections.abc import Iterable, Mapping
from typing import Annotated, Final, Literal, NoReturn, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from agent_identity.canonical import JSON
from agent_identity.errors import ConfigurationError
from agent_identity.identity.approvers import Approver, key_of_jwk
from agent_identity.identity.cosigners import Cosigner
from agent_identity.identity.encoding import b64url_decode
from agent_identity.identity.keys import PublicKey
from agent_identity.identity.origins import is_prefix
from agent_identity.identity.private_files import PathLike, read_trusted_file
from agent_identity.identity.trust import FileVersion, SecondKey, Takeover, TrustedKey, TrustStore, Witnesses
from agent_identity.identity.trust_document import bad_signature, check_signature, document_of

__all__ = ["read_trust"]

Store = TypeVar("Store", bound=TrustStore)

_MAX_TRUST_FILE: Final = 1 << 20
_Time = Annotated[int, Field(ge=0, le=(1 << 53) - 1)]


class TakeoverEntry(BaseModel):
    """How far the log was when the key took over: a decimal number, and 64 hexadecimal digits in lower case."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    size: Annotated[str, Field(pattern=r"^(0|[1-9][0-9]{0,18})$")]
    root: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _KeyMembers(BaseModel):
    """A public JWK (RFC 8037 §2) with the seconds in which it counts."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    kty: Literal["OKP"]
    crv: Literal["Ed25519"]
    x: str
    kid: str
    alg: Literal["EdDSA"]
    not_before: _Time | None = None
    not_after: _Time | None = None
    issuer: str | None = None
    revoked_since: _Time | None = None
    reason: str | None = None
    takes_over: TakeoverEntry | None = None
    origin: str | None = None


class KeyEntry(_KeyMembers):
    """One key of a file of version 1 or 2."""

    purpose: Literal["issuer", "recorder"]


class ListedKeyEntry(_KeyMembers):
    """One key of a file of version 3."""

    purpose: Literal["issuer", "recorder", "policy", "root"]


class ApproverEntry(BaseModel):
    """A credential of a person (WebAuthn): its public JWK, whose it is, and where it was made."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    kty: Literal["EC", "OKP"]
    crv: Literal["P-256", "Ed25519"]
    x: str
    y: str | None = None
    alg: Literal["ES256", "EdDSA"]
    purpose: Literal["approver"]
    person: str
    credential: Annotated[str, Field(max_length=1_364)]
    rp_id: str
    site: str
    not_before: _Time | None = None
    not_after: _Time | None = None
    revoked_since: _Time | None = None
    reason: str | None = None


class WitnessEntry(BaseModel):
    """Another party that cosigns checkpoints, by its verifier key (C2SP signed-note)."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    vkey: str
    purpose: Literal["witness"]
    not_before: _Time | None = None
    not_after: _Time | None = None


class SecondKeyEntry(BaseModel):
    """A key that signs checkpoints in addition: a public JWK of the key type AKP, and where in the log it begins."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    kty: Literal["AKP"]
    alg: Literal["ML-DSA-44"]
    pub: str
    kid: str
    takes_over: TakeoverEntry


class WitnessesEntry(BaseModel):
    """Other parties that cosign checkpoints, by their verifier keys (C2SP signed-note)."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    keys: Annotated[list[str], Field(min_length=1, max_length=64)]
    required: Annotated[int, Field(ge=1, le=64)] | None = None


class TrustFile(BaseModel):
    """A whole file of version 1 or 2. Version 2 is for what version 1 has not, and for nothing else."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    version: Literal["1", "2"]
    issuer: str | None = None
    origin: str | None = None
    keys: list[KeyEntry]
    second_keys: list[SecondKeyEntry] = []
    witnesses: WitnessesEntry | None = None

    @model_validator(mode="after")
    def _only_in_its_version(self) -> Self:
        own = any("origin" in key.model_fields_set for key in self.keys)
        if (self.version == "2") != bool(own or {"second_keys", "witnesses"} & self.model_fields_set):
            raise ValueError(
                "expected version 2 with second_keys, witnesses or the origin of a key, and version 1 without; "
                "change the version"
            )
        return self


class TrustFile3(BaseModel):
    """A whole file of version 3."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    version: Literal["3"]
    id: str
    revision: int
    issuer: str | None = None
    origin: str | None = None
    keys: list[Annotated[ListedKeyEntry | ApproverEntry | WitnessEntry, Field(discriminator="purpose")]]
    second_keys: list[SecondKeyEntry] = []
    quorum: Annotated[int, Field(ge=1, le=64)] | None = None
    merged_from: Annotated[list[Annotated[str, Field(max_length=512)]], Field(min_length=1)] | None = None
    signature: Annotated[str, Field(max_length=1_024)] | None = None


def read_trust(kind: type[Store], source: PathLike | Mapping[str, object] | bytes) -> Store:
    """Return the store that a trust file describes; see :meth:`TrustStore.load`."""
    content = _parse(_document(source))
    model = TrustFile3 if content.get("version") == "3" else TrustFile
    try:
        parsed = model.model_validate(content)
    except ValidationError as error:
        raise _explained(error) from None
    try:
        if isinstance(parsed, TrustFile):
            return _old_store(kind, parsed)
        trust = _store(kind, parsed)
    except ValueError as error:
        raise ConfigurationError(f"bad trust file: {error}") from None
    if parsed.signature is not None:
        unsigned = {name: value for name, value in content.items() if name != "signature"}
        check_signature(parsed.signature, unsigned, trust)
        if unsigned != document_of(trust):
            raise bad_signature("expected what is signed as it is written (keys, approvers, witnesses; nothing empty)")
    return trust


def _old_store(kind: type[Store], content: TrustFile) -> Store:
    for number, entry in enumerate(content.keys):
        if entry.origin is not None and is_prefix(entry.origin):
            raise ValueError(f"expected keys.{number}.origin to be one name; prefixes are for files of version 3")
    witnesses = Witnesses(())
    if content.witnesses is not None:
        witnesses = Witnesses(tuple(map(Cosigner.from_vkey, content.witnesses.keys)), content.witnesses.required)
    return kind(
        _keys(enumerate(content.keys)),
        issuer=content.issuer,
        origin=content.origin,
        second_keys=_second_keys(content.second_keys),
        witnesses=witnesses,
    )


def _store(kind: type[Store], content: TrustFile3) -> Store:
    keys = [(number, entry) for number, entry in enumerate(content.keys) if isinstance(entry, ListedKeyEntry)]
    witnesses = [entry for entry in content.keys if isinstance(entry, WitnessEntry)]
    periods = tuple((entry.not_before, entry.not_after) for entry in witnesses)
    return kind(
        _keys(keys),
        issuer=content.issuer,
        origin=content.origin,
        second_keys=_second_keys(content.second_keys),
        witnesses=Witnesses(
            tuple(Cosigner.from_vkey(entry.vkey) for entry in witnesses),
            content.quorum,
            periods if any(period != (None, None) for period in periods) else (),
        ),
        approvers=tuple(_approver(entry) for entry in content.keys if isinstance(entry, ApproverEntry)),
        file=FileVersion(
            content.id, content.revision, merged_from=tuple(content.merged_from or ()), signature=content.signature
        ),
    )


def _keys(entries: Iterable[tuple[int, KeyEntry | ListedKeyEntry]]) -> tuple[TrustedKey, ...]:
    found: list[TrustedKey] = []
    for number, entry in entries:
        key = PublicKey.from_jwk({"kty": entry.kty, "crv": entry.crv, "x": entry.x})
        if key.thumbprint != entry.kid:
            raise ValueError(f"expected keys.{number}.kid to be the thumbprint of the key (RFC 7638), got another")
        found.append(
            TrustedKey(
                key,
                entry.purpose,
                not_before=entry.not_before,
                not_after=entry.not_after,
                issuer=entry.issuer,
                revoked_since=entry.revoked_since,
                reason=entry.reason,
                takes_over=None if entry.takes_over is None else _takeover(entry.takes_over),
                origin=entry.origin,
            )
        )
    return tuple(found)


def _approver(entry: ApproverEntry) -> Approver:
    return Approver(
        person=entry.person,
        credential=b64url_decode(entry.credential),
        algorithm=entry.alg,
        key=key_of_jwk({"kty": entry.kty, "crv": entry.crv, "x": entry.x, "y": entry.y}, entry.alg),
        rp_id=entry.rp_id,
        origin=entry.site,
        not_before=entry.not_before,
        not_after=entry.not_after,
        revoked_since=entry.revoked_since,
        reason=entry.reason,
    )


def _second_keys(entries: Iterable[SecondKeyEntry]) -> tuple[SecondKey, ...]:
    found: list[SecondKey] = []
    for number, entry in enumerate(entries):
        from agent_identity.identity.ml_dsa import MlDsaPublicKey  # noqa: PLC0415  Few logs have such a key.

        key = MlDsaPublicKey.from_text(entry.pub)
        if key.thumbprint != entry.kid:
            raise ValueError(f"expected second_keys.{number}.kid to be the thumbprint of the key, got another")
        found.append(SecondKey(key, _takeover(entry.takes_over)))
    return tuple(found)


def _takeover(found: TakeoverEntry) -> Takeover:
    return Takeover(int(found.size), bytes.fromhex(found.root))


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


def _parse(document: bytes) -> dict[str, JSON]:
    """Return the members of a trust file, each of which is there once.

    Raises:
        ConfigurationError: The document is no JSON, or no object.
    """
    try:
        content: JSON = json.loads(document.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise ConfigurationError("expected a trust file in JSON, with every member once, got something else") from None
    if not isinstance(content, dict):
        raise ConfigurationError("bad trust file at its top: expected an object")
    return content


def _explained(error: ValidationError) -> ConfigurationError:
    # The values stay out: a file that was mistaken for a trust file may hold anything.
    mistakes = error.errors(include_url=False, include_context=False, include_input=False)
    if any(mistake["loc"][-1:] == ("d",) for mistake in mistakes):
        return ConfigurationError(
            "expected public keys in the trust file, got a private one (member d); replace that key, others saw it"
        )
    place = ".".join(str(part) for part in mistakes[0]["loc"])[:100] or "its top"
    unknown = mistakes[0]["type"] == "union_tag_invalid"  # Its message has the value.
    what = "expected the purpose issuer, recorder, policy, root, approver or witness" if unknown else mistakes[0]["msg"]
    return ConfigurationError(f"bad trust file at {place!a}: {what}")


def _unique(pairs: list[tuple[str, JSON]]) -> dict[str, JSON]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError
    return members


def _refuse_constant(_: str) -> NoReturn:
    raise ValueError
