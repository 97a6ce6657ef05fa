"""Guards of the tools that a framework calls; shared by the adapters in this folder but for A2A.

An adapter installs itself at the outermost hook of its framework, describes each call as a :class:`ToolCall`, and
answers a refusal in the framework's own form. The steps of a call are those of
:class:`~agent_identity.adapters.GuardedCall`.
"""

import logging
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterable, Mapping
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import is_dataclass
from functools import lru_cache, partial
from typing import Final, NamedTuple, cast, final

from agent_identity._authority.grants.scope import Scope
from agent_identity._directory.adapting.prompts import Part, account, join_prompt
from agent_identity._directory.enforcer import Enforcer
from agent_identity._guard.calls.call import Call, CallRequest, Shown
from agent_identity._guard.common.failures import refusal, safe_message
from agent_identity._guard.common.leaving import Leaving
from agent_identity._guard.common.threads import off_loop
from agent_identity._guard.lifecycle.callables import guard_of
from agent_identity._guard.lifecycle.deferred_results import nature_of
from agent_identity._guard.lifecycle.guarded_call import GuardedCall
from agent_identity._guard.lifecycle.tool_options import ToolOptions
from agent_identity._guard.tasks.task import Task
from agent_identity._identity.common.tool_names import tool_name
from agent_identity._identity.principals.principals import Agent
from agent_identity._inspection.document import is_readable
from agent_identity.errors import AttenuationError, ConfigurationError, Denied

Acting = Mapping[str, Agent | tuple[Agent, Scope]]
"""The governed agent for each name that a framework gives to its agents, with a scope if it is to have less."""

Declared = Mapping[str, ToolOptions]
"""The declarations of tools by name: ``server/tool`` where a server offers it."""

UNNAMED: Final = "unnamed_tool"
"""The name on record of a tool whose name, written by a model, is unfit for records."""

_LOG: Final = logging.getLogger("agent_identity")
_MAX_GUARDS: Final = 1_024
_MAX_NAMES: Final = 256
_READ: Final = (str, bytes, bytearray, int, float, type(None), Shown)
_CONTAINERS: Final = (dict, list, tuple, set, frozenset)


class Prompt(NamedTuple):
    """The prompt of a model call and the contents of its answer, for information flow. Frozen.

    Attributes:
        parts: Returns the parts of the prompt.
        contents: Returns the contents of an answer, in their form in later prompts.
        is_provided: Returns whether the provider of the model may run its own tools, whose results are in answers.
    """

    parts: Callable[[], Iterable[Part]]
    contents: Callable[[object], Iterable[object]]
    is_provided: Callable[[], bool] = bool


def _itself(result: object) -> Iterable[object]:
    """Return a result in its forms in prompts: itself, and its text."""
    return (result,) if isinstance(result, str) else (result, str(result))


class ToolCall(NamedTuple):
    """One call of a tool, as a framework asks for it. Frozen.

    Attributes:
        name: The name of the tool in scopes and records: :func:`tool_name`.
        request: The arguments as the body is to get them, and the rest of the request.
        acting: The framework's name of the agent that calls; ``None`` if the framework does not tell.
        kind: The kind of the tool: ``function``, ``mcp``, ``agent``, ….
        server: The name of the MCP server of the tool, if it has one.
        schema: The JSON Schema of the arguments, to compare declarations with; ``None`` if it is unknown.
        prompt: The prompt, for calls of models.
        contents: Returns the contents of a result of the tool, in their form in prompts.
        function: The function that the body calls, if it is known. If it is under :meth:`Enforcer.tool` of the same
            enforcer, it keeps its own guard and declarations, so one call makes one record.
        is_seen: A model asked for the call in a turn that the open task has seen; see :meth:`ToolGuards.saw`.
        description: The description of the tool, for spans; ``None`` if it has none.
    """

    name: str
    request: CallRequest
    acting: str | None = None
    kind: str = "function"
    server: str | None = None
    schema: Mapping[str, object] | None = None
    prompt: Prompt | None = None
    contents: Callable[[object], Iterable[object]] = _itself
    function: object = None
    is_seen: bool = False
    description: str | None = None

    @property
    def own(self) -> str:
        """The name of the tool as the framework has it."""
        return self.name if self.server is None else self.name.removeprefix(tool_name(self.server, ""))


