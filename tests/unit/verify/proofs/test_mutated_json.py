"""Files whose JSON has other types than it should: each ends in a verdict or in an error of the library."""

import copy
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_identity import Verifier
from agent_identity._ledger.excerpt_starts import Excerpt
from agent_identity._ledger.prune_statement import unverified_pruned
from agent_identity._ledger.transparency.checkpoint import LogProof, format_proof
from agent_identity._ledger.transparency.proof_files import RecordProof
from agent_identity._ledger.transparency.witness import WitnessState
from agent_identity._record.disclosures import Disclosure
from agent_identity._spans.envelope import Attestation
from agent_identity._verify.proofs.bundle import Choice, collect, pack
from agent_identity.audit import prove, story
from agent_identity.errors import AgentIdentityError, ConfigurationError, VerificationError
from agent_identity.identity import TrustStore

EVIDENCE = Path(__file__).parents[3] / "vectors" / "evidence"
ENVELOPE = json.loads((EVIDENCE.parent / "envelope.json").read_bytes())[0]["dsse"]
TASK = "AZq2l-gAcACAAAAAAAAABA"
RECORD = "AZq2l-j6cACAAAAAAAAACQ"
TRUST = TrustStore.load(EVIDENCE / "trust.json")
ID = "AaIOQ0bYcV-ScJHDCbiHEA"
HASH = "A" * 43


UNWRITTEN = {
    b'"<arrays>"': b"[" * 1_000 + b'"x"' + b"]" * 1_000,
    b'"<objects>"': b'{"a":' * 1_000 + b'"x"' + b"}" * 1_000,
    b'"<huge>"': b"1e999",
}
"""What stands for values that the writer of the standard library does not write."""

