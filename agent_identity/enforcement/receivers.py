"""Where copies of the evidence go: a receiver of OTLP, and what each of its answers means for a batch."""

import gzip
import http.client
import os
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from socket import socket
from typing import Final, Literal, NamedTuple, Protocol, Self, TypeAlias, cast, final
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

from agent_identity.enforcement.transport import answer_on, left_until
from agent_identity.errors import ConfigurationError
from agent_identity.evidence import SpanCopy
from agent_identity.evidence.otlp_writing import Encoding, ExportAnswer, as_bytes, encode_request, read_answer

__all__ = ["Answer", "HttpReceiver", "OtlpProtocol", "Receiver", "Settings", "acknowledged", "address", "judge"]

OtlpProtocol: TypeAlias = Literal["http/protobuf", "http/json", "grpc"]
"""How OTLP is spoken, in the words of the specification."""

PROTOCOLS: Final[tuple[OtlpProtocol, ...]] = ("http/protobuf", "http/json", "grpc")

_SPOKEN: Final[Mapping[str, OtlpProtocol]] = {name: name for name in PROTOCOLS}
_PATH: Final = "/v1/traces"
_MAX_ANSWER: Final = 65_536
_LONGEST_WAIT: Final = 3_600.0
_SHOWN: Final = 200
_TYPES: Final[Mapping[Encoding, str]] = {"protobuf": "application/x-protobuf", "json": "application/json"}
_REFUSED: Final = frozenset({400, 422})
_LATER: Final = frozenset({408, 425, 429})


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
    if not 0 < seconds <= _LONGEST_WAIT:
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


@final
class HttpReceiver:
    """Sends OTLP over HTTP, a connection for each request; it follows no redirect and knows no proxy.

    Args:
        parts: What :func:`address` returned.
        settings: How to speak with it.
        resource: The attributes of what produced the spans.
    """

    __slots__ = ("_context", "_encoding", "_parts", "_resource", "_settings")

    def __init__(self, parts: SplitResult, settings: Settings, resource: Mapping[str, str]) -> None:
        self._parts = parts
        self._settings = settings
        self._resource = resource
        self._encoding: Encoding = "json" if settings.protocol == "http/json" else "protobuf"
        self._context = settings.tls() if parts.scheme == "https" else None
        encode_request((), resource)  # Says at once if its library is missing.

    def send(self, spans: Sequence[SpanCopy]) -> Answer:
        """Send the spans; see :meth:`Receiver.send`."""
        body = as_bytes(encode_request(spans, self._resource), self._encoding)
        headers = {**self._settings.headers, "content-type": _TYPES[self._encoding], "accept-encoding": "identity"}
        if self._settings.compress:
            headers["content-encoding"] = "gzip"
            body = gzip.compress(body, 1)
        deadline = time.monotonic() + self._settings.timeout
        connection = self._connection()
        try:
            connection.connect()
            sock = cast("socket", connection.sock)
            sock.settimeout(left_until(deadline))
            connection.request("POST", self._parts.path, body=body, headers=headers)
            with closing(answer_on(sock, deadline)) as answer:
                answer.begin()
                found = {name.lower(): value for name, value in reversed(answer.getheaders())}
                return judge(answer.status, found, _whole(answer))
        except TimeoutError:
            return Answer("later", f"no answer within {self._settings.timeout:g} s")
        except ssl.SSLCertVerificationError:
            return Answer("unusable", "its certificate is not one that is trusted here")
        except OSError as error:
            return Answer("later", os.strerror(error.errno) if error.errno else type(error).__name__)
        except (http.client.HTTPException, ValueError) as error:
            return Answer("later", f"a broken answer ({type(error).__name__})")
        finally:
            connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        host, port, timeout = self._parts.hostname or "", self._parts.port, self._settings.timeout
        if self._context is None:
            return http.client.HTTPConnection(host, port, timeout=timeout)
        return http.client.HTTPSConnection(host, port, timeout=timeout, context=self._context)


def _whole(answer: http.client.HTTPResponse) -> bytes:
    """Return the body of an answer, to its end.

    Raises:
        ValueError: It is longer than an answer to an export may be.
        http.client.IncompleteRead: It ends early.
    """
    body = answer.read(_MAX_ANSWER + 1)
    if len(body) > _MAX_ANSWER:
        raise ValueError("expected a short answer")
    if answer.length:
        raise http.client.IncompleteRead(body, answer.length)
    return body


def judge(status: int, headers: Mapping[str, str], body: bytes) -> Answer:
    """Return what an HTTP answer means for the batch.

    More answers than the specification lists are taken as temporary: nothing is given up because a proxy in
    front of the receiver has a bad day. https://opentelemetry.io/docs/specs/otlp/#failures-1

    Args:
        status: Status of the answer.
        headers: Its headers, names in lower case.
        body: Its body.
    """
    if 200 <= status < 300:
        return _acknowledgement(headers.get("content-type", ""), body)
    reason = f"HTTP {status}"
    if status == 413:
        return Answer("too_large", reason)
    if status in _REFUSED:
        return Answer("refused", reason)
    if status in _LATER or status >= 500:
        return Answer("later", reason, _asked(headers.get("retry-after", "")))
    return Answer("unusable", reason)


def _acknowledgement(kind: str, body: bytes) -> Answer:
    media = kind.partition(";")[0].strip().lower()
    encoding: Encoding | None = next((name for name, known in _TYPES.items() if media == known), None)
    if body and encoding is None:
        return Answer("unusable", "an answer that is not one of OTLP; is it the address of a receiver?")
    return acknowledged(lambda: read_answer(body, encoding or "protobuf"))


def acknowledged(read: Callable[[], ExportAnswer]) -> Answer:
    """Return what became of a batch that the receiver says it took: it may have rejected a part of it.

    Args:
        read: Returns what the receiver said, or raises ``ValueError`` where it said nothing that can be read.
    """
    try:
        answer = read()
    except ValueError:
        return Answer("later", "an answer that cannot be read")
    if not answer.rejected:
        return Answer("taken")
    words = "".join(c if c.isprintable() else " " for c in answer.message[:_SHOWN])
    return Answer("refused", f"rejected {answer.rejected}: {words}")


def _asked(value: str) -> float:
    """Return the seconds that ``Retry-After`` asks for (RFC 9110 §10.2.3), an hour at most."""
    try:
        seconds = float(value) if value.isdecimal() else _until(value)
    except (ValueError, TypeError, OverflowError):
        return 0.0
    return min(max(0.0, seconds), _LONGEST_WAIT)


def _until(value: str) -> float:
    moment = parsedate_to_datetime(value)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - datetime.now(UTC)).total_seconds()
