"""LangChainInstrumentor: every tool of a process, without a line of code, and out again without a trace."""

import functools
import logging
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.documents import Document
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import BaseTool, StructuredTool, create_retriever_tool, tool

from agent_identity import Enforcer
from agent_identity.errors import Denied
from agent_identity.integrations.enforcer_source import EnforcerSource
from agent_identity.integrations.instrumentor import AgentIdentityInstrumentor
from agent_identity.integrations.langchain.middleware import AgentIdentityMiddleware
from agent_identity.integrations.langchain.protection import protect
from agent_identity.integrations.langchain_instrumentor import LangChainInstrumentor
from agent_identity.integrations.langchain_patches import LangChainPatches

ran: list[Any] = []
QUESTION: Any = {"messages": [HumanMessage("go")]}


class ScriptedModel(BaseChatModel):
    """A chat model that answers from a script, by how often it has answered before."""

    script: list[AIMessage]

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
        """Offer nothing."""
        return self

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        answered = sum(isinstance(message, AIMessage) for message in messages)
        return ChatResult(generations=[ChatGeneration(message=self.script[answered])])


def script(*named: tuple[str, dict[str, Any]]) -> list[AIMessage]:
    """Return what a model says that calls these tools at once and is then done."""
    made = [{"name": n, "args": a, "id": f"c{i}"} for i, (n, a) in enumerate(named)]
    return [AIMessage("", tool_calls=made), AIMessage("done")]


def answers(result: Any) -> list[ToolMessage]:
    """Return the tool messages of a result."""
    return [message for message in result["messages"] if isinstance(message, ToolMessage)]


class Counting(BaseTool):
    """A tool that runs by its class, and counts."""

    name: str = "find"
    description: str = "Find."
    count: int = 0

    def _run(self, q: str) -> str:
        self.count += 1
        ran.append(q)
        return f"found {q}"


@pytest.fixture(autouse=True)
def watching() -> Iterator[LangChainInstrumentor]:
    """Return the instrumentor, and take it out at the end."""
    ran.clear()
    found = LangChainInstrumentor()
    yield found
    if found.is_instrumented_by_opentelemetry:
        found.uninstrument()


def make() -> BaseTool:
    """Return a fresh tool."""

    @tool
    def find(q: str) -> str:
        """Find."""
        ran.append(q)
        return f"found {q}"

    return find


async def _afind(q: str) -> str:
    ran.append(q)
    return f"found {q}"


class Shelf(BaseRetriever):
    """Finds one document."""

    def _get_relevant_documents(self, query: str, *, run_manager: Any) -> list[Document]:
        ran.append(query)
        return [Document("found")]


class Eager(Counting):
    """A tool whose class has an entry point of its own that ends in LangChain's."""

    def run(self, *args: Any, **kwargs: Any) -> Any:
        """Run."""
        ran.append("eager")
        return super().run(*args, **kwargs)


KINDS = {
    "function": make,
    "class": Counting,
    "entry": Eager,
    "retriever": lambda: create_retriever_tool(Shelf(), "find", "Find."),
    "runnable": lambda: RunnableLambda(lambda asked: ran.append(asked["q"]) or "found").as_tool(
        arg_types={"q": str}, name="find", description="Find."
    ),
    "coroutine": lambda: StructuredTool.from_function(coroutine=_afind, name="find", description="Find."),
}


@pytest.mark.filterwarnings("ignore::langchain_core._api.beta_decorator.LangChainBetaWarning")
@pytest.mark.parametrize("kind", KINDS)
async def test_every_kind_of_tool_is_one_call(open_desk: Any, watching: LangChainInstrumentor, kind: str) -> None:
    """Whatever a tool is made of, each run is one decision, one intent, one outcome and one span, and runs once."""
    desk = open_desk(mode="monitor")
    made = KINDS[kind]()
    watching.instrument(enforcer=desk.enforcer)
    asked = {"query" if kind == "retriever" else "q": "a"}
    ways = 1
    with desk.task("find"):
        await made.ainvoke(asked)
        if kind != "coroutine":
            ways = 2
            assert str(made.invoke(asked)).startswith("found")
    assert desk.outcomes() == ["success"] * ways
    assert len([asked for asked in ran if asked != "eager"]) == ways
    assert len(desk.spans()) == ways


