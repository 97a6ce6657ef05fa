"""The registry of agents at the enforcement point: asked when a task opens, and what it refuses is recorded."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from plain_records import error_type

from agent_identity import Agent, Enforcer, Human, Scope, Verifier
from agent_identity._directory.agents_file import register, registry_path
from agent_identity._directory.open import prepare
from agent_identity._storage.os_files import Files
from agent_identity.audit import story
from agent_identity.constraints import Range
from agent_identity.errors import ConfigurationError, Denied, EvidenceError, OutOfScope, StateError, TokenError
from agent_identity.identity import AgentRegistry, Registration, SigningKey, TrustStore, register_agents
from agent_identity.options import DigestKeys, Ledger, Sources
from agent_identity.state import MemoryState
from agent_identity.testing import FixedClock, SequentialIds

ALICE = Human("alice@example.com")
CLERK = Agent("invoice-clerk", owner="finance@example.com")
HELPER = Agent("helper", owner="it@example.com")
NOW = FixedClock().wall_ns() // 10**9
MAXIMUM = Scope("tool", x=Range(max=100)) | Scope("open")


def registration(agent: Agent = CLERK, **more: Any) -> Registration:
    return Registration(agent, **{"purpose": "pay invoices", "maximum": MAXIMUM, "expires_at": NOW + 3600, **more})


def registered(directory: Path, *registrations: Registration) -> AgentRegistry:
    """Register agents in a directory, whose keys are made if there are none."""
    return register_agents(directory, *registrations, clock=FixedClock(), ids=SequentialIds())


@pytest.fixture
def start(opened: Callable[..., Any], tmp_path: Path) -> Callable[..., Any]:
    """Opens a world whose registry holds these agents; by default it is required."""

    def start_one(*registrations: Registration, agents: str | None = "registered", **options: Any) -> Any:
        registered(tmp_path / "evidence-0", *registrations)
        return opened(agents=agents, **options)

    return start_one


def refusal(world: Any) -> dict[str, Any]:
    (record,) = world.records("outcome")
    assert (record["outcome"], record["error"]) == ("denied", record["decision"]["reason"])
    assert record["decision"]["effect"] == record["decision"]["enforced"] == "block"
    return record


# ------------------------------------------------------------------------------------------- admitted


def test_a_registered_agent_works_and_its_registration_is_recorded_once(start: Callable[..., Any]) -> None:
    """The record stands before the first grant, and says owner, purpose, status and which line it was."""
    world = start(registration())
    for _ in range(2):
        with world.task(Scope("tool", x=5)):
            pass
    assert [record["kind"] for record in world.records()][:3] == ["stream_start", "registration", "grant"]
    (record,) = world.records("registration")
    found = AgentRegistry.load(registry_path(world.directory), TrustStore.load(world.directory / "trust.json"))
    assert record["agent"] == {"id": "invoice-clerk", "owner": "finance@example.com"}
    assert record["registration"] == {"hash": found.mark[1], "purpose": "pay invoices", "status": "registered"}


def test_a_new_registration_is_recorded_as_well(start: Callable[..., Any]) -> None:
    """What changed while the enforcer runs counts at the next task, and is recorded when it is used."""
    world = start(registration())
    with world.task(Scope("tool", x=5)):
        pass
    registered(world.directory, registration(purpose="read invoices"))
    with world.task(Scope("tool", x=5)):
        pass
    assert [r["registration"]["purpose"] for r in world.records("registration")] == ["pay invoices", "read invoices"]


def test_a_registration_that_cannot_be_recorded_opens_nothing(
    start: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No evidence, no authority; the next task tries again."""
    world = start(registration())
    ledger = type(world.enforcer._enforcement.ledger)
    append = ledger.append

    def flaky(this: Any, make: Any, **options: Any) -> Any:
        if error_type(make) == "registration":
            raise EvidenceError("disk full")
        return append(this, make, **options)

    with monkeypatch.context() as patch:
        patch.setattr(ledger, "append", flaky)
        with pytest.raises(EvidenceError), world.task(Scope("tool", x=5)):
            pytest.fail("the block ran")
    assert world.records("grant") == []
    with world.task(Scope("tool", x=5)):
        pass
    assert len(world.records("registration")) == 1


