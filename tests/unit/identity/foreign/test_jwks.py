"""Key sets of others: every key has one use and one algorithm, whatever a header says."""

import json
import subprocess
import sys
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest

from agent_identity._identity.foreign.jwks import VerificationKey, key_source
from agent_identity._identity.foreign.jwt import ALGORITHMS, ForeignToken, read_token
from agent_identity.errors import ConfigurationError, TokenError
from agent_identity.identity import KeySet

SIGNING = frozenset({"sig", None})


def _find(keys: KeySet, algorithm: str, kid: str | None, uses: frozenset[str | None] = SIGNING) -> VerificationKey:
    return keys.find(ForeignToken(algorithm, None, kid, frozenset(), b"", b"", b""), uses=uses)


@pytest.mark.parametrize("kid", ["ec", "ec384", "ec521", "rsa", "pss", "ed", "named"])
def test_every_type_of_key_verifies_what_it_signed(issuer: Any, stranger: Any, kid: str) -> None:
    """The right key accepts, and neither another key of the type nor a changed signature is accepted."""
    keys = KeySet.parse(issuer.jwks())
    token = read_token(issuer.token(key=kid))
    keys.find(token, uses=SIGNING).verify(token)
    for wrong in (
        issuer.token(key=kid)[:-8] + "AAAAAAAA",
        issuer.token(key=kid).rpartition(".")[0] + ".",
        issuer.token(key=kid) + "AAAA",
        stranger.token(key=kid) if stranger.keys[kid] is not issuer.keys[kid] else issuer.signed({}, key=kid) + "AAAA",
    ):
        changed = read_token(wrong)
        with pytest.raises(TokenError) as caught:
            keys.find(changed, uses=SIGNING).verify(changed)
        assert caught.value.code == "bad_signature"


def test_ac_13_the_algorithm_is_pinned_to_the_key(issuer: Any) -> None:
    """Of every pair of key and algorithm only the key's own is accepted, by lookup and by the key itself."""
    keys = KeySet.parse(issuer.jwks())
    own = {
        "ec": {"ES256"},
        "ec384": {"ES384"},
        "ec521": {"ES512"},
        "rsa": {"RS256"},
        "pss": {"PS384"},
        "ed": {"EdDSA", "Ed25519"},
        "named": {"EdDSA", "Ed25519"},
    }
    for kid, accepted in own.items():
        key = next(key for key in keys.keys if key.kid == kid)
        assert key.algorithms == accepted
        for algorithm in ALGORITHMS - accepted:
            token = read_token(issuer.token(key=kid, header={"alg": algorithm}))
            with pytest.raises(TokenError) as lookup:
                keys.find(token, uses=SIGNING)
            with pytest.raises(TokenError) as check:
                key.verify(token)
            assert lookup.value.code == check.value.code == "algorithm_not_allowed"


@pytest.mark.parametrize(
    ("changes", "algorithm"),
    [
        ({"alg": "RS512"}, "RS512"),
        ({"alg": "PS256"}, "PS256"),
        ({"alg": "RSA-OAEP"}, None),
        ({"alg": "HS256"}, None),
        ({"alg": 1}, None),
        ({"alg": "none"}, None),
        ({"use": "enc"}, None),
        ({"use": 1}, None),
        ({"use": ["sig"]}, None),
        ({"use": ...}, "RS256"),
        ({"key_ops": ["encrypt"]}, None),
        ({"key_ops": "verify"}, None),
        ({"key_ops": ["verify"]}, "RS256"),
        ({"kty": "oct"}, None),
        ({"kty": ...}, None),
    ],
)
def test_what_is_for_something_else_is_left_out(issuer: Any, changes: dict[str, object], algorithm: str | None) -> None:
    """A key is there exactly if it is for signatures of its type."""
    keys = KeySet.parse(issuer.jwks("rsa", **changes)).keys
    assert [key.algorithms for key in keys] == ([] if algorithm is None else [{algorithm}])


