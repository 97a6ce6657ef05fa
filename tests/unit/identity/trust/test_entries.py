"""Whose signatures count: exactly the listed keys, for one purpose, in their time."""

import copy
import json
import pickle
import stat
from collections import UserDict
from pathlib import Path
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_identity._identity.keys.cosigners import Cosigner
from agent_identity._identity.trust.entries import Purpose, Takeover
from agent_identity.errors import ConfigurationError, TokenError
from agent_identity.identity import FileVersion, PublicKey, SigningKey, TrustedKey, TrustStore, Witnesses

KEYS = [SigningKey.from_seed(bytes([number]) * 32).public_key for number in range(1, 6)]
PURPOSES: tuple[Purpose, ...] = ("issuer", "recorder")
NAMES = st.none() | st.sampled_from(["https://issuer.example", "urn:uuid:1", "agent-identity/1", "ünïcode"])
LOGS = st.builds(Takeover, st.integers(0, 2**63 - 1), st.binary(min_size=32, max_size=32))
TIMES = st.none() | st.integers(0, 2**53 - 1)


@st.composite
def stores(draw: st.DrawFn) -> TrustStore:
    """Any store of up to five keys for the purposes of a directory."""
    pairs = draw(st.lists(st.tuples(st.sampled_from(KEYS), st.sampled_from(PURPOSES)), unique=True))
    keys = []
    for key, purpose in pairs:
        before, after = draw(TIMES), draw(TIMES)
        if before is not None and after is not None:
            before, after = min(before, after), max(before, after)
        revoked = draw(TIMES)
        reason = draw(st.none() | st.just("stolen")) if revoked is not None else None
        log = draw(st.none() | LOGS) if purpose == "recorder" else None
        times = {"not_before": before, "not_after": after, "revoked_since": revoked}
        keys.append(TrustedKey(key, purpose, **times, reason=reason, takes_over=log))
    return TrustStore(tuple(keys), issuer=draw(NAMES), origin=draw(NAMES))


def _entry(**changes: object) -> dict[str, object]:
    entry = {**KEYS[0].to_jwk(), "kid": KEYS[0].thumbprint, "alg": "EdDSA", "purpose": "issuer", **changes}
    return {name: value for name, value in entry.items() if value is not ...}


def _file(*entries: object, **changes: object) -> dict[str, object]:
    content = {"version": "1", "id": "f", "revision": 1, "issuer": "i", "origin": "o", "keys": list(entries), **changes}
    return {name: value for name, value in content.items() if value is not ...}


@given(stores())
def test_a_store_survives_its_file(store: TrustStore) -> None:
    """Bytes, parsed content, pickling and copying all give an equal store, and equal stores equal bytes."""
    document = store.to_json()
    for again in (
        TrustStore.load(document),
        TrustStore.load(json.loads(document)),
        TrustStore.load(MappingProxyType(json.loads(document))),
        TrustStore.load(UserDict(json.loads(document))),
        pickle.loads(pickle.dumps(store)),  # noqa: S301
        copy.deepcopy(store),
    ):
        assert again == store
        assert hash(again) == hash(store)
        assert again.to_json() == document
        assert [again.get(one.key.thumbprint, one.purpose) for one in store.keys] == list(store.keys)


@given(stores(), st.integers(0, 2**53))
def test_exactly_the_listed_keys_are_found(store: TrustStore, at: int) -> None:
    """A key is found if and only if an entry names it for the purpose and the time, bounds included."""
    for key in KEYS:
        for purpose in PURPOSES:
            entry = next((one for one in store.keys if (one.key, one.purpose) == (key, purpose)), None)
            if entry is not None and entry.revoked_since is None and _counts(entry, at):
                assert store.find(key.thumbprint, purpose, at=at) == key
            else:
                with pytest.raises(TokenError) as caught:
                    store.find(key.thumbprint, purpose, at=at)
                assert caught.value.code == _refusal(entry)


def _refusal(entry: TrustedKey | None) -> str:
    if entry is None:
        return "unknown_key"
    return "key_not_valid_then" if entry.revoked_since is None else "key_revoked"


def _counts(entry: TrustedKey, at: int) -> bool:
    first = 0 if entry.not_before is None else entry.not_before
    last = 2**60 if entry.not_after is None else entry.not_after
    return at in range(first, last + 1)


