"""Pages in a real Chromium, opened as files: no foreign script runs, ours does, and none is needed."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest
from small_company import span, traces, work

from agent_identity._reports.answers.inventory_report import Inventory
from agent_identity._reports.pages.rendering import render
from agent_identity.answers import Evidence, Seed, incident, inventory

CHROMIUM: Final = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed: apt-get install chromium")
OWNED: Final = "document.documentElement.id='owned'"
NAMES: Final = (f"<script>{OWNED}</script>", f"<img src=x onerror={OWNED}>", f"</style><svg onload={OWNED}>")


def opened(page: Path, profile: Path, *options: str) -> tuple[str, str]:
    """Return the document after it was loaded from its file, and what the browser complains about."""
    command = [
        str(CHROMIUM),
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--enable-logging=stderr",
        f"--user-data-dir={profile}",
        *options,
        "--dump-dom",
        page.as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout, "\n".join(line for line in done.stderr.splitlines() if "CONSOLE" in line)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Inventory:
    """Return an inventory of spans with hostile names, and of enough agents for a filter."""
    folder = tmp_path_factory.mktemp("traces")
    names = (*NAMES, *(f"tool-{number}" for number in range(12)))
    spans = [
        span({"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": name}, number=number)
        for number, name in enumerate(names, 1)
    ]
    return inventory(Evidence(sources=traces(folder / "traces.jsonl", spans)))


def test_no_script_from_evidence_runs_and_ours_does(found: Inventory, tmp_path: Path) -> None:
    """Hostile names change nothing, the browser reports no violation, and tables get their filter."""
    page = tmp_path / "page.html"
    page.write_bytes(render(found).html)
    document, complaints = opened(page, tmp_path / "profile")
    assert 'id="owned"' not in document
    assert "&lt;script&gt;" in document
    assert 'type="search"' in document
    assert not complaints


def test_the_policy_stops_what_is_put_into_the_file(found: Inventory, tmp_path: Path) -> None:
    """A script, a handler, a style and an image that somebody adds to the file are refused by the policy."""
    page = tmp_path / "page.html"
    added = f"<script>{OWNED}</script><img src=x onerror={OWNED}><p style='color:red'>x</p></main>"
    page.write_bytes(render(found).html.replace(b"</main>", added.encode(), 1))
    document, complaints = opened(page, tmp_path / "profile")
    assert 'id="owned"' not in document
    assert len(re.findall("Content Security Policy", complaints)) >= 3


def test_a_page_needs_no_script(tmp_path: Path) -> None:
    """Without script the whole content is there, pictures as well."""
    work(tmp_path / "evidence")
    page = tmp_path / "page.html"
    html = render(incident(Evidence(sources=tmp_path / "evidence"), Seed("everything", ""))).html
    page.write_bytes(re.sub(rb"<script>.*?</script>", b"", html, flags=re.DOTALL))
    document, complaints = opened(page, tmp_path / "profile")
    assert 'type="search"' not in document
    assert document.count("<svg") == 3
    assert "argument_out_of_scope" in document
    assert not complaints


def test_a_page_prints(tmp_path: Path) -> None:
    """Printing makes a PDF in which folded parts are open."""
    work(tmp_path / "evidence", tasks=8)
    page = tmp_path / "page.html"
    answer = incident(Evidence(sources=tmp_path / "evidence", unverified=True), Seed("everything", ""))
    page.write_bytes(render(answer).html)
    target = tmp_path / "page.pdf"
    opened(page, tmp_path / "profile", "--no-pdf-header-footer", f"--print-to-pdf={target}")
    assert target.read_bytes().startswith(b"%PDF")
