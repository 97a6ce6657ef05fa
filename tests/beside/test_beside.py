"""Beside the others: one line adds us, nothing of theirs is lost, and a call is one span, whoever makes it.

Each test runs an application with a real instrumentation in a process of its own (``scenario.py``).
"""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCENARIO = Path(__file__).with_name("scenario.py")
EVIDENCE = "agent_identity.attestation.payload"
STAMP = "agent_identity_stamp.principal.id"
NEEDS = {
    "official": ("opentelemetry.instrumentation.genai.langchain",),
    "openllmetry": ("opentelemetry.instrumentation.langchain",),
    "openinference": ("openinference.instrumentation.langchain",),
    "logfire": ("logfire",),
    "langfuse": ("langfuse",),
    "traceloop": ("traceloop.sdk",),
    "phoenix": ("phoenix.otel",),
}
TRACED_BY = {
    "official": "opentelemetry.instrumentation.genai.langchain",
    "openllmetry": "opentelemetry.instrumentation.langchain",
    "openinference": "openinference.instrumentation.langchain",
    "logfire": "opentelemetry.instrumentation.genai.langchain",
    "langfuse": "langfuse-sdk",
    "traceloop": "opentelemetry.instrumentation.langchain",
    "phoenix": "openinference.instrumentation.langchain",
}
"""Whose span of a tool call there is, by instrumentation scope."""

CALLS = 8  # An agent that is run in four manners and calls twice in each; every second call is refused.


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def run(
    folder: Path, product: str, *, order: str = "theirs first", way: str = "protect", spans: str = "auto", **env: str
) -> dict[str, Any]:
    """Run the scenario and return what the one exporter of the product got; skip where the product is absent."""
    missing = [module for module in NEEDS.get(product, ()) if not _is_installed(module)]
    if missing and os.environ.get("AGENT_IDENTITY_NEIGHBOURS") != "all":
        pytest.skip(f"{missing[0]} is not installed here; nox -s neighbours")
    starter = ["opentelemetry-instrument"] if product == "auto" else []
    program = [str(Path(sys.executable).with_name(starter[0])), sys.executable] if starter else [sys.executable]
    command = [*program, str(SCENARIO), product, order, way, spans]
    given = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "LANGSMITH_"))}
    done = subprocess.run(
        command, cwd=folder, env={**given, **env}, capture_output=True, text=True, check=False, timeout=240
    )
    assert done.returncode == 0, done.stderr
    assert "detach" not in done.stderr, done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    assert "agent_identity" not in done.stderr, done.stderr  # Nothing of ours had anything to complain of.
    (got,) = json.loads((folder / "got.json").read_text(encoding="utf-8")).values()
    found: dict[str, Any] = got
    return found


