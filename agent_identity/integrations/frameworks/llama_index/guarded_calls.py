"""The calls of one LlamaIndex tool under guard."""

from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from inspect import Parameter, signature
from typing import Any, Final, NamedTuple, TypedDict, Unpack, cast, final

from llama_index.core.base.llms.types import TextBlock
from llama_index.core.tools import AsyncBaseTool, FunctionTool, ToolOutput
from llama_index.core.workflow import Context
from pydantic.fields import FieldInfo

from agent_identity.adapters import (
    Binder,
    Call,
    CallRequest,
    Shown,
    ToolCall,
    ToolGuards,
    nature_of,
    refusal,
    tool_name,
)
from agent_identity.errors import Denied
from agent_identity.integrations.frameworks.llama_index.turns import CALLED
from agent_identity.integrations.frameworks.tool_schemas import with_defaults

_POSITIONAL = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)


class Bound(NamedTuple):
    """The arguments of one call. Frozen.

    Attributes:
        values: The arguments by name.
        supplied: The names that the caller gave.
        args: The positional arguments, as the caller gave them.
        fits: Whether the tool accepts the arguments; if not, its body refuses them itself.
    """

    values: Mapping[str, object]
    supplied: tuple[str, ...]
    args: tuple[object, ...]
    fits: bool = True


@final
class ToolArguments:
    """Binds and spreads the arguments of one tool.

    LlamaIndex hands over what the model wrote, without validation, and applies defaults behind every tool.

    Args:
        tool: The tool.
    """

    def __init__(self, tool: AsyncBaseTool) -> None:
        self._tool = tool
        self._binder: Binder | None = None
        self._names: tuple[str, ...]
        if isinstance(tool, FunctionTool):
            self._binder = Binder(tool.real_fn)
            parameters = signature(tool.real_fn).parameters.values()
            self._names = tuple(each.name for each in parameters if each.kind in _POSITIONAL)
        else:
            self._schema = tool.metadata.get_parameters_dict()
            self._names = tuple(cast("Mapping[str, object]", self._schema.get("properties") or {}))

    def bind(self, args: tuple[object, ...], kwargs: Mapping[str, object]) -> Bound:
        """Return the arguments of a call.

        Args:
            args: The positional ones.
            kwargs: The others.
        """
        supplied = (*self._names[: len(args)], *kwargs)
        try:
            return Bound(self._values(args, kwargs), supplied, args)
        except TypeError:
            listed = {f"argument_{number}": value for number, value in enumerate(args)}
            return Bound({**listed, **kwargs}, (*listed, *kwargs), args, fits=False)

    def spread(self, bound: Bound, judged: Mapping[str, object]) -> tuple[tuple[object, ...], Mapping[str, object]]:
        """Return judged arguments as the tool takes them: positional ones, and the others.

        Args:
            bound: The arguments of the call.
            judged: Their judged values.
        """
        if bound.fits and self._binder is not None:
            return self._binder.spread(judged, bound.args)
        names = self._names if bound.fits else tuple(judged)
        rest, count = dict(judged), len(bound.args)
        return tuple(rest.pop(name) for name in names[:count]), rest

    def _values(self, args: tuple[object, ...], kwargs: Mapping[str, object]) -> Mapping[str, object]:
        if self._binder is None:
            if len(args) > len(self._names) or not kwargs.keys().isdisjoint(self._names[: len(args)]):
                raise TypeError("two arguments have one name")
            named = dict(zip(self._names, args, strict=False))
            return with_defaults({**named, **kwargs}, self._schema)[0]
        partial = cast("Mapping[str, object]", cast("FunctionTool", self._tool).partial_params)
        values, _ = self._binder.bind(args, {**partial, **kwargs})
        return {name: _default_of(value) for name, value in values.items()}


def _default_of(value: object) -> object:
    """Return the default in a field that stands in the place of a value."""
    if isinstance(value, FieldInfo) and not value.is_required():
        return value.get_default(call_default_factory=True)
    return value


