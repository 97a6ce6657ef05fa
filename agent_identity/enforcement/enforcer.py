"""The enforcement point: where identity, authority, policy and evidence meet at run time."""

import dataclasses
import os
import weakref
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from types import MappingProxyType, TracebackType
from typing import Final, Literal, ParamSpec, Self, TypeVar, final, overload

from opentelemetry.trace import TracerProvider

from agent_identity.authority import Scope, TaskRegistry
from agent_identity.enforcement.action import Action
from agent_identity.enforcement.ambience import Ambience
from agent_identity.enforcement.directory import check_keys, open_directory
from agent_identity.enforcement.guard import Guard
from agent_identity.enforcement.opening import Opening, Tasks, check_delegate, check_parties, current_or_refuse
from agent_identity.enforcement.point import Mode, Point, policy_claim
from agent_identity.enforcement.task import Task
from agent_identity.enforcement.telemetry import Spans
from agent_identity.enforcement.wrap import guarded
from agent_identity.errors import ConfigurationError
from agent_identity.evidence import DigestKeys, Ledger
from agent_identity.identity import (
    Agent,
    Clock,
    Ids,
    Principal,
    PublicKey,
    RandomIds,
    Signer,
    SigningKey,
    SystemClock,
    TrustStore,
    check_id,
)
from agent_identity.policy import Inspector, Policy, RuleSet, Tool
from agent_identity.version import VERSION

__all__ = ["Enforcer"]

P = ParamSpec("P")
R = TypeVar("R")

DEFAULT_TTL: Final = timedelta(minutes=5)
_NS: Final = 1_000_000_000
_GUARDED: Final = "__agent_identity_guard__"
_ENFORCERS: Final["weakref.WeakSet[Enforcer]"] = weakref.WeakSet()