def test_a_grant_does_not_outlive_the_registration(start: Callable[..., Any]) -> None:
    """The expiry of the registration bounds the task and what is delegated, even if a clock went back."""
    world = start(registration(expires_at=NOW + 60), registration(HELPER, expires_at=NOW + 20))
    with world.task(Scope("tool", x=5)) as task:
        assert task.expires_at == NOW + 60
        with world.enforcer.delegate(HELPER, scope=Scope("tool", x=5)) as child:
            assert child.expires_at == NOW + 20
        world.clock.set_wall((NOW - 10) * 10**9)
        with world.enforcer.delegate(HELPER, scope=Scope("tool", x=5), ttl=timedelta(minutes=1)) as child:
            assert child.expires_at == NOW + 20
    with world.task(Scope("tool", x=5), ttl=timedelta(seconds=5)) as task:
        assert task.expires_at == NOW - 10 + 5


def test_the_range_of_a_ttl_does_not_depend_on_the_registration(start: Callable[..., Any]) -> None:
    """A ttl out of range is the same error as without a registry, and leaves no record."""
    world = start(registration(expires_at=NOW + 60))
    with pytest.raises(ValueError, match="ttl"), world.task(Scope("tool", x=5), ttl=timedelta(days=2)):
        pytest.fail("the block ran")
    assert [record["kind"] for record in world.records()] == ["stream_start"]


# -------------------------------------------------------------------------------------------- refused


@pytest.mark.parametrize(
    ("rows", "agent", "code"),
    [
        ([], CLERK, "agent_not_registered"),
        ([{"status": "suspended"}], CLERK, "agent_suspended"),
        ([{"status": "retired"}], CLERK, "agent_retired"),
        ([{"status": "orphaned"}], CLERK, "agent_orphaned"),
        ([{"expires_at": NOW}], CLERK, "agent_expired"),
        ([{}], Agent("invoice-clerk", owner="mallory@example.com"), "owner_mismatch"),
        ([{"agent": Agent("invoice-clerk", owner="finance@example.com", version="2")}], CLERK, "version_mismatch"),
    ],
)
@pytest.mark.parametrize("agents", ["registered", "any"])
def test_a_task_of_an_agent_that_may_not_act_does_not_open(
    start: Callable[..., Any], rows: list[dict[str, Any]], agent: Agent, code: str, agents: str
) -> None:
    """Nothing ran and no grant was made; the signed refusal names who was to act for whom, and the reason."""
    rest = [registration(**{"agent": CLERK, **row}) for row in rows]
    world = start(registration(HELPER), *([registration()] if rows else []), *rest, agents=agents)
    if code == "agent_not_registered" and agents == "any":
        with world.task(Scope("anything"), agent=agent):
            return
    with pytest.raises(Denied) as caught, world.task(Scope("tool", x=5), agent=agent):
        pytest.fail("the block ran")
    record = refusal(world)
    assert (caught.value.code, caught.value.reference) == (code, record["id"])
    assert (record["error"], caught.value.decision.reason) == (code, code)
    assert record["attribution"] == "none"
    assert record["action"] == {
        "tool": "invoke_agent",
        "kind": "task",
        "agent": agent.to_claim(),
        "principal": ALICE.to_claim(),
        "stage": "open",
    }
    assert world.records("grant", "task_start", "registration") == []
    (span,) = world.spans("invoke_agent")
    assert span.attributes["agent_identity.record.id"] == record["id"]
    assert "agent_identity.attestation.signature" in span.attributes


@pytest.mark.parametrize(
    ("scope", "code", "argument"),
    [
        (Scope("delete"), "tool_outside_maximum", None),
        (Scope("tool", x=Range(max=101)), "argument_outside_maximum", "x"),
        (Scope("tool", x=5) | Scope("open") | Scope("more"), "tool_outside_maximum", None),
    ],
)
def test_a_scope_beyond_the_maximum_is_refused_whole(
    start: Callable[..., Any], scope: Scope, code: str, argument: str | None
) -> None:
    """It is not narrowed silently: no grant is made, and the record names the argument."""
    world = start(registration())
    with pytest.raises(OutOfScope) as caught, world.task(scope):
        pytest.fail("the block ran")
    record = refusal(world)
    assert (caught.value.code, record["error"], caught.value.argument) == (code, code, argument)
    assert record["decision"].get("argument") == argument
    assert world.records("grant", "registration") == []


