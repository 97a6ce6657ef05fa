"""Guarded LangChain tools: every kind of tool, one decision per call, and the tool stays the same tool."""

import asyncio
import copy
import functools
import gc
import inspect
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Annotated, Any

import pytest
from langchain_core.callbacks import BaseCallbackHandler, CallbackManagerForToolRun
from langchain_core.documents import Document
from langchain_core.messages import ToolMessage
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableConfig, RunnableLambda
from langchain_core.tools import (
    BaseTool,
    InjectedToolArg,
    InjectedToolCallId,
    StructuredTool,
    Tool,
    ToolException,
    create_retriever_tool,
    tool,
)
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import BaseModel, Field, model_validator

from agent_identity import Effect, Enforcer, Finding, Rule, RuleSet
from agent_identity.adapters import Call
from agent_identity.constraints import Range, Wildcard
from agent_identity.errors import ConfigurationError, Denied, EvidenceError
from agent_identity.inspection import PersonalData
from agent_identity.integrations.langchain.protection import protect, unprotect
from agent_identity.policy import Content, Obligation

ran: list[Any] = []


@pytest.fixture(autouse=True)
def _forget() -> None:
    ran.clear()


def tool_call(name: str, call_id: str | None = "call-1", **args: Any) -> dict[str, Any]:
    """Return a tool call as a model makes it."""
    return {"type": "tool_call", "id": call_id, "name": name, "args": args}


def _ran(q: str) -> str:
    ran.append(q)
    return f"found {q}"


def sync_function() -> BaseTool:
    """A function under @tool."""

    @tool
    def find(q: str) -> str:
        """Find."""
        return _ran(q)

    return find


def async_function() -> BaseTool:
    """A coroutine function under @tool."""

    @tool
    async def find(q: str) -> str:
        """Find."""
        await asyncio.sleep(0)
        return _ran(q)

    return find


def both_functions() -> BaseTool:
    """Function and coroutine."""

    async def afind(q: str) -> str:
        return _ran(q)

    return StructuredTool.from_function(_ran, coroutine=afind, name="find", description="Find.")


def single_input() -> BaseTool:
    """The old tool with one input."""
    return Tool(name="find", func=_ran, description="Find.")


def json_schema() -> BaseTool:
    """A tool whose schema is JSON, as MCP adapters make them."""
    schema = {"type": "object", "properties": {"q": {"type": "string"}}, "required": ["q"]}

    async def afind(**arguments: Any) -> str:
        return _ran(**arguments)

    def find(**arguments: Any) -> str:
        return _ran(**arguments)

    return StructuredTool(name="find", description="Find.", args_schema=schema, func=find, coroutine=afind)


def partial_function() -> BaseTool:
    """A partial of a function that takes the configuration."""

    def find(prefix: str, q: str, config: RunnableConfig) -> str:
        assert config is None or "metadata" in config
        return _ran(q)

    return StructuredTool.from_function(
        functools.partial(find, "x"), name="find", description="Find.", args_schema=Question
    )


def callable_object() -> BaseTool:
    """An object with __call__."""

    class Find:
        def __call__(self, q: str) -> str:
            return _ran(q)

    return StructuredTool.from_function(Find(), name="find", description="Find.", args_schema=Question)


class Question(BaseModel):
    """The schema of a tool class."""

    q: str


class SyncTool(BaseTool):
    """A class with _run."""

    name: str = "find"
    description: str = "Find."
    args_schema: Any = Question

    def _run(self, q: str, run_manager: CallbackManagerForToolRun | None = None) -> str:
        return _ran(q)


class ConfiguredTool(BaseTool):
    """A class with _run that takes the configuration, and no schema of its own."""

    name: str = "find"
    description: str = "Find."

    def _run(self, q: str, config: RunnableConfig) -> str:
        assert config is None or "metadata" in config
        return _ran(q)


class BothTool(SyncTool):
    """A class with _run and with _arun."""

    async def _arun(self, q: str, run_manager: Any = None) -> str:
        return _ran(q)


class DelegatingTool(SyncTool):
    """A class whose _arun calls _run, as many do."""

    async def _arun(self, q: str, **kwargs: Any) -> str:
        return self._run(q)


class LayeredTool(StructuredTool):
    """A structured tool whose methods call the stock ones, which call the functions."""

    def _run(self, *args: Any, config: RunnableConfig, **kwargs: Any) -> Any:
        return super()._run(*args, config=config, **kwargs)

    async def _arun(self, *args: Any, config: RunnableConfig, **kwargs: Any) -> Any:
        return await super()._arun(*args, config=config, **kwargs)


def retriever() -> BaseTool:
    """The retriever tool."""

    class Retriever(BaseRetriever):
        def _get_relevant_documents(self, query: str, *, run_manager: Any) -> list[Document]:
            ran.append(query)
            return [Document("text")]

    # The parameter is query; the other tools' one is q.
    return create_retriever_tool(Retriever(), "find", "Find.")


def layered() -> BaseTool:
    """Make a layered tool."""

    async def afind(q: str) -> str:
        return _ran(q)

    return LayeredTool(name="find", description="Find.", args_schema=Question, func=_ran, coroutine=afind)


MAKERS: list[Callable[[], BaseTool]] = [
    sync_function,
    async_function,
    both_functions,
    single_input,
    json_schema,
    partial_function,
    callable_object,
    SyncTool,
    ConfiguredTool,
    BothTool,
    DelegatingTool,
    layered,
    retriever,
]
ASYNC_ONLY = [async_function]
SYNC_ABLE = [make for make in MAKERS if make not in ASYNC_ONLY]