OTHERS: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 1.5, 10**30, "", "x", "1", "é", "9" * 5_000, HASH, [], {}, [[]], [None], ["x"]),
    *([1], {"": None}, {"a": 1}, [{}], {"v": {}}, "<arrays>", "<objects>", "<huge>"),
)
"""One value and more of each type of JSON, the awkward ones as well."""


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield where the values in a value are, itself included."""
    yield path
    if isinstance(value, dict | list):
        for name, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(item, (*path, name))


def put(value: Any, path: tuple[Any, ...], other: Any) -> Any:
    """Return a value with another one at a place."""
    if not path:
        return other
    changed = copy.copy(value)
    changed[path[0]] = put(value[path[0]], path[1:], other)
    return changed


def written(value: Any) -> bytes:
    """Return canonical JSON, also of what the library would not write."""
    data = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    for name, text in UNWRITTEN.items():
        data = data.replace(name, text)
    return data


def mutations(value: Any) -> Iterator[bytes]:
    """Yield the JSON of a value with every other type at every place, and without every member."""
    for path in places(value):
        for other in OTHERS:
            yield written(put(value, path, other))
        if path:
            less = copy.deepcopy(value)
            place = less
            for name in path[:-1]:
                place = place[name]
            del place[path[-1]]
            yield written(less)


EXCERPT = {
    "v": "1",
    "streams": {ID: {"size": "3", "end": "5", "last": HASH, "peaks": [HASH, HASH]}},
}
DISCLOSURE = {
    "v": "1",
    "disclosure": {
        "record": ID,
        "arguments": [{"hash": HASH}, {"name": "a", "value": {"b": [1]}, "salt": HASH}],
    },
}
WHOLE = {"v": "1", "key": HASH, "disclosure": {"record": ID, "arguments": [{"name": "a", "value": "b"}]}}
PRUNED = {
    "last": HASH,
    "log": {"root": HASH, "size": "7"},
    "origin": "x.example",
    "peaks": [HASH, HASH],
    "size": "3",
    "stream": ID,
    "time": "1",
    "open": [ID],
    "grants": {"count": "2", "digest": HASH},
}


def pruned(data: bytes) -> object:
    """Read a statement of what was pruned."""
    return unverified_pruned(b"agent-identity pruned v1\n" + data + b"\n\nx\n")


@pytest.mark.parametrize(
    ("value", "read", "error"),
    [
        (EXCERPT, Excerpt.from_bytes, ValueError),
        (DISCLOSURE, Disclosure.from_bytes, VerificationError),
        (WHOLE, Disclosure.from_bytes, VerificationError),
        (PRUNED, pruned, VerificationError),
        (ENVELOPE, Attestation.from_envelope, VerificationError),
        (json.loads((EVIDENCE / "trust.json").read_bytes()), TrustStore.load, ConfigurationError),
    ],
    ids=["excerpt", "disclosure", "whole", "pruned", "envelope", "trust"],
)
def test_another_type_in_a_file_is_refused_in_words(
    value: Any, read: Callable[[bytes], object], error: type[Exception]
) -> None:
    """Whatever stands where in a file, it is read or refused with the documented error."""
    assert read(written(value))
    refusals: list[str] = []
    for data in mutations(value):
        try:
            read(data)
        except error as refusal:
            refusals.append(str(refusal))
    assert len(refusals) > len(OTHERS)
    assert all(refusals)


def test_another_type_in_the_state_of_a_witness_is_refused(tmp_path: Path) -> None:
    """A witness with a damaged state does not start, and says why."""
    note = (EVIDENCE / "log" / "checkpoint").read_text()
    path = tmp_path / "state"
    for data in mutations({"version": "1", "logs": {note.partition("\n")[0]: note}}):
        path.write_bytes(data)
        path.chmod(0o600)
        with suppress(ConfigurationError):
            WitnessState(path, new=False).close()


def test_another_type_in_the_data_of_a_proof_ends_in_a_verdict() -> None:
    """Whatever leads from a record to the log, a proof is judged, and only the one that was made is verified."""
    log = RecordProof.from_bytes(prove(EVIDENCE, RECORD)).log
    for data in mutations(json.loads(log.extra or b"")):
        file = format_proof(LogProof(log.index, log.hashes, log.note, data))
        assert Verifier(TRUST).proof(file, record=RECORD).verdict == "verified" if data == log.extra else "contradicted"


@st.composite
def changed_lines(draw: st.DrawFn) -> tuple[Path, bytes, bool]:
    """Return a file of the vectors with one value of another type, its path, and whether it may verify still."""
    path = draw(st.sampled_from(sorted(EVIDENCE.glob("l*/**/entries.jsonl"))))
    lines = path.read_bytes().splitlines()
    place = draw(st.integers(0, len(lines) - 1))
    value = json.loads(lines[place])
    where = draw(st.sampled_from(list(places(value))))
    lines[place] = written(put(value, where, draw(st.sampled_from(OTHERS))))
    whole = b"\n".join([*lines, b""])
    # The MACs are for the recorder, who alone has their key.
    return path.relative_to(EVIDENCE), whole, whole == path.read_bytes() or where == ("mac",)


@given(change=changed_lines(), data=st.data())
def test_another_type_in_a_ledger_ends_in_a_verdict(
    tmp_path_factory: pytest.TempPathFactory, change: tuple[Path, bytes, bool], data: st.DataObject
) -> None:
    """A ledger is judged, told, proved from and put into bundles, or refused, whatever stands in its lines."""
    room = tmp_path_factory.mktemp("room")
    evidence = shutil.copytree(EVIDENCE, room / "evidence")
    path, content, same = change
    (evidence / path).write_bytes(content)
    assert same or Verifier(TRUST).ledger(evidence).verdict != "verified"
    choice = data.draw(st.sampled_from([Choice(), Choice(from_ns=0), Choice(task=TASK)]))
    with suppress(AgentIdentityError):
        list(story(evidence))
    with suppress(AgentIdentityError):
        prove(evidence, RECORD)
    (room / "staged").mkdir()
    with suppress(AgentIdentityError):
        collect(evidence, room / "staged", choice)
        pack(room / "b.zip", room / "staged", {})
        assert same or Verifier(TRUST).ledger(room / "b.zip").verdict != "verified"
