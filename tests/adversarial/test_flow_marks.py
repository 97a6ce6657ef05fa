"""Marks under attack: moved while a call is judged, not written, edited, and calls that ran against them."""

import errno
import importlib.util
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from agent_identity import Agent, Decision, Effect, Human, Request, Rule, RuleSet, Scope, Verifier, records
from agent_identity._flow.provenance import ProvenanceIndex
from agent_identity._guard.approvals import service as approvals
from agent_identity._guard.common.recorded_decisions import policy_state
from agent_identity._guard.judging import guard as guards
from agent_identity._guard.judging._record_builder import RecordBuilder
from agent_identity._guard.judging.tool_flow import ToolFlow
from agent_identity._guard.tasks.judged import Judged
from agent_identity._guard.tasks.task_flow import Flows, TaskFlow
from agent_identity._identity.common.ids import id_of
from agent_identity._record import schema
from agent_identity._record.parts import Time
from agent_identity._record.schema import Record
from agent_identity._storage.os_files import Files
from agent_identity.adapters import Call, CallRequest, DeclaredFlow
from agent_identity.approvals import Approval, ApprovalRequest, Approvers
from agent_identity.audit import story
from agent_identity.cli import main
from agent_identity.cli.operate.doctor_flow import examine_policies
from agent_identity.errors import ConfigurationError, ContentBlocked, Denied, EvidenceError, Routed
from agent_identity.inspection import Label
from agent_identity.options import Durability, Ledger, Telemetry
from agent_identity.policy import All, Flow

_spec = importlib.util.spec_from_file_location("flow_worlds", Path(__file__).with_name("flow_worlds.py"))
assert _spec is not None
assert _spec.loader is not None
flow = sys.modules.setdefault("flow_worlds", importlib.util.module_from_spec(_spec))
_spec.loader.exec_module(flow)

EVIL, OWN, REQUEST, BOB = flow.EVIL, flow.OWN, flow.REQUEST, flow.BOB
CHANGED = b'"mark_after":{"label":"untrusted"'
EVERYTHING = Scope({name: {} for name in ("pay", "read", "other")})


@pytest.fixture
def office(open_world: Callable[..., Any]) -> Any:
    return flow.open_office(open_world)


# What is recorded, and when


def test_flow_is_off_unless_the_policy_asks(open_world: Callable[..., Any]) -> None:
    """Declarations and requests are taken, and no mark, label or provenance is computed or recorded."""
    world = open_world(policy=RuleSet(Rule(Effect.BLOCK, tools="other")))
    read = flow.reads(world, EVIL, returns="untrusted")
    with world.task(EVERYTHING, request=REQUEST) as task:
        assert task.flow is None
        task.said("yes")
        task.received(EVIL)
        read()
    assert flow.marks(world) == []
    (intent,), (outcome,) = flow.of_kind(world, records.Intent), flow.of_kind(world, records.Outcome)
    assert (intent.judged_at, intent.provenance, outcome.label, outcome.mark_after) == (None, None, None, None)
    assert flow.verified(world).verdict == "verified"


def test_each_record_says_its_part_of_the_flow(office: Any) -> None:
    """The outcome lowers the mark; the intent says its mark, and where its arguments come from and lead."""
    pay, read = flow.pays(office), flow.reads(office, {"iban": EVIL}, returns="untrusted")
    with office.task(EVERYTHING, request=REQUEST) as task:
        task.said("thank you")
        read(True)
        pay(OWN)
    kinds = [type(one).__name__ for one in flow.of_kind(office, Record)]
    start = kinds.index("TaskStart")
    assert kinds[start - 2 : start + 5] == ["Grant", "Mark", "TaskStart", "Mark", "Intent", "Outcome", "Intent"]
    assert flow.marks(office) == [("request", "trusted"), ("said", "trusted"), ("result", "untrusted")]
    request, said = flow.of_kind(office, records.Mark)
    first, second = flow.of_kind(office, records.Intent)
    fallen, paid = (one.mark_after for one in flow.of_kind(office, records.Outcome))
    assert (request.mark.digest, said.mark.prev) != (None, None)
    assert (fallen.label, fallen.seq, paid) == ("untrusted", "3", fallen)
    assert (first.judged_at.seq, second.judged_at.seq) == ("2", "3")
    assert [(of.argument, of.provenance, of.source, of.destination) for of in second.provenance or ()] == [
        ("iban", "principal", request.id, True),
        ("amount", "trusted", None, None),
    ]
    assert [one.label for one in flow.of_kind(office, records.Outcome)] == ["untrusted"] * 2
    assert flow.codes(flow.verified(office)) == set()


def test_nothing_of_the_inputs_stands_in_the_ledger(office: Any) -> None:
    """Requests, results and received texts are on record as labels and keyed digests alone."""
    read = flow.reads(office, f"secret-of-the-mail {EVIL}", returns="untrusted")
    with office.task(EVERYTHING, request="secret-of-the-request") as task:
        task.received("secret-of-the-host")
        read()
    office.enforcer.close()
    data = b"".join(path.read_bytes() for path in office.directory.rglob("*") if path.is_file())
    assert b"secret-of" not in data


@pytest.mark.parametrize("content", ["value", LookupError("text"), None])
def test_a_mark_that_cannot_be_written_withholds_the_delivery(office: Any, content: object) -> None:
    """Result, error and chunk stay with the guard, and once the ledger works again the mark has fallen."""
    pay = flow.pays(office)
    if content is None:

        @office.enforcer.tool(labels=[], returns="untrusted")
        def read() -> Iterator[str]:
            yield "chunk"

        read_once = lambda: next(read())  # noqa: E731
    else:
        read_once = flow.reads(office, content, returns="untrusted")
    with office.task(EVERYTHING, request=REQUEST):
        with flow.no_changes_written() as refused, pytest.raises(ContentBlocked) as caught:
            read_once()
        assert (caught.value.code, len(refused) > 0) == ("mark_not_recorded", True)
        assert "text" not in str(caught.value)
        with pytest.raises(Routed):
            pay(EVIL)
    assert flow.paid(office) == []
    assert flow.codes(flow.verified(office)) == set()