def test_a_delegation_is_refused_under_the_chain_of_the_task(start: Callable[..., Any]) -> None:
    """Whoever may not act gets nothing handed on; the refusal names the chain, and the task goes on."""
    world = start(registration(), registration(HELPER, maximum=Scope("open")))
    ran: list[int] = []

    @world.enforcer.tool(name="tool")
    def tool(x: int) -> None:
        ran.append(x)

    with world.task(Scope("tool", x=5)) as task:
        with pytest.raises(OutOfScope), world.enforcer.delegate(HELPER, scope=Scope("tool", x=5)):
            tool(5)
        stranger = Agent("stranger", owner="it@example.com")
        with pytest.raises(Denied) as caught, world.enforcer.delegate(stranger, scope=Scope("tool", x=5)):
            tool(5)
        assert (caught.value.code, ran) == ("agent_not_registered", [])
        tool(5)
    assert ran == [5]
    first, second, _ = world.records("outcome")
    assert (first["error"], second["error"]) == ("tool_outside_maximum", "agent_not_registered")
    for record, agent in ((first, HELPER), (second, stranger)):
        assert record["chain"] == [{"id": "invoice-clerk", "grant": task.grant.hash}]
        assert record["action"] == {
            "tool": "invoke_agent",
            "kind": "task",
            "stage": "delegate",
            "agent": agent.to_claim(),
        }
    (end,) = world.records("task_end")
    assert end["counts"] == {"intents": "1", "outcomes": "3", "open": "0"}


def test_a_suspended_agent_delegates_nothing(start: Callable[..., Any]) -> None:
    """Whoever hands authority on must still be in good standing, at any place of the chain."""
    world = start(registration(), registration(HELPER))
    with world.task(Scope("tool", x=5)), world.enforcer.delegate(HELPER, scope=Scope("tool", x=5)):
        registered(world.directory, registration(status="suspended"))
        with pytest.raises(Denied) as caught, world.enforcer.delegate(HELPER, scope=Scope("tool", x=5)):
            pytest.fail("the block ran")
    assert caught.value.code == "agent_suspended"


def test_an_optional_registry_binds_only_those_that_are_in_it(start: Callable[..., Any]) -> None:
    """Agents that nobody registered are free, also in a chain; others are held to their maximum."""
    world = start(registration(HELPER), agents="any")
    with world.task(Scope("anything") | Scope("tool", x=5)):
        with world.enforcer.delegate(HELPER, scope=Scope("tool", x=5)):
            pass
        with pytest.raises(OutOfScope), world.enforcer.delegate(HELPER, scope=Scope("anything")):
            pytest.fail("the block ran")


@pytest.mark.parametrize("damage", ["edited", "cut", "older", "emptied", "gone"])
@pytest.mark.parametrize("agents", ["registered", "any"])
def test_a_registry_that_does_not_hold_refuses_every_task(
    start: Callable[..., Any], tmp_path: Path, damage: str, agents: str
) -> None:
    """While the file is damaged or older than before no task opens, not even under what was read before."""
    older = registered(tmp_path / "evidence-0", registration())
    path = registry_path(tmp_path / "evidence-0")
    kept = path.read_bytes()
    world = start(registration(HELPER), agents=agents)
    with world.task(Scope("tool", x=5)):
        pass
    whole = path.read_bytes()
    lines = whole.splitlines(keepends=True)
    changed = lines[0].replace(b"A", b"B", 1)
    damaged = {"edited": changed + b"".join(lines[1:]), "cut": b"".join(lines[1:]), "older": kept, "emptied": b""}
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(damaged[damage])
    for _ in range(2):
        with pytest.raises(Denied) as caught, world.task(Scope("tool", x=5)):
            pytest.fail("the block ran")
        assert caught.value.code == "registry_unusable"
    assert [record["error"] for record in world.records("outcome")] == ["registry_unusable"] * 2
    path.write_bytes(whole)
    with world.task(Scope("tool", x=5)):
        pass
    assert older.mark[0] == 1


