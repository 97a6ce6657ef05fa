"""Spans pasted from any back end: found in whatever shape it shows them, and judged by what it shows."""

import base64
import io
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_identity import Report, Verifier
from agent_identity._identity.common.record_bytes import encode_record
from agent_identity._record.codec import decode
from agent_identity._spans import pasted_spans as pasted
from agent_identity._spans.displayed_values import likeness
from agent_identity._spans.otlp_json import Malformed
from agent_identity._spans.pasted_spans import MAX_PASTED, PastedSpan, read_pasted
from agent_identity._spans.span_from_record import span_ids
from agent_identity._verify.spans import spans_check
from agent_identity.errors import ConfigurationError

VECTORS = Path(__file__).resolve().parents[3] / "vectors"
TRUST = VECTORS / "evidence/trust.json"
SPANS = [
    span
    for line in (VECTORS / "spans.jsonl").read_text("utf-8").splitlines()
    for resource in json.loads(line)["resourceSpans"]
    for scope in resource["scopeSpans"]
    for span in scope["spans"]
]
SPAN = next(span for span in SPANS if span["name"] == "execute_tool find_vendor")
TRACE, OWN = SPAN["traceId"], SPAN["spanId"]


def plain(value: dict[str, Any]) -> Any:
    return [plain(item) for item in value["arrayValue"]["values"]] if "arrayValue" in value else value["stringValue"]


FLAT: dict[str, Any] = {pair["key"]: plain(pair["value"]) for pair in SPAN["attributes"]}


DEEP = b"[" * 1_000 + b"]" * 1_000


def nested(flat: dict[str, Any]) -> dict[str, Any]:
    """Return attributes as objects in each other."""
    root: dict[str, Any] = {}
    for name, value in flat.items():
        *path, last = name.split(".")
        inner = root
        for part in path:
            inner = inner.setdefault(part, {})
        inner[last] = value
    return root


def numbered(flat: dict[str, Any]) -> dict[str, Any]:
    """Return attributes whose arrays have become members with numbers."""
    pairs = (
        (f"{name}.{i}", item) for name, value in flat.items() if type(value) is list for i, item in enumerate(value)
    )
    return {name: value for name, value in flat.items() if type(value) is not list} | dict(pairs)


def encoded(number: str) -> str:
    return base64.b64encode(bytes.fromhex(number)).decode()


def texts(flat: dict[str, Any]) -> dict[str, str]:
    """Return attributes with each value as JSON in a text."""
    return {name: json.dumps(value) for name, value in flat.items()}


def strings(flat: dict[str, Any]) -> dict[str, str]:
    """Return attributes with arrays as JSON in a text, strings as they are."""
    return {name: value if type(value) is str else json.dumps(value) for name, value in flat.items()}


def typed(flat: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"key": name, "type": "string", "value": value} for name, value in strings(flat).items()]


def moment(time: str) -> str:
    """Return a time as ClickHouse shows it."""
    seconds, nanoseconds = divmod(int(time), 10**9)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}.{nanoseconds:09d}"


