"""What reviewers found where revocation, limits, registries and other processes meet; each was a way round."""

import shutil
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from agent_identity import Agent, Decision, Effect, Enforcer, Human, Scope
from agent_identity._authority.registries.revocations import MAX_REVOCATIONS, Revocation, RevocationList
from agent_identity._authority.stores.directory import DirectoryState
from agent_identity._guard.judging import revocations
from agent_identity._identity.keys.jws import token_hash
from agent_identity.delegation import Peer
from agent_identity.errors import ConfigurationError, Denied, LimitExceeded, StateError, TokenError
from agent_identity.identity import Registration, SigningKey, TrustStore, register_agents
from agent_identity.limits import Limit
from agent_identity.state import MemoryState
from agent_identity.testing import FixedClock

OPEN = Scope("tool")
ALICE = Human("alice@example.com")
CLERK = Agent("invoice-clerk", owner="finance@example.com")
HELPER = Agent("helper", owner="finance@example.com")
CALL: dict[str, Any] = {"tool": "tool", "arguments": {}}


@pytest.mark.parametrize(
    "leave", [lambda e: e.present(Peer("b"), **CALL), lambda e: e.current_task.export()], ids=["present", "carry"]
)
def test_ac_18_revoked_authority_does_not_leave_the_process(world: Any, leave: Callable[[Enforcer], object]) -> None:
    """What may act no more here is not handed to others either, and the refusal is recorded."""
    with world.task(OPEN):
        leave(world.enforcer)
        world.enforcer.revoke(CLERK)
        with pytest.raises(Denied) as refused:
            leave(world.enforcer)
        assert refused.value.code == "revoked"
    assert [record["error"] for record in world.records("outcome")] == ["revoked"]


def test_ac_12_a_partner_neither_lifts_revocations_nor_registers_agents(tmp_path: Path) -> None:
    """A key that is trusted for another issuer signs nothing in the name of this one."""
    partner = SigningKey.generate()
    with Enforcer.open(tmp_path / "d"):
        pass
    path = tmp_path / "d" / "trust.json"
    ours = TrustStore.load(path)
    ours.with_key(partner.public_key, "issuer", issuer="https://partner.example").save(path)
    with Enforcer.open(tmp_path / "d") as enforcer:
        enforcer.revoke(CLERK)
        forged = RevocationList(1_000, 1, ()).sign(partner, issuer=ours.issuer or "")
        with pytest.raises(TokenError) as refused:
            enforcer.revocations.adopt(forged)
        assert refused.value.code == "wrong_issuer"
        with pytest.raises(Denied), enforcer.task("p", principal=ALICE, agent=CLERK, scope=OPEN):
            pytest.fail("the task was opened")


@pytest.mark.parametrize(
    "leave",
    [
        lambda e: e.current_task.export(agent=HELPER),
        lambda e: e.present(Peer("b", agent=HELPER, key=SigningKey.generate().public_key), **CALL),
    ],
    ids=["carry", "present"],
)
def test_agents_that_are_not_registered_get_no_grant_through_another_process(
    tmp_path: Path, leave: Callable[[Enforcer], object]
) -> None:
    """The registry is asked for every grant, wherever it goes."""
    with Enforcer.open(tmp_path):
        pass
    expires = int(time.time()) + 3_600
    register_agents(tmp_path, Registration(CLERK, purpose="books", maximum=OPEN, expires_at=expires))
    with (
        Enforcer.open(tmp_path, agents="registered") as enforcer,
        enforcer.task("p", principal=ALICE, agent=CLERK, scope=OPEN),
    ):
        with pytest.raises(Denied) as refused:
            leave(enforcer)
        assert refused.value.code == "agent_not_registered"


def test_the_command_line_stops_enforcers_with_a_store_of_their_own_as_well(tmp_path: Path) -> None:
    """Whoever revokes in the directory is heard by all that have it open, whatever they share otherwise."""
    with Enforcer.open(tmp_path, state=MemoryState()) as running, Enforcer.open(tmp_path) as shell:
        tool = running.tool(name="tool")(abs)
        with running.task("p", principal=ALICE, agent=CLERK, scope=OPEN):
            assert tool(-1) == 1
            shell.revoke("everything")
            with pytest.raises(Denied) as refused:
                tool(-2)
            assert refused.value.code == "suspended"


