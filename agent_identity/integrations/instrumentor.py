"""Zero-code OpenTelemetry instrumentor: guards the tools of every agent framework of a process.

``opentelemetry-instrument python app.py`` finds it by its entry point. It imports a framework only after the
application does, and starts in monitor mode: everything runs and is recorded, with the refusals that enforce mode
would make.

Needs ``opentelemetry-instrumentation``, which comes with ``pip install 'opentelemetry-distro[otlp]'``. If
``opentelemetry-instrument`` itself fails to start, it logs that and runs the program with nothing guarded; a missing
evidence directory is the sign. Without it, :func:`agent_identity.instrument` does the same.
"""

import os
from collections.abc import Collection, Mapping
from typing import Final

from agent_identity.integrations.enforcer_source import EnforcerSource
from agent_identity.integrations.instrumentation import FRAMEWORKS, PREFIX, install, uninstrument
from agent_identity.telemetry import stamp_spans

try:
    from opentelemetry.instrumentation.instrumentor import BaseInstrumentor  # type: ignore[attr-defined]  # It has no types.
except ModuleNotFoundError as error:
    if not (error.name or "").startswith("opentelemetry.instrumentation"):
        raise
    raise ImportError(
        "opentelemetry-instrumentation is not installed; pip install 'opentelemetry-distro[otlp]'"
    ) from error

__all__ = ["AgentIdentityInstrumentor", "BaseInstrumentor", "stamp_if_asked"]

_STAMPS: Final = "AGENT_IDENTITY_STAMPS"
_DISABLED: Final = "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS"


class AgentIdentityInstrumentor(BaseInstrumentor):  # type: ignore[misc]  # As above.
    """Guards every supported agent framework of the process, as :func:`agent_identity.instrument` does.

    ``instrument`` takes an open ``enforcer``, which the caller closes; without one the environment has the settings.
    A framework is left alone if ``OTEL_PYTHON_DISABLED_INSTRUMENTATIONS`` names it, as ``agent_identity_crewai``.
    With ``stamps=True``, or ``AGENT_IDENTITY_STAMPS=true``, the spans of other libraries are stamped as well
    (:mod:`agent_identity.telemetry`).
    """

    def instrumentation_dependencies(self) -> Collection[str]:
        """Return the frameworks; one of them is enough, and none is asked for before it is imported."""
        return ()

    def _instrument(self, **kwargs: object) -> None:
        source = EnforcerSource(kwargs.get("enforcer"))
        stamp_if_asked(kwargs)
        disabled = {name.strip().removeprefix(PREFIX) for name in os.environ.get(_DISABLED, "").split(",")}
        install(source, leave={framework.name for framework in FRAMEWORKS if framework.name in disabled})

    def _uninstrument(self, **_kwargs: object) -> None:
        uninstrument()


def stamp_if_asked(options: Mapping[str, object]) -> None:
    """Stamp the spans of other libraries if an option or the environment says so.

    Args:
        options: The options of ``instrument``.
    """
    if options.get("stamps", os.environ.get(_STAMPS, "").strip().lower() == "true"):
        stamp_spans()
