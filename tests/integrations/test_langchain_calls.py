"""A guarded call beside the bare one: bodies see what LangChain shows them, and whoever listens hears everything."""

import asyncio
import contextvars
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import pytest
from langchain_core.callbacks import AsyncCallbackManager, BaseCallbackHandler, BaseCallbackManager, CallbackManager
from langchain_core.globals import set_debug
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import var_child_runnable_config
from langchain_core.tools import BaseTool, StructuredTool, ToolException, tool
from langchain_core.tracers.context import collect_runs, register_configure_hook
from langsmith.run_helpers import tracing_context
from langsmith.utils import get_env_var, tracing_is_enabled
from pydantic import BaseModel, ConfigDict, ValidationError

from agent_identity.errors import OutOfScope
from agent_identity.integrations.langchain.protection import protect

RUN = UUID("01890000-0000-7000-8000-000000000001")
MARK: contextvars.ContextVar[str] = contextvars.ContextVar("mark", default="before")
CALL = {"type": "tool_call", "name": "look", "id": "call_1", "args": {"x": 1}}
CONFIGS: list[RunnableConfig | None] = [
    None,
    {"run_id": RUN, "run_name": "named", "recursion_limit": 7, "max_concurrency": 2},
    {"metadata": {"thread": "t1", "lc_versions": {"a": "1"}}, "configurable": {"model": "m", "own": 2}},
    {"callbacks": []},
    {"callbacks": CallbackManager(handlers=[], inheritable_tags=["a", "b"], tags=["a", "b", "seq:step:1"])},
    {"callbacks": AsyncCallbackManager(handlers=[], inheritable_metadata={"k": 1}), "metadata": {"k": 2, "l": 3}},
    {
        "callbacks": AsyncCallbackManager(handlers=[], inheritable_metadata={"k": 1, "lc_versions": {"a": "1"}}),
        "metadata": {"k": 1, "lc_versions": {"a": "1"}},
    },
    {"tags": ["tagged"]},
]


def seen() -> dict[str, Any]:
    """Return what a body can see of the configuration that it runs under, but for ids that were made up."""
    config = var_child_runnable_config.get()
    assert config is not None
    found = dict(config)
    manager = found.pop("callbacks")
    own = {name: value for name, value in vars(manager).items() if name != "parent_run_id"}
    given = manager.parent_run_id == RUN
    assert given or manager.parent_run_id.version == 7
    MARK.set("inside")
    return {"config": found, "kind": type(manager), "manager": own, "given": given}


def looking(desk: Any | None = None, **fields: Any) -> StructuredTool:
    """Return a tool that tells what it sees."""

    def look(x: int = 0) -> Any:
        """Look."""
        return x, seen()

    async def look_later(x: int = 0) -> Any:
        return x, seen(), asyncio.current_task() is not None

    made = StructuredTool.from_function(look, look_later, name="look", **fields)
    return made if desk is None else protect(made, desk.enforcer)


@pytest.fixture(autouse=True)
def environment() -> Iterator[None]:
    """Have langsmith remember the environment without what a test puts into it, and forget that again."""
    get_env_var.cache_clear()
    tracing_is_enabled()
    yield
    get_env_var.cache_clear()


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("value", [{"x": 1}, {}])
def test_a_body_sees_the_configuration_that_langchain_shows(
    desk: Any, config: RunnableConfig | None, value: dict[str, int]
) -> None:
    """Tags, metadata, limits, the id of the run and the manager of callbacks are those of a bare call."""
    with desk.task("look"):
        assert looking(desk).invoke(value, config) == looking().invoke(value, config)
    assert MARK.get() == "before"


@pytest.mark.parametrize("config", CONFIGS)
def test_a_coroutine_sees_the_same(desk: Any, config: RunnableConfig | None) -> None:
    """It runs in a task of its own, whose context is not that of the caller."""

    async def both() -> None:
        assert await looking(desk).ainvoke({"x": 1}, config) == await looking().ainvoke({"x": 1}, config)
        assert MARK.get() == "before"

    with desk.task("look"):
        asyncio.run(both())


