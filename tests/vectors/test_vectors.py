"""The golden vectors are what the code makes, verify, and stop verifying when anything in them is changed."""

import base64
import hmac
import importlib.util
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from plain_records import check_record

from agent_identity import Report, Verifier
from agent_identity._authority.grants.chain import verify_chain
from agent_identity._authority.grants.grants import issue
from agent_identity._identity.common.encoding import b64url_decode, b64url_encode
from agent_identity._identity.common.record_bytes import decode_record
from agent_identity._identity.keys.jws import sign_compact
from agent_identity._ledger.reader import open_ledger
from agent_identity._ledger.transparency.checkpoint import Checkpoint, open_note, parse_proof, parse_vkey, sign_note
from agent_identity._ledger.transparency.merkle import inclusion_proof, leaf_hash, root_of, verify_inclusion
from agent_identity._spans.envelope import Attestation
from agent_identity.errors import TokenError
from agent_identity.identity import AgentRegistry, PublicKey, SigningKey, TrustedKey, TrustStore, certified
from agent_identity.version import VERSION

HERE = Path(__file__).resolve().parent
EVIDENCE, SPANS, TRUST = HERE / "evidence", HERE / "spans.jsonl", HERE / "evidence" / "trust.json"
FIRST, SECOND = sorted(path.name for path in (EVIDENCE / "ledger").iterdir())
STORE = TrustStore.load(TRUST)
RECORDER = SigningKey.from_seed(b"\x02" * 32)
STRANGER = SigningKey.from_seed(b"\x77" * 32)
ORIGIN = "agent-identity.example/vectors"
NOTE = (EVIDENCE / "log" / "checkpoint").read_bytes()

Document = dict[str, Any]


def golden(name: str) -> Any:
    return json.loads((HERE / name).read_bytes())


