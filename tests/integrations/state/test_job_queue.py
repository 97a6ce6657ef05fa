"""The programs of the page about jobs, with a real Celery on a real Redis: ordered here, done there, at most once."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent_identity import Enforcer, Verifier, records
from agent_identity.errors import ConfigurationError
from agent_identity.identity import SigningKey, TrustStore

PAGE = Path(__file__).resolve().parents[3] / "docs" / "how-to" / "job-queues.md"
WORKER = ("celery", "--app", "jobs", "worker", "--concurrency", "2", "--loglevel", "INFO")
DEADLINE = 60.0


class Shop:
    """The web program and the worker of the page, in processes of their own."""

    def __init__(self, folder: Path, url: str, prefix: str) -> None:
        self.folder = folder
        programs = dict(re.findall(r'```py title="(\w+\.py)"\n(.*?)```', PAGE.read_text(encoding="utf-8"), re.DOTALL))
        assert set(programs) == {"jobs.py", "web.py"}
        for name, text in programs.items():
            own = text.replace("redis://127.0.0.1:6379/0", url).replace('prefix="shop"', f'prefix="{prefix}"')
            queue = f'app.conf.update(task_default_queue="{prefix}")\n'
            (folder / name).write_text(own.replace("enforcer = Enf", f"{queue}enforcer = Enf"), encoding="utf-8")
        key = SigningKey.generate()
        key.save(folder / "worker.key")
        (folder / "worker.jwk").write_text(json.dumps(key.public_key.to_jwk()), encoding="utf-8")
        self._trust()
        self.environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), *sys.path])}
        self.log = (folder / "worker.log").open("wb")
        self.worker: subprocess.Popen[bytes] | None = None

    def _trust(self) -> None:
        for name in ("web", "worker"):
            Enforcer.open(self.folder / name).close()
        stores = {name: TrustStore.load(self.folder / name / "trust.json") for name in ("web", "worker")}
        issuers = tuple(key for store in stores.values() for key in store.keys if key.purpose == "issuer")
        for name, store in stores.items():
            recorders = tuple(key for key in store.keys if key.purpose == "recorder")
            shared = TrustStore(keys=issuers + recorders, issuer="https://agents.example.com", origin=store.origin)
            shared.save(self.folder / name / "trust.json")

    def order(self, *then: str) -> None:
        """Order a payment in a program that ends at once; `then` are further lines of it."""
        lines = ["import web", 'web.order(web.Human("alice@example.com"), "INV-42")', *then]
        command = [sys.executable, "-c", "\n".join(lines)]
        subprocess.run(command, cwd=self.folder, env=self.environment, check=True, timeout=DEADLINE)

    def start(self) -> None:
        """Start the worker."""
        self.worker = subprocess.Popen(
            [sys.executable, "-m", *WORKER],
            cwd=self.folder,
            stdout=self.log,
            stderr=subprocess.STDOUT,
            env=self.environment,
        )

    def stop(self) -> None:
        """Ask the worker to stop, and wait until it has."""
        if self.worker is not None and self.worker.poll() is None:
            self.worker.send_signal(signal.SIGTERM)
            self.worker.wait(DEADLINE)

    def seen(self, kind: str) -> list[Any]:
        """Return the records of one kind that the worker has written."""
        found = list[Any]()
        with contextlib.suppress(ConfigurationError):  # It has written nothing yet.
            found = [record for record in records.read(self.folder / "worker") if record.kind == kind]
        return found

    def codes(self) -> set[str]:
        """Return the codes of the refusals that the worker has recorded."""
        return {str(record.error) for record in self.seen("outcome")}

    def until(self, what: Callable[[], bool]) -> None:
        """Wait until something has happened in the other processes."""
        end = time.monotonic() + DEADLINE
        while not what():
            assert time.monotonic() < end, (self.folder / "worker.log").read_text(encoding="utf-8")
            time.sleep(0.05)

    def paid(self) -> int:
        """Return how often the invoice was paid."""
        path = self.folder / "paid.txt"
        return len(path.read_text(encoding="utf-8").splitlines()) if path.exists() else 0


@pytest.fixture
def shop(share: Callable[[str], object], tmp_path: Path) -> Iterator[Shop]:
    """Return the shop; what it leaves verifies once the next start has taken up what died."""
    if os.environ.get("AGENT_IDENTITY_CELERY") != "1":
        pytest.importorskip("celery", reason="celery is not installed; pip install 'celery[redis]'")
    url, _, prefix = share("redis").address.rpartition("#")
    made = Shop(tmp_path, url, prefix)
    yield made
    made.stop()
    made.log.close()
    for name in ("web", "worker"):
        Enforcer.open(tmp_path / name).close()
        report = Verifier(tmp_path / name / "trust.json").ledger(tmp_path / name)
        problems = [finding for finding in report.findings if finding.severity != "notice"]
        assert (report.verdict, problems) == ("verified", [])


@pytest.mark.nightly
def test_celery_pays_once_although_the_message_comes_twice(shop: Shop) -> None:
    """The process of the request is gone when the worker starts, and the second message finds no authority."""
    shop.order(
        "sent, send = [], web.app.send_task",
        "web.app.send_task = lambda name, words: sent.append((name, words))",
        'web.order(web.Human("bob@example.com"), "INV-43")',
        "for _ in range(2): send(*sent[0])",
    )
    shop.start()
    shop.until(lambda: shop.codes() & {"task_ended", "limit_exceeded"} != set() and shop.paid() == 2)
    shop.stop()
    assert shop.paid() == 2
    done = [record for record in shop.seen("outcome") if record.outcome == "success"]
    assert sorted(record.principal.id for record in done) == ["alice@example.com", "bob@example.com"]


@pytest.mark.nightly
def test_celery_never_pays_again_after_a_worker_died_in_the_payment(shop: Shop) -> None:
    """The queue delivers the job again, and the limit of one use has counted before the body ran."""
    program = shop.folder / "jobs.py"
    text = program.read_text(encoding="utf-8")
    line = '        file.write(f"{invoice}\\n")\n'
    assert line in text
    dies = """
    if not Path("died").exists():
        Path("died").touch()
        __import__("os").kill(__import__("os").getpid(), 9)
"""
    program.write_text(text.replace(line, line + dies), encoding="utf-8")
    shop.order()
    shop.start()
    shop.until(lambda: "limit_exceeded" in shop.codes())
    shop.stop()
    assert shop.paid() == 1
