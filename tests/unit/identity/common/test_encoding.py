"""Base64url has one spelling per value."""

import base64
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_identity._identity.common.encoding import b64url_decode, b64url_encode, digest_of

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


@given(st.binary())
def test_decoding_returns_what_was_encoded(data: bytes) -> None:
    """Any bytes survive the round trip, in the alphabet of RFC 4648 §5 and without padding."""
    text = b64url_encode(data)
    assert b64url_decode(text) == data
    assert set(text) <= set(ALPHABET)
    assert text == base64.urlsafe_b64encode(data).decode().rstrip("=")


@given(st.text(alphabet=ALPHABET + "=+/ \n.", max_size=12))
def test_what_decodes_is_the_only_spelling(text: str) -> None:
    """Text is refused if and only if it is not what encoding its bytes gives."""
    lenient: bytes | None = None
    with suppress(ValueError):
        lenient = base64.urlsafe_b64decode(text.rstrip("=") + "===")
    if lenient is not None and b64url_encode(lenient) == text:
        assert b64url_decode(text) == lenient
    else:
        with pytest.raises(ValueError, match="base64url"):
            b64url_decode(text)


@pytest.mark.parametrize(
    "text",
    [
        "AA==",  # padding
        "AAA=",
        "=",
        "A",  # no length of any bytes
        "AAAAA",
        "AB",  # bits after the last byte (RFC 4648 §3.5)
        "AAB",
        "+/+/",  # the other alphabet
        "AA AA",
        " AAAA",
        "AAAA\n",
        "AA\r\nAA",
        "AA\x00A",
        "ÀAAA",
        "ＡＡＡＡ",  # noqa: RUF001  Full-width letters, which casts fold to ASCII.
        "AA\ud800A",
        "AA.AA",
    ],
)
def test_ac_21_other_spellings_are_refused(text: str) -> None:
    """No second text decodes to bytes that have a text already."""
    with pytest.raises(ValueError, match="base64url"):
        b64url_decode(text)


@pytest.mark.parametrize("value", [b"AAAA", None, 4, ["AAAA"], type("Text", (str,), {})("AAAA")])
def test_only_text_is_decoded(value: object) -> None:
    """A value of a parsed document that is no plain string is refused like any other bad one."""
    with pytest.raises(ValueError, match="the base64url text is"):
        b64url_decode(value)  # type: ignore[arg-type]


def test_errors_keep_the_value_to_themselves() -> None:
    """The text may be part of a token and does not appear in the message."""
    with pytest.raises(ValueError, match="base64url") as caught:
        b64url_decode("c2VjcmV0=")
    assert "c2Vj" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_digest_is_sha256_in_base64url() -> None:
    """43 characters without padding: of nothing, and of FIPS 180-4's first example."""
    assert digest_of(b"") == "47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU"
    assert digest_of(b"abc") == "ungWv48Bz-pBQUDeXa4iI7ADYaOWF3qctBD_YfIAFa0"
