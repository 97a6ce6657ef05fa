"""The kill switch: what is revoked acts no more, from the very next call on, and a list never goes back."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from agent_identity import Agent, Decision, Effect, Enforcer, Human, Rule, RuleSet, Scope, Service, Verifier
from agent_identity._authority.registries.revocations import MAX_REVOCATIONS, Revocation, RevocationList
from agent_identity._authority.stores.directory import DirectoryState
from agent_identity._identity.principals.principals import principal_from_claim
from agent_identity.approvals import Approval
from agent_identity.errors import ConfigurationError, Denied, StateError, TokenError
from agent_identity.identity import SigningKey, TrustStore
from agent_identity.options import Privacy, Sources
from agent_identity.state import Debit, MemoryState, SqliteState
from agent_identity.testing import FixedClock, SequentialIds

OPEN = Scope("tool")
ALICE = Human("alice@example.com")
CLERK = Agent("invoice-clerk", owner="finance@example.com")
READER = Agent("reader", owner="archive@example.com")

Target = Callable[[Any], Sequence[object]]
TARGETS: dict[str, Target] = {
    "task": lambda task: (task,),
    "task by id": lambda task: ("task", task.id),
    "grant": lambda task: (task.grant,),
    "grant by hash": lambda task: ("grant", task.grant.hash),
    "agent": lambda _: (CLERK,),
    "agent by id": lambda _: ("agent", "invoice-clerk"),
    "owner": lambda _: ("owner", "finance@example.com"),
    "human": lambda _: (ALICE,),
    "human by id": lambda _: ("human", "alice@example.com"),
}


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS.keys())
def test_a_revocation_takes_hold_at_the_very_next_call(world: Any, target: Target) -> None:
    """Whatever of the chain is named: the body does not run, and a signed refusal with the code says so."""
    tool = world.tool()
    with world.task(OPEN) as task:
        assert tool(1) == 1
        world.enforcer.revoke(*target(task), reason="stolen laptop")
        with world.refused("revoked"):
            tool(2)
    (record,) = world.records("revocation")
    assert record["revocation"]["status"] == "revoked"
    assert record["revocation"]["version"] == "1"
    assert record["revocation"]["reason"] == "stolen laptop"


def test_revoking_one_leaves_the_others_alone(world: Any) -> None:
    """Another task, agent, owner, principal or kind of principal goes on."""
    tool = world.tool()
    with world.task(OPEN) as other:
        pass
    with world.task(OPEN):
        enforcer = world.enforcer
        enforcer.revoke(other)
        enforcer.revoke(READER)
        enforcer.revoke("owner", "archive@example.com")
        enforcer.revoke(Human("bob@example.com"))
        enforcer.revoke(Service("alice@example.com"))
        enforcer.revoke("key", "A" * 43)
        assert tool(1) == 1


def test_a_revocation_kills_the_descendants(world: Any) -> None:
    """What was delegated falls with what it was delegated from, and not the other way round."""
    tool = world.tool()
    with world.task(OPEN) as task:
        with world.enforcer.delegate(READER, scope=OPEN) as child:
            world.enforcer.revoke(child.grant)
            with world.refused("revoked", chain=("invoice-clerk", "reader")):
                tool(1)
        assert tool(2) == 2
        with world.enforcer.delegate(READER, scope=OPEN):
            world.enforcer.revoke(task.grant)
            with world.refused("revoked", chain=("invoice-clerk", "reader")):
                tool(3)
        with world.refused("revoked"):
            tool(4)


def test_ac_18_an_issuer_key_that_is_revoked_grants_nothing_more(world: Any) -> None:
    """Tasks under the key stop, and no new one is opened."""
    tool = world.tool()
    (key,) = (k for k in TrustStore.load(world.directory / "trust.json").keys if k.purpose == "issuer")
    with world.task(OPEN):
        world.enforcer.revoke("key", key.key.thumbprint)
        with world.refused("revoked"):
            tool(1)
    with pytest.raises(Denied) as refused, world.task(OPEN):
        pytest.fail("the task was opened")
    assert refused.value.code == "revoked"


def test_everything_stops_and_goes_on(world: Any) -> None:
    """The kill switch stops all tasks of all principals, and can be turned back."""
    tool = world.tool()
    with world.task(OPEN):
        world.enforcer.revoke("everything", reason="incident 7")
        with world.refused("suspended"):
            tool(1)
        with pytest.raises(Denied, match="everything is suspended: incident 7"), world.task(OPEN):
            pytest.fail("the task was opened")
        world.enforcer.reinstate("everything")
        assert tool(2) == 2
    assert [r["revocation"]["status"] for r in world.records("revocation")] == ["suspended", "reinstated"]


def test_a_suspended_agent_is_reinstated_and_a_revoked_one_is_not(world: Any) -> None:
    """Only a suspension is lifted."""
    tool = world.tool()
    with world.task(OPEN):
        world.enforcer.revoke(CLERK, suspend=True)
        with world.refused("suspended"):
            tool(1)
        world.enforcer.reinstate(CLERK)
        assert tool(2) == 2
        world.enforcer.revoke(CLERK)
        with pytest.raises(ValueError, match="revoked for good"):
            world.enforcer.reinstate(CLERK)
        world.enforcer.revoke(CLERK, suspend=True)
        with world.refused("revoked"):
            tool(3)


def test_a_revoked_agent_gets_no_delegation(world: Any) -> None:
    """A grant to it is not even begun."""
    with world.task(OPEN):
        world.enforcer.revoke(READER)
        with pytest.raises(Denied) as refused, world.enforcer.delegate(READER, scope=OPEN):
            pytest.fail("the grant was made")
        assert refused.value.code == "revoked"


def test_ac_63_a_revocation_between_decision_and_body_counts(open_world: Any) -> None:
    """A policy or an inspector takes time; what was revoked meanwhile does not run."""

    class Slow:
        name, version, digest = "slow", "1", "A" * 43

        def decide(self, request: Any) -> Any:
            world.enforcer.revoke(CLERK)
            return Decision(effect=Effect.ALLOW, reason="policy_allows")

    world = open_world(policy=Slow())
    tool = world.tool()
    with world.task(OPEN), pytest.raises(Denied) as refused:
        tool(1)
    assert refused.value.code == "revoked"
    assert world.ran == []
    (outcome,) = world.records("outcome")
    assert (outcome["outcome"], outcome["error"]) == ("denied", "revoked")


def test_ac_26_a_generator_stops_at_its_next_step(world: Any) -> None:
    """Every resume asks again."""

    @world.enforcer.tool(name="tool")
    def items() -> Any:
        yield from range(3)

    with world.task(OPEN):
        running = items()
        assert next(running) == 0
        world.enforcer.revoke(ALICE)
        with pytest.raises(Denied) as refused:
            next(running)
    assert refused.value.code == "revoked"


OTHER = """
import sys
from agent_identity import Enforcer
with Enforcer.open(sys.argv[1]) as enforcer:
    enforcer.revoke("agent", "invoice-clerk")
