"""What the fuzzer feeds, each a function of bytes that returns or raises only what its room promises.

Whatever a stranger sends is answered with one of the errors of the library. Anything else that comes out, a
crash, a hang or another exception, is a finding. Some targets sign what they are given, because no fuzzer
finds a signature, and what lies behind it has to stand too.
"""

import gzip
import io
import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

import zstandard
from google.protobuf.json_format import MessageToJson
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from agent_identity import Agent, Human, Scope, records
from agent_identity._authority.grants.chain import verify_chain
from agent_identity._authority.grants.grants import GRANT_TYPE, Chain, derive, issue
from agent_identity._authority.grants.proof_of_possession import PROOF_TYPE, prove, verify_proof
from agent_identity._authority.registries.revocations import (
    REVOCATIONS_TYPE,
    Revocation,
    RevocationList,
    read_revocations,
)
from agent_identity._identity.common.encoding import b64url_decode, b64url_encode
from agent_identity._identity.foreign.jwt import read_token
from agent_identity._identity.keys.jws import parse_compact
from agent_identity._identity.trust.certificates import CERTIFICATE_TYPE, trusted_certificate
from agent_identity._spans.displayed_values import likeness
from agent_identity._spans.envelope import Attestation, sign_record
from agent_identity._spans.otlp_json import Malformed
from agent_identity._spans.otlp_reader import read_spans
from agent_identity._spans.pasted_spans import PastedSpan, read_pasted
from agent_identity._spans.span_attributes import mirrored_attributes
from agent_identity._storage.byte_reader import ByteReader
from agent_identity._storage.decompress import Inflating, is_compressed
from agent_identity._storage.lines import log_line, log_parts, stream_line, stream_parts
from agent_identity.canonical import decode, encode
from agent_identity.constraints import AllOf, OneOf, PathWithin, Range
from agent_identity.errors import AgentIdentityError, TokenError
from agent_identity.identity import (
    AgentRegistry,
    Certificate,
    FileVersion,
    KeySet,
    PublicKey,
    SigningKey,
    TrustedKey,
    TrustStore,
    read_inbound,
)

if (folder := str(Path(__file__).parent)) not in sys.path:  # Loaded by its path in the tests, as a program elsewhere.
    sys.path.append(folder)
import checkpoints

__all__ = ["CORPUS", "TARGETS", "seeds"]

CORPUS: Final = Path(__file__).parent / "corpus"
"""A folder for each target: what once reached something new, and every input that was ever a finding."""

VECTORS: Final = Path(__file__).parents[1] / "vectors"
REGISTRY: Final = VECTORS / "agents.jsonl"
ISSUER: Final = SigningKey.from_seed(b"\x01" * 32)
HOLDER: Final = SigningKey.from_seed(b"\x02" * 32)
NOW: Final = 1_800_000_000
KID: Final = ISSUER.public_key.thumbprint
CHAIN: Final = Chain(
    (
        issue(
            ISSUER,
            issuer="urn:example:issuer",
            task_id="task-1",
            principal=Human("alice"),
            agent=Agent("clerk", owner="finance"),
            holder=HOLDER.public_key,
            scope=Scope("read"),
            now=NOW,
            ttl=300,
            id="01957a3f-4e23-7b01-a9d1-000000000001",
        ),
    )
)

DOCUMENT: Final = json.loads((VECTORS / "spans.jsonl").read_bytes().splitlines()[0])
SPAN: Final = DOCUMENT["resourceSpans"][0]["scopeSpans"][0]["spans"][0]
RECORD: Final = b64url_decode(
    next(pair["value"]["stringValue"] for pair in SPAN["attributes"] if pair["key"].endswith("attestation.payload"))
)

TARGETS: Final[dict[str, Callable[[bytes], None]]] = {}


def target(function: Callable[[bytes], None]) -> Callable[[bytes], None]:
    """Register a target under the name of its function."""
    TARGETS[function.__name__] = function
    return function


def anchors(kid: str) -> PublicKey:
    """Trust the one issuer key."""
    if kid != KID:
        raise TokenError("expected a known key", code="unknown_key")
    return ISSUER.public_key


def signed(payload: bytes, typ: str, key: SigningKey, *, kid: bool = True) -> str:
    """Return a token over any payload; that it is no JSON is the reader's business."""
    header = {"alg": "EdDSA", "typ": typ} | ({"kid": key.public_key.thumbprint} if kid else {})
    signing_input = f"{b64url_encode(encode(header))}.{b64url_encode(payload)}"
    return f"{signing_input}.{b64url_encode(key.sign(signing_input.encode()))}"


