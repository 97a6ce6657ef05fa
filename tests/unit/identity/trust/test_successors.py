"""Signed successors of a trust file: who may sign one, and what it can change."""

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from agent_identity._identity.trust.document import check_root
from agent_identity._identity.trust.successors import followed, signed_successor
from agent_identity.errors import ConfigurationError, TokenError
from agent_identity.identity import FileVersion, SigningKey, TrustedKey, TrustStore, signed_trust

NOW = 1_764_000_000
ISSUER, RECORDER, NEXT, OTHER, ROOT, STRANGER = (SigningKey.generate() for _ in range(6))
URI, LOG = "https://issuer.example", "example/log"


def store(*keys: TrustedKey, origin: str = LOG, issuer: str = URI) -> TrustStore:
    """Return a store with the two keys of a directory and others."""
    own = (TrustedKey(ISSUER.public_key, "issuer"), TrustedKey(RECORDER.public_key, "recorder"))
    return TrustStore(own + keys, issuer=issuer, origin=origin, file=FileVersion(origin))


KEPT = store()
AFTER = KEPT.with_key(NEXT.public_key, "issuer", not_before=NOW)
ROOTED = signed_trust(
    replace(store(TrustedKey(ROOT.public_key, "root", origin="example/")), file=FileVersion("file", 1)), ROOT
)


def code(kept: TrustStore, given: TrustStore, signer: SigningKey, *, root: SigningKey | None = None) -> str:
    """Return the code with which a successor is refused; empty if it is followed."""
    try:
        then = followed(kept, signed_successor(given, signer), at=NOW, root=None if root is None else root.public_key)
    except (TokenError, ConfigurationError) as error:
        return error.code
    assert then == given
    return ""


def test_an_issuer_key_that_counts_signs_the_next_file() -> None:
    """The next file has the same id and a higher revision, and so has the one after it by the next key."""
    assert code(KEPT, AFTER, ISSUER) == ""
    assert AFTER.file == FileVersion(LOG, 2)
    assert code(AFTER, AFTER.with_keys(AFTER.keys[:2]), NEXT) == ""


@pytest.mark.parametrize(
    ("kept", "signer", "expected"),
    [
        (KEPT, STRANGER, "unknown_key"),
        (KEPT, RECORDER, "unknown_key"),
        (KEPT, NEXT, "unknown_key"),
        (store(TrustedKey(OTHER.public_key, "issuer", issuer="https://partner.example")), OTHER, "unknown_key"),
        (store(TrustedKey(OTHER.public_key, "issuer", not_after=NOW - 1)), OTHER, "key_not_valid_then"),
        (store(TrustedKey(OTHER.public_key, "issuer", revoked_since=NOW - 1)), OTHER, "key_revoked"),
    ],
    ids=["a stranger", "the recorder", "the new key itself", "a partner", "an ended key", "a revoked key"],
)
def test_ac_17_no_other_key_signs_a_successor(kept: TrustStore, signer: SigningKey, expected: str) -> None:
    """Only an own issuer key that counts now leads to the next file."""
    assert code(kept, kept.with_key(NEXT.public_key, "issuer"), signer) == expected


def revoked(trust: TrustStore) -> TrustStore:
    """Return the store with its last key revoked."""
    return trust.with_keys((*trust.keys[:-1], replace(trust.keys[-1], revoked_since=NOW - 9)))


@pytest.mark.parametrize(
    ("kept", "given"),
    [
        (AFTER, KEPT),
        (AFTER, AFTER),
        (AFTER, replace(AFTER, keys=AFTER.keys[:2])),
        (revoked(AFTER), replace(AFTER, file=FileVersion(LOG, 9))),
        (AFTER, replace(AFTER, origin="example/other", file=FileVersion(LOG, 9))),
    ],
    ids=["older", "the same", "the same revision", "without a revocation", "another log"],
)
def test_ac_18_a_successor_takes_nothing_back(kept: TrustStore, given: TrustStore) -> None:
    """The revision rises, revoked keys stay revoked, and the log stays."""
    assert code(kept, given, ISSUER) in {"trust_rolled_back", "bad_configuration"}


def test_ac_17_a_successor_of_another_issuer_is_refused() -> None:
    """The key of one issuer says nothing about another."""
    assert code(KEPT, replace(AFTER, issuer="https://other.example"), ISSUER) == "bad_configuration"


