"""Build the golden vectors of our formats, or check that they are still what the code makes.

Run as ``python tests/vectors/build_vectors.py [--check]``. Keys come from seeds, the clock moves only when told to,
ids and random numbers count: every byte is the same on each machine and with each version of the libraries. A change
of a file here is a change of a format, and has to be meant.
"""

import argparse
import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final
from unittest import mock

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON

from agent_identity import Agent, Denied, Effect, Enforcer, Human, Rule, RuleSet, Scope, Service
from agent_identity._identity.common.encoding import b64url_encode
from agent_identity._identity.keys.cosigners import Cosigner
from agent_identity._identity.keys.jws import parse_compact, sign_compact
from agent_identity._identity.trust.certificates import CERTIFICATE_TYPE
from agent_identity._ledger.beginning import Beginning
from agent_identity._ledger.reader import open_ledger
from agent_identity._ledger.transparency.checkpoint import LogProof, format_proof, vkey
from agent_identity._ledger.transparency.merkle import inclusion_proof, leaf_hash, root_of
from agent_identity._spans.envelope import sign_record
from agent_identity._storage.os_files import Files
from agent_identity.canonical import JSON, encode
from agent_identity.constraints import OneOf, Range
from agent_identity.identity import (
    Approver,
    FileVersion,
    Registration,
    Signer,
    SigningKey,
    TrustedKey,
    TrustStore,
    Witnesses,
    appended,
    signed_trust,
)
from agent_identity.options import DigestKeys, Ledger, Sources, Telemetry
from agent_identity.testing import FixedClock, SequentialIds

HERE: Final = Path(__file__).resolve().parent
ORIGIN: Final = "agent-identity.example/vectors"
ISSUER_URI: Final = "https://issuer.example/agents"
VERSION: Final = "0.0.0-vectors"
SERVICE: Final = "vectors"
NEVER: Final = 1_000_000.0  # Seconds; nothing is sealed but on demand.

SEEDS: Final = {"issuer": b"\x01" * 32, "recorder": b"\x02" * 32}
ISSUER: Final = SigningKey.from_seed(SEEDS["issuer"])
RECORDER: Final = SigningKey.from_seed(SEEDS["recorder"])
TRUST: Final = TrustStore(
    (
        TrustedKey(ISSUER.public_key, "issuer"),
        TrustedKey(RECORDER.public_key, "recorder", not_before=1_763_000_000, not_after=1_795_536_000),
    ),
    issuer=ISSUER_URI,
    origin=ORIGIN,
    file=FileVersion("AZq7zA4Ae4OAAAAAAAAAAQ"),
)

ALICE: Final = Human("alice@example.com", issuer="https://login.example", roles=("finance",))
CRON: Final = Service("spiffe://example.com/job/nightly")
SUPERVISOR: Final = Agent("invoice-supervisor", owner="finance-ops@example.com", version="2.1")
CLERK: Final = Agent("invoice-clerk", owner="finance-ops@example.com")

INVOICES: Final = OneOf("INV-41", "INV-42", "INV-43")
SUPERVISOR_SCOPE: Final = (
    Scope("find_vendor")
    | Scope("read_invoice", invoice_id=INVOICES)
    | Scope("pay_invoice", invoice_id=INVOICES, amount=Range(min=0, max=5000))
    | Scope("delete_invoice", invoice_id=INVOICES)
)
CLERK_SCOPE: Final = (
    Scope("read_invoice", invoice_id=OneOf("INV-41", "INV-42"))
    | Scope("pay_invoice", invoice_id=OneOf("INV-41", "INV-42"), amount=Range(min=0, max=2000))
    | Scope("delete_invoice", invoice_id="INV-41")
)
POLICY: Final = RuleSet(
    Rule(Effect.WARN, tools="find_vendor", reason="vendor files may hold personal data", id="vendor-data"),
    Rule(Effect.BLOCK, tools="delete_*", reason="invoices are kept for ten years", id="keep-invoices"),
    Rule(
        Effect.ROUTE,
        tools="pay_invoice",
        when={"args.amount": Range(min=1000, min_inclusive=False)},
        reason="payments over 1,000 need a second person",
        id="four-eyes",
        to="approval-desk",
    ),
    name="invoices",
    version="1",
)


