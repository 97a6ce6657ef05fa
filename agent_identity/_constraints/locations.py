"""Constraints on text that names a place: file paths, URLs, email addresses, and plain prefixes.

These extend the Attenuating Agent Token profile. Each reads its text by one strict grammar and refuses
every spelling that two readers may take differently, instead of guessing what the tool will do with it.
Subsumption is decidable: a place covers the places inside it and the values that it permits.
"""

import os
import re
import unicodedata
from dataclasses import dataclass, field
from typing import ClassVar, Final, final

from agent_identity._constraints.literals import Constraint, members_permitted
from agent_identity._constraints.values import MAX_TEXT, is_text
from agent_identity.canonical import JSON

_MAX_PLACE: Final = 4096
_MAX_DOMAINS: Final = 256

_ENCODED: Final = re.compile(r"%(?:[0-9A-Fa-f]{2}|[uU])")
_INVISIBLE: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_MEANINGFUL: Final = frozenset("./\\%:~")
# Slashes and stops that Unicode does not fold to ASCII, but file systems and resolvers of names may.
_LOOKALIKES: Final = frozenset("\u2044\u2215\u2216\u29f5\u29f8\u29f9\u3002\uff61")

_LABEL: Final = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_HOST: Final = rf"(?=[a-z0-9.-]{{1,253}}(?![a-z0-9.-]))(?:{_LABEL}\.)*{_LABEL}"
_URL: Final = re.compile(
    rf"(?P<scheme>https?)://(?P<host>{_HOST})(?::(?P<port>[1-9][0-9]{{0,4}}))?"
    r"(?P<path>/(?:[A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-Fa-f]{2})*)?"
    r"(?P<rest>\?(?:[A-Za-z0-9._~!$&'()*+,;=:@/?-]|%[0-9A-Fa-f]{2})*)?"
    r"(?P<fragment>\#(?:[A-Za-z0-9._~!$&'()*+,;=:@/?-]|%[0-9A-Fa-f]{2})*)?"
)
_URL_START: Final = re.compile(r"[A-Za-z]+://[^/?#]*")
# Percent-encoded stops, slashes, backslashes, percent signs, controls and bytes beyond ASCII.
_URL_ENCODED: Final = re.compile(r"%(?:[01][0-9A-Fa-f]|2[EeFf5]|5[Cc]|7[Ff]|[89A-Fa-f][0-9A-Fa-f])")
_OCTET: Final = r"(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_DOTTED: Final = re.compile(rf"(?:{_OCTET}\.){{3}}{_OCTET}")
_NUMERIC_LAST: Final = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)")
_ATOM: Final = r"[A-Za-z0-9#$&'*+/=?^_`{|}~-]+"
_EMAIL: Final = re.compile(rf"(?P<local>{_ATOM}(?:\.{_ATOM})*)@(?P<domain>{_HOST})")


