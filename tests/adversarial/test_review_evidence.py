"""Attacks on evidence without the recorder key that once went unsaid, and clean runs that once raised an alarm."""

import io
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from record_writing import facts_of

from agent_identity import Agent, Enforcer, Human, Report, Scope, Verifier
from agent_identity._identity.common.encoding import b64url_encode
from agent_identity._identity.common.ids import id_of
from agent_identity._ledger.transparency.merkle import leaf_hash
from agent_identity._storage.lines import log_line, stream_line
from agent_identity.identity import TrustStore
from agent_identity.options import Sources, Telemetry
from agent_identity.testing import FixedClock

FileSpanExporter = pytest.importorskip("opentelemetry.exporter.otlp.json.file").FileSpanExporter

ALICE = Human("alice@example.com")
CLERK = Agent("invoice-clerk", owner="finance-ops@example.com")
SCOPE = Scope("read_invoice")


def run(directory: Path, clock: FixedClock, *, back: float = 0, sink: io.StringIO | None = None) -> None:
    """Let one process make two calls in one task; between them the clock may go back."""
    provider = None
    if sink is not None:
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(FileSpanExporter(stream=sink)))
    with Enforcer.open(
        directory, sources=Sources(clock=clock), telemetry=Telemetry(tracer_provider=provider)
    ) as enforcer:

        @enforcer.tool
        def read_invoice(invoice_id: str) -> str:
            return invoice_id

        with enforcer.task("read", principal=ALICE, agent=CLERK, scope=SCOPE):
            read_invoice("INV-42")
            clock.set_wall(clock.wall_ns() - int(back * 1e9))
            read_invoice("INV-42")


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, str]:
    """A ledger after one process, the same after two, and the spans of both."""
    root, clock, sink = tmp_path_factory.mktemp("originals"), FixedClock(), io.StringIO()
    run(root / "two", clock, sink=sink)
    shutil.copytree(root / "two", root / "one")
    clock.advance(60)
    run(root / "two", clock, sink=sink)
    return root / "one", root / "two", sink.getvalue()


@pytest.fixture
def ledger(originals: tuple[Path, Path, str], tmp_path: Path) -> Path:
    """A copy of the ledger of two processes."""
    return Path(shutil.copytree(originals[1], tmp_path / "evidence"))


@pytest.fixture
def trust(originals: tuple[Path, Path, str]) -> TrustStore:
    """The trust file, kept elsewhere."""
    return TrustStore.load(originals[1] / "trust.json")


def codes(report: Report) -> set[str]:
    return {problem.code for problem in report.findings}


def streams(ledger: Path) -> list[Path]:
    return sorted((ledger / "ledger").iterdir())


# Ledgers.


def test_ac_98_an_older_checkpoint_does_not_hide_a_removed_stream(
    originals: tuple[Path, Path, str], ledger: Path, trust: TrustStore
) -> None:
    """A log that names more than its checkpoint covers is not complete, even if the records are gone as well."""
    shutil.copy(originals[0] / "log" / "checkpoint", ledger / "log" / "checkpoint")
    shutil.rmtree(streams(ledger)[1])
    report = Verifier(trust).ledger(ledger)
    assert (report.exit_code, report.completeness) == (3, "incomplete")
    assert codes(report) == {"log_unsealed", "log_ahead"}


def test_a_repeated_or_foreign_line_of_the_log_is_no_loss(ledger: Path, trust: TrustStore) -> None:
    """Lines behind the checkpoint that name nothing new, or are none of ours, change nothing."""
    log = ledger / "log" / "entries.jsonl"
    last = log.read_bytes().splitlines(keepends=True)[-1]
    log.write_bytes(log.read_bytes() + last + log_line(bytes(32), b'{"x":"y"}'))
    report = Verifier(trust).ledger(ledger)
    assert (report.exit_code, codes(report)) == (0, {"log_unsealed"})


def test_a_forged_stream_is_blamed_and_not_the_records_it_contradicts(ledger: Path, trust: TrustStore) -> None:
    """What the log commits to is read first, whatever name a forged stream takes to be read before it."""
    forged, lines, prev = id_of(0, bytes(8)), b"", ""
    for number, line in enumerate((streams(ledger)[0] / "entries.jsonl").read_bytes().splitlines()[:4], 1):
        record: dict[str, Any] = orjson.loads(line)["record"]
        record["id"] = id_of(number, bytes(8))
        record["stream"] = {"id": forged, "seq": str(number), **({"prev": prev} if prev else {})}
        if "principal" in record:
            record["principal"]["id"] = "mallory@example.com"
        data = orjson.dumps(record, option=orjson.OPT_SORT_KEYS)
        prev = b64url_encode(leaf_hash(data))
        lines += stream_line(bytes(32), data)
    (ledger / "ledger" / forged).mkdir()
    (ledger / "ledger" / forged / "entries.jsonl").write_bytes(lines)
    report = Verifier(trust).ledger(ledger)
    assert report.exit_code == 1
    assert {problem.stream for problem in report.findings} == {forged}


