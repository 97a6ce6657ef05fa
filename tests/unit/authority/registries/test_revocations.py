"""Revocations: one signed list, never going back, that stops everything under what it names."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_identity import Agent, Human, Scope, Service
from agent_identity._authority.grants.grants import Chain, derive, issue
from agent_identity._authority.registries.revocations import (
    EVERYTHING,
    MAX_REVOCATIONS,
    Revocation,
    RevocationList,
    RevocationStatus,
    read_revocations,
    trusted_revocations,
)
from agent_identity._identity.keys.jws import sign_compact
from agent_identity.errors import TokenError
from agent_identity.identity import PublicKey, SigningKey, TrustedKey, TrustStore

ISSUER = "urn:example:issuer"
KEY = SigningKey.from_seed(b"\1" * 32)
HOLDER = SigningKey.from_seed(b"\2" * 32)
LEAF = SigningKey.from_seed(b"\3" * 32)
NOW = 1_800_000_000
CLERK = Agent("clerk", owner="finance")
READER = Agent("reader", owner="archive")


def anchors(kid: str) -> PublicKey:
    """Trust the one issuer key."""
    if kid != KEY.public_key.thumbprint:
        raise TokenError("expected a known key", code="unknown_key")
    return KEY.public_key


def entry(agent: str, status: RevocationStatus = "revoked") -> Revocation:
    """Return an entry about an agent."""
    return Revocation("agent", agent, status, since=NOW)


def chain(principal: Human | Service | None = None, task: str = "task-1") -> Chain:
    """Return a chain of two grants."""
    root = issue(
        KEY,
        issuer=ISSUER,
        task_id=task,
        principal=principal or Human("alice"),
        agent=CLERK,
        holder=HOLDER.public_key,
        scope=Scope("read"),
        now=NOW,
        ttl=300,
        id="00000000-0000-7000-8000-000000000001",
    )
    leaf = derive(
        Chain((root,)),
        HOLDER,
        agent=READER,
        holder=LEAF.public_key,
        scope=Scope("read"),
        now=NOW,
        ttl=300,
        id="00000000-0000-7000-8000-000000000002",
    )
    return Chain((root, leaf))


CHAIN = chain()
NAMES = (
    ("task", "task-1"),
    ("human", "alice"),
    ("key", KEY.public_key.thumbprint),
    ("grant", CHAIN.root.hash),
    ("grant", CHAIN.leaf.hash),
    ("agent", "clerk"),
    ("agent", "reader"),
    ("owner", "finance"),
    ("owner", "archive"),
    ("everything", EVERYTHING),
)


def one(kind: str, name: str, **more: object) -> RevocationList:
    """Return a list of one entry."""
    if kind == "everything":
        more = {**more, "status": "suspended"}
    return RevocationList().adding(Revocation(kind, name, since=NOW, **more), now=NOW)  # type: ignore[arg-type]


@pytest.mark.parametrize(("kind", "name"), NAMES)
def test_an_entry_about_anything_in_the_chain_stops_it(kind: str, name: str) -> None:
    """Task, principal, issuer key, and every grant, agent and owner of the chain count."""
    entry = one(kind, name).find(CHAIN)
    assert entry is not None
    assert (entry.kind, entry.name) == (kind, name)
    assert entry.status == ("suspended" if kind == "everything" else "revoked")


@pytest.mark.parametrize(
    ("kind", "name"),
    [("task", "task-2"), ("service", "alice"), ("human", "clerk"), ("agent", "alice"), ("owner", "clerk")],
)
def test_an_entry_about_something_else_stops_nothing(kind: str, name: str) -> None:
    """The kind is a part of the name."""
    assert one(kind, name).find(CHAIN) is None


def test_a_service_is_named_by_its_kind() -> None:
    """A service and a human of one id are two parties."""
    of_service = chain(Service("alice"))
    assert one("service", "alice").find(of_service) is not None
    assert one("human", "alice").find(of_service) is None


def test_a_child_grant_falls_with_its_parent_and_not_the_other_way_round() -> None:
    """Revoking an ancestor kills the descendants; revoking a leaf leaves its parent alone."""
    above = Chain((CHAIN.root,))
    assert one("grant", CHAIN.root.hash).find(CHAIN) is not None
    assert one("grant", CHAIN.leaf.hash).find(above) is None


def test_revoked_comes_before_suspended() -> None:
    """Of several entries the final one is told."""
    both = one("agent", "clerk", status="suspended").adding(Revocation("owner", "archive", since=NOW), now=NOW)
    entry = both.find(CHAIN)
    assert entry is not None
    assert (entry.kind, entry.status) == ("owner", "revoked")


def test_a_task_of_which_only_names_are_known() -> None:
    """What stops a task can be told from the names in its records."""
    names = {"task": "task-1", "principal": ("human", "alice"), "agent": ("clerk", "finance")}
    assert RevocationList().about(**names) is None
    for kind, name in (("task", "task-1"), ("human", "alice"), ("agent", "clerk"), ("owner", "finance")):
        entry = one(kind, name).about(**names)
        assert entry is not None
        assert (entry.kind, entry.name) == (kind, name)
    assert one("everything", EVERYTHING).about(**names) is not None
    assert one("service", "alice").about(**names) is None


def test_the_empty_list_stops_nothing() -> None:
    """Version 0 is what everything begins with."""
    assert RevocationList().find(CHAIN) is None
    assert RevocationList().version == 0


def test_a_suspension_becomes_a_revocation_and_never_the_reverse() -> None:
    """What is revoked stays revoked, with the time and reason that it was first given."""
    suspended = one("agent", "clerk", status="suspended")
    revoked = suspended.adding(Revocation("agent", "clerk", since=NOW + 1, reason="stolen"), now=NOW + 1)
    again = revoked.adding(Revocation("agent", "clerk", "suspended", since=NOW + 2), now=NOW + 2)
    assert [entry.status for entry in revoked.entries] == ["revoked"]
    assert again.entries == revoked.entries
    assert (revoked.version, again.version) == (2, 3)


def test_only_a_suspension_is_lifted() -> None:
    """Lifting what is revoked or unknown is refused and says how to go on."""
    listed = one("agent", "clerk", status="suspended").adding(Revocation("agent", "reader", since=NOW), now=NOW)
    lifted = listed.lifting("agent", "clerk", now=NOW + 5)
    assert [entry.name for entry in lifted.entries] == ["reader"]
    assert (lifted.version, lifted.issued_at) == (3, NOW + 5)
    with pytest.raises(ValueError, match="revoked for good"):
        listed.lifting("agent", "reader", now=NOW)
    with pytest.raises(ValueError, match="not suspended"):
        listed.lifting("owner", "clerk", now=NOW)


def test_what_no_grant_can_outlive_is_left_out_in_time() -> None:
    """Entries about tasks and grants go after the longest life of a grant, at the first change after it."""
    ninety_days = 90 * 24 * 3600
    listed = one("task", "task-1").adding(Revocation("agent", "clerk", since=NOW), now=NOW)
    at_the_end = listed.adding(Revocation("owner", "x", since=NOW), now=NOW + ninety_days)
    after = listed.adding(Revocation("owner", "x", since=NOW), now=NOW + ninety_days + 1)
    assert at_the_end.get("task", "task-1") is not None
    assert after.get("task", "task-1") is None
    assert after.get("agent", "clerk") is not None


def test_a_list_that_was_put_back_takes_nothing_back() -> None:
    """What was known counts on beside what the list says, whichever of the two versions is greater."""
    known = RevocationList(3, NOW, (entry("one"), entry("two", "suspended")))
    early = RevocationList(1, NOW, (entry("one"),))
    joined = early.keeping(known, before=known)
    assert (joined.version, joined.entries) == (3, known.entries)
    later = early.adding(entry("three"), now=NOW)
    joined = later.keeping(joined, before=early)
    assert (joined.version, set(joined.entries)) == (3, {*known.entries, entry("three")})
    newest = RevocationList(9, NOW, (entry("three"), entry("two")))
    joined = newest.keeping(joined, before=later)
    assert (joined.version, set(joined.entries)) == (9, {entry("one"), entry("two"), entry("three")})


def test_a_list_made_from_the_one_before_comes_back_as_it_is() -> None:
    """Suspensions are lifted, and what no grant can outlive is left out, as its maker did it."""
    before = RevocationList(
        1, NOW, (entry("one", "suspended"), entry("two"), Revocation("task", "old", since=NOW - 10**9))
    )
    lifted = before.lifting("agent", "one", now=NOW)
    assert set(lifted.keeping(before, before=before).entries) == set(lifted.entries)
    added = before.adding(entry("one"), entry("three", "suspended"), now=NOW)
    assert added.keeping(before, before=before) == added


def test_a_suspension_is_not_lifted_by_a_list_that_never_had_it() -> None:
    """Nor by an older one that is played back with the one before it; a revocation is never taken back."""
    known = RevocationList(3, NOW, (entry("one", "suspended"), entry("two")))
    newer, older = RevocationList(4, NOW), RevocationList(2, NOW)
    assert newer.keeping(known, before=RevocationList(1, NOW)).entries == known.entries
    assert older.keeping(known, before=RevocationList(1, NOW, known.entries)).entries == known.entries
    assert newer.keeping(known, before=known).entries == (entry("two"),)


def test_lists_that_are_too_long_together_are_an_error() -> None:
    """Nothing is left out of them in silence."""
    half = MAX_REVOCATIONS // 2 + 1
    known = RevocationList(2, NOW, tuple(entry(f"a{n}") for n in range(half)))
    with pytest.raises(ValueError, match="more than"):
        RevocationList(1, NOW, tuple(entry(f"b{n}") for n in range(half))).keeping(known, before=known)


def test_a_suspended_task_stays_until_it_is_lifted() -> None:
    """Only what is revoked for good is left out."""
    listed = one("task", "task-1", status="suspended")
    assert listed.adding(Revocation("owner", "x", since=NOW), now=NOW * 2).get("task", "task-1") is not None


ENTRIES = st.lists(
    st.builds(
        Revocation,
        st.sampled_from(("task", "grant", "agent", "owner", "human", "service", "key")),
        st.text(st.characters(categories=("L", "N")), min_size=1, max_size=20),
        st.sampled_from(("revoked", "suspended")),
        since=st.integers(0, 2**40),
        reason=st.none() | st.text(st.characters(categories=("L",)), min_size=1, max_size=20),
    ),
    max_size=12,
    unique_by=lambda entry: (entry.kind, entry.name),
)


@given(ENTRIES, st.integers(0, 2**53), st.integers(0, 2**53))
def test_a_signed_list_comes_back_as_it_was(entries: list[Revocation], version: int, issued_at: int) -> None:
    """Signing and reading is the identity."""
    listed = RevocationList(version, issued_at, tuple(entries))
    assert read_revocations(listed.sign(KEY, issuer=ISSUER), anchors=anchors, issuer=ISSUER) == listed


@given(ENTRIES, st.data())
def test_no_changed_byte_is_accepted(entries: list[Revocation], data: st.DataObject) -> None:
    """Every byte of a signed list is under the signature or is the signature."""
    signed = bytearray(RevocationList(7, NOW, tuple(entries)).sign(KEY, issuer=ISSUER))
    place = data.draw(st.integers(0, len(signed) - 1))
    signed[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(TokenError):
        read_revocations(bytes(signed), anchors=anchors, issuer=ISSUER)


def signed(claims: dict[str, object], *, key: SigningKey = KEY, **header: str) -> bytes:
    """Return a token of claims of any form."""
    usual = {"kid": key.public_key.thumbprint, "typ": "agent-revocations+jwt"}
    return sign_compact({**usual, **header}, claims, key).encode()  # type: ignore[arg-type]


WHOLE: dict[str, object] = {"entries": [], "iat": NOW, "iss": ISSUER, "version": 1}
ENTRY: dict[str, object] = {"kind": "agent", "name": "clerk", "since": NOW, "status": "revoked"}


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (signed(WHOLE, key=HOLDER), "unknown_key"),
        (signed(WHOLE, typ="aat+jwt"), "wrong_type"),
        (sign_compact({"typ": "agent-revocations+jwt"}, {}, KEY).encode(), "unknown_key"),
        (signed({**WHOLE, "iss": "urn:example:other"}), "wrong_issuer"),
        (signed({**WHOLE, "more": 1}), "bad_revocations"),
        (signed({key: WHOLE[key] for key in ("entries", "iat", "iss")}), "bad_revocations"),
        (signed({**WHOLE, "entries": {}}), "bad_revocations"),
        (signed({**WHOLE, "entries": [1]}), "bad_revocations"),
        (signed({**WHOLE, "entries": [{}]}), "bad_revocations"),
        (signed({**WHOLE, "entries": [{**ENTRY, "more": 1}]}), "bad_revocations"),
        (signed({**WHOLE, "entries": [{**ENTRY, "reason": None}]}), "bad_revocations"),
        (signed({**WHOLE, "entries": [{**ENTRY, "kind": "planet"}]}), "bad_revocations"),
        (signed({**WHOLE, "entries": [{**ENTRY, "kind": ["agent"]}]}), "bad_revocations"),
        (signed({**WHOLE, "entries": [{**ENTRY, "status": "paused"}]}), "bad_revocations"),
        (signed({**WHOLE, "entries": [{**ENTRY, "since": "1"}]}), "bad_revocations"),
        (signed({**WHOLE, "entries": [{**ENTRY, "name": " "}]}), "bad_revocations"),
        (signed({**WHOLE, "entries": [ENTRY, {**ENTRY, "status": "suspended"}]}), "bad_revocations"),
        (signed({**WHOLE, "version": True}), "bad_revocations"),
        (signed({**WHOLE, "version": -1}), "bad_revocations"),
        (signed({**WHOLE, "iat": 2**53 + 1}), "bad_revocations"),
        (b"\xff", "malformed_token"),
        (b"a.b", "malformed_token"),
        (b"a" * (8 * 1024 * 1024 + 1), "too_large"),
    ],
)
def test_a_list_that_breaks_a_rule_is_refused_with_its_code(data: bytes, code: str) -> None:
    """Nothing malformed, unknown or foreign passes for a list."""
    with pytest.raises(TokenError) as refused:
        read_revocations(data, anchors=anchors, issuer=ISSUER)
    assert refused.value.code == code


def test_any_issuer_of_a_trusted_key_is_taken_where_none_is_expected() -> None:
    """Without an expected issuer the key decides."""
    foreign = signed({**WHOLE, "iss": "urn:example:other"})
    assert read_revocations(foreign, anchors=anchors, issuer=None).version == 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Revocation("everything", "all", "suspended", since=0), "everything can only be suspended"),
        (lambda: Revocation("everything", EVERYTHING, since=0), "everything can only be suspended"),
        (lambda: Revocation("agent", "", since=0), "the name of the agent has"),
        (lambda: Revocation("agent", "x", since=-1), "since is not from 0"),
        (lambda: Revocation("agent", "x", since=0, reason=" "), "reason has spaces"),
        (lambda: RevocationList(0, 0, (Revocation("agent", "x", since=0),) * 2), "the same name"),
    ],
)
def test_wrong_use_says_what_was_expected(make: object, message: str) -> None:
    """Programmers get a ValueError with the rule."""
    with pytest.raises(ValueError, match=message):
        make()  # type: ignore[operator]


def test_a_list_is_bounded() -> None:
    """The greatest number of entries is taken, signed and read, and one more is refused with the way out."""
    entries = tuple(Revocation("task", f"task-{n}", since=NOW) for n in range(MAX_REVOCATIONS))
    full = RevocationList(1, NOW, entries)
    assert len(read_revocations(full.sign(KEY, issuer=ISSUER), anchors=anchors, issuer=ISSUER).entries) == 10_000
    with pytest.raises(ValueError, match="revoke the agent, owner or principal instead"):
        full.adding(Revocation("agent", "clerk", since=NOW), now=NOW)


def test_its_text_form_shows_no_names() -> None:
    """A list may name people, so its repr only counts."""
    listed = one("human", "alice")
    assert repr(listed) == "RevocationList(version=1, 1 entries)"
    assert "alice" not in repr(listed)
    assert json.dumps(listed.entries[0].to_claim())


@pytest.mark.parametrize(
    ("issuer", "changes", "code"),
    [
        (ISSUER, {}, None),
        (None, {}, None),
        (ISSUER, {"not_after": NOW - 1}, "key_not_valid_then"),
        (ISSUER, {"not_before": NOW + 1}, "key_not_valid_then"),
        (ISSUER, {"revoked_since": NOW + 9}, "key_revoked"),
        (ISSUER, {"issuer": "urn:example:partner"}, "wrong_issuer"),
    ],
)
def test_a_trust_store_decides_whose_lists_count(issuer: str | None, changes: dict, code: str | None) -> None:
    """The key is the issuer's own, valid at the time of the list, and not revoked at all."""
    trust = TrustStore((TrustedKey(KEY.public_key, "issuer", **changes),), issuer=issuer)
    data = one("agent", "clerk").sign(KEY, issuer=ISSUER)
    if code is None:
        assert trusted_revocations(data, trust).version == 1
        return
    with pytest.raises(TokenError) as refused:
        trusted_revocations(data, trust)
    assert refused.value.code == code
    if code == "key_revoked":
        assert trusted_revocations(data, trust, of_revoked_keys=True).version == 1
    with pytest.raises(TokenError) as refused:
        trusted_revocations(data, TrustStore(issuer=issuer))
    assert refused.value.code == "unknown_key"


@pytest.mark.parametrize("fields", [{"kind": "planet"}, {"status": "forgotten"}, {"since": -1}])
def test_an_entry_of_another_form_is_not_made(fields: dict) -> None:
    """What the program makes is checked like what it reads."""
    with pytest.raises(ValueError, match=r" (is|are|has|have|does) "):
        Revocation(**{"kind": "agent", "name": "clerk", "since": NOW, **fields})


@pytest.mark.parametrize("since", [True, 1.0, "1"])
def test_the_time_of_an_entry_is_an_int(since: object) -> None:
    """A truth value is no time."""
    with pytest.raises(TypeError, match="since is"):
        Revocation("agent", "clerk", since=since)
