"""Guarded tools inside agents: create_agent, ToolNode, interrupts, handoffs and injected state."""

import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any

import pytest
from langchain.agents import create_agent
from langchain.agents.structured_output import ToolStrategy
from langchain.tools import ToolRuntime
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool, InjectedToolArg, InjectedToolCallId, StructuredTool, tool
from langchain_core.utils.function_calling import convert_to_openai_tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.errors import GraphBubbleUp, ParentCommand
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import InjectedState, InjectedStore, ToolNode
from langgraph.store.memory import InMemoryStore
from langgraph.types import Command, Send, interrupt
from pydantic import BaseModel

from agent_identity import Agent, Effect, Human, Rule, RuleSet, Scope
from agent_identity.constraints import OneOf, Range, Subset
from agent_identity.errors import Denied
from agent_identity.integrations.langchain import bind_stream
from agent_identity.integrations.langchain.middleware import AgentIdentityMiddleware
from agent_identity.integrations.langchain.protection import protect

ran: list[Any] = []


@pytest.fixture(autouse=True)
def _forget() -> None:
    ran.clear()


class ScriptedModel(BaseChatModel):
    """A chat model that answers from a script, by how often it has answered before."""

    script: list[AIMessage]
    bound: list[Any] = []  # noqa: RUF012  Pydantic copies defaults.

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> Runnable[Any, Any]:
        """Keep the tools that the model was offered."""
        self.bound.extend(tools)
        return self

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        answered = sum(isinstance(message, AIMessage) for message in messages)
        return ChatResult(generations=[ChatGeneration(message=self.script[answered])])


def calls(*named: tuple[str, dict[str, Any]]) -> AIMessage:
    """Return the message of a model that calls tools; their ids are c0, c1 and so on."""
    made = [{"name": name, "args": args, "id": f"c{n}"} for n, (name, args) in enumerate(named)]
    return AIMessage("", tool_calls=made)


def agent(tools: Sequence[BaseTool], *script: AIMessage, **options: Any) -> Any:
    """Return an agent with a scripted model."""
    return create_agent(ScriptedModel(script=[*script, AIMessage("done")]), tools=list(tools), **options)


QUESTION: Any = {"messages": [HumanMessage("go")]}


def make_find() -> BaseTool:
    """Return a fresh tool."""

    @tool
    def find(q: str) -> str:
        """Find."""
        ran.append(q)
        return f"found {q}"

    return find


def make_afind() -> BaseTool:
    """Return a fresh async tool."""

    @tool
    async def find(q: str) -> str:
        """Find."""
        ran.append(q)
        return f"found {q}"

    return find


def tool_messages(result: Any) -> list[ToolMessage]:
    """Return the tool messages of an agent's result."""
    return [message for message in result["messages"] if isinstance(message, ToolMessage)]


def test_an_agent_goes_on_after_a_denial(desk: Any) -> None:
    """The refused call is answered with a message, the allowed one runs, the agent finishes."""
    made = agent([protect(make_find(), desk.enforcer)], calls(("find", {"q": "b"}), ("find", {"q": "a"})))
    with desk.task("find", q="a"):
        result = made.invoke(QUESTION)
    refused, found = tool_messages(result)
    assert (refused.status, refused.tool_call_id, refused.name) == ("error", "c0", "find")
    assert str(refused.content).startswith("refused: argument_out_of_scope (reference ")
    assert (found.status, found.content) == ("success", "found a")
    assert result["messages"][-1].content == "done"
    assert ran == ["a"]
    assert sorted(desk.outcomes()) == ["denied", "success"]
    assert sorted(record["action"]["call"] for record in desk.records()) == ["c0", "c1", "c1"]
    assert len(desk.spans()) == 2


