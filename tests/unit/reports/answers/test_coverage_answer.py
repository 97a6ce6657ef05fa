"""Coverage: each tool call once, whoever tells of it, and who answers for it."""

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, use_span
from small_company import ALICE, CLERK, START, span, traces, work

from agent_identity import Enforcer, Scope
from agent_identity._ledger.reader import open_ledger
from agent_identity._record import schema as records
from agent_identity._record.codec import decode
from agent_identity._reports.answers import coverage_report
from agent_identity._reports.answers.coverage_report import CoverageReport, Share
from agent_identity.adapters import CallRequest
from agent_identity.answers import Evidence, coverage
from agent_identity.options import Telemetry

TOOL = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "pay"}


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the evidence of a company that worked for a while."""
    directory = tmp_path_factory.mktemp("company") / "evidence"
    work(directory, tasks=2, days=10)
    return directory


def asked(*sources: Path, **options: Any) -> CoverageReport:
    """Ask about coverage."""
    return coverage(Evidence(sources=sources, **options))


def groups(found: CoverageReport, dimension: str) -> dict[str, Share]:
    """Return the shares of a dimension by name."""
    return {group.name: group.share for group in found.groups if group.dimension == dimension}


def others(found: CoverageReport) -> dict[tuple[str, str], int]:
    """Return the calls for which no verified human answers, by reason and tool."""
    found_: dict[tuple[str, str], int] = {}
    for one in found.others:
        found_[one.why, one.tool] = found_.get((one.why, one.tool), 0) + one.calls
    return found_


def test_a_ledger_says_who_answers(company: Path) -> None:
    """Eight calls for Alice, whom the program asserts, one for a job, one outside any task."""
    found = asked(company)
    assert found.total == Share(calls=10, attributed=9, human=8, verified_human=0, refused=3)
    assert found.proof == "proved"
    assert others(found) == {
        ("outside any task", "delete"): 1,
        ("for a service", "read"): 1,
        ("human, asserted only", "read"): 4,
        ("human, asserted only", "pay"): 4,
    }


def test_groups_add_up_to_the_total(company: Path) -> None:
    """By agent, by service and by week, each call is in one group."""
    found = asked(company)
    for dimension in ("agent", "service", "week"):
        assert sum(share.calls for share in groups(found, dimension).values()) == found.total.calls
        assert sum(share.human for share in groups(found, dimension).values()) == found.total.human
    assert groups(found, "agent")["helper"].human == 4
    assert groups(found, "week")["2025-W48"].calls == 4


def test_calls_that_are_only_traced_lower_the_share(company: Path, tmp_path: Path) -> None:
    """A traced call of OpenInference that no record shows is counted and named, with an example."""
    openinference = {"openinference.span.kind": "TOOL", "tool.name": "shell"}
    path = traces(tmp_path / "t.json", [span(openinference, number=7), span({"gen_ai.request.model": "m"}, number=8)])
    found = asked(company, path)
    assert found.total == Share(calls=11, attributed=9, human=8, verified_human=0, refused=3)
    (one,) = (one for one in found.others if one.why == "traced without a record")
    assert (one.tool, one.service, one.example) == ("shell", "shop", f"{7:032x}/{7:016x}")
    assert groups(found, "service")["shop"].calls == 1


def test_one_call_of_two_libraries_counts_once(tmp_path: Path) -> None:
    """Two spans of an unguarded call, one above the other, are one call of two libraries, and two of one."""
    inner = {**span(TOOL, number=2), "traceId": f"{1:032x}", "parentSpanId": f"{1:016x}"}
    one = traces(tmp_path / "one.json", [span(TOOL, number=1)], scope="one")
    two, same = (traces(tmp_path / f"{scope}-two.json", [inner], scope=scope) for scope in ("two", "one"))
    assert asked(one, two).total.calls == 1
    assert asked(one, same).total.calls == 2


def recorded(directory: Path, name: str = "pay", *, server: str | None = None, above: int = 0) -> tuple[str, str]:
    """Let the clerk call a tool once with a span, perhaps below another one; return trace and span of the call."""
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter(out=io.StringIO())))
    with Enforcer.open(directory, telemetry=Telemetry(tracer_provider=provider)) as enforcer:
        guard = enforcer.guard(name, kind="function" if server is None else "mcp", server=server)
        with enforcer.task("t", principal=ALICE, agent=CLERK, scope=Scope(name)), below(above):
            guard.run(CallRequest({}), lambda _: None)
    ledger = open_ledger(directory)
    lines = (line.record for stream in ledger.streams() for line in ledger.entries(stream))
    outcome = next(one for line in lines if line and isinstance(one := decode(line), records.Outcome))
    assert outcome.trace is not None
    assert outcome.trace.span is not None
    return outcome.trace.trace, outcome.trace.span


@contextlib.contextmanager
def below(number: int) -> Iterator[None]:
    """Let a span of this number be the current one, if it is not 0."""
    if not number:
        yield
        return
    current = SpanContext(1, number, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))
    with use_span(NonRecordingSpan(current)):
        yield


def beside(trace: str, parent: str, *, number: int, tool: str = "pay") -> dict[str, object]:
    """Return a span of another library below a span of ours."""
    said = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": tool}
    return {**span(said, number=number), "traceId": trace, "parentSpanId": parent}


def test_a_copy_of_a_recorded_call_is_no_call_of_its_own(tmp_path: Path) -> None:
    """The span of another library right below ours, of the same tool, is that call."""
    trace, own = recorded(tmp_path / "e")
    path = traces(tmp_path / "t.json", [beside(trace, own, number=5)])
    found = asked(tmp_path / "e", path)
    assert (found.total.calls, found.total.human) == (1, 1)
    assert any("copies" in note for note in found.frame.notes)


@pytest.mark.parametrize("tool", ["pay", "shell"])
def test_an_unguarded_call_does_not_hide_below_a_guarded_one(tmp_path: Path, tool: str) -> None:
    """Below one call of ours a second span of one library, or one of another tool, is a call of its own."""
    trace, own = recorded(tmp_path / "e")
    spans = [beside(trace, own, number=5), beside(trace, own, number=6, tool=tool)]
    found = asked(tmp_path / "e", traces(tmp_path / "t.json", spans))
    assert (found.total.calls, found.total.attributed) == (2, 1)
    assert others(found)["traced without a record", tool] == 1


SERVED = {"mcp.method.name": "tools/call", "gen_ai.tool.name": "fetch"}


def served(directory: Path) -> tuple[str, str]:
    """Let the clerk call a tool of an MCP server once with a span; return trace and span of the call."""
    return recorded(directory, "web/fetch", server="web")


def lines(trace: str, *spans: tuple[int, str, int, str]) -> dict[str, list[dict[str, object]]]:
    """Return spans of one trace by library: each has its number, the span above it, its kind and its library."""
    found: dict[str, list[dict[str, object]]] = {}
    for number, above, kind_, library in spans:
        told = {**span(SERVED, number=number, kind=kind_), "traceId": trace, "parentSpanId": above}
        found.setdefault(library, []).append(told)
    return found


def of(*spans: tuple[int, str, int, str], trace: str, folder: Path) -> list[Path]:
    """Write such spans, a file for each library."""
    return [traces(folder / f"{name}.json", told, scope=name) for name, told in lines(trace, *spans).items()]


def test_spans_by_the_conventions_of_mcp_are_copies(tmp_path: Path) -> None:
    """They have the name of the tool at its server; client and server of one library make one span each."""
    trace, own = served(tmp_path / "e")
    spans = of((5, own, 3, "mcp"), (6, f"{5:016x}", 2, "mcp"), trace=trace, folder=tmp_path)
    found = asked(tmp_path / "e", *spans)
    assert (found.total.calls, found.total.human) == (1, 1)


def test_stacked_libraries_are_copies(tmp_path: Path) -> None:
    """Three libraries below a guarded call, or two with an unguarded one: each call counts once."""
    trace, own = served(tmp_path / "e")
    below = [(5, own, 1, "one"), (6, f"{5:016x}", 1, "two"), (7, f"{6:016x}", 1, "three")]
    assert asked(tmp_path / "e", *of(*below, trace=trace, folder=tmp_path)).total.calls == 1
    (tmp_path / "alone").mkdir()
    alone = of(*below, trace="a" * 32, folder=tmp_path / "alone")
    assert asked(tmp_path / "e", *alone).total.calls == 2


def test_a_library_above_the_one_above_a_guarded_call_is_a_copy(tmp_path: Path) -> None:
    """A framework and a gateway above the call, each with a library of its own, are no calls of their own."""
    trace, _ = recorded(tmp_path / "e", "web/fetch", server="web", above=6)
    spans = of((5, "", 1, "one"), (6, f"{5:016x}", 1, "two"), trace=trace, folder=tmp_path)
    assert asked(tmp_path / "e", *spans).total.calls == 1


@pytest.mark.parametrize("kind", [1, 3])
def test_a_second_call_of_a_library_hides_in_no_stack(tmp_path: Path, kind: int) -> None:
    """Below the spans of two libraries on one call, a second span of the first one is a call of its own."""
    trace, own = served(tmp_path / "e")
    spans = [(5, own, kind, "one"), (6, f"{5:016x}", 1, "two"), (7, f"{6:016x}", kind, "one"), (8, own, 1, "two")]
    found = asked(tmp_path / "e", *of(*spans, trace=trace, folder=tmp_path))
    assert (found.total.calls, found.total.attributed) == (2, 1)


def test_nothing_attributes_without_verification(company: Path) -> None:
    """The attributions of a report that did not verify are recorded only."""
    assert asked(company, unverified=True).proof == "recorded"


def test_empty_evidence_covers_nothing(tmp_path: Path) -> None:
    """Spans without a tool call give no share, and no division by zero."""
    found = asked(traces(tmp_path / "t.json", [span({"http.request.method": "GET"}, kind=3)]))
    assert found.total == Share(0, 0, 0, 0, 0)
    assert found.frame.exit_code == 2


def test_two_directories_are_the_sum_of_their_parts(company: Path, tmp_path: Path) -> None:
    """Totals and groups add up."""
    work(tmp_path / "other", start=START + 50 * 86_400)
    one, two, both = asked(company), asked(tmp_path / "other"), asked(company, tmp_path / "other")
    for name in ("calls", "attributed", "human", "refused"):
        assert getattr(both.total, name) == getattr(one.total, name) + getattr(two.total, name)
    assert sum(others(both).values()) == sum(others(one).values()) + sum(others(two).values())


def test_memory_may_go_to_the_disk(company: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With room for two spans in memory, the answer is the same."""
    path = traces(tmp_path / "t.json", [span(TOOL, number=number) for number in range(1, 20)])
    whole = asked(company, path)
    monkeypatch.setattr(coverage_report, "_NEAR", 2)
    assert asked(company, path).total == whole.total
