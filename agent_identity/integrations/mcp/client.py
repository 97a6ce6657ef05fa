"""The calling side of MCP: a session with guarded calls, pinned tools and addressed authority.

The session stays the same object. In every version of the SDK all its requests pass ``send_request``, so
this is the guarded place: it covers ``call_tool``, ``read_resource`` and ``get_prompt``, from any caller.
"""

import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Final, TypeVar, cast, final

from mcp import ClientSession, types
from opentelemetry import context as otel

from agent_identity import Enforcer
from agent_identity.adapters import (
    Call,
    CallRequest,
    DeclaredFlow,
    Definition,
    Observation,
    Shown,
    account,
    check_id,
    claims_from,
    error_type,
    off_loop,
    resumed,
    tool_name,
    traceparent,
)
from agent_identity.errors import AgentIdentityError, ConfigurationError, Denied
from agent_identity.integrations.http.binding import TRACEPARENT
from agent_identity.integrations.mcp.answers import Answers
from agent_identity.integrations.mcp.binding import (
    MARK,
    OURS,
    Target,
    bound,
    is_own_name,
    members,
    normal_uri,
    presentation_of,
    target_of,
    to_meta,
)
from agent_identity.integrations.mcp.sdk import (
    Response,
    keep_out_of_logs,
    list_request,
    plain,
    session_of,
    told_by,
    uncached,
    with_params,
    without_unknown,
)
from agent_identity.integrations.mcp.server import shown
from agent_identity.integrations.mcp.servers import McpServer
from agent_identity.integrations.mcp.texts import LISTINGS, Texts, definitions
from agent_identity.integrations.narrowing import is_list

__all__ = ["guard_session", "protect_session", "protected_session"]

ClientT = TypeVar("ClientT")
_Forward = Callable[[object], Awaitable[object]]
_Progress = Callable[..., Awaitable[None]]

_LOG: Final = logging.getLogger("agent_identity")
_PASSAGE: Final = "__agent_identity_passage__"
_PAGES: Final = 100
_NO_METHOD: Final = -32_601
"""The answer of a server without tools to their listing (JSON-RPC 2.0, section 5.1)."""
_DEFINING: Final = ("annotations", "description", "inputSchema", "name", "outputSchema", "title")
"""Members that define a tool; the same in every version of the SDK, which differ in other members."""


def protect_session(client: ClientT, enforcer: Enforcer, server: McpServer) -> ClientT:
    """Guard the calls of a session in place: tools, resources, prompts and completions, and requests of the server.

    A call runs only inside a task whose scope covers it, as ``server/tool`` (``server:resource``,
    ``server:prompt/name``), and only with the pinned definition of the tool. Results of the server are
    inspected like those of any tool. Tools with a changed definition, changed descriptions of prompts and resource
    templates, and changed instructions of the server are left out until somebody accepts them.
    A refused call raises :class:`~agent_identity.errors.Denied`, and nothing is sent.

    Requests of the server while it answers, ``server:sampling``, ``server:elicitation`` and ``server:roots``, are
    calls under the task of the answered call; a refused one is answered with an error, and no callback runs. A
    session of 1.x with callbacks for these is made by :func:`protected_session`.

    Args:
        client: An ``mcp.ClientSession``, or a connected client that holds one. Guard it before ``initialize``
            to have the server's version in the records, and its instructions compared; 1.x requires it. A
            client that reconnects has another session.
        enforcer: The enforcer of the tasks.
        server: The server of the session.

    Returns:
        The argument: the same session or client.

    Raises:
        ConfigurationError: The client is no session, is guarded already, or has a cache of responses. A session of
            1.x is initialized already, or has unguarded callbacks.
    """
    session = session_of(client)
    capabilities: Callable[[], object] | None = getattr(session, "get_server_capabilities", None)
    if capabilities is not None and capabilities() is not None:
        raise ConfigurationError(
            "the session is initialized already, with unchecked texts of the server; guard it before initialize()"
        )
    guard_session(session, enforcer, server, Answers(enforcer, server))
    return client


