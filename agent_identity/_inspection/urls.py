"""URLs as browsers read them (WHATWG): where they lead, and what they carry."""

import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final, Protocol, cast, final

from agent_identity._inspection._markup import data_length
from agent_identity._inspection.document import Document, Leaf
from agent_identity._inspection.inspector import Match, TextInspector
from agent_identity._policy.decision.request import Severity
from agent_identity.errors import ConfigurationError

_MISSING: Final = "Urls needs ada-url; run pip install '.[urls]' in the checkout"
_LONGEST: Final = 8_192
_WEB: Final = frozenset({"http:", "https:", "ws:", "wss:", "ftp:"})
_URL: Final = re.compile(
    r"(?<![A-Za-z0-9+.-])(?:(?:https?|wss?|ftp|javascript|vbscript|data|file|blob):(?=\S)|(?<![:/\\\w])//(?=[\w\[]))"
    r"[^\s<>\"'`{}|^]*",
    re.IGNORECASE,
)
_TRAILING: Final = ".,;:!?)]}*_…"
_BARE: Final = re.compile(r"\[?[0-9A-Fa-fx.:]{2,60}\]?(?::[0-9]{1,5})?(?:/\S{0,200})?")
_ZONE: Final = re.compile(r"%[\w.-]{1,16}")
_HOST: Final = re.compile(r"[a-z][a-z0-9+.-]*://(?:[^/?#@\\]*@)?(\[[^\]]*\]|[^:/?#\\]*)", re.IGNORECASE)
_DATA_SCHEMES: Final = frozenset({"javascript:", "vbscript:", "data:", "file:", "blob:"})
_SCRIPTS: Final = re.compile(r"[a-z]")

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_NAMES: Final = ("localhost", "local", "internal", "intranet", "lan", "corp", "home", "home.arpa", "localdomain")
"""Names, and ends of names, that no public name server answers."""

_WILDCARDS: Final = ("nip.io", "sslip.io", "xip.io", "localtest.me", "lvh.me", "vcap.me", "lacolhost.com")
"""Public names that resolve to whatever address stands in them, or to one's own machine."""

_RELAY: Final = ipaddress.ip_network("192.88.99.0/24")
# Where an address of version 4 stands in one of version 6: the network, and how many bits follow it.
_EMBEDDED: Final = tuple(
    (ipaddress.IPv6Network(network), shift)
    for network, shift in (("64:ff9b::/96", 0), ("64:ff9b:1::/48", 0), ("2002::/16", 80), ("::/96", 0))
)


class _Parsed(Protocol):
    """A parsed URL."""

    @property
    def hostname(self) -> str: ...
    @property
    def username(self) -> str: ...
    @property
    def password(self) -> str: ...
    @property
    def protocol(self) -> str: ...
    @property
    def href(self) -> str: ...


@final
class Urls(TextInspector):
    """Finds URLs by where they lead; categories ``url.<kind>``.

    The kinds: ``not_allowed`` (outside the allow-list), ``internal`` (addresses and names that are not public),
    ``ip`` (an address in place of a name), ``odd`` (a spelling that hides the host), ``homograph`` (a host that mixes
    scripts), ``userinfo``, ``data`` (query, fragment or path carry data), ``scheme`` (``javascript:``, ``data:``,
    ``file:`` and the like) and ``malformed``. Redirects, and what a name resolves to, are out of reach.

    Args:
        allow: Hosts that are allowed, such as ``"example.com"`` or, with all names below it, ``"*.example.com"``; by
            default any.
        data: Characters of data from which on a URL counts as carrying some; 0 for never.

    Raises:
        TypeError: ``allow`` is one text.
        ValueError: A host is empty or has a path, or the number is negative.
    """

    name = "urls"
    longest = 8_448

    def __init__(self, *, allow: Sequence[str] | None = None, data: int = 256) -> None:
        if isinstance(allow, str):
            raise TypeError("allow is one text; give a list of hosts, such as ['example.com', '*.example.com']")
        if data < 0:
            raise ValueError(f"data={data}; give 0 or more characters")
        for host in allow or ():
            if not host or "/" in host or ":" in host or "*" in host.removeprefix("*."):
                raise ValueError("an allowed host is malformed; write 'example.com' or '*.example.com'")
        self._allow: Final = None if allow is None else tuple(host.rstrip(".").lower() for host in allow)
        self._data: Final = data
        self._parse: Callable[[str], _Parsed] | None = None

    def prepare(self) -> None:
        """Load the parser.

        Raises:
            ConfigurationError: It is not installed.
        """
        self._parser()

    def _parser(self) -> Callable[[str], _Parsed]:
        if self._parse is None:
            try:
                from ada_url import URL  # noqa: PLC0415 - An extra.
            except ModuleNotFoundError:
                raise ConfigurationError(_MISSING) from None
            self._parse = cast("Callable[[str], _Parsed]", URL)
        return self._parse

    def find(self, document: Document) -> Iterable[Match]:
        """Return what is to be said of the URLs in a text.

        Args:
            document: The text.
        """
        text, decoded = document.text.raw, document.text.decoded
        for category, start, end in self._in(text):
            yield Match(category, start, end, _SEVERITIES.get(category, "medium"), "high")
        for category, start, end in () if decoded is None else self._in(decoded):
            span = document.text.decoded_span(start, end)
            yield Match(category, *span, _SEVERITIES.get(category, "medium"), "high")
        for leaf in document.leaves:
            if leaf.end - leaf.start <= 80:
                yield from self._bare(text, leaf)

    def _in(self, text: str) -> Iterator[tuple[str, int, int]]:
        if ":" not in text and "//" not in text:
            return
        for found in _URL.finditer(text):
            start = found.start()
            url = found.group().rstrip(_TRAILING)
            for category in self._judged(url):
                yield category, start, start + len(url)

    def _bare(self, text: str, leaf: Leaf) -> Iterator[Match]:
        """Yield a leaf that is a bare address of one's own network and nothing else."""
        bare = _ZONE.sub("", text[leaf.start : leaf.end].strip())
        if _BARE.fullmatch(bare) is None or not _is_address(bare):
            return
        try:
            parsed = self._parser()(f"http://[{bare}]/" if bare.count(":") > 1 and bare[0] != "[" else f"http://{bare}")
        except ValueError:
            return
        if is_ip(parsed.hostname) and is_internal(parsed.hostname):
            yield Match("url.internal", leaf.start, leaf.end, "high", "medium")

    def _judged(self, url: str) -> Iterator[str]:
        if len(url) > _LONGEST:
            yield "url.data"
            url = url[:_LONGEST]
        try:
            parsed = self._parser()(f"https:{url}" if url.startswith("//") else url)
        except ValueError:
            if url.rstrip(":/"):
                yield "url.malformed"
            return
        if parsed.protocol in _DATA_SCHEMES:
            yield "url.scheme"
        elif parsed.protocol in _WEB:
            yield from self._web(url, parsed)

    def _web(self, url: str, parsed: _Parsed) -> Iterator[str]:
        host = parsed.hostname.rstrip(".").lower()
        if self._allow is not None and not any(_covers(pattern, host) for pattern in self._allow):
            yield "url.not_allowed"
        if is_internal(host):
            yield "url.internal"
        elif is_ip(host):
            yield "url.ip"
        if _is_odd(url, host):
            yield "url.odd"
        if "xn--" in host and _mixes_scripts(host):
            yield "url.homograph"
        if parsed.username or parsed.password:
            yield "url.userinfo"
        if self._data and data_length(parsed.href) >= self._data:
            yield "url.data"


