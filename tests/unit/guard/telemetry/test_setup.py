"""Setting up: directory, parts, telemetry of the process, and spans that fail open."""

import importlib.metadata
import json
import os
import stat
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased, TraceIdRatioBased
from plain_records import check_record

from agent_identity import Agent, Decision, Effect, Enforcer, Human, Rule, RuleSet, Scope, Verifier, records
from agent_identity._directory.open import open_directory, prepare, refuse_clash
from agent_identity._guard.telemetry.diagnosis import examine_telemetry
from agent_identity._guard.telemetry.spans import UNTRACED, Spans, current_trace, traced
from agent_identity._ledger.reader import open_ledger
from agent_identity._record.parts import Trace
from agent_identity.audit import story
from agent_identity.errors import ConfigurationError, EvidenceError, PolicyFormatError
from agent_identity.identity import SigningKey, TrustStore
from agent_identity.options import Durability, Privacy, Sources, Telemetry, Transparency
from agent_identity.state import MemoryState
from agent_identity.testing import FixedClock, SequentialIds

OPEN = Scope("tool")
REMOTE = trace.SpanContext(0x0AF7651916CD43DD8448EB211C80319C, 0xB7AD6B7169203331, is_remote=True)
PARTIES = {"principal": Human("alice@example.com"), "agent": Agent("clerk", owner="finance")}


@pytest.fixture(autouse=True)
def no_global_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test begins without a global tracer provider and without settings in the environment."""
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", None)
    monkeypatch.setattr(trace, "_TRACER_PROVIDER_SET_ONCE", trace.Once())
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)


# ------------------------------------------------------------------------------------------ directory


def test_first_use_makes_everything_with_safe_modes(tmp_path: Path) -> None:
    """Keys are readable by the owner only, the trust file by everyone, and the second start uses the same ones."""
    directory = tmp_path / "a" / "evidence"
    with Enforcer.open(directory):
        first = (directory / "trust.json").read_bytes()
    for name in ("issuer.pem", "recorder.pem", "ledger.key"):
        assert stat.S_IMODE((directory / "keys" / name).stat().st_mode) == 0o600
    assert stat.S_IMODE((directory / "keys").stat().st_mode) == 0o700
    trust = TrustStore.load(directory / "trust.json")
    assert {key.purpose for key in trust.keys} == {"issuer", "recorder"}
    assert trust.issuer.startswith("urn:uuid:")
    assert trust.origin.startswith("agent-identity/")
    with Enforcer.open(str(directory)):
        assert (directory / "trust.json").read_bytes() == first
    assert len(open_ledger(directory).streams()) == 2


def test_several_at_once_agree_on_one_set_of_keys(tmp_path: Path) -> None:
    """Whoever comes first makes the keys; all end with the same ones."""
    found: list[tuple[str, str, str]] = []
    barrier = threading.Barrier(8)

    def open_one() -> None:
        barrier.wait()
        issuer, recorder, trust = prepare(tmp_path / "evidence", FixedClock(), SequentialIds())
        found.append((issuer.public_key.thumbprint, recorder.public_key.thumbprint, str(trust.issuer)))

    threads = [threading.Thread(target=open_one) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1


def test_a_key_that_another_process_made_meanwhile_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Losing the race for key or trust file is no error; failing to make one at all is."""
    theirs = SigningKey.generate()
    save, create = SigningKey.save, TrustStore.create

    def lose(this: SigningKey, path: Path) -> None:
        save(theirs, path)
        raise ConfigurationError("something is there", code="already_exists")

    def lose_trust(this: TrustStore, path: Path) -> None:
        create(this, path)
        raise ConfigurationError("something is there", code="already_exists")

    with monkeypatch.context() as patch:
        patch.setattr(SigningKey, "save", lose)
        patch.setattr(TrustStore, "create", lose_trust)
        issuer, _, _ = prepare(tmp_path / "one", FixedClock(), SequentialIds())
    assert issuer.public_key == theirs.public_key

    def fail(*_: object) -> None:
        raise ConfigurationError("expected a file that can be made")

    with monkeypatch.context() as patch:
        patch.setattr(SigningKey, "save", fail)
        with pytest.raises(ConfigurationError, match="can be made"):
            prepare(tmp_path / "two", FixedClock(), SequentialIds())
    with monkeypatch.context() as patch:
        patch.setattr(TrustStore, "create", fail)
        with pytest.raises(ConfigurationError, match="can be made"):
            prepare(tmp_path / "three", FixedClock(), SequentialIds())


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    """A file in the way is a configuration error that says what to do."""
    (tmp_path / "evidence").write_text("")
    with pytest.raises(ConfigurationError, match="choose another one"):
        Enforcer.open(tmp_path / "evidence")


