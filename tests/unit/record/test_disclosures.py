"""Disclosures: one argument of one call, bound to its name, its value and its record, and nothing of the others."""

import hashlib
import hmac
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_identity._identity.common.encoding import b64url_encode
from agent_identity._identity.common.ids import id_of
from agent_identity._identity.common.record_bytes import encode_record
from agent_identity._record.codec import decode
from agent_identity._record.commitments import commit, part, root
from agent_identity._record.disclosures import MAX_DISCLOSURE_BYTES, Disclosure, argument_names
from agent_identity._storage.mac import Mac
from agent_identity.canonical import encode
from agent_identity.errors import VerificationError
from agent_identity.options import DigestKeys
from agent_identity.records import AnyRecord, Intent, Outcome, as_dict

R, OTHER = (id_of(1_764_000_000_000_000_000, bytes([number] * 8)) for number in (1, 2))
SDK, BEGUN = {"name": "x", "version": "1"}, {"id": R, "seq": "1"}
START = decode(
    encode_record({"v": "1", "id": R, "kind": "stream_start", "stream": BEGUN, "time": {"start": "1"}, "sdk": SDK})
)
KEY = bytes(range(32))
ARGUMENTS = {"amount": 100, "currency": "EUR", "to": ["a", None]}
KINDS = {int: "number", float: "number", str: "string", list: "array", bool: "boolean", dict: "object"}


def record(arguments: dict = ARGUMENTS, *, salted: bool = True, opaque: tuple[str, ...] = (), name: str = R) -> Intent:
    """Return the record of a call with these arguments."""
    names = [f"{key}:{KINDS.get(type(value), 'null')}" for key, value in arguments.items()]
    names += [f"{key}:opaque" for key in opaque]
    parts = [part(key, arguments[key]) for key in sorted(arguments)]
    digest = commit(Mac(KEY), parts) if salted else b64url_encode(Mac(KEY).of(encode(arguments)))
    return of_call(
        {"tool": "pay", "kind": "function", "args": digest, **({"names": sorted(names)} if names else {})}, name
    )


def of_call(action: dict, name: str = R) -> Intent:
    """Return the record of a call."""
    members = {
        "v": "1",
        "id": name,
        "kind": "intent",
        "stream": {"id": R, "seq": "2", "prev": "0" * 43},
        "time": {"start": "1"},
        "action": action,
        "attribution": "none",
        "decision": {"effect": "allow", "enforced": "allow", "mode": "enforce", "reason": "within_scope"},
    }
    return decode(encode_record(members))


def outcome_of(action: dict) -> Outcome:
    """Return the outcome of a call, which names no arguments."""
    members = as_dict(of_call(action)) | {"kind": "outcome", "outcome": "success"}
    return decode(encode_record(members))


def refused(code: str, disclosure: Disclosure, of: AnyRecord) -> None:
    """Assert that a disclosure does not fit a record, and why."""
    with pytest.raises(VerificationError) as caught:
        disclosure.check(of)
    assert caught.value.code == code
    assert "100" not in str(caught.value)


def test_the_digest_is_what_the_reference_says() -> None:
    """Salts by HMAC-SHA256 over all arguments, SHA-256 over salt and argument, SHA-256 over number and hashes."""
    parts = [json.dumps([n, v], separators=(",", ":")).encode() for n, v in sorted(ARGUMENTS.items())]
    call = hmac.digest(KEY, b"agent-identity/arguments/v1\n" + b"\n".join(parts), "sha256")
    salts = [hmac.digest(call, str(index).encode(), "sha256") for index in range(3)]
    leaves = [hashlib.sha256(b"\0" + salt + data).digest() for salt, data in zip(salts, parts, strict=True)]
    expected = hashlib.sha256(b"\x013\n" + b"".join(leaves)).digest()
    assert record().action.args == f"s{b64url_encode(expected)}"
    assert expected.hex() == "910a5e4cc71c1f62946d3c97cd86a13b788b9c453d43dea8a6a880dbfe1af38a"


def test_the_keys_of_a_directory_commit_likewise(tmp_path: Path) -> None:
    """The digest in a record is made under the key of its id."""
    keys = DigestKeys(tmp_path / "digests.jsonl")
    parts = [part("a", 1)]
    assert keys.commit("task", parts) == keys.commit("task", parts) == commit(Mac(keys.key_for("task")), parts)


