"""Tools of servers of the SDK: known by being registered, and refused once the server has another under the name."""

from collections.abc import Callable
from typing import Annotated, Any

import pytest
from mcp_parties import LEGACY, NAME, HighLevel, Pair
from pydantic import AfterValidator

from agent_identity import Scope
from agent_identity.constraints import NotOneOf
from agent_identity.errors import ConfigurationError
from agent_identity.integrations.mcp.server import protect_server

SCOPE = Scope("invoices/pay", account=NotOneOf("42"))
STRIPPED = Annotated[str, AfterValidator(str.strip)]
"""What a schema does not tell from a text."""


def paying(ran: list[Any], kind: Any) -> Callable[..., object]:
    """Return a function that takes an account of a type."""

    def pay(account: Any) -> None:
        ran.append(account)

    pay.__annotations__["account"] = kind
    return pay


class Reloading(HighLevel):
    """A server that puts tools in the place of others by itself."""

    def reload(self, function: Callable[..., object]) -> None:
        """Replace the tool ``pay``."""
        super().remove_tool("pay")
        super().add_tool(function, name="pay", description="Pay.")


def by_the_server(server: Any, function: Callable[..., object]) -> None:
    server.reload(function)


def by_its_class(server: Any, function: Callable[..., object]) -> None:
    HighLevel.remove_tool(server, "pay")
    HighLevel.add_tool(server, function, name="pay", description="Pay.")


def behind_and_again(server: Any, function: Callable[..., object]) -> None:
    """Behind the guard, and once more before it: the server keeps the first."""
    by_its_class(server, function)
    server.add_tool(paying([], str), name="pay", description="Pay.")


def removed_by_its_class(server: Any, function: Callable[..., object]) -> None:
    HighLevel.remove_tool(server, "pay")
    server.add_tool(function, name="pay", description="Pay.")


WAYS = [by_the_server, by_its_class, behind_and_again, removed_by_its_class]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@pytest.mark.parametrize("kind", [int, STRIPPED], ids=["number", "stripped"])
async def test_ac_42_a_tool_that_is_replaced_is_judged_by_no_other(pair: Pair, way: Any, kind: Any) -> None:
    """Another spelling of what a scope leaves out runs no tool, however the one that takes it came to the server."""
    server = pair.guarded(Reloading(NAME))

    server.add_tool(paying(pair.ran, str), name="pay", description="Pay.")
    way(server, paying(pair.ran, kind))
    async with pair.connected(server) as session:
        with pair.task(SCOPE):
            for sent in (" 42 ", "42 ", "\t42"):
                pair.refused(await session.call_tool("pay", {"account": sent}), "bad_arguments", "invoices/pay")
    assert pair.ran == []


async def test_a_tool_that_is_removed_and_one_that_is_kept(pair: Pair) -> None:
    """The second tool of a name changes nothing, as at the server; one that replaced the first counts."""
    server = pair.guarded(HighLevel(NAME))

    for kind in (str, STRIPPED):
        server.add_tool(paying(pair.ran, kind), name="pay")
    async with pair.connected(server) as session:
        with pair.task(SCOPE):
            await session.call_tool("pay", {"account": " 7"})
            server.remove_tool("pay")
            server.add_tool(paying(pair.ran, STRIPPED), name="pay")
            pair.refused(await session.call_tool("pay", {"account": " 7"}), "bad_arguments", "invoices/pay")
            await session.call_tool("pay", {"account": "7"})
    assert pair.ran == [" 7", "7"]


class Tagging(HighLevel):
    """A server that takes options of its own, hands on the others, and wraps what it registers."""

    def add_tool(self, fn: Any, *, tags: tuple[str, ...] = (), **options: Any) -> None:  # type: ignore[override]
        """Register a tool whose name has its tags."""

        def tagged(account: int) -> Any:
            return fn(account)

        super().add_tool(tagged, name="-".join(("pay", *tags)), description="Pay.", **options)


class Passing(HighLevel):
    """A server that hands on whatever it is given."""

    def add_tool(self, *args: Any, **options: Any) -> None:
        """Register a tool."""
        super().add_tool(*args, **options)


async def test_subclasses_take_options_of_their_own(pair: Pair) -> None:
    """What counts is the function that reaches the server in the end, under the name that it has there."""
    server = pair.guarded(Tagging(NAME))
    server.add_tool(pair.ran.append, tags=("big",))
    server.add_tool(pair.ran.append, meta={"a": 1})
    async with pair.connected(server) as session:
        with pair.task(Scope("invoices/pay-big") | Scope("invoices/pay")):
            for name in ("pay", "pay-big"):
                sent = await session.call_tool(name, {"account": "1"})
                pair.refused(sent, "bad_arguments", f"invoices/{name}")
                await session.call_tool(name, {"account": 1})
    assert pair.ran == [1, 1]


async def test_subclasses_hand_on_whatever_they_are_given(pair: Pair) -> None:
    """By position and by name, as tools and as decorators."""
    server = pair.guarded(Passing(NAME))

    @server.tool(description="Pay.")
    def pay(account: int) -> None:
        pair.ran.append(account)

    server.add_tool(pay, "also", description="Pay.")
    async with pair.connected(server) as session:
        with pair.task(Scope("invoices/pay") | Scope("invoices/also")):
            for name in ("pay", "also"):
                await session.call_tool(name, {"account": 1})
    assert pair.ran == [1, 1]
    assert isinstance(server, Passing)
    assert type(server).__qualname__ == "Passing"


class Stateless(HighLevel):
    """A server that is pickled without what it has."""

    def __getstate__(self) -> dict[str, object]:
        return {}


class Single(HighLevel):
    """A server of which nobody makes another."""

    def __copy__(self) -> Any:
        raise RuntimeError("one is enough")


@pytest.mark.parametrize("kind", [Stateless, Single])
async def test_servers_that_are_copied_in_another_way_or_not_at_all(pair: Pair, kind: Any) -> None:
    """They are guarded as others are."""
    server = pair.guarded(kind(NAME))

    @server.tool(description="Pay.")
    def pay(account: int) -> None:
        pair.ran.append(account)

    async with pair.connected(server) as session:
        with pair.task(Scope("invoices/pay")):
            await session.call_tool("pay", {"account": 1})
    assert pair.ran == [1]


class Final(HighLevel):
    """A server whose class nobody extends."""

    def __init_subclass__(cls) -> None:
        raise TypeError("nobody is below")


def test_a_server_that_cannot_be_guarded_says_so(pair: Pair) -> None:
    """Whatever its class raises, it is an error of the configuration, and the server stays as it was."""
    broken = [Final(NAME)]
    if LEGACY:  # Whose low-level server is found on a copy.
        broken.append(HighLevel(NAME))
        del broken[1].settings
    for server in broken:
        kind = type(server)
        with pytest.raises(ConfigurationError):
            protect_server(server, pair.b, name=NAME)
        assert type(server) is kind