@final
class Enforcer:
    """Guards tools, opens tasks and keeps the evidence. Safe to share between threads.

    Most programs use :meth:`open`. The constructor takes the parts one by one, for keys held
    elsewhere or another ledger.

    Args:
        issuer: Signs root grants.
        recorder: Signs the records on spans; the key that signs the ledger's checkpoints.
        trust: Public keys; must hold those of issuer and recorder, and the issuer's URI.
        ledger: Keeps the records; closed by :meth:`close`.
        digests: Keys of argument and result digests.
        policy: Judges each call; without one the grant alone decides.
        routes: Handlers by name for calls that the policy routes. A handler gets the
            :class:`~agent_identity.enforcement.Call` and returns in place of the body.
        inspectors: Look at arguments and results; what they find is put to the policy.
        mode: ``"enforce"``, or ``"monitor"`` to let everything run and record what would have happened.
        tracer_provider: Where spans go; by default the global provider, as it is at call time.
        sealing: ``"background"`` signs records off the caller's path, ``"inline"`` on it.
        clock: Source of time.
        ids: Source of ids.
        new_key: Makes the key that holds a grant and proves its possession; by default one in memory.

    Raises:
        ConfigurationError: The parts do not fit together.
    """

    def __init__(
        self,
        *,
        issuer: Signer,
        recorder: Signer,
        trust: TrustStore,
        ledger: Ledger,
        digests: DigestKeys,
        policy: Policy | None = None,
        routes: Mapping[str, Callable[..., object]] | None = None,
        inspectors: Sequence[Inspector] = (),
        mode: Mode = "enforce",
        tracer_provider: TracerProvider | None = None,
        sealing: Literal["background", "inline"] = "background",
        clock: Clock | None = None,
        ids: Ids | None = None,
        new_key: Callable[[], Signer] = SigningKey.generate,
    ) -> None:
        time = clock or SystemClock()
        issuer_name = _check_parts(mode, sealing, issuer, recorder, trust, now=time.wall_ns() // _NS)
        self._point = Point(
            ledger=ledger,
            digests=digests,
            spans=Spans(recorder, tracer_provider, VERSION),
            clock=time,
            ambience=Ambience(),
            policy=policy,
            routes=MappingProxyType(dict(routes or {})),
            inspectors=tuple(inspectors),
            mode=mode,
            inline=sealing == "inline",
        )

        def anchor(thumbprint: str) -> PublicKey:
            return trust.find(thumbprint, "issuer", at=time.wall_ns() // 1_000_000_000)

        self._registry = TaskRegistry()
        self._tasks = Tasks(self._point, self._registry, issuer, issuer_name, anchor, ids or RandomIds(), new_key)
        self._closed = False
        self._point.spans.examine()
        _ENFORCERS.add(self)
        _record_policy(ledger, policy, time)

    @classmethod
    def open(
        cls,
        directory: str | os.PathLike[str],
        *,
        policy: Policy | str | os.PathLike[str] | None = None,
        routes: Mapping[str, Callable[..., object]] | None = None,
        inspectors: Sequence[Inspector] = (),
        mode: Mode = "enforce",
        tracer_provider: TracerProvider | None = None,
        sync: Literal["process", "disk"] = "process",
        sealing: Literal["background", "inline"] = "background",
        signer: str | None = None,
        clock: Clock | None = None,
        ids: Ids | None = None,
    ) -> Self:
        """Open an enforcer on a directory; keys, trust file and ledger are created on first use.

        Several processes may open the same directory; each writes a stream of its own.

        Args:
            directory: Where keys, ``trust.json`` and the ledger live.
            policy: A policy, or the path of a policy file.
            routes: See :class:`Enforcer`.
            inspectors: See :class:`Enforcer`.
            mode: See :class:`Enforcer`.
            tracer_provider: See :class:`Enforcer`.
            sync: ``"process"``: a record survives the death of the process; ``"disk"``: power loss too.
            sealing: See :class:`Enforcer`.
            signer: ``"unix:PATH"``, the socket of an ``agent-identity signer`` that holds the keys in place of
                the directory.
            clock: See :class:`Enforcer`.
            ids: See :class:`Enforcer`.

        Raises:
            ConfigurationError: Keys, trust file, package or platform are unusable.
            PolicyFormatError: The policy file is malformed; nothing runs under half a policy.
            EvidenceError: The ledger cannot be written.
        """
        judge = RuleSet.load(policy) if isinstance(policy, str | os.PathLike) else policy
        time, source = clock or SystemClock(), ids or RandomIds()
        found = open_directory(directory, clock=time, ids=source, sync=sync, signer=signer)
        try:
            return cls(
                issuer=found.issuer,
                recorder=found.recorder,
                trust=found.trust,
                ledger=found.ledger,
                digests=found.digests,
                policy=judge,
                routes=routes,
                inspectors=inspectors,
                mode=mode,
                tracer_provider=tracer_provider,
                sealing=sealing,
                clock=time,
                ids=source,
            )
        except BaseException:
            found.ledger.close()
            raise

    def task(
        self,
        purpose: str,
        *,
        principal: Principal,
        agent: Agent,
        scope: Scope,
        ttl: timedelta = DEFAULT_TTL,
        max_depth: int = 3,
    ) -> Opening:
        """Return a context manager that opens a task; works with ``with`` and ``async with``.

        A task inside a task is a task of its own: it takes nothing from the outer one, and its end
        leaves the outer one as it was.

        Args:
            purpose: What the task is for, 1 to 256 characters; it stands in the records.
            principal: On whose behalf the agent acts.
            agent: Who acts; its owner is accountable for it.
            scope: Tools and arguments that the task may use.
            ttl: The authority ends after this time at the latest; from 1 second to 1 day.
            max_depth: How many times the authority may be delegated on, 0 to 32.

        Raises:
            TypeError: A party or the scope is of another type.
            ValueError: Purpose, ttl or max_depth is out of range.
        """
        self._refuse_closed()
        check_parties(principal, agent, scope)
        return Opening(
            self._point,
            purpose,
            lambda: self._tasks.open_root(purpose, principal, agent, scope, ttl=ttl, max_depth=max_depth),
        )

    def delegate(
        self, agent: Agent, *, scope: Scope, purpose: str | None = None, ttl: timedelta | None = None
    ) -> Opening:
        """Return a context manager that hands a part of the current task to another agent.

        Args:
            agent: The agent that acts inside the block.
            scope: A narrower or equal scope.
            purpose: What this part is for; by default the purpose of the current task.
            ttl: A shorter life; by default what is left of the current task's.

        Raises:
            NoTask: On entry: there is no live task to delegate from.
            AttenuationError: On entry: the scope is wider, or the depth is used up.
            TypeError: Agent or scope is of another type.
        """
        self._refuse_closed()
        check_delegate(agent, scope)

        def make() -> Task:
            parent = current_or_refuse(self._point)
            return self._tasks.open_child(parent, purpose or parent.purpose, agent, scope, ttl=ttl)

        return Opening(self._point, purpose, make)

    @property
    def current_task(self) -> Task | None:
        """The task of the current context, alive or not; ``None`` outside any."""
        return self._point.ambience.current()

    def guard(
        self,
        name: str,
        *,
        kind: str = "function",
        server: str | None = None,
        labels: Sequence[str] = (),
        data: Sequence[str] = (),
        outcome_of: Callable[[BaseException], str | None] | None = None,
    ) -> Guard:
        """Return the guard of one tool, for integrations that find their own way to the body.

        Args:
            name: The name that scopes and policies know the tool by.
            kind: ``function``, ``mcp``, ``http``, …
            server: Where a remote tool runs.
            labels: Labels of the tool for the policy.
            data: Labels of the data that it touches.
            outcome_of: Names the outcome of exceptions that are no errors.

        Raises:
            TypeError: The name, kind or server is no ``str``.
            ValueError: It has not 1 to 256 visible characters, so that no record could hold it.
        """
        self._refuse_closed()
        for what, text in (("the name of a tool", name), ("its kind", kind), ("its server", server)):
            if text is not None:
                check_id(text, what)
        tool = Tool(name=name, kind=kind, server=server, labels=tuple(labels))
        return Guard(self._point, tool, data=tuple(data), outcome_of=outcome_of)

    @overload
    def tool(self, function: Callable[P, R], /) -> Callable[P, R]: ...

    @overload
    def tool(
        self,
        /,
        *,
        name: str | None = None,
        data: Sequence[str] = (),
        kind: str = "function",
        labels: Sequence[str] = (),
    ) -> Callable[[Callable[P, R]], Callable[P, R]]: ...

    def tool(
        self,
        function: Callable[..., object] | None = None,
        /,
        *,
        name: str | None = None,
        data: Sequence[str] = (),
        kind: str = "function",
        labels: Sequence[str] = (),
    ) -> object:
        """Guard a function; a decorator with and without arguments.

        Works on functions, coroutine functions, generator functions and async generator functions;
        signature and types stay. A generator is judged when it is first advanced, under the task in
        which it was created, and again at every step.

        Args:
            function: The function.
            name: The tool's name; by default the function's.
            data: Labels of the data that the tool touches.
            kind: What the tool is, for the policy.
            labels: Labels of the tool, for the policy.

        Raises:
            ConfigurationError: The function is guarded already, by this or another enforcer.
        """

        def decorate(inner: Callable[..., object]) -> Callable[..., object]:
            if isinstance(inner, staticmethod | classmethod | property):
                raise ConfigurationError("expected a function; put enforcer.tool below @staticmethod and the like")
            if hasattr(inner, _GUARDED):
                raise ConfigurationError("expected an unguarded function, got a guarded one; guard it once")
            guard = self.guard(name or _name(inner), kind=kind, labels=labels, data=data)
            wrapper = guarded(guard, inner)
            setattr(wrapper, _GUARDED, True)
            return wrapper

        return decorate if function is None else decorate(function)

    def action(self, name: str, /, **arguments: object) -> Action:
        """Return a guarded block: ``with enforcer.action("http_get", url=url) as call: ...``.

        The block uses ``call.arguments`` (the checked snapshot) and sets ``call.result``. A refused or
        routed call raises before the block.

        Args:
            name: The tool's name.
            arguments: What the block is about to use.
        """
        return Action(self.guard(name), arguments)

    def bind(self, function: Callable[P, R]) -> Callable[P, R]:
        """Return the function bound to the current task, for threads, executors and callbacks.

        Authority does not enter threads by itself. It still ends with the task.
        """
        return self._point.ambience.bind(function)

    def close(self) -> None:
        """End all tasks, seal the ledger and close it; idempotent."""
        self._closed = True
        self._registry.end_all()
        self._point.ledger.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def after_fork_in_child(self) -> None:
        """Leave the tasks to the parent. Called by the interpreter in each forked child."""
        # A fresh registry, and fresh locks for what is left of the old one, because another thread of the
        # parent may have held them.
        self._registry.after_fork_in_child()
        self._registry = TaskRegistry()
        self._tasks = dataclasses.replace(self._tasks, registry=self._registry)
        self._point.ambience.renew()

    def _refuse_closed(self) -> None:
        if self._closed:
            raise ConfigurationError("expected an open enforcer, got a closed one; open it again")


def _check_parts(mode: str, sealing: str, issuer: Signer, recorder: Signer, trust: TrustStore, *, now: int) -> str:
    """Check that the parts fit together and return the issuer's URI.

    Raises:
        ConfigurationError: They do not.
    """
    if mode not in ("enforce", "monitor"):
        raise ConfigurationError("expected mode='enforce' or mode='monitor'")
    if sealing not in ("background", "inline"):
        raise ConfigurationError("expected sealing='background' or sealing='inline'")
    if trust.issuer is None or trust.get(issuer.public_key.thumbprint, "issuer") is None:
        raise ConfigurationError("expected the issuer's URI and key in the trust store; add them to it")
    if trust.get(recorder.public_key.thumbprint, "recorder") is None:
        raise ConfigurationError("expected the recorder's key in the trust store; add it to it")
    check_keys(issuer.public_key, recorder.public_key, trust, now)
    return trust.issuer


def _after_fork_in_child() -> None:
    for enforcer in list(_ENFORCERS):
        enforcer.after_fork_in_child()


if hasattr(os, "register_at_fork"):  # pragma: no branch  Absent on Windows, where nothing forks.
    os.register_at_fork(after_in_child=_after_fork_in_child)


def _record_policy(ledger: Ledger, policy: Policy | None, clock: Clock) -> None:
    if policy is None:
        return
    ledger.append("policy", {"policy": policy_claim(policy), "time": {"start": str(clock.wall_ns())}})


def _name(function: object) -> str:
    name = getattr(function, "__name__", None)
    if not isinstance(name, str):
        raise ConfigurationError("expected a function with a name; give one with enforcer.tool(name=...)")
    return name