@pytest.mark.parametrize("names", [["amount"], ["to"], ["currency", "amount"], None])
def test_what_is_shown_is_checked_and_the_rest_stays_hidden(names: list[str] | None) -> None:
    """The file has the values that are shown, no other one, and survives its own form."""
    found = Disclosure.of(record(), ARGUMENTS, KEY, names)
    data = found.to_bytes()
    again = Disclosure.from_bytes(data)
    assert again == found
    again.check(record())
    shown = set(names or ARGUMENTS)
    assert set(again.shown) == shown
    assert again.hidden == 3 - len(shown)
    assert (b"EUR" in data) is ("currency" in shown)
    assert b64url_encode(KEY).encode() not in data


def test_a_shown_argument_is_bound_to_everything() -> None:
    """Another value, name, record, order, number or salt is refused."""
    found = json.loads(Disclosure.of(record(), ARGUMENTS, KEY, ["amount"]).to_bytes())

    def changed(change: object) -> Disclosure:
        copy = json.loads(json.dumps(found))
        change(copy["disclosure"])
        return Disclosure.from_bytes(encode(copy))

    entry = lambda d: d["arguments"][0]  # noqa: E731
    for change in (
        lambda d: entry(d).update(value=101),
        lambda d: entry(d).update(value="100"),
        lambda d: entry(d).update(name="amounts"),
        lambda d: entry(d).update(salt="0" * 43),
        lambda d: d["arguments"].reverse(),
        lambda d: d["arguments"].pop(),
        lambda d: d["arguments"].append({"hash": "0" * 43}),
        lambda d: d["arguments"][1].update(hash="0" * 43),
    ):
        refused("other_arguments", changed(change), record())
    refused("other_record", changed(lambda d: None), record(name=OTHER))
    refused("other_arguments", changed(lambda d: None), record({**ARGUMENTS, "amount": 101}))


def test_a_record_without_names_is_held_against_its_digest_alone() -> None:
    """Outcomes leave the names to the intent; the digest is over them as well."""
    whole = record()
    action = {"tool": "pay", "kind": "function", "args": whole.action.args}
    bare = outcome_of(action)
    Disclosure.of(whole, ARGUMENTS, KEY, ["amount"]).check(bare)
    other = record({**ARGUMENTS, "amount": 101})
    refused("other_arguments", Disclosure.of(other, {**ARGUMENTS, "amount": 101}, KEY, ["amount"]), bare)


def test_salts_differ_by_call_and_argument() -> None:
    """Who may check one argument can try values on no other argument, and on no other call of the task."""
    first = Disclosure.of(record(), ARGUMENTS, KEY, None)
    other = {**ARGUMENTS, "to": "b"}
    second = Disclosure.of(record(other), other, KEY, None)
    assert len({*first.salts.values(), *second.salts.values()}) == 6


def test_only_the_arguments_that_ran_make_a_disclosure() -> None:
    """Whoever hands in others, fewer or unknown ones gets no file."""
    cases = [
        ({**ARGUMENTS, "amount": 1}, ["amount"], "other_arguments"),
        ({"amount": 100}, ["amount"], "other_arguments"),
        ({**ARGUMENTS, "amount": float("nan")}, ["amount"], "other_arguments"),
        (ARGUMENTS, ["password"], "unknown_argument"),
    ]
    for arguments, names, code in cases:
        with pytest.raises(VerificationError) as caught:
            Disclosure.of(record(), arguments, KEY, names)
        assert caught.value.code == code
    with pytest.raises(VerificationError) as caught:
        Disclosure.of(of_call({"tool": "pay", "kind": "function"}), {}, KEY, None)
    assert caught.value.code == "no_arguments"


def test_opaque_arguments_are_not_counted() -> None:
    """They have no value to commit to; those beside them are shown as ever."""
    of = record(opaque=("connection",))
    assert argument_names(of) == ("amount", "currency", "to")
    Disclosure.of(of, ARGUMENTS, KEY, ["to"]).check(of)
    only = record({}, opaque=("connection",))
    assert only.action.args == root([])
    Disclosure.of(only, {}, KEY, None).check(only)