def test_keys_that_do_not_belong_to_the_trust_file_are_refused(tmp_path: Path) -> None:
    """A replaced key is noticed at the start, not by the auditor."""
    with Enforcer.open(tmp_path):
        pass
    for name in ("issuer", "recorder"):
        path = tmp_path / "keys" / f"{name}.pem"
        good = path.read_bytes()
        path.unlink()
        SigningKey.generate().save(path)
        with pytest.raises(ConfigurationError, match=f"the {name} key"):
            Enforcer.open(tmp_path)
        path.write_bytes(good)
    Enforcer.open(tmp_path).close()


@pytest.mark.parametrize("member", ["issuer", "origin"])
def test_a_trust_file_without_its_names_is_refused(tmp_path: Path, member: str) -> None:
    """Issuer and origin name the directory in every grant and checkpoint."""
    with Enforcer.open(tmp_path):
        pass
    path = tmp_path / "trust.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    del content[member]
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ConfigurationError, match="lacks 'issuer' or 'origin'"):
        Enforcer.open(tmp_path)


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    """The message names the cure."""
    with Enforcer.open(tmp_path):
        pass
    (tmp_path / "keys" / "issuer.pem").chmod(0o644)
    with pytest.raises(ConfigurationError, match="chmod"):
        Enforcer.open(tmp_path)


def test_ac_71_another_distribution_that_owns_our_name_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside the unrelated ``agent-identity`` nothing opens, and the message says what to uninstall."""
    refuse_clash()
    refuse_clash(_absent)
    with pytest.raises(ConfigurationError, match="pip uninstall agent-identity"):
        refuse_clash(lambda name: object())
    monkeypatch.setattr(refuse_clash, "__defaults__", (lambda name: object(),))
    with pytest.raises(ConfigurationError, match="pip uninstall"):
        Enforcer.open(tmp_path / "evidence")
    assert not (tmp_path / "evidence").exists()


def _absent(name: str) -> None:
    raise importlib.metadata.PackageNotFoundError(name)


# ---------------------------------------------------------------------------------------------- parts


def _parts(directory: Path) -> dict[str, Any]:
    found = open_directory(directory, clock=FixedClock(), ids=SequentialIds(), durability=Durability())
    return {name: getattr(found, name) for name in ("keys", "trust", "ledger", "digests")}


def _written(directory: Path) -> list[bytes]:
    reader = open_ledger(directory)
    return [line.record for stream in reader.streams() for line in reader.entries(stream)]


def test_an_enforcer_can_be_built_from_its_parts(tmp_path: Path) -> None:
    """Keys held elsewhere and a ledger of one's own make an enforcer as good as the embedded one."""
    with (
        Enforcer(**_parts(tmp_path)) as enforcer,
        enforcer.task("p", scope=OPEN, **PARTIES),
        enforcer.action("tool"),
    ):
        pass
    assert len(_written(tmp_path)) == 7


@pytest.mark.parametrize("missing", ["issuer key", "issuer name", "recorder key"])
def test_parts_that_do_not_fit_together_are_refused(tmp_path: Path, missing: str) -> None:
    """The trust store must hold both public keys and the issuer's name, or nobody could verify the evidence."""
    parts = _parts(tmp_path)
    trust = parts["trust"]
    if missing == "issuer name":
        parts["trust"] = TrustStore(trust.keys, origin=trust.origin)
    else:
        keys = tuple(key for key in trust.keys if key.purpose != missing.split(maxsplit=1)[0])
        parts["trust"] = TrustStore(keys, issuer=trust.issuer, origin=trust.origin)
    with pytest.raises(ConfigurationError, match="trust store"):
        Enforcer(**parts)
    parts["ledger"].close()