def test_a_mark_and_its_outcome_are_one_record(office: Any) -> None:
    """Neither is in the ledger without the other, and the result is delivered after it."""
    read, writes = flow.reads(office, EVIL, returns="untrusted"), list[int]()
    write = Files.write

    def counting(self: Files, fd: int, data: bytes) -> int:
        writes.append(data.count(b"\n"))
        return write(self, fd, data)

    with office.task(EVERYTHING, request=REQUEST), pytest.MonkeyPatch.context() as patch:
        patch.setattr(Files, "write", counting)
        read()
        assert writes == [1, 1]
    assert [type(one).__name__ for one in flow.of_kind(office, records.Intent, records.Mark, records.Outcome)] == [
        *("Mark", "Intent", "Outcome"),
    ]
    assert flow.marks(office) == [("request", "trusted"), ("result", "untrusted")]
    assert flow.codes(flow.verified(office)) == set()


@pytest.mark.parametrize("mode", ["enforce", "monitor"])
def test_a_write_that_fails_leaves_neither_mark_nor_outcome(open_world: Callable[..., Any], mode: str) -> None:
    """The result is withheld unless nothing is enforced; the label counts, and the next write has it."""
    office = flow.open_office(open_world, mode=mode)
    read, other = flow.reads(office, EVIL, returns="untrusted"), flow.reads(office, "x", "other", returns="unknown")
    write, failed = Files.write, list[bytes]()

    def failing(self: Files, fd: int, data: bytes) -> int:
        if b'"mark_after"' in data and not failed:
            failed.append(data)
            raise OSError(errno.ENOSPC, "the disk is full")
        return write(self, fd, data)

    with office.task(EVERYTHING, request=REQUEST):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Files, "write", failing)
            if mode == "monitor":
                assert read() == EVIL
            else:
                with pytest.raises(ContentBlocked) as caught:
                    read()
                assert caught.value.code == "mark_not_recorded"
                assert flow.marks(office)[-1] == ("result", "untrusted")  # By the outcome that says so.
        other()
    assert flow.marks(office)[-1] == ("result", "untrusted")
    outcome = flow.of_kind(office, records.Outcome)[0]
    last = flow.of_kind(office, records.Outcome)[-1]
    assert last.mark_after.label == "untrusted"
    if mode == "enforce":
        assert (outcome.outcome, outcome.mark_after.label) == ("denied", "untrusted")
        assert flow.codes(flow.verified(office)) == set()


@pytest.mark.parametrize("failing", ["interrupt", "sync"])
def test_no_call_follows_a_mark_that_may_or_may_not_be_written(open_world: Callable[..., Any], failing: str) -> None:
    """After Ctrl-C inside the write, or a disk that fails to sync, a second mark could stand beside the first."""
    office = flow.open_office(open_world, durability=Durability(sync="disk" if failing == "sync" else "process"))
    read, pay = flow.reads(office, EVIL, returns="untrusted"), flow.pays(office)
    write, sync, wrote = Files.write, Files.fdatasync, list[bool]()

    def noting(self: Files, fd: int, data: bytes) -> int:
        written = write(self, fd, data)
        wrote.append(CHANGED in data)
        if wrote[-1] and failing == "interrupt":
            raise KeyboardInterrupt
        return written

    def failed(self: Files, fd: int) -> None:
        if wrote[-1]:
            raise OSError(errno.EIO, "fault")
        sync(self, fd)

    with office.task(EVERYTHING, request=REQUEST):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Files, "write", noting)
            patch.setattr(Files, "fdatasync", failed)
            with pytest.raises((KeyboardInterrupt, ContentBlocked)):
                read()
            assert any(wrote)
        for act in (read, partial(pay, OWN)):
            with pytest.raises(Denied) as caught:
                act()
            assert caught.value.code == "mark_uncertain"
    with office.task(EVERYTHING, request=REQUEST):
        read()
    assert flow.paid(office) == []
    assert not [one for one in flow.verified(office).findings if one.severity == "contradicted"]


def test_a_result_whose_values_are_not_known_is_withheld(office: Any) -> None:
    """The refusal is on record, with the mark that fell all the same."""
    read, take = flow.reads(office, EVIL, returns="untrusted"), ProvenanceIndex.take

    def failing(self: ProvenanceIndex, *arguments: Any) -> None:
        raise MemoryError

    with office.task(EVERYTHING, request=REQUEST):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ProvenanceIndex, "take", failing)
            with pytest.raises(ContentBlocked) as caught:
                read()
        assert ProvenanceIndex.take is take
    (outcome,) = flow.of_kind(office, records.Outcome)
    assert (caught.value.code, caught.value.reference) == ("mark_not_recorded", outcome.id)
    assert (outcome.outcome, outcome.error) == ("denied", "mark_not_recorded")
    assert flow.codes(flow.verified(office)) == set()


@pytest.mark.parametrize("how", ["result", "error", "chunk"])
def test_a_refusal_for_a_mark_that_was_not_written_stands_after_that_mark(office: Any, how: str) -> None:
    """Once the ledger works again, an honest recorder is not said to have delivered before it recorded."""
    if how == "chunk":

        @office.enforcer.tool(labels=[], returns="untrusted")
        def read() -> Iterator[str]:
            yield EVIL

        read_once: Callable[[], object] = lambda: list(read())  # noqa: E731
    else:
        content = EVIL if how == "result" else LookupError(EVIL)
        read_once = flow.reads(office, content, name="read", returns="untrusted")
    write, failed = Files.write, list[int]()

    def failing(self: Files, fd: int, data: bytes) -> int:
        if b"untrusted" in data and not failed:
            failed.append(fd)
            return write(self, fd, data[:10])
        return write(self, fd, data)

    with office.task(EVERYTHING, request=REQUEST), pytest.MonkeyPatch.context() as patch:
        patch.setattr(Files, "write", failing)
        with pytest.raises(ContentBlocked) as caught:
            read_once()
    assert (caught.value.code, len(failed)) == ("mark_not_recorded", 1)
    (outcome,) = flow.of_kind(office, records.Outcome)
    assert (outcome.outcome, outcome.error, outcome.mark_after.label) == ("denied", "mark_not_recorded", "untrusted")
    assert flow.codes(flow.verified(office)) == set()


