"""What the tests of foreign tokens share: an issuer with one key of each type that signs whatever it is told to."""

import hashlib
import json
from base64 import urlsafe_b64encode
from dataclasses import dataclass, field
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

NOW = 1_764_000_000
_OF_CURVE = {"P-256": (ec.SECP256R1(), "ES256"), "P-384": (ec.SECP384R1(), "ES384"), "P-521": (ec.SECP521R1(), "ES512")}
_HASHES = {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}


def b64(data: bytes) -> str:
    """Return base64url without padding, by other code than ours."""
    return urlsafe_b64encode(data).decode().rstrip("=")


def number(value: int, size: int) -> str:
    """Return a number as the members of keys have it."""
    return b64(value.to_bytes(size, "big"))


def sign(key: Any, algorithm: str, message: bytes) -> bytes:
    """Return the signature that the algorithm asks for (RFC 7518 §3, RFC 8037), by cryptography alone."""
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key.sign(message)
    digest = _HASHES[algorithm[2:]]
    if isinstance(key, rsa.RSAPrivateKey):
        pss = padding.PSS(padding.MGF1(digest), digest.digest_size)
        return key.sign(message, pss if algorithm.startswith("PS") else padding.PKCS1v15(), digest)
    r, s = decode_dss_signature(key.sign(message, ec.ECDSA(digest)))
    size = (key.curve.key_size + 7) // 8
    return r.to_bytes(size, "big") + s.to_bytes(size, "big")


@dataclass
class Issuer:
    """An identity provider: its name, its private keys, and a way to sign anything."""

    name: str = "https://login.example"
    audience: str = "invoice-desk"
    keys: dict[str, Any] = field(default_factory=dict)
    pinned: dict[str, str] = field(default_factory=dict)

    def jwk(self, kid: str, /, **changes: object) -> dict[str, object]:
        """Return the public JWK; ``...`` drops a member."""
        key = self.keys[kid].public_key()
        jwk: dict[str, object] = {"kid": kid, "use": "sig"}
        if isinstance(key, rsa.RSAPublicKey):
            numbers = key.public_numbers()
            jwk |= {"kty": "RSA", "n": number(numbers.n, (key.key_size + 7) // 8), "e": number(numbers.e, 3)}
        elif isinstance(key, ed25519.Ed25519PublicKey):
            jwk |= {"kty": "OKP", "crv": "Ed25519", "x": b64(key.public_bytes_raw())}
        else:
            numbers, size = key.public_numbers(), (key.curve.key_size + 7) // 8
            crv = next(crv for crv, (curve, _) in _OF_CURVE.items() if curve.name == key.curve.name)
            jwk |= {"kty": "EC", "crv": crv, "x": number(numbers.x, size), "y": number(numbers.y, size)}
        if kid in self.pinned:
            jwk["alg"] = self.pinned[kid]
        return {name: value for name, value in (jwk | changes).items() if value is not ...}

    def jwks(self, *kids: str, **changes: object) -> dict[str, object]:
        """Return the key set: all keys, or those named."""
        return {"keys": [self.jwk(kid, **changes) for kid in kids or self.keys]}

    def claims(self, **changes: object) -> dict[str, object]:
        """Return the claims of a good ID token; ``...`` drops one."""
        claims = {
            "iss": self.name,
            "sub": "alice@example.com",
            "aud": self.audience,
            "iat": NOW - 10,
            "exp": NOW + 300,
        } | changes
        return {name: value for name, value in claims.items() if value is not ...}

    def token(self, *, key: str = "ec", header: dict[str, object] | None = None, **changes: object) -> str:
        """Return a good ID token with these changes, signed."""
        return self.signed(self.claims(**changes), key=key, header=header)

    def signed(
        self, claims: object, *, key: str = "ec", header: dict[str, object] | None = None, by: str | None = None
    ) -> str:
        """Return a token over any claims (or bytes) and any header, signed by the key (or by another one)."""
        full = {"alg": self.algorithm(key), "typ": "JWT", "kid": key} | (header or {})
        full = {name: value for name, value in full.items() if value is not ...}
        payload = claims if isinstance(claims, bytes) else json.dumps(claims).encode()
        return self.raw(json.dumps(full).encode(), payload, key=by or key, algorithm=str(full.get("alg")))

    def raw(self, header: bytes, payload: bytes, *, key: str = "ec", algorithm: str | None = None) -> str:
        """Return a correctly signed token over arbitrary bytes."""
        text = f"{b64(header)}.{b64(payload)}"
        try:
            signature = sign(self.keys[key], algorithm or self.algorithm(key), text.encode())
        except KeyError:  # An algorithm that does not exist.
            signature = hashlib.sha256(text.encode()).digest()
        return f"{text}.{b64(signature)}"

    def algorithm(self, kid: str) -> str:
        """Return the algorithm of a key."""
        if kid in self.pinned:
            return self.pinned[kid]
        key = self.keys[kid]
        if isinstance(key, rsa.RSAPrivateKey):
            return "RS256"
        if isinstance(key, ed25519.Ed25519PrivateKey):
            return "EdDSA"
        return next(name for curve, name in _OF_CURVE.values() if curve.name == key.curve.name)

    def expects(self, **changes: object) -> dict[str, Any]:
        """Return the arguments with which a relying party verifies its tokens."""
        expected = {"jwks": self.jwks(), "issuer": self.name, "audience": self.audience, "now": NOW} | changes
        return {name: value for name, value in expected.items() if value is not ...}


@pytest.fixture(scope="session")
def issuer() -> Issuer:
    made = Issuer(pinned={"pss": "PS384", "named": "Ed25519"})
    made.keys = {
        "ec": ec.generate_private_key(ec.SECP256R1()),
        "ec384": ec.generate_private_key(ec.SECP384R1()),
        "ec521": ec.generate_private_key(ec.SECP521R1()),
        "rsa": rsa.generate_private_key(65537, 2048),
        "pss": rsa.generate_private_key(65537, 2048),
        "ed": ed25519.Ed25519PrivateKey.generate(),
        "named": ed25519.Ed25519PrivateKey.generate(),
    }
    return made


@pytest.fixture(scope="session")
def stranger(issuer: Issuer) -> Issuer:
    """Somebody who claims to be the issuer, with keys of the same names."""
    return Issuer(
        pinned=issuer.pinned,
        keys={
            **issuer.keys,
            "ec": ec.generate_private_key(ec.SECP256R1()),
            "rsa": rsa.generate_private_key(65537, 2048),
            "ed": ed25519.Ed25519PrivateKey.generate(),
        },
    )
