"""Marks across processes: what a child or a service read counts for whoever handed the task on."""

import asyncio
import contextvars
import importlib.util
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider

from agent_identity import Agent, Enforcer, Human, RuleSet, Scope, Verifier, records
from agent_identity._guard.tasks.judged import Judged
from agent_identity._guard.tasks.kept_marks import HopMarks
from agent_identity._guard.tasks.task_flow import TaskFlow
from agent_identity._record.parts import MarkSeen
from agent_identity.delegation import Peer
from agent_identity.errors import ContentBlocked, Routed, StateError
from agent_identity.identity import SigningKey
from agent_identity.options import Telemetry
from agent_identity.policy import Flow
from agent_identity.state import MemoryState

_spec = importlib.util.spec_from_file_location("flow_worlds", Path(__file__).with_name("flow_worlds.py"))
assert _spec is not None
assert _spec.loader is not None
flow = sys.modules.setdefault("flow_worlds", importlib.util.module_from_spec(_spec))
_spec.loader.exec_module(flow)

EVIL, OWN, REQUEST = flow.EVIL, flow.OWN, flow.REQUEST
EVERYTHING = Scope({name: {} for name in ("pay", "read", "other")})
CALL = {"tool": "read", "arguments": {}}
ALICE, CLERK = Human("alice@example.com"), Agent("clerk", owner="finance@example.com")
KEY = SigningKey.from_seed(b"\x09" * 32)


