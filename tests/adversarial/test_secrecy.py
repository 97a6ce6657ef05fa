"""What must not get out: values, keys, identities; and what must not get in: forged lines (AC-102 to AC-106)."""

import asyncio
import base64
import contextlib
import dataclasses
import hashlib
import hmac
import json
import logging
import traceback
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import baggage, propagate
from opentelemetry import context as otel
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from plain_records import check_record

from agent_identity import Agent, Decision, Effect, Enforcer, Finding, Human, Request, Rule, RuleSet, Scope, Verifier
from agent_identity._directory.erasure import erase
from agent_identity._guard.judging.guard import Guard
from agent_identity._identity.common.encoding import b64url_decode, b64url_encode, digest_of
from agent_identity._identity.common.ids import is_digest
from agent_identity._identity.common.record_bytes import decode_record
from agent_identity._ledger.reader import open_ledger
from agent_identity._record.commitments import commit, leaf, part, root
from agent_identity._storage.mac import Mac
from agent_identity.adapters import CallRequest, GuardedCall
from agent_identity.audit import disclose
from agent_identity.canonical import encode
from agent_identity.cli import main
from agent_identity.constraints import Range
from agent_identity.delegation import Peer
from agent_identity.errors import Denied, EvidenceError, OutOfScope
from agent_identity.limits import Limit
from agent_identity.options import Privacy
from agent_identity.policy import Content
from agent_identity.telemetry import stamp_spans

OPEN = Scope("tool")


def outputs(world: Any) -> Iterator[tuple[str, str]]:
    """Yield the name and the text of everything that leaves: every file but private keys, and every span."""
    for path in sorted(world.directory.rglob("*")):
        if path.is_file() and path.parent.name != "keys":
            # State is no text; latin-1 shows every byte of it, and of the others whatever is not UTF-8.
            yield path.name, path.read_bytes().decode("latin-1" if path.parent.name == "state" else "utf-8")
    world.enforcer._enforcement.ledger.drain(10)
    exported = encode_spans(world.exporter.get_finished_spans()).SerializeToString()
    yield "OTLP", exported.decode("latin-1")
    for span in world.exporter.get_finished_spans():
        yield span.name, span.to_json()
        payload = span.attributes.get("agent_identity.attestation.payload", "")
        yield span.name, base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)).decode()


def told(world: Any, capfd: Any) -> Iterator[tuple[str, str]]:
    """Yield what the command line says about a world, on both streams."""
    world.enforcer._enforcement.ledger.seal()
    record = world.records()[-1]["id"]
    for words in (("verify",), ("verify", "--json"), ("show",), ("show", "--json"), ("tasks", "--all"), ("doctor",)):
        main([words[0], str(world.directory), *words[1:]])
        yield " ".join(words), "".join(capfd.readouterr())
    main(["proof", "make", str(world.directory), record])
    yield "proof", "".join(capfd.readouterr())


def chain_of(error: BaseException) -> str:
    """Return the text of an exception and of whatever would be printed with it."""
    return "".join(traceback.format_exception_only(error)) + repr(error) + str(error) + repr(error.args)


class Leaks:
    """A policy and inspectors that raise, and find, with the content in their mouth."""

    name, version, digest = "leaks", "1", "A" * 43

    def __init__(self, moment: str) -> None:
        self.moment = moment

    def decide(self, request: Request) -> Decision:
        """Return the answer of this policy."""
        if self.moment == "policy":
            raise ValueError(f"bad value {dict(request.arguments)}")
        return Decision(effect=Effect.ALLOW, reason="fine")

    def inspect(self, content: Content) -> list[Finding]:
        """Look at content as this inspector does."""
        if self.moment == content.direction:
            raise ValueError(f"cannot read {content.value}")
        return []


CANARY = "CANARY-4711-hunter2"

# The ways for a value to get near an output. Each gets a world and the canary.


def _plain(world: Any, canary: str) -> None:
    world.tool()(canary, more={"nested": [canary, {canary: canary}]})


def _result(world: Any, canary: str) -> None:
    assert world.enforcer.tool(name="tool")(lambda: {"value": canary})() == {"value": canary}


def _raised(world: Any, canary: str) -> None:
    @world.enforcer.tool(name="tool")
    def tool() -> None:
        raise LookupError(canary)

    with pytest.raises(LookupError):
        tool()


