"""OpenInference's instrumentation of LangChain, which Arize Phoenix uses."""

from comparing import instrumented
from openinference.instrumentation.langchain import LangChainInstrumentor

instrumented("openinference-instrumentation-langchain", LangChainInstrumentor())
