"""What a server says beside its tools: its instructions, and how it describes prompts and templates of resources.

Applications put such texts before people and models, so that a text which changed is left out until somebody accepts
it, as with tools. Prompts and templates are pinned one by one as they are first seen; resources come and go, and are
data. In the inventory their names begin with a colon, as no name of a tool does.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple, cast, final

from agent_identity.canonical import JSON
from agent_identity.enforcement import GuardedCall
from agent_identity.enforcement.offers import INSTRUCTIONS, ONE_BY_ONE, Definition, Sighting
from agent_identity.errors import Denied
from agent_identity.identity import check_id
from agent_identity.integrations.mcp.sdk import Response, plain, without_unknown
from agent_identity.integrations.mcp.servers import McpServer

__all__ = ["LISTINGS", "Texts", "definitions"]

_LOG: Final = logging.getLogger("agent_identity")


class _Listing(NamedTuple):
    """How a result lists things: its member in each version of the SDK, their own name, and what defines them."""

    members: tuple[str, ...]
    name: str
    prefix: str
    defining: tuple[str, ...]


LISTINGS: Final[Mapping[str, _Listing]] = {
    "prompts/list": _Listing(("prompts",), "name", ONE_BY_ONE[0], ("arguments", "description", "name", "title")),
    "resources/templates/list": _Listing(
        ("resource_templates", "resourceTemplates"),
        "uriTemplate",
        ONE_BY_ONE[1],
        ("annotations", "description", "mimeType", "name", "title", "uriTemplate"),
    ),
}
"""What is compared with pins, beside tools."""


@final
class Texts:
    """The texts of the server of one session.

    Args:
        guard: Whose inventory counts.
        server: The server.
        sighting: Returns the server as it shows itself now, with these definitions.
    """

    __slots__ = ("_guard", "_said", "_server", "_sighting")

    def __init__(
        self, guard: GuardedCall, server: McpServer, sighting: Callable[[Mapping[str, Definition]], Sighting]
    ) -> None:
        self._guard = guard
        self._server = server
        self._sighting = sighting
        self._said: Definition | None = None

    @property
    def heard(self) -> Mapping[str, Definition]:
        """The instructions, if the server gave any: what is pinned together with its tools at first sight."""
        return {} if self._said is None else {INSTRUCTIONS: self._said}

    def hear(self, text: object) -> None:
        """Keep the instructions of the server."""
        if isinstance(text, str) and text:
            self._said = Definition.of({"instructions": text.encode("utf-8", "backslashreplace").decode()})

    def instructions(self, text: object) -> str | None:
        """Return the instructions of the server if they count."""
        self.hear(text)
        if not isinstance(text, str) or not text or self._said is None:
            return None
        try:
            counts = self._count(self._said)
        except Denied as denied:
            _LOG.warning("the instructions of the server %s cannot be compared: %s", self._server.name, denied.code)
            counts = False
        return text if counts or self._guard.mode == "monitor" else None

    def _count(self, said: Definition) -> bool:
        inventory = self._guard.inventory
        if inventory.find(self._server.name) is None:  # Its tools are asked next, and are pinned together with these.
            return self._server.first_sight == "pin"
        inventory.sight(self._sighting(self.heard), pin=False)
        return self._counts(INSTRUCTIONS, said.digest)

    def page(self, method: str, result: object) -> object:
        """Take in a page of a listing, and return it without what does not count."""
        listing = LISTINGS[method]
        member = next(name for name in listing.members if hasattr(result, name))
        items = cast("Sequence[object]", getattr(result, member))
        found = definitions(items, listing.name, listing.prefix, listing.defining)
        seen = {key: next(iter(several)) for key, several in found.items() if len(several) == 1}
        self._guard.inventory.sight(self._sighting(seen), pin=self._server.first_sight == "pin")
        if self._guard.mode == "monitor":
            return result
        kept: list[object] = []
        for item in items:
            key = f"{listing.prefix}{plain(item).get(listing.name)}"
            if self._counts(key, seen[key].digest if key in seen else None):
                kept.append(without_unknown(item))
        return cast("Response", result).model_copy(update={member: kept})

    def _counts(self, key: str, digest: str | None) -> bool:
        server = self._server
        offer = self._guard.inventory.find(server.name)
        try:
            if offer is not None:
                offer.check_place(server.name, server.transport, server.place)
                offer.check_tool(server.name, key, digest)
        except Denied as denied:
            _LOG.warning("a text of the server %s is left out: %s", server.name, denied.code)
            return False
        return True


def definitions(items: Sequence[object], name: str, prefix: str, defining: Sequence[str]) -> dict[str, set[Definition]]:
    """Return the definitions that a server lists under each name.

    Args:
        items: What it lists.
        name: The member that is its name.
        prefix: What stands before it in the inventory.
        defining: The members that define it.
    """
    found: dict[str, set[Definition]] = {}
    for item in items:
        facts = cast("Mapping[str, JSON]", plain(item))
        try:
            own = check_id(cast("str", facts.get(name)), "name")
            key = check_id(f"{prefix}{own}", "name")
            if not prefix and key.startswith(":"):
                raise ValueError("expected the name of a tool, got that of another thing")  # noqa: TRY301
            definition = Definition.of({member: facts[member] for member in defining if member in facts})
        except (TypeError, ValueError):
            _LOG.warning("something is left out of a listing, since its name or definition has no canonical form")
        else:
            found.setdefault(key, set()).add(definition)
    return found
