"""Middleware for ``create_agent``: guards all tools of an agent, and inspects its model calls.

Needs the distribution ``langchain`` 1.0 or newer, which the extra ``langchain`` does not install.
"""

import logging
from collections.abc import Awaitable, Callable, Generator, Iterable, Mapping
from contextlib import AsyncExitStack, ExitStack, contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeAlias, TypeVar, cast

from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import BaseTool

from agent_identity import Agent, Enforcer, Scope, Task
from agent_identity.adapters import Call, CallRequest, GuardedCall, Opening, Shown, off_loop, refusal
from agent_identity.errors import AttenuationError, Denied
from agent_identity.inspection import Label
from agent_identity.integrations.langchain.deliveries import Deliveries
from agent_identity.integrations.langchain.guarded_copies import ToolProxies
from agent_identity.integrations.langchain.held_answers import taps
from agent_identity.integrations.langchain.invocation import refusal_message
from agent_identity.integrations.langchain.protection import check, is_guarded_beside
from agent_identity.integrations.langchain.wrapping import (
    guard_for,
    is_wrapped,
    noting,
    place,
    returns,
    suspends,
    thread,
    workflow,
)
from agent_identity.integrations.narrowing import is_list, is_mapping
from agent_identity.integrations.unguarded_tools import UnguardedTools

try:
    from langchain.agents.middleware import AgentMiddleware, AgentState
    from langgraph.config import get_config
    from langgraph.errors import ParentCommand
    from langgraph.types import Command

    from agent_identity.integrations.langchain.acting_agents import (
        Hop,
        Place,
        handed_to,
        note_handoff,
        place_of,
        run_of,
    )
    from agent_identity.integrations.langchain.innermost import InnermostModels, InnermostTools, Send
    from agent_identity.integrations.langchain.model_calls import ModelCall, account, account_answer, join_prompt
    from agent_identity.integrations.langchain.model_io import AnyModelRequest, AnyModelResponse, Prompt, request_json
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] not in {"langchain", "langgraph"}:
        raise
    raise ImportError("langchain 1.0 or newer is not installed; pip install langchain") from error

if TYPE_CHECKING:
    from langchain.agents.middleware import ToolCallRequest  # Its place has changed since langchain 1.0.

__all__ = ["AgentIdentityMiddleware"]

_LOG: Final = logging.getLogger("agent_identity")
_UNNAMED: Final = "unnamed_tool"
_FUNCTION: Final = frozenset({"custom", "function", "input_schema", "parameter_definitions", "parameters", "toolSpec"})
"""Members of the description of a tool that runs here."""

_NO_PROVIDED: Final = ({"function_declarations"}, {"cachePoint"})
"""Members of entries that are no tool of the provider: descriptions of several that run here, or a hint."""
_Result: TypeAlias = "ToolMessage | Command[object]"
_Answer: TypeAlias = "AnyModelResponse | AIMessage"
_AnswerT = TypeVar("_AnswerT")


class AnsweredInPlace(Exception):
    """Middleware answered in place of the guarded tool, which did not run."""


class _ModelRefused(Denied):
    """A refused call of a model whose answer LangChain would read as a structure."""


