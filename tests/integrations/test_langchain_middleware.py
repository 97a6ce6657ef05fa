"""AgentIdentityMiddleware: one line guards an agent, and leaves the tools as they were."""

import functools
import logging
from collections import OrderedDict
from typing import Annotated, Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware, ToolRetryMiddleware, wrap_tool_call
from langchain.tools import ToolRuntime
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import BaseTool, InjectedToolCallId, StructuredTool, tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.errors import ParentCommand
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Command, interrupt
from pydantic import PrivateAttr

from agent_identity import Agent, Effect, Finding, Human, Rule, RuleSet, Scope
from agent_identity.approvals import Approval
from agent_identity.constraints import Contains
from agent_identity.errors import ConfigurationError, Denied
from agent_identity.integrations.langchain import acting_agents as handoffs
from agent_identity.integrations.langchain.guarded_copies import ToolProxies
from agent_identity.integrations.langchain.middleware import AgentIdentityMiddleware
from agent_identity.integrations.langchain.protection import is_protected, protect
from agent_identity.policy import Content

ran: list[Any] = []
HELPER = Agent("helper", owner="finance@example.com")
FIRST = Agent("first", owner="finance@example.com")
QUESTION: Any = {"messages": [HumanMessage("go")]}


@pytest.fixture(autouse=True)
def _forget() -> None:
    ran.clear()


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


def calls(*named: tuple[str, dict[str, Any]]) -> AIMessage:
    """Return the message of a model that calls tools; their ids are c0, c1 and so on."""
    return AIMessage("", tool_calls=[{"name": n, "args": a, "id": f"c{i}"} for i, (n, a) in enumerate(named)])


def agent(desk: Any, tools: list[Any], *script: AIMessage, before: Any = (), after: Any = (), **options: Any) -> Any:
    """Return an agent with a scripted model behind the middleware."""
    ours = AgentIdentityMiddleware(desk.enforcer, **options)
    return create_agent(ScriptedModel(script=[*script, AIMessage("done")]), tools, middleware=[*before, ours, *after])


def answers(result: Any) -> list[ToolMessage]:
    """Return the tool messages of a result."""
    return [message for message in result["messages"] if isinstance(message, ToolMessage)]


@tool
def find(q: str) -> str:
    """Find."""
    ran.append(q)
    return f"found {q}"


@tool
async def afind(q: str) -> str:
    """Find."""
    ran.append(q)
    return f"found {q}"


class Counting(BaseTool):
    """A tool that runs by its class, and remembers."""

    name: str = "find"
    description: str = "Find."
    count: int = 0
    _seen: list[str] = PrivateAttr(default_factory=list)

    def _run(self, q: str) -> str:
        self.count += 1
        self._seen.append(q)
        ran.append(q)
        return f"found {q}"


def test_one_line_guards_every_call_and_no_tool_for_good(desk: Any) -> None:
    """One decision, one intent, one outcome, one span for each call; the tool stays bare; the run goes on."""
    function = find.func  # type: ignore[attr-defined]
    made = agent(desk, [find], calls(("find", {"q": "b"}), ("find", {"q": "a"})))
    with desk.task("find", q="a"):
        refused, found = answers(made.invoke(QUESTION))
    assert (refused.status, refused.tool_call_id, refused.name) == ("error", "c0", "find")
    assert str(refused.content).startswith("refused: argument_out_of_scope (reference ")
    assert (found.status, found.content) == ("success", "found a")
    assert ran == ["a"]
    assert sorted(desk.outcomes()) == ["denied", "success"]
    assert find.func is function  # type: ignore[attr-defined]
    assert not is_protected(find)
    assert find.invoke({"q": "c"}) == "found c"
    assert len(desk.spans()) == 2


