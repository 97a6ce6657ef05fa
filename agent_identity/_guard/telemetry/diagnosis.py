"""Checks the telemetry of this process for settings that lose spans or truncate evidence on them.

The SDK has no public way to read processors, exporters and limits of a provider, and neither have the products on top
of it; checks skip what is not at its known place, and never guess.
"""

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, final
from urllib.parse import urlsplit

from opentelemetry import propagate, trace
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace import TracerProvider as SdkProvider
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from agent_identity._guard.telemetry.foreign_spans import SCOPE
from agent_identity._spans.span_attributes import MIRRORED

NEEDED_ATTRIBUTES: Final = 64
"""Attributes that a span must hold: ours and those of the application."""

NEEDED_LENGTH: Final = 4096
"""Characters that an attribute must hold: a grant or a signed record."""


_ALWAYS: Final = ("AlwaysOnSampler", "ParentBased{root:AlwaysOnSampler,")
"""Descriptions of samplers that keep every trace that starts in this process."""


@final
@dataclass(frozen=True, slots=True)
class Check:
    """The result of one check.

    Attributes:
        name: The subject of the check.
        status: ``ok``, ``warn`` (evidence is kept, but something else is lost) or ``fail``.
        detail: The finding.
        cure: The cure; empty if none is needed.
    """

    name: str
    status: Literal["ok", "warn", "fail"]
    detail: str
    cure: str = ""


def examine_telemetry(
    provider: trace.TracerProvider | None = None, environ: Mapping[str, str] | None = None
) -> list[Check]:
    """Check the provider, sampler and span limits.

    Args:
        provider: The provider; by default the global one.
        environ: The environment; by default the process's.
    """
    env = os.environ if environ is None else environ
    current = provider or trace.get_tracer_provider()
    if env.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        cure = "unset it; the ledger is kept anyway"
        return [Check("provider", "warn", "OTEL_SDK_DISABLED is set: no spans are made", cure)]
    sdk = _sdk(current)
    if sdk is None:
        cure = "set an SDK TracerProvider with an exporter, before or after the enforcer; the ledger is kept anyway"
        return [Check("provider", "warn", f"no SDK tracer provider, but {_kind(current)}: spans may not be made", cure)]
    detail = (
        "SDK tracer provider"
        if type(sdk) is SdkProvider and sdk is current
        else f"SDK tracer provider, {_kind(current)}"
    )
    return [Check("provider", "ok", detail), _sampler(sdk), *_limits(sdk)]


def _sdk(provider: trace.TracerProvider) -> SdkProvider | None:
    """Return the SDK provider that a provider is, or wraps, as Logfire's does."""
    if isinstance(provider, SdkProvider):
        return provider
    inner = getattr(provider, "provider", None)
    return inner if isinstance(inner, SdkProvider) else None


def _kind(thing: object) -> str:
    return f"{type(thing).__module__}.{type(thing).__qualname__}"


def _sampler(provider: SdkProvider) -> Check:
    sampler = provider.sampler
    description = sampler.get_description()
    if description.startswith(_ALWAYS):
        return Check("sampler", "ok", description.partition(",")[0].replace("{root:", ", root "))
    cure = "sample always on for agents; what is not sampled is only in the ledger"
    return Check("sampler", "warn", f"{description}: some spans will not be made", cure)


def _limits(provider: SdkProvider) -> list[Check]:
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


def examine_pipeline(provider: trace.TracerProvider | None = None) -> list[Check]:
    """Check processors, exporters, scrubbers and propagators: the path of finished spans.

    Args:
        provider: The provider; by default the global one.
    """
    current = provider or trace.get_tracer_provider()
    sdk = _sdk(current)
    checks = [] if sdk is None else [*_processors(sdk), *_scrubbers(current, sdk)]
    return [*checks, _propagators()]


def _each_processor(provider: SdkProvider) -> Sequence[object]:
    joined = getattr(provider, "_active_span_processor", None)
    processors: Sequence[object] = getattr(joined, "_span_processors", ())
    return processors


_WITHIN: Final = ("span_exporter", "_exporter", "exporter", "_batch_processor", "wrapped", "processor", "_processor")


def _within(thing: object, depth: int = 0) -> Iterator[object]:
    """Yield the processors and exporters that a processor hands spans to."""
    if depth > 6:
        return
    for name in _WITHIN:
        inner = vars(thing).get(name) if hasattr(thing, "__dict__") else None
        if inner is not None:
            yield inner
            yield from _within(inner, depth + 1)