class AgentIdentityMiddleware(AgentMiddleware[AgentState[Any], Any]):
    """Guards every tool call of one agent, without changing its tools.

    Each call is one decision, one intent, one outcome and one span, even for tools that ``protect`` guards, and
    with the instrumentor active. A refused call is answered with a ``ToolMessage`` with ``status="error"``, and
    the run continues. A call of a missing tool is judged and recorded as well. Retrying middleware inside
    this one makes each attempt a call of its own.

    Provider-side tools cannot be guarded; :attr:`provider_tools` names those that were offered.

    Args:
        enforcer: The enforcer. A task must be open around the run.
        agent: The acting agent, if not that of the task: each call then runs under authority delegated to
            it for that call. After a handoff the chain also names the agents that handed the work over.
        scope: The scope delegated to ``agent``; by default the whole scope of the task.
        model: The name of model calls in scopes and rules. The enforcer's inspectors then inspect
            each request (messages with all members that integrations send, the system message,
            tools as described to the model, ``tool_choice``, ``model_settings``) and the messages of the
            answer, the policy judges both, and a refusal replaces the answer. They do not see
            artifacts of tools, which are not sent, the schema in ``response_format``, and additions of the model object
            or its client. The scope must cover the name. The kind of the call is ``model``, or
            ``streamed_model`` if the answer may have reached its reader before its inspection.
            ``None`` leaves model calls alone.

    Raises:
        TypeError: A scope without an agent.
        ValueError: ``model`` does not have 1 to 256 visible characters.
    """

    def __init__(
        self,
        enforcer: Enforcer,
        *,
        agent: Agent | None = None,
        scope: Scope | None = None,
        model: str | None = None,
    ) -> None:
        super().__init__()
        if scope is not None and agent is None:
            raise TypeError("scope is given without an agent; pass agent=")
        self._enforcer = enforcer
        self._own = None if agent is None else Hop(agent, scope)
        self._twins = ToolProxies(enforcer, lambda tool: check(tool, enforcer))
        self._tool_requests = InnermostTools(self._guarded)
        self._model_requests = InnermostModels(self)
        self._unnamed = enforcer.guard(
            _UNNAMED, suspends=suspends, returns=returns, place=place, workflow=workflow, thread=thread
        )
        self._unguarded = UnguardedTools("at the model's provider")
        self._models: dict[bool, GuardedCall] = {}
        if model is not None:
            for streamed, kind in ((False, "model"), (True, "streamed_model")):
                self._models[streamed] = enforcer.guard(
                    model, kind=kind, suspends=suspends, returns=returns, workflow=workflow, thread=thread
                )

    @property
    def provider_tools(self) -> tuple[str, ...]:
        """Provider-side tools offered to the model so far, which cannot be guarded."""
        return self._unguarded.names

    def wrap_tool_call(self, request: "ToolCallRequest", handler: Callable[["ToolCallRequest"], _Result]) -> _Result:
        """Run one tool call under guard; called by the agent."""
        run = _Run(request, self._hops(_config_of(request)), self._unnamed, self._enforcer)
        try:
            with ExitStack() as stack:
                self._act(run.hops, stack)
                self._prepare(run)
                result = run.through(handler)
        except ParentCommand as handoff:
            run.hand_over(run.accounted(cast("Any", handoff).args[0]))
            raise
        except (Denied, AttenuationError) as error:
            if not run.is_answer(error):
                raise
            return run.answer(run.recorded(error))
        run.hand_over(result)
        return run.accounted(result)

    async def awrap_tool_call(
        self, request: "ToolCallRequest", handler: Callable[["ToolCallRequest"], Awaitable[_Result]]
    ) -> _Result:
        """Run one tool call under guard; called by the agent."""
        run = _Run(request, self._hops(_config_of(request)), self._unnamed, self._enforcer)
        try:
            async with AsyncExitStack() as stack:
                await self._act_async(run.hops, stack)
                self._prepare(run)
                result = await run.through_async(handler)
        except ParentCommand as handoff:
            run.hand_over(run.accounted(cast("Any", handoff).args[0]))
            raise
        except (Denied, AttenuationError) as error:
            if not run.is_answer(error):
                raise
            return run.answer(await off_loop(partial(run.recorded, error)))
        run.hand_over(result)
        return run.accounted(result)

    def wrap_model_call(
        self, request: AnyModelRequest, handler: Callable[[AnyModelRequest], AnyModelResponse]
    ) -> _Answer:
        """Pass on the request with its model under guard; called by the agent."""
        self._look_at_tools(request.tools, request.model)
        try:
            return handler(self._model_requests.of(request))
        except _ModelRefused as refused:
            return self._answered(AIMessage(str(refused)))

    async def awrap_model_call(
        self,
        request: AnyModelRequest,
        handler: Callable[[AnyModelRequest], Awaitable[AnyModelResponse]],
    ) -> _Answer:
        """Pass on the request with its model under guard; called by the agent."""
        self._look_at_tools(request.tools, request.model)
        try:
            return await handler(self._model_requests.of(request))
        except _ModelRefused as refused:
            return self._answered(AIMessage(str(refused)))

    def ask(self, prompt: "Prompt", send: "Send") -> object:
        """Ask the model, if requested under guard; called by the model of the request, after all other middleware.

        Args:
            prompt: What the model is asked.
            send: Asks it.
        """
        self._look_at_tools(prompt.tools, prompt.model)
        self._join(prompt)
        if not self._models:
            return self._answered(send(prompt.messages))
        guard, run = self._guard_of(prompt), ModelCall(prompt)
        try:
            with ExitStack() as stack:
                self._act(self._hops(get_config()), stack)
                return self._answered(run.through(guard, send))
        except (Denied, AttenuationError) as error:
            if not run.is_refused_by(error):
                raise
            return self._refused(prompt, _recorded(guard, request_json(prompt), error, self._enforcer.current_task))

    async def ask_async(self, prompt: "Prompt", send: "Send") -> object:
        """Do what :meth:`ask` does without blocking the event loop; ``send`` returns an awaitable."""
        later = cast("Callable[[list[BaseMessage]], Awaitable[object]]", send)
        self._look_at_tools(prompt.tools, prompt.model)
        task = self._enforcer.current_task
        if task is not None and task.flow is not None:
            await off_loop(partial(self._join, prompt))
        if not self._models:
            return self._answered(await later(prompt.messages))
        guard, run = self._guard_of(prompt), ModelCall(prompt)
        try:
            async with AsyncExitStack() as stack:
                await self._act_async(self._hops(get_config()), stack)
                return self._answered(await run.through_async(guard, later))
        except (Denied, AttenuationError) as error:
            if not run.is_refused_by(error):
                raise
            task = self._enforcer.current_task
            return self._refused(prompt, await off_loop(partial(_recorded, guard, request_json(prompt), error, task)))

    def _refused(self, prompt: "Prompt", denied: Denied) -> AIMessage:
        """Return the answer for a refusal; where LangChain reads answers as a structure, raise it to our middleware.

        Raises:
            Denied: LangChain would take the text for a structure.
        """
        if prompt.structured:
            raise _ModelRefused(refusal(denied), code=denied.code, reference=denied.reference) from None
        return self._answered(AIMessage(refusal(denied)))

    def _guard_of(self, prompt: "Prompt") -> GuardedCall:
        """Return the guard of a model call; whether somebody may read the answer before its inspection is its kind.

        LangChain streams a model if a handler taps its output, or if the model is told to. Where answers are
        inspected, handlers get them afterwards.
        """
        streams = getattr(prompt.model, "streaming", False) is True
        return self._models[streams or (not self._models[False].holds and bool(taps(get_config())))]

    def _join(self, prompt: "Prompt") -> None:
        """Lower the mark of the task for what the model is about to read and nobody accounted for.

        Raises:
            EvidenceError: It could not be recorded.
        """
        provided = any(not isinstance(tool, BaseTool) for tool in (*prompt.tools, *_bound_tools(prompt.model)))
        join_prompt(self._enforcer.current_task, prompt.messages, system=prompt.system, is_provided=provided)

    def _answered(self, answer: _AnswerT) -> _AnswerT:
        """Return what the model answered, which comes from what it read and counts in the mark of the task."""
        account_answer(self._enforcer.current_task, answer)
        return answer

    def _hops(self, config: RunnableConfig) -> tuple[Hop, ...]:
        """Return the delegations between the open task and the acting agent."""
        task = self._enforcer.current_task
        if task is None:
            return ()
        hops = handed_to(task, place_of(config), run_of(config))
        own = self._own
        if own is None:
            return hops
        # An agent that gets the work back continues where it left off.
        before = [hop.agent for hop in hops]
        hops = hops[: before.index(own.agent)] if own.agent in before else hops
        return hops if not hops and own.scope is None and own.agent == task.agent else (*hops, own)

    def _act(self, hops: tuple[Hop, ...], stack: ExitStack) -> None:
        """Open the delegations until the stack is left.

        Raises:
            Denied: The task has ended, or an agent must not act.
            AttenuationError: A scope exceeds that of its parent.
        """
        try:
            for hop in hops:
                stack.enter_context(self._delegated(hop))
        except (Denied, AttenuationError) as error:
            self._tolerate(error)
            stack.close()

    async def _act_async(self, hops: tuple[Hop, ...], stack: AsyncExitStack) -> None:
        try:
            for hop in hops:
                await stack.enter_async_context(self._delegated(hop))
        except (Denied, AttenuationError) as error:
            self._tolerate(error)
            await stack.aclose()

    def _tolerate(self, error: Denied | AttenuationError) -> None:
        """In monitor mode, continue as the agent of the task; otherwise raise the error again."""
        if self._unnamed.mode == "enforce":
            raise error
        _LOG.warning("monitor mode: a call goes on without delegation (%s)", error.code)

    def _delegated(self, hop: Hop) -> Opening:
        task = self._enforcer.current_task
        return self._enforcer.delegate(hop.agent, scope=hop.scope or cast("Task", task).scope)

    def _prepare(self, run: "_Run") -> None:
        """Replace the tool by its guarded copy, also one that inner middleware chooses.

        Raises:
            ConfigurationError: The tool cannot be guarded by this enforcer.
        """
        run.entered = True
        run.request = self._tool_requests.of(run.request)

    def _guarded(self, tool: BaseTool) -> BaseTool:
        """Return the guarded copy of a tool; of one that our guards cover anyway, a copy that notes its deliveries.

        Raises:
            ConfigurationError: The tool cannot be guarded by this enforcer.
        """
        if not is_guarded_beside(tool, self._unnamed):
            return self._twins.of(tool)
        return tool if is_wrapped(tool) else noting(tool)

    def _look_at_tools(self, tools: Iterable[object], model: object) -> None:
        """Note the tools that nobody can guard.

        Raises:
            ConfigurationError: A tool cannot be guarded by this enforcer.
        """
        for tool in (*tools, *_bound_tools(model)):
            if isinstance(tool, BaseTool):
                self._guarded(tool)
            elif is_mapping(tool):
                self._unguarded.add(_provided_name(tool))