def test_nothing_is_refused_in_monitor_mode(open_desk: Any, watching: LangChainInstrumentor) -> None:
    """Outside any task a tool runs, and the record says what would have become of it."""
    desk = open_desk(mode="monitor")
    watching.instrument(enforcer=desk.enforcer)
    assert make().run({"q": "a"}) == "found a"
    assert [(r["decision"]["reason"], r["decision"]["enforced"]) for r in desk.records()] == [("no_task", "audit")] * 2


def test_all_three_ways_together_are_one_call(desk: Any, watching: LangChainInstrumentor) -> None:
    """protect, the middleware and the instrumentor give one decision, one intent, one outcome and one span."""
    watching.instrument(enforcer=desk.enforcer)
    held, bare = protect(make(), desk.enforcer), make()
    bare.name = "bare"
    made = create_agent(
        ScriptedModel(script=script(("find", {"q": "a"}), ("bare", {"q": "b"}), ("bare", {"q": "c"}))),
        [held, bare],
        middleware=[AgentIdentityMiddleware(desk.enforcer)],
    )
    with desk.task("find", "bare"):
        assert [message.status for message in answers(made.invoke(QUESTION))] == ["success"] * 3
    assert desk.outcomes() == ["success"] * 3
    assert len(desk.spans()) == 3


def test_tools_of_sub_agents_are_seen(desk: Any, watching: LangChainInstrumentor) -> None:
    """What an inner agent calls is seen without a word in it, and refused as a message that it goes on with."""
    watching.instrument(enforcer=desk.enforcer)
    inner = create_agent(ScriptedModel(script=script(("find", {"q": "b"}))), [make()])

    @tool
    def ask(topic: str) -> str:
        """Ask the other agent."""
        return str(answers(inner.invoke(QUESTION))[0].content)

    outer = create_agent(ScriptedModel(script=script(("ask", {"topic": "x"}))), [ask])
    with desk.task("ask"):
        (message,) = answers(outer.invoke(QUESTION))
    assert str(message.content).startswith("refused: tool_not_granted")
    assert (message.status, ran) == ("success", [])
    assert desk.outcomes() == ["denied", "success"]


def test_uninstrument_restores_everything(desk: Any, watching: LangChainInstrumentor) -> None:
    """Every patched attribute is the object that it was, however often; tools run bare again."""
    before = dict(vars(BaseTool))
    made = make()
    for _ in range(2):
        watching.instrument(enforcer=desk.enforcer)
        watching.instrument(enforcer=desk.enforcer)
        assert vars(BaseTool)["run"] is not before["run"]
        with desk.task("find"):
            made.invoke({"q": "a"})
        watching.uninstrument()
        watching.uninstrument()
    after = dict(vars(BaseTool))
    assert after.keys() == before.keys()
    assert all(after[name] is before[name] for name in before)
    assert made.invoke({"q": "b"}) == "found b"
    assert desk.outcomes() == ["success", "success"]