def _input(made: BaseTool, value: str = "a") -> dict[str, str]:
    return {"query" if made.args.get("query") else "tool_input" if type(made).__name__ == "Tool" else "q": value}


def _parameter(made: BaseTool) -> str:
    return "query" if made.args.get("query") else "q"


def _each_sync(made: BaseTool, value: str) -> Iterator[Callable[[], Any]]:
    given = _input(made, value)
    call = tool_call("find", None, **given)
    yield lambda: made.invoke(given)
    yield lambda: made.invoke(call)  # type: ignore[arg-type]
    if not isinstance(made.args_schema, dict) and not isinstance(made, LayeredTool):
        yield lambda: made.invoke(value)
    yield lambda: made.run(given)
    yield lambda: made.batch([given])
    yield lambda: list(made.batch_as_completed([given]))
    yield lambda: list(made.stream(given))
    yield lambda: list(made.transform(iter([given])))
    yield lambda: made.with_config(tags=["t"]).invoke(given)
    yield lambda: made.with_retry(stop_after_attempt=1).invoke(given)
    yield lambda: (RunnableLambda(lambda x: x) | made).invoke(given)


async def _drain(items: AsyncIterator[Any]) -> list[Any]:
    return [item async for item in items]


def _each_async(made: BaseTool, value: str) -> Iterator[Callable[[], Any]]:
    given = _input(made, value)

    async def completed() -> list[Any]:
        return [item async for item in made.abatch_as_completed([given])]

    async def transformed() -> list[Any]:
        async def source() -> AsyncIterator[Any]:
            yield given

        return await _drain(made.atransform(source()))

    yield lambda: made.ainvoke(given)
    yield lambda: made.ainvoke(tool_call("find", None, **given))  # type: ignore[arg-type]
    yield lambda: made.arun(given)
    yield lambda: made.abatch([given])
    yield completed
    yield lambda: _drain(made.astream(given))
    yield transformed
    yield lambda: _drain(made.astream_events(given, version="v2"))


@pytest.mark.parametrize("make", SYNC_ABLE)
def test_every_sync_way_is_one_call(desk: Any, make: Callable[[], BaseTool]) -> None:
    """However a tool is run, there is one decision, one intent, one outcome and one span."""
    made = protect(make(), desk.enforcer)
    ways = list(_each_sync(made, "a"))
    with desk.task("find"):
        for number, way in enumerate(ways, 1):
            way()
            assert len(ran) == number
            assert desk.outcomes() == ["success"] * number
    assert len(desk.spans()) == len(ways)


@pytest.mark.parametrize("make", MAKERS)
async def test_every_async_way_is_one_call(desk: Any, make: Callable[[], BaseTool]) -> None:
    """The async ways as well, also where LangChain runs a sync body in a thread."""
    made = protect(make(), desk.enforcer)
    ways = list(_each_async(made, "a"))
    async with desk.task("find"):
        for number, way in enumerate(ways, 1):
            await way()
            assert len(ran) == number
            assert desk.outcomes() == ["success"] * number
    assert len(desk.spans()) == len(ways)


@pytest.mark.parametrize("make", SYNC_ABLE)
def test_every_sync_way_is_refused_outside_the_scope(desk: Any, make: Callable[[], BaseTool]) -> None:
    """A refused body does not run, and there is one outcome without an intent."""
    made = protect(make(), desk.enforcer)
    ways = list(_each_sync(made, "b"))
    with desk.task("find", **{_parameter(make()): "a"}):
        for number, way in enumerate(ways, 1):
            with pytest.raises(Denied):
                way()
            assert desk.outcomes() == ["denied"] * number
    assert ran == []


@pytest.mark.parametrize("make", MAKERS)
async def test_every_async_way_is_refused_outside_the_scope(desk: Any, make: Callable[[], BaseTool]) -> None:
    """The async ways as well."""
    made = protect(make(), desk.enforcer)
    ways = list(_each_async(made, "b"))
    async with desk.task("find", **{_parameter(make()): "a"}):
        for number, way in enumerate(ways, 1):
            with pytest.raises(Denied):
                await way()
            assert desk.outcomes() == ["denied"] * number
    assert ran == []


@pytest.mark.parametrize("make", SYNC_ABLE)
def test_an_allowed_call_by_any_kind_of_tool(desk: Any, make: Callable[[], BaseTool]) -> None:
    """A closed scope that names the argument lets the call through for each kind of tool."""
    made = protect(make(), desk.enforcer)
    with desk.task("find", **{_parameter(make()): "a"}):
        made.invoke(_input(made))
        message = made.invoke(tool_call("find", **_input(made)))  # type: ignore[arg-type]
    assert isinstance(message, ToolMessage)
    assert message.status == "success"
    assert ran == ["a", "a"]
    assert [record["action"].get("call") for record in desk.records()] == [None, None, "call-1", "call-1"]


