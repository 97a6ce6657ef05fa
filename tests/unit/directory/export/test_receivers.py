"""What a receiver of OTLP answers, and what that means for a batch."""

import ssl
import sys
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from agent_identity._directory.export._http_receiver import HttpReceiver, judge
from agent_identity._directory.export.ledger_exporter import LedgerExport
from agent_identity._directory.export.receivers import Settings, address
from agent_identity._spans.span_from_record import RecordSpan
from agent_identity.errors import ConfigurationError
from agent_identity.identity import SigningKey, TrustStore

PROTOBUF = {"content-type": "application/x-protobuf"}
JSON = {"content-type": "application/json; charset=utf-8"}


@pytest.mark.parametrize(
    ("status", "headers", "body", "kind"),
    [
        (200, PROTOBUF, b"", "taken"),
        (200, {}, b"", "taken"),
        (204, {}, b"", "taken"),
        (200, JSON, b"{}", "taken"),
        (200, JSON, b'{"partialSuccess":{"rejectedSpans":"1"}}', "refused"),
        (200, {"content-type": "text/html"}, b"<html>", "unusable"),
        (200, {}, b"OK", "unusable"),
        (200, JSON, b"<html>", "later"),
        (302, {"location": "http://elsewhere"}, b"", "unusable"),
        (400, {}, b"", "refused"),
        (422, {}, b"", "refused"),
        (401, {}, b"", "unusable"),
        (404, {}, b"", "unusable"),
        (415, {}, b"", "unusable"),
        (408, {}, b"", "later"),
        (413, {}, b"", "too_large"),
        (429, {}, b"", "later"),
        (500, {}, b"", "later"),
        (503, {}, b"", "later"),
    ],
)
def test_each_answer_means_one_thing(status: int, headers: dict[str, str], body: bytes, kind: str) -> None:
    """Only what is certainly an acknowledgement is one."""
    assert judge(status, headers, body).kind == kind


@pytest.mark.parametrize(
    ("value", "least", "most"),
    [
        ("", 0, 0),
        ("7", 7, 7),
        ("999999999", 3600, 3600),
        ("soon", 0, 0),
        ("-3", 0, 0),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0, 0),
        ("Wed, 21 Oct 2099 07:28:00 GMT", 3600, 3600),
        ("Wed, 21 Oct 2099 07:28:00 -0000", 3600, 3600),
    ],
)
def test_retry_after_is_heard_within_an_hour(value: str, least: float, most: float) -> None:
    """Seconds or a date, both bounded; what is neither asks for nothing."""
    assert least <= judge(429, {"retry-after": value}, b"").wait <= most


@pytest.mark.parametrize(
    ("endpoint", "protocol", "url"),
    [
        ("http://localhost:4318", "http/protobuf", "http://localhost:4318/v1/traces"),
        ("http://Localhost:4318/", "http/json", "http://localhost:4318/v1/traces"),
        ("https://x/otlp", "http/protobuf", "https://x/otlp/v1/traces"),
        ("https://x/otlp/v1/traces", "http/protobuf", "https://x/otlp/v1/traces"),
        ("http://x:4317/ignored", "grpc", "http://x:4317"),
    ],
)
def test_an_endpoint_without_a_path_gets_that_of_traces(endpoint: str, protocol: Any, url: str) -> None:
    """The same receiver has one address, however it is written."""
    assert address(endpoint, protocol).geturl() == url


@pytest.mark.parametrize(
    "endpoint",
    [
        "",
        "localhost:4318",
        "ftp://x",
        "http://",
        "http://x:99999999",
        "http://[",
        "http://x y",
        "http://x\n",
        "http://é",
    ],
)
def test_what_is_no_address_is_refused(endpoint: str) -> None:
    """The message says what one looks like."""
    with pytest.raises(ConfigurationError, match="http://localhost:4318"):
        address(endpoint, "http/protobuf")


