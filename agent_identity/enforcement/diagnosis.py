"""Looks at the telemetry of this process for what would cost spans or cut evidence on them."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, final

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider as SdkProvider

__all__ = ["Check", "examine_telemetry"]

NEEDED_ATTRIBUTES: Final = 64
"""Attributes that a span must be able to hold: ours and those of the application."""

NEEDED_LENGTH: Final = 4096
"""Characters that an attribute must be able to hold: a grant or a signed record."""


_ALWAYS: Final = ("AlwaysOnSampler", "ParentBased{root:AlwaysOnSampler,")
"""How the SDK describes samplers that keep every trace that starts here."""


@final
@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: What was looked at.
        status: ``ok``, ``warn`` (evidence is kept, but something is lost elsewhere) or ``fail``.
        detail: What was found.
        cure: What to do about it; empty where nothing is to do.
    """

    name: str
    status: Literal["ok", "warn", "fail"]
    detail: str
    cure: str = ""


def examine_telemetry(
    provider: trace.TracerProvider | None = None, environ: Mapping[str, str] | None = None
) -> list[Check]:
    """Return what was found about provider, sampler and span limits.

    Args:
        provider: The provider to look at; by default the global one.
        environ: The environment; by default the process's.
    """
    env = os.environ if environ is None else environ
    found = provider or trace.get_tracer_provider()
    if env.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        cure = "unset it; the ledger is kept anyway"
        return [Check("provider", "warn", "OTEL_SDK_DISABLED is set: no spans are made", cure)]
    if not isinstance(found, SdkProvider):
        kind = f"{type(found).__module__}.{type(found).__qualname__}"
        cure = "set an SDK TracerProvider with an exporter, before or after the enforcer; the ledger is kept anyway"
        return [Check("provider", "warn", f"no SDK tracer provider, but {kind}: spans may not be made", cure)]
    return [Check("provider", "ok", "SDK tracer provider"), _sampler(found), *_limits(found)]


def _sampler(provider: SdkProvider) -> Check:
    sampler = provider.sampler
    description = sampler.get_description()
    if description.startswith(_ALWAYS):
        return Check("sampler", "ok", description)
    cure = "sample always on for agents; what is not sampled is only in the ledger"
    return Check("sampler", "warn", f"{description}: some spans will not be made", cure)


def _limits(provider: SdkProvider) -> list[Check]:
    # The SDK offers no public way to read the limits of a provider.
    limits = getattr(provider, "_span_limits", None)
    count = getattr(limits, "max_span_attributes", None)
    length = getattr(limits, "max_span_attribute_length", None)
    checks: list[Check] = []
    if isinstance(count, int) and count < NEEDED_ATTRIBUTES:
        cure = f"raise OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT to {NEEDED_ATTRIBUTES} or more"
        checks.append(Check("span limits", "warn", f"{count} attributes a span: evidence may be evicted", cure))
    if isinstance(length, int) and length < NEEDED_LENGTH:
        cure = f"raise OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT to {NEEDED_LENGTH} or more, or unset it"
        checks.append(Check("span limits", "fail", f"values are cut at {length}: signatures will not verify", cure))
    return checks or [Check("span limits", "ok", "large enough for signed records")]