def test_the_bounds_of_validity_count() -> None:
    """The first and the last second are inside, the ones beside them outside."""
    store = TrustStore().with_key(KEYS[0], "issuer", not_before=10, not_after=20)
    for at in (10, 20):
        assert store.find(KEYS[0].thumbprint, "issuer", at=at) is KEYS[0]
    for at in (9, 21):
        with pytest.raises(TokenError, match="the issuer key was not valid"):
            store.find(KEYS[0].thumbprint, "issuer", at=at)


def test_ac_12_an_empty_store_trusts_nobody() -> None:
    """Without configured keys every key is unknown."""
    with pytest.raises(TokenError) as caught:
        TrustStore().find(KEYS[0].thumbprint, "issuer", at=0)
    assert caught.value.code == "unknown_key"


@pytest.mark.parametrize("name", ["", "x" * 100_000, "../../etc/passwd\n", "\ud800", KEYS[1].thumbprint])
def test_ac_15_unknown_key_names_are_refused(name: str) -> None:
    """Whatever a header names, an unlisted key is unknown; the message does not repeat the name."""
    store = TrustStore().with_key(KEYS[0], "issuer")
    with pytest.raises(TokenError) as caught:
        store.find(name, "issuer", at=0)
    assert caught.value.code == "unknown_key"
    assert not name or name not in str(caught.value)
    assert store.get(name, "issuer") is None


def test_purposes_are_kept_apart() -> None:
    """A recorder's key makes no issuer, and one key may have both purposes by two entries."""
    store = TrustStore().with_key(KEYS[0], "recorder")
    with pytest.raises(TokenError) as caught:
        store.find(KEYS[0].thumbprint, "issuer", at=0)
    assert caught.value.code == "unknown_key"
    both = store.with_key(KEYS[0], "issuer", not_after=5)
    assert both.find(KEYS[0].thumbprint, "recorder", at=9) is KEYS[0]
    assert (len(store.keys), len(both.keys)) == (1, 2)


def test_ac_16_keys_rotate_with_overlap() -> None:
    """Old signatures stay good under the old key and new ones under the new key, each in its time."""
    store = TrustStore(issuer="i").with_key(KEYS[0], "issuer", not_after=20)
    store = store.with_key(KEYS[1], "issuer", not_before=10)
    assert store.issuer == "i"
    for at, good in ((5, KEYS[:1]), (15, KEYS[:2]), (25, KEYS[1:2])):
        for key in KEYS[:2]:
            if key in good:
                assert store.find(key.thumbprint, "issuer", at=at) == key
            else:
                with pytest.raises(TokenError) as caught:
                    store.find(key.thumbprint, "issuer", at=at)
                assert caught.value.code == "key_not_valid_then"


def test_a_key_has_a_purpose_once() -> None:
    """Two entries for one key and purpose could contradict each other, and the same one twice is a mistake."""
    one = TrustedKey(KEYS[0], "issuer")
    for other in (one, TrustedKey(KEYS[0], "issuer"), TrustedKey(KEYS[0], "issuer", not_before=1)):
        with pytest.raises(ValueError, match="twice as issuer"):
            TrustStore((one, other))
    with pytest.raises(ValueError, match="twice as issuer"):
        TrustStore((one,)).with_key(KEYS[0], "issuer")


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"key": KEYS[0].raw}, TypeError),
        ({"purpose": "admin"}, ValueError),
        ({"not_before": 1.5}, TypeError),
        ({"not_after": True}, TypeError),
        ({"not_after": "1"}, TypeError),
        ({"not_before": -1}, ValueError),
        ({"not_after": 2**53}, ValueError),
        ({"not_before": 2, "not_after": 1}, ValueError),
    ],
)
def test_ill_formed_entries_are_refused(changes: dict[str, object], kind: type[Exception]) -> None:
    """An entry has a key, a known purpose, and whole seconds in order."""
    with pytest.raises(kind, match=r" (is|are|has|have|does) "):
        TrustedKey(**{"key": KEYS[0], "purpose": "issuer", **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"keys": [TrustedKey(KEYS[0], "issuer")]}, TypeError),
        ({"keys": (KEYS[0],)}, TypeError),
        ({"issuer": ""}, ValueError),
        ({"issuer": 1}, TypeError),
        ({"origin": "a b"}, ValueError),
        ({"origin": "a\u3000b"}, ValueError),
        ({"origin": "a+b"}, ValueError),
        ({"origin": "a\nb"}, ValueError),
    ],
)
def test_ill_formed_stores_are_refused(changes: dict[str, object], kind: type[Exception]) -> None:
    """A store holds entries in a tuple; its names are ids, and its origin can name a key in a signed note."""
    with pytest.raises(kind, match=r" (is|are|has|have|does) "):
        TrustStore(**changes)  # type: ignore[arg-type]


