"""No way past the guard: every entry point found by introspection, swapped bodies, pickles, forged arguments."""

import contextlib
import copy
import functools
import importlib
import inspect
import pickle
import sys
import warnings
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.output_parsers.openai_tools import parse_tool_call
from langchain_core.runnables import ConfigurableField, Runnable, RunnableConfig, RunnableLambda
from langchain_core.tools import BaseTool, InjectedToolArg, StructuredTool, Tool, tool
from pydantic import BaseModel, BeforeValidator, ConfigDict

from agent_identity import Agent, Enforcer, Human, Scope
from agent_identity.constraints import PathWithin, Range, Wildcard
from agent_identity.errors import ConfigurationError, Denied
from agent_identity.integrations.langchain.protection import protect, unprotect

ran: list[Any] = []


@pytest.fixture(autouse=True)
def _forget() -> None:
    ran.clear()


def tool_call(name: str, call_id: str | None = "call-1", **args: Any) -> Any:
    """Return a tool call as a model makes it."""
    return {"type": "tool_call", "id": call_id, "name": name, "args": args}


class Question(BaseModel):
    """A schema that can be pickled by its name."""

    q: str


def find_function(q: str) -> str:
    """Find; can be pickled by its name."""
    ran.append(q)
    return f"found {q}"


async def afind_function(q: str) -> str:
    """Find, later."""
    ran.append(q)
    return f"found {q}"


class ClassTool(BaseTool):
    """A class with bodies of its own."""

    name: str = "find"
    description: str = "Find."
    args_schema: Any = Question

    def _run(self, q: str) -> str:
        return find_function(q)

    async def _arun(self, q: str) -> str:
        return await afind_function(q)


def structured() -> StructuredTool:
    """A tool with a function and a coroutine."""
    return StructuredTool(
        name="find", description="Find.", args_schema=Question, func=find_function, coroutine=afind_function
    )


def single() -> Tool:
    """A tool with one input."""
    return Tool(name="find", description="Find.", func=find_function, coroutine=afind_function, args_schema=Question)


MAKERS: list[Callable[[], BaseTool]] = [structured, single, ClassTool]

# --- AC-68 ----------------------------------------------------------------------------------------

INPUT = {"q": "a"}


async def _inputs() -> AsyncIterator[Any]:
    yield INPUT


def _identity() -> Runnable[Any, Any]:
    return RunnableLambda(lambda x: x)


SPECIAL: dict[str, Callable[[], tuple[list[Any], dict[str, Any]]]] = {
    "transform": lambda: ([iter([INPUT])], {}),
    "atransform": lambda: ([_inputs()], {}),
    "assign": lambda: ([], {"extra": _identity()}),
    "as_tool": lambda: ([Question], {"name": "again", "description": "Again."}),
    "configurable_alternatives": lambda: ([ConfigurableField(id="which")], {"default_key": "x", "b": structured}),
    "pipe": lambda: ([_identity()], {}),
    "with_fallbacks": lambda: ([[]], {}),
    "with_retry": lambda: ([], {"stop_after_attempt": 1}),
    "pick": lambda: (["q"], {}),
    "astream_events": lambda: ([INPUT], {"version": "v2"}),
    "__or__": lambda: ([_identity()], {}),
    "_run": lambda: ([], {"q": "a"}),
    "_arun": lambda: ([], {"q": "a"}),
}
"""Arguments that cannot be guessed from the name of the parameter."""

BY_NAME: dict[str, Any] = {
    "input": INPUT,
    "inputs": [INPUT],
    "tool_input": INPUT,
    "q": "a",
    "config": {"metadata": {}},
}


def _public(made: BaseTool) -> list[str]:
    names = set(dir(BaseTool)) | set(dir(type(made))) | set(type(made).model_fields)
    names = {name for name in names if not name.startswith("_") or name in ("_run", "_arun", "__call__", "__or__")}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return sorted(name for name in names if callable(getattr(made, name, None)))


