"""Texts of a server besides its tools: its instructions, and the descriptions of prompts and resource templates.

Applications show such texts to people and models, so a changed text is left out until somebody accepts
it, as with tools. Prompts and templates are pinned one by one when first seen; resources come and go, and are
data. In the inventory their names begin with a colon, unlike any tool name.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple, cast, final

from agent_identity import Enforcer
from agent_identity.adapters import Definition, Observation, check_id
from agent_identity.canonical import JSON
from agent_identity.errors import Denied
from agent_identity.integrations.mcp.sdk import Response, plain, without_unknown
from agent_identity.integrations.mcp.servers import McpServer

__all__ = ["LISTINGS", "Texts", "definitions"]

_LOG: Final = logging.getLogger("agent_identity")


class _Listing(NamedTuple):
    """The form of a listing: its member in each version of the SDK, the items' own name, and their defining members."""

    members: tuple[str, ...]
    name: str
    prefix: str
    defining: tuple[str, ...]


LISTINGS: Final[Mapping[str, _Listing]] = {
    "prompts/list": _Listing(("prompts",), "name", Observation.PROMPT, ("arguments", "description", "name", "title")),
    "resources/templates/list": _Listing(
        ("resource_templates", "resourceTemplates"),
        "uriTemplate",
        Observation.TEMPLATE,
        ("annotations", "description", "mimeType", "name", "title", "uriTemplate"),
    ),
}
"""The listings compared with pins, besides tools."""


@final
class Texts:
    """The texts of the server of one session.

    Args:
        enforcer: The enforcer, which keeps the servers that it has seen.
        server: The server.
        sighting: Returns the server as it presents itself now, with these definitions.
    """

    __slots__ = ("_inventory", "_mode", "_said", "_server", "_sighting")

    def __init__(
        self,
        enforcer: Enforcer,
        server: McpServer,
        sighting: Callable[[Mapping[str, Definition]], Observation],
    ) -> None:
        self._inventory = enforcer.inventory
        self._mode = enforcer.mode
        self._server = server
        self._sighting = sighting
        self._said: Definition | None = None

    @property
    def heard(self) -> Mapping[str, Definition]:
        """The instructions, if the server has any: pinned together with its tools at first sight."""
        return {} if self._said is None else {Observation.INSTRUCTIONS: self._said}

    def hear(self, text: object) -> None:
        """Keep the instructions of the server."""
        if isinstance(text, str) and text:
            self._said = Definition.of({"instructions": text.encode("utf-8", "backslashreplace").decode()})

    def instructions(self, text: object) -> str | None:
        """Return the instructions of the server if they are valid."""
        self.hear(text)
        if not isinstance(text, str) or not text or self._said is None:
            return None
        try:
            counts = self._count(self._said)
        except Denied as denied:
            _LOG.warning("the instructions of the server %s cannot be compared: %s", self._server.name, denied.code)
            counts = False
        return text if counts or self._mode == "monitor" else None

    def _count(self, said: Definition) -> bool:
        if (
            self._inventory.find(self._server.name) is None
        ):  # Its tools are listed next, and are pinned together with these.
            return self._server.first_sight == "pin"
        self._inventory.sight(self._sighting(self.heard), pin=False)
        return self._counts(Observation.INSTRUCTIONS, said.digest)

    def page(self, method: str, result: object) -> object:
        """Read a page of a listing, and return it without invalid items."""
        listing = LISTINGS[method]
        member = next(name for name in listing.members if hasattr(result, name))
        items: Sequence[object] = getattr(result, member)
        listed = definitions(self._server.name, items, listing.name, listing.prefix, listing.defining)
        single = {key: next(iter(several)) for key, several in listed.items() if len(several) == 1}
        self._inventory.sight(self._sighting(single), pin=self._server.first_sight == "pin")
        if self._mode == "monitor":
            return result
        kept: list[object] = []
        for item in items:
            key = f"{listing.prefix}{plain(item).get(listing.name)}"
            if self._counts(key, single[key].digest if key in single else None):
                kept.append(without_unknown(item))
        return cast("Response", result).model_copy(update={member: kept})

    def _counts(self, key: str, digest: str | None) -> bool:
        server = self._server
        try:
            self._inventory.check(server.name, server.transport, server.place, tool=key, digest=digest)
        except Denied as denied:
            _LOG.warning("a text of the server %s is left out: %s", server.name, denied.code)
            return False
        return True


def definitions(
    server: str, items: Sequence[object], name: str, prefix: str, defining: Sequence[str]
) -> dict[str, set[Definition]]:
    """Return the listed definitions of a server by name.

    Args:
        server: The name of the server.
        items: The listed items.
        name: The member with an item's name.
        prefix: The prefix of the name in the inventory.
        defining: The members that define it.
    """
    by_name: dict[str, set[Definition]] = {}
    for item in items:
        facts = cast("Mapping[str, JSON]", plain(item))
        try:
            own = check_id(cast("str", facts.get(name)), "name")
            key = f"{prefix}{own}"
            check_id(Observation.entry_name(server, key), "name")
            if not prefix and key.startswith(":"):
                raise ValueError("the name of a tool begins with a colon")  # noqa: TRY301
            definition = Definition.of({member: facts[member] for member in defining if member in facts})
        except (TypeError, ValueError):
            _LOG.warning("an item is left out of a listing, because its name or definition has no canonical form")
        else:
            by_name.setdefault(key, set()).add(definition)
    return by_name