def evidence(got: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the spans with records of calls."""
    return [s for s in got["spans"] if EVIDENCE in s["attributes"] and "agent_identity.outcome" in s["attributes"]]


def tool_spans(got: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the spans that stand for a call of the tool, whoever made them."""
    return [span for span in got["spans"] if span["name"] in ("find", "execute_tool find", "find.tool")]


def check_whole(got: dict[str, Any], calls: int = CALLS) -> None:
    """Check what holds in any case: all is verified and there, each call once, in one trace."""
    assert (got["verdict"], got["findings"]) == ("verified", [])
    assert (got["counts"]["verified"], got["counts"]["duplicates"]) == (calls + 1, 0)
    assert got["counts"]["success"] == got["counts"]["denied"] == calls // 2
    assert len(evidence(got)) == len({span["span"] for span in evidence(got)}) == calls
    assert len({span["trace"] for span in got["spans"]}) == 1


@pytest.mark.sample(4)
@pytest.mark.parametrize("order", ["theirs first", "ours first"])
@pytest.mark.parametrize("product", TRACED_BY)
def test_a_call_is_one_span_beside_each_product(tmp_path: Path, product: str, order: str) -> None:
    """Whoever is set up first: their span of each call carries our record, and their exporter gets all there is.

    Models and chains are found by principal: each span of theirs is stamped; ours says the same under a signature.
    """
    got = run(tmp_path, product, order=order)
    check_whole(got)
    theirs = [span for span in got["spans"] if span["scope"] != "agent_identity"]
    assert len(theirs) > CALLS
    assert {span["attributes"].get(STAMP) for span in theirs} == {"alice@example.com"}
    assert [span["name"] for span in got["spans"] if span["scope"] == "agent_identity"] == ["invoke_agent clerk"]
    assert len(tool_spans(got)) == CALLS
    assert {span["scope"] for span in evidence(got)} == {TRACED_BY[product]}
    # The doctor sees their provider and processors, and what they remove; none of it costs evidence.
    seen = {name: detail for name, status, detail in got["doctor"] if status == "ok"}
    assert "AgentIdentitySpanProcessor" in seen["processors"]
    assert ("scrubber" in seen) is (product in {"logfire", "langfuse"})
    complaints = [detail for _, status, detail in got["doctor"] if status != "ok"]
    assert len(complaints) == (2 if product == "phoenix" else 0)  # As it is registered by default.
    ids = {span["span"] for span in got["spans"]}
    if product != "langfuse":  # It exports what looks like GenAI, and drops what the tool itself traces.
        assert {span["parent"] for span in got["spans"]} <= {"", *ids}
        inside = [span for span in got["spans"] if span["name"] == "inside the tool"]
        assert {span["parent"] for span in inside} <= {span["span"] for span in tool_spans(got)}
        assert len(inside) == CALLS // 2


@pytest.mark.sample(2)
@pytest.mark.parametrize(("product", "way"), [("official", "middleware"), ("openinference", "instrumentor")])
def test_every_way_in_borrows_the_span(tmp_path: Path, product: str, way: str) -> None:
    """Middleware and instrumentor put the record on the same span as ``protect`` does."""
    got = run(tmp_path, product, way=way)
    assert {span["scope"] for span in evidence(got)} == {TRACED_BY[product]}
    assert len(tool_spans(got)) == len(evidence(got)) == CALLS
    assert (got["verdict"], got["findings"]) == ("verified", [])


@pytest.mark.sample(2)
@pytest.mark.parametrize("product", ["openllmetry", "openinference"])
def test_own_makes_a_span_of_ours_below_theirs(tmp_path: Path, product: str) -> None:
    """``own`` leaves their spans as they are; there are two of each call, in one trace."""
    got = run(tmp_path, product, spans="own")
    check_whole(got)
    assert {span["scope"] for span in evidence(got)} == {"agent_identity"}
    assert len(tool_spans(got)) == 2 * CALLS


@pytest.mark.sample(2)
@pytest.mark.parametrize("product", ["official", "none"])
def test_enrich_makes_no_span_of_ours(tmp_path: Path, product: str) -> None:
    """``enrich`` uses their spans; where nobody makes any, the records are in the ledger, and the verifier says so."""
    got = run(tmp_path, product, spans="enrich")
    assert {span["scope"] for span in tool_spans(got)} == ({TRACED_BY[product]} if product != "none" else set())
    if product == "none":
        assert got["verdict"] == "incomplete"
        assert {finding.partition(":")[0] for finding in got["findings"]} == {"span_missing"}
    else:
        check_whole(got)


def test_without_others_auto_makes_our_spans(tmp_path: Path) -> None:
    """Where nobody else traces, each call has a span of ours."""
    got = run(tmp_path, "none")
    check_whole(got)
    assert {span["scope"] for span in tool_spans(got)} == {"agent_identity"}


@pytest.mark.sample(2)
@pytest.mark.parametrize("way", ["protect", "instrumentor"])
def test_opentelemetry_instrument_sets_all_up(tmp_path: Path, way: str) -> None:
    """Without code, beside three instrumentations of LangChain at once: one of their spans has the record of a call."""
    for product in ("official", "openllmetry", "openinference"):
        if not _is_installed(NEEDS[product][0]):
            pytest.skip(f"{product} is not installed here")
    environment = {
        **{f"OTEL_{signal}_EXPORTER": "none" for signal in ("TRACES", "METRICS", "LOGS")},
        "AGENT_IDENTITY_DIR": "evidence",
        "AGENT_IDENTITY_STAMPS": "true",
    }
    got = run(tmp_path, "auto", way=way, **environment)
    assert len(evidence(got)) == len({span["span"] for span in evidence(got)}) == CALLS
    assert "agent_identity" not in {span["scope"] for span in evidence(got)}
    assert len(tool_spans(got)) == 3 * CALLS
    assert {span["attributes"].get(STAMP) for span in evidence(got)} == {"alice@example.com"}
    if way == "protect":
        check_whole(got)
    else:  # Our instrumentor opens an enforcer of its own, which watches, and has no task.
        assert got["counts"]["verified"] == CALLS + 1
        assert got["counts"]["unattributed"] == got["counts"]["success"] == CALLS
