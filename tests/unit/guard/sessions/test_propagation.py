"""Authority that crosses processes: presented with a proof, carried to a child, resumed under the receiver's rules."""

import contextvars
import json
import pickle
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from agent_identity import Agent, Enforcer, Human, Scope, Verifier
from agent_identity._directory.open import prepare
from agent_identity._guard.tasks.delegation_bundle import ENVIRONMENT
from agent_identity._guard.tasks.exported_grants import AudienceGrant, ExportedGrants, RecordedGrants
from agent_identity._guard.tasks.trace_context import remote_parent, traceparent
from agent_identity.audit import story
from agent_identity.constraints import IfGiven, Range, Wildcard
from agent_identity.delegation import DelegationBundle, Grants, Peer, Presentation
from agent_identity.errors import AgentIdentityError, AttenuationError, ConfigurationError, Denied, NoTask, TokenError
from agent_identity.identity import RandomIds, SigningKey, TrustStore
from agent_identity.options import Sources, Telemetry
from agent_identity.state import MemoryState
from agent_identity.testing import FixedClock

ALICE = Human("alice@example.com")
CLERK = Agent("clerk", owner="finance@example.com")
DESK = Agent("desk", owner="payments@example.com")
KEY = SigningKey.from_seed(b"\x07" * 32)
READ = Scope("read", path="a") | Scope("pay", amount=5)
CALL = {"tool": "read", "arguments": {"path": "a"}}
B = Peer("service-b")


class Pair:
    """Two services with keys, trust, clocks and ledgers of their own; b trusts the issuer of a."""

    def __init__(self, folder: Path) -> None:
        self.clock, self.folder, self.opened = FixedClock(), folder, list[Enforcer]()
        self.a = self.open("a")
        issuer = TrustStore.load(folder / "a" / "trust.json")
        (key,) = (trusted.key for trusted in issuer.keys if trusted.purpose == "issuer")
        _, _, trust = prepare(folder / "b", self.clock, RandomIds())
        trust.with_key(key, "issuer", issuer=issuer.issuer).save(folder / "b" / "trust.json")
        self.b = self.open("b")

    def open(self, name: str, **options: object) -> Enforcer:
        """Open an enforcer on a directory of the pair."""
        telemetry = Telemetry(tracer_provider=TracerProvider())
        given = {"sources": Sources(clock=self.clock), "telemetry": telemetry, **options}
        enforcer = Enforcer.open(self.folder / name, **given)
        self.opened.append(enforcer)
        return enforcer

    def task(self, scope: Scope = READ, **options: object) -> object:
        """Return a task of alice and the clerk at a."""
        return self.a.task("books", principal=ALICE, agent=CLERK, scope=scope, **options)

    def close(self) -> None:
        """Close all and verify each ledger under its own trust file."""
        for enforcer in self.opened:
            enforcer.close()
        for name in ("a", "b"):
            report = Verifier(self.folder / name / "trust.json").ledger(self.folder / name)
            assert (report.verdict, report.findings) == ("verified", ())


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    found = Pair(tmp_path)
    yield found
    found.close()


def receive(pair: Pair, presentation: Presentation, **options: object) -> object:
    """Open what was presented for CALL at b."""
    return pair.b.receive(presentation, **{**CALL, "audience": "service-b", **options})


