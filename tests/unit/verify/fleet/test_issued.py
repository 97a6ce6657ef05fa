"""Hosts that a certifier certified: all of them verify from one root, and those without evidence are named."""

import shutil
from pathlib import Path

import pytest

from agent_identity import Agent, Enforcer, Human, Scope, Verifier
from agent_identity._directory.issuances import IssuanceLog
from agent_identity._identity.trust.certificates import unverified_certificate
from agent_identity.cli import main
from agent_identity.errors import ConfigurationError
from agent_identity.identity import PublicKey, RandomIds, SigningKey, SystemClock, TrustStore

ALICE, CLERK = Human("alice@example.com"), Agent("clerk", owner="finance@example.com")


class Fleet:
    """Hosts that one root certified, and the log of that.

    Attributes:
        home: A folder.
        trust: The path of the trust file, which lists the root alone.
    """

    def __init__(self, home: Path, hosts: int) -> None:
        self.home, self.trust = home, home / "fleet.json"
        SigningKey.generate().save(home / "root.pem")
        self.certify_with = ["--root", str(home / "root.pem")]
        words = [*self.certify_with, "--origin", "agent-identity/"]
        assert main(["trust", "init", str(self.trust), *words]) == 0
        assert main(["init", str(home / "issued")]) == 0
        self._certified("issued")
        with IssuanceLog(home / "issued", clock=SystemClock(), ids=RandomIds()) as log:
            for number in range(hosts):
                name = f"evidence/{number}"
                assert main(["init", str(home / name)]) == 0
                token = self._certified(name)
                log.record(unverified_certificate(token), token)
                with (
                    Enforcer.open(home / name) as enforcer,
                    enforcer.task("read", principal=ALICE, agent=CLERK, scope=Scope("read")),
                    enforcer.action("read"),
                ):
                    pass

    def _certified(self, name: str) -> str:
        assert main(["trust", "certify", str(self.trust), str(self.home / name), *self.certify_with]) == 0
        return (self.home / name / "keys" / "recorder.certificate").read_text().strip()

    @property
    def root(self) -> PublicKey:
        """The root."""
        return SigningKey.load(self.home / "root.pem").public_key


def test_ac_17_a_certified_host_without_evidence_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By verify with the log of the certifier; whatever else is there still verifies."""
    fleet = Fleet(tmp_path, 3)
    command = ["verify", str(tmp_path / "evidence"), "--trust", str(fleet.trust), "--issued", str(tmp_path / "issued")]
    assert main(command) == 0
    gone = TrustStore.load(tmp_path / "evidence" / "1" / "trust.json")
    shutil.rmtree(tmp_path / "evidence" / "1")
    capsys.readouterr()
    assert main([*command, f"--root={fleet.root.thumbprint}"]) == 3
    out = capsys.readouterr().out
    assert out.startswith("VERIFIED, BUT INCOMPLETE")
    assert out.count("certified_host_missing") == 1
    assert f"the recorder {gone.keys[1].key.thumbprint} was certified for the log '{gone.origin}' until 20" in out


def test_a_log_of_issuances_that_was_cut_hides_nothing(tmp_path: Path) -> None:
    """It is evidence like any other: the verdict is that of the worst host."""
    fleet = Fleet(tmp_path, 1)
    trust = TrustStore.load(fleet.trust, root=fleet.root)
    (stream,) = (tmp_path / "issued" / "ledger").iterdir()
    lines = (stream / "entries.jsonl").read_bytes().splitlines(keepends=True)
    (stream / "entries.jsonl").write_bytes(b"".join(lines[:1]))
    report = Verifier(trust).fleet(tmp_path / "evidence", issued=[tmp_path / "issued"])
    assert report.exit_code == 1


def test_issuances_are_judged_by_roots(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A certificate of a root that the file does not list names no host; without a file, verify says so."""
    fleet = Fleet(tmp_path, 1)
    shutil.rmtree(tmp_path / "evidence" / "0")
    shutil.copytree(tmp_path / "issued", tmp_path / "evidence" / "0")
    report = Verifier(TrustStore(())).fleet(tmp_path / "evidence", issued=[tmp_path / "issued"])
    assert "certified_host_missing" not in {one.code for one in report.findings}
    with pytest.raises(ConfigurationError, match="give trust as well"):
        Verifier().fleet(tmp_path / "evidence", issued=[tmp_path / "issued"])
    assert main(["verify", str(tmp_path / "evidence"), "--issued", str(tmp_path / "issued")]) == 2
    assert "give --trust as well" in capsys.readouterr().err
    assert fleet.trust.exists()


@pytest.mark.nightly
def test_two_hundred_recorders_verify_from_one_root(tmp_path: Path) -> None:
    """And one of them that is taken away is the one that is named."""
    fleet = Fleet(tmp_path, 200)
    trust = TrustStore.load(fleet.trust, root=fleet.root)
    assert [key.purpose for key in trust.keys] == ["root"]
    verifier = Verifier(trust, processes=0)
    report = verifier.fleet(tmp_path / "evidence", issued=[tmp_path / "issued"])
    assert (report.verdict, report.counts["hosts"]) == ("verified", 201)
    shutil.rmtree(tmp_path / "evidence" / "117")
    report = verifier.fleet(tmp_path / "evidence", issued=[tmp_path / "issued"])
    assert [one.code for one in report.findings if one.severity != "notice"] == ["certified_host_missing"]