@pytest.mark.parametrize(("not_before", "not_after"), [(4_000_000_000, None), (None, 1_000)])
def test_a_checkpoint_by_a_key_outside_its_time_proves_nothing(
    ledger: Path, trust: TrustStore, not_before: int | None, not_after: int | None
) -> None:
    """A recorder key counts for a ledger neither after its time nor before it."""
    keys = tuple(
        replace(key, not_before=not_before, not_after=not_after) if key.purpose == "recorder" else key
        for key in trust.keys
    )
    report = Verifier(replace(trust, keys=keys)).ledger(ledger)
    assert (report.exit_code, codes(report)) == (2, {"key_not_valid_then"})


def test_a_lost_note_in_a_lock_file_does_not_make_a_process_die(ledger: Path, trust: TrustStore) -> None:
    """A stream that its process ended and sealed is never called recovered, whatever became of its lock file."""
    for stream in streams(ledger):
        (stream / "lock").write_bytes(b"")
    run(ledger, FixedClock())
    report = Verifier(trust).ledger(ledger)
    assert (report.exit_code, report.findings) == (0, ())


def test_a_second_recovery_does_not_hide_what_the_first_rejected(tmp_path: Path) -> None:
    """Whoever takes back forged bytes that a start has rejected does not take back what it said of them."""
    ledger = tmp_path / "evidence"
    with Enforcer.open(tmp_path / "running"):
        shutil.copytree(tmp_path / "running", ledger)  # What is left of a process that dies here.
    (stream,) = streams(ledger)
    entries = stream / "entries.jsonl"
    entries.write_bytes(entries.read_bytes() + b"forged\n")
    clock = FixedClock()
    for left in (entries.read_bytes(), entries.read_bytes().removesuffix(b"forged\n")):
        entries.write_bytes(left)
        (stream / "lock").write_bytes(b"")
        run(ledger, clock)
        clock.advance(60)
    report = Verifier().ledger(ledger)
    assert report.exit_code == 3
    assert {"rejected_tail", "recovered"} <= codes(report)
    assert [problem.message for problem in report.findings if problem.code == "recovered"] == [
        "its process died; a later start found 1 record, 0 of them sealed"
    ]


def test_a_process_that_died_in_its_first_line_leaves_nothing_open(ledger: Path, trust: TrustStore) -> None:
    """A stream of one torn line is incomplete until a start has recovered it, and no loss from then on."""
    stream = ledger / "ledger" / id_of(1_800_000_000_000_000_000, bytes(8))
    stream.mkdir()
    (stream / "entries.jsonl").write_bytes(b'{"mac":"')
    (stream / "lock").write_bytes(b"")
    report = Verifier(trust).ledger(ledger)
    assert (report.exit_code, codes(report)) == (3, {"torn_tail", "no_end"})
    run(ledger, FixedClock())
    report = Verifier(trust).ledger(ledger)
    assert (report.exit_code, codes(report)) == (0, {"stream_empty", "recovered"})
    with (stream / "entries.jsonl").open("ab") as file:
        file.write(b"more")
    report = Verifier(trust).ledger(ledger)
    assert (report.exit_code, codes(report)) == (3, {"torn_tail", "recovered"})


def test_a_forged_outcome_behind_the_last_seal_counts_as_nothing_but_unsealed(tmp_path: Path) -> None:
    """What no checkpoint covers is in no count of outcomes, whatever it says of a call that is proved."""
    ledger = tmp_path / "evidence"
    with (
        Enforcer.open(tmp_path / "running") as enforcer,
        enforcer.task("read", principal=ALICE, agent=CLERK, scope=SCOPE),
        enforcer.action("read_invoice"),
    ):
        enforcer._enforcement.ledger.seal()
        shutil.copytree(tmp_path / "running", ledger)
    (stream,) = streams(ledger)
    lines = (stream / "entries.jsonl").read_bytes()
    intent: dict[str, Any] = orjson.loads(lines.splitlines()[-1])["record"]
    assert Verifier().ledger(ledger).counts["unknown"] == 1
    place = {
        "id": stream.name,
        "seq": str(int(intent["stream"]["seq"]) + 1),
        "prev": b64url_encode(leaf_hash(orjson.dumps(intent, option=orjson.OPT_SORT_KEYS))),
    }
    forged = {
        **intent,
        "id": id_of(FixedClock().wall_ns(), b"\xff" * 8),
        "kind": "outcome",
        "outcome": "success",
        "stream": place,
    }
    forged["intent"] = intent["id"]
    data = orjson.dumps(facts_of("outcome", forged), option=orjson.OPT_SORT_KEYS)
    (stream / "entries.jsonl").write_bytes(lines + stream_line(bytes(32), data))
    report = Verifier().ledger(ledger)
    assert (report.exit_code, codes(report)) == (3, {"tail_unsealed", "no_end"})
    assert (report.counts["verified"], report.counts["unsealed"]) == (len(lines.splitlines()), 1)
    assert "success" not in report.counts


