"""HTTP resources by host and path, and MCP resources by URI."""

import ipaddress
import re
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from agent_identity._common.typed_calls import typed
from agent_identity._policy.decision.resources import UNKNOWN, Access, CallTouches, DeclaredTouches, Touch
from agent_identity._policy.declarations._clear_names import (
    PathTemplates,
    ascii_domain,
    looks_secret,
    normal_segments,
    text_of,
)

_PORTS: Final = {"http": 80, "https": 443, "ws": 80, "wss": 443}
_METHODS: Final[Mapping[str, Access]] = {
    "GET": "read",
    "HEAD": "read",
    "OPTIONS": "read",
    "PUT": "write",
    "PATCH": "write",
    "POST": "send",
    "DELETE": "delete",
}
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,31}")
_MAX_LABELS: Final = 8
_SERVER: Final = re.compile(r"[A-Za-z0-9._~-]{1,200}")


class _Place(NamedTuple):
    """A normalized URL without credentials, query and fragment."""

    scheme: str
    authority: str
    path: str


@typed
def http_touches(
    argument: str,
    access: Access | None = None,
    *,
    method: str | None = None,
    routes: Sequence[str] = (),
    data: Sequence[str] = (),
) -> CallTouches:
    """Declare the HTTP resource that an argument names by its URL, for ``touches=``.

    Scheme, host and port are the system, in clear text: the host in lower case and in the ASCII form of its name,
    without a default port. Records have the route of the path, or ``{argument}``, and a keyed digest of the
    path. Credentials, query and fragment are in neither. A host that looks like a secret is in the digest alone. A
    URL that libraries read differently, of another scheme or without a host is unknown.

    Args:
        argument: The name of the argument with the URL.
        access: The kind of access; ``"send"`` by default. With ``method``, that of other methods.
        method: The name of the argument with the method: ``GET`` reads, ``PUT`` and ``PATCH`` write, ``POST`` sends,
            ``DELETE`` deletes.
        routes: Templates of paths that stand in records in clear text, such as ``/v1/invoices/{id}``.
        data: Labels of the data in the resource.

    Raises:
        TypeError: A text is no ``str``, or routes or labels are no list of texts.
        ValueError: A route, a label or the access is malformed.
    """
    usual: Access = "send" if access is None else access
    unknown, templates = Touch(UNKNOWN, UNKNOWN, usual, data), PathTemplates(routes, "routes")
    variable = f"{{{argument}}}"
    for route in routes:
        Touch("https", route, usual)  # Raises if no record can hold it.

    def declare(arguments: Mapping[str, object]) -> Touch:
        place = _web_place(text_of(arguments.get(argument)))
        known = None if method is None else _METHODS.get(str(arguments.get(method)).upper())
        kind = known or usual
        if not _is_clear_host(place.authority):
            return Touch(place.scheme, variable, kind, data, filled=f"{place.authority}{place.path}")
        system = f"{place.scheme}://{place.authority}"
        return Touch(system, templates.of(place.path) or variable, kind, data, filled=place.path)

    return DeclaredTouches(declare, (argument,) if method is None else (argument, method), unknown)


@typed
def mcp_resource_touches(
    argument: str,
    server: str,
    access: Access = "read",
    *,
    resources: Sequence[str] = (),
    data: Sequence[str] = (),
) -> CallTouches:
    """Declare the resource of an MCP server that an argument names by its URI, for ``touches=``.

    The system is ``mcp://`` and the server. Records have the template that the URI fits, or ``{argument}``, and a keyed
    digest of the URI without credentials, query and fragment. What is no URI is unknown.

    Args:
        argument: The name of the argument with the URI.
        server: The name of the server.
        access: The kind of access.
        resources: URI templates that stand in records in clear text, such as ``notes://daily/{date}``.
        data: Labels of the data in the resource.

    Raises:
        TypeError: A text is no ``str``, or resources or labels are no list of texts.
        ValueError: The server, a template, a label or the access is malformed.
    """
    if not _SERVER.fullmatch(server):
        raise ValueError("the server has other characters than letters, digits and ._~-; give a plain name")
    system, templates = f"mcp://{server}", PathTemplates(resources, "resources")
    unknown, variable = Touch(system, UNKNOWN, access, data), f"{{{argument}}}"
    for template in resources:
        Touch(system, template, access)  # As above.

    def declare(arguments: Mapping[str, object]) -> Touch:
        uri = _uri(text_of(arguments.get(argument)))
        return Touch(system, templates.of(uri) or variable, access, data, filled=uri)

    return DeclaredTouches(declare, (argument,), unknown)


def _web_place(url: str) -> _Place:
    """Return a normalized URL of the web.

    Raises:
        ValueError: It is none, or libraries read it differently.
    """
    scheme = url.partition(":")[0].lower()
    if scheme not in _PORTS:
        raise ValueError("no scheme of the web")
    parts = _split(url)
    host, port = _host(parts.hostname or ""), parts.port
    authority = host if port is None or port == _PORTS[scheme] else f"{host}:{port}"
    return _Place(scheme, authority, "/" + "/".join(normal_segments(parts.path)))


class _Parts(NamedTuple):
    hostname: str | None
    port: int | None
    path: str


def _split(url: str) -> _Parts:
    """Split a URL whose authority has one reading.

    Raises:
        ValueError: It has backslashes, spaces, or several ``@``.
    """
    if any(character.isspace() or character == "\\" for character in url):
        raise ValueError("spaces or backslashes")
    parts = urlsplit(url)
    if parts.netloc.count("@") > 1 or not url[len(parts.scheme) :].startswith("://"):
        raise ValueError("no authority, or several readings of it")
    if ("[" in parts.netloc) != (":" in (parts.hostname or "")) or "%" in (parts.hostname or ""):
        raise ValueError("brackets without an IPv6 address, or an escape in the host")
    return _Parts(parts.hostname, parts.port, parts.path)


def _host(host: str) -> str:
    """Return a host in its normal form.

    Raises:
        ValueError: It is malformed, or libraries read it differently.
    """
    if ":" in host:
        return f"[{ipaddress.IPv6Address(host).compressed}]"
    name = ascii_domain(host)
    if _NUMBER.fullmatch(name.rpartition(".")[2]):
        return str(ipaddress.IPv4Address(name))  # Refuses 127.1, 0x7f.1 and the like.
    return name


def _is_clear_host(authority: str) -> bool:
    return authority.count(".") < _MAX_LABELS and len(authority) <= 100 and not looks_secret(authority)


def _uri(text: str) -> str:
    """Return a URI without credentials, query and fragment.

    Raises:
        ValueError: It is none.
    """
    scheme, colon, rest = text.partition(":")
    if not colon or not _SCHEME.fullmatch(scheme) or any(one.isspace() or one == "\\" for one in text):
        raise ValueError("no URI")
    scheme = scheme.lower()
    if scheme in _PORTS:
        place = _web_place(text)
        return f"{scheme}://{place.authority}{place.path}"
    rest = re.split(r"[?#]", rest, maxsplit=1)[0]
    if not rest.startswith("//"):
        return f"{scheme}:{rest}"
    authority, slash, path = rest[2:].partition("/")
    if authority.count("@") > 1:
        raise ValueError("several readings of the authority")
    host = authority.rpartition("@")[2].lower()
    return f"{scheme}://{host}" + ("/" + "/".join(normal_segments("/" + path)) if slash else "")
