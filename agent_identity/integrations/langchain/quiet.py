"""Calls to which nobody listens.

LangChain prepares each call of a tool for whoever may listen to it: it makes three managers of callbacks and three
configurations, asks the environment for tracers, and looks up the parameters of the body. Where there is no callback,
no tracer, no hook and no verbose or debug mode, all that can be seen of this is the configuration under which the
body runs. A quiet call makes that one, with LangChain's own parts, and leaves out the rest. It stands in the place of
methods whose sources are known, and only while nobody has replaced what listeners are made by.
"""

import functools
import os
from collections.abc import Callable, Coroutine, Mapping
from contextvars import ContextVar, copy_context
from types import FunctionType, ModuleType
from typing import Final, TypeAlias, cast, final
from uuid import UUID

from langchain_core.callbacks import AsyncCallbackManager, BaseCallbackManager, CallbackManager
from langchain_core.callbacks import manager as managers
from langchain_core.globals import get_debug
from langchain_core.runnables import RunnableConfig, ensure_config
from langchain_core.runnables import config as configs
from langchain_core.runnables.config import var_child_runnable_config
from langchain_core.runnables.utils import coro_with_context
from langchain_core.tools import BaseTool, StructuredTool, ToolException
from langchain_core.tools import base as tools
from langchain_core.utils.env import env_var_is_set

from agent_identity.integrations.langchain.passage import PASSAGE, Passage, Seam
from agent_identity.integrations.langchain.shortcuts import Facts, facts_of, shortcuts, source_of, stock_runs

__all__ = ["QuietCall", "is_stock", "quiet_call"]

_Body: TypeAlias = Callable[..., object]
_Manager: TypeAlias = type[CallbackManager] | type[AsyncCallbackManager]
_Hook: TypeAlias = tuple[ContextVar[object], bool, object, str | None]

_SOURCES: Final[Mapping[str, frozenset[str]]] = {  # langchain-core 1.6 to 1.8; where there are several, one for each.
    "AsyncCallbackManager.on_tool_start": frozenset({"8d8c9591aa577d0a16e0dbe252437b84"}),
    "AsyncParentRunManager.get_child": frozenset({"b11b0b864bf041325d257f59434a599f"}),
    "BaseCallbackManager.__init__": frozenset({"24c73f96e92b67abbc11062caa771513"}),
    "BaseTool._to_args_and_kwargs": frozenset({"11b02a21659a4857288d3ab762ad4147"}),
    "BaseTool.ainvoke": frozenset({"6dde917b4a47caf1ad0c7933a6625d2f"}),
    "BaseTool.arun": frozenset(
        {"3f8fc11ae0de9a1031ece8a159f2bf4e", "d5c45f46fb57e2526709dd837eb5c382", "cd63bf82d82c240a9e6e2871a4d2ae6f"}
    ),
    "BaseTool.invoke": frozenset({"ac6b70b30bc833b5b752ab0e1e779ba5"}),
    "BaseTool.run": frozenset(
        {"3231e607db038334190695e5a1cea612", "625b5ff1caacad23d01534929bbed7b1", "4051caa12754a7040d281441b78f2a29"}
    ),
    "CallbackManager.on_tool_start": frozenset({"e1fcbf73932b1c93cd5ac85df12eb490"}),
    "ParentRunManager.get_child": frozenset({"ee225455b9d698543b48dec124a86212"}),
    "StructuredTool.ainvoke": frozenset({"d8a51b3d434c04d9c4d179177fd06423"}),
    "_configure": frozenset({"dc329d5279e3714dbc67cc8ee22b0512", "fd669021f7e544ad9e61614e2b0aebf2"}),  # 1.6; from 1.7.
    "_set_config_context": frozenset({"1febdeb9c342e1ed6f0367fb260752f1"}),
    "patch_config": frozenset({"aa5aed0d1be3e4cbdc24fa5bf133e8ee"}),
    "set_config_context": frozenset({"0d0ba0c8962231699c75de288bc2a441"}),
}
"""By qualified name, what :func:`source_of` says of the versions of a function that a quiet call was compared with."""

_BASE: Final = vars(BaseCallbackManager)
_SYNC: Final = vars(CallbackManager)
_ASYNC: Final = vars(AsyncCallbackManager)
_MODULE: Final = vars(managers)
"""Where that stands which decides who listens."""

_FILLS: Final = _BASE.get("__init__")
_MAKES: Final = _SYNC.get("configure")
_MAKES_LATER: Final = _ASYNC.get("configure")
_CONFIGURES: Final = _MODULE.get("_configure")
"""What it was when this was imported."""