NULLS = {"string_value": None, "int_value": None, "array_value": None, "bytes_value": None}
SHAPES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "a span of OTLP/JSON": lambda flat: SPAN,
    "a document of OTLP/JSON": lambda flat: {"resourceSpans": [{"scopeSpans": [{"spans": [SPAN]}]}]},
    "Phoenix, REST": lambda flat: {
        "data": [{"id": "U3BhbjoxMjM0NQ==", "context": {"trace_id": TRACE, "span_id": OWN}, "attributes": flat}]
    },
    "Phoenix, OTLP": lambda flat: {
        "data": [
            {
                "trace_id": TRACE,
                "span_id": OWN,
                "parent_span_id": "0" * 15 + "1",
                "attributes": [{"key": k, "value": {**NULLS, "string_value": v}} for k, v in strings(flat).items()],
            }
        ]
    },
    "Phoenix, database": lambda flat: [
        {"id": 1, "trace_rowid": 1, "trace_id": TRACE, "span_id": OWN, "attributes": json.dumps(nested(flat))}
    ],
    "Phoenix, data frame": lambda flat: {
        "context.trace_id": TRACE,
        "context.span_id": OWN,
        **{f"attributes.{name}": value for name, value in flat.items()},
    },
    "MLflow, API": lambda flat: {
        "info": {"trace_id": f"tr-{TRACE}"},
        "data": {"spans": [{"trace_id": encoded(TRACE), "span_id": encoded(OWN), "attributes": texts(flat)}]},
    },
    "MLflow, database": lambda flat: {
        "trace_id": f"tr-{TRACE}",
        "span_id": OWN,
        "content": json.dumps({"trace_id": encoded(TRACE), "span_id": encoded(OWN), "attributes": texts(flat)}),
    },
    "Langfuse": lambda flat: {
        "id": OWN,
        "traceId": TRACE,
        "parentObservationId": "0" * 15 + "1",
        "metadata": {"attributes": strings(flat), "scope": {"name": "agent_identity"}},
    },
    "Langfuse, metadata as text": lambda flat: {
        "id": OWN,
        "traceId": TRACE,
        "metadata": json.dumps({"attributes": json.dumps(strings(flat))}),
    },
    "Logfire": lambda flat: [{"trace_id": TRACE, "span_id": OWN, "parent_span_id": None, "attributes": flat}],
    "Logfire, attributes as text": lambda flat: [{"trace_id": TRACE, "span_id": OWN, "attributes": json.dumps(flat)}],
    "Jaeger": lambda flat: {
        "data": [
            {
                "traceID": TRACE,
                "spans": [
                    {
                        "traceID": TRACE.lstrip("0"),
                        "spanID": OWN.lstrip("0"),
                        "references": [{"refType": "CHILD_OF", "traceID": TRACE, "spanID": "1"}],
                        "tags": typed(flat),
                        "process": {"tags": [{"key": "hostname", "type": "string", "value": "x"}]},
                    }
                ],
            }
        ]
    },
    "Zipkin": lambda flat: [[{"traceId": TRACE, "id": OWN, "parentId": "1" * 16, "tags": strings(flat)}]],
    "Tempo": lambda flat: {
        "batches": [
            {
                "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "x"}}]},
                "scopeSpans": [{"spans": [{**SPAN, "traceId": encoded(TRACE), "spanId": encoded(OWN)}]}],
            }
        ]
    },
    "Grafana": lambda flat: {
        "traceID": TRACE,
        "spanID": OWN,
        "tags": [{"key": k, "value": v} for k, v in flat.items()],
    },
    "ClickHouse": lambda flat: {
        "Timestamp": moment(SPAN["startTimeUnixNano"]),
        "TraceId": TRACE,
        "SpanId": OWN,
        "ParentSpanId": "",
        "ResourceAttributes": {"service.name": "x"},
        "SpanAttributes": {
            name: value if type(value) is str else json.dumps({"values": [{"stringValue": item} for item in value]})
            for name, value in flat.items()
        },
    },
    "the SDK of Go": lambda flat: {
        "SpanContext": {"TraceID": TRACE, "SpanID": OWN},
        "Parent": {"TraceID": TRACE, "SpanID": "1" * 16},
        "Attributes": [
            {"Key": name, "Value": {"Type": "STRING" if type(value) is str else "STRINGSLICE", "Value": value}}
            for name, value in flat.items()
        ],
    },
    "the console exporter of Python": lambda flat: {
        "name": SPAN["name"],
        "context": {"trace_id": f"0x{TRACE}", "span_id": f"0x{OWN}", "trace_state": "[]"},
        "parent_id": "0x" + "1" * 16,
        "attributes": flat,
    },
    "Elastic": lambda flat: {
        "_source": {"trace": {"id": TRACE}, "span": {"id": OWN}, "parent": {"id": "1"}, "attributes": nested(flat)}
    },
    "Elastic, flat": lambda flat: {"trace.id": TRACE, "span.id": OWN, "labels": flat},
    "a flat map with decimal ids": lambda flat: {
        "trace_id": str(int(TRACE, 16)),
        "span_id": str(int(OWN, 16)),
        **numbered(flat),
    },
    "a flat map with ids as numbers": lambda flat: {"span_id": int(OWN, 16), "trace_id": TRACE, **numbered(flat)},
    "half nested": lambda flat: {
        "traceId": TRACE,
        "spanId": OWN,
        "attributes": {
            **{k: v for k, v in flat.items() if "tool" in k},
            **nested({k: flat[k] for k in flat if "tool" not in k}),
        },
    },
    "an id of UUID form": lambda flat: {
        "traceId": f"{TRACE[:8]}-{TRACE[8:12]}-{TRACE[12:16]}-{TRACE[16:20]}-{TRACE[20:]}",
        "spanId": encoded(OWN).rstrip("="),
        "attributes": flat,
    },
}