"""


def test_another_process_of_the_directory_revokes(tmp_path: Path) -> None:
    """Who shares the directory shares the kill switch, at once."""
    ran: list[int] = []
    with Enforcer.open(tmp_path) as enforcer:

        @enforcer.tool(name="tool")
        def tool(x: int) -> None:
            ran.append(x)

        with enforcer.task("p", principal=ALICE, agent=CLERK, scope=OPEN):
            tool(1)
            subprocess.run([sys.executable, "-c", OTHER, str(tmp_path)], check=True, timeout=60)
            with pytest.raises(Denied) as refused:
                tool(2)
    assert refused.value.code == "revoked"
    assert ran == [1]
    assert Verifier(TrustStore.load(tmp_path / "trust.json")).ledger(str(tmp_path)).exit_code == 0


def test_ac_18_a_revocation_survives_a_restart(open_world: Any, tmp_path: Path) -> None:
    """A process that starts later on the directory knows of it before its first task."""
    for turn in range(2):
        with Enforcer.open(tmp_path / "d", sources=Sources(clock=FixedClock(), ids=None)) as enforcer:
            if turn == 0:
                enforcer.revoke(ALICE)
            with pytest.raises(Denied), enforcer.task("p", principal=ALICE, agent=CLERK, scope=OPEN):
                pytest.fail("the task was opened")


def test_ac_18_a_list_never_goes_back_also_across_a_restart(tmp_path: Path) -> None:
    """An older list of the issuer's own is taken neither now nor by a process that starts anew."""
    with Enforcer.open(tmp_path) as enforcer:
        enforcer.revoke(CLERK, suspend=True)
        old = enforcer.revocations.export()
        enforcer.revoke(ALICE)
        assert enforcer.revocations.adopt(old).version == 2
    with Enforcer.open(tmp_path) as enforcer:
        assert enforcer.revocations.adopt(old).version == 2
        with pytest.raises(Denied), enforcer.task("p", principal=ALICE, agent=READER, scope=OPEN):
            pytest.fail("the task was opened")


