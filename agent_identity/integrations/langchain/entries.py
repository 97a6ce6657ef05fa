"""The ways into a guarded tool: ``run`` and ``arun``, and sooner ones past them for calls to which nobody listens."""

import functools
import inspect
from collections.abc import Awaitable, Callable
from typing import cast

from langchain_core.callbacks import AsyncCallbackManager, CallbackManager
from langchain_core.messages import ToolMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import BaseTool

from agent_identity.enforcement.failures import told_model
from agent_identity.errors import Denied
from agent_identity.integrations.langchain.passage import PASSAGE, Passage, Seam
from agent_identity.integrations.langchain.quiet import is_stock, quiet_call

__all__ = ["arun_of", "entering", "entering_async", "quiet_entries", "refusal", "run_of", "unwrappable"]

_Body = Callable[..., object]
_AsyncBody = Callable[..., Awaitable[object]]
_Direct = Callable[[BaseTool, str], Seam | None]


def entering(tool: BaseTool, entry: _Body, /, tool_input: object, *args: object, **kwargs: object) -> object:
    """Run a guarded tool by an entry point such as ``BaseTool.run``."""
    passage = _passage(tool, tool_input, kwargs.get("tool_call_id"))
    token = PASSAGE.set(passage)
    try:
        return entry(tool, tool_input, *args, **kwargs)
    except Denied as denied:
        return _answer(passage, denied)
    finally:
        PASSAGE.reset(token)


async def entering_async(
    tool: BaseTool, entry: _AsyncBody, /, tool_input: object, *args: object, **kwargs: object
) -> object:
    """Run a guarded tool by an entry point such as ``BaseTool.arun``."""
    passage = _passage(tool, tool_input, kwargs.get("tool_call_id"))
    token = PASSAGE.set(passage)
    try:
        return await entry(tool, tool_input, *args, **kwargs)
    except Denied as denied:
        return _answer(passage, denied)
    finally:
        PASSAGE.reset(token)


def run_of(base: type[BaseTool]) -> _Body:
    """Return the guarded ``run`` of a class of tools."""

    @functools.wraps(base.run)
    def run(self: BaseTool, tool_input: object, *args: object, **kwargs: object) -> object:
        return entering(self, cast("_Body", base.run), tool_input, *args, **kwargs)

    return unwrappable(run, base.run)


def arun_of(base: type[BaseTool]) -> _Body:
    """Return the guarded ``arun`` of a class of tools."""

    @functools.wraps(base.arun)
    async def arun(self: BaseTool, tool_input: object, *args: object, **kwargs: object) -> object:
        return await entering_async(self, cast("_AsyncBody", base.arun), tool_input, *args, **kwargs)

    return unwrappable(arun, base.arun)


def quiet_entries(base: type[BaseTool], direct: _Direct) -> dict[str, _Body]:
    """Return ``invoke`` and ``ainvoke`` for a class of tools, if the way that they spare is known.

    Args:
        base: The class of the tools.
        direct: Returns the seam of the function in a field of a tool, if LangChain would hand it the arguments alone.
    """
    if not is_stock(base):
        return {}
    entry, run = base.invoke, base.run
    aentry, arun = base.ainvoke, base.arun
    below = BaseTool.ainvoke  # That of a structured tool goes on there.

    @functools.wraps(entry)
    def invoke(self: BaseTool, input: object, config: RunnableConfig | None = None, **kwargs: object) -> object:  # noqa: A002  Its name.
        call = None
        if not kwargs and base.invoke is entry and base.run is run:  # Others put theirs in their place.
            call = quiet_call(self, direct(self, "func"), input, config, CallbackManager)
        if call is None:
            return cast("_Body", base.invoke)(self, input, config, **kwargs)
        passage = Passage(self, call.call_id, call.given)
        try:
            return call.run(passage)
        except Denied as denied:
            return _answer(passage, denied)

    @functools.wraps(aentry)
    async def ainvoke(self: BaseTool, input: object, config: RunnableConfig | None = None, **kwargs: object) -> object:  # noqa: A002  As above.
        call = None
        if not kwargs and base.ainvoke is aentry and base.arun is arun and BaseTool.ainvoke is below:
            call = quiet_call(self, direct(self, "coroutine"), input, config, AsyncCallbackManager)
        if call is None:
            return await cast("_AsyncBody", base.ainvoke)(self, input, config, **kwargs)
        passage = Passage(self, call.call_id, call.given)
        try:
            return await call.run_async(passage)
        except Denied as denied:
            return _answer(passage, denied)

    return {"invoke": unwrappable(invoke, entry), "ainvoke": unwrappable(ainvoke, aentry)}


def unwrappable(wrapper: _Body, original: _Body) -> _Body:
    """Return the wrapper without the attribute that leads past it."""
    del wrapper.__dict__["__wrapped__"]
    wrapper.__dict__["__signature__"] = inspect.signature(original)
    return wrapper


def _passage(tool: BaseTool, tool_input: object, call_id: object) -> Passage:
    given = dict(cast("dict[str, object]", tool_input)) if isinstance(tool_input, dict) else None
    return Passage(tool, call_id if isinstance(call_id, str) else None, given)


def _answer(passage: Passage, denied: Denied) -> ToolMessage:
    """Return a refusal as the model gets it.

    Raises:
        Denied: The call carries no id of a tool call, or the refusal is that of another call.
    """
    if passage.call_id is None or passage.tool is None or not passage.refused(denied):
        raise denied
    return ToolMessage(refusal(denied), status="error", tool_call_id=passage.call_id, name=passage.tool.name)


def refusal(denied: Denied) -> str:
    """Return what a model is told of a refusal; how to mend a failure of ours is nothing for a model."""
    reference = f" (reference {denied.reference})" if denied.reference else ""
    return f"refused: {denied.code}{reference}: {told_model(denied)}"
