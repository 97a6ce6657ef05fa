"""DSSE envelopes: the published vectors, a foreign implementation, and no room for forgery."""

import importlib
import json
import random
import re
from base64 import b64decode, b64encode, urlsafe_b64encode
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plain_records import check_record

from agent_identity._identity.common.encoding import b64url_decode, b64url_encode
from agent_identity._identity.common.ids import id_of
from agent_identity._identity.common.record_bytes import encode_record
from agent_identity._ledger.transparency.merkle import leaf_hash
from agent_identity._spans.envelope import (
    DIGEST_ATTRIBUTE,
    MAX_PAYLOAD,
    PAYLOAD_TYPE,
    Attestation,
    pae,
    sign_record,
    signed_attributes,
)
from agent_identity.errors import TokenError, VerificationError
from agent_identity.identity import PublicKey, SigningKey

KEY = SigningKey.from_seed(bytes([4]) * 32)
OTHER = SigningKey.from_seed(bytes([5]) * 32)
RECORD = b'{"kind":"outcome"}'
ATTESTATION = sign_record(RECORD, KEY)


def _trusted(keyid: str) -> PublicKey:
    if keyid != KEY.public_key.thumbprint:
        raise TokenError("unknown", code="unknown_key")
    return KEY.public_key


def _refusal(attestation: Attestation) -> str:
    with pytest.raises(VerificationError) as caught:
        attestation.open(_trusted)
    return caught.value.code


def test_published_encoding() -> None:
    """The example of the DSSE protocol comes out byte for byte."""
    expected = b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    assert pae("http://example.com/HelloWorld", b"hello world") == expected


def test_lengths_count_bytes() -> None:
    """What is not ASCII has more bytes than characters, and the bytes count."""
    assert pae("é", "€".encode()) == b"DSSEv1 2 \xc3\xa9 3 \xe2\x82\xac"


def test_worked_example(shared_vectors: Path) -> None:
    """Envelope, digest, signature and leaf of the published records come out byte for byte."""
    vectors: dict[str, Any] = json.loads((shared_vectors / "agent_identity_v1.json").read_text("utf-8"))
    assert vectors["records"]
    for record in vectors["records"]:
        body = record["payload_jcs"].encode("utf-8")
        attestation = sign_record(body, KEY)
        assert json.loads(attestation.to_envelope()) == record["envelope"]
        assert f"sha256:{b64url_decode(attestation.digest).hex()}" == record["payload_sha256"]
        assert attestation.signature == record["sig_b64u"]
        assert leaf_hash(attestation.to_envelope()) == b64decode(record["leaf_hash_b64"])
        assert attestation.open(_trusted) == body


@given(st.binary())
def test_foreign_implementation_agrees(body: bytes) -> None:
    """The library securesystemslib reads our envelope and signs the very same bytes."""
    dsse = pytest.importorskip("securesystemslib.dsse")
    signer = importlib.import_module("securesystemslib.signer")
    raw = KEY.public_key.raw.hex()
    key = signer.SSlibKey(KEY.public_key.thumbprint, "ed25519", "ed25519", {"public": raw})
    envelope = dsse.Envelope.from_dict(json.loads(sign_record(body, KEY).to_envelope()))
    assert envelope.pae() == pae(PAYLOAD_TYPE, body)
    assert envelope.payload == body
    assert envelope.verify([key], 1).keys() == {KEY.public_key.thumbprint}


@given(st.binary())
def test_a_record_survives_attributes_and_envelope(body: bytes) -> None:
    """Both carriers give back the attestation, and it opens to the signed bytes."""
    attestation = sign_record(body, KEY)
    assert Attestation.from_attributes(attestation.to_attributes()) == attestation
    assert Attestation.from_envelope(attestation.to_envelope()) == attestation
    assert attestation.open(_trusted) == body


def test_attributes_are_plain_strings() -> None:
    """A span gets five strings, and the digest names the record even without its payload."""
    attributes = ATTESTATION.to_attributes()
    assert sorted(attributes) == [
        "agent_identity.attestation.digest",
        "agent_identity.attestation.keyid",
        "agent_identity.attestation.payload",
        "agent_identity.attestation.payload_type",
        "agent_identity.attestation.signature",
    ]
    assert all(type(value) is str for value in attributes.values())
    assert attributes[DIGEST_ATTRIBUTE] == ATTESTATION.digest
    assert "=" not in attributes["agent_identity.attestation.payload"]