@pytest.mark.parametrize(
    ("kid", "changes"),
    [
        ("ec", {"alg": "ES384"}),
        ("ec", {"crv": "secp256k1"}),
        ("ec", {"crv": ...}),
        ("ed", {"alg": "ES256"}),
        ("ed", {"crv": "Ed448"}),
        ("ed", {"crv": "X25519"}),
    ],
)
def test_a_key_with_the_algorithm_of_another_type_is_left_out(
    issuer: Any, kid: str, changes: dict[str, object]
) -> None:
    """Type, curve and algorithm of a key have to fit."""
    assert KeySet.parse(issuer.jwks(kid, **changes)).keys == ()


@pytest.mark.parametrize(
    ("kid", "changes"),
    [
        ("rsa", {"n": ...}),
        ("rsa", {"n": 5}),
        ("rsa", {"n": "!"}),
        ("rsa", {"e": ...}),
        ("rsa", {"e": "!"}),
        ("rsa", {"e": "AQAAAAE"}),
        ("rsa", {"n": "_" * 1366 + "8"}),
        ("rsa", {"n": "_" * 2000}),
        ("ec", {"x": ...}),
        ("ec", {"y": "AAAA"}),
        ("ec", {"y": "A" * 43}),
        ("ed", {"x": ...}),
        ("ed", {"x": "AAAA"}),
        ("ed", {"x": "A" * 43}),
    ],
)
def test_a_damaged_key_verifies_nothing(issuer: Any, kid: str, changes: dict[str, object]) -> None:
    """Missing and malformed numbers, points off the curve, and moduli of another size are found at the first use."""
    keys = KeySet.parse(issuer.jwks(kid, **changes))
    token = read_token(issuer.token(key=kid))
    with pytest.raises(TokenError) as caught:
        keys.find(token, uses=SIGNING).verify(token)
    assert caught.value.code == "bad_key"


def test_a_weak_key_verifies_nothing_even_if_it_is_asked_itself(issuer: Any) -> None:
    """A weak key is kept apart, known by its name, and refuses every token."""
    keys = KeySet.parse(issuer.jwks("rsa", e="Aw"))
    token = read_token(issuer.token(key="rsa"))
    assert keys.keys == ()
    assert "rsa" in keys
    (weak,) = keys.weak
    for attempt in (lambda: weak.verify(token), lambda: keys.find(token, uses=SIGNING)):
        with pytest.raises(TokenError) as caught:
            attempt()
        assert caught.value.code == "weak_key"


def test_a_token_without_a_kid_needs_a_set_with_one_choice(issuer: Any) -> None:
    """Without a name the key is found if only one can be meant; a name that nobody has is unknown."""
    both = KeySet.parse(issuer.jwks("ec", "ec384"))
    assert _find(both, "ES256", None).kid == "ec"
    assert _find(both, "ES256", "ec").kid == "ec"
    twice = KeySet.parse({"keys": [issuer.jwk("ec"), issuer.jwk("ec", kid="other")]})
    for keys, algorithm, kid, code in (
        (twice, "ES256", None, "unknown_key"),
        (both, "RS256", None, "unknown_key"),
        (both, "ES256", "nobody", "unknown_key"),
        (KeySet.parse(issuer.jwks("ec", kid=...)), "ES256", "ec", "unknown_key"),
        (KeySet(()), "ES256", None, "unknown_key"),
        (both, "ES256", "ec384", "algorithm_not_allowed"),
    ):
        with pytest.raises(TokenError) as caught:
            _find(keys, algorithm, kid)
        assert caught.value.code == code


def test_the_use_of_a_key_is_kept_apart(issuer: Any) -> None:
    """A key of workloads signs no ID tokens and the other way round."""
    keys = KeySet.parse({"keys": [issuer.jwk("ec"), issuer.jwk("ec384", use="jwt-svid")]})
    assert _find(keys, "ES384", "ec384", frozenset({"jwt-svid"})).use == "jwt-svid"
    for algorithm, kid, uses in (("ES384", "ec384", SIGNING), ("ES256", "ec", frozenset({"jwt-svid"}))):
        with pytest.raises(TokenError) as caught:
            _find(keys, algorithm, kid, uses)
        assert caught.value.code == "unknown_key"


