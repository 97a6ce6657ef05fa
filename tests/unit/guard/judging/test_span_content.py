"""Content on spans: only where it was asked for, after redaction, bounded, and never of a withheld result."""

import base64
import io
import json
from typing import Any

import pytest
from google.protobuf.json_format import MessageToJson
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans

from agent_identity import Decision, Effect, Finding, Human, Request, Rule, RuleSet, Scope, Verifier
from agent_identity._guard.judging.span_facts import SpanOptions
from agent_identity._identity.common.ids import is_digest
from agent_identity.adapters import CallRequest
from agent_identity.approvals import Approval
from agent_identity.errors import Denied
from agent_identity.identity import TrustStore
from agent_identity.inspection import Secrets
from agent_identity.policy import Obligation

VARIABLE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
ARGUMENTS, RESULT = "gen_ai.tool.call.arguments", "gen_ai.tool.call.result"
SECRET = "ghp_" + "A1b2C3d4" * 4 + "E5f6"


def span_of(world: Any) -> Any:
    """The attributes of the one span of a call."""
    (span,) = world.spans()
    return span.attributes


class Answers:
    """A policy that answers in one way where something was found in a result."""

    name, version, digest = "answers", "1", "A" * 43

    def __init__(self, effect: Effect, *obligations: Obligation) -> None:
        self.effect, self.obligations = effect, obligations

    def decide(self, request: Request) -> Decision:
        """Allow calls, and answer to findings in results."""
        if request.stage == "call" or not request.findings:
            return Decision(effect=Effect.ALLOW, reason="fine")
        return Decision(effect=self.effect, reason="found", obligations=self.obligations)


@pytest.mark.parametrize("word", [None, "", "NO_CONTENT", "EVENT_ONLY", "true", "1"])
def test_no_span_shows_content_unless_asked(opened: Any, monkeypatch: Any, word: str | None) -> None:
    """Without the words of the conventions that mean spans, no span shows an argument or a result."""
    monkeypatch.delenv(VARIABLE, raising=False)
    if word is not None:
        monkeypatch.setenv(VARIABLE, word)
    world = opened()
    with world.task(Scope("tool")):
        world.enforcer.tool(name="tool")(lambda text: {"said": text})("hello")
    assert not {ARGUMENTS, RESULT} & span_of(world).keys()


@pytest.mark.parametrize("word", ["SPAN_ONLY", "SPAN_AND_EVENT", "span_only"])
def test_the_environment_puts_content_on_spans(opened: Any, monkeypatch: Any, word: str) -> None:
    """The variable of the conventions shows arguments and results; the records have digests all the same."""
    monkeypatch.setenv(VARIABLE, word)
    world = opened()
    with world.task(Scope("tool")):
        world.enforcer.tool(name="tool")(lambda text: {"said": text})("hello")
    attributes = span_of(world)
    assert json.loads(attributes[ARGUMENTS]) == {"text": "hello"}
    assert json.loads(attributes[RESULT]) == {"said": "hello"}
    assert is_digest(attributes["agent_identity.content.args_hash"])
    assert is_digest(attributes["agent_identity.content.result_hash"])
    assert "hello" not in json.dumps(world.records())


@pytest.mark.parametrize(("word", "option"), [("SPAN_ONLY", False), ("NO_CONTENT", True)])
def test_the_option_of_a_tool_counts_more(opened: Any, monkeypatch: Any, word: str, option: bool) -> None:
    """A tool that says whether its spans show content is not asked by the environment."""
    monkeypatch.setenv(VARIABLE, word)
    world = opened()
    with world.task(Scope("tool")):
        world.enforcer.tool(name="tool", content_on_spans=option)(lambda text: text)("hello")
    assert (ARGUMENTS in span_of(world)) is option
    assert (RESULT in span_of(world)) is option


def test_what_was_found_is_replaced_whatever_the_policy_says(opened: Any) -> None:
    """A secret that a policy lets through stands on no span."""
    world = opened(inspectors=[Secrets()])
    with world.task(Scope("tool")):
        result = world.enforcer.tool(name="tool", content_on_spans=True)(lambda text: {"said": text})(f"key {SECRET}!")
    assert result == {"said": f"key {SECRET}!"}
    attributes = span_of(world)
    for name in (ARGUMENTS, RESULT):
        assert SECRET not in attributes[name]
        assert "key [" in attributes[name]


@pytest.mark.parametrize("mode", ["enforce", "monitor"])
@pytest.mark.parametrize("answer", [Answers(Effect.BLOCK), Answers(Effect.ALLOW, Obligation("withhold"))])
def test_no_span_shows_a_withheld_result(opened: Any, answer: Answers, mode: str) -> None:
    """A result that the policy withholds, or would in monitor mode, is on no span."""
    world = opened(inspectors=[Secrets()], policy=answer, mode=mode)
    tool = world.enforcer.tool(name="tool", content_on_spans=True)(lambda: {"head": "quarterly", "key": SECRET})
    with world.task(Scope("tool")):
        if mode == "enforce":
            with pytest.raises(Denied):
                tool()
        else:
            tool()
    attributes = span_of(world)
    assert RESULT not in attributes
    assert "quarterly" not in json.dumps(dict(attributes))


