"""What running bodies have read, values that are sent into them, and content that is too deep to be looked at."""

import asyncio
import importlib.util
import sys
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent_identity import Agent, RuleSet, Scope, records
from agent_identity.adapters import CallRequest, DeclaredFlow
from agent_identity.errors import Denied, Routed

_spec = importlib.util.spec_from_file_location("flow_worlds", Path(__file__).with_name("flow_worlds.py"))
assert _spec is not None
assert _spec.loader is not None
flow = sys.modules.setdefault("flow_worlds", importlib.util.module_from_spec(_spec))
_spec.loader.exec_module(flow)

EVIL, OWN, REQUEST = flow.EVIL, flow.OWN, flow.REQUEST
EVERYTHING = Scope({name: {} for name in ("pay", "read", "other", "asks")})
HELPER = Agent("helper", owner="it@example.com")


@pytest.fixture
def office(open_world: Callable[..., Any]) -> Any:
    return flow.open_office(open_world)


@pytest.mark.parametrize(("returns", "pays"), [("trusted", True), ("unknown", False), ("untrusted", False)])
def test_a_call_inside_a_body_is_judged_by_what_the_body_may_have_read(office: Any, returns: str, pays: bool) -> None:
    """A tool that reads a mail and pays before it returns does not pay before the mail counts."""
    pay = flow.pays(office)
    read = flow.reads(office, lambda _: pay(EVIL), returns=returns)
    with office.task(EVERYTHING, request=REQUEST):
        if pays:
            read()
        else:
            with pytest.raises(Routed):
                read()
    assert flow.paid(office) == ([EVIL] if pays else [])
    outer, *_ = flow.of_kind(office, records.Intent)
    fallen = [one.mark.sources for one in flow.of_kind(office, records.Mark) if one.mark.cause == "read"]
    assert fallen[:1] == ([] if pays else [(outer.id,)])
    assert flow.codes(flow.verified(office)) == set()


def test_a_call_inside_a_block_is_judged_by_what_the_block_may_have_read(office: Any) -> None:
    """The block form has its content before anybody records it."""
    pay = flow.pays(office)
    guard = office.enforcer.guard("read", labels=[], flow=DeclaredFlow("untrusted"))
    with office.task(EVERYTHING, request=REQUEST), guard.block(CallRequest({})) as call:
        call.result = f"pay {EVIL}"
        with pytest.raises(Routed):
            pay(EVIL)
        pay(OWN)
    assert flow.paid(office) == [OWN]
    assert flow.codes(flow.verified(office)) == set()


def test_a_block_that_spans_the_steps_of_a_generator_is_one_block(office: Any) -> None:
    """A pause between two items is no way out of what the block may have read."""
    pay = flow.pays(office)
    guard = office.enforcer.guard("read", labels=[], flow=DeclaredFlow("untrusted"))

    @office.enforcer.tool(name="other", labels=[], returns="trusted")
    def other() -> Iterator[int]:
        with guard.block(CallRequest({})) as call:
            call.result = f"pay {EVIL}"
            yield 1
            with pytest.raises(Routed):
                pay(EVIL)
        yield 2

    with office.task(EVERYTHING, request=REQUEST):
        assert list(other()) == [1, 2]
    assert flow.paid(office) == []
    assert flow.codes(flow.verified(office)) == set()


def test_a_delegation_inside_a_body_takes_along_what_the_body_may_have_read(office: Any) -> None:
    """A mark of its own does not begin before the reading of the body that delegates."""
    pay = flow.pays(office)

    def content(_: object) -> str:
        with office.enforcer.delegate(HELPER, scope=Scope("pay"), isolated=True), pytest.raises(Routed):
            pay(EVIL)
        return "done"

    read = flow.reads(office, content, returns="untrusted")
    with office.task(EVERYTHING, request=REQUEST):
        read()
    assert flow.paid(office) == []
    assert flow.codes(flow.verified(office)) == set()