async def test_async_runs_are_guarded_alike(desk: Any) -> None:
    """Async tools and sync ones in one async run, at the same time."""
    made = agent(desk, [find, afind], calls(("find", {"q": "a"}), ("afind", {"q": "b"}), ("afind", {"q": "c"})))
    async with desk.task_for(Scope("find", q="a") | Scope("afind", q="b")):
        messages = answers(await made.ainvoke(QUESTION))
    assert [message.status for message in messages] == ["success", "success", "error"]
    assert sorted(ran) == ["a", "b"]
    assert sorted(desk.outcomes()) == ["denied", "success", "success"]


def test_a_run_outside_any_task_is_refused_and_goes_on(desk: Any) -> None:
    """Without a task nothing runs, and the model is told so."""
    (message,) = answers(agent(desk, [find], calls(("find", {"q": "a"}))).invoke(QUESTION))
    assert str(message.content).startswith("refused: no_task")
    assert ran == []
    assert desk.outcomes() == ["denied"]


def test_protected_tools_are_judged_once(desk: Any) -> None:
    """Protect and the middleware together are one decision; so is enforcer.tool below @tool."""

    @tool
    def held(q: str) -> str:
        """Find."""
        ran.append(q)
        return "held"

    own = tool(desk.enforcer.tool(find.func, name="find"))  # type: ignore[attr-defined]
    own.name = "find"
    protect(held, desk.enforcer)
    made = agent(desk, [held, own], calls(("held", {"q": "a"}), ("find", {"q": "a"}), ("find", {"q": "b"})))
    with desk.task_for(Scope("held", q="a") | Scope("find", q="a")):
        messages = answers(made.invoke(QUESTION))
    assert [message.status for message in messages] == ["success", "success", "error"]
    assert sorted(desk.outcomes()) == ["denied", "success", "success"]
    assert is_protected(held)


def test_tools_keep_their_state(desk: Any) -> None:
    """A tool that counts its calls counts those under guard, in its fields and in its private attributes."""
    counting = Counting()
    made = agent(desk, [counting], calls(("find", {"q": "a"}), ("find", {"q": "b"})))
    with desk.task("find"):
        made.invoke(QUESTION)
    assert (counting.count, sorted(counting._seen)) == (2, ["a", "b"])
    assert desk.outcomes() == ["success", "success"]


def test_changed_tools_are_guarded_as_they_are_now(desk: Any) -> None:
    """What is put in the place of a tool's function is what runs, under guard."""

    @tool
    def changing(q: str) -> str:
        """Find."""
        ran.append("old")
        return "old"

    def new(q: str) -> str:
        ran.append("new")
        return "new"

    made = agent(desk, [changing], calls(("changing", {"q": "a"})))
    with desk.task("changing"):
        made.invoke(QUESTION)
        changing.func = new  # type: ignore[attr-defined]
        made.invoke(QUESTION)
    assert ran == ["old", "new"]
    assert desk.outcomes() == ["success", "success"]


def test_tools_that_do_not_exist_are_refused_and_recorded(desk: Any) -> None:
    """A hallucinated name is judged; even if it is granted, the call is an error and no success."""
    made = agent(
        desk, [find], calls(("wipe", {"path": "/"}), ("absent", {}), ("x" * 300, {"q": 1}), ("find", {"q": "a"}))
    )
    with desk.task_for(Scope("find") | Scope("absent")):
        messages = answers(made.invoke(QUESTION))
    assert [message.status for message in messages] == ["error", "error", "error", "success"]
    assert str(messages[0].content).startswith("refused: tool_not_granted")
    assert [message.tool_call_id for message in messages] == ["c0", "c1", "c2", "c3"]
    assert sorted(desk.outcomes()) == ["denied", "denied", "error", "success"]
    tools = sorted(record["action"]["tool"] for record in desk.records() if record["kind"] == "outcome")
    assert tools == ["absent", "find", "unnamed_tool", "wipe"]


