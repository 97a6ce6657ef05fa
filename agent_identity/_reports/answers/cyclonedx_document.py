"""The inventory as a CycloneDX 1.7 document: agents and models as components, servers, tools and hosts as services."""

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Final
from uuid import NAMESPACE_URL, uuid5

from agent_identity._reports.answers.inventory_report import Inventory, Item
from agent_identity.canonical import JSON

_OURS: Final = "agent-identity:"
_COMPONENTS: Final[Mapping[str, str]] = {"agent": "application", "model": "machine-learning-model", "data": "data"}
_TECHNIQUES: Final[Mapping[str, str]] = {"proved": "attestation", "recorded": "other", "hint": "instrumentation"}
_SCANNED: Final[Mapping[str, str]] = {
    "declared": "source-code-analysis",
    "configured": "manifest-analysis",
    "installed": "manifest-analysis",
}
_SURE: Final[Mapping[str, float]] = {"proved": 1.0, "recorded": 0.5, "hint": 0.5}


def cyclonedx(found: Inventory) -> dict[str, JSON]:
    """Return an inventory as a CycloneDX 1.7 document, the same for the same inventory.

    Principals are left out, since they are people and no parts of a system; owners of agents are in.

    Args:
        found: The inventory.
    """
    tools = [item for item in found.items if item.kind == "tool"]
    components: list[JSON] = [_component(item) for item in found.items if item.kind in _COMPONENTS]
    services: list[JSON] = [_service(item, tools) for item in found.items if item.kind in ("server", "host")]
    servers = {item.name for item in found.items if item.kind == "server"}
    services += [_service(item, []) for item in tools if not servers.intersection(item.details.get("server", ()))]
    document: dict[str, JSON] = {
        "$schema": "http://cyclonedx.org/schema/bom-1.7.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.7",
        "version": 1,
        "metadata": _metadata(found),
        "components": components,
        "services": services,
        "dependencies": list(_dependencies(found)),
        "compositions": [{"aggregate": "incomplete"}],
    }
    content = json.dumps(document, sort_keys=True)
    document["serialNumber"] = f"urn:uuid:{uuid5(NAMESPACE_URL, content)}"
    return document


def _metadata(found: Inventory) -> JSON:
    frame = found.frame
    latest = max((source.last_ns for source in frame.sources), default=0)
    facts = [("verdict", frame.verdict), ("verified", str(frame.verified).lower())]
    facts += [("command", frame.command)] if frame.command else []
    facts += [("source", f"{one.place}: {one.kind}, {one.verdict}, keys {one.trust}") for one in frame.sources]
    facts += [("not-shown", note) for note in frame.notes]
    metadata: dict[str, JSON] = {
        "tools": {"components": [{"type": "application", "name": "agent-identity", "version": frame.version}]},
        "properties": [_property(name, text) for name, text in facts],
    }
    if latest:
        metadata["timestamp"] = _time(latest)
    return metadata


def _component(item: Item) -> JSON:
    component: dict[str, JSON] = {
        "type": _COMPONENTS[item.kind],
        "bom-ref": _ref(item),
        "name": item.name,
        "tags": [item.kind],
        "evidence": {"identity": [_identity(item)]},
        "properties": list(_properties(item)),
    }
    if item.service is not None:
        component["group"] = item.service
    if len(item.versions) == 1:
        component["version"] = item.versions[0]
    if item.kind == "model":
        component["modelCard"] = {}
    if item.kind == "data":
        component["data"] = [{"type": "dataset", "name": item.name}]
    return component


def _identity(item: Item) -> JSON:
    methods: list[JSON] = [
        {
            "technique": _SCANNED.get(sighting.kind, _TECHNIQUES[sighting.proof]),
            "confidence": _SURE[sighting.proof],
            "value": f"{sighting.kind} of source {sighting.source}" if sighting.source >= 0 else "scan",
        }
        for sighting in item.sightings
    ]
    return {"field": "name", "confidence": _SURE[item.proof], "methods": methods}


def _service(item: Item, tools: list[Item]) -> JSON:
    service: dict[str, JSON] = {
        "bom-ref": _ref(item),
        "name": item.name,
        "tags": [item.kind],
        "properties": list(_properties(item)),
    }
    if item.service is not None:
        service["group"] = item.service
    if item.kind == "host":
        service["endpoints"] = [f"https://{item.name}"]
        service["x-trust-boundary"] = True
    nested = [_service(tool, []) for tool in tools if item.name in tool.details.get("server", ())]
    if nested and item.kind == "server":
        # A tool of several servers is nested in each, under a name of its own.
        service["services"] = [_renamed(one, item) for one in nested]
    return service


def _renamed(service: JSON, server: Item) -> JSON:
    if isinstance(service, dict):
        service["bom-ref"] = f"{_ref(server)}/{service['bom-ref']}"
    return service


def _properties(item: Item) -> Iterator[JSON]:
    facts: list[tuple[str, str]] = [("status", status) for status in item.statuses]
    facts.append(("proof", item.proof))
    facts += [("owner", owner) for owner in item.owners]
    facts += [("version", version) for version in item.versions]
    facts += [("first-seen", _time(item.first_ns)), ("last-seen", _time(item.last_ns))] if item.first_ns else []
    facts += [("calls", str(item.calls)), ("refused", str(item.refused)), ("spans", str(item.spans))]
    facts += [(name.replace(" ", "-"), value) for name, values in item.details.items() for value in values]
    return (_property(name, text) for name, text in facts)


def _property(name: str, text: str) -> JSON:
    return {"name": f"{_OURS}{name}", "value": text}


def _dependencies(found: Inventory) -> Iterator[JSON]:
    """Yield the delegations: each agent with the agents that it hands work to."""
    agents = {(item.service, item.name): item for item in found.items if item.kind == "agent"}
    for item in agents.values():
        named = (agents.get((item.service, name)) for name in item.details.get("delegates to", ()))
        below: list[JSON] = [_ref(other) for other in named if other is not None and other is not item]
        if below:
            yield {"ref": _ref(item), "dependsOn": below}


def _ref(item: Item) -> str:
    return json.dumps([item.kind, item.service, item.name])


def _time(ns: int) -> str:
    return datetime.fromtimestamp(ns // 1_000_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