def _arguments(name: str, function: Any) -> tuple[list[Any], dict[str, Any]]:
    """Return arguments for a callable: special ones, and whatever else it requires, by the name of the parameter."""
    positional, keywords = SPECIAL.get(name, lambda: ([], {}))()
    for parameter in list(inspect.signature(function).parameters.values())[len(positional) :]:
        variable = parameter.kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        if parameter.default is inspect.Parameter.empty and not variable:
            keywords.setdefault(parameter.name, BY_NAME.get(parameter.name))
    return positional, keywords


async def _drive(value: Any, depth: int = 0) -> None:
    """Do with a result whatever could run a tool: await it, iterate it, invoke it, call what it holds."""
    if inspect.isawaitable(value):
        await _drive(await value, depth)
    elif inspect.isasyncgen(value):
        async for _ in value:
            pass
    elif inspect.isgenerator(value):
        for _ in value:
            pass
    elif isinstance(value, Runnable) and depth < 2:
        each = [INPUT] if type(value).__name__ == "RunnableEach" else INPUT
        for way in (value.invoke, value.ainvoke):
            await _attempt(way, each, depth)
    elif isinstance(value, dict):
        # model_dump and dict hand out functions.
        for item in filter(inspect.isroutine, value.values()):
            await _attempt(item, "a", depth)


async def _attempt(function: Any, argument: Any, depth: int) -> None:
    with contextlib.suppress(Exception):
        await _drive(function(argument), depth + 1)


async def _everything(made: BaseTool) -> dict[str, bool]:
    """Call every public callable of a tool, and tell for which of them the body ran."""
    results: dict[str, bool] = {}
    for name in _public(made):
        ran.clear()
        with warnings.catch_warnings(), contextlib.suppress(Exception):
            warnings.simplefilter("ignore")
            function = getattr(made, name)
            positional, keywords = _arguments(name, function)
            await _drive(function(*positional, **keywords))
        results[name] = bool(ran)
    return results


CERTAIN = {
    *("abatch", "abatch_as_completed", "ainvoke", "arun", "assign", "astream", "astream_events", "atransform"),
    *("batch", "batch_as_completed", "bind", "copy", "invoke", "map", "model_copy", "pipe", "run", "stream"),
    *("transform", "with_config", "with_fallbacks", "with_listeners", "with_retry", "as_tool", "_run", "_arun"),
}
"""Callables of which we know that they can run a tool: the driver below must find them."""


@pytest.mark.parametrize("make", MAKERS)
async def test_ac_68_no_entry_point_evades_a_denial(desk: Any, make: Callable[[], BaseTool]) -> None:
    """Every public callable that can run a bare tool, found by introspection, cannot run a guarded one."""
    bare = await _everything(make())
    found = {name for name, did in bare.items() if did}
    assert found >= CERTAIN
    assert ("func" in found) == ("func" in type(make()).model_fields)

    guarded = await _everything(protect(make(), desk.enforcer))
    assert set(guarded) == set(bare)
    assert [name for name, did in guarded.items() if did] == []
    assert set(desk.outcomes()) == {"denied"}
    assert len(desk.outcomes()) >= len(found)


@pytest.mark.parametrize("make", MAKERS)
def test_ac_68_the_class_does_not_lead_past_the_guard(desk: Any, make: Callable[[], BaseTool]) -> None:
    """Methods taken from the class of the tool, and functions handed out in dumps, are guarded."""
    made = protect(make(), desk.enforcer)
    for kind in (type(made), StructuredTool if isinstance(made, StructuredTool) else type(made)):
        with pytest.raises(Denied):
            kind._run(made, q="a", **({} if isinstance(made, ClassTool) else {"config": {}}))
    for name, value in made:
        if name in ("func", "coroutine"):
            assert value is getattr(made, name)
    assert ran == []


# --- AC-66 ----------------------------------------------------------------------------------------


def _evil(q: str) -> str:
    ran.append(f"evil {q}")
    return "evil"


async def _async_evil(q: str) -> str:
    return _evil(q)


