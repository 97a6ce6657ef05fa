"""Foreign key sets (JWK Set, RFC 7517 §5), in which every key has exactly one use and one algorithm.

Refused are RSA keys whose signatures another party may be able to forge: moduli below 2,048 bits (NIST SP 800-131A),
public exponents that are even or below 65,537 (FIPS 186-5, A.1.1), and moduli with the fingerprint of a faulty library
(ROCA, CVE-2017-15361): M. Nemec, M. Sys, P. Svenda, D. Klinec, V. Matyas, "The Return of Coppersmith's Attack", CCS
2017. Its primes have the form ``k·M + (65537^a mod M)``, where M is the product of the first 39 primes at least. So the
logarithm of such a modulus to the base 65537 exists modulo M; of any other modulus, hardly ever.
"""

import logging
import os
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, lru_cache
from math import gcd
from typing import Final, Protocol, Self, TypeAlias, final

from agent_identity._common.narrowing import is_array, is_object
from agent_identity._identity.common.encoding import b64url_decode
from agent_identity._identity.common.private_files import PathLike, read_public_file
from agent_identity._identity.foreign.jwt import ForeignToken, read_object
from agent_identity._identity.keys.keys import PublicKey
from agent_identity.errors import ConfigurationError, TokenError

_LOG: Final = logging.getLogger("agent_identity")

MAX_KEY_SET: Final = 1 << 20
"""Bytes of a key set, at most."""

_MAX_KEYS: Final = 256
_PRIVATE: Final = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})
_RSA: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_OF_CURVE: Final = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}
_EDWARDS: Final = frozenset({"EdDSA", "Ed25519"})
"""Two names of one algorithm for an Ed25519 key (RFC 9864)."""

_MOST_RSA_BYTES: Final = 1024
"""Size of a modulus: 8,192 bits, beyond which verifying becomes a way to keep us busy."""

_LEAST_BITS: Final = 2048
_LEAST_EXPONENT: Final = 65_537
_GENERATOR: Final = 65_537
_GREATEST_PRIME: Final = 167
"""The 39th prime."""


@final
@dataclass(frozen=True, slots=True)
class VerificationKey:
    """A public key of an issuer with its one permitted algorithm.

    Attributes:
        kid: Its name in the key set, if it has one.
        use: The use that the set states: ``"sig"``, ``"jwt-svid"``, or ``None`` without one.
        algorithms: The accepted names of its algorithm: from its ``alg``, otherwise from its type. An RSA key without
            ``alg`` stands for ``RS256`` alone, the default of OpenID Connect Core §2.
    """

    kid: str | None
    use: str | None
    algorithms: frozenset[str]
    _jwk: Mapping[str, object] = field(repr=False)

    def verify(self, token: ForeignToken) -> None:
        """Check that this key signed the token.

        Raises:
            TokenError: With code ``algorithm_not_allowed`` if the header names another algorithm than the key has,
                ``weak_key`` if others may have its private key, ``bad_key`` if the key is unusable,
                ``bad_signature`` otherwise.
            ConfigurationError: The package ``joserfc`` is missing.
        """
        if token.algorithm not in self.algorithms:
            raise TokenError("the algorithm of the token is not that of the key", code="algorithm_not_allowed")
        if self.weakness is not None:
            raise _weak(self)
        if self.algorithms == _EDWARDS:
            PublicKey.from_jwk({"kty": "OKP", "crv": "Ed25519", "x": self._jwk.get("x")}).verify(
                token.signature, token.signing_input
            )
        elif not self._fits(token):
            raise TokenError("the signature is not one of the issuer over these bytes", code="bad_signature")

    @property
    def weakness(self) -> str | None:
        """The reason, in words, why a sound key does not count; ``None`` for a key that counts."""
        n, e = self._jwk.get("n"), self._jwk.get("e")
        if self._jwk.get("kty") != "RSA" or not isinstance(n, str) or not isinstance(e, str):
            return None
        return _weakness(n, e, self.kid)

    def _fits(self, token: ForeignToken) -> bool:
        try:
            from joserfc.errors import JoseError  # An extra, and slow to import.
            from joserfc.jwk import JWKRegistry
            from joserfc.jws import JWSRegistry
        except ImportError:
            raise ConfigurationError(
                "the package joserfc is not installed, which verifies tokens of others; run pip "
                "install '.[oidc]' in the checkout"
            ) from None
        try:
            key = JWKRegistry.import_key(dict(self._material()))
        except (JoseError, ValueError, TypeError, OverflowError):
            raise TokenError("a public key in the key set is damaged", code="bad_key") from None
        return JWSRegistry.algorithms[token.algorithm].verify(token.signing_input, token.signature, key)

    def _material(self) -> dict[str, str]:
        """Return only the members that make the key; other members would instruct the library."""
        names = ("kty", "n", "e") if self._jwk["kty"] == "RSA" else ("kty", "crv", "x", "y")
        strings = {name: value for name in names if isinstance(value := self._jwk.get(name), str)}
        if len(strings) != len(names):
            raise ValueError
        numbers = {name: b64url_decode(strings[name]) for name in names if name not in ("kty", "crv")}
        if "n" in numbers and (len(numbers["n"].lstrip(b"\0")) > _MOST_RSA_BYTES or len(numbers["e"]) > 4):
            raise ValueError
        return strings


