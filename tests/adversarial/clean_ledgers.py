"""Small ledgers that differ in everything a ledger may differ in, and are all as the library writes them.

What a seed makes, it makes again. ``python tests/adversarial/clean_ledgers.py --count 100000`` verifies as many of
them and prints every false alarm.
"""

# ruff: noqa: T201  It is a program as well.

import argparse
import concurrent.futures
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Final

from record_writing import append_record

from agent_identity import Agent, Human, Scope, Service, Verifier
from agent_identity._authority.grants.grants import Chain, derive, issue
from agent_identity._authority.registries.rulings import Ruling
from agent_identity._identity.common.encoding import digest_of
from agent_identity._identity.common.ids import uuid_of
from agent_identity._ledger.sealer import Sealing
from agent_identity._storage.os_files import Files
from agent_identity.identity import Principal, SigningKey, TrustedKey, TrustStore
from agent_identity.options import Ledger
from agent_identity.testing import FixedClock, SequentialIds

ISSUER: Final = SigningKey.from_seed(b"i" * 32)
RECORDER: Final = SigningKey.from_seed(b"r" * 32)
HOLDERS: Final = [SigningKey.from_seed(bytes([n]) * 32) for n in range(4)]
ORIGIN: Final = "ledger.example/clean"
TRUST: Final = TrustStore(
    (TrustedKey(ISSUER.public_key, "issuer"), TrustedKey(RECORDER.public_key, "recorder")), origin=ORIGIN
)
TOOLS: Final = ("read_invoice", "pay", "mcp.bank/transfer", "x" * 128)
APPROVER: Final = Human("boss@example.com")
WHO: Final[tuple[Principal, ...]] = (Human("alice@example.com"), Human("日本@example.com"), Service("nightly"))
DECIDED: Final = {
    "allow": ("allow", "within_scope"),
    "warn": ("allow", "policy_warns"),
    "block": ("block", "policy_blocks"),
    "route": ("escalate", "policy_routes"),
}


