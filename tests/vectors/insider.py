"""Writes ledgers as an insider with all keys can: any records in any order, sealed and signed as they should be.

No check of the library stands in the way: what the keys can sign is written, and only a verifier says what it is
worth.
"""

import hmac
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from agent_identity import Agent, Human, Scope
from agent_identity._authority.grants.grants import Chain, derive, issue
from agent_identity._authority.registries.rulings import Ruling
from agent_identity._identity.common.encoding import b64url_encode, digest_of
from agent_identity._identity.common.ids import uuid_of
from agent_identity._ledger.transparency.checkpoint import Checkpoint, sign_note
from agent_identity._ledger.transparency.merkle import leaf_hash, root_of
from agent_identity.identity import FileVersion, Principal, SigningKey, TrustedKey, TrustStore
from agent_identity.limits import Limit
from agent_identity.testing import SequentialIds

ORIGIN: Final = "agent-identity.example/cases"
ISSUER_URI: Final = "https://issuer.example/agents"
ISSUER: Final = SigningKey.from_seed(b"\x31" * 32)
RECORDER: Final = SigningKey.from_seed(b"\x32" * 32)
STRANGER: Final = SigningKey.from_seed(b"\x77" * 32)
HOLDERS: Final = tuple(SigningKey.from_seed(bytes([0x40 + n]) * 32) for n in range(8))
MAC_KEY: Final = bytes(range(32))
BEGIN: Final = 1_764_000_000
"""When every ledger begins, in Unix seconds."""

ALICE: Final = Human("alice@example.com", roles=("finance",))
BOB: Final = Human("bob@example.com")
CLERK: Final = Agent("clerk", owner="finance@example.com", version="7")
HELPER: Final = Agent("helper", owner="finance@example.com")
FILE: Final = FileVersion("AZq7zA4Ae4OAAAAAAAAAAQ")
TRUST: Final = TrustStore(
    (TrustedKey(ISSUER.public_key, "issuer"), TrustedKey(RECORDER.public_key, "recorder")),
    issuer=ISSUER_URI,
    origin=ORIGIN,
    file=FILE,
)

Facts = dict[str, Any]
Content = dict[str, bytes]
"""The files of a case by their names."""

ALLOWED: Final = {"effect": "allow", "enforced": "allow", "mode": "enforce", "reason": "within_scope"}
BLOCKED: Final = {"effect": "block", "enforced": "block", "mode": "enforce", "reason": "policy_blocks"}
AUDITED: Final = {"effect": "block", "enforced": "audit", "mode": "monitor", "reason": "policy_blocks"}
RULED: Final = {"effect": "route", "enforced": "allow", "mode": "enforce", "reason": "policy_routes"}


def canonical(value: object) -> bytes:
    """Return canonical bytes (RFC 8785 as far as records need it: no numbers, ASCII keys)."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


def digest(text: str) -> str:
    """Return a digest of no meaning."""
    return digest_of(text.encode())


@dataclass(eq=False)
class Line:
    """A line of a stream before it is sealed.

    Attributes:
        record: The record without its place.
        detail: The bytes of the detail in the line.
        place: Members of ``stream`` that are written instead of the true ones.
        data: The bytes of the record, if they are not those of ``record``.
        raw: The whole line, if it is none of a record.
        copies: How often it is written.
    """

    record: Facts
    detail: bytes | None = None
    place: Facts = field(default_factory=dict)
    data: bytes | None = None
    raw: bytes | None = None
    copies: int = 1

    @property
    def id(self) -> str:
        """The id of the record."""
        return str(self.record["id"])

    def detailed(self, facts: Mapping[str, Any]) -> None:
        """Give the line a detail, and have its record commit to it."""
        self.detail = canonical({"_salt": "A" * 22, **facts})
        self.record["detail"] = digest_of(self.detail)


class Stream(list[Line]):
    """The lines of a stream.

    Attributes:
        id: Its id.
        sealed: The numbers of records that heads in the log cover; ``None``: one head over all.
        torn: Bytes of a line that never ended.
        after: Changes the numbered lines before they are sealed.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self.id = name
        self.sealed: list[int] | None = None
        self.torn = b""
        self.after: Callable[[list[tuple[bytes | None, bytes]]], list[tuple[bytes | None, bytes]]] = list

    def move(self, line: Line, *, before: Line | None = None) -> None:
        """Move a line before another one, or to the end, behind which only the end of the stream stands."""
        self.remove(line)
        self.insert(self.index(self[-1] if before is None else before), line)

    def lines(self) -> "Iterator[tuple[bytes | None, bytes]]":
        """Yield the record, if there is one, and the line of each."""
        prev = None
        for seq, line in enumerate(self, 1):
            if line.raw is not None:
                yield None, line.raw
                continue
            place = {"id": self.id, "seq": str(seq), "prev": prev, **line.place}
            place = {name: value for name, value in place.items() if value is not None}
            data = line.data or canonical({**line.record, "stream": place, "v": line.record.get("v", "1")})
            for _ in range(line.copies):
                yield data, framed(self.id, data, line.detail)
            prev = b64url_encode(leaf_hash(data))


