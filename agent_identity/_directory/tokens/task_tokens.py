"""The tokens of tasks for other services: judged, recorded, cached, and dropped with their task.

Requesting a token is an action like any other: the scope must cover the tool ``token_exchange`` with the audience,
the policy may judge it, and intent and outcome are in the ledger. A cached token was judged before; taking it again
only checks that the task still lives.
"""

import logging
import threading
import time
import weakref
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from typing import Final, NamedTuple, TypeAlias, TypeGuard, cast, final

from agent_identity._authority.tokens.downstream import DownstreamToken
from agent_identity._authority.tokens.source import IssuedToken, TokenOrder, TokenSource, check_order, check_scope
from agent_identity._guard.calls.call import Call, CallRequest, Shown
from agent_identity._guard.common.failures import error_type, safe_message
from agent_identity._guard.judging.context import EnforcementContext
from agent_identity._guard.judging.guard import Guard
from agent_identity._guard.lifecycle.guarded_call import Body, GuardedCall
from agent_identity._guard.tasks.task import REVOKE_SECONDS, Task
from agent_identity._guard.tasks.task_context import Process, attached
from agent_identity._identity.common.ids import Ids, uuid_of
from agent_identity._identity.keys.jwt_keys import JwtAlgorithm, JwtKey
from agent_identity._policy.decision.request import Tool
from agent_identity.errors import Denied, ExchangeError, NoTask

_LOG: Final = logging.getLogger("agent_identity")
_NS: Final = 1_000_000_000

TOOL: Final = "token_exchange"
"""The tool that a scope must name for tokens; its arguments are audience, resource and scope."""

SKEW: Final = 30
"""Seconds before expiry at which a cached token is replaced, or a quarter of its lifetime if that is less."""

MAX_TOKENS: Final = 256
"""Maximum number of different tokens of one task at a time."""

_WAIT_SECONDS: Final = 0.5

_Key: TypeAlias = tuple[str, str | None, tuple[str, ...]]
_Revoke: TypeAlias = Callable[[float], None]


class _Cached(NamedTuple):
    token: DownstreamToken
    renew_wall: int
    renew_monotonic_ns: int


@final
class _Flight:
    """One token request under way; others that want the same token wait for it."""

    __slots__ = ("done", "error", "leader", "token")

    def __init__(self) -> None:
        self.leader = threading.get_ident()
        self.done = threading.Event()
        self.token: DownstreamToken | None = None
        self.error: ExchangeError | None = None


@final
class TokenService:
    """The token cache of the tasks of one enforcer.

    Args:
        enforcement: The enforcement point.
        source: The token source.
        ids: Source of ids.
    """

    __slots__ = ("_live", "_lock", "enforcement", "guard", "ids", "source")

    def __init__(self, enforcement: EnforcementContext, source: TokenSource, ids: Ids) -> None:
        self.enforcement = enforcement
        self.source = source
        self.ids = ids
        self.guard = GuardedCall(Guard(enforcement, Tool(name=TOOL, kind="token")))
        self._lock = threading.RLock()
        self._live: weakref.WeakSet[TaskTokens] = weakref.WeakSet()

    def open(self) -> "TaskTokens":
        """Return the tokens of a new task: none yet."""
        return TaskTokens(self)

    def add(self, tokens: "TaskTokens") -> None:
        """Track a task with tokens, for :meth:`close`."""
        with self._lock:
            self._live.add(tokens)

    def close(self) -> None:
        """Drop and revoke the tokens of all tasks, within a bounded time."""
        with self._lock:
            live = list(self._live)
        for tokens in live:
            tokens.drop()
        deadline = time.monotonic() + REVOKE_SECONDS
        for tokens in live:
            tokens.settle(max(0.0, deadline - time.monotonic()))


