"""Zero-code OpenTelemetry instrumentor: monitors every LangChain tool of a process.

``opentelemetry-instrument python app.py`` finds it by its entry point. It imports LangChain only after the application
does, and starts in monitor mode: everything runs and is recorded, with the refusals that enforce mode would make.

Needs ``opentelemetry-instrumentation``, which comes with ``pip install 'opentelemetry-distro[otlp]'``. If
``opentelemetry-instrument`` itself fails to start, it logs that and runs the program with nothing guarded; a missing
evidence directory after the first tool call is the sign.
"""

import atexit
import functools
import logging
import os
import threading
from collections.abc import Awaitable, Callable, Collection
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING, Final, cast, final

import wrapt

from agent_identity._enforcement import Enforcer
from agent_identity._enforcement.common import off_loop
from agent_identity.errors import ConfigurationError, Denied
from agent_identity.integrations.span_enrichment import stamp_spans

try:
    from opentelemetry.instrumentation.instrumentor import BaseInstrumentor  # type: ignore[attr-defined]  # It has no types.
except ModuleNotFoundError as error:
    if not (error.name or "").startswith("opentelemetry.instrumentation"):
        raise
    raise ImportError(
        "opentelemetry-instrumentation is not installed; pip install 'opentelemetry-distro[otlp]'"
    ) from error

if TYPE_CHECKING:
    from langchain_core.tools import BaseTool

    from agent_identity.integrations.langchain.guarded_copies import ToolProxies

__all__ = ["LangChainInstrumentor"]

_LOG: Final = logging.getLogger("agent_identity")
_MODULE: Final = "langchain_core.tools.base"
_MODE: Final = "AGENT_IDENTITY_MODE"
_DIRECTORY: Final = "AGENT_IDENTITY_DIR"
_POLICY: Final = "AGENT_IDENTITY_POLICY"
_STAMPS: Final = "AGENT_IDENTITY_STAMPS"
_SYNC: Final = "run"
_ASYNC: Final = "arun"
_Entry = Callable[..., object]


class LangChainInstrumentor(BaseInstrumentor):  # type: ignore[misc]  # As above.
    """Guards every LangChain tool of the process: sub-agents', plain functions', retrievers', legacy agents'.

    A tool that ``protect`` or the middleware guards is left to them, so a call is one decision and one span.
    Bodies called without ``BaseTool.run`` and ``arun`` (``tool.func(…)``) are not seen; ``protect`` sees them.

    ``instrument`` takes an open ``enforcer``, which the caller closes. Without one it opens its own when the
    first tool runs, by the environment:

    - ``AGENT_IDENTITY_DIR``: the directory of keys and evidence; ``evidence`` by default.
    - ``AGENT_IDENTITY_MODE``: ``monitor`` (the default) or ``enforce``.
    - ``AGENT_IDENTITY_POLICY``: the path of a policy file; none by default.

    With ``stamps=True``, or ``AGENT_IDENTITY_STAMPS=true``, the spans of other libraries are stamped as well
    (:mod:`agent_identity.integrations.span_enrichment`).

    In monitor mode no failure of ours reaches the application. Enforce mode refuses unguardable tools.
    """

    _watch: "_Watch | None" = None

    def instrumentation_dependencies(self) -> Collection[str]:
        """Return the requirements of :meth:`instrument`."""
        return ("langchain-core >= 1.0, < 2",)

    def _instrument(self, **kwargs: object) -> None:
        enforcer = kwargs.get("enforcer")
        if enforcer is not None and not isinstance(enforcer, Enforcer):
            raise TypeError(f"enforcer is {type(enforcer).__name__}; pass an Enforcer")
        if kwargs.get("stamps", os.environ.get(_STAMPS, "").strip().lower() == "true"):
            stamp_spans()
        watch = self._watch = _Watch(enforcer)
        wrapt.register_post_import_hook(watch.patch, _MODULE)

    def _uninstrument(self, **_kwargs: object) -> None:
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.end()


