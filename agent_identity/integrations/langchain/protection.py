"""Guards LangChain tools in place: ``protect``, ``unprotect`` and ``is_protected``."""

from collections.abc import Sequence
from typing import Final, Literal, TypeVar, cast

from langchain_core.tools import BaseTool

from agent_identity import Enforcer
from agent_identity.adapters import GuardedCall
from agent_identity.errors import ConfigurationError
from agent_identity.integrations.langchain.wrapping import (
    FUNCTIONS,
    METHODS,
    base_of,
    check_stated,
    enforcer_of,
    function_enforcer,
    guards_of,
    is_wrapped,
    stated_of,
    unwrap_tool,
    wrap_tool,
)
from agent_identity.options import Restores, Returns, ToolOptions, Touches

__all__ = ["check", "is_enforced", "is_guarded_beside", "is_protected", "protect", "unprotect"]

ToolsT = TypeVar("ToolsT", bound=BaseTool | Sequence[BaseTool])

_ENTRIES: Final = (
    *("run", "arun", "invoke", "ainvoke", "batch", "abatch", "batch_as_completed", "abatch_as_completed"),
    *("stream", "astream", "astream_log", "astream_events", "transform", "atransform"),
)
"""Methods that run a tool through ``_run`` or ``_arun``; a class that overrides one may bypass them."""

_NOTHING: Final = ToolOptions()
_STATED: Final = ("labels", "data", "lazy", "touches", "flow", "content_on_spans")
"""The statements about a tool, each of which may be made once."""

_GUARDED_FUNCTION: Final = "__agent_identity_guard__"


def protect(
    tools: ToolsT,
    enforcer: Enforcer,
    *,
    labels: Sequence[str] | None = None,
    data: Sequence[str] | None = None,
    lazy: Literal["resource"] | None = None,
    touches: Touches | None = None,
    returns: Returns | None = None,
    destination: str | Sequence[str] | None = None,
    endorses: bool = False,
    restores: Restores | None = None,
    content_on_spans: bool | None = None,
) -> ToolsT:
    """Guard a tool, or each tool of a list, in place.

    Every way to run the tool is guarded: ``invoke``, ``run``, ``batch``, ``stream`` and all others, sync
    and async, and direct calls of ``_run``, ``_arun``, ``func`` and ``coroutine``. Later copies are
    guarded too; earlier copies, and other references to the bare function, are not. The guard sees
    the arguments for the body: validated, with defaults. Stores, runtimes, states with
    messages, configuration and callbacks are the framework's and need no entry in a scope; JSON in
    an injected parameter is judged like any argument, because a model may have written it.

    A refused call with a tool call id returns a ``ToolMessage`` with ``status="error"``,
    so the agent continues; any other refused call raises :class:`~agent_identity.errors.Denied`.
    A tool from a pickle refuses every call until it is protected again.

    Args:
        tools: A tool, or a sequence of tools. Guarding again by the same enforcer has no effect.
        enforcer: The enforcer.
        labels: Labels of each of the tools, for the policy; ``[]`` means no labels. Without labels here or in
            the policy file, a rule that blocks by labels blocks every call. Tags and metadata of a tool,
            read when it is guarded, can only make decisions stricter.
        data: Labels of the data of each of the tools; likewise.
        lazy: ``"resource"`` for tools whose results live on by themselves; see :meth:`Enforcer.tool`.
        touches: The resources of each of the tools; see :meth:`Enforcer.tool`.
        returns: Who can have written what each of the tools returns; see :meth:`Enforcer.tool`.
        destination: Names of the arguments that decide where a call of each of the tools leads; likewise.
        endorses: Their results have the declared label whatever the inputs of the task were; likewise.
        restores: By argument the categories of kept values that they get in the place of handles; likewise.
        content_on_spans: Whether the spans of their calls show arguments and results; likewise.

    Returns:
        The argument: the same tool, the same sequence.

    Raises:
        ConfigurationError: A tool is guarded by another enforcer, with other labels, with another ``lazy``, other
            ``touches`` or another flow, its function is guarded already, its class runs tools in its own way,
            ``touches`` or ``destination`` names an unknown argument, or, with code ``lazy_result``, an annotation
            names results that would be withheld. Then no tool of the list is changed.
        TypeError: An item is no LangChain tool, the enforcer is none, or labels are no list of texts.
    """
    stated = ToolOptions(
        labels=labels,
        data=data,
        lazy=lazy,
        touches=touches,
        returns=returns,
        destination=destination,
        endorses=endorses,
        restores=restores,
        content_on_spans=content_on_spans,
    )
    items = _each(tools)
    _check_enforcer(enforcer)
    for tool in items:
        check(tool, enforcer, stated)
        _check_stated(tool, stated)
    for tool in items:
        if enforcer_of(tool) is None:
            wrap_tool(tool, enforcer, stated)
    return tools