def test_the_receiver_runs_the_same_task_under_its_own_rules(pair: Pair) -> None:
    """Task, principal and history are those of the caller, the life is the leaf's, and the guard is the receiver's."""
    read = pair.b.tool(name="read")(lambda path: path.upper())
    with pair.task() as task:
        shown = pair.a.present(B, **CALL)
        with receive(pair, shown) as there:
            assert (there.id, there.principal, there.agent) == (task.id, ALICE, CLERK)
            assert [grant.agent.id for grant in there.chain.grants] == ["clerk", "clerk"]
            assert there.expires_at == min(task.expires_at, pair.clock.wall_ns() // 10**9 + 300)
            assert there.purpose == "call of service-b"
            assert read(path="a") == "A"
            with pytest.raises(Denied, match="path"):
                read(path="b")
        with pytest.raises(NoTask):
            read(path="a")


def test_the_receivers_ledger_tells_the_whole_story(pair: Pair) -> None:
    """Who did what on whose behalf through which chain stands in the ledger of the receiver alone."""
    read = pair.b.tool(name="read")(lambda path: path)
    peer = Peer("service-b", agent=DESK, key=KEY.public_key)
    with pair.task() as task, receive(pair, pair.a.present(peer, **CALL), holder=KEY, agent=DESK, purpose="lookup"):
        read(path="a")
    pair.b.close()
    (told,) = story(pair.folder / "b")
    assert (told.task, told.principal, told.agent, told.owner) == (task.id, ALICE.id, "clerk", CLERK.owner)
    assert told.purpose == "lookup"
    assert told.ended_ns is not None
    assert [action.agents for action in told.actions] == [("clerk", "desk")]


def test_a_service_with_its_own_key_goes_on(pair: Pair, tmp_path: Path) -> None:
    """With a grant for its agent and key a service delegates, and addresses further services."""
    peer = Peer("service-b", agent=DESK, key=KEY.public_key)
    with pair.task(), receive(pair, pair.a.present(peer, **CALL), holder=KEY) as there:
        assert there.grant.holder == KEY.public_key
        with pair.b.delegate(Agent("helper", owner="x"), scope=Scope("read", path="a")) as child:
            assert child.chain.leaf.depth == 2
        onward = pair.b.present(Peer("service-c"), **CALL)
        assert len(onward.tokens) == 3


def test_without_a_key_of_its_own_a_service_cannot_go_on(pair: Pair) -> None:
    """What was presented without a key lets tools run and nothing be delegated, addressed or carried."""
    with pair.task(), receive(pair, pair.a.present(B, **CALL), holder=KEY):
        for attempt in (
            lambda: pair.b.delegate(DESK, scope=READ).__enter__(),
            lambda: pair.b.present(Peer("service-c"), **CALL),
            pair.b.current_task.export,
        ):
            with pytest.raises(AttenuationError) as refused:
                attempt()
            assert refused.value.code == "not_the_holder"


def test_a_service_that_needs_no_onward_grant_ignores_it(pair: Pair) -> None:
    """A service without a key of its own runs under the leaf, whatever else was offered."""
    peer = Peer("service-b", agent=DESK, key=KEY.public_key)
    with pair.task(), receive(pair, pair.a.present(peer, **CALL)) as there:
        assert there.agent == CLERK


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"holder": SigningKey.from_seed(b"\x08" * 32)}, "not_the_holder"),
        ({"holder": KEY, "agent": CLERK}, "wrong_agent"),
        ({"audience": "service-c"}, "wrong_audience"),
        ({"tool": "pay"}, "wrong_tool"),
        ({"arguments": {"path": "b"}}, "wrong_arguments"),
    ],
)
def test_what_does_not_fit_is_refused_and_recorded(pair: Pair, options: dict[str, object], code: str) -> None:
    """Another key, agent, audience, tool or argument than signed: no task, and a record that says why."""
    peer = Peer("service-b", agent=DESK, key=KEY.public_key)
    with pair.task():
        shown = pair.a.present(peer, **CALL)
    with pytest.raises(Denied) as refused, receive(pair, shown, **options):
        pytest.fail("the block ran")
    assert refused.value.code == code
    assert refused.value.reference is not None


def test_an_onward_grant_cannot_be_exchanged_or_taken_away(pair: Pair) -> None:
    """The proof covers the grant beside the chain."""
    peer = Peer("service-b", agent=DESK, key=KEY.public_key)
    with pair.task():
        shown, other = pair.a.present(peer, **CALL), pair.a.present(Peer("b", agent=DESK, key=KEY.public_key), **CALL)
        for onward in (None, other.onward):
            with pytest.raises(Denied) as refused:
                receive(pair, Presentation(shown.tokens, shown.proof, onward), holder=KEY).__enter__()
            assert refused.value.code == "wrong_next_grant"


def test_a_chain_that_is_for_nobody_in_particular_is_not_received(pair: Pair) -> None:
    """A receiver takes only grants that were made for it, so that none can be passed on to it."""
    with pair.task() as task:
        proof = pair.a.present(B, **CALL).proof
        with pytest.raises(Denied) as refused:
            receive(pair, Presentation(task.chain.tokens, proof)).__enter__()
        assert refused.value.code == "wrong_audience"