__all__ = ["CONTEXT", "GuardedCalls", "Origin", "running", "within"]

CONTEXT: Final = "agent_identity_context"
"""The parameter by which LlamaIndex hands its context to tools that do not ask for it themselves."""

_OF_SERVERS: Final = "llama_index.tools.mcp"
"""Where LlamaIndex makes the functions of tools of MCP servers, which are no tools of this process by any name."""

running: Final = ContextVar[Context[Any] | None]("agent_identity_llama_index_run", default=None)
"""The context of the workflow in whose step the current tool runs."""

within: Final = ContextVar[AsyncBaseTool | None]("agent_identity_llama_index_tool", default=None)
"""The tool whose guard calls it right now."""


class _Options(TypedDict, total=False):
    is_error: bool
    exception: Exception


class FailedToolError(Exception):
    """Stands in the record for the error that a tool returned."""


class Origin(NamedTuple):
    """Where tools come from. Frozen.

    Attributes:
        guards: Their guards.
        acting: The name of the agent that has them, if the framework does not tell.
        server: The name of their MCP server.
    """

    guards: ToolGuards
    acting: str | None = None
    server: str | None = None


@final
class GuardedCalls:
    """Runs the calls of one tool under guard.

    Args:
        tool: The tool.
        origin: Where it comes from.
    """

    def __init__(self, tool: AsyncBaseTool, origin: Origin) -> None:
        self.tool = tool
        self.origin = origin
        self.name: Final = tool_name(origin.server, tool.metadata.get_name())
        self._arguments = ToolArguments(tool)
        self._function = tool.real_fn if isinstance(tool, FunctionTool) else None
        made_in = str(getattr(self._function, "__module__", ""))
        self._kind = "mcp" if origin.server is not None or made_in.startswith(_OF_SERVERS) else "function"
        self._own = tool.ctx_param_name if isinstance(tool, FunctionTool) and tool.requires_context else None

    def declare(self) -> None:
        """Register the tool before its first call.

        Raises:
            ConfigurationError: Its options name an argument that it does not have.
        """
        self.origin.guards.of(
            self.name,
            kind=self._kind,
            server=self.origin.server,
            schema=self.tool.metadata.get_parameters_dict(),
            function=self._function,
            description=self.tool.metadata.description,
        )

    def run(
        self, args: tuple[object, ...], kwargs: Mapping[str, object], body: Callable[..., object] | None = None
    ) -> ToolOutput:
        """Run the tool, and return its output, or the refusal as one.

        Args:
            args: The positional arguments.
            kwargs: The others.
            body: What the tool does, if it is not its ``call``.
        """
        try:
            return self._output(self.compute(args, kwargs, body or self.tool.call), args, kwargs)
        except Denied as denied:
            return self._refused(denied, args, kwargs)

    async def run_async(
        self,
        args: tuple[object, ...],
        kwargs: Mapping[str, object],
        body: Callable[..., Awaitable[object]] | None = None,
    ) -> ToolOutput:
        """Do what :meth:`run` does without blocking the event loop."""
        try:
            return self._output(await self.compute_async(args, kwargs, body or self.tool.acall), args, kwargs)
        except Denied as denied:
            return self._refused(denied, args, kwargs)

    def compute(
        self, args: tuple[object, ...], kwargs: Mapping[str, object], function: Callable[..., object]
    ) -> object:
        """Run a function of the tool under guard.

        Args:
            args: The positional arguments.
            kwargs: The others.
            function: Takes the arguments of the tool.

        Raises:
            Denied: The call is refused, or its result withheld.
        """
        bound, _ = self._bound(args, kwargs)

        def body(call: Call) -> object:
            positional, named = self._arguments.spread(bound, call.arguments)
            token = within.set(self.tool)
            try:
                return _shown(function(*positional, **named))
            finally:
                within.reset(token)

        return self.origin.guards.run(self._asked(bound, self.origin.acting, CALLED.get()), body)

    async def compute_async(
        self, args: tuple[object, ...], kwargs: Mapping[str, object], function: Callable[..., Awaitable[object]]
    ) -> object:
        """Do what :meth:`compute` does without blocking the event loop."""
        bound, context = self._bound(args, kwargs)

        async def body(call: Call) -> object:
            positional, named = self._arguments.spread(bound, call.arguments)
            token = within.set(self.tool)
            try:
                return _shown(await function(*positional, **named))
            finally:
                within.reset(token)

        acting, turn = self.origin.acting, CALLED.get()
        if turn is None and context is not None:
            turn = ""  # An agent calls that does not tell which call of its model that is.
        if acting is None and context is not None:
            acting = await _agent_in(context)
        token = running.set(context)
        try:
            return await self.origin.guards.run_async(self._asked(bound, acting, turn), body)
        finally:
            running.reset(token)

    def _bound(self, args: tuple[object, ...], kwargs: Mapping[str, object]) -> tuple[Bound, Context[Any] | None]:
        given = dict(kwargs)
        context = given.get(self._own) if self._own is not None else given.pop(CONTEXT, None)
        return self._arguments.bind(args, given), context if isinstance(context, Context) else None

    def _asked(self, bound: Bound, acting: str | None, turn: str | None) -> ToolCall:
        injected = (self._own,) if self._own is not None and isinstance(bound.values.get(self._own), Context) else ()
        supplied = tuple(name for name in bound.supplied if name not in injected)
        request = CallRequest(bound.values, supplied=supplied, injected=injected, turn=turn)
        server, description = self.origin.server, self.tool.metadata.description
        return ToolCall(
            self.name, request, acting, self._kind, server, function=self._function, description=description
        )

    def _refused(self, denied: Denied, args: tuple[object, ...], kwargs: Mapping[str, object]) -> ToolOutput:
        return self._made(refusal(denied), args, kwargs, is_error=True, exception=denied)

    def _output(self, result: object, args: tuple[object, ...], kwargs: Mapping[str, object]) -> ToolOutput:
        """Return the output of the tool, or what the handler of a route returned as one."""
        return result if isinstance(result, ToolOutput) else self._made(result, args, kwargs)

    def _made(
        self, result: object, args: tuple[object, ...], kwargs: Mapping[str, object], **options: Unpack[_Options]
    ) -> ToolOutput:
        named = {name: value for name, value in kwargs.items() if name not in (self._own, CONTEXT)}
        raw = {"args": args, "kwargs": named}
        return ToolOutput(
            tool_name=self.tool.metadata.get_name(), content=str(result), raw_input=raw, raw_output=result, **options
        )


async def _agent_in(context: Context[Any]) -> str | None:
    """Return the name of the agent of a workflow whose turn it is."""
    name = await context.store.get("current_agent_name", default=None)
    return name if isinstance(name, str) else None


def _shown(output: object) -> object:
    """Return an output with what the model reads of it, and whether it says that the tool failed.

    A result that is still going to run is returned without the output around it, so that the guard runs its steps.
    """
    if not isinstance(output, ToolOutput):
        return output
    if nature_of(type(cast("object", output.raw_output))) is not None:
        return cast("object", output.raw_output)
    is_text = all(isinstance(block, TextBlock) for block in output.blocks)
    content = output.content if is_text else [block.model_dump(mode="json") for block in output.blocks]

    def rebuilt(changed: object) -> object:
        if not isinstance(changed, str):
            raise TypeError("only texts of an output can be changed")
        return ToolOutput(
            tool_name=output.tool_name,
            content=changed,
            raw_input=output.raw_input,
            raw_output=changed,
            is_error=output.is_error,
        )

    failure = (output.exception or FailedToolError()) if output.is_error else None
    return Shown(output, content, failure, rebuild=rebuilt)