class _Other(NamedTuple):
    """An agent that is not the one of the open task, with the scope that it is to have. Frozen."""

    agent: Agent
    scope: Scope
    task: Task


@final
class ToolGuards:
    """Guards the calls of the tools of one framework. Thread-safe.

    Args:
        enforcer: The enforcer. A task must be open around each run.
        agents: The governed agent for each name that the framework gives to its agents. A call of such an agent runs
            under authority that the task delegates to it for that call. Other names act as the agent of the task.
        suspends: Exceptions by which a tool leaves to be called again; see :meth:`Enforcer.guard`.
        returns: Exceptions of a tool that carry a result; see there.
        workflow: Names the run or conversation of the framework; see there.
        names_run: The workflow names a single run, so spans do not show it as a conversation.
        thread: Names what goes on in later tasks; see there.
        tool_options: Declarations of tools, by their name in scopes and policies. Names that belong to no guarded tool
            when a task ends are logged.
        model: The name of model calls or prompts in scopes and rules; ``None`` if no prompt is guarded.
        principal_messages: Count messages of people in prompts as the principal's own words. With information flow,
            other parts of a prompt that no guard of the task delivered have unknown integrity.

    Raises:
        TypeError: Enforcer, agents or options are of another type.
        ValueError: ``model`` does not have 1 to 256 visible characters.
        ConfigurationError: ``principal_messages`` is given without ``model``.
    """

    __slots__ = (
        *(
            "_agents",
            "_are_principals",
            "_enforcer",
            "_expected",
            "_follows_flow",
            "_guards",
            "_lock",
            "_make",
            "_may_suspend",
        ),
        "_names_run",
        *("_options", "_own", "_seen", "_stated", "_unchecked"),
    )

    def __init__(
        self,
        enforcer: Enforcer,
        *,
        agents: Acting | None = None,
        suspends: Leaving = (),
        returns: Leaving = (),
        workflow: Callable[[], str | None] | None = None,
        names_run: bool = False,
        thread: Callable[[], str | None] | None = None,
        tool_options: Declared | None = None,
        model: str | None = None,
        principal_messages: bool = False,
    ) -> None:
        if not isinstance(cast("object", enforcer), Enforcer):
            raise TypeError(f"enforcer is {type(enforcer).__name__}; pass an Enforcer")
        if not isinstance(cast("object", principal_messages), bool):
            raise TypeError(f"principal_messages is {type(principal_messages).__name__}; pass True or False")
        if model is not None:
            enforcer.guard(model, kind="model")  # Checks the name.
        elif principal_messages:
            raise ConfigurationError(
                "principal_messages=True counts nothing where no prompts are guarded; name them, by model= or prompts="
            )
        self._agents = {name: _delegate(name, agent) for name, agent in (agents or {}).items()}
        self._enforcer = enforcer
        self._make = partial(enforcer.guard, suspends=suspends, returns=returns, workflow=workflow, thread=thread)
        self._names_run, self._own = names_run, self._make(UNNAMED)
        self._follows_flow = self._own.follows_flow
        self._may_suspend = self._own.can_suspend
        if self._follows_flow and thread is None:
            _warn_of_threads()
        self._options = _checked(tool_options)
        self._stated = (dict(self._agents), self._options, model, principal_messages)
        self._expected = set(self._options)
        self._are_principals = principal_messages
        self._guards: dict[tuple[str, str, str | None], GuardedCall] = {}
        self._lock = threading.Lock()
        self._seen: set[str] = set()
        self._unchecked: set[tuple[str, str, str | None]] = set()

    @property
    def enforcer(self) -> Enforcer:
        """The enforcer."""
        return self._enforcer

    @property
    def agents(self) -> Mapping[str, tuple[Agent, Scope | None]]:
        """The governed agents, with the scopes of those that have less, by the framework's names."""
        return self._agents

    @property
    def are_principals(self) -> bool:
        """True if messages of people are the principal's own words."""
        return self._are_principals

    @property
    def may_suspend(self) -> bool:
        """True if a call may be suspended for an approval; see :meth:`GuardedCall.waits_async`."""
        return self._may_suspend

    def of(
        self,
        name: str,
        *,
        kind: str = "function",
        server: str | None = None,
        schema: Mapping[str, object] | None = None,
        function: object = None,
        description: str | None = None,
    ) -> GuardedCall:
        """Return the guard of a tool; tools whose names are unfit for records share one.

        Args:
            name: The name of the tool.
            kind: As in :class:`ToolCall`.
            server: As there.
            schema: As there.
            function: As there.
            description: As there.

        Raises:
            ConfigurationError: Declarations of the tool name an argument that it does not have, or the function has
                its own.
        """
        own = None if function is None else guard_of(function)
        if own is not None and own.shares_enforcer(self._own):
            if name in self._expected and self._options[name].are_about(kind, server):
                self._report(f"{name}: a function under enforcer.tool declares itself; remove it from tool_options=")
                self._expected.discard(name)
            return own
        key = name, kind, server
        guard = self._guards.get(key)
        if guard is None or (schema is not None and key in self._unchecked):
            guard = self._made(name, kind, server, schema, description)
            with self._lock:
                if len(self._guards) >= _MAX_GUARDS:  # A model may make up names.
                    self._guards.clear()
                self._guards[key] = guard
        return guard

    def options_of(self, name: str) -> ToolOptions | None:
        """Return what is declared for a tool; ``None`` for nothing.

        Args:
            name: The name of the tool.
        """
        return self._options.get(name)

    def agree(self, other: "ToolGuards", name: str) -> None:
        """Check that other guards of a tool of these declare the same for it.

        Args:
            other: The guards, of the same enforcer.
            name: The name of the tool.

        Raises:
            ConfigurationError: They do not, and what one of the two declares would not count.
        """
        if self.options_of(name) != other.options_of(name):
            self._report(f"{name}: the tool is guarded with other tool_options already; pass equal ones, or a new tool")

    def is_like(self, other: "ToolGuards") -> bool:
        """Return whether other guards have the same enforcer and equal options, so that both are one.

        Args:
            other: The guards.
        """
        return self._enforcer is other.enforcer and self._stated == other._stated  # noqa: SLF001  Of the same class.

    def refuse_second(self, second: "ToolGuards", owner: str) -> None:
        """Report that an agent has second guards besides these, with an enforcer or options of their own.

        Args:
            second: The second guards.
            owner: The agent, for the message.

        Raises:
            ConfigurationError: It has. If both are in monitor mode, this is logged, and the first ones count.
        """
        strict = self if self._enforcer.mode == "enforce" else second
        strict._report(  # noqa: SLF001  As above.
            f"{owner} has a second guard, whose options would not count; give it one, with the options of both"
        )

    def adopt(self, other: "ToolGuards", name: str) -> None:
        """Take over what other guards declare for a tool that these share with them, if these declare nothing for it.

        Args:
            other: The guards, of the same enforcer.
            name: The name of the tool.
        """
        options = other.options_of(name)
        if options is None or name in self._options:
            return
        with self._lock:
            self._options = {**self._options, name: options}
            self._guards = {key: guard for key, guard in self._guards.items() if key[0] != name}

    def saw(self, calls: Iterable[object]) -> None:
        """Know the ids of calls that a model has just asked for: calls of other turns have unknown integrity.

        Args:
            calls: The ids.
        """
        task = self._enforcer.current_task
        if task is not None and task.flow is not None:
            task.flow.shared.saw([call for call in calls if isinstance(call, str)])

    def run(self, asked: ToolCall, body: Callable[[Call], object]) -> object:
        """Run a body under guard, as the agent that calls.

        Args:
            asked: The call.
            body: Runs if the call may; it must use the arguments of the call that it gets.

        Raises:
            Denied: The call is refused, or its result withheld; the ledger has it.
            EvidenceError: The call could not be recorded, and did not run.
        """
        if not self._follows_flow or (task := self._enforcer.current_task) is None:
            return self._acted(asked, body)
        self._join(task, asked)
        with self._accounting(task, asked) as read:
            return read(self._acted(asked, body))

    async def run_async(self, asked: ToolCall, body: Callable[[Call], Awaitable[object]]) -> object:
        """Do what :meth:`run` does without blocking the event loop."""
        if not self._follows_flow or (task := self._enforcer.current_task) is None:
            return await self._acted_async(asked, body)
        if asked.prompt is not None:
            await off_loop(partial(self._join, task, asked))
        with self._accounting(task, asked) as read:
            return read(await self._acted_async(asked, body))

    def _acted(self, asked: ToolCall, body: Callable[[Call], object]) -> object:
        """Run a body under guard, as the agent that calls."""
        if self._other(asked.acting) is None:
            return _run(self.guard_of_call(asked), asked, body)
        with self.acting(asked) as guard:
            return _run(guard, asked, body)

    async def _acted_async(self, asked: ToolCall, body: Callable[[Call], Awaitable[object]]) -> object:
        if self._other(asked.acting) is None:
            return await _run_async(self.guard_of_call(asked), asked, body)
        async with self.acting_async(asked) as guard:
            return await _run_async(guard, asked, body)

    @contextmanager
    def acting(self, asked: ToolCall) -> Generator[GuardedCall]:
        """Act as the agent that calls, for the time of a block, and give the guard of the tool.

        For adapters that take the steps of a call themselves; :meth:`run` is the whole of it.

        Raises:
            Denied: The agent may not act; the refusal is in the ledger.
        """
        guard, other = self.guard_of_call(asked), self._other(asked.acting)
        with ExitStack() as stack:
            if other is not None:
                try:
                    stack.enter_context(self._enforcer.delegate(other.agent, scope=other.scope))
                except (Denied, AttenuationError) as error:
                    if not self._is_tolerated(guard, error):
                        raise self._refused(guard, asked, error, other.task) from None
            yield guard

    @asynccontextmanager
    async def acting_async(self, asked: ToolCall) -> AsyncGenerator[GuardedCall]:
        """Do what :meth:`acting` does without blocking the event loop."""
        guard, other = self.guard_of_call(asked), self._other(asked.acting)
        async with AsyncExitStack() as stack:
            if other is not None:
                try:
                    await stack.enter_async_context(self._enforcer.delegate(other.agent, scope=other.scope))
                except (Denied, AttenuationError) as error:
                    if not self._is_tolerated(guard, error):
                        refuse = partial(self._refused, guard, asked, error, other.task)
                        raise await off_loop(refuse) from None
            yield guard

    def join(self, asked: ToolCall) -> None:
        """Lower the mark of the task for parts of a prompt that nobody accounted for; call it before :meth:`acting`.

        For adapters that take the steps of a model call themselves; :meth:`run` does this itself.

        Args:
            asked: The call.

        Raises:
            EvidenceError: The mark could not be recorded; do not call the model.
        """
        task = self._enforcer.current_task
        if task is not None:
            self._join(task, asked)

    def _join(self, task: Task, asked: ToolCall) -> None:
        """Lower the mark of a task for parts of the prompt that nobody accounted for.

        Raises:
            EvidenceError: The mark could not be recorded; do not call the model.
        """
        prompt = asked.prompt
        if prompt is not None:
            parts, is_provided = _read(prompt, asked.name)
            join_prompt(task, parts, are_principals=self._are_principals, is_provided=is_provided)

    @contextmanager
    def _accounting(self, task: Task, asked: ToolCall) -> Generator[Callable[[object], object]]:
        """Register the contents that a call delivers, or the text of its refusal or error, for later prompts."""

        def read(result: object) -> object:
            try:
                if nature_of(type(result)) is None:  # Other results are still to run.
                    account(task, asked.contents(result) if asked.prompt is None else asked.prompt.contents(result))
            except Exception as error:  # noqa: BLE001 - The tool has run; unregistered contents only lower the mark.
                _LOG.warning(
                    "cannot account for the result of %s, which may lower the mark: %s", asked.name, safe_message(error)
                )
            return result

        try:
            yield read
        except Denied as denied:
            account(task, (refusal(denied),))
            raise
        except Exception as error:  # The ledger already has its effect on the mark.
            with suppress(Exception):  # It may have no text; the caller gets the error of the tool.
                account(task, (str(error),))
            raise

    def guard_of_call(self, asked: ToolCall) -> GuardedCall:
        """Return the guard of the tool of a call.

        Args:
            asked: The call.
        """
        if asked.is_seen:
            self.saw((asked.request.call_id,))
        function = None if asked.request.refusal is not None else asked.function
        return self.of(
            asked.name,
            kind=asked.kind,
            server=asked.server,
            schema=asked.schema,
            function=function,
            description=asked.description,
        )

    def _other(self, acting: str | None) -> _Other | None:
        """Return the agent that calls, if the open task must delegate to it; ``None`` where the task's agent acts."""
        if acting is None or acting in self._seen:
            return None
        task = self._enforcer.current_task
        if task is None:
            return None  # Outside any task the guard refuses.
        known = self._agents.get(acting)
        if known is None:
            self._warn(acting, task)
            return None
        agent, scope = known
        return _Other(agent, scope or task.scope, task) if agent != task.agent or scope is not None else None

    def _warn(self, name: str, task: Task) -> None:
        """Log once for each name that its calls are those of the agent of the task."""
        if name == task.agent.id or len(self._seen) >= _MAX_NAMES:
            return
        first = not self._seen
        self._seen.add(name)
        if self._agents or not first:  # The only agent of a run is the agent of the task, whatever it is called there.
            _LOG.warning(
                "calls of the agent %r are recorded as those of the agent of the task; name it in agents=", name
            )

    @staticmethod
    def _is_tolerated(guard: GuardedCall, error: Denied | AttenuationError) -> bool:
        """Return whether a call goes on as the agent of the task: in monitor mode nothing is refused."""
        if guard.mode == "enforce":
            return False
        _LOG.warning("monitor mode: a call goes on without delegation (%s)", error.code)
        return True

    @staticmethod
    def _refused(guard: GuardedCall, asked: ToolCall, error: Denied | AttenuationError, task: Task) -> Denied:
        """Return the refusal of a call whose agent may not act, recorded under the open task."""
        denied = error if isinstance(error, Denied) else Denied(str(error), code=error.code)
        return denied if denied.reference else guard.refuse(asked.request.arguments, denied, task)

    def _made(
        self, name: str, kind: str, server: str | None, schema: Mapping[str, object] | None, description: str | None
    ) -> GuardedCall:
        options = self._options.get(name, _NOTHING)
        if not options.are_about(kind, server):
            options = _NOTHING
        try:
            described = description if isinstance(description, str) else None
            guard = options.guard(
                self._make,
                name,
                kind=kind,
                server=server,
                schema=schema,
                description=described,
                names_run=self._names_run,
            )
        except (TypeError, ValueError):  # A model wrote the name, and it is unfit for records.
            return self._make(UNNAMED)
        if options is not _NOTHING:
            self._check(options, name, schema)
            known = self._unchecked.add if schema is None else self._unchecked.discard
            known((name, kind, server))  # Nobody has compared the arguments where the schema was not known.
            self._expected.discard(name)
        guard.declare()
        if self._expected and not self._guards:
            guard.expect(self._expected)
        return guard

    def _check(self, options: ToolOptions, name: str, schema: Mapping[str, object] | None) -> None:
        """Compare declarations with the arguments of a tool.

        Raises:
            ConfigurationError: They name an argument that the tool does not have.
        """
        try:
            options.check(name, schema)
        except ConfigurationError as error:
            self._report(str(error))

    def _report(self, wrong: str) -> None:
        """Raise an error of declarations; in monitor mode log it.

        Raises:
            ConfigurationError: See above.
        """
        if self._enforcer.mode == "enforce":
            raise ConfigurationError(wrong)
        _LOG.error("monitor mode: %s", wrong)