@pytest.mark.parametrize("state", ["redis://:secret@host/0", 5, object(), MemoryState])
def test_what_is_no_store_is_refused_before_anything_is_made(tmp_path: Path, state: object) -> None:
    """The message says which type is expected and where to get one, and does not show an address with a password."""
    directory = tmp_path / "evidence"
    with pytest.raises(TypeError, match=r"state is .*give StateStore.*RedisState\(url\)") as caught:
        Enforcer.open(directory, state=state)  # type: ignore[arg-type]
    assert "secret" not in str(caught.value)
    assert not directory.exists()
    parts = _parts(tmp_path)
    with pytest.raises(TypeError, match=r"state is .*give StateStore.*RedisState\(url\)") as caught:
        Enforcer(**parts, state=state)
    assert "secret" not in str(caught.value)
    parts["ledger"].close()


def test_an_enforcer_that_does_not_open_leaves_no_ledger_open(tmp_path: Path) -> None:
    """Whatever fails once the stream was begun, it is ended, so that its lock is free."""
    with pytest.raises(ConfigurationError):
        Enforcer.open(tmp_path, telemetry=Telemetry(otlp="ftp://collector.example"))
    (stream,) = open_ledger(tmp_path).streams()
    assert b'"stream_end"' in [line.record for line in open_ledger(tmp_path).entries(stream)][-1]


def test_a_policy_may_be_a_file(tmp_path: Path) -> None:
    """Its name, version and digest are in the ledger; a malformed one opens nothing at all."""
    path = tmp_path / "policy.toml"
    path.write_text('version = "3"\nname = "house"\n[[rules]]\neffect = "block"\ntools = "wipe"\n', encoding="utf-8")
    with Enforcer.open(tmp_path / "one", policy=path):
        pass
    (stream,) = open_ledger(tmp_path / "one").streams()
    records = [json.loads(line.record) for line in open_ledger(tmp_path / "one").entries(stream)]
    assert [r["policy"] for r in records if r["kind"] == "policy"] == [
        {"name": "house", "version": "3", "digest": RuleSet.load(path).digest, "engine": "rules"}
    ]
    path.write_text("version = 3\n", encoding="utf-8")
    with pytest.raises(PolicyFormatError):
        Enforcer.open(tmp_path / "two", policy=str(path))
    assert not (tmp_path / "two").exists()


def test_durable_evidence_is_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With ``sync="disk"`` a call waits for the disk twice: before and after the body."""
    calls: list[int] = []
    monkeypatch.setattr(os, "fdatasync", calls.append)
    with (
        Enforcer.open(tmp_path, durability=Durability(sync="disk")) as enforcer,
        enforcer.task("p", scope=OPEN, **PARTIES),
    ):
        enforcer._enforcement.ledger.drain(10)
        before = len(calls)
        with enforcer.action("tool"):
            assert len(calls) > before


# ---------------------------------------------------------------------------- telemetry of the process


class Foreign(trace.TracerProvider):
    """A provider that is not the SDK's."""

    def get_tracer(self, *args: Any, **kwargs: Any) -> trace.Tracer:
        """Return what this provider has to offer."""
        return trace.NoOpTracer()


def _found(*arguments: Any) -> dict[str, tuple[str, str]]:
    return {check.name: (check.status, check.detail + check.cure) for check in examine_telemetry(*arguments)}


def test_a_good_provider_is_ok() -> None:
    """Provider, sampler and limits are each found fit; so is a sampler based on the parent that is always on."""
    for provider in (TracerProvider(), TracerProvider(sampler=ALWAYS_ON)):
        assert {status for status, _ in _found(provider, {}).values()} == {"ok"}


def test_what_costs_spans_is_found() -> None:
    """Without provider, with telemetry switched off or sampled, spans are missing: a warning that names the cure."""
    assert _found(None, {})["provider"][0] == "warn"
    assert "TracerProvider" in _found(None, {})["provider"][1]
    assert "Foreign" in _found(Foreign(), {})["provider"][1]
    for value in ("true", " TRUE "):
        assert "OTEL_SDK_DISABLED" in _found(TracerProvider(), {"OTEL_SDK_DISABLED": value})["provider"][1]
    assert _found(TracerProvider(), {"OTEL_SDK_DISABLED": "false"})["provider"][0] == "ok"
    for sampler in (ALWAYS_OFF, ParentBased(ALWAYS_OFF), TraceIdRatioBased(0.1), ParentBased(TraceIdRatioBased(0.1))):
        assert _found(TracerProvider(sampler=sampler), {})["sampler"][0] == "warn"


