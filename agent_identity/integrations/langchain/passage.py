"""The way of one tool call through LangChain, from ``run`` to the body that is judged.

``run`` knows the call's id and what the caller named; the body knows the arguments. A passage, kept in
the context, brings the two together, and lets a call that passes several bodies of one tool (``_arun``
that calls ``_run``) be one call: one decision, one intent, one outcome, one span.
"""

import inspect
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping
from contextvars import ContextVar
from typing import Final, NamedTuple, cast, final

from langchain_core.tools import BaseTool

from agent_identity.enforcement import Call, CallRequest, GuardedCall, guarded
from agent_identity.enforcement.arguments import Binder, form_bytes
from agent_identity.enforcement.wrap import dressed
from agent_identity.errors import Denied
from agent_identity.integrations.langchain.parameters import injected_parameters, is_own_default

__all__ = ["PASSAGE", "Passage", "Seam", "sealed"]

PASSAGE: Final[ContextVar["Passage | None"]] = ContextVar("agent_identity_langchain_passage", default=None)


@final
class _Canonical(NamedTuple):
    """The bytes of an argument's form; of a type that no argument has."""

    kind: type
    data: bytes


_SCALARS: Final = (str, int, float, _Canonical)


@final
class Passage:
    """One call of a tool under way.

    Args:
        tool: The tool; ``None`` where a function of a tool is called directly.
        call_id: The id that the model gave to the call.
        given: What the caller gave, before validation; ``None`` if only the body's arguments tell.
        before: The passage inside which the body of the same tool is called again.

    Attributes:
        named: The arguments that the caller named, where that is known for certain.
    """

    __slots__ = ("answers", "call", "call_id", "given", "judged", "named", "passed", "seam", "tool")

    def __init__(
        self,
        tool: BaseTool | None,
        call_id: str | None = None,
        given: Mapping[str, object] | None = None,
        before: "Passage | None" = None,
    ) -> None:
        self.tool = tool
        self.call_id = call_id
        self.given = given
        self.named: Collection[str] | None = None
        self.seam: Seam | None = None
        self.call: Call | None = None
        self.judged: Mapping[str, object] = {}
        self.passed: set[str] = set()
        self.answers: list[Call | Denied] = [] if before is None else before.answers

    def refused(self, denied: Denied) -> bool:
        """Tell whether a refusal is this call's own, and not that of a call that its body made."""
        return any(answer is denied or (type(answer) is Call and answer.denial is denied) for answer in self.answers)