@lru_cache(maxsize=1)
def _warn_of_threads() -> None:
    """Log once that information flow does not know what a conversation has read."""
    _LOG.warning(
        "a framework does not tell its threads: a conversation that goes on in a new task with request= begins as "
        "trusted, whatever it has read before; leave out request= there, or call task.received(text) with the history"
    )


_NOTHING: Final = ToolOptions()


def _read(prompt: Prompt, name: str) -> tuple[list[Part], bool]:
    """Return the parts of a prompt, and whether its provider may run tools; one that is unreadable is untrusted."""
    try:
        return list(prompt.parts()), prompt.is_provided()
    except Exception as error:  # noqa: BLE001 - Of any framework. The guard judges the call, and no run ends by it.
        _LOG.warning("a prompt for %s counts as untrusted, because it cannot be read: %s", name, safe_message(error))
        return [], True


def _run(guard: GuardedCall, asked: ToolCall, body: Callable[[Call], object]) -> object:
    """Run a body under the guard of its tool, or leave that to the guard of its function."""
    if guard is not guard_of(asked.function):
        return guard.run(asked.request, body)
    return _unshown(body(_unjudged(asked, guard)))


async def _run_async(guard: GuardedCall, asked: ToolCall, body: Callable[[Call], Awaitable[object]]) -> object:
    """Do what :func:`_run` does without blocking the event loop."""
    if guard is not guard_of(asked.function):
        return await guard.run_async(asked.request, body)
    return _unshown(await body(_unjudged(asked, guard)))


