"""Middleware for Microsoft Agent Framework: guards the tools of an agent, and on request its model.

Middleware that is listed later may change the arguments of a call. The one here therefore only puts another into the
innermost position, which guards the function that is about to run, in place; its body is what is judged.
"""

import functools
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import Any, Final, cast, final

import agent_framework
from agent_framework import (
    AgentContext,
    AgentMiddleware,
    AgentMiddlewareLayer,
    ChatContext,
    ChatMiddleware,
    ChatResponse,
    ChatResponseUpdate,
    Content,
    Executor,
    FunctionTool,
    InMemoryHistoryProvider,
    Message,
    ResponseStream,
    normalize_messages,
)
from opentelemetry import context as otel
from pydantic import ConfigDict, TypeAdapter

from agent_identity import Enforcer
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
    guard_failed,
    refusal,
)
from agent_identity.errors import Denied
from agent_identity.integrations.frameworks.agent_framework.tools import (
    RUNNING,
    TOOLS,
    GuardedFunctions,
    Origin,
    RunFacts,
    RunningAgent,
    SuspendedError,
    current_call,
    current_facts,
    runs_here,
)
from agent_identity.integrations.method_patch import Installed, MethodPatch
from agent_identity.integrations.narrowing import is_array, is_mapping
from agent_identity.integrations.unguarded_tools import UnguardedTools
from agent_identity.records import Model

_ANYTHING: Final = TypeAdapter[object](object, config=ConfigDict(ser_json_bytes="base64"))
_CALLS: Final = frozenset({"function_call", "mcp_server_tool_call"})


@final
class GuardedModel(ChatMiddleware):
    """Guards the model calls of one run.

    Args:
        facts: The facts of the run.
        name: The name of model calls in scopes and rules.
    """

    def __init__(self, facts: RunFacts, name: str) -> None:
        self._facts = facts
        self._name = name

    async def process(self, context: ChatContext, call_next: Callable[[], Awaitable[None]]) -> None:
        """Judge one request and its answer, which is delivered whole; called by the agent."""
        request = _Request(context, call_next, self._facts)
        try:
            response = await self._guarded(request)
        except Denied as denied:
            response = _refused(refusal(denied))
        except Exception as error:
            if error is request.raised:
                raise
            response = _refused(guard_failed("a model", error))
        context.result = _stream_of(response) if context.stream else response

    async def _guarded(self, request: "_Request") -> "ChatResponse[Any]":
        asked = ToolCall(self._name, request.asked(), self._facts.acting, kind="model", prompt=request.prompt())
        with self._facts.at_origin():
            return cast("ChatResponse[Any]", await self._facts.guards.run_async(asked, request.send))


@final
class _Request:
    """One request to a model.

    Args:
        context: The request as the framework describes it.
        call_next: Calls the model.
        facts: The facts of the run. Memories write in the name of the user, and instructions, as well.

    Attributes:
        raised: The error of the model, if it raised one.
    """

    def __init__(self, context: ChatContext, call_next: Callable[[], Awaitable[None]], facts: RunFacts) -> None:
        self._context = context
        self._call_next = call_next
        self._facts = facts
        self._messages: list[object] = []
        self.raised: BaseException | None = None

    def asked(self) -> CallRequest:
        """Return the prompt for inspectors and the policy: messages, tools and settings."""
        self._messages = _plain(self._context.messages)
        options = dict(self._context.options or {})
        tools = [_described(tool) for tool in cast("Sequence[object]", options.pop("tools", None) or ())]
        prompt = {"messages": self._messages, "tools": tools, **cast("dict[str, object]", _json(options))}
        model: object = options.get("model")
        named = Model(name=model) if isinstance(model, str) and model else None
        return CallRequest(prompt, can_route=False, model=named, revise=self._revise)

    def prompt(self) -> Prompt:
        """Return the prompt and the contents of its answer, for information flow."""
        return Prompt(self._parts, _answer_contents, self._is_provided)

    def _is_provided(self) -> bool:
        tools: object = (self._context.options or {}).get("tools") or ()
        listed = tools if is_array(tools) else [tools]
        return any(not runs_here(tool) for tool in listed)

    def _parts(self) -> Generator[Part]:
        own = self._facts.instructions
        for added in _added((self._context.options or {}).get("instructions"), own):
            yield Part("other", added)
        for message in self._context.messages:
            for content in message.contents:
                if message.role == "system" and content.text in own:
                    continue
                by = message.role == "user" and content.type == "text" and content.text in self._facts.spoken
                yield from (Part("person" if by else "other", one) for one in _contents(content))

    async def send(self, call: Call) -> Shown:
        """Call the model, and return its answer for the guard.

        Args:
            call: The guarded call.
        """
        try:
            await self._call_next()
            result: object = self._context.result
            if isinstance(result, ResponseStream):
                result = await result.get_final_response()
        except BaseException as error:
            self.raised = error
            raise
        response = cast("ChatResponse[Any]", result)
        model: object = response.model
        call.model = Model(name=model) if isinstance(model, str) and model else None
        return Shown(response, _plain(response.messages), rebuild=functools.partial(_rebuilt, response))

    def _revise(self, changed: Mapping[str, object]) -> None:
        self._context.messages = _revised(self._context.messages, self._messages, changed["messages"])


