"""The data that a call touches, read from an argument: files, URLs, mail, vector stores, SQL tables (extra ``sql``)."""

import ipaddress
import os.path
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias, final
from urllib.parse import urlsplit

from agent_identity._common.narrowing import is_plain_array
from agent_identity._common.typed_calls import typed
from agent_identity._policy.decision.resources import UNKNOWN, Access, CallTouches, DeclaredTouches, Touch
from agent_identity.errors import ConfigurationError

_MAX_TEMPLATES: Final = 1_000
_LONG: Final = 40
_MAX_VALUE: Final = 8_000
_IDENTIFIER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_$-]{0,62}(?:\.[A-Za-z_][A-Za-z0-9_$-]{0,62}){0,7}")
_RUN: Final = re.compile(r"[A-Za-z0-9+/=]{16,}")
_KNOWN: Final = re.compile(
    r"(?i)(?<![a-z0-9])(?:sk|pk|rk|ghp|gho|ghs|glpat|xox[abp])[-_](?:(?:live|test|proj|ant)[-_])?[a-z0-9]{10}"
)
_CONTROL: Final = re.compile("[\\x00-\\x1f\\x7f-\\x9f\\ud800-\\udfff\\u2028\\u2029]")
_DIFFERENT: Final = re.compile("[\\u00df\\u1e9e\\u03c2\\u200c\\u200d]")  # IDNA 2003 and 2008 read them differently.
_LABEL: Final = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_ENCODED: Final = re.compile(r"%([0-9A-Fa-f]{2})")
_HIDDEN: Final = re.compile(r"%2f|%5c|[\\;]", re.IGNORECASE)
_UNRESERVED: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_VARIABLE: Final = re.compile(r"\{[^{}]+\}")


@final
class PathTemplates:
    """Declared templates of paths, such as ``/v1/invoices/{id}``, that stand in records in place of paths.

    Args:
        templates: The templates; each variable is a whole segment.
        what: The name of the option, for errors.

    Raises:
        ValueError: One has braces inside of a segment, or there are more than 1,000.
    """

    __slots__ = ("_templates",)

    def __init__(self, templates: Sequence[str], what: str) -> None:
        if len(templates) > _MAX_TEMPLATES:
            raise ValueError(f"{what} has {len(templates)} entries; use at most {_MAX_TEMPLATES}")
        self._templates = [(one, one.split("/")) for one in templates]
        for one, segments in self._templates:
            if any(("{" in part or "}" in part) and not _VARIABLE.fullmatch(part) for part in segments):
                raise ValueError(f"the template {one!r} has braces inside of a segment; write '/items/{{id}}'")

    def of(self, path: str) -> str | None:
        """Return the first template that a path fits, ``None`` for none.

        A segment with an escaped separator, a dot segment or parameters fits no variable.
        """
        parts = path.split("/")
        for template, segments in self._templates:
            if len(parts) == len(segments) and all(map(_fits, segments, parts)):
                return template
        return None


if TYPE_CHECKING:
    from agent_identity._policy.declarations._sql_statements import SqlReader

_SYSTEM: Final = "file"

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

_MAX_RECIPIENTS: Final = 63
_DISPLAYED: Final = re.compile(r"[^<>@\"]*<([^<>]*)>|([^<>\"]*)")
_ADDRESS: Final = re.compile(r"([A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64})@([^@\s<>\"]{1,253})")

_MAX_TEXT: Final = 16_384
_OTHERS: Final = "*"

_Labels: TypeAlias = Mapping[str, Sequence[str]]


@typed
def file_touches(
    argument: str,
    access: Access,
    *,
    base: str | None = None,
    roots: Sequence[str] = (),
    data: Sequence[str] = (),
) -> CallTouches:
    """Declare the file that an argument names, for ``touches=``.

    The path is normalized as text: ``..`` is resolved, links are not followed, and no file is read. Records have the
    root below which the path lies, and a keyed digest of the whole path. A path that begins with ``~``, a URL, and
    what is no text are unknown.

    Args:
        argument: The name of the argument.
        access: The kind of access.
        base: The folder that relative paths start from; without it a relative path is a name of its own.
        roots: Folders that stand in records in clear text; a path below none of them is ``{argument}``.
        data: Labels of the data in the file.

    Raises:
        TypeError: A text is no ``str``, or labels or roots are no list of texts.
        ValueError: The base or a root is not absolute, or the access or a label is malformed.
    """
    unknown, outside = Touch(_SYSTEM, UNKNOWN, access, data), Touch(_SYSTEM, f"{{{argument}}}", access, data)
    folders = [*map(_folder, roots)]
    below = {root: Touch(_SYSTEM, f"{root.rstrip('/')}/{{{argument}}}", access, data) for root in folders}
    start = None if base is None else _folder(base)

    def declare(arguments: Mapping[str, object]) -> Touch:
        path = text_of(arguments.get(argument))
        if path.startswith("~") or "://" in path:
            return unknown
        path = _normal(path if start is None else os.path.join(start, path))  # noqa: PTH118 - Paths as text.
        holders = [root for root in folders if path == root or path.startswith(f"{root.rstrip('/')}/")]
        touch = below[max(holders, key=len)] if holders else outside
        return Touch(touch.system, touch.name, access, data, filled=path)

    return DeclaredTouches(declare, (argument,), unknown)


