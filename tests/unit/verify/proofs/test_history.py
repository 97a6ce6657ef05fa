"""One small history: every reader says the same of it."""

import copy
import io
import json
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from agent_identity import Agent, Enforcer, Human, Scope, Verifier, records
from agent_identity._directory.export._otlp_encoding import as_bytes, encode_request
from agent_identity._directory.export.export_queue import StreamCopies, count_spans
from agent_identity._ledger import segments as segments_module
from agent_identity._ledger.archiving import prune
from agent_identity._ledger.follow import StreamTail
from agent_identity._ledger.reader import open_ledger
from agent_identity._record.codec import decode
from agent_identity._record.pseudonyms import Pseudonyms
from agent_identity._reports.export.interop import FORMS
from agent_identity._storage.layout import Layout
from agent_identity._storage.mac import load_ledger_key
from agent_identity._storage.os_files import Files
from agent_identity._verify.proofs.proving import find_record
from agent_identity.audit import disclose, export, prove, story
from agent_identity.cli import main
from agent_identity.constraints import OneOf, Range
from agent_identity.errors import ConfigurationError, Denied, VerificationError
from agent_identity.identity import RandomIds, SigningKey, TrustStore
from agent_identity.options import Durability, Ledger, Privacy, Segments, Sources, Telemetry
from agent_identity.records import encode
from agent_identity.testing import FixedClock, Records, SequentialIds

FileSpanExporter = pytest.importorskip("opentelemetry.exporter.otlp.json.file").FileSpanExporter

ALICE = Human("alice@example.com", roles=("clerk", "approver"))
CLERK, READER = Agent("clerk", owner="finance@example.com", version="2"), Agent("reader", owner="it@example.com")
POLICY = """
version = "3"
name = "invoices"
default = "allow"

[[rules]]
id = "large"
effect = "block"
reason = "too much"
tools = ["pay"]
when = "args.amount > 40"
"""


@dataclass
class History:
    """A directory, and the spans that were sent of it."""

    path: Path
    clock: FixedClock = field(default_factory=FixedClock)
    text: io.StringIO = field(default_factory=io.StringIO)
    refused: list[str] = field(default_factory=list)

    def open(self, **options: Any) -> Enforcer:
        """Open an enforcer on it."""
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(FileSpanExporter(stream=self.text)))
        telemetry = Telemetry(tracer_provider=provider)
        sources = Sources(clock=self.clock, ids=SequentialIds())
        return Enforcer.open(self.path, **{"telemetry": telemetry, "sources": sources, **options})

    def tell(self) -> None:
        """Have everything happen that a small task has."""
        options = {"policy": POLICY, "privacy": Privacy(disclosable=True, pseudonyms=True)}
        with self.open(**{**options, "policy": None}) as enforcer:
            self._work(enforcer)
        (self.path / "spans.jsonl").write_text(self.text.getvalue())

    def _work(self, enforcer: Enforcer) -> None:
        pay = enforcer.tool(name="pay", labels=("money",))(lambda amount, to: to)

        @enforcer.tool
        def fail() -> None:
            raise KeyError("x")

        scope = Scope("pay", amount=Range(max=50), to=OneOf("bob", "carol")) | Scope("fail")
        with enforcer.task("pay the bill", principal=ALICE, agent=CLERK, scope=scope):
            pay(20, "bob")
            self.clock.advance(1)
            with suppress(KeyError):
                fail()
            self.refuse(pay, 99, "bob")
            with enforcer.delegate(READER, scope=scope, purpose="read"):
                pay(30, "carol")
                self.refuse(pay, 30, "eve")
        self.refuse(pay, 1, "bob")

    def refuse(self, tool: Any, *given: Any) -> None:
        """Have a call refused."""
        with pytest.raises(Denied) as caught:
            tool(*given)
        self.refused.append(str(caught.value.reference))

    @property
    def trust(self) -> TrustStore:
        """Its public keys."""
        return TrustStore.load(self.path / "trust.json")

    @property
    def streams(self) -> tuple[str, ...]:
        """Its streams."""
        return open_ledger(self.path).streams()

    def records(self) -> list[records.AnyRecord]:
        """Return its records."""
        return [*records.read(self.path)]

    def of(self, kind: str) -> list[Any]:
        """Return its records of a kind."""
        return [record for record in self.records() if record.kind == kind]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> History:
    """The history."""
    history = History(tmp_path_factory.mktemp("history") / "evidence")
    history.tell()
    return history


