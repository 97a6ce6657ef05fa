"""The schema of the trust file, read strictly by msgspec; loaded only when a file is read."""

import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Final, Literal, TypeAlias, TypeVar

import msgspec
from msgspec import Meta

from agent_identity._common.narrowing import is_list
from agent_identity._identity.common.encoding import b64url_decode
from agent_identity._identity.common.ids import DIGEST_FORM
from agent_identity._identity.common.private_files import PathLike, read_trusted_file
from agent_identity._identity.keys.cosigners import Cosigner
from agent_identity._identity.keys.keys import PublicKey
from agent_identity._identity.trust.approvers import Approver, key_of_jwk
from agent_identity._identity.trust.document import TRUST_FILE_VERSION, bad_signature, check_signature, document_of
from agent_identity._identity.trust.entries import FileVersion, Store, Takeover, TrustedKey, Witnesses
from agent_identity.canonical import JSON, parse
from agent_identity.errors import ConfigurationError

Part = TypeVar("Part", bound="_Part")

_MAX_TRUST_FILE: Final = 1 << 20
_Time: TypeAlias = Annotated[int, Meta(ge=0, le=(1 << 53) - 1)]
_Object: TypeAlias = Mapping[str, object]

_PATH: Final = re.compile(r"(.*?)(?: - at `\$(.*)`)?", re.DOTALL)
_MEMBER: Final = re.compile(r"Object (missing required|contains unknown) field `(.*)`", re.DOTALL)