def test_grants_for_a_peer_are_narrow_short_and_used_again(pair: Pair) -> None:
    """One grant per task and peer is recorded, with the peer's tools only; near its end there is a new one."""
    peer = Peer("service-b", tools=["pay", "unknown"])
    with pair.task(ttl=timedelta(hours=1)) as task:
        first, second = pair.a.present(peer, **CALL), pair.a.present(peer, **CALL)
        assert first.tokens == second.tokens
        assert first.proof != second.proof
        (addressed,) = [task.handed.addressed(peer)]
        assert addressed is not None
        assert set(addressed.chain.leaf.scope.tools) == {"pay"}
        assert addressed.chain.leaf.max_depth == addressed.chain.leaf.depth == 1
        assert addressed.chain.leaf.expires_at - addressed.chain.leaf.issued_at == 300
        pair.clock.advance(250)
        assert pair.a.present(peer, **CALL).tokens != first.tokens
        with pytest.raises(AttenuationError) as refused:
            pair.a.present(Peer("service-b", tools=["unknown"]), **CALL)
        assert refused.value.code == "tool_not_attenuated"


def test_near_the_end_of_a_task_its_last_grant_is_used_to_the_end(pair: Pair) -> None:
    """A grant that lives as long as the task is not made anew for each call of the last minute."""
    with pair.task(ttl=timedelta(seconds=30)):
        assert pair.a.present(B, **CALL).tokens == pair.a.present(B, **CALL).tokens


def test_outside_a_task_nothing_is_handed_over(pair: Pair) -> None:
    """Without a live task there is nothing to present or to export, and only the task that is open here leaves."""
    with pair.task() as held_task:
        held = [held_task]
    with pytest.raises(NoTask):
        pair.a.present(B, **CALL)
    with pytest.raises(NoTask):
        held[0].export()
    with pair.task() as task:
        with pair.a.delegate(DESK, scope=READ), pytest.raises(NoTask, match="not the task that is open here"):
            task.export()
        task.end()
        with pytest.raises(NoTask):
            pair.a.present(B, **CALL)
        with pytest.raises(NoTask):
            task.export()


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({"audience": ""}, ValueError),
        ({"audience": 5}, TypeError),
        ({"audience": "b", "agent": DESK}, ValueError),
        ({"audience": "b", "key": KEY.public_key}, ValueError),
        ({"audience": "b", "agent": DESK, "key": KEY}, TypeError),
        ({"audience": "b", "agent": "desk", "key": KEY.public_key}, TypeError),
        ({"audience": "b", "tools": "pay"}, TypeError),
    ],
)
def test_a_peer_is_checked_when_it_is_made(options: dict[str, object], kind: type[Exception]) -> None:
    """What is no peer is told where it is written."""
    with pytest.raises(kind):
        Peer(**options)


def test_a_child_resumes_what_it_was_given(pair: Pair) -> None:
    """Carried authority is the same task in a narrower scope, and can be handed on by the child."""
    child = pair.open("a")
    read = child.tool(name="read")(lambda path: path)
    with pair.task() as task:
        carried = pair.a.current_task.export(scope=Scope("read", path="a"), ttl=timedelta(seconds=10))
        with child.accept(pickle.loads(pickle.dumps(carried))) as there:  # noqa: S301
            assert (there.id, there.purpose, there.grant.depth) == (task.id, "books", 1)
            assert set(there.scope.tools) == {"read"}
            assert read(path="a") == "a"
            with child.delegate(DESK, scope=Scope("read", path="a")):
                assert read(path="a") == "a"
        pair.clock.advance(10)
        with pytest.raises(Denied) as refused:
            child.accept(carried).__enter__()
        assert refused.value.code == "expired"


def test_a_grant_is_resumed_many_times_and_every_end_counts(pair: Pair) -> None:
    """Two children under one grant: the verifier wants the calls of both, not of the one that did most."""
    with pair.task():
        carried = pair.a.current_task.export(agent=DESK)
        for enforcer in (pair.open("a"), pair.open("a")):
            read = enforcer.tool(name="read")(lambda path: path)
            for _ in range(2):
                with enforcer.accept(carried, purpose="again"):
                    read(path="a")
    for enforcer in pair.opened:
        enforcer.close()
    report = Verifier().ledger(pair.folder / "a")
    assert (report.verdict, report.counts["success"]) == ("verified", 4)


