"""Fetches one document from a fixed address, with bounded size and time, and without redirects.

Loaded only when something is fetched, since it brings HTTP and TLS.
"""

import ipaddress
import os
import threading
from http.client import HTTPException
from ssl import SSLContext, create_default_context
from typing import Final
from urllib.parse import urlsplit
from urllib.request import HTTPHandler, HTTPSHandler, OpenerDirector, ProxyHandler, Request

from agent_identity.errors import TokenError

__all__ = ["check_address", "fetch"]

_MAX_ADDRESS: Final = 2048
_UNDER_WAY: Final[set[tuple[int, str]]] = set()
"""Requests that nobody may wait for any longer but that still run, so that a slow server gets one thread, not many."""


def check_address(url: str) -> str:
    """Return the URL if keys may be fetched from it.

    Raises:
        TypeError: It is no ``str``.
        ValueError: It is no ``https`` URL with a host, or has a user or a fragment. Plain ``http`` is accepted for
            this machine only (``localhost`` and loopback addresses).
    """
    if type(url) is not str:
        raise TypeError(f"the URL is {type(url).__name__}; give a str")
    parts = urlsplit(url)
    plain = len(url) <= _MAX_ADDRESS and url.isascii() and url.isprintable() and " " not in url
    if not plain or not parts.hostname or parts.fragment or "@" in parts.netloc:
        raise ValueError(
            f"the URL has more than {_MAX_ADDRESS} characters, an invisible one, a user or a fragment; correct it"
        )
    if parts.scheme != "https" and not (parts.scheme == "http" and _is_loopback(parts.hostname)):
        raise ValueError("the URL is not https (http only for this machine); others could answer in its place")
    return url


def fetch(url: str, *, limit: int, timeout: float, context: SSLContext | None = None) -> bytes:
    """Return the body of the address served with status 200.

    Redirects are refused: a redirecting party would choose the keys. The proxies of the environment are used, except
    for this machine.

    Args:
        url: An address that :func:`check_address` accepts.
        limit: Most bytes accepted.
        timeout: Seconds for everything together: names, connection, TLS, answer.
        context: The TLS context; by default it trusts the authorities of the system.

    Raises:
        TokenError: With code ``keys_unavailable``.
    """
    request = (os.getpid(), url)
    if request in _UNDER_WAY:
        raise TokenError(
            "the configured address has not answered the last request yet; try again later", code="keys_unavailable"
        )
    results: list[bytes | str] = []
    opener = _opener(url, context)

    def run() -> None:
        try:
            with opener.open(Request(url, headers={"Accept": "application/json"}), timeout=timeout) as response:  # noqa: S310  The scheme was checked.
                results.append(response.read(limit + 1) if response.status == 200 else "another status")
        except (OSError, HTTPException, ValueError) as error:
            results.append(type(error).__name__)
        finally:
            _UNDER_WAY.discard(request)

    # Time limits of sockets start again with every byte, and names are resolved without any. A thread that is not
    # waited for any longer bounds them all.
    thread = threading.Thread(target=run, name="agent-identity-fetch", daemon=True)
    _UNDER_WAY.add(request)
    thread.start()
    thread.join(timeout)
    result = results[0] if results else "no answer in time"
    if isinstance(result, str):
        raise TokenError(f"the configured address returned no keys: {result}", code="keys_unavailable")
    if len(result) > limit:
        raise TokenError(f"the configured address returned more than {limit} bytes", code="keys_unavailable")
    return result


def _opener(url: str, context: SSLContext | None) -> OpenerDirector:
    """Return an opener for HTTP and HTTPS that follows no redirect and opens no files, unlike the default."""
    opener = OpenerDirector()
    parts = urlsplit(url)
    if not _is_loopback(parts.hostname or ""):
        opener.add_handler(ProxyHandler())
    opener.add_handler(HTTPHandler())
    opener.add_handler(HTTPSHandler(context=context or create_default_context()))
    return opener


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