def test_of_another_file_the_issuer_keys_are_taken_alone() -> None:
    """A machine of the same issuer adds its next issuer key, and says that one is revoked; it changes nothing else."""
    partner = TrustedKey(STRANGER.public_key, "issuer", issuer="https://partner.example")
    recorder = TrustedKey(OTHER.public_key, "recorder")
    listed = store(TrustedKey(OTHER.public_key, "issuer"))
    gone = replace(listed.keys[-1], revoked_since=NOW, reason="lost")
    given = store(TrustedKey(NEXT.public_key, "issuer"), partner, recorder, gone, origin="example/second")
    then = followed(listed, signed_successor(given, ISSUER), at=NOW)
    assert then.keys == (*listed.keys[:2], gone, TrustedKey(NEXT.public_key, "issuer"))
    assert (then.origin, then.file) == (LOG, FileVersion(LOG, 1))


@pytest.mark.parametrize("pinned", [True, False])
def test_ac_17_where_a_root_signed_only_a_root_signs_the_next(pinned: bool) -> None:
    """An issuer key leads on neither from a file that a root signed, nor where a root is pinned."""
    following = ROOTED.with_key(NEXT.public_key, "issuer")
    root = ROOT if pinned else None
    assert code(ROOTED, following, ISSUER, root=root) == "bad_trust_signature"
    assert code(ROOTED, signed_trust(following, ROOT), STRANGER, root=root) == ""
    own = replace(following, keys=(*following.keys, TrustedKey(OTHER.public_key, "root", origin="example/")))
    assert code(ROOTED, signed_trust(own, OTHER), ISSUER, root=root) == "bad_trust_signature"


@pytest.mark.parametrize(
    ("given", "root"),
    [(AFTER, ROOT), (ROOTED, OTHER)],
    ids=["not signed", "by another root"],
)
def test_ac_17_a_pinned_root_must_have_signed(given: TrustStore, root: SigningKey) -> None:
    """A file is refused that any other key signed, or none."""
    with pytest.raises(ConfigurationError) as caught:
        check_root(given, root.public_key, at=NOW)
    assert caught.value.code == "bad_trust_signature"
    check_root(ROOTED, ROOT.public_key, at=NOW)


@pytest.mark.parametrize("spoil", [lambda token: token[:-3] + "AAA", lambda token: "a.b", lambda _: ""])
def test_ac_17_a_spoiled_successor_is_refused(spoil: Callable[[str], str]) -> None:
    """The signature is over every byte."""
    with pytest.raises(TokenError):
        followed(KEPT, spoil(signed_successor(AFTER, ISSUER)), at=NOW)


def test_a_pin_names_the_root_and_the_lowest_revision() -> None:
    """By key or thumbprint; a file of a lower revision, or of another root, is refused as it is read."""
    data, other = ROOTED.to_json(), OTHER.public_key
    for pin in (None, ROOT.public_key, ROOT.public_key.thumbprint):
        assert TrustStore.load(data, root=pin, revision=1) == ROOTED
        with pytest.raises(ConfigurationError, match="has revision 1, older than 2; take the one in force") as caught:
            TrustStore.load(data, root=pin, revision=2)
        assert caught.value.code == "trust_rolled_back"
    for pin, message in ((other, "is not the pinned one"), (other.thumbprint, "does not list the pinned root")):
        with pytest.raises(ConfigurationError, match=message) as caught:
            TrustStore.load(data, root=pin)
        assert caught.value.code == "bad_trust_signature"


def test_ac_17_a_root_for_recorders_signs_no_trust_file() -> None:
    """Neither the library, nor a reader, nor a follower, nor a pin lets it, though it certifies recorders."""
    entry = TrustedKey(ROOT.public_key, "root", origin="example/", recorders_only=True)
    given = replace(store(entry), file=FileVersion("file", 2))
    with pytest.raises(ConfigurationError, match="not for recorders only"):
        signed_trust(given, ROOT)
    free = signed_trust(replace(given, keys=(*given.keys[:-1], replace(entry, recorders_only=False))), ROOT)
    forged = replace(given, file=free.file)
    assert forged.to_json() == given.to_json()  # No signature is written that would not be read.
    assert code(ROOTED, given, ISSUER) == "bad_trust_signature"
    assert TrustStore.load(given.to_json()) == given
    document = json.loads(given.to_json())
    document["signature"] = free.file.signature
    with pytest.raises(ConfigurationError, match="is not that of a root that is listed, not revoked and signs"):
        TrustStore.load(document)


def test_only_a_root_is_for_recorders_only() -> None:
    """The mark is true or absent."""
    with pytest.raises(ValueError, match="its purpose is not root"):
        TrustedKey(ROOT.public_key, "issuer", recorders_only=True)
    with pytest.raises(TypeError, match="recorders_only is not a bool"):
        TrustedKey(ROOT.public_key, "root", origin="a/", recorders_only=1)  # type: ignore[arg-type]