def judge(value: object, **options: Any) -> Report:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return Verifier(TRUST).pasted(io.BytesIO(data), **options)


def codes(report: Report) -> set[str]:
    return {problem.code for problem in report.findings} - {"chain_not_checked"}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_span_verifies_in_every_shape(shape: str) -> None:
    """Attributes and ids are found wherever a back end puts them, and each copy agrees with the record."""
    report = judge(SHAPES[shape](FLAT))
    assert (report.verdict, codes(report)) == ("verified", set())
    assert (report.counts["spans"], report.counts["verified"]) == (1, 1)
    assert [step.status for step in report.steps[:5]] == ["passed"] * 5
    number = report.steps[4].detail.removeprefix("1 record; ").split()[0]
    assert report.steps[4].detail == f"1 record; {number} of {number} attributes compared, 0 missing or blanked"


@pytest.mark.parametrize("shape", [name for name in SHAPES if "OTLP/JSON" not in name and name != "Tempo"])
def test_ac_93_a_forged_copy_is_found_in_every_shape(shape: str) -> None:
    """Whatever the shape, a copy that differs from the record contradicts it, and so does one that was added."""
    for forged in ({"agent_identity.principal.id": "mallory"}, {"agent_identity.approved": "yes"}):
        report = judge(SHAPES[shape]({**FLAT, **forged}))
        assert report.verdict == "contradicted"
        assert codes(report) <= {"field_changed", "field_added"}
    signature = "agent_identity.attestation.signature"
    swapped = {**FLAT, signature: FLAT[signature][-2::-1] + FLAT[signature][-1]}
    assert codes(judge(SHAPES[shape](swapped))) == {"bad_signature"}


@pytest.mark.parametrize("shape", [name for name in SHAPES if "OTLP/JSON" not in name])
def test_a_record_on_another_span_is_found_in_every_shape(shape: str) -> None:
    """A span that shows another id does not own the record, in whichever spelling the id is."""
    text = json.dumps(SHAPES[shape](FLAT))
    other = f"{int(OWN, 16) + 1:016x}"
    spellings = {
        OWN: other,
        encoded(OWN): encoded(other),
        encoded(OWN).rstrip("="): encoded(other).rstrip("="),
        str(int(OWN, 16)): str(int(other, 16)),
    }
    for shown, wrong in spellings.items():
        text = text.replace(shown, wrong)
    report = judge(text.encode())
    assert (report.verdict, codes(report)) == ("contradicted", {"wrong_span"})
    assert report.counts["verified"] == 0


def test_no_more_is_read_than_may_be_pasted() -> None:
    """A source that never ends its line is not held as a whole."""
    asked: list[int] = []

    class Endless(io.RawIOBase):
        def read(self, size: int | None = -1, /) -> bytes:
            asked.append(-1 if size is None else size)
            return b" " * min(asked[-1], 100_000)

    report = Verifier(TRUST).pasted(Endless())
    taken = sum(min(size, 100_000) for size in asked)
    assert (report.exit_code, 0 < taken - MAX_PASTED <= 256 * 1024) == (2, True)
    assert all(0 < size <= MAX_PASTED + 1 for size in asked)