def test_stores_are_frozen() -> None:
    """Neither the fields nor the index behind them can be changed."""
    store = TrustStore().with_key(KEYS[0], "issuer")
    with pytest.raises(AttributeError):
        store.keys = ()  # type: ignore[misc]
    with pytest.raises(TypeError):
        store._index["x", "issuer"] = store.keys[0]  # type: ignore[index]


def test_the_file_reads_as_documented() -> None:
    """The file is what people read: pretty, stable, and with unknown facts left out."""
    store = TrustStore(issuer="https://i", file=FileVersion("f", 1)).with_key(KEYS[0], "issuer", not_before=5)
    assert store.to_json().decode() == (
        "{\n"
        '  "version": "1",\n'
        '  "id": "f",\n'
        '  "revision": 2,\n'
        '  "issuer": "https://i",\n'
        '  "keys": [\n'
        "    {\n"
        '      "crv": "Ed25519",\n'
        '      "kty": "OKP",\n'
        f'      "x": "{KEYS[0].to_jwk()["x"]}",\n'
        f'      "kid": "{KEYS[0].thumbprint}",\n'
        '      "alg": "EdDSA",\n'
        '      "purpose": "issuer",\n'
        '      "not_before": 5\n'
        "    }\n"
        "  ]\n"
        "}\n"
    )


def test_trust_files_on_disk(tmp_path: Path) -> None:
    """Saving replaces the file, creating refuses to; both give mode 0644 and load as the same store."""
    path = tmp_path / "trust.json"
    first = TrustStore(issuer="i", origin="o").with_key(KEYS[0], "issuer")
    first.create(path)
    with pytest.raises(ConfigurationError) as caught:
        TrustStore().create(path)
    assert caught.value.code == "already_exists"
    assert TrustStore.load(path) == first
    second = first.with_key(KEYS[1], "recorder")
    second.save(str(path))
    assert TrustStore.load(str(path)) == second
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


@pytest.mark.parametrize(
    "content",
    [
        _file(version="2"),
        _file(version=1),
        _file(version=...),
        _file(keys=...),
        _file(keys=None),
        _file(keys={}),
        _file(extra=1),
        _file(issuer=1),
        _file(issuer=""),
        _file(origin="a b"),
        _file(None),
        _file([]),
        *(_file(_entry(**{name: ...})) for name in ("kty", "crv", "x", "kid", "alg", "purpose")),
        _file(_entry(kty="EC")),
        _file(_entry(crv="Ed448")),
        _file(_entry(alg="none")),
        _file(_entry(alg="HS256")),
        _file(_entry(x=KEYS[0].to_jwk()["x"] + "=")),
        _file(_entry(x=KEYS[1].to_jwk()["x"])),
        _file(_entry(x="A" * 43)),
        _file(_entry(x=7)),
        _file(_entry(kid=KEYS[1].thumbprint)),
        _file(_entry(kid="my key")),
        _file(_entry(purpose="admin")),
        _file(_entry(not_before="5")),
        _file(_entry(not_before=5.0)),
        _file(_entry(not_before=True)),
        _file(_entry(not_before=-1)),
        _file(_entry(not_after=2**53)),
        _file(_entry(not_before=2, not_after=1)),
        _file(_entry(nbf=5)),
        _file(_entry(), _entry()),
        _file(_entry(), _entry(not_before=5)),
    ],
)
def test_ac_109_trust_files_are_read_strictly(content: dict[str, object]) -> None:
    """A file with one missing, unknown, ill-typed or contradictory member is refused as a whole."""
    for source in (content, json.dumps(content).encode()):
        with pytest.raises(ConfigurationError, match="bad trust file") as caught:
            TrustStore.load(source)
        assert "\n" not in str(caught.value)
        assert KEYS[0].to_jwk()["x"][:8] not in str(caught.value)


