"""``agent-identity doctor``: checks of an installation, its process and its directory."""

import argparse
import contextlib
import gc
import importlib
import json
import operator
import os
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FunctionType, MethodType
from typing import Final, TypeAlias, cast

from agent_identity._authority.stores.protocol import StateStore
from agent_identity._directory.enforcer import Enforcer, open_enforcers
from agent_identity._guard.calls.approval_request import Approval
from agent_identity._guard.judging.context import EnforcementContext
from agent_identity._guard.telemetry.diagnosis import Check, examine_pipeline, examine_telemetry
from agent_identity._policy.rule_set import RuleSet
from agent_identity._verify.report.plurals import counted, some
from agent_identity.cli.operate.doctor_directory import examine_directory
from agent_identity.cli.operate.doctor_flow import examine_flow, examine_policies, flow_json, flow_lines, flow_rows
from agent_identity.cli.operate.doctor_frameworks import examine_frameworks, examine_package, examine_versions
from agent_identity.cli.terminal.style import Style, clean, columns, hanging
from agent_identity.errors import ConfigurationError, StateError, TokenError
from agent_identity.integrations.instrumentation import instrumented

_MARKS: Final = {"ok": ("✓", "green"), "warn": ("!", "yellow"), "fail": ("✗", "red")}
_EPOCH_2024: Final = 1_704_067_200
Section: TypeAlias = tuple[str, Sequence[Check]]


def run(chosen: argparse.Namespace) -> int:
    """Run the command."""
    if chosen.module:
        _import_application(chosen.module)
    sections = diagnose(chosen.directory, imported=bool(chosen.module), policy=chosen.policy, keys=chosen.keys)
    if chosen.state is not None:
        sections.append(("shared state", list(_examine_state(chosen))))
    if chosen.hooks is not None:
        from agent_identity.cli.operate.doctor_hooks import examine_hooks

        sections.append(("hooks", examine_hooks([Path(chosen.hooks)] if chosen.hooks else None)))
    rows = flow_rows(None if chosen.policy is None else RuleSet.load(chosen.policy))
    if chosen.json:
        print(json.dumps({**as_json(sections), "flow": flow_json(rows)}))
    else:
        style = Style(sys.stdout)
        print("\n".join([*flow_lines(rows, style), *lines(sections, style, columns(sys.stdout))]))
    return 1 if _count(sections)["fail"] else 0


def _examine_state(chosen: argparse.Namespace) -> Iterator[Check]:
    """Query the store of ``--state``, and check that its list of revocations counts under the trust file here."""
    from agent_identity._guard.judging.revocations import LIST_NAME, read_list
    from agent_identity._identity.common.clock import SystemClock
    from agent_identity.cli.terminal.stores import store_of

    store = store_of(chosen)
    if store is None:
        return
    with contextlib.closing(store):
        asked = examine_store("store", store)
        yield asked
        kept = store.get(LIST_NAME) if asked.status == "ok" else None
    if kept is not None and chosen.directory is not None:
        try:
            listed = read_list(Path(chosen.directory), kept[1], SystemClock())
        except (ConfigurationError, TokenError) as error:
            cure = "give this trust.json the issuer keys of the other machines; until then every call is refused"
            yield Check("revocations", "fail", f"the list does not count here ({error.code})", cure)
        else:
            yield Check("revocations", "ok", f"version {listed.version} of the list counts here")


def diagnose(
    directory: str | os.PathLike[str] | None = None,
    *,
    imported: bool = True,
    policy: str | os.PathLike[str] | None = None,
    keys: str | os.PathLike[str] | None = None,
) -> list[Section]:
    """Check this process and an evidence directory, as the command does with ``--import``, from within.

    Args:
        directory: The directory of the enforcer.
        imported: Whether this is the process of the application.
        policy: A policy file to check against the guarded tools, in place of the policy in force.
        keys: The folder of the keys, if it is outside the directory.

    Returns:
        The checks by section, without empty sections.

    Raises:
        PolicyFormatError: The policy file has mistakes.
        ConfigurationError: The policy file cannot be read.
    """
    candidate = None if policy is None else RuleSet.load(policy)
    sections: list[Section] = [
        ("installation", [examine_package(), *examine_versions(), examine_clock()]),
        ("application", [*_examine_application(imported=imported), *examine_enforcers()]),
        ("telemetry", [*examine_telemetry(), *examine_pipeline()]),
        ("frameworks", examine_frameworks()),
        ("tools", examine_tools()),
        ("policy", [*examine_policies(candidate), *examine_flow(flow_rows(candidate))]),
        ("directory", [] if directory is None else examine_directory(Path(directory), keys)),
    ]
    return [section for section in sections if section[1]]


def _count(sections: Sequence[Section]) -> Counter[str]:
    return Counter(check.status for _, checks in sections for check in checks)


def as_json(found: Sequence[Section]) -> dict[str, object]:
    """Return the checks as the command prints them for machines."""
    rows = [
        {"section": section, "name": c.name, "status": c.status, "detail": c.detail, "cure": c.cure}
        for section, checks in found
        for c in checks
    ]
    return {"checks": rows, "counts": {status: _count(found)[status] for status in _MARKS}}


def _import_application(named: str) -> None:
    """Import a module of the application from the current directory; its output goes to standard error.

    Args:
        named: The module, with an optional object after a colon, as ASGI servers name applications.

    Raises:
        ConfigurationError: The module cannot be imported, raises during import, or lacks the object.
    """
    module, _, name = named.partition(":")
    sys.path.insert(0, str(Path.cwd()))
    try:
        with contextlib.redirect_stdout(sys.stderr):
            loaded = importlib.import_module(module)
            if name:
                operator.attrgetter(name)(loaded)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - User code may raise anything.
        absent = isinstance(error, ModuleNotFoundError) and f"{module}.".startswith(f"{error.name}.")
        way_out = "check its name, and the directory that you are in" if absent else "see what it does when imported"
        raise ConfigurationError(f"cannot import {named!r}: {type(error).__name__}: {error}; {way_out}") from None


def lines(found: Sequence[Section], style: Style, room: int | None = None) -> Iterator[str]:
    """Yield the checks with their cures, and a summary.

    Args:
        found: What was looked at.
        style: Paints it.
        room: The columns of the terminal; ``None`` for no limit.
    """
    most = max(len(check.name) for _, checks in found for check in checks)
    for section, checks in found:
        yield style.paint(section.capitalize(), "bold")
        for check in checks:
            mark, colour = _MARKS[check.status]
            detail = hanging(clean(check.detail), most + 4, room)
            yield f"{style.paint(mark, colour, 'bold')} {check.name:<{most}}  {detail}"
            if check.cure:
                cure = hanging(f"→ {clean(check.cure)}", most + 4, room)
                yield f"{'':{most + 4}}{style.paint(cure, 'dim')}"
        yield ""
    counts = _count(found)
    words = (("fail", "to repair"), ("warn", "to look at"), ("ok", "fine"))
    yield ", ".join(f"{counts[status]} {word}" for status, word in words if counts[status])


def examine_clock(wall: Callable[[], float] = time.time) -> Check:
    """Check the wall clock."""
    if wall() < _EPOCH_2024:
        return Check("clock", "fail", "the wall clock is before 2024", "set the clock; grants live in real time")
    return Check("clock", "ok", f"UTC {time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime(wall()))}")


def _examine_application(*, imported: bool) -> list[Check]:
    """Report that the telemetry and tools of this process, not of the application, are checked."""
    if imported:
        return []
    detail = "not imported: provider and tools are those of this process, not of your application"
    return [Check("process", "warn", detail, "agent-identity doctor --import MODULE")]


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
