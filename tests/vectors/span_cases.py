"""Spans of the golden traces: as they are, edited on their way, and re-signed by an insider with the recorder key."""

import base64
import hashlib
import json
from collections.abc import Callable
from typing import Any, Final

from case_form import Case, Cases
from insider import STRANGER, Content, canonical

from agent_identity._identity.common.encoding import b64url_decode, b64url_encode
from agent_identity._spans.envelope import sign_record
from agent_identity.identity import SigningKey

ISSUER: Final = SigningKey.from_seed(b"\x01" * 32)
RECORDER: Final = SigningKey.from_seed(b"\x02" * 32)
Span = dict[str, Any]
SPANS: Final = "spans.jsonl"
ALONE: Final = (SPANS, "--trust", "trust.json")
BESIDE: Final = (*ALONE, "--ledger", "evidence")
OURS: Final = "agent_identity."
OTHER: Final = "AZq2l-gAcACAAAAAAAAAZw"
ENVELOPE: Final = f"{OURS}attestation."


def value_of(span: Span, name: str) -> str:
    """Return the text of an attribute."""
    return next(str(one["value"]["stringValue"]) for one in span["attributes"] if one["key"] == name)


def put(name: str, value: object) -> Callable[[Span], None]:
    """Return an edit that gives an attribute another text, or none."""

    def edit(span: Span) -> None:
        span["attributes"] = [one for one in span["attributes"] if one["key"] != name]
        if value is not None:
            span["attributes"].append({"key": name, "value": {"stringValue": value}})

    return edit


def added(name: str, value: str) -> Callable[[Span], None]:
    """Return an edit that adds an attribute beside what is there."""
    return lambda span: span["attributes"].append({"key": name, "value": {"stringValue": value}})


def without(prefix: str) -> Callable[[Span], None]:
    """Return an edit that removes attributes."""

    def edit(span: Span) -> None:
        span["attributes"] = [one for one in span["attributes"] if not one["key"].startswith(prefix)]

    return edit


def resigned(change: Callable[[dict[str, Any]], object], signer: SigningKey = RECORDER) -> Callable[[Span], None]:
    """Return an edit that signs another record for the span; what the span shows besides stays."""

    def edit(span: Span) -> None:
        record = json.loads(b64url_decode(value_of(span, f"{ENVELOPE}payload")))
        change(record)
        envelope = json.loads(sign_record(canonical(record), signer).to_envelope())
        signature, data = envelope["signatures"][0], base64.b64decode(envelope["payload"])
        for name, value in {
            "payload": b64url_encode(data),
            "signature": b64url_encode(base64.b64decode(signature["sig"])),
            "keyid": signature["keyid"],
            "digest": b64url_encode(hashlib.sha256(data).digest()),
        }.items():
            put(ENVELOPE + name, value)(span)

    return edit


def moved(name: str, stream: str | None = None) -> Callable[[Span], None]:
    """Return an edit that signs a record with another id, perhaps of another stream, and shows it."""

    def edit(span: Span) -> None:
        resigned(lambda r: (r.update(id=name), r["stream"].update({"id": stream} if stream else {})))(span)
        put(f"{OURS}record.id", name)(span)
        if stream:
            put(f"{OURS}stream.id", stream)(span)

    return edit


def _payload(span: Span) -> None:
    data = b64url_decode(value_of(span, f"{ENVELOPE}payload")).replace(b"find_vendor", b"find_nobody")
    put(f"{ENVELOPE}payload", b64url_encode(data))(span)


def _half_payload(span: Span) -> None:
    put(f"{ENVELOPE}payload", value_of(span, f"{ENVELOPE}payload")[:255])(span)


