"""``agent-identity disclose make`` and ``disclose check``: an auditor sees one argument, and that it is what ran."""

import io
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from agent_identity import Agent, Enforcer, Human, Report, Scope, Verifier
from agent_identity._identity.common.record_bytes import encode_record
from agent_identity._record.codec import decode
from agent_identity._record.disclosures import Disclosure
from agent_identity._verify.grants.disclosed_arguments import Disclosures
from agent_identity._verify.grants.grant_usage import GrantUsage
from agent_identity._verify.proofs.disclosure_check import Shown
from agent_identity._verify.report.findings import Findings, Place
from agent_identity.audit import disclose, prove
from agent_identity.constraints import IfGiven, OneOf, Range, Wildcard
from agent_identity.errors import ConfigurationError, Denied, VerificationError
from agent_identity.identity import SigningKey, TrustedKey, TrustStore
from agent_identity.options import DigestKeys, Privacy, Sources, Telemetry
from agent_identity.records import Outcome
from agent_identity.testing import FixedClock, SequentialIds

FileSpanExporter = pytest.importorskip("opentelemetry.exporter.otlp.json.file").FileSpanExporter
Run = Callable[..., Any]
ARGUMENTS = {"amount": 20, "note": "für Bob", "to": "bob"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Calls with arguments that can be shown one at a time, one that was refused, one without, and their spans."""
    folder, text = tmp_path_factory.mktemp("made"), io.StringIO()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(FileSpanExporter(stream=text)))
    telemetry, privacy = Telemetry(tracer_provider=provider), Privacy(disclosable=True)
    with Enforcer.open(
        folder / "evidence",
        sources=Sources(clock=FixedClock(), ids=SequentialIds()),
        telemetry=telemetry,
        privacy=privacy,
    ) as enforcer:

        @enforcer.tool
        def pay(amount: int, to: str, note: str = "für Bob") -> None:
            pass

        @enforcer.tool
        def look(where: object = None) -> None:
            pass

        @enforcer.tool
        def ping() -> None:
            pass

        scope = Scope("pay", amount=Range(max=50), to=OneOf("bob", "carol")) | Scope("look") | Scope("ping")
        with enforcer.task("p", principal=Human("alice"), agent=Agent("clerk", owner="o"), scope=scope):
            pay(20, "bob")
            pay(30, "carol")
            look("here")
            ping()
            with pytest.raises(Denied):
                pay(99, "bob")
        with pytest.raises(Denied):
            look("there")
    (folder / "spans.jsonl").write_text(text.getvalue())
    shutil.copy(folder / "evidence" / "trust.json", folder / "kept.json")
    return folder


@pytest.fixture
def world(made: Path, tmp_path: Path) -> Path:
    """Return a copy."""
    return Path(shutil.copytree(made, tmp_path / "world"))


def records(folder: Path, kind: str) -> list[dict[str, Any]]:
    """Return the records of a kind."""
    lines = [
        line
        for file in sorted(folder.glob("evidence/ledger/*/entries.jsonl"))
        for line in file.read_bytes().splitlines()
    ]
    return [record for line in lines if (record := orjson.loads(line)["record"])["kind"] == kind]


def ledger(folder: Path) -> dict[str, Path]:
    """Return where the record is: in the ledger."""
    return {"ledger": folder / "evidence"}


def test_one_argument_is_shown(run: Run, world: Path) -> None:
    """The auditor sees it with who did it for whom, with the ledger, a proof or the span; no other value is there."""
    (world / "args.json").write_text(json.dumps(ARGUMENTS))
    outcome = records(world, "outcome")[0]["id"]
    file = world / "d.json"
    done = run(
        "disclose",
        "make",
        world / "evidence",
        outcome,
        "--argument",
        "amount",
        "--from",
        world / "args.json",
        "-o",
        file,
    )
    assert (done.code, done.out) == (0, "")
    assert "check it with: agent-identity disclose check" in done.err
    assert not any(word in file.read_text() for word in ("bob", "Bob"))
    assert run("proof", "make", world / "evidence", outcome, "-o", world / "p").code == 0
    for where in (("--ledger", world / "evidence"), ("--record", world / "p"), ("--span", world / "spans.jsonl")):
        done = run("disclose", "check", file, "--trust", world / "kept.json", *where)
        assert done.code == 0
        assert done.out.startswith("VERIFIED\n")
        for text in ("amount = 20", "alice", "clerk", "pay", "and 2 not shown"):
            assert text in done.out
        assert done.out.count("✓") == 3
    told = json.loads(
        run("disclose", "check", file, "--trust", world / "kept.json", "--record", world / "p", "--json").out
    )
    assert (told["verdict"], told["arguments"], told["hidden"]) == ("verified", {"amount": 20}, 2)
    before = file.read_bytes()
    assert (
        run("disclose", "make", world / "evidence", outcome, "--all", "--from", world / "args.json", "-o", file).code
        == 2
    )
    assert file.read_bytes() == before


def test_all_arguments_are_shown(run: Run, world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From standard input, by stream and place; nothing is hidden then."""
    record = records(world, "intent")[0]["stream"]
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(ARGUMENTS)))
    done = run("disclose", "make", world / "evidence", f"{record['id']}/{record['seq']}", "--all", "--from", "-")
    assert (done.code, done.err) == (0, "")
    (world / "d.json").write_text(done.out)
    done = run("disclose", "check", world / "d.json", "--trust", world / "kept.json", "--ledger", world / "evidence")
    assert done.code == 0
    assert 'note = "für Bob"' in done.out
    assert "not shown" not in done.out