class Office:
    """Two enforcers on one directory, as two processes of one application have them."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.directory, self.ran = folder / "evidence", list[object]()
        self.enforcer, self.child = (self._open(**options) for _ in range(2))

    def _open(self, **options: Any) -> Enforcer:
        given = {"policy": Flow(), "telemetry": Telemetry(tracer_provider=TracerProvider()), **options}
        return Enforcer.open(self.directory, **given)

    def task(self, **options: Any) -> Any:
        """Return a task of alice and the clerk."""
        given = {"principal": ALICE, "agent": CLERK, "scope": EVERYTHING, "request": REQUEST, **options}
        return self.enforcer.task("books", **given)

    def codes(self) -> set[str]:
        """Close all, and return what the verifier finds."""
        self.child.close()
        self.enforcer.close()
        return flow.codes(Verifier().ledger(self.directory))


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Callable[..., Office]]:
    found: list[Office] = []

    def open_one(**options: Any) -> Office:
        found.append(Office(tmp_path, **options))
        return found[-1]

    yield open_one
    for office in found:
        office.child.close()
        office.enforcer.close()


def child_reads(office: Office, content: object = EVIL, **options: Any) -> Callable[..., object]:
    """Return a tool of the child that returns a content."""

    @office.child.tool(**{"name": "read", "labels": [], "returns": "untrusted", **options})
    def read() -> object:
        return content

    return read


def test_two_processes_share_what_they_read(opened: Callable[..., Office]) -> None:
    """A child process reads a mail: the next payment of the parent needs a person, and both streams verify."""
    office = opened()
    pay, read = flow.pays(office), child_reads(office)
    with office.task():
        bundle = office.enforcer.current_task.export()
        with office.child.accept(bundle):
            pass
        pay(EVIL)
        with office.child.accept(bundle):
            read()
        with pytest.raises(Routed):
            pay(EVIL)
        pay(OWN)
    joined = [one.mark for one in flow.of_kind(office, records.Mark) if one.mark.cause == "join"]
    assert [(mark.label, mark.origin is not None) for mark in joined] == [("untrusted", True)]
    assert office.codes() == set()


def test_a_child_that_returns_by_file(opened: Callable[..., Office], tmp_path: Path) -> None:
    """What a child leaves in a file comes without an answer, and its mark counts all the same."""
    office = opened()
    pay, read = flow.pays(office), child_reads(office)
    local = flow.reads(office, lambda _: (tmp_path / "answer").read_text(), "other", endorses=True)
    with office.task():
        with office.child.accept(office.enforcer.current_task.export()):
            (tmp_path / "answer").write_text(str(read()))
        local()
        with pytest.raises(Routed):
            pay(OWN[:-1])
    assert flow.paid(office) == []


def test_a_child_of_an_isolated_delegate_that_returns_by_file(opened: Callable[..., Office], tmp_path: Path) -> None:
    """A result of the task joins what open isolated delegates have handed out, as it joins what they have read."""
    office, file = opened(), tmp_path / "result.txt"
    pay, read = flow.pays(office), child_reads(office)

    @office.enforcer.tool(name="other", labels=[], returns="trusted")
    def other() -> str:
        return file.read_text()

    with office.task():
        above = contextvars.copy_context()
        with office.enforcer.delegate(CLERK, scope=EVERYTHING, isolated=True):
            with office.child.accept(office.enforcer.current_task.export()):
                file.write_text(str(read()))
            above.run(other)
            with pytest.raises(Routed):
                above.run(pay, EVIL)
    assert flow.paid(office) == []
    assert office.codes() == set()


def test_a_tool_that_waits_for_the_file_of_a_child(opened: Callable[..., Office], tmp_path: Path) -> None:
    """What the child reads after the intent of the tool makes its result no better than what it reads before."""
    office, children = opened(), list[contextvars.Context]()
    pay, read = flow.pays(office), child_reads(office)

    @office.enforcer.tool(name="other", labels=[], returns="trusted")
    def other() -> str:
        return f"pay to {children[0].run(read)}"

    with office.task():
        with office.child.accept(office.enforcer.current_task.export()):
            children.append(contextvars.copy_context())
            other()
        with pytest.raises(Routed):
            pay(EVIL)
    assert flow.paid(office) == []
    assert office.codes() == set()


def test_a_tool_that_fails_with_the_file_of_a_child(opened: Callable[..., Office]) -> None:
    """The text of an error joins what the child has read since the intent, as a result does."""
    office, children = opened(), list[contextvars.Context]()
    read = child_reads(office)

    @office.enforcer.tool(name="other", labels=[], returns="trusted")
    def other() -> str:
        raise LookupError(f"pay to {children[0].run(read)}")

    with office.task() as task, office.child.accept(office.enforcer.current_task.export()):
        children.append(contextvars.copy_context())
        with pytest.raises(LookupError):
            other()
        assert task.flow.label.integrity == "untrusted"
    assert office.codes() == set()


def test_a_hop_that_nobody_accounts_for_is_untrusted(opened: Callable[..., Office]) -> None:
    """A child without marks, or with another store, may have read anything."""
    for options in ({"state": MemoryState()}, {}):
        office = opened(**options)
        pay = flow.pays(office)
        with office.task():
            office.enforcer.current_task.export()
            with pytest.raises(Routed):
                pay(EVIL)
        assert office.codes() == {"flow_not_checked"}


def test_a_child_begins_at_the_mark_of_its_task(opened: Callable[..., Office]) -> None:
    """What the parent had read when it handed the task on, the child has read."""
    office = opened()
    read = flow.reads(office, EVIL, returns="untrusted")

    @office.child.tool(labels=["payment"], destination="iban", returns="trusted", name="pay")
    def pay(iban: str) -> str:
        office.ran.append(("pay", iban))
        return "paid"

    with office.task():
        with office.child.accept(office.enforcer.current_task.export()):
            pay(EVIL)
        read()
        with office.child.accept(office.enforcer.current_task.export()):
            with pytest.raises(Routed):
                pay(EVIL)
            with pytest.raises(Routed):
                pay(OWN)  # The words of the principal stay where they were said.
    assert flow.paid(office) == [EVIL]
    assert office.codes() == set()


def test_a_mark_goes_on_where_a_task_is_taken_up_again(opened: Callable[..., Office]) -> None:
    """Accepting again the same hop begins where the first one ended."""
    office = opened()
    read = child_reads(office)

    @office.child.tool(labels=["payment"], destination="iban", returns="trusted", name="pay")
    def pay(iban: str) -> str:
        return "paid"

    with office.task():
        bundle = office.enforcer.current_task.export()
        with office.child.accept(bundle):
            read()
        with office.child.accept(bundle), pytest.raises(Routed):
            pay(EVIL)
    assert office.codes() == set()


def test_a_lying_response(opened: Callable[..., Office]) -> None:
    """A service that says its answer is trusted is not believed: its hop has the mark that it kept, or none."""
    office = opened()
    pay = flow.pays(office)
    claims = {"_meta": {"ifc": {"integrity": "trusted"}}, "iban": EVIL}
    local = flow.reads(office, claims, "other")
    with office.task():
        office.enforcer.present(Peer("service-b"), **CALL)
        local()
        with pytest.raises(Routed):
            pay(EVIL)
    assert office.codes() == {"flow_not_checked"}


def test_a_service_that_keeps_its_mark_is_believed(opened: Callable[..., Office]) -> None:
    """A service on the same state that read nothing lowers no mark, also where it goes on by a grant of its own."""
    office = opened()
    pay, read = flow.pays(office), child_reads(office)
    for holder in (None, KEY):
        peer = Peer("service-b", agent=Agent("desk", owner="x@example.com"), key=KEY.public_key)
        with office.task():
            shown = office.enforcer.present(peer if holder else Peer("service-b"), **CALL)
            with office.child.receive(shown, **CALL, audience="service-b", holder=holder):
                pass
            pay(EVIL)
            shown = office.enforcer.present(peer if holder else Peer("service-b"), **CALL)
            with office.child.receive(shown, **CALL, audience="service-b", holder=holder):
                read()
            with pytest.raises(Routed):
                pay(EVIL)
    assert flow.paid(office) == [EVIL, EVIL]
    assert office.codes() == set()


def test_a_grandchild_counts_as_well(opened: Callable[..., Office], tmp_path: Path) -> None:
    """A hop that handed its part on joins what came back before it ends."""
    office = opened()
    pay = flow.pays(office)
    with office.task():
        with office.child.accept(office.enforcer.current_task.export()):
            office.child.current_task.export()
        with pytest.raises(Routed):
            pay(EVIL)


def test_a_state_that_does_not_answer_stops_calls_and_deliveries(opened: Callable[..., Office]) -> None:
    """Without the marks of others nothing is judged, and a child delivers nothing that it cannot account for."""
    office = opened()
    pay, read = flow.pays(office), child_reads(office)

    def failing(*_: object) -> None:
        raise StateError("the store does not answer")

    with office.task():
        with office.child.accept(office.enforcer.current_task.export()), pytest.MonkeyPatch.context() as patch:
            patch.setattr(HopMarks, "lower", failing)
            with pytest.raises(Exception, match="withheld"):
                read()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(HopMarks, "find", failing)
            with pytest.raises(Exception, match="pay"):
                pay(EVIL)
    assert flow.paid(office) == []


@pytest.mark.parametrize("mode", ["enforce", "monitor"])
def test_a_state_that_does_not_answer_contradicts_nothing(opened: Callable[..., Office], mode: str) -> None:
    """An outage of the store is no sign that somebody changed the ledger, or delivered what was not recorded."""
    office = opened(mode=mode)
    read = child_reads(office)

    def failing(*_: object) -> None:
        raise StateError("the store does not answer")

    with (
        office.task(),
        office.child.accept(office.enforcer.current_task.export()),
        pytest.MonkeyPatch.context() as patch,
        pytest.raises(ContentBlocked) if mode == "enforce" else nullcontext(),
    ):
        patch.setattr(HopMarks, "lower", failing)
        read()
    assert office.codes() == set()


def test_an_outcome_states_the_mark_that_is_on_record(opened: Callable[..., Office]) -> None:
    """A stream that ends while the mark of another call cannot be recorded does not claim that it was."""
    office = opened()
    read = child_reads(office)

    @office.child.tool(name="other", labels=[], returns="trusted")
    def other() -> Iterator[str]:
        yield "a"

    def failing(*_: object) -> None:
        raise StateError("the store does not answer")

    with office.task(), office.child.accept(office.enforcer.current_task.export()):
        stream = other()
        assert next(stream) == "a"
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(HopMarks, "lower", failing)
            with pytest.raises(ContentBlocked):
                read()
            assert list(stream) == []
    assert office.codes() == set()


def test_without_flow_nothing_is_kept_in_the_state(opened: Callable[..., Office]) -> None:
    """Hops of enforcers whose policy does not ask about flow leave no marks behind."""
    office = opened(policy=RuleSet())
    with office.task(), office.child.accept(office.enforcer.current_task.export()) as task:
        assert task.flow is None
    assert flow.marks(office) == []


def test_a_hop_that_two_processes_take_up_has_one_mark(opened: Callable[..., Office], tmp_path: Path) -> None:
    """What one of them read the other has read, whichever is asked."""
    office = opened()
    read, bundle = child_reads(office), None

    @office.enforcer.tool(labels=["payment"], destination="iban", returns="trusted", name="pay")
    def pay(iban: str) -> str:
        return "paid"

    with office.task():
        bundle = office.enforcer.current_task.export()
        with office.child.accept(bundle):
            read()
        with office.enforcer.no_task(), office.enforcer.accept(bundle), pytest.raises(Routed):
            pay(EVIL)
    assert office.codes() == set()


def test_coroutines_ask_for_the_marks_of_others_off_the_loop(opened: Callable[..., Office]) -> None:
    """A call of a coroutine tool joins what a child read, and does not ask the state on the event loop."""
    office, threads = opened(), list[str]()
    read, kept = child_reads(office), HopMarks.find

    @office.enforcer.tool(labels=["payment"], destination="iban", returns="trusted", name="pay")
    async def pay(iban: str) -> str:
        return "paid"

    def watched(self: HopMarks, hop: str) -> Any:
        threads.append(threading.current_thread().name)
        return kept(self, hop)

    async def run() -> None:
        async with office.task():
            bundle = office.enforcer.current_task.export()
            async with office.child.accept(bundle):
                await asyncio.to_thread(read)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(HopMarks, "find", watched)
                with pytest.raises(Routed):
                    await pay(EVIL)

    asyncio.run(run())
    assert threads
    assert threading.main_thread().name not in threads
    assert office.codes() == set()


def test_chunks_ask_for_the_marks_of_others_off_the_loop(opened: Callable[..., Office]) -> None:
    """Items of an async generator join what other processes read, and do not ask the state on the event loop."""
    office, threads = opened(), set[int]()
    kept = HopMarks.find

    @office.enforcer.tool(labels=[], returns="untrusted", name="read")
    async def read() -> AsyncIterator[str]:
        yield EVIL

    def watched(self: HopMarks, hop: str) -> Any:
        threads.add(threading.get_ident())
        return kept(self, hop)

    async def run() -> None:
        async with office.task():
            office.enforcer.current_task.export()
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(HopMarks, "find", watched)
                assert [item async for item in read()] == [EVIL]

    asyncio.run(run())
    assert threads
    assert threading.get_ident() not in threads


def test_a_coroutine_waits_off_the_loop_for_a_thread_that_holds_the_mark(opened: Callable[..., Office]) -> None:
    """While a thread takes an approval up in a slow store, other coroutines of the task leave the loop free."""
    office, free, turns = opened(), threading.Event(), list[int]()

    @office.enforcer.tool(labels=[], returns="untrusted", name="read")
    async def read() -> AsyncIterator[str]:
        yield EVIL

    @office.enforcer.tool(labels=[], returns="trusted", name="other")
    async def other() -> str:
        return "x"

    def hold(flow: TaskFlow, held: threading.Event) -> None:
        with flow.lock:
            held.set()
            free.wait(30)

    async def consume() -> list[str]:
        return [item async for item in read()]

    async def run() -> None:
        async with office.task() as task:
            held = threading.Event()
            holder = threading.Thread(target=hold, args=(task.flow, held))
            holder.start()
            assert held.wait(30)
            calls = [asyncio.create_task(other()), asyncio.create_task(consume())]
            for turn in range(10):
                await asyncio.sleep(0)
                turns.append(turn)
            free.set()
            assert await asyncio.gather(*calls) == ["x", [EVIL]]
            holder.join()

    watchdog = threading.Timer(10, free.set)
    watchdog.start()
    asyncio.run(run())
    in_time = watchdog.is_alive()
    watchdog.cancel()
    assert in_time
    assert len(turns) == 10


def test_a_hop_that_claims_the_mark_of_the_hop_above_contradicts(opened: Callable[..., Office]) -> None:
    """A hop with a mark of its own is judged at that one, though the other stands in its chain as well."""
    office = opened()
    pay, read = flow.pays(office), flow.reads(office, EVIL, returns="untrusted")
    with office.task() as task:
        above, bundle = task.flow, office.enforcer.current_task.export()
        with office.enforcer.no_task(), office.enforcer.accept(bundle), pytest.MonkeyPatch.context() as patch:
            read()
            patch.setattr(TaskFlow, "judged", lambda *_: judged(above.shared))
            patch.setattr(TaskFlow, "is_at", lambda *_: True)
            pay(EVIL)
    assert "mark_mismatch" in office.codes()


def judged(shared: Any) -> Judged:
    """Return what a call judged at a mark would say."""
    return Judged(MarkSeen(hop=shared.hop, seq=str(shared.mark.seq)), shared.mark, {}, {})