def test_ac_18_a_state_that_is_put_back_takes_nothing_back_here(open_world: Any) -> None:
    """Where somebody restores an older state under a running process, what it has seen counts on."""
    state = MemoryState()
    world = open_world(state=state)
    tool = world.tool()
    with world.task(OPEN):
        world.enforcer.revoke(CLERK)
        with world.refused("revoked"):
            tool(1)
        state.__init__()
        state.insert("news:x", now=1, expires_at=2)
        with world.refused("revoked"):
            tool(2)


def _put_back(state: MemoryState, signed: bytes | None) -> None:
    """Make the store one of an earlier day, in place."""
    numbers = state.generation()
    state.__init__()
    for number in range(numbers + 1):  # No number of news that was seen before comes again by chance.
        state.insert(f"news:{number}", now=1, expires_at=2)
    if signed is not None:
        state.put("revocations", 1, signed)


def _elsewhere(world: Any, state: MemoryState) -> Enforcer:
    """Return an enforcer of another process that shares the keys and the store, and starts now."""
    return Enforcer(
        keys=(
            SigningKey.load(world.directory / "keys" / "issuer.pem"),
            SigningKey.load(world.directory / "keys" / "recorder.pem"),
        ),
        trust=TrustStore.load(world.directory / "trust.json"),
        ledger=world.enforcer._enforcement.ledger,
        digests=world.enforcer._enforcement.digests,
        state=state,
        sources=Sources(clock=world.clock),
    )


REVOKED = """
import sys
from agent_identity import Enforcer
with Enforcer.open(sys.argv[1]) as enforcer:
    for name in sys.argv[2:]:
        enforcer.revoke("agent", name)
"""


def test_ac_18_what_is_revoked_after_a_directory_was_put_back_is_heeded(tmp_path: Path) -> None:
    """Its versions are older than those seen before; they stop the process that has seen them all the same."""
    kept = tmp_path / "d" / "state" / "state.sqlite"

    def revoke(*names: str) -> None:
        subprocess.run([sys.executable, "-c", REVOKED, str(tmp_path / "d"), *names], check=True, timeout=60)

    def copy(source: Path, target: Path) -> None:
        with closing(sqlite3.connect(source)) as one, closing(sqlite3.connect(target)) as other:
            one.backup(other)

    ran: list[int] = []
    with Enforcer.open(tmp_path / "d") as enforcer:

        @enforcer.tool(name="tool")
        def tool(x: int) -> None:
            ran.append(x)

        revoke("one")
        copy(kept, tmp_path / "backup")
        revoke("two", "three")
        with enforcer.task("p", principal=ALICE, agent=CLERK, scope=OPEN):
            tool(1)
            assert enforcer.revocations.current.version == 3
            copy(tmp_path / "backup", kept)
            tool(2)
            revoke("invoice-clerk")
            with pytest.raises(Denied) as refused:
                tool(3)
        listed = enforcer.revocations.current
    assert refused.value.code == "revoked"
    assert ran == [1, 2]
    assert {entry.name for entry in listed.entries} == {"one", "two", "three", "invoice-clerk"}