def test_a_call_with_one_argument_needs_its_value_only(run: Run, world: Path) -> None:
    """The value stands on the command line; it also works for calls outside any task."""
    for index in (2, 5):
        value = ('"here"', "", "", '"there"')[index - 2]
        outcome = records(world, "outcome")[index]["id"]
        done = run("disclose", "make", world / "evidence", outcome, "--argument", "where", "--value", value)
        assert (done.code, done.err) == (0, "")
        shown = Verifier(world / "kept.json").disclosure(done.out.encode(), **ledger(world))
        assert (shown.exit_code, shown.arguments) == (0, {"where": json.loads(value)})


def test_other_values_are_not_written_down(run: Run, world: Path) -> None:
    """What did not run makes no file: exit code 1; what cannot be shown: exit code 2. No value is in the message."""
    first, ping = records(world, "outcome")[0]["id"], records(world, "outcome")[3]["id"]
    (world / "wrong.json").write_text(json.dumps({**ARGUMENTS, "amount": 4711}))
    cases = [
        (first, ("--argument", "amount", "--from", world / "wrong.json"), 1, "other_arguments"),
        (first, ("--argument", "amount", "--value", "4711"), 1, "other_arguments"),
        (first, ("--argument", "secret", "--value", "4711"), 1, "other_arguments"),
        (records(world, "intent")[0]["id"], ("--argument", "secret", "--value", "4711"), 1, "unknown_argument"),
        (ping, ("--argument", "x", "--value", "4711"), 2, "no_arguments"),
        (records(world, "task_start")[0]["id"], ("--argument", "x", "--value", "1"), 2, "no_arguments"),
        (first, ("--argument", "x", "--value", "4711x"), 2, "JSON"),
        (first, ("--all", "--value", "1"), 2, "exactly one --argument"),
        (first, ("--argument", "a", "--argument", "b", "--value", "1"), 2, "exactly one --argument"),
        ("unknown", ("--argument", "x", "--value", "1"), 2, "no record with this id"),
    ]
    for record, words, code, text in cases:
        done = run("disclose", "make", world / "evidence", record, *words)
        assert (done.code, done.out) == (code, "")
        assert text in done.err
        assert "4711" not in done.err
    (world / "list.json").write_text("[1]")
    done = run("disclose", "make", world / "evidence", first, "--all", "--from", world / "list.json")
    assert (done.code, "a JSON object" in done.err) == (2, True)


def judge(source: Path, disclosures: Sequence[bytes]) -> Report:
    """Verify a ledger or a file of spans, with disclosures."""
    verifier = Verifier(source.parent / "kept.json")
    return (verifier.ledger if source.is_dir() else verifier.traces)(source, disclosures=disclosures)


def shown_of(world: Path, *names: str, index: int = 0) -> bytes:
    """Return the disclosure of arguments of a call."""
    return disclose(world / "evidence", records(world, "outcome")[index]["id"], ARGUMENTS, names=names or None)


