"""The server of a session: its name, its place, and whether it receives authority."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, cast, final

from agent_identity import Agent
from agent_identity.adapters import DeclaredFlow, Observation
from agent_identity.delegation import Peer
from agent_identity.errors import ConfigurationError
from agent_identity.identity import PublicKey
from agent_identity.integrations.http.binding import absolute_url, origin_of
from agent_identity.integrations.http.client import is_loopback
from agent_identity.options import ToolOptions, Touches

__all__ = ["McpServer", "check_name", "checked_flows", "checked_touches"]

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def check_name(name: object) -> str:
    """Return the name if it can be a server name.

    Raises:
        ConfigurationError: The name has other characters, or more than 128.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ConfigurationError(
            "the name of the MCP server is malformed; use 1 to 128 letters, digits, dots, hyphens and underscores"
        )
    return name


def checked_touches(touches: Mapping[str, Touches]) -> Mapping[str, Touches | None]:
    """Return the declared resources of a server's tools, each as a tuple.

    Raises:
        TypeError: The value is no mapping of names to :class:`~agent_identity.policy.Touch`, or lists of them.
    """
    if not isinstance(cast("object", touches), Mapping):
        raise TypeError(f"touches is {type(touches).__name__}; give a mapping of the names of tools")
    return {name: ToolOptions(touches=touched or ()).touches for name, touched in touches.items()}


def checked_flows(flows: Mapping[str, DeclaredFlow]) -> Mapping[str, DeclaredFlow]:
    """Return the flow declarations of a server's tools.

    Raises:
        TypeError: The value is no mapping of names to :class:`~agent_identity.adapters.DeclaredFlow`.
    """
    if not isinstance(cast("object", flows), Mapping):
        raise TypeError(f"flow is {type(flows).__name__}; give a mapping of the names of tools")
    for name, declared in flows.items():
        if type(declared) is not DeclaredFlow:
            raise TypeError(f"the flow of {name!r} is {type(declared).__name__}; give a DeclaredFlow")
    return dict(flows)


@final
@dataclass(frozen=True, slots=True)
class McpServer:
    """A server of sessions.

    Args:
        name: Its name in scopes (``Scope("name/tool")``), policies and records; for a receiver, the audience
            of its grants and proofs.
        url: Its URL, if it is reached over HTTP.
        command: The program and its arguments, if it is started as a child process.
        receiver: Send the authority of the task with each call: a chain made for the server, and a proof for the
            call. Other servers get nothing.
        agent: The acting agent of the server, if it may continue with the authority.
        key: Its public key; required with ``agent``, forbidden without.
        tools: The part of the scope for the server; by default the names with its prefix.
        first_sight: ``"pin"`` accepts the definitions of its tools when it is first seen; ``"refuse"``
            only those that somebody accepted.
        touches: The resources of its tools, by the name of the tool at the server; see
            :meth:`agent_identity.Enforcer.tool`.
        flow: What its tools return, and which arguments decide where their calls lead, likewise: as a
            :class:`~agent_identity.adapters.DeclaredFlow` each.

    Raises:
        ConfigurationError: A name, URL or command is unusable, or authority would be sent over plain HTTP.
        TypeError: Agent, key, ``touches`` or ``flow`` has another type.
        ValueError: Agent and key are not given together.
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
    flow: Mapping[str, DeclaredFlow] = field(default_factory=dict[str, DeclaredFlow], hash=False, repr=False)

    def __post_init__(self) -> None:
        check_name(self.name)
        if self.url is not None and self.command is not None:
            raise ConfigurationError("url and command of an MCP server are both set; leave one out")
        if isinstance(self.command, str):
            raise ConfigurationError("the command of an MCP server is one text; write a list of words")
        if self.first_sight not in ("pin", "refuse"):
            raise ConfigurationError("first_sight is unknown; use 'pin' or 'refuse'")
        if self.url is not None:
            self._check_url(self.url)
        if self.tools is not None:
            object.__setattr__(self, "tools", frozenset(self.tools))
        object.__setattr__(self, "touches", checked_touches(self.touches))
        object.__setattr__(self, "flow", checked_flows(self.flow))
        self.peer(())

    def _check_url(self, url: str) -> None:
        try:
            scheme, host, _ = origin_of(url)
        except ValueError as error:
            raise ConfigurationError(f"bad url of an MCP server: {error}") from None
        if self.receiver and scheme == "http" and not is_loopback(host):
            raise ConfigurationError(f"{self.name!r} would get authority over plain http; use https")

    @property
    def transport(self) -> Literal["stdio", "http", "other"]:
        """The transport."""
        if self.url is not None:
            return "http"
        return "other" if self.command is None else "stdio"

    @property
    def place(self) -> str:
        """The URL without its query, or the SHA-256 of the command; empty if neither is set."""
        if self.url is not None:
            return Observation.place_of(absolute_url(self.url).partition("?")[0])
        return "" if self.command is None else Observation.place_of([str(word) for word in self.command])

    def peer(self, scope: Iterable[str]) -> Peer:
        """Return the server as a receiver of authority.

        Args:
            scope: The names in the scope of the task; the server gets those with its prefix.
        """
        own = (f"{self.name}/", f"{self.name}:")
        tools = [name for name in scope if name.startswith(own)] if self.tools is None else self.tools
        return Peer(self.name, agent=self.agent, key=self.key, tools=tools)