@pytest.mark.parametrize("make", [make_find, make_afind])
async def test_an_async_agent_goes_on_after_a_denial(desk: Any, make: Any) -> None:
    """The async paths answer the same, for sync tools and async ones."""
    made = agent([protect(make(), desk.enforcer)], calls(("find", {"q": "b"}), ("find", {"q": "a"})))
    async with desk.task("find", q="a"):
        result = await made.ainvoke(QUESTION)
    assert [message.status for message in tool_messages(result)] == ["error", "success"]
    assert ran == ["a"]
    assert sorted(desk.outcomes()) == ["denied", "success"]


async def test_streamed_agents_are_guarded(desk: Any) -> None:
    """Streaming runs tools under the task in which it is consumed, one decision per call."""
    made = agent([protect(make_afind(), desk.enforcer)], calls(("find", {"q": "a"})))
    async with desk.task("find", q="a"):
        updates = [update async for update in made.astream(QUESTION, stream_mode="updates")]
    assert any("tools" in update for update in updates)
    assert desk.outcomes() == ["success"]


def test_the_model_is_offered_the_same_tools(desk: Any) -> None:
    """Nothing of the guard shows in what a model is told."""
    bare, made = make_find(), protect(make_find(), desk.enforcer)
    model = ScriptedModel(script=[AIMessage("done")])
    create_agent(model, tools=[made]).invoke(QUESTION)
    assert [convert_to_openai_tool(offered) for offered in model.bound] == [convert_to_openai_tool(bare)]


def test_return_direct_ends_the_agent(desk: Any) -> None:
    """A tool that ends the run still ends it, with its result or with the refusal."""
    made = make_find()
    made.return_direct = True
    graph = agent([protect(made, desk.enforcer)], calls(("find", {"q": "a"})))
    with desk.task("find", q="a"):
        assert graph.invoke(QUESTION)["messages"][-1].content == "found a"
    assert graph.invoke(QUESTION)["messages"][-1].status == "error"
    assert ran == ["a"]


def test_sub_agents_are_guarded(desk: Any) -> None:
    """A tool of an agent that is itself a tool of an agent is one call of its own, refused by itself."""
    inner = agent([protect(make_find(), desk.enforcer)], calls(("find", {"q": "b"})))

    @tool
    def ask(topic: str) -> str:
        """Ask the other agent."""
        answers = tool_messages(inner.invoke(QUESTION))
        return str(answers[0].content)

    outer = agent([protect(ask, desk.enforcer)], calls(("ask", {"topic": "x"})))
    with desk.task_for(Scope("ask") | Scope("find", q="a")):
        (message,) = tool_messages(outer.invoke(QUESTION))
    assert str(message.content).startswith("refused: argument_out_of_scope")
    assert message.status == "success"
    assert desk.outcomes() == ["denied", "success"]


# --- ToolNode and what it injects -----------------------------------------------------------------


def node(tools: Sequence[BaseTool], **options: Any) -> Any:
    """Return a graph that is a ToolNode and nothing else."""
    state = options.pop("state", MessagesState)
    graph: Any = StateGraph(state)
    graph.add_node("tools", ToolNode(list(tools), **options.pop("node", {})))
    graph.add_edge(START, "tools")
    return graph.compile(**options)


class UserState(MessagesState):
    """A state with a field of plain JSON."""

    user: str


def test_injected_state_store_and_runtime_need_no_place_in_the_scope(desk: Any) -> None:
    """What ToolNode injects reaches the body by reference; a closed scope need not name it."""

    @tool
    def find(
        q: str,
        state: Annotated[Any, InjectedState],
        store: Annotated[Any, InjectedStore()],
        runtime: ToolRuntime,
        call_id: Annotated[str, InjectedToolCallId],
    ) -> str:
        """Find."""
        ran.append((q, type(state["messages"][0]), type(store), runtime.tool_call_id, call_id))
        return "found"

    graph = node([protect(find, desk.enforcer)], store=InMemoryStore())
    message = calls(("find", {"q": "a"}))
    with desk.task("find", q="a"):
        (answer,) = tool_messages(graph.invoke({"messages": [message]}))
    assert answer.content == "found"
    assert ran == [("a", AIMessage, InMemoryStore, "c0", "c0")]
    assert desk.outcomes() == ["success"]
    assert desk.records()[0]["action"]["names"] == [
        *("call_id:opaque", "q:string", "runtime:opaque", "state:opaque", "store:opaque")
    ]