def _exporter(processor: object) -> object | None:
    return next(
        (inner for inner in _within(processor) if hasattr(inner, "export") and hasattr(inner, "shutdown")), None
    )


def _processors(provider: SdkProvider) -> list[Check]:
    processors = _each_processor(provider)
    if not processors:
        cure = "provider.add_span_processor(BatchSpanProcessor(...)) with your exporter; the ledger is kept anyway"
        return [Check("processors", "warn", "none: spans are made, and go nowhere", cure)]
    checks = [Check("processors", "ok", ", ".join(map(_named, processors)))]
    for processor in processors:
        exporter = _exporter(processor)
        if type(processor).__name__ == "SimpleSpanProcessor" and hasattr(exporter, "_endpoint"):
            cure = "use BatchSpanProcessor: a collector that is down holds up each call for seconds otherwise"
            checks.append(Check("processors", "warn", f"{_named(processor)} sends in the way of the caller", cure))
    if getattr(provider, "_default_processor", None) is not None:
        cure = "provider.add_span_processor(..., replace_default_processor=False), as stamp_spans(provider) does"
        checks.append(Check("processors", "warn", "Phoenix drops its exporter when the next processor is added", cure))
    return checks


def _named(processor: object) -> str:
    """Describe a processor for people, with its exporter and endpoint."""
    exporter = _exporter(processor)
    if exporter is None:
        return type(processor).__name__
    return f"{type(processor).__name__} → {type(exporter).__name__}{_place(getattr(exporter, '_endpoint', None))}"


def _place(endpoint: object) -> str:
    """Return an exporter's endpoint, without credentials."""
    if not isinstance(endpoint, str):
        return ""
    parts = urlsplit(endpoint)
    host = parts.netloc.rpartition("@")[2]
    return f" to {host}{parts.path}" if host else ""


def _scrubbers(provider: trace.TracerProvider, sdk: SdkProvider) -> Iterator[Check]:
    """Yield the checks of scrubbers that remove attributes by pattern, filter or function."""
    scrubbing = getattr(getattr(provider, "config", None), "scrubbing", None)
    if scrubbing is not None and scrubbing is not False:
        patterns: Sequence[str] | None = getattr(scrubbing, "extra_patterns", None)
        yield _logfire(patterns or ())
    for processor in _each_processor(sdk):
        keeps: Callable[[ReadableSpan], bool] | None = getattr(processor, "_should_export_span", None)
        if keeps is not None:
            yield _langfuse(keeps)
        if any(getattr(inner, "_mask_otel_spans", None) is not None for inner in _within(processor)):
            cure = "have it leave attributes that begin with agent_identity. as they are"
            yield Check("scrubber", "warn", "Langfuse's mask_otel_spans may change evidence", cure)


def _logfire(patterns: Sequence[str]) -> Check:
    names = (*MIRRORED, "agent_identity.attestation.payload", "agent_identity.delegation.grant")
    hit = sorted({name for name in names for pattern in patterns if re.search(pattern, name, re.IGNORECASE)})
    if not hit:
        return Check("scrubber", "ok", "Logfire's patterns leave the names of our attributes alone")
    shown = ", ".join(hit[:3]) + (", …" if len(hit) > 3 else "")
    cure = "narrow extra_patterns, or let ScrubbingOptions(callback=...) return the value of agent_identity.*"
    return Check("scrubber", "warn", f"Logfire's extra_patterns blank {shown}", cure)


def _langfuse(keeps: Callable[[ReadableSpan], bool]) -> Check:
    """Check the filter with a span like ours."""
    attributes = {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "tool",
        "agent_identity.outcome": "success",
    }
    span = ReadableSpan("execute_tool tool", attributes=attributes, instrumentation_scope=InstrumentationScope(SCOPE))
    try:
        kept = keeps(span)
    except Exception:  # noqa: BLE001 - A user's function may raise anything.
        kept = False
    if kept:
        return Check("scrubber", "ok", "Langfuse's filter keeps our spans")
    cure = "have should_export_span return True for the scope agent_identity"
    return Check("scrubber", "warn", "Langfuse's filter drops our spans", cure)


def _propagators() -> Check:
    textmap = propagate.get_global_textmap()
    each: Sequence[object] = getattr(textmap, "_propagators", (textmap,))
    shown = ", ".join(sorted(type(one).__name__ for one in each)) or "none"
    if "traceparent" in textmap.fields:
        return Check("propagators", "ok", shown)
    cure = "put tracecontext into OTEL_PROPAGATORS; authority does not travel by it, only the trace does"
    return Check("propagators", "warn", f"{shown}: traces are split at the border of a process", cure)
