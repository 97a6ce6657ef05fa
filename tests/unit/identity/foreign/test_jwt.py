"""Tokens of others are taken apart with suspicion."""

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_identity._identity.common.encoding import b64url_encode, digest_of
from agent_identity._identity.foreign.jwt import ALGORITHMS, read_object, read_token
from agent_identity.errors import TokenError


def _token(header: object, payload: object = b"{}", signature: bytes = b"s") -> str:
    parts = [part if isinstance(part, bytes) else json.dumps(part).encode() for part in (header, payload)]
    return ".".join(map(b64url_encode, (*parts, signature)))


GOOD = {"alg": "ES256"}


def test_the_parts_of_a_token_are_those_that_were_signed() -> None:
    """Algorithm, type, key and bytes come out, and the hash is that of the signing input."""
    text = _token({"alg": "RS256", "typ": "application/AT+JWT", "kid": "k", "x5t": "ignored"}, b"claims", b"sig")
    token = read_token(text)
    assert (token.algorithm, token.typ, token.kid) == ("RS256", "at+jwt", "k")
    assert token.members == {"alg", "typ", "kid", "x5t"}
    assert (token.payload, token.signature) == (b"claims", b"sig")
    assert token.signing_input == text.rpartition(".")[0].encode()
    assert token.hash == digest_of(token.signing_input)
    assert "claims" not in repr(token)
    bare = read_token(_token(GOOD))
    assert (bare.typ, bare.kid) == (None, None)


@pytest.mark.parametrize(
    ("token", "code"),
    [
        (None, "malformed_token"),
        (b"a.b.c", "malformed_token"),
        ("", "malformed_token"),
        ("a.b", "malformed_token"),
        ("a.b.c.d.e", "malformed_token"),
        (_token(GOOD) + "\n", "malformed_token"),
        (_token(GOOD) + "=", "malformed_token"),
        (" " + _token(GOOD), "malformed_token"),
        ("\ud800" + _token(GOOD), "malformed_token"),
        ("a" * 65_537, "too_large"),
        (_token([]), "malformed_token"),
        (_token(b"{"), "malformed_token"),
        (_token(b"\xff"), "malformed_token"),
        (_token(b"[" * 40_000), "malformed_token"),
        (_token(b'{"alg":"ES256","alg":"ES256"}'), "malformed_token"),
        (_token(b'{"alg":"ES256","x":NaN}'), "malformed_token"),
        (_token(b'\xef\xbb\xbf{"alg":"ES256"}'), "malformed_token"),
        (_token({}), "algorithm_not_allowed"),
        (_token({"alg": None}), "algorithm_not_allowed"),
        (_token({"alg": ["ES256"]}), "algorithm_not_allowed"),
        (_token({**GOOD, "typ": 1}), "malformed_token"),
        (_token({**GOOD, "typ": ""}), "malformed_token"),
        (_token({**GOOD, "kid": None}), "malformed_token"),
        (_token({**GOOD, "kid": ""}), "malformed_token"),
        (_token({**GOOD, "kid": "k" * 257}), "malformed_token"),
    ],
)
def test_what_is_no_token_is_refused(token: Any, code: str) -> None:
    """Each has its code, and the message repeats nothing of it."""
    with pytest.raises(TokenError) as caught:
        read_token(token)
    assert caught.value.code == code
    assert len(str(caught.value)) < 160


@pytest.mark.parametrize(
    "algorithm", ["none", "None", "NONE", "nOnE", "", "HS256", "HS384", "HS512", "ES256K", "es256", "RS1", "RSA-OAEP"]
)
def test_ac_13_an_algorithm_without_a_public_key_is_refused(algorithm: str) -> None:
    """No algorithm but the signatures with public keys gets as far as a key."""
    assert algorithm not in ALGORITHMS
    with pytest.raises(TokenError) as caught:
        read_token(_token({"alg": algorithm}))
    assert caught.value.code == "algorithm_not_allowed"


@pytest.mark.parametrize("member", ["jwk", "jku", "x5c", "x5u", "crit", "b64"])
@pytest.mark.parametrize("value", [None, {}, [], "https://evil.example/keys"])
def test_ac_14_a_header_that_brings_a_key_is_refused(member: str, value: object) -> None:
    """Whatever it holds, a member that would choose the key is refused and not ignored."""
    with pytest.raises(TokenError) as caught:
        read_token(_token({**GOOD, member: value}))
    assert caught.value.code == "unknown_header"
    assert "evil" not in str(caught.value)


@given(
    st.text() | st.lists(st.binary(max_size=40), min_size=3, max_size=3).map(lambda p: ".".join(map(b64url_encode, p)))
)
def test_any_text_is_read_or_refused(text: str) -> None:
    """Nothing but a TokenError comes out of texts that are no tokens."""
    with suppress(TokenError):
        assert read_token(text).signing_input.decode() == text.rpartition(".")[0]


def test_objects_are_read_with_the_given_code() -> None:
    """A document that is no object has the code of its kind."""
    assert read_object(b' {"a": [1, 2.5, null]} ', "it") == {"a": [1, 2.5, None]}
    for data in (b"null", b"1", b'"x"', b"", b"{}{}", b'{"a":{"b":1,"b":1}}'):
        with pytest.raises(TokenError, match="it: not") as caught:
            read_object(data, "it", code="bad_key_set")
        assert caught.value.code == "bad_key_set"