def test_tokens_without_their_key_open_nothing(pair: Pair) -> None:
    """Grants stand in evidence; only their holder's key, and one that signs, makes them count."""

    class Liar:
        public_key = KEY.public_key

        def sign(self, message: bytes) -> bytes:
            return SigningKey.from_seed(b"\x08" * 32).sign(message)

    with pair.task():
        carried = pair.a.current_task.export()
        peer = Peer("service-b", agent=DESK, key=KEY.public_key)
        shown = pair.a.present(peer, **CALL)
        chain = (shown.tokens[0], shown.onward)
        for tokens, holder in ((carried.tokens, None), (carried.tokens, KEY), (chain, Liar())):
            with pytest.raises(Denied) as refused:
                pair.a.accept(Grants(tokens), holder=holder).__enter__()
            assert refused.value.code == "not_the_holder"
        with pair.b.accept(Grants(chain), holder=KEY) as there:
            assert there.agent == DESK
        with pair.b.accept(Grants(there.chain.tokens), holder=KEY) as again:
            assert again.id == there.id


def test_grants_are_made_for_the_key_of_another_party(pair: Pair) -> None:
    """They hold no secret, live five minutes at most, and open the task for that key and that name alone."""
    read = pair.b.tool(name="read")(lambda path: path)
    with pair.task(ttl=timedelta(hours=1)) as task:
        grants = task.export(to=KEY.public_key, audience="billing", agent=DESK, scope=Scope("read", path="a"))
        assert repr(grants) == str(grants) == "Grants(…)"
        assert Grants.from_text(grants.to_text() + "\n") == grants
        for holder, audience, code in (
            (None, "billing", "not_the_holder"),
            (SigningKey.from_seed(b"\x08" * 32), "billing", "not_the_holder"),
            (KEY, None, "wrong_audience"),
            (KEY, "other", "wrong_audience"),
        ):
            with pytest.raises(Denied) as refused:
                pair.b.accept(grants, holder=holder, audience=audience).__enter__()
            assert refused.value.code == code
        with pair.b.accept(grants, holder=KEY, audience="billing") as there:
            assert (there.id, there.agent, there.purpose) == (task.id, DESK, task.purpose)
            assert there.expires_at - task.expires_at == 300 - 3_600
            assert read(path="a") == "a"
            with pytest.raises(Denied):
                read(path="b")
            assert there.export(audience="billing").tokens[:2] == grants.tokens
        brief = task.export(to=KEY.public_key, audience="billing", ttl=timedelta(seconds=5))
        with pair.b.accept(brief, holder=KEY, audience="billing") as there:
            assert there.expires_at - task.expires_at == 5 - 3_600


def test_grants_without_an_audience_and_a_bundle_with_a_holder_are_refused(pair: Pair) -> None:
    """Neither could mean what it says."""
    with pair.task() as task:
        with pytest.raises(ValueError, match="audience"):
            task.export(to=KEY.public_key)  # type: ignore[call-overload]
        with pytest.raises(TypeError, match="to is"):
            task.export(to=KEY, audience="billing")  # type: ignore[call-overload]
        with pytest.raises(ConfigurationError, match="holder="):
            pair.b.accept(task.export(), holder=KEY)


def test_the_two_forms_are_not_taken_for_each_other(pair: Pair) -> None:
    """The text of one is refused as the other, so that no key is looked for where there is none."""
    with pair.task() as task:
        bundle, grants = task.export(), task.export(to=KEY.public_key, audience="billing")
    for kind, text in ((Grants, bundle.to_text()), (DelegationBundle, grants.to_text())):
        with pytest.raises(TokenError) as refused:
            kind.from_text(text)
        assert refused.value.code == "malformed_carried"


def test_what_was_carried_for_one_audience_is_resumed_under_no_other_name(pair: Pair) -> None:
    """An audience on carried authority holds for delegation under it too."""
    with pair.task():
        carried = pair.a.current_task.export(audience="worker")
        for name in (None, "other"):
            with pytest.raises(Denied) as refused:
                pair.b.accept(carried, audience=name).__enter__()
            assert refused.value.code == "wrong_audience"
        with pair.b.accept(carried, audience="worker"), pair.b.delegate(DESK, scope=READ) as child:
            assert child.grant.audience == "worker"


