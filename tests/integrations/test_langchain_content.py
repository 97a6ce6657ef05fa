"""Prompts and answers of models: redacted and held back in streams; arguments of calls are never changed."""

from collections.abc import Iterator
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import wrap_tool_call
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool
from langgraph.types import Command
from pydantic import PrivateAttr

from agent_identity import Effect, Rule, RuleSet, Verifier
from agent_identity.adapters import CallRequest
from agent_identity.constraints import Contains
from agent_identity.errors import ContentBlocked, PolicyBlocked
from agent_identity.inspection import PersonalData
from agent_identity.integrations.langchain.middleware import AgentIdentityMiddleware
from agent_identity.integrations.langchain.protection import protect
from agent_identity.policy import Obligation
from agent_identity.records import Intent, Outcome, read, read_lines

MAIL = "bob@example.com"
GONE = "[redacted:pii.email]"
ASKED: Any = {"messages": [HumanMessage(f"I am {MAIL}", id="q")]}
REDACTING = RuleSet(
    Rule(Effect.ALLOW, when={"tool.kind": "model"}, obligations=[Obligation("redact", "pii.email")], id="clean"),
    Rule(Effect.ALLOW, when={"findings.stage": "result"}, obligations=[Obligation("redact")], id="results"),
)
BLOCKING = RuleSet(Rule(Effect.BLOCK, when={"findings.categories": Contains("pii.email")}, id="no"))


