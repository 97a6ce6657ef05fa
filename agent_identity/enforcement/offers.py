"""What servers offer, and which of it counts: the definition of a tool is pinned when its server is first seen.

A model acts on what a server says about its tools. Whoever changes that text changes what the agent does, so a
definition that is not the pinned one does not count until somebody accepts it. Nothing resets a pin: neither a
new connection, nor a tool that goes and comes back.
"""

import hashlib
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Literal, TypeAlias, final

from agent_identity.canonical import JSON, encode
from agent_identity.errors import ConfigurationError, Denied
from agent_identity.evidence.records import Offered, Server
from agent_identity.identity import check_id

__all__ = [
    "INSTRUCTIONS",
    "MAX_NAMES",
    "MAX_SERVERS",
    "MAX_TEXT",
    "MAX_TOOLS",
    "ONE_BY_ONE",
    "Book",
    "Definition",
    "Offer",
    "OfferedTool",
    "Sighting",
    "accepted",
    "forgotten",
    "given",
    "sighted",
    "with_less_text",
]

MAX_SERVERS: Final = 256
"""Servers in one inventory, at most."""

MAX_TOOLS: Final = 1_024
"""Tools of one server, at most."""

MAX_NAMES: Final = 32_768
"""Bytes of the names of the tools of one server together, at most.

Names and digests are what counts and is never left out: this bound and the two above say how much of it there can be,
so that the file always has room for one more server, whatever the others offer."""

MAX_TEXT: Final = 1_048_576
"""Bytes of the definitions of one server that are kept for people, as they stand in the file; of others, digests are.

Thus no server can fill the file that all of them share; several can, and then all keep less text."""

INSTRUCTIONS: Final = ":instructions"
"""What stands among the tools of a server for its instructions; no tool has a name with a colon in front."""

ONE_BY_ONE: Final = (":prompt/", ":template/")
"""What names of prompts and of templates of resources begin with there: each is pinned when it is first seen, since
a person chooses them, and new ones are no text that a model acts on by itself."""

_LONGEST: Final = 32_768
_DIGEST: Final = re.compile("sha256:[0-9a-f]{64}")
Transport: TypeAlias = Literal["stdio", "http", "other"]
ToolState: TypeAlias = Literal["pinned", "changed", "new"]


@final
@dataclass(frozen=True, slots=True)
class Definition:
    """What a server says about one of its tools, as models get it.

    Attributes:
        digest: ``sha256:`` over the canonical JSON.
        text: The canonical JSON, for people who compare; empty if it is very long, or the server says very much.
    """

    digest: str
    text: str = field(default="", repr=False)

    @classmethod
    def of(cls, facts: Mapping[str, JSON]) -> "Definition":
        """Return the definition that consists of these facts.

        Raises:
            ValueError: They are no JSON.
        """
        data = encode(facts)
        return cls(f"sha256:{hashlib.sha256(data).hexdigest()}", data.decode() if len(data) <= _LONGEST else "")

    @classmethod
    def known(cls, digest: str) -> "Definition":
        """Return a definition of which only the digest is known.

        Raises:
            ValueError: It is no digest.
        """
        if not _DIGEST.fullmatch(digest):
            raise ValueError("expected sha256: and 64 hex digits, got another")
        return cls(digest)


@final
@dataclass(frozen=True, slots=True)
class Sighting:
    """A server as it shows itself now.

    Attributes:
        name: What the application, scopes and policies call it.
        transport: How it is reached.
        place: Its URL, or ``sha256:`` over the command that starts it; empty if nobody says.
        title: What it calls itself; empty if it was not heard.
        version: The version that it says it has; empty likewise.
        tools: Its tools, all of them at first sight, and what has a name with a colon in front.
    """

    name: str
    transport: Transport
    place: str
    title: str
    version: str
    tools: Mapping[str, Definition]


@final
@dataclass(frozen=True, slots=True)
class OfferedTool:
    """A tool in the inventory.

    Attributes:
        pinned: The definition that counts; ``None`` for a tool that came later.
        offered: The definition that waits to be accepted, if there is one.
        since: When the pinned one began to count, in Unix seconds.
    """

    pinned: Definition | None
    offered: Definition | None = None
    since: int = 0

    @property
    def is_cut(self) -> bool:
        """Whether the text of one of its definitions is not kept."""
        return any(of is not None and not of.text for of in (self.pinned, self.offered))

    @property
    def state(self) -> ToolState:
        """``pinned``, ``changed`` (another definition is offered) or ``new`` (not there at first sight)."""
        if self.pinned is None:
            return "new"
        return "pinned" if self.offered is None else "changed"


