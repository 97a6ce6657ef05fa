"""An app of the ADK with a scripted model, guarded by the real enforcer."""

from collections.abc import AsyncGenerator, Callable, Iterator
from typing import Any

import pytest
from google.adk.agents import LlmAgent
from google.adk.apps import App
from google.adk.models import BaseLlm, LlmRequest, LlmResponse
from google.adk.runners import InMemoryRunner, Runner
from google.genai import types
from opentelemetry.sdk.trace import ReadableSpan

from agent_identity import Agent, Human, Scope, Verifier
from agent_identity.integrations.frameworks.google_adk import AgentIdentityPlugin
from agent_identity.testing import Rehearsal, Rehearse

ALICE = Human("alice@example.com")
CLERK = Agent("clerk", owner="fin@example.com")


class Script(BaseLlm):
    """A model that answers from a script, one turn after the other."""

    model: str = "scripted"
    script: list[Any]
    asked: list[Any]

    async def generate_content_async(
        self,
        llm_request: LlmRequest,
        stream: bool = False,  # noqa: FBT002  As in the base class.
    ) -> AsyncGenerator[LlmResponse]:
        """Answer with the next turn of the script; a text is streamed letter by letter."""
        self.asked.append(llm_request)
        turns = sum(content.role == "model" for content in llm_request.contents)
        said = self.script[turns] if turns < len(self.script) else "done"
        if isinstance(said, Exception):
            raise said
        parts = [types.Part(text=said)] if isinstance(said, str) else said
        if stream and isinstance(said, str):
            for letter in said:
                part = types.Part(text=letter)
                yield LlmResponse(content=types.Content(role="model", parts=[part]), partial=True)
        yield LlmResponse(content=types.Content(role="model", parts=parts), partial=False)


class Adk:
    """Makes agents and runs them in one world."""

    alice, clerk = ALICE, CLERK

    def __init__(self, rehearse: Rehearse) -> None:
        self._rehearse = rehearse
        self.world: Rehearsal
        self.options: dict[str, Any] = {}

    def open(self, *, plugin: dict[str, Any] | None = None, **options: Any) -> Rehearsal:
        """Open the enforcer, and set the options of the plugin."""
        self.world = self._rehearse(**options)
        self.options = plugin or {}
        return self.world

    @staticmethod
    def call(name: str, call_id: str | None = None, **args: Any) -> types.Part:
        """Return a call that a model makes."""
        return types.Part(function_call=types.FunctionCall(name=name, args=args, id=call_id))

    @staticmethod
    def agent(script: list[Any], tools: Any = (), *, name: str = "root", **options: Any) -> LlmAgent:
        """Return an agent with a scripted model."""
        return LlmAgent(name=name, model=Script(script=script, asked=[]), tools=list(tools), **options)

    def plugin(self) -> AgentIdentityPlugin:
        """Return a plugin of the world."""
        return AgentIdentityPlugin(self.world.enforcer, **self.options)

    def runner(self, root: Any, *plugins: Any, bare: bool = False) -> Runner:
        """Return a runner of an app with the plugin last."""
        guards = [] if bare else [self.plugin()]
        return InMemoryRunner(app=App(name="app", root_agent=root, plugins=[*plugins, *guards]))

    @staticmethod
    async def stream(runner: Runner, message: Any = "go", session: str = "s", **options: Any) -> Any:
        """Return the stream of a run."""
        sessions = runner.session_service
        if await sessions.get_session(app_name=runner.app_name, user_id="u", session_id=session) is None:
            await sessions.create_session(app_name=runner.app_name, user_id="u", session_id=session)
        said = types.UserContent(message) if isinstance(message, str) else message
        return runner.run_async(user_id="u", session_id=session, new_message=said, **options)

    async def events(self, runner: Runner, message: Any = "go", **options: Any) -> list[Any]:
        """Run inside the open task, and return the events."""
        return [event async for event in await self.stream(runner, message, **options)]

    def task(self, scope: Scope | str = "", **options: Any) -> Any:
        """Open a task of alice for the clerk."""
        granted = Scope(dict.fromkeys(scope.split())) if isinstance(scope, str) else scope
        given: dict[str, Any] = {"principal": ALICE, "agent": CLERK, "scope": granted, **options}
        return self.world.enforcer.task("test", **given)

    async def run(self, root: Any, scope: Scope | str, *plugins: Any, **options: Any) -> list[Any]:
        """Run an agent in a task, and return what its tools answered."""
        with self.task(scope):
            return self.answers(await self.events(self.runner(root, *plugins), **options))

    @staticmethod
    def answers(events: list[Any]) -> list[Any]:
        """Return what tools answered, in order."""
        return [answer.response for event in events for answer in event.get_function_responses()]

    @staticmethod
    def texts(events: list[Any]) -> list[str]:
        """Return the texts of the events, in order."""
        return [part.text for event in events if event.content for part in event.content.parts or () if part.text]

    def calls(self, tool: str | None = None) -> list[tuple[str, str, str]]:
        """Return tool, outcome and code of the recorded calls."""
        return [(call.tool, call.outcome, call.code) for call in self.world.records.calls(tool)]

    def verified(self) -> None:
        """Close the enforcer, and prove that the evidence is complete."""
        self.world.close()
        report = Verifier().ledger(self.world.directory)
        assert (report.verdict, report.completeness) == ("verified", "complete")


@pytest.fixture
def adk(rehearse: Rehearse) -> Iterator[Adk]:
    """Makes agents and runs them; the evidence of each test verifies."""
    made = Adk(rehearse)
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
def spans(_exporter: Any) -> Callable[[], tuple[ReadableSpan, ...]]:
    """Returns the finished spans of this test."""
    _exporter.clear()
    finished: Callable[[], tuple[ReadableSpan, ...]] = _exporter.get_finished_spans
    return finished
