"""Compatibility layer over the versions of the official SDK; the only module that knows their differences.

In 1.x, requests and results are wrapped in root models and handlers are in a dictionary by class; in 2.x they are
plain models and handlers are found by method. Both have one method through which every request of a client leaves,
``ClientSession.send_request``.
"""

import logging
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Protocol, Self, cast

from mcp import ClientSession, types
from mcp.shared import exceptions
from pydantic import BaseModel, RootModel

from agent_identity.errors import ConfigurationError, Denied
from agent_identity.integrations.mcp.binding import REFUSAL, members

__all__ = [
    "ERROR_CODE",
    "Response",
    "is_a",
    "keep_out_of_logs",
    "list_request",
    "plain",
    "protocol_error",
    "refusal_data",
    "refusal_result",
    "refusal_text",
    "remade",
    "session_of",
    "told_by",
    "uncached",
    "unwrapped",
    "with_params",
    "without_unknown",
    "wrapped_like",
]

ERROR_CODE: Final = -32_010
"""The JSON-RPC code for a refusal where MCP has no error results; in the range for servers."""

_LOGGERS: Final = (
    *("mcp.client.streamable_http", "mcp.client.sse", "mcp.client.websocket", "mcp.client.stdio"),
    *("mcp.server.streamable_http", "mcp.server.sse", "mcp.server.lowlevel.server", "mcp.shared.session"),
    *("mcp.server.runner", "mcp.shared.jsonrpc_dispatcher"),
)
_PACKAGE: Final = f"{Path(exceptions.__file__).parents[1]}{os.sep}"
_TOKENS: Final = re.compile(r"[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}(?:~[A-Za-z0-9_.~-]*)?")


class Response(Protocol):
    """A result of the SDK."""

    def model_copy(self, *, update: Mapping[str, object]) -> Self:
        """Return a copy with other members."""
        ...


class _WithoutTokens(logging.Filter):
    """Removes tokens from messages: at level DEBUG, the SDK logs whole requests. Never raises, as logging requires."""

    def filter(self, record: logging.LogRecord) -> bool:
        try:
            message = record.getMessage()
        except Exception:  # noqa: BLE001  A value may raise anything when formatted.
            record.msg, record.args = "an unprintable message of the MCP SDK", ()
            return True
        if "io.agent-identity/" in message:
            record.msg, record.args = _TOKENS.sub("…", message), ()
        return True


class _OfTheSdk(_WithoutTokens):
    """The same for the SDK's messages to the root logger, as of ``mcp.shared.session`` in 1.x; other messages pass."""

    def filter(self, record: logging.LogRecord) -> bool:
        return super().filter(record) if record.pathname.startswith(_PACKAGE) else True


_FILTER: Final = _WithoutTokens()
_ROOT_FILTER: Final = _OfTheSdk()


def keep_out_of_logs() -> None:
    """Keep our tokens out of the SDK's logs; done once."""
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(_FILTER)
    logging.getLogger().addFilter(_ROOT_FILTER)


def is_a(value: object, module: str, name: str) -> bool:
    """Return whether a value has a class of a module that may not be installed."""
    kind: object = getattr(sys.modules.get(module), name, None)
    return isinstance(kind, type) and isinstance(value, kind)


def plain(value: object) -> dict[str, object]:
    """Return a request, its parameters or a result as JSON."""
    value = unwrapped(value)
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", by_alias=True, exclude_none=True)
    return dict(members(value))


def unwrapped(value: object) -> object:
    """Return the content of a root model of 1.x, or the value itself."""
    return cast("RootModel[object]", value).root if isinstance(value, RootModel) else value


def with_params(request: object, params: Mapping[str, object]) -> object:
    """Return a new request of the same kind, which shares nothing with the first."""
    inner = cast("BaseModel", unwrapped(request))
    fresh = type(inner).model_validate({**plain(inner), "params": dict(params)})
    return wrapped_like(request, fresh)