def test_half_a_character_is_no_text() -> None:
    """A lone surrogate, which only an escape in JSON can write, refuses the file wherever it stands."""
    for content in (_file(issuer="\ud800"), _file(_entry(reason="\udfff", revoked_since=5))):
        with pytest.raises(ConfigurationError, match="not JSON"):
            TrustStore.load(json.dumps(content).encode())


def test_the_smallest_file() -> None:
    """Issuer, origin and times are optional; no keys means no trust."""
    file = {"version": "1", "id": "f", "revision": 1, "keys": []}
    assert TrustStore.load(file) == TrustStore(file=FileVersion("f"))


@pytest.mark.parametrize("entry", [_entry(d="AAAA"), _entry(d="AAAA", kty="EC", x=1), _entry(d=None)])
def test_a_private_key_in_the_file_is_named_as_such(entry: dict[str, object]) -> None:
    """Whatever else is wrong, the reader learns that a private key was given away."""
    with pytest.raises(ConfigurationError, match="replace that key"):
        TrustStore.load(_file(entry))


def test_errors_name_the_place_in_one_line() -> None:
    """The place of the mistake is in the message, short and printable even if the file is hostile."""
    with pytest.raises(ConfigurationError, match=r"'keys\.1\.purpose'"):
        TrustStore.load(_file(_entry(), _entry(purpose="admin")))
    with pytest.raises(ConfigurationError, match="its top"):
        TrustStore.load(b"[]")
    with pytest.raises(ConfigurationError) as caught:
        TrustStore.load(_file(**{"a\n\x1b[31m\u202e" + "b" * 10_000: 1}))
    assert str(caught.value).isascii()
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"{",
        b"\xff",
        b'\xef\xbb\xbf{"version":"1","keys":[]}',
        b'{"version":"1","keys":[],"keys":[]}',
        b'{"version":"2","version":"1","keys":[]}',
        b'{"version":"1","keys":[],"origin":NaN}',
        b'{"version":"1","keys":[]} x',
        b"[" * 100_000,
        b'{"version":"1","keys":[' + b"9" * 10_000 + b"]}",
    ],
)
def test_ac_57_what_is_no_json_is_refused(document: bytes) -> None:
    """Broken, ambiguous and hostile documents end in the same error."""
    with pytest.raises(ConfigurationError, match="not JSON"):
        TrustStore.load(document)


def _endless() -> dict[str, object]:
    content: dict[str, object] = {}
    content["keys"] = content
    return content


@pytest.mark.parametrize("content", [{"keys": {1, 2}}, {"keys": b"x"}, _endless()])
def test_content_that_is_no_json_is_refused(content: dict[str, object]) -> None:
    """A mapping that no JSON file could hold is no trust file."""
    with pytest.raises(ConfigurationError, match="a value that is not JSON"):
        TrustStore.load(content)


def test_files_larger_than_a_mebibyte_are_refused(tmp_path: Path) -> None:
    """The limit holds for every kind of source, and a file of exactly that size is read."""
    store = TrustStore()
    fits = store.to_json().ljust(1 << 20)
    path = tmp_path / "trust.json"
    path.write_bytes(fits)
    assert TrustStore.load(fits) == TrustStore.load(path) == store
    path.write_bytes(fits + b" ")
    for source in (fits + b" ", path, {"version": "1", "keys": [], "x": "y" * (1 << 20)}):
        with pytest.raises(ConfigurationError, match="more than 1048576"):
            TrustStore.load(source)


def test_a_missing_file_is_reported(tmp_path: Path) -> None:
    """No file is no empty trust."""
    with pytest.raises(ConfigurationError, match="No such file"):
        TrustStore.load(tmp_path / "trust.json")


