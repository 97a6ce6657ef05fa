"""OpenTelemetry instrumentor for LangChain alone: monitors every LangChain tool of a process.

``opentelemetry-instrument`` loads :mod:`agent_identity.integrations.instrumentor`, which covers LangChain and the other
frameworks. Needs ``opentelemetry-instrumentation``, which comes with ``pip install 'opentelemetry-distro[otlp]'``.
"""

from collections.abc import Collection

import wrapt

from agent_identity.integrations.enforcer_source import EnforcerSource
from agent_identity.integrations.instrumentor import BaseInstrumentor, stamp_if_asked
from agent_identity.integrations.langchain_patches import LangChainPatches

__all__ = ["LangChainInstrumentor"]


class LangChainInstrumentor(BaseInstrumentor):  # type: ignore[misc]  # It has no types.
    """Guards every LangChain tool of the process: sub-agents', plain functions', retrievers', legacy agents'.

    A tool that ``protect`` or the middleware guards is left to them, so a call is one decision and one span.
    Bodies called without ``BaseTool.run`` and ``arun`` (``tool.func(…)``) are not seen; ``protect`` sees them.

    ``instrument`` takes an open ``enforcer``, which the caller closes. Without one it opens its own when the
    first tool runs, by the environment:

    - ``AGENT_IDENTITY_DIR``: the directory of keys and evidence; ``evidence`` by default.
    - ``AGENT_IDENTITY_MODE``: ``monitor`` (the default) or ``enforce``.
    - ``AGENT_IDENTITY_POLICY``: the path of a policy file; none by default.

    With ``stamps=True``, or ``AGENT_IDENTITY_STAMPS=true``, the spans of other libraries are stamped as well
    (:mod:`agent_identity.telemetry`).

    In monitor mode no failure of ours reaches the application. Enforce mode refuses unguardable tools.
    """

    _watch: tuple[EnforcerSource, LangChainPatches] | None = None

    def instrumentation_dependencies(self) -> Collection[str]:
        """Return the requirements of :meth:`instrument`."""
        return ("langchain-core >= 1.0, < 2",)

    def _instrument(self, **kwargs: object) -> None:
        source = EnforcerSource(kwargs.get("enforcer"))
        stamp_if_asked(kwargs)
        patches = LangChainPatches(source)
        self._watch = source, patches
        wrapt.register_post_import_hook(patches.patch, LangChainPatches.MODULE)

    def _uninstrument(self, **_kwargs: object) -> None:
        watch, self._watch = self._watch, None
        if watch is not None:
            source, patches = watch
            patches.end()
            source.close()
