"""HTTP binding of delegated authority: the names of the headers, and the request facts that a proof covers.

``Agent-Delegation`` holds the chain of grants, root first, joined with ``~``; ``Agent-Delegation-PoP`` the proof
of possession for this request; ``Agent-Delegation-Next`` optionally a grant to the receiver itself, with which
it can continue; ``Agent-Delegation-Mark`` the signed low-water mark of the sender, in requests and in responses.
The proof covers method, URL and the SHA-256 of the exact body.
"""

import re
from base64 import urlsafe_b64encode
from collections.abc import Iterable
from hashlib import sha256
from typing import Final
from urllib.parse import quote, unquote_to_bytes

from agent_identity.delegation import Presentation
from agent_identity.errors import TokenError

__all__ = [
    "CHAIN",
    "HEADERS",
    "MARK",
    "MAX_HEADERS",
    "NEXT",
    "PROOF",
    "TOOL",
    "TRACEPARENT",
    "absolute_url",
    "origin_of",
    "presentation_of",
    "request_arguments",
    "to_headers",
]

CHAIN: Final = "Agent-Delegation"
PROOF: Final = "Agent-Delegation-PoP"
NEXT: Final = "Agent-Delegation-Next"
MARK: Final = "Agent-Delegation-Mark"
HEADERS: Final = frozenset(name.lower() for name in (CHAIN, PROOF, NEXT, MARK))
"""Our header names in lower case."""

TRACEPARENT: Final = "traceparent"
"""The name of the header of W3C Trace Context."""

TOOL: Final = "http.request"
"""The name of a request in proofs and records."""

MAX_HEADERS: Final = 8_192
"""Maximum total length of our header values; servers commonly accept this for all headers."""

_BETWEEN: Final = "~"
_SAFE: Final = "/-._~!$&'()*+,;=:@"
_VALUE: Final = re.compile(r"[A-Za-z0-9_.~-]+")
# Strict on purpose: URL parsers disagree about everything else, and the host decides who gets authority.
_URL: Final = re.compile(
    r"(?P<scheme>https?)://"
    r"(?P<host>[a-z0-9._-]{1,253}|\[[0-9a-f:.]{2,45}\])(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<path>/[!\"$->@-~]*)?(?:\?(?P<query>[!\"$-~]*))?(?:#[!-~]*)?",
    re.IGNORECASE,
)
_PORTS: Final = {"http": "80", "https": "443"}


def origin_of(url: str) -> tuple[str, str, str]:
    """Return scheme, host and port of a URL, in lower case and with an explicit port.

    Raises:
        ValueError: The URL is no plain absolute HTTP URL: it has a user, a backslash or another character that
            is not allowed at its place.
    """
    parts = _parsed(url)
    scheme = parts["scheme"].lower()
    return scheme, parts["host"].lower(), str(int(parts["port"] or _PORTS[scheme]))


def absolute_url(url: str, path: str | bytes | None = None, query: str | None = None) -> str:
    """Return the canonical URL on which sender and receiver agree.

    Scheme and host in lower case, no default port, the path decoded and encoded again (servers pass it on decoded,
    so ``%2F`` and ``/`` are one), the query unchanged, no fragment.

    Args:
        url: The absolute URL, or its base.
        path: The decoded path after the base; by default the path of the URL.
        query: The query as received, if a path is given.

    Raises:
        ValueError: As for :func:`origin_of`, or the query has other characters than visible ASCII.
    """
    parts = _parsed(url)
    scheme, host, port = origin_of(url)
    where = host if port == _PORTS[scheme] else f"{host}:{port}"
    base = quote(unquote_to_bytes(parts["path"] or "/"), safe=_SAFE)
    if path is None:
        query = parts["query"]
    else:
        base = base.rstrip("/") + quote(path if isinstance(path, bytes) else path.encode(), safe=_SAFE)
        if query and not (query.isascii() and query.isprintable() and " " not in query and "#" not in query):
            raise ValueError("the query has other characters than visible ASCII; encode them")
    return f"{scheme}://{where}{base or '/'}{f'?{query}' if query else ''}"


def request_arguments(method: str, url: str, body: bytes) -> dict[str, object]:
    """Return the request facts for a proof; the URL is from :func:`absolute_url`."""
    digest = urlsafe_b64encode(sha256(body).digest()).rstrip(b"=").decode()
    return {"body": digest, "method": method, "url": url}


def to_headers(presentation: Presentation) -> dict[str, str]:
    """Return the headers of a presentation.

    Raises:
        TokenError: With code ``too_large``: servers would truncate or refuse them.
    """
    headers = {CHAIN: _BETWEEN.join(presentation.tokens), PROOF: presentation.proof}
    if presentation.onward is not None:
        headers[NEXT] = presentation.onward
    if presentation.mark is not None:
        headers[MARK] = presentation.mark
    size = sum(map(len, headers.values()))
    if size > MAX_HEADERS:
        raise TokenError(
            f"the delegation headers have {size} characters, more than {MAX_HEADERS}; name the tools that the "
            "peer needs (Peer(tools=…)), or use a smaller scope",
            code="too_large",
        )
    return headers


def presentation_of(headers: Iterable[tuple[str, str]]) -> Presentation | None:
    """Return the presentation in the headers of a request; ``None`` without any of our headers.

    Args:
        headers: Names in lower case and values; other headers are ignored.

    Raises:
        TokenError: With code ``malformed_header`` if a header is repeated, incomplete or malformed, ``too_large`` if
            they are too long together.
    """
    ours: dict[str, str] = {}
    for name, value in headers:
        if name not in HEADERS:
            continue
        if name in ours or not _VALUE.fullmatch(value):
            raise TokenError("a delegation header is repeated or malformed; send each once", code="malformed_header")
        ours[name] = value
    if not ours:
        return None
    if sum(map(len, ours.values())) > MAX_HEADERS:
        raise TokenError(
            f"the delegation headers have more than {MAX_HEADERS} characters; send fewer grants", code="too_large"
        )
    chain, proof = ours.get(CHAIN.lower()), ours.get(PROOF.lower())
    if chain is None or proof is None:
        raise TokenError("a delegation header is missing; send chain and proof together", code="malformed_header")
    return Presentation(tuple(chain.split(_BETWEEN)), proof, ours.get(NEXT.lower()), ours.get(MARK.lower()))


def _parsed(url: str) -> re.Match[str]:
    match = _URL.fullmatch(url)
    if match is None:
        raise ValueError("the URL is malformed; use an absolute one without a user, like https://host/path")
    return match
