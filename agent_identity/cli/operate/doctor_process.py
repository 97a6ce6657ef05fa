"""Checks of ``agent-identity doctor`` on a process: its enforcers, their state, and the tools of its agents."""

import gc
import importlib
import re
import sys
import time
from collections.abc import Iterator, Mapping
from types import FunctionType, MethodType
from typing import Final, cast

from agent_identity._authority.stores.protocol import StateStore
from agent_identity._directory.enforcer import Enforcer, open_enforcers
from agent_identity._guard.calls.approval_request import Approval
from agent_identity._guard.judging.context import EnforcementContext
from agent_identity._guard.telemetry.diagnosis import Check
from agent_identity._verify.report.plurals import counted, some
from agent_identity.errors import StateError
from agent_identity.integrations.instrumentation import instrumented

_PROVIDED: Final = re.compile(
    r"(web_search|web_fetch|file_search|code_interpreter|code_execution|computer|computer_use|image_generation|mcp|bash"
    r"|text_editor|memory|local_shell|shell|url_context|google_search|google_maps|tool_search)"
    r"(_preview)?(_\d{8})?"
)
"""Types of tools that model providers run themselves, by their present names."""

_STARTS: Final = re.compile(
    r"(^|[^a-z])(shell|bash|zsh|sh|terminal|subprocess|exec|execute|eval|repl|python|ipython|powershell|cmd|command"
    r"|code_interpreter|run_code|run_command|local_shell)($|[^a-z])"
)
"""Words in the names of tools that start programs; a guess."""

_NODES: Final = (("langgraph.prebuilt.tool_node", "ToolNode"), ("langchain.tools.tool_node", "_ToolNode"))
"""Nodes that run tools; langchain 1.0 has its own."""

_DEEP: Final = 12
_MOST_TOOLS: Final = 128  # Longer lists are something else.


def examine_store(name: str, state: StateStore) -> Check:
    """Query a shared state, and report its latency.

    Args:
        name: Its name in the report.
        state: The state.
    """
    started = time.perf_counter_ns()
    kind = type(state).__name__
    try:
        state.contains("doctor:asks", now=int(time.time()))
    except StateError as error:
        detail, _, cure = str(error).partition("; ")
        return Check(
            name, "fail", f"{kind}: {detail}", cure or "see that it runs and can be reached; calls are refused"
        )
    return Check(name, "ok", f"{kind}, answers in {(time.perf_counter_ns() - started) / 1e6:.1f} ms")


def examine_enforcers() -> list[Check]:
    """Check the enforcers that are open in this process."""
    return [check for enforcer, enforcement in open_enforcers() for check in _enforcer(enforcer, enforcement)]


def _enforcer(enforcer: Enforcer, enforcement: EnforcementContext) -> Iterator[Check]:
    stream = f"stream …{enforcement.ledger.stream[-6:]}"
    if enforcement.mode == "monitor":
        cure = "once its records show what you want, open it with mode='enforce'"
        yield Check("enforcer", "warn", f"{stream}, monitor: refuses nothing", cure)
    else:
        yield Check("enforcer", "ok", f"{stream}, enforces" + ("" if enforcement.policy is None else ", with a policy"))
    for what, why in enforcer.degraded.items():
        yield Check("enforcer", "warn", f"{stream}: {what}: {why}", "repair it; see what the enforcer logs about it")
    yield examine_store("shared state", enforcement.state)
    if starting := _starting_programs(enforcement):
        yield Check(
            "approvals",
            "warn",
            f"{stream}: asserted approvals beside {some(starting)}; a guess by name: these tools start programs, "
            "and a program of this user can approve by the command line",
            "keep the keys in a signer of another user or a token (docs/how-to/keep-keys-elsewhere.md), or leave the "
            "tool out",
        )


def _starting_programs(enforcement: EnforcementContext) -> list[str]:
    """Return the tools that start programs, by their names, if a route takes approvals that are only asserted."""
    asserted = any(
        isinstance(route, Approval) and not route.approvers.verified for route in enforcement.routes.values()
    )
    return [tool.name for tool, _ in enforcement.tools.all() if asserted and _STARTS.search(tool.name.lower())]