@pytest.mark.parametrize("more", range(4))
def test_ac_18_no_version_after_a_restore_hides_a_revocation(open_world: Any, more: int) -> None:
    """Older, the same or newer than what was seen: what is new there counts, and what was revoked here as well."""
    state = MemoryState()
    world = open_world(state=state)
    tool = world.tool()
    world.enforcer.revoke("agent", "one")
    early = world.enforcer.revocations.export()
    with world.task(OPEN):
        world.enforcer.revoke(READER)
        assert tool(1) == 1
        _put_back(state, early)
        elsewhere = _elsewhere(world, state)
        for number in range(more):
            elsewhere.revoke("agent", f"more-{number}")
        elsewhere.revoke(CLERK)
        with world.refused("revoked"):
            tool(2)
    with pytest.raises(Denied) as refused, world.task(OPEN, agent=READER):
        pytest.fail("the task was opened")
    assert refused.value.code == "revoked"
    world.enforcer.revoke("agent", "last")
    names = {entry.name for entry in _elsewhere(world, state).revocations.current.entries}
    assert {"one", "last", "reader", "invoice-clerk"} <= names


def test_ac_18_a_suspension_that_a_store_lost_ends_by_reinstating_alone(open_world: Any) -> None:
    """No list that comes after a restore lifts it by not knowing of it; the process that knows lifts it for good."""
    state = MemoryState()
    world = open_world(state=state)
    tool = world.tool()
    world.enforcer.revoke("agent", "one")
    early = world.enforcer.revocations.export()
    with world.task(OPEN):
        world.enforcer.revoke("everything")
        _put_back(state, early)
        with world.refused("suspended"):
            tool(1)
        elsewhere = _elsewhere(world, state)
        for number in range(4):
            elsewhere.revoke("agent", f"more-{number}")
            with world.refused("suspended"):
                tool(2)
        world.enforcer.reinstate("everything")
        assert tool(3) == 3
        elsewhere.revoke("everything")
        with world.refused("suspended"):
            tool(4)
        elsewhere.reinstate("everything")
        assert tool(5) == 5


def test_ac_18_what_is_signed_again_after_a_restore_lacks_nothing_that_is_known(open_world: Any) -> None:
    """A process that starts anew learns from it what the state had lost."""
    state = MemoryState()
    world = open_world(state=state)
    world.enforcer.revoke("agent", "one")
    early = world.enforcer.revocations.export()
    world.enforcer.revoke(CLERK)
    _put_back(state, early)
    assert world.enforcer.revocations.sign_again().version == 3
    names = {entry.name for entry in _elsewhere(world, state).revocations.current.entries}
    assert names == {"one", "invoice-clerk"}