def test_two_types_may_share_a_kid_but_two_keys_of_a_type_may_not(issuer: Any) -> None:
    """RFC 7517 §4.5 lets keys of different types have one name; one name and algorithm twice is ambiguous."""
    shared = KeySet.parse({"keys": [issuer.jwk("ec", kid="k"), issuer.jwk("rsa", kid="k")]})
    assert "k" in shared
    assert "other" not in shared
    assert _find(shared, "RS256", "k").algorithms == {"RS256"}
    assert _find(shared, "ES256", "k").algorithms == {"ES256"}
    with pytest.raises(TokenError, match="the same kid"):
        KeySet.parse({"keys": [issuer.jwk("ed", kid="k"), issuer.jwk("named", kid="k")]})


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"keys": None},
        {"keys": {}},
        {"keys": ["k"]},
        {"keys": [{"kty": "RSA", "d": "AQ"}]},
        {"keys": [{"kty": "oct", "k": "AQ"}]},
        {"keys": [{}] * 257},
        {"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "AA", "kid": 1}]},
        {"keys": [{"use": "x509-svid"}]},
        {"keys": [{"use": "x509-svid", "x5c": []}]},
        {"keys": [{"use": "x509-svid", "x5c": ["AQ==", "AQ=="]}]},
        {"keys": [{"use": "x509-svid", "x5c": ["!"]}]},
        {"keys": [{"use": "x509-svid", "x5c": [1]}]},
        b"",
        b"[]",
        b'{"keys":[],"keys":[]}',
        b" " * (1 << 20) + b'{"keys":[]}',
    ],
    ids=lambda document: str(document)[:40],
)
def test_what_is_no_key_set_is_refused_as_a_whole(document: Any) -> None:
    """Private and symmetric keys, too many keys, and other forms make the set unusable."""
    with pytest.raises(TokenError) as caught:
        KeySet.parse(document)
    assert caught.value.code == "bad_key_set"


def test_certificates_of_a_bundle_are_kept_as_they_are() -> None:
    """The authority of each entry for X.509-SVIDs comes out as DER."""
    entry = {"kty": "EC", "use": "x509-svid", "x5c": [b64encode(b"der").decode()]}
    keys = KeySet.parse({"keys": [entry]})
    assert (keys.keys, keys.certificates) == ((), (b"der",))


def test_every_form_of_keys_becomes_a_source(issuer: Any, tmp_path: Path) -> None:
    """A path, its content and a key set give the same keys; a URL is refused with the way out."""
    path = tmp_path / "jwks.json"
    path.write_text(json.dumps(issuer.jwks()), encoding="utf-8")
    content = KeySet.parse(issuer.jwks())
    for form in (path, str(path), issuer.jwks(), content):
        assert key_source(form).keys_for("ec") == content
    assert KeySet.load(path) == content
    for url in ("https://login.example/keys", "HTTP://login.example"):
        with pytest.raises(ValueError, match="JwksSource"):
            key_source(url)
    with pytest.raises(ConfigurationError):
        key_source(tmp_path / "absent")


def test_a_missing_extra_is_named(issuer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without joserfc the message says what to install."""
    monkeypatch.setitem(sys.modules, "joserfc.jws", None)
    token = read_token(issuer.token())
    with pytest.raises(ConfigurationError, match=r"pip install '\.\[oidc\]'"):
        KeySet.parse(issuer.jwks()).find(token, uses=SIGNING).verify(token)
    alone = read_token(issuer.token(key="ed"))
    KeySet.parse(issuer.jwks()).find(alone, uses=SIGNING).verify(alone)


def test_neither_joserfc_nor_http_is_loaded_before_it_is_needed() -> None:
    """Importing the room and reading a key set load no library of others, and no HTTP."""
    program = (
        "import sys, agent_identity.identity, agent_identity._identity.principals.delegated_tokens\n"
        "from agent_identity import Human\n"
        "print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "agent_identity._identity.foreign.jwks" in loaded
    assert loaded.isdisjoint({"joserfc", "http.client", "ssl", "cryptography.x509"})


def test_a_document_is_text_or_bytes(issuer: Any) -> None:
    """Text is read like its bytes, and as strictly."""
    text = json.dumps(issuer.jwks()) if not isinstance(issuer.jwks(), bytes) else issuer.jwks().decode()
    assert KeySet.parse(text) == KeySet.parse(text.encode())
    for wrong in ("", "[]", '{"keys": "\ud800"}', "https://login.example.com/jwks"):
        with pytest.raises(TokenError) as caught:
            KeySet.parse(wrong)
        assert caught.value.code == "bad_key_set"
