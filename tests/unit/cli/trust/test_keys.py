"""``agent-identity init`` and ``agent-identity keys``: keys are made once, privately, and shown in public."""

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from agent_identity import records
from agent_identity.identity import PublicKey, SigningKey, TrustStore

Run = Callable[..., tuple[int, str, str]]


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# init


def test_init_prepares_a_directory(run: Run, tmp_path: Path) -> None:
    """Keys and trust file are there afterwards, with safe modes, and the names of the keys are printed."""
    root = tmp_path / "a" / "evidence"
    code, out, err = run("init", root)
    trust = TrustStore.load(root / "trust.json")
    issuer, recorder = (SigningKey.load(root / "keys" / f"{name}.pem").public_key for name in ("issuer", "recorder"))
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        f"{root} is ready",
        f"  issuer key    {issuer.thumbprint}  signs grants",
        f"  recorder key  {recorder.thumbprint}  signs records and checkpoints",
        f"  log           {trust.origin}",
        "",
        f"Keep a copy of {root}/trust.json elsewhere: verifiers need it, and only it.",
        f"{root}/.gitignore keeps private keys and evidence out of git.",
    ]
    assert (mode(root / "keys"), mode(root / "keys" / "issuer.pem"), mode(root / "trust.json")) == (0o700, 0o600, 0o644)


def test_init_keeps_what_exists(run: Run, tmp_path: Path) -> None:
    """A second time changes nothing and prints the same."""
    first = run("init", tmp_path, "--json")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert run("init", tmp_path, "--json") == first
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_init_prints_json(run: Run, tmp_path: Path) -> None:
    """``--json`` has the same facts in one object."""
    code, out, _ = run("init", tmp_path / "evidence", "--json")
    facts = json.loads(out)
    trust = TrustStore.load(tmp_path / "evidence" / "trust.json")
    assert code == 0
    assert facts == {
        "directory": str(tmp_path / "evidence"),
        "issuer": trust.issuer,
        "issuer_key": trust.keys[0].key.thumbprint,
        "recorder_key": trust.keys[1].key.thumbprint,
        "origin": trust.origin,
    }


def test_init_into_a_file_fails(run: Run, tmp_path: Path) -> None:
    """A file in the way is an error in one line."""
    (tmp_path / "file").touch()
    code, out, err = run("init", tmp_path / "file" / "evidence")
    assert (code, out) == (2, "")
    assert err.startswith("agent-identity: ")
    assert "Not a directory" in err
    assert err.count("\n") == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_init_without_permission_fails(run: Run, tmp_path: Path) -> None:
    """A folder that may not be written is an error in one line."""
    tmp_path.chmod(0o500)
    try:
        code, _, err = run("init", tmp_path / "evidence")
    finally:
        tmp_path.chmod(0o700)
    assert code == 2
    assert "Permission denied" in err


def test_ac_104_names_of_directories_cannot_steer_the_terminal(program: Run) -> None:
    """A directory may have any name; it is printed escaped, even if it is no Unicode."""
    code, out, err = program("init", os.fsdecode(b"\xff\x1b[31mred"))
    assert (code, err) == (0, "")
    assert out.startswith("\\udcff\\x1b[31mred is ready\n")
    assert "\x1b" not in out


# keys new, keys public


def test_a_new_key_is_private(run: Run, tmp_path: Path) -> None:
    """The file has mode 0600, and its thumbprint is printed."""
    path = tmp_path / "k.pem"
    code, out, _ = run("keys", "new", path)
    assert (code, mode(path)) == (0, 0o600)
    assert out == f"{path}: {SigningKey.load(path).public_key.thumbprint}\n"


def test_a_key_is_never_overwritten(run: Run, tmp_path: Path) -> None:
    """What exists stays, and the message says how to go on."""
    path = tmp_path / "k.pem"
    run("keys", "new", path)
    before = path.read_bytes()
    code, out, err = run("keys", "new", path)
    assert (code, out, path.read_bytes()) == (2, "", before)
    assert "never overwritten; move it or name another path" in err