def test_a_text_of_the_largest_size_is_judged_and_a_larger_one_is_not_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """What would follow behind the limit may contradict what stands before it."""
    text = json.dumps(SPAN).encode() + b"\n"
    for module in (pasted, spans_check):
        monkeypatch.setattr(module, "MAX_PASTED", len(text))
    assert judge(text).verdict == "verified"
    (problem,) = [found for found in judge(text + b"x").findings if found.line]
    assert (problem.code, "the text is longer than" in problem.message) == ("malformed_document", True)


def test_a_chain_whose_grants_are_not_all_there_is_not_checked() -> None:
    """One span of a task carries the last grant, and the report says that the others are missing."""
    (problem,) = [found for found in judge(SPAN).findings if found.code == "chain_not_checked"]
    assert problem.message == "the chain was not checked: not all its grants are in the file"


def test_lines_that_are_no_span_are_named_each() -> None:
    """The spans behind them are verified, and they are counted."""
    report = judge(b"x\n" + json.dumps(SPAN).encode() + b"\ny\n")
    assert [found.line for found in report.findings if found.code == "malformed_document"] == [1, 3]
    assert (report.counts["malformed"], report.counts["spans"], report.counts["verified"]) == (2, 1, 1)


def test_ids_that_are_not_shown_are_not_checked() -> None:
    """Attributes alone prove a genuine record, and nothing about the span: that is no pass."""
    report = judge(FLAT)
    assert (report.verdict, report.exit_code, codes(report)) == ("cannot_tell", 2, {"span_not_named"})
    assert (report.counts["verified"], report.counts["unnamed"]) == (0, 1)
    assert [step.status for step in report.steps[:5]] == ["passed", "passed", "passed", "not_checked", "passed"]
    for shown, lacks in (
        ({}, {"trace", "span"}),
        ({"traceId": TRACE}, {"span"}),
        ({"spanId": OWN}, {"trace"}),
        ({"traceId": TRACE, "spanId": "row five"}, {"span"}),
        ({"id": 7, "trace_id": TRACE}, {"span"}),
    ):
        report = judge({**shown, "attributes": FLAT})
        assert (report.verdict, codes(report)) == ("cannot_tell", {"span_not_named"})
        words = "the {} id of the span is missing beside its attributes; copy the whole span"
        found = {(found.message, found.record) for found in report.findings if found.code == "span_not_named"}
        assert found == {(words.format(name), FLAT["agent_identity.record.id"]) for name in lacks}
        assert (report.counts["verified"], report.counts["unnamed"]) == (0, 1)


def test_a_trace_id_of_64_bits_is_enough_and_said() -> None:
    """Some back ends keep the lower half of a trace id; it has to be the signed one."""
    low = TRACE[16:]
    for shown in (low, str(int(low, 16)), int(low, 16)):
        report = judge({"trace_id": shown, "span_id": OWN, "meta": FLAT})
        assert (report.verdict, codes(report)) == ("verified", {"trace_id_cut"})
        words = "the trace id has only its lower 64 bits, which are those that are signed"
        assert (words, FLAT["agent_identity.record.id"]) in {(found.message, found.record) for found in report.findings}
    report = judge({"trace_id": f"{int(low, 16) + 1:016x}", "span_id": OWN, "meta": FLAT})
    assert codes(report) == {"wrong_span"}


def test_one_wrong_id_among_several_is_enough() -> None:
    """A back end that shows an id twice has to mean the same by both."""
    good = {"traceId": TRACE, "spanId": OWN, "context": {"span_id": OWN}, "attributes": FLAT}
    assert judge(good).verdict == "verified"
    good["context"] = {"span_id": "1" * 16}
    assert codes(judge(good)) == {"wrong_span"}


def test_what_is_missing_is_counted_and_named() -> None:
    """The report says how many copies could be compared; missing ones contradict nothing."""
    some = {name: value for name, value in FLAT.items() if name not in ("user.id", "agent_identity.agent.id")}
    report = judge({"traceId": TRACE, "spanId": OWN, "attributes": some})
    assert (report.verdict, codes(report)) == ("verified", {"copy_redacted"})
    assert "2 missing or blanked" in report.steps[4].detail
    assert "agent_identity.agent.id, user.id" in report.findings[0].message


