"""Guards the tools of every agent framework of a process, without a change to the application.

A framework is patched once the application has imported it, through the adapter for it, and imported by nobody else.
"""

import importlib
import importlib.metadata
import logging
import sys
import threading
from collections.abc import Callable, Collection, Mapping
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Final, NamedTuple, cast, final

import wrapt

from agent_identity import Enforcer
from agent_identity.errors import ConfigurationError
from agent_identity.integrations.enforcer_source import EnforcerSource
from agent_identity.integrations.langchain_patches import LangChainPatches

__all__ = ["FRAMEWORKS", "PREFIX", "Framework", "install", "instrument", "instrumented", "uninstrument"]

PREFIX: Final = "agent_identity_"
"""In front of the name of a framework, what ``OTEL_PYTHON_DISABLED_INSTRUMENTATIONS`` calls it."""

_LOG: Final = logging.getLogger("agent_identity")
_ADAPTERS: Final = "agent_identity.integrations.frameworks"


class Framework(NamedTuple):
    """An agent framework that can be guarded. Frozen.

    Attributes:
        name: Our name of it, which its adapter has.
        module: The module whose import calls for the adapter.
        distribution: The distribution that the module belongs to.
        lowest: The lowest version that the tests of the adapter ran with.
        newest: The newest one.
        mark: A public name of the module, which no other package of that name has.
    """

    name: str
    module: str
    distribution: str
    lowest: str
    newest: str
    mark: str


FRAMEWORKS: Final = (
    Framework("langchain", LangChainPatches.MODULE, "langchain-core", "1.0", "1.8.3", "BaseTool"),
    Framework("openai_agents", "agents", "openai-agents", "0.22", "0.24.0", "RunContextWrapper"),
    Framework("pydantic_ai", "pydantic_ai", "pydantic-ai-slim", "2.33", "2.68.0", "RunContext"),
    Framework("google_adk", "google.adk", "google-adk", "2.5", "2.13.0", "Runner"),
    Framework("claude_agent", "claude_agent_sdk", "claude-agent-sdk", "0.2.189", "0.2.189", "ClaudeAgentOptions"),
    Framework("crewai", "crewai", "crewai", "1.15.29", "1.15.30", "Crew"),
    Framework("strands", "strands", "strands-agents", "1.62", "1.62.0", "ToolContext"),
    Framework(
        "agent_framework", "agent_framework", "agent-framework-core", "1.13", "1.23.0", "FunctionInvocationContext"
    ),
    Framework("llama_index", "llama_index.core", "llama-index-core", "0.14.25", "0.14.25", "VectorStoreIndex"),
)
"""All supported frameworks."""


def instrument(enforcer: Enforcer | None = None) -> None:
    """Guard the tools of every supported agent framework that this process imports, now or later.

    Tools that an adapter guards already are left to it, so that a call is one record. In monitor mode no failure of
    ours reaches the application: a framework that cannot be patched is logged once and left alone. In enforce mode its
    import fails, and tools of LangChain that cannot be guarded are refused.

    Idempotent: without an enforcer, or with the same one, a second call does nothing; another enforcer replaces the
    one before.

    Args:
        enforcer: An open enforcer, which you close after :func:`uninstrument`. Without one it is opened when the first
            framework needs it, by the environment: ``AGENT_IDENTITY_DIR`` (``evidence`` by default),
            ``AGENT_IDENTITY_MODE`` (``monitor`` by default, or ``enforce``) and ``AGENT_IDENTITY_POLICY`` (a policy
            file; none by default).

    Raises:
        TypeError: It is no enforcer.
        ConfigurationError: In enforce mode, a framework that is imported already cannot be guarded.
    """
    install(EnforcerSource(enforcer))


def uninstrument() -> None:
    """Undo :func:`instrument`: put back every attribute, and close the enforcer if the environment opened it."""
    with _LOCK:
        ending = list(_ACTIVE)
        _ACTIVE.clear()
    for each in ending:
        each.end()


def instrumented() -> Mapping[str, bool]:
    """Return the frameworks that :func:`instrument` met in this process, by name: False if it could not patch one."""
    return {name: state for each in _ACTIVE for name, state in each.states().items()}


def install(source: EnforcerSource, *, leave: Collection[str] = ()) -> None:
    """Do what :func:`instrument` does.

    Args:
        source: Gives the enforcer.
        leave: The names of frameworks to leave alone.

    Raises:
        ConfigurationError: As there.
    """
    with _LOCK:
        if any(source.given in {None, each.source.given} for each in _ACTIVE):
            return
        uninstrument()
        new = _Instrumentation(source)
        _ACTIVE.append(new)
    try:
        new.begin(leave)
    except ConfigurationError:
        uninstrument()
        raise


