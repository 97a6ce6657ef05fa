"""Whatever happens to the collector, it has every record afterwards, and the ledger always had it (AC-80 to AC-86).

The full figures of these cases take minutes: ``nox -s outages`` sets ``AGENT_IDENTITY_OUTAGES`` to the factor by which
the loads here are small.
"""

import contextlib
import functools
import json
import os
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import context as otel
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased, TraceIdRatioBased
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from agent_identity import Agent, Denied, Enforcer, Human, Scope, Verifier
from agent_identity._directory.export import ledger_exporter as exporting
from agent_identity._directory.export import sender as shipping
from agent_identity._ledger.reader import open_ledger
from agent_identity.cli import main
from agent_identity.options import Telemetry
from agent_identity.telemetry import measure

ALICE = Human("alice@example.com")
CLERK = Agent("clerk", owner="finance@example.com")
SUB = Agent("sub-clerk", owner="finance@example.com")
FACTOR = int(os.environ.get("AGENT_IDENTITY_OUTAGES", "1"))
"""1 in CI, for seconds; more on demand, up to 20 for the whole figures."""
LOAD = 250 * FACTOR
BURST = 1_000 * FACTOR
RECORD = "agent_identity.record.id"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have waits of hundredths of seconds instead of seconds, unless the whole figures are wanted."""
    if FACTOR == 1:
        monkeypatch.setattr(shipping, "_FIRST_WAIT", 0.02)
        monkeypatch.setattr(shipping, "_LONGEST_WAIT", 0.2)
        monkeypatch.setattr(exporting, "_POLL", 0.02)


def records_of(evidence: Path, *kinds: str) -> list[dict[str, Any]]:
    """Return the records of these kinds."""
    reader = open_ledger(evidence)
    lines = [line.record for stream in reader.streams() for line in reader.entries(stream)]
    records = [json.loads(line) for line in lines if line is not None]
    return [record for record in records if record["kind"] in kinds]


def travelling(evidence: Path) -> set[str]:
    """Return the ids of the records of which each has a span."""
    return {record["id"] for record in records_of(evidence, "outcome", "task_end")}


def work(enforcer: Enforcer, calls: int, during: Callable[[int], object] = lambda _: None) -> list[float]:
    """Make calls under a task and a delegation, some refused; return how long each took, in seconds."""
    taken: list[float] = []

    @enforcer.tool
    def pay(amount: int) -> int:
        return amount

    with enforcer.task("pay", principal=ALICE, agent=CLERK, scope=Scope("pay")):
        for number in range(calls // 2):
            during(number)
            begun = time.perf_counter()
            assert pay(number) == number
            taken.append(time.perf_counter() - begun)
        with enforcer.delegate(SUB, scope=Scope("pay", amount=7)):
            for number in range(calls // 2, calls):
                during(number)
                begun = time.perf_counter()
                with contextlib.suppress(Denied):
                    pay(7 if number % 2 else number)
                taken.append(time.perf_counter() - begun)
    return taken


def caught_up(receiver: Any, evidence: Path) -> None:
    """Check that every record arrived, none but those of the ledger, and that a verifier calls it complete."""
    receiver.wait_for(lambda: travelling(evidence) <= receiver.ids().keys(), timeout=120.0 * FACTOR)
    assert receiver.ids().keys() == travelling(evidence)
    assert_same_again(receiver)
    report = Verifier(evidence / "trust.json").traces(receiver.traces, ledger=evidence)
    assert (report.verdict, report.completeness, report.findings) == ("verified", "complete", ())


def assert_same_again(receiver: Any) -> None:
    """Check that what came twice is the same twice: one span for each record id."""
    forms: dict[str, bytes] = {}
    for span in receiver.spans:
        (name,) = [pair.value.string_value for pair in span.attributes if pair.key == RECORD]
        assert forms.setdefault(name, span.SerializeToString(deterministic=True)) == span.SerializeToString(
            deterministic=True
        )


# How a collector behaves while the calls run, given the receiver and the number of the call.


def down_for_three_fifths(receiver: Any, number: int) -> None:
    """Be down from the first fifth of the calls to the fourth."""
    if number == LOAD // 5:
        receiver.stop()
    if number == LOAD * 4 // 5:
        receiver.start()


def refusing(mode: Any, receiver: Any, number: int) -> None:
    """Answer with an error for three fifths of the calls."""
    if number in (LOAD // 5, LOAD * 4 // 5):
        receiver.mode = mode if number == LOAD // 5 else "ok"


def flapping(receiver: Any, number: int) -> None:
    """Be down and up again all the time."""
    if number % 40 == 0:
        receiver.stop()
    elif number % 40 == 20:
        receiver.start()


def slow(receiver: Any, _: int) -> None:
    """Take long for each batch."""
    receiver.pause = 0.15 * min(FACTOR, 20)


OUTAGES: dict[str, Callable[[Any, int], None]] = {
    "ac_80 down": down_for_three_fifths,
    "ac_81 answers 400": functools.partial(refusing, "400"),
    "ac_82 slow": slow,
    "answers 429": functools.partial(refusing, "429"),
    "answers 503": functools.partial(refusing, "503"),
    "answers 404": functools.partial(refusing, "404"),
    "flapping": flapping,
    "loses answers": functools.partial(refusing, "reset"),
    "loses requests": functools.partial(refusing, "cut"),
    "a page of a proxy": functools.partial(refusing, "html"),
}


def outage(receiver: Any, evidence: Path, name: str) -> None:
    """Work through an outage, and see that nothing is missing afterwards."""
    with Enforcer.open(evidence, telemetry=Telemetry(otlp=receiver.endpoint)) as enforcer:
        pause = 0.002 if FACTOR == 1 else 0.002 * 25 * 500 / LOAD
        done = threading.Event()

        def during(number: int) -> None:
            OUTAGES[name](receiver, number)
            done.wait(pause)

        work(enforcer, LOAD, during)
        receiver.pause, receiver.mode = 0.0, "ok"
        if receiver._server is None:
            receiver.start()
        receiver.wait_for(lambda: travelling(evidence) <= receiver.ids().keys(), timeout=60.0 * FACTOR)
    caught_up(receiver, evidence)


def test_ac_80_a_collector_that_was_down_gets_everything(receiver: Any, tmp_path: Path) -> None:
    """Down for 60 % of the time, and nothing is lost: what was not acknowledged is sent again."""
    outage(receiver, tmp_path / "evidence", "ac_80 down")


def test_ac_81_a_collector_that_answered_400_gets_everything(receiver: Any, tmp_path: Path) -> None:
    """An answer that says "never again" to all is taken for what it is: a collector that is set up wrongly for now."""
    outage(receiver, tmp_path / "evidence", "ac_81 answers 400")
    assert list((tmp_path / "evidence" / "exports").glob("*/aside.jsonl")) == []


def test_ac_82_a_slow_collector_gets_everything(receiver: Any, tmp_path: Path) -> None:
    """However long it takes for a batch, nothing is dropped, because nothing waits in memory."""
    outage(receiver, tmp_path / "evidence", "ac_82 slow")


@pytest.mark.sample(3)
@pytest.mark.parametrize("name", [name for name in OUTAGES if not name.startswith("ac_")])
def test_other_outages_lose_nothing(receiver: Any, tmp_path: Path, name: str) -> None:
    """Whichever way a batch is not acknowledged, it is sent again."""
    outage(receiver, tmp_path / "evidence", name)


def test_ac_83_a_burst_past_any_queue_is_kept(receiver: Any, tmp_path: Path) -> None:
    """Calls as fast as they come while nobody listens: all of them arrive later, because the queue is a file."""
    receiver.stop()
    with Enforcer.open(tmp_path / "evidence", telemetry=Telemetry(otlp=receiver.endpoint)) as enforcer:
        work(enforcer, BURST)
        receiver.start()
        evidence = tmp_path / "evidence"
        receiver.wait_for(lambda: travelling(evidence) <= receiver.ids().keys(), timeout=60.0 * FACTOR)
    caught_up(receiver, evidence)
    assert len(receiver.spans) >= BURST


def test_the_backlog_of_the_export_is_measured(receiver: Any, tmp_path: Path) -> None:
    """While the receiver takes nothing the gauge shows how far it is behind, and 0 once it has all."""
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)

    def backlog() -> float:
        collected = reader.get_metrics_data()
        assert collected is not None
        found = [one for each in collected.resource_metrics for scope in each.scope_metrics for one in scope.metrics]
        ((point,),) = [one.data.data_points for one in found if one.name == "agent_identity.export.backlog"]
        return point.value

    receiver.mode, evidence = "503", tmp_path / "evidence"
    with Enforcer.open(evidence, telemetry=Telemetry(otlp=receiver.endpoint)) as enforcer:
        measure(enforcer, provider)
        assert backlog() == 0
        work(enforcer, 20)
        enforcer._enforcement.ledger.drain(60)
        assert backlog() == max(int(record["stream"]["seq"]) for record in records_of(evidence, "outcome", "task_end"))
        receiver.mode = "ok"
        receiver.wait_for(lambda: travelling(evidence) <= receiver.ids().keys())
        until = time.monotonic() + 60  # The place is noted just after the answer.
        while backlog():
            assert time.monotonic() < until
            time.sleep(0.01)
    caught_up(receiver, evidence)
    provider.shutdown()


def test_ac_84_what_was_not_acknowledged_is_known(receiver: Any, tmp_path: Path, capsys: Any) -> None:
    """A collector that fails leaves a distance that ``doctor`` shows, and that ``replay`` closes."""
    evidence = tmp_path / "evidence"
    receiver.mode = "503"
    with Enforcer.open(evidence, telemetry=Telemetry(otlp=receiver.endpoint)) as enforcer:
        work(enforcer, 20)
    assert receiver.spans == []
    main(["doctor", str(evidence)])
    assert "spans to send" in capsys.readouterr().out
    receiver.mode = "ok"
    assert main(["replay", str(evidence), "--otlp", receiver.endpoint]) == 0
    caught_up(receiver, evidence)
    capsys.readouterr()
    main(["doctor", str(evidence)])
    assert "has all" in capsys.readouterr().out


def test_ac_85_a_caller_cannot_switch_the_copies_off(receiver: Any, tmp_path: Path) -> None:
    """``traceparent …-00`` asks not to sample; the copies arrive all the same, in the caller's trace."""
    carrier = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"}
    token = otel.attach(TraceContextTextMapPropagator().extract(carrier))
    try:
        with Enforcer.open(tmp_path / "evidence", telemetry=Telemetry(otlp=receiver.endpoint)) as enforcer:
            work(enforcer, 20)
    finally:
        otel.detach(token)
    caught_up(receiver, tmp_path / "evidence")
    assert {span.trace_id.hex() for span in receiver.spans} == {"0af7651916cd43dd8448eb211c80319c"}
    assert len({span.span_id for span in receiver.spans}) == len(receiver.ids())