def wrapped_like(example: object, value: object) -> object:
    """Wrap a request or result in the root model of an example, if that is wrapped."""
    return value if unwrapped(example) is example else type(example)(value)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]  A root model.


def remade(example: object, content: object) -> object:
    """Return a result like another one, with other content.

    Raises:
        TypeError: Its class refuses the content.
    """
    inner = unwrapped(example)
    if not isinstance(inner, BaseModel):
        return content
    try:
        return wrapped_like(example, type(inner).model_validate(content))
    except ValueError:  # Its text would show the content.
        raise TypeError(f"a changed {type(inner).__name__} is refused by its class") from None


def without_unknown(definition: object) -> object:
    """Return a definition without members unknown to the SDK: 1.x keeps them, and no pin has them."""
    model = cast("BaseModel", definition)
    if not model.model_extra:
        return definition
    known = model.model_dump(by_alias=True, exclude=set(model.model_extra))
    return type(model).model_validate(known)


def uncached(result: object) -> object:
    """Return a result that no client caches: the cache of 2.x ignores principals."""
    if getattr(result, "ttl_ms", None) is None:
        return result
    return cast("Response", result).model_copy(update={"ttl_ms": 0})


def list_request(cursor: str | None) -> types.ClientRequest:
    """Return a request for a page of the tools of a server."""
    params = None if cursor is None else types.PaginatedRequestParams(cursor=cursor)
    inner = types.ListToolsRequest(params=params)
    wrapper = cast("object", types.ClientRequest)  # In 2.x no class, but a union.
    return types.ClientRequest(inner) if isinstance(wrapper, type) else cast("types.ClientRequest", inner)


def refusal_text(denied: Denied) -> str:
    """Return the text of a refusal for the other side: its code, and a reference to the record."""
    reference = "" if denied.reference is None else f" (reference {denied.reference})"
    return f"Refused: {denied.code}{reference}"


def refusal_result(denied: Denied) -> types.CallToolResult:
    """Return a refused tool call as an error result of the protocol."""
    content, meta = [{"type": "text", "text": refusal_text(denied)}], {REFUSAL: _facts(denied)}
    return types.CallToolResult.model_validate({"content": content, "isError": True, "_meta": meta})


def refusal_data(denied: Denied) -> types.ErrorData:
    """Return code and reference of a refusal, for methods without error results."""
    return types.ErrorData(code=ERROR_CODE, message=refusal_text(denied), data=_facts(denied))


def protocol_error(denied: Denied) -> Exception:
    """Return a refusal as a protocol error, for raising."""
    current: type[Exception] | None = getattr(exceptions, "MCPError", None)
    if current is not None:
        return current(ERROR_CODE, refusal_text(denied), _facts(denied))
    return cast("type[Exception]", exceptions.McpError)(refusal_data(denied))


def _facts(denied: Denied) -> dict[str, str]:
    return {"code": denied.code, **({} if denied.reference is None else {"reference": denied.reference})}


def told_by(error: BaseException) -> dict[str, object] | None:
    """Return code, message and data of the other side's error; ``None`` for any other error."""
    kind = cast("type[Exception]", getattr(exceptions, "MCPError", None) or exceptions.McpError)
    return plain(cast("object", getattr(error, "error", None))) if isinstance(error, kind) else None


def session_of(client: object) -> ClientSession:
    """Return the session, or the session of a client.

    Raises:
        ConfigurationError: The value is neither, or the client has a cache that ignores principals.
    """
    if isinstance(client, ClientSession):
        return client
    if getattr(client, "cache", None) is not None:
        raise ConfigurationError(
            "the client has a cache of responses, which ignores principals and may answer one with data of another; "
            "pass cache=None to the client"
        )
    try:
        session = cast("object", getattr(client, "session", None))
    except RuntimeError:  # A client that is not connected.
        session = None
    if not isinstance(session, ClientSession):
        raise ConfigurationError("the client is no mcp.ClientSession and no connected client; pass one")
    return session
