"""Metrics: what is counted of real calls, what is read of a real enforcer, and that neither touches a call."""

import gc
import logging
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.metrics import NoOpMeter, NoOpMeterProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from agent_identity import Agent, Decision, Denied, Effect, Enforcer, Human, Rule, RuleSet, Scope
from agent_identity.adapters import CallRequest
from agent_identity.approvals import Answer, Approval, ApprovalRequest
from agent_identity.errors import ConfigurationError, PolicyBlocked
from agent_identity.limits import Limit
from agent_identity.options import Sources, Telemetry, Transparency
from agent_identity.state import MemoryState
from agent_identity.telemetry import measure
from agent_identity.testing import FixedClock, SequentialIds

ALICE = Human("alice@example.com")
BOB = Human("bob@example.com")
CLERK = Agent("clerk", owner="finance@example.com")
MILLISECOND = 0.001
HISTOGRAM = "agent_identity.guard.duration"


class Meter:
    """A meter provider with its reader, and enforcers with a fixed clock that report to it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.clock = FixedClock()
        self.reader = InMemoryMetricReader()
        self.provider = MeterProvider([self.reader], shutdown_on_exit=False)
        self.spans = InMemorySpanExporter()
        self.tracers = TracerProvider(shutdown_on_exit=False)
        self.tracers.add_span_processor(SimpleSpanProcessor(self.spans))
        self.enforcers: list[Enforcer] = []

    def open(self, name: str = "evidence", *, tools: Any = (), measured: bool = True, **options: Any) -> Enforcer:
        """Open an enforcer that reports."""
        sources = Sources(clock=self.clock, ids=SequentialIds())
        given = {"sources": sources, "telemetry": Telemetry(tracer_provider=self.tracers), **options}
        enforcer = Enforcer.open(self.path / name, **given)
        self.enforcers.append(enforcer)
        if measured:
            measure(enforcer, self.provider, tools=tools)
        return enforcer

    def data(self) -> dict[str, list[Any]]:
        """Collect, once every record so far was counted; return the data points by metric."""
        for enforcer in self.enforcers:
            enforcer._enforcement.ledger.drain(10)
        collected = self.reader.get_metrics_data()
        if collected is None:
            return {}
        found = [
            metric for each in collected.resource_metrics for scope in each.scope_metrics for metric in scope.metrics
        ]
        assert len({metric.name for metric in found}) == len(found)
        return {metric.name: list(metric.data.data_points) for metric in found}

    def values(self, name: str) -> dict[str, float]:
        """Return the values of a metric by the values of their attributes."""
        points = self.data().get(name, [])
        return {" ".join(str(value) for _, value in sorted(point.attributes.items())): point.value for point in points}


@pytest.fixture
def meter(tmp_path: Path) -> Iterator[Meter]:
    made = Meter(tmp_path)
    yield made
    for enforcer in made.enforcers:
        enforcer.close()
    made.provider.shutdown()


def task(enforcer: Enforcer, *tools: str) -> Any:
    """Return a task of alice and the clerk with these tools."""
    return enforcer.task("pay the bills", principal=ALICE, agent=CLERK, scope=Scope(*tools))


def test_decisions_are_counted_by_effect_and_reason(meter: Meter) -> None:
    """Each decision counts once, when it is on record: with the intent, or with the outcome of a refused call."""
    enforcer = meter.open()
    pay, look = enforcer.tool(lambda_named("pay")), enforcer.tool(lambda_named("look"))
    with task(enforcer, "pay"):
        pay()
        pay()
        with pytest.raises(Denied):
            look()
    assert meter.values("agent_identity.decisions") == {
        "allow allow enforce within_scope": 2,
        "block block enforce tool_not_granted": 1,
    }
    assert meter.values("agent_identity.refusals") == {"tool_not_granted": 1}


def lambda_named(name: str) -> Callable[..., object]:
    """Return a function with this name that does nothing."""

    def body() -> str:
        return "done"

    body.__name__ = name
    return body


def test_a_decision_counts_while_the_body_still_runs(meter: Meter) -> None:
    """The decision of a long call is counted at once, and its time when it is over."""
    enforcer = meter.open()
    with task(enforcer, "pay"):
        with enforcer.action("pay"):
            assert meter.values("agent_identity.decisions") == {"allow allow enforce within_scope": 1}
            assert HISTOGRAM not in meter.data()
        assert meter.data()[HISTOGRAM][0].count == 1


def test_monitor_mode_counts_no_refusals(meter: Meter) -> None:
    """What would be refused is a decision that is audited, and no refusal."""
    enforcer = meter.open(mode="monitor")
    with task(enforcer, "pay"):
        assert enforcer.tool(lambda_named("look"))() == "done"
    assert meter.values("agent_identity.decisions") == {"block audit monitor tool_not_granted": 1}
    assert meter.values("agent_identity.refusals") == {}


class Slow:
    """A policy that takes a time, on the clock of the test."""

    name, version, digest = "slow", "1", "A" * 43

    def __init__(
        self, clock: FixedClock, seconds: float, effect: Effect = Effect.ALLOW, route: str | None = None
    ) -> None:
        self.clock = clock
        self.seconds = seconds
        self.decision = Decision(effect=effect, reason="fine", route=route)

    def decide(self, request: Any) -> Decision:
        """Decide after a while."""
        self.clock.advance(self.seconds)
        return self.decision


def added(meter: Meter) -> dict[str, tuple[int, float]]:
    """Return the number of calls, and the seconds that were added to them, by their outcomes."""
    points = meter.data().get(HISTOGRAM, [])
    return {
        str(point.attributes["agent_identity.outcome"]): (point.count, pytest.approx(point.sum)) for point in points
    }


def test_the_time_added_leaves_out_the_body(meter: Meter) -> None:
    """A policy of 3 ms counts, a body of 10 s does not, also if it raises; a refused call counts as well."""
    enforcer = meter.open(policy=Slow(meter.clock, 3 * MILLISECOND))

    @enforcer.tool
    def pay(amount: int) -> int:
        meter.clock.advance(10)
        return 1 // amount

    with task(enforcer, "pay"):
        pay(1)
        pay(1)
        with pytest.raises(ZeroDivisionError):
            pay(0)
        with pytest.raises(Denied):
            enforcer.tool(lambda_named("look"))()
    millisecond = 3 * MILLISECOND
    assert added(meter) == {"success": (2, 2 * millisecond), "error": (1, millisecond), "denied": (1, 0)}


async def test_the_time_added_is_that_of_the_guard_on_an_event_loop(meter: Meter) -> None:
    """A coroutine function is measured like a function."""
    enforcer = meter.open(policy=Slow(meter.clock, 3 * MILLISECOND))

    @enforcer.tool
    async def pay() -> None:
        meter.clock.advance(10)

    async with task(enforcer, "pay"):
        await pay()
    assert added(meter) == {"success": (1, 3 * MILLISECOND)}


class Looking:
    """An inspector that takes a time for each text."""

    def __init__(self, clock: FixedClock) -> None:
        self.clock = clock

    def inspect(self, content: Any) -> list[Any]:
        """Find nothing after a while."""
        self.clock.advance(MILLISECOND)
        return []


@pytest.mark.parametrize("inspected", [False, True])
@pytest.mark.parametrize("mode", ["enforce", "monitor"])
def test_the_time_added_to_a_generator_leaves_out_its_consumer(meter: Meter, inspected: bool, mode: Any) -> None:
    """Only the steps of the guard count: neither the body between items nor what the consumer does with them."""
    looking = Looking(meter.clock)
    enforcer = meter.open(mode=mode, inspectors=[looking] if inspected else [])

    @enforcer.tool
    def read() -> Iterator[str]:
        for _ in range(3):
            meter.clock.advance(1)
            yield "a line"

    with task(enforcer, "read"):
        for _ in read():
            meter.clock.advance(10)
    ((count, total),) = added(meter).values()
    assert count == 1
    assert (0.001 < total.expected < 1) if inspected else total.expected == 0


def test_the_time_added_leaves_out_the_person_who_approves(meter: Meter) -> None:
    """A person who takes a minute adds nothing; what is judged before and after counts, also if they say no."""
    answers = [True, False]

    def ask(request: ApprovalRequest) -> Answer:
        meter.clock.advance(60)
        return request.approve(by=BOB) if answers.pop(0) else request.reject(by=BOB)

    slow = Slow(meter.clock, 3 * MILLISECOND, effect=Effect.ROUTE, route="boss")
    pay = meter.open(policy=slow, routes={"boss": Approval(ask=ask)}).tool(lambda_named("pay"))
    with task(meter.enforcers[0], "pay"):
        pay()
        with pytest.raises(Denied):
            pay()
    assert added(meter) == {"success": (1, 6 * MILLISECOND), "denied": (1, 6 * MILLISECOND)}


def test_exemplars_lead_to_the_spans_of_calls(meter: Meter) -> None:
    """Each exemplar names the span of a call that has this time, in its trace."""
    enforcer = meter.open(policy=Slow(meter.clock, 3 * MILLISECOND))
    with task(enforcer, "pay"):
        enforcer.tool(lambda_named("pay"))()
        with pytest.raises(Denied):
            enforcer.tool(lambda_named("look"))()
    points = meter.data()[HISTOGRAM]
    found = {(one.trace_id, one.span_id) for point in points for one in point.exemplars}
    spans = [
        span.get_span_context() for span in meter.spans.get_finished_spans() if span.name.startswith("execute_tool")
    ]
    assert found == {(context.trace_id, context.span_id) for context in spans}
    assert len(found) == 2


def test_the_exemplar_of_a_borrowed_span_is_that_span(meter: Meter) -> None:
    """Where the record goes to a span of another library, the exemplar names that one."""
    enforcer = meter.open(telemetry=Telemetry(tracer_provider=meter.tracers, spans="enrich"))
    tracer = meter.tracers.get_tracer("another.library")
    with task(enforcer, "pay"), tracer.start_as_current_span("theirs") as theirs:
        enforcer.tool(lambda_named("pay"))()
    ((exemplar,),) = [point.exemplars for point in meter.data()[HISTOGRAM]]
    assert exemplar.span_id == theirs.get_span_context().span_id


def test_requests_that_wait_are_counted_with_the_age_of_the_oldest(meter: Meter) -> None:
    """They count from the request to the decision."""
    rules = RuleSet(Rule(Effect.ROUTE, tools="pay", reason="two people decide", id="four-eyes", to="boss"))
    enforcer = meter.open(policy=rules, routes={"boss": Approval()})

    @enforcer.tool
    def pay(amount: int) -> None:
        """Pay."""

    assert meter.values("agent_identity.approval.pending") == meter.values("agent_identity.approval.age") == {"": 0}
    with task(enforcer, "pay"):
        for amount in (1, 2):
            with pytest.raises(Denied) as caught:
                pay(amount)
            assert caught.value.code == "approval_pending"
            meter.clock.advance(30)
        assert meter.values("agent_identity.approval.pending") == {"": 2}
        assert meter.values("agent_identity.approval.age") == {"": 60}
        with enforcer.no_task():
            enforcer.approvals.approve(enforcer.approvals.pending()[0].id, by=BOB)
        assert meter.values("agent_identity.approval.pending") == {"": 1}
        assert meter.values("agent_identity.approval.age") == {"": 30}


def test_what_cannot_be_read_is_missing_and_never_zero(meter: Meter, caplog: pytest.LogCaptureFixture) -> None:
    """A folder of requests that is open to others: no number of requests, all other metrics, and one line each."""
    enforcer = meter.open()
    folder = meter.path / "evidence" / "approvals"
    folder.mkdir()
    folder.chmod(0o777)
    for _ in range(2):
        found = meter.data()
        assert "agent_identity.approval.pending" not in found
        assert found["agent_identity.task.open"][0].value == 0
    lines = [record.getMessage() for record in caplog.records if "the metric" in record.getMessage()]
    assert len(lines) == 2
    assert all("ConfigurationError" in line for line in lines)
    assert enforcer.degraded == {}


def test_open_tasks_are_those_whose_authority_lives(meter: Meter) -> None:
    """A task counts once, with all that it delegates, until it ends or expires."""
    enforcer, name = meter.open(), "agent_identity.task.open"
    assert meter.values(name) == {"": 0}
    with task(enforcer, "pay"):
        with enforcer.delegate(Agent("helper", owner="it@example.com"), scope=Scope("pay")):
            assert meter.values(name) == {"": 1}
        with task(enforcer, "pay"):
            assert meter.values(name) == {"": 2}
        assert meter.values(name) == {"": 1}
        meter.clock.advance(timedelta(minutes=6).total_seconds())
        assert meter.values(name) == {"": 0}


def backlog(meter: Meter) -> tuple[dict[str, float], dict[str, float]]:
    """Return the number of unsealed records and the age of the oldest."""
    return meter.values("agent_identity.ledger.unsealed"), meter.values("agent_identity.ledger.unsealed_age")


def test_the_backlog_of_seals_has_a_number_and_an_age(meter: Meter) -> None:
    """Both grow until a checkpoint covers the records."""
    enforcer = meter.open()
    ledger = enforcer._enforcement.ledger
    ledger.seal()
    assert backlog(meter) == ({"": 0}, {"": 0})
    with task(enforcer, "pay"):
        enforcer.tool(lambda_named("pay"))()
    meter.clock.advance(0.1)
    # The grant, the beginning and the end of the task, the intent and the outcome of the call.
    assert backlog(meter) == ({"": 5}, {"": pytest.approx(0.1)})
    ledger.seal()
    assert backlog(meter) == ({"": 0}, {"": 0})


def test_limits_that_are_nearly_spent_are_counted_while_their_task_is_open(meter: Meter) -> None:
    """By number alone: no series names a task, a tool or an amount."""
    enforcer = meter.open()
    pay = enforcer.tool(lambda_named("pay"))
    limits = (Limit.uses("pay", 10), Limit.uses("*", 100))
    with enforcer.task("pay", principal=ALICE, agent=CLERK, scope=Scope("pay"), limits=limits):
        assert meter.values("agent_identity.limit.nearly_spent") == {"": 0}
        for _ in range(10):
            pay()
        assert meter.values("agent_identity.limit.nearly_spent") == {"": 1}
    assert meter.values("agent_identity.limit.nearly_spent") == {"": 0}


def test_errors_and_degraded_components_are_those_of_the_enforcer(meter: Meter) -> None:
    """Errors are counted by operation and stay after the end; a component is degraded until it works again."""
    failing = [True]

    def observer(entry: Any) -> None:
        if failing[0]:
            raise ZeroDivisionError

    enforcer = meter.open(telemetry=Telemetry(on_record=observer), transparency=Transparency(checkpoints=len))
    with task(enforcer, "pay"):
        pass
    errors = meter.values("agent_identity.ledger.errors")
    assert errors.pop("observer") == enforcer._enforcement.ledger.observers.failures > 0
    assert errors == {"append": 0, "callback": 0, "seal": 0}
    components = {"ledger": 0, "state": 0, "revocations": 0, "tasks": 0, "on_record": 1}
    components |= {"export": 0, "disk": 0, "keys": 0, "limits": 0}
    components["the function of checkpoints="] = 0
    assert meter.values("agent_identity.component.degraded") == components
    failing[0] = False
    with task(enforcer, "pay"):
        pass
    assert meter.values("agent_identity.component.degraded") == {**components, "on_record": 0}
    failures = enforcer._enforcement.ledger.observers.failures
    enforcer.close()
    meter.enforcers.clear()
    assert meter.values("agent_identity.ledger.errors")["observer"] == failures
    assert meter.values("agent_identity.component.degraded") == {}


def test_the_list_of_revocations_has_an_age(meter: Meter) -> None:
    """Its age is that of the newest version; that of a source is the time since it last answered."""
    enforcer, follower = meter.open(measured=False), meter.open("other", state=MemoryState())
    assert meter.values("agent_identity.revocation.age") == meter.values("agent_identity.revocation.source_age") == {}
    enforcer.revoke("task", "a-task")
    trust = (meter.path / "evidence" / "trust.json").read_bytes()
    assert trust
    measure(enforcer, meter.provider)
    meter.clock.advance(90)
    assert meter.values("agent_identity.revocation.age") == {"": 90}
    follower.revoke("task", "a-task")
    data = follower.revocations.export()
    follower.revocations.follow(lambda: data, every=60)
    meter.clock.advance(30)
    assert meter.values("agent_identity.revocation.source_age") == {"": 30}
    assert meter.values("agent_identity.revocation.age") == {"": 120}


def test_enforcers_with_one_provider_add_up(meter: Meter) -> None:
    """Counts are added, the greatest age counts, a closed enforcer is left out, and a second call changes nothing."""
    first, second = meter.open("one"), meter.open("two")
    measure(first, meter.provider)
    first.revoke("task", "a-task")
    meter.clock.advance(10)
    second.revoke("task", "a-task")
    with task(first, "pay"), task(second, "pay"):
        first.tool(lambda_named("pay"))
        assert meter.values("agent_identity.task.open") == {"": 2}
    for enforcer in (first, second):
        with task(enforcer, "pay"):
            enforcer.tool(lambda_named("pay"))()
    assert meter.values("agent_identity.decisions") == {"allow allow enforce within_scope": 2}
    assert meter.data()[HISTOGRAM][0].count == 2
    assert meter.values("agent_identity.revocation.age") == {"": 10}
    first.close()
    meter.enforcers.remove(first)
    assert meter.values("agent_identity.revocation.age") == {"": 0}
    assert meter.values("agent_identity.decisions") == {"allow allow enforce within_scope": 2}


def test_counters_never_go_back(meter: Meter) -> None:
    """What an enforcer counted stays after it is gone, since a counter that falls would look like a restart."""
    with meter.open("one") as enforcer, task(enforcer, "pay"):
        enforcer.tool(lambda_named("pay"))()
    meter.enforcers.clear()
    del enforcer
    gc.collect()
    second = meter.open("two")
    with task(second, "pay"):
        second.tool(lambda_named("pay"))()
        with pytest.raises(Denied):
            second.tool(lambda_named("look"))()
    assert meter.values("agent_identity.decisions")["allow allow enforce within_scope"] == 2
    assert meter.values("agent_identity.refusals") == {"tool_not_granted": 1}


def test_only_named_tools_are_told_apart(meter: Meter) -> None:
    """Another tool, made up by a caller for instance, is ``_OTHER``."""
    enforcer = meter.open(tools=["pay"])
    with task(enforcer, "pay"):
        enforcer.tool(lambda_named("pay"))()
        with pytest.raises(Denied):
            enforcer.tool(lambda_named("alice@example.com"))()
    assert meter.values("agent_identity.decisions") == {
        "allow allow enforce within_scope pay": 1,
        "block block enforce tool_not_granted _OTHER": 1,
    }
    assert meter.values("agent_identity.refusals") == {"tool_not_granted _OTHER": 1}
    assert {point.attributes["gen_ai.tool.name"] for point in meter.data()[HISTOGRAM]} == {"pay", "_OTHER"}


@pytest.mark.parametrize(
    ("tools", "error"), [("pay", TypeError), ([1], TypeError), (map(str, range(101)), ConfigurationError)]
)
def test_tools_are_named_one_by_one_and_few(meter: Meter, tools: Any, error: type[Exception]) -> None:
    """A text in place of a list, and more names than a meter can take, are refused before anything is counted."""
    enforcer = meter.open(measured=False)
    with pytest.raises(error):
        measure(enforcer, meter.provider, tools=tools if isinstance(tools, str) else list(tools))
    assert meter.data() == {}


class Inventing:
    """A policy that makes up a reason for each call."""

    name, version, digest = "inventing", "1", "A" * 43

    def __init__(self) -> None:
        self.calls = 0

    def decide(self, request: Any) -> Decision:
        """Block, for another reason each time."""
        self.calls += 1
        return Decision(effect=Effect.BLOCK, reason=f"reason_{self.calls}")


def test_nothing_that_grows_with_use_is_an_attribute(meter: Meter) -> None:
    """However many principals, tasks, tools, arguments and reasons there are, the number of series is bounded."""
    enforcer = meter.open(policy=Inventing(), telemetry=Telemetry())
    for number in range(220):
        human, tool = Human(f"user-{number}@example.com"), f"tool_{number}"
        agent = Agent(f"agent-{number}", owner="it@example.com")
        with (
            enforcer.task("work", principal=human, agent=agent, scope=Scope(tool)),
            pytest.raises(PolicyBlocked),
        ):
            enforcer.guard(tool).begin(CallRequest({"text": f"value-{number}"}))
    found = meter.data()
    assert len(found["agent_identity.refusals"]) == len(found["agent_identity.decisions"]) == 201
    assert len(found[HISTOGRAM]) == 1
    values = {str(value) for points in found.values() for point in points for value in point.attributes.values()}
    assert "_OTHER" in values
    assert not [value for value in values if value.startswith(("user-", "agent-", "tool_", "value-"))]


class Broken(NoOpMeterProvider):
    """A meter provider whose instruments raise."""

    def get_meter(self, *_: Any, **__: Any) -> Any:
        """Return a meter whose instruments raise."""

        class Instrument:
            def add(self, *_: Any, **__: Any) -> None:
                raise ZeroDivisionError

            record = add

        class BrokenMeter(NoOpMeter):
            def create_counter(self, *_: Any, **__: Any) -> Any:
                return Instrument()

            def create_histogram(self, *_: Any, **__: Any) -> Any:
                return Instrument()

        return BrokenMeter("broken")


def test_a_meter_that_fails_touches_no_call(meter: Meter, caplog: pytest.LogCaptureFixture) -> None:
    """Calls run and are refused as ever, nothing of the enforcer is degraded, and one line says what fails."""
    enforcer = meter.open(measured=False)
    measure(enforcer, Broken())
    with task(enforcer, "pay"):
        assert enforcer.tool(lambda_named("pay"))() == "done"
        with pytest.raises(Denied):
            enforcer.tool(lambda_named("look"))()
    enforcer._enforcement.ledger.drain(10)
    assert enforcer._enforcement.ledger.observers.failures == 0
    assert enforcer.degraded == {}
    (line,) = [record.getMessage() for record in caplog.records if HISTOGRAM in record.getMessage()]
    assert "ZeroDivisionError" in line


@pytest.mark.parametrize("tracing", [True, False])
def test_a_refusal_is_one_line_without_values(meter: Meter, caplog: pytest.LogCaptureFixture, tracing: bool) -> None:
    """The line names the tool, the code and the record, and neither principal, purpose nor arguments."""
    enforcer = meter.open(measured=False, telemetry=Telemetry(tracer_provider=meter.tracers if tracing else None))

    @enforcer.tool
    def look(at: str) -> None:
        """Look."""

    with caplog.at_level(logging.INFO, "agent_identity"), task(enforcer, "pay"):
        enforcer.tool(lambda_named("pay"))()
        with pytest.raises(Denied) as caught:
            look("a secret value")
    (line,) = [record.getMessage() for record in caplog.records if record.levelno == logging.INFO]
    assert line == f"look refused: tool_not_granted, record {caught.value.reference}"


def test_a_global_provider_may_be_set_later(tmp_path: Path) -> None:
    """Without a provider the global one counts, whenever the application sets it, for all enforcers together."""
    code = """
        import sys
        from opentelemetry import metrics
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import InMemoryMetricReader
        from agent_identity import Agent, Enforcer, Human, Scope
        from agent_identity.telemetry import measure

        reader = InMemoryMetricReader()
        with Enforcer.open(sys.argv[1] + "/one") as one, Enforcer.open(sys.argv[1] + "/two") as two:
            measure(one)
            metrics.set_meter_provider(MeterProvider([reader], shutdown_on_exit=False))
            measure(two)
            measure(two, metrics.get_meter_provider())
            for enforcer in (one, two):
                with enforcer.task("t", principal=Human("a"), agent=Agent("b", owner="c"), scope=Scope("pay")):
                    enforcer.tool(name="pay")(lambda: None)()
        (group,) = reader.get_metrics_data().resource_metrics
        (scope,) = group.scope_metrics
        print([each.data.data_points[0].value for each in scope.metrics if each.name == "agent_identity.decisions"])
    """
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(code), str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (run.returncode, run.stdout.strip()) == (0, "[2]"), run.stderr
    assert "instrument" not in run.stderr.lower()  # The SDK complains of two of one name.


def test_operations_are_measured_by_the_conventions(meter: Meter) -> None:
    """Tools that ran and tasks have the metrics of the conventions; refused calls and models are no executed tools."""
    enforcer = meter.open()
    measure(enforcer, meter.provider)  # A second call does nothing.
    pay = enforcer.tool(lambda_named("pay"))
    with task(enforcer, "pay"):
        pay()
        pay()
        with pytest.raises(Denied):
            enforcer.tool(lambda_named("look"))()
    data = meter.data()
    (tools,) = data["gen_ai.execute_tool.duration"]
    assert (tools.count, dict(tools.attributes)) == (
        2,
        {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "_OTHER", "gen_ai.tool.type": "function"},
    )
    (calls,) = data["gen_ai.invoke_agent.tool_calls"]
    assert (calls.count, calls.sum, dict(calls.attributes)) == (1, 2, {})
    (agents,) = data["gen_ai.invoke_agent.duration"]
    assert (agents.count, dict(agents.attributes)) == (1, {"gen_ai.operation.name": "invoke_agent"})


def test_an_agent_is_named_only_if_the_application_names_it(meter: Meter) -> None:
    """Agents are told apart like tools: those that were named, and all others as one."""
    enforcer = meter.open(measured=False)
    measure(enforcer, meter.provider, agents=["clerk"])
    for agent in (CLERK, Agent("other", owner="finance@example.com")):
        with enforcer.task("pay", principal=ALICE, agent=agent, scope=Scope("pay")):
            pass
    names = {point.attributes["gen_ai.agent.name"] for point in meter.data()["gen_ai.invoke_agent.duration"]}
    assert names == {"clerk", "_OTHER"}
    with pytest.raises(TypeError):
        measure(enforcer, meter.provider, agents="clerk")
