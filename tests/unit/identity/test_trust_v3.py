"""Version 3 of the trust file: strict reading, one writing, and merging that gives no key more than it had."""

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_identity._identity.common import is_digest
from agent_identity.errors import ConfigurationError
from agent_identity.identity import (
    Approver,
    Cosigner,
    FileVersion,
    SigningKey,
    TrustedKey,
    TrustStore,
    Witnesses,
    check_successor,
    merged,
    signed_trust,
    trust_conflicts,
)

SIGNERS = [SigningKey.from_seed(bytes([number]) * 32) for number in range(1, 7)]
KEYS = [signer.public_key for signer in SIGNERS]
ROOT = SIGNERS[0]
P256 = json.loads((Path(__file__).parents[2] / "vectors" / "trust-v3.json").read_bytes())["keys"][7]
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
def stores(draw: st.DrawFn, version: int = 3) -> TrustStore:
    """Any store that version 3 holds, or without a file one of version 1 or 2."""
    purposes = ["issuer", "recorder", "policy", "root"] if version == 3 else ["issuer", "recorder"]
    pairs = draw(st.lists(st.tuples(st.sampled_from(KEYS[:3]), st.sampled_from(purposes)), unique=True, max_size=4))
    keys = []
    for key, purpose in pairs:
        more: dict[str, Any] = {"revoked_since": draw(TIMES)}
        if purpose == "root" or (purpose == "recorder" and draw(st.booleans())):
            more["origin"] = draw(ORIGINS.filter(lambda text: version == 3 or not text.endswith("/")))
        if purpose in ("issuer", "root"):
            more["issuer"] = draw(st.none() | st.sampled_from(["x", "y"]))
        if version < 3 and purpose == "root":
            continue
        keys.append(TrustedKey(key, purpose, **more))
    witnesses, approvers, file = Witnesses(()), (), None
    if version == 3:
        file = FILE
        if draw(st.booleans()):
            witnesses = Witnesses((Cosigner("w", KEYS[4]),), draw(st.sampled_from([None, 1])), ((None, draw(TIMES)),))
            if witnesses.periods == ((None, None),):
                witnesses = replace(witnesses, periods=())
        approvers = draw(st.sampled_from([(), (approver(),), (approver(), approver(credential=b"d" * 1_023))]))
    named = {"issuer": draw(st.none() | st.just("x")), "origin": draw(st.none() | st.sampled_from(["a", "a/b"]))}
    return TrustStore(tuple(keys), **named, witnesses=witnesses, approvers=approvers, file=file)


@given(stores())
def test_a_store_survives_its_file(store: TrustStore) -> None:
    """Equal stores have equal bytes, and a signature stays on what it was made for."""
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
        content(version="4"),
        content(version=3),
        content(version="2"),
        content(version="1"),
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


def test_what_only_version_3_holds_needs_an_id() -> None:
    """A store without one is not written as something else."""
    for store in (
        TrustStore((TrustedKey(KEYS[0], "root", origin="a/"),)),
        TrustStore((TrustedKey(KEYS[0], "policy"),)),
        TrustStore((TrustedKey(KEYS[0], "recorder", origin="a/"),)),
        TrustStore(approvers=(approver(),)),
        TrustStore(witnesses=Witnesses((Cosigner("w", KEYS[4]),), None, ((None, 5),))),
    ):
        with pytest.raises(ValueError, match="version 3"):
            store.to_json()
        TrustStore.load(replace(store, file=FILE).to_json())


def test_a_prefix_in_a_file_of_version_2_is_refused() -> None:
    """There, an origin was one name."""
    store = TrustStore((TrustedKey(KEYS[0], "recorder", origin="a"),))
    document = json.loads(store.to_json())
    document["keys"][0]["origin"] = "a/"
    with pytest.raises(ConfigurationError, match="is a prefix"):
        TrustStore.load(document)


def test_a_change_raises_the_revision() -> None:
    """Of files of version 3; others have none."""
    store = TrustStore((TrustedKey(KEYS[0], "root", origin="a/"),), file=FILE)
    changed = signed_trust(store, ROOT).with_key(KEYS[1], "issuer")
    assert changed.file == FileVersion(FILE.id, FILE.revision + 1)
    assert TrustStore().with_key(KEYS[1], "issuer").file is None


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
    """No other key of it, no revoked root, and no file without an id."""
    keys = (TrustedKey(KEYS[0], "root", origin="a/", revoked_since=1), TrustedKey(KEYS[1], "issuer"))
    for signer in SIGNERS[:3]:
        with pytest.raises(ConfigurationError) as caught:
            signed_trust(TrustStore(keys, file=FILE), signer)
        assert caught.value.code == "bad_trust_signature"
    with pytest.raises(ConfigurationError):
        signed_trust(TrustStore(keys), ROOT)


# Merging.

PROBES = ("a", "a/b", "a/b/c", "c", "d")


def may(store: TrustStore, key: Any, log: str, at: int) -> bool:
    """Return whether a key signs for a log at a time."""
    return any(one.key == key and one.sound and one.in_time(at) for one in store.recorders(log))


def _merged(*some: TrustStore) -> TrustStore | None:
    """Return one store, or ``None`` where the files disagree."""
    code, one = "", None
    try:
        one = merged(*some)
    except ConfigurationError as error:
        code = error.code
    assert code == ("trust_conflict" if one is None else "")
    return one


