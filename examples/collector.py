"""A real collector for the examples: rotel between our exporter and a small sink that writes OTLP/JSON lines."""

import base64
import contextlib
import gzip
import json
import os
import shutil
import socket
import subprocess
import sysconfig
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Generator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import rotel
from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

START_SECONDS = 20.0


@dataclass(frozen=True)
class Collector:
    """Where to send spans, by HTTP or by gRPC, and where they come out."""

    endpoint: str
    grpc_endpoint: str
    traces: Path


@contextlib.contextmanager
def collector(folder: Path) -> Generator[Collector]:
    """Run rotel and the sink behind it for the block; the traces are complete when the block is left."""
    folder.mkdir(parents=True, exist_ok=True)
    traces = folder / "traces.jsonl"
    traces.unlink(missing_ok=True)
    sink = ThreadingHTTPServer(("127.0.0.1", 0), _sink_for(traces))
    threading.Thread(target=sink.serve_forever, daemon=True).start()
    http_port, grpc_port = _free_port(), _free_port()
    binary = Path(rotel.__file__).with_name("rotel-agent")
    errors = (folder / "rotel.err").open("wb")
    process = subprocess.Popen(  # noqa: S603 - Fixed arguments, no shell.
        [
            str(binary),
            "start",
            f"--otlp-http-endpoint=127.0.0.1:{http_port}",
            f"--otlp-grpc-endpoint=127.0.0.1:{grpc_port}",
            "--exporter=otlp",
            f"--otlp-exporter-endpoint=http://127.0.0.1:{sink.server_port}",
            "--otlp-exporter-protocol=http",
            "--otel-resource-attributes=handled.by=rotel",
            f"--pid-file={folder / 'rotel.pid'}",
            f"--log-file={folder / 'rotel.log'}",
        ],
        env=_environment(),
        stdout=subprocess.DEVNULL,
        stderr=errors,
    )
    errors.close()
    try:
        _wait_until_ready(http_port, process)
        yield Collector(f"http://127.0.0.1:{http_port}/v1/traces", f"127.0.0.1:{grpc_port}", traces)
    finally:
        process.terminate()  # rotel passes on what it still holds, then exits.
        process.wait(timeout=30)
        sink.shutdown()
        sink.server_close()


def _sink_for(traces: Path) -> type[BaseHTTPRequestHandler]:
    lock = threading.Lock()

    class Sink(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            line = json.dumps(_to_otlp_json(ExportTraceServiceRequest.FromString(body)))
            with lock, traces.open("a", encoding="utf-8") as file:
                file.write(line + "\n")
            answer = ExportTraceServiceResponse().SerializeToString()
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - The name is the base class's.
            pass

    return Sink


def _to_otlp_json(request: ExportTraceServiceRequest) -> dict[str, Any]:
    """Return the request as OTLP/JSON, whose ids are hex where protobuf's own JSON has base64."""
    document: dict[str, Any] = MessageToDict(request, use_integers_for_enums=True)
    for resource in document.get("resourceSpans", ()):
        for scope in resource.get("scopeSpans", ()):
            for span in scope.get("spans", ()):
                for holder in (span, *span.get("links", ())):
                    for name in ("traceId", "spanId", "parentSpanId"):
                        if name in holder:
                            holder[name] = base64.b64decode(holder[name]).hex()
    return document


def _environment() -> dict[str, str]:
    """Return an environment in which rotel finds the library of this Python, wherever it was installed."""
    folders = [str(sysconfig.get_config_var("LIBDIR") or ""), os.environ.get("LD_LIBRARY_PATH", "")]
    return {**os.environ, "LD_LIBRARY_PATH": os.pathsep.join(filter(None, folders))}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_ready(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    empty = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/traces", data=b"", headers={"Content-Type": "application/x-protobuf"}
    )
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(empty, timeout=1):  # noqa: S310 - A loopback address, made above.
                return
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError("expected the collector to start; see rotel.err and rotel.log in the folder of the example")


def fresh_folder(path: Path) -> Path:
    """Return an empty folder at the path."""
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    return path
