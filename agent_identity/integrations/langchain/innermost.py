"""Requests that guard what they hold, whatever inner middleware puts into them.

Inner middleware gets the request that our middleware passes on, and changes it by its public ``override``, which makes
another request of the same class. In ours each tool is its guarded copy, and each model asks under guard. So the tool
that finally runs and the model that finally answers are guarded, wherever our middleware stands in the list.
"""

from abc import ABCMeta
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Final, NamedTuple, Protocol, TypeVar, cast, final

from langchain_core.language_models import LanguageModelInput
from langchain_core.messages import BaseMessage, HumanMessage, convert_to_messages
from langchain_core.outputs import ChatGeneration, LLMResult
from langchain_core.prompt_values import PromptValue
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.tools import BaseTool

from agent_identity.integrations.langchain.model_io import Prompt, system_content
from agent_identity.integrations.langchain.wrapping import PARTS

__all__ = ["Asks", "InnermostModels", "InnermostTools"]

_MODEL, _TOOL, _FACTS, _OWNER = "model", "tool", "agent_identity_facts", "agent_identity_owner"
_RUNS: Final = (
    *("invoke", "ainvoke", "batch", "abatch", "batch_as_completed", "abatch_as_completed", "stream", "astream"),
    *("transform", "atransform", "astream_log", "stream_events", "astream_events"),
)
"""Methods of a runnable that ask a model."""

_MAX_KINDS: Final = 256
_NO_OPTIONS: Final[Mapping[str, object]] = MappingProxyType({})
_RequestT = TypeVar("_RequestT")
Send = Callable[[list[BaseMessage]], object]


class Asks(Protocol):
    """Asks a model under guard."""

    def ask(self, prompt: Prompt, send: Send) -> object:
        """Ask the model, and return the delivered answer."""

    async def ask_async(self, prompt: Prompt, send: Send) -> object:
        """Do the same; ``send`` returns an awaitable."""


class _Facts(NamedTuple):
    """The facts of a request that its model cannot tell: the application's system message, and the form of answers."""

    model: object
    system: object = None
    structured: bool = False


@final
class InnermostTools:
    """Makes requests of tool calls whose tool is guarded, also one that inner middleware puts there.

    Args:
        guarded: Returns the guarded copy of a tool, or the tool itself if it is guarded.
    """

    def __init__(self, guarded: Callable[[BaseTool], BaseTool]) -> None:
        self._guarded = guarded
        self._kinds: dict[type, type] = {}

    def of(self, request: _RequestT) -> _RequestT:
        """Return the same request, with the guarded copies of its tool and of the tools that its runtime lists.

        Raises:
            ConfigurationError: The tool cannot be guarded by this enforcer; also from ``override`` of the request.
        """
        kind = type(request)
        if kind not in self._kinds:
            self._kinds[kind] = _subclass(kind, {_TOOL: property(_read_tool, self._write)})
        made = _copied(request, self._kinds[kind], _TOOL)
        runtime: Any = getattr(request, "runtime", None)
        if listed := getattr(runtime, "tools", None):  # Bodies and middleware may run them.
            tools = [self._guarded(tool) if isinstance(tool, BaseTool) else tool for tool in listed]
            vars(made)["runtime"] = replace(runtime, tools=tools)
        return made

    def _write(self, request: object, tool: BaseTool | None) -> None:
        vars(request)[_TOOL] = self._guarded(tool) if isinstance(tool, BaseTool) else tool


def _read_tool(request: object) -> object:
    return _held(request, _TOOL)


@final
class InnermostModels:
    """Makes requests whose model asks under guard, also one that inner middleware puts there.

    Args:
        asks: Asks a model under guard.
    """

    def __init__(self, asks: Asks) -> None:
        self._asks = asks
        self._kinds: dict[type, type] = {}
        self._models: dict[type, type] = {}

    def of(self, request: _RequestT) -> _RequestT:
        """Return the same request, with its model under guard."""
        kind = type(request)
        if kind not in self._kinds:
            self._kinds[kind] = _subclass(kind, {_MODEL: property(self._read, self._write)})
        return _copied(request, self._kinds[kind], _MODEL)

    def _write(self, request: object, model: object) -> None:
        vars(request)[_MODEL] = self._bare(model)

    def _read(self, request: object) -> object:
        facts = _Facts(
            _held(request, _MODEL),
            system_content(request),
            getattr(request, "response_format", None) is not None,
        )
        return _shadow(facts.model, self._kind_of(type(facts.model)), facts)

    def _bare(self, model: object) -> object:
        """Return the model without our guard."""
        kind = type(model)
        if kind.__dict__.get(_OWNER) is not self:
            return model
        facts = _facts_of(model)
        # A copy of a guarded model has no facts of its own.
        return _shadow(model, cast("type", kind.__base__), None) if facts is None else facts.model

    def _kind_of(self, kind: type) -> type:
        made = self._models.get(kind)
        if made is None:
            if len(self._models) >= _MAX_KINDS:
                self._models.clear()
            made = self._models[kind] = _subclass(kind, self._methods())
        return made

    def _methods(self) -> dict[str, object]:
        def of(model: object) -> "_Asked":
            facts = _facts_of(model) or _Facts(self._bare(model))
            return _Asked(self._asks, facts, cast("Runnable[Any, Any]", facts.model))

        def bind_tools(model: object, tools: Sequence[object], **options: object) -> "_Asked":
            asked = of(model)
            return asked.bound_to(cast("Any", asked.facts.model).bind_tools(tools, **options), tools, options)

        def bind(model: object, **options: object) -> "_Asked":
            asked = of(model)
            return asked.bound_to(cast("Any", asked.facts.model).bind(**options), (), options)

        def generate(
            model: object, messages: Sequence[Any], stop: object = None, callbacks: object = None, **options: object
        ) -> LLMResult:
            config, kwargs = _split({**options, "stop": stop, "callbacks": callbacks})
            return _results([of(model).invoke(each, config, **kwargs) for each in messages])

        async def agenerate(
            model: object, messages: Sequence[Any], stop: object = None, callbacks: object = None, **options: object
        ) -> LLMResult:
            config, kwargs = _split({**options, "stop": stop, "callbacks": callbacks})
            return _results([await of(model).ainvoke(each, config, **kwargs) for each in messages])

        return {
            "__slots__": (_FACTS,),
            _OWNER: self,
            "bind_tools": bind_tools,
            "bind": bind,
            "generate": generate,
            "generate_prompt": generate,
            "agenerate": agenerate,
            "agenerate_prompt": agenerate,
            **{name: _runner(of, name) for name in _RUNS},
        }


