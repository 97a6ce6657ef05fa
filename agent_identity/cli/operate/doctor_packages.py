"""Checks of ``agent-identity doctor`` on installed distributions: the owner of our name, and fitting versions."""

import importlib.metadata
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Final, Literal, NamedTuple

from agent_identity._directory.open import refuse_clash
from agent_identity._guard.telemetry.diagnosis import Check
from agent_identity._verify.report.plurals import counted
from agent_identity.errors import ConfigurationError
from agent_identity.version import VERSION

_OURS: Final = "agent-identity-otel"
_WATCHED: Final = re.compile(
    r"(opentelemetry|openinference|langchain|langgraph|arize-phoenix|traceloop)([._-].*)?"
    r"|langfuse|logfire|mcp|fastmcp|pydantic|wrapt|cryptography|orjson",
    re.IGNORECASE,
)
"""Distributions whose versions must fit each other for spans with evidence."""

_SHOWN: Final = ("opentelemetry-sdk", "langchain-core", "langgraph", "mcp")


class Installed(NamedTuple):
    """An installed distribution.

    Attributes:
        name: Its normalized name (PEP 503).
        version: Its version.
        requires: Its requirements (PEP 508).
    """

    name: str
    version: str
    requires: tuple[str, ...]


def installed() -> list[Installed]:
    """Return the installed distributions that matter to us."""
    distributions: dict[str, Installed] = {}
    for each in importlib.metadata.distributions():
        name = str(each.metadata["Name"] or "")
        if name and (name == _OURS or _WATCHED.fullmatch(name)):
            plain = re.sub(r"[-_.]+", "-", name).lower()
            distributions.setdefault(plain, Installed(plain, each.version, tuple(each.requires or ())))
    return list(distributions.values())


def examine_package(find: Callable[[str], object] = importlib.metadata.distribution) -> Check:
    """Check for another distribution that owns our import name (threats AC-71).

    Args:
        find: Looks up an installed distribution by name.
    """
    try:
        refuse_clash(find)
    except ConfigurationError as error:
        detail, _, cure = str(error).partition("; ")
        return Check("package", "fail", detail, cure)
    return Check("package", "ok", f"agent_identity belongs to {_OURS}, version {VERSION}")


def examine_versions(found: Iterable[Installed] | None = None) -> list[Check]:
    """Check for distributions that do not fit each other, as when one was installed past the resolver.

    Args:
        found: The installed distributions.
    """
    every = {each.name: each for each in (installed() if found is None else found)}
    misfits = sorted({misfit for each in every.values() for misfit in _misfits(each, every)})
    checks = [Check("versions", *misfit) for misfit in misfits]
    if checks:
        return checks
    shown = ", ".join(f"{name} {every[name].version}" for name in _SHOWN if name in every)
    return [Check("versions", "ok", f"{counted(len(every), 'distribution')}, all fit each other; {shown}".rstrip("; "))]


def _misfits(each: Installed, every: dict[str, Installed]) -> Iterator[tuple[Literal["fail", "warn"], str, str]]:
    """Yield the status, the finding and its cure for each requirement that the environment does not meet."""
    try:
        from packaging.requirements import InvalidRequirement, Requirement  # It may be missing.
    except ModuleNotFoundError:
        return
    for text in each.requires:
        try:
            wanted = Requirement(text)
        except InvalidRequirement:
            continue
        name = re.sub(r"[-_.]+", "-", wanted.name).lower()
        other = every.get(name)
        always = wanted.marker is None or wanted.marker.evaluate({"extra": ""})
        # Requirements of extras do not apply, except ours: an application may use the integration without the extra.
        optional = not always and each.name == _OURS and "extra" in str(wanted.marker)
        if other is None or wanted.specifier.contains(other.version, prereleases=True) or not (always or optional):
            continue
        verb = "supports" if optional else "needs"
        detail = f"{each.name} {each.version} {verb} {name} {wanted.specifier}, and {other.version} is installed"
        cure = f"pip install '{name}{wanted.specifier}', or another version of {each.name}"
        if optional:
            yield "warn", detail, f"if you use {name} through our integration: {cure}"
        else:
            yield "fail" if each.name == _OURS else "warn", detail, cure
