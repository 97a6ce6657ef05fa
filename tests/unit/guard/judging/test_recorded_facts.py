"""What an enforcer records of calls, in intents, outcomes and details, and of its process: each fact that is there."""

import asyncio
import importlib.metadata
import logging
import sys
import threading
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from agent_identity import (
    Agent,
    Decision,
    Denied,
    Effect,
    Enforcer,
    Human,
    Request,
    Rule,
    RuleSet,
    Scope,
    Service,
    Verifier,
    records,
)
from agent_identity._directory import rotation
from agent_identity._directory.erasure import erase
from agent_identity._guard.calls import process_facts
from agent_identity._guard.judging.call_facts import RESOURCES
from agent_identity._identity.common.ids import is_digest
from agent_identity._identity.trust.certificates import trusted_certificate
from agent_identity._ledger.beginning import Beginning
from agent_identity._record.parts import Resource
from agent_identity._record.schema import OfTask
from agent_identity.adapters import CallRequest
from agent_identity.approvals import Approval, ApprovalRequest, ask_in_the_terminal
from agent_identity.constraints import AnyOf, Exact, OneOf, Prefix, Range
from agent_identity.errors import AttenuationError, ConfigurationError
from agent_identity.identity import Certificate, FileVersion, RandomIds, SigningKey, SystemClock, TrustedKey, TrustStore
from agent_identity.options import Ledger, Privacy
from agent_identity.policy import Touch

INVOICES = "postgres://db.example.com:5432"
ALICE = Human("alice@example.com", roles=("clerk",))
BOB, CAROL = Human("bob@example.com"), Human("carol@example.com")
HELPER = Agent("helper", owner="it@example.com")
ROUTED = RuleSet(Rule(Effect.ROUTE, tools="pay", to="desk"))


def read(world: Any, *kinds: type) -> list[Any]:
    """Return the records of a world of these kinds, in their order."""
    return [one for one in records.read(world.directory) if not kinds or isinstance(one, kinds)]


def intent_of(world: Any) -> records.Intent:
    """Return the one intent of a world."""
    (intent,) = read(world, records.Intent)
    return intent


def tool(world: Any, name: str = "read", **options: Any) -> Callable[..., object]:
    """Return a guarded function with two parameters."""

    @world.enforcer.tool(name=name, **options)
    def body(invoice_id: object, region: object = "eu") -> object:
        return invoice_id

    return body


# Labels, resources, clauses


def test_labels_of_application_and_operator(opened: Callable[..., Any]) -> None:
    """The intent has the labels that code and policy file state, those that others claim are no facts."""
    world = opened(policy=RuleSet(tools={"re*": {"labels": ["third-party", "slow"]}}))
    guard = world.enforcer.guard("read", labels=["slow", "ledger"])
    with world.task(Scope("read")):
        guard.run(CallRequest({}), lambda _: None)
    assert intent_of(world).action.labels == ("slow", "ledger", "third-party")
    (outcome,) = read(world, records.Outcome)
    assert outcome.action.labels is None


def test_labels_that_no_record_can_hold_are_left_out(opened: Callable[..., Any]) -> None:
    """More labels than a record holds, or longer ones, stop no call."""
    long = f"spiffe://example.org/{'x' * 300}"
    world = opened(policy=RuleSet(tools={"read": {"labels": [f"operator-{n}" for n in range(60)]}}))
    guard = world.enforcer.guard("read", labels=[long, *(f"code-{n}" for n in range(60))])
    with world.task(Scope("read")):
        guard.run(CallRequest({}), lambda _: None)
    labels = intent_of(world).action.labels
    assert labels is not None
    assert len(labels) == 64
    assert long not in labels


def test_a_tool_says_what_it_touches(opened: Callable[..., Any]) -> None:
    """The intent has each resource: a literal name alone, a template with the digest of the filled name."""
    world = opened()
    body = tool(
        world,
        touches=[
            Touch(INVOICES, "{region}/invoices/{invoice_id}", "read", data=["personal"]),
            Touch("s3://archive", "log", "write"),
        ],
    )
    with world.task(Scope("read")):
        body("INV-1")
    filled, literal = intent_of(world).resources or ()
    assert (filled.system, filled.name, filled.access) == (INVOICES, "{region}/invoices/{invoice_id}", "read")
    assert filled.data == ("personal",)
    assert filled.digest is not None
    assert literal == Resource(system="s3://archive", name="log", access="write")
    assert not any("INV-1" in str(records.as_dict(record)) for record in read(world))