EDITS: Final[tuple[tuple[str, str, str, Callable[[Span], object]], ...]] = (
    ("span-payload", "The payload of a span names another tool.", "bad_attestation", _payload),
    ("span-payload-cut", "The payload of a span is cut.", "truncated", _half_payload),
    (
        "span-signature",
        "The signature of a span is another one.",
        "bad_signature",
        put(f"{ENVELOPE}signature", "A" * 86),
    ),
    ("span-signature-cut", "The signature of a span is cut.", "truncated", put(f"{ENVELOPE}signature", "A" * 43)),
    (
        "span-signature-gone",
        "The signature of a span is missing.",
        "bad_attestation",
        put(f"{ENVELOPE}signature", None),
    ),
    ("span-unsigned", "A span has our attributes and no envelope.", "unsigned", without(ENVELOPE)),
    (
        "span-payload-type",
        "The envelope of a span is of another type.",
        "unknown_payload_type",
        put(f"{ENVELOPE}payload_type", "text/plain"),
    ),
    (
        "span-key",
        "The envelope of a span names another key.",
        "unknown_key",
        put(f"{ENVELOPE}keyid", STRANGER.public_key.thumbprint),
    ),
    (
        "span-digest",
        "The digest on a span is that of other bytes.",
        "bad_attestation",
        put(f"{ENVELOPE}digest", "A" * 43),
    ),
    ("span-id", "A span has another id.", "wrong_span", lambda s: s.update(spanId="00000000000000aa")),
    ("span-trace", "A span is in another trace.", "wrong_span", lambda s: s.update(traceId="0" * 31 + "9")),
    ("span-agent", "A span shows another agent than its record.", "field_changed", put(f"{OURS}agent.id", "mallory")),
    (
        "span-agent-doubled",
        "A span has an attribute twice, with different values.",
        "field_doubled",
        added(f"{OURS}agent.id", "mallory"),
    ),
    (
        "span-agent-repeated",
        "A span has an attribute twice, with one value, so that all readers agree.",
        "",
        added(f"{OURS}agent.id", "invoice-supervisor"),
    ),
    ("span-agent-redacted", "A scrubber blanked an attribute.", "copy_redacted", put(f"{OURS}agent.id", "[REDACTED]")),
    ("span-agent-gone", "An attribute is missing.", "copy_redacted", put(f"{OURS}agent.id", None)),
    (
        "span-attribute-of-ours",
        "A span has an attribute with our prefix that no record signs.",
        "field_added",
        added(f"{OURS}verified", "yes"),
    ),
    ("span-attribute-of-others", "A span has an attribute of somebody else.", "", added("http.route", "/x")),
    ("span-name", "A span has another name.", "field_changed", lambda s: s.update(name="execute_tool other")),
    ("span-kind", "A span is of another kind.", "field_changed", lambda s: s.update(kind=3)),
    (
        "span-start",
        "A span began earlier.",
        "field_changed",
        lambda s: s.update(startTimeUnixNano="1763999999000000000"),
    ),
    ("span-end", "A span ended later.", "field_changed", lambda s: s.update(endTimeUnixNano="1764000009000000000")),
    (
        "span-status",
        "A span has failed, and its record says success: its body may have set that.",
        "copy_changed",
        lambda s: s.update(status={"code": 2}),
    ),
    ("span-parent", "A span has another parent.", "", lambda s: s.update(parentSpanId="00000000000000bb")),
    ("span-member", "A span has a member that OTLP does not have.", "", lambda s: s.update(somethingNew=[1])),
    ("span-of-stranger", "A stranger signed the record of a span.", "unknown_key", resigned(dict, STRANGER)),
    ("span-of-issuer", "The issuer signed the record of a span.", "unknown_key", resigned(dict, ISSUER)),
    (
        "span-record-malformed",
        "The recorder key signed something that is no record.",
        "malformed_record",
        resigned(lambda r: r.update(note="x")),
    ),
    (
        "span-record-unknown",
        "The recorder key signed a record that says unknown.",
        "malformed_record",
        resigned(lambda r: r.update(outcome="unknown")),
    ),
    (
        "span-record-version",
        "The recorder key signed a record of another version.",
        "unknown_record",
        resigned(lambda r: r.update(v="2")),
    ),
    (
        "span-record-tool",
        "The recorder key signed a record of another tool than the span shows.",
        "field_changed field_changed",
        resigned(lambda r: r["action"].update(tool="read_invoice")),
    ),
)
"""On the first span, without the ledger."""


def _line(content: Content, number: int, change: Callable[[Span], object]) -> None:
    found = content[SPANS].splitlines()
    document = json.loads(found[number])
    change(document["resourceSpans"][0]["scopeSpans"][0]["spans"][0])
    found[number] = json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
    content[SPANS] = b"\n".join(found) + b"\n"


def _lines(content: Content, change: Callable[[list[bytes]], list[bytes]]) -> None:
    content[SPANS] = b"".join(change(content[SPANS].splitlines(keepends=True)))


def _resource(content: Content) -> None:
    found = content[SPANS].splitlines()
    document = json.loads(found[0])
    entry = {"key": f"{OURS}agent.id", "value": {"stringValue": "mallory"}}
    document["resourceSpans"][0]["resource"]["attributes"].append(entry)
    found[0] = json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
    content[SPANS] = b"\n".join(found) + b"\n"


def _member_doubled(content: Content) -> None:
    content[SPANS] = content[SPANS].replace(b'"kind":1,', b'"kind":1,"kind":3,', 1)