@final
class TaskTokens:
    """The tokens of one task; safe to use from several threads.

    Its locks are reentrant, because a signal handler may end the task while this thread requests a token.
    """

    __slots__ = (
        "__weakref__",
        "_cached",
        "_flights",
        "_home",
        "_keys",
        "_lock",
        "_over",
        "_revokes",
        "_service",
        "_work",
    )

    def __init__(self, service: TokenService) -> None:
        self._service = service
        self._lock = threading.RLock()
        self._home = Process.here
        self._over = False
        self._cached: dict[_Key, _Cached] = {}
        self._flights: dict[_Key, _Flight] = {}
        self._keys: dict[JwtAlgorithm, JwtKey] = {}
        self._revokes: list[tuple[int, _Revoke]] = []
        self._work: threading.Thread | None = None

    def token(
        self, task: Task, audience: str, resource: str | None, scope: str | Iterable[str] | None
    ) -> DownstreamToken:
        """Return a token, from the cache if its lifetime suffices; see :meth:`Task.token`."""
        check_order(audience, resource)
        key = (audience, resource, check_scope(scope))
        if not self._is_here(task):
            return self._exchange(task, key, self._service.source)
        while True:
            flight = self._board(task, key)
            if isinstance(flight, DownstreamToken):
                return flight
            if flight.leader != threading.get_ident():
                token = self._wait(task, flight)
                if token is not None:
                    return token
                continue
            with self._leading(key, flight):
                flight.token = self._exchange(task, key, self._service.source)
            return flight.token

    @contextmanager
    def _leading(self, key: _Key, flight: _Flight) -> Generator[None]:
        """Tell the waiting threads how the request ended."""
        try:
            yield
        except ExchangeError as error:
            flight.error = error
            raise
        finally:
            with self._lock:
                self._flights.pop(key, None)
            flight.done.set()

    def _is_here(self, task: Task) -> bool:
        """Return whether the task is the current one; the object alone gives no authority."""
        return self._service.enforcement.task_context.current() is task

    def _board(self, task: Task, key: _Key) -> DownstreamToken | _Flight:
        """Return the cached token of a live task, else the request under way for it, else a new request."""
        clock = self._service.enforcement.clock
        with self._lock:
            cached = self._cached.get(key)
            if cached is not None:
                fresh = clock.wall_ns() // _NS < cached.renew_wall
                if (
                    fresh
                    and clock.monotonic_ns() < cached.renew_monotonic_ns
                    and _lives(task, self._service.enforcement)
                ):
                    return cached.token
            flight = self._flights.get(key)
            if flight is None:
                flight = self._flights[key] = _Flight()
            elif flight.leader == threading.get_ident():
                raise RuntimeError("the token is requested inside its own request; request it outside the source")
            return flight

    def _wait(self, task: Task, flight: _Flight) -> DownstreamToken | None:
        """Return the token of another thread's request; ``None`` if that was refused, so that this thread asks."""
        while not flight.done.wait(_WAIT_SECONDS):
            self._service.enforcement.check(task)
        if flight.error is not None:
            raise _copy(flight.error)
        return flight.token

    def _exchange(self, task: Task, key: _Key, source: TokenSource) -> DownstreamToken:
        """Request a token under guard: judged, with intent and outcome in the ledger."""
        audience, resource, scope = key
        values: dict[str, object] = {"audience": audience}
        if resource is not None:
            values["resource"] = resource
        if scope:
            values["scope"] = list(scope)
        request, ran = CallRequest(values, can_route=False), list[Call]()

        def issue(call: Call) -> Shown:
            ran.append(call)
            return Shown(self._issue(task, key, source), None)

        try:
            return cast("DownstreamToken", self._guarded(task, request, issue))
        except ExchangeError as error:
            failure = _copy(error)
        except Denied as denied:
            if not ran:
                raise self._refused(task, denied) from None
            self._forget(key)
            raise
        # A new error outside the except block, because frames of the first one hold credentials.
        raise failure

    def _guarded(self, task: Task, request: CallRequest, issue: Body) -> object:
        """Run the request under guard; if another task is current, as a call outside any task."""
        if self._is_here(task):
            return self._service.guard.run(request, issue)
        with attached(self._service.enforcement.task_context.without()):
            return self._service.guard.run(request, issue)

    def _refused(self, task: Task, denied: Denied) -> Denied:
        """Return the refusal for raising; it names the wrong task, if that is the cause."""
        if (
            not isinstance(denied, NoTask)
            or self._is_here(task)
            or self._service.enforcement.task_context.current() is None
        ):
            return denied
        return NoTask(
            f"{TOOL}: the task is not the current one; use enforcer.current_task for tokens",
            decision=denied.decision,
            reference=denied.reference,
        )

    def _issue(self, task: Task, key: _Key, source: TokenSource) -> DownstreamToken:
        enforcement = self._service.enforcement
        # In monitor mode nothing was refused so far; but without a live task no mode gives a token.
        enforcement.check(task)
        wall, monotonic = enforcement.clock.wall_ns(), enforcement.clock.monotonic_ns()
        order = TokenOrder(
            chain=task.chain,
            audience=key[0],
            resource=key[1],
            scope=key[2],
            now=wall // _NS,
            clock=enforcement.clock,
            new_id=self._new_id,
            proof_key=self._key,
        )
        self._make_room(order.now)
        issued = _ask(source, order)
        token = DownstreamToken(
            issued,
            key[0],
            latest=task.expires_at,
            check=lambda: enforcement.check(task),
            now=lambda: enforcement.clock.wall_ns() // _NS,
            new_id=self._new_id,
        )
        life = token.expires_at - order.now
        # A token that ends with the grant is not replaced early: a new one would not live longer.
        left = life if token.expires_at >= task.expires_at else life - min(SKEW, life // 4)
        self._keep(key, _Cached(token, order.now + left, monotonic + left * _NS), issued)
        enforcement.check(task)
        return token

    def _make_room(self, now: int) -> None:
        with self._lock:
            self._cached = {key: cached for key, cached in self._cached.items() if cached.token.expires_at > now}
            self._revokes = [(end, revoke) for end, revoke in self._revokes if end > now]
            if max(len(self._cached), len(self._revokes)) >= MAX_TOKENS:
                raise ExchangeError(
                    f"the task has {MAX_TOKENS} tokens, and can have no more at a time; use fewer audiences",
                    code="exchange_failed",
                )

    def _keep(self, key: _Key, cached: _Cached, issued: IssuedToken) -> None:
        with self._lock:
            if issued.revoke is not None:
                self._revokes.append((issued.expires_at, issued.revoke))
            if not self._over:
                self._cached[key] = cached
        self._service.add(self)
        if self._over:  # The task ended during the request.
            self.drop()

    def _forget(self, key: _Key) -> None:
        with self._lock:
            self._cached.pop(key, None)

    def _new_id(self) -> str:
        return uuid_of(self._service.ids.new(self._service.enforcement.clock.wall_ns()))

    def _key(self, algorithm: JwtAlgorithm) -> JwtKey:
        with self._lock:
            key = self._keys.get(algorithm)
            if key is None:
                key = self._keys[algorithm] = JwtKey.generate(algorithm)
            return key

    def drop(self) -> None:
        """Forget all tokens and begin to revoke them; returns at once. Called at the end of the task."""
        self._over = True
        if self._home is not Process.here:  # A forked child: tokens and lock belong to its parent.
            self._cached, self._revokes = {}, []
            return
        with self._lock:
            self._cached, self._keys = {}, {}
            revokes, self._revokes = [revoke for _, revoke in self._revokes], []
            if not revokes:
                return
            before = self._work
            work = threading.Thread(target=_revoke, args=(revokes, before), name="agent-identity-revoke", daemon=True)
            try:
                work.start()
            except RuntimeError:  # The interpreter shuts down.
                _LOG.warning("%d tokens of a task could not be revoked: the program ends", len(revokes))
                return
            self._work = work

    def settle(self, timeout: float) -> None:
        """Wait until the dropped tokens are revoked, or until the time is over.

        Args:
            timeout: Seconds.
        """
        work = self._work
        if work is not None and self._home is Process.here:
            work.join(timeout)


def _lives(task: Task, enforcement: EnforcementContext) -> bool:
    try:
        enforcement.check(task)
    except Denied:
        return False  # The guard will refuse, and record it.
    return True


def _ask(source: TokenSource, order: TokenOrder) -> IssuedToken:
    """Return the token of the source, or an error that quotes nothing of it."""
    try:
        issued: object = source.issue(order)
    except ExchangeError:
        raise
    except Exception as error:  # noqa: BLE001  Exceptions of a source or the application's function may quote tokens.
        _LOG.error("a source of tokens failed: %s", safe_message(error))
        failure = f"the source of tokens failed with {error_type(error)}; see the log"
    else:
        if _is_issued(issued) and issued.expires_at > order.now:
            return issued
        failure = "the source of tokens returned no unexpired IssuedToken; return one"
    raise ExchangeError(failure, code="exchange_failed")


def _is_issued(token: object) -> TypeGuard[IssuedToken]:
    return isinstance(token, IssuedToken)


def _copy(error: ExchangeError) -> ExchangeError:
    """Return the same error without its traceback frames."""
    return ExchangeError(str(error), code=error.code, reason=error.reason)


def _revoke(revokes: list[_Revoke], before: threading.Thread | None) -> None:
    """Revoke tokens, best effort: they expire by themselves soon."""
    deadline = time.monotonic() + REVOKE_SECONDS
    if before is not None:
        before.join(REVOKE_SECONDS)
    for done, revoke in enumerate(revokes):
        left = deadline - time.monotonic()
        if left <= 0:
            _LOG.warning("%d tokens of a task could not be revoked in time", len(revokes) - done)
            return
        try:
            revoke(left)
        except Exception as error:  # noqa: BLE001  As above: only the kind may be logged.
            kind = error.code if isinstance(error, ExchangeError) else error_type(error)
            _LOG.warning("a token of a task could not be revoked: %s", kind)
