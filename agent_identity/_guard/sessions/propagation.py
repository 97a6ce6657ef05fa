"""Outbound propagation of authority: to another service, one call at a time or as grants, or to a child process.

Each delegation that leaves is a further grant with a key of its own, bound to the receiver. It is recorded before it
leaves, and the end of the task reaches every process that shares the state.
"""

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Final, Self, final

from agent_identity._authority.grants.grants import Grant, derive
from agent_identity._authority.grants.proof_of_possession import id_of_proof, prove
from agent_identity._authority.grants.scope import Scope
from agent_identity._common.narrowing import is_array, is_object
from agent_identity._common.typed_calls import typed_calls
from agent_identity._guard.sessions.admission import record_refusal
from agent_identity._guard.sessions.tasks import Tasks, current_or_refuse, holder_of, seconds_of
from agent_identity._guard.tasks.delegation_bundle import DelegationBundle, Grants
from agent_identity._guard.tasks.exported_grants import AudienceGrant
from agent_identity._guard.tasks.facts import task_facts
from agent_identity._guard.tasks.kept_marks import MarkSigner
from agent_identity._guard.tasks.task import Task
from agent_identity._guard.tasks.trace_context import traceparent
from agent_identity._guard.telemetry.spans import current_trace
from agent_identity._identity.common.ids import uuid_of
from agent_identity._identity.common.names import check_id
from agent_identity._identity.keys.jws import token_hash
from agent_identity._identity.keys.keys import PublicKey, SigningKey
from agent_identity._identity.principals.principals import Agent
from agent_identity._record import schema as records
from agent_identity._record.parts import GrantToken, Time
from agent_identity.canonical import JSON
from agent_identity.errors import AttenuationError, Denied, NoTask, TokenError

_NS: Final = 1_000_000_000
_SEED_BYTES: Final = 32

ADDRESSED_TTL: Final = 300
"""Seconds that a grant for another service lives at most."""

_RENEW: Final = 60
"""Seconds before its end from which a grant for another service is made anew."""


@typed_calls("__init__")
@final
@dataclass(frozen=True, slots=True)
class Peer:
    """A service that may be called with the authority of the current task.

    Args:
        audience: The name that the service accepts as its own.
        agent: The agent that acts there, if it may go on with the authority, for example to call a third service.
        key: Its public key; given exactly with ``agent``.
        tools: The tools that it needs; what else the task may do is neither granted nor shown to it. ``None``
            hands on the whole scope.

    Raises:
        TypeError: An argument is of another type.
        ValueError: A name breaks the rules of :func:`~agent_identity.identity.check_id`, or agent and key do not
            come together.
    """

    audience: str
    agent: Agent | None = None
    key: PublicKey | None = None
    tools: Iterable[str] | None = None

    def __post_init__(self) -> None:
        check_id(self.audience, "audience")
        if (self.agent is None) is not (self.key is None):
            raise ValueError("a peer has agent and key together; leave both out if it does not delegate")
        for value, kind in ((self.agent, Agent), (self.key, PublicKey)):
            if value is not None and type(value) is not kind:
                raise TypeError(f"a peer cannot have {type(value).__name__} here; give {kind.__name__}")
        if isinstance(self.tools, str):
            raise TypeError("tools= is one name; write it as a list")
        if self.tools is not None:
            object.__setattr__(self, "tools", frozenset(self.tools))


@final
@dataclass(frozen=True, slots=True, repr=False)
class Presentation:
    """Authority that travels with one call to another service. It is never logged.

    Attributes:
        tokens: The chain of grants, root first; its leaf is made for the receiver.
        proof: The proof of possession for this one call.
        onward: A grant to the receiver itself, beside the leaf, with which it can go on.
        mark: The signed low-water mark of the task, where information flow is on.
    """

    tokens: tuple[str, ...]
    proof: str
    onward: str | None = None
    mark: str | None = None

    def __repr__(self) -> str:
        return "Presentation(…)"

    def to_object(self) -> dict[str, JSON]:
        """Return chain and proof as the JSON object that Attenuating Agent Tokens define: ``aat_chain``, ``aat_pop``.

        ``onward`` and ``mark`` are ours, and travel beside it.
        """
        return {"aat_chain": list(self.tokens), "aat_pop": self.proof}

    @classmethod
    def from_object(cls, value: object, *, onward: str | None = None, mark: str | None = None) -> Self:
        """Return the presentation of such an object; members that it does not define are ignored.

        Nothing is verified here: give it to ``Enforcer.receive``.

        Args:
            value: The object.
            onward: What travelled beside it as ``onward``.
            mark: What travelled beside it as ``mark``.

        Raises:
            TokenError: With code ``malformed_token`` if chain or proof is missing or no text.
        """
        chain, proof = (value.get("aat_chain"), value.get("aat_pop")) if is_object(value) else (None, None)
        tokens = [token for token in chain if isinstance(token, str)] if is_array(chain) else []
        if not is_array(chain) or not tokens or len(tokens) != len(chain) or not isinstance(proof, str):
            raise TokenError("aat_chain or aat_pop is missing or malformed; send both", code="malformed_token")
        return cls(tuple(tokens), proof, onward, mark)