def test_a_wrong_disclosure_is_contradicted(run: Run, world: Path) -> None:
    """Wrong value, argument, record or form: each has its code, exit code 1, and shows nothing as proved."""
    good = shown_of(world, "amount")
    other = records(world, "outcome")[1]["id"].encode()
    cases = {
        "other_arguments": [
            good.replace(b'"value":20', b'"value":21'),
            good.replace(b'"amount"', b'"amounts"'),
            good.replace(records(world, "outcome")[0]["id"].encode(), other),
        ],
        "bad_disclosure": [good[:-3], good.replace(b'"v":"1"', b'"v":"2"')],
    }
    for code, files in cases.items():
        for data in files:
            assert data != good
            (world / "d.json").write_bytes(data)
            done = run(
                "disclose", "check", world / "d.json", "--trust", world / "kept.json", "--ledger", world / "evidence"
            )
            assert done.code == 1
            assert done.out.startswith("NOT VERIFIED: contradicted")
            assert code in done.out
            assert " = 2" not in done.out
    assert run("proof", "make", world / "evidence", other.decode(), "-o", world / "p").code == 0
    (world / "d.json").write_bytes(good)
    done = run("disclose", "check", world / "d.json", "--trust", world / "kept.json", "--record", world / "p")
    assert (done.code, "other_record" in done.out) == (1, True)


def test_what_is_not_proved_shows_nothing(world: Path, tmp_path: Path) -> None:
    """Without the key, the record, its seal or its span nobody can tell; a forged span is contradicted."""
    good, kept = shown_of(world, "amount"), world / "kept.json"
    stranger = SigningKey.from_seed(b"x" * 32).public_key
    names = TrustStore.load(kept)
    TrustStore((TrustedKey(key=stranger, purpose="recorder"),), issuer=names.issuer, origin=names.origin).save(
        tmp_path / "other.json"
    )
    (tmp_path / "none.jsonl").write_text("no span\n")
    spans = (world / "spans.jsonl").read_text()
    (tmp_path / "forged.jsonl").write_text(spans.replace('"signature","value":{"stringValue":"', '"x","value":{"y":"'))
    signature = json.dumps("agent_identity.attestation.signature") + ',"value":{"stringValue":"'
    assert signature in spans.replace(" ", "")
    forged = spans.replace(" ", "").split(signature)
    changed = signature.join([forged[0], *("0" * 8 + part[8:] for part in forged[1:])])
    (tmp_path / "forged.jsonl").write_text(changed)
    cases: list[tuple[Any, dict[str, Any], int, str]] = [
        (None, ledger(world), 2, "no_trust"),
        (tmp_path / "other.json", ledger(world), 2, "unknown_key"),
        (tmp_path / "other.json", {"spans": world / "spans.jsonl"}, 2, "record_not_proved"),
        (kept, {"spans": tmp_path / "none.jsonl"}, 2, "record_not_proved"),
        (kept, {"spans": tmp_path / "forged.jsonl"}, 1, "bad_signature"),
        (kept, {"proof": b"no proof"}, 1, "bad_proof"),
    ]
    for trust, where, code, found in cases:
        shown = Verifier(trust).disclosure(good, **where)
        assert (shown.exit_code, shown.record, dict(shown.arguments)) == (code, None, {})
        assert [problem.code for problem in shown.report.findings] == [found]
    (world / "evidence" / "log" / "checkpoint").unlink()
    shown = Verifier(kept).disclosure(good, **ledger(world))
    assert (shown.exit_code, shown.report.findings[0].code) == (2, "record_not_proved")
    for where in ({}, {"proof": b"", "spans": "x"}, {"ledger": "x", "spans": "x"}, {"ledger": "x", "proof": b""}):
        with pytest.raises(ConfigurationError) as caught:
            Verifier(kept).disclosure(good, **where)
        assert f"{len(where)} sources of the record" in str(caught.value)


def words(shown: Shown) -> tuple[list[tuple[str, str | None]], list[tuple[str, str]]]:
    """Return what was found in words, with the records, and how the steps ended."""
    report = shown.report
    return (
        [(problem.message, problem.record) for problem in report.findings],
        [(step.status, step.detail) for step in report.steps],
    )


