"""``agent-identity trust``: trust files are made, changed, merged, checked and signed, and hosts certified."""

import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent_identity.identity import (
    Certificate,
    PublicKey,
    SigningKey,
    TrustedKey,
    TrustStore,
    Witnesses,
    merged,
    signed_trust,
)

Run = Callable[..., tuple[int, str, str]]
VKEY = "witness.example+0b49bc9a+BJEJ21X3l5ejlkYvuJXCrc6n6Gg8LzBWwHpUdRVVN7c+"
DAY = 24 * 3600


def public(path: Path) -> PublicKey:
    """Return the public key of a key file."""
    return SigningKey.load(path).public_key


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return the key file of a root."""
    SigningKey.from_seed(b"r" * 32).save(tmp_path / "root.pem")
    return tmp_path / "root.pem"


@pytest.fixture
def issuer(run: Run, tmp_path: Path) -> Path:
    """Return the public key of a partner, as ``keys public`` prints it."""
    run("keys", "new", tmp_path / "partner.pem")
    (tmp_path / "partner.jwk").write_text(run("keys", "public", tmp_path / "partner.pem")[1])
    return tmp_path / "partner.jwk"


@pytest.fixture
def fleet(run: Run, tmp_path: Path, root: Path) -> Path:
    """Return a trust file that a root signed."""
    path = tmp_path / "fleet.json"
    words = ("--id", "urn:example:fleet", "--root", root, "--origin", "agent-identity/")
    assert run("trust", "init", path, *words)[0] == 0
    return path


# trust init


def test_a_trust_file_begins_with_a_root_that_signs_it(run: Run, tmp_path: Path, root: Path) -> None:
    """The output says how to pin the root; a second file of that name is refused."""
    path = tmp_path / "fleet.json"
    words = ("--id", "urn:example:fleet", "--root", root, "--origin", "fleet.example/", "--issuer", "https://i.example")
    code, out, err = run("trust", "init", path, *words)
    assert (code, err) == (0, "")
    assert out == (
        f"{path}: urn:example:fleet, revision 1, signed by a root\n\n"
        f"Pin the root where agents cannot write: verify --root {public(root).thumbprint}\n"
    )
    (entry,) = TrustStore.load(path).keys
    assert (entry.key, entry.purpose, entry.origin, entry.issuer) == (
        *(public(root), "root", "fleet.example/", "https://i.example"),
    )
    code, _, err = run("trust", "init", path, *words)
    assert (code, "never overwritten" in err) == (2, True)


def test_a_trust_file_may_begin_empty(run: Run, tmp_path: Path) -> None:
    """Without a root it has no entries, no signature and a random id."""
    assert run("trust", "init", tmp_path / "a.json")[0] == 0
    assert run("trust", "init", tmp_path / "b.json")[0] == 0
    one, two = TrustStore.load(tmp_path / "a.json"), TrustStore.load(tmp_path / "b.json")
    assert (one.keys, one.file.signature, one.file.id == two.file.id) == ((), None, False)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--origin", "fleet.example/"), "--root and --origin go together"),
        (("--id", " x"), "bad trust file: id has spaces at its ends"),
        (("--root", "ROOT", "--origin", "fleet.example//"), "bad root: the prefix of origins has an empty name"),
        (("--root", "ROOT"), "--root and --origin go together"),
        (("--root", "pkcs11:token=x", "--origin", "a/"), "does not name a key of a token; write pkcs11:token=LABEL;"),
        (("--root", "none.pem", "--origin", "a/"), "none.pem"),
    ],
    ids=str,
)
def test_a_file_that_cannot_begin_so_is_refused(
    run: Run, tmp_path: Path, root: Path, words: tuple[str, ...], told: str
) -> None:
    """The message has the cure, and nothing is written."""
    code, out, err = run("trust", "init", tmp_path / "f.json", *(root if word == "ROOT" else word for word in words))
    assert (code, out, told in err, (tmp_path / "f.json").exists()) == (2, "", True, False)


# trust add, trust remove


def test_a_root_signs_each_next_file(run: Run, fleet: Path, root: Path, issuer: Path) -> None:
    """The revision rises with each change, and the file stays signed."""
    words = ("--issuer", "https://partner.example", "--from", "2026-11-24", "--until", "2027-11-24T00:00:00Z")
    code, out, err = run("trust", "add", fleet, "issuer", issuer, *words, "--root", root)
    assert (code, out, err) == (0, f"{fleet}: urn:example:fleet, revision 2, signed by a root\n", "")
    entry = TrustStore.load(fleet).keys[1]
    assert (entry.purpose, entry.issuer, entry.not_before, entry.not_after) == (
        *("issuer", "https://partner.example", 1_795_478_400, 1_827_014_400),
    )
    code, out, err = run("trust", "remove", fleet, "--root", root, "--", entry.key.thumbprint)
    assert (code, out, err) == (0, f"{fleet}: urn:example:fleet, revision 3, signed by a root\n", "")
    assert [key.purpose for key in TrustStore.load(fleet).keys] == ["root"]


def test_removing_says_what_it_wrote_as_json(run: Run, fleet: Path, root: Path, issuer: Path) -> None:
    """The object names the file, its id, its revision, and whether a root signed it."""
    run("trust", "add", fleet, "policy", issuer, "--root", root)
    name = TrustStore.load(fleet).keys[1].key.thumbprint
    out = run("trust", "remove", fleet, "--root", root, "--json", "--", name)[1]
    assert json.loads(out) == {"path": str(fleet), "id": "urn:example:fleet", "revision": 3, "signed": True}


def test_a_change_without_a_root_does_not_undo_the_signature(run: Run, fleet: Path, issuer: Path) -> None:
    """A signed file stays as it is; a draft elsewhere is not signed."""
    before = fleet.read_bytes()
    code, _, err = run("trust", "add", fleet, "issuer", issuer)
    assert (code, "would leave it unsigned; give --root" in err, fleet.read_bytes()) == (2, True, before)
    draft = fleet.with_name("draft.json")
    assert run("trust", "add", fleet, "issuer", issuer, "-o", draft)[0] == 0
    assert (TrustStore.load(draft).file.signature, fleet.read_bytes()) == (None, before)
    code, _, err = run("trust", "add", fleet, "policy", issuer, "-o", draft)
    assert (code, "never overwritten" in err) == (2, True)


def test_a_root_continues_no_file_that_it_did_not_sign(run: Run, tmp_path: Path, root: Path, issuer: Path) -> None:
    """A file that another put in its place, with a root of their own beside the listed one, is not signed further."""
    own, other = SigningKey.load(root), SigningKey.generate()
    keys = tuple(TrustedKey(key.public_key, "root", origin="agent-identity/") for key in (own, other))
    for store in (TrustStore(keys), signed_trust(TrustStore(keys), other)):
        store.save(tmp_path / "f.json")
        before = (tmp_path / "f.json").read_bytes()
        code, _, err = run("trust", "add", tmp_path / "f.json", "issuer", issuer, "--root", root)
        assert (code, "did not sign the trust file as it stands" in err) == (2, True)
        assert (tmp_path / "f.json").read_bytes() == before


def test_running_processes_follow_a_change_of_their_directory(run: Run, tmp_path: Path, issuer: Path) -> None:
    """A change of the trust file of a directory is announced there, signed by its issuer key."""
    run("init", tmp_path / "home")
    assert run("trust", "add", tmp_path / "home", "issuer", issuer, "--issuer", "https://p.example")[0] == 0
    assert (tmp_path / "home" / "trust.successors").read_text().count("\n") == 1
    assert len(TrustStore.load(tmp_path / "home" / "trust.json").keys) == 3


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("root", "KEY"), "bad entry: the root has no origin"),
        (("issuer", "KEY", "--origin", "a/"), "bad entry: the key has an origin, but its purpose is not"),
        (("issuer", "KEY", "--from", "soon"), "'soon' is not a time"),
        (("issuer", "none.jwk"), "none.jwk"),
        (("issuer", "TRUST"), "holds no public key (the JWK is not of kty OKP and crv Ed25519)"),
        (("issuer", "TEXT"), "holds no public key (it is no JSON); give what 'agent-identity keys public' printed"),
        (("witness", "nonsense"), "bad entry: the verifier key is not of the form"),
        (("witness", VKEY, "--require", "2"), "2 of 1 witnesses are required"),
    ],
    ids=str,
)
def test_an_entry_that_is_none_is_refused(
    run: Run, tmp_path: Path, issuer: Path, words: tuple[str, ...], told: str
) -> None:
    """The message has the cure, and the file stays as it is."""
    path = tmp_path / "f.json"
    run("trust", "init", path)
    before = path.read_bytes()
    (tmp_path / "text").write_text("no key")
    named = {"KEY": issuer, "TRUST": path, "TEXT": tmp_path / "text"}
    code, _, err = run("trust", "add", path, *(named.get(word, word) for word in words))
    assert (code, told in err, path.read_bytes()) == (2, True, before)


def test_witnesses_are_added_and_removed(run: Run, tmp_path: Path) -> None:
    """Each with its time; the number that is required is a matter of its own."""
    path, other = tmp_path / "f.json", Witnesses(()).keys
    assert other == ()
    run("trust", "init", path)
    assert run("trust", "add", path, "witness", VKEY)[0] == 0
    assert TrustStore.load(path).witnesses.periods == ()
    run("keys", "new", tmp_path / "w.pem")
    second = VKEY.replace("witness", "other")
    code, _, err = run("trust", "add", path, "witness", second)
    assert (code, "key id" in err) == (2, True)
    assert run("trust", "remove", path, VKEY)[0] == 0
    assert TrustStore.load(path).witnesses == Witnesses(())
    assert run("trust", "add", path, "witness", VKEY, "--until", "2027-01-01", "--require", "1")[0] == 0
    store = TrustStore.load(path)
    assert (store.witnesses.required, store.witnesses.periods) == (1, ((None, 1_798_761_600),))
    code, _, err = run("trust", "remove", path, store.witnesses.keys[0].key.thumbprint)
    assert (code, err, TrustStore.load(path).witnesses.keys) == (0, "", ())


def test_only_what_is_listed_and_not_revoked_is_removed(run: Run, tmp_path: Path) -> None:
    """A revoked key stays listed, since without its entry its signatures would only be unknown."""
    run("init", tmp_path)
    key = TrustStore.load(tmp_path / "trust.json").keys[0].key.thumbprint
    code, _, err = run("trust", "remove", tmp_path, "nothing")
    assert (code, "lists no such key or witness" in err) == (2, True)
    run("keys", "revoke", tmp_path, "--since", "1763970000", "--", key)
    code, _, err = run("trust", "remove", tmp_path, "--", key)
    assert (code, "the key is revoked" in err) == (2, True)


# trust merge, trust sign


def test_a_merged_file_is_signed_again_after_the_one_in_force(
    run: Run, tmp_path: Path, fleet: Path, root: Path
) -> None:
    """The person who signs sees what is new; the file in force is replaced in one step."""
    run("init", tmp_path / "host")
    draft = tmp_path / "draft.json"
    code, out, _ = run("trust", "merge", fleet, tmp_path / "host", "-o", draft)
    assert (code, out) == (0, f"{draft}: urn:example:fleet, revision 2, not signed\n")
    assert TrustStore.load(draft).file.merged_from[0] == "urn:example:fleet#1"
    code, out, err = run("trust", "sign", draft, "--root", root, "--after", fleet, "-o", fleet)
    host = TrustStore.load(tmp_path / "host" / "trust.json")
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        f"{fleet}: urn:example:fleet, revision 2, signed by a root",
        f"  + issuer {host.keys[0].key.thumbprint} issuer={host.issuer}",
        f"  + recorder {host.keys[1].key.thumbprint} origin={host.origin}",
    ]
    assert TrustStore.load(fleet).file.merged_from == ()


def test_what_a_root_signs_first_is_shown_whole(run: Run, tmp_path: Path, root: Path) -> None:
    """Without an earlier file, each entry and name is new."""
    store = TrustStore((TrustedKey(public(root), "root", origin="a/", not_after=4_000_000_000),), issuer="https://i")
    store.save(tmp_path / "f.json")
    code, out, _ = run("trust", "sign", tmp_path / "f.json", "--root", root, "--first")
    assert (code, out.splitlines()[1:]) == (
        0,
        [f"  + root {public(root).thumbprint} origin=a/ not_after=4000000000", "  + issuer https://i"],
    )
    json_out = run("trust", "sign", tmp_path / "f.json", "--root", root, "--first", "--json")[1]
    assert json.loads(json_out)["signed"] is True


def test_ac_16_a_root_does_not_sign_what_takes_something_back(
    run: Run, tmp_path: Path, fleet: Path, root: Path, issuer: Path
) -> None:
    """Nor a lower revision, nor the same one with other content, nor another file, nor a root that ended."""
    signer, kept = SigningKey.load(root), TrustStore.load(fleet)
    run("trust", "add", fleet, "issuer", issuer, "--root", root)
    run(
        "keys",
        "revoke",
        fleet,
        "--root",
        root,
        "--since",
        "1763970000",
        "--",
        TrustStore.load(fleet).keys[1].key.thumbprint,
    )
    now = TrustStore.load(fleet)
    assert (now.file.revision, now.file.signature is None) == (3, False)
    other = replace(kept, file=replace(kept.file, id="urn:example:other", revision=9, signature=None))
    same = replace(now, keys=now.keys[:1], file=replace(now.file, signature=None))
    back = replace(now, keys=now.keys[:1], file=replace(now.file, revision=4, signature=None))
    ended = replace(now, keys=(replace(now.keys[0], not_after=5), *now.keys[1:]))
    ended = replace(ended, file=replace(now.file, revision=4, signature=None))
    fresh = TrustedKey(public(tmp_path / "partner.pem"), "root", origin="a/")
    new = now.with_keys((*now.keys, fresh))
    cases: tuple[tuple[TrustStore, Path, str], ...] = (
        (kept, root, "the revision 1 is older than 3; keep the one that you have"),
        (same, root, "the content changed, but the revision is the same"),
        (other, root, "the trust file is not 'urn:example:fleet'"),
        (back, root, "a revoked key or credential is not listed any more"),
        (ended, root, "the root does not count now, by its own entry"),
        (new, tmp_path / "partner.pem", "bad signature of the trust file"),
    )
    draft = tmp_path / "draft.json"
    for store, key, told in cases:
        store.save(draft)
        before = draft.read_bytes()
        code, _, err = run("trust", "sign", draft, "--root", key, "--after", fleet)
        assert (code, told in err, draft.read_bytes()) == (2, True, before), told
    assert signer.public_key == now.keys[0].key


def test_signing_asks_what_the_file_follows(run: Run, fleet: Path, root: Path) -> None:
    """Neither silently nor both."""
    assert "--after --first is required" in run("trust", "sign", fleet, "--root", root)[2]
    assert run("trust", "sign", fleet, "--root", root, "--first", "--after", fleet)[0] == 2


def test_files_that_contradict_each_other_are_not_merged(run: Run, tmp_path: Path, root: Path) -> None:
    """The message names the key, and nothing is written."""
    for name, origin in (("a", "a/"), ("b", "b/")):
        TrustStore((TrustedKey(public(root), "root", origin=origin),)).save(tmp_path / f"{name}.json")
    code, _, err = run("trust", "merge", tmp_path / "a.json", tmp_path / "b.json", "-o", tmp_path / "c.json")
    assert (code, f"the root key {public(root).thumbprint}" in err, (tmp_path / "c.json").exists()) == (2, True, False)


# trust certify


def certificate(path: Path) -> dict[str, Any]:
    """Return the claims of a certificate, unverified."""
    from agent_identity._identity.trust.certificates import unverified_certificate

    one: Certificate = unverified_certificate(path.read_text().strip())
    return {
        "recorder": one.recorder,
        "issuer": one.issuer_key,
        "origin": one.origin,
        "life": one.expires_at - one.not_before,
    }


def test_a_host_is_certified_for_its_log(run: Run, tmp_path: Path, fleet: Path, root: Path) -> None:
    """The certificate names the newest keys and stands where the host reads it."""
    home = tmp_path / "home"
    run("init", home)
    run("keys", "rotate", "--all", home)
    code, out, err = run("trust", "certify", fleet, home, "--root", root, "--for", "12h")
    trust, path = TrustStore.load(home / "trust.json"), home / "keys" / "recorder.certificate"
    assert (code, err, out.startswith(f"{path}: {trust.origin}, until 20")) == (0, "", True)
    assert certificate(path) == {
        "recorder": public(home / "keys" / "recorder.pem"),
        "issuer": public(home / "keys" / "issuer.pem"),
        "origin": trust.origin,
        "life": DAY // 2,
    }
    words = ("--root", root, "--origin", "agent-identity/x", "--issuer", "https://i.example", "--from", "2026-11-24")
    out = run("trust", "certify", fleet, home / "trust.json", *words, "-o", tmp_path / "c", "--json")[1]
    assert {**json.loads(out), "recorder": ""} == {
        "path": str(tmp_path / "c"),
        "recorder": "",
        "origin": "agent-identity/x",
        "issuer": "https://i.example",
        "not_before": 1_795_478_400,
        "expires_at": 1_795_478_400 + 7 * DAY,
    }


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--for", "31d"), "bad certificate: the certificate is for more than 30 days; renew it instead"),
        (("--principals", "robot"), "bad certificate: the kinds of principals are empty or unknown"),
        (("--origin", "elsewhere/x"), "for a log outside the origin of its root"),
        (("--origin", "agent-identity/"), "bad certificate: the origin is a prefix"),
        (("--root", "partner.pem"), "no root of the trust file signed the certificate"),
    ],
    ids=str,
)
def test_a_certificate_that_would_not_count_is_not_written(
    run: Run, tmp_path: Path, fleet: Path, root: Path, issuer: Path, words: tuple[str, ...], told: str
) -> None:
    """The bounds of the root are checked where it signs, not by the verifiers first."""
    assert issuer.exists()
    home = tmp_path / "home"
    run("init", home)
    given = [tmp_path / word if word.endswith(".pem") else word for word in words]
    given = given if "--root" in given else [*given, "--root", root]
    code, _, err = run("trust", "certify", fleet, home, *given)
    assert (code, told in err, (home / "keys" / "recorder.certificate").exists()) == (2, True, False)


def test_a_host_without_names_keys_or_place_is_told(run: Run, tmp_path: Path, fleet: Path, root: Path) -> None:
    """Its names and keys come from its trust file, and a file says not where the certificate belongs."""
    path = tmp_path / "host.json"
    code, _, err = run("trust", "certify", fleet, fleet, "--root", root)
    assert (code, "give -o FILE" in err) == (2, True)
    code, _, err = run("trust", "certify", fleet, fleet, "--root", root, "-o", tmp_path / "c")
    assert (code, "names no log or no issuer" in err) == (2, True)
    TrustStore((), issuer="https://i", origin="agent-identity/x").save(path)
    code, _, err = run("trust", "certify", fleet, path, "--root", root, "-o", tmp_path / "c")
    assert (code, "no recorder key of the host counts now" in err) == (2, True)


def test_a_root_that_ended_certifies_nothing(run: Run, tmp_path: Path, root: Path) -> None:
    """Even with a date from when it counted."""
    end = int(time.time()) - 10
    TrustStore((TrustedKey(public(root), "root", origin="agent-identity/", not_after=end),)).save(tmp_path / "f.json")
    run("init", tmp_path / "home")
    words = ("--root", root, "--from", "2026-01-01")
    code, _, err = run("trust", "certify", tmp_path / "f.json", tmp_path / "home", *words)
    assert (code, "the root is revoked or does not count now" in err) == (2, True)


# trust check


def findings(run: Run, *words: object) -> tuple[int, set[tuple[str, str]]]:
    """Return the exit code and the findings of a check."""
    code, out, _ = run("trust", "check", *words, "--json")
    return code, {(one["level"], one["code"]) for one in json.loads(out)["findings"]}


def test_a_sound_file_under_a_pinned_root_has_no_findings(run: Run, fleet: Path, root: Path) -> None:
    """Pinned by thumbprint or by a file with the key; without a pin, a signature proves nothing."""
    assert run("trust", "check", fleet, f"--root={public(root).thumbprint}") == (0, f"sound: {fleet}\n", "")
    assert findings(run, fleet, "--root", root) == (0, set())
    assert findings(run, fleet) == (0, {("notice", "not_pinned")})


def test_what_is_wrong_with_a_file_is_named(run: Run, tmp_path: Path, fleet: Path, root: Path) -> None:
    """Overlapping roots, ended entries, merged files without a signature, other roots, files that all can write."""
    now = int(time.time())
    other = SigningKey.generate()
    keys = (
        TrustedKey(public(root), "root", origin="a/"),
        TrustedKey(other.public_key, "root", origin="a/b/"),
        TrustedKey(other.public_key, "issuer", not_after=now - 1),
        TrustedKey(SigningKey.generate().public_key, "issuer", not_after=now + DAY),
        TrustedKey(SigningKey.generate().public_key, "issuer", not_after=1, revoked_since=1),
    )
    path = tmp_path / "f.json"
    store = TrustStore(keys)
    store.save(path)
    notices = {("notice", "expired"), ("notice", "expires_soon")}
    assert findings(run, path) == (1, {("problem", "roots_overlap"), ("notice", "self_asserted"), *notices})
    merged(store, TrustStore(keys[2:3])).save(path)
    assert ("problem", "unsigned_merge") in findings(run, path)[1]
    signed_trust(store, other).save(path)
    assert ("problem", "bad_trust_signature") in findings(run, path, "--root", root)[1]
    fleet.chmod(0o666)
    assert findings(run, fleet) == (1, {("problem", "writable_by_all"), ("notice", "not_pinned")})
    code, out, _ = run("trust", "check", fleet)
    assert (code, out.startswith(f"problem  {fleet}: writable_by_all: every user of the machine can replace")) == (
        1,
        True,
    )
    path.write_text("{}")
    assert findings(run, path) == (1, {("problem", "bad_configuration")})


def test_files_are_checked_against_each_other(run: Run, tmp_path: Path, root: Path) -> None:
    """A key that two files describe differently, and roots of two files for the same logs."""
    other = TrustedKey(SigningKey.generate().public_key, "root", origin="a/b/")
    stores = (
        TrustStore((TrustedKey(public(root), "root", origin="a/"),)),
        TrustStore((TrustedKey(public(root), "root", origin="b/"),)),
        TrustStore((other,)),
    )
    paths = [tmp_path / f"{number}.json" for number in range(3)]
    for path, store in zip(paths, stores, strict=True):
        store.save(path)
    assert findings(run, *paths[:2]) == (1, {("notice", "self_asserted"), ("problem", "trust_conflict")})
    assert findings(run, paths[0], paths[2]) == (1, {("notice", "self_asserted"), ("problem", "roots_overlap")})
    assert findings(run, paths[1], paths[2]) == (0, {("notice", "self_asserted")})


def test_ended_witnesses_and_credentials_are_named(run: Run, tmp_path: Path) -> None:
    """As keys are."""
    path = tmp_path / "f.json"
    run("trust", "init", path)
    run("trust", "add", path, "witness", VKEY, "--until", "2020-01-01")
    code, out, _ = run("trust", "check", path)
    assert (code, "expired: the witness 'witness.example' ended at 2020-01-01" in out) == (0, True)


# Files


@pytest.mark.skipif(os.geteuid() == 0 and not hasattr(os, "fchmod"), reason="needs modes")
@pytest.mark.parametrize(
    "words",
    [
        ("add", "FILE", "issuer", "KEY", "--root", "ROOT"),
        ("remove", "FILE", "x", "--root", "ROOT"),
        ("merge", "FILE", "-o", "OUT"),
        ("sign", "FILE", "--root", "ROOT", "--first"),
        ("certify", "FILE", "FILE", "--root", "ROOT", "-o", "OUT"),
        ("list", "FILE"),
    ],
    ids=lambda words: str(words[0]),
)
def test_a_file_that_everyone_can_write_is_refused(
    run: Run, tmp_path: Path, fleet: Path, root: Path, issuer: Path, words: tuple[str, ...]
) -> None:
    """By every command that would rely on it; the message has the cure."""
    fleet.chmod(0o666)
    named = {"FILE": fleet, "KEY": issuer, "ROOT": root, "OUT": tmp_path / "out"}
    code, _, err = run("trust", *(named.get(word, word) for word in words))
    assert (code, "every user of the machine can replace the file" in err) == (2, True)


def test_a_list_fits_a_terminal_of_80_columns(
    on_terminal: Callable[..., tuple[int, str, str]], run: Run, fleet: Path, root: Path, issuer: Path
) -> None:
    """Rows that are wider take several lines."""
    run("trust", "add", fleet, "issuer", issuer, "--from", "2026-11-24", "--until", "2027-11-24", "--root", root)
    out = on_terminal("trust", "list", fleet)[1]
    assert max(map(len, out.splitlines())) <= 80
    assert public(root).thumbprint in out


# trust list


def test_the_keys_of_a_trust_file_are_listed(run: Run, evidence: Path, trust: Path) -> None:
    """Names, purposes and times are printed, for a directory and for a file alike."""
    code, out, err = run("trust", "list", evidence)
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "file    AZq7zA4Ae4OAAAAAAAAAAQ, revision 1, not signed",
        "issuer  https://issuer.example/agents",
        "log     agent-identity.example/vectors",
        "",
        "PURPOSE   KEY                                          VALID FROM               VALID UNTIL",
        f"issuer    {TrustStore.load(trust).keys[0].key.thumbprint}  always                   always",
        f"recorder  {TrustStore.load(trust).keys[1].key.thumbprint}  2025-11-13 02:13:20 UTC  2026-11-24 16:00:00 UTC",
    ]
    assert run("trust", "list", trust) == (0, out, "")


def test_json_is_the_trust_file(run: Run, evidence: Path) -> None:
    """``--json`` prints what the trust file holds."""
    assert run("trust", "list", evidence, "--json") == (0, (evidence / "trust.json").read_text("utf-8"), "")


def test_what_a_trust_file_leaves_open_is_said(run: Run, tmp_path: Path) -> None:
    """Without names, and with times beyond the calendar, the list says so."""
    key = SigningKey.from_seed(b"k" * 32).public_key
    store = TrustStore(()).with_key(key, "recorder", not_before=0, not_after=(1 << 53) - 1)
    store.save(tmp_path / "trust.json")
    code, out, _ = run("trust", "list", tmp_path)
    assert code == 0
    assert out.splitlines()[:3] == [
        f"file    {store.file.id}, revision 2, not signed",
        "issuer  not named",
        "log     not pinned",
    ]
    assert out.splitlines()[-1].endswith("  1970-01-01 00:00:00 UTC  9007199254740991 s")


def test_a_missing_trust_file_is_named(run: Run, tmp_path: Path) -> None:
    """The message names the file, and the command that makes one."""
    code, out, err = run("trust", "list", tmp_path)
    assert (code, out) == (2, "")
    assert f"no trust file at '{tmp_path}/trust.json'" in err


def test_a_malformed_trust_file_is_told(run: Run, tmp_path: Path) -> None:
    """A file that is no trust file ends with 2."""
    (tmp_path / "trust.json").write_bytes(b"{}")
    code, out, err = run("trust", "list", tmp_path)
    assert (code, out) == (2, "")
    assert "trust.json: bad trust file at 'version'" in err