def test_text_beside_values_that_are_json() -> None:
    """Where each value is JSON in a text, one that is none is taken as it is, and judged."""
    mixed = {**texts(FLAT), "agent_identity.agent.id": "no JSON"}
    assert codes(judge({"trace_id": TRACE, "span_id": OWN, "attributes": mixed})) == {"field_changed"}


def test_several_spans_in_one_text() -> None:
    """Each span of a whole trace is verified, by lines or in one document; one that came twice counts once."""
    lines = b"\n\n".join(json.dumps(span).encode() for span in SPANS)
    for text in (lines, b"\xef\xbb\xbf" + json.dumps(SPANS, indent=2).encode(), json.dumps({"a": SPANS}).encode()):
        report = judge(text)
        assert (report.verdict, report.counts["verified"]) == ("verified", len(SPANS))
        assert report.counts["spans"] == len(SPANS)
        assert report.completeness == "not_checked"
    report = judge([SPAN, SHAPES["Jaeger"](FLAT)])
    assert (report.verdict, report.counts["verified"], report.counts["duplicates"]) == ("verified", 1, 1)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (b"trace: 0af7", "neither JSON"),
        (b'{"a": 1}\nx', "neither JSON"),
        (b'{"a": 1, "a": 2}', "several times"),
        (b'{"s": "{\\"agent_identity.record.id\\": 1, \\"agent_identity.record.id\\": 2}"}', "several times"),
        (
            json.dumps([{"key": "agent_identity.record.id", "value": value} for value in (1, 2)]).encode(),
            "differ",
        ),
        (b'{"agent_identity": {"record": {"id": 1}}, "agent_identity.record.id": 2}', "differ"),
        (
            json.dumps(
                {"agent_identity.record.id": "1", **{f"agent_identity.delegation.chain.{i}": i for i in ("0", "00")}}
            ).encode(),
            "differ",
        ),
        (b'{"agent_identity.record.id": {"string_value": 5}}', "is not a string"),
        (b'{"x":' * 80 + b"{}" + b"}" * 80, "nested"),
        (b'{"agent_identity":' + b'{"x":' * 80 + b"{}" + b"}" * 81, "nested"),
        (b'{"agent_identity.record.id":%s}' % DEEP, "nested"),
        (b'{"agent_identity.record.id":%s,"agent_identity":{"record":{"id":%s}}}' % (DEEP, DEEP), "nested"),
        (b'[{"key":"agent_identity.record.id","value":%s},{"key":"x","value":%s}]' % (DEEP, DEEP), "nested"),
        (b'{"agent_identity.attestation.payload":"\\"e30\\"","agent_identity.record.id":"%s"}' % DEEP, "nested"),
    ],
)
def test_text_that_cannot_be_judged_is_named(text: bytes, what: str) -> None:
    """What is no JSON, says something twice, or is nested without end is malformed, and nothing is verified."""
    report = judge(text)
    assert report.verdict == "cannot_tell"
    (problem,) = [problem for problem in report.findings if problem.code == "malformed_document"]
    assert what in problem.message
    assert (report.counts["malformed"], report.steps[0].status) == (1, "failed")


@pytest.mark.parametrize(
    "value",
    [
        None, 5, "agent_identity", "{agent_identity", {}, [], [[]], {"agent_identity": {}}, {"agent_identity": 5},
        {"agent_identity": {"spans": []}}, [{"key": "agent_identity.record.id"}], [{"key": 5, "value": 1}],
        {"attributes": {"my.agent_identity_version": "1"}}, {"user.id": "alice"}, [{"key": "a", "value": {}}, 5],
    ],
)  # fmt: skip
def test_other_json_has_nothing_to_verify(value: object) -> None:
    """JSON without attributes that a span of ours has is no span, and no pass."""
    report = judge(value)
    assert (report.verdict, codes(report), report.counts["spans"]) == ("cannot_tell", {"nothing_to_verify"}, 0)


def test_a_span_below_a_name_like_ours_is_found() -> None:
    """A member that is called like our prefix may hold anything, other spans included."""
    assert judge({"agent_identity": {"found": [SPAN]}, "agent_identity.example": SPAN}).counts["verified"] == 1