def _check_stated(tool: BaseTool, stated: ToolOptions) -> None:
    """Refuse statements about a tool that contradict earlier ones; no statement changes nothing."""
    if enforcer_of(tool) is None:
        return
    before = stated_of(tool)
    for name in _STATED:
        new, old = getattr(stated, name), getattr(before, name)
        if new not in (None, _NOTHING.flow) and _values_of(new) != _values_of(old):
            raise ConfigurationError(
                f"the tool {tool.name!r} is guarded with another {name}=; unprotect(tool), then protect it anew"
            )


def _values_of(stated: object) -> object:
    return set(cast("tuple[object, ...]", stated)) if isinstance(stated, tuple) else stated


def unprotect(tools: ToolsT) -> ToolsT:
    """Remove the guard of a tool, or of each tool of a list; unguarded tools stay as they are.

    Copies of the tool, and functions taken from it, stay guarded.

    Args:
        tools: A tool, or a sequence of tools.

    Returns:
        The argument: the same tool, the same sequence.

    Raises:
        TypeError: An item is no LangChain tool.
    """
    for tool in _each(tools):
        if is_wrapped(tool):
            unwrap_tool(tool)
    return tools


def is_protected(tool: object) -> bool:
    """Return whether a guard covers every call of a tool, or the tool is closed without one.

    A tool made from functions under :meth:`Enforcer.tool` counts as well.
    """
    return isinstance(tool, BaseTool) and (is_wrapped(tool) or bool(guards_of(tool)))


def is_guarded_beside(tool: BaseTool, other: GuardedCall) -> bool:
    """Return whether every call of a tool passes a guard of the given guard's enforcer, or the tool is closed."""
    if is_wrapped(tool):
        enforcer = enforcer_of(tool)
        return enforcer is None or enforcer.guard(tool.name).shares_enforcer(other)
    guards = guards_of(tool)
    return bool(guards) and all(guard.shares_enforcer(other) for guard in guards)


def is_enforced(tool: BaseTool) -> bool:
    """Return whether the guard of a tool, if any, refuses calls; monitor mode does not."""
    enforcer = enforcer_of(tool)
    if enforcer is not None:
        return enforcer.mode == "enforce"
    return is_wrapped(tool) or all(guard.mode == "enforce" for guard in guards_of(tool))


def _check_enforcer(enforcer: object) -> None:
    if not isinstance(enforcer, Enforcer):
        raise TypeError(f"enforcer is {type(enforcer).__name__}; pass enforcer=Enforcer(...)")


def _each(tools: object) -> tuple[BaseTool, ...]:
    if isinstance(tools, BaseTool):
        return (tools,)
    items = tuple(cast("Sequence[object]", tools)) if isinstance(tools, Sequence) else (tools,)
    for item in items:
        if not isinstance(item, BaseTool):
            raise TypeError(
                f"{type(item).__name__} is no LangChain tool; guard functions with enforcer.tool, "
                "and note that tools which a model's provider runs cannot be guarded here"
            )
    return cast("tuple[BaseTool, ...]", items)


def check(tool: BaseTool, enforcer: Enforcer, stated: ToolOptions = _NOTHING) -> None:
    """Check that the enforcer guards the tool, or can.

    Args:
        tool: The tool.
        enforcer: The enforcer.
        stated: The statements of the application about it.

    Raises:
        ConfigurationError: The enforcer cannot guard it.
    """
    current = enforcer_of(tool)
    if current is enforcer:
        return
    if current is not None:
        raise ConfigurationError(f"another enforcer guards the tool {tool.name!r}; call unprotect(tool) first")
    for slot in FUNCTIONS:
        function = tool.__dict__.get(slot)
        owner = function_enforcer(function)
        if (owner is not None and owner is not enforcer) or hasattr(function, _GUARDED_FUNCTION):
            raise ConfigurationError(f"the function of the tool {tool.name!r} is guarded already; guard it once")
    _check_class(base_of(tool))
    check_stated(tool, enforcer, stated)


def _check_class(kind: type[BaseTool]) -> None:
    for cls in kind.__mro__:
        if cls.__module__.partition(".")[0] == "langchain_core":
            continue
        for name in _ENTRIES:
            if name in cls.__dict__:
                raise ConfigurationError(
                    f"{cls.__name__} bypasses _run() and _arun() with its own "
                    f"{name}(); move its work into _run() or _arun()"
                )
        for name in METHODS:
            if isinstance(cls.__dict__.get(name), staticmethod | classmethod):
                raise ConfigurationError(
                    f"{name}() of {cls.__name__} is a static or class method; make it an ordinary one"
                )
