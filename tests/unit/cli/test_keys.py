"""``agent-identity init`` and ``agent-identity keys``: keys are made once, privately, and shown in public."""

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

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
    assert err == (
        "agent-identity: expected a directory for evidence that can be written, got Not a directory; "
        "choose another one\n"
    )


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
    assert "never overwritten, so move it or name another path" in err


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
    assert "got mode 0644; run chmod 600 on it" in err


@pytest.mark.parametrize(
    "words", [("new", "none/k.pem"), ("public", "none.pem"), ("public", "."), ("new", ".")], ids=str
)
def test_paths_that_cannot_be_used_are_told(run: Run, words: tuple[str, str], tmp_path: Path) -> None:
    """Missing folders, missing files and folders end with 2 and one line."""
    code, out, err = run("keys", words[0], tmp_path / words[1])
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("agent-identity: expected ")


def test_a_file_that_holds_no_key_is_told(run: Run, evidence: Path) -> None:
    """A file of another kind is refused without a word of its content."""
    code, out, err = run("keys", "public", evidence / "log" / "checkpoint")
    assert (code, out) == (2, "")
    assert "example" not in err.replace(str(evidence), "")


# keys list


def test_the_keys_of_a_trust_file_are_listed(run: Run, evidence: Path, trust: Path) -> None:
    """Names, purposes and times are printed, for a directory and for a file alike."""
    code, out, err = run("keys", "list", evidence)
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "issuer  https://issuer.example/agents",
        "log     agent-identity.example/vectors",
        "",
        "PURPOSE   KEY                                          VALID FROM               VALID UNTIL",
        f"issuer    {TrustStore.load(trust).keys[0].key.thumbprint}  always                   always",
        f"recorder  {TrustStore.load(trust).keys[1].key.thumbprint}  2025-11-13 02:13:20 UTC  2026-11-24 16:00:00 UTC",
    ]
    assert run("keys", "list", trust) == (0, out, "")


def test_json_is_the_trust_file(run: Run, evidence: Path) -> None:
    """``--json`` prints what the trust file holds."""
    assert run("keys", "list", evidence, "--json") == (0, (evidence / "trust.json").read_text("utf-8"), "")


def test_what_a_trust_file_leaves_open_is_said(run: Run, tmp_path: Path) -> None:
    """Without names, and with times beyond the calendar, the list says so."""
    key = SigningKey.from_seed(b"k" * 32).public_key
    store = TrustStore(()).with_key(key, "recorder", not_before=0, not_after=(1 << 53) - 1)
    store.save(tmp_path / "trust.json")
    code, out, _ = run("keys", "list", tmp_path)
    assert code == 0
    assert out.startswith("issuer  not named\nlog     not pinned\n")
    assert out.splitlines()[-1].endswith("  1970-01-01 00:00:00 UTC  9007199254740991 s")


def test_a_missing_trust_file_is_named(run: Run, tmp_path: Path) -> None:
    """The message names the file, and the command that makes one."""
    code, out, err = run("keys", "list", tmp_path)
    assert (code, out) == (2, "")
    assert f"'{tmp_path}/trust.json', found none; 'agent-identity init DIR' creates one in DIR" in err


def test_a_malformed_trust_file_is_told(run: Run, tmp_path: Path) -> None:
    """A file that is no trust file ends with 2."""
    (tmp_path / "trust.json").write_bytes(b"{}")
    code, out, err = run("keys", "list", tmp_path)
    assert (code, out) == (2, "")
    assert err.startswith("agent-identity: bad trust file at 'version'")