def test_what_cuts_evidence_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits on number and length of attributes are found, wherever they come from."""
    few = TracerProvider(span_limits=SpanLimits(max_span_attributes=32))
    assert _found(few, {})["span limits"][0] == "warn"
    short = TracerProvider(span_limits=SpanLimits(max_span_attribute_length=32))
    assert _found(short, {})["span limits"][0] == "fail"
    monkeypatch.setenv("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "32")
    assert _found(TracerProvider())["span limits"][0] == "fail"
    both = TracerProvider(span_limits=SpanLimits(max_span_attributes=1, max_span_attribute_length=1))
    assert [check.status for check in examine_telemetry(both, {})] == ["ok", "ok", "warn", "fail"]


def _spans(provider: Any = None) -> Spans:
    return Spans(SigningKey.from_seed(b"r" * 32), provider, "1")


def test_trouble_with_telemetry_is_said_once_per_provider(caplog: pytest.LogCaptureFixture) -> None:
    """A provider that loses or cuts spans is named at the start, or when it is set; a fit one is not."""
    spans = _spans()
    spans.examine()
    spans.start("a", {}, 1).end()
    assert caplog.text == ""
    trace.set_tracer_provider(TracerProvider(sampler=ALWAYS_OFF))
    for _ in range(3):
        spans.start("a", {}, 1).end()
    assert len(caplog.records) == 1
    assert "always on" in caplog.text
    caplog.clear()
    _spans(TracerProvider()).examine()
    assert caplog.text == ""
    _spans(TracerProvider(span_limits=SpanLimits(max_span_attribute_length=32))).examine()
    assert "signatures will not verify" in caplog.text


def test_opening_an_enforcer_examines_its_provider(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Who starts with a sampler that is off is told at once, not after the incident."""
    with Enforcer.open(tmp_path, telemetry=Telemetry(tracer_provider=TracerProvider(sampler=ALWAYS_OFF))):
        assert "sampler: AlwaysOffSampler" in caplog.text


# ------------------------------------------------------------------------------------ spans fail open


class Raises(trace.TracerProvider):
    """A provider that fails at once."""

    def get_tracer(self, *args: Any, **kwargs: Any) -> trace.Tracer:
        """Return what this provider has to offer."""
        raise RuntimeError("no tracer")


class Processor(SpanProcessor):
    """A processor that fails at one moment."""

    def __init__(self, moment: str) -> None:
        self.moment = moment

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        """Fail if this is the moment."""
        if self.moment == "start":
            raise RuntimeError("start")

    def on_end(self, span: ReadableSpan) -> None:
        """Fail if this is the moment."""
        if self.moment == "end":
            raise RuntimeError("end")


def _providers() -> Iterator[Any]:
    yield Raises()
    yield Foreign()
    for moment in ("start", "end"):
        provider = TracerProvider()
        provider.add_span_processor(Processor(moment))
        yield provider


@pytest.mark.parametrize("provider", list(_providers()), ids=["raises", "foreign", "on_start", "on_end"])
@pytest.mark.parametrize("sealing", ["background", "inline"])
def test_telemetry_that_fails_costs_spans_and_never_a_call(tmp_path: Path, provider: Any, sealing: Any) -> None:
    """Whatever of the telemetry raises, the tool runs and the ledger has everything."""
    ran = []
    with Enforcer.open(tmp_path, telemetry=Telemetry(tracer_provider=provider, sealing=sealing)) as enforcer:

        @enforcer.tool(name="tool")
        def tool() -> int:
            ran.append(1)
            return 5

        with enforcer.task("p", scope=OPEN, **PARTIES):
            assert tool() == 5
    assert ran == [1]
    (stream,) = open_ledger(tmp_path).streams()
    records = [json.loads(line.record) for line in open_ledger(tmp_path).entries(stream)]
    for record in records:
        check_record(record)
    assert [r["kind"] for r in records] == [
        "stream_start",
        "grant",
        "task_start",
        "intent",
        "outcome",
        "task_end",
        "stream_end",
    ]


