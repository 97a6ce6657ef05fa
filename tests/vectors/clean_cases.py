"""Clean cases: what an honest process writes, one kind after the other."""

from types import SimpleNamespace

from case_form import Cases, World
from insider import (
    AUDITED,
    BLOCKED,
    CLERK,
    RULED,
    Ledger,
    digest,
)

from agent_identity import Agent, Service
from agent_identity.limits import Limit


def paying() -> World:
    """Return a task with calls that ran, one that failed and one that was refused."""
    ledger = Ledger()
    stream = ledger.stream(resource={"service": "billing", "frameworks": ["langchain"]})
    policy = ledger.policy(stream)
    task = ledger.task(stream, "read", "pay", "wipe", limits=(Limit.uses("pay", 2),))
    grant, start = task.grant(), task.start()
    start.record["task"]["purpose"] = "pay the invoices of Müller & Söhne"
    read = task.intent("read", args="INV-42", action={"names": ["invoice_id:string"], "labels": []})
    read_out = task.outcome(read, result=True)
    read_out.detailed({"findings": [{"category": "pii/iban", "inspector": "patterns", "severity": "low"}]})
    read_out.record["findings"] = ["pii/iban"]
    pay = task.intent("pay", args="120", clauses=["amount:range"])
    pay_out = task.outcome(pay, result=True)
    failed = task.intent("pay", args="broken")
    failed_out = task.outcome(failed, "error", error="LookupError")
    denied = task.denied("wipe")
    denied.detailed({"policy": "finance", "version": "3", "roles": ["finance"]})
    end = task.end()
    close = ledger.close(stream)
    return SimpleNamespace(**locals())


def small() -> World:
    """Return a task with one call."""
    ledger = Ledger()
    stream = ledger.stream()
    task = ledger.task(stream, "read")
    grant, start = task.grant(), task.start()
    read = task.intent("read", args="INV-42")
    out = task.outcome(read, result=True)
    end, close = task.end(), ledger.close(stream)
    return SimpleNamespace(**locals())


def delegating() -> World:
    """Return a task that hands a part to another agent, which hands on a part of it."""
    ledger = Ledger()
    stream = ledger.stream()
    task = ledger.task(stream, "read", "pay", limits=(Limit.uses("*", 3),))
    grant, start = task.grant(), task.start()
    first = task.call("pay")
    child = task.delegate("read")
    child_grant, child_start = child.grant(), child.start()
    read = child.intent("read")
    read_out = child.outcome(read)
    third = child.delegate("read", agent=Agent("reader", owner="ops@example.com"))
    third_grant, third_start = third.grant(), third.start()
    third_out = third.call("read")
    third_end, child_end, end = third.end(), child.end(), task.end()
    close = ledger.close(stream)
    return SimpleNamespace(**locals())


def approving() -> World:
    """Return a task with a call that a person approved, and one that the person rejected."""
    ledger = Ledger()
    stream = ledger.stream()
    policy = ledger.policy(stream)
    task = ledger.task(stream, "pay").open()
    ruled = task.ruling("pay", "1800")
    asked, answered = ruled.ask(channel="file"), ruled.answer(channel="file")
    pay = task.intent("pay", args="1800", decision=ruled.decision)
    pay_out = task.outcome(pay, result=True)
    no = task.ruling("pay", "6000", status="rejected", reason="ask the board")
    no_asked, no_answered = no.ask(), no.answer()
    decision = {
        **BLOCKED,
        "reason": "approval_rejected",
        "effect": "route",
        "enforced": "block",
        "approval": no.ruling.id,
    }
    refused = task.denied("pay", action={"args": digest("6000")}, decision=decision, error="approval_rejected")
    end, close = task.end(), ledger.close(stream)
    return SimpleNamespace(**locals())