def test_an_older_registry_is_found_out_in_a_fresh_process(tmp_path: Path) -> None:
    """Whoever puts the file back to before a suspension, and starts anew, opens no task; the latest file does."""
    sources = Sources(clock=FixedClock(), ids=SequentialIds())
    directory, given = tmp_path / "evidence", {"sources": sources, "agents": "registered"}
    path = registry_path(directory)
    registered(directory, registration())
    before = path.read_bytes()
    registered(directory, registration(status="suspended"), registration(status="registered"))
    latest = path.read_bytes()
    task = {"principal": ALICE, "agent": CLERK, "scope": Scope("tool", x=5)}
    with Enforcer.open(directory, **given) as enforcer, enforcer.task("work", **task):
        pass
    path.write_bytes(before)
    with Enforcer.open(directory, **given) as enforcer:
        with pytest.raises(Denied, match="registry") as caught, enforcer.task("work", **task):
            pytest.fail("the block ran")
        assert caught.value.code == "registry_unusable"
        path.write_bytes(latest)
        with enforcer.task("work", **task):
            pass


def test_registries_of_different_services_share_a_state(opened: Callable[..., Any], tmp_path: Path) -> None:
    """A registry that began with another registration is another one, whatever its length."""
    state = MemoryState()
    registered(tmp_path / "evidence-0", registration(), registration(HELPER))
    registered(tmp_path / "evidence-1", registration(purpose="another service"))
    for _ in range(2):
        with opened(agents="registered", state=state).task(Scope("tool", x=5)):
            pass


def test_a_state_that_cannot_be_asked_for_the_mark_refuses(start: Callable[..., Any]) -> None:
    """Whether the registry is the latest is then not known, so nothing opens until it is."""
    world = start(registration())
    state = world.enforcer._enforcement.state
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(state), "put", _unreachable)
        with pytest.raises(Denied) as caught, world.task(Scope("tool", x=5)):
            pytest.fail("the block ran")
    assert caught.value.code == "registry_unusable"
    with world.task(Scope("tool", x=5)):
        pass


def _unreachable(*_: Any) -> bool:
    raise StateError("expected the state to answer, got nothing")