class _Run:
    """One running tool call.

    Args:
        request: The request of the agent.
        hops: The delegations of the call.
        unnamed: The guard of tools whose names are unfit for records.
        enforcer: The enforcer.

    Attributes:
        request: The request, with the guarded copy in place of the tool.
        entered: True once the tool or its guard runs.
    """

    def __init__(
        self, request: "ToolCallRequest", hops: tuple[Hop, ...], unnamed: GuardedCall, enforcer: Enforcer
    ) -> None:
        self.request = request
        self.hops = hops
        self.entered = False
        self._denied: Denied | None = None
        self._raised: BaseException | None = None
        self._enforcer = enforcer
        self._unnamed = unnamed
        self._task = enforcer.current_task
        self._deliveries = Deliveries(request.tool_call["id"], self._account)
        self._place: Place | None = place_of(_config_of(request))

    def through(self, handler: Callable[["ToolCallRequest"], _Result]) -> _Result:
        """Run the tool, whose guard judges it; an answer of middleware in its place is judged here, by its name.

        Raises:
            Denied: The call is refused.
        """
        if not self._may_begin():
            return self._judged(lambda: handler(self.request))
        try:
            with self._deliveries.noted():
                result = handler(self.request)
        except BaseException as error:
            if self._is_missing():
                with suppress(Denied):  # What middleware raised goes on, whether its call is granted or not.
                    self._judged(partial(_raise, error))
            raise
        return result if self._deliveries.entered else self._judged(lambda: result)

    async def through_async(self, handler: Callable[["ToolCallRequest"], Awaitable[_Result]]) -> _Result:
        """Do what :meth:`through` does without blocking the event loop."""
        if not self._may_begin():
            return await self._judged_async(lambda: handler(self.request))
        try:
            with self._deliveries.noted():
                result = await handler(self.request)
        except BaseException as error:
            if self._is_missing():
                with suppress(Denied):
                    await self._judged_async(partial(_raise_later, error))
            raise
        return result if self._deliveries.entered else await self._judged_async(partial(_later, result))

    def _may_begin(self) -> bool:
        """Return whether middleware may look for a missing tool: not for a name that the task does not grant."""
        if self.request.tool is not None:
            return True
        task, call = self._enforcer.current_task, self.request.tool_call
        try:
            if task is not None:
                task.scope.check(call["name"], call["args"], tuple(call["args"]))
        except Denied:
            return False
        return task is not None

    def _is_missing(self) -> bool:
        return self.request.tool is None and not self._deliveries.entered

    def _judged(self, answer: Callable[[], _Result]) -> _Result:
        def body(_: Call) -> Shown:
            with self._foreign():
                return self._shown(answer())

        try:
            return cast("_Result", self._guard().run(self._asked(), body))
        except Denied as denied:
            self._note(denied)
            raise

    async def _judged_async(self, answer: Callable[[], Awaitable[_Result]]) -> _Result:
        async def body(_: Call) -> Shown:
            with self._foreign():
                return self._shown(await answer())

        try:
            return cast("_Result", await self._guard().run_async(self._asked(), body))
        except Denied as denied:
            self._note(denied)
            raise

    @contextmanager
    def _foreign(self) -> Generator[None]:
        """Keep what the block raises: a refusal among it is not that of this call."""
        try:
            yield
        except BaseException as error:
            self._raised = error
            raise

    def _note(self, denied: Denied) -> None:
        if denied is not self._raised:
            self._denied = denied

    def _shown(self, result: _Result) -> Shown:
        """Return an answer in place of the tool, which failed in so far as it did not run."""
        failed = isinstance(result, ToolMessage) and result.status == "error"
        unknown = failed and self.request.tool is None
        failure = LookupError("the agent has no such tool") if unknown else AnsweredInPlace()
        return Shown(result, result, failure, rebuild=lambda changed: changed, label=Label("unknown"))

    def _asked(self) -> CallRequest:
        call = self.request.tool_call
        return CallRequest(call["args"], call_id=call["id"], can_route=False)

    def is_answer(self, error: Denied | AttenuationError) -> bool:
        """Return whether a refusal is this call's: a guarded tool answers its own, and passes on those of others.

        A function under :meth:`Enforcer.tool` answers nothing; nor does code before the tool.
        """
        tool = self.request.tool
        if not self.entered or error is self._denied:
            return True
        return tool is not None and isinstance(error, Denied) and not is_wrapped(tool)

    def recorded(self, error: Denied | AttenuationError) -> Denied:
        """Return the refusal of the call, recorded in the ledger."""
        return _recorded(self._guard(), self.request.tool_call["args"], error, self._task)

    def answer(self, denied: Denied) -> ToolMessage:
        """Return the agent's answer for a refusal; it is ours, and counts in the mark of the task."""
        call = self.request.tool_call
        answer = refusal_message(denied, call["id"], call["name"])
        account(self._task, answer)
        return answer

    def _account(self, result: object) -> None:
        """Register what the guard delivered, whose label counts in the mark of the task.

        What middleware makes of it may hold anything, and nobody accounts for that.
        """
        account(self._task, cast("Any", result).args[0] if isinstance(result, ParentCommand) else result)

    def accounted(self, result: _Result) -> _Result:
        """Return the result, after a message that no tool delivered was registered if its label counts in the mark."""
        deliveries = self._deliveries
        # The agent writes the message about an error of the tool; an answer in its place was judged, by its own label.
        said: object = result.content if isinstance(result, ToolMessage) and result.status == "error" else None
        if not deliveries.entered or deliveries.says_error(said):
            account(self._task, result)
        return result

    def hand_over(self, result: object) -> None:
        """Note a handoff in the result."""
        if self._task is not None and self._place is not None:
            note_handoff(self._task, self._place, result, self.hops)

    def _guard(self) -> GuardedCall:
        tool, name = self.request.tool, self.request.tool_call["name"]
        guard = guard_for(tool) if isinstance(tool, BaseTool) else None
        if guard is not None:
            return guard
        try:
            return self._enforcer.guard(
                name, suspends=suspends, returns=returns, place=place, workflow=workflow, thread=thread
            )
        except (TypeError, ValueError):  # A model wrote it, and it is unfit for records.
            return self._unnamed


