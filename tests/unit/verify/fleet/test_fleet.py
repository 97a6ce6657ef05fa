"""Many hosts in one verdict: the worst counts, nothing counts twice, and no order or grouping changes anything."""

import dataclasses
import io
import json
import pickle
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from agent_identity import Agent, Enforcer, Human, Report, Scope, Verifier, verify
from agent_identity._guard.tasks.exported_grants import RecordedGrants
from agent_identity._verify.fleet import hosts_check
from agent_identity._verify.fleet.merging import fleet_report, merged
from agent_identity.answers import Evidence, coverage
from agent_identity.cli import main
from agent_identity.delegation import Grants
from agent_identity.errors import ConfigurationError, VerificationError
from agent_identity.identity import SigningKey, TrustStore
from agent_identity.identity import merged as merged_trust
from agent_identity.options import Telemetry

ALICE, CLERK = Human("alice@example.com"), Agent("clerk", owner="finance@example.com")
Make = Callable[..., Path]


def work(directory: Path, *, calls: int = 1, **options: Any) -> Path:
    """Let a host work once."""
    directory.parent.mkdir(exist_ok=True)
    with (
        Enforcer.open(directory, **options) as enforcer,
        enforcer.task("work", principal=ALICE, agent=CLERK, scope=Scope("read")),
    ):
        for _ in range(calls):
            with enforcer.action("read"):
                pass
    return directory


def tampered(directory: Path) -> Path:
    """Change a record of a host."""
    path = next((directory / "ledger").glob("*/entries.jsonl"))
    before, after = (b"finance@example.com", b"finance@example.org")
    if before not in path.read_bytes():
        before, after = b'"seq":"2"', b'"seq":"3"'
    path.write_bytes(path.read_bytes().replace(before, after, 1))
    return directory


def unended(directory: Path) -> Path:
    """Cut the log of a host before its last entry, as a copy of a running one has it."""
    copy = directory.with_name(f"{directory.name}-running")
    enforcer = Enforcer.open(directory)
    with enforcer.task("more", principal=ALICE, agent=CLERK, scope=Scope("read")):
        pass
    enforcer._enforcement.ledger.seal()
    shutil.copytree(directory, copy)
    enforcer.close()
    return copy


def trust_of(*directories: Path) -> TrustStore:
    """Return the keys of hosts in one store."""
    return merged_trust(*(TrustStore.load(directory / "trust.json") for directory in directories))