@final
@dataclass(frozen=True, slots=True)
class Offer:
    """A server in the inventory.

    Attributes:
        transport: How it is reached.
        place: Where it was at first sight, or where it was accepted.
        title: What it called itself last.
        version: The version that it said last.
        tools: Its tools by name.
        moved: Where it is reached now, if that waits to be accepted: transport and place.
        reason: Why it was last accepted, for people.
    """

    transport: Transport
    place: str
    title: str = ""
    version: str = ""
    tools: Mapping[str, OfferedTool] = field(default_factory=dict[str, OfferedTool])
    moved: tuple[Transport, str] | None = None
    reason: str | None = None

    @property
    def waits(self) -> bool:
        """Whether something of it waits to be accepted."""
        return self.moved is not None or any(tool.state != "pinned" for tool in self.tools.values())

    def to_record(self, name: str) -> tuple[Server, tuple[Offered, ...]]:
        """Return the members of a record of kind ``registration``: the server and its tools."""
        server = Server(
            name=name,
            transport=self.transport,
            status="pinned" if self.moved is None else "moved",
            place=self.place or None,
            title=self.title or None,
            version=self.version or None,
            reason=self.reason or None,
        )
        return server, tuple(_offered(tool, of) for tool, of in sorted(self.tools.items()))

    def check_place(self, name: str, transport: Transport, place: str) -> None:
        """Return if the server is reached where it was pinned.

        Raises:
            Denied: With code ``server_moved``.
        """
        if (self.transport, self.place) != (transport, place):
            raise Denied(
                f"expected the server {name!r} where it was first seen, got another address or command; if that is "
                f"right, run 'agent-identity inventory accept DIR {name}'",
                code="server_moved",
            )

    def check_tool(self, name: str, tool: str, digest: str | None) -> None:
        """Return if the definition of a tool, as the server gives it now, is the one that counts.

        Raises:
            Denied: With code ``tool_changed``, ``tool_not_accepted`` or ``tool_not_listed``.
        """
        known = self.tools.get(tool)
        if digest is None:
            raise Denied(f"expected a tool that the server {name!r} lists, got another", code="tool_not_listed")
        if known is None or known.pinned is None:
            raise Denied(
                f"{name}/{tool}: expected a tool that was there when the server was first seen, got one that came "
                "later; 'agent-identity inventory accept' accepts it",
                code="tool_not_accepted",
            )
        if known.pinned.digest != digest:
            raise Denied(
                f"{name}/{tool}: expected the definition that was pinned, got another; 'agent-identity inventory "
                "diff' shows the difference, 'agent-identity inventory accept' accepts it",
                code="tool_changed",
            )


Book: TypeAlias = Mapping[str, Offer]
"""All servers by name."""


def sighted(book: Book, seen: Sighting, *, now: int, pin: bool) -> Book:
    """Return the inventory after a look at a server: the same one if nothing is new.

    Args:
        book: The inventory so far.
        seen: What the server shows.
        now: Unix seconds.
        pin: Whether a server that was never seen is pinned as it is; if not, all its tools wait.

    Raises:
        ConfigurationError: There are too many servers or tools.
    """
    known = book.get(seen.name)
    if known is None:
        if len(book) >= MAX_SERVERS:
            raise ConfigurationError(f"expected at most {MAX_SERVERS} servers in the inventory, got another")
        known = Offer(seen.transport, seen.place)
        tools = {name: OfferedTool(of, since=now) if pin else OfferedTool(None, of) for name, of in seen.tools.items()}
    else:
        tools = dict(known.tools)
        for name, of in seen.tools.items():
            if pin and name not in tools and name.startswith(ONE_BY_ONE):
                tools[name] = OfferedTool(of, since=now)
            else:
                tools[name] = _seen_again(tools.get(name), of)
    if len(tools) > len(known.tools):
        _check_size(tools)
    here = (seen.transport, seen.place)
    offer = replace(
        known,
        title=seen.title or known.title,
        version=seen.version or known.version,
        tools=_bounded(tools),
        moved=None if here == (known.transport, known.place) else here,
    )
    return book if offer == book.get(seen.name) else {**book, seen.name: offer}