def instruction_texts(*instructions: object) -> tuple[str, ...]:
    """Return the texts of instructions, each of which may be a list of blocks in the provider's form.

    Args:
        instructions: The instructions.
    """
    texts = list[str]()
    for one in filter(None, instructions):
        blocks = one if is_array(one) else [one]
        texts += [block if isinstance(block, str) else repr(block) for block in blocks]
    return tuple(texts)


def _added(instructions: object, own: Sequence[str]) -> Generator[str]:
    """Yield what others, such as memories, have added to the instructions of the application."""
    if not isinstance(instructions, str):
        yield from (text for text in instruction_texts(instructions) if text not in own)
        return
    added, texts = instructions.strip("\n"), [text.strip("\n") for text in own]
    for text in texts:
        added = added.removeprefix(text).strip("\n")
    for text in reversed(texts):
        added = added.removesuffix(text).strip("\n")
    if added:
        yield added


def _revised(messages: Sequence[Message], before: object, after: object) -> list[Message]:
    """Return messages with texts as obligations changed them.

    Raises:
        ValueError: Something else was changed.
    """
    old, new = cast("list[Any]", before), cast("list[Any]", after)
    if not len(messages) == len(old) == len(new):
        raise ValueError("a message was dropped")
    return [one if a == b else _changed(one, b) for one, a, b in zip(messages, old, new, strict=True)]


def _changed(message: Message, new: Mapping[str, Any]) -> Message:
    changed = Message.from_dict(dict(new))
    if _calls(message) != _calls(changed) or len(message.contents) != len(changed.contents):
        raise ValueError("the calls in a message cannot be changed")
    return changed


def _rebuilt(response: "ChatResponse[Any]", changed: object) -> "ChatResponse[Any]":
    """Return an answer with texts as obligations changed them.

    Raises:
        ValueError: Something else was changed.
    """
    response.messages = _revised(response.messages, _plain(response.messages), changed)
    response.raw_representation, response.additional_properties = None, {}  # They may have the text once more.
    return response


def _calls(message: Message) -> list[object]:
    return [_json(content.to_dict()) for content in message.contents if content.type in _CALLS]


def _answer_contents(response: object) -> Generator[object]:
    """Yield the contents of an answer, in their form in later prompts."""
    for message in cast("ChatResponse[Any]", response).messages:
        for content in message.contents:
            yield from _contents(content)


def _contents(content: Content) -> Generator[object]:
    """Yield the contents of a part of a prompt or answer, without call ids."""
    if content.type == "function_call":
        arguments = content.parse_arguments() or {}
        yield [content.name, arguments]
        yield from (value for value in arguments.values() if isinstance(value, str))
    elif content.type == "function_result":
        for item in content.items or []:
            yield from _contents(item)
        if not content.items:
            yield content.result
    else:
        yield content.text if content.text is not None else _json(content.to_dict())


