"""Span attributes of other libraries: agents, tools, models, servers, hosts, data and people.

The dialects are the GenAI and MCP conventions of OpenTelemetry in their versions, OpenInference, OpenLLMetry
(``traceloop.*``), Langfuse, Logfire with Pydantic AI, and Vercel's ``ai.*``; and plain HTTP client spans. Attributes
that hold content (messages, arguments, results) are not read.
"""

from collections.abc import Iterator, Mapping
from typing import Final, Literal, NamedTuple, TypeAlias
from urllib.parse import urlsplit

import orjson

from agent_identity._common.narrowing import is_dict, is_list
from agent_identity._reports.answers.facts import SpanFact
from agent_identity._reports.answers.hosts import Hosts
from agent_identity._spans.otlp_json import SpanData
from agent_identity._spans.tool_spans import calls_tool, named_tool

_Kind: TypeAlias = Literal["agent", "tool", "model", "server", "host", "data", "principal"]
_Said: TypeAlias = Mapping[str, object]

_LONGEST: Final = 256
_MAX_OFFERED: Final = 1_024
_MAX_DEFINITIONS: Final = 1 << 20
_SERVER: Final = 2
_CLIENT: Final = 3

_AGENT_SPANS: Final = frozenset({"invoke_agent", "create_agent", "invoke_workflow"})
_AGENTS: Final = ("gen_ai.agent.name", "agent.name", "agent_name")
_WORKFLOW: Final = "gen_ai.workflow.name"
"""The older name of ``gen_ai.agent.name`` on spans of workflows, before version 0.1.0 of the conventions."""

_WORKFLOWS: Final = (_WORKFLOW, "traceloop.workflow.name")
_MODELS: Final = (
    "gen_ai.response.model",
    "gen_ai.request.model",
    "llm.response.model_name",
    "llm.request.model_name",
    "llm.model_name",
    "embedding.model_name",
    "langfuse.observation.model.name",
    "ai.model.id",
)
_PROVIDERS: Final = ("gen_ai.provider.name", "gen_ai.system", "llm.provider", "llm.system", "ai.model.provider")
_PEOPLE: Final = ("enduser.id", "user.id", "traceloop.association.properties.user_id")
_DATA: Final[Mapping[str, str]] = {
    "gen_ai.data_source.id": "data source",
    "gen_ai.memory.store.id": "memory store",
    "mcp.resource.uri": "MCP resource",
    "messaging.destination.name": "destination",
    "file.path": "file",
}
_NO_MODEL: Final = frozenset({"unknown", "none", ""})


class _Hint(NamedTuple):
    kind: _Kind
    name: str
    details: Mapping[str, str]
    offered: bool = False


def hints_of(span: SpanData, source: int, hosts: Hosts) -> Iterator[SpanFact]:
    """Yield what one span says.

    Args:
        span: The span.
        source: The number of its source.
        hosts: The hosts of model providers and MCP servers.
    """
    service = _text(span.resource.get("service.name"))
    for hint in _hints(span, hosts):
        yield SpanFact(
            source=source,
            at_ns=span.start,
            kind=hint.kind,
            name=hint.name,
            service=service,
            library=span.scope[:_LONGEST],
            details=hint.details,
            trace=span.trace_id,
            span=span.span_id,
            parent=span.parent_id or "",
            offered=hint.offered,
            serving=span.kind == _SERVER,
        )


def _hints(span: SpanData, hosts: Hosts) -> Iterator[_Hint]:
    said = span.attributes
    yield from _agents(span)
    tool = _tool(span)
    if tool is not None:
        yield _Hint("tool", tool, _details(said, type="gen_ai.tool.type", mcp="mcp.method.name"))
    yield from _offered(said)
    model = _first(said, _MODELS)
    if model is not None and model.lower() not in _NO_MODEL:
        provider = _first(said, _PROVIDERS)
        yield _Hint("model", model, {} if provider is None else {"provider": provider})
    yield from _data(said)
    person = _first(said, _PEOPLE)
    if person is not None:
        yield _Hint("principal", person, {})
    yield from _network(span, hosts)


