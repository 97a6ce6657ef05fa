"""Carries the tool call id and the supplied argument names from ``run`` to the guarded body, in a context variable.

A call that passes several bodies of one tool (an ``_arun`` that calls ``_run``) stays one call: one decision, one
intent, one outcome, one span. ``protect``, the middleware and the instrumentor all invoke tools this way.
"""

import inspect
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextvars import ContextVar
from types import MappingProxyType
from typing import Final, NamedTuple, cast, final

from langchain_core.messages import ToolMessage
from langchain_core.tools import BaseTool
from msgspec import Struct

from agent_identity.adapters import Binder, Call, CallRequest, GuardedCall, dressed, form_bytes, guarded, refusal
from agent_identity.errors import Denied
from agent_identity.integrations.langchain.deliveries import delivered, entered, raised
from agent_identity.integrations.langchain.parameters import OwnDefaults, injected_parameters

__all__ = [
    "InterceptedMethod",
    "ToolInvocation",
    "guarded_async_entry",
    "guarded_entry",
    "intercepted",
    "refusal_message",
]

_NOTHING: Final[Mapping[str, object]] = MappingProxyType({})
_CURRENT: Final[ContextVar["ToolInvocation | None"]] = ContextVar("agent_identity_tool_invocation", default=None)


@final
class _Canonical(NamedTuple):
    """The canonical bytes of an argument; a type of its own, unlike any argument."""

    kind: type
    data: bytes


_SCALARS: Final = (str, int, float, _Canonical)
_copy: Final = cast("Callable[[object], dict[str, object]]", dict)  # LangChain adds members to the input.
_Body = Callable[..., object]
_AsyncBody = Callable[..., Awaitable[object]]


@final
class ToolInvocation(Struct, eq=False):
    """One running call of a tool.

    Attributes:
        tool: The tool; ``None`` if a function of a tool is called directly.
        call_id: The call id from the model.
        given: The input before validation; ``None`` if only the arguments of the body are known.
        answers: The calls and refusals of the invocation; shared with an enclosing invocation of the same tool.
        method: The body that the call reached.
        call: The judged call.
        judged: Snapshots of its arguments, if it can pass several bodies.
        passed: The slots of the bodies that it has passed.
    """

    tool: BaseTool | None
    call_id: str | None = None
    given: Mapping[str, object] | None = None
    answers: list[Call | Denied] = []  # msgspec copies this and the set below for each invocation.
    method: "InterceptedMethod | None" = None
    call: Call | None = None
    judged: Mapping[str, object] = _NOTHING
    passed: set[str] = set()

    def answer(self, denied: Denied) -> ToolMessage:
        """Return a refusal in the form for the model.

        Raises:
            Denied: The call has no tool call id, or the refusal belongs to another call.
        """
        if self.call_id is None or self.tool is None or not self._is_own(denied):
            raise denied
        return refusal_message(denied, self.call_id, self.tool.name)

    def _is_own(self, denied: Denied) -> bool:
        """Return whether a refusal is this call's own, and not that of a call made by its body."""
        return any(answer is denied or (type(answer) is Call and answer.denial is denied) for answer in self.answers)


def guarded_entry(find: Callable[[], _Body]) -> _Body:
    """Return a guarded entry point such as ``BaseTool.run``, which answers refused calls for the model.

    It raises :class:`Denied` if the refused call has no tool call id, or the refusal belongs to another call.

    Args:
        find: Returns the entry point of the bare class, at each call.
    """

    def run(tool: BaseTool, /, tool_input: object, *args: object, **kwargs: object) -> object:
        call_id, given = kwargs.get("tool_call_id"), _copy(tool_input) if issubclass(type(tool_input), dict) else None
        invocation = ToolInvocation(tool, call_id if isinstance(call_id, str) else None, given)
        noted = entered(call_id)
        token = _CURRENT.set(invocation)
        try:
            return delivered(noted, find()(tool, tool_input, *args, **kwargs))
        except Denied as denied:
            return delivered(noted, invocation.answer(denied))
        except BaseException as error:
            raised(noted, error)
            raise
        finally:
            _CURRENT.reset(token)

    return run


def guarded_async_entry(find: Callable[[], _AsyncBody]) -> _AsyncBody:
    """Return a guarded entry point such as ``BaseTool.arun``; see :func:`guarded_entry`."""

    async def arun(tool: BaseTool, /, tool_input: object, *args: object, **kwargs: object) -> object:
        call_id, given = kwargs.get("tool_call_id"), _copy(tool_input) if issubclass(type(tool_input), dict) else None
        invocation = ToolInvocation(tool, call_id if isinstance(call_id, str) else None, given)
        noted = entered(call_id)
        token = _CURRENT.set(invocation)
        try:
            return delivered(noted, await find()(tool, tool_input, *args, **kwargs))
        except Denied as denied:
            return delivered(noted, invocation.answer(denied))
        except BaseException as error:
            raised(noted, error)
            raise
        finally:
            _CURRENT.reset(token)

    return arun