async def test_a_parameter_named_runtime_is_the_frameworks(desk: Any) -> None:
    """LangGraph injects by this name, as into the tools of MCP adapters; JSON under the name is an argument."""

    async def find(runtime: Any = None, **arguments: Any) -> tuple[str, Any]:
        ran.append((type(runtime), arguments))
        return "found", {"structured": 1}

    schema = {"type": "object", "properties": {"q": {"type": "string"}}}
    made = StructuredTool(
        name="find",
        description="Find.",
        args_schema=schema,
        coroutine=find,
        response_format="content_and_artifact",
    )
    graph = node([protect(made, desk.enforcer)])
    async with desk.task("find", q="a"):
        (answer,) = tool_messages(await graph.ainvoke({"messages": [calls(("find", {"q": "a"}))]}))
        with pytest.raises(Denied, match="'runtime'"):
            await made.ainvoke({"q": "a", "runtime": {"state": {}}})
    assert (answer.content, answer.artifact) == ("found", {"structured": 1})
    assert ran == [(ToolRuntime, {"q": "a"})]


async def test_runtime_tools_run_async_too(desk: Any) -> None:
    """An async body with a runtime is one call."""

    @tool
    async def find(q: str, runtime: ToolRuntime) -> str:
        """Find."""
        ran.append(runtime.state["user"])
        return "found"

    graph = node([protect(find, desk.enforcer)], state=UserState)
    async with desk.task("find", q="a"):
        await graph.ainvoke({"messages": [calls(("find", {"q": "a"}))], "user": "alice"})
    assert ran == ["alice"]
    assert desk.outcomes() == ["success"]


def test_ac_47_forged_state_is_replaced_or_judged(desk: Any) -> None:
    """The policy sees the injected value, not the model's; a field of plain JSON is judged like any argument."""

    @tool
    def find(q: str, user: Annotated[str, InjectedState("user")]) -> str:
        """Find."""
        ran.append(user)
        return "found"

    graph = node([protect(find, desk.enforcer)], state=UserState)
    forged = {"messages": [calls(("find", {"q": "a", "user": "admin"}))], "user": "alice"}
    with desk.task("find", q="a", user="alice"):
        graph.invoke(forged)
    with desk.task("find", q="a", user="admin"):
        (refused,) = tool_messages(graph.invoke(forged))
    with desk.task("find", q="a"):
        (unnamed,) = tool_messages(graph.invoke(forged))
    assert str(refused.content).startswith("refused: argument_out_of_scope")
    assert str(unnamed.content).startswith("refused: argument_not_granted")
    assert ran == ["alice"]


def test_ac_47_a_forged_runtime_is_refused(desk: Any) -> None:
    """JSON in the place of a runtime, outside a ToolNode, does not pass for the framework's."""

    @tool
    def find(q: str, runtime: ToolRuntime) -> str:
        """Find."""
        ran.append(runtime)
        return "found"

    protect(find, desk.enforcer)
    with desk.task("find", q="a"), pytest.raises(Denied, match="'runtime'"):
        find.func("a", runtime={"state": {}})  # type: ignore[attr-defined]
    assert ran == []


@pytest.mark.parametrize("handle", [True, False, "sorry"])
def test_tool_nodes_pass_a_denial_on_however_they_handle_errors(desk: Any, handle: Any) -> None:
    """The refusal is a result and no error of the node, so that its reason is never lost."""
    graph = node([protect(make_find(), desk.enforcer)], node={"handle_tool_errors": handle})
    (answer,) = tool_messages(graph.invoke({"messages": [calls(("find", {"q": "a"}))]}))
    assert str(answer.content).startswith("refused: no_task")


# --- Interrupts and handoffs ----------------------------------------------------------------------