@final
@dataclass(frozen=True, slots=True, init=False, repr=False)
class PathWithin:
    """The argument is a POSIX path to the root or to something below it.

    A relative path is read as relative to the root: set the working directory of the tool accordingly.
    The path is judged as text. Refused wherever they stand: ``..`` and all names that begin with two
    dots, backslashes, NUL and other control or invisible characters, percent-encoded characters,
    characters that turn into stops or slashes when normalised, a leading ``//`` or ``~``, a first name
    with a colon (drives, URLs), and white space at the ends.

    Text says nothing about symbolic links. With ``follow_links`` the links that exist at the time of the
    check are resolved as well and must stay inside the root. Both are a race against a party that can write
    below the root: between check and use a directory can become a link. Where others write, open files
    with ``openat2(RESOLVE_BENEATH)`` or the like, or keep the root on a file system of its own.

    Args:
        root: Absolute path of a directory, without ``.``, ``..`` and empty names.
        follow_links: Whether to resolve symbolic links at the check. Then this covers no values named
            one by one and no other root, because what it permits depends on the machine.

    Raises:
        TypeError: The root is no ``str``.
        ValueError: The root is not absolute or breaks a rule above.
    """

    root: str
    follow_links: bool
    kind: ClassVar[str] = "path_within"

    def __init__(self, root: str, *, follow_links: bool = False) -> None:
        _check_text(root, "root of PathWithin")
        if type(follow_links) is not bool:
            raise TypeError("follow_links of PathWithin is not True or False")
        names = _path_names(root)
        path = root.removesuffix("/")
        if names is None or not root.startswith("/") or path != "".join(f"/{name}" for name in names):
            raise ValueError(
                "the root of PathWithin is not absolute, or has '.', '..' or an empty name; write one like '/data'"
            )
        object.__setattr__(self, "root", path or "/")
        object.__setattr__(self, "follow_links", follow_links)

    def __repr__(self) -> str:
        return self.describe()

    def permits(self, value: object) -> bool:
        """Return whether the value is a path inside the root."""
        if not is_text(value):
            return False
        names = _path_names(value)
        if names is None:
            return False
        path = "/" + "/".join(names)
        if not value.startswith("/"):
            path = f"{self.root.rstrip('/')}{path}"
        if not _inside(path, self.root):
            return False
        return not self.follow_links or _inside(os.path.realpath(path), os.path.realpath(self.root))

    def resembles(self, value: str) -> bool:
        """Return whether a path is outside as spelled, and inside for some file systems.

        Some ignore case, normal forms of Unicode, or both: APFS and HFS+ by default, NTFS, ext4 and ZFS on request. A
        grant permits what is inside for all of them. A rule that blocks the root has to think of each.
        """
        path = "/" + "/".join(_path_names(value) or ())
        return not _inside(path, self.root) and _inside(_folded(path), _folded(self.root))

    def covers(self, child: Constraint) -> bool:
        """Return whether the child is a root inside this one, or values inside it."""
        if not isinstance(child, PathWithin):
            return not self.follow_links and members_permitted(child, self)
        if self.follow_links:
            return child == self
        return _inside(child.root, self.root)

    def to_claim(self) -> dict[str, JSON]:
        """Return the constraint as claim of a grant."""
        claim: dict[str, JSON] = {"constraint_type": self.kind, "root": self.root}
        if self.follow_links:
            claim["follow_links"] = True
        return claim

    def describe(self) -> str:
        """Return the constraint as written in Python."""
        return f"PathWithin({self.root!r}{', follow_links=True' if self.follow_links else ''})"


def _check_text(value: object, what: str) -> None:
    if not is_text(value):
        raise TypeError(f"the {what} is {type(value).__name__}; give Unicode text")


def _path_names(path: str) -> list[str] | None:
    """Return the names along a path, or ``None`` if parsers may disagree about its target."""
    if not 1 <= len(path) <= _MAX_PLACE or path.strip() != path or path.startswith(("//", "~")):
        return None
    if "\\" in path or _ENCODED.search(path) or any(_ambiguous(character) for character in path):
        return None
    names = [name for name in path.split("/") if name not in ("", ".")]
    if any(name.strip().startswith("..") for name in names):
        return None
    return None if ":" in path.split("/", 1)[0] else names


def _ambiguous(character: str) -> bool:
    if character.isascii():
        return not character.isprintable()
    if character in _LOOKALIKES or unicodedata.category(character) in _INVISIBLE:
        return True
    return not _MEANINGFUL.isdisjoint(unicodedata.normalize("NFKC", character))


def _folded(path: str) -> str:
    """Return the same folded form for all spellings of a path (Unicode 16, section 3.13, D147 without ignorables).

    File systems fold less, each in its own way; what is equal for one of them is equal here.
    """
    if path.isascii():
        return path.lower()
    once = unicodedata.normalize("NFKD", unicodedata.normalize("NFD", path).casefold())
    return unicodedata.normalize("NFKD", once.casefold())


