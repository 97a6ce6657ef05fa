"""Ed25519 keys: standard signatures, one name per key, and nothing shown."""

import copy
import json
import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_identity._identity.common.encoding import b64url_encode
from agent_identity.errors import TokenError
from agent_identity.identity import PublicKey, Signer, SigningKey

SEED = bytes.fromhex("c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7")
KEY = SigningKey.from_seed(SEED)
RAW = KEY.public_key.raw
JWK = KEY.public_key.to_jwk()
P = 2**255 - 19

# RFC 8032 §7.1: seed, public key, message, signature.
RFC_8032 = [
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        (
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46b"
            "d25bf5f0595bbe24655141438e7a100b"
        ),
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        (
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c"
            "387b2eaeb4302aeeb00d291612bb0c00"
        ),
    ),
    (
        SEED.hex(),
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        (
            "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc659"
            "4a7c15e9716ed28dc027beceea1ec40a"
        ),
    ),
]


@pytest.mark.parametrize(("seed", "public", "message", "signature"), RFC_8032)
def test_the_vectors_of_rfc_8032(seed: str, public: str, message: str, signature: str) -> None:
    """Key, signature and verification are those of the standard."""
    key = SigningKey.from_seed(bytes.fromhex(seed))
    assert key.public_key.raw.hex() == public
    assert key.sign(bytes.fromhex(message)).hex() == signature
    PublicKey(bytes.fromhex(public)).verify(bytes.fromhex(signature), bytes.fromhex(message))


def test_the_vectors_of_wycheproof(shared_vectors: Path) -> None:
    """Every signature that Wycheproof calls valid verifies, and every other one is refused."""
    groups = json.loads((shared_vectors / "wycheproof" / "ed25519_test.json").read_bytes())["testGroups"]
    results = set()
    for group in groups:
        key = PublicKey(bytes.fromhex(group["publicKey"]["pk"]))
        for case in group["tests"]:
            signature, message = bytes.fromhex(case["sig"]), bytes.fromhex(case["msg"])
            results.add(case["result"])
            if case["result"] == "valid":
                key.verify(signature, message)
            else:
                with pytest.raises(TokenError, match="not one of"):
                    key.verify(signature, message)
    assert results == {"valid", "invalid"}


def test_the_worked_example(shared_vectors: Path) -> None:
    """Keys and thumbprints are those of our own published vectors."""
    keys = json.loads((shared_vectors / "agent_identity_v1.json").read_bytes())["keys"]
    assert len(keys) == 5
    for vector in keys.values():
        key = SigningKey.from_seed(bytes.fromhex(vector["seed"])).public_key
        assert b64url_encode(key.raw) == vector["public_b64u"]
        assert key.thumbprint == vector["jwk_thumbprint"]


def test_the_thumbprint_of_rfc_8037() -> None:
    """RFC 8037, appendix A.3, names its key as we do; the URI is that of RFC 9278."""
    key = PublicKey.from_jwk({"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"})
    assert key.thumbprint == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
    assert key.thumbprint_uri == f"urn:ietf:params:oauth:jwk-thumbprint:sha-256:{key.thumbprint}"


@given(st.binary(min_size=32, max_size=32), st.binary(max_size=100), st.integers(0, 511))
def test_one_flipped_bit_of_a_signature_is_noticed(seed: bytes, message: bytes, bit: int) -> None:
    """A signature verifies for its message and key, and none with one bit changed does."""
    key = SigningKey.from_seed(seed)
    signature = key.sign(message)
    key.public_key.verify(signature, message)
    flipped = (int.from_bytes(signature, "big") ^ 1 << bit).to_bytes(64, "big")
    for bad, said in ((flipped, message), (signature, message + b"\0"), (signature + b"\0", message), (b"", message)):
        with pytest.raises(TokenError) as caught:
            key.public_key.verify(bad, said)
        assert caught.value.code == "bad_signature"


def test_another_key_does_not_verify() -> None:
    """A good signature of one key is none of another."""
    with pytest.raises(TokenError, match="not one of the named key"):
        SigningKey.generate().public_key.verify(KEY.sign(b"m"), b"m")


@given(st.binary(min_size=32, max_size=32))
def test_jwk_round_trip(seed: bytes) -> None:
    """A key is the same after its JWK."""
    key = SigningKey.from_seed(seed).public_key
    again = PublicKey.from_jwk(key.to_jwk())
    assert again == key
    assert hash(again) == hash(key)
    assert again.thumbprint == key.thumbprint


@pytest.mark.parametrize(
    "extra", [{"alg": "EdDSA"}, {"alg": "Ed25519"}, {"use": "sig"}, {"kid": "any"}, {"key_ops": []}]
)
def test_optional_jwk_members(extra: dict[str, object]) -> None:
    """What RFC 7517 allows beside the required members does not change the key."""
    assert PublicKey.from_jwk({**JWK, **extra}) == KEY.public_key


def _degenerate() -> list[bytes]:
    """All encodings of the points of small order, and y coordinates at or above the field size."""
    y_of_order_8 = 0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826
    ys = [0, 1, P - 1, y_of_order_8, P - y_of_order_8, P, P + 1, P + 2, 2**255 - 1]
    return [(y | sign << 255).to_bytes(32, "little") for y in ys for sign in (0, 1)]