def protected_session(
    read: object, write: object, enforcer: Enforcer, server: McpServer, **options: object
) -> ClientSession:
    """Return a new session, guarded as by :func:`protect_session`, with callbacks for requests of the server.

    Args:
        read: The stream from the server.
        write: The stream to it.
        enforcer: The enforcer of the tasks.
        server: The server of the session.
        options: The options of ``mcp.ClientSession``: ``sampling_callback``, ``elicitation_callback``,
            ``list_roots_callback`` and the others.

    Raises:
        ConfigurationError: It has task handlers of 1.x that would answer in the background.
    """
    answers = Answers(enforcer, server)
    make = cast("Callable[..., ClientSession]", ClientSession)
    return guard_session(make(read, write, **answers.options(options)), enforcer, server, answers)


def guard_session(session: ClientSession, enforcer: Enforcer, server: McpServer, answers: Answers) -> ClientSession:
    """Guard a session in place, and return it.

    Args:
        session: The session.
        enforcer: The enforcer of the tasks.
        server: The server of the session.
        answers: Guards the callbacks of the session.

    Raises:
        ConfigurationError: It is guarded already, or would answer its server unguarded.
    """
    if hasattr(session, _PASSAGE):
        raise ConfigurationError("the session is guarded already; guard it once")
    answers.check(session)
    kind = type(session)

    async def listing(cursor: str | None) -> object:
        return await kind.send_request(session, list_request(cursor), types.ListToolsResult)

    own = getattr(kind, "instructions", None)  # A property in 2.x.

    def spoken() -> object:
        return own.__get__(session) if isinstance(own, property) else None

    passage = _ServerCalls(enforcer, server, session, answers=answers, listing=listing, spoken=spoken)
    original = cast("Callable[..., Awaitable[object]]", kind.send_request)

    async def send_request(self: ClientSession, request: object, *args: object, **kwargs: object) -> object:
        heard = kwargs.get("progress_callback")
        if heard is not None:
            kwargs["progress_callback"] = _as_here(cast("_Progress", heard))

        async def forward(changed: object) -> object:
            return await original(self, changed, *args, **kwargs)

        return uncached(await passage.send(request, forward))

    changed: dict[str, object] = {
        "send_request": send_request,
        "__module__": kind.__module__,
        "__qualname__": kind.__qualname__,
        **answers.overrides(kind),
    }
    if isinstance(own, property):
        changed["instructions"] = property(lambda _: passage.instructions())
    session.__class__ = cast("type[ClientSession]", type(kind.__name__, (kind,), changed))
    setattr(session, _PASSAGE, passage)
    keep_out_of_logs()
    return session