@pytest.fixture
def history(told: History, tmp_path: Path) -> History:
    """A copy of it, to be changed."""
    path = Path(shutil.copytree(told.path, tmp_path / "copy"))
    return History(path, copy.copy(told.clock), io.StringIO(told.text.getvalue()), list(told.refused))


KINDS = {
    "stream_start": 1,
    "grant": 2,
    "task_start": 2,
    "intent": 3,
    "outcome": 6,
    "task_end": 2,
    "stream_end": 1,
}


# ------------------------------------------------------------------- verification


def test_verification_counts_every_record(history: History) -> None:
    """Each is in its place, and nothing is found."""
    report = Verifier(history.trust).ledger(history.path)
    assert (report.exit_code, report.findings) == (0, ())
    assert {kind: number for kind, number in report.kinds.items() if kind in KINDS} == KINDS
    assert report.counts["records"] == report.counts["verified"] == sum(report.kinds.values())
    assert (report.counts["success"], report.counts["denied"]) == (2, 3)


def test_spans_verify_alone_and_beside_their_ledger(history: History) -> None:
    """What is in the ledger alone is said once to be unchecked."""
    spans = history.path / "spans.jsonl"
    alone = Verifier(history.trust).traces(spans)
    assert (alone.exit_code, alone.counts["details_not_checked"]) == (0, 3)
    assert Counter(problem.code for problem in alone.findings) == {"detail_not_checked": 1}
    (row,) = alone.coverage
    assert (row.calls, row.attributed, row.human) == (6, 5, 5)
    beside = Verifier(history.trust).traces(spans, ledger=history.path).raise_for_status()
    assert (beside.exit_code, beside.findings) == (0, ())
    assert beside.counts["verified"] == alone.counts["verified"]


def test_processes_find_the_same(history: History) -> None:
    """One process, or two."""
    one, two = (Verifier(history.trust, processes=number) for number in (1, 2))
    assert one.ledger(history.path) == two.ledger(history.path)
    assert one.traces(history.path / "spans.jsonl") == two.traces(history.path / "spans.jsonl")


def test_proofs_and_records_by_id(history: History) -> None:
    """Each record is found by the id that people know, and proved."""
    for record in history.records():
        assert find_record(history.path, record.id) == record
        checked = Verifier(history.trust).proof(prove(history.path, record.id), record=record.id)
        assert checked.verdict == "verified"
    with pytest.raises(ConfigurationError):
        find_record(history.path, "no such record")


def test_disclosures_of_calls_that_ran_and_of_refused_ones(history: History) -> None:
    """One argument of an intent, of its outcome, and of a refusal; against ledger, proof and span, and the grants."""
    arguments = {"amount": 20, "to": "bob"}
    intent, outcome = history.of("intent")[0], history.of("outcome")[0]
    refused = find_record(history.path, history.refused[0])
    files = []
    for record, given in ((intent, arguments), (outcome, arguments), (refused, {"amount": 99, "to": "bob"})):
        for names in (None, ["amount"]):
            file = disclose(history.path, record.id, given, names=names)
            files.append(file)
            for where in ({"ledger": history.path}, {"proof": prove(history.path, record.id)}):
                told = Verifier(history.trust).disclosure(file, **where)
                shown = given if names is None else {"amount": given["amount"]}
                assert (told.exit_code, dict(told.arguments), told.hidden) == (0, shown, len(given) - len(shown))
        with pytest.raises(VerificationError) as caught:
            disclose(history.path, record.id, {**given, "to": "mallory"})
        assert caught.value.code == "other_arguments"
    file = disclose(history.path, outcome.id, arguments, names=["to"])
    told = Verifier(history.trust).disclosure(file, spans=history.path / "spans.jsonl")
    assert (told.exit_code, dict(told.arguments)) == (0, {"to": "bob"})
    report = Verifier(history.trust).ledger(history.path, disclosures=files)
    # Intent and outcome; what was refused was within no grant.
    assert (report.exit_code, report.counts["arguments_within_grants"]) == (0, 2)


# ------------------------------------------------------------------- what people read


def test_stories_are_the_same(history: History) -> None:
    """From the ledger and from spans: who did what on whose behalf, and when the authority ended."""
    for source in ("", "spans.jsonl"):
        stories = list(story(history.path / source))
        calls = [(action.tool, action.outcome) for one in stories for action in one.actions]
        assert sorted(calls) == [
            ("fail", "error"),
            *[("pay", "denied")] * 3,
            *[("pay", "success")] * 2,
        ]
        assert stories[0].expires_ns is not None


