"""The copy of a record on a span: complete, never empty, and compared by meaning."""

import json
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from agent_identity._identity.common.record_bytes import encode_record
from agent_identity._spans.span_attributes import (
    MIRRORED,
    FieldCheck,
    compare,
    deviations,
    mirrored_attributes,
    verdict_on,
)
from agent_identity.records import AnyRecord, decode

HASH = "ASNFZ4mrze8BI0VniavN7wEjRWeJq83vASNFZ4mrze8"
OTHER = "_ty6mHZUMhD-3LqYdlQyEP7cuph2VDIQ_ty6mHZUMhA"
ID, STREAM, APPROVAL = "AZV6P04jewGp0QAAAAAAoQ", "AZV6P04jewGp0QAAAAAAoA", "AZV6P04jewGp0QAAAAAAog"
MEMBERS: dict[str, Any] = {
    "v": "1",
    "id": ID,
    "kind": "outcome",
    "stream": {"id": STREAM, "seq": "12", "prev": HASH},
    "time": {"start": "1764000000000000000"},
    "task": {"id": "task-1"},
    "principal": {"id": "alice", "kind": "human", "issuer": "https://idp.example.com", "provenance": "asserted"},
    "agent": {"id": "billing", "owner": "team:payments", "version": "1.2"},
    "chain": [{"id": "orchestrator", "grant": OTHER}, {"id": "billing", "grant": HASH}],
    "action": {
        "tool": "pay_invoice",
        "kind": "mcp",
        "call": "call_1",
        "args": f"s{HASH}",
        "result": OTHER,
        "route": "approval-desk",
    },
    "decision": {
        "effect": "route",
        "enforced": "escalate",
        "mode": "enforce",
        "reason": "policy_routes",
        "rule": "limit",
        "digest": HASH,
        "approval": APPROVAL,
    },
    "findings": ["api_key", "email"],
    "outcome": "error",
    "error": "TimeoutError",
}
EXPECTED: dict[str, str | tuple[str, ...]] = {
    "agent_identity.schema_version": "1",
    "agent_identity.record.id": ID,
    "agent_identity.record.kind": "outcome",
    "agent_identity.stream.id": STREAM,
    "agent_identity.stream.seq": "12",
    "agent_identity.principal.id": "alice",
    "agent_identity.principal.type": "human",
    "agent_identity.principal.issuer": "https://idp.example.com",
    "agent_identity.agent.id": "billing",
    "agent_identity.agent.owner": "team:payments",
    "agent_identity.agent.version": "1.2",
    "agent_identity.delegation.chain": ("alice", "orchestrator", "billing"),
    "agent_identity.delegation.task_id": "task-1",
    "agent_identity.delegation.token_hash": HASH,
    "agent_identity.decision.effect": "route",
    "agent_identity.decision.enforced": "escalate",
    "agent_identity.decision.mode": "enforce",
    "agent_identity.decision.reason": "policy_routes",
    "agent_identity.decision.route_target": "approval-desk",
    "agent_identity.approval.id": APPROVAL,
    "agent_identity.policy.digest": HASH,
    "agent_identity.policy.rule_id": "limit",
    "agent_identity.inspection.categories": ("api_key", "email"),
    "agent_identity.tool.kind": "mcp",
    "agent_identity.content.args_hash": f"s{HASH}",
    "agent_identity.content.result_hash": OTHER,
    "agent_identity.outcome": "error",
    "gen_ai.tool.name": "pay_invoice",
    "gen_ai.tool.call.id": "call_1",
    "gen_ai.agent.name": "billing",
    "user.id": "alice",
    "error.type": "TimeoutError",
}
INTENT: dict[str, Any] = {
    **{name: member for name, member in MEMBERS.items() if name not in ("outcome", "error")},
    "kind": "intent",
    "task": {"id": "task-1", "expires": "1764000900000000000"},
    "decision": {**MEMBERS["decision"], "policy": "invoices", "version": "3"},
}
OF_INTENT = {
    "agent_identity.delegation.expires_at": "2025-11-24T16:15:00Z",
    "agent_identity.policy.name": "invoices",
    "agent_identity.policy.version": "3",
}
"""What only the span of a call without an outcome shows."""
OF_TASK = ("task", "principal", "agent", "chain")
OPTIONAL = ("findings", "error", "principal.issuer", "agent.version", "decision.rule")
OPTIONAL += (
    "decision.digest",
    "action.call",
    "action.args",
    "action.result",
    "action.route",
    "attribution",
)


def made(**members: Any) -> AnyRecord:
    """Return the record that says everything, with other members; ``None`` takes one out."""
    whole = {**MEMBERS, **members}
    return decode(encode_record({name: value for name, value in whole.items() if value is not None}))