def _runner(of: Callable[[object], "_Asked"], name: str) -> Callable[..., object]:
    def run(model: object, *args: object, **kwargs: object) -> object:
        return getattr(of(model), name)(*args, **kwargs)

    return run


@final
class _Asked(Runnable[LanguageModelInput, Any]):
    """A model with what is bound to it, which is asked under guard."""

    def __init__(
        self,
        asks: Asks,
        facts: _Facts,
        bound: Runnable[Any, Any],
        tools: Sequence[object] = (),
        options: Mapping[str, object] = _NO_OPTIONS,
    ) -> None:
        self._asks = asks
        self._bound = bound
        self._tools = tools
        self._options = options
        self.facts = facts

    def bound_to(self, bound: Runnable[Any, Any], tools: Sequence[object], options: Mapping[str, object]) -> "_Asked":
        """Return the same model with what is bound to it."""
        return _Asked(self._asks, self.facts, bound, tools, options)

    def bind(self, **options: object) -> "_Asked":
        """Bind more options to the model."""
        return self.bound_to(self._bound.bind(**options), self._tools, {**self._options, **options})

    def bind_tools(self, tools: Sequence[object], **options: object) -> "_Asked":
        """Bind tools to the model, to which middleware has bound options."""
        return self.bound_to(cast("Any", self._bound).bind_tools(tools, **options), tools, {**self._options, **options})

    def invoke(self, input: LanguageModelInput, config: RunnableConfig | None = None, **kwargs: object) -> object:
        """Ask the model."""
        return self._asks.ask(
            self._prompt(input, kwargs), lambda messages: self._bound.invoke(messages, config, **kwargs)
        )

    async def ainvoke(
        self, input: LanguageModelInput, config: RunnableConfig | None = None, **kwargs: object
    ) -> object:
        """Ask the model without blocking the event loop."""
        return await self._asks.ask_async(
            self._prompt(input, kwargs), lambda messages: self._bound.ainvoke(messages, config, **kwargs)
        )

    def _prompt(self, sent: LanguageModelInput, kwargs: Mapping[str, object]) -> Prompt:
        options = {**self._options, **kwargs}
        choice = options.pop("tool_choice", None)
        settings = {name: value for name, value in options.items() if value is not None}
        facts = self.facts
        return Prompt(
            _messages(sent),
            tuple(self._tools),
            choice,
            settings,
            facts.model,
            facts.system,
            structured=facts.structured,
        )


def _messages(sent: LanguageModelInput) -> list[BaseMessage]:
    if isinstance(sent, PromptValue):
        return sent.to_messages()
    return [HumanMessage(sent)] if isinstance(sent, str) else convert_to_messages(sent)


def _split(options: Mapping[str, object]) -> tuple[RunnableConfig, dict[str, object]]:
    """Return the options of ``generate`` as a configuration and the arguments of the model."""
    around = ("callbacks", "tags", "metadata", "run_name", "run_id")
    config = {name: value for name in around if (value := options.get(name)) is not None}
    return cast("RunnableConfig", config), {name: value for name, value in options.items() if name not in around}


def _results(answers: Sequence[object]) -> LLMResult:
    return LLMResult(generations=[[ChatGeneration(message=cast("BaseMessage", answer))] for answer in answers])


def _held(request: object, name: str) -> object:
    try:
        return vars(request)[name]
    except KeyError:
        raise AttributeError(name) from None


def _copied(request: _RequestT, kind: type[_RequestT], name: str) -> _RequestT:
    made = kind.__new__(kind)
    vars(made).update(vars(request))
    object.__setattr__(made, name, getattr(request, name))
    return made


def _subclass(base: type, namespace: Mapping[str, object]) -> type:
    """Return a subclass that looks like its base; the metaclass of pydantic must not build its model anew."""
    made = {
        "__module__": base.__module__,
        "__qualname__": base.__qualname__,
        "__doc__": base.__doc__,
        **namespace,
    }
    maker = ABCMeta if issubclass(type(base), ABCMeta) else type
    return cast("type", maker.__new__(cast("Any", type(base)), base.__name__, (base,), made))


def _facts_of(model: object) -> _Facts | None:
    # Not by the attribute: a model that stands for others would ask them for it.
    try:
        return cast("_Facts", type(model).__dict__[_FACTS].__get__(model))
    except (AttributeError, KeyError):
        return None


def _shadow(model: object, kind: type, facts: _Facts | None) -> object:
    """Return an object of a class with the state of a model."""
    made: object = cast("Any", kind).__new__(kind)
    object.__setattr__(made, "__dict__", vars(model))
    for name in PARTS:
        if hasattr(model, name):
            object.__setattr__(made, name, getattr(model, name))
    if facts is not None:
        kind.__dict__[_FACTS].__set__(made, facts)
    return made