@pytest.mark.parametrize("inner", [True, False])
def test_a_retry_is_a_call_of_its_own(desk: Any, inner: bool) -> None:
    """One call per attempt, wherever the retrying middleware stands."""

    @tool
    def flaky(q: str) -> str:
        """Fail at first."""
        ran.append(q)
        if len(ran) < 3:
            raise ValueError("not yet")
        return "at last"

    retry = ToolRetryMiddleware(max_retries=3, initial_delay=0, jitter=False)
    place: Any = {"after": [retry]} if inner else {"before": [retry]}
    made = agent(desk, [flaky], calls(("flaky", {"q": "a"})), **place)
    with desk.task("flaky"):
        (message,) = answers(made.invoke(QUESTION))
    assert message.content == "at last"
    assert desk.outcomes() == ["error", "error", "success"]


def test_tools_of_another_enforcer_stop_the_run(desk: Any, open_desk: Any) -> None:
    """Two enforcers on one tool are an error of the program, found before the model is asked."""

    @tool
    def theirs() -> str:
        """Run."""
        return "ran"

    protect(theirs, open_desk().enforcer)
    with desk.task("theirs"), pytest.raises(ConfigurationError, match="unprotect"):
        agent(desk, [theirs], calls(("theirs", {}))).invoke(QUESTION)