_FORMAT: Final = "_format_output"
_HOOKS: Final = "_configure_hooks"
_NEW_ID: Final = "uuid7"
_OLD_TRACERS: Final = ("LANGCHAIN_TRACING", "LANGCHAIN_HANDLER")
_ENVIRONMENT: Final = os.environ
_VARIABLES: Final = cast("Mapping[object, object] | None", getattr(os.environ, "_data", None))
_OLD_VARIABLES: Final = tuple(map(os.environ.encodekey, _OLD_TRACERS))
"""The same as the dictionary behind ``os.environ`` names them; to ask that itself costs an exception for each."""
_MANAGERS: Final = (CallbackManager, AsyncCallbackManager)
_INVALID: Final = cast(
    "tuple[type[Exception], ...]",
    tuple(
        found
        for name in ("ValidationError", "ValidationErrorV1")
        if isinstance(found := getattr(tools, name, None), type)
    ),
)


def is_stock(base: type[BaseTool]) -> bool:
    """Tell whether a class of tools runs functions by the way that a quiet call spares."""
    own = ("invoke", "ainvoke", "run", "arun", "_to_args_and_kwargs")
    return (
        all(stock_runs(base, name) for name in ("_run", "_arun"))
        and bool(shortcuts(base))
        and all(_is_known(getattr(base, name)) for name in own)
        and _is_stock_below()
    )


@functools.cache
def _is_stock_below() -> bool:
    """Tell the same of what the classes of tools have in common."""
    names = (
        *((configs, name) for name in ("patch_config", "set_config_context.__wrapped__", "_set_config_context")),
        *((managers, name) for name in ("CallbackManager.on_tool_start", "AsyncCallbackManager.on_tool_start")),
        *((managers, name) for name in ("ParentRunManager.get_child", "AsyncParentRunManager.get_child", "_configure")),
        *((managers, name) for name in ("BaseCallbackManager.__init__",)),
        (tools, "BaseTool.ainvoke"),
    )
    return all(_is_known(functools.reduce(getattr, name.split("."), module)) for module, name in names)


def _is_known(function: object) -> bool:
    # What stands in the place of a function may answer all that is asked of it like the function itself.
    return type(function) is FunctionType and source_of(cast("_Body", function)) in _SOURCES.get(
        getattr(function, "__qualname__", ""), ()
    )


@final
class QuietCall:
    """One call of a tool to which nobody listens.

    Args:
        tool: The tool.
        seam: Where its function is guarded.
        facts: What is known about its schema.
        given: The arguments as they came.
        call_id: The id of the tool call.
        config: The configuration under which the body runs.
    """

    __slots__ = ("_config", "_facts", "_seam", "_tool", "call_id", "given")

    def __init__(
        self,
        tool: BaseTool,
        seam: Seam,
        facts: Facts,
        *,
        given: dict[str, object],
        call_id: str | None,
        config: RunnableConfig,
    ) -> None:
        self.given = given
        self.call_id = call_id
        self._tool = tool
        self._seam = seam
        self._facts = facts
        self._config = config

    def run(self, passage: Passage) -> object:
        """Run the function and return what LangChain makes of its result.

        Args:
            passage: The passage of the call.
        """
        try:
            arguments = self._arguments(passage)
            content = copy_context().run(self._start, passage, arguments)
        except Exception as error:
            handle = self._handler(error)
            if handle is None:
                raise
            return self._formed(handle(error), "error")
        return self._formed(content, "success")

    async def run_async(self, passage: Passage) -> object:
        """Run a coroutine function, in a task of its own as LangChain does."""
        try:
            pending = cast("Coroutine[object, object, object]", self._seam.inner(**self._arguments(passage)))
            context = copy_context()
            context.run(self._prepare, passage)
            content = await coro_with_context(pending, context)
        except Exception as error:
            handle = self._handler(error)
            if handle is None:
                raise
            return self._formed(handle(error), "error")
        return self._formed(content, "success")

    def _arguments(self, passage: Passage) -> dict[str, object]:
        # LangChain takes a schema without fields for no arguments at all, and validates nothing.
        arguments = self._facts.arguments(self.given) if self._facts.fields else {}
        if self._facts.plain:
            passage.named = [name for name in arguments if name in self.given]
        return arguments

    def _prepare(self, passage: Passage) -> None:
        """Set what the body sees, in its own context."""
        var_child_runnable_config.set(self._config)
        PASSAGE.set(passage)
        # Past the function that stands in the tool, which would find the same passage and enter the same seam.
        passage.seam = self._seam

    def _start(self, passage: Passage, arguments: dict[str, object]) -> object:
        self._prepare(passage)
        return self._seam.inner(**arguments)

    def _handler(self, error: Exception) -> _Body | None:
        """Return what tells the model of an error, or ``None`` if it is to be raised."""
        tool = self._tool
        if isinstance(error, _INVALID):
            flag, handle = cast("object", tool.handle_validation_error), "_handle_validation_error"
        elif isinstance(error, ToolException):
            flag, handle = cast("object", tool.handle_tool_error), "_handle_tool_error"
        else:
            return None
        return functools.partial(cast("_Body", getattr(tools, handle)), flag=flag) if flag else None

    def _formed(self, content: object, status: str) -> object:
        if self.call_id is None:
            return content
        return cast("_Body", getattr(tools, _FORMAT))(content, None, self.call_id, self._tool.name, status)


