"""Promise about the key sets of providers: a weak RSA key never vouches for anybody (point 32 of the examination)."""

import json
import logging
import random
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable
from math import prod

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from agent_identity import Human
from agent_identity.errors import TokenError

ISSUER, AUDIENCE = "https://login.example", "desk"
STRONG = rsa.generate_private_key(65537, 2048)
PRIMES = [n for n in range(2, 168) if all(n % d for d in range(2, n))]
PRIMORIAL = prod(PRIMES)
NUMBERS = random.Random(32)  # noqa: S311 - Test keys, the same each time.


def b64(data: bytes) -> str:
    """Return base64url without padding."""
    return urlsafe_b64encode(data).decode().rstrip("=")


def number(value: int) -> str:
    """Return a number as a JWK has it."""
    return b64(value.to_bytes((value.bit_length() + 7) // 8, "big"))


def jwk(kid: str | None, modulus: int, exponent: int = 65537) -> dict[str, object]:
    """Return a public RSA key of a key set."""
    found: dict[str, object] = {"kty": "RSA", "use": "sig", "n": number(modulus), "e": number(exponent)}
    return found if kid is None else {**found, "kid": kid}


def strong(kid: str | None = "strong") -> dict[str, object]:
    """Return the key that signs the tokens of these tests."""
    return jwk(kid, STRONG.public_key().public_numbers().n)


def token(kid: str | None, key: rsa.RSAPrivateKey = STRONG) -> str:
    """Return an ID token."""
    header = {"alg": "RS256", "typ": "JWT"} | ({} if kid is None else {"kid": kid})
    now = int(time.time())
    claims = {"iss": ISSUER, "sub": "alice", "aud": AUDIENCE, "iat": now, "exp": now + 60}
    signed = f"{b64(json.dumps(header).encode())}.{b64(json.dumps(claims).encode())}"
    return f"{signed}.{b64(key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256()))}"


def code_of(text: str, *keys: dict[str, object]) -> str:
    """Return the code with which a token is refused, or whom it names."""
    try:
        return Human.from_id_token(text, issuer=ISSUER, audience=AUDIENCE, jwks={"keys": list(keys)}).id
    except TokenError as error:
        return error.code


def fingerprinted(bits: int, product: int = PRIMORIAL) -> int:
    """Return a modulus of two factors of the published form, ``k·M + (65537^a mod M)``; they need not be prime."""
    half = bits // 2

    def factor() -> int:
        k = NUMBERS.getrandbits(half - product.bit_length() + 1)
        return k * product + pow(65537, NUMBERS.getrandbits(200), product)

    while (modulus := factor() * factor()).bit_length() != bits:
        pass
    return modulus


LARGER = prod(n for n in range(2, 702) if all(n % d for d in range(2, n)))
WEAK: dict[str, Callable[[], dict[str, object]]] = {
    "ROCA, 2048 bits": lambda: jwk("weak", fingerprinted(2048)),
    "ROCA, 3072 bits": lambda: jwk("weak", fingerprinted(3072)),
    "ROCA with the primorial of longer keys": lambda: jwk("weak", fingerprinted(2048, LARGER)),
    "1024 bits": lambda: jwk("weak", (1 << 1024) - 1),
    "2047 bits": lambda: jwk("weak", STRONG.public_key().public_numbers().n >> 1 | 1),
    "512 bits": lambda: jwk("weak", (1 << 512) - 1),
    "exponent 1": lambda: jwk("weak", STRONG.public_key().public_numbers().n, 1),
    "exponent 3": lambda: jwk("weak", STRONG.public_key().public_numbers().n, 3),
    "exponent 65535": lambda: jwk("weak", STRONG.public_key().public_numbers().n, 65535),
    "exponent 65538": lambda: jwk("weak", STRONG.public_key().public_numbers().n, 65538),
}


@pytest.mark.parametrize("weak", WEAK)
def test_ac_13_a_token_that_names_a_weak_key_is_refused_and_the_other_keys_count(
    caplog: pytest.LogCaptureFixture, weak: str
) -> None:
    """A weak RSA key is left out of the set with a line in the log; tokens under the strong keys still count."""
    key = WEAK[weak]()
    with caplog.at_level(logging.WARNING, "agent_identity"):
        assert code_of(token("weak"), key, strong()) == "weak_key"
        assert code_of(token("strong"), key, strong()) == "alice"
        assert code_of(token("weak"), key, strong()) == "weak_key"
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) <= 1, "people are told once, not at each token"
    assert all("'weak'" in line for line in lines)


def test_a_weak_key_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """The log names the key and its weakness, and not its numbers."""
    key = jwk("a-key-of-its-own", (1 << 1500) - 1)
    with caplog.at_level(logging.WARNING, "agent_identity"):
        for _ in range(3):
            assert code_of(token("strong"), key, strong()) == "alice"
    (line,) = [record.getMessage() for record in caplog.records]
    assert "'a-key-of-its-own'" in line
    assert "2,048 bits" in line
    assert str(key["n"])[:20] not in line


def test_a_weak_key_does_not_count_where_the_token_names_none() -> None:
    """Without a kid the only strong key is meant; a set of a weak key alone refuses as such."""
    small = rsa.generate_private_key(65537, 1024)  # noqa: S505 - That is what the test is about.
    weak = jwk(None, small.public_key().public_numbers().n)
    assert code_of(token(None), weak, strong(None)) == "alice"
    assert code_of(token(None, small), weak, strong(None)) == "bad_signature"
    assert code_of(token(None, small), weak) == "weak_key"
    assert code_of(token("other", small), weak) == "unknown_key"


def test_a_weak_key_and_a_strong_one_of_one_name_are_ambiguous() -> None:
    """Nobody can put a weak key under the name of a strong one: such a set is refused as before."""
    assert code_of(token("strong"), jwk("strong", fingerprinted(2048)), strong()) == "bad_key_set"


def test_keys_that_are_not_weak_are_not_taken_for_such() -> None:
    """Honest moduli, and moduli that have the fingerprint for all primes but one, are no false alarm."""
    assert code_of(token("strong"), strong()) == "alice"
    for _ in range(200):
        modulus = NUMBERS.getrandbits(2048) | 1 << 2047 | 1
        assert code_of(token("strong"), jwk("strong", modulus)) in {"bad_signature", "bad_key"}
    base = fingerprinted(2048)
    near = next(n for n in range(base, base + 20 * (PRIMORIAL // 11), PRIMORIAL // 11) if n % 11 not in (1, 10))
    assert code_of(token("strong"), jwk("strong", near | 1)) in {"bad_signature", "bad_key"}


def test_one_power_has_to_fit_all_primes_at_once() -> None:
    """A modulus that is some power of the generator for each prime, and another one for each, is not of the library."""
    powers = {p: sorted({pow(65537, k, p) for k in range(p)}) for p in PRIMES[1:]}

    def combined(residues: dict[int, int]) -> int:
        return sum(r * (PRIMORIAL // p) * pow(PRIMORIAL // p, -1, p) for p, r in residues.items()) % PRIMORIAL

    residues = {2: 1, **{p: NUMBERS.choice(found) for p, found in powers.items()}}
    modulus = combined(residues) + PRIMORIAL * (1 << (2048 - PRIMORIAL.bit_length()))
    while modulus.bit_length() < 2048:
        modulus += PRIMORIAL << (2046 - PRIMORIAL.bit_length())
    assert modulus.bit_length() == 2048
    assert code_of(token("strong"), jwk("strong", modulus)) in {"bad_signature", "bad_key"}