class CountedFiles(Files):
    """The operating system, with numbers that count in place of random ones."""

    __slots__ = ("_drawn",)

    def __init__(self) -> None:
        self._drawn = 0

    def random(self, size: int) -> bytes:
        """Return bytes that say how many were drawn before."""
        self._drawn += 1
        return self._drawn.to_bytes(2, "big") * (size // 2)


class CountedSpans(IdGenerator):
    """Ids of spans that count."""

    def __init__(self) -> None:
        self._traces = 0
        self._spans = 0

    def generate_trace_id(self) -> int:
        """Return the next id of a trace."""
        self._traces += 1
        return 0x0123456789ABCDEF << 64 | self._traces

    def generate_span_id(self) -> int:
        """Return the next id of a span."""
        self._spans += 1
        return 0xFEDC << 48 | self._spans


class World:
    """What several enforcers on one directory share."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.clock = FixedClock()
        self.exporter = InMemorySpanExporter()
        self.holders: list[SigningKey] = []
        self.disclosed: dict[str, object] = {}
        self._files = CountedFiles()
        self._ids = SequentialIds()
        self._provider = TracerProvider(sampler=ALWAYS_ON, id_generator=CountedSpans(), shutdown_on_exit=False)
        self._provider.add_span_processor(SimpleSpanProcessor(self.exporter))

    @contextlib.contextmanager
    def process(self) -> Iterator[tuple[Enforcer, Ledger]]:
        """Open an enforcer as a process of its own would."""
        ledger = Ledger.open(
            self.directory,
            signer=RECORDER,
            origin=ORIGIN,
            clock=self.clock,
            ids=self._ids,
            files=self._files,
            seal_interval=NEVER,
            beginning=Beginning(library=VERSION),
        )
        with Enforcer(
            keys=(ISSUER, RECORDER),
            trust=TRUST,
            ledger=ledger,
            digests=DigestKeys(self.directory / "keys" / "digests.jsonl", files=self._files),
            policy=POLICY,
            routes={"approval-desk": lambda call: f"filed: {call.arguments['invoice_id']}"},
            telemetry=Telemetry(tracer_provider=self._provider),
            sources=Sources(clock=self.clock, ids=self._ids, new_key=self._new_key),
        ) as enforcer:
            yield enforcer, ledger

    def _new_key(self) -> Signer:
        key = SigningKey.from_seed(bytes([0x10 + len(self.holders)]) * 32)
        self.holders.append(key)
        return key

    def tick(self) -> None:
        """Let a quarter of a second pass."""
        self.clock.advance(0.25)


def act(world: World) -> None:
    """Let two processes do everything that can happen to a call."""
    with world.process() as (enforcer, ledger):
        find_vendor, read_invoice, pay_invoice, delete_invoice = make_tools(enforcer, world)
        scope = SUPERVISOR_SCOPE
        with enforcer.task("pay the invoices of Acme", principal=ALICE, agent=SUPERVISOR, scope=scope):
            find_vendor("Acme")
            with enforcer.delegate(CLERK, scope=CLERK_SCOPE, purpose="read and pay invoices of Acme"):
                read_invoice("INV-42")
                refused(lambda: read_invoice("INV-43"))
                pay_invoice("INV-42", 120.5)
                ledger.seal()
                pay_invoice("INV-41", 1800)
                refused(lambda: delete_invoice("INV-41"))
                with contextlib.suppress(FileNotFoundError):
                    read_invoice("INV-41")
        refused(lambda: read_invoice("INV-42"))
    world.tick()
    with world.process() as (enforcer, _):
        world.tick()
        with (
            enforcer.task("nightly check", principal=CRON, agent=CLERK, scope=Scope("count_invoices")),
            enforcer.action("count_invoices", folder="Müller & Söhne", open_only=True) as call,
        ):
            world.tick()
            call.result = {"open": 3}


def make_tools(enforcer: Enforcer, world: World) -> tuple[Callable[..., object], ...]:
    """Return guarded tools that take a quarter of a second each."""

    @enforcer.tool
    def find_vendor(name: str) -> str:
        world.tick()
        return f"{name}: DE02 1203"

    @enforcer.tool
    def read_invoice(invoice_id: str) -> str:
        world.tick()
        if invoice_id == "INV-41":
            raise FileNotFoundError(invoice_id)
        return f"{invoice_id}: EUR 120.50"

    @enforcer.tool
    def pay_invoice(invoice_id: str, amount: float, currency: str = "EUR") -> dict[str, object]:
        world.tick()
        return {"paid": amount, "currency": currency, "invoice": invoice_id}

    @enforcer.tool
    def delete_invoice(invoice_id: str) -> None:
        world.tick()

    return find_vendor, read_invoice, pay_invoice, delete_invoice


def refused(call: Callable[[], object]) -> None:
    """Make a call that must be refused."""
    try:
        call()
    except Denied:
        return
    raise AssertionError("expected a refusal")


def build(target: Path) -> None:
    """Write every vector into a folder."""
    # The SDK takes limits, samplers and its off switch from the environment.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    with mock.patch.dict(os.environ, environment, clear=True), tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder) / "evidence")
        act(world)
        evidence = world.directory
        write(target / "evidence" / "trust.json", TRUST.to_json())
        for path in sorted(evidence.rglob("*")):
            name = path.relative_to(evidence)
            if path.is_file() and name.parts[0] != "keys" and name.name != "lock":
                write(target / "evidence" / name, path.read_bytes())
        write(target / "spans.jsonl", spans_as_otlp(world.exporter.get_finished_spans()))
        records = read_records(evidence)
        write_json(target / "keys.json", keys(world))
        write_json(target / "grants.json", grants(records))
        write_json(target / "envelope.json", envelope(records))
        write_json(target / "disclosures.json", disclosures(records, evidence / "keys" / "digests.jsonl"))
        write_json(target / "inclusion.json", inclusion(evidence))
        write(target / "log.tlog-proof", log_proof(evidence))
        write(target / "agents.jsonl", agents())
        write(target / "signed-trust.json", signed_file().to_json())
        write_json(target / "certificates.json", certificates())
        build_cases(target)


def build_cases(target: Path) -> None:
    """Write the cases: evidence with its verdict as data."""
    sys.path.append(str(HERE))  # Each of these modules is a neighbor of this one.
    try:
        import all_cases
    finally:
        sys.path.remove(str(HERE))
    golden = {"trust.json": TRUST.to_json(), "spans.jsonl": (target / "spans.jsonl").read_bytes()}
    for path in sorted((target / "evidence").rglob("*")):
        name = path.relative_to(target).as_posix()
        if path.is_file() and path.name != "trust.json":
            golden[name] = path.read_bytes()
    for name, data in all_cases.files(golden).items():
        write(target / "cases" / name, data)


def write(path: Path, data: bytes) -> None:
    """Write a file and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def write_json(path: Path, value: object) -> None:
    """Write JSON for people."""
    write(path, (json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode())


def read_records(evidence: Path) -> list[bytes]:
    """Return the records of all streams in their order."""
    reader = open_ledger(evidence)
    return [line.record for stream in reader.streams() for line in reader.entries(stream) if line.record is not None]


def keys(world: World) -> dict[str, object]:
    """Return the seeds of all keys, with what follows from them."""
    named = [("issuer", ISSUER), ("recorder", RECORDER)]
    named += [(f"holder-{number}", key) for number, key in enumerate(world.holders, 1)]
    seeds = {**SEEDS, **{f"holder-{n}": bytes([0x0F + n]) * 32 for n in range(1, len(world.holders) + 1)}}
    ledger_key = (world.directory / "keys" / "ledger.key").read_bytes().hex()
    return {
        "signing": {
            name: {"seed": seeds[name].hex(), "jwk": key.public_key.to_jwk(), "thumbprint": key.public_key.thumbprint}
            for name, key in named
        },
        "ledger_mac": ledger_key,
        "vkey": vkey(ORIGIN, RECORDER.public_key),
    }


def grants(records: Sequence[bytes]) -> list[dict[str, object]]:
    """Return each grant with what it says."""
    found: list[dict[str, object]] = []
    for record in map(json.loads, records):
        if record["kind"] != "grant":
            continue
        token = record["grant"]["token"]
        parts = parse_compact(token)
        found.append(
            {
                "record": record["id"],
                "chain": [link["grant"] for link in record["chain"]],
                "claims": json.loads(parts.payload),
                "kid": parts.kid,
                "token": token,
            }
        )
    return found


def envelope(records: Sequence[bytes]) -> list[dict[str, object]]:
    """Return the DSSE envelope of each outcome."""
    return [
        {"record": json.loads(record)["id"], "dsse": json.loads(sign_record(record, RECORDER).to_envelope())}
        for record in records
        if json.loads(record)["kind"] == "outcome"
    ]


ARGUMENTS: Final[dict[str, Sequence[dict[str, object]]]] = {
    "find_vendor": [{"name": "Acme"}],
    "read_invoice": [{"invoice_id": f"INV-{number}"} for number in (41, 42, 43)],
    "pay_invoice": [
        {"amount": 120.5, "currency": "EUR", "invoice_id": "INV-42"},
        {"amount": 1800, "currency": "EUR", "invoice_id": "INV-41"},
    ],
    "delete_invoice": [{"invoice_id": "INV-41"}],
    "count_invoices": [{"folder": "Müller & Söhne", "open_only": True}],
}
"""What the tools were called with; an auditor to whom it is disclosed finds which call it was."""


def disclosures(records: Sequence[bytes], path: Path) -> list[dict[str, object]]:
    """Return what discloses the arguments of each outcome: the key of its digests, and the arguments."""
    digests = DigestKeys(path)
    found: list[dict[str, object]] = []
    for record in map(json.loads, records):
        if record["kind"] != "outcome":
            continue
        key_id = record["task"]["id"] if "task" in record else record["stream"]["id"]
        action = record["action"]
        found += [
            {
                "record": record["id"],
                "key_id": key_id,
                "key": b64url_encode(digests.key_for(key_id)),
                "arguments": arguments,
                "canonical": encode(arguments).decode(),
                "digest": action["args"],
            }
            for arguments in ARGUMENTS[action["tool"]]
            if digests.digest(key_id, encode(arguments)) == action["args"]
        ]
    return found


def inclusion(evidence: Path) -> list[dict[str, object]]:
    """Return for each outcome the proof that it is in its stream, at the last head of that stream."""
    reader = open_ledger(evidence)
    found: list[dict[str, object]] = []
    for stream in reader.streams():
        records = [line.record for line in reader.entries(stream) if line.record is not None]
        leaves = [leaf_hash(record) for record in records]
        found += [
            {
                "record": json.loads(record)["id"],
                "stream": stream,
                "index": index,
                "size": len(leaves),
                "leaf": b64url_encode(leaves[index]),
                "hashes": [b64url_encode(value) for value in inclusion_proof(leaves, index)],
                "root": b64url_encode(root_of(leaves)),
            }
            for index, record in enumerate(records)
            if json.loads(record)["kind"] == "outcome"
        ]
    return found


def agents() -> bytes:
    """Return a registry in which one agent was suspended and resumed, and one retired."""
    now, year = 1_764_000_000, 365 * 86_400
    supervisor = Registration(
        SUPERVISOR, purpose="pay invoices", maximum=SUPERVISOR_SCOPE, expires_at=now + year, model="example-model-1"
    )
    clerk = Registration(CLERK, purpose="read and pay invoices", maximum=CLERK_SCOPE, expires_at=now + year)
    data = appended(b"", [supervisor, clerk], signer=ISSUER, trust=TRUST, now=now)
    for later, row in (
        (60, replace(clerk, status="suspended", reason="incident 12")),
        (120, replace(clerk, reason="incident 12 is closed")),
        (180, replace(supervisor, status="retired")),
    ):
        data = appended(data, [row], signer=ISSUER, trust=TRUST, now=now + later)
    return data


ROOTS: Final = {
    name: SigningKey.from_seed(bytes([number]) * 32)
    for name, number in (("root", 0x21), ("exact-root", 0x22), ("revoked-root", 0x23), ("ended-root", 0x24))
}
POD: Final = {"recorder": SigningKey.from_seed(b"\x31" * 32), "issuer": SigningKey.from_seed(b"\x32" * 32)}
POLICY_KEY: Final = SigningKey.from_seed(b"\x25" * 32)
WITNESS: Final = SigningKey.from_seed(b"\x26" * 32)
BEGIN: Final = 1_764_000_000
MONTH: Final = 30 * 86_400
FLEET: Final = "fleet.example/a/b/"
POD_ISSUER: Final = "https://issuer.example/pods"


def signed_file() -> TrustStore:
    """Return a signed trust file with an entry of each purpose."""
    base = bytes.fromhex(  # The base point of P-256 (SEC 2 §2.4.2), whose private key is 1.
        "6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296"
        "4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5"
    )
    keys = (
        TrustedKey(ISSUER.public_key, "issuer", issuer=ISSUER_URI),
        TrustedKey(RECORDER.public_key, "recorder", origin=ORIGIN, not_before=1_763_000_000),
        TrustedKey(POLICY_KEY.public_key, "policy"),
        TrustedKey(ROOTS["root"].public_key, "root", origin=FLEET),
        TrustedKey(ROOTS["exact-root"].public_key, "root", origin="fleet.example/one", issuer=POD_ISSUER),
        TrustedKey(
            ROOTS["revoked-root"].public_key,
            "root",
            origin="fleet.example/revoked/",
            revoked_since=BEGIN + 86_400,
            reason="stolen",
        ),
        TrustedKey(ROOTS["ended-root"].public_key, "root", origin="fleet.example/ended/", not_after=BEGIN - 1),
    )
    approvers = (
        Approver(
            person="bob@example.com",
            credential=bytes(range(32)),
            algorithm="ES256",
            key=base,
            rp_id="example.com",
            origin="https://approvals.example.com",
            not_after=1_795_536_000,
        ),
        Approver(
            person="carol@example.com",
            credential=bytes(16),
            algorithm="EdDSA",
            key=SigningKey.from_seed(b"\x27" * 32).public_key.raw,
            rp_id="localhost",
            origin="http://localhost:8000",
        ),
    )
    witnesses = Witnesses((Cosigner("witness.example", WITNESS.public_key),), 1, ((BEGIN, None),))
    file = FileVersion("urn:example:fleet", 7)
    trust = TrustStore(keys, origin=ORIGIN, witnesses=witnesses, approvers=approvers, file=file)
    return signed_trust(trust, ROOTS["root"])


def certificates() -> list[dict[str, object]]:
    """Return certificates, with what a verifier makes of each under the trust file.

    ``code`` says why it does not count, and is null if it does. ``at``, ``origin`` and ``principal`` are those of a
    checkpoint and of a grant under it.
    """
    found: list[dict[str, object]] = []
    good = pod_claims()
    for name, changes, code, more in CERTIFICATES:
        claims = {key: value for key, value in {**good, **changes}.items() if value is not None}
        typ = str(more.get("typ", CERTIFICATE_TYPE))
        root = ROOTS.get(str(more.get("root", "root")), POLICY_KEY)
        token = sign_compact({"kid": root.public_key.thumbprint, "typ": typ}, claims, root)
        used = {"at": BEGIN, "origin": claims["origin"], "principal": "human"}
        used.update((key, value) for key, value in more.items() if key in used)
        found.append({"name": name, "code": code, "claims": claims, "token": token, **used})
    return found


def pod_claims() -> dict[str, JSON]:
    """Return the claims of a good certificate."""
    return {
        "exp": BEGIN + MONTH,
        "issuer": {"key": POD["issuer"].public_key.to_jwk(), "uri": POD_ISSUER},
        "nbf": BEGIN,
        "origin": f"{FLEET}pod-1",
        "principals": ["human", "service"],
        "recorder": POD["recorder"].public_key.to_jwk(),
    }


MALFORMED: Final = "bad_recorder_certificate"
CERTIFICATES: Final[Sequence[tuple[str, dict[str, JSON], str | None, dict[str, JSON]]]] = (
    ("good, first second", {}, None, {}),
    ("good, last second", {}, None, {"at": BEGIN + MONTH - 1}),
    ("good, services only", {"principals": ["service"]}, None, {"principal": "service"}),
    ("good, deeper origin", {"origin": f"{FLEET}c/d"}, None, {}),
    ("good, exact origin", {"origin": "fleet.example/one"}, None, {"root": "exact-root"}),
    ("not valid yet", {}, "key_not_valid_then", {"at": BEGIN - 1}),
    ("expired", {}, "key_not_valid_then", {"at": BEGIN + MONTH}),
    ("too long", {"exp": BEGIN + MONTH + 1}, MALFORMED, {}),
    ("ends before it begins", {"exp": BEGIN}, MALFORMED, {}),
    ("signed for another log", {}, "wrong_origin", {"origin": f"{FLEET}pod-2"}),
    ("half a segment", {"origin": "fleet.example/a/bc"}, "wrong_origin", {}),
    ("half a segment, deeper", {"origin": "fleet.example/a/bc/d"}, "wrong_origin", {}),
    ("the prefix without its end", {"origin": "fleet.example/a/b"}, "wrong_origin", {}),
    ("the prefix itself", {"origin": FLEET}, MALFORMED, {}),
    ("a prefix below it", {"origin": f"{FLEET}c/"}, MALFORMED, {}),
    ("an empty segment", {"origin": f"{FLEET}/c"}, "wrong_origin", {}),
    ("up and down again", {"origin": f"{FLEET}../b/c"}, "wrong_origin", {}),
    ("in other letters", {"origin": "fleet.example/A/b/c"}, "wrong_origin", {}),
    ("below an exact origin", {"origin": "fleet.example/one/two"}, "wrong_origin", {"root": "exact-root"}),
    ("for everything", {"origin": ""}, MALFORMED, {}),
    ("a kind of principals too many", {"principals": ["service"]}, "wrong_principal", {}),
    ("an unknown kind of principals", {"principals": ["human", "root"]}, MALFORMED, {}),
    ("kinds out of order", {"principals": ["service", "human"]}, MALFORMED, {}),
    ("for nobody", {"principals": []}, MALFORMED, {}),
    (
        "another issuer than its root may name",
        {"origin": "fleet.example/one", "issuer": {"key": POD["issuer"].public_key.to_jwk(), "uri": ISSUER_URI}},
        "wrong_issuer",
        {"root": "exact-root"},
    ),
    ("another typ", {}, "wrong_type", {"typ": "agent-approval+jwt"}),
    ("signed by a policy key", {}, "unknown_key", {"root": "policy"}),
    ("a root that had ended", {"origin": "fleet.example/ended/pod"}, "key_not_valid_then", {"root": "ended-root"}),
    ("a root that is revoked", {"origin": "fleet.example/revoked/pod"}, "key_revoked", {"root": "revoked-root"}),
    (
        "dated after its root was revoked",
        {"origin": "fleet.example/revoked/pod", "nbf": BEGIN + 86_400},
        "signed_after_revocation",
        {"root": "revoked-root", "at": BEGIN + 86_400},
    ),
    ("a claim too many", {"aud": "x"}, MALFORMED, {}),
    ("a claim too few", {"principals": None}, MALFORMED, {}),
    ("a private key", {"recorder": {**POD["recorder"].public_key.to_jwk(), "d": "AA"}}, MALFORMED, {}),
    ("a point that anyone can sign for", {"recorder": {"crv": "Ed25519", "kty": "OKP", "x": "A" * 43}}, MALFORMED, {}),
    ("one key for both", {"recorder": POD["issuer"].public_key.to_jwk()}, MALFORMED, {}),
)
"""By name: what is different in its claims, why it does not count, and by whom, as what and for what it is used."""


def log_proof(evidence: Path) -> bytes:
    """Return the proof file (c2sp.org/tlog-proof) of the second entry of the log."""
    reader = open_ledger(evidence)
    entries = [line.record for line in reader.log_entries() if line.record is not None]
    note = reader.checkpoint()
    if note is None:
        raise AssertionError("expected a checkpoint")
    return format_proof(LogProof(1, inclusion_proof([leaf_hash(entry) for entry in entries], 1), note))


def spans_as_otlp(spans: Sequence[ReadableSpan]) -> bytes:
    """Return the spans as OTLP/JSON, a line for each, by no library but this."""
    documents = [
        {
            "resourceSpans": [
                {
                    "resource": {"attributes": [attribute("service.name", SERVICE)]},
                    "scopeSpans": [{"scope": {"name": "agent_identity"}, "spans": [span_as_otlp(span)]}],
                }
            ]
        }
        for span in spans
    ]
    lines = [json.dumps(document, separators=(",", ":"), ensure_ascii=False) for document in documents]
    return ("\n".join(lines) + "\n").encode()


def span_as_otlp(span: ReadableSpan) -> dict[str, object]:
    """Return one span as OTLP/JSON."""
    found: dict[str, object] = {
        "traceId": f"{span.context.trace_id:032x}",
        "spanId": f"{span.context.span_id:016x}",
    }
    if span.parent is not None:
        found["parentSpanId"] = f"{span.parent.span_id:016x}"
    status: dict[str, object] = {"code": span.status.status_code.value}
    if span.status.description:
        status["message"] = span.status.description
    return {
        **found,
        "name": span.name,
        "kind": span.kind.value + 1,
        "startTimeUnixNano": str(span.start_time),
        "endTimeUnixNano": str(span.end_time),
        "attributes": [attribute(key, value) for key, value in sorted((span.attributes or {}).items())],
        "status": status,
    }


def attribute(key: str, value: object) -> dict[str, object]:
    """Return one attribute as OTLP/JSON."""
    if isinstance(value, bool):
        return {"key": key, "value": {"boolValue": value}}
    if isinstance(value, str):
        return {"key": key, "value": {"stringValue": value}}
    if isinstance(value, Sequence):
        return {"key": key, "value": {"arrayValue": {"values": [{"stringValue": item} for item in value]}}}
    raise TypeError(f"expected strings, arrays of strings and booleans on spans, got {type(value).__name__}")


def files_of(folder: Path) -> dict[str, bytes]:
    """Return the vectors in a folder by their names."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix not in {".md", ".py", ".pyc"})
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def differences(stored: Path) -> list[str]:
    """Return the names of the vectors that are not what the code makes now, are missing, or are left over."""
    with tempfile.TemporaryDirectory() as folder:
        build(Path(folder))
        made, kept = files_of(Path(folder)), files_of(stored)
    return sorted(name for name in made.keys() | kept.keys() if made.get(name) != kept.get(name))


def main() -> int:
    """Write the vectors, or compare them."""
    parser = argparse.ArgumentParser(description="Build the golden vectors, or check them.")
    parser.add_argument("--check", action="store_true", help="change nothing; exit with 1 if a file differs")
    if not parser.parse_args().check:
        for name in differences(HERE):
            (HERE / name).unlink(missing_ok=True)
        build(HERE)
        return 0
    changed = differences(HERE)
    for name in changed:
        sys.stdout.write(f"tests/vectors/{name} is not what the code makes\n")
    sys.stdout.write("a format changed; if that is meant: python tests/vectors/build_vectors.py\n" if changed else "")
    sys.stdout.write(f"{len(files_of(HERE))} golden files, {len(changed)} of them changed\n")
    return 1 if changed else 0


if __name__ == "__main__":
    sys.exit(main())
