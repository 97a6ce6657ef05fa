"""What the scripts of the peers share: the tool, where spans end, and how a peer is compared with the bare tool.

Each ``with_*.py`` runs in an environment of its own, where nothing but LangChain, the peer and this folder is; run.py
starts it as ``python with_PEER.py SECONDS CORE``. It prints one line of JSON.
"""

import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import timing
from langchain_core.callbacks import BaseCallbackManager
from langchain_core.tools import BaseTool, tool

TRACE = "trace"
AUTHORITY = "authority"
SIGNED = "authority, signed evidence"

PACE = 50
"""Calls a second of those that are timed by the clock on the wall."""

GIVEN = {"customer_id": "C-42"}
REFUSED = {"customer_id": "D-42"}
"""Who has authority has it for customers whose number begins with C-."""


def get_invoice(customer_id: str, limit: int = 10) -> str:
    """Return the invoices of a customer."""
    return f"{customer_id}: {limit}"


def bare_tool() -> BaseTool:
    """Return the tool as LangChain has it."""
    made: BaseTool = tool(get_invoice)
    return made


class Counted:
    """An exporter of spans that counts and drops them; whoever has OpenTelemetry takes it for one."""

    def __init__(self) -> None:
        self.count = 0

    def export(self, spans: Sequence[object]) -> Any:  # noqa: ANN401  OpenTelemetry is not in every environment.
        """Count the spans."""
        from opentelemetry.sdk.trace.export import SpanExportResult  # noqa: PLC0415

        self.count += len(spans)
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        """End nothing."""

    def force_flush(self, timeout_millis: int = 0) -> bool:  # noqa: ARG002
        """Hold nothing back."""
        return True


@dataclass(frozen=True, kw_only=True)
class Peer:
    """A tool in the hands of a peer.

    Attributes:
        package: Whose version is told.
        does: What is done for each call.
        call: Calls the tool.
        count: Says how many spans or records there are; ``None`` if the peer makes none.
        refused: Calls the tool for a customer that is out of bounds; must raise. ``None`` if the peer has no bounds.
        off: Takes the peer off the bare tool, where it sits on every tool of the process.
        on: Puts it back.
        settle: Waits until all is exported.
    """

    package: str
    does: str
    call: Callable[[], object]
    count: Callable[[], int] | None = None
    refused: Callable[[], object] | None = None
    off: Callable[[], object] = timing.nothing
    on: Callable[[], object] = timing.nothing
    settle: Callable[[], object] = timing.nothing


def compare(peer: Peer) -> None:
    """Measure the peer against the bare tool, make sure that it did what it is there for, and print the numbers."""
    seconds, core = float(sys.argv[1]), int(sys.argv[2])
    if core >= 0 and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {core})
    bare = bare_tool()
    peer.off()
    bare.invoke(GIVEN)
    peer.settle()
    if peer.count and peer.count():
        raise SystemExit("the bare tool is not bare: a record was made of its call")
    peer.on()  # Both take turns.
    numbers = timing.interleaved(
        lambda: bare.invoke(GIVEN), peer.call, seconds, off=peer.off, on=peer.on, settle=peer.settle
    )
    calls = (lambda: bare.invoke(GIVEN), peer.call)
    paced = timing.paced(calls, 2 * seconds, PACE, before=(peer.off, peer.on))
    peer.on()
    peer.settle()
    if peer.count and peer.count() < numbers["calls"]:
        raise SystemExit(f"{peer.count()} records of more than {numbers['calls']:.0f} calls")
    if peer.refused and not _raises(peer.refused):
        raise SystemExit("a call out of bounds was not refused")
    told = {"package": peer.package, "version": version(peer.package), "does": peer.does}
    told |= {"langchain-core": version("langchain-core")}
    print(json.dumps({**told, **numbers, **dict(zip(("paced_bare", "paced"), paced, strict=True))}), flush=True)


def _raises(call: Callable[[], object]) -> bool:
    """Tell whether a call is refused."""
    try:
        call()
    except Exception:  # noqa: BLE001  Every peer has its own.
        return True
    return False


def instrumented(package: str, instrumentor: Any, *, leaves: bool = True) -> None:  # noqa: ANN401  Three have one.
    """Compare an instrumentation of LangChain, which sits on every tool of the process.

    Args:
        package: Its name.
        instrumentor: The instrumentor, which does nothing yet.
        leaves: Whether nothing is left of it when it is told to leave; if not, the method that it replaced is put back.
    """
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

    exporter, provider, made = Counted(), TracerProvider(), bare_tool()
    provider.add_span_processor(BatchSpanProcessor(exporter))  # type: ignore[arg-type]
    original = vars(BaseCallbackManager)["__init__"]
    instrumentor.instrument(tracer_provider=provider)
    theirs = vars(BaseCallbackManager)["__init__"]

    def on() -> None:
        if leaves:
            instrumentor.instrument(tracer_provider=provider)
        else:
            BaseCallbackManager.__init__ = theirs  # type: ignore[method-assign]

    def off() -> None:
        if leaves:
            instrumentor.uninstrument()
        else:
            BaseCallbackManager.__init__ = original  # type: ignore[method-assign]

    compare(
        Peer(
            package=package,
            does=TRACE,
            call=lambda: made.invoke(GIVEN),
            count=lambda: exporter.count,
            off=off,
            on=on,
            settle=provider.force_flush,
        )
    )
