"""An application with another instrumentation and with us, in a process of its own, and what its exporters got.

Run as ``python scenario.py PRODUCT ORDER WAY SPANS``; writes ``got.json``. Instrumentations patch classes and set the
global provider, so that each run needs a fresh process.
"""

import asyncio
import http.server
import io
import json
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tools import tool
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from agent_identity import Agent, Enforcer, Human, Scope, Verifier
from agent_identity.cli.operate.doctor import diagnose
from agent_identity.integrations.langchain.middleware import AgentIdentityMiddleware
from agent_identity.integrations.langchain.protection import protect
from agent_identity.integrations.langchain_instrumentor import LangChainInstrumentor
from agent_identity.options import Telemetry
from agent_identity.telemetry import stamp_spans

Exporters = dict[str, Callable[[], list[Any]]]
"""What each exporter has got, as requests of OTLP."""

CALLBACKS: list[Any] = []
LOOKED_AT = ("provider", "processors", "scrubber")
"""What the doctor says of these is written down as well."""


class Model(BaseChatModel):
    """A chat model that asks for two calls and is then done."""

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
        """Offer nothing."""
        return self

    def _generate(self, messages: list[Any], *args: Any, **kwargs: Any) -> ChatResult:
        calls = [{"name": "find", "args": {"q": q}, "id": f"call-{q}"} for q in ("allowed", "refused")]
        done = any(isinstance(message, AIMessage) for message in messages)
        answer = AIMessage("done") if done else AIMessage("", tool_calls=calls)
        return ChatResult(generations=[ChatGeneration(message=answer)])


@tool
def find(q: str) -> str:
    """Find."""
    trace.get_tracer("of.the.tool").start_span("inside the tool").end()
    return f"found {q}"


# ------------------------------------------------------------------------ the products, as their manuals set them up


def in_memory() -> tuple[Any, Callable[[], list[Any]]]:
    """Return an exporter and what says what it has got."""
    exporter = InMemorySpanExporter()
    return exporter, lambda: [encode_spans(exporter.get_finished_spans())]


def plain() -> Exporters:
    """Set up the SDK as an application does, with one exporter."""
    exporter, got = in_memory()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    return {"sdk": got}


def official() -> Exporters:
    from opentelemetry.instrumentation.genai.langchain import LangChainInstrumentor as Theirs

    exporters = plain()
    Theirs().instrument()
    return exporters


def openllmetry() -> Exporters:
    from opentelemetry.instrumentation.langchain import LangchainInstrumentor as Theirs

    exporters = plain()
    Theirs().instrument()
    return exporters


def openinference() -> Exporters:
    from openinference.instrumentation.langchain import LangChainInstrumentor as Theirs

    exporters = plain()
    Theirs().instrument()
    return exporters


def logfire() -> Exporters:
    import logfire as product
    from opentelemetry.instrumentation.genai.langchain import LangChainInstrumentor as Theirs

    exporter, got = in_memory()
    processors = [SimpleSpanProcessor(exporter)]
    product.configure(send_to_logfire=False, console=False, metrics=False, additional_span_processors=processors)
    Theirs().instrument()
    return {"logfire": got}


def langfuse() -> Exporters:
    from langfuse import Langfuse
    from langfuse.langchain import CallbackHandler

    exporter, got = in_memory()
    keys = {"public_key": "pk-lf-test", "secret_key": "sk-lf-test"}
    product = Langfuse(**keys, host="http://127.0.0.1:9", span_exporter=exporter)
    CALLBACKS.append(CallbackHandler())

    def flushed() -> list[Any]:
        product.flush()
        return got()

    return {"langfuse": flushed}


def traceloop() -> Exporters:
    from traceloop.sdk import Traceloop

    exporter, got = in_memory()
    Traceloop.init("agents", exporter=exporter, disable_batch=True, telemetry_enabled=False)
    return {"traceloop": got}