def _spoof(function: Any) -> Any:
    return functools.wraps(function)(_evil)


SWAPS: dict[str, Callable[[Any], Any]] = {
    "attribute": lambda made: setattr(made, "func", _evil),
    "coroutine": lambda made: setattr(made, "coroutine", _async_evil),
    "object.__setattr__": lambda made: object.__setattr__(made, "func", _evil),
    "__dict__": lambda made: made.__dict__.__setitem__("func", _evil),
    "dressed like the guarded one": lambda made: setattr(made, "func", _spoof(made.func)),
    "model_copy": lambda made: made.model_copy(update={"func": _evil, "coroutine": _async_evil}),
    "copy": lambda made: made.copy(update={"func": _evil}),
    "model_construct": lambda made: type(made).model_construct(
        **{**dict(made), "func": _evil, "coroutine": _async_evil}
    ),
    "constructor": lambda made: type(made)(**{**dict(made), "func": _evil, "coroutine": _async_evil}),
}


@pytest.mark.parametrize("make", [structured, single])
@pytest.mark.parametrize("swap", SWAPS.values(), ids=SWAPS)
@pytest.mark.filterwarnings("ignore::pydantic.PydanticDeprecatedSince20")
async def test_ac_66_a_swapped_function_is_guarded(desk: Any, make: Callable[[], Any], swap: Any) -> None:
    """Whatever is put in the place of a tool's function cannot run unless the tool may."""
    made = protect(make(), desk.enforcer)
    swapped = swap(made) or made
    for way in (swapped.invoke, swapped.ainvoke):
        with pytest.raises(Denied):
            await _drive_strictly(way({"q": "a"}))
    with pytest.raises(Denied):
        swapped.func("a")
    assert ran == []
    async with desk.task("find"):
        await _drive_strictly(swapped.invoke({"q": "a"}))
        await _drive_strictly(swapped.ainvoke({"q": "a"}))
    assert len(ran) == 2
    assert any("evil" in value for value in ran)
    assert desk.outcomes() == ["denied"] * 3 + ["success"] * 2


