"""Who says whom to trust: files that everybody can replace, and one file for several machines."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from plain_records import append

from agent_identity import Agent, Enforcer, Human, Report, Scope, Verifier
from agent_identity._ledger.prune_statement import Kept, PruneStatement, sign_pruned
from agent_identity._ledger.reader import open_ledger
from agent_identity._ledger.transparency.merkle import CompactRange, leaf_hash
from agent_identity._storage.lines import stream_parts
from agent_identity.cli import main
from agent_identity.errors import ConfigurationError
from agent_identity.identity import RandomIds, SigningKey, SystemClock, TrustStore
from agent_identity.options import Ledger

OPEN = Scope("tool")
ALICE = Human("alice@example.com")
CLERK = Agent("clerk", owner="finance@example.com")


def codes(report: Report) -> set[str]:
    """Return the findings but for notices."""
    return {problem.code for problem in report.findings if problem.severity != "notice"}


@pytest.fixture
def evidence(world: Any, tmp_path: Path) -> Path:
    """Return closed evidence of a few calls."""
    tool = world.tool()
    with world.task(OPEN):
        tool(1)
    world.enforcer.close()
    return world.directory


# --------------------------------------------------------------------- files that everybody can replace


def opened_up(path: Path, what: str) -> None:
    """Let everybody write a file, or the folder that it is in."""
    (path if what == "file" else path.parent).chmod(0o777 if what == "folder" else 0o666)


@pytest.mark.parametrize("what", ["file", "folder"])
def test_an_enforcer_does_not_start_on_a_trust_file_that_everybody_can_replace(evidence: Path, what: str) -> None:
    """Somebody may have put another issuer into it; the cure names what to change, and works."""
    opened_up(evidence / "trust.json", what)
    with pytest.raises(ConfigurationError, match="chmod o-w") as caught:
        Enforcer.open(evidence)
    assert "every user of the machine can replace" in str(caught.value)
    evidence.chmod(0o755)
    (evidence / "trust.json").chmod(0o644)
    Enforcer.open(evidence).close()


@pytest.mark.parametrize("what", ["file", "folder"])
def test_a_verifier_cannot_tell_by_a_trust_file_that_everybody_can_replace(
    evidence: Path, tmp_path: Path, what: str, capsys: pytest.CaptureFixture
) -> None:
    """Given or beside the evidence, it lifts nothing: exit code 2 with the path, and doctor says the same."""
    kept = tmp_path / "kept" / "trust.json"
    kept.parent.mkdir()
    shutil.copy(evidence / "trust.json", kept)
    assert main(["verify", str(evidence), "--trust", str(kept)]) == 0
    capsys.readouterr()
    opened_up(kept, what)
    assert main(["verify", str(evidence), "--trust", str(kept)]) == 2
    assert str(kept) in capsys.readouterr().err
    opened_up(evidence / "trust.json", what)
    report = Verifier().ledger(evidence)
    assert (report.exit_code, report.trust, codes(report)) == (2, "none", {"bad_trust", "no_trust"})
    assert main(["doctor", str(evidence)]) == 1
    assert "chmod o-w" in " ".join(capsys.readouterr().out.split())


def test_evidence_where_everything_is_open_verifies_under_keys_kept_elsewhere(evidence: Path, tmp_path: Path) -> None:
    """A share on which all modes are 0777 proves nothing by itself, and holds under a file from another place."""
    kept = tmp_path / "kept.json"
    shutil.copy(evidence / "trust.json", kept)
    for path in (evidence, *evidence.rglob("*")):
        path.chmod(0o777)
    assert Verifier(kept).ledger(evidence).exit_code == 0
    assert Verifier().ledger(evidence).exit_code == 2


def test_a_link_counts_as_the_file_that_it_leads_to(evidence: Path, tmp_path: Path) -> None:
    """Both places matter: where the link is, and where the file is."""
    for name in ("there", "link"):
        (tmp_path / name).mkdir()
    there, link = tmp_path / "there" / "trust.json", tmp_path / "link" / "trust.json"
    shutil.copy(evidence / "trust.json", there)
    link.symlink_to(there)
    TrustStore.load(link)
    for folder in (there.parent, link.parent):
        folder.chmod(0o777)
        with pytest.raises(ConfigurationError, match="every user of the machine can replace"):
            TrustStore.load(link)
        folder.chmod(0o755)
    there.chmod(0o666)
    with pytest.raises(ConfigurationError, match="every user of the machine can replace"):
        TrustStore.load(link)


@pytest.mark.parametrize("mode", [0o1777, 0o775, 0o2775])
def test_folders_of_groups_and_temporary_ones_are_let_through(evidence: Path, tmp_path: Path, mode: int) -> None:
    """Nobody replaces a file of others in a folder with the sticky bit, and many users have a group of their own."""
    folder = tmp_path / "folder"
    folder.mkdir()
    shutil.copy(evidence / "trust.json", folder / "trust.json")
    (folder / "trust.json").chmod(0o664)
    folder.chmod(mode)
    assert Verifier(folder / "trust.json").ledger(evidence).exit_code == 0


@pytest.mark.parametrize("what", ["file", "folder"])
def test_nobody_replaces_what_is_on_a_read_only_mount(
    evidence: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """Kubernetes mounts a ConfigMap so, as a folder of mode 0777 with links; elsewhere it is refused."""
    folder = tmp_path / "mount"
    (folder / "..data").mkdir(parents=True)
    shutil.copy(evidence / "trust.json", folder / "..data" / "trust.json")
    (folder / "trust.json").symlink_to("..data/trust.json")
    opened_up(folder / "trust.json", what)
    with pytest.raises(ConfigurationError) as caught:
        TrustStore.load(folder / "trust.json")
    assert caught.value.code == "writable_by_all"
    read_only = os.statvfs_result((*os.statvfs(folder)[:8], os.ST_RDONLY, 255))
    monkeypatch.setattr(os, "statvfs", lambda _: read_only)
    assert Verifier(folder / "trust.json").ledger(evidence).exit_code == 0


def test_a_bundle_is_read_whatever_the_umask(evidence: Path, tmp_path: Path) -> None:
    """What it is unpacked into is closed to others by us, not by the machine."""
    bundle = tmp_path / "bundle.zip"
    before = os.umask(0)
    try:
        assert main(["bundle", str(evidence), "-o", str(bundle)]) == 0
        assert Verifier().ledger(bundle).exit_code == 0
    finally:
        os.umask(before)


# --------------------------------------------------------------------- one file for several machines


class Machine:
    """A directory of its own, with keys, names and evidence."""

    def __init__(self, path: Path) -> None:
        self.path = path
        enforcer = Enforcer.open(path)
        with enforcer.task("a purpose", principal=ALICE, agent=CLERK, scope=OPEN):
            enforcer.tool(name="tool")(lambda: None)()
        enforcer.close()
        self.document = json.loads((path / "trust.json").read_text())
        self.origin = self.document["origin"]

    @property
    def recorder(self) -> SigningKey:
        """The private key that signs its checkpoints."""
        return SigningKey.load(self.path / "keys" / "recorder.pem")

    def entries(self) -> Iterator[dict[str, object]]:
        """Return its keys as they stand in a file of several machines: each with the names that it may use."""
        for key in self.document["keys"]:
            name = "issuer" if key["purpose"] == "issuer" else "origin"
            yield {**key, name: self.document[name]}


def _human() -> Any:
    return Human("alice@example.com")


def _agent() -> Any:
    return Agent("clerk", owner="finance@example.com")


@pytest.fixture
def machines(tmp_path: Path) -> tuple[Machine, Machine]:
    return Machine(tmp_path / "a"), Machine(tmp_path / "b")


def fleet(folder: Path, *machines: Machine, **more: object) -> Path:
    """Write one trust file by hand."""
    path = folder / "fleet.json"
    keys = [entry for machine in machines for entry in machine.entries()]
    path.write_text(json.dumps({"version": "1", "id": "fleet", "revision": 1, "keys": keys, **more}))
    return path


def test_one_trust_file_verifies_several_machines(machines: tuple[Machine, Machine], tmp_path: Path) -> None:
    """Each log under its own key, whether the file names an origin of its own or not."""
    a, b = machines
    for more in ({}, {"origin": a.origin, "issuer": a.document["issuer"]}, {"origin": "another.example"}):
        path = fleet(tmp_path, a, b, **more)
        for machine in machines:
            report = Verifier(path).ledger(machine.path)
            assert (report.exit_code, report.trust) == (0, "given")


def test_a_recorder_that_signs_for_another_machine_is_contradicted(
    machines: tuple[Machine, Machine], tmp_path: Path
) -> None:
    """The key of one machine under a log with the name of the other: the verdict says which log the key is for."""
    a, b = machines
    path = tmp_path / "forged"
    forged = Ledger.open(path, signer=a.recorder, origin=b.origin, clock=SystemClock(), ids=RandomIds())
    append(forged, "erasure", {"erasure": {"key": "x"}})
    forged.close()
    report = Verifier(fleet(tmp_path, a, b)).ledger(path)
    assert report.exit_code == 1
    assert codes(report) == {"wrong_origin"}
    (found,) = [problem for problem in report.findings if problem.code == "wrong_origin"]
    assert a.origin in found.message
    assert b.origin in found.message
    assert Verifier(fleet(tmp_path, a)).ledger(path).exit_code == 1
    assert codes(Verifier(fleet(tmp_path, b)).ledger(path)) == {"unknown_key"}
    strange = Ledger.open(tmp_path / "c", signer=a.recorder, origin="c.example", clock=SystemClock(), ids=RandomIds())
    append(strange, "erasure", {"erasure": {"key": "x"}})
    strange.close()
    assert codes(Verifier(fleet(tmp_path, a, b)).ledger(tmp_path / "c")) == {"wrong_origin"}


def test_the_key_of_one_machine_prunes_nothing_of_another(machines: tuple[Machine, Machine], tmp_path: Path) -> None:
    """A statement of what was pruned counts under the keys of its own log only."""
    a, b = machines
    (stream,) = open_ledger(b.path).streams()
    entries = b.path / "ledger" / stream / "entries.jsonl"
    lines = entries.read_bytes().splitlines(keepends=True)
    tree = CompactRange()
    for line in lines[:3]:
        leaf = leaf_hash(stream_parts(line.rstrip(b"\n"))[0])
        tree.append(leaf)
    for origin, code, exit_code in ((a.origin, "bad_pruning", 1), (b.origin, "unknown_key", 2)):
        said = {"size": 3, "last": leaf, "peaks": tree.peaks, "open": (), "log_size": 1, "log_root": leaf, "time_ns": 1}
        statement = PruneStatement(origin=origin, stream=stream, kept=Kept.of([]), **said)
        (entries.parent / "pruned").write_bytes(sign_pruned(statement, a.recorder))
        entries.write_bytes(b"".join(lines[3:]))
        report = Verifier(fleet(tmp_path, a, b)).ledger(b.path)
        assert report.exit_code == exit_code
        assert code in codes(report)


def test_a_revoked_key_of_one_machine_says_nothing_about_another(
    machines: tuple[Machine, Machine], tmp_path: Path
) -> None:
    """The evidence of the other stays whole; that of its own is in doubt."""
    a, b = machines
    for entry in a.document["keys"]:
        if entry["purpose"] == "recorder":
            entry["revoked_since"] = 1
    path = fleet(tmp_path, a, b)
    assert Verifier(path).ledger(b.path).exit_code == 0
    assert Verifier(path).ledger(a.path).exit_code == 1


def test_a_file_without_such_origins_means_what_it_meant(machines: tuple[Machine, Machine], tmp_path: Path) -> None:
    """One origin for all keys of the file: the evidence of another log is contradicted."""
    a, b = machines
    path = tmp_path / "plain.json"
    keys = [*a.document["keys"], *b.document["keys"]]
    path.write_text(json.dumps({**a.document, "issuer": None, "keys": keys}))
    assert Verifier(path).ledger(a.path).exit_code == 0
    assert "wrong_origin" in codes(Verifier(path).ledger(b.path))


def test_a_file_of_several_machines_is_written_and_read_again(
    machines: tuple[Machine, Machine], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Origins are kept, and listed."""
    path = fleet(tmp_path, *machines)
    store = TrustStore.load(path)
    assert TrustStore.load(store.to_json()) == store
    assert {key.origin for key in store.keys} == {None, *(machine.origin for machine in machines)}
    assert main(["trust", "list", str(path)]) == 0
    out = capsys.readouterr().out
    assert all(machine.origin in out for machine in machines)