def _normal(path: str) -> str:
    normal = os.path.normpath(path).replace(os.sep, "/")
    return normal[1:] if normal.startswith("//") else normal


def _folder(path: str) -> str:
    if not os.path.isabs(path):  # noqa: PTH117 - As above.
        raise ValueError(f"the folder {path!r} is relative; give an absolute path")
    return _normal(path)


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


@typed
def vector_touches(
    argument: str,
    system: str,
    access: Access = "read",
    *,
    collections: Sequence[str] = (),
    data: Sequence[str] = (),
) -> CallTouches:
    """Declare the collection of a vector store that an argument names, for ``touches=``.

    For a collection that the code names, write ``Touch("qdrant://db:6333", "handbook", "read")``.

    Args:
        argument: The name of the argument with the collection.
        system: The store, as an OpenLineage namespace: ``qdrant://db:6333``.
        access: The kind of access.
        collections: Collections that stand in records in clear text; others are ``{argument}`` with a keyed digest.
        data: Labels of the data in the collection.

    Raises:
        TypeError: A text is no ``str``, or collections or labels are no list of texts.
        ValueError: The system, a collection, a label or the access is malformed.
    """
    unknown, other = Touch(system, UNKNOWN, access, data), Touch(system, f"{{{argument}}}", access, data)
    named = {name: Touch(system, name, access, data) for name in collections}

    def declare(arguments: Mapping[str, object]) -> Touch:
        name = text_of(arguments.get(argument))
        return named.get(name) or Touch(system, other.name, access, data, filled=name)

    return DeclaredTouches(declare, (argument,), unknown)


@typed
def mail_touches(*arguments: str, data: Sequence[str] = ()) -> CallTouches:
    """Declare the recipients of a mail that arguments name, for ``touches=``.

    For each recipient the system is ``mailto:`` and the domain, in clear text. Records have ``{argument}`` and a keyed
    digest of the address, its domain in lower case. What is no address is unknown, and so are recipients beyond 63.

    Args:
        arguments: The names of the arguments with the recipients, such as ``"to"`` and ``"cc?"``: a text with commas,
            or a list of texts. A call may leave out an argument with a question mark.
        data: Labels of the data in the mail.

    Raises:
        TypeError: A text is no ``str``, or labels are no list of texts.
        ValueError: There is no argument, or a label is malformed.
    """
    if not arguments:
        raise ValueError("no argument is named; name those with recipients, such as 'to' and 'cc?'")
    unknown = Touch("mailto", UNKNOWN, "send", data)
    names = [(name.removesuffix("?"), name.endswith("?")) for name in arguments]
    for name, _ in names:
        Touch("mailto", f"{{{name}}}", "send", data)  # Raises if it is no name.

    def declare(given: Mapping[str, object]) -> list[Touch]:
        found: list[Touch] = []
        for name, optional in names:
            if optional and given.get(name) in (None, "", [], ()):
                continue
            found += [_recipient(one, name, data) or unknown for one in _listed(given, name)] or [unknown]
        return found if len(found) <= _MAX_RECIPIENTS else [*found[:_MAX_RECIPIENTS], unknown]

    return DeclaredTouches(declare, tuple(name for name, _ in names), unknown)


def _listed(given: Mapping[str, object], name: str) -> list[str]:
    value = given.get(name)
    items = list(value)[: _MAX_RECIPIENTS + 1] if is_plain_array(value) else [value]
    texts = [text_of(item) if isinstance(item, str) and item else "" for item in items]
    return [part for text in texts for part in re.split("[,;]", text)[: _MAX_RECIPIENTS + 1]]


def _recipient(text: str, name: str, data: Sequence[str]) -> Touch | None:
    """Return the resource of one recipient; ``None`` for what is no address."""
    shown = _DISPLAYED.fullmatch(text.strip())
    address = None if shown is None else _ADDRESS.fullmatch(shown[1] or shown[2] or "")
    if address is None:
        return None
    try:
        domain = ascii_domain(address[2])
    except ValueError:
        return None
    if "." not in domain:
        return None
    system = "mailto" if looks_secret(domain) else f"mailto:{domain}"
    return Touch(system, f"{{{name}}}", "send", data, filled=f"{address[1]}@{domain}")