def test_a_public_key_is_a_jwk(run: Run, tmp_path: Path) -> None:
    """The public part is printed as a JWK with its thumbprint, and nothing of the private one."""
    path = tmp_path / "k.pem"
    run("keys", "new", path)
    code, out, _ = run("keys", "public", path)
    jwk = json.loads(out)
    public = SigningKey.load(path).public_key
    assert (code, PublicKey.from_jwk(jwk), jwk["kid"], jwk["alg"]) == (0, public, public.thumbprint, "EdDSA")
    assert set(jwk) == {"kty", "crv", "x", "alg", "kid"}


def test_a_key_that_others_can_read_is_refused(run: Run, tmp_path: Path) -> None:
    """The message names the mode and the cure."""
    path = tmp_path / "k.pem"
    run("keys", "new", path)
    path.chmod(0o644)
    code, out, err = run("keys", "public", path)
    assert (code, out) == (2, "")
    assert "has mode 0644" in err


@pytest.mark.parametrize(
    "words", [("new", "none/k.pem"), ("public", "none.pem"), ("public", "."), ("new", ".")], ids=str
)
def test_paths_that_cannot_be_used_are_told(run: Run, words: tuple[str, str], tmp_path: Path) -> None:
    """Missing folders, missing files and folders end with 2 and one line."""
    code, out, err = run("keys", words[0], tmp_path / words[1])
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("agent-identity: ")
    assert str(tmp_path) in err


def test_a_file_that_holds_no_key_is_told(run: Run, evidence: Path) -> None:
    """A file of another kind is refused without a word of its content."""
    code, out, err = run("keys", "public", evidence / "log" / "checkpoint")
    assert (code, out) == (2, "")
    assert "example" not in err.replace(str(evidence), "")


# keys rotate


def test_keys_are_exchanged_and_the_history_is_listed(run: Run, tmp_path: Path) -> None:
    """Both new keys and both ends are printed, and the list shows old and new."""
    run("init", tmp_path)
    before = TrustStore.load(tmp_path / "trust.json")
    code, out, err = run("keys", "rotate", "--all", tmp_path, "--overlap", "2h")
    trust = TrustStore.load(tmp_path / "trust.json")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "issuer"
    assert lines[1].startswith(f"  new key  {trust.keys[2].key.thumbprint}  from 20")
    assert lines[2].startswith(f"  old key  {before.keys[0].key.thumbprint}  until 20")
    assert lines[3] == "recorder"
    assert lines[-1] == f"Give {tmp_path}/trust.json to the verifiers."
    assert trust.keys[0].not_after == (trust.keys[2].not_before or 0) + 7200
    listed = run("trust", "list", tmp_path)[1].splitlines()
    assert [line.split()[:2] for line in listed[5:]] == [[key.purpose, key.key.thumbprint] for key in trust.keys]
    assert "REVOKED" not in listed[3]


@pytest.mark.parametrize("purpose", ["issuer", "recorder"])
def test_one_key_is_exchanged_by_its_purpose(run: Run, tmp_path: Path, purpose: str) -> None:
    """The other one stays; the default overlap is a week."""
    run("init", tmp_path)
    assert run("keys", "rotate", f"--{purpose}", tmp_path)[0] == 0
    trust = TrustStore.load(tmp_path / "trust.json")
    (old,) = [key for key in trust.keys if key.not_after is not None]
    (new,) = [key for key in trust.keys if key.not_before is not None]
    assert (old.purpose, new.purpose) == (purpose, purpose)
    assert (old.not_after or 0) - (new.not_before or 0) == 7 * 24 * 3600


@pytest.mark.parametrize("overlap", ["1w", "7", "-1d", "1.5h", ""])
def test_an_overlap_has_a_unit(run: Run, tmp_path: Path, overlap: str) -> None:
    """Other texts change nothing."""
    run("init", tmp_path)
    code, _, err = run("keys", "rotate", "--all", tmp_path, f"--overlap={overlap}")
    assert (code, "such as 30m, 24h or 7d" in err) == (2, True)
    assert len(TrustStore.load(tmp_path / "trust.json").keys) == 2


