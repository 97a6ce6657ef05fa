"""Where copies of the evidence go: a receiver of OTLP, how it is spoken with, and what its answers may mean."""

import os
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple, Protocol, Self, TypeAlias, final
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

from agent_identity.errors import ConfigurationError
from agent_identity.evidence import SpanCopy

__all__ = ["LONGEST_WAIT", "PROTOCOLS", "Answer", "OtlpProtocol", "Receiver", "Settings", "address"]

OtlpProtocol: TypeAlias = Literal["http/protobuf", "http/json", "grpc"]
"""How OTLP is spoken, in the words of the specification."""

PROTOCOLS: Final[tuple[OtlpProtocol, ...]] = ("http/protobuf", "http/json", "grpc")

_SPOKEN: Final[Mapping[str, OtlpProtocol]] = {name: name for name in PROTOCOLS}
_PATH: Final = "/v1/traces"
LONGEST_WAIT: Final = 3_600.0
"""Seconds that a receiver may ask to wait, and that a request may take."""


class Answer(NamedTuple):
    """What became of a batch.

    Attributes:
        kind: ``taken``: acknowledged; ``later``: try again; ``refused``: the receiver cannot take a record in it;
            ``too_large``: it may take a smaller one; ``unusable``: it would take nothing as we are set up.
        reason: Why, in one line, where it was not taken. It holds no header.
        wait: Seconds that the receiver asks to wait before the next attempt.
    """

    kind: Literal["taken", "later", "refused", "too_large", "unusable"]
    reason: str = ""
    wait: float = 0.0


class Receiver(Protocol):
    """A receiver of spans."""

    def send(self, spans: Sequence[SpanCopy]) -> Answer:
        """Send the spans in one request and return what became of them; never raises because of the other side."""
        ...


@final
@dataclass(frozen=True, slots=True)
class Settings:
    """How to speak with a receiver, from the environment variables that every exporter of OpenTelemetry reads.

    Attributes:
        protocol: How OTLP is spoken.
        headers: Names in lower case and values; they may hold credentials.
        timeout: Seconds for one request.
        compress: Whether bodies are compressed with gzip.
        authority: A file with the certificates to trust instead of the system's.
        certificate: A file with a client certificate.
        key: The file with its key.
    """

    protocol: OtlpProtocol = "http/protobuf"
    headers: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    timeout: float = 10.0
    compress: bool = False
    authority: str | None = None
    certificate: str | None = None
    key: str | None = None

    @classmethod
    def from_environment(cls, protocol: str | None = None, environ: Mapping[str, str] | None = None) -> Self:
        """Return the settings of ``OTEL_EXPORTER_OTLP_*``, and before these ``OTEL_EXPORTER_OTLP_TRACES_*``.

        https://opentelemetry.io/docs/specs/otel/protocol/exporter/

        Args:
            protocol: How OTLP is spoken, whatever the environment says.
            environ: The environment; by default the process's.

        Raises:
            ConfigurationError: A variable has not its form. Its value is not shown.
        """
        env = os.environ if environ is None else environ

        def read(name: str) -> str | None:
            return env.get(f"OTEL_EXPORTER_OTLP_TRACES_{name}") or env.get(f"OTEL_EXPORTER_OTLP_{name}") or None

        wanted = protocol or read("PROTOCOL") or "http/protobuf"
        found = _SPOKEN.get(wanted)
        if found is None:
            raise ConfigurationError(f"expected a protocol of {', '.join(PROTOCOLS)}, got another")
        return cls(
            protocol=found,
            headers=_headers(read("HEADERS") or ""),
            timeout=_seconds(read("TIMEOUT")),
            compress=read("COMPRESSION") == "gzip",
            authority=read("CERTIFICATE"),
            certificate=read("CLIENT_CERTIFICATE"),
            key=read("CLIENT_KEY"),
        )

    def tls(self) -> ssl.SSLContext:
        """Return the TLS context, which verifies the server.

        Raises:
            ConfigurationError: A file cannot be used.
        """
        try:
            context = ssl.create_default_context(cafile=self.authority)
            if self.certificate is not None:
                context.load_cert_chain(self.certificate, self.key)
        except (OSError, ssl.SSLError) as error:
            raise ConfigurationError(
                "expected certificates in PEM where OTEL_EXPORTER_OTLP_CERTIFICATE and OTEL_EXPORTER_OTLP_CLIENT_* "
                f"point to, got {type(error).__name__}; check the files"
            ) from None
        return context


def _headers(text: str) -> dict[str, str]:
    headers: dict[str, str] = {}
    for pair in filter(str.strip, text.split(",")):
        name, equals, value = pair.partition("=")
        name, value = unquote(name).strip().lower(), unquote(value).strip()
        if not equals or not name or not name.isascii() or not (name + value).isprintable():
            raise ConfigurationError("expected OTEL_EXPORTER_OTLP_HEADERS as name=value,name=value, got another form")
        headers[name] = value
    return headers


def _seconds(text: str | None) -> float:
    try:
        seconds = float(text or 10)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= LONGEST_WAIT:
        raise ConfigurationError("expected OTEL_EXPORTER_OTLP_TIMEOUT as seconds, more than 0 and at most 3600")
    return seconds


def address(endpoint: str, protocol: OtlpProtocol) -> SplitResult:
    """Return the address to send to: of an endpoint without the path of a signal, that of traces.

    Raises:
        ConfigurationError: It is no http or https address, or it holds credentials, which do not belong there.
    """
    try:
        parts = urlsplit(endpoint)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
        parts = urlsplit("")
    if not usable or not endpoint.isprintable() or not endpoint.isascii() or " " in endpoint:
        raise ConfigurationError("expected the address of a receiver like http://localhost:4318, got another text")
    if parts.username is not None or parts.query or parts.fragment:
        raise ConfigurationError(
            "expected the address of a receiver without user, query and fragment, got one with them; "
            "put credentials into OTEL_EXPORTER_OTLP_HEADERS"
        )
    path = "" if protocol == "grpc" else parts.path.rstrip("/")
    if protocol != "grpc" and not path.endswith(_PATH):
        path += _PATH
    return urlsplit(urlunsplit((parts.scheme, parts.netloc.lower(), path, "", "")))