def test_a_state_that_was_removed_is_not_taken_for_one_without_news(tmp_path: Path, monkeypatch: Any) -> None:
    """A counter whose file is gone, or another's, tells nothing."""
    state = DirectoryState(tmp_path / "state")
    now = [10**9]
    monkeypatch.setattr(time, "monotonic_ns", lambda: now[0])
    assert state.generation() == 0
    shutil.rmtree(tmp_path / "state")
    now[0] += 10**9
    with pytest.raises(StateError):
        state.generation()
    DirectoryState(tmp_path / "state").close()
    now[0] += 10**9
    with pytest.raises(StateError, match="replaced"):
        state.generation()
    state.close()


@pytest.mark.parametrize(("name", "mode"), [("state", 0o777), ("state/news", 0o666)])
def test_a_state_that_others_can_change_is_refused(tmp_path: Path, name: str, mode: int) -> None:
    """Whoever may write the counter could hide a revocation."""
    DirectoryState(tmp_path / "state").close()
    (tmp_path / name).chmod(mode)
    with pytest.raises(ConfigurationError, match="chmod"):
        DirectoryState(tmp_path / "state")


def test_closing_the_enforcer_ends_what_it_handed_out(tmp_path: Path) -> None:
    """The end of everything is told to the processes that were given a part."""
    parent, child = Enforcer.open(tmp_path), Enforcer.open(tmp_path)
    tool = child.tool(name="tool")(abs)
    opening = parent.task("p", principal=ALICE, agent=CLERK, scope=OPEN)
    opening.__enter__()
    with child.accept(parent.current_task.export()):
        assert tool(-1) == 1
        parent.close()
        with pytest.raises(Denied) as refused:
            tool(-2)
        assert refused.value.code == "task_ended"
    with pytest.raises(Exception, match="closed"):
        opening.__exit__(None, None, None)
    child.close()


def test_a_rate_counts_when_the_body_may_run_not_when_the_call_began(open_world: Any) -> None:
    """Calls that a slow policy held back do not all run at once afterwards."""
    clock = FixedClock()

    class Slow:
        name, version, digest = "slow", "1", "A" * 43

        def decide(self, _request: object) -> Decision:
            if inner:
                inner.pop()()
            return Decision(effect=Effect.ALLOW, reason="policy_allows")

    world = open_world(policy=Slow(), clock=clock)
    inner: list[Callable[[], object]] = []
    tool = world.tool()
    with world.task(OPEN, limits=(Limit.rate("tool", 1, per=timedelta(seconds=10)),)):

        def meanwhile() -> None:
            world.clock.advance(60)
            clock.advance(60)
            tool(1)

        inner.append(meanwhile)
        with pytest.raises(LimitExceeded):
            tool(2)
    assert [x for _, x, _ in world.ran] == [1]


def test_a_revoked_leaf_counts_although_another_grant_goes_on(tmp_path: Path) -> None:
    """The grant that was shown is a part of what is asked for, at the start and at every call."""
    key = SigningKey.generate()
    peer = Peer("b", agent=HELPER, key=key.public_key)
    given: dict[str, Any] = {"audience": "b", "holder": key, "agent": HELPER}
    with Enforcer.open(tmp_path) as enforcer:
        tool = enforcer.tool(name="tool")(abs)
        with enforcer.task("p", principal=ALICE, agent=CLERK, scope=OPEN):
            shown = enforcer.present(peer, **CALL)
            with enforcer.receive(shown, **CALL, **given):
                assert tool(-1) == 1
                enforcer.revoke("grant", token_hash(shown.tokens[-1]))
                with pytest.raises(Denied) as refused:
                    tool(-2)
                assert refused.value.code == "revoked"
            again = enforcer.present(peer, **CALL)
            with pytest.raises(Denied) as refused, enforcer.receive(again, **CALL, **given):
                pytest.fail("the task was opened")
            assert refused.value.code == "revoked"