def _inside(path: str, root: str) -> bool:
    return path.rstrip("/") == root.rstrip("/") or path.startswith(f"{root.rstrip('/')}/")


@final
@dataclass(frozen=True, slots=True, init=False, repr=False)
class UrlWithin:
    """The argument is a URL of one origin, at or below one path.

    ``UrlWithin("https://api.example.com/v1")`` permits ``…/v1``, ``…/v1/x`` and ``…/v1?q=1``, not
    ``…/v1x``. With a slash at the end only what is below it is permitted. Only the URLs are read that
    RFC 3986 and the WHATWG rules read alike: ``http`` or ``https``, plain ASCII, a host in its usual
    spelling, no user, no IPv6 address, no dot segments, no percent-encoding of characters that matter
    to a path. It says nothing about redirects, nor about the address that the name resolves to.

    Args:
        prefix: Scheme, host, optional port and path; no query and no fragment.

    Raises:
        TypeError: The prefix is no ``str``.
        ValueError: The prefix is no such URL.
    """

    prefix: str
    origin: tuple[str, str, int] = field(compare=False)
    path: str = field(compare=False)
    kind: ClassVar[str] = "url_within"

    def __init__(self, prefix: str) -> None:
        _check_text(prefix, "prefix of UrlWithin")
        place = _read_url(prefix)
        if place is None or "?" in prefix or "#" in prefix:
            raise ValueError("the URL of UrlWithin is malformed; write one like 'https://api.example.com/v1'")
        origin, path = place
        object.__setattr__(self, "origin", origin)
        object.__setattr__(self, "path", path)
        scheme, host, port = origin
        shown = "" if port == _DEFAULT_PORT[scheme] else f":{port}"
        object.__setattr__(self, "prefix", f"{scheme}://{host}{shown}{path}")

    def __repr__(self) -> str:
        return self.describe()

    def permits(self, value: object) -> bool:
        """Return whether the value is a URL inside the prefix."""
        place = _read_url(value) if is_text(value) else None
        return place is not None and self._holds(*place)

    def _holds(self, origin: tuple[str, str, int], path: str) -> bool:
        if origin != self.origin:
            return False
        below = self.path if self.path.endswith("/") else f"{self.path}/"
        return path == self.path or path.startswith(below)

    def covers(self, child: Constraint) -> bool:
        """Return whether the child is a prefix inside this one, or URLs inside it."""
        if isinstance(child, UrlWithin):
            return self._holds(child.origin, child.path)
        return members_permitted(child, self)

    def to_claim(self) -> dict[str, JSON]:
        """Return the constraint as claim of a grant."""
        return {"constraint_type": self.kind, "prefix": self.prefix}

    def describe(self) -> str:
        """Return the constraint as written in Python."""
        return f"UrlWithin({self.prefix!r})"


_DEFAULT_PORT: Final = {"http": 80, "https": 443}


def _read_url(text: str) -> tuple[tuple[str, str, int], str] | None:
    """Return origin and path of a URL, or ``None`` if parsers may disagree about it."""
    if len(text) > _MAX_PLACE:
        return None
    # Scheme and host are the same in either case (RFC 3986 §3.1, §3.2.2).
    match = _URL.fullmatch(_URL_START.sub(lambda start: start[0].lower(), text, count=1) if text.isascii() else "")
    if match is None:
        return None
    scheme, host, path = match["scheme"], match["host"], match["path"] or "/"
    port = int(match["port"]) if match["port"] else _DEFAULT_PORT[scheme]
    # A host whose last label is a number is an IPv4 address for WHATWG; only the dotted form is one for all.
    if port > 65535 or (_NUMERIC_LAST.fullmatch(host) and not _DOTTED.fullmatch(host)):
        return None
    if _URL_ENCODED.search(path) or any(_is_dots(segment) for segment in path.split("/")):
        return None
    return (scheme, host, port), path