def test_which_keys_has_to_be_said(run: Run, tmp_path: Path) -> None:
    """Neither none nor two."""
    for words in ((), ("--issuer", "--all")):
        assert run("keys", "rotate", *words, tmp_path)[0] == 2


# keys revoke


def test_a_key_is_revoked_and_listed_so(run: Run, tmp_path: Path) -> None:
    """The list shows since when and why; a zone is taken into account, and fractions are rounded down."""
    run("init", tmp_path)
    key = TrustStore.load(tmp_path / "trust.json").keys[1].key.thumbprint
    code, out, _ = run(
        "keys", "revoke", "--since", "2025-11-24T10:00:00.9+01:00", "--reason", "laptop lost", "--", tmp_path, key
    )
    assert code == 0
    assert out.splitlines()[0] == f"recorder key {key} is revoked since 2025-11-24 09:00:00 UTC"
    listed = run("trust", "list", tmp_path)[1].splitlines()
    assert listed[4].endswith("REVOKED SINCE")
    assert listed[5].rstrip().endswith("always")
    assert listed[6].endswith("2025-11-24 09:00:00 UTC (laptop lost)")
    run("keys", "revoke", "--since", "1763970000", "--", tmp_path, key)
    assert TrustStore.load(tmp_path / "trust.json").keys[1].revoked_since == 1_763_970_000


@pytest.mark.parametrize("since", ["yesterday", "2025-11-24T10:00:00", "2025-11-24", "-1", "²", "9" * 13])
def test_a_time_must_be_one_moment(run: Run, tmp_path: Path, since: str) -> None:
    """A time without a zone is another one elsewhere."""
    run("init", tmp_path)
    key = TrustStore.load(tmp_path / "trust.json").keys[1].key.thumbprint
    code, _, err = run("keys", "revoke", f"--since={since}", "--", tmp_path, key)
    assert (code, "a time with its zone" in err) == (2, True)


def test_a_key_is_not_revoked_in_advance(run: Run, tmp_path: Path) -> None:
    """A theft that is still to come is a slip of the pen."""
    run("init", tmp_path)
    code, _, err = run("keys", "revoke", "--since", "2100-01-01T00:00:00Z", "--", tmp_path, "x")
    assert (code, "in the future" in err) == (2, True)


def test_a_list_names_a_revocation_without_a_reason(run: Run, tmp_path: Path) -> None:
    """Only the time then."""
    run("init", tmp_path)
    key = TrustStore.load(tmp_path / "trust.json").keys[0].key.thumbprint
    run("keys", "revoke", "--since", "1763970000", "--", tmp_path, key)
    assert run("trust", "list", tmp_path)[1].splitlines()[5].endswith("2025-11-24 07:40:00 UTC")


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_rotation_is_recorded(run: Run, tmp_path: Path, elsewhere: bool) -> None:
    """The new keys stand in the ledger of the log."""
    directory = tmp_path / "keys-here"
    run("init", directory)
    log = tmp_path / "log-there" if elsewhere else directory
    log.mkdir(exist_ok=True)
    more = ["--evidence", log] if elsewhere else []
    assert run("keys", "rotate", "--all", directory, *more)[0] == 0
    trust = TrustStore.load(directory / "trust.json")
    found = [one.trust for one in records.read(log) if isinstance(one, records.Trust)]
    assert [(one.key, one.purpose, one.status) for one in found] == [
        (key.key.thumbprint, key.purpose, "trusted") for key in trust.keys if key.not_before is not None
    ]
    assert run("keys", "rotate", "--issuer", directory, *more)[0] == 0
    assert len([one for one in records.read(log) if isinstance(one, records.Trust)]) == 3


def test_a_rotation_that_cannot_be_recorded_changes_nothing(run: Run, tmp_path: Path) -> None:
    """A directory that is not there is not made."""
    run("init", tmp_path)
    before = (tmp_path / "trust.json").read_bytes()
    assert run("keys", "rotate", "--all", tmp_path, "--evidence", tmp_path / "absent")[0] == 2
    assert (tmp_path / "trust.json").read_bytes() == before
    assert not (tmp_path / "absent").exists()