def test_a_body_inside_a_run_sees_what_that_run_hands_down(desk: Any) -> None:
    """The configuration of whoever calls comes by the context."""
    outer: RunnableConfig = {"metadata": {"outer": 1}, "recursion_limit": 3}
    token = var_child_runnable_config.set(outer)
    try:
        with desk.task("look"):
            assert looking(desk).invoke({}, {"metadata": {"inner": 2}}) == looking().invoke(
                {}, {"metadata": {"inner": 2}}
            )
    finally:
        var_child_runnable_config.reset(token)


@pytest.mark.parametrize("later", [False, True])
def test_a_tool_call_is_answered_by_the_same_message(desk: Any, later: bool) -> None:
    """With the id and the name of the call, and a copy of its arguments."""

    def say(x: int) -> str:
        """Say."""
        return f"got {x}"

    async def say_later(x: int) -> dict[str, int]:
        return {"got": x}

    def made() -> StructuredTool:
        return StructuredTool.from_function(say, say_later, name="look")

    def answer(one: StructuredTool) -> Any:
        return asyncio.run(one.ainvoke(dict(CALL))) if later else one.invoke(dict(CALL))

    with desk.task("look"):
        context = contextvars.copy_context()
        assert context.run(answer, protect(made(), desk.enforcer)) == answer(made())
    assert desk.records()[0]["action"]["call"] == "call_1"


class Broken(ToolException):
    """Raised by a tool on purpose."""


FLAGS: list[Any] = [False, True, "handled", lambda error: f"{type(error).__name__} handled"]


@pytest.mark.parametrize("flag", FLAGS)
@pytest.mark.parametrize("later", [False, True])
@pytest.mark.parametrize("value", [{"x": 1}, {"x": "no number"}, CALL])
def test_errors_are_handled_as_the_tool_says(desk: Any, flag: Any, later: bool, value: dict[str, Any]) -> None:
    """Errors of the tool and of its arguments are raised, or become what the model is told."""

    def fail(x: int) -> str:
        """Fail."""
        raise Broken(f"broken {x}")

    async def fail_later(x: int) -> str:
        return fail(x)

    def made() -> StructuredTool:
        return StructuredTool.from_function(
            fail, fail_later, name="look", handle_tool_error=flag, handle_validation_error=flag
        )

    def answer(one: StructuredTool) -> Any:
        try:
            return asyncio.run(one.ainvoke(dict(value))) if later else one.invoke(dict(value))
        except (Broken, ValidationError) as error:
            return type(error), str(error)

    with desk.task("look"):
        context = contextvars.copy_context()
        assert context.run(answer, protect(made(), desk.enforcer)) == answer(made())


def test_an_error_of_the_body_is_raised_as_it_is(desk: Any) -> None:
    """The same object, and recorded."""
    error = KeyError("x")

    @tool("look")
    def look() -> None:
        """Look."""
        raise error

    with desk.task("look"), pytest.raises(KeyError) as raised:
        protect(look, desk.enforcer).invoke({})
    assert raised.value is error
    assert desk.outcomes() == ["error"]


def test_a_refusal_is_answered_or_raised(desk: Any) -> None:
    """To a tool call as a message with the code, and otherwise as the error; the body does not run."""
    with desk.task("other"):
        said = looking(desk).invoke(dict(CALL))
        assert said.status == "error"
        assert said.content.startswith("refused: tool_not_granted")
        with pytest.raises(OutOfScope):
            looking(desk).invoke({"x": 1})
    assert desk.outcomes() == ["denied", "denied"]


