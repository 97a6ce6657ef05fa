"""Steps 5 and 6 record by record: which outcome answers which intent, and what is said where none does."""

from collections.abc import Callable
from typing import Any

import pytest
from msgspec import structs

from agent_identity._identity.common.encoding import b64url_encode
from agent_identity._identity.common.ids import bytes_of_id
from agent_identity._identity.common.record_bytes import encode_record
from agent_identity._record.codec import decode
from agent_identity._record.parts import Counts, RecoveredStream
from agent_identity._verify.ledger import _calls_check as calls_check
from agent_identity._verify.ledger._calls_check import Call, Calls, OpenIntents
from agent_identity._verify.report.findings import Findings, Place
from agent_identity._verify.store.spill_store import spilled

STREAM = "AaIOQ0bYcV-ScJHDCbiHEA"
LEAF = "E" * 43
OF_TASK = {
    "task": {"id": "t"},
    "principal": {"id": "alice@example.com", "kind": "human", "provenance": "asserted"},
    "agent": {"id": "clerk", "owner": "ops@example.com"},
    "chain": [{"id": "root", "grant": "A" * 43}, {"id": "clerk", "grant": LEAF}],
}
DIGESTS = {"a": "M" * 43, "b": "Q" * 43}
ALLOW = {"effect": "allow", "enforced": "allow", "mode": "enforce", "reason": "within_scope"}
MISSING = "the intent that the outcome names is missing, or has another outcome"
MISMATCH = "grant, tool, arguments, mode or decision of the outcome differ from its intent"
WITHOUT = "the outcome of a call that ran names no intent"
OUTSIDE = "a call outside any task was allowed"


def id_of(name: str) -> str:
    """Return the id of a record that goes by a short name here."""
    return b64url_encode(name.encode().rjust(16, b"\0"))


def name_of(record: str | None) -> str:
    """Return the short name of an id."""
    return "" if record is None else bytes_of_id(record).lstrip(b"\0").decode()


class Noted:
    """Takes any call, and notes it; some have an answer."""

    def __init__(self, **answers: object) -> None:
        self.said: list[tuple[object, ...]] = []
        self.answers = answers

    def __getattr__(self, name: str) -> Callable[..., object]:
        """Return what notes a call."""

        def call(*given: object, **named: object) -> object:
            self.said.append((name, *given, *named.items()))
            return self.answers.get(name)

        return call


def use_of(grant: str = "g") -> Any:
    """Return the use of a grant."""
    use: Any = Noted()
    use.grant = grant
    return use


class Reading:
    """Calls whose records are taken one by one, and what was found."""

    def __init__(self, use: Any = None, **options: Any) -> None:
        self.findings = Findings("ledger", [str(step) for step in range(1, 9)])
        self.use = use
        self.delegations: Any = Noted(see=use)
        self.calls = Calls(self.findings, self.delegations, **options)
        self.calls.committed = 100

    def take(self, kind: str, name: str, seq: int = 1, *, stream: str = STREAM, **body: Any) -> "Reading":
        """Take a record."""
        place = {"id": STREAM, "seq": "2", "prev": "A" * 43}
        facts = OF_TASK if self.use is not None else {"attribution": "none"} if kind in ("intent", "outcome") else {}
        record = {"v": "1", "id": id_of(name), "kind": kind, "stream": place, "time": {"start": "70"}, **facts, **body}
        self.calls.take(decode(encode_record(record)), stream, seq)
        return self

    def intent(self, name: str, tool: str = "pay", args: str | None = "a", seq: int = 1, **body: Any) -> "Reading":
        """Take an intent."""
        action = {"tool": tool, "kind": "function", **({} if args is None else {"args": DIGESTS[args]})}
        kind = "outcome" if "outcome" in body else "intent"
        return self.take(kind, name, seq, **{"action": action, "decision": ALLOW, **body})

    def outcome(self, name: str, intent: str | None, outcome: str = "success", **body: Any) -> "Reading":
        """Take an outcome."""
        link = {} if intent is None else {"intent": id_of(intent)}
        return self.intent(name, **{"outcome": outcome, **link, **body})

    @property
    def found(self) -> list[tuple[object, ...]]:
        """What was found, but for what stands outside any task."""
        problems = self.findings.report().findings
        return [(p.code, p.message, name_of(p.record), p.seq) for p in problems if p.code != "allowed_without_task"]

    @property
    def failed(self) -> set[int]:
        """The steps that failed."""
        return {step.number for step in self.findings.report().steps if step.status == "failed"}


