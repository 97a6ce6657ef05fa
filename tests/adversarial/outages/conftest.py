"""A receiver of OTLP on loopback that can be down, slow, refuse, lose connections, and keeps what it acknowledged."""

import base64
import gzip
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict, ParseDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

RECORD = "agent_identity.record.id"


class Receiver:
    """A real server; ``mode`` says how it behaves from the next request on.

    ``ok``, a status such as ``400``, ``reset`` (the connection breaks inside the answer, after the batch was kept),
    ``cut`` (it breaks inside the request), ``html``, or a function of the spans that returns one of these or the number
    of spans to reject.
    """

    def __init__(self, traces: Path | None = None) -> None:
        self.mode: Any = "ok"
        self.pause = 0.0
        self.headers: dict[str, str] = {}
        self.spans: list[Any] = []
        self.requests = 0
        self.arrived = threading.Condition()
        self.traces = traces
        self._server: ThreadingHTTPServer | None = None
        self.port = 0
        self.start()

    @property
    def endpoint(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Listen, on the same port every time."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            allow_reuse_address = True
            request_queue_size = 64

            def handle_error(self, request: Any, client_address: Any) -> None:
                """Say nothing of connections that break."""

        self._server = Server(("127.0.0.1", self.port), _handler(self))
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def stop(self) -> None:
        """Be down: nothing listens any more."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def keep(self, request: Any) -> None:
        """Keep the spans of a request."""
        found = [span for group in request.resource_spans for scope in group.scope_spans for span in scope.spans]
        with self.arrived:
            self.spans += found
            if self.traces is not None and found:
                with self.traces.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(as_json(request)) + "\n")
            self.arrived.notify_all()

    def ids(self) -> Counter[str]:
        """Return how often each record arrived."""
        return Counter(record_id(span) for span in self.spans)

    def wait_for(self, reached: Callable[[], object], timeout: float = 60.0) -> None:
        """Wait until something holds, looked at whenever spans arrive."""
        with self.arrived:
            assert self.arrived.wait_for(reached, timeout), "the copies did not arrive in time"


def _handler(receiver: Receiver) -> type[BaseHTTPRequestHandler]:  # noqa: C901  One class.
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            mode = receiver.mode
            receiver.requests += 1
            receiver.headers = {name.lower(): value for name, value in self.headers.items()}
            length = int(self.headers["Content-Length"])
            if mode == "cut":
                self.rfile.read(length // 2)
                self.connection.close()
                return
            body = self.rfile.read(length)
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            if receiver.pause:
                time.sleep(receiver.pause)
            request = read_request(body, self.headers["Content-Type"])
            if callable(mode):
                mode = mode(request)
            self.answer(mode, request)

        def answer(self, mode: Any, request: Any) -> None:
            if isinstance(mode, int):
                answer = ExportTraceServiceResponse()
                answer.partial_success.rejected_spans = mode
                answer.partial_success.error_message = "not this one"
                self.reply(200, answer.SerializeToString())
            elif mode == "html":
                self.reply(200, b"<html>log in</html>", "text/html")
            elif mode == "reset":
                receiver.keep(request)
                self.send_response(200)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", "100")
                self.end_headers()
                self.wfile.write(b"\n")
                self.wfile.flush()
                self.connection.close()
            elif mode == "ok":
                receiver.keep(request)
                self.reply(200, ExportTraceServiceResponse().SerializeToString())
            else:
                self.reply(int(mode), b"")

        def reply(self, status: int, body: bytes, kind: str = "application/x-protobuf") -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            if status == 429:
                self.send_header("Retry-After", "1")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            pass

    return Handler


def read_request(body: bytes, kind: str) -> Any:
    """Return an export request in either encoding."""
    if kind != "application/json":
        return ExportTraceServiceRequest.FromString(body)
    document = json.loads(body)
    for group in document["resourceSpans"]:
        for scope in group["scopeSpans"]:
            for span in scope["spans"]:
                for name in ("traceId", "spanId", "parentSpanId"):
                    if name in span:
                        span[name] = base64.b64encode(bytes.fromhex(span[name])).decode()
    return ParseDict(document, ExportTraceServiceRequest())


def record_id(span: Any) -> str:
    """Return the id of the record on a span."""
    return next(pair.value.string_value for pair in span.attributes if pair.key == RECORD)


def as_json(request: Any) -> dict[str, Any]:
    """Return a request as OTLP/JSON, whose ids are in hex."""
    document = MessageToDict(request, use_integers_for_enums=True)
    for group in document.get("resourceSpans", ()):
        for scope in group.get("scopeSpans", ()):
            for span, origin in zip(scope.get("spans", ()), _spans_of(request), strict=True):
                span["traceId"], span["spanId"] = origin.trace_id.hex(), origin.span_id.hex()
                if origin.parent_span_id:
                    span["parentSpanId"] = origin.parent_span_id.hex()
    return document


def _spans_of(request: Any) -> list[Any]:
    (group,) = request.resource_spans
    (scope,) = group.scope_spans
    return list(scope.spans)


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    """Return a receiver that listens, and ends with the test."""
    receiver = Receiver(tmp_path / "traces.jsonl")
    yield receiver
    receiver.stop()