@pytest.mark.parametrize("endpoint", ["http://me:canary@x", "http://x?key=canary", "http://x#canary"])
def test_credentials_have_no_place_in_an_address(endpoint: str) -> None:
    """It would stand in process lists and files; the message shows nothing of it."""
    with pytest.raises(ConfigurationError, match="OTEL_EXPORTER_OTLP_HEADERS") as refused:
        address(endpoint, "http/protobuf")
    assert "canary" not in str(refused.value)


def test_settings_are_those_of_every_exporter() -> None:
    """The variables for traces stand before the general ones, and headers stay out of representations."""
    settings = Settings.from_environment(
        environ={
            "OTEL_EXPORTER_OTLP_HEADERS": "a=1",
            "OTEL_EXPORTER_OTLP_TRACES_HEADERS": "Key=c%61nary%3D,, x = y ",
            "OTEL_EXPORTER_OTLP_TIMEOUT": "3.5",
            "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip",
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/json",
            "OTEL_EXPORTER_OTLP_CERTIFICATE": "ca.pem",
        }
    )
    assert settings.headers == {"key": "canary=", "x": "y"}
    assert (settings.timeout, settings.compress, settings.protocol) == (3.5, True, "http/json")
    assert (settings.authority, settings.certificate, settings.key) == ("ca.pem", None, None)
    assert "canary" not in repr(settings)
    assert Settings.from_environment("grpc", environ={}).protocol == "grpc"
    assert Settings.from_environment(environ={}) == Settings()


@pytest.mark.parametrize("protocol", ["http/protobuf", "http/json", "grpc"])
@pytest.mark.parametrize(
    ("header", "taken"),
    [
        ("x-key=v", ("http", "grpc")),
        ("x_k.9=", ("http", "grpc")),
        ("x-bin=canary", ("http",)),
        ("X-BIN=canary", ("http",)),
        ("x!=canary", ("http",)),
        ("x=canary%C3%A9", ("http",)),
        ("x=canary%E2%82%AC", ()),
        ("a b=canary", ()),
        (":a=canary", ()),
        ("a(b)=canary", ()),
        ("%C3%A9=canary", ()),
        ("a%0Ab=canary", ()),
        ("=canary", ()),
    ],
)
def test_a_header_that_cannot_be_sent_is_refused_at_once(protocol: Any, header: str, taken: tuple[str, ...]) -> None:
    """Not with each batch, for ever; the message shows nothing of it."""
    environ = {"OTEL_EXPORTER_OTLP_HEADERS": f"a=1,{header}"}
    if protocol.startswith(taken or "-"):
        assert len(Settings.from_environment(protocol, environ=environ).headers) == 2
        return
    with pytest.raises(ConfigurationError, match="OTEL_EXPORTER_OTLP_HEADERS") as refused:
        Settings.from_environment(protocol, environ=environ)
    assert "canary" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PROTOCOL", "canary"),
        ("HEADERS", "canary"),
        ("HEADERS", "=canary"),
        ("HEADERS", "a=canary%0Ax"),
        ("TIMEOUT", "canary"),
        ("TIMEOUT", "0"),
        ("TIMEOUT", "nan"),
        ("TIMEOUT", "99999"),
    ],
)
def test_settings_that_are_malformed_are_refused(name: str, value: str) -> None:
    """The message names what is wrong and shows no value."""
    with pytest.raises(ConfigurationError, match=r"malformed|unknown|does not allow") as refused:
        Settings.from_environment(environ={f"OTEL_EXPORTER_OTLP_{name}": value})
    assert "canary" not in str(refused.value)


def test_certificates_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    """Before anything is sent, over HTTP and gRPC."""
    broken = tmp_path / "broken.pem"
    broken.write_text("no certificate")
    assert Settings().tls().verify_mode is ssl.CERT_REQUIRED
    for settings in (Settings(authority=str(broken)), Settings(certificate=str(broken)), Settings(authority="/none")):
        with pytest.raises(ConfigurationError, match="PEM"):
            HttpReceiver(address("https://x", "http/json"), settings, {})
    pytest.importorskip("grpc", reason="grpcio is not installed here")
    from agent_identity._directory.export._grpc_receiver import GrpcReceiver

    with pytest.raises(ConfigurationError, match="No such file"):
        GrpcReceiver(address("https://x", "grpc"), Settings(authority="/none"), {})
    assert GrpcReceiver(address("https://x", "grpc"), Settings(), {})