@pytest.mark.parametrize("sealing", ["background", "inline"])
@pytest.mark.parametrize("mode", ["enforce", "monitor"])
def test_a_disk_that_fails_after_the_write_gives_a_call_no_second_outcome(
    open_world: Callable[..., Any], mode: str, sealing: str
) -> None:
    """Mark and outcome may be on record, so that the result is withheld, and nothing contradicts its outcome."""
    office = flow.open_office(
        open_world, mode=mode, durability=Durability(sync="disk"), telemetry=Telemetry(sealing=sealing)
    )
    read, sync, failed = flow.reads(office, EVIL, returns="untrusted"), Files.fdatasync, list[int]()

    def failing(self: Files, fd: int) -> None:
        if flow.of_kind(office, records.Outcome) and not failed:
            failed.append(fd)
            raise OSError(5, "broken")
        sync(self, fd)

    with office.task(EVERYTHING, request=REQUEST), pytest.MonkeyPatch.context() as patch:
        patch.setattr(Files, "fdatasync", failing)
        if mode == "monitor":
            assert read() == EVIL
        else:
            with pytest.raises(ContentBlocked) as caught:
                read()
            assert caught.value.code == "mark_not_recorded"
    (outcome,) = flow.of_kind(office, records.Outcome)
    assert (len(failed), outcome.label, outcome.mark_after.label) == (1, "untrusted", "untrusted")
    office.enforcer.close()
    (span,) = [span for span in office.exporter.get_finished_spans() if span.name == "execute_tool read"]
    assert "agent_identity.attestation.signature" not in (span.attributes or {})
    assert "intent_missing" not in flow.codes(flow.verified(office))