def test_the_end_of_the_task_reaches_whoever_shares_the_state(tmp_path: Path) -> None:
    """After the end of the parent the next call of the child is refused, and no new one begins."""
    clock = FixedClock()
    state = MemoryState()
    with (
        Enforcer.open(tmp_path / "e", sources=Sources(clock=clock), state=state) as parent,
        Enforcer.open(tmp_path / "e", sources=Sources(clock=clock), state=state) as child,
    ):
        read = child.tool(name="read")(lambda path: path)
        with parent.task("books", principal=ALICE, agent=CLERK, scope=READ):
            with parent.delegate(DESK, scope=READ):
                inner = parent.current_task.export()
            outer = parent.current_task.export()
            with pytest.raises(Denied) as refused:
                child.accept(inner).__enter__()
            assert refused.value.code == "task_ended"
            with child.accept(outer):
                assert read(path="a") == "a"
            context = contextvars.copy_context()  # As another thread of the child has one.
            opening = child.accept(outer)
            context.run(opening.__enter__)
        with pytest.raises(NoTask) as ended:
            context.run(read, path="a")
        assert ended.value.code == "task_ended"
        context.run(opening.__exit__, None, None, None)
        with pytest.raises(Denied) as refused:
            child.accept(outer).__enter__()
        assert refused.value.code == "task_ended"


class Quiet(MemoryState):
    """State in which nothing is ever revoked."""

    def generation(self) -> int:
        return 1

    def get(self, name: str) -> None:
        return None


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (AgentIdentityError("gone", code="state_unavailable"), "state_unavailable"),
        (OSError("gone"), "state_unavailable"),
    ],
)
def test_a_state_that_fails_refuses_the_call(tmp_path: Path, error: Exception, code: str) -> None:
    """If it cannot be told whether the task has ended, the body does not run; ends of tasks go on."""

    class Failing(Quiet):
        broken = False

        def insert(self, key: str, *, now: int, expires_at: int) -> bool:
            if self.broken:
                raise error
            return True

        def contains(self, key: str, *, now: int) -> bool:
            if self.broken:
                raise error
            return False

    state = Failing()
    with Enforcer.open(tmp_path / "e", state=state) as enforcer:
        read = enforcer.tool(name="read")(lambda path: path)
        with (
            enforcer.task("books", principal=ALICE, agent=CLERK, scope=READ),
            enforcer.accept(enforcer.current_task.export()),
        ):
            state.broken = True
            with pytest.raises(Denied) as refused:
                read(path="a")
            assert refused.value.code == code


def test_a_defect_on_the_way_in_is_a_refusal(pair: Pair) -> None:
    """What nobody thought of refuses, with a record and without the text of the error."""
    with pair.task():
        shown = pair.a.present(B, **CALL)
        with pytest.raises(Denied) as refused:
            receive(pair, Presentation(shown.tokens, None)).__enter__()  # type: ignore[arg-type]
        assert refused.value.code == "malformed_token"
        with pytest.raises(TypeError, match="received is 5; give DelegationBundle or Grants"):
            pair.b.accept(5)  # type: ignore[arg-type]
        with pytest.raises(Denied, match="TypeError") as refused:
            pair.b.accept(Grants(5), holder=KEY).__enter__()  # type: ignore[arg-type]
        assert refused.value.code == "guard_failed"


def test_carried_authority_shows_nothing_and_survives_the_environment(pair: Pair) -> None:
    """It has no text but the one for the child, which takes it out of its environment at once."""
    with pair.task(), trace.use_span(trace.NonRecordingSpan(trace.SpanContext(5, 6, is_remote=False))):
        carried = pair.a.current_task.export()
        assert repr(carried) == str(carried) == "DelegationBundle(…)"
        assert repr(pair.a.present(B, **CALL)) == "Presentation(…)"
        environment = {"HOME": "/", **carried.to_environment()}
        assert DelegationBundle.from_environment(environment) == carried
        assert environment == {"HOME": "/"}
        assert DelegationBundle.from_text(carried.to_text() + "\n") == carried
        assert carried.traceparent == f"00-{5:032x}-{6:016x}-00"
    with pytest.raises(TokenError) as refused:
        DelegationBundle.from_environment({})
    assert refused.value.code == "nothing_carried"
    with pytest.raises(ValueError, match="standard input"):
        DelegationBundle(("x" * 100_000,), b"\x01" * 32, "p").to_environment()
    assert ENVIRONMENT in DelegationBundle(("x",), b"\x01" * 32, "p").to_environment()