class Model(BaseChatModel):
    """A chat model that says what it is told to, in single characters if it is streamed, and remembers its prompts."""

    answers: list[AIMessage]
    _prompts: list[list[BaseMessage]] = PrivateAttr(default_factory=list)
    _streamed: int = PrivateAttr(default=0)

    @property
    def _llm_type(self) -> str:
        return "model"

    def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
        """Offer nothing."""
        return self

    def _next(self, messages: list[BaseMessage]) -> AIMessage:
        self._prompts.append(messages)
        return self.answers[len(self._prompts) - 1]

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=self._next(messages))])

    def _stream(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> Iterator[ChatGenerationChunk]:
        self._streamed += 1
        for letter in str(self._next(messages).content):
            yield ChatGenerationChunk(message=AIMessageChunk(letter))

    @property
    def prompts(self) -> list[str]:
        """The texts of the messages of each prompt."""
        return [repr([message.content for message in messages]) for messages in self._prompts]


@tool
def find(q: str) -> str:
    """Find."""
    return f"found {q}"


def talking(desk: Any, *answers: AIMessage, tools: Any = (find,), before: Any = (), **options: Any) -> tuple[Any, Any]:
    model = Model(answers=list(answers))
    ours = AgentIdentityMiddleware(desk.enforcer, model="chat")
    return model, create_agent(model, list(tools), middleware=[ours, *before], **options)


def last(result: Any) -> Any:
    return result["messages"][-1]


async def test_a_prompt_is_redacted_before_the_model_gets_it(open_desk: Any) -> None:
    """System message, history and arguments of earlier calls are clean; the state of the agent stays as it was."""
    desk = open_desk(inspectors=[PersonalData("email")], policy=REDACTING)
    history = [
        HumanMessage([{"type": "text", "text": f"I am {MAIL}"}]),
        AIMessage("", tool_calls=[{"name": "find", "args": {"q": MAIL}, "id": "1"}]),
        ToolMessage(f"{MAIL} lives here", tool_call_id="1"),
    ]
    model, agent = talking(desk, AIMessage("hello"), AIMessage("hello"), system_prompt=f"owner: {MAIL}")
    with desk.task("chat"):
        result = agent.invoke({"messages": history})
        assert last(await agent.ainvoke({"messages": history})).content == "hello"
    assert result["messages"][0].content[0]["text"] == f"I am {MAIL}"
    for prompt in model._prompts:
        assert MAIL not in repr(prompt)
        assert repr(prompt).count(GONE) == 4
    desk.enforcer.close()
    records = list(read(desk.directory))
    intents = [record for record in records if isinstance(record, Intent)]
    assert [record.decision.enforced for record in intents] == ["modify", "modify"]
    assert [r.decision.enforced for r in records if isinstance(r, Outcome)] == ["modify", "modify"]
    details = [detail for _, detail in read_lines(desk.directory) if detail is not None]
    assert len(details) == 2
    for detail in details:
        (transform,) = detail.transforms or ()
        assert transform.name == "prompt_redaction"
        assert transform.original != transform.delivered
        assert transform.original is not None
        assert transform.delivered is not None
    verifier = Verifier(desk.directory / "trust.json")
    assert verifier.ledger(desk.directory).raise_for_status()


def test_a_prompt_that_cannot_be_changed_is_not_sent(open_desk: Any) -> None:
    """A finding in the name of a participant, or in what the model is told of a tool, refuses the call."""

    @tool
    def ask(q: str) -> str:
        """Ask bob@example.com."""
        return q

    desk = open_desk(inspectors=[PersonalData("email")], policy=REDACTING)
    for question, tools in ((HumanMessage("hi", name=MAIL), [find]), (HumanMessage("hi"), [ask])):
        model, agent = talking(desk, AIMessage("hello"), tools=tools)
        with desk.task("chat"):
            said = last(agent.invoke({"messages": [question]})).content
        assert said.startswith("refused: obligation_unmet")
        assert model.prompts == []


def test_only_prompts_are_changed_before_a_call(open_desk: Any) -> None:
    """The same rule refuses a call of a tool that somebody calls a model: its arguments stay as they are."""
    desk = open_desk(inspectors=[PersonalData("email")], policy=REDACTING)
    guard = desk.enforcer.guard("ask", kind="model")
    with desk.task("ask"):
        with pytest.raises(PolicyBlocked) as caught:
            guard.run(CallRequest({"q": MAIL}), lambda _: "ran")
        assert guard.run(CallRequest({"q": "hello"}), lambda call: call.arguments["q"]) == "hello"
    assert caught.value.code == "obligation_unmet"
    assert desk.outcomes() == ["denied", "success"]


async def test_an_answer_is_redacted_before_anybody_reads_it(open_desk: Any) -> None:
    """In the state of the agent, in streams of messages and in events, whole or split: the text is clean everywhere."""
    desk = open_desk(inspectors=[PersonalData("email")], policy=REDACTING)
    clean = f"write to {GONE}."
    model, agent = talking(desk, *[AIMessage(f"write to {MAIL}.")] * 4)
    with desk.task("chat"):
        assert last(agent.invoke(ASKED)).content == clean
        streamed = [chunk for chunk, _ in agent.stream(ASKED, stream_mode="messages")]
        later = [chunk async for chunk, _ in agent.astream(ASKED, stream_mode="messages")]
        events = [event async for event in agent.astream_events(ASKED, version="v2")]
    for chunks in (streamed, later):
        assert "".join(str(chunk.content) for chunk in chunks) == clean
    said = [event["data"]["chunk"].content for event in events if event["event"] == "on_chat_model_stream"]
    assert "".join(said) == clean
    answered = [event for event in events if event["event"] not in {"on_chain_start", "on_chain_stream"}]
    assert f"write to {MAIL}" not in repr([*events, *answered])
    assert model._streamed == 0
    assert {record["action"]["kind"] for record in desk.records()} == {"model"}
    assert desk.outcomes() == ["success"] * 4


async def test_a_withheld_answer_reaches_no_stream(open_desk: Any) -> None:
    """A blocked answer is in no chunk and no event; the refusal is what readers get."""
    desk = open_desk(inspectors=[PersonalData("email")], policy=BLOCKING)
    _, agent = talking(desk, *[AIMessage(f"write to {MAIL}.")] * 3)
    question: Any = {"messages": [HumanMessage("hi")]}
    with desk.task("chat"):
        streamed = [chunk for chunk, _ in agent.stream(question, stream_mode="messages")]
        later = [chunk async for chunk, _ in agent.astream(question, stream_mode="messages")]
        events = [event async for event in agent.astream_events(question, version="v2")]
    assert MAIL not in repr([streamed, later, events])
    for chunks in (streamed, later):
        assert "".join(str(chunk.content) for chunk in chunks).startswith("refused: content_blocked")


@pytest.mark.parametrize(
    "answer",
    [
        AIMessage("", tool_calls=[{"name": "find", "args": {"q": MAIL}, "id": "1"}]),
        AIMessage("", invalid_tool_calls=[{"name": "find", "args": f"{{{MAIL}", "id": "1", "error": None}]),
        AIMessage([{"type": "tool_use", "id": "1", "name": "find", "input": {"q": MAIL}}]),
        AIMessage("", additional_kwargs={"function_call": {"name": "find", "arguments": MAIL}}),
    ],
    ids=["calls", "invalid", "block", "older"],
)
def test_the_arguments_of_calls_in_an_answer_are_never_changed(open_desk: Any, answer: AIMessage) -> None:
    """A finding there withholds the answer: a redacted argument would be another call."""
    desk = open_desk(inspectors=[PersonalData("email")], policy=REDACTING)
    _, agent = talking(desk, answer)
    with desk.task("chat", "find"):
        said = last(agent.invoke({"messages": [HumanMessage("hi")]})).content
    assert said.startswith("refused: content_blocked")
    assert desk.outcomes() == ["denied"]


def test_text_beside_calls_is_redacted_and_the_calls_run_as_they_are(open_desk: Any) -> None:
    """An answer with a call keeps the call; what it says with it is clean."""
    desk = open_desk(inspectors=[PersonalData("email")], policy=REDACTING)
    calling = AIMessage(f"for {MAIL}", tool_calls=[{"name": "find", "args": {"q": "a"}, "id": "1"}])
    _, agent = talking(desk, calling, AIMessage("done"))
    with desk.task("chat", "find"):
        _, said, found, _ = agent.invoke({"messages": [HumanMessage("hi")]})["messages"]
    assert (said.content, said.tool_calls[0]["args"], found.content) == (f"for {GONE}", {"q": "a"}, "found a")


def test_monitor_mode_changes_neither_prompt_nor_answer(open_desk: Any) -> None:
    """Both go through as they are, and the record says what was found."""
    desk = open_desk(inspectors=[PersonalData("email")], policy=REDACTING, mode="monitor")
    model, agent = talking(desk, AIMessage(f"write to {MAIL}."))
    with desk.task("chat"):
        assert last(agent.invoke(ASKED)).content == f"write to {MAIL}."
    assert MAIL in model.prompts[0]
    assert [record["decision"]["enforced"] for record in desk.records()] == ["audit", "audit"]


@pytest.mark.parametrize("returned", ["message", "artifact", "command"])
async def test_what_stands_in_for_a_missing_tool_is_inspected(open_desk: Any, returned: str) -> None:
    """Middleware further in that answers for a tool hides nothing: neither text, artifact nor update."""

    def message(call_id: str) -> Any:
        text = f"see {MAIL}" if returned != "artifact" else "see there"
        answer = ToolMessage(text, tool_call_id=call_id, name="absent", artifact={"mail": MAIL})
        return Command(update={"messages": [answer]}) if returned == "command" else answer

    @wrap_tool_call
    async def later(request: Any, handler: Any) -> Any:
        return message(request.tool_call["id"])

    @wrap_tool_call
    def at_once(request: Any, handler: Any) -> Any:
        return message(request.tool_call["id"])

    desk = open_desk(inspectors=[PersonalData("email")], policy=REDACTING)
    calling = AIMessage("", tool_calls=[{"name": "absent", "args": {}, "id": "1"}])
    for own in (at_once, later):
        _, agent = talking(desk, calling, AIMessage("done"), before=[own])
        with desk.task("chat", "absent"):
            run = agent.invoke if own is at_once else agent.ainvoke
            result = run({"messages": [HumanMessage("hi")]})
            (answer,) = [m for m in (result if own is at_once else await result)["messages"] if m.type == "tool"]
        assert MAIL not in repr(answer)
        assert answer.artifact == {"mail": GONE}


async def test_a_tool_that_passes_on_the_stream_of_a_runnable_is_held_back(open_desk: Any) -> None:
    """A guarded generator over a chain of LangChain: split text is redacted in its message chunks."""
    desk = open_desk(inspectors=[PersonalData("email")], policy=REDACTING)
    chain = RunnableLambda(lambda text: [HumanMessage(text)]) | Model(answers=[AIMessage(f"write to {MAIL}.")] * 2)

    @desk.enforcer.tool(name="find")
    def passing() -> Any:
        yield from chain.stream("hi")

    @desk.enforcer.tool(name="find")
    async def passing_later() -> Any:
        async for chunk in chain.astream("hi"):
            yield chunk

    with desk.task("find"):
        chunks = list(passing())
        later = [chunk async for chunk in passing_later()]
    for some in (chunks, later):
        assert len(some) > 10
        assert {type(chunk) for chunk in some} == {AIMessageChunk}
        assert "".join(chunk.text for chunk in some) == f"write to {GONE}."


def test_content_and_artifact_of_a_guarded_tool_are_both_redacted(open_desk: Any) -> None:
    """The model gets the content, the application the artifact: both are clean."""

    @tool(response_format="content_and_artifact")
    def fetch() -> tuple[str, dict[str, str]]:
        """Fetch."""
        return f"from {MAIL}", {"mail": MAIL}

    desk = open_desk(inspectors=[PersonalData("email")], policy=REDACTING)
    protect(fetch, desk.enforcer)
    with desk.task("fetch"):
        answer = fetch.invoke({"type": "tool_call", "name": "fetch", "args": {}, "id": "1"})
    assert (answer.content, answer.artifact) == (f"from {GONE}", {"mail": GONE})


def test_a_handoff_does_not_carry_what_is_withheld(open_desk: Any) -> None:
    """A command that a tool raises for its parent graph is inspected like a result."""
    from langgraph.errors import ParentCommand

    @tool
    def hand_over() -> str:
        """Hand over."""
        raise ParentCommand(Command(graph=Command.PARENT, update={"messages": [HumanMessage(MAIL)]}))

    desk = open_desk(inspectors=[PersonalData("email")], policy=REDACTING)
    protect(hand_over, desk.enforcer)
    with desk.task("hand_over"), pytest.raises(ContentBlocked):
        hand_over.invoke({})


def test_a_system_message_of_blocks_is_redacted(open_desk: Any) -> None:
    """Blocks of a system message keep their other members."""
    desk = open_desk(inspectors=[PersonalData("email")], policy=REDACTING)
    block = {"type": "text", "text": f"owner {MAIL}", "cache_control": {"type": "ephemeral"}}
    model, agent = talking(desk, AIMessage("hello"), system_prompt=SystemMessage([block]))
    with desk.task("chat"):
        agent.invoke({"messages": [HumanMessage("hi")]})
    assert model._prompts[0][0].content == [{**block, "text": f"owner {GONE}"}]