@pytest.mark.parametrize("make", MAKERS)
async def test_bodies_called_directly_are_one_call_each(desk: Any, make: Callable[[], BaseTool]) -> None:
    """_run, _arun, func and coroutine are guarded themselves."""
    made = protect(make(), desk.enforcer)
    given = {_parameter(made): "a"} if type(made).__name__ != "Tool" else {"q": "a"}
    extra: dict[str, Any] = {"config": {"metadata": {}}}
    bodies: list[tuple[Any, dict[str, Any]]] = []
    if getattr(made, "func", None):
        bodies.append((made.func, extra if make is partial_function else {}))  # type: ignore[attr-defined]
    if getattr(made, "coroutine", None):
        bodies.append((made.coroutine, {}))  # type: ignore[attr-defined]
    if make not in ASYNC_ONLY:
        bodies.append((made._run, extra if isinstance(made, StructuredTool | Tool | ConfiguredTool) else {}))
    bodies.append((made._arun, extra if isinstance(made, StructuredTool | Tool | ConfiguredTool) else {}))
    for body, more in bodies:
        with pytest.raises(Denied) as caught:
            await _result(body(**given, **more))
        assert caught.value.code == "no_task"
    assert ran == []
    assert desk.outcomes() == ["denied"] * len(bodies)
    async with desk.task("find"):
        for body, more in bodies:
            await _result(body(**given, **more))
    assert ran == ["a"] * len(bodies)
    assert desk.outcomes() == ["denied"] * len(bodies) + ["success"] * len(bodies)


