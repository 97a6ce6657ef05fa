"""Real servers, with workers, preloading and reloading: a stop leaves no stream without an end."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from agent_identity import Verifier, records

APPLICATION = '''
"""An application of FastAPI and one of Flask, with one enforcer."""
import os
import telemetry
from fastapi import FastAPI
from flask import Flask
from agent_identity import Agent, Enforcer, Human, Scope
from agent_identity.integrations.http import flask as for_flask
from agent_identity.integrations.http.starlette import handle_refusals, lifespan

enforcer = Enforcer.open("evidence")

@enforcer.tool
def fetch(path: str) -> str:
    return f"{path} {os.getpid()} VERSION"

def serve() -> str:
    clerk = Agent("clerk", owner="finance@example.com")
    with enforcer.task("serve", principal=Human("alice"), agent=clerk, scope=Scope("fetch")):
        return fetch("a")

app = FastAPI(lifespan=lifespan(enforcer))
handle_refusals(app)
app.get("/")(serve)

wsgi = Flask("app")
for_flask.handle_refusals(wsgi)
wsgi.get("/")(serve)
'''
TELEMETRY = '''
"""A tracer provider that exports at the end alone, into a file."""
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

class File(SpanExporter):
    def export(self, spans):
        with open("spans.txt", "a", encoding="utf-8") as file:
            file.write("".join(f"{span.name}\\n" for span in spans))
        return SpanExportResult.SUCCESS

provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(File(), schedule_delay_millis=600_000))
trace.set_tracer_provider(provider)
'''
DEADLINE = 60.0
Start = Callable[..., "Server"]


class Server:
    """A server in a process of its own, in the folder of the application."""

    def __init__(self, folder: Path, *command: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.folder = folder
        (folder / "telemetry.py").write_text(TELEMETRY, encoding="utf-8")
        self.write("1")
        self.environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), *sys.path])}
        line = [part.format(port=self.port) for part in command]
        self.log = (folder / "server.log").open("wb")
        self.process = subprocess.Popen(
            [sys.executable, "-m", *line],
            cwd=folder,
            stdout=self.log,
            stderr=subprocess.STDOUT,
            env=self.environment,
        )

    def write(self, version: str) -> None:
        """Write the program of the application."""
        (self.folder / "application.py").write_text(APPLICATION.replace("VERSION", version), encoding="utf-8")

    def get(self) -> list[str]:
        """Return the words of one answer, as soon as there is one."""
        end = time.monotonic() + DEADLINE
        while True:
            try:
                return httpx.get(f"http://127.0.0.1:{self.port}/", timeout=DEADLINE).text.strip('"').split()
            except httpx.HTTPError:
                if self.process.poll() is not None or time.monotonic() > end:
                    raise AssertionError((self.folder / "server.log").read_text(encoding="utf-8")) from None
                time.sleep(0.05)  # The socket of a starting server announces nothing.

    def stop(self) -> None:
        """Ask the server to stop, as a supervisor does, and wait until it has."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self.process.wait(DEADLINE)
        self.log.close()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Return a function that starts a server; its evidence is whole in the end."""
    started: list[Server] = []

    def run(*command: str) -> Server:
        started.append(Server(tmp_path, *command))
        return started[-1]

    yield run
    for server in started:
        server.stop()


def kinds(folder: Path) -> Counter[str]:
    """Return the number of records of each kind, after checking that the evidence is whole."""
    evidence = folder / "evidence"
    report = Verifier(evidence / "trust.json").ledger(evidence)
    assert (report.verdict, report.findings, report.counts["recovered"]) == ("verified", (), 0)
    return Counter(record.kind for record in records.read(evidence))


@pytest.mark.sample(3)
@pytest.mark.parametrize(
    "command",
    [
        ("uvicorn", "application:app", "--port", "{port}"),
        ("uvicorn", "application:app", "--port", "{port}", "--workers", "2"),
        ("gunicorn", "application:wsgi", "--bind", "127.0.0.1:{port}", "--workers", "2"),
        ("gunicorn", "application:wsgi", "--bind", "127.0.0.1:{port}", "--workers", "2", "--preload"),
        ("gunicorn", "application:wsgi", "--bind", "127.0.0.1:{port}", "--worker-class", "gthread", "--threads", "4"),
        ("gunicorn", "application:app", "--bind", "127.0.0.1:{port}", "--worker-class", "asgi"),
    ],
    ids=lambda command: " ".join(command[:1] + command[4:]),
)
def test_a_stop_leaves_no_stream_without_an_end(start: Start, tmp_path: Path, command: tuple[str, ...]) -> None:
    """Whatever the server, every stream that began has its end, and every request its task; no span is lost."""
    server = start(*command)
    for _ in range(4):
        assert server.get()[0] == "a"
    server.stop()
    found = kinds(tmp_path)
    assert found["stream_start"] == found["stream_end"] >= 1
    assert found["outcome"] == found["task_end"] >= 4
    spans = Counter((tmp_path / "spans.txt").read_text(encoding="utf-8").splitlines())
    assert (spans["execute_tool fetch"], spans["invoke_agent clerk"]) == (found["outcome"], found["task_end"])


JOBS = '''
"""A worker of Celery; folders are its broker."""
import os
import telemetry
from celery import Celery
from application import serve

places = {"data_folder_in": "jobs", "data_folder_out": "jobs", "control_folder": "control"}
app = Celery("jobs", broker="filesystem://")
app.conf.update(broker_transport_options=places, worker_pool="POOL", worker_concurrency=2)

@app.task
def job(number):
    with open(f"done-{number}", "w", encoding="utf-8") as file:
        file.write(serve())
'''
CELERY = ("celery", "--app", "jobs", "worker", "--loglevel", "INFO")


@pytest.mark.sample(3)
@pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])
def test_a_stop_of_celery_leaves_no_stream_without_an_end(start: Start, tmp_path: Path, pool: str) -> None:
    """Its child processes leave without atexit, and yet each has ended its stream and exported its spans."""
    pytest.importorskip("celery", reason="celery is not installed; pip install celery")
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs.py").write_text(JOBS.replace("POOL", pool), encoding="utf-8")
    server = start(*CELERY)
    send = "import jobs\nfor number in range(4):\n    jobs.job.delay(number)"
    subprocess.run([sys.executable, "-c", send], cwd=tmp_path, env=server.environment, check=True, timeout=DEADLINE)
    end = time.monotonic() + DEADLINE
    while sum(1 for _ in tmp_path.glob("done-*")) < 4:
        assert time.monotonic() < end, (tmp_path / "server.log").read_text(encoding="utf-8")
        time.sleep(0.05)
    server.stop()
    found = kinds(tmp_path)
    assert found["stream_start"] == found["stream_end"] >= 1
    assert found["outcome"] == found["task_end"] == 4
    spans = Counter((tmp_path / "spans.txt").read_text(encoding="utf-8").splitlines())
    assert (spans["execute_tool fetch"], spans["invoke_agent clerk"]) == (4, 4)


@pytest.mark.nightly
def test_a_reload_ends_one_stream_and_begins_another(start: Start, tmp_path: Path) -> None:
    """While a developer edits, each version of the program leaves whole evidence."""
    server = start("uvicorn", "application:app", "--port", "{port}", "--reload")
    assert server.get()[2] == "1"
    server.write("22")
    end = time.monotonic() + DEADLINE
    while server.get()[2] != "22":
        assert time.monotonic() < end
    server.stop()
    found = kinds(tmp_path)
    assert found["stream_start"] == found["stream_end"] == 2
