"""The first members of streams: the process, and the certificate of its recorder key."""

import contextlib
import logging
import os
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Final, Literal, Protocol, final

from agent_identity._guard.common.recorded_decisions import is_fact
from agent_identity._identity.common.private_files import read_public_file
from agent_identity._identity.keys.keys import PublicKey
from agent_identity._identity.trust.certificates import MAX_CERTIFICATE, unverified_certificate
from agent_identity._ledger.ledger import Ledger
from agent_identity._record.parts import KeyTrust, StreamResource, Time
from agent_identity._record.pseudonyms import Pseudonyms
from agent_identity._record.schema import Trust
from agent_identity.errors import ConfigurationError, TokenError

_LOG: Final = logging.getLogger("agent_identity")
_MAX_FRAMEWORKS: Final = 32

_FRAMEWORKS: Final[Mapping[str, tuple[str, ...]]] = {
    "agent_framework": ("agent-framework-core", "agent-framework"),
    "agents": ("openai-agents",),
    "agno": ("agno",),
    "autogen_agentchat": ("autogen-agentchat",),
    "autogen_core": ("autogen-core",),
    "claude_agent_sdk": ("claude-agent-sdk",),
    "crewai": ("crewai",),
    "dspy": ("dspy",),
    "fastmcp": ("fastmcp",),
    "google.adk": ("google-adk",),
    "haystack": ("haystack-ai",),
    "langchain": ("langchain",),
    "langchain_core": ("langchain-core",),
    "langgraph": ("langgraph",),
    "llama_index.core": ("llama-index-core",),
    "mcp": ("mcp",),
    "pydantic_ai": ("pydantic-ai-slim", "pydantic-ai"),
    "semantic_kernel": ("semantic-kernel",),
    "smolagents": ("smolagents",),
    "strands": ("strands-agents",),
}
"""Agent frameworks by the module that is imported, with the distributions that bring it."""


def resource_of(pseudonyms: Pseudonyms | None) -> StreamResource | None:
    """Return the resource of this process from its environment (``OTEL_SERVICE_NAME``, ``OTEL_RESOURCE_ATTRIBUTES``).

    Args:
        pseudonyms: Names host and instance, if principals have pseudonyms as well.

    Raises:
        EvidenceError: A pseudonym cannot be stored.
    """
    from opentelemetry.sdk.resources import OTELResourceDetector  # noqa: PLC0415  Once in a stream, and loads much.

    attributes = OTELResourceDetector().detect().attributes
    known = {name: value for name, value in attributes.items() if isinstance(value, str) and is_fact(value)}
    resource = StreamResource(
        service=known.get("service.name"),
        namespace=known.get("service.namespace"),
        version=known.get("service.version"),
        instance=_hidden("instance", known.get("service.instance.id"), pseudonyms),
        environment=known.get("deployment.environment.name"),
        host=_hidden("host", known.get("host.name"), pseudonyms),
        frameworks=_frameworks(),
    )
    return None if resource == StreamResource() else resource


def _hidden(kind: str, name: str | None, pseudonyms: Pseudonyms | None) -> str | None:
    """Return a name, or its pseudonym."""
    return name if name is None or pseudonyms is None else pseudonyms.of(kind, name)


def _frameworks() -> tuple[str, ...] | None:
    """Return the agent frameworks that this process has imported, as ``name==version``; imports none itself."""
    frameworks = {
        f"{name}=={version}"
        for module, names in _FRAMEWORKS.items()
        if sys.modules.get(module) is not None
        for name in names
        if (version := _version(name)) is not None
    }
    return tuple(sorted(filter(is_fact, frameworks)))[:_MAX_FRAMEWORKS] or None


def _version(distribution: str) -> str | None:
    from importlib import metadata  # noqa: PLC0415  As above.

    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