def without(absent: set[str]) -> AnyRecord:
    """Return the record that says everything but some facts; ``attribution`` stands for all of its task."""
    members = json.loads(json.dumps(MEMBERS))
    for name in absent:
        section, _, member = name.rpartition(".")
        (members[section] if section else members).pop(member, None)
    if "attribution" in absent:
        members = {name: value for name, value in members.items() if name not in OF_TASK} | {"attribution": "none"}
    return decode(encode_record(members))


RECORD = made()
MARKS = ["[Scrubbed due to 'auth']", "****", "***", "[REDACTED]", "[Redacted]", "<redacted>", "[Filtered]"]
plain = st.text("abc:/ .")
attribute_names = st.sampled_from(sorted(EXPECTED))


def verdict(attribute: str, found: object, record: AnyRecord = RECORD) -> str:
    """The verdict on one attribute of a span that is otherwise as it was made."""
    checks = compare(record, {**mirrored_attributes(record), attribute: found})
    others = {check.verdict for check in checks if check.attribute != attribute}
    assert others <= {"match"}
    return next(check.verdict for check in checks if check.attribute == attribute)


def test_every_attribute_has_its_place_in_the_record() -> None:
    """Records that say everything fill every attribute of the table."""
    assert mirrored_attributes(RECORD) == EXPECTED
    unended = {"agent_identity.record.kind": "intent", "agent_identity.outcome": "unknown", "error.type": "unknown"}
    assert mirrored_attributes(decode(encode_record(INTENT))) == {**EXPECTED, **OF_INTENT, **unended}
    assert MIRRORED.keys() == EXPECTED.keys() | OF_INTENT.keys() | {"gen_ai.agent.version"}  # Spans of tasks have this.


def test_names_avoid_words_that_scrubbers_remove() -> None:
    """No name of ours holds a word that common scrubbers react to."""
    for name in MIRRORED:
        assert not any(word in name for word in ("auth", "session", "secret", "credential", "password", "cookie"))


@given(st.sets(st.sampled_from(OPTIONAL)))
def test_unknown_facts_are_left_out_and_nothing_is_empty(absent: set[str]) -> None:
    """Whatever a record does not say, the span does not carry: no empty string, no empty array."""
    record = without(absent)
    attributes = mirrored_attributes(record)
    for name, value in attributes.items():
        assert value == ("error" if name == "error.type" and "error" in absent else EXPECTED[name])
        assert value != ""
        assert isinstance(value, str) or (value and all(type(item) is str and item for item in value))
    assert ("agent_identity.principal.id" in attributes) is ("attribution" not in absent)
    assert "error.type" in attributes  # Without a class, it is the outcome.
    assert all(check.verdict == "match" for check in compare(record, attributes))


def test_a_service_is_no_user() -> None:
    """Only a human is mirrored as the user."""
    record = made(principal={"id": "batch", "kind": "service", "provenance": "asserted"})
    assert "user.id" not in mirrored_attributes(record)
    assert mirrored_attributes(record)["agent_identity.principal.type"] == "service"


def test_a_policy_record_names_the_policy() -> None:
    """The record of a loaded policy fills the policy attributes."""
    head = {name: MEMBERS[name] for name in ("v", "id", "stream", "time")}
    policy = {"name": "invoices", "version": "3", "digest": HASH, "engine": "rules"}
    record = decode(encode_record({**head, "kind": "policy", "policy": policy}))
    assert mirrored_attributes(record) == {
        **{name: EXPECTED[name] for name in ("agent_identity.schema_version", "agent_identity.record.id")},
        **{name: EXPECTED[name] for name in ("agent_identity.stream.id", "agent_identity.stream.seq")},
        "agent_identity.record.kind": "policy",
        "agent_identity.policy.name": "invoices",
        "agent_identity.policy.version": "3",
        "agent_identity.policy.digest": HASH,
    }


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        ("0", "1970-01-01T00:00:00Z"),
        ("1764000900500000000", "2025-11-24T16:15:00.5Z"),
        ("1764000900000000001", "2025-11-24T16:15:00.000000001Z"),
        ("9" * 19, "2286-11-20T17:46:39.999999999Z"),
    ],
)
def test_expiry_is_rfc_3339(nanoseconds: str, text: str) -> None:
    """The expiry reads as a time in UTC with no digit lost."""
    record = decode(encode_record({**INTENT, "task": {"id": "t", "expires": nanoseconds}}))
    assert mirrored_attributes(record)["agent_identity.delegation.expires_at"] == text


def test_an_unchanged_span_matches() -> None:
    """The checks come in the order of the table, with the signed values."""
    assert compare(RECORD, {**EXPECTED, "more": "attributes"}) == tuple(
        FieldCheck(name, "match", value) for name, value in EXPECTED.items()
    )


