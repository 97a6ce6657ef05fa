"""No body starts once its task has ended, expired or been revoked, whatever waited on the way to it.

The task is looked at again after everything that may have taken time, immediately before the intent.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path

import pytest

from agent_identity import Agent, Decision, Effect, Enforcer, Human, Rule, RuleSet, Scope, Verifier
from agent_identity._ledger.reader import open_ledger
from agent_identity._record.codec import decode
from agent_identity.adapters import CallRequest
from agent_identity.approvals import Approval
from agent_identity.errors import Denied, GrantExpired, NoTask
from agent_identity.identity import TrustStore
from agent_identity.limits import Limit
from agent_identity.options import Sources
from agent_identity.state import MemoryState
from agent_identity.testing import FixedClock

TOOL = Scope("tool")
BOB = Human("bob@example.com")
ONE = (Limit.uses("tool", 1),)


class Slow:
    """State of which one step takes long: so much happens meanwhile."""

    def __init__(self) -> None:
        self.inner, self.calls = MemoryState(), []
        self.slow: str | None = None
        self.meanwhile: Callable[[], object] | None = None

    @contextmanager
    def waiting(self, step: str, meanwhile: Callable[[], object]) -> Iterator[None]:
        """Have something happen while the first of these steps is under way; it must come to that."""
        self.slow, self.meanwhile = step, meanwhile
        yield
        assert self.slow is None

    def __getattr__(self, name: str) -> Callable[..., object]:
        def step(*arguments: object, **named: object) -> object:
            self.calls.append(name)
            answer = getattr(self.inner, name)(*arguments, **named)
            if name == self.slow:
                self.slow = None
                self.meanwhile()
            return answer

        return step


ENDS = {
    "ended": (NoTask, "task_ended", lambda world, task: task.end),
    "expired": (GrantExpired, "grant_expired", lambda world, task: lambda: world.clock.advance(61)),
    "revoked": (Denied, "revoked", lambda world, task: lambda: world.enforcer.revoke(task)),
    "suspended": (Denied, "suspended", lambda world, task: lambda: world.enforcer.revoke(task, suspend=True)),
}


@pytest.fixture(params=ENDS)
def end(request: pytest.FixtureRequest) -> tuple[type[Denied], str, Callable[..., Callable[[], object]]]:
    """Each way in which the authority of a task ends."""
    return ENDS[request.param]


@pytest.fixture
def state() -> Slow:
    return Slow()


def _minute(world: object, **options: object) -> object:
    return world.task(TOOL, ttl=timedelta(minutes=1), **options)


@contextmanager
def _refused(world: object, kind: type[Denied], code: str) -> Iterator[None]:
    """Prove that nothing ran, that there is no intent, and that the last record is the refusal."""
    ran = len(world.ran)
    with pytest.raises(kind) as caught:
        yield
    assert caught.value.code == code
    assert len(world.ran) == ran
    assert not world.records("intent")
    (record,) = world.records("outcome")
    assert (record["id"], record["outcome"], record["error"]) == (caught.value.reference, "denied", code)


def test_a_task_that_ends_while_a_limit_is_debited_starts_nothing(
    open_world: Callable[..., object], state: Slow, end: tuple
) -> None:
    """The state was slow in its debit; the call is refused with a record, and gives back what it had taken."""
    kind, code, how = end
    world = open_world(state=state)
    body = world.tool()
    with _minute(world, limits=ONE) as task, state.waiting("debit", how(world, task)), _refused(world, kind, code):
        body()
    assert state.calls.count("debit") == state.calls.count("credit") == 1


def test_a_task_that_is_suspended_while_a_limit_is_debited_has_its_use_again(
    open_world: Callable[..., object], state: Slow
) -> None:
    """No body began, so a limit of one still has one use when the task goes on."""
    world = open_world(state=state)
    body = world.tool()
    with _minute(world, limits=ONE) as task:
        with state.waiting("debit", lambda: world.enforcer.revoke(task, suspend=True)), pytest.raises(Denied):
            body(1)
        world.enforcer.reinstate(task)
        body(2)
    assert world.ran == [("tool", 2, {})]


def test_a_task_that_ends_while_a_share_is_resumed_starts_nothing(
    open_world: Callable[..., object], state: Slow, end: tuple
) -> None:
    """The same for calls with an id, which may be made again."""
    kind, code, how = end
    world = open_world(state=state)
    guard = world.enforcer.guard("tool", suspends=(InterruptedError,))
    with _minute(world, limits=ONE) as task, state.waiting("resume", how(world, task)), _refused(world, kind, code):
        guard.judge(CallRequest({"x": 1}, call_id="c1"))
    assert state.calls.count("credit") == 1


@pytest.mark.parametrize("way", ["ended", "expired"])
def test_a_task_that_ends_while_it_is_asked_what_is_revoked_starts_nothing(
    open_world: Callable[..., object], state: Slow, way: str
) -> None:
    """A task without limits asks a slow state as well: what is revoked."""
    kind, code, how = ENDS[way]
    world = open_world(state=state)
    body = world.tool()
    with _minute(world) as task, state.waiting("generation", how(world, task)), _refused(world, kind, code):
        body()


@pytest.mark.parametrize("way", ["ended", "expired"])
def test_a_generator_whose_task_ends_while_it_is_asked_what_is_revoked_goes_no_further(
    open_world: Callable[..., object], state: Slow, way: str
) -> None:
    """Each resume of a generator is looked at in the same way."""
    kind, code, how = ENDS[way]
    world = open_world(state=state)

    @world.enforcer.tool(name="tool")
    def body() -> Iterator[int]:
        for number in range(3):
            world.ran.append(number)
            yield number

    with _minute(world) as task:
        items = body()
        assert next(items) == 0
        with state.waiting("generation", how(world, task)), pytest.raises(kind) as caught:
            next(items)
    assert caught.value.code == code
    assert world.ran == [0]


@pytest.mark.parametrize("limits", [(), ONE], ids=["without limits", "with a limit"])
@pytest.mark.parametrize("coroutine", [False, True], ids=["function", "coroutine"])
async def test_a_task_that_ends_while_an_approval_is_taken_up_starts_nothing(
    open_world: Callable[..., object], state: Slow, end: tuple, limits: tuple, coroutine: bool
) -> None:
    """The state was slow in keeping that the approval is used; the person's word does not lengthen the task."""
    kind, code, how = end
    world = open_world(
        state=state,
        policy=RuleSet(Rule(Effect.ROUTE, tools="tool", reason="ask", to="desk")),
        routes={"desk": Approval(ask=lambda request: request.approve(by=BOB))},
    )
    if coroutine:

        @world.enforcer.tool(name="tool")
        async def body() -> None:
            world.ran.append("body")
    else:
        body = world.tool()
    with _minute(world, limits=limits) as task, state.waiting("insert", how(world, task)), _refused(world, kind, code):
        if coroutine:
            await body()
        else:
            body()
    assert state.calls.count("credit") == len(limits)
    used = [] if code == "grant_expired" else ["approved"]  # A ruling ends with its task, and is used no later.
    assert [record["approval"]["status"] for record in world.records("approval")] == ["pending", *used]
    world.enforcer.close()
    assert Verifier().ledger(world.directory).verdict == "verified"


