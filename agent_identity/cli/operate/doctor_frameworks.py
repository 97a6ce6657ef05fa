"""Checks of ``agent-identity doctor`` on agent frameworks: versions, what patched them, and the tools of a process."""

import gc
import importlib.metadata
import sys
from collections.abc import Iterator
from typing import Final, NamedTuple

from agent_identity._audit.report import counted
from agent_identity._enforcement import open_enforcers
from agent_identity._enforcement.telemetry import Check
from agent_identity.integrations.instrumentation import FRAMEWORKS, Framework, instrumented

__all__ = ["examine_frameworks"]

_ADAPTERS: Final = "agent_identity.integrations.frameworks"
_NAMED: Final = 10  # Names that a finding lists.


class _Kind(NamedTuple):
    """The class of the tools of a framework, and the attributes that lead to a tool's name."""

    module: str
    name: str
    path: tuple[str, ...] = ("name",)


_TOOLS: Final = {
    "openai_agents": _Kind("agents", "FunctionTool"),
    "pydantic_ai": _Kind("pydantic_ai", "Tool"),
    "google_adk": _Kind("google.adk.tools.base_tool", "BaseTool"),
    "claude_agent": _Kind("claude_agent_sdk", "SdkMcpTool"),
    "crewai": _Kind("crewai.tools.base_tool", "BaseTool"),
    "strands": _Kind("strands.types.tools", "AgentTool", ("tool_name",)),
    "agent_framework": _Kind("agent_framework", "FunctionTool"),
    "llama_index": _Kind("llama_index.core.tools", "BaseTool", ("metadata", "name")),
}
"""LangChain is not among them: its tools tell by themselves whether they are guarded."""


def examine_frameworks() -> list[Check]:
    """Check the agent frameworks that are installed, and the tools of those that this process has imported."""
    return [check for framework in FRAMEWORKS for check in _framework(framework)]


def _framework(framework: Framework) -> Iterator[Check]:
    try:
        version = importlib.metadata.version(framework.distribution)
    except importlib.metadata.PackageNotFoundError:
        return
    tested, cure = _tested(framework, version)
    state, way_out = _state(framework)
    yield Check(
        "framework",
        "warn" if cure or way_out else "ok",
        f"{framework.distribution} {version}, {tested}; {state}",
        "; ".join(each for each in (way_out, cure) if each),
    )
    if framework.name in _TOOLS and framework.module in sys.modules:
        yield from _tools(framework, _TOOLS[framework.name])


def _tested(framework: Framework, version: str) -> tuple[str, str]:
    """Return what is known about our adapter at a version, and the cure if that is not enough."""
    try:
        from packaging.version import InvalidVersion, Version  # It may be missing.
    except ModuleNotFoundError:
        return f"tested from {framework.lowest} to {framework.newest}", ""
    try:
        ours = Version(version)
    except InvalidVersion:
        return "a version that cannot be compared", ""
    if ours < Version(framework.lowest):
        wanted = f"pip install '{framework.distribution}>={framework.lowest}'"
        return f"older than {framework.lowest}, the lowest that its adapter was tested with", wanted
    if ours > Version(framework.newest):
        return f"newer than {framework.newest}, the newest that its adapter was tested with", "try it first"
    return "which its adapter was tested with", ""


def _state(framework: Framework) -> tuple[str, str]:
    """Return what guards a framework in this process, and the cure if nothing does."""
    patched = instrumented().get(framework.name)
    if patched is not None:
        return ("instrumented", "") if patched else ("could not be instrumented", "see the log of this process")
    if framework.module not in sys.modules:
        return "not imported here", ""
    if framework.name not in _TOOLS:  # LangChain.
        return "imported; see its tools", ""
    if f"{_ADAPTERS}.{framework.name}" in sys.modules:
        return "guarded where the application says so", ""
    return "imported, and nothing guards it", "agent_identity.instrument(enforcer), or install its adapter"


def _tools(framework: Framework, kind: _Kind) -> Iterator[Check]:
    found = set(_named(kind))
    if not found:
        return
    detail = counted(len(found), f"{framework.distribution} tool")
    if instrumented().get(framework.name):
        yield Check("tools", "ok", f"{detail}, all watched by instrument()")
        return
    known = {tool.name for _, point in open_enforcers() for tool, _ in point.tools.all()}
    bare = sorted(found - known)
    listed = ", ".join(bare[:_NAMED]) + (", …" if len(bare) > _NAMED else "")
    if not bare:
        yield Check("tools", "ok", f"{detail}, each known to an enforcer")
    elif f"{_ADAPTERS}.{framework.name}" in sys.modules:
        yield Check("tools", "ok", f"{detail}; no guard has seen a call of: {listed}")
    else:
        cure = "guard them; the how-to of the framework says how"
        yield Check("tools", "warn", f"{detail}, without a guard: {listed}", cure)


def _named(kind: _Kind) -> Iterator[str]:
    """Yield the names of the tools in this process."""
    base = getattr(sys.modules.get(kind.module), kind.name, None)
    if not isinstance(base, type):
        return
    for thing in gc.get_objects():
        if not issubclass(type(thing), base):  # By type, because isinstance() runs code of proxies and lazy objects.
            continue
        name: object = thing
        try:
            for part in kind.path:
                name = getattr(name, part)
        except Exception:  # noqa: BLE001, S112 - Properties of others may raise anything, as on an object half made.
            continue
        if isinstance(name, str):
            yield name