@given(st.data())
def test_no_bit_of_record_or_signature_can_change(data: st.DataObject) -> None:
    """Flip any bit of the record or the signature, with the digest made to fit: it does not open."""
    body, signature = bytearray(RECORD), bytearray(b64url_decode(ATTESTATION.signature))
    target = data.draw(st.sampled_from([body, signature]))
    target[data.draw(st.integers(0, len(target) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    forged = replace(
        sign_record(bytes(body), OTHER), signature=b64url_encode(bytes(signature)), keyid=ATTESTATION.keyid
    )
    assert _refusal(forged) == "bad_signature"


def test_what_is_proved_otherwise_needs_no_good_signature() -> None:
    """The signature alone is not looked at then; key, type and digest are, and what is not proved is verified."""
    forged = replace(ATTESTATION, signature="A" * 86)
    seen: list[bytes] = []

    def proved(body: bytes) -> bool:
        seen.append(body)
        return True

    assert forged.open(lambda _: KEY.public_key, proved) == RECORD
    assert seen == [RECORD]
    with pytest.raises(VerificationError) as caught:
        forged.open(lambda _: KEY.public_key, lambda _: False)
    assert caught.value.code == "bad_signature"
    for changes, code in (
        ({"digest": "0" * 43}, "bad_digest"),
        ({"payload_type": "x"}, "unknown_payload_type"),
    ):
        with pytest.raises(VerificationError) as caught:
            replace(forged, **changes).open(lambda _: KEY.public_key, proved)
        assert caught.value.code == code


def test_the_digest_must_fit() -> None:
    """A digest that names another record would lead a reader to the wrong one."""
    assert _refusal(replace(ATTESTATION, digest="0" * 43)) == "bad_digest"


def test_other_payload_types_are_refused() -> None:
    """What was signed as something else is no record, even if the signature is good."""
    kind = "application/vnd.in-toto+json"
    signature = b64url_encode(KEY.sign(pae(kind, RECORD)))
    assert _refusal(replace(ATTESTATION, payload_type=kind, signature=signature)) == "unknown_payload_type"
    assert _refusal(replace(ATTESTATION, signature=signature)) == "bad_signature"


def test_the_keyid_decides_nothing() -> None:
    """Another keyid leads to another key, under which the signature does not hold."""
    with pytest.raises(TokenError) as caught:
        replace(ATTESTATION, keyid="elsewhere").open(_trusted)
    assert caught.value.code == "unknown_key"
    with pytest.raises(VerificationError) as failed:
        ATTESTATION.open(lambda _: OTHER.public_key)
    assert failed.value.code == "bad_signature"
    assert replace(ATTESTATION, keyid="[Scrubbed due to 'x']").open(lambda _: KEY.public_key) == RECORD


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("payload", ATTESTATION.payload + "="),
        ("payload", ATTESTATION.payload[:-3] + "*"),
        ("payload", "AB"),
        ("payload", "[Scrubbed due to 'auth']"),
        ("payload", "A" * (4 * MAX_PAYLOAD // 3 + 5)),
        ("payload", 1),
        ("signature", ATTESTATION.signature + "=="),
        ("signature", ATTESTATION.signature[:-1]),
        ("signature", "A" * 85 + "B"),  # Bits after the last byte.
        ("signature", "+" * 85 + "A"),
        ("signature", ATTESTATION.signature[:-1] + "\n"),
        ("signature", ATTESTATION.signature + "A"),
        ("signature", "00" * 64),
        ("signature", None),
        ("keyid", b"bytes"),
        ("keyid", "x" * 257),
        ("keyid", "\ud800"),
        ("payload_type", ["list"]),
        ("payload_type", "é"),
        ("digest", "sha256:" + "0" * 43),
        ("digest", ATTESTATION.digest[:-1]),
        ("digest", True),
    ],
)
def test_cut_scrubbed_and_retyped_parts(field: str, value: object) -> None:
    """What a store has damaged is malformed, whatever type it made of it."""
    attributes: dict[str, object] = {**ATTESTATION.to_attributes(), f"agent_identity.attestation.{field}": value}
    with pytest.raises(VerificationError, match="malformed attestation") as caught:
        Attestation.from_attributes(attributes)
    assert caught.value.code == "bad_attestation"


def test_absent_and_partial_attestations_are_told_apart() -> None:
    """A span without evidence is not a span whose evidence was partly removed."""
    with pytest.raises(VerificationError) as none:
        Attestation.from_attributes({"gen_ai.tool.name": "pay"})
    assert none.value.code == "no_attestation"
    with pytest.raises(VerificationError, match="lacks payload, payload_type, signature, keyid;") as partial:
        Attestation.from_attributes({DIGEST_ATTRIBUTE: ATTESTATION.digest})
    assert partial.value.code == "partial_attestation"


def test_envelopes_of_others_may_be_spelled_otherwise() -> None:
    """Url-safe base64, missing padding, unknown members and a missing keyid are all DSSE."""
    signature = b64url_decode(ATTESTATION.signature)
    envelope = {
        "payload": urlsafe_b64encode(RECORD).decode().rstrip("="),
        "payloadType": PAYLOAD_TYPE,
        "signatures": [{"sig": urlsafe_b64encode(signature).decode(), "more": 1}],
        "unknown": [{}],
    }
    read = Attestation.from_envelope(json.dumps(envelope, indent=2).encode())
    assert read == replace(ATTESTATION, keyid="")
    assert read.open(lambda _: KEY.public_key) == RECORD


SIGNATURE = {"sig": b64encode(bytes(64)).decode(), "keyid": "k"}
ENVELOPE: dict[str, object] = {"payload": "AAAA", "payloadType": PAYLOAD_TYPE, "signatures": [SIGNATURE]}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b"[" * 10_000,
        b" " * (3 * 4 * MAX_PAYLOAD),
        json.dumps({**ENVELOPE, "signatures": []}).encode(),
        json.dumps({**ENVELOPE, "signatures": [SIGNATURE, SIGNATURE]}).encode(),
        json.dumps({**ENVELOPE, "signatures": "x"}).encode(),
        json.dumps({**ENVELOPE, "signatures": ["x"]}).encode(),
        json.dumps({**ENVELOPE, "signatures": [{"sig": "AAAA"}]}).encode(),
        json.dumps({**ENVELOPE, "signatures": [{**SIGNATURE, "keyid": None}]}).encode(),
        json.dumps({**ENVELOPE, "payload": 1}).encode(),
        json.dumps({**ENVELOPE, "payload": "é"}).encode(),
        json.dumps({**ENVELOPE, "payload": "A"}).encode(),
        json.dumps({**ENVELOPE, "payload": "AA AA"}).encode(),
        json.dumps({**ENVELOPE, "payloadType": None}).encode(),
    ],
)
def test_malformed_envelopes(data: bytes) -> None:
    """Every malformed envelope ends in the one error."""
    with pytest.raises(VerificationError) as caught:
        Attestation.from_envelope(data)
    assert caught.value.code == "bad_attestation"


def test_a_record_too_large_to_read_is_not_signed() -> None:
    """The bound on reading binds signing too."""
    sign_record(bytes(MAX_PAYLOAD), KEY)
    with pytest.raises(ValueError, match="larger than 4194304 bytes"):
        sign_record(bytes(MAX_PAYLOAD + 3), KEY)


POLICY = ("rule", "digest")


def _record(random_: random.Random, seq: int, *, policy: bool) -> dict[str, Any]:
    """A record of a call by a sub-agent for an agent for a human, with every usual member."""

    def digest() -> str:
        return b64url_encode(random_.randbytes(32))

    def new_id() -> str:
        return id_of(1_764_000_000_000_000_000 + random_.randrange(10**16), random_.randbytes(8))

    start = 1_764_000_000_000_000_000 + random_.randrange(10**16)
    record: dict[str, Any] = {
        "v": "1",
        "id": new_id(),
        "kind": "outcome",
        "stream": {"id": new_id(), "seq": str(seq), "prev": digest()},
        "time": {"start": str(start), "end": str(start + random_.randrange(10**9))},
        "trace": {"trace": random_.randbytes(16).hex(), "span": random_.randbytes(8).hex()},
        "task": {"id": new_id()},
        "principal": {
            "id": "alice@example.com",
            "kind": "human",
            "issuer": "https://idp.example.com",
            "provenance": "asserted",
        },
        "agent": {"id": "payments-agent", "owner": "team:payments", "version": "2.3.1"},
        "chain": [
            {"id": "invoice-agent", "grant": digest()},
            {"id": "payments-agent", "grant": digest()},
        ],
        "action": {
            "tool": "pay_invoice",
            "kind": "function",
            "call": f"call_{random_.randbytes(12).hex()}",
            "args": digest(),
            "result": digest(),
        },
        "decision": {
            "effect": "allow",
            "enforced": "allow",
            "mode": "enforce",
            "reason": "policy_allows",
            "rule": "payments-limit",
            "digest": digest(),
        },
        "outcome": "success",
        "intent": new_id(),
    }
    if not policy:
        record["decision"] = {name: fact for name, fact in record["decision"].items() if name not in POLICY}
    return record


def _needles(patterns: list[str]) -> tuple[list[str], list[re.Pattern[str]]]:
    """Split patterns into words without which they cannot match, and those for which no word is found."""
    words: list[str] = []
    others: list[re.Pattern[str]] = []
    for pattern in patterns:
        plain = re.sub(r"\((?:[^()]|\([^()]*\))*\)|\[[^]]*\]\?", " ", pattern)
        if re.fullmatch(r"[a-z_ ]+", plain) and plain.strip():
            words.append(max(plain.split(), key=len))
        else:
            others.append(re.compile(pattern))
    return words, others


def test_scrubbers_leave_the_evidence_alone(drawn: Callable[[range], Sequence[int]]) -> None:
    """Of 100,000 realistic spans, a real scrubber finds one word in fewer than 2 of 1,000; all are short enough."""
    patterns = pytest.importorskip("logfire._internal.scrubbing").DEFAULT_PATTERNS
    scrubber = re.compile("|".join(patterns), re.IGNORECASE | re.DOTALL)
    # The whole pattern costs a millisecond per payload; where none of its words occurs, it cannot match.
    words, others = _needles(patterns)
    assert len(words) > len(others)
    random_ = random.Random(7)  # noqa: S311 - Repeatable test data.
    check_record(_record(random_, 2, policy=True))
    for name in ATTESTATION.to_attributes():
        assert not scrubber.search(name)
    hits: list[str] = []
    longest = {False: 0, True: 0}
    sequence = drawn(range(2, 100_002))
    for seq in sequence:
        policy = bool(seq % 2)
        payload = b64url_encode(encode_record(_record(random_, seq, policy=policy)))
        # A signature is 64 bytes that look random; making 100,000 real ones would only take longer.
        text = f"{payload} {b64url_encode(random_.randbytes(64))}"
        longest[policy] = max(longest[policy], len(payload))
        lower = text.lower()
        if any(word in lower for word in words) or any(other.search(lower) for other in others):
            hits.extend(match[0] for match in scrubber.finditer(text))
    # Base64url of random bytes spells the shortest of the words now and then.
    assert {hit.lower() for hit in hits} <= {"auth"}
    assert len(hits) < len(sequence) / 500
    assert max(longest.values()) < 1_550


def test_the_search_of_the_scrubber_test_finds() -> None:
    """The shortcut of the test above overlooks none of the patterns."""
    words, others = _needles(["auth(?!ors?\\b)", "(?:access|(?:\\b|_)id)[._ -]?token", r"pylf_v\d+_"])
    assert words == ["auth", "token"]
    assert [other.pattern for other in others] == [r"pylf_v\d+_"]


@given(st.binary(max_size=300))
def test_the_attributes_of_a_record_are_those_of_its_attestation(body: bytes) -> None:
    """The short way to the attributes says the same as the checked one."""
    assert signed_attributes(body, KEY) == sign_record(body, KEY).to_attributes()


@pytest.mark.parametrize("name", ["payload", "payload_type", "signature", "keyid", "digest"])
def test_an_attestation_is_made_of_texts(name: str) -> None:
    """A member of another type is refused where an attestation is made, not where it is read."""
    with pytest.raises(ValueError, match=f"the {name} of the attestation is not text"):
        Attestation(**{"payload": "a", "payload_type": "a", "signature": "a", "keyid": "a", "digest": "a", name: 1})