@target
def token(data: bytes) -> None:
    """A token as a stranger writes it: taken apart, it has one spelling."""
    text = data.decode("utf-8", "surrogateescape")
    try:
        parts = parse_compact(text)
    except TokenError:
        return
    assert parts.signing_input.decode() + "." + b64url_encode(parts.signature) == text


@target
def chain(data: bytes) -> None:
    """Tokens as a stranger sends them in a header: only what the issuer signed is accepted."""
    tokens = data.decode("utf-8", "surrogateescape").split("~")
    try:
        verify_chain(tokens, anchors=anchors, issuer=None, now=NOW)
    except AgentIdentityError:
        return
    made = b"~".join(seeds("chain")).decode().split("~")
    assert set(tokens) <= set(made)


@target
def root_claims(data: bytes) -> None:
    """The claims of a root behind a good signature."""
    text = signed(data, GRANT_TYPE, ISSUER)
    try:
        accepted = verify_chain((text,), anchors=anchors, issuer=None, now=NOW)
    except AgentIdentityError:
        return
    assert accepted.leaf.issued_at < accepted.leaf.expires_at
    assert encode(decode(data)) == data


@target
def child_claims(data: bytes) -> None:
    """The claims of a child behind a good signature: whatever is accepted permits no more than its parent."""
    text = signed(data, GRANT_TYPE, HOLDER, kid=False)
    try:
        accepted = verify_chain((*CHAIN.tokens, text), anchors=anchors, issuer=None, now=NOW)
    except AgentIdentityError:
        return
    CHAIN.leaf.scope.check_attenuates(accepted.leaf.scope)
    assert accepted.leaf.expires_at <= CHAIN.leaf.expires_at
    assert accepted.leaf.principal == CHAIN.leaf.principal


@target
def proof_claims(data: bytes) -> None:
    """The claims of a proof of possession behind a good signature."""
    text = signed(data, PROOF_TYPE, HOLDER, kid=False)
    try:
        verify_proof(text, CHAIN, tool="read", arguments={}, audience="here", now=NOW)
    except AgentIdentityError:
        return
    assert b'"aat_tool":"read"' in data


@target
def revocations(data: bytes) -> None:
    """A list of revocations behind a good signature: what is read is written again byte for byte."""
    text = signed(data, REVOCATIONS_TYPE, ISSUER).encode()
    try:
        listed = read_revocations(text, anchors=anchors, issuer="urn:example:issuer")
    except AgentIdentityError:
        return
    assert listed.sign(ISSUER, issuer="urn:example:issuer") == text


@target
def certificate_claims(data: bytes) -> None:
    """The claims of a certificate behind the good signature of a root: what is read is signed again byte for byte."""
    text = signed(data, CERTIFICATE_TYPE, ISSUER)
    root = TrustedKey(key=ISSUER.public_key, purpose="root", origin="urn/")
    try:
        found, _ = trusted_certificate(text, TrustStore(keys=(root,)))
    except AgentIdentityError:
        return
    assert found.sign(ISSUER) == text


@target
def trust(data: bytes) -> None:
    """A trust file as anybody may write it."""
    try:
        store = TrustStore.load(data)
    except AgentIdentityError:
        return
    assert TrustStore.load(store.to_json()) == store


@target
def key_set(data: bytes) -> None:
    """A JWK Set as an identity provider, or whoever stands in its place, serves it."""
    try:
        KeySet.parse(data)
    except AgentIdentityError:
        return


@target
def foreign_token(data: bytes) -> None:
    """A token of an identity provider before its signature is checked."""
    try:
        parts = read_token(data.decode("utf-8", "surrogateescape"))
    except AgentIdentityError:
        return
    assert parts.hash


@target
def inbound(data: bytes) -> None:
    """The claims of a token of others whose signature somebody else checked."""
    head = b64url_encode(b'{"alg":"ES256","typ":"at+jwt"}')
    text = f"{head}.{b64url_encode(data)}.{b64url_encode(bytes(64))}"
    try:
        read = read_inbound(text, jwks=None, issuer="urn:example:idp", audience="here", subject=Human, now=NOW)
    except AgentIdentityError:
        return
    assert read.principal.provenance == "asserted"