def suspended() -> World:
    """Return a call that waited for a person, and goes on in the stream of a later process by the ruling."""
    ledger = Ledger()
    stream = ledger.stream()
    task = ledger.task(stream, "pay").open()
    ruled = task.ruling("pay", "1800")
    asked = ruled.ask()
    waits = {**RULED, "enforced": "block", "approval": ruled.ruling.id}
    paused = task.denied("pay", action={"args": digest("1800")}, decision=waits, outcome="suspended", error="interrupt")
    end, close = task.end(), ledger.close(stream)
    later = ledger.stream()
    again = ledger.task(later, "pay").open()
    second = SimpleNamespace(hop=again, ruled=type(ruled)(again, ruled.ruling, ruled.token))
    answered = second.ruled.answer(request=digest("request of the second task"))
    resumed = again.intent("pay", args="1800", decision=ruled.decision, resumes=paused.id)
    resumed_out = again.outcome(resumed, result=True)
    again_end, later_close = again.end(), ledger.close(later)
    return SimpleNamespace(**locals())


def killed() -> World:
    """Return the stream of a process that was killed inside the write of a line, and that of its successor."""
    ledger = Ledger()
    stream = ledger.stream()
    task = ledger.task(stream, "read").open()
    done = task.call("read")
    left = task.intent("read")
    stream.torn = b'{"mac":"AA'
    later = ledger.stream()
    state = {"stream": stream.id, "size": str(len(stream)), "sealed_before": "3", "torn_bytes": str(len(stream.torn))}
    recovered = ledger.add(
        later, "recovered", recovered={**state, "rejected_bytes": "0", "open_count": "1", "open": [left.id]}
    )
    close = ledger.close(later)
    stream.sealed = [3, len(stream)]
    return SimpleNamespace(**locals())


def monitoring() -> World:
    """Return calls in monitor mode: what the policy blocks runs, and so does what no intent could be written of."""
    ledger = Ledger()
    stream = ledger.stream()
    task = ledger.task(stream, "read").open()
    blocked = task.intent("wipe", decision=dict(AUDITED))
    blocked_out = task.outcome(blocked)
    task.call("read", decision={**AUDITED, "effect": "allow", "reason": "within_scope"})
    end = task.end()
    late = task.intent("read", decision=dict(AUDITED))
    late_out = task.outcome(late)
    action = {"tool": "count", "kind": "function"}
    alone = ledger.add(stream, "intent", attribution="none", action=action, decision=dict(AUDITED))
    time = {"start": alone.record["time"]["start"], "end": str(ledger.ns)}
    ended = {"action": action, "decision": dict(AUDITED), "intent": alone.id, "outcome": "success", "time": time}
    alone_out = ledger.add(stream, "outcome", attribution="none", **ended)
    close = ledger.close(stream)
    return SimpleNamespace(**locals())