def test_attributes_without_a_signature_are_forged() -> None:
    """Names of ours without the record that they copy were added or their record was removed."""
    report = judge({"traceId": TRACE, "spanId": OWN, "attributes": {"agent_identity.principal.id": "alice"}})
    assert (report.verdict, codes(report)) == ("contradicted", {"unsigned"})


def test_large_texts_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A text beyond the limit is not searched."""
    monkeypatch.setattr(pasted, "MAX_PASTED", 1_000)
    (item,) = read_pasted(b" " * 1_001)
    assert isinstance(item, Malformed)
    assert list(read_pasted(b" " * 1_000)) == []


def test_more_ids_than_any_back_end_shows_are_refused() -> None:
    """A span that is given many ids is not compared with each of them."""
    many = {f"trace{'_' * number}id": TRACE for number in range(17)}
    (problem,) = [p for p in judge({**many, "spanId": OWN, "attributes": FLAT}).findings if p.line]
    assert (problem.code, "more than 16 ids" in problem.message) == ("malformed_document", True)


def test_many_prefixes_cost_no_more_than_their_length() -> None:
    """A text made to be expensive, with a prefix for each member, is grouped in one pass."""
    text = json.dumps({f"p{number}.agent_identity.record.id": "1" for number in range(10_000)}).encode()
    assert sum(1 for _ in read_pasted(text)) == 10_000


def test_names_that_are_put_together_are_not_of_any_length() -> None:
    """A long name above many others is not written out for each of them; below one of ours it is refused."""
    many = {str(number): 1 for number in range(10_000)}
    long = "agent_identity." + "x" * 300
    (problem,) = [found for found in judge({long: many}).findings if found.line]
    assert (problem.code, "256 characters" in problem.message) == ("malformed_document", True)
    assert codes(judge({"agent_identity.example": {"x" * 300: {"y": 1}}})) >= {"malformed_document"}
    assert codes(judge({**SPAN, "attributes": {**FLAT, long: 1}})) == {"field_added"}
    other = {"gen_ai.x": {"y" * 300: many}}
    assert judge({**SPAN, "attributes": {**FLAT, **other}}).counts["verified"] == 1
    (item,) = read_pasted(json.dumps({"agent_identity.record.id": "1", **other}).encode())
    assert isinstance(item, PastedSpan)
    assert item.attributes.keys() == {"agent_identity.record.id"}


def test_a_directory_is_no_pasted_span(tmp_path: Path) -> None:
    """It is what pasted spans may be compared with."""
    with pytest.raises(ConfigurationError, match="no file of spans"):
        Verifier(TRUST).pasted(tmp_path)


def test_without_trust_nothing_is_claimed() -> None:
    """No keys, no verdict."""
    report = Verifier().pasted(io.BytesIO(json.dumps(SPAN).encode()))
    assert (report.verdict, report.trust, codes(report)) == ("cannot_tell", "none", {"no_trust"})


def test_a_text_that_cannot_be_read_to_its_end() -> None:
    """An error of the system is a finding, not an end."""

    class Broken:
        def readline(self, limit: int, /) -> bytes:
            raise OSError

    assert "unreadable" in codes(Verifier(TRUST).pasted(Broken()))


def test_a_record_of_no_span_belongs_to_the_one_that_is_made_of_it() -> None:
    """A record that was made without a span has the ids that follow from it, and belongs to no other span."""
    from agent_identity._verify.spans._span_facts import SpanFacts
    from agent_identity._verify.spans._span_reader import SpanReader

    (item,) = read_pasted(json.dumps(SPAN).encode())
    assert isinstance(item, PastedSpan)
    check = SpanReader(None, ())
    name = "AZq2l-gAcACAAAAAAAAACQ"
    stream = {"id": name, "seq": "2", "prev": "A" * 43}
    revocation = {"kind": "task", "name": "t", "status": "revoked", "version": "1"}
    members = {"v": "1", "id": name, "kind": "revocation", "stream": stream, "time": {"start": "1"}}
    record = decode(encode_record({**members, "revocation": revocation}))
    assert check._belongs(item, SpanFacts(), record) is False
    trace, span = span_ids(record)
    made = json.dumps({**SPAN, "traceId": trace, "spanId": span}).encode()
    (item,) = read_pasted(made)
    assert isinstance(item, PastedSpan)
    assert check._belongs(item, facts := SpanFacts(), record) is True
    assert facts.belongs is True


@pytest.mark.parametrize(
    ("shown", "signed", "expected"),
    [
        ("00f067aa0ba902b7", "00f067aa0ba902b7", "same"),
        ("F067AA0BA902B7", "00f067aa0ba902b7", "same"),
        ("0xf067aa0ba902b7", "00f067aa0ba902b7", "same"),
        (" 00f067aa0ba902b7\n", "00f067aa0ba902b7", "same"),
        ("APBnqgupArc=", "00f067aa0ba902b7", "same"),
        ("67667974448284343", "00f067aa0ba902b7", "same"),
        (67667974448284343, "00f067aa0ba902b7", "same"),
        (-1, "f" * 16, "same"),
        ("-1", "f" * 16, "same"),
        ("__________8=", "f" * 16, "same"),
        ("//////////8", "f" * 16, "same"),
        ("00f067aa0ba902b8", "00f067aa0ba902b7", "other"),
        ("f067aa0ba902b7", "0" * 15 + "100f067aa0ba902b7", "tail"),
        ("0" * 16 + "00f067aa0ba902b7", "00f067aa0ba902b7", "same"),
        ("", "00f067aa0ba902b7", "unknown"),
        ("span 5", "00f067aa0ba902b7", "unknown"),
        (1.2e19, "00f067aa0ba902b7", "unknown"),
        (True, "0" * 15 + "1", "unknown"),
        (None, "0" * 15 + "1", "unknown"),
        ("1" * 65, "1" * 16, "unknown"),
    ],
)
def test_spellings_of_ids(shown: object, signed: str, expected: str) -> None:
    """Each usual spelling is the id, another number is another one, and no number is unknown."""
    assert likeness(shown, signed) == expected


@given(st.integers(1, 2**64 - 1), st.integers(1, 2**64 - 1))
def test_every_spelling_of_an_id_is_that_id_only(number: int, other: int) -> None:
    """Hex, decimal and base64 of a number are this number, and of another one are not."""
    signed, data = f"{number:016x}", number.to_bytes(8, "big")
    for shown in (
        signed,
        f"0x{number:x}",
        number,
        base64.b64encode(data).decode(),
        base64.urlsafe_b64encode(data).decode(),
    ):
        assert likeness(shown, signed) == "same"
        if other != number and type(shown) is int:
            assert likeness(shown, f"{other:016x}") == "other"


NAMES = [
    *("key", "value", "type", "traceId", "spanId", "id", "context", "attributes", "stringValue", "record", "user"),
    *("agent_identity", "agent_identity.delegation.chain.0", "x.agent_identity.record.id", *sorted(FLAT)[:9]),
]
leaves = st.none() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)
documents = st.recursive(
    leaves | st.sampled_from([TRACE, OWN, json.dumps(FLAT)]),
    lambda item: st.lists(item, max_size=3) | st.dictionaries(st.sampled_from(NAMES), item, max_size=4),
)


@given(documents)
def test_any_json_ends_in_a_report(value: object) -> None:
    """No JSON, in whatever shape, raises."""
    assert judge(value).verdict in ("verified", "contradicted", "cannot_tell", "incomplete")


@given(st.data())
def test_a_changed_byte_never_verifies_what_was_not_signed(data: st.DataObject) -> None:
    """Flip any bit of a pasted span: the record is the signed one, or there is none."""
    shape = data.draw(st.sampled_from(sorted(SHAPES)))
    text = bytearray(json.dumps(SHAPES[shape](FLAT)).encode())
    text[data.draw(st.integers(0, len(text) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    report = judge(bytes(text))
    if report.verdict == "verified":
        assert report.counts["verified"] == 1