def test_a_call_comes_back_as_it_was_spilled() -> None:
    """Whatever of it is there."""
    store = spilled(Call, near=1)
    for call in (Call("g", "pay", "a", "id", STREAM, 7), Call(None, "ü", None, "id", STREAM, 1)):
        store.put(call.tool.encode(), call)
        assert list(store.values())[-1] == call
        assert call.place() == Place("id", STREAM, call.seq, None)


def test_each_intent_has_one_outcome_that_fits_it() -> None:
    """The same tool, arguments and grant; a second outcome names an intent that waits no more."""
    reading = Reading(use_of())
    reading.intent("i1").outcome("o1", "i1", seq=2).intent("i2", args=None).outcome("o2", "i2", args=None)
    assert reading.found == []
    reading.outcome("o3", "i1", seq=3)
    assert reading.found == []  # It may stand in another stream.
    reading.calls.end_of_stream()
    reading.calls.finish()
    assert (reading.found, reading.failed) == ([("intent_missing", MISSING, "o3", 3)], {5})
    assert reading.findings.counts == {"success": 3, "unknown": 0}


@pytest.mark.parametrize("other", [{"tool": "read"}, {"args": "b"}, {"args": None}])
def test_an_outcome_of_another_call_is_found(other: dict[str, Any]) -> None:
    """In this stream at once, and in another one at the end."""
    reading = Reading(use_of()).intent("i").outcome("o", "i", seq=2, **other)
    mismatch = [("intent_mismatch", MISMATCH, "o", 2)]
    assert (reading.found, reading.failed) == (mismatch, {5})
    reading = Reading(use_of()).outcome("o", "i", seq=2, **other)
    reading.calls.end_of_stream()
    reading.intent("i")
    reading.calls.end_of_stream()
    reading.calls.finish()
    assert reading.found == mismatch


def test_an_outcome_under_another_grant_is_found() -> None:
    """The tool may be the same; whose authority it was is not."""
    reading = Reading(use_of()).intent("i")
    chain = [{**OF_TASK["chain"][0], "grant": "Y" * 43}]
    assert reading.outcome("o", "i", chain=chain).found == [("intent_mismatch", MISMATCH, "o", 1)]


def test_an_intent_may_stand_in_another_stream() -> None:
    """Before its outcome or behind it; what stays open is named where it is, and counted."""
    reading = Reading(use_of()).intent("i1").intent("i2", tool="réad", seq=9)
    reading.calls.end_of_stream()
    reading.outcome("o1", "i1").outcome("o3", "i3")
    reading.calls.end_of_stream()
    reading.intent("i3")
    reading.calls.end_of_stream()
    reading.findings.kinds.update(intent=1200, outcome=1)
    reading.calls.finish()
    words = "the call of 'r\\xe9ad' has no outcome; how it ended is unknown"
    assert reading.found == [("unknown_outcome", words, "i2", 9)]
    assert reading.findings.counts == {"success": 2, "unknown": 1}
    step = reading.findings.report().steps[4]
    assert (step.status, step.detail) == ("passed", "1,200 intents, 1 outcome")


