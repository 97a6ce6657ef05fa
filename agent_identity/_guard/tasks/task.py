"""The task: one unit of work, done by one agent for one principal under one grant."""

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Final, NoReturn, Protocol, TypeAlias, final, overload

from agent_identity._authority.grants.grants import Chain, Grant
from agent_identity._authority.grants.limits import Limit
from agent_identity._authority.grants.scope import Scope
from agent_identity._authority.registries.tasks import Lease
from agent_identity._common.typed_calls import typed_calls
from agent_identity._flow.mark import TaskMark
from agent_identity._guard.tasks.delegation_bundle import DelegationBundle, Grants
from agent_identity._guard.tasks.exported_grants import ExportedGrants
from agent_identity._guard.tasks.facts import TaskFacts
from agent_identity._guard.tasks.task_flow import TaskFlow
from agent_identity._guard.tasks.vault import Vault
from agent_identity._identity.keys.keys import PublicKey, Signer
from agent_identity._identity.principals.principals import Agent, Principal
from agent_identity.errors import ConfigurationError

if TYPE_CHECKING:
    from agent_identity._authority.tokens.downstream import DownstreamToken

Speak: TypeAlias = Callable[["Task", str, "str | None"], None]
"""Takes in text for a task: that of its principal, or with an integrity that of others."""

REVOKE_SECONDS: Final = 5.0
"""Maximum seconds for revoking the tokens of a task, all together; leaving the task waits no longer."""


class Tokens(Protocol):
    """The tokens of one task for other services."""

    def token(
        self, task: "Task", audience: str, resource: str | None, scope: str | Iterable[str] | None
    ) -> "DownstreamToken":
        """Return a token; see :meth:`Task.token`."""
        ...

    def drop(self) -> None:
        """Forget all tokens and begin to revoke them."""
        ...

    def settle(self, timeout: float) -> None:
        """Wait, for a limited time, until the tokens are revoked."""
        ...


class TokenSupply(Protocol):
    """The tokens of all tasks of an enforcer."""

    def open(self) -> Tokens:
        """Return the tokens of a new task: none yet."""
        ...

    def close(self) -> None:
        """Drop and revoke the tokens of all tasks, within a bounded time."""
        ...


class Exports(Protocol):
    """Exports parts of tasks to other processes."""

    def export(
        self,
        task: "Task",
        to: PublicKey | None,
        *,
        audience: str | None,
        agent: Agent | None,
        scope: Scope | None,
        ttl: timedelta | None,
    ) -> DelegationBundle | Grants:
        """Return a part of a task's authority; see :meth:`Task.export`."""
        ...

    def take_mark(self, task: "Task", tokens: tuple[str, ...], proof: str | None, mark: str | None) -> bool:
        """Count a mark that came back; see :meth:`Task.take_mark`."""
        ...


class Handed(Protocol):
    """Authority that was handed out: a presentation, a bundle or grants."""

    @property
    def tokens(self) -> tuple[str, ...]:
        """The signed grants, root first."""
        ...


@final
class NoTokens:
    """The tokens of a task without a token source."""

    def token(self, task: object, audience: object, resource: object, scope: object) -> NoReturn:  # noqa: ARG002
        """Refuse."""
        raise ConfigurationError("the enforcer has no source of tokens; pass tokens=... to it")

    def drop(self) -> None:
        """Do nothing."""

    def settle(self, timeout: float) -> None:
        """Do nothing."""


@final
class Tally:
    """Counts the events of one task; the sums are in its ``task_end`` record."""

    __slots__ = ("_lock", "concluded", "intents", "outcomes")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.intents = 0
        self.outcomes = 0
        self.concluded = 0

    def intent(self) -> None:
        """Count an intent."""
        with self._lock:
            self.intents += 1

    def outcome(self, *, of_intent: bool) -> None:
        """Count an outcome: one with an intent closes it, a refusal stands alone."""
        with self._lock:
            self.outcomes += 1
            self.concluded += of_intent

    def refused(self, *, monitored: bool) -> None:
        """Count a refused act other than a tool call; one that monitor mode only notes has an intent."""
        if monitored:
            self.intent()
        self.outcome(of_intent=monitored)


