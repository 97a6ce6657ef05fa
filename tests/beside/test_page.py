"""The examples of the how-to page run as they stand, each in a process of its own, against a receiver on loopback."""

import ast
import gzip
import http.server
import importlib.util
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[2] / "docs/how-to/beside-other-instrumentation.md"
TEXT = PAGE.read_text(encoding="utf-8")
APPLICATION, *_ = re.findall(r"^## The application\n.*?^```py\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
SECTIONS = {
    title: f"{block}\n\n{APPLICATION}"
    for title, text in re.findall(r"^### (.*?)\n(.*?)(?=^##|\Z)", TEXT, re.DOTALL | re.MULTILINE)
    for block in re.findall(r"^```py\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
}
"""The set-up of each product, with the application after it."""


def is_installed(module: str) -> bool:
    """Tell whether a module can be imported, without importing it."""
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


@pytest.fixture
def received() -> Iterator[tuple[str, list[bytes]]]:
    """Return the address of a server that takes everything, and what it has got."""
    bodies: list[bytes] = []

    class Receiver(http.server.BaseHTTPRequestHandler):
        """Says yes."""

        def do_POST(self) -> None:
            """Keep what is sent."""
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            bodies.append(gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = do_POST  # noqa: N815 - As the standard library names it.

        def log_message(self, *args: object) -> None:
            """Be quiet."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", bodies
    server.shutdown()
    server.server_close()


def test_each_product_has_an_example() -> None:
    """The page has a block for each product that is set up by code."""
    assert [title.split(",")[0].split("'")[0] for title in SECTIONS] == [
        *("OpenTelemetry", "OpenInference", "OpenLLMetry", "Langfuse", "Logfire"),
    ]


@pytest.mark.sample(3)
@pytest.mark.parametrize("title", SECTIONS)
def test_the_example_runs(title: str, tmp_path: Path, received: tuple[str, list[bytes]]) -> None:
    """Pasted into a file, it runs without a complaint, and the product's exporter sends the record of the call."""
    code = SECTIONS[title]
    imported = {node.module for node in ast.walk(ast.parse(code)) if isinstance(node, ast.ImportFrom) and node.module}
    missing = sorted(module for module in imported if not is_installed(module))
    if missing and os.environ.get("AGENT_IDENTITY_NEIGHBOURS") != "all":
        pytest.skip(f"{missing[0]} is not installed here; nox -s neighbours")
    address, bodies = received
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "LANGSMITH_"))},
        "OTEL_EXPORTER_OTLP_ENDPOINT": address,
        "PHOENIX_COLLECTOR_ENDPOINT": address,
        "TRACELOOP_BASE_URL": address,
        "TRACELOOP_API_KEY": "none",
        "TRACELOOP_TELEMETRY": "false",
        "LANGFUSE_HOST": address,
        "LANGFUSE_BASE_URL": address,
        "LANGFUSE_PUBLIC_KEY": "pk-lf-test",
        "LANGFUSE_SECRET_KEY": "sk-lf-test",
    }
    (tmp_path / "app.py").write_text(code, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "app.py"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert (done.returncode, done.stdout.splitlines()[-1:]) == (0, ["found it"]), done.stderr
    assert not re.search("Traceback|detach|agent_identity", done.stderr), done.stderr
    if title != "Logfire":  # Without a token it sends nothing.
        assert [body for body in bodies if b"agent_identity.attestation.payload" in body]