def test_one_resource_is_one_digest_in_all_tasks(opened: Callable[..., Any]) -> None:
    """Two tasks, tools, templates and enforcers of a directory name one resource alike, and others otherwise."""
    world = opened()
    one = tool(world, "one", touches=Touch(INVOICES, "{region}/{invoice_id}", "read"))
    two = tool(world, "two", touches=Touch(INVOICES, "eu/INV-{invoice_id}", "delete"))
    other = tool(world, "other", touches=Touch("mysql://db", "{region}/{invoice_id}", "read"))
    for call, value in ((one, "INV-1"), (two, 1), (one, "INV-2"), (other, "INV-1")):
        with world.task(Scope("one") | Scope("two") | Scope("other")):
            call(value)
    world.enforcer.close()
    with (
        Enforcer.open(world.directory) as again,
        again.task("again", principal=ALICE, agent=HELPER, scope=Scope("one")),
    ):
        again.guard("one", touches=Touch(INVOICES, "{where}/INV-1", "write")).run(
            CallRequest({"where": "eu"}), lambda _: None
        )
    found = [intent.resources[0].digest for intent in read(world, records.Intent)]
    assert found[0] == found[1] == found[4]
    assert len(set(found)) == 3
    assert None not in found


@pytest.mark.parametrize(
    "value",
    [None, True, 1.5, ["a"], {"a": 1}, object(), "x" * 9_000],
    ids=["null", "true", "fraction", "array", "object", "opaque", "long"],
)
def test_what_does_not_fill_a_name_has_no_digest(opened: Callable[..., Any], value: object) -> None:
    """A value without one spelling leaves the template alone, and the call runs."""
    world = opened()
    body = tool(world, touches=Touch(INVOICES, "invoices/{invoice_id}", "read"))
    with world.task(Scope("read")):
        body(value)
    (resource,) = intent_of(world).resources or ()
    assert (resource.name, resource.digest) == ("invoices/{invoice_id}", None)


def test_a_refused_call_says_in_its_detail_what_it_would_have_touched(opened: Callable[..., Any]) -> None:
    """The detail of a refused call has names, resources, labels and roles; its outcome commits to it, and says none."""
    world = opened()
    body = tool(world, labels=["third-party"], touches=Touch(INVOICES, "invoices/{invoice_id}", "read"))
    with world.task(Scope("read", invoice_id="INV-1"), principal=ALICE), pytest.raises(Denied) as caught:
        body("INV-2")
    (detail,), (outcome,) = world.details(), read(world, records.Outcome)
    assert outcome.id == caught.value.reference
    assert is_digest(outcome.detail)
    assert (outcome.action.names, outcome.action.labels, outcome.principal.roles) == (None, None, None)
    assert detail.names == ("invoice_id:string", "region:string")
    assert detail.labels == ("third-party",)
    assert detail.roles == ("clerk",)
    assert [(one.name, one.digest is not None) for one in detail.resources or ()] == [("invoices/{invoice_id}", True)]
    assert read(world, records.Intent) == []