@final
@dataclass(frozen=True, slots=True)
class Outbound:
    """Hands authority of the current task to others.

    Attributes:
        tasks: The tasks of this process.
        random: Returns as many random bytes as asked for.
    """

    tasks: Tasks
    random: Callable[[int], bytes] = os.urandom

    def present(self, peer: Peer, tool: str, arguments: Mapping[str, object]) -> Presentation:
        """Return the authority to send with one call to a peer."""
        task = current_or_refuse(self.tasks.enforcement)
        self._check(task)
        now = self.tasks.enforcement.clock.wall_ns() // _NS
        addressed = task.handed.addressed(peer)
        if addressed is None or (addressed.chain.leaf.expires_at - now < _RENEW and not _as_long_as(task, addressed)):
            addressed = self._address(task, peer)
        onward, call = addressed.onward, uuid_of(self.tasks.ids.new(self.tasks.enforcement.clock.wall_ns()))
        mark = _export(task, addressed.chain.leaf, onward, call)
        self._check(task)  # Only now is it sure that the end will be told to the receiver.
        proof = prove(
            addressed.chain,
            addressed.holder,
            tool=tool,
            arguments=arguments,
            audience=peer.audience,
            now=now,
            id=call,
            next_hash=None if onward is None else onward.hash,
        )
        return Presentation(addressed.chain.tokens, proof, None if onward is None else onward.token, mark)

    def export(
        self,
        task: Task,
        to: PublicKey | None,
        *,
        audience: str | None,
        agent: Agent | None,
        scope: Scope | None,
        ttl: timedelta | None,
    ) -> DelegationBundle | Grants:
        """Return a part of a task's authority for a child process, or for the key of another party."""
        if current_or_refuse(self.tasks.enforcement) is not task:
            raise NoTask("this is not the task that is open here; export enforcer.current_task")
        seconds = None if ttl is None else seconds_of(ttl)
        seed, holder = b"", to
        if holder is None:
            seed = self.random(_SEED_BYTES)
            holder = SigningKey.from_seed(seed).public_key
        else:
            seconds = ADDRESSED_TTL if seconds is None else min(seconds, ADDRESSED_TTL)
        grant = self._derive(task, agent or task.agent, holder, scope or task.scope, ttl=seconds, audience=audience)
        grants = self._handed_over(task, grant)
        if to is not None:
            return grants
        return DelegationBundle(grants.tokens, seed, task.purpose, grants.traceparent, grants.mark)

    def job(self, task: Task, to: PublicKey, audience: str | None) -> Grants:
        """Return the whole authority of a task for the key of a worker, where it outlives the task here."""
        grant = self._derive(task, task.agent, to, task.scope, ttl=None, audience=audience)
        return self._handed_over(task, grant, ends_here=False)

    def _handed_over(self, task: Task, grant: Grant, *, ends_here: bool = True) -> Grants:
        self._hand_over(task, grant, ends_here=ends_here)
        mark = _export(task, grant, grant, grant.hash)
        self._check(task)
        return Grants((*task.chain.tokens, grant.token), task.purpose, traceparent(), mark)

    def take_mark(self, task: Task, tokens: tuple[str, ...], proof: str | None, mark: str | None) -> bool:
        """Count the mark that came back from what was handed out; return whether it does count."""
        if task.flow is None:
            return False
        hop = token_hash(tokens[-1])
        call = hop if proof is None else id_of_proof(proof)
        return call is not None and task.flow.answered(hop, call, mark)

    def _address(self, task: Task, peer: Peer) -> AudienceGrant:
        with self.tasks.attenuating(task, task.agent, self.tasks.enforcement.clock.wall_ns()):
            scope = task.scope if peer.tools is None else _tools_of_peer(task.scope, peer.tools)
        holder = self.tasks.new_key()
        leaf = self._derive(
            task, task.agent, holder.public_key, scope, ttl=ADDRESSED_TTL, audience=peer.audience, final=True
        )
        onward = None
        if peer.agent is not None and peer.key is not None:
            # Not bound to the audience, since it has to reach further services; bound to the receiver by its key.
            onward = self._derive(task, peer.agent, peer.key, scope, ttl=ADDRESSED_TTL, audience=None)
            self._hand_over(task, onward)
        self._hand_over(task, leaf)
        addressed = AudienceGrant(task.chain.extended(leaf), holder, onward)
        task.handed.keep(peer, addressed)
        return addressed

    def _derive(
        self,
        task: Task,
        agent: Agent,
        holder: PublicKey,
        scope: Scope,
        *,
        ttl: int | None,
        audience: str | None,
        final: bool = False,
    ) -> Grant:
        wall = self.tasks.enforcement.clock.wall_ns()
        self._check(task)
        remaining = max(1, task.expires_at - wall // _NS)
        if self.tasks.admission is not None:
            most = self.tasks.admission.admit(agent, scope, principal=task.grant.principal, parent=task, wall_ns=wall)
            remaining = min(remaining, most)
        with self.tasks.attenuating(task, agent, wall):
            if holder == task.grant.holder:
                raise AttenuationError("the receiver has the key of the task itself; give it a key of its own")
            return derive(
                task.chain,
                holder_of(task),
                agent=agent,
                holder=holder,
                scope=scope,
                now=wall // _NS,
                ttl=remaining if ttl is None else min(ttl, remaining),
                id=uuid_of(self.tasks.ids.new(wall)),
                max_depth=task.grant.depth + 1 if final else None,
                audience=audience,
            )

    def _check(self, task: Task) -> None:
        """Refuse a task that has ended, or whose chain is revoked, and record the refusal."""
        enforcement = self.tasks.enforcement
        task.lease.check(enforcement.clock)
        try:
            enforcement.check(task)
        except Denied as denied:
            start_ns = enforcement.clock.wall_ns()
            record_refusal(
                enforcement, denied, task.agent, principal=task.grant.principal, parent=task, start_ns=start_ns
            )
            if enforcement.mode == "enforce":
                raise

    def _hand_over(self, task: Task, grant: Grant, *, ends_here: bool = True) -> None:
        """Record a grant that is about to leave the process; if it ends here, its holder learns of the end."""
        enforcement = self.tasks.enforcement
        wall = enforcement.clock.wall_ns()
        facts, token = task_facts((*task.chain.grants, grant)).whole, GrantToken(token=grant.token)
        trace, time = current_trace(), Time.at(wall)
        enforcement.ledger.append(partial(records.Grant, **facts, time=time, trace=trace, grant=token))
        if ends_here:
            task.handed.add(grant, wall // _NS)


def _export(task: Task, grant: Grant, onward: Grant | None, call: str) -> str | None:
    """Keep the mark of the task for the holder of a grant, and join the mark of that hop from now on.

    Args:
        task: The task.
        grant: The grant that is handed out.
        onward: The grant whose holder is the receiver, and may sign its mark.
        call: The call that it is for, or the hash of the grant.

    Returns:
        The signed mark of the task; ``None`` without information flow.
    """
    if task.flow is None:
        return None
    by = None if onward is None else MarkSigner(onward.hash, onward.holder)
    return task.flow.export(grant.hash, grant.expires_at, call=call, by=by, signer=holder_of(task))


def _as_long_as(task: Task, addressed: AudienceGrant) -> bool:
    """Report whether a new grant would not outlive this one, because the task does not."""
    return addressed.chain.leaf.expires_at >= task.expires_at


def _tools_of_peer(scope: Scope, tools: Iterable[str]) -> Scope:
    kept = {name: scope.tools[name] for name in sorted(tools) if name in scope.tools}
    if not kept:
        raise AttenuationError(
            "the task covers none of the tools of the peer; grant it one of them, or give the peer another list",
            code="tool_not_attenuated",
        )
    return Scope(kept)
