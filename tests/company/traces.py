"""Other libraries that trace what the organization does: GenAI conventions, MCP conventions, and two stacked ones."""

import contextlib
import json
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from company.truth import NS, Act, Traced, Truth
from mcp import ClientSession
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

GENAI: Final = "opentelemetry.instrumentation.genai.langchain"
INFERENCE: Final = "openinference.instrumentation.langchain"
PROTOCOL: Final = "opentelemetry.instrumentation.mcp"

STYLES: Final = ("none", "genai", "stacked", "mcp", "all")
"""Who traces a call: nobody else, one library, two stacked ones, the SDK of MCP, or all of them."""


def genai(tool: str) -> dict[str, str]:
    """Return what the GenAI conventions say of a call of a tool."""
    return {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": tool, "gen_ai.tool.type": "function"}


def inference(tool: str) -> dict[str, str]:
    """Return what OpenInference says of it."""
    return {"openinference.span.kind": "TOOL", "tool.name": tool}


def protocol(tool: str) -> dict[str, str]:
    """Return what the conventions for MCP say of it."""
    return {"mcp.method.name": "tools/call", "gen_ai.tool.name": tool, "gen_ai.operation.name": "execute_tool"}


class Libraries:
    """Other instrumentations of one process.

    Args:
        service: The service of the process.
        truth: Where it is written down which call each of their spans shows.
        clock: The time in nanoseconds.
    """

    def __init__(self, service: str, truth: Truth, clock: Callable[[], int]) -> None:
        self._service, self._truth, self._clock = service, truth, clock
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider(resource=Resource({"service.name": service}), shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self._act: Act | None = None
        self.style = "none"

    @contextlib.contextmanager
    def around(self, act: Act) -> Generator[None]:
        """Trace a call as the libraries around it do."""
        self._act = act
        tool = act.tool.partition("/")[2] or act.tool
        with contextlib.ExitStack() as stack:
            if self.style in ("genai", "stacked", "all"):
                stack.enter_context(self._span(GENAI, f"execute_tool {tool}", genai(tool), tool))
            if self.style in ("stacked", "all"):
                stack.enter_context(self._span(INFERENCE, tool, inference(tool), tool))
            yield
        self._act = None

    @contextlib.contextmanager
    def _span(self, library: str, name: str, said: Mapping[str, str], tool: str) -> Generator[None]:
        act = None if self._act is None else self._act.at
        self._truth.traced.append(Traced(at=self._clock(), service=self._service, library=library, tool=tool, act=act))
        with self.provider.get_tracer(library).start_as_current_span(
            name, kind=SpanKind.INTERNAL, attributes=said, start_time=self._clock()
        ):
            yield

    def unguarded(self, tool: str, *, stacked: bool) -> None:
        """Trace a call of a tool that nobody guards."""
        self._act = None
        with self._span(GENAI, f"execute_tool {tool}", genai(tool), tool):
            if stacked:
                with self._span(INFERENCE, tool, inference(tool), tool):
                    self._truth.traced[-1].copies = True

    def agent(self, name: str, model: str) -> None:
        """Trace an agent that nobody guards, and the model that it asks."""
        tracer, at = self.provider.get_tracer(GENAI), self._clock()
        said = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": name}
        asked = {"gen_ai.operation.name": "chat", "gen_ai.request.model": model, "gen_ai.provider.name": "openai"}
        with tracer.start_as_current_span(f"invoke_agent {name}", attributes=said, start_time=at):
            tracer.start_span(f"chat {model}", attributes=asked, start_time=at).end(at)

    def session(self, *streams: Any) -> ClientSession:
        """Return a session of an SDK that traces what it sends."""
        libraries = self

        class Tracing(ClientSession):
            async def send_request(self, request: Any, *more: Any, **options: Any) -> Any:
                asked = getattr(request, "root", request)
                if libraries.style not in ("mcp", "all") or getattr(asked, "method", "") != "tools/call":
                    return await super().send_request(request, *more, **options)
                tool = asked.params.name
                with libraries._span(PROTOCOL, f"tools/call {tool}", protocol(tool), tool):
                    return await super().send_request(request, *more, **options)

        return Tracing(*streams)

    def write(self, path: Path) -> None:
        """Write all spans, ours among them, as a collector keeps them."""
        spans = self._exporter.get_finished_spans()
        scopes: dict[str, list[dict[str, Any]]] = {}
        for span in spans:
            assert span.instrumentation_scope is not None
            scopes.setdefault(span.instrumentation_scope.name, []).append(_plain(span))
        resource = {"attributes": [{"key": "service.name", "value": {"stringValue": self._service}}]}
        grouped = [{"scope": {"name": name}, "spans": found} for name, found in scopes.items()]
        document = {"resourceSpans": [{"resource": resource, "scopeSpans": grouped}]}
        path.write_text(json.dumps(document) + "\n", encoding="utf-8")


def _plain(span: ReadableSpan) -> dict[str, Any]:
    context = span.get_span_context()
    assert context is not None
    return {
        "traceId": f"{context.trace_id:032x}",
        "spanId": f"{context.span_id:016x}",
        "parentSpanId": "" if span.parent is None else f"{span.parent.span_id:016x}",
        "name": span.name,
        "kind": span.kind.value + 1,
        "startTimeUnixNano": str(span.start_time),
        "endTimeUnixNano": str(span.end_time or (span.start_time or 0) + NS),
        "attributes": [{"key": key, "value": _value(value)} for key, value in (span.attributes or {}).items()],
        "status": {"code": span.status.status_code.value},
    }


def _value(value: object) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return {"arrayValue": {"values": [_value(one) for one in value]}}
    return {"stringValue": str(value)}