@pytest.mark.parametrize("command", [["show"], ["tasks"], ["tasks", "--json"], ["show", "--json"]])
def test_the_command_line_shows_it(history: History, command: list[str], capsys: pytest.CaptureFixture) -> None:
    """What people and programs read."""
    assert main([*command, str(history.path)]) == 0
    assert ("pay" in capsys.readouterr().out) is (command[0] == "show")  # No task is open.


def test_the_command_line_verifies_it(history: History) -> None:
    """The ledger, a proof, a disclosure, and a bundle."""
    trust, room = history.path / "trust.json", history.path.parent
    outcome = history.of("outcome")[0].id
    (room / "proof").write_bytes(prove(history.path, outcome))
    (room / "shown").write_bytes(disclose(history.path, outcome, {"amount": 20, "to": "bob"}))
    commands = [
        ["verify", str(history.path), "--trust", str(trust)],
        ["proof", "check", str(room / "proof"), "--trust", str(trust)],
        ["disclose", "check", str(room / "shown"), "--trust", str(trust), "--ledger", str(history.path)],
        ["bundle", str(history.path), "-o", str(room / "b.zip")],
    ]
    for command in commands:
        assert main(command) == 0, command


def test_whose_a_pseudonym_is(history: History) -> None:
    """The name in the records is a pseudonym, whose person the directory knows."""
    name = history.of("outcome")[0].principal.id
    assert Pseudonyms(history.path / "keys" / "pseudonyms.jsonl").who(name) == ("human", "alice@example.com")


def test_what_tests_expect_of_records(history: History) -> None:
    """Calls, refusals, and who did it."""
    there = Records(history.path)
    assert Counter((call.tool, call.outcome) for call in there.calls()) == {
        ("pay", "success"): 2,
        ("pay", "denied"): 3,
        ("fail", "error"): 1,
    }
    denied = there.assert_denied(code="argument_out_of_scope", tool="pay", count=2)
    done = there.assert_attributed(principal=denied[0].principal or "", agent=CLERK, count=2)
    assert (len(denied), len(done)) == (2, 2)


def test_records_are_read_as_types(history: History) -> None:
    """Each is what its bytes say, in the one version."""
    for record in history.records():
        assert records.decode(encode(record)) == record
        assert record.v == "1"


# ------------------------------------------------------------------- other forms


@pytest.mark.parametrize("form", FORMS)
def test_exports_have_every_record(history: History, form: Any) -> None:
    """One event for each, of a kind that its record has."""
    events = [json.loads(line) for line in export(history.path, form)]
    assert len(events) == Verifier(history.trust).ledger(history.path).counts["records"]


def test_exports_name_their_version(history: History) -> None:
    """So that whoever reads the record in an event knows its form."""
    event = json.loads(next(export(history.path, "ocsf")))
    assert event["metadata"]["log_version"] == "1"
    assert event["metadata"]["log_format"].rpartition(".")[2] == "v1+json"


def test_tables_have_the_same_rows(history: History, tmp_path: Path) -> None:
    """One for each record, and none for a detail."""
    duckdb = pytest.importorskip("duckdb")
    from agent_identity.audit import export_tables

    written = export_tables(history.path, folder := tmp_path / "tables", verify=True)
    assert written.report is not None
    assert (written.left_out, written.report.exit_code) == (0, 0)
    table = f"read_parquet('{folder}/records/*/*.parquet')"
    kinds = dict(duckdb.sql(f"SELECT kind, count(*) FROM {table} GROUP BY kind").fetchall())  # noqa: S608
    assert {kind: kinds.get(kind) for kind in KINDS} == KINDS
    denied = duckdb.sql(f"SELECT id FROM {table} WHERE outcome = 'denied' ORDER BY seq").fetchall()  # noqa: S608
    assert [row[0] for row in denied] == history.refused


# ------------------------------------------------------------------- spans again, and what becomes of directories


def followed(history: History, **options: Any) -> Iterator[Any]:
    """Yield what makes the spans of each stream."""
    layout, files = Layout.of(history.path), Files()
    key, signer = load_ledger_key(files, layout.ledger_key), SigningKey.load(history.path / "keys" / "recorder.pem")
    for stream in history.streams:
        yield StreamCopies(files, layout, stream, key, signer=signer, trust=None, **options)


