"""The names under which others cosign."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_identity._identity.common.encoding import b64_decode, b64_encode
from agent_identity._identity.keys.cosigners import Cosigner
from agent_identity.identity import SigningKey

PUBLIC = SigningKey.from_seed(bytes(32)).public_key
NAME = "witness.example/w1"


def test_a_verifier_key_is_read_back() -> None:
    """A verifier key holds name, type and key, and is the only text for them."""
    cosigner = Cosigner(NAME, PUBLIC)
    assert Cosigner.from_vkey(cosigner.vkey) == cosigner


def test_the_verifier_key_of_something_else_is_that_of_no_cosigner() -> None:
    """The same key under another type (plain note signatures, ML-DSA-44) is refused, and under a foreign id as well."""
    good = Cosigner(NAME, PUBLIC).vkey
    name, key_id, encoded = good.split("+", 2)
    for text in (
        *(f"{name}+{key_id}+{b64_encode(bytes([kind]) + PUBLIC.raw)}" for kind in (1, 6)),
        f"{name}+00000000+{encoded}",
        f"other.example+{key_id}+{encoded}",
        f"{name}+{key_id}",
        f"{name}+{key_id}+{encoded[:-4]}",
        good + "=",
    ):
        with pytest.raises(ValueError, match=r" (is|are|has|have|does) "):
            Cosigner.from_vkey(text)


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\nb", "x" * 257])
def test_a_name_that_breaks_the_rules_is_refused(name: str) -> None:
    """No cosigner has a name that a note has no room for."""
    with pytest.raises(ValueError, match=r" (is|are|has|have|does) "):
        Cosigner(name, PUBLIC)


@given(st.binary(max_size=40))
def test_base64_has_one_spelling(data: bytes) -> None:
    """Bytes are read back from their text, and from no other text."""
    text = b64_encode(data)
    assert b64_decode(text) == data
    for other in (text + "\n", text.rstrip("=") + "==", "!" + text):
        if other != text:
            with pytest.raises(ValueError, match="canonical"):
                b64_decode(other)
