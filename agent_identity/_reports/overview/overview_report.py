"""All reports over the same evidence from one pass: inventory, scope, data, incident, coverage and controls."""

from dataclasses import dataclass
from typing import final

from agent_identity._common.typed_calls import typed
from agent_identity._reports.answers.coverage_report import CoverageQuestion, CoverageReport
from agent_identity._reports.answers.data_report import DataQuestion, DataReport
from agent_identity._reports.answers.incident_report import IncidentQuestion, IncidentReport
from agent_identity._reports.answers.incident_seed import Seed
from agent_identity._reports.answers.inventory_report import Inventory, InventoryQuestion
from agent_identity._reports.answers.reading import Distributor, Evidence, read
from agent_identity._reports.answers.scope_report import ScopeQuestion, ScopeReport
from agent_identity._reports.controls.controls_report import ControlsQuestion, ControlsReport


@final
@dataclass(frozen=True, slots=True)
class Overview:
    """Every report over the same evidence.

    Attributes:
        inventory: The inventory.
        scope: Granted against used.
        data: The data that agents touched.
        incident: The incident of everything.
        coverage: The share of calls that a human answers for.
        controls: What the evidence shows for the clauses of laws and frameworks.
    """

    inventory: Inventory
    scope: ScopeReport
    data: DataReport
    incident: IncidentReport
    coverage: CoverageReport
    controls: ControlsReport


@typed
def overview(evidence: Evidence, *, since_ns: int | None = None, least: int = 1) -> Overview:
    """Make every report from one pass, which reads and verifies each source once.

    The reports are those that :func:`inventory`, :func:`scope`, :func:`data`, :func:`incident`, :func:`coverage`
    and :func:`controls` make one by one.

    Args:
        evidence: The sources.
        since_ns: As for :func:`inventory` and :func:`scope`.
        least: As for :func:`scope`.

    Raises:
        ConfigurationError: A source or the trust file cannot be read, or ``least`` is less than 1.
    """
    of_inventory, of_scope = InventoryQuestion(since_ns), ScopeQuestion(since_ns, least)
    of_data, of_incident = DataQuestion(), IncidentQuestion(Seed("everything", ""))
    of_coverage, of_controls = CoverageQuestion(), ControlsQuestion(from_ns=evidence.from_ns)
    takers = (of_inventory.take, of_scope.take, of_data.take, of_incident.take, of_coverage.take, of_controls.take)
    reading = read(evidence, Distributor(takers))
    of_all = of_incident.answer(reading, evidence)
    shares = of_coverage.answer(reading, evidence)
    return Overview(
        inventory=of_inventory.answer(reading, evidence),
        scope=of_scope.answer(reading, evidence),
        data=of_data.answer(reading, evidence),
        incident=of_all,
        coverage=shares,
        controls=of_controls.answer(reading, evidence, shares, of_all),
    )
