"""Signers of securesystemslib: those of Ed25519 keys work as issuer and recorder, and any failure is an error."""

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
from securesystemslib.signer import CryptoSigner

from agent_identity import Agent, Enforcer, Human, Scope, Verifier
from agent_identity.errors import ConfigurationError, EvidenceError
from agent_identity.identity import RandomIds, SystemClock, TrustedKey, TrustStore
from agent_identity.integrations.keys.securesystemslib import SecuresystemslibSigner
from agent_identity.options import DigestKeys, Ledger


def test_evidence_under_their_keys_verifies(tmp_path: Path) -> None:
    """An enforcer of such signers makes grants, spans and checkpoints that anyone can verify."""
    issuer, recorder = (SecuresystemslibSigner(CryptoSigner.generate_ed25519()) for _ in range(2))
    trust = TrustStore(
        (TrustedKey(issuer.public_key, "issuer"), TrustedKey(recorder.public_key, "recorder")),
        issuer="urn:example:issuer",
        origin="example.com/log",
    )
    clock, ids = SystemClock(), RandomIds()
    ledger = Ledger.open(tmp_path / "evidence", signer=recorder, origin="example.com/log", clock=clock, ids=ids)
    digests = DigestKeys(tmp_path / "evidence" / "keys" / "digests.jsonl", sync="process")
    with Enforcer(keys=(issuer, recorder), trust=trust, ledger=ledger, digests=digests) as enforcer:
        given = {"principal": Human("alice"), "agent": Agent("clerk", owner="ops"), "scope": Scope("read")}
        with enforcer.task("t", **given), enforcer.action("read"):
            pass
    report = Verifier(trust).ledger(tmp_path / "evidence")
    assert (report.verdict, report.counts["chains_verified"]) == ("verified", 1)


@pytest.mark.parametrize("make", [CryptoSigner.generate_ecdsa, CryptoSigner.generate_rsa])
def test_other_kinds_of_keys_are_refused(make: Any) -> None:
    """Our formats know Ed25519 only."""
    with pytest.raises(ConfigurationError, match="keytype and scheme ed25519"):
        SecuresystemslibSigner(make())


class Other:
    """A signer that a test makes."""

    def __init__(self, real: CryptoSigner, **changes: Any) -> None:
        self.real = real
        self.public_key = type("Key", (), {"keytype": "ed25519", "scheme": "ed25519", **changes})()

    def sign(self, payload: bytes) -> Any:
        """Answer as the test says."""
        return type("Signature", (), {"signature": self.answer(payload)})()

    def answer(self, payload: bytes) -> str:
        """Sign."""
        return self.real.sign(payload).signature


@pytest.mark.parametrize("keyval", [{}, {"public": "zz"}, {"public": "00"}, {"public": None}])
def test_what_is_no_key_is_refused(keyval: dict[str, object]) -> None:
    """A key is 32 bytes in hex."""
    with pytest.raises(ConfigurationError, match="32 bytes in hex"):
        SecuresystemslibSigner(Other(CryptoSigner.generate_ed25519(), keyval=keyval))


@pytest.mark.parametrize("answer", ["", "zz", "00" * 64, None])
def test_what_is_no_signature_is_an_error(answer: Any) -> None:
    """Whatever the service returns or raises, nothing counts as signed."""
    real = CryptoSigner.generate_ed25519()
    other = Other(real, keyval=real.public_key.keyval)
    signer = SecuresystemslibSigner(other)
    assert signer.sign(b"x") == bytes.fromhex(real.sign(b"x").signature)
    other.answer = lambda _: answer
    with pytest.raises(EvidenceError) as failed:
        signer.sign(b"x")
    assert failed.value.code == "signer_unavailable"


def test_it_is_neither_shown_nor_copied() -> None:
    """It names its key."""
    signer = SecuresystemslibSigner(CryptoSigner.generate_ed25519())
    assert repr(signer) == f"SecuresystemslibSigner({signer.public_key.thumbprint!r})"
    for copied in (copy.copy, pickle.dumps):
        with pytest.raises(TypeError, match="neither copied nor pickled"):
            copied(signer)