class Listener(BaseCallbackHandler):
    """Writes down what it hears."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def on_tool_start(self, *_: Any, **kwargs: Any) -> None:
        """Hear the start."""
        self.heard.append("start")

    def on_tool_end(self, *_: Any, **kwargs: Any) -> None:
        """Hear the end."""
        self.heard.append("end")


def by_config(listener: Listener) -> Callable[[StructuredTool], Any]:
    return lambda one: one.invoke({}, {"callbacks": [listener]})


def by_manager(listener: Listener) -> Callable[[StructuredTool], Any]:
    manager = CallbackManager(handlers=[], inheritable_handlers=[])
    manager.add_handler(listener)
    return lambda one: one.invoke({}, {"callbacks": manager})


def by_field(listener: Listener) -> Callable[[StructuredTool], Any]:
    def call(one: StructuredTool) -> Any:
        one.callbacks = [listener]
        return one.invoke({})

    return call


def by_context(listener: Listener) -> Callable[[StructuredTool], Any]:
    def call(one: StructuredTool) -> Any:
        token = var_child_runnable_config.set({"callbacks": CallbackManager([listener], [listener])})
        try:
            return one.invoke({})
        finally:
            var_child_runnable_config.reset(token)

    return call


@pytest.mark.parametrize("by", [by_config, by_manager, by_field, by_context])
def test_whoever_listens_hears_the_call(desk: Any, by: Callable[[Listener], Callable[[StructuredTool], Any]]) -> None:
    """However a callback comes to the call, it is told of start and end."""
    listener = Listener()
    with desk.task("look"):
        by(listener)(looking(desk))
    assert listener.heard == ["start", "end"]


def test_a_hook_hears_the_call(desk: Any) -> None:
    """As collect_runs, and hooks that an environment variable switches on."""
    with desk.task("look"), collect_runs() as runs:
        looking(desk).invoke({})
    assert [run.name for run in runs.traced_runs] == ["look"]


def test_a_hook_of_the_environment_hears_the_call(desk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its handler is made for each call."""
    hooks: list[Any] = []
    monkeypatch.setattr("langchain_core.tracers.context._configure_hooks", hooks)
    heard: list[Listener] = []

    class Own(Listener):
        def __init__(self) -> None:
            super().__init__()
            heard.append(self)

    register_configure_hook(contextvars.ContextVar("hook", default=None), True, Own, "LISTEN_TO_TOOLS")
    with desk.task("look"):
        looking(desk).invoke({})
        monkeypatch.setenv("LISTEN_TO_TOOLS", "true")
        looking(desk).invoke({})
    assert [each.heard for each in heard] == [["start", "end"]]


def test_tracing_in_any_form_is_heard(desk: Any) -> None:
    """A tracing context that is switched on, or only holds tags or metadata for what comes."""
    with desk.task("look"):
        for settings in ({"tags": ["t"]}, {"metadata": {"a": "b"}}, {"enabled": "local"}):
            with tracing_context(**{"enabled": False, **settings}):  # type: ignore[arg-type]
                looking(desk).invoke({})