@target
def registry(data: bytes) -> None:
    """A registry of agents as anybody may write it."""
    trusted = TrustStore(keys=(TrustedKey(key=ISSUER.public_key, purpose="issuer"),), issuer="urn:example:issuer")
    try:
        AgentRegistry.from_bytes(data, trusted)
    except AgentIdentityError:
        return


@target
def otlp_json(data: bytes) -> None:
    """A file of OTLP/JSON as anybody may write it: each part is a span or is named."""
    for item in read_spans(io.BytesIO(data)):
        assert isinstance(item, Malformed) or (len(item.trace_id), len(item.span_id)) == (32, 16)


@target
def otlp_protobuf(data: bytes) -> None:
    """A file of OTLP in Protocol Buffers, of any framing: each part is a span or is named."""
    try:
        for item in read_spans(io.BytesIO(data)):
            assert isinstance(item, Malformed) or (len(item.trace_id), len(item.span_id)) == (32, 16)
    except OSError:  # A compressed file that is damaged.
        assert is_compressed(data)


@target
def compressed(data: bytes) -> None:
    """A compressed file of traces: what is read is what the library that made it reads, or the file is damaged."""
    if not is_compressed(data):
        return
    source = Inflating(data[:8], ByteReader.of(io.BytesIO(data))).reader
    try:
        content = b"".join(iter(lambda: source.readline(65_536), b""))
    except OSError:
        return
    if data.startswith(b"\x1f"):
        assert content == gzip.decompress(data)
    else:
        with zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True) as reader:
            assert content == reader.read()


@target
def pasted(data: bytes) -> None:
    """JSON of any shape: each part is a span or is named, and any id can be compared."""
    for item in read_pasted(data):
        if isinstance(item, PastedSpan):
            for shown in (*item.trace_ids, *item.span_ids):
                assert likeness(shown, "0" * 31 + "1") in ("same", "tail", "other", "unknown")


@target
def envelope(data: bytes) -> None:
    """A DSSE envelope as a stranger writes it: only what the key signed is opened."""
    try:
        record = Attestation.from_envelope(data).open(anchors)
    except AgentIdentityError:
        return
    assert record == RECORD


@target
def ledger_line(data: bytes) -> None:
    """A line of a stream or of the log as anybody may write it: what is read is written again byte for byte."""
    if parts := log_parts(data):
        assert log_line(b64url_decode(parts[1]), parts[0]) == data + b"\n"
    if not (line := stream_parts(data)):
        return
    parts = line
    assert stream_line(b64url_decode(line[1]), line[0], line[2]) == data + b"\n"
    try:
        record = records.decode(line[0])
    except ValueError:
        return
    assert records.encode(record) == line[0]
    assert mirrored_attributes(record)


def message() -> ExportTraceServiceRequest:
    """Return a small export: every kind of value, and every member that is read."""
    request = ExportTraceServiceRequest()
    group = request.resource_spans.add()
    group.resource.attributes.add(key="service.name").value.string_value = "shop"
    scope = group.scope_spans.add()
    scope.scope.name = "agent_identity"
    span = scope.spans.add(trace_id=b"0" * 16, span_id=b"1" * 8, parent_span_id=b"2" * 8, name="n")
    span.status.code = span.status.STATUS_CODE_ERROR
    values = [span.attributes.add(key=f"a{number}").value for number in range(6)]
    values[0].bool_value, values[1].int_value, values[2].double_value, values[3].bytes_value = True, 5, 0.5, b"x"
    values[4].array_value.values.add().string_value = "é"
    values[5].kvlist_value.values.add(key="k").value.string_value = "v"
    return request


def evidence_seeds() -> dict[str, tuple[bytes, ...]]:
    """Return good inputs for the readers of evidence."""
    binary = message().SerializeToString()
    attestation = sign_record(RECORD, ISSUER)
    flat = {pair["key"]: pair["value"]["stringValue"] for pair in SPAN["attributes"] if "stringValue" in pair["value"]}
    nested = {"agent_identity": {"attestation": {"payload": "x"}, "record": {"id": "1"}, "delegation.chain.0": "a"}}
    shapes = [
        {"traceID": "0xab", "spanID": "1", "tags": [{"key": name, "value": flat[name]} for name in sorted(flat)[:9]]},
        {"context": {"trace_id": 5, "span_id": "AAAAAAAAAAE="}, "attributes": nested},
        {"row": json.dumps({"attributes": nested}), "SpanAttributes.agent_identity.record.id": "1"},
    ]
    line = stream_line(bytes(32), RECORD)[:-1]
    return {
        "otlp_json": (json.dumps(DOCUMENT).encode(), MessageToJson(message()).encode()),
        "otlp_protobuf": (binary, bytes([len(binary)]) + binary, len(binary).to_bytes(4, "big") + binary),
        "pasted": tuple(json.dumps(shape).encode() for shape in shapes),
        "envelope": (attestation.to_envelope(),),
        "ledger_line": (line, log_line(bytes(32), b'{"stream":"x"}')[:-1]),
    }


