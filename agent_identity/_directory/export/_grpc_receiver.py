"""OTLP over gRPC with the official stub; needs ``grpcio``."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol, cast, final
from urllib.parse import SplitResult

import grpc  # type: ignore[import-untyped]  # pyright: ignore[reportMissingTypeStubs]
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from agent_identity._directory.export._http_receiver import acknowledged
from agent_identity._directory.export._otlp_encoding import encode_request, said
from agent_identity._directory.export.receivers import Answer, Settings
from agent_identity._spans.span_from_record import RecordSpan
from agent_identity.errors import ConfigurationError

_TAKES_NOTHING: Final = frozenset({"UNAUTHENTICATED", "PERMISSION_DENIED", "UNIMPLEMENTED", "NOT_FOUND"})
_SMALL: Final = 1024 * 1024  # Bytes of a request that every server accepts.


class _Export(Protocol):
    """The method of the stub."""

    def __call__(
        self, request: ExportTraceServiceRequest, *, timeout: float, metadata: Sequence[tuple[str, str]]
    ) -> ExportTraceServiceResponse: ...


@final
class GrpcReceiver:
    """Sends OTLP over gRPC.

    Args:
        parts: The address; ``http`` is without TLS.
        settings: The OTLP settings.
        resource: The resource attributes of the spans.

    Raises:
        ConfigurationError: A certificate cannot be used.
    """

    __slots__ = ("_export", "_failure", "_metadata", "_resource", "_timeout")

    def __init__(self, parts: SplitResult, settings: Settings, resource: Mapping[str, str]) -> None:
        target = f"{parts.hostname}:{parts.port or 4317}"
        library: Any = grpc
        channel = (
            library.secure_channel(target, library.ssl_channel_credentials(*_certificates(settings)))
            if parts.scheme == "https"
            else library.insecure_channel(target)
        )
        service: Any = trace_service_pb2_grpc
        self._failure: type[Exception] = library.RpcError
        self._export: _Export = service.TraceServiceStub(channel).Export
        self._metadata = tuple(settings.headers.items())
        self._timeout = settings.timeout
        self._resource = resource

    def send(self, spans: Sequence[RecordSpan]) -> Answer:
        """Send the spans; see :meth:`Receiver.send`."""
        request = encode_request(spans, self._resource)
        try:
            answer = self._export(request, timeout=self._timeout, metadata=self._metadata)
        except self._failure as error:
            smaller = len(spans) > 1 and request.ByteSize() > _SMALL
            return _judge(str(cast("Any", error).code().name), smaller=smaller)
        return acknowledged(lambda: said(answer))


def _judge(code: str, *, smaller: bool) -> Answer:
    """Map a gRPC status to the result of the batch.

    https://opentelemetry.io/docs/specs/otlp/#failures

    Args:
        code: The name of the status.
        smaller: True if a smaller batch may be taken. A server reports lack of room both when it is busy and when
            a message is too large.
    """
    if code == "RESOURCE_EXHAUSTED" and smaller:
        return Answer("too_large", f"gRPC {code}")
    if code == "INVALID_ARGUMENT":
        return Answer("refused", f"gRPC {code}")
    return Answer("unusable" if code in _TAKES_NOTHING else "later", f"gRPC {code}")


def _certificates(settings: Settings) -> tuple[bytes | None, bytes | None, bytes | None]:
    def read(path: str | None) -> bytes | None:
        if path is None:
            return None
        try:
            return Path(path).read_bytes()
        except OSError as error:
            raise ConfigurationError(
                f"a certificate for OTLP cannot be read: '{error.strerror}'; check the file"
            ) from None

    return read(settings.authority), read(settings.key), read(settings.certificate)