def accepted(
    book: Book,
    name: str,
    tools: Collection[str] | None,
    *,
    now: int,
    digest: str | None = None,
    reason: str | None = None,
) -> Book:
    """Return the inventory after somebody accepted what a server offers.

    Args:
        book: The inventory so far.
        name: The server.
        tools: Which tools; ``None`` accepts all that waits, and where the server is.
        now: Unix seconds.
        digest: Accept only this definition, as it was looked at.
        reason: Why, for people.

    Raises:
        ConfigurationError: The server or tool is unknown, nothing waits, or another definition does.
    """
    offer = book.get(name)
    if offer is None:
        raise ConfigurationError(f"expected a server of the inventory, got {name!r}; 'inventory list' names them")
    if reason is not None:
        check_id(reason, "reason")
    chosen = [tool for tool, of in offer.tools.items() if of.offered is not None] if tools is None else list(tools)
    changed = dict(offer.tools)
    for tool in chosen:
        changed[tool] = _accepted_tool(name, tool, offer.tools.get(tool), digest, now)
    moved = offer.moved if tools is None else None
    if not chosen and moved is None:
        raise ConfigurationError(f"expected something of {name!r} that waits to be accepted, found nothing")
    offer = replace(offer, tools=changed, reason=reason)
    if moved is not None:
        offer = replace(offer, transport=moved[0], place=moved[1], moved=None)
    return {**book, name: offer}


def forgotten(book: Book, name: str) -> Book:
    """Return the inventory without a server, which is then seen for the first time again.

    Raises:
        ConfigurationError: The server is unknown.
    """
    if name not in book:
        raise ConfigurationError(f"expected a server of the inventory, got {name!r}; 'inventory list' names them")
    return {known: offer for known, offer in book.items() if known != name}


def given(book: Book, servers: Book, *, now: int) -> Book:
    """Return the inventory with servers pinned as somebody gave them.

    Raises:
        ConfigurationError: There are too many servers or tools, or a name cannot be one.
    """
    found = dict(book)
    for name, offer in servers.items():
        _check_size(offer.tools)
        tools = {tool: replace(of, since=now) for tool, of in offer.tools.items()}
        found[name] = replace(offer, tools=_bounded(tools))
        try:
            for text in (name, *tools):
                check_id(text, "name")
        except ValueError as error:
            raise ConfigurationError(f"bad name in an inventory: {error}") from None
    if len(found) > MAX_SERVERS:
        raise ConfigurationError(f"expected at most {MAX_SERVERS} servers in the inventory, got more")
    return found


def with_less_text(book: Book, most: int) -> Book:
    """Return the inventory with at most so many bytes of text for each server; all that counts stays.

    Args:
        book: The inventory.
        most: Bytes of the definitions of each server.
    """
    return {name: replace(offer, tools=_bounded(offer.tools, most)) for name, offer in book.items()}


def _check_size(tools: Collection[str]) -> None:
    if len(tools) > MAX_TOOLS:
        raise ConfigurationError(f"expected at most {MAX_TOOLS} tools of a server, got more")
    if sum(len(name.encode()) for name in tools) > MAX_NAMES:
        raise ConfigurationError(f"expected at most {MAX_NAMES} bytes of names of tools of a server, got more")


def _bounded(tools: Mapping[str, OfferedTool], most: int = MAX_TEXT) -> Mapping[str, OfferedTool]:
    """Return the tools of a server with no more text than one server may have; what is pinned has its text first."""
    left, found = most, dict(sorted(tools.items()))
    for which in ("pinned", "offered"):
        for name, tool in found.items():
            definition = tool.pinned if which == "pinned" else tool.offered
            if definition is None or not definition.text:
                continue
            size = len(encode(definition.text))
            if size <= left:
                left -= size
            else:
                bare = replace(definition, text="")
                found[name] = replace(tool, pinned=bare) if which == "pinned" else replace(tool, offered=bare)
    return found


def _seen_again(known: OfferedTool | None, of: Definition) -> OfferedTool:
    if known is None:
        return OfferedTool(None, of)
    if known.pinned is not None and known.pinned.digest == of.digest:
        return replace(known, offered=None)
    if known.offered is not None and known.offered.digest == of.digest:
        return known  # Perhaps without its text, for which there was no room.
    return replace(known, offered=of)


def _accepted_tool(name: str, tool: str, known: OfferedTool | None, digest: str | None, now: int) -> OfferedTool:
    if known is None or known.offered is None:
        raise ConfigurationError(f"expected a tool of {name!r} that waits to be accepted, got {tool!r}")
    if digest is not None and known.offered.digest != digest:
        raise ConfigurationError(f"expected {name}/{tool} to offer the definition {digest}, got another; look again")
    return OfferedTool(known.offered, since=now)


def _offered(name: str, tool: OfferedTool) -> Offered:
    pinned, offered = tool.pinned, tool.offered
    return Offered(
        name=name,
        status=tool.state,
        pinned=None if pinned is None else pinned.digest,
        offered=None if offered is None else offered.digest,
    )
