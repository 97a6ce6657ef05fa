"""One small history in both versions of the record: every reader says the same of it."""

import copy
import io
import json
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pytest
from checking import check
from flat_options import grouped
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from agent_identity import records
from agent_identity._audit.export.interop import FORMS
from agent_identity._audit.proofs.proving import find_record
from agent_identity._authority.grants.scope import Scope
from agent_identity._enforcement.enforcer import Enforcer
from agent_identity._evidence.ledger import segments as segments_module
from agent_identity._evidence.ledger.archiving import prune
from agent_identity._evidence.ledger.follow import StreamTail
from agent_identity._evidence.ledger.reader import open_ledger
from agent_identity._evidence.record.codec import decode, encode
from agent_identity._evidence.spans.export_queue import StreamCopies, count_spans
from agent_identity._evidence.spans.otlp_encoding import as_bytes, encode_request
from agent_identity._evidence.storage.layout import Layout
from agent_identity._evidence.storage.mac import load_ledger_key
from agent_identity._evidence.storage.os_files import Files
from agent_identity.audit import Verifier, disclose, export, prove, story, verify
from agent_identity.cli import main
from agent_identity.cli.terminal.output import DRAFTS
from agent_identity.constraints import OneOf, Range
from agent_identity.errors import ConfigurationError, Denied, EvidenceError, VerificationError
from agent_identity.identity import Agent, Human, RandomIds, SigningKey, TrustStore
from agent_identity.options import Ledger, Pseudonyms, Segments
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
NAMES = r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}|[0-9a-f]{64}|[0-9a-f]{32}|[0-9a-f]{16}"


@dataclass
class History:
    """A directory in one version, and the spans that were sent of it."""

    path: Path
    version: str
    clock: FixedClock = field(default_factory=FixedClock)
    text: io.StringIO = field(default_factory=io.StringIO)
    refused: list[str] = field(default_factory=list)

    def open(self, **options: Any) -> Enforcer:
        """Open an enforcer that writes its version."""
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(FileSpanExporter(stream=self.text)))
        given = {"clock": self.clock, "ids": SequentialIds(), "tracer_provider": provider, **options}
        return Enforcer.open(self.path, draft_records=self.version == records.DRAFT, **grouped(given))

    def tell(self) -> None:
        """Have everything happen that a small task has."""
        options = {"policy": POLICY, "disclosable": True, "pseudonyms": True}
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
        """Return its records, without details."""
        found = records.read(self.path)
        return [record for record in found if record.kind != "detail"]

    def of(self, kind: str) -> list[Any]:
        """Return its records of a kind."""
        return [record for record in self.records() if record.kind == kind]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, History]:
    """The history, twice."""
    found = {}
    for version in ("1", records.DRAFT):
        history = found[version] = History(tmp_path_factory.mktemp("history") / "evidence", version)
        history.tell()
    return found


@pytest.fixture
def both(told: dict[str, History], tmp_path: Path) -> list[History]:
    """Copies of both, to be changed."""
    copies = []
    for number, history in enumerate(told.values()):
        path = Path(shutil.copytree(history.path, tmp_path / f"copy-{number}"))
        text = io.StringIO(history.text.getvalue())
        copies.append(History(path, history.version, copy.copy(history.clock), text, list(history.refused)))
    return copies


def masked(value: object) -> Any:
    """Return what was said without the names that each directory makes for itself, and places in streams."""
    text = re.sub(rf"(?<![0-9a-f])(?:{NAMES})(?![0-9a-f])", "…", json.dumps(value, default=str, sort_keys=True))
    return json.loads(re.sub(r'"(seq|sequence)": "?[0-9]+"?', r'"\1": 0', text))


def same(some: list[object]) -> Any:
    """Return what both say."""
    one, two = map(masked, some)
    assert one == two
    return one


# ------------------------------------------------------------------- verification