_SEVERITIES: Final[Mapping[str, Severity]] = {
    "url.internal": "high",
    "url.not_allowed": "high",
    "url.data": "high",
    "url.ip": "low",
}


def _covers(pattern: str, host: str) -> bool:
    return host == pattern or (pattern.startswith("*.") and host.endswith(pattern[1:]))


def _is_address(bare: str) -> bool:
    """Tell whether digits are more likely an address than a version or a time of day."""
    host = bare.partition("/")[0]
    return host.count(":") > 1 or host.count(".") == 3 or "0x" in host or host.startswith("127.")


def _is_odd(url: str, host: str) -> bool:
    """Tell whether a simple reader takes another host from a URL than a browser."""
    written = _HOST.match(f"https:{url}" if url.startswith("//") else url)
    if written is None or "\\" in url[: written.end() + 1]:
        return True
    name = written.group(1).rstrip(".").lower()
    if name == host or is_ip(name):
        return False
    return name.isascii() or is_ip(host) or "xn--" not in host


def _mixes_scripts(host: str) -> bool:
    """Tell whether a label has Latin letters and others, as a name that poses as another one has."""
    for label in host.split("."):
        if not label.startswith("xn--"):
            continue
        try:
            letters = label[4:].encode("ascii").decode("punycode")
        except (UnicodeError, ValueError, IndexError):
            return True
        foreign = [letter for letter in letters if letter.isalpha() and ord(letter) > 0x24F]
        if foreign and (_SCRIPTS.search(letters) is not None or all(letter in _LOOKALIKES for letter in foreign)):
            return True
    return False


_LOOKALIKES: Final = frozenset(
    "\u0430\u0441\u0435\u043e\u0440\u0445\u0443\u0456\u0458\u0455\u04bb\u0501\u051b\u051d\u0432\u043a"
    "\u043c\u043d\u0442\u0433\u043f\u03b1\u03bf\u03c1\u03bd\u03b9\u03ba\u03c4\u03c5\u03c7"
)
"""Letters that look like Latin ones: a label of nothing else is read as Latin."""


def is_ip(host: str) -> bool:
    """Tell whether a host is an address and no name."""
    return _parsed(host) is not None


def is_internal(host: str) -> bool:
    """Tell whether a host is an address that is not public, or a name that leads to one.

    A name of one label is one's own; what a public name resolves to is out of reach of a look at the text.

    Args:
        host: A name, or an address with or without brackets.
    """
    address = _parsed(host)
    if address is not None:
        return _is_internal_address(address)
    name = host.rstrip(".").lower()
    if "." not in name:
        return True
    return any(name == end or name.endswith(f".{end}") for end in (*_NAMES, *_WILDCARDS))


def _parsed(host: str) -> _Address | None:
    try:
        return ipaddress.ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        return None


def _is_internal_address(address: _Address) -> bool:
    if isinstance(address, ipaddress.IPv4Address):
        return not address.is_global or address in _RELAY or address.is_multicast
    if address.ipv4_mapped is not None:
        return _is_internal_address(address.ipv4_mapped)
    if address.teredo is not None:
        return True
    for network, shift in _EMBEDDED:
        if address in network and int(address) > 0xFFFF:
            return _is_internal_address(ipaddress.IPv4Address(int(address) >> shift & 0xFFFFFFFF))
    return not address.is_global or address.is_multicast