class Failure(Exception):
    """What grpcio raises, as far as it matters."""

    def __init__(self, name: str) -> None:
        self._name = name

    def code(self) -> Any:
        """Return the status."""
        return type("Code", (), {"name": self._name})


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        ("INVALID_ARGUMENT", "refused"),
        ("UNAVAILABLE", "later"),
        ("RESOURCE_EXHAUSTED", "later"),
        ("UNAUTHENTICATED", "unusable"),
        (b"", "taken"),
        (b"\n\x02\x08\x03", "refused"),
        ("INTERNAL", "later"),  # An answer that cannot be read is one of these.
    ],
)
def test_each_status_of_grpc_means_one_thing(status: Any, kind: str) -> None:
    """As over HTTP: only what is certainly an acknowledgement is one."""
    pytest.importorskip("grpc", reason="grpcio is not installed here")
    from agent_identity._directory.export._grpc_receiver import GrpcReceiver

    receiver = GrpcReceiver(address("http://x", "grpc"), Settings(headers={"key": "v"}), {})

    def export(_: Any, *, timeout: float, metadata: Any) -> Any:
        assert (timeout, metadata) == (10.0, (("key", "v"),))
        if isinstance(status, str):
            raise Failure(status)
        return ExportTraceServiceResponse.FromString(status)

    receiver._export, receiver._failure = export, Failure
    assert receiver.send([]).kind == kind


def span(size: int) -> RecordSpan:
    """Return a span with an attribute of so many bytes."""
    ids = {"trace_id": "1" * 32, "span_id": "2" * 16, "parent_id": None}
    return RecordSpan(**ids, name="x", start=1, end=2, error=None, attributes={"a": "x" * size})


@pytest.mark.parametrize(
    ("sizes", "kind"),
    [((900_000, 900_000), "too_large"), ((600_000, 300_000), "later"), ((1 << 23,), "later"), ((), "later")],
)
def test_a_server_without_room_gets_a_large_batch_in_parts(sizes: tuple[int, ...], kind: str) -> None:
    """Its status may mean the size of the message as well; what is small, or one span, waits until it has room."""
    pytest.importorskip("grpc", reason="grpcio is not installed here")
    from agent_identity._directory.export._grpc_receiver import GrpcReceiver

    receiver = GrpcReceiver(address("http://x", "grpc"), Settings(), {})

    def export(_: Any, *, timeout: float, metadata: Any) -> Any:
        raise Failure("RESOURCE_EXHAUSTED")

    receiver._export, receiver._failure = export, Failure
    assert receiver.send([span(size) for size in sizes]).kind == kind


@pytest.mark.parametrize(
    ("protocol", "library"),
    [
        ("grpc", "grpc"),
        ("grpc", "opentelemetry.exporter.otlp.proto.common.trace_encoder"),
        ("http/protobuf", "opentelemetry.exporter.otlp.proto.common.trace_encoder"),
        ("http/json", "google.protobuf.json_format"),
    ],
)
def test_what_is_missing_is_named(protocol: Any, library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the extra that brings it."""
    for name in (
        "_spans",
        "_directory.export._otlp_encoding",
        "_directory.export",
        "_directory.export._http_receiver",
        "_directory.export._grpc_receiver",
    ):
        monkeypatch.delitem(sys.modules, f"agent_identity.{name}", raising=False)
    monkeypatch.setitem(sys.modules, library, None)
    key = SigningKey.from_seed(bytes(32))
    with pytest.raises(ConfigurationError, match=rf"{library}.*\.\[otlp\].*grpcio"):
        LedgerExport(tmp_path, "http://x", signer=key, trust=TrustStore(()), settings=Settings(protocol=protocol))