@given(attribute_names, st.sampled_from([None, ""]), st.booleans())
def test_removed_attributes_are_missing(name: str, nothing: object, absent: bool) -> None:
    """What is gone, or emptied, is missing and not changed."""
    attributes: dict[str, object] = {**EXPECTED, name: nothing}
    if absent:
        del attributes[name]
    checks = {check.attribute: check.verdict for check in compare(RECORD, attributes)}
    assert checks.pop(name) == "missing"
    assert set(checks.values()) == {"match"}


@given(attribute_names, st.sampled_from([*MARKS, "REDACTED"]))
@example("agent_identity.delegation.chain", "****")
def test_scrubbed_attributes_are_redacted(name: str, mark: str) -> None:
    """A known mark in place of the value is redaction, not contradiction."""
    assert verdict(name, mark) == "redacted"


@given(
    attribute_names,
    st.text(min_size=1) | st.integers() | st.booleans() | st.binary() | st.floats() | st.lists(st.text()),
)
def test_other_values_are_changed(name: str, found: object) -> None:
    """Any other value is a contradiction, whatever its type."""
    assume(found != EXPECTED[name] and str(found) != EXPECTED[name] and found != list(EXPECTED[name]))
    assume(not (isinstance(found, str) and ("***" in found or "redacted" in found.lower())))
    assert verdict(name, found) == "changed"


@given(plain, plain, plain, st.sampled_from(MARKS))
def test_partly_masked_text_is_redacted(before: str, hidden: str, after: str, mark: str) -> None:
    """Where a scrubber masked a part, the rest must be what was signed."""
    assume(before + hidden + after)
    signed = before + hidden + after
    assert verdict_on(signed, f"{before}{mark}{after}") == "redacted"
    assert verdict_on(signed, f"{before}{mark}{after}!") == "changed"


@pytest.mark.parametrize(
    "found",
    [
        "bob****",
        "****bob",
        "al****bob",
        "alice****e",
        "****a****a****",
        "ali****lice",
        "[Scrubbed",
        "** **",
        "UNREDACTEDX",
    ],
)
def test_a_mask_does_not_cover_other_text(found: str) -> None:
    """Text around a mask that was not signed, or stands twice, is a change."""
    assert verdict("agent_identity.principal.id", found) == "changed"


@pytest.mark.parametrize("found", ["al****ce", "****", "a***e", "[REDACTED]ce", "al***c***", "alice****", "****l****e"])
def test_a_mask_covers_what_it_hides(found: str) -> None:
    """Text around a mask that was signed, in its order, is redaction."""
    assert verdict("agent_identity.principal.id", found) == "redacted"


@pytest.mark.parametrize(
    "found",
    [
        ["alice", "orchestrator", "billing"],
        ("alice", "orchestrator", "billing"),
        '["alice","orchestrator","billing"]',
        '[ "alice", "orchestrator",\n"billing" ]',
        '{"values":[{"stringValue":"alice"},{"stringValue":"orchestrator"},{"stringValue":"billing"}]}',
        '{"arrayValue":{"values":[{"stringValue":"alice"},{"stringValue":"orchestrator"},{"stringValue":"billing"}]}}',
        [{"stringValue": "alice"}, {"stringValue": "orchestrator"}, {"stringValue": "billing"}],
    ],
)
def test_arrays_come_back_in_many_forms(found: object) -> None:
    """A list, a tuple, JSON text and the OTLP form of an array all mean the same."""
    assert verdict("agent_identity.delegation.chain", found) == "match"


@pytest.mark.parametrize(
    "found",
    [
        ["alice", "billing"],
        ["orchestrator", "alice", "billing"],
        ["alice", "orchestrator", "billing", "billing"],
        ["alice", "orchestrator", 1],
        ["alice", "orchestrator", None],
        ["****", "orchestrator", "other"],
        "alice,orchestrator,billing",
        "[",
        "[" * 100_000,
        "{}",
        "1",
        '"alice"',
        {"arrayValue": "x"},
        [{"intValue": "1"}, {}, {}],
        '["alice"' + ', "x"' * 400_000 + "]",
        3,
    ],
)
def test_another_chain_is_changed(found: object) -> None:
    """A chain with a link more, less, elsewhere or of another type is a contradiction."""
    assert verdict("agent_identity.delegation.chain", found) == "changed"


@pytest.mark.parametrize("found", [["****", "orchestrator", "billing"], '["[REDACTED]", "orchestrator", "billing"]'])
def test_a_chain_with_a_masked_link_is_redacted(found: object) -> None:
    """One masked link leaves the others to be compared."""
    assert verdict("agent_identity.delegation.chain", found) == "redacted"