def test_verification_counts_the_same(both: list[History]) -> None:
    """Verdicts, counts and steps, but for the details, which count as records alone."""
    reports = [check(history.path, history.trust) for history in both]
    assert [report.exit_code for report in reports] == [0, 0]
    details = reports[1].kinds["detail"]
    assert details == 3
    counts = [dict(report.counts) for report in reports]
    for name in ("records", "verified"):
        assert counts[1].pop(name) == counts[0].pop(name) + details
    kinds = [dict(report.kinds) for report in reports]
    del kinds[1]["detail"]
    assert [problem.code for problem in reports[1].findings] == []
    same([[counts[n], kinds[n]] for n in (0, 1)])
    assert reports[0].findings == ()
    same([[(step.name, step.status) for step in report.steps] for report in reports])


def test_spans_verify_the_same(both: list[History]) -> None:
    """Alone and beside their ledger; what is in the ledger alone is said once to be unchecked."""
    found = []
    for history in both:
        spans = history.path / "spans.jsonl"
        alone = check(spans, history.trust)
        beside = check(spans, history.trust, ledger=history.path).raise_for_status()
        codes = Counter(problem.code for problem in alone.findings)
        assert codes.pop(0) == (history.version == records.DRAFT)
        assert [problem.code for problem in beside.findings].count() == (history.version == records.DRAFT)
        assert codes.pop("detail_not_checked", 0) == (history.version == records.DRAFT)
        assert "detail_not_checked" not in {problem.code for problem in beside.findings}
        counts = {name: number for name, number in alone.counts.items() if name != "details_not_checked"}
        found.append([alone.exit_code, counts, codes, alone.coverage, beside.exit_code, beside.counts["verified"]])
    assert same(found)[0] == 0


def test_drafts_on_spans_are_refused_unless_asked_for(both: list[History]) -> None:
    """None is verified, and none attributes a call to anybody."""
    history = both[1]
    for more in ({}, {"ledger": history.path}):
        report = check(history.path / "spans.jsonl", history.trust, **more)
        assert (report.exit_code, report.counts["verified"]) == (2, 0)
        assert [problem.code for problem in report.findings].count("draft_record") == 1
        assert {row.human for row in report.coverage} == {0}
    with pytest.raises(VerificationError) as caught:
        verify(history.path / "spans.jsonl", history.trust)
    assert caught.value.code == "cannot_tell"


def test_processes_find_the_same(both: list[History]) -> None:
    """Drafts travel between processes as records of version 1 do."""
    history = both[1]
    for source in (history.path, history.path / "spans.jsonl"):
        one, two = (check(source, history.trust, processes=number) for number in (1, 2))
        assert one == two


def test_proofs_and_records_by_id(both: list[History]) -> None:
    """Each record is found by the id that people know, and proved."""
    found = []
    for history in both:
        shown = []
        for record in history.records():
            assert find_record(history.path, record.id) == record
            checked = Verifier(history.trust).proof(prove(history.path, record.id), record=record.id)
            shown.append((checked.verdict, record.kind))
        with pytest.raises(ConfigurationError):
            find_record(history.path, "no such record")
        found.append(shown)
    assert {verdict for verdict, _ in same(found)} == {"verified"}


