"""Who acts, and on whose behalf: no identity can be mistaken for another."""

import copy
import dataclasses
import pickle
import re
import unicodedata
from collections.abc import Callable
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_identity import Agent, Human, Service
from agent_identity._identity.common.names import check_id
from agent_identity._identity.common.record_bytes import decode_record, encode_record
from agent_identity._identity.principals.principals import agent_from_claim, principal_from_claim
from agent_identity.errors import TokenError
from agent_identity.identity import Principal

BLANK = (
    *(0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, *range(0x180B, 0x1810), 0x2065, 0x2800, 0x3164, *range(0xFE00, 0xFE10)),
    *(0xFFA0, *range(0xFFF0, 0xFFF9), 0x16FE4, 0x1D159, 0xE0000, 0xE0100, 0xE01EF, 0xE0FFF),
)
"""What looks like nothing, and is neither a control nor a format character in every version of Unicode."""

NO_GLYPH = f"[{''.join(map(chr, BLANK))}\U000e0000-\U000e0fff]"
IDS = st.text(
    st.characters(exclude_categories=["Cc", "Cf", "Cs", "Zl", "Zp"]),
    min_size=1,
    max_size=256,
).filter(lambda text: text == text.strip() and not text.lower().startswith("spiffe:") and not re.search(NO_GLYPH, text))
MAYBE_IDS = st.none() | IDS
ROLES = st.lists(IDS, max_size=5).map(tuple)
PRINCIPALS = st.builds(lambda kind, *fields: kind(fields[0], issuer=fields[1], roles=fields[2]),
                       st.sampled_from([Human, Service]), IDS, MAYBE_IDS, ROLES)  # fmt: skip
AGENTS = st.builds(lambda *fields: Agent(fields[0], owner=fields[1], version=fields[2]), IDS, IDS, MAYBE_IDS)

CONFUSABLE = {
    "null": "alice\x00",
    "newline": "alice\nroot",
    "escape": "alice\x1b[31m",
    "delete": "alice\x7f",
    "next line": "alice\x85bob",
    "line separator": "alice\u2028bob",
    "paragraph separator": "alice\u2029bob",
    "right-to-left override": "alice\u202egpj",
    "left-to-right isolate": "alice\u2066bob\u2069",
    "right-to-left mark": "alice\u200fbob",
    "Arabic letter mark": "alice\u061cbob",
    "zero-width space": "ali\u200bce",
    "zero-width joiner": "ali\u200dce",
    "soft hyphen": "ali\xadce",
    "byte order mark": "\ufeffalice",
    **{f"U+{code:04X}": f"ali{chr(code)}ce" for code in BLANK},
    "tag letter": "alice\U000e0041",
    "high surrogate": "alice\ud83d",
    "low surrogate": "\udc00alice",
    "space before": " alice",
    "space after": "alice ",
    "tab after": "alice\t",
    "no-break space after": "alice\xa0",
    "ideographic space before": "\u3000alice",
    "empty": "",
    "blank": " ",
    "long": "a" * 257,
}
GOOD_SPIFFE = [
    "spiffe://example.org",
    "spiffe://example.org/agent",
    "spiffe://a/b/c-d_e.f/G9",
    "spiffe://1.2_3-4/...",
    "spiffe://example.org/..a/b..",
    f"spiffe://{'a' * 255}/x",
    f"spiffe://a/{'b' * 2037}",
]
BAD_SPIFFE = [
    "spiffe:",
    "spiffe:/example.org/a",
    "spiffe://",
    "spiffe:///a",
    "SPIFFE://example.org/a",
    "Spiffe:anything",
    "spiffe://Example.org/a",
    "spiffe://example.org:8080/a",
    "spiffe://user@example.org/a",
    "spiffe://user:pw@example.org/a",
    "spiffe://example.org/a?b",
    "spiffe://example.org/a#b",
    "spiffe://example.org?b",
    "spiffe://example.org/%61",
    "spiffe://ex%41mple.org/a",
    "spiffe://example.org/",
    "spiffe://example.org/a/",
    "spiffe://example.org//a",
    "spiffe://example.org/./a",
    "spiffe://example.org/a/.",
    "spiffe://example.org/../a",
    "spiffe://example.org/a/..",
    "spiffe://example.org/a b",
    "spiffe://example.org/ä",
    "spiffe://exämple.org/a",
    "spiffe://example.org/a\n",
    "spiffe://[::1]/a",
    f"spiffe://{'a' * 256}/x",
    f"spiffe://a/{'b' * 2038}",
]