@typed
def sql_touches(
    argument: str,
    system: str,
    *,
    dialect: str,
    data: Mapping[str, Sequence[str]] | None = None,
) -> CallTouches:
    """Declare the tables that the SQL in an argument reads, writes and deletes from, for ``touches=``.

    Each table has its access: ``SELECT`` reads; ``INSERT``, ``UPDATE``, ``MERGE``, ``CREATE`` and ``ALTER`` write;
    ``DELETE``, ``TRUNCATE`` and ``DROP`` delete. Names of common table expressions are no tables. Names are in the
    normal case of the dialect, as the statement has them: schemas are not filled in. A name that is no plain
    identifier, or looks like a secret, is ``{argument}`` with a keyed digest. What cannot be read as a known
    statement, or calls a function that sqlglot does not know, is unknown too. Views, triggers and functions are not
    looked into.

    Args:
        argument: The name of the argument with the SQL.
        system: The database, as an OpenLineage namespace: ``postgres://db.example.com:5432``.
        dialect: The dialect, as sqlglot names it: ``postgres``, ``mysql``, ``sqlite``, ``snowflake``.
        data: Labels of the data by table; those of ``"*"`` are the labels of all others.

    Raises:
        TypeError: A text is no ``str``, or the labels are no lists by table.
        ValueError: The system, an argument or a label is malformed.
        ConfigurationError: The extra ``sql`` is not installed, or sqlglot does not know the dialect.
    """
    labels: _Labels = {} if data is None else dict(data)
    for listed in ((), *labels.values()):
        Touch(system, f"{{{argument}}}", "execute", listed)  # Raises if it is malformed.
    unknown = Touch(system, UNKNOWN, "execute")
    reader = _reader(dialect)

    def declare(arguments: Mapping[str, object]) -> list[Touch]:
        text = arguments.get(argument)
        if not isinstance(text, str) or len(text) > _MAX_TEXT:
            return [unknown]
        tables, whole = reader.read(text)
        touches = [_touch(system, argument, name, access, labels) for name, access in tables]
        return touches if whole else [*touches, unknown]

    return DeclaredTouches(declare, (argument,), unknown)


def _touch(system: str, argument: str, name: str, access: Access, labels: _Labels) -> Touch:
    stated = labels.get(name, labels.get(_OTHERS, ()))
    if name in labels or is_clear(name):
        return Touch(system, name, access, stated)
    return Touch(system, f"{{{argument}}}", access, stated, filled=name)


def _reader(dialect: str) -> "SqlReader":
    try:
        from agent_identity._policy.declarations._sql_statements import SqlReader  # noqa: PLC0415  Needs the extra.
    except ImportError:
        raise ConfigurationError(
            "the extra sql for the tables of statements is not installed; run pip install '.[sql]' in the checkout"
        ) from None
    return SqlReader(dialect)


def text_of(value: object) -> str:
    """Return an argument that is a text of 1 to 8,000 characters without control characters.

    Raises:
        ValueError: It is something else.
    """
    if not isinstance(value, str) or not 0 < len(value) <= _MAX_VALUE:
        raise ValueError("the argument is no text")
    if _CONTROL.search(value):
        raise ValueError("the argument has control characters")
    return value


def ascii_domain(name: str) -> str:
    """Return the name of a host in lower case, in ASCII, without the dot at its end.

    Raises:
        ValueError: It is malformed, or the versions of IDNA read it differently.
    """
    if _DIFFERENT.search(name):
        raise ValueError("a name that the versions of IDNA read differently")
    normal = (name if name.isascii() else name.encode("idna").decode()).lower().removesuffix(".")
    if not all(map(_LABEL.fullmatch, normal.split("."))):
        raise ValueError("no name of a host")
    return normal


def looks_secret(text: str) -> bool:
    """Return whether a text has the shape of a key or token: a long run of letters with digits, or a known prefix."""
    if _KNOWN.search(text):
        return True
    return any(_is_mixed(match[0]) or len(match[0]) >= _LONG for match in _RUN.finditer(text))


def _is_mixed(run: str) -> bool:
    return any(map(str.isdigit, run)) and any(map(str.isalpha, run))


def is_clear(name: str) -> bool:
    """Return whether a name is made of plain identifiers, and does not look like a secret."""
    return name != UNKNOWN and _IDENTIFIER.fullmatch(name) is not None and not looks_secret(name)


def normal_segments(path: str) -> list[str]:
    """Return the segments of the path of a URL, without dot segments.

    Escapes of unreserved characters are decoded, others are in upper case. An escaped slash stays escaped: servers
    differ about it.
    """
    segments: list[str] = []
    for raw in path.split("/")[1:]:
        segment = _ENCODED.sub(_escape, raw)
        if segment == "..":
            segments[-1:] = []
        elif segment != ".":
            segments.append(segment)
    if path.endswith(("/.", "/..")):
        segments.append("")
    return segments


def _escape(match: re.Match[str]) -> str:
    character = chr(int(match[1], 16))
    return character if character in _UNRESERVED else match[0].upper()


def _fits(segment: str, part: str) -> bool:
    if not segment.startswith("{"):
        return segment == part
    return part not in ("", ".", "..") and not _HIDDEN.search(part)
