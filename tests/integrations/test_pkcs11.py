"""Keys in a token: SoftHSM, a real PKCS #11 library, keeps them, and evidence under them verifies.

The tests run in processes of their own, because the library reads its settings once in each.
"""

import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from agent_identity import Verifier

pytest.importorskip("pkcs11", reason="python-pkcs11 is absent; install the extra pkcs11")

MODULES = (
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
    "/usr/local/lib/softhsm/libsofthsm2.so",
)
PREAMBLE = """
import os, sys, threading
from pathlib import Path
import pkcs11, pkcs11.util.ec
from agent_identity.errors import ConfigurationError, EvidenceError
from agent_identity.integrations.keys.pkcs11 import Pkcs11Token

module, root = sys.argv[1], Path(sys.argv[2])

def make(*labels):
    "Make a pair of keys for each label; what an administrator does with pkcs11-tool."
    with pkcs11.lib(module).get_token(token_label="evidence").open(user_pin="1234", rw=True) as token:
        curve = {pkcs11.Attribute.EC_PARAMS: pkcs11.util.ec.encode_named_curve_parameters("1.3.101.112")}
        for label in labels:
            pair = token.create_domain_parameters(pkcs11.KeyType.EC_EDWARDS, curve, local=True)
            pair.generate_keypair(mechanism=pkcs11.Mechanism.EC_EDWARDS_KEY_PAIR_GEN, store=True, label=label)

def opened(**changes):
    return Pkcs11Token(module, **{"label": "evidence", "pin": "1234", **changes})
"""


@pytest.fixture
def token(tmp_path: Path) -> Callable[[str], str]:
    """Return a way to run a program with a fresh token; it returns what that printed."""
    module = next((path for path in MODULES if Path(path).exists()), None)
    tool = shutil.which("softhsm2-util")
    if module is None or tool is None:
        pytest.skip("SoftHSM is absent; on Debian and Ubuntu: apt install softhsm2")
    (tmp_path / "tokens").mkdir()
    conf = tmp_path / "softhsm2.conf"
    conf.write_text(f"directories.tokendir = {tmp_path}/tokens\nobjectstore.backend = file\nlog.level = ERROR\n")
    path = os.pathsep.join(path for path in sys.path if path)
    environment = {**os.environ, "SOFTHSM2_CONF": str(conf), "PYTHONPATH": path}
    options = ["--init-token", "--free", "--label", "evidence", "--pin", "1234", "--so-pin", "5678"]
    subprocess.run([tool, *options], env=environment, check=True, capture_output=True, timeout=60)

    def run(program: str) -> str:
        command = [sys.executable, "-c", PREAMBLE + textwrap.dedent(program), module, str(tmp_path)]
        done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True, timeout=120)
        assert done.stderr == ""
        return done.stdout

    return run


def test_evidence_under_keys_of_a_token_verifies(token: Callable[[str], str], tmp_path: Path) -> None:
    """Grants, spans and checkpoints are signed on the token, and the keys are in no file of the directory."""
    token("""
        from agent_identity import Agent, Enforcer, Human, Scope
        from agent_identity.options import DigestKeys, Ledger
        from agent_identity.identity import RandomIds, SystemClock, TrustedKey, TrustStore

        make("issuer", "recorder")
        token = opened()
        issuer, recorder = token.signer("issuer"), token.signer("recorder")
        keys = (TrustedKey(issuer.public_key, "issuer"), TrustedKey(recorder.public_key, "recorder"))
        trust = TrustStore(keys, issuer="urn:example:issuer", origin="example.com/log")
        trust.save(root / "trust.json")
        evidence = root / "evidence"
        ledger = Ledger.open(evidence, signer=recorder, origin=trust.origin, clock=SystemClock(), ids=RandomIds())
        digests = DigestKeys(evidence / "keys" / "digests.jsonl", sync="process")
        with Enforcer(keys=(issuer, recorder), trust=trust, ledger=ledger, digests=digests) as enforcer:
            given = {"principal": Human("alice"), "agent": Agent("clerk", owner="ops"), "scope": Scope("read")}
            with enforcer.task("t", **given), enforcer.action("read"):
                pass
    """)
    report = Verifier(tmp_path / "trust.json").ledger(tmp_path / "evidence")
    assert (report.verdict, report.counts["chains_verified"]) == ("verified", 1)
    assert sorted(path.name for path in (tmp_path / "evidence" / "keys").iterdir()) == ["digests.jsonl", "ledger.key"]


def test_many_threads_share_a_token(token: Callable[[str], str]) -> None:
    """A token does one thing at a time; each thread gets its own signature."""
    assert (
        token("""
        make("k")
        token = opened()
        signer = token.signer("k")

        def ask(name):
            for number in range(10):
                message = b"%d %d" % (name, number)
                signer.public_key.verify(signer.sign(message), message)
            print("good\\n", end="", flush=True)

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(6)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
    """)
        == "good\n" * 6
    )


@pytest.mark.parametrize("changes", ['pin="0000"', 'label="other"'])
def test_what_does_not_fit_is_a_mistake_of_the_set_up(token: Callable[[str], str], changes: str) -> None:
    """Wrong PIN and wrong token; the PIN is not repeated."""
    said = token(f"""
        try:
            opened({changes})
        except ConfigurationError as error:
            print(error)
    """)
    assert said.startswith("cannot log in to the token '")
    assert "0000" not in said
    assert "check library, label and PIN" in said


