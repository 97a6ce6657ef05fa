"""requests sessions that send the authority of the current task to allow-listed hosts.

An adapter, not ``auth``: requests copies headers to the target of a redirect. The adapter adds to a
copy, so the headers are in no request that the application can log or follow.
"""

from collections.abc import Mapping
from typing import final

import requests
from requests.adapters import HTTPAdapter

from agent_identity import Enforcer
from agent_identity.delegation import Peer
from agent_identity.integrations.http.client import (
    checked_peers,
    delegation_headers,
    delegation_names,
    peer_of,
    take_mark,
)

__all__ = ["DelegationAdapter", "Peer"]


@final
class DelegationAdapter(HTTPAdapter):
    """An adapter: mount the same one for ``"https://"`` and ``"http://"``.

    Args:
        enforcer: The enforcer of the current task.
        peers: The allow-list; see :func:`~agent_identity.integrations.http.client.delegation_headers`.

    Raises:
        ConfigurationError: The allow-list has a malformed entry.
    """

    def __init__(self, enforcer: Enforcer, peers: Mapping[str, Peer]) -> None:
        super().__init__()
        self._enforcer = enforcer
        self._peers = checked_peers(dict(peers))

    def send(  # type: ignore[override]  # The options are passed on as they are.
        self, request: requests.PreparedRequest, **options: object
    ) -> requests.Response:
        """Send a request; the errors are those of ``delegation_headers`` and of requests.

        Raises:
            TypeError: The body for a peer is a file or an iterator, which cannot be signed beforehand.
        """
        copy = request.copy()
        for name in delegation_names(copy.headers):
            del copy.headers[name]
        added: dict[str, str] = {}
        if peer_of(str(copy.url), self._peers) is not None:
            added = delegation_headers(self._enforcer, str(copy.method), str(copy.url), _body(copy), self._peers)
            for name, value in added.items():
                copy.headers.setdefault(name, value)
        response = super().send(copy, **options)  # type: ignore[arg-type]
        take_mark(self._enforcer, added, response.headers)
        response.request = request
        return response


def _body(request: requests.PreparedRequest) -> bytes:
    body = request.body
    if isinstance(body, str):
        return body.encode()
    if body is None or isinstance(body, bytes):
        return body or b""
    raise TypeError(f"the body for a peer is {type(body).__name__}; read it into bytes or str first")