@given(stores(), stores(), stores(version=2))
def test_merging_gives_no_key_more_than_one_of_the_files(
    first: TrustStore, second: TrustStore, third: TrustStore
) -> None:
    """For any log and issuer; it is unsigned, one revision on, and names what it was made of."""
    second = replace(second, file=FileVersion("urn:example:second", 9))
    one = _merged(first, second, third)
    if one is None:
        return
    stores_ = (first, second, third)
    assert (one.file.id, one.file.revision, one.file.signature) == (FILE.id, FILE.revision + 1, None)
    assert len(one.file.merged_from) == 3
    assert TrustStore.load(one.to_json()) == one
    for key in KEYS[:3]:
        for log in PROBES:
            assert may(one, key, log, 5) <= any(may(store, key, log, 5) for store in stores_)
        entry_ = one.get(key.thumbprint, "issuer")
        for store in stores_ if entry_ is not None else ():
            known = store.get(key.thumbprint, "issuer")
            if known is not None:
                assert (entry_.issuer or one.issuer) == (known.issuer or store.issuer)


@given(stores(), stores())
def test_merging_is_the_same_in_any_order(first: TrustStore, second: TrustStore) -> None:
    """But for the order of entries and the file that goes on."""

    def facts(*some: TrustStore) -> object:
        one = _merged(*some)
        if one is None:
            return None
        keys = frozenset((key.key, key.purpose, key.issuer or one.issuer, key.origin, key.sound) for key in one.keys)
        return keys, one.witnesses, frozenset(one.approvers), one.origin

    second = replace(second, file=FileVersion("urn:example:second", 9))
    assert facts(first, second) == facts(second, first)
    assert len({facts(*some) for some in permutations((first, second, first))}) == 1


def test_the_earliest_revocation_stays() -> None:
    """Whichever file says it, and in whichever place it stands."""
    key = TrustedKey(KEYS[0], "recorder", origin="a")
    early, late = replace(key, revoked_since=5, reason="stolen"), replace(key, revoked_since=9)
    for some in permutations((key, early, late)):
        files = [TrustStore((one,), file=FileVersion(f"f{number}", 1)) for number, one in enumerate(some)]
        assert merged(*files).keys == (early,)


def test_files_that_disagree_are_not_merged() -> None:
    """About a key, a credential or witnesses: somebody has to decide."""

    def store(*keys: TrustedKey, **more: Any) -> TrustStore:
        return TrustStore(keys, **{"file": FILE, **more})

    witness, other = (Witnesses((Cosigner("w", key),)) for key in KEYS[:2])
    key = TrustedKey(KEYS[0], "recorder", origin="a")
    for first, others in (
        (store(key), store(replace(key, origin="b"))),
        (store(key), store(replace(key, not_after=9))),
        (store(approvers=(approver(),)), store(approvers=(approver(person="carol"),))),
        (store(witnesses=witness), store(witnesses=other)),
        (store(), TrustStore((TrustedKey(KEYS[0], "recorder"),), origin="a/")),
    ):
        with pytest.raises(ConfigurationError) as caught:
            merged(first, others)
        assert caught.value.code == "trust_conflict"
    with pytest.raises(ConfigurationError):
        merged(TrustStore(), store())


def test_what_one_file_demands_is_demanded_of_all() -> None:
    """Witnesses go on; names of one file do not reach the keys of another."""
    witness = Witnesses((Cosigner("w", KEYS[0]),))
    first = TrustStore((TrustedKey(KEYS[1], "recorder"),), origin="a", issuer="x", file=FILE)
    second = TrustStore((TrustedKey(KEYS[2], "recorder"),), origin="b", issuer="y", witnesses=witness)
    one = merged(first, second)
    assert (one.witnesses, one.origin, one.issuer) == (witness, None, None)
    assert [key.origin for key in one.keys] == ["a", "b"]
    assert one.file.merged_from[0] == f"{FILE.id}#{FILE.revision}"
    assert is_digest(one.file.merged_from[1])


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
    """The fields that version 3 added are checked like the others."""
    for approvers, kind in (([approver()], TypeError), ((1,), TypeError), ((approver(), approver()), ValueError)):
        with pytest.raises(kind):
            TrustStore(approvers=approvers)
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


def test_merging_and_following_need_version_3() -> None:
    """And merging has an end."""
    with pytest.raises(ConfigurationError):
        check_successor(TrustStore(), TrustStore(file=FILE), at=0)
    many = [TrustStore(file=FileVersion(f"f{number}", 1)) for number in range(1_025)]
    with pytest.raises(ConfigurationError, match="more than"):
        merged(*many)


def test_a_file_that_nobody_signed_gives_way_to_any_later_one_of_its_id() -> None:
    """Who can replace an unsigned file decides what verifies, as before."""
    check_successor(TrustStore(file=FILE), TrustStore(file=replace(FILE, revision=9), issuer="x"), at=0)


def test_a_merged_file_that_is_merged_again_names_all_that_is_in_it() -> None:
    """A file that says the same of the same log keeps its log."""
    first = TrustStore((TrustedKey(KEYS[0], "recorder"),), origin="a", file=FILE)
    other = TrustStore((TrustedKey(KEYS[1], "recorder", origin="b"),), file=FileVersion("urn:example:second", 9))
    assert merged(first, replace(first, file=None)).origin == "a"
    one = merged(first, replace(first, file=None), other)
    assert len(merged(other, one).file.merged_from) == 3


def test_a_conflict_names_both_roots() -> None:
    """For people who look for them in the file."""
    roots = [TrustedKey(key, "root", origin="a/") for key in KEYS[:2]]
    (found,) = trust_conflicts(TrustStore(tuple(roots)))
    assert all(key.thumbprint in str(found) for key in KEYS[:2])