def codes(report: Report) -> set[str]:
    """Return the codes of the findings."""
    return {found.code for found in report.findings}


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Hosts of every kind: sound ones, a changed one, one that runs and its newer copy, and one that is none."""
    root = tmp_path_factory.mktemp("fleet")
    for number in range(3):
        work(root / f"sound-{number}", calls=number)
    tampered(work(root / "changed"))
    unended(work(root / "live"))
    assert main(["bundle", str(root / "sound-0"), "-o", str(root / "sound.zip")]) == 0
    return root


def all_of(root: Path) -> list[Path]:
    """Return all hosts, with one that is not there."""
    return [*sorted(root.iterdir()), root / "gone"]


def test_the_worst_verdict_counts_and_every_host_is_named(worlds: Path) -> None:
    """A host that was changed contradicts the fleet, and each has a report of its own."""
    report = Verifier().fleet(*all_of(worlds))
    assert (report.source, report.verdict, report.exit_code) == ("fleet", "contradicted", 1)
    verdicts = {Path(host.place or "").name: host.verdict for host in report.hosts}
    assert verdicts == {
        "sound-0": "verified",
        "sound-1": "verified",
        "sound-2": "verified",
        "sound.zip": "verified",
        "changed": "contradicted",
        "live": "verified",
        "live-running": "incomplete",
        "gone": "cannot_tell",
    }
    assert report.findings[0].message.startswith(f"{worlds / 'changed'}: ")
    assert report.problems["contradicted"] == sum(host.problems["contradicted"] for host in report.hosts)
    with pytest.raises(VerificationError, match="changed"):
        report.raise_for_status()


def test_each_record_of_a_host_counts_once(worlds: Path) -> None:
    """Of two copies of a log the newer one counts, whatever the older one lacks."""
    hosts = [worlds / "live", worlds / "live-running", worlds / "sound-0", worlds / "sound.zip"]
    report = Verifier().fleet(*hosts)
    alone = [Verifier().ledger(path).counts["records"] for path in (worlds / "live", worlds / "sound-0")]
    assert (report.verdict, report.completeness, report.problems["incomplete"]) == ("verified", "complete", 0)
    assert all(step.status == "passed" for step in report.steps[:7])
    assert (report.counts["hosts"], report.counts["copies"]) == (2, 2)
    assert report.counts["records"] == sum(alone)
    copies = {Path(host.place or "").name for host in report.hosts if host.copy_of is not None}
    assert "live-running" in copies
    assert len(copies & {"sound-0", "sound.zip"}) == 1


def test_an_older_copy_that_was_changed_still_contradicts(worlds: Path, tmp_path: Path) -> None:
    """Only what is missing is forgiven to a copy."""
    copy = tampered(Path(shutil.copytree(worlds / "live-running", tmp_path / "copy")))
    assert Verifier().fleet(copy, worlds / "live").verdict == "contradicted"


def test_a_host_that_cannot_be_read_hides_no_other(worlds: Path, tmp_path: Path) -> None:
    """It is named, and the verdict cannot tell; if nothing at all is there, that is an error."""
    (tmp_path / "broken.zip").write_bytes(b"no bundle")
    for unread in (tmp_path / "gone", tmp_path / "broken.zip"):
        report = Verifier().fleet(worlds / "sound-1", unread)
        assert (report.verdict, report.exit_code) == ("cannot_tell", 2)
        (cannot,) = [host for host in report.hosts if host.verdict == "cannot_tell"]
        assert cannot.place == str(unread)
        assert codes(cannot) == {"unreadable"}
        assert report.counts["records"] == Verifier().ledger(worlds / "sound-1").counts["records"]
        frame = coverage(Evidence(sources=[worlds / "sound-1", unread])).frame
        assert (frame.verdict, frame.exit_code) == ("cannot_tell", 2)
        assert any(str(unread) in note for note in frame.notes)
    with pytest.raises(ConfigurationError, match="no evidence"):
        Verifier().fleet(tmp_path / "gone", tmp_path / "gone too")


def test_the_short_way_takes_several_hosts(worlds: Path) -> None:
    """And raises for the worst of them."""
    assert verify([worlds / "sound-1", worlds / "sound.zip"]).counts["hosts"] == 2
    with pytest.raises(VerificationError) as caught:
        verify((worlds / "sound-1", worlds / "changed"))
    assert caught.value.code == "contradicted"


def as_json(report: Report) -> str:
    """Return all that a report says."""
    return json.dumps(report.to_json(), sort_keys=True)


@pytest.fixture(scope="module")
def truth(worlds: Path) -> Report:
    """The report over all hosts."""
    return Verifier().fleet(*all_of(worlds))


@given(seed=st.integers(0, 2**32), groups=st.integers(1, 8))
def test_any_order_and_any_grouping_of_the_reports_merge_to_the_same(truth: Report, seed: int, groups: int) -> None:
    """The merge is associative and commutative, and to merge a host again changes nothing."""
    drawn = random.Random(seed)  # noqa: S311
    parts: list[list[Report]] = [[] for _ in range(groups)]
    for host in [*truth.hosts, *drawn.sample(truth.hosts, 2)]:
        drawn.choice(parts).append(host)
    for part in parts:
        drawn.shuffle(part)
    while len(parts) > 1:  # A tree of merges, each of two groups that are side by side.
        at = drawn.randrange(len(parts) - 1)
        parts[at : at + 2] = [list(merged(parts[at : at + 2]))]
    assert as_json(fleet_report(parts)) == as_json(truth)


def test_of_two_reports_of_one_place_the_worse_counts(truth: Report) -> None:
    """In whatever order they come."""
    sound = next(host for host in truth.hosts if host.verdict == "verified")
    worse = dataclasses.replace(sound, integrity="cannot_tell")
    assert merged([[sound], [worse]]) == merged([[worse, sound]]) == (worse,)


@pytest.mark.parametrize("seed", range(4))
def test_any_order_of_the_hosts_and_any_number_of_processes_find_the_same(
    worlds: Path, truth: Report, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With hosts side by side in processes, and with one after the other."""
    monkeypatch.setattr(hosts_check, "_ENOUGH", seed % 2 * 1_000)
    hosts = all_of(worlds)
    random.Random(seed).shuffle(hosts)  # noqa: S311
    assert as_json(Verifier(processes=2).fleet(*hosts)) == as_json(truth)