def test_ac_18_lists_too_long_together_after_a_restore_stop_everything(open_world: Any) -> None:
    """Where not all that is known can be kept, nothing runs."""
    state = MemoryState()
    world = open_world(state=state)
    tool = world.tool()
    issuer = SigningKey.load(world.directory / "keys" / "issuer.pem")
    trust = TrustStore.load(world.directory / "trust.json")

    def signed(name: str) -> bytes:
        entries = tuple(Revocation("agent", f"{name}-{n}", since=1) for n in range(MAX_REVOCATIONS // 2 + 1))
        return RevocationList(1, 1, entries).sign(issuer, issuer=trust.issuer or "")

    with world.task(OPEN):
        state.put("revocations", 1, signed("a"))
        assert tool(1) == 1
        _put_back(state, signed("b"))
        with world.refused("revocations_unreadable"):
            tool(2)


@pytest.mark.parametrize("there", ["another directory", "another file", "nothing"])
def test_ac_18_a_child_forked_after_the_state_was_replaced_runs_nothing(tmp_path: Path, there: str) -> None:
    """It cannot hear of revocations any more, like its parent, which is refused at its next look."""
    state = tmp_path / "d" / "state"
    with Enforcer.open(tmp_path / "d") as enforcer:
        tool = enforcer.tool(name="tool")(lambda x: x)
        with enforcer.task("p", principal=ALICE, agent=CLERK, scope=OPEN):
            assert tool(1) == 1
        state.rename(tmp_path / "gone")
        if there != "nothing":
            shutil.copytree(tmp_path / "gone", state)
        if there == "another file":
            (state / "news").unlink()
        child = os.fork()
        if child == 0:
            status = 1
            try:
                with enforcer.task("p", principal=ALICE, agent=CLERK, scope=OPEN):
                    tool(2)
            except Denied as refused:
                status = 0 if refused.code == "state_unavailable" else 2
            finally:
                os._exit(status)
        assert os.waitpid(child, 0)[1] == 0
        assert (state / "news").exists() is (there == "another directory")


def test_ac_12_a_list_of_a_stranger_is_refused_and_nothing_runs_under_it(open_world: Any) -> None:
    """A list that somebody put into the state without the issuer's key stops everything instead of counting."""
    state = MemoryState()
    world = open_world(state=state)
    tool = world.tool()
    forged = RevocationList(9, 1, ()).sign(SigningKey.generate(), issuer="urn:x")
    with world.task(OPEN):
        assert tool(1) == 1
        with pytest.raises(TokenError):
            world.enforcer.revocations.adopt(forged)
        state.put("revocations", 9, forged)
        with world.refused("revocations_unreadable"):
            tool(2)


class Broken:
    """A store that works until it is told to fail."""

    def __init__(self) -> None:
        self.kept = MemoryState()
        self.broken = False

    def __getattr__(self, name: str) -> Any:
        def step(*args: object, **kwargs: object) -> object:
            if self.broken:
                raise StateError("expected a store, got none")
            return getattr(self.kept, name)(*args, **kwargs)

        return step


def test_a_store_that_cannot_be_asked_refuses_and_recovers(open_world: Any) -> None:
    """Fail closed, with its own code; once the store answers, the next call runs."""
    store = Broken()
    world = open_world(state=store)
    tool = world.tool()
    with world.task(OPEN):
        store.broken = True
        with world.refused("state_unavailable"):
            tool(1)
        with pytest.raises(StateError):
            world.enforcer.revoke(CLERK)
        store.broken = False
        assert tool(2) == 2
    assert world.records("revocation") == []


def test_what_cannot_be_asked_in_monitor_mode_runs_and_is_recorded(open_world: Any) -> None:
    """Monitor mode lets everything run; the record says what would have happened."""
    world = open_world(mode="monitor")
    tool = world.tool()
    with world.task(OPEN):
        world.enforcer.revoke(CLERK)
        assert tool(1) == 1
    outcome = world.records("outcome")[-1]
    assert (outcome["decision"]["reason"], outcome["decision"]["enforced"]) == ("revoked", "audit")


def test_two_who_revoke_at_once_lose_nothing(tmp_path: Path) -> None:
    """Each change begins from the newest list; of many at once all are kept, and each has a version of its own."""
    states = [SqliteState(tmp_path / "state") for _ in range(2)]
    names = [f"agent-{n}" for n in range(20)]
    with Enforcer.open(tmp_path / "a", state=states[0]) as one:
        other = Enforcer(
            keys=(
                SigningKey.load(tmp_path / "a" / "keys" / "issuer.pem"),
                SigningKey.load(tmp_path / "a" / "keys" / "recorder.pem"),
            ),
            trust=TrustStore.load(tmp_path / "a" / "trust.json"),
            ledger=one._enforcement.ledger,
            digests=one._enforcement.digests,
            state=states[1],
        )
        threads = [
            threading.Thread(target=lambda e=e, part=part: [e.revoke("agent", name) for name in part])
            for e, part in ((one, names[:10]), (other, names[10:]))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        listed = one.revocations.current
    assert {entry.name for entry in listed.entries} == set(names)
    assert listed.version == 20
    for state in states:
        state.close()


def test_processes_elsewhere_follow_within_their_interval(open_world: Any, tmp_path: Path) -> None:
    """Without the shared state the list comes from a source, asked once the interval has passed."""
    world = open_world()
    tool = world.tool()
    feed = tmp_path / "list"
    enforcer = world.enforcer
    enforcer.revoke("agent", "somebody-else")
    feed.write_bytes(enforcer.revocations.export())
    away = MemoryState()
    elsewhere = Enforcer(
        keys=(
            SigningKey.load(world.directory / "keys" / "issuer.pem"),
            SigningKey.load(world.directory / "keys" / "recorder.pem"),
        ),
        trust=TrustStore.load(world.directory / "trust.json"),
        ledger=enforcer._enforcement.ledger,
        digests=enforcer._enforcement.digests,
        state=away,
        sources=Sources(clock=world.clock, ids=SequentialIds()),
    )
    asked: list[int] = []

    def source() -> bytes:
        asked.append(1)
        return feed.read_bytes()

    elsewhere.revocations.follow(source, every=30)
    world.enforcer = elsewhere
    tool = world.tool()
    with world.task(OPEN, ttl=timedelta(hours=1)):
        enforcer.revoke(CLERK)
        feed.write_bytes(enforcer.revocations.export())
        assert tool(1) == 1
        assert len(asked) == 1
        world.clock.advance(30)
        with world.refused("revoked"):
            tool(2)
        assert len(asked) == 2
    world.enforcer = enforcer


def test_a_source_that_stays_away_too_long_stops_everything(open_world: Any) -> None:
    """One lost turn is forgiven, three are not; the first good answer lets calls run again."""
    world = open_world()
    tool = world.tool()
    world.enforcer.revoke("agent", "somebody-else")
    good, works = world.enforcer.revocations.export(), [True]

    def source() -> bytes:
        if not works[0]:
            raise OSError("away")
        return good

    world.enforcer.revocations.follow(source, every=10)
    with world.task(OPEN, ttl=timedelta(hours=1)):
        works[0] = False
        for _ in range(3):
            world.clock.advance(10)
            assert tool(1) == 1
        world.clock.advance(10)
        with world.refused("revocations_stale"):
            tool(2)
        with world.refused("revocations_stale"):
            tool(3)
        works[0] = True
        assert tool(4) == 4
    with pytest.raises(ValueError, match="out of range"):
        world.enforcer.revocations.follow(source, every=0)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("agent",), "the name is missing"),
        (("planet", "x"), "before a name"),
        (("planet",), "str cannot be revoked"),
        ((object(),), "give Task or Grant"),
        ((CLERK, "x"), "before a name"),
    ],
)
def test_wrong_targets_are_type_errors(world: Any, given: tuple[object, ...], message: str) -> None:
    """What cannot be revoked is said at once, and nothing is."""
    with pytest.raises(TypeError, match=message):
        world.enforcer.revoke(*given)
    assert world.enforcer.revocations.current.version == 0


