"""Merging of trust files, which gives no key more than it had, and the order of one file after another."""

from dataclasses import replace
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given

from agent_identity._identity.keys.cosigners import Cosigner
from agent_identity._identity.trust.merge import check_successor
from agent_identity.errors import ConfigurationError
from agent_identity.identity import FileVersion, TrustedKey, TrustStore, Witnesses, merged, trust_conflicts

from .test_file import FILE, KEYS, approver, stores

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


@given(stores(), stores(), stores())
def test_merging_gives_no_key_more_than_one_of_the_files(
    first: TrustStore, second: TrustStore, third: TrustStore
) -> None:
    """For any log and issuer; it is unsigned, one revision on, and names what it was made of."""
    second = replace(second, file=FileVersion("urn:example:second", 9))
    third = replace(third, file=FileVersion("urn:example:third", 1))
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


def test_what_one_file_demands_is_demanded_of_all() -> None:
    """Witnesses go on; names of one file do not reach the keys of another."""
    witness = Witnesses((Cosigner("w", KEYS[0]),))
    first = TrustStore((TrustedKey(KEYS[1], "recorder"),), origin="a", issuer="x", file=FILE)
    second = TrustStore((TrustedKey(KEYS[2], "recorder"),), origin="b", issuer="y", witnesses=witness)
    one = merged(first, second)
    assert (one.witnesses, one.origin, one.issuer) == (witness, None, None)
    assert [key.origin for key in one.keys] == ["a", "b"]
    assert one.file.merged_from == (f"{FILE.id}#{FILE.revision}", f"{second.file.id}#1")


def test_merging_has_an_end() -> None:
    """A file is made of 1,024 others at most."""
    many = [TrustStore(file=FileVersion(f"f{number}", 1)) for number in range(1_025)]
    with pytest.raises(ConfigurationError, match="more than"):
        merged(*many)


def test_a_file_that_nobody_signed_gives_way_to_any_later_one_of_its_id() -> None:
    """Who can replace an unsigned file decides what verifies."""
    check_successor(TrustStore(file=FILE), TrustStore(file=replace(FILE, revision=9), issuer="x"), at=0)


def test_a_merged_file_that_is_merged_again_names_all_that_is_in_it() -> None:
    """A file that says the same of the same log keeps its log."""
    first = TrustStore((TrustedKey(KEYS[0], "recorder"),), origin="a", file=FILE)
    other = TrustStore((TrustedKey(KEYS[1], "recorder", origin="b"),), file=FileVersion("urn:example:second", 9))
    one = merged(first, replace(first, file=FileVersion("urn:example:third")), other)
    assert one.origin is None
    assert len(merged(other, one).file.merged_from) == 3


def test_a_conflict_names_both_roots() -> None:
    """For people who look for them in the file."""
    roots = [TrustedKey(key, "root", origin="a/") for key in KEYS[:2]]
    (found,) = trust_conflicts(TrustStore(tuple(roots)))
    assert all(key.thumbprint in str(found) for key in KEYS[:2])
