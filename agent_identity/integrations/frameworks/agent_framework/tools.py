"""Tools of Microsoft Agent Framework, guarded in place, behind every middleware that may change their arguments."""

import functools
import inspect
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from typing import Any, Final, NamedTuple, cast, final

from agent_framework import Content, FunctionInvocationContext, FunctionMiddleware, FunctionTool, MCPStdioTool
from opentelemetry.context import Context
from pydantic import BaseModel

from agent_identity import Task
from agent_identity.adapters import (
    Call,
    CallRequest,
    Shown,
    ToolCall,
    ToolGuards,
    guard_failed,
    refusal,
    resumed,
    safe_message,
    shown,
    tool_name,
)
from agent_identity.errors import Denied
from agent_identity.integrations.frameworks.tool_schemas import schema_of, with_defaults
from agent_identity.integrations.method_patch import MethodPatch
from agent_identity.integrations.narrowing import is_list

__all__ = [
    "RUNNING",
    "TOOLS",
    "GuardedFunctions",
    "Origin",
    "RunFacts",
    "RunningAgent",
    "SuspendedError",
    "current_call",
    "runs_here",
]

_LOG: Final = logging.getLogger("agent_identity")
_GUARDED: Final = "agent_identity_guarded"


class SuspendedError(Exception):
    """A call waits for the ruling of a person.

    Args:
        properties: What the request for the approval carries.
    """

    def __init__(self, properties: Mapping[str, object]) -> None:
        super().__init__("the call waits for an approval")
        self.properties = dict(properties)


class Origin(NamedTuple):
    """The place in which a stream was made. Frozen.

    Attributes:
        context: Its context.
        task: Its task.
    """

    context: Context
    task: Task | None


class RunFacts(NamedTuple):
    """The facts of one run of an agent that its calls share. Frozen.

    Attributes:
        middleware: The middleware of the agent.
        guards: The guards by name; :class:`SuspendedError` must suspend their calls.
        acting: The framework's name of the agent.
        origin: The place in which a stream was made; ``None`` if the current one counts.
        servers: By the name of an MCP server, what has its functions.
        look_at: Checks the tools of the run, to which functions may have added some.
        spoken: The texts of the user that the run was called with, if they are the principal's own words.
        instructions: What the application instructs: the agent's own instructions, and those of the run.
    """

    middleware: object
    guards: ToolGuards
    acting: str | None
    origin: Origin | None = None
    servers: Mapping[str, Any] = {}
    look_at: Callable[[object], None] = lambda _: None
    spoken: frozenset[str] = frozenset()
    instructions: tuple[str, ...] = ()

    def at_origin(self) -> AbstractContextManager[None]:
        """Return a block that runs under the task in which the run was made."""
        origin = self.origin
        if origin is None or origin.task is self.guards.enforcer.current_task:
            return nullcontext()
        return resumed(origin.context)


@final
class GuardedFunctions(FunctionMiddleware):
    """Guards the function calls of one run, in the innermost position.

    Args:
        facts: The facts of the run.
    """

    def __init__(self, facts: RunFacts) -> None:
        self.facts = facts

    async def process(self, context: FunctionInvocationContext, call_next: Callable[[], Awaitable[None]]) -> None:
        """Guard the function in place, and answer a refusal; called by the agent."""
        run = _Run(self.facts, context)
        token = _CALL.set(run)
        try:
            if self.facts.origin is None:
                await run.through(call_next)
            else:
                with self.facts.at_origin():
                    await run.through(call_next)
        except SuspendedError as suspended:
            context.result = run.request_of(suspended)
        except Denied as denied:
            context.result = refusal(denied)
        except Exception as error:
            if error is not run.failure:  # Of the tool, or of the framework before or after it.
                raise
            context.result = guard_failed(context.function.name, error)
        finally:
            _CALL.reset(token)
            if run.has_context:
                self.facts.look_at(context.tools)


