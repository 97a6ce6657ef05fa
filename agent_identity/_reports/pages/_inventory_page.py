"""The page of an inventory."""

from collections.abc import Iterator, Sequence

from agent_identity._reports.answers.inventory_report import KINDS, Inventory, Item
from agent_identity._reports.pages._layout import (
    Body,
    Section,
    badge,
    proof_badge,
    seen_cell,
    spaced,
    states_found,
    states_notable,
    table,
)
from agent_identity._reports.pages._markup import Content, Markup, joined, names
from agent_identity._reports.pages.words import DIFFERENCES, KIND_NAMES, by_state
from agent_identity._verify.report.plurals import counted

_TONES = {"registered": "good", "observed": "good"}


def inventory_body(found: Inventory) -> Body:
    """Return the content of the page."""
    codes: dict[tuple[str, str | None, str], list[str]] = {}
    for one in found.differences:
        codes.setdefault((one.kind, one.service, one.name), []).append(one.code)
    numbers = {kind: sum(item.kind == kind for item in found.items) for kind in KINDS}
    parts = [counted(numbers[kind], kind) for kind in ("agent", "tool", "server") if numbers[kind]]
    named = ((one.code, f"{one.kind} {_named(one.service, one.name)}") for one in found.differences)
    states = list(by_state(DIFFERENCES, named))
    differences = states_found(states, "No differences.")
    noteworthy = counted(len(found.differences), "difference")
    return Body(
        name="inventory",
        title="Inventory",
        headline=f"{', '.join(parts) or 'Nothing found'}; {noteworthy}.",
        frame=found.frame,
        figures=[(KIND_NAMES[kind], numbers[kind]) for kind in KINDS if numbers[kind]]
        + [("differences", len(found.differences))],
        sections=[
            Section("differences", "Differences", differences),
            *_items(found, codes),
        ],
        notable=list(states_notable(states)),
    )


def _items(found: Inventory, codes: dict[tuple[str, str | None, str], list[str]]) -> Iterator[Section]:
    for kind in KINDS:
        items = [item for item in found.items if item.kind == kind]
        if not items:
            continue
        title = KIND_NAMES[kind]
        owners = ["Owner"] if kind == "agent" else []
        columns = ["Name", *owners, "Status", "Weight", "Calls", "Refused", "Spans", "Seen", "More"]
        rows = table(title, columns, items, lambda item: _row(item, codes))
        yield Section(f"kind-{kind}", title[0].upper() + title[1:], rows)


def _row(item: Item, codes: dict[tuple[str, str | None, str], list[str]]) -> Sequence[Content]:
    owner: list[Content] = [names(item.owners, 2) or "none"] if item.kind == "agent" else []
    statuses = [badge(status, _TONES.get(status, "note")) for status in item.statuses]
    notes = [
        badge(*DIFFERENCES[code]) for code in codes.get((item.kind, item.service, item.name), ()) if code in DIFFERENCES
    ]
    return (
        _named(item.service, item.name),
        *owner,
        spaced([*statuses, *notes]),
        proof_badge(item.proof),
        item.calls,
        item.refused,
        item.spans,
        seen_cell(item.first_ns, item.last_ns),
        joined(_more(item), "<br>"),
    )


def _more(item: Item) -> Iterator[Markup]:
    if item.versions:
        yield joined([f"{counted(len(item.versions), 'version')}: ", names(item.versions)])
    for name, values in item.details.items():
        yield joined([f"{name}: ", names(values)])


def _named(service: str | None, name: str) -> str:
    return name if service is None else f"{name} ({service})"
