"""Checks of ``agent-identity doctor`` on what is installed: distributions that fit each other, and agent frameworks."""

import gc
import importlib.metadata
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Final, Literal, NamedTuple

from agent_identity._directory.enforcer import open_enforcers
from agent_identity._directory.open import refuse_clash
from agent_identity._guard.telemetry.diagnosis import Check
from agent_identity._verify.report.plurals import counted, some
from agent_identity.errors import ConfigurationError
from agent_identity.integrations.instrumentation import FRAMEWORKS, Framework, instrumented
from agent_identity.version import VERSION

_OURS: Final = "agent-identity-otel"
_WATCHED: Final = re.compile(
    r"(opentelemetry|openinference|langchain|langgraph|arize-phoenix|traceloop)([._-].*)?"
    r"|langfuse|logfire|mcp|fastmcp|pydantic|wrapt|cryptography|orjson",
    re.IGNORECASE,
)
"""Distributions whose versions must fit each other for spans with evidence."""

_SHOWN_VERSIONS: Final = ("opentelemetry-sdk", "langchain-core", "langgraph", "mcp")


class Installed(NamedTuple):
    """An installed distribution.

    Attributes:
        name: Its normalized name (PEP 503).
        version: Its version.
        requires: Its requirements (PEP 508).
    """

    name: str
    version: str
    requires: tuple[str, ...]


_ADAPTERS: Final = "agent_identity.integrations.frameworks"


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

_PROVIDED: Final = {
    "openai_agents": tuple(
        ("agents", f"{name}Tool")
        for name in ("WebSearch", "FileSearch", "CodeInterpreter", "ImageGeneration", "HostedMCP")
    ),
    "pydantic_ai": (("pydantic_ai.native_tools", "AbstractNativeTool"),),
}
"""Classes that stand for tools of the provider of a model."""


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
    return "imported, and nothing guards it", "agent_identity.instrument(enforcer), or guard as its how-to says"


def _tools(framework: Framework, kind: _Kind) -> Iterator[Check]:
    kinds = {type(thing).__name__ for thing in _instances(_PROVIDED.get(framework.name, ()))}
    provided = sorted(kinds - {"ToolSearchTool"})  # Pydantic AI gives one to each agent, used or not.
    if provided:
        cure = "leave them out, or accept that the provider of the model runs them unseen"
        yield Check("tools", "warn", f"the provider runs, and nobody can guard: {', '.join(provided)}", cure)
    found = set(_named(kind))
    if not found:
        return
    detail = counted(len(found), f"{framework.distribution} tool")
    if instrumented().get(framework.name):
        yield Check("tools", "ok", f"{detail}, all watched by instrument()")
        return
    known = {tool.name for _, enforcement in open_enforcers() for tool, _ in enforcement.tools.all()}
    bare = sorted(found - known)
    if not bare:
        yield Check("tools", "ok", f"{detail}, each known to an enforcer")
    elif f"{_ADAPTERS}.{framework.name}" in sys.modules:
        yield Check("tools", "ok", f"{detail}; no guard has seen a call of: {some(bare)}")
    else:
        cure = "guard them; the how-to of the framework says how"
        yield Check("tools", "warn", f"{detail}, without a guard: {some(bare)}", cure)


def _named(kind: _Kind) -> Iterator[str]:
    """Yield the names of the tools in this process, without those that come with the framework itself."""
    top = kind.module.partition(".")[0]
    for thing in _instances(((kind.module, kind.name),)):
        made_of = getattr(thing, "__dict__", {}).get("__module__")  # Decorators copy it from the function.
        if isinstance(made_of, str) and made_of.partition(".")[0] == top:
            continue
        name: object = thing
        try:
            for part in kind.path:
                name = getattr(name, part)
        except Exception:  # noqa: BLE001, S112 - Properties of others may raise anything, as on an object half made.
            continue
        if isinstance(name, str):
            yield name


def _instances(classes: Iterable[tuple[str, str]]) -> Iterator[object]:
    """Yield the objects of this process that are of one of the classes, named by module and name, where they exist."""
    named = (getattr(sys.modules.get(module), name, None) for module, name in classes)
    bases = tuple(base for base in named if isinstance(base, type))
    for thing in gc.get_objects() if bases else ():
        if issubclass(type(thing), bases):  # By type, because isinstance() runs code of proxies and lazy objects.
            yield thing


def installed() -> list[Installed]:
    """Return the installed distributions that matter to us."""
    distributions: dict[str, Installed] = {}
    for each in importlib.metadata.distributions():
        name = str(each.metadata["Name"] or "")
        if name and (name == _OURS or _WATCHED.fullmatch(name)):
            plain = re.sub(r"[-_.]+", "-", name).lower()
            distributions.setdefault(plain, Installed(plain, each.version, tuple(each.requires or ())))
    return list(distributions.values())


def examine_package(find: Callable[[str], object] = importlib.metadata.distribution) -> Check:
    """Check for another distribution that owns our import name (threats AC-71).

    Args:
        find: Looks up an installed distribution by name.
    """
    try:
        refuse_clash(find)
    except ConfigurationError as error:
        detail, _, cure = str(error).partition("; ")
        return Check("package", "fail", detail, cure)
    return Check("package", "ok", f"agent_identity belongs to {_OURS}, version {VERSION}")


def examine_versions(found: Iterable[Installed] | None = None) -> list[Check]:
    """Check for distributions that do not fit each other, as when one was installed past the resolver.

    Args:
        found: The installed distributions.
    """
    every = {each.name: each for each in (installed() if found is None else found)}
    misfits = sorted({misfit for each in every.values() for misfit in _misfits(each, every)})
    checks = [Check("versions", *misfit) for misfit in misfits]
    if checks:
        return checks
    shown = ", ".join(f"{name} {every[name].version}" for name in _SHOWN_VERSIONS if name in every)
    return [Check("versions", "ok", f"{counted(len(every), 'distribution')}, all fit each other; {shown}".rstrip("; "))]


def _misfits(each: Installed, every: dict[str, Installed]) -> Iterator[tuple[Literal["fail", "warn"], str, str]]:
    """Yield the status, the finding and its cure for each requirement that the environment does not meet."""
    try:
        from packaging.requirements import InvalidRequirement, Requirement  # It may be missing.
    except ModuleNotFoundError:
        return
    for text in each.requires:
        try:
            wanted = Requirement(text)
        except InvalidRequirement:
            continue
        name = re.sub(r"[-_.]+", "-", wanted.name).lower()
        other = every.get(name)
        always = wanted.marker is None or wanted.marker.evaluate({"extra": ""})
        # Requirements of extras do not apply, except ours: an application may use the integration without the extra.
        optional = not always and each.name == _OURS and "extra" in str(wanted.marker)
        if other is None or wanted.specifier.contains(other.version, prereleases=True) or not (always or optional):
            continue
        verb = "supports" if optional else "needs"
        detail = f"{each.name} {each.version} {verb} {name} {wanted.specifier}, and {other.version} is installed"
        cure = f"pip install '{name}{wanted.specifier}', or another version of {each.name}"
        if optional:
            yield "warn", detail, f"if you use {name} through our integration: {cure}"
        else:
            yield "fail" if each.name == _OURS else "warn", detail, cure