def _one_document(content: Content) -> None:
    groups = [group for line in content[SPANS].splitlines() for group in json.loads(line)["resourceSpans"]]
    content[SPANS] = json.dumps({"resourceSpans": groups}, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"


EXPORTS: Final[tuple[tuple[str, str, str, Callable[[Content], object]], ...]] = (
    ("spans-without-first", "The first span is missing.", "span_missing", lambda c: _lines(c, lambda x: x[1:])),
    (
        "spans-without-last-but-one",
        "A span is missing.",
        "span_missing",
        lambda c: _lines(c, lambda x: [*x[:-2], x[-1]]),
    ),
    ("spans-twice", "Every span is there twice.", "", lambda c: _lines(c, lambda x: x + x)),
    ("spans-backwards", "The spans are there in the opposite order.", "", lambda c: _lines(c, lambda x: x[::-1])),
    ("spans-in-one-document", "All spans are in one document.", "", _one_document),
    (
        "spans-damaged-line",
        "A line ends in the middle.",
        "malformed_document",
        lambda c: _lines(c, lambda x: [x[0][:50] + b"\n", *x]),
    ),
    (
        "spans-none",
        "The file of spans is empty.",
        "nothing_to_verify " + "span_missing " * 12,
        lambda c: c.update({SPANS: b""}),
    ),
    ("spans-resource", "The resource of a span has an attribute of ours that differs.", "field_added", _resource),
    (
        "spans-member-doubled",
        "A span has a member twice, with different values.",
        "field_doubled span_missing",
        _member_doubled,
    ),
    (
        "spans-differ-from-ledger",
        "The recorder key signed another record for a span than the ledger has.",
        "differs_from_ledger field_changed field_changed",
        lambda c: _line(c, 0, resigned(lambda r: r["action"].update(tool="read_invoice"))),
    ),
    (
        "spans-not-in-ledger",
        "The recorder key signed a record for a span that the ledger does not have.",
        "not_in_ledger span_missing",
        lambda c: _line(c, 0, moved(OTHER)),
    ),
    (
        "spans-of-another-ledger",
        "The recorder key signed a record for a span in a stream that the ledger does not have.",
        "other_ledger span_missing",
        lambda c: _line(c, 0, moved(OTHER, "AZq2l-gAcACAAAAAAAAAaA")),
    ),
    (
        "spans-ledger-edited",
        "The ledger for comparison was edited.",
        "ledger_contradicted detail_not_checked",
        lambda c: c.update({(name := _stream(c)): c[name].replace(b"alice@", b"mallo@", 1)}),
    ),
    (
        "spans-ledger-cut",
        "The ledger for comparison lacks a stream.",
        "ledger_not_verified other_ledger other_ledger",
        lambda c: c.pop(_stream(c, 1)),
    ),
)
"""On all spans, beside the ledger."""


def _stream(content: Content, number: int = 0) -> str:
    return sorted(name for name in content if name.startswith("evidence/ledger/"))[number]


def build(evidence: Content) -> Cases:
    """Return the cases."""
    cases = Cases()
    alone = Case("spans", "The golden spans, without their ledger.", ("detail_not_checked",), evidence, None, ALONE)
    cases.append(alone)
    beside = Case("spans-and-ledger", "The golden spans, beside their ledger.", (), evidence, alone, BESIDE)
    cases.append(beside)
    verify = ("evidence", "--trust", "trust.json")
    cases.append(Case("golden-ledger", "The golden ledger, as the library wrote it.", (), evidence, alone, verify))
    for name, what, codes, edit in EDITS:
        found = f"{codes} detail_not_checked"
        cases.outside(alone, name, what, found, lambda c, edit=edit: _line(c, 0, edit), ALONE)
    for name, what, codes, change in EXPORTS:
        cases.outside(beside, name, what, codes, change, BESIDE)
    for name, what, codes, signer in (
        (
            "spans-two-versions",
            "Two spans have different records with one id.",
            "two_versions two_at_one_place detail_not_checked",
            0,
        ),
        ("spans-one-place", "Two spans have different records at one place.", "two_at_one_place detail_not_checked", 1),
    ):
        cases.outside(alone, name, what, codes, lambda c, way=signer: _again(c, way), ALONE)
    return cases


def _again(content: Content, way: int) -> None:
    """Add another version of the first span, or another record in its place."""
    _lines(content, lambda x: [*x, x[0]])
    edit = resigned(lambda r: r.update(error="x")) if way == 0 else moved(OTHER)
    _line(content, len(content[SPANS].splitlines()) - 1, edit)