def test_the_digests_of_resources_end_with_their_key(opened: Callable[..., Any]) -> None:
    """Erasing the key of resources is recorded, touches no task, and later calls name the template alone."""
    world = opened()
    body = tool(world, touches=Touch(INVOICES, "invoices/{invoice_id}", "read"))
    with world.task(Scope("read")) as task:
        body("INV-1")
    world.enforcer.close()
    with Enforcer.open(world.directory) as again:
        made = tool(type("W", (), {"enforcer": again}), touches=Touch(INVOICES, "invoices/{invoice_id}", "read"))
        ledger, digests = again._enforcement.ledger, again._enforcement.digests
        done = erase(world.directory, "resources", RESOURCES, ledger=ledger, clock=SystemClock(), by="tester")
        assert (done.keys, done.tasks) == (1, 1)
        with again.task("again", principal=ALICE, agent=HELPER, scope=Scope("read")):
            made("INV-1")
        assert digests.count([task.id]) == 1
        again_done = erase(world.directory, "resources", RESOURCES, ledger=ledger, clock=SystemClock(), by="tester")
        assert (again_done.keys, again_done.record) == (0, None)
    before, after = (intent.resources[0] for intent in read(world, records.Intent))
    assert (before.digest is not None, after.digest, after.name) == (True, None, "invoices/{invoice_id}")
    (erasure,) = read(world, records.Erasure)
    assert erasure.erasure.key == RESOURCES


def test_resources_are_recorded_on_an_event_loop(opened: Callable[..., Any]) -> None:
    """The first call that needs the key of resources makes it off the loop, and each call has its digest."""
    world = opened()

    @world.enforcer.tool(touches=Touch(INVOICES, "invoices/{invoice_id}", "read"))
    async def fetch(invoice_id: str) -> str:
        return invoice_id

    async def main() -> None:
        async with world.task(Scope("fetch")):
            await fetch("INV-1")
            await fetch("INV-1")

    asyncio.run(main())
    digests = {intent.resources[0].digest for intent in read(world, records.Intent)}
    assert len(digests) == 1
    assert None not in digests


def test_a_placeholder_that_is_no_parameter_is_an_error_at_declaration(world: Any) -> None:
    """Whatever the kind of function; a function of any keywords takes any."""
    touch = Touch(INVOICES, "invoices/{number}", "read")
    with pytest.raises(ConfigurationError, match="'number'"):
        tool(world, touches=touch)

    def method(self: object, invoice_id: str) -> None: ...

    method.__qualname__ = "Desk.method"
    with pytest.raises(ConfigurationError, match="'self'"):
        world.enforcer.tool(touches=Touch(INVOICES, "invoices/{self}", "read"))(method)

    @world.enforcer.tool(touches=touch)
    def anything(**more: object) -> int:
        return len(more)

    with world.task(Scope("anything")):
        assert anything(number=1) == 1


def test_touches_is_checked_at_declaration(world: Any) -> None:
    """Something else than a touch, or a list of such, is a type error where the tool is declared."""
    for wrong in ("x", 5, ["x"], {"a": 1}):
        with pytest.raises(TypeError, match="touches"):
            world.enforcer.guard("read", touches=wrong)
    with pytest.raises(ValueError, match="at most 64"):
        world.enforcer.guard("read", touches=[Touch("file", f"/{n}", "read") for n in range(65)])


def test_labels_of_resources_are_labels_of_the_data(opened: Callable[..., Any]) -> None:
    """A rule on data sees the labels of resources where those of the tool are stated; alone they leave it unknown."""
    blocking = opened(policy=RuleSet(Rule(Effect.BLOCK, when={"data.labels": {"contains": ["restricted"]}})))
    codes = []
    for data in ([], None):
        for label in ("restricted", "public"):
            body = tool(blocking, f"t{len(codes)}", data=data, touches=Touch("file", "/x", "read", data=[label]))
            with blocking.task(Scope(f"t{len(codes)}")):
                try:
                    body(1)
                    codes.append("ran")
                except Denied as denied:
                    codes.append(denied.code)
    assert codes == ["policy_blocks", "ran", "rule_error", "rule_error"]


def test_the_pseudonym_of_a_workflow_is_looked_up_off_the_event_loop(opened: Callable[..., Any]) -> None:
    """The file of pseudonyms is read each time, since an erasure must not be outlived; a loop does not wait for it."""
    threads = list[int]()

    def workflow() -> str:
        threads.append(threading.get_ident())
        return "thread-of-alice"

    world = opened(privacy=Privacy(pseudonyms=True))
    guard = world.enforcer.guard("tool", workflow=workflow)

    async def main() -> None:
        async with world.task(Scope("tool")):
            await guard.run_async(CallRequest({}), lambda _: 1)

    asyncio.run(main())
    assert threading.get_ident() not in threads
    (intent,) = read(world, records.Intent)
    assert "alice" not in intent.workflow
    assert world.enforcer._enforcement.pseudonyms.name_of(intent.workflow) == ("workflow", "thread-of-alice")