def test_an_outcome_that_no_ledger_can_hold_hides_no_result(office: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is recorded short, with its mark, and the result is delivered as that of any other act."""
    read, told = flow.reads(office, EVIL, returns="untrusted"), guards.RecordBuilder.outcome

    def unfit(self: Any, *arguments: Any, **more: Any) -> Any:
        return partial(told(self, *arguments, **more), error="\ud800")

    monkeypatch.setattr(guards.RecordBuilder, "outcome", unfit)
    with office.task(EVERYTHING, request=REQUEST):
        assert read() == EVIL
    assert flow.marks(office)[-1] == ("result", "untrusted")
    (outcome,) = flow.of_kind(office, records.Outcome)
    assert (outcome.outcome, outcome.error, outcome.mark_after.label) == ("success", None, "untrusted")
    assert flow.codes(flow.verified(office)) == set()


@pytest.mark.parametrize("broken", [False, True])
@pytest.mark.parametrize("where", ["ended elsewhere", "outcome not described"])
def test_a_mark_does_not_depend_on_the_outcome(office: Any, where: str, broken: bool) -> None:
    """If the outcome of a call is not written with its result, the mark is written alone, or the result withheld."""
    read, record, failed = flow.reads(office, EVIL, returns="untrusted"), Flows.record, list[bool]()

    def failing(self: Flows, *arguments: Any) -> Any:
        if failed:
            raise EvidenceError("the disk is full")
        return record(self, *arguments)

    with pytest.MonkeyPatch.context() as patch, office.task(EVERYTHING, request=REQUEST):
        patch.setattr(Flows, "record", failing)
        if where == "ended elsewhere":
            patch.setattr(Call, "conclude", lambda _: False)
        else:
            patch.setattr(guards.RecordBuilder, "outcome", lambda *_, **__: 1 / 0)
        if broken:
            failed.append(True)
            with pytest.raises(ContentBlocked) as caught:
                read()
            assert (caught.value.code, caught.value.__context__) == ("mark_not_recorded", None)
            failed.clear()
        else:
            assert read() == EVIL
            assert flow.marks(office)[-1] == ("read", "untrusted")
    assert flow.of_kind(office, records.Outcome) == []


def test_monitor_mode_withholds_nothing_and_records_what_would_be(open_world: Callable[..., Any]) -> None:
    """Everything runs; the records say which calls would have needed a person, and verify."""
    world = flow.open_office(open_world, mode="monitor")
    pay, read = flow.pays(world), flow.reads(world, EVIL, returns="untrusted")
    with world.task(EVERYTHING, request=REQUEST):
        read()
        pay(EVIL)
    assert flow.paid(world) == [EVIL]
    intent = flow.of_kind(world, records.Intent)[-1]
    assert (intent.decision.effect, intent.decision.enforced) == ("route", "audit")
    assert flow.codes(flow.verified(world)) == set()


# Judging at one mark


def test_a_mark_that_falls_while_a_call_is_judged_has_it_judged_again(office: Any) -> None:
    """The intent names the mark at which the call was judged last, and that is the newest."""
    pay = flow.pays(office, destination=None)
    decide, fell = Flow.decide, []

    with pytest.MonkeyPatch.context() as patch, office.task(EVERYTHING, request=REQUEST) as task:

        def falling(self: Flow, request: Request) -> Decision:
            decision = decide(self, request)
            if not fell:
                fell.append(task.received(EVIL))
            return decision

        patch.setattr(Flow, "decide", falling)
        with pytest.raises(Routed):
            pay(OWN)
    assert flow.paid(office) == []
    assert flow.codes(flow.verified(office)) == set()


def test_a_mark_that_never_rests_refuses_the_call(office: Any) -> None:
    """After eight judgements a call is refused, and what it took from the limits is given back."""
    read, tries = flow.reads(office, "x"), []
    decide = Flow.decide
    with pytest.MonkeyPatch.context() as patch, office.task(EVERYTHING, request=REQUEST) as task:

        def falling(self: Flow, request: Request) -> Decision:
            tries.append(task.said(f"text {len(tries)}"))
            return decide(self, request)

        patch.setattr(Flow, "decide", falling)
        with pytest.raises(Denied) as caught:
            read()
        assert (caught.value.code, len(tries)) == ("mark_moved", 8)
        patch.setattr(Flow, "decide", decide)
        read()
    assert flow.codes(flow.verified(office)) == set()


def test_parallel_calls_and_marks(office: Any) -> None:
    """Reads and payments of many threads: every intent stands at the newest mark, and nobody is paid after a read."""
    pay, read = flow.pays(office), flow.reads(office, EVIL, returns="untrusted")
    begun, refused = threading.Barrier(6), []

    def work(number: int) -> None:
        begun.wait(timeout=30)
        for _ in range(5):
            if number % 2:
                read()
            try:
                pay(EVIL)
            except Routed:
                refused.append(number)

    with office.task(EVERYTHING, request=REQUEST):
        workers = [threading.Thread(target=office.enforcer.bind(work), args=(number,)) for number in range(6)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        with pytest.raises(Routed):
            pay(EVIL)
    assert len(refused) >= 15
    assert flow.codes(flow.verified(office)) == set()


@pytest.mark.parametrize("failing", ["sync", "interrupt"])
def test_a_task_that_goes_on_in_another_stream_is_not_contradicted(
    open_world: Callable[..., Any], failing: str
) -> None:
    """After a failed disk, or Ctrl-C in a write, its marks stand in the stream before: they are not checked."""
    asked: list[ApprovalRequest] = []
    office = flow.open_office(
        open_world,
        durability=Durability(sync="disk" if failing == "sync" else "process"),
        routes={"person": flow.approving(asked)},
    )
    pay, read = flow.pays(office), flow.reads(office, EVIL, returns="untrusted")
    other = flow.reads(office, "x", "other")

    def fail(*_: object) -> int:
        raise OSError(errno.EIO, "disk") if failing == "sync" else KeyboardInterrupt

    with office.task(EVERYTHING, request=REQUEST):
        other()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Files, "fdatasync" if failing == "sync" else "write", fail)
            with pytest.raises(EvidenceError if failing == "sync" else KeyboardInterrupt):
                other()
        for isolated in (False, True):
            with office.enforcer.delegate(Agent("helper", owner="it@example.com"), scope=EVERYTHING, isolated=isolated):
                other()
        read()
        pay(EVIL)
        with office.enforcer.delegate(Agent("helper", owner="it@example.com"), scope=EVERYTHING, isolated=True):
            read()
    assert len(asked) == 1
    report = flow.verified(office)
    assert report.verdict == "incomplete"
    assert "flow_not_checked" in flow.codes(report)
    assert not {"mark_out_of_order", "mark_stale", "mark_mismatch", "ran_against_mark"} & flow.codes(report)


@pytest.mark.parametrize("start", ["later", "none", "omitted"])
def test_a_task_that_starts_at_a_later_mark_contradicts(office: Any, start: str) -> None:
    """A recorder that leaves out the first marks of a task it opened does not pass for one that changed its stream."""
    read = flow.reads(office, EVIL, returns="untrusted")
    append, before = Flows.record, id_of(1, bytes(8))
    began, seen, write = schema.TaskStart, TaskFlow.seen.fget, Ledger.append

    def numbered(self: Flows, facts: Any, change: Any) -> Any:
        return append(
            self, facts, msgspec.structs.replace(change, seq=str(int(change.seq) + 1), prev=change.prev or before)
        )

    def later(self: TaskFlow) -> Any:
        now = seen(self)
        return msgspec.structs.replace(now, seq=str(int(now.seq) + 1))

    def unmarked(**members: Any) -> schema.TaskStart:
        return began(**{**members, "judged_at": None})

    def unstarted(self: Ledger, make: Any, **options: Any) -> Any:
        return None if make.func is began else write(self, make, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Flows, "record", numbered)
        patch.setattr(TaskFlow, "seen", property(later))
        if start == "omitted":
            patch.setattr(Ledger, "append", unstarted)
        if start == "none":
            patch.setattr(schema, "TaskStart", unmarked)
        with office.task(EVERYTHING, request=REQUEST):
            read()
    report = flow.verified(office)
    assert report.verdict == "contradicted"
    assert flow.codes(report) >= {"mark_out_of_order"}


@pytest.mark.parametrize("where", ["mark", "intent"])
def test_what_interrupts_a_record_that_names_a_mark_moves_no_mark(office: Any, where: str) -> None:
    """A signal handler or finalizer that makes a call then is refused, and the ledger of both calls verifies."""
    read, other = flow.reads(office, EVIL, returns="untrusted"), flow.reads(office, "x", "other", returns="unknown")
    refused: list[ContentBlocked] = []
    owner, name = (TaskFlow, "_keep") if where == "mark" else (RecordBuilder, "intent")
    make = getattr(owner, name)

    def interrupted(*args: Any) -> object:
        made = make(*args)
        patch.undo()
        try:
            other()
        except ContentBlocked as error:
            refused.append(error)
        return made

    with office.task(EVERYTHING, request=REQUEST) as task, pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, interrupted)
        assert read() == EVIL
        assert task.flow.label == Label("untrusted")
        other()
    assert [error.code for error in refused] == ["mark_not_recorded"]
    assert flow.codes(flow.verified(office)) == set()


def test_what_interrupts_a_change_before_its_record_counts(office: Any) -> None:
    """A label that a signal handler or finalizer could not record is not taken for one that the change recorded."""
    meet, begins = Label.meet, ["_change", "changing"]

    def interrupted(self: Label, label: Label) -> Label:
        if sys._getframe(1).f_code.co_name in begins:  # The change has begun, and is not recorded yet.
            begins.clear()
            with pytest.MonkeyPatch.context() as broken:
                broken.setattr(Flows, "record", lambda *_: (_ for _ in ()).throw(EvidenceError("disk")))
                with pytest.raises(EvidenceError):
                    task.flow.received("y", Label("untrusted"))
        return meet(self, label)

    with office.task(EVERYTHING, request=REQUEST) as task, pytest.MonkeyPatch.context() as patch:
        patch.setattr(Label, "meet", interrupted)
        task.flow.received("x", Label("unknown"))
        assert not begins
        assert task.flow.label == Label("untrusted")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks on this platform")
@pytest.mark.parametrize("leaves", ["returns", "raises", "exits", "receives"])
def test_ac_34_a_forked_child_adds_no_mark_to_the_task_of_its_parent(office: Any, leaves: str) -> None:
    """Marks of one hop in two streams would contradict each other; the child has no authority that they restrict."""
    children: list[int] = []

    def fork(_: object = None) -> object:
        children.append(os.fork())
        if not children[0] and leaves == "raises":
            raise LookupError(EVIL)
        if not children[0] and leaves == "exits":
            raise SystemExit(0)
        return EVIL

    read = flow.reads(office, fork, returns="untrusted")
    with office.task(EVERYTHING, request=REQUEST) as task:
        said: object = None
        try:
            said = read() if leaves != "receives" else fork()
            task.received("more")
        except BaseException as error:  # noqa: BLE001 - Whatever it is, the child ends here.
            said = type(error)
        if not children[0]:
            ways = {"returns": EvidenceError, "raises": LookupError, "exits": SystemExit, "receives": EvidenceError}
            os._exit(0 if said is ways[leaves] else 1)
        assert os.waitpid(children[0], 0)[1] == 0
        assert said == EVIL
    assert flow.marks(office)[0] == ("request", "trusted")
    assert "contradicted" not in flow.verified(office).verdict


def test_a_chunk_in_flight(office: Any) -> None:
    """A call that was judged before a chunk of another stream arrived does not run after it."""
    pay = flow.pays(office)

    @office.enforcer.tool(labels=[], returns="untrusted")
    def read() -> Iterator[str]:
        yield "one"
        yield EVIL

    with office.task(EVERYTHING, request=REQUEST), pytest.MonkeyPatch.context() as patch:
        stream, intend, arrived = read(), ToolFlow.intend, []

        def late(self: ToolFlow, call: Any, write: Any) -> bool:
            if call.tool == "pay" and not arrived:
                arrived.extend(stream)
            return intend(self, call, write)

        patch.setattr(ToolFlow, "intend", late)
        with pytest.raises(Routed):
            pay(EVIL)
        assert arrived == ["one", EVIL]
    assert flow.codes(flow.verified(office)) == set()


# People


def test_an_approval_exempts_named_sources_for_one_call(open_world: Callable[..., Any]) -> None:
    """A person is asked about the sources, each further call asks again, and the mark stays."""
    asked: list[ApprovalRequest] = []
    world = flow.open_office(open_world, routes={"person": flow.approving(asked)})
    pay, read = flow.pays(world), flow.reads(world, EVIL, returns="untrusted")
    with world.task(EVERYTHING, request=REQUEST):
        read()
        pay(EVIL)
        pay(EVIL)
        assert len(asked) == 2
        source = flow.of_kind(world, records.Intent)[0].id
        assert [request.sources for request in asked] == [(source,), (source,)]
    assert [one.approval.sources for one in flow.of_kind(world, records.Approval)] == [(source,)] * 4
    assert flow.marks(world)[-1][1] == "untrusted"
    assert flow.codes(flow.verified(world)) == set()


def test_an_approval_does_not_cover_what_came_after_the_question(open_world: Callable[..., Any]) -> None:
    """While the person decides the task reads something else: the call is not what was approved."""
    tasks: list[Any] = []

    def ask(request: ApprovalRequest) -> object:
        tasks[0].received("more")
        return request.approve(by=BOB)

    world = flow.open_office(open_world, routes={"person": Approval(ask=ask)})
    pay, read = flow.pays(world), flow.reads(world, EVIL, returns="untrusted")
    with world.task(EVERYTHING, request=REQUEST) as task:
        tasks.append(task)
        read()
        with pytest.raises(Denied) as caught:
            pay(EVIL)
    assert caught.value.code == "approval_stale"
    assert flow.paid(world) == []


class _Lookup:
    """A policy of the application that reads for the task when it is asked about a payment."""

    name, version, digest = "lookup", "1", "A" * 43

    def __init__(self) -> None:
        self.asked = 0
        self.task: Any = None

    def decide(self, request: Request) -> Decision:
        """Allow the call; while a person has approved a payment already, read something."""
        self.asked += request.tool.name == "pay"
        if self.asked == 2:
            self.asked += 1
            self.task.received("more")
        return Decision(effect=Effect.ALLOW, reason="allowed")


def test_ac_63_a_policy_that_reads_after_the_approval_lets_nothing_run(open_world: Callable[..., Any]) -> None:
    """The mark moves between the second judgement and the intent: without an intent on record no body runs."""
    policy = _Lookup()
    world = flow.open_office(open_world, policy=All(Flow(), policy), routes={"person": flow.approving([])})
    pay, read = flow.pays(world), flow.reads(world, EVIL, returns="untrusted")
    with world.task(EVERYTHING, request=REQUEST) as task:
        policy.task = task
        read()
        with pytest.raises(Denied) as caught:
            pay(EVIL)
    assert caught.value.code == "approval_stale"
    assert flow.paid(world) == []
    assert flow.codes(flow.verified(world)) == set()


class _Interrupt(Exception):
    """Leaves a call that waits for a person."""


def test_a_resumed_call_stands_at_the_sources_that_were_asked(open_world: Callable[..., Any]) -> None:
    """A call that was suspended runs with its answer, unless the task has read more meanwhile."""
    answers: list[object] = []
    asked: list[ApprovalRequest] = []

    def ask(request: ApprovalRequest) -> object:
        asked.append(request)
        if not answers:
            raise _Interrupt
        return answers.pop()

    desk = Approval(ask=ask, suspends=(_Interrupt,), approvers=Approvers(ttl=timedelta(hours=1)))
    world = flow.open_office(open_world, routes={"person": desk})
    read = flow.reads(world, EVIL, returns="untrusted")
    guard = world.enforcer.guard(
        "pay", labels=["payment"], suspends=(_Interrupt,), flow=DeclaredFlow("trusted", ("iban",))
    )

    def pay() -> object:
        return guard.run(CallRequest({"iban": EVIL}, call_id="call-1"), lambda _: world.ran.append(("pay", EVIL)))

    with world.task(EVERYTHING, request=REQUEST) as task:
        read()
        with pytest.raises(_Interrupt):
            pay()
        answers.append(asked[-1].approve(by=BOB))
        pay()
        with pytest.raises(_Interrupt):
            pay()
        old = asked[-1].approve(by=BOB)
        task.received("more")
        answers.append(old)
        with pytest.raises(Denied):
            pay()
    assert flow.paid(world) == [EVIL]
    assert flow.codes(flow.verified(world)) == set()


# A recorder that lies


def lying(change: Callable[[Any], dict[str, Any]], *causes: str) -> Any:
    """Have marks of some causes recorded with changed members, as whoever holds the recorder key can."""
    append = Flows.record

    def edited(self: Flows, facts: Any, of: Any) -> Any:
        return append(self, facts, msgspec.structs.replace(of, **change(of)) if of.cause in causes else of)

    patch = pytest.MonkeyPatch()
    patch.setattr(Flows, "record", edited)
    return patch


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda _: {"label": "trusted"}, "mark_mismatch"),
        (lambda _: {"label": "trusted", "joined": None}, "mark_mismatch"),
        (lambda _: {"label": "unknown", "joined": "unknown"}, "mark_mismatch"),
        (lambda of: {"seq": str(int(of.seq) + 1)}, "mark_out_of_order"),
        (lambda of: {"prev": ("B" if of.prev[0] != "B" else "C") + of.prev[1:]}, "mark_out_of_order"),
        (lambda _: {"hop": "A" * 43}, "mark_mismatch"),
    ],
)
def test_an_edited_mark_contradicts(office: Any, change: Callable[[Any], dict[str, Any]], code: str) -> None:
    """A mark that was raised, renumbered or moved does not follow from the records around it."""

    @office.enforcer.tool(labels=[], returns="untrusted")
    def read() -> Iterator[str]:
        yield EVIL

    patch = lying(change, "chunk")
    try:
        with office.task(EVERYTHING, request=REQUEST):
            list(read())
    finally:
        patch.undo()
    report = flow.verified(office)
    assert report.verdict == "contradicted"
    assert code in flow.codes(report)


@pytest.mark.parametrize(
    ("after", "code"),
    [
        ({"label": "trusted"}, "label_mismatch"),
        ({"label": "unknown"}, "label_mismatch"),
        ({"label": "untrusted", "seq": "1"}, "mark_mismatch"),
        ({"label": "trusted", "seq": "1"}, "label_mismatch"),
        ({"seq": "3"}, "mark_out_of_order"),
        (None, "label_mismatch"),
    ],
)
def test_an_edited_mark_after_a_call_contradicts(office: Any, after: dict[str, str] | None, code: str) -> None:
    """An outcome whose mark is better than its result, or has another number, does not follow from the records."""
    read = flow.reads(office, EVIL, returns="untrusted")
    with office.task(EVERYTHING, request=REQUEST), edited_outcomes(after):
        read()
    report = flow.verified(office)
    assert report.verdict == "contradicted"
    assert code in flow.codes(report)


def test_a_mark_that_rises_after_a_call_contradicts(office: Any) -> None:
    """Whatever the result of that call was."""
    read = flow.reads(office, EVIL, returns="untrusted")
    other = flow.reads(office, "x", "other", endorses=True)
    with office.task(EVERYTHING, request=REQUEST):
        read()
        with edited_outcomes({"label": "trusted", "seq": "3"}):
            other()
    assert flow.codes(flow.verified(office)) == {"mark_mismatch"}


def edited_outcomes(after: dict[str, str] | None) -> Any:
    """Have outcomes recorded with another mark after them, as whoever holds the recorder key can."""
    append = Ledger.append

    def edited(self: Ledger, make: Any, **options: Any) -> Any:
        mark = make.keywords.get("mark_after")
        if mark is None:
            return append(self, make, **options)
        other = None if after is None else msgspec.structs.replace(mark, **after)
        return append(self, partial(make, mark_after=other), **options)

    patch = pytest.MonkeyPatch()
    patch.setattr(Ledger, "append", edited)
    return closing(SimpleNamespace(close=patch.undo))


def test_a_mark_that_was_left_out_contradicts(office: Any) -> None:
    """An outcome with a label that lowered no mark was delivered too early."""
    read = flow.reads(office, EVIL, returns="untrusted")
    with office.task(EVERYTHING, request=REQUEST), pytest.MonkeyPatch.context() as patch:
        patch.setattr(TaskFlow, "lowers", lambda *_: False)
        read()
    assert flow.codes(flow.verified(office)) == {"label_mismatch"}


def test_an_intent_at_an_old_mark_contradicts(office: Any) -> None:
    """A call that claims a mark from before is not what the records say."""
    pay, read = flow.pays(office), flow.reads(office, EVIL, returns="untrusted")
    with office.task(EVERYTHING, request=REQUEST) as task, pytest.MonkeyPatch.context() as patch:
        before = task.flow.judged({}, (), {})
        read()
        patch.setattr(TaskFlow, "judged", lambda *_: before)
        patch.setattr(TaskFlow, "is_at", lambda *_: True)
        pay(EVIL)
    assert "mark_stale" in flow.codes(flow.verified(office))


def test_an_intent_without_its_mark_contradicts(office: Any) -> None:
    """A call of a task with a mark names it, or was not judged at it."""
    pay = flow.pays(office)
    with office.task(EVERYTHING, request=REQUEST), pytest.MonkeyPatch.context() as patch:
        patch.setattr(guards.RecordBuilder, "intent", _without_mark(guards.RecordBuilder.intent))
        pay(OWN)
    assert "mark_absent" in flow.codes(flow.verified(office))


def _without_mark(intent: Callable[..., Any]) -> Callable[..., Any]:
    from functools import partial

    return lambda self, call: partial(intent(self, call), judged_at=None, provenance=None)


def test_a_call_that_ran_against_its_mark_contradicts(office: Any) -> None:
    """Under the shipped rules a payment to a stranger after a read needs a person, and had none."""
    pay, read = flow.pays(office), flow.reads(office, EVIL, returns="untrusted")
    with office.task(EVERYTHING, request=REQUEST), pytest.MonkeyPatch.context() as patch:
        read()
        patch.setattr(Flow, "decide", lambda self, _: Decision(effect=Effect.ALLOW, reason="default"))
        pay(OWN)
        assert flow.paid(office) == [OWN]
        pay(EVIL)
    report = flow.verified(office)
    (problem,) = [one for one in report.findings if one.code == "ran_against_mark"]
    assert problem.record == flow.of_kind(office, records.Intent)[-1].id
    assert (flow.codes(report), report.verdict) == ({"ran_against_mark"}, "contradicted")


def test_a_result_above_its_mark_contradicts(office: Any) -> None:
    """Only a tool that endorses returns more than the mark at its intent, and its intent says so."""
    read, other = flow.reads(office, EVIL, returns="untrusted"), flow.reads(office, "x", "other")
    with office.task(EVERYTHING, request=REQUEST), pytest.MonkeyPatch.context() as patch:
        read()
        patch.setattr(ToolFlow, "_base", lambda *_: Label("trusted"))
        other()
    assert flow.codes(flow.verified(office)) == {"label_mismatch"}


def test_a_task_that_begins_trusted_without_a_request_contradicts(office: Any) -> None:
    """Inputs that nobody accounts for are unknown, whatever the first mark says."""
    patch = lying(lambda _: {"label": "trusted", "joined": None}, "start")
    try:
        with office.task(EVERYTHING):
            pass
    finally:
        patch.undo()
    assert flow.codes(flow.verified(office)) == {"mark_mismatch"}


def test_readers_are_restricted_along_the_marks(office: Any) -> None:
    """Content for a few is on record with its readers, and leaves only to them."""
    read = flow.reads(office, "the figures", returns=Label("trusted", frozenset({"finance@example.com"})))

    @office.enforcer.tool(labels=["egress"], destination="to", returns="trusted", name="other")
    def send(to: str) -> str:
        return "sent"

    with office.task(EVERYTHING, request="mail it to finance@example.com and mallory@example.com"):
        read()
        send("finance@example.com")
        with pytest.raises(Routed):
            send("mallory@example.com")
    assert flow.marks(office)[-1] == ("result", "trusted:finance@example.com")
    assert flow.codes(flow.verified(office)) == set()


@pytest.mark.parametrize("empty", [{}, {"cc": None}, {"cc": ""}, {"cc": []}])
def test_a_call_that_leads_nowhere_by_the_tools_word_is_spared(office: Any, empty: dict[str, Any]) -> None:
    """Without a value of an optional destination; not one whose other destination an attacker gave."""
    read = flow.reads(office, EVIL, returns="untrusted")

    @office.enforcer.tool(labels=["egress"], destination=("cc?",), returns="trusted", name="other")
    def note(text: str, cc: object = None) -> str:
        return "noted"

    pay = flow.pays(office, destination=("iban", "amount?"))
    with office.task(EVERYTHING, request=REQUEST):
        read()
        note(EVIL, **empty)
        with pytest.raises(Routed):
            note("x", cc=[EVIL])
        with pytest.raises(Routed):
            pay(EVIL, amount=None)
        with pytest.raises(Routed):
            pay("", amount=7)
    spared = flow.of_kind(office, records.Intent)[1].provenance or ()
    assert [(of.provenance, of.source) for of in spared if of.argument == "cc"] == [("trusted", None)]
    assert flow.codes(flow.verified(office)) == set()


@pytest.mark.parametrize(("code", "file"), [("iban?", "iban"), ("iban", "iban?")])
def test_a_destination_is_optional_only_if_nobody_requires_it(
    open_world: Callable[..., Any], code: str, file: str
) -> None:
    """A policy file can require what the code calls optional, and cannot do the reverse."""
    stated = RuleSet(tools={"pay": {"destination": [file]}})
    world = flow.open_office(open_world, policy=All(Flow(), stated))
    pay, read = flow.pays(world, destination=(code,)), flow.reads(world, EVIL, returns="untrusted")
    with world.task(EVERYTHING, request=REQUEST):
        read()
        with pytest.raises(Routed):
            pay("")
    assert flow.paid(world) == []


@pytest.mark.parametrize("name", ["?", "nobody?"])
def test_an_optional_destination_has_the_name_of_an_argument(office: Any, name: str) -> None:
    """A question mark alone names nothing, and a misspelled name judges nothing."""
    with pytest.raises((ValueError, ConfigurationError)):
        flow.pays(office, destination=(name,))


def test_an_approver_of_another_call_is_no_approver(open_world: Callable[..., Any]) -> None:
    """The ruling of one call does not let another one run, though its sources are the same."""
    rulings: list[Any] = []

    def ask(request: ApprovalRequest) -> object:
        rulings.append(request.approve(by=Human("bob@example.com")))
        return rulings[0]

    world = flow.open_office(open_world, routes={"person": Approval(ask=ask)})
    pay, read = flow.pays(world), flow.reads(world, EVIL, returns="untrusted")
    with world.task(EVERYTHING, request=REQUEST):
        read()
        pay(EVIL)
        with pytest.raises(Denied):
            pay("GB29NWBK60161331926819")
    assert flow.paid(world) == [EVIL]


def test_show_says_where_a_destination_came_from(office: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Beside each call with destinations stands the input that had the value, also of a refused call."""
    pay, read = flow.pays(office), flow.reads(office, EVIL, returns="untrusted")
    with office.task(EVERYTHING, request=REQUEST):
        read()
        pay(OWN)
        with pytest.raises(Routed):
            pay(EVIL)
    office.enforcer.close()
    assert main(["show", str(office.directory)]) == 0
    shown = capsys.readouterr().out
    assert "iban: from alice@example.com\n" in shown
    assert re.search(r"iban: from read at \d\d:\d\d:\d\d \(untrusted\), not from alice@example\.com\n", shown)
    (told,) = story(office.directory)
    found = [[(of.argument, of.provenance, of.source) for of in action.destinations] for action in told.actions]
    assert found == [[], [("iban", "principal", "request")], [("iban", "untrusted", "read")]]


def test_doctor_names_the_tools_that_endorse(office: Any) -> None:
    """A tool whose results are better than its inputs is named; a program without one hears nothing of it."""
    flow.reads(office, "x")
    assert not any("endorse" in check.detail for check in examine_policies())
    flow.reads(office, "x", "other", endorses=True)
    assert any("other" in check.detail for check in examine_policies() if "endorse" in check.detail)


def test_an_excerpt_says_what_it_does_not_check(office: Any, tmp_path: Path) -> None:
    """The marks of one task verify out of a bundle; the policy that judged it is not in there, and that is said."""
    read = flow.reads(office, EVIL, returns="untrusted")
    for _ in range(2):
        with office.task(EVERYTHING, request=REQUEST) as task:
            read()
    office.enforcer.close()
    assert main(["bundle", str(office.directory), "--task", task.id, "-o", str(tmp_path / "b.zip")]) == 3
    report = Verifier(str(office.directory / "trust.json")).ledger(str(tmp_path / "b.zip"))
    assert (report.integrity, flow.codes(report)) == ("verified", {"excerpt", "flow_not_checked"})


@pytest.mark.parametrize("signed", [False, True])
def test_an_approval_of_other_inputs_contradicts(open_world: Callable[..., Any], signed: bool) -> None:
    """A call runs under a ruling that names the inputs of its mark; one that names others is no ruling about it."""
    asked: list[ApprovalRequest] = []
    world = flow.open_office(open_world, routes={"person": flow.approving(asked)})
    pay, read = flow.pays(world), flow.reads(world, EVIL, returns="untrusted")
    with world.task(EVERYTHING, request=REQUEST) as task, pytest.MonkeyPatch.context() as patch:
        if signed:  # By a recorder that does not look at what came meanwhile.
            patch.setattr(Judged, "covers", lambda *_: True)
            patch.setattr(approvals, "sources_asked", lambda _: ())
        else:  # By one that changes the record, but cannot sign the ruling again.
            state = approvals.approval_state
            patch.setattr(
                approvals,
                "approval_state",
                lambda *given, **more: msgspec.structs.replace(state(*given, **more), sources=(task.id,)),
            )
        read()
        pay(EVIL)
    assert flow.paid(world) == [EVIL]
    expected = {"ran_against_mark"} if signed else {"ran_against_mark", "approval_mismatch"}
    assert flow.codes(flow.verified(world)) == expected


def test_a_recorder_that_keeps_no_marks_contradicts(office: Any) -> None:
    """Under the shipped rules a call that ran names its mark, also where there is no record of any mark."""
    pay = flow.pays(office)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Flows, "opened", lambda *_: None)  # As in a recorder whose code was changed.
        patch.setattr(Flow, "decide", lambda self, _: Decision(effect=Effect.ALLOW, reason="default"))
        with office.task(EVERYTHING):
            pay(EVIL)
    assert (flow.paid(office), flow.marks(office)) == ([EVIL], [])
    report = flow.verified(office)
    assert (flow.codes(report), report.verdict) == ({"mark_absent"}, "contradicted")


