"""Calls, tasks and grants that contradict each other, sealed by an insider with all keys."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Final

import clean_cases
from case_form import Case, Cases, World
from insider import (
    ALLOWED,
    AUDITED,
    BEGIN,
    BLOCKED,
    BOB,
    HOLDERS,
    ISSUER,
    RULED,
    STRANGER,
    Hop,
    Ledger,
    Line,
    digest,
)

from agent_identity import Scope
from agent_identity._identity.keys.jws import parse_compact, sign_compact, token_hash
from agent_identity.canonical import decode
from agent_identity.limits import Limit

EXPIRES: Final = (BEGIN + 3600) * 10**9
"""The end of the grants of tasks."""

Base = tuple[Case, Callable[[], World]]
Edit = Callable[[World], object]


def copied(line: Line, name: str, **changes: Any) -> Line:
    """Return a line with another id."""
    return Line({**line.record, "id": name, **changes}, line.detail)


def drop(world: World, *lines: Line) -> None:
    """Take lines out of the first stream, and count its lines anew."""
    for line in lines:
        world.stream.remove(line)
    if world.close in world.stream:
        world.close.record["end"]["size"] = str(len(world.stream))


def put(world: World, line: Line, before: Line) -> None:
    """Put a line before another one of the first stream, and count its lines anew."""
    world.stream.insert(world.stream.index(before), line)
    world.close.record["end"]["size"] = str(len(world.stream))


def _beside(world: World, *lines: Line) -> None:
    """Have a second stream open the task as well."""
    stream = world.ledger.stream()
    stream += [copied(line, world.ledger.id()) for line in lines]
    world.ledger.close(stream)


def more(world: World, act: Callable[[Hop], object]) -> None:
    """Let more happen before the end of the task."""
    drop(world, world.end, world.close)
    act(world.task)
    world.end = world.task.end()
    world.close = world.ledger.close(world.stream)


def each(world: World, change: Callable[[dict[str, Any]], object]) -> None:
    """Change all records of the task."""
    for line in world.stream:
        if "chain" in line.record:
            change(line.record)


def both(world: World, change: Callable[[dict[str, Any]], object]) -> None:
    """Change intent and outcome of the one call."""
    change(world.read.record)
    change(world.out.record)


ORDER: Final[tuple[tuple[str, str, str, Edit], ...]] = (
    (
        "call-after-task-end",
        "A call begins after the end of its task.",
        "call_after_task_end",
        lambda w: (w.stream.move(w.read), w.stream.move(w.out)),
    ),
    (
        "call-after-task-end-granted-twice",
        "A call begins after the end of its task, whose grant stands in a second stream as well.",
        "call_after_task_end",
        lambda w: (w.stream.move(w.read), w.stream.move(w.out), _beside(w, w.grant)),
    ),
    (
        "start-after-call-granted-twice",
        "A task starts after its first call, and its grant stands in a second stream as well.",
        "opening_after_call",
        lambda w: (w.stream.move(w.start, before=w.end), _beside(w, w.grant)),
    ),
    (
        "call-after-task-end-taken-up-twice",
        "A call begins after an end of its task, which another process took up as well: the end may be of that.",
        "",
        lambda w: (w.stream.move(w.read), w.stream.move(w.out), _beside(w, w.grant, w.start)),
    ),
    (
        "outcome-after-task-end",
        "A call that began before the end of its task ends after it, which may happen.",
        "",
        lambda w: w.stream.move(w.out),
    ),
    (
        "outcome-before-intent",
        "An outcome stands before its intent.",
        "outcome_before_intent",
        lambda w: w.stream.move(w.out, before=w.read),
    ),
    (
        "grant-after-start",
        "The only grant of a task stands after its start.",
        "opening_after_call",
        lambda w: w.stream.move(w.grant),
    ),
    (
        "start-after-call",
        "A task starts after its first call.",
        "opening_after_call",
        lambda w: w.stream.move(w.start, before=w.end),
    ),
    (
        "start-after-end",
        "A task starts after its call and after its end.",
        "opening_after_call",
        lambda w: w.stream.move(w.start),
    ),
    (
        "blocked-but-ran",
        "A call that was blocked has an intent and ran.",
        "blocked_but_ran blocked_but_ran",
        lambda w: both(w, lambda r: r.update(decision=dict(BLOCKED))),
    ),
    (
        "blocked-outcome-ran",
        "The outcome of a call that was allowed says that it was blocked, and that it succeeded.",
        "blocked_but_ran",
        lambda w: w.out.record.update(decision=dict(BLOCKED)),
    ),
    (
        "blocked-outcome-routed",
        "The outcome of a call that was allowed says that it was blocked, and that a route took it over.",
        "blocked_but_ran",
        lambda w: w.out.record.update(decision=dict(BLOCKED), outcome="routed"),
    ),
    (
        "route-ran",
        "A call that was handed to a route has a body that returned.",
        "blocked_but_ran",
        lambda w: both(w, lambda r: r.update(decision={**RULED, "enforced": "escalate"})),
    ),
    (
        "route-failed",
        "The handler of a route raised.",
        "",
        lambda w: (
            both(w, lambda r: r.update(decision={**RULED, "enforced": "escalate"})),
            w.out.record.update(outcome="error", error="LookupError"),
        ),
    ),
    (
        "route-changed-ran",
        "A call that was handed to a route has a body that returned, and a changed result.",
        "intent_mismatch",
        lambda w: (
            w.read.record.update(decision={**RULED, "enforced": "escalate"}),
            w.out.record["decision"].update(enforced="modify"),
        ),
    ),
    (
        "route-changed-and-routed",
        "The result of a route was changed.",
        "",
        lambda w: (
            w.read.record.update(decision={**RULED, "enforced": "escalate"}),
            w.out.record["decision"].update(enforced="modify"),
            w.out.record.update(outcome="routed"),
        ),
    ),
    (
        "route-modified-ran",
        "A call that a policy hands to a route ran with changed arguments, and names no approval.",
        "blocked_but_ran",
        lambda w: both(w, lambda r: r.update(decision={**RULED, "enforced": "modify"})),
    ),
    (
        "outcome-of-another-mode",
        "A call that monitor mode would have blocked has the outcome of a call that was allowed.",
        "intent_mismatch",
        lambda w: w.read.record.update(decision=dict(AUDITED)),
    ),
    (
        "allowed-and-blocked",
        "A call that was allowed and blocked at once ran.",
        "blocked_but_ran blocked_but_ran",
        lambda w: both(w, lambda r: r["decision"].update(enforced="block")),
    ),
    (
        "allowed-and-audited",
        "A call ran in enforce mode that was only recorded.",
        "blocked_but_ran blocked_but_ran",
        lambda w: both(w, lambda r: r["decision"].update(enforced="audit")),
    ),
    (
        "monitored-and-blocked",
        "A call ran in monitor mode that was blocked.",
        "blocked_but_ran blocked_but_ran",
        lambda w: both(w, lambda r: r.update(decision={**AUDITED, "enforced": "block"})),
    ),
    (
        "monitored-and-allowed",
        "A call that a policy blocks is recorded in monitor mode as let through.",
        "blocked_but_ran blocked_but_ran",
        lambda w: both(w, lambda r: r.update(decision={**AUDITED, "enforced": "allow"})),
    ),
    (
        "withheld",
        "A call that was allowed ran, and its result was withheld by a block.",
        "",
        lambda w: w.out.record.update(decision=dict(BLOCKED), outcome="denied", error="content_blocked"),
    ),
    (
        "outcome-unknown",
        "An outcome says unknown, which nobody writes.",
        "malformed_record unknown_outcome counts_disagree",
        lambda w: w.out.record.update(outcome="unknown"),
    ),
    (
        "two-outcomes",
        "A second outcome names an intent that has one.",
        "intent_missing",
        lambda w: put(w, copied(w.out, w.ledger.id()), w.end),
    ),
    (
        "outcome-without-intent",
        "The outcome of a call that ran names no intent.",
        "outcome_without_intent unknown_outcome",
        lambda w: w.out.record.pop("intent"),
    ),
    (
        "suspended-without-intent",
        "A call was suspended without an intent and without waiting for a person.",
        "outcome_without_intent unknown_outcome",
        lambda w: (w.out.record.pop("intent"), w.out.record.update(outcome="suspended")),
    ),
    (
        "intent-dropped",
        "An intent was left out, and everything numbered anew.",
        "intent_missing counts_disagree",
        lambda w: drop(w, w.read),
    ),
    (
        "outcome-dropped",
        "An outcome was left out, and everything numbered anew.",
        "unknown_outcome counts_disagree",
        lambda w: drop(w, w.out),
    ),
    (
        "call-dropped",
        "A call was left out, and everything numbered anew.",
        "counts_disagree",
        lambda w: drop(w, w.read, w.out),
    ),
    (
        "call-open",
        "A call has no outcome, and the end of its task says so.",
        "unknown_outcome",
        lambda w: (drop(w, w.out), w.end.record.update(counts={"intents": "1", "outcomes": "0", "open": "1"})),
    ),
    (
        "counts-too-high",
        "The end of a task states more calls than are there.",
        "counts_disagree",
        lambda w: w.end.record["counts"].update(intents="9"),
    ),
    (
        "counts-too-low",
        "The end of a task states fewer calls than are there, as when another thread goes on.",
        "",
        lambda w: w.end.record["counts"].update(intents="0", outcomes="0"),
    ),
    ("end-dropped", "A task has no end, as when its process was killed.", "", lambda w: drop(w, w.end)),
    (
        "arguments-differ",
        "An outcome has the digest of other arguments than its intent.",
        "intent_mismatch",
        lambda w: w.out.record["action"].update(args=digest("INV-43")),
    ),
    (
        "arguments-gone",
        "An outcome has no digest of arguments, and its intent has one.",
        "intent_mismatch",
        lambda w: w.out.record["action"].pop("args"),
    ),
    (
        "tool-outside-grant",
        "A tool was allowed that the grant does not name.",
        "tool_outside_grant",
        lambda w: both(w, lambda r: r["action"].update(tool="pay")),
    ),
    (
        "tool-outside-grant-refused",
        "A tool that the grant does not name was refused.",
        "",
        lambda w: more(w, lambda t: t.denied("pay")),
    ),
    (
        "intent-id-twice",
        "An intent has the id of one that has no outcome yet.",
        "two_versions",
        lambda w: more(w, lambda t: t.call("read", id=t.intent("read").id)),
    ),
    (
        "intent-id-again",
        "An intent has the id of one whose call has ended.",
        "",
        lambda w: more(w, lambda t: t.call("read", id=t.call("read").record["intent"])),
    ),
    (
        "outcome-tool-differs",
        "An outcome names another tool than its intent, one that the grant does not name.",
        "intent_mismatch tool_outside_grant",
        lambda w: w.out.record["action"].update(tool="pay"),
    ),
    (
        "after-expiry",
        "A call was allowed in the second in which its grant had ended.",
        "outside_grant_time",
        lambda w: w.read.record.update(time={"start": str(EXPIRES)}),
    ),
    (
        "before-expiry",
        "A call was allowed in the last nanosecond of its grant.",
        "",
        lambda w: w.read.record.update(time={"start": str(EXPIRES - 1)}),
    ),
    (
        "before-grant",
        "A call is dated 31 seconds before its grant: the clock went back.",
        "dated_before_grant",
        lambda w: w.read.record.update(time={"start": str((BEGIN - 31) * 10**9)}),
    ),
    (
        "before-grant-little",
        "A call is dated 30 seconds before its grant, which clocks may be apart.",
        "",
        lambda w: w.read.record.update(time={"start": str((BEGIN - 30) * 10**9)}),
    ),
    (
        "allowed-without-task",
        "A call outside any task was allowed.",
        "allowed_without_task allowed_without_task counts_disagree",
        lambda w: both(
            w,
            lambda r: (
                [r.pop(name) for name in ("task", "principal", "agent", "chain")],
                r.update(attribution="none"),
            ),
        ),
    ),
)
"""On a task with one call: name, sentence, codes and what is done."""

CLAIMS: Final[tuple[tuple[str, str, str, Edit], ...]] = (
    (
        "intent-principal",
        "An intent names another principal than the other records of its task.",
        "claims_differ",
        lambda w: w.read.record["principal"].update(id="mallory@example.com"),
    ),
    (
        "outcome-principal",
        "An outcome names another principal than the other records of its task.",
        "claims_differ",
        lambda w: w.out.record["principal"].update(id="mallory@example.com"),
    ),
    (
        "principal-kind",
        "The end of a task says that its principal is a service.",
        "claims_differ",
        lambda w: w.end.record["principal"].update(kind="service"),
    ),
    (
        "intent-roles",
        "An intent names other roles of the principal.",
        "claims_differ",
        lambda w: w.read.record["principal"].update(roles=["admin"]),
    ),
    (
        "intent-owner",
        "An intent names another owner of the agent.",
        "claims_differ",
        lambda w: w.read.record["agent"].update(owner="mallory@example.com"),
    ),
    (
        "intent-task",
        "An intent names another task under the same grant.",
        "claims_differ",
        lambda w: w.read.record["task"].update(id="another"),
    ),
    (
        "intent-expires",
        "An intent names a later end of the task.",
        "claims_differ",
        lambda w: w.read.record["task"].update(expires=str(EXPIRES + 1)),
    ),
    (
        "intent-chain",
        "An intent gives the agent of its grant another name in the chain.",
        "claims_differ",
        lambda w: w.read.record["chain"][0].update(id="other"),
    ),
    (
        "all-principal",
        "All records of a task name another principal than its grant.",
        "claims_differ",
        lambda w: each(w, lambda r: r["principal"].update(id="mallory@example.com")),
    ),
    (
        "all-verified",
        "All records of a task say that the principal was verified, and the grant does not.",
        "claims_differ",
        lambda w: each(w, lambda r: r["principal"].update(provenance="verified")),
    ),
    (
        "all-issuer",
        "All records of a task name an issuer of the principal, and the grant names none.",
        "claims_differ",
        lambda w: each(w, lambda r: r["principal"].update(issuer="https://login.example")),
    ),
    (
        "all-version",
        "All records of a task name another version of the agent than its grant.",
        "claims_differ",
        lambda w: each(w, lambda r: r["agent"].update(version="8")),
    ),
    (
        "all-task",
        "All records of a task name another task than its grant.",
        "claims_differ",
        lambda w: each(w, lambda r: r["task"].update(id="another")),
    ),
    (
        "all-chain",
        "All records of a task give the agent another name in the chain than the grant.",
        "claims_differ",
        lambda w: each(w, lambda r: r["chain"][0].update(id="other")),
    ),
    (
        "all-later",
        "All records of a task name a later end than its grant.",
        "claims_differ",
        lambda w: each(w, lambda r: r["task"].update(expires=str(EXPIRES + 1)) if r["kind"] != "outcome" else None),
    ),
    (
        "all-earlier",
        "All records of a task name an earlier end than its grant, which they may.",
        "",
        lambda w: each(w, lambda r: r["task"].update(expires=str(EXPIRES - 1)) if r["kind"] != "outcome" else None),
    ),
    ("grant-dropped", "The record of the grant was left out.", "unknown_grant", lambda w: drop(w, w.grant)),
    (
        "grant-of-another",
        "The record of a grant has the token of another grant.",
        "bad_grant unknown_grant",
        lambda w: w.grant.record["grant"].update(token=w.ledger.task(w.stream, "read").chain.leaf.token),
    ),
    (
        "grant-signature",
        "The token of a grant has the signature of another token.",
        "bad_grant",
        lambda w: w.grant.record["grant"].update(token=_other_signature(w)),
    ),
    (
        "grant-cut",
        "The token of a grant has no signature.",
        "malformed_record unknown_grant",
        lambda w: w.grant.record["grant"].update(token=w.task.chain.leaf.token.rpartition(".")[0] + "."),
    ),
)


def _other_signature(world: World) -> str:
    other = world.ledger.task(world.stream, "read").chain.leaf.token
    return world.task.chain.leaf.token.rpartition(".")[0] + "." + other.rpartition(".")[2]


def _issued(**options: Any) -> World:
    """Return a task with one call under a grant that was issued otherwise."""
    ledger = Ledger()
    stream = ledger.stream()
    task = ledger.task(stream, "read", **options).open()
    task.call("read")
    end, close = task.end(), ledger.close(stream)
    return SimpleNamespace(**locals())


def _rooted(change: dict[str, Any]) -> World:
    """Return a task with one call under a root grant with other claims than the library makes."""
    ledger = Ledger()
    stream = ledger.stream()
    task = ledger.task(stream, "read")
    claims = {**decode(parse_compact(task.token).payload), **change}
    kid = ISSUER.public_key.thumbprint
    task.token = sign_compact({"kid": kid, "typ": "aat+jwt"}, claims, ISSUER)
    task.facts["chain"][-1]["grant"] = token_hash(task.token)
    task.open().call("read")
    end, close = task.end(), ledger.close(stream)
    return SimpleNamespace(**locals())


def _delegated(change: dict[str, Any], signer: Any = HOLDERS[0], scope: Scope | None = None) -> World:
    """Return a task whose part has a grant with other claims than the library makes."""
    ledger = Ledger()
    stream = ledger.stream()
    task = ledger.task(stream, "read", scope=Scope("pay"), limits=(Limit.uses("*", 3),), ttl=600).open()
    child = task.delegate("read", ttl=500)
    claims = {**decode(parse_compact(child.chain.leaf.token).payload), **change}
    if scope is not None:
        claims["authorization_details"] = [{"tools": scope.to_claim(), "type": "attenuating_agent_token"}]
    token = sign_compact({"typ": "aat+jwt"}, claims, signer)
    child.token = token
    child.facts["chain"][-1]["grant"] = token_hash(token)
    child.open().call("read")
    child.end()
    task.end()
    close = ledger.close(stream)
    return SimpleNamespace(**locals())


GRANTED: Final[tuple[tuple[str, str, str, Callable[[], World]], ...]] = (
    ("grant-of-stranger", "A stranger issued the grant.", "unknown_issuer", lambda: _issued(signer=STRANGER)),
    (
        "grant-of-other-issuer",
        "The grant names another issuer than the trust file.",
        "bad_grant",
        lambda: _issued(issuer="https://other.example"),
    ),
    (
        "grant-too-long",
        "The grant lives longer than any grant may.",
        "bad_grant",
        lambda: _rooted({"exp": BEGIN + 90 * 86_400 + 1}),
    ),
    ("child-by-stranger", "A stranger signed the grant of a part.", "bad_grant", lambda: _delegated({}, STRANGER)),
    (
        "child-by-issuer",
        "The issuer signed the grant of a part, and not the holder above.",
        "bad_grant",
        lambda: _delegated({}, ISSUER),
    ),
    (
        "child-wider",
        "The grant of a part names a tool that its parent does not have.",
        "bad_grant",
        lambda: _delegated({}, scope=Scope("read") | Scope("wipe")),
    ),
    (
        "child-outlives",
        "The grant of a part ends after its parent.",
        "bad_grant",
        lambda: _delegated({"exp": BEGIN + 700}),
    ),
    (
        "child-principal",
        "The grant of a part names another principal.",
        "bad_grant",
        lambda: _delegated({"sub": "mallory@example.com"}),
    ),
    ("child-task", "The grant of a part names another task.", "bad_grant", lambda: _delegated({"txn": "another"})),
    ("child-depth", "The grant of a part skips a depth.", "bad_grant", lambda: _delegated({"del_depth": 2})),
    (
        "child-parent",
        "The grant of a part names another parent.",
        "bad_grant",
        lambda: _delegated({"par_hash": digest("parent")}),
    ),
    (
        "child-limits",
        "The grant of a part has a higher limit than its parent.",
        "bad_grant",
        lambda: _delegated({"limits": [{"kind": "uses", "max": 9, "tool": "*"}]}),
    ),
)


def _at_end(world: World, hop: Hop, tool: str) -> None:
    """Let one more call run under a hop before the last part ends."""
    call = hop.intent(tool)
    for line in (call, hop.outcome(call)):
        world.stream.move(line, before=world.third_end)
    world.close.record["end"]["size"] = str(len(world.stream))


PAYING: Final[tuple[tuple[str, str, str, Edit], ...]] = (
    (
        "outcome-tool-of-grant",
        "An outcome names another tool of the grant than its intent.",
        "intent_mismatch",
        lambda w: w.pay_out.record["action"].update(tool="read"),
    ),
    (
        "limit-exceeded",
        "A tool ran three times in a task whose limit is two.",
        "limit_exceeded",
        lambda w: more(w, lambda t: t.call("pay")),
    ),
    (
        "limit-exceeded-cancelled",
        "A cancelled call counts against the limit.",
        "limit_exceeded",
        lambda w: more(w, lambda t: t.outcome(t.intent("pay"), "cancelled")),
    ),
    (
        "limit-suspended",
        "A suspended call does not count against the limit.",
        "",
        lambda w: more(w, lambda t: t.outcome(t.intent("pay"), "suspended", error="GraphInterrupt")),
    ),
    (
        "limit-withheld",
        "A call whose result was withheld does not count against the limit.",
        "",
        lambda w: more(w, lambda t: t.outcome(t.intent("pay"), "denied", error="content_blocked")),
    ),
    (
        "detail-gone",
        "The detail of an outcome was taken out.",
        "detail_missing",
        lambda w: setattr(w.denied, "detail", None),
    ),
    (
        "detail-added",
        "A line has a detail to which its outcome does not commit.",
        "detail_uncommitted",
        lambda w: setattr(w.pay_out, "detail", w.denied.detail),
    ),
    (
        "detail-of-an-intent",
        "The line of an intent has a detail.",
        "detail_uncommitted",
        lambda w: setattr(w.pay, "detail", w.denied.detail),
    ),
    (
        "detail-changed",
        "The detail of a line has another hash than its outcome commits to.",
        "detail_mismatch",
        lambda w: setattr(w.denied, "detail", w.denied.detail.replace(b"finance", b"finanza")),
    ),
    (
        "detail-salt",
        "The detail of a line has another salt.",
        "detail_mismatch",
        lambda w: setattr(w.denied, "detail", w.denied.detail.replace(b"AA", b"AB", 1)),
    ),
    (
        "detail-exchanged",
        "Two lines have each other's details.",
        "detail_mismatch detail_mismatch",
        lambda w: _exchange(w.denied, w.read_out),
    ),
    (
        "detail-unknown-member",
        "An outcome commits to a detail with a member that details do not have.",
        "detail_malformed",
        lambda w: w.denied.detailed({"note": "x"}),
    ),
    (
        "detail-without-salt",
        "An outcome commits to a detail without a salt.",
        "detail_malformed",
        lambda w: _commit(w.denied, b'{"policy":"finance"}'),
    ),
    (
        "detail-with-spaces",
        "An outcome commits to a detail that is not canonical.",
        "detail_malformed",
        lambda w: _commit(w.denied, b'{"_salt": "AAAAAAAAAAAAAAAAAAAAAA","policy":"finance"}'),
    ),
)


def _exchange(one: Line, other: Line) -> None:
    one.detail, other.detail = other.detail, one.detail


def _commit(line: Line, detail: bytes) -> None:
    line.detailed({})
    line.detail = detail
    line.record["detail"] = digest(detail.decode())


NESTED: Final[tuple[tuple[str, str, str, Edit], ...]] = (
    (
        "outer-differs",
        "Grant and start of a task name different outer tasks.",
        "outer_task_differs",
        lambda w: w.inner_start.record["task"].update(outer="another"),
    ),
    (
        "outer-missing",
        "The outer task of a task is not in the ledger.",
        "outer_task_missing",
        lambda w: [line.record["task"].update(outer="another") for line in (w.inner_grant, w.inner_start)],
    ),
    (
        "outer-itself",
        "A task is its own outer task.",
        "outer_task_cycle",
        lambda w: [
            line.record["task"].update(outer=line.record["task"]["id"]) for line in (w.inner_grant, w.inner_start)
        ],
    ),
    (
        "outer-cycle",
        "Two tasks are each other's outer task.",
        "outer_task_cycle",
        lambda w: [line.record["task"].update(outer=w.inner.chain.leaf.task_id) for line in w.stream[1:3]],
    ),
)


def _nested_of_another() -> World:
    ledger = Ledger()
    stream = ledger.stream()
    outer = ledger.task(stream, "read").open()
    inner = ledger.task(stream, "read", principal=BOB)
    inner.facts["task"]["outer"] = outer.chain.leaf.task_id
    inner.open()
    del inner.facts["task"]["outer"]
    inner.end()
    outer.end()
    close = ledger.close(stream)
    return SimpleNamespace(**locals())


def build(bases: dict[str, Case]) -> Cases:
    """Return the cases."""
    cases = Cases()
    for base, rows in (("small", ORDER), ("small", CLAIMS), ("paying", PAYING), ("nested", NESTED)):
        make = getattr(clean_cases, base)
        for name, what, codes, edit in rows:
            cases.inside((bases[base], make), name, what, codes, edit)
    for name, what, codes, make in GRANTED:
        cases.clean(name, what, make(), *codes.split(), base=bases["small"])
    cases.clean(
        "outer-of-another",
        "A task is opened inside one of another principal.",
        _nested_of_another(),
        "outer_principal_differs",
        base=bases["nested"],
    )
    delegating = (bases["delegating"], clean_cases.delegating)
    cases.inside(
        delegating,
        "outcome-of-another-hop",
        "The outcome of a call of the part names the grant of the whole.",
        "intent_mismatch counts_disagree",
        lambda w: w.read_out.record.update(w.task.said(short=True)),
    )
    cases.inside(
        delegating,
        "limit-over-all-parts",
        "The calls of a task and its parts together exceed the limit of the task.",
        "limit_exceeded",
        lambda w: _at_end(w, w.third, "read"),
    )
    cases.inside(
        delegating,
        "child-tool-of-parent",
        "A part calls a tool that only the whole may call.",
        "tool_outside_grant",
        lambda w: [line.record["action"].update(tool="pay") for line in (w.read, w.read_out)],
    )
    cases.inside(
        delegating,
        "grant-above-dropped",
        "The record of the grant between root and leaf was left out.",
        "unknown_grant unknown_grant",
        lambda w: drop(w, w.child_grant),
    )
    monitoring = (bases["monitoring"], clean_cases.monitoring)
    cases.inside(
        monitoring,
        "monitor-without-intent",
        "In monitor mode, an outcome names no intent, since none could be written.",
        "unrecorded_intent",
        lambda w: (
            drop(w, w.blocked) or (w.blocked_out.record.pop("intent") and w.end.record["counts"].update(intents="1"))
        ),
    )
    cases.inside(
        monitoring,
        "monitor-outside-task-allowed",
        "In monitor mode, a call outside any task was allowed and not only recorded.",
        "allowed_without_task allowed_without_task",
        lambda w: [line.record.update(decision={**ALLOWED, "mode": "monitor"}) for line in (w.alone, w.alone_out)],
    )
    return cases