class Quick(Files):
    """A disk that need not be waited for."""

    __slots__ = ("_drawn",)

    def __init__(self) -> None:
        self._drawn = 0

    def fsync(self, fd: int) -> None:
        """Do nothing."""

    def fdatasync(self, fd: int) -> None:
        """Do nothing."""

    def random(self, size: int) -> bytes:
        """Return bytes that say how many were drawn before, so that a seed makes the same ledger each time."""
        self._drawn += 1
        return self._drawn.to_bytes(2, "big") * (size // 2)


class Writer:
    """Writes records into one directory, process after process, in one thread.

    Args:
        directory: The evidence directory.
        rng: Decides about everything.
        signer: The recorder key.
        origin: The name of the log.
    """

    def __init__(
        self,
        directory: Path,
        rng: random.Random,
        *,
        signer: SigningKey = RECORDER,
        origin: str = ORIGIN,
    ) -> None:
        self.directory = directory
        self.rng = rng
        self.clock = FixedClock(1_764_000_000_000_000_000 + rng.randrange(10**15))
        self.ids = SequentialIds()
        self._signer = signer
        self._origin = origin
        self._files = Quick()
        self._ledgers: list[Ledger] = []
        self.ledger = self.start()

    def start(self) -> Ledger:
        """Begin a process, which is the one that writes from now on."""
        ledger = Ledger.open(
            self.directory,
            signer=self._signer,
            origin=self._origin,
            clock=self.clock,
            ids=self.ids,
            files=self._files,
            seal_interval=3600.0,
        )
        self._ledgers.append(ledger)
        self.ledger = ledger
        return ledger

    def kill(self, torn: bytes = b"") -> None:
        """End the process as SIGKILL does, perhaps inside the write of a line."""
        stream = self.ledger.stream
        self.ledger.sealing.abandon()
        self.ledger._closed = True
        self._ledgers.remove(self.ledger)
        with (self.directory / "ledger" / stream / "entries.jsonl").open("ab") as file:
            file.write(torn)

    def close(self) -> None:
        """End all processes as they should."""
        for ledger in self._ledgers:
            ledger.close()
        self._ledgers.clear()

    def add(self, kind: str, body: dict) -> str:
        """Write a record a moment later; return its id."""
        self.clock.advance(self.rng.choice((0, 0.001, 0.25, 3)))
        return append_record(self.ledger, kind, body, self._detail(kind, body)).id

    def _detail(self, kind: str, body: dict) -> dict | None:
        """Return what the detail of an outcome says, where it has one: each refused call, and some others."""
        if kind != "outcome" or ("intent" in body and self.rng.random() < 0.5):
            return None
        return {"policy": "invoices"}

    def id(self) -> str:
        """Return a new id."""
        return self.ids.new(self.clock.wall_ns())

    def digest(self) -> str:
        """Return a digest by chance."""
        return digest_of(self.rng.randbytes(9))

    def hex(self, digits: int) -> str:
        """Return hex digits that are not all zero."""
        return f"{self.rng.randrange(1, 16**digits):0{digits}x}"

    def mark(self, facts: dict) -> None:
        """Write two marks of a task: with the first it starts, and with the other it has read something."""
        mark = {
            "hop": facts["chain"][-1]["grant"],
            "seq": "1",
            "label": "unknown",
            "cause": "start",
            "joined": "unknown",
        }
        first = self.add("mark", {**facts, "mark": mark})
        self.add("mark", {**facts, "mark": {**mark, "seq": "2", "cause": "received", "prev": first}})

    def task(self, calls: int, *, marked: bool = False) -> None:
        """Write a task with its grant, its calls, and perhaps a delegation, an approval and its end."""
        rng, now = self.rng, self.clock.wall_ns() // 10**9
        agent = Agent(f"agent-{rng.randrange(9)}", owner="team@example.com", version=rng.choice((None, "2")))
        task = {"id": self.id(), "expires": str((now + 90_000) * 10**9)}
        who = rng.choice(WHO)
        grant = issue(
            ISSUER,
            issuer="urn:example:issuer",
            task_id=task["id"],
            principal=who,
            agent=agent,
            holder=HOLDERS[0].public_key,
            scope=Scope(TOOLS[0]) | Scope(TOOLS[1]) | Scope(TOOLS[2]) | Scope(TOOLS[3]),
            now=now,
            ttl=90_000,
            id=uuid_of(self.id()),
        )
        chain = Chain((grant,))
        facts = self.facts(chain, task)
        self.add("grant", {**facts, "grant": {"token": grant.token}, **self.trace()})
        self.add("task_start", {**facts, "task": {**task, "purpose": "pay\n„INV-42“ \u2028\x7f"}})
        if marked:
            self.mark(facts)
        counts = [0, 0]
        for _ in range(calls):
            self.call(facts, counts)
        if rng.random() < 0.3:
            part = derive(
                chain,
                HOLDERS[0],
                agent=Agent("reader", owner="team@example.com"),
                holder=HOLDERS[1].public_key,
                scope=Scope(TOOLS[0]),
                now=now,
                ttl=60_000,
                id=uuid_of(self.id()),
            )
            less = self.facts(Chain((grant, part)), {**task, "expires": str((now + 60_000) * 10**9)})
            self.add("grant", {**less, "grant": {"token": part.token}})
            inner = [0, 0]
            self.add("task_start", less)
            self.call(less, inner, TOOLS[0])
            self.end(less, inner)
        if rng.random() < 0.9:
            self.end(facts, counts)

    def end(self, facts: dict, counts: list[int]) -> None:
        """Write the end of a task."""
        intents, outcomes = counts
        stated = {"intents": str(intents), "outcomes": str(outcomes), "open": str(max(0, intents - outcomes))}
        self.add("task_end", {**facts, "counts": stated, "outcome": self.rng.choice(("success", "error", "cancelled"))})

    def facts(self, chain: Chain, task: dict) -> dict:
        """Return what each record of a task says about it."""
        leaf = chain.leaf
        return {
            "task": task,
            "principal": leaf.principal.to_claim(),
            "agent": leaf.agent.to_claim(),
            "chain": [{"id": grant.agent.id, "grant": grant.hash} for grant in chain.grants],
        }

    def trace(self) -> dict:
        """Return the trace of a record, perhaps."""
        return {"trace": {"trace": self.hex(32), "span": self.hex(16)}} if self.rng.random() < 0.5 else {}

    def call(self, facts: dict, counts: list[int], tool: str | None = None) -> None:
        """Write a call that ran, or one that was refused."""
        rng = self.rng
        effect = rng.choice(tuple(DECIDED)) if facts.get("task") else "block"
        enforced, reason = DECIDED[effect]
        action = {"tool": tool or rng.choice(TOOLS), "args": self.digest()}
        decision = {"effect": effect, "enforced": enforced, "mode": "enforce", "reason": reason}
        body = {**facts, "action": action, "decision": decision, **self.trace()}
        start = self.clock.wall_ns()
        if effect in ("block", "route"):
            how = "denied" if effect == "block" else "routed"
            self.add("outcome", {**body, "outcome": how, "error": reason})
            counts[1] += 1
            return
        intent = self.add("intent", {**body, "time": {"start": str(start)}})
        counts[0] += 1
        if rng.random() < 0.05:
            return  # How it ended is never known.
        ended = {"time": {"start": str(start), "end": str(self.clock.wall_ns() + 5)}, "intent": intent}
        self.add("outcome", {**body, **ended, "outcome": rng.choice(("success", "error"))})
        counts[1] += 1

    def other(self, kind: str) -> None:
        """Write a record that belongs to no task."""
        number = str(self.rng.randrange(1, 999))
        agent = {"id": f"agent-{number}", "owner": "team@example.com"}
        if kind == "unattributed":
            self.call({"attribution": "none"}, [0, 0])
        else:
            registration = {"hash": self.digest(), "purpose": "invoices", "status": "registered"}
            revocation = {"kind": "task", "name": number, "status": "revoked", "version": number}
            policy = {"name": "invoices", "version": number, "digest": self.digest()}
            examination = {"question": "data", "digest": self.digest(), "size": number}
            trust = {"key": self._signer.public_key.thumbprint, "purpose": "recorder", "status": "trusted"}
            bodies = {
                "examination": {"examination": examination},
                "trust": {"trust": trust},
                "policy": {"policy": policy},
                "registration": {"agent": agent, "registration": registration},
                "revocation": {"revocation": revocation},
                "erasure": {"erasure": {"key": self.id()}},
            }
            self.add(kind, bodies[kind])

    def approval(self) -> None:
        """Write a task with an approval and no calls."""
        self.task(0)
        grant = issue(
            ISSUER,
            issuer="urn:example:issuer",
            task_id=(task := {"id": self.id()})["id"],
            principal=WHO[0],
            agent=Agent("asker", owner="team@example.com"),
            holder=HOLDERS[2].public_key,
            scope=Scope(TOOLS[0]),
            now=self.clock.wall_ns() // 10**9,
            ttl=600,
            id=uuid_of(self.id()),
        )
        facts = self.facts(Chain((grant,)), task)
        self.add("grant", {**facts, "grant": {"token": grant.token}})
        now = self.clock.wall_ns() // 10**9
        ruling = Ruling(
            id=self.id(),
            status="approved",
            task=task["id"],
            tool=TOOLS[0],
            args=None,
            principal=grant.principal,
            agent=grant.agent,
            approver=APPROVER,
            decided_at=now,
            expires_at=now + 600,
        )
        approval = {
            "id": ruling.id,
            "status": "approved",
            "approver": APPROVER.to_claim(),
            "token": ruling.sign(ISSUER, issuer="urn:example:issuer"),
        }
        self.add("approval", {**facts, "action": {"tool": TOOLS[0]}, "approval": approval})


OTHERS: Final = ("policy", "registration", "revocation", "erasure", "examination", "trust", "unattributed")


def without_threads() -> None:
    """Have every ledger of this process do its work in the thread that asks for it, which is as good and quicker."""
    Sealing._ensure_thread = lambda self: False  # type: ignore[method-assign]


def make(directory: Path, seed: int) -> None:
    """Make the ledger of a seed: one to four processes, some of them killed, some at the same time."""
    rng = random.Random(seed)  # noqa: S311  Nothing here is a secret.
    writer = Writer(directory, rng)
    for process in range(rng.randrange(1, 5)):
        if process:
            if rng.random() < 0.6:
                torn = rng.choice((b"", b"{", b'{"mac":"00', b'{"mac":"' + b"A" * 43 + b'","record":{"a":"\xff'))
                writer.kill(torn)
            writer.start()
        for _ in range(rng.randrange(4)):
            what = rng.random()
            if what < 0.4:
                writer.task(rng.randrange(4))
            elif what < 0.8:
                writer.other(rng.choice(OTHERS))
            elif what < 0.9:
                writer.approval()
            else:
                writer.ledger.seal()
            if rng.random() < 0.1:
                writer.clock.set_wall(writer.clock.wall_ns() - 10**9)
    writer.close()


def alarms(seed: int, room: Path) -> tuple[Counter[str], list[str]]:
    """Make the ledger of a seed in a folder and verify it; return what it holds, and the false alarms."""
    directory = room / str(seed)
    try:
        make(directory, seed)
        report = Verifier(TRUST).ledger(directory)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    facts = Counter({"ledgers": 1, "records": report.counts["records"], "streams": report.counts["streams"]})
    facts["recovered"] = int(report.counts["recovered"] > 0)
    wrong = [f"seed {seed}: {p.code}: {p.message}" for p in report.findings if p.severity != "notice"]
    if report.exit_code and not wrong:
        wrong.append(f"seed {seed}: {report.verdict}")
    return facts, wrong


def many(seeds: range) -> tuple[Counter[str], list[str]]:
    """Do that for many seeds, in memory where there is a disk that is none."""
    without_threads()
    total: Counter[str] = Counter()
    wrong: list[str] = []
    memory = Path("/dev/shm")  # noqa: S108  A folder of our own in it.
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as room:
        for seed in seeds:
            facts, found = alarms(seed, Path(room))
            total += facts
            wrong += found
    return total, wrong


def main() -> int:
    """Verify as many clean ledgers as asked for; return 1 if one of them is not called verified."""
    parser = argparse.ArgumentParser(description="Verify clean ledgers; none may raise an alarm.")
    parser.add_argument("--count", type=int, default=1_000, help="how many")
    parser.add_argument("--first", type=int, default=0, help="the seed of the first")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="how many at once")
    options = parser.parse_args()
    stop = options.first + options.count
    parts = [range(start, min(start + 500, stop)) for start in range(options.first, stop, 500)]
    total: Counter[str] = Counter()
    wrong: list[str] = []
    began = time.monotonic()
    with suppress(KeyboardInterrupt), concurrent.futures.ProcessPoolExecutor(options.processes) as pool:
        for facts, found in pool.map(many, parts):
            total += facts
            wrong += found
            print(*found, sep="\n", end="\n" if found else "", flush=True)  # At once, lest an end by force hides them.
            print(f"\r{total['ledgers']:,} of {options.count:,}", end="", file=sys.stderr, flush=True)
    took = time.monotonic() - began
    print(f"\n{dict(total)} in {took:.0f} s; {len(wrong)} false alarms")
    print(*wrong[:20], sep="\n")
    return 1 if wrong or total["ledgers"] != options.count else 0


if __name__ == "__main__":
    sys.exit(main())