def _raise(error: BaseException) -> NoReturn:
    raise error


async def _raise_later(error: BaseException) -> NoReturn:
    raise error


async def _later(result: _Result) -> _Result:
    return result


def _recorded(
    guard: GuardedCall, values: Mapping[str, object], error: Denied | AttenuationError, task: Task | None
) -> Denied:
    """Return the refusal of the call, recorded under the open task."""
    denied = error if isinstance(error, Denied) else Denied(str(error), code=error.code)
    return denied if denied.reference else guard.refuse(values, denied, task)


def _provided_name(tool: Mapping[str, object]) -> str:
    function = tool.get("function")
    named = function if is_mapping(function) else tool
    return str(named.get("name") or tool.get("type") or "unnamed")


def _bound_tools(model: object) -> list[dict[str, object]]:
    """Return the tools of the provider that the application has bound to the model."""
    kwargs: object = getattr(model, "kwargs", None)
    tools = kwargs.get("tools") if is_mapping(kwargs) else None
    listed = tools if is_list(tools) else []
    described = [cast("dict[str, object]", tool) for tool in listed if isinstance(tool, dict)]
    return [tool for tool in described if tool.keys().isdisjoint(_FUNCTION) and tool.keys() not in _NO_PROVIDED]


def _config_of(request: "ToolCallRequest") -> RunnableConfig:
    return cast("RunnableConfig", cast("Any", request).runtime.config)