def test_spans_are_made_again_from_the_ledger(history: History) -> None:
    """A copy is the span that was sent, byte by byte, and verifies as that does."""
    copies = [copied.span for copies in followed(history) for copied in copies.read()]
    assert None not in copies
    source = io.BytesIO(as_bytes(encode_request(copies, {}), "json"))
    report = Verifier(history.trust).traces(source, ledger=history.path)
    layout = Layout.of(history.path)
    number = sum(count_spans(Files(), layout, stream, after=0, over=True) for stream in history.streams)
    assert (report.exit_code, report.counts["verified"]) == (0, number)
    sent = [json.loads(line) for line in (history.path / "spans.jsonl").read_text().splitlines()]
    payloads = {
        attribute["value"]["stringValue"]
        for document in sent
        for resource in document["resourceSpans"]
        for scope in resource["scopeSpans"]
        for span in scope["spans"]
        for attribute in span["attributes"]
        if attribute["key"] == "agent_identity.attestation.payload"
    }
    assert payloads == {copied.attributes["agent_identity.attestation.payload"] for copied in copies}


def test_a_tail_reads_every_record(history: History) -> None:
    """Each is what its process wrote."""
    layout, files = Layout.of(history.path), Files()
    key = load_ledger_key(files, layout.ledger_key)
    for stream in history.streams:
        tail = StreamTail(files, layout, stream, key)
        kinds = [found.record.kind for found in tail.read()]
        assert kinds == [decode(line.record or b"").kind for line in open_ledger(history.path).entries(stream)]
        assert tail.rejected == 0


def test_a_process_that_died_is_recovered(history: History) -> None:
    """What it left open is named by the ids of its intents."""
    dead = History(history.path.with_name("dead"), history.clock)
    with history.open() as enforcer:
        tool = enforcer.tool(name="pay")(lambda amount: amount)
        with (
            enforcer.task("t", principal=ALICE, agent=CLERK, scope=Scope("pay", amount=Range(max=50))),
            enforcer.action("pay", amount=1),
        ):
            history.refuse(tool, 99)
            stream = enforcer._enforcement.ledger.stream
            shutil.copytree(history.path, dead.path)  # As a process leaves it that dies now.
    with (dead.path / "ledger" / stream / "entries.jsonl").open("ab") as file:
        file.write(b'{"mac":"00')
    dead.open(ids=RandomIds()).close()
    (recovered,) = dead.of("recovered")
    (intent,) = [record.id for record in dead.of("intent") if record.stream.id == stream]
    assert recovered.recovered.open == (intent,)
    report = Verifier(dead.trust).ledger(dead.path)
    assert (report.exit_code, report.counts["unknown"]) == (0, 1)
    assert {problem.code for problem in report.findings} == {"recovered", "unknown_outcome"}


def test_directories_are_pruned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left verifies, and nothing of a call that was cut in two is held against anybody."""
    monkeypatch.setattr(segments_module, "_MIN_BYTES", 1)
    history = History(tmp_path / "pruned")
    with history.open(durability=Durability(segments=Segments(max_bytes=6_000, compression="none"))) as enforcer:
        pay = enforcer.tool(name="pay")(lambda amount: amount)
        scope = Scope("pay", amount=Range(max=50))
        with (
            enforcer.task("long", principal=ALICE, agent=CLERK, scope=scope),
            enforcer.action("pay", amount=3),
        ):
            for number in range(20):
                history.clock.advance(1)
                pay(number)
                history.refuse(pay, 99)
    signer = SigningKey.load(history.path / "keys" / "recorder.pem")
    given = {"signer": signer, "clock": history.clock, "ids": SequentialIds()}
    with Ledger.open(history.path, origin=history.trust.origin or "", **given) as ledger:
        removed = list(prune(str(history.path), ledger, signer=signer, clock=history.clock, before_ns=1 << 62))
    assert removed
    report = Verifier(history.trust).ledger(history.path)
    assert (report.exit_code, report.completeness, report.counts["contradicted"]) == (0, "pruned", 0)
    assert {problem.code for problem in report.findings} == {"pruned"}


def test_keys_are_erased(history: History) -> None:
    """Of a task; the stories say so."""
    task = history.of("task_start")[0].task.id
    assert main(["erase", str(history.path), "--task", task]) == 0
    assert Verifier(history.trust).ledger(history.path).exit_code == 0
    assert [one.erased for one in story(history.path)] == [True, False]
    with pytest.raises(VerificationError):
        disclose(history.path, history.of("intent")[0].id, {"amount": 20, "to": "bob"})