def test_a_refusal_that_cannot_be_recorded_is_an_evidence_error(
    start: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then nothing opens either, and no span stays open."""
    world = start(registration(status="registered"), registration(status="suspended"))

    def broken(*_: Any, **__: Any) -> Any:
        raise EvidenceError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(type(world.enforcer._enforcement.ledger), "append", broken)
        with pytest.raises(EvidenceError), world.task(Scope("tool", x=5)):
            pytest.fail("the block ran")
    assert len(world.spans("invoke_agent")) == 1


def test_monitor_mode_records_what_would_have_been_refused(start: Callable[..., Any]) -> None:
    """Everything runs, unbounded by the registration; each refusal is recorded as one that was not enforced."""
    world = start(registration(), registration(status="suspended"), mode="monitor")
    with world.task(Scope("delete"), ttl=timedelta(hours=2)) as task:
        assert task.expires_at == NOW + 7200
        with world.enforcer.delegate(Agent("stranger", owner="it@example.com"), scope=Scope("delete")):
            pass
    first, second = world.records("outcome")
    assert [record["id"] for record in world.records("intent")] == [first["intent"], second["intent"]]
    for record, code in ((first, "agent_suspended"), (second, "agent_suspended")):
        assert (record["outcome"], "error" in record) == ("success", False)
        assert record["decision"] == {"effect": "block", "enforced": "audit", "mode": "monitor", "reason": code}
    world.enforcer.close()
    assert Verifier().ledger(world.directory).verdict == "verified"
    assert [end["counts"] for end in world.records("task_end")][1] == {"intents": "1", "outcomes": "1", "open": "0"}


# --------------------------------------------------------------------------------------------- set-up


def test_no_registry_is_asked_for_by_none(start: Callable[..., Any]) -> None:
    """``agents=None`` reads no registry, even if there is one."""
    world = start(registration(), registration(status="suspended"), agents=None)
    with world.task(Scope("anything")):
        pass


def test_a_registry_that_comes_later_counts(opened: Callable[..., Any]) -> None:
    """By default a registry is optional: without a file nobody is bound, with one at once."""
    world = opened()
    with world.task(Scope("anything")):
        pass
    registered(world.directory, registration(), registration(status="suspended"))
    with pytest.raises(Denied), world.task(Scope("anything")):
        pytest.fail("the block ran")


def test_a_required_registry_must_be_there(tmp_path: Path) -> None:
    """A missing or damaged registry does not open, and no stream stays open behind it."""
    with pytest.raises(ConfigurationError, match=r"agents\.jsonl"):
        Enforcer.open(tmp_path / "evidence", agents="registered")
    registered(tmp_path / "evidence", registration())
    path = registry_path(tmp_path / "evidence")
    path.write_bytes(path.read_bytes()[:-1])
    for agents in ("registered", "any"):
        with pytest.raises(TokenError):
            Enforcer.open(tmp_path / "evidence", agents=agents)
    with pytest.raises(ConfigurationError, match="agents='registered'"):
        Enforcer.open(tmp_path / "evidence", agents="yes")  # type: ignore[arg-type]


@pytest.mark.parametrize(("unregistered", "opens"), [("deny", False), ("allow", True)])
def test_the_parts_take_a_registry(tmp_path: Path, unregistered: Any, opens: bool) -> None:
    """``Enforcer(agents=registry)`` denies whom it does not hold, unless told otherwise."""
    found = registered(tmp_path / "other", registration())
    issuer, recorder, trust = prepare(tmp_path / "evidence", FixedClock(), SequentialIds())
    parts: dict[str, Any] = {
        "keys": (issuer, recorder),
        "trust": trust,
        "ledger": Ledger.open(
            tmp_path / "evidence",
            signer=recorder,
            origin=trust.origin or "",
            clock=FixedClock(),
            ids=SequentialIds(),
        ),
        "digests": DigestKeys(tmp_path / "evidence" / "keys" / "digests.jsonl"),
        "sources": Sources(clock=FixedClock()),
        "agents": found,
    }
    with pytest.raises(ConfigurationError, match="unregistered='deny'"):
        Enforcer(**parts, unregistered="maybe")
    with Enforcer(**parts, unregistered=unregistered) as enforcer:
        opening = enforcer.task("a purpose", principal=ALICE, agent=HELPER, scope=Scope("tool"))
        if opens:
            with opening:
                pass
        else:
            with pytest.raises(Denied), opening:
                pytest.fail("the block ran")


# ------------------------------------------------------------------------------------ told and verified


def test_few_registrations_are_remembered_while_stories_are_told(
    start: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory is bounded: of many agents, the story forgets the registration that it saw first."""
    monkeypatch.setattr("agent_identity._reports.timelines.builder._MAX_REGISTRATIONS", 1)
    world = start(registration(), registration(HELPER, purpose="help"))
    for agent in (CLERK, HELPER, CLERK, HELPER):
        with world.task(Scope("tool", x=5), agent=agent):
            pass
    world.enforcer.close()
    told = [(one.agent, one.registered_for) for one in story(world.directory)]
    assert told == [
        ("invoice-clerk", "pay invoices"),
        ("helper", "help"),
        ("invoice-clerk", None),
        ("helper", "help"),
    ]


def test_evidence_with_registrations_and_refusals_verifies_and_is_told(start: Callable[..., Any]) -> None:
    """The verifier accepts the records; the story has the purpose of the registration, and what was refused."""
    world = start(registration())
    helping = {"agent": HELPER, "scope": Scope("tool", x=5)}
    with world.task(Scope("tool", x=5)), pytest.raises(Denied), world.enforcer.delegate(**helping):
        pass
    with pytest.raises(Denied), world.task(**helping):
        pass
    world.enforcer.close()
    report = Verifier().ledger(world.directory)
    assert (report.verdict, report.findings) == ("verified", ())
    task, outside = story(world.directory)
    (record,) = world.records("registration")
    assert (task.registered_for, task.registration) == ("pay invoices", record["registration"]["hash"])
    assert (outside.registered_for, outside.registration) == (None, None)
    assert [action.tool for told in (task, outside) for action in told.actions] == ["invoke_agent helper"] * 2
    assert (task.refused, outside.refused) == (1, 1)


# -------------------------------------------------------------------------------------------- writing


def test_many_writers_lose_nothing(tmp_path: Path) -> None:
    """Writers wait for each other: every registration is there, in one order, and the file holds."""
    registered(tmp_path, registration())
    threads = [
        threading.Thread(target=registered, args=(tmp_path, registration(Agent(f"a-{n}", owner="it@example.com"))))
        for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = AgentRegistry.load(registry_path(tmp_path), TrustStore.load(tmp_path / "trust.json"))
    assert {r.agent.id for r in found.history} == {"invoice-clerk", *(f"a-{n}" for n in range(8))}
    assert found.mark[0] == 9


WRITER = """
import sys
from agent_identity.identity import Registration
from agent_identity._authority.grants.scope import Scope
from agent_identity.identity import register_agents
from agent_identity.identity import Agent

for turn in range(5):
    agent = Agent(f"{sys.argv[2]}-{turn}", owner="it@example.com")
    row = Registration(agent, purpose="help", maximum=Scope("open"), expires_at=2**40)
    register_agents(sys.argv[1], row)
"""


@pytest.mark.nightly
def test_many_processes_lose_nothing(tmp_path: Path) -> None:
    """The same across processes, also for the first registration of all."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    commands = [[sys.executable, "-c", WRITER, str(tmp_path), f"a-{number}"] for number in range(3)]
    writers = [subprocess.Popen(command, env=environment) for command in commands]
    assert [writer.wait(120) for writer in writers] == [0, 0, 0]
    found = AgentRegistry.load(registry_path(tmp_path), TrustStore.load(tmp_path / "trust.json"))
    assert {r.agent.id for r in found.history} == {f"a-{number}-{turn}" for number in range(3) for turn in range(5)}
    assert found.mark[0] == 15


def test_readers_see_whole_registries_while_others_write(tmp_path: Path) -> None:
    """At every moment the file is a registry that continues the one before."""
    found = registered(tmp_path, registration())
    done = threading.Event()

    def write() -> None:
        for number in range(20):
            registered(tmp_path, registration(Agent(f"a-{number}", owner="it@example.com")))
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    while not done.is_set():
        found = found.renewed()
    writer.join()
    assert found.renewed().mark[0] == 21


class Busy(Files):
    """A system on which someone else holds every lock, and waiting takes no time."""

    def lock(self, fd: int) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    def pause(self, seconds: float) -> None:
        pass


def test_a_change_happens_whole_or_not_at_all(tmp_path: Path) -> None:
    """A hung writer, a wrong key, a retired agent, a registration that is too large: the file stays as it was."""
    registered(tmp_path, registration())
    path, trust = registry_path(tmp_path), TrustStore.load(tmp_path / "trust.json")
    issuer = SigningKey.load(tmp_path / "keys" / "issuer.pem")
    before = path.read_bytes()

    def attempt(
        *rows: Registration, signer: SigningKey = issuer, where: Path = path, files: Files | None = None
    ) -> Any:
        return register(where, lambda _: rows, signer=signer, trust=trust, now=NOW, files=files)

    huge = Scope({f"tool-{n}": {"a": "x" * 1000} for n in range(100)})
    with pytest.raises(ConfigurationError, match="another writer"):
        attempt(registration(HELPER), files=Busy())
    with pytest.raises(TokenError):
        attempt(registration(HELPER), signer=SigningKey.generate())
    with pytest.raises(TokenError):
        attempt(registration(HELPER), registration(status="retired"), registration())
    with pytest.raises(ConfigurationError, match="bad registration"):
        attempt(registration(maximum=huge))
    with pytest.raises(ConfigurationError):
        attempt(registration(), where=tmp_path / "none" / "agents.jsonl")
    assert attempt().mark[0] == 1
    assert path.read_bytes() == before
    assert json.loads(before.splitlines()[0]).count(".") == 2


@pytest.mark.parametrize(
    ("word", "use"), [("required", "registered"), ("optional", "any"), ("mandatory", "registered")]
)
def test_another_word_for_agents_leaves_nothing_behind(tmp_path: Path, word: Any, use: str) -> None:
    """The words of earlier versions are refused before the directory is touched, with today's word."""
    with pytest.raises(ConfigurationError, match=f"agents='{use}'"):
        Enforcer.open(tmp_path / "e", agents=word)
    assert not (tmp_path / "e").exists()