@final
class _Watch:
    """Our patches of LangChain from one call of ``instrument``, until ``uninstrument``.

    Args:
        enforcer: The enforcer; without one, the environment has the settings.
    """

    def __init__(self, enforcer: Enforcer | None) -> None:
        self._lock = threading.RLock()
        self._on = True
        self._given = enforcer
        self._opened: Enforcer | None = None
        self._twins: ToolProxies | None = None
        self._kind: type[BaseTool] | None = None
        self._replaced: dict[str, tuple[_Entry, _Entry]] = {}
        self._told: set[str] = set()
        # A misspelt mode must not let everything run.
        mode = os.environ.get(_MODE, "monitor") if enforcer is None else enforcer.mode
        self._enforces = mode != "monitor"

    def patch(self, module: ModuleType) -> None:
        """Patch the base class of all tools; called once LangChain has been imported."""
        with self._lock:
            if not self._on:
                return
            kind: type[BaseTool] = module.BaseTool
            self._kind = kind
            for name, made in ((_SYNC, self._run), (_ASYNC, self._arun)):
                original: _Entry = kind.__dict__[name]
                ours = made(original)
                self._replaced[name] = original, ours
                setattr(kind, name, ours)

    def end(self) -> None:
        """Remove our patches; below the patches of others, ours do nothing any more."""
        with self._lock:
            self._on = False
            for name, (original, ours) in self._replaced.items():
                if self._kind is not None and self._kind.__dict__.get(name) is ours:
                    setattr(self._kind, name, original)
            self._replaced.clear()
            opened, self._opened, self._twins = self._opened, None, None
        if opened is not None:
            atexit.unregister(opened.close)
            opened.close()

    def _run(self, original: _Entry) -> _Entry:
        @functools.wraps(original)
        def run(tool: "BaseTool", *args: object, **kwargs: object) -> object:
            try:
                twin = self._twin(tool)
            except Denied as denied:
                return _answer(tool, denied, kwargs.get("tool_call_id"))
            if twin is None:
                return original(tool, *args, **kwargs)
            from agent_identity.integrations.langchain.invocation import invoke  # As in _twin.

            return invoke(twin, original, *args, **kwargs)

        return run

    def _arun(self, original: _Entry) -> _Entry:
        entry = cast("Callable[..., Awaitable[object]]", original)

        @functools.wraps(original)
        async def arun(tool: "BaseTool", *args: object, **kwargs: object) -> object:
            try:
                # The first call may open the directory.
                twin = await off_loop(partial(self._twin, tool)) if self._twins is None else self._twin(tool)
            except Denied as denied:
                return _answer(tool, denied, kwargs.get("tool_call_id"))
            if twin is None:
                return await entry(tool, *args, **kwargs)
            from agent_identity.integrations.langchain.invocation import ainvoke  # As in _twin.

            return await ainvoke(twin, entry, *args, **kwargs)

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
            refuses = not self._enforces or is_enforced(tool)
        except Exception as error:
            kind = type(error).__name__
            if self._enforces:
                raise Denied(
                    f"{tool.name}: the tool cannot be guarded ({kind}); see the log", code="not_guarded"
                ) from error
            if kind not in self._told:
                self._told.add(kind)
                _LOG.warning("tools run unmonitored, because monitoring them failed with %s: %s", kind, error)
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

                enforcer = self._given
                if enforcer is None:
                    enforcer = self._opened = self._open()
                    atexit.register(enforcer.close)
                self._twins = ToolProxies(enforcer, lambda tool: _vet(tool, enforcer))
            return self._twins

    @staticmethod
    def _open() -> Enforcer:
        mode = os.environ.get(_MODE, "monitor")
        if mode not in {"monitor", "enforce"}:
            raise ConfigurationError(f"{_MODE} is unknown; use monitor or enforce")
        directory = os.environ.get(_DIRECTORY, "evidence")
        return Enforcer.open(
            directory, mode="enforce" if mode == "enforce" else "monitor", policy=os.environ.get(_POLICY) or None
        )


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
