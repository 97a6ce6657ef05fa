"""Signed marks: exactly their claims, under exactly one key."""

import pytest

from agent_identity._authority.grants.proof_of_possession import id_of_proof
from agent_identity._authority.grants.signed_marks import (
    MARK_TYPE,
    SignedMark,
    sign_mark,
    signer_of_mark,
    verify_mark,
)
from agent_identity._identity.keys.jws import sign_compact
from agent_identity.errors import TokenError
from agent_identity.identity import SigningKey

KEY, OTHER = SigningKey.from_seed(b"\x01" * 32), SigningKey.from_seed(b"\x02" * 32)
MARK = SignedMark(by="a" * 42 + "A", call="call", grant="b" * 42 + "A", label="untrusted:finance", seq="12")


def test_a_mark_comes_back_as_it_was_signed() -> None:
    """Also who is said to have signed it, before anybody knows the key."""
    token = sign_mark(KEY, MARK)
    assert verify_mark(token, KEY.public_key) == MARK
    assert signer_of_mark(token) == MARK.by


def test_another_key_signs_no_mark() -> None:
    """The signature is that of the holder, or there is none."""
    with pytest.raises(TokenError) as caught:
        verify_mark(sign_mark(OTHER, MARK), KEY.public_key)
    assert caught.value.code == "bad_signature"


@pytest.mark.parametrize(
    "change",
    [
        {"seq": "x"},
        {"seq": "1" * 19},
        {"seq": "\u0663"},
        {"seq": 5},
        {"label": None},
        {"label": "trusted:b,a"},
        {"by": "a" * 43},
        {"grant": "none"},
        {"more": "x"},
        {"call": ["x"]},
    ],
)
def test_other_claims_are_no_mark(change: dict[str, object]) -> None:
    """A missing, further or malformed claim is refused, verified or not."""
    token = sign_compact({"typ": MARK_TYPE}, {**MARK._asdict(), **change}, KEY)
    for read in (lambda: verify_mark(token, KEY.public_key), lambda: signer_of_mark(token)):
        with pytest.raises(TokenError) as caught:
            read()
        assert caught.value.code == "bad_mark"


def test_a_token_of_another_type_is_no_mark() -> None:
    """A proof or a grant with the claims of a mark is none."""
    token = sign_compact({"typ": "aat-pop+jwt"}, MARK._asdict(), KEY)
    for read in (lambda: verify_mark(token, KEY.public_key), lambda: signer_of_mark(token)):
        with pytest.raises(TokenError) as caught:
            read()
        assert caught.value.code == "wrong_type"


def test_what_is_no_object_has_no_signer() -> None:
    """A token whose claims are a list, or none at all, is refused."""
    header, _, signature = sign_mark(KEY, MARK).split(".")
    for payload, code in (("WzFd", "malformed_token"), ("AA", "not_canonical")):
        with pytest.raises(TokenError) as caught:
            signer_of_mark(f"{header}.{payload}.{signature}")
        assert caught.value.code == code
        assert id_of_proof(f"{header}.{payload}.{signature}") is None
    assert id_of_proof("no token") is None
    assert id_of_proof(sign_compact({"typ": "x"}, {"jti": 5}, KEY)) is None
    assert id_of_proof(sign_compact({"typ": "x"}, {"jti": "5"}, KEY)) == "5"