def _unjudged(asked: ToolCall, guard: GuardedCall) -> Call:
    """Return a call with its original arguments, for a body that judges them itself."""
    call = Call(asked.name, asked.request, guard.current_task, guard.clock.wall_ns())
    call.unchecked = True
    return call


def _unshown(result: object) -> object:
    return result.value if isinstance(result, Shown) else result


def shown(result: object) -> object:
    """Return a result, with its text for inspectors if it is or holds an object that they cannot read.

    Args:
        result: What a tool returned.
    """
    kind: type[object] = type(result)
    if issubclass(type(result), _CONTAINERS):
        is_read = is_readable(result)
    else:
        is_read = issubclass(type(result), _READ) or is_dataclass(result) or hasattr(kind, "model_dump")
    if is_read or nature_of(kind) is not None:
        return result
    return Shown(result, str(result), rebuild=lambda changed: changed)


def _checked(options: object) -> Declared:
    """Return the declarations of tools.

    Raises:
        TypeError: They are of another type.
    """
    if options is None:
        return {}
    if not isinstance(options, Mapping):
        raise TypeError(f"tool_options is {type(options).__name__}; pass {{name: ToolOptions(...)}}")
    for name, one in cast("Mapping[object, object]", options).items():
        if not isinstance(name, str) or not isinstance(one, ToolOptions):
            got = f"{type(name).__name__}: {type(one).__name__}"
            raise TypeError(f"an entry of tool_options= is {{{got}}}; pass {{name: ToolOptions(...)}}")
    return dict(cast("Declared", options))


def _delegate(name: object, agent: object) -> tuple[Agent, Scope | None]:
    """Return the agent and the scope of one entry of ``agents``.

    Raises:
        TypeError: They are of another type.
    """
    pair = cast("tuple[object, ...]", agent) if issubclass(type(agent), tuple) else ()
    one, scope = (pair[0], pair[1]) if len(pair) == 2 else (agent, None)
    if not isinstance(name, str) or not isinstance(one, Agent) or not isinstance(scope, Scope | None):
        got = f"{type(one).__module__}.{type(one).__qualname__}"
        raise TypeError(
            f"an entry of agents= is {got}; pass {{name: agent_identity.Agent(...)}}, or a pair of it and a Scope"
        )
    return one, scope