def examine_tools() -> list[Check]:
    """Check the LangChain tools in this process: unguarded ones, and ones that cannot be guarded."""
    if "langchain_core.tools" not in sys.modules:
        return []
    checks = [_langchain_tools()]
    provided = sorted(set(_provider_tools()))
    if provided:
        cure = "leave them out, or accept that the provider of the model runs them unseen; ours never sees a call"
        checks.append(Check("tools", "warn", f"the provider runs, and nobody can guard: {some(provided)}", cure))
    return checks


def _langchain_tools() -> Check:
    is_later = _guards_later()
    langchain = importlib.import_module("agent_identity.integrations.langchain")
    base = sys.modules["langchain_core.tools"].BaseTool
    used, covered = _tools_of_nodes()
    # By type, because isinstance() runs code of proxies and lazy objects.
    tools = [thing for thing in gc.get_objects() if issubclass(type(thing), base)]
    tools = [tool for tool in tools if id(tool) in used or not _is_stock(tool)]
    open_ones = [tool for tool in tools if id(tool) not in covered and not langchain.is_protected(tool)]
    bare = sorted({tool.name for tool in open_ones if id(tool) in used or not is_later})
    waiting = sorted({tool.name for tool in open_ones} - set(bare))
    if not bare and not waiting:
        return Check("tools", "ok", f"{counted(len(tools), 'LangChain tool')}, none without a guard")
    module = sys.modules.get("agent_identity.integrations.langchain_instrumentor")
    if module is not None and module.LangChainInstrumentor().is_instrumented_by_opentelemetry:
        return Check("tools", "ok", f"{counted(len(tools), 'LangChain tool')}, all watched by LangChainInstrumentor")
    if instrumented().get("langchain"):
        return Check("tools", "ok", f"{counted(len(tools), 'LangChain tool')}, all watched by instrument()")
    if not bare:
        detail = "no agent has them yet, and one that is made at startup is not seen"
        return Check("tools", "ok", f"{counted(len(tools), 'LangChain tool')}; {detail}: {some(waiting)}")
    cure = "protect(tool, enforcer) each of them, or accept that their calls leave no evidence"
    return Check("tools", "warn", f"{counted(len(bare), 'LangChain tool')} without a guard: {some(bare)}", cure)


def _guards_later() -> bool:
    """Return whether the application may guard tools only when it starts, as in the lifespan of a web application."""
    if "agent_identity.integrations.langchain.middleware" in sys.modules:
        return True
    return "agent_identity.integrations.langchain.protection" in sys.modules and not open_enforcers()


def _is_stock(tool: object) -> bool:
    """Return whether a tool comes with LangChain itself, whose import creates some, used or not."""
    module = getattr(getattr(tool, "func", None), "__module__", None)
    return isinstance(module, str) and module.partition(".")[0] == "langchain"


def _tools_of_nodes() -> tuple[set[int], set[int]]:
    """Return the ids of the tools that graph nodes run, and of those that our middleware covers there."""
    kinds = [getattr(sys.modules.get(module), name, None) for module, name in _NODES]
    ours = sys.modules.get("agent_identity.integrations.langchain.middleware")
    used, covered = set[int](), set[int]()
    for thing in gc.get_objects() if any(kinds) else ():
        if type(thing) not in kinds:
            continue
        node = cast("dict[str, object]", vars(cast("object", thing)))
        tools = set(map(id, cast("Mapping[str, object]", node.get("_tools_by_name", {})).values()))
        used |= tools
        wrapper = node.get("_wrap_tool_call") or node.get("_awrap_tool_call")
        if ours is not None and _reaches(wrapper, ours.AgentIdentityMiddleware, 0):
            covered |= tools
    return used, covered


def _reaches(thing: object, kind: type, depth: int) -> bool:
    """Return whether a function is, or is composed of, methods of a class."""
    if depth > _DEEP:
        return False
    if type(thing) is MethodType:
        return isinstance(thing.__self__, kind)
    cells = (thing.__closure__ or ()) if type(thing) is FunctionType else ()
    return any(_reaches(cell.cell_contents, kind, depth + 1) for cell in cells)


def _provider_tools() -> Iterator[str]:
    """Yield the tools offered to models as a description only, such as ``{"type": "web_search"}``."""
    for thing in gc.get_objects():
        if type(thing) is not list:
            continue
        items = cast("list[object]", thing)
        for item in items if len(items) <= _MOST_TOOLS else ():
            name = cast("dict[str, object]", item).get("type") if type(item) is dict else None
            if isinstance(name, str) and _PROVIDED.fullmatch(name):
                yield name