@final
@dataclass(frozen=True, slots=True)
class KeySet:
    """The public keys of one issuer.

    Make one with :meth:`parse` or :meth:`load`. Keys for other purposes than signatures and of unknown types are left
    out (RFC 7517 §5), and so are weak RSA keys: of fewer than 2,048 bits, with a public exponent that is even or less
    than 65,537, or with the fingerprint of ROCA. The others of the set count.

    Attributes:
        keys: The keys that can verify something.
        certificates: The trust anchors for X.509-SVIDs, as DER (SPIFFE Trust Domain and Bundle §4.2.1).
        weak: The keys that are left out because they are weak; a token that names one is refused as such.
    """

    keys: tuple[VerificationKey, ...]
    certificates: tuple[bytes, ...] = field(default=(), repr=False)
    weak: tuple[VerificationKey, ...] = ()

    @classmethod
    def parse(cls, document: str | bytes | Mapping[str, object]) -> Self:
        """Return the key set of a JSON document, or of its content.

        Raises:
            TokenError: With code ``bad_key_set`` if it is larger than 1 MiB, no key set, has more than 256 keys, a
                private key, or two keys of one name and algorithm.
        """
        entries = (_read(document) if isinstance(document, str | bytes) else document).get("keys")
        if not is_array(entries) or len(entries) > _MAX_KEYS:
            raise _bad_key_set(f"'keys' is not an array of at most {_MAX_KEYS} keys")
        members = [_members(entry) for entry in entries]
        keys = list(filter(None, map(_key, members)))
        names = [(key.kid, key.use, name) for key in keys if key.kid is not None for name in key.algorithms]
        if len(set(names)) != len(names):
            raise _bad_key_set("two keys have the same kid")
        certificates = tuple(_certificate(jwk) for jwk in members if jwk.get("use") == "x509-svid")
        weak = tuple(filter(lambda key: key.weakness, keys))
        return cls(tuple(key for key in keys if key not in weak), certificates, weak)

    @classmethod
    def load(cls, path: PathLike) -> Self:
        """Return the key set of a file.

        Raises:
            ConfigurationError: The file cannot be read.
            TokenError: With code ``bad_key_set``, as for :meth:`parse`.
        """
        return cls.parse(read_public_file(path, limit=MAX_KEY_SET))

    def __contains__(self, kid: object) -> bool:
        return any(key.kid == kid for key in (*self.keys, *self.weak))

    def find(self, token: ForeignToken, *, uses: frozenset[str | None]) -> VerificationKey:
        """Return the key that must have signed the token, without looking at its claims.

        A token that names no key is accepted where only one key is possible (OpenID Connect Core §10.1).

        Args:
            token: The token.
            uses: The permitted uses of the key.

        Raises:
            TokenError: With code ``unknown_key``, ``weak_key`` if the named key does not count, or
                ``algorithm_not_allowed`` if it has another algorithm.
        """
        named = [key for key in self.keys if key.use in uses and token.kid in (None, key.kid)]
        fitting = [key for key in named if token.algorithm in key.algorithms]
        if len(fitting) == 1:
            return fitting[0]
        for key in self.weak:
            if key.use in uses and token.kid in (None, key.kid) and token.algorithm in key.algorithms and not fitting:
                raise _weak(key)
        if named and token.kid is not None:
            raise TokenError("the algorithm of the token is not that of the named key", code="algorithm_not_allowed")
        raise TokenError("the key set of the issuer does not have the key of the token", code="unknown_key")

    def keys_for(self, kid: str | None) -> "KeySet":  # noqa: ARG002
        """Return this set: it is a constant :class:`KeySource`."""
        return self


class KeySource(Protocol):
    """A source of an issuer's keys: a :class:`KeySet`, a ``JwksSource``, or your own."""

    def keys_for(self, kid: str | None) -> KeySet:
        """Return the current key set; called from several threads.

        Args:
            kid: The name that a token gives to its key, unverified. A source may look for newer keys if it does not
                know the name, but anyone can invent names, so not each time.
        """
        ...


KeysOfIssuer: TypeAlias = PathLike | Mapping[str, object] | KeySource
"""The keys of an issuer: the path of a JWK Set, its content, or a source of it."""


def key_source(keys: KeysOfIssuer) -> KeySource:
    """Return a source for keys given in any supported form; files are read anew each time.

    Raises:
        ConfigurationError: The file cannot be read.
        TokenError: With code ``bad_key_set``.
        ValueError: A URL was given.
    """
    if isinstance(keys, str) and keys.partition(":")[0].lower() in ("http", "https"):
        raise ValueError("the source of keys is a URL; write JwksSource(url), and keep that object")
    if isinstance(keys, str | os.PathLike):
        return KeySet.load(keys)
    if isinstance(keys, Mapping):
        return KeySet.parse(keys)
    return keys