def _plain(messages: Sequence[Message]) -> list[object]:
    return [_json(message.to_dict()) for message in messages]


def _json(value: object) -> object:
    return _ANYTHING.dump_python(value, mode="json", fallback=repr)


def _described(tool: object) -> object:
    describe = getattr(tool, "to_json_schema_spec", None)
    return _json(tool if describe is None else describe())


def _refused(text: str) -> "ChatResponse[Any]":
    """Return an answer in the place of that of the model."""
    return ChatResponse(messages=[Message("assistant", [Content.from_text(text)])])


def _stream_of(response: "ChatResponse[Any]") -> "ResponseStream[ChatResponseUpdate, ChatResponse[Any]]":
    """Return an answer as a stream with one part for each message."""

    async def updates() -> AsyncGenerator[ChatResponseUpdate]:
        for message in response.messages:
            yield ChatResponseUpdate(
                contents=message.contents,
                role=cast("Any", message.role),
                author_name=message.author_name,
                message_id=message.message_id,
                response_id=response.response_id,
                conversation_id=response.conversation_id,
                model=response.model,
                created_at=response.created_at,
                finish_reason=response.finish_reason,
                additional_properties=response.additional_properties,
            )
        if response.usage_details is not None:
            yield ChatResponseUpdate(contents=[Content.from_usage(response.usage_details)])

    def whole(_: Sequence[ChatResponseUpdate]) -> "ChatResponse[Any]":
        return response

    return ResponseStream(updates(), finalizer=whole)


__all__ = ["AgentIdentityMiddleware", "instrument"]

_MAX_KEPT: Final = 256
_Next = Callable[[], Awaitable[None]]

_SPOKEN: Final[ContextVar[frozenset[str] | None]] = ContextVar("agent_identity_maf_spoken", default=None)
"""The texts of the user that the application passed to the run around this place; ``None`` where nothing runs.

None are in a workflow, which may have stored or composed what it hands to an agent."""


