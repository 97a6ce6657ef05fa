"""How authority travels with an HTTP request: the names of the headers, and what a proof says about a request.

``Agent-Delegation`` holds the chain of grants, root first, joined with ``~``; ``Agent-Delegation-PoP`` the proof
of possession for this one request; ``Agent-Delegation-Next`` perhaps a grant to the receiver itself, with which
it can go on. The proof is over method, URL and the SHA-256 of the exact body.
"""

import hashlib
import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import quote, unquote_to_bytes

from agent_identity.enforcement import Presentation
from agent_identity.errors import TokenError

__all__ = [
    "CHAIN",
    "HEADERS",
    "MAX_HEADERS",
    "NEXT",
    "PROOF",
    "TOOL",
    "absolute_url",
    "origin_of",
    "presentation_of",
    "request_arguments",
    "to_headers",
]

CHAIN: Final = "Agent-Delegation"
PROOF: Final = "Agent-Delegation-PoP"
NEXT: Final = "Agent-Delegation-Next"
HEADERS: Final = frozenset(name.lower() for name in (CHAIN, PROOF, NEXT))
"""The names of our headers in lower case."""

TOOL: Final = "http.request"
"""What a proof and a record call a request."""

MAX_HEADERS: Final = 8_192
"""Characters of the values of our headers together, at most; what servers commonly accept for all headers."""

_BETWEEN: Final = "~"
_SAFE: Final = "/-._~!$&'()*+,;=:@"
_VALUE: Final = re.compile(r"[A-Za-z0-9_.~-]+")
# Strict on purpose: readers of URLs disagree about everything else, and the host decides who gets authority.
_URL: Final = re.compile(
    r"(?P<scheme>https?)://"
    r"(?P<host>[a-z0-9._-]{1,253}|\[[0-9a-f:.]{2,45}\])(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<path>/[!\"$->@-~]*)?(?:\?(?P<query>[!\"$-~]*))?(?:#[!-~]*)?",
    re.IGNORECASE,
)
_PORTS: Final = {"http": "80", "https": "443"}


def origin_of(url: str) -> tuple[str, str, str]:
    """Return scheme, host and port of a URL, in lower case and with the default port written out.

    Raises:
        ValueError: It is no plain absolute URL of HTTP: with a user, a backslash or another character that
            is not allowed where it stands.
    """
    found = _parsed(url)
    scheme = found["scheme"].lower()
    return scheme, found["host"].lower(), str(int(found["port"] or _PORTS[scheme]))


def absolute_url(url: str, path: str | bytes | None = None, query: str | None = None) -> str:
    """Return the one spelling of a URL on which sender and receiver agree.

    Scheme and host in lower case, no default port, the path decoded and encoded again (servers hand it on decoded,
    so that ``%2F`` and ``/`` are one), the query as it is, no fragment.

    Args:
        url: The absolute URL, or the base of one.
        path: The decoded path that follows the base; the path of the URL is all of it without.
        query: The query as it came, with a path.

    Raises:
        ValueError: As for :func:`origin_of`, or the query has other than visible ASCII characters.
    """
    found = _parsed(url)
    scheme, host, port = origin_of(url)
    where = host if port == _PORTS[scheme] else f"{host}:{port}"
    base = quote(unquote_to_bytes(found["path"] or "/"), safe=_SAFE)
    if path is None:
        query = found["query"]
    else:
        base = base.rstrip("/") + quote(path if isinstance(path, bytes) else path.encode(), safe=_SAFE)
        if query and not (query.isascii() and query.isprintable() and " " not in query and "#" not in query):
            raise ValueError("expected a query of visible ASCII characters, got others")
    return f"{scheme}://{where}{base or '/'}{f'?{query}' if query else ''}"


def request_arguments(method: str, url: str, body: bytes) -> dict[str, object]:
    """Return what a proof says about a request, whose URL is from :func:`absolute_url`."""
    return {"body": f"sha256:{hashlib.sha256(body).hexdigest()}", "method": method, "url": url}


def to_headers(presentation: Presentation) -> dict[str, str]:
    """Return the headers of a presentation.

    Raises:
        TokenError: With code ``too_large``: servers would cut or refuse them.
    """
    headers = {CHAIN: _BETWEEN.join(presentation.tokens), PROOF: presentation.proof}
    if presentation.onward is not None:
        headers[NEXT] = presentation.onward
    size = sum(map(len, headers.values()))
    if size > MAX_HEADERS:
        raise TokenError(
            f"expected at most {MAX_HEADERS} characters of delegation headers, got {size}; name the tools that the "
            "peer needs (Peer(tools=…)), or use a smaller scope",
            code="too_large",
        )
    return headers


def presentation_of(headers: Iterable[tuple[str, str]]) -> Presentation | None:
    """Return what the headers of a request present; ``None`` if there is none of ours.

    Args:
        headers: Names in lower case and values; others than ours are left alone.

    Raises:
        TokenError: With code ``malformed_header`` if one is there twice, alone or malformed, ``too_large`` if they
            are too long together.
    """
    found: dict[str, str] = {}
    for name, value in headers:
        if name not in HEADERS:
            continue
        if name in found or not _VALUE.fullmatch(value):
            raise TokenError("expected each delegation header once and well-formed", code="malformed_header")
        found[name] = value
    if not found:
        return None
    if sum(map(len, found.values())) > MAX_HEADERS:
        raise TokenError(f"expected at most {MAX_HEADERS} characters of delegation headers", code="too_large")
    chain, proof = found.get(CHAIN.lower()), found.get(PROOF.lower())
    if chain is None or proof is None:
        raise TokenError("expected a chain and a proof together, got one of them", code="malformed_header")
    return Presentation(tuple(chain.split(_BETWEEN)), proof, found.get(NEXT.lower()))


def _parsed(url: str) -> re.Match[str]:
    found = _URL.fullmatch(url)
    if found is None:
        raise ValueError("expected an absolute URL like https://host/path without a user, got another form")
    return found
