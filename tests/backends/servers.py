"""Real back ends on loopback: each takes OTLP and gives back its spans in its own JSON, by API and by database."""

import contextlib
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import sysconfig
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

START_SECONDS = 120.0
OTEL_TRACES = """CREATE TABLE otel_traces (
    Timestamp DateTime64(9), TraceId String, SpanId String, ParentSpanId String, TraceState String, SpanName String,
    SpanKind String, ServiceName String, ResourceAttributes Map(String, String), ScopeName String,
    ScopeVersion String, SpanAttributes Map(String, String), Duration UInt64, StatusCode String,
    StatusMessage String,
    Events Nested (Timestamp DateTime64(9), Name String, Attributes Map(String, String)),
    Links Nested (TraceId String, SpanId String, TraceState String, Attributes Map(String, String))
) ENGINE = MergeTree ORDER BY (Timestamp, TraceId)"""


@dataclass(frozen=True)
class BackEnd:
    """A running back end.

    Attributes:
        http: Where it takes OTLP over HTTP.
        grpc: Where it takes OTLP over gRPC, if it does.
        headers: What it wants with each request.
        read: By name, how what it keeps is read back: a text with all spans.
    """

    http: str
    grpc: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    read: Mapping[str, Callable[[], str]] = field(default_factory=dict)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def get(url: str) -> str:
    """Return what a loopback address answers."""
    with urllib.request.urlopen(url, timeout=30) as answer:  # noqa: S310 - A loopback address.
        return str(answer.read().decode())


@contextlib.contextmanager
def running(command: list[str], folder: Path, ready: str, **environment: str) -> Generator[None]:
    """Run a server for the block, and end it with every process that it started."""
    log = folder / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, **environment},
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        _wait(ready, process, log)
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            get(url)
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise RuntimeError("the server did not start:\n" + log.read_text("utf-8", "replace")[-4000:])


def rows(database: Path, query: str) -> str:
    """Return the rows of a query as JSON."""
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    connection.row_factory = sqlite3.Row
    try:
        return json.dumps([dict(row) for row in connection.execute(query)], default=str)
    finally:
        connection.close()


def until(count: int, read: Callable[[], str]) -> str:
    """Return what is read once it has that many signed spans; a back end writes when it pleases."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with contextlib.suppress(urllib.error.HTTPError):
            text = read()
            if text.count("attestation.signature") + text.count('signature\\"') + text.count('"signature"') >= count:
                return text
        time.sleep(0.2)
    raise AssertionError("expected every span to be stored")


@contextlib.contextmanager
def phoenix(folder: Path) -> Generator[BackEnd]:
    """Run Arize Phoenix over SQLite."""
    http, grpc = free_port(), free_port()
    settings = {
        "PHOENIX_WORKING_DIR": str(folder),
        "PHOENIX_HOST": "127.0.0.1",
        "PHOENIX_PORT": str(http),
        "PHOENIX_GRPC_PORT": str(grpc),
        "PHOENIX_TELEMETRY_ENABLED": "false",
    }
    url = f"http://127.0.0.1:{http}"
    query = "SELECT s.*, t.trace_id FROM spans s JOIN traces t ON t.id = s.trace_rowid"
    command = [sys.executable, "-m", "phoenix.server.main", "serve"]
    with running(command, folder, f"{url}/healthz", **settings):
        yield BackEnd(
            f"{url}/v1/traces",
            f"127.0.0.1:{grpc}",
            read={
                "REST": lambda: get(f"{url}/v1/projects/default/spans?limit=1000"),
                "REST, as OTLP": lambda: get(f"{url}/v1/projects/default/spans/otlpv1?limit=1000"),
                "SQLite": lambda: rows(folder / "phoenix.db", query),
            },
        )


@contextlib.contextmanager
def mlflow(folder: Path) -> Generator[BackEnd]:
    """Run MLflow over SQLite."""
    url = f"http://127.0.0.1:{(port := free_port())}"
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--workers", "1"]
    settings = {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
    }

    def api() -> str:
        script = (
            "import json, mlflow, sys; mlflow.set_tracking_uri(sys.argv[1]);"
            "found = mlflow.search_traces(locations=['0'], return_type='list');"
            "print(json.dumps([trace.to_dict() for trace in found]))"
        )
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", script, url],
            check=True,
            capture_output=True,
            env={**os.environ, **settings},
        )
        return done.stdout.decode()

    with running(command, folder, f"{url}/health", **settings):
        yield BackEnd(
            f"{url}/v1/traces",
            headers={"x-mlflow-experiment-id": "0"},
            read={"client": api, "SQLite": lambda: rows(folder / "mlflow.db", "SELECT * FROM spans")},
        )


@contextlib.contextmanager
def clickhouse(folder: Path) -> Generator[BackEnd]:
    """Run ClickHouse in this process behind the exporter of a collector, and between them the HTTP of its server."""
    import chdb.session
    import rotel

    inserts: list[tuple[str, bytes]] = []
    shim = ThreadingHTTPServer(("127.0.0.1", 0), _taking(inserts))
    threading.Thread(target=shim.serve_forever, daemon=True).start()
    http, grpc = free_port(), free_port()
    binary = Path(rotel.__file__).with_name("rotel-agent")
    command = [str(binary), "start", f"--otlp-http-endpoint=127.0.0.1:{http}", "--exporter=clickhouse"]
    command += [
        f"--otlp-grpc-endpoint=127.0.0.1:{grpc}",
        f"--pid-file={folder / 'pid'}",
        f"--log-file={folder / 'log'}",
    ]
    command += [f"--clickhouse-exporter-endpoint=http://127.0.0.1:{shim.server_port}"]
    command += ["--clickhouse-exporter-compression=none"]
    libraries = os.pathsep.join(filter(None, [sysconfig.get_config_var("LIBDIR"), os.environ.get("LD_LIBRARY_PATH")]))
    session = chdb.session.Session(str(folder / "data"))
    session.query("CREATE DATABASE otel")
    session.query("USE otel")
    session.query(OTEL_TRACES)

    def sql() -> str:
        while inserts:
            query, body = inserts.pop(0)
            (folder / "body").write_bytes(body)
            head, _, form = query.rpartition(" FORMAT ")
            session.query(f"{head} FROM INFILE '{folder / 'body'}' FORMAT {form}")
        return str(session.query("SELECT * FROM otel_traces", "JSONEachRow"))

    try:
        with running(command, folder, f"http://127.0.0.1:{http}/v1/traces", LD_LIBRARY_PATH=libraries):
            yield BackEnd(f"http://127.0.0.1:{http}/v1/traces", f"127.0.0.1:{grpc}", read={"SQL": sql})
    finally:
        session.close()
        shim.shutdown()
        shim.server_close()


def _taking(inserts: list[tuple[str, bytes]]) -> type[BaseHTTPRequestHandler]:
    class Shim(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = b""
            if length := self.headers.get("Content-Length"):
                body = self.rfile.read(int(length))
            else:
                while size := int(self.rfile.readline(), 16):
                    body += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
            inserts.append((parse_qs(urlsplit(self.path).query)["query"][0], body))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - The name is the base class's.
            pass

    return Shim
