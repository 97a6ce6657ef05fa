"""OpenLLMetry's instrumentation of LangChain, which Traceloop uses."""

from comparing import instrumented
from opentelemetry.instrumentation.langchain import LangchainInstrumentor

instrumented("opentelemetry-instrumentation-langchain", LangchainInstrumentor(), leaves=False)