SAMPLERS = {"off": ALWAYS_OFF, "ratio": TraceIdRatioBased(0.1), "parent": ParentBased(TraceIdRatioBased(0.1))}


@pytest.mark.parametrize("way", ["thread", "command"])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_ac_86_samplers_take_nothing_from_the_copies(receiver: Any, tmp_path: Path, sampler: str, way: str) -> None:
    """What the sampler dropped is sent from the ledger, with the ids that it would have had."""
    evidence = tmp_path / "evidence"
    provider = TracerProvider(sampler=SAMPLERS[sampler], shutdown_on_exit=False)
    with Enforcer.open(
        evidence, telemetry=Telemetry(tracer_provider=provider, otlp=receiver.endpoint if way == "thread" else None)
    ) as enforcer:
        work(enforcer, 40)
    if way == "command":
        assert main(["replay", str(evidence), "--otlp", receiver.endpoint]) == 0
    caught_up(receiver, evidence)


@pytest.mark.parametrize("way", ["thread", "command"])
def test_ac_86_a_disabled_sdk_takes_nothing_from_the_copies(
    receiver: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """``OTEL_SDK_DISABLED`` makes no span in the process, and none is missing at the collector."""
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    evidence = tmp_path / "evidence"
    with Enforcer.open(evidence, telemetry=Telemetry(otlp=receiver.endpoint if way == "thread" else None)) as enforcer:
        work(enforcer, 40)
    if way == "command":
        assert main(["replay", str(evidence), "--otlp", receiver.endpoint]) == 0
    assert all("trace" not in record for record in records_of(evidence, "outcome", "task_end"))
    caught_up(receiver, evidence)
    assert len({(span.trace_id, span.span_id) for span in receiver.spans}) == len(receiver.ids())
    assert len({span.trace_id for span in receiver.spans}) == 1


def test_the_copy_equals_the_span_that_was_sent_at_once(receiver: Any, tmp_path: Path) -> None:
    """Ids, parent, name, times, status, every attribute and the signature are those of the span that tracing made."""
    evidence, exporter = tmp_path / "evidence", InMemorySpanExporter()
    provider = TracerProvider(sampler=ALWAYS_ON, shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with Enforcer.open(evidence, telemetry=Telemetry(tracer_provider=provider)) as enforcer:
        with provider.get_tracer("app").start_as_current_span("request"):
            work(enforcer, 10)
        with pytest.raises(Denied), enforcer.action("pay", amount=1):
            pass
    assert main(["replay", str(evidence), "--otlp", receiver.endpoint]) == 0
    sent = {span.attributes.get(RECORD): span for span in exporter.get_finished_spans()}
    del sent[None]
    assert receiver.ids().keys() == sent.keys()
    for copy in receiver.spans:
        attributes = {
            pair.key: pair.value.string_value or tuple(item.string_value for item in pair.value.array_value.values)
            for pair in copy.attributes
        }
        span = sent[attributes[RECORD]]
        assert attributes == dict(span.attributes)
        assert copy.trace_id.hex() == f"{span.context.trace_id:032x}"
        assert copy.span_id.hex() == f"{span.context.span_id:016x}"
        assert copy.parent_span_id.hex() == (f"{span.parent.span_id:016x}" if span.parent else "")
        assert (copy.name, copy.start_time_unix_nano, copy.end_time_unix_nano) == (
            span.name,
            span.start_time,
            span.end_time,
        )
        assert (copy.status.code, copy.status.message) == (
            2 if span.status.status_code.value == 2 else 0,
            span.status.description or "",
        )


def test_ac_74_calls_that_never_ended_are_sent_as_unknown(receiver: Any, tmp_path: Path) -> None:
    """A process that is killed inside a body leaves an intent, which arrives and verifies, marked unknown."""
    evidence = tmp_path / "evidence"
    program = (
        "import os, sys\n"
        "from agent_identity import Agent, Enforcer, Human, Scope\n"
        "enforcer = Enforcer.open(sys.argv[1])\n"
        "pay = enforcer.tool(name='pay')(lambda: os.kill(os.getpid(), 9))\n"
        "with enforcer.task('p', principal=Human('alice'), agent=Agent('clerk', owner='x'), scope=Scope('pay')):\n"
        "    pay()\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(evidence)], check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert main(["replay", str(evidence), "--otlp", receiver.endpoint]) == 0
    (intent,) = records_of(evidence, "intent")
    (task,) = records_of(evidence, "task_start")
    assert set(receiver.ids()) == {intent["id"], task["id"]}
    report = Verifier(evidence / "trust.json").traces(receiver.traces)
    assert (report.verdict, report.findings) == ("verified", ())
    assert report.counts["chains_verified"] == 1
    (span,) = [span for span in receiver.spans if span.name == "execute_tool pay"]
    assert (span.status.code, span.status.message) == (2, "unknown")
    outcome = [pair.value.string_value for pair in span.attributes if pair.key == "agent_identity.outcome"]
    assert outcome == ["unknown"]
    assert main(["replay", str(evidence), "--otlp", receiver.endpoint]) == 0
    assert len(receiver.spans) == 2


@pytest.mark.nightly
def test_a_sender_that_is_killed_anywhere_loses_nothing(receiver: Any, tmp_path: Path) -> None:
    """Killed after any number of requests, the next one goes on; what comes twice is the same twice."""
    evidence = tmp_path / "evidence"
    with Enforcer.open(evidence) as enforcer:
        work(enforcer, 60)
    program = (
        "import sys\n"
        "from agent_identity._directory.export import sender as shipping\n"
        "shipping._BATCH = 7\n"
        "from agent_identity.cli import main\n"
        "sys.exit(main(['replay', sys.argv[1], '--otlp', sys.argv[2]]))\n"
    )
    deaths = 0
    for kill_at in [1, 3] * FACTOR:
        process: list[Any] = []
        before = receiver.requests

        def mode(_: Any, process: list[Any] = process, before: int = before, kill_at: int = kill_at) -> str:
            if receiver.requests - before == kill_at and process:
                process[0].kill()
            return "ok"

        receiver.mode = mode
        process.append(subprocess.Popen([sys.executable, "-c", program, str(evidence), receiver.endpoint]))
        deaths += process[0].wait(timeout=60) == -signal.SIGKILL
    assert deaths
    receiver.mode = "ok"
    assert main(["replay", str(evidence), "--otlp", receiver.endpoint]) == 0
    caught_up(receiver, evidence)


@pytest.mark.nightly
def test_processes_that_share_a_directory_send_together(receiver: Any, tmp_path: Path) -> None:
    """One sends for all, forked children included; when it ends, another takes over, and nothing is missing."""
    evidence = tmp_path / "evidence"
    program = (
        "import os, sys\n"
        "from agent_identity import Agent, Enforcer, Human, Scope\n"
        "from agent_identity._directory.export import ledger_exporter as exporting\n"
        "from agent_identity.options import Telemetry\n"
        "exporting._STANDBY = 0.05\n"
        "enforcer = Enforcer.open(sys.argv[1], telemetry=Telemetry(otlp=sys.argv[2]))\n"
        "pay = enforcer.tool(name='pay')(lambda n: n)\n"
        "def work():\n"
        "    with enforcer.task('p', principal=Human('a'), agent=Agent('c', owner='x'), scope=Scope('pay')):\n"
        "        for number in range(20):\n"
        "            pay(number)\n"
        "work()\n"
        "child = os.fork()\n"
        "work()\n"
        "enforcer.close()\n"
        "if child:\n"
        "    os.waitpid(child, 0)\n"
    )
    command = [sys.executable, "-W", "ignore", "-c", program, str(evidence), receiver.endpoint]
    processes = [subprocess.Popen(command) for _ in range(2)]
    assert [process.wait(timeout=60) for process in processes] == [0, 0]
    assert main(["replay", str(evidence), "--otlp", receiver.endpoint]) == 0
    caught_up(receiver, evidence)
    assert len(records_of(evidence, "outcome")) == 2 * 60


def test_nobody_gets_a_signature_over_what_he_wrote_into_the_ledger(receiver: Any, tmp_path: Path, capsys: Any) -> None:
    """A line that the library did not write is not signed and not sent, and the command says so."""
    evidence = tmp_path / "evidence"
    with Enforcer.open(evidence) as enforcer:
        work(enforcer, 10)
    (path,) = (evidence / "ledger").glob("*/entries.jsonl")
    lines = path.read_text("utf-8").splitlines(keepends=True)
    forged = [line.replace("alice@example.com", "mallory@example.com") for line in lines if '"outcome"' in line]
    path.write_text("".join((*lines, *forged)), "utf-8")
    assert main(["replay", str(evidence), "--otlp", receiver.endpoint]) == 1
    assert "not written by the library" in capsys.readouterr().out
    assert receiver.ids().keys() == travelling(evidence)
    assert not [span for span in receiver.spans if b"mallory" in span.SerializeToString()]


def test_one_record_that_is_refused_holds_up_no_other(receiver: Any, tmp_path: Path, capsys: Any) -> None:
    """The command stops at it and names it, or goes on if told so; the thread goes on by itself."""
    evidence = tmp_path / "evidence"
    with Enforcer.open(evidence) as enforcer:
        work(enforcer, 40)
    poison = records_of(evidence, "outcome")[17]["id"]

    def mode(request: Any) -> str:
        return "400" if poison.encode() in request.SerializeToString() else "ok"

    receiver.mode = mode
    command = ["replay", str(evidence), "--otlp", receiver.endpoint]
    assert main(command) == 2
    assert poison in capsys.readouterr().err
    assert main([*command, "--skip-refused"]) == 1
    assert receiver.ids().keys() == travelling(evidence) - {poison}
    receiver.mode = "ok"
    assert main([*command, "--again"]) == 0
    caught_up(receiver, evidence)


@pytest.mark.parametrize("place", [0, 17, -1])
def test_a_partial_success_is_no_success_of_the_rest(receiver: Any, tmp_path: Path, place: int) -> None:
    """A receiver that rejects one span of a batch gets the others, and the one is set aside by name."""
    evidence = tmp_path / "evidence"
    with Enforcer.open(evidence) as enforcer:
        work(enforcer, 40)
    poison = records_of(evidence, "outcome", "task_end")[place]["id"]

    def mode(request: Any) -> Any:
        if poison.encode() not in request.SerializeToString():
            return "ok"
        return 1

    receiver.mode = mode
    assert main(["replay", str(evidence), "--otlp", receiver.endpoint, "--skip-refused"]) == 1
    assert receiver.ids().keys() == travelling(evidence) - {poison}
    (aside,) = (evidence / "exports").glob("*/aside.jsonl")
    assert poison in aside.read_text("utf-8")
    assert "not this one" in aside.read_text("utf-8")


def test_selections_keep_a_place_of_their_own(receiver: Any, tmp_path: Path) -> None:
    """To send a task or a time again moves nothing for the whole."""
    evidence = tmp_path / "evidence"
    with Enforcer.open(evidence) as enforcer:
        work(enforcer, 10)
        with enforcer.task("other", principal=ALICE, agent=CLERK, scope=Scope("pay")) as task:
            pass
    command = ["replay", str(evidence), "--otlp", receiver.endpoint]
    assert main([*command, "--task", task.id]) == 0
    assert len(receiver.spans) == 1
    assert main([*command, "--until", "2020-01-01"]) == 0
    assert main([*command, "--since", "2020-01-01T00:00:00Z", "--task", "nobody"]) == 0
    assert len(receiver.spans) == 1
    assert main(command) == 0
    caught_up(receiver, evidence)
    assert receiver.ids()[task_end_of(evidence, task.id)] == 2


def task_end_of(evidence: Path, task: str) -> str:
    (found,) = [record["id"] for record in records_of(evidence, "task_end") if record["task"]["id"] == task]
    return found


@pytest.mark.parametrize("protocol", ["http/protobuf", "http/json"])
def test_both_encodings_arrive_the_same(receiver: Any, tmp_path: Path, protocol: str) -> None:
    """Protobuf and JSON carry the same spans, with headers from the environment and not from the command line."""
    evidence = tmp_path / "evidence"
    with Enforcer.open(evidence) as enforcer:
        work(enforcer, 10)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "api-key=c%61nary,x-tenant=1")
        patch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
        patch.setenv("OTEL_SERVICE_NAME", "invoices")
        assert main(["replay", str(evidence), "--otlp", receiver.endpoint, "--protocol", protocol]) == 0
    assert (receiver.headers["api-key"], receiver.headers["x-tenant"]) == ("canary", "1")
    assert '"invoices"' in receiver.traces.read_text("utf-8")
    caught_up(receiver, evidence)


# Through a real collector.


@pytest.fixture(scope="module")
def rotel() -> Any:
    """Return the module of the examples that runs a real collector, or skip where there is none."""
    pytest.importorskip("rotel", reason="the collector rotel is not installed here")
    import importlib.util

    path = Path(__file__).resolve().parents[3] / "examples" / "collector.py"
    spec = importlib.util.spec_from_file_location("collector", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("protocol", ["http/protobuf", "http/json", "grpc"])
def test_a_real_collector_gets_everything(rotel: Any, tmp_path: Path, protocol: str) -> None:
    """Over each protocol, what comes out behind a collector written by others verifies and is complete."""
    if protocol == "grpc":
        pytest.importorskip("grpc", reason="grpcio is not installed here")
    evidence = tmp_path / "evidence"
    with Enforcer.open(evidence) as enforcer:
        work(enforcer, 60)
    with rotel.collector(tmp_path / "collector") as collector:
        endpoint = f"http://{collector.grpc_endpoint}" if protocol == "grpc" else collector.endpoint
        assert main(["replay", str(evidence), "--otlp", endpoint, "--protocol", protocol]) == 0
    report = Verifier(evidence / "trust.json").traces(collector.traces, ledger=evidence)
    assert (report.verdict, report.completeness, report.findings) == ("verified", "complete", ())


@contextlib.contextmanager
def exporting_to(evidence: Path, endpoint: str | None) -> Iterator[Enforcer]:
    """Open an enforcer with or without an exporter."""
    with Enforcer.open(evidence, telemetry=Telemetry(otlp=endpoint)) as enforcer:
        yield enforcer


@pytest.mark.skipif(FACTOR == 1, reason="figures, not a verdict; nox -s outages prints them")
def test_the_latency_of_calls_during_an_outage(receiver: Any, tmp_path: Path) -> None:
    """Print how long calls take with a receiver that works, is slow, or is down, against none at all."""
    figures: dict[str, list[float]] = {}
    for name in ("none", "works", "slow", "down"):
        receiver.pause = 3.0 if name == "slow" else 0.0
        if name == "down":
            receiver.stop()
        with exporting_to(tmp_path / name, None if name == "none" else receiver.endpoint) as enforcer:
            figures[name] = work(enforcer, 10_000, lambda _: time.sleep(0.001))
    for name, taken in figures.items():
        cuts, base = statistics.quantiles(taken, n=100), statistics.quantiles(figures["none"], n=100)
        print(  # noqa: T201
            f"{name:6} p50 {cuts[49] * 1e6:6.0f} us ({cuts[49] / base[49]:.2f}) "
            f"p99 {cuts[98] * 1e6:6.0f} us ({cuts[98] / base[98]:.2f})"
        )
