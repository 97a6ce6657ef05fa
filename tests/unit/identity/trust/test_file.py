"""The trust file: strict reading, one writing, and the signature of a root over it."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_identity._identity.common.encoding import b64url_decode
from agent_identity._identity.keys.cosigners import Cosigner
from agent_identity.errors import ConfigurationError
from agent_identity.identity import Approver, FileVersion, SigningKey, TrustedKey, TrustStore, Witnesses, signed_trust

SIGNERS = [SigningKey.from_seed(bytes([number]) * 32) for number in range(1, 7)]
KEYS = [signer.public_key for signer in SIGNERS]
ROOT = SIGNERS[0]
P256 = json.loads((Path(__file__).parents[3] / "vectors" / "signed-trust.json").read_bytes())["keys"][7]
FILE = FileVersion("urn:example:fleet", 3)


def approver(**changes: Any) -> Approver:
    """Return a credential of a person."""
    given: dict[str, Any] = {
        "person": "bob@example.com",
        "credential": b"c" * 16,
        "algorithm": "EdDSA",
        "key": KEYS[5].raw,
        "rp_id": "example.com",
        "origin": "https://example.com",
    }
    return Approver(**{**given, **changes})


ORIGINS = st.sampled_from(["a", "a/b", "a/", "a/b/", "c"])
TIMES = st.none() | st.integers(0, 2**53 - 1)


@st.composite
def stores(draw: st.DrawFn) -> TrustStore:
    """Any store without second keys, whose file is ``FILE``."""
    purposes = ["issuer", "recorder", "policy", "root"]
    pairs = draw(st.lists(st.tuples(st.sampled_from(KEYS[:3]), st.sampled_from(purposes)), unique=True, max_size=4))
    keys = []
    for key, purpose in pairs:
        more: dict[str, Any] = {"revoked_since": draw(TIMES)}
        if purpose == "root" or (purpose == "recorder" and draw(st.booleans())):
            more["origin"] = draw(ORIGINS)
        if purpose in ("issuer", "root"):
            more["issuer"] = draw(st.none() | st.sampled_from(["x", "y"]))
        keys.append(TrustedKey(key, purpose, **more))
    witnesses = Witnesses(())
    if draw(st.booleans()):
        witnesses = Witnesses((Cosigner("w", KEYS[4]),), draw(st.sampled_from([None, 1])), ((None, draw(TIMES)),))
        if witnesses.periods == ((None, None),):
            witnesses = replace(witnesses, periods=())
    approvers = draw(st.sampled_from([(), (approver(),), (approver(), approver(credential=b"d" * 1_023))]))
    named = {"issuer": draw(st.none() | st.just("x")), "origin": draw(st.none() | st.sampled_from(["a", "a/b"]))}
    return TrustStore(tuple(keys), **named, witnesses=witnesses, approvers=approvers, file=FILE)


@given(stores())
def test_a_signature_stays_on_what_it_was_made_for(store: TrustStore) -> None:
    """A store survives its file with its signature; one that was changed has none."""
    document = store.to_json()
    again = TrustStore.load(document)
    assert again == store
    assert again.to_json() == document
    root = store.get(ROOT.public_key.thumbprint, "root")
    if root is not None and root.sound:
        signed = signed_trust(store, ROOT)
        assert TrustStore.load(signed.to_json()) == signed
        assert "signature" not in json.loads(signed.with_keys(signed.keys).to_json())
        assert "signature" not in json.loads(replace(signed, issuer="z").to_json())


def content(**changes: Any) -> dict[str, Any]:
    """Return a file with an entry of each purpose."""
    keys = (
        TrustedKey(KEYS[1], "issuer"),
        TrustedKey(KEYS[2], "recorder", origin="a/b"),
        TrustedKey(KEYS[3], "policy"),
        TrustedKey(KEYS[0], "root", origin="a/"),
    )
    witnesses = Witnesses((Cosigner("w", KEYS[4]),))
    store = TrustStore(keys, witnesses=witnesses, approvers=(approver(),), file=FILE)
    found = {**json.loads(store.to_json()), **changes}
    return {name: value for name, value in found.items() if value is not ...}


def entry(of: str, **changes: Any) -> dict[str, Any]:
    """Return the file with one entry changed."""
    found = content()
    found["keys"] = [{**one, **changes} if one["purpose"] == of else one for one in found["keys"]]
    found["keys"] = [{name: value for name, value in one.items() if value is not ...} for one in found["keys"]]
    return found


def test_a_file_of_each_purpose_is_read() -> None:
    """Those that sign here by key, the others by what they are."""
    store = TrustStore.load(content())
    assert {key.purpose for key in store.keys} == {"issuer", "recorder", "policy", "root"}
    assert (len(store.approvers), len(store.witnesses.keys), store.file) == (1, 1, FILE)


@pytest.mark.parametrize(
    "file",
    [
        content(version="2"),
        content(version=1),
        content(version=None),
        content(version=...),
        content(id=...),
        content(id=""),
        content(id=7),
        content(revision=...),
        content(revision=0),
        content(revision=-1),
        content(revision=1 << 53),
        content(revision="3"),
        content(revision=True),
        content(revision=3.0),
        content(unknown="x"),
        content(quorum=2),
        content(quorum=0),
        content(merged_from=[]),
        content(merged_from=["x"] * 1_025),
        content(merged_from=["x"], signature="a..b"),
        content(witnesses={"keys": ["x"]}),
        content(keys="x"),
        content(keys=[{"purpose": "witness"}]),
        content(keys=[{}]),
        entry("issuer", origin="a"),
        entry("issuer", purpose="owner"),
        entry("issuer", kid="x"),
        entry("issuer", d="x"),
        entry("issuer", takes_over={"size": "1", "root": "0" * 64}),
        entry("recorder", issuer="x"),
        entry("recorder", origin="/"),
        entry("recorder", origin=""),
        entry("recorder", not_before=5, not_after=4),
        entry("root", origin=...),
        entry("root", origin="/"),
        entry("root", origin="a//"),
        entry("policy", origin="a"),
        entry("witness", vkey="w"),
        entry("witness", vkey="w+00000000+AAAA"),
        entry("witness", not_before=-1),
        entry("witness", not_before=2, not_after=1),
        entry("witness", kid="x"),
        entry("root", recorders_only=False),
        entry("approver", person=...),
        entry("approver", person=""),
        entry("approver", credential="AA"),
        entry("approver", credential="A" * 1_365),
        entry("approver", credential="="),
        entry("approver", alg="ES256"),
        entry("approver", alg="RS256"),
        entry("approver", x="AA"),
        entry("approver", x="A" * 43),
        entry("approver", y="A" * 43),
        entry("approver", rp_id="Example.com"),
        entry("approver", rp_id="example.com."),
        entry("approver", rp_id=""),
        entry("approver", rp_id="com.example"),
        entry("approver", rp_id="ample.com"),
        entry("approver", site="http://example.com"),
        entry("approver", site="https://example.com/"),
        entry("approver", site="https://user@example.com"),
        entry("approver", site="https://example.com:99999"),
        entry("approver", site="https://Example.com"),
        entry("approver", site="javascript:x"),
        entry("approver", reason="x"),
        entry("approver", d="x"),
    ],
)
def test_what_is_not_of_the_format_is_refused(file: dict[str, Any]) -> None:
    """Whole, with an error that can be shown to people."""
    with pytest.raises(ConfigurationError) as caught:
        TrustStore.load(file)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("version", ["2", "3", 1, None])
def test_another_version_is_refused_in_one_sentence(version: object) -> None:
    """The error names the member and the cure, and nothing else of the file."""
    with pytest.raises(ConfigurationError) as caught:
        TrustStore.load({"version": version, "keys": 7})
    assert str(caught.value) == (
        "bad trust file at 'version': the version is not \"1\"; restore it from a copy, or write a new one"
    )


def test_an_error_names_the_file(tmp_path: Path) -> None:
    """Several trust files may be at hand."""
    (tmp_path / "trust.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ConfigurationError) as caught:
        TrustStore.load(tmp_path / "trust.json")
    assert str(caught.value).startswith(f"{tmp_path / 'trust.json'}: bad trust file at 'version'")


def test_an_error_repeats_no_value() -> None:
    """A file that was mistaken for a trust file may hold anything."""
    for file in (entry("issuer", purpose="hunter2"), entry("witness", vkey="hunter2"), content(hunter2="hunter2")):
        with pytest.raises(ConfigurationError) as caught:
            TrustStore.load(file)
        assert str(caught.value).count("hunter2") == ("hunter2" in file)  # The name of a member is told.


def test_members_are_there_once() -> None:
    """A reader that takes the last one, and one that takes the first, would read two files."""
    text = json.dumps(content())
    for member in ('"revision": 3', '"purpose": "root"', '"id": "urn:example:fleet"'):
        assert member in text
        with pytest.raises(ConfigurationError):
            TrustStore.load(text.replace(member, f"{member}, {member}").encode())


def test_a_credential_of_either_algorithm_is_read() -> None:
    """A point of P-256, which is checked to be one."""
    file = content()
    file["keys"] = [P256]
    (found,) = TrustStore.load(file).approvers
    assert (found.algorithm, len(found.key), found.person) == ("ES256", 64, "bob@example.com")
    assert found.in_time(found.not_after or 0)
    assert not found.in_time((found.not_after or 0) + 1)
    for changed in ({"y": P256["x"]}, {"y": ...}, {"crv": "Ed25519"}, {"alg": "EdDSA"}):
        one = {name: value for name, value in {**P256, **changed}.items() if value is not ...}
        with pytest.raises(ConfigurationError):
            TrustStore.load({**file, "keys": [one]})


def test_a_change_raises_the_revision() -> None:
    """The id stays, and a change is unsigned."""
    store = TrustStore((TrustedKey(KEYS[0], "root", origin="a/"),), file=FILE)
    changed = signed_trust(store, ROOT).with_key(KEYS[1], "issuer")
    assert changed.file == FileVersion(FILE.id, FILE.revision + 1)


def test_a_new_store_is_a_new_file() -> None:
    """Each has an id of 128 random bits of its own and the first revision, unless it is given."""
    first, second = TrustStore(), TrustStore()
    assert first != second
    assert (first.file.revision, len(b64url_decode(first.file.id))) == (1, 16)
    assert TrustStore(file=FILE) == TrustStore(file=FILE)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace('"revision": 3', '"revision": 4'),
        lambda text: text.replace('"origin": "a/"', '"origin": "b/"'),
        lambda text: text.replace("..", ".e30."),
        lambda text: text[::1].replace('"signature": "', '"signature": "x'),
        lambda text: text.replace('"purpose": "root"', '"purpose": "root", "revoked_since": 1'),
    ],
)
def test_a_signature_is_over_all_of_it(change: Callable[[str], str]) -> None:
    """Whatever is changed, also in the signature itself."""
    store = TrustStore((TrustedKey(KEYS[0], "root", origin="a/"),), file=FILE)
    text = signed_trust(store, ROOT).to_json().decode()
    TrustStore.load(text.encode())
    assert change(text) != text
    with pytest.raises(ConfigurationError) as caught:
        TrustStore.load(change(text).encode())
    assert caught.value.code == "bad_trust_signature"


def test_only_a_root_of_the_file_signs_it() -> None:
    """No other key of it, and no revoked root."""
    keys = (TrustedKey(KEYS[0], "root", origin="a/", revoked_since=1), TrustedKey(KEYS[1], "issuer"))
    for signer in SIGNERS[:3]:
        with pytest.raises(ConfigurationError) as caught:
            signed_trust(TrustStore(keys, file=FILE), signer)
        assert caught.value.code == "bad_trust_signature"


def test_a_credential_out_of_bounds_is_not_made() -> None:
    """Also by programs that register one."""
    for changes, kind in (
        ({"key": "x"}, TypeError),
        ({"credential": "x" * 16}, TypeError),
        ({"credential": b"c" * 15}, ValueError),
        ({"credential": b"c" * 1_024}, ValueError),
        ({"algorithm": "RS256"}, ValueError),
        ({"algorithm": "ES256"}, ValueError),
        ({"algorithm": "ES256", "key": bytes(64)}, ValueError),
        ({"key": bytes(32)}, ValueError),
        ({"rp_id": None}, TypeError),
        ({"origin": "https://[::1"}, ValueError),
        ({"revoked_since": -1}, ValueError),
    ):
        with pytest.raises(kind):
            approver(**changes)


def test_a_store_of_other_types_is_not_made() -> None:
    """Approvers, periods of witnesses, and what a file says about itself are checked like the keys."""
    for approvers, kind in (([approver()], TypeError), ((1,), TypeError), ((approver(), approver()), ValueError)):
        with pytest.raises(kind):
            TrustStore(approvers=approvers)
    with pytest.raises(TypeError, match="give a FileVersion"):
        TrustStore(file=None)
    witness = Cosigner("w", KEYS[0])
    with pytest.raises(ValueError, match="period"):
        Witnesses((witness,), None, ((None, None), (None, None)))
    for changes, kind in (
        ({"revision": "1"}, TypeError),
        ({"revision": 0}, ValueError),
        ({"merged_from": ["x"]}, TypeError),
        ({"merged_from": ("x",), "signature": "x"}, ValueError),
        ({"merged_from": ("x",) * 1_025}, ValueError),
    ):
        with pytest.raises(kind):
            FileVersion(**{"id": "x", "revision": 1, **changes})