def every_kind() -> World:
    """Return the records that belong to no task, and each way in which a call can end."""
    ledger = Ledger()
    stream = ledger.stream()
    key = ledger.signer.public_key.thumbprint
    trusted = ledger.add(stream, "trust", trust={"key": key, "purpose": "recorder", "status": "trusted"})
    policy = ledger.policy(stream)
    state = {"hash": digest("line"), "purpose": "invoices", "status": "registered"}
    agent = ledger.add(stream, "registration", agent=CLERK.to_claim(), registration=state)
    server = {"name": "bank", "transport": "http", "status": "pinned", "place": "https://bank.example/mcp"}
    tools = [{"name": "bank/transfer", "status": "changed", "pinned": digest("a"), "offered": digest("b")}]
    offered = ledger.add(stream, "registration", server=server, tools=tools)
    change = {"kind": "agent", "name": "intern", "status": "revoked", "version": "1", "reason": "left"}
    revoked = ledger.add(stream, "revocation", revocation=change)
    asked = ledger.add(
        stream, "examination", examination={"question": "data", "digest": digest("answer"), "size": "3", "by": "eve"}
    )
    decision = {**BLOCKED, "reason": "no_task"}
    said = {"attribution": "none", "decision": decision, "outcome": "denied", "error": "no_task"}
    alone = ledger.add(stream, "outcome", action={"tool": "read", "kind": "function"}, **said)
    task = ledger.task(stream, "read", "ask", "pay", principal=Service("nightly"))
    grant = task.grant(trace={"trace": "1" * 32, "span": "2" * 16})
    start = task.start(workflow="thread-7")
    resource = {"system": "postgres://db:5432", "name": "shop.invoices/{id}", "access": "read", "data": ["finance"]}
    read = task.intent("read", resources=[resource], workflow="thread-7", action={"call": "call_1"})
    task.outcome(read)
    warned = {**ALLOWED_WARN, "rule": "watched", "why": "vendor files may hold personal data", "warnings": ["watched"]}
    task.call("read", decision=warned)
    changed = task.intent("read")
    enforced = {**changed.record["decision"], "enforced": "modify", "reason": "policy_allows"}
    modified = task.outcome(changed, result=True, decision=enforced)
    step = {"name": "redaction", "version": "1", "original": digest("x"), "delivered": digest("y")}
    modified.detailed({"transforms": [step]})
    task.outcome(task.intent("read"), "cancelled")
    task.outcome(task.intent("read"), "suspended", error="GraphInterrupt")
    task.outcome(task.intent("read"), "denied", error="content_blocked")
    route = {**RULED, "enforced": "escalate"}
    handed = task.intent("pay", decision=dict(route), action={"route": "desk"})
    task.outcome(handed, "routed")
    task.denied("pay", decision={**route, "enforced": "block"}, error="routed", outcome="routed")
    model = {"name": "small-1", "provider": "example"}
    asking = task.intent("ask", action={"kind": "model", "stage": "completion", "model": model})
    task.outcome(asking)
    opening = {"tool": "invoke_agent", "stage": "delegate", "agent": {"id": "x", "owner": "y"}}
    task.denied("invoke_agent", action=opening, error="tool_not_attenuated")
    end = task.end(error="ValueError")
    erased = ledger.add(stream, "erasure", erasure={"key": task.chain.leaf.task_id, "by": "dpo", "reason": "asked"})
    gone = ledger.add(stream, "erasure", erasure={"principal": "carol@example.com", "keys": "2"})
    close = ledger.close(stream)
    return SimpleNamespace(**locals())


ALLOWED_WARN = {"effect": "warn", "enforced": "allow", "mode": "enforce", "reason": "policy_warns"}


def nested() -> World:
    """Return a task inside another one."""
    ledger = Ledger()
    stream = ledger.stream()
    outer = ledger.task(stream, "read").open()
    inner = ledger.task(stream, "read")
    inner.facts["task"]["outer"] = outer.chain.leaf.task_id
    inner_grant, inner_start = inner.grant(), inner.start()
    del inner.facts["task"]["outer"]
    inner.call("read")
    inner_end, end = inner.end(), outer.end()
    close = ledger.close(stream)
    return SimpleNamespace(**locals())


def forked() -> World:
    """Return a task that goes on in a forked child, whose outcome ends a call of the parent."""
    ledger = Ledger()
    stream = ledger.stream()
    task = ledger.task(stream, "read").open()
    begun = task.intent("read")
    later = ledger.stream()
    task.stream = later
    ended = task.outcome(begun)
    task.call("read")
    child_end, child_close = task.end(), ledger.close(later)
    task.stream = stream
    close = ledger.close(stream)
    return SimpleNamespace(**locals())


def build() -> Cases:
    """Return the clean cases."""
    cases = Cases()
    cases.clean("small", "One task with one call.", small())
    cases.clean("paying", "A task with calls that ran, one that failed and one that was refused.", paying())
    cases.clean("delegating", "A task hands a part to another agent, which hands on a part of it.", delegating())
    cases.clean("approving", "A person approves one call and rejects another.", approving())
    cases.clean("suspended", "A call waits for a person, and goes on in a later process by the ruling.", suspended())
    cases.clean(
        "killed",
        "A process was killed inside the write of a line; a later start sealed its stream.",
        killed(),
        "recovered",
        "unknown_outcome",
    )
    cases.clean("monitoring", "In monitor mode what the policy blocks runs, also outside a task.", monitoring())
    cases.clean(
        "every-kind", "Every kind of record, and every way in which a call ends.", every_kind(), "erased", "erased"
    )
    cases.clean("nested", "A task is opened inside another one.", nested())
    cases.clean("forked", "A call begins in one process and ends in a forked child.", forked())
    return cases