def test_clauses_name_the_branch_that_allowed_an_argument(opened: Callable[..., Any]) -> None:
    """By argument, in the words of the grant, without a value; a tool that the scope leaves open has none."""
    world = opened()
    scope = Scope("read", invoice_id=AnyOf(Exact("INV-1"), Prefix("INV-")), region=OneOf("us", "eu")) | Scope("open")
    with world.task(scope):
        tool(world)("INV-7")
        tool(world, "open")("INV-7")
    closed, left_open = read(world, records.Intent)
    assert closed.clauses == ("invoice_id:any.prefix", "region:one_of")
    assert left_open.clauses is None


def test_monitor_mode_names_only_what_allowed(opened: Callable[..., Any]) -> None:
    """A call that runs in spite of its scope, or outside any task, has the clauses of what is within it."""
    world = opened(mode="monitor")
    with world.task(Scope("read", invoice_id=Range(max=3), region="eu")):
        tool(world)(7)
    tool(world)(7)
    inside, outside = read(world, records.Intent)
    assert inside.clauses == ("region:exact",)
    assert outside.clauses is None


# Workflow and models


def test_an_adapter_names_the_workflow(opened: Callable[..., Any]) -> None:
    """The intent, and the detail of a refused call, name the run of the framework; what is no name is left out."""
    world = opened()
    names = iter(["thread-1", "thread-2", "", None, "x\n"])
    guard = world.enforcer.guard("read", workflow=lambda: next(names))
    refused = world.enforcer.guard("other", workflow=lambda: "thread-3")
    with world.task(Scope("read")):
        for _ in range(5):
            guard.run(CallRequest({}), lambda _: None)
        with pytest.raises(Denied):
            refused.run(CallRequest({}), lambda _: None)
    found = [intent.workflow for intent in read(world, records.Intent)]
    assert found == ["thread-1", "thread-2", None, None, None]
    (detail,) = world.details()
    assert detail.workflow == "thread-3"


def test_a_workflow_that_nobody_can_name_is_left_out(world: Any) -> None:
    """An error of the adapter stops no call."""
    guard = world.enforcer.guard("read", workflow=lambda: 1 / 0)
    with world.task(Scope("read")):
        assert guard.run(CallRequest({}), lambda _: 5) == 5
    assert intent_of(world).workflow is None


def test_a_call_of_a_model_is_no_call_of_a_tool(opened: Callable[..., Any]) -> None:
    """The intent says that a prompt went to a model, the outcome which model completed it."""
    world = opened()
    guard = world.enforcer.guard("chat", kind="model")
    asked, answered = records.Model(name="large", provider="acme"), records.Model(name="large-2026", provider="acme")
    with world.task(Scope("chat")):
        with guard.block(CallRequest({"messages": []}, model=asked)) as call:
            call.model = answered
        with guard.block(CallRequest({"messages": []}, model=records.Model(name="x\n"))) as call:
            call.model = records.Model(name="y", provider="\n")
    (first, second), (one, two) = read(world, records.Intent), read(world, records.Outcome)
    assert (first.action.stage, first.action.model) == ("prompt", asked)
    assert (one.action.stage, one.action.model) == ("completion", answered)
    assert (second.action.model, two.action.model) == (None, records.Model(name="y"))


def test_a_refused_call_of_a_model_names_the_model_that_was_asked(opened: Callable[..., Any]) -> None:
    """No model answered, so the outcome has the prompt's stage and the model that it was for."""
    world = opened()
    asked = records.Model(name="large")
    with world.task(Scope("other")), pytest.raises(Denied):
        world.enforcer.guard("chat", kind="model").run(CallRequest({}, model=asked), lambda _: None)
    (outcome,) = read(world, records.Outcome)
    assert (outcome.action.stage, outcome.action.model) == ("prompt", asked)


# Openings


