"""Limits: what they may be, how they travel, and what a call takes from them."""

import decimal
import pickle
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_identity import Agent, Grant, Human, Scope
from agent_identity._authority.grants.chain import verify_chain
from agent_identity._authority.grants.grants import Chain, derive, issue
from agent_identity._authority.grants.limits import MAX_LIMITS, amount_of, debits_for, exceeded
from agent_identity._authority.stores.protocol import MAX_NUMBER
from agent_identity._identity.keys.jws import parse_compact, sign_compact
from agent_identity.canonical import JSON, decode, encode
from agent_identity.errors import AttenuationError, LimitExceeded, TokenError
from agent_identity.identity import SigningKey
from agent_identity.limits import Limit
from agent_identity.state import Debit, MemoryState

NOW = 1_764_000_000
ISSUER, ALPHA, BETA = (SigningKey.from_seed(bytes([n]) * 32) for n in (1, 2, 3))
MINUTE = timedelta(minutes=1)
FOUR = (
    Limit.uses("pay", 3),
    Limit.uses("*", 20),
    Limit.sum("pay", "amount", 500),
    Limit.rate("search", 10, per=MINUTE),
)
SCOPE = Scope({"pay": None, "search": None})
LIMITS = st.one_of(
    st.builds(Limit.uses, st.sampled_from(["pay", "*"]), st.integers(0, MAX_NUMBER)),
    st.builds(Limit.sum, st.just("pay"), st.sampled_from(["a", "é b"]), st.integers(0, 9_007_199_254)),
    st.builds(
        lambda tool, most, seconds: Limit.rate(tool, most, per=timedelta(seconds=seconds)),
        st.sampled_from(["search", "*"]),
        st.integers(0, 9),
        st.integers(1, 90 * 86_400),
    ),
)


def _uuid(number: int) -> str:
    return f"01957a3f-4e23-7b01-a9d1-{number:012x}"


def _root(limits: tuple[Limit, ...] = FOUR, scope: Scope = SCOPE) -> Grant:
    return issue(
        ISSUER,
        issuer="https://issuer.example.com",
        task_id="task-1",
        principal=Human("alice@example.com"),
        agent=Agent("a", owner="o"),
        holder=ALPHA.public_key,
        scope=scope,
        now=NOW,
        ttl=600,
        id=_uuid(1),
        limits=limits,
    )


def _child(chain: Chain, scope: Scope = SCOPE) -> Grant:
    return derive(
        chain,
        ALPHA,
        agent=Agent("b", owner="o"),
        holder=BETA.public_key,
        scope=scope,
        now=NOW,
        ttl=300,
        id=_uuid(2),
    )


def _verified(*tokens: str) -> Chain:
    return verify_chain(tokens, anchors=lambda kid: ISSUER.public_key, issuer=None, now=NOW + 1)


def _with_limits(grant: Grant, signer: SigningKey, limits: JSON) -> str:
    """Return the grant with another claim, signed as the grant was."""
    parts = parse_compact(grant.token)
    claims = {**decode(parts.payload), "limits": limits}
    header = {"typ": parts.typ} | ({} if parts.kid is None else {"kid": parts.kid})
    return sign_compact(header, {name: claim for name, claim in claims.items() if claim is not None}, signer)


def test_limits_are_signed_in_the_root_and_in_every_child() -> None:
    """The claim stands in each grant as it was given, and a task without limits has none."""
    root = _root()
    assert root.limits == FOUR
    claims = [
        {"kind": "uses", "max": 3, "tool": "pay"},
        {"kind": "uses", "max": 20, "tool": "*"},
        {"argument": "amount", "kind": "sum", "max": 500_000_000, "tool": "pay"},
        {"kind": "rate", "max": 10, "per": 60, "tool": "search"},
    ]
    assert decode(parse_compact(root.token).payload)["limits"] == claims
    child = _child(Chain((root,)), Scope("search"))
    assert decode(parse_compact(child.token).payload)["limits"] == claims
    chain = _verified(root.token, child.token)
    assert (chain.root.limits, chain.leaf.limits) == (FOUR, FOUR)
    assert "limits" not in decode(parse_compact(_root(()).token).payload)
    assert _root(()).limits == _child(Chain((_root(()),))).limits == ()