def test_no_span_shows_the_arguments_of_a_refused_call(opened: Any) -> None:
    """A call that did not run shows nothing of what was asked."""
    world = opened()
    with world.task(Scope("other")), pytest.raises(Denied):
        world.enforcer.tool(name="tool", content_on_spans=True)(print)("hello")
    assert not {ARGUMENTS, RESULT} & span_of(world).keys()


def test_content_that_could_not_be_inspected_is_not_shown(opened: Any) -> None:
    """An inspector that fails on the copy for the span costs the content, and not the call."""

    class Tires:
        name, times = "tires", 0

        def inspect(self, content: Any) -> list[Finding]:
            self.times += 1
            if self.times > 3:
                raise ValueError("tired")
            return []

    world = opened(inspectors=[Tires()])
    with world.task(Scope("tool")):
        assert world.enforcer.tool(name="tool", content_on_spans=True)(lambda text: "fine")("hello") == "fine"
    assert RESULT not in span_of(world)


def test_content_is_bounded(opened: Any) -> None:
    """Long content is cut; what is too long to be inspected again is left out."""
    world = opened()
    with world.task(Scope("tool")):
        world.enforcer.tool(name="tool", content_on_spans=True)(lambda text: "y" * (1 << 21))("x" * 100_000)
    attributes = span_of(world)
    assert len(attributes[ARGUMENTS]) == 8_192
    assert attributes[ARGUMENTS].endswith("…")
    assert RESULT not in attributes


def test_what_the_framework_injects_is_not_shown(opened: Any) -> None:
    """Only what the caller of a tool wrote is content; a runtime object is none."""
    world = opened()
    guard = world.enforcer.guard("tool", spans=SpanOptions("Looks\n it   up.", content=True))
    with world.task(Scope("tool")):
        request = CallRequest({"q": "hello", "token": "s3cret", "handle": object()}, ("q", "handle"), ("token",))
        guard.run(request, lambda call: None)
    attributes = span_of(world)
    assert json.loads(attributes[ARGUMENTS]) == {"q": "hello"}
    assert attributes["gen_ai.tool.description"] == "Looks it up."
    assert RESULT not in attributes


def test_a_long_description_is_cut(opened: Any) -> None:
    """A server may describe its tool at any length; a span has 512 characters of it."""
    world = opened()
    with world.task(Scope("tool")):
        world.enforcer.guard("tool", spans=SpanOptions("x" * 5_000)).run(CallRequest({}), lambda call: None)
    assert len(span_of(world)["gen_ai.tool.description"]) == 512


def test_the_person_who_approved_stands_on_the_span(opened: Any) -> None:
    """The span of an approved call names the approval and the person; that of a rejected one names no approver."""
    policy = RuleSet(Rule(Effect.ROUTE, tools="tool", reason="a person decides", id="ask", to="desk"))
    bob, asked = Human("bob@example.com"), list[object]()

    def ask(request: Any) -> Any:
        asked.append(request)
        return request.approve(by=bob) if len(asked) == 1 else request.reject(by=bob)

    world = opened(policy=policy, routes={"desk": Approval(ask=ask)})
    tool = world.enforcer.tool(name="tool")(lambda: "done")
    with world.task(Scope("tool")):
        tool()
        with pytest.raises(Denied):
            tool()
    approved, rejected = (span.attributes for span in world.spans())
    assert approved["agent_identity.approval.approver"] == "bob@example.com"
    assert approved["agent_identity.approval.id"] == world.records("approval")[0]["approval"]["id"]
    assert "agent_identity.approval.approver" not in rejected


def test_verify_names_what_no_record_states(opened: Any) -> None:
    """Content, description and foreign attributes are reported as not verified; a claimed approver contradicts."""
    world = opened()
    with world.task(Scope("tool")):
        world.enforcer.tool(name="tool", content_on_spans=True)(lambda text: text)("hello")
    trust = TrustStore.load(world.directory / "trust.json")
    document = json.loads(MessageToJson(encode_spans(world.spans(""))))

    def checked(**more: str) -> Any:
        changed = json.loads(json.dumps(document))
        for span in changed["resourceSpans"][0]["scopeSpans"][0]["spans"]:
            for name in ("traceId", "spanId", "parentSpanId"):
                if name in span:
                    span[name] = base64.b64decode(span[name]).hex()
            if span["name"] == "execute_tool tool":
                span["attributes"] += [{"key": key, "value": {"stringValue": value}} for key, value in more.items()]
        return Verifier(trust).traces(io.BytesIO(json.dumps(changed).encode()))

    report = checked(**{"app.note": "x"})
    assert report.verdict == "verified"
    (told,) = [step.detail for step in report.steps if "not verified" in (step.detail or "")]
    assert all(name in told for name in (ARGUMENTS, RESULT, "app.note"))
    assert report.counts["unverified_attributes"] == 3
    claimed = checked(**{"agent_identity.approval.approver": "eve@example.com"})
    assert [finding.code for finding in claimed.findings] == ["field_added"]