def test_a_report_travels_between_processes(truth: Report) -> None:
    """As it is."""
    assert pickle.loads(pickle.dumps(truth)) == truth  # noqa: S301


def test_progress_reaches_the_end(worlds: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And never goes back, however the hosts are read."""
    for enough in (0, 1_000):
        monkeypatch.setattr(hosts_check, "_ENOUGH", enough)
        told: list[tuple[int, int]] = []
        Verifier(processes=2, progress=lambda done, total: told.append((done, total))).fleet(worlds)  # noqa: B023
        assert told == sorted(told)
        assert told[-1][0] == told[-1][1]


# What hosts say about each other.


@pytest.fixture
def two_enforcers(tmp_path: Path) -> Path:
    """A host whose body opens a task at another host of the same process."""
    task = {"principal": ALICE, "agent": CLERK, "scope": Scope("read")}
    with (
        Enforcer.open(tmp_path / "one") as one,
        Enforcer.open(tmp_path / "two", nested=[ALICE]) as two,
        one.task("outer", **task),
        one.action("read"),
        two.task("inner", **task),
    ):
        pass
    return tmp_path


def test_an_outer_task_at_another_host_is_found_there(two_enforcers: Path) -> None:
    """Alone the host is incomplete; with the other one it is whole, and says where the task was opened."""
    one, two = two_enforcers / "one", two_enforcers / "two"
    assert codes(Verifier().ledger(two)) == {"outer_task_missing"}
    for order in ((one, two), (two, one)):
        report = Verifier().fleet(*order)
        assert (report.verdict, codes(report)) == ("verified", {"found_elsewhere"})
        assert str(one) in report.findings[0].message
        assert coverage(Evidence(sources=order)).frame.verdict == "verified"
    assert Verifier().fleet(two, work(two_enforcers / "third")).verdict == "incomplete"


def test_what_was_changed_answers_nothing(two_enforcers: Path) -> None:
    """A host that is contradicted resolves nothing of another one."""
    tampered(two_enforcers / "one")
    report = Verifier().fleet(two_enforcers)
    assert {Path(host.place or "").name: host.verdict for host in report.hosts} == {
        "one": "contradicted",
        "two": "incomplete",
    }


@pytest.fixture
def handed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host that goes on with a task of another one, and does not record the grants that it got."""
    key = SigningKey.generate()
    with Enforcer.open(tmp_path / "one") as one:
        Enforcer.open(tmp_path / "two").close()
        theirs = TrustStore.load(tmp_path / "one" / "trust.json")
        issuer = next(trusted.key for trusted in theirs.keys if trusted.purpose == "issuer")
        ours = TrustStore.load(tmp_path / "two" / "trust.json").with_key(issuer, "issuer", issuer=theirs.issuer)
        ours.save(tmp_path / "two" / "trust.json")
        monkeypatch.setattr(RecordedGrants, "lacks", lambda *_: False)
        with (
            Enforcer.open(tmp_path / "two") as two,
            one.task("work", principal=ALICE, agent=CLERK, scope=Scope("read")) as task,
        ):
            text = task.export(to=key.public_key, audience="two", scope=Scope("read")).to_text()
            with two.accept(Grants.from_text(text), holder=key, audience="two"), two.action("read"):
                pass
    return tmp_path


def test_a_grant_of_another_host_is_found_there(handed_over: Path) -> None:
    """Alone the chain has a hole, which contradicts; with the host that issued the grants it verifies."""
    one, two = handed_over / "one", handed_over / "two"
    alone = Verifier().ledger(two)
    assert (alone.verdict, codes(alone)) == ("contradicted", {"unknown_grant"})
    report = Verifier().fleet(two, one)
    assert (report.verdict, codes(report)) == ("verified", {"found_elsewhere"})
    assert report.counts["chains_verified"] == sum(host.counts["chains_verified"] for host in report.hosts)
    assert report.counts["chains_not_checked"] == 0
    frame = coverage(Evidence(sources=[two, one])).frame
    assert frame.verdict == "verified"
    assert all(source.proved for source in frame.sources)
    assert Verifier().fleet(two, work(handed_over / "third")).verdict == "contradicted"


def test_a_host_that_signs_for_the_log_of_another_is_contradicted(tmp_path: Path) -> None:
    """Under the keys of all, the one that signs; under the keys beside them, both, since nothing says whose it is."""
    one, two = work(tmp_path / "one"), tmp_path / "two"
    assert main(["init", str(two)]) == 0
    kept = trust_of(one, two)
    stolen = TrustStore.load(one / "trust.json").origin
    own = TrustStore.load(two / "trust.json")
    dataclasses.replace(own, origin=stolen).save(two / "trust.json")
    work(two)
    assert Verifier().ledger(two).verdict == "verified"
    known = Verifier(kept).fleet(one, two)
    assert {Path(host.place or "").name: host.verdict for host in known.hosts} == {
        "one": "verified",
        "two": "contradicted",
    }
    assert "wrong_origin" in codes(known)
    for report in (Verifier().fleet(one, two), Verifier().fleet(two, one)):
        assert [host.verdict for host in report.hosts] == ["contradicted", "contradicted"]
        assert codes(report) == {"wrong_origin"}


# The command line.


def test_the_command_takes_folders_directories_and_bundles(worlds: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And prints the hosts, the worst first; the exit code is that of the worst."""
    assert main(["verify", str(worlds)]) == 1
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith("NOT VERIFIED: contradicted  5 hosts, ")
    first = out.index(next(line for line in out if "VERDICT" in line)) + 1
    verdicts = [line.split()[0] for line in out[first : first + 6]]
    assert (verdicts[0], sorted(verdicts[1:])) == ("contradicted", ["incomplete", *["verified"] * 4])
    assert main(["verify", str(worlds / "sound-1"), str(worlds / "sound.zip"), str(worlds / "gone"), "--json"]) == 2
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert (found["source"], found["verdict"], found["exit_code"]) == ("fleet", "cannot_tell", 2)
    assert [host["verdict"] for host in found["hosts"]] == ["cannot_tell", "verified", "verified"]
    assert {"place", "copy_of", "counts", "findings"} <= found["hosts"][0].keys()


@pytest.mark.parametrize("option", ["--checkpoint", "--archive", "--ledger", "--redacted", "--disclosures"])
def test_what_belongs_to_one_host_is_refused(worlds: Path, option: str, capsys: pytest.CaptureFixture[str]) -> None:
    """With the way out."""
    assert main(["verify", str(worlds), option, str(worlds / "sound-0" / "log" / "checkpoint")]) == 2
    assert "by itself" in capsys.readouterr().err


def test_a_period_is_judged_for_each_host(worlds: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And the fleet has none."""
    times = ["--from", "2026-01-01", "--until", "2100-01-01"]
    main(["verify", str(worlds / "sound-1"), str(worlds / "sound-2"), *times, "--json"])
    found = json.loads(capsys.readouterr().out)
    assert "period" not in found
    assert [host["period"]["state"] for host in found["hosts"]] == ["recorded", "recorded"]
    main(["verify", str(worlds / "sound-1"), str(worlds / "sound-2"), *times])
    assert capsys.readouterr().out.count("in the period recorded: ") == 2
    with pytest.raises(ConfigurationError, match="ends before"):
        Verifier().fleet(worlds, period=(2, 1))


# Traces of a fleet with the ledgers of its hosts.


@pytest.fixture
def traced(tmp_path: Path) -> Path:
    """Two hosts, and the spans of both in one file, as a collector has them."""
    text = io.StringIO()
    provider = TracerProvider()
    exporter = pytest.importorskip("opentelemetry.exporter.otlp.json.file").FileSpanExporter(stream=text)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    for name in ("one", "two"):
        work(tmp_path / "hosts" / name, calls=2, telemetry=Telemetry(tracer_provider=provider))
    (tmp_path / "spans.jsonl").write_text(text.getvalue())
    return tmp_path


def test_the_traces_of_a_fleet_are_complete_with_all_its_ledgers(traced: Path) -> None:
    """In any order, from a folder, or with an older copy beside them; with one ledger of two they are not."""
    one, two, spans = traced / "hosts" / "one", traced / "hosts" / "two", traced / "spans.jsonl"
    verifier = Verifier(trust_of(one, two))
    older = Path(shutil.copytree(one, traced / "older"))
    for ledgers in ((one, two), (two, one), traced / "hosts", (older, one, two)):
        report = verifier.traces(spans, ledger=ledgers)
        assert (report.verdict, report.completeness) == ("verified", "complete")
        assert report.counts["proved_by_ledger"] == report.counts["records"] == 6
        assert report.complete_until is not None
    alone = verifier.traces(spans, ledger=one)
    assert (alone.verdict, codes(alone)) == ("incomplete", {"other_ledger"})


def test_a_span_that_one_host_misses_is_named(traced: Path) -> None:
    """By the record that no span has."""
    lines = (traced / "spans.jsonl").read_text().splitlines(keepends=True)
    (traced / "spans.jsonl").write_text("".join(lines[1:]))
    one, two = traced / "hosts" / "one", traced / "hosts" / "two"
    report = Verifier(trust_of(one, two)).traces(traced / "spans.jsonl", ledger=[one, two])
    assert (report.verdict, codes(report), report.counts["spans_missing"]) == ("incomplete", {"span_missing"}, 1)


def test_a_ledger_that_was_changed_or_is_gone_proves_nothing_and_spoils_no_other(traced: Path) -> None:
    """It is named; the spans of the other host are proved by its ledger all the same."""
    one, two, spans = traced / "hosts" / "one", traced / "hosts" / "two", traced / "spans.jsonl"
    verifier = Verifier(trust_of(one, two))
    gone = verifier.traces(spans, ledger=[one, traced / "gone"])
    assert (gone.verdict, gone.counts["proved_by_ledger"]) == ("cannot_tell", 3)
    assert str(traced / "gone") in gone.findings[0].message
    tampered(two)
    report = verifier.traces(spans, ledger=[one, two])
    assert (report.verdict, report.counts["proved_by_ledger"]) == ("contradicted", 3)
    assert any(f"the ledger {two} does not verify" in found.message for found in report.findings)


def test_the_command_takes_several_ledgers(traced: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One option for each."""
    one, two = traced / "hosts" / "one", traced / "hosts" / "two"
    trust_of(one, two).save(traced / "fleet.json")
    ledgers = ["--ledger", str(one), "--ledger", str(two), "--trust", str(traced / "fleet.json")]
    assert main(["verify", str(traced / "spans.jsonl"), *ledgers]) == 0
    assert "6 of 6 records are in the ledgers as well" in capsys.readouterr().out
    assert main(["verify", "--ledger", str(traced / "gone"), str(traced / "spans.jsonl"), *ledgers[4:]]) == 2
    assert "is not an evidence directory" in capsys.readouterr().err


def test_a_report_over_many_hosts_names_the_worst_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """However many hosts verify before it in the order of their names."""
    for number in range(22):
        with Enforcer.open(tmp_path / f"host-{number:02d}"):
            pass
    tampered(tmp_path / "host-21")
    assert main(["report", "coverage", str(tmp_path)]) == 1
    out = capsys.readouterr().out
    assert out.index("host-21  NOT VERIFIED: contradicted") < out.index("host-00  VERIFIED")
    assert "… and 2 more sources; --json lists all" in out