class _Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An object of the file."""


class TakeoverEntry(_Part, frozen=True, kw_only=True):
    """The size and root of the log when the key took over: a decimal number, and 43 base64url characters."""

    size: Annotated[str, Meta(pattern=r"^(0|[1-9][0-9]{0,18})\Z")]
    root: Annotated[str, Meta(pattern=rf"^{DIGEST_FORM}\Z")]


class KeyEntry(_Part, frozen=True, kw_only=True):
    """A public JWK (RFC 8037 §2) with its purpose and its validity period in seconds."""

    kty: Literal["OKP"]
    crv: Literal["Ed25519"]
    x: str
    kid: str
    alg: Literal["EdDSA"]
    purpose: Literal["issuer", "recorder", "closer", "policy", "root"]
    not_before: _Time | None = None
    not_after: _Time | None = None
    issuer: str | None = None
    revoked_since: _Time | None = None
    reason: str | None = None
    takes_over: TakeoverEntry | None = None
    origin: str | None = None
    recorders_only: bool | None = None

    def __post_init__(self) -> None:
        if self.recorders_only is False:
            raise ValueError("recorders_only is false; leave the member out")


class ApproverEntry(_Part, frozen=True, kw_only=True):
    """A credential of a person (WebAuthn): its public JWK, its person, and the site of its creation."""

    kty: Literal["EC", "OKP"]
    crv: Literal["P-256", "Ed25519"]
    x: str
    y: str | None = None
    alg: Literal["ES256", "EdDSA"]
    purpose: Literal["approver"]
    person: str
    credential: Annotated[str, Meta(max_length=1_364)]
    rp_id: str
    site: str
    not_before: _Time | None = None
    not_after: _Time | None = None
    revoked_since: _Time | None = None
    reason: str | None = None


class WitnessEntry(_Part, frozen=True, kw_only=True):
    """Another party that cosigns checkpoints, by its verifier key (C2SP signed-note)."""

    vkey: str
    purpose: Literal["witness"]
    not_before: _Time | None = None
    not_after: _Time | None = None


class TrustFile(_Part, frozen=True, kw_only=True):
    """A whole file."""

    version: Literal["1"]
    id: str
    revision: int
    issuer: str | None = None
    origin: str | None = None
    keys: list[_Object]
    quorum: Annotated[int, Meta(ge=1, le=64)] | None = None
    merged_from: Annotated[list[Annotated[str, Meta(max_length=512)]], Meta(min_length=1)] | None = None
    signature: Annotated[str, Meta(max_length=1_024)] | None = None


_Entry: TypeAlias = KeyEntry | ApproverEntry | WitnessEntry
_ENTRIES: Final[Mapping[object, type[_Entry]]] = {
    **dict.fromkeys(("issuer", "recorder", "closer", "policy", "root"), KeyEntry),
    "approver": ApproverEntry,
    "witness": WitnessEntry,
}


def read_trust(kind: type[Store], source: PathLike | Mapping[str, object] | bytes) -> Store:
    """Return the store that a trust file describes; see :meth:`TrustStore.load`."""
    if not isinstance(source, str | os.PathLike):
        return _read_content(kind, _parse(_document(source), ""))
    content = _parse(_document(source), f" at {os.fspath(source)!r}")
    try:
        return _read_content(kind, content)
    except ConfigurationError as error:
        raise ConfigurationError(f"{os.fspath(source)}: {error}", code=error.code) from None


def _read_content(kind: type[Store], content: dict[str, JSON]) -> Store:
    _refuse_private_keys(content)
    try:
        if content.get("version", TRUST_FILE_VERSION) != TRUST_FILE_VERSION:
            raise _malformed(
                "version", f'the version is not "{TRUST_FILE_VERSION}"; restore it from a copy, or write a new one'
            )
        parsed = _read(TrustFile, content)
        trust = _store(kind, parsed)
    except ValueError as error:
        raise ConfigurationError(f"bad trust file: {error}") from None
    if parsed.signature is not None:
        unsigned = {name: value for name, value in content.items() if name != "signature"}
        check_signature(parsed.signature, unsigned, trust)
        if unsigned != document_of(trust):
            raise bad_signature(
                "the signed members are not written as they were signed (keys, approvers, witnesses; nothing empty)"
            )
    return trust


def _store(kind: type[Store], content: TrustFile) -> Store:
    entries = [_entry(number, entry) for number, entry in enumerate(content.keys)]
    keys = [(number, entry) for number, entry in enumerate(entries) if isinstance(entry, KeyEntry)]
    witnesses = [entry for entry in entries if isinstance(entry, WitnessEntry)]
    periods = tuple((entry.not_before, entry.not_after) for entry in witnesses)
    return kind(
        _keys(keys),
        issuer=content.issuer,
        origin=content.origin,
        witnesses=Witnesses(
            tuple(Cosigner.from_vkey(entry.vkey) for entry in witnesses),
            content.quorum,
            periods if any(period != (None, None) for period in periods) else (),
        ),
        approvers=tuple(_approver(entry) for entry in entries if isinstance(entry, ApproverEntry)),
        file=FileVersion(
            content.id, content.revision, merged_from=tuple(content.merged_from or ()), signature=content.signature
        ),
    )


def _entry(number: int, entry: _Object) -> _Entry:
    """Return an entry in the form of its purpose."""
    purpose = entry.get("purpose")
    form = _ENTRIES.get(purpose) if isinstance(purpose, str) else None
    if form is None:
        raise _malformed(
            f"keys.{number}.purpose", "the purpose is not issuer, recorder, closer, policy, root, approver or witness"
        )
    return _read(form, entry, f"keys.{number}.")


def _keys(entries: Iterable[tuple[int, KeyEntry]]) -> tuple[TrustedKey, ...]:
    keys: list[TrustedKey] = []
    for number, entry in entries:
        key = PublicKey.from_jwk({"kty": entry.kty, "crv": entry.crv, "x": entry.x})
        if key.thumbprint != entry.kid:
            raise ValueError(f"keys.{number}.kid is not the thumbprint of the key (RFC 7638)")
        keys.append(
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
                recorders_only=entry.recorders_only or False,
            )
        )
    return tuple(keys)


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


def _takeover(entry: TakeoverEntry) -> Takeover:
    return Takeover(int(entry.size), b64url_decode(entry.root))


def _document(source: PathLike | Mapping[str, object] | bytes) -> bytes:
    """Convert every kind of source to bytes, so that one parser with one set of rules reads them."""
    if isinstance(source, bytes):
        document = source
    elif isinstance(source, str | os.PathLike):
        if Path(source).is_dir():
            raise ConfigurationError(
                f"the trust file {os.fspath(source)!r} is a directory; name the file in it, such as "
                f"{str(Path(source) / 'trust.json')!r}"
            )
        return read_trusted_file(source, limit=_MAX_TRUST_FILE)
    else:
        try:
            document = json.dumps(dict(source)).encode()
        except (TypeError, ValueError, RecursionError):
            raise ConfigurationError("the trust file has a value that is not JSON") from None
    if len(document) > _MAX_TRUST_FILE:
        raise ConfigurationError(f"the trust file has {len(document)} bytes, more than {_MAX_TRUST_FILE}")
    return document


def _parse(document: bytes, where: str) -> dict[str, JSON]:
    """Return the members of a trust file, each of which must occur once.

    Raises:
        ConfigurationError: The document is no JSON, or no object.
    """
    try:
        content = parse(document)
        json.dumps(content, ensure_ascii=False).encode()  # Half a character, which only an escape can write, fails.
    except (ValueError, RecursionError):
        raise ConfigurationError(
            f"the trust file is not JSON with every member once{where}; name a trust.json"
        ) from None
    if not isinstance(content, dict):
        raise ConfigurationError("bad trust file at its top: not an object")
    return content


def _refuse_private_keys(content: _Object) -> None:
    """Refuse a private key in the file with its own message, even if the file has other errors.

    Raises:
        ConfigurationError: A key has the private member.
    """
    entries = content.get("keys")
    parts = (content, *(entries if is_list(entries) else ()))
    if any(isinstance(part, dict) and "d" in part for part in parts):
        raise ConfigurationError("the trust file has a private key (member d); replace that key, others saw it")


def _read(form: type[Part], content: object, place: str = "") -> Part:
    """Return an object of the file as its type.

    Raises:
        ConfigurationError: It has not that form. The values stay out of the message: a file that was mistaken for a
            trust file may hold anything.
    """
    try:
        return msgspec.convert(content, form)
    except msgspec.ValidationError as error:
        match = _PATH.fullmatch(str(error))
        what, path = ("", "") if match is None else (match[1], match[2] or "")
    steps = path.replace("[", ".").replace("]", "").removeprefix(".")
    if member := _MEMBER.fullmatch(what):
        steps = f"{steps}.{member[2]}".removeprefix(".")
        what = "missing member" if member[1] == "missing required" else "unknown member"
    elif not what.startswith("Expected "):
        what = "not one of the values that docs/reference/trust.md names"
    raise _malformed(place + steps, what[0].lower() + what[1:])


def _malformed(place: str, what: str) -> ConfigurationError:
    return ConfigurationError(f"bad trust file at {place[:100] or 'its top'!a}: {what}")