def _raised_in_stream(world: Any, canary: str) -> None:
    @world.enforcer.tool(name="tool")
    def stream() -> Generator[str]:
        yield canary
        raise LookupError(canary)

    @world.enforcer.tool(name="tool")
    async def astream() -> AsyncGenerator[str]:
        yield canary
        raise LookupError(canary)

    async def collect() -> list[str]:
        return [item async for item in astream()]

    with pytest.raises(LookupError):
        list(stream())
    with pytest.raises(LookupError):
        asyncio.run(collect())


def _raised_in_task(world: Any, canary: str) -> None:
    with pytest.raises(LookupError), world.task(OPEN):
        raise LookupError(canary)


def _refused(world: Any, canary: str) -> None:
    with world.task(Scope("tool", x="other")), pytest.raises(OutOfScope) as caught:
        world.tool()(canary)
    assert canary not in chain_of(caught.value)


def _granted(world: Any, canary: str) -> None:
    """What the scope itself names is in the grant, by design; the refusal and the records of calls hold none of it."""
    with world.task(Scope("tool", x=Range(max=5))), pytest.raises(OutOfScope) as caught:
        world.tool()(canary)
    assert canary not in chain_of(caught.value)


def _malformed(world: Any, canary: str) -> None:
    for value in ([canary, float("nan")], {canary: 2**63}, canary + "\ud800", {"a": {canary: {"b": 10**400}}}):
        with pytest.raises(Denied) as caught:
            world.tool()(value)
        assert canary not in chain_of(caught.value)


def _unbound(world: Any, canary: str) -> None:
    with pytest.raises(TypeError) as caught:
        world.enforcer.tool(name="tool")(lambda x: x)(y=canary)
    assert canary not in str(caught.value)


def _opaque(world: Any, canary: str) -> None:
    class Connection:
        def __repr__(self) -> str:
            return canary

        __str__ = __repr__

    world.tool()(Connection(), more=canary.encode(), last={canary, 5})


def _action(world: Any, canary: str) -> None:
    with world.enforcer.action("tool", x=canary) as call:
        call.result = canary
    assert canary not in repr(call) + str(call)


def _routed(world: Any, canary: str) -> None:
    """The handler of a route gets the value, and its result and error stay out as well."""
    guard = world.enforcer.guard("tool")
    call = guard.judge(CallRequest({"x": canary}))
    guard.fail(call, LookupError(canary))


def _nested_names(world: Any, canary: str) -> None:
    """Names inside of arguments are values; only the names of arguments themselves are shown."""
    world.tool()({canary: {canary + "2": 1}}, more=[{canary: None}])


def _state(world: Any, canary: str) -> None:
    """What processes share holds counts under limits, revocations and used proofs, and no value."""
    limits = (Limit.uses("tool", 5), Limit.rate("tool", 5, per=timedelta(minutes=1)))
    with world.task(OPEN, limits=limits):
        world.tool()(canary)
    world.enforcer.revoke("human", "mallory@example.com", reason="left")


def _headers(world: Any, canary: str) -> None:
    """The proof of a call says its arguments to the service that is called, which gets them anyway; grants say none."""
    call: dict[str, Any] = {"tool": "tool", "arguments": {"x": canary}}
    shown = world.enforcer.present(Peer("here"), **call)
    for text in (*shown.tokens, shown.onward or "", repr(shown)):
        assert canary not in text
        assert not any(canary.encode() in b64url_decode(piece) for piece in text.split(".") if piece.isascii())
    with world.enforcer.receive(shown, audience="here", **call):
        world.tool()(canary)


def _chain(world: Any, canary: str) -> None:
    """A delegated agent's calls are recorded with the chain, and not with what they got."""
    with world.enforcer.delegate(Agent("helper", owner="it"), scope=OPEN):
        world.tool()(canary)


def _baggage(world: Any, canary: str) -> None:
    """Baggage that others set is not copied, and nothing of a call is put into it."""
    token = otel.attach(baggage.set_baggage("session", canary))
    try:
        world.tool()(canary)
        assert dict(baggage.get_all()) == {"session": canary}
    finally:
        otel.detach(token)


