"""The schema of the trust file, read strictly. Imports pydantic, therefore loaded only when a file is read."""

import json
from typing import Annotated, Literal, NoReturn, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from agent_identity.errors import ConfigurationError

__all__ = ["KeyEntry", "SecondKeyEntry", "TakeoverEntry", "TrustFile", "WitnessesEntry", "parse_trust"]

_Time = Annotated[int, Field(ge=0, le=(1 << 53) - 1)]


class TakeoverEntry(BaseModel):
    """How far the log was when the key took over: a decimal number, and 64 hexadecimal digits in lower case."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    size: Annotated[str, Field(pattern=r"^(0|[1-9][0-9]{0,18})$")]
    root: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class KeyEntry(BaseModel):
    """One key of the file: a public JWK (RFC 8037 §2) with its purpose and the seconds in which it counts."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    kty: Literal["OKP"]
    crv: Literal["Ed25519"]
    x: str
    kid: str
    alg: Literal["EdDSA"]
    purpose: Literal["issuer", "recorder"]
    not_before: _Time | None = None
    not_after: _Time | None = None
    issuer: str | None = None
    revoked_since: _Time | None = None
    reason: str | None = None
    takes_over: TakeoverEntry | None = None
    origin: str | None = None


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
    """The whole file. Version 2 is for what version 1 has not, and for nothing else."""

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


def parse_trust(document: bytes) -> TrustFile:
    """Return the content of a trust file; every member is known, of the right type and there once.

    Raises:
        ConfigurationError: The document is no JSON or does not follow the schema. The message names the
            place and never repeats a value.
    """
    try:
        content: object = json.loads(
            document.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_refuse_constant
        )
    except (ValueError, RecursionError):
        raise ConfigurationError("expected a trust file in JSON, with every member once, got something else") from None
    try:
        return TrustFile.model_validate(content)
    except ValidationError as error:
        raise _explained(error) from None


def _explained(error: ValidationError) -> ConfigurationError:
    # The values stay out: a file that was mistaken for a trust file may hold anything.
    mistakes = error.errors(include_url=False, include_context=False, include_input=False)
    if any(mistake["loc"][-1:] == ("d",) for mistake in mistakes):
        return ConfigurationError(
            "expected public keys in the trust file, got a private one (member d); replace that key, others saw it"
        )
    place = ".".join(str(part) for part in mistakes[0]["loc"])[:100] or "its top"
    return ConfigurationError(f"bad trust file at {place!a}: {mistakes[0]['msg']}")


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError
    return members


def _refuse_constant(_: str) -> NoReturn:
    raise ValueError