@final
class Seam:
    """One body of a tool under guard: its function, its coroutine, ``_run`` or ``_arun``.

    Args:
        slot: The name of the attribute that holds the body.
        body: The body.
        guard: The guard; ``None`` refuses every call, for tools that nobody guards any more.
        tool: The tool to begin with; copies of it share the seam of a function.
        layered: Calls can pass more than one body of this class of tools.
    """

    __slots__ = (
        *("_asks", "_binder", "_guard", "_injected", "_layered", "_metadata", "_method", "_name", "_rest", "_schema"),
        *("_slot", "_tags"),
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
        self.inner = (
            _closed(self, body) if guard is None else guarded(guard.judged_by(self._enter), body, method=self._method)
        )
        signature = inspect.signature(self.inner)
        rest = (name for name, p in signature.parameters.items() if p.kind is inspect.Parameter.VAR_POSITIONAL)
        self._rest = next(rest, None)
        self._injected = injected_parameters(
            signature, self._schema, callbacks="run_manager" if self._method else "callbacks"
        )
        self._asks = any((self._injected.plumbing, self._injected.call_ids, self._injected.others))

    def fits(self, tool: BaseTool) -> bool:
        """Tell whether the seam is that of the tool as it is now."""
        return (
            self._name == tool.name
            and self._schema is tool.args_schema
            and (self._tags is tool.tags or self._tags == tool.tags)
            and (self._metadata is tool.metadata or self._metadata == tool.metadata)
        )

    def arrive(self, wrapper: object, args: tuple[object, ...], kwargs: Mapping[str, object]) -> Passage | Call:
        """Return the passage under which to enter the guard, or the call if it is judged already.

        Whoever goes on with that checks first whether its task has ended since.
        """
        before = PASSAGE.get()
        if before is None or before.tool is None or not self._belongs(before.tool, wrapper, args):
            passage = Passage(cast("BaseTool", args[0]) if self._method else None)
        elif before.seam is None:
            passage = before
        elif before.call is not None and self._continues(before, before.call, args, kwargs):
            return before.call
        else:
            passage = Passage(before.tool, before.call_id, before=before) if self._layered else Passage(before.tool)
        passage.seam = self
        return passage

    def _belongs(self, tool: BaseTool, wrapper: object, args: tuple[object, ...]) -> bool:
        return tool is args[0] if self._method else tool.__dict__.get(self._slot) is wrapper

    def check(self, call: Call) -> None:
        """Return if the task of a call that goes on still lives; see :meth:`GuardedCall.check`."""
        cast("GuardedCall", self._guard).check(call)

    async def check_async(self, call: Call) -> None:
        """Do the same without blocking the event loop."""
        await cast("GuardedCall", self._guard).check_async(call)

    def _continues(self, before: Passage, call: Call, args: tuple[object, ...], kwargs: Mapping[str, object]) -> bool:
        """Tell whether this is the same call, one body further in, with arguments that were judged."""
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
        values, supplied = request.arguments, request.supplied or ()
        passage = PASSAGE.get()
        if passage is None or passage.seam is not self or passage.call is not None:
            # A generator starts to run after the call that made it has returned.
            passage = Passage(None)
        injected = self._injected.filled(values, passage.given, passage.call_id) if self._asks else ()
        if passage.named is not None and not injected:
            supplied = passage.named
        elif injected or passage.given is not None:
            supplied = self._supplied(values, supplied, injected, passage.given)
        try:
            call = cast("GuardedCall", self._guard).judge(
                request._replace(supplied=supplied, injected=injected, call_id=passage.call_id)
            )
        except Denied as denied:
            passage.answers.append(denied)
            raise
        passage.call = call
        passage.passed.add(self._slot)
        passage.answers.append(call)
        if self._layered:
            passage.judged = {name: _fixed(value) for name, value in call.arguments.items()}
        if call.route is not None and passage.tool is not None:
            call.route = _fitting(passage.tool, call.route)
        return call

    def _supplied(
        self,
        values: Mapping[str, object],
        supplied: Collection[str],
        injected: Collection[str],
        given: Collection[str] | None,
    ) -> Collection[str]:
        return [
            name
            for name in supplied
            if name not in injected
            and (given is None or name in given or not is_own_default(self._schema, name, values[name]))
        ]

    def refuse(self) -> Denied:
        """Return the refusal of a tool that nobody guards."""
        denied = Denied(
            f"{self._name}: expected a tool guarded in this process, got one that came out of a pickle; "
            "call protect(tool, enforcer) on it",
            code="closed",
        )
        cast("Passage", PASSAGE.get()).answers.append(denied)
        return denied


def sealed(body: Callable[..., object], find: Callable[[tuple[object, ...]], Seam]) -> Callable[..., object]:
    """Return the function that stands in the place of a body.

    Args:
        body: The body.
        find: Returns the seam of a call from its positional arguments.
    """
    if inspect.iscoroutinefunction(body):

        async def coroutine(*args: object, **kwargs: object) -> object:
            seam = find(args)
            passage = seam.arrive(coroutine, args, kwargs)
            if type(passage) is Call:
                await seam.check_async(passage)
                return await body(*args, **kwargs)
            token = PASSAGE.set(passage)
            try:
                return await cast("Callable[..., Coroutine[object, object, object]]", seam.inner)(*args, **kwargs)
            finally:
                PASSAGE.reset(token)

        return dressed(coroutine, body, inspect.signature(body))

    def function(*args: object, **kwargs: object) -> object:
        seam = find(args)
        passage = seam.arrive(function, args, kwargs)
        if type(passage) is Call:
            seam.check(passage)
            return body(*args, **kwargs)
        token = PASSAGE.set(passage)
        try:
            return seam.inner(*args, **kwargs)
        finally:
            PASSAGE.reset(token)

    return dressed(function, body, inspect.signature(body))


def _closed(seam: Seam, body: Callable[..., object]) -> Callable[..., object]:
    if inspect.iscoroutinefunction(body):

        async def coroutine(*_args: object, **_kwargs: object) -> object:
            raise seam.refuse()

        return dressed(coroutine, body, inspect.signature(body))

    def function(*_args: object, **_kwargs: object) -> object:
        raise seam.refuse()

    return dressed(function, body, inspect.signature(body))


def _fixed(value: object) -> object:
    """Return a form of an argument that does not change when the argument is changed."""
    if value is None or type(value) in (*_SCALARS, bool):
        return value
    data = form_bytes(value)
    return value if data is None else _Canonical(type(value), data)


def _same(judged: object, value: object) -> bool:
    return judged is value or (type(judged) is type(value) and type(judged) in _SCALARS and judged == value)


def _fitting(tool: BaseTool, route: Callable[..., object]) -> Callable[..., object]:
    """Return a route's handler whose result has the form that LangChain expects of the tool."""
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