def _agents(span: SpanData) -> Iterator[_Hint]:
    said = span.attributes
    name = _first(said, _AGENTS) or _text(said.get(_WORKFLOW))
    kind = _text(said.get("traceloop.span.kind"))
    if name is None and (kind == "agent" or _text(said.get("langfuse.observation.type")) == "agent"):
        name = _text(said.get("traceloop.entity.name")) or _text(span.name)
    if name is None and _text(said.get("openinference.span.kind")) == "AGENT":
        name = _text(said.get("graph.node.name")) or _text(span.name)
    if name is None and _text(said.get("gen_ai.operation.name")) in _AGENT_SPANS:
        name = _text(span.name.partition(" ")[2])
    if name is not None:
        # The id of an agent is a new one in each run in some libraries, so that only the name counts.
        yield _Hint("agent", name, _details(said, version="gen_ai.agent.version"))
    workflow = _first(said, _WORKFLOWS)
    if workflow is not None and workflow != name:
        yield _Hint("agent", workflow, {"role": "workflow"})


def _tool(span: SpanData) -> str | None:
    if not calls_tool(span.attributes):
        return None
    return _text(named_tool(span.attributes)) or _text(_without_verb(span.name))


def _without_verb(name: str) -> str:
    """Return the name of a span without the operation that the conventions put before it."""
    verb, _, rest = name.partition(" ")
    return rest if verb in ("execute_tool", "tools/call") and rest else name


def _offered(said: _Said) -> Iterator[_Hint]:
    """Yield the tools that a model or an agent was offered; whether they were called, other spans say."""
    text = said.get("gen_ai.tool.definitions")
    if isinstance(text, str) and len(text) <= _MAX_DEFINITIONS:
        try:
            definitions: object = orjson.loads(text)
        except orjson.JSONDecodeError:
            return
    else:
        definitions = text
    if not is_list(definitions):
        return
    for definition in definitions[:_MAX_OFFERED]:
        name = _defined(definition)
        if name is not None:
            yield _Hint("tool", name, {}, offered=True)


def _defined(definition: object) -> str | None:
    if isinstance(definition, str):
        try:
            definition = orjson.loads(definition)
        except orjson.JSONDecodeError:
            return None
    if not is_dict(definition):
        return None
    inner = definition.get("function")
    return _text(definition.get("name")) or (_text(inner.get("name")) if is_dict(inner) else None)


def _data(said: _Said) -> Iterator[_Hint]:
    for key, what in _DATA.items():
        name = _text(said.get(key))
        if name is not None:
            yield _Hint("data", name, {"what": what})
    system = _first(said, ("db.system.name", "db.system"))
    if system is not None:
        parts = (_first(said, ("db.namespace", "db.name")), _first(said, ("db.collection.name", "db.sql.table")))
        yield _Hint("data", "/".join((system, *filter(None, parts)))[:_LONGEST], {"what": "database"})


def _network(span: SpanData, hosts: Hosts) -> Iterator[_Hint]:
    """Yield the host that a client span went to, and the MCP server there."""
    said = span.attributes
    if span.kind != _CLIENT and _text(said.get("mcp.method.name")) is None:
        return
    host, port, path = _target(said)
    if host is None:
        return
    entry = hosts.find(host, port)
    shown = host if port in (None, 80, 443) else f"{host}:{port}"
    details = {"provider": entry.provider, "what": entry.what} if entry is not None else {}
    method = _first(said, ("http.request.method", "http.method"))
    mcp = _text(said.get("mcp.method.name")) is not None or (
        method == "POST" and path.rstrip("/").endswith(("/mcp", "/sse"))
    )
    if mcp or (entry is not None and entry.what == "mcp"):
        yield _Hint("server", shown, {"transport": "http", **({"path": path} if path else {})})
    if method is not None or entry is not None:
        yield _Hint("host", shown, {name: value for name, value in details.items() if value})


def _target(said: _Said) -> tuple[str | None, int | None, str]:
    """Return host, port and path of a request; of its address nothing else, since queries hold values."""
    address = _first(said, ("url.full", "http.url"))
    host, port, path = None, None, _text(said.get("url.path")) or ""
    if address is not None:
        try:
            parts = urlsplit(address)
            host, port, path = parts.hostname, parts.port, path or parts.path
        except ValueError:
            host = None
    host = _first(said, ("server.address", "net.peer.name")) or host
    stated = said.get("server.port", said.get("net.peer.port"))
    if type(stated) is int:
        port = stated
    return (None if host is None else host.lower()), port, path[:_LONGEST]


def _details(said: _Said, **names: str) -> Mapping[str, str]:
    found = ((short, _text(said.get(name))) for short, name in names.items())
    return {short: text for short, text in found if text is not None}


def _first(said: _Said, names: tuple[str, ...]) -> str | None:
    return next((text for name in names if (text := _text(said.get(name))) is not None), None)


def _text(value: object) -> str | None:
    return value[:_LONGEST] if isinstance(value, str) and value else None