def quiet_call(
    tool: BaseTool, seam: Seam | None, value: object, config: RunnableConfig | None, kind: _Manager
) -> QuietCall | None:
    """Return the call, or ``None`` if somebody may listen to it or it needs LangChain's own way.

    Args:
        tool: The tool.
        seam: Where its function is guarded, which gets the arguments and nothing besides; ``None`` if there is none.
        value: The input of the tool.
        config: The configuration that came with it.
        kind: The class of the manager of callbacks that the body finds.
    """
    facts = None if seam is None or tool.response_format != "content" else facts_of(tool)
    if seam is None or facts is None or type(value) is not dict:
        return None
    given = cast("dict[str, object]", value)
    call_id: str | None = None
    if given.get("type") == "tool_call":
        found, named = given.get("args"), given.get("id")
        if type(found) is not dict or not isinstance(named, str):
            return None
        given, call_id = cast("dict[str, object]", found), named
    settled = ensure_config(config)
    callbacks = cast("CallbackManager | None", settled.get("callbacks"))
    if settled.get("tags") or _is_heard(tool, callbacks):
        return None
    run_id = settled.pop("run_id", None) or cast("UUID", getattr(managers, _NEW_ID)())
    settled.pop("run_name", None)
    settled["callbacks"] = _child(kind, run_id, callbacks, settled.get("metadata"))
    return QuietCall(tool, seam, facts, given=dict(given), call_id=call_id, config=settled)


def _child(
    kind: _Manager, run_id: UUID, callbacks: CallbackManager | None, metadata: dict[str, object] | None
) -> BaseCallbackManager:
    """Return the manager that what the body runs inherits: nobody's, with the id of this run."""
    child = kind(handlers=[], parent_run_id=run_id)
    inherited: dict[str, object] = {}
    if callbacks:
        inherited = callbacks.inheritable_metadata
        if callbacks.inheritable_tags:
            child.add_tags(callbacks.inheritable_tags)
        if inherited:
            child.add_metadata(inherited)
    if metadata and metadata != inherited:  # In a graph both are the same, and to merge them costs much.
        child.add_metadata(metadata)
    return child


def _is_heard(tool: BaseTool, callbacks: CallbackManager | None) -> bool:
    """Tell whether somebody may listen to a call, by all that LangChain would ask."""
    if callbacks and (type(callbacks) not in _MANAGERS or callbacks.handlers or callbacks.inheritable_handlers):
        return True
    if tool.callbacks or tool.tags or tool.verbose or get_debug():
        return True
    return _is_replaced() or _is_traced()


def _is_replaced() -> bool:
    """Tell whether others have put theirs in the place of what makes or fills managers of callbacks."""
    return (
        _BASE.get("__init__") is not _FILLS
        or _SYNC.get("configure") is not _MAKES
        or _ASYNC.get("configure") is not _MAKES_LATER
        or _MODULE.get("_configure") is not _CONFIGURES
    )


def _is_traced() -> bool:
    context = _tracing()
    if context.tracing_v2_callback_var.get() is not None:
        return True
    for var, _, _, variable in cast("list[_Hook]", getattr(context, _HOOKS)):
        if var.get() is not None or (variable is not None and env_var_is_set(variable)):
            return True
    found = context.ls_rh.get_tracing_context()
    return bool(
        found["parent"]
        or found["tags"]
        or found["metadata"]
        or context.ls_utils.tracing_is_enabled(found)
        or _is_traced_the_old_way()
    )


def _is_traced_the_old_way() -> bool:
    first, second = _OLD_VARIABLES
    if _VARIABLES is None or os.environ is not _ENVIRONMENT:
        return any(name in os.environ for name in _OLD_TRACERS)
    return first in _VARIABLES or second in _VARIABLES


@functools.cache
def _tracing() -> ModuleType:
    """Return where tracers are found; loaded late, as LangChain does, because it takes long."""
    from langchain_core.tracers import context  # noqa: PLC0415

    return context


is_stock(StructuredTool)  # All sources are read now.