def test_an_enforcer_does_not_sign_for_another_log_than_its_key_may(machines: tuple[Machine, Machine]) -> None:
    """A trust file in which its recorder key is for another machine stops it at the start."""
    a, b = machines
    document = {**a.document}
    own = {"origin": b.origin}
    document["keys"] = [key | (own if key["purpose"] == "recorder" else {}) for key in a.document["keys"]]
    (a.path / "trust.json").write_text(json.dumps(document))
    with pytest.raises(ConfigurationError, match="another log"):
        Enforcer.open(a.path)


def test_an_origin_stands_beside_recorder_keys_only(machines: tuple[Machine, Machine], tmp_path: Path) -> None:
    """With the rules of the names of logs; an issuer key names its issuer instead."""
    a, _ = machines
    issuer, recorder = a.entries()
    for keys in ([{**issuer, "origin": a.origin}], [{**recorder, "origin": "a b"}], [{**recorder, "origin": "a+b"}]):
        (tmp_path / "fleet.json").write_text(json.dumps({**a.document, "keys": keys}))
        with pytest.raises(ConfigurationError, match=r"bad trust file: .*origin"):
            TrustStore.load(tmp_path / "fleet.json")


def test_a_trust_file_that_goes_away_meanwhile_is_an_error(
    evidence: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether others can write it is asked of what is there, and no answer is no permission."""
    kept = tmp_path / "kept.json"
    shutil.copy(evidence / "trust.json", kept)
    real = os.path.realpath

    def gone(path: object, **named: object) -> str:
        kept.unlink(missing_ok=True)
        return real(path, **named)

    monkeypatch.setattr(os.path, "realpath", gone)
    with pytest.raises(ConfigurationError, match="No such file"):
        TrustStore.load(kept)
