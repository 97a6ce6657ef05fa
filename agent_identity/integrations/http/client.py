"""Calls to other services with the authority of the current task, with any HTTP client.

Ready-made for two clients: :mod:`agent_identity.integrations.http.httpx` and
:mod:`agent_identity.integrations.http.requests`.
"""

import ipaddress
import logging
import re
from collections.abc import Iterable, Mapping
from typing import Final

from agent_identity import Enforcer
from agent_identity.adapters import traceparent
from agent_identity.delegation import Peer
from agent_identity.errors import ConfigurationError
from agent_identity.integrations.http.binding import (
    HEADERS,
    MARK,
    TOOL,
    TRACEPARENT,
    absolute_url,
    origin_of,
    presentation_of,
    request_arguments,
    to_headers,
)

__all__ = ["Peer", "checked_peers", "delegation_headers", "delegation_names", "is_loopback", "peer_of", "take_mark"]

_LOG: Final = logging.getLogger("agent_identity")
_KEY: Final = re.compile(r"(?:[a-z0-9._-]{1,253}|\[[0-9a-f:.]{2,45}\])(?::[1-9][0-9]{0,4})?")
_DEFAULT_PORT: Final = {"http": "80", "https": "443"}


def delegation_headers(
    enforcer: Enforcer, method: str, url: str, body: bytes, peers: Mapping[str, Peer]
) -> dict[str, str]:
    """Return the headers for one request, with a proof for exactly this method, URL and body.

    Returns no headers for a host outside the allow-list, nor for plain HTTP to another machine. Follow
    no redirects with these headers: the next request needs its own.

    Args:
        enforcer: The enforcer of the current task.
        method: The method.
        url: The absolute URL.
        body: The exact bytes of the body.
        peers: The allow-list: ``"host"``, or ``"host:port"`` for another than the default port, to the service
            there. Lower case.

    Raises:
        Denied: No task is live.
        AttenuationError: The task must not be delegated; ``not_the_holder``: this process lacks its key.
        TokenError: The headers would exceed the usual limit of servers (``too_large``).
        EvidenceError: The grant could not be recorded.
        ConfigurationError: The allow-list has a malformed entry.
    """
    peer = peer_of(url, checked_peers(peers))
    if peer is None:
        return {}
    arguments = request_arguments(method.upper(), absolute_url(url), body)
    headers = to_headers(enforcer.present(peer, tool=TOOL, arguments=arguments))
    trace = traceparent()
    return headers if trace is None else {**headers, TRACEPARENT: trace}


def take_mark(enforcer: Enforcer, sent: Mapping[str, str], answered: Mapping[str, str]) -> None:
    """Take the signed low-water mark of a response, before anybody reads the response.

    Without one, what the service returned makes the task untrusted where the two share no state.

    Args:
        enforcer: The enforcer of the current task.
        sent: What :func:`delegation_headers` returned for the request.
        answered: The headers of the response, found in any case.

    Raises:
        EvidenceError: The mark could not be recorded; the response must not be read.
    """
    task, mark = enforcer.current_task, answered.get(MARK)
    if task is None or not sent or mark is None:
        return
    presentation = presentation_of((name.lower(), value) for name, value in sent.items())
    if presentation is not None:  # pragma: no branch  It was made here.
        task.take_mark(presentation, mark)


def checked_peers(peers: Mapping[str, Peer]) -> Mapping[str, Peer]:
    """Return the allow-list if each entry can match a host.

    Raises:
        ConfigurationError: An entry cannot match, and would silently send nothing.
    """
    for host, peer in peers.items():
        if not _KEY.fullmatch(host) or type(peer) is not Peer:
            raise ConfigurationError(
                "an entry of peers cannot match; write {'host.example.com': Peer(…)} in lower case"
            )
    return peers


def peer_of(url: str, peers: Mapping[str, Peer]) -> Peer | None:
    """Return the allow-listed service of a URL."""
    try:
        scheme, host, port = origin_of(url)
    except ValueError:
        return None
    peer = peers.get(f"{host}:{port}")
    if peer is None and port == _DEFAULT_PORT[scheme]:
        peer = peers.get(host)
    if peer is not None and scheme == "http" and not is_loopback(host):
        _LOG.warning("no authority is sent to %s over plain http; use https", peer.audience)
        return None
    return peer


def delegation_names(names: Iterable[str]) -> list[str]:
    """Return our header names among the given ones, in any case."""
    return [name for name in names if name.lower() in HEADERS]


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