async def _drive_strictly(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("name", ["_run", "_arun"])
def test_ac_66_the_running_methods_cannot_be_swapped(desk: Any, make: Callable[[], Any], name: str) -> None:
    """An instance takes no other _run or _arun; one forced into its dictionary is not used."""
    made = protect(make(), desk.enforcer)
    with pytest.raises(ConfigurationError, match="before protect"):
        setattr(made, name, _evil)
    with pytest.raises(ConfigurationError):
        object.__setattr__(made, name, _evil)
    made.__dict__[name] = _evil
    with pytest.raises(Denied):
        made.invoke({"q": "a"})
    assert ran == []
    unprotect(made)


def test_ac_66_a_method_swapped_on_the_class_does_not_run(desk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A guarded tool runs the method that its class had when it was protected."""
    made = protect(ClassTool(), desk.enforcer)
    monkeypatch.setattr(ClassTool, "_run", lambda self, q: _evil(q))
    with desk.task("find"):
        assert made.invoke({"q": "a"}) == "found a"


def test_a_function_taken_away_stays_away(desk: Any) -> None:
    """A tool whose function is removed has none, as it would be without the guard."""
    made = protect(structured(), desk.enforcer)
    made.func = None
    assert made.func is None
    with desk.task("find"), pytest.raises(NotImplementedError):
        made.invoke({"q": "a"})
    assert not hasattr(type(made), "func")


def test_a_guarded_function_of_another_enforcer_keeps_its_guard(open_desk: Any) -> None:
    """Assigned later, it is judged by both: nobody's guard is taken away."""
    first, second = open_desk(), open_desk()
    made, other = protect(structured(), first.enforcer), protect(structured(), second.enforcer)
    made.func = other.func
    with first.task("find"), pytest.raises(Denied):
        made.invoke({"q": "a"})
    assert (first.outcomes(), second.outcomes()) == (["error"], ["denied"])


# --- AC-42, 44, 45, 47, 48, 57 --------------------------------------------------------------------


def _decode(value: Any) -> Any:
    return value.replace("%2e", ".") if isinstance(value, str) else value


def test_ac_42_the_guard_sees_what_the_body_gets(desk: Any) -> None:
    """A validator that rewrites an argument does so before the guard looks."""

    @tool
    def read(path: Annotated[str, BeforeValidator(_decode)]) -> str:
        """Read."""
        ran.append(path)
        return path

    protect(read, desk.enforcer)
    with desk.task("read", path=PathWithin("/data")):
        read.invoke({"path": "/data/a"})
        for path in ("/data/%2e%2e/etc/passwd", "/data/../etc/passwd"):
            with pytest.raises(Denied, match="'path'"):
                read.invoke({"path": path})
    assert ran == ["/data/a"]


@given(text=st.text(max_size=20))
def test_ac_42_whatever_a_validator_makes_is_what_is_judged(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    """For any rewriting, the body runs exactly if the rewritten value is the one in the scope."""

    @tool
    def read(q: Annotated[str, BeforeValidator(lambda value: value.strip().lower())]) -> str:
        """Read."""
        seen.append(q)
        return q

    seen: list[str] = []
    human, agent = Human("alice"), Agent("clerk", owner="finance")
    with Enforcer.open(tmp_path_factory.mktemp("evidence")) as enforcer:
        protect(read, enforcer)
        with enforcer.task("test", principal=human, agent=agent, scope=Scope("read", q="a")):
            with contextlib.suppress(Denied):
                read.invoke({"q": text})
            assert seen == (["a"] if text.strip().lower() == "a" else [])
            assert read.invoke({"q": " A "}) == "a"


def test_ac_44_defaults_are_judged(desk: Any) -> None:
    """Leaving out a dangerous default does not hide it, neither in the schema nor in the function."""

    @tool
    def pay(to: str, amount: int = 5000) -> str:
        """Pay."""
        ran.append(amount)
        return "paid"

    def pay_json(to: str, amount: int = 5000) -> str:
        ran.append(amount)
        return "paid"

    schema = {"type": "object", "properties": {"to": {"type": "string"}, "amount": {"type": "integer"}}}
    by_json = StructuredTool(name="pay", description="Pay.", args_schema=schema, func=pay_json)
    for made in protect([pay, by_json], desk.enforcer):
        with desk.task("pay", to=Wildcard(), amount=Range(max=100)):
            with pytest.raises(Denied, match="'amount'"):
                made.invoke({"to": "bob"})
            made.invoke({"to": "bob", "amount": 100})
    assert ran == [100, 100]


@pytest.mark.parametrize("make", [structured, ClassTool])
def test_ac_45_positional_arguments_are_judged_by_name(desk: Any, make: Callable[[], Any]) -> None:
    """However an argument is passed, it is judged under its name."""
    made = protect(make(), desk.enforcer)
    body = made.func if isinstance(made, StructuredTool) else made._run
    with desk.task("find", q="a"):
        body("a")
        made.run("a")
        for call in (lambda: body("b"), lambda: body(q="b"), lambda: made.run("b")):
            with pytest.raises(Denied, match="'q'"):
                call()
    assert ran == ["a", "a"]


def test_ac_47_an_injected_argument_from_the_model_is_judged(desk: Any) -> None:
    """JSON in the place of an injected argument may be the model's: a scope that does not name it refuses."""

    @tool
    def find(q: str, user: Annotated[Any, InjectedToolArg]) -> str:
        """Find."""
        ran.append(user)
        return q

    protect(find, desk.enforcer)
    with desk.task("find", q="a"):
        for forged in ("admin", {"role": "admin"}, [1], None, 7, True):
            message = find.invoke(tool_call("find", q="a", user=forged))
            assert message.content.startswith("refused: argument_not_granted")
    with desk.task("find", q="a", user="alice"):
        find.invoke({"q": "a", "user": "alice"})
        with pytest.raises(Denied, match="'user'"):
            find.invoke({"q": "a", "user": "admin"})
    assert ran == ["alice"]


class User(BaseModel):
    """What an application injects."""

    role: str


def test_ac_47_json_that_validation_makes_an_object_of_is_still_the_models(desk: Any) -> None:
    """Who made the value counts, not what pydantic made of it."""

    @tool
    def find(q: str, user: Annotated[User, InjectedToolArg]) -> str:
        """Find."""
        ran.append(user.role)
        return q

    protect(find, desk.enforcer)
    with desk.task("find", q="a"):
        message = find.invoke(tool_call("find", q="a", user={"role": "admin"}))
        assert message.content.startswith("refused: argument_not_granted")
        find.invoke({"q": "a", "user": User(role="alice")})
    assert ran == ["alice"]


def test_ac_47_parameters_that_look_like_callbacks_are_judged(desk: Any) -> None:
    """Only what LangChain overwrites passes as its own: not a second configuration, not other callbacks."""

    class Odd(BaseTool):
        name: str = "find"
        description: str = "Find."

        def _run(self, q: str, first: RunnableConfig, second: RunnableConfig, callbacks: Any = None) -> str:
            ran.append((first["tags"], second, callbacks))
            return q

    made = protect(Odd(), desk.enforcer)
    with desk.task("find", q="a"):
        for forged in ({"second": {}}, {"second": {}, "callbacks": ["x"]}):
            with pytest.raises(Denied, match="'second'"):
                made.invoke({"q": "a", **forged})
    with desk.task("find", q="a", second=Wildcard()):
        made.invoke({"q": "a", "first": {"tags": ["forged"]}, "second": {}}, {"tags": ["real"]})
        with pytest.raises(Denied, match="'callbacks'"):
            made.invoke({"q": "a", "second": {}, "callbacks": ["x"]})
    assert ran == [(["real"], {}, None)]


def test_ac_47_deeply_nested_json_in_an_injected_argument_is_refused(desk: Any) -> None:
    """What is nested beyond all measure does not pass as an object of the framework."""

    @tool
    def find(q: str, state: Annotated[Any, InjectedToolArg]) -> str:
        """Find."""
        ran.append(q)
        return q

    nested: Any = []
    for _ in range(200):
        nested = [nested]
    protect(find, desk.enforcer)
    with desk.task("find", q="a"), pytest.raises(Denied):
        find.invoke({"q": "a", "state": nested})
    assert ran == []


class OpenSchema(BaseModel):
    """A schema that lets undeclared fields through."""

    model_config = ConfigDict(extra="allow")
    q: str


def test_ac_48_undeclared_arguments_do_not_slip_in(desk: Any) -> None:
    """Where an undeclared argument reaches the body it is refused; where pydantic drops it, it reaches nobody."""

    def find(q: str, **more: Any) -> str:
        ran.append((q, more))
        return q

    opened = StructuredTool(name="find", description="x", args_schema=OpenSchema, func=find)
    schema = {"type": "object", "properties": {"q": {"type": "string"}}}
    by_json = StructuredTool(name="find", description="x", args_schema=schema, func=find)
    dropping = StructuredTool(name="find", description="x", args_schema=Question, func=find)
    protect([opened, by_json, dropping], desk.enforcer)
    with desk.task("find", q="a"):
        for made in (opened, by_json):
            with pytest.raises(Denied, match="'force'"):
                made.invoke({"q": "a", "force": True})
        dropping.invoke({"q": "a", "force": True})
    assert ran == [("a", {})]


def test_ac_57_duplicate_keys_have_one_meaning(desk: Any) -> None:
    """LangChain's parser keeps the last of duplicate keys; that one is judged, and that one runs."""
    made = protect(structured(), desk.enforcer)
    with desk.task("find", q="a"):
        for arguments in ('{"q": "a", "q": "b"}', '{"q": "b", "q": "a"}'):
            call = parse_tool_call({"id": "1", "function": {"name": "find", "arguments": arguments}})
            assert call is not None
            made.invoke({**call, "type": "tool_call"})
    assert ran == ["a"]
    assert desk.outcomes() == ["denied", "success"]


# --- Pickles --------------------------------------------------------------------------------------


def _pickled(made: Any) -> Any:
    return pickle.loads(pickle.dumps(made))  # noqa: S301  It was made here.


@pytest.mark.parametrize("make", [structured, ClassTool])
async def test_a_pickled_tool_comes_back_closed(desk: Any, make: Callable[[], Any]) -> None:
    """Nobody guards it, so it refuses everything, until it is protected again."""
    made = protect(make(), desk.enforcer)
    back = _pickled(made)
    assert isinstance(back, type(make()))
    assert back.args == made.args
    async with desk.task("find"):
        for twin in (back, copy.deepcopy(back), _pickled(back)):
            with pytest.raises(Denied, match="protect") as caught:
                twin.invoke({"q": "a"})
            assert caught.value.code == "closed"
            with pytest.raises(Denied):
                await twin.ainvoke({"q": "a"})
            message = twin.invoke(tool_call("find", q="a"))
            assert message.content.startswith("refused: closed: ")
            bodies = [twin.func, twin.coroutine] if make is structured else [twin._run, twin._arun]
            for body in bodies:
                with pytest.raises(Denied):
                    await _drive_strictly(body("a"))
        assert ran == []
        assert desk.records() == []
        protect(back, desk.enforcer).invoke({"q": "a"})
    assert ran == ["a"]
    assert desk.outcomes() == ["success"]


def test_a_closed_tool_can_be_opened_on_purpose(desk: Any) -> None:
    """unprotect() gives back the bare tool."""
    back = unprotect(_pickled(protect(structured(), desk.enforcer)))
    assert type(back) is StructuredTool
    assert back.func is find_function
    assert back.invoke({"q": "a"}) == "found a"


def test_what_stock_cannot_pickle_stays_so(desk: Any) -> None:
    """A tool of a function that is hidden behind the tool cannot be pickled, guarded or not."""

    @tool
    def hidden(q: str) -> str:
        """Find."""
        return q

    with pytest.raises((pickle.PicklingError, AttributeError)):
        pickle.dumps(hidden)
    with pytest.raises((pickle.PicklingError, AttributeError)):
        pickle.dumps(protect(hidden, desk.enforcer))


class OwnPickle(ClassTool):
    """A class that pickles in its own way."""

    def __reduce__(self) -> Any:
        return (ClassTool, ())


def test_a_class_with_its_own_pickling_is_not_pickled_open(desk: Any) -> None:
    """Its own way would bring back a bare tool, so it is refused."""
    assert isinstance(_pickled(OwnPickle()), ClassTool)
    with pytest.raises(TypeError, match="before protect"):
        pickle.dumps(protect(OwnPickle(), desk.enforcer))


# --- Without langchain-core -----------------------------------------------------------------------


@pytest.fixture
def without_langchain(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Make the next import of the integration a fresh one."""
    for name in [name for name in sys.modules if name.startswith("agent_identity.integrations")]:
        monkeypatch.delitem(sys.modules, name)
    return monkeypatch


def test_without_langchain_core_the_error_names_the_extra(without_langchain: pytest.MonkeyPatch) -> None:
    """Who forgot the extra reads how to get it."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "langchain_core"]:
        without_langchain.delitem(sys.modules, name)
    without_langchain.setitem(sys.modules, "langchain_core", None)  # type: ignore[arg-type]
    with pytest.raises(ImportError, match=r"\.\[langchain\]"):
        importlib.import_module("agent_identity.integrations.langchain")


def test_another_missing_module_is_not_blamed_on_the_extra(without_langchain: pytest.MonkeyPatch) -> None:
    """A broken installation shows its own error."""
    without_langchain.setitem(sys.modules, "agent_identity.adapters", None)  # type: ignore[arg-type]
    with pytest.raises(ModuleNotFoundError, match=r"agent_identity\.adapters"):
        importlib.import_module("agent_identity.integrations.langchain")
