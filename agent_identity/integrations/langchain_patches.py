"""The patches of LangChain's base class of tools: each tool of the process runs as its guarded copy."""

import functools
import logging
import threading
from collections.abc import Awaitable, Callable
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING, Final, cast, final

from agent_identity import Enforcer
from agent_identity.adapters import off_loop, renewed_in_children
from agent_identity.errors import Denied
from agent_identity.integrations.enforcer_source import EnforcerSource
from agent_identity.integrations.method_patch import MethodPatch

if TYPE_CHECKING:
    from langchain_core.tools import BaseTool

    from agent_identity.integrations.langchain.guarded_copies import ToolProxies

__all__ = ["LangChainPatches"]

_LOG: Final = logging.getLogger("agent_identity")
_Entry = Callable[..., object]


@final
class LangChainPatches:
    """Our patches of LangChain, from its import until :meth:`end`.

    Args:
        source: Gives the enforcer when the first tool runs.
    """

    MODULE: Final = "langchain_core.tools.base"
    """The module whose import calls for :meth:`patch`."""

    def __init__(self, source: EnforcerSource) -> None:
        self._lock = threading.RLock()
        self._on = True
        self._source = source
        self._twins: ToolProxies | None = None
        self._patch: MethodPatch | None = None
        self._told: set[str] = set()
        renewed_in_children(self)

    def after_fork_in_child(self) -> None:
        """Replace the lock, which a thread of the parent may have held while the enforcer was opened."""
        self._lock = threading.RLock()

    def patch(self, module: ModuleType) -> None:
        """Patch the base class of all tools; called once LangChain has been imported."""
        with self._lock:
            if not self._on:
                return
            self._patch = MethodPatch(module.BaseTool, {"run": self._run, "arun": self._arun})
            self._patch.apply()

    def end(self) -> None:
        """Remove our patches; below the patches of others, ours do nothing any more."""
        with self._lock:
            self._on = False
            if self._patch is not None:
                self._patch.undo()
            self._twins = None

    def _run(self, original: _Entry) -> _Entry:
        @functools.cache
        def entry() -> _Entry:
            # At the first call: where this method runs, modules of LangChain may be half imported.
            from agent_identity.integrations.langchain.invocation import guarded_entry

            return guarded_entry(lambda: original)

        @functools.wraps(original)
        def run(tool: "BaseTool", *args: object, **kwargs: object) -> object:
            try:
                twin = self._twin(tool)
            except Denied as denied:
                return _answer(tool, denied, kwargs.get("tool_call_id"))
            if twin is None:
                return original(tool, *args, **kwargs)
            return entry()(twin, *args, **kwargs)

        return run

    def _arun(self, original: _Entry) -> _Entry:
        bare = cast("Callable[..., Awaitable[object]]", original)

        @functools.cache
        def entry() -> Callable[..., Awaitable[object]]:
            from agent_identity.integrations.langchain.invocation import guarded_async_entry  # As in _run.

            return guarded_async_entry(lambda: bare)

        @functools.wraps(original)
        async def arun(tool: "BaseTool", *args: object, **kwargs: object) -> object:
            try:
                # The first call may open the directory.
                twin = await off_loop(partial(self._twin, tool)) if self._twins is None else self._twin(tool)
            except Denied as denied:
                return _answer(tool, denied, kwargs.get("tool_call_id"))
            if twin is None:
                return await bare(tool, *args, **kwargs)
            return await entry()(twin, *args, **kwargs)

        return arun

    def _twin(self, tool: "BaseTool") -> "BaseTool | None":
        """Return the guarded copy of a tool; ``None`` to run the tool itself.

        Raises:
            Denied: In enforce mode, the tool cannot be guarded.
        """
        if not self._on:
            return None
        try:
            # LangChain need not be installed when this module is imported.
            from agent_identity.integrations.langchain.protection import is_enforced, is_protected

            if not is_protected(tool):
                return self._known().of(tool)
            refuses = not self._source.enforces or is_enforced(tool)
        except Exception as error:
            kind = type(error).__name__
            if kind not in self._told:
                self._told.add(kind)
                run = "are refused" if self._source.enforces else "run unmonitored"
                _LOG.warning("tools %s, because guarding them failed with %s: %s", run, kind, error)
            if self._source.enforces:
                raise Denied(
                    f"{tool.name}: the tool cannot be guarded ({kind}); see the log", code="not_guarded"
                ) from error
            return None
        if not refuses:
            raise Denied(
                f"{tool.name}: the tool's guard is in monitor mode; open its enforcer with mode='enforce'",
                code="not_guarded",
            )
        return None

    def _known(self) -> "ToolProxies":
        with self._lock:
            if self._twins is None:
                from agent_identity.integrations.langchain.guarded_copies import ToolProxies  # As above.

                enforcer = self._source.get()
                self._twins = ToolProxies(enforcer, lambda tool: _vet(tool, enforcer))
            return self._twins


def _answer(tool: "BaseTool", denied: Denied, call_id: object) -> object:
    """Return the refusal of an unguardable tool in the form for the model.

    Raises:
        Denied: The call has no tool call id.
    """
    if not isinstance(call_id, str):
        raise denied
    from agent_identity.integrations.langchain.invocation import refusal_message  # As in _twin.

    return refusal_message(denied, call_id, tool.name)


def _vet(tool: "BaseTool", enforcer: Enforcer) -> None:
    """Check that records can hold the tool's name; how its class runs does not matter if it ends in ours."""
    enforcer.guard(tool.name)