@pytest.mark.parametrize("value", [*CONFUSABLE.values()], ids=[*CONFUSABLE])
def test_ac_55_ids_that_look_like_others_are_refused(value: str) -> None:
    """No control, bidi, invisible or surrogate character, and no space at an end, gets into an id."""
    with pytest.raises(ValueError, match=r"^owner has"):
        check_id(value, "owner")
    makers: list[Callable[[], object]] = [
        lambda: Human(value),
        lambda: Service("x", issuer=value),
        lambda: Human("x", roles=(value,)),
        lambda: Agent(value, owner="x"),
        lambda: Agent("x", owner=value),
        lambda: Agent("x", owner="x", version=value),
    ]
    for make in makers:
        with pytest.raises(ValueError, match=r"^(id|owner|issuer|version|each role|roles) (is|has) "):
            make()


@given(st.characters(categories=["Cc", "Cf", "Zl", "Zp", "Cs"]), st.integers(min_value=0, max_value=2))
def test_no_character_of_a_refused_category_passes(character: str, place: int) -> None:
    """Wherever it stands, an invisible character is found."""
    with pytest.raises(ValueError, match=r"^id has"):
        check_id("ab"[:place] + character + "ab"[place:], "id")


@given(IDS)
def test_every_other_text_is_an_id(value: str) -> None:
    """Visible text of any script is accepted and returned as it came."""
    assert check_id(value, "id") is value


@pytest.mark.parametrize("value", ["a", "a" * 256, "Ünïcødé 名前", "a b", "user:alice", "🙂" * 256, "xspiffe:"])
def test_ordinary_ids_are_accepted(value: str) -> None:
    """Limits count characters, and inner spaces are fine."""
    assert check_id(value, "id") == value


@pytest.mark.parametrize("value", GOOD_SPIFFE)
def test_spiffe_ids_are_accepted(value: str) -> None:
    """What the SPIFFE ID standard (§2) allows is an id, up to 2,048 bytes."""
    assert check_id(value, "id") == value


@pytest.mark.parametrize("value", BAD_SPIFFE)
def test_malformed_spiffe_ids_are_refused(value: str) -> None:
    """What claims to be a SPIFFE ID and is none is no other kind of id either."""
    with pytest.raises(ValueError, match="SPIFFE ID"):
        check_id(value, "id")


@pytest.mark.parametrize("value", [None, 1, b"alice", ["alice"], type("Text", (str,), {})("alice")])
def test_ids_are_plain_strings(value: object) -> None:
    """A subclass of str could compare as it likes, so only str itself is an id."""
    with pytest.raises(TypeError, match=r"^id is"):
        check_id(value, "id")  # type: ignore[arg-type]


def test_errors_do_not_repeat_the_id() -> None:
    """Ids are personal data: messages name the field only."""
    for value in ("mallory\n", "spiffe://Mallory", "mallory " * 99):
        with pytest.raises(ValueError, match=r"^issuer (is|has) ") as caught:
            check_id(value, "issuer")
        assert "allory" not in str(caught.value)


def test_kinds_are_part_of_the_identity() -> None:
    """A human, a service and an agent of the same id are three parties."""
    parties: list[Human | Service | Agent] = [Human("x"), Service("x"), Agent("x", owner="x")]
    assert [one == other for one in parties for other in parties].count(True) == 3
    assert len(set(parties)) == 3
    assert [party.kind for party in parties] == ["human", "service", "agent"]


@pytest.mark.parametrize("party", [Human("x"), Service("x"), Agent("x", owner="y")])
def test_parties_are_frozen(party: Human | Service | Agent) -> None:
    """No field changes after construction, and no new one appears."""
    for name in ("id", "provenance", "kind", "extra"):
        with pytest.raises((AttributeError, TypeError)):
            setattr(party, name, "verified")
    assert party.provenance == "asserted"


def test_an_agent_has_an_owner() -> None:
    """There is no agent that nobody answers for."""
    with pytest.raises(TypeError, match="owner"):
        Agent("clerk")  # type: ignore[call-arg]


@pytest.mark.parametrize("roles", [["admin"], "admin", None, {"admin"}])
def test_roles_are_a_tuple(roles: object) -> None:
    """A list would be shared, and the letters of a string are no roles."""
    with pytest.raises(TypeError, match="write roles="):
        Human("x", roles=roles)  # type: ignore[arg-type]


def test_roles_are_bounded() -> None:
    """64 roles are fine and 65 are not."""
    assert len(Human("x", roles=("r",) * 64).roles) == 64
    with pytest.raises(ValueError, match="there are 65 roles"):
        Service("x", roles=("r",) * 65)