@final
class _Run:
    """One running call.

    Args:
        facts: The facts of the run.
        context: The call as the framework describes it.

    Attributes:
        context: See there.
        failure: The error of the guard, if it failed.
        has_context: True if the function may have the context, through which it can offer further tools.
    """

    def __init__(self, facts: RunFacts, context: FunctionInvocationContext) -> None:
        self._facts = facts
        self.context = context
        self.failure: Exception | None = None
        self.has_context = False

    async def through(self, call_next: Callable[[], Awaitable[None]]) -> None:
        """Call the function with its body guarded, or else all of the call."""
        function = self.context.function
        try:
            is_guarded = _is_guarded(function)
        except Exception as error:
            self.failure = error
            raise
        if is_guarded:
            await call_next()
            return
        self.has_context = True

        async def body(**arguments: object) -> object:
            self.context.arguments = arguments
            await call_next()
            return self.context.result

        self.context.result = await self.call_async(function, self._arguments(), body)

    @classmethod
    def beside(cls, facts: RunFacts, tool: FunctionTool, arguments: dict[str, object]) -> "_Run":
        """Return the call of a tool that something other than the framework runs, such as a middleware before ours."""
        return cls(facts, FunctionInvocationContext(tool, arguments))

    def at_origin(self, body: Callable[..., object]) -> object:
        """Run a body under guard, under the task in which the run was made."""
        with self._facts.at_origin():
            return self.call(self.context.function, self._arguments(), body)

    async def at_origin_async(self, body: Callable[..., Awaitable[object]]) -> object:
        """Do what :meth:`at_origin` does without blocking the event loop."""
        with self._facts.at_origin():
            return await self.call_async(self.context.function, self._arguments(), body)

    def call(self, tool: FunctionTool, arguments: dict[str, object], body: Callable[..., object]) -> object:
        """Run a body under guard.

        Args:
            tool: The tool.
            arguments: Its arguments as the framework has prepared them.
            body: What the tool does.
        """
        raised: BaseException | None = None

        def noted(call: Call) -> object:
            nonlocal raised
            try:
                return _shown(body(**call.arguments))
            except BaseException as error:
                raised = error
                raise

        try:
            return self._facts.guards.run(self._described(tool, arguments), noted)
        except Exception as error:
            self._note(error, raised)
            raise

    async def call_async(
        self, tool: FunctionTool, arguments: dict[str, object], body: Callable[..., Awaitable[object]]
    ) -> object:
        """Do what :meth:`call` does without blocking the event loop."""
        raised: BaseException | None = None

        async def noted(call: Call) -> object:
            nonlocal raised
            try:
                return _shown(await body(**call.arguments))
            except BaseException as error:
                raised = error
                raise

        try:
            return await self._facts.guards.run_async(self._described(tool, arguments), noted)
        except Exception as error:
            self._note(error, raised)
            raise

    def _note(self, error: Exception, raised: BaseException | None) -> None:
        """Note a failure of the guard: an error that is neither a refusal nor a suspension, and not from the body."""
        if error is not raised and not isinstance(error, Denied | SuspendedError):
            self.failure = error

    def request_of(self, suspended: SuspendedError) -> Content:
        """Return the content by which the framework asks for an approval."""
        call_id = str(self.context.metadata["call_id"])
        name = self.context.metadata.get("function_call_occurrence_id", call_id)
        asked = Content.from_function_call(call_id, self.context.function.name, arguments=self._arguments())
        if name != call_id:
            asked.id = name
        return Content.from_function_approval_request(str(name), asked, additional_properties=suspended.properties)

    def _arguments(self) -> dict[str, Any]:
        """Return the arguments as the framework has them now, by name."""
        given = self.context.arguments
        return given.model_dump(exclude_unset=True) if isinstance(given, BaseModel) else dict(given)

    def _described(self, tool: FunctionTool, arguments: dict[str, object]) -> ToolCall:
        injected = [name for name, value in arguments.items() if isinstance(value, FunctionInvocationContext)]
        self.has_context = self.has_context or bool(injected)
        schema = _schema(tool)
        complete, supplied = with_defaults(arguments, schema)
        if injected:
            supplied = tuple(name for name in supplied if name not in injected)
        server = self._server_of(tool) if self._facts.servers else None
        call_id: object = self.context.metadata.get("call_id")
        request = CallRequest(complete, supplied, injected, call_id=call_id if isinstance(call_id, str) else None)
        return ToolCall(
            tool_name(server, tool.name),
            request,
            self._facts.acting,
            "mcp" if server is not None or _is_of_server(tool) else "function",
            server,
            schema=schema,
            contents=_result_contents,
            function=_function(tool),
        )

    def _server_of(self, tool: FunctionTool) -> str | None:
        return next((name for name, mcp in self._facts.servers.items() if any(tool is f for f in mcp.functions)), None)


_CALL: ContextVar[_Run | None] = ContextVar("agent_identity_maf_call", default=None)


@final
class RunningAgent:
    """The run of an agent, from its begin to its end.

    Attributes:
        facts: Its facts, once it has begun; ``None`` for an agent without a guard.
    """

    __slots__ = ("facts",)

    def __init__(self) -> None:
        self.facts: RunFacts | None = None


RUNNING: Final[ContextVar[RunningAgent | None]] = ContextVar("agent_identity_maf_running", default=None)
"""The run of an agent around this place."""


def _facts_here() -> RunFacts | None:
    running = RUNNING.get()
    return None if running is None else running.facts