def _order(y: int) -> int:
    """Return the order of the point with the y coordinate, by adding it to itself (RFC 8032 §5.1.4)."""
    d = -121665 * pow(121666, -1, P) % P
    squared = (y * y - 1) * pow(d * y * y + 1, -1, P) % P
    x = pow(squared, (P + 3) // 8, P)
    if x * x % P != squared:
        x = x * pow(2, (P - 1) // 4, P) % P
    assert x * x % P == squared
    point, order = (x, y), 1
    while point != (0, 1):
        (x1, y1), (x2, y2) = point, (x, y)
        k = d * x1 * x2 * y1 * y2
        point = (
            (x1 * y2 + x2 * y1) * pow(1 + k, -1, P) % P,
            (y1 * y2 + x1 * x2) * pow(1 - k, -1, P) % P,
        )
        order += 1
        assert order <= 8
    return order


def test_the_refused_points_have_small_order() -> None:
    """The five refused y coordinates are those of the points of order 4, 1, 2, 8 and 8."""
    assert [_order(int.from_bytes(raw, "little")) for raw in _degenerate()[:10:2]] == [4, 1, 2, 8, 8]


@pytest.mark.parametrize("raw", _degenerate())
def test_degenerate_keys_are_refused(raw: bytes) -> None:
    """A key under which one signature fits many messages, or with a second spelling, is no key."""
    with pytest.raises(ValueError, match="degenerate"):
        PublicKey(raw)
    with pytest.raises(TokenError):
        PublicKey.from_jwk({**JWK, "x": b64url_encode(raw)})


@pytest.mark.parametrize("size", [0, 31, 33, 64])
def test_other_lengths_are_refused(size: int) -> None:
    """A public key has 32 bytes and so has a seed."""
    with pytest.raises(ValueError, match=f"{size} bytes instead of 32"):
        PublicKey(b"\x09" * size)
    with pytest.raises(ValueError, match=f"{size} bytes instead of 32"):
        SigningKey.from_seed(b"\x09" * size)


@pytest.mark.parametrize("raw", [bytearray(RAW), memoryview(RAW), RAW.hex(), None])
def test_keys_are_made_of_bytes(raw: object) -> None:
    """A buffer that could change later makes no key."""
    with pytest.raises(TypeError, match="give bytes"):
        PublicKey(raw)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "jwk",
    [
        None,
        "x",
        [],
        {},
        {**JWK, "kty": "EC"},
        {**JWK, "kty": ["OKP"]},
        {**JWK, "kty": None},
        {**JWK, "crv": "Ed448"},
        {**JWK, "crv": "X25519"},
        {**JWK, "crv": "ed25519"},
        {**JWK, "alg": "none"},
        {**JWK, "alg": "HS256"},
        {**JWK, "alg": "ES256"},
        {**JWK, "alg": None},
        {**JWK, "use": "enc"},
        {**JWK, "d": b64url_encode(SEED)},
        {**JWK, "d": None},
        {"kty": "OKP", "crv": "Ed25519"},
        {**JWK, "x": None},
        {**JWK, "x": RAW},
        {**JWK, "x": ""},
        {**JWK, "x": JWK["x"] + "="},
        {**JWK, "x": JWK["x"] + "A"},
        {**JWK, "x": JWK["x"][:-1]},
        {**JWK, "x": JWK["x"][:-1] + chr(ord(JWK["x"][-1]) + 1)},
        {**JWK, "x": " " + JWK["x"]},
        {**JWK, "x": b64url_encode(RAW + b"\0")},
        {**JWK, "x": b64url_encode(RAW[:31])},
    ],
)
def test_ac_13_other_jwks_are_refused(jwk: object) -> None:
    """Only a public Ed25519 JWK in its one spelling is a key; no header or member selects another algorithm."""
    with pytest.raises(TokenError) as caught:
        PublicKey.from_jwk(jwk)
    assert caught.value.code == "bad_key"
    assert JWK["x"][:8] not in str(caught.value)
    assert b64url_encode(SEED)[:8] not in str(caught.value)


def test_public_keys_travel() -> None:
    """A public key is frozen, and equal after pickling and copying, with its thumbprint."""
    for again in (pickle.loads(pickle.dumps(KEY.public_key)), copy.deepcopy(KEY.public_key)):  # noqa: S301
        assert again == KEY.public_key
        assert again.thumbprint == KEY.public_key.thumbprint
        again.verify(KEY.sign(b"m"), b"m")
    with pytest.raises(AttributeError):
        KEY.public_key.raw = bytes(32)  # type: ignore[misc]


def test_signing_keys_stay() -> None:
    """A signing key is neither pickled nor copied nor changed."""
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(TypeError, match="neither copied nor pickled"):
            pickle.dumps(KEY, protocol)
    for duplicate in (copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="neither copied nor pickled"):
            duplicate(KEY)
    with pytest.raises(AttributeError):
        KEY.public_key = SigningKey.generate().public_key  # type: ignore[misc]
    assert not hasattr(KEY, "__dict__")


def test_texts_of_a_key_show_its_name_only() -> None:
    """No text of a key holds the private half, in any common encoding."""
    secrets = [SEED.hex(), repr(SEED)[2:-1], b64url_encode(SEED)[:40], str(list(SEED))]
    for text in (repr(KEY), str(KEY), f"{KEY}", f"{[KEY]}"):
        assert [secret for secret in secrets if secret in text] == []
        assert KEY.public_key.thumbprint in text
    assert repr(KEY.public_key) == f"PublicKey(thumbprint='{KEY.public_key.thumbprint}')"


def test_generated_keys_differ() -> None:
    """Each new key is another one, and it fits the protocol of signers."""
    signers: list[Signer] = [SigningKey.generate(), SigningKey.generate()]
    assert signers[0].public_key != signers[1].public_key
    for signer in signers:
        signer.public_key.verify(signer.sign(b"m"), b"m")
