"""The capability, and the guard of all agents of a process."""

import copy
import inspect
import logging
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterable, Mapping
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final, NoReturn, TypeAlias, cast

from opentelemetry import context as otel
from pydantic_ai import AgentRunResult, RunContext
from pydantic_ai.capabilities import AbstractCapability, CapabilityOrdering, CombinedCapability
from pydantic_ai.exceptions import ToolFailed, UserError
from pydantic_ai.messages import (
    ModelMessage,
    ModelMessagesTypeAdapter,
    ModelRequest,
    ModelResponse,
    SystemPromptPart,
    TextPart,
    ToolCallPart,
    ToolReturn,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.models import (
    CompletedStreamedResponse,
    Model,
    ModelRequestContext,
    ModelRequestParameters,
    StreamedResponse,
)
from pydantic_ai.models.wrapper import WrapperModel
from pydantic_ai.output import OutputContext
from pydantic_ai.settings import ModelSettings
from pydantic_ai.toolsets import AbstractToolset, DynamicToolset, FunctionToolset, ToolsetTool, WrapperToolset
from typing_extensions import override

from agent_identity import Enforcer, Task
from agent_identity.adapters import (
    Acting,
    Call,
    CallRequest,
    Declared,
    Part,
    Prompt,
    Shown,
    ToolCall,
    ToolGuards,
    refusal,
    resumed,
    safe_message,
    tool_name,
)
from agent_identity.errors import ConfigurationError, Denied
from agent_identity.integrations.frameworks.pydantic_ai.calls import (
    SUSPENDS,
    Asked,
    agent_name,
    conversation,
    guarded,
    is_of_run,
    is_spliced,
    outermost,
    running,
    thread,
)
from agent_identity.integrations.method_patch import MethodPatch
from agent_identity.integrations.narrowing import is_list
from agent_identity.integrations.unguarded_tools import UnguardedTools
from agent_identity.records import Model as ModelFact


class Guarding:
    """Visitor of toolsets: puts a guard around each innermost toolset that has none.

    Args:
        guards: The guards.
        gives_way: They leave toolsets to other guards, which count as an error otherwise.

    Attributes:
        guards: See above.
    """

    def __init__(self, guards: ToolGuards, *, gives_way: bool = False) -> None:
        self.guards = guards
        self._gives_way = gives_way
        self._context = otel.get_current()
        self._task = guards.enforcer.current_task

    def __call__(self, toolset: AbstractToolset[object]) -> AbstractToolset[object]:
        """Return a toolset with a guard around it."""
        if type(toolset) is not DynamicToolset:
            return _GuardedToolset(toolset, self)
        make = cast("object", toolset.toolset_func)
        if isinstance(make, _GuardedFactory):
            self.meet(make.guarding)
            return toolset
        factory = _GuardedFactory(toolset.toolset_func, self)
        return DynamicToolset(factory, per_run_step=toolset.per_run_step, id=toolset.id)

    def meet(self, first: "Guarding") -> None:
        """Leave a toolset to the guard that it has.

        Args:
            first: Puts that guard there.

        Raises:
            ConfigurationError: It is that of a capability with another enforcer or other options; in monitor mode this
                is logged.
        """
        if not self._gives_way and not first.guards.is_like(self.guards):
            first.guards.refuse_second(self.guards, "the agent")

    def at_home(self) -> AbstractContextManager[object]:
        """Return a context manager that restores the task of the run where another one is open.

        A task that was delegated since by that of the run stays.
        """
        here, home = self.guards.enforcer.current_task, self._task
        if home is None or here is home or (here is not None and _is_within(here, home)):
            return nullcontext()
        return resumed(self._context)


class _GuardedFactory:
    """Makes the toolsets of a dynamic toolset, with guards.

    Attributes:
        guarding: Puts them there.
    """

    def __init__(self, make: Callable[[RunContext[object]], Any], guarding: Guarding) -> None:
        self._make = make
        self.guarding = guarding
        self._last: tuple[AbstractToolset[object], AbstractToolset[object]] | None = None

    async def __call__(self, ctx: RunContext[object]) -> AbstractToolset[object] | None:
        toolset = self._make(ctx)
        if inspect.isawaitable(toolset):
            toolset = await toolset
        if toolset is None:
            return None
        if self._last is None or self._last[0] is not toolset:  # The same one is not entered again.
            self._last = toolset, toolset.visit_and_replace(self.guarding)
        return self._last[1]


@dataclass
class _GuardedToolset(WrapperToolset[object]):
    """A toolset whose calls are guarded."""

    guarding: Guarding = field(repr=False, compare=False)

    @property
    def label(self) -> str:
        """The name in error messages."""
        return self.wrapped.label

    def visit_and_replace(
        self, visitor: Callable[[AbstractToolset[object]], AbstractToolset[object]]
    ) -> AbstractToolset[object]:
        """Let a visitor replace the toolset within; another guard has no place there."""
        if not isinstance(visitor, Guarding):
            return super().visit_and_replace(visitor)
        visitor.meet(self.guarding)
        return self

    async def call_tool(
        self, name: str, tool_args: dict[str, Any], ctx: RunContext[object], tool: ToolsetTool[object]
    ) -> object:
        """Run a tool under guard.

        Raises:
            ToolFailed: The call is refused, or its result withheld.
        """

        async def body(call: Call) -> object:
            return _shown(await super(_GuardedToolset, self).call_tool(name, dict(call.arguments), ctx, tool))

        token = running.set(ctx)
        try:
            with self.guarding.at_home():
                return await guarded(self.guarding.guards, self._asked(name, tool_args, ctx, tool), body)
        except Denied as denied:
            raise ToolFailed(refusal(denied)) from None
        finally:
            running.reset(token)

    def _asked(
        self, name: str, arguments: Mapping[str, Any], ctx: RunContext[object], tool: ToolsetTool[object]
    ) -> ToolCall:
        kind, server = _source(self.wrapped)
        schema = cast("Mapping[str, Any]", tool.tool_def.parameters_json_schema)
        properties = schema.get("properties") or {}
        supplied = tuple(each for each, value in arguments.items() if not _is_default(value, properties.get(each)))
        request = CallRequest(arguments, supplied=supplied, call_id=ctx.tool_call_id)
        own = self.wrapped.tools.get(name) if isinstance(self.wrapped, FunctionToolset) else None
        function = None if own is None else own.function
        return ToolCall(
            tool_name(server, name),
            request,
            agent_name(ctx),
            kind,
            server,
            schema=schema,
            contents=_result_contents,
            function=function,
            is_seen=is_of_run(ctx) and not is_spliced(ctx),
            description=tool.tool_def.description,
        )


def _is_within(task: Task, outer: Task) -> bool:
    """Return whether a task is one that another task delegated."""
    grants = outer.chain.grants
    return [each.id for each in task.chain.grants[: len(grants)]] == [each.id for each in grants]


def _is_default(value: object, schema: object) -> bool:
    """Return whether an argument has the default of its schema, which is the same as not being supplied."""
    if not isinstance(schema, Mapping) or "default" not in schema:
        return False
    default = cast("Mapping[str, object]", schema)["default"]
    return type(value) is type(default) and value == default


def _source(toolset: AbstractToolset[object]) -> tuple[str, str | None]:
    """Return the kind of the tools of a toolset, and the name that the application gave to their server."""
    kind: object = getattr(sys.modules.get("pydantic_ai.mcp"), "MCPToolset", None)
    if not isinstance(kind, type) or not isinstance(toolset, kind):
        return "function", None
    return "mcp", cast("Any", toolset).id


def _result_contents(result: object) -> Iterable[object]:
    """Return the contents of a result that the model will read."""
    if not isinstance(result, ToolReturn):
        return (result,)
    content = cast("object", result.content)
    return (result.return_value, *(content if is_list(content) else (content,)))


def _shown(result: object) -> object:
    """Return a result with what the model reads of it, where the tool says this apart."""
    if not isinstance(result, ToolReturn):
        return result
    content: dict[str, object] = {"return_value": result.return_value, "content": result.content}
    if isinstance(result.metadata, str | dict | list):  # No model reads it, and whoever keeps the messages does.
        content["metadata"] = cast("object", result.metadata)

    def rebuilt(changed: object) -> object:
        return replace(result, **cast("dict[str, Any]", changed))

    return Shown(result, content, rebuild=rebuilt)


_CALLS: Final = frozenset({"builtin-tool-call", "native-tool-call", "tool-call"})


class GuardedModel(WrapperModel):
    """A model whose requests are guarded. A stream begins once the whole answer was inspected.

    Args:
        wrapped: The model.
        guards: The guards.
        name: The name of its calls in scopes and rules.
    """

    def __init__(self, wrapped: Model, guards: ToolGuards, name: str) -> None:
        super().__init__(wrapped)
        self._guards = guards
        self._called = name

    def is_of(self, guards: ToolGuards) -> bool:
        """Return whether these guards, or equal ones, guard the model.

        Args:
            guards: The guards.
        """
        return self._guards.is_like(guards)

    async def request(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> ModelResponse:
        """Ask the model under guard; a refusal is the answer."""

        async def ask(prompt: "_Prompt") -> ModelResponse:
            return await super(GuardedModel, self).request(prompt.messages, model_settings, prompt.parameters)

        return await self._answer(_Prompt(messages, model_request_parameters), ask)

    @asynccontextmanager
    async def request_stream(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
        run_context: RunContext[object] | None = None,
    ) -> AsyncGenerator[StreamedResponse]:
        """Ask the model under guard, and stream its answer once it was inspected."""

        async def ask(prompt: "_Prompt") -> ModelResponse:
            stream = super(GuardedModel, self).request_stream
            async with stream(prompt.messages, model_settings, prompt.parameters, run_context) as answer:
                async for _ in answer:
                    pass
                return answer.get()

        response = await self._answer(_Prompt(messages, model_request_parameters), ask)
        yield CompletedStreamedResponse(response, model_request_parameters=model_request_parameters, replay_events=True)

    async def count_tokens(self, *_: object, **__: object) -> NoReturn:
        """Refuse to send a prompt that nobody has inspected."""
        _refuse("count_tokens_before_request")

    async def compact_messages(self, *_: object, **__: object) -> NoReturn:
        """Refuse to send a prompt that nobody has inspected."""
        _refuse("compaction")

    async def batch_encode(self, *_: object, **__: object) -> NoReturn:
        """Refuse to send a prompt that nobody has inspected."""
        _refuse("a batch")

    async def _answer(self, prompt: "_Prompt", ask: Callable[["_Prompt"], Awaitable[ModelResponse]]) -> ModelResponse:
        async def body(call: Call) -> Shown:
            response = await ask(prompt)
            if response.model_name:
                call.model = ModelFact(name=response.model_name, provider=response.provider_name)
            return Shown(response, _json([response]), rebuild=partial(_revised_response, response))

        model = ModelFact(name=self.model_name, provider=self.system or None)
        request = CallRequest(prompt.facts, can_route=False, model=model, revise=prompt.revise)
        acting = agent_name(running.get())
        asked = ToolCall(self._called, request, acting, "model", prompt=prompt.read())
        try:
            return cast("ModelResponse", await guarded(self._guards, asked, body))
        except Denied as denied:
            return ModelResponse(parts=[TextPart(refusal(denied))], model_name=self.model_name)


class _Prompt:
    """What a model is about to get.

    Attributes:
        messages: The messages, as they are sent.
        parameters: The rest of the request, as it is sent.
        facts: Both as JSON, for inspectors and the policy.
    """

    def __init__(self, messages: list[ModelMessage], parameters: ModelRequestParameters) -> None:
        self.messages = messages
        self.parameters = parameters
        self._spoken = _spoken(running.get())
        tools = (*parameters.function_tools, *parameters.output_tools)
        self.facts: dict[str, object] = {
            "messages": _json(messages),
            "instructions": [part.content for part in parameters.instruction_parts or ()],
            "tools": [[tool.name, tool.description, tool.parameters_json_schema] for tool in tools],
        }

    def read(self) -> Prompt:
        """Return the prompt and the contents of its answer, for information flow."""
        return Prompt(self._parts, _answer_contents, lambda: bool(self.parameters.native_tools))

    def _parts(self) -> Generator[Part]:
        for message in self.messages:
            if isinstance(message, ModelResponse):
                yield from (Part("other", content) for content in _answer_contents(message))
            else:
                yield from _asked(message, self._spoken)

    def revise(self, changed: Mapping[str, object]) -> None:
        """Take the messages and instructions as obligations changed them.

        Raises:
            ValueError: Something else was changed, or does not fit.
        """
        texts = cast("list[str]", changed["instructions"])
        parts = self.parameters.instruction_parts or []
        if changed["tools"] != self.facts["tools"] or len(texts) != len(parts):
            raise ValueError("the tools of a request cannot be changed")
        if changed["messages"] != self.facts["messages"]:
            self.messages = ModelMessagesTypeAdapter.validate_python(changed["messages"])
        if parts:
            revised = [replace(part, content=text) for part, text in zip(parts, texts, strict=True)]
            self.parameters = replace(self.parameters, instruction_parts=revised)


def spoken_in(prompt: object, history: Iterable[ModelMessage]) -> frozenset[str]:
    """Return the texts of the user that the application passes to a run.

    Args:
        prompt: The prompt of the run.
        history: The messages before it.
    """
    contents = [prompt, *_prompts_of(history)]
    texts = [one for content in contents for one in (content if isinstance(content, list | tuple) else [content])]
    return frozenset(text for text in texts if isinstance(text, str))


def _spoken(ctx: RunContext[object] | None) -> frozenset[str]:
    """Return the texts of the user that the application passed to a run; none within another run."""
    asked = outermost.get()
    return asked.spoken if ctx is not None and asked is not None and asked.run_id == ctx.run_id else frozenset()


def _prompts_of(messages: Iterable[ModelMessage]) -> Generator[object]:
    """Yield the prompts with which runs began.

    Tools and hooks may add prompts of the user later in a run, and Pydantic AI sends what validators say as such.
    """
    begun = set[str | None]()
    for message in messages:
        is_first = message.run_id is None or message.run_id not in begun
        begun.add(message.run_id)
        # What a tool returned beside its value is sent after it as a prompt of the user.
        if is_first and not any(isinstance(part, ToolReturnPart) for part in message.parts):
            yield from (part.content for part in message.parts if isinstance(part, UserPromptPart))


def _asked(message: ModelRequest, spoken: frozenset[str]) -> Generator[Part]:
    """Yield the parts of a request to a model, for information flow."""
    for part in message.parts:
        if isinstance(part, UserPromptPart):
            texts = [part.content] if isinstance(part.content, str) else part.content
            for text in texts:
                yield Part("person" if isinstance(text, str) and text in spoken else "other", text)
        elif not isinstance(part, SystemPromptPart):
            yield Part("other", cast("object", getattr(part, "content", part)))


def _revised_response(response: ModelResponse, changed: object) -> ModelResponse:
    """Return an answer with the texts as obligations changed them.

    Raises:
        ValueError: The arguments of a call were changed, or the answer does not fit.
    """
    if _calls_in(changed) != _calls_in(_json([response])):
        raise ValueError("the arguments of a call cannot be changed")
    (revised,) = ModelMessagesTypeAdapter.validate_python(changed)
    answer = cast("ModelResponse", revised)
    for one in (answer, *answer.parts):
        (getattr(one, "provider_details", None) or {}).pop("logprobs", None)  # They have the text once more.
    return answer


def _answer_contents(response: object) -> Generator[object]:
    """Yield the contents of an answer, without the members that change before the next prompt."""
    for part in cast("ModelResponse", response).parts:
        if isinstance(part, ToolCallPart):
            arguments = part.args_as_dict(raise_if_invalid=False)
            yield [part.tool_name, arguments]
            yield from (value for value in arguments.values() if isinstance(value, str))
        else:
            yield getattr(part, "content", part)


def _calls_in(answers: object) -> list[object]:
    (answer,) = cast("list[dict[str, Any]]", answers)
    return [part for part in answer["parts"] if part.get("part_kind") in _CALLS]


def _json(messages: list[Any]) -> object:
    return ModelMessagesTypeAdapter.dump_python(messages, mode="json")


def _refuse(what: str) -> NoReturn:
    raise UserError(f"{what} sends a prompt before its inspection; switch it off, or omit model= of AgentIdentity")


__all__ = ["AgentIdentity", "instrument"]

_LOG: Final = logging.getLogger("agent_identity")
_Process = Callable[[object], Awaitable[object]]
_Toolset: TypeAlias = AbstractToolset[object]


class AgentIdentity(AbstractCapability[object]):
    """Capability: guards all tools of an agent, those of MCP servers and of other capabilities included.

    Each call is one decision, one intent, one outcome and one span. A refused call fails with the refusal as its
    text, and the run continues. A call of a tool that does not exist is refused on record. Calls run under the task in
    which the run began, wherever its stream is consumed.

    Args:
        enforcer: The enforcer. A task must be open around each run.
        agents: The governed agent by the name that Pydantic AI gives an agent (``Agent(name=…)``): its calls run under
            authority that the task delegates to it for that call.
        model: The name of model calls in scopes and rules, which inspectors and policy then judge: messages,
            instructions and tools before the model gets them, and its answer before anybody reads it. ``None`` leaves
            model calls alone.
        tool_options: Declarations of tools by name, each a :class:`~agent_identity.options.ToolOptions`.
        principal_messages: Count the user prompts that the application passes to runs, also in their history, as the
            principal's own words. With information flow and ``model``, other parts of a prompt that no guard of the
            task delivered have unknown integrity.

    Raises:
        TypeError: Enforcer, agents or options are of another type.
        ValueError: ``model`` does not have 1 to 256 visible characters.
        ConfigurationError: ``model`` needs a newer Pydantic AI, or ``principal_messages`` is given without it. A run
            raises it where an agent has a second capability of this class with another enforcer or other options.
    """

    def __init__(
        self,
        enforcer: Enforcer,
        *,
        agents: Acting | None = None,
        model: str | None = None,
        tool_options: Declared | None = None,
        principal_messages: bool = False,
    ) -> None:
        self._guards = ToolGuards(
            enforcer,
            agents=agents,
            suspends=SUSPENDS,
            workflow=conversation,
            thread=thread,
            tool_options=tool_options,
            model=model,
            principal_messages=principal_messages,
        )
        self._model = model
        self._asked: Asked | None = None
        self._unguarded = UnguardedTools("outside the toolsets of this process")
        if model is not None and not hasattr(AbstractCapability, "get_wrapper_model"):
            raise ConfigurationError("model= needs a Pydantic AI with get_wrapper_model; upgrade pydantic-ai-slim")

    @classmethod
    def get_serialization_name(cls) -> str | None:
        """Return ``None``: an enforcer cannot be written into a specification."""
        return None

    @property
    def provider_tools(self) -> tuple[str, ...]:
        """What nobody can guard, as far as it was seen: tools that run at the model's provider or outside the run.

        Functions in ``output_type`` are listed as well, once one has run: they pass no toolset.
        """
        return self._unguarded.names

    def get_ordering(self) -> CapabilityOrdering:
        """Return the innermost place, next to the model."""
        return CapabilityOrdering(position="innermost")

    def get_wrapper_toolset(self, toolset: AbstractToolset[object]) -> AbstractToolset[object]:
        """Return the toolset of a run with a guard around each innermost toolset."""
        return toolset.visit_and_replace(Guarding(self._guards))

    def get_wrapper_model(self, model: Model) -> Model | None:
        """Return the model of a request under guard, if ``model`` is set and these guards are not there already."""
        if self._model is None or (isinstance(model, GuardedModel) and model.is_of(self._guards)):
            return None
        return GuardedModel(model, self._guards, self._model)

    async def for_run(self, ctx: RunContext[object]) -> AbstractCapability[object]:
        """Return the capability of a run, which knows what the application passes: hooks may add messages later."""
        if not self._guards.are_principals or outermost.get() is not None:
            return self
        own = copy.copy(self)
        own._asked = Asked(ctx.run_id, spoken_in(ctx.prompt, ctx.messages))  # noqa: SLF001  Of the same class.
        return own

    async def wrap_run(
        self, ctx: RunContext[object], *, handler: Callable[[], Awaitable[AgentRunResult[object]]]
    ) -> AgentRunResult[object]:
        """Note the outermost run."""
        if outermost.get() is not None:
            return await handler()
        token = outermost.set(self._asked or Asked(ctx.run_id, frozenset()))
        try:
            return await handler()
        finally:
            outermost.reset(token)

    async def before_model_request(
        self, ctx: RunContext[object], request_context: ModelRequestContext
    ) -> ModelRequestContext:
        """Note whose request the next one is."""
        running.set(ctx)
        return request_context

    async def after_model_request(
        self, ctx: RunContext[object], *, request_context: ModelRequestContext, response: ModelResponse
    ) -> ModelResponse:
        """Note tools that cannot be guarded, and record calls of tools that do not exist."""
        parameters = request_context.model_request_parameters
        external = (tool.name for tool in parameters.function_tools if tool.kind == "external")
        for name in (*(tool.unique_id for tool in parameters.native_tools), *external):
            self._unguarded.add(name)
        known = None if ctx.tool_manager is None else ctx.tool_manager.tools
        for call in response.tool_calls:
            if known is not None and call.tool_name not in known:
                arguments = call.args_as_dict(raise_if_invalid=False)
                await _record_unknown(self._guards, ctx, call.tool_name, arguments, call.tool_call_id)
        return response

    @override
    async def wrap_output_process(
        self, ctx: RunContext[object], *, output_context: OutputContext, output: object, handler: _Process
    ) -> object:
        """Note output functions, which cannot be guarded."""
        if output_context.has_function:
            self._unguarded.add(output_context.function_name or "output function")
        return await handler(output)


def instrument(enforcer: Enforcer) -> Callable[[], None]:
    """Guard the tools of all agents of this process, and return the function that undoes it.

    Tools under the capability :class:`AgentIdentity` keep its guard.

    Args:
        enforcer: The enforcer; usually one in monitor mode.
    """
    guards = ToolGuards(enforcer, suspends=SUSPENDS, workflow=conversation, thread=thread)

    def guarded(original: Callable[..., _Toolset | None]) -> Callable[..., _Toolset | None]:
        def get_wrapper_toolset(self: CombinedCapability[object], toolset: _Toolset) -> _Toolset | None:
            wrapped = original(self, toolset)
            if not patch.is_active:
                return wrapped
            return (toolset if wrapped is None else wrapped).visit_and_replace(Guarding(guards, gives_way=True))

        return get_wrapper_toolset

    patch = MethodPatch(CombinedCapability, {"get_wrapper_toolset": guarded})
    patch.apply()
    return patch.undo


async def _record_unknown(
    guards: ToolGuards, ctx: RunContext[object], name: str, arguments: dict[str, Any], call_id: str
) -> None:
    """Record the refusal of a call of a tool that does not exist; the framework answers it."""
    denied = Denied(f"{name}: the agent has no tool of this name", code="tool_unknown")

    def body(_: Call) -> object:
        raise denied  # Monitor mode.

    request = CallRequest(arguments, call_id=call_id, refusal=denied)
    try:
        await guards.run_async(ToolCall(name, request, agent_name(ctx)), cast("Any", body))
    except Denied:
        return
    except Exception as error:  # noqa: BLE001 - No tool runs here, and the run has to go on.
        _LOG.error("the call of a tool that does not exist is not on record: %s", safe_message(error))