async def _result(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value


@pytest.mark.parametrize("make", MAKERS)
def test_a_protected_tool_is_the_same_tool(desk: Any, make: Callable[[], BaseTool]) -> None:
    """Identity, class, schema, signature and looks do not change."""
    bare, made = make(), make()
    kind = type(made)
    same = protect(made, desk.enforcer)
    assert same is made
    assert isinstance(made, kind)
    assert convert_to_openai_tool(made) == convert_to_openai_tool(bare)
    assert made.get_name() == bare.get_name()
    assert made.args == bare.args
    assert (type(made).__name__, type(made).__module__) == (kind.__name__, kind.__module__)
    for name in ("func", "coroutine", "_run", "_arun", "run", "arun"):
        ours, theirs = getattr(made, name, None), getattr(bare, name, None)
        assert (ours is None) == (theirs is None)
        if ours is not None:
            assert list(inspect.signature(ours).parameters) == list(inspect.signature(theirs).parameters)
            assert inspect.iscoroutinefunction(ours) == inspect.iscoroutinefunction(theirs)
            assert not hasattr(ours, "__wrapped__")


@pytest.mark.parametrize("make", MAKERS)
def test_unprotect_makes_the_tool_what_it_was(desk: Any, make: Callable[[], BaseTool]) -> None:
    """Class and functions are the very ones from before; doing it twice changes nothing."""
    made = make()
    before = type(made), dict(made.__dict__)
    protect([made], desk.enforcer)
    assert unprotect(made) is made
    assert unprotect([made]) == [made]
    assert type(made) is before[0]
    assert {name: made.__dict__[name] for name in before[1]} == before[1]
    protect(made, desk.enforcer)
    with pytest.raises(Denied):
        made.run(_input(made)) if make not in ASYNC_ONLY else asyncio.run(made.arun(_input(made)))


def test_a_list_comes_back_as_the_same_list(desk: Any) -> None:
    """Lists and tuples are returned as they were given, with guarded tools inside."""
    tools = [sync_function(), SyncTool()]
    pair = (single_input(),)
    assert protect(tools, desk.enforcer) is tools
    assert protect(pair, desk.enforcer) is pair
    for made in (*tools, *pair):
        with pytest.raises(Denied):
            made.invoke("a")


def test_protecting_twice_is_once(desk: Any) -> None:
    """The same enforcer again changes nothing; one call stays one call."""
    made = protect(sync_function(), desk.enforcer)
    function = made.func  # type: ignore[attr-defined]
    protect([made, made], desk.enforcer)
    assert made.func is function  # type: ignore[attr-defined]
    with desk.task("find"):
        made.invoke({"q": "a"})
    assert desk.outcomes() == ["success"]


def test_a_second_enforcer_is_refused(open_desk: Any) -> None:
    """Neither a guarded tool nor a guarded function can be guarded by another one; nothing changes then."""
    first, second = open_desk(), open_desk()
    made = protect(sync_function(), first.enforcer)
    other = SyncTool()
    with pytest.raises(ConfigurationError, match="unprotect"):
        protect([other, made], second.enforcer)
    assert type(other) is SyncTool
    again = StructuredTool.from_function(made.func, name="again", description="x")  # type: ignore[attr-defined]
    with pytest.raises(ConfigurationError, match="guard it once"):
        protect(again, second.enforcer)
    protect(unprotect(made), second.enforcer)
    with second.task("find"):
        made.invoke({"q": "a"})
    assert (first.outcomes(), second.outcomes()) == ([], ["success"])


def test_a_guarded_function_in_another_tool_is_one_call_by_the_new_name(desk: Any) -> None:
    """What the same enforcer guards twice is judged once, by the tool through which the call goes."""
    made = protect(sync_function(), desk.enforcer)
    again = StructuredTool.from_function(made.func, name="again", description="x")  # type: ignore[attr-defined]
    protect(again, desk.enforcer)
    with desk.task("again"):
        again.invoke({"q": "a"})
        with pytest.raises(Denied):
            made.invoke({"q": "a"})
    assert desk.outcomes() == ["success", "denied"]


def test_functions_guarded_by_enforcer_tool_are_refused(desk: Any) -> None:
    """One guard, not two: the tool of a guarded function is not protected once more."""
    made = StructuredTool.from_function(desk.enforcer.tool(_ran), name="find", description="x")
    with pytest.raises(ConfigurationError, match="guard it once"):
        protect(made, desk.enforcer)


@pytest.mark.parametrize("wrong", [_ran, "find", [_ran], {"type": "web_search"}, None, [None]])
def test_other_things_are_no_tools(desk: Any, wrong: Any) -> None:
    """The message names the way to guard a function."""
    with pytest.raises(TypeError, match=r"enforcer\.tool"):
        protect(wrong, desk.enforcer)
    with pytest.raises(TypeError, match="is no LangChain tool"):
        unprotect(wrong)


@pytest.mark.parametrize("entry", ["run", "ainvoke", "stream"])
def test_classes_that_run_tools_in_their_own_way_are_refused(desk: Any, entry: str) -> None:
    """A class that overrides an entry point could run without the guard, so it is refused at once."""
    kind = type("Own", (SyncTool,), {entry: lambda self, *args: _ran("x"), "__module__": __name__})
    with pytest.raises(ConfigurationError, match=rf"{entry}\(\)"):
        protect(kind(), desk.enforcer)


def test_a_static_run_is_refused(desk: Any) -> None:
    """A body that is no make it an ordinary one has no receiver to tell apart from its arguments."""

    class Static(SyncTool):
        @staticmethod
        def _run(q: str) -> str:  # type: ignore[override]
            return _ran(q)

    with pytest.raises(ConfigurationError, match="make it an ordinary one"):
        protect(Static(), desk.enforcer)


@pytest.mark.parametrize("make", SYNC_ABLE)
@pytest.mark.parametrize(
    "copied",
    [copy.copy, copy.deepcopy, BaseTool.model_copy, functools.partial(BaseTool.model_copy, deep=True)],
    ids=["copy", "deepcopy", "model_copy", "deep model_copy"],
)
def test_copies_made_later_are_guarded(
    desk: Any, make: Callable[[], BaseTool], copied: Callable[[BaseTool], BaseTool]
) -> None:
    """A copy is refused and allowed as the original is, and counts its own calls."""
    made = protect(make(), desk.enforcer)
    twin = copied(made)
    assert twin is not made
    with pytest.raises(Denied):
        twin.invoke(_input(made))
    assert ran == []
    with desk.task("find"):
        twin.invoke(_input(made))
    assert desk.outcomes() == ["denied", "success"]


def test_a_renamed_copy_is_judged_by_its_name(desk: Any) -> None:
    """Scopes know a copy by the name that the model sees."""
    for make in (sync_function, SyncTool, layered):
        made = protect(make(), desk.enforcer)
        twin = made.model_copy(update={"name": "search"})
        with desk.task("search"):
            twin.invoke({"q": "a"})
            with pytest.raises(Denied):
                made.invoke({"q": "a"})


def test_new_instances_of_the_guarded_class_are_guarded(desk: Any) -> None:
    """Configurable fields build a new tool of the same class; it is guarded like the first."""
    from langchain_core.runnables import ConfigurableField

    made = protect(SyncTool(), desk.enforcer)
    configurable = made.configurable_fields(description=ConfigurableField(id="d"))
    with pytest.raises(Denied):
        configurable.invoke({"q": "a"}, {"configurable": {"d": "Other."}})
    assert ran == []


def test_a_class_of_guarded_tools_cannot_be_subclassed(desk: Any) -> None:
    """A subclass could bring a body that nobody guards."""
    made = protect(SyncTool(), desk.enforcer)
    with pytest.raises(TypeError, match="guarded tool"):
        type("Sub", (type(made),), {})


def test_guarded_classes_are_shared_and_released(desk: Any) -> None:
    """Tools of one class share a guarded class, which goes when the last of them goes."""
    first, second = protect(SyncTool(), desk.enforcer), protect(SyncTool(), desk.enforcer)
    assert type(first) is type(second)
    kind = weakref.ref(type(first))
    del first, second
    gc.collect()
    assert kind() is None


def test_calls_by_names_of_many_tools_keep_a_bounded_memory(desk: Any) -> None:
    """Renaming a tool again and again does not grow the class without end."""
    made = protect(SyncTool(), desk.enforcer)
    for number in range(600):
        with pytest.raises(Denied):
            made.model_copy(update={"name": f"find-{number}"})._run("a")
    assert desk.outcomes() == ["denied"] * 600


def test_retries_by_callers_are_calls_of_their_own(desk: Any) -> None:
    """Each attempt is judged and recorded by itself."""

    @tool
    def find(q: str) -> str:
        """Find."""
        ran.append(q)
        if len(ran) < 3:
            raise ConnectionError("again")
        return q

    protect(find, desk.enforcer)
    with desk.task("find"):
        find.with_retry(stop_after_attempt=3, wait_exponential_jitter=False).invoke({"q": "a"})
    assert desk.outcomes() == ["error", "error", "success"]


def test_a_closed_enforcer_refuses(desk: Any) -> None:
    """After the enforcer is closed nothing runs any more."""
    made = protect(sync_function(), desk.enforcer)
    desk.enforcer.close()
    with pytest.raises((Denied, EvidenceError)):
        made.invoke({"q": "a"})
    assert ran == []


def test_a_thread_without_the_context_is_refused(desk: Any) -> None:
    """Authority does not enter threads by itself."""
    made = protect(sync_function(), desk.enforcer)
    caught: list[str] = []

    def work() -> None:
        try:
            made.invoke({"q": "a"})
        except Denied as denied:
            caught.append(denied.code)

    with desk.task("find"):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert caught == ["no_task"]
    assert ran == []


# --- What a denial looks like ---------------------------------------------------------------------


@pytest.mark.parametrize("make", SYNC_ABLE)
def test_a_denied_tool_call_is_a_message_to_the_model(desk: Any, make: Callable[[], BaseTool]) -> None:
    """With the id of a tool call the refusal is a message, with reason and reference, without values."""
    made = protect(make(), desk.enforcer)
    with desk.task("find", **{_parameter(make()): "a"}):
        message = made.invoke(tool_call("find", **_input(made, "hidden-value")))  # type: ignore[arg-type]
    (record,) = desk.records()
    assert isinstance(message, ToolMessage)
    assert (message.status, message.tool_call_id, message.name) == ("error", "call-1", "find")
    assert message.artifact is None
    assert str(message.content).startswith(f"refused: argument_out_of_scope (reference {record['id']}): argument ")
    assert "hidden-value" not in str(message.content)
    assert record["action"]["call"] == "call-1"
    assert ran == []


async def test_a_denied_async_tool_call_is_a_message(desk: Any) -> None:
    """The async paths answer the same way."""
    for made in protect([async_function(), BothTool(), sync_function()], desk.enforcer):
        message = await made.ainvoke(tool_call("find", q="a"))
        assert message.status == "error"
        assert message.content.startswith("refused: no_task (reference ")
    assert desk.outcomes() == ["denied"] * 3


def test_handle_tool_error_never_swallows_a_denial(desk: Any) -> None:
    """A denial is not what a tool says of itself; a tool's own error still is handled by its handler."""

    @tool
    def find(q: str) -> str:
        """Find."""
        raise ToolException("not there")

    find.handle_tool_error = "handled"
    protect(find, desk.enforcer)
    with pytest.raises(Denied):
        find.invoke({"q": "a"})
    with desk.task("find"):
        assert find.invoke({"q": "a"}) == "handled"
        assert find.invoke(tool_call("find", q="a")).status == "error"
        find.handle_tool_error = False
        with pytest.raises(ToolException):
            find.invoke({"q": "a"})
    assert desk.outcomes() == ["denied", "error", "error", "error"]
    assert [record.get("error") for record in desk.records()][-1] == "ToolException"


def test_arguments_that_do_not_validate_are_no_call(desk: Any) -> None:
    """LangChain answers them itself, before there is anything to judge."""
    made = protect(sync_function(), desk.enforcer)
    made.handle_validation_error = True
    with desk.task("find"):
        assert made.invoke({"wrong": 1}) == "Tool input validation error"
    assert desk.records() == []


class Events(BaseCallbackHandler):
    """Keeps what LangChain reports of tools."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, Any]] = []

    def on_tool_start(self, serialized: Any, input_str: str, **kwargs: Any) -> None:
        """Keep the start."""
        self.seen.append(("start", kwargs["inputs"]))

    def on_tool_end(self, output: Any, **kwargs: Any) -> None:
        """Keep the end."""
        self.seen.append(("end", output))

    def on_tool_error(self, error: BaseException, **kwargs: Any) -> None:
        """Keep the error."""
        self.seen.append(("error", type(error).__name__))


@pytest.mark.parametrize("make", SYNC_ABLE)
def test_callbacks_see_each_call_once(desk: Any, make: Callable[[], BaseTool]) -> None:
    """An allowed call starts and ends, a refused one starts and fails; no second start for the seams."""
    made = protect(make(), desk.enforcer)
    events = Events()
    given = _input(made)
    with desk.task("find"):
        made.invoke(given, {"callbacks": [events]})
    made.invoke(tool_call("find", **given), {"callbacks": [events]})  # type: ignore[arg-type]
    assert [name for name, _ in events.seen] == ["start", "end", "start", "error"]
    assert events.seen[0] == ("start", given)
    assert events.seen[3] == ("error", "NoTask")


def test_content_and_artifact_stay(desk: Any) -> None:
    """The two parts of a result reach the message; a refused call has no artifact."""

    @tool(response_format="content_and_artifact")
    def find(q: str) -> tuple[str, list[int]]:
        """Find."""
        ran.append(q)
        return "content", [1, 2]

    protect(find, desk.enforcer)
    with desk.task("find"):
        message = find.invoke(tool_call("find", q="a"))
        assert find.invoke({"q": "a"}) == "content"
    assert (message.content, message.artifact, message.status) == ("content", [1, 2], "success")
    assert find.invoke(tool_call("find", q="a")).artifact is None
    assert desk.outcomes() == ["success", "success", "denied"]


# --- What the guard sees --------------------------------------------------------------------------


def test_the_guard_sees_defaults_of_the_schema(desk: Any) -> None:
    """A default that the caller leaves alone is judged by name, and does not count as the caller's."""

    @tool
    def pay(to: str, amount: int = 5000) -> str:
        """Pay."""
        ran.append((to, amount))
        return "paid"

    protect(pay, desk.enforcer)
    with desk.task("pay", to="bob"):
        pay.invoke({"to": "bob"})
        with pytest.raises(Denied, match="'amount'"):
            pay.invoke({"to": "bob", "amount": 5000})
    with desk.task("pay", to="bob", amount=Range(max=100)), pytest.raises(Denied, match="'amount'"):
        pay.invoke({"to": "bob"})
    assert ran == [("bob", 5000)]


def _filled(schema: type[BaseModel]) -> StructuredTool:
    def find(q: str, path: Any) -> str:
        ran.append(path)
        return "found"

    return StructuredTool.from_function(find, name="find", description="x", args_schema=schema)


class Aliased(BaseModel):
    """A field that is filled by another name."""

    q: str
    path: str = Field("/safe", alias="p")


class Moving(BaseModel):
    """A field that is filled from another key before validation."""

    q: str
    path: str = "/safe"

    @model_validator(mode="before")
    @classmethod
    def _move(cls, data: Any) -> Any:
        return {"path": data["other"], **data} if "other" in data else data


class Computing(BaseModel):
    """A field that is computed after validation."""

    q: str
    path: str = Field(default_factory=lambda: "/safe")

    @model_validator(mode="after")
    def _compute(self) -> "Computing":
        self.path = f"/{self.q}"
        return self


@pytest.mark.parametrize(("schema", "given"), [(Aliased, {"p": "/etc"}), (Moving, {"other": "/etc"}), (Computing, {})])
def test_fields_filled_by_other_names_count_as_the_callers(desk: Any, schema: Any, given: Any) -> None:
    """No alias and no validator smuggles an argument past a scope that does not name it."""
    made = protect(_filled(schema), desk.enforcer)
    with desk.task("find", q="a"), pytest.raises(Denied, match="'path'"):
        made.invoke({"q": "a", **given})
    assert ran == []


class Fresh(BaseModel):
    """A field with a new value for each call."""

    q: str
    path: list[int] = Field(default_factory=lambda: [1])
    kept: list[int] = [2]


def test_fresh_defaults_are_the_tools_own(desk: Any) -> None:
    """A value that the tool's own factory makes is fine under a scope that does not name it."""

    def find(q: str, path: list[int], kept: list[int]) -> str:
        ran.append((path, kept))
        return "found"

    made = StructuredTool.from_function(find, name="find", description="x", args_schema=Fresh)
    protect(made, desk.enforcer)
    with desk.task("find", q="a"):
        made.invoke({"q": "a"})
        for argument in ("path", "kept"):
            with pytest.raises(Denied, match=argument):
                made.invoke({"q": "a", argument: [3]})
    assert ran == [([1], [2])]


def test_the_body_gets_the_checked_copy(desk: Any) -> None:
    """What the caller changes after the check does not reach the body."""
    seen: list[Any] = []

    @tool
    def find(qs: list[str]) -> str:
        """Find."""
        given.append("/etc/shadow")
        seen.append(qs)
        return "found"

    given = ["a"]
    protect(find, desk.enforcer)
    with desk.task("find"):
        find.invoke({"qs": given})
    assert seen == [["a"]]


def test_plain_injected_objects_pass_by_reference(desk: Any) -> None:
    """A connection reaches the body as it is, is recorded as opaque, and needs no place in the scope."""

    class Connection:
        pass

    @tool
    def find(q: str, db: Annotated[Any, InjectedToolArg]) -> str:
        """Find."""
        ran.append(db)
        return q

    connection = Connection()
    protect(find, desk.enforcer)
    with desk.task("find", q="a"):
        find.invoke({"q": "a", "db": connection})
    assert ran == [connection]
    assert desk.records()[0]["action"]["names"] == ["db:opaque", "q:string"]


def test_the_call_id_and_the_configuration_are_the_frameworks(desk: Any) -> None:
    """LangChain's own parameters need no place in the scope and do not stand among the arguments."""

    @tool
    def find(q: str, call_id: Annotated[str, InjectedToolCallId], config: RunnableConfig) -> str:
        """Find."""
        ran.append((call_id, config["tags"]))
        return q

    protect(find, desk.enforcer)
    with desk.task("find", q="a"):
        message = find.invoke(tool_call("find", q="a"), {"tags": ["t"]})
        with pytest.raises(Denied, match="call_id"):
            find.func("a", call_id="other", config={})  # type: ignore[attr-defined]
    assert message.status == "success"
    assert ran == [("call-1", ["t"])]


# --- Several bodies of one tool -------------------------------------------------------------------


def test_other_arguments_further_in_are_judged_again(desk: Any) -> None:
    """A _run that calls the stock one with other arguments is a second call, with the same call id."""

    class Rewriting(StructuredTool):
        def _run(self, *args: Any, q: str, config: RunnableConfig, **kwargs: Any) -> Any:
            return super()._run(*args, q="/etc" if q == "rewrite" else q, config=config, **kwargs)

    made = Rewriting(name="find", description="x", args_schema=Question, func=_ran)
    protect(made, desk.enforcer)
    with desk.task("find", q=Wildcard()):
        made.invoke(tool_call("find", q="rewrite"))  # type: ignore[arg-type]
    assert desk.outcomes() == ["success", "success"]
    assert [r["action"]["call"] for r in desk.records()] == ["call-1"] * 4
    with desk.task("find", q="rewrite"):
        message = made.invoke(tool_call("find", q="rewrite"))  # type: ignore[arg-type]
    assert message.content.startswith("refused: argument_out_of_scope")
    assert desk.outcomes()[2:] == ["denied", "error"]
    assert ran == ["/etc"]


def test_a_changed_list_further_in_is_judged_again(desk: Any) -> None:
    """The body may change its copy, but what it hands on then was not judged."""

    class Appending(BaseTool):
        name: str = "find"
        description: str = "x"

        def _run(self, qs: list[str]) -> str:
            return _ran(",".join(qs))

        async def _arun(self, qs: list[str]) -> str:
            if len(qs) > 1:
                qs.append("/etc")
            return self._run(qs)

    made = protect(Appending(), desk.enforcer)

    async def work() -> None:
        async with desk.task("find"):
            await made.ainvoke({"qs": ["a"]})
            await made.ainvoke({"qs": ["a", "b"]})

    asyncio.run(work())
    assert desk.outcomes() == ["success", "success", "success"]
    assert ran == ["a", "a,b,/etc"]


def test_a_second_pass_inside_one_call_is_a_second_call(desk: Any) -> None:
    """A body that retries by itself gets a decision per attempt after the first."""

    class Retrying(SyncTool):
        async def _arun(self, q: str, **kwargs: Any) -> str:
            self._run(q)
            return self._run(q)

    made = protect(Retrying(), desk.enforcer)

    async def work() -> None:
        async with desk.task("find"):
            await made.ainvoke({"q": "a"})

    asyncio.run(work())
    assert ran == ["a", "a"]
    assert desk.outcomes() == ["success", "success"]


def test_a_body_further_in_is_refused_when_the_task_has_ended(desk: Any) -> None:
    """A call that was judged before the end of its task does not carry on into the next body."""

    class Waiting(SyncTool):
        async def _arun(self, q: str, **kwargs: Any) -> str:
            task.end()
            return self._run(q)

    made = protect(Waiting(), desk.enforcer)

    async def work() -> Any:
        nonlocal task
        async with desk.task("find") as task:
            return await made.ainvoke(tool_call("find", q="a"))  # type: ignore[arg-type]

    task: Any = None
    message = asyncio.run(work())
    assert message.content.startswith("refused: task_ended")
    assert ran == []
    assert [r["outcome"] for r in desk.records() if r["kind"] == "outcome"] == ["denied"]


def test_nested_tools_are_calls_of_their_own(desk: Any) -> None:
    """A tool that calls another, or itself, makes further calls; none takes the call id of the first."""

    @tool
    def inner(q: str) -> str:
        """Inner."""
        return _ran(q)

    @tool
    def outer(q: str, depth: int = 1) -> str:
        """Outer."""
        inner.invoke({"q": q})
        inner.func(q)  # type: ignore[attr-defined]
        return outer.func(q, depth - 1) if depth else q  # type: ignore[attr-defined]

    protect([inner, outer], desk.enforcer)
    with desk.task("inner", "outer"):
        outer.invoke(tool_call("outer", q="a"))
    assert ran == ["a"] * 4
    assert desk.outcomes() == ["success"] * 6
    assert [r["action"].get("call") for r in desk.records() if r["kind"] == "intent"] == ["call-1"] + [None] * 5


def test_the_refusal_of_a_nested_call_is_not_that_of_the_outer_one(desk: Any) -> None:
    """The outer call ran; what was refused inside it is an error of its body."""

    @tool
    def inner(q: str) -> str:
        """Inner."""
        return _ran(q)

    @tool
    def outer(q: str) -> str:
        """Outer."""
        return inner.invoke({"q": q})

    protect([inner, outer], desk.enforcer)
    with desk.task("outer"), pytest.raises(Denied, match="'inner'"):
        outer.invoke(tool_call("outer", q="a"))
    assert desk.outcomes() == ["denied", "error"]


def test_generators_are_judged_when_they_start(desk: Any) -> None:
    """A tool whose body is a generator is one call, which ends with the generator."""

    @tool
    def count(q: str) -> Iterator[str]:
        """Count."""
        ran.append(q)
        yield q

    protect(count, desk.enforcer)
    with desk.task("count"):
        items = count.invoke({"q": "a"})
        assert ran == []
        assert list(items) == ["a"]
    assert desk.outcomes() == ["success"]
    with pytest.raises(Denied):
        list(count.invoke({"q": "a"}))


def test_a_function_that_returns_a_coroutine_is_one_call(desk: Any) -> None:
    """The call lasts until the coroutine has ended."""

    async def later(q: str) -> str:
        return _ran(q)

    def find(q: str) -> Any:
        return later(q)

    made = StructuredTool.from_function(find, name="find", description="x", args_schema=Question)
    protect(made, desk.enforcer)

    async def work() -> None:
        async with desk.task("find"):
            await made.func("a")  # type: ignore[misc]

    asyncio.run(work())
    assert ran == ["a"]
    assert desk.outcomes() == ["success"]


async def test_concurrent_calls_do_not_mix(desk: Any) -> None:
    """Each of many calls at once keeps its id, its arguments and its own answer."""
    for made in protect([async_function(), sync_function(), BothTool()], desk.enforcer):
        async with desk.task("find", q=Wildcard()):
            answers = await asyncio.gather(
                *(made.ainvoke(tool_call("find", f"call-{n}", q=str(n))) for n in range(25))  # type: ignore[arg-type]
            )
        assert [a.content for a in answers] == [f"found {n}" for n in range(25)]
        assert [a.tool_call_id for a in answers] == [f"call-{n}" for n in range(25)]
    assert desk.outcomes() == ["success"] * 75


# --- Policy, routes, inspection, modes ------------------------------------------------------------


def _routing(target: str = "desk") -> RuleSet:
    return RuleSet(Rule(Effect.ROUTE, tools="find", to=target, reason="a person decides"), name="p", version="1")


@pytest.mark.parametrize("make", SYNC_ABLE)
def test_a_routes_handler_stands_in_for_the_tool(open_desk: Any, make: Callable[[], BaseTool]) -> None:
    """The handler's result is the tool's, the body does not run, and the outcome says routed."""
    seen: list[Call] = []

    def handler(call: Call) -> str:
        seen.append(call)
        return "handled"

    desk = open_desk(policy=_routing(), routes={"desk": handler})
    made = protect(make(), desk.enforcer)
    with desk.task("find"):
        assert made.invoke(_input(made)) == "handled"
        assert made.invoke(tool_call("find", **_input(made))).content == "handled"  # type: ignore[arg-type]
    assert ran == []
    assert desk.outcomes() == ["routed", "routed"]
    assert seen[1].call_id == "call-1"
    assert seen[0].arguments[_parameter(make())] == "a" if make is not json_schema else True


async def test_a_routes_handler_may_be_async_and_short_of_an_artifact(open_desk: Any) -> None:
    """A tool with artifacts takes what a handler returns as content, or both parts."""
    results: list[Any] = ["content", ("content", [1])]

    async def handler(call: Call) -> Any:
        return results.pop()

    def sync_handler(call: Call) -> Any:
        return "content"

    async def find(q: str) -> tuple[str, Any]:
        ran.append(q)
        return "body", None

    for routed, expected in ((handler, [[1], None]), (sync_handler, [None, None])):
        desk = open_desk(policy=_routing(), routes={"desk": routed})
        made = StructuredTool.from_function(
            coroutine=find, name="find", description="x", response_format="content_and_artifact"
        )
        protect(made, desk.enforcer)
        async with desk.task("find"):
            messages = [await made.ainvoke(tool_call("find", q="a")) for _ in range(2)]  # type: ignore[arg-type]
        assert [(m.content, m.artifact) for m in messages] == [("content", artifact) for artifact in expected]
    assert ran == []


def test_a_route_without_handler_is_a_refusal(open_desk: Any) -> None:
    """There is nobody to take over, so the call does not run."""
    desk = open_desk(policy=_routing("nobody"))
    made = protect(sync_function(), desk.enforcer)
    with desk.task("find"):
        message = made.invoke(tool_call("find", q="a"))
    assert message.content.startswith("refused: route_unavailable")
    assert ran == []
    assert desk.outcomes() == ["denied"]


def test_a_blocked_call_names_the_rule(open_desk: Any) -> None:
    """The model reads which rule stopped it."""
    desk = open_desk(policy=RuleSet(Rule(Effect.BLOCK, tools="find", id="no-find", reason="not today")))
    made = protect(sync_function(), desk.enforcer)
    with desk.task("find"):
        message = made.invoke(tool_call("find", q="a"))
    assert "refused: policy_blocks (reference " in message.content
    assert "'no-find'" in message.content
    assert "not today" in message.content


class Detector:
    """Finds a word in results."""

    def inspect(self, content: Content) -> list[Finding]:
        """Look at results only."""
        found = content.direction == "output" and "found secret" in str(content.value)
        return [Finding(category="leak", inspector="detector")] if found else []


def test_a_withheld_result_is_a_message(open_desk: Any) -> None:
    """What the policy withholds from the model is answered like a refusal, though the body ran."""
    rule = Rule(Effect.BLOCK, tools="find", when={"findings.categories": {"contains": ["leak"]}}, reason="leak")
    desk = open_desk(policy=RuleSet(rule), inspectors=[Detector()])
    made = protect(sync_function(), desk.enforcer)
    with desk.task("find"):
        message = made.invoke(tool_call("find", q="secret"))
        with pytest.raises(Denied):
            made.invoke({"q": "secret"})
        assert made.invoke({"q": "a"}) == "found a"
    assert message.content.startswith("refused: content_blocked")
    assert ran == ["secret", "secret", "a"]


@pytest.mark.parametrize("is_async", [False, True])
async def test_content_and_artifact_are_redacted(open_desk: Any, is_async: bool) -> None:
    """Text and artifact of a tool are changed alike, and the message is the one that LangChain makes of them."""
    rule = Rule(
        Effect.ALLOW, when={"findings.stage": "result"}, obligations=[Obligation("redact", "pii.email")], id="r"
    )
    desk = open_desk(policy=RuleSet(rule), inspectors=[PersonalData()])

    @tool(response_format="content_and_artifact")
    def find(q: str) -> tuple[str, dict[str, list[str]]]:
        """Find."""
        return f"found {q}", {"to": [q]}

    made = protect(find, desk.enforcer)
    with desk.task("find"):
        call = tool_call("find", q="bob@example.com")
        message = await made.ainvoke(call) if is_async else made.invoke(call)
    assert (message.content, message.artifact) == ("found [redacted:pii.email]", {"to": ["[redacted:pii.email]"]})
    assert message.status == "success"


def test_monitor_mode_lets_everything_run(open_desk: Any) -> None:
    """Nothing is refused; the records say what would have been."""
    desk = open_desk(mode="monitor")
    made = protect(sync_function(), desk.enforcer)
    message = made.invoke(tool_call("find", q="a"))
    assert (message.status, message.content) == ("success", "found a")
    assert [r["decision"]["enforced"] for r in desk.records()] == ["audit", "audit"]


def test_the_enforcer_type_is_enough_for_the_readme(desk: Any) -> None:
    """The quick start's last words: after the task the same call is refused with no_task."""
    made = protect(sync_function(), desk.enforcer)
    assert isinstance(desk.enforcer, Enforcer)
    with desk.task("find", q="a"):
        assert made.invoke({"q": "a"}) == "found a"
    with pytest.raises(Denied) as caught:
        made.invoke({"q": "a"})
    assert caught.value.code == "no_task"