@given(PRINCIPALS, st.sampled_from(["asserted", "verified"]))
def test_principals_survive_claim_and_record(principal: Principal, provenance: str) -> None:
    """A claim goes through canonical bytes and comes back as the same principal."""
    claim = {**principal.to_claim(), "provenance": provenance}
    read = principal_from_claim(decode_record(encode_record(claim)))
    assert type(read) is type(principal)
    assert read.provenance == provenance
    assert encode_record(read.to_claim()) == encode_record(claim)
    assert (read == principal) is (provenance == "asserted")


@given(AGENTS)
def test_agents_survive_claim_and_record(agent: Agent) -> None:
    """A claim goes through canonical bytes and comes back as the same agent."""
    assert agent_from_claim(MappingProxyType(decode_record(encode_record(agent.to_claim())))) == agent


def test_claims_leave_unknown_facts_out() -> None:
    """Nothing is written as null or empty."""
    assert Human("a").to_claim() == {"id": "a", "kind": "human", "provenance": "asserted"}
    assert Service("a", issuer="i", roles=("r",)).to_claim() == {
        "id": "a",
        "kind": "service",
        "provenance": "asserted",
        "issuer": "i",
        "roles": ("r",),
    }
    assert Agent("a", owner="o").to_claim() == {"id": "a", "owner": "o"}
    assert Agent("a", owner="o", version="1").to_claim() == {"id": "a", "owner": "o", "version": "1"}


def test_nobody_asserts_verification() -> None:
    """Neither the constructor nor ``replace`` makes a verified principal; a copy keeps what it was."""
    verified = principal_from_claim({"id": "a", "kind": "human", "provenance": "verified"})
    with pytest.raises(TypeError):
        Human("a", provenance="verified")  # type: ignore[call-arg]
    with pytest.raises((TypeError, ValueError)):
        dataclasses.replace(verified, provenance="verified")
    assert dataclasses.replace(verified, id="mallory").provenance == "asserted"
    assert copy.deepcopy(verified) == pickle.loads(pickle.dumps(verified)) == verified  # noqa: S301


GOOD = {"id": "a", "kind": "human", "provenance": "asserted"}


@pytest.mark.parametrize(
    "claim",
    [
        None,
        "alice",
        [],
        {},
        *({name: value for name, value in GOOD.items() if name != left_out} for left_out in GOOD),
        {**GOOD, "admin": True},
        {1: "x"} | dict[object, object](GOOD),
        {**GOOD, "kind": "agent"},
        {**GOOD, "kind": "Human"},
        {**GOOD, "kind": ["human"]},
        {**GOOD, "kind": None},
        {**GOOD, "provenance": "proved"},
        {**GOOD, "provenance": ["verified"]},
        {**GOOD, "provenance": None},
        {**GOOD, "id": None},
        {**GOOD, "id": 7},
        {**GOOD, "id": "a\u202e"},
        {**GOOD, "issuer": None},
        {**GOOD, "issuer": ""},
        {**GOOD, "roles": None},
        {**GOOD, "roles": []},
        {**GOOD, "roles": "admin"},
        {**GOOD, "roles": {"admin": 1}},
        {**GOOD, "roles": [1]},
        {**GOOD, "roles": ["r"] * 65},
    ],
)
def test_malformed_principal_claims_are_refused(claim: object) -> None:
    """A claim with a missing, unknown, empty or ill-typed member is no principal."""
    with pytest.raises(TokenError) as caught:
        principal_from_claim(claim)
    assert caught.value.code == "bad_principal"


@pytest.mark.parametrize(
    "claim",
    [
        None,
        [],
        {},
        {"id": "a"},
        {"owner": "o"},
        {"id": "a", "owner": "o", "kind": "agent"},
        {"id": "a", "owner": None},
        {"id": "a", "owner": ""},
        {"id": 1, "owner": "o"},
        {"id": "a", "owner": "o", "version": None},
        {"id": "a", "owner": "o", "version": ""},
    ],
)
def test_malformed_agent_claims_are_refused(claim: object) -> None:
    """A claim with a missing, unknown, empty or ill-typed member is no agent."""
    with pytest.raises(TokenError) as caught:
        agent_from_claim(claim)
    assert caught.value.code == "bad_agent"


def test_the_refused_categories_cover_every_bidi_control() -> None:
    """All twelve characters with the Unicode property Bidi_Control are controls or format characters."""
    controls = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
    assert {unicodedata.category(control) for control in controls} <= {"Cc", "Cf"}
