"""Weak foreign RSA keys, whose signatures another party may be able to forge.

Refused are moduli below 2,048 bits (NIST SP 800-131A), public exponents that are even or below 65,537 (FIPS 186-5,
A.1.1), and moduli with the fingerprint of a faulty library (ROCA, CVE-2017-15361): M. Nemec, M. Sys, P. Svenda,
D. Klinec, V. Matyas, "The Return of Coppersmith's Attack", CCS 2017. Its primes have the form
``k·M + (65537^a mod M)``, where M is the product of the first 39 primes at least. So the logarithm of such a modulus to
the base 65537 exists modulo M; of any other modulus, hardly ever.
"""

from functools import cache
from math import gcd
from typing import Final

__all__ = ["weakness_of"]

_LEAST_BITS: Final = 2048
_LEAST_EXPONENT: Final = 65_537
_GENERATOR: Final = 65_537
_GREATEST_PRIME: Final = 167
"""The 39th prime."""


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