def refusal_message(denied: Denied, call_id: str | None, name: str) -> ToolMessage:
    """Return a refusal in the form for the model."""
    return ToolMessage(refusal(denied), status="error", tool_call_id=call_id, name=name)


@final
class InterceptedMethod:
    """One body of a tool under guard: its function, its coroutine, ``_run`` or ``_arun``.

    Args:
        slot: The name of the attribute that holds the body.
        body: The body.
        guard: The guard; ``None`` refuses every call, for tools without a guard.
        tool: The first tool; its copies share the interception of a function.
        layered: Calls can pass several bodies of this class of tools.
    """

    __slots__ = (
        *("_asks", "_binder", "_defaults", "_guard", "_injected", "_judge", "_layered", "_metadata", "_method"),
        *("_name", "_rest", "_schema", "_slot", "_tags"),
        "inner",
    )

    def __init__(
        self,
        slot: str,
        body: Callable[..., object],
        guard: GuardedCall | None,
        tool: BaseTool,
        *,
        layered: bool,
    ) -> None:
        self._slot = slot
        self._guard = guard
        self._name = tool.name
        self._schema: object = tool.args_schema
        self._tags, self._metadata = tool.tags, tool.metadata
        self._layered = layered
        self._method = slot.startswith("_")
        self._binder = Binder(body, method=self._method)
        self._defaults = OwnDefaults(self._schema)
        if guard is None:
            self.inner = _closed(self, body)
        else:
            self._judge = guard.judge
            self.inner = guarded(guard.judged_by(self._enter), body, method=self._method)
        signature = inspect.signature(self.inner)
        rest = (name for name, p in signature.parameters.items() if p.kind is inspect.Parameter.VAR_POSITIONAL)
        self._rest = next(rest, None)
        self._injected = injected_parameters(
            signature, self._schema, callbacks="run_manager" if self._method else "callbacks"
        )
        self._asks = any((self._injected.plumbing, self._injected.call_ids, self._injected.others))

    def fits(self, tool: BaseTool) -> bool:
        """Return whether this is the interception of the tool's current body."""
        return (
            self._name == tool.name
            and self._schema is tool.args_schema
            and (self._tags is tool.tags or self._tags == tool.tags)
            and (self._metadata is tool.metadata or self._metadata == tool.metadata)
        )

    def start(self, tool: BaseTool, args: tuple[object, ...], kwargs: Mapping[str, object]) -> object:
        """Call the guarded function of a tool from the method that runs it, by the fast path."""
        invocation = _CURRENT.get()
        if invocation is None or invocation.tool is not tool or invocation.method is not None:
            return cast("_Body", tool.__dict__[self._slot])(*args, **kwargs)
        invocation.method = self
        return self.inner(*args, **kwargs)

    def arrive(self, wrapper: object, args: tuple[object, ...], kwargs: Mapping[str, object]) -> ToolInvocation | Call:
        """Return the invocation under which to enter the guard, or the call if it is judged already.

        To continue such a call, first check whether its task has ended since.
        """
        before = _CURRENT.get()
        if before is None or before.tool is None or not self._belongs(before.tool, wrapper, args):
            invocation = ToolInvocation(cast("BaseTool", args[0]) if self._method else None)
        elif before.method is None:
            invocation = before
        elif before.call is not None and self._continues(before, before.call, args, kwargs):
            return before.call
        else:
            invocation = (
                ToolInvocation(before.tool, before.call_id, answers=before.answers)
                if self._layered
                else ToolInvocation(before.tool)
            )
        invocation.method = self
        return invocation

    def _belongs(self, tool: BaseTool, wrapper: object, args: tuple[object, ...]) -> bool:
        return tool is args[0] if self._method else tool.__dict__.get(self._slot) is wrapper

    def check(self, call: Call) -> None:
        """Check that the task of a continuing call still lives; see :meth:`GuardedCall.check`."""
        cast("GuardedCall", self._guard).check(call)

    async def check_async(self, call: Call) -> None:
        """Do the same without blocking the event loop."""
        await cast("GuardedCall", self._guard).check_async(call)

    def _continues(
        self, before: ToolInvocation, call: Call, args: tuple[object, ...], kwargs: Mapping[str, object]
    ) -> bool:
        """Return whether this is the same call, one body further in, with judged arguments."""
        if self._guard is None or call.done or not self._layered or self._slot in before.passed:
            return False
        values, _ = self._binder.bind(args, kwargs)
        for name, value in values.items():
            if name in self._injected.plumbing or (name == self._rest and value == ()):
                continue
            if name not in before.judged or not _same(before.judged[name], _fixed(value)):
                return False
        before.passed.add(self._slot)
        return True

    def _enter(self, request: CallRequest) -> Call:
        values = request.arguments
        supplied = tuple(values) if request.supplied is None else request.supplied
        invocation = _CURRENT.get()
        if invocation is None or invocation.method is not self or invocation.call is not None:
            # A generator starts after the call that made it has returned.
            invocation = ToolInvocation(None)
        injected = self._injected.filled(values, invocation.given, invocation.call_id) if self._asks else ()
        validated = invocation.given
        if injected or validated is not None:
            supplied = [
                name
                for name in supplied
                if name not in injected
                and (validated is None or name in validated or not self._defaults.has(name, values[name]))
            ]
        try:
            call = self._judge(
                CallRequest(values, supplied, injected, invocation.call_id, request.can_route, request.refusal)
            )
        except Denied as denied:
            invocation.answers.append(denied)
            raise
        invocation.call = call
        invocation.passed.add(self._slot)
        invocation.answers.append(call)
        if self._layered:
            invocation.judged = {name: _fixed(value) for name, value in call.arguments.items()}
        if call.route is not None and invocation.tool is not None:
            call.route = _fitting(invocation.tool, call.route)
        return call

    def refuse(self) -> Denied:
        """Return the refusal of a tool without a guard."""
        denied = Denied(
            f"{self._name}: the tool comes from a pickle and is not guarded in this process; "
            "call protect(tool, enforcer) on it",
            code="closed",
        )
        cast("ToolInvocation", _CURRENT.get()).answers.append(denied)
        return denied