def test_each_step_of_a_disclosure_says_what_it_covered(world: Path) -> None:
    """How many arguments are shown, which record is proved, of what call; and what is missing, at its step."""
    good, kept = shown_of(world, "amount"), world / "kept.json"
    wanted, other = (records(world, "outcome")[index]["id"] for index in (0, 1))
    open_, file = ("not_checked", ""), ("passed", "1 argument shown, 2 not")
    proved, call = ("passed", f"record {wanted}"), ("passed", "of the call of 'pay'")
    shown = Verifier(kept).disclosure(good, **ledger(world))
    assert words(shown) == ([], [file, proved, call])
    assert (shown.hidden, shown.report.trust, shown.report.source) == (2, "given", "disclosure")
    assert [step.name for step in shown.report.steps] == [
        "the file is a disclosure",
        "the record that it names is proved",
        "the arguments are those that the record commits to",
    ]
    assert shown.to_json() == {
        "record": records(world, "outcome")[0],
        "arguments": {"amount": 20},
        "hidden": 2,
        **shown.report.to_json(),
    }
    whole = Verifier(kept).disclosure(shown_of(world), spans=world / "spans.jsonl")
    assert words(whole) == ([], [("passed", "3 arguments shown, 0 not"), proved, call])
    cases: list[tuple[bytes, Any, dict[str, Any], list[tuple[str, str | None]], list[tuple[str, str]]]] = [
        (
            good.replace(b'"value":20', b'"value":21'),
            kept,
            ledger(world),
            [("the arguments are not those that ran, which the record commits to", wanted)],
            [file, proved, ("failed", "")],
        ),
        (
            b"{}",
            kept,
            ledger(world),
            [("malformed disclosure: a part is not an object with disclosure, v", None)],
            [("failed", ""), open_, open_],
        ),
        (
            good,
            None,
            ledger(world),
            [("there are no trusted keys; pass the trust file of the recorder", None)],
            [file, open_, open_],
        ),
        (
            good,
            kept,
            {"proof": prove(world / "evidence", other)},
            [("the proof is of another record; ask for the right one", other)],
            [file, ("failed", ""), open_],
        ),
        (
            good.replace(wanted.encode(), b"another"),
            kept,
            {"spans": world / "spans.jsonl"},
            [
                (
                    ("no span carries the record that the disclosure names; spans carry outcomes, not intents"),
                    "another",
                )
            ],
            [file, open_, open_],
        ),
    ]
    for data, trust, where, found, ends in cases:
        shown = Verifier(trust).disclosure(data, **where)
        assert words(shown) == (found, ends)
        assert (dict(shown.arguments), shown.hidden) == ({}, 0 if data == b"{}" else 2)
    problem = Verifier(kept).disclosure(good, proof=prove(world / "evidence", other)).report.findings[0]
    stream = records(world, "outcome")[1]["stream"]
    assert (problem.stream, str(problem.seq), problem.line) == (stream["id"], stream["seq"], None)
    assert Verifier(None).disclosure(good, **ledger(world)).report.trust == "none"


def test_one_sound_span_is_enough(world: Path) -> None:
    """Garbage, unsigned spans, forged ones that claim the record, and others stand before it and change nothing."""
    good, kept = shown_of(world, "amount"), world / "kept.json"
    spans = (world / "spans.jsonl").read_text()
    unsigned = spans.replace("agent_identity.attestation.payload", "another")
    stranger = spans.replace("agent_identity.record.id", "another").replace('"amount', '"Amount')
    name = json.dumps("agent_identity.attestation.signature") + ',"value":{"stringValue":"'
    forged = spans.replace(" ", "").replace(name, name + "0")
    assert forged != spans
    for before in ("garbage\n", unsigned, stranger, forged):
        (world / "all.jsonl").write_text(before + spans)
        assert Verifier(kept).disclosure(good, spans=world / "all.jsonl").exit_code == 0
    (world / "all.jsonl").write_text(forged + unsigned)
    shown = Verifier(kept).disclosure(good, spans=world / "all.jsonl")
    assert (shown.exit_code, shown.record) == (1, None)
    assert "spans carry" not in shown.report.findings[0].message
    gone = good.replace(records(world, "outcome")[0]["id"].encode(), b"another")
    assert Verifier(kept).disclosure(gone, spans=world / "all.jsonl").exit_code == 2


