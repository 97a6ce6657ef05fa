"""Offered and valid definitions of servers: the definition of a tool is pinned when its server is first seen.

A model acts on a server's descriptions of its tools, so changing them changes the agent. A definition that differs from
the pinned one does not count until someone accepts it. Nothing resets a pin: neither a
new connection, nor a tool that disappears and returns.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar, Final, Literal, TypeAlias, final

from agent_identity._identity.common.encoding import digest_of
from agent_identity._identity.common.ids import is_digest
from agent_identity._identity.common.names import check_id
from agent_identity._identity.common.tool_names import tool_name
from agent_identity._record.parts import Offered, Server
from agent_identity.canonical import JSON, encode
from agent_identity.errors import ConfigurationError, Denied

MAX_SERVERS: Final = 256
"""Maximum number of servers in one inventory."""

MAX_TOOLS: Final = 1_024
"""Maximum number of tools of one server."""

MAX_NAMES: Final = 32_768
"""Maximum total size of the tool names of one server, in bytes.

Names and digests decide and are never left out: this bound and the two above limit their size, so that the file always
has room for one more server, whatever the others offer."""

MAX_TEXT: Final = 1_048_576
"""Maximum size of the stored definitions of one server, in bytes; of further ones only digests are stored.

So one server cannot fill the shared file; several can, and then all keep less text."""

_LONGEST: Final = 32_768
_LONGEST_PLACE: Final = 256  # As long as a name in a record.
Transport: TypeAlias = Literal["stdio", "http", "other"]
ToolState: TypeAlias = Literal["pinned", "changed", "new"]


@final
@dataclass(frozen=True, slots=True)
class Definition:
    """A server's definition of one of its tools, as models get it.

    Attributes:
        digest: The SHA-256 of the canonical JSON.
        text: The canonical JSON, for people who compare; empty if it is very long, or the server has very much text.
    """

    digest: str
    text: str = field(default="", repr=False)

    @classmethod
    def of(cls, facts: Mapping[str, JSON]) -> "Definition":
        """Return the definition with these facts.

        Raises:
            ValueError: The facts are no JSON.
        """
        data = encode(facts)
        return cls(digest_of(data), data.decode() if len(data) <= _LONGEST else "")

    @classmethod
    def known(cls, digest: str) -> "Definition":
        """Return a definition with a known digest only.

        Raises:
            ValueError: The value is no digest.
        """
        if not is_digest(digest):
            raise ValueError("the digest is malformed; use 43 base64url characters")
        return cls(digest)


@final
@dataclass(frozen=True, slots=True)
class Observation:
    """A server as it presents itself now.

    Attributes:
        name: The server's name in the application, scopes and policies.
        transport: The transport.
        place: The URL, or the SHA-256 of the command that starts it (:meth:`place_of`); empty if unknown.
        title: The server's own name; empty if unknown.
        version: The server's version; empty if unknown.
        tools: Its tools, all of them at first sight, and the entries whose names begin with a colon, as no name of a
            tool does.
        INSTRUCTIONS: The entry of the server's instructions, which is pinned like a tool.
        PROMPT: How the entry of a prompt begins. Each is pinned when first seen, since a person chooses them, and no
            model acts on a new one by itself.
        TEMPLATE: How the entry of a resource template begins; likewise.
    """

    INSTRUCTIONS: ClassVar[str] = ":instructions"
    PROMPT: ClassVar[str] = ":prompt/"
    TEMPLATE: ClassVar[str] = ":template/"

    name: str
    transport: Transport
    place: str
    title: str
    version: str
    tools: Mapping[str, Definition]

    @staticmethod
    def place_of(address: JSON) -> str:
        """Return the place of a server, fit for records: a short text as it is, or the SHA-256 of anything else.

        Args:
            address: The URL, the words of a command, or whatever leads to the server.

        Raises:
            ValueError: The address is no JSON.
        """
        if isinstance(address, str) and len(address) <= _LONGEST_PLACE:
            return address
        return digest_of(encode(address))

    @staticmethod
    def entry_name(server: str, entry: str) -> str:
        """Return the name on record of an entry: ``server/tool``, ``server:instructions`` or ``server:prompt/name``.

        Args:
            server: The name of the server.
            entry: The name of a tool there, or of another text, which begins with a colon.
        """
        return f"{server}{entry}" if entry.startswith(":") else tool_name(server, entry)


@final
@dataclass(frozen=True, slots=True)
class OfferedTool:
    """A tool in the inventory.

    Attributes:
        pinned: The valid definition; ``None`` for a tool added later.
        offered: The definition that is pending acceptance, if any.
        since: Time of pinning, in Unix seconds.
    """

    pinned: Definition | None
    offered: Definition | None = None
    since: int = 0

    @property
    def is_cut(self) -> bool:
        """True if the text of one of its definitions is not stored."""
        return any(of is not None and not of.text for of in (self.pinned, self.offered))

    @property
    def state(self) -> ToolState:
        """``pinned``, ``changed`` (another definition is offered) or ``new`` (absent at first sight)."""
        if self.pinned is None:
            return "new"
        return "pinned" if self.offered is None else "changed"


@final
@dataclass(frozen=True, slots=True)
class PinnedServer:
    """A server in the inventory.

    Attributes:
        transport: The transport.
        place: The place at first sight, or the last accepted one.
        title: The server's latest own name.
        version: The server's latest version.
        tools: Its tools by name.
        moved: The new transport and place, if they are pending acceptance.
        reason: The reason of the last acceptance, for people.
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
        """True if something is pending acceptance."""
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
        return server, tuple(
            _offered(Observation.entry_name(name, tool), of) for tool, of in sorted(self.tools.items())
        )

    def check_place(self, name: str, transport: Transport, place: str) -> None:
        """Check that the server is reached at its pinned place.

        Raises:
            Denied: With code ``server_moved``.
        """
        if (self.transport, self.place) != (transport, place):
            raise Denied(
                f"the server {name!r} has moved to another address or command; if that is right, run "
                f"'agent-identity inventory accept DIR {name}'",
                code="server_moved",
            )

    def check_tool(self, name: str, tool: str, digest: str | None) -> None:
        """Check that the current definition of a tool is the pinned one.

        Raises:
            Denied: With code ``tool_changed``, ``tool_not_accepted`` or ``tool_not_listed``.
        """
        known = self.tools.get(tool)
        if digest is None:
            raise Denied(f"{name}/{tool}: the server does not list the tool; use a listed one", code="tool_not_listed")
        if known is None or known.pinned is None:
            raise Denied(
                f"{name}/{tool}: the tool was added after the server was first seen; "
                "'agent-identity inventory accept' accepts it",
                code="tool_not_accepted",
            )
        if known.pinned.digest != digest:
            raise Denied(
                f"{name}/{tool}: the definition differs from the pinned one; 'agent-identity inventory "
                "diff' shows the difference, 'agent-identity inventory accept' accepts it",
                code="tool_changed",
            )