def test_refused_openings_are_no_calls_of_tools(opened: Callable[..., Any]) -> None:
    """A task that is refused has the stage of an opening and its principal, a delegation that of a delegation."""
    world = opened()

    @world.enforcer.tool
    def nest() -> None:
        with world.enforcer.task("for bob", principal=BOB, agent=HELPER, scope=Scope("read")):
            pass

    with world.task(Scope("nest"), principal=ALICE):
        with pytest.raises(Denied):
            nest()
        with pytest.raises(AttenuationError), world.enforcer.delegate(HELPER, scope=Scope("read")):
            pass
    world.enforcer.revoke("human", "carol@example.com")
    with pytest.raises(Denied), world.task(Scope("read"), principal=CAROL):
        pass
    refused = [one for one in read(world, records.Outcome) if one.action.stage is not None]
    assert [(one.action.stage, one.error) for one in refused] == [
        ("open", "task_in_body"),
        ("delegate", "tool_not_attenuated"),
        ("open", "revoked"),
    ]
    assert refused[0].action.principal.id == "bob@example.com"
    assert refused[2].action.principal.id == "carol@example.com"
    assert {one.principal.roles for one in refused[:2]} == {None}
    assert [detail.roles for detail in world.details()] == [("clerk",), ("clerk",)]


def test_monitor_mode_records_openings_in_both_kinds(opened: Callable[..., Any]) -> None:
    """What would have been refused has an intent with all members, and a short outcome."""
    world = opened(mode="monitor")

    @world.enforcer.tool
    def nest() -> None:
        with world.enforcer.task("for bob", principal=BOB, agent=HELPER, scope=Scope("read")):
            pass

    with world.task(Scope("nest"), principal=ALICE):
        nest()
    (intent,) = [one for one in read(world, records.Intent) if one.action.stage]
    (outcome,) = [one for one in read(world, records.Outcome) if one.action.stage]
    assert (intent.action.stage, intent.principal.roles) == ("open", ("clerk",))
    assert (outcome.intent, outcome.principal.roles, outcome.detail) == (intent.id, None, None)


def test_a_task_names_the_task_whose_body_opened_it(opened: Callable[..., Any]) -> None:
    """Grant and start of a task that a body opens for somebody who is listed name the outer task, nothing else does."""
    world = opened(nested=[BOB])

    @world.enforcer.tool
    def nest() -> str:
        with world.enforcer.task("for bob", principal=BOB, agent=HELPER, scope=Scope("read")) as inner:
            tool(world)("INV-1")
            with world.enforcer.delegate(HELPER, scope=Scope("read")):
                pass
            return inner.id

    with world.task(Scope("nest")) as outer:
        inner = nest()
        with world.task(Scope("nest")):
            pass
    named = [(type(one), one.task.outer) for one in read(world, OfTask) if one.task.id == inner]
    assert [outer_id for kind, outer_id in named if kind in (records.Grant, records.TaskStart)][:2] == [outer.id] * 2
    assert {outer_id for kind, outer_id in named if kind is records.TaskEnd} == {None}
    others = [one for one in read(world, OfTask) if one.task.id != inner]
    assert {one.task.outer for one in others} == {None}


# Approvals and policies


def test_an_approval_names_the_whole_request_and_the_way_of_asking(opened: Callable[..., Any]) -> None:
    """Question and answer have one digest of the request, that of another question differs."""
    world = opened(policy=ROUTED, routes={"desk": Approval(ask=lambda request: request.approve(by=BOB))})
    with world.task(Scope("pay")):
        tool(world, "pay")("INV-1")
        tool(world, "pay")("INV-1")
    found = [(one.approval.status, one.approval.channel) for one in read(world, records.Approval)]
    assert found == [("pending", "function"), ("approved", "function")] * 2
    first, second = ({one.approval.request for one in read(world, records.Approval)[at : at + 2]} for at in (0, 2))
    assert len(first) == len(second) == 1
    assert first != second
    assert None not in first