@final
class AgentIdentityMiddleware(AgentMiddleware):
    """Guards every tool call of an agent: ``Agent(client=…, middleware=[AgentIdentityMiddleware(enforcer)])``.

    Agents that a guarded tool runs are guarded as well. A refused call is answered with the text of the refusal, and
    the run continues. A stream runs under the task in which it was made. Hosted tools cannot be guarded;
    :attr:`provider_tools` names those that were offered.

    Args:
        enforcer: The enforcer. A task must be open around each run.
        agents: The governed agent for each name of an agent, with a scope if it is to have less. Other names act as
            the agent of the task.
        model: The name of model calls in scopes and rules. Inspectors and the policy then judge each prompt and each
            answer, and an answer is delivered when all of it was judged. The scope must cover the name. ``None``
            leaves model calls alone.
        tool_options: Declarations of tools by name, each a :class:`~agent_identity.options.ToolOptions`.
        principal_messages: Count the user messages that are passed to ``run`` as the principal's own words, outside
            workflows. With information flow and ``model``, other parts of a prompt that no guard of the task delivered
            have unknown integrity.
        servers: The MCP tool of each server, by the name of the server for records and rules.

    Raises:
        TypeError: Enforcer, agents, options or servers are of another type.
        ValueError: ``model`` does not have 1 to 256 visible characters.
        ConfigurationError: ``principal_messages`` is given without ``model``. A run raises it where an agent has a
            second middleware of this class with another enforcer or other options.
    """

    def __init__(
        self,
        enforcer: Enforcer,
        *,
        agents: Acting | None = None,
        model: str | None = None,
        tool_options: Declared | None = None,
        principal_messages: bool = False,
        servers: Mapping[str, object] | None = None,
    ) -> None:
        self._guards = ToolGuards(
            enforcer,
            agents=agents,
            suspends=(SuspendedError,),
            workflow=_session,
            thread=_thread,
            tool_options=tool_options,
            model=model,
            principal_messages=principal_messages,
        )
        self._model = model
        self._servers = dict(servers or {})
        self._offered = _Offered()
        self._kept: dict[tuple[str | None, tuple[str, ...]], list[Any]] = {}
        for server in self._servers.values():
            if not hasattr(server, "functions"):
                kind = type(server).__name__
                raise TypeError(f"an entry of servers= is {kind}; pass MCP tools, {{name: MCPStreamableHTTPTool(...)}}")
        if principal_messages:
            _mark_workflows()
        _RUNS.bind(self)

    @property
    def provider_tools(self) -> tuple[str, ...]:
        """Hosted tools offered so far, which run at the model's provider and cannot be guarded."""
        return self._offered.unguarded.names

    @property
    def enforcer(self) -> Enforcer:
        """The enforcer."""
        return self._guards.enforcer

    @property
    def are_principals(self) -> bool:
        """True if user messages that are passed to runs are the principal's own words."""
        return self._guards.are_principals

    def refuse_second(self, other: "AgentIdentityMiddleware", owner: str) -> None:
        """Report another middleware of the same agent.

        Args:
            other: The other one.
            owner: The name of the agent.

        Raises:
            ConfigurationError: It is not equal; in monitor mode this is logged, and the first one counts.
        """
        guards, servers = other._guards, other._servers  # noqa: SLF001  Of the same class.
        if not self._guards.is_like(guards) or servers != self._servers:
            self._guards.refuse_second(guards, owner)

    async def process(self, context: AgentContext, call_next: _Next) -> None:
        """Guard the calls of one run; called by the agent."""
        self.install(context, None, frozenset())
        await call_next()

    def install(self, context: AgentContext, origin: Origin | None, spoken: frozenset[str]) -> None:
        """Put the guards of one run into the innermost positions.

        Args:
            context: The run.
            origin: The place in which a stream was made; ``None`` if the current one counts.
            spoken: The texts of the user that the run was called with.
        """
        agent: Any = context.agent
        name: object = getattr(agent, "name", None)
        given = _listed(context.client_kwargs.get("middleware"))
        others = [one for one in given if not isinstance(one, _OURS)] if given else given
        options: Mapping[str, object] = getattr(agent, "default_options", {})
        instructions = instruction_texts(options.get("instructions"), (context.options or {}).get("instructions"))
        own = self._own(name if isinstance(name, str) else None, origin, spoken, instructions)
        running = RUNNING.get()
        if running is not None:
            running.facts = own[0].facts
        self._offered.look_at(context.tools, (context.options or {}).get("tools"), options.get("tools"))
        if others or _has_helpers(agent):  # They may offer tools later. Checking each request is slow.
            own = [*own, self._offered]
        context.client_kwargs["middleware"] = [*others, *own]

    def _own(
        self, acting: str | None, origin: Origin | None, spoken: frozenset[str], instructions: tuple[str, ...]
    ) -> list[Any]:
        """Return the guards of a run, cached by agent so that the framework does not build a new chain for each run."""
        is_shared, key = origin is None and not spoken, (acting, instructions)
        own: list[Any] | None = self._kept.get(key) if is_shared else None
        if own is None:
            look_at = self._offered.look_at
            facts = RunFacts(self, self._guards, acting, origin, self._servers, look_at, spoken, instructions)
            own = [GuardedFunctions(facts), _Turns(facts)]
            if self._model is not None:
                own.append(GuardedModel(facts, self._model))
            if is_shared and len(self._kept) < _MAX_KEPT:
                self._kept[key] = own
        return own


@final
class _Offered(ChatMiddleware):
    """Detects the tools that no guard can reach.

    Attributes:
        unguarded: These tools.
    """

    def __init__(self) -> None:
        self.unguarded: Final = UnguardedTools("at the model's provider or in another place")

    async def process(self, context: ChatContext, call_next: _Next) -> None:
        """Check the tools of one request; called by the agent."""
        self.look_at((context.options or {}).get("tools"))
        await call_next()

    def look_at(self, *groups: object) -> None:
        """Check tools, single or in nested collections."""
        for group in groups:
            for tool in _listed(group):
                if isinstance(tool, FunctionTool) and not tool.declaration_only:
                    continue  # The usual case.
                if isinstance(tool, Collection) and not isinstance(tool, Mapping):
                    self.look_at(*tool)
                elif not runs_here(tool):
                    self.unguarded.add(_name(tool))