def test_provider_tools_are_named(desk: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Tools that nobody can guard are told once, and kept for who asks."""
    ours = AgentIdentityMiddleware(desk.enforcer)
    offered = [find, {"type": "web_search_preview"}, {"type": "function", "function": {"name": "remote"}}]
    made = create_agent(ScriptedModel(script=[AIMessage("done")]), offered, middleware=[ours])
    with caplog.at_level(logging.WARNING, logger="agent_identity"):
        made.invoke(QUESTION)
        made.invoke(QUESTION)
    assert ours.provider_tools == ("remote", "web_search_preview")
    assert [record.getMessage().count("web_search_preview") for record in caplog.records].count(1) == 1


# --- Sub-agents and handoffs ----------------------------------------------------------------------


def test_calls_of_a_named_agent_run_under_delegated_authority(desk: Any) -> None:
    """The record names who acts and the human at the start; the delegation ends with the call."""
    made = agent(
        desk, [find], calls(("find", {"q": "a"}), ("find", {"q": "b"})), agent=HELPER, scope=Scope("find", q="a")
    )
    with desk.task("find") as task:
        messages = answers(made.invoke(QUESTION))
        assert desk.enforcer.current_task is task
    assert [message.status for message in messages] == ["success", "error"]
    for record in desk.records():
        assert record["agent"]["id"] == "helper"
        assert [link["id"] for link in record["chain"]] == ["clerk", "helper"]
        assert record["principal"]["id"] == "alice@example.com"


async def test_async_calls_of_a_named_agent_run_under_delegated_authority(desk: Any) -> None:
    """The async path delegates the same; by default all that the task covers."""
    made = agent(desk, [afind], calls(("afind", {"q": "a"})), agent=HELPER)
    async with desk.task("afind"):
        await made.ainvoke(QUESTION)
    assert {record["agent"]["id"] for record in desk.records()} == {"helper"}


def test_a_call_of_a_named_agent_runs_once_a_person_approved_it(open_desk: Any) -> None:
    """The model asks again, and each attempt is delegated anew; the approval is of the call."""
    policy = RuleSet(Rule(Effect.ROUTE, tools="find", reason="two people decide", id="four-eyes", to="person"))
    desk = open_desk(policy=policy, routes={"person": Approval()})
    asked = calls(("find", {"q": "a"}))
    made = agent(desk, [find], asked, agent=HELPER)
    with desk.task("find"):
        (message,) = answers(made.invoke(QUESTION))
        assert (message.status, ran) == ("error", [])
        with desk.enforcer.no_task():
            (request,) = desk.enforcer.approvals.pending()
            desk.enforcer.approvals.approve(request.id, by=Human("bob@example.com"))
        (message,) = answers(made.invoke(QUESTION))
        assert (message.status, ran) == ("success", ["a"])


def test_more_than_the_task_covers_is_refused_and_recorded(desk: Any) -> None:
    """A scope that the task does not hold cannot be handed to a sub-agent; the run goes on."""
    made = agent(desk, [find], calls(("find", {"q": "a"})), agent=HELPER, scope=Scope("find"))
    with desk.task("find", q="a"):
        (message,) = answers(made.invoke(QUESTION))
    assert message.status == "error"
    assert ran == []
    assert desk.outcomes() == ["denied", "denied"]
    assert [record["action"]["tool"] for record in desk.records()] == ["invoke_agent", "find"]
    assert all(record["principal"]["id"] == "alice@example.com" for record in desk.records())


def test_monitor_mode_stops_nothing(open_desk: Any) -> None:
    """A delegation that cannot be made is refused and left out; what else would be refused is recorded and runs."""
    desk = open_desk(mode="monitor")
    made = agent(
        desk, [find], calls(("find", {"q": "a"}), ("absent", {})), agent=HELPER, scope=Scope("find"), model="chat"
    )
    with desk.task("find", q="b"):
        result = made.invoke(QUESTION)
    assert [message.status for message in answers(result)] == ["success", "error"]
    assert result["messages"][-1].content == "done"
    assert ran == ["a"]
    openings = [record for record in desk.records() if record["action"]["tool"] == "invoke_agent"]
    assert {(r["outcome"], r["decision"]["reason"]) for r in openings} == {("denied", "argument_not_attenuated")}
    others = [record for record in desk.records() if record["action"]["tool"] != "invoke_agent"]
    outcomes = [record["outcome"] for record in others if record["kind"] == "outcome"]
    assert sorted(outcomes) == ["error", "success", "success", "success"]
    assert {record["decision"]["enforced"] for record in others} == {"audit"}


async def test_monitor_mode_stops_no_async_call(open_desk: Any) -> None:
    """The async path leaves the delegation out alike."""
    desk = open_desk(mode="monitor")
    made = agent(desk, [afind], calls(("afind", {"q": "a"})), agent=HELPER, scope=Scope("find"))
    async with desk.task("afind", q="b"):
        await made.ainvoke(QUESTION)
    assert (ran, desk.outcomes()) == (["a"], ["denied", "success"])


@pytest.mark.parametrize("error", [ValueError("broken"), KeyboardInterrupt(), Denied("no", code="theirs")])
def test_a_call_of_what_does_not_exist_ends_with_its_exception(desk: Any, error: BaseException) -> None:
    """Middleware further in may know the tool, and fail: the intent gets its outcome."""

    @wrap_tool_call
    def failing(request: Any, handler: Any) -> Any:
        raise error

    made = agent(desk, [find], calls(("absent", {})), after=[failing])
    with desk.task("absent"), pytest.raises(type(error)):
        made.invoke(QUESTION)
    assert len(desk.outcomes()) == 1


def test_middleware_further_in_may_know_the_tool(desk: Any) -> None:
    """A granted name that the agent lacks may get an answer, which is on record as that of no guarded tool."""

    @wrap_tool_call
    def knowing(request: Any, handler: Any) -> Any:
        return ToolMessage("known", tool_call_id=request.tool_call["id"])

    made = agent(desk, [find], calls(("absent", {})), after=[knowing])
    with desk.task("absent"):
        assert answers(made.invoke(QUESTION))[0].content == "known"
    assert desk.outcomes() == ["error"]
    assert desk.records()[-1]["error"] == "AnsweredInPlace"


def test_a_refusal_inside_the_tool_is_not_the_tools(desk: Any) -> None:
    """What the body of a tool lets through is an exception of the body, as it is with protect."""

    @tool
    def outer(q: str) -> str:
        """Call another."""
        return str(protect(find.model_copy(), desk.enforcer).invoke({"q": q}))

    with desk.task("outer"), pytest.raises(Denied):
        agent(desk, [outer], calls(("outer", {"q": "a"}))).invoke(QUESTION)
    assert desk.outcomes() == ["denied", "error"]


def test_a_scope_needs_an_agent(desk: Any) -> None:
    """A scope that is delegated to nobody is a mistake."""
    with pytest.raises(TypeError, match="agent="):
        AgentIdentityMiddleware(desk.enforcer, scope=Scope("find"))


@tool
def hand_over(runtime: ToolRuntime, call_id: Annotated[str, InjectedToolCallId]) -> Command[Any]:
    """Hand over."""
    done = ToolMessage("handed over", tool_call_id=call_id)
    return Command(goto="second", graph=Command.PARENT, update={"messages": [*runtime.state["messages"], done]})


@tool
def leave() -> str:
    """Hand over by leaving."""
    raise ParentCommand(Command(goto="second", graph=Command.PARENT))


@pytest.mark.parametrize("how", [hand_over, leave])
def test_ac_39_the_chain_follows_a_handoff(desk: Any, how: BaseTool) -> None:
    """Whoever gets the work by Command(goto, graph=PARENT) acts under a chain that names who gave it."""
    graph: Any = StateGraph(MessagesState)
    graph.add_node("first", agent(desk, [how], calls((how.name, {})), agent=FIRST), destinations=("second",))
    second = create_agent(
        ScriptedModel(script=[AIMessage(""), calls(("find", {"q": "a"})), AIMessage("done")][how is leave :]),
        [find],
        middleware=[AgentIdentityMiddleware(desk.enforcer, agent=HELPER, scope=Scope("find"))],
    )
    graph.add_node("second", second)
    graph.add_edge(START, "first")
    with desk.task("find", how.name):
        graph.compile().invoke(QUESTION)
    assert ran == ["a"]
    assert desk.outcomes() == ["success", "success"]
    chains = {r["action"]["tool"]: [link["id"] for link in r["chain"]] for r in desk.records()}
    assert chains == {how.name: ["clerk", "first"], "find": ["clerk", "first", "helper"]}
    assert not any("error" in record for record in desk.records())


class Finder(ScriptedModel):
    """A model that asks the user, finds what it was told, and is done."""

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        said = {message.name for message in messages if isinstance(message, ToolMessage)}
        todo = [message for name, message in zip(("ask", "find"), self.script, strict=False) if name not in said]
        return ChatResult(generations=[ChatGeneration(message=[*todo, AIMessage("done")][0])])


@tool
def ask(q: str) -> str:
    """Ask."""
    return str(interrupt(q))


ASK_THEN_FIND = (calls(("ask", {"q": "may I?"})), calls(("find", {"q": "a"})))


def handing_over(desk: Any, **scopes: Scope) -> Any:
    """Return a graph of agents that hand over to one that asks, and then finds with all that it is given."""
    graph: Any = StateGraph(MessagesState)
    for name, scope in scopes.items():
        giver = agent(
            desk, [hand_over], calls(("hand_over", {})), agent=Agent(name, owner="o@example.com"), scope=scope
        )
        graph.add_node(name, giver, destinations=("second",))
        graph.add_edge(START, name)
    ours = AgentIdentityMiddleware(desk.enforcer, agent=HELPER)
    graph.add_node("second", create_agent(Finder(script=list(ASK_THEN_FIND)), [ask, find], middleware=[ours]))
    return graph.compile(checkpointer=InMemorySaver())


NARROW = Scope("hand_over") | Scope("ask")


@pytest.mark.parametrize("wide_first", [True, False])
def test_ac_39_work_of_a_narrow_agent_gets_nothing_by_what_another_hands_over(desk: Any, wide_first: bool) -> None:
    """Where several agents hand over to one node it has what all of them could give, whoever was later."""
    scopes = {"narrow": NARROW, "wide": NARROW | Scope("find")}
    graph = handing_over(desk, **dict(sorted(scopes.items(), reverse=wide_first)))
    config: Any = {"configurable": {"thread_id": "1"}}
    with desk.task("hand_over", "ask", "find"):
        graph.invoke(QUESTION, config)
        graph.invoke(Command(resume="yes"), config)
    assert ran == []
    last = desk.records()[-1]
    assert (last["action"]["tool"], last["outcome"]) == ("find", "denied")


@pytest.mark.parametrize(("scope", "done"), [(NARROW, []), (NARROW | Scope("find"), ["a"])])
def test_ac_39_a_resume_under_a_new_task_is_not_free_of_who_handed_over(
    desk: Any, scope: Scope, done: list[str]
) -> None:
    """Suspended work goes on through the hands that it came through, also in a task that is opened anew."""
    graph = handing_over(desk, first=scope)
    config: Any = {"configurable": {"thread_id": "1"}}
    with desk.task("hand_over", "ask", "find"):
        graph.invoke(QUESTION, config)
    with desk.task("hand_over", "ask", "find"):
        graph.invoke(Command(resume="yes"), config)
    assert ran == done
    chain = [link["id"] for link in desk.records()[-1]["chain"]]
    assert chain[:2] == ["clerk", "first"]


def test_only_so_many_runs_are_remembered(desk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was handed over is remembered for a bounded number of runs, the latest."""
    monkeypatch.setattr(handoffs, "_RUNS", OrderedDict())
    monkeypatch.setattr(handoffs, "_MAX_RUNS", 1)
    graph = handing_over(desk, first=NARROW)
    with desk.task("hand_over", "ask", "find"):
        for thread in "12":
            graph.invoke(QUESTION, {"configurable": {"thread_id": thread}})
    assert [run.partition("|")[0] for run in handoffs._RUNS] == ["2"]


# --- Model calls ----------------------------------------------------------------------------------


class Words:
    """Finds a word."""

    name = "words"

    def inspect(self, content: Content) -> tuple[Finding, ...]:
        """Find the word in whatever it is."""
        return (Finding(category="word", inspector=self.name),) if "classified" in repr(content.value) else ()


BLOCKING = RuleSet(Rule(Effect.BLOCK, tools="chat", when={"findings.categories": Contains("word")}, reason="no words"))


def thinking(desk: Any, answer: str) -> Any:
    """Return an agent whose model calls are looked at."""
    return create_agent(
        ScriptedModel(script=[AIMessage(answer)]),
        [find],
        middleware=[AgentIdentityMiddleware(desk.enforcer, model="chat")],
    )


def test_model_calls_are_judged_and_recorded(open_desk: Any) -> None:
    """A model call is one intent and one outcome, with what inspectors found."""
    desk = open_desk(inspectors=(Words(),))
    with desk.task("chat"):
        result = thinking(desk, "this is classified").invoke(QUESTION)
    assert result["messages"][-1].content == "this is classified"
    intent, outcome = desk.records()
    assert outcome["action"]["kind"] == "model"
    assert outcome["findings"] == ["word"]
    assert "findings" not in intent
    assert desk.outcomes() == ["success"]


async def test_a_model_call_without_a_grant_is_refused(desk: Any) -> None:
    """The name of the model call must be in the scope; the run ends with the refusal as the answer."""
    async with desk.task("find"):
        result = await thinking(desk, "hello").ainvoke(QUESTION)
    assert result["messages"][-1].content.startswith("refused: tool_not_granted (reference ")
    assert desk.outcomes() == ["denied"]


@pytest.mark.parametrize(
    "question",
    [
        HumanMessage("q", name="classified"),
        HumanMessage("q", additional_kwargs={"note": {"deep": ["classified"]}}),
        HumanMessage([{"type": "image_url", "image_url": {"url": "https://classified.example"}}]),
        AIMessage("q", response_metadata={"previous": "classified"}),
        AIMessage("", tool_calls=[{"name": "find", "args": {}, "id": "classified"}]),
        AIMessage("", invalid_tool_calls=[{"name": "find", "args": "{classified", "id": "1", "error": None}]),
        SystemMessage([{"type": "text", "text": "classified"}]),
    ],
    ids=["name", "kwargs", "block", "metadata", "call id", "invalid call", "system"],
)
def test_all_that_is_sent_is_looked_at(open_desk: Any, question: BaseMessage) -> None:
    """Wherever in a message a word stands that integrations send, it does not reach the model."""
    desk = open_desk(inspectors=(Words(),), policy=BLOCKING)
    with desk.task("chat"):
        if isinstance(question, SystemMessage):
            agent = create_agent(
                ScriptedModel(script=[AIMessage("hello")]),
                [find],
                system_prompt=question,
                middleware=[AgentIdentityMiddleware(desk.enforcer, model="chat")],
            )
            result = agent.invoke(QUESTION)
        else:
            result = thinking(desk, "hello").invoke({"messages": [question, HumanMessage("go on")]})
    assert result["messages"][-1].content.startswith("refused: policy_blocks (reference ")


def test_tools_and_settings_are_sent_as_well(open_desk: Any) -> None:
    """What the model is told of the tools goes out with each call; what never leaves is not held against it."""
    seen: list[Any] = []

    class Keeps(Words):
        def inspect(self, content: Content) -> tuple[Finding, ...]:
            seen.append(content.value)
            return super().inspect(content)

    class Settings(AgentMiddleware):
        def wrap_model_call(self, request: Any, handler: Any) -> Any:
            return handler(request.override(model_settings={"user": "u-1", "odd": object()}))

    desk = open_desk(inspectors=(Keeps(),), policy=BLOCKING)
    answered = ToolMessage("done", tool_call_id="1", artifact={"stays": "classified"})
    history = [HumanMessage("q"), AIMessage("", tool_calls=[{"name": "find", "args": {"q": "a"}, "id": "1"}]), answered]
    agent = create_agent(
        ScriptedModel(script=[AIMessage(""), AIMessage("hello", additional_kwargs={"reasoning_content": "hm"})]),
        [find, {"type": "web_search"}],
        middleware=[Settings(), AgentIdentityMiddleware(desk.enforcer, model="chat")],
    )
    with desk.task("chat"):
        assert agent.invoke({"messages": history})["messages"][-1].content == "hello"
    sent, came = seen
    described, provided = sent["tools"]
    assert (described["function"]["name"], described["function"]["description"]) == ("find", find.description)
    assert described["function"]["parameters"]["properties"].keys() == {"q"}
    assert provided == {"type": "web_search"}
    assert sent["model_settings"]["user"] == "u-1"
    assert sent["messages"][2]["tool_call_id"] == "1"
    assert came[0]["additional_kwargs"] == {"reasoning_content": "hm"}


def test_the_policy_withholds_an_answer(open_desk: Any) -> None:
    """A blocked answer never reaches the run; what is said instead names the record."""
    desk = open_desk(inspectors=(Words(),), policy=BLOCKING)
    with desk.task("chat"):
        result = thinking(desk, "this is classified").invoke(QUESTION)
    assert result["messages"][-1].content.startswith("refused: content_blocked (reference ")
    assert "classified" not in result["messages"][-1].content
    assert desk.outcomes() == ["denied"]
    assert [record["kind"] for record in desk.records()] == ["intent", "outcome"]


def test_the_policy_keeps_a_question_from_the_model(open_desk: Any) -> None:
    """A blocked question is not asked: the model does not run."""
    desk = open_desk(inspectors=(Words(),), policy=BLOCKING)
    with desk.task("chat"):
        result = thinking(desk, "hello").invoke({"messages": [HumanMessage("this is classified")]})
    assert result["messages"][-1].content.startswith("refused: policy_blocks (reference ")
    assert [record["kind"] for record in desk.records()] == ["outcome"]


async def test_text_that_was_streamed_before_it_was_looked_at_says_so(open_desk: Any) -> None:
    """Where tokens may have reached their reader, the record and the policy know it by the kind of the call."""
    desk = open_desk()
    with desk.task("chat"):
        list(thinking(desk, "this is classified").stream(QUESTION, stream_mode="messages"))
    async with desk.task("chat"):
        async for _event in thinking(desk, "hello").astream_events(QUESTION, version="v2"):
            pass
    assert {record["action"]["kind"] for record in desk.records()} == {"streamed_model"}
    refuse = RuleSet(Rule(Effect.BLOCK, when={"tool.kind": "streamed_model"}, reason="no streams"))
    strict = open_desk(policy=refuse)
    with strict.task("chat"):
        list(thinking(strict, "hello").stream(QUESTION, stream_mode="messages"))
        thinking(strict, "hello").invoke(QUESTION)
    assert sorted(strict.outcomes()) == ["denied", "success"]


async def test_a_refusal_of_something_else_is_the_models_error(desk: Any) -> None:
    """What is refused inside the model, as by a guarded client, is no answer of the model; it is raised."""

    class Failing(ScriptedModel):
        def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
            raise Denied("no", code="theirs")

    made = create_agent(Failing(script=[]), [], middleware=[AgentIdentityMiddleware(desk.enforcer, model="chat")])
    async with desk.task("chat"):
        with pytest.raises(Denied, match="no"):
            made.invoke(QUESTION)
        with pytest.raises(Denied, match="no"):
            await made.ainvoke(QUESTION)
    assert desk.outcomes() == ["error", "error"]


def test_twins_are_few_and_follow_their_tool(desk: Any) -> None:
    """A twin is kept until its tool is another; of many tools only so many are kept."""
    asked: list[str] = []
    twins = ToolProxies(desk.enforcer, lambda tool: asked.append(tool.name))
    counting = Counting()
    assert twins.of(counting) is twins.of(counting)

    class Other(Counting):
        pass

    first = twins.of(counting)
    object.__setattr__(counting, "__class__", Other)
    assert isinstance(twins.of(counting), Other)
    assert twins.of(counting) is not first
    others = [Counting(name=f"t{n}") for n in range(300)]
    for other in others:
        twins.of(other)
    assert len(twins._known) <= 256
    assert len(asked) == 302


class OwnWay(StructuredTool):
    """A tool whose class runs something else than its function."""

    def _run(self, *args: Any, config: RunnableConfig, run_manager: Any = None, **kwargs: Any) -> Any:
        ran.append("own way")
        return "done"


def around(desk: Any, way: str) -> BaseTool:
    """Return a tool that looks guarded, since it carries what a guarded function carries, and can run without."""

    @desk.enforcer.tool(name="find")
    def guarded(q: str) -> str:
        """Find."""
        ran.append(q)
        return f"found {q}"

    @functools.wraps(guarded)
    def renamed(q: str) -> str:
        ran.append(q)
        return "done"

    functions = {"class": guarded, "wraps": renamed, "cache": functools.lru_cache(guarded)}
    kind = OwnWay if way == "class" else StructuredTool
    return kind.from_function(functions[way], name="find", description="Find.")


@pytest.mark.parametrize("way", ["class", "wraps", "cache"])
def test_what_only_looks_guarded_does_not_run(desk: Any, way: str) -> None:
    """An attribute of a guarded function proves nothing: what stands round it, or beside it, is refused."""
    made = around(desk, way)
    assert not is_protected(made)
    with pytest.raises(ConfigurationError, match="guarded already"):
        agent(desk, [made], calls(("find", {"q": "a"}))).invoke(QUESTION)
    assert ran == []


def test_a_function_or_method_that_the_enforcer_guards_is_left_alone(desk: Any) -> None:
    """One guard, one decision: also where the tool holds a bound method."""

    class Shelf:
        @desk.enforcer.tool(name="find")
        def find(self, q: str) -> str:
            """Find."""
            ran.append(q)
            return f"found {q}"

    made = StructuredTool.from_function(Shelf().find, name="find", description="Find.")
    assert is_protected(made)
    with desk.task("find"):
        (found,) = answers(agent(desk, [made], calls(("find", {"q": "a"}))).invoke(QUESTION))
    assert (found.content, ran) == ("found a", ["a"])
    assert [record["kind"] for record in desk.records()].count("intent") == 1
