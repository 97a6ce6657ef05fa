"""httpx clients that send the authority of the current task to allow-listed hosts.

A transport, not ``auth``: httpx applies ``auth`` once and copies the headers to the target of a redirect. A transport
sees each request by itself, and adds to a copy, so the headers are in no ``Request`` that the
application can log or follow.
"""

from collections.abc import Mapping
from functools import partial
from typing import final

from agent_identity import Enforcer
from agent_identity.adapters import off_loop
from agent_identity.delegation import Peer
from agent_identity.integrations.http.client import (
    checked_peers,
    delegation_headers,
    delegation_names,
    peer_of,
    take_mark,
)

try:
    import httpx
except ModuleNotFoundError as error:
    raise ImportError(f"the module {error.name} is missing; run pip install '.[http]' in the checkout") from error

__all__ = ["AsyncDelegationTransport", "DelegationTransport", "Peer"]


@final
class DelegationTransport(httpx.BaseTransport):
    """A transport for ``httpx.Client(transport=…)``.

    Args:
        enforcer: The enforcer of the current task.
        peers: The allow-list; see :func:`~agent_identity.integrations.http.client.delegation_headers`.
        transport: Sends the requests; by default ``httpx.HTTPTransport()``. It has the TLS settings.

    Raises:
        ConfigurationError: The allow-list has a malformed entry.
    """

    def __init__(
        self, enforcer: Enforcer, peers: Mapping[str, Peer], transport: httpx.BaseTransport | None = None
    ) -> None:
        self._enforcer = enforcer
        self._peers = checked_peers(dict(peers))
        self._inner = transport or httpx.HTTPTransport()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request; the errors are those of ``delegation_headers`` and of the transport."""
        url = _url(request)
        added: dict[str, str] = {}
        if peer_of(url, self._peers) is not None:
            added = delegation_headers(self._enforcer, request.method, url, request.read(), self._peers)
        response = self._inner.handle_request(_copy(request, added))
        take_mark(self._enforcer, added, response.headers)
        return response

    def close(self) -> None:
        """Close the inner transport."""
        self._inner.close()


@final
class AsyncDelegationTransport(httpx.AsyncBaseTransport):
    """A transport for ``httpx.AsyncClient(transport=…)``; see :class:`DelegationTransport`."""

    def __init__(
        self, enforcer: Enforcer, peers: Mapping[str, Peer], transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self._enforcer = enforcer
        self._peers = checked_peers(dict(peers))
        self._inner = transport or httpx.AsyncHTTPTransport()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request; the errors are those of ``delegation_headers`` and of the transport."""
        url = _url(request)
        added: dict[str, str] = {}
        if peer_of(url, self._peers) is not None:
            body = await request.aread()
            added = await off_loop(partial(delegation_headers, self._enforcer, request.method, url, body, self._peers))
        response = await self._inner.handle_async_request(_copy(request, added))
        if added:
            await off_loop(partial(take_mark, self._enforcer, added, response.headers))
        return response

    async def aclose(self) -> None:
        """Close the inner transport."""
        await self._inner.aclose()


def _url(request: httpx.Request) -> str:
    """Return the URL as sent, without a user, which httpx sends in a header."""
    url = request.url
    return f"{url.scheme}://{url.netloc.decode('ascii')}{url.raw_path.decode('ascii')}"


def _copy(request: httpx.Request, added: Mapping[str, str]) -> httpx.Request:
    headers = request.headers.copy()
    for name in delegation_names(headers.keys()):
        del headers[name]
    for name, value in added.items():
        headers.setdefault(name, value)  # An instrumentation's traceparent stays.
    return httpx.Request(
        request.method, request.url, headers=headers, stream=request.stream, extensions=request.extensions
    )