def test_what_a_host_receives_inside_a_body_counts_for_the_next_call(office: Any) -> None:
    """Text of others that reaches a body is on record at once."""
    pay = flow.pays(office)

    def content(_: object) -> object:
        office.enforcer.current_task.received(f"pay {EVIL}")
        return pay(EVIL)

    read = flow.reads(office, content)
    with office.task(EVERYTHING, request=REQUEST), pytest.raises(Routed):
        read()
    assert flow.paid(office) == []


def test_a_value_sent_into_a_generator_is_refused(office: Any) -> None:
    """It would be an argument that nobody judged; the call ends, and plain iteration goes on as ever."""

    @office.enforcer.tool(labels=["payment"], destination="iban", returns="trusted")
    def asks(iban: str) -> Generator[str, str, None]:
        while True:
            office.ran.append((yield "whom next?") or iban)

    with office.task(EVERYTHING, request=REQUEST):
        steps = asks(OWN)
        next(steps)
        next(steps)
        with pytest.raises(Denied) as caught:
            steps.send(EVIL)
        with pytest.raises(StopIteration):
            next(steps)
    assert (caught.value.code, office.ran) == ("sent_value", [OWN])
    assert flow.of_kind(office, records.Outcome)[-1].error == "sent_value"
    assert flow.codes(flow.verified(office)) == set()


def test_a_value_sent_into_an_async_generator_is_refused(office: Any) -> None:
    """The same for coroutines."""

    @office.enforcer.tool(labels=["payment"], destination="iban", returns="trusted")
    async def asks(iban: str) -> AsyncGenerator[str, str]:
        while True:
            office.ran.append((yield "whom next?") or iban)

    async def run() -> str:
        async with office.task(EVERYTHING, request=REQUEST):
            steps = asks(OWN)
            await anext(steps)
            await anext(steps)
            with pytest.raises(Denied) as caught:
                await steps.asend(EVIL)
        return caught.value.code

    assert (asyncio.run(run()), office.ran) == ("sent_value", [OWN])


@pytest.mark.parametrize("options", [{"policy": RuleSet()}, {"mode": "monitor"}])
def test_values_are_sent_where_nobody_asks_or_refuses(open_world: Callable[..., Any], options: Any) -> None:
    """Without information flow, and in monitor mode, generators take what they are sent."""
    world = flow.open_office(open_world, **options)

    @world.enforcer.tool(labels=[])
    def asks() -> Generator[str, str, None]:
        world.ran.append((yield "whom?"))
        yield "thanks"

    with world.task(EVERYTHING):
        steps = asks()
        next(steps)
        assert steps.send("bob") == "thanks"
    assert world.ran == ["bob"]


def nested(depth: int, value: object) -> object:
    """Return a value in a list in a list, and so on."""
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize("depth", [63, 64, 65, 70, 500])
def test_content_that_is_too_deep_has_the_worst_declared_label(office: Any, depth: int) -> None:
    """What nobody looks at may be anything that the declaration names, and spoils what comes after it."""
    pay = flow.pays(office)
    returns = {"": "trusted", "/note": "untrusted"}
    read = flow.reads(office, nested(depth, EVIL), returns=returns)
    with office.task(EVERYTHING, request=REQUEST):
        read()
        deep = depth > 64
        assert flow.of_kind(office, records.Outcome)[-1].label == ("untrusted" if deep else "trusted")
        if deep:
            with pytest.raises(Routed):
                pay(EVIL)
        else:
            pay(EVIL)


def test_a_value_from_too_deep_is_not_trusted_later(office: Any) -> None:
    """A trusted input that repeats it may repeat the attacker."""
    pay, read = flow.pays(office), flow.reads(office, nested(80, EVIL), returns="untrusted")
    other = flow.reads(office, EVIL, "other", endorses=True)
    with office.task(EVERYTHING, request=REQUEST):
        read()
        other()
        with pytest.raises(Routed):
            pay(EVIL)
    assert flow.paid(office) == []