@final
class _ServerCalls:
    """Guards every request of one session."""

    __slots__ = (
        "_claimed",
        "_enforcer",
        "_guard",
        "_listed",
        "_listing",
        "_more",
        "_schemas",
        "_server",
        "_session",
        "_spoken",
        "_texts",
        "_title",
        "_version",
        "answers",
    )

    def __init__(
        self,
        enforcer: Enforcer,
        server: McpServer,
        session: ClientSession,
        *,
        answers: Answers,
        listing: Callable[[str | None], Awaitable[object]],
        spoken: Callable[[], object],
    ) -> None:
        self.answers = answers
        self._enforcer = enforcer
        self._guard = enforcer.guard(server.name)
        self._listing = listing
        self._server = server
        self._session = session
        self._listed: dict[str, set[str]] = {}  # All digests under a name, over the pages since the first.
        self._claimed: dict[str, set[str]] = {}  # The server's warnings under a name, over the same pages.
        self._schemas: dict[str, Mapping[str, object]] = {}  # Of the arguments of tools, by name.
        self._more = False  # Some pages of this listing have not been read.
        self._title = ""
        self._version = ""
        self._spoken = spoken
        self._texts = Texts(enforcer, server, self._sighting)

    async def send(self, request: object, forward: _Forward) -> object:
        """Send a request; guard it if it is for a tool, resource, prompt or completion."""
        facts = plain(request)
        method, params = str(facts.get("method")), cast("dict[str, object]", facts.get("params") or {})
        if isinstance(params.get("uri"), str):
            params["uri"] = normal_uri(cast("str", params["uri"]))
        target = target_of(self._server.name, method, params)
        if target is not None:
            return await self._call(target, request, params, forward)
        if method == "tools/list":
            return await self._list(await forward(request), first=not params.get("cursor"))
        if method == "initialize":
            self.answers.connect(members(params.get("capabilities")))
        if method in LISTINGS and not await self._is_known():
            await self._look_first()
        result = await forward(request)
        if method in LISTINGS:
            return await off_loop(partial(self._texts.page, method, result))
        if method == "initialize":
            answer = plain(result)
            self._hear(answer.get("serverInfo"))
            if answer.get("instructions"):
                shown = await off_loop(partial(self._texts.instructions, answer["instructions"]))
                return cast("Response", result).model_copy(update={"instructions": shown})
        return result

    def instructions(self) -> str | None:
        """Return the server's instructions from the session, if they are valid."""
        return self._texts.instructions(self._spoken())

    async def _call(self, target: Target, request: object, params: Mapping[str, object], forward: _Forward) -> object:
        claims = claims_from(self._claimed.get(target.tool or "", ()))
        refusal, around = await self._refusal(target), otel.get_current()
        failure: BaseException | None = None

        async def send(call: Call) -> Shown:
            nonlocal failure
            judged = {**params, "arguments": dict(call.arguments)} if call.restored else params
            try:
                with self.answers.under_way(call):
                    result = await self._forwarded(target, request, judged, forward)
            except BaseException as error:
                answered = told_by(error)
                if answered is None:
                    raise
                failure = error
                return Shown(None, answered, error)
            return shown(result, is_tool=target.tool is not None)

        touches = self._server.touches.get(target.tool or "")
        guard = self._enforcer.guard(
            target.name,
            kind="mcp",
            server=self._server.name,
            claims=claims,
            touches=touches,
            flow=self._flow(target.tool or ""),
        )
        result = await guard.run_async(CallRequest(target.values, can_route=False, refusal=refusal), send)
        if target.tool is None:
            account(self._enforcer.current_task, _texts_of(result))
        if failure is not None:
            raise failure  # Here, so that withheld data is no context of the refusal.
        self.answers.expect(result, around)
        return result

    async def _forwarded(
        self, target: Target, request: object, params: Mapping[str, object], forward: _Forward
    ) -> object:
        """Send a call with its authority, and take the mark of its result."""
        addressed = partial(self._addressed, target, request, params)
        if not self._server.receiver:
            return await forward(addressed())
        sent = await off_loop(addressed)
        result, task = await forward(sent), self._enforcer.current_task
        meta = members(members(plain(sent).get("params")).get("_meta"))
        presentation, mark = presentation_of(meta), members(plain(result).get("_meta")).get(MARK)
        if task is not None and presentation is not None and isinstance(mark, str):
            await off_loop(partial(task.take_mark, presentation, mark))
        return result

    async def _refusal(self, target: Target) -> Denied | None:
        """Return the reason to refuse a call whatever its task, if any."""
        if target.safe_message is not None or self._enforcer.current_task is None:
            return target.safe_message
        try:
            await self._check(target.tool)
        except Denied as denied:
            return denied
        except AgentIdentityError:
            raise
        except Exception as error:  # noqa: BLE001 - An uncomparable definition is refused, on the record.
            text = f"{target.name}: the tools of the server could not be listed: {error_type(error)}"
            return Denied(text, code="tool_not_listed")
        return None

    async def _check(self, tool: str | None) -> None:
        if tool is None:
            if not await self._is_known():
                await self._look_first()
            await off_loop(self._compared)
            return
        if self._more or self._digest(tool) is None:
            await self._look()
        if not await off_loop(partial(self._compared, tool)):
            name = self._server.name
            raise Denied(f"the server {name!r} does not list the tool; use a listed one", code="tool_not_listed")

    async def _is_known(self) -> bool:
        """Return whether the inventory has the server."""
        return await off_loop(partial(self._enforcer.inventory.find, self._server.name)) is not None

    def _compared(self, tool: str | None = None) -> bool:
        """Compare the server, and a tool, with what the inventory has; return whether it has the server.

        Raises:
            Denied: It has moved, or the tool has changed.
        """
        server, digest = self._server, None if tool is None else self._digest(tool)
        return self._enforcer.inventory.check(server.name, server.transport, server.place, tool=tool, digest=digest)

    def _digest(self, tool: str) -> str | None:
        """Return the digest of a listed tool, if exactly one definition is listed under that name."""
        digests = self._listed.get(tool, ())
        return next(iter(digests)) if len(digests) == 1 else None

    def _addressed(self, target: Target, request: object, params: Mapping[str, object]) -> object:
        """Return the outgoing request: with the judged parameters, and with authority for a receiver only.

        The parameters are an unshared copy, so they are still the judged ones.
        """
        changed = dict(params)
        meta = dict(cast("Mapping[str, object]", params.get("_meta") or {}))
        for name in OURS:
            meta.pop(name, None)
        if self._server.receiver:
            meta |= self._authority(target, changed)
        changed.pop("_meta", None)
        return with_params(request, {**changed, "_meta": meta} if meta else changed)

    def _authority(self, target: Target, params: Mapping[str, object]) -> dict[str, object]:
        task = self._enforcer.current_task
        peer = self._server.peer(() if task is None else task.scope.tools)
        try:
            members: dict[str, object] = {
                **to_meta(self._enforcer.present(peer, tool=target.name, arguments=bound(params)))
            }
        except AgentIdentityError as error:
            if self._guard.mode == "enforce":
                raise
            _LOG.warning("monitor mode: %s is called without authority: %s", target.name, error)
            return {}
        trace = traceparent()
        return members if trace is None else {TRACEPARENT: trace, **members}

    async def _look(self) -> None:
        """List all tools of the server through the session, which caches its knowledge of them."""
        cursor: str | None = None
        for _ in range(_PAGES):
            if cursor is None:
                page = await self._session.list_tools()
            else:
                page = await self._session.list_tools(params=types.PaginatedRequestParams(cursor=cursor))
            cursor = _next(page)
            if cursor is None:
                break
        self._more = False  # Tools on later pages are not listed.

    async def _look_first(self) -> None:
        """Pin the tools of a server whose resource or prompt is used first; a server without tools gets none later."""
        try:
            await self._look()
        except Exception as error:
            if (told_by(error) or {}).get("code") != _NO_METHOD:
                raise
            await off_loop(partial(self._sight, {}))

    async def _list(self, result: object, *, first: bool) -> object:
        """Read a page of tools, and return it without those whose definition is not pinned."""
        pages: Sequence[object] = (result,)
        if not await self._is_known() and not (first and _next(result) is None):
            pages = await self._everything()  # At first sight everything is pinned.
        listed = definitions(
            self._server.name, [tool for page in pages for tool in _tools(page)], "name", "", _DEFINING
        )
        self._take_in(listed, [tool for page in pages for tool in _tools(page)], first=first)
        self._more = len(pages) == 1 and _next(result) is not None
        # Of two tools with one name neither counts, on one page or on two (threats AC-65).
        single = {name: of.pop() for name, of in listed.items() if self._digest(name) is not None}

        def counting() -> object:
            self._sight(single)
            if self._guard.mode == "monitor":
                return result
            tools = [without_unknown(tool) for tool in _tools(result) if self._counts(str(plain(tool).get("name")))]
            return cast("Response", result).model_copy(update={"tools": tools})

        return await off_loop(counting)

    def _sight(self, tools: Mapping[str, Definition]) -> None:
        self._enforcer.inventory.sight(self._sighting(tools), pin=self._server.first_sight == "pin")

    def _take_in(self, listed: Mapping[str, set[Definition]], tools: Sequence[object], *, first: bool) -> None:
        """Keep the listed definitions and the warnings in annotations, and declare the tools."""
        if first:
            self._listed, self._claimed, self._schemas = {}, {}, {}
        for name, several in listed.items():
            self._listed.setdefault(name, set()).update(of.digest for of in several)
        for tool in map(plain, tools):
            own = tool.get("name")
            if isinstance(own, str) and is_own_name(own):
                claimed = self._claimed.setdefault(own, set())
                warns = claims_from(annotations=tool.get("annotations"))
                claimed.update(() if warns is None else warns.labels)
                self._schemas[own] = members(tool.get("inputSchema"))
                with suppress(ValueError):  # No tool name.
                    full = check_id(tool_name(self._server.name, own), "name")
                    claims = claims_from(sorted(claimed))
                    flow, server = self._flow(own), self._server.name
                    self._enforcer.guard(full, kind="mcp", server=server, claims=claims, flow=flow).declare()

    def _flow(self, tool: str) -> DeclaredFlow:
        """Return the statements about the flow of a tool with the names that its definition gives to arguments."""
        return (self._server.flow.get(tool) or DeclaredFlow()).of_arguments(self._schemas.get(tool))

    async def _everything(self) -> Sequence[object]:
        pages: list[object] = []
        cursor: str | None = None
        for _ in range(_PAGES):
            page = await self._listing(cursor)
            pages.append(page)
            cursor = _next(page)
            if cursor is None:
                break
        return pages

    def _counts(self, tool: str) -> bool:
        if not is_own_name(tool):
            _LOG.warning("a tool of the server %s is left out of its listing: its name has a slash", self._server.name)
            return False
        try:
            self._compared(tool)
        except Denied as denied:
            _LOG.warning("a tool of the server %s is left out of its listing: %s", self._server.name, denied.code)
            return False
        return True

    def _hear(self, info: object) -> None:
        """Keep the server's own name and version; they decide nothing."""
        facts = members(info)
        self._title, self._version = _said(facts.get("name")), _said(facts.get("version"))

    def _sighting(self, tools: Mapping[str, Definition]) -> Observation:
        if not self._title:
            self._hear(plain(getattr(self._session, "server_info", None)))
        server = self._server
        self._texts.hear(self._spoken())
        known = {**self._texts.heard, **tools}
        return Observation(server.name, server.transport, server.place, self._title, self._version, known)


def _as_here(callback: _Progress) -> _Progress:
    """Return a callback that runs under the current task; 1.x calls it under that in which the session was opened."""
    here = otel.get_current()

    async def called(*progress: object) -> None:
        with resumed(here):
            await callback(*progress)

    return called


def _tools(result: object) -> Sequence[object]:
    return cast("Sequence[object]", getattr(result, "tools", ()))


def _texts_of(result: object) -> Iterator[str]:
    """Yield the texts of a prompt or resource: an application may hand them to a model in the name of a person."""
    facts = plain(result)
    for one in (*_listed(facts.get("messages")), *_listed(facts.get("contents"))):
        text = members(members(one).get("content", one)).get("text")
        if isinstance(text, str):
            yield text


def _listed(value: object) -> list[object]:
    return value if is_list(value) else []


def _next(result: object) -> str | None:
    return cast("str | None", plain(result).get("nextCursor"))


def _said(text: object) -> str:
    """Return a server's text about itself, fit for records and terminals."""
    return "".join(c for c in text if c.isprintable())[:128].strip() if isinstance(text, str) else ""