def test_missing_keys_and_libraries_are_told(token: Callable[[str], str]) -> None:
    """A label that the token does not have, a key of another curve, and a file that is no library."""
    assert (
        token("""
        with pkcs11.lib(module).get_token(token_label="evidence").open(user_pin="1234", rw=True) as session:
            curve = {pkcs11.Attribute.EC_PARAMS: pkcs11.util.ec.encode_named_curve_parameters("secp256r1")}
            pair = session.create_domain_parameters(pkcs11.KeyType.EC, curve, local=True)
            pair.generate_keypair(store=True, label="nist")
        token = opened()
        for key in ("none", "nist"):
            try:
                token.signer(key)
            except ConfigurationError as error:
                print("refused")
        try:
            Pkcs11Token("/dev/null", label="evidence", pin="1234")
        except ConfigurationError as error:
            print("refused")
    """)
        == "refused\n" * 3
    )


def test_a_token_that_fails_is_an_error(token: Callable[[str], str]) -> None:
    """Closed, in a forked child, or with halves of two pairs: nothing is signed."""
    assert token("""
        make("k", "other")
        token = opened()
        signer = token.signer("k")
        child = os.fork()
        if not child:
            try:
                signer.sign(b"x")
            except EvidenceError as error:
                os.write(1, b"forked child\\n" if "forked child" in str(error) else b"")
            os._exit(0)
        os.waitpid(child, 0)
        other = token.signer("other")
        signer._key, kept = other._key, signer._key
        try:
            signer.sign(b"x")
        except EvidenceError as error:
            print("other bytes" if "other bytes" in str(error) else error, flush=True)
        signer._key = kept
        token.close()
        try:
            signer.sign(b"x")
        except EvidenceError as error:
            print(error.code, repr(signer).partition("(")[0], flush=True)
        import copy, pickle
        for copied in (copy.copy, pickle.dumps):
            try:
                copied(signer)
            except TypeError:
                print("not copied", flush=True)
    """).splitlines() == ["forked child", "other bytes", "signer_unavailable Pkcs11Signer", *["not copied"] * 2]


def test_both_forms_of_a_public_key_are_read() -> None:
    """PKCS #11 3.0 has the 32 bytes bare, earlier libraries in an octet string."""
    from agent_identity.integrations.keys.pkcs11 import _raw

    for raw in (b"x" * 32, b"\x04\x20" + b"x" * 30):
        assert _raw(raw) == raw
        assert _raw(b"\x04\x20" + raw) == raw


def test_operators_stop_and_start_with_the_keys_of_a_token(token: Callable[[str], str], tmp_path: Path) -> None:
    """The kill switch first, then rulings and registrations: each command takes the keys that the enforcer has."""
    said = token("""
        from agent_identity import Agent, Denied, Effect, Enforcer, Human, Rule, RuleSet, Scope
        from agent_identity.approvals import Approval
        from agent_identity.cli import main

        make("issuer", "recorder")
        os.environ["AGENT_IDENTITY_PIN"] = "1234"
        place, keys = str(root / "evidence"), ["--pkcs11", module]
        token = opened()
        policy = RuleSet(Rule(Effect.ROUTE, tools="pay", to="people"))
        signers = (token.signer("issuer"), token.signer("recorder"))
        with Enforcer.open(place, keys=signers, policy=policy, routes={"people": Approval()}) as enforcer:
            given = {"principal": Human("alice"), "agent": Agent("clerk", owner="ops"), "scope": Scope("pay")}
            with enforcer.task("t", **given):
                def outcome():
                    try:
                        with enforcer.action("pay"):
                            return "paid"
                    except Denied as denied:
                        return denied.code

                def command(*words):
                    import subprocess
                    done = subprocess.run([sys.executable, "-m", "agent_identity", *words, *keys], capture_output=True)
                    return done.returncode

                print(outcome())
                request = enforcer.approvals.pending()[0].id
                print(command("revoke", place, "agent", "clerk", "--suspend"), outcome())
                print(command("reinstate", place, "agent", "clerk"))
                print(command("approvals", "approve", place, request, "--by", "bob"), outcome())
                words = ["--owner", "ops", "--purpose", "x", "--tool", "pay"]
                print(command("agents", "add", place, "clerk", *words))
                print(command("erase", place, "--principal", "alice"))
                del os.environ["AGENT_IDENTITY_PIN"]
                print(command("revoke", place, "agent", "clerk"))
    """)
    assert said.split("\n") == ["approval_pending", "0 suspended", "0", "0 paid", "0", "0", "2", ""]


def test_a_root_in_a_token_signs_trust_files_and_certificates(token: Callable[[str], str], tmp_path: Path) -> None:
    """Commands name it by its PKCS #11 URI; the root never leaves the token."""
    out = token("""
        from agent_identity.cli import main

        make("root")
        os.environ["AGENT_IDENTITY_PIN"] = "1234"
        where = f"pkcs11:token=evidence;object=root?module-path={module}"
        code = main(["trust", "init", str(root / "fleet.json"), "--root", where, "--origin", "agent-identity/"])
        assert code == 0 and main(["init", str(root / "host")]) == 0
        if os.fork() == 0:  # One login for each process.
            words = [str(root / "fleet.json"), str(root / "host"), "--root", where]
            os._exit(main(["trust", "certify", *words]))
        print(os.wait()[1])
    """)
    assert out.splitlines()[0].endswith("revision 1, signed by a root")
    assert out.endswith("\n0\n")
    assert (tmp_path / "host" / "keys" / "recorder.certificate").exists()