def test_an_intent_is_on_no_span(world: Path) -> None:
    """Spans carry outcomes; that is said."""
    data = disclose(world / "evidence", records(world, "intent")[0]["id"], ARGUMENTS)
    shown = Verifier(world / "kept.json").disclosure(data, spans=world / "spans.jsonl")
    assert "spans carry outcomes" in shown.report.findings[0].message


def test_a_growth_proof_proves_no_record(world: Path) -> None:
    """A proof file of the other kind is refused, not taken for one of a record."""
    note = (world / "evidence" / "log" / "checkpoint").read_bytes()
    with pytest.raises(ConfigurationError, match="proof of a record only"):
        Verifier(world / "kept.json").disclosure(shown_of(world, "amount"), proof=b"old 1\n\n" + note)


@pytest.mark.parametrize("source", ["evidence", "spans.jsonl"])
def test_disclosed_arguments_are_held_against_the_grants(run: Run, world: Path, source: str) -> None:
    """``verify --disclosures`` says how many calls are within their grants; the others stay unchecked."""
    (world / "1.json").write_bytes(shown_of(world, "amount", "note"))
    (world / "2.json").write_bytes(shown_of(world, "to"))
    words = ("verify", world / source, "--trust", world / "kept.json", "--disclosures", world / "1.json", "--json")
    done = run(*words)
    assert (done.code, json.loads(done.out)["counts"]["arguments_within_grants"]) == (0, 0)  # One is still hidden.
    report = json.loads(run(*words, "--disclosures", world / "2.json").out)
    assert (report["verdict"], report["counts"]["arguments_within_grants"]) == ("verified", 1)
    step = report["steps"][-1]
    assert (step["name"], step["status"]) == ("arguments within the grants", "not_checked")
    assert step["detail"].startswith("1 disclosed call within the grants; of the others ")
    refused = {**ARGUMENTS, "amount": 99}
    outside = records(world, "outcome")[4]["id"]
    nobody = records(world, "outcome")[5]["id"]
    files = [
        disclose(world / "evidence", outside, refused),
        disclose(world / "evidence", nobody, {"where": "there"}),
    ]
    report = judge(world / source, files)
    assert (report.verdict, report.counts["arguments_within_grants"]) == ("verified", 0)


@pytest.mark.parametrize(
    ("given", "judged"), [({"path": "a"}, 0), ({"path": "a", "lines": 9}, 1), ({"path": "a", "more": 5}, 0)]
)
def test_no_value_of_an_optional_argument_is_an_accusation(
    tmp_path: Path, given: dict[str, object], judged: int
) -> None:
    """What the tool takes by itself is not what the caller gave, and no record tells the two apart."""
    with Enforcer.open(tmp_path / "evidence", privacy=Privacy(disclosable=True)) as enforcer:

        @enforcer.tool
        def head(path: str, lines: int = 100, **more: object) -> None:
            pass

        scope = Scope({"head": {"path": "a", "lines": IfGiven(Range(max=9)), "*": Wildcard()}})
        with enforcer.task("p", principal=Human("alice"), agent=Agent("clerk", owner="o"), scope=scope):
            head(**given)
    (outcome,) = (record["id"] for record in records(tmp_path, "outcome"))
    directory = tmp_path / "evidence"
    shown = disclose(directory, outcome, {"lines": 100} | given)
    report = Verifier(directory / "trust.json").ledger(directory, disclosures=[shown])
    assert report.findings == ()
    assert report.counts["arguments_within_grants"] == judged