@pytest.mark.parametrize("name", ["LANGCHAIN_TRACING", "LANGCHAIN_HANDLER"])
def test_old_tracers_are_refused_by_langchain(desk: Any, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Its own error comes."""
    monkeypatch.setenv(name, "true")
    with desk.task("look"), pytest.raises(RuntimeError, match="no longer supported"):
        looking(desk).invoke({})


def test_another_environment_is_asked_as_well(desk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests put a dictionary in the place of the environment."""
    monkeypatch.setattr("os.environ", {"LANGCHAIN_TRACING": "true"})
    with desk.task("look"), pytest.raises(RuntimeError, match="no longer supported"):
        looking(desk).invoke({})


def test_only_what_the_caller_named_needs_a_place_in_the_scope(desk: Any) -> None:
    """Defaults of the tool do not; a field that a hook of the schema has filled does, whoever named it."""

    class Plain(BaseModel):
        x: int = 0
        y: int = 1

    class Filling(Plain):
        def model_post_init(self, _context: Any) -> None:
            self.y = 7

    def look(x: int, y: int) -> int:
        """Look."""
        return x + y

    plain = protect(StructuredTool.from_function(look, args_schema=Plain), desk.enforcer)
    filling = protect(StructuredTool.from_function(look, args_schema=Filling), desk.enforcer)
    with desk.task("look", x=1):
        assert plain.invoke({"x": 1, "more": 2}) == 2
        with pytest.raises(OutOfScope) as caught:
            plain.invoke({"x": 1, "y": 1})
        assert caught.value.code == "argument_not_granted"
        with pytest.raises(OutOfScope) as caught:
            filling.invoke({"x": 1})
        assert caught.value.code == "argument_not_granted"


def test_verbose_and_debug_print(desk: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """To the terminal, as for bare tools."""
    with desk.task("look"):
        looking(desk, verbose=True).invoke({})
        assert "(0, {" in capsys.readouterr().out
        set_debug(True)
        try:
            looking(desk).invoke({})
        finally:
            set_debug(False)
    assert "[tool/end]" in capsys.readouterr().out


def test_an_instrumentation_that_adds_handlers_everywhere_hears_the_call(
    desk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some put themselves into every manager of callbacks that is made."""
    listener, original = Listener(), BaseCallbackManager.__init__

    def patched(self: BaseCallbackManager, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        self.add_handler(listener)

    one = looking(desk)
    monkeypatch.setattr(BaseCallbackManager, "__init__", patched)
    with desk.task("look"):
        one.invoke({})
    assert listener.heard == ["start", "end"]


@pytest.mark.parametrize("name", ["run", "invoke"])
def test_an_entry_that_others_replace_is_theirs(desk: Any, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """What somebody puts round an entry of LangChain, before or after a tool is protected, runs at each call."""
    one, called, original = looking(desk), [], getattr(BaseTool, name)

    def replaced(self: BaseTool, *args: Any, **kwargs: Any) -> Any:
        called.append(name)
        return original(self, *args, **kwargs)

    monkeypatch.setattr(BaseTool, name, replaced)
    with desk.task("look"):
        one.invoke({})
    assert called == [name]


async def test_what_others_put_below_an_entry_is_theirs(desk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The entry of structured tools goes on in that of all tools."""
    one, called, original = looking(desk), [], BaseTool.ainvoke

    async def replaced(self: BaseTool, *args: Any, **kwargs: Any) -> Any:
        called.append("ainvoke")
        return await original(self, *args, **kwargs)

    monkeypatch.setattr(BaseTool, "ainvoke", replaced)
    async with desk.task("look"):
        await one.ainvoke({})
    assert called == ["ainvoke"]


@pytest.mark.parametrize(
    "value",
    ["1", {"type": "tool_call", "name": "look", "id": None, "args": {"x": 1}}],
)
def test_other_input_is_taken_as_by_the_bare_tool(desk: Any, value: Any) -> None:
    """A text, or a tool call without an id."""
    with desk.task("look"):
        assert looking(desk).invoke(value) == looking().invoke(value)


def test_tools_that_want_more_than_arguments_get_it(desk: Any) -> None:
    """The configuration, or an artifact beside the content."""

    def configured(x: int, config: RunnableConfig) -> Any:
        """Return the configuration."""
        return config["metadata"]

    def paired(x: int) -> Any:
        """Return a pair."""
        return "content", x

    def made() -> list[StructuredTool]:
        return [
            StructuredTool.from_function(configured, name="look"),
            StructuredTool.from_function(paired, name="look", response_format="content_and_artifact"),
        ]

    with desk.task("look"):
        for one, bare in zip(made(), made(), strict=True):
            config: RunnableConfig = {"metadata": {"a": 1}}
            assert protect(one, desk.enforcer).invoke({"x": 1}, config) == bare.invoke({"x": 1}, config)


def test_a_tool_without_arguments_is_not_validated(desk: Any) -> None:
    """LangChain drops whatever is given to it."""

    @tool("look")
    def look() -> str:
        """Look."""
        return "looked"

    class Nothing(BaseModel):
        model_config = ConfigDict(extra="forbid")

    strict = StructuredTool.from_function(lambda: "looked", name="look", description="Look.", args_schema=Nothing)
    with desk.task("look"):
        for made in (look, strict):
            assert protect(made, desk.enforcer).invoke({"more": 1}) == "looked"