def test_a_ruling_out_of_the_directory_names_the_request_that_it_answers(opened: Callable[..., Any]) -> None:
    """The digest is the one in the request that the person saw, also where it is rejected."""
    world = opened(policy=ROUTED, routes={"desk": Approval()})
    with world.task(Scope("pay")):
        for decide in ("approve", "reject"):
            with pytest.raises(Denied):
                tool(world, "pay")("INV-1")
            (request,) = world.enforcer.approvals.pending()
            with world.enforcer.no_task():
                getattr(world.enforcer.approvals, decide)(request.id, by=BOB)
            expected = nullcontext() if decide == "approve" else pytest.raises(Denied, match="rejected")
            with expected:
                tool(world, "pay")("INV-1")
            asked = [one.approval for one in read(world, records.Approval) if one.approval.id == request.id]
            assert {one.request for one in asked} == {request.digest}
            assert {one.channel for one in asked} == {"directory"}
            assert [one.status for one in asked] == ["pending", "approved" if decide == "approve" else "rejected"]


class _Slack:
    channel = "slack"

    def __call__(self, request: ApprovalRequest) -> Any:
        return request.approve(by=BOB)


class _Loud(_Slack):
    channel = "#Approvals"


@pytest.mark.parametrize(
    ("desk", "channel"),
    [
        (Approval(), "directory"),
        (Approval(ask=ask_in_the_terminal(BOB)), "terminal"),
        (Approval(ask=lambda request: request.approve(by=BOB)), "function"),
        (Approval(ask=lambda request: request.approve(by=BOB), suspends=(InterruptedError,)), "interrupt"),
        (Approval(ask=_Slack()), "slack"),
        (Approval(ask=_Loud()), "function"),
        (Approval(ask=_Slack(), channel="chat.ops"), "chat.ops"),
    ],
)
def test_each_desk_has_a_channel(desk: Approval, channel: str) -> None:
    """A desk says how it asks, unless the application says it."""
    assert desk.way == channel


@pytest.mark.parametrize("channel", ["", "Slack", "a b", "x" * 65, "1"])
def test_a_channel_is_a_short_word(channel: str) -> None:
    """What no record can hold is an error where the desk is made."""
    with pytest.raises(ValueError, match="channel"):
        Approval(channel=channel)


class _Other:
    name, version, digest = "other", "1", "A" * 43

    def decide(self, request: Request) -> Decision:
        return RuleSet().decide(request)


@pytest.mark.parametrize(("policy", "engine"), [(RuleSet(), "rules"), (_Other(), "custom")])
def test_the_policy_names_its_engine(opened: Callable[..., Any], policy: Any, engine: str) -> None:
    """Rules of ours and a policy of the application are told apart."""
    (record,) = read(opened(policy=policy), records.Policy)
    assert record.policy.engine == engine


# The process and its certificate