@pytest.mark.parametrize("source", ["evidence", "spans.jsonl"])
def test_disclosures_that_do_not_fit_contradict(world: Path, source: str) -> None:
    """Other arguments and malformed files fail the step; those of a record that is not there leave it open."""
    good = shown_of(world)
    gone = good.replace(records(world, "outcome")[0]["id"].encode(), b"another")
    cases = [
        (good.replace(b'"value":20', b'"value":30'), "contradicted", "other_arguments"),
        (b"{}", "contradicted", "bad_disclosure"),
        (gone, "cannot_tell", "disclosed_record_missing"),
    ]
    for data, verdict, code in cases:
        report = judge(world / source, [data])
        assert report.verdict == verdict
        assert code in [problem.code for problem in report.findings]
        assert report.steps[-1].status == ("failed" if verdict == "contradicted" else "not_checked")
    report = judge(world / source, [cases[2][0], b"{}", good, cases[0][0]])
    first = records(world, "outcome")[0]
    told = {problem.code: (problem.message, problem.record, problem.stream) for problem in report.findings}
    assert told["other_arguments"][:2] == (
        "the arguments are not those that ran, which the record commits to",
        first["id"],
    )
    assert told["bad_disclosure"] == ("malformed disclosure: a part is not an object with disclosure, v", None, None)
    assert told["disclosed_record_missing"] == (
        "the record that a disclosure names is not in the verified evidence",
        "another",
        None,
    )
    # What is wrong beside it does not undo what another file shows of the same call.
    assert report.counts["arguments_within_grants"] == 1