def phoenix() -> Exporters:
    from openinference.instrumentation.langchain import LangChainInstrumentor as Theirs
    from phoenix.otel import register

    requests: list[Any] = []

    class Receiver(http.server.BaseHTTPRequestHandler):
        """Keeps what is sent."""

        def do_POST(self) -> None:
            """Take one request of OTLP."""
            body = self.rfile.read(int(self.headers["Content-Length"]))
            requests.append(ExportTraceServiceRequest.FromString(body))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            """Be quiet."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    endpoint = f"http://127.0.0.1:{server.server_port}/v1/traces"
    provider = register(endpoint=endpoint, protocol="http/protobuf", verbose=False)
    Theirs().instrument(tracer_provider=provider)

    def flushed() -> list[Any]:
        provider.force_flush()
        return requests

    return {"phoenix": flushed}


def auto() -> Exporters:
    """Have ``opentelemetry-instrument`` do it all; this only looks at what comes out."""
    exporter, got = in_memory()
    trace.get_tracer_provider().add_span_processor(SimpleSpanProcessor(exporter))  # type: ignore[attr-defined]
    return {"sdk": got}


PRODUCTS: dict[str, Callable[[], Exporters]] = {
    "official": official,
    "openllmetry": openllmetry,
    "openinference": openinference,
    "logfire": logfire,
    "langfuse": langfuse,
    "traceloop": traceloop,
    "phoenix": phoenix,
    "auto": auto,
    "none": plain,
}


# ----------------------------------------------------------------------------------------------------------- the run


def main(product: str, order: str, way: str, spans: Any) -> None:
    """Set everything up in an order, run an agent in four manners, and write down what the exporters have."""
    exporters = PRODUCTS[product]() if order == "theirs first" else {}
    mode: Any = "monitor" if way == "instrumentor" else "enforce"
    enforcer = Enforcer.open("evidence", telemetry=Telemetry(spans=spans), mode=mode)
    if product != "auto":
        stamp_spans()  # One line for labels on their spans,
    middleware: list[Any] = []
    if way == "protect":
        protect(find, enforcer)  # and one for evidence.
    elif way == "middleware":
        middleware = [AgentIdentityMiddleware(enforcer)]
    elif product != "auto":
        LangChainInstrumentor().instrument(enforcer=enforcer)
    if order == "ours first":
        exporters = PRODUCTS[product]()
    question: Any = {"messages": [HumanMessage("go")]}
    alice, clerk = Human("alice@example.com"), Agent("clerk", owner="finance@example.com")
    scope = Scope("find", q="allowed")
    with enforcer, enforcer.task("look", principal=alice, agent=clerk, scope=scope):
        agent = create_agent(Model(), [find], middleware=middleware, name="boss")
        config: Any = {"callbacks": CALLBACKS}
        agent.invoke(question, config=config)
        list(agent.stream(question, config=config))

        async def run() -> None:
            await agent.ainvoke(question, config=config)
            async for _ in agent.astream(question, config=config):
                pass

        asyncio.run(run())
    looked = [check for _, checks in diagnose("evidence") for check in checks]
    seen = [(check.name, check.status, check.detail) for check in looked if check.name in LOOKED_AT]
    LangChainInstrumentor().uninstrument()  # Which closes the enforcer that it has opened.
    Path("got.json").write_text(
        json.dumps({n: {**told(got()), "doctor": seen} for n, got in exporters.items()}), encoding="utf-8"
    )


def told(requests: list[Any]) -> dict[str, Any]:
    """Return what an exporter got: each span, and what the verifier says of them all."""
    data = b"".join(request.SerializeToString() for request in requests)
    report = Verifier("evidence/trust.json").traces(io.BytesIO(data), ledger="evidence")
    found = [
        {
            "trace": span.trace_id.hex(),
            "span": span.span_id.hex(),
            "parent": span.parent_span_id.hex(),
            "name": span.name,
            "scope": scope.scope.name,
            "attributes": {item.key: item.value.string_value for item in span.attributes},
        }
        for request in requests
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]
    return {
        "spans": found,
        "verdict": report.verdict,
        "findings": [f"{finding.code}: {finding.message}" for finding in report.findings],
        "counts": dict(report.counts),
    }


if __name__ == "__main__":
    main(*sys.argv[1:])