@final
class _Instrumentation:
    """The patches of one call of :func:`install`, until :func:`uninstrument`.

    Args:
        source: Gives the enforcer.
    """

    def __init__(self, source: EnforcerSource) -> None:
        self.source = source
        self._lock = threading.Lock()
        self._on = True
        self._begins = False
        self._undo: dict[str, Callable[[], None]] = {}
        self._failed: set[str] = set()

    def begin(self, leave: Collection[str]) -> None:
        """Wait for the import of each framework; patch at once those that are imported already.

        Raises:
            ConfigurationError: In enforce mode, one of them cannot be guarded.
        """
        self._begins = True
        for framework in FRAMEWORKS:
            if framework.name not in leave:
                wrapt.register_post_import_hook(partial(self._imported, framework), framework.module)
        self._begins = False

    def states(self) -> dict[str, bool]:
        """Return whether each framework that was met is patched."""
        return dict.fromkeys(self._failed, False) | dict.fromkeys(self._undo, True)

    def end(self) -> None:
        """Undo the patches, the latest first, and close the enforcer if it was opened here."""
        with self._lock:
            self._on = False
            ending = list(self._undo.items())
            self._undo.clear()
        for name, undo in reversed(ending):
            try:
                undo()
            except Exception:  # noqa: BLE001 - The other patches are to be undone as well.
                _LOG.exception("the patches of %s could not be undone", name)
        self.source.close()

    def _imported(self, framework: Framework, module: ModuleType) -> None:
        """Patch a framework that has just been imported.

        Raises:
            ConfigurationError: In enforce mode, it cannot be guarded.
        """
        if not self._on:
            return
        try:
            if not _is_framework(framework, module):
                if self.source.enforces:
                    _LOG.warning(
                        "%s is left unguarded as a module of the application, because it is not that of the "
                        "distribution %s; if it is the framework, install that",
                        framework.module,
                        framework.distribution,
                    )
                return
            undo = self._patched(framework, module)
        except Exception as error:
            self._failed.add(framework.name)
            kind = type(error).__name__
            if self.source.enforces:
                self._ask_again(framework)
                name = framework.distribution
                if isinstance(error, ConfigurationError):  # Of a setting, as a rule; it names its own cure.
                    raise ConfigurationError(
                        f"{name} is not imported in enforce mode without a guard: {error}"
                    ) from error
                raise ConfigurationError(
                    f"{name} cannot be guarded ({kind}), and is not imported in enforce mode without a guard; "
                    f"install a version from {framework.lowest} to {framework.newest}"
                ) from error
            _LOG.warning("%s runs unmonitored, because patching it failed with %s: %s", framework.name, kind, error)
            return
        with self._lock:
            self._failed.discard(framework.name)
            if self._on:
                self._undo[framework.name] = undo
                return
        undo()  # Ended in the meantime.

    def _patched(self, framework: Framework, module: ModuleType) -> Callable[[], None]:
        if framework.module == LangChainPatches.MODULE:
            patches = LangChainPatches(self.source)  # It needs an enforcer when a tool runs, and not before.
            patches.patch(module)
            return patches.end
        adapter = importlib.import_module(f"{_ADAPTERS}.{framework.name}")
        patch = cast("Callable[[Enforcer], Callable[[], None]]", adapter.instrument)
        return patch(self.source.get())

    def _ask_again(self, framework: Framework) -> None:
        """Have the next import of a framework come here too: one that failed must not be followed by one that works."""
        if not self._begins:
            sys.modules.pop(framework.module, None)  # Python removes it as well, but later.
            wrapt.register_post_import_hook(partial(self._imported, framework), framework.module)


def _is_framework(framework: Framework, module: ModuleType) -> bool:
    """Return whether a module is the framework, or a copy of it, and no module of the application of the same name."""
    try:
        distribution = importlib.metadata.distribution(framework.distribution)
    except importlib.metadata.PackageNotFoundError:
        return hasattr(module, framework.mark)
    name = framework.module.replace(".", "/") + ("/__init__.py" if hasattr(module, "__path__") else ".py")
    installed, loaded = Path(str(distribution.locate_file(name))), module.__file__
    # A distribution that is installed as a link to its source has its files elsewhere.
    try:
        is_own = loaded is not None and installed.is_file() and not installed.samefile(loaded)
    except OSError:  # It came from an archive, or from nowhere; the adapter finds out whether it fits.
        return True
    return not is_own or hasattr(module, framework.mark)


_LOCK: Final = threading.RLock()
_ACTIVE: Final[list[_Instrumentation]] = []