def test_patches_of_others_stay_and_ours_do_nothing(
    desk: Any, watching: LangChainInstrumentor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where somebody has patched on top, ours cannot be taken out, and lets everything through."""
    monkeypatch.setattr(BaseTool, "run", BaseTool.run)
    watching.instrument(enforcer=desk.enforcer)
    ours = BaseTool.run
    monkeypatch.setattr(BaseTool, "run", functools.partialmethod(ours))
    watching.uninstrument()
    assert make().invoke({"q": "a"}) == "found a"
    assert desk.outcomes() == []


@pytest.mark.parametrize("mode", ["monitor", "enforce", "enfroce"])
async def test_what_cannot_be_watched_runs_in_monitor_mode_only(
    watching: LangChainInstrumentor,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    mode: str,
) -> None:
    """Evidence that cannot be opened costs a line in the log; where enforcing was meant, however spelt, the call."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("AGENT_IDENTITY_DIR", str(tmp_path / "file"))
    monkeypatch.setenv("AGENT_IDENTITY_MODE", mode)
    watching.instrument()
    made = make()
    if mode == "monitor":
        with caplog.at_level(logging.WARNING, logger="agent_identity"):
            assert [made.invoke({"q": "a"}), made.invoke({"q": "a"})] == ["found a"] * 2
        assert len(caplog.records) == 1
    else:
        with pytest.raises(Denied, match="the tool cannot be guarded") as caught:
            made.invoke({"q": "a"})
        assert caught.value.code == "not_guarded"
        call = {"type": "tool_call", "id": "c0", "name": "find", "args": {"q": "a"}}
        for message in (made.invoke(call), await made.ainvoke(call)):
            assert (message.status, message.tool_call_id) == ("error", "c0")
            assert message.content.startswith("refused: not_guarded")
        assert ran == []


def test_only_an_enforcer_is_taken(watching: LangChainInstrumentor) -> None:
    """Something else is a mistake of the program."""
    with pytest.raises(TypeError, match="Enforcer"):
        watching.instrument(enforcer="evidence")


def test_the_entry_point_names_it() -> None:
    """opentelemetry-instrument finds it by the group of instrumentors."""
    (found,) = entry_points(group="opentelemetry_instrumentor", name="agent_identity")
    assert found.load() is AgentIdentityInstrumentor


def test_zero_code_leaves_langchain_alone_until_it_is_imported(tmp_path: Path) -> None:
    """A program without a word of ours is watched in the directory that the environment names, to its last record."""
    program = textwrap.dedent(
        """
        import sys
        from agent_identity.integrations.langchain_instrumentor import LangChainInstrumentor
        assert not LangChainInstrumentor().instrument()
        assert not any(name.startswith("langchain") for name in sys.modules), "imported too early"
        from langchain_core.tools import tool

        @tool
        def find(q: str) -> str:
            "Find."
            return "found " + q

        print(find.invoke({"q": "a"}))
        """
    )
    environment = {"AGENT_IDENTITY_DIR": str(tmp_path / "seen"), "PATH": ""}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=True, cwd=tmp_path
    )
    assert done.stdout == "found a\n"
    command = [sys.executable, "-m", "agent_identity", "show", str(tmp_path / "seen")]
    shown = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "find" in shown.stdout + shown.stderr


@pytest.mark.parametrize("module", ["base", "simple", "structured"])
def test_each_module_of_tools_may_be_imported_first(module: str) -> None:
    """Patching imports nothing of LangChain, of which a module may be half imported at that time."""
    program = textwrap.dedent(
        f"""
        from agent_identity.integrations.langchain_instrumentor import LangChainInstrumentor
        LangChainInstrumentor().instrument()
        import langchain_core.tools.{module}
        """
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


async def test_guarded_tools_are_left_to_their_guard(
    desk: Any, open_desk: Any, watching: LangChainInstrumentor
) -> None:
    """A protected tool is judged by its own enforcer, and the instrumentor's has no record of it."""
    made = protect(make(), desk.enforcer)
    other = open_desk(mode="monitor")
    watching.instrument(enforcer=other.enforcer)
    with desk.task("find"):
        made.invoke({"q": "a"})
        await made.ainvoke({"q": "a"})
    assert (desk.outcomes(), other.records()) == (["success", "success"], [])


async def test_its_own_evidence_is_closed_with_it(
    watching: LangChainInstrumentor, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Without an enforcer it opens the directory that the environment names, enforces if told, and closes it."""
    monkeypatch.setenv("AGENT_IDENTITY_DIR", str(tmp_path / "own"))
    monkeypatch.setenv("AGENT_IDENTITY_MODE", "enforce")
    watching.instrument()
    assert not (tmp_path / "own").exists()
    made = make()
    with pytest.raises(Denied) as caught:
        await made.ainvoke({"q": "a"})
    assert (caught.value.code, ran) == ("no_task", [])
    watching.uninstrument()
    with Enforcer.open(tmp_path / "own") as again:
        assert again.current_task is None
    assert await made.ainvoke({"q": "a"}) == "found a"


def test_an_end_before_langchain_is_imported_leaves_it_alone() -> None:
    """A hook that runs after uninstrument patches nothing."""
    before = BaseTool.run
    watch = LangChainPatches(EnforcerSource())
    watch.end()
    watch.patch(sys.modules["langchain_core.tools.base"])
    assert BaseTool.run is before