def _guarded_first(bare: Callable[..., Any]) -> Callable[..., Any]:
    """Return a method of tools that guards the tool first where a guarded agent runs, whoever calls it."""

    @functools.wraps(bare)
    def call(tool: FunctionTool, /, *args: Any, **kwargs: Any) -> object:  # noqa: ANN401
        if _facts_here() is None or _GUARDED in vars(type(tool)) or not _is_guarded(tool):
            return bare(tool, *args, **kwargs)
        return cast("Any", getattr(type(tool), bare.__name__))(tool, *args, **kwargs)

    return call


TOOLS: Final = MethodPatch(FunctionTool, {"invoke": _guarded_first, "__call__": _guarded_first})
"""Guards tools that middleware, a client or a provider of context runs itself while a guarded agent runs."""


def current_call() -> FunctionInvocationContext | None:
    """Return the call that is judged or runs here."""
    run = _CALL.get()
    return None if run is None else run.context


def current_facts() -> RunFacts | None:
    """Return the facts of the run whose function runs here."""
    run = _CALL.get()
    return None if run is None else run._facts  # noqa: SLF001  Of this module.


def runs_here(tool: object) -> bool:
    """Return whether the framework runs a tool in this process: a function, or a server whose functions it lists.

    Args:
        tool: The tool.
    """
    if isinstance(tool, FunctionTool):
        return not tool.declaration_only
    return hasattr(tool, "functions") or callable(tool)


def _result_contents(result: object) -> Iterable[object]:
    """Return the contents of a result that the model will read."""
    return [one.text if one.type == "text" else one.to_dict() for one in FunctionTool.parse_result(result)]


def _shown(result: object) -> object:
    """Return a result with what inspectors read of it, where it is in the framework's own form."""
    if not isinstance(result, list | Content):
        return shown(result)
    parts = result if is_list(result) else [result]
    if not any(isinstance(part, Content) for part in parts):
        return shown(result)
    read = [part.to_dict() if isinstance(part, Content) else part for part in parts]

    def rebuild(changed: object) -> object:
        new = [
            Content.from_dict(cast("Any", one)) if isinstance(part, Content) else one
            for part, one in zip(parts, cast("list[object]", changed), strict=True)
        ]
        return new if isinstance(result, list) else new[0]

    return Shown(result, read, rebuild=rebuild)


def _is_guarded(tool: FunctionTool) -> bool:
    """Guard a tool in place, and return whether its body passes the guard then.

    A class or an object with an ``invoke`` of its own may never come to the body.
    """
    kind = type(tool)
    if kind.invoke is not FunctionTool.invoke or not vars(tool).keys().isdisjoint({"invoke", "__call__"}):
        return False
    if _GUARDED not in vars(kind):
        try:
            tool.__class__ = _guarded_kind(
                cast("Any", kind)
            )  # Its tools declare a hash that type checkers do not know.
        except Exception as error:  # noqa: BLE001 - Such a class is guarded as a whole.
            _LOG.warning("%s is guarded as a whole, because its class cannot be: %s", tool.name, safe_message(error))
            return False
    return True


@functools.lru_cache(maxsize=1_024)
def _guarded_kind(kind: type[FunctionTool]) -> type[FunctionTool]:
    """Return the subclass of a class of tools whose calls by guarded agents pass the guard."""

    def call(self: FunctionTool, *args: Any, **kwargs: Any) -> object:  # noqa: ANN401
        run, facts = _CALL.get(), _facts_here()
        body = functools.partial(kind.__call__, self, *args)
        if run is None and facts is None:
            return body(**kwargs)
        waits = inspect.iscoroutinefunction(_function(self))
        if run is not None:
            return run.call_async(self, kwargs, body) if waits else run.call(self, kwargs, body)
        beside = _Run.beside(cast("RunFacts", facts), self, kwargs)
        return beside.at_origin_async(body) if waits else beside.at_origin(body)

    names = {name: getattr(kind, name) for name in ("__module__", "__qualname__", "__doc__")}
    return type(kind.__name__, (kind,), {**names, "__call__": call, _GUARDED: True})


def _function(tool: FunctionTool) -> Callable[..., object] | None:
    function: object = tool.func
    return function.func if isinstance(function, FunctionTool) else cast("Callable[..., object] | None", function)


def _is_of_server(tool: FunctionTool) -> bool:
    """Return whether the framework made a tool for one of an MCP server: its function is of the module of those."""
    function: object = _function(tool)
    if isinstance(function, functools.partial):
        function = cast("object", function.func)
    return getattr(function, "__module__", None) == MCPStdioTool.__module__


def _schema(tool: FunctionTool) -> Mapping[str, object] | None:
    """Return the defaults of a tool as a schema: those of its function, or else of its declaration."""
    function = _function(tool)
    if function is None:
        return None
    known = schema_of(function)
    return tool.parameters() if known is None or known["additionalProperties"] else known