def test_a_task_that_ends_while_a_limit_is_debited_after_an_approval_starts_nothing(
    open_world: Callable[..., object], state: Slow, end: tuple
) -> None:
    """What was approved is debited before its intent, and looked at again after that."""
    kind, code, how = end
    world = open_world(
        state=state,
        policy=RuleSet(Rule(Effect.ROUTE, tools="tool", reason="ask", to="desk")),
        routes={"desk": Approval(ask=lambda request: request.approve(by=BOB))},
    )
    body = world.tool()
    with _minute(world, limits=ONE) as task, state.waiting("debit", how(world, task)), _refused(world, kind, code):
        body()
    assert state.calls.count("credit") == 1


class SlowPolicy:
    """A policy engine that takes its time and allows everything."""

    name, version, digest = "slow", "1", "A" * 43

    def __init__(self) -> None:
        self.meanwhile: Callable[[], object] = lambda: None

    def decide(self, request: object) -> Decision:
        """Allow, later."""
        self.meanwhile()
        return Decision(effect=Effect.ALLOW, reason="ok")

    def inspect(self, content: object) -> list[object]:
        """Find nothing, later."""
        self.meanwhile()
        return []


@pytest.mark.parametrize("what", ["policy", "inspectors"])
def test_a_task_that_ends_while_an_engine_or_inspector_works_starts_nothing(
    open_world: Callable[..., object], end: tuple, what: str
) -> None:
    """Code of others may take any time; with limits, nothing is taken before it is over."""
    kind, code, how = end
    engine = SlowPolicy()
    world = open_world(**{what: engine if what == "policy" else [engine]})
    body = world.tool()
    with _minute(world, limits=ONE) as task:
        engine.meanwhile = how(world, task)
        with _refused(world, kind, code):
            body()


def test_a_child_whose_parent_ends_while_a_limit_is_debited_starts_nothing(
    open_world: Callable[..., object], state: Slow, end: tuple
) -> None:
    """What is delegated ends with the task, also while its call waits."""
    kind, code, how = end
    world = open_world(state=state)
    body, child = world.tool(), Agent("child", owner="finance@example.com")
    with (
        _minute(world, limits=ONE) as task,
        world.enforcer.delegate(child, scope=TOOL),
        state.waiting("debit", how(world, task)),
        _refused(world, kind, code),
    ):
        body()