def test_there_is_nothing_to_export_before_the_first(world: Any) -> None:
    """The list begins with the first revocation."""
    with pytest.raises(ConfigurationError, match="nothing has been revoked yet"):
        world.enforcer.revocations.export()


def test_a_list_without_end_of_turns_says_so(open_world: Any) -> None:
    """A store that never takes the change is a failure of the store, not a loop without end."""

    class Stubborn(Broken):
        def put(self, name: str, version: int, data: bytes) -> bool:
            return False

    world = open_world(state=Stubborn())
    with pytest.raises(StateError, match="many others change the list"):
        world.enforcer.revoke(CLERK)


class HeldClock:
    """A clock on which one thread waits."""

    def __init__(self) -> None:
        self.waiting, self.go = threading.Event(), threading.Event()

    def wall_ns(self) -> int:
        """Return the time; the thread ``held`` waits for it."""
        if threading.current_thread().name == "held":
            self.waiting.set()
            self.go.wait()
        return 1_764_000_000 * 10**9

    def monotonic_ns(self) -> int:
        """Return the time since an arbitrary start."""
        return 0


def test_ac_18_a_child_of_a_fork_waits_for_no_thread_that_follows_new_keys(tmp_path: Path) -> None:
    """A fork while another thread of the parent reads a list by the trusted keys leaves the child able to call."""
    clock = HeldClock()
    with (
        Enforcer.open(tmp_path, sources=Sources(clock=clock)) as enforcer,
        Enforcer.open(tmp_path, sources=Sources(clock=clock)) as other,
    ):
        other.revoke(READER)
        reading = threading.Thread(target=lambda: enforcer.revocations.current, name="held")
        reading.start()
        assert clock.waiting.wait(30)
        child = os.fork()
        if child == 0:
            signal.alarm(30)
            status = 1
            try:
                with enforcer.task("p", principal=ALICE, agent=CLERK, scope=OPEN), enforcer.action("tool"):
                    status = 0
            finally:
                os._exit(status)
        clock.go.set()
        reading.join()
        assert os.waitpid(child, 0)[1] == 0