def test_an_interrupt_is_suspended_and_the_resume_is_a_new_call(desk: Any) -> None:
    """A tool that waits for a person is no error; after the resume it runs from its top, with the same id."""

    @tool
    def find(q: str) -> str:
        """Find."""
        answer = interrupt("may I?")
        ran.append(answer)
        return f"found {answer}"

    graph = agent([protect(find, desk.enforcer)], calls(("find", {"q": "a"})), checkpointer=InMemorySaver())
    config = {"configurable": {"thread_id": "1"}}
    with desk.task("find", q="a"):
        waiting = graph.invoke(QUESTION, config)
        assert waiting["__interrupt__"][0].value == "may I?"
        assert desk.outcomes() == ["suspended"]
        result = graph.invoke(Command(resume="yes"), config)
    assert tool_messages(result)[0].content == "found yes"
    assert ran == ["yes"]
    assert desk.outcomes() == ["suspended", "success"]
    assert not any("error" in record for record in desk.records())
    assert {record["action"]["call"] for record in desk.records()} == {"c0"}


def test_a_resume_after_the_task_is_refused(desk: Any) -> None:
    """An interrupt does not prolong authority."""

    @tool
    def find(q: str) -> str:
        """Find."""
        ran.append(interrupt("may I?"))
        return "found"

    graph = agent([protect(find, desk.enforcer)], calls(("find", {"q": "a"})), checkpointer=InMemorySaver())
    config = {"configurable": {"thread_id": "1"}}
    with desk.task("find", q="a"):
        graph.invoke(QUESTION, config)
    result = graph.invoke(Command(resume="yes"), config)
    assert str(tool_messages(result)[0].content).startswith("refused: no_task")
    assert ran == []


def test_a_returned_command_is_a_result(desk: Any) -> None:
    """A tool that updates the state or hands over by returning a Command succeeds."""

    @tool
    def hand_over(call_id: Annotated[str, InjectedToolCallId]) -> Command[Any]:
        """Hand over."""
        return Command(update={"user": "bob", "messages": [ToolMessage("handed over", tool_call_id=call_id)]})

    graph = node([protect(hand_over, desk.enforcer)], state=UserState)
    with desk.task("hand_over"):
        result = graph.invoke({"messages": [calls(("hand_over", {}))], "user": "alice"})
    assert result["user"] == "bob"
    assert desk.outcomes() == ["success"]


def test_a_handoff_to_the_parent_is_no_error(desk: Any) -> None:
    """ParentCommand leaves the node by an exception, and yet it is how the tool succeeds."""

    @tool
    def hand_over() -> str:
        """Hand over."""
        raise ParentCommand(Command(goto="other", graph=Command.PARENT))

    protect(hand_over, desk.enforcer)
    with desk.task("hand_over"), pytest.raises(GraphBubbleUp):
        hand_over.invoke({"type": "tool_call", "id": "c0", "name": "hand_over", "args": {}})
    assert desk.outcomes() == ["success"]
    assert not any("error" in record for record in desk.records())


def test_a_handoff_between_agents_arrives(desk: Any) -> None:
    """A returned Command for the parent graph moves on to the other agent."""

    @tool
    def hand_over(call_id: Annotated[str, InjectedToolCallId]) -> Command[Any]:
        """Hand over."""
        done = ToolMessage("handed over", tool_call_id=call_id)
        return Command(goto="second", graph=Command.PARENT, update={"messages": [done]})

    graph: Any = StateGraph(MessagesState)
    first = agent([protect(hand_over, desk.enforcer)], calls(("hand_over", {})))
    graph.add_node("first", first, destinations=("second",))
    graph.add_node("second", lambda state: {"messages": [AIMessage("second was here")]})
    graph.add_edge(START, "first")
    graph.add_edge("second", END)
    with desk.task("hand_over"):
        result = graph.compile().invoke(QUESTION)
    assert result["messages"][-1].content == "second was here"
    assert desk.outcomes() == ["success"]