def test_outcomes_that_wait_are_matched_however_many_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those beyond what memory holds as well, and none is accused before all streams were read."""
    monkeypatch.setattr(calls_check, "_NEAR_INTENTS", 2)
    reading = Reading(use_of())
    for number in range(7):
        reading.outcome(f"o{number}", f"i{number}", seq=number)
    assert reading.found == []
    reading.calls.end_of_stream()
    for number in range(6):
        reading.intent(f"i{number}", seq=number)
    reading.calls.end_of_stream()
    reading.calls.finish()
    assert reading.found == [("intent_missing", MISSING, "o6", 6)]


WARN, PERSON = {**ALLOW, "effect": "warn"}, {**ALLOW, "approval": STREAM}


@pytest.mark.parametrize(
    ("intent", "outcome", "ending", "fits"),
    [
        (ALLOW, ALLOW, "success", True),
        (ALLOW, WARN, "success", True),  # An inspector found something in the result.
        (ALLOW, {**WARN, "enforced": "modify"}, "success", True),  # And its text was changed.
        (PERSON, {**ALLOW, "enforced": "modify"}, "success", False),
        (WARN, ALLOW, "success", False),
        (ALLOW, {**ALLOW, "effect": "route"}, "error", False),
        (ALLOW, PERSON, "cancelled", False),
        (PERSON, ALLOW, "success", False),
        (ALLOW, {**ALLOW, "effect": "route", "enforced": "escalate"}, "routed", True),
        (PERSON, {**ALLOW, "effect": "block", "enforced": "block"}, "denied", True),
        (ALLOW, {**ALLOW, "mode": "monitor"}, "success", False),
    ],
)
def test_a_call_that_ran_was_decided_as_its_intent_says(
    intent: dict[str, Any], outcome: dict[str, Any], ending: str, fits: bool
) -> None:
    """In enforce mode; one that was refused or routed after its intent has a decision of its own."""
    reading = Reading(use_of(), approvals=Noted()).intent("i", decision=intent)
    reading.outcome("o", "i", ending, seq=2, decision=outcome)
    assert [code for code, *_ in reading.found] == ([] if fits else ["intent_mismatch"])


def test_an_intent_that_is_not_given_or_pruned_is_counted() -> None:
    """Of a part of a ledger any may be missing; of a pruned one those that the statement names."""
    reading = Reading(use_of())
    reading.calls.gone = {id_of("i1"), id_of("i3")}
    reading.outcome("o1", "i1").outcome("o2", "i2").outcome("o3", "i3")
    reading.calls.end_of_stream()
    reading.calls.finish()
    assert reading.found == [("intent_missing", MISSING, "o2", 1)]
    assert reading.findings.counts["intents_pruned"] == 2
    reading = Reading(use_of())
    reading.calls.partial = True
    reading.outcome("o1", "i1").intent("i2").outcome("o2", "i2", tool="read").outcome("o3", "i3")
    reading.calls.end_of_stream()
    reading.calls.finish()
    assert [problem[0] for problem in reading.found] == ["intent_mismatch"]
    assert reading.findings.counts["intents_withheld"] == 2


MONITOR = {"decision": {**ALLOW, "mode": "monitor"}}
ASKED = {"decision": {**ALLOW, "approval": STREAM}}


@pytest.mark.parametrize(
    ("outcome", "body", "code"),
    [
        ("success", {}, "outcome_without_intent"),
        ("error", {}, "outcome_without_intent"),
        ("success", MONITOR, "unrecorded_intent"),
        ("denied", {}, None),
        ("routed", {}, None),
        ("suspended", {}, "outcome_without_intent"),
        ("suspended", ASKED, None),
        ("success", ASKED, "outcome_without_intent"),
        ("denied", MONITOR, None),
    ],
)
def test_what_ran_had_an_intent(outcome: str, body: dict[str, Any], code: str | None) -> None:
    """But for what was refused, sent elsewhere, or suspended until somebody approves of it."""
    reading = Reading(use_of()).outcome("o", None, outcome, seq=4, **body)
    assert reading.found == ([] if code is None else [(code, WITHOUT, "o", 4)])
    assert reading.failed == (set() if code is None else {5})


def test_only_what_the_log_commits_to_is_counted_as_ended() -> None:
    """Anyone may have written the rest."""
    reading = Reading(use_of())
    reading.calls.committed = 2
    for seq in (1, 2, 3):
        reading.outcome(f"o{seq}", None, "denied", seq=seq)
    reading.calls.end_of_stream()
    reading.calls.finish()
    assert reading.findings.counts["denied"] == 2


def test_what_is_allowed_is_held_against_its_grant() -> None:
    """At its time, and where it stands; what is blocked is not, and outside any task nothing is."""
    use = use_of()
    reading = Reading(use).intent("i", seq=3)
    call = Call(LEAF, "pay", DIGESTS["a"], id_of("i"), STREAM, 3, ("allow", "allow", "enforce", None), mode="enforce")
    assert use.said[:2] == [("count", ("concluded", False)), ("allow", "pay", 70, call)]
    use.said.clear()
    blocked = {**ALLOW, "effect": "block"}
    reading.outcome("o", None, "denied", decision=blocked)
    assert [name for name, *_ in use.said] == ["count"]
    assert use.said[0] == ("count", ("concluded", True))
    reading = Reading().intent("i", seq=3)
    problems = [(p.code, p.message, name_of(p.record), p.seq) for p in reading.findings.report().findings]
    assert (problems, reading.failed) == ([("allowed_without_task", OUTSIDE, "i", 3)], {6})
    assert reading.findings.counts["unattributed"] == 1
    assert reading.intent("j").findings.counts["unattributed"] == 2
    reading = Reading().outcome("o", None, "denied", decision=blocked)
    assert reading.findings.report().findings == ()


def test_a_call_that_a_person_approved_is_held_against_approvals() -> None:
    """And no other one."""
    approvals = Noted()
    use = use_of()
    reading = Reading(use, approvals=approvals).intent("i")
    assert approvals.said == []
    use.said.clear()
    reading.intent("j", seq=5, **ASKED)
    ((name, record, place, _),) = approvals.said
    assert (name, place) == ("take", Place(id_of("j"), STREAM, 5))
    assert record.id == id_of("j")  # type: ignore[attr-defined]
    assert {"count", "allow"} <= {name for name, *_ in use.said}


def test_tasks_tell_of_their_grants_openings_and_ends() -> None:
    """The grant of a record is the last of its chain, and what was pruned or left out makes an end partial."""
    use = use_of()
    counts = {"intents": "1", "outcomes": "1", "open": "0"}
    reading = Reading(use).take("grant", "g", 2, grant={"token": "t.t.t"}).take("task_start", "s", 3)
    reading.take("task_end", "e", 4, counts=counts)
    assert reading.delegations.said[1] == ("add_grant", "t.t.t", LEAF, Place(id_of("g"), STREAM, 2))
    end = ("finish", Counts(**counts), Place(id_of("e"), STREAM, 4))
    assert use.said == [("begin", STREAM), (*end, ("partial", False))]
    for name, value in (("partial", True), ("gone", set[str]())):
        use.said.clear()
        reading = Reading(use)
        setattr(reading.calls, name, value)
        reading.take("task_end", "e", 4, counts=counts)
        assert use.said == [(*end, ("partial", True))]


def test_what_concerns_all_of_the_ledger() -> None:
    """Erasures are notices of the last step, and of a stream that was recovered twice the first word counts."""
    reading = Reading().take("erasure", "e", 6, erasure={"key": "k"})
    ((code, words, *place),) = reading.found
    assert (code, place, bool(words)) == ("erased", ["e", 6], True)
    rest = {"stream": STREAM, "sealed_before": "0", "torn_bytes": "0", "open_count": "0"}
    first, second, worse = ({**rest, "rejected_bytes": n, "size": s} for n, s in (("0", "1"), ("0", "2"), ("9", "3")))
    for found, kept in ((first, first), (second, first), (worse, worse), (second, worse)):
        reading.take("recovered", "r", recovered=found)
        assert reading.calls.recovered == {STREAM: RecoveredStream(**kept)}
    approvals = Noted()
    asked = {"action": {"tool": "pay", "kind": "function"}, "approval": {"id": STREAM, "status": "pending"}}
    Reading(use_of(), approvals=approvals).take("approval", "a", 8, **asked)
    assert [(name, record.id, place) for name, record, place in approvals.said] == [  # type: ignore[attr-defined]
        ("take", id_of("a"), Place(id_of("a"), STREAM, 8))
    ]
    assert Reading(use_of()).take("approval", "a", 8, **asked).found == []


def test_arguments_that_are_disclosed_are_held_against_their_calls() -> None:
    """Only of those calls of which some are."""
    disclosures: Any = Noted()
    disclosures.want = lambda call: call == id_of("i2")
    use = use_of()
    Reading(use, disclosures=disclosures).intent("i1").intent("i2", seq=4)
    ((name, record, given, place),) = disclosures.said
    assert (name, record.id, given, place) == ("take", id_of("i2"), use, Place(id_of("i2"), STREAM, 4))


def test_intents_that_wait_on_the_disk_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the order in which they came, each answered by its outcome."""
    monkeypatch.setattr(calls_check, "_NEAR_INTENTS", 2)
    reading = Reading(use_of())
    for number in range(7):
        reading.intent(f"i{number}", seq=number)
    for number in (0, 6, 3):
        reading.outcome(f"o{number}", f"i{number}", seq=8)
    reading.outcome("o1", "i1", tool="read", seq=9)
    assert [name_of(call.id) for call in reading.calls._open] == ["i2", "i4", "i5"]
    reading.calls.end_of_stream()
    reading.calls.finish()
    assert [(code, record) for code, _, record, _ in reading.found] == [
        ("intent_mismatch", "o1"),
        *[("unknown_outcome", f"i{number}") for number in (2, 4, 5)],
    ]