def test_a_forked_child_shares_the_switch(tmp_path: Path) -> None:
    """A child of a fork sees what its parent revokes, and the other way round."""
    with Enforcer.open(tmp_path) as enforcer:
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            status = 1
            try:
                enforcer.revoke(CLERK)
                status = 0
            finally:
                os._exit(status)
        assert os.waitpid(child, 0)[1] == 0
        os.close(read)
        os.close(write)
        with pytest.raises(Denied), enforcer.task("p", principal=ALICE, agent=CLERK, scope=OPEN):
            pytest.fail("the task was opened")
        enforcer.revoke(READER)
        assert enforcer.revocations.current.version == 2


def test_debits_do_not_make_news(tmp_path: Path) -> None:
    """Spending a limit changes no list, so nobody has to read it again."""
    state = DirectoryState(tmp_path)
    before = state.generation()
    assert state.debit([Debit("limit:a", 1, 5, None, 100)], now=1) is None
    state.credit([Debit("limit:a", 1, 5, None, 100)], now=1)
    assert state.generation() == before
    assert state.insert("ended:x", now=1, expires_at=9)
    assert state.generation() != before
    state.close()
    state.close()
    with pytest.raises(StateError):
        state.generation()


def test_ac_17_a_list_by_a_stolen_key_counts_no_more(tmp_path: Path) -> None:
    """Once the issuer key is revoked, nothing runs under the list that it signed, until the list is signed again."""
    with Enforcer.open(tmp_path) as enforcer:
        enforcer.revoke(CLERK)
    stolen = SigningKey.load(tmp_path / "keys" / "issuer.pem")
    thief = RevocationList(9, 1, ()).sign(stolen, issuer=TrustStore.load(tmp_path / "trust.json").issuer or "")
    for words in (("rotate", "--all", str(tmp_path)), ("revoke", "--since", "0", "--", str(tmp_path))):
        thumbprint = (stolen.public_key.thumbprint,) if words[0] == "revoke" else ()
        command = [sys.executable, "-m", "agent_identity", "keys", *words, *thumbprint]
        subprocess.run(command, check=True, timeout=60, capture_output=True)
    with Enforcer.open(tmp_path) as enforcer:
        with pytest.raises(TokenError) as forged:
            enforcer.revocations.adopt(thief)
        assert forged.value.code == "key_revoked"
        with pytest.raises(Denied) as refused, enforcer.task("p", principal=ALICE, agent=READER, scope=OPEN):
            pytest.fail("the task was opened")
        assert refused.value.code == "revocations_unreadable"
        assert enforcer.revocations.sign_again().version == 2
        with enforcer.task("p", principal=ALICE, agent=READER, scope=OPEN):
            pass
        with pytest.raises(Denied) as refused, enforcer.task("p", principal=ALICE, agent=CLERK, scope=OPEN):
            pytest.fail("the task was opened")
        assert refused.value.code == "revoked"