def test_a_stream_says_which_process_it_is_of(opened: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The resource comes from the environment of OpenTelemetry, the frameworks from what is imported already."""
    monkeypatch.setenv("OTEL_SERVICE_NAME", "billing")
    attributes = {
        "service.name": "ignored",
        "service.namespace": "shop",
        "service.version": "3%2E1",
        "service.instance.id": "pod-1",
        "deployment.environment.name": "test",
        "host.name": "node-7",
        "cloud.region": "eu",
    }
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", ",".join(f"{name}={value}" for name, value in attributes.items()))
    (start,) = read(opened(), records.StreamStart)
    resource = start.resource
    assert resource is not None
    assert (resource.service, resource.namespace, resource.version) == ("billing", "shop", "3.1")
    assert (resource.instance, resource.environment, resource.host) == ("pod-1", "test", "node-7")
    assert start.certificate is None


def test_what_the_environment_does_not_say_is_left_out(
    opened: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without anything to say there is no resource; what no record can hold stops no start."""
    monkeypatch.setattr(process_facts, "_FRAMEWORKS", {})
    monkeypatch.delenv("OTEL_SERVICE_NAME", raising=False)
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", f"service.name={'x' * 300},host.name=")
    (start,) = read(opened(), records.StreamStart)
    assert start.resource is None


def test_frameworks_are_named_and_never_imported(opened: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """A framework in the process is named with its version; a module that only has its name is none."""
    monkeypatch.setitem(sys.modules, "crewai", sys)
    monkeypatch.setitem(sys.modules, "smolagents", sys)
    versions = {"crewai": "1.2.3"}
    real = importlib.metadata.version

    def version(name: str) -> str:
        if name == "smolagents":
            raise importlib.metadata.PackageNotFoundError(name)
        return versions.get(name) or real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    before = set(sys.modules)
    (start,) = read(opened(), records.StreamStart)
    assert start.resource is not None
    assert "crewai==1.2.3" in start.resource.frameworks
    assert not any(name.startswith("smolagents") for name in start.resource.frameworks)
    assert not {"dspy", "agno", "strands"} & (set(sys.modules) - before)


def test_hosts_have_pseudonyms_where_principals_have(
    opened: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same host has the same pseudonym in each stream, and the mapping tells whose it is."""
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "host.name=node-7")
    world = opened(privacy=Privacy(pseudonyms=True))
    world.enforcer.close()
    with Enforcer.open(world.directory) as again:
        assert again._enforcement.pseudonyms is not None
        names = {start.resource.host for start in read(world, records.StreamStart)}
        assert [again._enforcement.pseudonyms.who(name) for name in names] == [("host", "node-7")]
    assert not any("node-7" in str(records.as_dict(record)) for record in read(world))


ROOT = SigningKey.generate()
NOW = 1_795_000_000


def certify(directory: Path, *, number: int = 0, **changes: Any) -> str:
    """Put a certificate of the recorder key into a directory, and return it."""
    trust = TrustStore.load(directory / "trust.json")
    recorder = SigningKey.load(directory / "keys" / "recorder.pem").public_key
    facts = {
        "recorder": recorder,
        "origin": trust.origin,
        "issuer_key": SigningKey.load(directory / "keys" / "issuer.pem").public_key,
        "issuer": trust.issuer,
        "principals": ("human",),
        "not_before": NOW + number,
        "expires_at": NOW + number + 3_600,
        **changes,
    }
    token = Certificate(**facts).sign(ROOT)
    (directory / "keys" / "recorder.certificate").write_text(f"{token}\n")
    return token


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Return a directory with keys."""
    Enforcer.open(tmp_path / "host").close()
    return tmp_path / "host"


def starts(directory: Path) -> list[records.StreamStart]:
    return [one for one in records.read(directory) if isinstance(one, records.StreamStart)]


def test_a_stream_begins_with_the_certificate_of_its_recorder(directory: Path) -> None:
    """A verifier who trusts the root finds the certificate in the first record of each stream that begins with one."""
    token = certify(directory)
    Enforcer.open(directory).close()
    assert [start.certificate for start in starts(directory)] == [None, token]
    store = TrustStore(
        (TrustedKey(ROOT.public_key, "root", origin="agent-identity/"),), file=FileVersion("urn:example:fleet", 1)
    )
    certified = trusted_certificate(token, store)[0].recorder
    assert TrustStore.load(directory / "trust.json").get(certified.thumbprint, "recorder") is not None


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"recorder": SigningKey.generate().public_key}, "unknown_key"),
        ({"origin": "agent-identity/other"}, "wrong_origin"),
        (b"", "malformed_token"),
        (b"no.certificate", "malformed_token"),
        (b"\xff.\xff.\xff", "malformed_token"),
        (b"x" * 9_000, None),
    ],
)
def test_a_certificate_that_is_not_ones_own_stops_the_start(directory: Path, changes: Any, code: str | None) -> None:
    """A file with something else, or the certificate of another key or log, is refused before a stream begins."""
    if isinstance(changes, bytes):
        (directory / "keys" / "recorder.certificate").write_bytes(changes)
    else:
        certify(directory, **changes)
    before = len(starts(directory))
    with pytest.raises(ConfigurationError) as caught:
        Enforcer.open(directory)
    assert code is None or caught.value.code == code
    assert len(starts(directory)) == before
    (directory / "keys" / "recorder.certificate").unlink()
    Enforcer.open(directory).close()