def _builder() -> ModuleType:
    spec = importlib.util.spec_from_file_location("build_vectors", HERE / "build_vectors.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


BUILDER = _builder()
RECORDS = {json.loads(record)["id"]: record for record in BUILDER.read_records(EVIDENCE)}


def codes(report: Report) -> set[str]:
    return {problem.code for problem in report.findings}


# What the code makes.


def test_the_vectors_are_what_the_code_makes() -> None:
    """Every file comes out byte for byte as it is stored."""
    assert BUILDER.differences(HERE) == []
    assert len(BUILDER.files_of(HERE)) == 24


@pytest.mark.sample(3)
@pytest.mark.parametrize(
    "environment",
    [
        {"TZ": "Asia/Kathmandu", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONHASHSEED": "1"},
        {"OTEL_SDK_DISABLED": "true", "OTEL_TRACES_SAMPLER": "always_off", "OTEL_SERVICE_NAME": "other"},
        {"OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "3", "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT": "10"},
    ],
    ids=["locale", "telemetry", "limits"],
)
def test_the_vectors_do_not_depend_on_the_machine(environment: dict[str, str], tmp_path: Path) -> None:
    """Another time zone, locale, hash seed, folder or telemetry configuration changes nothing."""
    command = [sys.executable, str(HERE / "build_vectors.py"), "--check"]
    given = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path), **environment}
    done = subprocess.run(command, cwd=tmp_path, env=given, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (0, "24 golden files, 0 of them changed\n"), done.stderr


def test_the_vectors_name_no_machine_and_no_version() -> None:
    """No path, host, user or version of this library or another stands in a vector."""
    here = {str(HERE.parents[1]), str(Path.home()), os.path.realpath("/tmp"), socket.gethostname()}  # noqa: S108
    texts = [text.encode() for text in here if len(text) > 3]
    for name, content in BUILDER.files_of(HERE).items():
        assert [text for text in texts if text in content] == [], name
        assert f'"version":"{VERSION}"'.encode() not in content, name
    starts = [json.loads(record) for record in RECORDS.values() if b'"kind":"stream_start"' in record]
    assert [start["sdk"]["version"] for start in starts] == ["0.0.0-vectors"] * 2


def test_the_check_names_what_changed(tmp_path: Path) -> None:
    """A file that was changed, is missing or is left over is named."""
    kept = tmp_path / "vectors"
    shutil.copytree(HERE, kept, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    (kept / "keys.json").write_bytes(b"{}")
    (kept / "spans.jsonl").unlink()
    (kept / "extra.json").write_bytes(b"{}")
    assert BUILDER.differences(kept) == ["extra.json", "keys.json", "spans.jsonl"]


# What is in them.


def test_every_kind_of_end_is_in_the_ledger() -> None:
    """Allowed, warned, blocked, routed, failed and unattributed calls are there, each record of closed shape."""
    records = [decode_record(record) for record in RECORDS.values()]
    for record in records:
        check_record(record)
    calls: list[Any] = [record for record in records if record["kind"] == "outcome"]
    assert sorted((call["decision"]["effect"], call["outcome"]) for call in calls) == [
        ("allow", "error"),
        ("allow", "success"),
        ("allow", "success"),
        ("allow", "success"),
        ("block", "denied"),
        ("block", "denied"),
        ("block", "denied"),
        ("route", "routed"),
        ("warn", "success"),
    ]
    assert [call["decision"]["reason"] for call in calls if "attribution" in call] == ["no_task"]
    assert max(len(record["chain"]) for record in records if "chain" in record) == 2  # type: ignore[arg-type]


def test_the_ledger_macs_are_keyed_hashes_of_the_lines() -> None:
    """The MAC beside each line is HMAC-SHA256 under the ledger key over a domain, the stream and the record."""
    key = bytes.fromhex(golden("keys.json")["ledger_mac"])
    reader = open_ledger(EVIDENCE)
    for stream in reader.streams():
        for line in reader.entries(stream):
            assert line.record is not None
            message = b"agent-identity/ledger/v1\n" + stream.encode() + b"\n" + line.record
            assert line.mac == b64url_encode(hmac.new(key, message, "sha256").digest())


def test_the_keys_follow_from_their_seeds() -> None:
    """Each public key and thumbprint is that of its seed, and the trust file names the two that are trusted."""
    keys = golden("keys.json")
    for entry in keys["signing"].values():
        public = SigningKey.from_seed(bytes.fromhex(entry["seed"])).public_key
        assert (public.to_jwk(), public.thumbprint) == (entry["jwk"], entry["thumbprint"])
    assert {(key.purpose, key.key.thumbprint) for key in STORE.keys} == {
        (name, keys["signing"][name]["thumbprint"]) for name in ("issuer", "recorder")
    }
    assert parse_vkey(keys["vkey"]) == (ORIGIN, RECORDER.public_key)


def issuer_key(kid: str) -> PublicKey:
    return STORE.find(kid, "issuer", at=1_764_000_000)


def test_the_grants_chain() -> None:
    """Each grant verifies behind its parents, and is byte for byte what its signer makes of its claims."""
    grants = golden("grants.json")
    by_hash = {grant["chain"][-1]: grant["token"] for grant in grants}
    signers = {
        entry["thumbprint"]: SigningKey.from_seed(bytes.fromhex(entry["seed"]))
        for entry in golden("keys.json")["signing"].values()
    }
    for grant in grants:
        tokens = [by_hash[link] for link in grant["chain"]]
        now = grant["claims"]["iat"]
        chain = verify_chain(tokens, anchors=issuer_key, issuer=STORE.issuer, now=now)
        assert chain.leaf.hash == grant["chain"][-1]
        assert chain.leaf.principal.id == grant["claims"]["sub"]
        holder = chain.grants[-2].holder.thumbprint if len(tokens) > 1 else grant["kid"]
        header = {"typ": "aat+jwt"} | ({"kid": grant["kid"]} if grant["kid"] else {})
        assert sign_compact(header, grant["claims"], signers[holder]) == grant["token"]


def test_a_root_grant_is_issued_again() -> None:
    """Issuing from the facts gives the golden token, so that other implementations can compare."""
    grant = golden("grants.json")[0]
    claims = grant["claims"]
    again = issue(
        SigningKey.from_seed(b"\x01" * 32),
        issuer=claims["iss"],
        task_id=claims["txn"],
        principal=BUILDER.ALICE,
        agent=BUILDER.SUPERVISOR,
        holder=PublicKey.from_jwk(claims["cnf"]["jwk"]),
        scope=BUILDER.SUPERVISOR_SCOPE,
        now=claims["iat"],
        ttl=claims["exp"] - claims["iat"],
        id=claims["jti"],
    )
    assert again.token == grant["token"]


def test_the_registry_holds_without_our_code() -> None:
    """Each line is a JSON string of a JWS that the issuer signed, and names the hash of the one before."""
    key = Ed25519PublicKey.from_public_bytes(STORE.keys[0].key.raw)
    found, before = [], None
    for line in (HERE / "agents.jsonl").read_text().splitlines():
        token = json.loads(line)
        header, payload, signature = (base64.urlsafe_b64decode(part + "==") for part in token.split("."))
        key.verify(signature, token.rpartition(".")[0].encode())
        claims = json.loads(payload)
        assert claims.get("prev", claims.get("hash")) == before
        found.append((json.loads(header)["typ"], claims["seq"], claims.get("status")))
        before = b64url_encode(sha256(token.encode()).digest())
    registration, head = "agent-registration+jwt", "agent-registry-head+jwt"
    assert found == [
        (registration, 1, "registered"),
        (registration, 2, "registered"),
        (registration, 3, "suspended"),
        (registration, 4, "registered"),
        (registration, 5, "retired"),
        (head, 5, None),
    ]
    registry = AgentRegistry.load(HERE / "agents.jsonl", STORE)
    assert [(row.agent.id, row.status) for row in registry.current()] == [
        ("invoice-supervisor", "retired"),
        ("invoice-clerk", "registered"),
    ]


def test_the_envelopes_hold_the_records() -> None:
    """Each DSSE envelope opens under the recorder key to the bytes of the ledger, and the span carries the same."""
    carried = {
        facts["agent_identity.record.id"]: facts["agent_identity.attestation.signature"]
        for facts in map(attributes_of, spans())
    }
    for entry in golden("envelope.json"):
        attestation = Attestation.from_envelope(json.dumps(entry["dsse"]).encode())
        assert attestation.open(lambda _: RECORDER.public_key) == RECORDS[entry["record"]]
        assert carried[entry["record"]] == attestation.signature


def test_the_disclosed_arguments_are_those_of_the_calls() -> None:
    """HMAC-SHA256 under the disclosed key over the canonical arguments is the digest in the record (RFC 2104)."""
    disclosures = golden("disclosures.json")
    assert len(disclosures) == 9
    for entry in disclosures:
        digest = hmac.new(b64url_decode(entry["key"]), entry["canonical"].encode(), "sha256").digest()
        assert json.loads(RECORDS[entry["record"]])["action"]["args"] == entry["digest"] == b64url_encode(digest)
        assert json.loads(entry["canonical"]) == entry["arguments"]


def test_the_inclusion_proofs_lead_to_the_checkpoint() -> None:
    """A record proves its stream's head, and the head's entry proves the signed checkpoint."""
    heads = {json.loads(entry)["root"]: entry for entry in log_entries()}
    for entry in golden("inclusion.json"):
        leaf, root = b64url_decode(entry["leaf"]), b64url_decode(entry["root"])
        assert leaf == sha256(b"\0" + RECORDS[entry["record"]]).digest()
        hashes = [b64url_decode(value) for value in entry["hashes"]]
        verify_inclusion(leaf, hashes, index=entry["index"], size=entry["size"], root=root)
        head = json.loads(heads[entry["root"]])
        assert head.pop("time").isdecimal()
        assert head == {
            "origin": ORIGIN,
            "root": entry["root"],
            "size": str(entry["size"]),
            "stream": entry["stream"],
        }
    proof = parse_proof((HERE / "log.tlog-proof").read_bytes())
    assert proof.note == NOTE
    checkpoint = Checkpoint.from_text(open_note(proof.note, {ORIGIN: RECORDER.public_key}).text)
    verify_inclusion(leaf_hash(log_entries()[1]), proof.hashes, index=1, size=checkpoint.size, root=checkpoint.root)


def log_entries() -> list[bytes]:
    return [line.record for line in open_ledger(EVIDENCE).log_entries() if line.record is not None]


# What the verifier says.


def test_the_evidence_verifies() -> None:
    """The golden directory is verified and complete under its trusted keys."""
    report = Verifier(STORE).ledger(EVIDENCE)
    assert (report.verdict, report.completeness, report.trust) == ("verified", "complete", "given")
    assert report.counts["records"] == report.counts["verified"] == len(RECORDS)
    assert report.findings == ()


def test_the_spans_verify() -> None:
    """The golden spans are verified alone, and complete beside their ledger."""
    alone, compared = Verifier(STORE).traces(SPANS), Verifier(STORE).traces(SPANS, ledger=EVIDENCE)
    assert (alone.verdict, alone.completeness) == ("verified", "not_checked")
    assert (compared.verdict, compared.completeness, compared.findings) == ("verified", "complete", ())


@pytest.mark.parametrize("place", range(len(SPANS.read_bytes().splitlines())))
def test_each_span_verifies_by_itself(place: int, tmp_path: Path) -> None:
    """One span copied out of any system is enough: signature, binding and copied attributes hold."""
    lone = tmp_path / "span.json"
    lone.write_bytes(SPANS.read_bytes().splitlines()[place])
    report = Verifier(STORE).traces(lone)
    assert (report.verdict, report.counts["verified"]) == ("verified", 1)


Change = Callable[[Path], object]


def stream(root: Path, name: str = FIRST) -> Path:
    return root / "ledger" / name / "entries.jsonl"


def lines_of(path: Path, change: Callable[[list[bytes]], Sequence[bytes]]) -> None:
    path.write_bytes(b"".join(change(path.read_bytes().splitlines(keepends=True))))


def replaced(path: Path, old: bytes, new: bytes) -> None:
    data = path.read_bytes()
    assert old in data
    path.write_bytes(data.replace(old, new, 1))


def _new_macs(root: Path) -> None:
    def change(lines: list[bytes]) -> list[bytes]:
        return [re.sub(rb'"mac":"[^"]*"', b'"mac":"%s"' % (b"A" * 43), line, count=1) for line in lines]

    for path in (stream(root), stream(root, SECOND)):
        lines_of(path, change)


def _roll_back(root: Path) -> None:
    """Put the directory back to its first seal, as somebody with the recorder key can."""
    lines_of(root / "log" / "entries.jsonl", lambda lines: lines[:1])
    entry = log_entries()[0]
    earlier = Checkpoint(ORIGIN, 1, root_of([leaf_hash(entry)]))
    (root / "log" / "checkpoint").write_bytes(sign_note(earlier.to_text(), ORIGIN, RECORDER))
    size = int(json.loads(entry)["size"])
    lines_of(stream(root), lambda lines: lines[:size])
    shutil.rmtree(root / "ledger" / SECOND)


def in_stream(change: Callable[[list[bytes]], Sequence[bytes]]) -> Change:
    return lambda root: lines_of(stream(root), change)


def in_log(change: Callable[[list[bytes]], Sequence[bytes]]) -> Change:
    return lambda root: lines_of(root / "log" / "entries.jsonl", change)


def text(old: bytes, new: bytes) -> Change:
    return lambda root: replaced(stream(root), old, new)


def note(old: bytes, new: bytes) -> Change:
    return lambda root: replaced(root / "log" / "checkpoint", old, new)


LEDGER_CHANGES: dict[str, tuple[Change, str, str]] = {
    "a decision": (text(b'"effect":"block"', b'"effect":"allow"'), "contradicted", "head_mismatch"),
    "a principal": (text(b"alice@", b"mallo@"), "contradicted", "changed_record"),
    "a link": (text(b'"prev":"', b'"prev":"0'), "contradicted", "malformed_record"),
    "white space": (text(b'"kind":"intent"', b'"kind": "intent"'), "contradicted", "malformed_record"),
    "a line less": (in_stream(lambda x: x[:5] + x[6:]), "contradicted", "missing_records"),
    "no last line": (in_stream(lambda x: x[:-1]), "contradicted", "records_cut"),
    "two lines swapped": (in_stream(lambda x: [*x[:5], x[6], x[5], *x[7:]]), "contradicted", "out_of_order"),
    "a line twice": (in_stream(lambda x: [*x[:6], x[5], *x[6:]]), "contradicted", "duplicate_record"),
    "a line after the end": (in_stream(lambda x: [*x, x[1]]), "contradicted", "out_of_order"),
    "garbage between": (in_stream(lambda x: [*x[:6], b"?\n", *x[6:]]), "contradicted", "malformed_line"),
    "half a line more": (in_stream(lambda x: [*x, x[3][:40]]), "incomplete", "torn_tail"),
    "another stream": (lambda root: shutil.copy(stream(root, SECOND), stream(root)), "contradicted", "wrong_stream"),
    "a stream less": (lambda root: shutil.rmtree(root / "ledger" / SECOND), "incomplete", "stream_missing"),
    "no ledger": (lambda root: shutil.rmtree(root / "ledger"), "cannot_tell", "stream_missing"),
    "no checkpoint": (lambda root: (root / "log" / "checkpoint").unlink(), "contradicted", "log_missing"),
    "no log": (lambda root: shutil.rmtree(root / "log"), "contradicted", "log_missing"),
    "the log cut": (in_log(lambda x: x[:-1]), "contradicted", "log_cut"),
    "the log in another order": (in_log(lambda x: [x[1], x[0], x[2]]), "contradicted", "log_changed"),
    "the size in the checkpoint": (note(b"\n3\n", b"\n2\n"), "contradicted", "bad_signature"),
    "the checkpoint is text": (note(NOTE, b"hello\n"), "contradicted", "bad_checkpoint"),
    "an earlier state, signed": (_roll_back, "incomplete", "no_end"),
    "the macs": (_new_macs, "verified", ""),
}


@pytest.mark.parametrize(("change", "verdict", "code"), LEDGER_CHANGES.values(), ids=LEDGER_CHANGES)
def test_a_changed_ledger_gets_its_verdict(change: Change, verdict: str, code: str, tmp_path: Path) -> None:
    """Each change of the golden directory is found, with its own code; the MACs are no part of the proof."""
    root = tmp_path / "evidence"
    shutil.copytree(EVIDENCE, root)
    change(root)
    report = Verifier(STORE).ledger(root)
    assert (report.verdict, code in codes(report) or not code) == (verdict, True), report.findings


def test_a_ledger_put_back_is_found_by_a_kept_checkpoint(tmp_path: Path) -> None:
    """An earlier state with a good signature contradicts the checkpoint that somebody kept."""
    root = tmp_path / "evidence"
    shutil.copytree(EVIDENCE, root)
    _roll_back(root)
    report = Verifier(STORE).ledger(root, checkpoint=NOTE)
    assert (report.verdict, "rolled_back" in codes(report)) == ("contradicted", True)


def trusting(**changes: Any) -> TrustStore:
    given: dict[str, Any] = {"issuer": STORE.issuer, "origin": STORE.origin, "keys": STORE.keys, **changes}
    return TrustStore(given["keys"], issuer=given["issuer"], origin=given["origin"])


ISSUER_KEY, RECORDER_KEY = STORE.keys
TRUSTS: dict[str, tuple[TrustStore, str, str, str, str]] = {
    "another recorder": (
        trusting(keys=(ISSUER_KEY, TrustedKey(STRANGER.public_key, "recorder"))),
        *("cannot_tell", "unknown_key", "cannot_tell", "unknown_key"),
    ),
    "another issuer": (
        trusting(keys=(TrustedKey(STRANGER.public_key, "issuer"), RECORDER_KEY)),
        *("cannot_tell", "unknown_issuer", "cannot_tell", "unknown_issuer"),
    ),
    "purposes swapped": (
        trusting(keys=(TrustedKey(ISSUER_KEY.key, "recorder"), TrustedKey(RECORDER_KEY.key, "issuer"))),
        *("cannot_tell", "unknown_key", "cannot_tell", "unknown_key"),
    ),
    "a recorder that had expired": (
        trusting(keys=(ISSUER_KEY, TrustedKey(RECORDER_KEY.key, "recorder", not_after=1_763_999_999))),
        *("cannot_tell", "key_not_valid_then", "cannot_tell", "key_not_valid_then"),
    ),
    "another origin": (
        trusting(origin="other.example/log"),
        *("contradicted", "wrong_origin", "verified", ""),
    ),
    "another name of the issuer": (
        trusting(issuer="https://other.example"),
        *("contradicted", "bad_grant", "contradicted", "bad_grant"),
    ),
}


@pytest.mark.parametrize(("trust", "ledger", "code", "traces", "other"), TRUSTS.values(), ids=TRUSTS)
def test_other_trust_gets_other_verdicts(trust: TrustStore, ledger: str, code: str, traces: str, other: str) -> None:
    """Untouched evidence proves nothing to whom does not trust its keys, and contradicts other names."""
    found = Verifier(trust).ledger(EVIDENCE)
    assert (found.verdict, code in codes(found)) == (ledger, True), found.findings
    found = Verifier(trust).traces(SPANS)
    assert (found.verdict, other in codes(found) or not other) == (traces, True), found.findings


def spans() -> list[Document]:
    return [
        json.loads(line)["resourceSpans"][0]["scopeSpans"][0]["spans"][0] for line in SPANS.read_bytes().splitlines()
    ]


def attributes_of(span: Document) -> dict[str, str]:
    return {item["key"]: item["value"].get("stringValue", "") for item in span["attributes"]}


def put(span: Document, key: str, value: str | None) -> None:
    span["attributes"] = [item for item in span["attributes"] if item["key"] != key]
    if value is not None:
        span["attributes"].append({"key": key, "value": {"stringValue": value}})


def _strip(span: Document, prefix: str) -> None:
    span["attributes"] = [item for item in span["attributes"] if not item["key"].startswith(prefix)]


def _forged_payload(span: Document) -> None:
    payload = attributes_of(span)["agent_identity.attestation.payload"]
    body = base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)).replace(b"read_invoice", b"evil_invoice")
    put(span, "agent_identity.attestation.payload", base64.urlsafe_b64encode(body).rstrip(b"=").decode())


SpanChange = Callable[[Document], None]


def with_(name: str, value: str | None) -> SpanChange:
    return lambda span: put(span, f"agent_identity.{name}", value)


def _two_values(span: Document) -> None:
    span["attributes"].append({"key": "agent_identity.agent.id", "value": {"stringValue": "x"}})


SPAN_CHANGES: dict[str, tuple[SpanChange, str, str]] = {
    "the payload": (_forged_payload, "contradicted", "bad_attestation"),
    "the signature": (with_("attestation.signature", "A" * 86), "contradicted", "bad_signature"),
    "half a signature": (with_("attestation.signature", "A" * 43), "contradicted", "truncated"),
    "no signature": (with_("attestation.signature", None), "contradicted", "bad_attestation"),
    "no attestation": (lambda span: _strip(span, "agent_identity.attestation."), "contradicted", "unsigned"),
    "another type": (with_("attestation.payload_type", "text/plain"), "cannot_tell", "unknown_payload_type"),
    "another key": (with_("attestation.keyid", STRANGER.public_key.thumbprint), "cannot_tell", "unknown_key"),
    "the id of the span": (lambda span: span.update(spanId="00000000000000aa"), "contradicted", "wrong_span"),
    "the trace": (lambda span: span.update(traceId="0" * 31 + "9"), "contradicted", "wrong_span"),
    "a copied fact": (with_("agent.id", "mallory"), "contradicted", "field_changed"),
    "a scrubbed fact": (with_("agent.id", "[REDACTED]"), "verified", "copy_redacted"),
    "a removed fact": (with_("agent.id", None), "verified", "copy_redacted"),
    "a fact of somebody else": (lambda span: put(span, "http.route", "/x"), "verified", ""),
    "an unknown field": (lambda span: span.update(somethingNew=[1]), "verified", ""),
    "two values": (_two_values, "contradicted", "field_doubled"),
}


@pytest.mark.parametrize(("change", "verdict", "code"), SPAN_CHANGES.values(), ids=SPAN_CHANGES)
def test_a_changed_span_gets_its_verdict(change: SpanChange, verdict: str, code: str, tmp_path: Path) -> None:
    """Each change of one golden span is found, with its own code; what is not ours may change."""
    documents = [json.loads(line) for line in SPANS.read_bytes().splitlines()]
    for document in documents:
        span = document["resourceSpans"][0]["scopeSpans"][0]["spans"][0]
        if span["name"] == "execute_tool read_invoice":
            change(span)
            break
    path = tmp_path / "spans.jsonl"
    path.write_text("\n".join(map(json.dumps, documents)), encoding="utf-8")
    report = Verifier(STORE).traces(path)
    assert (report.verdict, code in codes(report) or not code) == (verdict, True), report.findings


Lines = list[bytes]


def _one_document(lines: Lines) -> Lines:
    groups = [group for line in lines for group in json.loads(line)["resourceSpans"]]
    return [json.dumps({"resourceSpans": groups}, indent=1).encode()]


EXPORTS: dict[str, tuple[Callable[[Lines], Lines], str, str]] = {
    "a span less": (lambda lines: lines[1:], "incomplete", "span_missing"),
    "the last span less": (lambda lines: lines[:-1], "incomplete", "span_missing"),
    "all twice": (lambda lines: lines + lines, "verified", ""),
    "backwards": (lambda lines: lines[::-1], "verified", ""),
    "one document": (_one_document, "verified", ""),
    "a damaged line": (lambda lines: [lines[0][:50], *lines], "incomplete", "malformed_document"),
    "nothing": (lambda _: [], "cannot_tell", "nothing_to_verify"),
}


@pytest.mark.parametrize(("change", "verdict", "code"), EXPORTS.values(), ids=EXPORTS)
def test_a_changed_export_gets_its_verdict(
    change: Callable[[Lines], Lines], verdict: str, code: str, tmp_path: Path
) -> None:
    """Beside the ledger, what an export lacks shows; order, grouping and repetition do not matter."""
    path = tmp_path / "spans.jsonl"
    path.write_bytes(b"\n".join(change(SPANS.read_bytes().splitlines())))
    report = Verifier(STORE).traces(path, ledger=EVIDENCE)
    assert (report.verdict, code in codes(report) or not code) == (verdict, True), report.findings


CERTIFICATES = golden("certificates.json")
FLEET = TrustStore.load(HERE / "signed-trust.json")


@pytest.mark.parametrize("case", CERTIFICATES, ids=[case["name"] for case in CERTIFICATES])
def test_a_certificate_gives_what_it_says_or_its_code(case: Document) -> None:
    """For a checkpoint and a grant of the given time, log and kind of principal, under the signed trust file."""
    recorder, issuer = (BUILDER.POD[name].public_key.thumbprint for name in ("recorder", "issuer"))
    kinds = {case["principal"]}

    def judge() -> None:
        trust = certified(FLEET, [case["token"]])
        assert trust.lookup(recorder, "recorder") is not None
        if not [key for key in trust.recorders(case["origin"]) if key.key.thumbprint == recorder]:
            raise TokenError("another log", code="wrong_origin")
        trust.find(recorder, "recorder", at=case["at"])
        trust.check_speaker(issuer, BUILDER.POD_ISSUER, kinds, at=case["at"])
        assert trust.find(issuer, "issuer", at=case["at"]).thumbprint == issuer

    if case["code"] is None:
        judge()
    else:
        with pytest.raises(TokenError) as caught:
            judge()
        assert caught.value.code == case["code"]


def test_the_signed_trust_file_is_read_whole() -> None:
    """An entry of each purpose, in the form in which it was signed; the plain library of others verifies it."""
    content = golden("signed-trust.json")
    assert {entry["purpose"] for entry in content["keys"]} == {
        "approver",
        "issuer",
        "policy",
        "recorder",
        "root",
        "witness",
    }
    assert FLEET.to_json() == (HERE / "signed-trust.json").read_bytes()
    header, _, signature = content.pop("signature").split(".")
    payload = base64.urlsafe_b64encode(
        json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    ).rstrip(b"=")
    Ed25519PublicKey.from_public_bytes(BUILDER.ROOTS["root"].public_key.raw).verify(
        base64.urlsafe_b64decode(signature + "=="), header.encode() + b"." + payload
    )


# The worked example that was published before: what of it still applies and no other test takes up.


def test_the_published_tree_is_reproduced(shared_vectors: Path) -> None:
    """The root over the published leaves is the published one, and each leaf is included in it."""
    published = json.loads((shared_vectors / "agent_identity_v1.json").read_text("utf-8"))
    leaves = [base64.b64decode(record["leaf_hash_b64"]) for record in published["records"]]
    root = base64.b64decode(published["log"]["root_b64"])
    assert root_of(leaves) == root
    for index, leaf in enumerate(leaves):
        verify_inclusion(leaf, inclusion_proof(leaves, index), index=index, size=len(leaves), root=root)