class Stubborn(trace.NonRecordingSpan):
    """A span of somebody else that fails at everything."""

    def __init__(self, *, recording: bool) -> None:
        super().__init__(trace.INVALID_SPAN_CONTEXT)
        self.recording = recording

    def is_recording(self) -> bool:
        """Return what was asked for."""
        return self.recording

    def set_attributes(self, attributes: Any) -> None:
        """Fail."""
        raise RuntimeError("attributes")

    def end(self, end_time: int | None = None) -> None:
        """Fail."""
        raise RuntimeError("end")


class Sells(trace.TracerProvider, trace.Tracer):
    """A provider and tracer whose spans are stubborn."""

    def __init__(self, *, recording: bool) -> None:
        self.recording = recording

    def get_tracer(self, *args: Any, **kwargs: Any) -> trace.Tracer:
        """Return what this provider has to offer."""
        return self

    def start_span(self, *args: Any, **kwargs: Any) -> trace.Span:
        """Return a stubborn span."""
        return Stubborn(recording=self.recording)

    start_as_current_span = start_span  # type: ignore[assignment]


@pytest.mark.parametrize("recording", [False, True])
def test_spans_that_fail_at_their_end_cost_nothing(tmp_path: Path, caplog: Any, *, recording: bool) -> None:
    """A span that cannot be ended or written to is given up; result, record and refusal are not."""
    with Enforcer.open(tmp_path, telemetry=Telemetry(tracer_provider=Sells(recording=recording))) as enforcer:

        @enforcer.tool(name="tool")
        def tool() -> int:
            return 5

        with enforcer.task("p", scope=OPEN, **PARTIES):
            assert tool() == 5
            enforcer._enforcement.ledger.drain(10)
    assert "span could not be" in caplog.text
    assert enforcer._enforcement.ledger.callback_failures == 0


def test_the_provider_is_the_one_of_call_time(tmp_path: Path, opened: Any) -> None:
    """A provider set after the enforcer was opened gets the spans; a fixed one is kept."""
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    with Enforcer.open(tmp_path) as enforcer:
        with enforcer.task("p", scope=OPEN, **PARTIES):
            pass
        exporter, provider = InMemorySpanExporter(), TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        trace.set_tracer_provider(provider)
        with enforcer.task("p", scope=OPEN, **PARTIES), enforcer.action("tool"):
            pass
        names = [span.name for span in exporter.get_finished_spans()]
        assert names == ["execute_tool tool", "invoke_agent clerk"]
        world = opened()
        with world.task(OPEN):
            pass
        assert len(exporter.get_finished_spans()) == 2


def test_a_span_without_trace_leaves_no_claim() -> None:
    """Where there is no trace, the record says nothing about one."""
    assert traced(trace.INVALID_SPAN) == UNTRACED
    assert current_trace() is None
    span = TracerProvider().get_tracer("x").start_span("y")
    ids = Trace(trace=f"{span.get_span_context().trace_id:032x}", span=f"{span.get_span_context().span_id:016x}")
    assert traced(span) == (ids, ids)


def test_the_first_record_of_a_span_names_its_parent() -> None:
    """The parent is stated where it is of the same trace; records that a span carries stay without it."""
    tracer = TracerProvider().get_tracer("x")
    with tracer.start_as_current_span("above") as above:
        parent = above.get_span_context()
        ids, rooted = traced(tracer.start_span("y"))
        assert rooted == Trace(trace=ids.trace, span=ids.span, parent=f"{parent.span_id:016x}")
        assert current_trace() == Trace(trace=f"{parent.trace_id:032x}", span=f"{parent.span_id:016x}")
        elsewhere = tracer.start_span("z", Context())
        assert traced(elsewhere).ids == traced(elsewhere).rooted