@final
class _BoundRun(AgentMiddleware):
    """Binds one run to what it was called with, and a stream to the place in which it was created.

    Args:
        guard: The middleware of the agent.
        origin: The place; ``None`` if this is no stream.
        spoken: The texts of the user that the run was called with.
    """

    def __init__(self, guard: AgentIdentityMiddleware, origin: Origin | None, spoken: frozenset[str]) -> None:
        self._guard = guard
        self._origin = origin
        self._spoken = spoken

    async def process(self, context: AgentContext, call_next: _Next) -> None:
        """Guard the calls of one run; called by the agent."""
        self._guard.install(context, self._origin, self._spoken)
        await call_next()


@final
class _Turns(ChatMiddleware):
    """Tells the open task which calls the model asks for.

    Args:
        facts: The facts of the run.
    """

    def __init__(self, facts: RunFacts) -> None:
        self._facts = facts

    async def process(self, context: ChatContext, call_next: _Next) -> None:
        """Take in the answer to one request; called by the agent."""
        await call_next()
        result: Any = context.result
        if isinstance(result, ResponseStream):
            result.with_transform_hook(self._see)
        elif result is not None:
            for message in result.messages:
                self._see(message)

    def _see(self, said: Any) -> None:  # noqa: ANN401  A message, or a part of one.
        with self._facts.at_origin():
            self._facts.guards.saw([one.call_id for one in said.contents if one.type == "function_call"])


_OURS: Final = (GuardedFunctions, GuardedModel, _Offered, _Turns)


def instrument(enforcer: Enforcer) -> Callable[[], None]:
    """Guard the tools of all agents of this process, and return what undoes it.

    Agents with a middleware of ours are left to it.

    Args:
        enforcer: The enforcer.
    """
    guard = AgentIdentityMiddleware(enforcer)
    _RUNS.everywhere = guard
    return functools.partial(_RUNS.leave, guard)


@final
class _Runs(Installed[AgentIdentityMiddleware]):
    """Guards the runs of agents, each for itself, when they are made."""

    def __init__(self) -> None:
        super().__init__(MethodPatch(AgentMiddlewareLayer, {"run": self._bound}), TOOLS)

    def _bound(self, bare: Callable[..., object]) -> Callable[..., object]:
        @functools.wraps(bare)
        def run(agent: Any, *args: Any, middleware: Any = None, **options: Any) -> object:  # noqa: ANN401
            given = _listed(middleware)
            listed = [*_listed(getattr(agent, "middleware", None)), *given]
            guard, stream = self._guard_of(agent, listed), options.get("stream")
            if guard is None:
                made = bare(agent, *args, middleware=middleware, **options)
                return made if RUNNING.get() is None else _during(made, _set(RUNNING, RunningAgent()))
            spoken = _spoken(*args[:1], **options) if guard.are_principals else frozenset[str]()
            innermost: list[AgentMiddleware] = [] if listed and listed[-1] is guard else [guard]
            if stream or spoken:
                origin = Origin(otel.get_current(), guard.enforcer.current_task) if stream else None
                innermost = [_BoundRun(guard, origin, spoken)]
            made = bare(agent, *args, middleware=[*given, *innermost] if innermost else middleware, **options)
            made = _during(made, _set(RUNNING, RunningAgent()))
            return _noting(made, spoken) if guard.are_principals and _SPOKEN.get() is None else made

        return run

    def _guard_of(self, agent: object, middleware: Sequence[object]) -> AgentIdentityMiddleware | None:
        """Return the middleware that guards a run: the agent's own, that of the tool around it, or the process's."""
        ours = [one for one in middleware if isinstance(one, AgentIdentityMiddleware)]
        own = ours[0] if ours else None
        for other in ours[1:]:
            ours[0].refuse_second(other, str(getattr(agent, "name", None) or "the agent"))
        facts = current_facts()
        around = None if facts is None else cast("AgentIdentityMiddleware", facts.middleware)
        return own or around or self.everywhere