def test_one_digest_of_all_is_shown_whole_with_its_key() -> None:
    """The older form needs the key of the task; one argument of it cannot be shown."""
    old = record(salted=False)
    found = Disclosure.of(old, ARGUMENTS, KEY, None)
    again = Disclosure.from_bytes(found.to_bytes())
    assert (again, again.key, again.hidden) == (found, KEY, 0)
    again.check(old)
    refused("not_disclosable", again, record())
    refused("not_disclosable", Disclosure.of(record(), ARGUMENTS, KEY, None), old)
    refused("other_arguments", Disclosure(R, {**ARGUMENTS, "amount": 1}, {}, (), KEY), old)
    refused("other_arguments", Disclosure(R, {}, {}, (), KEY), old)
    with pytest.raises(VerificationError) as caught:
        Disclosure.of(old, ARGUMENTS, KEY, ["amount"])
    assert caught.value.code == "not_disclosable"


MALFORMED = [
    b"",
    b"[]",
    b"{}",
    b'{"disclosure":{},"v":"1"}',
    b'{"disclosure":{"arguments":[],"record":"r"},"v":"2"}',
    b'{"disclosure":{"arguments":[],"record":"r"},"v":"1","x":1}',
    b'{"v":"1","disclosure":{"record":"r","arguments":[]}}',
    b'{"disclosure":{"arguments":{},"record":"r"},"v":"1"}',
    b'{"disclosure":{"arguments":[],"record":1},"v":"1"}',
    b'{"disclosure":{"arguments":[1],"record":"r"},"v":"1"}',
    b'{"disclosure":{"arguments":[{"hash":"0"}],"record":"r"},"v":"1"}',
    b'{"disclosure":{"arguments":[{"name":"a","value":1}],"record":"r"},"v":"1"}',
    b'{"disclosure":{"arguments":[{"name":1,"value":1}],"record":"r"},"key":"%s","v":"1"}' % (b"0" * 43),
    b'{"disclosure":{"arguments":[{"hash":"%s"}],"record":"r"},"key":"%s","v":"1"}' % (b"0" * 43, b"0" * 43),
    b'{"disclosure":{"arguments":[{"name":"b","value":1},{"name":"a","value":1}],"record":"r"},"key":"%s","v":"1"}'
    % (b"0" * 43),
    b'{"disclosure":{"arguments":[{"name":"a","value":1},{"name":"a","value":1}],"record":"r"},"key":"%s","v":"1"}'
    % (b"0" * 43),
    b'{"disclosure":{"arguments":[' + b",".join([b'{"hash":"%s"}' % (b"0" * 43)] * 257) + b'],"record":"r"},"v":"1"}',
    b"[" * 100_000,
    b"\xff",
    b" " * (MAX_DISCLOSURE_BYTES + 1),
]


@pytest.mark.parametrize("data", MALFORMED, ids=range(len(MALFORMED)))
def test_malformed_files_are_refused(data: bytes) -> None:
    """Whatever is not the one spelling of a disclosure is none."""
    with pytest.raises(VerificationError) as caught:
        Disclosure.from_bytes(data)
    assert caught.value.code == "bad_disclosure"
    assert str(caught.value).startswith("malformed disclosure: ")


