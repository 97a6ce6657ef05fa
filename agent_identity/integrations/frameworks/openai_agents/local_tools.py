"""Tools that the SDK itself runs here, guarded in place: custom tools, shells, and editors of patches."""

import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Final, NamedTuple, TypeAlias, cast

from agents import ApplyPatchTool, CustomTool, LocalShellTool, ShellTool, Tool
from agents.editor import ApplyPatchOperation, ApplyPatchResult
from agents.tool import LocalShellCommandRequest, ShellCommandRequest

from agent_identity.adapters import CallRequest, ToolCall
from agent_identity.integrations.frameworks.openai_agents.arguments import shown
from agent_identity.integrations.frameworks.openai_agents.bodies import SharedBody, seen_in
from agent_identity.integrations.frameworks.openai_agents.owners import Owner

__all__ = ["guard_local_tool", "is_local", "release_local_tool"]

_Run: TypeAlias = Callable[..., object]


class _Seen(NamedTuple):
    """What the guard sees of a call, and what the body gets of the judged arguments."""

    context: object
    arguments: dict[str, object]
    call_id: str | None
    rebuild: Callable[[dict[str, Any]], tuple[object, ...]]


class _LocalBody(SharedBody):
    """The body of a tool that is no function tool.

    Args:
        name: The name of the tool.
        original: The body.
        see: Describes a call of the body.
    """

    def __init__(self, name: str, original: _Run, see: Callable[..., _Seen]) -> None:
        super().__init__()
        self.original: Final = original
        self._name = name
        self._see = see

    async def __call__(self, *args: object) -> object:
        seen = self._see(*args)
        caller = self.caller(seen.context)
        asked = ToolCall(self._name, CallRequest(seen.arguments, call_id=seen.call_id), caller.name)
        asked = seen_in(seen.context, caller, asked)

        async def body(arguments: Mapping[str, object]) -> object:
            result = self.original(*seen.rebuild(dict(arguments)))
            return shown(await cast("Awaitable[object]", result) if inspect.isawaitable(result) else result)

        return await self.answer(caller, asked, body)


class _Editor:
    """An editor whose operations are guarded calls of one tool."""

    def __init__(self, tool: ApplyPatchTool) -> None:
        self.original: Final = tool.editor
        self.create_file, self.update_file, self.delete_file = (
            partial(self._operate, _LocalBody(tool.name, operate, _see_patch))
            for operate in (tool.editor.create_file, tool.editor.update_file, tool.editor.delete_file)
        )
        self.owners: Final = list[Owner]()

    async def _operate(self, body: _LocalBody, operation: ApplyPatchOperation) -> object:
        body.owners[:] = self.owners
        result = await body(operation)
        if isinstance(result, str) and result.startswith("refused: "):
            return ApplyPatchResult(status="failed", output=result)
        return result


def guard_local_tool(tool: Tool, owner: Owner) -> bool:
    """Guard a tool in place, and return whether it can be guarded.

    Args:
        tool: The tool; no function tool.
        owner: The protection of an agent that has it.
    """
    if not is_local(tool):
        return False
    slot = _slot(tool)
    body = getattr(tool, slot)
    if not isinstance(body, _LocalBody | _Editor):
        made = _Editor(tool) if isinstance(tool, ApplyPatchTool) else _LocalBody(tool.name, body, _see(tool))
        setattr(tool, slot, made)
        body = made
    if owner not in body.owners:
        body.owners.append(owner)
    return True


def release_local_tool(tool: Tool, owner: Owner) -> None:
    """Undo :func:`guard_local_tool`; a tool stays guarded for other owners.

    Args:
        tool: The tool.
        owner: The protection.
    """
    body = getattr(tool, _slot(tool), None) if is_local(tool) else None
    if isinstance(body, _LocalBody | _Editor) and owner in body.owners:
        body.owners.remove(owner)
        if not body.owners:
            setattr(tool, _slot(tool), body.original)


def is_local(tool: Tool) -> bool:
    """Return whether a tool that is no function tool runs here, so that it can be guarded."""
    if isinstance(tool, ShellTool):
        return tool.executor is not None
    return isinstance(tool, CustomTool | LocalShellTool | ApplyPatchTool)


def _slot(tool: Tool) -> str:
    if isinstance(tool, ApplyPatchTool):
        return "editor"
    return "on_invoke_tool" if isinstance(tool, CustomTool) else "executor"


def _see(tool: Tool) -> Callable[..., _Seen]:
    """Return what describes a call of the body of a tool, whose class may extend one of the SDK's own."""
    return next(see for kind, see in _SEES.items() if isinstance(tool, kind))


def _see_custom(context: object, text: str) -> _Seen:
    call_id = getattr(context, "tool_call_id", None)
    return _Seen(context, {"input": text}, call_id, lambda judged: (context, judged["input"]))


def _see_shell(request: ShellCommandRequest) -> _Seen:
    action = request.data.action
    arguments = _set({name: getattr(action, name) for name in ("commands", "timeout_ms", "max_output_length")})

    def rebuild(judged: dict[str, Any]) -> tuple[object, ...]:
        raw = request.data.raw if judged == arguments else None  # It has the arguments once more.
        return (replace(request, data=replace(request.data, action=replace(action, **judged), raw=raw)),)

    return _Seen(request.ctx_wrapper, arguments, request.data.call_id, rebuild)


def _see_local_shell(request: LocalShellCommandRequest) -> _Seen:
    action = request.data.action

    def rebuild(judged: dict[str, Any]) -> tuple[object, ...]:
        return (replace(request, data=request.data.model_copy(update={"action": action.model_copy(update=judged)})),)

    arguments = action.model_dump(mode="json", exclude={"type"})
    return _Seen(request.ctx_wrapper, _set(arguments), request.data.call_id, rebuild)


def _see_patch(operation: ApplyPatchOperation) -> _Seen:
    arguments = {name: getattr(operation, name, None) for name in ("type", "path", "diff", "move_to")}
    return _Seen(operation.ctx_wrapper, _set(arguments), None, lambda judged: (replace(operation, **judged),))


def _set(arguments: Mapping[str, object]) -> dict[str, object]:
    """Return the arguments that the model gave."""
    return {name: value for name, value in arguments.items() if value is not None}


_SEES: Final[dict[type, Callable[..., _Seen]]] = {
    CustomTool: _see_custom,
    LocalShellTool: _see_local_shell,
    ShellTool: _see_shell,
}