def test_digits_may_come_back_as_a_number() -> None:
    """A store that reads digits as an integer keeps their meaning; other numbers change it."""
    assert verdict("agent_identity.stream.seq", 12) == "match"
    assert verdict("agent_identity.stream.seq", 13) == "changed"
    assert verdict("agent_identity.stream.seq", 12.0) == "changed"
    assert verdict("agent_identity.schema_version", True) == "changed"
    assert verdict("agent_identity.stream.seq", 10**5000) == "changed"
    padded = made(action={**MEMBERS["action"], "call": "007"})
    assert verdict("gen_ai.tool.call.id", 7, padded) == "changed"


@pytest.mark.parametrize("word", ["true", "false"])
def test_a_word_of_json_may_come_back_as_a_boolean(word: str) -> None:
    """A store that reads such a word as a boolean keeps its meaning; the other boolean changes it."""
    record = made(agent={**MEMBERS["agent"], "version": word})
    assert verdict("agent_identity.agent.version", word == "true", record) == "match"
    assert verdict("agent_identity.agent.version", word != "true", record) == "changed"
    record = made(agent={**MEMBERS["agent"], "version": "True"})
    assert verdict("agent_identity.agent.version", True, record) == "changed"


def test_claims_beyond_the_record_are_changed() -> None:
    """A span that claims what the record does not say contradicts it, unless others may set the attribute."""
    principal = {"id": "alice", "kind": "service", "provenance": "asserted"}
    record = made(findings=None, outcome="success", error=None, principal=principal)
    attributes = mirrored_attributes(record)
    more = {"agent_identity.principal.issuer": "https://forged.example", "agent_identity.inspection.categories": ["x"]}
    foreign = {"user.id": "someone", "error.type": "Other"}
    checks = [check for check in compare(record, {**attributes, **more, **foreign}) if check.verdict != "match"]
    changed = [FieldCheck(name, "changed", None) for name in more]
    assert checks == [*changed, *[FieldCheck(name, "unsigned", None) for name in foreign]]
    blank = {"agent_identity.principal.issuer": "****", "agent_identity.inspection.categories": ""}
    assert all(check.verdict == "match" for check in compare(record, {**attributes, **blank}))


@given(
    st.dictionaries(
        attribute_names, st.recursive(st.none() | st.text() | st.integers() | st.floats() | st.binary(), st.lists)
    )
)
def test_comparing_never_fails(attributes: dict[str, object]) -> None:
    """Whatever a store made of a span, each signed attribute gets a verdict."""
    checks = compare(RECORD, attributes)
    assert [check.attribute for check in checks] == list(EXPECTED)


def test_huge_values_are_judged_fast() -> None:
    """Millions of marks in an attribute cost no time worth speaking of."""
    for found in ("***a" * 1_000_000, "[Scrubbed due to " * 200_000, "[" * 3_000_000, "*" * 3_000_000 + "x"):
        assert verdict("agent_identity.principal.id", found) == "changed"


def test_values_survive_json() -> None:
    """Through JSON and back, the span still matches."""
    assert {check.verdict for check in compare(RECORD, json.loads(json.dumps(EXPECTED)))} == {"match"}


@given(
    st.sets(st.sampled_from(OPTIONAL)),
    st.dictionaries(
        attribute_names, st.none() | st.integers() | st.sampled_from(MARKS) | plain | st.lists(plain, max_size=3)
    ),
)
def test_deviations_are_what_does_not_match(absent: set[str], found: dict[str, Any]) -> None:
    """The quick comparison leaves out what matches and nothing else, in the same order."""
    record = without(absent)
    attributes = {**EXPECTED, **found}
    expected = tuple(check for check in compare(record, attributes) if check.verdict != "match")
    signed = len(mirrored_attributes(record))
    assert deviations(record, attributes) == (signed, expected)
    listed = json.loads(json.dumps(attributes))
    assert deviations(record, listed) == (signed, expected)


@pytest.mark.parametrize(
    ("signed", "found", "expected"),
    [
        ("alice", "****al****", "redacted"),
        ("xaya", "***a***y***", "redacted"),
        ("abcab", "***ca***b***", "redacted"),
        ("abcab", "***ca***b***a***", "changed"),
        ("abcab", "***b***b***b***", "changed"),
    ],
)
def test_parts_between_masks_stand_in_their_order(signed: str, found: str, expected: str) -> None:
    """Each part is looked for behind the one before it, and the first place where it stands will do."""
    assert verdict_on(signed, found) == expected


@pytest.mark.parametrize(
    ("length", "masked", "array"), [(1_048_576, "redacted", "match"), (1_048_577, *["changed"] * 2)]
)
def test_the_longest_value_that_is_looked_into(length: int, masked: str, array: str) -> None:
    """A mask in a text of 1 MiB is seen, and so is an array in its JSON; beyond that, nothing is searched."""
    rest = "x" * (length - 3)
    assert verdict_on(rest, f"***{rest}") == masked
    text = json.dumps(EXPECTED["agent_identity.delegation.chain"]).ljust(length)
    assert verdict("agent_identity.delegation.chain", text) == array