def test_without_langgraph_errors_are_errors(desk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where langgraph was never imported, nothing of it is looked for, and an exception is an error."""
    monkeypatch.delitem(sys.modules, "langgraph.errors")

    @tool
    def fail() -> str:
        """Fail."""
        raise ValueError("no")

    protect(fail, desk.enforcer)
    with desk.task("fail"), pytest.raises(ValueError, match="no"):
        fail.invoke({})
    assert desk.outcomes() == ["error"]
    assert "langgraph.errors" not in sys.modules


# --- Agents as people build them ------------------------------------------------------------------


def make_slow(start: threading.Barrier) -> BaseTool:
    """Return a tool whose calls wait for one another, so that they do run at the same time."""

    @tool
    def find(q: str) -> str:
        """Find."""
        start.wait(10)
        ran.append(q)
        return f"found {q}"

    return find


def test_ac_37_parallel_calls_are_each_judged_by_themselves(desk: Any) -> None:
    """Calls that run at the same time in threads of the ToolNode are each under the task, and each one decision."""
    made = agent(
        [protect(make_slow(threading.Barrier(2)), desk.enforcer)],
        calls(("find", {"q": "a"}), ("find", {"q": "x"}), ("find", {"q": "b"})),
    )
    with desk.task("find", q=OneOf("a", "b")):
        messages = tool_messages(made.invoke(QUESTION))
    assert [message.status for message in messages] == ["success", "error", "success"]
    assert sorted(ran) == ["a", "b"]
    assert sorted(desk.outcomes()) == ["denied", "success", "success"]


def test_ac_37_two_principals_at_once_never_mix(desk: Any) -> None:
    """Two runs of one agent at the same time, each in the thread of its user: every record names the right one."""
    made = agent([protect(make_slow(threading.Barrier(2)), desk.enforcer)], calls(("find", {"q": "a"})))

    def serve(name: str) -> None:
        with desk.enforcer.task("serve", principal=Human(name), agent=Agent("clerk", owner="x"), scope=Scope("find")):
            made.invoke(QUESTION, {"metadata": {"user": name}})

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(serve, ["alice", "bob"]))
    seen = sorted((r["principal"]["id"], r["kind"]) for r in desk.records())
    assert seen == [("alice", "intent"), ("alice", "outcome"), ("bob", "intent"), ("bob", "outcome")]


def test_ac_35_threads_of_the_application_do_not_inherit_the_task(desk: Any) -> None:
    """An agent that is run in a pool without bind is refused, and with bind runs as who bound it."""
    made = agent([protect(make_find(), desk.enforcer)], calls(("find", {"q": "a"})))
    with ThreadPoolExecutor(1) as pool, desk.task("find"):
        lost = pool.submit(made.invoke, QUESTION).result()
        bound = pool.submit(desk.enforcer.bind(made.invoke), QUESTION).result()
    assert str(tool_messages(lost)[0].content).startswith("refused: no_task")
    assert tool_messages(bound)[0].status == "success"
    assert desk.outcomes() == ["denied", "success"]


def test_ac_36_a_stream_never_runs_as_its_consumer(desk: Any) -> None:
    """A stream made under one principal and consumed under another, or under none, runs as its maker or not at all."""
    made = agent([protect(make_find(), desk.enforcer)], calls(("find", {"q": "a"})))

    def under(name: str) -> Any:
        return desk.enforcer.task("ask", principal=Human(name), agent=Agent("clerk", owner="x"), scope=Scope("find"))

    with under("alice"):
        bound = bind_stream(made.stream(QUESTION))
        with under("bob"):
            list(bound)
    assert {record["principal"]["id"] for record in desk.records()} == {"alice"}
    with under("alice"):
        late = bind_stream(made.stream(QUESTION))
    with under("bob"):
        list(late)
    assert desk.outcomes() == ["success", "denied"]
    assert {record["principal"]["id"] for record in desk.records()} == {"alice"}


async def test_ac_36_an_async_stream_never_runs_as_its_consumer(desk: Any) -> None:
    """The same for an async stream; one that is left early leaves the consumer its own task."""
    made = agent([protect(make_afind(), desk.enforcer)], calls(("find", {"q": "a"})))

    def under(name: str) -> Any:
        return desk.enforcer.task("ask", principal=Human(name), agent=Agent("clerk", owner="x"), scope=Scope("find"))

    async with under("alice"):
        bound = bind_stream(made.astream(QUESTION))
        async with under("bob") as task:
            async for update in bound:
                assert desk.enforcer.current_task is task
                if "tools" in update:
                    break
            await bound.aclose()
            assert desk.enforcer.current_task is task
    assert {record["principal"]["id"] for record in desk.records()} == {"alice"}
    assert desk.outcomes() == ["success"]
    assert [item async for item in bind_stream(aiter(Plain()))] == [1]
    assert list(bind_stream(iter([1]))) == [1]


class Plain:
    """An async iterator that is no generator and cannot be closed."""

    left = 1

    def __aiter__(self) -> "Plain":
        """Return this."""
        return self

    async def __anext__(self) -> int:
        """Return 1 once."""
        if self.left:
            self.left -= 1
            return 1
        raise StopAsyncIteration


async def test_batches_and_events_are_guarded(desk: Any) -> None:
    """batch, abatch and astream_events make each call one decision under the task round them."""
    made = agent([protect(make_afind(), desk.enforcer)], calls(("find", {"q": "a"})))
    async with desk.task("find", q="a"):
        await made.abatch([QUESTION, QUESTION])
        names = [event["name"] async for event in made.astream_events(QUESTION, version="v2")]
    assert "find" in names
    assert desk.outcomes() == ["success"] * 3
    held = agent([protect(make_find(), desk.enforcer)], calls(("find", {"q": "a"})))
    with desk.task("find", q="a"):
        held.batch([QUESTION, QUESTION])
    assert desk.outcomes() == ["success"] * 5


def test_a_fan_out_by_send_is_one_decision_each(desk: Any) -> None:
    """A graph that sends each call to a ToolNode of its own has every call under the task."""
    graph: Any = StateGraph(MessagesState)
    graph.add_node("tools", ToolNode([protect(make_find(), desk.enforcer)]))
    message = calls(("find", {"q": "a"}), ("find", {"q": "b"}))
    graph.add_conditional_edges(
        START, lambda state: [Send("tools", {"messages": [m]}) for m in state["messages"]], ["tools"]
    )
    with desk.task("find", q="a"):
        result = graph.compile().invoke({"messages": [message]})
    assert [m.status for m in tool_messages(result)] == ["success", "error"]
    assert sorted(desk.outcomes()) == ["denied", "success"]


def test_structured_output_is_no_call(desk: Any) -> None:
    """The tool that LangChain makes up for an answer with a schema runs nothing, and needs no grant."""
    script = [calls(("find", {"q": "a"})), calls(("Answer", {"text": "x"}))]
    made = create_agent(
        ScriptedModel(script=script),
        [make_find()],
        middleware=[AgentIdentityMiddleware(desk.enforcer)],
        response_format=ToolStrategy(Answer),
    )
    with desk.task("find"):
        assert made.invoke(QUESTION)["structured_response"] == Answer(text="x")
    assert desk.outcomes() == ["success"]


class Answer(BaseModel):
    """An answer with a schema."""

    text: str


def test_ac_39_a_supervisor_and_its_sub_agents_name_the_human(desk: Any) -> None:
    """Three agents deep, every record ends in the human, and names who acted."""
    clerks = [Agent(name, owner="finance@example.com") for name in ("second", "third")]
    made = create_agent(
        ScriptedModel(script=[calls(("find", {"q": "a"})), AIMessage("done")]),
        [make_find()],
        middleware=[AgentIdentityMiddleware(desk.enforcer, agent=clerks[1], scope=Scope("find"))],
    )
    for level in (2, 1):
        inner = made

        @tool(f"ask_{level}")
        def ask(topic: str, inner: Annotated[Any, InjectedToolArg] = inner) -> str:
            """Ask the other agent."""
            return str(inner.invoke(QUESTION)["messages"][-1].content)

        who = {2: clerks[0]}.get(level)
        made = create_agent(
            ScriptedModel(script=[calls((f"ask_{level}", {"topic": "x"})), AIMessage("done")]),
            [ask],
            middleware=[AgentIdentityMiddleware(desk.enforcer, agent=who)],
        )
    with desk.task("ask_1", "ask_2", "find"):
        made.invoke(QUESTION)
    chains = {r["action"]["tool"]: [link["id"] for link in r["chain"]] for r in desk.records()}
    assert chains == {
        "ask_1": ["clerk"],
        "ask_2": ["clerk", "second"],
        "find": ["clerk", "second", "third"],
    }
    assert {record["principal"]["id"] for record in desk.records()} == {"alice@example.com"}


def test_ac_38_a_call_that_was_allowed_allows_no_other(desk: Any) -> None:
    """A model that was let through to one tool is asked about anew for the next, in the same message and later."""

    @tool
    def wipe() -> str:
        """Wipe."""
        ran.append("wiped")
        return "wiped"

    tools = protect([make_find(), wipe], desk.enforcer)
    made = agent(tools, calls(("find", {"q": "a"}), ("wipe", {})), calls(("wipe", {})))
    with desk.task("find"):
        messages = tool_messages(made.invoke(QUESTION))
    assert [message.status for message in messages] == ["success", "error", "error"]
    assert ran == ["a"]


def test_ac_43_arguments_that_change_after_the_decision_do_not_reach_the_body(desk: Any) -> None:
    """What a callback does to the arguments of the message while the tool runs, the body does not see."""
    message = calls(("find", {"q": ["a"]}))
    begun = threading.Event()

    @tool
    def find(q: list[str]) -> str:
        """Find."""
        message.tool_calls[0]["args"]["q"].append("/etc/shadow")
        begun.set()
        ran.append(list(q))
        return "found"

    made = agent([find], message, middleware=[AgentIdentityMiddleware(desk.enforcer)])
    with desk.task("find", q=Subset("a")):
        made.invoke(QUESTION)
    assert begun.is_set()
    assert ran == [["a"]]


def test_ac_49_dressed_values_are_refused_in_an_agent(desk: Any) -> None:
    """A value of another type than the grant's satisfies it in no agent."""

    @tool
    def pay(amount: Any) -> str:
        """Pay."""
        ran.append(amount)
        return "paid"

    made = agent(
        [pay],
        calls(*(("pay", {"amount": amount}) for amount in ("10", True, {"value": 10}, [10], 10))),
        middleware=[AgentIdentityMiddleware(desk.enforcer)],
    )
    with desk.task("pay", amount=Range(1, 10)):
        messages = tool_messages(made.invoke(QUESTION))
    assert [message.status for message in messages] == ["error"] * 4 + ["success"]
    assert ran == [10]


def test_ac_46_an_argument_cannot_pose_as_a_principal(open_desk: Any) -> None:
    """What a model writes under the name of a subject of the policy is an argument and nothing else."""
    rule = Rule(Effect.BLOCK, tools="act", when={"principal.id": "alice@example.com"}, reason="not for alice")
    desk = open_desk(policy=RuleSet(rule))

    @tool
    def act(principal: dict[str, str], user: str) -> str:
        """Act."""
        ran.append(user)
        return "acted"

    forged = calls(("act", {"principal": {"id": "root@example.com", "kind": "human"}, "user": "root"}))
    made = agent([act], forged, middleware=[AgentIdentityMiddleware(desk.enforcer)])
    with desk.task("act"):
        (message,) = tool_messages(made.invoke(QUESTION))
    assert str(message.content).startswith("refused: policy_blocks")
    assert (ran, desk.outcomes()) == ([], ["denied"])