@pytest.mark.parametrize(
    "changed",
    [
        (),
        FOUR[:-1],
        FOUR[::-1],
        (*FOUR, Limit.uses("search", 1)),
        (Limit.uses("pay", 4), *FOUR[1:]),
        (Limit.uses("pay", 2), *FOUR[1:]),
        (*FOUR[:-1], Limit.rate("search", 10, per=timedelta(seconds=59))),
    ],
)
def test_a_child_can_neither_raise_nor_lower_drop_nor_reorder_limits(changed: tuple[Limit, ...]) -> None:
    """There is one account for the whole task, numbered as in the root; another claim is refused."""
    root = _root()
    claim = [limit.to_claim() for limit in changed] or None
    forged = _with_limits(_child(Chain((root,))), ALPHA, claim)
    with pytest.raises(AttenuationError) as caught:
        _verified(root.token, forged)
    assert caught.value.code == "limits_changed"


def test_a_child_cannot_add_limits_to_a_root_without() -> None:
    """Who has no limits gives none on: the counters would be nobody's."""
    root = _root(())
    forged = _with_limits(_child(Chain((root,))), ALPHA, [Limit.uses("pay", 1).to_claim()])
    with pytest.raises(AttenuationError) as caught:
        _verified(root.token, forged)
    assert caught.value.code == "limits_changed"


USES = {"kind": "uses", "max": 3, "tool": "pay"}


@pytest.mark.parametrize(
    "claim",
    [
        [],
        {},
        "uses",
        5,
        [5],
        [[]],
        [{}],
        [{**USES, "kind": "other"}],
        [{**USES, "kind": ["uses"]}],
        [{**USES, "kind": 5}],
        [{**USES, "per": 5}],
        [{**USES, "note": "x"}],
        [{**USES, "max": -1}],
        [{**USES, "max": "3"}],
        [{**USES, "max": True}],
        [{**USES, "max": 1.5}],
        [{**USES, "max": 2**53 + 2}],
        [{**USES, "tool": ""}],
        [{**USES, "tool": "a b"}],
        [{**USES, "tool": 5}],
        [{"kind": "uses", "max": 3}],
        [{"kind": "sum", "max": 3, "tool": "pay"}],
        [{"kind": "sum", "max": 3, "tool": "*", "argument": "a"}],
        [{"kind": "sum", "max": 3, "tool": "pay", "argument": ""}],
        [{"kind": "sum", "max": 3, "tool": "pay", "argument": "a\nb"}],
        [{"kind": "sum", "max": 3, "tool": "pay", "argument": "a" * 129}],
        [{"kind": "sum", "max": 3, "tool": "pay", "argument": 5}],
        [{"kind": "sum", "max": 3, "tool": "pay", "argument": None}],
        [{"kind": "rate", "max": 3, "tool": "pay"}],
        [{"kind": "rate", "max": 3, "tool": "pay", "per": 0}],
        [{"kind": "rate", "max": 3, "tool": "pay", "per": 90 * 86_400 + 1}],
        [{"kind": "rate", "max": 3, "tool": "pay", "per": "60"}],
        [{"kind": "rate", "max": 3, "tool": "pay", "per": None}],
        [USES, {**USES, "max": 4}],
        [{**USES, "tool": f"tool-{at}"} for at in range(MAX_LIMITS + 1)],
    ],
)
def test_a_malformed_claim_is_refused(claim: JSON) -> None:
    """Whatever is not exactly a limit that this version can keep makes the grant worthless."""
    with pytest.raises(TokenError) as caught:
        _verified(_with_limits(_root(), ISSUER, claim))
    assert caught.value.code == "bad_limits"


@given(st.lists(LIMITS, max_size=8, unique_by=lambda limit: (limit.kind, limit.tool, limit.argument, limit.per)))
def test_limits_come_back_from_a_grant_as_they_were(limits: list[Limit]) -> None:
    """Through claim, canonical bytes and signature, in their order."""
    assert _verified(_root(tuple(limits)).token).root.limits == tuple(limits)
    assert pickle.loads(pickle.dumps(limits)) == limits  # noqa: S301  What we have just pickled.
    assert len(encode([limit.to_claim() for limit in limits])) >= 2


