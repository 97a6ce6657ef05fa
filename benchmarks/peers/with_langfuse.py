"""Langfuse's callback handler, its spans into an exporter of ours instead of its server."""

from comparing import GIVEN, TRACE, Counted, Peer, bare_tool, compare
from langfuse import Langfuse
from langfuse.langchain import CallbackHandler

exporter, tool = Counted(), bare_tool()
keys = {"public_key": "pk-lf-none", "secret_key": "sk-lf-none"}
client = Langfuse(**keys, base_url="http://127.0.0.1:9", span_exporter=exporter)
config = {"callbacks": [CallbackHandler(public_key="pk-lf-none")]}
compare(
    Peer(
        package="langfuse",
        does=TRACE,
        call=lambda: tool.invoke(GIVEN, config),
        count=lambda: exporter.count,
        settle=client.flush,
    )
)