def _attributes(world: Any, canary: str) -> None:
    """What the application itself writes on spans is its own; nothing of that is in what we sign or keep."""
    provider = TracerProvider()
    with provider.get_tracer("app").start_as_current_span("app", attributes={"secret": canary}):
        world.tool()(canary)


def _stamped(world: Any, canary: str) -> None:
    """Spans of other libraries that start in a task get its principal and agent, and nothing of any call."""
    stamp_spans(world.provider)

    @world.enforcer.tool(name="tool")
    def tool(x: str) -> str:
        world.provider.get_tracer("another.library").start_span("inside").end()
        raise LookupError(x)

    with pytest.raises(LookupError):
        tool(canary)
    stamped = [span for span in world.exporter.get_finished_spans() if span.name == "inside"]
    assert [span.attributes["user.id"] for span in stamped] == ["alice@example.com"]


def _borrowed(world: Any, canary: str) -> None:
    """The span of another library that gets the record of a call gets no more of it than one of ours."""
    theirs = world.provider.get_tracer("another.library")
    attributes = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "tool"}

    @world.enforcer.tool(name="tool")
    def tool(x: str) -> str:
        raise LookupError(x)

    with theirs.start_as_current_span("execute_tool tool", attributes=attributes):
        world.tool()(canary)
    with theirs.start_as_current_span("execute_tool tool", attributes=attributes), pytest.raises(LookupError):
        tool(canary)
    borrowed = [s for s in world.exporter.get_finished_spans() if s.instrumentation_scope.name == "another.library"]
    assert [span.attributes["agent_identity.outcome"] for span in borrowed] == ["success", "error"]


def _disclosable(world: Any, canary: str) -> None:
    """Arguments that can be shown later are commitments until somebody shows them."""
    point = dataclasses.replace(world.enforcer._enforcement, disclosable=True)
    guard = GuardedCall(Guard(point, world.enforcer.guard("tool").tool))
    guard.succeed(guard.judge(CallRequest({"x": canary})), canary)


PLACES = [
    _plain,
    _result,
    _raised,
    _raised_in_stream,
    _raised_in_task,
    _refused,
    _granted,
    _malformed,
    _unbound,
    _opaque,
    _action,
    _routed,
    _nested_names,
    _state,
    _headers,
    _chain,
    _baggage,
    _attributes,
    _stamped,
    _borrowed,
    _disclosable,
]
"""Arguments, results, exceptions, names, state, headers, chain, baggage, log, spans of ours, of others, checkpoints."""


REFUSING = (_refused, _granted, _malformed)  # In monitor mode nothing is refused.
CASES = [(place, "enforce") for place in PLACES] + [(place, "monitor") for place in PLACES if place not in REFUSING]


@pytest.mark.parametrize(("place", "mode"), CASES, ids=lambda case: getattr(case, "__name__", case))
def test_ac_102_values_stay_inside(
    open_world: Any, place: Callable[[Any, str], None], mode: str, caplog: pytest.LogCaptureFixture, capfd: Any
) -> None:
    """By default no argument, result or exception text is in ledger, spans, logs, what commands say or our errors."""
    world = open_world(mode=mode)
    with caplog.at_level(logging.DEBUG), world.task(OPEN):
        place(world, CANARY)
    printed = capfd.readouterr()
    texts = [("log", caplog.text), ("stdout", printed.out), ("stderr", printed.err)]
    texts += [*told(world, capfd), *outputs(world)]
    assert {"checkpoint", "OTLP", "show --json", "log"} <= {name for name, _ in texts}
    assert [name for name, text in texts if CANARY in text or "hunter2" in text] == []
    assert len(texts) > 5


