"""Keys for JWTs that others verify, against an independent library."""

import copy
import json
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    SECP384R1,
    EllipticCurvePrivateKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key as generate_rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given
from hypothesis import strategies as st
from joserfc.jwk import ECKey, OKPKey

from agent_identity._identity.common.encoding import b64url_encode
from agent_identity._identity.keys.jwt_keys import JwtAlgorithm, JwtKey, as_jwt_signer, jwk_thumbprint
from agent_identity.errors import ConfigurationError
from agent_identity.identity import SigningKey

ALGORITHMS: tuple[JwtAlgorithm, ...] = ("EdDSA", "ES256")
KEYS = {algorithm: JwtKey.generate(algorithm) for algorithm in ALGORITHMS}


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@given(message=st.binary())
def test_signatures_are_what_other_libraries_verify(algorithm: JwtAlgorithm, message: bytes) -> None:
    """A JWS over any bytes verifies with the public JWK in joserfc."""
    from joserfc import jws

    key = KEYS[algorithm]
    other = (OKPKey if algorithm == "EdDSA" else ECKey).import_key(key.to_jwk())
    header = b64url_encode(json.dumps({"alg": algorithm}).encode())
    signing_input = f"{header}.{b64url_encode(message)}"
    signature = key.sign(signing_input.encode())
    assert len(signature) == 64
    with pytest.warns(match="deprecated") if algorithm == "EdDSA" else _nothing():
        token = jws.deserialize_compact(f"{signing_input}.{b64url_encode(signature)}", other, algorithms=[algorithm])
    assert token.payload == message


def _nothing() -> object:
    import contextlib

    return contextlib.nullcontext()


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_thumbprint_is_that_of_other_libraries(algorithm: JwtAlgorithm) -> None:
    """The thumbprint of the public key is the one of RFC 7638 that joserfc computes."""
    key = KEYS[algorithm]
    other = (OKPKey if algorithm == "EdDSA" else ECKey).import_key(key.to_jwk())
    assert jwk_thumbprint(key) == other.thumbprint()
    assert repr(key) == f"JwtKey({algorithm}, {other.thumbprint()!r})"


def test_the_thumbprint_of_the_standard() -> None:
    """The key of the DPoP examples has the thumbprint that the standard prints (RFC 9449 §6.1)."""

    class Example:
        algorithm = "ES256"

        def to_jwk(self) -> dict[str, str]:
            x, y = "l8tFrhx-34tV3hRICRDY9zCkDlpBhF42UQUfWVAWBFs", "9VE4jf_Ok_o64zbTTlcuNJajHmt6v9TDVrU0CdvGRDA"
            return {"kty": "EC", "x": x, "y": y, "crv": "P-256"}

        def sign(self, message: bytes) -> bytes:
            raise NotImplementedError

    assert jwk_thumbprint(Example()) == "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"


def test_a_key_is_neither_shown_nor_copied() -> None:
    """Neither repr nor the public JWK holds the private half, and pickling and copying are refused."""
    for key in KEYS.values():
        assert "d" not in key.to_jwk()
        for attempt in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(TypeError, match="neither copied nor pickled"):
                attempt(key)


def test_the_public_jwk_is_a_copy() -> None:
    """Whoever changes what was returned changes no later proof."""
    key = JwtKey.generate()
    key.to_jwk()["x"] = "other"
    assert key.to_jwk()["x"] != "other"


def test_another_algorithm_is_refused() -> None:
    """There is no RSA here, and nothing with a shared key."""
    with pytest.raises(ValueError, match="'EdDSA' or 'ES256'"):
        JwtKey.generate("HS256")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("algorithm", "make"),
    [("EdDSA", Ed25519PrivateKey.generate), ("ES256", lambda: generate_private_key(SECP256R1()))],
)
def test_a_key_is_read_from_a_private_file(
    tmp_path: Path, algorithm: JwtAlgorithm, make: Callable[[], Ed25519PrivateKey | EllipticCurvePrivateKey]
) -> None:
    """A PEM file of either kind is the key that it holds."""
    made, path = make(), tmp_path / "client.pem"
    path.write_bytes(made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    path.chmod(0o600)
    key = JwtKey.load(path)
    assert key.algorithm == algorithm
    assert key.to_jwk() == JwtKey(made).to_jwk()


@pytest.mark.parametrize("make", [lambda: generate_private_key(SECP384R1()), lambda: generate_rsa(65537, 2048)])
def test_another_kind_of_key_is_refused(tmp_path: Path, make: Callable[[], EllipticCurvePrivateKey]) -> None:
    """A file with a key that signs by other algorithms is refused by name of what is expected."""
    path = tmp_path / "client.pem"
    path.write_bytes(make().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    path.chmod(0o600)
    with pytest.raises(ConfigurationError, match="neither Ed25519 nor P-256"):
        JwtKey.load(path)


def test_a_signer_of_grants_signs_jwts_as_well() -> None:
    """An Ed25519 signer is adapted; what signs JWTs already is taken as it is."""
    key = SigningKey.generate()
    signer = as_jwt_signer(key)
    assert (signer.algorithm, signer.to_jwk()) == ("EdDSA", key.public_key.to_jwk())
    assert jwk_thumbprint(signer) == key.public_key.thumbprint
    key.public_key.verify(signer.sign(b"message"), b"message")
    assert as_jwt_signer(KEYS["ES256"]) is KEYS["ES256"]