def test_a_tracer_that_makes_no_spans_leaves_its_call_without_one() -> None:
    """What such a tracer hands back is the caller's span, and no record claims that for its own."""
    with trace.use_span(trace.NonRecordingSpan(REMOTE)):
        span = trace.get_current_span()  # As NoOpTracer.start_span returns it from version 1.40 on.
        assert traced(span).ids == Trace(trace=f"{REMOTE.trace_id:032x}")
        assert traced(span).rooted == Trace(trace=f"{REMOTE.trace_id:032x}", parent=f"{REMOTE.span_id:016x}")


class Halted:
    """A policy whose facts no record can hold."""

    name, version, digest = "x", "1", "md5:0"

    def decide(self, request: object) -> Decision:
        """Return the answer of this policy."""
        return Decision(effect=Effect.ALLOW, reason="fine")


@pytest.mark.parametrize(
    "facts",
    [{"digest": "md5:0"}, {"digest": 5}, {"name": ""}, {"name": "a\nb"}, {"version": 3}, {"version": "\ud800"}],
)
def test_a_policy_says_what_it_is_in_a_form_that_records_can_hold(tmp_path: Path, facts: dict[str, Any]) -> None:
    """Name, version and digest of a policy of one's own are checked at the start, not by the auditor."""
    policy = type("Own", (Halted,), {"digest": "A" * 43, **facts})()
    with pytest.raises(ConfigurationError, match="policy"):
        Enforcer.open(tmp_path, policy=policy)


def test_a_ledger_that_cannot_be_written_opens_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without evidence there is no enforcer."""

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises((EvidenceError, ConfigurationError)):
        Enforcer.open(tmp_path / "evidence", policy=RuleSet(Rule(Effect.WARN)))


def test_a_lost_trust_file_is_not_made_anew_beside_a_log(tmp_path: Path) -> None:
    """A new origin would not fit the log that is there; the copy must come back."""
    Enforcer.open(tmp_path).close()
    (tmp_path / "trust.json").unlink()
    with pytest.raises(ConfigurationError, match=r"trust\.json is missing"):
        Enforcer.open(tmp_path)
    assert not (tmp_path / "trust.json").exists()


@pytest.mark.parametrize(
    "options",
    [{"mode": "watch"}, {"policy": "missing.yaml"}, {"policy": RuleSet(name="x", version="1")}],
    ids=["mode", "policy file", "policy"],
)
def test_a_start_that_fails_by_its_arguments_leaves_no_stream(
    tmp_path: Path, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slip in a word is found before the directory is touched."""
    if isinstance(options.get("policy"), RuleSet):
        monkeypatch.setattr("agent_identity._guard.common.recorded_decisions.is_fact", lambda value: False)
    with pytest.raises(ConfigurationError):
        Enforcer.open(tmp_path / "e", **options)
    assert not (tmp_path / "e").exists()


def test_observers_get_the_records_of_calls_and_tasks(opened: Any) -> None:
    """Each entry as the ledger has it, in order, once the task has ended; one that fails shows in ``degraded``."""
    seen, failing = list[Any](), [False]

    def fail(_: Any) -> None:
        if failing[0]:
            raise ValueError("a secret")

    world = opened(telemetry=Telemetry(on_record=[seen.append, fail]), policy=RuleSet())
    tool = world.enforcer.tool(name="tool")(lambda: 1)
    with world.task(Scope("tool")):
        tool()
    kinds = [entry.record.kind for entry in seen]
    assert kinds == ["stream_start", "policy", "grant", "task_start", "intent", "outcome", "task_end"]
    assert [entry.id for entry in seen] == [record["id"] for record in world.records(*kinds)]
    assert world.enforcer.degraded == {}
    failing[0] = True
    with world.task(Scope("tool")):
        assert tool() == 1
    assert set(world.enforcer.degraded) == {"on_record"}
    assert "a secret" not in world.enforcer.degraded["on_record"]
    assert world.outcomes() == ["success", "success"]