def _is_dots(segment: str) -> bool:
    return segment.startswith((".;", "..")) or segment == "."


@final
@dataclass(frozen=True, slots=True, init=False, repr=False)
class EmailDomain:
    """The argument is one email address in one of the domains; subdomains count as other domains.

    Only the plain form ``name@domain`` is read: no display name, no quotes, no comment, no ``%`` or ``!``
    (mail relays once read routes into them), no address literal, ASCII only.

    Raises:
        TypeError: A domain is no ``str``.
        ValueError: There is no domain, one is no host name, or there are more than 256.
    """

    domains: frozenset[str]
    kind: ClassVar[str] = "email_domain"

    def __init__(self, *domains: str) -> None:
        for domain in domains:
            _check_text(domain, "domain of EmailDomain")
        if not 1 <= len(domains) <= _MAX_DOMAINS or not all(_read_email(f"x@{domain}") for domain in domains):
            raise ValueError(f"the domains of EmailDomain are malformed; give 1 to {_MAX_DOMAINS} like 'example.com'")
        object.__setattr__(self, "domains", frozenset(domain.lower() for domain in domains))

    def __repr__(self) -> str:
        return self.describe()

    def permits(self, value: object) -> bool:
        """Return whether the value is an address in one of the domains."""
        return is_text(value) and _read_email(value) in self.domains

    def covers(self, child: Constraint) -> bool:
        """Return whether the child has no other domains, or lists addresses in these."""
        if isinstance(child, EmailDomain):
            return child.domains <= self.domains
        return members_permitted(child, self)

    def to_claim(self) -> dict[str, JSON]:
        """Return the constraint as claim of a grant."""
        return {"constraint_type": self.kind, "domains": sorted(self.domains)}

    def describe(self) -> str:
        """Return the constraint as written in Python."""
        return f"EmailDomain({', '.join(map(repr, sorted(self.domains)))})"


def _read_email(text: str) -> str | None:
    """Return the domain of an address in lower case, or ``None`` for any other text (RFC 5321)."""
    local, _, domain = text.partition("@")
    if not text.isascii() or len(local) > 64 or len(text) > 254:
        return None
    match = _EMAIL.fullmatch(f"{local}@{domain.lower()}")
    return match["domain"] if match else None


@final
@dataclass(frozen=True, slots=True, init=False, repr=False)
class Prefix:
    """The argument is text that begins with exactly this text.

    For identifiers such as ``"INV-"``. Not for paths and URLs, where text that begins alike can lead
    anywhere: use :class:`PathWithin` and :class:`UrlWithin`.

    Raises:
        TypeError: The prefix is no ``str``.
        ValueError: The prefix is empty or longer than 8,192 characters.
    """

    text: str
    kind: ClassVar[str] = "prefix"

    def __init__(self, text: str) -> None:
        _check_text(text, "text of Prefix")
        if not 1 <= len(text) <= MAX_TEXT:
            raise ValueError(f"the text of Prefix has {len(text)} characters; give 1 to {MAX_TEXT}")
        object.__setattr__(self, "text", text)

    def __repr__(self) -> str:
        return self.describe()

    def permits(self, value: object) -> bool:
        """Return whether the value is text with this prefix."""
        return is_text(value) and value.startswith(self.text)

    def covers(self, child: Constraint) -> bool:
        """Return whether the child's prefix, or each of its values, has this prefix."""
        if isinstance(child, Prefix):
            return child.text.startswith(self.text)
        return members_permitted(child, self)

    def to_claim(self) -> dict[str, JSON]:
        """Return the constraint as claim of a grant."""
        return {"constraint_type": self.kind, "prefix": self.text}

    def describe(self) -> str:
        """Return the constraint as written in Python."""
        return f"Prefix({self.text!r})"


LOCATION_KINDS: Final[tuple[type[Constraint], ...]] = (PathWithin, UrlWithin, EmailDomain, Prefix)