@typed_calls("export")
@final
@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Task:
    """A live unit of work and the authority that ends with it.

    Received from :meth:`Enforcer.task` and :meth:`Enforcer.delegate`; never built by users. Holding the
    object gives no authority: each call checks the task registry.

    Attributes:
        id: The task's id; equal for a task and everything delegated under it.
        purpose: The declared purpose.
        principal: The principal.
        agent: The acting agent.
        chain: The verified grants from the root to this task's own.
        expires_at: The latest end of the authority, in Unix seconds.
        limits: Limits of count, rate and sum; one account for the task and everything delegated under it.
    """

    id: str
    purpose: str
    principal: Principal
    agent: Agent
    chain: Chain
    expires_at: int
    lease: Lease = field(repr=False)
    holder: Signer | None = field(repr=False)
    tally: Tally = field(repr=False)
    handed: ExportedGrants = field(repr=False)
    facts: TaskFacts = field(repr=False)
    close: Callable[["Task"], None] = field(repr=False)
    exports: Exports = field(repr=False)
    tokens: Tokens = field(repr=False)
    speak: "Speak" = field(repr=False)
    limits: tuple[Limit, ...] = ()
    flow: TaskFlow | None = field(default=None, repr=False)
    vault: Vault = field(default_factory=Vault, repr=False)

    @property
    def grant(self) -> Grant:
        """The task's own grant, the leaf of the chain."""
        return self.chain.leaf

    @property
    def scope(self) -> Scope:
        """The scope of the grant."""
        return self.chain.leaf.scope

    def token(
        self, *, audience: str, resource: str | None = None, scope: str | Iterable[str] | None = None
    ) -> "DownstreamToken":
        """Return a short-lived token for the requests of this task to another service.

        The task's scope must cover the tool ``token_exchange`` with these arguments (``scope`` as a sorted list of
        names), the policy may judge it, and intent and outcome are recorded. A token is cached until shortly before
        its expiry. It ends with the task at the latest.

        A request to an authorization server blocks; in a coroutine, write
        ``await asyncio.to_thread(task.token, audience=...)``.

        Args:
            audience: The target service.
            resource: The service as a URI (RFC 8707), if the authorization server wants it.
            scope: Scope names at that service, or a text with spaces between them.

        Raises:
            Denied: The call is refused: the task has ended or is not the current one, its scope does not
                cover the audience, or the policy blocks.
            ExchangeError: No token: the authorization server was unreachable, or refused.
            EvidenceError: The request could not be recorded and was not made.
            ConfigurationError: The enforcer has no source of tokens.
            TypeError: An argument has the wrong type.
            ValueError: An argument is malformed.
        """
        return self.tokens.token(self, audience, resource, scope)

    @overload
    def export(
        self,
        *,
        audience: str | None = None,
        agent: Agent | None = None,
        scope: Scope | None = None,
        ttl: timedelta | None = None,
    ) -> DelegationBundle: ...

    @overload
    def export(
        self,
        *,
        to: PublicKey,
        audience: str,
        agent: Agent | None = None,
        scope: Scope | None = None,
        ttl: timedelta | None = None,
    ) -> Grants: ...

    def export(
        self,
        *,
        to: PublicKey | None = None,
        audience: str | None = None,
        agent: Agent | None = None,
        scope: Scope | None = None,
        ttl: timedelta | None = None,
    ) -> DelegationBundle | Grants:
        """Return a part of the authority of this task, which has to be the one that is open here, for another process.

        The other process takes it up with :meth:`Enforcer.accept`. It is one more grant of the chain, recorded before
        it leaves, and ends with the task where both processes share state.

        Args:
            to: Public key of another party, which gets grants without a secret; they live at most five minutes. Without
                it, the result is a bundle with a key of its own, for a child process on this machine.
            audience: The one name under which it can be accepted; by default any. Required with ``to``.
            agent: The agent that acts there; by default the same agent.
            scope: A narrower or equal scope; by default that of the task.
            ttl: A shorter life; by default what is left of the task's.

        Raises:
            Denied: There is no live task, or another one is open here.
            AttenuationError: The scope is wider, the depth is used up, or the key of the task is elsewhere.
            EvidenceError: The grant could not be recorded.
            TypeError: An argument has another type.
            ValueError: ``to`` without ``audience``, or a value is out of range.
        """
        if to is not None and audience is None:
            raise ValueError("to= needs an audience; name the service that the grants are for")
        return self.exports.export(self, to, audience=audience, agent=agent, scope=scope, ttl=ttl)

    def said(self, text: str) -> None:
        """Record what the principal said, so that values in it count as the principal's own.

        For host code that talks to the principal, in the task that it opened. The text is kept nowhere: a record says
        that something was said, with a keyed digest of it. Where information flow is off nothing is recorded.

        Args:
            text: What was said, in the principal's own words; text of others is for :meth:`received`.

        Raises:
            Denied: A guarded body calls this (``said_in_body``), the task is a delegated or accepted one
                (``said_by_delegate``), or it has ended. The refusal is recorded.
            EvidenceError: It could not be recorded, and counts for nothing.
            TypeError: The text is no ``str``.
            ValueError: The text is empty, or longer than 1,048,576 characters.
        """
        self.speak(self, text, None)

    def received(self, text: str, *, integrity: str = "untrusted") -> None:
        """Record that the agent is about to get text of others, which lowers the mark of the task.

        Call this before the agent sees the text. Where information flow is off nothing is recorded.

        Args:
            text: The text.
            integrity: ``"untrusted"``, ``"unknown"``, or ``"trusted"`` for text that no one outside can write; the
                last is refused where :meth:`said` is.

        Raises:
            Denied: The text is called trusted by code that may not say so, or the task has ended.
            EvidenceError: It could not be recorded; the agent must not get the text.
            TypeError: The text is no ``str``.
            ValueError: The text is empty or too long, or the integrity is another word.
        """
        self.speak(self, text, integrity)

    @property
    def mark(self) -> TaskMark | None:
        """The mark of the task now, as this process knows it; ``None`` where information flow is off."""
        if self.flow is None:
            return None
        mark = self.flow.mark
        readers = mark.label.readers
        return TaskMark(mark.label.integrity, None if readers is None else frozenset(readers), mark.seq)

    def sign_mark(self) -> str | None:
        """Return what this task has read, as a signed mark for the process that handed it over.

        Send it back with the answer, as the last thing before that; there :meth:`take_mark` takes it. The integrations
        for HTTP and MCP do both.

        Returns:
            The mark; ``None`` for a task that was opened here, without a key of its own, or without information flow.

        Raises:
            EvidenceError: A mark could not be recorded.
            StateError: The shared state cannot be asked.
        """
        return None if self.flow is None or self.holder is None else self.flow.answer(self.holder)

    def take_mark(self, handed: Handed, mark: str | None) -> bool:
        """Take the mark that another process sent back with an answer, before the agent gets the answer.

        Where the processes do not share state, what comes back without such a mark makes the task untrusted.

        Args:
            handed: What was handed out: the bundle, the grants, or the presentation of the call.
            mark: What :meth:`sign_mark` returned there; ``None`` if nothing came.

        Returns:
            Whether it counts: signed by the holder of what was handed out, and for this call.

        Raises:
            EvidenceError: It could not be recorded; the agent must not get the answer.
        """
        return self.exports.take_mark(self, handed.tokens, getattr(handed, "proof", None), mark)

    def end(self) -> None:
        """End the task and everything delegated under it, at once and in every thread; idempotent."""
        self.close(self)
