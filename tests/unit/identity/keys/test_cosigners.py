"""ML-DSA-44 keys and the names under which others cosign."""

import copy
import pickle
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_identity._identity.common.encoding import b64_decode, b64_encode
from agent_identity.errors import ConfigurationError, TokenError
from agent_identity.identity import Cosigner, MlDsaPublicKey, MlDsaSigningKey, SigningKey

ED25519 = SigningKey.from_seed(bytes(32))
PUBLIC = ED25519.public_key
NAME = "witness.example/w1"
MODULE = "cryptography.hazmat.primitives.asymmetric.mldsa"


@pytest.fixture
def key() -> MlDsaSigningKey:
    """Return a key, where the installed library can make one."""
    pytest.importorskip(MODULE, reason="the installed cryptography has no ML-DSA")
    return MlDsaSigningKey.from_seed(bytes(range(32)))


def test_a_signature_is_of_one_key_and_one_message(key: MlDsaSigningKey) -> None:
    """What one key signed verifies under it, and under no other key and over no other message."""
    signature = key.sign(b"message")
    assert len(signature) == 2420
    key.public_key.verify(signature, b"message")
    other = MlDsaSigningKey.generate().public_key
    for wrong, signed, message in (
        (other, signature, b"message"),
        (key.public_key, signature, b"massage"),
        (key.public_key, signature[:-1], b"message"),
        (key.public_key, b"", b"message"),
    ):
        with pytest.raises(TokenError) as caught:
            wrong.verify(signed, message)
        assert caught.value.code == "bad_signature"


def test_the_key_of_a_seed_is_the_published_one(key: MlDsaSigningKey) -> None:
    """Seed 00..1f of NIST's example makes the key that others publish for it."""
    # The first bytes of the public key in RFC 9881, appendix C.1.1.
    assert key.public_key.raw[:16].hex() == "d7b2b47254aae0db45e7930d4a98d2c9"
    assert MlDsaPublicKey.from_text(key.public_key.to_jwk()["pub"]) == key.public_key
    assert len(key.public_key.thumbprint) == 43


def test_a_key_file_is_private_and_read_back(key: MlDsaSigningKey, tmp_path: Path) -> None:
    """A saved key signs as before, in a file of mode 0600 that is never overwritten, and of its own kind only."""
    path = tmp_path / "key.pem"
    key.save(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert MlDsaSigningKey.load(path).public_key == key.public_key
    with pytest.raises(ConfigurationError) as caught:
        key.save(path)
    assert caught.value.code == "already_exists"
    with pytest.raises(ConfigurationError, match="is not Ed25519"):
        SigningKey.load(path)
    ED25519.save(tmp_path / "other.pem")
    with pytest.raises(ConfigurationError, match=r"is not ML-DSA-44|is not Ed25519"):
        MlDsaSigningKey.load(tmp_path / "other.pem")


def test_a_private_key_is_neither_shown_nor_copied(key: MlDsaSigningKey) -> None:
    """No copy, pickle or text of a private key comes about."""
    for attempt in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError):
            attempt(key)
    assert bytes(range(32)).hex() not in repr(key)


def test_a_seed_has_32_bytes() -> None:
    """A seed of another length is refused."""
    with pytest.raises(ValueError, match="instead of 32"):
        MlDsaSigningKey.from_seed(bytes(31))


def test_an_older_library_says_that_it_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the algorithm nothing is signed and nothing is called verified or false; keys can still be named."""
    monkeypatch.setitem(sys.modules, MODULE, None)
    monkeypatch.delattr("cryptography.hazmat.primitives.asymmetric.mldsa", raising=False)
    public = MlDsaPublicKey(bytes(1312))
    assert Cosigner.from_vkey(Cosigner(NAME, public).vkey).key == public
    for attempt in (
        MlDsaSigningKey.generate,
        lambda: public.verify(bytes(2420), b""),
        lambda: MlDsaSigningKey.load("k"),
    ):
        with pytest.raises(ConfigurationError, match="install its newest version") as caught:
            attempt()
        assert caught.value.code == "ml_dsa_unavailable"


def test_a_library_built_without_it_says_that_it_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    """A module whose back end lacks the algorithm counts as one that lacks it."""
    mldsa = pytest.importorskip(MODULE, reason="the installed cryptography has no ML-DSA")
    from cryptography.exceptions import UnsupportedAlgorithm

    def refuse(_: bytes) -> None:
        raise UnsupportedAlgorithm("not in this build")

    lacking = type("Lacking", (), {"from_seed_bytes": refuse, "from_public_bytes": refuse})
    monkeypatch.setattr(mldsa, "MLDSA44PrivateKey", lacking)
    monkeypatch.setattr(mldsa, "MLDSA44PublicKey", lacking)
    for attempt in (MlDsaSigningKey.generate, lambda: MlDsaPublicKey(bytes(1312)).verify(bytes(2420), b"")):
        with pytest.raises(ConfigurationError) as caught:
            attempt()
        assert caught.value.code == "ml_dsa_unavailable"


@pytest.mark.parametrize(("raw", "error"), [(bytes(1311), ValueError), (bytearray(1312), TypeError)])
def test_a_public_key_has_one_form(raw: bytes, error: type[Exception]) -> None:
    """Only 1,312 bytes are a public key."""
    with pytest.raises(error):
        MlDsaPublicKey(raw)


@pytest.mark.parametrize("public", [PUBLIC, MlDsaPublicKey(bytes(1312))])
def test_a_verifier_key_is_read_back(public: MlDsaPublicKey) -> None:
    """A verifier key holds name, type and key, and is the only text for them."""
    cosigner = Cosigner(NAME, public)
    assert Cosigner.from_vkey(cosigner.vkey) == cosigner
    assert cosigner.algorithm in {"Ed25519", "ML-DSA-44"}


def test_the_verifier_key_of_a_log_is_that_of_no_cosigner() -> None:
    """The same key under the type of plain note signatures (1) is refused, and under a foreign id as well."""
    good = Cosigner(NAME, PUBLIC).vkey
    name, key_id, encoded = good.split("+", 2)
    for text in (
        f"{name}+{key_id}+{b64_encode(bytes([1]) + PUBLIC.raw)}",
        f"{name}+00000000+{encoded}",
        f"other.example+{key_id}+{encoded}",
        f"{name}+{key_id}",
        f"{name}+{key_id}+{encoded[:-4]}",
        good + "=",
    ):
        with pytest.raises(ValueError, match=r" (is|are|has|have|does) "):
            Cosigner.from_vkey(text)


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\nb", "x" * 257, "ü" * 128])
def test_a_name_that_breaks_the_rules_is_refused(name: str) -> None:
    """No cosigner has a name that a note, or the signed message of ML-DSA, has no room for."""
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