@pytest.mark.parametrize(
    ("error", "make"),
    [
        (TypeError, lambda: Limit.uses("pay", 1.0)),
        (TypeError, lambda: Limit.uses("pay", True)),
        (TypeError, lambda: Limit.uses(5, 1)),
        (ValueError, lambda: Limit.uses("pay now", 1)),
        (ValueError, lambda: Limit.uses("pay", -1)),
        (ValueError, lambda: Limit.uses("pay", MAX_NUMBER + 1)),
        (ValueError, lambda: Limit.sum("*", "amount", 1)),
        (ValueError, lambda: Limit.sum("pay", "", 1)),
        (ValueError, lambda: Limit.sum("pay", "amount", -1)),
        (TypeError, lambda: Limit.sum("pay", "amount", "5")),
        (TypeError, lambda: Limit.sum("pay", "amount", True)),
        (ValueError, lambda: Limit.sum("pay", "amount", float("nan"))),
        (ValueError, lambda: Limit.sum("pay", "amount", float("inf"))),
        (ValueError, lambda: Limit.sum("pay", "amount", 9_007_199_255)),
        (ValueError, lambda: Limit.sum("pay", "amount", Decimal("9007199254.740993"))),
        (ValueError, lambda: Limit.sum("pay", "amount", Decimal("0.0000001"))),
        (ValueError, lambda: Limit.sum("pay", "amount", Decimal("sNaN"))),
        (TypeError, lambda: Limit.rate("pay", 1, per=60)),
        (ValueError, lambda: Limit.rate("pay", 1, per=timedelta(seconds=1.5))),
        (ValueError, lambda: Limit.rate("pay", 1, per=timedelta(0))),
        (ValueError, lambda: Limit.rate("pay", 1, per=timedelta(days=91))),
        (TypeError, lambda: Limit("uses", "pay", True)),
        (ValueError, lambda: Limit("other", "pay", 1)),
        (ValueError, lambda: Limit("uses", "pay", 1, argument="amount")),
        (ValueError, lambda: Limit("uses", "pay", 1, per=5)),
        (ValueError, lambda: Limit("rate", "pay", 1)),
        (ValueError, lambda: _root((Limit.uses("pya", 1),))),
        (ValueError, lambda: _root((Limit.uses("pay", 1), Limit.uses("pay", 2)))),
        (ValueError, lambda: _root(tuple(Limit.rate("pay", 1, per=timedelta(seconds=at + 1)) for at in range(65)))),
        (TypeError, lambda: _root(("pay",))),
    ],
)
def test_what_cannot_be_a_limit_is_refused_where_it_is_made(error: type[Exception], make: object) -> None:
    """Wrong types and ranges, limits of tools that are not in the scope, and two over the same."""
    with pytest.raises(error, match=r" (is|are|has|does) |expected"):
        make()


def test_limits_are_values() -> None:
    """Equal by what they say, and not to be changed."""
    assert (
        Limit.sum("pay", "amount", 500)
        == Limit.sum("pay", "amount", Decimal("500.00"))
        == Limit.sum("pay", "amount", 500.0)
    )
    assert Limit.sum("pay", "amount", 0.1).most == 100_000
    assert Limit.sum("pay", "amount", Decimal(9_007_199_254)).most == 9_007_199_254_000_000
    with pytest.raises(AttributeError):
        FOUR[0].most = 5


@pytest.mark.parametrize(
    ("value", "millionths"),
    [
        (0, 0),
        (-0.0, 0),
        (5, 5_000_000),
        (0.1, 100_000),
        (1e-9, 1),
        (19.99, 19_990_000),
        (Decimal("19.990000"), 19_990_000),
        (Decimal("0.0000001"), 1),
        (Decimal("1.0000001"), 1_000_001),
        (Decimal("1." + "0" * 5_000 + "1"), 1_000_001),
        (Decimal("1E-999999"), 1),
        (Decimal("1E+999999"), MAX_NUMBER + 1),
        (10**400, MAX_NUMBER + 1),
        (1.7e308, MAX_NUMBER + 1),
        (9_007_199_254, 9_007_199_254_000_000),
        (Decimal("9007199254.1"), MAX_NUMBER + 1),
        (-1, None),
        (-1e-9, None),
        (Decimal(-1), None),
        (True, None),
        (None, None),
        ("5", None),
        ([5], None),
        (Fraction(1, 3), None),
        (float("nan"), None),
        (float("inf"), None),
        (Decimal("NaN"), None),
        (Decimal("-Infinity"), None),
    ],
)
def test_amounts_are_counted_in_millionths_rounded_up(value: object, millionths: int | None) -> None:
    """Nothing is ever counted for less than it is; what is no number counts for nothing at all."""
    assert amount_of(value) == millionths