def test_observers_get_the_first_record_of_every_stream(tmp_path: Path) -> None:
    """Also of a stream that is begun because the one before cannot go on, and the record of a recovered stream."""
    seen = list[Any]()
    with Enforcer.open(tmp_path / "e", telemetry=Telemetry(on_record=seen.append)) as enforcer:
        ledger = enforcer._enforcement.ledger
        first = ledger.stream
        ledger._stream.usable = False  # As after a write that was interrupted.
        assert ledger.stream != first
    starts = [entry.record for entry in seen if entry.record.kind == "stream_start"]
    assert [(start.stream.seq, start.stream.id == first) for start in starts] == [("1", True), ("1", False)]
    every = [record.id for record in records.read(tmp_path / "e")]
    assert [entry.id for entry in seen] == every


class AsyncObserver:
    """What is called like a function, and returns a coroutine."""

    async def __call__(self, entry: object) -> None:
        """Observe nothing."""


async def observe(entry: object) -> None:
    """Observe nothing."""


@pytest.mark.parametrize("on_record", [5, [print, 5], observe, [print, AsyncObserver()], partial(observe)])
def test_what_is_no_observer_is_refused_before_anything_is_made(tmp_path: Path, on_record: Any) -> None:
    """A slip is found before the directory is touched."""
    with pytest.raises(TypeError):
        Enforcer.open(tmp_path / "e", telemetry=Telemetry(on_record=on_record))
    assert not (tmp_path / "e").exists()


@pytest.mark.parametrize("path", ["a\0b", "a\ud800b"])
def test_a_path_that_no_file_can_have_is_a_configuration_error(path: str) -> None:
    """NUL and lone surrogates are refused as what they are, wherever a path is given."""
    for use in (
        lambda: Enforcer.open(path),
        lambda: Verifier().ledger(path),
        lambda: Verifier().traces(path),
        lambda: list(story(path)),
        lambda: Verifier(path).traces("/dev/null"),
        lambda: Verifier().ledger(Path(__file__).parent, checkpoint=path),
        lambda: TrustStore.load(path),
        lambda: SigningKey.load(path),
        lambda: SigningKey.generate().save(path),
        lambda: RuleSet.load(f"{path}.json"),
    ):
        with pytest.raises(ConfigurationError, match="no file name can have"):
            use()


def test_a_lambda_is_guarded_under_a_name_alone(opened: Any) -> None:
    """Its own name is that of every other, and no grant can have it."""
    world = opened()
    with pytest.raises(ConfigurationError, match="name="):
        world.enforcer.tool(lambda: 1)
    tool = world.enforcer.tool(name="one")(lambda: 1)
    with world.task(Scope("one")):
        assert tool() == 1
        with pytest.raises(TypeError, match=r"<lambda>\(\) too many positional arguments"):
            tool(2)


# Signers of the caller


def test_the_two_signers_of_the_caller_take_the_place_of_keys_in_the_directory(tmp_path: Path) -> None:
    """Their public halves make the trust file, no private key is written, and the evidence verifies."""
    pair = (SigningKey.generate(), SigningKey.generate())
    for _ in range(2):
        with (
            Enforcer.open(tmp_path / "e", keys=pair) as enforcer,
            enforcer.task("p", scope=OPEN, **PARTIES),
            enforcer.action("tool"),
        ):
            pass
    assert not list((tmp_path / "e" / "keys").glob("*.pem"))
    trust = TrustStore.load(tmp_path / "e" / "trust.json")
    assert [(entry.key, entry.purpose) for entry in trust.keys] == [
        (pair[0].public_key, "issuer"),
        (pair[1].public_key, "recorder"),
    ]
    assert Verifier(trust).ledger(tmp_path / "e").verdict == "verified"
    with pytest.raises(ConfigurationError, match=r"trust\.json"):
        Enforcer.open(tmp_path / "e", keys=(SigningKey.generate(), pair[1]))


def test_signers_of_the_caller_are_two_and_have_no_keys_beside_them(tmp_path: Path) -> None:
    """One key would issue what it records, and a private key in the directory would be one more."""
    key = SigningKey.generate()
    with pytest.raises(ConfigurationError, match="one key"):
        Enforcer.open(tmp_path / "e", keys=(key, key))
    for wrong in (key, "redis://secret", 5, (key,), (key, "unix:PATH")):
        with pytest.raises((TypeError, ConfigurationError), match=r"unix:PATH|keys"):
            Enforcer.open(tmp_path / "e", keys=wrong)  # type: ignore[arg-type]
    Enforcer.open(tmp_path / "f").close()
    with pytest.raises(ConfigurationError, match="is beside a signer"):
        Enforcer.open(tmp_path / "f", keys=(key, SigningKey.generate()))