def test_monitor_mode_says_that_the_task_had_ended(open_world: Callable[..., object], state: Slow) -> None:
    """It runs, as everything does there, and its records say that it would have been refused."""
    world = open_world(state=state, mode="monitor")
    body = world.tool()
    with _minute(world, limits=ONE) as task, state.waiting("debit", task.end):
        body(1)
    assert world.ran == [("tool", 1, {})]
    (outcome,) = world.records("outcome")
    assert (outcome["outcome"], outcome["decision"]["reason"]) == ("success", "task_ended")
    assert outcome["decision"]["enforced"] == "audit"


def test_the_evidence_of_an_approval_whose_task_ended_verifies(open_world: Callable[..., object], state: Slow) -> None:
    """An approval that was used up by a call that did not run is no contradiction."""
    world = open_world(
        state=state,
        policy=RuleSet(Rule(Effect.ROUTE, tools="tool", reason="ask", to="desk")),
        routes={"desk": Approval(ask=lambda request: request.approve(by=BOB))},
    )
    body = world.tool()
    with _minute(world) as task, state.waiting("insert", task.end), _refused(world, NoTask, "task_ended"):
        body()
    world.enforcer.close()
    assert Verifier().ledger(world.directory).verdict == "verified"


def _after_the_end(path: Path) -> list[str]:
    """Return the kinds of the records after the end of their task that are not outcomes."""
    late: list[str] = []
    for stream in (reader := open_ledger(path)).streams():
        ended: set[str] = set()
        for line in reader.entries(stream):
            record = decode(line.record)
            if record.kind in ("intent", "task_end"):
                grant = record.chain[-1].grant
                if record.kind == "intent" and grant in ended:
                    late.append(record.id)
                ended.update([grant] if record.kind == "task_end" else [])
    return late


class Interrupted(FixedClock):
    """A clock during whose readings, at a chosen one, another thread acts to its end."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.act = -1, lambda: None
        self.me = threading.get_ident()

    def monotonic_ns(self) -> int:
        """Return the time, after the other thread has acted."""
        if threading.get_ident() == self.me:
            self.left -= 1
            if self.left == 0:
                other = threading.Thread(target=self.act)
                other.start()
                other.join()
        return super().monotonic_ns()


@pytest.mark.usefixtures("_own_context")
@pytest.mark.parametrize("mode", ["enforce", "monitor"])
def test_no_intent_stands_after_the_end_of_its_task(tmp_path: Path, mode: str) -> None:
    """Whenever the task ends on the way to the body, the end is recorded after the intent, or nothing runs."""
    ran: list[int] = []
    for reading in range(1, 9):
        clock, path = Interrupted(), tmp_path / f"evidence-{reading}"
        with Enforcer.open(path, sources=Sources(clock=clock), mode=mode) as enforcer:
            tool = enforcer.tool(ran.append, name="tool")
            opened = enforcer.task("pay", principal=BOB, agent=Agent(id="clerk", owner="ops@example.com"), scope=TOOL)
            opened.__enter__()
            clock.act, clock.left = lambda opened=opened: opened.__exit__(None, None, None), reading
            before = len(ran)
            codes: list[str] = []
            try:
                tool(reading)
            except NoTask as refused:
                codes.append(refused.code)
            assert (codes, len(ran) - before) in (([], 1), (["task_ended"], 0))
            fired, clock.left = clock.left < 1, -1
            if not fired:
                opened.__exit__(None, None, None)
        if mode == "enforce":  # What monitor mode would have refused may be after it.
            assert _after_the_end(path) == []
        assert Verifier(TrustStore.load(path / "trust.json")).ledger(path).exit_code == 0
    assert (len(ran) == 8) is (mode == "monitor")


@pytest.mark.sample(4)
@pytest.mark.parametrize("part", range(8))
def test_threads_that_race_with_the_end_of_their_task_write_no_intent_after_it(tmp_path: Path, part: int) -> None:
    """Of 200 races in all, none has an intent after the end, and each body that ran has one."""
    ran: list[int] = []
    with Enforcer.open(tmp_path / "evidence") as enforcer:
        tool = enforcer.tool(ran.append, name="tool")
        for _ in range(25):
            go = threading.Event()
            with enforcer.task("pay", principal=BOB, agent=Agent(id="clerk", owner="ops@example.com"), scope=TOOL):

                @enforcer.bind
                def work(go: threading.Event = go) -> None:
                    go.wait()
                    with suppress(NoTask):
                        for number in range(20):
                            tool(number)

                threads = [threading.Thread(target=work) for _ in range(3)]
                for thread in threads:
                    thread.start()
                go.set()
                tool(-1)
            for thread in threads:
                thread.join()
    assert _after_the_end(tmp_path / "evidence") == []
    report = Verifier(TrustStore.load(tmp_path / "evidence" / "trust.json")).ledger(tmp_path / "evidence")
    assert (report.exit_code, report.counts["success"]) == (0, len(ran))