@given(st.decimals(min_value=0, max_value=9_007_199_253, allow_nan=False), st.sampled_from([1, 5, 28]))
def test_no_amount_is_counted_for_less_than_it_is(value: Decimal, precision: int) -> None:
    """Whatever the program has set as its precision, and by less than a millionth too much."""
    with decimal.localcontext(prec=precision):
        counted = amount_of(value)
    assert 0 <= Fraction(counted, 10**6) - Fraction(value) < Fraction(1, 10**6)


def test_a_call_takes_from_every_limit_that_it_falls_under() -> None:
    """Of its tool and of all tools, each from the counter of its place in the root."""
    debits, limits = debits_for(FOUR, "root", "pay", {"amount": Decimal("9.5")}, NOW)
    assert debits == [
        Debit("limit:root:0", 1, 3, None, NOW),
        Debit("limit:root:1", 1, 20, None, NOW),
        Debit("limit:root:2", 9_500_000, 500_000_000, None, NOW),
    ]
    assert limits == list(FOUR[:3])
    assert debits_for(FOUR, "root", "search", {}, NOW)[0] == [
        Debit("limit:root:1", 1, 20, None, NOW),
        Debit("limit:root:3", 1, 10, 60, NOW),
    ]
    assert debits_for(FOUR[2:], "root", "other", {}, NOW) == ([], [])


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ({}, "amount_missing"),
        ({"Amount": 5}, "amount_missing"),
        ({"amount": None}, "amount_invalid"),
        ({"amount": "5"}, "amount_invalid"),
        ({"amount": -1}, "amount_invalid"),
        ({"amount": True}, "amount_invalid"),
        ({"amount": [5]}, "amount_invalid"),
        ({"amount": 500.000001}, "limit_exceeded"),
        ({"amount": 10**30}, "limit_exceeded"),
    ],
)
def test_an_amount_that_cannot_be_counted_is_refused(arguments: dict[str, object], code: str) -> None:
    """The refusal names tool and argument, and no value."""
    with pytest.raises(LimitExceeded, match="pay") as caught:
        debits_for(FOUR, "root", "pay", arguments, NOW)
    assert caught.value.code == code
    assert "'amount'" in str(caught.value)
    assert not any(digit in str(caught.value) for digit in "0123456789")


@pytest.mark.parametrize("limit", FOUR)
def test_a_refusal_names_tool_and_kind_and_no_amount(limit: Limit) -> None:
    """Whoever reads it knows which limit, and learns nothing about how high it is."""
    denied = exceeded("pay", limit)
    assert denied.code == "limit_exceeded"
    assert str(denied).startswith("pay: ")
    assert {"uses": "uses", "sum": "sum", "rate": "rate"}[limit.kind] in str(denied)
    assert not any(digit in str(denied) for digit in "0123456789")


@given(st.lists(st.sampled_from(["pay", "search"]), max_size=60), st.integers(0, 9), st.integers(0, 9))
def test_exactly_the_permitted_number_of_uses_is_taken(tools: list[str], per_tool: int, together: int) -> None:
    """As many as every limit allows at that moment, and not one less."""
    limits = (Limit.uses("pay", per_tool), Limit.uses("*", together))
    state, used = MemoryState(), {"pay": 0, "search": 0}
    for tool in tools:
        allowed = sum(used.values()) < together and (tool != "pay" or used["pay"] < per_tool)
        try:
            taken = state.debit(debits_for(limits, "root", tool, {}, NOW + 9)[0], now=NOW) is None
        except LimitExceeded:
            taken = False
        assert taken is allowed
        used[tool] += taken


def test_a_claim_without_a_kind_lacks_a_member() -> None:
    """It is a wrong value, as without any other member; a kind that is no text is a wrong type."""
    claim = Limit.uses("pay", 1).to_claim()
    for name in claim:
        with pytest.raises(ValueError, match="other members"):
            Limit.from_claim({key: value for key, value in claim.items() if key != name})
    with pytest.raises(TypeError):
        Limit.from_claim({**claim, "kind": 1})