@given(st.one_of(st.text(), st.binary().map(bytes.hex), st.sampled_from(["e30", "W10", "bnVsbA", "x" * 600_000])))
def test_a_damaged_text_is_no_carried_authority(text: str) -> None:
    """Whatever comes in place of the text is refused by one error."""
    for kind in (DelegationBundle, Grants):
        with pytest.raises(TokenError) as refused:
            kind.from_text(text)
        assert refused.value.code == "malformed_carried"


@pytest.mark.parametrize(
    "change",
    [
        {"v": "2"}, {"seed": "AA"}, {"seed": 5}, {"tokens": "x"}, {"tokens": [5]}, {"purpose": ""}, {"purpose": 5},
        {"more": 1}, {"traceparent": 5}, {"traceparent": "x" * 513}, {"traceparent": "ü"}, {"traceparent": None},
    ],
)  # fmt: skip
def test_each_member_of_a_carried_text_is_checked(change: dict[str, object]) -> None:
    """A member of another form is refused, also where the rest is right."""
    from agent_identity._identity.common.encoding import b64url_decode, b64url_encode
    from agent_identity.canonical import decode, encode

    good = DelegationBundle(("t",), b"\x01" * 32, "p").to_text()
    members = {**decode(b64url_decode(good)), **change}
    with pytest.raises(TokenError):
        DelegationBundle.from_text(b64url_encode(encode(members)))


def test_the_trace_goes_on_where_the_caller_says(pair: Pair) -> None:
    """A traceparent is the parent of the task's span unless there is a span already, and garbage is ignored."""
    header = f"00-{5:032x}-{6:016x}-01"
    with pair.task(), receive(pair, pair.a.present(B, **CALL), traceparent=header):
        pair.b.tool(name="read")(lambda path: path)(path="a")
    parent = remote_parent(header)
    assert trace.get_current_span(parent).get_span_context().trace_id == 5
    assert remote_parent("garbage") is remote_parent(None) is remote_parent("x" * 513) is None
    assert traceparent() is None
    with trace.use_span(trace.NonRecordingSpan(trace.SpanContext(7, 8, is_remote=False))):
        assert remote_parent(header) is None


def test_what_was_handed_out_is_told_once_and_to_the_ancestors() -> None:
    """The end of an opened task speaks for all under it, the end of a part for its own grants; parts are bounded."""
    from types import SimpleNamespace

    root = ExportedGrants("task")
    part = ExportedGrants(None, root)
    for number in range(300):
        part.add(SimpleNamespace(id=f"g{number}", expires_at=number), 290)  # type: ignore[arg-type]
    assert root.take() == {"task": 299}
    taken = part.take()
    assert {"g291", "g299"} <= taken.keys()
    assert len(taken) < 300
    assert root.take() == part.take() == {}


def test_addresses_and_recorded_grants_are_kept_in_bounds() -> None:
    """Neither many peers nor many chains make a process grow for ever."""
    handed = ExportedGrants("task")
    for number in range(300):
        handed.keep(number, AudienceGrant(None, KEY, None))  # type: ignore[arg-type]
    assert handed.addressed(0) is None
    assert handed.addressed(299) is not None
    recorded = RecordedGrants()
    for number in range(20_000):
        recorded.add("stream", str(number))
    assert recorded.lacks("stream", "0")
    assert not recorded.lacks("stream", "19999")
    assert recorded.lacks("other", "19999")