def test_a_certificate_that_cannot_be_read_stops_the_start(directory: Path) -> None:
    """A file that is there and leads nowhere is not taken for none."""
    (directory / "keys" / "recorder.certificate").symlink_to("recorder.certificate")
    with pytest.raises(ConfigurationError, match=r"recorder\.certificate"):
        Enforcer.open(directory)


def test_a_grant_is_no_certificate(directory: Path) -> None:
    """Another kind of token in its place is refused."""
    with (
        Enforcer.open(directory) as enforcer,
        enforcer.task("t", principal=ALICE, agent=HELPER, scope=Scope("read")) as task,
    ):
        (directory / "keys" / "recorder.certificate").write_text(task.grant.token)
    with pytest.raises(ConfigurationError) as caught:
        Enforcer.open(directory)
    assert caught.value.code == "wrong_type"


def test_a_renewed_certificate_is_recorded_when_the_next_task_opens(
    directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Each renewal is one record of each stream; a file that became unusable is logged, and changes nothing."""

    def work(enforcer: Enforcer) -> None:
        with enforcer.task("t", principal=ALICE, agent=HELPER, scope=Scope("read")):
            pass

    with Enforcer.open(directory) as enforcer:
        work(enforcer)
        first = certify(directory)
        work(enforcer)
        work(enforcer)
        second = certify(directory, number=1)
        work(enforcer)
        with caplog.at_level(logging.ERROR):
            (directory / "keys" / "recorder.certificate").write_text("nothing of the kind")
            work(enforcer)
            work(enforcer)
            (directory / "keys" / "recorder.certificate").unlink()
            work(enforcer)
    found = [one.trust for one in records.read(directory) if isinstance(one, records.Trust)]
    assert [(one.status, one.purpose, one.certificate) for one in found] == [
        ("trusted", "recorder", first),
        ("renewed", "recorder", second),
    ]
    assert len([line for line in caplog.messages if "certificate" in line]) == 1


def test_a_rotation_is_recorded_under_the_new_keys(directory: Path) -> None:
    """The keys of a rotation are on record as trusted, in a stream that the new recorder key signs."""
    clock, ids = SystemClock(), RandomIds()
    done = rotation.rotate(directory, ("issuer", "recorder"), now=clock.wall_ns() // 10**9, overlap=60)
    recorder, origin = (
        SigningKey.load(directory / "keys" / "recorder.pem"),
        TrustStore.load(directory / "trust.json").origin,
    )
    beginning = Beginning()
    with Ledger.open(
        directory, signer=recorder, origin=origin or "", clock=clock, ids=ids, beginning=beginning
    ) as ledger:
        rotation.record_rotation(ledger, done)
    found = [one.trust for one in records.read(directory) if isinstance(one, records.Trust)]
    assert [(one.key, one.purpose, one.status) for one in found] == [
        (one.new.key.thumbprint, one.new.purpose, "trusted") for one in done
    ]


# All kinds of calls


def test_every_kind_of_call_is_recorded(opened: Callable[..., Any]) -> None:
    """Generators, blocks, routed and failed calls, and a service as principal, have sound records."""
    world = opened(
        policy=RuleSet(Rule(Effect.ROUTE, tools="routed", to="elsewhere"), Rule(Effect.WARN, tools="lines")),
        routes={"elsewhere": lambda call: "routed"},
    )

    @world.enforcer.tool(touches=Touch("file", "/lines/{count}", "read"))
    def lines(count: int) -> Any:
        yield from range(count)

    @world.enforcer.tool
    def routed() -> str:
        return "never"

    @world.enforcer.tool
    def fails() -> None:
        raise LookupError

    with world.task(Scope("lines") | Scope("routed") | Scope("fails") | Scope("block"), principal=Service("job")):
        assert list(lines(2)) == [0, 1]
        assert routed() == "routed"
        with pytest.raises(LookupError):
            fails()
        with world.enforcer.action("block", x=1) as call:
            call.result = 2
    world.enforcer.close()
    assert [one.outcome for one in read(world, records.Outcome)] == ["success", "routed", "error", "success"]
    assert Verifier(world.directory / "trust.json").ledger(world.directory).findings == ()
