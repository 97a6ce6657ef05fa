"""Which server a session is connected to: its name, where it is, and whether it gets authority."""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, cast, final

from agent_identity.canonical import encode
from agent_identity.enforcement import Peer
from agent_identity.enforcement.offers import Transport
from agent_identity.errors import ConfigurationError
from agent_identity.identity import Agent, PublicKey
from agent_identity.integrations.http_binding import absolute_url, origin_of
from agent_identity.integrations.http_client import is_loopback
from agent_identity.policy import Touch
from agent_identity.policy.touch import Touches, check_touches

__all__ = ["McpServer", "check_name", "checked_touches"]

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_LONGEST_PLACE: Final = 256


def check_name(name: object) -> str:
    """Return the name if it can be that of a server.

    Raises:
        ConfigurationError: It has other characters, or more than 128.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ConfigurationError(
            "expected the name of an MCP server as 1 to 128 letters, digits, dots, hyphens and underscores, got another"
        )
    return name


def checked_touches(touches: Mapping[str, Touches]) -> Mapping[str, tuple[Touch, ...]]:
    """Return what the tools of a server touch, each as a tuple.

    Raises:
        TypeError: It is no mapping of names to :class:`~agent_identity.policy.Touch`, or lists of such.
    """
    if not isinstance(cast("object", touches), Mapping):
        raise TypeError(f"touches is {type(touches).__name__}; give a mapping of the names of tools")
    return {name: check_touches(touched) for name, touched in touches.items()}


@final
@dataclass(frozen=True, slots=True)
class McpServer:
    """A server that sessions are connected to.

    Args:
        name: Its name in scopes (``Scope("name/tool")``), policies and records; for a receiver, the name under which
            it checks what is meant for it.
        url: Where it is, if it is reached over HTTP.
        command: The program and its arguments, if it is started as a child process.
        receiver: Whether it gets the authority of the task with each call: a chain made for it, and a proof for the
            one call. Other servers get nothing.
        agent: Who acts there, if it may go on with the authority.
        key: Its public key; given exactly with ``agent``.
        tools: What of the scope it gets; by default what begins with its name.
        first_sight: ``"pin"`` takes the definitions of its tools as they are when it is first seen; ``"refuse"``
            only those that somebody accepted.
        touches: The resources that its tools touch, by the name of the tool at the server; see
            :meth:`agent_identity.Enforcer.tool`.

    Raises:
        ConfigurationError: A name, URL or command cannot be used, or authority would be sent over plain HTTP.
        TypeError: Agent or key is of another type, or ``touches`` is something else.
        ValueError: Agent and key do not come together.
    """

    name: str
    url: str | None = field(default=None, repr=False)
    command: Sequence[str] | None = field(default=None, repr=False)
    receiver: bool = False
    agent: Agent | None = None
    key: PublicKey | None = None
    tools: Iterable[str] | None = None
    first_sight: Literal["pin", "refuse"] = "pin"
    touches: Mapping[str, Touches] = field(default_factory=dict[str, Touches], hash=False, repr=False)

    def __post_init__(self) -> None:
        check_name(self.name)
        if self.url is not None and self.command is not None:
            raise ConfigurationError("expected the url or the command of an MCP server, got both")
        if isinstance(self.command, str):
            raise ConfigurationError("expected the command of an MCP server as a list of words, got one text")
        if self.first_sight not in ("pin", "refuse"):
            raise ConfigurationError("expected first_sight 'pin' or 'refuse', got another")
        if self.url is not None:
            self._check_url(self.url)
        if self.tools is not None:
            object.__setattr__(self, "tools", frozenset(self.tools))
        object.__setattr__(self, "touches", checked_touches(self.touches))
        self.peer(())

    def _check_url(self, url: str) -> None:
        try:
            scheme, host, _ = origin_of(url)
        except ValueError as error:
            raise ConfigurationError(f"bad url of an MCP server: {error}") from None
        if self.receiver and scheme == "http" and not is_loopback(host):
            raise ConfigurationError(
                f"expected https for {self.name!r}, which gets authority, got plain http to another machine"
            )

    @property
    def transport(self) -> Transport:
        """How it is reached."""
        if self.url is not None:
            return "http"
        return "other" if self.command is None else "stdio"

    @property
    def place(self) -> str:
        """The URL without its query, or ``sha256:`` over the command; empty if neither is known."""
        if self.url is not None:
            place = absolute_url(self.url).partition("?")[0]
            return place if len(place) <= _LONGEST_PLACE else _digest(place)
        return "" if self.command is None else _digest([str(word) for word in self.command])

    def peer(self, scope: Iterable[str]) -> Peer:
        """Return the server as a receiver of authority.

        Args:
            scope: The names in the scope of the task; it gets those that begin with its own.
        """
        own = (f"{self.name}/", f"{self.name}:")
        tools = [name for name in scope if name.startswith(own)] if self.tools is None else self.tools
        return Peer(self.name, agent=self.agent, key=self.key, tools=tools)


def _digest(value: str | list[str]) -> str:
    return f"sha256:{hashlib.sha256(encode(value)).hexdigest()}"