def test_ac_16_a_list_outlives_the_rotation_of_its_key(tmp_path: Path) -> None:
    """A list that was signed while the key was valid counts on after the key was exchanged."""
    with Enforcer.open(tmp_path) as enforcer:
        enforcer.revoke(CLERK)
    command = [sys.executable, "-m", "agent_identity", "keys", "rotate", "--issuer", "--overlap", "1d", str(tmp_path)]
    subprocess.run(command, check=True, timeout=60, capture_output=True)
    with Enforcer.open(tmp_path) as enforcer:
        with pytest.raises(Denied) as refused, enforcer.task("p", principal=ALICE, agent=CLERK, scope=OPEN):
            pytest.fail("the task was opened")
        assert refused.value.code == "revoked"
        enforcer.revoke(READER)
        assert enforcer.revocations.current.version == 2


def test_a_refused_opening_is_recorded(world: Any) -> None:
    """Who asked for a task that is not opened, and why it is not, is a signed refusal outside any task."""
    world.enforcer.revoke(CLERK)
    with pytest.raises(Denied) as refused, world.task(OPEN):
        pytest.fail("the task was opened")
    (outcome,) = world.records("outcome")
    assert (outcome["outcome"], outcome["error"], outcome["attribution"]) == ("denied", "revoked", "none")
    assert outcome["action"]["agent"]["id"] == "invoice-clerk"
    assert outcome["action"]["principal"]["id"] == "alice@example.com"
    assert refused.value.reference == outcome["id"]
    assert world.records("grant") == []


@pytest.mark.parametrize("hidden", [False, True], ids=["names", "pseudonyms"])
@pytest.mark.parametrize("kind", ["human", "service"])
def test_who_is_revoked_acts_for_nobody_else(tmp_path: Path, kind: Any, hidden: bool) -> None:
    """A revoked actor (``via``) stops the tasks of every principal for whom it acts, from the next call on."""
    principal = principal_from_claim({**ALICE.to_claim(), "via": ["bob@example.com"]})
    with Enforcer.open(tmp_path / "evidence", privacy=Privacy(pseudonyms=hidden)) as enforcer:

        def outcome() -> str:
            try:
                with enforcer.task("t", principal=principal, agent=CLERK, scope=OPEN), enforcer.action("tool"):
                    return "ran"
            except Denied as denied:
                return denied.code

        assert outcome() == "ran"
        enforcer.revoke(kind, "bob@example.com", suspend=True)
        assert outcome() == "suspended"
        enforcer.reinstate(kind, "bob@example.com")
        assert outcome() == "ran"


@pytest.mark.parametrize("hidden", [False, True], ids=["names", "pseudonyms"])
@pytest.mark.parametrize("before", [False, True], ids=["before the answer", "after the answer"])
def test_who_is_revoked_approves_nothing(tmp_path: Path, before: bool, hidden: bool) -> None:
    """A revoked person's answer is refused and burns nothing, and an earlier ruling counts no more."""
    policy, bob, carol = RuleSet(Rule(Effect.ROUTE, tools="tool", to="desk")), Human("bob"), Human("carol")
    given: dict[str, Any] = {"policy": policy, "routes": {"desk": Approval()}, "privacy": Privacy(pseudonyms=hidden)}
    with Enforcer.open(tmp_path / "evidence", **given) as enforcer:
        tool, approvals = enforcer.tool(name="tool")(lambda: "ran"), enforcer.approvals
        with enforcer.task("t", principal=ALICE, agent=CLERK, scope=OPEN):
            with pytest.raises(Denied):
                tool()
            with enforcer.no_task():
                request = approvals.pending()[0].id
                if before:
                    approvals.approve(request, by=bob)
                enforcer.revoke(bob)
                if not before:
                    for act in (approvals.approve, approvals.reject):
                        with pytest.raises(Denied) as caught:
                            act(request, by=bob)
                        assert caught.value.code == "revoked"
                    approvals.approve(request, by=carol)
            if before:
                with pytest.raises(Denied) as caught:
                    tool()
                assert caught.value.code == "revoked"
            else:
                assert tool() == "ran"
