"""Receivers of OTLP copies: address, settings, and the meaning of their answers."""

import os
import re
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple, Protocol, Self, TypeAlias, final
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

from agent_identity._spans.span_from_record import RecordSpan
from agent_identity.errors import ConfigurationError

OtlpProtocol: TypeAlias = Literal["http/protobuf", "http/json", "grpc"]
"""The OTLP protocols, by their names in the specification."""

PROTOCOLS: Final[tuple[OtlpProtocol, ...]] = ("http/protobuf", "http/json", "grpc")

_SPOKEN: Final[Mapping[str, OtlpProtocol]] = {name: name for name in PROTOCOLS}
_PATH: Final = "/v1/traces"
_NAME: Final = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]+")
_GRPC_NAME: Final = re.compile(r"[a-z0-9_.-]+(?<!-bin)")
LONGEST_WAIT: Final = 3_600.0
"""Maximum seconds of a requested wait, and of a request."""


class Answer(NamedTuple):
    """The receiver's answer about a batch.

    Attributes:
        kind: ``taken``: acknowledged; ``later``: try again; ``refused``: the receiver cannot take a record in it;
            ``too_large``: it may take a smaller one; ``unusable``: it would take nothing as we are set up.
        reason: The reason, in one line, if the batch was not taken. It holds no header.
        wait: Requested seconds before the next attempt.
    """

    kind: Literal["taken", "later", "refused", "too_large", "unusable"]
    reason: str = ""
    wait: float = 0.0


class Receiver(Protocol):
    """A receiver of spans."""

    def send(self, spans: Sequence[RecordSpan]) -> Answer:
        """Send the spans in one request and return the answer; never raises because of the other side."""
        ...


@final
@dataclass(frozen=True, slots=True)
class Settings:
    """OTLP settings, from the environment variables of every OpenTelemetry exporter.

    Attributes:
        protocol: The OTLP protocol.
        headers: Names in lower case and values; they may hold credentials.
        timeout: Seconds for one request.
        compress: Compress bodies with gzip.
        authority: A file with the trusted certificates, instead of the system's.
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
            protocol: The OTLP protocol; overrides the environment.
            environ: The environment; by default the process's.

        Raises:
            ConfigurationError: A variable is malformed. Its value is not shown.
        """
        env = os.environ if environ is None else environ

        def read(name: str) -> str | None:
            return env.get(f"OTEL_EXPORTER_OTLP_TRACES_{name}") or env.get(f"OTEL_EXPORTER_OTLP_{name}") or None

        wanted = protocol or read("PROTOCOL") or "http/protobuf"
        spoken = _SPOKEN.get(wanted)
        if spoken is None:
            raise ConfigurationError(f"the OTLP protocol is unknown; use one of {', '.join(PROTOCOLS)}")
        return cls(
            protocol=spoken,
            headers=_headers(read("HEADERS") or "", spoken),
            timeout=_seconds(read("TIMEOUT")),
            compress=read("COMPRESSION") == "gzip",
            authority=read("CERTIFICATE"),
            certificate=read("CLIENT_CERTIFICATE"),
            key=read("CLIENT_KEY"),
        )

    def tls(self) -> ssl.SSLContext:
        """Return the TLS context, which verifies the server.

        Raises:
            ConfigurationError: A file is unusable.
        """
        try:
            context = ssl.create_default_context(cafile=self.authority)
            if self.certificate is not None:
                context.load_cert_chain(self.certificate, self.key)
        except (OSError, ssl.SSLError) as error:
            raise ConfigurationError(
                "the certificates of OTEL_EXPORTER_OTLP_CERTIFICATE or OTEL_EXPORTER_OTLP_CLIENT_* cannot be read "
                f"({type(error).__name__}); name files in PEM"
            ) from None
        return context


def _headers(text: str, protocol: OtlpProtocol) -> dict[str, str]:
    headers: dict[str, str] = {}
    names, beyond = (_GRPC_NAME, "\x80") if protocol == "grpc" else (_NAME, "\u0100")
    for pair in filter(str.strip, text.split(",")):
        name, equals, value = pair.partition("=")
        name, value = unquote(name).strip().lower(), unquote(value).strip()
        if not equals or not value.isprintable():
            raise ConfigurationError("OTEL_EXPORTER_OTLP_HEADERS is malformed; write name=value,name=value")
        if not names.fullmatch(name) or max(value, default="") >= beyond:
            raise ConfigurationError(
                f"OTEL_EXPORTER_OTLP_HEADERS has a name or value that {protocol} does not allow; "
                "gRPC has names of a-z, 0-9, '-', '_' and '.' that do not end in -bin, and values in ASCII"
            )
        headers[name] = value
    return headers


def _seconds(text: str | None) -> float:
    try:
        seconds = float(text or 10)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= LONGEST_WAIT:
        raise ConfigurationError("OTEL_EXPORTER_OTLP_TIMEOUT is malformed; use seconds, more than 0 and at most 3600")
    return seconds


def address(endpoint: str, protocol: OtlpProtocol) -> SplitResult:
    """Return the address for traces: an endpoint without a signal path gets that of traces.

    Raises:
        ConfigurationError: The endpoint is no http or https address, or holds credentials.
    """
    try:
        parts = urlsplit(endpoint)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
        parts = urlsplit("")
    if not usable or not endpoint.isprintable() or not endpoint.isascii() or " " in endpoint:
        raise ConfigurationError("the address of the receiver is malformed; write one like http://localhost:4318")
    if parts.username is not None or parts.query or parts.fragment:
        raise ConfigurationError(
            "the address of the receiver has a user, query or fragment; remove it, and "
            "put credentials into OTEL_EXPORTER_OTLP_HEADERS"
        )
    path = "" if protocol == "grpc" else parts.path.rstrip("/")
    if protocol != "grpc" and not path.endswith(_PATH):
        path += _PATH
    return urlsplit(urlunsplit((parts.scheme, parts.netloc.lower(), path, "", "")))