def test_keys_from_beside_the_ledger_are_not_called_trusted(ledger: Path, trust: TrustStore) -> None:
    """A report never says more of the key than where it came from, nor more of the ledger than its checkpoint."""
    for keys, words in ((trust, "a trusted recorder key"), (None, "the recorder key beside the ledger")):
        report = Verifier(keys).ledger(ledger)
        assert report.steps[0].detail.startswith(f"signed by {words} for the origin ")
        assert report.steps[6].detail == "2 streams, as of this checkpoint"


@pytest.mark.parametrize("back", [31, 3_600, 86_400])
def test_a_clock_that_goes_back_is_a_notice(tmp_path: Path, back: int) -> None:
    """A call that a wrong clock dates before its grant contradicts nothing: it names the hash of the grant."""
    sink = io.StringIO()
    run(tmp_path, FixedClock(), back=back, sink=sink)
    spans = io.BytesIO(sink.getvalue().encode())
    verifier = Verifier(tmp_path / "trust.json")
    for report in (Verifier().ledger(tmp_path), verifier.traces(spans, ledger=tmp_path)):
        assert (report.exit_code, codes(report)) == (0, {"dated_before_grant"})


# Spans.


def each_span(documents: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for document in documents:
        for resource in document["resourceSpans"]:
            for scope in resource["scopeSpans"]:
                yield from scope["spans"]


def text(value: str) -> dict[str, Any]:
    return {"stringValue": value}


def check_spans(
    original: str, trust: TrustStore, change: Callable[[list[dict[str, Any]]], object], **options: Any
) -> Report:
    documents = [json.loads(line) for line in original.splitlines()]
    change(documents)
    return Verifier(trust).traces(io.BytesIO("\n".join(map(json.dumps, documents)).encode()), **options)


@pytest.mark.parametrize(
    "name", ["agent_identity.principal.name", "agent_identity.approval.approver", "agent_identity.attestation.by"]
)
def test_ac_93_an_attribute_of_ours_that_is_not_signed_is_found(
    originals: tuple[Path, Path, str], trust: TrustStore, name: str
) -> None:
    """Nothing under our names stands on a verified span but what is compared with the record; or it is named before."""

    def add(documents: list[dict[str, Any]]) -> None:
        next(each_span(documents))["attributes"].append({"key": name, "value": text("the chairman")})

    report = check_spans(originals[2], trust, add)
    assert (report.exit_code, codes(report)) == (1, {"field_added"})
    assert check_spans(originals[2], trust, add, redacted=[name]).exit_code == 0


@pytest.mark.parametrize(
    "value",
    [
        text('{"for":"mallory","values":["alice@example.com","invoice-clerk"]}'),
        {
            "kvlistValue": {
                "values": [
                    {"key": "for", "value": text("mallory")},
                    {
                        "key": "values",
                        "value": {"arrayValue": {"values": [text("alice@example.com"), text("invoice-clerk")]}},
                    },
                ]
            }
        },
    ],
    ids=["text", "map"],
)
def test_ac_93_a_chain_with_something_beside_it_is_changed(
    originals: tuple[Path, Path, str], trust: TrustStore, value: dict[str, Any]
) -> None:
    """A store may write an array in other forms, but none of these has room for further members."""

    def change(documents: list[dict[str, Any]]) -> None:
        for attribute in next(each_span(documents))["attributes"]:
            if attribute["key"] == "agent_identity.delegation.chain":
                attribute["value"] = value

    report = check_spans(originals[2], trust, change)
    assert (report.exit_code, codes(report)) == (1, {"field_changed"})


def test_coverage_is_not_inflated_by_calls_beside_a_signed_one(
    originals: tuple[Path, Path, str], trust: TrustStore
) -> None:
    """A signed call answers for one span of another library and the same tool, and for itself once."""

    def add(documents: list[dict[str, Any]]) -> None:
        signed = next(each_span(documents))
        for number, tool in enumerate(["delete", "read_invoice", "read_invoice"], 1):
            attributes = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": tool}
            span = {
                "traceId": signed["traceId"],
                "spanId": f"{number:016x}",
                "parentSpanId": signed["spanId"],
                "name": tool,
                "attributes": [{"key": key, "value": text(value)} for key, value in attributes.items()],
            }
            documents.append({"resourceSpans": [{"scopeSpans": [{"scope": {"name": "other"}, "spans": [span]}]}]})
        documents.append(documents[0])

    report = check_spans(originals[2], trust, add)
    rows = {row.scope: (row.calls, row.attributed, row.human) for row in report.coverage}
    assert rows == {"agent_identity": (4, 4, 4), "other": (3, 1, 1)}
    assert report.counts["duplicates"] == 1