def test_a_call_outside_its_grant_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An enforcer that let a call through against the grant is found out once the arguments are shown."""
    monkeypatch.setattr(Scope, "check", lambda *_: None)
    with Enforcer.open(tmp_path / "evidence", privacy=Privacy(disclosable=True)) as enforcer:

        @enforcer.tool
        def pay(**arguments: object) -> None:
            pass

        scope = Scope("pay", amount=Range(max=50))
        with enforcer.task("p", principal=Human("alice"), agent=Agent("clerk", owner="o"), scope=scope):
            pay(amount=51)
            pay(other=1)
    first, second = (record["id"] for record in records(tmp_path, "intent"))  # Which list the names.
    directory = tmp_path / "evidence"
    files = [disclose(directory, first, {"amount": 51}), disclose(directory, second, {"other": 1})]
    report = Verifier(directory / "trust.json").ledger(directory, disclosures=files)
    assert report.verdict == "contradicted"
    assert [(p.code, p.record) for p in report.findings] == [
        ("argument_outside_grant", first),
        ("argument_outside_grant", second),
    ]
    assert not any("51" in problem.message for problem in report.findings)
    assert [problem.message for problem in report.findings] == [
        "the value of 'amount' of an allowed call is outside the grant",
        "the call does not have the argument 'amount' that the grant constrains",
    ]
    assert report.steps[-1].status == "failed"


def test_a_disclosure_waits_for_the_grant_of_its_record(world: Path) -> None:
    """Its chain is judged after all is read; the leaf of it is wanted from the record on."""
    outcome = records(world, "outcome")[0]
    findings = Findings("ledger", ("step",))
    leaf = outcome["chain"][-1]["grant"]
    wanted = dict[str, Any]()
    grants: Any = SimpleNamespace(want=wanted.setdefault, leaf=wanted.get)
    held = Disclosures([shown_of(world, "amount", "to"), shown_of(world, "note")], findings, 1, grants)
    assert held.want(outcome["id"])
    assert not held.want("another")
    place = Place(outcome["id"], "s", 1)
    record = decode(encode_record(outcome))
    assert isinstance(record, Outcome)
    held.take(record, GrantUsage(record, place), place)
    assert wanted == {leaf: None}
    assert not held.want(outcome["id"])
    grant = Scope("pay", amount=Range(max=50), note=OneOf("für Bob"), to=OneOf("carol"))
    wanted[leaf] = SimpleNamespace(scope=grant, limits=())
    held.settle("the rest is secret")
    report = findings.report()
    assert [(problem.message, problem.seq) for problem in report.findings] == [
        ("the value of 'to' of an allowed call is outside the grant", 1)
    ]
    assert report.steps[0].detail == "0 disclosed calls within the grants; of the others the rest is secret"
    assert findings.counts["arguments_within_grants"] == 0


def test_one_digest_of_all_needs_the_key_of_the_task(run: Run, evidence: Path, trust: Path) -> None:
    """The golden evidence has one digest of all arguments: shown whole, with the key of its task, if that is asked."""
    golden = json.loads((Path(__file__).parents[3] / "vectors" / "disclosures.json").read_text())[3]
    keys = evidence / "keys"
    keys.mkdir(exist_ok=True)
    (keys / "digests.jsonl").write_text(
        json.dumps({"id": golden["key_id"], "key": golden["key"]}, separators=(",", ":")) + "\n"
    )
    (evidence.parent / "args.json").write_text(json.dumps(golden["arguments"]))
    words = ("disclose", "make", evidence, golden["record"], "--all", "--from", evidence.parent / "args.json")
    done = run(*words)
    assert (done.code, done.out) == (2, "")
    assert "not_disclosable" in done.err
    done = run(*words, "--with-task-key")
    assert done.code == 0
    assert golden["key"] in done.out
    shown = Verifier(trust).disclosure(done.out.encode(), ledger=evidence)
    assert (shown.exit_code, dict(shown.arguments)) == (0, golden["arguments"])
    report = Verifier(trust).ledger(evidence, disclosures=[done.out.encode()])
    assert report.counts["arguments_within_grants"] == 1


def test_what_cannot_be_shown_is_told_before_a_key_is_needed(world: Path, evidence: Path, tmp_path: Path) -> None:
    """A record without arguments says so also where the keys are gone; opaque ones alone are shown as none."""
    (world / "evidence" / "keys" / "digests.jsonl").unlink()
    ping = records(world, "outcome")[3]["id"]
    with pytest.raises(VerificationError) as caught:
        disclose(world / "evidence", ping, {})
    assert (caught.value.code, str(caught.value)) == (
        "no_arguments",
        "the record is not of a call with arguments",
    )
    golden = json.loads((Path(__file__).parents[3] / "vectors" / "disclosures.json").read_text())[3]
    with pytest.raises(VerificationError) as caught:
        disclose(evidence, golden["record"], golden["arguments"])
    assert (caught.value.code, str(caught.value)) == (
        "not_disclosable",
        (
            "the record was made without Privacy(disclosable=True), so its arguments can be shown only with "
            "the key of their task, which opens all digests of the task to guessing; --with-task-key "
            "does that"
        ),
    )
    with Enforcer.open(tmp_path / "opaque", privacy=Privacy(disclosable=True)) as enforcer:

        @enforcer.tool
        def use(connection: object) -> None:
            pass

        with enforcer.task("p", principal=Human("alice"), agent=Agent("clerk", owner="o"), scope=Scope("use")):
            use(object())
    outcome = next(
        record
        for file in (tmp_path / "opaque").glob("ledger/*/entries.jsonl")
        for line in file.read_bytes().splitlines()
        if (record := orjson.loads(line)["record"])["kind"] == "outcome"
    )
    data = disclose(tmp_path / "opaque", outcome["id"], {})
    shown = Verifier(tmp_path / "opaque" / "trust.json").disclosure(data, ledger=tmp_path / "opaque")
    assert (shown.exit_code, dict(shown.arguments), shown.hidden) == (0, {}, 0)


def test_without_the_key_nothing_can_be_shown(run: Run, world: Path) -> None:
    """A directory without the key, and one where it was erased, say which; what was shown before stays shown."""
    outcome = records(world, "outcome")[0]
    data = shown_of(world, "amount")
    (world / "args.json").write_text(json.dumps(ARGUMENTS))
    words = ("disclose", "make", world / "evidence", outcome["id"], "--all", "--from", world / "args.json")
    path = world / "evidence" / "keys" / "digests.jsonl"
    DigestKeys(path).erase([outcome["task"]["id"]])
    done = run(*words)
    assert (done.code, done.out) == (2, "")
    assert "erased: " in done.err
    assert "cannot be proved any more" in done.err
    path.unlink()
    done = run(*words)
    assert (done.code, "no_digest_key" in done.err) == (2, True)
    assert Verifier(world / "kept.json").disclosure(data, **ledger(world)).exit_code == 0
    assert Disclosure.from_bytes(data).hidden == 2


def test_a_changed_line_is_no_record_to_show(run: Run, world: Path) -> None:
    """What is malformed in the ledger is not disclosed."""
    outcome = records(world, "outcome")[0]["id"]
    for path in (world / "evidence").glob("ledger/*/entries.jsonl"):
        path.write_bytes(path.read_bytes().replace(b'"kind":"outcome"', b'"kind":"unknown"'))
    done = run("disclose", "make", world / "evidence", outcome, "--argument", "amount", "--value", "1")
    assert (done.code, "malformed_record" in done.err) == (1, True)