@pytest.mark.parametrize("near", [1, 2, 100])
def test_of_two_intents_with_one_id_the_later_one_waits(near: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the place of the earlier one, wherever they are."""
    monkeypatch.setattr(calls_check, "_NEAR_INTENTS", near)
    waiting = OpenIntents()
    calls = [Call(None, "pay", None, f"i{number}", STREAM, number) for number in (5, 1, 4, 2, 3)]
    for call in calls:
        waiting.put(call)
    again = structs.replace(calls[0], seq=99)
    waiting.put(again)
    assert list(waiting) == [again, *calls[1:]]
    assert (waiting.pop("i1"), waiting.pop("i1")) == (calls[1], None)
    assert list(waiting) == [again, *calls[2:]]


def test_two_intents_with_one_id_that_wait_are_found() -> None:
    """In one stream, and after their streams; an id whose call has ended may return."""
    reading = Reading(use_of()).intent("i").outcome("o", "i").intent("i", seq=2).intent("i", seq=3)
    assert [(code, seq) for code, _, _, seq in reading.found] == [("two_versions", 3)]
    reading.calls.end_of_stream()
    reading.intent("i", seq=4).outcome("o2", "i", seq=5)
    reading.calls.end_of_stream()
    assert len(reading.found) == 1  # The one with an outcome is taken in its stream.
    reading.intent("i", seq=5)
    reading.calls.end_of_stream()
    assert [(code, seq) for code, _, _, seq in reading.found] == [("two_versions", 3), ("two_versions", 5)]


def opening(name: str, kind: str, seq: int, **more: Any) -> dict[str, Any]:
    """Return a record that opens or ends the task."""
    body: dict[str, Any] = {"task_end": {"counts": {"intents": "0", "open": "0", "outcomes": "0"}}}.get(kind, {})
    token = {"grant": {"token": "e30.e30.AA"}} if kind == "grant" else {}
    return {"kind": kind, "name": name, "seq": seq, **body, **token, **more}


def codes_of(*streams: list[dict[str, Any]]) -> list[tuple[object, object]]:
    """Return the codes of the order check, each with the name of its record, for streams one after the other."""
    reading = Reading(use_of())
    for number, stream in enumerate(streams):
        for record in stream:
            facts = {**record, "stream": id_of(f"stream{number}")}
            kind, name, seq = facts.pop("kind"), facts.pop("name"), facts.pop("seq")
            call = {"action": {"tool": "pay", "kind": "function", "args": DIGESTS["a"]}, "decision": ALLOW}
            reading.take(kind, name, seq, **({**call, **facts} if kind in ("intent", "outcome") else facts))
        reading.calls.end_of_stream()
    reading.calls.finish()
    return [(code, record) for code, _, record, _ in reading.found if code not in ("unknown_outcome", "bad_grant")]


START, GRANT, END = (opening(kind, kind, 1) for kind in ("task_start", "grant", "task_end"))
CALL = {"kind": "intent", "name": "i", "seq": 5}
DONE = {"kind": "outcome", "name": "o", "seq": 6, "outcome": "success", "intent": id_of("i")}
"""Records of one hop."""


def test_calls_stand_between_the_start_and_the_end_of_their_task() -> None:
    """An outcome may come after the end, and a hop that is taken up twice ends twice."""
    assert codes_of([GRANT, START, CALL, DONE, END]) == []
    assert codes_of([GRANT, START, CALL, END, DONE]) == []
    assert codes_of([GRANT, START, START, END, CALL, DONE, END]) == []
    assert codes_of([GRANT, START, END, START, CALL, DONE, END]) == []


@pytest.mark.parametrize(
    ("stream", "found"),
    [
        ([GRANT, START, END, CALL, DONE], ("call_after_task_end", "i")),
        ([GRANT, CALL, DONE, START, END], ("opening_after_call", "task_start")),
        ([START, CALL, DONE, END, GRANT], ("opening_after_call", "grant")),
        ([GRANT, START, {**DONE, "seq": 2}, CALL, END], ("outcome_before_intent", "o")),
    ],
)
def test_records_of_one_hop_out_of_order_contradict(stream: list[dict[str, Any]], found: tuple[str, str]) -> None:
    """By their places, whatever their clocks say."""
    assert codes_of(stream) == [found]


@pytest.mark.parametrize(
    "streams",
    [
        ([GRANT, START], [CALL, DONE, {**START, "name": "again"}, END]),
        ([GRANT, START], [CALL, DONE, END]),
        ([GRANT, START, END], [{**START, "name": "again"}, CALL, DONE, END]),
        ([START, {**GRANT, "name": "again"}], [GRANT]),
        ([GRANT, START, {**START, "name": "again"}, END, END], [START, END, CALL, DONE]),
    ],
)
def test_the_order_of_a_hop_in_several_streams_is_not_judged(streams: tuple[list[dict[str, Any]], ...]) -> None:
    """It went on in a fork, after a fault, or was taken up by several processes."""
    assert codes_of(*streams) == []


def test_a_hop_that_starts_once_is_judged_wherever_its_grant_stands() -> None:
    """What is taken up once has one order: a copy of its grant in another stream excuses nothing."""
    again = [{**GRANT, "name": "again"}]
    assert codes_of([GRANT, START, END, CALL, DONE], again) == [("call_after_task_end", "i")]
    assert codes_of(again, [GRANT, CALL, DONE, START, END]) == [("opening_after_call", "task_start")]


def test_what_monitor_mode_runs_after_the_end_is_no_contradiction() -> None:
    """Nothing is refused there, and its records say so."""
    monitored = {**CALL, "decision": {**ALLOW, "mode": "monitor", "enforced": "audit"}}
    assert codes_of([GRANT, START, END, monitored]) == []


def test_the_order_of_a_ledger_that_lacks_records_is_not_judged() -> None:
    """A start may be among those that are missing."""
    reading = Reading(use_of())
    reading.calls.partial = True
    for record in (START, END):
        reading.take(record["kind"], record["name"], 1, **({"counts": END["counts"]} if record is END else {}))
    reading.intent("i", seq=5).calls.end_of_stream()
    reading.calls.finish()
    assert "call_after_task_end" not in {code for code, *_ in reading.found}


BLOCK = {"effect": "block", "enforced": "block", "mode": "enforce", "reason": "policy_blocked"}


@pytest.mark.parametrize("ending", ["success", "error", "cancelled", "routed", "suspended"])
def test_a_blocked_call_that_ran_contradicts(ending: str) -> None:
    """An intent that blocks has no body, and an outcome that blocks no result."""
    reading = Reading(use_of()).intent("i").outcome("o", "i", ending, decision=BLOCK)
    assert [(code, name) for code, _, name, _ in reading.found] == [("blocked_but_ran", "o")]
    reading = Reading(use_of()).intent("i", decision=BLOCK)
    assert [(code, name) for code, _, name, _ in reading.found] == [("blocked_but_ran", "i")]


def test_a_refusal_and_monitor_mode_may_block() -> None:
    """Before the body, after it, and where nothing is enforced."""
    reading = Reading(use_of()).outcome("o1", None, "denied", decision=BLOCK)
    reading.intent("i").outcome("o2", "i", "denied", decision=BLOCK)
    audited = {**BLOCK, "mode": "monitor", "enforced": "audit"}
    reading.intent("i2", decision=audited).outcome("o3", "i2", decision=audited)
    assert reading.found == []