def test_looking_up_does_not_depend_on_the_number_of_keys() -> None:
    """The index answers for the last of many keys as for the first."""
    keys = [SigningKey.from_seed(number.to_bytes(32, "big")).public_key for number in range(300)]
    store = TrustStore(tuple(TrustedKey(key, "recorder") for key in keys))
    assert [store.find(key.thumbprint, "recorder", at=0) for key in keys] == keys
    assert isinstance(store.find(keys[-1].thumbprint, "recorder", at=0), PublicKey)


@pytest.mark.parametrize(
    ("own", "stores", "named", "code"),
    [
        (None, None, "urn:any", None),
        (None, "urn:store", "urn:store", None),
        (None, "urn:store", "urn:any", "wrong_issuer"),
        ("urn:own", "urn:store", "urn:own", None),
        ("urn:own", "urn:store", "urn:store", "wrong_issuer"),
        ("urn:own", None, "urn:any", "wrong_issuer"),
    ],
)
def test_each_issuer_key_speaks_for_its_issuer_only(
    own: str | None, stores: str | None, named: str, code: str | None
) -> None:
    """A key with an issuer of its own signs for that one, every other for the store's, also after a round trip."""
    store = TrustStore(issuer=stores).with_key(KEYS[0], "issuer", issuer=own)
    for same in (store, TrustStore.load(store.to_json())):
        if code is None:
            same.check_issuer(KEYS[0].thumbprint, named)
        else:
            with pytest.raises(TokenError) as refused:
                same.check_issuer(KEYS[0].thumbprint, named)
            assert refused.value.code == code
    with pytest.raises(TokenError) as refused:
        store.check_issuer(KEYS[1].thumbprint, named)
    assert refused.value.code == "unknown_key"


@pytest.mark.parametrize(("purpose", "issuer"), [("recorder", "urn:x"), ("issuer", ""), ("issuer", " x")])
def test_an_issuer_stands_beside_issuer_keys_only(purpose: Purpose, issuer: str) -> None:
    """A recorder signs no grants, and an issuer is an identifier."""
    with pytest.raises(ValueError, match=r" (is|are|has|have|does) "):
        TrustedKey(KEYS[0], purpose, issuer=issuer)
    with pytest.raises(ConfigurationError):
        TrustStore.load(_file(_entry(purpose=purpose, issuer=issuer)))


# Revoked keys, and keys that take over.


@given(TIMES, TIMES, st.integers(0, 2**53 - 1))
def test_a_revoked_key_never_counts(before: int | None, since: int | None, at: int) -> None:
    """Whoever has a key dates what it signs at will, so no date is good enough."""
    store = TrustStore((TrustedKey(KEYS[0], "issuer", not_before=before, revoked_since=since or 0),))
    with pytest.raises(TokenError) as refused:
        store.find(KEYS[0].thumbprint, "issuer", at=at)
    assert refused.value.code == "key_revoked"


@given(TIMES, TIMES, st.integers(0, 2**53 - 1))
def test_the_time_of_a_key_includes_both_ends(before: int | None, after: int | None, at: int) -> None:
    """A missing end is no limit."""
    if before is not None and after is not None:
        before, after = min(before, after), max(before, after)
    key = TrustedKey(KEYS[0], "issuer", not_before=before, not_after=after)
    assert key.in_time(at) is ((before or 0) <= at <= (2**53 if after is None else after))


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"revoked_since": -1}, ValueError),
        ({"revoked_since": "1"}, TypeError),
        ({"revoked_since": 1, "reason": ""}, ValueError),
        ({"revoked_since": 1, "reason": "x" * 257}, ValueError),
        ({"revoked_since": 1, "reason": "\x1b[31m"}, ValueError),
        ({"reason": "stolen"}, ValueError),
        ({"takes_over": Takeover(0, b"x" * 32)}, ValueError),
    ],
)
def test_what_a_key_cannot_be(changes: dict, error: type[Exception]) -> None:
    """Times out of range, a reason without revocation, an issuer that takes over a log."""
    with pytest.raises(error):
        TrustedKey(KEYS[0], "issuer", **changes)


@pytest.mark.parametrize(
    ("size", "root", "error"),
    [
        (-1, b"x" * 32, ValueError),
        (2**63, b"x" * 32, ValueError),
        (1, b"x", ValueError),
        (True, b"x" * 32, TypeError),
        (1, "x" * 32, TypeError),
    ],
)
def test_what_no_log_can_be(size: object, root: object, error: type[Exception]) -> None:
    """Sizes and roots out of range are refused."""
    with pytest.raises(error):
        Takeover(size, root)


