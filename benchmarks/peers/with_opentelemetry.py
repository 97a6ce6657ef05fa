"""OpenTelemetry's own instrumentation of LangChain."""

from comparing import instrumented
from opentelemetry.instrumentation.genai.langchain import LangChainInstrumentor

instrumented("opentelemetry-instrumentation-genai-langchain", LangChainInstrumentor())  # type: ignore[no-untyped-call]