for function in (checkpoints.note, checkpoints.checkpoint_text, checkpoints.verifier_key, checkpoints.witness_request):
    target(function)


def seeds(name: str) -> tuple[bytes, ...]:
    """Return good inputs for a target, from which the fuzzer finds the others sooner."""
    scope = Scope({"read": {}, "pay": {"amount": AllOf(Range(max=100), OneOf(1, 2)), "path": PathWithin("/data")}})
    root = issue(
        ISSUER,
        issuer="urn:example:issuer",
        task_id="task-1",
        principal=Human("alice", issuer="https://idp.example.com", roles=("clerk",)),
        agent=Agent("clerk", owner="finance", version="1"),
        holder=HOLDER.public_key,
        scope=scope,
        now=NOW,
        ttl=300,
        id="01957a3f-4e23-7b01-a9d1-000000000002",
    )
    uuid = "01957a3f-4e23-7b01-a9d1-000000000003"
    shared = {"holder": ISSUER.public_key, "now": NOW, "ttl": 60, "id": uuid}
    child = derive(CHAIN, HOLDER, agent=Agent("reader", owner="archive"), scope=Scope("read", path="/a"), **shared)
    proof = prove(CHAIN, HOLDER, tool="read", arguments={}, audience="here", now=NOW, id=uuid)
    listed = RevocationList(3, NOW, (Revocation("agent", "clerk", since=NOW, reason="stolen"),))
    signed_list = listed.sign(ISSUER, issuer="urn:example:issuer")
    keys, file = (TrustedKey(key=ISSUER.public_key, purpose="issuer"),), FileVersion("urn:x")
    store = TrustStore(keys, issuer="urn:x", origin="x/y", file=file)
    certificate = Certificate(
        recorder=HOLDER.public_key,
        origin="urn/pod",
        issuer_key=SigningKey.from_seed(b"\x03" * 32).public_key,
        issuer="urn:x",
        principals=("human", "service"),
        not_before=NOW,
        expires_at=NOW + 60,
    )
    known: dict[str, tuple[bytes, ...]] = {
        "token": (root.token.encode(), signed_list),
        "chain": ("~".join((*CHAIN.tokens, child.token)).encode(), root.token.encode()),
        "root_claims": tuple(parse_compact(grant.token).payload for grant in (root, CHAIN.root)),
        "child_claims": (parse_compact(child.token).payload,),
        "proof_claims": (parse_compact(proof).payload,),
        "revocations": (parse_compact(signed_list.decode()).payload,),
        "trust": (store.to_json(), (VECTORS / "signed-trust.json").read_bytes()),
        "certificate_claims": (parse_compact(certificate.sign(ISSUER)).payload,),
        "key_set": (encode({"keys": [{**ISSUER.public_key.to_jwk(), "kid": "k", "use": "sig"}]}),),
        "foreign_token": (root.token.encode(), proof.encode()),
        "inbound": (
            encode(
                {
                    "iss": "urn:example:idp",
                    "sub": "alice",
                    "aud": "here",
                    "iat": NOW,
                    "exp": NOW + 60,
                    "client_id": "web",
                    "jti": "1",
                    "act": {"sub": "planner", "act": {"sub": "web"}},
                }
            ),
        ),
        **evidence_seeds(),
        "registry": (REGISTRY.read_bytes(),),
        "compressed": tuple(
            b"".join(map(pack, parts))
            for pack in (partial(gzip.compress, mtime=0), zstandard.compress)
            # A member that is read in several steps, with others around it.
            for parts in ((b"{}\n",), (b"", b"{}\n", b""), (b"a", bytes(600_000), b"b"))
        ),
    }
    return known.get(name) or checkpoints.SEEDS.get(name, ())