_RUNS: Final = _Runs()


@functools.cache
def _mark_workflows() -> None:
    """Have each step of a workflow tell that it runs in one, and workflows that are functions as a whole."""
    bare = Executor.execute

    @functools.wraps(bare)
    async def execute(executor: Executor, *args: Any, **options: Any) -> None:  # noqa: ANN401
        with _within(frozenset()):
            await bare(executor, *args, **options)

    Executor.execute = execute  # type: ignore[method-assign,assignment]
    functional: Any = getattr(agent_framework, "FunctionalWorkflow", None)  # Experimental: it may go.
    if functional is not None:
        functional.run = _in_workflow(functional.run)


def _in_workflow(bare: Callable[..., object]) -> Callable[..., object]:
    @functools.wraps(bare)
    def run(workflow: object, *args: Any, **options: Any) -> object:  # noqa: ANN401  Whatever ``run`` takes.
        return _noting(bare(workflow, *args, **options), frozenset())

    return run


def _spoken(messages: Any = None, **_: object) -> frozenset[str]:  # noqa: ANN401  Whatever ``run`` takes.
    """Return the texts of the user that the application passes to a run, before memories and middleware add theirs.

    What runs within another run gets its messages from there, and so from a model, a memory or a middleware.
    """
    around = _SPOKEN.get()
    if around is not None:
        return around
    users = [message for message in normalize_messages(messages) if message.role == "user"]
    contents = [content for message in users for content in message.contents]
    return frozenset(content.text for content in contents if content.type == "text" and content.text)


def _set(variable: ContextVar[Any], value: object) -> Callable[[], AbstractContextManager[None]]:
    """Return what makes blocks in which a variable has a value."""

    @contextmanager
    def within() -> Generator[None]:
        token = variable.set(value)
        try:
            yield
        finally:
            variable.reset(token)

    return within


def _within(spoken: frozenset[str]) -> AbstractContextManager[None]:
    return _set(_SPOKEN, spoken)()


def _noting(run: object, spoken: frozenset[str]) -> object:
    """Return a run during which the texts of the user are known; those of runs within it count for nothing."""
    return _during(run, _set(_SPOKEN, spoken))


def _during(run: Any, within: Callable[[], AbstractContextManager[None]]) -> object:  # noqa: ANN401
    """Return a run, awaitable or stream, each step of which is in a block of its own."""
    if isinstance(run, ResponseStream):
        return run.with_pull_context_manager(within)

    async def during() -> object:
        with within():
            return cast("object", await run)

    return during()


def _session() -> str | None:
    call = current_call()
    session: object = None if call is None or call.session is None else call.session.session_id
    return session if isinstance(session, str) else None


def _thread() -> str | None:
    session = _session()
    return None if session is None else f"agent-framework:{session}"


def _listed(middleware: object) -> list[object]:
    if middleware is None:
        return []
    return list(cast("Sequence[object]", middleware)) if isinstance(middleware, Sequence) else [middleware]


def _has_helpers(agent: Any) -> bool:  # noqa: ANN401  An agent of any class.
    """Return whether third-party code sees each request of an agent, apart from the framework's own memory."""
    providers: Sequence[object] = getattr(agent, "context_providers", ())
    chat: Sequence[object] = getattr(getattr(agent, "client", None), "chat_middleware", ())
    return bool(chat) or not {InMemoryHistoryProvider}.issuperset(map(type, providers))


def _name(tool: object) -> str:
    """Return the name of a tool, which is an object, or a mapping for the provider."""
    described = tool if is_mapping(tool) else {}
    names = (described.get("name"), getattr(tool, "name", None), described.get("type"), getattr(tool, "type", None))
    return next((name for name in names if isinstance(name, str) and name), type(tool).__name__)