def test_disclosures_of_calls_that_ran_and_of_refused_ones(both: list[History]) -> None:
    """One argument of an intent, of its outcome, and of a refusal; against ledger, proof and span, and the grants."""
    arguments = {"amount": 20, "to": "bob"}
    found = []
    for history in both:
        intent, outcome = history.of("intent")[0], history.of("outcome")[0]
        refused = find_record(history.path, history.refused[0])
        shown, files = [], []
        for record, given in ((intent, arguments), (outcome, arguments), (refused, {"amount": 99, "to": "bob"})):
            for names in (None, ["amount"]):
                file = disclose(history.path, record.id, given, names=names)
                files.append(file)
                for where in ({"ledger": history.path}, {"proof": prove(history.path, record.id)}):
                    told = Verifier(history.trust).disclosure(file, **where)
                    shown.append((told.exit_code, dict(told.arguments), told.hidden))
            with pytest.raises(VerificationError) as caught:
                disclose(history.path, record.id, {**given, "to": "mallory"})
            shown.append(caught.value.code)
        file = disclose(history.path, outcome.id, arguments, names=["to"])
        told = Verifier(history.trust).disclosure(file, spans=history.path / "spans.jsonl")
        shown.append((told.exit_code, dict(told.arguments)))
        report = check(history.path, history.trust, disclosures=files)
        shown.append((report.exit_code, report.counts["arguments_within_grants"]))
        found.append(shown)
        if history.version == records.DRAFT:
            assert Verifier(history.trust).disclosure(file, ledger=history.path).exit_code == 2
            assert Verifier(history.trust).disclosure(file, spans=history.path / "spans.jsonl").exit_code == 2
    assert same(found)[-1] == [0, 2]  # Intent and outcome; what was refused was within no grant.


# ------------------------------------------------------------------- what people read


def test_stories_are_the_same(both: list[History]) -> None:
    """From the ledger and from spans: who did what on whose behalf, and when the authority ended."""
    for source in ("", "spans.jsonl"):
        told = [[asdict(one) for one in story(history.path / source)] for history in both]
        assert [{one.pop("drafts") for one in stories} for stories in told] == [{False}, {True}]
        same(list(told))


@pytest.mark.parametrize("command", [["show"], ["tasks"], ["tasks", "--json"], ["show", "--json"]])
def test_the_command_line_shows_the_same(
    both: list[History], command: list[str], capsys: pytest.CaptureFixture
) -> None:
    """What people and programs read."""
    printed = []
    for history in both:
        assert main([*command, str(history.path)]) == 0
        out = capsys.readouterr().out.replace(str(history.path), "DIR")
        assert (" --drafts'" in out) is (command == ["show"] and history.version == records.DRAFT)
        out = out.replace(" --drafts'", "'")
        printed.append(out.replace(f"\n{DRAFTS}\n", "").replace('"drafts": true', '"drafts": false'))
        assert (out != printed[-1]) is (command[0] == "show" and history.version == records.DRAFT)
    assert ("pay" in same(printed)) is (command[0] == "show")  # No task is open.


def test_the_command_line_takes_drafts_if_asked(both: list[History], capsys: pytest.CaptureFixture) -> None:
    """verify, check-proof, check-disclosure and bundle have the flag."""
    history = both[1]
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
        assert main(command) == 2, command
        assert main([*command]) == 0, command
    assert "draft_record" in capsys.readouterr().out


def test_whose_a_pseudonym_is(both: list[History]) -> None:
    """The name in the records is a pseudonym, whose person the directory knows."""
    found = []
    for history in both:
        name = history.of("outcome")[0].principal.id
        found.append(Pseudonyms(history.path / "keys" / "pseudonyms.jsonl").who(name))
    assert same(found) == ["human", "alice@example.com"]


def test_what_tests_expect_of_records(both: list[History]) -> None:
    """Calls, refusals, and who did it; the records of a test are those that its release writes."""
    found = []
    for history in both:
        there = Records(history.path)
        calls = [(call.tool, call.outcome, call.code, call.argument, call.agents) for call in there.calls()]
        denied = there.assert_denied(code="argument_out_of_scope", tool="pay", count=2)
        done = there.assert_attributed(principal=denied[0].principal or "", agent=CLERK, count=2)
        found.append(
            [calls, len(denied), len(done), [line[6:] for line in str(there).splitlines() if "detail" not in line]]
        )
    one, two = found
    assert one[:3] == two[:3]
    pattern = r"human:[\w-]+|[\w-]{20,}"
    assert [re.sub(pattern, "…", line) for line in one[3][1:]] == [re.sub(pattern, "…", line) for line in two[3][1:]]