def test_everything_can_be_suspended_however_full_the_list_is() -> None:
    """The one entry that stops everything has room of its own."""
    full = RevocationList(1, 1, tuple(Revocation("agent", f"a{n}", since=1) for n in range(MAX_REVOCATIONS)))
    stopped = full.adding(Revocation("everything", "*", "suspended", since=2), now=2)
    assert len(stopped.entries) == MAX_REVOCATIONS + 1


def test_ac_18_a_thread_that_reads_slowly_brings_no_old_list_back(open_world: Any) -> None:
    """While one thread still holds an older list, another takes a newer one: that one stays."""

    class Slow:
        def __init__(self) -> None:
            self.kept, self.meanwhile = MemoryState(), list[Callable[[], object]]()

        def __getattr__(self, name: str) -> Any:
            return getattr(self.kept, name)

        def get(self, name: str) -> tuple[int, bytes] | None:
            found = self.kept.get(name)
            if self.meanwhile:
                self.meanwhile.pop()()
            return found

    state = Slow()
    world = open_world(state=state)
    world.enforcer.revoke(HELPER)
    first = world.enforcer.revocations.export()
    world.enforcer.revoke(CLERK)
    second = world.enforcer.revocations.export()
    later = open_world(state=(fresh := Slow()))
    revocations = world.enforcer.revocations
    revocations.known, revocations._found, revocations._state = RevocationList(), (RevocationList(), b""), fresh
    fresh.put("revocations", 1, first)
    fresh.meanwhile.append(lambda: (fresh.put("revocations", 2, second), revocations.current))
    assert revocations.current.version == 2
    later.enforcer.close()


def test_ac_18_a_slow_answer_of_the_store_holds_up_no_other_thread(open_world: Any) -> None:
    """Threads ask the store at the same time, so that one slow answer does not make all calls wait."""

    class Slow(MemoryState):
        def get(self, name: str) -> tuple[int, bytes] | None:
            if meanwhile:
                meanwhile.pop()()
            return super().get(name)

    def in_another_thread() -> None:
        other = threading.Thread(target=lambda: answers.append(world.enforcer.revocations.current.version), daemon=True)
        other.start()
        other.join(timeout=10)

    meanwhile, answers = list[Callable[[], object]](), list[int]()
    world = open_world(state=Slow())
    world.enforcer.revoke(HELPER)
    meanwhile.append(in_another_thread)
    assert world.enforcer.revocations.current.version == 1
    assert answers == [1]


@pytest.mark.parametrize("lifts", [False, True])
def test_ac_18_a_signal_handler_that_revokes_interrupts_no_reading_for_good(open_world: Any, lifts: bool) -> None:
    """A kill switch in a handler may fall into the reading of the list in its thread: its own newer list counts."""
    world, done = open_world(), list[int]()
    read = revocations.trusted_revocations

    def interrupted(*args: Any, **options: Any) -> RevocationList:
        found = read(*args, **options)
        patch.undo()
        if lifts:
            world.enforcer.reinstate(HELPER)
        else:
            world.enforcer.revoke(CLERK)
        return found

    def work() -> None:
        done.append(world.enforcer.revocations.current.version)

    world.enforcer.revoke(HELPER, suspend=True)
    world.enforcer.revocations._found = RevocationList(), b""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(revocations, "trusted_revocations", interrupted)
        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        thread.join(30)
    assert done == [2]
    listed = {entry.name for entry in world.enforcer.revocations.known.entries}
    assert listed == (set() if lifts else {HELPER.id, CLERK.id})


def test_ac_18_a_list_that_is_refused_is_not_taken_for_read(open_world: Any) -> None:
    """Of two threads that meet an unreadable list at the same time, neither may go on."""

    class Twice(MemoryState):
        def get(self, name: str) -> tuple[int, bytes] | None:
            if meanwhile:
                meanwhile.pop()()
            return super().get(name)

    def refused() -> None:
        with pytest.raises(Denied) as caught:
            _ = world.enforcer.revocations.current
        refusals.append(caught.value.code)

    meanwhile, refusals = list[Callable[[], object]](), list[str]()
    state = Twice()
    world = open_world(state=state)
    state.put("revocations", 1, b"no list")
    meanwhile.append(refused)
    refused()
    assert refusals == ["revocations_unreadable"] * 2