# Options


@pytest.mark.parametrize("name", ["durability", "privacy", "sources", "telemetry", "transparency"])
def test_an_option_of_another_type_is_answered_with_its_class(tmp_path: Path, name: str) -> None:
    """The error shows how to write the option and where its class is, and nothing is made."""
    with pytest.raises(TypeError, match=rf"^{name} is str; .*{name.title()}\(.*agent_identity\.options"):
        Enforcer.open(tmp_path / "e", **{name: "disk"})  # type: ignore[arg-type]
    assert not (tmp_path / "e").exists()


def test_an_enforcer_of_parts_takes_the_options_of_one_on_a_directory(tmp_path: Path) -> None:
    """Pseudonyms are in the directory of the ledger, and its exporter reads the ledger there."""
    privacy, telemetry = Privacy(pseudonyms=True), Telemetry(otlp="http://127.0.0.1:9")
    with Enforcer(**_parts(tmp_path), privacy=privacy, telemetry=telemetry) as enforcer:
        with enforcer.task("p", scope=OPEN, **PARTIES), enforcer.action("tool"):
            pass
        assert enforcer._exporter is not None
    assert "alice@example.com" in (tmp_path / "keys" / "pseudonyms.jsonl").read_text()
    assert not any(b"alice@example.com" in record for record in _written(tmp_path))


def test_an_enforcer_of_parts_keeps_the_pseudonyms_of_a_directory(tmp_path: Path) -> None:
    """No process may record real names there by mistake."""
    with Enforcer.open(tmp_path, privacy=Privacy(pseudonyms=True)) as first, first.task("p", scope=OPEN, **PARTIES):
        pass
    with Enforcer(**_parts(tmp_path)) as enforcer, enforcer.task("p", scope=OPEN, **PARTIES):
        pass
    assert not any(b"alice@example.com" in record for record in _written(tmp_path))


@pytest.mark.parametrize("keys", [(SigningKey.generate(),), ("issuer", "recorder")])
def test_the_keys_of_an_enforcer_of_parts_are_two_signers(tmp_path: Path, keys: Any) -> None:
    """One key for both would sign grants for the one who keeps the evidence of them."""
    parts = _parts(tmp_path)
    with pytest.raises(TypeError, match="keys= holds something else than two signers"):
        Enforcer(**{**parts, "keys": keys})
    with pytest.raises(ConfigurationError, match="one key"):
        Enforcer(**{**parts, "keys": (parts["keys"][0], parts["keys"][0])})
    parts["ledger"].close()


def test_options_are_checked_when_they_are_made_and_never_change() -> None:
    """A slip in a word is an error of the object, and what it holds is a copy."""
    for make in (
        lambda: Durability(sync="never"),  # type: ignore[arg-type]
        lambda: Telemetry(sealing="never"),  # type: ignore[arg-type]
        lambda: Transparency(checkpoints=[print, 1]),  # type: ignore[list-item]
    ):
        with pytest.raises((ConfigurationError, TypeError)):
            make()
    with pytest.raises(TypeError, match="on_record"):
        Telemetry(on_record=[1])  # type: ignore[list-item]
    witnesses = {"https://w.example": "key"}
    kept = Transparency(witnesses=witnesses, checkpoints=[print])
    witnesses.clear()
    assert (dict(kept.witnesses), kept.checkpoints) == ({"https://w.example": "key"}, (print,))
    with pytest.raises(TypeError):
        kept.witnesses["https://w.example"] = "other"  # type: ignore[index]


def test_an_enforcer_shows_its_mode_its_clock_and_its_inventory(tmp_path: Path) -> None:
    """What integrations ask for is there without a guard."""
    clock = FixedClock()
    with Enforcer.open(tmp_path / "e", mode="monitor", sources=Sources(clock=clock)) as enforcer:
        guard = enforcer.guard("tool")
        assert (enforcer.mode, enforcer.clock) == (guard.mode, guard.clock) == ("monitor", clock)
        assert enforcer.inventory.find("unknown") is None
