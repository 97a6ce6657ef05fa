"""Guarding LangChain tools in place: the two functions that users call."""

from collections.abc import Sequence
from typing import Final, TypeVar, cast, overload

from langchain_core.tools import BaseTool

from agent_identity.enforcement import Enforcer, GuardedCall
from agent_identity.enforcement.lazy import Lazy, check_lazy
from agent_identity.errors import ConfigurationError
from agent_identity.integrations.langchain.wrapping import (
    FUNCTIONS,
    METHODS,
    Stated,
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
from agent_identity.policy.labels import check_labels
from agent_identity.policy.touch import Touches, check_touches

__all__ = ["check", "is_enforced", "is_guarded_beside", "is_protected", "protect", "unprotect"]

ToolT = TypeVar("ToolT", bound=BaseTool)
ToolsT = TypeVar("ToolsT", bound=Sequence[BaseTool])

_ENTRIES: Final = (
    *("run", "arun", "invoke", "ainvoke", "batch", "abatch", "batch_as_completed", "abatch_as_completed"),
    *("stream", "astream", "astream_log", "astream_events", "transform", "atransform"),
)
"""What runs a tool by way of ``_run`` or ``_arun``; a class that overrides one may run without them."""

_NOTHING: Final = Stated()
_GUARDED_FUNCTION: Final = "__agent_identity_guard__"


@overload
def protect(
    tools: ToolT,
    enforcer: Enforcer,
    *,
    labels: Sequence[str] | None = None,
    data: Sequence[str] | None = None,
    lazy: Lazy | None = None,
    touches: Touches | None = None,
) -> ToolT: ...


@overload
def protect(
    tools: ToolsT,
    enforcer: Enforcer,
    *,
    labels: Sequence[str] | None = None,
    data: Sequence[str] | None = None,
    lazy: Lazy | None = None,
    touches: Touches | None = None,
) -> ToolsT: ...


def protect(
    tools: object,
    enforcer: Enforcer,
    *,
    labels: Sequence[str] | None = None,
    data: Sequence[str] | None = None,
    lazy: Lazy | None = None,
    touches: Touches | None = None,
) -> object:
    """Guard a tool, or each tool of a list, in place.

    Every way to run the tool is guarded: ``invoke``, ``run``, ``batch``, ``stream`` and all others, sync
    and async, and ``_run``, ``_arun``, ``func`` and ``coroutine`` called directly. Copies made later are
    guarded too; copies made earlier, and other references to the bare function, are not. The guard sees
    the arguments as the body gets them: validated, defaults applied. Stores, runtimes, states with
    messages, configuration and callbacks are the framework's and need no place in a scope; JSON given for
    an injected parameter is judged like any argument, because a model may have written it.

    A refused call that carries the id of a tool call returns a ``ToolMessage`` with ``status="error"``,
    so that the agent goes on; any other refused call raises :class:`~agent_identity.errors.Denied`.
    A tool that comes out of a pickle refuses every call until it is protected again.

    Args:
        tools: A tool, or a sequence of tools. Guarding again by the same enforcer changes nothing.
        enforcer: The enforcer.
        labels: Labels of each of the tools, for the policy; ``[]`` says that there are none. Without any, and without
            an entry in the policy file, a rule that blocks by labels blocks every call. Tags and metadata of a tool,
            read when it is guarded, can only make decisions stricter.
        data: Labels of the data that each of the tools touches; likewise.
        lazy: ``"resource"`` for tools whose results live on by themselves; see :meth:`Enforcer.tool`.
        touches: The resources that each of the tools touches; see :meth:`Enforcer.tool`.

    Returns:
        What was given: the same tool, the same sequence.

    Raises:
        ConfigurationError: A tool is guarded by another enforcer, with other labels, with another ``lazy`` or other
            ``touches``, its function is guarded already, its class runs tools in a way of its own, ``touches`` names
            an argument that it does not have, or, with code ``lazy_result``, an annotation shows results that would be
            withheld. No tool of the list is changed then.
        TypeError: Something is no LangChain tool, the enforcer is none, or labels are no list of texts.
    """
    touched = None if touches is None else check_touches(touches)
    stated = Stated(check_labels(labels, "labels"), check_labels(data, "data"), check_lazy(lazy), touched)
    found = _each(tools)
    _check_enforcer(enforcer)
    for tool in found:
        check(tool, enforcer, stated)
        _check_stated(tool, stated)
    for tool in found:
        if enforcer_of(tool) is None:
            wrap_tool(tool, enforcer, stated)
    return tools


def _check_stated(tool: BaseTool, stated: Stated) -> None:
    """Refuse to say something else of a tool than was said; saying nothing changes nothing."""
    if enforcer_of(tool) is None:
        return
    for name, new, old in zip(stated._fields, stated, stated_of(tool), strict=True):
        if new is not None and (old is None or set(new) != set(old)):
            raise ConfigurationError(
                f"the tool {tool.name!r} is guarded with another {name}=; unprotect(tool), then protect it anew"
            )


@overload
def unprotect(tools: ToolT) -> ToolT: ...


@overload
def unprotect(tools: ToolsT) -> ToolsT: ...


def unprotect(tools: object) -> object:
    """Take the guard off a tool, or off each tool of a list; what is not guarded stays as it is.

    Copies that were made of the tool, and functions taken from it, stay guarded.

    Args:
        tools: A tool, or a sequence of tools.

    Returns:
        What was given: the same tool, the same sequence.

    Raises:
        TypeError: Something is no LangChain tool.
    """
    for tool in _each(tools):
        if is_wrapped(tool):
            unwrap_tool(tool)
    return tools


def is_protected(tool: object) -> bool:
    """Tell whether every call of a tool meets a guard, or the tool is closed because nobody guards it any more.

    A tool made from functions that :meth:`Enforcer.tool` guards counts as well.
    """
    return isinstance(tool, BaseTool) and (is_wrapped(tool) or bool(guards_of(tool)))


def is_guarded_beside(tool: BaseTool, other: GuardedCall) -> bool:
    """Tell whether every call of a tool meets a guard of the same enforcer as another one, or the tool is closed."""
    if is_wrapped(tool):
        enforcer = enforcer_of(tool)
        return enforcer is None or enforcer.guard(tool.name).shares_enforcer(other)
    guards = guards_of(tool)
    return bool(guards) and all(guard.shares_enforcer(other) for guard in guards)


def is_enforced(tool: BaseTool) -> bool:
    """Tell whether what guards a tool, if anything does, refuses calls; monitor mode does not."""
    enforcer = enforcer_of(tool)
    if enforcer is not None:
        return enforcer.guard(tool.name).mode == "enforce"
    return is_wrapped(tool) or all(guard.mode == "enforce" for guard in guards_of(tool))


def _check_enforcer(enforcer: object) -> None:
    if not isinstance(enforcer, Enforcer):
        raise TypeError(f"expected enforcer=Enforcer(...), got {type(enforcer).__name__}")


def _each(tools: object) -> tuple[BaseTool, ...]:
    if isinstance(tools, BaseTool):
        return (tools,)
    items = tuple(cast("Sequence[object]", tools)) if isinstance(tools, Sequence) else (tools,)
    for item in items:
        if not isinstance(item, BaseTool):
            raise TypeError(
                f"expected LangChain tools, got {type(item).__name__}; guard functions with enforcer.tool, "
                "and note that tools which a model's provider runs cannot be guarded here"
            )
    return cast("tuple[BaseTool, ...]", items)


def check(tool: BaseTool, enforcer: Enforcer, stated: Stated = _NOTHING) -> None:
    """Return if the tool can be guarded by the enforcer, or is already.

    Args:
        tool: The tool.
        enforcer: The enforcer.
        stated: What the application says of it.

    Raises:
        ConfigurationError: It cannot.
    """
    current = enforcer_of(tool)
    if current is enforcer:
        return
    if current is not None:
        raise ConfigurationError(
            f"expected tool {tool.name!r} to be guarded by this enforcer or by none, got one that another guards; "
            "call unprotect(tool) first"
        )
    for slot in FUNCTIONS:
        function = tool.__dict__.get(slot)
        owner = function_enforcer(function)
        if (owner is not None and owner is not enforcer) or hasattr(function, _GUARDED_FUNCTION):
            raise ConfigurationError(
                f"expected tool {tool.name!r} with a bare function, got a guarded one; guard it once"
            )
    _check_class(base_of(tool))
    check_stated(tool, enforcer, stated)


def _check_class(kind: type[BaseTool]) -> None:
    for cls in kind.__mro__:
        if cls.__module__.partition(".")[0] == "langchain_core":
            continue
        for name in _ENTRIES:
            if name in cls.__dict__:
                raise ConfigurationError(
                    f"expected tools that run by way of _run() and _arun(), got {cls.__name__}, which has its own "
                    f"{name}(); move its work into _run() or _arun()"
                )
        for name in METHODS:
            if isinstance(cls.__dict__.get(name), staticmethod | classmethod):
                raise ConfigurationError(f"expected {name}() of {cls.__name__} as an ordinary method")
