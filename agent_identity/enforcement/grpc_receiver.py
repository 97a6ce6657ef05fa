"""Sending OTLP over gRPC, for those who have ``grpcio``."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol, cast, final
from urllib.parse import SplitResult

from agent_identity.enforcement.receivers import Answer, Settings, shown
from agent_identity.errors import ConfigurationError
from agent_identity.evidence import SpanCopy
from agent_identity.evidence.otlp_writing import export_request, read_answer

__all__ = ["GrpcReceiver"]

_METHOD: Final = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
_TAKES_NOTHING: Final = frozenset({"UNAUTHENTICATED", "PERMISSION_DENIED", "UNIMPLEMENTED", "NOT_FOUND"})


class _Call(Protocol):
    """A method of a channel."""

    def __call__(self, body: bytes, *, timeout: float, metadata: Sequence[tuple[str, str]]) -> bytes: ...


@final
class GrpcReceiver:
    """Sends OTLP over gRPC.

    Args:
        parts: The address; ``http`` is without TLS.
        settings: How to speak with it.
        resource: The attributes of what produced the spans.

    Raises:
        ConfigurationError: ``grpcio`` is not installed, or a certificate cannot be used.
    """

    __slots__ = ("_call", "_failure", "_metadata", "_resource", "_timeout")

    def __init__(self, parts: SplitResult, settings: Settings, resource: Mapping[str, str]) -> None:
        try:
            import grpc  # type: ignore[import-untyped]  # pyright: ignore[reportMissingTypeStubs]  # noqa: PLC0415
        except ImportError:
            raise ConfigurationError(
                "expected the package grpcio for OTLP over gRPC, found none; install it, or choose http/protobuf"
            ) from None
        export_request((), resource, "protobuf")
        target = f"{parts.hostname}:{parts.port or 4317}"
        library = cast("Any", grpc)
        channel = (
            library.secure_channel(target, library.ssl_channel_credentials(*_certificates(settings)))
            if parts.scheme == "https"
            else library.insecure_channel(target)
        )
        self._failure = cast("type[Exception]", library.RpcError)
        self._call = cast("_Call", channel.unary_unary(_METHOD))
        self._metadata = tuple(settings.headers.items())
        self._timeout = settings.timeout
        self._resource = resource

    def send(self, spans: Sequence[SpanCopy]) -> Answer:
        """Send the spans; see :meth:`~agent_identity.enforcement.receivers.Receiver.send`."""
        body = export_request(spans, self._resource, "protobuf")
        try:
            answer = read_answer(self._call(body, timeout=self._timeout, metadata=self._metadata), "protobuf")
        except self._failure as error:
            return _judge(str(cast("Any", error).code().name))
        except ValueError:
            return Answer("later", "an answer that cannot be read")
        if answer.rejected:
            return Answer("refused", f"rejected {answer.rejected}: {shown(answer.message)}")
        return Answer("taken")


def _judge(code: str) -> Answer:
    """Return what a status of gRPC means for the batch.

    https://opentelemetry.io/docs/specs/otlp/#failures
    """
    if code == "INVALID_ARGUMENT":
        return Answer("refused", f"gRPC {code}")
    return Answer("unusable" if code in _TAKES_NOTHING else "later", f"gRPC {code}")


def _certificates(settings: Settings) -> tuple[bytes | None, bytes | None, bytes | None]:
    def read(path: str | None) -> bytes | None:
        if path is None:
            return None
        try:
            with open(path, "rb") as file:  # noqa: PTH123
                return file.read()
        except OSError as error:
            raise ConfigurationError(
                f"expected to read a certificate for OTLP, got '{error.strerror}'; check the file"
            ) from None

    return read(settings.authority), read(settings.key), read(settings.certificate)