def _members(entry: object) -> Mapping[str, object]:
    if not is_object(entry):
        raise _bad_key_set("a key is not an object")
    if not _PRIVATE.isdisjoint(entry):
        raise _bad_key_set("a key is a private one; replace that key, others saw it")
    return entry


def _key(jwk: Mapping[str, object]) -> VerificationKey | None:
    """Return the key, or ``None`` if it does not verify signatures."""
    kid, use, operations = jwk.get("kid"), jwk.get("use"), jwk.get("key_ops", ("verify",))
    algorithms = _algorithms(jwk)
    if (use is not None and use not in ("sig", "jwt-svid")) or not algorithms:
        return None
    if not isinstance(operations, list | tuple) or "verify" not in operations:
        return None
    if kid is not None and not isinstance(kid, str):
        raise _bad_key_set("a kid is not a string")
    return VerificationKey(kid, None if use is None else str(use), algorithms, jwk)


def _algorithms(jwk: Mapping[str, object]) -> frozenset[str]:
    match jwk.get("kty"), jwk.get("crv"):
        case "RSA", _:
            named = jwk.get("alg", "RS256")
            return frozenset({named} if isinstance(named, str) and named in _RSA else ())
        case "EC", str(curve):
            own = _OF_CURVE.get(curve)
            return frozenset({own} if own is not None and jwk.get("alg", own) == own else ())
        case "OKP", "Ed25519":
            return _EDWARDS if jwk.get("alg", "EdDSA") in ("EdDSA", "Ed25519") else frozenset()
        case _:
            return frozenset()


def _certificate(jwk: Mapping[str, object]) -> bytes:
    chain = jwk.get("x5c")
    # Exactly one certificate, in ordinary base64 (SPIFFE Trust Domain and Bundle §4.2.1, RFC 7517 §4.7).
    match chain:
        case [str(text)]:
            try:
                return b64decode(text, validate=True)
            except ValueError:
                pass
        case _:
            pass
    raise _bad_key_set("the x5c of an X.509 authority is not one certificate")


@lru_cache(maxsize=_MAX_KEYS)  # A key set may be read anew for each token, and people are told once.
def _weakness(n: str, e: str, kid: str | None) -> str | None:
    """Return the weakness of an RSA key, and log it; a malformed one is refused at its first use."""
    try:
        modulus, exponent = (int.from_bytes(b64url_decode(number), "big") for number in (n, e))
    except ValueError:
        return None
    weakness = weakness_of(modulus, exponent)
    if weakness is not None:
        shown = "without a kid" if kid is None else repr(kid[:64])
        _LOG.warning("a key of a provider does not count: the RSA key %s has %s; have it replaced", shown, weakness)
    return weakness


def _weak(key: VerificationKey) -> TokenError:
    return TokenError(
        f"the token is signed by an RSA key with {key.weakness}; have the issuer replace it",
        code="weak_key",
    )


def _read(document: str | bytes) -> Mapping[str, object]:
    if isinstance(document, str):
        document = document.encode("utf-8", "surrogatepass")  # Reading refuses lone surrogates.
    if len(document) > MAX_KEY_SET:
        raise _bad_key_set(f"it is larger than {MAX_KEY_SET} bytes")
    return read_object(document, "the key set", code="bad_key_set")


def _bad_key_set(problem: str) -> TokenError:
    return TokenError(f"bad key set: {problem}", code="bad_key_set")


def weakness_of(modulus: int, exponent: int) -> str | None:
    """Return the weakness of an RSA key in words, or ``None`` if none is known."""
    if modulus.bit_length() < _LEAST_BITS:
        return f"a modulus of fewer than {_LEAST_BITS:,} bits"
    if exponent < _LEAST_EXPONENT or exponent % 2 == 0:
        return f"a public exponent that is even or less than {_LEAST_EXPONENT:,}"
    if _has_fingerprint(modulus):
        return "a modulus of a library whose keys can be factored (ROCA, CVE-2017-15361)"
    return None


def _has_fingerprint(modulus: int) -> bool:
    """Return whether one power of the generator is the modulus for all primes at once (Pohlig and Hellman)."""
    exponent, period = 0, 1
    for prime, logarithms in _tables():
        wanted, order = logarithms.get(modulus % prime), len(logarithms)
        if wanted is None or (wanted - exponent) % gcd(period, order):
            return False
        while exponent % order != wanted:
            exponent += period
        period *= order // gcd(period, order)
    return True


@cache
def _tables() -> tuple[tuple[int, dict[int, int]], ...]:
    """Return, for each odd prime, the powers of the generator with their exponents."""
    odd = range(3, _GREATEST_PRIME + 1, 2)
    primes = [number for number in odd if all(number % divisor for divisor in range(3, number, 2))]
    return tuple((prime, _logarithms(prime)) for prime in primes)


def _logarithms(prime: int) -> dict[int, int]:
    exponents: dict[int, int] = {}
    power = 1
    while power not in exponents:
        exponents[power] = len(exponents)
        power = power * _GENERATOR % prime
    return exponents