def test_records_as_types_are_refused_unless_asked_for(both: list[History]) -> None:
    """A draft is read by those who ask for it, and says the same facts."""
    old, new = both
    with pytest.raises(EvidenceError):
        list(records.read(new.path))
    data = encode(new.of("task_start")[0])
    with pytest.raises(ValueError, match="draft"):
        records.decode(data)
    assert records.decode(data).v == records.DRAFT
    same([[(one.kind, one.time) for one in history.records()] for history in both])
    assert [one.kind for one in old.records()] == [one.kind for one in new.records()]


# ------------------------------------------------------------------- other forms


@pytest.mark.parametrize("form", FORMS)
def test_exports_are_the_same(both: list[History], form: Any) -> None:
    """But for hashes and bytes, and what outcomes of version 2 leave to their intents."""
    found: list[object] = []
    for history in both:
        events = [json.loads(line) for line in export(history.path, form)]
        found.append([told for event in events if "detail" not in (told := _told(event, form))[0]])
    same(found)


def _told(event: dict[str, Any], form: str) -> list[Any]:
    """Return what kind of record an event is of, and what it says."""
    if form == "ocsf":
        actor = {name: value for name, value in event["actor"].get("user", {}).items() if name not in ("uid", "groups")}
        names = ("status_id", "time", "action", "disposition", "status_detail", "ai_agent")
        return [event["activity_name"], actor, event["api"].get("operation"), *(event.get(name) for name in names)]
    if form == "cloudevents":
        return [event["type"], event["time"], event["data"].get("outcome"), "subject" in event]
    record = event["resourceLogs"][0]["scopeLogs"][0]["logRecords"][0]
    attributes = {item["key"]: item["value"]["stringValue"] for item in record["attributes"]}
    names = ("audit.action", "audit.outcome", "audit.actor.type", "audit.target.id")
    return [record["eventName"], record["timeUnixNano"], *(attributes.get(name) for name in names)]


def test_exports_name_their_version(both: list[History]) -> None:
    """So that whoever reads the record in an event knows its form."""
    types = []
    for history in both:
        event = json.loads(next(export(history.path, "ocsf")))
        types.append((event["metadata"]["log_version"], event["metadata"]["log_format"].rpartition(".")[2]))
    assert types == [("1", "v1+json"), (records.DRAFT, "v2-draft+json")]


def test_tables_have_the_same_rows(both: list[History], tmp_path: Path) -> None:
    """One for each record; of the columns, outcomes of version 2 leave the policy to the intent and the detail."""
    duckdb = pytest.importorskip("duckdb")
    from agent_identity.audit import export_tables

    columns = "kind, time_ns, end_ns, principal_kind, agent, agent_owner, agent_version, chain, tool, outcome, error"
    found = []
    for number, history in enumerate(both):
        written = export_tables(history.path, folder := tmp_path / str(number), verify=True)
        assert written.report is not None
        assert (written.left_out, written.report.exit_code) == (0, 0)
        table = f"read_parquet('{folder}/records/*/*.parquet')"
        asked = f"SELECT {columns}, effect, reason, mode FROM {table} WHERE kind != 'detail' ORDER BY seq"  # noqa: S608
        found.append([list(row) for row in duckdb.sql(asked).fetchall()])
        details = duckdb.sql(f"SELECT intent FROM {table} WHERE kind = 'detail' ORDER BY seq").fetchall()  # noqa: S608
        assert [row[0] for row in details] == (history.refused if number else [])
    same(found)


# ------------------------------------------------------------------- spans again, and what becomes of directories


def followed(history: History, **options: Any) -> Iterator[Any]:
    """Yield what makes the spans of each stream."""
    layout, files = Layout.of(history.path), Files()
    key, signer = load_ledger_key(files, layout.ledger_key), SigningKey.load(history.path / "keys" / "recorder.pem")
    for stream in history.streams:
        yield StreamCopies(files, layout, stream, key, signer=signer, trust=None, **options)