@pytest.mark.parametrize("moment", ["policy", "input", "output"])
def test_ac_102_what_plug_ins_raise_is_not_quoted(
    open_world: Any, moment: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A policy or inspector that fails with the content in its message gives it to nobody."""
    leaks = Leaks(moment)
    world = open_world(policy=leaks, inspectors=[leaks])
    with caplog.at_level(logging.DEBUG), world.task(OPEN), pytest.raises(Denied) as caught:
        world.tool()(CANARY)
    assert CANARY not in chain_of(caught.value)
    assert caught.value.__cause__ is None
    assert [name for name, text in [*outputs(world), ("log", caplog.text)] if CANARY in text] == []


@pytest.mark.parametrize("part", ["append", "digest"])
def test_ac_102_a_failing_ledger_quotes_nothing(
    world: Any, part: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Also while evidence fails, in calls that raise, the logs and errors hold no value."""

    @world.enforcer.tool(name="tool")
    def tool(x: str) -> None:
        target = world.enforcer._enforcement.ledger if part == "append" else world.enforcer._enforcement.digests
        monkeypatch.setattr(type(target), part, _fail)
        raise LookupError(x)

    def _fail(*_: object, **__: object) -> None:
        raise EvidenceError("disk full")

    with caplog.at_level(logging.DEBUG), pytest.raises(LookupError), world.task(OPEN):
        tool(CANARY)
    assert CANARY not in caplog.text


def test_ac_102_names_are_shown_and_values_not(world: Any) -> None:
    """Records show the names and kinds of arguments, which is what an auditor may see by default."""
    with world.task(OPEN):
        world.tool()(CANARY, amount=5, to=["a"])
    (intent,) = world.records("intent")
    assert intent["action"]["names"] == ["amount:number", "to:array", "x:string"]


def test_ac_102_private_keys_stay_in_their_files(world: Any, caplog: pytest.LogCaptureFixture) -> None:
    """No key is in ledger, log, spans, representations or errors; the grant itself is only in the evidence."""
    with caplog.at_level(logging.DEBUG), world.task(OPEN) as task:
        world.tool()(1)
    shown = "".join(map(repr, (task, task.grant, task.chain, world.enforcer, world.enforcer._tasks.issuer)))
    texts = [text for _, text in outputs(world)] + [shown, caplog.text]
    for path in (world.directory / "keys").glob("[!.]*"):
        data = path.read_bytes()
        for piece in {data.hex(), data.decode("latin-1").strip(), base64.b64encode(data).decode()}:
            assert all(piece not in text for text in texts)
    assert task.grant.token not in shown + caplog.text


# ---------------------------------------------------------------------------------------- baggage


def test_ac_103_no_identity_goes_out_in_headers(world: Any) -> None:
    """What is injected into outgoing requests during a call is the trace context alone: no baggage, nobody's name."""
    propagator = CompositePropagator([TraceContextTextMapPropagator(), W3CBaggagePropagator()])
    carriers: list[dict[str, str]] = []

    @world.enforcer.tool(name="tool")
    def tool() -> None:
        carrier: dict[str, str] = {}
        propagator.inject(carrier)
        propagate.inject(carrier)
        carriers.append(carrier)
        assert baggage.get_all() == {}

    with world.task(OPEN):
        propagator.inject(outside := {})
        carriers.append(outside)
        tool()
        with world.enforcer.delegate(Agent("helper", owner="it"), scope=OPEN):
            tool()
    assert len(carriers) == 3
    for carrier in carriers:
        assert set(carrier) == {"traceparent"}
        assert not any(name in str(carrier) for name in ("alice", "clerk", "helper", "purpose"))


def test_ac_103_the_context_holds_no_text_of_ours(world: Any) -> None:
    """The task travels as an object that only this process can use, not as text that a propagator could send."""
    with world.task(OPEN) as task:
        assert [value for value in otel.get_current().values() if isinstance(value, str | bytes | dict)] == []
        assert task in otel.get_current().values()


# ------------------------------------------------------------------------------------- log injection

FORGED = [
    'x\n{"mac":"' + "A" * 43 + '","record":{}}\n',
    'x\n{"detail":{},"mac":"' + "A" * 43 + '","record":{}}\n',
    '"}\n{"kind":"outcome","outcome":"success"}',
    "\r\n\r\nHTTP/1.1 200 OK",
    "\x1b[2J\x1b[1;1Hok",
    "\x00\x07\x08\x7f",
    "\u2028\u2029\u202e\ufeff",
    '","outcome":"success","x":"',
]


@pytest.mark.parametrize("text", FORGED, ids=ascii)
def test_ac_104_text_from_outside_forges_no_line(world: Any, text: str, caplog: pytest.LogCaptureFixture) -> None:
    """Wherever hostile text can stand, there is one record per line, and no control character in ledger or log."""
    error = type("Error", (Exception,), {})
    error.__name__ = text.replace("\x00", "")

    @world.enforcer.tool(name="tool")
    def tool(x: object = None, **more: object) -> None:
        raise error(text)

    with caplog.at_level(logging.DEBUG), world.task(OPEN):
        with pytest.raises(error):
            tool(text)
        # A printable name is a name like any other; every other one is refused.
        with pytest.raises(error if text.isprintable() else Denied) as caught:
            tool(**{text: 1})
        assert str(caught.value).isprintable()
        guard = world.enforcer.guard("tool")
        guard.succeed(guard.judge(CallRequest({}, call_id=text)))
        if not text.isprintable():
            opening = {"principal": Human("alice"), "agent": Agent("a", owner="o"), "scope": OPEN}
            if " ".join(text.split()).isprintable():  # Line breaks are folded.
                with world.enforcer.task(text, **opening) as folded:
                    assert folded.purpose.isprintable()
            else:
                with pytest.raises(ValueError, match="purpose"):
                    world.enforcer.task(text, **opening)
            with pytest.raises(ValueError, match="name of a tool"):
                world.enforcer.action(text)
            with pytest.raises(ValueError, match=r".+"):
                Human(text)
    _one_record_a_line(world.directory)
    assert all(line.isprintable() for line in caplog.text.splitlines())
    second = "error" if text.isprintable() else "denied"
    assert [r["outcome"] for r in world.records("outcome")] == ["error", second, "success"]


def _one_record_a_line(directory: Path) -> None:
    for path in directory.glob("ledger/*/entries.jsonl"):
        data = path.read_bytes()
        assert not set(data) & set(range(32)) - {10}
        lines = data.split(b"\n")
        assert lines.pop() == b""
        for number, line in enumerate(lines, 1):
            assert line.startswith(b'{"mac":"')
            record = json.loads(line)["record"]
            check_record(record)
            assert record["stream"]["seq"] == str(number)


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Any:
    directory = tmp_path_factory.mktemp("fuzzed") / "evidence"
    with Enforcer.open(directory) as enforcer:
        yield enforcer, directory


@given(name=st.text(st.characters(), max_size=20), value=st.text(st.characters(), max_size=40))
def test_ac_104_any_text_is_one_line_at_most(fuzzed: Any, name: str, value: str) -> None:
    """Any name and any value of an argument leave well-formed lines, and any refusal is one printable line."""
    enforcer, directory = fuzzed

    @enforcer.tool(name="tool")
    def tool(**arguments: object) -> object:
        return arguments

    with enforcer.task("p", principal=Human("alice"), agent=Agent("a", owner="o"), scope=OPEN):
        fine = name.isprintable() and len(name) > 0 and _is_text(value)
        with contextlib.nullcontext() if fine else pytest.raises(Denied) as caught:
            tool(**{name: value})
        assert fine or str(caught.value).isprintable()
    path = next(directory.glob("ledger/*/entries.jsonl"))
    last = path.read_bytes().split(b"\n")[-4:-1]
    for line in last:
        check_record(json.loads(line)["record"])


def _is_text(value: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in value)


def test_ac_104_reasons_of_policies_are_one_line(open_world: Any) -> None:
    """The reason that a rule gives stands in errors and records as it was checked: one printable line."""
    world = open_world(policy=RuleSet(Rule(Effect.BLOCK, reason="over the limit", id="r")))
    with world.task(OPEN), pytest.raises(Denied) as caught:
        world.tool()("x\ny")
    assert str(caught.value) == "tool: blocked by rule 'r': over the limit"


# --------------------------------------------------------------------------------------------- digests


def _digests(world: Any, amount: int) -> tuple[str, str]:
    @world.enforcer.tool(name="tool")
    def tool(amount: int) -> int:
        return amount

    with world.task(OPEN):
        tool(amount)
    outcome = world.records("outcome")[-1]
    return outcome["action"]["args"], outcome["action"]["result"]


def test_ac_105_a_dictionary_does_not_reverse_a_digest(world: Any) -> None:
    """Trying every amount, plain, or keyed with anything that is public, finds nothing."""
    args, result = _digests(world, 100)
    assert is_digest(args)
    wanted = {args, result}
    record = world.records("outcome")[-1]
    public = [
        b"",
        record["task"]["id"].encode(),
        record["stream"]["id"].encode(),
        record["chain"][0]["grant"].encode(),
        b64url_decode(record["chain"][0]["grant"]),
        record["principal"]["id"].encode(),
        (world.directory / "trust.json").read_bytes(),
        b"\0" * 32,
    ]
    for amount in range(1_000):
        for data in (encode({"amount": amount}), encode(amount), f'{{"amount": {amount}}}'.encode()):
            found = {digest_of(data)} | {b64url_encode(hmac.digest(key, data, "sha256")) for key in public}
            assert not found & wanted


def test_ac_105_equal_values_are_comparable_in_a_task_only(world: Any) -> None:
    """Within a task equal arguments have equal digests, for correlation; across tasks they have not."""
    tool = world.tool()
    with world.task(OPEN):
        for value in (100, 100, 101):
            tool(value)
    with world.task(OPEN):
        tool(100)
    digests = [record["action"]["args"] for record in world.records("intent")]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3


def test_ac_105_the_key_is_what_opens_a_digest(world: Any) -> None:
    """An auditor who is given the task's key checks a disclosed argument; the file is closed to everyone else."""
    args, _ = _digests(world, 100)
    path = world.directory / "keys" / "digests.jsonl"
    assert path.stat().st_mode & 0o777 == 0o600
    task = world.records("outcome")[-1]["task"]["id"]
    (key,) = [json.loads(line)["key"] for line in path.read_text().splitlines() if json.loads(line)["id"] == task]
    assert args == b64url_encode(hmac.digest(b64url_decode(key), encode({"amount": 100}), "sha256"))


def test_ac_105_calls_outside_any_task_have_keyed_digests_as_well(world: Any) -> None:
    """A refused call without a task is digested under the key of the stream."""
    tool = world.tool()
    for value in (100, 100):
        with world.refused("no_task", chain=None):
            tool(value)
    first, second = world.records("outcome")
    assert first["action"]["args"] == second["action"]["args"]
    assert first["action"]["args"] != digest_of(encode({"x": 100}))


def _guessed(path: Path, candidates: Iterator[tuple[bytes, list[bytes]]]) -> set[str]:
    """Return which low-entropy arguments a dictionary attack finds, with every key that the file still has."""
    stored = [json.loads(line)["key"] for line in path.read_text().splitlines()]
    keys = [b64url_decode(key) for key in stored if is_digest(key)]
    found = set()
    for data, parts in candidates:
        for key in [*keys, b"", b"\0" * 32, b"-" * 32]:
            found |= {b64url_encode(hmac.digest(key, data, "sha256")), commit(Mac(key), parts)}
    return found


@pytest.mark.parametrize("disclosable", [False, True])
def test_ac_105_after_erasure_the_directory_does_not_help(open_world: Any, disclosable: bool) -> None:
    """Whoever has the whole directory finds an amount by trying all; after the erasure nobody does, and it verifies."""
    world = open_world(privacy=Privacy(disclosable=disclosable))
    tool = world.enforcer.tool(name="tool")(lambda amount: None)
    with world.task(OPEN) as task:
        tool(100)
    wanted = world.records("outcome")[0]["action"]["args"]
    path = world.directory / "keys" / "digests.jsonl"

    def guessed() -> set[str]:
        amounts = ((encode({"amount": n}), [part("amount", n)]) for n in range(200))
        return _guessed(path, amounts)

    assert wanted in guessed()
    erased = erase(
        world.directory,
        "task",
        task.id,
        ledger=world.enforcer._enforcement.ledger,
        clock=world.clock,
        by="dpo@example.com",
    )
    assert (erased.tasks, erased.keys) == (1, 1)
    assert wanted not in guessed()
    (record,) = world.records("erasure")
    assert (record["id"], record["erasure"]) == (erased.record, {"key": task.id, "by": "dpo@example.com"})
    world.enforcer.close()
    assert Verifier(world.directory / "trust.json").ledger(world.directory).verdict == "verified"


def test_ac_105_a_shown_argument_opens_no_other(open_world: Any) -> None:
    """An auditor with the file of one argument finds neither the other ones of the call nor those of other calls."""
    world = open_world(privacy=Privacy(disclosable=True))
    tool = world.enforcer.tool(name="tool")(lambda amount, code: None)
    with world.task(OPEN):
        tool(100, 7)
        tool(100, 8)
    world.enforcer._enforcement.ledger.seal()
    first, second = world.records("outcome")
    data = disclose(world.directory, first["id"], {"amount": 100, "code": 7}, names=["amount"])
    assert Verifier(world.directory / "trust.json").disclosure(data, ledger=world.directory).arguments == {
        "amount": 100
    }
    file = json.loads(data)["disclosure"]["arguments"]
    (salt,) = [b64url_decode(entry["salt"]) for entry in file if "salt" in entry]
    (hidden,) = [b64url_decode(entry["hash"]) for entry in file if "hash" in entry]
    tried = {leaf(salt, part("code", n)) for n in range(100)} | {
        hashlib.sha256(part("code", n)).digest() for n in range(100)
    }
    assert hidden not in tried
    for n in range(100):
        leaves = [leaf(salt, part("amount", 100)), leaf(salt, part("code", n))]
        assert second["action"]["args"] != root(leaves)


# ---------------------------------------------------------------------------- what cannot be serialised


class Hostile:
    """Fails at everything that a serialiser might try."""

    def __getattribute__(self, name: str) -> Any:
        if name in ("__class__", "__dict__"):
            return object.__getattribute__(self, name)
        raise RuntimeError("touched")

    def _fail(self, *_: object) -> Any:
        raise RuntimeError("touched")

    __repr__ = __str__ = __bool__ = __iter__ = __len__ = __eq__ = __hash__ = __reduce_ex__ = _fail
    __getitem__ = __copy__ = __deepcopy__ = __index__ = __float__ = _fail


OPAQUE = [object(), {1, 2}, b"bytes", bytearray(b"x"), range(3), lambda: None, Hostile(), (1, object()), {1: 2}, 1j]


@pytest.mark.parametrize("value", OPAQUE, ids=lambda value: type(value).__name__)
def test_ac_106_what_cannot_be_serialised_is_recorded_as_opaque(world: Any, value: object) -> None:
    """The call is decided as usual and runs with the very object; the record says opaque, and nothing touched it."""
    tool = world.tool()
    with world.task(OPEN):
        assert tool(value, amount=5) is value
    intent, outcome = world.records("intent", "outcome")
    assert intent["action"]["names"] == ["amount:number", "x:opaque"]
    assert outcome["outcome"] == "success"
    assert "result" not in outcome["action"]
    with world.task(Scope("tool", x=Range(max=5))), world.refused("argument_out_of_scope", OutOfScope):
        tool(value)


@pytest.mark.parametrize("value", OPAQUE, ids=lambda value: type(value).__name__)
def test_ac_106_a_policy_cannot_be_fooled_by_an_opaque_value(open_world: Any, value: object) -> None:
    """A rule on such an argument cannot be decided: an allow rule never allows, a block rule blocks."""
    for policy, code in (
        (RuleSet(Rule(Effect.ALLOW, when={"args.x": Range(max=5)}), default=Effect.BLOCK), "no_rule_allows"),
        (RuleSet(Rule(Effect.BLOCK, when={"args.x": Range(min=5)})), "rule_error"),
    ):
        world = open_world(policy=policy)
        with world.task(OPEN), world.refused(code):
            world.tool()(value)


def test_ac_106_cycles_are_refused_and_recorded(world: Any) -> None:
    """A value that contains itself has no form to digest: refused, with a record, also as a result."""
    cycle: list[Any] = []
    cycle.append(cycle)
    tool = world.tool()
    with world.task(OPEN):
        with world.refused("bad_arguments", digest=False):
            tool(cycle)
        assert world.enforcer.tool(name="tool")(lambda: cycle)() is cycle
    assert "result" not in world.records("outcome")[-1]["action"]


def test_every_record_of_this_room_has_the_shape_of_a_record(world: Any) -> None:
    """Reading the ledger as an auditor does, every line decodes and is accepted."""
    with world.task(OPEN):
        world.tool()(1)
    world.enforcer.close()
    reader = open_ledger(world.directory)
    (stream,) = reader.streams()
    kinds = []
    for line in reader.entries(stream):
        record = decode_record(line.record)
        check_record(record)
        kinds.append(record["kind"])
    assert kinds == ["stream_start", "grant", "task_start", "intent", "outcome", "task_end", "stream_end"]
