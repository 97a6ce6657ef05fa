"""The pages, alert rules and dashboard of metrics: they name what an enforcer reports, and promtool accepts them."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import Histogram, InMemoryMetricReader, Sum

from agent_identity import Agent, Denied, Effect, Enforcer, Human, Rule, RuleSet, Scope
from agent_identity.options import Telemetry
from agent_identity.telemetry import measure

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
RULES = DOCS / "prometheus" / "agent_identity.rules.yml"
DASHBOARD = DOCS / "grafana" / "agent_identity.json"
PROMTOOL = shutil.which("promtool")
ROW = re.compile(
    r"^\| `(?P<name>(?:agent_identity|gen_ai)\.[\w.]+)` \| (?P<kind>counter|gauge|histogram) "
    r"\| `(?P<unit>[^`]+)` \| (?P<attributes>[^|]*)\|",
    re.MULTILINE,
)
PREFIX = re.compile(r"\b(?:agent_identity|gen_ai)_\w+")


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return every metric of an enforcer that has all parts that are measured, by name."""
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    evidence = tmp_path_factory.mktemp("metrics") / "evidence"
    rules = RuleSet(Rule(Effect.WARN, tools="pay", reason="a person reads it", id="note"))
    telemetry = Telemetry(otlp="http://127.0.0.1:9")  # Nothing listens there.
    with Enforcer.open(evidence, policy=rules, telemetry=telemetry) as enforcer:
        measure(enforcer, provider, tools=["pay"], agents=["clerk"])
        enforcer.revoke("task", "a-task")
        data = enforcer.revocations.export()
        enforcer.revocations.follow(lambda: data, every=60)
        with enforcer.task("t", principal=Human("alice"), agent=Agent("clerk", owner="it"), scope=Scope("pay")):
            enforcer.tool(name="pay")(lambda: None)()
            with pytest.raises(Denied):
                enforcer.tool(name="look")(lambda: None)()
        with (
            suppress(ZeroDivisionError),
            enforcer.task("t", principal=Human("alice"), agent=Agent("clerk", owner="it"), scope=Scope("pay")),
        ):
            enforcer.tool(name="pay")(lambda: 1 / 0)()
        enforcer._enforcement.ledger.drain(30)
        collected = reader.get_metrics_data()
    provider.shutdown()
    assert collected is not None
    scopes = [scope for each in collected.resource_metrics for scope in each.scope_metrics]
    return {metric.name: metric for scope in scopes for metric in scope.metrics}


def kind_of(metric: Any) -> str:
    """Return the kind of an instrument, as the page names it."""
    if isinstance(metric.data, Histogram):
        return "histogram"
    return "counter" if isinstance(metric.data, Sum) and metric.data.is_monotonic else "gauge"


def attributes_of(metric: Any) -> set[str]:
    """Return the names of the attributes of a metric."""
    return {name for point in metric.data.data_points for name in point.attributes}


def in_prometheus(metric: Any) -> set[str]:
    """Return the names of a metric in Prometheus, by the rules of its OpenTelemetry compatibility."""
    name = metric.name.replace(".", "_") + ("_seconds" if metric.unit == "s" else "")
    if isinstance(metric.data, Histogram):
        return {f"{name}_bucket", f"{name}_count", f"{name}_sum"}
    return {f"{name}_total" if kind_of(metric) == "counter" else name}


def test_the_page_has_exactly_what_is_reported(reported: dict[str, Any]) -> None:
    """Each metric has one row with its instrument, unit and attributes, and each row is a metric."""
    page = (DOCS / "reference" / "metrics.md").read_text(encoding="utf-8")
    rows = {
        row["name"]: (row["kind"], row["unit"], set(re.findall(r"`([\w.]+)`", row["attributes"])))
        for row in ROW.finditer(page)
    }
    assert rows == {name: (kind_of(metric), metric.unit, attributes_of(metric)) for name, metric in reported.items()}
    named = {name for metric in reported.values() for name in attributes_of(metric)}
    assert [name for name in sorted(named) if f"- `{name}`: " not in page] == []
    assert all(metric.description for metric in reported.values())


def rules() -> list[dict[str, Any]]:
    """Return the alert rules."""
    (group,) = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    return group["rules"]


def queries() -> Iterator[str]:
    """Yield the queries of the dashboard, and that of its variable."""
    dashboard = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    for panel in dashboard["panels"]:
        yield from (target["expr"] for target in panel["targets"])
    yield from (each["definition"] for each in dashboard["templating"]["list"] if each["type"] == "query")


def test_rules_and_dashboard_name_metrics_and_labels_that_exist(reported: dict[str, Any]) -> None:
    """A query of a name that nobody reports would be empty for ever, and look like good news."""
    metrics = {name for metric in reported.values() for name in in_prometheus(metric)}
    labels = {name.replace(".", "_") for metric in reported.values() for name in attributes_of(metric)}
    texts = [*(rule["expr"] for rule in rules()), *queries()]
    used = {name for text in texts for name in PREFIX.findall(text)}
    assert used - metrics - labels == set()
    assert {text for text in texts if not metrics & set(PREFIX.findall(text))} == set()
    shown = {name for text in queries() for name in PREFIX.findall(text)}
    assert [name for name, metric in reported.items() if not in_prometheus(metric) & shown] == []


def test_rules_name_codes_that_exist() -> None:
    """Each code in a matcher of a rule is one of the reference."""
    codes = (DOCS / "reference" / "codes.md").read_text(encoding="utf-8")
    matched = re.findall(r'error_type(?:=~|!=|=)"([\w|]+)"', " ".join(rule["expr"] for rule in rules()))
    named = {code for text in matched for code in text.split("|")}
    assert len(named) > 5
    assert [code for code in sorted(named) if f"`{code}`" not in codes] == []


def test_the_guide_names_alerts_and_files_that_exist() -> None:
    """Each alert that a page names is a rule; there are as many as it says."""
    alerts = {rule["alert"] for rule in rules()}
    for page in ("how-to/metrics.md", "reference/metrics.md"):
        text = (DOCS / page).read_text(encoding="utf-8")
        assert set(re.findall(r"`(AgentIdentity\w+)`", text)) <= alerts
        assert len(alerts) == 9
        assert "nine" in text


def test_panels_of_the_dashboard_do_not_overlap() -> None:
    """Each panel has an id and a place of its own, a query, and a description."""
    panels = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    cells: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        own = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not own & cells
        cells |= own
        assert panel["targets"]
        assert panel["description"]
    assert len({panel["id"] for panel in panels}) == len(panels)


def promtool(*arguments: str) -> None:
    """Run promtool, or skip where it is not installed; the nightly session needs it."""
    if PROMTOOL is None:
        assert "AGENT_IDENTITY_PROMTOOL" not in os.environ, "promtool is not installed; install the package promtool"
        pytest.skip("promtool is not installed")
    done = subprocess.run([PROMTOOL, *arguments], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_accepts_the_rules() -> None:
    """They parse, and no two are the same."""
    promtool("check", "rules", "--lint=all", "--lint-fatal", str(RULES))


def test_each_alert_fires_on_its_failure_and_on_nothing_else() -> None:
    """The tests of the rules, which evaluate them over hours of made-up values."""
    promtool("test", "rules", str(RULES.with_name("agent_identity_test.yml")))


def test_promtool_parses_the_queries_of_the_dashboard() -> None:
    """Each is a query once Grafana has put in its variables."""
    for query in queries():
        plain = query.replace("$__rate_interval", "5m").replace("$job", ".*")
        if not plain.startswith("label_values("):
            promtool("--experimental", "promql", "format", plain)