@pytest.mark.parametrize(
    "log",
    [
        {"size": 1, "root": "a" * 64},
        {"size": "01", "root": "a" * 64},
        {"size": "1", "root": "A" * 64},
        {"size": "1"},
        {"size": "9" * 19, "root": "a" * 64},
        {"size": "1", "root": "a" * 64, "more": 1},
    ],
)
def test_a_state_of_the_log_has_one_spelling(log: dict) -> None:
    """Numbers, other digits, further members and sizes beyond 2^63 - 1 are refused."""
    with pytest.raises(ConfigurationError):
        TrustStore.load(_file(_entry(purpose="recorder", takes_over=log)))


# Witnesses.

WITNESS = Cosigner("witness.example/w1", SigningKey.from_seed(bytes([77]) * 32).public_key)
OTHERS = Witnesses((WITNESS, Cosigner("w2.example", SigningKey.from_seed(bytes([78]) * 32).public_key)), 1)


@pytest.mark.parametrize("witnesses", [Witnesses(()), OTHERS])
def test_witnesses_are_read_back(witnesses: Witnesses) -> None:
    """The witnesses of a trust file survive writing, reading, pickling and other keys."""
    trust = TrustStore((), origin="x.example/log", witnesses=witnesses)
    assert TrustStore.load(trust.to_json()) == trust
    assert copy.deepcopy(trust) == trust
    more = trust.with_key(SigningKey.generate().public_key, "recorder")
    assert more.witnesses == witnesses


@pytest.mark.parametrize(
    "change",
    [
        {"keys": [{"purpose": "witness", "vkey": "w1"}]},
        {"keys": [{"purpose": "witness", "vkey": WITNESS.vkey}] * 2},
        {"keys": [{"purpose": "witness", "vkey": WITNESS.vkey, "more": 1}]},
        {"quorum": 3},
        {"quorum": 0},
        {"witnesses": {"keys": [WITNESS.vkey]}},
    ],
)
def test_witnesses_are_read_strictly(change: dict[str, object]) -> None:
    """A file with a wrong member is refused as a whole."""
    trust = TrustStore((), origin="x.example/log", witnesses=OTHERS)
    content = {name: value for name, value in {**json.loads(trust.to_json()), **change}.items() if value is not None}
    with pytest.raises(ConfigurationError, match="bad trust file"):
        TrustStore.load(content)


def test_witnesses_have_their_types_and_number() -> None:
    """Too many of them, or those of another type, are no trust."""
    many = tuple(Cosigner(f"w{n}", SigningKey.from_seed(bytes([n]) * 32).public_key) for n in range(65))
    with pytest.raises(ValueError, match="more than 64"):
        Witnesses(many)
    for attempt in (
        lambda: TrustStore((), origin="x", witnesses=()),
        lambda: Witnesses([WITNESS]),
    ):
        with pytest.raises(TypeError):
            attempt()
    assert (OTHERS.quorum, Witnesses(OTHERS.keys).quorum) == (1, 2)


@pytest.mark.parametrize(
    ("since", "at", "counts"), [(None, 10, True), (None, 21, False), (15, 10, False), (None, 9, False)]
)
def test_a_listed_key_counts_in_its_time_and_until_it_is_revoked(since: int | None, at: int, counts: bool) -> None:
    """Of a key that others may have, no signature counts by its own date."""
    key = SigningKey.from_seed(b"k" * 32).public_key
    trusted = TrustedKey(key, "recorder", not_before=10, not_after=20, revoked_since=since)
    assert trusted.counts(at) is counts


def test_what_is_no_trust_file_is_named(tmp_path: Path) -> None:
    """The path is in the error; of a directory, the file in it that may be meant."""
    (tmp_path / "app.py").write_text("print()")
    with pytest.raises(ConfigurationError, match=r"app\.py"):
        TrustStore.load(tmp_path / "app.py")
    with pytest.raises(ConfigurationError, match=r"trust\.json"):
        TrustStore.load(tmp_path)