@final
class CertificateFile:
    """The certificate of the recorder key of a directory, ``keys/recorder.certificate``, if a root has issued one.

    Args:
        folder: The folder of its keys.
        recorder: The recorder key.
        origin: The name of the log.

    Raises:
        ConfigurationError: The file holds no certificate, or one for another key or log.

    Attributes:
        first: The first certificate read; ``None`` without one.
        token: The latest certificate read.
    """

    __slots__ = ("_origin", "_path", "_recorder", "_seen", "first", "token")

    def __init__(self, folder: str | os.PathLike[str], recorder: PublicKey, origin: str) -> None:
        self._path = Path(folder) / "recorder.certificate"
        self._recorder = recorder
        self._origin = origin
        self._seen: tuple[int, int, int] | None = None
        self.token: str | None = None
        self.look()
        self.first = self.token

    def fact(self, status: Literal["trusted", "renewed"]) -> KeyTrust:
        """Return the member of a record about the certificate."""
        return KeyTrust(key=self._recorder.thumbprint, purpose="recorder", status=status, certificate=self.token)

    def look(self) -> None:
        """Read the file again, and use a changed certificate.

        Raises:
            ConfigurationError: As above; the earlier certificate stays.
        """
        try:
            status = self._path.stat()
        except FileNotFoundError:
            return
        except OSError as error:
            raise ConfigurationError(f"{self._path}: {error.strerror}; check owner and modes") from None
        stamp = (status.st_mtime_ns, status.st_ino, status.st_size)
        if stamp == self._seen:
            return
        self._seen = stamp
        self.token = self._checked(read_public_file(self._path, limit=MAX_CERTIFICATE + 2))

    def _checked(self, data: bytes) -> str:
        token = data.decode("ascii", "replace").strip()
        try:
            certificate = unverified_certificate(token)
        except TokenError as error:
            raise ConfigurationError(
                f"{self._path} holds no certificate ({error}); put there what the root signed, or remove the file",
                code=error.code,
            ) from None
        if certificate.recorder != self._recorder or certificate.origin != self._origin:
            what = "key" if certificate.recorder != self._recorder else "log"
            raise ConfigurationError(
                f"{self._path} is the certificate of another {what}; have the root certify the recorder key of this "
                f"directory for the log {self._origin!r}, or remove the file",
                code="wrong_origin" if what == "log" else "unknown_key",
            )
        return token


class Certifying(Protocol):
    """Has the recorder key certified by a service."""

    @property
    def problem(self) -> str | None:
        """The reason why the last certificate that was asked for did not come."""
        ...

    def renew(self) -> None:
        """Have the next certificate put into its file if it is time to, without waiting for it."""
        ...


@final
class Renewals:
    """Records renewed certificates of the recorder key, in each stream that lacks the record."""

    __slots__ = ("_certifying", "_file", "_said")

    def __init__(self) -> None:
        self._file: CertificateFile | None = None
        self._certifying: Certifying | None = None
        self._said: tuple[str, str | None] | None = None

    def use(self, file: CertificateFile | None, certifying: Certifying | None = None) -> None:
        """Watch a certificate file from now on; without one, :meth:`record` does nothing.

        Args:
            file: The file.
            certifying: Has the next certificate put there.
        """
        self._file, self._certifying = file, certifying

    @property
    def fault(self) -> str | None:
        """The reason why the last certificate that was asked for did not come."""
        return None if self._certifying is None else self._certifying.problem

    def period(self) -> tuple[int, int] | None:
        """Return the first second of the latest certificate, and the one in which it expires; ``None`` without one.

        The file is read again, since no task may have opened for long.
        """
        file = self._file
        if file is None:
            return None
        with contextlib.suppress(ConfigurationError):  # The next task tells.
            file.look()
        if file.token is None:
            return None
        certificate = unverified_certificate(file.token)
        return certificate.not_before, certificate.expires_at

    def record(self, ledger: Ledger) -> None:
        """Record the current certificate; called when a task opens.

        A newly unusable file is logged, and changes nothing.

        Args:
            ledger: The ledger.

        Raises:
            EvidenceError: The certificate could not be recorded.
        """
        file = self._file
        if file is None:
            return
        if self._certifying is not None:
            self._certifying.renew()
        try:
            file.look()
        except ConfigurationError as error:
            _LOG.error("the certificate of the recorder key is not renewed: %s", error)
        stream = ledger.stream
        said = file.first if self._said is None or self._said[0] != stream else self._said[1]
        if file.token is not None and file.token != said:
            fact = file.fact("trusted" if said is None else "renewed")
            ledger.append(partial(Trust, time=Time.at(ledger.clock.wall_ns()), trust=fact))
        self._said = stream, file.token