def test_a_proof_counts_once_whatever_races(pair: Pair) -> None:
    """Of sixteen threads with one proof, one is let in."""
    with pair.task():
        shown = pair.a.present(B, **CALL)
    barrier, codes = threading.Barrier(16), []

    def attempt() -> None:
        barrier.wait()
        try:
            with receive(pair, shown):
                codes.append("in")
        except Denied as denied:
            codes.append(denied.code)

    threads = [threading.Thread(target=attempt) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # The task is over, which memory here tells b nothing about: the proof and its grant live on for their time.
    assert sorted(codes) == ["in"] + ["replay"] * 15


def test_the_ends_of_a_forked_child_are_not_told(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """A forked child that leaves the block of its parent ends nothing for others."""
    handed = ExportedGrants("task")
    with pair.task():
        pass
    handed._grants["task"] = 5
    monkeypatch.setattr("os.getpid", lambda: -1)
    assert handed.take() == {}


def _closed(action: Callable[[], object]) -> None:
    with pytest.raises(AgentIdentityError, match="closed"):
        action()


def test_a_closed_enforcer_neither_hands_over_nor_takes_up(tmp_path: Path) -> None:
    """After close there is no way in or out."""
    enforcer = Enforcer.open(tmp_path / "e")
    enforcer.close()
    _closed(lambda: enforcer.accept(Grants(())))
    _closed(lambda: enforcer.present(B, **CALL))
    _closed(lambda: enforcer.receive(Presentation((), ""), audience="b", **CALL))


def test_a_presentation_is_the_object_of_the_profile(pair: Pair) -> None:
    """Chain and proof travel as one JSON object, in which others find what they expect."""
    with pair.task():
        presentation = pair.a.present(B, **CALL)
        shown = json.loads(json.dumps(presentation.to_object()))
        assert shown == {"aat_chain": list(presentation.tokens), "aat_pop": presentation.proof}
        again = Presentation.from_object(shown | {"more": 1}, onward="o", mark="m")
        assert again == Presentation(presentation.tokens, presentation.proof, "o", "m")
        with receive(pair, Presentation.from_object(shown)):
            assert pair.b.current_task is not None


@pytest.mark.parametrize(
    "value",
    [
        None,
        "x",
        {},
        {"aat_chain": ["a"]},
        {"aat_pop": "p"},
        {"aat_chain": [], "aat_pop": "p"},
        {"aat_chain": "a", "aat_pop": "p"},
        {"aat_chain": ["a", 1], "aat_pop": "p"},
        {"aat_chain": ["a"], "aat_pop": None},
    ],
)
def test_what_is_no_presentation_is_refused(value: object) -> None:
    """A chain or proof that is missing or no text is refused with one code."""
    with pytest.raises(TokenError) as refused:
        Presentation.from_object(value)
    assert refused.value.code == "malformed_token"


def test_no_receiver_gets_the_key_of_the_task(pair: Pair) -> None:
    """Who has the key of the parent could present the parent's grant: a child that leaves has a key of its own."""
    with pair.task() as task:
        own = task.grant.holder
        with pytest.raises(AttenuationError):
            pair.a.present(Peer("service-b", agent=DESK, key=own), **CALL)
        with pytest.raises(AttenuationError):
            task.export(to=own, audience="service-b")
        assert task.export(to=KEY.public_key, audience="service-b").tokens


def test_an_optional_argument_may_be_left_out_of_a_guarded_call(pair: Pair) -> None:
    """The tool's own default counts where the caller gives nothing, and the evidence verifies."""

    @pair.a.tool
    def head(path: str, lines: int | None = None, **more: object) -> int | None:
        return lines

    scope = Scope({"head": {"path": "a", "lines": IfGiven(Range(max=9)), "*": Wildcard()}})
    with pair.task(scope):
        assert head("a") is None
        assert head("a", lines=9, encoding="utf-8") == 9
        for call in (lambda: head("a", 10), lambda: head("a", lines=None), lambda: head("b")):
            with pytest.raises(Denied) as refused:
                call()
            assert refused.value.code == "argument_out_of_scope"
        with (
            pytest.raises(AttenuationError),
            pair.a.delegate(DESK, scope=Scope({"head": {"path": IfGiven("a"), "lines": 1}})),
        ):
            pass
        with pair.a.delegate(DESK, scope=Scope("head", path="a")), pytest.raises(Denied) as refused:
            head("a", lines=1)
        assert refused.value.code == "argument_not_granted"
