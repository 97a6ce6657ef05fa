"""Information flow: marks of every cause, and each of its rules broken, sealed by an insider with all keys."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Final

from call_cases import put
from case_form import Cases, World
from insider import ALLOWED, BLOCKED, HOLDERS, RULED, STRANGER, Hop, Ledger, Line, digest

from agent_identity import Agent
from agent_identity._authority.grants.signed_marks import SignedMark, sign_mark

Edit = Callable[[World], object]
OWN: Final = {"argument": "iban", "provenance": "principal", "destination": True}
QUIET: Final[dict[str, Any]] = {"labels": []}
PAYS: Final[dict[str, Any]] = {"labels": ["payment"]}


def marked(*, flow: str | None = "flow-1", policies: int = 1) -> World:
    """Return a task that its principal requested, reads something untrusted, and pays where the principal said."""
    ledger = Ledger()
    stream = ledger.stream()
    for _ in range(policies):
        ledger.policy(stream, flow)
    task = ledger.task(stream, "read", "pay")
    grant = task.grant()
    first = task.mark("request", "trusted", digest=digest("pay INV-42"))
    start = task.start(judged_at=task.at)
    read = task.intent("read", judged_at=task.at, action=QUIET)
    read_out = task.lowered(task.outcome(read, result=True), "untrusted")
    pay = task.intent("pay", judged_at=task.at, action=PAYS, provenance=[dict(OWN)])
    pay_out = task.kept(task.outcome(pay, result=True), "untrusted")
    end, close = task.end(), ledger.close(stream)
    return SimpleNamespace(**locals())


def exempted() -> World:
    """Return a task that reads something untrusted, and pays by an approval that names this input."""
    ledger = Ledger()
    stream = ledger.stream()
    policy = ledger.policy(stream, "flow-1")
    task = ledger.task(stream, "read", "pay")
    grant = task.grant()
    first = task.mark("start", "unknown", joined="unknown")
    start = task.start(judged_at=task.at)
    read = task.intent("read", judged_at=task.at, action=QUIET)
    read_out = task.lowered(task.outcome(read, result=True), "untrusted")
    ruled = task.ruling("pay", "120", sources=(read.id,))
    asked, answered = ruled.ask(), ruled.answer()
    pay = task.intent("pay", args="120", judged_at=task.at, action=PAYS, decision=ruled.decision)
    pay_out = task.kept(task.outcome(pay, result=True), "untrusted")
    end, close = task.end(), ledger.close(stream)
    return SimpleNamespace(**locals())


def every_cause() -> World:
    """Return a task whose mark changes for every reason there is, with parts here and elsewhere."""
    ledger = Ledger()
    stream = ledger.stream()
    policy = ledger.policy(stream, "flow-1")
    task = ledger.task(stream, "read", "show", "ask")
    grant = task.grant()
    first = task.mark("start", "unknown", joined="unknown")
    start = task.start(judged_at=task.at)
    said = task.mark("said", "unknown", digest=digest("go on"))
    received = task.mark("received", "untrusted", joined="untrusted")
    prompt = task.mark("prompt", "untrusted", joined="untrusted")
    read = task.intent("read", judged_at=task.at, action=QUIET)
    chunk = task.mark("chunk", "untrusted:finance,legal", joined="untrusted:finance,legal", sources=[read.id])
    read_out = task.kept(task.outcome(read, result=True), "untrusted:finance,legal")
    held = task.intent("read", judged_at=task.at, action=QUIET)
    held_out = task.kept(
        task.outcome(held, "denied", error="content_quarantined", decision={**BLOCKED, "reason": "policy_quarantines"}),
        "untrusted:finance,legal",
    )
    opened = task.mark("opened", "untrusted:finance,legal", joined="untrusted:finance,legal", sources=[held.id])
    body = task.intent("show", judged_at=task.at, action=QUIET)
    inside = task.mark("read", "untrusted:finance", joined="untrusted:finance", sources=[body.id])
    body_out = task.kept(task.outcome(body, "error", error="LookupError"), "untrusted:finance")
    child = task.delegate("read", agent=Agent("reader", owner="ops@example.com"))
    child.grant()
    isolated = child.mark("isolated", "untrusted:finance", joined="untrusted:finance", origin=task.hash)
    child.start(judged_at=child.at)
    child_read = child.intent("read", judged_at=child.at, action=QUIET)
    child_out = child.lowered(child.outcome(child_read, result=True), "untrusted:")
    join = task.mark("join", "untrusted:", joined="untrusted:", origin=child.hash)
    child_end = child.end()
    other = task.delegate("ask")
    other.grant()
    token = sign_mark(HOLDERS[1], SignedMark(other.hash, other.hash, other.hash, "untrusted:", "4"))
    answer = task.mark("answer", "untrusted:", joined="untrusted:", origin=other.hash, token=token)
    last = task.intent("show", judged_at=task.at, action=QUIET)
    last_out = task.kept(task.outcome(last, result=True), "untrusted:")
    end, close = task.end(), ledger.close(stream)
    later = ledger.stream()
    ledger.policy(later, "flow-1")
    taken = ledger.task(later, "read", task=task.chain.leaf.task_id)
    taken.grant()
    accept = taken.mark("accept", "untrusted", joined="untrusted", origin=other.hash)
    taken.start(judged_at=taken.at)
    taken.end()
    later_close = ledger.close(later)
    return SimpleNamespace(**locals())


def taken_up(label: str) -> World:
    """Return a call that was suspended at an untrusted mark, and goes on in a later task at another one."""
    ledger = Ledger()
    stream = ledger.stream()
    ledger.policy(stream, "flow-1")
    task = ledger.task(stream, "read", "pay")
    task.grant()
    task.mark("request", "trusted")
    task.start(judged_at=task.at)
    read = task.intent("read", judged_at=task.at, action=QUIET)
    task.lowered(task.outcome(read, result=True), "untrusted")
    ruled = task.ruling("pay", "120", sources=(read.id,))
    ruled.ask()
    waits = {**RULED, "enforced": "block", "approval": ruled.ruling.id}
    paused = task.denied("pay", action={"args": digest("120")}, decision=waits, outcome="suspended", error="interrupt")
    paused.detailed({"judged_at": task.at, "labels": ["payment"]})
    task.end()
    ledger.close(stream)
    later = ledger.stream()
    ledger.policy(later, "flow-1")
    again = ledger.task(later, "pay")
    again.grant()
    again.mark("start", "unknown", joined="unknown")
    again.start(judged_at=again.at)
    if label != "unknown":
        again.mark("join", label, joined=label, origin=task.hash, sources=[read.id])
    type(ruled)(again, ruled.ruling, ruled.token).answer(request=digest("request of the second task"))
    resumed = again.intent(
        "pay", args="120", judged_at=again.at, action=PAYS, decision=ruled.decision, resumes=paused.id
    )
    again.kept(again.outcome(resumed, result=True), label)
    again.end()
    ledger.close(later)
    return SimpleNamespace(**locals())


def elsewhere() -> World:
    """Return a task that goes on in the stream of a forked child, where its marks go on as well."""
    ledger = Ledger()
    stream = ledger.stream()
    ledger.policy(stream, "flow-1")
    task = ledger.task(stream, "read")
    task.grant()
    task.mark("request", "trusted")
    task.start(judged_at=task.at)
    later = ledger.stream()
    ledger.policy(later, "flow-1")
    task.stream = later
    read = task.intent("read", judged_at=task.at, action=QUIET)
    task.lowered(task.outcome(read, result=True), "untrusted")
    again = task.intent("read", judged_at=task.at, action=QUIET)
    task.kept(task.outcome(again, result=True), "untrusted")
    task.end()
    ledger.close(later)
    task.stream = stream
    ledger.close(stream)
    return SimpleNamespace(**locals())


def change(line: Line) -> dict[str, Any]:
    """Return the change of a mark."""
    found: dict[str, Any] = line.record["mark"]
    return found


def ran(**members: Any) -> Edit:
    """Return an edit of the payment; members of the action stand in ``action``."""

    def edit(world: World) -> None:
        record = world.pay.record
        action = members.get("action", {})
        record["action"] = {"tool": "pay", "kind": "function", **PAYS, **action}
        record["action"] = {key: value for key, value in record["action"].items() if value is not None}
        short = {key: value for key, value in record["action"].items() if key not in ("labels", "claims")}
        result = world.pay_out.record["action"]["result"]
        world.pay_out.record["action"] = {**short, "result": result}
        for key, value in members.items():
            if key == "decision":
                world.pay_out.record["decision"] = value
            if value is None:
                record.pop(key, None)
            elif key != "action":
                record[key] = value

    return edit


def memo(provenance: str) -> dict[str, str]:
    """Return where a further argument comes from."""
    return {"argument": "memo", "provenance": provenance}


def after(line: str, label: str | None, mark: tuple[str, str] | None) -> Edit:
    """Return an edit of the label of an outcome and of the mark that it names."""

    def edit(world: World) -> None:
        record = getattr(world, line).record
        said = {"label": label, "mark_after": mark and {"label": mark[0], "seq": mark[1]}}
        record.update(said)
        for name in [name for name, value in said.items() if value is None]:
            del record[name]

    return edit


def all_of(*edits: Edit) -> Edit:
    """Return an edit that is several."""
    return lambda w: [edit(w) for edit in edits]


def at(line: str, **members: str) -> Edit:
    """Return an edit of the mark at which something was judged."""
    return lambda w: getattr(w, line).record["judged_at"].update(members)


MARKED: Final[tuple[tuple[str, str, str, Edit], ...]] = (
    (
        "mark-after-better",
        "A result is untrusted, and the outcome leaves the mark trusted.",
        "label_mismatch mark_mismatch",
        after("read_out", "untrusted", ("trusted", "2")),
    ),
    (
        "mark-after-lower",
        "An outcome lowers the mark further than its result asks for.",
        "",
        after("read_out", "trusted", ("untrusted", "2")),
    ),
    (
        "result-better-than-mark",
        "A result is trusted, and its call was judged at an untrusted mark.",
        "label_mismatch",
        after("pay_out", "trusted", ("untrusted", "2")),
    ),
    (
        "mark-after-beyond",
        "An outcome names a mark that its hop does not have.",
        "mark_out_of_order",
        after("pay_out", "untrusted", ("untrusted", "9")),
    ),
    (
        "mark-after-earlier",
        "An outcome names a mark before that of its intent.",
        "mark_out_of_order label_mismatch",
        after("pay_out", "untrusted", ("trusted", "1")),
    ),
    (
        "mark-after-other-label",
        "An outcome names the newest mark with another label than it has.",
        "mark_mismatch",
        after("pay_out", "untrusted", ("untrusted:", "2")),
    ),
    (
        "mark-after-raised",
        "An outcome raises the mark.",
        "mark_mismatch label_mismatch",
        after("pay_out", "untrusted", ("trusted", "3")),
    ),
    (
        "mark-after-again",
        "An outcome is a change to the label that the mark has.",
        "",
        after("pay_out", "untrusted", ("untrusted", "3")),
    ),
    (
        "result-without-label",
        "A result of a task with a mark has no label.",
        "label_mismatch",
        after("pay_out", None, None),
    ),
    (
        "label-without-mark",
        "An outcome has a label and names no mark.",
        "label_mismatch",
        after("pay_out", "untrusted", None),
    ),
    (
        "mark-without-label",
        "An outcome names a mark and has no label.",
        "label_mismatch",
        after("pay_out", None, ("untrusted", "2")),
    ),
    (
        "mark-not-recorded",
        "A result was withheld since its mark could not be recorded, and the mark is as before.",
        "",
        all_of(
            after("read_out", "untrusted", ("trusted", "1")),
            lambda w: w.read_out.record.update(outcome="denied", error="mark_not_recorded", decision=dict(BLOCKED)),
            at("pay", seq="1"),
            after("pay_out", "trusted", ("trusted", "1")),
        ),
    ),
    ("judged-at-earlier", "A call was judged at a mark that was not the newest.", "mark_stale", at("pay", seq="1")),
    (
        "judged-at-later",
        "A call was judged at a mark that its hop does not have.",
        "mark_stale mark_out_of_order",
        at("pay", seq="3"),
    ),
    (
        "judged-at-none",
        "A call names no mark, and its task has one.",
        "mark_absent flow_not_checked",
        lambda w: w.pay.record.pop("judged_at"),
    ),
    (
        "judged-at-none-monitored",
        "In monitor mode, a call names no mark.",
        "flow_not_checked",
        all_of(lambda w: w.pay.record.pop("judged_at"), ran(decision={**ALLOWED, "mode": "monitor"})),
    ),
    (
        "judged-at-another-hop",
        "A call was judged at the mark of a hop that is not in its chain.",
        "mark_mismatch flow_not_checked",
        at("pay", hop=digest("hop")),
    ),
    (
        "start-at-later",
        "A task starts at another mark than its first.",
        "mark_out_of_order mark_stale",
        at("start", seq="2"),
    ),
    (
        "start-before-mark",
        "A task starts before its first mark.",
        "mark_stale mark_out_of_order",
        lambda w: w.stream.move(w.start, before=w.first),
    ),
    ("start-at-none", "The start of a task names no mark.", "", lambda w: w.start.record.pop("judged_at")),
    (
        "start-trusted",
        "A task without a request begins trusted.",
        "mark_mismatch",
        lambda w: change(w.first).update(cause="start"),
    ),
    (
        "request-joined",
        "The mark of a request joins a label.",
        "mark_mismatch",
        lambda w: change(w.first).update(joined="trusted"),
    ),
    (
        "mark-not-the-meet",
        "A mark has another label than the meet of what it joins.",
        "mark_mismatch",
        lambda w: change(w.first).update(label="unknown", cause="received", joined="trusted"),
    ),
    (
        "mark-of-another-hop",
        "A mark is that of a hop that is not in the chain of its record.",
        "mark_mismatch mark_stale mark_stale",
        lambda w: change(w.first).update(hop=digest("hop")),
    ),
    (
        "mark-from-nowhere",
        "The first mark of a hop in the ledger says that there was one before.",
        "mark_out_of_order flow_not_checked",
        all_of(
            lambda w: change(w.first).update(seq="2", prev=w.stream[0].id, cause="received"),
            lambda w: w.start.record.pop("judged_at"),
            at("read", seq="2"),
            after("read_out", "untrusted", ("untrusted", "3")),
            at("pay", seq="3"),
            after("pay_out", "untrusted", ("untrusted", "3")),
        ),
    ),
    (
        "claimed-better",
        "A result is better than the server of its tool says.",
        "label_mismatch",
        all_of(
            after("read_out", "unknown", ("unknown", "2")),
            lambda w: w.read_out.detailed({"claimed": "untrusted"}),
            after("pay_out", "unknown", ("unknown", "2")),
        ),
    ),
    (
        "claimed",
        "A result has the label that the server of its tool gives it.",
        "",
        lambda w: w.read_out.detailed({"claimed": "untrusted"}),
    ),
    (
        "repeats-untrusted",
        "A call with an argument that repeats untrusted input has a result that is unknown.",
        "label_mismatch",
        all_of(
            lambda w: w.read.record.update(provenance=[memo("untrusted")]),
            after("read_out", "unknown", ("unknown", "2")),
            after("pay_out", "unknown", ("unknown", "2")),
        ),
    ),
    (
        "endorsed",
        "The owner of a tool endorses its results, whatever the mark is.",
        "",
        all_of(ran(endorses=True), after("pay_out", "trusted", ("untrusted", "2"))),
    ),
    (
        "readers",
        "A result that only some may read lowers the mark.",
        "",
        all_of(
            after("read_out", "trusted:finance", ("trusted:finance", "2")),
            after("pay_out", "trusted:finance", ("trusted:finance", "2")),
        ),
    ),
    (
        "readers-widened",
        "A result may be read by more than the mark of its call.",
        "label_mismatch mark_mismatch",
        all_of(
            after("read_out", "trusted:finance", ("trusted:finance", "2")),
            after("pay_out", "trusted:finance,legal", ("trusted:finance,legal", "3")),
        ),
    ),
    (
        "readers-out-of-order",
        "The readers of a label are not sorted.",
        "malformed_record unknown_outcome counts_disagree",
        after("pay_out", "untrusted:legal,finance", ("untrusted", "2")),
    ),
    (
        "readers-public",
        "A label names everybody among its readers.",
        "malformed_record unknown_outcome counts_disagree",
        after("pay_out", "untrusted:public", ("untrusted", "2")),
    ),
    (
        "ran-without-destination",
        "A payment without a destination ran at an untrusted mark.",
        "ran_against_mark",
        ran(provenance=None),
    ),
    (
        "ran-with-warning",
        "It ran with a warning.",
        "ran_against_mark",
        ran(provenance=None, decision={**ALLOWED, "effect": "warn", "reason": "policy_warns"}),
    ),
    (
        "ran-to-untrusted",
        "A payment to an untrusted destination ran at an untrusted mark.",
        "ran_against_mark",
        ran(provenance=[{**OWN, "provenance": "untrusted"}]),
    ),
    (
        "ran-to-unknown",
        "A payment to an unknown destination ran at an untrusted mark.",
        "ran_against_mark",
        ran(provenance=[{**OWN, "provenance": "unknown"}]),
    ),
    (
        "ran-to-trusted",
        "A payment to a destination from trusted input ran at an untrusted mark.",
        "",
        ran(provenance=[{**OWN, "provenance": "trusted"}]),
    ),
    (
        "ran-with-untrusted-memo",
        "Where only the destination counts, another argument may be untrusted.",
        "",
        ran(provenance=[dict(OWN), memo("untrusted")]),
    ),
    (
        "ran-and-persists",
        "What a tool stores counts like a destination.",
        "ran_against_mark",
        ran(provenance=[dict(OWN), memo("untrusted")], action={"labels": ["persists"]}),
    ),
    (
        "ran-unlabeled",
        "A tool without stated labels may store what it gets.",
        "ran_against_mark",
        ran(provenance=[dict(OWN), memo("untrusted")], action={"labels": None}),
    ),
    (
        "ran-otherwise-labeled",
        "A tool whose labels say nothing of consequences may store what it gets.",
        "ran_against_mark",
        ran(provenance=[dict(OWN), memo("untrusted")], action={"labels": ["internal"]}),
    ),
    (
        "ran-without-consequences",
        "A tool without consequences needs no person.",
        "",
        ran(provenance=None, action={"labels": []}),
    ),
    (
        "ran-with-claimed-consequences",
        "A tool without consequences by its owner is destructive by its server.",
        "ran_against_mark",
        ran(provenance=None, action={"labels": [], "claims": ["destructive"]}),
    ),
    (
        "ran-with-claimed-nothing",
        "What a server claims and has no consequences changes nothing.",
        "",
        ran(provenance=None, action={"labels": [], "claims": ["read_only"]}),
    ),
    ("ran-model", "The call of a model needs no person.", "", ran(provenance=None, action={"kind": "model"})),
    (
        "ran-monitored",
        "In monitor mode, nothing is against the mark.",
        "",
        ran(provenance=None, decision={**ALLOWED, "mode": "monitor"}),
    ),
)
"""On a task that its principal requested, and that reads something untrusted."""

CAUSES: Final[tuple[tuple[str, str, str, Edit], ...]] = (
    (
        "mark-gap",
        "A mark skips a number.",
        "mark_out_of_order mark_out_of_order",
        lambda w: change(w.received).update(seq="9"),
    ),
    (
        "mark-other-before",
        "A mark names another one before it.",
        "mark_out_of_order",
        lambda w: change(w.prompt).update(prev=w.first.id),
    ),
    (
        "mark-raised",
        "A mark is better than the one before.",
        "mark_mismatch",
        lambda w: change(w.said).update(label="trusted"),
    ),
    (
        "said-joined",
        "What the principal said joins a label.",
        "mark_mismatch",
        lambda w: change(w.said).update(joined="unknown"),
    ),
    (
        "said-in-a-part",
        "A principal speaks in a part of a task.",
        "mark_mismatch",
        lambda w: w.prompt.record.update(
            w.child.said(), mark={k: v for k, v in change(w.prompt).items() if k != "joined"} | {"cause": "said"}
        ),
    ),
    (
        "isolated-better",
        "An isolated part begins above the mark of its task.",
        "mark_mismatch",
        lambda w: change(w.isolated).update(label="untrusted", joined="untrusted"),
    ),
    (
        "isolated-at-nothing",
        "An isolated part begins at a hop that is not in its chain.",
        "mark_mismatch",
        lambda w: change(w.isolated).update(origin=digest("hop")),
    ),
    (
        "join-less",
        "A task joins less than its isolated part has read.",
        "mark_mismatch mark_mismatch",
        lambda w: change(w.join).update(joined="untrusted:finance", label="untrusted:finance"),
    ),
    (
        "join-after-end",
        "An isolated part ended before its mark was joined.",
        "mark_mismatch",
        lambda w: w.stream.move(w.child_end, before=w.join),
    ),
    (
        "opened-better",
        "A quarantined result was opened above its label.",
        "mark_mismatch",
        lambda w: change(w.opened).update(joined="trusted"),
    ),
    (
        "opened-from-nowhere",
        "A quarantined result was opened that is not there.",
        "flow_not_checked",
        lambda w: change(w.opened).update(sources=[w.first.id]),
    ),
    (
        "opened-result",
        "A result was opened that was never quarantined.",
        "mark_mismatch",
        lambda w: change(w.opened).update(sources=[w.read.id]),
    ),
    (
        "opened-nothing",
        "A quarantined result was opened, and the mark does not say of which call.",
        "mark_mismatch",
        lambda w: change(w.opened).pop("sources"),
    ),
    (
        "isolated-after-start",
        "An isolated part starts before its first mark.",
        "mark_out_of_order flow_not_checked",
        lambda w: w.stream.move(w.isolated, before=w.child_read),
    ),
    (
        "answer-by-stranger",
        "A stranger signed the mark of an answer.",
        "mark_mismatch",
        lambda w: answered(w, signer=STRANGER),
    ),
    (
        "answer-by-parent",
        "The holder above signed the mark of an answer.",
        "mark_mismatch",
        lambda w: answered(w, signer=HOLDERS[0]),
    ),
    (
        "answer-better",
        "The mark of an answer joins less than it says.",
        "mark_mismatch",
        lambda w: change(w.answer).update(joined="untrusted"),
    ),
    (
        "answer-for-another",
        "The mark of an answer is for another grant.",
        "mark_mismatch",
        lambda w: answered(w, grant=w.child.hash),
    ),
    (
        "answer-by-another-part",
        "The mark of an answer says that another part signed it.",
        "mark_mismatch",
        lambda w: answered(w, by=w.task.hash),
    ),
    (
        "answer-without-token",
        "An answer has no signed mark.",
        "mark_mismatch",
        lambda w: change(w.answer).pop("token"),
    ),
    (
        "answer-from-nowhere",
        "The grant that signed the mark of an answer is not there.",
        "flow_not_checked",
        lambda w: answered(w, by=digest("grant")),
    ),
    (
        "accept-raised",
        "A part of another process takes over less than it was handed.",
        "mark_mismatch",
        lambda w: change(w.accept).update(label="trusted"),
    ),
    (
        "chunk-unmarked",
        "A chunk was delivered without lowering the mark, and the outcome says so.",
        "label_mismatch",
        lambda w: w.read_out.record.update(label="untrusted:legal"),
    ),
)
"""On a task whose mark changes for every reason there is."""


def answered(world: World, signer: Any = HOLDERS[1], **changes: str) -> None:
    """Sign another mark for the answer."""
    one = world.other.hash
    mark = SignedMark(**{"by": one, "call": one, "grant": one, "label": "untrusted:", "seq": "4", **changes})
    change(world.answer)["token"] = sign_mark(signer, mark)


def _another_source(world: World) -> None:
    task: Hop = world.task
    received = Line(
        {
            **world.first.record,
            "id": world.ledger.id(),
            "mark": {
                "hop": task.hash,
                "seq": "3",
                "prev": world.read_out.id,
                "label": "untrusted",
                "joined": "untrusted",
                "cause": "received",
            },
        }
    )
    put(world, received, world.pay)
    all_of(at("pay", seq="3"), after("pay_out", "untrusted", ("untrusted", "3")))(world)


EXEMPTED: Final[tuple[tuple[str, str, str, Edit], ...]] = (
    (
        "approved-for-fewer-inputs",
        "A call was approved, and read something after that.",
        "ran_against_mark",
        _another_source,
    ),
    (
        "approved-for-no-inputs",
        "A call was approved by a ruling that names no inputs, and its task had read some.",
        "ran_against_mark",
        lambda w: (
            w.answered.record["approval"].update(
                token=w.task.ruling("pay", "120", id=w.ruled.ruling.id).token, sources=None
            )
            or w.answered.record["approval"].pop("sources")
        ),
    ),
    (
        "approval-names-fewer-inputs",
        "The ruling names the inputs of the call, and the record does not.",
        "ran_against_mark",
        lambda w: w.answered.record["approval"].pop("sources"),
    ),
)


def build() -> Cases:
    """Return the cases."""
    cases = Cases()
    one = cases.clean("marked", "A task reads something untrusted, and pays where its principal said.", marked())
    two = cases.clean("every-cause", "The mark of a task changes for every reason there is.", every_cause())
    three = cases.clean("exempted", "A person approves a payment for the inputs of the task.", exempted())
    for base, make, rows in ((one, marked, MARKED), (two, every_cause, CAUSES), (three, exempted, EXEMPTED)):
        for name, what, codes, edit in rows:
            cases.inside((base, make), name, what, codes, edit)
    ungated = all_of(ran(provenance=None))
    world = marked(flow=None)
    ungated(world)
    cases.clean("ran-under-another-policy", "The policy of the stream is not the flow policy.", world, base=one)
    world = marked()
    world.ledger.policy(world.stream)
    world.stream.move(world.stream[-1], before=world.stream[2])
    ungated(world)
    world.close.record["end"]["size"] = str(len(world.stream))
    cases.clean(
        "ran-under-two-policies", "Nobody can tell which of two policies judged.", world, "flow_not_checked", base=one
    )
    cases.clean("ran-under-no-policy", "The stream names no policy.", marked(policies=0), "flow_not_checked", base=one)
    cases.clean(
        "resumed-at-its-mark", "A call goes on at the mark at which it was suspended.", taken_up("untrusted"), base=one
    )
    cases.clean(
        "resumed-above-its-mark",
        "A call goes on above the mark at which it was suspended.",
        taken_up("unknown"),
        "mark_mismatch",
        base=one,
    )
    cases.clean(
        "marks-elsewhere", "The marks of a task go on in a forked child.", elsewhere(), "flow_not_checked", base=one
    )
    return cases