def test_a_call_that_claims_no_task_of_its_own_is_not_excused(office: Any) -> None:
    """A call in a task of another chain than any mark names none, and is not taken for one without information flow."""
    pay, read = flow.pays(office), flow.reads(office, EVIL, returns="untrusted")
    with office.task(EVERYTHING, request=REQUEST):
        read()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Flows, "opened", lambda *_: None)
        patch.setattr(Flow, "decide", lambda self, _: Decision(effect=Effect.ALLOW, reason="default"))
        with office.task(EVERYTHING):
            pay(EVIL)
    assert "mark_absent" in flow.codes(flow.verified(office))


def test_another_policy_in_the_stream_does_not_switch_the_check_off_in_silence(office: Any) -> None:
    """Nobody can tell which of two policies judged a call, and that is said."""
    pay, read = flow.pays(office), flow.reads(office, EVIL, returns="untrusted")
    state = policy_state(RuleSet())
    office.enforcer._enforcement.ledger.append(partial(records.Policy, time=Time.at(0), policy=state))
    with office.task(EVERYTHING, request=REQUEST):
        read()
        pay(OWN)
    assert flow.codes(flow.verified(office)) == {"flow_not_checked"}


def test_a_ruling_that_cannot_name_all_inputs_of_a_mark_exempts_none(open_world: Callable[..., Any]) -> None:
    """More inputs than a ruling can name are no reason to take its word for all of them."""
    world = flow.open_office(open_world, routes={"person": flow.approving([])})
    pay, read = flow.pays(world), flow.reads(world, EVIL, returns="untrusted")
    with world.task(EVERYTHING, request=REQUEST), pytest.MonkeyPatch.context() as patch:
        patch.setattr(Judged, "covers", lambda *_: True)
        patch.setattr(approvals, "sources_asked", lambda _: ())
        for _ in range(65):
            read()
        pay(EVIL)
    assert flow.paid(world) == [EVIL]
    assert "ran_against_mark" in flow.codes(flow.verified(world))