def framed(stream: str, data: bytes, detail: bytes | None = None) -> bytes:
    """Return the line of a record with its MAC."""
    mac = hmac.digest(MAC_KEY, b"agent-identity/ledger/v1\n" + stream.encode() + b"\n" + data, "sha256")
    head = b"" if detail is None else b'"detail":%s,' % detail
    return b'{%s"mac":"%s","record":%s}\n' % (head, b64url_encode(mac).encode(), data)


class Ledger:
    """A ledger that is written record by record, and sealed at the end.

    Attributes:
        trust: The trust file.
        origin: The name of the log.
        more: Further files, or other bytes for files.
        signer: Signs the checkpoint.
        relog: Changes the entries of the log before they are signed.
        covered: How many of them the checkpoint covers; ``None``: all.
    """

    def __init__(self) -> None:
        self.trust = TRUST
        self.origin = ORIGIN
        self.streams: dict[str, Stream] = {}
        self.more: Content = {}
        self.signer = RECORDER
        self.relog: Callable[[list[bytes]], list[bytes]] = list
        self.covered: int | None = None
        self.ns = BEGIN * 10**9
        self._ids = SequentialIds()
        self._grants = 0

    def id(self) -> str:
        """Return a new id."""
        return self._ids.new(self.ns)

    def stream(self, **start: Any) -> Stream:
        """Begin a stream."""
        stream = Stream(self.id())
        self.streams[stream.id] = stream
        self.add(stream, "stream_start", sdk={"name": "agent-identity", "version": "0.0.0-cases"}, **start)
        return stream

    def add(self, stream: Stream, kind: str, **facts: Any) -> Line:
        """Append a record a moment later."""
        self.ns += 10_000_000
        record = {"kind": kind, "id": self.id(), "time": {"start": str(self.ns)}, **facts}
        stream.append(line := Line(record))
        return line

    def policy(self, stream: Stream, flow: str | None = None) -> Line:
        """Append the policy of an enforcer."""
        state = {"name": "finance", "version": "3", "digest": digest("policy")}
        return self.add(stream, "policy", policy={**state, **({"flow": flow} if flow else {})})

    def close(self, stream: Stream) -> Line:
        """End a stream."""
        return self.add(stream, "stream_end", end={"size": str(len(stream) + 1)})

    def task(
        self,
        stream: Stream,
        *tools: str,
        principal: Principal = ALICE,
        agent: Agent = CLERK,
        scope: Scope | None = None,
        task: str | None = None,
        limits: tuple[Limit, ...] = (),
        ttl: int = 3600,
        **more: Any,
    ) -> "Hop":
        """Issue the root grant of a task; nothing is recorded yet."""
        for tool in tools:
            scope = Scope(tool) if scope is None else scope | Scope(tool)
        if scope is None:
            raise TypeError("a task needs tools or a scope")
        self._grants += 1
        grant = issue(
            more.get("signer", ISSUER),
            issuer=more.get("issuer", ISSUER_URI),
            task_id=task or self.id(),
            principal=principal,
            agent=agent,
            holder=HOLDERS[0].public_key,
            scope=scope,
            now=more.get("now", self.ns // 10**9),
            ttl=ttl,
            id=uuid_of(self.id()),
            limits=limits,
        )
        return Hop(self, stream, Chain((grant,)))

    def content(self) -> Content:
        """Return the files of the ledger, sealed and signed."""
        content: Content = {"trust.json": self.trust.to_json()}
        entries = self.relog(self._write(content))
        content["log/entries.jsonl"] = logged(entries)
        content["log/checkpoint"] = noted(entries[: self.covered], self.origin, self.signer)
        content.update(self.more)
        return content

    def _write(self, content: Content) -> list[bytes]:
        heads: list[bytes] = []
        for stream in self.streams.values():
            lines = stream.after(list(stream.lines()))
            content[f"ledger/{stream.id}/entries.jsonl"] = b"".join(line for _, line in lines) + stream.torn
            leaves = [leaf_hash(data) for data, _ in lines if data is not None]
            sizes = [len(leaves)] if stream.sealed is None else stream.sealed
            heads += [self.head(stream.id, size, root_of(leaves[:size])) for size in sizes]
        return heads

    def head(self, stream: str, size: int, root: bytes) -> bytes:
        """Return an entry of the log."""
        said = {"origin": self.origin, "root": b64url_encode(root), "size": str(size), "stream": stream}
        return canonical({**said, "time": str(self.ns)})


def logged(entries: list[bytes]) -> bytes:
    """Return the file of log entries."""
    out, last = [], ""
    for number, entry in enumerate(entries, 1):
        message = f"agent-identity/log/v1\n{number}\n{last}\n".encode() + entry
        mac = b64url_encode(hmac.digest(MAC_KEY, message, "sha256")).encode()
        out.append(b'{"entry":%s,"mac":"%s"}\n' % (entry, mac))
        last = b64url_encode(leaf_hash(entry))
    return b"".join(out)


def noted(entries: list[bytes], origin: str = ORIGIN, signer: SigningKey = RECORDER) -> bytes:
    """Return the signed checkpoint over log entries."""
    checkpoint = Checkpoint(origin, len(entries), root_of([leaf_hash(entry) for entry in entries]))
    return sign_note(checkpoint.to_text(), origin, signer)


class Hop:
    """A task or a part of one: what is recorded under one grant.

    Attributes:
        chain: Its grants.
        token: Its own grant.
        facts: What each of its records says of the task.
    """

    def __init__(self, ledger: Ledger, stream: Stream, chain: Chain) -> None:
        self.ledger, self.stream, self.chain = ledger, stream, chain
        leaf = chain.leaf
        self.token = leaf.token
        self.facts: Facts = {
            "task": {"id": leaf.task_id, "expires": str(leaf.expires_at * 10**9)},
            "principal": leaf.principal.to_claim(),
            "agent": leaf.agent.to_claim(),
            "chain": [{"id": grant.agent.id, "grant": grant.hash} for grant in chain.grants],
        }
        self._newest = (0, "", "")
        self._counts = [0, 0]

    @property
    def hash(self) -> str:
        """The hash of its grant."""
        return self.chain.leaf.hash

    def said(self, *, short: bool = False) -> Facts:
        """Return what a record says of the task; an outcome says less."""
        facts: Facts = json.loads(json.dumps(self.facts))
        if short:
            facts["task"].pop("expires", None)
            facts["principal"].pop("roles", None)
        return facts

    def add(self, kind: str, **facts: Any) -> Line:
        """Append a record of the task."""
        return self.ledger.add(self.stream, kind, **{**self.said(short=kind == "outcome"), **facts})

    def grant(self, **more: Any) -> Line:
        """Record the grant."""
        return self.add("grant", grant={"token": self.token}, **more)

    def start(self, **more: Any) -> Line:
        """Record the start."""
        return self.add("task_start", **more)

    def open(self) -> "Hop":
        """Record the grant and the start."""
        self.grant()
        self.start()
        return self

    def intent(self, tool: str, *, args: str | None = None, action: Facts | None = None, **more: Any) -> Line:
        """Record that a body is about to run."""
        self._counts[0] += 1
        said = {"tool": tool, "kind": "function", **({"args": digest(args)} if args else {}), **(action or {})}
        return self.add("intent", **{"action": said, "decision": dict(ALLOWED), **more})

    def outcome(self, intent: Line, how: str = "success", *, result: bool = False, **more: Any) -> Line:
        """Record how it ended."""
        self._counts[1] += 1
        action = {key: value for key, value in intent.record["action"].items() if key not in _INTENT_ONLY}
        if result:
            action["result"] = digest(f"result {intent.id}")
        time = {"start": intent.record["time"]["start"], "end": str(self.ledger.ns)}
        decision = dict(intent.record["decision"])
        return self.add(
            "outcome",
            **{"action": action, "decision": decision, "intent": intent.id, "outcome": how, "time": time, **more},
        )

    def call(self, tool: str, **more: Any) -> Line:
        """Record a call that ran; return its outcome."""
        return self.outcome(self.intent(tool, **more))

    def denied(self, tool: str, **more: Any) -> Line:
        """Record a refusal."""
        self._counts[1] += 1
        action = {"tool": tool, "kind": "function", **more.pop("action", {})}
        said = {"action": action, "decision": dict(BLOCKED), "outcome": "denied", "error": "policy_blocks"}
        return self.add("outcome", **{**said, **more})

    def end(self, **more: Any) -> Line:
        """Record the end."""
        intents, outcomes = self._counts
        counts = {"intents": str(intents), "outcomes": str(outcomes), "open": str(max(0, intents - outcomes))}
        return self.add("task_end", counts=counts, **more)

    def delegate(self, *tools: str, agent: Agent = HELPER, scope: Scope | None = None, ttl: int = 3000) -> "Hop":
        """Derive the grant of a part of the task."""
        for tool in tools:
            scope = Scope(tool) if scope is None else scope | Scope(tool)
        depth = len(self.chain.grants)
        grant = derive(
            self.chain,
            HOLDERS[depth - 1],
            agent=agent,
            holder=HOLDERS[depth].public_key,
            scope=scope or Scope(),
            now=self.ledger.ns // 10**9,
            ttl=ttl,
            id=uuid_of(self.ledger.id()),
        )
        return Hop(self.ledger, self.stream, self.chain.extended(grant))

    def mark(self, cause: str, label: str, *, hop: "Hop | None" = None, **more: Any) -> Line:
        """Record a change of the mark of a hop, by default of this one."""
        of = hop or self
        seq, prev, _ = of._newest
        change: Facts = {"hop": of.hash, "seq": str(seq + 1), "label": label, "cause": cause}
        if prev:
            change["prev"] = prev
        line = self.add("mark", mark={**change, **more})
        of._newest = (seq + 1, line.id, label)
        return line

    def lowered(self, outcome: Line, label: str, mark: str | None = None) -> Line:
        """Have an outcome change the mark."""
        seq = self._newest[0]
        after = {"label": mark or label, "seq": str(seq + 1)}
        outcome.record.update(label=label, mark_after=after)
        self._newest = (seq + 1, outcome.id, mark or label)
        return outcome

    def kept(self, outcome: Line, label: str) -> Line:
        """Have an outcome name the mark as it is."""
        seq, _, now = self._newest
        outcome.record.update(label=label, mark_after={"label": now, "seq": str(seq)})
        return outcome

    @property
    def at(self) -> Facts:
        """The mark at which something is judged now."""
        return {"hop": self.hash, "seq": str(self._newest[0])}

    def ruling(self, tool: str, args: str | None, **changes: Any) -> "Ruled":
        """Sign what a person says to a call."""
        now = self.ledger.ns // 10**9
        said: Facts = {
            "id": self.ledger.id(),
            "status": "approved",
            "task": self.chain.leaf.task_id,
            "tool": tool,
            "args": None if args is None else digest(args),
            "principal": self.chain.leaf.principal,
            "agent": self.chain.leaf.agent,
            "approver": BOB,
            "decided_at": now,
            "expires_at": now + 600,
            **changes,
        }
        signer = said.pop("signer", ISSUER)
        ruling = Ruling(**said)
        return Ruled(self, ruling, ruling.sign(signer, issuer=ISSUER_URI))


_INTENT_ONLY: Final = ("names", "labels", "claims")


@dataclass
class Ruled:
    """A question to a person and the answer."""

    hop: Hop
    ruling: Ruling
    token: str

    def _action(self) -> Facts:
        args = {} if self.ruling.args is None else {"args": self.ruling.args}
        return {"tool": self.ruling.tool, "kind": "function", **args}

    def ask(self, **more: Any) -> Line:
        """Record the question."""
        state = {"id": self.ruling.id, "status": "pending", "request": digest("request")}
        return self.hop.add("approval", action=self._action(), approval={**state, **more})

    def answer(self, **more: Any) -> Line:
        """Record the answer."""
        ruling = self.ruling
        state: Facts = {
            "id": ruling.id,
            "status": ruling.status,
            "approver": ruling.approver.to_claim(),
            "token": self.token,
            "request": digest("request"),
            "expires": str(ruling.expires_at * 10**9),
        }
        if ruling.sources:
            state["sources"] = list(ruling.sources)
        if ruling.reason:
            state["reason"] = ruling.reason
        return self.hop.add("approval", action=self._action(), approval={**state, **more})

    @property
    def decision(self) -> Facts:
        """The decision of the call that runs by it."""
        return {**RULED, "approval": self.ruling.id}