def test_spans_are_made_again_from_the_ledger(both: list[History]) -> None:
    """A copy is the span that was sent, byte by byte, and verifies as that does."""
    found = []
    for history in both:
        copies = [copied.span for copies in followed(history) for copied in copies.read()]
        assert None not in copies
        source = io.BytesIO(as_bytes(encode_request(copies, {}), "json"))
        report = check(source, history.trust, ledger=history.path)
        layout = Layout.of(history.path)
        number = sum(count_spans(Files(), layout, stream, after=0, over=True) for stream in history.streams)
        found.append(
            [report.exit_code, report.counts["verified"], [(c.name, c.start, c.end, c.error) for c in copies], number]
        )
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
    assert same(found)[0] == 0


def test_a_tail_reads_every_record(both: list[History]) -> None:
    """Each is what its process wrote."""
    for history in both:
        layout, files = Layout.of(history.path), Files()
        key = load_ledger_key(files, layout.ledger_key)
        for stream in history.streams:
            tail = StreamTail(files, layout, stream, key)
            kinds = [found.record.kind for found in tail.read()]
            assert kinds == [decode(line.record or b"").kind for line in open_ledger(history.path).entries(stream)]
            assert tail.rejected == 0


def test_a_process_that_died_is_recovered(both: list[History]) -> None:
    """What it left open is named by the ids of version 1, whichever version it wrote."""
    found = []
    for alive in both:
        history = History(alive.path.with_name(f"dead {alive.version}"), alive.version, alive.clock)
        with alive.open() as enforcer:
            tool = enforcer.tool(name="pay")(lambda amount: amount)
            with (
                enforcer.task("t", principal=ALICE, agent=CLERK, scope=Scope("pay", amount=Range(max=50))),
                enforcer.action("pay", amount=1),
            ):
                alive.refuse(tool, 99)
                stream = enforcer._point.ledger.stream
                shutil.copytree(alive.path, history.path)  # As a process leaves it that dies now.
        with (history.path / "ledger" / stream / "entries.jsonl").open("ab") as file:
            file.write(b'{"mac":"00')
        history.open(ids=RandomIds()).close()
        (recovered,) = history.of("recovered")
        (intent,) = [record.id for record in history.of("intent") if record.stream.id == stream]
        assert recovered.recovered.open == (intent,)
        report = check(history.path, history.trust)
        codes = sorted({problem.code for problem in report.findings})
        found.append([report.exit_code, report.counts["unknown"], codes, recovered.recovered.torn_bytes])
    assert same(found)[:3] == [0, 1, ["recovered", "unknown_outcome"]]


def test_directories_are_pruned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left verifies, and nothing of a call that was cut in two is held against anybody."""
    monkeypatch.setattr(segments_module, "_MIN_BYTES", 1)
    found = []
    for version in ("1", records.DRAFT):
        history = History(tmp_path / version, version)
        with history.open(segments=Segments(max_bytes=6_000, compression="none")) as enforcer:
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
        report = check(history.path, history.trust)
        counts = {
            name: report.counts.get(name, 0)
            for name in ("intents_pruned", "details_not_shown", "contradicted", "unknown")
        }
        found.append([report.exit_code, report.completeness, sorted({p.code for p in report.findings}), counts])
    assert same(found)[:2] == [0, "pruned"]


def test_keys_are_erased(both: list[History], capsys: pytest.CaptureFixture) -> None:
    """Of a task and of a person; the stories say so."""
    found = []
    for history in both:
        task = history.of("task_start")[0].task.id
        assert main(["erase", str(history.path), "--task", task]) == 0
        told = capsys.readouterr().out
        report = check(history.path, history.trust)
        found.append([told, report.exit_code, [one.erased for one in story(history.path)]])
        with pytest.raises(VerificationError):
            disclose(history.path, history.of("intent")[0].id, {"amount": 20, "to": "bob"})
    assert same(found)[1:] == [0, [True, False]]
