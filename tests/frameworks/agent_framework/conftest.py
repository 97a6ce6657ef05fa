"""Agents of the framework with a scripted client, guarded by the real enforcer."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from agent_framework import (
    Agent,
    BaseChatClient,
    ChatMiddlewareLayer,
    ChatResponse,
    ChatResponseUpdate,
    Content,
    FunctionInvocationLayer,
    Message,
    ResponseStream,
)

from agent_identity import Agent as Governed
from agent_identity import Human, Scope, Verifier
from agent_identity.integrations.frameworks.agent_framework import AgentIdentityMiddleware
from agent_identity.testing import Rehearsal, Rehearse

ALICE = Human("alice@example.com")
CLERK = Governed("clerk", owner="fin@example.com")


class Script(FunctionInvocationLayer[Any], ChatMiddlewareLayer[Any], BaseChatClient[Any]):
    """A chat client that answers from a script, one turn after the other."""

    def __init__(self, script: Sequence[Any]) -> None:
        super().__init__()
        self.script = list(script)
        self.asked: list[Any] = []

    def _inner_get_response(self, *, messages: Any, options: Any, stream: bool = False, **_: Any) -> Any:
        self.asked.append(list(messages))
        turns = sum(message.role == "assistant" for message in messages)
        said = self.script[turns] if turns < len(self.script) else "done"

        def contents() -> list[Content]:
            if isinstance(said, Exception):
                raise said
            return [Content.from_text(said)] if isinstance(said, str) else list(said)

        async def updates() -> Any:
            for content in contents():
                parts = [Content.from_text(x) for x in content.text] if content.type == "text" else [content]
                for part in parts:
                    yield ChatResponseUpdate(contents=[part], role="assistant")

        async def response() -> Any:
            return ChatResponse(messages=[Message("assistant", contents())])

        return ResponseStream(updates(), finalizer=ChatResponse.from_updates) if stream else response()


class Maf:
    """Makes agents and runs them in one world."""

    alice, clerk = ALICE, CLERK

    def __init__(self, rehearse: Rehearse) -> None:
        self._rehearse = rehearse
        self._ids = itertools.count(1)
        self.world: Rehearsal
        self.options: dict[str, Any] = {}

    def open(self, *, options: dict[str, Any] | None = None, **given: Any) -> Rehearsal:
        """Open the enforcer, and set the options of the middleware."""
        self.world = self._rehearse(**given)
        self.options = options or {}
        return self.world

    def call(self, name: str, **args: Any) -> Content:
        """Return a call that a model makes."""
        return Content.from_function_call(f"c{next(self._ids)}", name, arguments=args)

    def middleware(self) -> AgentIdentityMiddleware:
        """Return a middleware of the world."""
        return AgentIdentityMiddleware(self.world.enforcer, **self.options)

    def agent(self, script: Sequence[Any], tools: Any = (), *others: Any, bare: bool = False, **options: Any) -> Agent:
        """Return an agent with a scripted client, guarded by the first middleware."""
        guards = [] if bare else [self.middleware()]
        given = {"name": "root", **options}
        return Agent(client=Script(script), tools=list(tools), middleware=[*guards, *others], **given)

    def task(self, scope: Scope | str = "", **options: Any) -> Any:
        """Open a task of alice for the clerk."""
        granted = Scope(dict.fromkeys(scope.split())) if isinstance(scope, str) else scope
        given: dict[str, Any] = {"principal": ALICE, "agent": CLERK, "scope": granted, **options}
        return self.world.enforcer.task("test", **given)

    @staticmethod
    async def respond(agent: Any, message: Any = "go", *, stream: bool = False, **options: Any) -> Any:
        """Run an agent inside the open task, and return the response."""
        run = agent.run(message, stream=stream, **options)
        return await (run.get_final_response() if stream else run)

    async def run(self, agent: Any, scope: Scope | str, **options: Any) -> list[str]:
        """Run an agent in a task, and return what its tools answered."""
        with self.task(scope):
            return self.answers(await self.respond(agent, **options))

    @staticmethod
    def answers(response: Any) -> list[str]:
        """Return what tools answered, in order."""
        contents = [content for message in response.messages for content in message.contents]
        return [content.result for content in contents if content.type == "function_result"]

    def calls(self, tool: str | None = None) -> list[tuple[str, str, str]]:
        """Return tool, outcome and code of the recorded calls."""
        return [(call.tool, call.outcome, call.code) for call in self.world.records.calls(tool)]

    def verified(self) -> None:
        """Close the enforcer, and prove that the evidence is complete."""
        self.world.close()
        report = Verifier().ledger(self.world.directory)
        assert (report.verdict, report.completeness) == ("verified", "complete")


@pytest.fixture
def maf(rehearse: Rehearse) -> Iterator[Maf]:
    """Makes agents and runs them; the evidence of each test verifies."""
    made = Maf(rehearse)
    yield made
    made.verified()


@pytest.fixture(scope="session")
def _exporter() -> Any:
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter = InMemorySpanExporter()
    provider = trace.get_tracer_provider()
    if not isinstance(provider, TracerProvider):  # Another folder of this process may have set one.
        provider = TracerProvider()
        trace.set_tracer_provider(provider)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return exporter


@pytest.fixture
def spans(_exporter: Any) -> Any:
    """Returns the finished spans of this test."""
    _exporter.clear()
    return _exporter.get_finished_spans