ServerInventory: TypeAlias = Mapping[str, PinnedServer]
"""All servers by name."""


def sighted(book: ServerInventory, seen: Observation, *, now: int, pin: bool) -> ServerInventory:
    """Return the inventory after a sighting of a server: the same one if nothing is new.

    Args:
        book: The inventory so far.
        seen: The server as it presents itself.
        now: Unix seconds.
        pin: Pin a server that was never seen; otherwise all its tools are pending.

    Raises:
        ConfigurationError: There are too many servers or tools.
    """
    known = book.get(seen.name)
    if known is None:
        if len(book) >= MAX_SERVERS:
            raise ConfigurationError(f"the inventory has {MAX_SERVERS} servers, and takes no more; forget one")
        known = PinnedServer(seen.transport, seen.place)
        tools = {name: OfferedTool(of, since=now) if pin else OfferedTool(None, of) for name, of in seen.tools.items()}
    else:
        tools = dict(known.tools)
        for name, of in seen.tools.items():
            if pin and name not in tools and name.startswith((Observation.PROMPT, Observation.TEMPLATE)):
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
    book: ServerInventory,
    name: str,
    tools: Collection[str] | None,
    *,
    now: int,
    digest: str | None = None,
    reason: str | None = None,
) -> ServerInventory:
    """Return the inventory after someone accepted the offer of a server.

    Args:
        book: The inventory so far.
        name: The server.
        tools: The tools; ``None`` accepts everything pending, the place included.
        now: Unix seconds.
        digest: Accept this definition only, as inspected.
        reason: The reason, for people.

    Raises:
        ConfigurationError: The server or tool is unknown, nothing is pending, or another definition is.
    """
    offer = book.get(name)
    if offer is None:
        raise ConfigurationError(f"the inventory has no server {name!r}; 'inventory list' names its servers")
    if reason is not None:
        check_id(reason, "reason")
    chosen = [tool for tool, of in offer.tools.items() if of.offered is not None] if tools is None else list(tools)
    changed = dict(offer.tools)
    for tool in chosen:
        changed[tool] = _accepted_tool(name, tool, offer.tools.get(tool), digest, now)
    moved = offer.moved if tools is None else None
    if not chosen and moved is None:
        raise ConfigurationError(f"nothing of {name!r} is pending acceptance; 'inventory list' shows what is")
    offer = replace(offer, tools=changed, reason=reason)
    if moved is not None:
        offer = replace(offer, transport=moved[0], place=moved[1], moved=None)
    return {**book, name: offer}