def test_each_refusal_says_what_was_expected() -> None:
    """In words that show no value, and for files with what is missing."""

    def told(call: Callable[[], object]) -> str:
        with pytest.raises(VerificationError) as caught:
            call()
        return str(caught.value)

    assert [
        told(lambda data=data: Disclosure.from_bytes(data))[22:] for data in (*MALFORMED[1:5], *MALFORMED[7:17])
    ] == [
        "a part is not an object with disclosure, v",
        "a part is not an object with disclosure, v",
        "a part is not an object with arguments, record",
        "its version is not 1",
        *["it does not have the id of a record, and an array of at most 256 arguments"] * 2,
        "a part is not an object with name, salt, value",
        "a hash is not 43 base64url characters",
        "a part is not an object with name, salt, value",
        "an argument has no name, or one that is repeated or out of order",
        "a part is not an object with name, value",
        *["an argument has no name, or one that is repeated or out of order"] * 2,
        "it does not have the id of a record, and an array of at most 256 arguments",
    ]
    assert (
        told(lambda: Disclosure.from_bytes(MALFORMED[-1])) == "malformed disclosure: it is larger than 67108864 bytes"
    )
    whole, many = Disclosure.of(record(), ARGUMENTS, KEY, None), {f"{n:03}" * 10: 1 for n in range(40)}
    names, long = ", ".join(many)[:512], r"\xe9" * 64
    no_digest = "the record has no digest of arguments; name the record of a call with arguments"
    wrong: list[tuple[Callable[[], object], str]] = [
        (
            lambda: Disclosure.of(record(), {**ARGUMENTS, "amount": float("nan")}, KEY, ["amount"]),
            "an argument is not JSON: a number is NaN or an infinity; use a finite one",
        ),
        (
            lambda: Disclosure.of(record(), ARGUMENTS, KEY, ["zz", "to", "é" * 65]),
            "the call has no argument 'zz'; it has: amount, currency, to",
        ),
        (
            lambda: Disclosure.of(record(many), many, KEY, ["é" * 65]),
            f"the call has no argument '{long}'; it has: {names}",
        ),
        (lambda: Disclosure.of(START, {}, KEY, None), no_digest),
        (lambda: whole.check(of_call({"tool": "pay", "kind": "function"})), no_digest),
        (
            lambda: Disclosure.of(record(salted=False), ARGUMENTS, KEY, ["amount"]),
            (
                "the record has one digest of all arguments; show them all, or open the enforcer with "
                "Privacy(disclosable=True)"
            ),
        ),
        (
            lambda: whole.check(record(name=OTHER)),
            "the disclosure is of another record; give the record that it names",
        ),
        (
            lambda: whole.check(record(salted=False)),
            ("the record has the other form of digest than the disclosure; make the disclosure again from the record"),
        ),
        (
            lambda: whole.check(record({})),
            "the arguments are not those that ran, which the record commits to",
        ),
    ]
    assert [told(call) for call, _ in wrong] == [message for _, message in wrong]


def test_what_is_just_within_its_bounds_is_read() -> None:
    """256 arguments make a disclosure, a file without its last newline is one, and names may be asked for twice."""
    many = {f"a{number:03}": number for number in range(256)}
    found = Disclosure.of(record(many), many, KEY, ["a000"])
    assert Disclosure.from_bytes(found.to_bytes()) == found
    assert found.hidden == 255
    assert Disclosure.from_bytes(found.to_bytes()[:-1]) == found
    with pytest.raises(VerificationError):
        Disclosure.from_bytes(found.to_bytes() + b"\n")
    assert found.to_bytes()[-1:] == b"\n"
    old = record(salted=False)
    assert Disclosure.of(old, ARGUMENTS, KEY, [*ARGUMENTS, "to"]) == Disclosure.of(old, ARGUMENTS, KEY, None)
    padded = MALFORMED[-1][:-1]
    with pytest.raises(VerificationError) as caught:
        Disclosure.from_bytes(padded)
    assert "at most" not in str(caught.value)


def test_names_are_what_stands_before_the_last_colon() -> None:
    """A name may have colons, and a kind is never part of it."""
    names = ["b:x:opaque:number", "b:opaque", "a::string", "::null"]
    assert argument_names(of_call({"tool": "pay", "kind": "function", "names": names})) == (":", "a:", "b:x:opaque")
    assert argument_names(START) == argument_names(of_call({"tool": "pay", "kind": "function"})) == ()


KEYS = st.text("abé\U0001f600", max_size=3)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
NUMBER = st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBER | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=6,
)


@given(arguments=st.dictionaries(st.text("ab:é\U0001f600", min_size=1, max_size=3), JSON, max_size=5), pick=st.data())
def test_every_call_can_be_shown_in_every_part(arguments: dict, pick: st.DataObject) -> None:
    """Any choice of any arguments makes a file that reads back, fits its record, and is refused for another value."""
    of = record(arguments)
    names = pick.draw(st.sets(st.sampled_from(sorted(arguments)))) if arguments else set()
    found = Disclosure.from_bytes(Disclosure.of(of, arguments, KEY, names).to_bytes())
    found.check(of)
    for name in names:
        wrong = {**found.shown, name: [found.shown[name]]}
        refused("other_arguments", Disclosure(R, wrong, found.salts, found.leaves), of)