def intercepted(body: _Body, find: Callable[[tuple[object, ...]], InterceptedMethod]) -> _Body:
    """Return the function that replaces a body.

    Args:
        body: The body.
        find: Returns the interception of a call from its positional arguments.
    """
    if inspect.iscoroutinefunction(body):

        async def coroutine(*args: object, **kwargs: object) -> object:
            method = find(args)
            invocation = method.arrive(coroutine, args, kwargs)
            if type(invocation) is Call:
                await method.check_async(invocation)
                return await body(*args, **kwargs)
            token = _CURRENT.set(invocation)
            try:
                return await cast("Callable[..., Coroutine[object, object, object]]", method.inner)(*args, **kwargs)
            finally:
                _CURRENT.reset(token)

        return dressed(coroutine, body, inspect.signature(body))

    def function(*args: object, **kwargs: object) -> object:
        method = find(args)
        invocation = method.arrive(function, args, kwargs)
        if type(invocation) is Call:
            method.check(invocation)
            return body(*args, **kwargs)
        token = _CURRENT.set(invocation)
        try:
            return method.inner(*args, **kwargs)
        finally:
            _CURRENT.reset(token)

    return dressed(function, body, inspect.signature(body))


def _closed(method: InterceptedMethod, body: Callable[..., object]) -> Callable[..., object]:
    if inspect.iscoroutinefunction(body):

        async def coroutine(*_args: object, **_kwargs: object) -> object:
            raise method.refuse()

        return dressed(coroutine, body, inspect.signature(body))

    def function(*_args: object, **_kwargs: object) -> object:
        raise method.refuse()

    return dressed(function, body, inspect.signature(body))


def _fixed(value: object) -> object:
    """Return a snapshot of an argument, independent of later changes."""
    if value is None or type(value) in (*_SCALARS, bool):
        return value
    data = form_bytes(value)
    return value if data is None else _Canonical(type(value), data)


def _same(judged: object, value: object) -> bool:
    return judged is value or (type(judged) is type(value) and type(judged) in _SCALARS and judged == value)


def _fitting(tool: BaseTool, route: Callable[..., object]) -> Callable[..., object]:
    """Return a route handler whose result has the form that LangChain requires of the tool."""
    if tool.response_format != "content_and_artifact":
        return route

    def paired(call: Call) -> object:
        result = route(call)
        return _paired_later(result) if inspect.isawaitable(result) else _paired(result)

    return paired


async def _paired_later(pending: Awaitable[object]) -> object:
    return _paired(await pending)


def _paired(result: object) -> object:
    return result if _is_pair(result) else (result, None)


def _is_pair(result: object) -> bool:
    return isinstance(result, tuple) and len(cast("tuple[object, ...]", result)) == 2