def forgotten(book: ServerInventory, name: str) -> ServerInventory:
    """Return the inventory without a server; its next sighting is its first.

    Raises:
        ConfigurationError: The server is unknown.
    """
    if name not in book:
        raise ConfigurationError(f"the inventory has no server {name!r}; 'inventory list' names its servers")
    return {known: offer for known, offer in book.items() if known != name}


def given(book: ServerInventory, servers: ServerInventory, *, now: int) -> ServerInventory:
    """Return the inventory with servers pinned from a given list.

    Raises:
        ConfigurationError: There are too many servers or tools, or a name is malformed.
    """
    pinned = dict(book)
    for name, offer in servers.items():
        _check_size(offer.tools)
        tools = {tool: replace(of, since=now) for tool, of in offer.tools.items()}
        pinned[name] = replace(offer, tools=_bounded(tools))
        try:
            for text in (name, *(Observation.entry_name(name, tool) for tool in tools)):
                check_id(text, "name")
        except ValueError as error:
            raise ConfigurationError(f"bad name in an inventory: {error}") from None
    if len(pinned) > MAX_SERVERS:
        raise ConfigurationError(f"the inventory would have more than {MAX_SERVERS} servers; leave some out")
    return pinned


def with_less_text(book: ServerInventory, most: int) -> ServerInventory:
    """Return the inventory with at most so many bytes of text for each server; names and digests stay.

    Args:
        book: The inventory.
        most: Bytes of the definitions of each server.
    """
    return {name: replace(offer, tools=_bounded(offer.tools, most)) for name, offer in book.items()}


def _check_size(tools: Collection[str]) -> None:
    if len(tools) > MAX_TOOLS:
        raise ConfigurationError(f"the server has {len(tools)} tools; at most {MAX_TOOLS} are supported")
    if sum(len(name.encode()) for name in tools) > MAX_NAMES:
        raise ConfigurationError(f"the tool names of the server have more than {MAX_NAMES} bytes; use shorter ones")


def _bounded(tools: Mapping[str, OfferedTool], most: int = MAX_TEXT) -> Mapping[str, OfferedTool]:
    """Return the tools of a server with bounded text; pinned definitions keep their text first."""
    left, bounded = most, dict(sorted(tools.items()))
    for which in ("pinned", "offered"):
        for name, tool in bounded.items():
            definition = tool.pinned if which == "pinned" else tool.offered
            if definition is None or not definition.text:
                continue
            size = len(encode(definition.text))
            if size <= left:
                left -= size
            else:
                bare = replace(definition, text="")
                bounded[name] = replace(tool, pinned=bare) if which == "pinned" else replace(tool, offered=bare)
    return bounded


def _seen_again(known: OfferedTool | None, of: Definition) -> OfferedTool:
    if known is None:
        return OfferedTool(None, of)
    if known.pinned is not None and known.pinned.digest == of.digest:
        return replace(known, offered=None)
    if known.offered is not None and known.offered.digest == of.digest:
        return known  # Perhaps without its text, if there was no room.
    return replace(known, offered=of)


def _accepted_tool(name: str, tool: str, known: OfferedTool | None, digest: str | None, now: int) -> OfferedTool:
    if known is None or known.offered is None:
        raise ConfigurationError(f"the tool {tool!r} of {name!r} is not pending acceptance; name a pending one")
    if digest is not None and known.offered.digest != digest:
        raise ConfigurationError(f"{name}/{tool} no longer offers the definition {digest}; look again")
    return OfferedTool(known.offered, since=now)


def _offered(name: str, tool: OfferedTool) -> Offered:
    pinned, offered = tool.pinned, tool.offered
    return Offered(
        name=name,
        status=tool.state,
        pinned=None if pinned is None else pinned.digest,
        offered=None if offered is None else offered.digest,
    )
